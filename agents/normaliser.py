"""Running mean and deviation of observations: plain arrays, no pickle, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Normaliser"]

Floats = NDArray[np.float64]


class Normaliser:
    """Chan's parallel update of mean and variance, and the map x -> clip((x - mean) / sqrt(variance + epsilon)).

    Args:
        size: length d of an observation.
        freeze_at: ``update`` does nothing once this many observations were counted.
    """

    epsilon = 1e-8
    clip = 10.0

    def __init__(self, size: int, freeze_at: float = np.inf) -> None:
        """See the class."""
        self.mean: Floats = np.zeros(size)
        self.variance: Floats = np.ones(size)
        self.count = 0.0
        self.freeze_at = freeze_at
        self._settle()

    def _settle(self) -> None:
        self._shift = self.mean.astype(np.float32)
        self._factor = (1.0 / np.sqrt(self.variance + self.epsilon)).astype(np.float32)

    def update(self, observations: NDArray[np.float32]) -> None:
        """Count observations (n, d), unless frozen."""
        if self.count >= self.freeze_at:
            return
        n = len(observations)
        mean = observations.mean(axis=0, dtype=np.float64)
        variance = observations.var(axis=0, dtype=np.float64)
        total = self.count + n
        delta = mean - self.mean
        if self.count == 0.0:
            self.mean, self.variance = mean, variance
        else:
            self.mean = self.mean + delta * (n / total)
            spread = self.variance * self.count + variance * n + delta**2 * (self.count * n / total)
            self.variance = spread / total
        self.count = total
        self._settle()

    def __call__(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised copy of observations (n, d), float32."""
        scaled = (observations - self._shift) * self._factor
        return np.clip(scaled, -self.clip, self.clip, out=scaled)

    def arrays(self) -> dict[str, Floats]:
        """Mean (d,), variance (d,) and count (1,), enough to build it again."""
        return {"mean": self.mean, "variance": self.variance, "count": np.array([self.count])}

    def restore(self, arrays: Mapping[str, Any]) -> Normaliser:
        """Take over what ``arrays`` gave; returns itself."""
        self.mean = np.array(arrays["mean"], np.float64)
        self.variance = np.array(arrays["variance"], np.float64)
        self.count = float(arrays["count"][0])
        self._settle()
        return self
