from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from baselines.parking_lot.critic_policy import FEATURES, CriticControl, fit_critic_control, fit_day_filter
from baselines.parking_lot.critic_policy_kernel import choose_rows, learn_rows
from baselines.parking_lot.penalty import critic_values, days_for, fit, penalised, penalty_of
from baselines.parking_lot.penalty_data import Penalty
from baselines.parking_lot.penalty_default import _FILE, _SAMPLES, _SEED, covered, default_penalty
from baselines.parking_lot.penalty_market import known_weights, market_weights
from baselines.parking_lot.policies import DoNothing, LeastLaxity, PredictiveControl
from baselines.parking_lot.samples import physical_limits, reachable
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import law, sample
from v2g_env.rollout import rollout

LOT, LAW = Instance(), law("generator")
PLAN = np.append(np.minimum(60.0 * np.arange(12.0), 300.0), 0.0)


@cache
def fitted():
    return fit_critic_control(LOT, LAW, 2400, 8103)


def seen_by(model: Model, days, other=None):
    """Features (n, T - 2, F) that a policy meets which does nothing, or what ``other`` does."""
    state, seen, memory = model.initial(days), [], None
    for t in range(model.steps - 2):
        observation = model.observe(days, state)
        seen.append(
            np.concatenate([observation[:, model.observation_layout[name]] for name in FEATURES], axis=1).astype(float)
        )
        action = np.full((len(days.day), 1), -1.0)
        if other is not None:
            action, memory = other.predict(observation, memory, np.full(len(days.day), t == 0))
        state = model.step(days, state, np.asarray(action, float))[0]
    return np.stack(seen, axis=1)


def learnt(features):
    """Whitened features and log-likelihoods after every step."""
    f = fitted().days
    white, chance = np.zeros((len(features), f.factor.shape[0])), np.zeros((len(features), len(f.centre)))
    story = []
    for t in range(features.shape[1]):
        learn_rows(t, np.ascontiguousarray(features[:, t]), f.factor, f.centre, white, chance)
        story.append(chance.copy())
    return white, story


def test_what_the_filter_sees_does_not_depend_on_what_the_policy_does():
    model = Model(LOT)
    days = sample(LOT, LAW, 50, 71)
    assert np.array_equal(seen_by(model, days), seen_by(model, days, LeastLaxity(model)))


def test_the_filters_likelihood_is_the_normal_one_of_the_whole_past():
    f = fitted().days
    features = seen_by(Model(LOT), sample(LOT, LAW, 6, 72))
    _, story = learnt(features)
    covariance, width = f.factor @ f.factor.T, len(FEATURES)
    means = (f.factor @ f.centre.T).T
    for t in (0, 4, 10):
        size = (t + 1) * width
        away = features[:, : t + 1].reshape(6, 1, size) - means[None, :, :size]
        inverse = np.linalg.inv(covariance[:size, :size])
        dense = -0.5 * np.einsum("nda,ab,ndb->nd", away, inverse, away, optimize=True)
        assert np.allclose(story[t], dense, rtol=1e-6, atol=1e-6)


def test_the_filter_finds_the_base_day_of_simulated_days_better_and_better():
    days = sample(LOT, LAW, 1500, 73)
    _, story = learnt(seen_by(Model(LOT), days))
    share = [(chance.argmax(axis=1) == days.day).mean() for chance in story]
    assert share[0] < 0.35
    assert share[3] > 0.8
    assert share[10] > 0.99
    # how sure the posterior is of its choice is how often it is right, nearly: features are not quite normal
    for t in (1, 2):
        sure = 1.0 / np.exp(story[t] - story[t].max(axis=1, keepdims=True)).sum(axis=1)
        right = story[t].argmax(axis=1) == days.day
        for low, high in ((0.3, 0.7), (0.7, 1.01)):
            rows = (sure >= low) & (sure < high)
            assert rows.sum() > 100
            assert abs(right[rows].mean() - sure[rows].mean()) < 0.1


