"""The linear program of a day as plain arrays: built for the solver, and built again by the check.

Columns are in kW and kWh. Cars that share arrival, departure (and aggregator, where lines matter) may form a group,
whose columns sum over its cars. That is a relaxation: a bound for it is a bound for the cars, and a plan for it is a
plan for the cars wherever ``linear.split`` finds one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from baselines.scheduling.builder import Builder
from baselines.scheduling.day import Day, Protection
from v2g_env.core.validate import require
from v2g_env.scheduling.instance import Instance

__all__ = ["OBJECTIVES", "Program", "Task", "build", "energy_floor", "groups_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OBJECTIVES = ("cost", "deviation", "renewable", "peak")


class Task(NamedTuple):
    """What is asked of a day's program.

    Attributes:
        day: the day.
        protection: against what.
        objective: one of OBJECTIVES: least cost [$]; least largest difference between available wind and consumption,
            cars included [kW]; most use of renewable energy, that is least energy of the generator [kWh] (wind that is
            burnt in batteries does not count); lowest peak of the generator [kW].
        soft: missing energy and overload are possible at the instance's prices, as in the environment; otherwise the
            balance, the reserve and the lines hold whatever the set brings.
        gas_scale: k of the generator's cost.
    """

    day: Day
    protection: Protection
    objective: str
    soft: bool
    gas_scale: float


class Program(NamedTuple):
    """maximise cost x over low <= A x <= up, lower <= x <= upper, and where things are.

    Attributes:
        cost, matrix, low, up, lower, upper: the program.
        money: (columns,) minus the cost in $, whatever the objective is.
        gas: (steps, segments) columns of the generator's pieces.
        wind, missing: (steps,) columns of wind used, of missing energy.
        charge, discharge, energy: of every group, columns from its arrival on; energy at the end of the steps.
        peak: column of the objectives "deviation" and "peak".
        balance: (steps,) rows of the robust balance.
        means: (steps,) rows of the balance of the means; the same where nothing is protected against.
    """

    cost: Floats
    matrix: csr_matrix
    low: Floats
    up: Floats
    lower: Floats
    upper: Floats
    money: Floats
    gas: Ints
    wind: Ints
    missing: Ints
    charge: list[Ints]
    discharge: list[Ints]
    energy: list[Ints]
    peak: int
    balance: Ints
    means: Ints


def groups_of(instance: Instance, day: Day, by_aggregator: bool) -> Ints:
    """(cars,) number of the group of every car; -1 for cars that never come."""
    there = day.arrive < day.depart
    keys = [day.arrive, day.depart, instance.owner if by_aggregator else 0 * instance.owner]
    label = np.full(instance.cars, -1)
    if there.any():
        found = np.unique(np.stack(keys, axis=1)[there], axis=0, return_inverse=True)[1]
        label[there] = found.ravel()
    return label


def energy_floor(instance: Instance, target_kwh: Floats, depart: Ints, step: Ints | int) -> Floats:
    """Least energy at the end of ``step`` from which every target can still be reached [kWh]; broadcast shape."""
    gain = instance.efficiency * instance.charger_kw * instance.step_h
    later = target_kwh - (depart - step - 1) * gain
    return np.asarray(np.maximum(instance.energy_range_kwh[0], later))


def build(instance: Instance, task: Task, label: Ints, lines: Ints, reserves: Ints) -> Program:
    """The program of a day with some of its line and reserve rows.

    Args:
        instance: the problem.
        task: what is asked.
        label: (cars,) groups as ``groups_of`` gives them, or finer; every group has one arrival and departure.
        lines: (m, 2) pairs (line, step) whose limits are rows; all groups must then lie within one aggregator.
        reserves: (r,) steps whose spinning reserve is a row.
    """
    lot, day = instance, task.day
    b = Builder()
    gas, wind, missing = _sources(b, lot, task)
    groups = [np.flatnonzero(label == g) for g in range(int(label.max(initial=-1)) + 1)]
    charge, discharge, energy, owner = _storage(b, lot, day, groups)
    balance = _balances(b, lot, task, gas, wind, missing)
    for cars, c, d in zip(groups, charge, discharge, strict=True):
        steps = np.arange(day.arrive[cars[0]], day.depart[cars[0]])
        for rows in balance:
            b.fill(rows[steps], c, -1.0)
            b.fill(rows[steps], d, 1.0)
    if len(lines):
        require(min(owner, default=0) >= 0, "groups", label.tolist(), "cars of one aggregator each, where lines matter")
        _line_rows(b, lot, task, lines, wind, groups, charge, discharge, owner)
    _reserve_rows(b, lot, task, reserves, gas, groups, charge, discharge, energy)
    peak = _largest(b, lot, task, gas, groups, charge, discharge)
    money, *rest = b.arrays()
    cost = money if task.objective == "cost" else _cost(b.columns, lot, task, gas, peak)
    matrix, low, up, lower, upper = rest
    return Program(
        *(cost, matrix, low, up, lower, upper, money, gas, wind, missing, charge, discharge, energy, peak),
        balance[0],
        balance[-1],
    )


def _sources(b: Builder, lot: Instance, task: Task) -> tuple[Ints, Ints, Ints]:
    h, steps, segments = lot.step_h, lot.steps, lot.gas_segments
    price = np.tile(-task.gas_scale * h * lot.gas_prices, steps)
    gas = b.add_columns(price, 0.0, lot.gas_max_kw / segments, steps * segments).reshape(steps, segments)
    available = task.day.wind_kw.sum(axis=1)
    wind = b.add_columns(-lot.wind_usd_per_kwh * h, 0.0, available, steps)
    most = _largest_use(lot, task.day) + task.protection.lacking(lot, task.day) if task.soft else np.zeros(steps)
    missing = b.add_columns(-lot.emergency_usd_per_kwh * h, 0.0, most, steps)
    for t in range(steps):
        before = float(task.day.gas_kw) if t == 0 else 0.0
        row = b.add_row(before - lot.gas_ramp_kw, before + lot.gas_ramp_kw)
        b.fill(row, gas[t], 1.0)
        if t:
            b.fill(row, gas[t - 1], -1.0)
    return gas, wind, missing


def _largest_use(lot: Instance, day: Day) -> Floats:
    return np.asarray(day.load_kw.sum(axis=1) + lot.cars * lot.charger_kw)


def _storage(
    b: Builder, lot: Instance, day: Day, groups: list[Ints]
) -> tuple[list[Ints], list[Ints], list[Ints], list[int]]:
    least, most = lot.energy_range_kwh
    h, eta = lot.step_h, lot.efficiency
    price = -(lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * h
    charge, discharge, energy, owner = [], [], [], []
    for cars in groups:
        span = int(day.depart[cars[0]] - day.arrive[cars[0]])
        power = lot.charger_kw * len(cars)
        charge.append(b.add_columns(0.0, 0.0, power, span))
        discharge.append(b.add_columns(price, 0.0, power, span))
        floor = np.full(span, least * len(cars))
        floor[-1] = np.maximum(day.target_kwh[cars], least).sum()
        energy.append(b.add_columns(0.0, floor, most * len(cars), span))
        owners = set(lot.owner[cars].tolist())
        owner.append(owners.pop() if len(owners) == 1 else -1)
        start = float(day.start_kwh[cars].sum())
        rows = np.array([b.add_row(start if i == 0 else 0.0, start if i == 0 else 0.0) for i in range(span)])
        b.fill(rows, energy[-1], 1.0)
        b.fill(rows[1:], energy[-1][:-1], -1.0)
        b.fill(rows, charge[-1], -eta * h)
        b.fill(rows, discharge[-1], h / eta)
    return charge, discharge, energy, owner


def _balances(b: Builder, lot: Instance, task: Task, gas: Ints, wind: Ints, missing: Ints) -> list[Ints]:
    """The robust balance, with all wind on average there is; and the one for the means, with the wind that is used."""
    day = task.day
    need = day.load_kw.sum(axis=1)
    worst = task.protection.lacking(lot, day)
    available = day.wind_kw.sum(axis=1)
    sides = [need]
    if (worst > 0.0).any():
        sides.insert(0, need + worst - available)
    rows = []
    for k, side in enumerate(sides):
        means = k == len(sides) - 1
        row = np.array([b.add_row(float(value), np.inf) for value in side])
        b.fill(row[:, None], gas, 1.0)
        b.fill(row, missing, 1.0)
        if means:
            b.fill(row, wind, 1.0)
        rows.append(row)
    return rows


def _line_rows(
    b: Builder,
    lot: Instance,
    task: Task,
    lines: Ints,
    wind: Ints,
    groups: list[Ints],
    charge: list[Ints],
    discharge: list[Ints],
    owner: list[int],
) -> None:
    day = task.day
    below = lot.tree.below
    homes, turbines = below[:, list(lot.aggregator_bus)], below[:, list(lot.turbine_bus)]
    spare = task.protection.line_spare(lot, day)
    available = day.wind_kw.sum(axis=1)
    for line, step in lines.tolist():
        base = float(homes[line] @ day.load_kw[step])
        limit = float(lot.line_limit_kw[line] - spare[step, line])
        up, down = b.add_row(-np.inf, limit - base), b.add_row(-limit - base, np.inf)
        share = float(turbines[line] @ day.wind_kw[step]) / available[step] if available[step] > 0.0 else 0.0
        for row in (up, down):
            b.fill(row, wind[[step]], -share)
            for cars, c, d, home in zip(groups, charge, discharge, owner, strict=True):
                i = step - int(day.arrive[cars[0]])
                if 0 <= i < len(c) and homes[line, home]:
                    b.fill(row, np.array([c[i], d[i]]), np.array([1.0, -1.0]))
        if task.soft:
            price = -lot.overload_usd_per_kwh * lot.step_h
            most = _largest_use(lot, day)[step] + available[step] + spare[step, line]
            over = b.add_columns(price, 0.0, float(most), 1)
            b.fill(up, over, -1.0)
            b.fill(down, over, 1.0)


def _reserve_rows(
    b: Builder,
    lot: Instance,
    task: Task,
    reserves: Ints,
    gas: Ints,
    groups: list[Ints],
    charge: list[Ints],
    discharge: list[Ints],
    energy: list[Ints],
) -> None:
    """gas_max - gas + what the cars could give at once, without missing a target, >= the reserve."""
    day = task.day
    loss = lot.step_h / lot.efficiency
    for step in reserves.tolist():
        need = lot.reserve_share * float(day.load_kw[step].sum())
        row = b.add_row(-np.inf, lot.gas_max_kw - need)
        b.fill(row, gas[step], 1.0)
        for cars, c, d, e in zip(groups, charge, discharge, energy, strict=True):
            i = step - int(day.arrive[cars[0]])
            if not 0 <= i < len(c):
                continue
            power = lot.charger_kw * len(cars)
            spare = b.add_columns(0.0, 0.0, 2.0 * power, 1)
            b.fill(row, spare, -1.0)
            limit = b.add_row(-np.inf, power)  # power: at most full discharge
            b.fill(limit, np.array([spare[0], c[i], d[i]]), np.array([1.0, -1.0, 1.0]))
            floor = energy_floor(lot, day.target_kwh[cars], day.depart[cars], step).sum()
            limit = b.add_row(float(floor), np.inf)  # energy: what is left suffices
            b.fill(limit, np.array([e[i], spare[0]]), np.array([1.0, -loss]))


def _largest(
    b: Builder,
    lot: Instance,
    task: Task,
    gas: Ints,
    groups: list[Ints],
    charge: list[Ints],
    discharge: list[Ints],
) -> int:
    """Column above the largest of something at every step; -1 where the objective has none."""
    if task.objective not in ("deviation", "peak"):
        return -1
    day = task.day
    available = day.wind_kw.sum(axis=1)
    top = float((_largest_use(lot, day) + available).max()) + lot.gas_max_kw
    peak = b.add_columns(0.0, 0.0, top, 1)
    for step in range(lot.steps):
        if task.objective == "peak":
            row = b.add_row(-np.inf, 0.0)
            b.fill(row, gas[step], 1.0)
            b.fill(row, peak, -1.0)
            continue
        excess = float(available[step] - day.load_kw[step].sum())
        for sign in (1.0, -1.0):  # sign x (wind - load - charging + discharging) <= peak
            row = b.add_row(-np.inf, -sign * excess)
            b.fill(row, peak, -1.0)
            for cars, c, d in zip(groups, charge, discharge, strict=True):
                i = step - int(day.arrive[cars[0]])
                if 0 <= i < len(c):
                    b.fill(row, np.array([c[i], d[i]]), np.array([-sign, sign]))
    return int(peak[0])


def _cost(columns: int, lot: Instance, task: Task, gas: Ints, peak: int) -> Floats:
    """What an objective other than cost maximises."""
    cost = np.zeros(columns)
    if task.objective == "renewable":
        cost[gas] = -lot.step_h
    else:
        cost[peak] = -1.0
    return cost
