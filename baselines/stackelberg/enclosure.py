"""Rigorous enclosures: the bid's coefficients, the drivers' response, and what a choice of rebates is worth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.interval import Interval, point
from baselines.stackelberg.program import Program
from baselines.stackelberg.spread_bounds import enclose_spread
from v2g_env.stackelberg.bids import coefficients
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import Game

__all__ = ["Worth", "bid_coefficients", "worth"]

Floats = NDArray[np.float64]


class Worth(NamedTuple):
    """Enclosures (low, high) of the market's payment [$], profit [$], drivers' mean utility [$], and objective."""

    income: tuple[float, float]
    profit: tuple[float, float]
    utility: tuple[float, float]
    objective: tuple[float, float]


def bid_coefficients(game: Game) -> list[list[tuple[float, Interval, Interval, Interval] | None]]:
    """Enclosures (sign, a, sqrt(b), sqrt(|c|)) per requirement and condition; None where a condition allows no bid.

    The bid is a A - sign sqrt(b A^2 + c Q) with a and c of the given sign (see ``v2g_env.stackelberg.bids``).
    """
    result: list[list[tuple[float, Interval, Interval, Interval] | None]] = []
    m = point(float(game.drivers))
    approximate = coefficients(game)
    for j, each in enumerate(game.requirements):
        eta, psi, mean = point(each.eta), point(each.power_kw), point(each.mean)
        rest = 1.0 - eta
        first = (-2.0 * eta.log()).sqrt(), each.forward
        second = rest / eta * (-2.0 * rest.log()).sqrt(), each.backward
        row: list[tuple[float, Interval, Interval, Interval] | None] = []
        for i, (beta, deviation) in enumerate((first, second)):
            gap = mean.square() - (beta * deviation).square()
            sign = float(np.sign(approximate[j, i, 0]))
            if sign == 0.0:
                row.append(None)
                continue
            width = gap if sign > 0.0 else -gap
            if not width.low > 0.0:
                raise ArithmeticError(f"requirement {j} = {each!r}; allowed: mean and beta x deviation apart")
            long = beta * deviation * psi * m / width
            row.append((sign, sign * (psi * m * mean / width), long, beta * psi * (m / width).sqrt()))
        result.append(row)
    return result


def _laplacian(program: Program, weight: Floats) -> Floats:
    matrix = np.zeros((program.nodes + 1, program.nodes + 1))
    tail, head = program.tail, np.where(program.head < 0, program.nodes, program.head)
    for place, sign in (((tail, tail), 1.0), ((head, head), 1.0), ((tail, head), -1.0), ((head, tail), -1.0)):
        np.add.at(matrix, place, sign * weight)
    return matrix[:-1, :-1]


def _lam(program: Program, rebate: Floats, price: Interval) -> Interval:
    zero = np.zeros(1)
    prices = Interval(np.append(price.low, zero), np.append(price.high, zero))
    return prices[program.head] - prices[program.tail] + program.mean + point(rebate)


def _share(program: Program, lam: Interval) -> Interval:
    """y(lam), which increases."""
    ends = []
    for value in (point(lam.low), point(lam.high)):
        r = (value.square() + point(program.deviation).square()).sqrt()
        size = Interval(np.abs(value.low), np.abs(value.high))
        small = 0.5 * point(program.deviation).square() / (r * (r + size))
        ends.append((small, 1.0 - small, value.low > 0.0))
    low = np.where(ends[0][2], ends[0][1].low, ends[0][0].low)
    high = np.where(ends[1][2], ends[1][1].high, ends[1][0].high)
    return Interval(np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0))


def _slopes(program: Program, lam: Interval) -> Interval:
    """dy/dlam = sigma^2 / (2 r^3), decreasing in |lam|."""
    inside = (lam.low <= 0.0) & (lam.high >= 0.0)
    near = np.where(inside, 0.0, np.minimum(np.abs(lam.low), np.abs(lam.high)))
    far = np.maximum(np.abs(lam.low), np.abs(lam.high))
    square = point(program.deviation).square()
    r = (Interval(near, far).square() + square).sqrt()
    return 0.5 * square / (r * r.square())


def _imbalance(program: Program, flow: Interval) -> Interval:
    """Gradient of the dual: f - B y at every node, (N,)."""
    low, high = np.zeros(program.nodes + 1), np.zeros(program.nodes + 1)
    size = np.zeros(program.nodes + 1)
    tail, head = program.tail, np.where(program.head < 0, program.nodes, program.head)
    np.add.at(low, head, flow.low)
    np.add.at(high, head, flow.high)
    np.subtract.at(low, tail, flow.high)
    np.subtract.at(high, tail, flow.low)
    np.add.at(size, head, 1.0)
    np.add.at(size, tail, 1.0)
    low[program.source] += 1.0
    high[program.source] += 1.0
    error = (size + 2.0) ** 2 * np.finfo(float).eps  # flows are at most 1, sums at most ``size``
    return Interval(low - error, high + error)[:-1]


def _prices(program: Program, rebate: Floats, price: Floats) -> Interval:
    """Enclosure of the true node prices by Krawczyk's test; raises ArithmeticError where it fails."""
    lam = _lam(program, rebate, point(price))
    residual = _imbalance(program, _share(program, lam))
    middle = _slopes(program, lam)
    try:
        inverse = np.linalg.inv(_laplacian(program, 0.5 * (middle.low + middle.high)))
    except np.linalg.LinAlgError:
        raise ArithmeticError(
            "response of the drivers = not enclosed; allowed: utilities on comparable scales"
        ) from None
    eps = 4.0 * (program.nodes + 4) * np.finfo(float).eps

    def product(values: Interval) -> tuple[Floats, Floats]:
        center, radius = 0.5 * (values.low + values.high), 0.5 * (values.high - values.low)
        size = np.abs(inverse) @ (radius * 1.0000001 + np.abs(center) * eps) * (1.0 + eps)
        return inverse @ center, size

    step, width = product(residual)
    radius = 4.0 * (np.abs(step) + width) + 1e-14 * (1.0 + np.abs(price))
    for _ in range(6):
        box = Interval(price - radius, price + radius)
        slopes = _slopes(program, _lam(program, rebate, box))
        center, spread = 0.5 * (slopes.low + slopes.high), 0.5 * (slopes.high - slopes.low) * 1.0000001
        matrix = _laplacian(program, center)
        off = np.abs(np.eye(program.nodes) - inverse @ matrix)
        off += eps * (np.abs(inverse) @ np.abs(matrix)) + np.abs(inverse) @ np.abs(_laplacian(program, spread))
        reach = np.abs(step) + width + off @ radius * (1.0 + eps)
        reach = reach * (1.0 + eps) + 1e-300
        if (reach < radius).all():
            return Interval(np.nextafter(price - reach, -np.inf), np.nextafter(price + reach, np.inf))
        radius = 3.0 * np.maximum(radius, reach)
    raise ArithmeticError("response of the drivers = not enclosed; allowed: utilities on comparable scales")


