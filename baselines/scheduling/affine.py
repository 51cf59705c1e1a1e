"""Adjustable robust scheduling: decisions that answer linearly to what has happened, deficits and surpluses apart.

A step's balance depends on the deviations of its loads and turbines through their sum alone, S_t = S+ - S-, which the
set limits to |S_t| <= r_t. Cars answer in the step itself, and put the energy back or give it away in the next; the
generator answers one step later, as its set-point of the step is fixed. Every limit holds for all S+, S- >= 0 with
S+ + S- <= r_t (Ben-Tal, Goryashko, Guslitzer and Nemirovski, Mathematical Programming 99, 2004; rules apart for both
signs: Chen and Zhang, Operations Research 57, 2009). With answers fixed at zero it is the plan without adjustment.

The cost is that of no deviation, where answers to surpluses save nothing: every limit holds at S = 0 too, so they may
as well be zero. No answer exceeds 1.5 kW per kW. Lines are left out, and cars lend nothing to the spinning reserve.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from baselines.certificate import FORMAT, pack
from baselines.duality import linear_bound
from baselines.scheduling.builder import Builder
from baselines.scheduling.day import Day, Protection, check_day
from baselines.scheduling.linear import rounded
from baselines.scheduling.program import Program, Task, build
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import gas_scale

__all__ = ["AffineProgram", "Rule", "Solution", "affine_program", "alike", "rule_of", "solve"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST = 1.5  # kW of answer per kW of deviation


class Rule(NamedTuple):
    """Decisions of a day; deviations are those of the net load, deficits positive.

    Attributes:
        gas_kw: (steps,) generator without deviations [kW].
        fleet_kw: (steps,) all cars without deviations, charging positive [kW].
        gas_answer: (steps, 2) kW of the generator per kW of deficit, and of surplus, in the step before.
        fleet_answer: (steps, 2) the same of all cars in the step itself.
        fleet_return: (steps, 2) the same of all cars for the step before.
        spare_kw: (steps,) generation beyond the mean net load.
        reach_kw: (steps,) r_t, the largest deviation of the set.
    """

    gas_kw: Floats
    fleet_kw: Floats
    gas_answer: Floats
    fleet_answer: Floats
    fleet_return: Floats
    spare_kw: Floats
    reach_kw: Floats


class Solution(NamedTuple):
    """A certified rule.

    Attributes:
        plan: the rule.
        value: cost of the day without deviations [$].
        certificate: plain data for ``baselines.certificate.check``.
    """

    plan: Rule
    value: float
    certificate: dict[str, Any]


class AffineProgram(NamedTuple):
    """maximise cost x over low <= A x <= up, lower <= x <= upper.

    Attributes:
        cost, matrix, low, up, lower, upper: the program.
        base: the program without deviations, whose columns come first.
        gas: (steps, 2) columns of the generator's answers; -1 in the first step.
        now, then: (steps or cars' steps, 4) columns of every group's answers in the step and to the step before:
            charge and discharge for a deficit, charge and discharge for a surplus; ``then`` is -1 on arrival.
        reach: (steps,) r_t [kW].
    """

    cost: Floats
    matrix: csr_matrix
    low: Floats
    up: Floats
    lower: Floats
    upper: Floats
    base: Program
    gas: Ints
    now: list[Ints]
    then: list[Ints]
    reach: Floats


def alike(instance: Instance, day: Day) -> Ints:
    """(cars,) groups of cars that are the same in everything, so that a group's plan splits evenly; -1: never come."""
    label = np.full(instance.cars, -1)
    there = day.arrive < day.depart
    if there.any():
        keys = np.stack([day.arrive, day.depart, day.start_kwh, day.target_kwh], axis=1)[there]
        label[there] = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return label


def solve(instance: Instance, day: Day, protection: Protection, adjust: bool = True) -> Solution:
    """Find the rule with the least cost without deviations that keeps all limits for every deviation of the set.

    Args:
        instance: the problem.
        day: means, half-widths, cars; many different cars make the program large.
        protection: the set.
        adjust: False fixes all answers at zero: the plan of the robust linear program without adjustment.

    Raises:
        InvalidInputError: for bad data, or if no rule exists.
    """
    protection.check(instance)
    require(isinstance(adjust, bool), "adjust", adjust, "True or False")
    task = Task(check_day(instance, day), protection, "cost", False, gas_scale(instance))
    program = affine_program(instance, task, adjust)
    highs = LinearProgram(program.cost, program.lower, program.upper)
    highs.add_matrix(program.low, program.up, program.matrix)
    try:
        found = highs.solve()
    except SolverError as error:
        if "nfeasible" not in str(error):
            raise
        raise InvalidInputError("rule for the day = none keeps all limits; allowed: a smaller set") from None
    dual = rounded(found.row_dual)
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    point = np.clip(found.point, program.lower, program.upper)
    value = -float(program.cost @ point)
    arrays = {name: pack(np.asarray(part)) for name, part in task.day._asdict().items() if name != "gas_kw"}
    certificate = {
        "format": FORMAT,
        "problem": "scheduling",
        "kind": "adjustable schedule",
        "instance": instance.to_dict(),
        "instance_sha256": instance.hash,
        "day": arrays | {"gas_kw": task.day.gas_kw},
        "protection": protection._asdict(),
        "adjust": adjust,
        "point": pack(point),
        "dual": pack(dual),
        "value": value,
        "bound": -linear_bound(*parts, dual),
    }
    return Solution(rule_of(instance, task, program, point), value, certificate)


def affine_program(instance: Instance, task: Task, adjust: bool) -> AffineProgram:
    """The program of ``solve`` as plain arrays.

    Args:
        instance: the problem.
        task: day and set; the objective is cost, nothing is priced.
        adjust: whether answers may differ from zero.
    """
    require(task.objective == "cost" and not task.soft, "task", task.objective, "cost, nothing priced")
    lot, day = instance, task.day
    effect = np.concatenate([np.ones(lot.aggregators), -np.ones(lot.turbines if task.protection.wind else 0)])
    reach = task.protection.worst(day, effect[None])[:, 0]
    label = alike(lot, day)
    base = build(lot, task._replace(protection=Protection()), label, np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    b = Builder()
    b.take((base.cost, base.matrix, base.low, base.up, base.lower, base.upper))
    before = np.append(0.0, reach[:-1])
    most = _MOST if adjust and reach.any() else 0.0  # nothing to answer to: no answers
    gas = _generator(b, lot, base, day, before, most)
    now, then = [], []
    for group in range(int(label.max(initial=-1)) + 1):
        members = np.flatnonzero(label == group)
        steps = np.arange(day.arrive[members[0]], day.depart[members[0]])
        own = (base.charge[group], base.discharge[group], base.energy[group])
        floor = len(members) * max(lot.energy_range_kwh[0], 0.0)
        target = float(np.maximum(day.target_kwh[members], lot.energy_range_kwh[0]).sum())
        first, second = _answers(b, lot, own, reach[steps], (len(members), floor, target), most)
        now.append(first)
        then.append(second)
    _balance(b, lot, task, base, gas, (now, then), label, reach)
    cost, matrix, low, up, lower, upper = b.arrays()
    return AffineProgram(cost, matrix, low, up, lower, upper, base, gas, now, then, reach)


def _above(b: Builder, rows_of: list[tuple[Ints, Floats]], most: float, count: int) -> Ints:
    """Columns at least 0 and at least each of some sums (columns (count, k), factors (k,)), entry by entry."""
    top = b.add_columns(0.0, 0.0, most, count)
    for columns, factors in rows_of:
        rows = b.add_rows(0.0, np.inf, count)
        b.fill(rows, top, 1.0)
        for k, factor in enumerate(factors.tolist()):
            b.fill(rows, columns[:, k], -factor)
    return top


def _generator(b: Builder, lot: Instance, base: Program, day: Day, before: Floats, most: float) -> Ints:
    """Answers to the step before, within limits, ramp and reserve whatever they are."""
    steps = lot.steps
    answers = np.full((steps, 2), -1)
    answers[1:] = b.add_columns(0.0, -most, most, 2 * (steps - 1)).reshape(-1, 2)
    one = np.array([1.0])
    up = _above(b, [(answers[1:, :1], one), (answers[1:, 1:], one)], most, steps - 1)
    down = _above(b, [(answers[1:, :1], -one), (answers[1:, 1:], -one)], most, steps - 1)
    need = lot.reserve_share * day.load_kw.sum(axis=1)
    rows = b.add_rows(-np.inf, lot.gas_max_kw - need, steps)
    b.fill(rows[:, None], base.gas, 1.0)
    b.fill(rows[1:], up, before[1:])
    rows = b.add_rows(0.0, np.inf, steps - 1)
    b.fill(rows[:, None], base.gas[1:], 1.0)
    b.fill(rows, down, -before[1:])
    for rise, fall, sign in ((up, down, 1.0), (down, up, -1.0)):
        rows = b.add_rows(-np.inf, lot.gas_ramp_kw, steps - 1)
        b.fill(rows[:, None], base.gas[1:], sign)
        b.fill(rows[:, None], base.gas[:-1], -sign)
        b.fill(rows, rise, before[1:])
        b.fill(rows[1:], fall[:-1], before[1:-1])
    return answers


def _answers(
    b: Builder,
    lot: Instance,
    own: tuple[Ints, Ints, Ints],
    reach: Floats,
    size: tuple[int, float, float],
    most: float,
) -> tuple[Ints, Ints]:
    """Answers of a group of equal cars: powers and energies stay within limits whatever they are."""
    charge, discharge, energy = own
    members, floor, target = size
    n, power = len(charge), members * lot.charger_kw
    gain, loss = lot.efficiency * lot.step_h, lot.step_h / lot.efficiency
    # a deficit: charge less, discharge more; a surplus: the other way round; then back
    low, high = np.array([-most, 0.0, 0.0, -most]), np.array([0.0, most, most, 0.0])
    now = b.add_columns(0.0, np.tile(low, n), np.tile(high, n), 4 * n).reshape(n, 4)
    then = np.full((n, 4), -1)
    if n > 1:
        then[1:] = b.add_columns(0.0, np.tile(-high, n - 1), np.tile(-low, n - 1), 4 * (n - 1)).reshape(-1, 4)
    before = np.append(0.0, reach[:-1])
    for column, drop, rise, back, forth in ((charge, 0, 2, 2, 0), (discharge, 3, 1, 1, 3)):
        rows = b.add_rows(0.0, np.inf, n)
        b.fill(rows, column, 1.0)
        b.fill(rows, now[:, drop], reach)
        b.fill(rows[1:], then[1:, back], before[1:])
        rows = b.add_rows(-np.inf, power, n)
        b.fill(rows, column, 1.0)
        b.fill(rows, now[:, rise], reach)
        b.fill(rows[1:], then[1:, forth], before[1:])
    # energy that a unit of deficit or surplus leaves missing or left over once the next step has answered
    effect = np.array([gain, -loss])
    settled = np.concatenate([now[:-1], then[1:]], axis=1)  # (n - 1, 8)
    pairs = [(settled[:, [0, 1, 4, 5]], np.tile(effect, 2)), (settled[:, [2, 3, 6, 7]], np.tile(effect, 2))]
    top = 4.0 * _MOST * lot.step_h / lot.efficiency
    lost = _above(b, [(columns, -factors) for columns, factors in pairs], top, n - 1)
    left = _above(b, pairs, top, n - 1)
    for kind, direction, extra in ((lost, -1.0, slice(0, 2)), (left, 1.0, slice(2, 4))):
        total = b.add_columns(0.0, 0.0, members * lot.energy_range_kwh[1] - floor, n)  # implied by the limits below
        rows = b.add_rows(0.0, 0.0, n)  # what has gathered before the step
        b.fill(rows, total, 1.0)
        b.fill(rows[1:], total[:-1], -1.0)
        b.fill(rows[1:], kind, -reach[:-1])
        if direction < 0.0:
            side = np.full(n, floor)
            side[-1] = target
            rows = b.add_rows(side, np.inf, n)
        else:
            rows = b.add_rows(-np.inf, members * lot.energy_range_kwh[1], n)
        b.fill(rows, energy, 1.0)
        b.fill(rows, total, direction)
        b.fill(rows[:, None], now[:, extra], reach[:, None] * effect)
    return now, then


def _balance(
    b: Builder,
    lot: Instance,
    task: Task,
    base: Program,
    gas: Ints,
    cars: tuple[list[Ints], list[Ints]],
    label: Ints,
    reach: Floats,
) -> None:
    """Generation covers the mean net load and what deviations of this step and the last leave after all answers."""
    day, steps = task.day, lot.steps
    need = day.load_kw.sum(axis=1) - day.wind_kw.sum(axis=1)
    rows = b.add_rows(need, np.inf, steps)
    b.fill(rows[:, None], base.gas, 1.0)
    top = 4.0 * _MOST * (len(cars[0]) + 1) + 1.0
    margin = [b.add_columns(0.0, 0.0, top, steps) for _ in range(2)]
    before = np.append(0.0, reach[:-1])
    b.fill(rows, margin[0], -reach)
    b.fill(rows, margin[1], -before)
    lefts = [[b.add_rows(one, np.inf, steps) for one in (1.0, -1.0)], [b.add_rows(0.0, np.inf, steps) for _ in (0, 1)]]
    for rows_now, column in zip(lefts, margin, strict=True):
        for each in rows_now:
            b.fill(each, column, 1.0)
    for sign in (0, 1):
        b.fill(lefts[1][sign][1:], gas[1:, sign], 1.0)
    for group, (now, then) in enumerate(zip(*cars, strict=True)):
        first = int(day.arrive[np.flatnonzero(label == group)[0]])
        at = np.arange(first, first + len(now))
        b.fill(rows[at], base.charge[group], -1.0)
        b.fill(rows[at], base.discharge[group], 1.0)
        for sign in (0, 1):
            for k, factor in ((2 * sign, -1.0), (2 * sign + 1, 1.0)):  # charging adds to the load
                b.fill(lefts[0][sign][at], now[:, k], factor)
                b.fill(lefts[1][sign][at[1:]], then[1:, k], factor)


def rule_of(instance: Instance, task: Task, program: AffineProgram, point: Floats) -> Rule:
    """Decisions of a solved program.

    Args:
        instance: the problem.
        task: its day.
        program: from ``affine_program``.
        point: (columns,) its solution.
    """
    lot, day, base = instance, task.day, program.base
    label = alike(lot, day)
    fleet, now, then = np.zeros(lot.steps), np.zeros((lot.steps, 2)), np.zeros((lot.steps, 2))
    for group, columns in enumerate(program.now):
        first = int(day.arrive[np.flatnonzero(label == group)[0]])
        at = np.arange(first, first + len(columns))
        fleet[at] += point[base.charge[group]] - point[base.discharge[group]]
        now[at] += point[columns[:, [0, 2]]] - point[columns[:, [1, 3]]]
        then[at[1:]] += point[program.then[group][1:, [0, 2]]] - point[program.then[group][1:, [1, 3]]]
    gas = point[base.gas].sum(axis=1)
    answer = np.zeros((lot.steps, 2))
    answer[1:] = point[program.gas[1:]]
    spare = gas + day.wind_kw.sum(axis=1) - day.load_kw.sum(axis=1) - fleet
    return Rule(gas, fleet, answer, now, then, spare, program.reach)
