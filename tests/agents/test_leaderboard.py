"""The leaderboard on tiny sets: what is printed is recomputed, looks cost, and tampering is refused."""

import argparse
import copy
import dataclasses
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("stable_baselines3")

from agents import leaderboard, leaderboard_bounds, scheduling, stackelberg
from agents.boards import board_of
from agents.compare import Contestant, evaluate
from agents.config import load as load_config
from agents.leaderboard import Submissions, update
from agents.leaderboard_check import check_leaderboard
from agents.leaderboard_entries import baselines_of
from agents.leaderboard_looks import Looks, look_share
from agents.leaderboard_sets import BETA, BOARD_SETS, BoardSet, scene_of
from agents.leaderboard_submissions import (
    PenaltyEntry,
    PolicyEntry,
    bundle_entry,
    data_hash,
    penalty_entry,
    policy_entry,
)
from agents.protocol_cli import add_leaderboard, leaderboard_command
from agents.sb3 import train
from baselines import risk
from baselines.certificate import CertificateError, load, pack, unpack
from baselines.parking_lot.penalty import zero
from baselines.price_chain.hindsight import hindsight
from baselines.price_chain.policies import TablePolicy, early_plan, late_plan
from baselines.price_chain.values import solve
from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import mean_interval, upper_limit
from v2g_env.rollout import Recorded, rollout

CHAIN, LOT = "V2G/PriceChain-v0", "V2G/ParkingLot-v0"
SETS = (BoardSet(LOT, "generator", 40, 7001), BoardSet(CHAIN, "generator", 80, 7007))


def oracle(model, scenario, data, seed):
    """A fake way to read penalties: perfect information plus what the file says."""
    return hindsight(model, scenario) + data["add_usd"]


ADAPTERS = {CHAIN: oracle}


def late(model):
    return TablePolicy(model, late_plan(model))


def penalty(name, add_usd):
    data = {"add_usd": add_usd}
    return PenaltyEntry(name, data_hash(data), data)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    config = load_config("price_chain_ppo").replace(total_steps=6144)
    return train(config, tmp_path_factory.mktemp("leader") / "tiny", progress=False).bundle


