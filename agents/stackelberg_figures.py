"""Figures of a Stackelberg comparison: the rebates of one day, and the words and colours of its money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.compare import Result, TestSet
from agents.figures import BLUE, COLORS, GREY, ORANGE, RED, Draw

__all__ = ["TERMS", "TERM_COLORS", "draw_day", "rebates_of"]

Floats = NDArray[np.float64]

TERMS = {
    "payment": "paid for regulation",
    "penalty": "penalty for missing power",
    "rebates": "rebates to drivers",
    "reference": "less what no rebates earn",
}  # money terms in words
TERM_COLORS = dict(zip(TERMS, (BLUE, RED, ORANGE, GREY), strict=True))


def rebates_of(test: TestSet, result: Result, month: int, day: int) -> Floats:
    """Rebates (T,) [$/h] that a policy set on one day."""
    c = test.model.constants
    wanted = np.maximum(result.episodes.actions[month, day, :-1].astype(np.float64), 0.0) * c.levels[-1]
    level = np.minimum(np.searchsorted(c.between, wanted), c.choices - 1)
    return np.asarray(c.levels[level])


def draw_day(price: Floats, step_h: float, shown: Sequence[tuple[str, Floats]]) -> Draw:
    """Rebates of several policies by name, (T,) each, and the hours' prices (24,) as a grey area behind them."""

    def draw(axes: Any) -> None:
        right = axes.twinx()
        right.stairs(price, np.arange(25.0), fill=True, color=GREY, alpha=0.25, label="price (right)")
        right.set_ylim(0.0, 1.15 * max(float(price.max()), 1e-9))
        right.set_ylabel("price [$/kW per hour]")
        axes.set_zorder(right.get_zorder() + 1)
        axes.patch.set_visible(False)
        for k, (name, rebates) in enumerate(shown):
            edges = step_h * np.arange(len(rebates) + 1)
            axes.stairs(rebates, edges, color=COLORS[k], lw=2.4 - 0.4 * k, label=name, baseline=None)
        axes.plot([], [], color=GREY, lw=6.0, alpha=0.4, label="price (right)")
        axes.set(xlabel="hour of the day", ylabel="rebate [$/h]", xlim=(0.0, 24.0))
        axes.set_ylim(bottom=0.0)
        axes.set_xticks(np.arange(0.0, 25.0, 3.0))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2, handlelength=1.6)

    return draw
