"""Bids discounted by what shortfalls cost: requirements whose bids are worth at least any bid's mean payment.

Let G(y) be the largest mean payment per price of any bid at the plugged share y (``expected.best_payment``). If other
requirements allow bids D(y) >= G(y) for every y in [0, 1], then the day's game with these requirements, bids counted
as delivered, bounds the mean profit of every policy: price x D replaces price x G, and solver, bound and certificate of
the game stay what they are.

D >= G everywhere follows from finitely many numbers, because D(y) / y and G(y) / y never fall in y:

* the bid C = kappa y of a condition mean C + beta sqrt(psi^2 M q(y) + (dev C)^2) <= psi M y has mean kappa + beta
  sqrt(psi^2 M q / y^2 + (dev kappa)^2) <= psi M, and q / y^2 never rises (y q' <= 2 q for both spreads and sides);
* the payment is concave and homogeneous in (C, K). For y' < y, K' of Binomial(M, y') is a thinning of K of
  Binomial(M, y), so that E[K' / y' | K] = K / y, and E pay(kappa, K' / y') <= E pay(kappa, K / y) by Jensen.

So D(a) / a >= G(b) / b at the ends a < b of every cell of a grid proves D >= G. A cell from 0 needs G(b) = 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.days import Days
from baselines.stackelberg.expected import best_payment, expected_payment
from v2g_env.stackelberg.bids import allowed_bid, coefficients, spread
from v2g_env.stackelberg.game import Game, Requirement
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model

__all__ = ["MARGIN", "best_fraction", "discount", "discounted_bid", "discounted_game", "worst_ratio"]

Floats = NDArray[np.float64]

MARGIN = 1e-9  # relative; far above the rounding of the sums compared
_CELLS = 2048
_WIDE = 0.1  # least |mean^2 - (beta deviation)^2| over mean^2: nearer to 0, bids would be differences of large numbers
_LEAST = 2.0 * np.log(2.0) * 1.01  # beta^2 of a tolerated probability just below one half
_MOST = 600.0
_ROUNDS = 4  # of the search for the best coefficients, each on a finer grid
_GRID = 25
_FRACTIONS = 100
_TRIED = 600  # cells that the search looks at


class _Cells(NamedTuple):
    """Cells of [0, 1] on which something may be bid.

    Attributes:
        left, right: (n,) ends y of the cells.
        need: (n,) what D(left) / left must not be below: G(right) / right [kW].
    """

    left: Floats
    right: Floats
    need: Floats


@lru_cache(maxsize=32)
def discount(instance: Instance) -> tuple[Requirement, ...]:
    """Requirements with bids D(y) >= G(y) for all y, near G where drivers' answers lie.

    The first, that of delivery, gets coefficients (a, b, c) fitted to G: D(y) = a y - sqrt(b y^2 + c q(y)). Bids up to
    another requirement's, times the bid limit, earn no more than themselves: those keep their form.

    Args:
        instance: the fleet.

    Returns:
        As many requirements as the instance has, for which ``worst_ratio`` is at least 1.
    """
    plain = tuple(_times(each, instance.bid_limit) for each in instance.requirements)
    fitted = _fitted(instance, _cells(instance))
    if fitted is None:
        return plain
    worst = worst_ratio(instance, (fitted, *plain[1:]))
    if not worst > 0.0:
        return plain
    found = (_times(fitted, (1.0 + MARGIN) / worst), *plain[1:])
    at, weight = _weights(instance)
    better = weight @ discounted_bid(instance, found, at) < weight @ discounted_bid(instance, plain, at)
    return found if better else plain


def discounted_game(
    instance: Instance, requirements: tuple[Requirement, ...], price: Floats, weekend: bool, plug: int
) -> Game:
    """The platform's game of a day with prices (24,) [$/kW per hour], whoever owns the platform, and other bids."""
    share = instance.plug_shares[plug]
    return instance.game(price, weekend, share).replace(owner="platform", requirements=requirements)


def discounted_bid(instance: Instance, requirements: tuple[Requirement, ...], plugged_share: Floats) -> Floats:
    """D (n,) [kW]: bids that the requirements allow at the shares (n,) of plugged drivers."""
    table = coefficients(instance.game().replace(requirements=requirements))
    rigorous = instance.variant == "rigorous"
    return np.asarray(allowed_bid(plugged_share[None, :, None], np.ones(1), table, rigorous)[0])


def worst_ratio(instance: Instance, requirements: tuple[Requirement, ...]) -> float:
    """Smallest D / G over [0, 1], from below: 1 or more proves that no mean payment is above D (see the module).

    Args:
        instance: the fleet.
        requirements: as many as the instance has; D is what they allow.

    Returns:
        The ratio, infinite where nothing can be earned; 0 if the first requirement's coefficients are too large to
        compute with, or another is not the instance's with its power times the bid limit.
    """
    plain = tuple(_times(each, instance.bid_limit) for each in instance.requirements)
    if len(requirements) != len(plain) or requirements[1:] != plain[1:]:
        return 0.0
    if requirements[0] == plain[0]:  # D is the bid limit times the certified bid
        return 1.0
    each = requirements[0]
    table = coefficients(instance.game().replace(requirements=requirements[:1]))[0]
    if not (np.abs(table[:, 0]) * _WIDE * each.mean <= each.power_kw * instance.drivers).all():
        return 0.0
    cells = _cells(instance)
    if len(cells.need) == 0:
        return np.inf
    slope = discounted_bid(instance, requirements[:1], cells.left) / cells.left
    return float((slope / cells.need).min()) * (1.0 - MARGIN)


