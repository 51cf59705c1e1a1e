"""Figures of the shared battery's comparisons: a week of one battery, and who owns how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.compare import Result, TestSet
from agents.figures import BLUE, COLORS, GREEN, GREY, ORANGE, RED, Draw
from v2g_env.shared_battery.model import WEEK_FACTS

__all__ = ["SIZING_COLORS", "SIZING_WORDS", "WEEK_COLORS", "WEEK_WORDS", "draw_sizes", "draw_week", "levels"]

Floats = NDArray[np.float64]

WEEK_WORDS = {"service": "value of granted requests"}
WEEK_COLORS = {"service": BLUE}
SIZING_WORDS = {
    "own_capacity": "own batteries",
    "shared_capacity": "shared battery",
    "missed": "missed days beyond the targets",
    "separate": "what separate batteries cost",
}
SIZING_COLORS = dict(zip(SIZING_WORDS, (BLUE, ORANGE, RED, GREEN), strict=True))


def levels(test: TestSet, result: Result, week: int) -> Floats:
    """Energy left after every request of a week, (T,) [kWh]."""
    return np.asarray(result.episodes.facts[week, :, WEEK_FACTS.index("left_kwh")])


def draw_week(test: TestSet, week: int, shown: Sequence[tuple[str, Floats]]) -> Draw:
    """Energy left through one week under several policies, and what was asked each day."""
    lot, n = test.model.instance, test.model.instance.drivers
    asked = test.scenario.size_kwh[week, :-1].reshape(lot.week_days, n).sum(axis=1)

    def draw(axes: Any) -> None:
        days = np.arange(lot.week_days + 1.0)
        axes.stairs(asked, days, fill=True, color=GREY, alpha=0.25, label="asked for, whole day")
        axes.axhline(test.model.sizes.shared_kwh, color=GREY, lw=0.9, ls=":", label="shared battery")
        x = (1.0 + np.arange(lot.week_days * n)) / n
        for k, (name, left) in enumerate(shown):
            axes.plot(x, left, color=COLORS[k], lw=1.3, label=name)
        names = [("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[d % 7] for d in range(lot.week_days)]
        axes.set_xticks(np.arange(lot.week_days) + 0.5, names if lot.week_days <= 14 else [""] * lot.week_days)
        axes.set(ylabel="energy [kWh]", xlim=(0.0, lot.week_days))
        axes.set_ylim(bottom=0.0)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.6)

    return draw


def draw_sizes(median_kwh: Floats, shown: Sequence[tuple[str, Floats, float]]) -> Draw:
    """Own batteries by driver, drivers in the order of their median need; shared battery per driver as a line.

    Args:
        median_kwh: (n,) median need of every driver.
        shown: name, own batteries (n,) and shared battery [kWh] of every policy.
    """
    order = np.argsort(median_kwh, kind="stable")

    def draw(axes: Any) -> None:
        edges = np.arange(len(order) + 1.0)
        for k, (name, own, shared) in enumerate(shown):
            total = (own.sum() + shared) / len(own)
            axes.stairs(own[order], edges, color=COLORS[k], lw=1.6, label=f"{name}: {total:.1f} kWh per driver in all")
            if shared > 0.0:
                axes.axhline(shared / len(own), color=COLORS[k], lw=1.0, ls="--")
        axes.plot(edges[:-1] + 0.5, median_kwh[order], ".", color=GREY, label="median need")
        axes.plot([], [], color=GREY, lw=1.0, ls="--", label="shared battery per driver")
        axes.set(xlabel="drivers by median need", ylabel="own battery [kWh]", xlim=(0.0, len(order)))
        axes.set_ylim(bottom=0.0)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.6)

    return draw
