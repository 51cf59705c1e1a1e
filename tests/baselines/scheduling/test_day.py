"""Days as plans see them: each view shows what is known and no more, sets do their worst, bad data are refused."""

import numpy as np
import pytest

from baselines.scheduling.day import (
    SETS,
    Day,
    Protection,
    ahead_day,
    check_day,
    known_day,
    known_wind_day,
    typical_cars,
)
from baselines.scheduling.reference import worst_case
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import law, sample
from v2g_env.scheduling.weather import turbine_power

LOT = Instance(
    steps=6,
    step_h=1.0,
    aggregator_bus=(1, 2, 3),
    turbine_bus=(2, 3),
    line_from=(0, 1, 0),
    line_to=(1, 2, 3),
    line_limit_kw=(90.0, 60.0, 60.0),
    load_peak_kw=120.0,
    load_shares=(0.5, 0.3, 0.2),
    cars=3,
    gas_max_kw=200.0,
    turbine_kw=60.0,
    calibrated_usd=50.0,
)


def some_day(seed=0):
    rng = np.random.default_rng(seed)
    load = rng.uniform(10.0, 30.0, (LOT.steps, LOT.aggregators))
    wind = rng.uniform(5.0, 40.0, (LOT.steps, LOT.turbines))
    return Day(
        load,
        load * rng.uniform(0.0, 0.4, load.shape),
        wind,
        wind * rng.uniform(0.0, 0.5, wind.shape),
        np.array([0, 2, 4]),
        np.array([5, 6, 4]),
        np.array([6.0, 12.0, 8.0]),
        np.array([20.0, 18.0, 8.0]),
        80.0,
    )


def test_the_known_day_is_the_drawn_one_without_doubt():
    model = Model(LOT)
    drawn = sample(LOT, "generator", 3, 5)
    for row in range(3):
        seen = known_day(model, drawn, row)
        assert np.array_equal(seen.load_kw, drawn.load_kw[row, 1:])
        assert np.array_equal(seen.wind_kw, drawn.wind_kw[row, 1:])
        assert not seen.load_half_kw.any() and not seen.wind_half_kw.any()
        assert seen.gas_kw == model.initial(drawn).gas_kw[row]
        for mine, theirs in zip(seen.cars, drawn.cars, strict=True):
            assert np.array_equal(mine[0], theirs[row])
        assert all(np.array_equal(a, b) for a, b in zip(check_day(LOT, seen), seen, strict=True))


def test_with_known_wind_loads_are_intervals_that_hold_every_drawn_load():
    model = Model(LOT)
    drawn = sample(LOT, "two-point", 4, 5)
    for row in range(4):
        seen = known_wind_day(model, drawn, row)
        assert np.array_equal(seen.wind_kw, drawn.wind_kw[row, 1:]) and not seen.wind_half_kw.any()
        away = np.abs(drawn.load_kw[row, 1:] - seen.load_kw)
        assert np.allclose(away, seen.load_half_kw, atol=1e-9)  # two-point loads lie at the ends


def test_the_view_ahead_does_not_depend_on_the_loads_the_later_wind_news_or_the_cars_of_the_day():
    model = Model(LOT)
    drawn = sample(LOT, "generator", 2, 5)
    other = sample(LOT, "generator", 2, 6)
    news = drawn.news.copy()
    news[:, 1:] = other.news[:, 1:]
    changed = other._replace(forecast=drawn.forecast, news=news)
    one, two = ahead_day(model, drawn, 1), ahead_day(model, changed, 1)
    for name in set(Day._fields) - {"gas_kw"}:
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_the_wind_ahead_has_the_mean_and_spread_of_days_with_the_same_forecast():
    model = Model(LOT)
    days = sample(LOT, "generator", 4000, 1)
    lot = LOT
    seen = ahead_day(model, days, 0, wind_sd=1.0)
    fade = lot.wind_news_memory ** np.arange(1, lot.steps + 1)
    fresh = days.news[:, 1:] - fade[:, None] * days.news[:, :1]  # what the day brings, independent of the start
    latent = lot.forecast_quality * days.forecast[0, 1:] + np.sqrt(1.0 - lot.forecast_quality**2) * (
        fresh + fade[:, None] * days.news[0, :1]
    )
    wind = turbine_power(lot, lot.wind_scale[1:, None], latent)
    assert np.abs(wind.mean(axis=0) - seen.wind_kw).max() < 5.0 * wind.std(axis=0).max() / np.sqrt(len(wind))
    free = seen.wind_half_kw < seen.wind_kw  # elsewhere cut at the mean
    assert free.any()
    assert np.abs(wind.std(axis=0) - seen.wind_half_kw)[free].max() < 0.05 * wind.std(axis=0).max()


