"""Gymnasium environments of the price chain: spaces, seeding and documentation; the numbers are in model.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from v2g_env.core.validate import require
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import FACTS, TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.price_chain.scenario import Law
from v2g_env.shells import ModelEnv, ModelVectorEnv

__all__ = ["PriceChainEnv", "PriceChainVectorEnv"]

Given = Instance | Mapping[str, Any] | None


class PriceChainEnv(ModelEnv):
    """Buy and sell a fleet's energy against a random price; small enough that the best policy is known exactly.

    ## Description
    An aggregator trades the energy stored in a fleet of electric vehicles, hour by hour from noon to noon. The price is
    a Markov chain of a few levels whose meaning changes with the hour; how many vehicles are plugged in, and so how
    much power there is, is another chain. Stored energy moves in whole levels; what is bought and sold at the meter
    accounts for the losses. At departure drivers pay for the energy delivered, and energy missing below the target
    is a violation that costs.

    Everything is a finite Markov decision process that is known exactly: PriceChain has exact optimal and robust
    values, and agents are scored against them.

    ## Action Space
    ``Discrete(A)``: choice a adds ``moves[a]`` levels to the stored energy (defaults: -3 to 3 levels of 150 kWh). A
    choice beyond the battery's or the plugged vehicles' limit does what the nearest feasible one does;
    ``action_masks()`` tells which are (it also serves sb3-contrib's MaskablePPO).

    ## Observation Space
    ``Box(0, 1, (T + L + E + Q + 3,), float32)``:

    | part | unit | meaning |
    |---|---|---|
    | step | 1 | one-hot of the step (T); zeros after the last one |
    | level | 1 | one-hot of the price level (L) |
    | price | 1 | the price, scaled from the lowest to the highest of the chain |
    | stored | 1 | one-hot of the energy level (E) |
    | charge | capacity | stored energy |
    | presence | 1 | one-hot of the number of vehicles plugged in (Q) |
    | running | 1 | 1 if the last step charged or discharged |

    ## Rewards
    Sum of named terms [$] (``info["reward_terms"]``): energy (sold at the price, bought at price and fee), starts
    (from idle to running, and back), wear (of discharging, convex in the depth), drivers (tariff for energy delivered
    at departure, up to the target), shortfall (for energy missing then).

    ## Starting State
    Noon, energy at ``start_level``, idle; the price level by its frequency in that hour.

    ## Episode End
    Terminates after ``steps`` steps (24 by default), when the fleet departs; never truncates.

    ## Arguments
    ``instance``: Instance or mapping of its fields; ``law``: "generator" or a Law with another chain of the same shape;
    ``render_mode``: None, "rgb_array", "human". ``reset`` takes no option "day": days are drawn.

    ## References
    Problem: Zhou, Sun, Shi, Chang, Zhou and Li, Robust Energy Scheduling in Vehicle-to-Grid Networks, IEEE Network
    31(2), 2017. Robust Markov decision processes: Nilim and El Ghaoui, Operations Research 53(5), 2005; Iyengar,
    Mathematics of Operations Research 30(2), 2005. Prices, battery and costs are this project's.
    """

    terms: ClassVar[tuple[str, ...]] = TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    title: ClassVar[str] = "price chain"

    def __init__(self, instance: Given = None, law: Law | str = "generator", render_mode: str | None = None) -> None:
        self.day_model = Model(Instance.of(instance), law)
        super().__init__(self.day_model, render_mode)

    def frame(self) -> NDArray[np.uint8]:
        """Prices so far and their outlook, stored energy, vehicles, and the last step's money."""
        from v2g_env.price_chain.render import frame

        return frame(self.day_model, self._scenario, self._state, self._money)

    def action_masks(self) -> NDArray[np.bool_]:
        """(A,) choices that do what they say; see Model.masks."""
        require(self._elapsed < self.horizon, "action_masks", "no running episode", "a call of reset() first")
        return np.asarray(self.day_model.masks(self._scenario, self._state)[0])


class PriceChainVectorEnv(ModelVectorEnv):
    """n days stepped by one compiled call; same spaces, arguments and numbers as PriceChainEnv."""

    terms: ClassVar[tuple[str, ...]] = TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE

    def __init__(
        self,
        num_envs: int = 1,
        instance: Given = None,
        law: Law | str = "generator",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        self.day_model = Model(Instance.of(instance), law)
        super().__init__(self.day_model, num_envs, autoreset_mode)

    def action_masks(self) -> NDArray[np.bool_]:
        """(n, A) choices that do what they say; idle only, where an episode is over."""
        require(self._scenario is not None, "action_masks", "before reset", "a call of reset() first")
        return self.day_model.masks(self._scenario, self._state)
