"""A scene says what its board says, for every environment that has a scenario set."""

from types import SimpleNamespace

import numpy as np
import pytest

from agents import shared_battery, stackelberg
from agents.boards import board_of
from agents.compare import Contestant, evaluate
from agents.leaderboard_entries import baselines_of
from agents.leaderboard_sets import BETA, BOARD_SETS, BoardSet, scene_of
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout


def test_every_environment_with_a_board_has_one_set_and_baselines():
    ids = [each.env_id for each in BOARD_SETS]
    assert len(set(ids)) == len(ids) == 7
    assert len({each.seed for each in BOARD_SETS}) == 7
    with pytest.raises(InvalidInputError, match="environment"):
        baselines_of("V2G/ParkingLotBays-v0", None)


@pytest.mark.parametrize(
    ("env_id", "periods"),
    [
        ("V2G/ParkingLot-v0", 20),
        ("V2G/PriceChain-v0", 20),
        ("V2G/SharedBatteryAllocation-v0", 2),
        ("V2G/SharedBatteryAllocationPartial-v0", 2),
        ("V2G/SharedBatterySizing-v0", 2),
        ("V2G/Scheduling-v0", 1),
        ("V2G/Stackelberg-v0", 30),
    ],
)
def test_a_scene_says_what_the_board_says(env_id, periods, monkeypatch):
    # bounds of these take long, and a scene has none
    lofty = SimpleNamespace(bound_usd=np.full(2, 1e9), prices=None)
    monkeypatch.setattr(shared_battery, "_penalised", lambda *_: ({"bound": lofty.bound_usd}, {}))
    months = SimpleNamespace(bound_usd=np.full((1, 30), 1e9))
    monkeypatch.setattr(stackelberg, "online_bound", lambda *_, **__: months)
    monkeypatch.setattr(stackelberg, "bound_certificate", lambda *_: {})
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
