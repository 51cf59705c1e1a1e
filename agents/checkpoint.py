"""Everything a stopped training needs to go on, as plain tensors and numbers.

A checkpoint is a bundle (so it can be evaluated like one) with two more files: training.safetensors holds all network
parameters, the optimisers' moments, the entropy weight and the replay buffer; training.json the counters. Episodes and
random generators are not stored: at every checkpoint they start afresh from a seed that depends on (seed, step) only,
in the uninterrupted run too, so that resuming from a checkpoint repeats it exactly, however the run was stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bundle import save_bundle
from agents.bundle_files import BundleError, read_files, write_folder
from agents.config import TrainConfig
from agents.learners import policy_tensors
from agents.normaliser import Normaliser

__all__ = [
    "DIVERGED",
    "INTERRUPTED",
    "Counters",
    "discard",
    "folders",
    "newest",
    "restore",
    "save",
    "save_diverged",
    "tidy",
]

TENSORS, COUNTERS = "training.safetensors", "training.json"
INTERRUPTED, DIVERGED = "interrupted", "diverged"
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_KEEP = 2
_log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]


class Counters(NamedTuple):
    """Where a training stands.

    Attributes:
        steps: environment steps.
        seconds: training time [s].
        episodes: finished episodes.
        updates: the algorithm's own count of updates.
        replay_size, replay_position: transitions in the replay buffer, and where the next one goes.
        violation_price_usd: price of a violated step in the learner's reward [$].
    """

    steps: int = 0
    seconds: float = 0.0
    episodes: int = 0
    updates: int = 0
    replay_size: int = 0
    replay_position: int = 0
    violation_price_usd: float = 0.0


def _references(model: Any) -> dict[str, Any]:
    """Every tensor that training changes, by name; they share memory with the model."""
    from torch.optim import Optimizer

    found: dict[str, Any] = {}
    names, variables = model._get_torch_save_params()
    for name in names:
        part = attrgetter(name)(model)
        state = part.state_dict()
        if isinstance(part, Optimizer):
            for index, moments in state["state"].items():
                found |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
        else:
            found |= {f"{name}/{key}": value for key, value in state.items()}
    return found | {name: attrgetter(name)(model).detach() for name in variables}


def save(
    out_dir: Path,
    train: TrainConfig,
    model: Any,
    normaliser: Normaliser | None,
    counters: Counters,
    plan_kwh: list[float] | None,
) -> Path:
    """Write checkpoint-<steps>, whole or not at all, then drop all but the two newest."""
    from safetensors.numpy import save as to_bytes

    tensors = {name: np.array(value.cpu().numpy(), order="C") for name, value in _references(model).items()}
    buffer = getattr(model, "replay_buffer", None)
    counters = counters._replace(updates=int(model._n_updates))
    if buffer is not None:
        size = int(buffer.size())
        tensors |= {f"replay/{name}": getattr(buffer, name)[:size].copy() for name in _REPLAY}
        counters = counters._replace(replay_size=size, replay_position=int(buffer.pos))
    raw = to_bytes(tensors)
    facts = counters._asdict() | {"sha256": hashlib.sha256(raw).hexdigest()}
    path = out_dir / f"checkpoint-{counters.steps:012d}"
    extra = {TENSORS: raw, COUNTERS: json.dumps(facts, allow_nan=False).encode()}
    policy = policy_tensors(model, train.algorithm, normaliser)
    save_bundle(path, train, policy, counters.steps, plan_kwh, extra)
    for old in folders(out_dir)[_KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def save_diverged(out_dir: Path, model: Any, normaliser: Normaliser | None, counters: Counters, message: str) -> Path:
    """Write the state of a training that is no longer finite, for inspection; nothing reads it again."""
    from safetensors.numpy import save as to_bytes

    tensors = {name: np.array(value.cpu().numpy(), order="C") for name, value in _references(model).items()}
    if normaliser is not None:
        tensors |= {f"normaliser.{name}": value for name, value in normaliser.arrays().items()}
    facts = counters._asdict() | {"message": message}
    path = out_dir / DIVERGED
    write_folder(path, {TENSORS: to_bytes(tensors), COUNTERS: json.dumps(facts).encode()})
    return path


def tidy(out_dir: Path) -> None:
    """Remove what a killed process left half written; its names are its own."""
    for name in ("checkpoint", "bundle", INTERRUPTED, DIVERGED):
        for path in out_dir.glob(f".{name}-*"):
            shutil.rmtree(path, ignore_errors=True)
    for path in out_dir.glob("*.part"):
        path.unlink(missing_ok=True)


def folders(out_dir: Path) -> list[Path]:
    """All checkpoints, the newest first."""
    return sorted((path for path in out_dir.glob("checkpoint-*") if path.is_dir()), reverse=True)


def discard(out_dir: Path) -> None:
    """Remove all checkpoints, and what an interruption or a divergence left."""
    for path in (*folders(out_dir), out_dir / INTERRUPTED, out_dir / DIVERGED):
        shutil.rmtree(path, ignore_errors=True)


def newest(out_dir: Path) -> tuple[Counters, Arrays] | None:
    """The newest complete checkpoint, None if there is none; damaged ones are passed over with a warning."""
    for path in folders(out_dir):
        try:
            return _read(path)
        except (BundleError, OSError, KeyError, TypeError, ValueError) as error:
            _log.warning("checkpoint %s passed over: %s", path, error)
    return None


def _read(path: Path) -> tuple[Counters, Arrays]:
    from safetensors.numpy import load

    facts = json.loads((path / COUNTERS).read_text(encoding="utf-8"))
    raw = (path / TENSORS).read_bytes()
    if hashlib.sha256(raw).hexdigest() != facts.pop("sha256"):
        raise BundleError(f"{TENSORS} = damaged; allowed: what {COUNTERS} states")
    policy = load(read_files(path)[1])
    arrays = load(raw) | {name: value for name, value in policy.items() if name.startswith("normaliser.")}
    return Counters(**facts), arrays


def restore(model: Any, normaliser: Normaliser | None, counters: Counters, arrays: Mapping[str, Any]) -> None:
    """Put a checkpoint's content into a freshly built model of the same configuration."""
    import torch

    names, variables = model._get_torch_save_params()
    for name in names:
        part = attrgetter(name)(model)
        own = {
            key.removeprefix(f"{name}/"): torch.from_numpy(value.copy())
            for key, value in arrays.items()
            if key.startswith(f"{name}/")
        }
        if isinstance(part, torch.optim.Optimizer):
            moments: dict[int, dict[str, Any]] = {}
            for key, value in own.items():
                index, _, field = key.partition("/")
                moments.setdefault(int(index), {})[field] = value
            part.load_state_dict(part.state_dict() | {"state": moments})
        else:
            part.load_state_dict(own, strict=True)
    for name in variables:
        attrgetter(name)(model).data.copy_(torch.from_numpy(arrays[name].copy()))
    model.num_timesteps, model._n_updates = counters.steps, counters.updates
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        for name in _REPLAY:
            getattr(buffer, name)[: counters.replay_size] = arrays[f"replay/{name}"]
        buffer.pos, buffer.full = counters.replay_position, counters.replay_size == buffer.buffer_size
    if normaliser is not None:
        normaliser.restore({name: arrays[f"normaliser.{name}"] for name in ("mean", "variance", "count")})
