"""A sweep: training configurations x seeds, each policy evaluated on the same sets of scenarios, as tasks and a table.

A sweep file::

    seeds = [0, 1, 2]

    [[train]]
    config = "price_chain_ppo"            # shipped name, or a path relative to the sweep file
    name = "large batch"                  # default: the configuration's name
    overrides = { total_steps = 100_000, hyperparameters = { batch_size = 4096 } }

    [[evaluate]]
    name = "fresh days"
    periods = 2000
    seed = 3
    law = "generator"                     # default: the law of the training

One task trains one configuration with one seed and evaluates it on every set; see agents.executor for where and how
tasks run, and agents.sweep_table for what they came to.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.config import TrainConfig, load, shipped
from agents.executor import Task
from baselines.certificate import write_bytes
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = [
    "BUNDLE",
    "ScenarioSet",
    "Sweep",
    "evaluate_task",
    "load_sweep",
    "returns_name",
    "sha256",
    "train_and_evaluate",
]

_MOST_PERIODS = 1_000_000
BUNDLE = Path("train", "bundle")


@dataclass(frozen=True)
class ScenarioSet:
    """Scenarios that policies are evaluated on.

    Attributes:
        name: what the table calls it.
        periods: episodes.
        seed: that they are drawn with.
        law: that they are drawn from; "" for the law of the training.
    """

    name: str
    periods: int
    seed: int = 3
    law: str = ""

    def __post_init__(self) -> None:
        """Check every field."""
        require(isinstance(self.name, str) and self.name != "", "evaluate.name", self.name, "a name")
        number("evaluate.periods", self.periods, 1, _MOST_PERIODS, integer=True)
        number("evaluate.seed", self.seed, 0, 2**63, integer=True)
        require(isinstance(self.law, str), "evaluate.law", self.law, "the name of a law")


@dataclass(frozen=True)
class Sweep:
    """What a sweep is; every combination of the three is a row of its table.

    Attributes:
        training: configurations by name; their own seeds are not used.
        seeds: of training.
        sets: to evaluate on.
    """

    training: Mapping[str, TrainConfig]
    seeds: tuple[int, ...]
    sets: tuple[ScenarioSet, ...]

    def __post_init__(self) -> None:
        """Check every field, and that every law is one that its environment has."""
        require(len(self.training) > 0, "train", self.training, "at least one configuration")
        require(len(self.seeds) > 0, "seeds", self.seeds, "at least one seed")
        for seed in self.seeds:
            number("seeds", seed, 0, 2**32 - 1, integer=True)
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "different seeds")
        require(len(self.sets) > 0, "evaluate", self.sets, "at least one set of scenarios")
        names = [each.name for each in self.sets]
        require(len(set(names)) == len(names), "evaluate.name", names, "different names")
        for name, config in self.training.items():
            limit = config.time_limit_s
            require(limit is None, f"time_limit_s of {name}", limit, "none: a policy must not depend on the machine")
            for law in sorted({config.env.law} | {each.law or config.env.law for each in self.sets}):
                _check_law(config.env.id, config.env.instance, law)

    def runs(self) -> Iterator[tuple[str, int, Task]]:
        """Name, seed and task of each training, in the order of the table."""
        for name, config in self.training.items():
            law = config.env.law
            sets = [{"law": each.law or law, "periods": each.periods, "seed": each.seed} for each in self.sets]
            for seed in self.seeds:
                arguments = {"config": config.replace(seed=seed).to_dict(), "sets": sets}
                yield name, seed, Task("agents.sweep:train_and_evaluate", arguments, f"{name}, seed {seed}")


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep file; unknown keys and wrong values raise InvalidInputError naming them."""
    path = Path(path)
    require(path.is_file(), "sweep", str(path), "an existing TOML file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{path} = unreadable ({error}); allowed: TOML") from None
    _known(values, ("seeds", "train", "evaluate"), "the sweep")
    training: dict[str, TrainConfig] = {}
    for entry in _tables(values, "train"):
        name, config = _training(entry, path.parent)
        require(name not in training, "train.name", name, "different names (the default is the configuration's)")
        training[name] = config
    sets = []
    for entry in _tables(values, "evaluate"):
        _known(entry, [each.name for each in fields(ScenarioSet)], "evaluate")
        for key in ("name", "periods"):
            require(key in entry, f"evaluate.{key}", "missing", "given for every set")
        sets.append(ScenarioSet(**entry))
    seeds = values.get("seeds", [0])
    require(isinstance(seeds, list), "seeds", seeds, "a list of seeds")
    return Sweep(training, tuple(seeds), tuple(sets))


