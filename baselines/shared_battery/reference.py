"""The sizing programs written in full: slow, readable, and the cross-check of every fast path."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reference", "equal_price_optimum", "lexicographic", "naive"]

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """Own batteries (n,), shared battery, and s + ratio sum b, all in kWh."""

    own_kwh: Floats
    shared_kwh: float
    use_kwh: float


def equal_price_optimum(need: Floats) -> float:
    """Least total capacity at equal prices (or dearer own capacity), closed form: the largest total of a day [kWh].

    sum (xi - b)_+ >= sum xi - sum b, so own batteries never save anything and b = 0, s = max_k sum_i xi_i^k is optimal.
    """
    return float(need.sum(axis=1).max())


def naive(need: Floats, low: Floats, high: Floats, ratio: float) -> Reference:
    """Problem (6) with one auxiliary variable for every driver and day, by cvxpy and HiGHS."""
    import cvxpy as cp

    own, shared, rules, _ = _program(need, low, high)
    problem = cp.Problem(cp.Minimize(shared + ratio * cp.sum(own)), rules)
    _solve(problem)
    return Reference(own.value, float(shared.value), float(problem.value))


def lexicographic(need: Floats, low: Floats, high: Floats, ratio: float) -> Reference:
    """Among the cheapest sizes those with the largest sum of own batteries, among these the smallest norm."""
    import cvxpy as cp

    least = naive(need, low, high, ratio).use_kwh
    own, shared, rules, _ = _program(need, low, high)
    rules += [shared + ratio * cp.sum(own) <= least * (1.0 + 1e-9)]
    largest = cp.Problem(cp.Maximize(cp.sum(own)), rules)
    _solve(largest)
    rules += [cp.sum(own) >= float(largest.value) * (1.0 - 1e-9)]
    smallest = cp.Problem(cp.Minimize(cp.sum_squares(own)), rules)
    smallest.solve(solver=cp.CLARABEL)
    return Reference(own.value, float(shared.value), float(shared.value + ratio * own.value.sum()))


def _program(need: Floats, low: Floats, high: Floats):  # type: ignore[no-untyped-def]  # noqa: ANN202
    import cvxpy as cp

    days, n = need.shape
    own, shared = cp.Variable(n), cp.Variable(nonneg=True)
    short = cp.Variable((days, n), nonneg=True)
    every = np.ones((days, 1)) @ cp.reshape(own, (1, n), order="C")
    return own, shared, [short >= need - every, cp.sum(short, axis=1) <= shared, own >= low, own <= high], short


def _solve(problem) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    import cvxpy as cp

    problem.solve(solver=cp.HIGHS, dual_feasibility_tolerance=1e-10, primal_feasibility_tolerance=1e-10)
    if problem.status != cp.OPTIMAL:
        raise RuntimeError(f"status of the reference program = {problem.status}; allowed: optimal")
