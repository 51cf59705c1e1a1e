"""Interval arithmetic on NumPy arrays with outward rounding: every result contains the exact one.

IEEE-754 makes + - * / and sqrt correct to half a unit in the last place, so one step outward is enough; NumPy's log is
trusted to 4 units and widened by 8.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "point"]

Floats: TypeAlias = NDArray[np.float64]


def _down(values: Any) -> Floats:
    return np.nextafter(np.where(np.isnan(values), -np.inf, values), -np.inf)


def _up(values: Any) -> Floats:
    return np.nextafter(np.where(np.isnan(values), np.inf, values), np.inf)


class Interval:
    """Arrays of intervals [low, high]; NaN never appears, what is unknown is infinite."""

    __slots__ = ("high", "low")
    __array_ufunc__ = None  # array op Interval goes to the reflected method

    def __init__(self, low: Any, high: Any) -> None:
        self.low: Floats = np.asarray(low, np.float64)
        self.high: Floats = np.asarray(high, np.float64)

    def __getitem__(self, key: Any) -> Interval:
        return Interval(self.low[key], self.high[key])

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: Any) -> Interval:
        other = point(other)
        return Interval(_down(self.low + other.low), _up(self.high + other.high))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Interval:
        return self + (-point(other))

    def __rsub__(self, other: Any) -> Interval:
        result: Interval = self.__neg__().__add__(other)
        return result

    def __mul__(self, other: Any) -> Interval:
        other = point(other)
        with np.errstate(invalid="ignore", over="ignore"):
            products = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        # 0 x infinity: an exact zero times an unknown number is zero
        products = [np.where(np.isnan(each), 0.0, each) for each in products]
        low = np.minimum(np.minimum(products[0], products[1]), np.minimum(products[2], products[3]))
        high = np.maximum(np.maximum(products[0], products[1]), np.maximum(products[2], products[3]))
        return Interval(_down(low), _up(high))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Interval:
        return self * point(other).inverse()

    def __rtruediv__(self, other: Any) -> Interval:
        return point(other) * self.inverse()

    def inverse(self) -> Interval:
        """1 / self; infinite both ways where 0 is inside."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            low, high = 1.0 / self.high, 1.0 / self.low
        inside = (self.low <= 0.0) & (self.high >= 0.0)
        one_sided = inside & (self.low == 0.0) & (self.high > 0.0)
        low = np.where(inside, np.where(one_sided, low, -np.inf), low)
        high = np.where(inside, np.inf, high)
        return Interval(_down(low), _up(high))

    def square(self) -> Interval:
        """self^2, never negative."""
        a, b = np.abs(self.low), np.abs(self.high)
        small = np.where((self.low <= 0.0) & (self.high >= 0.0), 0.0, np.minimum(a, b))
        with np.errstate(over="ignore"):
            return Interval(np.maximum(_down(small * small), 0.0), _up(np.maximum(a, b) ** 2))

    def sqrt(self) -> Interval:
        """Square root of the part that is not negative."""
        low, high = np.maximum(self.low, 0.0), np.maximum(self.high, 0.0)
        return Interval(np.maximum(_down(np.sqrt(low)), 0.0), _up(np.sqrt(high)))

    def log(self) -> Interval:
        """Natural logarithm of the positive part."""
        with np.errstate(divide="ignore"):
            low, high = np.log(np.maximum(self.low, 0.0)), np.log(np.maximum(self.high, 0.0))
        eps = 8.0 * np.finfo(float).eps
        return Interval(_down(low - eps * np.abs(low)), _up(high + eps * np.abs(high)))

    def sum(self, axis: int | None = None) -> Interval:
        """Sum with an error bound for any order of summation."""
        count = self.low.size if axis is None else self.low.shape[axis]
        eps = 1.01 * (count + 1) * np.finfo(float).eps
        with np.errstate(invalid="ignore"):
            low = self.low.sum(axis) - eps * np.abs(self.low).sum(axis)
            high = self.high.sum(axis) + eps * np.abs(self.high).sum(axis)
        return Interval(_down(low), _up(high))


def point(value: Any) -> Interval:
    """Exact numbers as intervals of width 0; intervals are passed through."""
    return value if isinstance(value, Interval) else Interval(value, value)