def test_the_next_capacity_is_forecast_without_bias_and_with_the_spread_that_is_claimed():
    f = fitted().days
    days = sample(LOT, LAW, 1500, 74)
    white, _ = learnt(seen_by(Model(LOT), days))
    own = reachable(LOT, days)
    for t in (3, 6, 9):
        forecast = f.capacity_kwh[days.day, t] + ((white - f.centre[days.day]) * f.slope_kwh[t]).sum(axis=1)
        error = own[:, t] - forecast
        assert abs(error.mean()) < 4.0 * error.std() / np.sqrt(1500) + 0.5
        assert error.std() == pytest.approx(f.residual_kwh[t], rel=0.15)
        assert error.std() < 0.8 * (own[:, t] - f.capacity_kwh[days.day, t]).std()


def test_the_market_is_weighed_as_the_penalty_weighs_it():
    days = sample(LOT, LAW, 40, 75)
    seen, _ = market_weights(LOT, days, (5, 3))
    for t in (1, 6):
        ours = known_weights(LOT, days.pv_factor[:, t], days.load_factor[:, t], (5, 3))
        assert np.allclose(ours, seen[:, t], atol=1e-9)
    flat = LOT.replace(pv_sd=0.0)
    assert np.allclose(known_weights(flat, np.ones(3), np.ones(3), (5, 3)).sum(axis=1), 1.0)


def test_the_energy_fixed_is_the_best_of_a_brute_force_newsvendor():
    f, penalty = fitted().days, fitted().penalty
    values, rules = critic_values(LOT, penalty)
    rng = np.random.default_rng(3)
    n, t, day = 60, 5, 17
    white = np.tile(f.centre[day], (n, 1))  # a day that goes as its mean: the forecast is the mean capacity
    chance = np.full((n, len(f.centre)), -np.inf)
    chance[:, day] = 0.0
    x, top = rng.uniform(0.0, 150.0, n), rng.uniform(150.0, 300.0, n)
    surplus, deficit = rng.uniform(0.0, 80.0, n), rng.uniform(0.0, 80.0, n)
    market = known_weights(LOT, rng.uniform(0.7, 1.3, n), rng.uniform(0.7, 1.3, n), penalty.nodes)
    found = choose_rows(
        t, top, x, surplus, deficit, market, chance, white, f.centre, f.capacity_kwh, f.slope_kwh, f.residual_kwh,
        values, penalty.mean_kwh, penalty.spread_kwh, penalty.leaving_kwh, penalty.width_kwh, 1, 60, rules,
    )  # fmt: skip
    places = penalty.width_kwh * np.arange(values.shape[4])
    held = np.maximum(f.capacity_kwh[day, t + 1] + f.residual_kwh[t + 1] * rules.points, 0.0)

    def exchange(change, i):
        """Money of a change of the stored energy, all candidates at once."""
        price, up, down = LOT.buy[t + 1], np.maximum(change, 0.0) / LOT.efficiency, LOT.efficiency * -change
        taken, back = (
            np.minimum(up, surplus[i] * LOT.step_h),
            np.minimum(np.maximum(down, 0.0), deficit[i] * LOT.step_h),
        )
        bought, sold = up - taken, np.maximum(down, 0.0) - back
        earned = price * (LOT.return_fraction * back + LOT.sell_fraction * sold - LOT.fee_fraction * taken - bought)
        earned = earned - LOT.wear_usd_per_kwh * (taken + bought + back + sold)
        return np.where(np.maximum(bought, sold) > LOT.grid_limit_kw * LOT.step_h, -1e9, earned)

    def worth(i, c):
        left = np.interp(x[i], places, penalty.leaving_kwh[day, t + 1])
        total = exchange(c - x[i], i) - rules.refill[t + 1] * np.maximum(np.minimum(left, c - x[i] + left), 0.0)
        table = np.einsum("m,kmj->kj", market[i], values[day, t + 1])
        for k, share in zip(held, rules.shares, strict=True):
            level = (k - penalty.mean_kwh[day, t + 1]) / penalty.spread_kwh[day, t + 1]
            place = np.interp(level, rules.levels, np.arange(len(rules.levels)))
            low = min(int(place), len(rules.levels) - 2)
            row = (1.0 - place + low) * table[low] + (place - low) * table[low + 1]
            over = LOT.imbalance_usd_per_kwh * np.maximum(c - k, 0.0)
            total = total + share * (np.interp(np.minimum(c, k), places, row) - over)
        return total

    inner = 0
    for i in range(n):
        best = worth(i, np.linspace(0.0, top[i], 4001)).max()
        assert worth(i, found[i : i + 1])[0] >= best - 0.02
        assert 0.0 <= found[i] <= top[i]
        inner += 1.0 < found[i] < top[i] - 1.0
    assert inner > n // 2  # the answer is no corner


