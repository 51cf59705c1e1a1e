"""Uncertainty sets of deviations u from a mean: worst case, membership, samples, and bounds on violations.

A row protected against a set holds for every u in it. If the u_j are independent, symmetric and bounded by the
half-widths, it is also rarely violated by the u outside of it; ``violation_bound`` says how rarely.

Sources: Ben-Tal, El Ghaoui and Nemirovski, Robust Optimization, 2009, chapter 2; Ben-Tal and Nemirovski, Mathematical
Programming 88, 2000; Bertsimas and Sim, Operations Research 52, 2004.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number, require

__all__ = ["Box", "BoxEllipsoid", "Budget", "Ellipsoid", "UncertaintySet", "Worst", "budget_bound"]

Floats = NDArray[np.float64]

_LARGEST = 1e100  # products of half-widths and coefficients must not overflow


class Worst(NamedTuple):
    """The largest y'u over a set.

    Attributes:
        value: (...) of y'u.
        deviation: (..., L) a u of the set that attains it.
    """

    value: Floats
    deviation: Floats


@dataclass(frozen=True, eq=False)
class UncertaintySet(ABC):
    """A set of deviations u in R^L, symmetric in every coordinate; the uncertain quantity is mean + u.

    Everything is computed in shares s_j = u_j / halfwidth_j; a coordinate with half-width 0 is certain (u_j = 0).

    Attributes:
        halfwidth: (L,) largest deviations, in the unit of the quantity; kept read-only.
    """

    halfwidth: Floats

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        halfwidth = array("halfwidth", self.halfwidth, (None,), 0.0, _LARGEST)
        require(len(halfwidth) > 0, "length of halfwidth", 0, "at least 1")
        halfwidth.setflags(write=False)
        object.__setattr__(self, "halfwidth", halfwidth)

    @property
    def entries(self) -> int:
        """Number L of deviations."""
        return len(self.halfwidth)

    def worst(self, y: ArrayLike) -> Worst:
        """Maximise y'u over the set, exactly.

        Args:
            y: (..., L) coefficients.

        Returns:
            Largest values (...) and a maximiser for each, (..., L); coordinates with y_j = 0 stay at 0.
        """
        y = _vectors("y", y, self.entries)
        effect = np.abs(y) * self.halfwidth
        largest = effect.max(axis=-1, keepdims=True)
        shares = self._shares(np.divide(effect, largest, out=np.zeros_like(effect), where=largest > 0.0))
        return Worst((effect * shares).sum(axis=-1), np.sign(y) * self.halfwidth * shares)

    def contains(self, u: ArrayLike, tolerance: float = 1e-9) -> NDArray[np.bool_]:
        """Whether each u lies in (1 + tolerance) times the set.

        Args:
            u: (..., L) deviations.
            tolerance: relative enlargement.
        """
        number("tolerance", tolerance, 0.0)
        u = _vectors("u", u, self.entries)
        certain = self.halfwidth == 0.0
        shares = np.divide(np.abs(u), self.halfwidth, out=np.zeros_like(u), where=~certain)
        return np.asarray((self._gauge(shares) <= 1.0 + tolerance) & ~((u != 0.0) & certain).any(axis=-1))

    def sample(self, rng: np.random.Generator, n: int, *, extreme: bool = False) -> Floats:
        """Draw points of the set, (n, L); every part of it has positive probability.

        The law is uniform for Box and Ellipsoid. For Budget and BoxEllipsoid a point lies in a normal direction of
        shares, at the fraction U^(1/d) of the way to the boundary, U uniform, d the number of half-widths above 0.

        Args:
            rng: source of randomness.
            n: number of points.
            extreme: extreme points instead: maximisers of y'u for y_j = normal_j / halfwidth_j. Corners of Box and
                Budget are then equally likely, points of the ellipsoid's surface uniform in shares.
        """
        number("n", n, 0, 10**9, integer=True)
        if extreme:
            normal = rng.standard_normal((n, self.entries))
            return np.sign(normal) * self.halfwidth * self._shares(np.where(self.halfwidth > 0.0, np.abs(normal), 0.0))
        return self.halfwidth * self._inside(rng, n)

    @abstractmethod
    def violation_bound(self, entries: int | None = None) -> float:
        """Upper limit on the probability that a row protected against the set is violated.

        The row is a'x + sum_j u_j y_j <= b with y independent of u, and holds for every u in the set. The u_j must be
        independent, symmetric about 0 and bounded by the half-widths (a standard deviation as half-width gives no
        bound). The limit is for this one row, not for several together.

        Never above 1/2, as y'u is symmetric and the protection not negative; and 0 once the set contains the box of
        the ``entries`` coordinates.

        Args:
            entries: number n of uncertain entries in the row, those with halfwidth_j > 0 and y_j != 0: the others
                change neither y'u nor the protection. None: all with halfwidth_j > 0, which holds for every y, as
                the limit grows with n.
        """

    def _uncertain(self, entries: int | None) -> int:
        most = int(np.count_nonzero(self.halfwidth))
        if entries is None:
            return most
        number("entries", entries, 0, most, integer=True)
        return int(entries)

    @abstractmethod
    def _shares(self, effect: Floats) -> Floats:
        """Shares (..., L), not negative, that maximise effect's over the set; effect (..., L) is not negative."""

    @abstractmethod
    def _gauge(self, shares: Floats) -> Floats:
        """Smallest factor (...) by which the set has to be scaled to contain shares (..., L), not negative."""

    def _inside(self, rng: np.random.Generator, n: int) -> Floats:
        direction = np.where(self.halfwidth > 0.0, rng.standard_normal((n, self.entries)), 0.0)
        radius = rng.random((n, 1)) ** (1.0 / max(self._uncertain(None), 1))
        gauge = self._gauge(np.abs(direction))[:, None]
        return np.asarray(direction * np.divide(radius, gauge, out=np.zeros_like(radius), where=gauge > 0.0))


