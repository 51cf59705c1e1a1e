"""The prosumers' profit game: linear programs agree, the core is never empty, forged certificates are refused."""

import copy
import json

import cvxpy as cp
import numpy as np
import pytest

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.games.coalitions import members_of
from baselines.games.core import least_core, stable
from baselines.games.properties import superadditive
from baselines.parking_lot.profit_game import profit_game
from baselines.parking_lot.prosumers import Prosumers, certain_capacity, draw_prosumers
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance

LOT = Instance()
CROWD = draw_prosumers(4, 3)
MADE = {}


def made(owner="prosumers"):
    if owner not in MADE:
        MADE[owner] = profit_game(LOT, CROWD, 50, 2, owner)
    return MADE[owner]


def alone_cost(lot, net):
    return lot.step_h * float((lot.buy * (np.maximum(-net, 0.0) - lot.sell_fraction * np.maximum(net, 0.0))).sum())


def program(lot, crowd, members, share, samples, seed):
    """Least cost of pooled members with a part of the storage, as a linear program of its own."""
    energy, power = certain_capacity(lot, samples, seed)
    net = crowd.net_kw(lot)[list(members)].sum(axis=0)
    steps = lot.steps
    u, v, buy, sell = (cp.Variable(steps, nonneg=True) for _ in range(4))
    x = lot.step_h * cp.cumsum(lot.efficiency * u - v / lot.efficiency)
    rows = [x >= 0, x[-1] == 0, x <= share * energy, u <= share * power, v <= share * power, buy - sell == u - v - net]
    cost = lot.step_h * (lot.buy @ (buy - lot.sell_fraction * sell) + lot.wear_usd_per_kwh * cp.sum(u + v))
    return cp.Problem(cp.Minimize(cost), rows).solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("owner", ["prosumers", "manager"])
def test_every_coalition_is_worth_what_a_linear_program_saves(owner):
    game = made(owner).game
    for mask in range(1, 1 << game.n):
        members = members_of(mask)
        crew = [i for i in members if i < CROWD.n]
        share = CROWD.storage[crew].sum() if owner == "prosumers" else float(CROWD.n in members)
        alone = sum(alone_cost(LOT, CROWD.net_kw(LOT)[i]) for i in crew)
        cost = program(LOT, CROWD, crew, share, 50, 2) if crew else program(LOT, CROWD, [], share, 50, 2)
        assert game.lower[mask] - 1e-4 <= alone - cost <= game.upper[mask] + 1e-4
    assert (game.upper - game.lower).max() < 1e-2


@pytest.mark.parametrize("owner", ["prosumers", "manager"])
def test_pooling_pays_and_the_core_is_not_empty(owner):
    game = made(owner).game
    assert superadditive(game) is None or superadditive(game).usd < 1e-3  # plans are within a fraction of a cent
    assert least_core(game).excess_usd <= 1e-3
    assert stable(game, least_core(game).payments).sure_usd < 1e-3


def test_prosumers_all_alike_in_their_nets_gain_nothing_by_netting():
    even = Prosumers(*(np.full(3, 1 / 3) for _ in range(3)))
    game = profit_game(LOT, even, 20, 1).game
    np.testing.assert_allclose(
        game.values[1:] / game.values[-1], [1 / 3, 1 / 3, 2 / 3, 1 / 3, 2 / 3, 2 / 3, 1.0], rtol=1e-5
    )


@pytest.mark.parametrize("owner", ["prosumers", "manager"])
def test_certificates_hold(owner):
    report = check(json.loads(json.dumps(made(owner).certificate)), LOT)
    assert report.values["total_usd"] == pytest.approx(made(owner).game.total)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("values", lambda packed: pack(unpack(packed) * 1.01)),
        ("upper", lambda packed: pack(unpack(packed) * 0.99)),
        ("plans_kwh", lambda packed: pack(unpack(packed) * 1.5)),
        ("plans_kwh", lambda packed: pack(unpack(packed) + 0.1)),
        ("plans_kwh", lambda packed: pack(unpack(packed)[:, ::-1].copy())),
        ("storage", lambda packed: pack(np.full(4, 0.25))),
        ("owner", "manager"),
        ("sample", lambda sample: {**sample, "seed": 9}),
        ("table_sha256", "0"),
        ("pv", lambda packed: pack(unpack(packed) * 2)),
    ],
)
def test_a_certificate_with_a_changed_entry_is_refused(field, change):
    data = copy.deepcopy(json.loads(json.dumps(made().certificate)))
    data[field] = change(data[field]) if callable(change) else change
    with pytest.raises(CertificateError):
        check(data)


def test_wrong_input_is_named():
    with pytest.raises(InvalidInputError, match="prosumers"):
        profit_game(LOT, draw_prosumers(16, 1), 10)
    with pytest.raises(InvalidInputError, match="owner"):
        profit_game(LOT, CROWD, 10, owner="city")
    with pytest.raises(InvalidInputError, match="sum of pv"):
        Prosumers(np.array([0.5, 0.6]), np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    with pytest.raises(InvalidInputError, match="prosumers"):
        draw_prosumers(0, 1)
