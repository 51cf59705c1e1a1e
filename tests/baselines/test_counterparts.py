from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from baselines.counterparts import add_rows, conic_rows, counterpart, protection
from baselines.duality import linear_bound
from baselines.solve import ConicProgram, LinearProgram
from v2g_env.core.uncertainty import Box, BoxEllipsoid, Budget, Ellipsoid, UncertaintySet
from v2g_env.core.validate import InvalidInputError

COLUMNS, ENTRIES, ROWS = 4, 5, 3
LINEAR, CONIC = (Box, Budget), (Ellipsoid, BoxEllipsoid)
KINDS = LINEAR + CONIC
SEEDS = range(6)


def random_set(kind, rng, entries=ENTRIES):
    halfwidth = rng.uniform(0.2, 1.0, entries) * (rng.random(entries) < 0.8)
    if kind is Box:
        return Box(halfwidth)
    most = entries if kind is Budget else np.sqrt(entries)
    return kind(halfwidth, float(rng.choice([0.0, 1.0, most, *rng.uniform(0.0, most, 4)])))


def within(e, part):
    below, above = np.isfinite(part.lower), np.isfinite(part.upper)
    return [e[below] >= part.lower[below], e[above] <= part.upper[above]]


def in_cones(slack, sizes):
    assert slack.size == sum(sizes)
    starts = np.cumsum([0, *sizes])[:-1]
    return [cp.SOC(slack[at], slack[at + 1 : at + size]) for at, size in zip(starts, sizes, strict=True)]


class Problem:
    """Maximise cost x over a box and robust rows a_r'x + u'(d_r + D_r x) <= b_r; feasible by construction."""

    def __init__(self, seed, kinds):
        rng = np.random.default_rng(seed)
        self.sets = [random_set(kinds[i % len(kinds)], rng) for i in range(ROWS)]
        self.cost = rng.uniform(0.5, 1.5, COLUMNS)
        self.lower, self.upper = -rng.random(COLUMNS), 1.0 + 2.0 * rng.random(COLUMNS)
        count = ROWS * ENTRIES
        self.D = rng.normal(size=(count, COLUMNS)) * (rng.random((count, COLUMNS)) < 0.6)
        self.d = rng.normal(size=count) * (rng.random(count) < 0.5)
        self.a = rng.uniform(0.0, 1.0, (ROWS, COLUMNS))
        inside = 0.3 * self.lower + 0.1 * self.upper
        self.b = self.a @ inside + self.protection(inside) + 0.3

    def protection(self, x):
        """Closed form, (ROWS,)."""
        return protection(self.sets, self.D, self.d, x)

    def part(self, bounded=True):
        """Counterpart, with or without bounds of x."""
        bounds = (self.lower, self.upper) if bounded else ()
        return counterpart(self.sets, self.D, self.d, *bounds)

    def row(self, r):
        """Data of one row."""
        at = slice(r * ENTRIES, (r + 1) * ENTRIES)
        return self.a[r], self.D[at], self.d[at], self.b[r], self.sets[r]

    def by_cutting_planes(self):
        """Add the row of the worst deviation until none is violated."""
        left, right = [np.zeros(COLUMNS)], [0.0]
        for _ in range(500):
            box = np.column_stack([self.lower, self.upper])
            x = linprog(-self.cost, left, right, bounds=box).x
            done = True
            for r in range(ROWS):
                a, D, d, b, uncertain = self.row(r)
                value, u = uncertain.worst(d + D @ x)
                if a @ x + value > b + 5e-7:  # the tolerance of linprog is 1e-7
                    left.append(a + D.T @ u)
                    right.append(b - d @ u)
                    done = False
            if done:
                return self.cost @ x
        raise AssertionError("no convergence")

    def by_linear_program(self, bounded=True):
        """Optimal x of the counterpart, by HiGHS."""
        program = LinearProgram(self.cost, self.lower, self.upper)
        add_rows(program, self.part(bounded), self.a, self.b)
        return program.solve().point[:COLUMNS]

    def by_cone_program(self, bounded=True):
        """Optimal x of the counterpart in standard form, by Clarabel through cvxpy."""
        part = self.part(bounded)
        rows = conic_rows(part, self.a, self.b)
        x, e = cp.Variable(COLUMNS), cp.Variable(len(part.lower))
        slack, first = rows.right - rows.matrix @ cp.hstack([x, e]), rows.positives
        limits = [slack[:first] >= 0, x >= self.lower, x <= self.upper, *within(e, part)]
        cp.Problem(cp.Maximize(self.cost @ x), limits + in_cones(slack[first:], rows.cones)).solve(solver=cp.CLARABEL)
        return x.value

    def by_norms(self):
        """Each protection as a textbook norm of c = halfwidth (d + D x)."""
        x = cp.Variable(COLUMNS)
        limits = [x >= self.lower, x <= self.upper]
        for r in range(ROWS):
            a, D, d, b, uncertain = self.row(r)
            c = cp.multiply(uncertain.halfwidth, d + D @ x)
            limits.append(a @ x + norm_of(uncertain, c) <= b)
        return cp.Problem(cp.Maximize(self.cost @ x), limits).solve(solver=cp.CLARABEL)


