"""Carry a policy through given scenarios: the one evaluator of every policy, learned or not."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.policy import Policy
from v2g_env.core.validate import require
from v2g_env.shells import check_action

__all__ = ["Episodes", "Recorded", "rollout"]

Floats = NDArray[np.float64]


class Episodes(NamedTuple):
    """What a policy did and earned; n episodes of T steps.

    Attributes:
        money: (n, terms) sum of every reward term [$].
        excess: (n,) largest scaled violation f of the episode, the first of the facts.
        shortfall_kwh: (n,) energy promised and not there, the second of the facts.
        actions: (n, T, k) float32.
        facts: (n, T, facts) facts of every step.
        decision_s: mean wall time of a decision per episode and step [s], batched calls.
        rewards: (n, T) sum of all terms of every step [$].
    """

    money: Floats
    excess: Floats
    shortfall_kwh: Floats
    actions: NDArray[np.float32]
    facts: Floats
    decision_s: float
    rewards: Floats

    @property
    def returns(self) -> Floats:
        """(n,) sum of all terms [$]."""
        return np.asarray(self.money.sum(axis=1))


class Recorded:
    """Policy that repeats recorded actions (n, T, k), whatever it sees."""

    def __init__(self, actions: NDArray[np.float32]) -> None:
        self.actions = actions

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
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
        InvalidInputError: if the policy returns a wrong shape, a NaN or values outside [-1, 1].
    """
    state = model.initial(scenario)
    n, steps = len(scenario[0]), model.instance.steps
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
        require(
            np.shape(action) == (n, model.action_size),
            "shape of the policy's action",
            np.shape(action),
            f"({n}, {model.action_size})",
        )
        start = np.zeros(n, bool)
        chosen = np.asarray(action, np.float32)
        actions.append(chosen)
        state, earned, fact = model.step(scenario, state, check_action(chosen, (n, model.action_size)))
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
