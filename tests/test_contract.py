"""What every registered environment promises; the tests loop over the registry and know no problem."""

import copy
import importlib
import inspect
import pickle
import re
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from v2g_env import ENVIRONMENTS
from v2g_env.core.validate import InvalidInputError

HEADINGS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "References",
)
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)

every_environment = pytest.mark.parametrize("entry", ENVIRONMENTS, ids=lambda entry: entry.id)


def load(place):
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def single(entry, **options):
    return gymnasium.make(entry.id, **options).unwrapped


def vector(entry, n, **options):
    envs = gymnasium.make_vec(entry.id, num_envs=n, vectorization_mode="vector_entry_point", **options)
    assert isinstance(envs, VectorEnv)
    return envs


def actions_for(env, n, seed=0):
    """Actions in the whole range, its ends included."""
    rng = np.random.default_rng(seed)
    space = env.action_space
    shape = (n, *space.shape)
    if isinstance(space, spaces.Box):
        return np.clip(rng.uniform(-1.5, 1.5, shape), -1.0, 1.0).astype(np.float32)
    return rng.integers(0, choices_of(space), shape)


def choices_of(space):
    """Number of choices of every entry, the same for all: Discrete has one entry, a batch of them as many as rows."""
    return int(np.max(space.n if isinstance(space, spaces.Discrete) else space.nvec))


