"""Exact arithmetic on small systems: every float is a rational number, and so are sums and quotients of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from baselines.certificate import CertificateError

__all__ = ["exact_subset_sums", "from_text", "rank", "solve", "to_text"]

Row = list[Fraction]


def solve(matrix: Sequence[Sequence[int]], right: Sequence[Fraction]) -> tuple[list[Fraction | None], bool]:
    """One solution of a linear system in rationals.

    Args:
        matrix: rows of whole numbers.
        right: right-hand sides.

    Returns:
        The unknowns, None where one is not determined, and whether the equations agree with each other.
    """
    rows = [[Fraction(value) for value in row] + [value] for row, value in zip(matrix, right, strict=True)]
    columns = len(rows[0]) - 1 if rows else 0
    pivots = _reduce(rows, columns)
    found: list[Fraction | None] = [None] * columns
    for at, column in enumerate(pivots):
        if all(rows[at][k] == 0 for k in range(columns) if k != column):
            found[column] = rows[at][-1]
    return found, all(row[-1] == 0 for row in rows[len(pivots) :])


def rank(matrix: Sequence[Sequence[int]]) -> int:
    """Rank of a matrix of whole numbers."""
    rows = [[Fraction(value) for value in row] for row in matrix]
    return len(_reduce(rows, len(rows[0]) if rows else 0))


def _reduce(rows: list[Row], columns: int) -> list[int]:
    """Bring rows to reduced echelon form, in place; returns the columns of the pivots."""
    pivots: list[int] = []
    for column in range(columns):
        at = len(pivots)
        chosen = next((k for k in range(at, len(rows)) if rows[k][column] != 0), None)
        if chosen is None:
            continue
        rows[at], rows[chosen] = rows[chosen], rows[at]
        lead = rows[at][column]
        rows[at] = [value / lead for value in rows[at]]
        for k in range(len(rows)):
            factor = rows[k][column]
            if k != at and factor != 0:
                rows[k] = [value - factor * base for value, base in zip(rows[k], rows[at], strict=True)]
        pivots.append(column)
    return pivots


def exact_subset_sums(parts: Sequence[Fraction]) -> list[Fraction]:
    """2^n sums over the members of every coalition."""
    total = [Fraction(0)]
    for part in parts:
        total += [value + part for value in total]
    return total


def to_text(value: Fraction) -> str:
    """A rational number as text, for JSON."""
    return f"{value.numerator}/{value.denominator}"


def from_text(field: str, text: Any) -> Fraction:
    """Inverse of ``to_text``; raises CertificateError for anything else."""
    try:
        above, below = text.split("/")
        if len(text) > 20_000 or not all(part.lstrip("-").isdigit() for part in (above, below)):
            raise ValueError
        return Fraction(int(above), int(below))
    except (AttributeError, ValueError, ZeroDivisionError):
        raise CertificateError(f"{field} = {text!r:.80}; allowed: a rational number as text, such as 3/4") from None
