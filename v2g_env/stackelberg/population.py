"""Sampled drivers: single days drawn from the law behind the persistency flow, and from another one.

Only means and deviations of utilities are known. Under the law that makes the expected longest path as large as the
moments allow, a driver's path is a walk that leaves each node along arc a with probability y_a / (flow through the
node), y the persistency flow (Natarajan, Song, Teo 2009). Utilities are then tied to the path x:

    v_a = mu_a + sigma_a sqrt((1 - y_a) / y_a) if x_a = 1,   mu_a - sigma_a sqrt(y_a / (1 - y_a)) if x_a = 0,

x is the longest path for v, and means, deviations and the expected value are exact. Independent normal utilities with
the same moments are a named misspecification: their longest paths follow another flow and are worth less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.stackelberg.follower import Arcs

__all__ = ["Days", "counts", "extremal_utilities", "independent_normal", "longest_paths", "walk"]

Floats = NDArray[np.float64]
_FAR_MEAN = 100.0  # with p <= 1/2, (1 - p)^n is then still far above the smallest number
_NEGLIGIBLE = 1e-20


class Days(NamedTuple):
    """What n drivers of every class do.

    Attributes:
        paths: (n, A) bool, the arcs each of them takes; row i holds one driver of each class.
        value: (n, K) utility of the path [$].
    """

    paths: NDArray[np.bool_]
    value: Floats


@njit(cache=True)
def binomial(n, p, u):
    """Smallest k whose cumulative probability under Binomial(n, p) reaches u: nondecreasing in u."""
    if n == 0 or p <= 0.0:
        return 0
    if p >= 1.0:
        return n
    mirrored = p > 0.5
    if mirrored:
        p, u = 1.0 - p, 1.0 - u
    odds = p / (1.0 - p)
    k, chance, target = 0, np.exp(n * np.log1p(-p)), u
    if n * p > _FAR_MEAN:  # too far from 0: weights relative to the mode's, from the lowest that counts
        k = int((n + 1) * p)
        chance, total, weight = 1.0, 1.0, 1.0
        for j in range(k, n):
            weight *= odds * (n - j) / (j + 1)
            total += weight
            if weight < _NEGLIGIBLE:
                break
        while k > 0 and chance > _NEGLIGIBLE:
            chance *= k / (odds * (n - k + 1))
            k -= 1
            total += chance
        target = u * total
    reached = chance
    while reached < target and k < n and (k < n * p or chance > _NEGLIGIBLE):
        chance *= odds * (n - k) / (k + 1)
        k += 1
        reached += chance
    return n - k if mirrored else k


@njit(cache=True)
def count_rows(tail, head, order, source, flow, drivers, uniforms, result):
    """Split the drivers (rows, K) at every node; ``order`` sorts the arcs by tail, nodes are topological."""
    arcs = len(order)
    left = np.zeros(tail.max() + 1, np.int64)
    for row in range(result.shape[0]):
        left[:] = 0
        for k in range(len(source)):
            left[source[k]] = drivers[row, k]
        first = 0
        while first < arcs:
            node = tail[order[first]]
            last = first
            out = 0.0
            while last < arcs and tail[order[last]] == node:
                out += flow[row, order[last]]
                last += 1
            for i in range(first, last):
                a = order[i]
                here = left[node]
                if i < last - 1:
                    here = binomial(here, flow[row, a] / out, uniforms[row, a]) if out > 0.0 else 0
                    out = 0.0
                    for j in range(i + 1, last):
                        out += flow[row, order[j]]
                result[row, a] = here
                left[node] -= here
                if head[a] >= 0:
                    left[head[a]] += here
            first = last


def counts(arcs: Arcs, flow: ArrayLike, drivers: ArrayLike, uniforms: ArrayLike) -> NDArray[np.int64]:
    """Numbers of drivers on the arcs when each walks the network: a function of the given uniforms.

    At every node the drivers there are split over the arcs out of it, arc by arc, by inverting the distribution of
    Binomial(those left, y_a / sum of y over the arcs left). The uniform of a node's last arc is not used.

    Args:
        arcs: compiled networks of K classes.
        flow: y, (A,) or (rows, A), a unit flow of each class (as from ``respond``).
        drivers: numbers of drivers of the classes, (K,) or (rows, K).
        uniforms: (rows, A) numbers in [0, 1], one for every arc.

    Returns:
        (rows, A) numbers of drivers; rows do not depend on each other.

    Raises:
        InvalidInputError: for wrong shapes, values outside their ranges or parts of drivers.
    """
    size = len(arcs.tail)
    given = array("uniforms", uniforms, (None, size), 0.0, 1.0)
    rows = len(given)
    shares = array("flow", flow, (size,) if np.ndim(flow) == 1 else (rows, size), 0.0, 1.0)
    classes = len(arcs.source)
    people = array("drivers", drivers, (classes,) if np.ndim(drivers) == 1 else (rows, classes), 0.0, 1e9)
    whole = people.astype(np.int64)
    require(bool((whole == people).all()), "drivers", people[whole != people][:1].tolist(), "whole numbers")
    result = np.zeros((rows, size), np.int64)
    order = np.argsort(arcs.tail, kind="stable")
    shares, whole = np.broadcast_to(shares, (rows, size)), np.broadcast_to(whole, (rows, classes))
    count_rows(arcs.tail, arcs.head, order, arcs.source, shares, whole, given, result)
    return result


def walk(arcs: Arcs, flow: ArrayLike, drivers: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw paths of the extremal law: at every node, arc a with probability y_a / (flow through the node).

    Args:
        arcs: compiled networks of K classes.
        flow: y, (A,), a unit flow of each class.
        drivers: number n of drivers of each class.
        generator: source of randomness; one uniform is taken per driver and node.

    Returns:
        (n, A) bool, the arcs each driver takes (row i: one driver of each class); their sum counts drivers.

    Raises:
        InvalidInputError: for a wrong shape or shares outside [0, 1].
    """
    shares = array("flow", flow, (len(arcs.tail),), 0.0, 1.0)
    number("drivers", drivers, 1, 10**7, integer=True)
    uniforms = generator.random((drivers, arcs.nodes))
    paths = np.zeros((drivers, len(shares)), bool)
    present = np.zeros((drivers, arcs.nodes), bool)
    present[:, arcs.source] = True
    for node in range(arcs.nodes):
        out = np.flatnonzero(arcs.tail == node)
        here = np.flatnonzero(present[:, node])
        limits = np.cumsum(shares[out])
        choice = np.searchsorted(limits[:-1], uniforms[here, node] * limits[-1], side="right")
        taken = out[choice]
        paths[here, taken] = True
        on = arcs.head[taken] >= 0
        present[here[on], arcs.head[taken[on]]] = True
    return paths


