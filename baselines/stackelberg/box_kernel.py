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

from baselines.stackelberg.program import hessian, objective
from v2g_env.stackelberg.bids import spread

__all__ = ["bound_box", "dual_point", "maximise_box", "narrow"]

_SAMPLES = 48


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

    ``work`` (5, A) takes flow, dy/dlam, R', x - y and rebates; ``second`` (V, V) the Hessian at the last but one
    point. Returns (F, profit, the bound's linear part).
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
def pay(program, a, y):
    """Payments of all branches for a period with the one arc ``a``: (largest over conditions, least over rows)."""
    k = program.group[a]
    share, price = program.share[k], program.price[program.period[a]]
    best = np.inf
    for j in range(program.coef.shape[0]):
        value = 0.0
        for i in range(2):
            c0, c1, c2 = program.coef[j, i]
            if c0 > 0.0:
                q = spread(y, program.rigorous, i == 1)[0]
                value = max(value, c0 * share * y - np.sqrt(c1 * share * share * y * y + c2 * share * q))
        best = min(best, value)
    return price * best


@njit(cache=True)
def psi(program, a, angle, point):
    """psi_a at y = (1 + sin angle) / 2, up to a constant; ``point`` is the arc's row of the dual point."""
    net = program.profit * program.drivers - program.alpha
    y = 0.5 * (1.0 + np.sin(angle))
    lam = program.deviation[a] * np.tan(angle)
    x, linear, flow, here, kappa, down, up, part = point
    value = program.alpha * program.deviation[a] * 0.5 * np.cos(angle) + linear * y + net * (x - y) * lam
    value -= kappa * (lam - here) * (y - flow)
    value *= program.weight[a]
    if program.period[a] >= 0:
        push = part + kappa * program.weight[a] * (y - flow)  # dF/ds of the dual point, as far as the arc's share goes
        value += program.profit * pay(program, a, y) + max(down * push, up * push)
    return value


@njit(cache=True)
def dual_point(program, work, price, variable, low, high, values, points):
    """Rows (x, linear, flow, lam, kappa, l - s, u - s, share of dF/ds) of all arcs; returns the least safe kappa.

    Two responses y, y' to s, s' satisfy sum_a (lam_a - lam'_a)(y_a - y'_a) = sum_t (s_t - s'_t)(y_t - y'_t), so kappa
    times the difference may be added; psi_a then behaves as if x_a were (N x_a + kappa y_a) / (N + kappa).
    """
    net = program.profit * program.drivers - program.alpha
    flow, slope, gain, drift, rebate = work[0], work[1], work[2], work[3], work[4]
    least = 0.0
    gradient, members = np.zeros(len(low)), np.zeros(len(low))
    slopes(program, variable, flow, drift, gradient)
    for a in range(len(program.tail)):
        if variable[a] >= 0:
            members[variable[a]] += 1.0
    for a in range(len(program.tail)):
        lam = (
            program.mean[a]
            + rebate[a]
            - price[program.tail[a]]
            + (price[program.head[a]] if program.head[a] >= 0 else 0.0)
        )
        x = flow[a] + drift[a]
        points[a, 0] = x
        points[a, 1] = (
            (program.alpha + net) * lam - net * drift[a] / slope[a] - program.profit * gain[a] / program.weight[a]
        )
        points[a, 2], points[a, 3], points[a, 4] = flow[a], lam, 0.0
        v = variable[a]
        points[a, 5] = low[v] - values[v] if v >= 0 else 0.0
        points[a, 6] = high[v] - values[v] if v >= 0 else 0.0
        points[a, 7] = gradient[v] / members[v] if v >= 0 else 0.0
        least = max(least, -x / flow[a], (x - 1.0) / max(1.0 - flow[a], 1e-12))
    return least * net


@njit(cache=True)
def peak(program, a, point, low, high, inside):
    """Largest psi_a over the range of angles, given the value ``inside`` at the response."""
    best, at = -np.inf, low
    width = (high - low) / _SAMPLES
    for m in range(_SAMPLES + 1):
        angle = low + m * width
        value = psi(program, a, angle, point)
        if value > best:
            best, at = value, angle
    left, right = max(low, at - width), min(high, at + width)
    ratio = 0.6180339887498949
    p, q = right - ratio * (right - left), left + ratio * (right - left)
    fp, fq = psi(program, a, p, point), psi(program, a, q, point)
    for _ in range(20):
        if fp > fq:
            right, q, fq = q, p, fp
            p = right - ratio * (right - left)
            fp = psi(program, a, p, point)
        else:
            left, p, fp = p, q, fq
            q = left + ratio * (right - left)
            fq = psi(program, a, q, point)
    return max(best, fp, fq, inside)


@njit(cache=True)
def bound_box(program, points, kappa, ranges, excess):
    """What the dual bound adds to F: max psi_a over the ranges (A, 2) of angles minus psi_a at the response, per arc."""
    net = program.profit * program.drivers - program.alpha
    total = 0.0
    for a in range(len(program.tail)):
        points[a, 4] = kappa
        point = points[a]
        mixed = (net * point[0] + kappa * point[2]) / (net + kappa)
        angle = np.arctan(point[3] / program.deviation[a])
        inside = psi(program, a, angle, point)
        linear = max(point[5] * point[7], point[6] * point[7])
        excess[a] = linear
        if program.period[a] >= 0 or mixed < 0.0 or mixed > 1.0:
            within = ranges[a, 0] <= angle <= ranges[a, 1]
            top = peak(program, a, point, ranges[a, 0], ranges[a, 1], inside if within else -np.inf)
            excess[a] = top - inside + linear
        elif angle < ranges[a, 0]:
            excess[a] = psi(program, a, ranges[a, 0], point) - inside
        elif angle > ranges[a, 1]:
            excess[a] = psi(program, a, ranges[a, 1], point) - inside
        total += excess[a]
    return total


@njit(cache=True)
def narrow(program, points, ranges, excess, slack):
    """Shrink the ranges to where psi_a is within ``slack`` of its maximum (the dual point's bound minus a value)."""
    for a in range(len(program.tail)):
        point = points[a]
        inside = psi(program, a, np.arctan(point[3] / program.deviation[a]), point)
        floor = inside + excess[a] - max(point[5] * point[7], point[6] * point[7]) - slack
        low, high = ranges[a, 0], ranges[a, 1]
        width = (high - low) / _SAMPLES
        first, last = -1, -1
        for m in range(_SAMPLES + 1):
            if psi(program, a, low + m * width, point) >= floor:
                if first < 0:
                    first = m
                last = m
        if first < 0:  # the level set lies between two samples
            continue
        if first > 0:
            ranges[a, 0] = low + (first - 1) * width
        if last < _SAMPLES:
            ranges[a, 1] = low + (last + 1) * width
