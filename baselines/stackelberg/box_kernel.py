"""Best rebates in a box and a proven bound on it, in compiled code (floats; the certificate's check is rigorous).

Hidden convexity. Along responses, sum_t s_t y_t is a function of the flows alone, so dualising flow conservation (pi)
and lam_a(y_a) = mu_a + s_a - (B' rho)_a (theta = -N x, x a unit flow because rho is free) separates the leader's
problem into one function psi_a per arc. At the response to any rebates this dual point gives the bound

    F(s) + sum_v max_{l <= z <= u} g_v (z - s_v) + sum_a [max_{y in range_a} psi_a(y) - psi_a(y_a)],   g = dF/ds.

The last sum vanishes where psi_a is concave, which it is (up to the payment's small curvature) for 0 <= x_a <= 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from baselines.stackelberg.program import hessian, objective, revenue_value
from v2g_env.stackelberg.bids import largest_bid, spread
from v2g_env.stackelberg.follower import assemble_laplacian, factor_band, solve_band

__all__ = ["bound_box", "maximise_box", "narrow", "safe_kappa", "separate", "tidy"]

_SAMPLES = 48
_STRAY = 2e-3  # shares of drivers that ``tidy`` leads around


@njit(cache=True)
def cholesky_shifted(matrix, size, shift, factor):
    """Cholesky factor of matrix + shift I in the leading block; False if it is not positive definite."""
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j] + (shift if i == j else 0.0)
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                factor[i, i] = np.sqrt(total)
            else:
                factor[i, j] = total / factor[j, j]
    return True


@njit(cache=True)
def ascent(second, gradient, free, count, step):
    """Newton direction on the free variables, shifted until the model is concave."""
    index = np.flatnonzero(free)
    size = len(index)
    step[:] = 0.0
    if size == 0:
        return
    block, factor = np.empty((size, size)), np.empty((size, size))
    top = 0.0
    for i in range(size):
        for j in range(size):
            block[i, j] = -second[index[i], index[j]]
        top = max(top, abs(block[i, i]))
    shift = 0.0
    while not cholesky_shifted(block, size, shift, factor):
        shift = max(4.0 * shift, 1e-3 * top + 1e-12)
    work = np.empty(size)
    for i in range(size):
        total = gradient[index[i]]
        for k in range(i):
            total -= factor[i, k] * work[k]
        work[i] = total / factor[i, i]
    for i in range(size - 1, -1, -1):
        total = work[i]
        for k in range(i + 1, size):
            total -= factor[k, i] * work[k]
        work[i] = total / factor[i, i]
    for i in range(size):
        step[index[i]] = work[i]


@njit(cache=True)
def spread_rebates(program, variable, values, rebate):
    """Rebates of the arcs from the variables' values."""
    for a in range(len(variable)):
        rebate[a] = values[variable[a]] if variable[a] >= 0 else 0.0


@njit(cache=True)
def slopes(program, variable, flow, drift, gradient):
    """dF/ds of the variables."""
    net = program.profit * program.drivers - program.alpha
    gradient[:] = 0.0
    for a in range(len(variable)):
        if variable[a] >= 0:
            gradient[variable[a]] -= program.weight[a] * net * (flow[a] + drift[a])


