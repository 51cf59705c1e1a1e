"""Finite games as tables of payoffs, how far strategies are from an equilibrium, and bridges to tools of the field."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.certificate import write_text
from v2g_env.core.validate import InvalidInputError, array, require

__all__ = ["NormalForm"]

Floats = NDArray[np.float64]
_MOST_CELLS = 10**7


class NormalForm:
    """A finite game: every player picks one of his strategies, and all are paid.

    Args:
        payoffs: (k_1, ..., k_n, n) what each player gets [$].
        players: their names; None: "player 0" and so on.
        strategies: names of each player's strategies; None: numbers.

    Raises:
        InvalidInputError: for a table of another shape, or that is not finite, or names that do not fit.
    """

    def __init__(
        self,
        payoffs: ArrayLike,
        players: Sequence[str] | None = None,
        strategies: Sequence[Sequence[str]] | None = None,
    ) -> None:
        shape = np.shape(payoffs)
        n = len(shape) - 1
        ok = n >= 1 and shape[-1] == n and all(size >= 1 for size in shape)
        require(ok, "shape of payoffs", shape, "(k_1, ..., k_n, n)")
        require(int(np.prod(shape)) <= _MOST_CELLS, "cells of payoffs", int(np.prod(shape)), f"at most {_MOST_CELLS}")
        self.payoffs = array("payoffs", payoffs, tuple(shape))
        self.payoffs.flags.writeable = False
        self.players = tuple(players) if players is not None else tuple(f"player {i}" for i in range(n))
        named = strategies if strategies is not None else [[str(k) for k in range(size)] for size in shape[:-1]]
        self.strategies = tuple(tuple(each) for each in named)
        fits = len(set(self.players)) == len(self.players) == n
        require(fits, "players", list(self.players), f"{n} names that differ")
        counts = tuple(len(set(each)) for each in self.strategies)
        require(counts == shape[:-1], "strategies", counts, f"{shape[:-1]} names that differ")

    @property
    def n(self) -> int:
        """Number of players."""
        return len(self.players)

    def expected(self, profile: Sequence[ArrayLike]) -> Floats:
        """(n,) expected payoffs of a mixed profile: one probability vector per player [$]."""
        table = self.payoffs
        for weights in self._profile(profile):
            table = np.tensordot(weights, table, axes=(0, 0))
        return np.asarray(table)

    def gains(self, profile: Sequence[ArrayLike]) -> Floats:
        """(n,) what each player gains by his best answer to the others, at least zero [$]; zero at equilibria only."""
        mixed = self._profile(profile)
        now = self.expected(mixed)
        found = np.empty(self.n)
        for i in range(self.n):
            table = self.payoffs[..., i]
            for j in reversed(range(self.n)):
                if j != i:
                    table = np.tensordot(table, mixed[j], axes=(j, 0))
            found[i] = table.max() - now[i]
        return np.maximum(found, 0.0)

    def pure_equilibria(self, slack: float = 1e-12) -> list[tuple[int, ...]]:
        """Profiles of single strategies from which nobody gains more than ``slack`` by deviating."""
        best = [self.payoffs[..., i].max(axis=i, keepdims=True) - self.payoffs[..., i] <= slack for i in range(self.n)]
        return [tuple(int(k) for k in cell) for cell in np.argwhere(np.logical_and.reduce(best))]

    def equilibrium_totals(self) -> tuple[float, float]:
        """Least and largest total payoff of pure equilibria [$], to set beside ``best_total``; nan without any."""
        totals = [float(self.payoffs[cell].sum()) for cell in self.pure_equilibria()]
        return (min(totals), max(totals)) if totals else (float("nan"), float("nan"))

    @property
    def best_total(self) -> float:
        """Largest total payoff of any profile [$]."""
        return float(self.payoffs.sum(axis=-1).max())

    def to_frame(self) -> Any:
        """Tidy pandas DataFrame, one row per profile and player: each player's strategy, player, payoff.

        Raises:
            InvalidInputError: if a player has the name of one of the last two columns.
        """
        import pandas as pd

        clash = {"player", "payoff"} & set(self.players)
        require(not clash, "players", sorted(clash), "other names than those of the columns player and payoff")
        rows: list[dict[str, Any]] = []
        for cell in product(*(range(len(each)) for each in self.strategies)):
            chosen = {name: self.strategies[i][cell[i]] for i, name in enumerate(self.players)}
            rows += [
                chosen | {"player": who, "payoff": float(self.payoffs[cell][i])} for i, who in enumerate(self.players)
            ]
        return pd.DataFrame(rows)

    def to_nashpy(self) -> Any:
        """The same game for nashpy (two players); extra "games"."""
        require(self.n == 2, "players", self.n, "2 for nashpy")
        nashpy = _imported("nashpy", "games")
        return nashpy.Game(self.payoffs[..., 0], self.payoffs[..., 1])

    def to_open_spiel(self) -> Any:
        """The same game for OpenSpiel; extra "openspiel"."""
        spiel = _imported("pyspiel", "openspiel")
        names = [list(each) for each in self.strategies]
        if self.n == 2:
            return spiel.create_matrix_game(
                "v2g", "v2g", names[0], names[1], self.payoffs[..., 0].tolist(), self.payoffs[..., 1].tolist()
            )
        flat = [self.payoffs[..., i].ravel().tolist() for i in range(self.n)]
        return spiel.create_tensor_game("v2g", "v2g", names, flat)

    def to_nfg(self, path: str | Path) -> None:
        """Write the game in Gambit's strategic form (.nfg, payoff version); nothing but text is needed for that."""

        def quoted(text: str) -> str:
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

        players = " ".join(quoted(name) for name in self.players)
        own = " ".join("{ " + " ".join(quoted(name) for name in each) + " }" for each in self.strategies)
        # Gambit lists profiles with the first player's strategy running fastest
        order = np.moveaxis(self.payoffs, -1, 0).transpose(0, *range(self.n, 0, -1)).reshape(self.n, -1)
        numbers = " ".join(repr(float(value)) for value in order.T.ravel())
        write_text(path, f'NFG 1 R "v2g" {{ {players} }}\n\n{{ {own} }}\n""\n\n{numbers}\n')

    def _profile(self, profile: Sequence[ArrayLike]) -> list[Floats]:
        require(len(profile) == self.n, "profile", len(profile), f"one probability vector for each of {self.n} players")
        found = []
        for name, each, own in zip(self.players, profile, self.strategies, strict=True):
            weights = array(f"strategy of {name}", each, (len(own),), 0.0, 1.0 + 1e-9)
            require(abs(weights.sum() - 1.0) <= 1e-9, f"sum of {name}'s strategy", float(weights.sum()), "1")
            found.append(weights)
        return found


def _imported(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise InvalidInputError(f'{module} = not installed; allowed: after pip install "v2g-env[{extra}]"') from None
