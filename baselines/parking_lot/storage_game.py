"""Prosumers compete for the lot's storage: equilibria with a proven epsilon, and what competition costs.

Prosumer i charges u_it and discharges v_it [kW], 0 <= u, v <= his share of the chargers, and takes q_it = u_it - v_it -
net_it from the grid. Storage is shared: x_it = x_i,t-1 + tau (eta u_it - v_it / eta) >= 0, sum_i x_it <= K_t (certain
capacity), all empty at the end. Together they move the price, p_t + a Q_t with Q = sum_i q_i [$/kWh], and i pays

    J_i = tau sum_t [ (p_t + a Q_t) q_it + wear (u_it + v_it) ].

The game has the exact potential tau sum_t [ p Q + a/2 (Q^2 + sum_i q_i^2) + wear sum_i (u_i + v_i) ] (Monderer and
Shapley 1996): its minimum over all plans that keep the shared limits is the variational equilibrium, with one price of
storage for everybody. The social optimum minimises sum_i J_i. Both are convex quadratic programs.

How much the best plan of all must cost is bounded the same way: with a price theta_t for what all take and prices of
stored energy, everything separates (``total_bound``).

An equilibrium is certified by bounds on best responses: given the others, i cannot pay less than a Lagrangian with any
multipliers of his storage, whose minimum over (u, v) of a step is read off (four edges of a square). epsilon is the
largest difference between what a prosumer pays and that bound: nobody can gain more by deviating alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bmat, csr_matrix, diags, eye, kron

from baselines.games.variational import Solved, extragradient
from baselines.parking_lot.prosumers import Prosumers, certain_capacity
from baselines.parking_lot.storage_bounds import StorageGame, response_bounds, room_kwh, total_bound
from baselines.solve import ConicProgram
from v2g_env.core.validate import array, number, require
from v2g_env.parking_lot.instance import Instance

__all__ = [
    "Equilibrium",
    "Optimum",
    "by_gradients",
    "certified",
    "checked_plan",
    "equilibrium",
    "social_optimum",
    "storage_game",
]

Floats = NDArray[np.float64]

_SLACK = 1e-6  # kWh or kW by which a plan may miss a limit


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


class Optimum(NamedTuple):
    """The plan with the least total cost, and a proof.

    Attributes:
        plan: with its costs, and epsilons that say how far it is from an equilibrium.
        bound_usd: proven lower limit on the total cost of any plan.
        taken, stored, limit: (T,), (n, T), (T,) multipliers that prove it, see ``total_bound``.
    """

    plan: Equilibrium
    bound_usd: float
    taken: Floats
    stored: Floats
    limit: Floats


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


def equilibrium(game: StorageGame) -> Equilibrium:
    """The variational equilibrium, with every prosumer's proven epsilon.

    Raises:
        InvalidInputError: for data that are no game.
        SolverError: if a program fails.
    """
    _check(game)
    u, v, _ = _program(game, social=False)
    return certified(game, u, v)


def social_optimum(game: StorageGame) -> Optimum:
    """The plan with the least total cost, and its bound; errors as ``equilibrium``."""
    _check(game)
    n, steps = game.net_kw.shape
    u, v, dual = _program(game, social=True)
    size = n * steps
    taken, stored = dual[size : size + steps], -dual[size + steps : 2 * size + steps].reshape(n, steps)
    limit = np.maximum(dual[2 * size + steps + n :], 0.0)
    return Optimum(certified(game, u, v), total_bound(game, taken, stored, limit), taken, stored, limit)


def _program(game: StorageGame, social: bool) -> tuple[Floats, Floats, Floats]:
    """Charge, discharge (n, T) and multipliers of the rows: potential, or total cost, over all plans."""
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
    found = program.solve(lower, upper, given)
    parts = found.point[:size], found.point[size : 2 * size]
    u, v = (np.clip(part.reshape(n, steps), 0.0, game.power_kw) for part in parts)
    return u, v, found.dual


def by_gradients(game: StorageGame, tolerance: float = 1e-4, most: int = 500) -> tuple[Equilibrium, Solved]:
    """The variational equilibrium from the players' gradients alone, by extragradient steps; a second witness.

    Every step projects on the plans that keep all limits, a quadratic program: for ten prosumers or so. It needs no
    potential, and states its natural residual [kW]; on whole days the projections' accuracy keeps that at 1e-4 to 1e-2.

    Args:
        game: the data.
        tolerance: of the residual.
        most: steps.
    """
    _check(game)
    n, steps = game.net_kw.shape
    size, tau, eta = n * steps, game.step_h, game.efficiency
    build = kron(eye(n), csr_matrix(tau * np.tril(np.ones((steps, steps)))))
    store = csr_matrix(bmat([[eta * build, -build / eta]]))
    last = store[steps - 1 :: steps]
    shared = csr_matrix(kron(np.ones((1, n)), eye(steps)) @ store)
    matrix = csr_matrix(bmat([[last], [-store], [shared]]))
    right = np.concatenate([np.zeros(n + size), game.capacity_kwh])
    top = np.tile(game.power_kw.ravel(), 2)
    every = np.ones(2 * size, bool)

    def project(point: Floats) -> Floats:
        program = ConicProgram(-point, np.ones(2 * size), matrix, right, n, size + steps, [])
        return np.clip(program.solve(np.zeros(2 * size), top, every).point, 0.0, top)

    def operator(point: Floats) -> Floats:
        u, v = point.reshape(2, n, steps)
        return np.concatenate([part.ravel() for part in game.gradient(u, v)])

    found = extragradient(operator, project, np.zeros(2 * size), tolerance, most, 1.0 / (game.slope * (n + 1) * tau))
    u, v = found.point.reshape(2, n, steps)
    return certified(game, u, v), found


def certified(game: StorageGame, charge_kw: Floats, discharge_kw: Floats) -> Equilibrium:
    """Any plan with its proven epsilons: multipliers from each prosumer's own program, the others held.

    Raises:
        InvalidInputError: for a plan beyond the limits.
        SolverError: if a program fails.
    """
    _check(game)
    u, v = checked_plan(game, charge_kw, discharge_kw)
    room = room_kwh(game, u, v)
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
