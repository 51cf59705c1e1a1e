"""Seasons and weeks against a slow simulator written from the environments' documentation, and against hand numbers."""

import math

import numpy as np
import pytest

from v2g_env.core.allocation import RULES
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import VALUES, Instance
from v2g_env.shared_battery.model import (
    SIZING_FACTS,
    SIZING_TERMS,
    VIOLATION_TOLERANCE,
    WEEK_FACTS,
    WEEK_TERMS,
    SizingModel,
    WeekModel,
)
from v2g_env.shared_battery.scenario import Season, Week, draw_seasons, draw_weeks

# The slow simulator


def give(rule, shortfall, shared, order):
    """What each driver gets, from the names of the rules."""
    n, left = len(shortfall), shared
    given = [0.0] * n
    if rule == "equal_split":
        return [shared / n] * n
    if sum(shortfall) <= shared:
        return list(shortfall)
    if rule == "proportional":
        return [shared * q / sum(shortfall) for q in shortfall]
    if rule == "max_min":
        low, high = 0.0, max(shortfall)
        for _ in range(200):
            level = (low + high) / 2
            low, high = (level, high) if sum(min(q, level) for q in shortfall) <= shared else (low, level)
        return [min(q, low) for q in shortfall]
    if rule == "utilitarian":
        order = sorted(range(n), key=lambda i: shortfall[i])
    for i in order:
        given[i] = shortfall[i] if shortfall[i] <= left else 0.0 if rule == "first_come_skip" else left
        left -= given[i]
    return given


def live_season(lot, needs, need, order, own, shared):
    """Money and facts of one season under the names of the documentation; ``needs``: the drivers' histograms."""
    days, n = need.shape
    missed, total = [0] * n, []
    for day in range(days):
        shortfall = [max(float(need[day, i] - own[i]), 0.0) for i in range(n)]
        given = give(lot.rule, shortfall, shared, order[day % len(order)].tolist())
        for i in range(n):
            missed[i] += shortfall[i] - given[i] > 1e-5
        total.append(sum(shortfall) - shared)
    eps = lot.eps if len(lot.eps) == n else lot.eps * n
    beyond = sum(max(missed[i] - eps[i] * days, 0.0) for i in range(n))
    alone = [float(needs.quantile(1.0 - eps[i])[i]) for i in range(n)]
    money = {
        "own_capacity": -lot.own_usd_per_kwh * sum(own),
        "shared_capacity": -lot.shared_usd_per_kwh * shared,
        "missed": -lot.missed_usd * beyond,
        "separate": lot.own_usd_per_kwh * sum(min(max(b, lot.own_min_kwh), lot.own_max_kwh) for b in alone),
    }
    facts = {
        "excess": max(total) / 10.0,
        "unserved_kwh": sum(max(x, 0.0) for x in total),
        "violated_share": sum(x > 1e-5 for x in total) / days,
        "worst_missed_share": max(missed) / days,
        "missed_days": sum(missed),
        "capacity_kwh": shared + sum(own),
    }
    return money, facts


class SlowWeek:
    """One week of requests, one driver after the other."""

    def __init__(self, model, size, value, driver):
        self.lot, self.partial = model.instance, model.partial
        self.full, self.back, self.mean = model.sizes.shared_kwh, model.sizes.recharge_kwh, model.sizes.mean_size_kwh
        self.requests = list(zip(size.tolist(), value.tolist(), driver.tolist(), strict=True))
        self.left, self.t = self.full, 0

    def observe(self):
        """The table of the documentation, row by row."""
        n, days = self.lot.drivers, self.lot.week_days
        size, value, _ = self.requests[self.t]
        over = self.t == n * days
        seen = {"left": self.left / self.full, "size": size / self.full, "value": 0.0, "density": 0.0}
        if size > 0.0:
            log = math.log(value / self.lot.value_usd)
            seen["value"] = min(max(0.5 + log / 8, 0.0), 1.0)
            density = math.log((value / size) / (self.lot.value_usd / self.mean))
            seen["density"] = min(max(0.5 + density / 12, 0.0), 1.0)
        day, place = divmod(self.t, n)
        seen["to_come"] = 0.0 if over else (n - place) / n
        seen["fits"] = 0.0 if over else float(size <= self.left + 1e-5)
        seen["asks"] = float(size > 0.0)
        seen["recharge"] = self.back / self.full
        weekday = [0.0] * 7
        if not over:
            weekday[day % 7] = 1.0
        return [*seen.values(), *weekday, 0.0 if over else (days - day) / days]

    def step(self, answer):
        """Reward and facts of one request; ``answer`` is the choice or the share granted."""
        size, value, driver = self.requests[self.t]
        if self.partial:
            granted = answer * min(size, self.left)
        else:
            granted = size if answer == 1 and size <= self.left + 1e-5 else 0.0
        self.left = max(self.left - granted, 0.0)
        self.t += 1
        if self.t % self.lot.drivers == 0 and self.t < self.lot.drivers * self.lot.week_days:
            self.left = min(self.left + self.back, self.full)
        reward = value * granted / size if size > 0.0 else 0.0
        missing = size - granted
        return reward, [missing / 10.0, missing, size, granted, value, self.left, driver]


