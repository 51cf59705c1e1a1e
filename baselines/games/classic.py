"""Games of the textbooks, with known answers: for tests, and to see what a notion means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from baselines.games.coalitions import CooperativeGame, members_of, subset_sums
from v2g_env.core.validate import array, number, require

__all__ = ["airport", "bankruptcy", "glove", "majority", "talmud", "voting"]


def glove(left: int, right: int) -> CooperativeGame:
    """Owners of left and of right gloves; only pairs sell, for 1 $ each."""
    number("left", left, 0, 20, integer=True)
    number("right", right, 0, 20, integer=True)
    names = [f"left {i}" for i in range(left)] + [f"right {i}" for i in range(right)]
    kinds = np.array([[i < left, i >= left] for i in range(left + right)], np.float64)
    return CooperativeGame(subset_sums(kinds).min(axis=1), names)


def airport(costs: ArrayLike) -> CooperativeGame:
    """A runway for the largest aircraft of the coalition: costs (n,) (Littlechild and Owen 1973)."""
    own = array("costs", costs, (None,), 0.0)
    top = np.zeros(1)
    for cost in own:
        top = np.concatenate([top, np.maximum(top, cost)])
    return CooperativeGame(top, None, "cost")


def bankruptcy(estate: float, claims: ArrayLike) -> CooperativeGame:
    """What is left of an estate when all others were paid: max(0, E - claims of the others) (O'Neill 1982)."""
    number("estate", estate, 0.0)
    own = array("claims", claims, (None,), 0.0)
    require(estate <= own.sum(), "estate", estate, f"at most the claims' sum {own.sum():g}")
    return CooperativeGame(np.maximum(estate - subset_sums(own)[::-1], 0.0) * (np.arange(1 << len(own)) > 0))


def talmud(estate: float, claims: ArrayLike) -> np.ndarray:
    """Closed form of the nucleolus of ``bankruptcy`` (Aumann and Maschler 1985): (n,) awards.

    Up to half of all claims, everybody gets the same but at most half of his claim; beyond, everybody loses the same
    but at most half of it.
    """
    own = array("claims", claims, (None,), 0.0)
    half = 0.5 * own
    if estate <= half.sum():
        return _level(estate, half)
    return np.asarray(own - _level(own.sum() - estate, half))


def _level(amount: float, most: np.ndarray) -> np.ndarray:
    """min(most, level) with the level such that they sum up to the amount."""
    left, awards = amount, np.zeros(len(most))
    order = np.argsort(most)
    for place, i in enumerate(order):
        awards[i] = min(most[i], left / (len(order) - place))
        left -= awards[i]
    return awards


def voting(quota: float, weights: Sequence[float]) -> CooperativeGame:
    """A coalition wins, and is worth 1, if its weights reach the quota."""
    own = array("weights", weights, (None,), 0.0)
    number("quota", quota, 0.0, float(own.sum()), open_low=True)
    return CooperativeGame((subset_sums(own) >= quota).astype(np.float64))


def majority(worth_of_pair: float) -> CooperativeGame:
    """Three players; all together are worth 1, every pair so much: the core is empty above 2/3."""
    number("worth_of_pair", worth_of_pair, 0.0)
    table = [(0.0, 0.0, worth_of_pair, 1.0)[len(members_of(mask))] for mask in range(8)]
    return CooperativeGame(table)
