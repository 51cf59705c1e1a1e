"""What a training run is: one frozen, validated object, read from TOML. Unknown keys are errors."""

from __future__ import annotations

import hashlib
import importlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from v2g_env.core.validate import InvalidInputError, array, number, require
from v2g_env.registration import ENVIRONMENTS

__all__ = ["ALGORITHMS", "EnvConfig", "PPOParams", "SACParams", "TrainConfig", "load", "shipped"]

SCHEDULES = ("constant", "linear")
_BIG = 1_000_000_000
_Built = TypeVar("_Built")


@dataclass(frozen=True)
class PPOParams:
    """Hyperparameters of proximal policy optimisation.

    Attributes:
        n_steps: steps per environment between two updates; whole episodes if a multiple of the horizon.
        batch_size: minibatch; must divide n_steps x num_envs.
        n_epochs: passes over each rollout.
        learning_rate: of Adam.
        learning_rate_schedule: "linear" falls to zero at total_steps, "constant" stays.
        gamma, gae_lambda: discount, and the weight of longer advantage estimates.
        clip_range: trust region of the probability ratio.
        ent_coef: weight of the entropy bonus.
        net_arch: widths of the hidden layers (tanh) of actor and of critic.
        log_std_init: logarithm of the first exploration noise; box actions only.
        action_start: mean action of the untrained policy, one number per action; () for zeros; box actions only.
        normalize_observation: subtract a running mean and divide by a running deviation.
    """

    n_steps: int = 26
    batch_size: int = 832
    n_epochs: int = 6
    learning_rate: float = 5e-4
    learning_rate_schedule: str = "linear"
    gamma: float = 1.0
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.0
    net_arch: tuple[int, ...] = (64, 64)
    log_std_init: float = -1.0
    action_start: tuple[float, ...] = ()
    normalize_observation: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("n_steps", "batch_size"):
            number(name, getattr(self, name), 2, _BIG, integer=True)
        number("n_epochs", self.n_epochs, 1, 1000, integer=True)
        number("gae_lambda", self.gae_lambda, 0, 1)
        number("clip_range", self.clip_range, 0, 1, open_low=True)
        number("ent_coef", self.ent_coef, 0, 10)
        number("log_std_init", self.log_std_init, -10, 2)
        if np.shape(self.action_start) != (0,):
            array("action_start", self.action_start, (None,), -2.0, 2.0)
        object.__setattr__(self, "action_start", tuple(map(float, self.action_start)))
        schedule = self.learning_rate_schedule
        require(schedule in SCHEDULES, "learning_rate_schedule", schedule, ", ".join(SCHEDULES))
        _check_shared(self)


@dataclass(frozen=True)
class SACParams:
    """Hyperparameters of soft actor-critic.

    Attributes:
        learning_rate: of Adam, for actor, critics and entropy weight.
        buffer_size: transitions kept for replay.
        batch_size: transitions per gradient step.
        gamma, tau: discount, and how fast the target critics follow.
        train_freq: steps of the vector environment between two updates.
        gradient_steps: gradient steps per update.
        learning_starts: transitions collected with random actions before the first update; the normaliser is fitted
            on these and fixed from then on, so that the replay buffer stays consistent.
        ent_coef: "auto" or a fixed entropy weight.
        net_arch: widths of the hidden layers (ReLU) of actor and of critics.
        normalize_observation: subtract the normaliser's mean and divide by its deviation.
    """

    learning_rate: float = 3e-4
    buffer_size: int = 200_000
    batch_size: int = 256
    gamma: float = 1.0
    tau: float = 0.005
    train_freq: int = 1
    gradient_steps: int = 8
    learning_starts: int = 5_000
    ent_coef: str | float = "auto"
    net_arch: tuple[int, ...] = (64, 64)
    normalize_observation: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        number("buffer_size", self.buffer_size, 1, _BIG, integer=True)
        number("batch_size", self.batch_size, 1, _BIG, integer=True)
        number("tau", self.tau, 0, 1, open_low=True)
        for name in ("train_freq", "gradient_steps"):
            number(name, getattr(self, name), 1, 100_000, integer=True)
        number("learning_starts", self.learning_starts, 0, _BIG, integer=True)
        if self.ent_coef != "auto":
            require(not isinstance(self.ent_coef, str), "ent_coef", self.ent_coef, "auto, or a number in [0, 10]")
            number("ent_coef", self.ent_coef, 0, 10)
        _check_shared(self)


