"""Figures of a parking-lot comparison: money, violations, one day, and where the money comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.compare import Result, Row, TestSet
from agents.figures import BLUE, COLORS, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, Draw
from agents.parking_lot import Comparison
from baselines.parking_lot.samples import reachable, true_market
from baselines.parking_lot.storage import solve_paths
from v2g_env.metrics import mean_interval
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import FACTS, VIOLATION_TOLERANCE

__all__ = [
    "TERMS",
    "Profile",
    "draw_day",
    "draw_money",
    "draw_returns",
    "draw_violations",
    "panels",
    "profiles",
    "ranked",
    "views",
]

Floats = NDArray[np.float64]

_MARKERS = ("o", "s", "^", "D")
TERMS = {
    "fee": "surplus bought",
    "return": "energy handed back",
    "retail_buy": "retail bought",
    "retail_sell": "retail sold",
    "wear": "battery wear",
    "redistribution": "moves between cars",
    "imbalance": "imbalance",
}  # money terms in words
_TERM_COLORS = dict(zip(TERMS, (ORANGE, BLUE, PURPLE, SKY, GREY, GREEN, RED), strict=True))


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


def ranked(results: Sequence[Result]) -> list[Result]:
    """Results of one test set, highest mean return first."""
    return sorted(results, key=lambda result: -result.row.mean_usd)


def views(comparison: Comparison) -> tuple[list[str], dict[str, list[Row]], dict[str, float]]:
    """Policies in the order of the first test set, and every set's rows and bound by title."""
    names = [result.row.policy for result in ranked(comparison.results[0])]
    pairs = list(zip(comparison.tests, comparison.results, strict=True))
    tables = {test.title: [result.row for result in results] for test, results in pairs}
    return names, tables, {test.title: mean_interval(test.bound, test.units).mean for test, _ in pairs}


def panels(comparison: Comparison) -> tuple[list[Draw], list[str], tuple[float, float]]:
    """Drawings, titles and size [inch] of the one picture that shows the comparison."""
    names, tables, bounds = views(comparison)
    draws = [draw_returns(names, tables, bounds), draw_violations(names, tables)]
    return draws, ["Money", "Violations"], (12.0, 1.9 + 0.4 * len(names))


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


def _policies(axes: Any, names: Sequence[str]) -> dict[str, float]:
    """Name the vertical axis, best policy on top, and return each one's place."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    return {name: float(place) for place, name in enumerate(names)}


def _legend_above(axes: Any, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, handlelength=1.6)


def _offsets(count: int) -> list[float]:
    return [0.24 * (k - (count - 1) / 2.0) for k in range(count)]


def draw_returns(names: Sequence[str], tables: Mapping[str, Sequence[Row]], bounds: Mapping[str, float]) -> Draw:
    """Mean return of every policy with its interval, and the bound of each test set as a line."""

    def draw(axes: Any) -> None:
        place = _policies(axes, names)
        for k, (title, shift) in enumerate(zip(tables, _offsets(len(tables)), strict=True)):
            rows, color = tables[title], COLORS[k]
            x = np.array([row.mean_usd for row in rows])
            half = np.nan_to_num(np.array([row.high_usd for row in rows]) - x, posinf=0.0)
            y = [place[row.policy] + shift for row in rows]
            axes.errorbar(
                x, y, xerr=half, fmt=_MARKERS[k], color=color, mfc="white" if k else color, capsize=2.5, label=title
            )
            axes.axvline(
                bounds[title], color=color, ls=(0, (4, 2)) if k else "-", lw=1.4, label=f"bound, {title.lower()}"
            )
        axes.set_xlim(min(0.0, axes.get_xlim()[0]), max(bounds.values()) * 1.04)
        axes.set_xlabel("mean return [$/day], interval 95 %")
        _legend_above(axes, 2)

    return draw


def _linear_part(values: Sequence[float]) -> float:
    """Largest power of ten below every positive value."""
    positive = [value for value in values if value > 0.0]
    return 10.0 ** math.floor(math.log10(min(positive))) if positive else 1e-3


def draw_violations(names: Sequence[str], tables: Mapping[str, Sequence[Row]]) -> Draw:
    """Violation frequency, its upper limit and the promise; logarithmic, with a linear part that holds zero."""
    diamond = {"ls": "", "marker": "d", "ms": 7, "color": INK, "mfc": "none", "mew": 1.2}

    def draw(axes: Any) -> None:
        place = _policies(axes, names)
        every = [row for rows in tables.values() for row in rows]
        edge = _linear_part([v for row in every for v in (row.frequency, row.limit, row.promised or 0.0)])
        axes.set_xscale("symlog", linthresh=edge, linscale=0.6)
        axes.set_xlim(-0.15 * edge, 1.25)
        for k, (title, shift) in enumerate(zip(tables, _offsets(len(tables)), strict=True)):
            rows, color = tables[title], COLORS[k]
            y = np.array([place[row.policy] + shift for row in rows])
            seen, limit = [row.frequency for row in rows], [row.limit for row in rows]
            said = np.array([np.nan if row.promised is None else row.promised for row in rows])
            axes.hlines(y, seen, limit, color=color, lw=1.2)
            axes.plot(limit, y, ls="", marker="|", ms=8, mew=1.6, color=color)
            axes.plot(seen, y, ls="", marker=_MARKERS[k], color=color, mfc="white" if k else color, label=title)
            axes.plot(said, y, **diamond)
        axes.plot([], [], ls="", marker="|", ms=8, mew=1.6, color=GREY, label="upper limit after these days")
        axes.plot([], [], label="promised before, at most", **diamond)
        axes.axvline(edge, color=GREY, lw=0.8, ls=":")
        decades = [edge * 10.0**k for k in range(round(-math.log10(edge)) + 1)]
        axes.set_xticks([0.0, *decades], ["0", *(f"{100.0 * v:g} %" for v in decades)])
        axes.minorticks_off()
        axes.set_xlabel("probability that a day is violated (linear left of the dotted line)")
        _legend_above(axes, 2)

    return draw


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


def draw_money(names: Sequence[str], money: Mapping[str, Mapping[str, float]]) -> Draw:
    """Mean money terms of every policy as stacked bars, costs to the left, and their sum."""

    def draw(axes: Any) -> None:
        place = _policies(axes, names)
        y = [place[name] for name in money]
        ends = {True: np.zeros(len(y)), False: np.zeros(len(y))}
        for term in next(iter(money.values())):
            values = np.array([parts[term] for parts in money.values()])
            if not values.any():
                continue
            label, color = TERMS.get(term, term), _TERM_COLORS.get(term, INK)
            left = np.where(values >= 0.0, ends[True], ends[False])
            axes.barh(y, values, 0.62, left=left, color=color, label=label)
            ends[True] += np.maximum(values, 0.0)
            ends[False] += np.minimum(values, 0.0)
        axes.plot([sum(parts.values()) for parts in money.values()], y, "D", ms=5, color="white", mec=INK, label="sum")
        axes.axvline(0.0, color=INK, lw=0.8)
        axes.set_xlabel("mean per day [$], costs to the left")
        _legend_above(axes, 4)

    return draw
