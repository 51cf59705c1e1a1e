"""Policies without look-ahead, robust plans and adjustable plans: they do what they say, on observations alone."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.scheduling import linear
from baselines.scheduling.adjustable import AdjustablePlan
from baselines.scheduling.day import Day, Protection, typical_cars
from baselines.scheduling.policies import (
    DayAhead,
    Uncontrolled,
    few_kinds,
    fleet_fraction,
    margin_kw,
    possible,
    typical_wind_sd,
)
from baselines.scheduling.sight import read
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.scheduling.fleet import uncontrolled_kw
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, Model
from v2g_env.scheduling.scenario import rows_of, sample
from v2g_env.scheduling.weather import expected_power

HOURLY = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=16)
SET = Protection("budget", 2.0, wind=True)
MAKERS = {
    "uncontrolled": lambda model: Uncontrolled(model, 1.0),
    "day ahead": lambda model: DayAhead(model, SET),
    "adjustable": lambda model: AdjustablePlan(model, SET),
}
LOTS = {
    "hourly": {},
    "known at once": {"gate_closure_steps": 0},
    "known wind": {"gate_closure_steps": 0, "forecast_quality": 1.0},
    "no cars": {"cars": 0},
    "no turbines": {"turbine_bus": ()},
    "neither": {"cars": 0, "turbine_bus": ()},
    "one aggregator": {"aggregator_bus": (1,), "load_shares": (1.0,)},
    "half hours": {"steps": 48, "step_h": 0.5, "gas_ramp_kw": 400.0},
    "quarter hours": {"steps": 96, "step_h": 0.25, "gas_ramp_kw": 200.0},
    "two hours": {"steps": 12, "step_h": 2.0},
    "odd number": {"steps": 29, "step_h": 0.5},
    "one step": {"steps": 1},
    "charging only at the end": {"steps": 4, "start_h": 17.0},
    "many cars": {"cars": 60},
}
MODEL = Model(HOURLY)


def model_of(name):
    return Model(HOURLY.replace(**LOTS[name]))


def totals(sight, action):
    """(n,) power of all cars that actions ask for [kW]."""
    fraction = action[:, 1:-1].astype(float)
    room = np.where(fraction > 0.0, sight.up_kw, sight.down_kw)
    return (sight.idle_kw + fraction * room).sum(axis=1)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", LOTS)
def test_policies_run_on_all_kinds_of_lots_and_past_the_end_of_the_day(name, kind):
    model = model_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy = MAKERS[kind](model)
        scenario = sample(model.instance, model.law, 2, 6)
        state, memory = model.initial(scenario), None
        for _ in range(model.steps):
            action, memory = policy.predict(model.observe(scenario, state), memory)
            assert action.dtype == np.float32 and action.shape == (2, model.action_size)
            assert np.isfinite(action).all() and np.abs(action).max() <= 1.0
            state = model.step(scenario, state, action.astype(float))[0]
        action, _ = policy.predict(model.observe(scenario, state), memory)
    assert action.shape == (2, model.action_size) and np.isfinite(action).all() and np.abs(action).max() <= 1.0


@pytest.mark.parametrize("kind", MAKERS)
def test_policies_repeat_themselves_and_rows_do_not_depend_on_each_other(kind):
    days = sample(HOURLY, "generator", 40 if kind != "adjustable" else 8, 3)
    whole = rollout(MODEL, days, MAKERS[kind](MODEL))
    again = rollout(MODEL, days, MAKERS[kind](MODEL))
    assert np.array_equal(whole.actions, again.actions)
    order = np.random.default_rng(0).permutation(len(days.load_kw))[:4]
    assert np.array_equal(rollout(MODEL, rows_of(days, order), MAKERS[kind](MODEL)).actions, whole.actions[order])
    for row in (0, 6):
        alone = rollout(MODEL, rows_of(days, slice(row, row + 1)), MAKERS[kind](MODEL))
        assert np.array_equal(alone.actions[0], whole.actions[row])


@pytest.mark.parametrize("kind", MAKERS)
def test_policies_know_nothing_of_what_is_not_observed(kind):
    days, other = sample(HOURLY, "generator", 3, 3), sample(HOURLY, "generator", 3, 99)
    cut = 9  # from step 8 on, loads and news of the wind are those of other days
    mixed = days._replace(
        load_kw=np.concatenate([days.load_kw[:, :cut], other.load_kw[:, cut:]], axis=1),
        news=np.concatenate([days.news[:, :cut], other.news[:, cut:]], axis=1),
        wind_kw=np.concatenate([days.wind_kw[:, :cut], other.wind_kw[:, cut:]], axis=1),
    )
    one, two = (rollout(MODEL, each, MAKERS[kind](MODEL)).actions for each in (days, mixed))
    assert np.array_equal(one[:, :cut], two[:, :cut])
    assert not np.array_equal(one[:, cut:], two[:, cut:])


# ----------------------------------------------------------------- without V2G


@pytest.mark.parametrize("name", ["hourly", "quarter hours", "one aggregator", "many cars"])
def test_without_v2g_cars_charge_to_their_targets_at_once(name):
    model = model_of(name)
    days = sample(model.instance, "generator", 5, 1)
    facts = rollout(model, days, Uncontrolled(model, 0.0)).facts
    expected = uncontrolled_kw(model.instance, days.cars).sum(axis=2)
    assert np.abs(facts[:, :, FACTS.index("ev_kw")] - expected).max() < 1e-2
    assert expected.max() > 10.0


@pytest.mark.parametrize("margin_sd", [-1.0, 0.0, 0.5, 2.0])
def test_without_v2g_the_generator_lies_the_margin_above_the_expected_net_load(margin_sd):
    lot = HOURLY.replace(gas_band_kw=1000.0, gas_ramp_kw=2000.0)
    model = Model(lot)
    days = sample(lot, "generator", 5, 1)
    facts = rollout(model, days, Uncontrolled(model, margin_sd)).facts
    for t in (0, 8, 20):
        mean, sd = expected_power(lot, days.forecast, days.news, t)
        share = lot.wind_common
        together = np.sqrt((1 - share) * (sd[:, 0] ** 2).sum(axis=1) + share * sd[:, 0].sum(axis=1) ** 2)
        net = lot.load_mean_kw[t].sum() + facts[:, t, FACTS.index("ev_kw")] - mean[:, 0].sum(axis=1)
        expected = np.clip(net + margin_sd * together, 0.0, lot.gas_max_kw)
        assert np.abs(facts[:, t, FACTS.index("gas_kw")] - expected).max() < 1.0  # the model's tables interpolate


# ----------------------------------------------------------------- pieces


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 500), step=st.integers(5, 23), wanted=st.floats(-400.0, 400.0))
def test_fractions_reach_the_wanted_total_within_the_limits(seed, step, wanted):
    rng = np.random.default_rng(seed)
    days = sample(HOURLY, "generator", 2, seed)
    state = MODEL.initial(days)
    for _ in range(step):
        state = MODEL.step(days, state, rng.uniform(-1.0, 1.0, (2, 8)))[0]
    sight = read(MODEL, MODEL.observe(days, state))
    share = fleet_fraction(sight, np.array([wanted, -wanted]))
    assert share.shape == (2, 6) and np.abs(share).max() <= 1.0 and (share == share[:, :1]).all()
    low = (sight.idle_kw - sight.down_kw).sum(axis=1)
    high = (sight.idle_kw + sight.up_kw).sum(axis=1)
    got = totals(sight, np.concatenate([np.zeros((2, 1)), share, np.zeros((2, 1))], axis=1))
    assert np.allclose(got, np.clip([wanted, -wanted], low, high), atol=1e-9)


def test_the_margin_is_the_worst_of_the_set_by_hand():
    days = sample(HOURLY, "generator", 4, 2)
    sight = read(MODEL, MODEL.observe(days, MODEL.initial(days)))
    loads = HOURLY.load_deviation * sight.load_kw[:, None] * np.array(HOURLY.load_shares)
    turbines = np.repeat(1.5 * sight.wind_sd_kw[:, None] / 4.0, 4, axis=1)
    both = np.concatenate([loads, turbines], axis=1)
    largest = -np.sort(-both, axis=1)
    for protection, by_hand in (
        (Protection(), 0.0),
        (Protection("box"), loads.sum(axis=1)),
        (Protection("box", wind=True), loads.sum(axis=1) + 1.5 * sight.wind_sd_kw),
        (Protection("budget", 2.5, wind=True), largest[:, 0] + largest[:, 1] + 0.5 * largest[:, 2]),
        (Protection("budget", 1.0), loads.max(axis=1)),
        (Protection("ellipsoid", 0.7), 0.7 * np.sqrt((loads**2).sum(axis=1))),
    ):
        assert np.allclose(margin_kw(MODEL, sight, protection, 1.5), by_hand, rtol=1e-9)


def test_spreads_of_the_wind_are_those_of_days_seen_from_their_start():
    sd = typical_wind_sd(HOURLY)
    assert sd.shape == (24,) and (sd > 0.0).all() and sd[0] < sd[5]
    assert np.allclose(typical_wind_sd(HOURLY.replace(forecast_quality=1.0)), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(typical_wind_sd(HOURLY.replace(turbine_bus=())), np.zeros(24))
    days = sample(HOURLY, "generator", 1500, 8)  # other days: mean square error of the forecast
    mean = expected_power(HOURLY, days.forecast, days.news, 0)[0]
    error = np.sqrt(((days.wind_kw[:, 1:] - mean) ** 2).mean(axis=(0, 2)))
    assert (sd < 1.05 * error).all() and (sd > 0.6 * error).all()  # a mean of roots is below the root of the mean


@pytest.mark.parametrize("cars", [0, 1, 24, 25, 26, 49, 60, 100, 1000])
def test_few_kinds_of_cars_stand_for_as_many_cars(cars):
    lot = HOURLY.replace(cars=cars)
    fleet = typical_cars(lot)
    few = few_kinds(lot, fleet)
    assert all(len(part) == cars for part in few)
    rows, counts = np.unique(np.stack([part.astype(float) for part in few], axis=1), axis=0, return_counts=True)
    assert len(rows) <= 25
    every = {tuple(row) for row in np.stack([part.astype(float) for part in fleet], axis=1).tolist()}
    assert all(tuple(row) in every for row in rows.tolist())
    if cars >= 25:
        assert len(rows) >= 20 and counts.max() <= 3 * np.ceil(cars / 25)
        assert abs(few.start_kwh.mean() - fleet.start_kwh.mean()) < 1.0
        assert abs(few.arrive.mean() - fleet.arrive.mean()) < 1.0


def test_possible_days_leave_the_generator_half_its_room():
    lot = HOURLY.replace(gas_max_kw=500.0)
    load, half = lot.load_mean_kw, 0.5 * lot.load_mean_kw
    wind = np.full((24, 4), 5.0)
    nobody = np.zeros(lot.cars, np.int64)
    day = Day(load, half, wind, 0.5 * wind, nobody, nobody, 0.0 * nobody, 0.0 * nobody, 0.0)
    for protection in (Protection("box"), Protection("box", wind=True)):
        found = possible(lot, day, protection)
        worst = found.load_half_kw.sum(axis=1) + protection.wind * found.wind_half_kw.sum(axis=1)
        room = np.maximum(lot.gas_max_kw + 20.0 - load.sum(axis=1), 0.0)
        assert (worst <= 0.5 * room + 1e-9).all() and (room == 0.0).any()
        given = half.sum(axis=1) + protection.wind * 10.0
        assert np.allclose(worst, np.minimum(given, 0.5 * room))
        assert all(a is b for a, b in zip(found[4:], day[4:], strict=True))


# ----------------------------------------------------------------- day-ahead plans


def planned(lot, protection, seed):
    """Wind expected at noon (steps,), and the plan's profile."""
    days = sample(lot, "generator", 1, seed)
    wind = expected_power(lot, days.forecast, days.news, 0)[0][0].sum(axis=1)
    return wind, DayAhead(Model(lot), protection).profile(wind)


