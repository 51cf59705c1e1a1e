"""Figures of scheduling comparisons: who gives and who takes through a day, and what the generator does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.compare import Result, TestSet
from agents.figures import BLUE, COLORS, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, Draw
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS

__all__ = ["TERMS", "TERM_COLORS", "clock", "draw_gas", "draw_powers", "series"]

Floats = NDArray[np.float64]

TERMS = {
    "reference": "a day without V2G, known",
    "gas": "generator",
    "wind": "maintenance of turbines",
    "wear": "battery wear",
    "subsidy": "subsidy",
    "emergency": "emergency source",
    "overload": "overload",
}  # money terms in words
TERM_COLORS = dict(zip(TERMS, (GREY, ORANGE, SKY, GREEN, PURPLE, RED, INK), strict=True))


def series(result: Result, day: int, name: str) -> Floats:
    """One of the model's facts through a day, (steps,)."""
    return np.asarray(result.episodes.facts[day, :, FACTS.index(name)])


def clock(axes: Any, lot: Instance) -> Floats:
    """Label the time axis with clock times; returns the steps' edges [h from the start]."""
    edges = lot.step_h * np.arange(lot.steps + 1.0)
    every = max(edges[-1] / 8.0, lot.step_h)
    places = np.arange(0.0, edges[-1] + 1e-9, every)
    clocks = (lot.start_h + places) % 24.0
    axes.set_xticks(places, [f"{int(h):02d}:{round(60 * (h % 1)):02d}" for h in clocks])
    axes.set_xlim(0.0, edges[-1])
    return edges


def draw_powers(lot: Instance, gas_kw: Floats, wind_kw: Floats, car_kw: Floats, load_kw: Floats) -> Draw:
    """Supply stacked (generator, wind, discharging cars) against use (homes, charging cars on top).

    Args:
        lot: the instance.
        gas_kw: (steps,) generator.
        wind_kw: (steps,) wind used.
        car_kw: (steps,) all cars, charging positive.
        load_kw: (steps,) homes.
    """

    def draw(axes: Any) -> None:
        edges = clock(axes, lot)
        floor = np.zeros(len(gas_kw))
        for part, color, name in (
            (wind_kw, SKY, "wind used"),
            (gas_kw, ORANGE, "generator"),
            (np.maximum(-car_kw, 0.0), GREEN, "cars giving"),
        ):
            axes.stairs(floor + part, edges, baseline=floor, fill=True, color=color, alpha=0.75, label=name)
            floor = floor + part
        axes.stairs(load_kw, edges, color=INK, lw=1.6, label="homes", baseline=None)
        axes.stairs(load_kw + np.maximum(car_kw, 0.0), edges, color=BLUE, lw=1.4, label="and cars", baseline=None)
        axes.set(ylabel="power [kW]")
        axes.set_ylim(bottom=0.0)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, borderaxespad=0.2, handlelength=1.6)

    return draw


def draw_gas(test: TestSet, day: int, shown: Sequence[Result]) -> Draw:
    """The generator through one day under several policies, and the net load of the homes."""
    lot = test.model.instance
    net = series(shown[0], day, "load_kw") - series(shown[0], day, "wind_available_kw")

    def draw(axes: Any) -> None:
        edges = clock(axes, lot)
        axes.stairs(net, edges, fill=True, color=GREY, alpha=0.25, label="homes minus available wind")
        for k, result in enumerate(shown):
            gas = series(result, day, "gas_kw")
            axes.stairs(gas, edges, color=COLORS[k], lw=1.4, label=result.row.policy, baseline=None)
        axes.set(ylabel="generator [kW]")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.2, handlelength=1.6)

    return draw
