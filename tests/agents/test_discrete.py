"""Agents whose actions are choices: one head of logits instead of means and deviations."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import torch
from safetensors.numpy import load, save

from agents.bundle import BundleError, load_bundle, save_bundle
from agents.bundle_files import digest
from agents.config import EnvConfig, PPOParams, SACParams, TrainConfig
from agents.config import load as load_config
from agents.learners import policy_tensors
from agents.normaliser import Normaliser
from agents.recorder import Recorder
from agents.sb3 import build_model, make_native, train
from v2g_env.core.validate import InvalidInputError
from v2g_env.registration import ENVIRONMENTS
from v2g_env.rollout import rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SizingModel, WeekModel
from v2g_env.shared_battery.scenario import sample_seasons, sample_weeks

ID = "V2G/SharedBatteryAllocation-v0"
WEEK = {"drivers": 4, "week_days": 2}
CONFIG = TrainConfig(
    env=EnvConfig(ID, instance=WEEK),
    num_envs=16,
    total_steps=1024,
    checkpoint_steps=256,
    hyperparameters=PPOParams(n_steps=8, batch_size=64, n_epochs=2, learning_rate=1e-3, net_arch=(16, 8)),
)


def changed(**hyperparameters):
    return CONFIG.replace(hyperparameters=dataclasses.replace(CONFIG.hyperparameters, **hyperparameters))


def made():
    """Environments, a model with weights of ordinary size, a normaliser, observations."""
    envs = make_native(CONFIG.env, CONFIG.num_envs)
    model = build_model(CONFIG, envs)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    seen = envs.observation_space.high * np.random.default_rng(1).random((200, 16), dtype=np.float32)
    normaliser = Normaliser(16)
    normaliser.update(seen)
    return envs, model, normaliser, seen


@pytest.fixture
def saved(tmp_path):
    _, model, normaliser, seen = made()
    save_bundle(tmp_path / "b", CONFIG, policy_tensors(model, "ppo", normaliser), 128)
    return tmp_path / "b", model, normaliser(seen), seen


@pytest.mark.parametrize("env_id", [entry.id for entry in ENVIRONMENTS])
def test_the_kind_of_action_is_the_environments(env_id):
    envs = gymnasium.make_vec(env_id, num_envs=2, vectorization_mode="vector_entry_point")
    choices = isinstance(envs.single_action_space, gymnasium.spaces.Discrete)
    assert EnvConfig(env_id).action_kind == ("discrete" if choices else "box")


def test_the_adapter_repeats_single_environments():
    envs = make_native(CONFIG.env, 3)
    envs.seed(5)
    observations = envs.reset()
    singles = [gymnasium.make(ID, instance=WEEK) for _ in range(3)]
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(observations[i], single.reset(seed=5 + i)[0])
    rng = np.random.default_rng(0)
    earned = 0.0
    for _ in range(20):
        chosen = rng.integers(0, 2, 3)
        observations, rewards, dones, infos = envs.step(chosen)
        for i, single in enumerate(singles):
            seen, reward, done, _, _ = single.step(chosen[i])
            earned += reward
            assert rewards[i] == pytest.approx(reward, rel=1e-6)
            assert dones[i] == done
            if done:
                np.testing.assert_array_equal(infos[i]["terminal_observation"], seen)
                seen = single.reset()[0]
            np.testing.assert_array_equal(observations[i], seen)
    assert earned > 0.0
    with pytest.raises(InvalidInputError, match="action"):
        envs.step(np.zeros((3, 1), np.float32))


def test_a_bundle_chooses_like_the_model_it_came_from(saved):
    path, model, shown, seen = saved
    bundle = load_bundle(path)
    expected, _ = model.predict(shown, deterministic=True)
    found, memory = bundle.predict(seen, deterministic=True)
    np.testing.assert_array_equal(found, expected)
    assert 0.1 < found.mean() < 0.9
    assert (found.dtype, found.shape, memory) == (np.int64, (200,), None)
    assert (bundle.config["action_kind"], bundle.config["action_size"]) == ("discrete", 2)
    env = gymnasium.make(bundle.env_id, **bundle.env_kwargs)
    one, _ = bundle.predict(env.reset(seed=0)[0])
    assert np.shape(one) == ()
    env.step(one)
    assert np.shape(bundle.predict(seen[0], deterministic=True)[0]) == ()
    assert bundle.predict(seen[0], deterministic=True)[0] == found[0]


def test_random_choices_have_the_models_probabilities(saved):
    path, model, shown, seen = saved
    with torch.no_grad():
        probability = model.policy.get_distribution(torch.from_numpy(shown)).distribution.probs[:, 1].numpy()
    rows, many = np.argsort(probability)[[0, 60, 140, 199]], 4000
    bundle, again = load_bundle(path, seed=1), load_bundle(path, seed=1)
    before = torch.get_rng_state()
    drawn, _ = bundle.predict(np.repeat(seen[rows], many, axis=0))
    np.testing.assert_array_equal(drawn, again.predict(np.repeat(seen[rows], many, axis=0))[0])
    assert not np.array_equal(drawn, load_bundle(path, seed=2).predict(np.repeat(seen[rows], many, axis=0))[0])
    assert torch.equal(torch.get_rng_state(), before)
    share, wanted = drawn.reshape(4, many).mean(axis=1), probability[rows]
    assert wanted[-1] - wanted[0] > 0.3
    assert (abs(share - wanted) < 5.0 * np.sqrt(wanted * (1.0 - wanted) / many)).all()


def rewrite(path, change):
    """Change config.json and make its hash right again, as a forger would."""
    content = json.loads((path / "config.json").read_text())
    change(content)
    content["sha256"] = digest(content)
    (path / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(action_kind="box"),
        lambda c: c.update(action_kind="multi"),
        lambda c: c.update(action_kind=2),
        lambda c: c.pop("action_kind"),
    ],
)
def test_a_forged_kind_is_refused_by_name(saved, change):
    rewrite(saved[0], change)
    with pytest.raises(BundleError, match="action_kind"):
        load_bundle(saved[0])


def test_a_kind_changed_by_hand_breaks_the_hash(saved):
    text = (saved[0] / "config.json").read_text()
    (saved[0] / "config.json").write_text(text.replace('"discrete"', '"box"'))
    with pytest.raises(BundleError, match="sha256"):
        load_bundle(saved[0])


def test_logits_come_without_a_deviation(saved):
    tensors = load((saved[0] / "policy.safetensors").read_bytes())
    assert not any(name.startswith("log_std") for name in tensors)
    with pytest.raises(BundleError, match="log_std"):
        save_bundle(saved[0], CONFIG, tensors | {"log_std": np.zeros(2, np.float32)}, 128)
    raw = save(tensors | {"log_std": np.zeros(2, np.float32)})
    (saved[0] / "policy.safetensors").write_bytes(raw)
    rewrite(saved[0], lambda content: content.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(BundleError, match="log_std"):
        load_bundle(saved[0])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (CONFIG.replace(algorithm="sac", hyperparameters=SACParams()), ("algorithm = 'sac'", ID)),
        (changed(action_start=(0.0, 0.0)), ("action_start", ID)),
        (changed(log_std_init=-2.0), ("log_std_init", ID)),
    ],
)
def test_what_does_not_go_with_choices_is_refused_before_anything_is_written(config, words, tmp_path):
    with pytest.raises(InvalidInputError) as error:
        train(config, tmp_path / "run", progress=False)
    assert all(word in str(error.value) for word in words)
    assert not (tmp_path / "run").exists()


class KilledError(Exception):
    """Stands for a kill signal."""


def test_a_killed_run_resumes_and_ends_in_the_same_bits(tmp_path, monkeypatch):
    whole = train(CONFIG, tmp_path / "whole", progress=False)
    original = Recorder._on_step

    def dying(self):
        if self.model.num_timesteps > 700:
            raise KilledError
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", dying)
        with pytest.raises(KilledError):
            train(CONFIG, tmp_path / "cut", progress=False)
    newest = load_bundle(max((tmp_path / "cut").glob("checkpoint-*")))
    assert newest.config["action_kind"] == "discrete"
    resumed = train(CONFIG, tmp_path / "cut", progress=False)
    assert (resumed.resumed_from, resumed.steps) == (512, 1024)
    first, second = load_bundle(whole.bundle), load_bundle(resumed.bundle)
    assert first.config["weights_sha256"] == second.config["weights_sha256"]
    with (tmp_path / "cut" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["steps"]) for row in rows] == list(range(128, 1025, 128))
    assert float(rows[-1]["mean_return_usd"]) == pytest.approx(resumed.mean_return_usd, rel=1e-6)
    assert all(float(row["entropy_loss"]) < 0.0 for row in rows if row["entropy_loss"])
    assert rows[-1]["entropy_loss"]
    assert all(row["std"] == "" for row in rows)


@pytest.mark.parametrize("name", ["allocation", "partial", "sizing"])
def test_shipped_configurations_train_and_can_be_evaluated(name, tmp_path):
    config = load_config(f"shared_battery_{name}_ppo").replace(total_steps=1)
    result = train(config, tmp_path, progress=False)
    params = config.hyperparameters
    assert result.steps == params.n_steps * config.num_envs
    policy = load_bundle(result.bundle)
    assert policy.config["action_kind"] == ("discrete" if name == "allocation" else "box")
    instance = Instance.from_dict(dict(config.env.instance))
    if name == "sizing":
        model = SizingModel(instance)
        episodes = rollout(model, sample_seasons(instance, "generator", 3, 9), policy)
        np.testing.assert_allclose(episodes.actions[0, 0], params.action_start, atol=0.1)
    else:
        model = WeekModel(instance, "generator", name == "partial")
        episodes = rollout(model, sample_weeks(instance, "generator", 3, 9), policy)
    assert episodes.actions.shape == ((3, model.steps) if name == "allocation" else (3, model.steps, model.action_size))
    assert np.isfinite(episodes.returns).all()


class GrantAll:
    """First come, first served."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Grant."""
        return np.ones(len(observation), np.int64), None


def test_learning_beats_granting_everything(tmp_path):
    scarce = {"drivers": 8, "week_days": 1, "shared_fraction": 0.3, "own_quantile": 0.0, "driver_spread": 0.0}
    config = TrainConfig(
        env=EnvConfig(ID, instance=scarce | {"value_sd": 1.5}),
        num_envs=64,
        total_steps=16_000,
        hyperparameters=PPOParams(n_steps=16, batch_size=256, n_epochs=8, learning_rate=3e-3, net_arch=(32,)),
    )
    policy = load_bundle(train(config, tmp_path, progress=False).bundle)
    instance = Instance.from_dict(dict(config.env.instance))
    weeks = sample_weeks(instance, "generator", 500, 1)
    learned, greedy = (rollout(WeekModel(instance), weeks, each).returns for each in (policy, GrantAll()))
    gain = learned - greedy
    assert gain.mean() > 5.0 * gain.std() / np.sqrt(len(gain))
    assert learned.mean() > 1.25 * greedy.mean()
