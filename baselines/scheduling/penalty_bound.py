"""The best plan of every day once it pays for what it knows too early: bounds of all policies, with evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.duality import linear_bound, rounding_allowance
from baselines.scheduling.day import Day, Protection, known_day
from baselines.scheduling.linear import rounded
from baselines.scheduling.penalty import Penalty, Prices, prices
from baselines.scheduling.program import Program, Task, build, groups_of
from baselines.solve import LinearProgram
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario

__all__ = ["Bound", "Evidence", "bound_of", "penalised", "priced"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GROUPED = 300  # cars from which those of one arrival, departure and aggregator are taken together
_OVER_KW = 1e-6  # overload from which a line's limit becomes a row
_ROUNDS = 20


class Evidence(NamedTuple):
    """What proves the bound of a day: groups of cars (cars,), rows of lines (m, 2), and multipliers (rows,)."""

    label: Ints
    lines: Ints
    dual: Floats


class Bound(NamedTuple):
    """Bounds of n days. Their mean bounds the mean return of every policy; a single one bounds return - z of its day.

    Attributes:
        bound_usd: (n,) proven upper limit of return - z [$].
        plan_usd: (n,) value of the best point found, overload of lines that are no rows left out [$].
        evidence: of each day.
    """

    bound_usd: Floats
    plan_usd: Floats
    evidence: tuple[Evidence, ...]


def penalised(
    model: Model, scenario: Scenario, penalty: Penalty, say: Callable[[str], None] = lambda text: None
) -> Bound:
    """Solve every day as if it were known, at the penalty's prices.

    Args:
        model: of the environment.
        scenario: n days.
        penalty: frozen before these days were drawn.
        say: receives a line every 50 days.
    """
    lot, bounds, plans, proofs = model.instance, [], [], []
    for row in range(len(scenario.load_kw)):
        if row % 50 == 0 and row:
            say(f"penalised days: {row} of {len(scenario.load_kw)}")
        day = known_day(model, scenario, row)
        task = Task(day, Protection(), "cost", True, model.gas_scale)
        found = prices(model, scenario, row, penalty)
        label = _labels(lot, day)
        lines = np.zeros((0, 2), np.int64)
        for _ in range(_ROUNDS):
            program, constant = priced(lot, task, label, lines, found)
            highs = LinearProgram(program.cost, program.lower, program.upper)
            highs.add_matrix(program.low, program.up, program.matrix)
            solution = highs.solve()
            fresh = _overloaded(lot, day, program, label, solution.point, lines)
            if not len(fresh):
                break
            lines = np.concatenate([lines, fresh])
        dual = rounded(solution.row_dual)
        bounds.append(bound_of(lot, program, constant, dual))
        plans.append(lot.calibrated_usd + constant.sum() + solution.objective)
        proofs.append(Evidence(label, lines, dual))
    return Bound(np.array(bounds), np.array(plans), tuple(proofs))


def priced(instance: Instance, task: Task, label: Ints, lines: Ints, found: Prices) -> tuple[Program, Floats]:
    """The program of a known day at a penalty's prices, and terms of the objective that no column carries [$].

    Args:
        instance: the problem.
        task: the known day, soft, at least cost.
        label: (cars,) groups; see program.build.
        lines: (m, 2) lines and steps whose limits are rows.
        found: the day's prices.
    """
    program, day = build(instance, task, label, lines, np.zeros(0, np.int64)), task.day
    cost, terms = program.cost.copy(), [-found.constant_usd]
    cost[program.gas] -= found.gas_usd_per_kw[:, None]
    for group, columns in enumerate(program.energy):
        cars = np.flatnonzero(label == group)
        steps = np.arange(day.arrive[cars[0]] + 1, day.depart[cars[0]])  # at their starts; on arrival nothing is gained
        cost[columns[:-1]] -= found.energy_usd_per_kwh[steps]
        terms.append(float(found.energy_usd_per_kwh[steps].sum() * day.start_kwh[cars].sum()))
    return program._replace(cost=cost), np.array(terms)


def bound_of(instance: Instance, program: Program, constant: Floats, dual: Floats) -> float:
    """Proven upper limit of return - z from any multipliers, rounded up [$]."""
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    terms = np.concatenate([[instance.calibrated_usd, linear_bound(*parts, dual)], constant])
    return float(np.nextafter(terms.sum() + rounding_allowance(terms), np.inf))


def _labels(lot: Instance, day: Day) -> Ints:
    """Every car by itself, or in large fleets those that come, leave and live together."""
    if lot.cars >= _GROUPED:
        return groups_of(lot, day, by_aggregator=True)
    there = day.arrive < day.depart
    return np.where(there, np.cumsum(there) - 1, -1)


def _overloaded(lot: Instance, day: Day, program: Program, label: Ints, point: Floats, lines: Ints) -> Ints:
    """Lines and steps (m, 2) whose limits the point exceeds and the program does not know of."""
    below = lot.tree.below
    homes, turbines = below[:, list(lot.aggregator_bus)], below[:, list(lot.turbine_bus)]
    use = day.load_kw.copy()
    for group, (c, d) in enumerate(zip(program.charge, program.discharge, strict=True)):
        first = int(np.flatnonzero(label == group)[0])
        start = int(day.arrive[first])
        use[start : start + len(c), lot.owner[first]] += point[c] - point[d]
    available = day.wind_kw.sum(axis=1)
    share = np.divide(point[program.wind], available, out=np.zeros(lot.steps), where=available > 0.0)
    flow = use @ homes.T - (day.wind_kw * share[:, None]) @ turbines.T
    over = np.abs(flow) > np.array(lot.line_limit_kw) + _OVER_KW
    over[lines[:, 1], lines[:, 0]] = False
    return np.asarray(np.argwhere(over)[:, ::-1], np.int64)
