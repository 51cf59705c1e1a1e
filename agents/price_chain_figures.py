"""Figures of the price chain's comparison: learning curve, what robustness costs, and one day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.compare import Result, TestSet
from agents.figures import BLUE, COLORS, GREEN, GREY, INK, ORANGE, PURPLE, RED, Draw
from v2g_env.price_chain.model import FACTS

__all__ = ["COLORS_OF_TERMS", "WORDS", "draw_curve", "draw_day", "draw_robust"]

WORDS = {
    "energy": "energy traded",
    "starts": "starts and stops",
    "wear": "wear",
    "drivers": "paid by drivers",
    "shortfall": "missing at departure",
}
COLORS_OF_TERMS = dict(zip(WORDS, (BLUE, PURPLE, ORANGE, GREEN, RED), strict=True))


def draw_curve(days: Sequence[float], values: Sequence[float], optimum: float) -> Draw:
    """Exact value of Q-learning's greedy plan by days played, below the exact optimum."""

    def draw(axes: Any) -> None:
        axes.plot(days, values, "o-", color=BLUE, label="greedy plan of Q-learning, exact value")
        axes.axhline(optimum, color=INK, ls="--", lw=1.2, label="exact optimum")
        axes.set(xlabel="days played", ylabel="value [$/day]")
        axes.legend(loc="lower right")

    return draw


def draw_robust(exact: Mapping[str, Mapping[str, float]], sets: Sequence[str]) -> Draw:
    """Worst case of every policy in each set against its value under the estimated chain."""

    def draw(axes: Any) -> None:
        names = list(exact)
        for k, each in enumerate(sets):
            worst = [exact[name][f"worst_{each}_usd"] for name in names]
            axes.plot(worst, range(len(names)), "o", color=COLORS[k], label=f"worst case, {each}")
        values = [exact[name]["value_usd"] for name in names]
        axes.plot(values, range(len(names)), "D", color=GREY, label="estimated chain")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("exact value [$/day]")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.2)

    return draw


def draw_day(test: TestSet, day: int, shown: Sequence[Result]) -> Draw:
    """Stored energy through one day under several policies, and the price that came."""
    lot = test.model.instance
    start = lot.start_level * lot.level_kwh

    def draw(axes: Any) -> None:
        hours = lot.start_hour + lot.step_h * np.arange(test.model.steps + 1)
        price = 100.0 * shown[0].episodes.facts[day, :, FACTS.index("price_usd_per_kwh")]
        for k, result in enumerate(shown):
            stored = result.episodes.facts[day, :, FACTS.index("stored_kwh")]
            axes.plot(hours, np.append(start, stored), color=COLORS[k], label=result.row.policy)
        axes.axhline(lot.target_level * lot.level_kwh, color=GREY, ls=":", label="target")
        axes.set(xlabel="hour (beyond 24: the next day)", ylabel="stored energy [kWh]", xlim=(hours[0], hours[-1]))
        axes.set_ylim(0.0, lot.capacity_kwh)
        twin = axes.twinx()
        twin.stairs(price, hours, color=INK, lw=1.0, alpha=0.6)
        twin.set_ylabel("price [cent/kWh], thin black line")
        twin.grid(visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2, handlelength=1.4)

    return draw
