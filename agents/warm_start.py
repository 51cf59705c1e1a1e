"""Starting a training from the network of a bundle instead of from random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.bundle import BundleError, load_bundle
from agents.bundle_files import described
from agents.config import TrainConfig
from agents.hyperparameters import ALGORITHMS
from agents.learners import start_from
from agents.vec_env import NativeVecEnv
from v2g_env.core.validate import InvalidInputError, require

__all__ = ["warm_start"]

_SAME = ("activation", "net_arch", "lstm_size", "normaliser", "base")


def warm_start(config: TrainConfig, model: Any, envs: NativeVecEnv) -> None:
    """Put network and normaliser of the bundle in ``config.warm_start`` into a fresh model; critics stay random.

    Raises:
        InvalidInputError: if the bundle is missing or damaged, is not the one that the configuration names by its hash,
            or has other spaces, another architecture or another base.
    """
    path, wanted = config.warm_start, config.warm_start_sha256
    if path is None:
        raise InvalidInputError(f"warm_start = None; allowed: the folder of the bundle with hash {wanted}")
    try:
        bundle = load_bundle(Path(path))
        bundle.check_spaces(envs.observation_space, envs.action_space)
    except BundleError as error:
        raise InvalidInputError(f"warm_start: {error}") from None
    require(bundle.hash == wanted, "hash of the bundle in warm_start", bundle.hash, str(wanted))
    acting, needed = (ALGORITHMS[name].acting for name in (bundle.config["algorithm"], config.algorithm))
    require(acting == needed, "algorithm of the bundle in warm_start", bundle.config["algorithm"], _like(config))
    own = described(config, None)
    for key in _SAME:
        found = bundle.config[key]
        require(found == own[key], f"{key} of the bundle in warm_start", found, f"{own[key]!r}, as in this run")
    start_from(model, config.algorithm, envs.normaliser, bundle.tensors)


def _like(config: TrainConfig) -> str:
    acting = ALGORITHMS[config.algorithm].acting
    return ", ".join(name for name, one in ALGORITHMS.items() if one.acting == acting) + f" for {config.algorithm}"
