from __future__ import annotations

import itertools
import math
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.uncertainty import Box, BoxEllipsoid, Budget, Ellipsoid, budget_bound
from v2g_env.core.validate import InvalidInputError

ENTRIES = 6
EXACT = settings(max_examples=60, deadline=None, derandomize=True)


def make(kind, halfwidth, size):
    """Set of any kind; size is alpha or omega."""
    return Box(halfwidth) if kind is Box else kind(halfwidth, size)


KINDS = (Box, Ellipsoid, Budget, BoxEllipsoid)
SIZES = (0.0, 0.4, 1.0, math.sqrt(2.0), 2.0, 2.7, 6.0)


def halfwidths(rng):
    return rng.choice([0.0, 0.5, 1.0, 3.0], ENTRIES) * rng.choice([1.0, rng.uniform(0.5, 2.0)])


def coefficients(rng):
    """Ties, zeros and both signs are common."""
    return rng.choice([0.0, 1.0, -1.0, 2.0, *rng.normal(size=3)], ENTRIES)


def by_cvxpy(kind, halfwidth, size, y):
    """Max y'u from the definitions of the sets."""
    u, z = cp.Variable(ENTRIES), cp.Variable(ENTRIES)
    rows = [cp.abs(u) <= cp.multiply(halfwidth, z), z >= 0]
    if kind in (Box, Budget, BoxEllipsoid):
        rows.append(z <= 1)
    if kind is Budget:
        rows.append(cp.sum(z) <= size)
    if kind in (Ellipsoid, BoxEllipsoid):
        rows.append(cp.norm(z) <= size)
    return cp.Problem(cp.Maximize(y @ u), rows).solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_worst_case_is_the_optimum_over_the_set_and_is_attained_in_it(kind, size):
    rng = np.random.default_rng(int(100 * size))
    for _ in range(4):
        halfwidth, y = halfwidths(rng), coefficients(rng)
        uncertain = make(kind, halfwidth, size)
        value, u = uncertain.worst(y)
        assert value == pytest.approx(by_cvxpy(kind, halfwidth, size, y), abs=2e-6)
        assert y @ u == pytest.approx(value, abs=1e-12)
        assert uncertain.contains(u, 1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.5, 5.0, 6.0])
def test_budget_protection_is_the_floor_alpha_largest_effects_and_a_share_of_the_next(alpha):
    y, halfwidth = np.array([3.0, -1.0, 2.0, 2.0, 0.0, 5.0]), np.array([1.0, 7.0, 1.0, 2.0, 9.0, 1.0])
    effects = [7.0, 5.0, 4.0, 3.0, 2.0, 0.0]
    whole = int(alpha)
    expected = sum(effects[:whole]) + (alpha - whole) * (effects + [0.0])[whole]
    assert Budget(halfwidth, alpha).worst(y).value == pytest.approx(expected, rel=1e-15)


def test_box_ellipsoid_worst_case_in_closed_form():
    # shares (1, t, t): 3 t^2 ball of radius^2 2, so t^2 = 1/2, as 10 / sqrt(102) > 1 would leave the box
    value, u = BoxEllipsoid([2.0, 1.0, 1.0], math.sqrt(2.0)).worst([5.0, -1.0, 1.0])
    assert value == pytest.approx(10.0 + math.sqrt(2.0), rel=1e-14)
    np.testing.assert_allclose(u, [2.0, -math.sqrt(0.5), math.sqrt(0.5)], rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_its_items_give(kind):
    rng = np.random.default_rng(3)
    uncertain = make(kind, halfwidths(rng), 1.7)
    y = np.stack([coefficients(rng) for _ in range(12)]).reshape(3, 4, ENTRIES)
    value, u = uncertain.worst(y)
    inside = uncertain.contains(0.7 * u + 0.1)
    assert value.shape == (3, 4)
    for at in np.ndindex(3, 4):
        one = uncertain.worst(y[at])
        assert value[at] == one.value
        np.testing.assert_array_equal(u[at], one.deviation)
        assert inside[at] == uncertain.contains(0.7 * u[at] + 0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_worst_case_keeps_its_precision_at_any_scale(kind, scale):
    rng = np.random.default_rng(4)
    y = rng.normal(size=ENTRIES)
    one, scaled = make(kind, np.ones(ENTRIES), 1.7).worst(y), make(kind, np.full(ENTRIES, scale), 1.7).worst(y * scale)
    assert scaled.value == pytest.approx(one.value * scale**2, rel=1e-13)
    np.testing.assert_allclose(scaled.deviation, one.deviation * scale, rtol=1e-13)


# ---- membership and samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extreme", [False, True])
def test_samples_lie_in_the_set_and_extreme_ones_on_its_boundary(kind, size, extreme):
    rng = np.random.default_rng(5)
    halfwidth = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])
    uncertain = make(kind, halfwidth, size)
    u = uncertain.sample(rng, 500, extreme=extreme)
    assert u.shape == (500, ENTRIES)
    assert uncertain.contains(u).all()
    assert (u[:, 1] == 0.0).all()
    if extreme and (size > 0.0 or kind is Box):
        assert not uncertain.contains(1.001 * u).any()


