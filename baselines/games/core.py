"""The core: allocations that no coalition would rather leave; whether there is one, and the least that all must give.

With profits v, an allocation x shares out v(N), and the excess of a coalition is v(S) - x(S): what it gains by leaving.
The core has no positive excess. The least core (Maschler, Peleg and Shapley 1979) makes the largest excess as small as
can be. By Bondareva (1963) and Shapley (1967) the core is empty if and only if there are balanced weights, those of the
coalitions of every player summing to 1, with sum lambda_S v(S) > v(N): the certificate, checked in rationals.

Linear programs are solved on few coalitions; those that an answer violates are added until there are none.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.games.coalitions import CooperativeGame, members_of, subset_sums
from baselines.games.rational import rank, solve
from baselines.solve import LinearProgram, SolverError

__all__ = [
    "Balanced",
    "LeastCore",
    "Leaving",
    "Verdict",
    "balanced_weights",
    "core_point",
    "excesses",
    "least_core",
    "leaving",
    "stable",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 1e-9  # of money, relative to 1 + the largest worth
_AT_ONCE = 60  # violated coalitions that are added before the next solution
_ROUNDS = 10_000


class Leaving(NamedTuple):
    """A coalition that would rather leave, and what it gains by that [$]."""

    coalition: int
    members: tuple[int, ...]
    gain_usd: float


class Verdict(NamedTuple):
    """Whether an allocation is in the core, given what is known.

    Attributes:
        word: "stable", "unstable" or "unknown": the limits of the worth do not decide it.
        worst_usd: largest gain of a coalition that leaves, at most [$].
        sure_usd: largest gain of a coalition that leaves, at least [$].
    """

    word: str
    worst_usd: float
    sure_usd: float


class LeastCore(NamedTuple):
    """An allocation whose largest excess over proper coalitions is as small as can be.

    Attributes:
        payments: (n,) [$], in the game's own sign.
        excess_usd: that excess; positive if and only if the core is empty.
        masks, weights: coalitions and weights, none negative and of sum 1, that prove it: the weighted mean of their
            excesses is the same for every allocation.
    """

    payments: Floats
    excess_usd: float
    masks: Ints
    weights: Floats


class Balanced(NamedTuple):
    """Balanced weights whose worth exceeds that of all players: the core is empty.

    Attributes:
        masks: coalitions.
        weights: of each, positive and rational.
        surplus: how much the weighted worth exceeds that of all players [$].
    """

    masks: tuple[int, ...]
    weights: tuple[Fraction, ...]
    surplus: Fraction


def excesses(game: CooperativeGame, payments: ArrayLike) -> Floats:
    """(2^n,) what every coalition gains by leaving [$]; zero for the empty one and for all players.

    Args:
        game: whose values count.
        payments: (n,) what players get, or pay if the game is one of costs; they must share out the worth of all.
    """
    return _excesses(game.gains, game.sign * game.allocation(payments))


def _excesses(gains: Floats, shares: Floats) -> Floats:
    found = gains - subset_sums(shares)
    found[0] = found[-1] = 0.0
    return np.asarray(found)


def tolerance(game: CooperativeGame) -> float:
    """Gains below that are none [$]."""
    return float(TOLERANCE * (1.0 + np.abs(game.values).max()))


def leaving(game: CooperativeGame, payments: ArrayLike) -> list[Leaving]:
    """Coalitions that would rather leave, those with the largest gain first."""
    gain = excesses(game, payments)
    masks = np.flatnonzero(gain > tolerance(game))
    ordered = masks[np.argsort(-gain[masks], kind="stable")]
    return [Leaving(mask, members_of(mask), float(gain[mask])) for mask in ordered.tolist()]


def stable(game: CooperativeGame, payments: ArrayLike) -> Verdict:
    """Whether an allocation is in the core of every game between the limits, of none, or neither.

    The worth of all players is taken as the payments' sum: what they share is what they have.
    """
    shares = game.sign * game.allocation(payments)
    low, high = (float(_excesses(each, shares).max()) for each in game.gain_limits())
    small = tolerance(game)
    word = "stable" if high <= small else "unstable" if low > small else "unknown"
    return Verdict(word, high, low)


def least_core(game: CooperativeGame) -> LeastCore:
    """Solve for the least core of the game's values.

    Raises:
        SolverError: if the solver fails.
    """
    n, gains = game.n, game.gains
    if n == 1:
        return LeastCore(np.array([game.total]), 0.0, np.zeros(0, np.int64), np.zeros(0))
    program = ExcessProgram(gains)
    point, excess, masks, weights = program.least(np.zeros(1 << n, bool), {})
    paid = game.sign * point
    paid[-1] += game.total - paid.sum()
    return LeastCore(paid, excess, masks, weights)


def core_point(game: CooperativeGame) -> Floats | None:
    """An allocation (n,) in the core, that of the least core; None if the core is empty."""
    found = least_core(game)
    return found.payments if found.excess_usd <= tolerance(game) else None


class ExcessProgram:
    """minimise e over shares x with x(N) = v(N), x(S) + e >= v(S) for free coalitions, others' excesses fixed.

    Rows found for one question are kept for the next.

    Args:
        gains: (2^n,) the game as one of profits.
        rational: whether x_i >= v({i}) is demanded as well.
    """

    def __init__(self, gains: Floats, rational: bool = False) -> None:
        self.gains, self.n = gains, len(gains).bit_length() - 1
        self.rational = rational
        full = len(gains) - 1
        singles = 1 << np.arange(self.n)
        self._rows = np.unique(np.concatenate([singles, full ^ singles]))
        self._rows = self._rows[(self._rows != 0) & (self._rows != full)]
        self._small = TOLERANCE * (1.0 + np.abs(gains).max())

    def least(self, settled: NDArray[np.bool_], fixed: dict[int, float]) -> tuple[Floats, float, Ints, Floats]:
        """Solve.

        Args:
            settled: (2^n,) coalitions that are not free.
            fixed: excess of coalitions that stay as they are; they span all that are settled.

        Returns:
            Shares (n,), e, the coalitions with positive multipliers, free ones or players held at what they are worth
            alone, and these. Every solution leaves their excesses as they are here.
        """
        n, gains, full = self.n, self.gains, len(self.gains) - 1
        bound = 4.0 * (n + 1) * (1.0 + np.abs(gains).max())
        bits = np.arange(n)
        program = LinearProgram(np.append(np.zeros(n), -1.0), np.full(n + 1, -bound), np.full(n + 1, bound))
        columns = np.arange(n + 1)[None, :]
        program.add_rows([gains[full]], [gains[full]], columns, np.append(np.ones(n), 0.0)[None, :])
        if fixed:
            masks = np.array(list(fixed))
            share = gains[masks] - np.array(list(fixed.values()))
            inside = (masks[:, None] >> bits & 1).astype(np.float64)
            coefficients = np.hstack([inside, np.zeros((len(masks), 1))])
            # multipliers of these rows are of no use; a little slack keeps rounded numbers feasible
            program.add_rows(share - self._small, share + self._small, np.repeat(columns, len(masks), 0), coefficients)
        first = program.rows
        alone = 1 << bits if self.rational else np.zeros(0, np.int64)
        alone = alone[~settled[alone]]
        self._add(program, alone, 0.0)
        free = ~settled
        free[0] = free[full] = False
        rows = self._rows[free[self._rows]]
        if not len(rows):
            rows = np.flatnonzero(free)[:1]
        self._add(program, rows)
        for _ in range(_ROUNDS):
            found = program.solve()
            point, e = found.point[:n], float(found.point[n])
            over = np.where(free, gains - subset_sums(point) - e, -np.inf)
            over[rows] = -np.inf
            if over.max() <= self._small:
                weights, every = np.abs(found.row_dual[first:]), np.concatenate([alone, rows])
                self._rows = np.union1d(self._rows, rows)
                kept = weights > 1e-9
                return point, e, every[kept], weights[kept]
            fresh = np.argsort(-over)[:_AT_ONCE]
            fresh = fresh[over[fresh] > self._small]
            self._add(program, fresh)
            rows = np.concatenate([rows, fresh])
        raise SolverError(f"rounds of row generation = {_ROUNDS}; allowed: fewer")

    def _add(self, program: LinearProgram, masks: Ints, slack: float = 1.0) -> None:
        """Rows x(S) + slack e >= v(S)."""
        inside = (masks[:, None] >> np.arange(self.n) & 1).astype(np.float64)
        coefficients = np.hstack([inside, np.full((len(masks), 1), slack)])
        columns = np.repeat(np.arange(self.n + 1)[None, :], len(masks), 0)
        program.add_rows(self.gains[masks], np.full(len(masks), np.inf), columns, coefficients)


def balanced_weights(game: CooperativeGame) -> Balanced | None:
    """Proof that the core is empty, in exact rationals; None if it is not empty, or only by rounding.

    Raises:
        SolverError: if the solver fails.
    """
    n, gains, full = game.n, game.gains, (1 << game.n) - 1
    if n == 1:
        return None
    bits = np.arange(n)
    bound = 2.0 * (n + 1) * (1.0 + np.abs(gains).max())
    program = LinearProgram(-np.ones(n), np.full(n, -bound), np.full(n, bound))
    rows = 1 << bits
    columns = np.arange(n)[None, :]
    for _ in range(_ROUNDS):
        fresh = rows[program.rows :]
        inside = (fresh[:, None] >> bits & 1).astype(np.float64)
        program.add_rows(gains[fresh], np.full(len(fresh), np.inf), np.repeat(columns, len(fresh), 0), inside)
        found = program.solve()
        over = gains - subset_sums(found.point)
        over[0] = over[full] = -np.inf
        over[rows] = -np.inf
        if over.max() <= 0.1 * tolerance(game):
            break
        worst = np.argsort(-over)[:_AT_ONCE]
        rows = np.concatenate([rows, worst[over[worst] > 0.1 * tolerance(game)]])
    return _rational_weights(game, rows[np.abs(found.row_dual) > 1e-9])


def _rational_weights(game: CooperativeGame, masks: Ints) -> Balanced | None:
    """Exact weights on given coalitions, if they are determined, positive and worth more than all players."""
    chosen: list[int] = []
    for mask in masks.tolist():  # coalitions that depend on others would leave the weights open
        rows = [[one >> i & 1 for i in range(game.n)] for one in [*chosen, mask]]
        if rank(rows) == len(rows):
            chosen.append(mask)
    matrix = [[mask >> i & 1 for mask in chosen] for i in range(game.n)]
    weights, agree = solve(matrix, [Fraction(1)] * game.n)
    if not agree or any(weight is None or weight < 0 for weight in weights):
        return None
    kept = [(mask, weight) for mask, weight in zip(chosen, weights, strict=True) if weight]
    worth = sum((weight * Fraction(float(game.gains[mask])) for mask, weight in kept if weight), Fraction(0))
    surplus = worth - Fraction(float(game.gains[-1]))
    if surplus <= tolerance(game):
        return None
    return Balanced(tuple(mask for mask, _ in kept), tuple(w for _, w in kept if w is not None), surplus)
