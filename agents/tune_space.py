"""What a hyperparameter search may change: one table of ranges per learner, and how a point becomes a configuration.

What a configuration sets to a value outside of the range was set on purpose, and is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from agents.config import TrainConfig
from agents.hyperparameters import OnPolicyParams, named
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = ["SPACES", "Dimension", "Point", "apply", "dimensions", "point_of"]

Point = dict[str, Any]  # value by name of a dimension


class Dimension(NamedTuple):
    """One hyperparameter of a search.

    Attributes:
        name: of the hyperparameter; "minibatches" stands for batch_size, of which a rollout has that many.
        kind: "float", "int", "text" or "widths" (net_arch, written "64-64").
        low, high: range of numbers, both included.
        log: whether equal ratios rather than equal differences are equally likely.
        choices: of texts and widths.
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[str, ...] = ()


_WIDTHS = Dimension("net_arch", "widths", choices=("32-32", "64-64", "128-64", "128-128", "256-256"))
_GAMMA = Dimension("gamma", "float", 0.95, 1.0)
_ON_POLICY = (
    Dimension("learning_rate", "float", 1e-4, 1e-2, log=True),
    Dimension("learning_rate_schedule", "text", choices=("constant", "linear")),
    Dimension("minibatches", "int", 1, 32, log=True),
    Dimension("n_epochs", "int", 2, 12, log=True),
    Dimension("gae_lambda", "float", 0.8, 1.0),
    Dimension("clip_range", "float", 0.05, 0.4),
    Dimension("ent_coef", "float", 0.0, 0.05),
    _GAMMA,
    _WIDTHS,
)
_NOISE = Dimension("log_std_init", "float", -3.0, 0.5)  # of numbers only: choices have no noise to begin with
_OFF_POLICY = (
    Dimension("learning_rate", "float", 3e-5, 3e-3, log=True),
    Dimension("batch_size", "int", 64, 1024, log=True),
    Dimension("tau", "float", 0.001, 0.05, log=True),
    Dimension("gradient_steps", "int", 1, 64, log=True),
    _GAMMA,
    _WIDTHS,
)

SPACES: Mapping[str, tuple[Dimension, ...]] = {
    "ppo": (*_ON_POLICY, _NOISE),
    "recurrent_ppo": (*_ON_POLICY, _NOISE, Dimension("lstm_size", "int", 8, 128, log=True)),
    "maskable_ppo": _ON_POLICY,
    "sac": _OFF_POLICY,
    "tqc": (*_OFF_POLICY, Dimension("dropped_quantiles", "int", 0, 5)),
    "td3": (
        *_OFF_POLICY,
        Dimension("action_noise", "float", 0.01, 0.5, log=True),
        Dimension("target_noise", "float", 0.05, 0.5, log=True),
        Dimension("policy_delay", "int", 1, 4),
    ),
}


def dimensions(config: TrainConfig) -> tuple[Dimension, ...]:
    """What a search of this configuration may change; see the module for what is kept."""
    discrete = config.env.action_kind == "discrete"
    space = (each for each in SPACES[config.algorithm] if not (discrete and each is _NOISE))
    return tuple(each for each in space if _inside(config, each))


def point_of(config: TrainConfig) -> Point:
    """The configuration's own values, by name of a dimension."""
    return {each.name: _read(config, each) for each in dimensions(config)}


def apply(config: TrainConfig, point: Mapping[str, Any]) -> TrainConfig:
    """The configuration with other hyperparameters.

    Args:
        config: to start from.
        point: value by name of a dimension; what is left out stays. A number of minibatches becomes the largest
            batch_size that divides the rollout and makes at least that many.

    Raises:
        InvalidInputError: for a name that the search does not change, or a value out of its range.
    """
    known = {each.name: each for each in dimensions(config)}
    changes: dict[str, Any] = {}
    for name, value in point.items():
        named("dimension of the search", name, known)
        changes |= _change(config, known[name], value)
    return config.replace(hyperparameters=replace(config.hyperparameters, **changes))


def _rollout(config: TrainConfig) -> int:
    params = config.hyperparameters
    assert isinstance(params, OnPolicyParams)
    return params.n_steps * config.num_envs


def _inside(config: TrainConfig, dimension: Dimension) -> bool:
    params = config.hyperparameters
    try:
        change = _change(config, dimension, _read(config, dimension))
    except InvalidInputError:
        return False
    return all(getattr(params, name) == value for name, value in change.items())


def _read(config: TrainConfig, dimension: Dimension) -> Any:
    params = config.hyperparameters
    if dimension.name == "minibatches":
        return _rollout(config) // params.batch_size
    value = getattr(params, dimension.name)
    return "-".join(map(str, value)) if dimension.kind == "widths" else value


def _change(config: TrainConfig, dimension: Dimension, value: Any) -> dict[str, Any]:
    if dimension.choices:
        named(dimension.name, value, dimension.choices)
        wide = dimension.kind == "widths"
        return {dimension.name: tuple(map(int, value.split("-"))) if wide else value}
    number(dimension.name, value, dimension.low, dimension.high, integer=dimension.kind == "int")
    if dimension.name != "minibatches":
        return {dimension.name: value}
    rollout = _rollout(config)
    require(rollout >= 2 * value, "minibatches", value, f"at most {rollout // 2}, two steps each")
    return {"batch_size": next(size for size in range(rollout // value, 0, -1) if rollout % size == 0)}
