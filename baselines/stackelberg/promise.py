"""What a bid's promise is worth: the exact probability that an hour cannot be delivered in full.

K cars are plugged in, Binomial(M, y) because drivers are independent, and r is the hour's mileage ratio. A bid C fails
if psi K < r C. Bids promise that this happens with probability eta at most (see ``v2g_env.stackelberg.bids``); here
the probability is summed up over K, with the distribution function of r in closed form, so nothing is estimated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.game import Game

__all__ = ["Worst", "violation_probability", "worst_violation"]

Floats = NDArray[np.float64]
_GRID = 2000  # shares looked at beside those where the certain number of cars needed rises


class Worst(NamedTuple):
    """Where a promise is worth least.

    Attributes:
        plugged_share: share y of plugged drivers.
        probability: probability that the bid allowed there fails.
    """

    plugged_share: float
    probability: float


def violation_probability(
    bid_kw: ArrayLike,
    plugged_share: ArrayLike,
    drivers: int,
    power_kw: float,
    quantiles: ArrayLike | None = None,
) -> Floats:
    """Probability that psi K < r C, K from Binomial(M, y): exact up to rounding.

    Args:
        bid_kw: bids C, (n,), >= 0 [kW].
        plugged_share: shares y, (n,), in [0, 1].
        drivers: number M of drivers, all of one class.
        power_kw: what a plugged car contributes, psi [kW].
        quantiles: of the ratio r at equally spaced levels from 0 to 1, increasing, r uniform between neighbours (as
            ``signal.ratio_quantiles``); None: r = 1 for certain.

    Returns:
        (n,) probabilities; 0 where there is no bid.

    Raises:
        InvalidInputError: for wrong shapes or values outside their ranges.
    """
    bids = array("bid_kw", bid_kw, (None,), 0.0)
    shares = array("plugged_share", plugged_share, (len(bids),), 0.0, 1.0)
    number("drivers", drivers, 1, 1_000_000, integer=True)
    number("power_kw", power_kw, 0.0, 1e6, open_low=True)
    cars = np.arange(drivers + 1)
    have = power_kw * cars[None, :]
    asked = bids[:, None]
    if quantiles is None:
        fails = (have < asked).astype(np.float64)
    else:
        edges = array("quantiles", quantiles, (None,), 0.0)
        steps = np.diff(edges)
        require(len(edges) > 1 and bool((steps > 0.0).all()), "quantiles", edges.tolist(), "two or more, increasing")
        ratio = have / np.where(asked > 0.0, asked, 1.0)
        fails = (1.0 - np.interp(ratio, edges, np.linspace(0.0, 1.0, len(edges)))) * (asked > 0.0)
    return np.asarray((_binomial(cars, drivers, shares) * fails).sum(axis=1))


def worst_violation(game: Game, quantiles: ArrayLike | None = None) -> Worst:
    """Largest violation probability of the bids that ``game``'s first requirement allows, over all shares y.

    Classes count as one, whose share is varied. With a certain ratio (``quantiles`` None) the probability falls in y
    until the bid needs one car more, so looking at those shares is enough if bids rise in y, as they do; a grid is
    looked at too, and is all there is for a random ratio.
    """
    each = game.requirements[0]
    single = game.replace(requirements=(each,))
    table = coefficients(single)

    def bid(share: Floats) -> Floats:
        shares = share[None, :, None]
        return np.asarray(allowed_bid(shares, np.ones(1), table, game.variant == "rigorous")[0])

    needed = each.power_kw * np.arange(min(game.drivers, 1000), dtype=np.float64)
    low, high = np.zeros(len(needed)), np.ones(len(needed))
    for _ in range(60):
        middle = 0.5 * (low + high)
        enough = bid(middle) > needed
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    shares = np.concatenate([high, np.linspace(0.001, 0.999, _GRID)])
    chance = violation_probability(bid(shares), shares, game.drivers, each.power_kw, quantiles)
    at = int(chance.argmax())
    return Worst(float(shares[at]), float(chance[at]))


def _binomial(cars: NDArray[np.int64], drivers: int, shares: Floats) -> Floats:
    """Probabilities of 0..M cars, (n, M + 1)."""
    from scipy.special import gammaln, xlog1py, xlogy

    ways = gammaln(drivers + 1) - gammaln(cars + 1) - gammaln(drivers - cars + 1)
    y = shares[:, None]
    return np.asarray(np.exp(ways + xlogy(cars, y) + xlog1py(drivers - cars, -y)))
