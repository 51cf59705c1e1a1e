"""Published numbers of the Stackelberg game, and the formula behind their fleet-size column.

Source of all numbers: Tang and Mak, "Collaborative Vehicle-to-grid Operations in Frequency Regulation Markets", slides,
Tsinghua University, 3 January 2024. Money is in $ per vehicle (driver) and month. Base case: 200 drivers, 10 kW,
baseline utility 200 $.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CHARGER", "FLEET", "TIMES", "UTILITY", "WORKPLACE", "FleetFit", "Published", "fit_fleet", "fleet_factor"]

Floats = NDArray[np.float64]


class Published(NamedTuple):
    """A row of a sensitivity table: profit with and without rebates, rebates [$ per vehicle and month]."""

    with_usd: float
    without_usd: float
    rebate_usd: float

    @property
    def improvement_percent(self) -> float:
        """Gain in profit from offering rebates [%]."""
        return 100.0 * (self.with_usd / self.without_usd - 1.0)


class PublishedTime(NamedTuple):
    """Solution times of a composition: mean [s] and share solved [%], with and without the valid inequalities."""

    with_s: float
    with_solved_percent: float
    without_s: float
    without_solved_percent: float


class PublishedComposition(NamedTuple):
    """A row of table 6: shares of the clusters C2, C1, C3, and results without and with workplace chargers."""

    c2: float
    c1: float
    c3: float
    home: Published
    work: Published


FLEET = {
    100: Published(216.063, 205.475, 23.163),
    150: Published(219.021, 209.301, 23.193),
    200: Published(220.598, 211.358, 20.517),
    250: Published(221.587, 212.652, 20.514),
    300: Published(222.271, 213.544, 20.589),
    350: Published(222.790, 214.197, 20.499),
    400: Published(223.169, 214.698, 20.499),
}  # by number of vehicles

CHARGER = {
    7.2: Published(154.360, 152.178, 11.028),
    10.0: Published(220.598, 211.358, 20.517),
    15.0: Published(346.865, 317.038, 45.000),
    20.0: Published(479.788, 422.717, 62.811),
    30.0: Published(756.814, 634.075, 89.781),
    40.0: Published(1042.483, 845.434, 111.582),
}  # by charger power [kW]

UTILITY = {
    100.0: Published(239.679, 211.358, 27.042),
    150.0: Published(227.931, 211.358, 27.336),
    200.0: Published(220.598, 211.358, 20.517),
    250.0: Published(216.205, 211.358, 17.265),
    300.0: Published(213.448, 211.358, 10.413),
    400.0: Published(211.403, 211.358, 1.509),
    500.0: Published(211.358, 211.358, 0.000),
}  # by baseline utility [$]

TIMES = {
    0.40: PublishedTime(42.46, 100.0, 174.02, 100.0),
    0.45: PublishedTime(58.31, 100.0, 202.68, 100.0),
    0.50: PublishedTime(54.78, 100.0, 298.45, 94.0),
    0.55: PublishedTime(102.80, 100.0, 490.88, 86.0),
    0.60: PublishedTime(171.98, 98.0, 676.23, 62.0),
    0.65: PublishedTime(330.58, 86.0, 758.29, 40.0),
    0.70: PublishedTime(473.09, 64.0, 994.54, 18.0),
}  # by share of cluster 1 of two

_TABLE_6 = (
    (0.2, 0.3, 0.5, 214.983, 208.983, 17.256, 235.397, 234.277, 5.975),
    (0.2, 0.4, 0.4, 212.127, 205.499, 18.019, 229.541, 227.988, 5.250),
    (0.25, 0.3, 0.45, 214.847, 206.785, 21.855, 238.389, 237.395, 5.437),
    (0.25, 0.35, 0.4, 209.651, 199.304, 23.522, 231.500, 230.339, 3.617),
    (0.3, 0.2, 0.5, 215.696, 208.607, 17.113, 248.120, 247.629, 3.947),
    (0.3, 0.25, 0.45, 214.254, 205.938, 20.525, 241.374, 240.532, 4.878),
    (0.3, 0.35, 0.35, 209.174, 199.223, 26.711, 235.252, 233.694, 4.819),
    (0.3, 0.4, 0.3, 209.210, 195.533, 24.971, 232.267, 230.987, 4.246),
    (0.3, 0.3, 0.4, 213.574, 202.351, 20.603, 236.926, 235.699, 2.984),
    (0.345, 0.227, 0.428, 213.709, 206.029, 21.686, 244.611, 243.896, 2.604),
    (0.35, 0.25, 0.4, 211.672, 200.108, 23.428, 246.446, 245.892, 4.682),
    (0.35, 0.2, 0.45, 213.592, 203.307, 19.276, 247.127, 246.222, 3.980),
    (0.35, 0.3, 0.35, 210.982, 198.612, 21.965, 240.995, 239.821, 3.986),
    (0.4, 0.2, 0.4, 213.157, 202.176, 23.210, 249.396, 248.726, 3.367),
    (0.4, 0.25, 0.35, 212.019, 200.159, 21.898, 246.158, 245.814, 3.871),
    (0.4, 0.3, 0.3, 209.972, 195.990, 24.701, 241.781, 240.880, 4.435),
    (0.5, 0.2, 0.3, 211.905, 191.842, 26.576, 249.109, 248.226, 4.069),
)
WORKPLACE = tuple(PublishedComposition(*row[:3], Published(*row[3:6]), Published(*row[6:])) for row in _TABLE_6)


class FleetFit(NamedTuple):
    """Parameters of profit(M) = A c(M) without rebates, and how well they fit.

    Attributes:
        level_usd: A, the profit of a vehicle if every plugged kW could be sold [$ per month].
        spread: q, squared deviation of the number of cars times -2 ln eta, over the squared plugged share.
        signal: s, deviation of the signal's ratio times sqrt(-2 ln eta).
        worst_usd: largest distance between column and formula [$ per month].
    """

    level_usd: float
    spread: float
    signal: float
    worst_usd: float


def fleet_factor(drivers: ArrayLike, spread: float, signal: float) -> Floats:
    """Share c of the plugged power that M drivers with the same plugged share can sell.

    Condition (3) of the bid, divided by psi M y, is c - 1 + sqrt(q / M + (s c)^2) = 0.
    """
    rest = 1.0 - signal**2
    share = np.asarray(drivers, np.float64)
    return np.asarray((1.0 - np.sqrt(1.0 - rest * (1.0 - spread / share))) / rest)


def fit_fleet(drivers: ArrayLike, profit_usd: ArrayLike) -> FleetFit:
    """Fit A c(M) to profits without rebates (n,) [$ per vehicle and month] of fleets of M drivers (n,)."""
    from scipy.optimize import least_squares

    m, profit = np.asarray(drivers, np.float64), np.asarray(profit_usd, np.float64)

    def off(parameters: Floats) -> Floats:
        return np.asarray(parameters[2] * fleet_factor(m, parameters[0], parameters[1]) - profit)

    bounds = ([0.0, 0.0, 0.0], [0.9 * float(m.min()), 0.95, 1e6])
    begin = [1.0, 0.1, 1.1 * float(profit.max())]
    result = least_squares(off, begin, bounds=bounds, x_scale=[1.0, 0.1, 100.0], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    spread, signal, level = (float(value) for value in result.x)
    return FleetFit(level, spread, signal, float(np.abs(result.fun).max()))
