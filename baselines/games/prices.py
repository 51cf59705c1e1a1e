"""Simple ways to share out what all players are worth, to be held against the core and the Shapley value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.games.coalitions import CooperativeGame
from v2g_env.core.validate import array, number, require

__all__ = ["aumann_shapley", "equal", "marginal", "proportional", "stand_alone"]

Floats = NDArray[np.float64]


def equal(game: CooperativeGame) -> Floats:
    """Everybody the same (n,) [$]."""
    return np.full(game.n, game.total / game.n)


def proportional(game: CooperativeGame, weights: ArrayLike) -> Floats:
    """In proportion to weights (n,), such as needs, none negative and not all zero; (n,) [$]."""
    given = array("weights", weights, (game.n,), 0.0)
    require(given.sum() > 0.0, "sum of weights", float(given.sum()), "more than 0")
    return np.asarray(game.total * given / given.sum())


def stand_alone(game: CooperativeGame) -> Floats:
    """In proportion to what players are worth alone (n,) [$], which must not be negative, nor zero for all."""
    return proportional(game, game.values[1 << np.arange(game.n)])


def marginal(game: CooperativeGame) -> Floats:
    """What each adds to all others, and equal shares of what that leaves over (equal charge of non-separable costs)."""
    full = (1 << game.n) - 1
    added = game.total - game.values[full ^ (1 << np.arange(game.n))]
    return np.asarray(added + (game.total - added.sum()) / game.n)


def aumann_shapley(
    gradient: Callable[[Floats], ArrayLike], demand: ArrayLike, total: float, nodes: int = 64, slack: float = 1e-6
) -> Floats:
    """Aumann-Shapley prices times demand (n,) [$]: mean marginal cost along the diagonal (Aumann and Shapley 1974).

    A player pays demand_i times the integral of d cost / d demand_i (t demand) over t from 0 to 1; together that is
    the cost of the whole demand if nothing costs nothing.

    Args:
        gradient: of the cost at a demand (n,).
        demand: (n,) none negative.
        total: cost of the whole demand [$], to compare with.
        nodes: of the Gauss-Legendre rule.
        slack: by which the sum may miss the total, relative to 1 + |total|; the rest is shared out in proportion.

    Raises:
        InvalidInputError: if the prices do not add up: the gradient is wrong, or has jumps that need more nodes.
    """
    wanted = array("demand", demand, (None,), 0.0)
    number("total", total)
    number("nodes", nodes, 1, 100_000, integer=True)
    places, weights = np.polynomial.legendre.leggauss(nodes)
    shares = np.zeros(len(wanted))
    for place, weight in zip(0.5 * (places + 1.0), 0.5 * weights, strict=True):
        shares += weight * wanted * array("gradient", gradient(place * wanted), (len(wanted),))
    close = abs(shares.sum() - total) <= slack * (1.0 + abs(total))
    require(bool(close), "sum of Aumann-Shapley prices", float(shares.sum()), f"{total!r}, within {slack:g}")
    return shares * (total / shares.sum()) if shares.sum() != 0.0 else shares
