"""Loops of the conditional law of the capacity, compiled by numba; penalty_days.py is the readable entrance."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["draw_capacity", "list_sessions", "place_sessions"]

_FAR = 1 << 30


@njit(cache=True)
def list_sessions(first, second, chosen, shift, offset, arrival_h, stated_h, drop, mix, open_h, step_h, steps,
                  lists):  # fmt: skip
    """Candidate sessions of every row in the order in which the generator goes through them.

    Args:
        first: (n,) base days.
        second: (n,) base days that sessions are added from.
        chosen: (n, S) uniforms that drop or add a session.
        shift: (n,) common shift of the arrivals [h].
        offset: (days + 1,) first session of every base day.
        arrival_h: of the base sessions [h].
        stated_h: of the base sessions [h].
        drop: probability that a session of the first day is left out.
        mix: probability that one of the second is added.
        open_h: start of the horizon [h].
        step_h: length of a step [h].
        steps: T.
        lists: session index, whether from the second day, first step plugged in, stated step (rounded up), kept:
            five arrays (n, S), written.

    Returns:
        (n,) number of candidates.
    """
    base, other, arrive, stated, kept = lists
    count = np.zeros(len(first), np.int64)
    for i in range(len(first)):
        p, p_end = offset[first[i]], offset[first[i] + 1]
        q, q_end = offset[second[i]], offset[second[i] + 1]
        if mix == 0.0:
            q = q_end
        slot = 0
        while p < p_end or q < q_end:
            if q >= q_end or (p < p_end and arrival_h[p] <= arrival_h[q]):
                j, keep = p, chosen[i, slot] >= drop
                other[i, slot] = 0
                p += 1
            else:
                j, keep = q, chosen[i, slot] < mix
                other[i, slot] = 1
                q += 1
            base[i, slot], kept[i, slot] = j, keep
            begin = arrival_h[j] + shift[i]
            arrive[i, slot] = max(0, int(np.ceil((begin - open_h) / step_h - 1e-9)))
            late = np.isnan(stated_h[j])
            stated[i, slot] = steps if late else int(np.ceil((stated_h[j] + shift[i] - open_h) / step_h))
            slot += 1
        count[i] = slot
    return count


@njit(cache=True)
def _leaves(departure_h, shift, open_h, step_h, steps):
    """Step at whose start the bay is empty again."""
    return min(steps, int(np.floor((departure_h + shift - open_h) / step_h + 1e-9)))


@njit(cache=True)
def place_sessions(count, base, arrive, kept, departure_h, shift, bays, open_h, step_h, steps, leave, placed, last):
    """Write departure steps and who gets a bay; ``last`` (n, T): the candidate that takes the last free bay of a step.

    -1 where no bay was free to begin with, a huge number where bays stayed free.
    """
    for i in range(len(count)):
        free_from = np.zeros(bays, np.int64)
        last[i, :] = _FAR
        for k in range(count[i]):
            d = _leaves(departure_h[base[i, k]], shift[i], open_h, step_h, steps)
            leave[i, k] = d
            placed[i, k] = False
            a = arrive[i, k]
            if not kept[i, k] or d <= a:
                continue
            found, free = -1, 0
            for bay in range(bays):
                if free_from[bay] <= a:
                    free += 1
                    if found < 0:
                        found = bay
            if found < 0:
                if last[i, a] == _FAR:
                    last[i, a] = -1
                continue
            placed[i, k] = True
            free_from[found] = d
            if free == 1:
                last[i, a] = k


@njit(cache=True)
def _mix(state):
    """Next state and uniform of splitmix64 (Steele, Lea and Flood 2014)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def _binomials(most, probability):
    """P(k of m) for all k <= m <= most."""
    table = np.zeros((most + 1, most + 1))
    table[0, 0] = 1.0
    for m in range(1, most + 1):
        for k in range(m + 1):
            table[m, k] = table[m - 1, k] * (1.0 - probability)
            if k > 0:
                table[m, k] += table[m - 1, k - 1] * probability
    return table


@njit(cache=True)
def _chance(k, sizes, drops, adds):
    """P(k kept) of sizes[0] sessions of the first day, sizes[1] of the second and sizes[2] certain ones."""
    own, added = sizes[0], sizes[1]
    k -= sizes[2]
    total = 0.0
    for m in range(max(0, k - own), min(added, k) + 1):
        total += drops[own, k - m] * adds[added, m]
    return total


