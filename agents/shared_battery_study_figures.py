"""Figures of the shared battery's studies, each made from the rows beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import BLUE, COLORS, GREEN, GREY, INK, ORANGE, Draw

__all__ = ["bands", "curves", "frontiers", "promises", "reductions", "stacked"]

Floats = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]
_RULE_COLORS = {"proportional": COLORS[1], "first_come": BLUE, "utilitarian": GREEN}
_GRID = "#e4e7eb"
_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def frontiers(candidates: Rows, separate: Mapping[int, tuple[Floats, Floats]], sizes: str) -> Draw:
    """Reliability against capacity: one panel for each number of drivers.

    Args:
        candidates: rows with drivers, sizes, capacity_per_driver_kwh and the reliability of each rule.
        separate: by number of drivers, capacity and reliability without sharing.
        sizes: which of the candidates to draw.
    """

    def draw(axes: Any) -> None:
        figure = axes.figure
        axes.remove()
        panels = figure.subplots(1, len(separate), sharex=True, sharey=True, squeeze=False)[0]
        for panel, (n, curve) in zip(panels, separate.items(), strict=True):
            panel.grid(visible=False)
            for level in _LEVELS:
                panel.axhline(level, color=_GRID, linewidth=0.8, zorder=0)
            panel.plot(*curve, color=INK, label="separate batteries")
            rows = [row for row in candidates if row["drivers"] == n and row["sizes"] == sizes]
            x = np.array([row["capacity_per_driver_kwh"] for row in rows])
            for rule, color in _RULE_COLORS.items():
                y = np.array([row[rule] for row in rows])
                panel.plot(x, y, ".", color=color, alpha=0.4, markersize=4.0)
                order = np.argsort(x, kind="stable")
                best = np.maximum.accumulate(y[order])
                panel.step(x[order], best, where="post", color=color, label=rule.replace("_", " "))
            panel.set_title(f"{n} drivers", loc="left", fontsize=9)
            panel.set(xlabel="capacity per driver [kWh]", ylim=(_LEVELS[0], 1.005))
        ends = [(np.interp(_LEVELS[0], y, x), np.interp(0.95, y, x)) for x, y in separate.values()]
        panels[0].set(ylabel="reliability of the worst driver")
        panels[0].set_xlim(0.75 * min(low for low, _ in ends), 1.05 * max(high for _, high in ends))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)

    return draw


def bands(lines: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]], x: str, y: str) -> Draw:
    """Medians with the ranges between quartiles and between deciles; each line x and rows of its trials' values."""

    def draw(axes: Any) -> None:
        for color, (name, (place, values)) in zip(COLORS, lines.items(), strict=False):
            table = np.array([np.quantile(each, (0.1, 0.25, 0.5, 0.75, 0.9)) for each in values])
            axes.fill_between(place, table[:, 0], table[:, 4], color=color, alpha=0.12, linewidth=0)
            axes.fill_between(place, table[:, 1], table[:, 3], color=color, alpha=0.25, linewidth=0)
            axes.plot(place, table[:, 2], "o-", color=color, label=name)
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        places = sorted({each for place, _ in lines.values() for each in place})
        axes.set_xticks(places, [f"{each:g}" for each in places])
        axes.minorticks_off()
        axes.set(xlabel=x, ylabel=y)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(lines))

    return draw


def reductions(rows: Rows, limit: float, words: str) -> Draw:
    """Reductions as points with bars from the first to the last decile: a line for each kind of sizes and target."""

    def draw(axes: Any) -> None:
        labels = list(dict.fromkeys(f"{row['sizes']}, {row['target']:g}" for row in rows))
        fleets = list(dict.fromkeys(row["drivers"] for row in rows))
        for row in rows:
            k = fleets.index(row["drivers"])
            y = labels.index(f"{row['sizes']}, {row['target']:g}") + 0.2 * (k - 0.5 * (len(fleets) - 1))
            if row["first_decile_percent"] is not None:
                axes.plot(
                    [row["first_decile_percent"], row["last_decile_percent"]],
                    [y, y],
                    "-",
                    color=COLORS[k],
                    linewidth=1.2,
                )
            mark = "o" if row["certified"] else "D"
            axes.plot(row["reduction_percent"], y, mark, color=COLORS[k], fillstyle="full" if mark == "o" else "none")
        for k, n in enumerate(fleets):
            axes.plot([], [], "-", color=COLORS[k], linewidth=4, label=f"{n} drivers")
        axes.axvline(limit, color=GREY, linestyle="--", label=words)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="reduction of capacity [%]; full circle: certified, diamond: not")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(fleets) + 1)

    return draw


def stacked(labels: Sequence[str], parts: Mapping[str, Sequence[float]], x: str) -> Draw:
    """Horizontal bars made of parts, the first label on top."""

    def draw(axes: Any) -> None:
        place = np.arange(len(labels))
        left = np.zeros(len(labels))
        for color, (name, values) in zip((BLUE, ORANGE, GREEN), parts.items(), strict=False):
            axes.barh(place, values, left=left, height=0.65, color=color, label=name)
            left = left + np.asarray(values)
        axes.set_yticks(place, labels)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel=x)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(parts))

    return draw


def promises(points: Mapping[str, tuple[Sequence[float], Sequence[float]]], beta: float) -> Draw:
    """How near true violation probabilities come to the promised ones: for each name, promised and true ones."""

    def draw(axes: Any) -> None:
        for name, (promised, true) in points.items():
            ratio = np.sort(np.asarray(true) / np.asarray(promised))
            share = np.arange(len(ratio) + 1) / len(ratio)
            axes.step(np.append(0.0, ratio), share, where="post", label=name)
        axes.axvline(1.0, color=INK, linewidth=1.0)
        axes.annotate("broken", (1.0, 0.5), (6, 0), textcoords="offset points", color=INK)
        axes.axhline(1.0 - beta, color=GREY, linestyle="--", label=f"at least {1.0 - beta:g} must be left of 1")
        axes.set(xlabel="true violation probability / promised eps(k)", ylabel="share of samples", ylim=(0.0, 1.02))
        axes.set_xlim(0.0, max(1.12, *axes.get_xlim()))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(points) + 1)

    return draw


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> Draw:
    """Lines by name over a logarithmic axis; names ending in "bound" are dashed in the colour of the line before."""

    def draw(axes: Any) -> None:
        k = -1
        for name, (place, values) in lines.items():
            dashed = name.endswith("bound")
            k += not dashed
            axes.plot(place, values, "--" if dashed else "-", marker="" if dashed else "o", color=COLORS[k], label=name)
        places = sorted({each for place, _ in lines.values() for each in place})
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{each:g}" for each in places])
        axes.minorticks_off()
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.set(xlabel=x, ylabel=y)
        axes.legend(ncols=2)

    return draw
