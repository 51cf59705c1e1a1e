"""The program of a day on a feeder: branch flow with second-order cones, devices, storage, robust envelope.

Branch flow at the sending end i of the line to bus j (Baran and Wu 1989; Farivar and Low 2013), per unit:

    P_j - r l_j - sum_k P_k = load_j - generation_j           (k: lines that leave j; Q alike with x)
    v_j = v_i - 2 (r P_j + x Q_j) + (r^2 + x^2) l_j
    l_j v_i >= P_j^2 + Q_j^2                                    (equality in a physical flow)

Robust envelope. The dispatch of all devices stays as planned and the substation settles the difference, so loads
load_j (1 + h_j xi_j) change the flow only through the network. With lossless flows P', Q', v' the true ones are

    P = P' + (sum of r l over the line and all lines below it) >= P',     v = v' - H l <= v'  with H >= 0,

both linear in the currents l >= 0. So if numbers L >= 0 satisfy L_j >= (P^2 + Q^2) / v_i for every P in
[P', P'(xi) + r L...], Q alike, v_i >= v'_i - H L, and every xi of the set, then the map from currents to currents
l -> (P(l)^2 + Q(l)^2) / v(l) takes the box [0, L] into itself; it is continuous, so by Brouwer's theorem a power flow
with currents in [0, L] exists for every xi, and the iteration that starts without losses never leaves the box. Its
voltages lie between v' - H L and v', its flows between P' and P' + r L.... The extremes of P', Q', v' over the set
are their nominal values plus and minus the set's support function of a constant vector (FeederDay.spread), so

    A_j >= |P| bounds,  B_j >= |Q| bounds,  L_j (lowest v_i) >= A_j^2 + B_j^2

is a convex inner approximation: every limit holds for all loads in the set, including loads between its extreme
points and feeders that feed back. (Chiang and Baran 1990: a radial feeder has one solution with sound voltages.)
What the ellipsoid promises is about its own loads. For independent symmetric xi_j in [-1, 1] each of the linear forms
passes its spread with probability at most exp(-omega^2 / 2); a limit rests on several of them, so that number is a
guide to a limit's violation and no bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, eye

from baselines.scheduling.conic_bound import ConicData
from baselines.scheduling.conic_layout import Layout, Rows
from baselines.scheduling.conic_vehicles import vehicle_rows
from baselines.scheduling.feeder_day import FeederDay

__all__ = ["DayProgram", "Grid", "blocks_of", "build", "grid_of", "spread_of_flow", "spread_of_voltage"]

Floats = NDArray[np.float64]


class Grid(NamedTuple):
    """A feeder per unit; branch j - 1 is the line above bus j.

    Attributes:
        base_kva: sum of the feeder's apparent loads, so that flows are of order 1.
        r, x: (branches,) impedances.
        above: (branches, branches) 1 where the column's bus is the upper end of the row's line.
        root: (branches,) 1 where that end is the substation.
        below: (branches, branches) 1 where the column's bus hangs below the row's line.
    """

    base_kva: float
    r: Floats
    x: Floats
    above: Floats
    root: Floats
    below: Floats


class DayProgram(NamedTuple):
    """A day's conic program with the places of its variables."""

    day: FeederDay
    grid: Grid
    layout: Layout
    data: ConicData


def grid_of(day: FeederDay) -> Grid:
    """Per-unit data of a day's feeder."""
    feeder = day.network
    base_kva = max(float(np.hypot(feeder.p_kw, feeder.q_kvar).sum()), 1e-3)
    ohm = 1e3 * feeder.base_kv**2 / base_kva
    line = feeder.tree.line_above[1:]
    parent = feeder.tree.parent[1:]
    above = (parent[:, None] == np.arange(1, feeder.buses)).astype(np.float64)
    below = feeder.tree.below[line][:, 1:]
    return Grid(
        base_kva, feeder.r_ohm[line] / ohm, feeder.x_ohm[line] / ohm, above, (parent == 0).astype(np.float64), below
    )


def build(day: FeederDay) -> DayProgram:
    """All variables, bounds and rows of a day; the generator's states are bounded to [0, 1]."""
    grid = grid_of(day)
    layout = Layout()
    _devices(day, grid, layout)
    _network(day, grid, layout)
    _objective(day, grid, layout)
    rows = Rows(layout, day.steps)
    _flow_rows(day, grid, rows)
    _device_rows(day, grid, rows)
    if day.robust == "none":
        _flow_limits(day, grid, rows, "p", "q")
    else:
        _envelope(day, grid, rows)
    return DayProgram(day, grid, layout, rows.data())


