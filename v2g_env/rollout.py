"""Carry a policy through given scenarios: the one evaluator of every policy, learned or not."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.batch_model import check_actions
from v2g_env.core.policy import Policy
from v2g_env.core.validate import require

__all__ = ["Episodes", "Recorded", "rollout"]

Floats = NDArray[np.float64]


class Episodes(NamedTuple):
    """What a policy did and earned; n episodes of T steps.

    Attributes:
        money: (n, terms) sum of every reward term [$].
        excess: (n,) largest scaled violation f of the episode, the first of the facts.
        shortfall_kwh: (n,) energy promised and not there, the second of the facts.
        actions: (n, T, k) float32, or (n, T) int32 numbers of choices.
        facts: (n, T, facts) facts of every step.
        decision_s: mean wall time of a decision per episode and step [s], batched calls.
        rewards: (n, T) sum of all terms of every step [$].
    """

    money: Floats
    excess: Floats
    shortfall_kwh: Floats
    actions: NDArray[Any]
    facts: Floats
    decision_s: float
    rewards: Floats

    @property
    def returns(self) -> Floats:
        """(n,) sum of all terms [$]."""
        return np.asarray(self.money.sum(axis=1))


class Recorded:
    """Policy that repeats recorded actions (n, T, k) or (n, T), whatever it sees."""

    def __init__(self, actions: NDArray[Any]) -> None:
        self.actions = actions

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[Any, ...] | None]:
        """Return the actions of the next step; ``state`` is the step's number."""
        step = 0 if state is None else int(state[0])
        return self.actions[:, step], (step + 1,)


def rollout(model: Any, scenario: Any, policy: Policy) -> Episodes:
    """Run ``policy`` on every episode of ``scenario``, deterministically.

    Args:
        model: a problem's Model.
        scenario: n drawn episodes.
        policy: anything with ``predict``.

    Raises:
        InvalidInputError: if the policy returns a wrong shape, a NaN or values outside the model's range.
    """
    state = model.initial(scenario)
    n, steps = len(scenario[0]), model.steps
    money: Any = 0.0
    facts, actions, rewards = [], [], []
    memory: tuple[Any, ...] | None = None
    spent = 0.0
    start = np.ones(n, bool)
    for _ in range(steps):
        observation = model.observe(scenario, state)
        begin = time.perf_counter()
        action, memory = policy.predict(observation, memory, start, True)
        spent += time.perf_counter() - begin
        shape = (n, model.action_size) if model.choices is None else (n,)
        require(np.shape(action) == shape, "shape of the policy's action", np.shape(action), str(shape))
        start = np.zeros(n, bool)
        chosen = np.asarray(action, np.float32) if model.choices is None else np.asarray(action)
        values = check_actions(chosen, n, model)
        actions.append(chosen if model.choices is None else chosen.astype(np.int32))
        state, earned, fact = model.step(scenario, state, values)
        money = money + earned
        rewards.append(earned.sum(axis=1))
        facts.append(fact)
    every = np.stack(facts, axis=1)
    return Episodes(
        money,
        every[:, :, 0].max(axis=1),
        every[:, :, 1].sum(axis=1),
        np.stack(actions, axis=1),
        every,
        spent / (n * steps),
        np.stack(rewards, axis=1),
    )