def generators(n, seed=0):
    return [np.random.default_rng([seed, i]) for i in range(n)]


# Sizing


SEASON = Instance(drivers=4, season_days=20, eps=(0.0001, 0.1, 0.25, 0.5), missed_usd=7.0, own_min_kwh=2.0)


def some_sizes(model, rows, seed=1):
    """Actions around what is needed: neither enough on all days nor hopeless."""
    rng = np.random.default_rng(seed)
    own = np.stack([model.law.needs.quantile(rng.uniform(0.2, 0.95, model.instance.drivers)) for _ in range(rows)])
    own = np.maximum(own, model.instance.own_min_kwh)
    mean = model.law.needs.mean_kwh().sum()
    return np.stack([model.action_for(own[i], rng.uniform(0.0, 0.6) * mean) for i in range(rows)])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("drivers", [1, 4, 130])
def test_season_equals_the_slow_simulator(rule, drivers):
    eps = SEASON.eps if drivers == 4 else (0.1,)
    lot = SEASON.replace(rule=rule, drivers=drivers, eps=eps, correlation=0.2, idle=0.1)
    model = SizingModel(lot)
    rows = 2 if drivers > 100 else 12
    scenario = model.draw(generators(rows))
    action = some_sizes(model, rows)
    state, money, facts = model.step(scenario, model.initial(scenario), action)
    assert state[0].tolist() == [1] * rows
    own, shared = model.sizes(action)
    for e in range(rows):
        want = live_season(
            lot, model.law.needs, scenario.need_kwh[e], scenario.order[e], own[e].tolist(), float(shared[e])
        )
        assert tuple(want[0]) == SIZING_TERMS
        assert tuple(want[1]) == SIZING_FACTS
        np.testing.assert_allclose(money[e], list(want[0].values()), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(facts[e], list(want[1].values()), rtol=1e-9, atol=1e-9)
    if drivers == 4:
        assert (money[:, 2] < 0.0).any()
        assert 0.0 < facts[:, 2].mean() < 1.0


def two_drivers(rule="utilitarian", **fields):
    """Two drivers, ten days: alone they need 4 and 6 kWh; on the last three days 8 and 9."""
    lot = Instance(drivers=2, season_days=10, rule=rule, missed_usd=100.0, own_usd_per_kwh=2.0, **fields)
    need = np.array([[4.0, 6.0]] * 7 + [[8.0, 9.0]] * 3)
    return SizingModel(lot), need


def live(model, need, own, shared, order=None):
    order = np.zeros((1, 1, 2), np.int64) if order is None else order[None]
    scenario = Season(need[None], order)
    _, money, facts = model.step(scenario, model.initial(scenario), model.action_for(np.array(own), shared)[None])
    return dict(zip(SIZING_TERMS, money[0], strict=True)), dict(zip(SIZING_FACTS, facts[0], strict=True))


def test_missed_days_beyond_each_drivers_own_tolerance_are_paid():
    """Own 5 and 7: short by 3 and 2 on three days; 2 kWh are enough for one of them."""
    for eps, beyond in (((0.1,), 2.0), ((0.1, 0.1), 2.0), ((0.3, 0.1), 0.0), ((0.25, 0.1), 0.5), ((0.9, 0.001), 0.0)):
        model, need = two_drivers(eps=eps)
        money, facts = live(model, need, [5.0, 7.0], 2.0)  # the utilitarian rule serves the second
        assert facts["missed_days"] == 3.0
        assert facts["worst_missed_share"] == pytest.approx(0.3)
        assert money["missed"] == pytest.approx(-100.0 * beyond, abs=1e-9)
        assert money["own_capacity"] == pytest.approx(-24.0)
        assert money["shared_capacity"] == pytest.approx(-8.0)
    for eps, beyond in (((0.1, 0.25), 2.5), ((0.25, 0.001), 3.49)):  # nobody is served: 3 days each
        model, need = two_drivers(eps=eps)
        assert live(model, need, [5.0, 7.0], 0.0)[0]["missed"] == pytest.approx(-100.0 * beyond)


def test_tolerance_of_one_driver_cannot_be_used_by_another():
    model, need = two_drivers(eps=(0.9, 0.1))
    money, facts = live(model, need, [8.0, 6.0], 0.0)
    assert facts["missed_days"] == 3.0
    assert money["missed"] == pytest.approx(-200.0)


def test_not_sharing_is_the_zero_of_the_reward():
    """Own batteries of the (1 - eps)-quantiles and nothing shared: what is paid for them comes back as "separate"."""
    for eps in ((0.1,), (0.05, 0.3, 0.2, 0.1)):
        lot = SEASON.replace(eps=eps, own_min_kwh=0.0, missed_usd=0.0)
        model = SizingModel(lot)
        own = model.law.needs.quantile(1.0 - lot.tolerated)
        scenario = model.draw(generators(3))
        _, money, _ = model.step(scenario, model.initial(scenario), np.tile(model.action_for(own, 0.0), (3, 1)))
        np.testing.assert_allclose(money.sum(axis=1), 0.0, atol=1e-9)
        assert (money[:, 3] == lot.own_usd_per_kwh * own.sum()).all()


@pytest.mark.parametrize(("low", "high"), [(30.0, 160.0), (0.0, 5.0)])
def test_not_sharing_is_priced_with_sizes_that_can_be_chosen(low, high):
    model = SizingModel(SEASON.replace(own_min_kwh=low, own_max_kwh=high, own_usd_per_kwh=2.0))
    alone = np.clip(model.law.needs.quantile(1.0 - model.instance.tolerated), low, high)
    scenario = model.draw(generators(1))
    _, money, _ = model.step(scenario, model.initial(scenario), np.zeros((1, 5)))
    assert money[0, 3] == pytest.approx(2.0 * alone.sum(), rel=1e-12)
    assert alone.min() == low or alone.max() == high


def test_facts_of_a_season_by_hand():
    model, need = two_drivers()
    _, facts = live(model, need, [5.0, 7.0], 2.0)
    assert facts["excess"] == pytest.approx((5.0 - 2.0) / 10.0)
    assert facts["unserved_kwh"] == pytest.approx(9.0)
    assert facts["violated_share"] == pytest.approx(0.3)
    assert facts["capacity_kwh"] == pytest.approx(14.0)
    _, facts = live(model, need, [5.0, 7.0], 5.0)  # just enough
    assert facts["excess"] == pytest.approx(0.0, abs=1e-12)
    assert facts["violated_share"] == facts["missed_days"] == 0.0
    _, facts = live(model, need, [8.0, 9.0], 0.0)
    assert facts["excess"] == pytest.approx(0.0, abs=1e-12)
    assert facts["missed_days"] == 0.0
    _, facts = live(model, need, [8.0, 9.0], 20.0)
    assert facts["excess"] == pytest.approx(-2.0)
    assert facts["unserved_kwh"] == 0.0


@pytest.mark.parametrize("rule", ["first_come", "first_come_skip"])
def test_ordered_rules_serve_along_the_order_of_each_day(rule):
    model, need = two_drivers(rule, eps=(0.0001,))
    first, second = np.array([[0, 1]] * 10), np.array([[1, 0]] * 10)
    mixed = np.array([[0, 1]] * 8 + [[1, 0]] * 2)
    missed = [live(model, need, [5.0, 7.0], 3.0, order)[1]["missed_days"] for order in (first, second, mixed)]
    # 3 kWh: whoever comes first is served; after the first (3) nothing is left, after the second (2) only 1
    assert missed == [3.0, 3.0, 3.0]
    worst = [live(model, need, [5.0, 7.0], 3.0, order)[1]["worst_missed_share"] for order in (first, second, mixed)]
    assert worst == pytest.approx([0.3, 0.3, 0.2])


def test_skipping_serves_a_later_driver_whom_first_come_leaves_with_a_part():
    order = np.array([[0, 1]] * 10)
    for rule, missed in (("first_come", 6.0), ("first_come_skip", 3.0)):
        model, need = two_drivers(rule)
        assert live(model, need, [5.0, 7.0], 2.5, order)[1]["missed_days"] == missed


def test_under_shortfall_minimising_rules_a_violated_day_is_one_on_which_somebody_is_not_served():
    for rule in RULES:
        model = SizingModel(SEASON.replace(rule=rule, season_days=1))
        scenario = model.draw(generators(300))
        _, _, facts = model.step(scenario, model.initial(scenario), np.tile(some_sizes(model, 1), (300, 1)))
        violated, missed = facts[:, 0] > VIOLATION_TOLERANCE, facts[:, 4] > 0.0
        assert 0.1 < violated.mean() < 0.9
        np.testing.assert_array_equal(facts[:, 2] > 0.0, violated)
        assert missed[violated].all()
        assert missed[~violated].any() == (rule == "equal_split")


@pytest.mark.parametrize("rule", RULES)
def test_largest_sizes_serve_everybody_and_none_serve_nobody_who_drives(rule):
    lot = SEASON.replace(rule=rule, idle=0.2, own_min_kwh=0.0)
    model = SizingModel(lot)
    scenario = model.draw(generators(5))
    start = model.initial(scenario)
    for edge, missed in ((1.0, 0), (-1.0, (scenario.need_kwh > 1e-5).sum(axis=(1, 2)))):
        action = np.full((5, 5), edge)
        _, money, facts = model.step(scenario, start, action)
        np.testing.assert_array_equal(facts[:, 4], missed)
        assert (money[:, :2] == 0.0).all() == (edge == -1.0)
        assert not np.signbit(money[money == 0.0]).any()  # nothing bought costs 0, not -0


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "first_come_skip"])
def test_larger_shared_battery_never_misses_more(rule):
    model = SizingModel(SEASON.replace(rule=rule))
    scenario = model.draw(generators(1))
    own = model.law.needs.quantile(0.6)
    own = np.maximum(own, 2.0)
    missed = [live_facts(model, scenario, own, shared)[4] for shared in np.linspace(0.0, 120.0, 60)]
    assert (np.diff(missed) <= 0.0).all()
    assert missed[0] > missed[-1]


