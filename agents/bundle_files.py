"""The bundle's files: written whole or not at all, read and checked before anything is built from them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from agents.config import TrainConfig
from agents.hyperparameters import ALGORITHMS, RecurrentPPOParams
from agents.normaliser import Normaliser
from v2g_env.core.validate import InvalidInputError

__all__ = [
    "CONFIG",
    "FORMAT",
    "NORMALISER",
    "WEIGHTS",
    "BundleError",
    "check_tensors",
    "described",
    "digest",
    "read_files",
    "write_folder",
]

FORMAT = "v2g-env bundle 2"
CONFIG, WEIGHTS = "config.json", "policy.safetensors"
NORMALISER = {"clip": Normaliser.clip, "epsilon": Normaliser.epsilon}
_KEYS: dict[str, Any] = {
    "format": str,
    "algorithm": str,
    "activation": str,
    "net_arch": list,
    "lstm_size": (int, type(None)),
    "observation_size": int,
    "action_kind": str,
    "action_size": int,
    "base": (dict, type(None)),
    "normaliser": (dict, type(None)),
    "env_id": str,
    "env_kwargs": dict,
    "instance_hash": str,
    "train_config": dict,
    "train_config_hash": str,
    "seed": int,
    "steps": int,
    "versions": dict,
    "weights_sha256": str,
    "sha256": str,
}
_MAX_CONFIG, _MAX_WEIGHTS = 4_000_000, 500_000_000  # bytes; far above anything this package writes


class BundleError(ValueError):
    """A bundle that is incomplete, damaged, foreign or dangerous; the text says which."""


def digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything but the entry "sha256" itself."""
    content = {key: value for key, value in config.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder under another name, then move it into place; the old one stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    backup = fresh.with_name(f"{fresh.name}.old")
    try:
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        fresh.chmod(0o755)
        if path.exists():
            path.replace(backup)
        fresh.replace(path)
    except BaseException:
        if backup.exists() and not path.exists():
            backup.replace(path)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(backup, ignore_errors=True)


def read_files(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return config.json's content and the bytes of the weights after checking one against the other.

    Raises:
        BundleError: with the reason, for anything but an intact bundle of this package.
    """
    if path.is_file():
        _refuse_code(path.name, _bytes(path, _MAX_WEIGHTS))
        raise BundleError(f"{path} = a file; allowed: a bundle's folder")
    if not path.is_dir():
        raise BundleError(f"{path} = missing; allowed: a bundle's folder")
    config = _parse(_bytes(path / CONFIG, _MAX_CONFIG))
    _check_keys(config)
    if config["sha256"] != digest(config):
        raise BundleError(f"sha256 of {CONFIG} = {digest(config)}; allowed: {config['sha256']}, which it states itself")
    _check_meaning(config)
    weights = _bytes(path / WEIGHTS, _MAX_WEIGHTS)
    _refuse_code(WEIGHTS, weights)
    found = hashlib.sha256(weights).hexdigest()
    if found != config["weights_sha256"]:
        raise BundleError(f"sha256 of {WEIGHTS} = {found}; allowed: {config['weights_sha256']} (damaged or truncated)")
    return config, weights


def _bytes(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise BundleError(f"{path} = missing; allowed: a bundle has {CONFIG} and {WEIGHTS}")
    size = path.stat().st_size
    if not 0 < size <= limit:
        raise BundleError(f"size of {path} = {size} bytes; allowed: 1 to {limit}")
    return path.read_bytes()


def _refuse_code(name: str, content: bytes) -> None:
    if content.startswith(b"PK"):
        raise BundleError(
            f"{name} = a zip file (such as stable-baselines3 writes), which can run foreign code when opened; "
            "allowed: a bundle's folder, or load_sb3_zip(path, trust=True) if you know its author"
        )
    # safetensors: eight bytes of length, then a JSON object; pickle: \x80 and the protocol's number
    if content[:1] == b"\x80" and content[1:2] <= b"\x05" and content[8:9] != b"{":
        raise BundleError(f"{name} = a pickle, which can run foreign code when opened; allowed: safetensors")


def _parse(text: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number")

    try:
        config = json.loads(text.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        _refuse_code(CONFIG, text)
        raise BundleError(f"{CONFIG} = unreadable ({error}); allowed: JSON") from None
    if not isinstance(config, dict):
        raise BundleError(f"{CONFIG} = {type(config).__name__}; allowed: a JSON object")
    return config


def _check_keys(config: Mapping[str, Any]) -> None:
    if config.get("format") != FORMAT:
        raise BundleError(
            f"format = {config.get('format')!r:.80}; allowed: {FORMAT!r}. A bundle of another version of v2g-env needs "
            "that version, or training again"
        )
    for key in config:
        if key not in _KEYS:
            raise BundleError(f"key of {CONFIG} = {key!r:.80}; allowed: {', '.join(_KEYS)}")
    for key, kind in _KEYS.items():
        if key not in config:
            raise BundleError(f"{key} = missing; allowed: every key of a bundle")
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            raise BundleError(f"{key} = {config[key]!r:.80}; allowed: {kind}")


def _check_meaning(config: Mapping[str, Any]) -> None:
    """Everything that follows from the training configuration must agree with it."""
    try:
        train = TrainConfig.from_dict(config["train_config"])
        follows = described(train, config["env_kwargs"].get("plan_kwh"))
        del follows["train_config"]  # its hash says the same
    except (InvalidInputError, TypeError) as error:
        raise BundleError(f"train_config = not valid here ({error}); allowed: one this version can read") from None
    plan = config["env_kwargs"].get("plan_kwh")
    for key, wanted in follows.items():
        if config[key] != wanted:
            raise BundleError(f"{key} = {config[key]!r:.120}; allowed: {wanted!r:.120}, as in train_config")
    numbers = plan is None or (isinstance(plan, list) and all(type(value) in (int, float) for value in plan))
    if not numbers:
        raise BundleError(f"plan_kwh = {plan!r:.80}; allowed: null or numbers")


def described(train: TrainConfig, plan_kwh: list[float] | None) -> dict[str, Any]:
    """The entries of config.json that follow from the training configuration."""
    params = train.hyperparameters
    base = {"name": train.base, "parameters": dict(train.base_parameters), "scale": train.residual_scale}
    return {
        "algorithm": train.algorithm,
        "activation": ALGORITHMS[train.algorithm].activation,
        "net_arch": list(params.net_arch),
        "lstm_size": params.lstm_size if isinstance(params, RecurrentPPOParams) else None,
        "normaliser": NORMALISER if params.normalize_observation else None,
        "action_kind": train.env.action_kind,
        "base": None if train.base is None else base,
        "env_id": train.env.id,
        "env_kwargs": {"instance": dict(train.env.instance), "law": train.env.law, "plan_kwh": plan_kwh},
        "instance_hash": train.env.build().hash,
        "train_config": train.to_dict(),
        "train_config_hash": train.hash,
        "seed": train.seed,
    }


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Data type and shape of every tensor that the configuration asks for."""
    d, k = config["observation_size"], config["action_size"]
    memory = config["lstm_size"]
    widths = [d if memory is None else memory, *config["net_arch"]]
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"] = ("float32", (rows, columns))
        shapes[f"{name}.bias"] = ("float32", (rows,))

    for i, (left, right) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        linear(f"layers.{i}", right, left)
    linear("head", k, widths[-1])
    if memory is not None:
        for part, columns in (("ih", d), ("hh", memory)):
            shapes[f"lstm.weight_{part}"] = ("float32", (4 * memory, columns))
            shapes[f"lstm.bias_{part}"] = ("float32", (4 * memory,))
    acting = ALGORITHMS[config["algorithm"]].acting
    if acting == "squashed":
        linear("log_std", k, widths[-1])
    elif acting == "gaussian" and config["action_kind"] == "box":
        shapes["log_std"] = ("float32", (k,))
    if config["normaliser"] is not None:
        shapes |= {f"normaliser.{name}": ("float64", (d,)) for name in ("mean", "variance")}
        shapes["normaliser.count"] = ("float64", (1,))
    return shapes


def check_tensors(config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Compare names, types and shapes with the configuration; all numbers must be finite.

    Raises:
        BundleError: for the first that does not fit.
    """
    wanted = _shapes(config)
    for name in sorted(wanted.keys() ^ tensors.keys()):
        raise BundleError(f"tensor {name} = {'missing' if name in wanted else 'unknown'}; allowed: {', '.join(wanted)}")
    for name, (kind, shape) in wanted.items():
        value = tensors[name]
        if value.shape != shape or value.dtype != kind:
            raise BundleError(f"tensor {name} = {value.dtype} {value.shape}; allowed: {kind} {shape}")
        if not np.isfinite(value).all():
            raise BundleError(f"tensor {name} = not finite; allowed: finite numbers")
    if config["normaliser"] is not None and not (tensors["normaliser.variance"] >= 0.0).all():
        raise BundleError("tensor normaliser.variance = negative; allowed: >= 0")