@pytest.mark.parametrize("kind", KINDS)
def test_samples_fill_the_set(kind):
    d = 4
    uncertain = make(kind, [2.0, 0.0, 2.0, 2.0, 0.0, 0.0, 2.0], 1.5)  # certain coordinates are no dimensions
    u = uncertain.sample(np.random.default_rng(6), 20_000)
    share = uncertain.contains(u / 0.8).mean()
    assert share == pytest.approx(0.8**d, abs=0.015)  # scaled copies have the d-th power of the mass
    assert len(np.unique(u > 0.0, axis=0)) == 2**d
    assert np.abs(u.mean(axis=0)).max() < 0.03


def test_samples_of_box_and_ellipsoid_are_uniform():
    rng, halfwidth = np.random.default_rng(7), np.array([1.0, 2.0, 5.0])
    box = Box(halfwidth).sample(rng, 40_000) / halfwidth
    np.testing.assert_allclose((box**2).mean(axis=0), 1.0 / 3.0, atol=0.01)
    np.testing.assert_allclose((box**4).mean(axis=0), 1.0 / 5.0, atol=0.01)
    ball = Ellipsoid(halfwidth, 2.0).sample(rng, 40_000) / halfwidth
    np.testing.assert_allclose((ball**2).mean(axis=0), 4.0 / 5.0, atol=0.02)  # omega^2 / (d + 2)
    cap = (ball[:, 0] > 1.0).mean()  # volume of a cap of height 1 on a ball of radius 2, over the ball's
    assert cap == pytest.approx((math.pi * 1.0 * (3.0 * 2.0 - 1.0) / 3.0) / (4.0 / 3.0 * math.pi * 8.0), abs=0.01)


def test_corners_of_the_budget_are_equally_likely():
    u = Budget([1.0, 2.0, 4.0], 2.0).sample(np.random.default_rng(8), 24_000, extreme=True)
    corners, count = np.unique(u, axis=0, return_counts=True)
    assert len(corners) == 12  # choose 2 of 3, two signs each
    assert np.abs(count - 2000).max() < 5 * math.sqrt(2000)


def test_membership_follows_the_definition():
    halfwidth = np.array([1.0, 2.0, 0.0])
    assert Box(halfwidth).contains([[1.0, -2.0, 0.0], [1.01, 0.0, 0.0], [0.0, 0.0, 1e-12]]).tolist() == [1, 0, 0]
    assert Budget(halfwidth, 1.5).contains([[1.0, 1.0, 0.0], [1.0, 1.1, 0.0], [1.1, 0.0, 0.0]]).tolist() == [1, 0, 0]
    inside = [[0.0, 3.0, 0.0], [1.2, 2.0, 0.0], [0.9, 2.0, 0.0]]
    assert Ellipsoid(halfwidth, 1.5).contains(inside).tolist() == [1, 0, 1]
    assert BoxEllipsoid(halfwidth, 1.5).contains(inside).tolist() == [0, 0, 1]
    assert Budget(halfwidth, 0.0).contains(np.zeros(3))
    assert not Budget(halfwidth, 0.0).contains([1e-6, 0.0, 0.0])
    assert Box(halfwidth).contains([1.01, 0.0, 0.0], tolerance=0.02)


