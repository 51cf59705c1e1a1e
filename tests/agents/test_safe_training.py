"""Trainings that are killed, run out of disk or stop being finite: nothing is lost, nothing wrong is kept."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch
from safetensors.numpy import load_file

from agents import bundle_files, checkpoint
from agents.bundle import load_bundle
from agents.config import TrainConfig
from agents.learners import build_model, policy_tensors
from agents.recorder import Recorder
from agents.sb3 import train
from agents.vec_env import NativeVecEnv, make_training

ON = {"n_steps": 13, "batch_size": 52, "n_epochs": 1, "net_arch": [8]}
OFF = {"buffer_size": 60, "batch_size": 16, "learning_starts": 24, "gradient_steps": 1, "net_arch": [8]}
LOT = {"num_envs": 4, "total_steps": 312, "checkpoint_steps": 104}
WEEK = {"id": "V2G/SharedBatteryAllocation-v0", "instance": {"drivers": 4, "week_days": 2}}
RUNS = {
    "ppo": LOT | {"hyperparameters": ON},
    # rollouts that end within days, so that memory has to live on in the next one
    "recurrent_ppo": LOT | {"checkpoint_steps": 96, "hyperparameters": ON | {"n_steps": 8, "batch_size": 16}},
    "maskable_ppo": LOT | {"env": WEEK, "hyperparameters": ON},
    "sac": LOT | {"hyperparameters": OFF},
    "td3": LOT | {"hyperparameters": OFF | {"gradient_steps": 3, "train_freq": 2}},  # an odd number of updates
    "tqc": LOT | {"hyperparameters": OFF | {"n_quantiles": 5, "train_freq": 2}},
}
HOOKS = {"base": "predictive control", "violation_limit": 0.1, "violation_rate": 5.0, "violation_price_usd": 2.0}
CONFIGS = {name: TrainConfig.from_dict(values | {"algorithm": name}) for name, values in RUNS.items()}
CONFIGS["ppo with base and price"] = TrainConfig.from_dict(RUNS["ppo"] | HOOKS)
CONFIGS["td3 with base"] = TrainConfig.from_dict(RUNS["td3"] | {"algorithm": "td3", "base": "predictive control"})
PPO = CONFIGS["ppo"]


class KilledError(Exception):
    """Stands for a kill signal."""


def weights(result):
    return json.loads((result.bundle / "config.json").read_text())["weights_sha256"]


def dying(after):
    original = Recorder._on_step

    def step(self):
        if self.model.num_timesteps > after:
            raise KilledError
        return original(self)

    return step


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights at the end of an uninterrupted run, by the configuration's name."""
    folder = tmp_path_factory.mktemp("whole")
    return cache(lambda name: weights(train(CONFIGS[name], folder / name.replace(" ", "-"), progress=False)))


@pytest.mark.parametrize(("name", "after"), [("ppo", 60), *((name, 270) for name in CONFIGS)])
def test_every_learner_resumes_to_the_same_bits(name, after, whole, tmp_path, monkeypatch):
    config = CONFIGS[name]
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", dying(after))
        with pytest.raises(KilledError):
            train(config, tmp_path, progress=False)
    resumed = train(config, tmp_path, progress=False)
    assert resumed.resumed_from == after // config.checkpoint_steps * config.checkpoint_steps
    assert weights(resumed) == whole(name)
    found = load_bundle(resumed.bundle).tensors
    start = policy_tensors(build_model(config, make_training(config)), config.algorithm, None)
    moved = {name for name in start if not np.array_equal(start[name], found[name])}
    assert {"layers.0.weight", "head.weight"} <= moved  # it learned something between


