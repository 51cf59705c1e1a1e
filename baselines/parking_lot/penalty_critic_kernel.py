"""Loops of the penalty's critic, compiled by numba: a small dynamic programme for every base day.

penalty.py says what the critic is for. Any function would do for a valid bound; a good one makes it tight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["NEVER", "Rules", "atoms", "critic", "highest", "money", "moved", "terms", "value_at"]

Floats = NDArray[np.float64]

NEVER = -1e15  # money of what cannot be done [$]


class Rules(NamedTuple):
    """Numbers of an instance, of the market's nodes and of the grids, in the form that the loops want."""

    eta: float
    step_h: float
    grid_kw: float
    imbalance: float
    wear: float
    sell: float
    fee: float
    back: float
    buy: Floats  # (T,)
    refill: Floats  # (T,) price of energy that is moved from a leaving car to another [$/kWh]
    ratio: Floats  # (T,) the gate's range, as a multiple of K
    plan: Floats  # (T,)
    node_surplus: Floats  # (T, L) offers at the market's nodes [kW]
    node_deficit: Floats
    shift: Floats  # (L, L): values at the nodes -> their conditional mean one step before
    levels: Floats  # of the capacity around a day's mean, in standard deviations, evenly spaced
    points: Floats  # quadrature of a standard normal
    shares: Floats
    knots: int  # intervals of the critic's grid over the stored energy
    path: int  # intervals of the path's grid


@njit(cache=True)
def money(change, buy, surplus, deficit, r):
    """Money of one step's exchange [$]; NEVER beyond the grid limit."""
    if change >= 0.0:
        energy = change / r.eta
        taken = min(energy, surplus * r.step_h)
        rest = energy - taken
        if rest > r.grid_kw * r.step_h * (1.0 + 1e-12) + 1e-9:
            return NEVER
        return -(r.fee * buy + r.wear) * taken - (buy + r.wear) * rest
    energy = -change * r.eta
    returned = min(energy, deficit * r.step_h)
    rest = energy - returned
    if rest > r.grid_kw * r.step_h * (1.0 + 1e-12) + 1e-9:
        return NEVER
    return (r.back * buy - r.wear) * returned + (r.sell * buy - r.wear) * rest


@njit(cache=True)
def value_at(values, x, width):
    """Value at x of the piecewise linear function with ``values`` on the grid of ``width``; constant beyond it."""
    place = x / width
    last = len(values) - 1
    low = min(max(int(place), 0), last - 1)
    share = min(max(place - low, 0.0), 1.0)
    return values[low] + share * (values[low + 1] - values[low])


@njit(cache=True)
def highest(step, capacity, stored, r):
    """Most energy that can be fixed for ``step`` at the gate before it, where ``capacity`` is seen [kWh]."""
    reach = max(capacity * r.ratio[step - 1], r.plan[step] + 2e-3)  # the environment meets a plan's point within 1e-3
    return max(reach, stored - r.step_h / r.eta * r.grid_kw)  # what a narrow grid leaves in the cars stays fixed


@njit(cache=True)
def moved(change, left):
    """Energy that goes from leaving cars to others, if those hold ``left`` and the stored energy changes [kWh]."""
    return max(min(left, change + left), 0.0)


@njit(cache=True)
def _choose(width, table, hope, top, left, price, value):
    """Write max over c of money(c - x) - refilling + hope(c) for every x on the grid; c on the grid up to ``top`` too.

    The best c hardly ever falls with x: the search goes on from the last one.
    """
    count = len(hope)
    last = count - 1 if top >= width * (count - 1) else int(np.ceil(top / width))
    best = 0
    for i in range(count):
        most = max(last, i)
        best = min(best, most)
        found = table[best - i + count - 1] + hope[best] - price * moved((best - i) * width, left[i])
        while best < most:
            other = table[best + 1 - i + count - 1] + hope[best + 1] - price * moved((best + 1 - i) * width, left[i])
            if other < found:
                break
            best, found = best + 1, other
        value[i] = found


