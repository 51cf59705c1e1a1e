"""What every environment of several parties keeps, whatever the problem: the table is walked."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils.conversions import parallel_to_aec

from v2g_env.core.validate import InvalidInputError
from v2g_env.parallel_shell import parallel_env
from v2g_env.party_model import agents_of, check_roles_actions
from v2g_env.registration import PARALLEL

every = pytest.mark.parametrize("name", [entry.name for entry in PARALLEL])


def random_actions(env, rng):
    return {agent: rng.uniform(-1, 1, env.action_space(agent).shape).astype(np.float32) for agent in env.agents}


def played(env, seed, rng):
    seen, _ = env.reset(seed=seed)
    trace = [seen]
    while env.agents:
        *step, infos = env.step(random_actions(env, rng))
        trace.append((step, infos))
    return trace


def same(first, second):
    np.testing.assert_equal(first, second)


@every
def test_pettingzoos_own_tests_pass(name):
    env = parallel_env(name)
    assert env.metadata["name"] == name
    parallel_api_test(env, env.horizon + 3)
    parallel_seed_test(lambda: parallel_env(name), 5)
    api_test(parallel_to_aec(parallel_env(name)), 20)


@every
def test_observations_are_bounded_finite_and_fresh(name):
    env, rng = parallel_env(name), np.random.default_rng(0)
    kept = None
    seen, _ = env.reset(seed=3)
    while env.agents:
        for agent, one in seen.items():
            space = env.observation_space(agent)
            assert one.dtype == np.float32 and space.contains(one), (agent, one - space.high)
        copies = {agent: one.copy() for agent, one in seen.items()}
        if kept is not None:
            same(*kept)
        kept = seen, copies
        seen = env.step(random_actions(env, rng))[0]
    same(*kept)


@every
def test_money_is_the_sum_of_named_terms_and_all_end_together(name):
    env, rng = parallel_env(name), np.random.default_rng(1)
    env.reset(seed=2)
    steps = 0
    while env.agents:
        _, rewards, ended, cut, infos = env.step(random_actions(env, rng))
        steps += 1
        assert not any(cut.values()) and set(ended.values()) == {steps == env.horizon}
        for agent, reward in rewards.items():
            assert reward == pytest.approx(sum(infos[agent]["reward_terms"].values()))
            assert isinstance(infos[agent]["violation"], bool)
    with pytest.raises(InvalidInputError, match="reset"):
        env.step({})


@every
def test_a_saved_state_goes_on_bit_by_bit(name):
    env, rng = parallel_env(name), np.random.default_rng(4)
    env.reset(seed=6)
    for _ in range(3):
        env.step(random_actions(env, rng))
    saved = env.get_state()

    def rest(one):
        rng = np.random.default_rng(7)
        trace = []
        while one.agents:
            trace.append(one.step(random_actions(one, rng)))
        return trace, one.reset()  # the generator goes on as well

    expected = rest(env)
    other = parallel_env(name)
    for one in (env, other):
        one.set_state(saved)
        same(rest(one), expected)


@every
def test_a_row_of_a_batch_is_the_single_episode(name):
    env = parallel_env(name)
    model = env.model
    seeds = [11, 12, 13]
    scenario = model.draw([np.random.default_rng(seed) for seed in seeds])
    alone = model.draw([np.random.default_rng(12)])
    state, single = model.initial(scenario), model.initial(alone)
    rng = np.random.default_rng(0)
    for _ in range(min(model.steps, 8)):
        actions = {role.name: rng.uniform(-1, 1, (3, role.players, role.action_size)) for role in model.roles}
        one = {role: action[1:2] for role, action in actions.items()}
        seen, own = model.observe(scenario, state), model.observe(alone, single)
        for role in seen:
            np.testing.assert_array_equal(seen[role][1], own[role][0])
        state, money, facts = model.step(scenario, state, actions)
        single, mine, fact = model.step(alone, single, one)
        np.testing.assert_allclose(facts[1], fact[0], rtol=1e-12, atol=1e-9)
        for role in money:
            np.testing.assert_allclose(money[role][1], mine[role][0], rtol=1e-12, atol=1e-9)


@every
def test_the_model_alone_is_the_one_in_the_table(name):
    entry = next(each for each in PARALLEL if each.name == name)
    module, _, attribute = entry.model.partition(":")
    env = parallel_env(name)
    assert type(env.model) is getattr(importlib.import_module(module), attribute)
    assert list(agents_of(env.model)) == env.possible_agents


@every
@pytest.mark.parametrize("wrong", ["missing", "unknown", "nan", "outside", "shape", "text"])
def test_bad_actions_are_refused_before_anything_changes(name, wrong):
    env, rng = parallel_env(name), np.random.default_rng(2)
    env.reset(seed=1)
    good = random_actions(env, rng)
    agent = env.agents[-1]
    bad = dict(good)
    if wrong == "missing":
        del bad[agent]
    elif wrong == "unknown":
        bad["stranger"] = bad[agent]
    else:
        value = good[agent].copy()
        value[0] = {"nan": np.nan, "outside": 1.5}.get(wrong, 0.0)
        bad[agent] = {"shape": np.zeros(9, np.float32), "text": "up"}.get(wrong, value)
    before = env.get_state()
    with pytest.raises(InvalidInputError, match="action"):
        env.step(bad)
    same(env.get_state(), before)
    env.step(good)
    with pytest.raises(InvalidInputError, match="roles of the actions"):
        check_roles_actions(env.model, {}, 1)


@every
def test_states_of_other_environments_are_refused_before_anything_changes(name):
    env = parallel_env(name)
    with pytest.raises(InvalidInputError, match="reset"):
        env.state()
    env.reset(seed=1)
    before = env.get_state()
    others = [parallel_env(entry.name) for entry in PARALLEL if entry.name != name]
    for other in others:
        other.reset(seed=2)
        with pytest.raises(InvalidInputError, match="state of"):
            env.set_state(other.get_state())
    with pytest.raises(InvalidInputError, match="state of"):
        env.set_state({})
    same(env.get_state(), before)


def test_a_state_of_another_fleet_or_horizon_is_refused():
    env = parallel_env("shared_battery_parallel_v0")
    for options in ({"days": 9}, {"instance": {"drivers": 5, "rule": "proportional"}}):
        other = parallel_env("shared_battery_parallel_v0", **options)
        other.reset(seed=1)
        with pytest.raises(InvalidInputError, match="state of"):
            env.set_state(other.get_state())


@pytest.mark.parametrize("wrong", [None, [0.0], {5: [0.0], "driver_0": [0.0]}])
def test_actions_that_are_no_mapping_of_the_agents_are_refused(wrong):
    env = parallel_env("shared_battery_parallel_v0")
    env.reset(seed=1)
    with pytest.raises(InvalidInputError, match="agents of the actions"):
        env.step(wrong)


def test_unknown_names_are_refused_and_the_package_loads_without_pettingzoo():
    with pytest.raises(InvalidInputError, match="parallel environment"):
        parallel_env("poker_v0")
    code = "import sys, v2g_env, v2g_env.scheduling.party; assert 'pettingzoo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
