"""What a bid earns on average: expected shortfalls and payments, summed over the number of cars in closed form.

K of M drivers are plugged in, Binomial(M, y) with response "model" and, period by period, with "population" too (every
driver walks the network by himself and passes a period on at most one arc). The operator asks for r times the bid C,
r piecewise uniform (see ``signal``). Delivered is min(C, X), X = psi K / r. A settlement by penalty pays, in units of
the price,

    C - (1 + shortfall_factor) E (C - X)+,

and with x = psi K / C the mean over r has the closed form E (1 - x / r)+ = P(r > x) - x E[1/r; r > x], which between
two quantiles a < b of the law is linear in x and x ln x. Only the binomial sum is left; nothing is estimated. Terms
more than ten deviations and forty cars off the mean are left out: together they weigh less than 1e-20.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, require
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.signal import SIGNALS, ratio_quantiles

__all__ = ["best_payment", "expected_payment", "expected_shortfall"]

Floats = NDArray[np.float64]

_CELLS = 1_000_000  # of a table that is held in memory at once
_FAR = 700.0  # log odds at which all are there
_HALVINGS = 15  # the payment is flat at its maximum


def expected_shortfall(instance: Instance, bid_kw: ArrayLike, plugged_share: ArrayLike) -> Floats:
    """Mean of what is missing of a bid, E (C - psi K / r)+, given the share of plugged drivers.

    Args:
        instance: the fleet.
        bid_kw: bids C, any shape, >= 0 [kW].
        plugged_share: probability y that a driver is plugged in, same shape, in [0, 1].

    Returns:
        float64 of the same shape [kW], in [0, C].

    Raises:
        InvalidInputError: for different shapes, or values that are out of range or not finite.
    """
    ratio = _Ratio.of(instance)
    return _summed(instance, bid_kw, plugged_share, ratio.missing)


def expected_payment(instance: Instance, bid_kw: ArrayLike, plugged_share: ArrayLike) -> Floats:
    """Mean of payment less penalty in units of the price, as the instance settles; arguments as above.

    Returns:
        float64 of the same shape [kW]: times the price [$/kW per hour] and the hours it is money. Negative where
        penalties outweigh the payment.
    """
    ratio = _Ratio.of(instance)
    if instance.settlement == "penalty":
        bid = array("bid_kw", bid_kw, (None,) * np.ndim(bid_kw), 0.0)
        short = _summed(instance, bid_kw, plugged_share, ratio.missing)
        return np.asarray(bid - (1.0 + instance.shortfall_factor) * short)
    return _summed(instance, bid_kw, plugged_share, lambda x: ratio.paid(x, instance.forfeit_share))


def best_payment(instance: Instance, plugged_share: ArrayLike, limit_kw: ArrayLike) -> Floats:
    """Largest mean payment of any bid up to a limit, given the share of plugged drivers.

    With a penalty the payment is concave in the bid. Its slope 1 - (1 + shortfall_factor) P(X < C) is positive up to
    the bid that fails with probability 1 / (1 + shortfall_factor): the best bid is that one or the limit. Where it is
    not the limit, a tangent near the best bid bounds the payment from above, to about 1e-7 of the limit. A forfeit
    pays at most what is delivered, which rises in the bid: there this is an upper bound.

    Args:
        instance: the fleet.
        plugged_share: probabilities y, (n,), in [0, 1].
        limit_kw: (n,) largest bids, >= 0 [kW].

    Returns:
        (n,) float64 [kW], times price and hours money.

    Raises:
        InvalidInputError: for different shapes or values out of range.
    """
    y = array("plugged_share", plugged_share, (None,), 0.0, 1.0)
    bid = array("limit_kw", limit_kw, (len(y),), 0.0)
    ratio = _Ratio.of(instance)
    factor = 1.0 + (instance.shortfall_factor if instance.settlement == "penalty" else 0.0)

    def slope(amount: Floats, rows: NDArray[np.bool_]) -> Floats:
        chance = _summed(instance, amount, y[rows], ratio.above)
        return np.asarray(1.0 - factor * np.divide(chance, amount, out=np.zeros_like(chance), where=amount > 0.0))

    above = np.zeros(len(y))
    over = slope(bid, np.ones(len(y), bool)) < 0.0
    if over.any():
        low, high = np.zeros(int(over.sum())), bid[over]
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            much = slope(middle, over) < 0.0
            low, high = np.where(much, low, middle), np.where(much, middle, high)
        bid[over] = high
        above[over] = np.maximum(-slope(high, over), 0.0) * (high - low)
    return np.asarray(bid - factor * _summed(instance, bid, y, ratio.missing) + above)


class _Ratio(NamedTuple):
    """The law of r with what has to be summed up beyond each of its quantiles.

    Attributes:
        edges: (n + 1,) quantiles; uniform between neighbours, every piece equally likely.
        tail: (n + 1,) probability of more than the quantile.
        inverse: (n + 1,) mean of 1/r where r is above the quantile, else 0.
    """

    edges: Floats
    tail: Floats
    inverse: Floats

    @staticmethod
    def of(instance: Instance) -> _Ratio:
        """The law of an instance's signals."""
        return _ratio(SIGNALS[instance.signals].deviation)

    def _beyond(self, x: Floats) -> tuple[Floats, Floats]:
        """P(r > x) and E[1/r; r > x]."""
        inside = np.clip(x, self.edges[0], self.edges[-1])
        piece = np.minimum(np.searchsorted(self.edges, inside, side="right") - 1, len(self.edges) - 2)
        upper = self.edges[piece + 1]
        dense = 1.0 / ((upper - self.edges[piece]) * (len(self.edges) - 1))
        return (
            self.tail[piece + 1] + (upper - inside) * dense,
            self.inverse[piece + 1] + np.log(upper / inside) * dense,
        )

    def above(self, x: Floats) -> Floats:
        """P(r > x): the bid is not delivered in full."""
        return self._beyond(x)[0]

    def missing(self, x: Floats) -> Floats:
        """E (1 - x / r)+: share of the bid that is missing."""
        tail, inverse = self._beyond(x)
        return np.asarray(np.where(x >= self.edges[-1], 0.0, np.maximum(tail - x * inverse, 0.0)))

    def paid(self, x: Floats, least: float) -> Floats:
        """Mean delivered share, counted where it is at least ``least``."""
        tail, inverse = self._beyond(x)
        beyond = self._beyond(x / least)[1] if least > 0.0 else 0.0
        return np.asarray(1.0 - tail + x * (inverse - beyond))


