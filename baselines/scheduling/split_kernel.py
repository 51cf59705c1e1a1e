"""Energy of a group of cars spread over its members, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["split_energy"]

_ROUNDS = 100  # of bisection: to the last digit


@njit(cache=True)
def split_energy(total, start, floor, least, most, up, down):
    """Energies (steps, cars) with given sums, cars charged from the lowest and discharged from the highest energy.

    Args:
        total: (steps,) sum at the end of every step [kWh].
        start: (cars,) before the first.
        floor: (steps, cars) least energy from which the target can still be reached.
        least: of every car [kWh].
        most: of every car [kWh].
        up: largest gain of a car in a step [kWh].
        down: largest loss of a car in a step [kWh].

    Returns:
        The energies, and the largest distance of their sum from ``total``.
    """
    steps, cars = floor.shape
    energy = np.empty((steps, cars))
    before = start.copy()
    off = 0.0
    low, high = np.empty(cars), np.empty(cars)
    for t in range(steps):
        rising = total[t] >= before.sum()
        for j in range(cars):
            low[j] = max(least, floor[t, j], before[j] if rising else before[j] - down)
            high[j] = max(low[j], min(most, before[j] + up if rising else before[j]))
        a, b = low.min(), high.max()
        for _ in range(_ROUNDS):
            level = 0.5 * (a + b)
            gathered = 0.0
            for j in range(cars):
                gathered += min(max(level, low[j]), high[j])
            if gathered < total[t]:
                a = level
            else:
                b = level
        for j in range(cars):
            energy[t, j] = min(max(b, low[j]), high[j])
        before = energy[t].copy()
        off = max(off, abs(before.sum() - total[t]))
    return energy, off
