"""Drivers who may overstate what they lack, as a PettingZoo parallel environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from v2g_env.parallel_shell import PartyEnv
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.party import SharedBatteryParties
from v2g_env.shared_battery.scenario import Law

__all__ = ["SharedBatteryParallelEnv"]


class SharedBatteryParallelEnv(PartyEnv):
    """Every driver reports what he lacks to the rule that shares the battery, truly or not.

    ## Description
    Agents ``driver_0`` ... A step is a day. Beyond his own battery a driver lacks some energy, which only he knows. He
    reports an amount; the rule gives out the shared battery by reports; he uses up to what he lacks, and pays by the
    payment rule. What is given beyond need is wasted: overstating helps one and harms all.

    ## Action Space
    ``Box(-1, 1, (1,), float32)``: 0 reports the truth, -1 nothing, 1 ``overstate_max`` times the truth.

    ## Observation Space
    ``Box(0, high, (6,), float32)``: own lack today (in mean requests), own value of a kWh today (in median values), the
    battery per driver, day / days, share of all reports that was met yesterday, share of the own report that was.

    ## Rewards
    Money [$]: service (value x energy used), payment. Facts in ``info``: excess (of all lacks over the battery, in
    10 kWh: the violation event), wasted_kwh, given_kwh, lack_kwh, paid_usd, served_share.

    ## Episode End
    All terminate after ``days`` days.

    ## Arguments
    ``instance``: Instance or mapping (default: 8 drivers, proportional rule); ``law``; ``payment``: "none", "price",
    "clarke" (then the truth is best); ``price_usd_per_kwh``, ``overstate_max``, ``days``.

    ## References
    Alexeenko and Charisopoulos, arXiv 2304.10461 (rules); Sprumont 1991, Clarke 1971 (truthfulness). The game is this
    project's.
    """

    metadata: ClassVar[dict[str, Any]] = PartyEnv.metadata | {"name": "shared_battery_parallel_v0"}

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        payment: str = "none",
        price_usd_per_kwh: float = 0.2,
        overstate_max: float = 3.0,
        days: int = 7,
    ) -> None:
        lot = Instance(drivers=8, rule="proportional") if instance is None else Instance.of(instance)
        super().__init__(SharedBatteryParties(lot, law, payment, price_usd_per_kwh, overstate_max, days))