def play(env, actions, reset_at_end=True):
    """Everything an agent sees: observations, rewards, ends and infos."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation.copy(), reward, terminated, truncated, info))
        if terminated and reset_at_end:
            seen.append(env.reset()[0].copy())
    return seen


def assert_same(a, b, exact=False):
    """Deep equality of nested containers; of floating-point numbers up to rounding unless ``exact``.

    Compiled sums may be taken in an order that depends on where the numbers lie in memory, so that the same episode
    played twice may differ by the rounding of a sum.
    """
    assert type(a) is type(b), (type(a), type(b))
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key], exact)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other, exact)
    elif exact or np.asarray(a).dtype.kind != "f":
        np.testing.assert_array_equal(a, b)
    else:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=2e-7 if np.asarray(a).dtype == np.float32 else 1e-12, atol=1e-12)


def differs(a, b):
    try:
        assert_same(a, b)
    except AssertionError:
        return True
    return False


def spoil(array):
    """Overwrite an array in place; a number cannot be."""
    if isinstance(array, np.ndarray):
        array[...] = np.nan if array.dtype.kind == "f" else 1


def has_pygame():
    return importlib.util.find_spec("pygame") is not None


# The checkers of others


@every_environment
def test_gymnasium_checker_has_no_complaint(entry, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(single(entry), skip_render_check=not has_pygame())


@every_environment
def test_stable_baselines_checker_has_no_complaint(entry):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(single(entry), warn=True, skip_render_check=True)


# Registry and documentation


@every_environment
def test_registered_classes_are_what_gymnasium_makes(entry):
    assert re.fullmatch(r"V2G/[A-Za-z]+-v\d+", entry.id)
    assert type(single(entry)) is load(entry.single)
    assert type(vector(entry, 2)) is load(entry.vector)


@every_environment
def test_docstring_has_the_headings_in_order_and_text_under_each(entry):
    text = inspect.getdoc(load(entry.single))
    assert tuple(re.findall(r"^## (.*)$", text, re.M)) == HEADINGS
    parts = re.split(r"^## .*$", text, flags=re.M)
    assert all(len(part.strip()) > 5 for part in parts)


@every_environment
def test_docstring_names_every_argument_and_reward_term(entry):
    cls = load(entry.single)
    text = inspect.getdoc(cls)
    base = next((b for b in cls.__mro__[1:] if b.__doc__ and "## Rewards" in b.__doc__), None)
    if base is not None:  # a variant may refer to its base
        text += inspect.getdoc(base)
    arguments = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for word in (*arguments, *cls.terms):
        assert re.search(rf"\b{word}\b", text), word


# Spaces


@every_environment
def test_observations_are_float32_boxes_actions_boxes_or_choices_and_single_and_vector_agree(entry):
    env, envs = single(entry), vector(entry, 3)
    assert type(env.observation_space) is spaces.Box
    assert env.observation_space.dtype == np.float32
    assert np.isfinite(env.observation_space.low).all()
    assert np.isfinite(env.observation_space.high).all()
    assert (env.observation_space.low < env.observation_space.high).all()
    if isinstance(env.action_space, spaces.Box):
        assert env.action_space.dtype == np.float32
        assert (env.action_space.low == -1.0).all()
        assert (env.action_space.high == 1.0).all()
    else:
        assert type(env.action_space) is spaces.Discrete
        assert env.action_space.n >= 2
        assert env.action_space.start == 0
    assert envs.single_observation_space == env.observation_space
    assert envs.single_action_space == env.action_space
    assert envs.observation_space == batch_space(env.observation_space, 3)
    assert envs.action_space == batch_space(env.action_space, 3)


@every_environment
def test_spaces_depend_neither_on_rendering_nor_on_what_has_happened(entry):
    env, other = single(entry), single(entry, render_mode="rgb_array")
    before = copy.deepcopy((env.observation_space, env.action_space))
    env.reset(seed=4)
    env.step(env.action_space.sample())
    assert (env.observation_space, env.action_space) == before == (other.observation_space, other.action_space)
    for mode in MODES:
        assert vector(entry, 2, autoreset_mode=mode).single_observation_space == before[0]


# Episodes


@every_environment
def test_same_seed_same_episodes_and_other_seed_others(entry):
    a, b, c = single(entry), single(entry), single(entry)
    actions = actions_for(a, 2 * a.horizon)
    first = [a.reset(seed=7)[0], *play(a, actions)]
    assert_same(first, [b.reset(seed=7)[0], *play(b, actions)])
    assert differs(first, [c.reset(seed=8)[0], *play(c, actions)])


@every_environment
def test_reset_without_seed_goes_on_with_new_episodes(entry):
    a, b = single(entry), single(entry)
    actions = actions_for(a, a.horizon)
    a.reset(seed=7)
    first = play(a, actions, reset_at_end=False)
    a.reset()
    second = play(a, actions, reset_at_end=False)
    assert differs(first, second)
    b.reset(seed=7)
    b.reset()  # what was played in between does not matter
    assert_same(second, play(b, actions, reset_at_end=False))


@every_environment
def test_global_random_state_is_neither_read_nor_changed(entry):
    a, b = single(entry), single(entry)
    actions = actions_for(a, a.horizon)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = [a.reset(seed=7)[0], *play(a, actions)]
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert_same(first, [b.reset(seed=7)[0], *play(b, actions)])


@every_environment
def test_episode_terminates_at_the_horizon_and_never_truncates(entry):
    env = single(entry)
    env.reset(seed=1)
    ends = [step[2:4] for step in play(env, actions_for(env, env.horizon), reset_at_end=False)]
    assert ends == [(False, False)] * (env.horizon - 1) + [(True, False)]


@every_environment
def test_named_money_terms_sum_to_the_reward_and_violation_is_told(entry):
    env = single(entry)
    earned = False
    for seed in range(3):
        env.reset(seed=seed)
        for _, reward, _, _, info in play(env, actions_for(env, env.horizon, seed), reset_at_end=False):
            assert type(reward) is float
            assert np.isfinite(reward)
            assert type(info["violation"]) is bool
            assert tuple(info["reward_terms"]) == env.terms
            assert all(type(value) is float for value in info["reward_terms"].values())
            assert reward == pytest.approx(sum(info["reward_terms"].values()), abs=1e-12)
            assert set(env.facts) <= set(info)
            earned |= reward != 0.0
    assert earned


@every_environment
def test_interleaved_environments_do_not_disturb_each_other(entry):
    a, b, alone = single(entry), single(entry), single(entry)
    actions, others = actions_for(a, a.horizon), actions_for(b, b.horizon, seed=1)
    start = a.reset(seed=3)[0]
    b.reset(seed=4)
    together = []
    for action, other in zip(actions, others, strict=True):
        together += play(a, [action], reset_at_end=False)
        b.step(other)
    assert_same([start, *together], [alone.reset(seed=3)[0], *play(alone, actions, reset_at_end=False)])


# Observations


@every_environment
def test_observations_are_float32_finite_and_inside_the_space(entry):
    envs = vector(entry, 64, autoreset_mode=AutoresetMode.SAME_STEP)
    observation, _ = envs.reset(seed=11)
    low, high = envs.single_observation_space.low, envs.single_observation_space.high
    for action in actions_for(envs, 2 * envs.horizon + 1, seed=5):
        assert observation.dtype == np.float32
        assert observation.shape == envs.observation_space.shape
        assert np.isfinite(observation).all()
        assert (observation >= low).all()
        assert (observation <= high).all()
        observation, _, _, _, info = envs.step(action)
        if "final_obs" in info:
            assert ((info["final_obs"] >= low) & (info["final_obs"] <= high)).all()


@every_environment
def test_returned_arrays_are_the_callers_own(entry):
    env, twin = single(entry), single(entry)
    actions = actions_for(env, env.horizon)
    expected = [twin.reset(seed=2)[0], *play(twin, actions, reset_at_end=False)]
    observation, _ = env.reset(seed=2)
    seen = [observation.copy()]
    for action in actions:
        kept, old = observation, observation.copy()
        given = action.copy()
        result = env.step(action)
        np.testing.assert_array_equal(action, given)  # the action is only read
        np.testing.assert_array_equal(kept, old)  # and the old observation not refilled
        observation = result[0]
        assert not np.shares_memory(observation, kept)
        seen.append((observation.copy(), *copy.deepcopy(result[1:])))
        spoil(action)
        spoil(kept)
        for term in result[4]["reward_terms"]:
            result[4]["reward_terms"][term] = np.nan
    assert_same(expected, seen)


@every_environment
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_returned_batches_are_the_callers_own(entry, mode):
    envs, twin = vector(entry, 3, autoreset_mode=mode), vector(entry, 3, autoreset_mode=mode)
    steps = envs.horizon if mode == AutoresetMode.DISABLED else envs.horizon + 3
    actions = actions_for(envs, steps)
    observation, expected = envs.reset(seed=2)[0], twin.reset(seed=2)[0]
    np.testing.assert_array_equal(observation, expected)
    for action in actions:
        spoil(observation)
        kept = twin.step(action)
        frozen = copy.deepcopy(kept)
        given = action.copy()
        result = envs.step(given)
        np.testing.assert_array_equal(given, action)  # the actions are only read
        spoil(given)
        assert_same(list(result[:4]), list(kept[:4]))
        assert_same(result[4], kept[4])
        for array in (*result[1:4], *result[4].values(), *result[4]["reward_terms"].values()):
            spoil(array)
        observation = result[0]
        assert_same(kept, frozen, exact=True)


# Batches


class Reference:
    """n single environments carried along by hand, as the autoreset mode demands."""

    def __init__(self, entry, seed, n):
        self.envs = [single(entry) for _ in range(n)]
        self.observations = [env.reset(seed=seed + i)[0] for i, env in enumerate(self.envs)]
        self.over = [False] * n

    def reset(self, i):
        """Start row i anew; its first observation."""
        self.over[i] = False
        return self.envs[i].reset()[0]

    def step(self, actions, mode):
        """Rows of (observation, reward, terminated, info or None, final observation or None)."""
        rows = []
        for i, env in enumerate(self.envs):
            if self.over[i] and mode == AutoresetMode.NEXT_STEP:
                rows.append((self.reset(i), 0.0, False, None, None))
                continue
            observation, reward, terminated, _, info = env.step(actions[i])
            final = None
            self.over[i] = terminated
            if terminated and mode == AutoresetMode.SAME_STEP:
                observation, final = self.reset(i), observation
            rows.append((observation, reward, terminated, info, final))
        return rows


def check_rows(rows, result):
    observation, reward, terminated, truncated, info = result
    assert not truncated.any()
    for i, (want, money, end, facts, final) in enumerate(rows):
        assert_same(observation[i], want)
        assert reward[i] == pytest.approx(money, abs=1e-12)
        assert terminated[i] == end
        if facts is None:  # this step only reset the row
            assert reward[i] == 0.0
            assert not info["violation"][i]
            assert all(values[i] == 0.0 for values in info["reward_terms"].values())
            continue
        assert set(facts) <= set(info)
        for key, value in facts.items():
            if key == "reward_terms":
                assert set(value) == set(info[key])
                for term, amount in value.items():
                    assert_same(float(info[key][term][i]), amount)
            else:
                assert_same(info[key][i].item(), value)
        if final is not None:
            assert info["_final_obs"][i]
            assert_same(info["final_obs"][i], final)
        elif "_final_obs" in info:
            assert not info["_final_obs"][i]


@every_environment
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_item_i_equals_the_single_environment_seeded_with_seed_plus_i(entry, mode):
    n, seed = 3, 21
    envs = vector(entry, n, autoreset_mode=mode)
    assert envs.metadata["autoreset_mode"] == mode
    reference = Reference(entry, seed, n)
    observation, _ = envs.reset(seed=seed)
    np.testing.assert_array_equal(observation, np.stack(reference.observations))
    for step, actions in enumerate(actions_for(envs, 2 * envs.horizon + 8, seed=3)):
        if step in (3, 4):  # row 1 starts anew in the middle or when all are over, so that rows end at different steps
            observation, _ = envs.reset(options={"reset_mask": np.array([False, True, False])})
            np.testing.assert_array_equal(observation[1], reference.reset(1))
        result = envs.step(actions)
        check_rows(reference.step(actions, mode), result)
        if mode == AutoresetMode.DISABLED and result[2].any():
            observation, _ = envs.reset(options={"reset_mask": result[2]})
            for i in np.flatnonzero(result[2]):
                np.testing.assert_array_equal(observation[i], reference.reset(i))
            for i in np.flatnonzero(~result[2]):  # the others stand still
                np.testing.assert_array_equal(observation[i], result[0][i])


@every_environment
def test_item_i_does_not_depend_on_the_number_of_items(entry):
    few, many = vector(entry, 2), vector(entry, 7)
    np.testing.assert_array_equal(few.reset(seed=5)[0], many.reset(seed=5)[0][:2])
    for actions in actions_for(many, few.horizon + 3):
        a, b = few.step(actions[:2]), many.step(actions)
        for one, other in zip(a[:4], b[:4], strict=True):
            assert_same(one, other[:2])


@every_environment
def test_list_of_seeds_seeds_each_item(entry):
    envs = vector(entry, 3)
    observation, _ = envs.reset(seed=[9, 4, 9])
    np.testing.assert_array_equal(observation[0], observation[2])
    np.testing.assert_array_equal(observation[1], single(entry).reset(seed=4)[0])
    with pytest.raises(InvalidInputError, match="seed"):
        envs.reset(seed=[1, 2])


@every_environment
def test_seed_with_a_reset_mask_reseeds_the_masked_items_only(entry):
    """As gymnasium's SyncVectorEnv: an item that is not reset keeps its random generator."""
    envs = vector(entry, 2, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=5)
    untouched, reseeded = single(entry), single(entry)
    untouched.reset(seed=5)
    observation, _ = envs.reset(seed=50, options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal(observation[1], reseeded.reset(seed=51)[0])
    observation, _ = envs.reset()
    np.testing.assert_array_equal(observation[1], reseeded.reset()[0])
    np.testing.assert_array_equal(observation[0], untouched.reset()[0])


@every_environment
@pytest.mark.parametrize(
    "mask",
    [[False, False], [1, 0], [True], np.array([[True, False]]), "both"],
    ids=["none", "ints", "short", "2d", "text"],
)
def test_bad_reset_mask_raises(entry, mask):
    envs = vector(entry, 2)
    envs.reset(seed=1)
    with pytest.raises(InvalidInputError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.asarray(mask)})


