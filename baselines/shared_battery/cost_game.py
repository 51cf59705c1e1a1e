"""What a group of drivers pays for batteries that serve it on every sampled day: a game of costs.

c(S) is the optimum of the scenario program (6) of Alexeenko and Charisopoulos, arXiv 2304.10461, for the drivers S:

    min  p_shared s + p_own sum_{i in S} b_i   s.t.  sum_{i in S} (xi_i^k - b_i)_+ <= s for k = 1..N,  low <= b <= high.

Every worth comes with a plan that costs it and with weights on days that prove a lower bound (duals.py).

The core is never empty. With the weights of all drivers' program, a driver pays his own part of the Lagrangian,

    x_i = p_shared min_b [ ratio b + sum_k w_k (xi_i^k - b)_+ ],

which sums to c(N) by duality, and for any S the parts of its members are a lower bound on c(S): Owen's point (Owen, On
the Core of Linear Production Games, Mathematical Programming 9, 1975).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.games.coalitions import MOST_PLAYERS, CoalitionFunction, CooperativeGame, members_of
from baselines.shared_battery.programs import span_of
from baselines.shared_battery.scenario_program import Range, Use, least_use
from baselines.shared_battery.verify_cost_game import Evidence, certificate_of, limits
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

__all__ = [
    "CostGame",
    "coalition_costs",
    "cost_function",
    "cost_game",
    "names",
    "owen_point",
    "scenario_costs",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
_CHUNK = 64  # coalitions of a task


class CostGame(NamedTuple):
    """The game, its values what plans cost, and a JSON certificate of all its limits."""

    game: CooperativeGame
    certificate: dict[str, Any]


def names(instance: Instance) -> tuple[str, ...]:
    """Names of the drivers."""
    return tuple(f"driver {i}" for i in range(instance.drivers))


def _least(need: Floats, span: Range, members: Ints) -> Use:
    """Plan and proof of one coalition that is not empty."""
    part = np.ascontiguousarray(need[:, members])
    low, high = span.low[members], span.high[members]
    one = np.ones(1)
    if not part.any():
        use = span.ratio * float(low.sum())
        return Use(low, use, use, np.array([len(need)]), one)
    if span.ratio >= 1.0 and not low.any():  # nobody needs a battery of his own: the largest sum of needs
        total = part.sum(axis=1)
        day = int(total.argmax())
        return Use(low, float(total[day]), float(total[day]), np.array([day]), one)
    return least_use(part, Range(low, high, span.ratio))


def coalition_costs(instance: dict[str, Any], n_samples: int, seed: int, masks: Sequence[int]) -> dict[str, Any]:
    """Plans and proofs of some coalitions, from plain data and to plain data: a task that any worker can do.

    Args:
        instance: fields of the Instance.
        n_samples: sampled days.
        seed: of the days.
        masks: coalitions as bit masks, none empty.

    Returns:
        Lists, one entry per coalition: "own" batteries of the members [kWh], "days" with weight, their "weights".
    """
    lot = Instance.from_dict(instance)
    need, span = sample_days(lot, "generator", n_samples, seed).need_kwh, span_of(lot)
    found = [_least(need, span, np.array(members_of(mask), np.int64)) for mask in masks]
    return {
        "own": [each.own_kwh.tolist() for each in found],
        "days": [each.days.tolist() for each in found],
        "weights": [each.weight.tolist() for each in found],
    }


def cost_game(instance: Instance, n_samples: int = 1000, seed: int = 1, spread: Spread | None = None) -> CostGame:
    """The game of an instance's drivers, every coalition with its limits.

    Args:
        instance: fleet and prices; the shared battery's largest size is not a limit here.
        n_samples: sampled days that all have to be served.
        seed: of the days.
        spread: as the built-in ``map``: evaluates a function of plain data for many chunks of coalitions; None: one
            after the other.

    Raises:
        InvalidInputError: for more than 20 drivers, or a number out of range.
        SolverError: if the proof of a cost does not close.
    """
    n = instance.drivers
    require(n <= MOST_PLAYERS, "drivers", n, f"at most {MOST_PLAYERS} with all coalitions; else use cost_function")
    number("n_samples", n_samples, 1, 10**6, integer=True)
    masks = list(range(1, 1 << n))
    chunks = [masks[at : at + _CHUNK] for at in range(0, len(masks), _CHUNK)]
    found = list((spread or map)(_Task(instance.to_dict(), n_samples, seed), chunks))
    own = np.zeros((1 << n, n))
    for mask, batteries in zip(masks, (each for part in found for each in part["own"]), strict=True):
        own[mask, list(members_of(mask))] = batteries
    days = [each for part in found for each in part["days"]]
    evidence = Evidence(
        own,
        np.array([0, *map(len, days)], np.int64),
        np.array([day for each in days for day in each], np.int64),
        np.array([weight for part in found for each in part["weights"] for weight in each], np.float64),
    )
    upper, lower = limits(instance, n_samples, seed, evidence)
    game = CooperativeGame(upper, names(instance), "cost", lower, upper)
    return CostGame(game, certificate_of(instance, n_samples, seed, evidence, game))


class _Task:
    """``coalition_costs`` of one sample, as a function of the coalitions alone."""

    def __init__(self, instance: dict[str, Any], n_samples: int, seed: int) -> None:
        self.data = instance, n_samples, seed

    def __call__(self, masks: Sequence[int]) -> dict[str, Any]:
        return coalition_costs(*self.data, masks)


def cost_function(instance: Instance, n_samples: int = 1000, seed: int = 1) -> CoalitionFunction:
    """The same game for any number of drivers, evaluated where somebody asks; a worth is a plan's cost [$]."""
    number("n_samples", n_samples, 1, 10**6, integer=True)
    need, span = sample_days(instance, "generator", n_samples, seed).need_kwh, span_of(instance)
    price = instance.shared_usd_per_kwh

    def cost(members: NDArray[np.bool_]) -> float:
        return price * _least(need, span, np.flatnonzero(members)).use_kwh if members.any() else 0.0

    return CoalitionFunction(cost, names(instance), "cost")


