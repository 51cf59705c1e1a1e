"""Cooperative games with transferable money: what every coalition of players is worth.

Coalitions are bit masks: player i belongs to coalition S if bit i of S is set; tables have 2^n entries in that order.
A game is one of profits or of costs. Whatever is written for profits v holds for costs c with v = -c: a coalition would
rather leave if it gets less than v(S), or pays more than c(S).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import InvalidInputError, array, number, require

__all__ = ["MOST_PLAYERS", "CoalitionFunction", "CooperativeGame", "Kind", "members_of", "sizes", "subset_sums"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["profit", "cost"]
Evaluate = Callable[[tuple[int, ...]], float]
Spread = Callable[[Evaluate, Iterable[tuple[int, ...]]], Iterable[float]]

MOST_PLAYERS = 20  # of a table: 2^20 coalitions
_REPEATED = 3  # coalitions that are evaluated twice, to find functions that change


def members_of(mask: int) -> tuple[int, ...]:
    """Players of a coalition, in increasing order."""
    return tuple(i for i in range(int(mask).bit_length()) if mask >> i & 1)


def sizes(players: int) -> Ints:
    """(2^n,) number of members of every coalition."""
    return np.bitwise_count(np.arange(1 << players)).astype(np.int64)


def subset_sums(parts: Floats) -> Floats:
    """(2^n, ...) sums of ``parts`` (n, ...) over the members of every coalition."""
    total = np.zeros((1, *parts.shape[1:]))
    for part in parts:
        total = np.concatenate([total, total + part])
    return total


class CooperativeGame:
    """The worth of every coalition, exactly or within bounds.

    Args:
        values: (2^n,) worth [$], zero for the empty coalition.
        players: their names; None: "player 0" and so on.
        kind: whether the worth is a profit or a cost.
        lower, upper: (2^n,) proven limits of the worth where it is not known exactly; None: it is.

    Raises:
        InvalidInputError: for a table whose size is no power of two, more than 20 players, numbers that are not
            finite, a worth of the empty coalition, names that are not unique, limits on the wrong side.
    """

    def __init__(
        self,
        values: ArrayLike,
        players: Sequence[str] | None = None,
        kind: Kind = "profit",
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
    ) -> None:
        require(kind in ("profit", "cost"), "kind", kind, "profit, cost")
        count = np.shape(values)[0] if np.ndim(values) == 1 else 0
        n = count.bit_length() - 1
        power = count >= 2 and count == 1 << n
        require(power, "number of coalitions", np.shape(values), "(2^n,), n at least 1")
        _check_count(n)
        self.values = array("values", values, (count,))
        self.lower = self.values if lower is None else array("lower", lower, (count,))
        self.upper = self.values if upper is None else array("upper", upper, (count,))
        for name in ("values", "lower", "upper"):
            table = getattr(self, name)
            require(table[0] == 0.0, f"{name} of the empty coalition", float(table[0]), "0")
            table.flags.writeable = False
        for name, low, high in (("lower", self.lower, self.values), ("upper", self.values, self.upper)):
            wrong = np.flatnonzero(low > high)
            if len(wrong):
                where = members_of(int(wrong[0]))
                require(False, f"{name} of {where}", float(getattr(self, name)[wrong[0]]), "lower <= values <= upper")
        self.players = _names(players, n)
        self.kind: Kind = kind

    @classmethod
    def from_function(
        cls,
        function: Evaluate,
        players: Sequence[str] | int,
        kind: Kind = "profit",
        spread: Spread | None = None,
    ) -> CooperativeGame:
        """Evaluate a function once for every coalition, and a few times more to see that it does not change.

        Args:
            function: of the members (increasing numbers) of a coalition; returns its worth [$].
            players: their names, or how many there are.
            kind: whether the worth is a profit or a cost.
            spread: as the built-in ``map``, to evaluate many at a time; None: one after the other.

        Raises:
            InvalidInputError: as the class, and for a function that gives two answers for one coalition.
        """
        n = players if isinstance(players, int) else len(players)
        number("players", n, 1, integer=True)
        _check_count(n)
        coalitions = [members_of(mask) for mask in range(1 << n)]
        found = list((spread or map)(function, coalitions))
        require(len(found) == 1 << n, "number of values", len(found), str(1 << n))
        for mask in np.random.default_rng(0).choice(1 << n, min(_REPEATED, 1 << n), replace=False).tolist():
            again = function(coalitions[mask])
            same = again == found[mask] or np.isnan(found[mask])  # what is no number is refused below
            require(same, f"worth of {coalitions[mask]}", again, f"{found[mask]!r} as before: it must not change")
        return cls(np.array(found, np.float64), None if isinstance(players, int) else players, kind)

    @property
    def n(self) -> int:
        """Number of players."""
        return len(self.players)

    @property
    def sign(self) -> float:
        """1 for profits, -1 for costs: sign x worth is a game of profits."""
        return 1.0 if self.kind == "profit" else -1.0

    @property
    def total(self) -> float:
        """Worth of all players together [$]."""
        return float(self.values[-1])

    @property
    def exact(self) -> bool:
        """Whether every worth is known exactly."""
        return bool((self.lower == self.upper).all())

    @property
    def gains(self) -> Floats:
        """(2^n,) the game as one of profits."""
        return np.asarray(self.sign * self.values)

    def gain_limits(self) -> tuple[Floats, Floats]:
        """Limits of ``gains``, each (2^n,)."""
        return (self.lower, self.upper) if self.kind == "profit" else (-self.upper, -self.lower)

    def allocation(self, payments: ArrayLike) -> Floats:
        """Check payments (n,) [$] and return them.

        Raises:
            InvalidInputError: for a wrong number of them, or a sum that is not the worth of all players.
        """
        paid = array("payments", payments, (self.n,))
        close = abs(paid.sum() - self.total) <= 1e-9 * (1.0 + np.abs(paid).sum())
        require(bool(close), "sum of the payments", float(paid.sum()), f"{self.total!r}, what all players are worth")
        return paid

    def name(self, mask: int) -> str:
        """Names of a coalition's members."""
        return ", ".join(self.players[i] for i in members_of(mask))

    def to_frame(self) -> Any:
        """Tidy pandas DataFrame, one row per coalition: mask, members, size, value, lower, upper."""
        import pandas as pd  # here, so that reading certificates does not wait for it

        masks = np.arange(1 << self.n)
        return pd.DataFrame(
            {
                "coalition": masks,
                "members": [self.name(mask) for mask in masks.tolist()],
                "size": sizes(self.n),
                "value": self.values,
                "lower": self.lower,
                "upper": self.upper,
            }
        )


