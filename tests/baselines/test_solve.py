from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_matrix

from baselines.solve import LinearProgram, SolverError

SEEDS = range(25)


def random_program(seed: int):
    """Feasible by construction, bounded by its box; rows of every kind: equal, ranged, one-sided, free."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 8)), int(rng.integers(2, 9))
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.7)
    lower = -rng.random(columns) * 3.0
    upper = lower + rng.random(columns) * 5.0
    inside = lower + (upper - lower) * rng.random(columns)
    middle = matrix @ inside
    low, up = middle - rng.random(rows), middle + rng.random(rows)
    kind = rng.integers(0, 5, rows)
    low[kind == 0] = up[kind == 0] = middle[kind == 0]
    low[(kind == 1) | (kind == 4)] = -np.inf
    up[(kind == 2) | (kind == 4)] = np.inf
    return rng.normal(size=columns), matrix, low, up, lower, upper


def build(cost, matrix, low, up, lower, upper):
    program = LinearProgram(cost, lower, upper)
    program.add_matrix(low, up, csr_matrix(matrix))
    return program


def by_scipy(cost, matrix, low, up, lower, upper):
    """Optimum by scipy (free rows left out)."""
    kept = np.isfinite(low) | np.isfinite(up)
    rows = [LinearConstraint(matrix[kept], low[kept], up[kept])] if kept.any() else []
    answer = milp(-cost, constraints=rows, bounds=(lower, upper))
    assert answer.status == 0
    return -answer.fun


@pytest.mark.parametrize("seed", SEEDS)
def test_optimum_is_feasible_and_equals_scipys(seed):
    cost, matrix, low, up, lower, upper = random_program(seed)
    answer = build(cost, matrix, low, up, lower, upper).solve()
    assert answer.objective == pytest.approx(by_scipy(cost, matrix, low, up, lower, upper), abs=1e-7)
    assert answer.objective == pytest.approx(cost @ answer.point, abs=1e-9)
    inside = matrix @ answer.point
    assert (inside >= low - 1e-8).all()
    assert (inside <= up + 1e-8).all()
    assert (answer.point >= lower - 1e-9).all()
    assert (answer.point <= upper + 1e-9).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_row_duals_are_derivatives_of_the_maximum_by_the_right_hand_side(seed):
    cost, matrix, low, up, lower, upper = random_program(seed)
    base = build(cost, matrix, low, up, lower, upper).solve()
    h = 1e-5
    for i in range(len(low)):
        if not (np.isfinite(low[i]) or np.isfinite(up[i])):
            assert base.row_dual[i] == 0.0
            continue
        moved = []
        for sign in (1.0, -1.0):
            shift = np.zeros(len(low))
            shift[i] = sign * h
            try:
                moved.append(build(cost, matrix, low + shift, up + shift, lower, upper).solve().objective)
            except SolverError:
                moved.append(-np.inf)
        # concave in the right-hand side: the dual lies between the slopes on both sides
        assert (moved[0] - base.objective) / h <= base.row_dual[i] + 1e-5
        assert (base.objective - moved[1]) / h >= base.row_dual[i] - 1e-5


def test_duals_of_a_program_solved_by_hand():
    # max 3 x + 2 y, x + y <= 4, x - y >= -2 (slack), x <= 3: x = 3, y = 1; one more unit of the first row gives 2
    program = LinearProgram([3.0, 2.0], [0.0, 0.0], [3.0, 10.0])
    program.add_rows([-np.inf, -2.0], [4.0, np.inf], [[0, 1], [0, 1]], [[1.0, 1.0], [1.0, -1.0]])
    answer = program.solve()
    assert answer.point.tolist() == [3.0, 1.0]
    assert answer.objective == 11.0
    assert answer.row_dual.tolist() == [2.0, 0.0]
    # max -x, x >= 1: one more unit of the lower limit costs one
    program = LinearProgram([-1.0], [0.0], [5.0])
    program.add_rows([1.0], [np.inf], [[0]], [[1.0]])
    assert program.solve().row_dual.tolist() == [-1.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_and_columns_added_between_solves_give_what_a_build_at_once_gives(seed):
    cost, matrix, low, up, lower, upper = random_program(seed)
    whole = build(cost, matrix, low, up, lower, upper).solve()
    first = len(cost) // 2
    program = LinearProgram(cost[:first], lower[:first], upper[:first])
    program.solve()
    assert program.add_columns(cost[first:], lower[first:], upper[first:]) == first
    for i in range(len(low)):
        assert program.add_rows([low[i]], [up[i]], [np.arange(len(cost))], [matrix[i]]) == i
        program.solve()
    assert program.add_columns([], [], []) == program.columns == len(cost)
    assert program.add_rows([], [], np.zeros((0, 2)), np.zeros((0, 2))) == program.rows == len(low)
    lazy = program.solve()
    assert lazy.objective == pytest.approx(whole.objective, abs=1e-8)
    assert np.allclose(lazy.point, whole.point, atol=1e-7)
    assert np.allclose(lazy.row_dual, whole.row_dual, atol=1e-7)


def test_infeasible_programs_raise_with_the_status():
    program = LinearProgram([1.0, 1.0], [0.0, 0.0], [1.0, 1.0])
    program.add_rows([3.0], [np.inf], [[0, 1]], [[1.0, 1.0]])
    with pytest.raises(SolverError, match="(?i)infeasible"):
        program.solve()


def test_unbounded_programs_raise_with_the_status():
    with pytest.raises(SolverError, match="(?i)unbounded"):
        LinearProgram([1.0, 0.0], [0.0, 0.0], [np.inf, 1.0]).solve()


def test_a_program_without_columns_is_no_silent_optimum_of_something_else():
    program = LinearProgram([], [], [])
    program.add_columns([2.0], [0.0], [3.0])
    assert program.solve().objective == 6.0


# Whole numbers


def knapsack(seed: int):
    """Values, sizes, copies of each piece and two capacities."""
    rng = np.random.default_rng(seed)
    pieces = int(rng.integers(2, 6))
    copies = rng.integers(1, 4, pieces)
    sizes = rng.integers(1, 20, (2, pieces)).astype(float)
    return rng.random(pieces) * 10.0 + 0.1, sizes, copies, 0.4 * sizes @ copies


def packed(value, sizes, copies, room):
    program = LinearProgram(value, np.zeros(len(value)), copies.astype(float))
    columns = np.tile(np.arange(len(value)), (2, 1))
    program.add_rows([-np.inf] * 2, room, columns, sizes)
    return program


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_numbers_of_pieces_are_packed_as_by_brute_force(seed):
    value, sizes, copies, room = knapsack(seed)
    program = packed(value, sizes, copies, room)
    relaxed = program.solve().objective
    program.make_integer(range(len(value)))
    answer = program.solve_integer(60.0)
    every = np.array(list(itertools.product(*(range(count + 1) for count in copies))), float)
    best = (every @ value)[(every @ sizes.T <= room + 1e-9).all(axis=1)].max()
    assert answer.objective == pytest.approx(best, rel=2e-6)
    assert answer.objective == pytest.approx(value @ answer.point, rel=1e-9)
    assert np.allclose(answer.point, np.round(answer.point), atol=1e-6)
    assert (sizes @ np.round(answer.point) <= room + 1e-6).all()
    assert best * (1.0 - 1e-9) <= answer.bound <= best * (1.0 + 1e-6) + 1e-9
    assert best <= relaxed * (1.0 + 1e-9)


def test_columns_that_were_not_named_stay_continuous_also_when_added_later():
    # max 2 x + y, x + y <= 2.5 with whole x: x = 2, y = .5; then z, worth 3 and whole, takes two of the 2.5
    program = LinearProgram([2.0, 1.0], [0.0, 0.0], [10.0, 10.0])
    program.add_rows([-np.inf], [2.5], [[0, 1]], [[1.0, 1.0]])
    program.make_integer(0)
    answer = program.solve_integer(10.0)
    assert answer.point == pytest.approx([2.0, 0.5])
    assert answer.objective == pytest.approx(4.5)
    place = program.add_columns([3.0], [0.0], [10.0])
    program.make_integer([place])
    program.add_rows([-np.inf], [2.5], [[0, 1, place]], [[1.0, 1.0, 1.0]])
    answer = program.solve_integer(10.0)
    assert answer.point == pytest.approx([0.0, 0.5, 2.0])
    assert answer.objective == pytest.approx(6.5)


def test_whole_programs_without_a_point_raise_with_the_status():
    program = LinearProgram([1.0, 1.0], [0.0, 0.0], [5.0, 5.0])
    program.add_rows([3.0], [3.0], [[0, 1]], [[2.0, 2.0]])  # twice a whole number is not three
    assert program.solve().objective == pytest.approx(1.5)
    program.make_integer([0, 1])
    with pytest.raises(SolverError, match="(?i)infeasible"):
        program.solve_integer(10.0)


def hard():
    """Market split: equal sums that hardly any choice of many whole numbers has."""
    rng = np.random.default_rng(5)
    program = LinearProgram(np.zeros(40), np.zeros(40), np.ones(40))
    sizes = rng.integers(0, 100, (5, 40)).astype(float)
    half = np.floor(sizes.sum(axis=1) / 2.0)
    program.add_rows(half, half, np.tile(np.arange(40), (5, 1)), sizes)
    program.make_integer(range(40))
    return program


def test_a_time_limit_is_no_optimum():
    with pytest.raises(SolverError, match="(?i)time limit"):
        hard().solve_integer(0.1)


def test_a_time_limit_is_the_same_for_every_solve():
    program = hard()
    for _ in range(4):  # .1, .2, .4, .8 s
        begin = time.perf_counter()
        with pytest.raises(SolverError, match="(?i)time limit"):
            program.solve_integer(0.1)
    assert time.perf_counter() - begin < 0.5
