"""What every uncertainty set of transition rows has in common: its inner problems, their duals, its JSON form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.certificate import pack
from v2g_env.core.validate import array, number, require

__all__ = ["Ambiguity", "Worst", "chi_square_size", "estimate_rows", "probability_rows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROW_SLACK = 1e-9


class Worst(NamedTuple):
    """Answers to K inner problems.

    Attributes:
        value: (K,) p'V of ``row``: the minimum, from above.
        low: (K,) the dual bound: the minimum, from below.
        row: (K, n) worst member.
        dual: (K,) the one number that ``Ambiguity.bracket`` makes both from.
    """

    value: Floats
    low: Floats
    row: Floats
    dual: Floats


def probability_rows(field: str, given: ArrayLike) -> Floats:
    """Rows of probabilities (R, n), summing to one exactly up to rounding."""
    rows = array(field, given, (None, None))
    require(rows.size > 0, f"shape of {field}", rows.shape, "at least one row and one column")
    for i in np.flatnonzero((rows < 0.0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1.0) > _ROW_SLACK)).tolist():
        require(False, f"{field}[row {i}]", rows[i].tolist(), "probabilities that sum to one")
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def estimate_rows(given: ArrayLike) -> tuple[Floats, Floats]:
    """Estimates (R, n) and numbers of observations (R,) of counts."""
    counts = array("counts", given, (None, None))
    totals = counts.sum(axis=1)
    for i in np.flatnonzero((counts < 0.0).any(axis=1) | (totals < 1.0)).tolist():
        require(False, f"counts[row {i}]", counts[i].tolist(), "counts >= 0, at least 1 in all")
    return counts / totals[:, None], totals


def chi_square_size(totals: Floats, n: int, confidence: float) -> Floats:
    """chi2_{n-1, confidence} / N for every row; half of it for the two entropies; zero for n = 1."""
    from scipy.special import chdtri

    number("confidence", confidence, 0.0, 1.0, open_high=True)
    if n == 1 or confidence == 0.0:
        return np.zeros(len(totals))
    return np.asarray(float(chdtri(n - 1, 1.0 - confidence)) / totals)


class Ambiguity(ABC):
    """A set of rows around each of R estimates; independent from row to row (rectangular)."""

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]  # attributes that say everything about the set

    @property
    @abstractmethod
    def rows(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of successors."""

    @abstractmethod
    def _dual(self, at: Ints, values: Floats) -> Floats:
        """The number (K,) that solves each problem."""

    @abstractmethod
    def _bracket(self, at: Ints, values: Floats, dual: Floats) -> tuple[Floats, Floats]:
        """Lower bounds (K,) and members (K, n)."""

    @abstractmethod
    def excess(self, at: Ints, rows: Floats) -> Floats:
        """(K,) how far given rows (K, n) are outside the set, in the set's own measure; at most 0 inside."""

    def worst(self, values: ArrayLike, at: ArrayLike) -> Worst:
        """Minimise p'V over the set.

        Args:
            values: (K, n) values V of the successors.
            at: (K,) which of the R rows each problem is about.

        Raises:
            InvalidInputError: for wrong shapes, values that are not finite, or a row that does not exist.
        """
        given, place = self._problems(values, at)
        dual = self._dual(place, given)
        low, row = self._bracket(place, given, dual)
        return Worst(np.einsum("kn,kn->k", row, given), low, row, dual)

    def bracket(self, values: ArrayLike, at: ArrayLike, dual: ArrayLike) -> Worst:
        """Bounds from one number a problem, right or wrong: no optimisation; arguments as ``worst``.

        Args:
            values: (K, n) values V of the successors.
            at: (K,) rows.
            dual: (K,) numbers; the closer to those of ``worst``, the closer the bounds.
        """
        given, place = self._problems(values, at)
        numbers = array("dual", dual, (len(place),))
        low, row = self._bracket(place, given, numbers)
        return Worst(np.einsum("kn,kn->k", row, given), low, row, numbers)

    def _problems(self, values: ArrayLike, at: ArrayLike) -> tuple[Floats, Ints]:
        place = np.asarray(at)
        require(place.dtype.kind in "iu" and place.ndim == 1, "at", at, "(K,) whole numbers")
        given = np.ascontiguousarray(values, dtype=np.float64)
        require(
            given.shape == (len(place), self.width), "shape of values", given.shape, f"({len(place)}, {self.width})"
        )
        require(bool(np.isfinite(given).all()), "values", given, "finite numbers")
        known = bool(((place >= 0) & (place < self.rows)).all())
        require(known, "at", at, f"rows from 0 to {self.rows - 1}")
        return given, np.ascontiguousarray(place, dtype=np.int64)

    def data(self) -> dict[str, Any]:
        """The set as JSON data, see ``from_data``."""
        return {"set": self.name} | {part: pack(getattr(self, part)) for part in self.parts}
