"""Figures of the study of certified learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.figures import BLUE, COLORS, GREEN, GREY, INK, ORANGE, RED, Draw
from agents.learning_answers import Kept

__all__ = ["draw_curves", "draw_promises", "draw_shift", "draw_tradeoff"]

Rows = Sequence[Mapping[str, Any]]

_LEGEND = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2, "handlelength": 1.8}
_STYLES = (("o", "-"), ("s", "--"), ("^", ":"))


def draw_tradeoff(found: Sequence[Kept]) -> Draw:
    """Money against observed violations; a thin line goes from there to what was promised.

    Policies with fewer days are placed by their paired difference to the first, the plain PPO.
    """

    def money(each: Kept) -> float:
        return found[0].mean_usd + each.paired_usd

    def draw(axes: Any) -> None:
        names = list(dict.fromkeys(each.policy for each in found))
        colors = {name: COLORS[k % len(COLORS)] for k, name in enumerate(names)}
        for each in found:
            if each.promised is not None:
                ends = [100 * each.frequency, 100 * each.promised]
                axes.plot(ends, [money(each)] * 2, color=colors[each.policy], lw=0.6, alpha=0.5)
                axes.plot(ends[1:], [money(each)], "|", color=colors[each.policy], ms=7)
        for (name, shield), group in _groups(found).items():
            marker, line = _STYLES[0] if shield == "none" else _STYLES[1] if "any" in shield else _STYLES[2]
            group = sorted(group, key=lambda each: each.frequency)
            x, y = [100 * each.frequency for each in group], [money(each) for each in group]
            full = shield == "none"
            face = colors[name] if full else "white"
            axes.plot(x, y, line if len(x) > 1 else "none", marker=marker, color=colors[name], mfc=face, lw=1.0)
        for name in names:
            axes.plot([], [], "o", color=colors[name], label=name)
        kinds = [("plain", "o", INK)]
        kinds += [("shield for any agent", "s", "white")] if any("any" in each.shield for each in found) else []
        kinds += [("shield tuned for it", "^", "white")] if any("tuned" in each.shield for each in found) else []
        for label, marker, face in [*kinds, ("promised", "|", INK)]:
            axes.plot([], [], marker, color=INK, mfc=face, label=label)
        axes.set(xlabel="days violated [%]", ylabel="earned [$/day]")
        axes.legend(**_LEGEND, ncols=5)

    return draw


def _groups(found: Sequence[Kept]) -> dict[tuple[str, str], list[Kept]]:
    groups: dict[tuple[str, str], list[Kept]] = {}
    for each in found:
        groups.setdefault((each.policy, each.shield), []).append(each)
    return groups


def draw_shift(rows: Rows, capped: str, radii: Sequence[float]) -> Draw:
    """Observed violations under every law, and the bounds of the boxes."""

    def draw(axes: Any) -> None:
        x = np.arange(len(rows))
        axes.plot(x - 0.2, [100 * row["plain, violated"] for row in rows], "o", color=GREY, label="plain")
        axes.plot(x - 0.1, [100 * row[f"{capped}, violated"] for row in rows], "^", color=ORANGE, label=capped)
        for k, (radius, color) in enumerate(zip(radii, (BLUE, RED, GREEN), strict=False)):
            place = x + 0.1 * (k + 1)
            seen = [100 * row[f"box R = {radius:g}, violated"] for row in rows]
            bound = [100 * row[f"box R = {radius:g}, bound"] for row in rows]
            axes.plot(place, seen, "s", color=color, label=f"box, R = {radius:g}")
            axes.plot(place, bound, "_", color=color, ms=12, label=f"its bound, R = {radius:g}")
        axes.set_xticks(x, [row["law"] for row in rows], rotation=20, ha="right")
        axes.set(ylabel="days violated [%]")
        axes.legend(**_LEGEND, ncols=6)

    return draw


def draw_promises(found: Sequence[Kept]) -> Draw:
    """Observed frequencies with their intervals against what was promised, with the line of equality."""

    def draw(axes: Any) -> None:
        top = max([each.promised or 0.0 for each in found] + [each.interval[1] for each in found])
        axes.plot([0.0, 100 * top], [0.0, 100 * top], color=INK, lw=1.0, label="observed = promised")
        for color, problem in zip((BLUE, ORANGE), ("parking lot", "scheduling"), strict=True):
            group = [each for each in found if each.problem == problem]
            if not group:
                continue
            # rows with one promise would hide each other
            x = [100 * (each.promised or 0.0) + 0.002 * top * k for k, each in enumerate(group)]
            y = np.array([100 * each.frequency for each in group])
            away = np.abs(100 * np.array([each.interval for each in group]).T - y)
            axes.errorbar(x, y, away, fmt="o", color=color, ms=3.5, lw=0.9, label=problem)
        axes.set(xlabel="promised [% of the days]", ylabel="observed [% of the days], 99.9 % intervals")
        axes.set_xlim(left=0.0)
        axes.set_ylim(bottom=0.0)
        axes.legend(loc="upper left")

    return draw


def draw_curves(rows: Rows, control: float) -> Draw:
    """Certified gap against steps, with bootstrap limits; the gap of predictive control as a line."""

    def draw(axes: Any) -> None:
        for color, name in zip(COLORS, dict.fromkeys(row["training"] for row in rows), strict=False):
            own = [row for row in rows if row["training"] == name]
            x = [row["steps"] for row in own]
            axes.plot(x, [row["gap [%]"] for row in own], "o-", color=color, label=name)
            low, high = [row["from [%]"] for row in own], [row["to [%]"] for row in own]
            if np.isfinite(low).all() and np.isfinite(high).all():
                axes.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
        axes.axhline(control, color=INK, lw=1.0, ls=(0, (4, 2)), label="predictive control")
        axes.set(xlabel="environment steps", ylabel="certified gap [% of the bound]", yscale="log")
        marks = [mark for mark in (1, 2, 5, 10, 15, 20, 30, 50, 100) if mark >= 0.5 * min(r["gap [%]"] for r in rows)]
        axes.set_yticks(marks, [str(mark) for mark in marks])
        axes.minorticks_off()
        axes.legend(loc="upper right")

    return draw
