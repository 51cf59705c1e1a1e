"""Loops of the penalised bound, compiled by numba; penalty.py is the readable entrance and proves what they compute."""

from __future__ import annotations

import numpy as np
from numba import njit

from baselines.parking_lot.penalty_critic_kernel import NEVER, atoms, highest, money, moved, terms, value_at

__all__ = ["bound_rows", "informed_rows", "leaving_rows", "penalty_rows"]


@njit(cache=True)
def leaving_rows(sessions, arrive, depart, quota, order, width, count, steps):
    """Least energy that the cars leaving in each step can hold, by stored energy before it, (n, T, count) [kWh].

    ``width`` (n,) is that of the grid of stored energies. Cars that came by step 1 are filled in the dispatch rule's
    order, emptied in reverse, and each within one step: they are always full up to some place in the order. Cars that
    came later hold at most their quota.
    """
    n = len(sessions)
    result = np.zeros((n, steps, count))
    for i in range(n):
        for t in range(2, steps):
            late = 0.0
            for k in range(sessions[i]):
                if arrive[i, k] >= 2 and arrive[i, k] < t and depart[i, k] >= t + 1:
                    late += quota[i, k]
            filled, left, j = 0.0, 0.0, 0
            for place in range(sessions[i]):
                k = order[i, place]
                if arrive[i, k] > 1 or depart[i, k] < t + 1:
                    continue
                goes = depart[i, k] == t + 1
                while j < count and j * width[i] - late <= filled + quota[i, k]:
                    part = min(max(j * width[i] - late - filled, 0.0), quota[i, k])
                    result[i, t, j] = left + (part if goes else 0.0)
                    j += 1
                filled += quota[i, k]
                left += quota[i, k] if goes else 0.0
            result[i, t, j:] = left
    return result


@njit(cache=True)
def _points(held, own, top, fine, size, width, knots, points):
    """Write all places where the step's function of c may bend, ascending, up to ``top``; returns how many."""
    m = 0
    for j in range(size):
        if j * fine < top:
            points[m] = j * fine
            m += 1
    for j in range(knots + 1):
        if j * width < top:
            points[m] = j * width
            m += 1
    for b in range(len(held)):
        if held[b] < top:
            points[m] = held[b]
            m += 1
    if own < top:
        points[m] = own
        m += 1
    points[m] = top
    m += 1
    points[:m].sort()
    return m


@njit(cache=True)
def _bends(surplus, deficit, r, bends):
    """Write the changes at which the money of a step bends or ends [kWh]."""
    up, down = r.eta * r.step_h, r.step_h / r.eta
    bends[0], bends[1] = -down * (deficit + r.grid_kw), -down * deficit
    bends[2], bends[3], bends[4] = 0.0, up * surplus, up * (surplus + r.grid_kw)


@njit(cache=True)
def _between(points, values, m, x):
    """Value at x of the piecewise linear function through the first m points."""
    k = np.searchsorted(points[:m], x)
    if k <= 0:
        return values[0]
    if k >= m:
        return values[m - 1]
    gap = points[k] - points[k - 1]
    if gap <= 0.0:
        return max(values[k], values[k - 1])
    return values[k - 1] + (x - points[k - 1]) / gap * (values[k] - values[k - 1])


@njit(cache=True)
def _best(x, left, t, surplus, deficit, own, r, points, gain, m, bends):
    """Largest money of step t plus gain over all c, for the stored energy x of which ``left`` has to leave [$]."""
    buy, price, top = r.buy[t], r.refill[t], points[m - 1]
    best = NEVER
    for j in range(m):
        c_kwh = points[j]
        cost = price * moved(min(c_kwh, own) - x, left)
        best = max(best, money(c_kwh - x, buy, surplus, deficit, r) + gain[j] - cost)
    for k in range(6):
        change = bends[k] if k < 5 else -left
        c_kwh = x + change
        if c_kwh >= 0.0 and c_kwh <= top:
            cost = price * moved(min(c_kwh, own) - x, left)
            best = max(best, money(change, buy, surplus, deficit, r) + _between(points, gain, m, c_kwh) - cost)
    return best


@njit(cache=True)
def _solve(target, values, fine, used, sign):
    """First x on the grid's chords with sign x + values(x) = target, rising; -1 if there is none."""
    for i in range(used - 1):
        low = sign * i * fine + values[i]
        high = sign * (i + 1) * fine + values[i + 1]
        if low <= target and target <= high and high > low:
            return (i + (target - low) / (high - low)) * fine
    return -1.0