@dataclass(frozen=True, eq=False)
class Box(UncertaintySet):
    """|u_j| <= halfwidth_j.

    Attributes:
        halfwidth: (L,) largest deviations, in the unit of the quantity; kept read-only.
    """

    def violation_bound(self, entries: int | None = None) -> float:
        """0: bounded deviations never leave the box (see UncertaintySet)."""
        self._uncertain(entries)
        return 0.0

    def _shares(self, effect: Floats) -> Floats:
        return np.ones_like(effect)

    def _gauge(self, shares: Floats) -> Floats:
        return np.asarray(shares.max(axis=-1))

    def _inside(self, rng: np.random.Generator, n: int) -> Floats:
        return rng.uniform(-1.0, 1.0, (n, self.entries))


@dataclass(frozen=True, eq=False)
class Ellipsoid(UncertaintySet):
    """sum_j (u_j / halfwidth_j)^2 <= omega^2.

    Attributes:
        halfwidth: (L,) largest deviations at omega = 1, in the unit of the quantity; kept read-only.
        omega: radius in half-widths.
    """

    omega: float

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        super().__post_init__()
        number("omega", self.omega, 0.0, _LARGEST)

    def violation_bound(self, entries: int | None = None) -> float:
        """exp(-omega^2 / 2) (Ben-Tal and Nemirovski 2000), or less (see UncertaintySet)."""
        return _ball_bound(self.omega, self._uncertain(entries))

    def _shares(self, effect: Floats) -> Floats:
        norm = np.linalg.norm(effect, axis=-1, keepdims=True)
        return np.asarray(self.omega * np.divide(effect, norm, out=np.zeros_like(effect), where=norm > 0.0))

    def _gauge(self, shares: Floats) -> Floats:
        return _ratio(np.linalg.norm(shares, axis=-1), self.omega)


@dataclass(frozen=True, eq=False)
class Budget(UncertaintySet):
    """|u_j| <= halfwidth_j z_j with z in [0, 1]^L and sum_j z_j <= alpha: at most alpha deviations at a time.

    Attributes:
        halfwidth: (L,) largest deviations, in the unit of the quantity; kept read-only.
        alpha: budget, any real number in [0, L].
    """

    alpha: float

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        super().__post_init__()
        number("alpha", self.alpha, 0.0, self.entries)

    def violation_bound(self, entries: int | None = None) -> float:
        """B(n, alpha) of ``budget_bound`` (Bertsimas and Sim 2004), or less (see UncertaintySet)."""
        n = self._uncertain(entries)
        return 0.0 if self.alpha >= n else min(float(budget_bound(n, self.alpha)), 0.5)

    def weak_bound(self, entries: int | None = None) -> float:
        """exp(-alpha^2 / (2 n)), the simpler and weaker limit (Bertsimas and Sim 2004, theorem 2).

        Args:
            entries: number n of uncertain entries in the row, as for violation_bound.
        """
        n = self._uncertain(entries)
        return math.exp(-(self.alpha**2) / (2.0 * n)) if n else 0.0

    def _shares(self, effect: Floats) -> Floats:
        place = np.argsort(np.argsort(-effect, axis=-1, kind="stable"), axis=-1, kind="stable")
        return np.asarray(np.clip(self.alpha - place, 0.0, 1.0))

    def _gauge(self, shares: Floats) -> Floats:
        return np.asarray(np.maximum(shares.max(axis=-1), _ratio(shares.sum(axis=-1), self.alpha)))


