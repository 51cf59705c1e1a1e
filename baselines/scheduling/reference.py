"""A day written in full, car by car: slow, readable, and the cross-check of program.py and linear.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.day import Day, Protection
from baselines.scheduling.program import Task
from v2g_env.scheduling.instance import Instance

__all__ = ["Reference", "optimum", "worst_case"]

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """Best value of the task's objective (infinite if no plan exists), and a plan (steps,), (steps, cars) [kW]."""

    value: float
    gas_kw: Floats
    car_kw: Floats


class _Parts(NamedTuple):
    """Expressions and rules of the sources and the cars, gathered on the way."""

    gas: Any
    wind: Any
    missing: Any
    charge: Any
    discharge: Any
    energy: Any
    rules: list[Any]


def worst_case(protection: Protection, effect: Floats, halfwidth: Floats) -> float:
    """Largest effect'u over the set, by cvxpy: written from the sets' definitions.

    Args:
        protection: the kind of set and its level.
        effect: (L,) coefficients.
        halfwidth: (L,) of the deviations.
    """
    import cvxpy as cp

    if protection.kind == "none":
        return 0.0
    share = cp.Variable(len(effect))  # deviation in half-widths
    rules = []
    if protection.kind in ("box", "budget", "box-ellipsoid"):
        rules.append(cp.abs(share) <= 1.0)
    if protection.kind == "budget":
        rules.append(cp.norm1(share) <= protection.level)
    if protection.kind in ("ellipsoid", "box-ellipsoid"):
        rules.append(cp.norm(share) <= protection.level)
    size = max(float(np.abs(effect * halfwidth).max()), 1e-300)  # the solver likes coefficients of order one
    problem = cp.Problem(cp.Maximize((effect * halfwidth / size) @ share), rules)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value) * size


def optimum(instance: Instance, task: Task, *, exact: bool = False) -> Reference:
    """The best plan of a day, by cvxpy and HiGHS.

    Args:
        instance: the problem.
        task: what is asked.
        exact: forbid what a linear program cannot: a car that charges and discharges at the same time (which burns
            energy), wind that is used while the generator's power is spilled, and wind that is not used while energy
            is missing. Without it the value is a lower limit.
    """
    import cvxpy as cp

    lot, day = instance, task.day
    parts = _parts(lot, day)
    parts.rules.extend(_balances(lot, task, parts))
    over = _lines(lot, task, parts)
    if task.soft:
        parts.rules.append(parts.missing >= 0.0)
    else:
        parts.rules.extend([parts.missing == 0.0, over == 0.0, *_reserves(lot, day, parts)])
    if exact:
        parts.rules.extend(_switches(lot, day, parts))
    problem = cp.Problem(cp.Minimize(_objective(lot, task, parts, over)), parts.rules)
    options = {"mip_rel_gap": 1e-9} if exact else {"primal_feasibility_tolerance": 1e-9}
    problem.solve(solver=cp.HIGHS, **options)
    if problem.status in ("infeasible", "infeasible_or_unbounded"):
        return Reference(np.inf, np.zeros(0), np.zeros((0, 0)))
    if problem.status != cp.OPTIMAL:
        raise RuntimeError(f"status of the reference program = {problem.status}; allowed: optimal")
    return Reference(float(problem.value), parts.gas.value, parts.charge.value - parts.discharge.value)


def _parts(lot: Instance, day: Day) -> _Parts:
    """Generator, wind and cars: limits, ramps, energy from step to step, targets."""
    import cvxpy as cp

    steps, columns = lot.steps, max(lot.cars, 1)  # cvxpy wants at least one column: a car that never comes
    gas, wind, missing = cp.Variable(steps), cp.Variable(steps), cp.Variable(steps)
    charge, discharge = cp.Variable((steps, columns)), cp.Variable((steps, columns))
    start = np.zeros(columns)
    start[: lot.cars] = day.start_kwh
    there = np.zeros((steps, columns))
    there[:, : lot.cars] = _there(lot, day)
    gain = lot.step_h * (lot.efficiency * charge - discharge / lot.efficiency)
    energy = start[None] + cp.cumsum(gain, axis=0)
    least, most = lot.energy_range_kwh
    rules = [gas >= 0.0, gas <= lot.gas_max_kw, wind >= 0.0, wind <= day.wind_kw.sum(axis=1)]
    rules += [cp.abs(gas[0] - day.gas_kw) <= lot.gas_ramp_kw]
    rules += [cp.abs(cp.diff(gas)) <= lot.gas_ramp_kw] if steps > 1 else []
    for power in (charge, discharge):
        rules += [power >= 0.0, power <= lot.charger_kw * there]
    for car in range(lot.cars):
        if day.arrive[car] < day.depart[car]:
            own = energy[day.arrive[car] : day.depart[car], car]
            rules += [own >= least, own <= most, own[-1] >= day.target_kwh[car]]
    return _Parts(gas, wind, missing, charge, discharge, energy, rules)


def _there(lot: Instance, day: Day) -> NDArray[np.bool_]:
    steps = np.arange(lot.steps)[:, None]
    return np.asarray((day.arrive <= steps) & (steps < day.depart))


def _use(day: Day, parts: _Parts) -> Any:
    import cvxpy as cp

    return day.load_kw.sum(axis=1) + cp.sum(parts.charge - parts.discharge, axis=1)