def test_wind_below_zero_is_never_feared():
    model = Model(LOT)
    drawn = sample(LOT, "generator", 1, 5)
    for times in (0.0, 1.0, 1e6):
        seen = ahead_day(model, drawn, 0, wind_sd=times)
        assert (seen.wind_half_kw >= 0.0).all() and (seen.wind_half_kw <= seen.wind_kw).all()
    assert np.array_equal(seen.wind_half_kw, seen.wind_kw)


def test_with_a_perfect_forecast_the_wind_ahead_is_the_wind():
    lot = LOT.replace(forecast_quality=1.0)
    drawn = sample(lot, "generator", 1, 5)
    seen = ahead_day(Model(lot), drawn, 0)
    assert np.allclose(seen.wind_kw, drawn.wind_kw[0, 1:], atol=1e-9)
    assert np.abs(seen.wind_half_kw).max() < 1e-9


def test_typical_cars_are_the_quantiles_of_the_law_and_the_same_every_time():
    lot = Instance()
    cars = typical_cars(lot)
    assert all(np.array_equal(a, b) for a, b in zip(cars, typical_cars(lot), strict=True))
    many = sample(lot, "generator", 200, 3)
    for mine, theirs in ((cars.arrive, many.arrive), (cars.depart, many.depart), (cars.start_kwh, many.start_kwh)):
        spread = np.quantile(theirs, (0.1, 0.5, 0.9))
        assert np.abs(np.quantile(mine, (0.1, 0.5, 0.9)) - spread).max() <= max(1.0, 0.05 * np.ptp(theirs))
    assert len(typical_cars(lot.replace(cars=0)).arrive) == 0
    assert np.array_equal(typical_cars(lot, law("generator")).arrive, cars.arrive)


BAD = {
    "load_kw": [np.ones((5, 3)), np.full((6, 3), np.nan), np.full((6, 3), -1.0), np.full((6, 3), 1e10), "text", None],
    "load_half_kw": [np.ones(6), np.full((6, 3), np.inf), np.full((6, 3), -1e-9)],
    "wind_kw": [np.ones((6, 3)), np.full((6, 2), np.nan), np.full((6, 2), -1.0)],
    "wind_half_kw": [np.ones((2, 6)), np.full((6, 2), -1.0)],
    "arrive": [np.array([0, 2]), np.array([-1, 2, 4]), np.array([0, 7, 4]), np.array([0, 2.5, 4]), np.array([0, 2, 5])],
    "depart": [np.array([5, 6, 7]), np.array([5, 6, 4.5]), np.array([5, 1, 4]), np.array([True, True, True])],
    "start_kwh": [np.array([4.7, 12.0, 8.0]), np.array([6.0, 23.0, 8.0]), np.array([6.0, np.nan, 8.0])],
    "target_kwh": [np.array([20.0, 23.0, 8.0]), np.array([-1.0, 18.0, 8.0]), np.array([20.0, 18.0])],
    "gas_kw": [-1.0, 200.1, np.nan, "80", None, True],
}


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_data_of_a_day_are_refused_by_name(field, value):
    with pytest.raises(InvalidInputError, match=field if field not in ("arrive",) else "arrive|depart") as caught:
        check_day(LOT, some_day()._replace(**{field: value}))
    assert "allowed:" in str(caught.value) and str(caught.value).count("\n") == 0


def test_a_target_out_of_reach_names_its_car():
    full = LOT.efficiency * LOT.charger_kw * LOT.step_h
    day = some_day()._replace(start_kwh=np.array([6.0, 12.0, 8.0]), target_kwh=np.array([20.0, 18.0, 8.0 + 1e-6]))
    with pytest.raises(InvalidInputError, match="target_kwh of car = 2; allowed: within reach until departure"):
        check_day(LOT, day)
    just = some_day()._replace(arrive=np.array([0, 4, 4]), start_kwh=np.array([6.0, 9.0, 8.0]))
    check_day(LOT, just._replace(target_kwh=np.array([20.0, 9.0 + 2.0 * full, 8.0])))


