"""The least excess near equal shares: an independent conic program, and the conditions of the optimum."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.games.coalitions import subset_sums
from baselines.games.least_excess import least_excess

TIE = 1.0


def drawn(seed, n):
    """Tables with and without ties."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=1 << n) if seed % 2 else rng.integers(-2, 3, 1 << n).astype(float)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_optimum_of_a_conic_program(seed):
    n = 2 + seed % 4
    right = drawn(seed, n)
    inside = (np.arange(1, (1 << n) - 1)[:, None] >> np.arange(n) & 1).astype(float)
    d, e = cp.Variable(n), cp.Variable()
    cp.Problem(cp.Minimize(e + TIE / 2 * cp.sum_squares(d)), [cp.sum(d) == 0, inside @ d + e >= right[1:-1]]).solve(
        cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13
    )
    np.testing.assert_allclose(least_excess(right, TIE)[0], d.value, atol=2e-6)


@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([1e-4, 1.0]))
@settings(max_examples=60, deadline=None)
def test_deviations_and_multipliers_meet_the_conditions_of_the_optimum(seed, n, tie):
    right = drawn(seed, n)
    deviations, active, weights = least_excess(right, tie)
    gain = (right - subset_sums(deviations))[1:-1]
    inside = (active[:, None] >> np.arange(n) & 1).astype(float)
    assert weights.min() >= 0.0 and weights.sum() == pytest.approx(1.0, abs=1e-9) and len(set(active)) == len(active)
    assert deviations.sum() == pytest.approx(0.0, abs=1e-8)
    assert gain[active - 1] == pytest.approx(gain.max(), abs=1e-8)  # those that pull have the largest excess
    assert np.ptp(tie * deviations - weights @ inside) < 1e-9
