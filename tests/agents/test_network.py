"""Stored policies act in NumPy alone, step by step like the models that they came from."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch

from agents.bundle import load_bundle, save_bundle
from agents.config import EnvConfig, MaskablePPOParams, PPOParams, RecurrentPPOParams, TrainConfig
from agents.learners import build_model, policy_tensors
from agents.network import Network
from agents.normaliser import Normaliser
from agents.vec_env import make_native
from v2g_env.core.validate import InvalidInputError

SMALL = {"n_steps": 4, "batch_size": 16, "net_arch": (12, 8)}
WEEK = {"drivers": 4, "week_days": 2}
CONFIGS = {
    "recurrent": TrainConfig("recurrent_ppo", num_envs=4, hyperparameters=RecurrentPPOParams(**SMALL, lstm_size=7)),
    "recurrent choices": TrainConfig(
        "recurrent_ppo",
        EnvConfig("V2G/PriceChain-v0"),
        num_envs=4,
        hyperparameters=RecurrentPPOParams(**SMALL, lstm_size=7, normalize_observation=False),
    ),
    "masked chain": TrainConfig(
        "maskable_ppo",
        EnvConfig("V2G/PriceChain-v0"),
        num_envs=4,
        hyperparameters=MaskablePPOParams(**SMALL, normalize_observation=False),
    ),
    "masked week": TrainConfig(
        "maskable_ppo",
        EnvConfig("V2G/SharedBatteryAllocation-v0", instance=WEEK),
        num_envs=4,
        hyperparameters=MaskablePPOParams(**SMALL),
    ),
}


def made(name, folder):
    """Environments of a configuration, a model with weights of ordinary size, its normaliser, its bundle."""
    config = CONFIGS[name]
    envs = make_native(config.env, config.num_envs)
    model = build_model(config, envs)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    normaliser = None
    if config.hyperparameters.normalize_observation:
        normaliser = Normaliser(envs.observation_space.shape[0])
        envs.seed(1)
        normaliser.update(envs.reset())
    save_bundle(folder, config, policy_tensors(model, config.algorithm, normaliser), 16)
    return envs, model, normaliser or (lambda seen: seen), load_bundle(folder)


@pytest.mark.parametrize("name", ["recurrent", "recurrent choices"])
def test_memory_travels_and_is_forgotten_like_the_models(name, tmp_path):
    envs, model, shown, bundle = made(name, tmp_path / "b")
    envs.seed(3)
    seen = envs.reset()
    start = np.ones(4, bool)
    mine, theirs = None, None
    spread = []
    for step in range(60):
        expected, theirs = model.predict(shown(seen), theirs, start, deterministic=True)
        found, mine = bundle.predict(seen, mine, start, deterministic=True)
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=3e-6)
        fresh, _ = bundle.predict(seen, None, None, deterministic=True)
        spread.append(np.abs(fresh - found).max())
        seen, _, start, _ = envs.step(expected)
        if step % 7 == 3:
            start = start | (np.arange(4) == step % 4)  # episodes that begin out of step
    assert max(spread) > 0.05  # what it remembers matters


def test_an_episode_of_a_batch_is_the_same_as_alone(tmp_path):
    envs, _, _, bundle = made("recurrent", tmp_path / "b")
    envs.seed(5)
    seen = [envs.reset(), *(envs.step(np.zeros((4, 1), np.float32))[0] for _ in range(5))]
    memory, alone = None, None
    for step, rows in enumerate(seen):
        together, memory = bundle.predict(rows, memory, np.full(4, step == 0), deterministic=True)
        single, alone = bundle.predict(rows[2], alone, np.array([step == 0]), deterministic=True)
        np.testing.assert_allclose(single, together[2], atol=1e-6)


def test_a_foreign_memory_is_named(tmp_path):
    *_, bundle = made("recurrent", tmp_path / "b")
    seen = np.zeros((3, 35), np.float32)
    memory = bundle.predict(seen, None, None)[1]
    with pytest.raises(InvalidInputError, match="memory"):
        bundle.predict(seen[:2], memory, None)
    with pytest.raises(InvalidInputError, match="episode_start"):
        bundle.predict(seen, memory, np.ones(2, bool))


def test_the_gates_agree_with_torchs_cell():
    torch.manual_seed(2)
    cell = torch.nn.LSTM(3, 5)
    tensors = {f"lstm.{name.removesuffix('_l0')}": value.detach().numpy() for name, value in cell.named_parameters()}
    network = Network(tensors, 0, "tanh")
    assert network.lstm_size == 5
    memory, hidden = None, None
    for _ in range(30):
        x = torch.randn(6, 3) * 4.0
        with torch.no_grad():
            expected, hidden = cell(x[None], hidden)
        found, memory = network.hidden(x.numpy(), memory, None)
        np.testing.assert_allclose(found, expected[0].numpy(), atol=2e-6)


@pytest.mark.parametrize("name", ["masked chain", "masked week"])
def test_masked_choices_are_the_models_and_need_the_observation_alone(name, tmp_path):
    envs, model, shown, bundle = made(name, tmp_path / "b")
    envs.seed(7)
    seen = envs.reset()
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(60):
        masks = np.stack(envs.env_method("action_masks"))
        np.testing.assert_array_equal(bundle.model.masks_of(seen), masks)
        expected, _ = model.predict(shown(seen), deterministic=True, action_masks=masks)
        found, _ = bundle.predict(seen, deterministic=True)
        np.testing.assert_array_equal(found, expected)
        changed += int((found != model.predict(shown(seen), deterministic=True)[0]).sum())
        drawn, _ = bundle.predict(seen)
        assert masks[np.arange(4), drawn].all()
        seen = envs.step(rng.integers(0, envs.action_space.n, 4))[0]
    assert changed > 0  # masks matter


@pytest.mark.parametrize("name", ["masked chain", "masked week"])
def test_masked_draws_have_the_models_probabilities(name, tmp_path):
    envs, model, shown, bundle = made(name, tmp_path / "b")
    envs.seed(8)
    envs.reset()
    for _ in range(3):
        seen = envs.step(np.zeros(4, np.int64))[0]
    masks = np.stack(envs.env_method("action_masks"))
    with torch.no_grad():
        law = model.policy.get_distribution(torch.from_numpy(shown(seen)), action_masks=masks)
        wanted = law.distribution.probs.numpy()
    many = 4000
    drawn = bundle.predict(np.repeat(seen, many, axis=0))[0].reshape(4, many)
    share = (drawn[:, :, None] == np.arange(wanted.shape[1])).mean(axis=1)
    assert (np.abs(share - wanted) < 5.0 * np.sqrt(wanted * (1.0 - wanted) / many) + 1e-6).all()


@pytest.mark.parametrize("name", ["recurrent", "masked chain"])
def test_acting_loads_no_learning_library(name, tmp_path):
    envs, _, _, bundle = made(name, tmp_path / "b")
    envs.seed(2)
    np.save(tmp_path / "seen.npy", envs.reset())
    code = (
        "import sys, numpy as np; from agents.bundle import load_bundle; "
        f"bundle = load_bundle({str(tmp_path / 'b')!r}); "
        f"action, _ = bundle.predict(np.load({str(tmp_path / 'seen.npy')!r}), deterministic=True); "
        "print(action.ravel().tolist()); "
        "sys.exit(', '.join({'torch', 'stable_baselines3', 'sb3_contrib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = bundle.predict(np.load(tmp_path / "seen.npy"), deterministic=True)[0].ravel().tolist()
    assert done.stdout.strip() == str(expected)


def test_choices_are_refused_to_learners_of_numbers_and_masks_to_numbers():
    for algorithm, env_id, words in (
        ("maskable_ppo", "V2G/ParkingLot-v0", "ppo, recurrent_ppo, sac, td3, tqc for V2G/ParkingLot-v0"),
        ("td3", "V2G/PriceChain-v0", "ppo, recurrent_ppo, maskable_ppo for V2G/PriceChain-v0"),
        ("tqc", "V2G/SharedBatteryAllocation-v0", "2 choices"),
    ):
        values = {"algorithm": algorithm, "env": {"id": env_id}, "num_envs": 4}
        if algorithm == "maskable_ppo":
            values["hyperparameters"] = SMALL
        config = TrainConfig.from_dict(values)
        with pytest.raises(InvalidInputError, match="algorithm") as error:
            build_model(config, make_native(config.env, 4))
        assert words in str(error.value)


def test_a_single_environment_can_be_played(tmp_path):
    _, _, _, bundle = made("masked week", tmp_path / "b")
    env = gymnasium.make(bundle.env_id, **bundle.env_kwargs)
    seen, _ = env.reset(seed=1)
    over = False
    while not over:
        action, _ = bundle.predict(seen)
        assert env.unwrapped.action_masks()[action]
        seen, _, over, _, _ = env.step(action)


def test_plain_ppo_is_not_masked(tmp_path):
    config = TrainConfig(env=EnvConfig("V2G/PriceChain-v0"), num_envs=4, hyperparameters=PPOParams(**SMALL))
    envs = make_native(config.env, 4)
    normaliser = Normaliser(envs.observation_space.shape[0])
    tensors = policy_tensors(build_model(config, envs), "ppo", normaliser)
    tensors["head.weight"][:] = 0.0
    tensors["head.bias"][:] = [-1, 0, 0, 0, 0, 0, 5]
    save_bundle(tmp_path / "b", config, tensors, 16)
    seen = np.zeros((2, envs.observation_space.shape[0]), np.float32)
    assert load_bundle(tmp_path / "b").predict(seen, deterministic=True)[0].tolist() == [6, 6]
