"""A bound on what any sizes can earn over given seasons, whatever the allocation rule.

Sizes (b, s) are fixed once for all seasons; on day d driver i is served or missed (m_id in {0, 1}) and needs
a_id >= xi_id - b_i of the shared battery if served; sum_i a_id <= s. Every rule's outcome is one such choice. The cost

    p_own sum b + p_shared s + (1/K) sum over seasons k of missed_usd sum_i (sum_{d in k} m_id - eps_i D)_+

is relaxed with prices: 0 <= lambda_i <= missed_usd for a missed day of driver i ((x)_+ missed_usd >= lambda_i x), and
pi_d >= 0 for shared energy on day d. What is left falls apart into drivers,

    theta = sum_i min over b_i of [ p_own b_i + (1/K) sum_d min(lambda_i, pi_d (xi_id - b_i)_+) ]
            + s_max min(0, p_shared - (1/K) sum_d pi_d) - D sum_i lambda_i eps_i,

one number each: piecewise linear, so its least value lies at one of the driver's needs or at the end of his range.
Every (lambda, pi) proves a lower bound on the mean cost of every fixed sizes; ``prices`` looks for good ones. As all
policies of V2G/SharedBatterySizing-v0 see the same constant observation, a deterministic policy is a pair of fixed
sizes, and the bound on the mean over the seasons is one on its mean return there (not season by season).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.duality import rounding_allowance
from baselines.shared_battery.season_bound_kernel import asked_and_missed, least_cost_of_driver
from v2g_env.core.validate import array, number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.scenario import Season

__all__ = ["Prices", "bound", "prices"]

Floats = NDArray[np.float64]


class Prices(NamedTuple):
    """Evidence of a bound: lambda (n,) of a missed day [$], pi (K D,) of shared energy on each day [$/kWh]."""

    missed_usd: Floats
    shared_usd_per_kwh: Floats


def _flat(season: Season) -> Floats:
    """Needs (K D, n), less what counts as served anyway."""
    episodes, days, n = season.need_kwh.shape
    return np.maximum(season.need_kwh.reshape(episodes * days, n) - TOLERANCE_KWH, 0.0)


def bound(instance: Instance, season: Season, evidence: Prices) -> float:
    """Proven lower limit on the mean cost of a season [$], over these seasons, of every fixed sizes and every rule.

    Args:
        instance: fleet, prices, targets, ranges.
        season: K seasons.
        evidence: prices; those out of range raise.

    Raises:
        InvalidInputError: for prices of a wrong shape, negative, not finite, or lambda above missed_usd.
    """
    needs = _flat(season)
    value, _ = _value(instance, needs, _order(needs), _checked(instance, needs, evidence), len(season.need_kwh))
    return value


def _order(needs: Floats) -> NDArray[np.int64]:
    return np.argsort(needs, axis=0, kind="stable")


def _checked(instance: Instance, needs: Floats, evidence: Prices) -> Prices:
    missed = array("missed_usd", evidence.missed_usd, (instance.drivers,), 0.0, instance.missed_usd)
    return Prices(missed, array("shared_usd_per_kwh", evidence.shared_usd_per_kwh, (len(needs),), 0.0, 1e9))


def _value(
    instance: Instance, needs: Floats, order: NDArray[np.int64], evidence: Prices, seasons: int
) -> tuple[float, Floats]:
    """theta, lowered by the rounding of its sums, and the minimising own batteries (n,)."""
    lam, pi = evidence
    share = 1.0 / seasons
    terms, own = np.empty(instance.drivers), np.empty(instance.drivers)
    for i in range(instance.drivers):
        terms[i], own[i] = least_cost_of_driver(
            np.ascontiguousarray(needs[:, i]),
            np.ascontiguousarray(order[:, i]),
            pi,
            share,
            lam[i],
            instance.own_usd_per_kwh,
            instance.own_min_kwh,
            instance.own_max_kwh,
        )
    spare = instance.shared_usd_per_kwh - share * float(pi.sum())
    allowed = instance.season_days * float(lam @ instance.tolerated)
    total = float(terms.sum()) + instance.shared_max_kwh * min(0.0, spare) - allowed
    # the loops add and take away up to 2 M numbers no larger than energies, or own batteries, times prices
    size = share * float((pi * (needs.sum(axis=1) + 1.0)).sum()) + float(np.abs(terms).sum()) + allowed
    size += share * float(pi.sum()) * instance.own_max_kwh * instance.drivers
    size += instance.shared_max_kwh * (instance.shared_usd_per_kwh + share * float(pi.sum()))
    slack = 8.0 * len(needs) * np.finfo(float).eps * size + rounding_allowance(terms)
    return total - slack, own


def prices(
    instance: Instance, season: Season, own_kwh: Floats, shared_kwh: float, steps: int = 200
) -> tuple[Prices, float]:
    """Prices by subgradient ascent, from those that good sizes suggest; the best bound found with them.

    Args:
        instance: fleet, prices, targets.
        season: K seasons.
        own_kwh: (n,) good own batteries, from the search for instance.
        shared_kwh: a good shared battery.
        steps: of the ascent.
    """
    number("steps", steps, 1, 10**6, integer=True)
    require(instance.missed_usd > 0.0, "missed_usd", instance.missed_usd, "positive: without it no bound is needed")
    seasons = len(season.need_kwh)
    needs = _flat(season)
    order = _order(needs)
    lam = np.full(instance.drivers, 0.5 * instance.missed_usd)
    pi = _suggested(instance, needs, own_kwh, shared_kwh, seasons)
    best, kept = -np.inf, Prices(lam, pi)
    size_lam, size_pi = 0.05 * instance.missed_usd, 0.2
    for step in range(steps):
        value, own = _value(instance, needs, order, Prices(lam, pi), seasons)
        if value > best:
            best, kept = value, Prices(lam.copy(), pi.copy())
        missing, asked = np.zeros(needs.shape), np.zeros(needs.shape)
        for i in range(instance.drivers):
            missing[:, i], asked[:, i] = asked_and_missed(np.ascontiguousarray(needs[:, i]), pi, lam[i], own[i])
        fade = 1.0 / (1.0 + 0.05 * step)
        rate = missing.mean(axis=0) - instance.tolerated
        lam = np.clip(lam + size_lam * fade * rate / instance.tolerated, 0.0, instance.missed_usd)
        # a day's price rises where more is asked than the battery that the prices pay for
        total = asked.sum(axis=1)
        pi = pi * np.exp(np.clip(size_pi * fade * (total / max(shared_kwh, 1e-9) - 1.0), -1.0, 1.0))
        pi *= instance.shared_usd_per_kwh * seasons / max(float(pi.sum()), 1e-300)
    return kept, best


def _suggested(instance: Instance, needs: Floats, own: Floats, shared: float, seasons: int) -> Floats:
    """First prices of shared energy: by how far a day exceeds the shared battery; they pay for it exactly."""
    total = np.maximum(needs - own, 0.0).sum(axis=1)
    pi = np.maximum(total / max(shared, 1e-9), 0.0) ** 4 + 1e-6
    return np.asarray(pi * instance.shared_usd_per_kwh * seasons / pi.sum())
