"""Prosumers who compete for the lot's storage, and the manager who prices it: parties, state, one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.market import load_profile, pv_profile
from v2g_env.core.validate import number
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE
from v2g_env.parking_lot.scenario import Law, Scenario, draw_from, law
from v2g_env.party_model import Role

__all__ = ["ParkingLotParties", "PartyState"]

Floats = NDArray[np.float64]

_UNIT = 50.0  # kWh of an observed energy of a prosumer
_SCALE_KWH = 10.0  # unit of the scaled violation
_MANAGER_TERMS = ("fee", "wear", "compensation")
_PROSUMER_TERMS = ("saved", "fee", "compensation")


class PartyState(NamedTuple):
    """Where the days are.

    Attributes:
        t: (n,) steps done.
        stored_kwh: (n, p) energy of each prosumer.
        fee: (n,) of the coming step, as a share of the retail price.
        capacity_kwh: (n,) of the last step.
    """

    t: NDArray[np.int64]
    stored_kwh: Floats
    fee: Floats
    capacity_kwh: Floats


class ParkingLotParties:
    """Batched days of a lot that rents its storage to prosumers.

    A prosumer stores some of his own surplus, or takes back what he stored to cover his own deficit. Nobody knows the
    step's capacity before: what does not fit is not taken, in equal shares, and what was stored in cars that leave
    unexpectedly is lost, in equal shares, and paid for by the manager at the imbalance price. He earns the fee, which
    he posts one step ahead.

    Args:
        instance: the lot and the community.
        source: the law of the days, or its name.
        prosumers: how many there are.
        seed: of their shares of panels and load.
    """

    facts: tuple[str, ...] = ("excess", "lost_kwh", "refused_kwh", "stored_kwh", "capacity_kwh")
    tolerance = VIOLATION_TOLERANCE

    def __init__(self, instance: Instance, source: Law | str = "generator", prosumers: int = 6, seed: int = 1) -> None:
        number("prosumers", prosumers, 1, 10_000, integer=True)
        self.instance = instance
        self.law = law(source) if isinstance(source, str) else source
        self.steps = instance.steps
        rng = np.random.default_rng(seed)
        self.pv, self.load = (rng.dirichlet(np.full(prosumers, 2.0)) for _ in range(2))
        hours = instance.hours
        self._pv_kw = pv_profile(hours, instance.pv_peak_kw)
        self._load_kw = load_profile(hours, instance.load_base_kw, instance.load_evening_kw, instance.load_morning_kw)
        most = 8.0 * instance.bays * instance.headroom_high_kwh / _UNIT
        energies, shares = np.full(5, most), np.ones(4)
        high = np.concatenate([energies, shares]).astype(np.float32)
        self.roles: tuple[Role, ...] = (
            Role("manager", 1, 1, high, _MANAGER_TERMS),
            Role("prosumer", prosumers, 1, high, _PROSUMER_TERMS),
        )

    def draw(self, generators: Sequence[np.random.Generator]) -> Scenario:
        """Draw one day from each generator."""
        return draw_from(self.instance, self.law, generators)

    def initial(self, scenario: Scenario) -> PartyState:
        """Nothing is stored; the fee is the instance's."""
        n, p = len(scenario.day), self.roles[1].players
        fee = np.full(n, self.instance.fee_fraction)
        return PartyState(np.zeros(n, np.int64), np.zeros((n, p)), fee, np.zeros(n))

    def net_kw(self, scenario: Scenario, t: NDArray[np.int64]) -> Floats:
        """(n, p) generation minus load of every prosumer in steps t (n,) [kW]."""
        rows, at = np.arange(len(t)), np.minimum(t, self.steps - 1)
        pv = scenario.pv_factor[rows, at] * self._pv_kw[at]
        load = scenario.load_factor[rows, at] * self._load_kw[at]
        return np.asarray(self.pv * pv[:, None] - self.load * load[:, None])

    def step(
        self, scenario: Scenario, state: PartyState, actions: Mapping[str, Floats]
    ) -> tuple[PartyState, dict[str, Floats], Floats]:
        """Wishes are fixed, then the step's capacity is seen and rations them.

        Money of the manager: fee, wear of all energy moved, compensation; of a prosumer: saved (deficit not bought less
        surplus not sold), fee, compensation. Facts: excess (lost energy in 10 kWh), lost, refused (wishes that did not
        fit), stored at the end, capacity.
        """
        lot, rows, at = self.instance, np.arange(len(state.t)), np.minimum(state.t, self.steps - 1)
        eta, tau, buy = lot.efficiency, lot.step_h, lot.buy[at][:, None]
        wish = actions["prosumer"][..., 0]
        net = self.net_kw(scenario, state.t) * tau
        charge = np.maximum(wish, 0.0) * np.maximum(net, 0.0)
        take = np.maximum(-wish, 0.0) * np.minimum(np.maximum(-net, 0.0), eta * state.stored_kwh)
        power = scenario.power_kw[rows, at] * tau
        take *= _ration(take.sum(axis=1), power)
        left = np.maximum(state.stored_kwh - take / eta, 0.0)
        capacity = np.where(at == self.steps - 1, 0.0, scenario.capacity_kwh[rows, at])
        kept = left * _ration(left.sum(axis=1), capacity)
        lost = left - kept
        room = np.maximum(capacity - kept.sum(axis=1), 0.0)
        fits = np.minimum(_ration(eta * charge.sum(axis=1), room), _ration(charge.sum(axis=1), power))
        taken = charge * fits
        stored = kept + eta * taken
        fee = state.fee[:, None] * buy * taken
        paid = lot.imbalance_usd_per_kwh * lost
        saved = buy * (take - lot.sell_fraction * taken)
        wear = lot.wear_usd_per_kwh * (taken + take).sum(axis=1)
        manager = np.stack([fee.sum(axis=1), -wear, -paid.sum(axis=1)], axis=-1)[:, None] + 0.0
        prosumer = np.stack([saved, -fee, paid], axis=-1) + 0.0
        total = lost.sum(axis=1)
        facts = np.stack(
            [total / _SCALE_KWH, total, (charge - taken).sum(axis=1), stored.sum(axis=1), capacity], axis=1
        )
        posted = 0.5 * (actions["manager"][:, 0, 0] + 1.0)
        return PartyState(state.t + 1, stored, posted, capacity), {"manager": manager, "prosumer": prosumer}, facts

    def observe(self, scenario: Scenario, state: PartyState) -> dict[str, NDArray[np.float32]]:
        """What every party sees; see ParkingLotParallelEnv."""
        lot, n, p = self.instance, len(state.t), self.roles[1].players
        open_ = (state.t < self.steps)[:, None]
        net = np.where(open_, self.net_kw(scenario, state.t) * lot.step_h, 0.0)
        top = max(float(lot.buy.max()), 1e-12)
        now, following = (lot.buy[np.minimum(state.t + k, self.steps - 1)] / top for k in (0, 1))
        common = np.stack([state.fee, now, following, state.t / self.steps], axis=1)
        whole = np.stack([state.capacity_kwh, state.stored_kwh.sum(axis=1)], axis=1) / _UNIT
        parts = np.stack([np.maximum(net, 0.0), np.maximum(-net, 0.0), state.stored_kwh], axis=2) / _UNIT
        shared = np.concatenate([whole, common], axis=1)
        member = np.concatenate([parts, np.broadcast_to(shared[:, None], (n, p, 6))], axis=2)
        manager = np.concatenate([parts.sum(axis=1), shared], axis=1)[:, None]
        high = self.roles[0].observation_high
        return {
            "manager": np.minimum(manager, high).astype(np.float32),
            "prosumer": np.minimum(member, high).astype(np.float32),
        }


def _ration(wanted: Floats, there: Floats) -> Floats:
    """(n, 1) share of what is wanted that there is, at most 1."""
    short = wanted > there
    return np.where(short, there / np.where(short, wanted, 1.0), 1.0)[:, None]
