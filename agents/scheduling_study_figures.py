"""Figures of the scheduling study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import BLUE, COLORS, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, Draw
from agents.scheduling_answers import World
from agents.scheduling_figures import clock
from baselines.scheduling.distributed import Round
from v2g_env.scheduling.instance import Instance

__all__ = ["draw_agreement", "draw_alpha", "draw_profiles", "draw_voltage"]

Floats = NDArray[np.float64]

_LAWS = {
    "uniform": (BLUE, "-"),
    "two-point": (GREEN, "-"),
    "triangular": (SKY, "-"),
    "normal": (ORANGE, "--"),
    "skewed": (RED, "--"),
    "heavy-tailed": (PURPLE, "--"),
}


def draw_alpha(world: World, curves: Mapping[str, Sequence[float]]) -> Draw:
    """Violation of a period against alpha: simulated laws and bounds; planned cost on the right."""
    alphas = np.array(world.config.alphas)

    def draw(axes: Any) -> None:
        for name, (color, style) in _LAWS.items():
            axes.plot(alphas, curves[name], style, color=color, marker=".", label=name)
        axes.plot(alphas, curves["bound"], color=INK, lw=2.2, label="bound")
        axes.plot(alphas, curves["weak"], ":", color=INK, label="weaker bound")
        axes.set(xlabel="protection level alpha", ylabel="periods violated")
        axes.set_ylim(bottom=0.0)
        cost = axes.twinx()
        cost.plot(alphas, curves["cost"], color=GREY, lw=2.2, label="planned cost")
        cost.set_ylabel("planned cost [$]")
        cost.spines["right"].set_visible(True)
        lines = [*axes.get_lines(), *cost.get_lines()]
        names = [line.get_label() for line in lines]
        axes.legend(
            lines, names, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, borderaxespad=0.2, handlelength=1.8
        )

    return draw


def draw_profiles(lot: Instance, curves: Mapping[str, Floats]) -> Draw:
    """Power of all cars through the day for several plans."""

    def draw(axes: Any) -> None:
        edges = clock(axes, lot)
        for color, (name, power) in zip(COLORS, curves.items(), strict=False):
            axes.stairs(power, edges, color=color, lw=1.4, label=name, baseline=None)
        axes.axhline(0.0, color=GREY, lw=0.8)
        axes.set(ylabel="power of all cars [kW]")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2, handlelength=1.6)

    return draw


def draw_voltage(profiles: Mapping[str, Floats]) -> Draw:
    """Voltage of every bus under several dispatches."""

    def draw(axes: Any) -> None:
        for color, (name, voltage) in zip(COLORS, profiles.items(), strict=False):
            axes.plot(np.arange(len(voltage)), voltage, "o", color=color, ms=4, label=name)
        axes.set(xlabel="bus", ylabel="voltage [pu]")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.6)

    return draw


def draw_agreement(curves: Mapping[str, Sequence[Round]]) -> Draw:
    """Proven gap and disagreement against rounds."""

    def draw(axes: Any) -> None:
        for color, (name, rounds) in zip(COLORS, curves.items(), strict=False):
            number = [each.number + 1 for each in rounds]
            axes.plot(number, [each.primal for each in rounds], color=color, lw=1.2, label=f"disagreement, {name}")
            known = [each for each in rounds if 0.0 < each.gap < np.inf]
            axes.plot([each.number + 1 for each in known], [each.gap for each in known], "o", color=color, ms=4)
        axes.plot([], [], "o", color=GREY, ms=4, label="proven gap")
        axes.set(xlabel="round", ylabel="relative", yscale="log")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2, handlelength=1.6)

    return draw
