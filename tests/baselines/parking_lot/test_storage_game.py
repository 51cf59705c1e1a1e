"""The storage game: best responses, the variational equilibrium by two roads, epsilons that hold, closed forms."""

import copy
import json

import cvxpy as cp
import numpy as np
import pytest

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.games.variational import extragradient
from baselines.parking_lot.prosumers import draw_prosumers
from baselines.parking_lot.storage_bounds import StorageGame, response_bounds, total_bound
from baselines.parking_lot.storage_game import by_gradients, certified, equilibrium, social_optimum, storage_game
from baselines.parking_lot.verify_storage_game import certificate_of
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance


def small(n=3, steps=4, capacity=5.0, seed=0):
    rng = np.random.default_rng(seed)
    return StorageGame(
        net_kw=rng.normal(0.0, 3.0, (n, steps)),
        power_kw=rng.uniform(1.0, 4.0, (n, steps)),
        capacity_kwh=np.append(np.full(steps - 1, capacity), 0.0),
        price=rng.uniform(0.1, 0.5, steps),
        slope=0.02,
        wear=0.01,
        efficiency=0.9,
        step_h=1.0,
    )


def best_response(game, i, u, v):
    """Cost of prosumer i's best answer, by cvxpy."""
    steps = game.net_kw.shape[1]
    own_u, own_v = cp.Variable(steps, nonneg=True), cp.Variable(steps, nonneg=True)
    q = game.taken_kw(u, v)
    others = q.sum(axis=0) - q[i]
    mine = own_u - own_v - game.net_kw[i]
    x = game.step_h * cp.cumsum(game.efficiency * own_u - own_v / game.efficiency)
    stored = game.stored_kwh(u, v)
    room = np.maximum(game.capacity_kwh - (stored.sum(axis=0) - stored[i]), np.maximum(stored[i], 0.0))
    cost = (
        (game.price + game.slope * others) @ mine
        + game.slope * cp.sum_squares(mine)
        + game.wear * cp.sum(own_u + own_v)
    )
    rows = [own_u <= game.power_kw[i], own_v <= game.power_kw[i], x >= 0, x[-1] == 0, x <= room]
    return cp.Problem(cp.Minimize(game.step_h * cost), rows).solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("seed", range(4))
def test_epsilon_is_what_an_independent_best_response_saves(seed):
    game = small(seed=seed)
    for found in (equilibrium(game), social_optimum(game).plan, certified(game, *np.zeros((2, 3, 4)))):
        u, v = found.charge_kw, found.discharge_kw
        saved = [found.costs_usd[i] - best_response(game, i, u, v) for i in range(3)]
        np.testing.assert_allclose(found.epsilon_usd, np.maximum(saved, 0.0), atol=2e-6)
        assert (found.epsilon_usd >= np.array(saved) - 1e-6).all()


@pytest.mark.parametrize(("n", "steps", "seed"), [(2, 3, 0), (2, 3, 1), (3, 4, 2)])
def test_extragradient_finds_the_same_equilibrium_as_the_potential(n, steps, seed):
    game = small(n=n, steps=steps, seed=seed)
    by_steps, solved = by_gradients(game, 1e-5, 2000)
    assert solved.converged and solved.residual <= 1e-5
    by_potential = equilibrium(game)
    np.testing.assert_allclose(by_steps.costs_usd, by_potential.costs_usd, atol=1e-3)
    taken = [each.charge_kw - each.discharge_kw for each in (by_steps, by_potential)]
    np.testing.assert_allclose(*taken, atol=5e-3)
    assert by_steps.epsilon_usd.max() < 1e-4
    short, few = by_gradients(game, 1e-12, 1)
    assert not few.converged and short.epsilon_usd.max() >= by_steps.epsilon_usd.max()


def test_gradients_are_slopes_of_the_costs():
    game, rng = small(), np.random.default_rng(1)
    u, v = rng.uniform(0, 1, (2, 3, 4))
    by_u, by_v = game.gradient(u, v)
    for i, t in ((0, 0), (2, 3)):
        for k, slope in ((0, by_u), (1, by_v)):
            moved = [u.copy(), v.copy()]
            moved[k][i, t] += 1e-6
            change = (game.costs_usd(*moved) - game.costs_usd(u, v))[i] / 1e-6
            assert change == pytest.approx(slope[i, t], abs=1e-5)


