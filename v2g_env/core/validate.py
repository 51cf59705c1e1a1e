"""One way to reject bad input: an error that names the field, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["InvalidInputError", "array", "number", "require"]


class InvalidInputError(ValueError):
    """Raised before anything changes; the text is ``<field> = <value>; allowed: <range>``."""


def require(ok: bool | np.bool_, field: str, value: object, allowed: str) -> None:
    """Raise InvalidInputError unless ``ok``.

    Args:
        ok: the condition that has to hold.
        field: name of the offending field, with its unit.
        value: what was given.
        allowed: the permitted range, in words.
    """
    if not ok:
        text = repr(value)
        if len(text) > 120:
            text = text[:117] + "..."
        raise InvalidInputError(f"{field} = {text}; allowed: {allowed}")


def number(
    field: str,
    value: Any,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    integer: bool = False,
) -> None:
    """Check that ``value`` is a finite number inside the interval; booleans are no numbers."""
    left, right = ("(" if open_low else "["), (")" if open_high else "]")
    allowed = f"{'an integer' if integer else 'a finite number'} in {left}{low:g}, {high:g}{right}"
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    ok = isinstance(value, kinds) and not isinstance(value, bool) and bool(-np.inf < value < np.inf)
    require(ok, field, value, allowed)
    inside = (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    require(inside, field, value, allowed)


def array(
    field: str, value: ArrayLike, shape: tuple[int | None, ...], low: float = -np.inf, high: float = np.inf
) -> NDArray[np.float64]:
    """Return ``value`` as a new float64 array of the given shape (None: any length) with all entries in [low, high]."""
    try:
        # text and truth values convert to numbers, but nobody means that
        kinds = {value.dtype.type} if isinstance(value, np.ndarray) else set(map(type, np.array(value, object).flat))
        if any(issubclass(kind, (bool, np.bool_, str, bytes)) for kind in kinds):
            raise TypeError
        result = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError(f"{field} = {value!r:.80}; allowed: an array of numbers") from None
    fits = result.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, result.shape, strict=True)
    )
    wanted = "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
    require(fits, f"shape of {field}", result.shape, wanted)
    finite = np.isfinite(result)
    if not finite.all():
        at = tuple(int(i) for i in np.argwhere(~finite)[0])
        require(False, f"{field}{list(at)}", float(result[at]), "finite numbers")
    outside = (result < low) | (result > high)
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        require(False, f"{field}{list(at)}", float(result[at]), f"[{low:g}, {high:g}]")
    return result
