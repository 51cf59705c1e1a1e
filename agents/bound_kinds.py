"""Certificates of boards' bounds, period by period: the bound, and the penalty that belongs to it, without a solver.

A bound's certificate holds what proves it: multipliers, tables, trees. Once it has been checked, its kind says how the
bound of every period follows from it, and, where the bound has a penalty z (mean zero for every policy), z of what a
policy did. Then return - z <= bound, in every period or on average, and the mean of the gap bound - (return - z) is
what the best policy may earn more, at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import unpack
from baselines.checking import expect
from v2g_env.rollout import Episodes

__all__ = ["KINDS", "OFFICIAL", "Drawn", "Kind", "Penalty"]

Floats = NDArray[np.float64]
Data = Mapping[str, Any]
# (model of the policy, its episodes) -> (m,) penalty of every period [$]
Penalty = Callable[[Any, Episodes], Floats]


class Drawn(NamedTuple):
    """Episodes before anybody acts.

    Attributes:
        model: the problem's model.
        scenario: the drawn episodes.
        seed: of the draw.
    """

    model: Any
    scenario: Any
    seed: int


class Kind(NamedTuple):
    """How a kind of certificate is read.

    Attributes:
        paths: the bound (m,) of every period [$].
        penalty: the penalty that belongs to it; None: zero.
        pathwise: whether return - z <= bound in every period, not only on average.
    """

    paths: Callable[[Drawn, Data], Floats]
    penalty: Callable[[Drawn, Data], Penalty] | None = None
    pathwise: bool = True


def _lot_hindsight(drawn: Drawn, certificate: Data) -> Floats:
    from baselines.parking_lot.samples import reachable, true_market
    from baselines.parking_lot.storage import bound

    lot, days = drawn.model.instance, drawn.scenario
    return bound(lot, true_market(lot, days), reachable(lot, days), None, unpack(certificate["multiplier"]))


def _lot_penalised(drawn: Drawn, certificate: Data) -> Floats:
    return np.array(unpack(certificate["bound_usd"]), np.float64)  # the check has recomputed every day's


def _lot_penalty(drawn: Drawn, certificate: Data) -> Penalty:
    from baselines.parking_lot.penalty import Penalty as Frozen
    from baselines.parking_lot.penalty import days_for, penalty_of
    from v2g_env.parking_lot.model import Model

    widest = np.asarray(certificate["plan_kwh"], np.float64)
    frozen = Frozen.from_dict(certificate["penalty"])
    own = Model(drawn.model.instance, drawn.model.law, widest)
    days = days_for(own, len(drawn.scenario.day), drawn.seed, frozen)

    def penalty(model: Any, episodes: Episodes) -> Floats:
        expect(bool((model.plan_kwh <= widest).all()), "plan_kwh", "above the bound's", "at most the bound's")
        return penalty_of(own, days, episodes, frozen)

    return penalty


def _week_hindsight(drawn: Drawn, certificate: Data) -> Floats:
    from baselines.shared_battery.hindsight import hindsight

    return hindsight(drawn.model, drawn.scenario, certificate["grid"] or 1).bound_usd


def _week_parts(drawn: Drawn, certificate: Data) -> tuple[Any, ...]:
    """Critic, units, classes and common shocks, as ``penalised`` and ``penalty_of`` take them."""
    from baselines.shared_battery.penalty_law import week_shocks
    from baselines.shared_battery.verify_penalty import critic_from

    lot = drawn.model.instance
    shock = week_shocks(lot, len(drawn.scenario.size_kwh), drawn.seed) if lot.correlation > 0.0 else None
    return critic_from(certificate["critic"], drawn.model), certificate["grid"], certificate["classes"], shock


def _week_penalised(drawn: Drawn, certificate: Data) -> Floats:
    from baselines.shared_battery.penalty import penalised

    return penalised(drawn.model, drawn.scenario, *_week_parts(drawn, certificate)).bound_usd


def _week_penalty(drawn: Drawn, certificate: Data) -> Penalty:
    from baselines.shared_battery.penalty import penalty_of

    parts = _week_parts(drawn, certificate)
    return lambda model, episodes: penalty_of(drawn.model, drawn.scenario, episodes.actions, *parts)


def _season_bound(drawn: Drawn, certificate: Data) -> Floats:
    return np.full(len(drawn.scenario[0]), float(certificate["mean_bound_usd"]))


def _chain_optimum(drawn: Drawn, certificate: Data) -> Floats:
    known = certificate["law"] is None and certificate["ambiguity"] is None
    expect(known, "bound", "of another law, or robust", "the optimum of the instance's own chain")
    return np.full(len(drawn.scenario[0]), float(certificate["value_usd"]))


def _network_days(drawn: Drawn, certificate: Data) -> Iterator[tuple[int, Any, NDArray[Any], NDArray[Any]]]:
    """Number, task, groups and rows of lines of every day."""
    from baselines.scheduling.day import Protection, known_day
    from baselines.scheduling.program import Task

    label, lines = unpack(certificate["groups"]), unpack(certificate["lines"])
    for row in range(len(label)):
        task = Task(known_day(drawn.model, drawn.scenario, row), Protection(), "cost", True, drawn.model.gas_scale)
        yield row, task, label[row], lines[lines[:, 0] == row][:, 1:]


def _network_hindsight(drawn: Drawn, certificate: Data) -> Floats:
    from baselines.duality import linear_bound
    from baselines.scheduling.program import build

    lot, dual = drawn.model.instance, unpack(certificate["dual"])
    found, at = [], 0
    for _, task, label, rows in _network_days(drawn, certificate):
        program = build(lot, task, label, rows, np.zeros(0, np.int64))
        count = len(program.low)
        parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
        found.append(lot.calibrated_usd + linear_bound(*parts, dual[at : at + count]))
        at += count
    return np.array(found)


def _network_penalised(drawn: Drawn, certificate: Data) -> Floats:
    from baselines.scheduling.penalty import Penalty as Frozen
    from baselines.scheduling.penalty import prices
    from baselines.scheduling.penalty_bound import bound_of, priced

    lot, dual, frozen = drawn.model.instance, unpack(certificate["dual"]), Frozen.from_dict(certificate["penalty"])
    found, at = [], 0
    for row, task, label, rows in _network_days(drawn, certificate):
        program, constant = priced(lot, task, label, rows, prices(drawn.model, drawn.scenario, row, frozen))
        count = len(program.low)
        found.append(bound_of(lot, program, constant, dual[at : at + count]))
        at += count
    return np.array(found)


def _network_penalty(drawn: Drawn, certificate: Data) -> Penalty:
    from baselines.scheduling.penalty import Penalty as Frozen
    from baselines.scheduling.penalty import penalty_of

    frozen = Frozen.from_dict(certificate["penalty"])
    return lambda model, episodes: penalty_of(drawn.model, drawn.scenario, episodes, frozen)


def _months(drawn: Drawn, certificate: Data) -> Floats:
    from baselines.stackelberg.days import Days

    days, months = Days(drawn.model), drawn.scenario
    kind = days.kind(months.weekend.ravel() > 0, months.plug.ravel())
    proven = np.array([entry["bound_usd"] for entry in certificate["days"]], np.float64)
    return np.asarray(proven - days.reference(kind, months.price.reshape(-1, 24)))


def _months_penalty(drawn: Drawn, certificate: Data) -> Penalty:
    from baselines.stackelberg.online import penalty_of

    return lambda model, episodes: penalty_of(drawn.model, drawn.scenario, episodes.actions).ravel()


KINDS: dict[str, Kind] = {
    "hindsight bound": Kind(_lot_hindsight),
    "penalised bound": Kind(_lot_penalised, _lot_penalty),
    "week hindsight bound": Kind(_week_hindsight),
    "week penalised bound": Kind(_week_penalised, _week_penalty),
    "season bound": Kind(_season_bound, pathwise=False),
    "price chain values": Kind(_chain_optimum, pathwise=False),
    "days bound": Kind(_network_hindsight),
    "penalised days bound": Kind(_network_penalised, _network_penalty),
    "online bound": Kind(_months, _months_penalty),
}
OFFICIAL: Mapping[str, tuple[str, ...]] = {
    "V2G/ParkingLot-v0": ("hindsight bound", "penalised bound"),
    "V2G/Stackelberg-v0": ("online bound",),
    "V2G/SharedBatterySizing-v0": ("season bound",),
    "V2G/SharedBatteryAllocation-v0": ("week hindsight bound", "week penalised bound"),
    "V2G/SharedBatteryAllocationPartial-v0": ("week hindsight bound",),
    "V2G/Scheduling-v0": ("days bound", "penalised days bound"),
    "V2G/PriceChain-v0": ("price chain values",),
}
