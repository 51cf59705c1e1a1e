"""The value network of stable-baselines3's PPO as a critic for penalised bounds: observations in, dollars out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.normaliser import Normaliser
from v2g_env.core.validate import array, number, require

__all__ = ["ValueCritic"]

_CHUNK = 65536


class ValueCritic:
    """Values states with the value head of an actor-critic policy.

    The critic's tables have to be frozen (``frozen_critic`` of the shared battery, ``tabulated`` of the price chain)
    before the test days are drawn; the check of their certificates then needs NumPy only.

    Args:
        policy: of a stable-baselines3 model with a value function, e.g. ``PPO(...).policy``.
        normaliser: of the observations in training; None if they were not normalised.
        reward_scale: divisor of the rewards in training.
    """

    def __init__(self, policy: Any, normaliser: Normaliser | None = None, reward_scale: float = 1.0) -> None:
        """See the class."""
        require(hasattr(policy, "predict_values"), "policy", type(policy).__name__, "one with predict_values, of PPO")
        number("reward_scale", reward_scale, 0.0, 1e9, open_low=True)
        self.policy = policy
        self.normaliser = normaliser
        self.reward_scale = float(reward_scale)

    def values(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Money to come (n,) [$] from states with observations (n, d) on, as the network estimates it.

        Raises:
            InvalidInputError: for observations, or values, that are not finite.
        """
        import torch

        given = np.asarray(observation, np.float32)
        array("observation", given, (None, None))
        parts = [np.empty(0)]
        with torch.no_grad():
            for start in range(0, len(given), _CHUNK):
                part = given[start : start + _CHUNK]
                part = part if self.normaliser is None else self.normaliser(part)
                found = self.policy.predict_values(torch.as_tensor(part, device=self.policy.device))
                parts.append(found.cpu().numpy().astype(np.float64)[:, 0])
        return array("values", self.reward_scale * np.concatenate(parts), (len(given),))