@pytest.mark.parametrize("name", ["hourly", "half hours", "many cars", "no turbines"])
@pytest.mark.parametrize("protection", [Protection(), SET, Protection("ellipsoid", 1.0)])
def test_profiles_keep_the_power_and_energy_of_the_typical_fleet(name, protection):
    lot = HOURLY.replace(**LOTS[name])
    for seed in (1, 2):
        _, profile = planned(lot, protection, seed)
        fleet = few_kinds(lot, typical_cars(lot))
        steps = np.arange(lot.steps)[:, None]
        there = ((fleet.arrive <= steps) & (steps < fleet.depart)).sum(axis=1)
        assert profile.shape == (lot.steps,) and (np.abs(profile) <= lot.charger_kw * there + 1e-6).all()
        # all cars together store at most what one battery would that never charges and discharges at once
        stored = lot.step_h * np.minimum(lot.efficiency * profile, profile / lot.efficiency).sum()
        came = fleet.arrive < fleet.depart
        assert stored >= (fleet.target_kwh - fleet.start_kwh)[came].sum() - 1e-6


@pytest.mark.parametrize("level", [0.0, 1.0, 3.0])
def test_profiles_are_those_of_the_best_robust_plan(level):
    lot = HOURLY.replace(line_limit_kw=(1e6,) * 6, reserve_share=0.0, gas_ramp_kw=5000.0)
    model, protection = Model(lot), Protection("budget", level, wind=True)
    wind, profile = planned(lot, protection, 4)
    mean = np.repeat(wind[:, None] / 4.0, 4, axis=1)
    half = np.minimum(1.5 * typical_wind_sd(lot)[:, None], mean)
    load = lot.load_mean_kw
    cars = few_kinds(lot, typical_cars(lot))
    day = possible(lot, Day(load, lot.load_deviation * load, mean, half, *cars, 300.0), protection)
    best = linear.solve(lot, day, protection).value
    gas = np.maximum(load.sum(axis=1) + profile + protection.lacking(lot, day) - wind, 0.0)
    used = np.maximum(load.sum(axis=1) + profile - gas, 0.0)
    ends = np.linspace(0.0, lot.gas_max_kw, lot.gas_segments + 1)
    cost = model.gas_scale * np.interp(gas, ends, lot.gas_linear * ends + lot.gas_quadratic * ends**2)
    cost += lot.wind_usd_per_kwh * used + 0.04 * np.maximum(-profile, 0.0)
    assert gas.max() <= lot.gas_max_kw
    assert best - 0.01 * best <= cost.sum() <= best + 1e-6  # wear counts here only beyond what other cars take


