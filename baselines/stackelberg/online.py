"""What no policy of V2G/Stackelberg-v0 can exceed on average: bounds on days' games with shortfalls at their mean.

``hindsight`` counts every bid as delivered. Here chance takes its share. When a policy acts, it knows neither the
number of cars nor the operator's signal, and both are drawn afresh in every period: given prices, weather, rebates s
and bids C of a day, its mean profit is step_h sum_t (p_t E pay(C_t, K_t) - s_t M y_t). By ``discount`` no bid's mean
payment exceeds D(y_t), so that the game with bids D, solved as any other, bounds this mean, whatever the day and the
policy, and also for bids beyond the certified one.

A realised profit may be luckier than its mean. With the penalty z = realised less expected profit (``penalty_of``),
whose mean given the day and what was done on it is zero, every single day obeys reward - z <= bound. So the mean of
the bounds limits every policy's mean reward, and bound - (reward - z), averaged over days, is its certified gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.days import Days, DaySolver
from baselines.stackelberg.discount import discount, discounted_game
from baselines.stackelberg.expected import expected_payment
from baselines.stackelberg.programs import Solution
from v2g_env.batch_model import check_actions
from v2g_env.core.validate import require
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.kernels import State
from v2g_env.stackelberg.model import REWARD_TERMS, Model
from v2g_env.stackelberg.scenario import Scenario

__all__ = ["Bound", "OnlineSolver", "online_bound", "penalty_of"]

Floats = NDArray[np.float64]
_CLOSE = 1e-6  # relative distance of prices that an observation in single precision does not tell apart


class Bound(NamedTuple):
    """Days of n months.

    Attributes:
        bound_usd: (n, D) proven upper limit on the mean reward of the day given its prices, type and weather [$].
        value_usd: (n, D) mean reward of the best rebates found with the certified bid (or the bid limit) [$].
        gap: (n, D) (bound - value) over the day's mean profit with these rebates.
        search_gap: (n, D) part of it that the search left open: the rest is what the discount gives away.
        levels: (n, D, T) indices of these rebates.
        nodes: (n, D) nodes of the search.
        seconds: (n, D) time of the search [s].
    """

    bound_usd: Floats
    value_usd: Floats
    gap: Floats
    search_gap: Floats
    levels: NDArray[np.int64]
    nodes: NDArray[np.int64]
    seconds: Floats


class OnlineSolver(DaySolver):
    """Exact solutions of days whose bids are discounted by what shortfalls cost on average.

    A day whose prices are those of a known one up to single precision gets that one's solution: policies read prices
    from observations, bounds take them as they are. Arguments as for ``DaySolver``.
    """

    def __init__(
        self,
        instance: Instance,
        gap: float = 1e-4,
        time_limit_s: float = 60.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(instance, gap, time_limit_s, say)
        self.requirements = discount(instance)
        self._days: dict[tuple[bool, int], list[tuple[Floats, Solution]]] = {}

    def game(self, price: Floats, weekend: bool, plug: int) -> Game:
        """The platform's game of a day with discounted bids."""
        return discounted_game(self.instance, self.requirements, price, weekend, plug)

    def __call__(self, price: Floats, weekend: bool, plug: int) -> Solution:
        """Optimal rebates of the day with prices (24,) [$/kW per hour], or of one that looks the same."""
        known = self._days.setdefault((weekend, plug), [])
        prices = np.array(price, np.float64)
        if known:
            every = np.stack([each for each, _ in known])
            same = (np.abs(every - prices) <= _CLOSE * every).all(axis=1)
            if same.any():
                return known[int(same.argmax())][1]
        found = super().__call__(prices, weekend, plug)
        known.append((prices, found))
        return found


