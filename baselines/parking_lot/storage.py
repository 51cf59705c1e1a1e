"""Exact optimum of one storage path: concave piecewise-linear dynamic programming, no solver.

    max sum_t phi_t(x_t - x_{t-1}) - tie_t x_t   s.t.  0 <= x_t <= K_t,  charging and discharging power <= P_t,
    x_{T-1} = 0

phi_t is the money of changing the stored energy by merit order [$]: concave and piecewise linear with at most four
pieces. The value function is then concave and piecewise linear too: one step back merges two lists of slopes
(supremal convolution) and cuts the result to [0, K]. Exact up to rounding, microseconds for a day; its slopes give
the multipliers lambda of the energy balance, from which ``bound`` computes a proven upper limit for any lambda
whatsoever (weak duality).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.path_kernel import walk_paths
from v2g_env.core.validate import InvalidInputError, array
from v2g_env.parking_lot.instance import Instance

__all__ = [
    "Market",
    "Path",
    "bound",
    "drainable",
    "piece_lengths",
    "plan_money",
    "slopes_usd_per_kwh",
    "solve_paths",
    "tie_break",
]

Floats = NDArray[np.float64]

_TIE_USD_PER_KWH = 1e-7
_GOLDEN = 0.6180339887498949


class Market(NamedTuple):
    """What a step's exchanges cost, one row per path (or one for all).

    Attributes:
        buy: (T,) retail price [$/kWh].
        surplus_kw, deficit_kw: (n, T) offers of the community [kW]; never both positive in one step.
    """

    buy: Floats
    surplus_kw: Floats
    deficit_kw: Floats


class Path(NamedTuple):
    """Optimal paths, n rows.

    Attributes:
        stored_kwh: (n, T) x [kWh].
        value_usd: (n,) objective without the tie-break [$].
        multiplier: (n, T) lambda_t of x_t - x_{t-1} = Delta_t [$/kWh].
    """

    stored_kwh: Floats
    value_usd: Floats
    multiplier: Floats


def tie_break(steps: int) -> Floats:
    """Tiny storage fees, different in every step, that make the optimum unique: (T,) [$/kWh].

    At most 2e-7 $/kWh, so they cost less than a cent a day and decide only between plans of equal money.
    """
    return np.asarray(_TIE_USD_PER_KWH * (1.0 + np.modf(_GOLDEN * np.arange(1, steps + 1))[0]))


def slopes_usd_per_kwh(instance: Instance, buy: Floats) -> Floats:
    """Money per kWh taken out of storage in the four pieces of psi(w) = phi(-w), (T, 4), decreasing along a row."""
    eta, wear = instance.efficiency, instance.wear_usd_per_kwh
    return np.stack(
        [
            (buy + wear) / eta,
            (instance.fee_fraction * buy + wear) / eta,
            eta * (instance.return_fraction * buy - wear),
            eta * (instance.sell_fraction * buy - wear),
        ],
        axis=-1,
    )


def piece_lengths(instance: Instance, market: Market, power_kw: Floats) -> Floats:
    """Energy in the four pieces (retail charging, surplus, deficit, retail selling), (n, T, 4) [kWh]."""
    eta, tau, grid = instance.efficiency, instance.step_h, instance.grid_limit_kw
    taken = np.minimum(power_kw, market.surplus_kw)
    bought = np.minimum(power_kw, market.surplus_kw + grid) - taken
    returned = np.minimum(power_kw, market.deficit_kw)
    sold = np.minimum(power_kw, market.deficit_kw + grid) - returned
    return np.stack([bought * eta * tau, taken * eta * tau, returned * tau / eta, sold * tau / eta], axis=-1)


def solve_paths(
    instance: Instance,
    market: Market,
    capacity_kwh: Floats,
    power_kw: Floats | None = None,
    start_kwh: Floats | None = None,
) -> Path:
    """Optimal stored energy for n paths at once.

    Args:
        instance: prices' fractions, losses, limits.
        market: prices and offers.
        capacity_kwh: (n, T) K; the last step is emptied whatever it says.
        power_kw: (n, T) P; None for no limit besides K (which implies the chargers' limits under the executable quota).
        start_kwh: (n,) energy stored before the first step, default 0.

    Returns:
        The optimal paths, unique thanks to tie_break.

    Raises:
        InvalidInputError: wrong shapes, NaN, negative capacities, both offers positive, or a start that no path leads
            down to zero.
    """
    capacity = array("capacity_kwh", capacity_kwh, (None, len(market.buy)), 0.0)
    n, steps = capacity.shape
    surplus = np.broadcast_to(market.surplus_kw, (n, steps))
    deficit = np.broadcast_to(market.deficit_kw, (n, steps))
    if (np.minimum(surplus, deficit) > 0.0).any():
        raise InvalidInputError("offers = surplus and deficit both positive in one step; allowed: one of them is zero")
    power = np.full((n, steps), np.inf) if power_kw is None else array("power_kw", power_kw, (n, steps), 0.0)
    start = np.zeros(n) if start_kwh is None else array("start_kwh", start_kwh, (n,), 0.0)
    slopes = slopes_usd_per_kwh(instance, market.buy)
    lengths = piece_lengths(instance, Market(market.buy, surplus, deficit), power)
    capacity[:, -1] = 0.0
    stored, multiplier, ok = walk_paths(capacity, lengths, slopes, start, tie_break(steps))
    if not ok.all():
        row = int(np.flatnonzero(~ok)[0])
        raise InvalidInputError(
            f"start_kwh[{row}] = {start[row]}; allowed: energy that can be taken out within the power and grid limits"
        )
    value = plan_money(instance, Market(market.buy, surplus, deficit), stored, start)
    return Path(stored, value, multiplier)


def drainable(instance: Instance, market: Market, capacity_kwh: Floats) -> Floats:
    """Most energy (n,) [kWh] that can be stored before the first step and still be brought within K and to zero."""
    n, steps = capacity_kwh.shape
    shape = (n, steps)
    filled = Market(market.buy, np.broadcast_to(market.surplus_kw, shape), np.broadcast_to(market.deficit_kw, shape))
    drain = piece_lengths(instance, filled, np.full(shape, np.inf))[..., 2:].sum(axis=-1)
    most = np.zeros(n)
    for t in range(steps - 1, -1, -1):
        held = capacity_kwh[:, t] if t < steps - 1 else np.zeros(n)
        most = np.minimum(held, most if t < steps - 1 else held) + drain[:, t]
    return np.asarray(most)


def plan_money(instance: Instance, market: Market, stored_kwh: Floats, start_kwh: Floats | None = None) -> Floats:
    """Money of paths under the merit order, (n,) [$]: fee, return, retail and wear; no redistribution, no imbalance."""
    stored = np.atleast_2d(stored_kwh)
    start = np.zeros(len(stored)) if start_kwh is None else start_kwh
    change = np.diff(stored, axis=1, prepend=start[:, None])
    eta, tau, wear = instance.efficiency, instance.step_h, instance.wear_usd_per_kwh
    charge = np.maximum(change, 0.0) / eta
    discharge = np.maximum(-change, 0.0) * eta
    taken = np.minimum(charge, market.surplus_kw * tau)
    returned = np.minimum(discharge, market.deficit_kw * tau)
    price = (
        instance.return_fraction * returned
        + instance.sell_fraction * (discharge - returned)
        - instance.fee_fraction * taken
        - (charge - taken)
    )
    return np.asarray((market.buy * price - wear * (charge + discharge)).sum(axis=1))


def bound(
    instance: Instance,
    market: Market,
    capacity_kwh: Floats,
    power_kw: Floats | None,
    multiplier: Floats,
    tie: Floats | None = None,
    start_kwh: Floats | None = None,
    row_price: Floats | None = None,
) -> Floats:
    """Proven upper limit on the objective of every feasible path, (n,) [$], from any multipliers (n, T).

    Weak duality with the balance priced at lambda: sum_t max_D [phi_t(D) - lambda_t D] + sum_t K_t max(0, lambda_t -
    lambda_{t+1} - tie_t). Both maxima are attained at end points and evaluated there; the result is rounded up by the
    a-priori error of its floating-point sums, so it is a bound in exact arithmetic too.

    Args:
        instance: as for solve_paths.
        market: as for solve_paths.
        capacity_kwh: (n, T) K.
        power_kw: (n, T) P; None means no limit besides the grid's.
        multiplier: lambda (n, T).
        tie: (T,) fees of tie_break; None for the plain objective.
        start_kwh: (n,) energy stored before the first step, default 0.
        row_price: (3, T) prices charged for stored energy [$/kWh], charging and discharging power [$/kW] (multipliers
            of further rows, whose right-hand sides the caller adds); none if None.
    """
    lam = np.atleast_2d(multiplier)
    n, steps = lam.shape
    fees = np.zeros(steps) if tie is None else tie
    power = np.full((1, steps), np.inf) if power_kw is None else np.atleast_2d(power_kw)
    shape = (n, steps)
    filled = Market(market.buy, np.broadcast_to(market.surplus_kw, shape), np.broadcast_to(market.deficit_kw, shape))
    lengths = piece_lengths(instance, filled, np.broadcast_to(power, shape))
    prices = np.zeros((3, steps)) if row_price is None else row_price
    eta, tau = instance.efficiency, instance.step_h
    extra = np.stack([prices[1] / (eta * tau)] * 2 + [-prices[2] * eta / tau] * 2, axis=-1)
    gains = (slopes_usd_per_kwh(instance, market.buy) + extra)[None] + lam[..., None]
    # psi(w) + lambda w over w: charging pieces are worth running while their slope is below -lambda, and conversely
    exchange = np.concatenate(
        [np.maximum(-gains[..., :2], 0.0) * lengths[..., :2], np.maximum(gains[..., 2:], 0.0) * lengths[..., 2:]], -1
    ).reshape(n, -1)
    capacity = np.array(np.broadcast_to(capacity_kwh, shape), dtype=np.float64)
    capacity[:, -1] = 0.0
    following = np.concatenate([lam[:, 1:], np.zeros((n, 1))], axis=1)
    holding = capacity * np.maximum(lam - following - fees - prices[0], 0.0)
    first = np.zeros(n) if start_kwh is None else -lam[:, 0] * start_kwh
    terms = np.concatenate([exchange, holding, first[:, None]], axis=1)
    # every term carries a few roundings of its factors, the sum n more: gamma_m = m u / (1 - m u), Higham 2002, ch. 3
    scale = np.abs(terms) + _roundoff_scale(lam, following, lengths, capacity, gains)
    slack = (terms.shape[1] + 24) * np.finfo(float).eps * scale.sum(axis=1)
    return np.asarray(np.nextafter(terms.sum(axis=1) + slack, np.inf))


def _roundoff_scale(lam: Floats, following: Floats, lengths: Floats, capacity: Floats, gains: Floats) -> Floats:
    """Size of the subtracted quantities in each term, (n, 1): cancellation there costs absolute accuracy."""
    size = (np.abs(lam) + np.abs(following)) * capacity
    price = (np.abs(gains) + 2.0 * np.abs(lam[..., None])) * lengths
    return np.asarray((size.sum(axis=1) + price.sum(axis=(1, 2)))[:, None])
