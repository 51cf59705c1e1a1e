"""Roots of the equations behind the bounds of risk.py, vectorised, in the log domain, rounded to the safe side.

How the roots are found: with s = log(1 - eps) every defining inequality reads f(s) >= 0 for a convex f. Newton's
method started where f is positive therefore never crosses the root, and each iterate is itself a valid bound. It aims
a little above zero, by more than the rounding error of f, so what is returned satisfies the inequality; an entry that
could not be confirmed keeps the trivial bound (1 above, 0 below).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, gammaln

__all__ = ["binomial_limit", "lower_root", "tail_excess", "tail_slack", "upper_root"]

Floats: TypeAlias = NDArray[np.float64]

_UNDERFLOW = 1e-280
_MAX_NEWTON_STEPS = 100


def _slack(n: int) -> float:
    """Bound the rounding error of `_excess`, whose largest parts have the size of log N!."""
    return 1e-11 + 1e-14 * math.lgamma(n + 1)


def tail_slack(n: int) -> float:
    """Bound the rounding error of `tail_excess`: an incomplete beta function and, times n, that of its argument."""
    return 1e-11 + 3e-16 * n


def _newton(
    f: Callable[[Floats, Floats], tuple[Floats, Floats]], start: Floats, k: Floats, trivial: float, slack: float
) -> Floats:
    """Approach a root of each convex f(., k) from the side where f > 0.

    Args:
        f: returns value and slope at (s, k), elementwise.
        start: first iterates s.
        k: parameter of f, same shape as ``start``.
        trivial: s of the bound that holds without any computation.
        slack: rounding error of f.

    Returns:
        Points with computed f in [slack, 3 slack] where the iteration ended as planned; otherwise the last iterate with
        computed f >= slack, or ``trivial`` where there was none. Same shape as ``start``.
    """
    s = start.copy()
    safe = np.full_like(s, trivial)
    active = np.ones(s.shape, dtype=np.bool_)
    for _ in range(_MAX_NEWTON_STEPS):
        at = s[active]
        value, slope = f(at, k[active])
        safe[active] = last = np.where(value >= slack, at, safe[active])
        far = value > 3 * slack
        overshot = (at != last) & np.isfinite(last)  # only by rounding: go back half the way
        going = far | overshot
        if not going.any():
            break
        active[active] = going
        s[active] = np.where(overshot, (at + last) / 2, at - (value - 2 * slack) / slope)[going]
    return safe


def _log_binomial(n: float | Floats, k: float | Floats) -> Floats:
    """Return log C(n, k)."""
    result: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return result


def _log_sum(s: Floats, k: Floats, last: int) -> tuple[Floats, Floats]:
    """Return L(s) = log sum_{i=k}^{last} C(i,k) t^(i-k) for t = exp(s) <= 1, and its slope; -inf where k > last.

    The sum is I_e(k+1, last-k+1) / e^(k+1) with e = 1 - t and I the regularised incomplete beta function. Where I
    underflows, the first two terms of its hypergeometric series give a lower bound (exact at e = 0).
    """
    m = np.maximum(k, last)
    t, e = np.exp(s), -np.expm1(s)
    share = betainc(k + 1, m - k + 1, e)
    tiny = share < _UNDERFLOW
    ratio = (m + 2) / (k + 2)
    last_term = _log_binomial(m, k) + np.log(m + 1) + (m - k + 1) * s
    below = last_term - np.log(k + 1) + np.log1p(ratio * e)
    slope_below = m - k + 1 - ratio * t / (1 + ratio * e)
    e = np.where(tiny, 1.0, e)
    value = np.where(tiny, below, np.log(np.where(tiny, 1.0, share)) - (k + 1) * np.log(e))
    slope = np.where(tiny, slope_below, ((k + 1) * t - np.exp(last_term - value)) / e)
    empty = k > last
    return np.where(empty, -np.inf, value), np.where(empty, 0.0, slope)


def _excess(s: Floats, n: int, k: Floats, terms: Sequence[tuple[float, int]], head: float) -> tuple[Floats, Floats]:
    """Return f(s) = log sum_j w_j S_j(t) - log(h C(N,k) t^(N-k)) and its slope.

    Args:
        s: log t, where t = 1 - eps.
        n: N.
        k: complexities, shape of s.
        terms: pairs (log w_j, last_j), S_j the sum of C(i,k) t^(i-k) over i = k..last_j.
        head: log h.

    Returns:
        f, convex in s because it is the logarithm of a sum of exponentials of multiples of s, and df/ds.
    """
    sums = [_log_sum(s, k, last) for _, last in terms]
    logs = np.stack([log_weight + value for (log_weight, _), (value, _) in zip(terms, sums, strict=True)])
    total = np.logaddexp.reduce(logs, axis=0)
    slope = np.sum(np.exp(logs - total) * np.stack([slope for _, slope in sums]), axis=0)
    return total - _log_binomial(n, k) - (n - k) * s - head, slope - (n - k)


def tail_excess(s: Floats, n: int, v: Floats, beta: float) -> tuple[Floats, Floats]:
    """Return f(s) = log beta - log P{Bin(n, 1 - e^s) <= v} and its slope, for v < n; convex in s."""
    t, e = np.exp(s), -np.expm1(s)
    log_tail = np.log(betainc(n - v, v + 1, t))
    slope = -np.exp((n - v) * s + v * np.log(e) - betaln(n - v, v + 1) - log_tail)
    return math.log(beta) - log_tail, slope


def _start(n: int, k: Floats, log_level: float) -> Floats:
    """Return s = log(1 - eps) with P{Bin(n, eps) <= k} <= level, for k < n.

    The better of two explicit limits, p = k/n: the Chernoff bound with the relative entropy replaced by its lower bound
    (eps - p)^2 / (2 eps (1 - p)), and C(n,k) (1 - eps)^(n-k) <= level.
    """
    p = k / n
    width = (1 - p) * -log_level / n
    chernoff = p + width + np.sqrt(width * (width + 2 * p))
    with np.errstate(divide="ignore"):
        first = np.log1p(-np.minimum(chernoff, 1.0))
    better: Floats = np.maximum(first, (log_level - _log_binomial(n, k)) / (n - k))
    return better


def _as_upper(s: Floats, full: NDArray[np.bool_]) -> Floats:
    """Return eps = 1 - e^s rounded up, and 1 where ``full``."""
    eps = np.minimum(1.0, np.nextafter(-np.expm1(s), 2.0))
    return np.where(full, 1.0, eps)


def binomial_limit(n: int, v: Floats, beta: float) -> Floats:
    """Return the smallest p with P{Bin(n, p) <= v} <= beta, rounded up; 1 where v = n."""
    inner = np.minimum(v, n - 1)
    start = _start(n, inner, math.log(beta / 2))
    s = _newton(lambda at, v: tail_excess(at, n, v, beta), start, inner, -np.inf, tail_slack(n))
    return _as_upper(s, v == n)


def upper_root(n: int, k: Floats, beta: float, terms: Sequence[tuple[float, int]], head: float) -> Floats:
    """Return the larger root eps of `_excess`, rounded up; 1 where k = N.

    The start satisfies f > 0 for all three equations: there C(N,k) t^(N-k) eps^(k+1) <= beta/4N, or
    C(N,k) t^(N-k) <= beta/4N, while the weighted sums are at least 3 beta/8N (times eps^-(k+1) in the first case).
    """
    inner = np.minimum(k, n - 1)
    start = _start(n, inner, math.log(beta / (4 * n)))
    s = _newton(lambda at, k: _excess(at, n, k, terms, head), start, inner, -np.inf, _slack(n))
    return _as_upper(s, k == n)


def lower_root(n: int, k: Floats, terms: Sequence[tuple[float, int]], head: float) -> Floats:
    """Return the smaller root eps of `_excess`, rounded down; 0 where f(0) <= 0, so that the root is not positive."""
    s = _newton(lambda at, k: _excess(at, n, k, terms, head), np.zeros_like(k), k, 0.0, _slack(n))
    return np.maximum(0.0, np.nextafter(-np.expm1(s), -1.0))
