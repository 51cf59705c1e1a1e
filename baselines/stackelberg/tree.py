"""The bound that a search tree proves: boxes from its splits, a rigorous bound for every leaf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.dual import DualBounds
from baselines.stackelberg.enclosure import worth
from v2g_env.stackelberg.game import Game

__all__ = ["Tree", "tree_bound"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """A search tree of n nodes, parents before children, the root first; see ``search.Node`` for the columns."""

    parent: NDArray[np.int32]
    upper: NDArray[np.bool_]
    period: NDArray[np.int32]
    level: NDArray[np.int32]
    kappa: Floats
    rebates: Floats

    def boxes(self, game: Game) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lowest and highest level index of every node's box, (n, T) each; the leaves' boxes cover all choices.

        Raises:
            ValueError: if the splits are not those of one tree whose leaves cover everything.
        """
        count = len(self.parent)
        low = np.zeros((count, game.periods), np.int64)
        high = np.tile(game.choices - 1, (count, 1))
        children = np.zeros((count, 2), np.int64)
        for k in range(count):
            p = int(self.parent[k])
            if k == 0:
                _expect(p == -1 and not self.upper[0], "parent of the root", p, "-1, and not an upper part")
            else:
                _expect(0 <= p < k, f"parent of node {k}", p, f"0 to {k - 1}")
                t, level = int(self.period[p]), int(self.level[p])
                _expect(0 <= t < game.periods, f"period of node {p}", t, "one of the game's periods")
                _expect(
                    low[p, t] <= level < high[p, t], f"level of node {p}", level, f"{low[p, t]} to {high[p, t] - 1}"
                )
                low[k], high[k] = low[p], high[p]
                side = int(self.upper[k])
                children[p, side] += 1
                if side:
                    low[k, t] = level + 1
                else:
                    high[k, t] = level
        split = self.period >= 0
        _expect(bool((children[split] == 1).all()), "children of a node", "missing or twice", "one lower, one upper")
        _expect(bool((children[~split] == 0).all()), "children of a leaf", "some", "none")
        return low, high


def tree_bound(
    game: Game,
    multiplier: float,
    value: float,
    tree: Tree,
    target: float,
    progress: Callable[[str], None] | None = None,
) -> float:
    """Upper bound on the objective of every choice of levels, rigorous.

    Args:
        game: the game.
        multiplier: price of the platform's profit (owner "drivers").
        value: a proven lower bound on the best objective: flows that only worse choices have may be left out.
        tree: the tree.
        target: leaves above it are compared with the boxes around them as well.
        progress: called with a line of text now and then.
    """
    low, high = tree.boxes(game)
    bounds = DualBounds(game, multiplier)
    levels = game.levels * game.step_h
    known: dict[int, float] = {}

    def of(k: int) -> float:
        if k not in known:
            if (low[k] == high[k]).all():
                single = worth(game, bounds.program, levels[low[k]])
                lost = game.owner == "drivers" and single.profit[1] < 0.0
                known[k] = -np.inf if lost else single.objective[1]
            else:
                known[k] = bounds.bound(tree.rebates[k], float(tree.kappa[k]), levels[low[k]], levels[high[k]])
        return known[k]

    known[0] = bounds.narrow(tree.rebates[0], float(tree.kappa[0]), levels[low[0]], levels[high[0]], value)
    worst = -np.inf
    leaves = np.flatnonzero(tree.period < 0)
    for number, leaf in enumerate(leaves):
        best, k = of(int(leaf)), int(leaf)
        while best > target and k > 0:
            k = int(tree.parent[k])
            best = min(best, of(k))
        worst = max(worst, best)
        if progress is not None and number % 200 == 199:
            progress(f"{number + 1} of {len(leaves)} leaves bounded")
    return max(worst, value)


def _expect(ok: bool | np.bool_, field: str, value: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{field} = {value!r:.200}; allowed: {allowed}")