# ---- invariants

vectors = st.lists(st.floats(-10.0, 10.0).map(lambda v: round(v, 6)), min_size=ENTRIES, max_size=ENTRIES).map(np.array)
positive = vectors.map(np.abs)
sizes = st.floats(0.0, float(ENTRIES))


@EXACT
@given(st.sampled_from(KINDS), positive, sizes, vectors, vectors, st.floats(0.0, 1.0), st.floats(0.0, 50.0))
def test_worst_case_is_convex_even_and_positively_homogeneous(kind, halfwidth, size, y, other, share, factor):
    worst = make(kind, halfwidth, size).worst
    here, there = worst(y).value, worst(other).value
    tolerance = 1e-9 * (1.0 + here + there)
    assert worst(share * y + (1.0 - share) * other).value <= share * here + (1.0 - share) * there + tolerance
    assert worst(-y).value == pytest.approx(here, rel=1e-12)
    assert worst(factor * y).value == pytest.approx(factor * here, rel=1e-12, abs=1e-12)
    assert here >= 0.0


@EXACT
@given(st.sampled_from(KINDS[1:]), positive, sizes, sizes, vectors)
def test_worst_case_grows_with_the_set(kind, halfwidth, one, two, y):
    small, large = make(kind, halfwidth, min(one, two)), make(kind, halfwidth, max(one, two))
    assert small.worst(y).value <= large.worst(y).value * (1.0 + 1e-12)
    assert large.contains(small.worst(y).deviation)
    assert large.contains(small.sample(np.random.default_rng(1), 5)).all()


@EXACT
@given(positive, sizes, vectors)
def test_sets_include_each_other_as_they_should(halfwidth, size, y):
    box, ball = Box(halfwidth), Ellipsoid(halfwidth, size)
    both, budget = BoxEllipsoid(halfwidth, size), Budget(halfwidth, size)
    value = {one: one.worst(y).value for one in (box, ball, both, budget)}
    slack = 1.0 + 1e-12
    assert value[both] <= min(value[box], value[ball]) * slack
    assert value[budget] <= value[box] * slack
    assert Budget(halfwidth, ENTRIES).worst(y).value == pytest.approx(value[box], rel=1e-12)
    assert Ellipsoid(halfwidth, math.sqrt(ENTRIES)).worst(y).value >= value[box] / slack
    assert BoxEllipsoid(halfwidth, math.sqrt(ENTRIES)).worst(y).value == pytest.approx(value[box], rel=1e-12)
    # sum s <= alpha and s <= 1 give sum s^2 <= alpha
    assert value[budget] <= BoxEllipsoid(halfwidth, math.sqrt(size)).worst(y).value * (1.0 + 1e-9)


# ---- probability of violations


def exact_bound(n, alpha):
    v = (Fraction(alpha) + n) / 2
    whole = math.floor(v)
    tail = sum(math.comb(n, i) for i in range(whole + 1, n + 1))
    return float(((1 - (v - whole)) * math.comb(n, whole) + tail) / 2**n)


def test_budget_bound_has_the_published_values():
    published = [0.6562, 0.5000, 0.3438, 0.2266, 0.1094, 0.0625, 0.0156]
    np.testing.assert_allclose(budget_bound(6, np.arange(7.0)), published, atol=5.1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 50, 2001])
def test_budget_bound_equals_exact_fractions(n):
    alpha = np.linspace(0.0, 1.0, 23) * min(n, 40.0 * math.sqrt(n))
    exact = [exact_bound(n, value) for value in alpha]
    np.testing.assert_allclose(budget_bound(n, alpha), np.maximum(exact, np.finfo(float).tiny), rtol=1e-9)


