"""A utility and the aggregators of its network: who sets what, who pays whom, one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import number
from v2g_env.party_model import Role
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.kernels import State
from v2g_env.scheduling.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.scheduling.scenario import Law, Scenario

__all__ = ["AGGREGATOR_TERMS", "UTILITY_TERMS", "PartyState", "SchedulingParties"]

Floats = NDArray[np.float64]

UTILITY_TERMS = ("reference", "gas", "wind", "subsidy", "emergency", "overload", "tariff")
AGGREGATOR_TERMS = ("wear", "tariff")


class PartyState(NamedTuple):
    """The network's state, the coming step's tariff (n,) [$/kWh], and the aggregators' last powers (n, a) [kW]."""

    network: State
    tariff: Floats
    power_kw: Floats


class SchedulingParties:
    """Batched days of the network in which the utility and every aggregator decide for themselves.

    The physics is that of Model: the utility sets the generator and how much of the cars' bands settles imbalance,
    each aggregator the power of his cars; cars always leave with what they want. The utility posts a tariff for the
    next step, which aggregators pay for every kWh they take and get for every kWh they give. All money but the tariff
    is that of Model, so what all earn together is the reward of the network's environment for the same actions.

    Args:
        instance: the network.
        source: the law of the days, or its name.
        tariff_max: highest tariff [$/kWh].
    """

    facts: tuple[str, ...] = FACTS
    tolerance = VIOLATION_TOLERANCE

    def __init__(self, instance: Instance, source: Law | str = "generator", tariff_max: float = 1.0) -> None:
        number("tariff_max", tariff_max, 0.0, 1e6, open_low=True)
        self.network = Model(instance, source)
        self.instance, self.tariff_max, self.steps = instance, float(tariff_max), instance.steps
        layout, high = self.network.observation_layout, self.network.observation_high
        block = layout["aggregators"]
        self._common = np.setdiff1d(np.arange(len(high)), np.arange(block.start, block.stop))
        self._own = np.arange(block.start, block.stop).reshape(instance.aggregators, -1)
        own_high = high[self._own].max(axis=0)
        one = np.ones(1, np.float32)
        member = np.concatenate([own_high, one, one, high[self._common]])
        self.roles: tuple[Role, ...] = (
            Role("utility", 1, 3, np.concatenate([high, one]), UTILITY_TERMS),
            Role("aggregator", instance.aggregators, 1, member, AGGREGATOR_TERMS),
        )

    def draw(self, generators: Sequence[np.random.Generator]) -> Scenario:
        """Draw one day from each generator."""
        return self.network.draw(generators)

    def initial(self, scenario: Scenario) -> PartyState:
        """The day's start, at half the highest tariff."""
        n = len(scenario.load_kw)
        tariff = np.full(n, 0.5 * self.tariff_max)
        return PartyState(self.network.initial(scenario), tariff, np.zeros((n, self.instance.aggregators)))

    def joint(self, actions: Mapping[str, Floats]) -> Floats:
        """(n, 2 + aggregators) actions of the network's environment that those of all parties mean."""
        utility = actions["utility"][:, 0]
        return np.concatenate([utility[:, :1], actions["aggregator"][..., 0], utility[:, 1:2]], axis=1)

    def step(
        self, scenario: Scenario, state: PartyState, actions: Mapping[str, Floats]
    ) -> tuple[PartyState, dict[str, Floats], Floats]:
        """All set-points at once, then one step of the network.

        Money of the utility: that of the network but wear, and the tariff's; of an aggregator: wear of his cars, and
        the tariff's, in the order of UTILITY_TERMS and AGGREGATOR_TERMS. Facts as Model.step.
        """
        lot = self.instance
        after, money, facts = self.network.step(scenario, state.network, self.joint(actions))
        change = (after.energy_kwh - state.network.energy_kwh) / lot.step_h
        power = np.where(change > 0.0, change / lot.efficiency, change * lot.efficiency)
        owner = np.eye(lot.aggregators)[lot.owner]
        taken = power @ owner  # (n, aggregators)
        given = np.maximum(-power, 0.0) @ owner
        bill = state.tariff[:, None] * taken * lot.step_h
        wear = -lot.wear_usd_per_kwh * given * lot.step_h
        kept = [REWARD_TERMS.index(name) for name in UTILITY_TERMS[:-1]]
        utility = np.concatenate([money[:, kept], bill.sum(axis=1, keepdims=True)], axis=1)[:, None]
        tariff = 0.5 * (actions["utility"][:, 0, 2] + 1.0) * self.tariff_max
        following = PartyState(after, tariff, taken)
        return following, {"utility": utility, "aggregator": np.stack([wear, -bill], axis=-1) + 0.0}, facts

    def observe(self, scenario: Scenario, state: PartyState) -> dict[str, NDArray[np.float32]]:
        """The utility sees the network's observation and its tariff, an aggregator his part of it and what is common.

        Common are the coming step's tariff, the power of all cars in the last one, last load and wind, forecasts and
        calendar.
        """
        seen = self.network.observe(scenario, state.network)
        n, lot = len(seen), self.instance
        tariff = (state.tariff / self.tariff_max).astype(np.float32)[:, None]
        most = lot.charger_kw * max(lot.cars, 1)
        moved = (0.5 + 0.5 * state.power_kw.sum(axis=1) / most).astype(np.float32)[:, None]
        common = np.concatenate([tariff, moved, seen[:, self._common]], axis=1)
        shape = (n, lot.aggregators, common.shape[1])
        member = np.concatenate([seen[:, self._own], np.broadcast_to(common[:, None], shape)], axis=2)
        high = self.roles[1].observation_high
        return {
            "utility": np.concatenate([seen, tariff], axis=1)[:, None],
            "aggregator": np.clip(member, 0.0, high).astype(np.float32),
        }
