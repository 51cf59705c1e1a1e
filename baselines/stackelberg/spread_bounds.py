"""Rigorous enclosures of the Bernoulli's squared deviation q, its square root, and the bid's coefficients.

Above 1/2 (below, for the forward deviation) the rigorous q is f(u) = u / (4 atanh u), u = |2y - 1|. The coefficients
1/(2k+1) of atanh(u)/u are log-convex, so by Kaluza's theorem all coefficients of f after the first are negative:
f, f' and f'' decrease on (0, 1), and a truncated series is off by at most u^n times the sum of what is left, which is
known because f(1) = 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.interval import Interval, hull, point
from v2g_env.stackelberg.game import Game

__all__ = ["bid_coefficients", "root_of_spread", "spread_of"]

Floats = NDArray[np.float64]
Triple = tuple[Interval, Interval, Interval]

# f(u) = 1/4 (1 - u^2/3 - 4u^4/45 - 44u^6/945 - 428u^8/14175 - rest), the rest's coefficients sum up to less than this
_REST = 0.503
_NEAR = 0.06


def _near_half(u: Interval) -> Triple:
    v = u.square()
    known = 1.0 - v / 3.0 - 4.0 * v.square() / 45.0 - 44.0 * v * v.square() / 945.0 - 428.0 * v.square().square() / 14175.0
    power = v.square().square() * v  # u^10
    zero = np.zeros_like(u.low)
    value = 0.25 * (known - Interval(zero, (_REST * power).high))
    slope = 0.25 * u * (-2.0 / point(3.0) - 16.0 * v / 45.0 - 264.0 * v.square() / 945.0 - 3424.0 * v * v.square() / 14175.0)
    # sum k c_k u^(k-1) <= rest x max k u^(k-1) over k >= 10, largest at k = 10 for u <= .06; likewise k (k - 1)
    steep = u * v.square().square()
    slope = slope - Interval(zero, (0.25 * 10.0 * _REST * steep).high)
    curve = 0.25 * (
        -2.0 / point(3.0) - 48.0 * v / 45.0 - 1320.0 * v.square() / 945.0 - 23968.0 * v * v.square() / 14175.0
    ) - Interval(zero, (0.25 * 90.0 * _REST * v.square().square()).high)
    return value, slope, curve


def _far(u: Interval, y: Interval, rest: Interval) -> Triple:
    """f, f', f'' from the closed form; y, rest = 1 - y exactly with u = y - rest."""
    t = 0.5 * (y.log() - rest.log())
    t1 = 1.0 / (4.0 * y * rest)
    t2 = 2.0 * u * t1.square()
    value = u / (4.0 * t)
    slope = (t - u * t1) / (4.0 * t.square())
    curve = -(u * t2 * t + 2.0 * t1 * (t - u * t1)) / (4.0 * t * t.square())
    return value, slope, curve


def _upper_half(y: Interval) -> Triple:
    """q, q', q'' of the rigorous backward deviation for 1/2 <= y <= 1, at points (y.low == y.high up to rounding)."""
    u = 2.0 * y - 1.0
    u = Interval(np.clip(u.low, 0.0, 1.0), np.clip(u.high, 0.0, 1.0))
    near = _near_half(Interval(np.minimum(u.low, _NEAR), np.minimum(u.high, _NEAR)))
    far_y = Interval(np.clip(y.low, 0.52, 1.0), np.clip(y.high, 0.52, 1.0))
    rest = 1.0 - far_y
    rest = Interval(np.maximum(rest.low, 0.0), rest.high)
    far = _far(Interval(np.maximum(u.low, 0.04), np.maximum(u.high, 0.04)), far_y, rest)
    close = u.high < _NEAR
    parts = []
    for k, factor in enumerate((1.0, 2.0, 4.0)):
        a, b = near[k], far[k]
        parts.append(Interval(factor * np.where(close, a.low, b.low), factor * np.where(close, a.high, b.high)))
    at_one = y.high >= 1.0
    value = Interval(np.where(at_one, np.minimum(parts[0].low, 0.0), parts[0].low), parts[0].high)
    slope = Interval(np.where(at_one, -np.inf, parts[1].low), parts[1].high)
    curve = Interval(np.where(at_one, -np.inf, parts[2].low), parts[2].high)
    return Interval(np.maximum(value.low, 0.0), np.minimum(value.high, 0.25)), slope, curve


def _parabola(y: Interval) -> Triple:
    rest = 1.0 - y
    low, high = point(y.low), point(y.high)
    ends = hull(low * (1.0 - low), high * (1.0 - high))
    top = np.where((y.low <= 0.5) & (y.high >= 0.5), 0.25, ends.high)
    value = Interval(np.maximum(ends.low, 0.0), np.minimum(top, 0.25))
    return value, rest - y, point(np.full_like(y.low, -2.0))


def spread_of(y: Interval, rigorous: bool, forward: bool) -> Triple:
    """Enclosures of q, q' and q'' over intervals of y within [0, 1]."""
    if not rigorous:
        return _parabola(y)
    if forward:
        value, slope, curve = spread_of(1.0 - y, True, False)
        return value, -slope, curve
    y = Interval(np.clip(y.low, 0.0, 1.0), np.clip(y.high, 0.0, 1.0))
    below = _parabola(Interval(np.minimum(y.low, 0.5), np.minimum(y.high, 0.5)))
    left = _upper_half(point(np.maximum(y.low, 0.5)))
    right = _upper_half(point(np.maximum(y.high, 0.5)))
    above = tuple(Interval(right[k].low, left[k].high) for k in range(3))  # all three decrease
    result = []
    for k in range(3):
        both = hull(below[k], above[k])
        low = np.where(y.high <= 0.5, below[k].low, np.where(y.low >= 0.5, above[k].low, both.low))
        high = np.where(y.high <= 0.5, below[k].high, np.where(y.low >= 0.5, above[k].high, both.high))
        result.append(Interval(low, high))
    return result[0], result[1], result[2]


def root_of_spread(y: Interval, rigorous: bool, forward: bool) -> Triple:
    """Enclosures of sqrt(q), its first and its second derivative (which is not positive: sqrt(q) is concave)."""
    q, slope, curve = spread_of(y, rigorous, forward)
    root = q.sqrt()
    first = slope / (2.0 * root)
    second = curve / (2.0 * root) - slope.square() / (4.0 * root * q)
    return root, first, Interval(second.low, np.minimum(second.high, 0.0))


def bid_coefficients(game: Game) -> list[list[tuple[Interval, Interval, Interval] | None]]:
    """Enclosures of (a, sqrt(b), sqrt(c)) per requirement and condition, None where a condition allows no bid."""
    result: list[list[tuple[Interval, Interval, Interval] | None]] = []
    m = point(float(game.drivers))
    for each in game.requirements:
        eta, psi, mean = point(each.eta), point(each.power_kw), point(each.mean)
        rest = 1.0 - eta
        first = (-2.0 * eta.log()).sqrt(), each.forward
        second = rest / eta * (-2.0 * rest.log()).sqrt(), each.backward
        row: list[tuple[Interval, Interval, Interval] | None] = []
        for beta, deviation in (first, second):
            gap = mean.square() - (beta * deviation).square()
            if gap.low > 0.0:
                row.append((psi * m * mean / gap, beta * deviation * psi * m / gap, beta * psi * (m / gap).sqrt()))
            else:
                row.append(None)
        result.append(row)
    return result
