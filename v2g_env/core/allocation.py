"""Rules that share a battery among drivers on one day, as compiled loops over days.

Driver i lacks q_i kWh (his shortfall) on a day, s kWh are there to share, he gets a_i; a_i >= 0, sum a_i <= s.

==================  ==================================================================================
rule                a_i
==================  ==================================================================================
proportional        s q_i / sum q if sum q > s, else q_i
first_come          min(q_i, what is left), along an order; the last to be served may get a part
first_come_skip     q_i if it is left, else nothing, along an order
utilitarian         first_come in increasing order of shortfall: serves as many drivers as can be served
max_min             min(q_i, level), the level such that all is given away or all are served
equal_split         s / n, asked for or not
==================  ==================================================================================

All but equal_split are shortfall-minimising: sum q <= s implies a_i >= q_i for every i (Alexeenko and Charisopoulos,
arXiv 2304.10461, Definition III.1).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.core.validate import array, require

__all__ = ["ORDERED", "RULES", "SHORTFALL_MINIMISING", "allocate", "allocate_kernel", "count_served", "random_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RULES = ("proportional", "first_come", "first_come_skip", "utilitarian", "max_min", "equal_split")
ORDERED = ("first_come", "first_come_skip")
SHORTFALL_MINIMISING = RULES[:-1]
_FEW = 128  # up to here insertion sort is faster


@njit(cache=True)
def _sort(values, order):
    """Fill ``order`` with the places of ``values`` in increasing order; equal values keep theirs."""
    n = len(values)
    if n > _FEW:
        order[:] = np.argsort(values, kind="mergesort")
        return
    for i in range(n):
        value, j = values[i], i
        while j > 0 and values[order[j - 1]] > value:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i


@njit(cache=True)
def _share(rule, shortfall, total, shared, order, scratch, given, tolerance):
    """Write one day's a (n,) to ``given``; ``total``: of the shortfalls; what fits may exceed by ``tolerance``."""
    n = len(shortfall)
    if rule == 5:
        given[:] = shared / n
        return
    if total <= shared:
        given[:] = shortfall
        return
    if rule == 0:
        for i in range(n):
            given[i] = shared * (shortfall[i] / total)
        return
    left = shared
    if rule == 3 or rule == 4:  # noqa: PLR1714 - numba compiles this to two comparisons
        _sort(shortfall, scratch)
        order = scratch
    for k in range(n):
        i = order[k]
        if rule == 2 and shortfall[i] > left + tolerance:
            given[i] = 0.0
            continue
        limit = left / (n - k) if rule == 4 else left
        given[i] = min(shortfall[i], limit)
        left = max(left - given[i], 0.0)


@njit(cache=True)
def allocate_kernel(rule, shortfall, shared, order):
    """As ``allocate``, for the rule's number; shared (m,), order (m, n) or (0, n) where the rule needs none."""
    m, n = shortfall.shape
    given = np.empty((m, n))
    scratch = np.empty(n, np.int64)
    for d in range(m):
        _share(rule, shortfall[d], shortfall[d].sum(), shared[d], order[d % max(len(order), 1)], scratch, given[d], 0.0)
    return given


@njit(cache=True)
def count_served(rule, need, own, shared, order, tolerance):
    """Days on which each driver is served, (n,); need (m, n), own (n,), shared one number [kWh].

    Served: need <= own + given, up to ``tolerance`` [kWh].
    """
    m, n = need.shape
    served = np.zeros(n, np.int64)
    shortfall, given = np.empty(n), np.empty(n)
    scratch = np.empty(n, np.int64)
    for d in range(m):
        total = 0.0
        for i in range(n):
            shortfall[i] = max(need[d, i] - own[i], 0.0)
            total += shortfall[i]
        _share(rule, shortfall, total, shared, order[d % max(len(order), 1)], scratch, given, tolerance)
        for i in range(n):
            served[i] += shortfall[i] <= given[i] + tolerance
    return served


def allocate(rule: str, shortfall: Floats, shared_kwh: float | Floats, order: Ints | None = None) -> Floats:
    """What every driver gets on every day.

    Args:
        rule: one of RULES.
        shortfall: (m, n) finite, at least 0 [kWh].
        shared_kwh: one number or (m,), at least 0 [kWh].
        order: (m, n) permutation of each day along which an ordered rule serves (see ``random_order``).

    Returns:
        (m, n) [kWh].

    Raises:
        InvalidInputError: unknown rule, bad numbers, an order that is missing or no permutation.
    """
    require(rule in RULES, "rule", rule, ", ".join(RULES))
    shortfall = np.ascontiguousarray(array("shortfall", shortfall, (None, None), 0.0))
    m, n = shortfall.shape
    require(n > 0, "number of drivers", n, "at least 1")
    shared = array("shared_kwh", shared_kwh, (None,) * np.ndim(shared_kwh), 0.0)
    require(shared.shape in ((), (m,)), "shape of shared_kwh", shared.shape, f"() or ({m},)")
    if rule in ORDERED:
        given = np.asarray(order)
        fits = given.dtype.kind in "iu" and given.shape == (m, n)
        require(
            fits and bool((np.sort(given, axis=1) == np.arange(n)).all()), "order", order, f"({m}, {n}) permutations"
        )
        used = np.ascontiguousarray(given, np.int64)
    else:
        used = np.zeros((1, n), np.int64)
    result: Floats = allocate_kernel(RULES.index(rule), shortfall, np.broadcast_to(shared, m).copy(), used)
    return result


def random_order(uniforms: Floats) -> NDArray[np.int64]:
    """Permutations (m, n) from independent uniforms (m, n): drivers by increasing number."""
    return np.argsort(uniforms, axis=1, kind="stable")