ALGORITHMS: dict[str, type[PPOParams] | type[SACParams]] = {"ppo": PPOParams, "sac": SACParams}


def _check_shared(params: PPOParams | SACParams) -> None:
    number("learning_rate", params.learning_rate, 0, 1, open_low=True)
    number("gamma", params.gamma, 0, 1)
    flag = params.normalize_observation
    require(isinstance(flag, bool), "normalize_observation", flag, "true or false")
    widths = params.net_arch
    require(isinstance(widths, tuple | list) and 1 <= len(widths) <= 8, "net_arch", widths, "1 to 8 widths")
    for width in widths:
        number("net_arch", width, 1, 4096, integer=True)
    _settle(params)


@dataclass(frozen=True)
class EnvConfig:
    """The environment of a run.

    Attributes:
        id: registered id.
        law: name of the law that the episodes come from.
        instance: fields of the problem's Instance; those left out get their defaults, so that all are recorded.
    """

    id: str = "V2G/ParkingLot-v0"
    law: str = "generator"
    instance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the id, and build the instance once."""
        known = [entry.id for entry in ENVIRONMENTS]
        require(self.id in known, "env.id", self.id, ", ".join(known))
        require(isinstance(self.law, str) and self.law != "", "env.law", self.law, "the name of a law")
        require(isinstance(self.instance, Mapping), "env.instance", self.instance, "a table of instance fields")
        object.__setattr__(self, "instance", _plain(asdict(self.build())))

    def build(self) -> Any:
        """The problem's Instance."""
        problem = next(entry.problem for entry in ENVIRONMENTS if entry.id == self.id)
        return importlib.import_module(f"v2g_env.{problem}.instance").Instance.from_dict(dict(self.instance))

    @property
    def action_kind(self) -> str:
        """Kind of its actions: "discrete" (one of several choices) or "box" (numbers in [-1, 1])."""
        return _action_kind(self.id)


@cache
def _action_kind(env_id: str) -> str:
    import gymnasium

    space = gymnasium.make(env_id, disable_env_checker=True).action_space
    return "discrete" if isinstance(space, gymnasium.spaces.Discrete) else "box"


