"""Loops of critic control, compiled by numba; critic_policy.py says what they are for. Every row by itself."""

from __future__ import annotations

import numpy as np
from numba import njit

from baselines.parking_lot.penalty_critic_kernel import NEVER, money, moved, value_at

__all__ = ["choose_rows", "learn_rows"]

_TIE = 1e-9  # more than rounding: equally good answers are chosen between in the same way on every machine [$]
_FAINT = 7.0  # log-likelihood below the best at which a base day is left out: a thousandth


@njit(cache=True)
def learn_rows(step, seen, factor, centre, white, chance):
    """Add what is seen at a step: write the whitened values, and add to the days' log-likelihoods.

    Args:
        step: t; it owns the places t F to (t + 1) F of everything of length m.
        seen: (n, F) features.
        factor: (m, m) lower Cholesky factor of the features' covariance.
        centre: (days, m) whitened means of every base day.
        white: (n, m) whitened features, those of earlier steps being there; written.
        chance: (n, days) log-likelihoods; written.
    """
    n, width = seen.shape
    first = step * width
    for i in range(n):
        for k in range(width):
            value = seen[i, k]
            for j in range(first + k):
                value -= factor[first + k, j] * white[i, j]
            white[i, first + k] = value / factor[first + k, first + k]
        for d in range(len(centre)):
            away = 0.0
            for j in range(first, first + width):
                away += (white[i, j] - centre[d, j]) ** 2
            chance[i, d] -= 0.5 * away


@njit(cache=True)
def _likely(chance, days, weight):
    """Write the most likely base days, best first, and their weights; returns how many weigh anything to speak of."""
    used = np.zeros(len(chance), np.bool_)
    total, count = 0.0, 0
    for q in range(len(days)):
        best = -1
        for d in range(len(chance)):
            if not used[d] and (best < 0 or chance[d] > chance[best]):
                best = d
        if q > 0 and chance[best] < chance[days[0]] - _FAINT:
            break
        used[best] = True
        days[q] = best
        weight[q] = np.exp(chance[best] - chance[days[0]])
        total += weight[q]
        count += 1
    weight[:count] /= total
    return count


@njit(cache=True)
def _worth(c_kwh, x, buy, refill, surplus, deficit, expected, noise, weight, left, mean, spread, tables, width, r):
    """Money of fixing c, minus refilling and imbalance, plus the critic: mean over base days and capacity [$]."""
    total = money(c_kwh - x, buy, surplus, deficit, r)
    step, last = r.levels[1] - r.levels[0], len(r.levels) - 1
    for q in range(len(weight)):
        total -= weight[q] * refill * moved(c_kwh - x, left[q])
        for g in range(len(r.points)):
            held = max(expected[q] + noise * r.points[g], 0.0)
            place = 0.5 * last if spread[q] <= 1e-9 else ((held - mean[q]) / spread[q] - r.levels[0]) / step
            place = min(max(place, 0.0), 1.0 * last)
            low = min(int(place), last - 1)
            part, stored = place - low, min(c_kwh, held)
            value = (1.0 - part) * value_at(tables[q, low], stored, width)
            value += part * value_at(tables[q, low + 1], stored, width)
            total += weight[q] * r.shares[g] * (value - r.imbalance * max(c_kwh - held, 0.0))
    return total


@njit(cache=True)
def choose_rows(t, top, x, surplus, deficit, market, chance, white, centre, capacity, slope, noise, values, mean,
                spread, leaving, width, n_days, grid, r):  # fmt: skip
    """The energy to be fixed at step t for step t + 1, (n,) [kWh].

    Args:
        t: the step.
        top: (n,) most that the gate's range allows [kWh].
        x: (n,) what will be stored at the end of step t [kWh].
        surplus: (n,) offers of step t + 1 [kW].
        deficit: (n,) offers of step t + 1 [kW].
        market: (n, L) weights of the market's nodes of step t + 2, given the factors of step t + 1.
        chance: (n, days) log-likelihoods of the base days.
        white: (n, m) as from ``learn_rows``.
        centre: (days, m) as for ``learn_rows``.
        capacity: (days, T) mean of K given the base day [kWh].
        slope: (T, m) of K_t over the whitened features that are seen at step t - 1 [kWh].
        noise: (T,) standard deviation of the rest [kWh].
        values: (days, T, levels, L, G) the critic [$].
        mean: (days, T) of its levels [kWh].
        spread: (days, T) of its levels [kWh].
        leaving: (days, T, G) energy in leaving cars [kWh].
        width: of the critic's grid [kWh].
        n_days: base days that are looked at.
        grid: intervals of the candidates' grid.
        r: Rules.
    """
    levels, count = len(r.levels), values.shape[4]
    seen = (t + 1) * (white.shape[1] // (len(noise) - 2))
    days, weight = np.zeros(n_days, np.int64), np.zeros(n_days)
    expected, left, center, wide = np.zeros(n_days), np.zeros(n_days), np.zeros(n_days), np.zeros(n_days)
    tables = np.zeros((n_days, levels, count))
    chosen = np.zeros(len(x))
    for i in range(len(x)):
        likely = _likely(chance[i], days, weight)
        tables[:likely] = 0.0
        for q in range(likely):
            d = days[q]
            center[q], wide[q] = mean[d, t + 1], spread[d, t + 1]
            expected[q] = capacity[d, t + 1]
            for j in range(seen):
                expected[q] += slope[t + 1, j] * (white[i, j] - centre[d, j])
            left[q] = value_at(leaving[d, t + 1], x[i], width)
            for k in range(levels):
                for m in range(market.shape[1]):
                    for j in range(count):
                        tables[q, k, j] += market[i, m] * values[d, t + 1, k, m, j]
        best, found, fine = min(x[i], top[i]), 2.0 * NEVER, top[i] / grid
        for look in range(2):  # the whole range, then the neighbourhood of the best
            low, gap = (0.0, fine) if look == 0 else (max(best - fine, 0.0), fine / 8.0)
            size = grid if look == 0 else 16
            for j in range(-1, size + 1):
                c_kwh = best if j < 0 else min(low + j * gap, top[i])
                worth = _worth(c_kwh, x[i], r.buy[t + 1], r.refill[t + 1], surplus[i], deficit[i], expected,
                               noise[t + 1], weight[:likely], left, center, wide, tables, width, r)  # fmt: skip
                if worth > found + _TIE:
                    best, found = c_kwh, worth
        chosen[i] = best
    return chosen
