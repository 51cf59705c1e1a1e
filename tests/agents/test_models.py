"""Models that come with the package: made by one command, whole or not at all, described by what is certified."""

from __future__ import annotations

import json
import re
import shutil

import pytest

pytest.importorskip("sb3_contrib")

from agents import models as shelf
from agents.bundle import load_bundle
from agents.bundle_certificate import CERTIFICATE
from agents.bundle_files import CONFIG, WEIGHTS, BundleError
from agents.config import TrainConfig, load, shipped
from agents.models import CARD, MODELS, bundle_folder, card, check_folder, model_lines, model_path, models, rebuild
from agents.recorder import Recorder
from baselines.certificate import CertificateError
from v2g_env.core.validate import InvalidInputError

NAME = "shared_battery_sizing_ppo"
SIZES = {"num_envs": 4, "total_steps": 96, "checkpoint_steps": 32}
ON = {"n_steps": 8, "batch_size": 32, "n_epochs": 1, "net_arch": [8]}
SMALL = TrainConfig.from_dict(
    SIZES
    | {
        "env": {"id": "V2G/SharedBatterySizing-v0", "instance": {"drivers": 3, "season_days": 20}},
        "hyperparameters": ON,
    }
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The configuration and the periods of one model, in small."""
    monkeypatch.setattr(shelf, "load", lambda name: SMALL)
    monkeypatch.setitem(MODELS, NAME, 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of trainings and of models after a first ``rebuild``."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "load", lambda name: SMALL)
        patch.setitem(MODELS, NAME, 8)
        rebuild(NAME, root / "out", root / "keep")
    return root


@pytest.fixture
def model(made, tmp_path):
    """A copy of the model's folder."""
    return shutil.copytree(made / "keep" / NAME, tmp_path / NAME)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_model_is_trained_from_a_shipped_configuration():
    assert set(MODELS) <= set(shipped())
    for name, periods in MODELS.items():
        assert load(name).seed == 0
        assert 1 <= periods <= 20_000


def test_a_model_has_four_files_and_all_of_them_hold(model):
    assert set(contents(model)) == {CONFIG, WEIGHTS, CERTIFICATE, CARD}
    claims = check_folder(model)
    assert claims[-1] == "the card's numbers are those of the certificate"


def test_the_cards_numbers_are_those_of_the_certificate_and_bundle(model):
    text = (model / CARD).read_text()
    found = json.loads((model / CERTIFICATE).read_text())
    bundle, summary = load_bundle(model), found["summary"]
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.M))
    assert rows["bundle"] == f"sha256 `{bundle.hash}`"
    assert rows["mean return"] == f"{summary['mean_usd']:.2f} $ a period"
    assert rows["proven bound"] == f"{summary['bound_usd']:.2f} $"
    assert rows["certified gap"].startswith(f"{summary['gap_usd']:.2f} $, {summary['gap_percent']:.1f} %")
    assert rows["violations"].startswith(f"{100 * summary['frequency']:.2f} %")
    assert rows["certified on"] == f"8 periods of law {found['law']}, seed 3"
    weights = sum(value.size for key, value in bundle.tensors.items() if not key.startswith("normaliser."))
    assert f"{weights:,} numbers" in rows["network"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"base": "predictive control"}, "| residual on | predictive control, scale 0.3 |"),
        ({"violation_limit": 0.25}, "| violation limit in training | 0.25 violated steps an episode |"),
        ({"imitation": {"teacher": "hindsight"}}, "| starts as a clone of | hindsight |"),
    ],
)
def test_a_card_says_what_is_special_about_a_training(changes, line, tmp_path):
    from agents.bundle import save_bundle
    from agents.bundle_certificate import certify_bundle
    from agents.learners import build_model, policy_tensors
    from agents.vec_env import make_training

    config = TrainConfig.from_dict({"num_envs": 4, "hyperparameters": ON} | changes)
    envs = make_training(config)
    save_bundle(tmp_path, config, policy_tensors(build_model(config, envs), "ppo", envs.normaliser), 0)
    certify_bundle(tmp_path, periods=3)
    lines = card("x", tmp_path).split("\n")
    assert line in lines
    others = {"| residual on", "| violation limit", "| starts as"} - {line[:13], line[:17], line[:11]}
    assert not any(each.startswith(tuple(others)) for each in lines)


def test_a_second_rebuild_changes_nothing(made, tmp_path):
    before = contents(made / "keep" / NAME)
    said = []
    assert rebuild(NAME, made / "out", made / "keep", said.append) == made / "keep" / NAME
    assert contents(made / "keep" / NAME) == before
    assert not [text for text in said if "bound" in text]  # nothing was solved again
    assert not [path for path in (made / "keep").iterdir() if path.name != NAME]


def test_two_rebuilds_on_fresh_folders_make_the_same_network_and_numbers(made, tmp_path):
    again = rebuild(NAME, tmp_path / "out", tmp_path / "keep")
    first = made / "keep" / NAME
    for name in (WEIGHTS, CERTIFICATE):
        assert (again / name).read_bytes() == (first / name).read_bytes()


