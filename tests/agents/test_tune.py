"""The hyperparameter search: what it may change, what it leaves behind, and that it goes on where it was stopped."""

import argparse
import csv
import json
import math
import sys
import tomllib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("optuna")

from agents import bundle, sb3, tune
from agents.bundle import load_bundle
from agents.config import TrainConfig, load, shipped
from agents.hyperparameters import ALGORITHMS
from agents.leaderboard_sets import BOARD_SETS
from agents.statistics import interquartile_mean
from agents.toml_text import to_toml
from agents.tune import BEST, RESULTS, TUNING_SEED, Tuning
from agents.tune_cli import add_tune, tune_command
from agents.tune_space import SPACES, apply, dimensions, point_of
from v2g_env import rollout
from v2g_env.core.validate import InvalidInputError

SMALL = {"price_levels": 3, "energy_levels": 5, "start_level": 1, "target_level": 3, "steps": 6, "history_days": 30}
STEPS = 6 * 16 * 4  # four rollouts


def small():
    config = load("price_chain_ppo")
    params = replace(config.hyperparameters, n_steps=6, batch_size=48, n_epochs=2)
    env = replace(config.env, instance=SMALL)
    return config.replace(env=env, num_envs=16, total_steps=STEPS, hyperparameters=params)


def search(folder, trials=6, **options):
    return tune.tune(Tuning(small(), seeds=(5, 6), periods=20), folder, trials, **options)


def rows(folder):
    with (folder / RESULTS).open(newline="") as stream:
        return list(csv.DictReader(stream))


class Toy:
    """In place of a training: what a policy earns follows from learning rate and seed; the log rises to it."""

    def __init__(self):
        self.trained = []  # (learning rate, seed) of every training that was begun
        self.fail = {}  # number of a training: what to raise at its middle, or "diverged"
        self.low = ()  # numbers of trainings whose log is poor

    def worth(self, config):
        """What its policy earns."""
        return -((math.log10(config.hyperparameters.learning_rate) + 3.0) ** 2) + 0.01 * config.seed

    def train(self, config, out, progress=True, watch=None):
        """As agents.sb3.train."""
        number = len(self.trained)
        self.trained.append((config.hyperparameters.learning_rate, config.seed))
        out.mkdir(parents=True, exist_ok=True)
        lines = ["steps,mean_return_usd"]
        for step in range(config.checkpoint_steps, config.total_steps, config.checkpoint_steps):
            lines.append(f"{step},{-1e9 if number in self.low else self.worth(config) - 1.0 + step * 1e-6}")
            (out / "log.csv").write_text("\n".join(lines) + "\n")
            watch(out, step, 0.0)
            if 2 * step >= config.total_steps and isinstance(self.fail.get(number), BaseException):
                raise self.fail[number]
        (out / "bundle").write_text(repr(self.worth(config)))
        reason = self.fail.get(number, "total_steps")
        return SimpleNamespace(reason=reason, steps=1, message="a loss is not finite", bundle=out / "bundle")


