"""How often every driver is served with given sizes under a rule: by counting, and certified on fresh days."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.shared_battery.programs import Solution, header
from v2g_env.core.allocation import ORDERED, RULES, count_served, random_order
from v2g_env.core.validate import array, number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.scenario import Days, Law, fitting, sample_days

__all__ = [
    "PROGRAM_STREAM",
    "TRAINING_STREAM",
    "FreshDays",
    "certified",
    "days_needed",
    "missed_days",
    "sample_test",
    "tested",
]

Floats = NDArray[np.float64]

PROGRAM_STREAM, TRAINING_STREAM = 0, 10  # days of scenario programs, and of searches: no test of what they made


class FreshDays(NamedTuple):
    """Days on which sizes are tried.

    Attributes:
        need_kwh: (m, n) [kWh].
        order: (m, n) permutations along which ordered rules serve, or (1, n) zeros.
    """

    need_kwh: Floats
    order: NDArray[np.int64]


def days_needed(drivers: int, tau: float, beta: float) -> int:
    """Days after which, with confidence 1 - beta, all empirical reliabilities are within ``tau`` of the true ones.

    m >= ln(2 n / beta) / (2 tau^2), Hoeffding's inequality for every driver (Appendix C of arXiv 2304.10461).
    """
    number("drivers", drivers, 1, 10**6, integer=True)
    number("tau", tau, 0.0, 1.0, open_low=True)
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    return math.ceil(math.log(2.0 * drivers / beta) / (2.0 * tau**2))


def sample_test(instance: Instance, source: Law | str, days: int, seed: int, stream: int, rule: str) -> FreshDays:
    """Draw test days; ``stream`` keeps them apart from the days that shaped the sizes (stream 0)."""
    require(rule in RULES, "rule", rule, ", ".join(RULES))
    need = sample_days(instance, source, days, seed, stream).need_kwh
    if rule not in ORDERED:
        return FreshDays(need, np.zeros((1, instance.drivers), np.int64))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, 1)))
    return FreshDays(need, random_order(rng.random(need.shape)))


def missed_days(rule: str, own_kwh: Floats, shared_kwh: float, days: FreshDays) -> NDArray[np.int64]:
    """Days on which each driver is not served, (n,)."""
    served = count_served(RULES.index(rule), days.need_kwh, own_kwh, shared_kwh, days.order, TOLERANCE_KWH)
    return np.asarray(len(days.need_kwh) - served)


def tested(
    instance: Instance,
    own_kwh: Floats,
    shared_kwh: float,
    *,
    days: int,
    seed: int = 1,
    stream: int = 2,
    source: Law | str = "generator",
    rule: str | None = None,
    beta: float = 1e-5,
    looks: int = 1,
) -> Solution:
    """Certify given sizes on fresh days: an upper limit on every driver's probability of not being served.

    Args:
        instance: fleet and targets.
        own_kwh: (n,) own batteries, fixed before the days are drawn.
        shared_kwh: the shared battery.
        days: number of fresh days.
        seed: of the days.
        stream: of the days; seed and stream must not be those of days that shaped the sizes.
        source: law of the needs, or its name.
        rule: allocation rule; None: the instance's.
        beta: confidence parameter of all limits together.
        looks: number of sizes tried on the same fresh days; each gets beta / looks.
    """
    rule = instance.rule if rule is None else rule
    own = array("own_kwh", own_kwh, (instance.drivers,), instance.own_min_kwh, instance.own_max_kwh)
    number("shared_kwh", shared_kwh, 0.0, instance.shared_max_kwh)
    free = "a stream other than those of programs and searches, 0 and 10"
    require(stream not in (PROGRAM_STREAM, TRAINING_STREAM), "stream", stream, free)
    number("looks", looks, 1, 10**6, integer=True)
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    law = fitting(instance, source)
    fresh = sample_test(instance, law, days, seed, stream, rule)
    missed = missed_days(rule, own, shared_kwh, fresh)
    limits = np.atleast_1d(risk.hold_out(days, missed, beta / looks / instance.drivers))
    sample = {"seed": int(seed), "stream": int(stream), "n_samples": int(days), "sha256": Days(fresh.need_kwh).sha256}
    cost = float(instance.cost_usd(own, shared_kwh))
    data: dict[str, Any] = header(instance, law, "tested sizes", sample) | {
        "own_kwh": own.tolist(),
        "shared_kwh": float(shared_kwh),
        "cost_usd": cost,
        "rule": rule,
        "missed": missed.tolist(),
        "risk": {"beta": beta, "looks": looks, "eps": limits.tolist()},
    }
    return Solution(np.append(own, shared_kwh), cost, data)


def certified(instance: Instance, solution: Solution) -> bool:
    """Whether the certified limits keep every driver's target."""
    eps = solution.certificate["risk"]["eps"]
    return bool((np.asarray(eps) <= instance.tolerated).all())
