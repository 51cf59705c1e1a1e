"""The fleet that comes back every day: discounted values without end, by value iteration and by policy iteration.

After the last step of a day the fleet departs, is paid as usual, and a new day begins with energy at its start level;
price level, presence and mode go on. Every step is discounted by gamma. Robust as in sweeps.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.ambiguity import Ambiguity
from baselines.price_chain.sweeps import choose, follow, nominal_set, terminal_usd, worst_after
from v2g_env.core.validate import number, require
from v2g_env.price_chain.model import Model

__all__ = ["METHODS", "Stationary", "solve_stationary"]

Floats = NDArray[np.float64]

METHODS = ("value", "policy")
_MOST_ROUNDS = 100_000


class Stationary(NamedTuple):
    """Values and plan (T, L, Q, E, 2) of the cycle, and how many rounds they took."""

    values: Floats
    plan: NDArray[np.int32]
    rounds: int


def solve_stationary(
    model: Model, gamma: float, ambiguity: Ambiguity | None = None, method: str = "value", tolerance: float = 1e-10
) -> Stationary:
    """Solve the discounted problem without end.

    Args:
        model: of the environment.
        gamma: discount of a step, in [0, 1).
        ambiguity: T x L uncertain rows, those of the last step included; None: the law's rows are the truth.
        method: "value" repeats days until values stay; "policy" alternates between the exact value of a plan (to the
            same tolerance) and its improvement until no choice is better.
        tolerance: largest error of a value [$].

    Raises:
        InvalidInputError: for another method, or a discount outside [0, 1).
    """
    number("gamma", gamma, 0.0, 1.0, open_high=True)
    number("tolerance", tolerance, 0.0, 1e6, open_low=True)
    require(method in METHODS, "method", method, ", ".join(METHODS))
    known = nominal_set(model.law.rows) if ambiguity is None else ambiguity
    start = np.zeros((model.steps, *model.instance.shape))
    if method == "value":
        return _repeat(model, gamma, known, start, None, tolerance)
    plan = _improve(model, gamma, known, start)[1]
    rounds = 0
    while rounds < _MOST_ROUNDS:
        rounds += 1
        start = _repeat(model, gamma, known, start, plan, tolerance).values
        values, better = _improve(model, gamma, known, start)
        gain = values - start
        if gain.max() <= 2.0 * tolerance:
            break
        plan = np.where(gain > 2.0 * tolerance, better, plan)  # as good is no reason to change: no cycles
    return Stationary(start, plan, rounds)


def _after(model: Model, gamma: float, ambiguity: Ambiguity, step: int, values: Floats) -> Floats:
    """Value after the decision of a step, from the values (L, Q, E, 2) at the start of the next one."""
    if step < model.steps - 1:
        return gamma * worst_after(model, step, values, ambiguity)[0]
    begin = np.broadcast_to(values[:, :, [model.instance.start_level]], values.shape)
    return terminal_usd(model)[:, None] + gamma * worst_after(model, step, begin, ambiguity)[0]


def _improve(model: Model, gamma: float, ambiguity: Ambiguity, values: Floats) -> tuple[Floats, NDArray[np.int32]]:
    """Best choices when the given values follow, and what they are worth."""
    pairs = [
        choose(model, t, _after(model, gamma, ambiguity, t, values[(t + 1) % model.steps])) for t in range(model.steps)
    ]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def _repeat(
    model: Model, gamma: float, ambiguity: Ambiguity, values: Floats, plan: NDArray[np.int32] | None, tolerance: float
) -> Stationary:
    """Sweep days backwards until the first step's values are within tolerance of the fixed point."""
    values = values.copy()
    chosen = np.zeros(values.shape, np.int32) if plan is None else plan
    day = gamma**model.steps  # contraction of one sweep
    rounds = 0
    while rounds < _MOST_ROUNDS:
        rounds += 1
        before = values[0].copy()
        for t in range(model.steps - 1, -1, -1):
            after = _after(model, gamma, ambiguity, t, values[(t + 1) % model.steps])
            if plan is None:
                values[t], chosen[t] = choose(model, t, after)
            else:
                values[t] = follow(model, t, plan[t], after)
        if np.abs(values[0] - before).max() * day <= tolerance * (1.0 - day):
            break
    return Stationary(values, chosen, rounds)