def live_facts(model, scenario, own, shared):
    return model.step(scenario, model.initial(scenario), model.action_for(own, shared)[None])[2][0]


def test_action_for_chooses_these_sizes_and_sizes_of_an_action_lead_back():
    model = SizingModel(SEASON.replace(own_min_kwh=3.0, own_max_kwh=50.0, shared_max_kwh_per_driver=20.0))
    rng = np.random.default_rng(0)
    for _ in range(50):
        own, shared = rng.uniform(3.0, 50.0, 4), rng.uniform(0.0, 80.0)
        got = model.sizes(model.action_for(own, shared)[None])
        np.testing.assert_allclose(got[0][0], own, rtol=1e-12)
        assert got[1][0] == pytest.approx(shared, rel=1e-12)
        single = model.sizes(model.action_for(own, shared)[None].astype(np.float32))
        np.testing.assert_allclose(single[0][0], own, atol=1e-5)
        action = rng.uniform(-1.0, 1.0, (1, 5))
        own, shared = model.sizes(action)
        np.testing.assert_allclose(model.action_for(own[0], float(shared[0])), action[0], atol=1e-12)
    np.testing.assert_array_equal(model.action_for(np.full(4, 3.0), 0.0), -1.0)
    np.testing.assert_array_equal(model.action_for(np.full(4, 50.0), 80.0), 1.0)