@njit(cache=True)
def critic(mean, spread, slope, noise, left, width, r):
    """Values (days, T, levels, L, G) of the critic's chain of every base day, backwards.

    In the chain the capacity is K_t = mean_t + spread_t level, and K_{t+1} = mean_{t+1} + slope_t (K_t - mean_t) +
    noise_t e with e standard normal, taken at quadrature points.

    Args:
        mean: (days, T) of K [kWh].
        spread: (days, T) between levels one apart [kWh].
        slope: (days, T) without unit.
        noise: (days, T) [kWh].
        left: (days, T, G) energy that the cars leaving in a step hold, by stored energy before it [kWh].
        width: of the grid of stored energies [kWh].
        r: Rules.
    """
    days, steps = mean.shape
    nodes, count, levels = r.node_surplus.shape[1], r.knots + 1, len(r.levels)
    tables = _tables(width, r)
    values = np.zeros((days, steps, levels, nodes, count))
    after = np.zeros((levels, nodes, count))
    hope = np.zeros((nodes, count))
    for i in range(days):
        for t in range(steps - 2, 0, -1):
            for k in range(levels):
                np.dot(r.shift, values[i, t + 1, k], after[k])
            for k in range(levels):
                here = max(mean[i, t] + spread[i, t] * r.levels[k], 0.0)
                hope[:] = 0.0
                for g in range(len(r.points)):
                    held = mean[i, t + 1] + slope[i, t] * (here - mean[i, t]) + noise[i, t] * r.points[g]
                    held = max(held, 0.0) if t + 1 < steps - 1 else 0.0
                    low, part = _level(held, mean[i, t + 1], spread[i, t + 1], r.levels)
                    for j in range(count):
                        c_kwh = j * width
                        over = r.imbalance * max(c_kwh - held, 0.0)
                        x = min(c_kwh, held)
                        for m in range(nodes):
                            value = (1.0 - part) * value_at(after[low, m], x, width)
                            value += part * value_at(after[low + 1, m], x, width)
                            hope[m, j] += r.shares[g] * (value - over)
                top = highest(t + 1, here, 0.0, r)
                for m in range(nodes):
                    _choose(width, tables[t + 1, m], hope[m], top, left[i, t + 1], r.refill[t + 1], values[i, t, k, m])
    return values


@njit(cache=True)
def _level(held, mean, spread, levels):
    """Lower neighbour among the levels and the share of the upper one; levels are evenly spaced."""
    step = levels[1] - levels[0]
    place = 0.5 * (len(levels) - 1) if spread <= 1e-9 else ((held - mean) / spread - levels[0]) / step
    place = min(max(place, 0.0), len(levels) - 1.0)
    low = min(int(place), len(levels) - 2)
    return low, place - low


@njit(cache=True)
def _tables(width, r):
    """Money of all changes between grid points at all market nodes, (T, L, 2 G - 1)."""
    steps, nodes = r.node_surplus.shape
    count = r.knots + 1
    tables = np.zeros((steps, nodes, 2 * count - 1))
    for t in range(steps):
        for m in range(nodes):
            for j in range(2 * count - 1):
                change = (j - count + 1) * width
                tables[t, m, j] = money(change, r.buy[t], r.node_surplus[t, m], r.node_deficit[t, m], r)
    return tables


@njit(cache=True)
def atoms(t, values, mean, spread, held, own, seen, happened, r, levels_now, means, mine, real):
    """Write the critic's values at step t as functions of the stored energy [$].

    Args:
        t: the step.
        values: (levels, L, G) the critic.
        mean: of the levels [kWh].
        spread: of the levels [kWh].
        held: (R,) draws of K_t.
        own: true K_t.
        seen: (L,) weights of the market's nodes before the next step's market is known.
        happened: (L,) weights when it is known.
        r: Rules.
        levels_now: (levels, G) scratch.
        means: (R, G) for the draws, before the next step's market is known, written.
        mine: (G,) for the true K_t, before it is known, written.
        real: (G,) for the true K_t, after it is known, written.
    """
    for k in range(len(levels_now)):
        levels_now[k] = 0.0
        for m in range(len(seen)):
            for j in range(levels_now.shape[1]):
                levels_now[k, j] += seen[m] * values[k, m, j]
    for b in range(len(held)):
        low, part = _level(held[b], mean, spread, r.levels)
        for j in range(levels_now.shape[1]):
            means[b, j] = (1.0 - part) * levels_now[low, j] + part * levels_now[low + 1, j]
    low, part = _level(own, mean, spread, r.levels)
    for j in range(levels_now.shape[1]):
        mine[j] = (1.0 - part) * levels_now[low, j] + part * levels_now[low + 1, j]
        real[j] = 0.0
        for m in range(len(happened)):
            real[j] += happened[m] * ((1.0 - part) * values[low, m, j] + part * values[low + 1, m, j])


@njit(cache=True)
def terms(c_kwh, held, own, means, mine, real, width, imbalance):
    """The two zero-mean terms of one step for the energy c fixed at the gate: sessions, market [$]."""
    expected = 0.0
    for b in range(len(held)):
        expected += value_at(means[b], min(c_kwh, held[b]), width) - imbalance * max(c_kwh - held[b], 0.0)
    stored = min(c_kwh, own)
    here = value_at(mine, stored, width)
    known = here - imbalance * max(c_kwh - own, 0.0)
    return known - expected / len(held), value_at(real, stored, width) - here
