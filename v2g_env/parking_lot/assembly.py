"""Loops that turn noise into sessions and offers, compiled by numba; scenario.py is the readable entrance."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["assemble", "net_offers"]


@njit(cache=True)
def net_offers(pv, load, pv_kw, load_kw):
    """Surplus, deficit and the two factors with a column of zeros at the end."""
    n, steps = pv.shape
    out = np.zeros((4, n, steps + 1))
    for i in range(n):
        for t in range(steps):
            net = pv[i, t] * pv_kw[t] - load[i, t] * load_kw[t]
            out[0, i, t] = max(net, 0.0)
            out[1, i, t] = max(-net, 0.0)
            out[2, i, t] = pv[i, t]
            out[3, i, t] = load[i, t]
    return out[0], out[1], out[2], out[3]


@njit(cache=True)
def _free_bay(free_from, step):
    """First bay that is empty at the step, -1 if there is none."""
    for bay in range(len(free_from)):
        if free_from[bay] <= step:
            return bay
    return -1


@njit(cache=True)
def _rank(key, count, ranks):
    """Write the order of the first ``count`` keys; insertion sort for short lists, ties stay as they are."""
    for m in range(count):
        place, mine = m, key[m]
        while place > 0 and key[ranks[place - 1]] > mine:
            ranks[place] = ranks[place - 1]
            place -= 1
        ranks[place] = m


@njit(cache=True)
def assemble(
    first,
    second,
    uniforms,
    arrival_shift,
    departure_shift,
    offset,
    arrival_h,
    departure_h,
    stated_h,
    energy_kwh,
    slots,
    drop,
    mix,
    open_h,
    step_h,
    steps,
    bays,
    charger_kw,
    spread,
    efficiency,
    low_kwh,
    high_kwh,
    own_charging,
    by_laxity,
):
    """Merge, shift, clip and place the sessions of each row; loops compiled by numba."""
    n = len(first)
    count = np.zeros(n, np.int32)
    arrive = np.zeros((n, slots), np.int32)
    depart = np.zeros((n, slots), np.int32)
    stated = np.zeros((n, slots))
    quota = np.zeros((n, slots))
    cap = np.zeros((n, slots))
    limit = np.zeros((n, slots))
    bay = np.zeros((n, slots), np.int32)
    order = np.zeros((n, slots), np.int32)
    capacity = np.zeros((n, steps + 1))
    full = np.zeros((n, steps + 1))
    power = np.zeros((n, steps + 1))
    turned_away = np.zeros(n, np.int32)
    key = np.zeros(slots)
    free_from = np.zeros(bays, np.int32)
    for i in range(n):
        free_from[:] = 0
        p, p_end = offset[first[i]], offset[first[i] + 1]
        q, q_end = offset[second[i]], offset[second[i] + 1]
        if mix == 0.0:
            q = q_end
        chosen, caps, limits = uniforms[i, 2:], uniforms[i, 2 + slots :], uniforms[i, 2 + 2 * slots :]
        day_power, day_capacity, day_full = power[i], capacity[i], full[i]
        slot, k = 0, 0
        while p < p_end or q < q_end:
            if q >= q_end or (p < p_end and arrival_h[p] <= arrival_h[q]):
                j, keep = p, chosen[slot] >= drop
                p += 1
            else:
                j, keep = q, chosen[slot] < mix
                q += 1
            u_cap = caps[slot]
            u_limit = limits[slot] if spread > 0.0 else 0.5
            slot += 1
            if not keep:
                continue
            kw = charger_kw * (1.0 + spread * (2.0 * u_limit - 1.0))
            begin = arrival_h[j] + arrival_shift[i]
            a = max(0, int(np.ceil((begin - open_h) / step_h - 1e-9)))
            d = min(steps, int(np.floor((departure_h[j] + departure_shift[i] - open_h) / step_h + 1e-9)))
            if d <= a:
                continue
            place = _free_bay(free_from, a)
            if place < 0:
                turned_away[i] += 1
                continue
            free_from[place] = d
            if own_charging:  # in its bay, but no storage before its own charging is over
                a = max(a, int(np.ceil((begin + energy_kwh[j] / kw - open_h) / step_h - 1e-9)))
                if d <= a:
                    continue
            arrive[i, k], depart[i, k], bay[i, k] = a, d, place
            # a driver who states nothing is taken to stay to the end
            stated[i, k] = steps if np.isnan(stated_h[j]) else (stated_h[j] + arrival_shift[i] - open_h) / step_h
            room = low_kwh + (high_kwh - low_kwh) * u_cap
            movable = min(room, efficiency * kw * step_h)
            cap[i, k], limit[i, k], quota[i, k] = room, kw, movable
            key[k] = -stated[i, k] + by_laxity * movable * efficiency / (kw * step_h)
            for t in range(a, d - 1):
                day_power[t] += kw
                day_capacity[t] += movable
                day_full[t] += room
            day_power[d - 1] += kw
            k += 1
        count[i] = k
        _rank(key, k, order[i])
    return count, arrive, depart, stated, quota, cap, limit, bay, order, capacity, full, power, turned_away
