"""What nobody can beat: every day's best plan with its load, wind and cars known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.day import Protection, known_day
from baselines.scheduling.linear import Answer, optimise
from baselines.scheduling.program import Task
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario

__all__ = ["Hindsight", "hindsight"]

Floats = NDArray[np.float64]


class Hindsight(NamedTuple):
    """Bounds of n days.

    Attributes:
        bound_usd: (n,) proven upper limit on the return of any policy on each day [$].
        plan_usd: (n,) return of the best plan found, that sees the whole day [$].
        answers: plans and evidence of each day.
    """

    bound_usd: Floats
    plan_usd: Floats
    answers: tuple[Answer, ...]


def hindsight(model: Model, scenario: Scenario, say: Callable[[str], None] = lambda text: None) -> Hindsight:
    """Solve every day as if it were known, missing energy and overload at their prices.

    Args:
        model: of the environment.
        scenario: n days.
        say: receives a line every 50 days.
    """
    lot = model.instance
    answers = []
    for row in range(len(scenario.load_kw)):
        if row % 50 == 0 and row:
            say(f"hindsight: {row} of {len(scenario.load_kw)} days")
        day = known_day(model, scenario, row)
        answers.append(optimise(lot, Task(day, Protection(), "cost", True, model.gas_scale)))
    bound = np.array([lot.calibrated_usd - each.bound for each in answers])
    plan = np.array([lot.calibrated_usd - each.measured.value for each in answers])
    return Hindsight(bound, plan, tuple(answers))
