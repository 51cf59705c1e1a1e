"""Will coalitions leave tomorrow? Allocations that hold on sampled scenarios, with a finite-sample promise.

The worth of coalitions is random: v(S, delta). Shares x of a fixed amount are agreed beforehand, and the least excess
over N independent scenarios is found together with them:

    minimise e + small |x - equal shares|^2  subject to  x(N) = amount,  x(S) + e >= v(S, delta_k), S proper, k = 1..N

The small term leaves one answer, which scenarios that it satisfies do not change. Its complexity k is the number of
scenarios without which it would be another: with confidence 1 - beta, the probability that on a fresh scenario some
coalition gains more than e by leaving is at most eps(k) (Garatti and Campi, Mathematical Programming 209, 2025). For
coalitional games: Pantazis, Fabiani, Fele and Margellos, Probabilistically Robust Stabilizing Allocations in Uncertain
Coalitional Games, IEEE Control Systems Letters 6, 2022.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines import risk
from baselines.games.coalitions import subset_sums
from baselines.games.least_excess import least_excess
from v2g_env.core.validate import array, number, require

__all__ = ["SampledCore", "gain_of_leaving", "optimality", "sampled_core", "unstable_share"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SMALL = 1e-9  # relative to 1 + the largest worth
_TIE = 1e-4  # weight of the squared distance from equal shares: one answer, near the least excess
_AGREE = 1e-9  # agreement of two answers, relative to 1 + the largest worth


class SampledCore(NamedTuple):
    """Shares, and the promise that goes with them.

    Attributes:
        payments: (n,) shares of the amount [$].
        excess_usd: e, what no coalition gains more than on the sampled scenarios [$].
        support: scenarios that reproduce shares and e; their number is the complexity.
        eps: probability that some coalition gains more on a fresh scenario, at most.
        beta: probability that the promise fails.
        masks, weights: coalitions and multipliers that prove the answer for the support, see ``optimality``.
    """

    payments: Floats
    excess_usd: float
    support: tuple[int, ...]
    eps: float
    beta: float
    masks: tuple[int, ...]
    weights: Floats


def sampled_core(gains: ArrayLike, amount: float, beta: float) -> SampledCore:
    """Shares of a fixed amount with the least excess over all scenarios, those near equal shares among good ones.

    Args:
        gains: (N, 2^n) worth of every coalition on every scenario, as profits (costs: their negative) [$].
        amount: what is shared out, the same on every scenario [$].
        beta: probability with which the promise may fail.

    Raises:
        InvalidInputError: for tables that are no games, or numbers out of range.
        SolverError: if a program fails.
    """
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    number("amount", amount)
    tables = array("gains", gains, (None, None))
    count, size = tables.shape
    n = size.bit_length() - 1
    require(count > 0, "scenarios", count, "at least one")
    require(size == 1 << n and n >= 2, "coalitions", size, "2^n, n at least 2")
    require(bool((tables[:, 0] == 0.0).all()), "worth of the empty coalition", float(tables[0, 0]), "0")
    shares, excess, _, _ = _solve(tables, np.arange(count), amount)
    support = _support(tables, amount, shares, excess)
    eps = float(risk.degenerate(count, len(support), beta))
    _, _, masks, weights = _solve(tables, np.array(support), amount)
    return SampledCore(shares, excess, tuple(support), eps, float(beta), tuple(masks.tolist()), weights)


def optimality(top: Floats, amount: float, payments: Floats, masks: Ints, weights: Floats) -> float:
    """By how much shares and multipliers miss the conditions of the optimum, which is unique; relative to the amount.

    With x the shares and d = (x - equal shares) / scale: weights are not negative and sum to 1; coalitions with weight
    have the largest excess; tie d_i - sum of the weights of i's coalitions is the same for all i.

    Args:
        top: (2^n,) largest worth of every coalition over some scenarios [$].
        amount: that is shared out [$].
        payments: (n,) shares [$].
        masks: (m,) proper coalitions.
        weights: (m,) of each.
    """
    n = len(payments)
    scale = 1.0 + abs(amount)
    gain = (top - subset_sums(payments))[1:-1]
    inside = (masks[:, None] >> np.arange(n) & 1).astype(np.float64)
    slope = _TIE * (payments - amount / n) / scale - weights @ inside
    misses = [
        abs(float(weights.sum()) - 1.0),
        float(np.maximum(-weights, 0.0).max(initial=0.0)),
        float((gain.max() - gain[masks - 1]).max(initial=0.0)) / scale,
        float(np.ptp(slope)),
        abs(float(payments.sum()) - amount) / scale,
    ]
    return max(misses)


def gain_of_leaving(gains: ArrayLike, payments: ArrayLike) -> Floats:
    """(N,) largest gain of a proper coalition that leaves, on each scenario [$]; arguments as ``sampled_core``."""
    shares = array("payments", payments, (None,))
    tables = array("gains", gains, (None, 1 << len(shares)))
    return np.asarray((tables - subset_sums(shares))[:, 1:-1].max(axis=1))


def unstable_share(gains: ArrayLike, payments: ArrayLike, excess_usd: float = 0.0) -> float:
    """Share of scenarios on which some coalition gains more than ``excess_usd`` by leaving."""
    gain = gain_of_leaving(gains, payments)
    return float((gain > excess_usd + _SMALL * (1.0 + np.abs(array("gains", gains, (None, None))).max())).mean())


def _solve(tables: Floats, rows: Ints, amount: float) -> tuple[Floats, float, Ints, Floats]:
    """Shares (n,) and excess over some scenarios, coalitions with multipliers, and these.

    Only the largest worth of each coalition matters. The scale does not depend on the scenarios, so that those which an
    answer satisfies do not change it.
    """
    top = tables[rows].max(axis=0)
    n, scale = len(top).bit_length() - 1, 1.0 + abs(amount)
    equal = np.full(n, amount / n)
    deviations, masks, weights = least_excess((top - subset_sums(equal)) / scale, _TIE)
    shares = equal + scale * deviations
    shares[-1] += amount - shares.sum()
    return shares, float((top - subset_sums(shares))[1:-1].max()), masks, weights


def _support(tables: Floats, amount: float, shares: Floats, excess: float) -> list[int]:
    """A small list of scenarios that reproduces the answer; each was confirmed by leaving it out."""
    small = _AGREE * (1.0 + float(np.abs(tables).max()))
    top = tables.max(axis=0)
    active = np.flatnonzero((top - subset_sums(shares))[1:-1] >= excess - small) + 1
    kept = sorted({int(tables[:, mask].argmax()) for mask in active.tolist()})
    if not _same(tables, kept, amount, shares, excess, small):
        kept = sorted({int(row) for row in tables[:, 1:-1].argmax(axis=0)})
    for row in list(kept):
        rest = [one for one in kept if one != row]
        if rest and _same(tables, rest, amount, shares, excess, small):
            kept = rest
    return kept


def _same(tables: Floats, rows: list[int], amount: float, shares: Floats, excess: float, small: float) -> bool:
    found, e, _, _ = _solve(tables, np.array(rows), amount)
    return abs(e - excess) <= small and bool((np.abs(found - shares) <= 10.0 * small).all())
