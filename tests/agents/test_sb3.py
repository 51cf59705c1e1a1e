from __future__ import annotations

import csv
import json
import os
import signal
import threading

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from agents import checkpoint
from agents.bundle import load_bundle
from agents.config import EnvConfig, PPOParams, SACParams, TrainConfig
from agents.normaliser import Normaliser
from agents.recorder import Recorder
from agents.sb3 import NativeVecEnv, make_native, train
from v2g_env.core.validate import InvalidInputError

N, SEED = 3, 11
CHECKPOINT = "checkpoint-000000000832"
PPO = TrainConfig(
    num_envs=16,
    total_steps=3328,
    checkpoint_steps=832,
    hyperparameters=PPOParams(n_steps=26, batch_size=104, n_epochs=2, net_arch=(16, 8)),
)
SAC = TrainConfig(
    algorithm="sac",
    num_envs=8,
    total_steps=832,
    checkpoint_steps=208,
    hyperparameters=SACParams(
        buffer_size=400, batch_size=32, learning_starts=104, gradient_steps=1, net_arch=(16, 8), learning_rate=1e-3
    ),
)


def actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 0.2, (steps, N, 1)).astype(np.float32)


@pytest.mark.parametrize("env_id", ["V2G/ParkingLot-v0", "V2G/ParkingLotBays-v0"])
def test_adapter_repeats_single_environments(env_id):
    envs = make_native(EnvConfig(env_id), N, reward_scale=10.0)
    envs.seed(SEED)
    observations = envs.reset()
    singles = [gymnasium.make(env_id) for _ in range(N)]
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(observations[i], single.reset(seed=SEED + i)[0])
    horizon = envs.get_attr("horizon")[0]
    totals = np.zeros(N)
    rng = np.random.default_rng(0)
    for t in range(3 * horizon):
        chosen = rng.uniform(-1, 0.2, (N, *envs.action_space.shape)).astype(np.float32)
        observations, rewards, dones, infos = envs.step(chosen)
        assert len({id(info) for info in infos}) == N
        for i, single in enumerate(singles):
            seen, reward, terminated, _, _ = single.step(chosen[i])
            totals[i] += reward
            assert rewards[i] == pytest.approx(reward / 10.0, rel=1e-5, abs=1e-6)
            assert dones[i] == terminated == ((t + 1) % horizon == 0)
            if terminated:
                np.testing.assert_array_equal(infos[i]["terminal_observation"], seen)
                assert infos[i]["TimeLimit.truncated"] is False
                assert infos[i]["episode"]["r"] == pytest.approx(totals[i], abs=1e-9)
                assert infos[i]["episode"]["l"] == horizon
                totals[i] = 0.0
                seen = single.reset()[0]
            else:
                assert infos[i] == {}
            np.testing.assert_array_equal(observations[i], seen)
    finished = envs.take_finished()
    assert finished.returns.shape == (3 * N,)
    assert len(envs.take_finished().returns) == 0


def test_infos_and_terminal_observations_are_not_aliased():
    envs = make_native(EnvConfig(), N)
    envs.seed(1)
    envs.reset()
    for action in actions(13):
        observations, _, _, infos = envs.step(action)
    kept = infos[0]["terminal_observation"].copy()
    first = observations.copy()
    infos[1]["terminal_observation"][:] = -1.0
    np.testing.assert_array_equal(infos[0]["terminal_observation"], kept)
    _, _, _, later = envs.step(actions(1)[0])
    assert all(a is not b for a, b in zip(infos, later, strict=True))
    np.testing.assert_array_equal(observations, first)


def test_the_same_seed_gives_the_same_episodes_and_a_second_reset_new_ones():
    envs = make_native(EnvConfig(), N)
    envs.seed(4)
    first = envs.reset()
    again = envs.reset()
    envs.seed(4)
    np.testing.assert_array_equal(envs.reset(), first)
    assert not np.array_equal(first, again)


