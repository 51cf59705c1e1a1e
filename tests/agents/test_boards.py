"""Boards and worlds: the same scenarios whoever asks, bounds above every policy, bad requests refused early."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from agents.boards import board_of, default_periods, evaluate_bundle, module_of, problem_of, score, world_of
from agents.compare import Contestant, evaluate
from agents.compare_lines import ladder_lines, result_lines
from v2g_env.core.validate import InvalidInputError
from v2g_env.registration import ENVIRONMENTS
from v2g_env.rollout import Recorded, rollout

# small instances, and periods of a board
SMALL = {
    "V2G/ParkingLot-v0": ({}, 10),
    "V2G/Stackelberg-v0": ({"days": 2}, 3),
    "V2G/SharedBatterySizing-v0": ({"drivers": 3, "season_days": 20}, 5),
    "V2G/SharedBatteryAllocation-v0": ({"drivers": 4, "week_days": 3}, 8),
    "V2G/SharedBatteryAllocationPartial-v0": ({"drivers": 4, "week_days": 3}, 8),
    "V2G/Scheduling-v0": ({"cars": 20}, 2),
    "V2G/PriceChain-v0": ({}, 20),
}
PLAN = [0.0, *(15.0,) * 11, 0.0]


@pytest.fixture(scope="module")
def boards():
    known = {}

    def one(env_id):
        if env_id not in known:
            instance, periods = SMALL[env_id]
            known[env_id] = board_of(env_id, instance, periods=periods, seed=5)
        return known[env_id]

    return one


def random_policy(model, n, seed):
    rng = np.random.default_rng(seed)
    if model.choices is not None:
        return Recorded(rng.integers(0, model.choices, (n, model.steps)))
    return Recorded(rng.uniform(-1.0, 1.0, (n, model.steps, model.action_size)).astype(np.float32))


def test_every_environment_with_a_board_is_tested_here():
    known = {entry.id for entry in ENVIRONMENTS if entry.id in getattr(module_of_or_none(entry.id), "BOARDS", ())}
    assert known == set(SMALL)
    for env_id in SMALL:
        assert default_periods(env_id) >= 100


def module_of_or_none(env_id):
    try:
        return module_of(env_id)
    except (InvalidInputError, ImportError):
        return None


@pytest.mark.parametrize("env_id", SMALL)
def test_a_world_is_the_board_without_its_bound(env_id, boards):
    instance, periods = SMALL[env_id]
    model, scenario = world_of(env_id, instance, "generator", periods, 5)
    test = boards(env_id).test
    assert model.instance.hash == test.model.instance.hash
    assert model.law.name == test.model.law.name
    for mine, theirs in zip(scenario, test.scenario, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # the name that certificates carry leads back to the same law
    again = world_of(env_id, instance, model.law.name, periods, 5)[1]
    for mine, theirs in zip(scenario, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("env_id", SMALL)
def test_no_random_policy_beats_the_bound(env_id, boards):
    board = boards(env_id)
    n = len(board.test.scenario[0])
    for seed in range(3):
        policy = random_policy(board.test.model, n, seed)
        result = evaluate(Contestant("random", "baseline", lambda model, policy=policy: policy), board.test)
        if board.test.pathwise:
            assert result.gap.min() >= -1e-9
        if board.test.oracle is not None:  # who sees the future needs no penalty
            assert (result.returns <= board.test.oracle + 1e-9).all()
        assert result.row.gap_usd == pytest.approx(result.gap.mean()) or board.test.units is not None
        assert result.row.gap_limit_usd >= result.row.gap_usd


@pytest.mark.parametrize("env_id", SMALL)
def test_scores_come_with_a_certificate_each(env_id, boards):
    board = boards(env_id)
    n = len(board.test.scenario[0])
    entry = Contestant("at random", "baseline", lambda model: random_policy(model, n, 1))
    if env_id == "V2G/PriceChain-v0":  # certificates of this family are of plans, which random actions have none of
        from baselines.price_chain.policies import TablePolicy, early_plan

        entry = Contestant("at random", "baseline", lambda model: TablePolicy(model, early_plan(model)))
    said = []
    results, certificates = score(board, [entry], said.append)
    assert len(results) == 1
    assert said == [f"evaluating at random on {board.test.title.lower()}"]
    assert len(certificates) == (board.bound is not None) + (board.certify is not None)
    from baselines.certificate import check

    for name, certificate in certificates.items():
        report = check(certificate, board.test.model.instance)
        assert report.claims, name


@pytest.mark.parametrize("make", [board_of, lambda *a, **k: world_of(a[0], {}, "generator", *a[3:], **k)])
@pytest.mark.parametrize(
    ("periods", "seed", "text"),
    [(0, 3, "days"), (10**9, 3, "days"), (2.5, 3, "days"), (True, 3, "days"), (3, -1, "seed"), (3, 2**63, "seed")],
)
def test_sizes_out_of_range_are_refused(make, periods, seed, text):
    with pytest.raises(InvalidInputError, match=text):
        make("V2G/ParkingLot-v0", {}, "generator", periods, seed)


def test_what_is_unknown_is_refused_and_what_is_known_is_named():
    for call in (problem_of, module_of, default_periods):
        with pytest.raises(InvalidInputError, match="V2G/PriceChain-v0"):
            call("V2G/Nothing-v0")
    with pytest.raises(InvalidInputError):
        board_of("V2G/ParkingLot-v0", {"bayz": 3})
    with pytest.raises(InvalidInputError):
        world_of("V2G/ParkingLot-v0", {}, "nobody's", 3, 3)
    with pytest.raises(InvalidInputError, match="beta"):
        board_of("V2G/ParkingLot-v0", beta=1.0)


@pytest.mark.parametrize("env_id", [each for each in SMALL if each != "V2G/ParkingLot-v0"])
def test_only_the_parking_lot_shows_a_plan(env_id):
    with pytest.raises(InvalidInputError, match="this environment shows no plan"):
        board_of(env_id, plan_kwh=PLAN)
    with pytest.raises(InvalidInputError, match="this environment shows no plan"):
        world_of(env_id, {}, "generator", 3, 3, PLAN)
    model, _ = world_of("V2G/ParkingLot-v0", {}, "generator", 3, 3, PLAN)
    assert model.plan_kwh.tolist() == PLAN


def test_more_periods_begin_with_the_same_ones():
    few, many = (world_of("V2G/PriceChain-v0", {}, "generator", n, 3)[1] for n in (5, 20))
    assert len(few[0]) == 5
    assert len(many[0]) == 20
    assert world_of("V2G/PriceChain-v0", {}, "generator", 5, 4)[1][0].shape == few[0].shape


def test_a_bundle_is_evaluated_as_any_other_policy(tmp_path):
    pytest.importorskip("stable_baselines3")
    from agents.bundle import load_bundle, save_bundle
    from agents.config import TrainConfig
    from agents.learners import build_model, policy_tensors
    from agents.vec_env import make_training

    config = TrainConfig.from_dict({"num_envs": 4, "hyperparameters": {"n_steps": 8, "batch_size": 32}})
    envs = make_training(config)
    save_bundle(tmp_path / "b", config, policy_tensors(build_model(config, envs), "ppo", envs.normaliser), 0)
    lines = evaluate_bundle(tmp_path / "b", periods=10, seed=5)
    model, days = world_of("V2G/ParkingLot-v0", config.env.instance, "generator", 10, 5)
    mean = rollout(model, days, load_bundle(tmp_path / "b")).returns.mean()
    assert lines[0].startswith(f"return    {mean:.2f} $/day")
    assert lines[1].startswith("gap")


# what lies between policies and bounds


def test_a_ladder_has_no_negative_rung_whatever_the_scenarios_luck(boards):
    board = boards("V2G/SharedBatteryAllocation-v0")
    n = len(board.test.scenario[0])
    entries = [
        Contestant("lazy", "baseline", lambda model: Recorded(np.zeros((n, model.steps), np.int64)), 0.5, "generator"),
        Contestant("random", "agent", lambda model: random_policy(model, n, 1)),
        Contestant("always", "baseline", lambda model: Recorded(np.ones((n, model.steps), np.int64))),
    ]
    results, _ = score(board, entries)
    lines = ladder_lines(board.test, results)
    best = min(results, key=lambda each: each.row.gap_usd).row
    assert lines[-1].startswith(f"certified gap of {best.policy}: {best.gap_usd:.2f} $/week")
    agent = next(each.row for each in results if each.row.kind == "agent")
    loss = f"learning loss of random: {agent.gap_usd - best.gap_usd:.2f} to {agent.gap_usd:.2f} $/week"
    assert loss in lines
    oracle = board.test.oracle.mean()
    wanted = f"{oracle - best.mean_usd - best.gap_usd:.2f} to {oracle - best.mean_usd:.2f}"
    assert f"value of information: {wanted} $/week" in lines


def test_a_bound_that_is_not_positive_gives_no_percentage(boards):
    board = boards("V2G/SharedBatterySizing-v0")
    test = replace(board.test, bound=np.zeros(len(board.test.bound)))
    n = len(test.scenario[0])
    result = evaluate(Contestant("random", "agent", lambda model: random_policy(model, n, 1)), test)
    assert math.isnan(result.row.gap_percent)
    text = "\n".join(ladder_lines(test, [result]) + result_lines(test, result.row))
    assert "nan" not in text
    assert "%" not in text.replace("95 %", "")
