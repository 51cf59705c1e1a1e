"""The physics of a step as loops over rows, compiled by numba; model.py is the readable entrance.

All functions take and return arrays with a leading batch axis; row i never looks at another row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "PER_HOME",
    "SCALE_KW",
    "SCALE_KWH",
    "Constants",
    "State",
    "bands",
    "observe_kernel",
    "set_points",
    "settle",
    "share_imbalance",
    "share_out",
]

Floats = NDArray[np.float64]

SCALE_KWH = 10.0  # unit of the scaled violation f
SCALE_KW = 500.0  # unit of observed powers
PER_HOME = 7  # observed numbers of an aggregator, apart from those who leave soon


# divisors are positive by construction: the test for zero would cost a third of the time
_compiled = njit(cache=True, error_model="numpy")
_inlined = njit(
    cache=True, error_model="numpy", inline="always"
)  # handing Constants over costs more than these short functions


class Constants(NamedTuple):
    """Numbers of an instance in the form that the loops want."""

    steps: int
    step_h: float
    charger_kw: float
    efficiency: float
    least_kwh: float
    most_kwh: float
    gas_max_kw: float
    ramp_kw: float
    gas_scale: float
    gas_prices: Floats
    wind_price: float
    wear_price: float
    subsidy_price: float
    emergency_price: float
    overload_price: float
    reference_usd: float
    reserve_share: float
    band_kw: float
    gate: int
    battery_kwh: float
    owner: NDArray[np.int64]
    homes: int
    home_bus: NDArray[np.int64]
    turbine_bus: NDArray[np.int64]
    below: Floats
    limit_kw: Floats
    load_mean_kw: Floats
    leads: NDArray[np.int64]
    fade: Floats
    quality: float
    common: float
    grid: Floats
    mean_table: Floats
    sd_table: Floats
    wind_top_kw: float
    load_top_kw: float


class State(NamedTuple):
    """Where the days are: steps done (n,), energy of cars (n, cars) [kWh], last power of the generator (n,) [kW]."""

    t: NDArray[np.int64]
    energy_kwh: Floats
    gas_kw: Floats


@_compiled
def bands(c, t, energy, arrive, depart, target):
    """Power limits of the cars of every row: (n, cars, 5) [kW].

    Least power from which the target can still be reached; idle: the larger of that and 0; most power; power limits of
    the part of the battery above the target: discharging to it (at most 0), charging up to it (at least idle).
    """
    n, cars = energy.shape
    limits = np.zeros((n, cars, 5))
    gain, p = c.efficiency * c.step_h, c.charger_kw
    loss = c.step_h / c.efficiency
    for i in range(n):
        for j in range(cars):
            if t[i] < arrive[i, j] or t[i] >= depart[i, j]:
                continue
            e, wanted = energy[i, j], target[i, j]
            later = max(c.least_kwh, wanted - (depart[i, j] - t[i] - 1) * gain * p)
            low = (later - e) / gain if later > e else -min(p, (e - later) / loss)
            low = min(low, p)
            high = max(min(p, (c.most_kwh - e) / gain), low, 0.0)  # 0: e may exceed the most by rounding
            row = limits[i, j]
            row[0], row[1], row[2] = low, max(low, 0.0), high
            row[3] = max(low, -max(e - wanted, 0.0) / loss) if low < 0.0 else row[1]
            row[4] = min(max(row[1], (wanted - e) / gain), high)
    return limits


@_inlined
def _sum(c, limits, i, total):
    """Fill ``total`` (aggregators, 5) with the sums over the cars of each aggregator in row i."""
    total[:] = 0.0
    for j in range(len(c.owner)):
        a = c.owner[j]
        for k in range(5):
            total[a, k] += limits[i, j, k]


@_inlined
def _shares(wish, near, far):
    """Shares of the near and then of the far part of a range that make up ``wish``; all of one sign."""
    size, first, second = abs(wish), 0.0, 0.0
    if near != 0.0:
        first = min(size / abs(near), 1.0)
    rest = size - abs(near)
    if rest > 0.0 and far != 0.0:
        second = min(rest / abs(far), 1.0)
    return first, second


@_compiled
def share_out(c, limits, wanted):
    """Power of the cars (n, cars) from powers of the aggregators (n, aggregators), within their limits.

    Above idle, cars below their targets are charged first, in proportion to what they can take; below idle, cars above
    their targets are discharged first.
    """
    n, cars = limits.shape[0], limits.shape[1]
    power = np.empty((n, cars))
    idle, share = np.empty(c.homes), np.empty((c.homes, 2))
    near, far = np.empty((c.homes, 2)), np.empty((c.homes, 2))  # up, down
    for i in range(n):
        idle[:], near[:], far[:] = 0.0, 0.0, 0.0
        for j in range(cars):
            a = c.owner[j]
            idle[a] += limits[i, j, 1]
            near[a, 0] += limits[i, j, 4] - limits[i, j, 1]
            far[a, 0] += limits[i, j, 2] - limits[i, j, 4]
            near[a, 1] += limits[i, j, 3] - limits[i, j, 1]
            far[a, 1] += limits[i, j, 0] - limits[i, j, 3]
        for a in range(c.homes):
            wish = wanted[i, a] - idle[a]
            down = 1 if wish < 0.0 else 0
            share[a, 0], share[a, 1] = _shares(wish, near[a, down], far[a, down])
        for j in range(cars):
            a = c.owner[j]
            low = limits[i, j, 1]
            middle, high = limits[i, j, 4], limits[i, j, 2]
            if wanted[i, a] < idle[a]:
                middle, high = limits[i, j, 3], limits[i, j, 0]
            power[i, j] = low + share[a, 0] * (middle - low) + share[a, 1] * (high - middle)
    return power


@_inlined
def _within(c, t, lead):
    """The longest lead that is no longer than this one and ends within the day; at the end the first."""
    while lead > 0 and t + c.leads[lead] > c.steps:
        lead -= 1
    return lead


@_inlined
def expected_wind(c, t, i, forecast, news, wind, lead):
    """Mean and standard deviation [kW] of all turbines of row i ``c.leads[lead]`` steps ahead (1: that being decided).

    Leads beyond the last step stand for the longest within the day.
    """
    known = min(t + 1 - c.gate, c.steps)
    lead = _within(c, t, lead)
    at = min(t + c.leads[lead], c.steps)  # index of the step looked at
    age = at - known
    mean, squares, total = 0.0, 0.0, 0.0
    error = np.sqrt(1.0 - c.quality**2) * c.fade[lead]
    least, width, last = c.grid[0], c.grid[1] - c.grid[0], len(c.grid) - 2
    for k in range(wind.shape[2]):  # whole indices, as views of rows cost more than the arithmetic
        if age <= 0 or c.quality == 1.0:
            mean += wind[i, at, k]
            continue
        latent = c.quality * forecast[i, at, k] + error * news[i, known, k]
        place = (min(max(latent, least), c.grid[-1]) - least) / width
        cell = min(int(place), last)
        part = place - cell
        mean += (1.0 - part) * c.mean_table[lead, at - 1, cell] + part * c.mean_table[lead, at - 1, cell + 1]
        if lead == 0:
            sd = (1.0 - part) * c.sd_table[at - 1, cell] + part * c.sd_table[at - 1, cell + 1]
            squares += sd**2
            total += sd
    return mean, np.sqrt((1.0 - c.common) * squares + c.common * total**2)


@_compiled
def set_points(c, t, gas, limits, forecast, news, load, wind, action):
    """Generator (n,) and aggregators (n, aggregators) [kW] that actions (n, 2 + aggregators) mean.

    The generator follows the expected net load, moved by the action, within its ramp and limits; an aggregator lies
    between its cars' least and most power, and is idle at 0.
    """
    n = len(t)
    wanted = np.empty((n, c.homes))
    power, total = np.empty(n), np.empty((c.homes, 5))
    for i in range(n):
        _sum(c, limits, i, total)
        s = min(t[i], c.steps - 1)
        net = -expected_wind(c, t[i], i, forecast, news, wind, 0)[0]
        for a in range(c.homes):
            x = action[i, 1 + a]
            low, idle, high = total[a, 0], total[a, 1], total[a, 2]
            wanted[i, a] = idle + (x * (high - idle) if x > 0.0 else -x * (low - idle))
            net += wanted[i, a] + (c.load_mean_kw[s, a] if c.gate == 1 else load[i, s + 1, a])
        target = net + c.band_kw * action[i, 0]
        power[i] = min(max(target, gas[i] - c.ramp_kw, 0.0), gas[i] + c.ramp_kw, c.gas_max_kw)
    return power, wanted


@_compiled
def share_imbalance(c, t, limits, load, wind, gas, wanted, share):
    """Powers (n, aggregators) once the step's imbalance has taken its share of what is left of their bands."""
    n = len(t)
    settled, total = wanted.copy(), np.empty((c.homes, 5))
    for i in range(n):
        s = min(t[i], c.steps - 1) + 1
        surplus = gas[i]
        for k in range(wind.shape[2]):
            surplus += wind[i, s, k]
        _sum(c, limits, i, total)
        room = 0.0
        for a in range(c.homes):
            surplus -= load[i, s, a] + wanted[i, a]
        edge = 0 if surplus < 0.0 else 2
        for a in range(c.homes):
            room += abs(total[a, edge] - wanted[i, a])
        if room > 0.0:
            x = min(share[i], abs(surplus) / room)
            for a in range(c.homes):
                settled[i, a] += x * (total[a, edge] - wanted[i, a])
    return settled