@pytest.mark.parametrize(
    ("own", "shared", "field"),
    [
        ([2.9, 5, 5, 5], 0.0, "own_kwh"),
        ([5, 5, 5, 50.1], 0.0, "own_kwh"),
        ([5, 5, np.nan, 5], 0.0, "own_kwh"),
        ([5, 5, 5], 0.0, "own_kwh"),
        (5.0, 0.0, "own_kwh"),
        ([5] * 4, -0.1, "shared_kwh"),
        ([5] * 4, 80.1, "shared_kwh"),
        ([5] * 4, np.nan, "shared_kwh"),
        ([5] * 4, None, "shared_kwh"),
    ],
)
def test_sizes_that_no_action_chooses_are_refused(own, shared, field):
    model = SizingModel(SEASON.replace(own_min_kwh=3.0, own_max_kwh=50.0, shared_max_kwh_per_driver=20.0))
    with pytest.raises(InvalidInputError, match=field):
        model.action_for(own, shared)


def test_observation_of_the_planner_is_the_documented_table():
    lot = SEASON.replace(own_usd_per_kwh=3.0, shared_usd_per_kwh=5.0)
    model = SizingModel(lot)
    scenario = model.draw(generators(3))
    seen = model.observe(scenario, model.initial(scenario))
    needs = model.law.needs
    want = [*needs.quantile(0.5) / 100, *needs.quantile(0.9) / 100, *needs.quantile(0.99) / 100, 3.0 / 8.0, 0.0]
    np.testing.assert_allclose(seen, np.tile(want, (3, 1)), rtol=1e-6)
    assert seen.dtype == np.float32
    after, _, _, later = model.advance(scenario, model.initial(scenario), some_sizes(model, 3))
    np.testing.assert_array_equal(later, model.observe(scenario, after))
    np.testing.assert_array_equal(later[:, :-1], seen[:, :-1])
    assert later[:, -1].tolist() == [1.0] * 3
    ends = [part.stop for part in model.observation_layout.values()]
    assert [part.start for part in model.observation_layout.values()] == [0, *ends[:-1]]
    assert ends[-1] == seen.shape[1] == len(model.observation_high)


