"""Learning on top of certified baselines: residual actions, a price on violations, a start from a bundle."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch

from agents.bases import BASES, added, build_base
from agents.bundle import BundleError, load_bundle, save_bundle
from agents.config import EnvConfig, PPOParams, TrainConfig
from agents.learners import build_model, policy_tensors
from agents.recorder import Recorder
from agents.sb3 import train
from agents.vec_env import make_training
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import law, sample
from v2g_env.rollout import rollout

ON = {"n_steps": 13, "batch_size": 104, "n_epochs": 2, "net_arch": [16]}
OFF = {"buffer_size": 400, "batch_size": 32, "learning_starts": 52, "gradient_steps": 1, "net_arch": [16]}
SIZES = {"num_envs": 8, "total_steps": 416, "checkpoint_steps": 208}
PLAN = [0.0, *(15.0,) * 11, 0.0]
DAY = {"id": "V2G/Scheduling-v0", "instance": {"cars": 20}}


def config_of(algorithm, **changes):
    params = OFF if algorithm in ("sac", "td3", "tqc") else ON
    return TrainConfig.from_dict(SIZES | {"algorithm": algorithm, "hyperparameters": params} | changes)


RESIDUAL = {name: config_of(name, base="predictive control") for name in ("ppo", "recurrent_ppo", "sac", "td3", "tqc")}


def untrained(config, path, plan=None, shift=0.0):
    """Bundle of the untrained policy, with ``shift`` added to the network's output."""
    envs = make_training(config, plan)
    tensors = policy_tensors(build_model(config, envs), config.algorithm, envs.normaliser)
    tensors["head.bias"] += np.float32(shift)
    save_bundle(path, config, tensors, 0, plan)
    return load_bundle(path)


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_untrained_residual_is_its_base(name, tmp_path):
    bundle = untrained(RESIDUAL[name], tmp_path / "b")
    model = Model(bundle.model.instance)
    days = sample(model.instance, law("generator"), 30, 4)
    base = build_base("V2G/ParkingLot-v0", "predictive control", {"quantile": 0.3}, model, False)
    mine, theirs = rollout(model, days, bundle), rollout(model, days, base)
    np.testing.assert_array_equal(mine.actions, theirs.actions)
    assert mine.returns.mean() > 40.0


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo", "td3"])
def test_training_and_bundle_carry_out_the_same_sum(name, tmp_path):
    config = RESIDUAL[name].replace(residual_scale=0.5)
    bundle = untrained(config, tmp_path / "b", shift=0.4)
    envs = make_training(config)
    done = []
    step = envs.envs.step
    envs.envs.step = lambda actions: (done.append(actions), step(actions))[1]
    envs.training = False
    envs.seed(3)
    envs.reset()
    network = np.full((8, 1), np.tanh(0.4) if name == "td3" else 0.4, np.float32)
    memory, start = None, np.ones(8, bool)
    for _ in range(30):
        seen = envs._seen
        expected, memory = bundle.predict(seen, memory, start, deterministic=True)
        base, _ = bundle.base.predict(seen)
        _, _, start, _ = envs.step(network)
        np.testing.assert_allclose(done[-1], np.clip(base + 0.5 * network, -1.0, 1.0), atol=1e-6)
        np.testing.assert_allclose(done[-1], expected, atol=1e-6)
    assert np.abs(done[-1]).max() <= 1.0


def test_the_sum_stays_within_the_box():
    base, network = np.array([[0.9], [-0.9], [0.2]], np.float32), np.array([[1.0], [-1.0], [-0.5]], np.float32)
    found = added(base, network, 0.4)
    np.testing.assert_allclose(found[:, 0], [1.0, -1.0, 0.0], atol=1e-7)
    assert found.dtype == np.float32


def test_a_plan_is_replayed_by_the_base_and_required(tmp_path):
    config = config_of("ppo", base="plan")
    bundle = untrained(config, tmp_path / "b", PLAN)
    model = Model(bundle.model.instance, plan_kwh=PLAN)
    days = sample(model.instance, law("generator"), 20, 4)
    stored = rollout(model, days, bundle).facts
    base = rollout(model, days, build_base("V2G/ParkingLot-v0", "plan", {}, model, True)).facts
    np.testing.assert_array_equal(stored, base)
    with pytest.raises(InvalidInputError, match="plan_kwh"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("base", "parameters"), [("day ahead", {"alpha": 2.0}), ("uncontrolled", {})])
