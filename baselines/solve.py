"""The only place that calls a solver: build once, add rows lazily, never trust a status silently."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_matrix, csr_matrix, diags, eye, vstack

__all__ = ["ConicProgram", "ConicSolution", "IntegerSolution", "LinearProgram", "LinearSolution", "SolverError"]

Floats = NDArray[np.float64]


class SolverError(RuntimeError):
    """The solver did not prove optimality; the text names its status."""


class LinearSolution(NamedTuple):
    """Primal point (columns,), row duals (rows,) in the sense d objective / d right-hand side, objective."""

    point: Floats
    row_dual: Floats
    objective: float


class IntegerSolution(NamedTuple):
    """Primal point (columns,), objective, and the upper bound on it that the solver states."""

    point: Floats
    objective: float
    bound: float


class LinearProgram:
    """maximise cost x  subject to  low <= A x <= up  and  lower <= x <= upper, kept inside HiGHS between changes.

    Args:
        cost, lower, upper: (columns,) objective and finite bounds of the first columns.
    """

    def __init__(self, cost: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> None:
        import highspy  # here, so that reading certificates needs no solver

        self._optimal = highspy.HighsModelStatus.kOptimal
        self._highs: Any = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        # the tie-break of the programs is far below HiGHS' usual 1e-7
        self._highs.setOptionValue("primal_feasibility_tolerance", 1e-9)
        self._highs.setOptionValue("dual_feasibility_tolerance", 1e-10)
        self._highs.changeObjectiveSense(highspy.ObjSense.kMaximize)
        self.columns = 0
        self.rows = 0
        self.add_columns(cost, lower, upper)

    def add_columns(self, cost: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> int:
        """Add empty columns; returns the index of the first."""
        cost, lower, upper = (np.asarray(part, dtype=np.float64) for part in (cost, lower, upper))
        count = len(cost)
        nothing, none = np.zeros(count, np.int32), np.zeros(0, np.int32)
        if count:
            self._highs.addCols(count, cost, lower, upper, 0, nothing, none, np.zeros(0))
        first, self.columns = self.columns, self.columns + count
        return first

    def add_rows(self, low: ArrayLike, up: ArrayLike, columns: ArrayLike, values: ArrayLike) -> int:
        """Add rows of equally many entries, columns and values (rows, entries); returns the first index."""
        low, up = np.asarray(low, dtype=np.float64), np.asarray(up, dtype=np.float64)
        columns, values = np.asarray(columns, dtype=np.int32), np.asarray(values, dtype=np.float64)
        count, entries = columns.shape
        starts = np.arange(0, count * entries, max(entries, 1), dtype=np.int32)
        if count:
            self._highs.addRows(count, low, up, count * entries, starts, columns.ravel(), values.ravel())
        first, self.rows = self.rows, self.rows + count
        return first

    def change_columns(self, columns: ArrayLike, cost: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> None:
        """Give existing columns another objective and other bounds."""
        for column, *numbers in zip(*map(np.atleast_1d, (columns, cost, lower, upper)), strict=True):
            price, low, up = map(float, numbers)
            self._highs.changeColCost(int(column), price)
            self._highs.changeColBounds(int(column), low, up)

    def add_matrix(self, low: Floats, up: Floats, matrix: csr_matrix) -> None:
        """Add the rows of a sparse matrix (rows, columns)."""
        count = matrix.shape[0]
        starts = matrix.indptr[:-1].astype(np.int32)
        self._highs.addRows(count, low, up, matrix.nnz, starts, matrix.indices.astype(np.int32), matrix.data)
        self.rows += count

    def solve(self) -> LinearSolution:
        """Solve from the last basis.

        Raises:
            SolverError: for every status but proven optimality.
        """
        self._highs.run()
        status = self._highs.getModelStatus()
        if status != self._optimal:
            raise SolverError(f"status of HiGHS = {self._highs.modelStatusToString(status)}; allowed: Optimal")
        solution = self._highs.getSolution()
        return LinearSolution(
            np.array(solution.col_value), np.array(solution.row_dual), float(self._highs.getObjectiveValue())
        )

    def make_integer(self, columns: ArrayLike) -> None:
        """Let existing columns take whole numbers only."""
        import highspy

        for column in np.atleast_1d(columns).tolist():
            self._highs.changeColIntegrality(int(column), highspy.HighsVarType.kInteger)

    def solve_integer(self, time_limit_s: float, gap: float = 1e-6) -> IntegerSolution:
        """Solve with whole numbers to a relative gap.

        Raises:
            SolverError: for every status but optimality within ``gap``, the time limit included.
        """
        self._highs.setOptionValue("mip_rel_gap", gap)
        self._highs.setOptionValue("time_limit", time_limit_s)
        self._highs.run()
        self._highs.setOptionValue("time_limit", float("inf"))
        status = self._highs.getModelStatus()
        if status != self._optimal:
            raise SolverError(f"status of HiGHS = {self._highs.modelStatusToString(status)}; allowed: Optimal")
        info = self._highs.getInfo()
        point = np.array(self._highs.getSolution().col_value)
        return IntegerSolution(point, float(info.objective_function_value), float(info.mip_dual_bound))


class ConicSolution(NamedTuple):
    """Primal point (columns,), row multipliers (rows,) in the dual cone up to a tolerance, the solver's status."""

    point: Floats
    dual: Floats
    status: str