@pytest.mark.parametrize("plan", [None, PLAN], ids=["no plan", "plan"])
def test_actions_stay_in_range_and_the_last_ones_close_nothing(plan):
    model = Model(LOT, LAW, plan)
    episodes = rollout(model, sample(LOT, LAW, 40, 76), CriticControl(model, fitted()))
    assert (np.abs(episodes.actions) <= 1.0).all()
    assert (episodes.actions[:, -2:] == -1.0).all()
    assert (episodes.facts[:, -1, 4] == 0.0).all()


def test_a_row_does_not_depend_on_the_rows_beside_it():
    model = Model(LOT)
    control = CriticControl(model, fitted())
    days = sample(LOT, LAW, 30, 77)
    together = rollout(model, days, control).actions
    for i in (0, 11, 29):
        alone = type(days)._make(part[i : i + 1] for part in days)
        assert np.array_equal(rollout(model, alone, control).actions[0], together[i])


def test_rows_at_mixed_steps_with_their_memories_act_as_alone():
    model = Model(LOT)
    control = CriticControl(model, fitted())
    days = sample(LOT, LAW, 4, 78)
    state, memory, seen, kept, acted = model.initial(days), None, [], [], []
    for _ in range(LOT.steps):
        seen.append(model.observe(days, state))
        kept.append(memory)
        action, memory = control.predict(seen[-1], memory)
        acted.append(action)
        state = model.step(days, state, action.astype(float))[0]
    steps = [3, 0, 9, 12]
    rows = np.stack([seen[t][i] for i, t in enumerate(steps)])
    blank = tuple(np.zeros_like(part) for part in kept[1])
    mixed = tuple(np.stack([(kept[t] or blank)[k][i] for i, t in enumerate(steps)]) for k in range(len(blank)))
    before = [part.copy() for part in mixed]
    action, after = control.predict(rows, mixed)
    assert np.array_equal(action, np.stack([acted[t][i] for i, t in enumerate(steps)]))
    assert all(np.array_equal(a, b) for a, b in zip(before, mixed, strict=True))  # the caller's memory is his
    assert not np.array_equal(after[0], mixed[0])


def test_a_new_episode_forgets_and_a_gap_in_the_memory_is_refused():
    model = Model(LOT)
    control = CriticControl(model, fitted())
    days = sample(LOT, LAW, 5, 79)
    state = model.initial(days)
    first = model.observe(days, state)
    action, memory = control.predict(first, None, np.ones(5, bool))
    again, second = control.predict(first, memory, np.ones(5, bool))
    assert np.array_equal(action, again)
    assert all(np.array_equal(a, b) for a, b in zip(memory, second, strict=True))
    later = model.observe(days, model.step(days, state, action.astype(float))[0])
    control.predict(later, memory, np.zeros(5, bool))
    for wrong in ((None, None), (memory, np.array([False, True, False, False, False]))):
        with pytest.raises(InvalidInputError, match="state = 0 steps seen in step 1"):
            control.predict(later, *wrong)
    with pytest.raises(InvalidInputError, match="rows of the state"):
        control.predict(later[:3], memory)


