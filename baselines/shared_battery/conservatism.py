"""Fewer samples for less conservative sizes: Algorithm 1 of Alexeenko and Charisopoulos, arXiv 2304.10461.

The scenario program with the textbook number of samples is far more reliable than asked. Algorithm 1 halves its way to
a number N of samples for which the sizes' empirical reliability (least over the drivers, under a rule) is close to the
target. Two reservations, both shown in the study: reliability is not monotone in N, even with nested samples, so
bisection can miss; and the number N was chosen by looking at the very days that the reliability is read from, so what
the algorithm reports is no guarantee. Here the samples are nested, the published bisection is offered as it is, and so
is an upward search on a fixed grid whose answer is certified on other days, with beta shared by the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.shared_battery.programs import Solution, span_of
from baselines.shared_battery.reliability import FreshDays, certified, missed_days, tested
from baselines.shared_battery.scenario_program import least_cost
from v2g_env.core.validate import array, number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import Days, Law

__all__ = ["Candidate", "bisection", "nested_grid", "textbook_samples"]

Floats = NDArray[np.float64]


class Candidate(NamedTuple):
    """Sizes from the first N samples.

    Attributes:
        n_samples: N.
        own_kwh: (n,) own batteries.
        shared_kwh: the shared battery.
        reliability: share of the evaluation days on which the worst driver is served.
        excess: largest of (missed share - eps_i) over the drivers; not positive if all targets are met.
    """

    n_samples: int
    own_kwh: Floats
    shared_kwh: float
    reliability: float
    excess: float


def textbook_samples(instance: Instance, beta: float) -> int:
    """Number of samples that the study takes to begin with (Calafiore and Campi 2006, n + 1 decisions)."""
    return risk.calafiore_campi_samples(float(instance.tolerated.min()), instance.drivers + 1, beta)


def _candidate(instance: Instance, samples: Days, count: int, evaluation: FreshDays, rule: str) -> Candidate:
    answer = least_cost(samples.need_kwh[:count], span_of(instance))
    share = missed_days(rule, answer.own_kwh, answer.shared_kwh, evaluation) / len(evaluation.need_kwh)
    excess = float((share - instance.tolerated).max())
    return Candidate(count, answer.own_kwh, answer.shared_kwh, float(1.0 - share.max()), excess)


def bisection(
    instance: Instance, samples: Days, evaluation: FreshDays, rule: str, trials: int = 12, tolerance: float = 0.01
) -> list[Candidate]:
    """Algorithm 1 as published: all candidates in the order tried; the last that meets the targets is its answer.

    N starts at all samples. If the targets are met by at most ``tolerance``, it ends; if they are met, N falls to the
    middle between it and the largest number known to fail; if not, it rises to the middle towards the smallest number
    that met them. Samples are the first N of one list.

    Args:
        instance: fleet, prices, targets.
        samples: the scenario samples.
        evaluation: days on which empirical reliability is read.
        rule: allocation rule.
        trials: largest number of candidates.
        tolerance: how close to the target is close enough.
    """
    number("trials", trials, 1, 1000, integer=True)
    low, high = 0, len(samples.need_kwh)
    count, tried = high, []
    for _ in range(trials):
        found = _candidate(instance, samples, count, evaluation, rule)
        tried.append(found)
        if -tolerance <= found.excess <= 0.0:
            break
        if found.excess <= 0.0:
            high = count
        else:
            low = count
        count = (low + high) // 2
        if count in (low, high):
            break
    return tried


def nested_grid(
    instance: Instance,
    samples: Days,
    grid: tuple[int, ...],
    *,
    test_days: int,
    seed: int,
    stream: int = 3,
    source: Law | str = "generator",
    rule: str | None = None,
    beta: float = 1e-5,
) -> Solution:
    """Sizes from the fewest samples of a fixed grid that fresh days certify.

    The fresh days are the same for all of the grid, so each number gets beta / len(grid): the certificate of the first
    that passes holds with confidence 1 - beta although it was chosen by looking.

    Args:
        instance: fleet, prices, targets.
        samples: the scenario samples.
        grid: increasing numbers of samples, at most all.
        test_days: number of fresh days.
        seed: of the fresh days.
        stream: of the fresh days, apart from that of the samples.
        source: law of the needs, or its name.
        rule: allocation rule; None: the instance's.
        beta: confidence parameter.

    Raises:
        InvalidInputError: for a bad grid, or if none of it passes.
    """
    counts = array("grid", grid, (None,), 1.0, len(samples.need_kwh)).astype(np.int64)
    require(len(counts) > 0 and bool((np.diff(counts) > 0).all()), "grid", grid, "increasing numbers, at least one")
    for count in counts.tolist():
        answer = least_cost(samples.need_kwh[:count], span_of(instance))
        found = tested(
            instance,
            answer.own_kwh,
            answer.shared_kwh,
            days=test_days,
            seed=seed,
            stream=stream,
            source=source,
            rule=rule,
            beta=beta,
            looks=len(counts),
        )
        if certified(instance, found):
            return found
    worst = float((np.asarray(found.certificate["risk"]["eps"]) - instance.tolerated).max())
    require(False, "grid", grid, f"a number of samples that passes; the largest misses a target by {worst:.3g}")
    raise AssertionError  # require has raised
