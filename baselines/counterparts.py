"""Robust counterparts: rows that hold for every deviation in an uncertainty set, as linear and second-order-cone rows.

The robust row  a'x + sum_j u_j (d_j + D_j x) <= b for all u in the set  is the same as a'x + protection(x) <= b, where
protection is the largest y'u over the set, y = d + D x. With c_j = halfwidth_j y_j, extra variables e = (p, z, q, t):

    Box           sum p                p_j >= |c_j|
    Budget        sum p + alpha q      p_j + q >= |c_j|;  p, q >= 0
    Ellipsoid     omega t              t >= ||c||
    BoxEllipsoid  sum p + omega t      p_j >= |c_j - z_j|;  t >= ||z||

The smallest value of the expression over e is protection(x). Sources: Ben-Tal, El Ghaoui and Nemirovski, Robust
Optimization, 2009, section 1.3 and chapter 2; Bertsimas and Sim, Operations Research 52, 2004, theorem 1; Ben-Tal and
Nemirovski, Mathematical Programming 88, 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, diags, hstack, vstack

from baselines.solve import LinearProgram
from v2g_env.core.uncertainty import Box, BoxEllipsoid, Budget, Ellipsoid, UncertaintySet
from v2g_env.core.validate import array, require

__all__ = ["ConicRows", "Counterpart", "Placed", "add_rows", "conic_rows", "counterpart", "protection"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sets = UncertaintySet | Sequence[UncertaintySet]

_MARGIN = 1.0 + 1e-12  # bounds of extra variables are rounded outward


class Counterpart(NamedTuple):
    """Protection of R rows over x (columns) and e (extras).

    x is robust for row r exactly if some e satisfies  a_r'x + weight_r e <= b_r,  matrix (x, e) >= low,
    lower <= e <= upper, and cone_offset - cone_matrix (x, e) lies in a product of cones {(s, v): ||v|| <= s}.

    Attributes:
        columns: length of x.
        weight: (R, extras) sparse.
        matrix: (rows, columns + extras) sparse.
        low: (rows,).
        lower: (extras,) finite where a variable has one sign; everywhere if x has bounds.
        upper: (extras,) finite if x has bounds.
        cone_matrix: (cone rows, columns + extras) sparse.
        cone_offset: (cone rows,).
        cone_sizes: rows of each cone, in order; empty for sets without an ellipsoid.
    """

    columns: int
    weight: csr_matrix
    matrix: csr_matrix
    low: Floats
    lower: Floats
    upper: Floats
    cone_matrix: csr_matrix
    cone_offset: Floats
    cone_sizes: tuple[int, ...]


class ConicRows(NamedTuple):
    """Robust rows in the standard form of cone solvers: right - matrix (x, e) in a product of cones.

    Attributes:
        matrix: G, (rows, columns + extras) sparse.
        right: h, (rows,).
        positives: number of leading rows whose slack must not be negative.
        cones: rows of each second-order cone that follows.
    """

    matrix: csr_matrix
    right: Floats
    positives: int
    cones: list[int]


class Placed(NamedTuple):
    """Where a counterpart lies in a program.

    Attributes:
        extra: index of the first extra column.
        row: index of the first robust row; R of them follow each other.
    """

    extra: int
    row: int


class _Entries(NamedTuple):
    """The entries j that matter, flattened over rows: c = offset + effect x.

    Attributes:
        row: (entries,) robust row of each, ascending.
        offset: (entries,) halfwidth d.
        effect: (entries, columns) halfwidth D, sparse.
        reach: (entries,) upper limits on |c|.
    """

    row: Ints
    offset: Floats
    effect: csr_matrix
    reach: Floats


def counterpart(
    sets: Sets,
    coefficients: Any,
    constants: ArrayLike,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
) -> Counterpart:
    """Reformulate R robust rows  a_r'x + sum_j u_j (d_j + D_j x) <= b_r  for all u in set r.

    Entries with half-width 0, or without coefficients and constant, cost nothing.

    Args:
        sets: the set of one row, or one set for each row (the same one may be repeated).
        coefficients: D of all rows, one below the other: (L_1 + ... + L_R, columns), dense or sparse.
        constants: d of all rows, (L_1 + ... + L_R,).
        lower: (columns,) bounds of x; with ``upper`` they make all extra variables bounded.
        upper: (columns,) bounds of x.

    Raises:
        InvalidInputError: for an argument that is not finite or does not fit the others.
    """
    blocks = _blocks(sets)
    matrix, constant = _data(blocks, coefficients, constants)
    box, budget, ball = np.array([_kind(block) for block in blocks]).T
    size = np.array([getattr(block, "omega", getattr(block, "alpha", 1.0)) for block in blocks])
    entries = _entries(blocks, matrix, constant, size, _reach(matrix.shape[1], lower, upper))

    # extras e = (p, z, q, t): p and z by entry, q and t by row
    p, z = np.flatnonzero(box[entries.row]), np.flatnonzero((box & ball)[entries.row])
    present = np.bincount(entries.row, minlength=len(blocks)) > 0
    q, t = np.flatnonzero(present & budget), np.flatnonzero(present & ball)
    starts = np.cumsum([0, len(p), len(z), len(q), len(t)])
    at_z = _places(len(entries.row), z, starts[1])
    at_q, at_t = _places(len(blocks), q, starts[2]), _places(len(blocks), t, starts[3])
    extras = int(starts[4])

    weight = _selection(
        np.concatenate([entries.row[p], q, t]),
        np.concatenate([np.arange(len(p)), at_q[q], at_t[t]]),
        np.concatenate([np.ones(len(p)), size[q], size[t]]),
        (len(blocks), extras),
    )
    rows, low = _absolute_rows(entries, p, at_z, at_q, extras)
    high = np.zeros(len(blocks))
    np.maximum.at(high, entries.row, entries.reach)
    norm = np.sqrt(np.bincount(entries.row, entries.reach**2, minlength=len(blocks)))
    limit = np.concatenate([entries.reach[p], entries.reach[z], high[q], norm[t]]) * _MARGIN
    floor = np.zeros(extras)
    floor[starts[1] : starts[2]] = -limit[starts[1] : starts[2]]
    return Counterpart(matrix.shape[1], weight, rows, low, floor, limit, *_cones(entries, t, at_t, at_z, extras))


def protection(sets: Sets, coefficients: Any, constants: ArrayLike, x: ArrayLike) -> Floats:
    """Largest sum_j u_j (d_j + D_j x) of each row over its set, (R,), in closed form: checks a plan without a solver.

    Args:
        sets: the set of one row, or one set for each row.
        coefficients: D of all rows, as for counterpart.
        constants: d of all rows, as for counterpart.
        x: (columns,).

    Raises:
        InvalidInputError: for an argument that is not finite or does not fit the others.
    """
    blocks = _blocks(sets)
    matrix, constant = _data(blocks, coefficients, constants)
    y = constant + matrix @ array("x", x, (matrix.shape[1],))
    parts = np.split(y, np.cumsum([block.entries for block in blocks])[:-1])
    return np.array([block.worst(part).value for block, part in zip(blocks, parts, strict=True)])


def add_rows(
    program: LinearProgram, part: Counterpart, left: Any, right: ArrayLike, columns: ArrayLike | None = None
) -> Placed:
    """Add robust rows  left_r x + protection_r(x) <= right_r  to a linear program (sets Box and Budget).

    Args:
        program: receives the extra columns, the rows that define them, and the robust rows.
        part: counterpart of the R rows.
        left: a of the rows, (R, columns), dense or sparse; (columns,) for one row.
        right: b of the rows, (R,); a number for one row.
        columns: (columns,) where x lies in the program. None: its first columns.

    Raises:
        InvalidInputError: for a counterpart with cones, or an argument that does not fit it.
    """
    require(not part.cone_sizes, "cones of the counterpart", len(part.cone_sizes), "0: a linear program has none")
    rows, limit = _robust_rows(part, left, right)
    place = array("columns", np.arange(part.columns) if columns is None else columns, (part.columns,), 0)
    fits = len(np.unique(place)) == len(place) and bool((place == np.floor(place)).all())
    require(fits and bool((place < program.columns).all()), "columns", columns, f"different, below {program.columns}")
    extra = program.add_columns(np.zeros(len(part.lower)), part.lower, part.upper)
    index = np.concatenate([place.astype(np.int64), extra + np.arange(len(part.lower))])
    for matrix, low, up in (
        (part.matrix, part.low, np.full(len(part.low), np.inf)),
        (rows, np.full(len(limit), -np.inf), limit),
    ):
        first = program.rows
        parts = (matrix.data, index[matrix.indices], matrix.indptr)
        program.add_matrix(low, up, csr_matrix(parts, (matrix.shape[0], program.columns)))
    return Placed(extra, first)


def conic_rows(part: Counterpart, left: Any, right: ArrayLike) -> ConicRows:
    """Robust rows  left_r x + protection_r(x) <= right_r  in the form of ConicProgram, for every set.

    The R robust rows come first, then ``part.matrix``, then the cones. The bounds of the extra variables are not
    among the rows: the program takes part.lower and part.upper as bounds.

    Args:
        part: counterpart of the R rows.
        left: a of the rows, (R, columns), dense or sparse; (columns,) for one row.
        right: b of the rows, (R,); a number for one row.

    Raises:
        InvalidInputError: for an argument that does not fit the counterpart.
    """
    rows, limit = _robust_rows(part, left, right)
    matrix = csr_matrix(vstack([rows, -part.matrix, part.cone_matrix]))
    offset = np.concatenate([limit, -part.low, part.cone_offset])
    return ConicRows(matrix, offset, len(limit) + len(part.low), list(part.cone_sizes))


def _blocks(sets: Sets) -> tuple[UncertaintySet, ...]:
    blocks = (sets,) if isinstance(sets, UncertaintySet) else tuple(sets)
    require(len(blocks) > 0, "number of sets", 0, "at least 1")
    for block in blocks:
        _kind(block)
    return blocks


def _kind(block: UncertaintySet) -> tuple[bool, bool, bool]:
    """Whether the set bounds each deviation, has a budget, has a ball."""
    known = isinstance(block, Box | Budget | Ellipsoid | BoxEllipsoid)
    require(known, "set", type(block).__name__, "Box, Budget, Ellipsoid, BoxEllipsoid")
    ball = isinstance(block, Ellipsoid | BoxEllipsoid)
    return not isinstance(block, Ellipsoid), isinstance(block, Budget), ball


def _data(blocks: Sequence[UncertaintySet], coefficients: Any, constants: ArrayLike) -> tuple[csr_matrix, Floats]:
    matrix = _sparse("coefficients", coefficients)
    count = sum(block.entries for block in blocks)
    require(matrix.shape[0] == count, "rows of coefficients", matrix.shape[0], f"{count}, entries of the sets together")
    return matrix, array("constants", constants, (count,))


def _sparse(field: str, value: Any) -> csr_matrix:
    if not hasattr(value, "tocsr"):
        return csr_matrix(array(field, value, (None, None)))
    matrix = csr_matrix(value, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    array(field, matrix.data, (None,))
    return matrix


def _reach(columns: int, lower: ArrayLike | None, upper: ArrayLike | None) -> Floats | None:
    """Upper limits on |x|, None without bounds."""
    if lower is None and upper is None:
        return None
    require(lower is not None and upper is not None, "lower, upper", (lower, upper), "both or none")
    low, up = array("lower", lower, (columns,)), array("upper", upper, (columns,))  # type: ignore[arg-type]
    require(bool((low <= up).all()), "lower", lower, "at most upper")
    return np.maximum(np.abs(low), np.abs(up))


def _entries(
    blocks: Sequence[UncertaintySet], matrix: csr_matrix, constant: Floats, size: Floats, reach: Floats | None
) -> _Entries:
    halfwidth = np.concatenate([block.halfwidth for block in blocks])
    row = np.repeat(np.arange(len(blocks)), [block.entries for block in blocks])
    uses = (np.diff(matrix.indptr) > 0) | (constant != 0.0)
    # a ball or a budget of size 0 leaves no deviation
    kept = np.flatnonzero((halfwidth > 0.0) & (size[row] > 0.0) & uses)
    effect = csr_matrix(diags(halfwidth[kept]) @ matrix[kept])
    offset = halfwidth[kept] * constant[kept]
    if reach is not None:
        limit = np.abs(offset) + abs(effect) @ reach
    else:
        limit = np.where(np.diff(effect.indptr) > 0, np.inf, np.abs(offset))
    return _Entries(row[kept], offset, effect, limit)


def _places(count: int, chosen: Ints, start: int) -> Ints:
    """Column of each chosen item, -1 for the others."""
    places = np.full(count, -1)
    places[chosen] = start + np.arange(len(chosen))
    return places


def _selection(rows: Ints, columns: Ints, values: Floats, shape: tuple[int, int]) -> csr_matrix:
    """Sparse matrix of values at (rows, columns), leaving out columns below 0."""
    there = columns >= 0
    return csr_matrix((values[there], (rows[there], columns[there])), shape)


def _absolute_rows(entries: _Entries, p: Ints, at_z: Ints, at_q: Ints, extras: int) -> tuple[csr_matrix, Floats]:
    """p_j + q >= +-(c_j - z_j), all + rows before all - rows."""
    count, ones = len(p), np.ones(len(p))
    shape = (count, extras)
    cover = _selection(np.arange(count), np.arange(count), ones, shape)
    cover += _selection(np.arange(count), at_q[entries.row[p]], ones, shape)
    shift = _selection(np.arange(count), at_z[p], ones, shape)
    effect, offset = entries.effect[p], entries.offset[p]
    matrix = vstack([_wide(-effect, cover + shift), _wide(effect, cover - shift)])
    return csr_matrix(matrix), np.concatenate([offset, -offset])


def _cones(
    entries: _Entries, t: Ints, at_t: Ints, at_z: Ints, extras: int
) -> tuple[csr_matrix, Floats, tuple[int, ...]]:
    """(t, v) of each row with a ball, v its z (BoxEllipsoid) or its c (Ellipsoid)."""
    inside = np.flatnonzero(at_t[entries.row] >= 0)
    heads, count, columns = len(t), len(inside), entries.effect.shape[1]
    plain = (at_z[inside] < 0).astype(float)
    head = _selection(np.arange(heads), at_t[t], -np.ones(heads), (heads, extras))
    body = _selection(np.arange(count), at_z[inside], -np.ones(count), (count, extras))
    effect = diags(-plain, shape=(count, count)) @ entries.effect[inside]
    cones = csr_matrix(vstack([_wide(csr_matrix((heads, columns)), head), _wide(effect, body)]))
    order = np.argsort(np.concatenate([t, entries.row[inside]]), kind="stable")  # each head before its body
    offset = np.concatenate([np.zeros(heads), plain * entries.offset[inside]])
    sizes = 1 + np.bincount(entries.row[inside], minlength=len(at_t))[t]
    return cones[order], offset[order], tuple(sizes.tolist())


def _robust_rows(part: Counterpart, left: Any, right: ArrayLike) -> tuple[csr_matrix, Floats]:
    count = part.weight.shape[0]
    matrix = _sparse("left", left if hasattr(left, "tocsr") else np.atleast_2d(left))
    require(matrix.shape == (count, part.columns), "shape of left", matrix.shape, f"({count}, {part.columns})")
    return _wide(matrix, part.weight), array("right", np.atleast_1d(right), (count,))


def _wide(left: csr_matrix, right: csr_matrix) -> csr_matrix:
    matrix = csr_matrix(hstack([left, right]))
    matrix.eliminate_zeros()
    return matrix
