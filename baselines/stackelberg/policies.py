"""Policies for V2G/Stackelberg-v0: from no rebates to the certified optimum of every day, all with ``predict``.

A policy sees the observation and knows the instance; it never sees the scenario. All bid the certified bid in full, or
up to the bid limit if that is lower; CertifiedOptimum may be told another fraction.
Their objective is the model's profit of the day; none looks ahead, which loses nothing unless drivers have habits
(``habit_weight`` below 1). Where the weather is not announced, CoordinateSearch maximises the mean over plugged shares;
CertifiedOptimum takes the share nearest to the mean share, and is then no optimum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.days import Days, DaySolver, read_morning
from v2g_env.core.validate import number, require
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.scenario import Scenario

__all__ = [
    "CertifiedOptimum",
    "CoordinateSearch",
    "NoRebates",
    "StaticByType",
    "StaticRebates",
    "tune_by_type",
    "tune_static",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Seen = NDArray[np.float32]
Memory = tuple[Any, ...] | None


class _Daily:
    """A policy that thinks in rebates [$/h]; subclasses name them."""

    def __init__(self, model: Model, bid_fraction: float | None = None) -> None:
        self.model = model
        limit = model.instance.bid_limit
        self.bid_fraction = min(1.0, limit) if bid_fraction is None else bid_fraction
        number("bid_fraction", self.bid_fraction, 0.0, limit)

    def rebates(self, observation: Seen) -> Floats:
        """Rebates (n, T) [$/h] for observations (n, d)."""
        raise TypeError(f"{type(self).__name__} has no rebates")

    def predict(
        self,
        observation: Seen,
        state: Memory = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Seen, Memory]:
        """Actions (n, T + 1) for observations (n, d), or (T + 1,) for (d,). No memory, no randomness."""
        seen = np.atleast_2d(observation)
        action = self.model.action_for(self.rebates(seen), self.bid_fraction).astype(np.float32)
        return (action if np.ndim(observation) == 2 else action[0]), None


class NoRebates(_Daily):
    """Pays nothing (the lowest level): earns what the reward's reference is, less what is not delivered."""

    def rebates(self, observation: Seen) -> Floats:
        """The lowest level everywhere."""
        return np.full((len(observation), self.model.instance.periods), self.model.constants.levels[0])


class StaticRebates(_Daily):
    """The same rebates every day.

    Args:
        model: of the environment.
        levels: (T,) indices of the rebate levels.
    """

    def __init__(self, model: Model, levels: Ints) -> None:
        super().__init__(model)
        self.schedule = _schedule(model, levels)

    def rebates(self, observation: Seen) -> Floats:
        """The schedule."""
        return np.tile(self.schedule, (len(observation), 1))


class StaticByType(_Daily):
    """One schedule for weekdays and one for weekends.

    Args:
        model: of the environment.
        weekday, weekend: (T,) indices of the rebate levels.
    """

    def __init__(self, model: Model, weekday: Ints, weekend: Ints) -> None:
        super().__init__(model)
        self.schedules = np.stack([_schedule(model, weekday), _schedule(model, weekend)])

    def rebates(self, observation: Seen) -> Floats:
        """The schedule of the day's type."""
        return np.asarray(self.schedules[read_morning(self.model, observation).weekend.astype(np.int64)])


def _schedule(model: Model, levels: Ints) -> Floats:
    chosen = np.asarray(levels)
    periods = model.instance.periods
    require(chosen.shape == (periods,), "shape of levels", chosen.shape, f"({periods},)")
    ok = np.issubdtype(chosen.dtype, np.integer) and bool(((chosen >= 0) & (chosen < model.constants.choices)).all())
    require(ok, "levels", chosen.tolist(), f"indices below {model.constants.choices.tolist()}")
    return np.asarray(model.constants.levels[chosen])


class CoordinateSearch(_Daily):
    """Local search on the day's forecast: hour by hour some levels up or down, kept where the profit grows.

    What one does without an exact solver. Starts from ``start`` (default: the lowest levels) and goes over the day once
    for every entry of ``steps``; every trial is one response of the drivers.

    Args:
        model: of the environment.
        steps: levels up and down that a round tries, one entry per round.
        start: (T,) indices of the levels to begin with.
    """

    def __init__(self, model: Model, steps: tuple[int, ...] = (6, 3, 2, 1), start: Ints | None = None) -> None:
        super().__init__(model)
        require(len(steps) > 0, "steps", steps, "at least one round")
        for step in steps:
            number("steps", step, 1, 1000, integer=True)
        self.steps = steps
        periods = model.instance.periods
        self.start = np.zeros(periods, np.int64) if start is None else np.asarray(start, np.int64)
        _schedule(model, self.start)
        self._days = Days(model)

    def rebates(self, observation: Seen) -> Floats:
        """Where the search ends, for every row."""
        c, lot = self.model.constants, self.model.instance
        morning = read_morning(self.model, observation)
        if lot.announced:
            plugs, weights = morning.plug[:, None], np.ones(1)
        else:
            plugs = np.tile(np.arange(len(lot.plug_shares)), (len(morning.plug), 1))
            weights = np.array(lot.plug_probabilities)

        def worth(levels: Ints) -> Floats:
            total = np.zeros(len(levels))
            for column, weight in enumerate(weights):
                kind = self._days.kind(morning.weekend, plugs[:, column])
                total += weight * self._days.profit(kind, morning.price, c.levels[levels])
            return total

        levels = np.tile(self.start, (len(observation), 1))
        value = worth(levels)
        for step in self.steps:
            for period in range(lot.periods):
                for change in (step, -step):
                    moved = levels.copy()
                    moved[:, period] = np.clip(moved[:, period] + change, 0, c.choices[period] - 1)
                    now = worth(moved)
                    better = now > value
                    levels[better], value[better] = moved[better], now[better]
        return np.asarray(c.levels[levels])


