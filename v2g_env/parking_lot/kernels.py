"""The lot's physics as loops over rows and sessions, compiled by numba; model.py is the readable entrance.

All functions take and return arrays with a leading batch axis; row i never looks at another row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.core.market import merit_order

__all__ = ["Constants", "State", "advance_kernel", "observe_kernel", "step_kernel"]

Floats = NDArray[np.float64]

_SUMS = {"reassoc", "nsz"}  # sums over cars may be taken in any order, so that they use vector units


class Constants(NamedTuple):
    """Numbers of an instance in the form that the loops want."""

    steps: int
    gate: int
    fill: int  # 0 keep and move in one direction, 1 refill in order, 2 proportional, 3 as the agent asked per bay
    eta: float
    step_h: float
    charger_kw: float
    grid_kw: float
    imbalance: float
    wear: float
    sell: float
    fee: float
    back: float
    buy: Floats
    ratio: Floats
    plan: Floats


class State(NamedTuple):
    """Start of step t, before the agent acts; one row per episode.

    Attributes:
        t: (n,) step that is about to happen; T after the end.
        stored_kwh: (n,) energy stored at the end of the step before.
        closed_kwh: (n,) stored energy fixed at the gate for the end of step t.
        exchange_kw: (n, 4) fixed exchanges of step t: surplus taken, energy returned, retail bought, retail sold.
        bay_kwh: (n, S) what the community has stored in each session's car.
        wish_kwh: (n, S) what the agent wants there at the end of step t; (n, 0) unless it sets every bay.
    """

    t: NDArray[np.int32]
    stored_kwh: Floats
    closed_kwh: Floats
    exchange_kw: Floats
    bay_kwh: Floats
    wish_kwh: Floats


@njit(cache=True, fastmath=_SUMS)
def _dispatch(i, t, c, s, bay_kwh, wish_kwh, closed, target):
    """Move row i's energy in step t, writing bay_kwh; returns moved up, moved down, lost, stored; target is scratch."""
    up, down, lost, stored = 0.0, 0.0, 0.0, 0.0
    sessions = s.sessions[i]
    arrive, depart, quota, limit = s.arrive[i], s.depart[i], s.quota_kwh[i], s.charger_kw[i]
    held = bay_kwh[i]
    share = min(1.0, closed / s.capacity_kwh[i, t]) if s.capacity_kwh[i, t] > 0.0 else 0.0
    # choices instead of jumps: which cars are there is a coin toss to the processor
    for k in range(sessions):
        here = (arrive[k] <= t) & (depart[k] >= t + 2)
        stays = held[k] if here else 0.0
        gone = held[k] - stays  # announced: out with it
        out = min(gone, limit[k] * c.step_h / c.eta)
        down += out
        lost += gone - out
        if c.fill == 1:
            stays = 0.0
        elif c.fill == 2:
            stays = quota[k] * share if here else 0.0
        elif c.fill == 3:
            stays = wish_kwh[i, k] if here else 0.0
        target[k] = stays
        stored += stays
    gap = closed - stored
    for m in range(sessions):
        if abs(gap) <= 1e-12:  # within rounding of a full lot there is no gap to close
            break
        k = s.order[i, m] if gap > 0.0 else s.order[i, sessions - 1 - m]
        if arrive[k] > t or depart[k] < t + 2:
            continue
        if gap > 0.0:
            top = min(quota[k], held[k] + c.eta * limit[k] * c.step_h)
            move = min(gap, max(top - target[k], 0.0))
        else:
            low = max(0.0, held[k] - limit[k] * c.step_h / c.eta)
            move = -min(-gap, max(target[k] - low, 0.0))
        target[k] += move
        gap -= move
    stored = 0.0
    for k in range(sessions):
        after = target[k]
        change = after - held[k] if depart[k] >= t + 2 else 0.0
        stored += after
        up += max(change, 0.0)
        down += max(-change, 0.0)
        held[k] = after
    return up, down, lost, stored


@njit(cache=True)
def _wish(i, t, c, s, bay_kwh, action, wish_kwh):
    """Turn row i's wished bay powers into wished bay energies; returns their sum [kWh]."""
    total = 0.0
    for k in range(s.sessions[i]):
        wish_kwh[i, k] = 0.0
        if s.arrive[i, k] <= t and s.depart[i, k] >= t + 2:
            kw = action[i, s.bay[i, k]] * s.charger_kw[i, k]
            change = c.step_h * (c.eta * kw if kw >= 0.0 else kw / c.eta)
            wish_kwh[i, k] = min(max(bay_kwh[i, k] + change, 0.0), s.cap_kwh[i, k])
            total += wish_kwh[i, k]
    return total