@njit(cache=True)
def _label(t, a, stated, d, window, steps):
    """What has been seen of a session at the start of step t: arrival; stated step once near; departure once told."""
    near = min(t, d - 1) + window
    s = max(stated, 0) if stated <= near else steps + window
    told = d if d <= t + 1 else steps + 1
    return (a * (steps + window + 1) + s) * (steps + 2) + told


@njit(cache=True)
def _kind(k, other, last_of_step):
    """0 first day, 1 second day, 2 certain (it took the last bay), 3 cannot have got a bay."""
    if k > last_of_step:
        return 3
    return 2 if k == last_of_step else other


@njit(cache=True)
def _weigh(t, row, cell_leave, arrive, stated, other, last, count, seen, sizes, touched, window, steps, drops, adds,
           in_view):  # fmt: skip
    """Likelihood of what has been seen of row ``row`` by the start of step t, given the departures of one cell."""
    found = 0
    for k in range(count):
        a, d = arrive[row, k], cell_leave[k]
        if a > t or d <= a:
            continue
        kind = _kind(k, other[row, k], last[row, a])
        if kind == 3:
            continue
        code = _label(t, a, stated[row, k], d, window, steps)
        if sizes[code, 0] + sizes[code, 1] + sizes[code, 2] == 0:
            touched[found] = code
            found += 1
        sizes[code, kind] += 1
    likelihood, covered = 1.0, 0
    for m in range(found):
        code = touched[m]
        if likelihood > 0.0:
            covered += seen[code]
            likelihood *= _chance(seen[code], sizes[code], drops, adds)
        sizes[code] = 0
    return likelihood if covered == in_view else 0.0


@njit(cache=True)
def _look(t, i, arrive, stated, leave, placed, count, seen, by, window, steps):
    """Add ``by`` to the count of every label that row i shows at the start of step t; returns the cars that count."""
    found = 0
    for k in range(count):
        if placed[i, k] and arrive[i, k] <= t:
            seen[_label(t, arrive[i, k], stated[i, k], leave[i, k], window, steps)] += by
            found += 1
    return found


@njit(cache=True)
def _split(t, i, cell_leave, arrive, stated, other, last, count, rest, goes, window, steps):
    """Count the candidates of one cell that stay beyond step t, by group: those who leave after step t + 1, and not."""
    rest[:] = 0
    goes[:] = 0
    for k in range(count):
        a, d = arrive[i, k], cell_leave[k]
        if a > t or d < t + 2:
            continue
        kind = _kind(k, other[i, k], last[i, a])
        if kind < 3:
            group = _label(t, a, stated[i, k], d, window, steps) // (steps + 2)
            if d == t + 2:
                goes[group, kind] += 1
            else:
                rest[group, kind] += 1


@njit(cache=True)
def _draw_leaving(cars, group_of, quota, rest, goes, drops, adds, pmf, state):
    """Energy of the staying cars that are told to leave after the next step, drawn; shuffles ``cars``."""
    energy, begin = 0.0, 0
    while begin < len(cars):
        end, group = begin, group_of[begin]
        while end < len(cars) and group_of[end] == group:
            end += 1
        total, number = 0.0, end - begin
        for m in range(number + 1):
            pmf[m] = _chance(m, goes[group], drops, adds) * _chance(number - m, rest[group], drops, adds)
            total += pmf[m]
        state, v = _mix(state)
        gone, level = 0, pmf[0]
        while level < v * total and gone < number:
            gone += 1
            level += pmf[gone]
        for m in range(gone):  # a uniform subset of the group
            state, v = _mix(state)
            pick = begin + m + int(v * (number - m))
            cars[begin + m], cars[pick] = cars[pick], cars[begin + m]
            energy += quota[cars[begin + m]]
        begin = end
    return energy, state


@njit(cache=True)
def _draw_newcomers(t, arrive, other, cell_leave, count, free, lot, state):
    """Energy that the cars which arrive in step t + 1 and stay beyond it can hold, drawn."""
    drop, mix, _, step_h, _, charger_kw, spread, efficiency, low_kwh, high_kwh = lot
    energy = 0.0
    for k in range(count):
        if arrive[k] != t + 1 or cell_leave[k] <= t + 1:
            continue
        state, v = _mix(state)
        if v >= (mix if other[k] == 1 else 1.0 - drop) or free <= 0:
            continue
        free -= 1
        state, v = _mix(state)
        room, kw = low_kwh + (high_kwh - low_kwh) * v, charger_kw
        if spread > 0.0:
            state, v = _mix(state)
            kw = charger_kw * (1.0 + spread * (2.0 * v - 1.0))
        if cell_leave[k] >= t + 3:
            energy += min(room, efficiency * kw * step_h)
    return energy, state