def test_attributes_and_methods_of_all_rows_at_once():
    envs = make_native(EnvConfig(), N)
    assert envs.get_attr("horizon") == [13] * N
    assert envs.get_attr("horizon", indices=[0, 2]) == [13] * 2
    assert not envs.has_attr("nothing")
    with pytest.raises(AttributeError):
        envs.set_attr("horizn", 3)
    with pytest.raises(InvalidInputError, match="indices"):
        envs.set_attr("horizon", 3, indices=0)
    with pytest.raises(InvalidInputError, match="indices"):
        envs.env_method("close", indices=[1])
    assert envs.env_method("close") == [None] * N
    assert envs.env_is_wrapped(Monitor) == [True] * N
    assert envs.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=1) == [False]
    assert envs.render_mode is None


def test_bad_actions_and_modes_are_refused():
    envs = make_native(EnvConfig(), N)
    envs.reset()
    with pytest.raises(InvalidInputError, match="nan"):
        envs.step(np.full((N, 1), np.nan, np.float32))
    other = gymnasium.make_vec("V2G/ParkingLot-v0", num_envs=2, vectorization_mode="vector_entry_point")
    with pytest.raises(InvalidInputError, match="SAME_STEP"):
        NativeVecEnv(other)


class Ticking(VectorEnv):
    """Rows end at different times, the even ones by truncation; final observations come as an object array."""

    def __init__(self):
        """Four rows."""
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs = 4
        self.single_observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, 4)
        self.action_space = batch_space(self.single_action_space, 4)

    def reset(self, *, seed=None, options=None):
        """All clocks to zero."""
        self.t = np.zeros(4, int)
        return self.t[:, None].astype(np.float32), {}

    def step(self, action):
        """Every clock ticks."""
        self.t += 1
        done = self.t == np.array([2, 3, 4, 5])
        even = np.arange(4) % 2 == 0
        info = {}
        if done.any():
            final = np.array([None] * 4, dtype=object)
            for i in np.flatnonzero(done):
                final[i] = np.array([self.t[i]], np.float32)
            info = {"final_obs": final, "_final_obs": done}
        self.t[done] = 0
        return self.t[:, None].astype(np.float32), np.ones(4), done & ~even, done & even, info


def test_truncations_and_staggered_ends():
    envs = NativeVecEnv(Ticking())
    envs.reset()
    ends = {i: [] for i in range(4)}
    for t in range(1, 13):
        _, _, dones, infos = envs.step(np.zeros((4, 1), np.float32))
        for i in np.flatnonzero(dones):
            ends[i].append(t)
            length = i + 2
            assert infos[i]["TimeLimit.truncated"] is bool(i % 2 == 0)
            assert infos[i]["terminal_observation"].tolist() == [length]
            assert infos[i]["episode"]["l"] == infos[i]["episode"]["r"] == length
    assert ends == {i: list(range(i + 2, 13, i + 2)) for i in range(4)}


def test_normaliser_agrees_with_stable_baselines():
    native = make_native(EnvConfig(), 8, normaliser=Normaliser(35))
    plain = VecNormalize(make_native(EnvConfig(), 8), norm_reward=False)
    native.seed(3)
    plain.seed(3)
    native.reset(), plain.reset()
    rng = np.random.default_rng(0)
    for _ in range(26):
        chosen = rng.uniform(-1, 1, (8, 1)).astype(np.float32)
        mine, theirs = native.step(chosen), plain.step(chosen)
    np.testing.assert_allclose(mine[0], theirs[0], atol=2e-3)
    np.testing.assert_allclose(native.normaliser.mean, plain.obs_rms.mean, atol=1e-5)
    last, reference = mine[3][0]["terminal_observation"], theirs[3][0]["terminal_observation"]
    np.testing.assert_allclose(last, reference, atol=2e-3)


