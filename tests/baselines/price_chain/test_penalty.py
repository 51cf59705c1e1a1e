"""Penalised bounds on the price chain: the optimum with exact values, perfect information with none, valid between."""

import copy
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.price_chain import evaluate, solve
from baselines.price_chain.hindsight import hindsight
from baselines.price_chain.penalty import fitted_values, penalised, penalty_of, tabulated
from baselines.price_chain.policies import TablePolicy, early_plan, late_plan, threshold_plan
from baselines.price_chain.verify_penalty import gap_certificate, penalty_certificate
from baselines.risk import asymptotic_limit
from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Days, Law, sample_days
from v2g_env.rollout import Recorded, rollout

SEED, COUNT = 5, 20
TINY = Instance(
    steps=3,
    price_levels=2,
    price_usd_per_kwh=(0.05, 0.2, 0.1, 0.3, 0.05, 0.4),
    price_counts=(3.0, 1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 3.0, 1.0, 0.0, 0.0, 1.0),
    energy_levels=3,
    level_kwh=10.0,
    start_level=1,
    target_level=1,
    moves=(-1, 0, 1),
    presence_evs=(1, 3),
    presence_rows=(0.6, 0.4, 0.3, 0.7),
    presence_start=1,
    start_usd=0.1,
    stop_usd=0.05,
)


def every_day(model):
    """All days that can happen (prices and vehicles of T steps, the padding apart), and their probabilities."""
    lot, steps = model.instance, model.steps
    levels, presences, chance = [], [], []
    for level in itertools.product(range(lot.price_levels), repeat=steps):
        for later in itertools.product(range(len(lot.presence_evs)), repeat=steps - 1):
            presence = (lot.presence_start, *later)
            p = lot.price_start[level[0]]
            for t in range(steps - 1):
                p *= model.law.rows[t, level[t], level[t + 1]] * lot.presence_matrix[presence[t], presence[t + 1]]
            levels.append((*level, 0))
            presences.append((*presence, 0))
            chance.append(p)
    return Days(np.array(levels), np.array(presences)), np.array(chance)


def any_values(model, seed, size=5.0):
    return np.random.default_rng(seed).normal(0.0, size, (model.steps, *model.instance.shape))


@pytest.mark.parametrize("law", ["generator", "flat"])
def test_with_exact_values_the_bound_is_the_optimum_on_every_day(model, lot, law):
    if law == "flat":
        model = Model(lot, Law("flat", np.full(lot.price_rows.shape, 1.0 / 3.0)))
    best = solve(model)
    days = sample_days(lot, model.law, 200, SEED)
    bound = penalised(model, days, best.values).bound_usd
    assert np.abs(bound - best.value).max() < 1e-9
    episodes = rollout(model, days, TablePolicy(model, best.plan))
    less = episodes.returns - penalty_of(model, days, episodes.actions, best.values)
    assert np.abs(less - best.value).max() < 1e-9
    assert episodes.returns.std() > 0.1


def test_the_default_chain_has_no_slack_either():
    model = Model(Instance())
    best = solve(model)
    days = sample_days(model.instance, "generator", 50, SEED)
    assert np.abs(penalised(model, days, best.values).bound_usd - best.value).max() < 1e-9


def test_without_a_critic_it_is_perfect_information(model, lot):
    days = sample_days(lot, "generator", 200, SEED)
    top = hindsight(model, days)
    np.testing.assert_allclose(penalised(model, days, any_values(model, 1), 0.0).bound_usd, top, atol=1e-9)
    np.testing.assert_allclose(penalised(model, days, 0.0 * any_values(model, 1)).bound_usd, top, atol=1e-9)


def test_the_value_of_a_policy_as_critic_takes_all_chance_from_its_return(model, lot):
    plan = threshold_plan(model, 0.3, 0.8)
    worth = evaluate(model, plan)
    days = sample_days(lot, "generator", 100, SEED)
    episodes = rollout(model, days, TablePolicy(model, plan))
    less = episodes.returns - penalty_of(model, days, episodes.actions, worth.values)
    assert np.abs(less - worth.value).max() < 1e-9


