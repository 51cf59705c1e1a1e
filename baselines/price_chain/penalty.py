"""Penalised bounds on the price chain: perfect information at one end, the exact optimum at the other.

A critic is a table W_t of values at the start of every step. The penalty

    z = W_0(s_0) - E W_0 + sum_t W_{t+1}(s_{t+1}) - E[W_{t+1}(s_{t+1}) | s_t, a_t]

has mean zero under every policy, as the chain is known exactly and the expectations are sums over its successors. Day
by day, the best of return - z over all choices, prices and vehicles known, is a bound (Brown, Smith and Sun, Operations
Research 58(4), 2010); money at departure is no part of W and stays exact. With the values of the optimal policy the
bound is the optimum on every single day (their strong duality), and the optimal policy's return - z is that constant
too. With W = 0 it is perfect information. This is where penalties can be seen to work, and critics be compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.sweeps import at_start, choose, expected, terminal_usd
from v2g_env.core.validate import array, number, require
from v2g_env.price_chain.kernels import DayState
from v2g_env.price_chain.model import FACTS, Model
from v2g_env.price_chain.scenario import Days
from v2g_env.rollout import Recorded, rollout

__all__ = ["Bound", "Critic", "fitted_values", "penalised", "penalty_of", "tabulated"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_USD = 1e12
_CHUNK = 8192


class Critic(Protocol):
    """Anything that values states by their observations, for instance a network."""

    def values(self, observation: NDArray[np.float32]) -> Floats:
        """Money to come (n,) [$] from states with observations (n, d) on."""
        ...


class Bound(NamedTuple):
    """What no policy exceeds.

    Attributes:
        bound_usd: (n,) best return less penalty of each day when all of it is known; for every policy its return is at
            most that plus its own penalty, and its expected return at most the expectation of that [$].
    """

    bound_usd: Floats


def penalised(model: Model, scenario: Days, critic: Floats, scale: float = 1.0) -> Bound:
    """Bound every day from above, given the penalty of a critic.

    Args:
        model: of the environment.
        scenario: n days, independent of the critic.
        critic: (T, L, Q, E, 2) values at the start of every step [$].
        scale: factor on the penalty, in [0, 1]; 0 is perfect information.

    Raises:
        InvalidInputError: for a critic of another shape, or numbers out of range.
    """
    values, scale = _checked(model, critic, scale)
    tables, energies = model.tables, model.instance.energy_levels
    moves = tables.moves
    place = np.arange(len(moves))
    level = np.clip(np.arange(energies)[:, None] + moves, 0, energies - 1)
    after = np.broadcast_to(terminal_usd(model)[:, None], (len(scenario.level), energies, 2))
    for t in range(model.steps - 1, -1, -1):
        if t + 1 < model.steps:
            after = after - scale * _surprise(model, values, scenario, t)
        low, high = tables.lowest[scenario.presence[:, t]], tables.highest[scenario.presence[:, t]]
        fits = (place >= low[:, :, None]) & (place <= high[:, :, None])
        total = after[:, level, (moves != 0).astype(np.int64)] + tables.wear
        total = np.where(fits, total + tables.energy[t, scenario.level[:, t]][:, None, :], -np.inf)
        after = (total[:, :, None, :] + tables.starts).max(axis=3)
    best = after[:, model.instance.start_level, 0] - scale * _first(model, values, scenario)
    # every step adds a few numbers and a mean over the successors: so many roundings of the largest number about
    levels, presences = model.instance.shape[:2]
    largest = np.abs(tables.energy).max() + 2.0 * scale * np.abs(values).max() + np.abs(best) + 1.0
    slack = np.finfo(float).eps * model.steps * (levels * presences + 16) * largest
    return Bound(np.asarray(np.nextafter(best + slack, np.inf)))


def penalty_of(model: Model, scenario: Days, actions: NDArray[Any], critic: Floats, scale: float = 1.0) -> Floats:
    """Penalty z (n,) [$] of given choices: zero on average for every policy that does not see the future.

    Args:
        model: of the environment.
        scenario: n days.
        actions: (n, T) choices; infeasible ones are clipped as the environment does.
        critic: as for ``penalised``.
        scale: likewise.

    Raises:
        InvalidInputError: as ``penalised``, and for choices that the environment refuses.
    """
    values, scale = _checked(model, critic, scale)
    facts = rollout(model, scenario, Recorded(np.asarray(actions))).facts
    stored = np.rint(facts[:, :, FACTS.index("stored_kwh")] / model.instance.level_kwh).astype(np.int64)
    runs = (facts[:, :, FACTS.index("meter_kwh")] != 0.0).astype(np.int64)
    each = np.arange(len(stored))
    z = _first(model, values, scenario)
    for t in range(model.steps - 1):
        z = z + _surprise(model, values, scenario, t)[each, stored[:, t], runs[:, t]]
    return np.asarray(scale * z)


def _checked(model: Model, critic: Floats, scale: float) -> tuple[Floats, float]:
    shape = (model.steps, *model.instance.shape)
    number("scale", scale, 0.0, 1.0)
    return array("critic", critic, shape, -_MOST_USD, _MOST_USD), float(scale)


def _first(model: Model, values: Floats, days: Days) -> Floats:
    """W_0(s_0) - E W_0, (n,): whether the first price is good news."""
    lot = model.instance
    found = values[0, days.level[:, 0], lot.presence_start, lot.start_level, 0]
    return np.asarray(found - at_start(model, values[0]))


def _surprise(model: Model, values: Floats, days: Days, t: int) -> Floats:
    """W_{t+1} - E[W_{t+1} | s_t, a_t] of every day, (n, E, 2), by the energy and mode that step t leads to."""
    mean = expected(model, model.law.rows[t], values[t + 1])
    found = values[t + 1, days.level[:, t + 1], days.presence[:, t + 1]]
    return np.asarray(found - mean[days.level[:, t], days.presence[:, t]])


def tabulated(model: Model, critic: Critic, unit_usd: float = 1.0) -> Floats:
    """Freeze a value function of observations: its value (T, L, Q, E, 2) in every state [$].

    Args:
        model: of the environment.
        critic: values observations.
        unit_usd: money that one unit of its values means [$].

    Raises:
        InvalidInputError: for values of another shape.
    """
    number("unit_usd", unit_usd, 0.0, 1e9, open_low=True)
    shape = (model.steps, *model.instance.shape)
    every = np.indices(shape).reshape(len(shape), -1)
    found = np.empty(every.shape[1])
    for start in range(0, every.shape[1], _CHUNK):
        t, p, q, e, m = every[:, start : start + _CHUNK]
        frozen = Days(*(np.repeat(part[:, None], model.steps + 1, axis=1) for part in (p, q)))
        values = np.asarray(critic.values(model.observe(frozen, DayState(t, e, m))), np.float64)
        require(values.shape == t.shape, "shape of the critic's values", values.shape, str(t.shape))
        found[start : start + len(t)] = unit_usd * values
    return found.reshape(shape)


def fitted_values(model: Model, scenario: Days, degree: int = 2) -> Floats:
    """Fit values (T, L, Q, E, 2) on training days, backwards; the chain's probabilities are not used.

    What follows a decision is regressed, for every energy and mode, on powers of the price and the vehicles plugged in
    (Longstaff and Schwartz, Review of Financial Studies 14(1), 2001, with values in place of paths); the best choice
    against that is the value one step earlier.

    Args:
        model: of the environment.
        scenario: n training days.
        degree: highest power of the price.

    Raises:
        InvalidInputError: no training day, or a degree that is out of range.
    """
    number("degree", degree, 0, 20, integer=True)
    require(len(scenario.level) > 0, "training days", 0, "at least one")
    lot, tables = model.instance, model.tables
    levels, presences, energies, _ = lot.shape
    after = np.broadcast_to(terminal_usd(model)[:, None], lot.shape)
    values = np.empty((model.steps, *lot.shape))
    evs = tables.evs / max(tables.evs.max(), 1.0)
    powers = np.arange(1, degree + 1)
    for t in range(model.steps - 1, -1, -1):
        values[t] = choose(model, t, after)[0]
        if t == 0:
            break
        price = tables.shown[t - 1][:, None] ** powers
        known = np.concatenate(
            [np.ones((levels, presences, 1)), np.broadcast_to(evs[:, None], (levels, presences, 1))]
            + [np.broadcast_to(price[:, None, :], (levels, presences, degree))],
            axis=2,
        )
        seen = known[scenario.level[:, t - 1], scenario.presence[:, t - 1]]
        target = values[t, scenario.level[:, t], scenario.presence[:, t]].reshape(len(seen), -1)
        found = np.linalg.lstsq(seen, target, rcond=1e-9)[0]
        after = (known @ found).reshape(levels, presences, energies, 2)
    return values
