"""The law of the days: prices, weekends, weather and signals as stated, and draws that depend on nothing else."""

import numpy as np
import pytest
from scipy.stats import binomtest

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.scenario import Law, draw, draw_from, law, noise_shape, sample

FLEET = Instance()


def quiet(**changes):
    """A law without any randomness in its prices but for what is given."""
    return Instance(days=100, **{"price_level_sd": 0.0, "price_hour_sd": 0.0, "spike_probability": 0.0} | changes)


def factors(fleet, months=60, seed=1):
    """Prices over base prices, (months x days, 24)."""
    return (sample(fleet, months, seed).price / fleet.base_price).reshape(-1, 24)


@pytest.fixture(scope="module")
def month():
    return sample(FLEET, 40, 3)


# Shapes and streams


@pytest.mark.parametrize(
    ("change", "periods", "chances"),
    [
        ({}, 24, 24),
        ({"days": 7}, 24, 24),
        ({"periods_per_hour": 4}, 96, 96),
        ({"response": "population"}, 24, None),
        ({"spike_h": 5}, 24, 24),
    ],
)
def test_shapes(change, periods, chances):
    fleet = Instance(**change)
    if chances is None:
        days = [(weekend, share) for weekend in (False, True) for share in fleet.plug_shares]
        chances = max(fleet.network(*day).arcs for day in days)
    scenario, n, days = sample(fleet, 2, 1), 2, fleet.days
    assert scenario.first_day.shape == (n,)
    assert scenario.weekend.shape == scenario.plug.shape == (n, days)
    assert scenario.price.shape == (n, days, 24)
    assert scenario.ratio.shape == (n, days, periods)
    assert scenario.chance.shape == (n, days, chances)
    assert all(np.isfinite(part).all() for part in scenario)


def test_month_i_is_the_same_however_many_are_drawn(month):
    few = sample(FLEET, 3, 3)
    for one, many in zip(few, month, strict=True):
        np.testing.assert_array_equal(one, many[:3])
    assert (sample(FLEET, 3, 4).price != few.price).any()


def test_row_depends_on_its_generator_alone():
    together = draw_from(FLEET, [np.random.default_rng(seed) for seed in (5, 6, 7)])
    alone = draw_from(FLEET, [np.random.default_rng(6)])
    for one, row in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], row[1])


def test_months_and_days_differ(month):
    for part in (month.price, month.ratio, month.chance):
        assert len(np.unique(part)) == part.size


def test_sample_shares_no_stream_with_an_environment_of_the_same_seed():
    ours, environments = sample(FLEET, 1, 3), draw_from(FLEET, [np.random.default_rng(3)])
    assert not np.isin(ours.chance, environments.chance).any()


@pytest.mark.parametrize("edge", [0.0, np.nextafter(1.0, 0.0)])
def test_extreme_uniforms_are_in_range(edge):
    for response in ("model", "population"):
        fleet = Instance(response=response)
        width, normal_width = noise_shape(fleet)
        for normal in (-40.0, 0.0, 40.0):
            scenario = draw(fleet, np.full((2, width), edge), np.full((2, normal_width), normal))
            assert 0 <= scenario.first_day.min() <= scenario.first_day.max() <= 6
            assert 0 <= scenario.plug.min() <= scenario.plug.max() <= 2
            assert np.isfinite(scenario.price).all()
            assert (scenario.price > 0.0).all()
            assert (scenario.ratio > 0.0).all()


# Days


def test_weekend_is_every_sixth_and_seventh_day_of_a_week(month):
    for first, weekend in zip(month.first_day, month.weekend, strict=True):
        assert weekend.tolist() == [int((first + day) % 7 in (5, 6)) for day in range(30)]


def test_months_begin_on_every_day_of_the_week():
    first = sample(FLEET, 2000, 8).first_day
    for day in range(7):
        assert binomtest(int((first == day).sum()), 2000, 1 / 7).pvalue > 1e-4


@pytest.mark.parametrize("chances", [(1 / 3, 1 / 3, 1 / 3), (0.0, 0.7, 0.3), (0.2, 0.8, 0.0)])
def test_weather_has_its_probabilities(chances):
    plug = sample(Instance(days=100, plug_probabilities=chances), 50, 2).plug
    for k, p in enumerate(chances):
        assert binomtest(int((plug == k).sum()), plug.size, p).pvalue > 1e-4


# Prices


def test_prices_without_factors_are_the_base_prices():
    np.testing.assert_array_equal(factors(quiet(), 2), 1.0)


@pytest.mark.parametrize(
    "change",
    [{"price_level_sd": 0.4}, {"price_hour_sd": 0.25, "price_hour_memory": 0.7}, {"spike_probability": 0.04}, None],
    ids=["level", "hour", "spikes", "all"],
)
def test_every_hours_mean_price_is_the_base_price(change):
    found = factors(Instance(days=100) if change is None else quiet(**change), 200)
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - 1.0) < 4.5 * error).all()
    assert error.max() < 0.01


def test_level_is_one_factor_a_day_with_its_deviation():
    found = np.log(factors(quiet(price_level_sd=0.4)))
    np.testing.assert_allclose(found, found[:, :1].repeat(24, 1), atol=1e-12)
    level = found[:, 0]
    assert level.std() == pytest.approx(0.4, rel=0.04)
    assert abs(np.corrcoef(level[1:], level[:-1])[0, 1]) < 0.05


def test_hours_have_their_deviation_and_autocorrelation_within_a_day_only():
    found = np.log(factors(quiet(price_hour_sd=0.25, price_hour_memory=0.7))) / 0.25
    np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=0.05)
    for lag in (1, 2, 3):
        both = np.mean([np.corrcoef(found[:, h], found[:, h + lag])[0, 1] for h in range(24 - lag)])
        assert both == pytest.approx(0.7**lag, abs=0.03)
    assert abs(np.corrcoef(found[1:, 0], found[:-1, 23])[0, 1]) < 0.06


def test_spikes_last_their_hours_multiply_once_and_may_have_begun_before_midnight():
    fleet = quiet(spike_probability=0.04, spike_h=3, spike_factor=3.0)
    found = factors(fleet)
    low, high = np.unique(found.round(12))
    assert high / low == pytest.approx(3.0)
    spiking = found > 1.0
    often = 1.0 - 0.96**3
    for hour in (0, 1, 12, 23):
        assert binomtest(int(spiking[:, hour].sum()), len(spiking), often).pvalue > 1e-4
    text = ["".join("x" if s else "." for s in day) for day in spiking]
    assert any(day.startswith("x.") for day in text)  # begun two hours before midnight
    lengths = [len(run) for day in text for run in day.strip("x").split(".") if run]  # not cut by midnight
    assert min(lengths) == 3
    assert max(lengths) > 3


def test_ratio_follows_the_named_set():
    for name, deviation in (("pjm", 0.178), ("published", 0.055)):
        ratio = sample(Instance(signals=name), 30, 5).ratio
        assert ratio.mean() == pytest.approx(1.0, abs=5 * deviation / np.sqrt(ratio.size))
        assert ratio.std() == pytest.approx(deviation, rel=0.03)


# Bad input


def test_unknown_laws_and_bad_samples_are_refused():
    assert law("generator") == Law("generator", replay=False)
    for name in ("days:2019", "", None):
        with pytest.raises(InvalidInputError, match="law"):
            law(name)
    for arguments in ((0, 1), (1.5, 1), (1, -1), (1, 0.5), (True, 1)):
        with pytest.raises(InvalidInputError):
            sample(FLEET, *arguments)