@pytest.mark.parametrize("plan", [early_plan, late_plan, lambda m: threshold_plan(m, 0.3, 0.7)])
def test_the_penalty_has_mean_zero_over_all_days_under_every_plan(plan):
    model = Model(TINY)
    days, chance = every_day(model)
    assert chance.sum() == pytest.approx(1.0, abs=1e-12)
    actions = rollout(model, days, TablePolicy(model, plan(model))).actions
    for seed in range(5):
        z = penalty_of(model, days, actions, any_values(model, seed))
        assert abs(chance @ z) < 1e-12
        assert np.abs(z).max() > 1.0


def test_the_bound_is_brute_force_over_all_choices_of_every_day():
    model = Model(TINY)
    days, _ = every_day(model)
    moves = len(TINY.moves)
    for seed in range(3):
        critic = any_values(model, seed, 1.0)
        bound = penalised(model, days, critic).bound_usd
        best = np.full(len(bound), -np.inf)
        for choice in itertools.product(range(moves), repeat=model.steps):
            actions = np.tile(np.array(choice), (len(bound), 1))
            less = rollout(model, days, Recorded(actions)).returns - penalty_of(model, days, actions, critic)
            best = np.maximum(best, less)
        np.testing.assert_allclose(bound, best, atol=1e-9)
        assert (bound >= best).all()


def test_the_expected_bound_is_never_below_the_optimum_whatever_the_critic():
    model = Model(TINY)
    days, chance = every_day(model)
    best = solve(model)
    assert chance @ penalised(model, days, best.values).bound_usd == pytest.approx(best.value, abs=1e-9)
    loose = [chance @ penalised(model, days, scale * best.values).bound_usd for scale in (0.0, 0.5, 3.0)]
    assert loose[0] > loose[1] > best.value + 0.01  # half of the truth is better than nothing
    assert loose[2] > loose[0]  # and three times the truth is worse
    for seed in range(20):
        assert chance @ penalised(model, days, any_values(model, seed)).bound_usd >= best.value