def best_fraction(instance: Instance) -> float:
    """Bid as a share of the certified one that earns most on average where drivers' answers lie.

    One fraction for all periods, as the environment has it, to a hundredth of the bid limit.
    """
    at, weight = _weights(instance)
    some = weight > 0.0
    certified = discounted_bid(instance, instance.requirements, at[some])
    fractions = instance.bid_limit * np.arange(1, _FRACTIONS + 1) / _FRACTIONS
    earned = expected_payment(instance, fractions[:, None] * certified, np.tile(at[some], (_FRACTIONS, 1)))
    return float(fractions[int((earned @ weight[some]).argmax())])


def _times(each: Requirement, factor: float) -> Requirement:
    """The requirement with bids multiplied by ``factor``."""
    return Requirement(each.power_kw * factor, each.eta, each.mean, each.forward, each.backward)


@lru_cache(maxsize=32)
def _cells(instance: Instance) -> _Cells:
    """Cells, finer towards 1, where q has an infinite slope, and below the first share at which something is bid.

    G is that of the delivery requirement alone, which allows no smaller bids than all together.
    """
    alone = instance.requirements[:1]
    near_0, near_1 = np.geomspace(1e-7, 0.1, _CELLS // 2), 1.0 - 2.0 ** -np.arange(13.0, 53.0)
    edges = np.unique(np.concatenate([near_0, np.linspace(0.0, 1.0, _CELLS + 1), near_1]))
    bids = edges[discounted_bid(instance, alone, edges) > 0.0]
    if len(bids):
        before = edges[edges < bids.min()].max()
        edges = np.unique(np.concatenate([edges, before + (bids.min() - before) * np.array([0.25, 0.5, 0.75])]))
    best = best_payment(instance, edges, instance.bid_limit * discounted_bid(instance, alone, edges))
    inside = best[1:] > 0.0
    left, right = np.maximum(edges[:-1][inside], 1e-300), edges[1:][inside]
    return _Cells(left, right, best[1:][inside] / right)


@lru_cache(maxsize=32)
def _weights(instance: Instance) -> tuple[Floats, Floats]:
    """Shares y (n,) and how often they may matter: between the answers to no and to the highest rebates, by price."""
    model = Model(instance)
    days, c = Days(model), model.constants
    at = (np.arange(500) + 0.5) / 500
    weight = np.zeros(len(at))
    price = instance.per_period(instance.base_price)
    for kind in range(2 * len(instance.plug_shares)):
        lowest, highest = np.full((1, instance.periods), c.levels[0]), c.levels[None, c.choices - 1]
        ends = [days.response(kind, rebates)[0][0] for rebates in (lowest, highest)]
        for low, high, pay in zip(np.minimum(*ends), np.maximum(*ends), price, strict=True):
            inside = (at >= low - 0.002) & (at <= high + 0.002)
            weight[inside] += pay / inside.sum()
    return at, weight


def _fitted(instance: Instance, cells: _Cells) -> Requirement | None:
    """The requirement whose first condition gives away least.

    For given a and c the smallest b follows from the cells: b <= (a - need)^2 - c q / y^2. Left is a search over a and
    c, on some of the cells; the caller scales the result up to all of them.
    """
    old = instance.requirements[0]
    a0, b0, c0 = coefficients(instance.game())[0, 0]
    if not (a0 > 0.0 and len(cells.need)):
        return None
    rigorous = instance.variant == "rigorous"
    at, weight = _weights(instance)
    some = np.unique(np.linspace(0, len(cells.need) - 1, _TRIED).astype(np.int64))
    need, left = cells.need[some], cells.left[some]
    q = np.array([spread(y, rigorous, False)[0] for y in left]) / left**2
    q_at = np.array([spread(y, rigorous, False)[0] for y in at])
    best = (np.inf, 1.0, 1.0, 1.0)
    low, high = np.array([0.4, 0.05]), np.array([1.6, 2.0])
    for _ in range(_ROUNDS):
        for t in np.linspace(low[0], high[0], _GRID):
            a, c = a0 * t, c0 * np.linspace(low[1], high[1], _GRID)
            room = a - need
            b = ((room**2)[None] - c[:, None] * q).min(axis=1) if room.min() > 0.0 else np.full(len(c), -1.0)
            beta2 = c * instance.drivers / np.maximum(a * a - b, 1e-300)
            valid = (b > 0.0) & (b < (1.0 - 2.0 * _WIDE) * a * a) & (beta2 > _LEAST) & (beta2 < _MOST)
            root = np.sqrt(np.maximum(b, 0.0)[:, None] * at**2 + c[:, None] * q_at)
            paid = np.where(valid, np.maximum(a * at - root, 0.0) @ weight, np.inf)
            k = int(paid.argmin())
            if paid[k] < best[0]:
                best = (float(paid[k]), t, float(c[k] / c0), float(b[k]))
        width = (high - low) * 0.2
        middle = np.array(best[1:3])
        low, high = np.maximum(middle - 0.5 * width, 0.01), middle + 0.5 * width
    if not np.isfinite(best[0]):
        return None
    return _requirement(instance, a0 * best[1], best[3], c0 * best[2], old)


def _requirement(instance: Instance, a: float, b: float, c: float, old: Requirement) -> Requirement:
    """The requirement with mean 1 whose first condition has these coefficients (see ``bids.coefficients``)."""
    rest = 1.0 - b / a**2
    beta = np.sqrt(c * instance.drivers / (a**2 * rest))
    forward = np.sqrt(b) / (a * beta)
    power = a * rest / instance.drivers
    eta = np.exp(-0.5 * beta**2)
    other = (1.0 - eta) / eta * np.sqrt(-2.0 * np.log1p(-eta))  # beta of the second condition
    backward = old.backward
    if abs(1.0 - (other * backward) ** 2) < 2.0 * _WIDE:
        backward *= 1.5
    return Requirement(float(power), float(eta), 1.0, float(forward), backward)
