"""What rebates are worth is enclosed: the interval holds the value of another computation, and is narrow."""

import numpy as np
import pytest

from baselines.stackelberg.enclosure import bid_coefficients, worth
from baselines.stackelberg.program import program_of
from v2g_env.stackelberg.bids import coefficients
from v2g_env.stackelberg.follower import arcs_of, respond

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp.clone()
mp.dps = 40


def precise(game, rebates):
    """Income, profit and utility to 30 digits: Newton's method in the node prices, then the definitions."""
    arcs = arcs_of(game.classes)
    n, sigma = arcs.nodes, [mp.mpf(float(s)) for s in arcs.deviation]
    paid = [float(rebates[t]) if t >= 0 else 0.0 for t in arcs.period]
    utility = [mp.mpf(float(m)) + s for m, s in zip(arcs.mean, paid, strict=True)]
    price = [mp.mpf(float(p)) for p in respond(arcs, rebates[None]).price[0]] + [mp.mpf(0)]
    for _ in range(5):
        lam = [u - price[i] + price[j] for u, i, j in zip(utility, arcs.tail, arcs.head, strict=True)]
        r = [mp.sqrt(x * x + s * s) for x, s in zip(lam, sigma, strict=True)]
        y = [(1 + x / q) / 2 for x, q in zip(lam, r, strict=True)]
        slope = [s * s / (2 * q**3) for s, q in zip(sigma, r, strict=True)]
        matrix, out = mp.matrix(n, n), mp.matrix(n, 1)
        for node in arcs.source:
            out[int(node)] -= 1
        for a, (i, j) in enumerate(zip(map(int, arcs.tail), map(int, arcs.head), strict=True)):
            out[i] += y[a]
            matrix[i, i] += slope[a]
            if j >= 0:
                out[j] -= y[a]
                matrix[j, j] += slope[a]
                matrix[i, j] -= slope[a]
                matrix[j, i] -= slope[a]
        step = mp.lu_solve(matrix, out)
        price = [p + d for p, d in zip(price, step, strict=False)] + [mp.mpf(0)]
    assert max(map(abs, out)) < mp.mpf(10) ** -25
    share = [mp.mpf(float(arcs.share[k])) for k in arcs.group]
    cost = sum(w * q * s for w, q, s in zip(share, y, paid, strict=True)) * game.drivers
    gain = sum(w * (u * q + s * mp.sqrt(q * (1 - q))) for w, u, q, s in zip(share, utility, y, sigma, strict=True))
    income = mp.mpf(0)
    for t in range(game.periods):
        plugged = [mp.mpf(0)] * len(arcs.share)
        for a in range(len(y)):
            if arcs.period[a] == t:
                plugged[arcs.group[a]] += y[a]
        bid = min(_bid(game, each, plugged, arcs.share) for each in game.requirements)
        income += mp.mpf(game.price_usd_per_kw[t] * game.step_h) * bid
    return income, income - cost, gain


def _bid(game, each, plugged, shares):
    def deviation(y, forward):
        y = 1 - y if forward else y
        if game.variant == "published" or y <= mp.mpf(1) / 2:
            return y * (1 - y)
        return (2 * y - 1) / (2 * mp.log(y / (1 - y))) if y < 1 else mp.mpf(0)

    eta, m, best = mp.mpf(each.eta), game.drivers, mp.mpf(0)
    total = sum(mp.mpf(float(w)) * y for w, y in zip(shares, plugged, strict=True))
    for forward in (False, True):
        beta = (1 - eta) / eta * mp.sqrt(-2 * mp.log(1 - eta)) if forward else mp.sqrt(-2 * mp.log(eta))
        q = sum(mp.mpf(float(w)) * deviation(y, forward) for w, y in zip(shares, plugged, strict=True))
        side = beta * mp.mpf(each.backward if forward else each.forward)
        psi, mean = mp.mpf(each.power_kw), mp.mpf(each.mean)
        # largest C with mean C + sqrt((side C)^2 + (beta psi)^2 m q) <= psi m total, by bisection in C
        left = lambda c: mean * c + mp.sqrt((side * c) ** 2 + (beta * psi) ** 2 * m * q) - psi * m * total  # noqa: E731, B023
        if left(mp.mpf(0)) < 0:
            low, high = mp.mpf(0), psi * m * total / mean
            for _ in range(110):
                middle = (low + high) / 2
                low, high = (middle, high) if left(middle) <= 0 else (low, middle)
            best = max(best, low)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_worth_holds_the_precise_value_and_is_narrow(lab, seed):
    game = lab.game(seed)
    rng = np.random.default_rng(seed)
    rebates = np.array([rng.choice(game.levels[:n]) for n in game.choices]) * game.step_h
    found = worth(game, program_of(game, 0.1 / game.drivers if game.owner == "drivers" else 0.0), rebates)
    income, profit, utility = precise(game, rebates)
    total = profit if game.owner == "platform" else utility + profit / (mp.mpf(game.kappa) * game.drivers)
    size = abs(income) + abs(income - profit) + abs(utility) + 1
    for ends, exact in zip(found, (income, profit, utility, total), strict=True):
        assert mp.mpf(ends[0]) <= exact <= mp.mpf(ends[1])
        assert ends[1] - ends[0] <= 1e-9 * size


@pytest.mark.parametrize("seed", range(10))
def test_coefficients_used_by_the_search_are_enclosed(lab, seed):
    game = lab.game(seed)
    for row, conditions in zip(coefficients(game), bid_coefficients(game), strict=True):
        for (a, b, c), known in zip(row, conditions, strict=True):
            assert (known is None) == (a == 0.0)
            if known is not None:
                for found, exact in zip(known, (np.sign(a), a, np.sqrt(b), np.sqrt(abs(c))), strict=True):
                    low, high = (found, found) if np.isscalar(found) else (float(found.low), float(found.high))
                    assert low - 1e-9 * abs(exact) <= exact <= high + 1e-9 * abs(exact)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1e3, 1e6])
def test_extreme_scales_are_enclosed_or_refused(lab, scale):
    for seed in range(15):
        game = lab.game(seed, owner="platform")
        rebates = np.full(game.periods, scale)
        try:
            found = worth(game, program_of(game), rebates)
        except ArithmeticError:
            continue
        income, profit, utility = precise(game, rebates)
        for ends, exact in zip(found, (income, profit, utility, profit), strict=True):
            assert mp.mpf(ends[0]) <= exact <= mp.mpf(ends[1])
