"""What others put on the leaderboard: trained bundles, Python functions and penalties."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bundle import load_bundle
from agents.compare import Contestant
from agents.leaderboard_sets import Scene
from baselines.certificate import CertificateError, load
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.rollout import Recorded, rollout

__all__ = [
    "BundleEntry",
    "PenaltyEntry",
    "PolicyEntry",
    "bundle_entry",
    "data_hash",
    "penalty_entry",
    "played",
    "policy_entry",
    "replayed",
]


class PenaltyEntry(NamedTuple):
    """A frozen penalty: its name, hash and data."""

    name: str
    sha256: str
    data: Mapping[str, Any]


class BundleEntry(NamedTuple):
    """A trained bundle: its environment, the hash of the instance that it was trained for, and the contestant."""

    env_id: str
    instance_sha256: str
    contestant: Contestant


class PolicyEntry(NamedTuple):
    """A Python function model -> policy, and its name."""

    name: str
    make: Callable[[Any], Policy]


def bundle_entry(path: str | Path) -> BundleEntry:
    """Read a trained bundle.

    Args:
        path: the bundle's folder.

    Raises:
        BundleError: for anything but an intact bundle.
    """
    bundle = load_bundle(path)
    plan = bundle.env_kwargs.get("plan_kwh")
    shown = None if plan is None else np.asarray(plan, np.float64)
    place = Path(path).resolve()
    name = place.parent.name if place.name == "bundle" else place.name
    contestant = Contestant(name, "agent", lambda model: bundle, plan=shown, sha256=bundle.hash)
    return BundleEntry(bundle.env_id, str(bundle.config["instance_hash"]), contestant)


def policy_entry(text: str) -> PolicyEntry:
    """The function of ``module:function`` or ``file.py:function``; importing it executes its file's code.

    Args:
        text: module, importable from the working directory too, or path of a file; and the function's name.

    Raises:
        InvalidInputError: if there is no such module or function.
    """
    where, _, name = text.rpartition(":")
    require(where != "" and name.isidentifier(), "policy", text, "module:function or file.py:function")
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    except ImportError as error:
        raise InvalidInputError(f"policy = {text!r} ({error}); allowed: a module that can be imported") from None
    found = getattr(module, name, None)
    require(callable(found), f"{name} of {where}", found, "a function model -> policy")
    make: Any = found
    return PolicyEntry(name, make)


def _from_file(path: Path) -> Any:
    require(path.is_file(), "file of the policy", str(path), "a Python file")
    spec = importlib.util.spec_from_file_location(f"_leaderboard_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_module(name: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def played(entry: PolicyEntry, scene: Scene) -> Contestant:
    """A Python function's policy, played once on the scene; its hash is that of what it did there.

    Who does the same on every path shows the same: that is no new look, however the code was changed.

    Args:
        entry: the function.
        scene: of the environment.
    """
    model = scene.model(None)
    episodes = rollout(model, scene.scenario, entry.make(model))
    actions = episodes.actions
    sha256 = hashlib.sha256(repr((actions.dtype.str, actions.shape)).encode() + actions.tobytes()).hexdigest()
    return replayed(entry.name, "submission", actions, None, sha256, episodes.decision_s)


def replayed(
    name: str,
    kind: str,
    actions: NDArray[Any],
    plan_kwh: list[float] | None,
    sha256: str | None,
    decision_s: float,
) -> Contestant:
    """A policy that repeats recorded actions.

    Args:
        name: for people.
        kind: of the row.
        actions: (n, T, k) or (n, T).
        plan_kwh: plan that its environment showed.
        sha256: of the submission.
        decision_s: time of a decision when they were made [s].
    """
    plan = None if plan_kwh is None else np.asarray(plan_kwh, np.float64)
    make = lambda model: Recorded(actions)  # noqa: E731 - one value per call
    return Contestant(name, kind, make, plan=plan, sha256=sha256, decision_s=decision_s)


def penalty_entry(path: str | Path) -> PenaltyEntry:
    """A penalty's JSON file; its hash is that of its canonical content.

    Raises:
        InvalidInputError: for anything but a JSON object of finite numbers.
    """
    try:
        data = load(path)
        return PenaltyEntry(Path(path).stem, data_hash(data), data)
    except (CertificateError, ValueError) as error:
        raise InvalidInputError(f"penalty {path} = unreadable ({error}); allowed: a JSON object") from None


def data_hash(data: Mapping[str, Any]) -> str:
    """SHA-256 of a penalty's canonical JSON; ValueError for numbers that are not finite."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, allow_nan=False).encode()).hexdigest()
