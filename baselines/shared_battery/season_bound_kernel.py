"""One driver's part of the season bound, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["asked_and_missed", "least_cost_of_driver"]


@njit(cache=True)
def least_cost_of_driver(needs, order, price, share, missed, own_price, low, high):
    """Least of own_price b + share sum_d min(missed, price_d (need_d - b)_+) over b in [low, high], and its argument.

    needs (M,) of one driver, order sorts them increasingly. Candidates are low, high and all needs between.
    """
    count = len(needs)
    # starts: places below which a day is given up, need - missed/price; sorted too
    start = np.empty(count)
    for d in range(count):
        start[d] = needs[d] - missed / price[d] if price[d] > 0.0 else needs[d]
    by_start = np.argsort(start)
    best, where = 1e300, low
    slope, offset, given_up = 0.0, 0.0, 0.0  # of the days partly served: offset - slope b; given_up days cost missed
    i, j = 0, 0
    for d in range(count):
        if price[d] > 0.0:
            given_up += 1.0
    for c in range(count + 2):
        b = low if c == 0 else high if c == count + 1 else needs[order[c - 1]]
        if b < low or b > high:
            continue
        while i < count and start[by_start[i]] <= b:  # no longer given up
            d = by_start[i]
            if price[d] > 0.0:
                given_up -= 1.0
                slope += price[d]
                offset += price[d] * needs[d]
            i += 1
        while j < count and needs[order[j]] <= b:  # met by the own battery
            d = order[j]
            if price[d] > 0.0:
                slope -= price[d]
                offset -= price[d] * needs[d]
            j += 1
        value = own_price * b + share * (missed * given_up + offset - slope * b)
        if value < best:
            best, where = value, b
    return best, where


@njit(cache=True)
def asked_and_missed(needs, price, missed, own):
    """Days given up (M,) as 0/1, and energy asked of the shared battery (M,), at own battery ``own``."""
    count = len(needs)
    missing, asked = np.zeros(count), np.zeros(count)
    for d in range(count):
        short = max(needs[d] - own, 0.0)
        if short > 0.0 and price[d] * short > missed:
            missing[d] = 1.0
        else:
            asked[d] = short
    return missing, asked