def test_an_interrupted_training_goes_on(made, tmp_path, monkeypatch):
    def stop(self):
        if self.model.num_timesteps > 40:
            self.stop_requested = True
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", stop)
        with pytest.raises(KeyboardInterrupt):
            rebuild(NAME, tmp_path / "out", tmp_path / "keep")
    assert not (tmp_path / "keep").exists()
    again = rebuild(NAME, tmp_path / "out", tmp_path / "keep")
    assert (again / WEIGHTS).read_bytes() == (made / "keep" / NAME / WEIGHTS).read_bytes()


def test_an_interrupted_certification_goes_on_without_training_again(tmp_path, monkeypatch):
    def broken(*_args, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "certify_bundle", broken)
        with pytest.raises(KeyboardInterrupt):
            rebuild(NAME, tmp_path / "out", tmp_path / "keep")
    assert not (tmp_path / "keep").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_on_step", broken)  # whoever trains, fails
        rebuild(NAME, tmp_path / "out", tmp_path / "keep")
    assert check_folder(tmp_path / "keep" / NAME)


def test_a_certificate_of_other_periods_or_a_damaged_one_is_made_again(tmp_path, monkeypatch):
    folder = rebuild(NAME, tmp_path / "out")
    good = (folder / CERTIFICATE).read_bytes()
    for bad in (b"{", good.replace(b'"seed": 3', b'"seed": 4')):
        (folder / CERTIFICATE).write_bytes(bad)
        assert (rebuild(NAME, tmp_path / "out") / CERTIFICATE).read_bytes() == good
    monkeypatch.setitem(MODELS, NAME, 5)
    assert json.loads((rebuild(NAME, tmp_path / "out") / CERTIFICATE).read_text())["periods"] == 5


def test_a_write_that_fails_leaves_the_old_model(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "m")
    old = contents(tmp_path / "m/keep" / NAME)
    (tmp_path / "m/keep" / NAME / "left-over.txt").write_text("x")
    write = shelf.Path.write_bytes

    def full(path, content):
        if path.name == CARD and "keep" in str(path):
            raise OSError("no space left")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(shelf.Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            rebuild(NAME, tmp_path / "m/out", tmp_path / "m/keep")
    assert contents(tmp_path / "m/keep" / NAME) == old | {"left-over.txt": b"x"}
    rebuild(NAME, tmp_path / "m/out", tmp_path / "m/keep")
    assert contents(tmp_path / "m/keep" / NAME) == old  # and what does not belong there is gone
    assert [path.name for path in (tmp_path / "m/keep").iterdir()] == [NAME]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_diverged_training_is_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "load", lambda name: SMALL.replace(reward_scale=1e-300))
    with pytest.raises(InvalidInputError, match=f"training of {NAME}"):
        rebuild(NAME, tmp_path / "out", tmp_path / "keep")
    assert not (tmp_path / "keep").exists()


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, CERTIFICATE, CARD])
def test_a_damaged_file_is_reported(file, model):
    content = bytearray((model / file).read_bytes())
    content[len(content) // 2] ^= 1
    (model / file).write_bytes(bytes(content))
    with pytest.raises((BundleError, CertificateError)):
        check_folder(model)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, CERTIFICATE])
def test_a_missing_file_is_reported(file, model):
    (model / file).unlink()
    with pytest.raises((BundleError, CertificateError), match="missing"):
        check_folder(model)


@pytest.mark.parametrize(
    "change", [("| mean return | ", "| mean return | 9"), ("real charger", "charger"), ("# ", "#")]
)
def test_a_card_that_says_something_else_is_reported(change, model):
    text = (model / CARD).read_text()
    assert change[0] in text
    (model / CARD).write_text(text.replace(*change))
    with pytest.raises(CertificateError, match=r"card\.md"):
        check_folder(model)


def test_only_the_time_of_training_is_the_makers_word(model):
    text = (model / CARD).read_text()
    (model / CARD).write_text(re.sub(r"of training \| \d+ s", "of training | 123456 s", text))
    assert check_folder(model)
    (model / CARD).unlink()
    assert len(check_folder(model)) == len(check_folder(model))  # a bundle needs no card


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="parking_lot_ppo"):
        rebuild("parking_lot_pp", tmp_path)
    with pytest.raises(InvalidInputError, match="model = 'nothing'"):
        model_path("nothing")
    assert bundle_folder("nothing") is None
    assert bundle_folder(tmp_path) == tmp_path


def test_models_that_are_there_are_listed_with_what_they_reach(made, monkeypatch):
    monkeypatch.setattr(shelf.resources, "files", lambda package: made / "package")
    assert models() == ()
    assert model_lines() == ["no models are there"]
    shutil.copytree(made / "keep", made / "package/models", dirs_exist_ok=True)
    assert models() == (NAME,)
    assert bundle_folder(NAME) == model_path(NAME) == made / "package/models" / NAME
    summary = json.loads((made / "keep" / NAME / CERTIFICATE).read_text())["summary"]
    (line,) = model_lines()
    assert line.startswith(NAME)
    assert f"{summary['mean_usd']:.2f} $" in line


def test_what_comes_with_the_package_is_listed_and_described(monkeypatch):
    monkeypatch.undo()
    for name in models():
        found = json.loads((model_path(name) / CERTIFICATE).read_text())
        assert found["bundle_sha256"] == load_bundle(model_path(name)).hash
        text = (model_path(name) / CARD).read_text()
        lines = [line for line in text.split("\n") if not line.startswith("| time of training |")]
        assert lines == card(name, model_path(name)).split("\n")
