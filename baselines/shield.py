"""Shields: any policy, its actions moved into a certified set, and one scalar margin tuned on days.

A shield is a family of projections numbered by levels 0 .. G - 1: level 0 is the most cautious, level G - 1 leaves the
policy untouched. ``margin_table`` carries the shielded policy through N scenario days at every level; a day *passes* a
level if nothing is violated at it nor at any lower level. ``tune`` picks the largest level that all but q days pass.

Why that is certified. Let passed_i be the number of lower levels, counted from 0, that day i passes, and
F(g) = P(passed <= g) >= P(a fresh day is violated at level g); F grows with g. The chosen level g* has at most q days
with passed_i <= g*. Let g0 be the smallest level with F(g0) > eps: it does not depend on the days. If F(g*) > eps, then
g* >= g0, so that at most q of N independent days have passed_i <= g0, which has probability at most
P(Binomial(N, eps) <= q). Hence with q fixed before the days are seen

    P^N{ F(g*) <= eps } >= 1 - beta    for eps = risk.hold_out(N, q, beta),

ties included, and for every lower level at the same time: among the levels up to g* the most profitable may be taken.
It is the bound of a convex scenario program with one variable (risk.a_priori for q = 0), and it is smaller than what
the decision's complexity gives: the multiset of the days that fail together with g* is reproduced by q + 1 days, so
risk.degenerate(N, q + 1, beta) holds as well, also for a q chosen after the data were seen.

Nothing is assumed about policy and shield, except that both, and the levels, were fixed before the N days were drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.shielded import Shield, Shielded
from v2g_env.core.policy import Policy
from v2g_env.core.validate import number, require
from v2g_env.rollout import rollout

__all__ = [
    "Margins",
    "Tuned",
    "best_level",
    "margin_runs",
    "margin_table",
    "most_removed",
    "passed_levels",
    "promised",
    "tune",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Margins(NamedTuple):
    """A shielded policy at every level on n days.

    Attributes:
        violated: (n, G) whether anything was violated on the day.
        returns_usd: (n, G) what the day earned [$].
    """

    violated: NDArray[np.bool_]
    returns_usd: Floats


class Tuned(NamedTuple):
    """A certified level.

    Attributes:
        level: the largest that all but ``allowed`` days pass; None if not even level 0 is passed by that many.
        failed: days that do not pass it, at most ``allowed``.
        allowed: q, days that may fail, fixed before the days were seen.
        eps: limit on the probability of a violated day at this level or any lower one.
    """

    level: int | None
    failed: int
    allowed: int
    eps: float


def margin_runs(
    model: Any, policy: Policy, shield: Shield, scenario: Any, levels: range | list[int] | None = None
) -> Margins:
    """Roll the shielded policy out on every day at every level.

    Args:
        model: a problem's Model.
        policy: the policy; its memory starts anew at every level.
        shield: the family.
        scenario: n days.
        levels: which; None for all of them.
    """
    runs = [
        rollout(model, scenario, Shielded(policy, shield, level))
        for level in (range(shield.levels) if levels is None else levels)
    ]
    return Margins(
        np.stack([each.excess > shield.tolerance for each in runs], axis=1),
        np.stack([each.returns for each in runs], axis=1),
    )


def margin_table(
    model: Any, policy: Policy, shield: Shield, scenario: Any, levels: range | list[int] | None = None
) -> NDArray[np.bool_]:
    """(n, G) whether day i is violated at a level; arguments as in ``margin_runs``."""
    return margin_runs(model, policy, shield, scenario, levels).violated


def passed_levels(violated: NDArray[np.bool_]) -> Ints:
    """(n,) number of levels, counted from 0, before the first violation of each day; from (n, G)."""
    table = np.asarray(violated)
    require(table.ndim == 2 and table.dtype == bool, "violated", table.shape, "truth values (n, levels)")
    first = np.argmax(table, axis=1)
    return np.asarray(np.where(table.any(axis=1), first, table.shape[1]), np.int64)


def promised(n_samples: int, allowed: int, beta: float, looks: int = 1) -> float:
    """Limit eps on the violation probability of a level tuned with ``allowed`` failing days; see the module.

    Args:
        n_samples: N days.
        allowed: q, fixed before the days were seen.
        beta: confidence parameter in (0, 1).
        looks: number of values of q tried on the same days; each gets beta / looks.

    Raises:
        InvalidInputError: for a value out of range.
    """
    number("looks", looks, 1, 10**6, integer=True)
    return float(risk.hold_out(n_samples, allowed, beta / looks))


def most_removed(n_samples: int, eps: float, beta: float, looks: int = 1) -> int:
    """The largest q for which ``promised`` is at most ``eps``: to be fixed before the days are seen.

    Raises:
        InvalidInputError: for a value out of range, or if so few days promise this eps for no q.
    """
    number("eps", eps, 0.0, 1.0, open_low=True, open_high=True)
    least = promised(n_samples, 0, beta, looks)
    require(least <= eps, "eps", eps, f"at least {least:.4g} with {n_samples} days")
    low, high = 0, n_samples
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if promised(n_samples, middle, beta, looks) <= eps else (low, middle)
    return low


def tune(passed: Ints, allowed: int, beta: float, looks: int = 1) -> Tuned:
    """Choose the largest level that all but ``allowed`` days pass, and say what it promises.

    Args:
        passed: (N,) from ``passed_levels``.
        allowed: q in [0, N - 1], fixed before the days were seen (or one of ``looks`` values).
        beta: confidence parameter in (0, 1).
        looks: number of values of q tried on the same days.

    Raises:
        InvalidInputError: for a value out of range.
    """
    counts = np.asarray(passed)
    require(counts.ndim == 1 and counts.dtype.kind == "i", "passed", counts.shape, "whole numbers (N,)")
    number("allowed", allowed, 0, len(counts) - 1, integer=True)
    least = int(np.partition(counts, allowed)[allowed])  # the (q + 1)-th smallest
    level = least - 1 if least > 0 else None
    failed = int((counts < least).sum()) if least > 0 else int((counts == 0).sum())
    return Tuned(level, failed, int(allowed), promised(len(counts), allowed, beta, looks))


def best_level(returns_usd: Floats, tuned: Tuned) -> int:
    """The level with the highest mean return among those that a tuning certifies, the higher one of equals.

    Args:
        returns_usd: (N, G) from ``margin_runs``.
        tuned: from ``tune``.

    Raises:
        InvalidInputError: if no level is certified.
    """
    require(tuned.level is not None, "certified level", None, f"one that all but {tuned.allowed} days pass")
    means = returns_usd.mean(axis=0)[: (tuned.level or 0) + 1]
    return int(len(means) - 1 - np.argmax(means[::-1]))
