"""Wind: the law of its speeds, its memory, what the turbines share, the power curve, and what is expected of it."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.weather import GRID, LEADS, expected_power, latent_paths, tables, turbine_power

DEFAULT = Instance()
DAYS = 4000


def paths(lot, n=DAYS, seed=0):
    shape = (n, 2, lot.steps + 1, lot.turbines + 1)
    return latent_paths(lot, np.random.default_rng(seed).standard_normal(shape))


@pytest.fixture(scope="module")
def drawn():
    """Forecast and error of many days."""
    return paths(DEFAULT)


def latent_for(lot, scale, speed):
    """State in which the wind has the given speed: both are the same quantile of their laws."""
    return ndtri(stats.weibull_min(2.0, scale=scale).cdf(speed))


def exact_moments(lot, scale, mean, sd):
    """Mean and standard deviation of a turbine's power, by a fine sum over the latent state."""
    z = mean + sd * np.linspace(-8.0, 8.0, 20_001)
    weight = np.exp(-0.5 * np.linspace(-8.0, 8.0, 20_001) ** 2)
    speed = stats.weibull_min(2.0, scale=scale).isf(ndtr(-z))
    share = np.clip((speed**3 - lot.cut_in_m_s**3) / (lot.rated_m_s**3 - lot.cut_in_m_s**3), 0.0, 1.0)
    power = np.where(speed < lot.cut_out_m_s, lot.turbine_kw * share, 0.0)
    first = np.average(power, weights=weight)
    return first, np.sqrt(np.average((power - first) ** 2, weights=weight))


# Power curve


@pytest.mark.parametrize(
    ("speed", "share"),
    [
        (0.5, 0.0),
        (2.99, 0.0),
        (3.01, (3.01**3 - 27.0) / 1701.0),
        (6.0, 189.0 / 1701.0),
        (9.0, 702.0 / 1701.0),
        (11.99, (11.99**3 - 27.0) / 1701.0),
        (12.01, 1.0),
        (24.99, 1.0),
        (25.01, 0.0),
        (40.0, 0.0),
    ],
)
def test_power_curve_by_hand(speed, share):
    """Cubic from 3 to 12 m/s (27 and 1728), full up to 25 m/s."""
    for scale in (8.0, 12.0):
        power = turbine_power(DEFAULT, np.array(scale), np.array(latent_for(DEFAULT, scale, speed)))
        assert power == pytest.approx(175.0 * share, abs=1e-6)


def test_power_is_finite_and_within_the_turbine_in_every_state():
    power = turbine_power(DEFAULT, np.array(8.0), np.array([-1e4, -40.0, -5.0, 0.0, 5.0, 40.0, 1e4]))
    assert np.isfinite(power).all()
    assert power.min() >= 0.0
    assert power.max() <= 175.0
    assert power[[0, 1, -2, -1]].tolist() == [0.0] * 4


@pytest.mark.parametrize("step", [0, 14, 30, 60, 95])
def test_wind_speeds_are_weibull_at_every_hour(drawn, step):
    """Speeds are read off the power of a turbine that is cubic from 0 up to where no wind blows."""
    lot = Instance(cut_in_m_s=0.0, rated_m_s=90.0, cut_out_m_s=99.0)
    forecast, news = drawn
    latent = (0.9 * forecast + np.sqrt(1.0 - 0.81) * news)[:, step + 1, 0]
    speed = 90.0 * np.cbrt(turbine_power(lot, lot.wind_scale[step + 1], latent) / lot.turbine_kw)
    law = stats.weibull_min(2.0, scale=lot.wind_scale[step + 1])
    assert stats.kstest(speed, law.cdf).pvalue > 0.01
    assert stats.kstest(speed, stats.weibull_min(2.0, scale=1.1 * lot.wind_scale[step + 1]).cdf).pvalue < 1e-6


# Latent paths


