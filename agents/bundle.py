"""Trained policies as plain data: config.json and policy.safetensors. Nothing in a bundle is ever executed.

A bundle is a folder. The network is rebuilt from an allow-list of algorithms and activations, its tensors are read by
name, and sizes, hashes and finiteness are checked first. Hashes protect against damage, not against a forger: what a
forged bundle can do is act badly. Files in pickle format (stable-baselines3's zip among them) run code when opened and
are refused. Reading a bundle's identity (``bundle_hash``) needs no torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.bundle_files import (
    ACTIVATION,
    CONFIG,
    FORMAT,
    NORMALISER,
    WEIGHTS,
    BundleError,
    check_tensors,
    digest,
    read_files,
    write_folder,
)
from agents.config import TrainConfig
from agents.normaliser import Normaliser
from v2g_env.core.validate import array, require

__all__ = ["FORMAT", "Bundle", "BundleError", "bundle_hash", "load_bundle", "load_sb3_zip", "save_bundle"]

_LOG_STD_RANGE = (-20.0, 2.0)  # SAC's own limits


class Bundle:
    """A policy from a bundle, with stable-baselines3's ``predict`` signature.

    Attributes:
        config: content of config.json.
        hash: of the bundle (the JSON names the weights' hash).
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], seed: int = 0) -> None:
        """See the class."""
        import torch

        self.config = config
        self.hash: str = config["sha256"]
        self._rng = np.random.default_rng(seed)
        self._size = int(config["observation_size"])
        self._choose = config["action_kind"] == "discrete"
        self._squash = config["algorithm"] == "sac"
        self._activation = {"tanh": torch.tanh, "relu": torch.relu}[config["activation"]]
        self._tensors = {
            name: torch.from_numpy(value) for name, value in tensors.items() if not name.startswith("normaliser.")
        }
        self._normaliser = None
        if config["normaliser"] is not None:
            parts = {name: tensors[f"normaliser.{name}"] for name in ("mean", "variance", "count")}
            self._normaliser = Normaliser(self._size).restore(parts)

    @property
    def env_id(self) -> str:
        """Id of the environment that the policy was trained for."""
        return str(self.config["env_id"])

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments for gymnasium.make, the plan shown in the observation included."""
        return {key: value for key, value in self.config["env_kwargs"].items() if value is not None}

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[Any, ...] | None]:
        """Actions for observations (n, d): (n, k) float32 in [-1, 1], or choices (n,) int64; the policy has no memory.

        A single observation (d,) gets (k,), or one whole number. Choices are the most probable ones if
        ``deterministic``, else drawn with the network's probabilities.

        Raises:
            InvalidInputError: for a wrong shape or a number that is not finite.
        """
        import torch

        single = np.ndim(observation) == 1
        given = np.atleast_2d(np.asarray(observation, np.float32))
        require(given.shape[1:] == (self._size,), "shape of observation", np.shape(observation), f"(n, {self._size})")
        if not np.isfinite(given).all():
            array("observation", given, given.shape)
        if self._normaliser is not None:
            given = self._normaliser(given)
        with torch.no_grad():
            hidden = torch.from_numpy(given)
            for i in range(len(self.config["net_arch"])):
                hidden = self._activation(self._linear(f"layers.{i}", hidden))
            result = self._act(hidden, deterministic).numpy()
        return (result[0] if single else result), None

    def _linear(self, name: str, values: Any) -> Any:
        from torch.nn.functional import linear

        return linear(values, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _act(self, hidden: Any, deterministic: bool) -> Any:
        import torch

        head = self._linear("head", hidden)
        if self._choose:
            # the largest of logits with Gumbel noise is a draw from their softmax
            noise = 0.0 if deterministic else torch.from_numpy(self._rng.gumbel(size=tuple(head.shape)))
            return torch.argmax(head + noise, dim=1)
        action = head if deterministic else self._sample(head, hidden)
        return torch.tanh(action) if self._squash else torch.clamp(action, -1.0, 1.0)

    def _sample(self, mean: Any, hidden: Any) -> Any:
        import torch

        if self._squash:
            log_std = torch.clamp(self._linear("log_std", hidden), *_LOG_STD_RANGE)
        else:
            log_std = self._tensors["log_std"]
        noise = torch.from_numpy(self._rng.standard_normal(tuple(mean.shape), dtype=np.float32))
        return mean + torch.exp(log_std) * noise


def save_bundle(
    path: str | Path,
    train: TrainConfig,
    tensors: Mapping[str, NDArray[Any]],
    steps: int,
    plan_kwh: list[float] | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> str:
    """Write a bundle, whole or not at all, replacing one of the same path.

    Args:
        path: folder.
        train: the configuration that the policy was trained with.
        tensors: "layers.<i>.weight" and ".bias", "head...", for box actions "log_std" (SAC: "log_std.weight",
            ".bias"), and "normaliser.mean", ".variance", ".count" if observations are normalised.
        steps: environment steps of training.
        plan_kwh: the plan shown in the observation.
        extra: further files by name (a checkpoint's state).

    Returns:
        The bundle's hash.
    """
    from safetensors.numpy import save

    weights = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    config: dict[str, Any] = {
        "format": FORMAT,
        "algorithm": train.algorithm,
        "activation": ACTIVATION[train.algorithm],
        "net_arch": list(train.hyperparameters.net_arch),
        "observation_size": int(tensors["layers.0.weight"].shape[1]),
        "action_kind": train.env.action_kind,
        "action_size": int(tensors["head.weight"].shape[0]),
        "normaliser": NORMALISER if "normaliser.mean" in tensors else None,
        "env_id": train.env.id,
        "env_kwargs": {"instance": dict(train.env.instance), "law": train.env.law, "plan_kwh": plan_kwh},
        "instance_hash": train.env.build().hash,
        "train_config": train.to_dict(),
        "train_config_hash": train.hash,
        "seed": train.seed,
        "steps": int(steps),
        "versions": _versions(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    config["sha256"] = digest(config)
    check_tensors(config, dict(tensors))
    text = json.dumps(config, indent=1, allow_nan=False).encode()
    write_folder(Path(path), {CONFIG: text, WEIGHTS: weights, **(extra or {})})
    return str(config["sha256"])


def _versions() -> dict[str, str]:
    names = ("v2g-env", "numpy", "gymnasium", "torch", "stable-baselines3")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def bundle_hash(path: str | Path) -> str:
    """Hash of a bundle after checking both files against it; needs neither torch nor safetensors."""
    return str(read_files(Path(path))[0]["sha256"])


def load_bundle(path: str | Path, seed: int = 0) -> Bundle:
    """Read a bundle, check everything, and rebuild the policy.

    Args:
        path: the folder.
        seed: of the noise when ``predict`` is not deterministic.

    Raises:
        BundleError: with the reason, for anything but an intact bundle of this package.
    """
    config, weights = read_files(Path(path))
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(weights)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{WEIGHTS} = unreadable ({error}); allowed: a safetensors file") from None
    check_tensors(config, tensors)
    return Bundle(config, tensors, seed)


def load_sb3_zip(path: str | Path, algorithm: str = "ppo", trust: bool = False) -> Any:
    """Open a stable-baselines3 zip. It can run any code its author put in: only with ``trust=True``.

    Args:
        path: the zip file.
        algorithm: "ppo" or "sac".
        trust: True if you know where the file comes from.

    Returns:
        The stable-baselines3 model.
    """
    require(algorithm in ACTIVATION, "algorithm", algorithm, ", ".join(ACTIVATION))
    if trust is not True:
        raise BundleError(f"{path} = a stable-baselines3 zip, which runs code when opened; allowed: trust=True")
    import stable_baselines3

    kind = {"ppo": stable_baselines3.PPO, "sac": stable_baselines3.SAC}[algorithm]
    return kind.load(str(path), device="cpu")
