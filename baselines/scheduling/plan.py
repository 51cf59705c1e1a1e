"""Plans for the generator and every car: what they cost, what they keep and by how much, recomputed from the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.day import Day
from baselines.scheduling.program import Task, energy_floor
from v2g_env.scheduling.instance import Instance

__all__ = ["FEASIBLE", "Measured", "Plan", "carried_out", "energies", "measure", "spare_kw"]

Floats = NDArray[np.float64]

FEASIBLE = 1e-6  # kW or kWh by which a plan may exceed a limit


class Plan(NamedTuple):
    """Powers of a day.

    Attributes:
        gas_kw: (steps,) generator [kW].
        car_kw: (steps, cars) charging positive [kW].
    """

    gas_kw: Floats
    car_kw: Floats


class Measured(NamedTuple):
    """What a plan does on the means of its day.

    Attributes:
        value: of the task's objective, to be minimised: cost [$], deviation [kW], generator [kWh], peak [kW].
        cost_usd: of the day [$].
        off: largest excess over every kind of limit, by name, in kW or kWh.
        wind_kw, lacking_kw: (steps,) wind used, and what the balance lacks when the set does its worst.
        flow_kw, spare_kw: (steps, lines) flow and what the set may add to it.
        short_kw: (steps,) what the spinning reserve lacks; negative where more is there than asked.
    """

    value: float
    cost_usd: float
    off: dict[str, float]
    wind_kw: Floats
    lacking_kw: Floats
    flow_kw: Floats
    spare_kw: Floats
    short_kw: Floats


def energies(instance: Instance, day: Day, car_kw: Floats) -> Floats:
    """(steps + 1, cars) energy of every car; it starts from ``start_kwh`` and stays put while the car is away."""
    lot = instance
    gain = np.where(car_kw > 0.0, lot.efficiency * car_kw, car_kw / lot.efficiency) * lot.step_h
    return np.concatenate([day.start_kwh[None], day.start_kwh + np.cumsum(gain, axis=0)])


def carried_out(instance: Instance, day: Day, car_kw: Floats) -> tuple[Floats, Floats]:
    """What the cars of a day make of a plan for others: they charge until full, discharge until empty.

    Args:
        instance: the problem.
        day: with the cars that really come.
        car_kw: (steps, cars) planned powers [kW].

    Returns:
        (steps, cars) powers, and (steps, cars) energies at the end of each step, as in ``energies``.
    """
    lot = instance
    least, most = lot.energy_range_kwh
    gain, loss = lot.efficiency * lot.step_h, lot.step_h / lot.efficiency
    power, energy = np.zeros(car_kw.shape), np.empty(car_kw.shape)
    held = day.start_kwh.copy()
    for step, wanted in enumerate(car_kw):
        there = (day.arrive <= step) & (step < day.depart)
        inside = np.clip(wanted, -np.maximum(held - least, 0.0) / loss, np.maximum(most - held, 0.0) / gain)
        power[step] = np.where(there, inside, 0.0)
        held = held + np.where(power[step] > 0.0, gain, loss) * power[step]
        energy[step] = held
    return power, energy


def spare_kw(instance: Instance, day: Day, car_kw: Floats, energy: Floats) -> Floats:
    """(steps, cars) power that every car could give at once beyond its plan without missing its target [kW]."""
    lot = instance
    steps = np.arange(lot.steps)[:, None]
    floor = energy_floor(lot, day.target_kwh, day.depart, steps)
    there = (day.arrive <= steps) & (steps < day.depart)
    left = (energy[1:] - floor) * lot.efficiency / lot.step_h
    return np.where(there, np.clip(np.minimum(left, car_kw + lot.charger_kw), 0.0, None), 0.0)


def measure(instance: Instance, task: Task, plan: Plan) -> Measured:
    """Recompute everything that is claimed of a plan.

    Args:
        instance: the problem.
        task: day, protection and objective.
        plan: finite powers.
    """
    lot, day = instance, task.day
    gas, cars = plan.gas_kw, plan.car_kw
    energy = energies(lot, day, cars)
    steps = np.arange(lot.steps)[:, None]
    there = (day.arrive <= steps) & (steps < day.depart)
    least, most = lot.energy_range_kwh
    came = day.arrive < day.depart
    jumps = np.abs(np.diff(np.append(day.gas_kw, gas)))
    off = {
        "power of an absent car": float(np.abs(cars[~there]).max(initial=0.0)),
        "power of a car": float(np.abs(cars).max(initial=0.0)) - lot.charger_kw,
        "energy of a car": float(np.maximum(least - energy[1:], energy[1:] - most)[there].max(initial=-np.inf)),
        "target of a car": float((day.target_kwh - energy[-1])[came].max(initial=-np.inf)),
        "generator": float(np.maximum(-gas, gas - lot.gas_max_kw).max()),
        "ramp": float(jumps.max()) - lot.gas_ramp_kw,
    }
    use = day.load_kw.sum(axis=1) + cars.sum(axis=1)
    available = day.wind_kw.sum(axis=1)
    surplus = gas + available - use
    wind = np.maximum(available - np.maximum(surplus, 0.0), 0.0)
    missing = np.maximum(-surplus, 0.0)
    worst = task.protection.lacking(lot, day)
    flow, extra = _flows(lot, task, wind, cars)
    over = np.maximum(np.abs(flow) + extra - np.array(lot.line_limit_kw), 0.0)
    short = _reserve_short(lot, day, gas, spare_kw(lot, day, cars, energy))
    if not task.soft:
        off |= {
            "balance": float((worst - surplus).max()),
            "line": float(over.max(initial=0.0)),
            "reserve": float(short.max()),
        }
    cost = lot.step_h * float(
        task.gas_scale * _gas_cost(lot, gas).sum()
        + lot.wind_usd_per_kwh * wind.sum()
        + (lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * np.maximum(-cars, 0.0).sum()
        + lot.emergency_usd_per_kwh * missing.sum()
        + lot.overload_usd_per_kwh * over.sum()
    )
    values = {
        "cost": cost,
        "deviation": float(np.abs(available - use).max()),
        "renewable": float(gas.sum()) * lot.step_h,
        "peak": float(gas.max()),
    }
    return Measured(values[task.objective], cost, off, wind, np.maximum(worst - surplus, 0.0), flow, extra, short)


def _flows(lot: Instance, task: Task, wind: Floats, cars: Floats) -> tuple[Floats, Floats]:
    day, below = task.day, lot.tree.below
    homes, turbines = below[:, list(lot.aggregator_bus)], below[:, list(lot.turbine_bus)]
    power = np.stack([cars[:, lot.owner == a].sum(axis=1) for a in range(lot.aggregators)], axis=1)
    available = day.wind_kw.sum(axis=1)
    share = np.divide(wind, available, out=np.zeros_like(wind), where=available > 0.0)
    flow = (day.load_kw + power) @ homes.T - (day.wind_kw * share[:, None]) @ turbines.T
    return flow, task.protection.line_spare(lot, day)


def _reserve_short(lot: Instance, day: Day, gas: Floats, spare: Floats) -> Floats:
    need = lot.reserve_share * day.load_kw.sum(axis=1)
    return np.asarray(need - (lot.gas_max_kw - gas) - spare.sum(axis=1))


def _gas_cost(lot: Instance, gas: Floats) -> Floats:
    """Cost with k = 1 [$/h], interpolated between the ends of the pieces."""
    ends = np.linspace(0.0, lot.gas_max_kw, lot.gas_segments + 1)
    height = np.concatenate([[0.0], np.cumsum(lot.gas_prices) * (lot.gas_max_kw / lot.gas_segments)])
    return np.asarray(np.interp(gas, ends, height))
