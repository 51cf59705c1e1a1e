"""Saved states, to the last bit: environments and batches go on from mid-episode as if never left."""

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from v2g_env.core.validate import InvalidInputError
from v2g_env.registration import ENVIRONMENTS

every_environment = pytest.mark.parametrize("entry", ENVIRONMENTS, ids=lambda entry: entry.id)


def actions_for(space, n):
    rng = np.random.default_rng(0)
    if isinstance(space, spaces.Box):
        return rng.uniform(-1.0, 1.0, (n, *space.shape)).astype(np.float32)
    return rng.integers(
        0, int(np.max(space.n if isinstance(space, spaces.Discrete) else space.nvec)), (n, *space.shape)
    )


def flat(value):
    """Every number of nested containers as bytes, with its place."""
    if isinstance(value, dict):
        return [(key, *each) for key in sorted(value) for each in flat(value[key])]
    if isinstance(value, list | tuple):
        return [(place, *each) for place, one in enumerate(value) for each in flat(one)]
    found = np.asarray(value)
    if found.dtype.kind == "O":
        return [(place, *each) for place, one in enumerate(found.ravel()) for each in flat(one)]
    return [(found.dtype.str, found.shape, found.tobytes())]


def go_on(env, actions):
    """What is seen from here; batches restart finished episodes themselves."""
    seen = []
    for action in actions:
        found = env.step(action)
        seen += flat(found)
        if isinstance(found[2], bool | np.bool_) and found[2]:
            seen += flat(env.reset())
    return seen


@every_environment
@pytest.mark.parametrize("step", ["first", "middle", "last"])
def test_a_single_environment_continues_bit_for_bit(entry, step):
    env = gymnasium.make(entry.id).unwrapped
    actions = actions_for(env.action_space, env.horizon + 7)
    at = {"first": 0, "middle": env.horizon // 2, "last": env.horizon - 1}[step]
    env.reset(seed=5)
    go_on(env, actions[:at])
    saved = pickle.dumps(env.get_state())
    expected = go_on(env, actions[at:])
    other = gymnasium.make(entry.id).unwrapped
    for one in (env, other):
        one.set_state(pickle.loads(saved))
        assert go_on(one, actions[at:]) == expected


@every_environment
@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode)[:2], ids=lambda mode: mode.name)
def test_a_batch_continues_bit_for_bit(entry, mode):
    def made():
        options = {"num_envs": 3, "vectorization_mode": "vector_entry_point", "autoreset_mode": mode}
        return gymnasium.make_vec(entry.id, **options).unwrapped

    env = made()
    actions = actions_for(env.action_space, env.horizon + 7)
    env.reset(seed=5)
    at = env.horizon // 2
    go_on(env, actions[:at])
    saved = pickle.dumps(env.get_state())
    expected = go_on(env, actions[at:])  # passes an end
    for one in (env, made()):
        one.set_state(pickle.loads(saved))
        assert go_on(one, actions[at:]) == expected


def test_a_batch_refuses_the_state_of_another_number_of_environments():
    entry = ENVIRONMENTS[0]
    small, large = (
        gymnasium.make_vec(entry.id, num_envs=n, vectorization_mode="vector_entry_point").unwrapped for n in (2, 3)
    )
    small.reset(seed=1)
    for saved in (small.get_state(), large.get_state()):
        with pytest.raises(InvalidInputError, match="number of saved environments"):
            large.set_state(saved)