class CertifiedOptimum(_Daily):
    """Solves every day exactly, from what the observation tells, to a proven gap.

    Prices are read from the observation in single precision, so the optimum is that of prices 3e-7 off.

    Args:
        model: of the environment.
        solver: of days; a shared one remembers the days it has solved.
        bid_fraction: bid as a share of the certified one, up to the bid limit; None: the certified bid. Beyond it pays
            where ``discount.best_fraction`` says so, and breaks the promise that bids are certified for.
    """

    def __init__(self, model: Model, solver: DaySolver | None = None, bid_fraction: float | None = None) -> None:
        super().__init__(model, bid_fraction)
        self.solver = solver or DaySolver(model.instance)
        require(self.solver.instance.hash == model.instance.hash, "solver", "of another instance", "the model's")
        lot = model.instance
        mean = float(np.dot(lot.plug_shares, lot.plug_probabilities))
        self._guess = int(np.abs(np.array(lot.plug_shares) - mean).argmin())

    def rebates(self, observation: Seen) -> Floats:
        """Optimal rebates, row by row."""
        morning = read_morning(self.model, observation)
        plug = np.where(morning.plug >= 0, morning.plug, self._guess)
        rows = zip(morning.price, morning.weekend, plug, strict=True)
        return np.stack([self.solver(price, bool(weekend), int(k)).plan for price, weekend, k in rows])


class _Training:
    """Profits of fixed schedules over given days: they depend on the sums of prices by kind of day alone."""

    def __init__(self, model: Model, scenario: Scenario, weekends: tuple[int, ...]) -> None:
        self.days, self.model = Days(model), model
        wanted = np.isin(scenario.weekend, weekends)
        require(bool(wanted.any()), "training days", 0, "at least one of the type")
        kind = self.days.kind(scenario.weekend[wanted] > 0, scenario.plug[wanted])
        price = scenario.price[wanted]
        self.kinds = np.unique(kind)
        self.count = np.array([(kind == k).sum() for k in self.kinds], np.float64)
        self.price = np.stack([price[kind == k].mean(axis=0) for k in self.kinds])

    def mean_profit(self, levels: Ints) -> Floats:
        """Mean profit per day (m,) [$] of m schedules (m, T)."""
        rebates = self.model.constants.levels[levels]
        m = len(rebates)
        total = np.zeros(m)
        for k, count, price in zip(self.kinds, self.count, self.price, strict=True):
            profit = self.days.profit(np.full(m, k), np.tile(price, (m, 1)), rebates)
            total += count / self.count.sum() * profit
        return total

    def climb(self, start: Ints) -> Ints:
        """Coordinate search from ``start`` until no single hour can be improved."""
        levels = start.copy()
        value = float(self.mean_profit(levels[None])[0])
        improved = True
        while improved:
            improved = False
            for period, choices in enumerate(self.model.constants.choices):
                tried = np.tile(levels, (int(choices), 1))
                tried[:, period] = np.arange(choices)
                profits = self.mean_profit(tried)
                best = int(profits.argmax())
                if profits[best] > value + 1e-9 * abs(value):
                    levels, value, improved = tried[best], float(profits[best]), True
        return levels


def tune_static(model: Model, scenario: Scenario) -> Ints:
    """Levels (T,) of the schedule with the highest mean model profit over training days; a local maximum.

    Coordinate search over all levels of one hour at a time, from no rebates.
    """
    start = np.zeros(model.instance.periods, np.int64)
    return _Training(model, scenario, (0, 1)).climb(start)


def tune_by_type(model: Model, scenario: Scenario) -> tuple[Ints, Ints]:
    """As ``tune_static``, for weekdays and for weekends apart, each from the schedule that is best for all days.

    Raises:
        InvalidInputError: if the training days have no weekday or no weekend.
    """
    start = tune_static(model, scenario)
    return _Training(model, scenario, (0,)).climb(start), _Training(model, scenario, (1,)).climb(start)
