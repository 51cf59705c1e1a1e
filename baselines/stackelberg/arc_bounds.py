"""Rigorous maxima of functions of one flow over a range, in compiled interval arithmetic.

psi(y) = line y + (pull - push y) lam(y) + bow sqrt(y (1 - y)) - bend part s(y / part),

lam(y) = sigma (2y - 1) / (2 sqrt(y (1 - y))); s = sqrt(q) up to ``chord`` and its chord to (1, 0) beyond. The range is
cut into pieces; on each psi is bounded by a second-order Taylor form, by the tangent at a guessed maximum where psi is
concave in between, and by bisection where neither is sharp.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from baselines.stackelberg.rounding import add, div, mul, neg, sqr, sqrt, sub, up
from baselines.stackelberg.spread_bounds import enclose_root

__all__ = ["COLUMNS", "bound_tops", "bound_pieces"]

Floats = NDArray[np.float64]

# a function is a row: ends of the coefficients' intervals, exact numbers, range, guess of the maximum
COLUMNS = (
    *("line_low", "line_high", "pull_low", "pull_high", "push_low", "push_high", "bow_low", "bow_high"),
    *("bend_low", "bend_high", "sigma", "part", "chord", "forward", "low", "high", "guess"),
)
PIECES = 24
_TINY = 1e-9  # ranges that end this near to 0 or 1 are taken to reach them
_FINE = 6
_EDGES = PIECES + 3 + 2 * _FINE
_DEPTH = 14
_STEPS = 4000  # of one bisection; then the pieces left are bounded as they are
_SHARP = 1e-10


@njit(cache=True)
def smooth(row, y):
    """Psi without its bend: value, slope, curvature over an interval y inside (0, 1)."""
    line, pull, push, bow = (row[0], row[1]), (row[2], row[3]), (row[4], row[5]), (row[6], row[7])
    sigma = (row[10], row[10])
    rest = sub((1.0, 1.0), y)
    q = mul(y, rest)
    q = (max(q[0], 0.0), min(q[1], 0.25))
    root = sqrt(q)
    u = sub(y, rest)
    over = div(u, (2.0 * root[0], 2.0 * root[1]))
    lam = mul(sigma, over)
    first = div(sigma, mul((4.0 * q[0], 4.0 * q[1]), root))
    force = sub(pull, mul(push, y))
    value = add(add(mul(line, y), mul(force, lam)), mul(bow, root))
    slope = add(sub(line, mul(push, lam)), sub(mul(force, first), mul(bow, over)))
    # psi'' = (c2 y^2 + c1 y + c0) / q^(5/2), the parabola by its Taylor form in the middle of y
    c2 = mul((0.25, 0.25), sub(bow, mul(sigma, push)))
    c1 = sub(
        mul(sigma, sub(mul((0.75, 0.75), pull), mul((0.125, 0.125), push))),
        mul((0.25, 0.25), bow),
    )
    c0 = neg(mul((0.375, 0.375), mul(sigma, pull)))
    m = min(max(0.5 * (y[0] + y[1]), y[0]), y[1])
    off = sub(y, (m, m))
    top = add(mul(add(mul(c2, (m, m)), c1), (m, m)), c0)
    top = add(add(top, mul(add(mul((2.0 * m, 2.0 * m), c2), c1), off)), mul(c2, sqr(off)))
    curve = div(top, mul(sqr(q), root))
    return value, slope, curve


@njit(cache=True)
def hull_of(a, b):
    """Smallest interval that contains both."""
    return min(a[0], b[0]), max(a[1], b[1])


@njit(cache=True)
def whole(row, y, rigorous):
    """Psi over an interval y inside (0, 1): value, slope, curvature."""
    value, slope, curve = smooth(row, y)
    bend = (row[8], row[9])
    if bend[1] == 0.0:
        return value, slope, curve
    part, forward = (row[11], row[11]), row[13] > 0.0
    kink = row[11] * row[12]  # where the chord begins, exactly
    z, chord = div(y, part), div((kink, kink), part)
    flat = (0.0, 0.0)
    s0, s1, s2 = flat, flat, flat
    curved = y[0] < kink or y[1] <= kink
    if curved:
        s0, s1, s2 = enclose_root((min(z[0], chord[1]), min(z[1], chord[1])), rigorous, forward)
    if y[1] > kink:
        fall = div(enclose_root(chord, rigorous, forward)[0], sub((1.0, 1.0), chord))
        c0, c1 = mul(fall, sub((1.0, 1.0), z)), neg(fall)
        if curved:
            s0, s1, s2 = hull_of(s0, c0), hull_of(s1, c1), hull_of(s2, flat)
        else:
            s0, s1, s2 = c0, c1, flat
    value = sub(value, mul(mul(bend, part), s0))
    slope = sub(slope, mul(bend, s1))
    curve = sub(curve, div(mul(bend, s2), part))
    return value, slope, curve


@njit(cache=True)
def taylor(row, a, b, rigorous):
    """Upper bound of psi on [a, b], and the upper end of its curvature there."""
    m = min(max(0.5 * (a + b), a), b)
    value, slope, _ = whole(row, (m, m), rigorous)
    curve = whole(row, (a, b), rigorous)[2]
    half = up(max(b - m, m - a))
    steep = max(abs(slope[0]), abs(slope[1]))
    rise = add(mul((steep, steep), (half, half)), mul((0.5, 0.5), mul((0.0, max(curve[1], 0.0)), sqr((half, half)))))
    bound = add(value, rise)[1]
    return (bound if bound == bound else np.inf), (curve[1] if curve[1] == curve[1] else np.inf)


@njit(cache=True)
def end_bound(row, inner, left, rigorous):
    """Upper bound on [0, inner] or [inner, 1]: the smooth part is concave there if 0 <= pull <= push and bow >= 0.

    The bend is left out where it lowers psi, and linear where it raises it (beyond the chord's end).
    """
    if not (row[2] >= 0.0 and row[4] >= row[3] and row[6] >= 0.0 and 0.0 < inner < 1.0):
        return np.inf
    value, slope, _ = smooth(row, (inner, inner))
    if not left and row[9] > 0.0 and row[11] < 1.0:
        if inner < row[11] * row[12]:
            return np.inf
        value, slope, _ = whole(row, (inner, up(inner)), rigorous)  # beyond the chord's beginning
    width = (inner, inner) if left else sub((1.0, 1.0), (inner, inner))
    rise = mul(neg(slope) if left else slope, width)
    return add(value, (0.0, max(rise[1], 0.0)))[1]


@njit(cache=True)
def improve(row, low, high, rigorous):
    """A few safeguarded Newton steps from the guess towards the maximum."""
    bottom, top = max(low, _TINY), min(high, 1.0 - _TINY)
    y = min(max(row[16], bottom), top)
    for _ in range(5):
        _, slope, curve = whole(row, (y, y), rigorous)
        g, h = 0.5 * (slope[0] + slope[1]), 0.5 * (curve[0] + curve[1])
        step = -g / h if h < 0.0 else np.sign(g) * 0.1 * min(y, 1.0 - y)
        reach = 0.5 * (1.0 - y if step > 0.0 else y)
        if step == step:
            y = min(max(y + min(max(step, -reach), reach), bottom), top)
    return y


@njit(cache=True)
def cut(row, edges):
    """Fill the edges of the pieces; returns the range's ends."""
    low = 0.0 if row[14] <= _TINY else row[14]
    high = 1.0 if row[15] >= 1.0 - _TINY else row[15]
    first, last = np.arcsin(2.0 * low - 1.0), np.arcsin(2.0 * high - 1.0)
    for k in range(PIECES + 1):
        y = 0.5 * (1.0 + np.sin(first + (last - first) * k / PIECES))
        edges[k] = min(max(y, low), high)
    edges[0], edges[PIECES] = low, high
    spare = 0.5 * (low + high)
    for k in range(2):  # where the bend's derivatives jump
        y = row[11] * (0.5 if k == 0 else row[12])
        edges[PIECES + 1 + k] = y if low < y < high else spare
    near, far = edges[1], 1.0 - edges[PIECES - 1]
    for k in range(_FINE):  # finer towards 0 and 1
        near, far = near / 8.0, far / 8.0
        edges[PIECES + 3 + k] = near if low == 0.0 else spare
        edges[PIECES + 3 + _FINE + k] = 1.0 - far if high == 1.0 else spare
    edges.sort()
    return low, high


@njit(cache=True)
def bisect(row, a, b, limit, rigorous):
    """Upper bound on [a, b] by bisection down to pieces below ``limit``."""
    left, right, depth = np.empty(64), np.empty(64), np.empty(64, np.int64)
    left[0], right[0], depth[0] = a, b, 0
    count, worst, steps = 1, -np.inf, 0
    while count > 0:
        count -= 1
        p, q, d = left[count], right[count], depth[count]
        bound = taylor(row, p, q, rigorous)[0]
        steps += 1
        if bound <= limit or bound <= worst or d >= _DEPTH or steps > _STEPS:
            worst = max(worst, bound)
            continue
        m = 0.5 * (p + q)
        left[count], right[count], depth[count] = p, m, d + 1
        left[count + 1], right[count + 1], depth[count + 1] = m, q, d + 1
        count += 2
    return worst


@njit(cache=True)
def bound_row(row, rigorous, sharp, edges, bounds):
    """Bounds of one function by pieces; returns the largest."""
    low, high = cut(row, edges)
    kink = row[11] * row[12] if row[9] > 0.0 and row[11] < 1.0 else np.inf  # psi is not concave across it
    pieces = len(bounds)
    concave = np.empty(pieces, np.bool_)
    for k in range(pieces):
        open_left, open_right = k == 0 and low == 0.0, k == pieces - 1 and high == 1.0
        concave[k] = False
        if edges[k] == edges[k + 1]:  # nothing to bound
            bounds[k], concave[k] = -np.inf, True
        elif open_left or open_right:
            bounds[k] = end_bound(row, edges[1] if open_left else edges[k], open_left, rigorous)
        else:
            bounds[k], curve = taylor(row, edges[k], edges[k + 1], rigorous)
            concave[k] = curve <= 0.0
    at = improve(row, low, high, rigorous)
    value, slope, _ = whole(row, (at, at), rigorous)
    home = 0
    while home < pieces - 1 and edges[home + 1] < at:
        home += 1
    for direction in (-1, 1):
        k = home
        while 0 <= k < pieces and concave[k]:
            ends = (edges[k], edges[k + 1])
            top = add(value, mul(slope, sub(ends, (at, at))))[1]
            if top == top and edges[k] < edges[k + 1]:
                bounds[k] = min(bounds[k], top)
            if edges[k if direction < 0 else k + 1] == kink:
                break
            k += direction
    best = -np.inf
    limit = value[0] + _SHARP * (abs(value[0]) + row[5])
    for k in range(pieces):
        inside = not ((k == 0 and low == 0.0) or (k == pieces - 1 and high == 1.0))
        if sharp and inside and bounds[k] > limit and bounds[k] > best:
            bounds[k] = min(bounds[k], bisect(row, edges[k], edges[k + 1], limit, rigorous))
        best = max(best, bounds[k])
    return best


@njit(cache=True)
def bound_pieces(rows, rigorous):
    """Edges (n, P + 1) and upper bounds (n, P) of the functions ``rows`` (n, 17) on their pieces."""
    n = len(rows)
    edges, bounds = np.empty((n, _EDGES)), np.empty((n, _EDGES - 1))
    for k in range(n):
        bound_row(rows[k], rigorous, False, edges[k], bounds[k])
    return edges, bounds


@njit(cache=True)
def bound_tops(rows, rigorous, sharp):
    """Upper bounds (n,) of the functions over their ranges; one tangent does where psi is known to be concave."""
    n = len(rows)
    tops = np.empty(n)
    edges, bounds = np.empty(_EDGES), np.empty(_EDGES - 1)
    for k in range(n):
        row = rows[k]
        low, high = row[14], row[15]
        if row[9] == 0.0 and row[2] >= 0.0 and row[4] >= row[3] and row[6] >= 0.0:
            at = min(max(row[16], max(low, _TINY)), min(high, 1.0 - _TINY))
            if sharp:
                at = improve(row, low, high, rigorous)
            value, slope, _ = smooth(row, (at, at))
            rise = mul(slope, sub((low, high), (at, at)))
            tops[k] = add(value, (0.0, max(rise[1], 0.0)))[1]
        else:
            tops[k] = bound_row(row, rigorous, sharp, edges, bounds)
    return tops
