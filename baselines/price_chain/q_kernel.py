"""Steps of tabular Q-learning over finished days, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["learn_days", "play_days"]


@njit(cache=True)
def play_days(tables, q, level, presence, start, explore, random):
    """Play days with explored greedy choices.

    Args:
        tables: of the model.
        q: (T, L, Q, E, 2, A) estimates.
        level: (n, T + 1) price levels.
        presence: (n, T + 1) presence levels.
        start: energy level at the first step.
        explore: probability of a choice at random.
        random: (n, T, 2) uniforms: whether to explore, and which choice.

    Returns:
        stored (n, T + 1), mode (n, T + 1), choice (n, T), feasible ones.
    """
    n, steps = len(level), tables.price.shape[0]
    stored, mode = np.empty((n, steps + 1), np.int64), np.zeros((n, steps + 1), np.int64)
    choice = np.empty((n, steps), np.int64)
    for i in range(n):
        stored[i, 0] = start
        for t in range(steps):
            p, r, e, m = level[i, t], presence[i, t], stored[i, t], mode[i, t]
            low, high = tables.lowest[r, e], tables.highest[r, e]
            if random[i, t, 0] < explore:
                a = low + int(random[i, t, 1] * (high + 1 - low))
            else:
                a = low + int(q[t, p, r, e, m, low : high + 1].argmax())
            choice[i, t] = a
            stored[i, t + 1] = e + tables.moves[a]
            mode[i, t + 1] = tables.moves[a] != 0
    return stored, mode, choice


@njit(cache=True)
def learn_days(tables, q, visits, level, presence, stored, mode, choice, power):
    """Update q and visits, last step first, so that a day's end reaches its beginning in one pass."""
    n, steps = choice.shape
    for t in range(steps - 1, -1, -1):
        for i in range(n):
            p, r, e, m, a = level[i, t], presence[i, t], stored[i, t], mode[i, t], choice[i, t]
            target = tables.energy[t, p, a] + tables.starts[m, a] + tables.wear[e, a]
            after, running = stored[i, t + 1], mode[i, t + 1]
            if t == steps - 1:
                target += tables.drivers[after] + tables.shortfall[after]
            else:
                s = presence[i, t + 1]
                low, high = tables.lowest[s, after], tables.highest[s, after]
                target += q[t + 1, level[i, t + 1], s, after, running, low : high + 1].max()
            visits[t, p, r, e, m, a] += 1
            q[t, p, r, e, m, a] += (target - q[t, p, r, e, m, a]) / visits[t, p, r, e, m, a] ** power
