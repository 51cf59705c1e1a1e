"""What no policy of the week can exceed, week by week: the best choice among requests that are all known beforehand.

Requests granted in whole: a knapsack whose battery is recharged every night, solved exactly by dynamic programming over
units of the battery. Rounded for bounds, every week of every policy fits with the same values (lemma in grid.py);
rounded for values, the best choice can be carried out. Both meet as the units get smaller. Where the relaxation below
proves less for a week, the bound is its number.

Shares of requests: the linear relaxation, a bound for both variants of the environment. The days' totals that a battery
with nightly recharge can serve are the flows into the sinks of a network, hence a polymatroid (Megiddo, Optimal flows
in networks with multiple sources and sinks, Mathematical Programming 7, 1974), and serving requests in order of falling
value per kWh, each as far as still possible, is optimal (Edmonds 1970). Energies are whole numbers of s / 2^32, so that
only the money is rounded. Requests are 2 tau smaller there too, and battery and night one unit larger, which covers the
rounding of the environment's sums (below 1e-10 s): a share w of a request takes at least w k units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.grid import Grid, grid_of, model_of, units_down, units_up
from baselines.shared_battery.knapsack_kernel import best_shares, best_weeks
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week

__all__ = ["Hindsight", "fractional_bound", "hindsight"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FINE = 2**32  # units of the relaxation: requests up to 2^30 batteries large fit into 64-bit sums
_LARGEST = 2**62
_MOST_CELLS = 10**9  # memory of the dynamic programme of one week [byte]
_LONGEST = 10**5  # steps of a week whose rounding stays below one unit of the relaxation


class Hindsight(NamedTuple):
    """Best weeks in hindsight, E of them.

    Attributes:
        value_usd: (E,) what the choice below earns, up to rounding of the sum (relative 1e-12) [$].
        bound_usd: (E,) proven upper limit on what any policy earns [$].
        share: (E, T) share of every request granted by that choice; 0 or 1 unless requests may be granted in part.
    """

    value_usd: Floats
    bound_usd: Floats
    share: Floats


def hindsight(world: Instance | WeekModel, scenario: Week, grid: int = 2000) -> Hindsight:
    """Bound every week from above, and find a choice that comes close.

    Args:
        world: the week's model, or its instance (generator, requests in whole).
        scenario: E weeks.
        grid: units of the shared battery in the dynamic programme; not used if requests may be granted in part.

    Raises:
        InvalidInputError: grid is no whole number from 1 to 2^32, weeks of another length, or a grid too fine for the
            memory.
    """
    model = model_of(world)
    if model.partial:
        upper, _ = _relaxed(model, scenario, up=False)
        value, share = _relaxed(model, scenario, up=True)
        return Hindsight(value, _outward(upper, model.steps), share)
    size, value_usd = _requests(model, scenario)
    number("grid", grid, 1, _MOST_CELLS // (model.steps + 8), integer=True)
    cells = grid_of(model, grid)
    most = cells.levels + 1
    n = model.instance.drivers
    upper, _ = best_weeks(units_down(size, cells, most), value_usd, cells.levels, cells.night_up, n)
    value, granted = best_weeks(units_up(size, cells, most), value_usd, cells.levels, cells.night_down, n)
    relaxed, _ = _relaxed(model, scenario, up=False)
    return Hindsight(value, _outward(np.minimum(upper, relaxed), model.steps), granted.astype(np.float64))


def fractional_bound(world: Instance | WeekModel, scenario: Week) -> Floats:
    """Upper limit (E,) [$] if shares of requests may be granted; holds for both variants, and costs next to nothing.

    Where requests are granted in whole, those that exceed the full battery are left out.
    """
    model = model_of(world)
    return _outward(_relaxed(model, scenario, up=False)[0], model.steps)


def _relaxed(model: WeekModel, scenario: Week, up: bool) -> tuple[Floats, Floats]:
    """Optimum (E,) and shares (E, T) of the relaxation with sizes rounded up (a value) or down (a bound)."""
    size, value = _requests(model, scenario)
    require(model.steps <= _LONGEST, "steps of a week", model.steps, f"at most {_LONGEST} for the relaxation")
    cells: Grid = grid_of(model, _FINE)
    if not model.partial:
        value = np.where(size <= model.sizes.shared_kwh + TOLERANCE_KWH, value, 0.0)
    largest = float(size.max(initial=0.0)) / cells.unit_kwh
    require(largest < _LARGEST, "largest request", largest, "2^30 times the shared battery")
    units = (units_up if up else units_down)(size, cells, _LARGEST)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(value > 0.0, value / units, 0.0)
    order = np.argsort(-density, axis=1, kind="stable")
    night = cells.night_down if up else cells.night_up + 1
    best, share = best_shares(units, value, order, cells.levels + (not up), night, model.instance.drivers)
    return best, share


def _requests(model: WeekModel, scenario: Week) -> tuple[Floats, Floats]:
    """Sizes (E, T) [kWh] and values (E, T) [$] without the padding at the end."""
    shape = scenario.size_kwh.shape
    require(shape[1:] == (model.steps + 1,), "shape of the weeks", shape, f"(any, {model.steps + 1})")
    return np.ascontiguousarray(scenario.size_kwh[:, :-1]), np.ascontiguousarray(scenario.value_usd[:, :-1])


def _outward(total: Floats, steps: int) -> Floats:
    """Raise sums of ``steps`` values, none negative, above what rounding may have taken from them or given to others.

    Twice gamma_m of Higham (Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 3): once for this sum,
    once for the environment's.
    """
    return np.nextafter(total * (1.0 + 4.0 * (steps + 8) * np.finfo(float).eps), np.inf)
