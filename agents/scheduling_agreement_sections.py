"""Section of the scheduling study on aggregators that agree by messages instead of handing over their cars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agents.report import Section
from agents.scheduling_answers import World
from agents.scheduling_study_figures import draw_agreement
from baselines.scheduling.day import Protection
from baselines.scheduling.distributed import Round, coordinate

__all__ = ["agreement"]

_SILENCE = 0.3  # share of the rounds in which aggregator 2 does not answer
_BUDGET = 2.0
_LEAVES = 5  # round in which an aggregator leaves for good


def _silences() -> dict[str, Callable[[int], list[int]] | None]:
    def sometimes(k: int) -> list[int]:
        return [2] if np.random.default_rng(k).random() < _SILENCE else []

    return {
        "all answer": None,
        "one silent in 30 % of the rounds": sometimes,
        "one silent from round 5 to 14": lambda k: [2] if _LEAVES <= k < 3 * _LEAVES else [],
        "one leaves for good in round 5": lambda k: [2] if k >= _LEAVES else [],
    }


def agreement(world: World) -> Section:
    """Rounds, messages and proven gap of the agreement, with and without silence."""
    lot, day = world.instance, world.known_wind(0)
    central = world.plan(0, _BUDGET)
    rows: list[dict[str, Any]] = []
    curves: dict[str, tuple[Round, ...]] = {}
    for name, silent in _silences().items():
        found = coordinate(lot, day, Protection("budget", _BUDGET), gap=world.config.coordination_gap, silent=silent)
        last = found.history[-1]
        curves[name] = found.history
        rows.append(
            {
                "who answers": name,
                "rounds": last.number + 1,
                "numbers sent": f"{last.messages:,}",
                "cost [$]": f"{found.value:.2f}",
                "above the central optimum [%]": f"{100 * (found.value / central.measured.value - 1):.3f}",
                "proven gap": f"{last.gap:.1e}".replace("-", "−"),
            }
        )
    text = (
        f"Day 0 with uncertain loads, budget {_BUDGET:g}. Every aggregator keeps its cars to itself; the utility sends "
        "wanted powers and prices, the aggregators their powers. In every fifth round a Lagrangian bound and a plan "
        f"are made from what was sent; the exchange ends at a proven gap of {world.config.coordination_gap:g}. The "
        f"central optimum, which sees everything, is ${central.measured.value:.2f}. An aggregator that stays silent "
        "keeps its last profile; if it never returns the others settle without it, and the gap speaks of the best plan "
        "given that profile."
    )
    return Section("Aggregators that agree", text, rows, draw_agreement(curves), (8.6, 3.4))
