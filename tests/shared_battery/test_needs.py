"""Histograms of needs against integration and samples, the generator against national figures, common shocks, logs."""

import copy
import math
import pickle

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import kstest, norm

from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.needs import Needs, driver_scales, from_days, generated, shocked
from v2g_env.shared_battery.scenario import law

WIDTH = 2.5
# ordinary; with empty bins in the middle and at the end; one bin only; never without need; never with need
SHARES = np.array([[0.2, 0.3, 0.1, 0.1, 0.1], [0.3, 0.0, 0.0, 0.5, 0.0], [0, 0, 0.9, 0, 0], [0.1, 0.2, 0.3, 0.2, 0.2]])
IDLE = np.array([0.2, 0.2, 0.1, 0.0])
NEEDS = Needs("example", WIDTH, IDLE, SHARES)
DRIVERS = range(4)


def probability(i, energy):
    """P(need <= energy) of driver i: idle, whole bins below, and the part of the bin that energy lies in."""
    if energy < 0.0:
        return 0.0
    total = IDLE[i]
    for k in range(5):
        total += SHARES[i, k] * min(max((energy - k * WIDTH) / WIDTH, 0.0), 1.0)
    return total


def tail(i, start):
    """Integral of P(need > x) from ``start`` on: trapezoids are exact between the kinks."""
    grid = np.unique(np.append(np.arange(6) * WIDTH, start))
    grid = grid[grid >= start]
    beyond = [1.0 - probability(i, x) for x in grid]
    return np.trapezoid(beyond, grid)


def samples(needs, count, seed):
    rng = np.random.default_rng(seed)
    return needs.from_uniform(rng.random((count, needs.drivers)))


# Histograms


def test_distribution_by_summing_bins():
    energies = np.array([-1.0, -1e-12, 0.0, 0.1, 2.5, 2.6, 5.0, 7.4, 7.5, 9.99, 10.0, 12.4, 12.5, 13.0, 1e9])
    got = NEEDS.distribution(np.tile(energies, (4, 1)))
    want = [[probability(i, x) for x in energies] for i in DRIVERS]
    np.testing.assert_allclose(got, want, atol=1e-15)
    np.testing.assert_array_equal(NEEDS.distribution(energies[:4]), np.diag(got[:, :4]))
    assert NEEDS.distribution(np.zeros((4, 0))).shape == (4, 0)


def test_quantile_is_the_smallest_energy_that_is_enough_with_that_probability():
    for order in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.51, 0.9, 0.999, 1.0):
        quantile = NEEDS.quantile(order)
        for i, energy in zip(DRIVERS, quantile, strict=True):
            assert probability(i, energy) >= order - 1e-12
            assert energy == 0.0 or probability(i, energy - 1e-6) < order
    assert NEEDS.quantile(1.0) == pytest.approx([12.5, 10.0, 7.5, 12.5])
    np.testing.assert_array_equal(NEEDS.quantile(0.1)[:3], 0.0)


def test_quantile_takes_an_order_for_each_driver():
    orders = np.array([0.9, 0.4, 0.5, 0.1])
    want = [NEEDS.quantile(order)[i] for i, order in enumerate(orders)]
    np.testing.assert_array_equal(NEEDS.quantile(orders), want)
    np.testing.assert_array_equal(NEEDS.quantile(orders.tolist()), want)


def test_quantile_turns_the_distribution_round():
    rng = np.random.default_rng(0)
    needs = Needs("full", 0.7, np.full(3, 0.1), 0.9 * rng.dirichlet(np.ones(40), 3))
    for order in rng.uniform(0.1, 1.0, 50):
        np.testing.assert_allclose(needs.distribution(needs.quantile(order)), order, atol=1e-12)


@pytest.mark.parametrize("order", [-0.1, 1.1, np.nan, [0.5] * 3, [0.5] * 5, [[0.5] * 4], "half", [0.5, 0.5, 0.5, 2.0]])
def test_bad_order_of_a_quantile_is_refused(order):
    with pytest.raises(InvalidInputError, match="order"):
        NEEDS.quantile(order)


def test_mean_is_the_integral_of_the_tail():
    np.testing.assert_allclose(NEEDS.mean_kwh(), [tail(i, 0.0) for i in DRIVERS], rtol=1e-12)


