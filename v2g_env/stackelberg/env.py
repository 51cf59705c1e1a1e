"""Gymnasium environments of the Stackelberg game: spaces, seeding and documentation; the game is in model.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from v2g_env.shells import ModelEnv, ModelVectorEnv
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.stackelberg.scenario import Law

__all__ = ["StackelbergEnv", "StackelbergVectorEnv"]


class StackelbergEnv(ModelEnv):
    """A platform sells its drivers' plugged cars as frequency regulation, and pays them rebates for plugging in.

    ## Description
    A step is a day, an episode a month. In the morning the platform knows the day's prices, posts a rebate for every
    hour and bids regulation power. Drivers choose their day with the rebates in mind, as the persistency model says:
    shares of drivers on the arcs of a time-activity network. The operator then asks for r_t times the bid C_t; the K_t
    cars plugged in can give ``charger_kw`` each. The certified bid C_t(y) is the largest one for which a sufficient
    condition promises P(charger_kw K_t >= r_t C_t) >= 1 - eta. More rebates bring more cars and larger bids; they pay
    at hours and on days when regulation is dear. A day with an hour of less than full delivery is a violation
    (``info["violation"]``; ``violated_share`` is the share of such hours, which certified bids keep below eta on
    average).

    Named variants are settings of the instance: "habit" (``habit_weight = 0.3``: drivers answer to a running mean of
    the rebates, so days depend on each other), "penalty" (``bid_limit = 1.5``: the agent may bid beyond the certified
    bid), "hidden weather" (``announced = False``), "population" (``response = "population"``: single drivers walk
    through the network, so the hours' numbers of cars depend on each other).

    ## Action Space
    ``Box(-1, 1, (T + 1,), float32)``, T = 24 hours: for each hour the rebate max(a, 0) x highest level, rounded to the
    nearest level (at most the hour's cap), so that a <= 0 means none; and last, for all hours, the bid as a share
    (a + 1)/2 x ``bid_limit`` of the certified bid at the drivers' response. ``wrappers.RebateLevels`` offers the levels
    as ``MultiDiscrete``.

    ## Observation Space
    ``Box(0, high, (27 + 2 T,), float32)``:

    | part | unit | meaning |
    |---|---|---|
    | price | 1 | 4 + ln(price of each hour today / mean base price), cut at 0 and 8; 24 numbers |
    | weekend | 1 | 1 at the weekend, else 0 |
    | plug_share | 1 | today's plugged share of cars at home; 0 where it is not announced |
    | day | 1 | days past, as a share of the episode |
    | rebate | highest level | running mean of rebates that drivers had in mind yesterday; T numbers |
    | plugged | 1 | share of cars that was plugged in yesterday; T numbers |

    Numbers of yesterday are 0 on the first day; price, weekend and plug_share are 0 after the last one.

    ## Rewards
    Sum of named terms of the day [$] (``info["reward_terms"]``): payment (price x delivered power), penalty
    (``shortfall_factor`` x price x power bid and not delivered; with ``settlement = "forfeit"`` none, but hours
    delivered below ``forfeit_share`` are not paid), rebates (negative; paid at their expectation, or to the drivers
    counted if the response is "population"), reference (minus what certified bids without rebates earn today if all is
    delivered, so that 0 is the value of doing nothing).

    ## Starting State
    A random day of the week; prices, day types and signals as drawn from ``law``.

    ## Episode End
    Terminates after ``days`` steps (30 by default); never truncates.

    ## Arguments
    ``instance``: Instance or mapping of its fields; ``law``: "generator"; ``render_mode``: None, "rgb_array", "human".
    ``reset`` takes no option "day": months are drawn.

    ## References
    Game: Tang and Mak, Collaborative Vehicle-to-grid Operations in Frequency Regulation Markets, 2024 (slides).
    Response: Natarajan, Song, Teo, Management Science 55(3), 2009. Bids: Chen and Sim, Operations Research 57(2), 2009.
    Behaviour of drivers: NHTS 2009. Prices: PJM. Price law and settlement are this project's.
    """

    terms: ClassVar[tuple[str, ...]] = REWARD_TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    title: ClassVar[str] = "Stackelberg game"

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        render_mode: str | None = None,
    ) -> None:
        self.game_model = Model(Instance.of(instance), law)
        super().__init__(self.game_model, render_mode)

    def frame(self) -> NDArray[np.uint8]:
        """Today's prices and what happened yesterday."""
        from v2g_env.stackelberg.render import frame

        return frame(self.game_model, self._scenario, self._state, self._money)


class StackelbergVectorEnv(ModelVectorEnv):
    """n months stepped by one compiled call; same spaces, arguments and numbers as StackelbergEnv."""

    terms: ClassVar[tuple[str, ...]] = REWARD_TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE

    def __init__(
        self,
        num_envs: int = 1,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        model = Model(Instance.of(instance), law)
        super().__init__(model, num_envs, autoreset_mode)
