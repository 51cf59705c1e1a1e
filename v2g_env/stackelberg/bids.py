"""The largest regulation bid that a sufficient condition allows, as a function of the share of plugged drivers.

The number K of plugged cars is a sum of independent Bernoulli variables (M w_k drivers of class k with probability
y_k). P(psi K - r C >= 0) >= 1 - eta holds if (Chen and Sim, Operations Research 57(2), 2009; Tang and Mak 2024)

    mean C - psi M A + beta sqrt(psi^2 M Q + (dev C)^2) <= 0,   A = sum_k w_k y_k,  Q = sum_k w_k q(y_k)

with (beta, dev, q) = (sqrt(-2 ln eta), forward, squared backward deviation of the Bernoulli) or with
((1 - eta)/eta sqrt(-2 ln(1 - eta)), backward, squared forward deviation). Solved for C this reads
C = a A - sqrt(b A^2 + c Q) (see ``coefficients``); the largest of both and of 0 (no bid) is allowed, of
several requirements the smallest.
The "published" variant takes q = y (1 - y) in both conditions, which is no upper bound on the squared deviation: the
promise can then fail. "rigorous" takes the deviations themselves.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.stackelberg.game import Game

__all__ = ["allowed_bid", "coefficients", "spread"]

Floats = NDArray[np.float64]


def coefficients(game: Game) -> Floats:
    """Coefficients (a, b, c) of every requirement and condition, (J, 2, 3) [kW, kW^2, kW^2].

    With D = mean^2 - (beta dev)^2 the bid is a A - sqrt(b A^2 + c Q) for D > 0 and -|a| A + sqrt(b A^2 - |c| Q) for
    D < 0, where a and c are negative; it is 0 where a root has a negative argument. D = 0 gets zeros: no bid.
    """
    result = np.zeros((len(game.requirements), 2, 3))
    m = float(game.drivers)
    for j, each in enumerate(game.requirements):
        eta, psi, mean = each.eta, each.power_kw, each.mean
        first = np.sqrt(-2.0 * np.log(eta)), each.forward
        second = (1.0 - eta) / eta * np.sqrt(-2.0 * np.log1p(-eta)), each.backward
        for i, (beta, deviation) in enumerate((first, second)):
            rest = mean**2 - (beta * deviation) ** 2
            if abs(rest) > 1e-12 * mean**2:
                result[j, i] = (
                    psi * m * mean / rest,
                    (beta * deviation * psi * m / rest) ** 2,
                    (beta * psi) ** 2 * m / rest,
                )
    return result


@njit(cache=True)
def spread(y, rigorous, forward):
    """Squared deviation q of a Bernoulli(y) and its first two derivatives; backward deviation unless ``forward``.

    Rigorous: backward y(1-y) up to 1/2 and (2y-1)/(2 ln(y/(1-y))) above; forward is the mirror image.
    """
    if not rigorous:
        return y * (1.0 - y), 1.0 - 2.0 * y, -2.0
    if (y <= 0.5) != forward or y == 0.5:
        return y * (1.0 - y), 1.0 - 2.0 * y, -2.0
    u = 2.0 * y - 1.0  # q = u / (4 atanh u), even in u
    if abs(u) < 0.03:
        v = u * u
        value = 0.25 * (1.0 - v / 3.0 - 4.0 * v * v / 45.0 - 44.0 * v**3 / 945.0)
        slope = 0.5 * u * (-2.0 / 3.0 - 16.0 * v / 45.0 - 264.0 * v * v / 945.0)
        return value, slope, -2.0 / 3.0 - 48.0 * v / 45.0 - 1320.0 * v * v / 945.0
    if y >= 1.0 or y <= 0.0:
        return 0.0, 0.0, 0.0
    t = 0.5 * (np.log(y) - np.log1p(-y))  # atanh u
    t1 = 1.0 / (4.0 * y * (1.0 - y))  # its derivative in u
    t2 = 2.0 * u * t1 * t1
    slope = 2.0 * (t - u * t1) / (4.0 * t * t)
    curve = 4.0 * (-u * t2 * t - 2.0 * t1 * (t - u * t1)) / (4.0 * t**3)
    return u / (4.0 * t), slope, curve


@njit(cache=True)
def largest_bid(total, backward, forward, coef):
    """Bid [kW] and its branch for A = total and the sums Q of squared deviations: (bid, requirement, condition).

    ``condition`` is 2 where not bidding is best.
    """
    best, best_j, best_i = np.inf, 0, 2
    for j in range(coef.shape[0]):
        value, i_best = 0.0, 2
        for i in range(2):
            a, b, c = coef[j, i]
            square = b * total * total + c * (backward if i == 0 else forward)
            if a != 0.0 and square >= 0.0:
                bid = a * total - np.sign(a) * np.sqrt(square)
                if bid > value:
                    value, i_best = bid, i
        if value < best:
            best, best_j, best_i = value, j, i_best
    return best, best_j, best_i


@njit(cache=True)
def allowed_bid(plugged, share, coef, rigorous):
    """Largest allowed bid (n, T) [kW] for plugged shares (n, T, K) of the K classes with the given shares (K,)."""
    n, periods, classes = plugged.shape
    result = np.empty((n, periods))
    for i in range(n):
        for t in range(periods):
            total, back, ahead = 0.0, 0.0, 0.0
            for k in range(classes):
                y = min(max(plugged[i, t, k], 0.0), 1.0)
                total += share[k] * y
                back += share[k] * spread(y, rigorous, False)[0]
                ahead += share[k] * spread(y, rigorous, True)[0]
            result[i, t] = largest_bid(total, back, ahead, coef)[0]
    return result
