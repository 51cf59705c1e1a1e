"""Loops of the reduced day behind a penalty: its value function and what surprises do to it, compiled by numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Reduced", "surprises", "values"]

Floats = NDArray[np.float64]

_SEARCH = 14  # rounds of a golden section: to a thousandth of the range
_GOLDEN = 0.6180339887498949

_inlined = njit(cache=True, inline="always")


class Reduced(NamedTuple):
    """A day with one fleet and one number for the wind's error; see penalty_critic.

    Attributes:
        step_h, efficiency, gas_max_kw: of the instance.
        gas_price, gas_paid: (segments,) price of every piece [$/kWh], and cost rate of all pieces before it [$/h].
        wind_price, wear_price, emergency_price: [$/kWh]; wear with the subsidy.
        power_kw: (steps,) of all cars plugged in.
        low_kwh, high_kwh: (steps + 1,) limits of the energy gained since arrival, all cars together.
        error, error_gain: (errors,) grid of the mean error, and what a step leaves of it.
        shock: (outcomes,) what the step adds to the mean error.
        weight: (outcomes,) probabilities.
        need_kw, wind_kw: (steps, errors, outcomes) load minus wind and wind of a step, by the mean error before it.
        gate: 1 if the generator is fixed before load and wind are known.
    """

    step_h: float
    efficiency: float
    gas_max_kw: float
    gas_price: Floats
    gas_paid: Floats
    wind_price: float
    wear_price: float
    emergency_price: float
    power_kw: Floats
    low_kwh: Floats
    high_kwh: Floats
    error: Floats
    error_gain: float
    shock: Floats
    weight: Floats
    need_kw: Floats
    wind_kw: Floats
    gate: int


class _Step(NamedTuple):
    """Numbers of one step."""

    h: float
    gain: float
    loss: float
    power: float
    low: float
    high: float
    wind_price: float
    wear_price: float
    emergency_price: float


@njit(cache=True)
def _step_of(c, t):
    gain, loss = c.efficiency * c.step_h, c.step_h / c.efficiency
    low, high = c.low_kwh[t + 1], c.high_kwh[t + 1]
    return _Step(c.step_h, gain, loss, c.power_kw[t], low, high, c.wind_price, c.wear_price, c.emergency_price)


@_inlined
def _cost(c, gas):
    """Cost of the generator in a step [$]."""
    piece = c.gas_max_kw / len(c.gas_price)
    k = min(int(max(gas, 0.0) / piece), len(c.gas_price) - 1)
    return c.step_h * (c.gas_paid[k] + c.gas_price[k] * (gas - k * piece))


@_inlined
def _limits(s, energy):
    """Least and most power of the fleet [kW]."""
    least = -min(s.power, (energy - s.low) / s.loss) if energy > s.low else min(s.power, (s.low - energy) / s.gain)
    return least, max(min(s.power, (s.high - energy) / s.gain), least)


@_inlined
def _after(s, energy, power):
    """Energy after a step."""
    return min(max(energy + (s.gain if power > 0.0 else s.loss) * power, s.low), s.high)


@_inlined
def _total(s, energy, least, most, balance, wind, ahead):
    """Money of a step without the generator's cost plus the value ahead (levels,) [$]."""
    p = min(max(balance, least), most)
    rest = balance - p
    used = max(wind - max(rest, 0.0), 0.0)
    paid = s.wind_price * used + s.wear_price * max(-p, 0.0) + s.emergency_price * max(-rest, 0.0)
    value = ahead[0]
    if s.high > s.low:
        after = energy + (s.gain if p > 0.0 else s.loss) * p
        part = min(max((after - s.low) / (s.high - s.low), 0.0), 1.0) * (len(ahead) - 1) ** 2
        cell = min(int(np.sqrt(part)), len(ahead) - 2)
        value = ahead[cell] + (part - cell * cell) / (2 * cell + 1) * (ahead[cell + 1] - ahead[cell])
    return value - s.h * paid


@njit(cache=True)
def _mean(s, energy, gas, need, wind, weight, ahead):
    """Expected total over outcomes (m,); ``ahead`` (m, levels)."""
    least, most = _limits(s, energy)
    total = 0.0
    for m in range(len(need)):
        total += weight[m] * _total(s, energy, least, most, gas - need[m], wind[m], ahead[m])
    return total


@njit(cache=True)
def _best(c, s, energy, need, wind, weight, ahead):
    """Best expected value of a step, and the generator's power; concave, so that a golden section finds it."""
    a = min(max(need.min() - s.power, 0.0), c.gas_max_kw)
    b = min(max(need.max() + s.power, a), c.gas_max_kw)
    x, y = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    fx = _mean(s, energy, x, need, wind, weight, ahead) - _cost(c, x)
    fy = _mean(s, energy, y, need, wind, weight, ahead) - _cost(c, y)
    for _ in range(_SEARCH):
        if fx < fy:
            a, x, fx = x, y, fy
            y = a + _GOLDEN * (b - a)
            fy = _mean(s, energy, y, need, wind, weight, ahead) - _cost(c, y)
        else:
            b, y, fy = y, x, fx
            x = b - _GOLDEN * (b - a)
            fx = _mean(s, energy, x, need, wind, weight, ahead) - _cost(c, x)
    return (fx, x) if fx > fy else (fy, y)