def test_season_is_not_seen_before_the_decision():
    model = SizingModel(SEASON)
    a, b = (model.draw(generators(1, seed)) for seed in (0, 1))
    np.testing.assert_array_equal(model.observe(a, model.initial(a)), model.observe(b, model.initial(b)))


def test_step_reads_only_and_rows_do_not_see_each_other():
    model = SizingModel(SEASON.replace(rule="first_come"))
    scenario = model.draw(generators(4))
    action = some_sizes(model, 4)
    kept = [part.copy() for part in (*scenario, action)]
    start = model.initial(scenario)
    _, money, facts = model.step(scenario, start, action)
    for part, copy in zip((*scenario, action), kept, strict=True):
        np.testing.assert_array_equal(part, copy)
    assert start[0].tolist() == [0] * 4
    for i in range(4):
        alone = Season(*(part[i : i + 1] for part in scenario))
        _, one, two = model.step(alone, model.initial(alone), action[i : i + 1])
        np.testing.assert_array_equal(one[0], money[i])
        np.testing.assert_array_equal(two[0], facts[i])


# Week of requests


WEEK = Instance(drivers=4, week_days=9, own_quantile=0.4, recharge_fraction=0.3, shared_fraction=0.6)


def answers(model, rows, seed=2):
    """Choices, or shares in [-1, 1] with the ends among them."""
    rng = np.random.default_rng(seed)
    if model.partial:
        return np.clip(rng.uniform(-1.6, 1.6, (model.steps, rows, 1)), -1.0, 1.0)
    return rng.integers(0, 2, (model.steps, rows, 1)).astype(float)


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("drivers", [1, 4])
def test_week_equals_the_slow_simulator(partial, values, drivers):
    lot = WEEK.replace(values=values, drivers=drivers, value_sd=1.5, correlation=0.3, idle=0.1)
    model = WeekModel(lot, partial=partial)
    rows = 8
    scenario = model.draw(generators(rows))
    slow = [SlowWeek(model, scenario.size_kwh[e], scenario.value_usd[e], scenario.driver[e]) for e in range(rows)]
    state = model.initial(scenario)
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    refused = granted = 0
    for action in answers(model, rows):
        seen = model.observe(scenario, state)
        np.testing.assert_allclose(seen, [one.observe() for one in slow], rtol=1e-6, atol=1e-6)
        after, money, facts, later = model.advance(scenario, state, action)
        np.testing.assert_array_equal(later, model.observe(scenario, after))
        for e, one in enumerate(slow):
            reward, want = one.step((action[e, 0] + 1.0) / 2.0 if partial else action[e, 0])
            np.testing.assert_allclose(money[e], [reward], **tolerance)
            np.testing.assert_allclose(facts[e], want, **tolerance)
            np.testing.assert_allclose(after.left_kwh[e], one.left, **tolerance)
        refused += (facts[:, 1] > 0.0).sum()
        granted += (facts[:, 3] > 0.0).sum()
        state = after
    np.testing.assert_allclose(model.observe(scenario, state), [one.observe() for one in slow], rtol=1e-6, atol=1e-6)
    assert min(refused, granted) >= 5
    assert money.shape[1] == len(WEEK_TERMS)
    assert facts.shape[1] == len(WEEK_FACTS)