@pytest.mark.parametrize("own", [0.0, 1e-9, 1.0, 2.5, 3.7, 5.0, 7.5, 9.9, 10.0, 11.0, 12.5, 20.0])
def test_mean_shortfall_is_the_integral_of_the_tail_beyond_the_own_battery(own):
    want = [tail(i, own) if own < 12.5 else 0.0 for i in DRIVERS]
    np.testing.assert_allclose(NEEDS.mean_shortfall_kwh(np.full(4, own)), want, rtol=1e-12, atol=1e-12)


def test_mean_shortfall_takes_a_battery_for_each_driver():
    own = np.array([1.0, 9.0, 0.0, 5.0])
    np.testing.assert_allclose(NEEDS.mean_shortfall_kwh(own), [tail(i, own[i]) for i in DRIVERS], rtol=1e-12)
    np.testing.assert_allclose(NEEDS.mean_shortfall_kwh(np.zeros(4)), NEEDS.mean_kwh(), rtol=1e-12)


def test_samples_follow_the_distribution():
    drawn = samples(NEEDS, 20_000, 1)
    for i in DRIVERS:
        positive = drawn[drawn[:, i] > 0.0, i]
        assert (drawn[:, i] == 0.0).mean() == pytest.approx(IDLE[i], abs=4.0 * math.sqrt(0.25 / 20_000))
        law_of_driving = lambda x, i=i: (np.array([probability(i, e) for e in x]) - IDLE[i]) / (1.0 - IDLE[i])  # noqa: E731
        assert kstest(positive, law_of_driving).pvalue > 1e-3
        counts = np.histogram(positive, WIDTH * np.arange(6))[0] / len(drawn)
        np.testing.assert_allclose(counts, SHARES[i], atol=4.5 * math.sqrt(0.25 / 20_000))


def test_mean_and_mean_shortfall_are_those_of_samples():
    drawn = samples(NEEDS, 40_000, 2)
    own = np.array([3.0, 8.0, 6.0, 4.0])
    for values, want in (
        (drawn, NEEDS.mean_kwh()),
        (np.maximum(drawn - own, 0.0), NEEDS.mean_shortfall_kwh(own)),
    ):
        error = values.std(axis=0) / math.sqrt(len(values))
        assert (np.abs(values.mean(axis=0) - want) <= 4.0 * error).all()


def test_extreme_uniforms_give_the_ends_of_the_histogram():
    u = np.array([[0.0] * 4, [1.0] * 4, [1.0 - 2**-53] * 4, [2**-60] * 4])
    got = NEEDS.from_uniform(u)
    np.testing.assert_array_equal(got[0], 0.0)
    assert got[1] == pytest.approx([12.5, 10.0, 7.5, 12.5], abs=1e-12)
    assert got[2] == pytest.approx(got[1], abs=1e-9)
    np.testing.assert_array_equal(got[3][:3], 0.0)
    assert 0.0 < got[3][3] < 1e-15
    assert (got <= NEEDS.largest_kwh).all()