@lru_cache(maxsize=16)
def _ratio(deviation: float) -> _Ratio:
    edges = ratio_quantiles(deviation)
    pieces = len(edges) - 1
    each = np.log(edges[1:] / edges[:-1]) / (np.diff(edges) * pieces)
    inverse = np.append(np.cumsum(each[::-1])[::-1], 0.0)
    return _Ratio(edges, 1.0 - np.arange(pieces + 1) / pieces, inverse)


def _summed(
    instance: Instance, bid_kw: ArrayLike, plugged_share: ArrayLike, share_of: Callable[[Floats], Floats]
) -> Floats:
    """Bid times the mean over K of ``share_of(psi K / C)``, 0 without a bid."""
    bids = array("bid_kw", bid_kw, (None,) * np.ndim(bid_kw), 0.0)
    shares = array("plugged_share", plugged_share, (None,) * np.ndim(plugged_share), 0.0, 1.0)
    require(shares.shape == bids.shape, "shape of plugged_share", shares.shape, f"{bids.shape}, that of bid_kw")
    both, back = np.unique(bids.ravel() + 1j * shares.ravel(), return_inverse=True)  # schedules repeat
    bid, y = both.real, both.imag
    result = np.zeros(len(bid))
    rows = np.flatnonzero(bid > 0.0)
    power = instance.charger_kw - instance.guarantee_kw
    reach = int(np.ceil(40.0 + 10.0 * np.sqrt(0.25 * instance.drivers)))
    width = min(instance.drivers, 2 * reach) + 1
    size = max(_CELLS // width, 1)
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        cars, weight = _cars(instance.drivers, y[part], width)
        result[part] = bid[part] * (weight * share_of(power * cars / bid[part, None])).sum(axis=1)
    return np.asarray(result[back].reshape(bids.shape))


def _cars(drivers: int, y: Floats, width: int) -> tuple[Floats, Floats]:
    """Numbers of cars (n, width) around the mean and their probabilities under Binomial(M, y).

    By ratios of neighbours, in logarithms: factorials of a large fleet would lose digits.
    """
    first = np.clip(np.round(drivers * y) - width // 2, 0, drivers - width + 1)
    cars = first[:, None] + np.arange(width)
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(y) - np.log1p(-y), -_FAR, _FAR)
    steps = np.log((drivers - cars[:, :-1]) / (cars[:, :-1] + 1.0)) + odds[:, None]
    log = np.concatenate([np.zeros((len(y), 1)), np.cumsum(steps, axis=1)], axis=1)
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    return cars, weight / weight.sum(axis=1, keepdims=True)
