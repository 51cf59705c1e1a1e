"""A day of the game as loops over rows, compiled by numba; model.py is the readable entrance.

All functions take and return arrays with a leading batch axis; row i never looks at another row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.stackelberg.bids import allowed_bid
from v2g_env.stackelberg.follower import newton
from v2g_env.stackelberg.population import binomial, count_rows

__all__ = [
    "Constants",
    "State",
    "advance_kernel",
    "fraction_of",
    "observe_kernel",
    "rebate_of",
    "settle_day",
    "step_kernel",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRICE_LOG = 4.0  # observed log prices are cut at this distance from that of the mean base price
_SNAP = 1e-6  # a bid within single precision of the certified one is the certified one


class Constants(NamedTuple):
    """Numbers of an instance in the form that the loops want; the day types' networks are padded to equal sizes.

    Network k = weekend x (number of plug shares) + (index of the share).
    """

    days: int
    periods: int
    step_h: float
    drivers: int
    power_kw: float  # what a plugged car can give to regulation
    levels: Floats  # (L,)
    between: Floats  # (L - 1,) middles of neighbouring levels
    choices: Ints  # (T,) number of levels allowed
    bid_limit: float
    rigorous: bool
    coef: Floats  # (J, 2, 3) of the bids
    forfeit: bool
    shortfall_factor: float
    forfeit_share: float
    habit: float
    population: bool
    announced: bool
    plug_shares: Floats
    mean_price: float
    arcs: Ints  # (N,)
    nodes: Ints
    band: Ints
    source: Ints
    tail: Ints  # (N, A)
    order: Ints  # arcs sorted by tail
    head: Ints
    mean: Floats
    sigma: Floats
    period: Ints
    node_price: Floats  # (N, nodes) without rebates [$]
    node_slope: Floats  # (N, nodes, T) its derivative in every rebate [$ per $/h]
    bid_0: Floats  # (N, T) certified bid without rebates [kW]


class State(NamedTuple):
    """Start of day t, before the agent acts; one row per episode.

    Attributes:
        t: (n,) day that is about to begin; D after the end.
        habit: (n, T) running mean of rebates to which drivers answered on the day before [$/h].
        rebate: (n, T) rebates of the day before [$/h].
        plugged: (n, T) share of cars plugged in on the day before.
        bid_kw, delivered_kw: (n, T) bids of the day before and what was delivered of them [kW].
    """

    t: Ints
    habit: Floats
    rebate: Floats
    plugged: Floats
    bid_kw: Floats
    delivered_kw: Floats


@njit(cache=True)
def rebate_of(action, c, period):
    """Rebate [$/h] that an action asks for: the allowed level nearest to max(action, 0) x highest level."""
    wanted = max(action, 0.0) * c.levels[-1]
    level = np.searchsorted(c.between, wanted)
    return c.levels[min(level, c.choices[period] - 1)]


@njit(cache=True)
def fraction_of(action, limit):
    """Bid as a share of the certified one."""
    fraction = 0.5 * (action + 1.0) * limit
    return 1.0 if abs(fraction - 1.0) <= _SNAP else fraction


@njit(cache=True)
def _respond(c, k, habit, price, flow, slope, utility, matrix, step, trial, share):
    """Persistency flow of network k under the rebates in ``habit`` (T,); writes flow and share; returns imbalance."""
    arcs, n = c.arcs[k], c.nodes[k]
    period = c.period[k]
    for i in range(n):  # Newton's method starts at the linear guess, which saves two of eight rounds
        price[i] = c.node_price[k, i]
        for t in range(c.periods):
            price[i] += c.node_slope[k, i, t] * habit[t]
    for a in range(arcs):
        utility[a] = c.mean[k, a] + (habit[period[a]] * c.step_h if period[a] >= 0 else 0.0)
    worst = newton(
        c.tail[k, :arcs],
        c.head[k, :arcs],
        utility[:arcs],
        c.sigma[k, :arcs],
        c.source[k : k + 1],
        n,
        c.band[k],
        price[:n],
        flow[:arcs],
        slope[:arcs],
        matrix,
        step[:n],
        trial[:n],
    )
    share[:] = 0.0
    for a in range(arcs):
        if period[a] >= 0:
            share[period[a]] += flow[a]
    return worst


@njit(cache=True)
def settle_day(c, k, price, ratio, rebate, share, bid, cars, money, facts, delivered):
    """Money and facts of one day for the given numbers of plugged cars (T,); writes money, facts, delivered."""
    asked, fulfilled, lost, certified, least, failed, present, bids = 0.0, 0.0, 0.0, 0.0, 1.0, 0, 0.0, 0.0
    per_hour = c.periods // 24
    for t in range(c.periods):
        p = price[t // per_hour] * c.step_h
        have, need = c.power_kw * cars[t], ratio[t] * bid[t]
        done = 1.0 if have >= need else have / need
        failed += done < 1.0
        least = min(least, done)
        lost += bid[t] * (1.0 - done)
        asked += need
        fulfilled += need * done
        present += cars[t]
        bids += bid[t]
        delivered[t] = bid[t] * done
        if not c.forfeit:
            money[0] += p * bid[t] * done
            money[1] -= c.shortfall_factor * p * bid[t] * (1.0 - done)
        elif done >= c.forfeit_share:
            money[0] += p * bid[t] * done
        paid_to = cars[t] if c.population else c.drivers * share[t]
        money[2] -= rebate[t] * paid_to * c.step_h
        certified += p * c.bid_0[k, t]
    money[3] = -certified
    facts[0] = failed / c.periods
    facts[1] = lost * c.step_h
    facts[2] = money[0] + money[1] + money[2]
    facts[3] = least
    facts[4] = present / (c.periods * c.drivers)
    facts[5] = -money[2] / c.drivers
    facts[6] = bids / c.periods
    facts[7] = fulfilled / asked if asked > 0.0 else 1.0


@njit(cache=True)
def step_kernel(c, s, state, action):
    """One day of every row.

    Args:
        c: Constants.
        s: Scenario.
        state: State at the start of the day.
        action: (n, T + 1) in [-1, 1]: rebates, then the bid.

    Returns:
        The fields of the next State, then money (n, 4) in the order of model.REWARD_TERMS [$], facts (n, 8) in the
        order of model.FACTS, and the largest node imbalance of a response.
    """
    n, periods = len(state.t), c.periods
    t_next = state.t.copy()
    habit, rebate, plugged = state.habit.copy(), state.rebate.copy(), state.plugged.copy()
    bid_kw, delivered = state.bid_kw.copy(), state.delivered_kw.copy()
    money, facts = np.zeros((n, 4)), np.zeros((n, 8))
    width, tall = c.tail.shape[1], c.node_price.shape[1]
    flow, slope, utility = np.empty((1, width)), np.empty(width), np.empty(width)
    price, step, trial = np.empty(tall), np.empty(tall), np.empty(tall)
    matrix = np.empty((tall, c.band.max() + 1))
    cars, share, everyone = np.empty(periods), np.empty((1, periods, 1)), np.ones(1)
    count, crowd = np.empty((1, width), np.int64), np.full((1, 1), c.drivers)
    worst = 0.0
    for i in range(n):
        day = state.t[i]
        if day >= c.days:
            continue
        k = s.weekend[i, day] * len(c.plug_shares) + s.plug[i, day]
        for t in range(periods):
            rebate[i, t] = rebate_of(action[i, t], c, t)
            habit[i, t] = (1.0 - c.habit) * habit[i, t] + c.habit * rebate[i, t]
        y = share[0, :, 0]
        worst = max(worst, _respond(c, k, habit[i], price, flow[0], slope, utility, matrix, step, trial, y))
        bid_kw[i] = fraction_of(action[i, periods], c.bid_limit) * allowed_bid(share, everyone, c.coef, c.rigorous)[0]
        if c.population:
            arcs = c.arcs[k]
            tail, head, order = c.tail[k, :arcs], c.head[k, :arcs], c.order[k, :arcs]
            chance = s.chance[i, day : day + 1]
            count_rows(tail, head, order, c.source[k : k + 1], flow, crowd, chance, count)
            cars[:] = 0.0
            for a in range(arcs):
                if c.period[k, a] >= 0:
                    cars[c.period[k, a]] += count[0, a]
        else:
            for t in range(periods):
                cars[t] = binomial(c.drivers, min(y[t], 1.0), s.chance[i, day, t])
        pay, ratio = s.price[i, day], s.ratio[i, day]
        settle_day(c, k, pay, ratio, rebate[i], y, bid_kw[i], cars, money[i], facts[i], delivered[i])
        plugged[i] = cars / c.drivers
        t_next[i] = day + 1
    # a plain tuple: compiled code rebuilds named tuples slowly
    return t_next, habit, rebate, plugged, bid_kw, delivered, money, facts, worst


@njit(cache=True)
def advance_kernel(c, s, state, action, size):
    """step_kernel and observe_kernel in one call: handing over the arguments takes a while."""
    t, habit, rebate, plugged, bid, delivered, money, facts, worst = step_kernel(c, s, state, action)
    observation = observe_kernel(c, s, State(t, habit, rebate, plugged, bid, delivered), size)
    return t, habit, rebate, plugged, bid, delivered, money, facts, worst, observation


@njit(cache=True)
def observe_kernel(c, s, state, size):
    """Observation of every row, (n, size) float32; layout in model.observation_layout."""
    n, periods = len(state.t), c.periods
    out = np.zeros((n, size), np.float32)
    top = max(c.levels[-1], 1e-300)
    for i in range(n):
        day = state.t[i]
        row = out[i]
        if day < c.days:
            for h in range(24):
                log = np.log(max(s.price[i, day, h], 1e-300) / c.mean_price)
                row[h] = min(max(log, -PRICE_LOG), PRICE_LOG) + PRICE_LOG
            row[24] = s.weekend[i, day]
            row[25] = c.plug_shares[s.plug[i, day]] if c.announced else 0.0
        row[26] = day / c.days
        for t in range(periods):
            row[27 + t] = min(state.habit[i, t] / top, 1.0)
            row[27 + periods + t] = state.plugged[i, t]
    return out
