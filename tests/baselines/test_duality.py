from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from baselines.duality import linear_bound, rounding_allowance
from baselines.solve import LinearProgram

SIZES = (1e-6, 1.0, 1e9)
SEEDS = st.integers(0, 2**32 - 1)


def random_program(seed: int):
    """Random data with badly mixed sizes, and a point that is feasible in exact arithmetic."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 7)), int(rng.integers(1, 8))
    matrix = rng.normal(size=(rows, columns)) * rng.choice(SIZES, (rows, 1)) * (rng.random((rows, columns)) < 0.7)
    point = rng.normal(size=columns) * rng.choice(SIZES, columns)
    lower = point - rng.random(columns) * rng.choice([0.0, 1.0, 1e6], columns)
    upper = point + rng.random(columns) * rng.choice([0.0, 1.0, 1e6], columns)
    exact = [sum((Fraction(a) * Fraction(x) for a, x in zip(row, point, strict=True)), Fraction(0)) for row in matrix]
    low = np.array([np.nextafter(float(v), -np.inf) for v in exact]) - rng.random(rows)
    up = np.array([np.nextafter(float(v), np.inf) for v in exact]) + rng.random(rows)
    kind = rng.integers(0, 4, rows)
    low[(kind == 1) | (kind == 3)] = -np.inf
    up[(kind == 2) | (kind == 3)] = np.inf
    return rng.normal(size=columns) * rng.choice(SIZES, columns), matrix, low, up, lower, upper, point


def exact_dual(cost, matrix, low, up, lower, upper, dual) -> Fraction:
    """The Lagrangian's maximum over the box in exact rational arithmetic; duals on infinite limits count as zero."""
    total = Fraction(0)
    y = []
    for i, value in enumerate(dual):
        limit = up[i] if value > 0.0 else low[i]
        keep = value != 0.0 and np.isfinite(limit)
        y.append(Fraction(float(value)) if keep else Fraction(0))
        total += y[-1] * Fraction(float(limit)) if keep else 0
    for j, c in enumerate(cost):
        reduced = Fraction(float(c)) - sum((Fraction(float(matrix[i, j])) * y[i] for i in range(len(y))), Fraction(0))
        total += max(reduced * Fraction(float(lower[j])), reduced * Fraction(float(upper[j])))
    return total


def value_of(cost, point) -> Fraction:
    return sum((Fraction(float(c)) * Fraction(float(x)) for c, x in zip(cost, point, strict=True)), Fraction(0))


def bound_of(program, dual):
    cost, matrix, low, up, lower, upper, _ = program
    return linear_bound(cost, csr_matrix(matrix), low, up, lower, upper, dual)


@given(SEEDS, SEEDS, st.sampled_from([0.0, 1e-9, 1.0, 1e3, 1e9]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_dual_vector_bounds_every_feasible_point_in_exact_arithmetic(seed, other, scale):
    program = random_program(seed)
    cost, matrix, low, up, lower, upper, point = program
    dual = np.random.default_rng(other).normal(size=len(low)) * scale
    found = Fraction(bound_of(program, dual))
    exact = exact_dual(cost, matrix, low, up, lower, upper, dual)
    assert found >= exact  # rounding went outward
    assert exact >= value_of(cost, point)  # weak duality, so the rounded bound is one too


@given(SEEDS)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_duals_that_cancel_the_costs_are_rounded_outward(seed):
    # the hard case: reduced costs are differences of nearly equal numbers, and the box is wide
    program = random_program(seed)
    cost, matrix, low, up, lower, upper, point = program
    dual = np.random.default_rng(seed).normal(size=len(low)) * 10.0 ** np.random.default_rng(seed + 1).integers(-6, 7)
    dual[~np.isfinite(np.where(dual > 0.0, up, low))] = 0.0
    near = (matrix.T @ dual, matrix, low, up, lower - 1e6, upper + 1e6, point)
    assert Fraction(bound_of(near, dual)) >= exact_dual(*near[:6], dual)


@given(SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_outward_rounding_costs_almost_nothing(seed):
    rng = np.random.default_rng(seed)
    rows, columns = 5, 6
    matrix, cost, dual = rng.normal(size=(rows, columns)), rng.normal(size=columns), rng.normal(size=rows)
    program = (cost, matrix, -np.ones(rows), np.ones(rows), -np.ones(columns), np.ones(columns))
    assert (
        0.0 <= Fraction(linear_bound(cost, csr_matrix(matrix), *program[2:], dual)) - exact_dual(*program, dual) < 1e-11
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_solvers_dual_gives_the_optimum(seed):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 7)), int(rng.integers(2, 9))
    matrix = rng.normal(size=(rows, columns))
    lower, upper = -rng.random(columns), rng.random(columns)
    low = np.where(rng.random(rows) < 0.5, -rng.random(rows), -np.inf)
    up = np.where(rng.random(rows) < 0.5, rng.random(rows), np.inf)
    cost = rng.normal(size=columns)
    program = LinearProgram(cost, lower, upper)
    program.add_matrix(low, up, csr_matrix(matrix))
    answer = program.solve()
    found = linear_bound(cost, csr_matrix(matrix), low, up, lower, upper, answer.row_dual)
    assert answer.objective - 1e-9 <= found <= answer.objective + 1e-6
    worse = linear_bound(cost, csr_matrix(matrix), low, up, lower, upper, answer.row_dual + rng.normal(size=rows))
    assert worse >= found - 1e-9


def test_a_bound_by_hand():
    # max 3 x + 2 y over x + y <= 4 in [0, 3] x [0, 10]: y = 2 leaves 1 for x: 8 + 3
    answer = linear_bound(
        np.array([3.0, 2.0]), csr_matrix([[1.0, 1.0]]), np.array([-np.inf]), np.array([4.0]), np.zeros(2),
        np.array([3.0, 10.0]), np.array([2.0]),
    )  # fmt: skip
    assert 11.0 <= answer <= 11.0 + 1e-12


def test_duals_on_limits_that_are_not_there_are_left_out():
    arguments = (np.array([1.0]), csr_matrix([[1.0]]), np.array([-np.inf]), np.array([np.inf]), np.zeros(1), np.ones(1))
    for dual in (5.0, -5.0, np.nan):
        assert 1.0 <= linear_bound(*arguments, np.array([dual])) <= 1.0 + 1e-12


@given(st.lists(st.floats(-1e12, 1e12), max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_allowance_covers_the_rounding_of_a_sum(values):
    terms = np.array(values)
    exact = sum((Fraction(v) for v in values), Fraction(0))
    assert abs(Fraction(float(terms.sum())) - exact) <= Fraction(rounding_allowance(terms))
