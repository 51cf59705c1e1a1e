"""Utility and aggregators: all money together is the network's, tariffs only change hands."""

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.party import AGGREGATOR_TERMS, UTILITY_TERMS, SchedulingParties
from v2g_env.scheduling.scenario import sample

LOT = Instance(subsidy_usd_per_kwh=0.02)


def test_all_together_earn_the_reward_of_the_networks_environment():
    parties, network = SchedulingParties(LOT), Model(LOT)
    days = sample(LOT, network.law, 3, 5)
    state, alone = parties.initial(days), network.initial(days)
    rng = np.random.default_rng(0)
    for _ in range(LOT.steps):
        actions = {role.name: rng.uniform(-1, 1, (3, role.players, role.action_size)) for role in parties.roles}
        state, money, facts = parties.step(days, state, actions)
        alone, true, known = network.step(days, alone, parties.joint(actions))
        total = money["utility"].sum(axis=(1, 2)) + money["aggregator"].sum(axis=(1, 2))
        np.testing.assert_allclose(total, true.sum(axis=1), atol=1e-8)
        np.testing.assert_array_equal(facts, known)
        tariff = money["utility"][..., UTILITY_TERMS.index("tariff")].sum(axis=1)
        np.testing.assert_allclose(tariff, -money["aggregator"][..., AGGREGATOR_TERMS.index("tariff")].sum(axis=1))


def test_the_tariff_is_that_posted_one_step_before():
    parties = SchedulingParties(LOT, tariff_max=0.8)
    days = sample(LOT, parties.network.law, 1, 2)
    state = parties.initial(days)
    actions = {"utility": np.array([[[0.0, 0.0, 1.0]]]), "aggregator": np.ones((1, 6, 1))}
    for tariff in (0.4, 0.8):
        assert state.tariff[0] == pytest.approx(tariff)
        before = state
        state, money, _ = parties.step(days, state, actions)
        bill = -money["aggregator"][0, :, 1]
        np.testing.assert_allclose(bill, before.tariff[0] * state.power_kw[0] * LOT.step_h)


def test_an_aggregator_sees_his_own_cars_and_not_those_of_others():
    parties = SchedulingParties(LOT)
    days = sample(LOT, parties.network.law, 1, 2)
    state = parties.initial(days)
    for _ in range(30):
        idle = {role.name: np.zeros((1, role.players, role.action_size)) for role in parties.roles}
        state, _, _ = parties.step(days, state, idle)
    seen = parties.observe(days, state)["aggregator"][0]
    network = parties.network.observe(days, state.network)[0]
    energy = network[parties.network.columns("energy")]
    np.testing.assert_allclose(seen[:, 1], energy)


def test_wrong_tariffs_are_refused():
    with pytest.raises(InvalidInputError, match="tariff_max"):
        SchedulingParties(LOT, tariff_max=0.0)
