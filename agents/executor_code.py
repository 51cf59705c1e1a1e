"""Which code a result comes from: one hash of this project's sources and of the libraries that decide on digits."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import socket
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["code_identity", "machine"]

_PACKAGES = ("v2g_env", "baselines", "agents")
_LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "gymnasium",
    "torch",
    "stable-baselines3",
    "sb3-contrib",
    "highspy",
    "clarabel",
)


@cache
def code_identity() -> str:
    """SHA-256 of all Python files of v2g_env, baselines and agents, and of Python's and the libraries' versions.

    Read once per process. The kind of processor is no part of it, though its vector units may change a last digit.
    """
    total = hashlib.sha256()
    for package in _PACKAGES:
        spec = find_spec(package)
        for root in sorted(spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(root).rglob("*.py")):
                total.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    for name, version in [("python", platform.python_version()), *((each, _version(each)) for each in _LIBRARIES)]:
        total.update(f"{name}={version}\0".encode())
    return total.hexdigest()


@cache
def machine() -> str:
    """Name of this machine, and of its current start where the system tells it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.is_file() else ''}"


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