@njit(cache=True)
def _column(c, value, error):
    """Values (levels,) at an error between the grid's points."""
    errors = len(c.error)
    place = min(max((error - c.error[0]) / (c.error[-1] - c.error[0]), 0.0), 1.0) * (errors - 1)
    cell = min(int(place), errors - 2)
    return value[:, cell] + (place - cell) * (value[:, cell + 1] - value[:, cell])


@njit(cache=True)
def values(c, levels):
    """Value (steps + 1, levels, errors) [$] of the rest of a reduced day.

    Args:
        c: the Reduced day.
        levels: points of the energy's grid, from the least to the largest of every step; their distances grow evenly,
            as values bend most where the fleet is nearly empty.
    """
    steps, errors, count = len(c.power_kw), len(c.error), len(c.weight)
    value = np.zeros((steps + 1, levels, errors))
    ahead = np.empty((count, levels))
    for t in range(steps - 1, -1, -1):
        s = _step_of(c, t)
        flat = c.high_kwh[t] <= c.low_kwh[t]
        for j in range(errors):
            for m in range(count):
                ahead[m] = _column(c, value[t + 1], c.error_gain * c.error[j] + c.shock[m])
            need, wind = c.need_kw[t, j], c.wind_kw[t, j]
            for i in range(1 if flat else levels):
                energy = c.low_kwh[t] + (c.high_kwh[t] - c.low_kwh[t]) * (i / (levels - 1)) ** 2
                if c.gate == 1:
                    value[t, i, j] = _best(c, s, energy, need, wind, c.weight, ahead)[0]
                    continue
                for m in range(count):
                    one = slice(m, m + 1)
                    found = _best(c, s, energy, need[one], wind[one], np.ones(1), ahead[one])[0]
                    value[t, i, j] += c.weight[m] * found
            if flat:
                value[t, 1:, j] = value[t, 0, j]
    return value


@njit(cache=True)
def _outcome(c, s, energy, gas, need, wind, ahead):
    """Total of one outcome; with the gate open (gas below 0) the generator answers it."""
    if gas < 0.0:
        return _best(c, s, energy, np.full(1, need), np.full(1, wind), np.ones(1), ahead.reshape(1, -1))[0]
    least, most = _limits(s, energy)
    return _total(s, energy, least, most, gas - need, wind, ahead) - _cost(c, gas)


@njit(cache=True)
def surprises(c, value, need, wind, error, node_need, node_wind, node_error, gas_width, energy_width):
    """Follow the best of the reduced day, and see what the surprise of every step is worth.

    Args:
        c: the Reduced day.
        value: (steps + 1, levels, errors) as ``values`` gives it.
        need: (steps, m) load minus wind in outcomes that are as likely as each other, first the one that happened.
        wind: (steps, m) the wind in them [kW].
        error: (steps, m) the mean error after the step.
        node_need: (steps, r) load minus wind in outcomes that the reference decides by.
        node_wind: (steps, r) likewise.
        node_error: (steps, r) likewise.
        gas_width: (g,) half-widths of the differences that stand for slopes in the generator's power [kW].
        energy_width: (e,) those for slopes in the energy, as shares of its range.

    Returns:
        (steps, 3 + g + e): the reference's power [kW] and energy gained [kWh], then surprises: of the value [$], of its
        slopes in the generator [$/kW] and in the energy [$/kWh]. A surprise is what happened minus the mean over all
        outcomes.
    """
    steps, count = need.shape
    g, e = len(gas_width), len(energy_width)
    found = np.zeros((steps, 3 + g + e))
    energy, gas = 0.0, -1.0
    levels, nodes = value.shape[1], node_need.shape[1]
    ahead, even = np.empty((nodes, levels)), np.full(nodes, 1.0 / nodes)
    here, sums = np.zeros(1 + g + e), np.zeros(1 + g + e)
    for t in range(steps):
        s = _step_of(c, t)
        if c.gate == 1:
            for m in range(nodes):
                ahead[m] = _column(c, value[t + 1], node_error[t, m])
            gas = _best(c, s, energy, node_need[t], node_wind[t], even, ahead)[1]
        floor, top = c.low_kwh[t], c.high_kwh[t]
        here[:] = 0.0
        sums[:] = 0.0
        for m in range(count - 1, -1, -1):  # the outcome that happened comes last and stays
            column = _column(c, value[t + 1], error[t, m])
            n, w = need[t, m], wind[t, m]
            here[0] = _outcome(c, s, energy, gas, n, w, column)
            if c.gate == 1:
                for k in range(g):
                    lower, upper = max(gas - gas_width[k], 0.0), min(gas + gas_width[k], c.gas_max_kw)
                    rise = _outcome(c, s, energy, upper, n, w, column) - _outcome(c, s, energy, lower, n, w, column)
                    here[1 + k] = rise / (upper - lower)
            if top > floor:
                for k in range(e):
                    half = energy_width[k] * (top - floor)
                    down, up = max(energy - half, floor), min(energy + half, top)
                    rise = _outcome(c, s, up, gas, n, w, column) - _outcome(c, s, down, gas, n, w, column)
                    here[1 + g + k] = rise / (up - down)
            sums += here
        found[t, 0], found[t, 1] = max(gas, 0.0), energy
        found[t, 2:] = here - sums / count
        happened = gas
        if c.gate == 0:
            one = np.ones(1)
            happened = _best(c, s, energy, need[t, :1], wind[t, :1], one, column.reshape(1, -1))[1]
        least, most = _limits(s, energy)
        energy = _after(s, energy, min(max(happened - need[t, 0], least), most))
    return found
