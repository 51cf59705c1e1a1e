"""Policies for V2G/PriceChain-v0: every one without memory is a plan, a table of choices for all states.

Two rules charge what the target needs and trade nothing; one trades on price thresholds; the optimal and robust plans
come from values.py, and what a learner has learned can be written out as a plan, so that its exact value is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.sweeps import check_plan, evaluate
from v2g_env.core.policy import Policy
from v2g_env.core.validate import number, require
from v2g_env.price_chain.kernels import DayState
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Days

__all__ = ["TablePolicy", "early_plan", "late_plan", "tabulate", "threshold_plan", "tune_threshold"]

Floats = NDArray[np.float64]
Plan = NDArray[np.int32]
Memory = tuple[Any, ...] | None

_QUANTILES = tuple(np.linspace(0.0, 1.0, 21).tolist())
_CHUNK = 8192


class TablePolicy:
    """Plays a plan.

    Args:
        model: of the environment.
        plan: (T, L, Q, E, 2) choices.
    """

    def __init__(self, model: Model, plan: NDArray[Any]) -> None:
        self.model = model
        self.plan = check_plan(model, plan)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Memory = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], Memory]:
        """Choices (n,) for observations (n, d), or one for (d,); no memory, no randomness."""
        seen = np.atleast_2d(observation)
        layout = self.model.observation_layout
        t, p, q, e = (seen[:, layout[name]].argmax(axis=1) for name in ("step", "level", "presence", "stored"))
        running = (seen[:, layout["running"].start] > 0.5).astype(np.int64)
        chosen = self.plan[t, p, q, e, running].astype(np.int64)
        return (chosen if np.ndim(observation) == 2 else chosen[0]), state


def tabulate(model: Model, policy: Policy) -> Plan:
    """Plan (T, L, Q, E, 2) of a policy without memory: what it chooses in every state."""
    shape = (model.steps, *model.instance.shape)
    every = np.indices(shape).reshape(len(shape), -1)
    chosen = np.empty(every.shape[1], np.int32)
    for start in range(0, every.shape[1], _CHUNK):
        t, p, q, e, m = every[:, start : start + _CHUNK]
        frozen = Days(*(np.repeat(part[:, None], model.steps + 1, axis=1) for part in (p, q)))
        seen = model.observe(frozen, DayState(t, e, m))
        chosen[start : start + len(t)] = np.asarray(policy.predict(seen, None, np.ones(len(t), bool), True)[0])
    return check_plan(model, chosen.reshape(shape))


def _indices(model: Model) -> list[NDArray[np.int64]]:
    return list(np.ix_(*map(np.arange, (model.steps, *model.instance.shape))))


def _nearest(model: Model, wanted: NDArray[Any]) -> Plan:
    """Choices that move at least as far up (down for negative) as wanted, as far as is feasible."""
    shape = (model.steps, *model.instance.shape)
    tables = model.tables
    up = np.minimum(np.searchsorted(tables.moves, wanted, side="left"), len(tables.moves) - 1)
    down = np.maximum(np.searchsorted(tables.moves, wanted, side="right") - 1, 0)
    chosen = np.where(wanted > 0, up, down)
    fits = np.clip(np.broadcast_to(chosen, shape), tables.lowest[:, :, None], tables.highest[:, :, None])
    return np.asarray(fits.astype(np.int32))


def _sure(model: Model) -> int:
    """Levels that every step can surely charge, however few vehicles are plugged in, while there is room."""
    return int(model.tables.moves[model.tables.highest[0, 0]])


def early_plan(model: Model) -> Plan:
    """Charge to the target at once, as fast as possible, and never discharge."""
    need = model.instance.target_level - _indices(model)[3]
    return _nearest(model, np.maximum(need, 0))


def _due(model: Model) -> NDArray[np.int64]:
    """Levels that this step has to add, so that the rest surely fits into the steps to come."""
    t, _, _, e, _ = _indices(model)
    later = _sure(model) * (model.steps - 1 - t)
    return np.asarray(model.instance.target_level - e - later)


def late_plan(model: Model) -> Plan:
    """Charge to the target as late as is surely in time, and never discharge."""
    return _nearest(model, np.maximum(_due(model), 0))


def threshold_plan(model: Model, low: float, high: float) -> Plan:
    """Charge as fast as possible while the price is low, discharge while it is high, in time for the target.

    Args:
        model: of the environment.
        low: charge up to this quantile of the prices of all hours and levels, and never more than to full.
        high: discharge from this quantile on, never below what the steps to come can surely make good.

    Raises:
        InvalidInputError: for quantiles outside [0, 1], or low above high.
    """
    number("low", low, 0.0, 1.0)
    number("high", high, 0.0, 1.0)
    require(low <= high, "low", low, f"at most high = {high:g}")
    price, moves = model.tables.price, model.tables.moves
    cheap, dear = np.quantile(price, [low, high])
    t, p, _, _, _ = _indices(model)
    now = price[t, p]
    due = _due(model)
    wish = np.where(now <= cheap, moves[-1], np.where(now >= dear, moves[0], 0))
    return _nearest(model, np.maximum(wish, due))


def tune_threshold(model: Model) -> tuple[float, float]:
    """Quantiles (low, high) of the best threshold plan on a grid of 21, by its exact value."""
    pairs = [(low, high) for low in _QUANTILES for high in _QUANTILES if low <= high]
    worth = [evaluate(model, threshold_plan(model, low, high)).value for low, high in pairs]
    return pairs[int(np.argmax(worth))]
