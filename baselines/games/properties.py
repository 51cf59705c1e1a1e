"""What kind of game it is: whether joining always pays, more so for larger coalitions, and what that implies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.games.coalitions import CooperativeGame, Kind
from baselines.games.core import tolerance

__all__ = ["Violation", "convex", "dual", "essential", "monotone", "superadditive"]

Floats = NDArray[np.float64]


class Violation(NamedTuple):
    """Where a property fails worst.

    Attributes:
        first, second: the two coalitions that are compared.
        usd: by how much it fails [$].
    """

    first: int
    second: int
    usd: float


def monotone(game: CooperativeGame) -> Violation | None:
    """None if no player ever lowers the worth of a coalition; for costs: the cost."""
    masks, worst = np.arange(1 << game.n), None
    for i in range(game.n):
        others = masks[masks >> i & 1 == 0]
        worst = _worse(worst, others, others | 1 << i, game.values[others] - game.values[others | 1 << i])
    return _beyond(worst, game)


def convex(game: CooperativeGame) -> Violation | None:
    """None if what a player adds never falls as the coalition grows; for costs: never rises (concave).

    Then the Shapley value is in the core (Shapley, Cores of Convex Games, 1971).
    """
    gains, masks, worst = game.gains, np.arange(1 << game.n), None
    for i in range(game.n):
        for j in range(i):
            others = masks[(masks >> i & 1 == 0) & (masks >> j & 1 == 0)]
            first, second = others | 1 << i, others | 1 << j
            lack = gains[first] + gains[second] - gains[others] - gains[first | second]
            worst = _worse(worst, first, second, lack)
    return _beyond(worst, game)


def superadditive(game: CooperativeGame) -> Violation | None:
    """None if two coalitions without common members are never worth less together; for costs: never cost more.

    All 3^n pairs are compared: seconds for 15 players.
    """
    gains, worst = game.gains, None
    full = (1 << game.n) - 1
    for first in range(1, full + 1):
        second = _subsets(full ^ first)
        second = second[second > first]
        if len(second):
            worst = _worse(
                worst, np.full_like(second, first), second, gains[first] + gains[second] - gains[first | second]
            )
    return _beyond(worst, game)


def essential(game: CooperativeGame) -> bool:
    """Whether all players together are worth more, by more than rounding, than each alone, summed."""
    alone = float(game.gains[1 << np.arange(game.n)].sum())
    return bool(game.gains[-1] - alone > tolerance(game))


def dual(game: CooperativeGame) -> CooperativeGame:
    """The game of what others cannot keep: v*(S) = v(N) - v(N without S); profits become costs and back."""
    turned: Kind = "cost" if game.kind == "profit" else "profit"
    return CooperativeGame(game.total - game.values[::-1], game.players, turned)


def _subsets(mask: int) -> NDArray[np.int64]:
    """All subsets of a coalition but the empty one."""
    found = np.zeros(1, np.int64)
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            found = np.concatenate([found, found | 1 << bit])
    return found[1:]


def _worse(worst: Violation | None, first: NDArray[np.int64], second: NDArray[np.int64], lack: Floats) -> Violation:
    at = int(lack.argmax())
    if worst is not None and worst.usd >= lack[at]:
        return worst
    return Violation(int(first[at]), int(second[at]), float(lack[at]))


def _beyond(worst: Violation | None, game: CooperativeGame) -> Violation | None:
    return worst if worst is not None and worst.usd > tolerance(game) else None