@dataclass(frozen=True, eq=False)
class BoxEllipsoid(UncertaintySet):
    """|u_j| <= halfwidth_j and sum_j (u_j / halfwidth_j)^2 <= omega^2.

    Attributes:
        halfwidth: (L,) largest deviations, in the unit of the quantity; kept read-only.
        omega: radius of the ellipsoid in half-widths.
    """

    omega: float

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        super().__post_init__()
        number("omega", self.omega, 0.0, _LARGEST)

    def violation_bound(self, entries: int | None = None) -> float:
        """exp(-omega^2 / 2) (Ben-Tal and Nemirovski 2000), or less (see UncertaintySet)."""
        return _ball_bound(self.omega, self._uncertain(entries))

    def _shares(self, effect: Floats) -> Floats:
        """Water filling: shares min(1, effect / level), the k largest at 1, the others on the ball that remains."""
        order = np.argsort(-effect, axis=-1, kind="stable")
        zero = np.zeros((*effect.shape[:-1], 1))
        square = np.concatenate([np.take_along_axis(effect, order, axis=-1) ** 2, zero], axis=-1)
        tail = np.cumsum(square[..., ::-1], axis=-1)[..., ::-1]
        room = self.omega**2 - np.arange(self.entries + 1.0)
        # the first k whose largest free share is at most 1; k = min(L, floor(omega^2)) always is one
        k = np.argmax((room >= 0.0) & (square * room <= tail), axis=-1)[..., None]
        left = np.take_along_axis(tail, k, axis=-1)
        slope = np.sqrt(np.divide(np.maximum(room[k], 0.0), left, out=np.zeros_like(left), where=left > 0.0))
        place = np.argsort(order, axis=-1, kind="stable")
        return np.where(place < k, 1.0, np.minimum(effect * slope, 1.0))

    def _gauge(self, shares: Floats) -> Floats:
        return np.asarray(np.maximum(shares.max(axis=-1), _ratio(np.linalg.norm(shares, axis=-1), self.omega)))


def budget_bound(entries: int, alpha: ArrayLike) -> Floats:
    """B(n, alpha) of Bertsimas and Sim 2004, theorem 3, for n independent symmetric bounded deviations.

    B = 2^-n [(1 - m) C(n, floor v) + sum_{l > floor v} C(n, l)], v = (alpha + n) / 2, m = v - floor v. It bounds
    P(sum_j g_j e_j >= alpha) for e_j in [-1, 1], g_j in [0, 1] and alpha > 0, and is attained by two-point laws with
    g = 1 where alpha + n is an even number. Below alpha = 1 it lies above 1/2 and is not monotone in n;
    Budget.violation_bound cuts it there, and is 0 once alpha reaches n.

    Args:
        entries: n, at least 1.
        alpha: (...) real budgets in [0, n].

    Returns:
        B, (...), at least the smallest positive normal number.
    """
    number("entries", entries, 1, 10_000_000, integer=True)
    budget = array("alpha", alpha, (None,) * np.ndim(alpha), 0.0, float(entries))
    count = np.arange(entries + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(count[1:]))])
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    mass = np.append(np.exp(log_choose - entries * math.log(2.0)), 0.0)
    above = np.cumsum(mass[::-1])[::-1]  # P(l >= i), smallest terms first
    v = (budget + entries) / 2.0
    floor = np.floor(v).astype(np.int64)
    value = (1.0 - (v - floor)) * mass[floor] + above[floor + 1]
    return np.asarray(np.maximum(value, np.finfo(float).tiny))


def _ball_bound(omega: float, entries: int) -> float:
    return 0.0 if omega >= math.sqrt(entries) else min(math.exp(-(omega**2) / 2.0), 0.5)


def _ratio(value: Floats, limit: float) -> Floats:
    if limit > 0.0:
        with np.errstate(over="ignore"):  # infinite is right beside a vanishing limit
            return np.asarray(value / limit)
    return np.where(value > 0.0, np.inf, 0.0)


def _vectors(field: str, value: ArrayLike, entries: int) -> Floats:
    try:
        axes = max(np.ndim(value), 1)
    except ValueError:  # ragged: array names it
        axes = 1
    return array(field, value, (None,) * (axes - 1) + (entries,), -_LARGEST, _LARGEST)
