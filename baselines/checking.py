"""What every check of a certificate is made of: one way to refuse, and comparisons with what was recomputed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import CertificateError, unpack

__all__ = ["expect", "near", "numbers", "whole_number"]


def expect(ok: bool | np.bool_, field: str, value: object, allowed: object) -> None:
    """Raise CertificateError naming field, value and what is allowed, unless ``ok``."""
    if not ok:
        raise CertificateError(f"{field} = {value!r:.200}; allowed: {allowed}")


def near(field: str, claimed: Any, true: float, tolerance: float = 1e-9) -> None:
    """Raise CertificateError unless a claimed number is the recomputed one, up to tolerance x (1 + its size).

    Where forged evidence makes the recomputed number infinite, or none, nothing is near it.
    """
    ok = type(claimed) is float and bool(np.isfinite(true)) and abs(claimed - true) <= tolerance * (1.0 + abs(true))
    expect(ok, field, claimed, f"{true!r} (recomputed)")


def whole_number(field: str, value: Any, low: int, high: int) -> int:
    """A whole number in [low, high]; raise CertificateError otherwise."""
    expect(type(value) is int and low <= value <= high, field, value, f"a whole number from {low} to {high}")
    return int(value)


def numbers(field: str, packed: Any, shape: tuple[int, ...], kind: str = "<f8") -> NDArray[Any]:
    """A packed array of given shape and dtype with finite entries; raise CertificateError otherwise."""
    found = unpack(packed)
    expect(found.shape == shape, f"shape of {field}", found.shape, shape)
    expect(found.dtype.str == kind, f"dtype of {field}", found.dtype.str, kind)
    expect(bool(np.isfinite(found).all()), field, "not finite", "finite numbers")
    return found
