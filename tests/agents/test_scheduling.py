"""The scheduling comparison, its evaluation, study and commands, in sizes of seconds."""

import json

import numpy as np
import pytest

from agents import scheduling, scheduling_report
from agents.boards import evaluate_bundle
from agents.cli import main
from agents.compare_lines import agent_lines, table_lines
from agents.report import write_report
from baselines.certificate import check, load
from v2g_env.core.validate import InvalidInputError

SMALL = {"steps": 24, "step_h": 1.0, "gas_ramp_kw": 800.0, "cars": 30}


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    out = tmp_path_factory.mktemp("days")
    config = scheduling.CompareConfig(
        train_days=2,
        test_days=4,
        alphas=(0.0, 2.0),
        adjustable_alphas=(2.0,),
        agents=("scheduling_ppo",),
        train_steps=(12_288,),
    )
    return scheduling.run(config, out), out


def test_no_day_of_any_policy_saves_more_than_its_bound(days):
    (test,), (results,) = days[0].tests, days[0].results
    assert len(results) == 6
    assert [result.row.kind for result in results].count("agent") == 1
    for result in results:
        assert (result.returns <= test.oracle + 1e-9).all()
        assert result.gap.min() >= -1e-9
        assert sum(result.money.values()) == pytest.approx(result.returns.mean())
    by_name = {result.row.policy: result.row for result in results}
    assert by_name[scheduling.CONTROL].mean_usd > by_name["without V2G"].mean_usd
    assert by_name["robust plan, alpha 2"].violated < by_name["robust plan, alpha 0"].violated


def test_every_certificate_of_the_comparison_holds(days):
    comparison, out = days
    files = sorted((out / "certificates").glob("*.json"))
    assert len(files) == len(comparison.results[0]) + 1
    for file in files:
        assert check(load(file), comparison.tests[0].model.instance).claims


def test_the_report_shows_every_policy_and_the_bound(days, tmp_path):
    comparison, _ = days
    page = write_report(comparison, tmp_path).read_text(encoding="utf-8")
    assert scheduling_report.TITLE in page
    for result in comparison.results[0]:
        assert result.row.policy in page
    for section in scheduling_report.sections(comparison):
        assert section.title in page
    lines = table_lines(comparison.tests[0], comparison.results[0]) + agent_lines(comparison, 0)
    assert "$/day" in lines[1]


def test_a_trained_bundle_is_evaluated_on_fresh_days(days):
    _, out = days
    bundle = next(out.glob("agents/*/bundle"))
    lines = evaluate_bundle(bundle, "normal", 2, 5, 1e-2)
    assert [line.split()[0] for line in lines] == ["return", "gap", "violated"]
    assert "of normal" in lines[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"beta": 1.0}, "beta"),
        ({"test_days": 0}, "test_days"),
        ({"alphas": (11.0,)}, "alphas"),
        ({"adjustable_alphas": (-1.0,)}, "adjustable_alphas"),
        ({"seeds": (1, 1, 2)}, "seeds"),
        ({"train_steps": ()}, "train_steps"),
        ({"instance": {"gas_ramp_kw": -1.0}}, "gas_ramp_kw"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(changes, named):
    with pytest.raises(InvalidInputError, match=named):
        scheduling.CompareConfig(**changes)


@pytest.mark.parametrize("words", [[], ["--objective", "peak"], ["--set", "budget", "--level", "1.5", "--adjust"]])
def test_a_day_is_solved_written_and_checked(tmp_path, capsys, words):
    network, path = tmp_path / "network.json", tmp_path / "plan.json"
    network.write_text(json.dumps(SMALL | {"cars": 8}))
    main(["solve", "scheduling", "--instance", str(network), "--out", str(path), *words])
    printed = capsys.readouterr().out
    assert "certified: " in printed
    assert printed.count(" h ") == 24
    main(["check", str(path), "--instance", str(network)])
    assert capsys.readouterr().out.startswith("holds")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--set", "budget", "--level", "7"], "alpha"),
        (["--seed", "-1"], "seed"),
        (["--adjust", "--objective", "peak"], "--objective"),
    ],
)
def test_bad_words_of_the_solve_command_are_refused_by_name(capsys, words, named):
    with pytest.raises(SystemExit) as stop:
        main(["solve", "scheduling", *words])
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def test_margins_are_tuned_on_the_given_days():
    from baselines.scheduling.policies import Uncontrolled
    from v2g_env.rollout import rollout
    from v2g_env.scheduling.instance import Instance
    from v2g_env.scheduling.model import Model
    from v2g_env.scheduling.scenario import sample

    model = Model(Instance(**SMALL))
    tuning = sample(model.instance, model.law, 10, 1)
    best = scheduling.tuned(model, tuning, lambda sd: Uncontrolled(model, sd))
    found = {sd: rollout(model, tuning, Uncontrolled(model, sd)).returns.mean() for sd in (0.5, 1.0, 1.5)}
    assert found[best] == np.max(list(found.values()))


@pytest.mark.parametrize("words", [["feeder"], ["price-chain", "--set", "interval"], ["scheduling", "--agree"]])
def test_other_answers_are_solved_written_and_checked(tmp_path, capsys, words):
    path, network = tmp_path / "answer.json", tmp_path / "network.json"
    network.write_text(json.dumps(SMALL))
    instance = ["--instance", str(network)] if words[0] == "scheduling" else []
    main(["solve", *words, *instance, "--out", str(path)])
    assert capsys.readouterr().out.count("certified: ") >= 2
    main(["check", str(path), *instance])
    assert capsys.readouterr().out.startswith("holds")


def test_a_feeders_certificate_is_checked_against_a_feeders_day(tmp_path, capsys):
    path, other = tmp_path / "answer.json", tmp_path / "other.toml"
    main(["solve", "feeder", "--out", str(path)])
    other.write_text("v_min_pu = 0.9\n")
    with pytest.raises(SystemExit):
        main(["check", str(path), "--instance", str(other)])
    assert "REFUSED" in capsys.readouterr().out
