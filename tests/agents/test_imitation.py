"""Clones of certified teachers: as good as they, trained on from there, and demonstrations that others can read."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from agents.boards import world_of
from agents.bundle import load_bundle, save_bundle
from agents.config import TrainConfig
from agents.imitation import Demonstrations, clone, demonstrate, record
from agents.learners import build_model, policy_tensors
from agents.recorder import Recorder
from agents.sb3 import train
from agents.teachers import TEACHERS, Imitation, Lesson
from agents.vec_env import make_native, make_training
from baselines.price_chain import sweeps
from baselines.price_chain.policies import tabulate
from baselines.price_chain.values import solve
from baselines.shared_battery.policies import DynamicProgramme
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.model import FACTS, REWARD_TERMS
from v2g_env.rollout import Recorded, rollout

ON = {"n_steps": 13, "batch_size": 52, "n_epochs": 1, "net_arch": [32], "normalize_observation": True}
FEW = {"episodes": 6, "epochs": 2, "batch_size": 32}
LOT = {"num_envs": 4, "total_steps": 312, "checkpoint_steps": 104, "hyperparameters": ON}
WEEK = {"id": "V2G/SharedBatteryAllocation-v0", "instance": {"drivers": 4}}
CHAIN = {"id": "V2G/PriceChain-v0"}


def config_of(**changes):
    return TrainConfig.from_dict(LOT | changes)


def cloned(config, path):
    """Bundle of the clone, and the mean error of its last epoch."""
    envs = make_training(config)
    model = build_model(config, envs)
    error = clone(model, demonstrate(config, config.imitation), envs.normaliser, config.imitation)
    save_bundle(path, config, policy_tensors(model, config.algorithm, envs.normaliser), 0)
    return load_bundle(path), error


def weights_of(result):
    return json.loads((result.bundle / "config.json").read_text())["weights_sha256"]


def test_a_clone_of_the_price_chains_optimum_keeps_95_percent_of_its_exact_value(tmp_path):
    taught = {"teacher": "optimum", "episodes": 400, "epochs": 15, "learning_rate": 1e-2, "batch_size": 256}
    params = ON | {"net_arch": [64]}
    config = config_of(algorithm="maskable_ppo", env=CHAIN, imitation=taught, hyperparameters=params)
    bundle, _ = cloned(config, tmp_path / "b")
    model = bundle.model
    best = solve(model).value
    value = sweeps.evaluate(model, tabulate(model, bundle)).value
    assert 0.95 * best <= value <= best + 1e-9


def test_a_clone_of_the_season_programme_earns_what_the_programme_earns_on_fresh_weeks(tmp_path):
    taught = {"teacher": "season programme", "episodes": 200, "epochs": 30, "learning_rate": 5e-3, "batch_size": 256}
    config = config_of(env=WEEK, imitation=taught)
    bundle, _ = cloned(config, tmp_path / "b")
    model, weeks = world_of(WEEK["id"], config.env.instance, "generator", 200, 5)
    mine, theirs = (rollout(model, weeks, each).returns.mean() for each in (bundle, DynamicProgramme(model, 400)))
    assert mine >= 0.97 * theirs > 0.0


def test_a_clone_of_predictive_control_takes_its_actions_and_earns_its_money(tmp_path):
    taught = {"teacher": "predictive control", "episodes": 200, "epochs": 40, "batch_size": 128}
    config = config_of(imitation=taught)
    bundle, error = cloned(config, tmp_path / "b")
    model, days = world_of(config.env.id, config.env.instance, "generator", 200, 5)
    teacher = TEACHERS[config.env.id]["predictive control"]
    played = rollout(model, days, teacher.lesson(model, days, teacher.parameters).policy)
    mine = rollout(model, days, bundle)
    assert mine.returns.mean() >= 0.9 * played.returns.mean() > 0.0
    # the error on fresh days is of the size that the fit promises
    assert np.mean((mine.actions - played.actions) ** 2) <= 4.0 * error + 0.01


@pytest.mark.parametrize("env", [{"id": "V2G/ParkingLot-v0"}, CHAIN], ids=["numbers", "choices"])
def test_a_wrong_action_costs_in_proportion_to_its_weight(env):
    taught = {**FEW, "teacher": next(iter(TEACHERS[env["id"]])), "epochs": 300, "learning_rate": 2e-2}
    config = config_of(env=env, imitation=taught, hyperparameters=ON | {"normalize_observation": False})
    envs = make_training(config)
    model = build_model(config, envs)
    size = envs.observation_space.shape[0]
    whole = config.env.action_kind == "discrete"
    # one observation, two answers: the second weighs three times the first
    seen = np.zeros((32, 3, size), np.float32)
    first, second = (np.array([1, 2]) if whole else np.array([[-0.5], [0.5]], np.float32))[:, None]
    actions = np.where(np.arange(32).reshape(32, 1, *(1,) * (not whole)) % 2 == 0, first, second)
    actions = np.broadcast_to(actions, (32, 2, *actions.shape[2:])).astype(np.int64 if whole else np.float32)
    weights = np.broadcast_to(np.where(np.arange(32) % 2 == 0, 5.0, 15.0)[:, None], (32, 2))
    none = np.zeros((32, 2))
    clone(model, Demonstrations(seen, actions, none, none > 0.0, weights), None, config.imitation)
    import torch

    with torch.no_grad():
        found = model.policy.get_distribution(torch.zeros(1, size)).distribution
    if whole:
        assert found.probs[0, 1].item() == pytest.approx(0.25, abs=0.02)
        assert found.probs[0, 2].item() == pytest.approx(0.75, abs=0.02)
    else:
        assert found.mean.item() == pytest.approx(0.25, abs=0.02)  # -0.5 x 1/4 + 0.5 x 3/4


def test_hindsights_days_replayed_earn_the_proven_bound_but_for_redistribution_and_weigh_its_multipliers():
    from baselines.parking_lot.hindsight import hindsight
    from baselines.parking_lot.samples import reachable, true_market
    from baselines.parking_lot.storage import solve_paths

    config = config_of()
    model, days = world_of(config.env.id, config.env.instance, "generator", 40, 5)
    lot = model.instance
    lesson = TEACHERS[config.env.id]["hindsight"].lesson(model, days, {})
    episodes = rollout(model, days, lesson.policy)
    moved = episodes.money[:, REWARD_TERMS.index("redistribution")]
    top = hindsight(lot, days)
    assert (moved <= 0.0).all()
    assert not episodes.facts[:, :, 0].max() > 1e-6
    # the gate is closed on the path's energy, where the range of the action goes so far
    path = solve_paths(lot, true_market(lot, days), reachable(lot, days)).stored_kwh
    closed = episodes.facts[:, :, FACTS.index("closed_kwh")]
    assert (closed <= path + 1e-3).all()
    followed = np.abs(closed - path).max(axis=1) < 1e-3
    assert followed.mean() > 0.5
    off = top.bound_usd - (episodes.returns - moved)
    assert np.abs(off[followed]).max() < 2e-3  # actions are single precision
    assert (off > -2e-3).all()
    assert off.mean() < 0.02 * top.bound_usd.mean()
    gate = np.minimum(np.arange(lot.steps) + lot.gate_closure_steps, lot.steps - 1)
    np.testing.assert_array_equal(lesson.weights, np.abs(top.multiplier)[:, gate])


def test_demonstrations_are_what_the_environment_pays_for_the_actions():
    config = config_of(env=WEEK)
    shown = demonstrate(config, Imitation("season programme", episodes=5))
    model = make_native(config.env, 1).envs.model
    streams = [np.random.SeedSequence(101, spawn_key=(2**41, i)) for i in range(5)]
    weeks = model.draw([np.random.default_rng(each) for each in streams])
    episodes = rollout(model, weeks, Recorded(shown.actions))
    np.testing.assert_array_equal(shown.rewards, episodes.rewards)
    np.testing.assert_array_equal(shown.violations, episodes.facts[:, :, 0] > 1e-6)
    assert shown.observations.shape[:2] == (5, model.steps + 1)
    assert (shown.weights == 1.0).all()


def test_the_first_demonstrations_are_the_same_however_many_follow():
    config = config_of()
    few, many = (demonstrate(config, Imitation("hindsight", episodes=n)) for n in (3, 7))
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:3])


@pytest.mark.parametrize("seed", [0, 3, 101])
def test_demonstrations_share_no_day_with_evaluations_and_training(seed):
    config = config_of(seed=seed)
    shown = demonstrate(config, Imitation("predictive control", episodes=50, seed=seed)).observations[:, 0]
    model, days = world_of(config.env.id, config.env.instance, "generator", 200, seed)
    evaluated = model.observe(days, model.initial(days))
    envs = make_native(config.env, 200)
    envs.seed(seed)
    trained = envs.reset()
    for other in (evaluated, trained):
        assert not (shown[:, None] == other[None]).all(axis=2).any()
    assert len(np.unique(shown, axis=0)) == 50


@pytest.mark.parametrize(
    "weights", [np.full((3, 13), -1.0), np.full((3, 13), np.nan), np.zeros((3, 13)), np.ones((3, 12))]
)
def test_weights_that_are_no_weights_are_refused(weights):
    config = config_of()
    model, days = world_of(config.env.id, config.env.instance, "generator", 3, 5)
    with pytest.raises(InvalidInputError, match="weights"):
        record(model, days, Lesson(Recorded(np.zeros((3, model.steps, 1), np.float32)), weights))


class KilledError(Exception):
    """Stands for a kill signal."""


RESUMED = {
    "numbers": config_of(imitation={"teacher": "hindsight", **FEW, "critic_steps": 156}),
    "choices": config_of(
        algorithm="maskable_ppo", env=CHAIN, imitation={"teacher": "optimum", **FEW, "critic_steps": 156}
    ),
}


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("after", [60, 130, 270])
def test_a_training_after_imitation_resumes_to_the_same_bits(name, after, tmp_path, monkeypatch):
    config = RESUMED[name]
    whole = train(config, tmp_path / "whole", progress=False)
    original = Recorder._on_step

    def step(self):
        if self.model.num_timesteps > after:
            raise KilledError
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", step)
        with pytest.raises(KilledError):
            train(config, tmp_path / "cut", progress=False)
    resumed = train(config, tmp_path / "cut", progress=False)
    assert resumed.resumed_from == after // 104 * 104
    assert weights_of(resumed) == weights_of(whole)


@pytest.mark.parametrize("name", RESUMED)
def test_the_actor_waits_for_the_critic_and_then_moves(name, tmp_path):
    from safetensors.numpy import load_file

    config = RESUMED[name].replace(checkpoint_steps=52)
    actors, critics = {}, {}

    def watch(folder, steps, seconds):
        found = load_bundle(folder).tensors
        actors[steps] = {key: value for key, value in found.items() if not key.startswith("normaliser.")}
        state = load_file(folder / "training.safetensors")
        critics[steps] = next(value for key, value in state.items() if "value_net.weight" in key and "optim" not in key)

    result = train(config, tmp_path / "run", progress=False, watch=watch)
    assert sorted(actors) == [0, 52, 104, 156, 208, 260, 312][: len(actors)]
    for steps in (52, 104, 156):
        for key, value in actors[0].items():
            np.testing.assert_array_equal(value, actors[steps][key], err_msg=key)
        assert not np.array_equal(critics[0], critics[steps])
    last = load_bundle(result.bundle).tensors
    for key, value in actors[0].items():
        assert not np.array_equal(value, last[key]), key  # the noise of numbers too


def test_the_clone_is_where_the_training_starts(tmp_path):
    config = RESUMED["numbers"]
    first = {}
    train(config, tmp_path / "run", progress=False, watch=lambda f, s, _: first.setdefault(s, load_bundle(f).tensors))
    taught, _ = cloned(config, tmp_path / "b")
    for key, value in taught.tensors.items():
        np.testing.assert_array_equal(value, first[0][key], err_msg=key)


def test_configurations_with_a_teacher_survive_a_round_trip_and_others_keep_their_hash():
    config = config_of(imitation={"teacher": "predictive control", "parameters": {"quantile": 0.25}, "episodes": 7})
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash == config.hash
    assert config_of().hash != config.hash
    assert "imitation" not in config_of().to_dict()
    assert config_of(imitation=None).hash == config_of().hash
    filled = config_of(imitation={"teacher": "predictive control"})
    assert filled.imitation.parameters == {"quantile": 0.3}
    assert filled.hash == config_of(imitation={"teacher": "predictive control", "parameters": {"quantile": 0.3}}).hash


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"imitation": {"teacher": "hindsigt"}}, "'hindsight'"),
        ({"imitation": {"teacher": "optimum"}}, "teacher"),
        ({"imitation": {"teacher": 3}}, "teacher"),
        ({"imitation": {"techer": "hindsight"}}, "'teacher'"),
        ({"imitation": {"parameters": {"quantil": 0.3}}}, "quantile"),
        ({"imitation": {"parameters": {"quantile": "much"}}}, "quantile"),
        ({"imitation": {"parameters": {"quantile": float("nan")}}}, "quantile"),
        ({"imitation": {"parameters": 0.3}}, "parameters"),
        ({"imitation": {"episodes": 0}}, "episodes"),
        ({"imitation": {"epochs": True}}, "epochs"),
        ({"imitation": {"learning_rate": 0.0}}, "learning_rate"),
        ({"imitation": {"critic_steps": -1}}, "critic_steps"),
        ({"imitation": {"seed": 2**32}}, "seed"),
        ({"imitation": "hindsight"}, "imitation"),
        ({"algorithm": "sac", "hyperparameters": {}, "imitation": {}}, "ppo or maskable_ppo"),
        ({"algorithm": "recurrent_ppo", "imitation": {}}, "ppo or maskable_ppo"),
        ({"base": "predictive control", "imitation": {}}, "without a base"),
        ({"warm_start_sha256": "0" * 64, "imitation": {}}, "one of the two"),
    ],
)
def test_what_a_configuration_cannot_mean_is_refused(changes, text):
    with pytest.raises(InvalidInputError, match=text):
        config_of(**changes)


def test_an_environment_without_teachers_says_which_have_some(monkeypatch):
    monkeypatch.delitem(TEACHERS, "V2G/ParkingLot-v0")
    with pytest.raises(InvalidInputError, match="none for V2G/ParkingLot-v0: teachers exist for .*PriceChain"):
        config_of(imitation={})


def test_a_grid_that_is_no_whole_number_is_refused_before_anything_is_solved():
    config = config_of(env=WEEK)
    for grid in (0.0, -3.0, 12.5):
        with pytest.raises(InvalidInputError, match="grid"):
            demonstrate(config, Imitation("season programme", {"grid": grid}, episodes=1))


# Minari


@pytest.fixture
def shown():
    config = config_of(imitation={"teacher": "hindsight", **FEW})
    return config, demonstrate(config, config.imitation)


@pytest.mark.parametrize("env", [None, CHAIN], ids=["numbers", "choices"])
def test_a_minari_data_set_reads_back_equal(env, shown, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    from agents.minari_data import to_minari

    config, made = shown
    if env is not None:
        config = config_of(env=env, imitation={"teacher": "optimum", **FEW})
        made = demonstrate(config, config.imitation)
    path = to_minari(made, config, "v2g/some-place/teacher-v0", tmp_path, "hindsight")
    assert path == tmp_path / "v2g/some-place/teacher-v0"
    assert not list(tmp_path.glob(".minari-*"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert list(minari.list_local_datasets()) == ["v2g/some-place/teacher-v0"]
    found = minari.load_dataset("v2g/some-place/teacher-v0")
    assert found.total_episodes == 6
    assert found.storage.metadata["algorithm_name"] == "hindsight"
    steps = made.actions.shape[1]
    for i, episode in enumerate(found.iterate_episodes()):
        np.testing.assert_array_equal(episode.observations, made.observations[i])
        np.testing.assert_array_equal(episode.actions, made.actions[i])
        np.testing.assert_array_equal(episode.rewards, made.rewards[i])
        np.testing.assert_array_equal(episode.terminations, np.arange(steps) == steps - 1)
        assert not np.any(episode.truncations)
        np.testing.assert_array_equal(episode.infos["violation"][1:], made.violations[i])
        np.testing.assert_array_equal(episode.infos["weight"][1:], made.weights[i])
    env = found.recover_environment()
    assert env.observation_space.shape == made.observations.shape[2:]
    assert env.unwrapped.model.instance.hash == config.env.build().hash


def test_a_data_set_is_never_replaced_and_a_second_one_lives_beside_it(shown, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    from agents.minari_data import to_minari

    config, made = shown
    to_minari(made, config, "v2g/lot/a-v0", tmp_path)
    with pytest.raises(InvalidInputError, match="a new name"):
        to_minari(made, config, "v2g/lot/a-v0", tmp_path)
    to_minari(made, config, "v2g/lot/b-v0", tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert list(minari.list_local_datasets()) == ["v2g/lot/a-v0", "v2g/lot/b-v0"]


@pytest.mark.parametrize("name", ["", "../out-v0", "/tmp/out-v0", "a b-v0", None])
def test_names_that_minari_does_not_take_are_refused(name, shown, tmp_path):
    pytest.importorskip("minari")
    from agents.minari_data import to_minari

    with pytest.raises(InvalidInputError, match="name"):
        to_minari(shown[1], shown[0], name, tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_an_export_that_fails_leaves_nothing_behind(shown, tmp_path, monkeypatch):
    pytest.importorskip("minari")
    from minari.dataset.minari_storage import MinariStorage

    from agents.minari_data import to_minari

    def full(self, buffer):
        raise OSError("no space left")

    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    with monkeypatch.context() as patch:
        for kind in MinariStorage.__subclasses__():
            patch.setattr(kind, "update_episodes", full)
        with pytest.raises(OSError, match="no space left"):
            to_minari(shown[1], shown[0], "v2g/lot/a-v0", tmp_path)
    assert not list(tmp_path.iterdir())
    import os

    assert "MINARI_DATASETS_PATH" not in os.environ


def test_without_minari_the_error_says_what_to_install(shown, tmp_path, monkeypatch):
    from agents.minari_data import to_minari

    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(InvalidInputError, match=r"v2g-env\[datasets\]"):
        to_minari(shown[1], shown[0], "v2g/lot/a-v0", tmp_path)


def test_the_command_writes_the_set_and_says_what_the_teacher_earns(tmp_path, capsys):
    pytest.importorskip("minari")
    import argparse

    from agents.demonstrate_cli import add_demonstrate

    parser = argparse.ArgumentParser()
    add_demonstrate(parser)
    file = tmp_path / "c.toml"
    file.write_text('[imitation]\nteacher = "hindsight"\nepisodes = 5\n')
    parsed = parser.parse_args([str(file), "--out", str(tmp_path / "sets"), "--episodes", "4"])
    parsed.action(parsed)
    text = capsys.readouterr().out
    expected = demonstrate(TrainConfig(), Imitation("hindsight", episodes=4)).rewards.sum(axis=1)
    assert f"4 episodes of hindsight: {expected.mean():.2f} $ each" in text
    assert (tmp_path / "sets/v2g/parkinglot/hindsight-v0").is_dir()
    parsed = parser.parse_args(["parking_lot_ppo", "--out", str(tmp_path)])
    with pytest.raises(InvalidInputError, match="--teacher NAME"):
        parsed.action(parsed)


def test_another_teacher_does_not_inherit_parameters(tmp_path):
    pytest.importorskip("minari")
    import argparse

    from agents.demonstrate_cli import add_demonstrate

    parser = argparse.ArgumentParser()
    add_demonstrate(parser)
    file = tmp_path / "c.toml"
    file.write_text('[imitation]\nteacher = "predictive control"\nparameters = {quantile = 0.2}\n')
    words = [str(file), "--out", str(tmp_path), "--teacher", "hindsight", "--episodes", "2", "--name", "mine/y-v3"]
    parsed = parser.parse_args(words)
    parsed.action(parsed)
    assert (tmp_path / "mine/y-v3").is_dir()


def test_an_imitation_can_be_changed_one_field_at_a_time():
    config = config_of(imitation={"teacher": "hindsight", **FEW})
    assert config.replace(imitation=replace(config.imitation, episodes=9)).imitation.episodes == 9