def test_bases_with_memory_keep_it_in_training_and_in_the_bundle(base, parameters, tmp_path):
    small = {"num_envs": 2, "hyperparameters": ON | {"batch_size": 26}}
    config = config_of("ppo", env=DAY, base=base, base_parameters=parameters, **small)
    bundle = untrained(config, tmp_path / "b")
    envs = make_training(config)
    done = []
    step = envs.envs.step
    envs.envs.step = lambda actions: (done.append(actions), step(actions))[1]
    envs.seed(3)
    envs.reset()
    memory, start = None, np.ones(2, bool)
    for _ in range(100):  # into the second day
        expected, memory = bundle.predict(envs._seen, memory, start, deterministic=True)
        _, _, start, _ = envs.step(np.zeros((2, envs.action_space.shape[0]), np.float32))
        np.testing.assert_allclose(done[-1], expected, atol=1e-6)
    assert (memory is not None) == (base == "day ahead")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "predictiv control"}, ("did you mean 'predictive control'",)),
        ({"base": "plan", "base_parameters": {"quantile": 0.3}}, ("quantile", "none for 'plan'")),
        ({"base": "predictive control", "base_parameters": {"quantile": "low"}}, ("base_parameters.quantile",)),
        ({"base_parameters": {"quantile": 0.3}}, ("base_parameters", "without a base")),
        ({"base": "plan", "env": {"id": "V2G/PriceChain-v0"}}, ("V2G/PriceChain-v0", "V2G/Scheduling-v0")),
        ({"base": "predictive control", "residual_scale": 0.0}, ("residual_scale",)),
        ({"base": "predictive control", "hyperparameters": {"action_start": [0.1]}}, ("action_start",)),
        ({"violation_limit": -0.1}, ("violation_limit",)),
        ({"violation_limit": 0.1, "violation_rate": float("nan")}, ("violation_rate",)),
        ({"violation_price_usd": 1.0}, ("violation_limit",)),
        ({"algorithm": "sac", "violation_limit": 0.1}, ("violation_limit", "sac")),
        ({"warm_start": "nowhere"}, ("warm_start", "missing")),
        ({"warm_start_sha256": "abc"}, ("warm_start_sha256", "64")),
    ],
)
def test_hooks_that_make_no_sense_are_refused_by_name(changes, words):
    with pytest.raises(InvalidInputError) as error:
        TrainConfig.from_dict(changes)
    assert all(word in str(error.value) for word in words)


def test_a_parameter_out_of_the_bases_range_is_named():
    config = config_of("ppo", base="predictive control", base_parameters={"quantile": 1.5})
    with pytest.raises(InvalidInputError, match=r"predictive control.*quantile"):
        make_training(config)


def test_every_base_is_built_from_its_defaults():
    for env_id, bases in BASES.items():
        for name in bases:
            config = TrainConfig(env=EnvConfig(env_id), num_envs=64, hyperparameters=PPOParams(n_steps=13), base=name)
            assert TrainConfig.from_dict(config.to_dict()) == config
            plan = PLAN if bases[name].needs_plan else None
            assert make_training(config, plan).residual is not None


def test_a_residual_cannot_be_forged_away(tmp_path):
    import json

    from agents.bundle_files import digest

    untrained(RESIDUAL["ppo"], tmp_path / "b")
    path = tmp_path / "b" / "config.json"
    content = json.loads(path.read_text())
    content["base"] = None
    content["sha256"] = digest(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="base"):
        load_bundle(tmp_path / "b")


PRICED = config_of("ppo", total_steps=1040, violation_limit=0.2, violation_rate=3.0, violation_price_usd=1.0)


def test_the_price_follows_dual_ascent_and_stays_in_log_and_checkpoint(tmp_path, monkeypatch):
    seen = []
    original = Recorder._move_price

    def watching(self, finished):
        before = self.envs.violation_price_usd
        original(self, finished)
        seen.append((before, finished.violations.mean(), self.envs.violation_price_usd))

    monkeypatch.setattr(Recorder, "_move_price", watching)
    train(PRICED, tmp_path, progress=False)
    assert len(seen) == 10
    assert seen[0][0] == 1.0
    for before, mean, after in seen:
        assert after == pytest.approx(max(0.0, before + 3.0 * (mean - 0.2)))
    assert [one[2] for one in seen[:-1]] == [one[0] for one in seen[1:]]
    with (tmp_path / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["violation_price_usd"]) for row in rows] == pytest.approx([one[2] for one in seen], rel=1e-6)
    assert len({one[2] for one in seen}) > 5


def test_violations_cost_the_learner_their_price_and_returns_do_not_show_it():
    config = config_of("ppo", violation_limit=0.2, reward_scale=4.0)
    plain, priced = make_training(config), make_training(config)
    priced.violation_price_usd = 6.0
    for envs in (plain, priced):
        envs.seed(1)
        envs.reset()
    rng = np.random.default_rng(0)
    paid = 0
    for _ in range(26):
        actions = rng.uniform(-1, 1, (8, 1)).astype(np.float32)
        count = plain._violations.copy()
        rewards, costly = plain.step(actions)[1], priced.step(actions)[1]
        difference = np.round((rewards - costly) * 4.0 / 6.0, 5)
        assert set(difference.tolist()) <= {0.0, 1.0}
        running = plain._length > 0
        np.testing.assert_array_equal(difference[running], (plain._violations - count)[running])
        paid += int(difference.sum())
    assert paid > 10
    np.testing.assert_array_equal(plain.take_finished().returns, priced.take_finished().returns)