@given(seed=st.integers(0, 2**32), size=st.sampled_from([0.01, 1.0, 100.0, 1e6]), scale=st.sampled_from([0.3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_no_choices_at_all_beat_the_bound_on_any_day(model, lot, seed, size, scale):
    critic = any_values(model, seed, size)
    days = sample_days(lot, "generator", 20, seed)
    actions = np.random.default_rng(seed).integers(0, len(lot.moves), (20, model.steps))
    less = rollout(model, days, Recorded(actions)).returns - penalty_of(model, days, actions, critic, scale)
    assert (penalised(model, days, critic, scale).bound_usd >= less).all()


def test_a_fitted_critic_comes_closer_than_perfect_information_and_never_crosses_the_optimum():
    model = Model(Instance())
    best = solve(model)
    fitted = fitted_values(model, sample_days(model.instance, "generator", 300, 2))
    days = sample_days(model.instance, "generator", 100, SEED)
    bound, top = penalised(model, days, fitted).bound_usd, hindsight(model, days)
    episodes = rollout(model, days, TablePolicy(model, best.plan))
    less = episodes.returns - penalty_of(model, days, episodes.actions, fitted)
    assert (bound >= less).all()
    error = (bound - less).std() / 10.0
    assert bound.mean() - best.value < 0.15 * (top.mean() - best.value)
    assert (bound - less).mean() > -4.0 * error
    assert less.std() < 0.4 * episodes.returns.std()


def test_a_critic_of_observations_is_frozen_state_by_state(model):
    layout = model.observation_layout

    class Linear:
        def values(self, observation):
            return 3.0 * observation[:, layout["charge"].start].astype(np.float64) - observation[:, layout["step"]] @ [
                0.0,
                1.0,
                2.0,
                3.0,
            ]

    table = tabulated(model, Linear(), 2.0)
    e = np.arange(4) / 3.0
    for t in range(4):
        np.testing.assert_allclose(table[t], np.broadcast_to((2.0 * (3.0 * e - t))[:, None], (3, 2, 4, 2)), atol=1e-6)

    class Wrong:
        def values(self, observation):
            return np.zeros((len(observation), 1))

    with pytest.raises(InvalidInputError, match="values"):
        tabulated(model, Wrong())


def test_bad_input_is_refused(model, lot):
    days = sample_days(lot, "generator", 3, 1)
    critic = any_values(model, 1)
    for scale in (-0.1, 1.1, np.nan):
        with pytest.raises(InvalidInputError, match="scale"):
            penalised(model, days, critic, scale)
    with pytest.raises(InvalidInputError, match="critic"):
        penalised(model, days, critic[:-1])
    critic[0, 0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidInputError, match="critic"):
        penalty_of(model, days, np.zeros((3, 4), np.int64), critic)
    with pytest.raises(InvalidInputError, match="training days"):
        fitted_values(model, Days(*(part[:0] for part in days)))
    with pytest.raises(InvalidInputError, match="beta"):
        asymptotic_limit(np.arange(3.0), 0.7)


@pytest.fixture(scope="module")
def certificates(model, lot):
    made = {}
    for name, law in (("own", "generator"), ("flat", Law("flat", np.full(lot.price_rows.shape, 1.0 / 3.0)))):
        world = Model(lot, law)
        critic = 0.8 * solve(world).values
        days = sample_days(lot, world.law, COUNT, SEED)
        bound = penalised(world, days, critic, 0.9).bound_usd
        actions = rollout(world, days, TablePolicy(world, late_plan(world))).actions
        made[f"bound, {name}"] = penalty_certificate(world, SEED, critic, bound, 1e-3, 0.9)
        made[f"gap, {name}"] = gap_certificate(world, SEED, critic, bound, 1e-3, actions, "late", "ab" * 32, 0.9)
    return {name: json.loads(json.dumps(data, allow_nan=False)) for name, data in made.items()}


NAMES = ["bound, own", "gap, own", "bound, flat", "gap, flat"]


def changed(data, path, value):
    result = copy.deepcopy(data)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def leaves(data, path=()):
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path, data


def refused(data, instance=None):
    try:
        check(data, instance)
    except CertificateError as error:
        assert len(str(error)) > 10
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_holds_after_a_round_trip_and_belongs_to_its_instance(certificates, lot, name):
    data = certificates[name]
    for instance in (lot, None):
        report = check(data, instance)
        assert report.kind == data["kind"]
        assert report.values["bound_limit_usd"] > report.values["mean_bound_usd"]
    other = lot.replace(start_usd=7.0)
    assert refused(data, other)
    assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash})
    for key in data:
        assert refused({k: v for k, v in data.items() if k != key}), key
    assert refused(data | {"more": 1})


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_a_certificate_can_be_changed(certificates, name):
    data = certificates[name]
    survived = []
    for path, value in leaves(data):
        if path[0] == "instance" or path in (("policy",), ("policy_sha256",), ("law", "name")):
            continue  # labels, and what the instance's hash protects
        others = [float("nan"), float("inf"), 10**400, [], {}, True, -7]
        if isinstance(value, str):
            others += [value + "0", "", value[:-4]]
        elif isinstance(value, int | float):
            others += [value + 1, value - 1, value + 1e-5, value - 1e-5]
        survived += [(path, other) for other in others if other != value and not refused(changed(data, path, other))]
    assert not survived


def test_another_critic_or_other_actions_have_other_numbers(certificates):
    data = certificates["gap, own"]
    critic, actions = unpack(data["critic_usd"]).copy(), unpack(data["actions"]).copy()
    critic[1] *= 1.01
    assert refused(data | {"critic_usd": pack(critic)})
    assert refused(data | {"critic_usd": pack(critic.astype(np.float32))})
    assert refused(data | {"critic_usd": pack(np.full(critic.shape, np.nan))})
    actions[:, -1] = (actions[:, -1] + 1) % 3
    assert refused(data | {"actions": pack(actions)})
    assert refused(data | {"actions": pack(actions[:-1])})
    for off in (1e-6, -1e-6):
        assert refused(data | {"mean_bound_usd": data["mean_bound_usd"] + off})
        assert refused(data | {"gap_limit_usd": data["gap_limit_usd"] + off})


def test_a_bound_that_is_beaten_cannot_be_certified(model, lot):
    critic = solve(model).values
    days = sample_days(lot, "generator", COUNT, SEED)
    best = rollout(model, days, TablePolicy(model, solve(model).plan)).actions
    bound = penalised(model, days, critic).bound_usd
    with pytest.raises(InvalidInputError, match="least gap"):
        gap_certificate(model, SEED, critic, bound - 1e-6, 1e-3, best, "best")
