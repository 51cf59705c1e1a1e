"""Rigorous maxima of one flow's function: never below a dense sample, tight, piece by piece."""

import numpy as np
import pytest

from baselines.stackelberg.arc_bounds import bound_pieces, bound_tops


def root(y, rigorous, forward):
    """Deviation of a Bernoulli, in plain NumPy."""
    y = np.clip(1.0 - y if forward else y, 0.0, 1.0)
    q = y * (1.0 - y)
    if rigorous:
        inside = (y > 0.5 + 1e-4) & (y < 1.0)
        safe = np.where(inside, y, 0.75)
        u = 2.0 * y - 1.0
        q = np.where(inside, (2.0 * safe - 1.0) / (2.0 * np.log(safe / (1.0 - safe))), q)
        q = np.where((y > 0.5) & ~inside, 0.25 * (1.0 - u * u / 3.0) * (y < 1.0), q)
    return np.sqrt(q)


def psi(row, y, rigorous):
    """The function of ``arc_bounds`` at points y."""
    line, pull, push, bow, bend, sigma, part, chord, forward = (row[k] for k in (0, 2, 4, 6, 8, 10, 11, 12, 13))
    spread = np.sqrt(y * (1.0 - y))
    value = line * y + (pull - push * y) * sigma * (2.0 * y - 1.0) / (2.0 * spread) + bow * spread
    z = y / part
    below = root(np.minimum(z, chord), rigorous, forward > 0.0)
    beyond = root(np.array(chord), rigorous, forward > 0.0) * (1.0 - z) / (1.0 - chord) if chord < 1.0 else 0.0
    return value - bend * part * np.where(z <= chord, below, beyond)


def draw(rng, inside, touching):
    push = 10.0 ** rng.uniform(-2, 2)
    pull = push * (rng.uniform(0.0, 1.0) if inside else rng.uniform(-1.0, 2.0))
    bow, bend = (rng.choice([0.0, 10.0 ** rng.uniform(-2, 2)]) for _ in range(2))
    sigma = 10.0 ** rng.uniform(-3, 0.5)
    part, chord = (rng.uniform(0.02, 1.0), rng.uniform(0.5, 1.0)) if rng.random() < 0.5 else (1.0, 1.0)
    low, high = np.sort(rng.uniform(1e-4, 1.0 - 1e-4, 2))
    if touching:
        low, high = (0.0, high) if rng.random() < 0.5 else (low, 1.0)
        low, high = (0.0, 1.0) if rng.random() < 0.5 else (low, high)
    line = rng.normal() * 10.0 ** rng.uniform(-2, 2)
    coefficients = (each for value in (line, pull, push, bow, bend) for each in (value, value))
    return np.array([*coefficients, sigma, part, chord, rng.random() < 0.5, low, high, rng.uniform(low, high)], float)


def sample(row, count=3001):
    low, high = row[14], row[15]
    y = low + (high - low) * 0.5 * (1.0 + np.sin(np.linspace(-0.5, 0.5, count) * np.pi))
    y = np.append(y, [row[11] * row[12], row[11] * 0.5, row[16]])
    return y[(y >= low) & (y <= high) & (y > 1e-12) & (y < 1.0 - 1e-12)]


def size(row):
    return np.abs(row[[0, 4, 6, 8]]).sum() * (1.0 + row[10])


@pytest.mark.parametrize("touching", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_bounds_are_above_every_sample_in_every_piece(inside, touching):
    rng = np.random.default_rng(2 * inside + touching)
    for k in range(700):
        row, rigorous = draw(rng, inside, touching), k % 2 == 0
        y = sample(row)
        value = psi(row, y, rigorous)
        rounding = 1e-11 * (size(row) + np.abs(value))
        for sharp in (False, True):
            assert bound_tops(row[None], rigorous, sharp)[0] >= (value - rounding).max()
        edges, bounds = (each[0] for each in bound_pieces(row[None], rigorous))
        assert edges[0] == row[14]
        assert edges[-1] == row[15]
        assert (np.diff(edges) >= 0.0).all()
        for side in ("left", "right"):
            piece = np.clip(np.searchsorted(edges, y, side) - 1, 0, len(bounds) - 1)
            assert (bounds[piece] >= value - rounding)[edges[piece] < edges[piece + 1]].all()


@pytest.mark.parametrize("touching", [False, True])
def test_bounds_are_tight_from_a_good_guess(touching):
    rng = np.random.default_rng(5 + touching)
    tight = 0
    for k in range(500):
        row, rigorous = draw(rng, True, touching), k % 2 == 0
        # towards an end of [0, 1] the bend is left out, which costs much where a deviation falls like a logarithm
        row[8:10] = 0.0 if k % 4 < 2 or touching else row[8:10]
        y = sample(row)
        value = psi(row, y, rigorous)
        row[16] = y[value.argmax()]
        if 1e-3 < row[16] < 1.0 - 1e-3:
            finer = row[16] + np.linspace(-2e-3, 2e-3, 4001) * min(row[16], 1.0 - row[16])
            top = psi(row, finer[(finer >= row[14]) & (finer <= row[15])], rigorous).max()
            bound = bound_tops(row[None], rigorous, True)[0]
            assert bound <= top + 1e-6 * (abs(top) + size(row))
            tight += 1
    assert tight > 200


def test_the_tangent_at_the_maximum_says_nothing_beyond_the_kink_of_the_chord():
    # the deviation's chord makes psi's slope jump up: psi rises again above what a tangent before the kink allows
    row = np.zeros(17)
    row[[0, 1]], row[[2, 3]], row[[4, 5]] = -0.4235606425063, 10.00132713640938, 27.06624753873774
    row[[6, 7]], row[[8, 9]], row[10] = 1.5231320815822746, 16.974796010734202, 0.9682756641217043
    row[11], row[12], row[13] = 0.8329063837175448, 0.5834092923809079, 1.0
    row[14], row[15], row[16] = 0.0, 0.9987811413337214, 0.3913249510934402
    assert bound_tops(row[None], False, True)[0] >= psi(row, sample(row), False).max()


def test_a_range_inside_another_has_no_higher_bound():
    rng = np.random.default_rng(9)
    for _ in range(300):
        row = draw(rng, True, False)
        inner = row.copy()
        inner[14], inner[15] = np.sort(rng.uniform(row[14], row[15], 2))
        inner[16] = np.clip(row[16], inner[14], inner[15])
        wide, narrow = bound_tops(np.stack([row, inner]), True, True)
        assert narrow <= wide + 1e-5 * (abs(wide) + size(row)) or row[9] == 0.0


@pytest.mark.parametrize("huge", [1e150, 1e300, 1.7e308])
@pytest.mark.parametrize("column", [0, 2, 4, 6, 8])
def test_numbers_beyond_all_measure_give_no_false_bound(column, huge):
    rng = np.random.default_rng(column)
    for k in range(60):
        row = draw(rng, k % 2 == 0, k % 4 < 2)
        row[column : column + 2] = huge if column else huge * rng.choice([-1.0, 1.0])
        y = sample(row, 101)
        with np.errstate(over="ignore", invalid="ignore"):
            value = psi(row, y, True)
        value = value[np.isfinite(value)]
        for sharp in (False, True):
            top = bound_tops(row[None], True, sharp)[0]
            assert not np.isnan(top)
            if len(value):
                assert top >= value.max() * (1.0 - 1e-10 * np.sign(value.max()))
