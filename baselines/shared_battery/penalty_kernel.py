"""One request of the penalised week, compiled by numba: what serving it was thought to be worth, and the best answer.

Levels and sizes are whole units (see grid.py), arrays have a leading batch axis, row i never looks at another row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["answer", "at_levels", "gains"]


@njit(cache=True)
def gains(worth, units, scale, table, step):
    """Gain (v - price)_+ that requests of every class bring at every level, and the price.

    Args:
        worth: (N + 1,) what the level that is left is worth after the request [$].
        units: (B,) units of the classes.
        scale: (B,) median value of each class [$].
        table: (M,) E (f - i step)_+ of the factor f of the values, from chords of which expectations are read.
        step: distance of the knots.

    Returns:
        price (B, N + 1) of the energy, infinite where a class does not fit [$]; mean (B, N + 1) of the gain over the
        values [$].
    """
    levels = len(worth) - 1
    price, mean = np.full((len(units), levels + 1), np.inf), np.zeros((len(units), levels + 1))
    for b in range(len(units)):
        for level in range(units[b], levels + 1):
            cost = max(worth[level] - worth[level - units[b]], 0.0)
            price[b, level] = cost
            place = cost / scale[b] / step
            if place < len(table) - 1:
                low = int(place)
                mean[b, level] = scale[b] * (table[low] + (place - low) * (table[low + 1] - table[low]))
    return price, mean


@njit(cache=True)
def answer(after, units, value, kind, thought, price, mean, weight):
    """Best answer to one request of every path, less its penalty.

    Args:
        after: (E, N + 1) best of what follows the request, by the level that it leaves [$].
        units: (E,) size of the request.
        value: (E,) what serving it is worth [$].
        kind: (E,) its class, -1 where it has none.
        thought: (E,) its value as the critic sees it [$].
        price: (B, N + 1) as returned by ``gains``.
        mean: (E, N + 1) expectation of the gain before the request was known, less all other surprises [$].
        weight: factor on the penalty.

    Returns:
        (E, N + 1) best of what can be had, by the level before the request [$].
    """
    paths, width = after.shape
    best = np.empty_like(after)
    for e in range(paths):
        k, v, b = units[e], value[e], kind[e]
        for level in range(width):
            most = after[e, level]
            if level >= k:
                most = max(most, after[e, level - k] + v)
            gain = 0.0
            if b >= 0:
                gain = max(thought[e] - price[b, level], 0.0)
            best[e, level] = most - weight * (gain - mean[e, level])
    return best


@njit(cache=True)
def at_levels(level, kind, thought, chance, price, mean):
    """Surprise gain - E gain (E,) [$] of one request at one level (E,) of every path; chance (E, B), the rest as above.

    ``mean`` is (B, N + 1) here, by class.
    """
    surprise = np.empty(len(level))
    for e in range(len(level)):
        total = 0.0
        for b in range(len(price)):
            total -= chance[e, b] * mean[b, level[e]]
        if kind[e] >= 0:
            total += max(thought[e] - price[kind[e], level[e]], 0.0)
        surprise[e] = total
    return surprise