@pytest.mark.parametrize("bins", [1, 2, 5, 700, 3000])
def test_needs_from_uniforms_are_found_in_the_bin_that_holds_them(bins):
    """Against a search of the distribution function, also where it jumps, is flat, or u is one of its values."""
    rng = np.random.default_rng(bins)
    share = rng.dirichlet(np.full(bins, 0.1), 4) * (rng.random((4, bins)) < 0.7)
    share[:, rng.integers(bins)] += 0.3
    idle = np.array([0.0, 0.2, 0.5, 0.9])
    needs = Needs("x", 2.0, idle, (1.0 - idle[:, None]) * share / share.sum(axis=1, keepdims=True))
    for i, limits in enumerate(needs.limits):
        u = np.concatenate([rng.random(500), np.arange(1025) / 1024, limits, np.nextafter(limits, 0.0)])
        got = needs.from_uniform(np.tile(u[:, None], 4))[:, i]
        upper = np.searchsorted(limits, u, side="left")  # first edge at which the distribution function reaches u
        lower = np.maximum(upper - 1, 0)
        inside = upper > 0
        want = np.zeros(len(u))
        part = (u - limits[lower])[inside] / (limits[upper] - limits[lower])[inside]
        want[inside] = 2.0 * (lower[inside] + part)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_uniforms_of_any_memory_layout_mean_the_same():
    u = np.random.default_rng(0).random((6, 4))
    want = NEEDS.from_uniform(u)
    for same in (np.asfortranarray(u), np.repeat(u, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(NEEDS.from_uniform(same), want)


def test_driver_who_never_needs_anything():
    still = Needs("still", 1.0, np.array([1.0]), np.zeros((1, 3)))
    assert still.quantile(1.0) == still.mean_kwh() == still.mean_shortfall_kwh(np.zeros(1)) == 0.0
    assert not samples(still, 100, 0).any()
    assert still.distribution(np.array([0.0])) == 1.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"bin_kwh": 0.0}, "bin_kwh"),
        ({"bin_kwh": np.nan}, "bin_kwh"),
        ({"idle": [0.2]}, "idle"),
        ({"idle": [0.2, 0.2, 0.1, 0.0, 0.0]}, "idle"),
        ({"idle": [0.2, 0.2, 0.1, -0.0001]}, "idle"),
        ({"idle": [0.2, 0.2, np.nan, 0.0]}, "idle"),
        ({"idle": [0.2, 0.2, 0.11, 0.0]}, "driver 2's histogram"),
        ({"share": SHARES * 1.001}, "histogram"),
        ({"share": SHARES[0]}, "share"),
        ({"share": np.zeros((0, 3)), "idle": []}, "share"),
        ({"share": np.zeros((4, 0)), "idle": [1.0] * 4}, "share"),
        ({"share": np.where(SHARES == 0.0, -0.1, SHARES)}, "share"),
        ({"share": np.where(SHARES == 0.0, np.nan, SHARES)}, "share"),
        ({"share": "flat"}, "share"),
    ],
)
def test_what_is_no_histogram_is_refused_by_name(change, field):
    parts = {"name": "x", "bin_kwh": WIDTH, "idle": IDLE, "share": SHARES} | change
    with pytest.raises(InvalidInputError, match=field):
        Needs(**parts)


def test_rounding_of_the_sum_is_forgiven_and_evened_out():
    needs = Needs("x", 1.0, np.array([0.1]), np.full((1, 9), 0.1))
    assert needs.limits[0, -1] == 1.0
    almost = Needs("x", 1.0, np.array([0.5 + 9e-10]), np.array([[0.5]]))
    assert almost.limits[0, -1] == 1.0


def test_histograms_are_locked_and_keep_apart_from_what_was_given():
    share, idle = SHARES.copy(), IDLE.copy()
    needs = Needs("x", WIDTH, idle, share)
    share[:] = idle[:] = 0.5
    np.testing.assert_array_equal(needs.share, SHARES)
    np.testing.assert_array_equal(needs.idle, IDLE)
    for twin in (needs, copy.deepcopy(needs), pickle.loads(pickle.dumps(needs))):
        assert twin.sha256 == NEEDS.sha256
        assert (twin.drivers, twin.largest_kwh) == (4, 12.5)
        for part in (twin.share, twin.idle, twin.limits):
            assert not part.flags.writeable


def test_fingerprint_tells_numbers_apart_and_names_not():
    assert Needs("other", WIDTH, IDLE, SHARES).sha256 == NEEDS.sha256
    assert Needs("example", 2.0, IDLE, SHARES).sha256 != NEEDS.sha256
    assert Needs("example", WIDTH, IDLE, SHARES[:, ::-1]).sha256 != NEEDS.sha256
    assert Needs("example", WIDTH, IDLE[::-1], SHARES[::-1]).sha256 != NEEDS.sha256


# The generator


def national(bin_kwh, need_max_kwh):
    """Fleet at the middles of 2001 equally likely parts of the scales' law: an integral, no sample."""
    lot = Instance()
    z = np.clip(ndtri((np.arange(2001) + 0.5) / 2001), -3.0, 3.0)
    scale = lot.median_miles * np.exp(lot.driver_spread * z) / lot.miles_per_kwh
    return generated(scale, lot.day_shape, bin_kwh, round(need_max_kwh / bin_kwh), lot.idle), lot.miles_per_kwh


