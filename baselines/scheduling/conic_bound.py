"""Proven lower bounds of conic programs from any multipliers: boxes make every dual feasible, rounding goes outward."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from baselines.duality import rounding_allowance

__all__ = ["ConicData", "dual_cone_point", "lower_bound", "violation"]

Floats = NDArray[np.float64]


class ConicData(NamedTuple):
    """minimise x' diag(quadratic) x / 2 + cost x  over  right - A x in K, lower <= x <= upper (all finite).

    K: ``zeros`` rows equal to zero, then ``positives`` rows not negative, then second-order cones of ``cones`` rows.
    ``given`` says which bounds no other row implies, so that a solver has to know them.
    """

    cost: Floats
    quadratic: Floats
    matrix: csr_matrix
    right: Floats
    zeros: int
    positives: int
    cones: tuple[int, ...]
    lower: Floats
    upper: Floats
    given: NDArray[np.bool_]

    def value(self, point: Floats) -> float:
        """Objective of a point."""
        return float((0.5 * self.quadratic * point + self.cost) @ point)

    def heads(self) -> NDArray[np.int64]:
        """First row of every second-order cone."""
        return self.zeros + self.positives + np.cumsum([0, *self.cones[:-1]]) if self.cones else np.zeros(0, np.int64)


def _heads_and_tails(data: ConicData, rows: Floats) -> tuple[Floats, Floats]:
    """(cones,) first entries of the second-order cones and Euclidean lengths of their other entries."""
    heads, split = data.heads(), data.zeros + data.positives
    if not len(heads):
        return np.zeros(0), np.zeros(0)
    squares = rows[split:] ** 2
    squares[heads - split] = 0.0
    return rows[heads], np.sqrt(np.add.reduceat(squares, heads - split))


def dual_cone_point(data: ConicData, dual: Floats) -> Floats:
    """Multipliers moved into the dual cone: negative ones of inequalities to 0, heads of cones up to their tails."""
    moved = np.array(dual, np.float64)
    split = data.zeros + data.positives
    moved[data.zeros : split] = np.maximum(moved[data.zeros : split], 0.0)
    head, tail = _heads_and_tails(data, moved)
    # a relative 1e-14 is far above the rounding of the sum of a few squares
    moved[data.heads()] = np.maximum(head, tail * (1.0 + 1e-14) + 1e-300)
    return moved


def lower_bound(data: ConicData, dual: Floats, *, objective: bool = True) -> float:
    """Lower limit on the objective from any row multipliers z.

    L(z) = -right' z + sum_j min over [lower_j, upper_j] of quadratic_j x^2 / 2 + (cost + A' z)_j x for z in the dual
    cone; z is moved there first, and the minima have closed forms, so weak duality needs no repair. Roundings count
    against the bound.

    Args:
        data: the program.
        dual: (rows,) multipliers.
        objective: False bounds 0 instead of the objective: a positive result proves that no point is feasible.
    """
    z = dual_cone_point(data, dual)
    cost, quadratic = (data.cost, data.quadratic) if objective else (np.zeros(len(data.cost)), np.zeros(len(data.cost)))
    reduced = cost + data.matrix.T @ z
    size = np.abs(cost) + abs(data.matrix).T @ np.abs(z)
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = np.where(quadratic > 0.0, -reduced / quadratic, np.where(reduced > 0.0, -np.inf, np.inf))
    best = np.clip(flat, data.lower, data.upper)
    columns = np.concatenate([0.5 * quadratic * best**2, reduced * best])
    rows = -data.right * z
    reach = np.maximum(np.abs(data.lower), np.abs(data.upper))
    longest = int(np.diff(data.matrix.tocsc().indptr).max(initial=0)) + 8
    slack = rounding_allowance(np.concatenate([rows, columns])) + longest * np.finfo(float).eps * float(size @ reach)
    return float(np.nextafter(rows.sum() + columns.sum() - slack, -np.inf))


def violation(data: ConicData, point: Floats) -> float:
    """Largest violation of a row, a cone or a bound, in the rows' own (per) units."""
    rows = data.right - data.matrix @ point
    split = data.zeros + data.positives
    head, tail = _heads_and_tails(data, rows)
    parts = (
        np.abs(rows[: data.zeros]),
        -rows[data.zeros : split],
        tail - head,
        data.lower - point,
        point - data.upper,
    )
    return float(max(part.max(initial=0.0) for part in parts))