@njit(cache=True)
def maximise_box(program, variable, low, high, values, price, work, second, cutoff, tolerance, limit):
    """Local maximum of F over the box from ``values``, by projected Newton steps; the dual bound ends it early.

    ``work`` (6, A) takes flow, dy/dlam, R', x - y and rebates (the last row is for ``tidy``); ``second`` (V, V) the
    Hessian at the last but one point. Returns (F, profit, the bound's linear part).
    """
    count, nodes = len(low), program.nodes
    flow, slope, gain, drift, rebate = work[0], work[1], work[2], work[3], work[4]
    matrix, step, trial = np.empty((nodes, program.band + 1)), np.empty(nodes), np.empty(nodes)
    gradient, move, other = np.empty(count), np.empty(count), np.empty(count)
    free = np.empty(count, np.bool_)
    start = np.empty(nodes)
    spread_rebates(program, variable, values, rebate)
    value, profit, _ = objective(program, rebate, price, flow, slope, gain, drift, matrix, step, trial)
    linear = np.inf
    for _ in range(limit):
        slopes(program, variable, flow, drift, gradient)
        linear = 0.0
        for v in range(count):
            g = gradient[v]
            linear += max(g * (high[v] - values[v]), g * (low[v] - values[v]))
            free[v] = not ((values[v] <= low[v] and g <= 0.0) or (values[v] >= high[v] and g >= 0.0))
        if linear <= tolerance or value + linear <= cutoff:
            break
        hessian(program, rebate, price, flow, slope, drift, matrix, variable, count, step, second)
        ascent(second, gradient, free, count, move)
        start[:] = price
        size = 1.0
        accepted = False
        while size > 1e-8:
            expected = 0.0
            for v in range(count):
                other[v] = min(max(values[v] + size * move[v], low[v]), high[v])
                expected += gradient[v] * (other[v] - values[v])
            spread_rebates(program, variable, other, rebate)
            now, profit_now, _ = objective(program, rebate, price, flow, slope, gain, drift, matrix, step, trial)
            if now >= value + 1e-4 * expected - 1e-13 * abs(value):
                accepted = True
                break
            price[:] = start
            size *= 0.4
        if not accepted:
            spread_rebates(program, variable, values, rebate)
            value, profit, _ = objective(program, rebate, price, flow, slope, gain, drift, matrix, step, trial)
            break
        stalled = now - value <= 1e-14 * abs(value) and expected <= 1e-13 * abs(value)
        value, profit = now, profit_now
        values[:] = other
        if stalled:
            slopes(program, variable, flow, drift, gradient)
            linear = 0.0
            for v in range(count):
                linear += max(gradient[v] * (high[v] - values[v]), gradient[v] * (low[v] - values[v]))
            break
    return value, profit, linear


@njit(cache=True)
def tidy(program, work):
    """Put the dual flow x = y + drift into ``work[5]``, led around arcs without charger where it leaves [0, 1].

    Such arcs are rarely used ones; without this they alone would ask for a kappa that costs everywhere.
    """
    flow, slope, drift, x = work[0], work[1], work[3], work[5]
    arcs = len(flow)
    x[:] = flow + drift
    weight, need = np.empty(arcs), np.zeros(arcs)
    bad = 0
    for a in range(arcs):
        weight[a] = slope[a] if program.period[a] < 0 else 1e-13
        if program.period[a] < 0 and (x[a] < 0.0 or x[a] > 1.0):
            miss = -x[a] if x[a] < 0.0 else 1.0 - x[a]
            if abs(miss) < _STRAY:
                need[a] = 1.001 * miss
                weight[a] = 1e-13
                bad += 1
    if bad == 0:
        return
    matrix, step = np.empty((program.nodes, program.band + 1)), np.zeros(program.nodes)
    assemble_laplacian(program.tail, program.head, weight, matrix)
    for node in range(program.nodes):
        matrix[node, 0] += 1e-13
    factor_band(matrix, program.nodes, program.band)
    for a in range(arcs):
        step[program.tail[a]] += need[a]
        if program.head[a] >= 0:
            step[program.head[a]] -= need[a]
    solve_band(matrix, step, program.nodes, program.band)
    for a in range(arcs):
        ahead = step[program.head[a]] if program.head[a] >= 0 else 0.0
        change = need[a] - weight[a] * (step[program.tail[a]] - ahead)
        if not abs(change) < 2.0 * _STRAY:
            x[:] = flow + drift
            return
        x[a] += change


@njit(cache=True)
def safe_kappa(program, work):
    """Least kappa >= 0 with 0 <= N x_a + kappa y_a <= N + kappa on every arc: all psi_a are then bounded."""
    net = program.profit * program.drivers - program.alpha
    flow, x = work[0], work[5]
    least = 0.0
    for a in range(len(flow)):
        over = (x[a] - 1.0) / max(1.0 - flow[a], 1e-12)
        least = max(least, -x[a] / flow[a], over)
    return net * least * 1.000001 + (1e-9 * net if least > 0.0 else 0.0)