def test_day_ahead_plans_follow_the_profile_of_the_first_observation():
    days = sample(HOURLY, "generator", 3, 12)
    policy = DayAhead(MODEL, SET, share=0.25, wind_sd=1.0)
    profiles = np.stack([DayAhead(MODEL, SET, wind_sd=1.0).profile(row) for row in _first_winds(MODEL, days)])
    state, memory = MODEL.initial(days), None
    for t in range(24):
        observation = MODEL.observe(days, state)
        sight = read(MODEL, observation)
        action, memory = policy.predict(observation, memory)
        low, high = (sight.idle_kw - sight.down_kw).sum(axis=1), (sight.idle_kw + sight.up_kw).sum(axis=1)
        assert np.allclose(totals(sight, action), np.clip(profiles[:, t], low, high), atol=1e-3)
        margin = margin_kw(MODEL, sight, SET, 1.0)
        assert np.allclose(action[:, 0], np.minimum(margin / HOURLY.gas_band_kw, 1.0), atol=1e-6)
        assert np.allclose(action[:, -1], -0.5)
        state = MODEL.step(days, state, action.astype(float))[0]


def _first_winds(model, days):
    sight = read(model, model.observe(days, model.initial(days)))
    return np.stack([np.interp(np.arange(1, 25), (1, 2, 4, 8, 16, 24), row[:6]) for row in sight.wind_kw])


