"""Sizes tried on fresh days: counts, limits and streams, and the theorem that makes one test enough for all rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binom

from baselines import risk
from baselines.certificate import check
from baselines.shared_battery import reliability
from baselines.shared_battery.programs import separate, solve
from baselines.shared_battery.reliability import FreshDays, certified, days_needed, missed_days, sample_test
from v2g_env.core.allocation import ORDERED, RULES, SHORTFALL_MINIMISING, allocate, random_order
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.scenario import Days, law, sample_days

SIX = Instance(drivers=6, eps=(0.05, 0.05, 0.1, 0.1, 0.2, 0.3))


def test_days_needed_are_the_studys():
    assert [days_needed(n, 0.01, 1e-3) for n in (25, 50, 100)] == [54_099, 57_565, 61_031]


def test_so_many_days_bring_all_drivers_within_tau_at_once():
    # Hoeffding's limit for 2 n tails is beta, for one day less it is not
    for n, tau, beta in ((1, 0.5, 0.1), (7, 0.02, 0.3), (100, 0.01, 1e-3)):
        m = days_needed(n, tau, beta)
        assert 2 * n * np.exp(-2 * m * tau**2) <= beta < 2 * n * np.exp(-2 * (m - 1) * tau**2)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("drivers", (0, 0.1, 0.1)),
        ("drivers", (1.5, 0.1, 0.1)),
        ("tau", (5, 0.0, 0.1)),
        ("tau", (5, -0.1, 0.1)),
        ("beta", (5, 0.1, 0.0)),
        ("beta", (5, 0.1, 1.0)),
    ],
)
def test_days_needed_refuses_by_name(field, arguments):
    with pytest.raises(InvalidInputError, match=f"^{field}"):
        days_needed(*arguments)


@pytest.mark.parametrize("rule", RULES)
def test_limits_are_those_of_a_hold_out_shared_by_drivers_and_looks(rule):
    own, shared = np.array([8.0, 10.0, 12.0, 14.0, 16.0, 18.0]), 25.0
    found = reliability.tested(SIX, own, shared, days=3000, seed=4, rule=rule, beta=0.02, looks=5)
    data = found.certificate
    fresh = sample_test(SIX, "generator", 3000, 4, 2, rule)
    given = allocate(rule, np.maximum(fresh.need_kwh - own, 0.0), shared, fresh.order if rule in ORDERED else None)
    missed = (fresh.need_kwh - own - given > TOLERANCE_KWH).sum(axis=0)
    assert data["missed"] == missed.tolist()
    assert missed.sum() > 0
    assert data["risk"]["eps"] == [risk.hold_out(3000, int(count), 0.02 / (5 * 6)) for count in missed]
    assert data["sample"]["sha256"] == Days(fresh.need_kwh).sha256
    assert found.value == pytest.approx(float(SIX.cost_usd(own, shared)))
    assert certified(SIX, found) == bool((np.array(data["risk"]["eps"]) <= SIX.tolerated).all())
    check(data, SIX)


def test_the_instances_rule_is_the_default():
    lot = SIX.replace(rule="max_min")
    own = np.full(6, 12.0)
    assert reliability.tested(lot, own, 20.0, days=500).certificate["rule"] == "max_min"
    one, other = (reliability.tested(lot, own, 20.0, days=500, rule=rule).certificate for rule in (None, "max_min"))
    assert one == other


def test_every_target_has_to_be_certified():
    plenty = law(SIX).needs.quantile(1.0)
    found = reliability.tested(SIX, plenty, 0.0, days=2000, beta=0.01)
    assert found.certificate["missed"] == [0] * 6
    assert certified(SIX, found)
    few = reliability.tested(
        SIX, plenty, 0.0, days=100, beta=0.01
    )  # ln(600)/100 = .064: too few days for the two strict targets
    assert not certified(SIX, few)
    assert certified(SIX.replace(eps=(0.07,)), few)
    one = plenty.copy()
    one[3] = 1.0
    assert not certified(SIX, reliability.tested(SIX, one, 0.0, days=2000, beta=0.01))


def test_the_limits_hold_in_repeated_experiments():
    # separate batteries at the quantiles: each driver is missed with exactly his eps, so limits fall below seldom
    own = separate(SIX).own_kwh
    runs, beta, failed, single = 300, 0.2, 0, 0
    for seed in range(runs):
        below = (
            np.array(reliability.tested(SIX, own, 0.0, days=400, seed=seed, beta=beta).certificate["risk"]["eps"])
            < SIX.eps
        )
        failed += below.any()
        single += int(below[4])
    assert failed <= binom.isf(1e-3, runs, beta)
    counts = np.arange(401)
    chance = binom.pmf(counts, 400, 0.2)[np.array(risk.hold_out(400, counts, beta / 6)) < 0.2].sum()
    assert binom.ppf(1e-4, runs, chance) <= single <= binom.ppf(1.0 - 1e-4, runs, chance)


def test_streams_are_independent_of_the_scenario_samples_and_of_each_other():
    few = [sample_days(SIX, "generator", 50, 1).need_kwh]
    few += [sample_test(SIX, "generator", 50, 1, stream, "utilitarian").need_kwh for stream in (1, 2, 3, 10)]
    few.append(sample_test(SIX, "generator", 50, 2, 2, "utilitarian").need_kwh)
    for i, one in enumerate(few):
        for other in few[:i]:
            assert not np.isin(one, other).any()
    # nor correlated: rank correlations of 4000 days in two streams
    one, other = (sample_days(SIX, "generator", 4000, 1, stream).need_kwh for stream in (0, 2))
    for i in range(6):
        assert abs(np.corrcoef(one[:, i].argsort().argsort(), other[:, i].argsort().argsort())[0, 1]) < 0.06


def test_orders_are_reproducible_permutations_apart_from_the_needs():
    one, two = (sample_test(SIX, "generator", 2000, 1, 2, "first_come") for _ in range(2))
    assert np.array_equal(one.order, two.order)
    assert np.array_equal(one.need_kwh, two.need_kwh)
    assert (np.sort(one.order, axis=1) == np.arange(6)).all()
    assert np.array_equal(one.order, sample_test(SIX, "generator", 2000, 1, 2, "first_come_skip").order)
    assert not np.array_equal(one.order, sample_test(SIX, "generator", 2000, 1, 3, "first_come").order)
    assert np.array_equal(one.need_kwh, sample_test(SIX, "generator", 2000, 1, 2, "utilitarian").need_kwh)
    # other draws than those of the needs
    same = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(2,)))
    assert not np.array_equal(one.order, random_order(same.random((2000, 6))))
    # everybody comes first equally often, whatever he needs that day
    first = one.order[:, 0]
    assert np.bincount(first, minlength=6).min() > 2000 / 6 - 5 * np.sqrt(2000 * 5 / 36)
    for i in range(6):
        need = one.need_kwh[:, i]
        assert abs(need[first == i].mean() - need.mean()) < 5 * need.std() / np.sqrt((first == i).sum())
    assert sample_test(SIX, "generator", 20, 1, 2, "utilitarian").order.shape == (1, 6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    need=hnp.arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 7)), elements=st.floats(0.0, 60.0)),
    level=st.floats(0.0, 40.0),
    room=st.floats(0.0, 5.0),
)
def test_if_all_shortfalls_fit_nobody_is_missed_under_any_shortfall_minimising_rule(need, level, room):
    days, n = need.shape
    own = level * np.linspace(0.0, 1.0, n)
    total = np.maximum(need - own, 0.0).sum(axis=1)
    shared = float(total.max()) * (1.0 + 1e-12) + room  # by more than the rounding of the sum
    order = np.tile(np.arange(n)[::-1], (days, 1))
    for rule in SHORTFALL_MINIMISING:
        assert missed_days(rule, own, shared, FreshDays(need, order)).tolist() == [0] * n


@pytest.mark.parametrize("rule", SHORTFALL_MINIMISING)
def test_sizes_of_the_scenario_program_miss_nobody_on_their_own_days(rule):
    for ratio in (1.0, 0.9, 0.3):
        lot = SIX.replace(own_usd_per_kwh=ratio * SIX.shared_usd_per_kwh)
        found = solve(lot, n_samples=300, seed=1, beta=0.1)
        need = sample_days(lot, "generator", 300, 1).need_kwh
        order = np.tile(np.arange(6), (300, 1))
        missed = missed_days(rule, found.own_kwh, found.shared_kwh, FreshDays(need, order))
        assert missed.tolist() == [0] * 6


def test_a_rounding_error_makes_no_driver_missed():
    order = np.zeros((1, 2), np.int64) + np.arange(2)
    for rule in SHORTFALL_MINIMISING:
        day = FreshDays(np.array([[1.0, 1.0]]), order)
        assert missed_days(rule, np.zeros(2), 2.0 - 1e-9, day).tolist() == [0, 0], rule


def test_equal_split_misses_somebody_although_all_shortfalls_fit():
    day = FreshDays(np.array([[10.0, 0.0]]), np.zeros((1, 2), np.int64))
    assert missed_days("equal_split", np.zeros(2), 10.0, day).tolist() == [1, 0]
    assert missed_days("equal_split", np.zeros(2), 20.0, day).tolist() == [0, 0]
    found = solve(SIX, n_samples=300, seed=1, beta=0.1)
    need = sample_days(SIX, "generator", 300, 1).need_kwh
    days = FreshDays(need, np.zeros((1, 6), np.int64))
    assert missed_days("equal_split", found.own_kwh, found.shared_kwh, days).sum() > 0


def test_utilitarian_misses_fewest_drivers_of_all_rules():
    own, shared = np.full(6, 10.0), 15.0
    sums = {}
    for rule in RULES:
        days = sample_test(SIX, "generator", 2000, 1, 2, rule)
        sums[rule] = missed_days(rule, own, shared, days).sum()
    assert min(sums, key=sums.get) == "utilitarian"
    assert sums["proportional"] == max(sums[rule] for rule in SHORTFALL_MINIMISING)


BAD = {
    "own too short": ("shape of own_kwh", {"own_kwh": np.zeros(5)}),
    "negative own": (r"own_kwh\[2\]", {"own_kwh": np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0])}),
    "own NaN": ("own_kwh", {"own_kwh": np.full(6, np.nan)}),
    "negative shared": ("shared_kwh", {"shared_kwh": -1e-9}),
    "shared infinite": ("shared_kwh", {"shared_kwh": float("inf")}),
    "no days": ("n_samples", {"days": 0}),
    "half a day": ("n_samples", {"days": 10.5}),
    "negative seed": ("seed", {"seed": -1}),
    "stream": ("stream", {"stream": 1001}),
    "unknown rule": ("rule", {"rule": "mine first"}),
    "beta": ("beta", {"beta": 0.0}),
    "looks": ("looks", {"looks": 0}),
    "law": ("law", {"source": "moon"}),
}


@pytest.mark.parametrize(("field", "options"), BAD.values(), ids=BAD)
def test_arguments_out_of_range_are_refused_by_name(field, options):
    given = {"own_kwh": np.full(6, 10.0), "shared_kwh": 5.0, "days": 20} | options
    with pytest.raises(InvalidInputError, match=f"^{field}.*allowed"):
        reliability.tested(SIX, given.pop("own_kwh"), given.pop("shared_kwh"), **given)