def worth(game: Game, program: Program, rebate: Floats) -> Worth:
    """What a rebate schedule (T,) [$ per period] is worth, enclosed.

    Raises:
        ArithmeticError: if the drivers' response cannot be enclosed.
    """
    arcs = arcs_of(game.classes)
    charged = program.period >= 0
    paid = np.where(charged, rebate[program.period], 0.0)
    price = _prices(program, paid, respond(arcs, rebate[None]).price[0])
    flow = _share(program, _lam(program, paid, price))
    income = _income(game, program, flow)
    cost = (point(program.weight) * flow * paid * program.drivers)[charged].sum()
    profit = income - cost
    q = flow * (1.0 - flow)
    gain = (point(program.mean) + paid) * flow + point(program.deviation) * q.sqrt()
    utility = (point(program.weight) * gain).sum()
    total = profit
    if game.owner == "drivers":
        total = utility + profit / (point(game.kappa) * float(game.drivers))
    ends = [(float(each.low), float(each.high)) for each in (income, profit, utility, total)]
    return Worth(*ends)


def _income(game: Game, program: Program, flow: Interval) -> Interval:
    """Payments of all periods."""
    rows = bid_coefficients(game)
    total = point(0.0)
    for t in range(game.periods):
        plugged: list[Interval] = []
        for k in range(len(program.share)):
            chosen = np.flatnonzero((program.period == t) & (program.group == k))
            part = flow[chosen].sum() if len(chosen) else point(0.0)
            plugged.append(Interval(max(float(part.low), 0.0), min(float(part.high), 1.0)))
        amount, sums = point(0.0), [point(0.0), point(0.0)]
        for share, y in zip(program.share, plugged, strict=True):
            amount = amount + float(share) * y
            for side in (0, 1):
                q = enclose_spread((float(y.low), float(y.high)), program.rigorous, side == 1)[0]
                sums[side] = sums[side] + float(share) * Interval(q[0], q[1])
        bids = []
        for conditions in rows:
            best = point(0.0)
            for side, coefficient in enumerate(conditions):
                if coefficient is None:
                    continue
                sign, a, root_b, root_c = coefficient
                square = (root_b * amount).square() + sign * root_c.square() * sums[side]
                bid = a * amount - sign * square.sqrt()
                best = Interval(
                    np.maximum(best.low, np.where(square.low < 0.0, 0.0, bid.low)), np.maximum(best.high, bid.high)
                )
            bids.append(best)
        lowest = bids[0]
        for other in bids[1:]:
            lowest = Interval(np.minimum(lowest.low, other.low), np.minimum(lowest.high, other.high))
        total = total + point(program.price[t]) * lowest
    return total
