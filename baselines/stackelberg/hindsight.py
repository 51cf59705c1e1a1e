"""What no policy of V2G/Stackelberg-v0 can exceed, day by day: the proven bounds of the days' games.

Why a day's game bounds the day's reward is said in v2g_env.stackelberg.model. It holds path by path for response
"model", for bids up to the certified one (``bid_limit`` at most 1) and drivers without habits (``habit_weight`` 1).
With response "population" rebates go to the drivers counted, so it holds for the mean of the day given its prices,
weather and rebates, and a single day may exceed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.days import Days, DaySolver, highest_bid_kw, read_morning
from v2g_env.core.validate import require
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.kernels import State
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.scenario import Scenario

__all__ = ["Hindsight", "hindsight"]

Floats = NDArray[np.float64]
_CLOSE = 1e-6  # relative distance of two prices that single precision does not tell apart


class Hindsight(NamedTuple):
    """Days of n months.

    Attributes:
        bound_usd: (n, D) proven upper limit on any policy's reward of the day [$].
        value_usd: (n, D) reward of the best rebates found, if all is delivered [$].
        gap: (n, D) (bound - value) over the day's profit with these rebates.
        levels: (n, D, T) indices of these rebates.
        nodes: (n, D) nodes of the search.
        seconds: (n, D) time of the search [s].
    """

    bound_usd: Floats
    value_usd: Floats
    gap: Floats
    levels: NDArray[np.int64]
    nodes: NDArray[np.int64]
    seconds: Floats


def hindsight(
    instance: Instance,
    scenario: Scenario,
    gap: float = 1e-4,
    progress: Callable[[str], None] | None = None,
    time_limit_s: float = 60.0,
    solver: DaySolver | None = None,
) -> Hindsight:
    """Bound the reward of every day of every month by solving its game.

    Days with the same prices, type and weather are solved once. A day that is not solved in time keeps a valid bound,
    with the gap that is proven.

    Args:
        instance: the fleet.
        scenario: n months.
        gap: wanted gap of a day.
        progress: called with a line of text every few seconds.
        time_limit_s: for one day [s].
        solver: takes the place of ``gap`` and ``time_limit_s``; one shared with policies.CertifiedOptimum solves every
            day only once for both.

    Raises:
        InvalidInputError: for drivers with habits, or bids beyond the certified one: no such bound is available.
    """
    weight, limit = instance.habit_weight, instance.bid_limit
    require(weight == 1.0, "habit_weight", weight, "1: for drivers with habits this bound is not available")
    require(limit <= 1.0, "bid_limit", limit, "at most 1: beyond the certified bid this bound is not available")
    solver = solver or DaySolver(instance, gap, time_limit_s)
    model = Model(instance)
    days = Days(model)
    n, length = scenario.weekend.shape
    shown = _shown_prices(model, scenario)
    top = highest_bid_kw(instance)
    bound, value, left, seconds = (np.empty((n, length)) for _ in range(4))
    levels, nodes = np.empty((n, length, instance.periods), np.int64), np.empty((n, length), np.int64)
    last = time.perf_counter()
    for i, d in np.ndindex(n, length):
        found = solver(shown[i, d], bool(scenario.weekend[i, d]), int(scenario.plug[i, d]))
        # a higher price is worth at most its rise times the highest bid
        rise = np.maximum(scenario.price[i, d] - shown[i, d], 0.0).sum() * top * (1.0 + 1e-9)
        kind = days.kind(scenario.weekend[i, [d]] > 0, scenario.plug[i, [d]])
        reference = days.reference(kind, scenario.price[i, [d]])[0]
        profit = days.profit(kind, scenario.price[i, [d]], found.plan[None])[0]
        bound[i, d], value[i, d] = found.bound + rise - reference, profit - reference
        left[i, d] = (found.bound + rise - profit) / max(abs(profit), 1e-9)
        levels[i, d], nodes[i, d], seconds[i, d] = found.levels, found.nodes, found.seconds
        if progress is not None and time.perf_counter() - last > 5.0:
            last = time.perf_counter()
            progress(f"{i * length + d + 1} of {n * length} days solved")
    return Hindsight(bound, value, left, levels, nodes, seconds)


def _shown_prices(model: Model, scenario: Scenario) -> Floats:
    """Prices (n, D, 24) as observations tell them; the true ones where they are cut off there."""
    state = model.initial(scenario)
    prices = np.empty_like(scenario.price)
    for day in range(prices.shape[1]):
        now = State(np.full_like(state.t, day), *state[1:])
        prices[:, day] = read_morning(model, model.observe(scenario, now)).price
    close = np.abs(prices - scenario.price) <= _CLOSE * scenario.price
    return np.asarray(np.where(close.all(axis=2, keepdims=True), prices, scenario.price))
