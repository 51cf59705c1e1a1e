"""Means and intervals against scipy.stats, by hand, and by their coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import mean_interval, upper_limit


@pytest.mark.parametrize("n", [2, 3, 10, 500])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_interval_is_students(n, confidence):
    values = np.random.default_rng(n).exponential(3.0, n)
    got = mean_interval(values, confidence=confidence)
    low, high = stats.t.interval(confidence, n - 1, values.mean(), stats.sem(values))
    assert got.mean == pytest.approx(values.mean())
    assert (got.low, got.high) == pytest.approx((low, high))


def test_interval_by_hand():
    got = mean_interval(np.array([1.0, 2.0, 3.0]))
    half = 4.302652729911275 / math.sqrt(3)  # t quantile .975 with 2 degrees, sd 1
    assert got == pytest.approx((2.0, 2.0 - half, 2.0 + half))


def test_values_of_a_cluster_count_once():
    values, days = np.array([1.0, 3.0, 5.0, 7.0, 9.0]), np.array([7, 7, 2, 9, 9])
    assert mean_interval(values, days) == mean_interval(np.array([5.0, 2.0, 8.0]))
    assert mean_interval(values, days).mean == pytest.approx(5.0)
    assert mean_interval(values, np.array(["b", "b", "a", "c", "c"])) == pytest.approx(mean_interval(values, days))


def test_clusters_of_one_change_nothing_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    values, days = rng.standard_normal(30), rng.integers(0, 8, 30)
    assert mean_interval(values, np.arange(30)) == pytest.approx(mean_interval(values))
    shuffled = rng.permutation(30)
    assert mean_interval(values[shuffled], days[shuffled]) == pytest.approx(mean_interval(values, days))


def test_repeating_a_day_does_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    values = rng.standard_normal(10)
    many = np.repeat(values, 20)
    clustered = mean_interval(many, np.repeat(np.arange(10), 20))
    assert clustered == pytest.approx(mean_interval(values))
    naive = mean_interval(many)
    assert naive.high - naive.low < 0.3 * (clustered.high - clustered.low)


def test_one_unit_has_a_mean_and_no_limits():
    assert mean_interval(np.array([3.0])) == (3.0, -np.inf, np.inf)
    assert mean_interval(np.array([1.0, 5.0]), np.array([4, 4])) == (3.0, -np.inf, np.inf)


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval(np.full(5, 2.0)) == (2.0, 2.0, 2.0)


def test_upper_limit_is_one_sided():
    values = np.random.default_rng(2).normal(4.0, 2.0, 25)
    want = values.mean() + stats.t.ppf(0.95, 24) * stats.sem(values)
    assert upper_limit(values) == pytest.approx(want)
    assert upper_limit(values, confidence=0.99) > upper_limit(values) > values.mean()
    days = np.arange(25) // 5
    assert upper_limit(values, days) == mean_interval(values, days, 0.9).high


def test_limits_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    n = 2000
    inside = below = 0
    for _ in range(n):
        effect = np.repeat(rng.standard_normal(8), 4)
        values = 1.0 + effect + rng.standard_normal(32)
        days = np.repeat(np.arange(8), 4)
        got = mean_interval(values, days, 0.9)
        inside += got.low <= 1.0 <= got.high
        below += upper_limit(values, days, 0.95) >= 1.0
    assert inside / n == pytest.approx(0.90, abs=4 * math.sqrt(0.09 / n))
    assert below / n == pytest.approx(0.95, abs=4 * math.sqrt(0.0475 / n))


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf], ["a", "b"], None])
def test_bad_values_are_refused(values):
    with pytest.raises(InvalidInputError, match="values"):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.1, 95, math.nan, None])
def test_bad_confidence_is_refused(confidence):
    with pytest.raises(InvalidInputError, match="confidence"):
        mean_interval(np.arange(5.0), confidence=confidence)


def test_clusters_of_another_length_are_refused():
    with pytest.raises(InvalidInputError, match="clusters"):
        mean_interval(np.arange(5.0), np.arange(4))