def test_it_beats_predictive_control_on_paired_fresh_days_by_a_clear_margin():
    model = Model(LOT)
    days = sample(LOT, LAW, 600, 80)
    ours, theirs = (rollout(model, days, policy).returns for policy in (CriticControl(model), PredictiveControl(model)))
    more = ours - theirs
    assert more.mean() - 4.0 * more.std() / np.sqrt(600) > 3.0


@pytest.mark.parametrize(
    "lot",
    [
        Instance(grid_limit_kw=10.0),
        Instance(bays=12, charger_spread=0.4, dispatch="least_laxity"),
        Instance(step_h=0.5, open_h=10.0, close_h=20.0, pv_sd=0.0, load_sd=0.0),
    ],
    ids=["small grid", "few bays", "half hours, steady market"],
)
def test_on_other_lots_it_stays_below_the_bound_and_above_nothing(lot):
    small = replace(fitted(), days=fit_day_filter(lot, LAW, 400, 5), penalty=tiny_penalty(lot))
    model = Model(lot)
    days = days_for(model, 60, 81, small.penalty)
    episodes = rollout(model, days.scenario, CriticControl(model, small))
    gap = penalised(model, days, small.penalty).bound_usd - episodes.returns
    assert (gap + penalty_of(model, days, episodes, small.penalty)).min() >= -1e-9
    assert episodes.returns.mean() > rollout(model, days.scenario, DoNothing(model)).returns.mean()


def tiny_penalty(lot: Instance) -> Penalty:
    return fit(lot, LAW, 200, 6, draws=8, knots=12, nodes=(3, 2), path=64, tuning_days=1)


def test_the_shipped_penalty_is_that_of_the_default_lot_and_can_be_fitted_again():
    shipped = default_penalty(LOT, LAW)
    assert shipped.hash == Penalty.from_dict(json.loads(_FILE.read_text(encoding="utf-8"))).hash
    made = fit(LOT, LAW, _SAMPLES, _SEED, tuning_days=1)
    assert made.instance_sha256 == shipped.instance_sha256 == LOT.hash
    for name in ("mean_kwh", "spread_kwh", "noise_kwh", "leaving_kwh", "slope"):
        assert np.abs(getattr(made, name) - getattr(shipped, name)).max() <= 0.51 / 1024.0


def test_the_shipped_critic_of_the_default_lot_knows_no_plan():
    penalty = default_penalty(LOT, LAW)
    days = days_for(Model(LOT), 20, 82, penalty)
    idle, wide = Model(LOT), Model(LOT, LAW, np.full(LOT.steps, physical_limits(LOT)[0]))
    episodes = rollout(idle, days.scenario, LeastLaxity(idle))
    assert np.array_equal(penalty_of(idle, days, episodes, penalty), penalty_of(wide, days, episodes, penalty))
    narrow, broad = penalised(idle, days, penalty).bound_usd, penalised(wide, days, penalty).bound_usd
    assert (broad >= narrow - 1e-6).all()


def test_what_the_penalty_does_not_cover_is_said():
    assert covered(LOT, LAW)
    for lot in (LOT.replace(gate_closure_steps=0), LOT.replace(own_charging=True), LOT.replace(step_h=13.0 / 16.0)):
        assert not covered(lot, LAW)
    assert not covered(LOT, law("days:jpl-2019/test"))
    assert not covered(LOT, law("smoothed"))
    with pytest.raises(InvalidInputError, match="gate_closure_steps"):
        fit_day_filter(LOT.replace(gate_closure_steps=0), LAW, 200, 1)
    with pytest.raises(InvalidInputError, match="instance"):
        CriticControl(Model(LOT.replace(bays=51)), fitted())
    with pytest.raises(InvalidInputError, match="per bay"):
        CriticControl(Model(LOT, per_bay=True), fitted())
    with pytest.raises(InvalidInputError, match="days"):
        CriticControl(Model(LOT), fitted(), days=0)
