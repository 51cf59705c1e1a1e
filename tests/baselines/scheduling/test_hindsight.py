"""Hindsight: nobody earns more on any day, its plans earn what they say, and the environment is part of its program."""

import numpy as np
import pytest

from baselines.duality import linear_bound
from baselines.scheduling.adjustable import AdjustablePlan
from baselines.scheduling.day import Protection, known_day
from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.mpc import PredictiveControl
from baselines.scheduling.plan import Plan, measure
from baselines.scheduling.policies import DayAhead, Uncontrolled
from baselines.scheduling.program import Task, build
from v2g_env.rollout import Recorded, rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, REWARD_TERMS, Model
from v2g_env.scheduling.scenario import rows_of, sample

HOURLY = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=15)
LOTS = {
    "hourly": {},
    "known at once": {"gate_closure_steps": 0},
    "tight lines": {"line_limit_kw": (230.0, 150.0, 60.0, 230.0, 150.0, 60.0)},
    "small generator": {"gas_max_kw": 350.0},
    "slow generator": {"gas_ramp_kw": 30.0},
    "no cars": {"cars": 0},
    "no turbines": {"turbine_bus": ()},
    "one aggregator": {"aggregator_bus": (1,), "load_shares": (1.0,)},
    "few steps": {"steps": 8, "start_h": 16.0},
    "no losses": {"efficiency": 1.0},
    "dear wear": {"wear_usd_per_kwh": 0.5},
    "free wind": {"wind_usd_per_kwh": 0.0, "subsidy_usd_per_kwh": 0.0, "wear_usd_per_kwh": 0.0},
}
N = 6
MADE = {}


def made(name):
    """Model, days and their bounds."""
    if name not in MADE:
        model = Model(HOURLY.replace(**LOTS[name]))
        days = sample(model.instance, "generator", N, 31)
        MADE[name] = model, days, hindsight(model, days)
    return MADE[name]