def test_paths_are_standard_normal_at_every_step(drawn):
    for path in drawn:
        for step in (0, 1, 10, 96):
            for turbine in range(DEFAULT.turbines):
                assert stats.kstest(path[:, step, turbine], "norm").pvalue > 1e-3


def test_autocorrelations_are_the_memories(drawn):
    for path, memory in zip(drawn, (0.97, 0.93), strict=True):
        for lag in (1, 4, 16, 64):
            pairs = np.mean(path[:, :-lag] * path[:, lag:])
            # several turbines of one day are nearly one sample: count days
            assert pairs == pytest.approx(memory**lag, abs=4.0 / np.sqrt(DAYS))


def test_turbines_share_the_stated_part_of_the_variance(drawn):
    for path in drawn:
        for step in (0, 50):
            correlation = np.corrcoef(path[:, step].T)
            off = correlation[~np.eye(DEFAULT.turbines, dtype=bool)]
            np.testing.assert_allclose(off, 0.7, atol=4.0 * 0.51 / np.sqrt(DAYS))


def test_forecast_and_its_error_are_independent(drawn):
    forecast, news = drawn
    for step in (0, 20, 96):
        for a in (0, 3):
            assert abs(np.corrcoef(forecast[:, step, a], news[:, step, a])[0, 1]) < 4.0 / np.sqrt(DAYS)


@pytest.mark.parametrize("quality", [0.0, 0.6, 0.9, 1.0])
def test_forecast_quality_is_the_correlation_of_forecast_and_wind(quality):
    forecast, news = paths(DEFAULT.replace(steps=4), 20_000)
    latent = quality * forecast + np.sqrt(1.0 - quality**2) * news
    got = np.corrcoef(forecast[:, 2, 0], latent[:, 2, 0])[0, 1]
    assert got == pytest.approx(quality, abs=0.03)
    assert latent[:, 2, 0].std() == pytest.approx(1.0, abs=0.03)


def test_extremes_of_memory_and_common_share():
    lot = DEFAULT.replace(steps=3, wind_memory=0.0, wind_common=1.0)
    forecast, _ = paths(lot, 2000)
    np.testing.assert_allclose(forecast, forecast[..., :1].repeat(4, axis=2), atol=1e-12)
    assert abs(np.corrcoef(forecast[:, 1, 0], forecast[:, 2, 0])[0, 1]) < 0.1
    alone, _ = paths(lot.replace(wind_common=0.0), 2000)
    assert abs(np.corrcoef(alone[:, 1, 0], alone[:, 1, 1])[0, 1]) < 0.1


def test_network_without_turbines_has_paths_of_none():
    lot = DEFAULT.replace(turbine_bus=())
    forecast, news = paths(lot, 3)
    assert forecast.shape == news.shape == (3, 97, 0)
    mean, sd = expected_power(lot, forecast, news, 5)
    assert mean.shape == sd.shape == (3, 91, 0)


# What is expected


@pytest.mark.parametrize("known", [0, 33, 95])
def test_expected_power_is_the_fine_sum_over_what_is_not_known(drawn, known):
    forecast, news = (part[:3] for part in drawn)
    mean, sd = expected_power(DEFAULT, forecast, news, known)
    assert mean.shape == sd.shape == (3, 96 - known, 4)
    for k in sorted({0, 96 - known - 1, min(20, 96 - known - 1)}):
        fade = 0.93 ** (k + 1)
        for i in range(3):
            latent = 0.9 * forecast[i, known + 1 + k, 1] + np.sqrt(0.19) * fade * news[i, known, 1]
            spread = np.sqrt(0.19 * (1.0 - fade**2))
            exact = exact_moments(DEFAULT, DEFAULT.wind_scale[known + 1 + k], latent, spread)
            assert mean[i, k, 1] == pytest.approx(exact[0], abs=0.01 * 175.0)
            assert sd[i, k, 1] == pytest.approx(exact[1], abs=0.02 * 175.0)


