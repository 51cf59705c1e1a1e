"""Shares with the least excess, those nearest to equal ones among nearly as good: a small quadratic program, exactly.

    minimise e + tie/2 |d|^2  subject to  d(N) = 0,  d(S) + e >= r(S) for proper coalitions S

Its multipliers are not negative and sum to 1, and d is their mean coalition, less the part that is equal for all, over
tie. An active set of coalitions whose multipliers are unique is changed one coalition at a time: the most violated one
joins, those whose multipliers reach zero leave (Wolfe, Finding the Nearest Point in a Polytope, Mathematical
Programming 11, 1976, with a linear term). The objective of the dual rises with every change, so that it ends; and as
the last active set is a system of linear equations, the answer is exact but for rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.games.coalitions import subset_sums
from baselines.solve import SolverError

__all__ = ["least_excess"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_VIOLATED = 1e-11  # relative to 1 + the largest r
_DEPENDENT = 1e-9  # distance from a span that is none: coalitions are whole numbers
_ZERO = 1e-13  # multipliers, of sum 1
_ROUNDS = 10_000


def least_excess(right: Floats, tie: float) -> tuple[Floats, Ints, Floats]:
    """Solve for the deviations from equal shares.

    Args:
        right: (2^n,) r, n at least 2; the empty coalition and all players do not count.
        tie: weight of the squared deviations.

    Returns:
        Deviations d (n,) of sum 0, active coalitions, and their multipliers.

    Raises:
        SolverError: if rounding keeps it from ending.
    """
    n = len(right).bit_length() - 1
    small = _VIOLATED * (1.0 + float(np.abs(right[1:-1]).max()))
    active = np.array([1 + int(right[1:-1].argmax())])
    weights = np.ones(1)
    for _ in range(_ROUNDS):
        active, weights, e = _settled(right, tie, n, active, weights)
        deviations = _centred(active, n).T @ weights / tie
        over = right - subset_sums(deviations) - e
        over[0] = over[-1] = -np.inf
        worst = int(over.argmax())
        if over[worst] <= small or worst in active:
            return deviations, active, weights
        active, weights = _joined(n, active, weights, worst)
    raise SolverError(f"changes of the active set = {_ROUNDS}; allowed: fewer")


def _centred(masks: Ints, n: int) -> Floats:
    """(m, n) membership, less the mean over players."""
    inside = (masks[:, None] >> np.arange(n) & 1).astype(np.float64)
    return np.asarray(inside - inside.mean(axis=1, keepdims=True))


def _joined(n: int, active: Ints, weights: Floats, fresh: int) -> tuple[Ints, Floats]:
    """Let a coalition join; if it is a mean of others, it takes over from them until one has no multiplier left."""
    others = np.hstack([_centred(active, n), np.ones((len(active), 1))])
    own = np.append(_centred(np.array([fresh]), n)[0], 1.0)
    parts = np.linalg.lstsq(others.T, own, rcond=None)[0]
    if np.abs(own - parts @ others).max() > _DEPENDENT:
        return np.append(active, fresh), np.append(weights, 0.0)
    falling = np.flatnonzero(parts > _DEPENDENT)
    leaves = falling[np.argmin(weights[falling] / parts[falling])]
    step = weights[leaves] / parts[leaves]
    stay = np.arange(len(active)) != leaves
    return np.append(active[stay], fresh), np.append((weights - step * parts)[stay], step)


def _settled(right: Floats, tie: float, n: int, active: Ints, weights: Floats) -> tuple[Ints, Floats, float]:
    """The optimum over the active coalitions and its e; those with a negative multiplier leave one by one."""
    while True:
        centred, count = _centred(active, n), len(active)
        system = np.ones((count + 1, count + 1))
        system[:count, :count] = centred @ centred.T / tie
        system[count, count] = 0.0
        *found, e = np.linalg.solve(system, np.append(right[active], 1.0))
        wanted = np.array(found)
        below = wanted < -_ZERO
        if not below.any():
            return active, np.maximum(wanted, 0.0), float(e)
        room = np.where(below, weights / np.where(below, weights - wanted, 1.0), np.inf)
        leaves = int(room.argmin())
        weights = np.maximum(weights + room[leaves] * (wanted - weights), 0.0)
        stay = np.arange(count) != leaves
        active, weights = active[stay], weights[stay]