def test_normaliser_is_the_mean_of_all_and_freezes():
    data = np.random.default_rng(0).normal(3.0, 2.0, (50, 4)).astype(np.float32)
    normaliser = Normaliser(4, freeze_at=50)
    for part in (data[:7], data[7:20], data[20:]):
        normaliser.update(part)
    np.testing.assert_allclose(normaliser.mean, data.mean(axis=0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(normaliser.variance, data.var(axis=0, dtype=float), rtol=1e-12)
    normaliser.update(data * 100)
    assert normaliser.count == 50
    again = Normaliser(4).restore(normaliser.arrays())
    np.testing.assert_array_equal(again(data), normaliser(data))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {c.algorithm: train(c, folder / c.algorithm, progress=False) for c in (PPO, SAC)}


def rows_of(folder):
    with (folder / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("config", [PPO, SAC], ids=["ppo", "sac"])
def test_a_run_leaves_a_bundle_a_log_and_no_checkpoints(config, whole):
    result = whole[config.algorithm]
    folder = result.bundle.parent
    assert (result.reason, result.finished, result.steps) == ("total_steps", True, config.total_steps)
    assert sorted(path.name for path in folder.iterdir()) == ["bundle", "log.csv", "run.json", "tensorboard"]
    rows = rows_of(folder)
    steps = [int(row["steps"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == config.total_steps
    assert (folder / "log.csv").read_text().count("steps_per_s") == 1
    assert float(rows[-1]["mean_return_usd"]) == pytest.approx(result.mean_return_usd, rel=1e-6)
    assert list((folder / "tensorboard").iterdir())
    bundle = load_bundle(result.bundle)
    assert bundle.hash == result.bundle_hash
    envs = make_native(config.env, 16)
    assert np.isfinite(evaluate_policy(bundle, envs, n_eval_episodes=16)[0])


@pytest.mark.parametrize("config", [PPO, SAC], ids=["ppo", "sac"])
def test_a_finished_run_is_not_repeated(config, whole, monkeypatch):
    done = whole[config.algorithm]
    monkeypatch.setattr("agents.sb3.build_model", lambda *_: pytest.fail("trained again"))
    again = train(config, done.bundle.parent, progress=False)
    assert again == done


def weights(result):
    return json.loads((result.bundle / "config.json").read_text())["weights_sha256"]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(whole, tmp_path):
    again = train(PPO, tmp_path / "again", progress=False)
    other = train(PPO.replace(seed=1), tmp_path / "other", progress=False)
    assert weights(again) == weights(whole["ppo"]) != weights(other)
    kept = [row["mean_return_usd"] for row in rows_of(again.bundle.parent)]
    assert kept == [row["mean_return_usd"] for row in rows_of(whole["ppo"].bundle.parent)]


class KilledError(Exception):
    """Stands for a kill signal."""


@pytest.mark.parametrize(("config", "after"), [(PPO, 2100), (SAC, 600)], ids=["ppo", "sac"])
def test_a_killed_run_resumes_and_ends_in_the_same_bits(config, after, whole, tmp_path, monkeypatch):
    original = Recorder._on_step

    def dying(self):
        if self.model.num_timesteps > after:
            raise KilledError
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", dying)
        with pytest.raises(KilledError):
            train(config, tmp_path, progress=False)
    with (tmp_path / "log.csv").open("a") as stream:
        stream.write("99")  # a row cut off by the kill
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2
    load_bundle(max(tmp_path.glob("checkpoint-*")))
    resumed = train(config, tmp_path, progress=False)
    assert resumed.resumed_from == after // config.checkpoint_steps * config.checkpoint_steps
    assert weights(resumed) == weights(whole[config.algorithm])
    steps = [row["steps"] for row in rows_of(tmp_path)]
    assert len(steps) == len(set(steps))
    assert steps[-1] == str(config.total_steps)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole, monkeypatch):
    def dying(self):
        if self.model.num_timesteps > 2100:
            raise KilledError
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", dying)
        with pytest.raises(KilledError):
            train(PPO, tmp_path, progress=False)
    newest = max(tmp_path.glob("checkpoint-*"))
    raw = (newest / "training.safetensors").read_bytes()
    (newest / "training.safetensors").write_bytes(raw[:-10])
    assert checkpoint.newest(tmp_path)[0].steps == 832
    resumed = train(PPO, tmp_path, progress=False)
    assert weights(resumed) == weights(whole["ppo"])


def test_after_ctrl_c_the_policy_is_there_and_the_run_goes_on_to_the_same_bits(tmp_path, whole, monkeypatch):
    assert threading.current_thread() is threading.main_thread()
    original = Recorder._on_step

    def interrupting(self):
        if self.model.num_timesteps == 1008:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", interrupting)
        stopped = train(PPO, tmp_path, progress=False)
    assert (stopped.reason, stopped.finished, stopped.steps) == ("interrupted", False, 1248)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_bundle(stopped.bundle).config["steps"] == 1248
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-000000000000", CHECKPOINT]
    resumed = train(PPO, tmp_path, progress=False)
    assert (resumed.reason, resumed.steps, resumed.resumed_from) == ("total_steps", PPO.total_steps, 832)
    assert weights(resumed) == weights(whole["ppo"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "log.csv", "run.json", "tensorboard"]
    kept = [row["mean_return_usd"] for row in rows_of(tmp_path)]
    assert kept == [row["mean_return_usd"] for row in rows_of(whole["ppo"].bundle.parent)]


def test_the_time_limit_ends_a_run_for_good(tmp_path):
    config = PPO.replace(time_limit_s=0.5, total_steps=10**9)
    result = train(config, tmp_path, progress=False)
    assert (result.reason, result.finished) == ("time_limit", True)
    assert 0.5 <= result.seconds < 5.0
    assert train(config, tmp_path, progress=False) == result


def test_a_folder_belongs_to_one_run(whole):
    folder = whole["ppo"].bundle.parent
    for other in (PPO.replace(seed=5), PPO.replace(total_steps=4160)):
        with pytest.raises(InvalidInputError, match="the same run"):
            train(other, folder, progress=False)
    with pytest.raises(InvalidInputError, match="the same run"):
        train(PPO, folder, plan_kwh=[1.0] * 13, progress=False)


def test_a_plan_is_shown_and_remembered(tmp_path):
    plan = [0.0] + [20.0] * 11 + [0.0]
    config = PPO.replace(total_steps=416)
    result = train(config, tmp_path / "run", plan_kwh=plan, progress=False)
    bundle = load_bundle(result.bundle)
    assert bundle.env_kwargs["plan_kwh"] == plan
    env = gymnasium.make(bundle.env_id, **bundle.env_kwargs)
    assert env.reset(seed=0)[0][-1] == pytest.approx(0.1)
    with pytest.raises(InvalidInputError, match="plan_kwh"):
        train(config, tmp_path / "short", plan_kwh=[1.0], progress=False)
    with pytest.raises(InvalidInputError, match="plan_kwh"):
        train(config, tmp_path / "nan", plan_kwh=[np.nan] * 13, progress=False)


def test_the_last_rollout_behind_total_steps_does_not_turn_the_learning_rate_negative(tmp_path):
    result = train(PPO.replace(total_steps=3000), tmp_path, progress=False)
    rates = [float(row["learning_rate"]) for row in rows_of(tmp_path) if row["learning_rate"]]
    assert result.steps == 3328
    assert min(rates) >= 0.0


def test_learning_beats_doing_nothing(tmp_path):
    config = TrainConfig(
        num_envs=64, total_steps=25_000, hyperparameters=PPOParams(batch_size=208, n_epochs=10, learning_rate=1e-3)
    )
    result = train(config, tmp_path, progress=False)
    envs = make_native(config.env, 256)
    envs.seed(0)
    mean, _ = evaluate_policy(load_bundle(result.bundle), envs, n_eval_episodes=256)
    assert mean > 20.0  # doing nothing earns 0, a random policy loses money
