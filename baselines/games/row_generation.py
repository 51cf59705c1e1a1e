"""The least core of games with too many players for a table: coalitions are named by a separation oracle.

The oracle is asked for a coalition that gains most by leaving given shares; its row is added and the program is solved
again, until the oracle names none that gains more than all are known to. What the weights prove holds whatever the
oracle missed; that no coalition gains more is as true as the oracle's answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.games.coalitions import CoalitionFunction
from baselines.games.core import TOLERANCE
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import number, require

__all__ = ["Oracle", "OracleLeastCore", "least_core_by_oracle"]

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]
Oracle = Callable[[Floats], NDArray[Any]]


class OracleLeastCore(NamedTuple):
    """An allocation whose largest excess is as small as can be, if the oracle is exact.

    Attributes:
        payments: (n,) [$], in the game's own sign.
        excess_usd: largest excess that the oracle found; not positive: nobody it knows would rather leave.
        bound_usd: no allocation has a largest excess below this, as the weights prove; positive: the core is empty.
        members: (m, n) coalitions of the proof.
        weights: (m,) of each, not negative and of sum 1, the same in sum over the coalitions of every player.
        rows: coalitions in the last program.
    """

    payments: Floats
    excess_usd: float
    bound_usd: float
    members: Members
    weights: Floats
    rows: int


def least_core_by_oracle(game: CoalitionFunction, oracle: Oracle, rounds: int = 10_000) -> OracleLeastCore:
    """Least core by row generation.

    Args:
        game: of two players or more.
        oracle: of the payments (n,) [$], in the game's own sign; returns the membership (n,) or (m, n) of one or more
            proper coalitions, among them one with the largest excess: what it gains by leaving.
        rounds: programs at most.

    Raises:
        InvalidInputError: for a game of one player, or an answer that is no proper coalition.
        SolverError: if a program fails, or the rounds are used up.
    """
    number("players", game.n, 2, integer=True)
    number("rounds", rounds, 1, integer=True)
    state = _Rows(game)
    for _ in range(rounds):
        shares, e, dual = state.solve()
        fresh = _answer(oracle(state.sign * shares), game.n)
        gain = state.gain(fresh, shares)
        if gain.max() <= e + state.small or not state.add(fresh[gain > e + state.small]):
            return state.finish(shares, max(e, float(gain.max())), dual)
    raise SolverError(f"rounds of row generation = {rounds}; allowed: enough for the oracle to find no more")


def _answer(given: NDArray[Any], n: int) -> Members:
    found = np.atleast_2d(np.asarray(given))
    ok = found.ndim == 2 and found.shape[1] == n and found.dtype == np.bool_ and len(found) > 0
    require(ok, "answer of the oracle", f"{found.dtype} {found.shape}", f"booleans ({n},) or (m, {n})")
    proper = found.any(axis=1) & ~found.all(axis=1)
    require(bool(proper.all()), "answer of the oracle", "nobody or all players", "proper coalitions")
    return found


class _Rows:
    """The program on the coalitions that are known: minimise e, x(N) = v(N), x(S) + e >= v(S)."""

    def __init__(self, game: CoalitionFunction) -> None:
        n = game.n
        self.game, self.sign = game, 1.0 if game.kind == "profit" else -1.0
        self.total = self.sign * game.total
        self._known: set[bytes] = set()
        self.members, self.gains = np.zeros((0, n), bool), np.zeros(0)
        self._note(np.concatenate([np.eye(n, dtype=bool), ~np.eye(n, dtype=bool)]))
        self._program = self._fresh()

    def add(self, members: Members) -> bool:
        """Add coalitions; False if all were known."""
        count = self._note(members)
        if np.abs(self.gains[len(self.gains) - count :]).max(initial=0.0) > self.largest:
            self._program = self._fresh()
        else:
            self._add_rows(self._program, count)
        return count > 0

    def _note(self, members: Members) -> int:
        """Remember coalitions and what they are worth; the number of new ones."""
        new = list({one.tobytes(): one for one in members if one.tobytes() not in self._known}.values())
        self._known.update(one.tobytes() for one in new)
        self.members = np.concatenate([self.members, np.array(new, bool).reshape(-1, self.game.n)])
        self.gains = np.append(self.gains, [self.sign * self.game(one) for one in new])
        return len(new)

    def _fresh(self) -> LinearProgram:
        """The program on all rows; its limits never bind: e is at most that of equal shares, and bounds the shares."""
        n = self.game.n
        self.largest = float(max(abs(self.total), np.abs(self.gains).max()))
        self.small = TOLERANCE * (1.0 + self.largest)
        cost, bound = np.append(np.zeros(n), -1.0), np.full(n + 1, 4.0 * (n + 1) * (1.0 + self.largest))
        program = LinearProgram(cost, -bound, bound)
        program.add_rows([self.total], [self.total], np.arange(n + 1)[None, :], np.append(np.ones(n), 0.0)[None, :])
        self._add_rows(program, len(self.members))
        return program

    def _add_rows(self, program: LinearProgram, count: int) -> None:
        """Rows of the coalitions that were noted last."""
        first = len(self.members) - count
        inside = np.hstack([self.members[first:].astype(np.float64), np.ones((count, 1))])
        columns = np.repeat(np.arange(inside.shape[1])[None, :], count, 0)
        program.add_rows(self.gains[first:], np.full(count, np.inf), columns, inside)

    def solve(self) -> tuple[Floats, float, Floats]:
        """Shares, e and multipliers of the coalitions."""
        found = self._program.solve()
        return found.point[:-1], float(found.point[-1]), np.abs(found.row_dual[1:])

    def gain(self, members: Members, shares: Floats) -> Floats:
        """(m,) excess of coalitions."""
        return np.array([self.sign * self.game(one) - float(shares[one].sum()) for one in members])

    def finish(self, shares: Floats, excess: float, dual: Floats) -> OracleLeastCore:
        kept = dual > 1e-9
        members, weights = self.members[kept], dual[kept] / dual[kept].sum()
        load = weights @ members.astype(np.float64)
        if np.ptp(load) > 1e-7:
            raise SolverError(f"weights of the players = {np.ptp(load):.1e} apart; allowed: the same for all")
        paid = self.sign * shares
        paid[-1] += self.sign * self.total - paid.sum()
        bound = float(weights @ self.gains[kept] - load.mean() * self.total)
        return OracleLeastCore(paid, excess, bound, members, weights, len(self.members))