def test_symmetric_prosumers_without_limits_follow_the_closed_form():
    # two steps, no losses, no wear: everybody shifts d from the dear to the cheap step until own marginal prices meet:
    # p1 + a (n + 1) (d + l1) = p2 + a (n + 1) (l2 - d), with equal loads l1 and l2
    n, a, p, load = 4, 0.01, np.array([0.1, 0.5]), np.array([2.0, 5.0])
    game = StorageGame(-np.tile(load, (n, 1)), np.full((n, 2), 50.0), np.array([1e3, 0.0]), p, a, 0.0, 1.0, 1.0)
    found = equilibrium(game)
    shift = 0.5 * ((p[1] - p[0]) / (a * (n + 1)) + load[1] - load[0])
    np.testing.assert_allclose(found.charge_kw[:, 0] - found.discharge_kw[:, 0], shift, rtol=1e-5)
    best = social_optimum(game).plan  # the community's marginal price has 2 n in place of n + 1
    shift = 0.5 * ((p[1] - p[0]) / (a * 2 * n) + load[1] - load[0])
    np.testing.assert_allclose((best.charge_kw - best.discharge_kw)[:, 0].sum(), n * shift, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_competition_never_beats_the_social_optimum_and_alone_there_is_none(seed):
    game = small(seed=seed)
    best = social_optimum(game)
    assert equilibrium(game).costs_usd.sum() >= best.bound_usd
    assert 0.0 <= best.plan.costs_usd.sum() - best.bound_usd < 1e-5
    alone = small(n=1, seed=seed)
    np.testing.assert_allclose(equilibrium(alone).costs_usd, social_optimum(alone).plan.costs_usd, atol=1e-6)


def total_cost(game):
    """Least total cost, by cvxpy."""
    shape = game.net_kw.shape
    u, v = cp.Variable(shape, nonneg=True), cp.Variable(shape, nonneg=True)
    x = game.step_h * cp.cumsum(game.efficiency * u - v / game.efficiency, axis=1)
    q = cp.sum(u - v - game.net_kw, axis=0)
    rows = [u <= game.power_kw, v <= game.power_kw, x >= 0, x[:, -1] == 0, cp.sum(x, axis=0) <= game.capacity_kwh]
    cost = game.price @ q + game.slope * cp.sum_squares(q) + game.wear * cp.sum(u + v)
    return cp.Problem(cp.Minimize(game.step_h * cost), rows).solve(solver=cp.CLARABEL)


@pytest.mark.parametrize("seed", range(4))
def test_any_multipliers_bound_the_total_cost_and_the_programs_reach_it(seed):
    game, rng = small(seed=seed), np.random.default_rng(seed)
    true, best = total_cost(game), social_optimum(game)
    assert best.bound_usd == pytest.approx(true, abs=1e-5) and best.bound_usd <= true + 1e-6
    for _ in range(20):
        wild = [part + rng.normal(0.0, 0.2, part.shape) for part in (best.taken, best.stored, best.limit)]
        assert total_bound(game, *wild) <= true + 1e-7


def test_any_multipliers_give_a_bound():
    game, rng = small(), np.random.default_rng(2)
    found = equilibrium(game)
    u, v = found.charge_kw, found.discharge_kw
    true = np.array([best_response(game, i, u, v) for i in range(3)])
    for _ in range(20):
        wild = rng.normal(0.0, 0.3, found.multipliers.shape)
        assert (response_bounds(game, u, v, wild) <= true + 1e-7).all()


LOT, CROWD = Instance(), draw_prosumers(3, 1)


def certificate():
    game = storage_game(LOT, CROWD, 1e-3, 40, 2)
    return json.loads(
        json.dumps(certificate_of(LOT, CROWD, 40, 2, game, equilibrium(game), social_optimum(game), "equilibrium"))
    )


def test_the_certificate_holds_with_a_tiny_epsilon():
    report = check(certificate(), LOT)
    assert report.values["epsilon_usd"] < 1e-5


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("epsilon_usd", 0.0),
        ("optimum_usd", lambda value: value + 1.0),
        ("optimum", lambda part: {k: pack(np.full_like(unpack(p), 1e160)) for k, p in part.items()}),
        ("multipliers", lambda packed: pack(np.full_like(unpack(packed), 1e305))),
        ("kind_of_plan", "the one and only best plan"),
        ("optimum", lambda part: {**part, "taken": part["limit"]}),
        ("slope", 2e-3),
        ("slope", -1.0),
        ("charge_kw", lambda packed: pack(unpack(packed) * 1.1)),
        ("charge_kw", lambda packed: pack(np.zeros((3, 13)))),
        ("multipliers", lambda packed: pack(unpack(packed) * 0.5)),
        ("costs_usd", lambda packed: pack(unpack(packed) - 1.0)),
        ("crowd", lambda crowd: {**crowd, "pv": crowd["load"]}),
        ("sample", lambda sample: {**sample, "law": "days:jpl-2019/fit"}),
    ],
)
def test_a_certificate_with_a_changed_entry_is_refused(field, change):
    data = copy.deepcopy(certificate())
    data[field] = change(data[field]) if callable(change) else change
    with pytest.raises(CertificateError):
        check(data)


def test_wrong_input_is_named():
    game = small()
    for wrong, field in (
        ({"slope": 0.0}, "slope"),
        ({"capacity_kwh": np.full(4, -1.0)}, "capacity_kwh"),
        ({"efficiency": 1.5}, "efficiency"),
        ({"net_kw": np.full((3, 4), np.nan)}, "net_kw"),
        ({"power_kw": np.zeros((2, 4))}, "power_kw"),
    ):
        with pytest.raises(InvalidInputError, match=field):
            equilibrium(game._replace(**wrong))
    with pytest.raises(InvalidInputError, match="stored energy"):
        certified(game, np.full((3, 4), 0.5), np.zeros((3, 4)))
    with pytest.raises(InvalidInputError, match="operator"):
        extragradient(lambda y: np.full(2, np.nan), lambda y: y, np.zeros(2))
    with pytest.raises(InvalidInputError, match="tolerance"):
        extragradient(lambda y: y, lambda y: y, np.zeros(2), 0.0)


def test_extragradient_solves_a_rotation_where_gradient_steps_circle():
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    found = extragradient(lambda y: turn @ y, lambda y: np.clip(y, -1.0, 1.0), [1.0, 0.5], 1e-10)
    assert found.converged and np.abs(found.point).max() < 1e-9
    short = extragradient(lambda y: turn @ y, lambda y: np.clip(y, -1.0, 1.0), [1.0, 0.5], 1e-10, most=3)
    assert not short.converged and short.residual > 1e-10
