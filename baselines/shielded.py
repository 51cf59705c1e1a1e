"""A policy behind a shield: every action is moved into the shield's level, and where that fails a cautious one acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.policy import Policy
from v2g_env.core.validate import number

__all__ = ["Shield", "Shielded"]

Ints = NDArray[np.int64]
Seen = NDArray[np.float32]
Memory = tuple[Any, ...] | None

_SLACK = 1e-6  # float32 rounding of an action or an observation at the edge of its range


class Shield(Protocol):
    """A family of projections for one model.

    Attributes:
        levels: G, number of levels.
        tolerance: on the scaled violation; the environment's own.
        observation_high: (d,) largest values of an observation; the smallest are 0.
        action_size: k.
    """

    levels: int
    tolerance: float
    observation_high: Seen
    action_size: int

    def project(self, observation: Seen, action: Seen, level: int) -> Seen:
        """Actions (n, k) float32 of this level, as near to the policy's as the shield can tell."""

    def fallback(self, observation: Seen) -> Seen:
        """Actions (n, k) float32 of the cautious policy that acts where the agent cannot."""

    def blind(self, rows: int) -> Seen:
        """Actions (rows, k) float32 that are cautious whatever the observation would have been."""

    def to_dict(self) -> dict[str, Any]:
        """The family as plain JSON data."""


class Shielded:
    """A policy behind a shield, with stable-baselines3's ``predict`` signature; it fails closed.

    The fallback acts, and is counted, on every row where the observation is not finite or out of range, or the policy's
    action is not finite or outside [-1, 1]; on all rows where the policy raises or answers with a wrong shape, where
    the projection fails, and always if there is no level.

    Args:
        policy: anything with ``predict``.
        shield: the family.
        level: of the projections, 0 to levels - 1; None: nothing could be certified, the fallback acts.

    Attributes:
        fallbacks: decisions of the fallback so far.
        changed: decisions of the policy that the shield moved.

    Raises:
        InvalidInputError: for a level that does not exist.
    """

    def __init__(self, policy: Policy, shield: Shield, level: int | None) -> None:
        if level is not None:
            number("level", level, 0, shield.levels - 1, integer=True)
        self.policy, self.shield, self.level = policy, shield, level
        self.fallbacks = 0
        self.changed = 0

    def predict(
        self,
        observation: Seen,
        state: Memory = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Seen, Memory]:
        """Actions (n, k) for observations (n, d), or (k,) for (d,); the memory is the policy's own."""
        single = np.ndim(observation) == 1
        seen, usable = self._look(observation)
        wish, memory = self._ask(seen, state, episode_start, deterministic)
        with np.errstate(invalid="ignore"):
            sound = usable & (np.abs(wish) <= 1.0 + _SLACK).all(axis=1)  # false for what is not finite
        action = self._act(seen, wish, usable, sound)
        return (action[0] if single else action), memory

    def _look(self, observation: Any) -> tuple[Seen, NDArray[np.bool_]]:
        """Observations (n, d) with zeros in rows that cannot be used, and which rows can be."""
        high = self.shield.observation_high
        try:
            given = np.atleast_2d(np.asarray(observation, np.float32))
        except (TypeError, ValueError):
            given = np.zeros((1, 0), np.float32)
        if given.ndim != 2 or given.shape[1] != len(high):
            rows = len(given)
            return np.zeros((rows, len(high)), np.float32), np.zeros(rows, bool)
        with np.errstate(invalid="ignore"):
            # both comparisons are false for what is not a number
            usable = np.asarray(((given >= -_SLACK) & (given <= high * (1.0 + _SLACK))).all(axis=1))
        return np.where(usable[:, None], given, np.float32(0.0)), usable

    def _ask(self, seen: Seen, state: Memory, start: NDArray[np.bool_] | None, exact: bool) -> tuple[Seen, Memory]:
        """The policy's actions (n, k), NaN where it has none, and its memory."""
        nothing = np.full((len(seen), self.shield.action_size), np.nan, np.float32)
        if self.level is None:
            return nothing, state
        try:
            given, memory = self.policy.predict(seen.copy(), state, start, exact)
            action = np.asarray(given)
            fits = action.shape == nothing.shape and action.dtype.kind in "fiu"
            return (action.astype(np.float32) if fits else nothing), memory
        except Exception:  # whatever an agent raises, somebody has to act
            return nothing, state

    def _act(self, seen: Seen, wish: Seen, usable: NDArray[np.bool_], sound: NDArray[np.bool_]) -> Seen:
        action = self.shield.blind(len(seen))
        moved = self._tried(lambda rows: self.shield.project(seen[rows], wish[rows], self.level or 0), action, sound)
        self._tried(lambda rows: self.shield.fallback(seen[rows]), action, usable & ~moved)
        self.changed += int((action[moved] != wish[moved]).any(axis=1).sum())
        self.fallbacks += int((~moved).sum())
        return action

    def _tried(self, answer: Callable[[Ints], Seen], action: Seen, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Write answers for the wanted rows into ``action``; returns the rows (n,) that got a proper one."""
        rows = np.flatnonzero(wanted)
        done = np.zeros(len(action), bool)
        try:
            found = np.asarray(answer(rows) if len(rows) else action[:0], np.float32)
        except (ArithmeticError, IndexError, TypeError, ValueError):
            return done
        if found.shape == (len(rows), action.shape[1]):
            with np.errstate(invalid="ignore"):
                proper = (np.abs(found) <= 1.0 + _SLACK).all(axis=1)
            action[rows[proper]] = found[proper]
            done[rows[proper]] = True
        return done