def blocks_of(day: FeederDay) -> csr_matrix:
    """(steps, blocks) 1 where a step belongs to a block of the generator's states."""
    block = np.arange(day.steps) // day.gas_block_steps
    return csr_matrix((np.ones(day.steps), (np.arange(day.steps), block)))


def _devices(day: FeederDay, grid: Grid, layout: Layout) -> None:
    steps, base = day.steps, grid.base_kva
    vehicles, turbines = (steps, len(day.ev_buses)), (steps, len(day.wind_buses))
    blocks = (blocks_of(day).shape[1],)
    q_gas, q_wind, q_ev = (day.reactive * kva / base for kva in (day.gas_kva, day.wind_kva, day.ev_kva))
    power = day.ev_power_limit_kw.T / base
    low, high = (limit.T[1:] / base for limit in day.ev_corridor_kwh)
    layout.add("gas_p", (steps, 1), 0.0, day.gas_max_kw / base, given=True)
    layout.add("gas_q", (steps, 1), -q_gas, q_gas, given=False)
    layout.add("gas_on", blocks, 0.0, 1.0, given=True)
    layout.add("gas_start", blocks, 0.0, 1.0, given=True)
    layout.add("wind_p", turbines, 0.0, np.array(day.wind_kw)[:, None] / base, given=True)
    layout.add("wind_q", turbines, -q_wind, q_wind, given=False)
    layout.add("charge", vehicles, 0.0, power, given=True)
    layout.add("discharge", vehicles, 0.0, power, given=True)
    layout.add("energy", vehicles, low, high, given=True)
    layout.add("ev_q", vehicles, -q_ev, q_ev, given=False)
    layout.add("ev_reserve", vehicles, 0.0, 2.0 * power, given=True)
    car, step = day.visits.T
    low, high = (limit[car, step + 1] / base for limit in day.car_corridor_kwh)
    for name in ("car_charge", "car_discharge"):
        layout.add(name, car.shape, 0.0, day.ev_power_kw / base, given=True)
    layout.add("car_energy", car.shape, low, high, given=True)
    layout.add("car_reserve", car.shape, 0.0, 2.0 * day.ev_power_kw / base, given=True)


def _most_current(day: FeederDay, grid: Grid) -> Floats:
    """(branches,) current that no line exceeds: that of everything below it at the lowest voltage, in phase."""
    load = np.hypot(day.load_kw, day.load_kvar).max(axis=0) * (1.0 + np.array(day.half_width))
    total = np.broadcast_to(load, (day.network.buses,)).copy()
    total[day.gas_bus] += day.gas_kva
    np.add.at(total, np.array(day.wind_buses, np.int64), day.wind_kva)
    np.add.at(total, np.array(day.ev_buses, np.int64), day.ev_kva)
    return np.asarray((grid.below @ total[1:]) / grid.base_kva / day.v_min_pu + 1e-3)


def _network(day: FeederDay, grid: Grid, layout: Layout) -> None:
    shape = (day.steps, len(grid.r))
    current = _most_current(day, grid)
    reach = day.v_max_pu * current
    low, high = day.v_min_pu**2, day.v_max_pu**2
    top = float(grid.root @ reach)
    least = day.substation_min_kw / grid.base_kva
    layout.add("source_p", (day.steps, 1), least, max(top, least), given=True)
    for name in ("p", "q"):
        layout.add(name, shape, -reach, reach, given=False)
    layout.add("l", shape, 0.0, current**2, given=False)
    layout.add("v", shape, low, high, given=day.robust == "none")  # the envelope implies them
    if day.robust == "none":
        return
    # the envelope combines extremes that no single load has, hence twice the current
    for name in ("p_high", "q_high", "p_low", "q_low"):
        layout.add(name, shape, -2.0 * reach, 2.0 * reach, given=False)
    for name in ("p_most", "q_most"):
        layout.add(name, shape, 0.0, 2.0 * reach, given=False)
    layout.add("l_most", shape, 0.0, 4.0 * current**2, given=True)  # free of cost: it would drift
    deviation = spread_of_voltage(day, grid)
    # of these bounds the envelope's rows give the solver those that can bind
    layout.add("v_least", shape, low + deviation, np.maximum(high, low + deviation), given=False)
    layout.add("v_lossless", shape, np.minimum(low, high - deviation), high - deviation, given=False)


