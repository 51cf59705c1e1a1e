"""Uncertainty sets of transition rows, and the worst row of each for given values of the successors.

Rewards are maximised in this project, so the adversary minimises: ``worst`` gives min p'V over the set (for costs,
negate). A set holds R rows; its problems are pairs of a row and a vector of values, and all are solved in one call.
Sizes from confidence are the usual asymptotic ones (chi-square), for a row at a time, not for all rows together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.certificate import CertificateError, unpack
from baselines.price_chain import ambiguity_kernels as kernels
from baselines.price_chain.ambiguity_base import Ambiguity, Worst, chi_square_size, estimate_rows, probability_rows
from v2g_env.core.validate import InvalidInputError, array, number, require

__all__ = [
    "SETS",
    "Ambiguity",
    "Ellipsoid",
    "Entropy",
    "Interval",
    "Likelihood",
    "Scenarios",
    "Worst",
    "chi_square_size",
    "from_data",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST = 1e-9  # smaller probabilities than this are beyond what the multipliers resolve


class Scenarios(Ambiguity):
    """A finite list of rows; one row each is no uncertainty at all.

    Args:
        members: (R, S, n) probabilities.
    """

    name: ClassVar[str] = "scenarios"
    parts: ClassVar[tuple[str, ...]] = ("members",)

    def __init__(self, members: ArrayLike) -> None:
        given = array("members", members, (None, None, None))
        r, s, n = given.shape
        require(given.size > 0, "shape of members", given.shape, "at least one row, scenario and successor")
        self.members = np.ascontiguousarray(probability_rows("members", given.reshape(r * s, n)).reshape(r, s, n))

    @classmethod
    def from_counts(cls, counts: ArrayLike, n_scenarios: int = 20, seed: int = 0) -> Self:
        """The estimate, and estimates from ``n_scenarios`` - 1 redrawn histories of the same length."""
        estimate, totals = estimate_rows(counts)
        number("n_scenarios", n_scenarios, 1, 10_000, integer=True)
        rng = np.random.default_rng(seed)
        size = np.maximum(np.rint(totals), 1.0).astype(np.int64)
        redrawn = [rng.multinomial(size, estimate) / size[:, None] for _ in range(n_scenarios - 1)]
        return cls(np.stack([estimate, *redrawn], axis=1))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.members.shape[0])

    @property
    def width(self) -> int:
        """Number of successors."""
        return int(self.members.shape[2])

    def _dual(self, at: Ints, values: Floats) -> Floats:
        return np.asarray(np.einsum("ksn,kn->ks", self.members[at], values).argmin(axis=1), np.float64)

    def _bracket(self, at: Ints, values: Floats, dual: Floats) -> tuple[Floats, Floats]:
        every = np.einsum("ksn,kn->ks", self.members[at], values)  # all of them: the list is its own certificate
        chosen = np.clip(dual, 0, every.shape[1] - 1).astype(np.int64)
        return every.min(axis=1), self.members[at, chosen]

    def excess(self, at: Ints, rows: Floats) -> Floats:
        """(K,) distance to the nearest member, largest entry."""
        return np.asarray(np.abs(self.members[at] - rows[:, None]).max(axis=2).min(axis=1))


class Interval(Ambiguity):
    """Rows between two bounds, entry by entry, that sum to one.

    Args:
        lower, upper: (R, n) bounds in [0, 1].
    """

    name: ClassVar[str] = "interval"
    parts: ClassVar[tuple[str, ...]] = ("lower", "upper")

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        self.lower = np.ascontiguousarray(array("lower", lower, (None, None), 0.0, 1.0))
        self.upper = np.ascontiguousarray(array("upper", upper, self.lower.shape, 0.0, 1.0))
        require(self.lower.size > 0, "shape of lower", self.lower.shape, "at least one row and one column")
        low, high = self.lower.sum(axis=1), self.upper.sum(axis=1)
        bad = (self.lower > self.upper).any(axis=1) | (low > 1.0 + 1e-12) | (high < 1.0 - 1e-12)
        for i in np.flatnonzero(bad).tolist():
            text = "lower <= upper, sums of lower <= 1 <= sums of upper"
            require(False, f"bounds[row {i}]", (self.lower[i].tolist(), self.upper[i].tolist()), text)

    @classmethod
    def from_counts(cls, counts: ArrayLike, confidence: float = 0.95) -> Self:
        """Clopper-Pearson limits of every entry; 1 - confidence is shared by the n entries of a row (union bound)."""
        from scipy.special import betaincinv

        estimate, totals = estimate_rows(counts)
        number("confidence", confidence, 0.0, 1.0, open_high=True)
        n = estimate.shape[1]
        tail = (1.0 - confidence) / (2.0 * n)
        seen = np.asarray(counts, np.float64)
        rest = totals[:, None] - seen
        lower = np.where(seen > 0.0, betaincinv(np.maximum(seen, 1e-300), rest + 1.0, tail), 0.0)
        upper = np.where(rest > 0.0, betaincinv(seen + 1.0, np.maximum(rest, 1e-300), 1.0 - tail), 1.0)
        return cls(np.minimum(lower, estimate), np.maximum(upper, estimate))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.lower.shape[0])

    @property
    def width(self) -> int:
        """Number of successors."""
        return int(self.lower.shape[1])

    def _dual(self, at: Ints, values: Floats) -> Floats:
        return np.asarray(kernels.interval_dual(self.lower, self.upper, at, values))

    def _bracket(self, at: Ints, values: Floats, dual: Floats) -> tuple[Floats, Floats]:
        low, rows = kernels.interval_bracket(self.lower, self.upper, at, values, dual)
        return low, rows

    def excess(self, at: Ints, rows: Floats) -> Floats:
        """(K,) largest overstepping of a bound."""
        return np.asarray(np.maximum(self.lower[at] - rows, rows - self.upper[at]).max(axis=1))


class _Ball(Ambiguity):
    """What the three sets around an estimate have in common: estimates (R, n), and a size for each."""

    parts: ClassVar[tuple[str, ...]] = ("estimate", "size")
    share: ClassVar[float]  # of the chi-square size
    kernel: ClassVar[str]

    def __init__(self, estimate: ArrayLike, size: ArrayLike) -> None:
        self.estimate = np.ascontiguousarray(probability_rows("estimate", estimate))
        for i, j in np.argwhere((self.estimate > 0.0) & (self.estimate < _LEAST))[:1].tolist():
            require(False, f"estimate[row {i}]", float(self.estimate[i, j]), f"zero, or at least {_LEAST:g}")
        self.size = np.ascontiguousarray(array("size", np.atleast_1d(size), (None,), 0.0))
        if len(self.size) == 1:
            self.size = np.repeat(self.size, len(self.estimate))
        require(len(self.size) == self.rows, "length of size", len(self.size), f"1 or {self.rows}")

    @classmethod
    def from_counts(cls, counts: ArrayLike, confidence: float = 0.95) -> Self:
        """The set that holds a row's true probabilities with this confidence, asymptotically.

        Args:
            counts: (R, n) moves seen.
            confidence: 1 - d of chi2_{n-1, 1-d}; 0 leaves the estimate alone.
        """
        estimate, totals = estimate_rows(counts)
        return cls(estimate, cls.share * chi_square_size(totals, estimate.shape[1], confidence))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.estimate.shape[0])

    @property
    def width(self) -> int:
        """Number of successors."""
        return int(self.estimate.shape[1])

    def _dual(self, at: Ints, values: Floats) -> Floats:
        return np.asarray(getattr(kernels, f"{self.kernel}_dual")(self.estimate, self.size, at, values))

    def _bracket(self, at: Ints, values: Floats, dual: Floats) -> tuple[Floats, Floats]:
        low, rows = getattr(kernels, f"{self.kernel}_bracket")(self.estimate, self.size, at, values, dual)
        return low, rows


class Entropy(_Ball):
    """KL(p||f) <= B, size B >= 0; successors never seen (f = 0) get no mass, whatever B.

    From B >= -ln f(cheapest successors) on the worst row sits on the cheapest successor of the support.

    Args:
        estimate: (R, n) rows f.
        size: B, one number or (R,).
    """

    name: ClassVar[str] = "entropy"
    share: ClassVar[float] = 0.5
    kernel: ClassVar[str] = "entropy"

    def excess(self, at: Ints, rows: Floats) -> Floats:
        """(K,) KL(p||f) - B."""
        return _divergence(rows, self.estimate[at]) - self.size[at]


class Likelihood(_Ball):
    """Rows whose log likelihood sum f ln p is at least beta = sum f ln f - B, i.e. KL(f||p) <= B.

    Successors never seen (f = 0) do not appear in the likelihood, so they can take mass when they are cheaper than
    all that were seen: then the minimum runs over all successors.

    Args:
        estimate: (R, n) rows f.
        size: B >= 0, one number or (R,): how far the log likelihood (per observation) may fall below its maximum.
    """

    name: ClassVar[str] = "likelihood"
    share: ClassVar[float] = 0.5
    kernel: ClassVar[str] = "likelihood"

    def excess(self, at: Ints, rows: Floats) -> Floats:
        """(K,) KL(f||p) - B."""
        return _divergence(self.estimate[at], rows) - self.size[at]


class Ellipsoid(_Ball):
    """sum (p - f)^2 / f <= k^2 and p >= 0, size k^2; successors never seen (f = 0) get no mass.

    Args:
        estimate: (R, n) rows f.
        size: k^2 >= 0, one number or (R,).
    """

    name: ClassVar[str] = "ellipsoid"
    share: ClassVar[float] = 1.0
    kernel: ClassVar[str] = "ellipsoid"

    def excess(self, at: Ints, rows: Floats) -> Floats:
        """(K,) sum (p - f)^2 / f - k^2."""
        f = self.estimate[at]
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(f > 0.0, (rows - f) ** 2 / f, np.where(rows > 0.0, np.inf, 0.0))
        return np.asarray(parts.sum(axis=1) - self.size[at])


def _divergence(p: Floats, f: Floats) -> Floats:
    """KL(p||f) of rows, infinite where p has mass and f has none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0.0, p * np.log(p / f), 0.0)
    return np.asarray(terms.sum(axis=1))


SETS: dict[str, type[Ambiguity]] = {kind.name: kind for kind in (Scenarios, Interval, Entropy, Likelihood, Ellipsoid)}


def from_data(data: Mapping[str, Any]) -> Ambiguity:
    """Inverse of ``Ambiguity.data``.

    Raises:
        CertificateError: for data that are no such set.
    """
    kind = SETS.get(str(data.get("set"))) if isinstance(data, Mapping) else None
    if kind is None or set(data) != {"set", *kind.parts}:
        raise CertificateError(f"ambiguity = {data!r:.200}; allowed: one of {', '.join(SETS)} with all its parts")
    arrays = [unpack(data[part]) for part in kind.parts]
    for part, values in zip(kind.parts, arrays, strict=True):
        if values.dtype.str != "<f8":
            raise CertificateError(f"dtype of ambiguity.{part} = {values.dtype.str}; allowed: <f8")
    try:
        return kind(*arrays)
    except InvalidInputError as error:
        raise CertificateError(f"ambiguity: {error}") from None
