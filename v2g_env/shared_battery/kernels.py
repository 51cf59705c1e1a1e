"""Seasons and requests as loops over rows, compiled by numba; model.py is the readable entrance.

All functions take and return arrays with a leading batch axis; row i never looks at another row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.core.allocation import count_served

__all__ = ["SCALE_KWH", "TOLERANCE_KWH", "WeekConstants", "WeekState", "observe_week", "season_kernel", "week_kernel"]

Floats = NDArray[np.float64]

SCALE_KWH = 10.0  # unit of the scaled violation f
TOLERANCE_KWH = 1e-6 * SCALE_KWH  # what is short by less counts as served
VALUE_LOG, DENSITY_LOG = 4.0, 6.0  # observed logarithms are cut here


class WeekConstants(NamedTuple):
    """Numbers of an instance in the form that the loops want."""

    drivers: int
    days: int
    shared_kwh: float
    recharge_kwh: float
    mean_size_kwh: float
    value_usd: float
    partial: bool


class WeekState(NamedTuple):
    """Where the weeks are: steps done (n,), energy left in the shared battery (n,) [kWh]."""

    t: NDArray[np.int64]
    left_kwh: Floats


@njit(cache=True)
def season_kernel(rule, need, order, own, shared):
    """Carry seasons through: need (e, D, n), order (e, 1 or D, n), own (e, n), shared (e,) [kWh].

    Returns:
        served (e, n) days on which each driver is served; over (e, D) total shortfall minus the shared battery
        [kWh]; short (e,) total of max(over, 0) [kWh].
    """
    episodes, days, n = need.shape
    served = np.empty((episodes, n), np.int64)
    over = np.empty((episodes, days))
    short = np.zeros(episodes)
    for e in range(episodes):
        served[e] = count_served(rule, need[e], own[e], shared[e], order[e], TOLERANCE_KWH)
        for d in range(days):
            total = -shared[e]
            for i in range(n):
                total += max(need[e, d, i] - own[e, i], 0.0)
            over[e, d] = total
            short[e] += max(total, 0.0)
    return served, over, short


@njit(cache=True)
def week_kernel(c, size, value, t, left, wish):
    """One request of every row: size (e, T + 1), value (e, T + 1), wish (e,) share of the request to grant.

    A request that is not granted in part is granted in whole if it fits and the wish is at least one half.

    Returns:
        t, left of the next state; earned (e,) [$]; granted (e,) [kWh].
    """
    episodes = len(t)
    after, rest = np.empty(episodes, np.int64), np.empty(episodes)
    earned, granted = np.zeros(episodes), np.zeros(episodes)
    for e in range(episodes):
        asked = size[e, t[e]]
        if c.partial:
            granted[e] = wish[e] * min(asked, left[e])
        elif wish[e] >= 0.5 and asked <= left[e] + TOLERANCE_KWH:
            granted[e] = asked
        if asked > 0.0:
            earned[e] = value[e, t[e]] * (granted[e] / asked)
        rest[e] = max(left[e] - granted[e], 0.0)
        after[e] = t[e] + 1
        if after[e] % c.drivers == 0 and after[e] < c.drivers * c.days:  # night
            rest[e] = min(rest[e] + c.recharge_kwh, c.shared_kwh)
    return after, rest, earned, granted


@njit(cache=True)
def observe_week(c, size, value, t, left, width):
    """Observations (e, width) float32 at the start of a step; see WeekModel.observation_layout."""
    episodes = len(t)
    seen = np.zeros((episodes, width), np.float32)
    for e in range(episodes):
        asked, worth, row = size[e, t[e]], value[e, t[e]], seen[e]
        row[0] = left[e] / c.shared_kwh
        row[7] = c.recharge_kwh / c.shared_kwh
        if t[e] >= c.drivers * c.days:
            continue
        row[1] = asked / c.shared_kwh
        if asked > 0.0:
            log = np.log(worth / c.value_usd)
            row[2] = 0.5 + 0.5 * min(max(log / VALUE_LOG, -1.0), 1.0)
            log -= np.log(asked / c.mean_size_kwh)
            row[3] = 0.5 + 0.5 * min(max(log / DENSITY_LOG, -1.0), 1.0)
            row[6] = 1.0
        row[4] = 1.0 - (t[e] % c.drivers) / c.drivers
        row[5] = asked <= left[e] + TOLERANCE_KWH
        row[8 + (t[e] // c.drivers) % 7] = 1.0
        row[15] = 1.0 - (t[e] // c.drivers) / c.days
    return seen