def norm_of(uncertain, c):
    if isinstance(uncertain, Box):
        return cp.norm1(c)
    if isinstance(uncertain, Ellipsoid):
        return uncertain.omega * cp.norm2(c)
    if isinstance(uncertain, BoxEllipsoid):
        z = cp.Variable(ENTRIES)
        return cp.norm1(c - z) + uncertain.omega * cp.norm2(z)
    whole = int(uncertain.alpha)
    share = uncertain.alpha - whole
    parts = [(1.0 - share, whole), (share, whole + 1)]
    return sum(weight * cp.sum_largest(cp.abs(c), k) for weight, k in parts if weight > 0.0 and k > 0)


def check(problem, x, tolerance):
    """The answer is the optimum found in two other ways, and no sampled deviation violates a row."""
    value = problem.cost @ x
    assert value == pytest.approx(problem.by_cutting_planes(), abs=1e-5)
    assert value == pytest.approx(problem.by_norms(), abs=1e-5)
    assert (problem.a @ x + problem.protection(x) <= problem.b + tolerance).all()
    rng = np.random.default_rng(0)
    for r in range(ROWS):
        a, D, d, b, uncertain = problem.row(r)
        for extreme in (False, True):
            u = uncertain.sample(rng, 2000, extreme=extreme)
            assert (a @ x + u @ (d + D @ x) <= b + tolerance).all()


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("seed", SEEDS)
def test_linear_counterpart_has_the_optimum_of_the_robust_program(kind, seed):
    problem = Problem(seed, [kind])
    check(problem, problem.by_linear_program(), 1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_conic_counterpart_has_the_optimum_of_the_robust_program(kind, seed):
    problem = Problem(seed, [kind])
    check(problem, problem.by_cone_program(), 1e-6)


@pytest.mark.parametrize("kinds", [CONIC, KINDS])
def test_conic_rows_fit_the_cone_program(kinds):
    problem = Problem(4, kinds)
    part = problem.part()
    cost = np.append(-problem.cost, np.zeros(len(part.lower)))
    matrix, right, positives, cones = conic_rows(part, problem.a, problem.b)
    program = ConicProgram(cost, np.zeros(len(cost)), matrix, right, 0, positives, cones)
    lower, upper = np.append(problem.lower, part.lower), np.append(problem.upper, part.upper)
    x = program.solve(lower, upper, np.full(len(cost), True)).point[:COLUMNS]
    check(problem, x, 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_with_different_sets_can_share_a_counterpart(seed):
    problem = Problem(seed, [Ellipsoid, Budget, BoxEllipsoid])
    check(problem, problem.by_cone_program(), 1e-6)
    problem = Problem(seed, [Budget, Box])
    check(problem, problem.by_linear_program(), 1e-7)


@pytest.mark.parametrize("kinds", [LINEAR, CONIC])
@pytest.mark.parametrize("seed", SEEDS)
def test_bounds_of_the_extra_variables_are_finite_and_change_nothing(kinds, seed):
    problem = Problem(seed, kinds)
    bounded, free = problem.part(), problem.part(bounded=False)
    assert np.isfinite(bounded.lower).all()
    assert np.isfinite(bounded.upper).all()
    assert (free.upper == np.inf).any()
    solve = problem.by_linear_program if kinds == LINEAR else problem.by_cone_program
    assert problem.cost @ solve() == pytest.approx(problem.cost @ solve(bounded=False), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_smallest_weight_of_the_extra_variables_is_the_protection_at_every_corner(kind):
    """With x at a corner of its bounds the limits of the extra variables are tight, but cut nothing off."""
    rng = np.random.default_rng(9)
    for seed in range(4):
        problem = Problem(seed, [kind])
        part = problem.part()
        x = np.where(rng.random(COLUMNS) < 0.5, problem.lower, problem.upper)
        e = cp.Variable(len(part.lower))
        both = cp.hstack([x, e])
        limits = [part.matrix @ both >= part.low, *within(e, part)]
        limits += in_cones(part.cone_offset - part.cone_matrix @ both, part.cone_sizes)
        least = cp.Problem(cp.Minimize(cp.sum(part.weight @ e)), limits).solve(solver=cp.CLARABEL)
        assert least == pytest.approx(problem.protection(x).sum(), abs=1e-6)


def test_protection_of_a_row_by_hand():
    # y = (1 + 2, -4) at x = 2, effects 3 and 2
    D, d, x = [[1.0], [-2.0]], [1.0, 0.0], [2.0]
    halfwidth = [1.0, 0.5]
    assert protection(Box(halfwidth), D, d, x).tolist() == [5.0]
    assert protection(Budget(halfwidth, 1.5), D, d, x).tolist() == [4.0]
    assert protection(Ellipsoid(halfwidth, 2.0), D, d, x) == pytest.approx(2.0 * np.sqrt(13.0), rel=1e-15)
    assert protection(BoxEllipsoid(halfwidth, 1.0), D, d, x) == pytest.approx(np.sqrt(13.0), rel=1e-15)
    assert protection([Box(halfwidth), Budget(halfwidth, 1.0)], D * 2, d * 2, x).tolist() == [5.0, 3.0]


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_and_dense_coefficients_give_the_same_rows(kind):
    problem = Problem(2, [kind])
    dense, unsorted = problem.part(), csr_matrix(problem.D)[:, ::-1][:, ::-1]
    sparse = counterpart(problem.sets, unsorted, problem.d, problem.lower, problem.upper)
    for one, other in zip(dense, sparse, strict=True):
        one, other = (part.toarray() if hasattr(part, "toarray") else part for part in (one, other))
        np.testing.assert_array_equal(one, other)


def test_entries_that_cannot_deviate_or_do_not_matter_cost_nothing():
    D, d = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]), np.zeros(3)
    for uncertain in (Box([1.0, 1.0, 0.0]), Budget([1.0, 1.0, 0.0], 2.0), BoxEllipsoid([1.0, 1.0, 0.0], 1.0)):
        assert counterpart(uncertain, D, d).weight[:, :1].nnz == 1
        assert len(counterpart(uncertain, D, d).low) == 2
    for nothing in (Budget(np.ones(3), 0.0), Ellipsoid(np.ones(3), 0.0), Box(np.zeros(3))):
        part = counterpart(nothing, D, d)
        assert (len(part.lower), len(part.low), part.cone_sizes) == (0, 0, ())
        assert conic_rows(part, [1.0, 1.0], 3.0).matrix.toarray().tolist() == [[1.0, 1.0]]


def test_rows_can_be_added_to_columns_anywhere_in_a_program():
    problem = Problem(1, LINEAR)
    program = LinearProgram(
        [0.0, *problem.cost[::-1], 0.0], [5.0, *problem.lower[::-1], 5.0], [6.0, *problem.upper[::-1], 6.0]
    )
    program.add_rows([-np.inf], [11.0], [[0, 5]], [[1.0, 1.0]])
    placed = add_rows(program, problem.part(), problem.a, problem.b, columns=[4, 3, 2, 1])
    answer = program.solve()
    assert answer.objective == pytest.approx(problem.cost @ problem.by_linear_program(), abs=1e-8)
    x, e = answer.point[[4, 3, 2, 1]], answer.point[placed.extra :]
    assert placed == (6, program.rows - ROWS)
    binding = answer.row_dual[placed.row :] > 1e-6
    assert binding.any()
    used = problem.a @ x + problem.part().weight @ e
    np.testing.assert_allclose(used[binding], problem.b[binding], atol=1e-8)
    np.testing.assert_allclose(problem.protection(x)[binding], (used - problem.a @ x)[binding], atol=1e-8)


def test_optimum_of_a_linear_counterpart_is_proven_by_its_duals():
    problem = Problem(3, LINEAR)
    part = problem.part()
    rows = conic_rows(part, problem.a, problem.b)
    assert rows.positives == rows.matrix.shape[0] == ROWS + len(part.low)
    extras = len(part.lower)
    cost = np.append(problem.cost, np.zeros(extras))
    lower, upper = np.append(problem.lower, part.lower), np.append(problem.upper, part.upper)
    program = LinearProgram(cost, lower, upper)
    low = np.full(len(rows.right), -np.inf)
    program.add_matrix(low, rows.right, rows.matrix)
    answer = program.solve()
    bound = linear_bound(cost, rows.matrix, low, rows.right, lower, upper, answer.row_dual)
    assert answer.objective <= bound <= answer.objective + 1e-8
    assert problem.by_cutting_planes() <= bound + 1e-7


def affine_rule(periods, loads, uncertain, adjustable):
    """Least planned peak: x_t(u) = x_t + X_t u[known] must cover mean + load u, u of earlier periods only is known."""
    per = loads
    known = [list(range(t * per)) if adjustable else [] for t in range(periods)]
    starts = periods + np.cumsum([0, *map(len, known)])
    columns = int(starts[-1]) + 1
    total = periods * per
    a, right = np.zeros((2 * periods, columns)), np.zeros(2 * periods)
    D, d = np.zeros((2 * periods, total, columns)), np.zeros((2 * periods, total))
    for t in range(periods):
        for sign, r in ((-1.0, 2 * t), (1.0, 2 * t + 1)):
            a[r, t] = sign
            for i, j in enumerate(known[t]):
                D[r, j, starts[t] + i] = sign
        d[2 * t, t * per : (t + 1) * per] = 1.0  # load of this period
        if t:
            d[2 * t, (t - 1) * per : t * per] = 0.8  # and the carried-over rest of the last one
        right[2 * t] = -10.0
        a[2 * t + 1, -1] = -1.0  # cover of every u stays below the peak
    lower, upper = np.full(columns, -100.0), np.full(columns, 100.0)
    cost = np.zeros(columns)
    cost[:periods], cost[-1] = -1.0, -0.1
    part = counterpart([uncertain] * (2 * periods), D.reshape(-1, columns), d.ravel(), lower, upper)
    program = LinearProgram(cost, lower, upper)
    add_rows(program, part, a, right)
    answer = program.solve()
    covered = a @ answer.point[:columns] + protection(
        [uncertain] * (2 * periods), D.reshape(-1, columns), d.ravel(), answer.point[:columns]
    )
    assert (covered <= right + 1e-7).all()
    return -answer.objective


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5, 12.0])
def test_affine_rules_cost_between_the_nominal_and_the_static_plan(alpha):
    periods, loads = 4, 3
    budget = Budget(np.ones(periods * loads), alpha)
    nominal = affine_rule(periods, loads, Box(np.zeros(periods * loads)), True)
    affine = affine_rule(periods, loads, budget, True)
    static = affine_rule(periods, loads, budget, False)
    assert nominal == pytest.approx(41.0)
    assert nominal - 1e-7 <= affine <= static + 1e-7
    # static: each period pays for the dearest alpha deviations of its own: 3 of 1 and, from the second on, 3 of 0.8
    own = [min(alpha, 3.0), *[min(alpha, 3.0) + 0.8 * min(max(alpha - 3.0, 0.0), 3.0)] * 3]
    assert static == pytest.approx(40.0 + sum(own) + 0.1 * (10.0 + max(own)), abs=1e-6)
    assert alpha < 3.0 or affine < static - 1.0


