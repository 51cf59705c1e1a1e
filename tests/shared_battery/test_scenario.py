"""Draws of days, seasons and weeks: who depends on what, and the laws they follow."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import chisquare, kstest, norm

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.core.allocation import ORDERED, RULES
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import VALUES, Instance
from v2g_env.shared_battery.needs import Needs, from_days
from v2g_env.shared_battery.scenario import (
    Law,
    draw_seasons,
    draw_weeks,
    fitting,
    law,
    law_of,
    sample_days,
    sample_seasons,
    sample_weeks,
    week_sizes,
)

LOT = Instance(drivers=3, season_days=5, week_days=9, rule="first_come")
EVEN = (1.0,) * 7


def generators(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def uniforms_of(instance, need):
    """The uniforms (m, n) that needs (m, n) came from."""
    return fitting(instance, "generator").needs.distribution(need.T).T


def assert_equal(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


# Laws


def test_law_is_found_by_name_once():
    assert law(LOT) is law(Instance.from_dict(LOT.to_dict()))
    assert law(LOT).name == "generator"
    for name in ("", "Generator", "days", "log:x", "generator:2001"):
        with pytest.raises(InvalidInputError, match="law = .*; allowed: generator"):
            law(LOT, name)


def test_law_of_own_histograms_bears_their_name():
    needs = from_days([[1.0, 2.0]], 2.0, "garage")
    found = law_of(needs)
    assert found == Law("log:garage", needs)
    assert not found.replay


@pytest.mark.parametrize("drivers", [1, 2, 4, 25])
def test_law_of_another_number_of_drivers_is_refused(drivers):
    found = law(Instance(drivers=drivers))
    for use in (
        lambda: fitting(LOT, found),
        lambda: sample_days(LOT, found, 2, 1),
        lambda: sample_seasons(LOT, found, 2, 1),
        lambda: sample_weeks(LOT, found, 2, 1),
    ):
        with pytest.raises(InvalidInputError, match=f"drivers of the law = {drivers}; allowed: .*3"):
            use()
    assert fitting(LOT, law(LOT)) is law(LOT)


# Days


@pytest.mark.parametrize("few", [1, 2, 100, 4095, 4096, 4097, 8192])
def test_first_days_are_the_same_however_many_are_drawn(few):
    """Days are drawn in blocks of 4096."""
    many = sample_days(LOT, "generator", 8200, 1).need_kwh
    got = sample_days(LOT, "generator", few, 1).need_kwh
    assert got.shape == (few, 3)
    np.testing.assert_array_equal(got, many[:few])


def test_days_are_reproducible_and_repeat_nothing():
    a, b = (sample_days(LOT, "generator", 5000, 7) for _ in range(2))
    assert a.sha256 == b.sha256
    assert len(np.unique(a.need_kwh)) == a.need_kwh.size
    assert a.sha256 != sample_days(LOT, "generator", 4999, 7).sha256
    changed = a.need_kwh.copy()
    changed[4999, 2] = np.nextafter(changed[4999, 2], 1e9)
    assert a._replace(need_kwh=changed).sha256 != a.sha256


def test_seeds_and_streams_are_independent():
    draws = [(seed, stream) for seed in (0, 1, 2) for stream in (0, 1, 2, 100)]
    first = np.array([uniforms_of(LOT, sample_days(LOT, "generator", 1000, *pair).need_kwh).ravel() for pair in draws])
    correlation = np.corrcoef(first)[np.triu_indices(len(draws), 1)]
    assert np.abs(correlation).max() < 4.5 / math.sqrt(3000)


def test_days_follow_the_law_of_every_driver_and_are_independent():
    u = uniforms_of(LOT, sample_days(LOT, "generator", 20_000, 3).need_kwh)
    for i in range(3):
        assert kstest(u[:, i], "uniform").pvalue > 1e-3
    scores = ndtri(u)
    assert np.abs(np.corrcoef(scores.T)[np.triu_indices(3, 1)]).max() < 4.0 / math.sqrt(20_000)
    assert abs(np.corrcoef(scores[1:, 0], scores[:-1, 0])[0, 1]) < 4.0 / math.sqrt(20_000)


def test_common_shock_couples_the_drivers_of_a_day_and_no_two_days():
    lot = LOT.replace(correlation=0.4)
    u = uniforms_of(lot, sample_days(lot, "generator", 20_000, 3).need_kwh)
    scores = ndtri(u)
    for i in range(3):
        assert kstest(u[:, i], "uniform").pvalue > 1e-3
    np.testing.assert_allclose(np.corrcoef(scores.T)[np.triu_indices(3, 1)], 0.4, atol=0.03)
    assert abs(np.corrcoef(scores[1:, 0], scores[:-1, 1])[0, 1]) < 4.0 / math.sqrt(20_000)


def test_common_shock_is_common_in_seasons_and_weeks_too():
    lot = LOT.replace(correlation=0.4, own_quantile=0.0, weekday_factors=EVEN)
    season = sample_seasons(lot, "generator", 2000, 3).need_kwh
    week = sample_weeks(lot, "generator", 1000, 3)
    size = week.size_kwh[:, :-1].reshape(1000, 9, 3)
    back = np.argsort(week.driver[:, :-1].reshape(1000, 9, 3), axis=2)
    for need in (season, np.take_along_axis(size, back, axis=2)):
        days = need.shape[1]
        scores = ndtri(uniforms_of(lot, need.reshape(-1, 3))).reshape(-1, days, 3)
        together = np.corrcoef(scores.reshape(-1, 3).T)[np.triu_indices(3, 1)]
        np.testing.assert_allclose(together, 0.4, atol=0.04)
        assert abs(np.corrcoef(scores[:, 0, 0], scores[:, 1, 1])[0, 1]) < 4.0 / math.sqrt(len(scores))


def test_idle_days_are_days_without_need():
    lot = LOT.replace(idle=0.3)
    need = sample_days(lot, "generator", 10_000, 1).need_kwh
    np.testing.assert_allclose((need == 0.0).mean(axis=0), 0.3, atol=4.0 * math.sqrt(0.21 / 10_000))


def test_recorded_days_are_sampled_from_their_histograms():
    found = law_of(Needs("two", 10.0, np.array([0.5, 0.0]), np.array([[0.0, 0.5], [1.0, 0.0]])))
    need = sample_days(Instance(drivers=2), found, 4000, 1).need_kwh
    assert (need[:, 0] == 0.0).mean() == pytest.approx(0.5, abs=0.03)
    assert need[need[:, 0] > 0.0, 0].min() >= 10.0
    assert kstest(need[:, 1] / 10.0, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("n", "seed", "stream"),
    [(0, 1, 0), (1.5, 1, 0), (True, 1, 0), (1, -1, 0), (1, 0.5, 0), (1, 1, -1), (1, 1, 1001), (1, 1, 0.0)],
)
def test_bad_sample_of_days_is_refused(n, seed, stream):
    with pytest.raises(InvalidInputError, match="n_samples|seed|stream"):
        sample_days(LOT, "generator", n, seed, stream)


@pytest.mark.parametrize("sample", [sample_seasons, sample_weeks])
@pytest.mark.parametrize(("n", "seed"), [(0, 1), (1.5, 1), (True, 1), (1, -1), (1, 0.5), (1, None)])
def test_bad_sample_of_seasons_or_weeks_is_refused(sample, n, seed):
    with pytest.raises(InvalidInputError, match="n_samples|seed"):
        sample(LOT, "generator", n, seed)


# Seasons and weeks: who depends on what


@pytest.mark.parametrize("rule", RULES)
def test_season_does_not_depend_on_the_others_of_its_batch(rule):
    lot = LOT.replace(rule=rule)
    many = draw_seasons(lot, law(lot), generators(4, 5, 6, 7))
    for i, seed in enumerate((4, 5, 6, 7)):
        assert_equal(draw_seasons(lot, law(lot), generators(seed)), [part[i : i + 1] for part in many])
    few, more = (sample_seasons(lot, "generator", n, 9) for n in (2, 5))
    assert_equal(few, [part[:2] for part in more])


@pytest.mark.parametrize("values", VALUES)
def test_week_does_not_depend_on_the_others_of_its_batch(values):
    lot = LOT.replace(values=values)
    many = draw_weeks(lot, law(lot), generators(4, 5, 6, 7))
    for i, seed in enumerate((4, 5, 6, 7)):
        assert_equal(draw_weeks(lot, law(lot), generators(seed)), [part[i : i + 1] for part in many])
    few, more = (sample_weeks(lot, "generator", n, 9) for n in (2, 5))
    assert_equal(few, [part[:2] for part in more])


def test_one_generator_gives_season_after_season():
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    first, second = (draw_seasons(LOT, law(LOT), [a]) for _ in range(2))
    both = draw_seasons(LOT, law(LOT), [b])
    assert_equal(first, both)
    assert (first.need_kwh != second.need_kwh).all()


def test_seasons_and_weeks_of_different_seeds_have_nothing_in_common():
    needs = [sample_seasons(LOT, "generator", 20, seed).need_kwh for seed in range(4)]
    sizes = [sample_weeks(LOT.replace(own_quantile=0.0), "generator", 20, seed).size_kwh[:, :-1] for seed in range(4)]
    for parts in (needs, sizes):
        assert len(np.unique(np.stack(parts))) == 4 * parts[0].size


@pytest.mark.parametrize("seed", [0, 5, 2**40])
def test_no_sample_shares_its_stream_with_an_environment_of_the_same_seed(seed):
    """A policy trained in environments seeded 0, 1, ... must not meet its training days in a test sample."""
    drawn = draw_seasons(LOT, law(LOT), generators(seed))
    env = gymnasium.make("V2G/SharedBatterySizing-v0", instance=LOT).unwrapped
    env.reset(seed=seed)
    trained = env.get_state()["scenario"].need_kwh
    np.testing.assert_array_equal(trained, drawn.need_kwh)
    for n in (1, 3):
        tested = [sample_seasons(LOT, "generator", n, seed).need_kwh, sample_days(LOT, "generator", 5, seed).need_kwh]
        tested += [sample_days(LOT, "generator", 5, seed, stream).need_kwh for stream in (1, 100)]
        for need in tested:
            assert not np.isin(need, trained).any()


def test_needs_of_a_season_follow_the_law():
    need = sample_seasons(LOT.replace(season_days=100), "generator", 60, 2).need_kwh
    u = uniforms_of(LOT, need.reshape(-1, 3))
    for i in range(3):
        assert kstest(u[:, i], "uniform").pvalue > 1e-3


def test_rules_without_order_meet_the_same_season_and_carry_no_order():
    seasons = [draw_seasons(LOT.replace(rule=rule), law(LOT), generators(3)) for rule in RULES if rule not in ORDERED]
    for season in seasons:
        np.testing.assert_array_equal(season.need_kwh, seasons[0].need_kwh)
        assert season.order.shape == (1, 1, 3)
        assert not season.order.any()
    ordered = [draw_seasons(LOT.replace(rule=rule), law(LOT), generators(3)) for rule in ORDERED]
    assert_equal(*ordered)


# Orders


def uniform_permutations(orders):
    """p-value of the counts of all permutations of three."""
    counts = [int((orders == order).all(axis=1).sum()) for order in itertools.permutations(range(3))]
    assert sum(counts) == len(orders)
    return chisquare(counts).pvalue


def test_order_of_a_season_is_a_new_uniform_permutation_every_day():
    order = sample_seasons(LOT, "generator", 1200, 4).order
    assert order.shape == (1200, 5, 3)
    assert uniform_permutations(order.reshape(-1, 3)) > 1e-3
    assert uniform_permutations(order[:, 2]) > 1e-3
    same = (order[:, 0] == order[:, 1]).all(axis=1).mean()
    assert same == pytest.approx(1 / 6, abs=4.0 * math.sqrt(5 / 36 / 1200))


def test_order_of_a_week_is_a_new_uniform_permutation_every_day_whatever_is_needed():
    lot = LOT.replace(own_quantile=0.0)
    week = sample_weeks(lot, "generator", 700, 4)
    order, size = (part[:, :-1].reshape(-1, 3) for part in (week.driver, week.size_kwh))
    assert uniform_permutations(order) > 1e-3
    large = size.sum(axis=1) > np.median(size.sum(axis=1))
    assert uniform_permutations(order[large]) > 1e-3


# Weeks


def test_week_has_the_stated_shape_and_ends_with_zeros():
    week = sample_weeks(LOT, "generator", 4, 1)
    for part in week:
        assert part.shape == (4, 28)
        assert not part[:, -1].any()
    np.testing.assert_array_equal(
        np.sort(week.driver[:, :-1].reshape(4, 9, 3), axis=2), np.tile(np.arange(3), (4, 9, 1))
    )
    assert ((week.size_kwh > 0.0) == (week.value_usd > 0.0)).all()
    assert (week.size_kwh >= 0.0).all()


def test_weekday_factors_multiply_the_needs_from_monday_on_week_after_week():
    factors = (1.0, 2.0, 0.5, 3.0, 1.5, 4.0, 0.25)
    plain = LOT.replace(own_quantile=0.0, weekday_factors=EVEN, week_days=16)
    a = draw_weeks(plain, law(plain), generators(1, 2))
    b = draw_weeks(plain.replace(weekday_factors=factors), law(plain), generators(1, 2))
    ratio = (b.size_kwh / np.where(a.size_kwh > 0.0, a.size_kwh, 1.0))[:, :-1].reshape(2, 16, 3)
    want = np.array((factors * 3)[:16])
    np.testing.assert_allclose(ratio, np.broadcast_to(want[None, :, None], ratio.shape), rtol=1e-12)
    np.testing.assert_array_equal(a.driver, b.driver)


def test_size_is_what_the_need_exceeds_the_own_battery_by():
    base, lot = (LOT.replace(own_quantile=q, weekday_factors=EVEN) for q in (0.0, 0.6))
    need, asked = (draw_weeks(one, law(one), generators(1, 2, 3)) for one in (base, lot))
    own = law(lot).needs.quantile(0.6)
    want = np.maximum(need.size_kwh - own[need.driver], 0.0)
    want[:, -1] = 0.0
    np.testing.assert_allclose(asked.size_kwh, want, rtol=1e-12)
    many = sample_weeks(lot, "generator", 400, 1).size_kwh[:, :-1]
    assert (many > 0.0).mean() == pytest.approx(0.4, abs=4.0 * math.sqrt(0.24 / many.size))


def test_longer_week_draws_other_numbers_but_every_day_keeps_its_law():
    lot = LOT.replace(own_quantile=0.0, weekday_factors=EVEN, week_days=2)
    week = sample_weeks(lot, "generator", 3000, 1)
    for day in range(2):
        columns = slice(3 * day, 3 * day + 3)
        back = np.argsort(week.driver[:, columns], axis=1)
        u = uniforms_of(lot, np.take_along_axis(week.size_kwh[:, columns], back, axis=1))
        for i in range(3):
            assert kstest(u[:, i], "uniform").pvalue > 1e-3


def requests(lot, n=1500, seed=6):
    week = sample_weeks(lot, "generator", n, seed)
    asked = week.size_kwh > 0.0
    return week.size_kwh[asked], week.value_usd[asked]


@pytest.mark.parametrize("values", ["lognormal", "density"])
def test_logarithms_of_values_are_normal_and_cut_at_three_deviations(values):
    lot = LOT.replace(values=values, value_usd=20.0, value_sd=0.5, weekday_factors=EVEN)
    size, value = requests(lot)
    unit = 20.0 if values == "lognormal" else 20.0 * size / week_sizes(lot, law(lot)).mean_size_kwh
    z = np.log(value / unit) / 0.5
    assert np.abs(z).max() == pytest.approx(3.0)
    assert kstest(z[np.abs(z) < 2.999], lambda x: (norm.cdf(x) - norm.cdf(-3)) / (1 - 2 * norm.cdf(-3))).pvalue > 1e-3
    assert abs(np.corrcoef(z, size)[0, 1]) < 4.0 / math.sqrt(len(z))


def test_equal_values_are_equal():
    size, value = requests(LOT.replace(values="equal", value_usd=7.0))
    assert len(size) > 1000
    assert (value == 7.0).all()


def test_without_spread_values_are_the_median_or_in_proportion_to_the_size():
    size, value = requests(LOT.replace(values="lognormal", value_sd=0.0, value_usd=7.0))
    np.testing.assert_allclose(value, 7.0, rtol=1e-12)
    lot = LOT.replace(values="density", value_sd=0.0, value_usd=7.0)
    size, value = requests(lot)
    np.testing.assert_allclose(value / size, 7.0 / week_sizes(lot, law(lot)).mean_size_kwh, rtol=1e-12)


def test_kind_of_value_changes_neither_who_comes_nor_what_he_asks_for():
    weeks = [draw_weeks(LOT.replace(values=kind), law(LOT), generators(1, 2)) for kind in VALUES]
    for week in weeks:
        assert_equal(week[:2], weeks[0][:2])


# Sizes in the week


def test_shared_battery_is_the_stated_share_of_the_mean_total_shortfall():
    lot = Instance(drivers=6, own_quantile=0.7, shared_fraction=0.3, recharge_fraction=0.2)
    needs = law(lot).needs
    sizes = week_sizes(lot, law(lot))
    np.testing.assert_array_equal(sizes.own_kwh, needs.quantile(0.7))
    drawn = np.maximum(sample_days(lot, "generator", 40_000, 1).need_kwh - sizes.own_kwh, 0.0).sum(axis=1)
    total = sizes.shared_kwh / 0.3
    assert drawn.mean() == pytest.approx(total, abs=4.0 * drawn.std() / math.sqrt(40_000))
    assert total == pytest.approx(needs.mean_shortfall_kwh(sizes.own_kwh).sum(), rel=1e-12)
    assert sizes.recharge_kwh == pytest.approx(0.2 * sizes.shared_kwh, rel=1e-12)
    assert sizes.mean_size_kwh == pytest.approx(total / 6, rel=1e-12)


def test_sizes_do_not_depend_on_weekday_factors():
    a, b = (week_sizes(LOT.replace(weekday_factors=f), law(LOT)) for f in (EVEN, (2.0,) * 7))
    assert_equal(a, b)


def test_requests_have_the_stated_mean_on_ordinary_days():
    lot = LOT.replace(weekday_factors=EVEN)
    size = sample_weeks(lot, "generator", 3000, 2).size_kwh[:, :-1]
    per_week = size.mean(axis=1)
    want = week_sizes(lot, law(lot)).mean_size_kwh
    assert per_week.mean() == pytest.approx(want, abs=4.0 * per_week.std() / math.sqrt(3000))


def test_fleet_in_which_nobody_ever_asks_has_no_week():
    still = law_of(from_days([[0.0], [0.0, 0.0], [0.0]]))
    with pytest.raises(InvalidInputError, match="mean total shortfall = 0.0; allowed: positive"):
        week_sizes(LOT, still)
    with pytest.raises(InvalidInputError, match="mean total shortfall"):
        sample_weeks(LOT, still, 1, 1)


def test_seasons_of_one_seed_need_the_same_under_every_rule():
    fleets = [Instance(drivers=4, season_days=6, rule=rule) for rule in RULES]
    needs = [sample_seasons(fleet, "generator", 3, 8).need_kwh for fleet in fleets]
    for other in needs[1:]:
        np.testing.assert_array_equal(needs[0], other)
