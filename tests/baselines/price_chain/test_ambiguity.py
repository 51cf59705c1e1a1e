"""Worst rows of the five sets: against general solvers, closed forms, their own duals and each other."""

import json

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from baselines.certificate import CertificateError
from baselines.price_chain.ambiguity import (
    SETS,
    Ellipsoid,
    Entropy,
    Interval,
    Likelihood,
    Scenarios,
    chi_square_size,
    from_data,
)
from v2g_env.core.validate import InvalidInputError

BALLS = (Entropy, Likelihood, Ellipsoid)
COUNTS = np.array([[10.0, 5.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0], [4.0, 4.0, 4.0, 4.0], [0.0, 100.0, 1.0, 2.0]])


def cases():
    """Estimates, values: random ones, ties, zeros, one-point supports, equal values, unseen cheapest."""
    rng = np.random.default_rng(7)
    f = rng.dirichlet(np.ones(5), 8)
    v = rng.normal(size=(8, 5)) * 10.0
    extra = [
        ([0.2, 0.3, 0.5, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0]),
        ([0.2, 0.3, 0.5, 0.0, 0.0], [3.0, 2.0, 4.0, -1.0, 1.0]),
        ([0.0, 0.3, 0.7, 0.0, 0.0], [-1.0, 2.0, 2.0, -1.0, 0.0]),
        ([0.0, 0.0, 1.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0]),
        ([0.25, 0.25, 0.25, 0.25, 0.0], [1.0, 1.0, 2.0, 2.0, 2.0]),
        ([0.25, 0.25, 0.25, 0.25, 0.0], [7.0, 7.0, 7.0, 7.0, 7.0]),
        ([1e-6, 0.4, 0.6 - 1e-6, 0.0, 0.0], [0.0, 100.0, 101.0, 50.0, -5.0]),
    ]
    return np.vstack([f, [row for row, _ in extra]]), np.vstack([v, [value for _, value in extra]])


def by_cvxpy(kind, f, v, size):
    """All inner problems as they are written, in one call of a conic solver; their values."""
    p = cp.Variable(f.shape, nonneg=True)
    constraints = [cp.sum(p, axis=1) == 1]
    for k, row in enumerate(f):
        seen = row > 0
        if kind is not Likelihood and not seen.all():
            constraints.append(p[k, ~seen] == 0)
        if kind is Entropy:
            constraints.append(cp.sum(cp.rel_entr(p[k, seen], row[seen])) <= size)
        elif kind is Likelihood:
            constraints.append(cp.sum(cp.rel_entr(row[seen], p[k, seen])) <= size)
        else:
            constraints.append(cp.sum_squares((p[k, seen] - row[seen]) / np.sqrt(row[seen])) <= size)
    cp.Problem(cp.Minimize(cp.sum(cp.multiply(p, v))), constraints).solve(solver=cp.CLARABEL)
    return (p.value * v).sum(axis=1)


@pytest.mark.parametrize("kind", BALLS)
@pytest.mark.parametrize("size", [0.01, 0.5])
def test_balls_agree_with_a_general_solver(kind, size):
    f, v = cases()
    got = kind(f, size).worst(v, np.arange(len(f)))
    np.testing.assert_allclose(got.value, by_cvxpy(kind, f, v, size), atol=1e-4, rtol=1e-5)


def test_intervals_agree_with_a_linear_program():
    rng = np.random.default_rng(3)
    f, v = cases()
    lower, upper = np.maximum(f - rng.random(f.shape) * 0.3, 0.0), np.minimum(f + rng.random(f.shape) * 0.3, 1.0)
    got = Interval(lower, upper).worst(v, np.arange(len(f)))
    for k in range(len(f)):
        bounds = list(zip(lower[k], upper[k], strict=True))
        want = linprog(v[k], A_eq=np.ones((1, 5)), b_eq=[1.0], bounds=bounds).fun
        assert got.value[k] == pytest.approx(want, abs=1e-9)