class Foreign(UncertaintySet):
    """A set that nobody knows a counterpart of."""

    def violation_bound(self, entries=None):
        """Valid for every symmetric set."""
        return 0.5

    def _shares(self, effect):
        return np.ones_like(effect)

    def _gauge(self, shares):
        return shares.max(axis=-1)


BOX = Box([1.0, 1.0])
EYE = np.eye(2)


def build(**changes):
    given = {"sets": BOX, "coefficients": EYE, "constants": [0.0, 0.0]} | changes
    return counterpart(**given)


def placed(part=None, left=(1.0, 1.0), right=1.0, columns=None):
    return add_rows(LinearProgram([1.0] * 3, [0.0] * 3, [1.0] * 3), part or build(), np.array(left), right, columns)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: build(sets=[]), "number of sets = 0; allowed: at least 1"),
        (lambda: build(sets=Foreign([1.0, 1.0])), "set = 'Foreign'; allowed: Box, Budget, Ellipsoid, BoxEllipsoid"),
        (lambda: build(sets=[None]), "set = 'NoneType'; allowed: Box, Budget, Ellipsoid, BoxEllipsoid"),
        (lambda: build(sets=[BOX, BOX]), "rows of coefficients = 2; allowed: 4, entries of the sets together"),
        (lambda: build(coefficients=[1.0, 1.0]), "shape of coefficients = (2,); allowed: (any, any)"),
        (lambda: build(coefficients=EYE * np.nan), "coefficients[0, 0] = nan; allowed: finite numbers"),
        (
            lambda: build(coefficients=csr_matrix([[np.inf, 0.0], [0.0, 1.0]])),
            "coefficients[0] = inf; allowed: finite numbers",
        ),
        (lambda: build(constants=[0.0]), "shape of constants = (1,); allowed: (2)"),
        (lambda: build(lower=[0.0, 0.0]), "lower, upper = ([0.0, 0.0], None); allowed: both or none"),
        (lambda: build(lower=[0.0, 2.0], upper=[1.0, 1.0]), "lower = [0.0, 2.0]; allowed: at most upper"),
        (lambda: build(lower=[0.0], upper=[1.0]), "shape of lower = (1,); allowed: (2)"),
        (lambda: build(lower=[0.0, 0.0], upper=[1.0, np.inf]), "upper[1] = inf; allowed: finite numbers"),
        (lambda: protection(BOX, EYE, [0.0, 0.0], [1.0]), "shape of x = (1,); allowed: (2)"),
        (
            lambda: placed(build(sets=Ellipsoid([1.0, 1.0], 1.0))),
            "cones of the counterpart = 1; allowed: 0: a linear program has none",
        ),
        (lambda: placed(left=(1.0, 1.0, 1.0)), "shape of left = (1, 3); allowed: (1, 2)"),
        (lambda: placed(right=[1.0, 2.0]), "shape of right = (2,); allowed: (1)"),
        (lambda: placed(right=np.nan), "right[0] = nan; allowed: finite numbers"),
        (lambda: placed(columns=[1, 1]), "columns = [1, 1]; allowed: different, below 3"),
        (lambda: placed(columns=[1, 3]), "columns = [1, 3]; allowed: different, below 3"),
        (lambda: placed(columns=[0.5, 1]), "columns = [0.5, 1]; allowed: different, below 3"),
        (lambda: placed(columns=[-1, 1]), "columns[0] = -1.0; allowed: [0, inf]"),
    ],
)
def test_bad_input_gets_one_clear_error(call, text):
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert str(caught.value) == text


def test_a_refused_counterpart_leaves_the_program_as_it_was():
    program = LinearProgram([1.0, 1.0], [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(InvalidInputError):
        add_rows(program, build(), [1.0, 1.0], 1.0, columns=[0, 5])
    assert (program.columns, program.rows) == (2, 0)
    assert program.solve().objective == pytest.approx(2.0)