@_compiled
def settle(c, t, energy, arrive, depart, load, wind, gas, power, limits):
    """Close a step with the generator at ``gas`` (n,) and cars at ``power`` (n, cars) [kW], within ``limits``.

    Returns:
        energy (n, cars) afterwards; money (n, 7) [$]; facts (n, 9): see Model.step.
    """
    n, cars = energy.shape
    after = energy.copy()
    money, facts = np.zeros((n, 7)), np.zeros((n, 9))
    lines, buses = c.below.shape
    for i in range(n):
        s = min(t[i], c.steps - 1) + 1
        use = np.zeros(buses)
        charging, discharging, spare = 0.0, 0.0, c.gas_max_kw - gas[i]
        for j in range(cars):
            if t[i] < arrive[i, j] or t[i] >= depart[i, j]:
                continue
            p = power[i, j]
            use[c.home_bus[c.owner[j]]] += p
            spare += p - limits[i, j, 0]
            if p > 0.0:
                charging += p
                after[i, j] += c.efficiency * c.step_h * p
            else:
                discharging -= p
                after[i, j] += c.step_h / c.efficiency * p
        homes, available = 0.0, 0.0
        for a in range(c.homes):
            homes += load[i, s, a]
            use[c.home_bus[a]] += load[i, s, a]
        for k in range(wind.shape[2]):
            available += wind[i, s, k]
        balance = gas[i] + available + discharging - charging - homes
        missing = max(-balance, 0.0)
        used = max(available - max(balance, 0.0), 0.0)
        if available > 0.0:
            for k in range(wind.shape[2]):
                use[c.turbine_bus[k]] -= wind[i, s, k] * used / available
        over = 0.0
        for line in range(lines):
            flow = 0.0
            for b in range(buses):
                flow += c.below[line, b] * use[b]
            over += max(abs(flow) - c.limit_kw[line], 0.0)
        cost, rest, piece = 0.0, gas[i], c.gas_max_kw / len(c.gas_prices)
        for slope in c.gas_prices:
            cost += slope * min(max(rest, 0.0), piece)
            rest -= piece
        h = c.step_h
        money[i, 0] = c.reference_usd
        money[i, 1] = -c.gas_scale * cost * h
        money[i, 2] = -c.wind_price * used * h
        money[i, 3] = -c.wear_price * discharging * h
        money[i, 4] = -c.subsidy_price * discharging * h
        money[i, 5] = -c.emergency_price * missing * h
        money[i, 6] = -c.overload_price * over * h
        facts[i, 0] = max(missing, over) * h / SCALE_KWH
        facts[i, 1] = missing * h
        facts[i, 2] = over * h
        facts[i, 3] = gas[i]
        facts[i, 4] = charging - discharging
        facts[i, 5] = homes
        facts[i, 6] = used
        facts[i, 7] = available
        facts[i, 8] = max(c.reserve_share * homes - spare, 0.0)
    return after, money, facts