def test_scenarios_are_the_least_of_their_list():
    rng = np.random.default_rng(4)
    members, v = rng.dirichlet(np.ones(3), (6, 4)), rng.normal(size=(6, 3))
    got = Scenarios(members).worst(v, np.arange(6))
    want = [min(float(p @ v[k]) for p in members[k]) for k in range(6)]
    np.testing.assert_allclose(got.value, want)
    np.testing.assert_allclose(got.low, want)


def example(kind, f, size):
    if kind is Scenarios:
        other = np.random.default_rng(1).dirichlet(np.ones(f.shape[1]), (len(f), 3))
        return Scenarios(np.concatenate([f[:, None], other], axis=1))
    if kind is Interval:
        return Interval(np.maximum(f - 0.3 * size, 0.0), np.minimum(f + 0.3 * size, 1.0))
    return kind(f, size)


@pytest.mark.parametrize("kind", SETS.values())
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 0.03, 0.7, 3.0, 50.0])
def test_the_worst_row_is_a_member_and_its_dual_proves_it(kind, size):
    f, v = cases()
    at = np.arange(len(f))
    known = example(kind, f, size)
    for values in (v, 1e-6 * v, 1e6 * v, v + 1e4, np.round(v, 0)):
        got = known.worst(values, at)
        scale = np.abs(values).max()
        assert (got.row >= 0.0).all()
        np.testing.assert_allclose(got.row.sum(axis=1), 1.0, atol=1e-12)
        assert (known.excess(at, got.row) <= 1e-12 + 1e-9 * size).all()
        np.testing.assert_allclose(got.value, (got.row * values).sum(axis=1), atol=1e-12 * scale)
        np.testing.assert_allclose(got.low, got.value, atol=1e-11 * scale)
        assert (got.value <= (f * values).sum(axis=1) + 1e-12 * scale).all()  # the estimate is a member


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(SETS)),
    st.lists(st.just(0.0) | st.floats(1e-6, 1.0), min_size=4, max_size=4).filter(lambda row: sum(row) > 0.1),
    st.lists(st.floats(-100.0, 100.0), min_size=4, max_size=4),
    st.floats(0.0, 20.0),
    st.floats(-1.0, 1e3),
)
def test_any_number_gives_bounds_on_both_sides(name, row, values, size, dual):
    f = np.array([row]) / sum(row)
    known = example(SETS[name], f, size)
    at, v = np.zeros(1, int), np.array([values])
    exact = known.worst(v, at)
    other = known.bracket(v, at, [dual])
    assert other.low[0] <= exact.value[0] + 1e-9
    assert other.value[0] >= exact.low[0] - 1e-9
    assert known.excess(at, other.row)[0] <= 1e-9
    again = known.bracket(v, at, exact.dual)
    assert again.value[0] - again.low[0] <= 1e-9


@pytest.mark.parametrize("name", list(SETS))
def test_values_that_hardly_differ_are_the_same(name):
    known = example(SETS[name], np.array([[0.0, 0.0, 0.5, 0.5]]), 0.5)
    found = known.worst(np.array([[0.0, 0.0, 0.0, 5e-185]]), np.zeros(1, int))
    assert abs(found.value[0]) < 1e-12


@pytest.mark.parametrize("kind", BALLS)
def test_size_zero_leaves_the_estimate_alone_and_larger_sets_are_worse(kind):
    f, v = cases()
    at = np.arange(len(f))
    np.testing.assert_array_equal(kind(f, 0.0).worst(v, at).row, kind(f, 0.0).estimate)
    values = [kind(f, size).worst(v, at).value for size in (0.0, 1e-9, 1e-4, 0.01, 0.3, 2.0, 30.0, 1e6)]
    assert (np.diff(values, axis=0) <= 1e-9).all()
    for small, large in zip(values[:-1], values[1:], strict=True):
        assert (large <= small + 1e-9).all()