def test_bound_never_vanishes_before_the_budget_is_full():
    assert 0.0 < Budget(np.ones(5000), 4999.9).violation_bound() < 1e-300
    assert Budget(np.ones(5000), 5000.0).violation_bound() == 0.0


def test_budget_bound_is_below_the_weak_one_and_falls_with_alpha():
    for n in (1, 2, 9, 64, 1000):
        alpha = np.linspace(0.0, n, 400)
        bound = budget_bound(n, alpha)
        weak = [Budget(np.ones(n), value).weak_bound() for value in alpha]
        assert (bound <= np.array(weak) * (1.0 + 1e-9) + np.finfo(float).tiny).all()
        assert (np.diff(bound) <= 0.0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bound_of_a_row_grows_with_its_uncertain_entries(kind):
    for size in np.linspace(0.0, 60.0, 121):
        bounds = [make(kind, np.ones(60), size).violation_bound(n) for n in range(61)]
        assert (np.diff(bounds) >= -1e-12).all()


def test_certain_coordinates_do_not_count_as_entries():
    for kind in KINDS:
        full, padded = make(kind, np.ones(5), 1.3), make(kind, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], 1.3)
        assert padded.violation_bound() == full.violation_bound()
    assert Budget(np.ones(9), 3.0).violation_bound(3) == 0.0
    assert Ellipsoid(np.ones(9), 2.0).violation_bound(4) == 0.0
    assert Budget(np.zeros(3), 0.0).violation_bound() == 0.0
    assert Budget(np.zeros(3), 0.0).weak_bound() == 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 8, 11])
def test_probability_under_two_point_laws_never_exceeds_the_bound(n):
    rng = np.random.default_rng(n)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    rows = [np.ones(n), rng.random(n), rng.normal(size=n), rng.random(n) ** 5, np.arange(n) + 0.0]
    for y, size in itertools.product(rows, np.linspace(0.0, n, 41)):
        entries = np.count_nonzero(y)
        for kind in KINDS:
            uncertain = make(kind, np.full(n, 2.0), size)
            violated = (2.0 * signs @ y > uncertain.worst(y).value * (1.0 + 1e-9) + 1e-9).mean()
            assert violated <= uncertain.violation_bound(entries) + 1e-12


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_budget_bound_holds_for_every_sum_of_two_point_laws(n):
    rng = np.random.default_rng(n)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    weights = [rng.random(n), rng.choice([0.0, 0.5, 1.0], n), np.ones(n), np.where(rng.random(n) < 0.5, 1.0, 0.3)]
    gaps = []
    for g in weights:
        total = np.sort(signs @ g)
        alpha = np.unique(total[total > 1e-9])  # the points where the probability jumps
        if len(alpha):
            reached = 1.0 - np.searchsorted(total, alpha - 1e-9) / len(total)
            gaps.append(budget_bound(n, np.minimum(alpha, n)) - reached)
    assert min(gap.min() for gap in gaps) == pytest.approx(0.0, abs=1e-12)  # held, and attained by g = 1


LAWS = {
    "uniform": lambda rng, shape: rng.uniform(-1.0, 1.0, shape),
    "two-point": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "triangular": lambda rng, shape: rng.triangular(-1.0, 0.0, 1.0, shape),
}


@pytest.mark.parametrize("law", LAWS)
def test_simulated_frequency_never_exceeds_the_bound(law):
    n, count = 10, 200_000
    rng = np.random.default_rng(11)
    halfwidth = rng.uniform(0.5, 2.0, n)
    u = halfwidth * LAWS[law](rng, (count, n))
    rows = np.stack([1.0 / halfwidth, rng.normal(size=n), np.where(np.arange(n) < 4, 1.0, 0.0)])
    effect = u @ rows.T
    for kind, size in itertools.product(KINDS, np.linspace(0.0, 10.0, 31)):
        uncertain = make(kind, halfwidth, size)
        frequency = (effect > uncertain.worst(rows).value + 1e-9).mean(axis=0)
        for row, seen in zip(rows, frequency, strict=True):
            bound = uncertain.violation_bound(np.count_nonzero(row))
            assert seen <= bound + 4.0 * math.sqrt(bound * (1.0 - bound) / count)