@pytest.fixture
def toy(monkeypatch):
    made = Toy()
    monkeypatch.setattr(sb3, "train", made.train)
    monkeypatch.setattr(bundle, "load_bundle", lambda path: float(path.read_text()))
    monkeypatch.setattr(rollout, "rollout", lambda model, days, value: SimpleNamespace(returns=np.full(3, value)))
    return made


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A search with trainings: one seed, two trials."""
    folder = tmp_path_factory.mktemp("search")
    return tune.tune(Tuning(small(), seeds=(5,), periods=20), folder, 2), folder


# the space


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_configuration_is_a_point_of_its_own_space(name):
    config = load(name)
    point = point_of(config)
    assert len(point) >= 5
    assert apply(config, point) == config


def test_every_learner_has_a_space_of_its_own_hyperparameters():
    assert set(SPACES) == set(ALGORITHMS)
    for algorithm, space in SPACES.items():
        fields = set(ALGORITHMS[algorithm].params.__dataclass_fields__)
        names = [each.name for each in space]
        assert len(set(names)) == len(names)
        assert set(names) - {"minibatches"} <= fields
        assert all(each.choices or each.low < each.high for each in space)
        assert all(each.low > 0.0 for each in space if each.log)


def test_what_was_set_outside_of_its_range_is_kept_and_noise_is_for_numbers_only():
    config = load("stackelberg_ppo")
    assert config.hyperparameters.gae_lambda == 0.0
    names = {each.name for each in dimensions(config)}
    assert "gae_lambda" not in names
    assert "log_std_init" in names
    assert "log_std_init" not in {each.name for each in dimensions(load("price_chain_ppo"))}


def test_batch_sizes_divide_the_rollout_and_make_at_least_the_asked_minibatches():
    config = load("price_chain_ppo")
    rollout = 24 * 256
    for asked in range(1, 33):
        batch = apply(config, {"minibatches": asked}).hyperparameters.batch_size
        assert rollout % batch == 0
        assert rollout // batch >= asked


@pytest.mark.parametrize(
    ("point", "named"),
    [
        ({"lerning_rate": 1e-3}, "dimension"),
        ({"learning_rate": 1.0}, "learning_rate"),
        ({"net_arch": "1000"}, "net_arch"),
        ({"n_epochs": 2.5}, "n_epochs"),
        ({"log_std_init": 0.0}, "dimension"),
    ],
)
def test_points_outside_of_the_space_are_refused(point, named):
    with pytest.raises(InvalidInputError, match=named):
        apply(load("price_chain_ppo"), point)


# TOML


@pytest.mark.parametrize("name", shipped())
def test_a_configuration_survives_as_toml(name):
    config = load(name)
    content = tomllib.loads(to_toml(config.to_dict(), "two\nlines"))
    assert TrainConfig.from_dict(content).hash == config.hash


def test_toml_keeps_awkward_keys_and_texts_and_refuses_what_it_cannot_write():
    content = {"a b": 'quote " \\ \n \x7f ä', "deep": {"ü.x": [[1, 2.5], [True]], "e": 1e-300}, "list": [{"k": 1}]}
    assert tomllib.loads(to_toml(content | {"gone": None})) == content
    for bad in (float("nan"), object(), {1, 2}):
        with pytest.raises(InvalidInputError, match="x"):
            to_toml({"x": bad})


# the search


def test_the_first_trial_is_the_configuration_itself_and_its_value_is_what_its_policy_earns(real):
    found, folder = real
    tuning = Tuning(small(), seeds=(5,), periods=20)
    assert apply(tuning.base, found.trials[0].point).hash == tuning.base.hash
    policy = load_bundle(folder / "trials" / f"{tuning.base.hash[:12]}-5" / "bundle")
    earned = float(rollout.rollout(*tune._world(tuning), policy).returns.mean())
    assert found.trials[0].returns_usd == (earned,)
    assert found.trials[0].value_usd == earned


def test_the_best_file_trains_to_the_very_policy_of_its_trial(real, tmp_path):
    found, folder = real
    config = load(folder / BEST)
    assert config.hash == found.config.hash
    again = sb3.train(config, tmp_path / "again", progress=False)
    assert again.bundle_hash == load_bundle(folder / "trials" / f"{config.hash[:12]}-5" / "bundle").hash


def test_a_value_is_the_interquartile_mean_over_the_seeds(toy, tmp_path):
    found = tune.tune(Tuning(small(), seeds=(1, 2, 3, 90), periods=20), tmp_path, 1)
    assert found.best.value_usd == pytest.approx(interquartile_mean(found.best.returns_usd))
    assert np.diff(found.best.returns_usd) == pytest.approx([0.01, 0.01, 0.87])
    assert found.best.value_usd < np.mean(found.best.returns_usd)


def test_the_search_finds_what_is_better_than_the_start(toy, tmp_path):
    found = search(tmp_path, 30)
    assert found.best.value_usd == max(each.value_usd for each in found.trials if each.state == "complete")
    first = found.trials[0]
    assert first.point["learning_rate"] == 3e-3
    assert found.best.value_usd > first.value_usd + 0.15  # of 0.228 that the start leaves
    assert load(tmp_path / BEST).hyperparameters.learning_rate == found.best.point["learning_rate"]


def test_the_table_has_every_trial(toy, tmp_path):
    found = search(tmp_path)
    table = rows(tmp_path)
    assert [int(row["trial"]) for row in table] == list(range(6))
    assert [row["state"] for row in table] == [each.state for each in found.trials]
    assert [row["learning_rate"] for row in table] == [str(each.point["learning_rate"]) for each in found.trials]
    assert len({row["learning_rate"] for row in table}) == 6


def test_the_same_seed_gives_the_same_search_and_another_seed_another(toy, tmp_path):
    first, _ = search(tmp_path / "one"), search(tmp_path / "two")
    for name in (BEST, RESULTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = tune.tune(Tuning(small(), seeds=(5, 6), periods=20, seed=1), tmp_path / "other", 2)
    assert other.trials[0].point == first.trials[0].point
    assert other.trials[1].point != first.trials[1].point


def test_a_search_in_parts_ends_as_one_that_was_not_stopped(toy, tmp_path):
    search(tmp_path / "whole")
    search(tmp_path / "parts", 2)
    assert len(rows(tmp_path / "parts")) == 2
    search(tmp_path / "parts")
    begun = len(toy.trained)
    search(tmp_path / "parts")  # nothing left to do
    assert len(toy.trained) == begun
    assert (tmp_path / "parts" / RESULTS).read_bytes() == (tmp_path / "whole" / RESULTS).read_bytes()


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_search_killed_in_the_middle_of_a_trial_ends_as_one_that_was_not(toy, tmp_path, number):
    search(tmp_path / "whole", 7)
    before = len(toy.trained)
    toy.fail = {before + number: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed", 7)
    settled = len(rows(tmp_path / "killed"))
    assert settled < 7
    toy.fail = {}
    search(tmp_path / "killed", 7)
    assert toy.trained[-1] == toy.trained[before - 1]
    for name in (BEST, RESULTS):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_time_that_is_over_leaves_the_trial_to_the_next_call(toy, tmp_path, monkeypatch):
    search(tmp_path / "whole")
    search(tmp_path / "timed", 1)
    clock, told = iter(np.arange(0.0, 1e6)), []
    monkeypatch.setattr(tune.time, "monotonic", lambda: next(clock))
    search(tmp_path / "timed", seconds=4.5, say=told.append)
    assert "time is over" in told[-1]
    assert len(rows(tmp_path / "timed")) < 6
    clock = iter(np.zeros(10**6))
    search(tmp_path / "timed")
    assert (tmp_path / "timed" / RESULTS).read_bytes() == (tmp_path / "whole" / RESULTS).read_bytes()


@pytest.mark.parametrize("failure", [RuntimeError("no memory"), FloatingPointError("overflow"), "diverged"])
def test_a_trial_that_fails_is_written_down_and_skipped(toy, tmp_path, failure):
    toy.fail = {2: failure}  # the first seed of the second trial
    found = search(tmp_path, 3)
    assert [each.state for each in found.trials] == ["complete", "failed", "complete"]
    text = "a loss is not finite" if failure == "diverged" else str(failure)
    assert text in rows(tmp_path)[1]["error"]
    assert found.best.number != 1


def test_a_search_without_a_complete_trial_says_why(toy, tmp_path):
    toy.fail = dict.fromkeys(range(9), RuntimeError("always"))
    with pytest.raises(InvalidInputError, match="always"):
        search(tmp_path, 2)
    assert not (tmp_path / BEST).exists()
    assert [row["state"] for row in rows(tmp_path)] == ["failed", "failed"]


def test_a_training_below_the_median_of_earlier_ones_is_cut_off(toy, tmp_path):
    folder = tmp_path / "plain"
    states = [each.state for each in search(folder, 4).trials]
    assert states == ["complete"] * 4  # too few to compare with
    toy.low = (len(toy.trained),)
    found = search(folder, 5)
    cut = found.trials[4]
    assert (cut.state, cut.value_usd, cut.returns_usd) == ("pruned", None, ())  # before it was judged
    assert toy.trained[-1][1] == 5  # the second seed was spared
    assert found.best.number != 4


def test_another_search_does_not_go_on_in_the_folder(toy, tmp_path):
    search(tmp_path, 1)
    for other in (Tuning(small(), seeds=(5, 7), periods=20), Tuning(small().replace(reward_scale=3.0), periods=20)):
        with pytest.raises(InvalidInputError, match="search in"):
            tune.tune(other, tmp_path, 6)


@pytest.mark.parametrize("text", ["no json\nat all\n", json.dumps({"op_code": 99}) + "\n"])
def test_a_damaged_journal_is_refused(tmp_path, text):
    (tmp_path / "study.log").write_text(text)
    with pytest.raises(InvalidInputError, match="unreadable"):
        search(tmp_path, 1)


def test_scenarios_of_the_search_are_no_test_scenarios():
    compared = {2, 3, 4}  # of comparisons and evaluations
    assert TUNING_SEED not in compared | {each.seed for each in BOARD_SETS}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"steps": 0}, "steps"),
        ({"periods": True}, "periods"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_searches_are_refused(changes, named):
    with pytest.raises(InvalidInputError, match=named):
        Tuning(small(), **changes)


def test_a_time_limit_of_the_trainings_is_refused_and_so_is_no_trial(tmp_path):
    with pytest.raises(InvalidInputError, match="time_limit_s"):
        Tuning(small().replace(time_limit_s=1.0))
    with pytest.raises(InvalidInputError, match="trials"):
        search(tmp_path, 0)
    with pytest.raises(InvalidInputError, match="seconds"):
        search(tmp_path, 1, seconds=0.0)


def test_without_optuna_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InvalidInputError, match=r"v2g-env\[tune\]"):
        search(tmp_path, 1)


def test_the_command_searches_and_names_the_best(tmp_path, capsys):
    path = tmp_path / "small.toml"
    path.write_text(to_toml(small().to_dict()))
    parser = argparse.ArgumentParser()
    add_tune(parser)
    words = [str(path), "--trials", "1", "--seeds", "1", "--days", "50", "--out", str(tmp_path / "out")]
    arguments = parser.parse_args(words)
    assert arguments.action is tune_command
    tune_command(arguments)
    text = capsys.readouterr().out
    assert "as given" in text
    assert f"v2g train {tmp_path / 'out' / BEST}" in text
    assert load(tmp_path / "out" / BEST).total_steps == STEPS
