"""A value network as a critic: dollars from observations, frozen in tables, and a valid bound however bad it is."""

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.normaliser import Normaliser
from agents.value_critic import ValueCritic
from baselines.price_chain.penalty import penalised as chain_bound
from baselines.price_chain.penalty import tabulated
from baselines.shared_battery.penalty import penalised, penalty_of
from baselines.shared_battery.penalty_fit import frozen_critic
from baselines.shared_battery.policies import FirstCome
from v2g_env import price_chain, shared_battery
from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import sample_days
from v2g_env.rollout import rollout
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import sample_weeks


def network(model, seed=0):
    """An untrained actor-critic policy."""
    torch.manual_seed(seed)
    size = len(model.observation_high)
    space = gymnasium.spaces.Box(-1.0, 10.0, (size,), np.float32)
    return ActorCriticPolicy(space, gymnasium.spaces.Discrete(model.choices), lambda _: 1e-3, net_arch=[8])


def test_values_are_the_networks_own_in_dollars_and_normalised_as_in_training():
    model = WeekModel(shared_battery.Instance(drivers=4, week_days=2))
    policy = network(model)
    seen = np.random.default_rng(1).random((9, 16), np.float32)
    plain = policy.predict_values(torch.from_numpy(seen)).detach().numpy()[:, 0]
    np.testing.assert_allclose(ValueCritic(policy, None, 10.0).values(seen), 10.0 * plain, rtol=1e-5)
    normaliser = Normaliser(16)
    normaliser.update(3.0 * seen + 1.0)
    other = policy.predict_values(torch.from_numpy(normaliser(seen))).detach().numpy()[:, 0]
    np.testing.assert_allclose(ValueCritic(policy, normaliser).values(seen), other, rtol=1e-5)
    assert np.abs(other - plain).max() > 1e-3
    seen[3, 2] = np.nan
    with pytest.raises(InvalidInputError, match="observation"):
        ValueCritic(policy).values(seen)
    with pytest.raises(InvalidInputError, match="predict_values"):
        ValueCritic(FirstCome(model))


def test_an_untrained_network_is_frozen_and_still_bounds_every_policy():
    model = WeekModel(shared_battery.Instance(drivers=4, week_days=2))
    train, weeks = (sample_weeks(model.instance, "generator", 20, seed) for seed in (2, 3))
    critic = frozen_critic(model, ValueCritic(network(model), None, 50.0), train, 10)
    assert np.ptp(critic.worth_usd) > 1.0
    actions = rollout(model, weeks, FirstCome(model))
    less = actions.returns - penalty_of(model, weeks, actions.actions, critic, 100, 20)
    assert (penalised(model, weeks, critic, 100, 20).bound_usd >= less).all()
    assert np.abs(actions.returns - less).max() > 1.0


def test_a_network_is_tabulated_on_the_states_of_the_price_chain():
    model = Model(price_chain.Instance(steps=4, price_levels=3, energy_levels=5, start_level=1, target_level=3))
    critic = ValueCritic(network(model), None, 5.0)
    table = tabulated(model, critic)
    days = sample_days(model.instance, "generator", 6, 1)
    first = critic.values(model.observe(days, model.initial(days)))
    np.testing.assert_allclose(table[0, days.level[:, 0], 1, 1, 0], first, rtol=1e-5)
    assert np.isfinite(chain_bound(model, days, table).bound_usd).all()
