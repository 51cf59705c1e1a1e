"""Trained policies as plain data: config.json and policy.safetensors. Nothing in a bundle is ever executed.

A bundle is a folder. The network is rebuilt from an allow-list of algorithms and activations, its tensors are read by
name, and sizes, hashes and finiteness are checked first. Hashes protect against damage, not against a forger: what a
forged bundle can do is act badly. Files in pickle format (stable-baselines3's zip among them) run code when opened and
are refused. Acting needs NumPy and safetensors, no torch; reading a bundle's identity (``bundle_hash``) neither.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.bases import added, build_base
from agents.bundle_files import (
    CONFIG,
    FORMAT,
    WEIGHTS,
    BundleError,
    check_tensors,
    described,
    digest,
    read_files,
    write_folder,
)
from agents.config import TrainConfig
from agents.hyperparameters import ALGORITHMS, named
from agents.network import Network
from agents.normaliser import Normaliser
from v2g_env.core.policy import Policy
from v2g_env.core.validate import array, require

__all__ = ["FORMAT", "Bundle", "BundleError", "bundle_hash", "load_bundle", "load_sb3_zip", "save_bundle"]

Floats = NDArray[np.float32]

_LOG_STD_RANGE = (-20.0, 2.0)  # SAC's own limits
_FIRST = "layers.0.weight"


class Bundle:
    """A policy from a bundle, with stable-baselines3's ``predict`` signature.

    Attributes:
        config: content of config.json.
        hash: of the bundle (the JSON names the weights' hash).
        tensors: all arrays by name, see ``save_bundle``.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], seed: int = 0) -> None:
        """See the class."""
        self.config = config
        self.hash: str = config["sha256"]
        self._rng = np.random.default_rng(seed)
        self._size = int(config["observation_size"])
        self._choose = config["action_kind"] == "discrete"
        self._acting = ALGORITHMS[config["algorithm"]].acting
        self._scale: float | None = None if config["base"] is None else float(config["base"]["scale"])
        self.tensors = tensors
        own = {name: value for name, value in tensors.items() if not name.startswith("normaliser.")}
        self._network = Network(own, len(config["net_arch"]), config["activation"])
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
        """Actions for observations (n, d): (n, k) float32 in [-1, 1], or choices (n,) int64.

        A single observation (d,) gets (k,), or one whole number. Choices are the most probable ones if
        ``deterministic``, else drawn with the network's probabilities; a policy trained with masks makes only choices
        that do what they say.

        Args:
            observation: (n, d) or (d,), not normalised.
            state: memory from the call before, None at first; recurrent policies have one, and those with a base.
            episode_start: (n,) rows that begin an episode, whose memory is forgotten.
            deterministic: without noise.

        Raises:
            InvalidInputError: for a wrong shape or a number that is not finite.
        """
        single = np.ndim(observation) == 1
        given = np.atleast_2d(np.asarray(observation, np.float32))
        require(given.shape[1:] == (self._size,), "shape of observation", np.shape(observation), f"(n, {self._size})")
        if not np.isfinite(given).all():
            array("observation", given, given.shape)
        shown = given if self._normaliser is None else self._normaliser(given)
        own, of_base = (state or (None, None)) if self._scale is not None else (state, None)
        hidden, memory = self._network.hidden(shown, own, episode_start)
        head = self._network.linear("head", hidden)
        if self._choose:
            result: NDArray[Any] = self._choice(head, given, deterministic)
        else:
            result = self._move(head, hidden, deterministic)
        kept: tuple[Any, ...] | None = memory
        if self._scale is not None:
            action, of_base = self.base.predict(given, of_base, episode_start, deterministic=True)
            result = added(action.astype(np.float32), result, self._scale)
            kept = None if memory is None and of_base is None else (memory, of_base)
        return (result[0] if single else result), kept

    def _choice(self, logits: Floats, observation: Floats, deterministic: bool) -> NDArray[np.int64]:
        # the largest of logits with Gumbel noise is a draw from their softmax
        values = logits if deterministic else logits + self._rng.gumbel(size=logits.shape)
        if self.config["algorithm"] == "maskable_ppo":
            values = np.where(self.model.masks_of(observation), values, -np.inf)
        return np.asarray(values.argmax(axis=1))

    def _move(self, mean: Floats, hidden: Floats, deterministic: bool) -> Floats:
        action = mean
        if not (deterministic or self._acting == "fixed"):
            squashed = self._acting == "squashed"
            log_std = self._network.linear("log_std", hidden) if squashed else self.tensors["log_std"]
            log_std = np.clip(log_std, *_LOG_STD_RANGE) if squashed else log_std
            action = mean + np.exp(log_std) * self._rng.standard_normal(mean.shape, dtype=np.float32)
        return np.clip(action, -1.0, 1.0) if self._acting == "gaussian" else np.tanh(action)

    @cached_property
    def model(self) -> Any:
        """Model of the environment that the policy was trained in; built at the first look."""
        import gymnasium

        import v2g_env  # noqa: F401 - registers the ids

        return gymnasium.make(self.env_id, disable_env_checker=True, **self.env_kwargs).unwrapped.model  # type: ignore[attr-defined]

    @cached_property
    def base(self) -> Policy:
        """The policy that the network's actions are added to; only where config["base"] is not None."""
        made = self.config["base"]
        shown = "plan_kwh" in self.env_kwargs
        return build_base(self.env_id, made["name"], made["parameters"], self.model, shown)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Raise BundleError unless the policy's observations and actions are those of the gymnasium spaces."""
        size = getattr(observation_space, "shape", None)
        if size != (self._size,):
            raise BundleError(f"shape of the observation space = {size}; allowed: {(self._size,)}, as in the bundle")
        kind = "discrete" if hasattr(action_space, "n") else "box"
        found = int(action_space.n) if kind == "discrete" else int(np.prod(action_space.shape))
        wanted = self.config["action_kind"], self.config["action_size"]
        if (kind, found) != wanted:
            raise BundleError(f"action space = {kind} of size {found}; allowed: {wanted[0]} of size {wanted[1]}")


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
        tensors: "layers.<i>.weight" and ".bias", "head...", "lstm.weight_ih" and so on for a recurrent policy, for box
            actions "log_std" (SAC and TQC: "log_std.weight", ".bias"; TD3: none), and "normaliser.mean", ".variance",
            ".count" if observations are normalised.
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
        "observation_size": int(tensors["lstm.weight_ih" if "lstm.weight_ih" in tensors else _FIRST].shape[1]),
        "action_size": int(tensors["head.weight"].shape[0]),
        "steps": int(steps),
        "versions": _versions(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    config |= described(train, plan_kwh)
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
        algorithm: of the model in the file.
        trust: True if you know where the file comes from.

    Returns:
        The stable-baselines3 model.
    """
    named("algorithm", algorithm, ALGORITHMS)
    if trust is not True:
        raise BundleError(f"{path} = a stable-baselines3 zip, which runs code when opened; allowed: trust=True")
    from agents.learners import load_zip

    return load_zip(str(path), algorithm)