@njit(cache=True)
def draw_capacity(count, base, other, arrive, stated, leave, placed, last, quota, own, edges, cells, share, departure_h,
                  lot, draws, seed):  # fmt: skip
    """Draws of K_t given everything seen at the start of step t - 1, (n, T, draws) [kWh]; zero in the last step.

    Args:
        count: (n,) number of candidate sessions.
        base: (n, S) session index, as the next five written by list_sessions and place_sessions.
        other: (n, S) whether from the second day.
        arrive: (n, S) first step plugged in.
        stated: (n, S) stated step, rounded up.
        leave: (n, S) step at whose start the bay is empty again.
        placed: (n, S) who got a bay.
        last: (n, T) candidate that took the last bay of a step.
        quota: (n, S) movable energy of the placed sessions [kWh].
        own: (n, T) true K [kWh].
        edges: (n, C + 1) ends of the cells of the departure shift [h].
        cells: (n,) number of cells.
        share: (n, C) probabilities of the cells, up to a factor.
        departure_h: base sessions [h].
        lot: drop, mix, open_h, step_h, bays, charger_kw, spread, efficiency, low_kwh, high_kwh.
        draws: number of draws; the cells are drawn in strata.
        seed: of the draws.
    """
    drop, mix, open_h, step_h, bays = lot[0], lot[1], lot[2], lot[3], lot[4]
    n, steps = last.shape
    window = int(round(3.0 / step_h))
    most = int(count.max())
    drops, adds = _binomials(most, 1.0 - drop), _binomials(most, mix)
    codes, groups = steps * (steps + window + 1) * (steps + 2), steps * (steps + window + 1)
    seen, sizes = np.zeros(codes, np.int64), np.zeros((codes, 3), np.int64)
    touched = np.zeros(most, np.int64)
    rest, goes = np.zeros((groups, 3), np.int64), np.zeros((groups, 3), np.int64)
    stay, stay_group = np.zeros(most, np.int64), np.zeros(most, np.int64)
    pmf = np.zeros(most + 1)
    result = np.zeros((n, steps, draws))
    for i in range(n):
        c_count, size = cells[i], count[i]
        cell_leave = np.zeros((c_count, size), np.int64)
        for c in range(c_count):
            middle = 0.5 * (edges[i, c] + edges[i, c + 1])
            for k in range(size):
                cell_leave[c, k] = _leaves(departure_h[base[i, k]], middle, open_h, step_h, steps)
        weight = share[i, :c_count].copy()
        for t in range(steps - 2):
            state = np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
            state += np.uint64(i * steps + t + 1) * np.uint64(0x2545F4914F6CDD1D)
            in_view = _look(t, i, arrive, stated, leave, placed, size, seen, 1, window, steps)
            total, final = 0.0, -1
            for c in range(c_count):
                if weight[c] > 0.0:  # what has been ruled out stays so
                    weight[c] = share[i, c] * _weigh(t, i, cell_leave[c], arrive, stated, other, last, size, seen,
                                                     sizes, touched, window, steps, drops, adds, in_view)  # fmt: skip
                if weight[c] > 0.0:
                    total, final = total + weight[c], c
            _look(t, i, arrive, stated, leave, placed, size, seen, -1, window, steps)
            if final < 0:  # the true shift lies on an edge, up to rounding
                result[i, t + 1, :] = own[i, t + 1]
                continue
            staying, held = 0, 0.0
            for k in range(size):
                if placed[i, k] and arrive[i, k] <= t and leave[i, k] >= t + 2:
                    stay[staying] = k
                    label = _label(t, arrive[i, k], stated[i, k], leave[i, k], window, steps)
                    stay_group[staying] = label // (steps + 2)
                    held += quota[i, k]
                    staying += 1
            order = np.argsort(stay_group[:staying], kind="mergesort")
            cars, car_group = stay[:staying][order], stay_group[:staying][order]
            state, u = _mix(state)
            c, passed, ready = 0, weight[0] / total, -1
            for r in range(draws):
                while c < final and (weight[c] == 0.0 or passed < (r + u) / draws):
                    c += 1
                    passed += weight[c] / total
                if ready != c:
                    _split(t, i, cell_leave[c], arrive, stated, other, last, size, rest, goes, window, steps)
                    ready = c
                gone, state = _draw_leaving(cars, car_group, quota[i], rest, goes, drops, adds, pmf, state)
                new, state = _draw_newcomers(t, arrive[i], other[i], cell_leave[c], size, bays - staying, lot, state)
                result[i, t + 1, r] = max(held - gone + new, 0.0)
    return result