@pytest.mark.parametrize("fields", [{"gas_max_kw": 300.0}, {"gas_ramp_kw": 5.0}, {"gas_ramp_kw": 0.0}])
def test_where_no_plan_keeps_the_balance_missing_energy_has_its_price(fields):
    lot = HOURLY.replace(**fields)
    model = Model(lot)
    days = sample(lot, "generator", 3, 3)
    plan, without = (rollout(model, days, one) for one in (DayAhead(model, SET), Uncontrolled(model, 1.0)))
    assert plan.returns.mean() > without.returns.mean()
    with pytest.raises(InvalidInputError, match="rule for the day = none"):
        rollout(model, days, AdjustablePlan(model, SET))


def test_plans_beat_charging_at_once_on_common_days():
    days = sample(HOURLY, "generator", 12, 7)
    without = rollout(MODEL, days, Uncontrolled(MODEL, 1.0)).returns
    for policy in (DayAhead(MODEL, SET), AdjustablePlan(MODEL, SET)):
        gained = rollout(MODEL, days, policy).returns - without
        assert gained.mean() > 3.0 * gained.std(ddof=1) / np.sqrt(len(gained)) > 0.0


# ----------------------------------------------------------------- adjustable plans


def reaction(model, extra_kw, step=9):
    """Rules, and how actions change when the load of the step before was ``extra_kw`` higher: all cars, generator."""
    days = sample(model.instance, "generator", 3, 21)
    policy = AdjustablePlan(model, Protection("budget", 4.0, wind=True))
    state, memory = model.initial(days), None
    for _ in range(step):
        action, memory = policy.predict(model.observe(days, state), memory)
        state = model.step(days, state, 0.0 * action.astype(float))[0]
    seen = model.observe(days, state)
    sight, plain = read(model, seen), seen.copy()
    expected = memory[1]
    at = model.observation_layout["last_load"].start
    plain[:, at] += (expected - sight.last_net_kw) / 500.0  # nothing has deviated
    moved = plain.copy()
    moved[:, at] += extra_kw / 500.0
    actions = [policy.predict(each, memory)[0] for each in (plain, moved)]
    fleet = totals(sight, actions[1]) - totals(sight, actions[0])
    gas = model.instance.gas_band_kw * (actions[1][:, 0] - actions[0][:, 0])
    return memory[0], totals(sight, actions[0]), fleet, gas + fleet


