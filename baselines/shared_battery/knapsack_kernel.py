"""Best weeks in hindsight, compiled by numba: whole requests by dynamic programming, shares of requests by density.

Sizes are whole units (see grid.py), arrays have a leading batch axis, row i never looks at another row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["best_shares", "best_weeks"]


@njit(cache=True)
def best_weeks(size, value, levels, night, drivers):
    """Most valuable requests to grant in whole: size (e, T) units, value (e, T) [$], T a multiple of ``drivers``.

    Backwards over the week: W[l] is the best that can be had from l units on; a night leads from l to min(l + night,
    levels). Ties refuse.

    Returns:
        best (e,) [$]; granted (e, T), 1 where a request of a best week is granted.
    """
    episodes, steps = size.shape
    best, granted = np.empty(episodes), np.zeros((episodes, steps), np.uint8)
    worth, taken = np.empty(levels + 1), np.empty((steps, levels + 1), np.uint8)
    for e in range(episodes):
        worth[:] = 0.0
        for t in range(steps - 1, -1, -1):
            if (t + 1) % drivers == 0 and t + 1 < steps:
                for level in range(levels + 1):
                    worth[level] = worth[min(level + night, levels)]
            units, gain = size[e, t], value[e, t]
            taken[t] = 0
            if gain > 0.0:
                for level in range(levels, units - 1, -1):
                    other = worth[level - units] + gain
                    if other > worth[level]:
                        worth[level] = other
                        taken[t, level] = 1
        best[e] = worth[levels]
        level = levels
        for t in range(steps):
            if taken[t, level]:
                granted[e, t] = 1
                level -= size[e, t]
            if (t + 1) % drivers == 0:
                level = min(level + night, levels)
    return best, granted


@njit(cache=True)
def best_shares(size, value, order, levels, night, drivers):
    """Most valuable shares of requests to grant: arrays as in ``best_weeks``, order (e, T) by falling value / size.

    Request by request as much as still can be granted: what the day can have in the morning, min over earlier days of
    what they leave, less what it and the later days have promised. All energies are whole numbers.

    Returns:
        best (e,) [$]; share (e, T) of each request that is granted.
    """
    episodes, steps = size.shape
    days = steps // drivers
    best, share = np.zeros(episodes), np.zeros((episodes, steps))
    given = np.empty(days, np.int64)
    for e in range(episodes):
        given[:] = 0
        for i in order[e]:
            day, units = i // drivers, size[e, i]
            if value[e, i] <= 0.0:
                continue
            if units == 0:
                share[e, i] = 1.0
                best[e] += value[e, i]
                continue
            have = levels
            for d in range(day):
                have = min(have - given[d] + night, levels)
            need = 0
            for d in range(days - 1, day, -1):
                need = max(given[d] + need - night, 0)
            taken = min(units, have - need - given[day])
            given[day] += taken
            share[e, i] = taken / units
            best[e] += value[e, i] * share[e, i]
    return best, share
