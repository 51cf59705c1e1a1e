"""Scoring: what is printed is recomputed, looks cost, and what was submitted stays."""

import copy
import json
import re

import numpy as np
import pytest

from agents import leaderboard, leaderboard_bounds
from agents.leaderboard import Submissions, update
from agents.leaderboard_check import check_leaderboard
from agents.leaderboard_looks import Looks, look_share
from agents.leaderboard_sets import BETA, scene_of
from agents.leaderboard_submissions import PenaltyEntry, PolicyEntry, bundle_entry, data_hash
from baselines import risk
from baselines.certificate import pack, unpack
from baselines.parking_lot.hindsight import hindsight as lot_hindsight
from baselines.parking_lot.penalty import zero
from baselines.price_chain.hindsight import hindsight
from baselines.price_chain.policies import TablePolicy, early_plan
from baselines.price_chain.values import solve
from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import mean_interval, upper_limit
from v2g_env.rollout import Recorded, rollout


def test_the_whole_leaderboard_holds(kit, done):
    content, folder = done
    report = check_leaderboard(folder, sets=kit.SETS, adapters=kit.ADAPTERS)
    assert report.values == {"rows": 6 + 4 + 2, "penalties": 1}
    assert json.loads((folder / "leaderboard.json").read_text()) == content


def test_figures_follow_from_the_packed_returns_and_gaps(kit, done):
    content, _ = done
    each = kit.chain_of(content)
    bound = unpack(each["bound_usd"])
    for row in each["rows"]:
        returns, gaps = unpack(row["returns_usd"]), unpack(row["gaps_usd"])
        np.testing.assert_allclose(gaps, bound - returns)
        assert (row["mean_usd"], row["low_usd"], row["high_usd"]) == mean_interval(returns)
        assert row["gap_percent"] == pytest.approx(100.0 * gaps.mean() / bound.mean())
        top = upper_limit(gaps, None, 1.0 - row["beta"] / 2.0)
        assert row["gap_limit_percent"] == pytest.approx(100.0 * top / bound.mean())
        assert row["limit"] == pytest.approx(risk.hold_out(80, int(row["violated"]), row["beta"] / 2.0))


def test_recorded_actions_earn_the_returns_of_their_row(kit, done):
    content, _ = done
    scene = scene_of(kit.SETS[1])
    ours, theirs = (kit.row_of(content, name) for name in ("late again", "late charging"))
    episodes = rollout(scene.model(None), scene.scenario, Recorded(unpack(ours["actions"])))
    np.testing.assert_array_equal(episodes.returns, unpack(ours["returns_usd"]))
    assert ours["mean_usd"] == theirs["mean_usd"]  # the same policy, shipped and submitted
    assert ours["limit"] > theirs["limit"]  # but a submission has part of beta only


def test_rows_name_look_share_and_bundle(kit, done, bundle):
    content, folder = done
    kinds = {row["policy"]: (row["kind"], row["look"], row["beta"]) for row in kit.chain_of(content)["rows"]}
    assert kinds["tiny"] == ("agent", 1, look_share(BETA, 1))
    assert kinds["late again"] == ("submission", 2, look_share(BETA, 2))
    assert kinds["optimal plan"] == ("baseline", None, BETA)
    assert kit.row_of(content, "tiny")["sha256"] == bundle_entry(bundle).contestant.sha256
    (above,) = kit.chain_of(content)["penalties"]
    assert (above["look"], above["beta"]) == (3, look_share(BETA, 3))
    assert Looks.read(folder).count(kit.SETS[1].key) == 3
    assert Looks.read(folder).count(kit.SETS[0].key) == 0


def test_the_table_has_a_line_for_every_row_and_escapes_names(kit, done):
    content, folder = done
    text = (folder / "leaderboard.md").read_text()
    for each in content["sets"]:
        for row in each["rows"]:
            assert f"| {row['policy']} | {row['kind']} | {row['mean_usd']:.2f} |" in text
    assert len(re.findall(r"^\| oracle \|", text, re.MULTILINE)) == 1
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {15, 9}
    changed = copy.deepcopy(content)
    kit.row_of(changed, "late again")["policy"] = "a|b\nc"
    assert "| a\\|b c | submission |" in leaderboard.table(changed)