def online_bound(
    instance: Instance,
    scenario: Scenario,
    gap: float = 1e-4,
    progress: Callable[[str], None] | None = None,
    time_limit_s: float = 60.0,
    solver: OnlineSolver | None = None,
) -> Bound:
    """Bound the mean reward of every day of every month by solving its game with discounted bids.

    A day that is not solved in time keeps a valid bound, with the gap that is proven. Arguments and days solved once
    as in ``hindsight``.

    Args:
        instance: the fleet.
        scenario: n months.
        gap: wanted gap of a day.
        progress: called with a line of text every few seconds.
        time_limit_s: for one day [s].
        solver: takes the place of ``gap`` and ``time_limit_s``; policies.CertifiedOptimum may share it, and then
            values shortfalls as well.

    Raises:
        InvalidInputError: for drivers with habits, for whom days hang together, or a solver of another instance.
    """
    weight = instance.habit_weight
    require(weight == 1.0, "habit_weight", weight, "1: for drivers with habits this bound is not available")
    solver = solver or OnlineSolver(instance, gap, time_limit_s)
    require(isinstance(solver, OnlineSolver), "solver", type(solver).__name__, "an OnlineSolver")
    require(solver.instance.hash == instance.hash, "solver", "of another instance", "the instance's")
    days = Days(Model(instance))
    n, length = scenario.weekend.shape
    bound, value, left, search_gap, seconds = (np.empty((n, length)) for _ in range(5))
    levels, nodes = np.empty((n, length, instance.periods), np.int64), np.empty((n, length), np.int64)
    last = time.perf_counter()
    for i, d in np.ndindex(n, length):
        price, plug = scenario.price[i, d], int(scenario.plug[i, d])
        found = solver(price, bool(scenario.weekend[i, d]), plug)
        kind = days.kind(scenario.weekend[i, [d]] > 0, scenario.plug[i, [d]])
        reference = days.reference(kind, price[None])[0]
        profit = _mean_profit(days, int(kind[0]), price, found.plan)
        # prices of a known day may be lower by single precision: they are worth at most the rise times any bid
        shown = np.array(found.game.price_usd_per_kw)
        rise = np.maximum(instance.per_period(price) - shown, 0.0).sum() * instance.step_h * _top_kw(found.game)
        most = found.bound + rise * (1.0 + 1e-9)
        bound[i, d], value[i, d] = most - reference, profit - reference
        left[i, d] = (most - profit) / max(abs(profit), 1e-9)
        search_gap[i, d], seconds[i, d] = found.gap, found.seconds
        levels[i, d], nodes[i, d] = found.levels, found.nodes
        if progress is not None and time.perf_counter() - last > 5.0:
            last = time.perf_counter()
            progress(f"{i * length + d + 1} of {n * length} days solved")
    return Bound(bound, value, left, search_gap, levels, nodes, seconds)


def penalty_of(model: Model, scenario: Scenario, actions: NDArray[Any]) -> Floats:
    """Luck of every day: realised less expected payments, penalties and rebates, given what was done.

    Its mean is zero for every policy that does not see the cars and signals of the day to come, with habits too.

    Args:
        model: of the environment.
        scenario: n months.
        actions: (n, D, T + 1) recorded actions, in [-1, 1].

    Returns:
        z (n, D) [$].

    Raises:
        InvalidInputError: for actions of a wrong shape, out of range or not finite.
    """
    lot, days = model.instance, Days(model)
    shape = (*scenario.weekend.shape, lot.periods + 1)
    require(np.shape(actions) == shape, "shape of actions", np.shape(actions), str(shape))
    state: State = model.initial(scenario)
    luck = np.empty(shape[:2])
    terms = [REWARD_TERMS.index(name) for name in ("payment", "penalty", "rebates")]
    for d in range(shape[1]):
        values = check_actions(np.asarray(actions[:, d]), shape[0], model)
        state, money, _ = model.step(scenario, state, values)
        kind = days.kind(scenario.weekend[:, d] > 0, scenario.plug[:, d])
        share = np.empty((shape[0], lot.periods))
        for k in np.unique(kind):
            rows = kind == k
            share[rows] = days.response(int(k), state.habit[rows])[0]
        share = np.clip(share, 0.0, 1.0)
        price = np.repeat(scenario.price[:, d], lot.periods_per_hour, axis=1)
        paid = price * expected_payment(lot, state.bid_kw, share) - lot.drivers * state.rebate * share
        luck[:, d] = money[:, terms].sum(axis=1) - lot.step_h * paid.sum(axis=1)
    return luck


def _mean_profit(days: Days, kind: int, price: Floats, rebates: Floats) -> float:
    """Mean profit [$] of a day with rebates (T,) [$/h] and the certified bid, or less where the bid limit is less."""
    lot = days.model.instance
    share, bid = (each[0] for each in days.response(kind, rebates[None]))
    paid = expected_payment(lot, min(1.0, lot.bid_limit) * bid, np.clip(share, 0.0, 1.0))
    return float(lot.step_h * (lot.per_period(price) * paid - lot.drivers * rebates * share).sum())


def _top_kw(game: Game) -> float:
    """No bid of the game is higher, whatever the number of plugged cars [kW]."""
    return min(each.power_kw * game.drivers / each.mean for each in game.requirements)
