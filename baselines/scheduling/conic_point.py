"""Dispatches of a day on a feeder: between a program's point and kW, replayed in the exact power flow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.conic_program import DayProgram, spread_of_flow, spread_of_voltage
from baselines.scheduling.feeder_day import FeederDay
from v2g_env.core.feeder import Flow, power_flow
from v2g_env.core.validate import InvalidInputError

__all__ = ["Plan", "Replay", "complete", "consumption", "flow_of", "plan_of", "replay", "stress", "tightness"]

Floats = NDArray[np.float64]

STRESS_SAMPLES = 20  # loads drawn from the set for every step of a robust dispatch, beside its corners


class Plan(NamedTuple):
    """Set-points of all devices; the substation delivers what is left.

    Attributes:
        gas_on: (blocks,) states of the generator, 0 or 1.
        gas_kw, gas_kvar: (steps,) power of the generator.
        wind_kw, wind_kvar: (steps, turbines).
        charge_kw, discharge_kw, ev_kvar: (steps, aggregators), ev_kvar delivered.
        energy_kwh: (steps, aggregators) stored since the day began, at the end of a step.
        source_kw: (steps,) planned power of the substation at the nominal loads.
    """

    gas_on: Floats
    gas_kw: Floats
    gas_kvar: Floats
    wind_kw: Floats
    wind_kvar: Floats
    charge_kw: Floats
    discharge_kw: Floats
    ev_kvar: Floats
    energy_kwh: Floats
    source_kw: Floats


class Replay(NamedTuple):
    """Largest differences between a plan's own flows and the exact power flow of its dispatch.

    Attributes:
        losses_relative: of a step's losses.
        voltage_pu: of a bus's voltage in a step.
    """

    losses_relative: float
    voltage_pu: float


def plan_of(program: DayProgram, point: Floats) -> Plan:
    """A point in kW."""
    layout, base = program.layout, program.grid.base_kva

    def kw(name: str) -> Floats:
        return base * layout.of(point, name)

    return Plan(
        layout.of(point, "gas_on"),
        kw("gas_p")[:, 0],
        kw("gas_q")[:, 0],
        kw("wind_p"),
        kw("wind_q"),
        kw("charge"),
        kw("discharge"),
        kw("ev_q"),
        kw("energy"),
        kw("source_p")[:, 0],
    )


def consumption(day: FeederDay, plan: Plan, deviation: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Net active and reactive consumption (..., steps, buses) under loads load_j (1 + h_j xi_j).

    Args:
        day: the day.
        plan: set-points of the devices.
        deviation: (..., steps, buses) or a number: xi.
    """
    factor = 1.0 + np.array(day.half_width) * deviation
    p, q = day.load_kw * factor, day.load_kvar * factor
    given_p, given_q = np.zeros(day.load_kw.shape), np.zeros(day.load_kw.shape)
    given_p[:, day.gas_bus] += plan.gas_kw
    given_q[:, day.gas_bus] += plan.gas_kvar
    for buses, active, reactive in (
        (day.wind_buses, plan.wind_kw, plan.wind_kvar),
        (day.ev_buses, plan.discharge_kw - plan.charge_kw, plan.ev_kvar),
    ):
        for index, bus in enumerate(buses):
            given_p[:, bus] += active[:, index]
            given_q[:, bus] += reactive[:, index]
    return p - given_p, q - given_q


def flow_of(day: FeederDay, plan: Plan, deviation: Floats | float = 0.0) -> Flow:
    """Exact power flow of a plan in every step, the substation settling the difference."""
    return power_flow(day.network, *consumption(day, plan, deviation), source_pu=day.source_pu)


def tightness(program: DayProgram, point: Floats) -> float:
    """Largest |l v - p^2 - q^2| of a point [pu]."""
    p, q, current, v = (program.layout.of(point, name) for name in ("p", "q", "l", "v"))
    sending = v @ program.grid.above.T + program.day.source_pu**2 * program.grid.root
    return float(np.abs(current * sending - p**2 - q**2).max())


def replay(program: DayProgram, point: Floats) -> Replay:
    """Compare a point's losses and voltages with the exact power flow of its dispatch."""
    layout, grid = program.layout, program.grid
    flow = flow_of(program.day, plan_of(program, point))
    losses = grid.base_kva * layout.of(point, "l") @ grid.r
    # relative to at least a millionth of the base, for steps without any flow
    relative = np.abs(losses - flow.losses_kw) / np.maximum(flow.losses_kw, 1e-6 * grid.base_kva)
    voltage = np.sqrt(np.maximum(layout.of(point, "v"), 0.0))
    return Replay(float(relative.max()), float(np.abs(voltage - flow.voltage_pu[:, 1:]).max()))


