"""Proven bounds of linear programs from any dual vector: boxes make every dual feasible, rounding goes outward."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["linear_bound", "rounding_allowance"]

Floats = NDArray[np.float64]


def rounding_allowance(terms: Floats, extra: int = 16) -> float:
    """Upper limit on the rounding error of a sum whose terms carry up to ``extra`` roundings each.

    gamma_m = m u / (1 - m u) times the sum of absolute values, m = number of terms + extra (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., chapter 3); taken with the machine epsilon 2u to cover the sum of
    absolute values too.
    """
    return float((terms.size + extra) * np.finfo(float).eps * np.abs(terms).sum())


def linear_bound(
    cost: Floats, matrix: csr_matrix, low: Floats, up: Floats, lower: Floats, upper: Floats, dual: Floats
) -> float:
    """Upper limit on max cost x over low <= A x <= up, lower <= x <= upper, from any row duals.

    L(y) = sum_i (y_i^+ up_i - y_i^- low_i) + sum_j max over [lower_j, upper_j] of (cost - A' y)_j x_j. Duals on
    infinite row limits are set to zero first, so every y is admissible and weak duality needs no repair.

    Args:
        cost: (columns,) objective.
        matrix: (rows, columns).
        low: (rows,) lower row limits, infinite where absent.
        up: (rows,) upper row limits, infinite where absent.
        lower: (columns,) finite lower bounds.
        upper: (columns,) finite upper bounds.
        dual: (rows,) d objective / d right-hand side as a solver reports them.
    """
    y = np.where((dual > 0.0) & np.isfinite(up), dual, np.where((dual < 0.0) & np.isfinite(low), dual, 0.0))
    rows = np.where(y > 0.0, y * np.where(y > 0.0, up, 0.0), y * np.where(y < 0.0, low, 0.0))
    reduced = cost - matrix.T @ y
    columns = np.maximum(reduced * lower, reduced * upper)
    size = np.abs(cost) + abs(matrix).T @ np.abs(y)
    reach = np.maximum(np.abs(lower), np.abs(upper))
    longest = int(np.diff(matrix.tocsc().indptr).max(initial=0)) + 8
    slack = rounding_allowance(np.concatenate([rows, columns])) + longest * np.finfo(float).eps * float(size @ reach)
    return float(np.nextafter(rows.sum() + columns.sum() + slack, np.inf))