def requests(sizes, values, lot=WEEK):
    """A week of one row with the given requests, then none."""
    size, value = np.zeros((1, lot.drivers * lot.week_days + 1)), np.zeros((1, lot.drivers * lot.week_days + 1))
    size[0, : len(sizes)], value[0, : len(values)] = sizes, values
    return Week(np.zeros(size.shape, np.int64), size, value)


def at(model, scenario, left, t=0):
    return model.initial(scenario)._replace(left_kwh=np.array([left]), t=np.array([t]))


def test_whole_requests_are_granted_if_they_fit():
    model = WeekModel(WEEK)
    scenario = requests([5.0], [12.0])
    for left, granted in ((6.0, 5.0), (5.0, 5.0), (5.0 - 5e-6, 5.0), (5.0 - 2e-5, 0.0), (4.0, 0.0), (0.0, 0.0)):
        state = at(model, scenario, left)
        after, money, facts = model.step(scenario, state, np.array([[1.0]]))
        assert money[0, 0] == (12.0 if granted else 0.0)
        assert facts[0, 3] == granted
        assert after.left_kwh[0] == max(left - granted, 0.0)
        assert model.masks(scenario, state).tolist() == [[True, granted > 0.0]]
        assert (facts[0, 0] > VIOLATION_TOLERANCE) == (granted == 0.0)
        refused, money, facts = model.step(scenario, state, np.array([[0.0]]))
        assert money[0, 0] == facts[0, 3] == 0.0
        assert refused.left_kwh[0] == left


def test_parts_are_granted_of_what_is_asked_or_left_and_paid_by_the_share():
    model = WeekModel(WEEK, partial=True)
    scenario = requests([5.0], [12.0])
    for left, share, granted in ((9.0, 1.0, 5.0), (9.0, 0.5, 2.5), (4.0, 1.0, 4.0), (4.0, 0.25, 1.0), (4.0, 0.0, 0.0)):
        after, money, facts = model.step(scenario, at(model, scenario, left), np.array([[2.0 * share - 1.0]]))
        assert facts[0, 3] == pytest.approx(granted)
        assert money[0, 0] == pytest.approx(12.0 * granted / 5.0)
        assert after.left_kwh[0] == pytest.approx(left - granted)
        assert (facts[0, 0] > VIOLATION_TOLERANCE) == (granted < 5.0)
        assert facts[0, 1] == pytest.approx(5.0 - granted)


