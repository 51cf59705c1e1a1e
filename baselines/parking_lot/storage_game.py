"""Prosumers compete for the lot's storage: equilibria with a proven epsilon, and what competition costs.

Prosumer i charges u_it and discharges v_it [kW], 0 <= u, v <= his share of the chargers, and takes q_it = u_it - v_it -
net_it from the grid. Storage is shared: x_it = x_i,t-1 + tau (eta u_it - v_it / eta) >= 0, sum_i x_it <= K_t (certain
capacity), all empty at the end. Together they move the price, p_t + a Q_t with Q = sum_i q_i [$/kWh], and i pays

    J_i = tau sum_t [ (p_t + a Q_t) q_it + wear (u_it + v_it) ].

The game has the exact potential tau sum_t [ p Q + a/2 (Q^2 + sum_i q_i^2) + wear sum_i (u_i + v_i) ] (Monderer and
Shapley 1996): its minimum over all plans that keep the shared limits is the variational equilibrium, with one price of
storage for everybody. The social optimum minimises sum_i J_i. Both are convex quadratic programs.

An equilibrium is certified by bounds on best responses: given the others, i cannot pay less than a Lagrangian with any
multipliers of his storage, whose minimum over (u, v) of a step is read off (four edges of a square). epsilon is the
largest difference between what a prosumer pays and that bound: nobody can gain more by deviating alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bmat, csr_matrix, diags, eye, kron

from baselines.parking_lot.prosumers import Prosumers, certain_capacity
from baselines.solve import ConicProgram
from v2g_env.core.validate import array, number, require
from v2g_env.parking_lot.instance import Instance

__all__ = [
    "Equilibrium",
    "StorageGame",
    "certified",
    "checked_plan",
    "equilibrium",
    "response_bounds",
    "storage_game",
]

Floats = NDArray[np.float64]

_SLACK = 1e-6  # kWh or kW by which a plan may miss a limit


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


class Equilibrium(NamedTuple):
    """A plan of all prosumers.

    Attributes:
        charge_kw, discharge_kw: (n, T).
        costs_usd: (n,) what each pays.
        epsilon_usd: (n,) what each could save at most by deviating alone, proven.
        multipliers: (n, 2 T) that prove it: of own stored energy, and of the shared limit.
    """

    charge_kw: Floats
    discharge_kw: Floats
    costs_usd: Floats
    epsilon_usd: Floats
    multipliers: Floats


def storage_game(
    instance: Instance, crowd: Prosumers, slope: float = 5e-4, n_samples: int = 2000, seed: int = 1
) -> StorageGame:
    """The game of a crowd on the default day of a lot.

    Args:
        instance: the lot; retail prices are p, its chargers are shared like its storage.
        crowd: shares of panels, load and chargers.
        slope: a [$/kWh per kW]: how the price moves with what all take from the grid.
        n_samples: sampled days whose least capacity is the storage.
        seed: of the days.
    """
    number("slope", slope, 0.0, 1e3, open_low=True)
    energy, power = certain_capacity(instance, n_samples, seed)
    return StorageGame(
        crowd.net_kw(instance),
        crowd.storage[:, None] * power,
        energy,
        instance.buy,
        float(slope),
        instance.wear_usd_per_kwh,
        instance.efficiency,
        instance.step_h,
    )


def equilibrium(game: StorageGame, social: bool = False) -> Equilibrium:
    """The variational equilibrium, or the plan with the least total cost, with every prosumer's proven epsilon.

    Args:
        game: the data.
        social: True for the social optimum: its epsilons say how far it is from an equilibrium.

    Raises:
        InvalidInputError: for data that are no game.
        SolverError: if a program fails.
    """
    _check(game)
    n, steps = game.net_kw.shape
    tau, a = game.step_h, game.slope
    size = n * steps
    # columns: u, v, own q (n, T each), Q (T), stored x (n, T)
    own = 0.0 if social else tau * a
    quadratic = np.concatenate(
        [np.zeros(2 * size), np.full(size, own), np.full(steps, tau * a * (2 if social else 1)), np.zeros(size)]
    )
    cost = np.concatenate([np.full(2 * size, tau * game.wear), np.zeros(size), tau * game.price, np.zeros(size)])
    unit, none = eye(size), csr_matrix((size, steps))
    total = kron(np.ones((1, n)), eye(steps))
    back = kron(eye(n), diags([1.0, -1.0], [0, -1], shape=(steps, steps)))
    last = kron(eye(n), csr_matrix(np.eye(1, steps, steps - 1)))
    zeros = bmat(
        [
            [unit, -unit, -unit, none, None],
            [None, None, total, -eye(steps), csr_matrix((steps, size))],
            [-tau * game.efficiency * unit, tau / game.efficiency * unit, None, none, back],
            [None, None, csr_matrix((n, size)), csr_matrix((n, steps)), last],
        ]
    )
    rows = bmat([[csr_matrix((steps, 3 * size + steps)), total]])
    right = np.concatenate([game.net_kw.ravel(), np.zeros(steps + size + n), game.capacity_kwh])
    matrix = csr_matrix(bmat([[zeros], [rows]]))
    program = ConicProgram(cost, quadratic, matrix, right, zeros.shape[0], steps, [])
    most = float(np.abs(game.net_kw).sum() + game.power_kw.sum()) + 1.0
    top = float(game.capacity_kwh.max()) + 1.0
    lower = np.concatenate([np.zeros(2 * size), np.full(size + steps, -most), np.zeros(size)])
    upper = np.concatenate([np.tile(game.power_kw.ravel(), 2), np.full(size + steps, most), np.full(size, top)])
    given = np.concatenate([np.ones(2 * size, bool), np.zeros(size + steps, bool), np.ones(size, bool)])
    point = program.solve(lower, upper, given).point
    u, v = (np.clip(part.reshape(n, steps), 0.0, game.power_kw) for part in (point[:size], point[size : 2 * size]))
    return certified(game, u, v)


def certified(game: StorageGame, charge_kw: Floats, discharge_kw: Floats) -> Equilibrium:
    """Any plan with its proven epsilons: multipliers from each prosumer's own program, the others held.

    Raises:
        InvalidInputError: for a plan beyond the limits.
        SolverError: if a program fails.
    """
    _check(game)
    u, v = checked_plan(game, charge_kw, discharge_kw)
    room = _room(game, u, v)
    found = np.stack([_response(game, i, u, v, room[i]) for i in range(len(u))])
    costs = game.costs_usd(u, v)
    lower = response_bounds(game, u, v, found)
    return Equilibrium(u, v, costs, np.maximum(costs - lower, 0.0), found)


def _check(game: StorageGame) -> None:
    net = array("net_kw", game.net_kw, (None, None))
    n, steps = net.shape
    require(n >= 1 and steps >= 2, "prosumers and steps", (n, steps), "at least 1 and 2")
    array("power_kw", game.power_kw, (n, steps), 0.0)
    array("capacity_kwh", game.capacity_kwh, (steps,), 0.0)
    array("price", game.price, (steps,))
    number("slope", game.slope, 0.0, np.inf, open_low=True)
    number("wear", game.wear, 0.0)
    number("efficiency", game.efficiency, 0.0, 1.0, open_low=True)
    number("step_h", game.step_h, 0.0, np.inf, open_low=True)


def checked_plan(game: StorageGame, charge_kw: Floats, discharge_kw: Floats) -> tuple[Floats, Floats]:
    """The plan as float64, if it keeps all limits; else InvalidInputError."""
    shape = game.net_kw.shape
    u, v = array("charge_kw", charge_kw, shape, 0.0), array("discharge_kw", discharge_kw, shape, 0.0)
    for name, power in (("charge_kw", u), ("discharge_kw", v)):
        require(
            bool((power <= game.power_kw + _SLACK).all()), name, float(power.max()), "within each prosumer's chargers"
        )
    stored = game.stored_kwh(u, v)
    require(bool((stored >= -_SLACK).all()), "stored energy", float(stored.min()), "not negative")
    require(bool((np.abs(stored[:, -1]) <= _SLACK).all()), "stored energy at the end", stored[:, -1].tolist(), "0")
    over = float((stored.sum(axis=0) - game.capacity_kwh).max())
    require(over <= _SLACK, "stored energy beyond the capacity", over, "0")
    return u, v


def _room(game: StorageGame, u: Floats, v: Floats) -> Floats:
    """(n, T) storage that the others leave, at least what a prosumer uses himself [kWh]."""
    stored = game.stored_kwh(u, v)
    return np.asarray(np.maximum(game.capacity_kwh - (stored.sum(axis=0) - stored), np.maximum(stored, 0.0)))


def _response(game: StorageGame, i: int, u: Floats, v: Floats, room: Floats) -> Floats:
    """Multipliers (2 T,) of a prosumer's best response: of x >= 0 and the balance, and of the shared limit."""
    steps = len(room)
    tau, a = game.step_h, game.slope
    others = game.taken_kw(u, v).sum(axis=0) - game.taken_kw(u, v)[i]
    # columns u, v, q; rows: q = u - v - net; empty at the end; then x >= 0 and x <= room
    cost = tau * np.concatenate([np.full(2 * steps, game.wear), game.price + a * others])
    quadratic = np.concatenate([np.zeros(2 * steps), np.full(steps, 2.0 * tau * a)])
    unit = np.eye(steps)
    build = tau * np.tril(np.ones((steps, steps)))
    store = np.hstack([game.efficiency * build, -build / game.efficiency, np.zeros((steps, steps))])
    matrix = np.vstack([np.hstack([unit, -unit, -unit]), store[-1:], -store[:-1], store[:-1]])
    right = np.concatenate([game.net_kw[i], [0.0], np.zeros(steps - 1), room[:-1]])
    most = float(np.abs(game.net_kw[i]).max() + game.power_kw[i].max()) + 1.0
    lower = np.concatenate([np.zeros(2 * steps), np.full(steps, -most)])
    upper = np.concatenate([game.power_kw[i], game.power_kw[i], np.full(steps, most)])
    program = ConicProgram(cost, quadratic, csr_matrix(matrix), right, steps + 1, 2 * (steps - 1), [])
    given = np.concatenate([np.ones(2 * steps, bool), np.zeros(steps, bool)])
    dual = program.solve(lower, upper, given).dual
    low, high = np.split(np.maximum(dual[steps + 1 :], 0.0), 2)
    return np.concatenate([low, [dual[steps]], high, [0.0]])


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
    terms = np.concatenate([best, -high * _room(game, u, v)], axis=1)
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