def owen_point(instance: Instance, n_samples: int = 1000, seed: int = 1) -> Floats:
    """An allocation (n,) [$] in the core: each driver's part of the dual of all drivers' program.

    It sums to what their plan costs; the gap to the proven bound, below a millionth, is shared out equally.
    """
    need, span = sample_days(instance, "generator", n_samples, seed).need_kwh, span_of(instance)
    price = instance.shared_usd_per_kwh
    found = least_use(need, span)
    every = np.vstack([need, np.zeros((1, need.shape[1]))])[found.days]
    share = found.weight / found.weight.sum()
    parts = np.empty(instance.drivers)
    for i, (needs, low, high) in enumerate(zip(every.T, span.low, span.high, strict=True)):
        points = np.concatenate([[low, high], np.clip(needs, low, high)])
        parts[i] = (span.ratio * points + np.maximum(needs - points[:, None], 0.0) @ share).min()
    total = price * found.use_kwh
    return np.asarray(price * parts + (total - price * parts.sum()) / len(parts))


def scenario_costs(instance: Instance, days: int, scenarios: int, seed: int) -> Floats:
    """(scenarios, 2^n) costs of every coalition on independent seasons of ``days`` days [$].

    On each scenario the coalitions size for that season alone, so that their costs are random: what coalitions may
    find when they leave. See baselines.games.stability.

    Raises:
        InvalidInputError: for more than 12 drivers.
    """
    number("drivers", instance.drivers, 1, 12, integer=True)
    number("days", days, 1, 10**5, integer=True)
    number("scenarios", scenarios, 1, 10**5, integer=True)
    need, span = sample_days(instance, "generator", days * scenarios, seed).need_kwh, span_of(instance)
    price, count = instance.shared_usd_per_kwh, 1 << instance.drivers
    members = [np.array(members_of(mask), np.int64) for mask in range(1, count)]
    table = np.zeros((scenarios, count))
    for k in range(scenarios):
        season = need[k * days : (k + 1) * days]
        table[k, 1:] = [price * _least(season, span, each).use_kwh for each in members]
    return table
