"""Sizes of the Stackelberg studies, and a game's answer in the units of the published tables."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.stackelberg_published import WORKPLACE
from baselines.stackelberg.programs import solve
from baselines.stackelberg.published import evaluate
from v2g_env.core.validate import number
from v2g_env.stackelberg.follower import arcs_of
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import plugged_shares

__all__ = ["MONTH_DAYS", "Answer", "StudyConfig", "answer", "replayed"]

Floats = NDArray[np.float64]
MONTH_DAYS = 30


@dataclass(frozen=True)
class StudyConfig:
    """Sizes of the studies; the defaults take a few minutes on two cores.

    Attributes:
        random_days: random price days for each composition whose solution is timed.
        compositions: rows of the published workplace table that are solved, from the first.
        plugged: shares of plugged cars at home for which the fit to the published columns is measured.
        time_limit_s: time for each game but the following; those with workplace chargers need it [s].
        classes_time_limit_s: time for the game with three driver classes, and for each with short periods [s].
        sampled_drivers: drivers drawn from each law.
        seed: of all draws.
    """

    random_days: int = 50
    compositions: int = 17
    plugged: tuple[float, ...] = (0.8, 0.85, 0.9, 0.95)
    time_limit_s: float = 5.0
    classes_time_limit_s: float = 20.0
    sampled_drivers: int = 40_000
    seed: int = 20

    def __post_init__(self) -> None:
        """Check every field."""
        number("random_days", self.random_days, 1, 10**5, integer=True)
        number("compositions", self.compositions, 1, len(WORKPLACE), integer=True)
        for share in self.plugged:
            number("plugged", share, 0.5, 0.99)
        for name in ("time_limit_s", "classes_time_limit_s"):
            number(name, getattr(self, name), 0, 1e5, open_low=True)
        number("sampled_drivers", self.sampled_drivers, 100, 10**6, integer=True)
        number("seed", self.seed, 0, 2**63, integer=True)

    @classmethod
    def quick(cls) -> StudyConfig:
        """Small sizes, well under a minute."""
        return cls(
            random_days=5,
            compositions=3,
            plugged=(0.8, 0.85),
            time_limit_s=1.0,
            classes_time_limit_s=3.0,
            sampled_drivers=4000,
        )


class Answer(NamedTuple):
    """A game's certified rebates and what they bring, beside no rebates; money in $ per driver and month of 30 days.

    Attributes:
        with_usd, without_usd: platform's profit with these rebates and without any.
        bound_usd: proven upper bound on the profit with rebates; NaN where there is none.
        rebate_usd: rebates received by a driver.
        gap_percent: proven gap of the objective (see ``Solution.gap``); NaN where there is none.
        solve_s: wall time of the solution, all of it [s].
        plan: (T,) rebates [$/h].
        plugged, plugged_without: (T,) share of plugged drivers.
        bid_kw, bid_without_kw: (T,) bids [kW].
    """

    with_usd: float
    without_usd: float
    bound_usd: float
    rebate_usd: float
    gap_percent: float
    solve_s: float
    plan: Floats
    plugged: Floats
    plugged_without: Floats
    bid_kw: Floats
    bid_without_kw: Floats

    @property
    def improvement_percent(self) -> float:
        """Gain in profit from offering rebates [%]."""
        return 100.0 * (self.with_usd / self.without_usd - 1.0)

    @property
    def at_most_percent(self) -> float:
        """Proven upper bound on that gain [%]."""
        return 100.0 * (self.bound_usd / self.without_usd - 1.0)


def answer(game: Game, time_limit_s: float) -> Answer:
    """Solve a day's game (to a gap of 1e-4 if time allows) and replay its rebates."""
    begin = time.perf_counter()
    solution = solve(game, time_limit_s=time_limit_s)
    seconds = time.perf_counter() - begin
    month = MONTH_DAYS / game.drivers
    bound = month * solution.bound if game.owner == "platform" else np.nan
    return replayed(game, solution.plan)._replace(
        bound_usd=float(bound), gap_percent=100.0 * float(solution.gap), solve_s=seconds
    )


def replayed(game: Game, plan: Floats) -> Answer:
    """What rebates (T,) [$/h] bring when drivers respond to them; no proof is attached."""
    arcs = arcs_of(game.classes)
    _, flow, bid = evaluate(game, np.stack([plan, np.zeros_like(plan)]))
    plugged = np.stack([plugged_shares(arcs.period, row * arcs.share[arcs.group], game.periods) for row in flow])
    month = MONTH_DAYS * game.step_h
    rebate = month * float(plugged[0] @ plan)
    income = month / game.drivers * (bid @ np.array(game.price_usd_per_kw))
    return Answer(
        with_usd=float(income[0]) - rebate,
        without_usd=float(income[1]),
        bound_usd=np.nan,
        rebate_usd=rebate,
        gap_percent=np.nan,
        solve_s=np.nan,
        plan=plan,
        plugged=plugged[0],
        plugged_without=plugged[1],
        bid_kw=bid[0],
        bid_without_kw=bid[1],
    )