def _balances(lot: Instance, task: Task, parts: _Parts) -> list[Any]:
    """The means are met by what is used; the worst loads and wind by all the wind there is."""
    day, use = task.day, _use(task.day, parts)
    homes, turbines = np.ones(lot.aggregators), np.ones(lot.turbines)
    effect = np.concatenate([homes, -turbines]) if task.protection.wind else homes
    worst = np.array([worst_case(task.protection, effect, half) for half in task.protection.halfwidth(day)])
    supply = parts.gas + parts.missing
    return [supply + parts.wind >= use, supply + day.wind_kw.sum(axis=1) >= use + worst]


def _lines(lot: Instance, task: Task, parts: _Parts) -> Any:
    """Power above the limits (steps, lines), whether the generator or the wind settles what the set brings."""
    import cvxpy as cp

    day, below = task.day, lot.tree.below
    over = cp.Variable((lot.steps, max(len(below), 1)), nonneg=True)
    for line, behind in enumerate(below):
        homes, turbines = behind[list(lot.aggregator_bus)], behind[list(lot.turbine_bus)]
        for t in range(lot.steps):
            available = day.wind_kw[t].sum()
            share = turbines @ day.wind_kw[t] / available if available > 0.0 else 0.0
            cars = [j for j in range(lot.cars) if homes[lot.owner[j]] > 0.0]
            flow = homes @ day.load_kw[t] - share * parts.wind[t]
            flow += sum(parts.charge[t, j] - parts.discharge[t, j] for j in cars)
            half = task.protection.halfwidth(day)[t]
            extra = 0.0
            for settled in (0.0, share):
                effect = [homes - settled] + ([share - turbines] if task.protection.wind else [])
                extra = max(extra, worst_case(task.protection, np.concatenate(effect), half))
            parts.rules.append(cp.abs(flow) + extra - over[t, line] <= lot.line_limit_kw[line])
    return over


def _reserves(lot: Instance, day: Day, parts: _Parts) -> list[Any]:
    """Spinning reserve: room of the generator, and what cars could give more during the step and still leave full."""
    import cvxpy as cp

    there = _there(lot, day)
    spare = cp.Variable((lot.steps, max(lot.cars, 1)), nonneg=True)
    rules = []
    for car in range(lot.cars):
        floor = np.full(lot.steps, np.inf)
        floor[day.depart[car] - 1 :] = max(lot.energy_range_kwh[0], day.target_kwh[car])
        for t in range(int(day.depart[car]) - 2, -1, -1):  # from the departure backwards
            floor[t] = max(lot.energy_range_kwh[0], floor[t + 1] - lot.efficiency * lot.charger_kw * lot.step_h)
        for t in np.flatnonzero(there[:, car]).tolist():
            power = parts.charge[t, car] - parts.discharge[t, car]
            rules.append(spare[t, car] <= lot.charger_kw + power)
            rules.append(parts.energy[t, car] - lot.step_h / lot.efficiency * spare[t, car] >= floor[t])
    away = np.ones((lot.steps, max(lot.cars, 1)))
    away[:, : lot.cars] = ~there
    rules.append(cp.multiply(away, spare) == 0.0)
    kept = lot.gas_max_kw - parts.gas + cp.sum(spare, axis=1)
    return [*rules, kept >= lot.reserve_share * day.load_kw.sum(axis=1)]


def _switches(lot: Instance, day: Day, parts: _Parts) -> list[Any]:
    """Whole-number rules against burnt energy, spilled power beside used wind, and missing energy beside unused."""
    import cvxpy as cp

    charging = cp.Variable(parts.charge.shape, boolean=True)
    windy, short = cp.Variable(lot.steps, boolean=True), cp.Variable(lot.steps, boolean=True)
    available = day.wind_kw.sum(axis=1)
    use = _use(day, parts)
    most = day.load_kw.sum(axis=1) + lot.cars * lot.charger_kw
    spill = lot.gas_max_kw + available + lot.cars * lot.charger_kw + most
    return [
        parts.charge <= lot.charger_kw * charging,
        parts.discharge <= lot.charger_kw * (1.0 - charging),
        parts.wind <= cp.multiply(available, windy),
        parts.gas + parts.wind + parts.missing - use <= cp.multiply(spill, 1.0 - windy),
        parts.missing <= cp.multiply(most, short),
        parts.wind >= cp.multiply(available, short),
        parts.gas + parts.wind + parts.missing - use <= cp.multiply(spill, 1.0 - short),
    ]


def _objective(lot: Instance, task: Task, parts: _Parts, over: Any) -> Any:
    import cvxpy as cp

    day, h = task.day, lot.step_h
    if task.objective == "deviation":
        return cp.max(cp.abs(day.wind_kw.sum(axis=1) - _use(day, parts)))
    if task.objective == "renewable":
        return h * cp.sum(parts.gas)
    if task.objective == "peak":
        return cp.max(parts.gas)
    ends = np.linspace(0.0, lot.gas_max_kw, lot.gas_segments + 1)
    height = lot.gas_linear * ends + lot.gas_quadratic * ends**2
    slope = np.diff(height) / np.diff(ends)
    pieces = [low + rise * (parts.gas - end) for low, rise, end in zip(height[:-1], slope, ends[:-1], strict=True)]
    cost = task.gas_scale * cp.sum(cp.max(cp.vstack(pieces), axis=0))
    cost += lot.wind_usd_per_kwh * cp.sum(parts.wind) + lot.emergency_usd_per_kwh * cp.sum(parts.missing)
    cost += (lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * cp.sum(parts.discharge)
    return h * (cost + lot.overload_usd_per_kwh * cp.sum(over))