@every_environment
def test_bad_number_of_environments_or_mode_raises(entry):
    for bad in (0, -1, 1.5, True):
        with pytest.raises(InvalidInputError, match="num_envs"):
            load(entry.vector)(num_envs=bad)
    with pytest.raises(ValueError, match="sometimes"):
        load(entry.vector)(num_envs=1, autoreset_mode="sometimes")


# Bad input


def with_last(zeros, value):
    """The array with its last entry replaced: one bad entry, or one bad row, is enough."""
    changed = zeros.copy()
    changed[(-1,) * zeros.ndim] = value
    return changed


def bad_numbers(space):
    zeros = np.zeros(space.shape, np.float32)
    return {
        "nan": with_last(zeros, np.nan),
        "infinite": with_last(zeros, np.inf),
        "above": with_last(zeros, 1.01),
        "below": with_last(zeros, -1.01),
        "longer": np.zeros((space.shape[0] + 1, *space.shape[1:]), np.float32),
        "deeper": zeros[None],
        "empty": np.zeros((0,), np.float32),
        "scalar": 0.0,
        "none": None,
        "text": "full power",
        "ragged": [[0.0], [0.0, 0.0]],
    }


def bad_choices(space):
    zeros = np.zeros(space.shape, np.int64)
    choices = choices_of(space)
    return {
        "nan": with_last(zeros.astype(float), np.nan),
        "infinite": with_last(zeros.astype(float), np.inf),
        "whole but a float": zeros.astype(float),
        "float32": zeros.astype(np.float32),
        "fraction": zeros + 0.5,
        "complex": zeros.astype(complex),
        "boolean": zeros.astype(bool),
        "above": with_last(zeros, choices),
        "far above": with_last(zeros, 2**62),
        "unsigned": with_last(zeros.astype(np.uint64), 2**63),
        "beyond 64 bits": np.full(space.shape, 10**30, object).tolist(),
        "below": with_last(zeros, -1),
        "objects": with_last(zeros.astype(object), None),
        "longer": np.zeros((2, *zeros.shape), np.int64) if zeros.ndim == 0 else np.zeros(len(zeros) + 1, np.int64),
        "deeper": zeros[None],
        "column": zeros[..., None],
        "empty": np.zeros((0,), np.int64),
        "scalar": 0.0,
        "none": None,
        "text": "full power",
        "digit": "1",
        "ragged": [[0], [0, 0]],
    }


