"""The week as a stochastic dynamic programme: what energy left is worth, and what no policy can exceed on average.

Requests are taken as independent draws: a driver picked at random, his need N by his histogram, the shortfall
q = (N x weekday factor - own)_+ on the grid of grid.py, the value v by its exact law. With V_t(l) the expected value of
what follows request t from level l on (nights included),

    V_{t-1}(l) = V_t(l) + sum_k P(k) E max(0, v - (V_t(l) - V_t(l - k))),

and the last factor has a closed form: v = c exp(sd clip(Z, -3, 3)) has atoms at both ends and a normal density between.
It is tabulated; between two knots the chord of a convex function lies above it (by less than 1e-7 c for sd = 0.8).

All drivers alike, no common shock: then this is the law of the environment itself, whoever comes first. Every policy of
the week, whatever it remembers or tosses, earns on average at most the value of the programme rounded for bounds
(``online_bound``): path by path its week is one of the rounded week's, with the same values (lemma in grid.py), where
nothing that it knows beyond level, units and value says anything about the future. Values that depend on the size
("density") enter as the two ends of each unit's interval, weighted such that the mean size is kept: E max(0, q x - p)
is convex in q (Edmundson 1957, Madansky 1959). Drivers that differ, or whose needs move together, break independence;
then the programme is a heuristic, and no bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.grid import MARGIN_KWH, Grid, grid_of, model_of
from baselines.shared_battery.week_programme_kernel import worth_of_energy
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel

__all__ = ["VALUE_CUT", "WeekProgramme", "excess_value", "online_bound", "size_beyond", "size_moment", "solve_week"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VALUE_CUT = 3.0  # standard deviations at which log values are cut, as in v2g_env.shared_battery.scenario
_KNOTS = 2**15
_MOST_CELLS = 2 * 10**8
_ALLOWANCE = 1e-9  # relative; rounding of the programme is below 1e-12


@dataclass(frozen=True)
class WeekProgramme:
    """What energy is worth through a week.

    Attributes:
        grid: the levels.
        after_usd: (D, n, N + 1) expected value of what follows each request, by the level that it leaves [$].
        morning_usd: (D, N + 1) expected value from each morning on, by level [$].
    """

    grid: Grid
    after_usd: Floats
    morning_usd: Floats

    @property
    def value_usd(self) -> float:
        """Expected value of the week from a full battery on [$]; of the first day alone if days are not coupled."""
        return float(self.morning_usd[0, -1])


def excess_value(price: Floats, sd: float) -> Floats:
    """E max(0, v - price) for v = exp(sd clip(Z, -3, 3)), Z standard normal; any shape, price >= 0."""
    from scipy.special import ndtr

    price = np.asarray(price, np.float64)
    low, high, tail = np.exp(-VALUE_CUT * sd), np.exp(VALUE_CUT * sd), ndtr(-VALUE_CUT)
    with np.errstate(divide="ignore"):
        score = np.log(price) / sd if sd > 0.0 else np.where(price < 1.0, -VALUE_CUT, VALUE_CUT)
    a = np.clip(score, -VALUE_CUT, VALUE_CUT)
    between = np.exp(0.5 * sd * sd) * (ndtr(VALUE_CUT - sd) - ndtr(a - sd)) - price * (ndtr(VALUE_CUT) - ndtr(a))
    return np.asarray(between + tail * np.maximum(low - price, 0.0) + tail * np.maximum(high - price, 0.0))


@lru_cache(maxsize=16)
def _table(sd: float) -> tuple[Floats, float]:
    """Knots of ``excess_value`` from 0 to the largest value, and their distance."""
    step = float(np.exp(VALUE_CUT * sd)) / (_KNOTS - 1)
    knots = np.maximum(excess_value(step * np.arange(_KNOTS, dtype=np.float64), sd), 0.0)
    knots[-1] = 0.0
    return knots, step


def solve_week(
    world: Instance | WeekModel, grid: int = 400, rounding: str = "nearest", coupled: bool = True
) -> WeekProgramme:
    """Solve the week's dynamic programme.

    Args:
        world: the week's model, or its instance; requests in whole.
        grid: units of the shared battery.
        rounding: of sizes and nights: "nearest" for a policy, "down" (sizes down, nights up) for an upper and "up" for
            a lower limit on the optimum of independent requests.
        coupled: False ends the world every evening: the policy that looks at today only.

    Raises:
        InvalidInputError: for another rounding, or a grid that is out of range.
    """
    model = model_of(world)
    lot = model.instance
    require(rounding in ("nearest", "down", "up"), "rounding", rounding, "nearest, down or up")
    number("grid", grid, 1, _MOST_CELLS // model.steps, integer=True)
    cells = grid_of(model, grid)
    night = {"nearest": model.sizes.recharge_kwh / cells.unit_kwh, "down": cells.night_up, "up": cells.night_down}
    factors = np.array(lot.weekday_factors)[np.arange(lot.week_days) % 7]
    kinds, day_law = np.unique(factors, return_inverse=True)
    laws = [_requests(model, cells, float(factor), rounding) for factor in kinds]
    units, scale, chance = (np.concatenate(part) for part in zip(*laws, strict=True))
    first = np.cumsum([0, *(len(law[0]) for law in laws)])
    table, step = _table(0.0 if lot.values == "equal" else lot.value_sd)
    after, morning = worth_of_energy(
        units, scale, chance, first, day_law, lot.drivers, cells.levels, float(night[rounding]), coupled, table, step
    )
    return WeekProgramme(cells, after, morning)


def online_bound(world: Instance | WeekModel, grid: int = 1000) -> float:
    """Proven upper limit on the expected return of every policy that does not see the future [$ per week].

    Args:
        world: the week's model, or its instance; all drivers alike, needs independent, requests in whole.
        grid: units of the shared battery; more of them lower the limit towards the optimum.

    Raises:
        InvalidInputError: if drivers differ, their needs are correlated, or requests may be granted in part: no such
            bound is available.
    """
    model = model_of(world)
    needs = model.law.needs
    alike = bool((needs.share == needs.share[0]).all() and (needs.idle == needs.idle[0]).all())
    require(alike, "drivers", "of different needs", "all alike: otherwise this bound is not available")
    shock = model.instance.correlation
    require(shock == 0.0, "correlation", shock, "0: with common shocks this bound is not available")
    require(not model.partial, "model", "partial", "requests granted in whole")
    value = solve_week(model, grid, "down").value_usd
    return float(np.nextafter(value * (1.0 + _ALLOWANCE), np.inf))


def _requests(model: WeekModel, cells: Grid, factor: float, rounding: str) -> tuple[Ints, Floats, Floats]:
    """Possible requests of one step that fit into the full battery: units, median values [$], probabilities."""
    h, levels = cells.unit_kwh, cells.levels
    if rounding == "down":
        ends = np.append(0.0, MARGIN_KWH + h * np.arange(1, levels + 2))
        units = np.arange(levels + 1)
    elif rounding == "up":
        ends, units = h * np.arange(levels + 1), np.arange(1, levels + 1)
    else:
        ends, units = np.append(0.0, h * (np.arange(levels + 1) + 0.5)), np.arange(levels + 1)
    beyond = size_beyond(model, ends, factor)
    chance = np.maximum(beyond[:-1] - beyond[1:], 0.0)
    lot, low, high = model.instance, ends[:-1], ends[1:]
    if lot.values != "density":
        kept = chance > 0.0
        return units[kept], np.full(int(kept.sum()), lot.value_usd), chance[kept]
    dollar = lot.value_usd / model.sizes.mean_size_kwh
    moment = size_moment(model, ends, factor)
    mean = np.clip(np.maximum(moment[:-1] - moment[1:], 0.0) / np.where(chance > 0.0, chance, 1.0), low, high)
    if rounding == "down":
        upper = chance * (mean - low) / (high - low)
        units, size, chance = (
            np.repeat(units, 2),
            np.stack([low, high], 1).ravel(),
            np.stack([chance - upper, upper], 1),
        )
    else:
        size = mean
    chance = chance.ravel()
    kept = (chance > 0.0) & (size > 0.0)  # a size of zero is worth nothing
    return units[kept], dollar * size[kept], chance[kept]


def size_beyond(model: WeekModel, ends: Floats, factor: float) -> Floats:
    """P(q > x) of a request's size q at the points x = ``ends`` >= 0 [kWh], on a day with this weekday factor."""
    need = (model.sizes.own_kwh[:, None] + ends) / factor
    return np.asarray(1.0 - model.law.needs.distribution(need).mean(axis=0))


def size_moment(model: WeekModel, ends: Floats, factor: float) -> Floats:
    """E[q; q > x] [kWh], as ``size_beyond``."""
    need = (model.sizes.own_kwh[:, None] + ends) / factor
    surplus = [factor * model.law.needs.mean_shortfall_kwh(column).mean() for column in need.T]
    return np.asarray(surplus + ends * size_beyond(model, ends, factor))
