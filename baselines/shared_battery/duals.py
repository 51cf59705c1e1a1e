"""Proven lower bounds of the programs of sizing from weights on samples: every weight vector gives one.

The Lagrangian of  min (objective)  s.t.  sum_i (xi_ki - b_i)_+ + ratio sum_i b_i <= sigma  is separable in the
drivers once the samples' weights are fixed, and a driver's part is a convex function of one number with kinks at his
needs in the weighted samples: its minimum is read off exactly. Weak duality does the rest; nothing has to be repaired.
Sums are taken exactly (math.fsum) and lowered by the rounding of their terms.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["distance_bound", "largest_use", "least_use_bound"]

Floats = NDArray[np.float64]
_ROUNDING = 16.0 * np.finfo(float).eps  # of a term that went through up to a dozen operations


def largest_use(need: Floats, own: Floats, ratio: float) -> Floats:
    """sum_i (xi_ki - b_i)_+ + ratio sum_i b_i of every sample, (N,) [kWh]."""
    used = np.empty(len(need))
    for start in range(0, len(need), 4096):
        part = need[start : start + 4096]
        used[start : start + 4096] = np.maximum(part - own, 0.0).sum(axis=1)
    return used + ratio * float(own.sum())


def _lowered(terms: list[float]) -> float:
    return math.fsum(terms) - _ROUNDING * math.fsum(map(abs, terms))


def least_use_bound(need: Floats, weight: Floats, low: Floats, high: Floats, ratio: float) -> float:
    """Lower bound on min over b of the largest use of all samples [kWh].

    D(weight) = sum_i min over [low_i, high_i] of ratio b + sum_k weight_k (xi_ki - b)_+, weights scaled to sum to 1.

    Args:
        need: (k, n) the weighted samples [kWh].
        weight: (k,) not negative, not all zero.
        low: (n,) least own batteries [kWh].
        high: (n,) largest own batteries [kWh].
        ratio: price of own over price of shared capacity.
    """
    share = weight / math.fsum(weight.tolist())  # exact: days without weight change nothing, to the last bit
    # scaled weights sum to one up to rounding; a sum above one would overstate the bound
    share = share / max(math.fsum(share.tolist()) * (1.0 + _ROUNDING), 1.0)
    terms: list[float] = []
    for needs, first, last in zip(need.T, low, high, strict=True):
        points = np.concatenate([[first, last], np.clip(needs, first, last)])
        parts = share * np.maximum(needs - points[:, None], 0.0)
        best = int((ratio * points + parts.sum(axis=1)).argmin())
        terms += [ratio * float(points[best]), *parts[best].tolist()]
    return _lowered(terms)


def distance_bound(
    need: Floats, weight: Floats, low: Floats, high: Floats, ratio: float, sigma: float, target: float
) -> float:
    """Lower bound on 1/2 |b - target|^2 over all b whose largest use is at most sigma [kWh^2].

    sum_i min over [low_i, high_i] of 1/2 (b - target)^2 + W ratio b + sum_k weight_k (xi_ki - b)_+, minus W sigma,
    where W is the sum of the weights.

    Args:
        need: (k, n) the weighted samples [kWh].
        weight: (k,) not negative.
        low: (n,) least own batteries [kWh].
        high: (n,) largest own batteries [kWh].
        ratio: price of own over price of shared capacity.
        sigma: the limit [kWh].
        target: where own batteries are drawn to [kWh].
    """
    total = math.fsum(weight.tolist())
    terms = [-float(each) * sigma for each in weight]
    for needs, first, last in zip(need.T, low, high, strict=True):
        order = np.argsort(needs)
        kinks = np.concatenate([[first], np.clip(needs[order], first, last), [last]])
        # left of the j-th kink the samples j, j + 1, ... lie above b
        above = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
        points = np.append(np.clip(target - total * ratio + above, kinks[:-1], kinks[1:]), kinks)
        parts = weight * np.maximum(needs - points[:, None], 0.0)
        value = 0.5 * (points - target) ** 2 + total * ratio * points + parts.sum(axis=1)
        best = int(value.argmin())
        b = float(points[best])
        terms += [0.5 * (b - target) ** 2, total * ratio * b, *parts[best].tolist()]
    return _lowered(terms)