def bad_actions(space):
    return bad_numbers(space) if isinstance(space, spaces.Box) else bad_choices(space)


def refuses(env, action):
    """Whether a step is refused for its action."""
    try:
        env.step(action)
    except InvalidInputError as error:
        return "action" in str(error)
    return False


@every_environment
def test_bad_action_raises_and_leaves_the_state_unchanged(entry):
    env, twin = single(entry), single(entry)
    actions = actions_for(env, env.horizon + 5)
    for one in (env, twin):
        one.reset(seed=6)
        play(one, actions[:3])
    before = copy.deepcopy(env.get_state())
    for kind, bad in bad_actions(env.action_space).items():
        assert refuses(env, bad), kind
        assert_same(env.get_state(), before, exact=True)
    assert_same(play(env, actions[3:]), play(twin, actions[3:]))


@every_environment
def test_one_bad_row_raises_and_leaves_all_rows_unchanged(entry):
    envs, twin = vector(entry, 3), vector(entry, 3)
    good = actions_for(envs, 6)
    for one in (envs, twin):
        one.reset(seed=6)
        one.step(good[0])
    before = copy.deepcopy(envs.unwrapped.get_state())
    for kind, bad in bad_actions(envs.action_space).items():
        assert refuses(envs, bad), kind
        assert_same(envs.unwrapped.get_state(), before, exact=True)
    for action in good[1:]:
        assert_same(list(envs.step(action)[:4]), list(twin.step(action)[:4]))