def test_scoring_again_is_no_new_look_and_keeps_what_was_submitted(kit, done, bundle, copied):
    content, folder = done
    renamed = PolicyEntry("another name", kit.late)
    new = {kit.CHAIN: Submissions([bundle_entry(bundle)], [renamed], [kit.penalty("oracle", 1.0)])}
    again = update(copied, new, [kit.CHAIN], kit.SETS, kit.ADAPTERS)
    assert (copied / "looks.json").read_bytes() == (folder / "looks.json").read_bytes()
    assert kit.row_of(again, "another name")["look"] == 2
    assert kit.row_of(again, "tiny")["returns_usd"] == kit.row_of(content, "tiny")["returns_usd"]
    assert again["sets"][0] == content["sets"][0]  # not scored this time, kept as it was
    later = update(copied, None, [kit.CHAIN], kit.SETS, kit.ADAPTERS)
    names = [{row["policy"] for row in kit.chain_of(each)["rows"]} for each in (again, later)]
    assert names[0] == names[1]
    assert [row["sha256"] for row in kit.chain_of(later)["penalties"]] == [kit.penalty("oracle", 1.0).sha256]
    check_leaderboard(copied, sets=kit.SETS, adapters=kit.ADAPTERS)


def test_another_look_gets_less_of_beta_and_a_higher_limit(kit, copied):
    def early(model):
        return TablePolicy(model, early_plan(model))

    new = {kit.CHAIN: Submissions(policies=[PolicyEntry("early", early)])}
    content = update(copied, new, [kit.CHAIN], kit.SETS, kit.ADAPTERS)
    row = kit.row_of(content, "early")
    assert (row["look"], row["beta"]) == (4, look_share(BETA, 4))
    assert row["limit"] > risk.hold_out(80, int(row["violated"]), BETA / 2.0)


def test_the_optimal_values_as_a_penalty_close_the_gap_of_the_price_chain(kit, tmp_path):
    model = scene_of(kit.SETS[1]).model(None)
    values = solve(model).values
    data = {"critic": pack(values), "scale": 1.0}
    found = PenaltyEntry("optimal values", data_hash(data), data)
    loose = {"critic": pack(np.zeros_like(values)), "scale": 1.0}
    entries = [found, PenaltyEntry("nothing", data_hash(loose), loose)]
    content = update(tmp_path, {kit.CHAIN: Submissions(penalties=entries)}, [kit.CHAIN], kit.SETS)
    tight, wide = kit.chain_of(content)["penalties"]
    optimum = unpack(kit.chain_of(content)["bound_usd"])
    np.testing.assert_allclose(unpack(tight["bound_usd"]), optimum, atol=1e-6)
    scene = scene_of(kit.SETS[1])
    np.testing.assert_allclose(unpack(wide["bound_usd"]), hindsight(scene.model(None), scene.scenario), atol=1e-6)
    assert wide["mean_usd"] > tight["mean_usd"]
    assert check_leaderboard(tmp_path, sets=kit.SETS).values["penalties"] == 2
    with pytest.raises(InvalidInputError, match="fields of the penalty"):
        wrong = {kit.CHAIN: Submissions(penalties=[kit.penalty("other words", 0.0)])}
        update(tmp_path, wrong, [kit.CHAIN], kit.SETS)


def test_no_penalty_on_the_parking_lot_is_hindsight_and_the_official_one_bounds_lower(kit, done):
    scene = scene_of(kit.SETS[0])
    content, _ = done
    official = unpack(next(each for each in content["sets"] if each["env_id"] == kit.LOT)["bound_usd"])
    top = lot_hindsight(scene.instance, scene.scenario).bound_usd
    read = leaderboard_bounds.ADAPTERS[kit.LOT]
    none = zero(scene.instance, scene.model(None).law.name).to_dict()
    found = read(scene.model(None), scene.scenario, none, 7001)
    assert (found >= top - 1e-9).all()  # the penalty's paths are those of a grid, rounded outwards
    assert found.mean() == pytest.approx(top.mean(), rel=0.01)
    assert official.mean() < top.mean()
    with pytest.raises(InvalidInputError, match="days of the penalty"):
        read(scene.model(None), scene.scenario, none, 7002)


def test_gaps_below_a_penalised_bound_count_the_penalty_and_scatter_less(kit, done):
    content, _ = done
    each = next(one for one in content["sets"] if one["env_id"] == kit.LOT)
    assert each["controlled"] is True
    bound = unpack(each["bound_usd"])
    for row in each["rows"]:
        gaps, plain = unpack(row["gaps_usd"]), bound - unpack(row["returns_usd"])
        assert gaps.min() >= -1e-9  # return - z <= bound on every day
        assert np.abs(gaps - plain).max() > 1.0
        assert row["gap_usd"] == pytest.approx(gaps.mean())
    control = next(row for row in each["rows"] if row["policy"] == "predictive control")
    gaps, plain = unpack(control["gaps_usd"]), bound - unpack(control["returns_usd"])
    assert plain.min() < 0.0  # luck: without the penalty the bound does not hold day by day
    assert gaps.std() < plain.std()