@_compiled
def observe_kernel(c, t, energy, gas, limits, forecast, news, load, wind, arrive, depart, horizons, width):
    """Observations (n, width) float32 at the start of a step; see Model.observation_layout."""
    n, cars = energy.shape
    seen = np.zeros((n, width), np.float32)
    leads, later = len(c.leads), len(horizons)
    total = np.empty((c.homes, 5))
    tally = np.empty((c.homes, 3 + later))  # cars here, energy, cars to come, leaving
    for i in range(n):
        row = seen[i]
        row[0] = gas[i] / SCALE_KW
        last = min(t[i] + 1 - c.gate, c.steps)
        used, given = 0.0, 0.0
        for a in range(c.homes):
            used += load[i, last, a]
        for k in range(wind.shape[2]):
            given += wind[i, last, k]
        row[1] = min(used, c.load_top_kw) / SCALE_KW
        row[2] = given / SCALE_KW
        if t[i] >= c.steps:
            continue
        at = 3
        for lead in range(leads):
            mean, sd = expected_wind(c, t[i], i, forecast, news, wind, lead)
            row[at + leads + lead] = min(mean, c.wind_top_kw) / SCALE_KW
            s = t[i] + c.leads[_within(c, t[i], lead)] - 1
            need = 0.0
            for a in range(c.homes):
                need += load[i, s + 1, a] if c.gate == 0 and s == t[i] else c.load_mean_kw[s, a]
            row[at + lead] = min(need, c.load_top_kw) / SCALE_KW
            if lead == 0:
                row[at + 2 * leads] = sd / SCALE_KW
        at += 2 * leads + 1
        tally[:] = 0.0
        for j in range(cars):
            a = c.owner[j]
            left = depart[i, j] - t[i]
            if t[i] < arrive[i, j]:
                tally[a, 2] += 1.0
            elif left > 0:
                tally[a, 0] += 1.0
                tally[a, 1] += max(energy[i, j], 0.0) / c.battery_kwh  # rounding may take an empty car below 0
                if left <= horizons[later - 1]:  # they ascend
                    for k in range(later):
                        tally[a, 3 + k] += left <= horizons[k]
        _sum(c, limits, i, total)
        for a in range(c.homes):
            row[at] = tally[a, 0] / max(cars, 1)
            row[at + 1] = tally[a, 1] / max(cars, 1)
            idle = total[a, 1]
            row[at + 2] = idle / SCALE_KW
            row[at + 3] = (total[a, 2] - idle) / SCALE_KW
            row[at + 4] = (idle - total[a, 0]) / SCALE_KW
            row[at + 5] = (total[a, 4] - idle) / SCALE_KW
            for k in range(1 + later):
                row[at + 6 + k] = tally[a, 2 + k] / max(cars, 1)
            at += PER_HOME + later
        angle = 2.0 * np.pi * t[i] / c.steps
        row[at] = t[i] / c.steps
        row[at + 1] = 0.5 + 0.5 * np.sin(angle)
        row[at + 2] = 0.5 + 0.5 * np.cos(angle)
    return seen