@njit(cache=True)
def _sooner(t, surplus, deficit, own, left, keep, r, points, gain, m, used, fine, bends, sooner):
    """Write the potential of step t - 1 on the first ``used`` grid points; returns its largest shortfall in between.

    ``left`` and ``keep`` (x minus left) are given on the grid. Between grid points the sum is linear on the cells of
    an arrangement of lines: c at a point, c - x at a bend, c = keep(x), x = own, keep(x) = own. Its largest value
    is at a crossing, and every crossing is visited.
    """
    buy, price = r.buy[t], r.refill[t]
    _bends(surplus, deficit, r, bends)
    for i in range(used):
        sooner[i] = _best(i * fine, left[i], t, surplus, deficit, own, r, points, gain, m, bends)
    sooner[used:] = sooner[used - 1]
    excess, end = 0.0, (used - 1) * fine
    for x in (own, _solve(own, keep, fine, used, 0.0)):
        if x > 0.0 and x < end:
            best = _best(x, value_at(left, x, fine), t, surplus, deficit, own, r, points, gain, m, bends)
            excess = max(excess, best - value_at(sooner, x, fine))
    place = 0
    for j in range(m):
        for k in range(6):
            if k < 5:
                x = points[j] - bends[k]
            else:
                while place < used - 1 and keep[place + 1] < points[j]:
                    place += 1
                if place >= used - 1 or keep[place] > points[j]:
                    continue
                x = (place + (points[j] - keep[place]) / max(keep[place + 1] - keep[place], 1e-300)) * fine
            if x > 0.0 and x < end:
                cost = price * moved(min(points[j], own) - x, value_at(left, x, fine))
                here = money(points[j] - x, buy, surplus, deficit, r) + gain[j] - cost
                excess = max(excess, here - value_at(sooner, x, fine))
    for k in range(2):
        x = _solve(-bends[k], left, fine, used, 0.0)
        if x > 0.0 and x < end and x + bends[k] >= 0.0:
            cost = price * moved(min(x + bends[k], own) - x, value_at(left, x, fine))
            here = money(bends[k], buy, surplus, deficit, r) + _between(points, gain, m, x + bends[k]) - cost
            excess = max(excess, here - value_at(sooner, x, fine))
    return excess


@njit(cache=True)
def _under(left, fine, below):
    """Write values whose chords stay below a function with slopes 0 and 1 that passes through ``left``.

    Over an interval with mean slope s it is at most s (1 - s) fine below its chord. The chords have slopes in [0, 1].
    """
    last = len(left) - 1
    for j in range(last + 1):
        drop = 0.0
        for k in (j - 1, j):
            if k >= 0 and k < last:
                slope = (left[k + 1] - left[k]) / fine
                drop = max(drop, slope * (1.0 - slope) * fine)
        below[j] = max(left[j] - drop, 0.0)
        if j > 0:
            below[j] = min(below[j], below[j - 1] + fine)
    for j in range(last - 1, -1, -1):
        below[j] = min(below[j], below[j + 1])