class ConicProgram:
    """minimise x' diag(quadratic) x / 2 + cost x  over  right - A x in a product of cones, lower <= x <= upper.

    Args:
        cost, quadratic: (columns,) objective, quadratic not negative.
        matrix, right: A (rows, columns) and its right-hand side: first the rows that must be zero, then those that
            must not be negative, then one block of rows for every second-order cone (its first row the largest).
        zeros, positives: number of rows of the first two kinds.
        cones: sizes of the second-order cones.
    """

    def __init__(
        self,
        cost: Floats,
        quadratic: Floats,
        matrix: csr_matrix,
        right: Floats,
        zeros: int,
        positives: int,
        cones: list[int],
    ) -> None:
        self._objective = (csc_matrix(diags(quadratic)), cost)
        self._matrix, self._right = matrix, right
        self._zeros, self._positives, self._cones = zeros, positives, cones

    # settings of Clarabel in the order to try them: programs come per unit, and rescaled they mostly end less exact
    ATTEMPTS = (
        {"equilibrate_enable": False},
        {"equilibrate_enable": True},
        {"equilibrate_enable": False, "static_regularization_constant": 1e-7},
    )

    def solve(self, lower: Floats, upper: Floats, given: NDArray[np.bool_], attempt: int = 0) -> ConicSolution:
        """Solve with Clarabel; what its status is worth, a proven bound has to show.

        Args:
            lower: (columns,) lower bounds.
            upper: (columns,) upper bounds; one equal to the lower fixes a column.
            given: (columns,) whether the solver is told the bounds of a column: those that no other row implies.
            attempt: which of the ATTEMPTS.

        Raises:
            SolverError: if the solver finds neither a point nor a proof that there is none ("...Infeasible": then
                ``dual`` is its evidence and ``point`` means nothing).
        """
        import clarabel  # here, so that reading certificates needs no solver

        fixed, boxed = given & (lower == upper), given & (lower < upper)
        unit = eye(len(lower), format="csr")
        split = self._zeros
        stacked = vstack(
            [self._matrix[:split], unit[fixed], self._matrix[split:][: self._positives], unit[boxed], -unit[boxed]]
            + [self._matrix[split + self._positives :]],
            format="csc",
        )
        first, rest = np.split(self._right, [split])
        positive, conic = np.split(rest, [self._positives])
        right = np.concatenate([first, lower[fixed], positive, upper[boxed], -lower[boxed], conic])
        kinds = [
            clarabel.ZeroConeT(split + int(fixed.sum())),
            clarabel.NonnegativeConeT(self._positives + 2 * int(boxed.sum())),
            *map(clarabel.SecondOrderConeT, self._cones),
        ]
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_threads = 1
        for name, setting in self.ATTEMPTS[attempt].items():
            setattr(settings, name, setting)
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
        answer = clarabel.DefaultSolver(*self._objective, stacked, right, kinds, settings).solve()
        dual, status = np.array(answer.z), str(answer.status)
        point = np.array(answer.x)
        unbounded = status in ("DualInfeasible", "AlmostDualInfeasible")
        if unbounded or not (np.isfinite(point).all() and np.isfinite(dual).all()):
            raise SolverError(f"status of Clarabel = {status}; allowed: a point and multipliers")
        at = np.cumsum([split, fixed.sum(), self._positives, 2 * boxed.sum()])
        kept = np.concatenate([dual[: at[0]], dual[at[1] : at[2]], dual[at[3] :]])
        return ConicSolution(point, kept, status)
