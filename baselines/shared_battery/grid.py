"""The week's energy in whole units, rounded so that no week is lost (bounds) or so that every week fits (values).

The shared battery's s kWh are N units of h = s / N kWh. A request of q kWh takes k units, a night brings back R units:

* for bounds k = floor((q - 2 tau) / h), at least 0, and R = ceil(r / h), with tau = TOLERANCE_KWH;
* for values k = ceil(q / h) and R = floor(r / h).

Lemma. Whatever is granted in the environment can be granted in the week rounded for bounds, with the same values.
Proof. Let x be what is left in the environment [kWh], X what is left in the rounded week [units] after the same grants,
m the nights so far, e = 1e-12 s. Claim: x <= X h + m e. It holds on Monday morning. A grant of q needs q <= x + tau and
leaves x' = max(x - q, 0). If k = 0, X stays and x' <= x. If k > 0, then k h <= q - 2 tau up to rounding, hence
k h <= x - tau <= X h + m e - tau up to rounding: it fits into the rounded week as long as m e and the rounding stay
below tau; and x' = x - q or x' = 0 with x >= q - tau, so that x falls by at least k h and the claim goes on. A night
leads to min(x + r, s) and min(X + R, N), which keeps the claim up to one rounding, below e. What the environment lets
through beyond what is left (tau a request) and the rounding of its own sums are therefore covered, as long as
(m + 4) e <= tau, which is checked here.

The same proof in the other direction shows that whatever fits into the week rounded for values is granted in the
environment: there X h <= x + m e, a request with k <= X has q <= x + m e up to rounding, below x + tau.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.model import WeekModel

__all__ = ["MARGIN_KWH", "Grid", "grid_of", "model_of", "units_down", "units_up"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MARGIN_KWH = 2.0 * TOLERANCE_KWH  # once for what the environment lets through, once for rounding
_ROUNDING = 1e-12  # relative; a few machine epsilons per night
_EXACT = 1e-13  # a quotient this close to a whole number is that number


class Grid(NamedTuple):
    """A shared battery in whole units.

    Attributes:
        levels: N, units of the full battery.
        unit_kwh: h [kWh].
        night_down, night_up: units that a night brings back, rounded down and up.
    """

    levels: int
    unit_kwh: float
    night_down: int
    night_up: int


def model_of(world: Instance | WeekModel) -> WeekModel:
    """The week's model; for an instance the one of its generator, with requests granted in whole."""
    return world if isinstance(world, WeekModel) else WeekModel(world)


def grid_of(model: WeekModel, levels: int) -> Grid:
    """Divide the shared battery into ``levels`` units.

    Raises:
        InvalidInputError: levels are no whole number from 1 to 2^32, or the battery is so large that rounding could
            exceed the tolerance (10^6 kWh for a week).
    """
    number("grid", levels, 1, 2**32, integer=True)
    shared, night = model.sizes.shared_kwh, model.sizes.recharge_kwh
    most = TOLERANCE_KWH / (_ROUNDING * (model.instance.week_days + 4))
    require(shared <= most, "shared battery [kWh]", shared, f"at most {most:g}: beyond, rounding is not negligible")
    share = night / shared * levels
    return Grid(
        int(levels),
        shared / levels,
        int(np.floor(share * (1.0 + _EXACT))),
        int(np.ceil(share * (1.0 - _EXACT))),
    )


def units_down(size_kwh: Floats, grid: Grid, most: int) -> Ints:
    """Units of requests for bounds; ``most`` stands for everything larger."""
    units = np.floor(np.maximum(size_kwh - MARGIN_KWH, 0.0) / grid.unit_kwh)
    return np.minimum(units, most).astype(np.int64)


def units_up(size_kwh: Floats, grid: Grid, most: int) -> Ints:
    """Units of requests for values; ``most`` stands for everything larger."""
    return np.minimum(np.ceil(size_kwh / grid.unit_kwh * (1.0 - _EXACT)), most).astype(np.int64)
