"""Gymnasium environment of the scheduling problem: spaces, seeding and documentation; the numbers are in model.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.scheduling.scenario import Law
from v2g_env.shells import ModelEnv, ModelVectorEnv

__all__ = ["SchedulingEnv", "SchedulingVectorEnv"]

Given = Instance | Mapping[str, Any] | None


class SchedulingEnv(ModelEnv):
    """Running a small network with wind, a gas generator and a hundred cars that can give energy back.

    ## Description
    From noon to noon, in steps of a quarter of an hour, the utility sets a gas generator and the cars of six
    aggregators, before it knows the load of the homes and the wind of the step (gate closure). Cars come home in the
    evening with a partly empty battery and leave in the morning; each must leave with what its owner wants, which the
    physics enforces. Cheap is to charge when the wind blows and to discharge at the evening peak, because the
    generator's cost is convex.

    What the step then brings differs from what was expected. A share of the cars' remaining flexibility, chosen with
    the set-points, settles the difference; after that surplus wind is curtailed, and what is missing comes from an
    emergency source. Missing energy, or a flow above a line's limit, is a violation.

    ## Action Space
    ``Box(-1, 1, (2 + aggregators,), float32)``:

    | entry | meaning |
    |---|---|
    | 0 | generator: mean load + chosen power of the cars - expected wind + a x ``gas_band_kw``, then ramp and limits |
    | 1 .. 6 | aggregator: idle at 0, least feasible power at -1, most at 1; cars that must charge to leave full do |
    | 7 | (a + 1)/2: share of the cars' remaining bands that settles imbalance within the step |

    Above idle, cars below their targets charge first; below idle, cars above their targets discharge first; within
    each group in proportion to what they can.

    ## Observation Space
    ``Box(0, high, (101,), float32)``; powers in 500 kW:

    | part | unit | meaning |
    |---|---|---|
    | gas | 500 kW | generator in the last step |
    | last_load, last_wind | 500 kW | load of the homes and available wind of the last step (of this one without gate) |
    | load_ahead, wind_ahead | 500 kW | expected 1, 2, 4, 8, 16, 24, .. 88 steps ahead; 1 is the step being decided |
    | wind_sd | 500 kW | standard deviation of the wind expected first |
    | aggregators | | 11 numbers for each aggregator: |
    | .. cars, energy | 1 | cars plugged in, their energy in full batteries; both as a share of all cars |
    | .. idle, up, down, goal | 500 kW | idle power, room above and below it, room above up to the cars' targets |
    | .. to_come | 1 | cars still to come |
    | .. leaving_1h, 2h, 4h, 8h | 1 | cars present that leave within that time |
    | calendar | 1 | share of the day that is over, sine and cosine of it around 1/2 |

    Departures are known on arrival. Leads beyond the day repeat the longest within it; after the last step all but
    the first three are 0.

    ## Rewards
    Sum of named terms [$] (``info["reward_terms"]``): reference (``calibrated_usd`` / ``steps``: what a day without V2G
    costs on average when load and wind are known, so that a day's return is what was saved against it), gas
    (generator), wind (maintenance), wear and subsidy (per kWh discharged), emergency, overload.

    ## Starting State
    Noon, hardly a car plugged in, the generator at the expected net load; the day as drawn from ``law``.

    ## Episode End
    Terminates after ``steps`` steps (96); never truncates.

    ## Arguments
    ``instance``: Instance or mapping of its fields; ``law``: "generator" (loads deviate uniformly), "two-point",
    "triangular", "normal", "skewed", "heavy-tailed", "sessions:<day set>" or a Law; ``render_mode``: None, "rgb_array",
    "human". ``reset`` takes no option "day": days are drawn.

    ## References
    Problem: Zhou, Sun, Shi, Chang, Zhou and Li, Robust Energy Scheduling in Vehicle-to-Grid Networks, IEEE Network 31,
    2017. Equations and parameters are this project's.
    """

    terms: ClassVar[tuple[str, ...]] = REWARD_TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    title: ClassVar[str] = "scheduling"

    def __init__(self, instance: Given = None, law: Law | str = "generator", render_mode: str | None = None) -> None:
        self.network = Model(Instance.of(instance), law)
        super().__init__(self.network, render_mode)

    def frame(self) -> NDArray[np.uint8]:
        """Generation and use until now, what is expected, and the cars' energy."""
        from v2g_env.scheduling.render import frame

        return frame(self.network, self._scenario, self._state, self._money)


class SchedulingVectorEnv(ModelVectorEnv):
    """n days stepped by compiled calls; same spaces, arguments and numbers as SchedulingEnv."""

    terms: ClassVar[tuple[str, ...]] = REWARD_TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE

    def __init__(
        self,
        num_envs: int = 1,
        instance: Given = None,
        law: Law | str = "generator",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        super().__init__(Model(Instance.of(instance), law), num_envs, autoreset_mode)