@njit(cache=True)
def deviation_below(y, part, chord, rigorous, forward):
    """Part x sqrt(q(y / part)) up to chord x part and its chord to (part, 0) beyond: concave in y, never above."""
    z = y / part
    if z <= chord:
        return part * np.sqrt(spread(z, rigorous, forward)[0])
    return part * np.sqrt(spread(chord, rigorous, forward)[0]) * (1.0 - z) / (1.0 - chord)


@njit(cache=True)
def psi(program, a, angle, row, straight, bend, forward):
    """psi_a at y = (1 + sin angle) / 2 up to a constant; ``row`` as in ``separate``, the payment's bound last."""
    net = program.profit * program.drivers - program.alpha
    y = 0.5 * (1.0 + np.sin(angle))
    lam = program.deviation[a] * np.tan(angle)
    x, linear, flow, here, kappa, down, up, push, part, chord = row
    value = program.alpha * program.deviation[a] * 0.5 * np.cos(angle) + linear * y + net * (x - y) * lam
    value -= kappa * (lam - here) * (y - flow)
    value *= program.weight[a]
    if program.period[a] >= 0:
        pull = push + kappa * program.weight[a] * (y - flow)
        value += max(down * pull, up * pull) + straight * y
        if bend > 0.0:
            value -= bend * deviation_below(y, part, chord, program.rigorous, forward)
    return value


@njit(cache=True)
def peak(program, a, row, straight, bend, forward, low, high):
    """Largest psi_a over a range of angles."""
    best, at = -np.inf, low
    width = (high - low) / _SAMPLES
    for m in range(_SAMPLES + 1):
        value = psi(program, a, low + m * width, row, straight, bend, forward)
        if value > best:
            best, at = value, low + m * width
    left, right = max(low, at - width), min(high, at + width)
    ratio = 0.6180339887498949
    p, q = right - ratio * (right - left), left + ratio * (right - left)
    fp = psi(program, a, p, row, straight, bend, forward)
    fq = psi(program, a, q, row, straight, bend, forward)
    for _ in range(24):
        if fp > fq:
            right, q, fq = q, p, fp
            p = right - ratio * (right - left)
            fp = psi(program, a, p, row, straight, bend, forward)
        else:
            left, p, fp = p, q, fq
            q = left + ratio * (right - left)
            fq = psi(program, a, q, row, straight, bend, forward)
    best = max(best, fp, fq)
    at = np.arctan(row[3] / program.deviation[a])
    if low <= at <= high:
        best = max(best, psi(program, a, at, row, straight, bend, forward))
    return best


@njit(cache=True)
def unit_vector(square, other, straight):
    """Direction in which sqrt(square + other) is linearised; hyperbolic for a negative ``other``.

    Where that bid, sqrt(square + other) - |straight|, would be negative any direction is valid, but a steep
    one bounds badly elsewhere.
    """
    if other >= 0.0:
        root = np.sqrt(square + other)
        return np.sqrt(square) / root, np.sqrt(other) / root
    edge = square - straight * straight
    cross = -other if -other < edge else min(edge, 0.9 * square)
    root = np.sqrt(square - cross)
    return np.sqrt(square) / root, np.sqrt(cross) / root


@njit(cache=True)
def part_of(program, t, a, flow, plugged):
    """Share of arc ``a`` in its class's plugged drivers: positive, in units of 2^-40, summing up to 1 exactly."""
    unit = 2.0**-40
    others, largest = 0.0, -1
    for b in program.member[t]:
        if b >= 0 and program.group[b] == program.group[a] and (largest < 0 or flow[b] > flow[largest]):
            largest = b
    if a != largest:
        return max(np.round(flow[a] / plugged / unit), 1.0) * unit
    for b in program.member[t]:
        if b >= 0 and program.group[b] == program.group[a] and b != largest:
            others += max(np.round(flow[b] / plugged / unit), 1.0) * unit
    return 1.0 - others