@dataclass(frozen=True)
class TrainConfig:
    """One training run, apart from what it writes and where.

    Attributes:
        algorithm: "ppo" or "sac".
        env: the environment.
        num_envs: episodes simulated side by side.
        total_steps: environment steps, all environments together; the last rollout is completed.
        time_limit_s: stop after this much training time [s]; None: never.
        seed: of everything random; not part of the hash.
        reward_scale: the learner sees reward / reward_scale [$]; logged returns stay in dollars.
        checkpoint_steps: at every multiple the state is saved, and episodes and generators start afresh from a seed
            that depends on (seed, step) only: a run resumed from there repeats the uninterrupted one.
        hyperparameters: of the algorithm.
    """

    algorithm: str = "ppo"
    env: EnvConfig = field(default_factory=EnvConfig)
    num_envs: int = 256
    total_steps: int = 2_000_000
    time_limit_s: float | None = None
    seed: int = 0
    reward_scale: float = 10.0
    checkpoint_steps: int = 300_000
    hyperparameters: PPOParams | SACParams = field(default_factory=PPOParams)

    def __post_init__(self) -> None:
        """Check every field and how they fit together."""
        require(self.algorithm in ALGORITHMS, "algorithm", self.algorithm, ", ".join(ALGORITHMS))
        wanted = ALGORITHMS[self.algorithm]
        require(isinstance(self.hyperparameters, wanted), "hyperparameters", self.hyperparameters, wanted.__name__)
        require(isinstance(self.env, EnvConfig), "env", self.env, "an EnvConfig")
        number("num_envs", self.num_envs, 1, 100_000, integer=True)
        for name in ("total_steps", "checkpoint_steps"):
            number(name, getattr(self, name), 1, 10**12, integer=True)
        if self.time_limit_s is not None:
            number("time_limit_s", self.time_limit_s, 0, 1e9, open_low=True)
        number("seed", self.seed, 0, 2**32 - 1, integer=True)
        number("reward_scale", self.reward_scale, 0, 1e9, open_low=True)
        _settle(self)
        self._check_sizes()

    def _check_sizes(self) -> None:
        params = self.hyperparameters
        if isinstance(params, PPOParams):
            rollout = params.n_steps * self.num_envs
            fits = rollout % params.batch_size == 0
            require(fits, "batch_size", params.batch_size, f"a divisor of n_steps x num_envs = {rollout}")
        else:
            require(params.buffer_size >= self.num_envs, "buffer_size", params.buffer_size, f">= {self.num_envs}")

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of everything but the seed: results are keyed by (hash, seed)."""
        content = self.to_dict()
        del content["seed"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data as JSON would give it back."""
        return _plain(asdict(self))  # type: ignore[no-any-return]

    def replace(self, **changes: Any) -> TrainConfig:
        """Copy with some fields changed; unknown names raise InvalidInputError."""
        _known(changes, TrainConfig, "")
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from nested mappings; unknown keys and wrong values raise InvalidInputError naming them."""
        require(isinstance(values, Mapping), "configuration", values, "a table")
        values = dict(values)
        algorithm = values.get("algorithm", "ppo")
        require(isinstance(algorithm, str) and algorithm in ALGORITHMS, "algorithm", algorithm, ", ".join(ALGORITHMS))
        values["hyperparameters"] = _build(ALGORITHMS[algorithm], values.get("hyperparameters", {}), "hyperparameters.")
        values["env"] = _build(EnvConfig, values.get("env", {}), "env.")
        return _build(cls, values, "")


def shipped() -> tuple[str, ...]:
    """Names of the configurations that come with the package."""
    folder = resources.files("agents") / "configs"
    return tuple(sorted(entry.name[: -len(".toml")] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load(path_or_name: str | Path) -> TrainConfig:
    """Read a TOML file, or a shipped configuration by its name.

    Raises:
        InvalidInputError: for a name that is neither, a file that is no TOML, an unknown key, a value out of range.
    """
    name = str(path_or_name)
    if name in shipped():
        text = (resources.files("agents") / "configs" / f"{name}.toml").read_text(encoding="utf-8")
    else:
        allowed = "an existing .toml file, or one of " + ", ".join(shipped())
        require(Path(name).is_file(), "configuration", name, allowed)
        try:
            text = Path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InvalidInputError(f"configuration = {name} (not UTF-8 text); allowed: {allowed}") from None
    try:
        return TrainConfig.from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"configuration = {name} ({error}); allowed: TOML") from None


def _known(values: Mapping[str, Any], cls: Any, where: str) -> None:
    names = [one.name for one in fields(cls)]
    for key in values:
        require(key in names, f"key of the configuration {where or 'file'}".rstrip("."), key, ", ".join(names))


def _build(cls: type[_Built], values: Any, where: str) -> _Built:
    require(isinstance(values, Mapping), where.rstrip(".") or "configuration", values, "a table")
    _known(values, cls, where)
    return cls(**values)


def _settle(config: Any) -> None:
    """Give 1 and 1.0, lists and tuples, one form, so that they have one hash."""
    hints = get_type_hints(type(config))
    for one in fields(config):
        value = getattr(config, one.name)
        if hints[one.name] in (float, float | None, str | float) and isinstance(value, int):
            object.__setattr__(config, one.name, float(value))
        elif isinstance(value, list):
            object.__setattr__(config, one.name, tuple(value))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))
