"""Least-cost sizes for a sample of days, with the tie between optima broken, and the list of days that decides them.

Problem (6) of Alexeenko and Charisopoulos, arXiv 2304.10461, for prices own/shared = ratio:

    min  s + ratio sum_i b_i   s.t.  sum_i (xi_i^k - b_i)_+ <= s  for k = 1..N,   low <= b <= high.

With sigma = s + ratio sum b this is: minimise the largest use h(b) = max_k sum_i (xi_i^k - b_i)_+ + ratio sum_i b_i.
Its optimum is far from unique (at equal prices b = 0 is always among the optima), and which one a solver returns
changes every driver's reliability. The tie-break, part of the solution map: of all sizes that cost at most a
ten-millionth more than the least cost, those whose own batteries are nearest (Euclidean) to the largest allowed own
battery for everybody. Far from that limit this is: the largest sum of own batteries, then the smallest norm. It is a
projection, so the answer is unique.

Days are added when they are violated; the answer for the added days is then the answer for all.

What the list of deciding days is worth. Map a sample to the first of its smallest lists with the same least use h* and
the same nearest point b*. This compression has the *preference* property: on any subsample that holds the list, h* and
b* are unchanged (they can only be worse for more days), so the list is chosen again; and a new day on which the
shortfalls exceed s changes them. Hence P{V > eps(k)} <= beta with the eps of Garatti and Campi (risk.degenerate); see
M. C. Campi, S. Garatti, Compression, generalization and learning, Journal of Machine Learning Research 24, 2023. Any
longer list only weakens eps. The statement is about b* exactly: sizes at a proven distance d from it may be short by
up to (1 + ratio) sqrt(n) d more, which the check states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.duals import distance_bound, largest_use, least_use_bound
from baselines.shared_battery.interior import Interior, Sizing, minimise
from baselines.solve import SolverError

__all__ = [
    "POSITION_KWH",
    "SLACK",
    "Answer",
    "Range",
    "Use",
    "budget",
    "certified_distance",
    "least_cost",
    "least_sum",
    "least_use",
]

Floats = NDArray[np.float64]

SLACK = 1e-7  # share of the least cost that the tie-break may spend
POSITION_KWH = 0.05  # largest proven distance between the answer and the unique one
_CLEAR_KWH = 1e-3
_KEEP = 1e-9  # weights below this share of their sum are rounding
_ROUNDS = 100

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """Say nothing."""


class Range(NamedTuple):
    """What own batteries may be: low, high (n,) [kWh], and the price ratio own/shared."""

    low: Floats
    high: Floats
    ratio: float


class Answer(NamedTuple):
    """Sizes for a sample.

    Attributes:
        own_kwh: (n,) own batteries.
        shared_kwh: shared battery.
        bound_kwh: proven lower bound on s + ratio sum b over all sizes that serve every day.
        least_own_kwh: (n,) own batteries whose largest use shows that the bound is met.
        days: (k,) indices of the days that decide, increasing.
        cost_weight, tie_weight: (k + 1,) multipliers of these days in the least cost and in the tie-break; the last
            one is that of a day without any need, which stands for s >= 0 and is no sample.
        distance_kwh: proven distance between own_kwh and the unique answer of the solution map.
    """

    own_kwh: Floats
    shared_kwh: float
    bound_kwh: float
    least_own_kwh: Floats
    days: NDArray[np.int64]
    cost_weight: Floats
    tie_weight: Floats
    distance_kwh: float


def budget(bound_kwh: float) -> float:
    """Largest use that the tie-break may spend, for a least use [kWh]."""
    return bound_kwh + SLACK * (bound_kwh + 1.0)


def least_cost(need: Floats, span: Range, say: Say = _silent) -> Answer:
    """Solve the program for all days, with tie-break and proof.

    Args:
        need: (N, n) days [kWh], finite, not negative.
        span: ranges and price ratio.
        say: receives a line per round of added days.

    Raises:
        SolverError: if the proof does not close; its text holds the gap.
    """
    count = len(need)
    every = np.vstack([need, np.zeros((1, need.shape[1]))])  # row N: a day without any need
    cheap, active, rows, weight, low, most = _least_use(need, every, span, lambda text: say(f"least cost: {text}"))
    target = float(span.high.max())
    nearest = Sizing(span.low, span.high, span.ratio, sigma=budget(low), curvature=1.0, target=target)
    tied, active = _with_violated_days(every, nearest, active, 1e-13, lambda text: say(f"tie-break: {text}"))
    tie_rows, tie = _kept(every, active, tied, float(np.abs(target - tied.own).max()) + 1e-3)
    own = _within(every, active, tied.own, nearest)
    days = np.union1d(np.union1d(rows, tie_rows), [count])
    weights = np.zeros((2, len(days)))
    weights[0, np.searchsorted(days, rows)] = weight
    weights[1, np.searchsorted(days, tie_rows)] = tie
    distance = certified_distance(every[days], own, weights[1], span, most)
    if not distance <= POSITION_KWH:
        raise SolverError(f"distance to the unique sizes = {distance:.2e} kWh; allowed: {POSITION_KWH}")
    shared = max(budget(low) - span.ratio * float(own.sum()), 0.0)
    return Answer(own, shared, low, cheap, days[:-1], weights[0], weights[1], distance)


class Use(NamedTuple):
    """The least use, without a tie-break.

    Attributes:
        own_kwh: (n,) own batteries.
        use_kwh: their largest use: they and a shared battery to match serve every day at this cost / shared price.
        bound_kwh: proven lower bound on it over all own batteries.
        days: (k,) days with weight; N stands for a day without any need.
        weight: (k,) multipliers that prove the bound.
    """

    own_kwh: Floats
    use_kwh: float
    bound_kwh: float
    days: NDArray[np.int64]
    weight: Floats


def least_use(need: Floats, span: Range) -> Use:
    """Least use of all days, its bound and the proof; arguments and errors as ``least_cost``."""
    every = np.vstack([need, np.zeros((1, need.shape[1]))])
    own, _, rows, weight, low, most = _least_use(need, every, span, _silent)
    return Use(own, max(most, low), low, rows, weight)


def _least_use(
    need: Floats, every: Floats, span: Range, say: Say
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], Floats, float, float]:
    """Own batteries, days in the program, days with weight and weights, bound, and the largest use that was reached."""
    active = np.append(_first_days(need, span.ratio), len(need))
    cheap, active = _with_violated_days(every, Sizing(span.low, span.high, span.ratio), active, 1e-12, say)
    rows, weight = _kept(every, active, cheap, 1.0)
    low = least_use_bound(every[rows], weight, span.low, span.high, span.ratio)
    most = float(largest_use(need, cheap.own, span.ratio).max())
    if not most <= low + 0.01 * SLACK * (low + 1.0):
        raise SolverError(f"gap of the least use = {most - low:.2e} kWh; allowed: {0.01 * SLACK * (low + 1.0):.2e}")
    return cheap.own, active, rows, weight, low, most


def _within(need: Floats, active: NDArray[np.int64], own: Floats, program: Sizing) -> Floats:
    """Own batteries that keep sigma exactly: where rounding breaks it, a hair towards the answer for less."""
    limit = program.sigma or 0.0
    use = float(largest_use(need, own, program.ratio).max())
    if use <= limit:
        return own
    inner = minimise(need[active], program._replace(sigma=limit * (1.0 - 1e-9)), 1e-13).own
    for _ in range(5):
        spare = limit - float(largest_use(need, inner, program.ratio).max())
        own = own + min(2.0 * (use - limit) / max(spare, 1e-300), 1.0) * (inner - own)
        use = float(largest_use(need, own, program.ratio).max())
        if use <= limit:
            return own
    raise SolverError(f"largest use = {use - limit:.2e} kWh beyond the budget; allowed: none")


def certified_distance(need: Floats, own: Floats, weight: Floats, span: Range, most_kwh: float) -> float:
    """Proven distance [kWh] of ``own`` from the point of {h <= budget} nearest to the target.

    Half the squared distance to the target is strongly convex: a point with gap g lies within sqrt(2 g) of the optimum.
    The bound is taken for the budget of ``most_kwh``, an upper limit on the least use.

    Args:
        need: (k, n) weighted days.
        own: (n,) the point.
        weight: (k,) multipliers.
        span: ranges and price ratio.
        most_kwh: largest use of some own batteries, over all days.
    """
    target = float(span.high.max())
    half = 0.5 * float(((own - target) ** 2).sum())
    low = distance_bound(need, weight, span.low, span.high, span.ratio, budget(most_kwh), target)
    return float(np.sqrt(2.0 * max(half - low, 0.0)))


def least_sum(need: Floats, low: Floats, high: Floats, shared_kwh: float) -> tuple[Floats, float]:
    """Own batteries (n,) of least sum for a given shared battery, and a proven lower bound on the sum [kWh].

    Raises:
        SolverError: if even the largest own batteries do not serve every day.
    """
    worst = float(largest_use(need, high, 0.0).max())
    if worst > shared_kwh:
        raise SolverError(f"shared_kwh = {shared_kwh:g}; allowed: at least {worst:g}, with the largest own batteries")
    program = Sizing(low, high, 0.0, sigma=shared_kwh, slope=1.0)
    found, active = _with_violated_days(need, program, _first_days(need, 1.0), 1e-12)
    rows, weight = _kept(need, active, found, 1.0)
    # min sum b s.t. use <= s: scale the weights of the Lagrangian to the form of least_use_bound
    total = float(weight.sum())
    if total <= 0.0:
        return found.own, float(low.sum())
    scaled = least_use_bound(need[rows], weight, low, high, 1.0 / total)
    return found.own, max(total * (scaled - shared_kwh), float(low.sum()))


def _first_days(need: Floats, ratio: float) -> NDArray[np.int64]:
    """Days with the largest use for some guesses of own batteries."""
    few = need[: min(len(need), 4000)]
    guesses = [np.zeros(need.shape[1]), np.quantile(few, 0.9, axis=0), np.quantile(few, max(0.0, 1.0 - ratio), axis=0)]
    count = max(need.shape[1] // 3, 10)
    days = [np.argsort(-largest_use(need, own, 0.0), kind="stable")[:count] for own in guesses]
    return np.unique(np.concatenate(days))


def _with_violated_days(
    need: Floats, program: Sizing, active: NDArray[np.int64], tolerance: float, say: Say = _silent
) -> tuple[Interior, NDArray[np.int64]]:
    """Answer for the active days, days being added until the others are kept too."""
    for _ in range(_ROUNDS):
        found = minimise(need[active], program, tolerance)
        use = largest_use(need, found.own, program.ratio)
        beyond = np.setdiff1d(np.flatnonzero(use > found.sigma * (1.0 + 1e-14)), active)
        if not len(beyond):
            return found, active
        say(f"{len(active)} of {len(need)} days in the program, {len(beyond)} others violated")
        worst = beyond[np.argsort(-use[beyond], kind="stable")][: max(need.shape[1] // 2, 10)]
        active = np.union1d(active, worst)
    raise SolverError(f"rounds of added days = {_ROUNDS}; allowed: fewer")


def _kept(need: Floats, days: NDArray[np.int64], found: Interior, scale: float) -> tuple[NDArray[np.int64], Floats]:
    """Days whose weight is more than rounding, of their sum and of the slope ``scale`` of the objective, and weights.

    A day below all own batteries asks for nothing, like the last row; if that has no needs, it takes over the weight.
    """
    weight = found.weight.copy()
    if days[-1] == len(need) - 1 and not need[-1].any():
        idle = np.asarray((need[days] <= np.maximum(found.own - _CLEAR_KWH, 0.0)).all(axis=1))
        idle[-1] = False
        weight[-1] += weight[idle].sum()
        weight[idle] = 0.0
    mark = weight > _KEEP * max(float(weight.sum()), scale)
    return days[mark], weight[mark]
