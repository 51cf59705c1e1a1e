"""Sweeps: tiny trainings end to end, equal bundles under every backend, the table against recomputation, bad files."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import v2g_env
from agents.bundle import bundle_hash, load_bundle
from agents.executor import run
from agents.sweep import ScenarioSet, Sweep, evaluate_task, load_sweep
from agents.sweep_cli import add_sweep
from agents.sweep_table import intact, tabulate
from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import sample_days
from v2g_env.rollout import rollout

ROOT = Path(v2g_env.__file__).resolve().parents[1]
TINY = """
seeds = [0, 1]

[[train]]
config = "price_chain_ppo"
name = "tiny"

[train.overrides]
num_envs = 8
total_steps = 384
checkpoint_steps = 192
env.instance.presence_evs = [30, 50, 90]
hyperparameters = { batch_size = 96, n_epochs = 1, net_arch = [8] }

[[evaluate]]
name = "days"
periods = 7

[[evaluate]]
name = "other days"
periods = 5
seed = 8
"""
ONE_ROW = '[[train]]\nconfig = "price_chain_ppo"\n[[evaluate]]\nname = "a"\nperiods = 3\n'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished sweep; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "sweep.toml"
    path.write_text(TINY)
    sweep = load_sweep(path)
    outcomes = run([task for _, _, task in sweep.runs()], folder / "out")
    return sweep, outcomes, tabulate(sweep, outcomes, folder / "out"), folder / "out"


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def command(*arguments):
    parser = argparse.ArgumentParser()
    add_sweep(parser)
    parsed = parser.parse_args([str(each) for each in arguments])
    parsed.action(parsed)


def test_bundles_and_table_are_the_same_under_serial_and_processes_and_files_are_byte_equal(file, tmp_path, trained):
    sweep, first, rows, folder = trained
    out = tmp_path / "out"
    outcomes = run([task for _, _, task in sweep.runs()], out, "processes", 2)
    assert [each.value for each in outcomes] == [each.value for each in first]
    assert len({each.value["bundle_sha256"] for each in outcomes}) == 2
    for each in first:
        names = [f"{each.task.key}.json", f"{each.task.key}/returns-0.npy", f"{each.task.key}/returns-1.npy"]
        names += [f"{each.task.key}/train/bundle/{name}" for name in ("config.json", "policy.safetensors")]
        for name in names:
            assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert without_seconds(tabulate(sweep, outcomes, out)) == without_seconds(rows)


def test_table_has_a_row_per_configuration_seed_and_set_that_agrees_with_its_files(trained):
    sweep, _, rows, folder = trained
    assert [(row["config"], row["seed"], row["set"]) for row in rows] == [
        ("tiny", seed, name) for seed in (0, 1) for name in ("days", "other days")
    ]
    with (folder / "results.csv").open(encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert [{name: str(value) for name, value in row.items()} for row in rows] == read
    assert json.loads((folder / "results.json").read_text()) == {"rows": rows, "unfinished": []}
    for row in rows:
        returns = np.load(folder / row["returns"])
        assert returns.shape == (row["periods"],)
        assert row["mean_return_usd"] == returns.mean()
        assert row["bundle_sha256"] == bundle_hash(folder / row["bundle"])
        assert row["config_sha256"] == sweep.training["tiny"].hash
        assert load_bundle(folder / row["bundle"]).config["seed"] == row["seed"]
        assert row["steps"] == 384


def test_returns_are_those_of_the_problems_own_sample_and_of_fewer_days(trained):
    _, _, rows, folder = trained
    row = rows[0]
    bundle = folder / row["bundle"]
    model = Model(Instance.from_dict(load_bundle(bundle).env_kwargs["instance"]))
    assert model.instance.presence_evs == (30, 50, 90)
    expected = rollout(model, sample_days(model.instance, model.law, 7, 3), load_bundle(bundle)).returns
    np.testing.assert_array_equal(np.load(folder / row["returns"]), expected)
    fewer = evaluate_task(bundle, "V2G/PriceChain-v0", "generator", 4, 3)
    np.testing.assert_allclose(fewer, expected[:4], rtol=0, atol=1e-12)
    with pytest.raises(InvalidInputError, match="env_id of the bundle"):
        evaluate_task(bundle, "V2G/Scheduling-v0", "generator", 4, 3)


def test_a_lost_file_of_a_result_is_found_and_made_again(tmp_path, trained):
    sweep, first, rows, folder = trained
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    damaged = out / rows[0]["returns"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    weights = out / rows[2]["bundle"] / "policy.safetensors"
    weights.unlink()
    shutil.rmtree(weights.parents[1])
    before = (out / "runs.jsonl").read_text().count("\n")
    said = []
    tasks = [task for _, _, task in sweep.runs()]
    outcomes = run(tasks, out, intact=intact, say=said.append)
    assert len(said) == 2
    assert (out / "runs.jsonl").read_text().count("\n") == before + 2
    assert all(map(intact, outcomes))
    assert [each.value for each in outcomes] == [each.value for each in first]


def test_a_training_cut_off_goes_on_from_its_checkpoint_and_ends_the_same(tmp_path, trained, monkeypatch):
    from agents import checkpoint

    sweep, first, _, _ = trained
    task = first[0].task
    real, calls = checkpoint.save, []

    def save_and_die(*arguments, **options):
        step = int(real(*arguments, **options).name.rpartition("-")[2])
        if step > 0:
            calls.append(step)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", save_and_die)
        run([task], tmp_path / "out")
    assert calls == [192]
    assert not (tmp_path / "out" / f"{task.key}.json").exists()
    (outcome,) = run([task], tmp_path / "out")
    assert outcome.value == first[0].value
    record = json.loads((outcome.folder / "train" / "run.json").read_text())
    assert record["result"]["resumed_from"] == 192
    assert len(sweep.sets) == 2


def test_a_training_that_ends_early_fails_its_task_instead_of_being_evaluated(tmp_path, trained, monkeypatch):
    import agents.sb3

    real = agents.sb3.train
    monkeypatch.setattr(agents.sb3, "train", lambda *a, **o: replace(real(*a, **o), reason="diverged"))
    (outcome,) = run([trained[1][0].task], tmp_path / "out")
    assert outcome.status == "failed"
    assert outcome.error == "RuntimeError: training ended at step 384: diverged"


def test_command_prints_the_table_and_goes_on_with_more_seeds_only_if_told(file, tmp_path, trained, capsys):
    out = tmp_path / "out"
    shutil.copytree(trained[3], out)
    before = (out / "runs.jsonl").read_text()
    command(file, "--backend", "serial", "--out", out)
    text = capsys.readouterr().out
    assert "tiny    other days      2 " in text
    assert (out / "runs.jsonl").read_text() == before
    file.write_text(TINY.replace("[0, 1]", "[1, 2]"))
    with pytest.raises(InvalidInputError, match="--resume"):
        command(file, "--backend", "serial", "--out", out)
    command(file, "--backend", "serial", "--out", out, "--resume")
    assert (out / "runs.jsonl").read_text().count("\n") == before.count("\n") + 1
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["seed"] for row in rows] == [1, 1, 2, 2]


def test_command_exits_with_one_and_names_the_training_that_failed(file, tmp_path, capsys):
    # choices have no noise to start with, which only the training finds out
    file.write_text(TINY.replace("net_arch = [8]", "net_arch = [8], log_std_init = -2.0"))
    with pytest.raises(SystemExit) as stop:
        command(file, "--backend", "serial", "--out", tmp_path / "out")
    assert "tiny, seed 1 failed" in str(stop.value.code)
    assert "log_std_init" in str(stop.value.code)
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["rows"] == []
    assert [each["seed"] for each in content["unfinished"]] == [0, 1]
    assert not (tmp_path / "out" / "results.csv").exists()
    assert "tiny, seed 0 failed" in capsys.readouterr().out


def test_names_of_configurations_and_sets_are_no_part_of_a_task_but_what_they_mean_is(file):
    tasks = [task.key for _, _, task in load_sweep(file).runs()]
    file.write_text(TINY.replace('"tiny"', '"small"').replace('"days"', '"more days"'))
    assert [task.key for _, _, task in load_sweep(file).runs()] == tasks
    for old, new in (("n_epochs = 1", "n_epochs = 2"), ("periods = 7", "periods = 8"), ("[0, 1]", "[2, 3]")):
        file.write_text(TINY.replace(old, new))
        assert not set(tasks) & {task.key for _, _, task in load_sweep(file).runs()}


def test_configurations_are_found_beside_the_sweep_file_and_named_after_their_file(tmp_path):
    (tmp_path / "mine.toml").write_text('[env]\nid = "V2G/PriceChain-v0"\n')
    path = tmp_path / "sweep.toml"
    path.write_text(ONE_ROW.replace("price_chain_ppo", "mine.toml"))
    sweep = load_sweep(path)
    assert list(sweep.training) == ["mine"]
    assert sweep.training["mine"].env.id == "V2G/PriceChain-v0"
    assert sweep.seeds == (0,)
    assert sweep.sets == (ScenarioSet("a", 3),)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[[train]]", "sedes = [1]\n[[train]]", "key of the sweep = 'sedes'"),
        ("[[train]]", "seeds = [1, 1]\n[[train]]", "different seeds"),
        ("[[train]]", "seeds = [-1]\n[[train]]", "seeds = -1"),
        ("[[train]]", "seeds = [true]\n[[train]]", "seeds = True"),
        ("[[train]]", "seeds = 1\n[[train]]", "a list of seeds"),
        ("[[train]]", "seeds = []\n[[train]]", "at least one seed"),
        ("price_chain_ppo", "nowhere.toml", "configuration = "),
        ('config = "price_chain_ppo"', "config = 3", "train.config = 3"),
        ("[[evaluate]]", "stesp = 1\n[[evaluate]]", "key of train = 'stesp'"),
        ("[[evaluate]]", "overrides.seed = 1\n[[evaluate]]", "the sweep has a list of seeds"),
        ("[[evaluate]]", "overrides.nmu_envs = 1\n[[evaluate]]", "nmu_envs"),
        ("[[evaluate]]", "overrides.hyperparameters.batch_size = 7\n[[evaluate]]", "batch_size = 7"),
        ("[[evaluate]]", "overrides.time_limit_s = 5\n[[evaluate]]", "must not depend on the machine"),
        ("[[evaluate]]", '[[train]]\nconfig = "price_chain_ppo"\n[[evaluate]]', "different names"),
        ("periods = 3", "periods = 0", "evaluate.periods = 0"),
        ("periods = 3", "", "evaluate.periods = 'missing'"),
        ("periods = 3", 'periods = 3\nlaw = "moon"', "law = 'moon'"),
        ("periods = 3", 'periods = 3\n[[evaluate]]\nname = "a"\nperiods = 2', "different names"),
        ("[[evaluate]]", "[evaluate]", r"tables \[\[evaluate\]\]"),
        ('[[evaluate]]\nname = "a"\nperiods = 3\n', "", "at least one set"),
        ("[[train]]", "[[train", "TOML"),
    ],
)
def test_a_wrong_sweep_file_is_refused_with_the_place(tmp_path, old, new, error):
    path = tmp_path / "sweep.toml"
    assert old in ONE_ROW
    path.write_text(ONE_ROW.replace(old, new, 1))
    with pytest.raises(InvalidInputError, match=error):
        load_sweep(path)


def test_a_sweep_without_training_is_refused():
    with pytest.raises(InvalidInputError, match="at least one configuration"):
        Sweep({}, (0,), (ScenarioSet("a", 1),))
    with pytest.raises(InvalidInputError, match="an existing TOML file"):
        load_sweep("nowhere.toml")
