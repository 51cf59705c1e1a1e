"""What energy left in the shared battery is worth, compiled by numba: backward over the requests of a week."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["interpolate", "worth_of_energy"]


@njit(cache=True)
def _gain(price, table, step):
    """E max(0, V - price) for V with median 1, from chords of the table at 0, step, 2 step, ...; 0 beyond it."""
    place = price / step
    low = int(place)
    if low >= len(table) - 1:
        return 0.0
    return table[low] + (place - low) * (table[low + 1] - table[low])


@njit(cache=True)
def interpolate(row, place):
    """Value of a piecewise linear function with knots row[0], row[1], ... at ``place`` >= 0; flat beyond the last."""
    low = int(place)
    if low >= len(row) - 1:
        return row[len(row) - 1]
    return row[low] + (place - low) * (row[low + 1] - row[low])


@njit(cache=True)
def worth_of_energy(units, scale, chance, first, day_law, drivers, levels, night, coupled, table, step):
    """Value of every level after every request, and of the week.

    Args:
        units: (A,) size of each possible request, by law and by rising size [units].
        scale: (A,) median of its value [$].
        chance: (A,) its probability.
        first: (laws + 1,) where each law begins in these lists.
        day_law: (D,) which law each day has.
        drivers: requests of a day.
        levels: units of the full battery.
        night: units that a night brings back; a fraction is interpolated.
        coupled: whether a day's end is worth what it leaves for the next; else it is worth nothing.
        table: (M,) E max(0, V - i step) for V with median 1, see ``_gain``.
        step: distance of its knots.

    Returns:
        after (D, drivers, levels + 1): expected value of what follows each request (its night included), by the level
        that it leaves [$]; morning (D, levels + 1) the same before each day's first request.
    """
    days = len(day_law)
    after, morning = np.empty((days, drivers, levels + 1)), np.empty((days, levels + 1))
    now, earlier = np.zeros(levels + 1), np.empty(levels + 1)
    for day in range(days - 1, -1, -1):
        if coupled and day < days - 1:
            for level in range(levels + 1):
                earlier[level] = interpolate(now, min(level + night, float(levels)))
            now[:] = earlier
        else:
            now[:] = 0.0
        begin, end = first[day_law[day]], first[day_law[day] + 1]
        for k in range(drivers - 1, -1, -1):
            after[day, k] = now
            for level in range(levels + 1):
                total = 0.0
                for a in range(begin, end):
                    if units[a] > level:
                        break
                    price = now[level] - now[level - units[a]]
                    total += chance[a] * scale[a] * _gain(max(price, 0.0) / scale[a], table, step)
                earlier[level] = now[level] + total
            now[:] = earlier
        morning[day] = now
    return after, morning
