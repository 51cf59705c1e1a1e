"""What aggregators save by scheduling their cars together: a game of profits.

c(S) is the least cost of a known day when the cars of the aggregators S are scheduled (they may discharge) and all
other cars charge as soon as they come, as fast as they can, until they have what they want: then they are load. Missing
energy and overloaded lines have their prices, so there always is a plan. The worth of a coalition is what it saves,

    v(S) = c(nobody) - c(S).

Scheduling includes charging at once, so v only grows with S. It need not be superadditive: two aggregators that shave
the same peak save less together than each alone, summed. Every c(S) has a plan that costs it, and multipliers that
bound it from below (linear.py): v(S) is known within both gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report
from baselines.checking import expect, whole_number
from baselines.games.coalitions import CooperativeGame, members_of
from baselines.games.verify import table_hash
from baselines.scheduling.day import Day, Protection, known_day
from baselines.scheduling.linear import certify, optimise
from baselines.scheduling.program import Task
from baselines.scheduling.verify_linear import check_schedule, read_day
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import gas_scale, sample

__all__ = ["KIND", "SavingsGame", "check_savings_game", "coalition_day", "names", "plan_coalition", "savings_game"]

Floats = NDArray[np.float64]
Spread = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]

KIND = "savings game"
_MOST = 12  # aggregators: 4096 programs
_FIELDS = {"format", "problem", "kind", "instance", "instance_sha256", "sample", "schedules", "table_sha256"}


class SavingsGame(NamedTuple):
    """The game, its values what plans save, and a JSON certificate of all its limits."""

    game: CooperativeGame
    certificate: dict[str, Any]


def names(instance: Instance) -> tuple[str, ...]:
    """Names of the aggregators."""
    return tuple(f"aggregator {a}" for a in range(instance.aggregators))


def coalition_day(instance: Instance, day: Day, mask: int) -> Day:
    """The day as a coalition sees it: the cars of all others are load.

    Args:
        instance: the network.
        day: with all cars.
        mask: aggregators that schedule.
    """
    lot = instance
    others = ~np.isin(lot.owner, members_of(mask))
    load = day.load_kw.copy()
    energy = day.start_kwh.copy()
    for t in range(lot.steps):
        there = others & (day.arrive <= t) & (t < day.depart)
        room = np.maximum(day.target_kwh - energy, 0.0) / (lot.efficiency * lot.step_h)
        power = np.where(there, np.minimum(lot.charger_kw, room), 0.0)
        energy = energy + lot.efficiency * lot.step_h * power
        np.add.at(load[t], lot.owner, power)
    depart = np.where(others, day.arrive, day.depart)
    target = np.where(others, np.minimum(day.target_kwh, day.start_kwh), day.target_kwh)
    return day._replace(load_kw=load, depart=depart, target_kwh=target)


def plan_coalition(instance: dict[str, Any], seed: int, row: int, mask: int) -> dict[str, Any]:
    """Certificate of a coalition's schedule, from plain data and to plain data: a task that any worker can do.

    Args:
        instance: fields of the Instance.
        seed: of the days.
        row: which of them.
        mask: aggregators that schedule.
    """
    lot = Instance.from_dict(instance)
    day = coalition_day(lot, _day(lot, seed, row), mask)
    return certify(lot, optimise(lot, Task(day, Protection(), "cost", True, gas_scale(lot))))


class _Task:
    """``plan_coalition`` of one day, as a function of the coalition alone."""

    def __init__(self, instance: dict[str, Any], seed: int, row: int) -> None:
        self.data = instance, seed, row

    def __call__(self, mask: int) -> dict[str, Any]:
        return plan_coalition(*self.data, mask)


def _day(lot: Instance, seed: int, row: int) -> Day:
    model = Model(lot)
    return known_day(model, sample(lot, model.law, row + 1, seed), row)


def savings_game(instance: Instance, seed: int = 1, row: int = 0, spread: Spread | None = None) -> SavingsGame:
    """The game of a network's aggregators on one sampled day.

    Args:
        instance: the network.
        seed: of the days.
        row: which of them.
        spread: as the built-in ``map``: evaluates a function of plain data for all coalitions; None: one after the
            other.

    Raises:
        InvalidInputError: for more than 12 aggregators, or a number out of range.
        SolverError: if a program fails.
    """
    number("aggregators", instance.aggregators, 1, _MOST, integer=True)
    number("row", row, 0, 10_000, integer=True)
    task = _Task(instance.to_dict(), seed, row)
    schedules = list((spread or map)(task, range(1 << instance.aggregators)))
    reports = [check_schedule(each, instance) for each in schedules]
    game = _game(instance, [(each.values["value"], each.values["bound"]) for each in reports])
    data = {
        "format": FORMAT,
        "problem": "scheduling",
        "kind": KIND,
        "instance": instance.to_dict(),
        "instance_sha256": instance.hash,
        "sample": {"seed": int(seed), "row": int(row)},
        "schedules": schedules,
        "table_sha256": table_hash(game),
    }
    return SavingsGame(game, data)


def _game(instance: Instance, costs: list[tuple[float, float]]) -> CooperativeGame:
    """Savings of all coalitions from values and bounds of their costs."""
    value, bound = np.array(costs).T
    bound = np.minimum(bound, value)
    tables = [value[0] - value, bound[0] - value, value[0] - bound]
    for table in tables:
        table[0] = 0.0
    return CooperativeGame(tables[0], names(instance), "profit", tables[1], tables[2])


def check_savings_game(data: Mapping[str, Any], instance: Instance) -> Report:
    """Check one certificate of kind "savings game": every schedule is checked, and is that of its coalition's day.

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    origin, schedules, count = data["sample"], data["schedules"], 1 << instance.aggregators
    expect(instance.aggregators <= _MOST, "aggregators", instance.aggregators, f"at most {_MOST}")
    expect(isinstance(origin, Mapping) and set(origin) == {"seed", "row"}, "sample", origin, "exactly seed and row")
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    row = whole_number("sample.row", origin["row"], 0, 10_000)
    expect(isinstance(schedules, list) and len(schedules) == count, "schedules", type(schedules).__name__, count)
    try:
        day = _day(instance, seed, row)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    costs = []
    for mask, schedule in enumerate(schedules):
        where = f"schedule of coalition {mask}"
        expect(isinstance(schedule, Mapping), where, schedule, "a certificate")
        same = schedule["instance_sha256"] == instance.hash and schedule["instance"] == data["instance"]
        expect(same, f"instance of {where}", schedule["instance_sha256"], instance.hash)
        expect(schedule["objective"] == "cost" and schedule["soft"] is True, where, "another task", "cost, soft")
        report = check_schedule(schedule, instance)
        wanted = coalition_day(instance, day, mask)
        stated = read_day(schedule["day"], instance)
        for name in Day._fields:
            close = bool(np.allclose(getattr(stated, name), getattr(wanted, name), rtol=0.0, atol=1e-9))
            expect(close, f"{name} of {where}", "another day", "that of the coalition")
        costs.append((report.values["value"], report.values["bound"]))
    game = _game(instance, costs)
    expect(data["table_sha256"] == table_hash(game), "table_sha256", data["table_sha256"], table_hash(game))
    gap = float((game.upper - game.lower).max())
    claim = (
        f"savings of all {count} coalitions of {game.n} aggregators are known within {gap:.2e} $; all together save "
        f"{game.total:.4f} $ of {costs[0][0]:.4f} $"
    )
    return Report(KIND, (claim,), {"total_usd": game.total, "gap_usd": gap})
