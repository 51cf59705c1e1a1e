"""Figures of the Stackelberg studies: curves over one parameter, bars beside each other, rebates beside prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.figures import COLORS, GREY, Draw

__all__ = ["bars", "curves", "hours"]

Rows = Sequence[Mapping[str, Any]]
_MARKERS = ("o", "s", "^", "D", "v")


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, *, log: bool = False) -> Draw:
    """Lines by name, each x and y; what was published is grey and dashed."""

    def draw(axes: Any) -> None:
        published = [name for name in lines if name.startswith("published")]
        for k, name in enumerate(published):
            axes.plot(*lines[name], ("--", ":")[k % 2], marker="x", color=GREY, label=name)
        for k, name in enumerate(name for name in lines if name not in published):
            axes.plot(*lines[name], "-", marker=_MARKERS[k % 5], color=COLORS[k % len(COLORS)], label=name)
        if log:
            axes.set_yscale("log")
        axes.set(xlabel=x, ylabel=y)
        axes.legend()

    return draw


def bars(labels: Sequence[str], groups: Mapping[str, Sequence[float]], y: str) -> Draw:
    """Bars side by side: one place per label, one bar per group."""

    def draw(axes: Any) -> None:
        place = np.arange(len(labels))
        width = 0.8 / len(groups)
        for k, (name, heights) in enumerate(groups.items()):
            axes.bar(place + (k - 0.5 * (len(groups) - 1)) * width, heights, width, label=name, color=COLORS[k])
        axes.set_xticks(place, labels, rotation=40, ha="right")
        axes.set(ylabel=y)
        axes.legend()

    return draw


def hours(rebates: Mapping[str, Sequence[float]], price: Sequence[float]) -> Draw:
    """Rebates of every hour as steps, prices on an axis of their own."""

    def draw(axes: Any) -> None:
        edges = np.arange(len(price) + 1)
        for name, values in rebates.items():
            axes.stairs(values, edges, label=name, linewidth=1.8)
        axes.set(xlabel="hour of the day", ylabel="rebate [$/h]", xlim=(0, len(price)))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        right = axes.twinx()
        right.stairs(price, edges, color=GREY, linestyle="--", label="price")
        right.set(ylabel="price [$/kW per hour]", ylim=(0.0, None))
        right.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0))

    return draw