@njit(cache=True)
def separate(program, work, price, variable, low, high, kappa, rows, bends):
    """The dual point of a response, arc by arc.

    ``rows`` (A, 10): x, coefficient of y, flow, lam, kappa, l - s, u - s, the arc's part of dF/ds, its part of the
    class's plugged drivers in the period, start of the chord. ``bends`` (A, 2, 2): for both conditions of the binding
    requirement the payment is at most the sum over the period's arcs of bends[.., 0] y - bends[.., 1] sqrt(q(y)):
    C = a A - |(sqrt(b) A, sqrt(c Q))|, the norm and Q bounded by Cauchy's inequality, equal at the response (for
    negative a, c by the reversed inequality for sqrt(b A^2 - |c| Q)).

    The arcs of a variable may carry different rebates (a dual point needs no feasible response): all of them then get
    the mean of their slopes, and the constant that this takes is returned.
    """
    net = program.profit * program.drivers - program.alpha
    flow, slope, gain, drift = work[0], work[1], work[2], work[3]
    gradient, members = np.zeros(len(low)), np.zeros(len(low))
    slopes(program, variable, flow, drift, gradient)
    constant = 0.0
    for a in range(len(variable)):
        if variable[a] >= 0:
            members[variable[a]] += 1.0
    for a in range(len(program.tail)):
        lam = (
            program.mean[a]
            + work[4, a]
            - price[program.tail[a]]
            + (price[program.head[a]] if program.head[a] >= 0 else 0.0)
        )
        v = variable[a]
        rows[a, 0], rows[a, 2], rows[a, 3], rows[a, 4] = work[5, a], flow[a], lam, kappa
        rows[a, 1] = (
            (program.alpha + net) * lam - net * drift[a] / slope[a] - program.profit * gain[a] / program.weight[a]
        )
        rows[a, 5] = low[v] - work[4, a] if v >= 0 else 0.0
        rows[a, 6] = high[v] - work[4, a] if v >= 0 else 0.0
        rows[a, 7] = gradient[v] / members[v] if v >= 0 else 0.0
        rows[a, 8], rows[a, 9] = 1.0, 1.0
        if v >= 0:
            constant += (program.weight[a] * net * rows[a, 0] + rows[a, 7]) * work[4, a]
    classes = len(program.share)
    plugged, arcs_of_class = np.empty(classes), np.empty(classes)
    for t in range(len(program.price)):
        plugged[:] = 0.0
        arcs_of_class[:] = 0.0
        for a in program.member[t]:
            if a >= 0:
                plugged[program.group[a]] += flow[a]
                arcs_of_class[program.group[a]] += 1.0
        total, back, ahead = 0.0, 0.0, 0.0
        for k in range(classes):
            total += program.share[k] * plugged[k]
            back += program.share[k] * spread(plugged[k], program.rigorous, False)[0]
            ahead += program.share[k] * spread(plugged[k], program.rigorous, True)[0]
        _, j, _ = largest_bid(total, back, ahead, program.coef)
        for a in program.member[t]:
            if a < 0:
                continue
            k = program.group[a]
            if arcs_of_class[k] > 1.0:
                rows[a, 8], rows[a, 9] = part_of(program, t, a, flow, plugged[k]), 0.5 * (1.0 + plugged[k])
            for i in range(2):
                c0, c1, c2 = program.coef[j, i]
                bends[a, i] = 0.0
                if c0 != 0.0 and total > 0.0:
                    q = back if i == 0 else ahead
                    long, cross = unit_vector(c1 * total * total, c2 * q, c0 * total)
                    pay = program.profit * program.price[t] * program.share[k]
                    part = np.sqrt(spread(plugged[k], program.rigorous, i == 1)[0] / q) if q > 0.0 else 0.0
                    bends[a, i, 0] = pay * (c0 - np.sign(c0) * np.sqrt(c1) * long)
                    bends[a, i, 1] = pay * np.sqrt(abs(c2)) * cross * part
    return constant