def random_actions(model, seed):
    """Actions that use the whole range, its ends, or little of it."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.0, 1.0, (N, model.steps, model.action_size))
    kind = np.arange(N)[:, None, None] % 3
    actions = np.where(kind == 1, np.sign(actions), np.where(kind == 2, 0.2 * actions, actions))
    return Recorded(actions.astype(np.float32))


@pytest.mark.parametrize("name", LOTS)
def test_no_policy_earns_more_on_any_day(name):
    model, days, top = made(name)
    policies = [random_actions(model, seed) for seed in range(8)]
    policies += [Uncontrolled(model, 1.0), DayAhead(model, Protection("budget", 1.0)), PredictiveControl(model, 0.0)]
    if name not in ("small generator", "slow generator"):
        policies.append(AdjustablePlan(model, Protection("budget", 1.0)))
    for policy in policies:
        returns = rollout(model, days, policy).returns
        assert (returns <= top.bound_usd + 1e-6).all(), type(policy)


@pytest.mark.parametrize("name", LOTS)
def test_plans_earn_what_they_say_when_replayed_and_no_more_than_the_bound(name):
    model, days, top = made(name)
    state, money = model.initial(days), np.zeros(N)
    for t in range(model.steps):
        gas = np.array([answer.plan.gas_kw[t] for answer in top.answers])
        cars = np.stack([answer.plan.car_kw[t] for answer in top.answers])
        state, earned, _ = model.replay(days, state, gas, cars)
        money += earned.sum(axis=1)
    assert money == pytest.approx(top.plan_usd, rel=1e-9, abs=1e-9)
    assert (top.plan_usd <= top.bound_usd + 1e-9).all()
    gap = top.bound_usd - top.plan_usd
    assert gap.max() <= 1e-5 * model.instance.calibrated_usd
    came = days.arrive < days.depart
    assert (state.energy_kwh[came] >= days.target_kwh[came] - 1e-6).all()


@pytest.mark.parametrize("name", LOTS)
def test_every_trajectory_of_the_environment_is_a_plan_at_no_higher_cost(name):
    model, days, _ = made(name)
    lot = model.instance
    for seed in (1, 2):
        state, gas, energies = model.initial(days), [], []
        energies.append(state.energy_kwh)
        returns = np.zeros(N)
        policy, memory = random_actions(model, seed), None
        for _ in range(model.steps):
            action, memory = policy.predict(model.observe(days, state), memory)
            state, earned, facts = model.step(days, state, action.astype(float))
            gas.append(facts[:, FACTS.index("gas_kw")])
            energies.append(state.energy_kwh)
            returns += earned.sum(axis=1)
        change = np.diff(np.stack(energies), axis=0) / lot.step_h
        cars = np.where(change > 0.0, change / lot.efficiency, change * lot.efficiency)
        for row in range(N):
            task = Task(known_day(model, days, row), Protection(), "cost", True, model.gas_scale)
            found = measure(lot, task, Plan(np.stack(gas)[:, row], cars[:, row]))
            assert max(found.off.values()) <= 1e-6, found.off
            assert found.cost_usd <= lot.calibrated_usd - returns[row] + 1e-9
            assert found.cost_usd == pytest.approx(lot.calibrated_usd - returns[row], rel=1e-9, abs=1e-9)


def test_lots_cover_missing_energy_overload_and_wind_that_is_spilled():
    totals = {}
    for name in ("small generator", "tight lines", "hourly"):
        model, days, top = made(name)
        state, money = model.initial(days), 0.0
        for t in range(model.steps):
            gas = np.array([answer.plan.gas_kw[t] for answer in top.answers])
            cars = np.stack([answer.plan.car_kw[t] for answer in top.answers])
            state, earned, facts = model.replay(days, state, gas, cars)
            money = money + earned.sum(axis=0)
        totals[name] = dict(zip(REWARD_TERMS, money.tolist(), strict=True))
    assert totals["small generator"]["emergency"] < -10.0 and totals["tight lines"]["overload"] < -10.0
    assert totals["hourly"]["emergency"] > -1e-6


@pytest.mark.parametrize("name", ["hourly", "tight lines", "small generator"])
def test_bounds_are_those_of_the_multipliers(name):
    model, days, top = made(name)
    lot = model.instance
    for row, answer in enumerate(top.answers):
        task = Task(known_day(model, days, row), Protection(), "cost", True, model.gas_scale)
        program = build(lot, task, answer.label, answer.lines, np.zeros(0, np.int64))
        parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
        assert top.bound_usd[row] == lot.calibrated_usd + linear_bound(*parts, answer.dual)


def test_days_do_not_depend_on_each_other_and_progress_is_told():
    model, days, top = made("hourly")
    alone = hindsight(model, rows_of(days, slice(2, 4)))
    assert np.array_equal(alone.bound_usd, top.bound_usd[2:4]) and np.array_equal(alone.plan_usd, top.plan_usd[2:4])
    small = Model(HOURLY.replace(steps=2, cars=0))
    heard = []
    hindsight(small, sample(small.instance, "generator", 101, 0), heard.append)
    assert heard == ["hindsight: 50 of 101 days", "hindsight: 100 of 101 days"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("gas_ramp_kw", (20.0, 60.0, 800.0)),
        ("soc_max", (0.9, 0.95, 1.0)),
        ("line_limit_kw", ((60.0,) * 6, (150.0,) * 6, (400.0,) * 6)),
        ("emergency_usd_per_kwh", (9.0, 3.0, 0.1)),
        ("overload_usd_per_kwh", (5.0, 1.0, 0.0)),
    ],
)
def test_fewer_limits_and_lower_prices_never_lower_a_bound(field, values):
    tight = {"gas_ramp_kw": 60.0, "line_limit_kw": (150.0,) * 6, "wear_usd_per_kwh": 0.0}
    bounds = []
    for value in values:
        model = Model(HOURLY.replace(**(tight | {field: value})))
        days = sample(model.instance, "generator", 3, 3)
        bounds.append(hindsight(model, days).bound_usd)
    assert (np.diff(np.array(bounds), axis=0) >= -1e-3).all()
    assert (bounds[-1] > bounds[0] + 0.1).any()
