"""Steps and observations as loops over rows, compiled by numba; model.py is the readable entrance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["SCALE_KWH", "DayState", "Tables", "observe_kernel", "step_kernel"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCALE_KWH = 10.0  # unit of the scaled violation f


class Tables(NamedTuple):
    """The world in numbers: L price levels, Q presence levels, E energy levels, A choices, T steps.

    Attributes:
        moves: (A,) levels added by each choice.
        lowest, highest: (Q, E) first and last feasible choice; those between are feasible too.
        price: (T, L) [$/kWh].
        shown: (T, L) the price scaled to [0, 1].
        meter: (A,) energy bought, negative if sold [kWh].
        energy: (T, L, A) money for energy [$].
        starts: (2, A) money for starting or stopping, by the mode before [$].
        wear: (E, A) money for wear, by the level before [$].
        drivers, shortfall: (E,) money at departure, by the last level [$].
        missing: (E,) energy missing at departure [kWh].
        evs: (Q,) vehicles plugged in.
        level_kwh: energy of a level [kWh].
    """

    moves: Ints
    lowest: Ints
    highest: Ints
    price: Floats
    shown: Floats
    meter: Floats
    energy: Floats
    starts: Floats
    wear: Floats
    drivers: Floats
    shortfall: Floats
    missing: Floats
    evs: Floats
    level_kwh: float


class DayState(NamedTuple):
    """Where the days are: steps done, energy level, mode of the last step (0 idle, 1 running); (n,) each."""

    t: Ints
    stored: Ints
    mode: Ints


@njit(cache=True)
def step_kernel(tables, level, presence, t, stored, mode, choice):
    """One step of every row: level, presence (n, T + 1), t, stored, mode, choice (n,); infeasible choices are clipped.

    Returns:
        t, stored, mode of the next state; money (n, 5) [$]; facts (n, 6).
    """
    n, steps = len(t), tables.price.shape[0]
    after, kept, runs = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    money, facts = np.zeros((n, 5)), np.zeros((n, 6))
    for i in range(n):
        now = min(t[i], steps - 1)  # a row that is over is about to be reset
        p, q, e = level[i, now], presence[i, now], stored[i]
        a = min(max(choice[i], tables.lowest[q, e]), tables.highest[q, e])
        after[i] = t[i] + 1
        kept[i] = e + tables.moves[a]
        runs[i] = tables.moves[a] != 0
        money[i, 0] = tables.energy[now, p, a]
        money[i, 1] = tables.starts[mode[i], a]
        money[i, 2] = tables.wear[e, a]
        if now == steps - 1:
            money[i, 3] = tables.drivers[kept[i]]
            money[i, 4] = tables.shortfall[kept[i]]
            facts[i, 0] = tables.missing[kept[i]] / SCALE_KWH
            facts[i, 1] = tables.missing[kept[i]]
        facts[i, 2] = tables.price[now, p]
        facts[i, 3] = tables.meter[a]
        facts[i, 4] = kept[i] * tables.level_kwh
        facts[i, 5] = tables.evs[q]
    return after, kept, runs, money, facts


@njit(cache=True)
def observe_kernel(tables, level, presence, t, stored, mode, width):
    """Observations (n, width) float32 at the start of a step; see Model.observation_layout."""
    n = len(t)
    steps, levels = tables.price.shape
    presences, energies = tables.lowest.shape
    seen = np.zeros((n, width), np.float32)
    for i in range(n):
        row, now = seen[i], min(t[i], steps)
        p, q, e = level[i, now], presence[i, now], stored[i]
        if now < steps:
            row[now] = 1.0
        row[steps + p] = 1.0
        row[steps + levels] = tables.shown[now % steps, p]
        at = steps + levels + 1
        row[at + e] = 1.0
        row[at + energies] = e / (energies - 1)
        row[at + energies + 1 + q] = 1.0
        row[at + energies + 1 + presences] = mode[i]
    return seen
