"""Benchmarks of the price chain: backward sweeps under every set, checks of their certificates, inner problems."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from agents.price_chain import ambiguity_sets
from baselines.price_chain.q_learning import q_learning
from baselines.price_chain.sweeps import nominal_set, sweep
from baselines.price_chain.values import solve
from baselines.price_chain.verify import verify
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model

__all__ = ["lines"]


def _timed(call: Callable[[], Any], repeats: int = 3) -> float:
    """Shortest of some wall times [s]; one call before to compile."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def lines() -> Iterator[str]:
    """Yield one line per measurement."""
    lot = Instance()
    model = Model(lot)
    tables = model.tables
    feasible = 2 * lot.steps * lot.price_levels * int((tables.highest - tables.lowest + 1).sum())
    states = lot.steps * int(np.prod(lot.shape))
    yield f"price chain: {states:,} states, {feasible:,} feasible pairs of state and choice"
    yield f"backward sweep, nominal: {_timed(partial(sweep, model, nominal_set(model.law.rows))):.3f} s"
    for name, ambiguity in ambiguity_sets(lot, 0.95).items():
        spent = _timed(partial(sweep, model, ambiguity))
        solution = solve(model, ambiguity)
        checked = _timed(partial(verify, solution.certificate, lot))
        yield f"backward sweep, {name}: {spent:.3f} s; its certificate checked in {checked:.3f} s"
        values = np.random.default_rng(0).normal(size=(50_000, lot.price_levels))
        at = np.arange(50_000) % ambiguity.rows
        yield f"50,000 inner problems, {name}: {_timed(partial(ambiguity.worst, values, at)):.3f} s"
    yield f"Q-learning: {20_000 / _timed(partial(q_learning, model, 20_000, checks=1), 1):,.0f} days/s"
