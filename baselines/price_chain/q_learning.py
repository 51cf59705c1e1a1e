"""Tabular Q-learning (Watkins and Dayan, Machine Learning 8, 1992) on the price chain, its regret known exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.q_kernel import learn_days, play_days
from baselines.price_chain.sweeps import evaluate
from v2g_env.core.validate import number
from v2g_env.price_chain.model import Model

__all__ = ["Learned", "q_learning"]

Floats = NDArray[np.float64]


class Learned(NamedTuple):
    """What Q-learning found.

    Attributes:
        plan: (T, L, Q, E, 2) greedy choices.
        days: (K,) days played at each check.
        value: (K,) exact value of the greedy plan at each check [$].
    """

    plan: NDArray[np.int32]
    days: NDArray[np.int64]
    value: Floats


def q_learning(
    model: Model,
    days: int = 200_000,
    seed: int = 0,
    batch: int = 256,
    explore: tuple[float, float] = (1.0, 0.2),
    power: float = 0.6,
    checks: int = 10,
) -> Learned:
    """Learn from days played on the model's law.

    Args:
        model: of the environment.
        days: played in all, rounded up to whole batches.
        seed: of days and exploration.
        batch: days played between two rounds of updates.
        explore: probability of a choice at random, in the beginning and at the end, linear in between.
        power: the learning rate of a pair of state and choice is 1 / (its visits)^power.
        checks: how often the exact value of the greedy plan is taken, the end included.

    Raises:
        InvalidInputError: for numbers out of range.
    """
    number("days", days, 1, 10**9, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    number("batch", batch, 1, 10**6, integer=True)
    number("power", power, 0.5, 1.0, open_low=True)
    number("checks", checks, 1, 10**6, integer=True)
    for share in explore:
        number("explore", share, 0.0, 1.0)
    shape = (model.steps, *model.instance.shape, len(model.tables.moves))
    q, visits = np.zeros(shape), np.zeros(shape, np.int64)
    rounds = -(-days // batch)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(batch + 1)]
    marks = np.unique(np.linspace(0, rounds, checks + 1).astype(np.int64)[1:])
    seen, worth = [], []
    for k in range(rounds):
        drawn = model.draw(streams[:-1])
        share = explore[0] + (explore[1] - explore[0]) * k / max(rounds - 1, 1)
        random = streams[-1].random((batch, model.steps, 2))
        path = play_days(model.tables, q, *drawn, model.instance.start_level, share, random)
        learn_days(model.tables, q, visits, *drawn, *path, power)
        if k + 1 in marks:
            plan = _greedy(model, q)
            seen.append((k + 1) * batch)
            worth.append(evaluate(model, plan).value)
    return Learned(plan, np.array(seen), np.array(worth))


def _greedy(model: Model, q: Floats) -> NDArray[np.int32]:
    place = np.arange(len(model.tables.moves))
    low, high = (part[:, :, None, None] for part in (model.tables.lowest, model.tables.highest))
    best = np.where((place >= low) & (place <= high), q, -np.inf).argmax(axis=-1)
    return np.asarray(best, np.int32)
