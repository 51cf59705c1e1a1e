"""Figures of any comparison: returns and violations of all policies, and where the money comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.compare import Comparison, Result, Row
from agents.figures import COLORS, GREY, INK, Draw
from v2g_env.metrics import mean_interval

__all__ = ["draw_money", "draw_returns", "draw_violations", "panels", "ranked", "views"]

_MARKERS = ("o", "s", "^", "D")


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
    draws = [draw_returns(names, tables, bounds), draw_violations(names, tables, comparison.tests[0].trial)]
    return draws, ["Money", "Violations"], (12.0, 1.9 + 0.4 * len(names))


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
        ends = [row.high_usd for rows in tables.values() for row in rows if np.isfinite(row.high_usd)]
        axes.set_xlim(min(0.0, axes.get_xlim()[0]), max([1.04 * max(bounds.values()), *(1.01 * end for end in ends)]))
        axes.set_xlabel(f"mean return [$/{next(iter(tables.values()))[0].per}], interval 95 %")
        _legend_above(axes, 2)

    return draw


def _one(trial: str) -> str:
    return f"an {trial[:-1]}" if trial.startswith("h") else f"a {trial[:-1]}"


def _linear_part(values: Sequence[float]) -> float:
    """Largest power of ten below every positive value."""
    positive = [value for value in values if value > 0.0]
    return 10.0 ** math.floor(math.log10(min(positive))) if positive else 1e-3


def draw_violations(names: Sequence[str], tables: Mapping[str, Sequence[Row]], trial: str = "days") -> Draw:
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
        axes.plot([], [], ls="", marker="|", ms=8, mew=1.6, color=GREY, label=f"upper limit after these {trial}")
        if any(row.promised is not None for row in every):
            axes.plot([], [], label="promised before, at most", **diamond)
        axes.axvline(edge, color=GREY, lw=0.8, ls=":")
        decades = [edge * 10.0**k for k in range(round(-math.log10(edge)) + 1)]
        axes.set_xticks([0.0, *decades], ["0", *(f"{100.0 * v:g} %" for v in decades)])
        axes.minorticks_off()
        axes.set_xlabel(f"probability that {_one(trial)} is violated (linear left of the dotted line)")
        _legend_above(axes, 2)

    return draw


def draw_money(
    names: Sequence[str],
    money: Mapping[str, Mapping[str, float]],
    words: Mapping[str, str],
    colors: Mapping[str, str],
) -> Draw:
    """Mean money terms of every policy (with words and colours) as stacked bars, costs to the left, and their sum."""

    def draw(axes: Any) -> None:
        place = _policies(axes, names)
        y = [place[name] for name in money]
        ends = {True: np.zeros(len(y)), False: np.zeros(len(y))}
        for term in next(iter(money.values())):
            values = np.array([parts[term] for parts in money.values()])
            if not values.any():
                continue
            label, color = words.get(term, term), colors.get(term, INK)
            left = np.where(values >= 0.0, ends[True], ends[False])
            axes.barh(y, values, 0.62, left=left, color=color, label=label)
            ends[True] += np.maximum(values, 0.0)
            ends[False] += np.minimum(values, 0.0)
        axes.plot([sum(parts.values()) for parts in money.values()], y, "D", ms=5, color="white", mec=INK, label="sum")
        axes.axvline(0.0, color=INK, lw=0.8)
        axes.set_xlabel("mean [$], costs to the left")
        _legend_above(axes, 4)

    return draw