def written_otherwise(space):
    """Pairs of actions that mean the same: rounded past the edge, or of other integer types."""
    if isinstance(space, spaces.Box):
        edge = np.ones(space.shape)
        return [(edge, edge + 1e-7), (-edge, -edge - 1e-7), (edge, edge.astype(np.float32)), (edge, edge.tolist())]
    last = np.full(space.shape, choices_of(space) - 1, np.int64)
    others = [last.astype(kind) for kind in (np.int8, np.int32, np.uint8, np.uint64)]
    return [(last, other) for other in (*others, last.tolist(), last[...])]


@every_environment
def test_action_rounded_past_its_edge_is_the_edge_and_a_choice_of_any_integer_type_is_that_choice(entry):
    a, b = single(entry), single(entry)
    a.reset(seed=1)
    b.reset(seed=1)
    for action, other in written_otherwise(a.action_space):
        assert_same(play(a, [action]), play(b, [other]))
    envs, twin = vector(entry, 2), vector(entry, 2)
    envs.reset(seed=1)
    twin.reset(seed=1)
    for action, other in written_otherwise(envs.action_space):
        assert_same(list(envs.step(action)), list(twin.step(other)))


@every_environment
def test_step_before_reset_and_after_the_end_raises(entry):
    env = load(entry.single)()
    action = actions_for(env, 1)[0]
    with pytest.raises(InvalidInputError, match="reset"):
        env.step(action)
    env.reset(seed=1)
    play(env, actions_for(env, env.horizon), reset_at_end=False)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="reset"):
            env.step(action)
    env.reset()
    env.step(action)


@every_environment
def test_batch_step_before_reset_and_after_a_disabled_end_raises(entry):
    envs = vector(entry, 2, autoreset_mode=AutoresetMode.DISABLED).unwrapped
    actions = actions_for(envs, 1)[0]
    with pytest.raises(InvalidInputError, match="reset"):
        envs.step(actions)
    with pytest.raises(InvalidInputError, match="reset_mask"):
        envs.reset(seed=1, options={"reset_mask": np.array([True, False])})
    envs.reset(seed=1)
    for _ in range(envs.horizon):
        envs.step(actions)
    with pytest.raises(InvalidInputError, match="reset"):
        envs.step(actions)
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(InvalidInputError, match="reset"):
        envs.step(actions)
    envs.reset(options={"reset_mask": np.array([False, True])})
    envs.step(actions)


