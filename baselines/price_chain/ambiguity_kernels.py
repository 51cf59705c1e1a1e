"""Inner problems of robust Markov decision processes as loops, compiled by numba; ambiguity.py is the entrance.

Each minimises p'V over the probabilities p of a set around the estimate f. A ``*_dual`` function finds one number per
problem; the ``*_bracket`` function makes from that number alone a lower bound (weak duality: from any number, right or
wrong) and a member of the set, whose p'V is an upper bound. With a = V - min V, one number suffices:

* entropy, KL(p||f) <= B: lambda; low = min V - lambda ln sum f exp(-a/lambda) - lambda B, p ~ f exp(-a/lambda).
* likelihood, KL(f||p) <= B: x > 0, the distance of the sum's multiplier below min V; low = min V - x + nu with
  nu = exp(sum f ln(a + x) - B), p = nu f/(a + x); what is left of one goes to the cheapest successor, seen or not.
* ellipsoid, sum (p - f)^2/f <= k2, p >= 0: x; p ~ f max(x - a, 0), low from the multipliers that make this p optimal.
* interval, lo <= p <= up: tau; low = tau + sum lo max(V - tau, 0) - sum up max(tau - V, 0), p filled greedily.

Minima over V are over the support of f, except for likelihood and interval, where unseen successors can take mass.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "ellipsoid_bracket",
    "ellipsoid_dual",
    "entropy_bracket",
    "entropy_dual",
    "interval_bracket",
    "interval_dual",
    "likelihood_bracket",
    "likelihood_dual",
]

_TINY = 1e-17  # of the spread of the values: multipliers below it change nothing
_CLOSE = 1e-15
_MOST = 400
_ALIKE = 1e-100  # values that differ by less are the same: squares of smaller numbers are zero
_SMALLEST = 1e-100  # multipliers below it count as zero: a/x overflows
_LARGE = 600.0  # larger likelihood sets differ from this one by exp(-600): the probabilities would underflow
_ENTROPY, _LIKELIHOOD, _ELLIPSOID = 0, 1, 2


@njit(cache=True)
def _lift(f, values, a):
    """Fill a = V - min V, minimum over the support of f; return the minimum and the largest a on the support."""
    least, most = np.inf, -np.inf
    for j in range(len(f)):
        if f[j] > 0.0:
            least, most = min(least, values[j]), max(most, values[j])
    for j in range(len(f)):
        a[j] = values[j] - least
    return least, most - least


@njit(cache=True)
def _mean(f, values):
    total = 0.0
    for j in range(len(f)):
        if f[j] > 0.0:
            total += f[j] * values[j]
    return total


@njit(cache=True)
def _log_sum(f, a, x):
    """Logarithm of sum f exp(-a/x), accurate for large x too."""
    change, total = 0.0, 0.0
    for j in range(len(f)):
        if f[j] > 0.0:
            change += f[j] * np.expm1(-a[j] / x)
            total += f[j] * np.exp(-a[j] / x)
    return np.log1p(change) if change > -0.5 else np.log(total)


@njit(cache=True)
def _entropy_at(f, a, x):
    """KL(p||f) of p ~ f exp(-a/x)."""
    log = _log_sum(f, a, x)
    mean = 0.0
    for j in range(len(f)):
        if f[j] > 0.0:
            mean += f[j] * np.exp(-a[j] / x - log) * a[j]
    return -mean / x - log


@njit(cache=True)
def _likelihood_log(f, a, x):
    """Return sum f ln((a + x)/x), with 0 ln 0 = 0."""
    total = 0.0
    for j in range(len(f)):
        if f[j] > 0.0:
            total += f[j] * np.log1p(a[j] / x)
    return total


@njit(cache=True)
def _likelihood_at(f, a, x):
    """KL(f||p) of p ~ f/(a + x)."""
    less, total = 0.0, 0.0
    for j in range(len(f)):
        if f[j] > 0.0:
            less -= f[j] * a[j] / (a[j] + x)
            total += f[j] * (x / (a[j] + x))
    return _likelihood_log(f, a, x) + (np.log1p(less) if less > -0.5 else np.log(total))


@njit(cache=True)
def _ellipsoid_at(f, a, x):
    """Distance sum (p - f)^2/f of p ~ f max(x - a, 0)."""
    mass, cut, square = 0.0, 0.0, 0.0
    for j in range(len(f)):
        if f[j] > 0.0:
            mass += f[j] * max(x - a[j], 0.0)
            cut += f[j] * min(x, a[j])  # x - mass without cancellation
    for j in range(len(f)):
        if f[j] > 0.0:
            square += f[j] * ((cut - min(x, a[j])) / mass) ** 2
    return square


@njit(cache=True)
def _distance(kind, f, a, x):
    if kind == _ENTROPY:
        return _entropy_at(f, a, x)
    if kind == _LIKELIHOOD:
        return _likelihood_at(f, a, x)
    return _ellipsoid_at(f, a, x)


@njit(cache=True)
def _boundary(kind, f, size, a, high, floor):
    """Smallest multiplier, from the inside, whose row is a member; ``high`` is inside, below ``floor`` all count so.

    Distances fall as multipliers grow.
    """
    low = high
    while low > floor and _distance(kind, f, a, low) <= size:
        high, low = low, 0.5 * low
    if low <= floor:
        return high
    for _ in range(_MOST):
        if high <= low * (1.0 + _CLOSE):
            break
        middle = np.sqrt(low * high)
        if _distance(kind, f, a, middle) <= size:
            high = middle
        else:
            low = middle
    return high


@njit(cache=True)
def _grown(kind, f, size, a, x):
    """Smallest multiplier tried from x upwards whose row is a member; infinite if x is too small by far."""
    grown, step = x, _CLOSE
    while grown < np.inf and _distance(kind, f, a, grown) > size:
        grown, step = x * (1.0 + step), 2.0 * step
    return grown


@njit(cache=True)
def entropy_dual(f, size, at, values):
    """Multipliers (K,) for estimates f (R, n), sizes B (R,), rows at (K,), values (K, n)."""
    dual = np.zeros(len(at))
    a = np.empty(f.shape[1])
    for k in range(len(at)):
        row, b = f[at[k]], size[at[k]]
        _, spread = _lift(row, values[k], a)
        if b <= _SMALLEST or spread <= _ALIKE:
            continue
        high = spread / np.sqrt(8.0 * b)  # KL <= spread^2 / (8 x^2) by Hoeffding's lemma
        high = max(high, _TINY * spread)
        dual[k] = _boundary(_ENTROPY, row, b, a, high, _TINY * spread)
    return dual


@njit(cache=True)
def entropy_bracket(f, size, at, values, dual):
    """Lower bounds (K,) and members (K, n)."""
    low = np.empty(len(at))
    rows = np.empty(values.shape)
    a = np.empty(f.shape[1])
    for k in range(len(at)):
        row, b, x = f[at[k]], size[at[k]], dual[k]
        rows[k] = row
        least, spread = _lift(row, values[k], a)
        if b <= _SMALLEST:
            low[k] = _mean(row, values[k])
            continue
        low[k] = least
        if not x > _SMALLEST or spread <= 0.0:
            continue
        low[k] = max(least - x * (_log_sum(row, a, x) + b), least)
        x = _grown(_ENTROPY, row, b, a, x)
        if x < np.inf:
            log = _log_sum(row, a, x)
            for j in range(len(row)):
                rows[k, j] = row[j] * np.exp(-a[j] / x - log) if row[j] > 0.0 else 0.0
            rows[k] /= rows[k].sum()
    return low, rows


@njit(cache=True)
def _at_zero(f, b, a):
    """Return nu at x = 0: exp(sum f ln a - B), zero if a successor of the support is the cheapest."""
    total = -b
    for j in range(len(f)):
        if f[j] > 0.0:
            if a[j] <= 0.0:
                return 0.0
            total += f[j] * np.log(a[j])
    return np.exp(total)


@njit(cache=True)
def _taken(f, nu, a):
    """Mass of p = nu f/a; zero for nu = 0."""
    total = 0.0
    for j in range(len(f)):
        if f[j] > 0.0 and nu > 0.0:
            total += nu * f[j] / a[j]
    return total


@njit(cache=True)
def likelihood_dual(f, size, at, values):
    """Distances x (K,); zero where unseen successors or nothing at all need mass taken."""
    dual = np.zeros(len(at))
    n = f.shape[1]
    for k in range(len(at)):
        row, b = f[at[k]], min(size[at[k]], _LARGE)
        a = values[k] - values[k].min()
        spread = 0.0
        for j in range(n):
            if row[j] > 0.0:
                spread = max(spread, a[j])
        if b <= _SMALLEST or spread <= _ALIKE:
            continue
        nu = _at_zero(row, b, a)
        if nu > 0.0 and _taken(row, nu, a) <= 1.0:
            continue
        high = spread / (2.0 * np.sqrt(np.expm1(b)))  # Kantorovich's inequality: enough is left there
        high = max(high, _TINY * spread)
        dual[k] = _boundary(_LIKELIHOOD, row, b, a, high, _TINY * spread)
    return dual


@njit(cache=True)
def likelihood_bracket(f, size, at, values, dual):
    """Lower bounds (K,) and members (K, n)."""
    low = np.empty(len(at))
    rows = np.empty(values.shape)
    n = f.shape[1]
    for k in range(len(at)):
        row, b, x = f[at[k]], min(size[at[k]], _LARGE), dual[k]
        rows[k] = row
        if b <= _SMALLEST:
            low[k] = _mean(row, values[k])
            continue
        cheapest = int(values[k].argmin())
        least = values[k, cheapest]
        a = values[k] - least
        nu = _at_zero(row, b, a)
        if x > _SMALLEST:
            log = _likelihood_log(row, a, x)
            low[k] = least + x * np.expm1(log - size[at[k]])
            nu = x * np.exp(log - b)
        else:
            x = 0.0
            low[k] = least + nu * np.exp(b - size[at[k]])
        low[k] = max(low[k], least)
        if x > 0.0 or _taken(row, nu, a) > 1.0:
            x = _grown(_LIKELIHOOD, row, b, a, max(x, _TINY * max(a.max(), 1e-300)))
            nu = x * np.exp(_likelihood_log(row, a, x) - b) if x < np.inf else 0.0
        if nu <= 0.0:
            continue
        total = 0.0
        for j in range(n):
            rows[k, j] = nu * row[j] / (a[j] + x) if row[j] > 0.0 else 0.0
            total += rows[k, j]
        rows[k, cheapest] += max(1.0 - total, 0.0)
    return low, rows


@njit(cache=True)
def ellipsoid_dual(f, size, at, values):
    """Heights x (K,) above the least value, sizes k^2 (R,)."""
    dual = np.zeros(len(at))
    a = np.empty(f.shape[1])
    for k in range(len(at)):
        row, b = f[at[k]], size[at[k]]
        _, spread = _lift(row, values[k], a)
        if b <= _SMALLEST or spread <= _ALIKE:
            continue
        mean = _mean(row, a)
        variance = 0.0
        for j in range(len(row)):
            if row[j] > 0.0:
                variance += row[j] * (a[j] - mean) ** 2
        closed = mean + np.sqrt(variance / b)
        if closed >= spread:  # no probability is pushed below zero
            dual[k] = closed
            continue
        dual[k] = _boundary(_ELLIPSOID, row, b, a, spread, _TINY * spread)
    return dual


@njit(cache=True)
def ellipsoid_bracket(f, size, at, values, dual):
    """Lower bounds (K,) and members (K, n)."""
    low = np.empty(len(at))
    rows = np.empty(values.shape)
    a = np.empty(f.shape[1])
    n = f.shape[1]
    for k in range(len(at)):
        row, b, x = f[at[k]], size[at[k]], dual[k]
        rows[k] = row
        least, spread = _lift(row, values[k], a)
        if b <= _SMALLEST:
            low[k] = _mean(row, values[k])
            continue
        low[k] = least
        if not x > _SMALLEST or spread <= 0.0:
            continue
        mass, cut = 0.0, 0.0
        for j in range(n):
            if row[j] > 0.0:
                mass += row[j] * max(x - a[j], 0.0)
                cut += row[j] * min(x, a[j])
        total = 0.0
        for j in range(n):
            if row[j] > 0.0:
                y = (a[j] - cut) / mass
                total += row[j] * (y * (2.0 - y) if y < 1.0 else 1.0)
        low[k] = max(least + cut + 0.5 * mass * (total - b), least)
        x = _grown(_ELLIPSOID, row, b, a, x)
        if x < np.inf:
            for j in range(n):
                rows[k, j] = row[j] * max(x - a[j], 0.0) if row[j] > 0.0 else 0.0
            rows[k] /= rows[k].sum()
    return low, rows


@njit(cache=True)
def interval_dual(lower, upper, at, values):
    """Value tau (K,) of the successor that takes the last of the mass."""
    dual = np.empty(len(at))
    for k in range(len(at)):
        lo, up = lower[at[k]], upper[at[k]]
        left = 1.0 - lo.sum()
        order = np.argsort(values[k])
        dual[k] = values[k, order[0]]
        for j in order:
            if left <= 0.0:
                break
            dual[k] = values[k, j]
            left -= up[j] - lo[j]
    return dual


@njit(cache=True)
def interval_bracket(lower, upper, at, values, dual):
    """Lower bounds (K,) and members (K, n)."""
    low = np.empty(len(at))
    rows = np.empty(values.shape)
    for k in range(len(at)):
        lo, up, tau = lower[at[k]], upper[at[k]], dual[k]
        low[k] = tau
        for j in range(len(lo)):
            low[k] += lo[j] * max(values[k, j] - tau, 0.0) - up[j] * max(tau - values[k, j], 0.0)
        rows[k] = lo
        left = 1.0 - lo.sum()
        for j in np.argsort(values[k]):
            given = min(max(left, 0.0), up[j] - lo[j])
            rows[k, j] += given
            left -= given
    return low, rows