@pytest.fixture(scope="module")
def done(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    new = {CHAIN: Submissions([bundle_entry(bundle)], [PolicyEntry("late again", late)], [penalty("oracle", 1.0)])}
    return update(folder, new, sets=SETS, adapters=ADAPTERS), folder


def verify(content, looks):
    return check_leaderboard(content, looks, SETS, ADAPTERS)


def chain_of(content):
    return next(each for each in content["sets"] if each["env_id"] == CHAIN)


def row_of(content, policy):
    return next(row for row in chain_of(content)["rows"] if row["policy"] == policy)


def test_every_environment_with_a_board_has_one_set_and_baselines():
    ids = [each.env_id for each in BOARD_SETS]
    assert len(set(ids)) == len(ids) == 7
    assert len({each.seed for each in BOARD_SETS}) == 7
    with pytest.raises(InvalidInputError, match="environment"):
        baselines_of("V2G/ParkingLotBays-v0", None)


@pytest.mark.parametrize(
    ("env_id", "periods"),
    [
        (LOT, 20),
        (CHAIN, 20),
        ("V2G/SharedBatteryAllocation-v0", 2),
        ("V2G/SharedBatteryAllocationPartial-v0", 2),
        ("V2G/SharedBatterySizing-v0", 2),
        ("V2G/Scheduling-v0", 2),
        ("V2G/Stackelberg-v0", 60),
    ],
)
def test_a_scene_says_what_the_board_says(env_id, periods, monkeypatch):
    # bounds of these two take long, and a scene has none
    lofty = SimpleNamespace(bound_usd=np.full(2, 1e9))
    monkeypatch.setattr(scheduling, "hindsight", lambda *_, **__: lofty)
    monkeypatch.setattr(scheduling, "bounds_certificate", lambda *_: None)
    months = SimpleNamespace(bound_usd=np.full((2, 30), 1e9))
    monkeypatch.setattr(stackelberg, "hindsight", lambda *_, **__: months)
    chosen = BoardSet(env_id, "generator", periods, 5)
    scene = scene_of(chosen)
    test = board_of(env_id, {}, chosen.law, periods, 5, BETA).test
    rng = np.random.default_rng(0)
    model = scene.model(None)
    shape = (len(scene.scenario[0]), model.steps)
    actions = (
        rng.uniform(-1.0, 1.0, (*shape, model.action_size)).astype(np.float32)
        if model.choices is None
        else rng.integers(0, model.choices, shape)
    )
    result = evaluate(Contestant("any", "baseline", lambda m: Recorded(actions)), test)
    episodes = rollout(model, scene.scenario, Recorded(actions))
    np.testing.assert_allclose(scene.returns(episodes), result.returns, atol=1e-9)
    row = result.row
    assert scene.violations(episodes, BETA) == pytest.approx((row.violated, row.trials, row.limit))
    assert (scene.per, scene.trial, scene.pathwise) == (test.per, test.trial, test.pathwise)
    assert scene.instance.hash == test.model.instance.hash
    same_units = test.units is None if scene.units is None else np.array_equal(scene.units, test.units)
    assert same_units


def test_the_whole_leaderboard_holds(done):
    content, folder = done
    report = check_leaderboard(folder, sets=SETS, adapters=ADAPTERS)
    assert report.values == {"rows": 5 + 4 + 2, "penalties": 1}
    assert json.loads((folder / "leaderboard.json").read_text()) == content


def test_figures_follow_from_the_packed_returns_and_gaps(done):
    content, _ = done
    each = chain_of(content)
    bound = unpack(each["bound_usd"])
    for row in each["rows"]:
        returns, gaps = unpack(row["returns_usd"]), unpack(row["gaps_usd"])
        np.testing.assert_allclose(gaps, bound - returns)
        assert (row["mean_usd"], row["low_usd"], row["high_usd"]) == mean_interval(returns)
        assert row["gap_percent"] == pytest.approx(100.0 * gaps.mean() / bound.mean())
        top = upper_limit(gaps, None, 1.0 - row["beta"] / 2.0)
        assert row["gap_limit_percent"] == pytest.approx(100.0 * top / bound.mean())
        assert row["limit"] == pytest.approx(risk.hold_out(80, int(row["violated"]), row["beta"] / 2.0))


def test_recorded_actions_earn_the_returns_of_their_row(done):
    content, _ = done
    scene = scene_of(SETS[1])
    ours, theirs = (row_of(content, name) for name in ("late again", "late charging"))
    episodes = rollout(scene.model(None), scene.scenario, Recorded(unpack(ours["actions"])))
    np.testing.assert_array_equal(episodes.returns, unpack(ours["returns_usd"]))
    assert ours["mean_usd"] == theirs["mean_usd"]  # the same policy, shipped and submitted
    assert ours["limit"] > theirs["limit"]  # but a submission has part of beta only


def test_rows_name_look_share_and_bundle(done, bundle):
    content, folder = done
    kinds = {row["policy"]: (row["kind"], row["look"], row["beta"]) for row in chain_of(content)["rows"]}
    assert kinds["tiny"] == ("agent", 1, look_share(BETA, 1))
    assert kinds["late again"] == ("submission", 2, look_share(BETA, 2))
    assert kinds["optimal plan"] == ("baseline", None, BETA)
    assert row_of(content, "tiny")["sha256"] == bundle_entry(bundle).contestant.sha256
    (above,) = chain_of(content)["penalties"]
    assert (above["look"], above["beta"]) == (3, look_share(BETA, 3))
    assert Looks.read(folder).count(SETS[1].key) == 3
    assert Looks.read(folder).count(SETS[0].key) == 0


def test_the_table_has_a_line_for_every_row_and_escapes_names(done):
    content, folder = done
    text = (folder / "leaderboard.md").read_text()
    for each in content["sets"]:
        for row in each["rows"]:
            assert f"| {row['policy']} | {row['kind']} | {row['mean_usd']:.2f} |" in text
    assert len(re.findall(r"^\| oracle \|", text, re.MULTILINE)) == 1
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {15, 9}
    changed = copy.deepcopy(content)
    row_of(changed, "late again")["policy"] = "a|b\nc"
    assert "| a\\|b c | submission |" in leaderboard.table(changed)


def test_scoring_again_is_no_new_look_and_keeps_what_was_submitted(done, bundle, tmp_path):
    content, folder = done
    for name in ("leaderboard.json", "looks.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    new = {CHAIN: Submissions([bundle_entry(bundle)], [PolicyEntry("another name", late)], [penalty("oracle", 1.0)])}
    again = update(tmp_path, new, [CHAIN], SETS, ADAPTERS)
    assert (tmp_path / "looks.json").read_bytes() == (folder / "looks.json").read_bytes()
    assert row_of(again, "another name")["look"] == 2
    assert row_of(again, "tiny")["returns_usd"] == row_of(content, "tiny")["returns_usd"]
    assert again["sets"][0] == content["sets"][0]  # not scored this time, kept as it was
    later = update(tmp_path, None, [CHAIN], SETS, ADAPTERS)
    assert {row["policy"] for row in chain_of(later)["rows"]} == {row["policy"] for row in chain_of(again)["rows"]}
    assert [row["sha256"] for row in chain_of(later)["penalties"]] == [penalty("oracle", 1.0).sha256]
    check_leaderboard(tmp_path, sets=SETS, adapters=ADAPTERS)


def test_another_look_gets_less_of_beta_and_a_higher_limit(done, tmp_path):
    _, folder = done
    for name in ("leaderboard.json", "looks.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())

    def early(model):
        return TablePolicy(model, early_plan(model))

    content = update(tmp_path, {CHAIN: Submissions(policies=[PolicyEntry("early", early)])}, [CHAIN], SETS, ADAPTERS)
    row = row_of(content, "early")
    assert (row["look"], row["beta"]) == (4, look_share(BETA, 4))
    assert row["limit"] > risk.hold_out(80, int(row["violated"]), BETA / 2.0)


def test_the_optimal_values_as_a_penalty_close_the_gap_of_the_price_chain(tmp_path):
    model = scene_of(SETS[1]).model(None)
    values = solve(model).values
    data = {"critic": pack(values), "scale": 1.0}
    found = PenaltyEntry("optimal values", data_hash(data), data)
    loose = {"critic": pack(np.zeros_like(values)), "scale": 1.0}
    entries = [found, PenaltyEntry("nothing", data_hash(loose), loose)]
    content = update(tmp_path, {CHAIN: Submissions(penalties=entries)}, [CHAIN], SETS)
    tight, wide = chain_of(content)["penalties"]
    optimum = unpack(chain_of(content)["bound_usd"])
    np.testing.assert_allclose(unpack(tight["bound_usd"]), optimum, atol=1e-6)
    scene = scene_of(SETS[1])
    np.testing.assert_allclose(unpack(wide["bound_usd"]), hindsight(scene.model(None), scene.scenario), atol=1e-6)
    assert wide["mean_usd"] > tight["mean_usd"]
    assert check_leaderboard(tmp_path, sets=SETS).values["penalties"] == 2
    with pytest.raises(InvalidInputError, match="fields of the penalty"):
        wrong = {CHAIN: Submissions(penalties=[penalty("other words", 0.0)])}
        update(tmp_path, wrong, [CHAIN], SETS)


def test_no_penalty_on_the_parking_lot_is_hindsight(done):
    scene = scene_of(SETS[0])
    content, _ = done
    official = unpack(next(each for each in content["sets"] if each["env_id"] == LOT)["bound_usd"])
    read = leaderboard_bounds.ADAPTERS[LOT]
    found = read(scene.model(None), scene.scenario, zero(scene.instance, scene.model(None).law.name).to_dict(), 7001)
    assert (found >= official - 1e-9).all()  # the penalty's paths are those of a grid, rounded outwards
    assert found.mean() == pytest.approx(official.mean(), rel=0.01)
    with pytest.raises(InvalidInputError, match="days of the penalty"):
        read(scene.model(None), scene.scenario, zero(scene.instance, scene.model(None).law.name).to_dict(), 7002)


# looks


@given(st.integers(1, 300), st.floats(1e-12, 0.99))
@settings(max_examples=30, deadline=None)
def test_all_shares_together_stay_below_beta(count, beta):
    shares = [look_share(beta, look) for look in range(1, count + 1)]
    assert math.fsum(shares) < beta
    assert all(later < earlier for earlier, later in zip(shares[:-1], shares[1:], strict=True))


def test_the_shares_come_close_to_beta_in_the_limit():
    shares = [look_share(0.1, look) for look in range(1, 10_001)]
    assert 0.1 * (1.0 - 1e-4) < math.fsum(shares) < 0.1


def test_limits_of_submissions_chosen_after_looking_fail_together_with_at_most_beta():
    # every submission has violation probability p; the attempt fails if any limit falls below p
    rng = np.random.default_rng(6)
    beta, p, m, tries = 0.2, 0.1, 60, 30
    violations = rng.binomial(m, p, (2000, tries))
    shared = [risk.hold_out(m, violations[:, k], look_share(beta, k + 1)) for k in range(tries)]
    failed = float(np.mean(np.min(shared, axis=0) < p))
    assert failed <= beta + 3.0 * math.sqrt(beta * (1.0 - beta) / 2000)
    whole = risk.hold_out(m, violations, beta)
    assert np.mean(whole.min(axis=1) < p) > 2.0 * beta  # without shares it does not hold


def test_a_look_is_counted_once_per_set_and_survives_the_file(tmp_path):
    looks = Looks()
    assert [looks.register("set", "policy", name) for name in ("a", "b", "a")] == [1, 2, 1]
    assert looks.register("other", "policy", "a") == 1
    assert looks.register("set", "penalty", "c") == 3
    looks.write(tmp_path)
    again = Looks.read(tmp_path)
    assert (again.count("set"), again.find("set", "policy", "b"), again.find("set", "policy", "c")) == (3, 2, None)
    assert Looks.read(tmp_path / "nowhere").count("set") == 0
    with pytest.raises(InvalidInputError, match="one side"):
        looks.register("set", "penalty", "a")


def test_looks_that_were_changed_dropped_or_cut_are_noticed(done, tmp_path):
    content, folder = done
    key = SETS[1].key
    original = load(folder / "looks.json")

    def refused(change, match):
        changed = copy.deepcopy(original)
        change(changed["sets"][key])
        (tmp_path / "looks.json").write_text(json.dumps(changed))
        with pytest.raises(CertificateError, match=match):
            verify(content, Looks.read(tmp_path))

    refused(lambda looks: looks.pop(), "as in looks.json")  # fewer looks than rows
    refused(lambda looks: looks.clear(), "as in looks.json")
    refused(lambda looks: looks.pop(0), "number 1")
    refused(lambda looks: looks.reverse(), "number 1")
    refused(lambda looks: looks[0].update(sha256="0" * 64), "chain")
    refused(lambda looks: looks[1].update(side="penalty"), "chain")
    refused(lambda looks: looks[0].update(look=True), "number 1")
    refused(lambda looks: looks.append(looks[0]), "number 4")
    refused(lambda looks: looks[0].pop("chain"), "exactly")
    (tmp_path / "leaderboard.json").write_bytes((folder / "leaderboard.json").read_bytes())
    (tmp_path / "looks.json").unlink()
    with pytest.raises(CertificateError, match="as in looks.json"):  # nor can a new call go on without the file
        update(tmp_path, None, [CHAIN], SETS, ADAPTERS)


# tampering


def _scaled(packed, factor):
    return pack(unpack(packed) * factor)


def _one_choice(packed):
    actions = unpack(packed).copy()
    actions[0, 0] = (actions[0, 0] + 1) % 3
    return pack(actions)


TAMPERINGS = {
    "mean": lambda each, row: row.update(mean_usd=row["mean_usd"] + 1e-3),
    "gap": lambda each, row: row.update(gap_percent=row["gap_percent"] - 1e-3),
    "limit": lambda each, row: row.update(limit=row["limit"] * 0.99),
    "gap-limit": lambda each, row: row.update(gap_limit_percent=row["gap_limit_percent"] - 0.1),
    "violated": lambda each, row: row.update(violated=row["violated"] + 1.0),
    "nan": lambda each, row: row.update(low_usd=math.nan),
    "bool": lambda each, row: row.update(trials=True),
    "text": lambda each, row: row.update(mean_usd="1"),
    "actions": lambda each, row: row.update(actions=_one_choice(row["actions"])),
    "returns": lambda each, row: row.update(returns_usd=_scaled(row["returns_usd"], 1.01)),
    "gaps": lambda each, row: row.update(gaps_usd=_scaled(row["gaps_usd"], 0.99)),
    "cut": lambda each, row: row.update(returns_usd=pack(unpack(row["returns_usd"])[:-1])),
    "huge": lambda each, row: row.update(actions={"dtype": "<i4", "shape": [10**9, 10**9], "data": ""}),
    "beta": lambda each, row: row.update(beta=BETA),
    "look": lambda each, row: row.update(look=2, beta=look_share(BETA, 2)),
    "baseline": lambda each, row: row.update(kind="baseline", sha256=None, look=None),
    "kind": lambda each, row: row.update(kind="oracle"),
    "hash": lambda each, row: row.update(sha256="1" * 64),
    "plan": lambda each, row: row.update(plan_kwh=[True]),
    "promise": lambda each, row: row.update(promised=-0.1),
    "time": lambda each, row: row.update(decision_us=math.inf),
    "twice": lambda each, row: each["rows"].append(dict(row)),
    "unknown-field": lambda each, row: row.update(comment="best"),
    "missing-field": lambda each, row: row.pop("promised"),
    "bound": lambda each, row: each.update(bound_usd=_scaled(each["bound_usd"], 0.9)),
    "bound-missing": lambda each, row: each.update(bound_certificate=None),
    "certificate": lambda each, row: each["bound_certificate"].update(value_usd=150.0),
    "seed": lambda each, row: each.update(seed=7008),
    "seed-bool": lambda each, row: each.update(seed=True),
    "periods": lambda each, row: each.update(periods=79),
    "instance": lambda each, row: each.update(instance_sha256="0" * 64),
    "set-beta": lambda each, row: each.update(beta=1e-3),
    "controlled": lambda each, row: each.update(controlled=True),
    "environment": lambda each, row: each.update(env_id=LOT),
    "penalty-data": lambda each, row: each["penalties"][0].update(data={"add_usd": 0.0}),
    "penalty-bound": lambda each, row: each["penalties"][0].update(
        bound_usd=_scaled(each["penalties"][0]["bound_usd"], 0.9)
    ),
    "penalty-mean": lambda each, row: each["penalties"][0].update(mean_usd=0.0),
    "penalty-look": lambda each, row: each["penalties"][0].update(look=1, beta=look_share(BETA, 1)),
    "no-rows": lambda each, row: each.update(rows=None),
}


@pytest.mark.parametrize("name", sorted(TAMPERINGS))
def test_tampering_is_refused(done, name):
    content, folder = done
    changed = copy.deepcopy(content)
    TAMPERINGS[name](chain_of(changed), row_of(changed, "tiny"))
    with pytest.raises(CertificateError):
        verify(changed, Looks.read(folder))


def test_a_foreign_bound_certificate_is_refused(done):
    content, folder = done
    changed = copy.deepcopy(content)
    lot = next(each for each in changed["sets"] if each["env_id"] == LOT)
    other = board_of(LOT, {}, "generator", 40, 8, BETA)
    lot["bound_certificate"] = other.bound
    with pytest.raises(CertificateError, match="seed"):
        verify(changed, Looks.read(folder))
    lot["bound_certificate"] = chain_of(content)["bound_certificate"]
    with pytest.raises(CertificateError):
        verify(changed, Looks.read(folder))


@pytest.mark.parametrize("content", [{}, {"format": "x", "sets": []}, {"format": leaderboard.FORMAT, "sets": [1]}, 3])
def test_what_is_no_leaderboard_is_refused(content, tmp_path):
    (tmp_path / "leaderboard.json").write_text(json.dumps(content))
    with pytest.raises(CertificateError):
        check_leaderboard(tmp_path, sets=SETS)


# submissions


def test_a_penalty_below_what_a_policy_earns_is_refused(tmp_path):
    new = {CHAIN: Submissions(penalties=[penalty("too good", -150.0)])}
    with pytest.raises(InvalidInputError, match="mean is not zero"):
        update(tmp_path, new, [CHAIN], SETS[1:], ADAPTERS)
    assert Looks.read(tmp_path).count(SETS[1].key) == 1  # who learnt that has looked
    assert not (tmp_path / "leaderboard.json").exists()


def test_a_penalty_where_nobody_reads_one_is_refused_before_anything_is_scored(tmp_path):
    with pytest.raises(InvalidInputError, match="environment of a penalty"):
        update(tmp_path, {LOT: Submissions(penalties=[penalty("any", 0.0)])}, [LOT], SETS, {})
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_another_instance_is_refused(bundle, tmp_path):
    entry = bundle_entry(bundle)._replace(instance_sha256="0" * 64)
    with pytest.raises(InvalidInputError, match="default instance"):
        update(tmp_path, {CHAIN: Submissions([entry])}, [CHAIN], SETS, ADAPTERS)
    assert Looks.read(tmp_path).count(SETS[1].key) == 0


def test_an_environment_that_is_not_scored_takes_no_submission(tmp_path):
    with pytest.raises(InvalidInputError, match="environment of a submission"):
        update(tmp_path, {CHAIN: Submissions(policies=[PolicyEntry("late", late)])}, [LOT], SETS)
    with pytest.raises(InvalidInputError, match="environment"):
        update(tmp_path, None, ["V2G/Nowhere-v0"], SETS)


def test_a_bound_with_a_penalty_of_its_own_needs_its_control_to_be_checked(done, monkeypatch, tmp_path):
    usual = board_of

    def controlled(*arguments, **options):
        board = usual(*arguments, **options)
        rising = lambda episodes: episodes.returns - episodes.returns.mean()  # noqa: E731 - a fake of sample mean zero
        return dataclasses.replace(board, test=dataclasses.replace(board.test, control=rising))

    monkeypatch.setattr(leaderboard, "board_of", controlled)
    content = update(tmp_path, None, [CHAIN], SETS[1:], ADAPTERS)
    row = row_of(content, "optimal plan")
    assert np.ptp(unpack(row["gaps_usd"])) < 1e-9  # all scatter of the returns is gone
    with pytest.raises(CertificateError, match="CONTROLS"):
        check_leaderboard(tmp_path, sets=SETS[1:])
    monkeypatch.setitem(
        leaderboard_bounds.CONTROLS, CHAIN, lambda model, scenario, data, e: e.returns - e.returns.mean()
    )
    assert check_leaderboard(tmp_path, sets=SETS[1:]).claims


def test_functions_come_from_files_and_modules_and_mistakes_are_named(tmp_path, monkeypatch):
    code = "def make(model):\n    return model\nnumber = 3\n"
    (tmp_path / "own_policy_of_a_test.py").write_text(code)
    assert policy_entry(f"{tmp_path / 'own_policy_of_a_test.py'}:make").make(5) == 5
    monkeypatch.chdir(tmp_path)
    entry = policy_entry("own_policy_of_a_test:make")
    assert (entry.name, entry.make(5)) == ("make", 5)
    for text, named in [
        ("own_policy_of_a_test", "policy"),
        ("own_policy_of_a_test:number", "number"),
        ("own_policy_of_a_test:absent", "absent"),
        ("no_such_module_at_all:make", "policy"),
        ("nowhere.py:make", "file of the policy"),
    ]:
        with pytest.raises(InvalidInputError, match=named):
            policy_entry(text)


def test_a_penalty_file_must_hold_a_json_object_of_finite_numbers(tmp_path):
    path = tmp_path / "W.json"
    path.write_text('{"b": 1.0, "a": [2]}')
    first = penalty_entry(path)
    path.write_text('{"a": [2],   "b": 1.0}')
    assert first == penalty_entry(path)  # the hash is of the content, not of the file's spaces
    assert first.name == "W"
    for text in ("", "[1]", '{"a": NaN}', '{"a": 1e999}'):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match="penalty"):
            penalty_entry(path)


def test_the_command_scores_a_bundle_and_a_function_and_checks(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("agents.leaderboard.update", _on_tiny_sets(update))
    monkeypatch.setattr("agents.leaderboard_check.check_leaderboard", _on_tiny_sets(check_leaderboard))
    (tmp_path / "mine.py").write_text(
        "from baselines.price_chain.policies import TablePolicy, early_plan\n"
        "def early(model):\n    return TablePolicy(model, early_plan(model))\n"
    )
    parser = argparse.ArgumentParser()
    add_leaderboard(parser)

    def call(*words):
        arguments = parser.parse_args([str(word) for word in words])
        arguments.action(arguments)
        return capsys.readouterr().out

    assert parser.parse_args([]).action is leaderboard_command
    out = tmp_path / "out"
    text = call("--env", CHAIN, "--bundle", bundle, "--policy", f"{tmp_path / 'mine.py'}:early", "--out", out)
    assert "| tiny | agent |" in text
    assert "| early | submission |" in text
    assert "holds" in call("--check", out)
    with pytest.raises(InvalidInputError, match="--env"):
        call("--policy", "a:b", "--out", out)
    with pytest.raises(InvalidInputError, match="submission"):
        call("--check", out, "--bundle", bundle)


def _on_tiny_sets(function):
    return lambda *arguments, **options: function(*arguments, **{"sets": SETS} | options)
