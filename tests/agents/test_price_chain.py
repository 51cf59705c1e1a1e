"""The comparison on the price chain, in sizes of seconds: exact values, certificates, report."""

import numpy as np
import pytest

from agents import price_chain, price_chain_bench, price_chain_report
from agents.boards import evaluate_bundle
from agents.cli import main
from agents.compare_lines import agent_lines, table_lines
from baselines.certificate import load
from baselines.price_chain.ambiguity import SETS
from baselines.price_chain.verify import verify
from v2g_env.core.validate import InvalidInputError


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("chain")
    config = price_chain.CompareConfig(test_days=300, q_days=4000, agents=(), train_steps=())
    return price_chain.run(config, out), out


def test_no_policy_is_worth_more_than_the_exact_optimum_and_robust_plans_have_the_best_worst_cases(done):
    comparison, _ = done
    exact, robust = comparison.meta["exact"], comparison.meta["robust_usd"]
    assert len(exact) == len(comparison.results[0]) == len(comparison.results[1]) == 10
    best = exact[price_chain.OPTIMUM]["value_usd"]
    assert all(each["value_usd"] <= best + 1e-9 for each in exact.values())
    for name in SETS:
        top = max(exact.values(), key=lambda each: each[f"worst_{name}_usd"])[f"worst_{name}_usd"]
        assert top == pytest.approx(exact[f"robust plan ({name})"][f"worst_{name}_usd"], abs=1e-9)
        assert top == pytest.approx(robust[f"robust plan ({name})"], abs=1e-9)
    assert comparison.meta["hindsight_usd"] > best


def test_simulated_means_agree_with_exact_values_under_both_chains(done):
    comparison, _ = done
    for results, key in zip(comparison.results, ("value_usd", "harsher_usd"), strict=True):
        for result in results:
            error = result.returns.std() / np.sqrt(len(result.returns)) + 1e-9
            exact = comparison.meta["exact"][result.row.policy][key]
            assert abs(result.returns.mean() - exact) < 5.0 * error
            assert sum(result.money.values()) == pytest.approx(result.returns.mean())
    assert comparison.tests[1].bound[0] < comparison.tests[0].bound[0]


def test_every_certificate_holds(done):
    _, out = done
    paths = sorted((out / "certificates").glob("*.json"))
    assert len(paths) == 7 + 10
    for path in paths:
        assert verify(load(path), None).claims


def test_report_and_lines_can_be_made(done):
    comparison, _ = done
    sections = price_chain_report.sections(comparison)
    titles = [section.title for section in sections]
    assert len(set(titles)) == len(titles)
    assert "Exact values" in titles
    for section in sections:
        assert len({tuple(row) for row in section.rows}) <= 1
    for number in (0, 1):
        assert table_lines(comparison.tests[number], comparison.results[number])
        assert len(agent_lines(comparison, number)) == 1


def test_bad_configurations_are_refused():
    for changes, text in (
        ({"confidence": 1.0}, "confidence"),
        ({"beta": 0.0}, "beta"),
        ({"test_days": 0}, "test_days"),
        ({"q_days": 0}, "q_days"),
        ({"seeds": (1, 1, 2)}, "seeds"),
        ({"instance": {"nothing": 1}}, "nothing"),
        ({"train_steps": ()}, "train_steps"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            price_chain.CompareConfig(**changes)


def test_benchmark_says_what_a_sweep_costs(monkeypatch):
    monkeypatch.setattr(price_chain_bench, "_timed", lambda call, repeats=1: call() is None or 1.0)
    lines = list(price_chain_bench.lines())
    assert [sum(f"sweep, {name}" in line for line in lines) for name in ("nominal", *SETS)] == [1] * 6


def test_a_trained_agent_takes_part_is_certified_and_can_be_evaluated(tmp_path):
    config = price_chain.CompareConfig(test_days=200, q_days=256, train_steps=(6144,))
    comparison = price_chain.run(config, tmp_path)
    exact = comparison.meta["exact"]
    assert exact["PPO"]["value_usd"] <= exact[price_chain.OPTIMUM]["value_usd"] + 1e-9
    (policy,) = (tmp_path / "certificates").glob("policy-ppo-estimated-chain.json")
    assert verify(load(policy), None).values["value_usd"] == pytest.approx(exact["PPO"]["value_usd"])
    (bundle,) = (tmp_path / "agents").glob("*/bundle")
    lines = evaluate_bundle(bundle, "generator", 100, 5, 1e-3)
    assert f"{exact['PPO']['value_usd']:.4f}" in lines[-1]
    with pytest.raises(InvalidInputError, match="days"):
        evaluate_bundle(bundle, "generator", 0, 5, 1e-3)


def test_a_chain_is_estimated_from_a_file_of_prices_and_the_certificate_carries_it(tmp_path, capsys):
    rng = np.random.default_rng(0)
    hours = np.datetime64("2023-01-01T00") + np.arange(24 * 60)
    file, answer = tmp_path / "prices.csv", tmp_path / "answer.json"
    lines = [f"Here,{str(at).replace('T', ' ')}:00:00,{100 * rng.random():.2f}" for at in hours]
    file.write_text("\n".join(["Country,Datetime (UTC),Price (EUR/MWhe)", *lines]) + "\n")
    main(["solve", "price-chain", "--prices", str(file), "--set", "interval", "--out", str(answer)])
    assert "1,440 hours" in capsys.readouterr().out
    main(["check", str(answer)])
    assert capsys.readouterr().out.startswith("holds")
    prices = np.array(load(answer)["instance"]["price_usd_per_kwh"])
    assert prices.shape == (24 * 8,)
    assert 0.0 < prices.min() < prices.max() < 0.1
    for words, named in ((["--prices", str(tmp_path / "none.csv")], "none.csv"), (["--confidence", "2"], "confidence")):
        with pytest.raises(SystemExit) as stop:
            main(["solve", "price-chain", "--set", "interval", *words])
        assert stop.value.code == 2
        assert named in capsys.readouterr().err
