import csv
import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from agents.compare import Contestant, evaluate, paired
from agents.compare_lines import agent_lines, table_lines
from agents.config import load as load_config
from agents.imitation import demonstrate
from agents.parking_lot import CompareConfig, board, run
from baselines.certificate import check, load
from baselines.parking_lot.critic_policy import CriticControl
from baselines.parking_lot.policies import DoNothing, PredictiveControl
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import REWARD_TERMS, Model
from v2g_env.rollout import Recorded

TINY = CompareConfig(
    n_samples=200,
    train_days=50,
    test_days=60,
    redraws=2,
    rho=(0.3,),
    agents=("parking_lot_ppo",),
    train_steps=(13_312,),
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare")
    return run(TINY, out), out


def test_every_policy_meets_the_same_days_and_none_beats_the_bound(compared):
    comparison, _ = compared
    for test, results in zip(comparison.tests, comparison.results, strict=True):
        assert [r.row.kind for r in results].count("agent") == 1
        known = test.bound if test.oracle is None else test.oracle
        for result in results:
            assert len(result.returns) == len(test.bound)
            assert (known >= result.returns - 1e-9).all()
            z = 0.0 if test.control is None else test.control(result.episodes)
            gap = test.bound - (result.returns - z)
            assert gap.min() >= -1e-9
            assert result.row.gap_usd == pytest.approx(gap.mean())
            assert sum(result.money.values()) == pytest.approx(result.returns.mean(), abs=1e-9)


def test_every_certificate_holds_and_names_the_trained_bundle(compared):
    comparison, out = compared
    files = sorted((out / "certificates").glob("*.json"))
    assert len(files) == 2 + 2 * (1 + len(comparison.results[0]))
    for file in files:
        assert check(load(file), Instance()).claims
    agent = load(out / "certificates" / "policy-ppo-generated-days.json")
    config = json.loads(next(out.glob("agents/*/bundle/config.json")).read_text())
    assert agent["policy_sha256"] == config["sha256"]


def test_the_table_file_says_what_the_results_say(compared):
    comparison, out = compared
    with (out / "compare.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    flat = [result for group in comparison.results for result in group]
    assert [row["policy"] for row in rows] == [result.row.policy for result in flat]
    for row, result in zip(rows, flat, strict=True):
        assert float(row["mean_usd"]) == result.row.mean_usd
        assert sum(float(row[f"{term}_usd"]) for term in REWARD_TERMS) == pytest.approx(result.row.mean_usd)


def test_the_table_fits_a_terminal(compared):
    comparison, _ = compared
    for number, (test, results) in enumerate(zip(comparison.tests, comparison.results, strict=True)):
        lines = table_lines(test, results) + agent_lines(comparison, number)
        assert max(map(len, lines)) <= 80
        assert len(lines) == len(results) + 5


def test_a_second_run_takes_the_agents_that_are_there_and_drops_stale_certificates(compared):
    first, out = compared
    stale = out / "certificates" / "policy-of-another-run.json"
    stale.write_text("{}")
    weights = next(out.glob("agents/*/bundle/policy.safetensors"))
    before = weights.stat().st_mtime_ns
    second = run(TINY, out)
    assert weights.stat().st_mtime_ns == before
    assert not stale.exists()
    for one, two in zip(first.results, second.results, strict=True):
        for a, b in zip(one, two, strict=True):
            # sums over cars depend, in their last digits, on where arrays lie in memory
            np.testing.assert_allclose(a.returns, b.returns, rtol=0.0, atol=1e-9)


def test_a_policy_above_the_proven_bound_stops_the_comparison(compared):
    test = compared[0].tests[0]
    wrong = dataclasses.replace(test, bound=test.bound - 1e3)
    with pytest.raises(InvalidInputError, match="proven bound"):
        evaluate(Contestant("idle", "baseline", DoNothing), wrong)


def test_a_policy_does_not_differ_from_itself(compared):
    test = compared[0].tests[1]
    control = Contestant("control", "baseline", PredictiveControl)
    result = evaluate(control, test)
    assert paired(result, result, test) == (0.0, 0.0)


def test_real_days_count_once_however_often_they_are_redrawn(compared):
    row = compared[0].results[1][0].row
    assert (row.days, row.independent, row.trials) == (96, 48, 48)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bogus = 1", "bogus"),
        ("n_samples = 0", "n_samples"),
        ("rho = []", "rho"),
        ("seeds = [1, 1, 2, 3, 4]", "seeds"),
        ("beta = 2.0", "beta"),
        ("[instance]\nbays = -1", "bays"),
        ("n_samples = ", "unreadable"),
        ('agents = ["parking_lot_ppo"]\ntrain_steps = []', "train_steps"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(tmp_path, text, named):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=named):
        CompareConfig.from_file(path)


def test_generated_days_stand_below_the_penalised_bound_and_others_below_hindsight(compared):
    comparison, out = compared
    generated, real = comparison.tests
    assert (generated.bound_name, real.bound_name) == ("proven bound (penalised)", "proven bound (hindsight)")
    assert generated.bound.mean() < generated.oracle.mean() - 3.0
    assert real.oracle is None
    kinds = [
        load(out / "certificates" / f"bound-{name}.json")["kind"] for name in ("generated-days", "held-out-real-days")
    ]
    assert kinds == ["penalised bound", "hindsight bound"]
    for law, instance in (("generator", {"gate_closure_steps": 0}), ("generator", {"own_charging": True})):
        assert board("V2G/ParkingLot-v0", instance, law, 4, 1, 0.1).test.control is None


def test_no_plan_widens_the_gates_range_beyond_the_bounds(compared):
    test = compared[0].tests[0]
    lofty = np.append(np.full(12, 500.0), 0.0)  # no day can hold it; the bound's range is what a full lot could
    for plan in (None, lofty):
        result = evaluate(
            Contestant("all", "baseline", lambda m: Recorded(np.ones((60, 13, 1), np.float32)), plan=plan), test
        )
        assert (result.gap >= -1e-9).all()
    with pytest.raises(InvalidInputError, match="plan_kwh"):
        test.with_plan(np.full(13, 1e6))


def test_critic_control_is_the_best_baseline_on_generated_days(compared):
    rows = [r.row for r in compared[0].results[0] if r.row.kind == "baseline"]
    assert max(rows, key=lambda row: row.mean_usd).policy == "critic control"


def test_critic_control_teaches_what_it_does():
    config = load_config("parking_lot_imitation_ppo")
    lesson = replace(config.imitation, episodes=20)
    shown = demonstrate(config, lesson)
    model = Model(Instance(), "generator")
    memory = None
    control = CriticControl(model)
    for t in range(model.steps):
        action, memory = control.predict(shown.observations[:, t], memory)
        np.testing.assert_allclose(action, shown.actions[:, t], atol=1e-6)
    assert shown.rewards.sum(axis=1).mean() > 40.0
