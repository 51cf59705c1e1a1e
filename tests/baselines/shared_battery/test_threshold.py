"""The worst-case promise: random and adversarial days with full recharge, every one of them within the ratio."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.shared_battery.hindsight import fractional_bound, hindsight
from baselines.shared_battery.policies import FirstCome
from baselines.shared_battery.threshold import Threshold, competitive_ratio, density_range
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week, sample_weeks

ROUNDING = 1.0 + 1e-5  # what is seen in single precision is a value next to the true one


def day(drivers, days=1):
    return WeekModel(Instance(drivers=drivers, week_days=days, recharge_fraction=1.0))


def unit_usd(delta):
    """Money per battery and unit of density, such that values stay where observations tell them."""
    return 30.0 / delta


def weeks_of(model, share, density, delta):
    """Weeks (E, T) from sizes in shares of the battery, at most delta, and densities in units."""
    size = share * model.sizes.shared_kwh
    driver = np.tile(np.arange(model.instance.drivers), (len(size), model.instance.week_days))
    pad = ((0, 0), (0, 1))
    return Week(np.pad(driver, pad), np.pad(size, pad), np.pad(unit_usd(delta) * share * density, pad))


def used_up(model, week, low, high, delta):
    """Fractional optimum over what the rule earns, as a share of what is promised, (E,)."""
    unit = unit_usd(delta) / model.sizes.shared_kwh
    rule = Threshold(model, low * unit, high * unit, delta)
    assert rule.ratio == pytest.approx(competitive_ratio(low, high, delta), rel=1e-3)
    earned = rollout(model, week, rule).returns
    best = fractional_bound(model, week)
    return np.where(best > 1e-9, best / np.maximum(earned, 1e-12), 1.0) / rule.ratio


@given(
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([1.0, 2.0, 10.0, 100.0]),
    delta=st.sampled_from([0.02, 0.05, 0.1, 0.3]),
    kind=st.sampled_from(["any", "rising", "blocks", "last", "falling"]),
    days=st.sampled_from([1, 3]),
)
@settings(max_examples=120, deadline=None)
def test_no_day_is_worse_than_the_ratio(seed, spread, delta, kind, days):
    rng = np.random.default_rng(seed)
    model = day(60, days)
    shape = (30, 60 * days)
    share = delta * rng.choice([1.0, 0.999, 0.5, 0.1], shape) if seed % 2 else delta * rng.random(shape)
    density = np.exp(rng.uniform(0.0, np.log(spread) + 1e-12, shape))
    if kind == "rising":
        density = np.sort(density.reshape(30, days, 60), axis=2).reshape(shape)
    elif kind == "falling":
        density = -np.sort(-density.reshape(30, days, 60), axis=2).reshape(shape)
    elif kind == "blocks":  # much of every density, from the least up to some stop: what fools a threshold
        levels = np.exp(np.linspace(0.0, np.log(spread), 6))
        density = np.tile(np.repeat(levels, 10), (30, days))
        stop = rng.integers(1, 61, (30, 1))
        share = np.where(np.tile(np.arange(60), days) < stop, share, 0.0)
    elif kind == "last":
        density = np.where(np.tile(np.arange(60), days) < 50, 1.0, spread) * np.ones(shape)
    density = np.clip(density, 1.0, spread)
    week = weeks_of(model, share, density, delta)
    assert (used_up(model, week, 1.0, spread, delta) <= ROUNDING).all()


def test_the_adversary_of_the_proof_is_met_with_the_ratio_of_the_limit():
    # very small requests: a battery full of every density, in rising order, up to any stop
    delta, spread, count = 0.01, 20.0, 101
    levels = np.exp(np.linspace(0.0, np.log(spread), 25))
    model = day(25 * count)
    stops = count * np.arange(1, 26)
    share = np.where(np.arange(25 * count) < stops[:, None], delta, 0.0)
    density = np.tile(np.repeat(levels, count), (25, 1))
    worst = used_up(model, weeks_of(model, share, density, delta), 1.0, spread, delta)
    assert (worst <= ROUNDING).all()
    assert worst.max() > 0.85  # the promise is nearly used up
    assert competitive_ratio(1.0, spread, delta) < 1.1 * (1.0 + np.log(spread))


def test_the_published_rule_is_caught_by_large_requests_where_the_stretched_one_keeps_its_promise():
    # small requests that it just takes, until the best ones, of size delta, do not fit any more
    delta, spread, small = 0.02, 100.0, 0.002
    rate = 1.0 + np.log(spread)
    filling = int((1.0 - delta) / small) + 1
    rising = np.maximum(1.0, 1.001 * np.exp(rate * small * np.arange(filling) - 1.0))
    share = np.concatenate([np.full(filling, small), np.full(50, delta)])[None]
    density = np.concatenate([np.minimum(rising, spread), np.full(50, spread)])[None]
    model = day(share.shape[1])
    week = weeks_of(model, share, density, delta)
    assert used_up(model, week, 1.0, spread, delta)[0] <= ROUNDING
    unit = unit_usd(delta) / model.sizes.shared_kwh
    plain = rollout(model, week, Threshold(model, unit, spread * unit)).returns[0]
    assert fractional_bound(model, week)[0] / plain > competitive_ratio(1.0, spread, delta)


def test_first_come_breaks_the_promise_that_the_threshold_keeps():
    model = day(20)
    share = np.full((1, 20), 0.1)
    density = np.where(np.arange(20) < 10, 1.0, 100.0)[None]
    week = weeks_of(model, share, density, 0.1)
    promised = competitive_ratio(1.0, 100.0, 0.1)
    best = hindsight(model, week).bound_usd[0]
    assert best / rollout(model, week, FirstCome(model)).returns[0] > 99.0 > promised
    assert used_up(model, week, 1.0, 100.0, 0.1)[0] <= 1.0


def test_the_ratio_tends_to_the_published_one():
    for spread in (1.0, 5.0, 50.0):
        limit = 1.0 + np.log(spread)
        every = [competitive_ratio(1.0, spread, delta) for delta in (0.2, 0.1, 0.01, 0.001, 0.0)]
        assert every == sorted(every, reverse=True)
        assert every[-1] == pytest.approx(limit)
        assert every[-2] == pytest.approx(limit, rel=0.01)
    assert competitive_ratio(1.0, 1.0, 0.0) == 1.0
    assert np.isinf(competitive_ratio(1.0, 1e9, 1.0 - 1e-9))


def test_the_price_is_the_published_one():
    rule = Threshold(day(5), 2.0, 40.0)
    used = np.linspace(0.0, 1.0, 11)
    published = (40.0 * np.e / 2.0) ** used * 2.0 / np.e
    np.testing.assert_allclose(rule.price(used), np.maximum(published, 2.0), rtol=1e-4)
    assert rule.price(np.array([1.0]))[0] == pytest.approx(40.0, rel=1e-4)
    tight = Threshold(day(5), 2.0, 40.0, 0.25)
    assert tight.price(np.array([0.75]))[0] == pytest.approx(40.0, rel=1e-3)
    assert (tight.price(used) >= rule.price(used)).all()


@pytest.mark.parametrize("values", ["lognormal", "density", "equal"])
def test_the_range_of_densities_holds_the_stated_share_of_requests(values):
    lot = Instance(values=values)
    model = WeekModel(lot)
    week = sample_weeks(lot, "generator", 300, 2)
    asked = week.size_kwh > 0.0
    density = week.value_usd[asked] / week.size_kwh[asked]
    low, high = density_range(model, 0.05)
    error = 5.0 * np.sqrt(0.05 / len(density))
    assert abs((density < low).mean() - 0.05) < error
    assert abs((density > high).mean() - 0.05) < error
    low, high = density_range(model, 0.0)
    assert low <= density.min() * (1.0 + 1e-9)
    if values == "density":
        assert high >= density.max() * (1.0 - 1e-9)
        assert high / low == pytest.approx(np.exp(6.0 * lot.value_sd), rel=1e-6)


def test_in_the_coupled_week_it_is_a_heuristic_below_the_bound():
    lot = Instance()
    model = WeekModel(lot)
    week = sample_weeks(lot, "generator", 50, 2)
    each = rollout(model, week, Threshold(model, *density_range(model))).returns
    assert (each <= hindsight(model, week).bound_usd).all()
    assert each.mean() > rollout(model, week, FirstCome(model)).returns.mean()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda m: Threshold(m, 0.0, 1.0), "low"),
        (lambda m: Threshold(m, 2.0, 1.0), "high"),
        (lambda m: Threshold(m, 1.0, 2.0, 1.0), "delta"),
        (lambda m: density_range(m, 0.5), "tail"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, named):
    with pytest.raises(InvalidInputError, match=named):
        make(day(5))