def _known(values: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for key in values:
        require(key in names, f"key of {where}", key, ", ".join(names))


def _tables(values: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = values.get(key, [])
    right = isinstance(found, list) and all(isinstance(each, dict) for each in found)
    require(right, key, found, f"tables [[{key}]]")
    return list(found)


def _training(entry: Mapping[str, Any], beside: Path) -> tuple[str, TrainConfig]:
    _known(entry, ("config", "name", "overrides"), "train")
    source, overrides = entry.get("config"), entry.get("overrides", {})
    require(isinstance(source, str), "train.config", source, "name of a shipped configuration, or path of one")
    require(isinstance(overrides, dict), "train.overrides", overrides, "a table")
    require("seed" not in overrides, "key of train.overrides", "seed", "any but seed: the sweep has a list of seeds")
    path = Path(str(source))
    config = load(str(source) if str(source) in shipped() else beside / path)
    name = entry.get("name", path.stem)
    require(isinstance(name, str) and name != "", "train.name", name, "a name")
    return name, TrainConfig.from_dict(_merged(config.to_dict(), overrides))


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if deeper else value
    return result


def train_and_evaluate(folder: Path, config: Mapping[str, Any], sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The task of a sweep: train, or go on with a training that was cut off, and evaluate.

    Args:
        folder: gets train/ (logs, the bundle) and returns-<k>.npy, the return of every episode of set k [$].
        config: of the training, its seed included.
        sets: law, periods and seed of each set.

    Returns:
        "bundle_sha256", "steps", and "sets": "mean_return_usd" and "returns_sha256" (of the file) of each.

    Raises:
        RuntimeError: if the training ended before its last step.
    """
    from agents.sb3 import train

    settings = TrainConfig.from_dict(config)
    done = train(settings, folder / "train", progress=False)
    if done.reason == "interrupted":  # the training caught a Ctrl-C to save its state
        raise KeyboardInterrupt
    if done.reason != "total_steps":
        raise RuntimeError(f"training ended at step {done.steps}: {done.reason}")
    rows = []
    for place, each in enumerate(sets):
        returns = evaluate_task(done.bundle, settings.env.id, each["law"], each["periods"], each["seed"])
        stream = io.BytesIO()
        np.save(stream, returns)
        write_bytes(folder / returns_name(place), stream.getvalue())
        rows.append({"mean_return_usd": float(returns.mean()), "returns_sha256": sha256(stream.getvalue())})
    return {"bundle_sha256": done.bundle_hash, "steps": done.steps, "sets": rows}


def evaluate_task(bundle: Path, env_id: str, law: str, periods: int, seed: int) -> NDArray[np.float64]:
    """Return of a trained policy on the episodes that a board of agents.boards would score it on.

    Args:
        bundle: folder of the policy, whose instance is the one played.
        env_id: environment that it was trained for.
        law: that episodes are drawn from.
        periods: days, weeks or seasons (days of the Stackelberg game make whole months).
        seed: of the draw.

    Returns:
        (n,) float64, the sum of an episode's rewards [$].
    """
    from agents.boards import world_of
    from agents.bundle import load_bundle
    from v2g_env.rollout import rollout

    policy = load_bundle(bundle)
    require(policy.env_id == env_id, "env_id of the bundle", policy.env_id, env_id)
    made = policy.env_kwargs
    model, scenario = world_of(env_id, made["instance"], law, periods, seed, made.get("plan_kwh"))
    return rollout(model, scenario, policy).returns


def _check_law(env_id: str, instance: Mapping[str, Any], law: str) -> None:
    from agents.boards import world_of

    world_of(env_id, instance, law, 1, 0)


def returns_name(place: int) -> str:
    """File of the returns on the set with this number, from zero."""
    return f"returns-{place}.npy"


def sha256(content: bytes) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(content).hexdigest()