@pytest.mark.parametrize("extra_kw", [4.0, -4.0])
def test_adjustable_plans_answer_to_the_deviation_of_the_step_before_as_their_rules_have_it(extra_kw):
    model = Model(HOURLY.replace(gas_band_kw=500.0))
    step, moved = 9, 0
    rules, _, fleet, gas = reaction(model, extra_kw, step)
    for row, rule in enumerate(rules):
        kind = int(extra_kw < 0.0)
        assert fleet[row] == pytest.approx(4.0 * rule.fleet_return[step, kind], abs=2e-3)
        assert gas[row] == pytest.approx(4.0 * rule.gas_answer[step, kind], abs=2e-3)
        moved += abs(fleet[row]) > 0.1 and abs(gas[row]) > 0.1
    assert moved > 0 or extra_kw < 0.0  # a surplus may just be spilled


def test_adjustable_plans_follow_their_rules_where_nothing_deviates():
    rules, total, _, _ = reaction(MODEL, 1.0)
    assert total == pytest.approx([rule.fleet_kw[9] for rule in rules], abs=1.0)


def test_what_is_known_beforehand_is_no_deviation():
    model = Model(HOURLY.replace(gate_closure_steps=0))
    days = sample(model.instance, "generator", 3, 21)
    policy = AdjustablePlan(model, SET)
    state, memory = model.initial(days), None
    for t in range(12):
        observation = model.observe(days, state)
        action, memory = policy.predict(observation, memory)
        sight = read(model, observation)
        low, high = (sight.idle_kw - sight.down_kw).sum(axis=1), (sight.idle_kw + sight.up_kw).sum(axis=1)
        wanted = np.clip([rule.fleet_kw[t] for rule in memory[0]], low, high)
        assert np.allclose(totals(sight, action), wanted, atol=1e-3)
        state = model.step(days, state, action.astype(float))[0]


@pytest.mark.parametrize(
    ("name", "merged"),
    [("hourly", 1), ("half hours", 2), ("quarter hours", 4), ("two hours", 1), ("odd number", 1), ("one step", 1)],
)
def test_rules_are_made_for_steps_of_up_to_an_hour(name, merged):
    policy = AdjustablePlan(model_of(name), SET)
    lot = policy.model.instance
    assert policy.merged == merged and policy.hourly.steps * merged == lot.steps
    assert policy.hourly.step_h == lot.step_h * merged and policy.hourly.gas_ramp_kw == lot.gas_ramp_kw * merged
    wind = np.linspace(100.0, 50.0, lot.steps)
    rule = policy.rule(wind if lot.turbines else 0.0 * wind)
    assert rule.gas_kw.shape == (lot.steps // merged,) and rule.fleet_answer.shape == (lot.steps // merged, 2)
    assert (rule.spare_kw >= -1e-6).all()


def test_bad_settings_are_refused_by_name():
    for make in (
        lambda: Uncontrolled(MODEL, float("nan")),
        lambda: Uncontrolled(MODEL, 101.0),
        lambda: Uncontrolled(MODEL, "1"),
    ):
        with pytest.raises(InvalidInputError, match="margin_sd = .*allowed"):
            make()
    for kind in (DayAhead, AdjustablePlan):
        with pytest.raises(InvalidInputError, match="alpha = 11.0; allowed"):
            kind(MODEL, Protection("budget", 11.0, wind=True))
        with pytest.raises(InvalidInputError, match="kind of protection"):
            kind(MODEL, Protection("ball"))
        with pytest.raises(InvalidInputError, match="wind_sd = -1.0; allowed"):
            kind(MODEL, SET, wind_sd=-1.0)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInputError, match="share = .*allowed"):
            DayAhead(MODEL, SET, share=share)