@njit(cache=True)
def bound_rows(values, day, mean, spread, held, own, left, surplus, deficit, seen, happened, scale, width, r):
    """Proven maximum of return minus penalty over all paths of every row (n, 2): on the grid, and added for proof [$].

    potential_{t-1}(x) = max over c of money(c - x) - refilling - imbalance - z_t(c) + potential_t(min(c, K_t)) is
    computed on a grid; between its points the potential is a chord, and the largest excess of the maximum over the
    chord is added.

    Args:
        values: (days, T, levels, L, G) as from ``critic``.
        day: (n,) base days.
        mean: (days, T) of the levels [kWh].
        spread: (days, T) of the levels [kWh].
        held: (n, T, R) draws of K_t given what was seen a step before.
        own: (n, T) the true K.
        left: (n, T, path + 1) as from ``leaving_rows``, on the grid of r.path intervals up to the row's largest K.
        surplus: (n, T) true offers [kW].
        deficit: (n, T) true offers [kW].
        seen: (n, T, L) weights of the market's nodes before the next step's market is known.
        happened: (n, T, L) weights when it is known.
        scale: (2,) factors of the two terms.
        width: of the critic's grid [kWh].
        r: Rules.
    """
    n, steps = own.shape
    draws, count, size = held.shape[2], r.knots + 1, r.path + 1
    levels_now = np.zeros((len(r.levels), count))
    means, mine, real = np.zeros((draws, count)), np.zeros(count), np.zeros(count)
    points = np.zeros(size + count + draws + 2)
    gain = np.zeros(len(points))
    bends = np.zeros(5)
    below, keep = np.zeros(size), np.zeros(size)
    later, sooner = np.zeros(size), np.zeros(size)
    result = np.zeros((n, 2))
    for i in range(n):
        fine = max(own[i].max(), 1e-6) / r.path
        later[:] = 0.0
        d = day[i]
        for t in range(steps - 1, 0, -1):
            atoms(t, values[d, t], mean[d, t], spread[d, t], held[i, t], own[i, t], seen[i, t], happened[i, t], r,
                  levels_now, means, mine, real)  # fmt: skip
            top = highest(t, own[i, t - 1], own[i, t - 1] + fine, r)
            m = _points(held[i, t], own[i, t], top, fine, size, width, r.knots, points)
            for j in range(m):
                c_kwh = points[j]
                gain[j] = value_at(later, min(c_kwh, own[i, t]), fine) - r.imbalance * max(c_kwh - own[i, t], 0.0)
                if scale[0] != 0.0 or scale[1] != 0.0:
                    z0, z1 = terms(c_kwh, held[i, t], own[i, t], means, mine, real, width, r.imbalance)
                    gain[j] -= scale[0] * z0 + scale[1] * z1
            used = 1 if t == 1 else min(int(np.ceil(own[i, t - 1] / fine)) + 1, size)
            _under(left[i, t], fine, below)
            for j in range(size):
                keep[j] = j * fine - below[j]
            result[i, 1] += _sooner(t, surplus[i, t], deficit[i, t], own[i, t], below, keep, r, points, gain, m, used,
                                    fine, bends, sooner)  # fmt: skip
            later, sooner = sooner, later
        result[i, 0] = later[0]
    return result


@njit(cache=True)
def penalty_rows(values, day, mean, spread, held, own, closed, seen, happened, width, r):
    """The two unscaled terms of the penalty of given paths, (n, T, 2) [$]; ``closed`` (n, T) is c, as bound_rows."""
    n, steps = own.shape
    draws, count = held.shape[2], r.knots + 1
    levels_now = np.zeros((len(r.levels), count))
    means, mine, real = np.zeros((draws, count)), np.zeros(count), np.zeros(count)
    result = np.zeros((n, steps, 2))
    for i in range(n):
        d = day[i]
        for t in range(1, steps):
            atoms(t, values[d, t], mean[d, t], spread[d, t], held[i, t], own[i, t], seen[i, t], happened[i, t], r,
                  levels_now, means, mine, real)  # fmt: skip
            result[i, t] = terms(closed[i, t], held[i, t], own[i, t], means, mine, real, width, r.imbalance)
    return result


@njit(cache=True)
def informed_rows(values, day, mean, spread, held, own, left, surplus, deficit, seen, happened, width, r):
    """Path c (n, T) that maximises money plus the critic's mean at every gate, knowing no more than the penalty.

    ``left`` (days, T, G): mean energy in leaving cars, as for ``critic``.
    """
    n, steps = own.shape
    draws, count = held.shape[2], r.knots + 1
    levels_now = np.zeros((len(r.levels), count))
    means, mine, real = np.zeros((draws, count)), np.zeros(count), np.zeros(count)
    closed = np.zeros((n, steps))
    for i in range(n):
        x, d = 0.0, day[i]
        for t in range(1, steps):
            atoms(t, values[d, t], mean[d, t], spread[d, t], held[i, t], own[i, t], seen[i, t], happened[i, t], r,
                  levels_now, means, mine, real)  # fmt: skip
            top, best = highest(t, own[i, t - 1], x, r), NEVER
            for j in range(4 * r.knots + 1):
                c_kwh = 0.25 * j * width
                if c_kwh > top:
                    break
                value = money(c_kwh - x, r.buy[t], surplus[i, t], deficit[i, t], r)
                value -= r.refill[t] * moved(c_kwh - x, value_at(left[d, t], x, width))
                for b in range(draws):
                    over = r.imbalance * max(c_kwh - held[i, t, b], 0.0)
                    value += (value_at(means[b], min(c_kwh, held[i, t, b]), width) - over) / draws
                if value > best:
                    best, closed[i, t] = value, c_kwh
            x = min(closed[i, t], own[i, t])
    return closed