@njit(cache=True)
def _close(i, step, wanted, stored, c, s, exchange_kw):
    """Fix row i's stored energy at the end of ``step`` within the grid limit; writes the exchanges."""
    exchange_kw[i, :] = 0.0
    if step >= c.steps:
        return 0.0
    if step == c.steps - 1:
        wanted = 0.0
    surplus, deficit = s.surplus_kw[i, step], s.deficit_kw[i, step]
    low = max(0.0, stored - c.step_h / c.eta * (deficit + c.grid_kw))
    high = stored + c.eta * c.step_h * (surplus + c.grid_kw)
    closed = min(max(wanted, low), high)
    exchange_kw[i, 0], exchange_kw[i, 1], exchange_kw[i, 2], exchange_kw[i, 3] = merit_order(
        closed - stored, surplus, deficit, c.eta, c.step_h
    )
    return closed


@njit(cache=True)
def _target(action, top, plan):
    """Wished stored energy [kWh]; the plan's own point is always in reach and met exactly despite float32 actions."""
    wanted = 0.5 * (action + 1.0) * max(top, plan)
    return plan if abs(wanted - plan) <= 1e-3 else wanted


@njit(cache=True)
def _excess(closed, capacity, charge_kw, discharge_kw, power_kw, c):
    """Scaled violation f of one step: in units of one charger for one step."""
    energy = (closed - capacity) / (c.charger_kw * c.step_h)
    return max(energy, (max(charge_kw, discharge_kw) - power_kw) / c.charger_kw)


@njit(cache=True)
def step_kernel(c, s, state, action):
    """One step of every row.

    Args:
        c: Constants.
        s: Scenario.
        state: State at the start of the step.
        action: (n, 1) target in [-1, 1], or (n, J) bay powers in [-1, 1] when c.fill is 3.

    Returns:
        The fields of the next State, then money (n, 7) in the order of model.REWARD_TERMS [$], facts (n, 9) in the
        order of model.FACTS.
    """
    n = len(state.t)
    t_next = state.t.copy()
    stored_next = state.stored_kwh.copy()
    closed_next = state.closed_kwh.copy()
    exchange = state.exchange_kw.copy()
    bays = state.bay_kwh.copy()
    wish = state.wish_kwh.copy()
    money = np.zeros((n, 7))
    facts = np.zeros((n, 9))
    target = np.zeros(bays.shape[1])
    for i in range(n):
        t = state.t[i]
        if t >= c.steps:
            continue
        capacity = s.capacity_kwh[i, t]
        before = state.stored_kwh[i]
        if c.gate == 0:
            if c.fill == 3:
                wanted = _wish(i, t, c, s, bays, action, wish)
            else:
                wanted = _target(action[i, 0], capacity, c.plan[t])
            closed_next[i] = _close(i, t, wanted, before, c, s, exchange)
        closed = closed_next[i]
        taken, returned, bought, sold = exchange[i, 0], exchange[i, 1], exchange[i, 2], exchange[i, 3]
        up, down, lost, stored = _dispatch(i, t, c, s, bays, wish, closed, target)
        price = c.buy[t] * c.step_h
        both = min(up, down)
        off = max(abs(closed - stored), abs(closed - stored - lost))
        money[i, 0] = -c.fee * price * taken
        money[i, 1] = c.back * price * returned
        money[i, 2] = -price * bought
        money[i, 3] = c.sell * price * sold
        money[i, 4] = -c.wear * c.step_h * (taken + returned + bought + sold)
        money[i, 5] = -both * (c.buy[t] * (1.0 / c.eta - c.eta) + c.wear * (1.0 / c.eta + c.eta))
        money[i, 6] = -c.imbalance * off
        facts[i, 0] = _excess(closed, capacity, taken + bought, returned + sold, s.power_kw[i, t], c)
        facts[i, 1] = max(closed - stored, 0.0)
        facts[i, 2] = off
        facts[i, 3] = lost
        facts[i, 4] = stored
        facts[i, 5] = closed
        facts[i, 6] = capacity
        facts[i, 7] = up / c.eta
        facts[i, 8] = down * c.eta
        stored_next[i] = stored
        t_next[i] = t + 1
        if c.gate == 1:
            if c.fill == 3:
                wanted = _wish(i, t, c, s, bays, action, wish)
            else:
                wanted = _target(action[i, 0], capacity * c.ratio[t], c.plan[min(t + 1, c.steps - 1)])
            closed_next[i] = _close(i, t + 1, wanted, stored, c, s, exchange)
        else:
            closed_next[i] = 0.0
            exchange[i, :] = 0.0
    # a plain tuple: compiled code rebuilds named tuples slowly
    return t_next, stored_next, closed_next, exchange, bays, wish, money, facts


