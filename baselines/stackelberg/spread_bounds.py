"""Rigorous enclosures of the Bernoulli's squared deviation q and of its square root.

Above 1/2 (below, for the forward deviation) the rigorous q is f(u) = u / (4 atanh u), u = |2y - 1|. The coefficients
1/(2k+1) of atanh(u)/u are log-convex, so by Kaluza's theorem all coefficients of f after the first are negative:
f, f' and f'' decrease on (0, 1), and a truncated series is off by at most u^n times the sum of what is left, which is
known because f(1) = 0.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baselines.stackelberg.rounding import add, div, log, mul, neg, sqr, sqrt, sub

__all__ = ["enclose_root", "enclose_spread"]

# 4 f(u) = 1 - u^2/3 - 4u^4/45 - 44u^6/945 - 428u^8/14175 - rest; the rest's coefficients sum up to less than _REST
_REST = 0.503
_NEAR = 0.06


@njit(cache=True)
def ratio(a, b):
    """The fraction a / b of whole numbers."""
    return div((float(a), float(a)), (float(b), float(b)))


@njit(cache=True)
def near_half(u):
    """f, f', f'' for 0 <= u <= .06 from the series."""
    v = sqr(u)
    v2 = sqr(v)
    v3, v4 = mul(v, v2), sqr(v2)
    one = (1.0, 1.0)
    total = sub(sub(one, mul(v, ratio(1, 3))), mul(v2, ratio(4, 45)))
    total = sub(sub(total, mul(v3, ratio(44, 945))), mul(v4, ratio(428, 14175)))
    total = sub(total, (0.0, mul(mul(v4, v), (_REST, _REST))[1]))
    slope = add(add(ratio(2, 3), mul(v, ratio(16, 45))), add(mul(v2, ratio(264, 945)), mul(v3, ratio(3424, 14175))))
    # sum over k >= 10 of k c_k u^(k-1) is largest at k = 10 for u <= .06; likewise with k (k - 1)
    slope = add(mul(u, slope), (0.0, mul(mul(v4, u), (10.0 * _REST, 10.0 * _REST))[1]))
    curve = add(add(ratio(2, 3), mul(v, ratio(48, 45))), add(mul(v2, ratio(1320, 945)), mul(v3, ratio(23968, 14175))))
    curve = add(curve, (0.0, mul(v4, (90.0 * _REST, 90.0 * _REST))[1]))
    quarter = (0.25, 0.25)
    return mul(total, quarter), neg(mul(slope, quarter)), neg(mul(curve, quarter))


@njit(cache=True)
def upper_half(y):
    """q, q', q'' of the rigorous backward deviation at a number y in [1/2, 1]."""
    if y >= 1.0:
        return (0.0, 0.0), (-np.inf, -0.4), (-np.inf, -0.6)
    u = (2.0 * y - 1.0, 2.0 * y - 1.0)  # exact for y in [1/2, 1]
    if u[0] < _NEAR:
        value, slope, curve = near_half(u)
    else:
        rest = (1.0 - y, 1.0 - y)  # exact as well
        t = mul(sub(log((y, y)), log(rest)), (0.5, 0.5))
        t1 = div((0.25, 0.25), mul((y, y), rest))
        t2 = mul(mul((2.0, 2.0), u), sqr(t1))
        value = div(mul(u, (0.25, 0.25)), t)
        bracket = sub(t, mul(u, t1))
        slope = div(mul(bracket, (0.25, 0.25)), sqr(t))
        top = add(mul(mul(u, t2), t), mul(mul((2.0, 2.0), t1), bracket))
        curve = neg(div(mul(top, (0.25, 0.25)), mul(t, sqr(t))))
    value = (max(value[0], 0.0), min(value[1], 0.25))
    return value, (2.0 * slope[0], 2.0 * slope[1]), (4.0 * curve[0], 4.0 * curve[1])


@njit(cache=True)
def parabola(y):
    """Y (1 - y), its slope and curvature over an interval within [0, 1]."""
    left = mul((y[0], y[0]), sub((1.0, 1.0), (y[0], y[0])))
    right = mul((y[1], y[1]), sub((1.0, 1.0), (y[1], y[1])))
    low, high = min(left[0], right[0]), max(left[1], right[1])
    if y[0] <= 0.5 <= y[1]:
        high = 0.25
    return (max(low, 0.0), min(high, 0.25)), sub((1.0, 1.0), mul((2.0, 2.0), y)), (-2.0, -2.0)


@njit(cache=True)
def enclose_spread(y, rigorous, forward):
    """Enclosures of q, q' and q'' over an interval y within [0, 1]."""
    y = (min(max(y[0], 0.0), 1.0), min(max(y[1], 0.0), 1.0))
    if not rigorous:
        return parabola(y)
    mirrored = y
    if forward:
        back = sub((1.0, 1.0), y)
        mirrored = (max(back[0], 0.0), min(back[1], 1.0))
    if mirrored[1] <= 0.5:
        value, slope, curve = parabola(mirrored)
    else:
        first = upper_half(max(mirrored[0], 0.5))
        last = upper_half(mirrored[1])  # value, slope and curvature decrease above 1/2
        value, slope, curve = (last[0][0], first[0][1]), (last[1][0], first[1][1]), (last[2][0], first[2][1])
        if mirrored[0] < 0.5:
            v, s, c = parabola((mirrored[0], 0.5))
            value = (min(value[0], v[0]), max(value[1], v[1]))
            slope = (min(slope[0], s[0]), max(slope[1], s[1]))
            curve = (min(curve[0], c[0]), max(curve[1], c[1]))
    if forward:
        slope = neg(slope)
    return value, slope, curve


@njit(cache=True)
def enclose_root(y, rigorous, forward):
    """Enclosures of sqrt(q), its slope, and its curvature (not positive: sqrt(q) is concave)."""
    q, slope, curve = enclose_spread(y, rigorous, forward)
    root = sqrt(q)
    twice = (2.0 * root[0], 2.0 * root[1])
    first = div(slope, twice)
    second = sub(div(curve, twice), div(sqr(slope), mul((4.0 * root[0], 4.0 * root[1]), q)))
    return root, first, (second[0], min(second[1], 0.0))
