"""Prosumers and manager: energy is conserved, money changes hands, and nobody beats the bound of storing together."""

import numpy as np
import pytest

from baselines.parking_lot.samples import openable
from baselines.parking_lot.storage import Market, bound, solve_paths
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.party import ParkingLotParties

LOT = Instance(gate_closure_steps=0)


def played(model, policy, n=20, seed=0):
    scenario = model.draw([np.random.default_rng(seed + i) for i in range(n)])
    state = model.initial(scenario)
    steps = []
    for _ in range(model.steps):
        actions = policy(model, scenario, state)
        after, money, facts = model.step(scenario, state, actions)
        steps.append((state, after, money, facts))
        state = after
    return scenario, steps


def random_policy(seed):
    rng = np.random.default_rng(seed)

    def act(model, scenario, state):
        return {role.name: rng.uniform(-1, 1, (len(state.t), role.players, 1)) for role in model.roles}

    return act


def store_and_take(model, scenario, state):
    """Store every surplus while the sun shines, take it back in the dear hours."""
    evening = state.t >= 8
    wish = np.where(evening[:, None, None], -1.0, 1.0) * np.ones((len(state.t), model.roles[1].players, 1))
    return {"manager": np.zeros((len(state.t), 1, 1)), "prosumer": wish}


@pytest.mark.parametrize("policy", [random_policy(1), store_and_take])
def test_energy_is_where_the_money_says(policy):
    model = ParkingLotParties(LOT)
    scenario, steps = played(model, policy)
    eta, buy = LOT.efficiency, LOT.buy
    for t, (state, after, money, facts) in enumerate(steps):
        capacity = scenario.capacity_kwh[:, t] if t < LOT.steps - 1 else np.zeros(20)
        assert (after.stored_kwh.sum(axis=1) <= capacity + 1e-9).all() and (after.stored_kwh >= 0.0).all()
        np.testing.assert_allclose(facts[:, 4], capacity)
        stored = -money["prosumer"][..., 1] / np.maximum(state.fee[:, None] * buy[t], 1e-12)  # fee / its price
        taken = money["prosumer"][..., 0] / buy[t] + LOT.sell_fraction * stored
        lost = money["prosumer"][..., 2] / LOT.imbalance_usd_per_kwh
        known = state.fee > 1e-6
        change = after.stored_kwh - state.stored_kwh
        np.testing.assert_allclose(change[known], (eta * stored - taken / eta - lost)[known], atol=1e-6)
        np.testing.assert_allclose(facts[:, 1], lost.sum(axis=1), atol=1e-9)


@pytest.mark.parametrize("policy", [random_policy(2), store_and_take])
def test_fees_and_compensation_only_change_hands(policy):
    _, steps = played(ParkingLotParties(LOT), policy)
    for _, _, money, _ in steps:
        np.testing.assert_allclose(money["manager"][:, 0, 0], -money["prosumer"][..., 1].sum(axis=1))
        np.testing.assert_allclose(money["manager"][:, 0, 2], -money["prosumer"][..., 2].sum(axis=1))


@pytest.mark.parametrize("policy", [random_policy(3), store_and_take])
def test_together_they_never_earn_more_than_a_planner_who_knows_the_day(policy):
    model = ParkingLotParties(LOT)
    scenario, steps = played(model, policy)
    total = sum(sum(part.sum(axis=(1, 2)) for part in money.values()) for _, _, money, _ in steps)
    net = np.stack([model.net_kw(scenario, np.full(20, t)) for t in range(LOT.steps)], axis=2)
    pooled = net.sum(axis=1)
    netting = (np.maximum(net, 0.0).sum(axis=1) - np.maximum(pooled, 0.0)) * (1.0 - LOT.sell_fraction) * LOT.step_h
    joint = LOT.replace(fee_fraction=LOT.sell_fraction, return_fraction=1.0)
    market = Market(LOT.buy, np.maximum(pooled, 0.0), np.maximum(-pooled, 0.0))
    capacity = openable(LOT, scenario.capacity_kwh[:, :-1])
    path = solve_paths(joint, market, capacity)
    top = netting @ LOT.buy + bound(joint, market, capacity, None, path.multiplier)
    assert (total <= top + 1e-9).all()
    assert total.max() > 0.1 * top.max() or policy is not store_and_take


def test_prosumers_shares_are_those_of_the_community():
    model = ParkingLotParties(LOT, prosumers=4)
    scenario = model.draw([np.random.default_rng(1)])
    for t in range(LOT.steps):
        net = model.net_kw(scenario, np.array([t])).sum()
        assert net == pytest.approx(scenario.surplus_kw[0, t] - scenario.deficit_kw[0, t], abs=1e-9)


def test_no_prosumers_are_refused():
    with pytest.raises(InvalidInputError, match="prosumers"):
        ParkingLotParties(LOT, prosumers=0)
