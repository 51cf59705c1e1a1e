"""The one protocol that learners, heuristics, optimisers and stored plans share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Policy"]


class Policy(Protocol):
    """Anything with stable-baselines3's ``predict`` signature."""

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[Any, ...] | None]:
        """Return actions for observations (n, d), and the policy's memory, None if it has none.

        Actions are (n, k) float32, or (n,) whole numbers where the environment offers choices.
        """
        ...
