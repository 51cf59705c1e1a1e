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
from typing import Any, TypeVar

from agents.bases import check_base
from agents.hyperparameters import (
    ALGORITHMS,
    MaskablePPOParams,
    OffPolicyParams,
    OnPolicyParams,
    Params,
    PPOParams,
    RecurrentPPOParams,
    SACParams,
    TD3Params,
    TQCParams,
    named,
    settle,
)
from agents.teachers import Imitation, check_teacher
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.registration import ENVIRONMENTS

__all__ = [
    "ALGORITHMS",
    "EnvConfig",
    "MaskablePPOParams",
    "PPOParams",
    "RecurrentPPOParams",
    "SACParams",
    "TD3Params",
    "TQCParams",
    "TrainConfig",
    "load",
    "shipped",
]

_Built = TypeVar("_Built")


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
        named("env.id", self.id, [entry.id for entry in ENVIRONMENTS])
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
        algorithm: name of the learner, a key of ALGORITHMS.
        env: the environment.
        num_envs: episodes simulated side by side.
        total_steps: environment steps, all environments together; the last rollout is completed.
        time_limit_s: stop after this much training time [s]; None: never.
        seed: of everything random; not part of the hash.
        reward_scale: the learner sees reward / reward_scale [$]; logged returns stay in dollars.
        checkpoint_steps: at every multiple the state is saved, and episodes and generators start afresh from a seed
            that depends on (seed, step) only: a run resumed from there repeats the uninterrupted one.
        hyperparameters: of the algorithm.
        base: baseline policy that the network's actions are added to, a name in agents.bases.BASES; None: none. The
            untrained network adds zero (and exploration noise).
        base_parameters: of the base; those left out get their defaults.
        residual_scale: of the network's actions beside the base's.
        violation_limit: mean number of violated steps per episode that is allowed; None: rewards alone count. The
            learner sees (reward - price x violation) / reward_scale, and after every rollout the price moves up by
            violation_rate x (mean violations of the episodes that ended in it - violation_limit), never below zero.
        violation_rate: step of this dual ascent [$ per violated step].
        violation_price_usd: first price.
        warm_start: folder of a bundle of the same spaces and architecture whose network and normaliser the actor
            starts from. Where it lies is not part of the hash; what it is, is: see warm_start_sha256.
        warm_start_sha256: hash of that bundle; filled in.
        imitation: behaviour cloning of a teacher before the training; None: none.
    """

    algorithm: str = "ppo"
    env: EnvConfig = field(default_factory=EnvConfig)
    num_envs: int = 256
    total_steps: int = 2_000_000
    time_limit_s: float | None = None
    seed: int = 0
    reward_scale: float = 10.0
    checkpoint_steps: int = 300_000
    hyperparameters: Params = field(default_factory=PPOParams)
    base: str | None = None
    base_parameters: Mapping[str, float] = field(default_factory=dict)
    residual_scale: float = 0.3
    violation_limit: float | None = None
    violation_rate: float = 0.1
    violation_price_usd: float = 0.0
    warm_start: str | None = field(default=None, compare=False)
    warm_start_sha256: str | None = None
    imitation: Imitation | None = None

    def __post_init__(self) -> None:
        """Check every field and how they fit together."""
        named("algorithm", self.algorithm, ALGORITHMS)
        wanted = ALGORITHMS[self.algorithm].params
        fits = type(self.hyperparameters) is wanted
        require(fits, "hyperparameters", self.hyperparameters, wanted.__name__)
        require(isinstance(self.env, EnvConfig), "env", self.env, "an EnvConfig")
        number("num_envs", self.num_envs, 1, 100_000, integer=True)
        for name in ("total_steps", "checkpoint_steps"):
            number(name, getattr(self, name), 1, 10**12, integer=True)
        if self.time_limit_s is not None:
            number("time_limit_s", self.time_limit_s, 0, 1e9, open_low=True)
        number("seed", self.seed, 0, 2**32 - 1, integer=True)
        number("reward_scale", self.reward_scale, 0, 1e9, open_low=True)
        self._check_base()
        self._check_price()
        self._check_warm_start()
        self._check_imitation()
        settle(self)
        self._check_sizes()

    def _check_base(self) -> None:
        number("residual_scale", self.residual_scale, 0, 2, open_low=True)
        if self.base is None:
            require(not self.base_parameters, "base_parameters", self.base_parameters, "none without a base")
            return
        object.__setattr__(self, "base_parameters", check_base(self.env.id, self.base, self.base_parameters))
        start = getattr(self.hyperparameters, "action_start", ())
        require(not start, "action_start", start, "none with a base: the untrained network adds zero")

    def _check_price(self) -> None:
        number("violation_rate", self.violation_rate, 0, 1e9)
        number("violation_price_usd", self.violation_price_usd, 0, 1e9)
        if self.violation_limit is None:
            free = self.violation_price_usd == 0
            require(free, "violation_price_usd", self.violation_price_usd, "0 without a violation_limit")
            return
        number("violation_limit", self.violation_limit, 0, 1e9)
        replayed = isinstance(self.hyperparameters, OffPolicyParams)  # rewards in the buffer would have old prices
        require(not replayed, "violation_limit", self.violation_limit, f"none with {self.algorithm}, which replays")

    def _check_warm_start(self) -> None:
        given = self.warm_start_sha256
        if given is not None:
            fits = isinstance(given, str) and len(given) == 64 and set(given) <= set("0123456789abcdef")
            require(fits, "warm_start_sha256", given, "the hash of a bundle, 64 hexadecimal digits")
        if self.warm_start is None:
            return
        require(isinstance(self.warm_start, str), "warm_start", self.warm_start, "the folder of a bundle")
        from agents.bundle_files import BundleError, read_files

        try:
            found = read_files(Path(self.warm_start))[0]["sha256"]
        except BundleError as error:
            raise InvalidInputError(f"warm_start: {error}") from None
        require(given in (None, found), "hash of the bundle in warm_start", found, f"warm_start_sha256 = {given}")
        object.__setattr__(self, "warm_start_sha256", found)

    def _check_imitation(self) -> None:
        made = self.imitation
        if made is None:
            return
        require(isinstance(made, Imitation), "imitation", made, "an Imitation")
        known = ("ppo", "maskable_ppo")
        require(self.algorithm in known, "imitation", f"with {self.algorithm}", f"with {' or '.join(known)}")
        require(self.base is None, "imitation", f"with base {self.base!r}", "without a base")
        require(self.warm_start_sha256 is None, "imitation", "with a warm_start", "one of the two")
        parameters = check_teacher(self.env.id, made.teacher, made.parameters)
        object.__setattr__(self, "imitation", replace(made, parameters=parameters))

    def _check_sizes(self) -> None:
        params = self.hyperparameters
        if isinstance(params, OnPolicyParams):
            rollout = params.n_steps * self.num_envs
            fits = rollout % params.batch_size == 0
            require(fits, "batch_size", params.batch_size, f"a divisor of n_steps x num_envs = {rollout}")
        elif isinstance(params, OffPolicyParams):
            require(params.buffer_size >= self.num_envs, "buffer_size", params.buffer_size, f">= {self.num_envs}")

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of everything but the seed: results are keyed by (hash, seed)."""
        content = self.to_dict()
        del content["seed"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data as JSON would give it back.

        What is off (None) is left out, so that a hash does not change when another thing can be switched on; and so is
        the path in warm_start, which means something here only.
        """
        content = {key: value for key, value in asdict(self).items() if value is not None and key != "warm_start"}
        return _plain(content)  # type: ignore[no-any-return]

    def replace(self, **changes: Any) -> TrainConfig:
        """Copy with some fields changed; unknown names raise InvalidInputError."""
        _known(changes, TrainConfig, "")
        if "warm_start" in changes:
            changes.setdefault("warm_start_sha256", None)
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from nested mappings; unknown keys and wrong values raise InvalidInputError naming them."""
        require(isinstance(values, Mapping), "configuration", values, "a table")
        values = dict(values)
        algorithm = values.get("algorithm", "ppo")
        named("algorithm", algorithm, ALGORITHMS)
        given = values.get("hyperparameters", {})
        values["hyperparameters"] = _build(ALGORITHMS[algorithm].params, given, "hyperparameters.")
        values["env"] = _build(EnvConfig, values.get("env", {}), "env.")
        if values.get("imitation") is not None:
            values["imitation"] = _build(Imitation, values["imitation"], "imitation.")
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
        named(f"key of the configuration {where or 'file'}".rstrip("."), key, names)


def _build(cls: type[_Built], values: Any, where: str) -> _Built:
    require(isinstance(values, Mapping), where.rstrip(".") or "configuration", values, "a table")
    _known(values, cls, where)
    return cls(**values)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))