def test_expected_power_uses_of_the_error_only_what_is_known(drawn):
    forecast, news = (part[:2] for part in drawn)
    other = news.copy()
    other[:, :30] = 9.0
    other[:, 31:] = -9.0
    for a, b in zip(
        expected_power(DEFAULT, forecast, news, 30), expected_power(DEFAULT, forecast, other, 30), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_expected_power_is_the_mean_of_simulated_futures():
    """And its standard deviation theirs, at every lead."""
    n, known = 20_000, 20
    rng = np.random.default_rng(4)
    forecast, news = paths(DEFAULT, 1, seed=7)
    mean, sd = expected_power(DEFAULT, forecast, news, known)
    state = np.full(n, news[0, known, 2])
    for k in range(40):
        state = 0.93 * state + np.sqrt(1.0 - 0.93**2) * rng.standard_normal(n)
        latent = 0.9 * forecast[0, known + 1 + k, 2] + np.sqrt(0.19) * state
        power = turbine_power(DEFAULT, DEFAULT.wind_scale[known + 1 + k], latent)
        # 0.01: what 64 points leave out at the cut-out speed, see the tables
        assert mean[0, k, 2] == pytest.approx(power.mean(), abs=4.0 * power.std() / np.sqrt(n) + 0.01 * 175.0)
        assert sd[0, k, 2] == pytest.approx(power.std(), rel=0.05, abs=0.01 * 175.0)


def test_perfect_forecast_is_expected_without_spread(drawn):
    lot = DEFAULT.replace(forecast_quality=1.0)
    forecast, news = (part[:5] for part in drawn)
    mean, sd = expected_power(lot, forecast, news, 12)
    wind = turbine_power(lot, lot.wind_scale[:, None], forecast)
    np.testing.assert_allclose(mean, wind[:, 13:], atol=1e-9)
    assert sd.max() < 1e-9


# Tables


@pytest.mark.parametrize("gate", [0, 1])
def test_tables_are_fine_sums(gate):
    lot = DEFAULT.replace(gate_closure_steps=gate)
    found = tables(lot)
    ages = np.array(LEADS) - 1 + gate
    np.testing.assert_allclose(found.fade, 0.93**ages, rtol=1e-12)
    assert found.mean.shape == (len(LEADS), 96, len(GRID))
    for j in (0, 1, 4, len(LEADS) - 1):
        spread = np.sqrt(0.19 * (1.0 - found.fade[j] ** 2))
        for step in (0, 30, 60):
            for g in (20, 70, 90, 110, 130):
                exact = exact_moments(lot, lot.wind_scale[step + 1], GRID[g], spread)
                assert found.mean[j, step, g] == pytest.approx(exact[0], abs=0.01 * 175.0)
                if j == 0:
                    assert found.sd[step, g] == pytest.approx(exact[1], rel=0.03, abs=0.01 * 175.0)
    if gate == 0:  # this step's wind is known
        assert found.sd.max() < 1e-9


def test_tables_between_grid_points_are_expected_power(drawn):
    """Linear interpolation of the latent mean, up to half a percent of a turbine away from the cut-out speed."""
    lot = DEFAULT
    forecast, news = (part[:40] for part in drawn)
    known = 5
    mean, sd = expected_power(lot, forecast, news, known)
    found = tables(lot)
    for j, lead in enumerate(LEADS):
        latent = 0.9 * forecast[:, known + lead] + np.sqrt(0.19) * found.fade[j] * news[:, known]
        read = np.interp(latent, GRID, found.mean[j, known + lead - 1])
        calm = latent < 0.8  # the cut-out speed is far
        np.testing.assert_allclose(read[calm], mean[:, lead - 1][calm], atol=0.005 * 175.0)
        np.testing.assert_allclose(read, mean[:, lead - 1], atol=0.03 * 175.0)
        if j == 0:
            spread = np.interp(latent, GRID, found.sd[known])
            np.testing.assert_allclose(spread[calm], sd[:, 0][calm], atol=0.01 * 175.0)
