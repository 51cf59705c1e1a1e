"""Linear programs put together piece by piece, as plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["Builder"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Builder:
    """Columns and rows as they come; rows and columns are numbered in the order in which they were added."""

    def __init__(self) -> None:
        self.cost: list[Floats] = []
        self.lower: list[Floats] = []
        self.upper: list[Floats] = []
        self.columns = 0
        self.low: list[float] = []
        self.up: list[float] = []
        self._rows: list[Ints] = []
        self._cols: list[Ints] = []
        self._vals: list[Floats] = []

    def add_columns(self, cost: Floats | float, lower: Floats | float, upper: Floats | float, count: int) -> Ints:
        """Add columns, one price and pair of bounds for all or for each; returns their numbers."""
        for store, value in ((self.cost, cost), (self.lower, lower), (self.upper, upper)):
            store.append(np.broadcast_to(np.asarray(value, np.float64), (count,)))
        first, self.columns = self.columns, self.columns + count
        return np.arange(first, first + count)

    def add_rows(self, low: Floats | float, up: Floats | float, count: int) -> Ints:
        """Add empty rows; returns their numbers."""
        first = len(self.low)
        self.low += np.broadcast_to(np.asarray(low, np.float64), (count,)).tolist()
        self.up += np.broadcast_to(np.asarray(up, np.float64), (count,)).tolist()
        return np.arange(first, first + count)

    def add_row(self, low: float, up: float) -> int:
        """Add an empty row; returns its number."""
        self.low.append(low)
        self.up.append(up)
        return len(self.low) - 1

    def fill(self, rows: Ints | int, columns: Ints, values: Floats | float) -> None:
        """Add entries, broadcast against each other; entries at one place add up."""
        shape = np.broadcast_shapes(np.shape(rows), np.shape(columns), np.shape(values))
        self._rows.append(np.broadcast_to(rows, shape).ravel())
        self._cols.append(np.broadcast_to(columns, shape).ravel())
        self._vals.append(np.broadcast_to(np.asarray(values, np.float64), shape).ravel())

    def take(self, parts: tuple[Floats, csr_matrix, Floats, Floats, Floats, Floats]) -> None:
        """Begin with a finished program: cost, matrix, low, up, lower, upper."""
        cost, matrix, low, up, lower, upper = parts
        self.add_columns(cost, lower, upper, len(cost))
        self.add_rows(low, up, len(low))
        entries = matrix.tocoo()
        self.fill(entries.row.astype(np.int64), entries.col.astype(np.int64), entries.data)

    def arrays(self) -> tuple[Floats, csr_matrix, Floats, Floats, Floats, Floats]:
        """The program: cost, matrix, low, up, lower, upper."""
        place = (np.concatenate(self._rows), np.concatenate(self._cols))
        matrix = csr_matrix((np.concatenate(self._vals), place), (len(self.low), self.columns))
        cost, lower, upper = (np.concatenate(part) for part in (self.cost, self.lower, self.upper))
        return cost, matrix, np.array(self.low), np.array(self.up), lower, upper