def test_closed_forms():
    f, v = np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]])
    # Ellipsoid: mean - k sd inside the simplex
    assert Ellipsoid(f, 0.04).worst(v, [0]).value[0] == pytest.approx(0.5 - 0.2 * 0.5)
    # two points: KL(p||f) = ln 2 - H(p)
    p = 0.2
    size = np.log(2) + p * np.log(p) + (1 - p) * np.log(1 - p)
    assert Entropy(f, size).worst(v, [0]).value[0] == pytest.approx(p)
    size = -np.log(2) - 0.5 * np.log(p * (1 - p))
    assert Likelihood(f, size).worst(v, [0]).value[0] == pytest.approx(p)


def test_large_entropy_sets_reach_the_least_value_of_the_support_only():
    f, v = np.array([[0.1, 0.6, 0.3, 0.0]]), np.array([[3.0, 1.0, 1.0, -9.0]])
    edge = -np.log(0.9)
    for size in (edge, 2.0, 1e3):
        assert Entropy(f, size).worst(v, [0]).value[0] == pytest.approx(1.0, abs=1e-9)
    assert Entropy(f, edge - 1e-3).worst(v, [0]).value[0] > 1.0 + 1e-7
    assert Ellipsoid(f, 1.0 / 0.9 - 1.0 + 1e-9).worst(v, [0]).value[0] == pytest.approx(1.0, abs=1e-8)
    assert Ellipsoid(f, 1e9).worst(v, [0]).value[0] == pytest.approx(1.0)


def test_unseen_successors_take_mass_under_likelihood_and_only_there():
    f, v, size = np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, 1.0, 0.0]]), 0.3
    got = Likelihood(f, size).worst(v, [0])
    # all that the likelihood loses is given to the unseen successor: ln(1 - x) = -B
    assert got.row[0, 2] == pytest.approx(1.0 - np.exp(-size))
    assert got.value[0] == pytest.approx(np.exp(-size))
    one = Likelihood([[1.0, 0.0]], size).worst([[5.0, 2.0]], [0])
    assert one.value[0] == pytest.approx(2.0 + 3.0 * np.exp(-size))
    for kind in (Entropy, Ellipsoid):
        assert kind(f, size).worst(v, [0]).value[0] == 1.0


def test_a_tie_that_rounding_breaks_changes_nothing():
    f = np.array([[0.3, 0.3, 0.4, 0.0]])
    for kind in BALLS:
        known = kind(f, 0.6)
        for values in ([[1.0, 1.0, 50.0, 1.0]], [[1.0, 2.0, 50.0, 1.0]]):
            v = np.array(values)
            for noise in (1e-16, 1e-14, 1e-13):
                other = v + noise * np.array([[0.0, 1.0, -1.0, 2.0]])
                dual = known.worst(v, [0]).dual
                there = known.bracket(other, [0], dual)
                assert there.value[0] - there.low[0] <= 1e-11


def test_sizes_from_counts_are_the_chi_square_ones_and_cover_the_truth():
    from scipy.stats import chi2

    totals = COUNTS.sum(axis=1)
    want = chi2.ppf(0.9, 3) / totals
    np.testing.assert_allclose(chi_square_size(totals, 4, 0.9), want)
    np.testing.assert_allclose(Entropy.from_counts(COUNTS, 0.9).size, want / 2)
    np.testing.assert_allclose(Likelihood.from_counts(COUNTS, 0.9).size, want / 2)
    np.testing.assert_allclose(Ellipsoid.from_counts(COUNTS, 0.9).size, want)
    assert (Entropy.from_counts(COUNTS, 0.0).size == 0.0).all()
    truth = np.array([[0.4, 0.3, 0.2, 0.1]])
    drawn = np.random.default_rng(0).multinomial(400, truth[0], 2000).astype(float)
    for kind, least in ((Entropy, 0.87), (Likelihood, 0.87), (Ellipsoid, 0.87), (Interval, 0.9)):
        inside = kind.from_counts(drawn, 0.9).excess(np.arange(2000), np.repeat(truth, 2000, axis=0)) <= 1e-12
        assert inside.mean() >= least
        if kind is not Interval:
            assert inside.mean() <= 0.93  # not wider than it says