def test_kill_9_at_any_moment_costs_nothing(tmp_path):
    config = PPO.replace(total_steps=1560)
    expected = weights(train(config, tmp_path / "whole", progress=False))
    folder = tmp_path / "cut"
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    code = (
        "import json, pathlib; from agents.config import TrainConfig; from agents.sb3 import train; "
        f"config = TrainConfig.from_dict(json.loads(pathlib.Path({str(tmp_path / 'config.json')!r}).read_text())); "
        f"train(config, {str(folder)!r}, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None and not list(folder.glob("checkpoint-*208")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (folder / ".checkpoint-0000halfwritten").mkdir()
    resumed = train(config, folder, progress=False)
    assert resumed.resumed_from >= 208
    assert weights(resumed) == expected
    assert sorted(path.name for path in folder.iterdir()) == ["bundle", "log.csv", "run.json", "tensorboard"]


@pytest.mark.parametrize("which", ["second checkpoint", "bundle", "log"])
def test_a_full_disk_leaves_what_was_complete_and_says_so(which, whole, tmp_path, monkeypatch):
    folder = tmp_path / "full"
    write, opened = Path.write_bytes, Path.open

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def fails(path, content):
        hit = ".checkpoint-000000000208" if which == "second checkpoint" else ".bundle-"
        if hit in str(path) and path.name == "policy.safetensors":
            write(path, content[:50])
            full(path)
        return write(path, content)

    def fails_to_open(path, *args, **kwargs):
        return full(path) if path.name == "log.csv" and args == ("a",) else opened(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        if which == "log":
            patch.setattr(Path, "open", fails_to_open)
        else:
            patch.setattr(Path, "write_bytes", fails)
        with pytest.raises(OSError, match="no space left to write in .*checkpoint is intact") as error:
            train(PPO, folder, progress=False)
    assert error.value.errno == errno.ENOSPC
    for path in folder.glob("checkpoint-*"):
        load_bundle(path)
    assert not list(folder.glob(".*"))
    assert not (folder / "bundle").exists()
    resumed = train(PPO, folder, progress=False)
    assert resumed.resumed_from == {"second checkpoint": 104, "bundle": 208, "log": 0}[which]
    assert weights(resumed) == whole("ppo")


def test_an_old_folder_stays_when_its_successor_cannot_be_moved_into_place(tmp_path, monkeypatch):
    bundle_files.write_folder(tmp_path / "b", {"a": b"old"})
    replace = Path.replace

    def fails(path, target):
        if Path(target).name == "b" and not path.name.endswith(".old"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="space"):
        bundle_files.write_folder(tmp_path / "b", {"a": b"new"})
    assert (tmp_path / "b" / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def poison_parameter(model, envs):
    with torch.no_grad():
        next(iter(model.policy.parameters())).view(-1)[0] = torch.nan


def poison_reward(model, envs):
    step = envs.envs.step
    envs.envs.step = lambda actions: (step(actions)[0], np.full(4, np.inf), *step(actions)[2:])


def poison_observation(model, envs):
    step = envs.envs.step

    def spoiled(actions):
        seen, *rest = step(actions)
        seen[1, 3] = np.nan
        return seen, *rest

    envs.envs.step = spoiled


def poison_loss(model, envs):
    model.train = lambda *_, **__: model.logger.record("train/value_loss", float("nan"))


POISONS = {
    "parameter": poison_parameter,
    "reward of environment 0": poison_reward,
    "observation of environment 1": poison_observation,
    "value_loss = nan": poison_loss,
}


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo", "td3"])
@pytest.mark.parametrize("what", POISONS)
def test_a_training_that_is_no_longer_finite_keeps_the_last_healthy_state(name, what, whole, tmp_path, monkeypatch):
    config = CONFIGS[name]
    original = Recorder._on_step

    def spoiling(self):
        if 116 <= self.model.num_timesteps < 120:
            POISONS[what](self.model, self.envs)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", spoiling)
        result = train(config, tmp_path, progress=False)
    assert (result.reason, result.finished) == ("diverged", False)
    assert what in result.message
    assert 96 <= result.steps < 208
    healthy = load_bundle(result.bundle)
    assert healthy.config["steps"] <= 116
    assert result.bundle == max(tmp_path.glob("checkpoint-*"))
    facts = json.loads((tmp_path / "diverged" / "training.json").read_text())
    assert facts["message"] == result.message
    state = load_file(tmp_path / "diverged" / "training.safetensors")
    assert any(not np.isfinite(value).all() for value in state.values()) == (what == "parameter")
    assert weights(train(config, tmp_path, progress=False)) == whole(name)  # what spoiled it is gone
    assert not (tmp_path / "diverged").exists()


def test_a_learning_rate_that_explodes_is_a_divergence_not_a_crash(tmp_path):
    config = TrainConfig.from_dict(
        RUNS["ppo"] | {"total_steps": 10_400, "reward_scale": 1e-30, "hyperparameters": ON | {"learning_rate": 1.0}}
    )
    result = train(config, tmp_path, progress=False)
    assert result.reason == "diverged"
    assert result.message
    assert "not finite" in result.message
    load_bundle(result.bundle)


def test_undefined_figures_that_are_no_losses_are_no_divergence(tmp_path, monkeypatch):
    original = NativeVecEnv.step_wait

    def unrewarded(self):
        seen, rewards, *rest = original(self)
        return seen, rewards * 0.0, *rest  # the explained variance of returns that never vary is undefined

    monkeypatch.setattr(NativeVecEnv, "step_wait", unrewarded)
    assert train(PPO, tmp_path, progress=False).reason == "total_steps"


def test_leftovers_are_tidied_and_nothing_else(tmp_path):
    for name in (".checkpoint-1-x", ".bundle-y.old", ".interrupted-z"):
        (tmp_path / name).mkdir()
    kept = [tmp_path / "checkpoint-000000000104", tmp_path / ".git"]
    for path in kept:
        path.mkdir()
    (tmp_path / "run.jsonabc.part").write_text("{")
    checkpoint.tidy(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
