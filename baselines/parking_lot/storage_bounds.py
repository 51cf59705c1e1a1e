"""The storage game's data, and proven limits of what a prosumer, and all together, must pay; no solver."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["StorageGame", "response_bounds", "room_kwh", "total_bound"]

Floats = NDArray[np.float64]


class StorageGame(NamedTuple):
    """The game's data: n prosumers, T steps.

    Attributes:
        net_kw: (n, T) generation minus load.
        power_kw: (n, T) limit on u and on v.
        capacity_kwh: (T,) shared storage.
        price: (T,) p [$/kWh].
        slope: a [$/kWh per kW], positive.
        wear: [$/kWh].
        efficiency, step_h: eta, tau.
    """

    net_kw: Floats
    power_kw: Floats
    capacity_kwh: Floats
    price: Floats
    slope: float
    wear: float
    efficiency: float
    step_h: float

    def taken_kw(self, charge_kw: Floats, discharge_kw: Floats) -> Floats:
        """(n, T) q."""
        return np.asarray(charge_kw - discharge_kw - self.net_kw)

    def stored_kwh(self, charge_kw: Floats, discharge_kw: Floats) -> Floats:
        """(n, T) x at the end of every step."""
        gain = self.efficiency * charge_kw - discharge_kw / self.efficiency
        return np.asarray(self.step_h * np.cumsum(gain, axis=1))

    def costs_usd(self, charge_kw: Floats, discharge_kw: Floats) -> Floats:
        """(n,) J."""
        q = self.taken_kw(charge_kw, discharge_kw)
        price = self.price + self.slope * q.sum(axis=0)
        paid = (price * q + self.wear * (charge_kw + discharge_kw)).sum(axis=1)
        return np.asarray(self.step_h * paid)

    def gradient(self, charge_kw: Floats, discharge_kw: Floats) -> tuple[Floats, Floats]:
        """Own gradients of J by own u and v, each (n, T): the operator of the variational inequality."""
        q = self.taken_kw(charge_kw, discharge_kw)
        own = self.step_h * (self.price + self.slope * (q.sum(axis=0) + q))
        return own + self.step_h * self.wear, -own + self.step_h * self.wear


def room_kwh(game: StorageGame, u: Floats, v: Floats) -> Floats:
    """(n, T) storage that the others leave, at least what a prosumer uses himself [kWh]."""
    stored = game.stored_kwh(u, v)
    return np.asarray(np.maximum(game.capacity_kwh - (stored.sum(axis=0) - stored), np.maximum(stored, 0.0)))


def response_bounds(game: StorageGame, charge_kw: Floats, discharge_kw: Floats, multipliers: Floats) -> Floats:
    """(n,) what each prosumer pays at least, the others held at a plan, proven by any multipliers (n, 2 T) [$].

    The first T belong to x_t >= 0, and to the empty end; the others to the shared limit; signs are taken care of.
    """
    u, v = charge_kw, discharge_kw
    n, steps = u.shape
    tau, a, eta = game.step_h, game.slope, game.efficiency
    low, high = multipliers[:, :steps].copy(), np.maximum(multipliers[:, steps:], 0.0)
    low[:, :-1] = np.maximum(low[:, :-1], 0.0)
    high[:, -1] = 0.0
    weight = high - low
    weight[:, -1] = low[:, -1]
    # sum_t weight_t x_t = sum_s (tail of weight from s) tau (eta u_s - v_s / eta)
    tail = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
    q = game.taken_kw(u, v)
    others = q.sum(axis=0) - q
    slope_u = tau * (game.wear + eta * tail)
    slope_v = tau * (game.wear - tail / eta)
    base = tau * (game.price + a * others)
    best = _square(tau * a, base, slope_u, slope_v, game.net_kw, game.power_kw)
    terms = np.concatenate([best, -high * room_kwh(game, u, v)], axis=1)
    error = (terms.shape[1] + 40) * np.finfo(float).eps
    size = np.abs(terms) + np.concatenate([np.abs(base) * (np.abs(game.net_kw) + game.power_kw)] * 2, axis=1)
    return np.asarray(terms.sum(axis=1) - error * size.sum(axis=1))


def _square(curve: float, base: Floats, by_u: Floats, by_v: Floats, net: Floats, power: Floats) -> Floats:
    """Least over 0 <= u, v <= power of curve q^2 + base q + by_u u + by_v v with q = u - v - net, entry by entry.

    Along (1, 1) the function is linear, so the minimum lies on an edge of the square, where it is a parabola.
    """

    def at(u: Floats, v: Floats) -> Floats:
        q = u - v - net
        return np.asarray(curve * q**2 + base * q + by_u * u + by_v * v)

    found = []
    for edge in (np.zeros_like(power), power):
        best_u = np.clip(edge + net - (base + by_u) / (2.0 * curve), 0.0, power)
        best_v = np.clip(edge - net + (base - by_v) / (2.0 * curve), 0.0, power)
        found += [at(best_u, edge), at(edge, best_v)]
    return np.asarray(np.minimum.reduce(found))


def total_bound(game: StorageGame, taken: Floats, stored: Floats, limit: Floats) -> float:
    """Proven lower limit on the total cost of any plan [$], from any multipliers.

    Args:
        game: the data.
        taken: (T,) price of what all take from the grid [$ per kW].
        stored: (n, T) worth of a prosumer's stored energy, sign changed; what would pay for storing less than nothing
            is cut off.
        limit: (T,) price of the shared limit [$/kWh]; negative ones count as zero, and so does the last.
    """
    tau, a, eta = game.step_h, game.slope, game.efficiency
    high = np.maximum(limit, 0.0)
    high[-1] = 0.0
    following = np.concatenate([stored[:, 1:], np.zeros((len(stored), 1))], axis=1)
    weight = np.minimum(stored - following, high)  # the part below is the multiplier of x >= 0
    weight[:, -1] = stored[:, -1]
    tail = np.cumsum(weight[:, ::-1], axis=1)[:, ::-1]
    by_u = tau * (game.wear + eta * tail) + taken
    by_v = tau * (game.wear - tail / eta) - taken
    away = taken - tau * game.price
    terms = [
        (-(away**2) / (4.0 * tau * a)).ravel(),
        (np.minimum(by_u, 0.0) * game.power_kw).ravel(),
        (np.minimum(by_v, 0.0) * game.power_kw).ravel(),
        (-taken * game.net_kw).ravel(),
        (-high * game.capacity_kwh).ravel(),
    ]
    every = np.concatenate(terms)
    rough = (
        np.abs(every).sum() + (np.abs(taken) * game.power_kw).sum() + (np.abs(tail) * game.power_kw * tau / eta).sum()
    )
    return float(every.sum() - (len(every) + 40) * np.finfo(float).eps * rough)