def _objective(day: FeederDay, grid: Grid, layout: Layout) -> None:
    base, hours = grid.base_kva, day.step_h
    if day.objective == "losses":
        layout.price("l", hours * base * grid.r)
        return
    price = np.array(day.price_usd_per_kwh)[:, None] * hours * base
    layout.price("source_p", price, 2.0 * day.substation_usd_per_kw2h * hours * base**2)
    layout.price("gas_p", day.gas_usd_per_kwh * hours * base, 2.0 * day.gas_usd_per_kw2h * hours * base**2)
    layout.price("gas_on", day.gas_on_usd_per_h * hours * np.asarray(blocks_of(day).sum(axis=0)).ravel())
    layout.price("gas_start", day.gas_start_usd)


def _injections(day: FeederDay, rows: Rows) -> tuple[dict[str, csr_matrix], dict[str, csr_matrix]]:
    """Active and reactive generation at the branches' lower buses."""

    def place(buses: tuple[int, ...]) -> csr_matrix:
        size = (day.network.buses - 1, len(buses))
        at = (np.array(buses, np.int64) - 1, np.arange(len(buses)))
        return rows.each(csr_matrix((np.ones(len(buses)), at), shape=size))

    gas, wind, vehicles = place((day.gas_bus,)), place(day.wind_buses), place(day.ev_buses)
    active = {"gas_p": gas, "wind_p": wind, "discharge": vehicles, "charge": -vehicles}
    return active, {"gas_q": gas, "wind_q": wind, "ev_q": vehicles}


def _flow_rows(day: FeederDay, grid: Grid, rows: Rows) -> None:
    """Branch flow of the nominal loads, with its cones."""
    _balance(day, grid, rows, "p", "q", "v", "l")
    rows.equal({"source_p": rows.each([[1.0]]), "p": -rows.each(grid.root[None, :])}, np.zeros(day.steps))
    upper_end = {"v": rows.each(grid.above)}
    _current_cone(day, rows, ("l", "p", "q"), upper_end, np.tile(day.source_pu**2 * grid.root, day.steps))


def _balance(day: FeederDay, grid: Grid, rows: Rows, p: str, q: str, v: str, loss: str | None) -> None:
    """Power balance and voltage drop for one set of flows, with the losses of the currents ``loss`` or without."""
    count = len(grid.r)
    leave = rows.each(eye(count) - csr_matrix(grid.above.T))
    for flow, load, z, generation in zip(
        (p, q), (day.load_kw, day.load_kvar), (grid.r, grid.x), _injections(day, rows), strict=True
    ):
        lost = {} if loss is None else {loss: -rows.each(diags(z))}
        rows.equal({flow: leave} | lost | generation, load[:, 1:] / grid.base_kva)
    drop = {p: rows.each(diags(2.0 * grid.r)), q: rows.each(diags(2.0 * grid.x))}
    lost = {} if loss is None else {loss: -rows.each(diags(grid.r**2 + grid.x**2))}
    source = np.tile(day.source_pu**2 * grid.root, day.steps)
    rows.equal({v: rows.each(eye(count) - csr_matrix(grid.above))} | drop | lost, source)


def _current_cone(
    day: FeederDay, rows: Rows, names: tuple[str, str, str], voltage: dict[str, csr_matrix], constant: Floats
) -> None:
    """Current times voltage at least p^2 + q^2, as ||(2p, 2q, l - v)|| <= l + v."""
    current, p, q = names
    count = len(constant)
    twice, once = 2.0 * eye(count, format="csr"), eye(count, format="csr")
    less = {name: -matrix for name, matrix in voltage.items()}
    rows.cone(
        ({current: once} | voltage, constant),
        ({p: twice}, 0.0),
        ({q: twice}, 0.0),
        ({current: once} | less, -constant),
        count=count,
    )


def _power_cone(rows: Rows, p: dict[str, csr_matrix], q: dict[str, csr_matrix], kva: Floats) -> None:
    rows.cone(({}, kva), (p, 0.0), (q, 0.0), count=len(kva))


