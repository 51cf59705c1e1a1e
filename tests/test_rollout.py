"""The evaluator against stepping the environments by hand; numbers and choices; recorded actions; broken policies."""

import gymnasium
import numpy as np
import pytest

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import draw_from, law, sample
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance as Fleet
from v2g_env.shared_battery.model import SizingModel, WeekModel

N, SEED = 4, 31
FLEET = Fleet(drivers=5, week_days=3, season_days=6)


class FromObservation:
    """Deterministic policy whose action depends on everything it sees."""

    def __init__(self, size, width):
        self.weights = np.random.default_rng(0).standard_normal((width, size))

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """One action per row."""
        return np.tanh(observation.astype(float) @ self.weights - 0.5).astype(np.float32), state


class Script:
    """Answers as told, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """The scripted answer; counts its calls in its memory."""
        self.asked.append((observation.copy(), state, episode_start.copy(), deterministic))
        return self.answer(observation), (1 if state is None else state[0] + 1,)


@pytest.fixture(scope="module", params=["V2G/ParkingLot-v0", "V2G/ParkingLotBays-v0"])
def played(request):
    """Environments stepped by hand, and the rollout of the same policy on the same scenarios."""
    envs = [gymnasium.make(request.param).unwrapped for _ in range(N)]
    policy = FromObservation(envs[0].action_space.shape[0], envs[0].observation_space.shape[0])
    rows = []
    for i, env in enumerate(envs):
        observation, _ = env.reset(seed=SEED + i)
        row = []
        for _ in range(env.horizon):
            action = policy.predict(observation[None])[0][0]
            observation, reward, _, _, info = env.step(action)
            row.append((action, reward, info))
        rows.append(row)
    scenario = draw_from(Instance(), law("generator"), [np.random.default_rng(SEED + i) for i in range(N)])
    model = Model(Instance(), per_bay="Bays" in request.param)
    return rows, rollout(model, scenario, policy), model, scenario


def test_rollout_equals_stepping_the_environment(played):
    rows, episodes, model, _ = played
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(episodes.actions[i], np.stack([action for action, _, _ in row]))
        assert episodes.returns[i] == pytest.approx(sum(reward for _, reward, _ in row), abs=1e-9)
        for k, term in enumerate(REWARD_TERMS):
            money = sum(info["reward_terms"][term] for _, _, info in row)
            assert episodes.money[i, k] == pytest.approx(money, abs=1e-9)
        for k, fact in enumerate(FACTS):
            np.testing.assert_array_equal(episodes.facts[i, :, k], [info[fact] for _, _, info in row])
        assert episodes.excess[i] == max(info["excess"] for _, _, info in row)
        assert (episodes.excess[i] > VIOLATION_TOLERANCE) == any(info["violation"] for _, _, info in row)
        short = sum(info["shortfall_kwh"] for _, _, info in row)
        assert episodes.shortfall_kwh[i] == pytest.approx(short, abs=1e-9)
    assert len(set(episodes.returns.round(6))) == N


def test_shapes_and_types(played):
    _, episodes, model, _ = played
    steps = model.instance.steps
    assert episodes.money.shape == (N, len(REWARD_TERMS))
    assert episodes.returns.shape == episodes.excess.shape == episodes.shortfall_kwh.shape == (N,)
    assert episodes.actions.shape == (N, steps, model.action_size)
    assert episodes.actions.dtype == np.float32
    assert episodes.facts.shape == (N, steps, len(FACTS))
    assert 0.0 <= episodes.decision_s < 1.0


def test_recorded_actions_replay_to_the_same_numbers(played):
    _, episodes, model, scenario = played
    again = rollout(model, scenario, Recorded(episodes.actions))
    for name in ("money", "excess", "shortfall_kwh", "actions", "facts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(episodes, name))


def test_recorded_actions_start_anew_in_every_rollout(played):
    _, episodes, model, scenario = played
    policy = Recorded(episodes.actions)
    np.testing.assert_array_equal(rollout(model, scenario, policy).money, rollout(model, scenario, policy).money)


def test_row_does_not_depend_on_its_company(played):
    _, episodes, model, scenario = played
    for i in range(N):
        alone = type(scenario)(*(column[i : i + 1] for column in scenario))
        np.testing.assert_array_equal(
            rollout(model, alone, Recorded(episodes.actions[i : i + 1])).money[0], episodes.money[i]
        )


def test_policy_is_asked_with_memory_starts_and_determinism():
    model = Model(Instance())
    scenario = sample(model.instance, model.law, 2, 1)
    policy = Script(lambda seen: np.zeros((len(seen), 1), np.float32))
    rollout(model, scenario, policy)
    assert len(policy.asked) == 13
    for t, (seen, memory, start, deterministic) in enumerate(policy.asked):
        assert seen.shape == (2, len(model.observation_high))
        assert memory == (None if t == 0 else (t,))
        assert start.tolist() == [t == 0] * 2
        assert deterministic is True
        assert seen[0, t] == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        lambda seen: np.zeros((len(seen), 2), np.float32),
        lambda seen: np.zeros(len(seen), np.float32),
        lambda seen: np.zeros((1, 1), np.float32),
        lambda seen: np.zeros((0, 1), np.float32),
        lambda seen: None,
        lambda seen: np.full((len(seen), 1), np.nan, np.float32),
        lambda seen: np.vstack([np.zeros((len(seen) - 1, 1)), [[np.nan]]]),
        lambda seen: np.full((len(seen), 1), np.inf, np.float32),
        lambda seen: np.full((len(seen), 1), 1.01, np.float32),
        lambda seen: np.full((len(seen), 1), -2.0, np.float32),
    ],
    ids=["wide", "flat", "few", "none", "None", "nan", "one nan", "infinite", "above", "below"],
)
def test_wrong_policy_output_raises(answer):
    model = Model(Instance())
    scenario = sample(model.instance, model.law, 3, 1)
    with pytest.raises(InvalidInputError, match="action"):
        rollout(model, scenario, Script(answer))


def test_recorded_actions_of_other_episodes_are_refused():
    model = Model(Instance())
    scenario = sample(model.instance, model.law, 3, 1)
    with pytest.raises(InvalidInputError, match="action"):
        rollout(model, scenario, Recorded(np.zeros((2, 13, 1), np.float32)))


# Choices


class Chooses:
    """Deterministic policy of choices that depends on everything it sees."""

    def __init__(self, kind=np.int64):
        self.kind = kind

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """1 where the sum of all seen has an even third digit."""
        return (np.floor(1000.0 * observation.sum(axis=1)).astype(int) % 2).astype(self.kind), state


@pytest.fixture(scope="module")
def chosen():
    """Weeks of requests stepped by hand, and the rollout of the same policy on the same weeks."""
    rows = []
    for i in range(N):
        env = gymnasium.make("V2G/SharedBatteryAllocation-v0", instance=FLEET).unwrapped
        observation, _ = env.reset(seed=SEED + i)
        row = []
        for _ in range(env.horizon):
            action = Chooses().predict(observation[None])[0][0]
            observation, reward, _, _, info = env.step(action)
            row.append((action, reward, info))
        rows.append(row)
    model = WeekModel(FLEET)
    scenario = model.draw([np.random.default_rng(SEED + i) for i in range(N)])
    return rows, rollout(model, scenario, Chooses()), model, scenario


def test_rollout_of_choices_equals_stepping_the_environment(chosen):
    rows, episodes, model, _ = chosen
    for i, row in enumerate(rows):
        assert episodes.actions[i].tolist() == [action for action, _, _ in row]
        assert episodes.rewards[i].tolist() == [reward for _, reward, _ in row]
        assert episodes.returns[i] == pytest.approx(sum(reward for _, reward, _ in row), abs=1e-9)
        for k, fact in enumerate(gymnasium.make("V2G/SharedBatteryAllocation-v0").unwrapped.facts):
            assert episodes.facts[i, :, k].tolist() == [info[fact] for _, _, info in row]
        assert (episodes.excess[i] > 1e-6) == any(info["violation"] for _, _, info in row)
    assert episodes.actions.shape == (N, model.steps) == (N, 15)
    assert episodes.actions.dtype == np.int32
    assert set(np.unique(episodes.actions)) == {0, 1}
    assert len(set(episodes.returns.round(6))) == N


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.int8, np.uint8, np.uint64])
def test_recorded_choices_replay_to_the_same_numbers_as_integers_of_any_type(chosen, kind):
    _, episodes, model, scenario = chosen
    for policy in (Recorded(episodes.actions.astype(kind)), Chooses(kind)):
        again = rollout(model, scenario, policy)
        assert again.actions.dtype == np.int32
        for name in ("money", "excess", "shortfall_kwh", "actions", "facts", "rewards"):
            np.testing.assert_array_equal(getattr(again, name), getattr(episodes, name))


def test_recorded_choices_are_not_rounded_or_changed(chosen):
    """Every single choice of every row comes back where it was."""
    _, _, model, scenario = chosen
    actions = np.random.default_rng(0).integers(0, 2, (N, model.steps))
    kept = actions.copy()
    np.testing.assert_array_equal(rollout(model, scenario, Recorded(actions)).actions, kept)
    np.testing.assert_array_equal(actions, kept)


@pytest.mark.parametrize(
    "answer",
    [
        lambda seen: np.zeros((len(seen), 1), int),
        lambda seen: np.zeros(len(seen) - 1, int),
        lambda seen: np.zeros(0, int),
        lambda seen: 0,
        lambda seen: None,
        lambda seen: np.zeros(len(seen)),
        lambda seen: np.zeros(len(seen), np.float32),
        lambda seen: np.full(len(seen), np.nan),
        lambda seen: np.zeros(len(seen), bool),
        lambda seen: np.array(["0"] * len(seen)),
        lambda seen: np.array([0] * (len(seen) - 1) + [2]),
        lambda seen: np.array([0] * (len(seen) - 1) + [-1]),
        lambda seen: np.full(len(seen), 2**63, np.uint64),
    ],
    ids=[
        *("column", "few", "none", "scalar", "None", "float", "float32"),
        *("nan", "boolean", "text", "above", "below", "unsigned"),
    ],
)
def test_wrong_choice_of_a_policy_raises(answer):
    model = WeekModel(FLEET)
    scenario = model.draw([np.random.default_rng(i) for i in range(3)])
    with pytest.raises(InvalidInputError, match="action"):
        rollout(model, scenario, Script(answer))


def test_policy_of_choices_is_asked_with_memory_starts_and_determinism():
    model = WeekModel(FLEET)
    policy = Script(lambda seen: np.ones(len(seen), int))
    rollout(model, model.draw([np.random.default_rng(i) for i in range(2)]), policy)
    assert len(policy.asked) == model.steps
    for t, (seen, memory, start, deterministic) in enumerate(policy.asked):
        assert seen.shape == (2, len(model.observation_high))
        assert memory == (None if t == 0 else (t,))
        assert start.tolist() == [t == 0] * 2
        assert deterministic is True


def test_episodes_of_one_step_are_rolled_out_and_replayed():
    model = SizingModel(FLEET)
    scenario = model.draw([np.random.default_rng(SEED + i) for i in range(N)])
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (N, 1, 6)).astype(np.float32)
    episodes = rollout(model, scenario, Recorded(actions))
    np.testing.assert_array_equal(episodes.actions, actions)
    assert episodes.facts.shape[:2] == episodes.rewards.shape == (N, 1)
    np.testing.assert_allclose(episodes.returns, episodes.rewards[:, 0], rtol=1e-12)
    env = gymnasium.make("V2G/SharedBatterySizing-v0", instance=FLEET).unwrapped
    for i in range(N):
        env.reset(seed=SEED + i)
        _, reward, terminated, _, info = env.step(actions[i, 0])
        assert terminated
        assert episodes.rewards[i, 0] == reward
        assert episodes.money[i].tolist() == list(info["reward_terms"].values())
        assert episodes.excess[i] == info["excess"]


def test_a_vector_environment_continues_from_a_saved_state_with_the_same_draws():
    import gymnasium

    envs = gymnasium.make_vec("V2G/ParkingLot-v0", num_envs=3, vectorization_mode="vector_entry_point")
    envs.reset(seed=4)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (30, 3, 1)).astype(np.float32)
    for action in actions[:5]:
        envs.step(action)
    saved = envs.get_state()
    first = [envs.step(action)[:3] for action in actions[5:]]
    envs.set_state(saved)
    second = [envs.step(action)[:3] for action in actions[5:]]
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            assert np.array_equal(a, b)
