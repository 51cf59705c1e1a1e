"""Interval arithmetic for compiled code: an interval is a pair (low, high), every operation rounds outward.

IEEE-754 results are within half a unit in the last place; moving by 2^-52 of the result covers that. The logarithm of
the C library is trusted to 4 units and widened by 8.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["add", "div", "inv", "log", "mul", "neg", "sqr", "sqrt", "sub", "up"]

_ULP = 2.0**-52
_LEAST = 1e-300
_MOST = 1.7e308


@njit(cache=True)
def down(x):
    """A float below every number that rounds to x."""
    if x == np.inf:  # an overflow: the number itself is finite
        return _MOST
    return x - (abs(x) * _ULP + _LEAST) if x == x else -np.inf


@njit(cache=True)
def up(x):
    """A float above every number that rounds to x."""
    if x == -np.inf:
        return -_MOST
    return x + (abs(x) * _ULP + _LEAST) if x == x else np.inf


@njit(cache=True)
def neg(a):
    """-a."""
    return -a[1], -a[0]


@njit(cache=True)
def add(a, b):
    """Sum."""
    return down(a[0] + b[0]), up(a[1] + b[1])


@njit(cache=True)
def sub(a, b):
    """Difference."""
    return down(a[0] - b[1]), up(a[1] - b[0])


@njit(cache=True)
def times(x, y):
    """Product of two ends; an exact 0 times infinity is 0."""
    return 0.0 if x == 0.0 or y == 0.0 else x * y


@njit(cache=True)
def mul(a, b):
    """Product."""
    p, q, r, s = times(a[0], b[0]), times(a[0], b[1]), times(a[1], b[0]), times(a[1], b[1])
    return down(min(min(p, q), min(r, s))), up(max(max(p, q), max(r, s)))


@njit(cache=True)
def inv(a):
    """1 / a; unbounded where 0 is inside."""
    if a[0] > 0.0 or a[1] < 0.0:
        return down(1.0 / a[1]), up(1.0 / a[0])
    if a[0] == 0.0 and a[1] > 0.0:
        return down(1.0 / a[1]), np.inf
    return -np.inf, np.inf


@njit(cache=True)
def div(a, b):
    """Quotient."""
    return mul(a, inv(b))


@njit(cache=True)
def sqr(a):
    """Square."""
    x, y = abs(a[0]), abs(a[1])
    small = 0.0 if a[0] <= 0.0 <= a[1] else min(x, y)
    return max(down(small * small), 0.0), up(max(x, y) * max(x, y))


@njit(cache=True)
def sqrt(a):
    """Root of the part that is not negative."""
    return max(down(np.sqrt(max(a[0], 0.0))), 0.0), up(np.sqrt(max(a[1], 0.0)))


@njit(cache=True)
def log(a):
    """Logarithm of the positive part."""
    low, high = -np.inf, -_MOST
    if a[0] > 0.0:
        low = min(np.log(a[0]), _MOST)
        low = low - 8.0 * _ULP * abs(low) - _LEAST
    if a[1] > 0.0:
        high = np.log(a[1])
        high = high + 8.0 * _ULP * abs(high) + _LEAST
    return low, high
