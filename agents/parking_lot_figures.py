"""Figures of a parking-lot comparison: one day, and the words and colours of its money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.compare import Result, TestSet
from agents.figures import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, Draw
from baselines.parking_lot.samples import reachable, true_market
from baselines.parking_lot.storage import solve_paths
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import FACTS, VIOLATION_TOLERANCE

__all__ = ["TERMS", "TERM_COLORS", "Profile", "draw_day", "profiles"]

Floats = NDArray[np.float64]

TERMS = {
    "fee": "surplus bought",
    "return": "energy handed back",
    "retail_buy": "retail bought",
    "retail_sell": "retail sold",
    "wear": "battery wear",
    "redistribution": "moves between cars",
    "imbalance": "imbalance",
}  # money terms in words
TERM_COLORS = dict(zip(TERMS, (ORANGE, BLUE, PURPLE, SKY, GREY, GREEN, RED), strict=True))


class Profile(NamedTuple):
    """What one policy held during one day, (T,) each.

    Attributes:
        name: for the legend.
        stored_kwh: energy really stored at the end of each step [kWh].
        closed_kwh: energy fixed for the end of each step [kWh].
        violated: steps in which the two could not agree.
    """

    name: str
    stored_kwh: Floats
    closed_kwh: Floats
    violated: NDArray[np.bool_]


def _profile(result: Result, day: int) -> Profile:
    facts = result.episodes.facts[day]
    column = {name: facts[:, FACTS.index(name)] for name in ("stored_kwh", "closed_kwh", "excess")}
    return Profile(
        result.row.policy, column["stored_kwh"], column["closed_kwh"], column["excess"] > VIOLATION_TOLERANCE
    )


def _hindsight(test: TestSet, day: int) -> NDArray[np.float64]:
    """Stored energy of the best path that knows the day, (T,) [kWh]."""
    lot = test.model.instance
    market, capacity = true_market(lot, test.scenario), reachable(lot, test.scenario)
    offers = market._replace(surplus_kw=market.surplus_kw[[day]], deficit_kw=market.deficit_kw[[day]])
    return np.asarray(solve_paths(lot, offers, capacity[[day]]).stored_kwh[0])


def profiles(test: TestSet, results: Sequence[Result], day: int) -> list[Profile]:
    """What every result's policy held on one day, and last what hindsight would have."""
    best = _hindsight(test, day)
    return [*(_profile(r, day) for r in results), Profile("hindsight optimum", best, best, np.zeros(len(best), bool))]


def draw_day(lot: Instance, capacity_kwh: Floats, shown: Sequence[Profile]) -> Draw:
    """One day: what the cars could hold (T,), what each policy stored, and the retail price as a strip."""
    edges_h: Floats = np.asarray(lot.open_h + lot.step_h * np.arange(lot.steps + 1), np.float64)
    looks = ((BLUE, "-", 2.4), (RED, "-", 1.8), (GREEN, "-", 1.8), (ORANGE, "-", 1.8))

    def draw(axes: Any) -> None:
        axes.stairs(capacity_kwh, edges_h, fill=True, color="#e4e7eb", label="capacity of the cars that stay")
        axes.stairs(capacity_kwh, edges_h, color=GREY, lw=1.0, baseline=None)
        middle = (edges_h[:-1] + edges_h[1:]) / 2.0
        cross = {"ls": "", "marker": "x", "ms": 8, "mew": 2.0}
        for k, profile in enumerate(shown):
            color, line, width = looks[k % len(looks)] if k < len(shown) - 1 else (INK, (0, (3, 1.6)), 1.6)
            axes.stairs(profile.stored_kwh, edges_h, color=color, ls=line, lw=width, baseline=None, label=profile.name)
            axes.plot(middle[profile.violated], profile.closed_kwh[profile.violated], color=color, **cross)
        if any(profile.violated.any() for profile in shown):
            axes.plot([], [], color=GREY, label="fixed, but not there (violation)", **cross)
        axes.set_xlim(edges_h[0], edges_h[-1])
        axes.set_ylim(bottom=0.0)
        axes.set_xticks(np.arange(math.ceil(edges_h[0]), edges_h[-1] + 1e-9, 1.0))
        axes.set(xlabel="hour of the day", ylabel="energy at the end of the step [kWh]")
        _price_strip(axes, edges_h, lot.buy)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return draw


def _price_strip(axes: Any, edges_h: Floats, price: Floats) -> None:
    strip = axes.inset_axes((0.0, 1.02, 1.0, 0.08), sharex=axes)
    low, span = price.min(), max(float(np.ptp(price)), 1e-12)
    starts = np.flatnonzero(np.diff(price, prepend=np.nan) != 0.0)
    for start, stop in zip(starts, [*starts[1:], len(price)], strict=True):
        depth = 0.08 + 0.4 * (price[start] - low) / span
        strip.axvspan(edges_h[start], edges_h[stop], color=BLUE, alpha=depth, lw=0)
        strip.text(
            (edges_h[start] + edges_h[stop]) / 2.0,
            0.45,
            f"{price[start]:g} $/kWh",
            ha="center",
            va="center",
            fontsize=8,
            clip_on=True,
        )
    strip.set_ylim(0.0, 1.0)
    strip.axis("off")
