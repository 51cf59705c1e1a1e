"""Figures of the study of games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import BLUE, COLORS, GREY, INK, RED, SKY, Draw
from agents.games import Allocation
from baselines.games.coalitions import CooperativeGame

__all__ = ["draw_allocations", "draw_anarchy", "draw_lies", "draw_simplex", "draw_stability"]

Rows = Sequence[Mapping[str, Any]]
Drawn = Sequence[tuple[str, CooperativeGame, Sequence[Allocation]]]

_LEGEND = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2, "handlelength": 1.8}
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


def draw_simplex(games: Drawn) -> Draw:
    """Triangles of all shares of three players: the core shaded, every rule a mark."""

    def draw(axes: Any) -> None:
        axes.set_axis_off()
        rules = list(dict.fromkeys(each.rule for _, _, found in games for each in found))
        for k, (title, game, found) in enumerate(games):
            shift = np.array([1.35 * k, 0.0])
            corners = _CORNERS + shift
            axes.plot(*np.vstack([corners, corners[:1]]).T, color=GREY, lw=1.0)
            core = _core_polygon(game)
            if len(core) > 2:
                axes.fill(*((core / game.total) @ _CORNERS + shift).T, color=SKY, alpha=0.45, lw=0)
            for name, corner, push in zip(game.players, corners, ((0, -0.07), (0, -0.07), (0, 0.03)), strict=True):
                axes.text(*(corner + push), name, ha="center", color=INK, fontsize=8)
            axes.text(*(shift + [0.5, 1.02]), title, ha="center", color=INK, fontsize=9)
            for each in found:
                j = rules.index(each.rule)
                place = (each.payments / game.total) @ _CORNERS + shift
                axes.plot(*place, _MARKS[j % 7], color=COLORS[j % len(COLORS)], ms=6, mec="white", mew=0.6)
        for j, rule in enumerate(rules):
            axes.plot([], [], _MARKS[j % 7], color=COLORS[j % len(COLORS)], ms=6, mec="white", mew=0.6, label=rule)
        axes.set_aspect("equal")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.18), ncols=6, handlelength=1.2)

    return draw


def _core_polygon(game: CooperativeGame) -> NDArray[np.float64]:
    """Corners of the core of three players, in order: the triangle cut by every coalition's half-plane."""
    polygon: list[Any] = list(game.gains[-1] * np.eye(3))
    for mask in range(1, 7):
        inside = np.array([mask >> i & 1 for i in range(3)], float)
        cut: list[Any] = []
        for first, second in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
            a, b = (float(inside @ point - game.gains[mask]) for point in (first, second))
            if a >= 0:
                cut.append(first)
            if a * b < 0:
                cut.append(first + (second - first) * a / (a - b))
        polygon = cut
        if not polygon:
            break
    return np.asarray(game.sign * np.array(polygon).reshape(-1, 3))


def draw_allocations(game: CooperativeGame, found: Sequence[Allocation]) -> Draw:
    """Bars of every player's share by rule; a line at what he is worth alone."""

    def draw(axes: Any) -> None:
        width = 0.8 / len(found)
        x = np.arange(game.n)
        for j, each in enumerate(found):
            axes.bar(x + (j - len(found) / 2 + 0.5) * width, each.payments, width, color=COLORS[j % 8], label=each.rule)
        alone = game.values[1 << x]
        axes.hlines(alone, x - 0.45, x + 0.45, color=INK, lw=1.0, ls=(0, (3, 2)), label="alone")
        axes.set_xticks(x, [name.replace("aggregator", "aggr.") for name in game.players])
        axes.set(ylabel="[$]")
        axes.grid(axis="x", visible=False)
        axes.legend(**_LEGEND, ncols=4)

    return draw


def draw_stability(rows: Rows) -> Draw:
    """Largest gain of leaving against the number of drivers, a line per rule."""

    def draw(axes: Any) -> None:
        x = [row["drivers"] for row in rows]
        for j, name in enumerate(("equal", "stand-alone", "Shapley", "nucleolus")):
            axes.plot(x, [row[f"{name} [%]"] for row in rows], _MARKS[j] + "-", color=COLORS[j], label=name)
        axes.set(xlabel="drivers", ylabel="largest gain of leaving [% of total]")
        axes.legend(**_LEGEND, ncols=4)

    return draw


def draw_lies(rows: Rows) -> Draw:
    """Mean gain of a lie by rule, for both kinds of worth."""

    def draw(axes: Any) -> None:
        rules = list(dict.fromkeys(row["rule"] for row in rows))
        for j, worth in enumerate(dict.fromkeys(row["worth"] for row in rows)):
            some = [row for row in rows if row["worth"] == worth]
            x = np.arange(len(rules)) + 0.4 * j - 0.2
            mean = np.array([row["mean_gain_usd"] for row in some])
            span = [mean - [row["low_usd"] for row in some], [row["high_usd"] for row in some] - mean]
            axes.bar(x, mean, 0.38, yerr=span, color=(BLUE, RED)[j], label=worth, error_kw={"lw": 0.8})
        axes.set_xticks(range(len(rules)), [rule.replace("_", " ") for rule in rules])
        axes.set(ylabel="mean gain of a lie [$/day]")
        axes.grid(axis="x", visible=False)
        axes.legend(**_LEGEND, ncols=2)

    return draw


def draw_anarchy(rows: Rows) -> Draw:
    """What is saved at equilibrium and at best, against the number of prosumers."""

    def draw(axes: Any) -> None:
        x = [row["prosumers"] for row in rows]
        axes.plot(x, [row["saved at best, at most [$]"] for row in rows], "s--", color=INK, label="bound on any plan")
        axes.plot(x, [row["saved at equilibrium [$]"] for row in rows], "o-", color=BLUE, label="equilibrium")
        axes.set(xlabel="prosumers", ylabel="saved [$/day]", xscale="log" if len(x) > 1 else "linear")
        axes.set_xticks(x, [str(each) for each in x])
        axes.minorticks_off()
        axes.legend(**_LEGEND, ncols=2)

    return draw
