"""Residual learning: a network's actions are added to those of a baseline policy, named in one table.

The environment's action is clip(base action + scale x network action, -1, 1), after Silver et al., Residual Policy
Learning, arXiv 1812.06298, and Johannink et al., ICRA 2019. Importing this module loads no solver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.hyperparameters import named
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = ["BASES", "Base", "Residual", "added", "build_base", "check_base"]

Actions = NDArray[np.float32]


class Base(NamedTuple):
    """A baseline policy that a network can be added to.

    Attributes:
        build: the policy for a problem's model and the parameters.
        parameters: names of the parameters, all numbers, and their defaults.
        needs_plan: whether the model has to show a plan.
    """

    build: Callable[[Any, Mapping[str, float]], Policy]
    parameters: Mapping[str, float]
    needs_plan: bool = False


def _plan_replay(model: Any, parameters: Mapping[str, float]) -> Policy:
    from baselines.parking_lot.policies import PlanReplay

    return PlanReplay(model)


def _predictive_control(model: Any, parameters: Mapping[str, float]) -> Policy:
    from baselines.parking_lot.policies import PredictiveControl

    return PredictiveControl(model, parameters["quantile"])


def _critic_control(model: Any, parameters: Mapping[str, float]) -> Policy:
    from baselines.parking_lot.critic_policy import CriticControl

    return CriticControl(model)


def _day_ahead(model: Any, parameters: Mapping[str, float]) -> Policy:
    from baselines.scheduling.day import Protection
    from baselines.scheduling.policies import DayAhead

    protection = Protection("budget", parameters["alpha"], wind=True)
    return DayAhead(model, protection, parameters["share"], parameters["wind_sd"])


def _uncontrolled(model: Any, parameters: Mapping[str, float]) -> Policy:
    from baselines.scheduling.policies import Uncontrolled

    return Uncontrolled(model, parameters["margin_sd"])


BASES: dict[str, dict[str, Base]] = {
    "V2G/ParkingLot-v0": {
        "plan": Base(_plan_replay, {}, needs_plan=True),
        "predictive control": Base(_predictive_control, {"quantile": 0.3}),
        "critic control": Base(_critic_control, {}),
    },
    "V2G/Scheduling-v0": {
        "day ahead": Base(_day_ahead, {"alpha": 4.0, "share": 1.0, "wind_sd": 1.5}),
        "uncontrolled": Base(_uncontrolled, {"margin_sd": 1.0}),
    },
}


def check_base(env_id: str, name: str, parameters: Mapping[str, Any]) -> dict[str, float]:
    """All parameters of a base, those left out with their defaults.

    Raises:
        InvalidInputError: for an environment without bases, an unknown name or parameter, a value that is no number.
    """
    require(env_id in BASES, "base", name, f"none for {env_id}: bases exist for {', '.join(BASES)}")
    named("base", name, BASES[env_id])
    known = BASES[env_id][name].parameters
    require(isinstance(parameters, Mapping), "base_parameters", parameters, "a table of numbers")
    for key, value in parameters.items():
        require(key in known, "key of base_parameters", key, ", ".join(known) or f"none for {name!r}")
        number(f"base_parameters.{key}", value)
    return {key: float(value) for key, value in {**known, **parameters}.items()}


def build_base(env_id: str, name: str, parameters: Mapping[str, float], model: Any, plan_shown: bool) -> Policy:
    """The base policy on a problem's model.

    Raises:
        InvalidInputError: if it needs a plan and none is shown, or refuses a parameter.
    """
    base = BASES[env_id][name]
    require(plan_shown or not base.needs_plan, "plan_kwh", None, f"a plan to show, which the base {name!r} replays")
    try:
        return base.build(model, parameters)
    except InvalidInputError as error:
        raise InvalidInputError(f"base_parameters of {name!r}: {error}") from None


def added(base: Actions, network: Actions, scale: float) -> Actions:
    """Actions (n, k) of the environment: the base's plus the scaled network's, within [-1, 1]; float32."""
    return np.asarray(np.clip(base + np.float32(scale) * network, -1.0, 1.0), np.float32)


class Residual:
    """Adds a network's actions to those of a base for the episodes of a batch, and keeps the base's memory.

    Args:
        base: the policy.
        scale: of the network's actions.
    """

    def __init__(self, base: Policy, scale: float) -> None:
        """See the class."""
        self.base, self.scale = base, scale
        self._memory: tuple[Any, ...] | None = None

    def forget(self) -> None:
        """Drop the memory: all episodes begin anew."""
        self._memory = None

    def __call__(self, observation: Actions, starts: NDArray[np.bool_], network: Actions) -> Actions:
        """Actions (n, k) for observations (n, d) as the environment gives them.

        Args:
            observation: not normalised.
            starts: (n,) rows that begin an episode.
            network: (n, k) actions in [-1, 1].
        """
        action, self._memory = self.base.predict(observation, self._memory, starts, deterministic=True)
        return added(action.astype(np.float32), network, self.scale)
