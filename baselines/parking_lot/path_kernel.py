"""Loops of the exact path solver, compiled by numba; storage.py is the readable entrance."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["walk_paths"]


@njit(cache=True)
def walk_paths(capacity, lengths, slopes, start, tie):
    """Optimal paths (n, T), balance multipliers (n, T), and whether each start can be brought down to zero (n,)."""
    n, steps = capacity.shape
    stored = np.zeros((n, steps))
    multiplier = np.zeros((n, steps))
    ok = np.ones(n, np.bool_)
    size = 4 * steps + 4
    seg_slope = np.zeros((steps, size))
    seg_length = np.zeros((steps, size))
    seg_count = np.zeros(steps, np.int64)
    for i in range(n):
        _backward(capacity[i], lengths[i], slopes, tie, seg_slope, seg_length, seg_count)
        ok[i] = _forward(
            capacity[i], lengths[i], slopes, tie, start[i], seg_slope, seg_length, seg_count, stored[i], multiplier[i]
        )
    return stored, multiplier, ok


@njit(cache=True)
def _next_piece(lengths, b):
    """First piece from b on that is not empty; empty ones may stand out of order."""
    while b < 4 and lengths[b] <= 1e-11:
        b += 1
    return b


@njit(cache=True)
def _backward(capacity, lengths, slopes, tie, seg_slope, seg_length, seg_count):
    """Fill W_t, the value of ending step t with x in [0, K_t], as slopes from x = 0 upwards."""
    steps = len(capacity)
    seg_count[steps - 1] = 0
    for t in range(steps - 1, 0, -1):
        # V_t = W_t convolved with psi_t, starts at -(charging range); W_{t-1} = V_t - tie, cut to [0, K_{t-1}]
        skip = lengths[t, 0] + lengths[t, 1]
        room = capacity[t - 1]
        a, b, m = 0, 0, 0
        while room > 0.0:
            b = _next_piece(lengths[t], b)
            if a >= seg_count[t] and b >= 4:
                break
            if b >= 4 or (a < seg_count[t] and seg_slope[t, a] > slopes[t, b]):
                slope, length = seg_slope[t, a], seg_length[t, a]
                a += 1
            else:
                slope, length = slopes[t, b], lengths[t, b]
                b += 1
            if skip > 0.0:
                cut = min(skip, length)
                skip -= cut
                length -= cut
            length = min(length, room)
            if length <= 1e-11:
                continue
            room -= length
            seg_slope[t - 1, m] = slope - tie[t - 1]
            seg_length[t - 1, m] = length
            m += 1
        seg_count[t - 1] = m


@njit(cache=True)
def _forward(capacity, lengths, slopes, tie, start, seg_slope, seg_length, seg_count, stored, multiplier):
    """Walk from ``start`` along the best choices; writes the path and the balance multipliers of each step."""
    before = start
    held = 0.0  # slope of the value, carried from step to step
    for t in range(len(capacity)):
        rest = before + lengths[t, 0] + lengths[t, 1]
        a, b = 0, 0
        x = 0.0
        left, right = np.inf, -np.inf
        while True:
            b = _next_piece(lengths[t], b)
            if a >= seg_count[t] and b >= 4:
                break
            from_value = b >= 4 or (a < seg_count[t] and seg_slope[t, a] > slopes[t, b])
            slope = seg_slope[t, a] if from_value else slopes[t, b]
            length = seg_length[t, a] if from_value else lengths[t, b]
            if rest <= 1e-11:
                right = slope
                break
            use = min(length, rest)
            rest -= use
            left = slope
            if from_value:
                x += use
            if use < length - 1e-11:
                right = slope
                break
            if from_value:
                a += 1
            else:
                b += 1
        if rest > 1e-7:
            return False
        if capacity[t] - x <= 1e-11:
            x = capacity[t]
        elif x <= 1e-11:
            x = 0.0
        # any price between the slopes on both sides serves this step; the nearest to the last one serves that step too
        held = min(max(held, right), left)
        multiplier[t] = -held
        stored[t] = x
        held += tie[t]
        before = x
    return True