def test_energies_off_by_rounding_are_put_right():
    least, most = LOT.energy_range_kwh
    full = LOT.efficiency * LOT.charger_kw * LOT.step_h
    start = np.array([least - 9e-10, most + 9e-10, 9.0])
    target = np.array([6.0, most + 9e-10, 9.0 + full + 9e-10])
    day = some_day()._replace(
        start_kwh=start, target_kwh=target, arrive=np.array([0, 2, 5]), depart=np.array([5, 6, 6])
    )
    kept = check_day(LOT, day)
    assert kept.start_kwh.tolist() == [least, most, 9.0]
    assert kept.target_kwh.tolist() == [6.0, most, 9.0 + full]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Protection("sphere"), "kind of protection = 'sphere'"),
        (Protection("budget", -0.1), "alpha = -0.1"),
        (Protection("budget", 3.1), r"alpha = 3.1; allowed: a finite number in \[0, 3\]"),
        (Protection("budget", 5.1, wind=True), r"alpha = 5.1; allowed: a finite number in \[0, 5\]"),
        (Protection("budget", np.nan), "alpha = nan"),
        (Protection("ellipsoid", -1.0), "level = -1.0"),
        (Protection("ellipsoid", np.inf), "level = inf"),
        (Protection("box-ellipsoid", "1"), "level = '1'"),
        (Protection("budget", True), "alpha = True"),
        (Protection("box", 0.0, 1), "wind of protection = 1"),
    ],
)
def test_bad_protection_is_refused_by_name(given, text):
    with pytest.raises(InvalidInputError, match=text):
        given.check(LOT)


def test_the_budget_may_be_as_large_as_the_number_of_uncertain_entries():
    Protection("budget", 3.0).check(LOT)
    Protection("budget", 5.0, wind=True).check(LOT)


@pytest.mark.parametrize("wind", [False, True])
@pytest.mark.parametrize("kind", SETS)
def test_the_worst_of_every_set_is_what_a_solver_finds_from_its_definition(kind, wind):
    day = some_day(3)
    protection = Protection(kind, 1.6, wind)
    effect = np.random.default_rng(1).normal(size=(2, protection.entries(LOT)))
    found = protection.worst(day, effect)
    for step in (0, 4):
        half = protection.halfwidth(day)[step]
        expected = [worst_case(protection, row, half) for row in effect]
        assert found[step] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def flows(gas, load, wind):
    """Flow on every line of LOT when the wind is curtailed to what is needed: (n, lines), written for its tree."""
    available = wind.sum(axis=1)
    used = np.clip(load.sum(axis=1) - gas, 0.0, available)
    net = wind * np.divide(used, available, out=np.zeros_like(used), where=available > 0.0)[:, None]
    first = load[:, 0] + load[:, 1] - net[:, 0]
    return np.stack([first, load[:, 1] - net[:, 0], load[:, 2] - net[:, 1]], axis=1)


@pytest.mark.parametrize("wind", [False, True])
@pytest.mark.parametrize(("kind", "level"), [("box", 0.0), ("budget", 1.5), ("ellipsoid", 1.1), ("box-ellipsoid", 1.3)])
def test_no_deviation_of_the_set_moves_a_flow_by_more_than_the_line_spare(kind, level, wind):
    rng = np.random.default_rng(4)
    protection = Protection(kind, level, wind)
    for seed in range(20):
        day = some_day(seed)
        spare = protection.line_spare(LOT, day)
        lacking = protection.lacking(LOT, day)
        for step in range(LOT.steps):
            need = day.load_kw[step].sum() + lacking[step] - day.wind_kw[step].sum()
            gas = max(need, 0.0) + rng.choice([0.0, 5.0, 100.0])  # the balance holds whatever the set brings
            one = protection.of(protection.halfwidth(day)[step])
            points = np.concatenate([one.sample(rng, 200), one.sample(rng, 200, extreme=True)])
            load = day.load_kw[step] + points[:, : LOT.aggregators]
            blow = day.wind_kw[step] + (points[:, LOT.aggregators :] if wind else 0.0) + np.zeros((len(points), 2))
            if (load < 0.0).any() or (blow < 0.0).any():
                continue  # the ellipsoid exceeds its half-widths here and there
            moved = flows(gas, load, blow) - flows(gas, day.load_kw[step][None], day.wind_kw[step][None])
            assert (np.abs(moved) <= spare[step] + 1e-9).all()


def test_the_line_spare_is_reached_where_wind_settles_and_where_the_generator_spills():
    day = some_day(2)
    spare = Protection("box").line_spare(LOT, day)
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    for step in range(LOT.steps):
        load = day.load_kw[step] + corners * day.load_half_kw[step]
        wind = np.repeat(day.wind_kw[step][None], len(load), axis=0)
        low = load.sum(axis=1).min()
        reached = []
        for gas in (low, 1e3):  # all is settled by wind; all by spilling
            enough = np.full((1, 2), 1e3) * wind[:1] / wind[:1].sum()  # same shares, never short
            moved = flows(gas, load, 0.0 * wind + enough) - flows(gas, day.load_kw[step][None], enough)
            reached.append(np.abs(moved).max(axis=0))
        assert np.maximum(*reached) == pytest.approx(spare[step], abs=1e-9)