def _device_rows(day: FeederDay, grid: Grid, rows: Rows) -> None:
    base, steps = grid.base_kva, day.steps
    unit, on = eye(steps, format="csr"), blocks_of(day)
    rows.at_most({"gas_p": unit, "gas_on": -day.gas_max_kw / base * on}, np.zeros(steps))
    rows.at_most({"gas_p": -unit, "gas_on": day.gas_min_kw / base * on}, np.zeros(steps))
    rows.cone(({"gas_on": day.gas_kva / base * on}, 0.0), ({"gas_p": unit}, 0.0), ({"gas_q": unit}, 0.0), count=steps)
    change = csr_matrix(unit[1:] - unit[:-1])
    for sign in (1.0, -1.0):
        rows.at_most({"gas_p": sign * change}, np.full(steps - 1, day.gas_ramp_kw / base))
    blocks = on.shape[1]
    start = eye(blocks, format="csr") - eye(blocks, k=-1, format="csr")
    before = np.zeros(blocks)
    before[0] = float(day.gas_on_before)
    rows.at_most({"gas_on": start, "gas_start": -eye(blocks, format="csr")}, before)
    turbines = steps * len(day.wind_buses)
    every = eye(turbines, format="csr")
    _power_cone(rows, {"wind_p": every}, {"wind_q": every}, np.full(turbines, day.wind_kva / base))
    vehicle_rows(day, base, rows)
    kept = {"gas_p": unit, "ev_reserve": -rows.each(np.ones((1, len(day.ev_buses))))}
    rows.at_most(kept | {"gas_on": -day.gas_max_kw / base * on}, -day.reserve_kw / base)


def _flow_limits(day: FeederDay, grid: Grid, rows: Rows, p: str, q: str) -> None:
    """Apparent power of lines and substation."""
    feeder, size = day.network, day.steps * len(grid.r)
    if feeder.limit_kva is not None:
        every = eye(size, format="csr")
        limit = np.tile(feeder.limit_kva[feeder.tree.line_above[1:]] / grid.base_kva, day.steps)
        _power_cone(rows, {p: every}, {q: every}, limit)
    root = rows.each(grid.root[None, :])
    _power_cone(rows, {p: root}, {q: root}, np.full(day.steps, day.substation_kva / grid.base_kva))


def spread_of_flow(day: FeederDay, grid: Grid) -> tuple[Floats, Floats]:
    """(steps, branches) largest change of the lossless flows over the set of loads."""
    below = np.pad(grid.below, ((0, 0), (1, 0)))
    p, q = (day.spread(below * load[:, None, :]) / grid.base_kva for load in (day.load_kw, day.load_kvar))
    return p, q


def spread_of_voltage(day: FeederDay, grid: Grid) -> Floats:
    """(steps, branches) largest change of the lossless squared voltage of the branches' lower buses."""
    drop = [np.pad(grid.below.T @ (2.0 * z[:, None] * grid.below), ((0, 0), (1, 0))) for z in (grid.r, grid.x)]
    effect = drop[0] * day.load_kw[:, None, :] + drop[1] * day.load_kvar[:, None, :]
    return np.asarray(day.spread(effect) / grid.base_kva)


def _envelope(day: FeederDay, grid: Grid, rows: Rows) -> None:
    """Limits for every load of the set, see the top of this file."""
    _balance(day, grid, rows, "p_high", "q_high", "v_least", "l_most")
    _balance(day, grid, rows, "p_low", "q_low", "v_lossless", None)
    every = eye(day.steps * len(grid.r), format="csr")
    deviation = spread_of_voltage(day, grid)
    rows.at_most({"v_least": -every}, -(day.v_min_pu**2 + deviation))
    rows.at_most({"v_lossless": every}, day.v_max_pu**2 - deviation)
    for flow, change in zip("pq", spread_of_flow(day, grid), strict=True):
        rows.at_most({f"{flow}_high": every, f"{flow}_most": -every}, -change)
        rows.at_most({f"{flow}_low": -every, f"{flow}_most": -every}, -change)
    lowest = np.tile(day.source_pu**2 * grid.root, day.steps) - (deviation @ grid.above.T).ravel()
    _current_cone(day, rows, ("l_most", "p_most", "q_most"), {"v_least": rows.each(grid.above)}, lowest)
    _flow_limits(day, grid, rows, "p_most", "q_most")
    total = day.spread(day.load_kw) / grid.base_kva
    least = -day.substation_min_kw / grid.base_kva - total
    rows.at_most({"p_low": -rows.each(grid.root[None, :])}, least)
