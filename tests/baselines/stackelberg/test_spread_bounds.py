"""Enclosures of the Bernoulli's deviation contain it, its slope and its curvature, and are narrow."""

import numpy as np
import pytest

from baselines.stackelberg.spread_bounds import enclose_root, enclose_spread
from v2g_env.stackelberg.bids import spread

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp.clone()
mp.dps = 60

POINTS = [1e-12, 1e-9, 1e-4, 0.1, 0.3, 0.47, 0.4999, 0.5 - 1e-9, 0.5, 0.5 + 1e-12, 0.5 + 1e-7, 0.501, 0.514, 0.5299]
POINTS += [0.53, 0.5300001, 0.56, 0.7, 0.9, 0.99, 1.0 - 1e-6, 1.0 - 1e-12, 1.0 - 2.0**-53]


def exact(y, rigorous, forward):
    """q, q', q'' at a float y, to 30 digits and more."""
    y = mp.mpf(float(y))
    z, sign = (1 - y, -1) if forward else (y, 1)
    if not rigorous or z <= mp.mpf(1) / 2:
        return z * (1 - z), sign * (1 - 2 * z), mp.mpf(-2)
    u = 2 * z - 1
    t = mp.log(z / (1 - z)) / 2
    if u < mp.mpf(10) ** -6:  # f = (1 - u^2/3 - 4u^4/45 - ...) / 4
        v = u * u
        value = (1 - v / 3 - 4 * v * v / 45 - 44 * v**3 / 945) / 4
        slope = -(2 * u / 3 + 16 * u * v / 45 + 264 * u * v * v / 945) / 4
        curve = -(mp.mpf(2) / 3 + 48 * v / 45 + 1320 * v * v / 945) / 4
    else:
        t1 = 1 / (1 - u * u)
        t2 = 2 * u * t1 * t1
        value = u / (4 * t)
        slope = (t - u * t1) / (4 * t * t)
        curve = (-u * t2 * t - 2 * t1 * (t - u * t1)) / (4 * t**3)
    return value, 2 * sign * slope, 4 * curve


def roots(q):
    root = mp.sqrt(q[0])
    return root, q[1] / (2 * root), q[2] / (2 * root) - q[1] ** 2 / (4 * root * q[0])


def within(ends, value, room=0):
    return mp.mpf(float(ends[0])) - room <= value <= mp.mpf(float(ends[1])) + room


KINDS = [(True, False), (True, True), (False, False), (False, True)]


@pytest.mark.parametrize(("rigorous", "forward"), KINDS)
def test_enclosures_at_points_contain_the_truth_and_are_narrow(rigorous, forward):
    rng = np.random.default_rng(1)
    points = [
        *POINTS,
        *rng.uniform(0.0, 1.0, 150),
        *rng.uniform(0.49, 0.54, 100),
        *(1.0 - 10.0 ** rng.uniform(-15, -1, 50)),
    ]
    for y in map(float, points):
        truth = exact(y, rigorous, forward)
        # the curvature jumps at 1/2, where either side's is in order
        half = y == 0.5 and rigorous
        for enclose, wanted in ((enclose_spread, truth), (enclose_root, roots(truth))):
            found = enclose((y, y), rigorous, forward)
            for order, (ends, value) in enumerate(zip(found, wanted, strict=True)):
                assert within(ends, value) or (half and order == 2), (y, order)
        ends = enclose_spread((y, y), rigorous, forward)
        if 1e-6 < y < 1.0 - 1e-6 and y != 0.5:
            for order, room in enumerate((1e-13, 1e-9, 1e-6)):
                assert ends[order][1] - ends[order][0] <= room * max(1.0, abs(float(truth[order])))


@pytest.mark.parametrize(("rigorous", "forward"), KINDS)
def test_enclosures_of_intervals_contain_what_is_inside(rigorous, forward):
    rng = np.random.default_rng(2)
    for k in range(150):
        low, high = np.sort(rng.uniform(0.0, 1.0, 2)) if k % 3 else np.sort(0.5 + rng.normal(0.0, 0.02, 2))
        if k % 10 == 0:
            low = 0.0
        if k % 10 == 1:
            high = 1.0
        q, root = enclose_spread((low, high), rigorous, forward), enclose_root((low, high), rigorous, forward)
        inside = [low, high, *rng.uniform(low, high, 4), *(p for p in POINTS if low <= p <= high)]
        for y in inside:
            if 0.0 < y < 1.0 and y != 0.5:
                truth = exact(y, rigorous, forward)
                assert all(within(ends, value) for ends, value in zip(q, truth, strict=True)), y
                assert all(within(ends, value) for ends, value in zip(root, roots(truth), strict=True)), y


@pytest.mark.parametrize(("rigorous", "forward"), KINDS)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_deviation_vanishes_at_both_ends(rigorous, forward, y):
    low, high = enclose_spread((y, y), rigorous, forward)[0]
    assert low == 0.0
    assert high <= (0.02 if rigorous and forward and y == 0.0 else 1e-15)  # 1 - 0 is rounded, next to a steep end


@pytest.mark.parametrize(("rigorous", "forward"), KINDS)
def test_floats_used_by_the_search_lie_in_the_enclosures(rigorous, forward):
    for y in np.linspace(0.001, 0.999, 997):
        for ends, value, room in zip(
            enclose_spread((y, y), rigorous, forward), spread(y, rigorous, forward), (1e-10, 1e-7, 1e-4), strict=True
        ):
            assert ends[0] - room <= value <= ends[1] + room
