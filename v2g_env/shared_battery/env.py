"""Gymnasium environments of the shared battery: spaces, seeding and documentation; the numbers are in model.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from v2g_env.core.validate import require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import (
    SIZING_FACTS,
    SIZING_TERMS,
    VIOLATION_TOLERANCE,
    WEEK_FACTS,
    WEEK_TERMS,
    SizingModel,
    WeekModel,
)
from v2g_env.shared_battery.scenario import Law
from v2g_env.shells import ModelEnv, ModelVectorEnv

__all__ = [
    "SharedBatteryAllocationEnv",
    "SharedBatteryAllocationPartialEnv",
    "SharedBatteryAllocationPartialVectorEnv",
    "SharedBatteryAllocationVectorEnv",
    "SharedBatterySizingEnv",
    "SharedBatterySizingVectorEnv",
]

Given = Instance | Mapping[str, Any] | None


class SharedBatterySizingEnv(ModelEnv):
    """How much battery a fleet of drivers needs, alone and together.

    ## Description
    Once a season the planner fixes a battery of his own for each of n drivers and one battery that all share. Then
    D days pass. On each of them a driver needs some energy; what exceeds his own battery, his shortfall, comes out of
    the shared one, given out by the instance's rule, and whoever does not get all he lacks is not served that day.
    Capacity costs money; so do days without service beyond the share that every driver tolerates.

    A day on which the shortfalls of all drivers together exceed the shared battery is a violation: it is the event
    that certified sizes promise to avoid (``violated_share`` of a season's days; ``info["violation"]`` if any).

    ## Action Space
    ``Box(-1, 1, (n + 1,), float32)``: own batteries, own_min + (a + 1)/2 x (own_max - own_min), then the shared one,
    (a + 1)/2 x n x ``shared_max_kwh_per_driver`` [kWh].

    ## Observation Space
    ``Box(0, high, (3 n + 2,), float32)``, the same for every season of an instance:

    | part | unit | meaning |
    |---|---|---|
    | quantile_50, quantile_90, quantile_99 | 100 kWh | quantiles of each driver's daily need |
    | price | 1 | price of own capacity / (price of own + price of shared capacity) |
    | over | 1 | 0 before the decision, 1 after the season |

    ## Rewards
    Sum of named terms [$] (``info["reward_terms"]``): own_capacity, shared_capacity (prices of the sizes for the
    season), missed (``missed_usd`` for every driver-day without service beyond eps x D of that driver), separate (what
    the (1 - eps)-quantiles of all drivers' needs would cost as own batteries, within own_min and own_max, so that 0 is
    about the value of not sharing).

    ## Starting State
    Needs of the season as drawn from ``law``; nothing of them is observed.

    ## Episode End
    Terminates after the one step; never truncates.

    ## Arguments
    ``instance``: Instance or mapping of its fields; ``law``: "generator" or a Law (see ``scenario.law_of`` for your own
    logs); ``render_mode``: None, "rgb_array", "human". ``reset`` takes no option "day": seasons are drawn.

    ## References
    Problem: Alexeenko and Charisopoulos, Reducing Aggregate Electric Vehicle Battery Capacity through Sharing, arXiv
    2304.10461. Needs: fitted to NHTS 2001. Prices, season and penalty are this project's.
    """

    terms: ClassVar[tuple[str, ...]] = SIZING_TERMS
    facts: ClassVar[tuple[str, ...]] = SIZING_FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    title: ClassVar[str] = "shared battery"

    def __init__(self, instance: Given = None, law: Law | str = "generator", render_mode: str | None = None) -> None:
        self.sizing_model = SizingModel(Instance.of(instance), law)
        super().__init__(self.sizing_model, render_mode)

    def frame(self) -> NDArray[np.uint8]:
        """The drivers' needs, the sizes chosen and the season that came."""
        from v2g_env.shared_battery.render import sizing_frame

        return sizing_frame(self.sizing_model, self._scenario, self._state, self._money)


class SharedBatterySizingVectorEnv(ModelVectorEnv):
    """n seasons lived through by one compiled call; same spaces, arguments and numbers as SharedBatterySizingEnv."""

    terms: ClassVar[tuple[str, ...]] = SIZING_TERMS
    facts: ClassVar[tuple[str, ...]] = SIZING_FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE

    def __init__(
        self,
        num_envs: int = 1,
        instance: Given = None,
        law: Law | str = "generator",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        super().__init__(SizingModel(Instance.of(instance), law), num_envs, autoreset_mode)


class SharedBatteryAllocationEnv(ModelEnv):
    """Who gets the shared battery today, decided before later requests are seen.

    ## Description
    A week with a shared battery that is smaller than what is asked of it. Every day all n drivers come once, in random
    order. Whoever's need exceeds his own battery asks for the difference; the request is granted in whole or refused,
    on the spot. A night brings back at most ``recharge_fraction`` of the battery, so that what is given on Tuesday may
    be missing on Saturday, when more is asked. Serving a request is worth an amount that is seen with it. A request
    that is not granted is a violation. The next driver may be worth more per kWh, or not come at all.

    ## Action Space
    ``Discrete(2)``: 0 refuse, 1 grant. Granting what does not fit refuses it; ``action_masks()`` tells (it also serves
    sb3-contrib's MaskablePPO). ``V2G/SharedBatteryAllocationPartial-v0`` grants shares instead.

    ## Observation Space
    ``Box(0, high, (16,), float32)``:

    | part | unit | meaning |
    |---|---|---|
    | left | s | energy left in the shared battery |
    | size | s | what the driver asks for; 0 if his own battery is enough |
    | value | 1 | 1/2 + ln(value / ``value_usd``)/8, within [0, 1]; 0 without a request |
    | density | 1 | 1/2 + ln(value / size, in units of ``value_usd`` per mean shortfall)/12; 0 without a request |
    | to_come | 1 | share of drivers still to come today, this one included; 0 after the last step |
    | fits, asks | 1 | whether the request fits; whether there is one |
    | recharge | s | what a night brings back at most |
    | weekday | 1 | one-hot, from Monday |
    | days_to_come | 1 | share of the week's days still to come, today included |

    Unit s: the shared battery.

    ## Rewards
    One term [$] (``info["reward_terms"]``): service, the value of a request that is granted.

    ## Starting State
    Monday, the shared battery is full; needs, order and values as drawn from ``law``.

    ## Episode End
    Terminates after ``week_days`` x ``drivers`` steps (175 by default); never truncates.

    ## Arguments
    ``instance``: Instance or mapping of its fields; ``law``: "generator" or a Law (see ``scenario.law_of`` for your own
    logs); ``render_mode``: None, "rgb_array", "human". ``reset`` takes no option "day": weeks are drawn.

    ## References
    Rules and needs: Alexeenko and Charisopoulos, arXiv 2304.10461. Requests, values and the week are this project's;
    one day with full recharge is the online knapsack problem (Marchetti-Spaccamela and Vercellis, Mathematical
    Programming 68, 1995).
    """

    terms: ClassVar[tuple[str, ...]] = WEEK_TERMS
    facts: ClassVar[tuple[str, ...]] = WEEK_FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    title: ClassVar[str] = "shared battery"
    partial: ClassVar[bool] = False

    def __init__(self, instance: Given = None, law: Law | str = "generator", render_mode: str | None = None) -> None:
        self.week_model = WeekModel(Instance.of(instance), law, self.partial)
        super().__init__(self.week_model, render_mode)

    def frame(self) -> NDArray[np.uint8]:
        """The battery, the request, and what was asked so far."""
        from v2g_env.shared_battery.render import week_frame

        return week_frame(self.week_model, self._scenario, self._state, self._money)

    def action_masks(self) -> NDArray[np.bool_]:
        """(2,) actions that do what they say; see WeekModel.masks."""
        require(self._elapsed < self.horizon, "action_masks", "no running episode", "a call of reset() first")
        return np.asarray(self.week_model.masks(self._scenario, self._state)[0])


class SharedBatteryAllocationPartialEnv(SharedBatteryAllocationEnv):
    """The same week with requests that may be granted in part.

    ## Description
    As SharedBatteryAllocation, but a share of what is asked, or of what is left if that is less, may be granted, and is
    worth the same share of the request's value. What is granted in part counts as a violation.

    ## Action Space
    ``Box(-1, 1, (1,), float32)``: (a + 1)/2 is the share granted.

    ## Observation Space
    As SharedBatteryAllocation.

    ## Rewards
    One term [$]: service, the request's value times the share of its size that was granted.

    ## Starting State
    As SharedBatteryAllocation.

    ## Episode End
    As SharedBatteryAllocation.

    ## Arguments
    As SharedBatteryAllocation: ``instance``, ``law``, ``render_mode``.

    ## References
    As SharedBatteryAllocation.
    """

    partial: ClassVar[bool] = True


class SharedBatteryAllocationVectorEnv(ModelVectorEnv):
    """n weeks stepped by one compiled call; same spaces, arguments and numbers as SharedBatteryAllocationEnv."""

    terms: ClassVar[tuple[str, ...]] = WEEK_TERMS
    facts: ClassVar[tuple[str, ...]] = WEEK_FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    partial: ClassVar[bool] = False

    def __init__(
        self,
        num_envs: int = 1,
        instance: Given = None,
        law: Law | str = "generator",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        self.week_model = WeekModel(Instance.of(instance), law, self.partial)
        super().__init__(self.week_model, num_envs, autoreset_mode)

    def action_masks(self) -> NDArray[np.bool_]:
        """(n, 2) actions that do what they say; refusing only, where an episode is over."""
        require(self._scenario is not None, "action_masks", "before reset", "a call of reset() first")
        return self.week_model.masks(self._scenario, self._state)


class SharedBatteryAllocationPartialVectorEnv(SharedBatteryAllocationVectorEnv):
    """n weeks in which shares are granted; same spaces and numbers as SharedBatteryAllocationPartialEnv."""

    partial: ClassVar[bool] = True
