"""A utility and its aggregators, as a PettingZoo parallel environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from v2g_env.parallel_shell import PartyEnv
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.party import SchedulingParties
from v2g_env.scheduling.scenario import Law

__all__ = ["SchedulingParallelEnv"]


class SchedulingParallelEnv(PartyEnv):
    """The network of ``V2G/Scheduling-v0`` with a mind of its own at every bus.

    ## Description
    Agents ``utility`` and ``aggregator_0`` ... Steps, physics and gate closure are those of ``V2G/Scheduling-v0``. The
    utility posts the tariff of the next step, sets the generator and how much of the cars' bands settles imbalance;
    every aggregator sets the power of his cars, which always leave with what they want. Aggregators pay the tariff for
    what they take and get it for what they give. What all earn together is the single-agent reward.

    ## Action Space
    utility: ``Box(-1, 1, (3,), float32)``: generator and settling share as in ``V2G/Scheduling-v0``, and the tariff of
    the next step, (a + 1)/2 x ``tariff_max``. aggregator: ``Box(-1, 1, (1,), float32)``, as there.

    ## Observation Space
    utility: that of ``V2G/Scheduling-v0`` and the current tariff. aggregator: its own block of it, then the current
    tariff, the power of all cars in the last step, and what is common to all (last load and wind, forecasts, calendar).

    ## Rewards
    Money [$]. utility: reference, gas, wind, subsidy, emergency, overload, tariff; aggregator: wear, tariff. Facts as
    in ``V2G/Scheduling-v0``.

    ## Episode End
    All terminate after the last step of the day.

    ## Arguments
    ``instance``, ``law`` as in ``V2G/Scheduling-v0``; ``tariff_max`` [$/kWh].

    ## References
    Network: Zhou et al., IEEE Network 2017, as in ``V2G/Scheduling-v0``. Tariff and parties are this project's.
    """

    metadata: ClassVar[dict[str, Any]] = PartyEnv.metadata | {"name": "scheduling_parallel_v0"}

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        tariff_max: float = 1.0,
    ) -> None:
        super().__init__(SchedulingParties(Instance.of(instance), law, tariff_max))
