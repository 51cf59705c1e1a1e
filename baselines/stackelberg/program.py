"""The leader's problem of one game as arrays, and its objective as a function of the rebates.

With objective weights alpha (drivers' utility) and w (profit) the leader maximises

    F(s) = sum_k share_k alpha Z_k(s) + w [ sum_t R_t(y(s)) - M sum_a share_a s_a y_a(s) ],

Z_k the persistency value of class k, y(s) its flow, R_t = step_h p_t C_t(y) the market's payment. Gradient and Hessian
come from the follower's Newton system: dy/ds = H - H B'(B H B')^-1 B H, H = diag(dy/dlam).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.stackelberg.bids import coefficients, largest_bid, spread
from v2g_env.stackelberg.follower import (
    Arcs,
    arcs_of,
    assemble_laplacian,
    factor_band,
    newton,
    solve_band,
)
from v2g_env.stackelberg.game import Game

__all__ = ["Program", "gap_scale", "program_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Program(NamedTuple):
    """Arrays of a game for compiled code.

    Attributes:
        tail, head, mean, deviation, period, group: (A,) see follower.Arcs.
        weight: (A,) share of the arc's class.
        source: (K,) source nodes.
        share: (K,) shares of the classes.
        member: (T, G) arcs in which a driver is plugged in during a period, -1 where there are fewer.
        price: (T,) payment per kW of bid and period [$/kW].
        coef: (J, 2, 3) bid coefficients.
        rigorous: whether the rigorous spread is used.
        drivers: M.
        alpha, profit: weights of the drivers' utility and of the profit in the objective.
        nodes, band: size and half bandwidth of the node system.
    """

    tail: Ints
    head: Ints
    mean: Floats
    deviation: Floats
    period: Ints
    group: Ints
    weight: Floats
    source: Ints
    share: Floats
    member: Ints
    price: Floats
    coef: Floats
    rigorous: bool
    drivers: float
    alpha: float
    profit: float
    nodes: int
    band: int

    @property
    def net(self) -> float:
        """N = w M - alpha: what a dollar of rebate per driver costs the leader in objective."""
        return self.profit * self.drivers - self.alpha


def gap_scale(game: Game, value: float, income: float) -> float:
    """What gaps are relative to [$]: |value| for the platform, the market's payment per driver for drivers.

    At least a tenth of a cent per driver (of one driver): a day on which nothing is earned has no relative gap.
    """
    if game.owner == "platform":
        return max(abs(value), 1e-3 * game.drivers)
    return max(income / game.drivers, 1e-3)


def program_of(game: Game, multiplier: float = 0.0) -> Program:
    """Arrays of ``game``; ``multiplier`` is the price nu >= 0 of the drivers' budget (owner "drivers" only)."""
    arcs: Arcs = arcs_of(game.classes)
    rows = [np.flatnonzero(arcs.period == t) for t in range(game.periods)]
    width = max(1, *(len(row) for row in rows))
    member = np.full((game.periods, width), -1, np.int64)
    for t, row in enumerate(rows):
        member[t, : len(row)] = row
    community = game.owner == "drivers"
    return Program(
        arcs.tail,
        arcs.head,
        arcs.mean,
        arcs.deviation,
        arcs.period,
        arcs.group,
        arcs.share[arcs.group],
        arcs.source,
        arcs.share,
        member,
        np.array(game.price_usd_per_kw) * game.step_h,
        coefficients(game),
        game.variant == "rigorous",
        float(game.drivers),
        1.0 if community else 0.0,
        1.0 / (game.kappa * game.drivers) + multiplier if community else 1.0,
        arcs.nodes,
        arcs.band,
    )


@njit(cache=True)
def revenue(program, t, flow, slope, curve):
    """R_t, its gradient in the flows of the period's arcs (into ``slope``) and its Hessian (``curve``, G x G)."""
    width = program.member.shape[1]
    classes = len(program.share)
    plugged = np.zeros(classes)
    for g in range(width):
        a = program.member[t, g]
        if a >= 0:
            plugged[program.group[a]] += flow[a]
    total = 0.0
    back, ahead = np.zeros((classes, 3)), np.zeros((classes, 3))
    q_back, q_ahead = 0.0, 0.0
    for k in range(classes):
        y = min(max(plugged[k], 0.0), 1.0)
        total += program.share[k] * y
        for d, value in enumerate(spread(y, program.rigorous, False)):
            back[k, d] = value
        for d, value in enumerate(spread(y, program.rigorous, True)):
            ahead[k, d] = value
        q_back += program.share[k] * back[k, 0]
        q_ahead += program.share[k] * ahead[k, 0]
    bid, j, i = largest_bid(total, q_back, q_ahead, program.coef)
    curve[:] = 0.0
    for g in range(width):
        if program.member[t, g] >= 0:
            slope[program.member[t, g]] = 0.0
    if i == 2:
        return 0.0
    a0, b, c = program.coef[j, i]
    q, table = (q_back, back) if i == 0 else (q_ahead, ahead)
    root = np.sign(a0) * np.sqrt(b * total * total + c * q)
    pay = program.price[t]
    for g in range(width):
        arc = program.member[t, g]
        if arc < 0:
            continue
        k = program.group[arc]
        part = program.share[k] * (2.0 * b * total + c * table[k, 1])
        slope[arc] = pay * (a0 * program.share[k] - part / (2.0 * root))
        for other in range(width):
            two = program.member[t, other]
            if two < 0:
                continue
            m = program.group[two]
            second = program.share[m] * (2.0 * b * total + c * table[m, 1])
            mixed = 2.0 * b * program.share[k] * program.share[m]
            if k == m:
                mixed += c * program.share[k] * table[k, 2]
            curve[g, other] = -pay * (mixed / (2.0 * root) - part * second / (4.0 * root**3))
    return pay * bid


