"""The bound on all fixed sizes: below brute force and below whatever the environment lets sizes achieve."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.shared_battery.programs import separate, solve
from baselines.shared_battery.season_bound import Prices, bound, prices
from baselines.shared_battery.season_bound_kernel import asked_and_missed, least_cost_of_driver
from baselines.shared_battery.seasons import FixedSizes, count_violations
from v2g_env.core.allocation import ORDERED, RULES
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.model import SIZING_FACTS, SizingModel
from v2g_env.shared_battery.scenario import Season, sample_seasons


def season_of(need):
    """Seasons (K, D, n) of given needs; drivers come in the order of their numbers."""
    need = np.asarray(need, float)
    return Season(need, np.zeros((len(need), 1, need.shape[2]), np.int64))


def random_prices(rng, lot, rows, scale=2.0):
    """Prices of all magnitudes; the shared ones pay for the battery up to a factor."""
    lam = lot.missed_usd * rng.random(lot.drivers) ** rng.integers(1, 4)
    pi = rng.exponential(1.0, rows) ** rng.integers(1, 4) * (rng.random(rows) < 0.8)
    return Prices(lam, pi * scale * rng.random() * lot.shared_usd_per_kwh / max(float(pi.mean()), 1e-9))


def brute_force(lot, need, points):
    """Least mean cost (K, D, n) over own batteries on a grid, shared batteries, and who is missed on which day."""
    seasons, days, n = need.shape
    subsets = np.array(list(itertools.product([0.0, 1.0], repeat=n)))  # who is served
    paths = np.array(list(itertools.product(range(len(subsets)), repeat=days)))  # (P, D): a subset for every day
    missed = (1.0 - subsets)[paths].sum(axis=1)  # (P, n)
    penalty = lot.missed_usd * np.maximum(missed - lot.tolerated * days, 0.0).sum(axis=1)
    best = np.inf
    for own in itertools.product(points, repeat=n):
        short = np.maximum(need - np.array(own), 0.0)
        asked = short @ subsets.T  # (K, D, subsets)
        for shared in {0.0, *np.round(asked.ravel(), 12).tolist()}:
            if shared > lot.shared_max_kwh:
                continue
            cost = lot.own_usd_per_kwh * sum(own) + lot.shared_usd_per_kwh * shared
            if cost >= best:
                continue
            for k in range(seasons):
                fits = asked[k] <= shared + 1e-9
                allowed = np.all([fits[d, paths[:, d]] for d in range(days)], axis=0)
                cost += penalty[allowed].min() / seasons
            best = min(best, cost)
    return best


TINY = {
    "one driver": ((2, 3, 1), {}),
    "two drivers": ((1, 3, 2), {}),
    "two seasons": ((2, 2, 2), {}),
    "own cheap": ((2, 2, 2), {"own_usd_per_kwh": 0.5}),
    "targets differ": ((1, 3, 2), {"eps": (0.5, 0.05)}),
    "ranges bind": ((1, 3, 2), {"own_min_kwh": 2.0, "own_max_kwh": 9.0, "shared_max_kwh_per_driver": 4.0}),
    "missing is cheap": ((1, 3, 2), {"missed_usd": 3.0}),
}


@pytest.mark.parametrize("name", TINY)
def test_no_prices_prove_more_than_brute_force_finds_and_good_ones_prove_something(name):
    shape, changes = TINY[name]
    rng = np.random.default_rng(len(name))
    lot = Instance(drivers=shape[2], season_days=shape[1], **({"eps": (0.3,), "missed_usd": 20.0} | changes))
    for _ in range(3):
        need = np.round(rng.exponential(7.0, shape) * (rng.random(shape) < 0.8), 1)
        season = season_of(need)
        points = np.unique(np.clip([*need.ravel().tolist(), *np.linspace(0.0, 16.0, 9)], lot.own_min_kwh, 160.0))
        points = points[points <= lot.own_max_kwh]
        least = brute_force(lot, need, points)
        for scale in (0.5, 1.0, 2.0, 5.0):
            for _ in range(25):
                assert bound(lot, season, random_prices(rng, lot, need.shape[0] * need.shape[1], scale)) <= least + 1e-9
        found, best = prices(lot, season, np.quantile(need, 0.7, axis=(0, 1)), 5.0, steps=60)
        assert best == bound(lot, season, found) <= least + 1e-9
        assert best >= -1e-9


def test_by_hand_one_day_of_one_driver():
    # need 10; own battery at 2 $/kWh costs 20, being missed (1 - .5) 100 = 50, shared 4 $/kWh costs 40
    lot = Instance(drivers=1, season_days=1, eps=(0.5,), missed_usd=100.0, own_usd_per_kwh=2.0)
    season = season_of([[[10.0]]])
    least = 2.0 * (10.0 - TOLERANCE_KWH)
    # a missed day costs lambda - lambda / 2: so lambda = 40 makes it as dear as own batteries and proves 20
    for lam, proven in ((0.0, 0.0), (10.0, 5.0), (20.0, 10.0), (40.0, 0.0), (100.0, -30.0)):
        found = bound(lot, season, Prices(np.array([lam]), np.array([4.0])))
        assert found == pytest.approx(min(lam, least) - lam / 2.0, abs=1e-9), proven
        assert found == pytest.approx(proven, abs=1e-4)
    # shared energy dearer than the battery that delivers it is bought up to the largest: the price is paid back
    over = bound(lot, season, Prices(np.array([20.0]), np.array([5.0])))
    assert over == pytest.approx(10.0 - lot.shared_max_kwh * 1.0, abs=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    drivers=st.integers(1, 4),
    days=st.integers(1, 5),
    seasons=st.integers(1, 3),
    missed=st.sampled_from([0.0, 0.1, 5.0, 30.0, 1e4]),
    ratio=st.sampled_from([0.05, 0.5, 0.9, 1.0, 1.5]),
    low=st.sampled_from([0.0, 0.0, 3.0]),
)
def test_no_fixed_sizes_achieve_less_under_any_rule(seed, drivers, days, seasons, missed, ratio, low):
    rng = np.random.default_rng(seed)
    plain = Instance(
        drivers=drivers,
        season_days=days,
        missed_usd=missed,
        own_usd_per_kwh=4.0 * ratio,
        own_min_kwh=low,
        own_max_kwh=40.0,
        shared_max_kwh_per_driver=20.0,
        eps=tuple(rng.uniform(0.01, 0.6, drivers).tolist()),
    )
    need = np.round(rng.exponential(12.0, (seasons, days, drivers)), int(rng.integers(0, 4)))
    need[rng.random(need.shape) < 0.2] = 0.0
    proven = [bound(plain, season_of(need), random_prices(rng, plain, seasons * days)) for _ in range(12)]
    if missed > 0.0:
        proven.append(prices(plain, season_of(need), np.full(drivers, 10.0), 10.0, steps=20)[1])
    order = np.argsort(rng.random(need.shape), axis=2)
    actions = rng.uniform(-1.0, 1.0, (30, drivers + 1)) * (rng.random((30, drivers + 1)) < 0.7)
    actions[0], actions[1] = -1.0, 1.0
    for rule in RULES:
        model = SizingModel(plain.replace(rule=rule))
        season = Season(need, order if rule in ORDERED else np.zeros((seasons, 1, drivers), np.int64))
        # every action lives through all seasons: one row each
        rows = np.repeat(np.arange(30), seasons)
        every = Season(*(np.tile(part, (30, 1, 1)) for part in season))
        _, money, _ = model.step(every, model.initial(every), actions[rows])
        cost = model.separate_usd - money.sum(axis=1).reshape(30, seasons).mean(axis=1)
        assert (max(proven) <= cost + 1e-9 * (1.0 + np.abs(cost))).all(), rule


@pytest.fixture(scope="module")
def fleet():
    lot = Instance(drivers=8, season_days=30, eps=(0.1,))
    season = sample_seasons(lot, "generator", 12, 3)
    sizes = [solve(lot, n_samples=size, beta=0.1) for size in (20, 100)]
    found, best = prices(lot, season, sizes[0].own_kwh, sizes[0].shared_kwh, steps=80)
    return lot, season, sizes, found, best


def test_certified_sizes_earn_less_than_the_bound_which_is_no_empty_one(fleet):
    lot, season, sizes, _, best = fleet
    costs = []
    for rule in RULES:
        named = lot.replace(rule=rule)
        model = SizingModel(named)
        drawn = sample_seasons(named, "generator", 12, 3)
        if rule in ORDERED:  # the draws of orders take part of the uniforms, so other needs
            drawn = Season(season.need_kwh, drawn.order)
        for plan in [*sizes, separate(named)]:
            returns = rollout(model, drawn, FixedSizes(model, plan.own_kwh, plan.shared_kwh)).returns
            costs.append(model.separate_usd - float(returns.mean()))
    assert 0.4 * min(costs) < best < min(costs)


def test_the_ascent_improves_on_its_start_and_returns_what_it_proves(fleet):
    lot, season, sizes, found, best = fleet
    start, value = prices(lot, season, sizes[0].own_kwh, sizes[0].shared_kwh, steps=1)
    assert value == bound(lot, season, start)
    assert best == bound(lot, season, found)
    assert best > value + 1.0
    longer = prices(lot, season, sizes[0].own_kwh, sizes[0].shared_kwh, steps=120)[1]
    assert longer >= best
    assert (found.missed_usd >= 0.0).all()
    assert (found.missed_usd <= lot.missed_usd).all()
    # shared energy is priced at what the battery costs, so that its size does not matter
    assert found.shared_usd_per_kwh.sum() == pytest.approx(12 * lot.shared_usd_per_kwh, rel=1e-9)


def exact_bound(lot, season, evidence):
    """The formula of the bound in rational numbers."""
    seasons, days, n = season.need_kwh.shape
    needs = np.maximum(season.need_kwh.reshape(-1, n) - TOLERANCE_KWH, 0.0)
    pi = [Fraction(x) for x in evidence.shared_usd_per_kwh.tolist()]
    total = Fraction(lot.shared_max_kwh) * min(Fraction(0), Fraction(lot.shared_usd_per_kwh) - sum(pi) / seasons)
    low, high = Fraction(lot.own_min_kwh), Fraction(lot.own_max_kwh)
    for i in range(n):
        lam = Fraction(float(evidence.missed_usd[i]))
        column = [Fraction(x) for x in needs[:, i].tolist()]
        total += min(
            Fraction(lot.own_usd_per_kwh) * b
            + sum(min(lam, p * max(x - b, Fraction(0))) for x, p in zip(column, pi, strict=True)) / seasons
            for b in [low, high, *(x for x in column if low <= x <= high)]
        )
        total -= days * lam * Fraction(float(lot.tolerated[i]))
    return total


@pytest.mark.parametrize("seed", range(4))
def test_rounding_never_lifts_the_bound_above_its_formula_in_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    lot = Instance(drivers=2, season_days=12, eps=(0.1, 0.3), own_min_kwh=1.0, own_max_kwh=50.0)
    season = season_of(rng.exponential(12.0, (2, 12, 2)))
    evidence = random_prices(rng, lot, 24)
    found, exact = bound(lot, season, evidence), exact_bound(lot, season, evidence)
    assert Fraction(float(found)) <= exact
    assert float(exact) - found <= 1e-9 * (1.0 + abs(float(exact)))


def test_rounding_never_lifts_the_bound_where_the_least_own_battery_exceeds_all_needs():
    rng = np.random.default_rng(0)
    lot = Instance(drivers=1, season_days=4, own_min_kwh=1e4, own_max_kwh=2e4, own_usd_per_kwh=1e-3)
    for _ in range(50):
        season = season_of(rng.exponential(0.2, (1, 4, 1)))
        evidence = Prices(np.array([20.0]), 10.0 ** rng.uniform(-2.0, 6.0, 4))
        assert Fraction(float(bound(lot, season, evidence))) <= exact_bound(lot, season, evidence)


PARTS = ("missed_usd", "shared_usd_per_kwh")
WRONG = {
    "negative lambda": ("missed_usd", -1e-9),
    "lambda above the price of a missed day": ("missed_usd", 30.0 + 1e-6),
    "lambda NaN": ("missed_usd", float("nan")),
    "negative price": ("shared_usd_per_kwh", -1e-9),
    "price NaN": ("shared_usd_per_kwh", float("nan")),
    "price infinite": ("shared_usd_per_kwh", float("inf")),
}


@pytest.mark.parametrize(("part", "value"), WRONG.values(), ids=WRONG)
def test_prices_out_of_range_are_refused_by_name(fleet, part, value):
    lot, season, _, found, _ = fleet
    changed = getattr(found, part).copy()
    changed[2] = value
    with pytest.raises(InvalidInputError, match=rf"^{part}\[2\]"):
        bound(lot, season, found._replace(**{part: changed}))


def test_prices_of_a_wrong_shape_are_refused_by_name(fleet):
    lot, season, sizes, found, _ = fleet
    for part in PARTS:
        with pytest.raises(InvalidInputError, match=f"shape of {part}"):
            bound(lot, season, found._replace(**{part: getattr(found, part)[:-1]}))
    with pytest.raises(InvalidInputError, match="^steps"):
        prices(lot, season, sizes[0].own_kwh, sizes[0].shared_kwh, steps=0)
    with pytest.raises(InvalidInputError, match="^missed_usd"):
        prices(lot.replace(missed_usd=0.0), season, sizes[0].own_kwh, sizes[0].shared_kwh)


def direct_cost(needs, price, share, missed, own_price, b):
    parts = [min(missed, p * max(x - b, 0.0)) for x, p in zip(needs, price, strict=True)]
    return own_price * b + share * sum(parts)


@pytest.mark.parametrize("seed", range(40))
def test_one_drivers_least_cost_is_that_of_direct_evaluation(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    needs = np.round(rng.exponential(10.0, count), int(rng.integers(0, 3))) * (rng.random(count) < 0.8)
    price = rng.exponential(2.0, count) ** 2 * (rng.random(count) < 0.8)
    if seed % 5 == 0:
        price[:] = 0.0
    missed, own_price, share = float(rng.choice([0.0, 1.0, 20.0, 1e3])), float(rng.exponential(1.0)) + 0.01, 0.25
    low = float(rng.choice([0.0, 0.0, 5.0, 60.0]))
    high = low + float(rng.choice([0.5, 10.0, 100.0]))
    order = np.argsort(needs, kind="stable")
    found, where = least_cost_of_driver(needs, order, price, share, missed, own_price, low, high)
    every = np.concatenate([np.linspace(low, high, 3001), needs[(needs >= low) & (needs <= high)]])
    least = min(direct_cost(needs, price, share, missed, own_price, b) for b in every)
    assert found == pytest.approx(least, rel=1e-9, abs=1e-9)
    assert direct_cost(needs, price, share, missed, own_price, where) == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert low <= where <= high
    missing, asked = asked_and_missed(needs, price, missed, where)
    paid = own_price * where + share * float((missing * missed + price * asked).sum())
    assert paid == pytest.approx(found, rel=1e-9, abs=1e-9)
    assert (asked[missing == 1.0] == 0.0).all()


# Policies of fixed sizes


def test_fixed_sizes_are_chosen_every_season_up_to_single_precision(fleet):
    lot, season, sizes, _, _ = fleet
    model = SizingModel(lot)
    policy = FixedSizes(model, sizes[1].own_kwh, sizes[1].shared_kwh)
    seen = rollout(model, season, policy).actions
    assert (seen == seen[0]).all()
    own, shared = model.sizes(seen[:, 0].astype(float))
    assert np.allclose(own, sizes[1].own_kwh, atol=2e-5)
    assert np.allclose(shared, sizes[1].shared_kwh, atol=2e-4)
    with pytest.raises(InvalidInputError, match="shared_kwh"):
        FixedSizes(model, sizes[1].own_kwh, lot.shared_max_kwh + 1.0)


def test_violated_days_are_counted_over_all_seasons(fleet):
    lot, season, sizes, _, _ = fleet
    model = SizingModel(lot)
    episodes = rollout(model, season, FixedSizes(model, 0.5 * sizes[0].own_kwh, 0.5 * sizes[0].shared_kwh))
    kept = count_violations(model, episodes, 1e-2)
    own, shared = model.sizes(episodes.actions[:, 0].astype(float))
    over = np.maximum(season.need_kwh - own[:, None], 0.0).sum(axis=2) - shared[:, None]
    assert kept.days == 360
    assert kept.violated == (over > TOLERANCE_KWH).sum() > 20
    assert kept.violated / 360 < kept.eps < 1.0
    assert SIZING_FACTS[2] == "violated_share"
