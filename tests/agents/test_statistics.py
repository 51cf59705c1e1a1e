"""Statistics of training runs: closed forms, SciPy's word for the same, and coverage that is counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from agents.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    variance_split,
)
from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import mean_interval


def mean(values):
    return values.mean(axis=-1)


def scores(tasks, seeds, rng):
    """Normal scores whose pooled mean is (tasks - 1) / 2."""
    return {str(task): rng.normal(task, 1.0, seeds) for task in range(tasks)}


def tables(low=2):
    return arrays(
        float,
        st.tuples(st.integers(low, 5), st.integers(low, 7)),
        elements=st.floats(-100.0, 100.0, allow_nan=False).map(lambda x: round(x, 3)),
    )


@pytest.mark.parametrize("size", [1, 3, 4, 7, 8, 101])
def test_the_interquartile_mean_is_scipys_trimmed_mean(size):
    values = np.random.default_rng(size).normal(size=(5, size))
    np.testing.assert_allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=1), rtol=1e-13)


def test_the_interquartile_mean_of_eight_numbers_by_hand_ignores_outliers():
    assert interquartile_mean([1e9, 1.0, 2.0, 3.0, 4.0, 5.0, -1e9, 0.0]) == pytest.approx((1 + 2 + 3 + 4) / 4)


@settings(max_examples=30, deadline=None)
@given(tables(), st.floats(-50.0, 50.0), st.integers(0, 5))
def test_bootstrap_limits_move_with_a_common_shift_and_enclose_nothing_beyond_the_runs(table, shift, seed):
    given_scores = {str(k): row for k, row in enumerate(table)}
    moved = {task: row + shift for task, row in given_scores.items()}
    first, second = (stratified_bootstrap(each, mean, 50, seed=seed) for each in (given_scores, moved))
    np.testing.assert_allclose(np.array(second), np.array(first) + shift, atol=1e-9)
    assert table.min() - 1e-9 <= first.low <= first.high <= table.max() + 1e-9


def test_the_bootstrap_of_a_mean_has_the_spread_that_theory_gives():
    values = np.random.default_rng(3).normal(size=40)
    found = stratified_bootstrap({"a": values}, mean, 20_000, 0.95, seed=1)
    half = 1.959964 * values.std(ddof=0) / np.sqrt(40)  # resampling knows the variance with divisor n
    assert (found.high - found.low) / 2.0 == pytest.approx(half, rel=0.03)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.02)


def test_resampling_stays_within_tasks():
    apart = {"low": [0.0, 0.0, 0.0], "high": [10.0, 10.0, 10.0]}
    assert stratified_bootstrap(apart, mean) == (5.0, 5.0, 5.0)  # pooled resampling would spread


def test_limits_depend_on_the_seed_of_the_resampling_and_on_nothing_else():
    data = scores(2, 6, np.random.default_rng(0))
    assert stratified_bootstrap(data, seed=4) == stratified_bootstrap(data, seed=4)
    assert stratified_bootstrap(data, seed=4) != stratified_bootstrap(data, seed=5)


def coverage(tasks, seeds, repetitions=600):
    rng = np.random.default_rng([tasks, seeds])
    inside = 0
    for k in range(repetitions):
        low, high = stratified_bootstrap(scores(tasks, seeds, rng), mean, 300, seed=k)[1:]
        inside += low <= (tasks - 1) / 2.0 <= high
    return inside / repetitions


def test_percentile_intervals_cover_what_the_docstring_says_and_too_little_with_three_seeds():
    # three standard errors of 600 repetitions are about 0.05
    assert coverage(1, 3) == pytest.approx(0.74, abs=0.05)
    assert coverage(5, 5) == pytest.approx(0.90, abs=0.04)
    assert coverage(5, 20) == pytest.approx(0.945, abs=0.03)


def test_the_probability_of_improvement_is_the_mann_whitney_statistic_with_ties_counted_half():
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 6, 12).astype(float), rng.integers(0, 6, 9).astype(float)
    wins = stats.mannwhitneyu(y, x).statistic / (12 * 9)  # pairs with y above x: the first one's gap is smaller
    found = probability_of_improvement({"a": x}, {"a": y})
    assert found.value == pytest.approx(wins)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


@settings(max_examples=30, deadline=None)
@given(tables(), tables(), st.randoms(use_true_random=False))
def test_improvement_is_antisymmetric_and_blind_to_the_order_of_seeds(first, second, random):
    count = min(len(first), len(second))
    x = {str(k): first[k] for k in range(count)}
    y = {str(k): second[k] for k in range(count)}
    shuffled = {task: np.array(random.sample(list(row), len(row))) for task, row in x.items()}
    forth, back = (probability_of_improvement(a, b, 10).value for a, b in ((x, y), (y, x)))
    assert forth + back == pytest.approx(1.0)
    assert probability_of_improvement(shuffled, y, 10).value == pytest.approx(forth)


def test_improvement_for_known_laws_is_covered():
    # P(X < Y) for unit normals half a standard deviation apart
    true = stats.norm.cdf(0.5 / np.sqrt(2.0))
    rng = np.random.default_rng(8)
    inside = 0
    for k in range(200):
        x, y = rng.normal(0.0, 1.0, 20), rng.normal(0.5, 1.0, 20)
        low, high = probability_of_improvement({"a": x}, {"a": y}, 200, seed=k)[1:]
        inside += low <= true <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_a_profile_is_the_empirical_distribution_with_bands_around_it():
    data = scores(3, 8, np.random.default_rng(1))
    pooled = np.concatenate(list(data.values()))
    found = performance_profile(data, np.linspace(-2.0, 5.0, 15), 400)
    reference = stats.ecdf(pooled).cdf.evaluate(found.thresholds)
    np.testing.assert_allclose(found.share, reference)
    assert (np.diff(found.share) >= 0.0).all()
    assert (found.low <= found.share + 1e-12).all()
    assert (found.share <= found.high + 1e-12).all()


def test_one_run_says_nothing_about_others():
    one = {"a": [3.0], "b": [1.0, 2.0]}
    assert stratified_bootstrap(one, mean) == (2.0, -np.inf, np.inf)
    assert probability_of_improvement(one, {"a": [4.0, 5.0], "b": [0.0, 0.0]})[1:] == (0.0, 1.0)
    profile = performance_profile(one, [2.5])
    assert (profile.share[0], profile.low[0], profile.high[0]) == (pytest.approx(2 / 3), 0.0, 1.0)
    split = variance_split([[1.0, 2.0, 4.0]])
    assert split.mean[1:] == (-np.inf, np.inf)
    assert np.isnan(split.seed_variance)
    assert split.fixed_seeds == pytest.approx(mean_interval(np.array([1.0, 2.0, 4.0])))


def test_additive_scores_are_split_exactly():
    seeds, scenarios = np.array([0.0, 1.0, 5.0]), np.array([2.0, 3.0, 7.0, -1.0])
    split = variance_split(seeds[:, None] + scenarios[None, :])
    assert split.seed_variance == pytest.approx(seeds.var(ddof=1))
    assert split.scenario_variance == pytest.approx(scenarios.var(ddof=1))
    assert split.residual_variance == pytest.approx(0.0, abs=1e-12)
    assert split.mean.value == pytest.approx(2.0 + 2.75)


@settings(max_examples=40, deadline=None)
@given(tables(), st.floats(-50.0, 50.0), st.randoms(use_true_random=False))
def test_the_split_ignores_order_and_shift_and_its_squares_add_up(table, shift, random):
    found = variance_split(table)
    rows, columns = (random.sample(range(size), size) for size in table.shape)
    other = variance_split(table[rows][:, columns] + shift)
    np.testing.assert_allclose(np.array(other[2:]), np.array(found[2:]), atol=1e-7)
    np.testing.assert_allclose(np.array(other.mean) - shift, np.array(found.mean), rtol=1e-6, atol=1e-6)
    m, n = table.shape
    between = n * table.mean(axis=1).var() * m
    across = m * table.mean(axis=0).var() * n
    left = found.residual_variance * (m - 1) * (n - 1)
    assert between + across + left == pytest.approx(table.var() * table.size, abs=1e-6)


def test_variances_are_found_again_and_the_mean_is_covered():
    rng = np.random.default_rng(2)
    inside, parts = 0, []
    for _ in range(400):
        table = rng.normal(0.0, 0.5, (4, 1)) + rng.normal(0.0, 2.0, (1, 60)) + rng.normal(0.0, 1.0, (4, 60))
        split = variance_split(table)
        inside += split.mean.low <= 0.0 <= split.mean.high
        parts.append(split[2:])
    assert 0.91 <= inside / 400 <= 0.99
    np.testing.assert_allclose(np.mean(parts, axis=0), [0.25, 4.0, 1.0], rtol=0.1)


def test_scenarios_of_one_unit_count_once():
    table = np.random.default_rng(4).normal(size=(3, 6))
    twice = variance_split(np.repeat(table, 2, axis=1), np.repeat(np.arange(6), 2))
    np.testing.assert_allclose(np.array(twice.mean), np.array(variance_split(table).mean))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: stratified_bootstrap({}), "scores"),
        (lambda: stratified_bootstrap({"a": []}), "scores"),
        (lambda: stratified_bootstrap({"a": [np.nan, 1.0]}), "scores"),
        (lambda: stratified_bootstrap({"a": [1.0, 2.0]}, confidence=1.0), "confidence"),
        (lambda: stratified_bootstrap({"a": [1.0, 2.0]}, resamples=2), "resamples"),
        (lambda: probability_of_improvement({"a": [1.0]}, {"b": [1.0]}), "tasks of second"),
        (lambda: performance_profile({"a": [1.0]}, [1.0, 0.0]), "thresholds"),
        (lambda: variance_split([1.0, 2.0]), "scores"),
        (lambda: variance_split([[1.0, 2.0]], [1]), "units"),
        (lambda: interquartile_mean([]), "number of scores"),
    ],
    ids=["no-task", "empty", "nan", "confidence", "resamples", "tasks", "order", "flat", "units", "nothing"],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(InvalidInputError, match=named):
        call()