@pytest.mark.parametrize("partial", [False, True])
def test_driver_without_request_changes_nothing_whatever_the_answer(partial):
    model = WeekModel(WEEK, partial=partial)
    scenario = requests([0.0], [0.0])
    for answer in (-1.0, 1.0) if partial else (0.0, 1.0):
        after, money, facts = model.step(scenario, at(model, scenario, 3.0), np.array([[answer]]))
        assert after.left_kwh[0] == 3.0
        assert money[0, 0] == facts[0, 0] == facts[0, 3] == 0.0


def test_night_brings_back_its_share_but_no_more_than_fits_and_none_comes_after_the_last_day():
    model = WeekModel(WEEK)
    scenario = requests([], [])
    full, back = model.sizes.shared_kwh, model.sizes.recharge_kwh
    n, last = WEEK.drivers, model.steps - 1
    for left, t, want in (
        (0.0, n - 1, back),
        (0.5 * full, n - 1, 0.5 * full + back),
        (0.9 * full, n - 1, full),
        (full, n - 1, full),
        (0.0, n - 2, 0.0),
        (0.0, n, 0.0),
        (0.1, 2 * n - 1, 0.1 + back),
        (0.1, last, 0.1),
        (0.1, last - n, 0.1 + back),
    ):
        after, _, facts = model.step(scenario, at(model, scenario, left, t), np.array([[0.0]]))
        assert after.left_kwh[0] == facts[0, 5] == pytest.approx(want, rel=1e-12, abs=1e-12), t


@pytest.mark.parametrize(("fraction", "wanted"), [(0.0, 0.0), (1.0, 1.0)])
def test_nights_without_or_with_full_recharge(fraction, wanted):
    model = WeekModel(WEEK.replace(recharge_fraction=fraction))
    scenario = requests([], [])
    after, _, _ = model.step(scenario, at(model, scenario, 0.0, 3), np.array([[0.0]]))
    assert after.left_kwh[0] == pytest.approx(wanted * model.sizes.shared_kwh)
    assert model.observe(scenario, after)[0, 7] == wanted


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
def test_energy_of_the_week_balances(partial):
    """What there was at the start and what the nights brought back is what was granted and what is left."""
    model = WeekModel(WEEK, partial=partial)
    rows = 50
    scenario = model.draw(generators(rows))
    state = model.initial(scenario)
    start = state.left_kwh.copy()
    granted, brought = np.zeros(rows), np.zeros(rows)
    for t, action in enumerate(answers(model, rows)):
        before = state.left_kwh
        state, _, facts = model.step(scenario, state, action)
        granted += facts[:, 3]
        rest = before - facts[:, 3]
        if (t + 1) % WEEK.drivers == 0 and t + 1 < model.steps:
            night = np.minimum(model.sizes.recharge_kwh, model.sizes.shared_kwh - rest)
            np.testing.assert_allclose(state.left_kwh - rest, night, atol=1e-9)
            brought += night
        assert (state.left_kwh >= 0.0).all()
        assert (state.left_kwh <= model.sizes.shared_kwh).all()
    np.testing.assert_allclose(start + brought - granted, state.left_kwh, atol=1e-9)
    assert (brought > 0.0).all()
    assert (granted > 0.0).all()


def test_refusing_everything_keeps_the_battery_full_and_earns_nothing():
    model = WeekModel(WEEK)
    scenario = model.draw(generators(5))
    state = model.initial(scenario)
    for _ in range(model.steps):
        state, money, facts = model.step(scenario, state, np.zeros((5, 1)))
        assert not money.any()
        np.testing.assert_array_equal(state.left_kwh, model.sizes.shared_kwh)
        np.testing.assert_array_equal(facts[:, 1], facts[:, 2])


def test_masked_choices_are_those_that_would_change_nothing():
    model = WeekModel(WEEK)
    scenario = model.draw(generators(30))
    state = model.initial(scenario)
    seen = set()
    for _ in range(model.steps):
        masks = model.masks(scenario, state)
        assert masks.dtype == bool
        assert masks[:, 0].all()
        grant, money, _ = model.step(scenario, state, np.ones((30, 1)))
        refuse, _, _ = model.step(scenario, state, np.zeros((30, 1)))
        asks = np.take_along_axis(scenario.size_kwh, state.t[:, None], axis=1)[:, 0] > 0.0
        np.testing.assert_array_equal(money[:, 0] > 0.0, masks[:, 1] & asks)
        np.testing.assert_array_equal(grant.left_kwh[~masks[:, 1]], refuse.left_kwh[~masks[:, 1]])
        np.testing.assert_array_equal(model.observe(scenario, state)[:, 5], masks[:, 1])
        seen |= set(masks[:, 1].tolist())
        state = grant
    assert seen == {True, False}


