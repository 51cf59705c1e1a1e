"""The drivers' response: persistency flow of a network, by Newton's method in the node prices, banded in time.

sup over all joint laws with means mu_a (+ rebate) and deviations sigma_a of the expected longest path equals

    max over unit flows y of  sum_a (mu_a + s_a) y_a + sigma_a sqrt(y_a (1 - y_a))
    = min over rho of  D(rho) = 1/2 sum_a (lam_a + r_a) + rho_source,   lam_a = mu_a + s_a - rho_tail + rho_head,

r_a = sqrt(lam_a^2 + sigma_a^2), rho_sink = 0, and y_a = (1 + lam_a / r_a) / 2 is the share of drivers on arc a
(Natarajan, Song, Teo, Management Science 55(3), 2009). D is strictly convex; its Hessian is a weighted Laplacian.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.core.validate import array, require
from v2g_env.stackelberg.game import DriverClass

__all__ = ["Arcs", "Response", "arcs_of", "respond", "start_prices"]

Floats = NDArray[np.float64]
_TOLERANCE = 1e-12  # largest imbalance of a node [share of the drivers]


class Arcs(NamedTuple):
    """The networks of all classes as one, nodes in topological order class by class; sinks have the number -1.

    Attributes:
        tail, head: (A,) int64 node numbers.
        mean, deviation: (A,) utilities [$].
        period: (A,) int64 rebate period or -1.
        group: (A,) int64 class.
        share: (K,) shares of the classes.
        source: (K,) int64 source nodes.
        nodes: number N of nodes without the sinks.
        band: largest difference of node numbers along an arc.
        original: (A,) arc numbers within the class's own network.
    """

    tail: NDArray[np.int64]
    head: NDArray[np.int64]
    mean: Floats
    deviation: Floats
    period: NDArray[np.int64]
    group: NDArray[np.int64]
    share: Floats
    source: NDArray[np.int64]
    nodes: int
    band: int
    original: NDArray[np.int64]


class Response(NamedTuple):
    """How drivers respond to n rebate schedules.

    Attributes:
        flow: (n, A) share of the class's drivers on every arc.
        price: (n, N) node prices [$].
        value: (n, K) expected utility of a driver of each class, an upper bound up to rounding [$].
        residual: (n,) largest imbalance of a node.
    """

    flow: Floats
    price: Floats
    value: Floats
    residual: Floats


def arcs_of(classes: tuple[DriverClass, ...]) -> Arcs:
    """Compile the classes' networks into arrays."""
    parts: list[list[NDArray[np.int64]]] = []
    means, deviations, sources = [], [], []
    offset = 0
    for k, each in enumerate(classes):
        network = each.network
        number = np.full(network.nodes, -1, np.int64)
        place = offset
        for node in network.order:
            if node != network.sink and (node in network.tail):
                number[node] = place
                place += 1
        offset = place
        tail, head = number[list(network.tail)], number[list(network.head)]
        arcs = len(tail)
        parts.append([tail, head, np.array(network.period), np.full(arcs, k), np.arange(arcs)])
        means.append(network.mean_usd)
        deviations.append(network.deviation_usd)
        sources.append(number[network.source])
    tail, head, period, group, original = (
        np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)
    )
    band = int(np.max(np.where(head >= 0, np.abs(head - tail), 0)))
    return Arcs(
        tail,
        head,
        np.concatenate(means),
        np.concatenate(deviations),
        period,
        group,
        np.array([each.share for each in classes]),
        np.array(sources, np.int64),
        offset,
        band,
        original,
    )


@njit(cache=True)
def factor_band(matrix, n, band):
    """Cholesky factor of a banded matrix in place; matrix[i, d] holds entry (i, i - d)."""
    for i in range(n):
        low = max(0, i - band)
        for j in range(low, i + 1):
            total = matrix[i, i - j]
            for k in range(max(low, j - band), j):
                total -= matrix[i, i - k] * matrix[j, j - k]
            if i == j:
                matrix[i, 0] = np.sqrt(max(total, 1e-300))
            else:
                matrix[i, i - j] = total / matrix[j, 0]


@njit(cache=True)
def solve_band(factor, right, n, band):
    """Solve with the factor from ``factor_band``, in place of ``right``."""
    for i in range(n):
        total = right[i]
        for k in range(max(0, i - band), i):
            total -= factor[i, i - k] * right[k]
        right[i] = total / factor[i, 0]
    for i in range(n - 1, -1, -1):
        total = right[i]
        for k in range(i + 1, min(n, i + band + 1)):
            total -= factor[k, k - i] * right[k]
        right[i] = total / factor[i, 0]


@njit(cache=True)
def assemble_laplacian(tail, head, weight, matrix):
    """Fill the banded matrix B diag(weight) B' of the network."""
    matrix[:] = 0.0
    for a in range(len(tail)):
        i, j, w = tail[a], head[a], weight[a]
        matrix[i, 0] += w
        if j >= 0:
            matrix[j, 0] += w
            if i > j:
                matrix[i, i - j] -= w
            else:
                matrix[j, j - i] -= w