def test_scenarios_from_counts_start_with_the_estimate_and_repeat():
    known = Scenarios.from_counts(COUNTS, 5, seed=2)
    np.testing.assert_allclose(known.members[:, 0], COUNTS / COUNTS.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(known.members, Scenarios.from_counts(COUNTS, 5, seed=2).members)
    assert known.members.shape == (4, 5, 4)
    assert (known.members[COUNTS[:, None].repeat(5, axis=1) == 0.0] == 0.0).all()


@pytest.mark.parametrize("name", SETS)
def test_sets_go_through_json_and_back(name):
    known = SETS[name].from_counts(COUNTS)
    back = from_data(json.loads(json.dumps(known.data())))
    v = np.random.default_rng(0).normal(size=(4, 4))
    for a, b in zip(known.worst(v, np.arange(4)), back.worst(v, np.arange(4)), strict=True):
        np.testing.assert_array_equal(a, b)
    data = known.data()
    for wrong in ({}, data | {"more": 1}, data | {"set": "cloud"}, None, {"set": name}, data | {kind_part(data): 3}):
        with pytest.raises(CertificateError):
            from_data(wrong)


def kind_part(data):
    return next(key for key in data if key != "set")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Entropy([[0.5, 0.6]], 1.0), r"estimate\[row 0\]"),
        (lambda: Entropy([[0.5, 0.5], [1.5, -0.5]], 1.0), r"estimate\[row 1\]"),
        (lambda: Entropy([[1e-12, 1.0 - 1e-12]], 1.0), r"estimate\[row 0\]"),
        (lambda: Entropy([[0.5, 0.5]], -1.0), "size"),
        (lambda: Ellipsoid([[0.5, 0.5]], [1.0, 1.0]), "length of size"),
        (lambda: Likelihood([[0.5, float("nan")]], 1.0), "estimate"),
        (lambda: Interval([[0.6, 0.6]], [[0.7, 0.7]]), r"bounds\[row 0\]"),
        (lambda: Interval([[0.1, 0.1]], [[0.2, 0.3]]), r"bounds\[row 0\]"),
        (lambda: Interval([[0.5, 0.1]], [[0.2, 1.0]]), r"bounds\[row 0\]"),
        (lambda: Scenarios([[[0.5, 0.4]]]), r"members\[row 0\]"),
        (lambda: Scenarios(np.zeros((0, 1, 2))), "members"),
        (lambda: Entropy.from_counts([[0.0, 0.0]]), r"counts\[row 0\]"),
        (lambda: Entropy.from_counts([[1.0, 0.0], [2.0, -1.0]]), r"counts\[row 1\]"),
        (lambda: Entropy.from_counts(COUNTS, 1.0), "confidence"),
        (lambda: Interval.from_counts(COUNTS, -0.1), "confidence"),
        (lambda: Scenarios.from_counts(COUNTS, 0), "n_scenarios"),
        (lambda: Entropy([[0.5, 0.5]], 1.0).worst([[1.0]], [0]), "shape of values"),
        (lambda: Entropy([[0.5, 0.5]], 1.0).worst([[1.0, np.nan]], [0]), "values"),
        (lambda: Entropy([[0.5, 0.5]], 1.0).worst([[1.0, 2.0]], [1]), "at"),
        (lambda: Entropy([[0.5, 0.5]], 1.0).worst([[1.0, 2.0]], [0.5]), "at"),
        (lambda: Entropy([[0.5, 0.5]], 1.0).bracket([[1.0, 2.0]], [0], [np.inf]), "dual"),
    ],
)
def test_bad_input_is_one_clear_error(make, text):
    with pytest.raises(InvalidInputError, match=text):
        make()
