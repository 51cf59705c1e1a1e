"""Gymnasium environments of the parking lot: spaces, seeding and documentation; the physics is in model.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from v2g_env.core.validate import require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import Law
from v2g_env.shells import ModelEnv, ModelVectorEnv

__all__ = ["ParkingLotBaysEnv", "ParkingLotBaysVectorEnv", "ParkingLotEnv", "ParkingLotVectorEnv"]

Plan = Sequence[float] | NDArray[np.float64] | None


class ParkingLotEnv(ModelEnv):
    """A lot that turns parked cars into storage for a neighbouring community.

    ## Description
    Cars come and go; whoever is plugged in can store the community's energy until shortly before leaving. The manager
    fixes at the start of step t how much will be stored at the end of step t + 1 (gate closure), before knowing who
    will still be there. Energy that was fixed but cannot be kept is a violation and pays the imbalance price. Buying
    is cheap at noon, handing back is dear in the evening, and cars leave in between.

    ## Action Space
    ``Box(-1, 1, (1,), float32)``: stored energy at the end of the closed step, (a + 1)/2 x K_t x r_t [kWh], where K_t
    is what the present cars can hold and r_t the .9-quantile of K_{t+1}/K_t on the fitting days (at least the plan's
    next point, if a plan was given). Exchanges follow by merit order: the community first, then the retailer. With
    ``gate_closure_steps = 0`` the action fixes step t itself and r = 1. A rule (``dispatch``) spreads the energy over
    bays.

    ## Observation Space
    ``Box(0, high, (T + 22,), float32)``; energies in 200 kWh, offers and charger power in 200 kW:

    | part | unit | meaning |
    |---|---|---|
    | step | 1 | one-hot of t, zeros after the end |
    | stored, ahead | 200 kWh | energy stored now, and at the end of this step (already certain) |
    | capacity, capacity_1, capacity_2 | 200 kWh | K now, one and two steps ago |
    | free, fill | 200 kWh, 1 | K minus ahead, ahead / K |
    | power | 200 kW | charger limits plugged in |
    | leaving, arrived, parked_6h | 200 kWh | K of cars: announced to leave, new, parked at least 6 h |
    | stated_1h .. stated_4h | 200 kWh | K by stated hours left: up to 1, 2, 3, more |
    | surplus, deficit | 200 kW | the community's firm offer for the step being closed |
    | pv_factor, load_factor | 1 | day's factors behind that offer |
    | price, price_next | $/kWh | retail price of this and the next step |
    | plan_next | 200 kWh | the given plan's point for the step being closed |

    The true departure is never observed beyond the announcement one step ahead.

    ## Rewards
    Sum of named terms [$] (``info["reward_terms"]``): fee (paid for surplus), return (earned for energy handed back),
    retail_buy, retail_sell, wear, redistribution (losses and wear of moving energy between bays), imbalance.

    ## Starting State
    An empty lot at opening, cars as drawn from ``law``.

    ## Episode End
    Terminates after the last step (13 by default), in which the storage must be empty; never truncates.

    ## Arguments
    ``instance``: Instance or mapping of its fields; ``law``: "generator[:<day set>]", "days:<day set>" or a Law;
    ``plan_kwh``: (T,) stored energy of a plan to show; ``render_mode``: None, "rgb_array", "human".
    ``reset(options={"day": i})`` starts from base day i.

    ## References
    Problem: Pantazis, Mignoni, Carli, Dotoli, Grammatico, arXiv 2511.09427. Equations and parameters are this
    project's. Sessions: ACN-Data, Lee, Li, Low, e-Energy 2019.
    """

    terms: ClassVar[tuple[str, ...]] = REWARD_TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    title: ClassVar[str] = "parking lot"
    per_bay: ClassVar[bool] = False

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        plan_kwh: Plan = None,
        render_mode: str | None = None,
    ) -> None:
        lot = Instance.of(instance)
        self.lot_model = Model(lot, law, plan_kwh, self.per_bay)
        super().__init__(self.lot_model, render_mode)

    def frame(self) -> NDArray[np.uint8]:
        """The lot: bays with the energy stored in each car, prices, offers."""
        from v2g_env.parking_lot.render import frame

        return frame(self.lot_model, self._scenario, self._state, self._money)

    def closing(self) -> tuple[int, float, float, float, float]:
        """What the gate closes on: step, energy stored at its end, K_t [kWh], firm surplus and deficit [kW]."""
        require(self._elapsed < self.horizon, "closing", "no running episode", "a call of reset() first")
        gate = self.lot_model.constants.gate
        capacity = float(self._scenario.capacity_kwh[0, self._elapsed])
        stored = float(self._state.stored_kwh[0])
        ahead = min(float(self._state.closed_kwh[0]), capacity) if gate else stored
        offer = self._elapsed + gate
        surplus, deficit = self._scenario.surplus_kw[0, offer], self._scenario.deficit_kw[0, offer]
        return self._elapsed, ahead, capacity, float(surplus), float(deficit)


class ParkingLotBaysEnv(ParkingLotEnv):
    """The same lot with one action per bay.

    ## Description
    As ParkingLot, but the manager sets the power of every bay for the step being closed, up to the cars' caps, not only
    up to what one step can move. The wishes' sum is the stored energy fixed at the gate. At execution announced cars
    are emptied first; the dispatch order then makes up what is missing or too much in the remaining cars. Fixing more
    than K_t (ParkingLot's capacity) counts as a violation, even where caps let the cars hold it.

    ## Action Space
    ``Box(-1, 1, (J,), float32)``: AC power of each bay as a share of its car's limit, charging positive. Bays that are
    empty, or whose car is about to leave, ignore it.

    ## Observation Space
    ``Box(0, high, (T + 22 + 6 J,), float32)``: ParkingLot's observation, then for each bay: present, cap minus energy
    on arrival [10 kWh], community energy stored [10 kWh], time parked [10 h], stated time left [10 h], announced.

    ## Rewards
    As ParkingLot. Energy left in a departing car is lost and bought back at the imbalance price.

    ## Starting State
    As ParkingLot.

    ## Episode End
    As ParkingLot.

    ## Arguments
    As ParkingLot.

    ## References
    As ParkingLot.
    """

    per_bay: ClassVar[bool] = True


class ParkingLotVectorEnv(ModelVectorEnv):
    """n lots stepped by one compiled call; same spaces, arguments and numbers as ParkingLotEnv."""

    terms: ClassVar[tuple[str, ...]] = REWARD_TERMS
    facts: ClassVar[tuple[str, ...]] = FACTS
    tolerance: ClassVar[float] = VIOLATION_TOLERANCE
    per_bay: ClassVar[bool] = False

    def __init__(
        self,
        num_envs: int = 1,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        plan_kwh: Plan = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        lot = Instance.of(instance)
        super().__init__(Model(lot, law, plan_kwh, self.per_bay), num_envs, autoreset_mode)


class ParkingLotBaysVectorEnv(ParkingLotVectorEnv):
    """n lots with one action per bay; same spaces, arguments and numbers as ParkingLotBaysEnv."""

    per_bay: ClassVar[bool] = True