@njit(cache=True)
def advance_kernel(c, s, state, action, high, per_bay):
    """step_kernel and observe_kernel in one call: handing over the arguments costs more than one row's physics."""
    t, stored, closed, exchange, bays, wish, money, facts = step_kernel(c, s, state, action)
    observation = observe_kernel(c, s, State(t, stored, closed, exchange, bays, wish), high, per_bay)
    return t, stored, closed, exchange, bays, wish, money, facts, observation


@njit(cache=True, fastmath=_SUMS)
def _see_sessions(i, t, c, s, row, f):
    """Capacity of the cars that leave, are new, have been there for long, and by stated hours left; writes row."""
    arrive, depart, quota, stated = s.arrive[i], s.depart[i], s.quota_kwh[i], s.stated[i]
    leaving, arrived, long, one, two, three, more = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(s.sessions[i]):
        here = (arrive[k] <= t) & (depart[k] > t)
        mine = quota[k] if here else 0.0
        stays = mine if depart[k] >= t + 2 else 0.0
        left = (stated[k] - t) * c.step_h
        leaving += mine - stays
        arrived += stays if arrive[k] == t else 0.0
        long += stays if (t - arrive[k]) * c.step_h >= 6.0 else 0.0
        one += stays if left <= 1.0 else 0.0
        two += stays if (left > 1.0) & (left <= 2.0) else 0.0
        three += stays if (left > 2.0) & (left <= 3.0) else 0.0
        more += stays if left > 3.0 else 0.0
    energy = 1.0 / 200.0
    row[f + 8], row[f + 9], row[f + 10] = leaving * energy, arrived * energy, long * energy
    row[f + 11], row[f + 12], row[f + 13], row[f + 14] = one * energy, two * energy, three * energy, more * energy


@njit(cache=True)
def _see_bays(i, t, c, s, bay_kwh, row, g):
    """Six numbers of every taken bay: present, cap, stored, parked, stated time left, announced; writes row."""
    for k in range(s.sessions[i]):
        if s.arrive[i, k] <= t and s.depart[i, k] > t:
            h = g + 6 * s.bay[i, k]
            row[h] = 1.0
            row[h + 1] = s.cap_kwh[i, k] / 10.0
            row[h + 2] = bay_kwh[i, k] / 10.0
            row[h + 3] = (t - s.arrive[i, k]) * c.step_h / 10.0
            row[h + 4] = max((s.stated[i, k] - t) * c.step_h, 0.0) / 10.0
            row[h + 5] = 1.0 if s.depart[i, k] == t + 1 else 0.0


@njit(cache=True)
def observe_kernel(c, s, state, high, per_bay):
    """Observation of every row, float32, clipped to [0, high]; layout in model.observation_layout."""
    n = len(state.t)
    out = np.zeros((n, len(high)), np.float32)
    energy = 1.0 / 200.0
    for i in range(n):
        t = state.t[i]
        if t >= c.steps:
            continue
        row = out[i]
        row[t] = 1.0
        f = c.steps
        capacity = s.capacity_kwh[i, t]
        # what will be stored at the end of this step is known: capacity has been announced, the gate is closed
        ahead = state.stored_kwh[i] if c.gate == 0 else min(state.closed_kwh[i], capacity)
        row[f] = state.stored_kwh[i] * energy
        row[f + 1] = ahead * energy
        row[f + 2] = capacity * energy
        row[f + 3] = s.capacity_kwh[i, t - 1] * energy if t >= 1 else 0.0
        row[f + 4] = s.capacity_kwh[i, t - 2] * energy if t >= 2 else 0.0
        row[f + 5] = max(capacity - ahead, 0.0) * energy
        row[f + 6] = min(ahead / capacity, 1.0) if capacity > 0.0 else 0.0
        row[f + 7] = s.power_kw[i, t] / 200.0
        offer = t + c.gate
        _see_sessions(i, t, c, s, row, f)
        if per_bay:
            _see_bays(i, t, c, s, state.bay_kwh, row, f + 22)
        row[f + 15] = s.surplus_kw[i, offer] / 200.0
        row[f + 16] = s.deficit_kw[i, offer] / 200.0
        row[f + 17] = s.pv_factor[i, offer]
        row[f + 18] = s.load_factor[i, offer]
        row[f + 19] = c.buy[t]
        row[f + 20] = c.buy[t + 1] if t + 1 < c.steps else 0.0
        row[f + 21] = c.plan[offer] * energy if offer < c.steps else 0.0
        for m in range(len(high)):
            row[m] = min(row[m], high[m])
    return out
