"""Prosumers and the manager of the parking lot, as a PettingZoo parallel environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from v2g_env.parallel_shell import PartyEnv
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.party import ParkingLotParties
from v2g_env.parking_lot.scenario import Law

__all__ = ["ParkingLotParallelEnv"]


class ParkingLotParallelEnv(PartyEnv):
    """Prosumers compete for storage in parked cars; the manager sets its price and bears the risk.

    ## Description
    Agents ``manager`` and ``prosumer_0`` ... A step is an hour by default. A prosumer stores part of his own surplus,
    or takes back what he stored to cover his own deficit. How much the cars can hold in a step is not known before it:
    what does not fit is not taken, in equal shares; what was in cars that leave is lost, in equal shares, and the
    manager pays for it at the imbalance price. The manager posts the fee for storing, one step ahead. At the end of
    the day the lot must be empty.

    ## Action Space
    manager: ``Box(-1, 1, (1,), float32)``: fee of the next step, (a + 1)/2 of the retail price, for a kWh stored.
    prosumer: ``Box(-1, 1, (1,), float32)``: a > 0 stores that share of the surplus, a < 0 takes that share of what the
    deficit needs and the store has.

    ## Observation Space
    ``Box(0, high, (9,), float32)`` for both roles: own surplus, deficit and stored energy (the manager: of all),
    capacity of and energy in the lot in the last step [50 kWh]; fee of this step, retail price now and next (of the
    highest), and the time.

    ## Rewards
    Money [$]. manager: fee, wear, compensation; prosumer: saved (deficit not bought less surplus not sold), fee,
    compensation. Facts in ``info``: excess (lost energy in 10 kWh: the violation event), lost_kwh, refused_kwh,
    stored_kwh, capacity_kwh.

    ## Episode End
    All terminate at the end of the day.

    ## Arguments
    ``instance``, ``law`` as in ``V2G/ParkingLot-v0``; ``prosumers``: how many; ``seed``: of their shares of panels and
    load.

    ## References
    Setting: Pantazis, Mignoni, Carli, Dotoli and Grammatico, arXiv 2511.09427 (abstract); the game is this project's.
    """

    metadata: ClassVar[dict[str, Any]] = PartyEnv.metadata | {"name": "parking_lot_parallel_v0"}

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        prosumers: int = 6,
        seed: int = 1,
    ) -> None:
        super().__init__(ParkingLotParties(Instance.of(instance), law, prosumers, seed))
