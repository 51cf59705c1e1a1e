"""Days: laws of the loads' deviations, streams and prefixes, names, and what a day without V2G costs."""

import numpy as np
import pytest
from scipy import stats

from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import (
    DEVIATIONS,
    Law,
    Scenario,
    deviations,
    draw,
    gas_scale,
    law,
    rows_of,
    sample,
)

DEFAULT = Instance()
BOUNDED = ("uniform", "two-point", "triangular")
LAWS = {
    "uniform": stats.uniform(-1.0, 2.0),
    "triangular": stats.triang(0.5, -1.0, 2.0),
    "normal": stats.norm(),
    "skewed": stats.expon(-1.0),
    "heavy-tailed": stats.t(3.0, scale=1.0 / np.sqrt(3.0)),
}


@pytest.fixture(scope="module")
def days():
    return sample(DEFAULT, "generator", 50, 3)


# Deviations


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_deviations_have_mean_zero_and_their_law(kind):
    x = deviations(kind, np.random.default_rng(0).random(200_000))
    sd = x.std()
    assert abs(x.mean()) < 4.0 * sd / np.sqrt(x.size)
    if kind in BOUNDED:
        assert np.abs(x).max() <= 1.0
        assert np.abs(x).max() > 0.99
        assert sd == pytest.approx({"uniform": 3**-0.5, "two-point": 1.0, "triangular": 6**-0.5}[kind], rel=0.01)
    else:
        assert sd == pytest.approx(1.0, rel=0.05)
        assert np.abs(x).max() > 3.0
    if kind == "two-point":
        assert set(np.unique(x).tolist()) == {-1.0, 1.0}
        assert np.mean(x > 0.0) == pytest.approx(0.5, abs=0.005)
    else:
        assert stats.kstest(x[:20_000], LAWS[kind].cdf).pvalue > 1e-3


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_deviations_grow_with_their_uniforms_and_are_finite_at_the_ends(kind):
    u = np.concatenate([[0.0], np.linspace(0.001, 0.999, 99), [1.0]])
    x = deviations(kind, u.reshape(1, -1))
    assert x.shape == (1, 101)
    assert np.isfinite(x).all()
    assert (np.diff(x[0]) >= 0.0).all()
    if kind != "skewed":
        np.testing.assert_allclose(x[0], -x[0, ::-1] if kind != "two-point" else x[0], atol=1e-3 * np.abs(x).max())


# Laws and their names


@pytest.mark.parametrize("name", ["generator", *DEVIATIONS[1:]])
def test_names_of_generated_days(name):
    source = law(name)
    assert source.name == name
    assert source.deviation == ("uniform" if name == "generator" else name)
    assert source.sessions is None