@pytest.mark.parametrize("n", [400, 2500])
def test_two_point_laws_attain_the_budget_bound(n):
    count = 200_000
    total = 2.0 * np.random.default_rng(12).binomial(n, 0.5, count) - n
    for alpha in (np.array([0.5, 1.0, 1.5, 2.0]) * math.sqrt(n)).round() // 2 * 2 - 1e-6:  # same parity as n
        uncertain = Budget(np.ones(n), float(alpha))
        seen = (total > uncertain.worst(np.ones(n)).value).mean()
        bound = uncertain.violation_bound()
        assert seen == pytest.approx(bound, abs=4.0 * math.sqrt(bound / count))
        assert bound < 0.8 * uncertain.weak_bound()


# ---- bad input


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Box([1.0, -0.5]), "halfwidth[1] = -0.5; allowed: [0, 1e+100]"),
        (lambda: Box([np.nan]), "halfwidth[0] = nan; allowed: finite numbers"),
        (lambda: Box([]), "length of halfwidth = 0; allowed: at least 1"),
        (lambda: Box([[1.0]]), "shape of halfwidth = (1, 1); allowed: (any)"),
        (lambda: Budget([1.0, 1.0], 2.01), "alpha = 2.01; allowed: a finite number in [0, 2]"),
        (lambda: Budget([1.0, 1.0], -0.1), "alpha = -0.1; allowed: a finite number in [0, 2]"),
        (lambda: Budget([1.0], np.nan), "alpha = nan; allowed: a finite number in [0, 1]"),
        (lambda: Ellipsoid([1.0], -1.0), "omega = -1.0; allowed: a finite number in [0, 1e+100]"),
        (lambda: Ellipsoid([1.0], np.inf), "omega = inf; allowed: a finite number in [0, 1e+100]"),
        (lambda: BoxEllipsoid([1.0], np.nan), "omega = nan; allowed: a finite number in [0, 1e+100]"),
        (lambda: BoxEllipsoid([-1.0], 1.0), "halfwidth[0] = -1.0; allowed: [0, 1e+100]"),
        (lambda: Box([1.0, 2.0]).worst([1.0]), "shape of y = (1,); allowed: (2)"),
        (lambda: Box([1.0, 2.0]).worst(1.0), "shape of y = (); allowed: (2)"),
        (lambda: Box([1.0, 2.0]).worst([[1.0, np.nan]]), "y[0, 1] = nan; allowed: finite numbers"),
        (lambda: Box([1.0, 2.0]).worst([[1.0], [1.0, 2.0]]), "y = [[1.0], [1.0, 2.0]]; allowed: an array of numbers"),
        (lambda: Box([1.0]).contains([1.0], -1e-9), "tolerance = -1e-09; allowed: a finite number in [0, inf]"),
        (lambda: Box([1.0]).contains([np.inf]), "u[0] = inf; allowed: finite numbers"),
        (lambda: Box([1.0]).sample(np.random.default_rng(1), -1), "n = -1; allowed: an integer in [0, 1e+09]"),
        (lambda: Box([1.0, 0.0]).violation_bound(2), "entries = 2; allowed: an integer in [0, 1]"),
        (lambda: Budget([1.0], 0.5).weak_bound(-1), "entries = -1; allowed: an integer in [0, 1]"),
        (lambda: budget_bound(0, 0.0), "entries = 0; allowed: an integer in [1, 1e+07]"),
        (lambda: budget_bound(3, [1.0, 3.1]), "alpha[1] = 3.1; allowed: [0, 3]"),
    ],
)
def test_bad_input_gets_one_clear_error(build, text):
    with pytest.raises(InvalidInputError) as caught:
        build()
    assert str(caught.value) == text


def test_a_set_keeps_its_own_copy_of_the_halfwidths():
    given_array = np.ones(3)
    box = Box(given_array)
    given_array[0] = 5.0
    assert box.halfwidth[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        box.halfwidth[0] = 2.0
