"""v2g game and the study of games, from the command line: lines, files, certificates, errors."""

import csv
import json

import pytest

from agents import games_study
from agents.cli import main
from agents.games import allocations, spread_through
from agents.games_sections import StudyConfig
from baselines.games.classic import glove, majority
from baselines.shared_battery.cost_game import cost_game
from v2g_env.shared_battery.instance import Instance


def run(capsys, *words):
    main(["game", *words])
    return capsys.readouterr().out


def checked(capsys, out):
    files = sorted(map(str, (out / "certificates").glob("*.json")))
    assert files
    main(["check", *files])
    shown = capsys.readouterr().out
    assert shown.count("holds") >= len(files) and "REFUSED" not in shown
    return files


@pytest.mark.parametrize("owner", ["prosumers", "manager"])
def test_coalitions_of_prosumers(capsys, tmp_path, owner):
    shown = run(capsys, "parking-lot", "--players", "3", "--samples", "50", "--owner", owner, "--out", str(tmp_path))
    assert "nucleolus" in shown and "the core is not empty" in shown
    assert len(checked(capsys, tmp_path)) >= 6
    rows = list(csv.DictReader((tmp_path / "allocations.csv").open()))
    assert {"rule", "player", "usd", "verdict"} <= set(rows[0])


def test_coalitions_of_drivers_through_the_executor_and_again_from_its_results(capsys, tmp_path):
    words = ("shared-battery", "--players", "3", "--samples", "40", "--backend", "serial", "--out", str(tmp_path))
    first = run(capsys, *words)
    assert "Owen's point" in first
    assert run(capsys, *words) == first
    checked(capsys, tmp_path)


def test_the_executors_answers_are_those_of_the_plain_loop(tmp_path):
    lot = Instance(drivers=3)
    fixed = {"instance": lot.to_dict(), "n_samples": 30, "seed": 2}
    spread = spread_through(
        "baselines.shared_battery.cost_game:coalition_costs", fixed, "masks", tmp_path / "tasks", "serial"
    )
    assert (cost_game(lot, 30, 2, spread).game.values == cost_game(lot, 30, 2).game.values).all()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("storage", "--players", "3", "--samples", "30"), "equilibrium"),
        (("sizing", "--players", "4", "--samples", "50", "--split", "shortfall"), "times the least"),
    ],
)
def test_equilibria_are_printed_with_their_epsilon_and_certified(capsys, tmp_path, words, text):
    shown = run(capsys, *words, "--out", str(tmp_path))
    assert text in shown and "alone" in shown
    checked(capsys, tmp_path)


def test_lies_and_sampled_values(capsys, tmp_path):
    shown = run(capsys, "reporting", "--players", "4", "--samples", "10", "--out", str(tmp_path))
    assert "max_min" in shown and json.loads((tmp_path / "manipulability.json").read_text())
    words = ("--players", "6", "--samples", "20", "--sampled", "--tolerance", "0.2", "--out", str(tmp_path))
    assert "Shapley values within" in run(capsys, "shared-battery", *words)
    assert len(json.loads((tmp_path / "shapley.json").read_text())["rows"]) == 6


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("shared-battery", "--players", "0"), "--players"),
        (("shared-battery", "--players", "21"), "at most 20"),
        (("scheduling", "--players", "3"), "aggregators are the instance's"),
        (("storage", "--slope", "-1"), "slope"),
        (("parking-lot", "--players", "16"), "prosumers"),
    ],
)
def test_wrong_words_end_in_one_line(capsys, tmp_path, words, text):
    with pytest.raises(SystemExit) as stopped:
        main(["game", *words, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    shown = capsys.readouterr().err.strip()
    assert text in shown and "\n" not in shown.split("v2g: ")[-1]


def test_allocations_of_games_with_and_without_a_core():
    rules = {each.rule: each for each in allocations(glove(1, 2))}
    assert rules["nucleolus"].verdict == "stable" and rules["Shapley"].verdict == "unstable"
    assert all(each.verdict == "unstable" for each in allocations(majority(1.0)))


def test_the_study_writes_every_section_and_certificates_that_hold(capsys, tmp_path):
    tiny = StudyConfig(30, 3, (12, 20), 4, (1, 2), 600, 12)
    sections = games_study.run_study(tmp_path, None, tiny)
    assert len(sections) == 9 and (tmp_path / "report.html").is_file()
    assert len(list(tmp_path.glob("*.csv"))) == 9 and len(list((tmp_path / "figures").glob("*.svg"))) == 6
    files = sorted(map(str, (tmp_path / "games").rglob("*.json")))
    main(["check", *files])
    assert "REFUSED" not in capsys.readouterr().out
