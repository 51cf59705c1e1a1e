"""The drivers' cost game: exact by another formulation, never an empty core, proofs that cannot be forged."""

import copy
import json

import cvxpy as cp
import numpy as np
import pytest

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.games.coalitions import members_of
from baselines.games.core import stable
from baselines.games.properties import superadditive
from baselines.shared_battery.cost_game import cost_function, cost_game, owen_point, scenario_costs
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

LOT = Instance(drivers=4, own_usd_per_kwh=2.0)


@pytest.fixture(scope="module")
def made():
    return cost_game(LOT, 60, 3)


def program(lot, n_samples, seed, members):
    need = sample_days(lot, "generator", n_samples, seed).need_kwh[:, members]
    own, shared = cp.Variable(len(members)), cp.Variable(nonneg=True)
    short = cp.sum(cp.pos(need - own[None, :]), axis=1)
    rows = [short <= shared, own >= lot.own_min_kwh, own <= lot.own_max_kwh]
    cost = lot.shared_usd_per_kwh * shared + lot.own_usd_per_kwh * cp.sum(own)
    return cp.Problem(cp.Minimize(cost), rows).solve(solver=cp.CLARABEL)


def test_every_coalition_costs_what_an_independent_program_says(made):
    for mask in range(1, 16):
        true = program(LOT, 60, 3, list(members_of(mask)))
        assert made.game.lower[mask] - 1e-5 <= true <= made.game.upper[mask] + 1e-5
    assert (made.game.upper - made.game.lower).max() < 1e-5


def test_together_is_never_dearer_and_owens_point_is_in_the_core(made):
    assert superadditive(made.game) is None
    paid = owen_point(LOT, 60, 3)
    assert paid.sum() == pytest.approx(made.game.total, rel=1e-9)
    assert stable(made.game, paid).worst_usd < 1e-4
    assert stable(made.game, paid).word == "stable" or stable(made.game, paid).worst_usd < 1e-6


@pytest.mark.parametrize("own_price", [4.0, 5.0])
def test_where_own_batteries_are_no_cheaper_the_cost_is_that_of_the_largest_sum(own_price):
    lot = Instance(drivers=3, own_usd_per_kwh=own_price)
    game = cost_game(lot, 40, 5).game
    need = sample_days(lot, "generator", 40, 5).need_kwh
    for mask in range(1, 8):
        largest = need[:, list(members_of(mask))].sum(axis=1).max()
        assert game.values[mask] == pytest.approx(lot.shared_usd_per_kwh * largest, rel=1e-9)


def test_days_without_needs_and_a_least_battery_are_covered():
    lot = Instance(drivers=2, idle=0.999999, own_min_kwh=3.0)
    game = cost_game(lot, 5, 1).game
    assert game.total == pytest.approx(2 * 3.0 * lot.own_usd_per_kwh, rel=1e-9)


def test_the_function_of_many_drivers_is_the_table_and_chunks_may_be_spread(made):
    function = cost_function(LOT, 60, 3)
    for mask in (1, 6, 15):
        members = np.array([mask >> i & 1 for i in range(4)], bool)
        assert function(members) == pytest.approx(made.game.values[mask], rel=1e-9)
    spread = cost_game(LOT, 60, 3, lambda task, chunks: [task(chunk) for chunk in reversed(list(chunks))][::-1])
    assert np.array_equal(spread.game.values, made.game.values)


def test_scenario_costs_are_those_of_each_season():
    table = scenario_costs(LOT, 10, 3, 8)
    need = sample_days(LOT, "generator", 30, 8).need_kwh
    assert table.shape == (3, 16) and not table[:, 0].any()
    own, shared = cp.Variable(4), cp.Variable(nonneg=True)
    rows = [cp.sum(cp.pos(need[10:20] - own[None, :]), axis=1) <= shared, own >= 0, own <= LOT.own_max_kwh]
    cost = LOT.shared_usd_per_kwh * shared + LOT.own_usd_per_kwh * cp.sum(own)
    assert table[1, 15] == pytest.approx(cp.Problem(cp.Minimize(cost), rows).solve(solver=cp.CLARABEL), rel=1e-5)


def test_the_certificate_holds_and_names_the_table(made):
    report = check(json.loads(json.dumps(made.certificate)), LOT)
    assert report.values["total_usd"] == made.game.total


def lowered(packed):
    return pack(unpack(packed) * 0.99)


def raised(packed):
    table = unpack(packed).copy()
    table[3] *= 1.01
    return pack(table)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("upper", lowered),
        ("lower", raised),
        ("weights", lambda packed: pack(-unpack(packed))),
        ("own", lambda packed: pack(unpack(packed) + 200.0)),
        ("own", lowered),
        ("days", lambda packed: pack(unpack(packed) + 1000)),
        ("counts", lambda packed: pack(np.ones(16, np.int64))),
        ("table_sha256", lambda text: text[::-1]),
        ("sample", lambda sample: {**sample, "seed": 4}),
        ("sample", lambda sample: {**sample, "n_samples": 10**6 + 1}),
        ("players", lambda names: names[:-1]),
    ],
)
def test_a_certificate_with_a_changed_entry_is_refused(made, field, change):
    data = copy.deepcopy(json.loads(json.dumps(made.certificate)))
    data[field] = change(data[field])
    with pytest.raises(CertificateError):
        check(data)


def test_wrong_input_is_named():
    with pytest.raises(InvalidInputError, match="drivers"):
        cost_game(Instance(drivers=21))
    with pytest.raises(InvalidInputError, match="n_samples"):
        cost_game(LOT, 0)
    with pytest.raises(InvalidInputError, match="drivers"):
        scenario_costs(Instance(drivers=13), 5, 5, 0)
