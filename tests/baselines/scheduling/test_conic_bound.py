"""Dual bounds of conic programs: below the optimum for any multipliers, at it for the right ones; the solver."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from baselines.scheduling.conic_bound import ConicData, dual_cone_point, lower_bound, violation
from baselines.solve import ConicProgram, SolverError


def random_program(seed):
    """Feasible by construction: equations, inequalities and cones of three and four rows around a point in the box."""
    rng = np.random.default_rng(seed)
    columns, zeros, positives, cones = 8, 2, 3, (3, 4, 3)
    rows = zeros + positives + sum(cones)
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.6)
    inside = rng.normal(size=columns)
    slack = np.zeros(rows)
    slack[zeros : zeros + positives] = rng.random(positives)
    at = zeros + positives
    for size in cones:
        tail = rng.normal(size=size - 1)
        slack[at : at + size] = [np.linalg.norm(tail) + rng.random(), *tail]
        at += size
    lower, upper = inside - 0.1 - rng.random(columns), inside + 0.1 + rng.random(columns)
    lower[0] = upper[0] = inside[0]
    quadratic = np.where(rng.random(columns) < 0.5, rng.random(columns), 0.0)
    data = ConicData(
        rng.normal(size=columns),
        quadratic,
        csr_matrix(matrix),
        matrix @ inside + slack,
        zeros,
        positives,
        cones,
        lower,
        upper,
        np.ones(columns, bool),
    )
    return data, inside


def answer_of(data, attempt=0):
    program = ConicProgram(
        data.cost, data.quadratic, data.matrix, data.right, data.zeros, data.positives, list(data.cones)
    )
    return program.solve(data.lower, data.upper, data.given, attempt)


def by_cvxpy(data):
    x = cp.Variable(len(data.cost))
    rows = data.right - data.matrix.toarray() @ x
    split = data.zeros + data.positives
    rules = [rows[: data.zeros] == 0, rows[data.zeros : split] >= 0, x >= data.lower, x <= data.upper]
    for head, size in zip(data.heads(), data.cones, strict=True):
        rules.append(cp.norm(rows[head + 1 : head + size]) <= rows[head])
    problem = cp.Problem(cp.Minimize(data.cost @ x + 0.5 * cp.sum(cp.multiply(data.quadratic, x**2))), rules)
    return float(problem.solve(solver=cp.CLARABEL, tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("attempt", range(len(ConicProgram.ATTEMPTS)))
def test_solver_and_bound_meet_at_the_optimum(seed, attempt):
    data, _ = random_program(seed)
    answer = answer_of(data, attempt)
    best = by_cvxpy(data)
    assert answer.status == "Solved"
    assert abs(data.value(answer.point) - best) < 1e-6
    assert violation(data, answer.point) < 1e-7
    assert best - 1e-6 < lower_bound(data, answer.dual) < best + 1e-7


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.0, 100.0))
def test_no_multipliers_bound_above_a_feasible_point(seed, scale):
    data, inside = random_program(seed)
    dual = scale * np.random.default_rng(seed + 1).normal(size=len(data.right))
    assert violation(data, inside) < 1e-12
    assert lower_bound(data, dual) <= data.value(inside) + 1e-9
    assert lower_bound(data, dual, objective=False) <= 0.0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_moved_multipliers_lie_in_the_dual_cone_and_good_ones_stay(seed):
    data, _ = random_program(seed)
    rng = np.random.default_rng(seed)
    moved = dual_cone_point(data, rng.normal(size=len(data.right)))
    assert (moved[data.zeros : data.zeros + data.positives] >= 0.0).all()
    for head, size in zip(data.heads(), data.cones, strict=True):
        assert moved[head] >= np.linalg.norm(moved[head + 1 : head + size])
    np.testing.assert_array_equal(dual_cone_point(data, moved)[: data.zeros], moved[: data.zeros])
    np.testing.assert_allclose(dual_cone_point(data, moved), moved, rtol=1e-13)


def test_violation_names_the_largest_breach():
    data, inside = random_program(0)
    at = data.upper - inside
    point = inside.copy()
    point[3] = data.upper[3] + 5.0
    assert violation(data, point) >= 5.0
    free = data._replace(lower=np.full(8, -1e3), upper=np.full(8, 1e3), zeros=0, positives=0, cones=(3,))
    cone = free._replace(matrix=csr_matrix(np.eye(3, 8)), right=np.zeros(3))
    # right - A x = (-1, 3, 4): 5 long with a head of -1
    point = np.array([1.0, -3.0, -4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert violation(cone, point) == 6.0
    assert (at > 0.0).any()


def test_an_empty_program_is_proven_empty():
    data, inside = random_program(1)
    # head of the first cone forced below zero: right - A x there is at most -1 over the whole box
    row = data.zeros + data.positives
    most = float(np.abs(data.matrix.toarray()[row]) @ np.maximum(abs(data.lower), abs(data.upper)))
    right = data.right.copy()
    right[row] = -most - 1.0
    broken = data._replace(right=right)
    answer = answer_of(broken)
    assert "Infeasible" in answer.status
    assert lower_bound(broken, answer.dual, objective=False) > 0.0
    assert lower_bound(data, answer.dual, objective=False) <= 0.0


def test_rounding_counts_against_the_bound():
    # min x over [0, 1] with x = 1/3 exactly representable nowhere: the bound must not pass the true optimum
    third = 1.0 / 3.0
    data = ConicData(
        np.array([1.0]),
        np.zeros(1),
        csr_matrix([[1.0]]),
        np.array([third]),
        1,
        0,
        (),
        np.zeros(1),
        np.ones(1),
        np.ones(1, bool),
    )
    bound = lower_bound(data, np.array([-1.0]))
    assert third - 1e-13 < bound < third


def test_a_program_without_a_lowest_point_raises_with_the_solvers_status():
    data, _ = random_program(2)
    # no rows, and bounds that the solver is not told
    free = data._replace(
        quadratic=np.zeros(8), matrix=csr_matrix((1, 8)), right=np.ones(1), zeros=0, positives=1, cones=()
    )
    with pytest.raises(SolverError, match="status of Clarabel = .*; allowed"):
        answer_of(free._replace(given=np.zeros(8, bool)))
    assert answer_of(free).status == "Solved"
