"""Normal needs: the figures of the model note, and simulation."""

import numpy as np
import pytest
from scipy.special import ndtri

from baselines.shared_battery.gaussian import correlated_risk, saving, saving_of_bound
from v2g_env.core.validate import InvalidInputError

EPS = (0.2, 0.1, 0.05, 0.01)


def test_savings_of_a_hundred_drivers_are_the_notes():
    assert [round(saving(100, eps), 3) for eps in EPS] == [0.757, 1.153, 1.480, 2.094]
    assert [round(saving_of_bound(100, eps), 3) for eps in EPS] == [0.263, 0.668, 1.001, 1.624]


@pytest.mark.parametrize("eps", EPS)
def test_the_bound_promises_less_than_the_optimum_saves(eps):
    for drivers in (1, 2, 10, 100, 10_000):
        assert saving_of_bound(drivers, eps) < saving(drivers, eps)
    assert saving(1, eps) == 0.0
    assert saving(10**9, eps) == pytest.approx(ndtri(1.0 - eps), rel=1e-4)
    grown = [saving(drivers, eps) for drivers in (1, 2, 5, 20, 100)]
    assert grown == sorted(grown)


@pytest.mark.parametrize("eps", [0.2, 0.05])
def test_both_capacities_keep_their_promise_in_simulation(eps):
    rng = np.random.default_rng(1)
    n, mean, sd, days = 20, 30.0, 4.0, 100_000
    need = mean + sd * rng.standard_normal((days, n))
    separate = mean + sd * ndtri(1.0 - eps)
    noise = 4.0 * np.sqrt(eps / days)
    assert abs((need > separate).mean() - eps) < noise
    # all of it common: exactly eps
    total = n * (separate - sd * saving(n, eps))
    assert abs((need.sum(axis=1) > total).mean() - eps) < noise
    # own batteries mu and the paper's shared part: far below eps
    shared = n * (separate - sd * saving_of_bound(n, eps)) - n * mean
    assert (np.maximum(need - mean, 0.0).sum(axis=1) > shared).mean() < 0.2 * eps


@pytest.mark.parametrize(("eps", "correlation"), [(0.1, 0.1), (0.1, 0.02), (0.05, 0.5), (0.2, 1.0)])
def test_what_correlation_does_to_the_independent_optimum_is_what_simulation_counts(eps, correlation):
    rng = np.random.default_rng(2)
    n, days = 12, 200_000
    common = np.sqrt(correlation) * rng.standard_normal((days, 1))
    need = common + np.sqrt(1.0 - correlation) * rng.standard_normal((days, n))
    share = (need.sum(axis=1) > np.sqrt(n) * ndtri(1.0 - eps)).mean()
    found = correlated_risk(n, eps, correlation)
    assert abs(share - found) < 4.0 * np.sqrt(found / days)
    assert found > eps


def test_without_correlation_or_company_the_promise_is_kept_exactly():
    assert correlated_risk(50, 0.1, 0.0) == pytest.approx(0.1, rel=1e-12)
    assert correlated_risk(1, 0.1, 0.7) == pytest.approx(0.1, rel=1e-12)
    assert correlated_risk(4, 0.5, 0.9) == pytest.approx(0.5)  # the median stays the median


@pytest.mark.parametrize("function", [saving, saving_of_bound, lambda n, eps: correlated_risk(n, eps, 0.1)])
def test_arguments_out_of_range_are_refused_by_name(function):
    for drivers, eps, field in ((0, 0.1, "drivers"), (2.5, 0.1, "drivers"), (5, 0.0, "eps"), (5, 1.0, "eps")):
        with pytest.raises(InvalidInputError, match=f"^{field}"):
            function(drivers, eps)
    with pytest.raises(InvalidInputError, match="^correlation"):
        correlated_risk(5, 0.1, -0.1)
