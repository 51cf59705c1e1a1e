"""The Stackelberg comparison at a small size: same months for all, the bound above all, every certificate holds."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from agents.bench import run_bench
from agents.cli import main
from agents.compare import Contestant, evaluate
from agents.compare_lines import agent_lines, table_lines
from agents.config import EnvConfig, TrainConfig
from agents.config import load as load_config
from agents.report import write_report
from agents.sb3 import build_model, make_native, train
from agents.stackelberg import CompareConfig, run
from agents.stackelberg_bench import lines, random_games
from agents.stackelberg_report import sections
from baselines.certificate import check, load
from baselines.stackelberg.policies import NoRebates
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import REWARD_TERMS

FLEET = {"days": 4, "rebate_levels_usd_per_h": [0.0, 0.1, 0.2, 0.4]}
TINY = CompareConfig(
    instance=FLEET, gap=1e-3, seconds_per_day=0.3, train_months=3, test_months=3, certified_days=1, train_steps=(8192,)
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("stackelberg")
    return run(TINY, out), out


def result_of(comparison, policy):
    return next(result for result in comparison.results[0] if result.row.policy == policy)


def test_every_policy_meets_the_same_days_and_none_beats_the_bound(compared):
    comparison, _ = compared
    test = comparison.tests[0]
    assert [result.row.kind for result in comparison.results[0]].count("agent") == 1
    for result in comparison.results[0]:
        assert result.returns.shape == test.bound.shape == (12,)
        assert result.gap.min() >= -1e-9
        assert result.row.gap_usd == pytest.approx(result.gap.mean())
        luck = test.control(result.episodes)
        assert result.gap == pytest.approx(test.bound - (result.returns - luck))
        assert sum(result.money.values()) == pytest.approx(result.returns.mean(), abs=1e-9)
        assert (result.row.days, result.row.independent, result.row.trials) == (12, 3, 12 * 24)
        assert result.row.promised == 0.1


def test_the_certified_optimum_is_the_best_of_the_baselines_if_all_is_delivered(compared):
    comparison, _ = compared

    def worth(policy):
        money = result_of(comparison, policy).money
        return money["payment"] + money["rebates"] + money["reference"]

    names = [r.row.policy for r in comparison.results[0] if r.row.kind == "baseline"]
    lost = 5.0  # what short deliveries take from the payment: random, and not the same for all
    assert all(worth("certified optimum") >= worth(name) - lost for name in names)
    assert worth("certified optimum") > worth("no rebates") + 10.0


def test_every_certificate_holds_and_names_the_trained_bundle(compared):
    _, out = compared
    files = sorted((out / "certificates").glob("*.json"))
    assert [file.name.startswith("policy-") for file in files].count(True) == 6
    assert 1 <= len([file for file in files if file.name.startswith("rebates-")]) <= 2
    for file in files:
        fleet = Instance.from_dict(FLEET) if file.name.startswith("policy-") else None
        assert check(load(file), fleet).claims
    agent = load(out / "certificates" / "policy-ppo-generated-days.json")
    config = json.loads(next(out.glob("agents/*/bundle/config.json")).read_text())
    assert agent["policy_sha256"] == config["sha256"]


def test_the_table_file_says_what_the_results_say(compared):
    comparison, out = compared
    with (out / "compare.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["policy"] for row in rows] == [result.row.policy for result in comparison.results[0]]
    for row, result in zip(rows, comparison.results[0], strict=True):
        assert float(row["mean_usd"]) == result.row.mean_usd
        assert sum(float(row[f"{term}_usd"]) for term in REWARD_TERMS) == pytest.approx(result.row.mean_usd)
    meta = json.loads((out / "compare.json").read_text())["meta"]
    assert meta["problem"] == "stackelberg"
    assert meta["solved"]["days"] == 12


def test_the_table_fits_a_terminal(compared):
    comparison, _ = compared
    text = table_lines(comparison.tests[0], comparison.results[0]) + agent_lines(comparison, 0)
    assert max(map(len, text)) <= 80
    assert text[-1].startswith("PPO minus certified optimum: ")


def test_the_report_shows_every_policy_and_number(compared, tmp_path):
    comparison, _ = compared
    html = write_report(comparison, tmp_path).read_text(encoding="utf-8")
    for result in comparison.results[0]:
        assert result.row.policy in html
        assert f"{result.row.mean_usd:.2f}".replace("-", "−") in html
        assert f"{result.row.violated:g} / {result.row.trials}" in html
    assert html.count("<h2>") == len(sections(comparison))
    assert "Against certified optimum" in html
    assert "day-day" not in html
    assert not re.search(r"<(script|link|img|iframe|object)|@import|url\((?!#)", html)
    assert (tmp_path / "figures" / "comparison.png").is_file()
    again = write_report(comparison, tmp_path / "again")
    assert again.read_text(encoding="utf-8") == html


def test_a_second_run_takes_the_agents_that_are_there(compared):
    first, out = compared
    weights = next(out.glob("agents/*/bundle/policy.safetensors"))
    before = weights.stat().st_mtime_ns
    second = run(TINY, out)
    assert weights.stat().st_mtime_ns == before
    for one, two in zip(first.results[0], second.results[0], strict=True):
        if one.row.policy != "certified optimum":  # its days may end by the clock
            assert np.array_equal(one.returns, two.returns)


def test_a_policy_above_the_bound_stops_the_comparison(compared):
    wrong = dataclasses.replace(compared[0].tests[0], bound=compared[0].tests[0].bound - 1e5)
    with pytest.raises(InvalidInputError, match="proven bound"):
        evaluate(Contestant("idle", "baseline", NoRebates), wrong)
    hopeful = dataclasses.replace(wrong, pathwise=False)  # a bound of means alone says nothing about single days
    assert evaluate(Contestant("idle", "baseline", NoRebates), hopeful).row.gap_usd < 0.0


def test_a_fleet_without_a_bound_is_refused_before_anything_is_trained(tmp_path):
    config = dataclasses.replace(TINY, instance=FLEET | {"habit_weight": 0.3})
    with pytest.raises(InvalidInputError, match="habit_weight"):
        run(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_population_is_compared_by_days(tmp_path):
    config = dataclasses.replace(
        TINY, instance=FLEET | {"response": "population"}, agents=(), test_months=2, certified_days=0
    )
    comparison = run(config, tmp_path)
    row = comparison.results[0][0].row
    assert (row.trial, row.trials) == ("days", 8)
    for file in (tmp_path / "certificates").glob("policy-*.json"):
        assert check(load(file)).claims
    assert "days violated" in write_report(comparison, tmp_path).read_text(encoding="utf-8")


def test_published_bids_promise_nothing(tmp_path):
    config = dataclasses.replace(TINY, instance=FLEET | {"variant": "published"}, agents=(), test_months=1)
    assert all(result.row.promised is None for result in run(config, tmp_path).results[0])


def test_the_trained_bundle_is_evaluated_by_the_command(compared, capsys):
    _, out = compared
    bundle = next(out.glob("agents/*/bundle"))
    main(["evaluate", str(bundle), "--days", "5", "--seed", "11"])
    text = capsys.readouterr().out
    assert "8 days in 2 months" in text
    assert re.search(r"violated +\d+ of 192 hours", text)


def test_the_shipped_policy_starts_from_its_schedule_and_bids_in_full():
    config = load_config("stackelberg_ppo")
    envs = make_native(config.env, 128)
    model = build_model(config, envs)
    found, _ = model.predict(np.zeros((1, 75), np.float32), deterministic=True)
    np.testing.assert_allclose(found[0], np.clip(config.hyperparameters.action_start, -1, 1), atol=0.05)
    assert config.hyperparameters.gamma == 0.0


def test_a_start_of_wrong_length_and_a_plan_are_refused_by_name(tmp_path):
    config = load_config("stackelberg_ppo")
    short = config.replace(hyperparameters=dataclasses.replace(config.hyperparameters, action_start=(0.0, 1.0)))
    with pytest.raises(InvalidInputError, match="action_start"):
        build_model(short, make_native(config.env, 128))
    with pytest.raises(InvalidInputError, match="action_start"):
        dataclasses.replace(config.hyperparameters, action_start=(float("nan"),))
    with pytest.raises(InvalidInputError, match="plan_kwh"):
        train(TrainConfig(env=EnvConfig("V2G/Stackelberg-v0")), tmp_path / "run", plan_kwh=[1.0] * 13, progress=False)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bogus = 1", "bogus"),
        ("gap = 0.0", "gap"),
        ("seconds_per_day = 0", "seconds_per_day"),
        ("test_months = 0", "test_months"),
        ("certified_days = -1", "certified_days"),
        ("seeds = [1, 1, 2]", "seeds"),
        ("seeds = [1, 2, -3]", "seeds"),
        ("beta = 2.0", "beta"),
        ("[instance]\ndrivers = -1", "drivers"),
        ('agents = ["stackelberg_ppo"]\ntrain_steps = []', "train_steps"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(tmp_path, text, named):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=named):
        CompareConfig.from_file(path)


def test_the_benchmark_prints_a_line_for_each_family():
    text = "\n".join(lines(1, 0.5))
    for words in ("drivers' response", "family A", "family B", "blocked", "chargers at work", "96 periods"):
        assert words in text


def test_random_games_depend_on_the_seed_alone():
    one, two, other = random_games(2, 1), random_games(2, 1), random_games(2, 2)
    assert [game.hash for game in one] == [game.hash for game in two]
    assert not {game.hash for game in one} & {game.hash for game in other}
    assert one[0].hash != one[1].hash
    assert sorted(random_games(1, 1, blocked=True)[0].choices) == [1] * 8 + [6] * 8 + [11] * 8


def test_the_benchmark_knows_its_part():
    assert "drivers' response" in next(iter(run_bench("stackelberg")))