def complete(program: DayProgram, point: Floats) -> Floats:
    """The point with its envelope replaced by the least one that the dispatch allows (itself without robustness).

    The least envelope is the limit of the currents' map from zero, which only grows. If it does not settle within 500
    rounds, the point is returned as it is then: its violation tells.
    """
    day, grid, layout = program.day, program.grid, program.layout
    if day.robust == "none":
        return point
    filled = point.copy()
    demand = consumption(day, plan_of(program, point))
    low = [(each[:, 1:] @ grid.below.T) / grid.base_kva for each in demand]
    drop = 2.0 * (low[0] * grid.r + low[1] * grid.x)
    source = day.source_pu**2
    lossless = source - drop @ grid.below
    change, deviation = spread_of_flow(day, grid), spread_of_voltage(day, grid)
    current = np.zeros(low[0].shape)
    parts: dict[str, Floats] = {}
    for _ in range(500):
        lost = [(current * z) @ grid.below.T for z in (grid.r, grid.x)]
        high = [flow + extra for flow, extra in zip(low, lost, strict=True)]
        fall = 2.0 * (lost[0] * grid.r + lost[1] * grid.x) - current * (grid.r**2 + grid.x**2)
        voltage = lossless - fall @ grid.below
        most = [np.maximum(h + s, s - f) for h, f, s in zip(high, low, change, strict=True)]
        parts = {"p_high": high[0], "q_high": high[1], "p_most": most[0], "q_most": most[1]}
        parts |= {"l_most": current, "v_least": voltage}
        sending = (voltage - deviation) @ grid.above.T + source * grid.root
        if not (sending > 0.0).all():
            break
        fresh = (most[0] ** 2 + most[1] ** 2) / sending
        settled = np.abs(fresh - current).max() <= 1e-14
        current = fresh
        if settled:
            break
    for name, values in (parts | {"p_low": low[0], "q_low": low[1], "v_lossless": lossless}).items():
        filled[layout.at(name)] = values.ravel()
    return filled


def stress(day: FeederDay, plan: Plan, seed: int = 1, samples: int = STRESS_SAMPLES) -> tuple[float, float]:
    """Lowest voltage and largest violation of a limit [pu] over loads of the set, by exact power flow.

    The loads: both corners at which all loads are high or low (scaled onto the ellipsoid), and ``samples`` more in
    every step, half of them extreme points. A load without a power flow counts as an infinite violation.

    Args:
        day: the day with its uncertainty set.
        plan: the dispatch, kept while the substation settles the difference.
        seed: of the drawn loads.
        samples: number of drawn loads in every step.
    """
    rng = np.random.default_rng(seed)
    shape = day.load_kw.shape
    draws = rng.uniform(-1.0, 1.0, (samples, *shape))
    draws[::2] = np.sign(draws[::2])
    draws = np.concatenate([np.ones((1, *shape)), -np.ones((1, *shape)), draws])
    if day.robust == "ellipsoid":
        length = np.sqrt((draws**2).sum(axis=-1, keepdims=True))
        draws *= np.minimum(1.0, day.omega / length)
    try:
        flow = flow_of(day, plan, draws * (day.robust != "none"))
    except InvalidInputError:
        return 0.0, np.inf
    voltage, apparent = flow.voltage_pu[..., 1:], np.hypot(flow.p_kw, flow.q_kvar)
    base = float(np.hypot(day.network.p_kw, day.network.q_kvar).sum())
    line = day.network.tree.line_above[1:]
    root = line[day.network.tree.parent[1:] == 0]
    source_p, source_q = flow.p_kw[..., root].sum(axis=-1), flow.q_kvar[..., root].sum(axis=-1)
    over = [
        day.v_min_pu - voltage,
        voltage - day.v_max_pu,
        (np.hypot(source_p, source_q) - day.substation_kva) / base,
        (day.substation_min_kw - source_p) / base,
    ]
    if day.network.limit_kva is not None:
        over.append((apparent - day.network.limit_kva) / base)
    return float(voltage.min()), float(max(each.max() for each in over))