@pytest.mark.parametrize(
    ("share", "miles"), [(0.05, 3.0), (0.25, 11.5), (0.5, 24.5), (0.75, 50.0), (0.95, 121.0), (0.99, 211.0)]
)
def test_generator_has_the_national_percentiles_of_daily_miles(share, miles):
    """NHTS 2001, 43,001 vehicle-days: within 3 %, by averaging distribution functions over the fleet."""
    needs, per_kwh = national(0.25, 400.0)
    low, high = (needs.distribution(np.full(needs.drivers, factor * miles / per_kwh)).mean() for factor in (0.97, 1.03))
    assert low <= share <= high


def test_generator_has_the_national_mean_of_daily_miles():
    needs, per_kwh = national(0.25, 400.0)
    assert needs.mean_kwh().mean() * per_kwh == pytest.approx(38.4, rel=0.03)


def test_bins_of_two_kwh_and_the_end_of_the_last_one_cost_the_mean_little():
    fine, coarse = (national(*bins)[0].mean_kwh().mean() for bins in ((0.25, 400.0), (2.0, 160.0)))
    assert coarse == pytest.approx(fine, rel=0.01)


def test_generated_histogram_is_a_weibull_law_at_the_edges():
    scale, shape = np.array([4.0, 11.0, 60.0]), 1.4
    needs = generated(scale, shape, 2.0, 10, 0.15)
    edges = 2.0 * np.arange(10)
    want = 0.15 + 0.85 * (1.0 - np.exp(-((edges / scale[:, None]) ** shape)))
    np.testing.assert_allclose(needs.distribution(np.tile(edges, (3, 1))), want, atol=1e-12)
    np.testing.assert_array_equal(needs.idle, 0.15)
    np.testing.assert_allclose(needs.distribution(np.full(3, 20.0)), 1.0)  # longer days are counted in the last bin
    assert needs.share[2, -1] > 0.85 * math.exp(-((20.0 / 60.0) ** shape))


def test_law_of_an_instance_is_its_generator():
    lot = Instance(drivers=3, fleet_seed=5, idle=0.1, miles_per_kwh=2.0, bin_kwh=4.0, need_max_kwh=80.0)
    scale = driver_scales(3, 5, lot.median_miles, lot.driver_spread) / 2.0
    assert law(lot).needs.sha256 == generated(scale, lot.day_shape, 4.0, 20, 0.1).sha256


def test_scales_are_lognormal_and_cut_at_three_deviations():
    scale = driver_scales(10_000, 3, 30.0, 0.5)
    z = np.log(scale / 30.0) / 0.5
    inside = z[np.abs(z) < 2.999]
    assert np.abs(z).max() <= 3.0 + 1e-12
    assert kstest(inside, lambda x: (norm.cdf(x) - norm.cdf(-3)) / (norm.cdf(3) - norm.cdf(-3))).pvalue > 1e-3
    np.testing.assert_array_equal(driver_scales(5, 3, 30.0, 0.0), 30.0)


def test_fleets_of_different_size_share_their_first_drivers():
    for few, many in ((1, 2), (7, 25), (25, 400)):
        a, b = law(Instance(drivers=few)).needs, law(Instance(drivers=many)).needs
        np.testing.assert_array_equal(a.share, b.share[:few])
        np.testing.assert_array_equal(a.limits, b.limits[:few])


def test_other_seeds_are_other_fleets():
    a, b = (driver_scales(2000, seed, 30.0, 0.5) for seed in (1, 2))
    assert len(np.unique(np.concatenate([a, b]))) >= 3980  # a few are cut to the same end
    assert abs(np.corrcoef(np.log(a), np.log(b))[0, 1]) < 4.0 / math.sqrt(2000)


# Common shocks


def test_no_correlation_changes_nothing():
    u = np.random.default_rng(0).random((5, 3))
    np.testing.assert_array_equal(shocked(u, np.zeros(5), 0.0), u)


