"""The market's nodes: functions of two AR(1) log factors with conditional means in closed form.

A log factor moves as l' = m l + f e, f^2 = 1 - m^2, e standard normal. A function of it is given by its values at the
nodes of Gauss-Hermite quadrature, that is, as a polynomial sum_p v_p He_p(l). Hermite polynomials add up,

    He_p(m l + f e) = sum_k binom(p, k) m^(p-k) f^k He_{p-k}(l) He_k(e),

so the conditional mean given l is sum_p v_p m^p He_p(l). ``seen`` holds the weights of the nodes in this mean,
``happened`` those in the realised value; their difference is a sum of terms (He_k(e) - its mean) times what is known.

The simulator cuts log factors at five standard deviations. Therefore e is cut at ``_CUT`` (its moments are those of
the cut normal, in closed form), and where |m l| + f _CUT exceeds five, so that the cut e could not be read off, both
weights are the same. What is known before e may be any function of l: it is cut to the range of the nodes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermegauss, hermevander
from numpy.typing import NDArray

from v2g_env.core.market import load_profile, pv_profile
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Scenario

__all__ = ["MarketNodes", "known_weights", "market_nodes", "market_weights"]

Floats = NDArray[np.float64]

_CUT = 3.0
_CLIP_SD = 5.0  # as core.market.ar_factors


class MarketNodes(NamedTuple):
    """L = product of both numbers of nodes.

    Attributes:
        surplus_kw, deficit_kw: (T, L) offers at the nodes [kW].
        shift: (L, L) values at the nodes -> conditional means one step earlier, at the nodes.
    """

    surplus_kw: Floats
    deficit_kw: Floats
    shift: Floats


def _basis(count: int) -> tuple[Floats, Floats]:
    """Nodes, and the matrix (count, count) from values at the nodes to Hermite coefficients."""
    nodes = hermegauss(count)[0]
    return np.asarray(nodes), np.asarray(np.linalg.inv(hermevander(nodes, count - 1)), np.float64)


def market_nodes(instance: Instance, counts: tuple[int, int]) -> MarketNodes:
    """Offers and the conditional mean on the grid of nodes; ``counts`` of the factors on PV and on load."""
    memory = instance.factor_memory**instance.step_h
    factors, shifts = [], []
    for count, sd in zip(counts, (instance.pv_sd, instance.load_sd), strict=True):
        nodes, to_terms = _basis(count)
        factors.append(np.exp(sd * nodes - 0.5 * sd**2))
        shifts.append(hermevander(nodes, count - 1) @ np.diag(memory ** np.arange(count)) @ to_terms)
    pv = np.repeat(factors[0], counts[1])
    load = np.tile(factors[1], counts[0])
    net = pv * pv_profile(instance.hours, instance.pv_peak_kw)[:, None]
    demand = load_profile(instance.hours, instance.load_base_kw, instance.load_evening_kw, instance.load_morning_kw)
    net = net - load * demand[:, None]
    return MarketNodes(np.maximum(net, 0.0), np.maximum(-net, 0.0), np.asarray(np.kron(shifts[0], shifts[1])))


def _cut_means(count: int) -> Floats:
    """E He_k(e cut at _CUT) for k < count."""
    density = math.exp(-0.5 * _CUT**2) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(_CUT / math.sqrt(2.0))
    inner = [1.0 - 2.0 * tail]  # of e^k within the cut, even k
    for k in range(2, count, 2):
        inner.append((k - 1) * inner[-1] - 2.0 * _CUT ** (k - 1) * density)
    moments = np.zeros(count)
    moments[::2] = [part + 2.0 * tail * _CUT**k for k, part in zip(range(0, count, 2), inner, strict=True)]
    means = np.zeros(count)
    for k in range(count):
        terms = np.zeros(k + 1)
        terms[k] = 1.0
        means[k] = np.polynomial.hermite_e.herme2poly(terms) @ moments[: k + 1]
    return means


def _factor_weights(factors: Floats, sd: float, memory: float, count: int) -> tuple[Floats, Floats]:
    """Weights (n, T, count) of one factor before and after the next step's factor is known."""
    n, steps = factors.shape
    nodes, to_terms = _basis(count)
    if sd == 0.0 or count == 1:
        one = np.broadcast_to(hermevander(np.zeros(1), count - 1) @ to_terms, (n, steps, count))
        return one.copy(), one.copy()
    log = (np.log(factors) + 0.5 * sd**2) / sd
    fresh = math.sqrt(1.0 - memory**2)
    now, then = log[:, :-1], log[:, 1:]
    surprise = (then - memory * now) / fresh
    active = np.abs(memory * now) + fresh * _CUT <= _CLIP_SD
    known = np.asarray(hermevander(np.clip(now, nodes[0], nodes[-1]), count - 1), np.float64)  # (n, T - 1, count)
    news = np.asarray(hermevander(np.clip(surprise, -_CUT, _CUT), count - 1) - _cut_means(count), np.float64)
    seen, happened = np.zeros((n, steps, count)), np.zeros((n, steps, count))
    for p in range(count):
        mean = (memory**p * known[..., p])[..., None] * to_terms[p]
        seen[:, :-1] += mean
        happened[:, :-1] += mean
        for k in range(1, p + 1):
            size = math.comb(p, k) * memory ** (p - k) * fresh**k
            term = np.where(active, size * known[..., p - k] * news[..., k], 0.0)
            happened[:, :-1] += term[..., None] * to_terms[p]
    return seen, happened


def market_weights(instance: Instance, scenario: Scenario, counts: tuple[int, int]) -> tuple[Floats, Floats]:
    """Weights of the nodes (n, T, L) at step t for values of step t + 1: before that market is known, and after.

    The last step's are zero: nothing follows.
    """
    memory = instance.factor_memory**instance.step_h
    pv = _factor_weights(scenario.pv_factor[:, :-1], instance.pv_sd, memory, counts[0])
    load = _factor_weights(scenario.load_factor[:, :-1], instance.load_sd, memory, counts[1])
    shape = (*pv[0].shape[:2], counts[0] * counts[1])
    seen = (pv[0][..., :, None] * load[0][..., None, :]).reshape(shape)
    happened = (pv[1][..., :, None] * load[1][..., None, :]).reshape(shape)
    return seen, happened


def known_weights(instance: Instance, pv_factor: Floats, load_factor: Floats, counts: tuple[int, int]) -> Floats:
    """Weights (n, L) of the nodes for values of the step after the one whose mean-one factors (n,) are given."""
    memory = instance.factor_memory**instance.step_h
    sides = []
    for factor, sd, count in ((pv_factor, instance.pv_sd, counts[0]), (load_factor, instance.load_sd, counts[1])):
        nodes, to_terms = _basis(count)
        steady = sd == 0.0 or count == 1
        log = np.zeros(len(factor)) if steady else (np.log(np.maximum(factor, 1e-12)) + 0.5 * sd**2) / sd
        known = hermevander(np.clip(log, nodes[0], nodes[-1]), count - 1)
        terms = (memory ** np.arange(count) * known)[:, :, None] * to_terms
        sides.append(terms.sum(axis=1))  # no matrix product: a row must not depend on the rows beside it
    return np.asarray((sides[0][:, :, None] * sides[1][:, None, :]).reshape(len(pv_factor), -1))
