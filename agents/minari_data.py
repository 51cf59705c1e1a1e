"""Demonstrations as a Minari data set: what other tools for offline and imitation learning read."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from agents.config import TrainConfig
from agents.imitation import Demonstrations
from v2g_env.core.validate import InvalidInputError, require

__all__ = ["to_minari"]

_PATH = "MINARI_DATASETS_PATH"  # the environment variable that says where Minari's data sets are


def to_minari(
    shown: Demonstrations,
    config: TrainConfig,
    name: str,
    folder: str | Path,
    teacher: str = "teacher",
    plan_kwh: list[float] | None = None,
) -> Path:
    """Write demonstrations as a Minari data set, whole or not at all.

    Rewards are in $. The infos hold "violation" and "weight", one entry per observation: the first is of no step.

    Args:
        shown: the demonstrations.
        config: whose environment they are from.
        name: of the data set, as in "v2g/parking-lot/hindsight-v0".
        folder: of all data sets (Minari's MINARI_DATASETS_PATH).
        teacher: name of the policy that is shown.
        plan_kwh: plan that the environment showed.

    Returns:
        Folder of this data set.

    Raises:
        InvalidInputError: if Minari is not installed, the name is none that Minari takes, or it is in use.
    """
    try:
        import_module("h5py")  # Minari writes with it
        from minari import create_dataset_from_buffers
        from minari.dataset.minari_dataset import parse_dataset_id
    except ImportError:
        raise InvalidInputError("minari = not installed; allowed: pip install 'v2g-env[datasets]'") from None
    import gymnasium

    try:
        parse_dataset_id(name)
    except (ValueError, TypeError):
        raise InvalidInputError(
            f"name = {name!r}; allowed: words of letters, digits, - and _, as in v2g/parking-lot/hindsight-v0"
        ) from None
    root = Path(folder)
    path = root / name
    require(not path.exists(), "data set", str(path), "a new name")
    kwargs: dict[str, Any] = {"instance": dict(config.env.instance), "law": config.env.law}
    if plan_kwh is not None:
        kwargs["plan_kwh"] = plan_kwh
    env = gymnasium.make(config.env.id, disable_env_checker=True, **kwargs)
    root.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=root, prefix=".minari-"))
    try:
        with _datasets_in(fresh), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an address of the author and the like
            create_dataset_from_buffers(
                name,
                _episodes(shown),
                env=env.spec,
                observation_space=env.observation_space,
                action_space=env.action_space,
                algorithm_name=teacher,
                author="v2g-env",
                description=f"{config.env.id} under law {config.env.law}; rewards in $.",
                requirements=["v2g-env"],
            )
        _move(fresh, root, name)
    finally:
        env.close()
        shutil.rmtree(fresh, ignore_errors=True)
    return path


def _episodes(shown: Demonstrations) -> list[Any]:
    from minari.data_collector import EpisodeBuffer

    steps = shown.actions.shape[1]
    return [
        EpisodeBuffer(
            id=i,
            observations=list(shown.observations[i]),
            actions=list(shown.actions[i]),
            rewards=shown.rewards[i].tolist(),
            terminations=[False] * (steps - 1) + [True],
            truncations=[False] * steps,
            infos={
                "violation": np.append(False, shown.violations[i]),
                "weight": np.append(0.0, shown.weights[i]),
            },
        )
        for i in range(len(shown.actions))
    ]


def _move(fresh: Path, root: Path, name: str) -> None:
    """Move a complete data set to its place, after what describes the namespaces above it."""
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    for above in Path(name).parents:
        for file in (fresh / above).glob("*.json"):
            if not (root / above / file.name).exists():
                file.replace(root / above / file.name)
    (fresh / name).replace(place)


@contextmanager
def _datasets_in(folder: Path) -> Iterator[None]:
    """Let Minari look for its data sets in a folder."""
    before = os.environ.get(_PATH)
    os.environ[_PATH] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PATH]
        else:
            os.environ[_PATH] = before
