"""Certificates: plain data in JSON, and one check that recomputes everything without a solver.

A certificate names its instance by hash, its law, its sample by fingerprint, and holds what a stranger needs to see
that the claim is true: a primal point, dual multipliers, the support list. ``check`` refuses what does not hold.
"""

from __future__ import annotations

import base64
import importlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FORMAT",
    "CertificateError",
    "Report",
    "check",
    "load",
    "pack",
    "save",
    "unpack",
    "write_bytes",
    "write_text",
]

FORMAT = "v2g-env certificate 1"
PROBLEMS = ("games", "parking_lot", "price_chain", "scheduling", "shared_battery", "stackelberg")
_MOST_BYTES = 2**31
_DTYPES = ("<f8", "<f4", "<i8", "<i4", "|b1")


class CertificateError(ValueError):
    """A certificate that is unreadable, belongs to something else, or claims what is not true; the text says which."""


@dataclass(frozen=True)
class Report:
    """What a successful check established.

    Attributes:
        kind: kind of the certificate.
        claims: the statements that hold, one sentence each.
        values: the recomputed numbers by name.
    """

    kind: str
    claims: tuple[str, ...]
    values: Mapping[str, float] = field(default_factory=dict)


def check(certificate: Mapping[str, Any], instance: Any = None) -> Report:
    """Recompute every number of a certificate.

    Args:
        certificate: as loaded from JSON.
        instance: the instance it must belong to; None takes the one written in it (its hash is compared all the same).

    Returns:
        What was established.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    if not isinstance(certificate, Mapping):
        raise CertificateError(f"certificate = {type(certificate).__name__}; allowed: a JSON object")
    if certificate.get("format") != FORMAT:
        raise CertificateError(f"format = {certificate.get('format')!r}; allowed: {FORMAT!r}")
    problem = certificate.get("problem")
    if problem not in PROBLEMS:
        raise CertificateError(f"problem = {problem!r}; allowed: {', '.join(PROBLEMS)}")
    verify = importlib.import_module(f"baselines.{problem}.verify")
    try:
        with np.errstate(all="ignore"):  # absurd numbers overflow; every comparison refuses what is not finite
            return verify.verify(certificate, instance)  # type: ignore[no-any-return]
    except CertificateError:
        raise
    except KeyError as missing:
        raise CertificateError(f"field {missing} = missing; allowed: every field of its kind") from None
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise CertificateError(f"certificate = malformed: {error}") from None


def load(path: str | Path) -> dict[str, Any]:
    """Read a certificate; nothing in the file is executed.

    Raises:
        CertificateError: for an empty, truncated or foreign file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, endless numbers, endless nesting
        raise CertificateError(f"{path} = not a JSON file ({error}); allowed: a certificate") from None
    if not isinstance(content, dict):
        raise CertificateError(f"{path} = {type(content).__name__}; allowed: a JSON object")
    return content


def save(certificate: Mapping[str, Any], path: str | Path) -> None:
    """Write a certificate as JSON, whole or not at all."""
    write_text(path, json.dumps(certificate, indent=1, allow_nan=False))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) atomically, see ``write_bytes``."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, never half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def pack(values: NDArray[Any]) -> dict[str, Any]:
    """Array as JSON data: dtype, shape and zlib-compressed bytes in base64 (exact, little endian)."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    if little.dtype.str not in _DTYPES:
        raise TypeError(f"dtype of the array = {values.dtype}; allowed: {', '.join(_DTYPES)}")
    text = base64.b64encode(zlib.compress(little.tobytes(), 6)).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(values.shape), "data": text}


def unpack(packed: Mapping[str, Any]) -> NDArray[Any]:
    """Inverse of ``pack``; only plain numbers can come out.

    Raises:
        CertificateError: for damaged data or a dtype other than numbers and booleans.
    """
    if not isinstance(packed, Mapping) or set(packed) != {"dtype", "shape", "data"}:
        raise CertificateError(f"packed array = {packed!r:.80}; allowed: exactly dtype, shape and data")
    if packed["dtype"] not in _DTYPES:
        raise CertificateError(f"dtype = {packed['dtype']!r}; allowed: {', '.join(_DTYPES)}")
    shape = packed["shape"]
    if not (isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)):
        raise CertificateError(f"shape = {shape!r}; allowed: a list of whole numbers, not negative")
    size = math.prod(shape) * np.dtype(packed["dtype"]).itemsize
    if size > _MOST_BYTES:
        raise CertificateError(f"shape = {shape!r:.80}; allowed: at most {_MOST_BYTES} bytes in an array")
    try:
        # no more than announced is unpacked, whatever a small file may hold
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b64decode(packed["data"], validate=True), size + 1)
        if not stream.eof:
            raise ValueError("truncated, or more than its shape")
        return np.frombuffer(raw, packed["dtype"]).reshape(shape)
    except (ValueError, TypeError, zlib.error) as error:
        raise CertificateError(f"packed array = damaged ({error}); allowed: base64 of zlib data") from None