@njit(cache=True)
def bound_box(program, work, rows, bends, ranges, peaks, excess):
    """What the dual bound of the box adds to F at the response, flows within ``ranges`` (A, 2) of angles.

    Leaves the largest psi_a per arc and branch (both conditions, no bid) in ``peaks`` (A, 3) and what each period adds
    in ``excess`` (T,).
    """
    total = 0.0
    for t in range(len(program.price)):
        here = 0.0
        for a in program.member[t]:
            if a >= 0:
                angle = np.arctan(rows[a, 3] / program.deviation[a])
                steady = rows[a, 5] * rows[a, 7], rows[a, 6] * rows[a, 7]
                here += psi(program, a, angle, rows[a], 0.0, 0.0, False) - max(steady[0], steady[1])
        paid = program.profit * revenue_value(program, t, work[0])
        best = -np.inf
        for i in range(3):
            value = 0.0
            for a in program.member[t]:
                if a >= 0:
                    straight = bends[a, i, 0] if i < 2 else 0.0
                    bend = bends[a, i, 1] if i < 2 else 0.0
                    peaks[a, i] = peak(program, a, rows[a], straight, bend, i == 1, ranges[a, 0], ranges[a, 1])
                    value += peaks[a, i]
            best = max(best, value)
        excess[t] = best - here - paid
        total += excess[t]
    net = program.profit * program.drivers - program.alpha
    for a in range(len(program.tail)):
        if program.period[a] >= 0:
            continue
        x, flow, kappa = rows[a, 0], rows[a, 2], rows[a, 4]
        mixed = net * x + kappa * flow
        angle = np.arctan(rows[a, 3] / program.deviation[a])
        inside = psi(program, a, angle, rows[a], 0.0, 0.0, False)
        peaks[a, 0] = inside
        if mixed < 0.0 or mixed > net + kappa:
            peaks[a, 0] = peak(program, a, rows[a], 0.0, 0.0, False, ranges[a, 0], ranges[a, 1])
        else:  # what ``tidy`` moved shifts the maximum a little
            moved = work[5, a] - work[0, a] - work[3, a]
            peaks[a, 0] += 0.5 * program.weight[a] * net * moved * moved / work[1, a]
        total += peaks[a, 0] - inside
    return total


@njit(cache=True)
def narrow(program, rows, bends, peaks, slack, ranges):
    """Shrink ``ranges`` to the flows that a choice may have whose objective is within ``slack`` of the bound."""
    for t in range(len(program.price)):
        sums = np.zeros(3)
        for a in program.member[t]:
            if a >= 0:
                sums += peaks[a]
        top = sums.max()
        for a in program.member[t]:
            if a < 0:
                continue
            low, high = ranges[a, 0], ranges[a, 1]
            width = (high - low) / _SAMPLES
            first, last = -1, -1
            for m in range(_SAMPLES + 1):
                for i in range(3):
                    straight = bends[a, i, 0] if i < 2 else 0.0
                    bend = bends[a, i, 1] if i < 2 else 0.0
                    value = psi(program, a, low + m * width, rows[a], straight, bend, i == 1)
                    if value + sums[i] - peaks[a, i] >= top - slack:
                        first = m if first < 0 else first
                        last = m
            if first > 0:
                ranges[a, 0] = low + (first - 1) * width
            if 0 <= last < _SAMPLES:
                ranges[a, 1] = low + (last + 1) * width
    for a in range(len(program.tail)):
        if program.period[a] >= 0:
            continue
        low, high = ranges[a, 0], ranges[a, 1]
        width = (high - low) / _SAMPLES
        first, last = -1, -1
        for m in range(_SAMPLES + 1):
            if psi(program, a, low + m * width, rows[a], 0.0, 0.0, False) >= peaks[a, 0] - slack:
                first = m if first < 0 else first
                last = m
        if first > 0:
            ranges[a, 0] = low + (first - 1) * width
        if 0 <= last < _SAMPLES:
            ranges[a, 1] = low + (last + 1) * width
