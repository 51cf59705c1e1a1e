"""Shared capacity that comes in units of fixed size, such as battery trailers.

Two readings. If a unit can serve several drivers, only the size is restricted: s = u U. The least cost is convex in s,
so the best U is next to the best s, below or above, and two programs decide. If a driver takes whole units, a day needs
sum_i ceil((xi_i - b_i)_+ / u) of them: a mixed-integer program, solved by HiGHS with days added when they are violated.
That solver's word is no proof: what is proven here is the gap to the program without units, and ``tested_units``
certifies on fresh days how often the units do not suffice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.shared_battery.duals import largest_use
from baselines.shared_battery.programs import Solution, header, span_of
from baselines.shared_battery.reliability import PROGRAM_STREAM, TRAINING_STREAM
from baselines.shared_battery.scenario_program import SLACK, least_cost, least_sum
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.scenario import Days, Law, fitting, sample_days

__all__ = ["Units", "divisible_units", "short_days", "tested_units", "units_needed", "whole_units"]

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


def short_days(need: Floats, own: Floats, units: int, unit_kwh: float, whole: bool) -> int:
    """Days (of N) on which the units do not suffice, taken whole by every driver or divided among them."""
    if whole:
        return int((units_needed(need, own, unit_kwh) > units).sum())
    return int((largest_use(need, own, 0.0) > units * unit_kwh + TOLERANCE_KWH).sum())


def tested_units(
    instance: Instance,
    sizes: Units,
    unit_kwh: float,
    whole: bool,
    *,
    days: int,
    seed: int = 1,
    stream: int = 4,
    source: Law | str = "generator",
    beta: float = 1e-5,
) -> Solution:
    """Certify sizes with units on fresh days: an upper limit on the probability that the units do not suffice.

    Args:
        instance: the fleet.
        sizes: own batteries and number of units, fixed before the days are drawn.
        unit_kwh: size u of a unit.
        whole: whether every driver takes whole units, or they are divided among drivers.
        days: number of fresh days.
        seed: of the days.
        stream: of the days; not one that shaped the sizes.
        source: law of the needs, or its name.
        beta: confidence parameter.
    """
    number("unit_kwh", unit_kwh, 0.0, 1e6, open_low=True)
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    free = "a stream other than those of programs and searches, 0 and 10"
    require(stream not in (PROGRAM_STREAM, TRAINING_STREAM), "stream", stream, free)
    law = fitting(instance, source)
    fresh = sample_days(instance, law, days, seed, stream)
    short = short_days(fresh.need_kwh, sizes.own_kwh, sizes.units, unit_kwh, whole)
    sample = {"seed": int(seed), "stream": int(stream), "n_samples": int(days), "sha256": fresh.sha256}
    shared = sizes.units * unit_kwh
    cost = float(instance.cost_usd(sizes.own_kwh, shared))
    data: dict[str, Any] = header(instance, law, "tested units", sample) | {
        "own_kwh": sizes.own_kwh.tolist(),
        "units": int(sizes.units),
        "unit_kwh": float(unit_kwh),
        "whole": bool(whole),
        "cost_usd": cost,
        "short_days": short,
        "risk": {"beta": beta, "eps": float(risk.hold_out(days, short, beta))},
    }
    return Solution(np.append(sizes.own_kwh, shared), cost, data)


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