@njit(cache=True)
def evaluate(tail, head, utility, sigma, source, price, flow, slope, excess):
    """D(rho), summed over the classes; leaves flows, slopes dy/dlam and what leaves every node beyond its supply."""
    total = 0.0
    excess[:] = 0.0
    for node in source:
        total += price[node]
        excess[node] -= 1.0
    for a in range(len(tail)):
        i, j = tail[a], head[a]
        lam = utility[a] - price[i] + (price[j] if j >= 0 else 0.0)
        square = sigma[a] * sigma[a]
        r = np.sqrt(lam * lam + square)
        small = 0.5 * square / (r * (r + abs(lam)))
        slope[a] = 0.5 * square / (r * r * r)
        if lam > 0.0:
            flow[a] = 1.0 - small
            total += 0.5 * (lam + r)
        else:
            flow[a] = small
            total += small * r
        excess[i] += flow[a]
        if j >= 0:
            excess[j] -= flow[a]
    return total


@njit(cache=True)
def newton(tail, head, utility, sigma, source, n, band, price, flow, slope, matrix, step, trial):
    """Minimise D from ``price`` (overwritten); leaves flows and slopes dy/dlam; returns the largest imbalance."""
    excess = np.empty(n)
    value = evaluate(tail, head, utility, sigma, source, price, flow, slope, excess)
    worst, last = np.inf, np.inf
    for _ in range(200):
        worst = 0.0
        for i in range(n):
            worst = max(worst, abs(excess[i]))
        if worst <= 1e-15 or (worst <= _TOLERANCE and worst >= 0.25 * last):
            break
        last = worst
        assemble_laplacian(tail, head, slope, matrix)
        factor_band(matrix, n, band)
        step[:] = excess
        solve_band(matrix, step, n, band)
        decrease = 0.0
        for i in range(n):
            decrease += excess[i] * step[i]
        size = 1.0
        while True:
            for i in range(n):
                trial[i] = price[i] + size * step[i]
            now = evaluate(tail, head, utility, sigma, source, trial, flow, slope, excess)
            if now <= value - 1e-4 * size * decrease or size < 1e-10 or decrease < 1e-13 * (1.0 + abs(value)):
                break
            size *= 0.5
        value = now
        price[:] = trial
        if size < 1e-10:
            break
    return worst


@njit(cache=True)
def respond_rows(tail, head, mean, sigma, period, source, n, band, rebate, price, flow, residual):
    """Responses to the rebates (rows, T) [$ per period], starting from and overwriting ``price`` (rows, N)."""
    arcs = len(tail)
    utility, slope = np.empty(arcs), np.empty(arcs)
    matrix, step, trial = np.empty((n, band + 1)), np.empty(n), np.empty(n)
    for row in range(rebate.shape[0]):
        for a in range(arcs):
            utility[a] = mean[a] + (rebate[row, period[a]] if period[a] >= 0 else 0.0)
        residual[row] = newton(
            tail, head, utility, sigma, source, n, band, price[row], flow[row], slope, matrix, step, trial
        )


@njit(cache=True)
def values_of(tail, head, mean, sigma, period, group, source, rebate, price):
    """D(rho) of every class, (rows, K): an upper bound on the expected utility for any prices."""
    result = np.zeros((rebate.shape[0], len(source)))
    for row in range(rebate.shape[0]):
        for k in range(len(source)):
            result[row, k] = price[row, source[k]]
        for a in range(len(tail)):
            gain = rebate[row, period[a]] if period[a] >= 0 else 0.0
            lam = mean[a] + gain - price[row, tail[a]] + (price[row, head[a]] if head[a] >= 0 else 0.0)
            r = np.sqrt(lam * lam + sigma[a] * sigma[a])
            result[row, group[a]] += 0.5 * (lam + r) if lam > 0.0 else 0.5 * sigma[a] * sigma[a] / (r - lam)
    return result


def start_prices(arcs: Arcs) -> Floats:
    """Node prices without rebates, (N,): where other responses start."""
    price = np.zeros(arcs.nodes)
    for node in range(arcs.nodes - 1, -1, -1):  # longest paths by mean utility: finite and near for any network
        out = arcs.tail == node
        beyond = np.where(arcs.head[out] >= 0, price[arcs.head[out]], 0.0)
        price[node] = float(np.max(arcs.mean[out] + beyond))
    periods = 1 + int(max(arcs.period.max(), 0))
    return np.asarray(respond(arcs, np.zeros((1, periods)), price[None]).price[0])


def respond(arcs: Arcs, rebate_usd: Floats, price: Floats | None = None) -> Response:
    """The drivers' response to n rebate schedules.

    Args:
        arcs: compiled networks.
        rebate_usd: (n, T) rebate for being plugged in during each period [$ per period].
        price: (n, N) or (N,) node prices to start from; None starts without rebates.

    Raises:
        InvalidInputError: for rebates of a wrong shape or that are not finite.
        ArithmeticError: if Newton's method ends with a node imbalance above 1e-9 (utilities far apart in scale).
    """
    periods = 1 + int(max(arcs.period.max(), 0))
    rebates = array("rebate_usd", rebate_usd, (None, None))
    require(rebates.shape[1] >= periods, "shape of rebate_usd", rebates.shape, f"(n, at least {periods})")
    rows = len(rebates)
    begin = np.array(np.broadcast_to(start_prices(arcs) if price is None else price, (rows, arcs.nodes)), np.float64)
    flow, residual = np.empty((rows, len(arcs.tail))), np.empty(rows)
    network = (arcs.tail, arcs.head, arcs.mean, arcs.deviation, arcs.period)
    respond_rows(*network, arcs.source, arcs.nodes, arcs.band, rebates, begin, flow, residual)
    if rows and not residual.max() <= 1e-9:
        raise ArithmeticError(f"response of the drivers = imbalance {residual.max():g} left; allowed: 1e-9")
    value = values_of(*network, arcs.group, arcs.source, rebates, begin)
    return Response(flow, begin, value, residual)