def extremal_utilities(arcs: Arcs, flow: ArrayLike, paths: NDArray[np.bool_], rebate_usd: ArrayLike) -> Floats:
    """Return the utilities (n, A) [$] that make drivers take ``paths`` (n, A), as drawn by ``walk``.

    Over walks with the shares ``flow`` (A,), each arc's utility has exactly its mean (plus the rebate of its period)
    and deviation. If ``flow`` is the persistency flow for ``rebate_usd`` (T,), every driver's path is the longest one,
    and its value is on average the persistency value.

    Raises:
        InvalidInputError: for a wrong shape or a share that is not inside (0, 1).
    """
    y = array("flow", flow, (len(arcs.tail),), 0.0, 1.0)
    require(bool((y > 0.0).all() and (y < 1.0).all()), "flow", [float(y.min()), float(y.max())], "shares inside (0, 1)")
    odds = np.sqrt((1.0 - y) / y)
    away = np.where(paths, odds, -1.0 / odds)
    return np.asarray(_means(arcs, rebate_usd) + arcs.deviation * away)


def independent_normal(arcs: Arcs, rebate_usd: ArrayLike, drivers: int, generator: np.random.Generator) -> Days:
    """Days of drivers whose utilities are independent and normal, the named misspecification "independent normal".

    Args:
        arcs: compiled networks of K classes.
        rebate_usd: (T,) rebate for being plugged in during each period [$ per period].
        drivers: number n of drivers of each class.
        generator: source of randomness.

    Returns:
        Longest paths and their values; the mean of ``paths`` is the drivers' flow.
    """
    number("drivers", drivers, 1, 10**7, integer=True)
    noise = generator.standard_normal((drivers, len(arcs.tail)))
    return longest_paths(arcs, _means(arcs, rebate_usd) + arcs.deviation * noise)


def longest_paths(arcs: Arcs, utility_usd: ArrayLike) -> Days:
    """Return the longest paths, one for every class and row of utilities (n, A) [$]; of equal ones, the first arc's."""
    utility = array("utility_usd", utility_usd, (None, len(arcs.tail)))
    paths = np.zeros(utility.shape, np.bool_)
    value = np.zeros((len(utility), len(arcs.source)))
    longest_rows(arcs.tail, arcs.head, np.argsort(arcs.tail, kind="stable"), arcs.source, utility, paths, value)
    return Days(paths, value)


@njit(cache=True)
def longest_rows(tail, head, order, source, utility, paths, value):
    """Dynamic programming backward in the nodes' order, then forward along the best arcs."""
    nodes = tail.max() + 1
    beyond, best = np.empty(nodes), np.empty(nodes, np.int64)
    for row in range(utility.shape[0]):
        beyond[:] = -np.inf
        for i in range(len(order) - 1, -1, -1):
            a = order[i]
            total = utility[row, a] + (beyond[head[a]] if head[a] >= 0 else 0.0)
            if total >= beyond[tail[a]]:
                beyond[tail[a]], best[tail[a]] = total, a
        for k in range(len(source)):
            value[row, k] = beyond[source[k]]
            node = source[k]
            while node >= 0:
                paths[row, best[node]] = True
                node = head[best[node]]


def _means(arcs: Arcs, rebate_usd: ArrayLike) -> Floats:
    rebate = array("rebate_usd", rebate_usd, (None,))
    periods = 1 + int(arcs.period.max())
    require(len(rebate) >= periods, "length of rebate_usd", len(rebate), f"at least {periods}")
    gain = np.append(rebate, 0.0)[np.where(arcs.period >= 0, arcs.period, len(rebate))]
    return np.asarray(arcs.mean + gain)