@njit(cache=True)
def revenue_value(program, t, flow):
    """R_t alone."""
    total, back, ahead = 0.0, 0.0, 0.0
    for k in range(len(program.share)):
        y = 0.0
        for a in program.member[t]:
            if a >= 0 and program.group[a] == k:
                y += flow[a]
        total += program.share[k] * y
        back += program.share[k] * spread(y, program.rigorous, False)[0]
        ahead += program.share[k] * spread(y, program.rigorous, True)[0]
    return program.price[t] * largest_bid(total, back, ahead, program.coef)[0]


@njit(cache=True)
def objective(program, rebate, price, flow, slope, gain, drift, matrix, step, trial):
    """F at the arcs' rebates; node prices are updated from ``price``.

    Leaves flows, dy/dlam (``slope``), R' (``gain``), the change x - y of the dual flow (``drift``) and the factor of
    the Laplacian (``matrix``). Returns (F, profit [$], imbalance).
    """
    arcs = len(program.tail)
    utility = program.mean + rebate
    worst = newton(
        program.tail,
        program.head,
        utility,
        program.deviation,
        program.source,
        program.nodes,
        program.band,
        price,
        flow,
        slope,
        matrix,
        step,
        trial,
    )
    width = program.member.shape[1]
    curve = np.empty((width, width))
    profit = 0.0
    gain[:] = 0.0
    for t in range(len(program.price)):
        profit += revenue(program, t, flow, gain, curve)
    utility_sum = 0.0
    for a in range(arcs):
        profit -= program.drivers * program.weight[a] * rebate[a] * flow[a]
        small = min(flow[a], 1.0 - flow[a])
        utility_sum += program.weight[a] * (
            utility[a] * flow[a] + program.deviation[a] * np.sqrt(max(small * (1.0 - small), 0.0))
        )
    value = program.alpha * utility_sum + program.profit * profit
    assemble_laplacian(program.tail, program.head, slope, matrix)
    factor_band(matrix, program.nodes, program.band)
    net = program.profit * program.drivers - program.alpha
    step[:] = 0.0
    for a in range(arcs):
        pull = slope[a] * (gain[a] / program.weight[a] - program.drivers * rebate[a])
        step[program.tail[a]] += pull
        if program.head[a] >= 0:
            step[program.head[a]] -= pull
    solve_band(matrix, step, program.nodes, program.band)
    for a in range(arcs):
        ahead = step[program.head[a]] if program.head[a] >= 0 else 0.0
        pull = gain[a] / program.weight[a] - program.drivers * rebate[a] - step[program.tail[a]] + ahead
        drift[a] = -program.profit * slope[a] * pull / net
    return value, profit, worst


@njit(cache=True)
def hessian(program, rebate, price, flow, slope, drift, matrix, variable, count, step, result):
    """Second derivatives of F in the variables (``variable[a]`` is the arc's, -1 for none), after ``objective``."""
    arcs, width = len(program.tail), program.member.shape[1]
    net = program.profit * program.drivers - program.alpha
    moves = np.zeros((count, arcs))  # dlam / ds
    for v in range(count):
        step[:] = 0.0
        for a in range(arcs):
            if variable[a] == v:
                step[program.tail[a]] += slope[a]
                if program.head[a] >= 0:
                    step[program.head[a]] -= slope[a]
        solve_band(matrix, step, program.nodes, program.band)
        for a in range(arcs):
            ahead = step[program.head[a]] if program.head[a] >= 0 else 0.0
            moves[v, a] = (1.0 if variable[a] == v else 0.0) - step[program.tail[a]] + ahead
    scale = np.empty(arcs)
    for a in range(arcs):
        lam = (
            program.mean[a]
            + rebate[a]
            - price[program.tail[a]]
            + (price[program.head[a]] if program.head[a] >= 0 else 0.0)
        )
        square = lam * lam + program.deviation[a] * program.deviation[a]
        scale[a] = 3.0 * program.weight[a] * net * drift[a] * lam / square
    result[:] = np.dot(moves * scale, moves.T)
    cost = program.alpha - 2.0 * program.profit * program.drivers
    curve = np.empty((width, width))
    trash = np.empty(arcs)
    for a in range(arcs):
        v = variable[a]
        if v >= 0:
            for u in range(count):
                half = 0.5 * cost * program.weight[a] * slope[a] * moves[u, a]
                result[v, u] += half
                result[u, v] += half
    for t in range(len(program.price)):
        revenue(program, t, flow, trash, curve)
        for g in range(width):
            a = program.member[t, g]
            if a < 0:
                continue
            for other in range(width):
                b = program.member[t, other]
                if b < 0 or curve[g, other] == 0.0:
                    continue
                size = program.profit * curve[g, other] * slope[a] * slope[b]
                for u in range(count):
                    factor = size * moves[u, a]
                    for v in range(count):
                        result[u, v] += factor * moves[v, b]
