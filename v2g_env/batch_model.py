"""What a problem's model offers to shells and evaluators, and the one check of actions before it sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import InvalidInputError, require

__all__ = ["BatchModel", "check_action", "check_actions"]

Floats = NDArray[np.float64]
_SLACK = 1e-6  # float32 rounding of an action at the edge of its range


class BatchModel(Protocol):
    """What a problem's model offers to the shells; scenario and state are NamedTuples of arrays (n, ...).

    ``choices``: None if an action is ``action_size`` numbers in [-1, 1]; k if it is one of k, numbered from 0.
    """

    steps: int
    action_size: int
    choices: int | None
    observation_high: NDArray[np.float32]

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Any:
        """Draw one episode per generator."""

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` names one base day for each row."""

    def initial(self, scenario: Any) -> Any:
        """State at the start of every episode."""

    def step(self, scenario: Any, state: Any, action: Floats) -> tuple[Any, Floats, Floats]:
        """Next state, money (n, terms) and facts (n, facts)."""

    def advance(self, scenario: Any, state: Any, action: Floats) -> tuple[Any, Floats, Floats, NDArray[np.float32]]:
        """``step``, and the observation of the state it leads to."""

    def observe(self, scenario: Any, state: Any) -> NDArray[np.float32]:
        """Observations (n, d)."""


def check_actions(action: Any, rows: int, model: BatchModel) -> Floats:
    """Return the actions of n = ``rows`` episodes as the model takes them, float64 (n, k).

    Args:
        action: (n, k) numbers in [-1, 1], or (n,) whole numbers below ``model.choices``.
        rows: n.
        model: that will take them.

    Raises:
        InvalidInputError: if shape, kind, a NaN or the range is wrong.
    """
    if model.choices is None:
        return check_action(action, (rows, model.action_size))
    try:
        values = np.asarray(action)
    except ValueError:
        values = np.zeros(0)
    whole = values.dtype.kind in "iu" and values.shape == (rows,)
    require(whole, "action", action, f"{rows} whole numbers, shape ({rows},)")
    outside = (values < 0) | (values >= model.choices)
    if outside.any():
        require(False, "action", int(values[outside][0]), f"0 to {model.choices - 1}")
    return values.astype(np.float64)[:, None]


def check_action(action: Any, shape: tuple[int, ...]) -> Floats:
    """Return the action as float64 in [-1, 1]; raise InvalidInputError if its shape, a NaN or its range is wrong."""
    try:
        values = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError(f"action = {action!r:.80}; allowed: numbers of shape {shape}") from None
    require(values.shape == shape, "shape of action", values.shape, str(shape))
    top = abs(values.item()) if values.size == 1 else np.abs(values).max()
    if not top <= 1.0:
        if not top <= 1.0 + _SLACK:
            worst = values.ravel()[int(np.argmax(np.where(np.isnan(values), np.inf, np.abs(values))))]
            require(False, "action", float(worst), "finite numbers in [-1, 1]")
        values = np.clip(values, -1.0, 1.0)
    return values