class CoalitionFunction:
    """A game of many players: coalitions are evaluated when somebody asks, and remembered.

    Args:
        function: of the membership (n,) of a coalition, booleans; returns its worth [$].
        players: their names, or how many there are.
        kind: whether the worth is a profit or a cost.

    Raises:
        InvalidInputError: if the empty coalition is worth something.
    """

    def __init__(
        self, function: Callable[[NDArray[np.bool_]], float], players: Sequence[str] | int, kind: Kind = "profit"
    ) -> None:
        require(kind in ("profit", "cost"), "kind", kind, "profit, cost")
        n = players if isinstance(players, int) else len(players)
        number("players", n, 1, 100_000, integer=True)
        self.players = _names(None if isinstance(players, int) else players, n)
        self.kind: Kind = kind
        self._function = function
        self._known: dict[bytes, float] = {}
        empty = self(np.zeros(n, bool))
        require(empty == 0.0, "values of the empty coalition", empty, "0")

    @property
    def n(self) -> int:
        """Number of players."""
        return len(self.players)

    @property
    def evaluated(self) -> int:
        """Coalitions that were evaluated so far."""
        return len(self._known)

    @property
    def total(self) -> float:
        """Worth of all players together [$]."""
        return self(np.ones(self.n, bool))

    def __call__(self, members: NDArray[np.bool_]) -> float:
        """Worth of a coalition [$].

        Raises:
            InvalidInputError: for a worth that is not finite.
        """
        key = np.packbits(members).tobytes()
        if key not in self._known:
            found = float(self._function(members))
            require(bool(np.isfinite(found)), f"worth of {_short(members)}", found, "a finite number")
            self._known[key] = found
        return self._known[key]


def _check_count(n: int) -> None:
    if n > MOST_PLAYERS:
        raise InvalidInputError(
            f"players = {n}; allowed: 1 to {MOST_PLAYERS} with a table; for more use CoalitionFunction, whose Shapley "
            "value is sampled and whose least core asks an oracle (row_generation)"
        )


def _names(players: Sequence[str] | None, n: int) -> tuple[str, ...]:
    if players is None:
        return tuple(f"player {i}" for i in range(n))
    ok = not isinstance(players, str) and all(isinstance(name, str) and name for name in players)
    require(ok, "players", players, "names")
    require(len(players) == n, "number of names", len(players), str(n))
    require(len(set(players)) == n, "players", list(players), "names that differ")
    return tuple(players)


def _short(members: NDArray[Any]) -> str:
    return f"{np.flatnonzero(members).tolist()!r:.60}"