@every_environment
@pytest.mark.parametrize("options", [{"nonsense": 1}, {"day": -1}, {"day": 10**6}, {"day": 0.5}, {"day": [0, 1]}])
def test_bad_reset_option_raises_and_changes_nothing(entry, options):
    """Neither the running episode nor the random generator, even when a seed came along."""
    env = single(entry)
    env.reset(seed=6)
    env.step(actions_for(env, 1)[0])
    before = copy.deepcopy(env.get_state())
    with pytest.raises(InvalidInputError):
        env.reset(seed=1, options=options)
    assert_same(env.get_state(), before, exact=True)


# Saving


@every_environment
@pytest.mark.parametrize("through_bytes", [False, True], ids=["object", "pickled"])
def test_saved_state_reproduces_the_continuation_and_the_next_resets(entry, through_bytes):
    env, other = single(entry), single(entry)
    actions = actions_for(env, 2 * env.horizon + 7)
    env.reset(seed=3)
    play(env, actions[:5])
    saved = env.get_state()
    frozen = copy.deepcopy(saved)
    expected = play(env, actions[5:])  # passes two ends and resets
    assert_same(saved, frozen, exact=True)  # what was saved does not move on with the environment
    if through_bytes:
        saved = pickle.loads(pickle.dumps(saved))
    for one in (env, other):
        observation = one.set_state(saved)
        assert one.observation_space.contains(observation)
        assert_same(play(one, actions[5:]), expected)


@every_environment
def test_set_state_returns_the_observation_of_that_state(entry):
    env = single(entry)
    env.reset(seed=3)
    last = play(env, actions_for(env, 4))[-1]
    last = last if isinstance(last, np.ndarray) else last[0]  # after an end the first one of the next episode
    saved = env.get_state()
    play(env, actions_for(env, 4, seed=1))
    assert_same(env.set_state(saved), last)


@every_environment
@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
def test_copied_environment_goes_on_alike_and_apart(entry, twin_of):
    env = single(entry)
    twin_of(env).reset(seed=0)  # also before the first reset
    actions = actions_for(env, env.horizon + 5)
    env.reset(seed=3)
    play(env, actions[:4])
    twin = twin_of(env)
    expected = play(twin, actions[4:])
    assert_same(play(env, actions[4:]), expected)


@every_environment
@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
def test_copied_batch_goes_on_alike_and_apart(entry, twin_of):
    envs = vector(entry, 3).unwrapped
    envs.reset(seed=3)
    actions = actions_for(envs, envs.horizon + 3)
    envs.step(actions[0])
    twin = twin_of(envs)
    expected = [twin.step(action)[:4] for action in actions]
    assert_same([envs.step(action)[:4] for action in actions], expected)


@every_environment
def test_a_law_that_is_no_law_is_refused_by_name(entry):
    for bad in (5, None, "nonsense", ["generator"]):
        for place in (entry.single, entry.vector):
            with pytest.raises(InvalidInputError, match="^law = "):
                load(place)(law=bad)


# Rendering


@every_environment
def test_unknown_render_mode_raises(entry):
    for bad in ("ansi", "", 3):
        with pytest.raises(InvalidInputError, match="render_mode"):
            load(entry.single)(render_mode=bad)


@every_environment
def test_render_modes_are_declared_and_none_renders_nothing(entry):
    env = load(entry.single)()
    assert {"rgb_array", "human"} <= set(env.metadata["render_modes"])
    assert env.metadata["render_fps"] > 0
    assert env.render_mode is None
    env.reset(seed=1)
    assert env.render() is None
    env.close()
    env.close()


@every_environment
def test_render_before_reset_raises_and_frames_follow_the_state(entry):
    pytest.importorskip("pygame")
    env = load(entry.single)(render_mode="rgb_array")
    with pytest.raises(InvalidInputError, match="render"):
        env.render()
    env.reset(seed=1)
    first = env.render()
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    play(env, actions_for(env, min(4, env.horizon)), reset_at_end=False)
    assert env.render().shape == first.shape
    assert (env.render() != first).any()
    env.close()
