"""Solve a day's game to proven optimality (or a proven gap) and certify the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.certify import certify
from baselines.stackelberg.search import Search, SearchResult
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance

__all__ = ["Solution", "continuous", "solve"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """The best rebates found and what is proven about them.

    Attributes:
        plan: (T,) rebates [$ per plugged hour].
        value: objective: platform's profit of the day [$], or the drivers' expected utility and share [$ per driver].
        bound: no choice of levels is worth more.
        gap: (bound - value) / |value| for the platform; for drivers relative to the market's payment per driver.
        levels: (T,) indices of the rebate levels.
        nodes: nodes of the search tree.
        seconds: time of the search.
        game: what was solved.
        search: the search with its tree.
        multiplier: price of the platform's profit in the bound (owner "drivers").
    """

    plan: Floats
    value: float
    bound: float
    gap: float
    levels: NDArray[np.int64]
    nodes: int
    seconds: float
    game: Game
    search: SearchResult
    multiplier: float

    @cached_property
    def certificate(self) -> dict[str, Any]:
        """Plain data that ``v2g check`` verifies without a solver; its bound is rigorous (made on first use)."""
        return certify(self.game, self.search, self.multiplier)


def solve(
    game: Game | Instance,
    gap: float = 1e-4,
    time_limit_s: float = 60.0,
    progress: Callable[[str], None] | None = None,
    start: NDArray[np.int64] | None = None,
) -> Solution:
    """Optimal rebates and bids of a day.

    Args:
        game: the day's game; an Instance stands for its base day.
        gap: wanted proven gap.
        time_limit_s: after this time the best answer so far is returned with its proven gap [s].
        progress: called with a line of text every two seconds.
        start: (T,) level indices to begin with.

    Raises:
        InvalidInputError: for a gap or time that is not positive, or if no choice of levels keeps the platform's
            profit from being negative (owner "drivers").
    """
    game = game.game() if isinstance(game, Instance) else game
    number("gap", gap, 0.0, 1.0, open_low=True)
    number("time_limit_s", time_limit_s, 0.0, 1e7, open_low=True)
    multiplier = _multiplier(game) if game.owner == "drivers" else 0.0
    search = Search(game, multiplier)
    result = search.solve(gap, time_limit_s, progress, start)
    if result.levels is None:
        raise InvalidInputError("owner = 'drivers'; allowed: a game in which some rebates leave the platform no loss")
    left = (result.bound - result.value) / search.scale
    plan = game.levels[result.levels]
    return Solution(
        plan,
        result.value,
        result.bound,
        left,
        result.levels,
        len(result.nodes),
        result.seconds,
        game,
        result,
        multiplier,
    )


def continuous(game: Game) -> tuple[Floats, float]:
    """Best rebates (T,) [$/h] between the lowest and the highest allowed level, off the grid, and their objective.

    The best of three local maxima; with the owner "drivers" the platform's profit is priced, it may be negative.
    """
    multiplier = _multiplier(game) if game.owner == "drivers" else 0.0
    search = Search(game, multiplier)
    low, high = np.full(game.periods, search.levels[0]), search.levels[search.top]
    best, plan, paid = -np.inf, low, 0.0
    for part in (0.0, 0.5, 1.0):  # from low rebates alone a fleet that is too small to bid stays without rebates
        values = low + part * (high - low)
        value = search.maximise(low, high, values, search.start.copy())
        if value > best:
            best, plan, paid = value, values, multiplier * search.profit
    return plan / game.step_h, best - paid


def _multiplier(game: Game) -> float:
    """Price of the platform's profit at which the drivers' best continuous rebates leave it without a loss."""
    low, high = 0.0, 1.0 / game.drivers
    floor = max(1e-3 / game.drivers, (1.0 - 1.0 / game.kappa) / game.drivers * 1.001)

    def profit(multiplier: float) -> float:
        search = Search(game, multiplier)
        values = np.full(game.periods, search.levels[0])
        search.maximise(search.levels[0] + 0.0 * values, search.levels[search.top], values, search.start.copy())
        return search.profit

    if profit(floor) >= 0.0:
        return floor
    for _ in range(12):
        if profit(high) >= 0.0:
            break
        low, high = high, 2.0 * high
    else:  # Newton's method is caught where all rebates lose money: any price proves a bound
        return max(1.0 / game.drivers, floor)
    for _ in range(30):
        middle = 0.5 * (low + high)
        if middle <= floor or profit(middle) < 0.0:
            low = middle
        else:
            high = middle
    return max(high, floor)
