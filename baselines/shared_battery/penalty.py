"""What no policy of the week can exceed, with a penalty for knowing the future (Brown, Smith and Sun 2010).

A penalty z is a sum of surprises W(s_{t+1}) - E[W(s_{t+1}) | G_t, a_t], so that its mean is zero whatever a policy
does, as long as the policy knows no more than G_t (penalty_law.py). Week by week, the best of return - z over all ways
to answer the requests, all of them known, is a bound: on average no policy earns more. W = 0 is the hindsight bound.

The critic says what energy left after request t is worth, U_t(l) (penalty_critic.py). Then, before it is answered,

    W_t(l, q, v) = U_t(l) + (v - (U_t(l) - U_t(l - q)))_+ + sum_f m_f D_ft(l),

the second term only if q <= l, and m_f the sum of trait f over the drivers who come after request t on this day. U may
be any function: a bad one makes the bound loose, never wrong.

Whole units. The level l in W is not the environment's, but that of the week rounded for bounds (lemma in grid.py) after
the same answers. It is a function of the requests and answers so far, so the mean stays zero; every week of every
policy is one of the rounded weeks, with the same values and, by definition, the same z. So the dynamic programme over
units is a bound for any U, without a word about its slope or shape. Sizes q enter W by classes: whatever fits fits in W
too, so that nothing is gained by steering to where the two differ.

Accuracy. E is exact but for chords that lie above a convex function, by less than 1e-7 times the median value for sd =
0.8: in the bound that errs upwards, and the mean of z is between that, times the number of requests, below zero and
zero. Floating-point rounding (below 1e-12) is covered by raising the bound by 1e-9 of the money that is about.

Brown, Smith and Sun, Information Relaxations and Duality in Stochastic Dynamic Programs, Operations Research 58(4),
2010.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.penalty_critic import WeekCritic
from baselines.shared_battery.penalty_kernel import answer, at_levels, gains
from baselines.shared_battery.penalty_law import (
    Classes,
    Requests,
    chances,
    classes_of,
    factor_table,
    known_shocks,
    requests_of,
)
from v2g_env.core.validate import require
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.model import WEEK_FACTS, WeekModel
from v2g_env.shared_battery.scenario import Week

__all__ = ["Bound", "penalised", "penalty_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK_CELLS = 8 * 10**6  # numbers of one sweep's largest array; every sweep makes the critic's tables again
_ALLOWANCE = 1e-9


class Bound(NamedTuple):
    """What no policy exceeds.

    Attributes:
        bound_usd: (E,) best return less penalty of each week when all of it is known; for every policy its return is
            at most that plus its own penalty, and its expected return at most the expectation of that [$].
        grid: units of the battery.
        classes: of sizes.
    """

    bound_usd: Floats
    grid: int
    classes: int


class _Step(NamedTuple):
    """One request of all paths: E paths, B classes, N units."""

    t: int
    price: Floats  # (B, N + 1)
    mean: Floats  # (B, N + 1)
    chance: Floats  # (E, B)
    other: Floats  # (E, F) surprises about who comes
    tilt: Floats  # (F, N + 1)


def penalised(
    model: WeekModel,
    scenario: Week,
    critic: WeekCritic,
    grid: int = 2000,
    classes: int = 401,
    shock: Floats | None = None,
) -> Bound:
    """Bound every week from above, given the penalty of a critic.

    Args:
        model: of the environment, requests in whole.
        scenario: E weeks, independent of the critic.
        critic: what energy is worth.
        grid: N, units of the battery; more of them lower the bound.
        classes: of sizes, at most; more of them sharpen the penalty.
        shock: (E, D) common shocks of the days, see ``week_shocks``; needed if needs are correlated.

    Raises:
        InvalidInputError: for a model that grants shares, a critic of another week, or numbers out of range.
    """
    kinds, seen = _start(model, scenario, critic, grid, classes)
    parts = [_best(model, critic, kinds, *part) for part in _parts(model, kinds, seen, shock, kinds.grid.levels + 1)]
    best = np.concatenate([np.empty(0), *parts])
    money = 1.0 + seen.value_usd.sum(axis=1) + critic.scale * model.steps * critic.span_usd
    return Bound(np.nextafter(best + _ALLOWANCE * money, np.inf), int(grid), len(kinds.units))


def penalty_of(
    model: WeekModel,
    scenario: Week,
    actions: NDArray[Any],
    critic: WeekCritic,
    grid: int = 2000,
    classes: int = 401,
    shock: Floats | None = None,
) -> Floats:
    """Penalty z (E,) [$] of given answers: zero on average for every policy that does not see the future.

    Args:
        model: of the environment.
        scenario: E weeks.
        actions: (E, T) answers as the environment takes them.
        critic: as for ``penalised``.
        grid: the same as there, else it is another penalty.
        classes: likewise.
        shock: likewise.

    Raises:
        InvalidInputError: as ``penalised``, and for actions that the environment refuses.
    """
    kinds, seen = _start(model, scenario, critic, grid, classes)
    granted = rollout(model, scenario, Recorded(np.asarray(actions))).facts[:, :, WEEK_FACTS.index("granted_kwh")] > 0.0
    level = _levels(model, kinds, seen, granted)
    parts, done = [], 0
    for some, given in _parts(model, kinds, seen, shock, 1):
        place = level[done : done + len(some.units)]
        parts.append(_penalty(model, critic, kinds, some, given, place))
        done += len(some.units)
    return np.concatenate([np.empty(0), *parts])


def _start(model: WeekModel, scenario: Week, critic: WeekCritic, grid: int, classes: int) -> tuple[Classes, Requests]:
    critic.check(model)
    kinds = classes_of(model, grid, classes)
    return kinds, requests_of(model, scenario, kinds)


def _parts(
    model: WeekModel, kinds: Classes, seen: Requests, shock: Floats | None, width: int
) -> Iterator[tuple[Requests, Floats | None]]:
    """The weeks, as many at a time as the memory likes; ``width``: numbers that a week takes besides its chances."""
    lot = model.instance
    cells = max(width, len(kinds.units) * (lot.drivers if lot.correlation > 0.0 else 1))
    given = known_shocks(model, shock, len(seen.units))
    rows = max(_CHUNK_CELLS // cells, 1)
    for i in range(0, len(seen.units), rows):
        yield seen.rows(i, rows), None if given is None else given[i : i + rows]


def _steps(
    model: WeekModel, critic: WeekCritic, kinds: Classes, seen: Requests, shock: Floats | None
) -> Iterator[_Step]:
    """All requests, from the last to the first."""
    lot = model.instance
    table, step = factor_table(0.0 if lot.values == "equal" else lot.value_sd)
    levels = kinds.grid.levels
    for t, chance, other in chances(model, kinds, seen.driver, shock, critic.traits):
        worth, tilt = critic.at(t, levels)
        price, mean = gains(worth, kinds.units, kinds.scale_usd, table, step)
        yield _Step(t, price, mean, chance, other, tilt)


def _best(model: WeekModel, critic: WeekCritic, kinds: Classes, seen: Requests, shock: Floats | None) -> Floats:
    """Best return less penalty (E,) over the answers to a rounded week."""
    levels, n = kinds.grid.levels, model.instance.drivers
    morning = np.minimum(np.arange(levels + 1) + kinds.grid.night_up, levels)
    best = np.zeros((len(seen.units), levels + 1))
    for step in _steps(model, critic, kinds, seen, shock):
        t = step.t
        if (t + 1) % n == 0 and t + 1 < model.steps:
            best = best[:, morning]
        # who comes is known with the request: traits of those after him fall by his own
        mean = step.chance @ step.mean + step.other @ step.tilt
        request = (seen.units[:, t], seen.value_usd[:, t], seen.kind[:, t], seen.thought_usd[:, t])
        best = answer(best, *request, step.price, mean, critic.scale)
    return np.asarray(best[:, levels])


def _penalty(
    model: WeekModel, critic: WeekCritic, kinds: Classes, seen: Requests, shock: Floats | None, level: Ints
) -> Floats:
    """Penalty (E,) of weeks whose levels (E, T) before the requests are known."""
    z = np.zeros(len(level))
    for step in _steps(model, critic, kinds, seen, shock):
        t, here = step.t, level[:, step.t]
        z += at_levels(here, seen.kind[:, t], seen.thought_usd[:, t], step.chance, step.price, step.mean)
        z -= np.einsum("ef,fe->e", step.other, step.tilt[:, here])
    return np.asarray(critic.scale * z)


def _levels(model: WeekModel, kinds: Classes, seen: Requests, granted: NDArray[np.bool_]) -> Ints:
    """Levels (E, T) of the rounded week before each request [units]."""
    levels, n = kinds.grid.levels, model.instance.drivers
    level = np.empty(seen.units.shape, np.int64)
    now = np.full(len(level), levels)
    for t in range(model.steps):
        level[:, t] = now
        now = now - np.where(granted[:, t], seen.units[:, t], 0)
        require(bool((now >= 0).all()), "level of the rounded week", int(now.min(initial=0)), "at least 0")
        if (t + 1) % n == 0:
            now = np.minimum(now + kinds.grid.night_up, levels)
    return level