@pytest.mark.parametrize(
    "fields",
    [
        {"weekday_factors": (100.0, 1e-3, 1.0, 1.0, 1.0, 1.0, 50.0)},
        {"value_sd": 3.0},
        {"value_sd": 3.0, "values": "density"},
        {"shared_fraction": 1e-3},
        {"shared_fraction": 100.0, "recharge_fraction": 0.0},
        {"own_quantile": 0.9999},
        {"recharge_fraction": 1.0},
        {"idle": 0.95},
        {"bin_kwh": 160.0},
        {"drivers": 1},
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_observations_stay_inside_their_bounds_in_unusual_weeks(fields, partial):
    model = WeekModel(WEEK.replace(**fields), partial=partial)
    scenario = model.draw(generators(40))
    state = model.initial(scenario)
    for action in [*answers(model, 40), None]:
        seen = model.observe(scenario, state)
        assert np.isfinite(seen).all()
        assert (seen >= 0.0).all()
        assert (seen <= model.observation_high).all()
        if action is not None:
            state, _, _ = model.step(scenario, state, action)


def test_later_requests_are_not_seen_before_they_come():
    model = WeekModel(WEEK)
    scenario = model.draw(generators(3))
    t = 13
    size, value, driver = scenario.size_kwh.copy(), scenario.value_usd.copy(), scenario.driver.copy()
    size[:, t + 1 :], value[:, t + 1 :], driver[:, t + 1 :] = 3.0, 4.0, 1
    other = Week(driver, size, value)
    state = model.initial(scenario)._replace(t=np.full(3, t))
    np.testing.assert_array_equal(model.observe(scenario, state), model.observe(other, state))
    size[:, t] += 1.0
    assert (model.observe(scenario, state) != model.observe(other, state)).any(axis=1).all()


@pytest.mark.parametrize("partial", [False, True])
def test_request_reads_only_and_rows_do_not_see_each_other(partial):
    model = WeekModel(WEEK, partial=partial)
    scenario = model.draw(generators(4))
    action = answers(model, 4)[0]
    start = model.initial(scenario)
    kept = [part.copy() for part in (*scenario, *start, action)]
    after, money, facts = model.step(scenario, start, action)
    for part, copy in zip((*scenario, *start, action), kept, strict=True):
        np.testing.assert_array_equal(part, copy)
    for i in range(4):
        alone = Week(*(part[i : i + 1] for part in scenario))
        one, earned, fact = model.step(alone, model.initial(alone), action[i : i + 1])
        assert one.left_kwh[0] == after.left_kwh[i]
        np.testing.assert_array_equal(earned[0], money[i])
        np.testing.assert_array_equal(fact[0], facts[i])


# Both


@pytest.mark.parametrize("model", [SizingModel(SEASON), WeekModel(WEEK)], ids=["season", "week"])
def test_models_draw_what_their_scenario_module_draws_and_know_no_days(model):
    draw = draw_seasons if isinstance(model, SizingModel) else draw_weeks
    for one, other in zip(model.draw(generators(3)), draw(model.instance, model.law, generators(3)), strict=True):
        np.testing.assert_array_equal(one, other)
    for days in ([0, 0, 0], [], [1, 2, 3]):
        with pytest.raises(InvalidInputError, match="day"):
            model.draw(generators(3), days)
    model.check_days(None, 3)
    assert model.steps == (1 if isinstance(model, SizingModel) else 36)
    assert (model.action_size, model.choices) == ((5, None) if isinstance(model, SizingModel) else (1, 2))


def test_violation_is_more_than_a_hundredth_of_a_watt_hour():
    assert pytest.approx(1e-5) == VIOLATION_TOLERANCE * 10.0