def test_a_price_makes_violations_rarer(tmp_path):
    shape = {"num_envs": 64, "total_steps": 12_480, "checkpoint_steps": 12_480}
    fast = {"n_steps": 13, "batch_size": 208, "n_epochs": 8, "learning_rate": 2e-3, "net_arch": [16]}
    free = TrainConfig.from_dict(shape | {"hyperparameters": fast})
    bound = free.replace(violation_limit=0.02, violation_rate=10.0, violation_price_usd=10.0)
    counts = []
    for name, config in (("free", free), ("bound", bound)):
        bundle = load_bundle(train(config, tmp_path / name, progress=False).bundle)
        model = Model(bundle.model.instance)
        excess = rollout(model, sample(model.instance, law("generator"), 300, 9), bundle).excess
        counts.append((excess > 1e-6).mean())
    assert counts[1] < 0.5 * counts[0]
    assert counts[0] > 0.1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    names = ("ppo", "sac", "td3", "recurrent_ppo")
    return {name: train(config_of(name), folder / name, progress=False).bundle for name in names}


@pytest.mark.parametrize(
    ("source", "algorithm"), [("ppo", "ppo"), ("recurrent_ppo",) * 2, ("sac", "sac"), ("td3", "td3"), ("sac", "tqc")]
)
def test_a_warm_start_acts_like_its_bundle_before_it_learns(source, algorithm, trained, tmp_path, monkeypatch):
    config = config_of(algorithm, warm_start=str(trained[source]))

    class StopError(Exception):
        pass

    def stop(self):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", stop)
        with pytest.raises(StopError):
            train(config, tmp_path, progress=False)
    before, first = load_bundle(trained[source]), load_bundle(tmp_path / "checkpoint-000000000000")
    assert before.tensors.keys() == first.tensors.keys()
    for name, value in before.tensors.items():
        np.testing.assert_array_equal(first.tensors[name], value)
    if algorithm == "td3":
        model = build_model(config, make_training(config))
        from agents.learners import start_from

        start_from(model, "td3", None, before.tensors)
        for one, other in zip(model.actor.parameters(), model.actor_target.parameters(), strict=True):
            assert torch.equal(one, other)


def test_the_bundles_content_and_not_its_place_is_the_runs_identity(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained["ppo"], copy)
    here, there = (config_of("ppo", warm_start=str(path)) for path in (trained["ppo"], copy))
    assert here.hash == there.hash != config_of("ppo").hash
    assert here == there
    assert str(copy) not in str(there.to_dict())
    first = train(there, tmp_path / "run", progress=False)
    shutil.rmtree(copy)
    assert train(here, tmp_path / "run", progress=False) == first
    known = load_bundle(first.bundle).config["train_config"]
    assert known["warm_start_sha256"] == load_bundle(trained["ppo"]).hash
    with pytest.raises(InvalidInputError, match="hash of the bundle"):
        config_of("ppo", warm_start=str(first.bundle), warm_start_sha256=known["warm_start_sha256"])
    assert here.replace(warm_start=str(first.bundle)).warm_start_sha256 == load_bundle(first.bundle).hash
    with pytest.raises(InvalidInputError, match=r"warm_start = None.*hash"):
        train(TrainConfig.from_dict(known), tmp_path / "elsewhere", progress=False)


@pytest.mark.parametrize(
    ("source", "algorithm", "changes", "word"),
    [
        ("ppo", "sac", {"hyperparameters": OFF}, "algorithm"),
        ("ppo", "ppo", {"hyperparameters": ON | {"net_arch": [17]}}, "net_arch"),
        ("ppo", "ppo", {"hyperparameters": ON | {"normalize_observation": False}}, "normaliser"),
        ("ppo", "ppo", {"env": {"id": "V2G/ParkingLotBays-v0"}}, "space"),
        ("ppo", "ppo", {"env": {"id": "V2G/PriceChain-v0"}}, "space"),
        ("ppo", "ppo", {"base": "predictive control"}, "base"),
        ("ppo", "recurrent_ppo", {}, "lstm_size"),
    ],
)
def test_a_bundle_that_does_not_fit_cannot_start_a_run(source, algorithm, changes, word, trained, tmp_path):
    config = config_of(algorithm, warm_start=str(trained[source]), **changes)
    with pytest.raises(InvalidInputError, match=f"{word}.*allowed"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_bundle_says_whether_it_fits_other_spaces(trained):
    bundle = load_bundle(trained["ppo"])
    envs = make_training(config_of("ppo"))
    bundle.check_spaces(envs.observation_space, envs.action_space)
    other = make_training(config_of("ppo", env={"id": "V2G/PriceChain-v0"}))
    with pytest.raises(BundleError, match="observation space"):
        bundle.check_spaces(other.observation_space, other.action_space)
    with pytest.raises(BundleError, match="discrete of size 7.*box of size 1"):
        bundle.check_spaces(envs.observation_space, other.action_space)