def test_name_of_recorded_days():
    source = law("sessions:jpl-2019/fit")
    assert source.name == "sessions:jpl-2019/fit"
    assert source.deviation == "uniform"
    assert source.sessions.shape[1] == 3


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("uniform", "law = 'uniform'; allowed: generator, two-point"),
        ("Generator", "law = 'Generator'"),
        ("", "law = ''"),
        ("sessions", "law = 'sessions'"),
        ("sessions:nowhere", "'nowhere'.*jpl-2019/fit"),
        ("sessions:", "''.*jpl-2019/fit"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(name, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        law(name)


@pytest.mark.parametrize("kind", ["", "Uniform", "sessions", "generator"])
def test_unknown_deviation_is_refused(kind):
    with pytest.raises(InvalidInputError, match="deviation = .*uniform, two-point"):
        Law(deviation=kind)


# Days


def test_day_has_the_documented_shapes(days):
    assert days.load_kw.shape == (50, 97, 6)
    assert days.wind_kw.shape == days.forecast.shape == days.news.shape == (50, 97, 4)
    assert all(part.shape == (50, 100) for part in days.cars)
    assert days.cars.arrive is days.arrive


def test_loads_lie_in_their_prediction_intervals(days):
    load, mean = days.load_kw[:, 1:], DEFAULT.load_mean_kw
    assert (np.abs(load - mean) <= 0.055 * mean + 1e-9).all()
    assert (np.abs(load - mean) / mean).max() > 0.054
    np.testing.assert_allclose(load.mean(axis=(0, 1)), mean.mean(axis=0), rtol=0.01)
    np.testing.assert_array_equal(days.load_kw[:, 0], np.tile(mean[0], (50, 1)))


def test_loads_of_aggregators_and_steps_are_independent():
    noise = sample(DEFAULT, "normal", 300, 1).load_kw[:, 1:] / DEFAULT.load_mean_kw - 1.0
    noise /= 0.055
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    flat = noise.reshape(-1, 6)
    off = np.corrcoef(flat.T)[~np.eye(6, dtype=bool)]
    assert np.abs(off).max() < 5.0 / np.sqrt(len(flat))
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 5.0 / np.sqrt(noise.size)


def test_loads_are_never_negative():
    load = sample(DEFAULT.replace(load_deviation=1.0), "heavy-tailed", 50, 1).load_kw
    assert load.min() == 0.0


def test_wind_is_what_the_turbines_give_in_their_latent_state(days):
    lot = DEFAULT
    z = 0.9 * days.forecast + np.sqrt(0.19) * days.news
    speed = lot.wind_scale[:, None] * np.sqrt(-stats.norm.logsf(z))
    share = np.clip((speed**3 - 27.0) / (1728.0 - 27.0), 0.0, 1.0)
    np.testing.assert_allclose(days.wind_kw, np.where(speed < 25.0, 175.0 * share, 0.0), atol=1e-6)


def test_known_wind_is_its_forecast():
    lot = DEFAULT.replace(forecast_quality=1.0)
    a = sample(lot, "generator", 3, 5)
    speed = lot.wind_scale[:, None] * np.sqrt(-stats.norm.logsf(a.forecast))
    share = np.clip((speed**3 - 27.0) / 1701.0, 0.0, 1.0)
    np.testing.assert_allclose(a.wind_kw, np.where(speed < 25.0, 175.0 * share, 0.0), atol=1e-6)


def test_laws_differ_in_loads_and_sessions_only():
    plain, other = (sample(DEFAULT, name, 3, 1) for name in ("generator", "heavy-tailed"))
    for name in ("wind_kw", "forecast", "news", "arrive", "depart", "start_kwh", "target_kwh"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))
    assert (plain.load_kw[:, 1:] != other.load_kw[:, 1:]).all()
    recorded = sample(DEFAULT, "sessions:jpl-2019/fit", 3, 1)
    for name in ("load_kw", "wind_kw", "forecast", "news"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(recorded, name))
    assert (plain.arrive != recorded.arrive).any()


# Streams


@pytest.mark.parametrize("source", ["generator", "skewed", "sessions:jpl-2019/fit", Law("mine", "triangular")])
def test_day_i_is_the_same_however_many_are_drawn(source):
    many, few = sample(DEFAULT, source, 9, 4), sample(DEFAULT, source, 3, 4)
    for a, b in zip(many, few, strict=True):
        np.testing.assert_array_equal(a[:3], b)
    for a, b in zip(rows_of(many, slice(0, 3)), few, strict=True):
        np.testing.assert_array_equal(a, b)


def test_days_and_seeds_differ():
    a, b = sample(DEFAULT, "generator", 2, 4), sample(DEFAULT, "generator", 2, 5)
    for part in ("load_kw", "news", "forecast", "start_kwh"):
        one, other = getattr(a, part), getattr(b, part)
        assert (one[0] != one[1]).any()
        assert (one != other).any()


def test_row_depends_on_its_own_generator_alone():
    streams = [np.random.default_rng(k) for k in (1, 2, 3)]
    together = draw(DEFAULT, law("generator"), streams)
    for i, k in enumerate((1, 2, 3)):
        alone = draw(DEFAULT, law("generator"), [np.random.default_rng(k)])
        for a, b in zip(rows_of(together, np.array([i])), alone, strict=True):
            np.testing.assert_array_equal(a, b)


def test_samples_share_no_day_with_environments_seeded_by_integers():
    found = sample(DEFAULT, "generator", 20, 7).start_kwh[:, 0]
    seeded = draw(DEFAULT, law("generator"), [np.random.default_rng(k) for k in range(200)]).start_kwh[:, 0]
    assert not set(found.tolist()) & set(seeded.tolist())


def test_rows_of_days(days):
    picked = rows_of(days, np.array([4, 4, 0]))
    assert isinstance(picked, Scenario)
    np.testing.assert_array_equal(picked.load_kw, days.load_kw[[4, 4, 0]])
    np.testing.assert_array_equal(picked.depart, days.depart[[4, 4, 0]])


@pytest.mark.parametrize(
    ("n", "seed", "field"),
    [(0, 1, "n_samples"), (-3, 1, "n_samples"), (2.0, 1, "n_samples"), (2, -1, "seed"), (2, 0.5, "seed")],
)
def test_bad_sample_is_refused(n, seed, field):
    with pytest.raises(InvalidInputError, match=field):
        sample(DEFAULT, "generator", n, seed)


# Calibration


def mean_cost_without_v2g(lot, k):
    """Mean over the calibration's days: greedy charging car by car, cost by np.interp of the article's formula."""
    days = sample(lot, "generator", 200, 0)
    total = 0.0
    for i in range(200):
        need = days.load_kw[i, 1:].sum(axis=1)
        for j in range(lot.cars):
            left = max(days.target_kwh[i, j] - days.start_kwh[i, j], 0.0) / lot.efficiency
            for t in range(days.arrive[i, j], days.depart[i, j]):
                power = min(lot.charger_kw, left / lot.step_h)
                need[t] += power
                left -= power * lot.step_h
        wind = days.wind_kw[i, 1:].sum(axis=1)
        gas = np.clip(need - wind, 0.0, lot.gas_max_kw)
        ends = np.linspace(0.0, lot.gas_max_kw, lot.gas_segments + 1)
        hourly = k * np.interp(gas, ends, lot.gas_linear * ends + lot.gas_quadratic * ends**2)
        total += lot.step_h * (hourly + lot.wind_usd_per_kwh * np.minimum(need, wind)).sum()
    return total / 200.0


@pytest.mark.parametrize(
    "changes",
    [
        {"cars": 12},
        {"cars": 0, "calibrated_usd": 700.0},
        {"cars": 6, "step_h": 0.5, "steps": 48, "gas_segments": 3, "turbine_bus": (1,), "wind_usd_per_kwh": 0.1},
        {"cars": 5, "turbine_bus": (), "gas_max_kw": 300.0},
    ],
)
def test_day_without_v2g_costs_the_calibrated_sum_on_average(changes):
    lot = Instance(**changes)
    assert mean_cost_without_v2g(lot, gas_scale(lot)) == pytest.approx(lot.calibrated_usd, rel=1e-9)


def test_many_cars_are_calibrated_in_parts_with_the_same_result():
    """More than 100 cars are charged in several blocks of days; twice the cars need twice the energy."""
    lot = Instance(cars=300, turbine_bus=(), gas_quadratic=0.0, gas_max_kw=1e5, calibrated_usd=1000.0)
    days = sample(lot, "generator", 200, 0)
    charged = (np.maximum(days.target_kwh - days.start_kwh, 0.0) / lot.efficiency).sum(axis=1)
    energy = (days.load_kw[:, 1:].sum(axis=(1, 2)) * lot.step_h + charged).mean()
    assert gas_scale(lot) == pytest.approx(1000.0 / (0.1 * energy), rel=1e-9)


def test_calibration_that_cannot_be_is_refused():
    with pytest.raises(InvalidInputError, match="calibrated_usd = 1.*above the turbines' maintenance"):
        gas_scale(Instance(cars=0, calibrated_usd=1.0))
    calm = {"cars": 0, "load_peak_kw": 1e-3, "wind_scale_m_s": 9.0, "wind_memory": 0.0, "cut_in_m_s": 0.0}
    with pytest.raises(InvalidInputError, match="cost of the generator without V2G = 0.*positive"):
        gas_scale(Instance(**calm, turbine_kw=1e6, cut_out_m_s=1000.0))