@pytest.mark.parametrize("correlation", [0.05, 0.3, 0.9])
def test_common_shocks_keep_every_drivers_law_and_have_the_stated_correlation(correlation):
    rng = np.random.default_rng(4)
    days = 20_000
    common = rng.standard_normal(days)
    u = shocked(rng.random((days, 4)), common, correlation)
    scores = ndtri(u)
    for i in range(4):
        assert kstest(u[:, i], "uniform").pvalue > 1e-3
    pairs = np.corrcoef(scores.T)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(pairs, correlation, atol=4.0 * (1.0 - correlation**2) / math.sqrt(days))
    with_common = [np.corrcoef(scores[:, i], common)[0, 1] for i in range(4)]
    np.testing.assert_allclose(with_common, math.sqrt(correlation), atol=4.0 / math.sqrt(days))
    one_day_later = np.corrcoef(scores[:-1, 0], scores[1:, 1])[0, 1]
    assert abs(one_day_later) < 4.0 / math.sqrt(days)


def test_common_shock_by_hand():
    got = shocked(np.array([[0.3, 0.8]]), np.array([1.5]), 0.36)
    want = norm.cdf(0.6 * 1.5 + 0.8 * norm.ppf([0.3, 0.8]))
    np.testing.assert_allclose(got[0], want, rtol=1e-12)


def test_shocks_of_extreme_uniforms_stay_uniforms():
    u = np.array([[0.0, 2**-53, 1.0 - 2**-53, 0.5]] * 3)
    got = shocked(u, np.array([-8.0, 0.0, 8.0]), 0.9)
    assert np.isfinite(got).all()
    assert ((got >= 0.0) & (got <= 1.0)).all()
    assert (np.diff(got[:, [0, 1, 3, 2]], axis=1) >= 0.0).all()


# Logs


def test_recorded_days_are_counted_in_their_bins():
    """Bin k holds (k w, (k + 1) w]; days without need apart."""
    needs = from_days([[0.0, 2.0, 2.0001, 4.0, 0.5], [7.9, 0.0], [0.0]], 2.0, "garage")
    np.testing.assert_allclose(needs.idle, [0.2, 0.5, 1.0])
    np.testing.assert_allclose(needs.share, [[0.4, 0.4, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, 0]])
    assert (needs.name, needs.bin_kwh, needs.largest_kwh) == ("garage", 2.0, 8.0)


def test_a_log_of_days_without_need_only_is_a_histogram():
    needs = from_days([[0.0, 0.0], [0.0]])
    assert needs.idle.tolist() == [1.0, 1.0]
    assert not needs.share.any()


@pytest.mark.parametrize("kind", [list, np.array, tuple, lambda row: np.array(row, np.float32)])
def test_recorded_days_may_be_any_sequence_and_of_different_lengths(kind):
    needs = from_days([kind([1.0, 3.0]), kind([0.5, 0.5, 6.0])])
    np.testing.assert_allclose(needs.share, [[0.5, 0.5, 0.0], [2 / 3, 0.0, 1 / 3]])


def test_histograms_of_many_recorded_days_come_near_to_their_law():
    source = law(Instance(drivers=2, idle=0.2)).needs
    days = samples(source, 20_000, 5)
    counted = from_days(days.T, source.bin_kwh)
    energies = np.tile(np.linspace(0.0, 150.0, 100), (2, 1))
    assert np.abs(counted.distribution(energies) - source.distribution(energies)).max() < 1.95 / math.sqrt(20_000)
    np.testing.assert_allclose(counted.mean_kwh(), source.mean_kwh(), rtol=0.02)


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ([], "number of drivers"),
        ([[1.0], []], "days of driver 1"),
        ([[1.0, -0.1]], "days of driver 0"),
        ([[1.0], [np.nan]], "days of driver 1"),
        ([[np.inf]], "days of driver 0"),
        ([[[1.0]]], "days of driver 0"),
        ([["1"]], "days of driver 0"),
        ([[1.0, None]], "days of driver 0"),
        ([[2e6]], "days of driver 0"),
    ],
)
def test_bad_recorded_days_are_refused_by_driver(days, field):
    with pytest.raises(InvalidInputError, match=field):
        from_days(days)


@pytest.mark.parametrize("width", [0.0, -2.0, np.nan, True, "2"])
def test_bad_bin_width_of_a_log_is_refused(width):
    with pytest.raises(InvalidInputError, match="bin_kwh"):
        from_days([[1.0]], width)
