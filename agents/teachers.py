"""Imitation: whom a network learns from before it is trained, named in one table. Importing this loads no solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.hyperparameters import named
from v2g_env.core.policy import Policy
from v2g_env.core.validate import number, require

__all__ = ["TEACHERS", "Imitation", "Lesson", "check_teacher"]

Floats = NDArray[np.float64]


class Lesson(NamedTuple):
    """What a teacher gives for the episodes of a scenario.

    Attributes:
        policy: what it does in them.
        weights: (n, T) what a wrong action costs, relative; None: the same everywhere.
    """

    policy: Policy
    weights: Floats | None = None


class Teacher(NamedTuple):
    """How to make a lesson.

    Attributes:
        lesson: of a problem's model, episodes and the parameters.
        parameters: names of the parameters, all numbers, and their defaults.
    """

    lesson: Callable[[Any, Any, Mapping[str, float]], Lesson]
    parameters: Mapping[str, float]


def _lot_control(model: Any, scenario: Any, parameters: Mapping[str, float]) -> Lesson:
    from baselines.parking_lot.policies import PredictiveControl

    return Lesson(PredictiveControl(model, parameters["quantile"]))


def _lot_hindsight(model: Any, scenario: Any, parameters: Mapping[str, float]) -> Lesson:
    """The best path of every day; a step weighs what stored energy is worth in it, the path's multiplier [$/kWh]."""
    from baselines.parking_lot.samples import reachable, true_market
    from baselines.parking_lot.storage import solve_paths
    from v2g_env.rollout import Recorded

    lot = model.instance
    path = solve_paths(lot, true_market(lot, scenario), reachable(lot, scenario))
    gate, last = lot.gate_closure_steps, lot.steps - 1
    actions = np.stack(
        [
            model.action_for(path.stored_kwh[:, min(t + gate, last)], t, scenario.capacity_kwh[:, t])
            for t in range(lot.steps)
        ],
        axis=1,
    ).astype(np.float32)
    price = np.abs(path.multiplier)[:, np.minimum(np.arange(lot.steps) + gate, last)]
    return Lesson(Recorded(actions), price if price.any() else None)


def _lot_critic(model: Any, scenario: Any, parameters: Mapping[str, float]) -> Lesson:
    from baselines.parking_lot.critic_policy import CriticControl

    return Lesson(CriticControl(model, days=int(parameters["days"])))


def _network_control(model: Any, scenario: Any, parameters: Mapping[str, float]) -> Lesson:
    from baselines.scheduling.mpc import PredictiveControl

    return Lesson(PredictiveControl(model, parameters["margin_sd"]))


def _week_programme(model: Any, scenario: Any, parameters: Mapping[str, float]) -> Lesson:
    from baselines.shared_battery.policies import DynamicProgramme

    grid = parameters["grid"]
    require(grid >= 1.0 and grid == int(grid), "imitation.parameters.grid", grid, "a whole number, at least 1")
    return Lesson(DynamicProgramme(model, int(grid)))


def _chain_optimum(model: Any, scenario: Any, parameters: Mapping[str, float]) -> Lesson:
    from baselines.price_chain.policies import TablePolicy
    from baselines.price_chain.values import solve

    return Lesson(TablePolicy(model, solve(model).plan))


TEACHERS: dict[str, dict[str, Teacher]] = {
    "V2G/ParkingLot-v0": {
        "predictive control": Teacher(_lot_control, {"quantile": 0.3}),
        "critic control": Teacher(_lot_critic, {"days": 4.0}),
        "hindsight": Teacher(_lot_hindsight, {}),
    },
    "V2G/Scheduling-v0": {"predictive control": Teacher(_network_control, {"margin_sd": 1.0})},
    "V2G/SharedBatteryAllocation-v0": {"season programme": Teacher(_week_programme, {"grid": 400.0})},
    "V2G/PriceChain-v0": {"optimum": Teacher(_chain_optimum, {})},
}


def check_teacher(env_id: str, name: str, parameters: Mapping[str, Any]) -> dict[str, float]:
    """All parameters of a teacher, those left out with their defaults.

    Raises:
        InvalidInputError: for an environment without teachers, an unknown name or parameter, a value that is no number.
    """
    require(env_id in TEACHERS, "teacher", name, f"none for {env_id}: teachers exist for {', '.join(TEACHERS)}")
    named("teacher", name, TEACHERS[env_id])
    known = TEACHERS[env_id][name].parameters
    require(isinstance(parameters, Mapping), "imitation.parameters", parameters, "a table of numbers")
    for key, value in parameters.items():
        require(key in known, "key of imitation.parameters", key, ", ".join(known) or f"none for {name!r}")
        number(f"imitation.parameters.{key}", value)
    return {key: float(value) for key, value in {**known, **parameters}.items()}


@dataclass(frozen=True)
class Imitation:
    """Behaviour cloning before the training.

    Attributes:
        teacher: name in TEACHERS.
        parameters: of the teacher.
        episodes: that it plays.
        seed: of these episodes; no training or evaluation uses the same stream.
        epochs: passes over what it did.
        batch_size: of a gradient step.
        learning_rate: of Adam; falls to zero along a cosine.
        critic_steps: steps of the training after that in which the actor is fixed and the critic alone learns.
    """

    teacher: str = "predictive control"
    parameters: Mapping[str, float] = field(default_factory=dict)
    episodes: int = 300
    seed: int = 101
    epochs: int = 40
    batch_size: int = 512
    learning_rate: float = 2e-3
    critic_steps: int = 0

    def __post_init__(self) -> None:
        """Check every field; the teacher itself is checked against its environment by ``check_teacher``."""
        require(isinstance(self.teacher, str), "imitation.teacher", self.teacher, "the name of a teacher")
        require(isinstance(self.parameters, Mapping), "imitation.parameters", self.parameters, "a table of numbers")
        for name in ("episodes", "epochs", "batch_size"):
            number(f"imitation.{name}", getattr(self, name), 1, 10**7, integer=True)
        number("imitation.seed", self.seed, 0, 2**32 - 1, integer=True)
        number("imitation.critic_steps", self.critic_steps, 0, 10**12, integer=True)
        number("imitation.learning_rate", self.learning_rate, 0.0, 1.0, open_low=True)
