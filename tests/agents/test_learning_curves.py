"""Learning curves: what is kept along a real training, scored on one board, and what is read off the curves."""

import csv
import inspect
import json
import math

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from agents import checkpoint
from agents.boards import board_of, evaluate_bundle
from agents.bundle import bundle_hash
from agents.bundle_files import BundleError
from agents.config import PPOParams, load
from agents.learning_curves import (
    CurvePoint,
    Keeper,
    Reached,
    band,
    curve_figure,
    learning_curve,
    reach,
    train_with_curve,
    write_curves,
)
from agents.sb3 import train
from v2g_env.core.validate import InvalidInputError

ENV, DAYS, SEED = "V2G/PriceChain-v0", 50, 11
CONFIG = load("price_chain_ppo").replace(
    num_envs=32,
    total_steps=32 * 24 * 4,
    checkpoint_steps=32 * 24,
    hyperparameters=PPOParams(n_steps=24, batch_size=384, n_epochs=2, net_arch=(16,), gamma=1.0),
)


@pytest.fixture(scope="module")
def board():
    return board_of(ENV, periods=DAYS, seed=SEED)


@pytest.fixture(scope="module")
def trained(board, tmp_path_factory):
    """A real training whose checkpoints are watched where they are written."""
    folder = tmp_path_factory.mktemp("curve")

    def learn(config, out, watch, **options):
        usual = checkpoint.save

        def save(*arguments):
            path = usual(*arguments)
            watch(path, arguments[4].steps, arguments[4].seconds)
            return path

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save", save)
            return train(config, out, progress=False, **options)

    result, curve = train_with_curve(CONFIG, folder, board, learn)
    return result, curve, folder


def point(steps, gap):
    return CurvePoint(steps, steps / 100.0, 0.0, gap, gap - 1.0, gap + 1.0, "0" * 64)


def test_a_curve_has_every_checkpoint_and_the_final_policy_though_training_keeps_two(trained):
    result, curve, folder = trained
    steps = [each.steps for each in curve]
    assert steps[-4:] == [768, 1536, 2304, 3072]
    assert steps == sorted(set(steps))
    assert not list(folder.glob("checkpoint-*"))
    assert curve[-1].sha256 == result.bundle_hash
    assert curve[-1].seconds == result.seconds
    assert (np.diff([each.seconds for each in curve]) >= 0.0).all()
    assert len({each.sha256 for each in curve}) == len(curve)


def test_the_last_point_is_what_an_evaluation_of_the_bundle_says(trained, board):
    result, curve, _ = trained
    line = evaluate_bundle(result.bundle, periods=DAYS, seed=SEED)[0]
    assert f"{curve[-1].mean_usd:.2f} $" in line
    top = board.test.bound.mean()
    assert curve[-1].gap_percent == pytest.approx(100.0 * (top - curve[-1].mean_usd) / top)
    assert curve[-1].low_percent < curve[-1].gap_percent < curve[-1].high_percent


def test_watching_changes_nothing_of_the_training(trained, tmp_path):
    again = train(CONFIG, tmp_path / "plain", progress=False)
    assert again.bundle_hash == trained[0].bundle_hash


def test_a_call_after_the_end_finds_the_same_curve(trained, board):
    _, curve, folder = trained
    assert learning_curve(Keeper(folder / "policies"), board) == curve


@pytest.mark.skipif("watch" not in inspect.signature(train).parameters, reason="agents.sb3.train has no watch yet")
def test_the_training_itself_calls_the_keeper(trained, board, tmp_path):
    _, curve = train_with_curve(CONFIG, tmp_path, board, progress=False)
    assert [(each.steps, each.sha256) for each in curve] == [(each.steps, each.sha256) for each in trained[1]]


def test_kept_policies_are_whole_bundles_and_damage_is_named(trained, tmp_path):
    result, _, _ = trained
    keeper = Keeper(tmp_path)
    keeper(result.bundle, 5, 1.5)
    keeper(result.bundle, 5, 2.5)  # a resumed run comes to the same step again
    ((path, steps, seconds),) = keeper.kept()
    assert (bundle_hash(path), steps, seconds) == (result.bundle_hash, 5, 2.5)
    (path / "seconds.json").write_text("{}")
    with pytest.raises(BundleError, match=r"seconds\.json"):
        keeper.kept()
    with pytest.raises(InvalidInputError, match="steps"):
        keeper(result.bundle, -1, 0.0)


def test_nothing_kept_is_an_error(board, tmp_path):
    with pytest.raises(InvalidInputError, match="policies in"):
        learning_curve(Keeper(tmp_path), board)


def test_a_level_counts_from_its_first_crossing_at_or_below():
    curve = [point(100, 50.0), point(200, 20.0), point(300, 30.0), point(400, 4.0)]
    assert reach(curve, 20.0) == Reached(200, 2.0)
    assert reach(curve, 10.0) == reach(curve, 5.0) == Reached(400, 4.0)
    assert reach(curve, 3.9) is None
    assert reach([], 100.0) is None
    with pytest.raises(InvalidInputError, match="level_percent"):
        reach(curve, math.nan)


def test_the_band_is_the_interquartile_mean_at_common_steps():
    curves = {str(k): [point(100, 40.0 + gap), point(200, gap)] for k, gap in enumerate((1.0, 2.0, 3.0, 60.0))}
    curves["0"] = [*curves["0"], point(300, 0.0)]  # nobody else was seen there
    found = band(curves)
    assert list(found) == [100, 200]
    assert found[200].value == pytest.approx(2.5)
    assert 1.0 <= found[200].low <= 2.5 <= found[200].high <= 60.0
    with pytest.raises(InvalidInputError, match="steps of the curves"):
        band({"a": [point(1, 1.0)], "b": [point(2, 1.0)]})


def test_files_say_what_the_curves_say_and_one_seed_has_no_band(tmp_path):
    curves = {"0": [point(100, 30.0), point(200, 8.0)], "1": [point(100, 25.0), point(200, 12.0)]}
    write_curves(curves, tmp_path, "price chain")
    with (tmp_path / "curves.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    gaps = [(row["curve"], int(row["steps"]), float(row["gap_percent"])) for row in rows]
    assert gaps == [("0", 100, 30.0), ("0", 200, 8.0), ("1", 100, 25.0), ("1", 200, 12.0)]
    content = json.loads((tmp_path / "curves.json").read_text())
    assert content["0"]["reached_percent"] == {
        "20": {"steps": 200, "seconds": 2.0},
        "10": {"steps": 200, "seconds": 2.0},
        "5": None,
    }
    drawn = (tmp_path / "curves.svg").read_text()
    assert "bootstrap over seeds" in drawn
    alone = curve_figure({"0": curves["0"]})
    assert "one training" in alone
    assert "bootstrap" not in alone
    assert drawn == curve_figure(curves, "price chain")


def test_infinite_limits_of_a_single_scenario_become_null(tmp_path):
    alone = [CurvePoint(1, 1.0, 0.0, 5.0, -math.inf, math.inf, "0" * 64)]
    write_curves({"0": alone}, tmp_path)
    assert json.loads((tmp_path / "curves.json").read_text())["0"]["points"][0]["low_percent"] is None
