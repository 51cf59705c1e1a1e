"""Shared capacity that comes in units of fixed size, such as battery trailers.

Two readings. If a unit can serve several drivers, only the size is restricted: s = u U. The least cost is convex in s,
so the best U is next to the best s, below or above, and two programs decide. If a driver takes whole units, a day needs
sum_i ceil((xi_i - b_i)_+ / u) of them: a mixed-integer program, solved by HiGHS with days added when they are violated.
That solver's word is no proof: the certificate of such sizes is a test on fresh days, and the gap that is proven here
is the distance to the program without units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.duals import largest_use
from baselines.shared_battery.programs import span_of
from baselines.shared_battery.scenario_program import SLACK, least_cost, least_sum
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.scenario import Days

__all__ = ["Units", "divisible_units", "units_needed", "whole_units"]

Floats = NDArray[np.float64]

_ROUNDS = 200


class Units(NamedTuple):
    """Sizes with a whole number of shared units.

    Attributes:
        own_kwh: (n,) own batteries.
        units: number U of shared units.
        cost_usd: cost of the capacity for a season.
        bound_usd: proven lower bound on the cost of any such sizes.
        solver_bound_usd: bound that the solver states (equal to bound_usd where no solver was asked).
        days: (k,) days that the program was solved for; the others are kept as well.
    """

    own_kwh: Floats
    units: int
    cost_usd: float
    bound_usd: float
    solver_bound_usd: float
    days: NDArray[np.int64]


def units_needed(need: Floats, own: Floats, unit_kwh: float) -> NDArray[np.int64]:
    """Whole units that each day needs if every driver takes his own, (N,)."""
    short = np.maximum(need - own - TOLERANCE_KWH, 0.0)
    return np.asarray(np.ceil(short / unit_kwh).sum(axis=1), np.int64)


def divisible_units(instance: Instance, days: Days, unit_kwh: float) -> Units:
    """Best sizes with s = u U for a sample of days, with proof.

    Args:
        instance: fleet and prices.
        days: sample.
        unit_kwh: size u of a unit.
    """
    number("unit_kwh", unit_kwh, 0.0, 1e6, open_low=True)
    span, need = span_of(instance), days.need_kwh
    plain = least_cost(need, span)
    least = float(largest_use(need, span.high, 0.0).max())  # no smaller shared battery serves every day
    most = _most_units(instance, unit_kwh)
    fewest = int(np.ceil(least / unit_kwh - 1e-12))
    require(fewest <= most, "shared_max_kwh_per_driver", instance.shared_max_kwh_per_driver, f"{fewest} units at least")
    first = min(max(int(np.floor(plain.shared_kwh / unit_kwh)), fewest), most)
    found: list[tuple[float, Floats, int, float]] = []
    for count in range(first, min(first + 1, most) + 1):
        own, low = least_sum(need, span.low, span.high, count * unit_kwh)
        shared = count * unit_kwh * instance.shared_usd_per_kwh
        cost = shared + instance.own_usd_per_kwh * float(own.sum())
        found.append((cost, own, count, shared + instance.own_usd_per_kwh * low))
    cost, own, count, _ = min(found, key=lambda each: each[0])
    # the cost is convex in s and s between the two costs at most the tie-break's slack more than the least: farther
    # numbers of units cost at least what the better of the two does, but for that slack
    least_usd = instance.shared_usd_per_kwh * plain.bound_kwh
    bound = max(min(each[3] for each in found) - 2.0 * SLACK * (least_usd + instance.shared_usd_per_kwh), least_usd)
    return Units(own, count, cost, bound, bound, plain.days)


def whole_units(
    instance: Instance, days: Days, unit_kwh: float, time_limit_s: float = 60.0, gap: float = 1e-6
) -> Units:
    """Best sizes if every driver takes whole units, by HiGHS; small fleets and samples.

    Args:
        instance: fleet and prices.
        days: sample.
        unit_kwh: size u of a unit.
        time_limit_s: for each of the programs (days are added until none is violated).
        gap: relative gap at which a program counts as solved.

    Raises:
        SolverError: if a program ends at its time limit.
    """
    number("unit_kwh", unit_kwh, 0.0, 1e6, open_low=True)
    span, need = span_of(instance), days.need_kwh
    plain = least_cost(need, span)
    most = min(_most_units(instance, unit_kwh), int(np.ceil(need / unit_kwh).sum(axis=1).max()))
    program = _UnitProgram(instance, unit_kwh, most)
    active = plain.days.copy()
    program.add_days(need[active])
    for _ in range(_ROUNDS):
        own, count, stated = program.solve(time_limit_s, gap)
        needed = units_needed(need, own, unit_kwh)
        beyond = np.setdiff1d(np.flatnonzero(needed > count), active)
        if not len(beyond):
            cost = float(instance.cost_usd(own, count * unit_kwh))
            return Units(own, count, cost, instance.shared_usd_per_kwh * plain.bound_kwh, stated, active)
        worst = beyond[np.argsort(-needed[beyond], kind="stable")][:3]
        program.add_days(need[worst])
        active = np.append(active, worst)
    raise SolverError(f"rounds of added days = {_ROUNDS}; allowed: fewer")


def _most_units(instance: Instance, unit_kwh: float) -> int:
    return int(np.floor(instance.shared_max_kwh / unit_kwh + 1e-12))


class _UnitProgram:
    """min p_own sum b + p_shared u U over b, whole U and, per day and driver, whole z with b_i + u z_i >= xi_i."""

    def __init__(self, instance: Instance, unit_kwh: float, most: int) -> None:
        span, n = span_of(instance), instance.drivers
        self.unit, self.n, self.most = unit_kwh, n, most
        cost = np.append(np.full(n, -instance.own_usd_per_kwh), -instance.shared_usd_per_kwh * unit_kwh)
        self.program = LinearProgram(cost, np.append(span.low, 0.0), np.append(span.high, float(most)))
        self.program.make_integer([n])

    def add_days(self, need: Floats) -> None:
        """Add days (k, n)."""
        for row in need:
            top = np.ceil(row / self.unit)
            first = self.program.add_columns(np.zeros(self.n), np.zeros(self.n), top)
            places = np.arange(first, first + self.n)
            self.program.make_integer(places)
            pairs = np.stack([np.arange(self.n), places], axis=1)
            values = np.tile([1.0, self.unit], (self.n, 1))
            self.program.add_rows(row, np.full(self.n, np.inf), pairs, values)
            columns = np.append(places, self.n)[None]
            self.program.add_rows([0.0], [np.inf], columns, np.append(-np.ones(self.n), 1.0)[None])

    def solve(self, time_limit_s: float, gap: float) -> tuple[Floats, int, float]:
        """Own batteries, number of units, and the cost bound that the solver states."""
        answer = self.program.solve_integer(time_limit_s, gap)
        own = np.maximum(answer.point[: self.n], 0.0)
        return own, round(float(answer.point[self.n])), -answer.bound
