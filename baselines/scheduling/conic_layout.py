"""Where the variables of a conic day stand, and rows written block by block with sparse matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix, csr_matrix, eye, kron, vstack

from baselines.scheduling.conic_bound import ConicData

__all__ = ["Layout", "Rows"]

Floats = NDArray[np.float64]
Terms = Mapping[str, csr_matrix]


class Layout:
    """Blocks of columns by name, each with bounds, objective, and the mark whether a solver must know its bounds."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.starts: dict[str, int] = {}
        self.columns = 0
        self._parts: dict[str, list[Floats]] = {name: [] for name in ("lower", "upper", "given", "cost", "quadratic")}

    def add(self, name: str, shape: tuple[int, ...], lower: ArrayLike, upper: ArrayLike, *, given: bool) -> None:
        """Append a block with bounds that broadcast to its shape; fixed columns are always given."""
        low, high = (np.broadcast_to(np.asarray(bound, np.float64), shape).ravel() for bound in (lower, upper))
        self.shapes[name], self.starts[name] = shape, self.columns
        self.columns += len(low)
        zero = np.zeros(len(low))
        for part, values in (("lower", low), ("upper", high), ("given", (low == high) | given)):
            self._parts[part].append(np.array(values, np.float64))
        self._parts["cost"].append(zero)
        self._parts["quadratic"].append(zero.copy())

    def price(self, name: str, cost: ArrayLike, quadratic: ArrayLike = 0.0) -> None:
        """Set the objective of a block: cost x + quadratic x^2 / 2."""
        index, shape = list(self.shapes).index(name), self.shapes[name]
        for part, values in (("cost", cost), ("quadratic", quadratic)):
            self._parts[part][index] = np.broadcast_to(np.asarray(values, np.float64), shape).ravel().copy()

    def all_of(self, part: str) -> Floats:
        """(columns,) "lower", "upper", "given", "cost" or "quadratic"."""
        return np.concatenate(self._parts[part])

    def at(self, name: str) -> slice:
        """Columns of a block."""
        start = self.starts[name]
        return slice(start, start + int(np.prod(self.shapes[name])))

    def of(self, point: Floats, name: str) -> Floats:
        """A block of a point, in its shape."""
        return point[self.at(name)].reshape(self.shapes[name])

    def matrix(self, terms: Terms, rows: int) -> csr_matrix:
        """(rows, columns) sum of blocks (rows, size of the block) at their places."""
        row, column, value = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
        for name, block in terms.items():
            entries = coo_matrix(block)
            row.append(entries.row.astype(np.int64))
            column.append(entries.col.astype(np.int64) + self.starts[name])
            value.append(entries.data)
        place = (np.concatenate(row), np.concatenate(column))
        return csr_matrix((np.concatenate(value), place), shape=(rows, self.columns))


class Rows:
    """Rows of a program over a layout: equations, inequalities, second-order cones."""

    def __init__(self, layout: Layout, steps: int) -> None:
        self.layout = layout
        self.steps = steps
        self._zero: list[tuple[csr_matrix, Floats]] = []
        self._positive: list[tuple[csr_matrix, Floats]] = []
        self._cone: list[tuple[csr_matrix, Floats]] = []
        self._sizes: list[int] = []

    def each(self, block: ArrayLike) -> csr_matrix:
        """The same dense (or sparse) block in every step."""
        return csr_matrix(kron(eye(self.steps), csr_matrix(block)))

    def equal(self, terms: Terms, right: Floats) -> None:
        """Sum of terms = right (flattened)."""
        self._zero.append((self.layout.matrix(terms, right.size), right.ravel()))

    def at_most(self, terms: Terms, right: Floats) -> None:
        """Sum of terms <= right (flattened)."""
        self._positive.append((self.layout.matrix(terms, right.size), right.ravel()))

    def cone(self, *members: tuple[Terms, ArrayLike], count: int) -> None:
        """``count`` cones: first member >= length of the others; a member is a sum of terms and a constant."""
        size = len(members)
        matrices = [-self.layout.matrix(terms, count) for terms, _ in members]
        constants = [np.broadcast_to(np.asarray(constant, np.float64), (count,)) for _, constant in members]
        order = np.arange(size * count).reshape(size, count).T.ravel()
        self._cone.append((csr_matrix(vstack(matrices))[order], np.concatenate(constants)[order]))
        self._sizes += [size] * count

    def data(self) -> ConicData:
        """The whole program."""
        parts = [*self._zero, *self._positive, *self._cone]
        layout = self.layout
        return ConicData(
            layout.all_of("cost"),
            layout.all_of("quadratic"),
            csr_matrix(vstack([matrix for matrix, _ in parts])),
            np.concatenate([right for _, right in parts]),
            sum(len(right) for _, right in self._zero),
            sum(len(right) for _, right in self._positive),
            tuple(self._sizes),
            layout.all_of("lower"),
            layout.all_of("upper"),
            layout.all_of("given") > 0.0,
        )
