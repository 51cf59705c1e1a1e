"""Comparisons, evaluation and commands of the shared battery, in sizes of seconds."""

import json

import numpy as np
import pytest

from agents import shared_battery, shared_battery_report, shared_battery_sizing, shared_battery_sizing_report
from agents.bench import run_bench
from agents.boards import evaluate_bundle
from agents.cli import main
from agents.compare_lines import agent_lines, table_lines
from agents.report import write_report
from baselines.certificate import check, load
from v2g_env.core.validate import InvalidInputError

FLEET = {"drivers": 4, "season_days": 20, "eps": [0.2]}
WEEKS = shared_battery.CompareConfig(
    instance={"drivers": 4},
    train_weeks=5,
    test_weeks=30,
    grid=60,
    agents=("shared_battery_partial_ppo",),
    train_steps=(1,),
)


@pytest.fixture(scope="module")
def weeks(tmp_path_factory):
    out = tmp_path_factory.mktemp("weeks")
    config = shared_battery.CompareConfig(train_weeks=5, test_weeks=20, grid=60, train_steps=(22_400,))
    return shared_battery.run(config, out), out


@pytest.fixture(scope="module")
def seasons(tmp_path_factory):
    out = tmp_path_factory.mktemp("seasons")
    config = shared_battery_sizing.CompareConfig(
        instance=FLEET, beta=1e-2, train_days=500, hold_out_days=3000, test_seasons=12, ascent_steps=10, agents=()
    )
    return shared_battery_sizing.run(config, out), out


def test_no_week_of_any_policy_is_worth_more_than_its_bound(weeks):
    comparison, _ = weeks
    (test,), (results,) = comparison.tests, comparison.results
    assert len(results) == 7
    assert [result.row.kind for result in results].count("agent") == 1
    for result in results:
        assert (result.returns <= test.oracle + 1e-9).all()
        assert result.gap.min() >= -1e-9
        assert result.row.per == "week"
    by_name = {result.row.policy: result.row.mean_usd for result in results}
    assert by_name["season programme"] > by_name["daily programme"] > by_name["first come"]


def test_the_case_of_drivers_who_are_alike_brackets_the_programme(weeks):
    found = weeks[0].meta["alike"]
    assert found["online_bound_usd"] < found["hindsight_bound_usd"]
    assert found["programme_usd"] <= found["online_bound_usd"] + 4.0 * found["standard_error_usd"]


def test_no_sizes_save_more_than_the_bound_on_average(seasons):
    comparison, _ = seasons
    (test,), (results,) = comparison.tests, comparison.results
    assert [result.row.policy for result in results] == [
        "separate batteries",
        "certified program",
        "certified search",
        shared_battery_sizing.SEARCHED,
    ]
    for result in results:
        assert result.returns.mean() <= test.bound.mean() + 1e-9
        assert sum(result.money.values()) == pytest.approx(result.returns.mean())
    rows = {result.row.policy: result.row for result in results}
    assert rows["certified program"].promised <= 0.2
    assert rows["certified program"].frequency <= rows["certified program"].promised
    assert rows["certified search"].mean_usd > rows["separate batteries"].mean_usd


@pytest.mark.parametrize("name", ["weeks", "seasons"])
def test_every_certificate_of_a_comparison_holds(request, name):
    comparison, out = request.getfixturevalue(name)
    files = sorted((out / "certificates").glob("*.json"))
    assert len(files) == len(comparison.results[0]) + len(comparison.plans) + 1
    for file in files:
        assert check(load(file), comparison.tests[0].model.instance).claims


@pytest.mark.parametrize(
    ("name", "words"), [("weeks", shared_battery_report), ("seasons", shared_battery_sizing_report)]
)
def test_the_report_shows_every_policy_and_the_bound(request, tmp_path, name, words):
    comparison, _ = request.getfixturevalue(name)
    page = write_report(comparison, tmp_path).read_text(encoding="utf-8")
    assert words.TITLE in page
    for result in comparison.results[0]:
        assert result.row.policy in page
    assert (tmp_path / "figures" / "comparison.png").stat().st_size > 10_000
    for section in words.sections(comparison):
        assert section.title in page
    lines = table_lines(comparison.tests[0], comparison.results[0]) + agent_lines(comparison, 0)
    assert f"$/{comparison.tests[0].per}" in lines[1]


def test_a_second_run_trains_nothing_again(weeks):
    _, out = weeks
    weights = next(out.glob("agents/*/bundle/policy.safetensors"))
    before = weights.stat().st_mtime_ns
    lines = evaluate_bundle(weights.parent, "generator", 6, 5, 1e-2)
    assert [line.split()[0] for line in lines] == ["return", "gap", "violated"]
    assert "$/week" in lines[0]
    assert weights.stat().st_mtime_ns == before


def test_a_sizing_bundle_is_evaluated_on_seasons(tmp_path):
    from agents.config import load as load_config
    from agents.sb3 import train

    settings = load_config("shared_battery_sizing_ppo").replace(total_steps=1024)
    done = train(settings, tmp_path / "run", progress=False)
    lines = evaluate_bundle(done.bundle, "generator", 4, 5, 1e-2)
    assert "$/season" in lines[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"beta": 1.0}, "beta"),
        ({"test_weeks": 0}, "test_weeks"),
        ({"seeds": (1, 1, 2)}, "seeds"),
        ({"train_steps": ()}, "train_steps"),
        ({"instance": {"drivers": 0}}, "drivers"),
        ({"instance": {"colour": 1}}, "colour"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(changes, named):
    with pytest.raises(InvalidInputError, match=named):
        shared_battery.CompareConfig(**changes)
    if "test_weeks" not in changes:
        with pytest.raises(InvalidInputError, match=named):
            shared_battery_sizing.CompareConfig(**changes)


@pytest.mark.parametrize("method", ["program", "search", "separate"])
def test_sizes_are_solved_written_and_checked(tmp_path, capsys, method):
    fleet, path = tmp_path / "fleet.json", tmp_path / "sizes.json"
    fleet.write_text(json.dumps(FLEET | {"drivers": 3}))
    main(["solve", "shared-battery", "--instance", str(fleet), "--method", method, "--out", str(path)])
    printed = capsys.readouterr().out
    assert "certified: " in printed
    assert printed.count("  driver ") == 3
    main(["check", str(path), "--instance", str(fleet)])
    assert capsys.readouterr().out.startswith("holds")
    sizes = load(path)
    assert np.array(sizes["own_kwh"]).shape == (3,)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(path)] + ["--instance", str(tmp_path / "none.json")])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--samples", "5"], "n_samples"),
        (["--beta", "0"], "beta"),
        (["--method", "search", "--samples", "50"], "--samples"),
        (["--rule", "proportional"], "--rule"),
        (["--method", "search", "--rule", "loudest"], "rule"),
    ],
)
def test_bad_words_of_the_solve_command_are_refused_by_name(capsys, words, named):
    with pytest.raises(SystemExit) as stop:
        main(["solve", "shared-battery", *words])
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_a_log_is_for_the_shared_battery_alone(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["study", "parking-lot", "--quick", "--log", "trips.csv"])
    assert stop.value.code == 2
    assert "--log" in capsys.readouterr().err


def test_the_benchmark_proves_what_it_times():
    line = next(iter(run_bench("shared-battery")))
    assert "n = 100, N = 15,382" in line
    assert "proven gap 1.0e-07" in line


def test_an_agent_that_grants_shares_is_refused_where_requests_are_whole(tmp_path):
    with pytest.raises(InvalidInputError, match="shape of the policy's action"):
        shared_battery.run(WEEKS, tmp_path)
