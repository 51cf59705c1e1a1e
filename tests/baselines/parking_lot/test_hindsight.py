from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from baselines.parking_lot.hindsight import bays_hindsight, hindsight
from baselines.parking_lot.policies import (
    ChargeWhenCheap,
    DoNothing,
    LeastLaxity,
    PlanReplay,
    PredictiveControl,
)
from baselines.parking_lot.programs import solve
from baselines.parking_lot.samples import reachable, true_market
from baselines.parking_lot.storage import plan_money, solve_paths
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Scenario, law, sample
from v2g_env.rollout import rollout

LOTS = {
    "default": Instance(),
    "no gate closure": Instance(gate_closure_steps=0),
    "proportional": Instance(dispatch="proportional"),
    "least laxity": Instance(dispatch="least_laxity", charger_spread=0.4),
    "half hours": Instance(step_h=0.5),
    "small grid": Instance(grid_limit_kw=10.0),
    "wear above every price paid": Instance(wear_usd_per_kwh=0.45, sell_fraction=0.1, fee_fraction=0.1),
    "free energy": Instance(buy_usd_per_kwh=(0.0,) * 12 + (0.4,) * 12, wear_usd_per_kwh=0.0, efficiency=0.6),
}


class Chance:
    """Random actions of different temperaments: each row has its own mean, spread and stickiness."""

    def __init__(self, n: int, size: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.mean = self.rng.uniform(-1.0, 1.0, (n, 1))
        self.spread = self.rng.choice([0.0, 0.2, 1.0, 10.0], (n, 1))
        self.size = size

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Random actions."""
        noise = self.rng.normal(size=(len(self.mean), self.size))
        return np.clip(self.mean + self.spread * noise, -1.0, 1.0).astype(np.float32), None


@pytest.mark.parametrize("name", LOTS)
def test_no_policy_beats_the_bound_on_any_path(name):
    lot = LOTS[name]
    days = sample(lot, law("generator"), 300, 21)
    top = hindsight(lot, days)
    # the float path value and the proven limit are within rounding and tie-break of each other
    assert (top.bound_usd >= top.value_usd - 1e-9).all()
    assert np.allclose(top.bound_usd, top.value_usd, atol=2e-3)
    plan = solve(lot, n_samples=50, seed=1, beta=1e-2).plan
    model = Model(lot, "generator", plan)
    policies = [Chance(300, 1, seed) for seed in range(4)]
    policies += [DoNothing(model), PlanReplay(model), ChargeWhenCheap(model), ChargeWhenCheap(model, 1.0)]
    policies += [LeastLaxity(model), *(PredictiveControl(model, q) for q in (0.05, 0.5, 0.95))]
    for policy in policies:
        assert (rollout(model, days, policy).returns <= top.bound_usd + 1e-9).all()


@pytest.mark.parametrize("rule", DISPATCH_RULES)
def test_the_best_path_is_feasible_and_its_replay_earns_it_but_for_redistribution(rule):
    lot = Instance(dispatch=rule)
    days = sample(lot, law("generator"), 100, 22)
    top = hindsight(lot, days)
    model = Model(lot, "generator")
    path = solve_paths(lot, true_market(lot, days), reachable(lot, days)).stored_kwh
    state, money = model.initial(days), 0.0
    for t in range(lot.steps):
        aim = path[:, min(t + 1, lot.steps - 1)]
        state, earned, _ = model.step(days, state, model.action_for(aim, t, days.capacity_kwh[:, t]))
        money = money + earned
    in_reach = np.abs(state.stored_kwh) < 1e-9
    assert in_reach.all()
    returns = money.sum(axis=1)
    assert (returns <= top.bound_usd + 1e-9).all()
    # targets above r_t K_t cannot be asked for; on the days where all were in reach the money is met exactly
    ratio = model.constants.ratio[:-1]
    asked = (path[:, 1:] <= days.capacity_kwh[:, :-2] * ratio + 1e-9).all(axis=1)
    assert asked.sum() > 10
    assert np.allclose((returns - money[:, 5])[asked], top.value_usd[asked], atol=1e-5)


def test_an_open_gate_is_never_worth_less():
    lot = Instance()
    days = sample(lot, law("generator"), 200, 23)
    late = hindsight(lot, days)
    early = hindsight(lot.replace(gate_closure_steps=0), days)
    assert (early.value_usd >= late.value_usd - 1e-9).all()
    cheap_start = lot.replace(
        open_h=9.0, buy_usd_per_kwh=(0.25,) * 9 + (0.05,) + (0.25,) * 5 + (0.45,) * 6 + (0.25,) * 3
    )
    days = sample(cheap_start, law("generator"), 50, 23)
    early = hindsight(cheap_start.replace(gate_closure_steps=0), days).value_usd
    assert (early > hindsight(cheap_start, days).value_usd + 1e-3).any()


def lonely(lot: Instance, arrive, depart, cap, surplus, deficit) -> Scenario:
    """A day written by hand: one row, cars in bays of their own, given offers."""
    count, steps = len(arrive), lot.steps
    rise = lot.efficiency * lot.charger_kw * lot.step_h
    quota = np.minimum(np.array(cap, float), rise)
    capacity, full, power = (np.zeros((1, steps + 1)) for _ in range(3))
    for a, d, q, c in zip(arrive, depart, quota, cap, strict=True):
        power[0, a:d] += lot.charger_kw
        capacity[0, a : max(d - 1, a)] += q
        full[0, a : max(d - 1, a)] += c

    def row(values, kind):
        return np.array([values], dtype=kind)

    ones = np.ones((1, steps + 1))
    return Scenario(
        np.zeros(1, np.int32),
        np.array([count], np.int32),
        row(arrive, np.int32),
        row(depart, np.int32),
        row(depart, np.float64),
        quota[None],
        row(cap, np.float64),
        np.full((1, count), lot.charger_kw),
        row(range(count), np.int32),
        row(range(count), np.int32),
        capacity,
        full,
        power,
        np.append(np.array(surplus, float), 0.0)[None],
        np.append(np.array(deficit, float), 0.0)[None],
        ones,
        ones.copy(),
        np.zeros(1, np.int32),
    )


TINY = {
    "one car": ([0], [4], [6.0]),
    "one car, leaves early": ([0], [3], [6.0]),
    "late car": ([1], [4], [20.0]),
}


@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("name", TINY)
def test_a_fine_grid_of_actions_comes_close_to_the_bound_of_a_tiny_day(name, gate):
    # one car: nothing can be redistributed, so the bound is attained up to the grid
    lot = Instance(
        bays=1, open_h=0.0, close_h=4.0, gate_closure_steps=gate, efficiency=0.9, grid_limit_kw=3.0,
        buy_usd_per_kwh=(0.2, 0.1, 0.3, 0.5) + (0.5,) * 20, pv_sd=0.0, load_sd=0.0,
    )  # fmt: skip
    day = lonely(lot, *TINY[name], [5.0, 4.0, 0.0, 0.0], [0.0, 0.0, 2.0, 5.0])
    top = hindsight(lot, day)
    grid = np.linspace(-1.0, 1.0, 41)
    choices = np.array(list(product(grid, grid, grid)))
    many = Scenario(*(np.repeat(part, len(choices), axis=0) for part in day))
    model = Model(lot)
    # the gate's ratio K_{t+1} / K_t of the fitting days means nothing here
    model.constants = model.constants._replace(ratio=np.array([1.0, 1.0, 1.0, 0.0]))
    state, money = model.initial(many), 0.0
    for t in range(4):
        action = choices[:, t : t + 1] if t < 3 else np.full((len(choices), 1), -1.0)
        state, earned, _ = model.step(many, state, action)
        money = money + earned
    best = money.sum(axis=1).max()
    assert best <= top.bound_usd[0] + 1e-9
    assert top.value_usd[0] > 0.05
    if not (name == "late car" and gate):  # the gate is shut before that car's capacity can be asked for in step 1
        assert best >= top.value_usd[0] - 0.05


@pytest.fixture(scope="module")
def bay_days():
    lot = Instance()
    days = sample(lot, law("generator"), 25, 24)
    model = Model(lot, "generator", per_bay=True)
    return lot, days, model, [bays_hindsight(model, days, i) for i in range(25)]


def test_the_bays_can_do_at_least_what_the_lot_can(bay_days):
    lot, days, _, found = bay_days
    value, proven = np.array(found).T
    assert (proven >= value - 1e-9).all()
    assert np.allclose(proven, value, atol=1e-4)
    assert (proven >= hindsight(lot, days).value_usd - 1e-6).all()
    assert proven.mean() > hindsight(lot, days).value_usd.mean() + 1.0  # caps above one step's energy are worth money


@pytest.mark.parametrize("changes", [{}, {"gate_closure_steps": 0}, {"charger_spread": 0.5}, {"grid_limit_kw": 30.0}])
def test_no_actions_on_the_bays_beat_their_bound(bay_days, changes):
    lot = Instance(**changes)
    if changes:
        days = sample(lot, law("generator"), 8, 25)
        model = Model(lot, "generator", per_bay=True)
        proven = np.array([bays_hindsight(model, days, i)[1] for i in range(8)])
    else:
        _, days, model, found = bay_days
        proven = np.array(found)[:, 1]
    n = len(proven)
    many = Scenario(*(np.repeat(part, 20, axis=0) for part in days))
    for seed in range(3):
        returns = rollout(model, many, Chance(20 * n, model.action_size, seed)).returns.reshape(n, 20)
        assert (returns <= proven[:, None] + 1e-9).all()


class Clock:
    """All bays charge in the cheap hours, rest, and empty in the dear ones."""

    def __init__(self, fill: range, empty: range, power: float) -> None:
        self.fill, self.empty, self.power, self.t = fill, empty, power, 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Actions by the step's number."""
        t = 0 if state is None else state[0]
        level = self.power if t in self.fill else (-1.0 if t in self.empty else 0.0)
        return np.full((len(observation), 52), level, np.float32), (t + 1,)


def test_sensible_actions_on_the_bays_earn_money_and_stay_below_their_bound(bay_days):
    _, days, model, found = bay_days
    proven = np.array(found)[:, 1]
    best = np.full(len(proven), -np.inf)
    for start, power in product((1, 2, 4), (0.1, 0.3, 1.0)):
        returns = rollout(model, days, Clock(range(start, 6), range(7, 13), power)).returns
        assert (returns <= proven + 1e-9).all()
        best = np.maximum(best, returns)
    assert best.mean() > 5.0


def test_on_a_day_of_one_car_bays_and_lot_agree_with_a_hand_calculation():
    lot = Instance(
        bays=1, open_h=0.0, close_h=4.0, gate_closure_steps=0, efficiency=0.5, grid_limit_kw=100.0,
        buy_usd_per_kwh=(0.1, 0.4, 0.8, 0.8) + (0.8,) * 20, wear_usd_per_kwh=0.0,
    )  # fmt: skip
    day = lonely(lot, [0], [4], [4.0], np.zeros(4), [0.0, 0.0, 1.0, 9.0])
    # 4 kWh: 8 kWh AC bought at .1; 2 kWh AC back, 1 in step 2 and 1 in step 3, or both in step 3: 2 x .9 x .8
    hand = -0.8 + 2 * 0.72
    assert hindsight(lot, day).value_usd[0] == pytest.approx(hand, abs=1e-5)
    value, proven = bays_hindsight(Model(lot, per_bay=True), day, 0)
    assert value == pytest.approx(hand, abs=1e-7)
    assert hand - 1e-9 <= proven <= hand + 1e-6
    assert plan_money(lot, true_market(lot, day), np.array([[4.0, 4.0, 4.0, 0.0]]))[0] == pytest.approx(hand)


def test_a_car_that_can_hold_more_than_one_step_can_move_is_worth_more_per_bay():
    lot = Instance(
        bays=1, open_h=0.0, close_h=6.0, gate_closure_steps=0, efficiency=1.0, wear_usd_per_kwh=0.0,
        buy_usd_per_kwh=(0.1, 0.1, 0.5, 0.5, 0.5, 0.5) + (0.5,) * 18,
    )  # fmt: skip
    day = lonely(lot, [0], [6], [18.0], np.zeros(6), np.full(6, 50.0))
    assert hindsight(lot, day).value_usd[0] == pytest.approx(10.0 * (0.45 - 0.1), abs=1e-5)
    assert bays_hindsight(Model(lot, per_bay=True), day, 0)[0] == pytest.approx(18.0 * (0.45 - 0.1), abs=1e-7)
