"""Certified sizes: scenario programs for the shared battery, and separate batteries for comparison.

(P-SI) of Alexeenko and Charisopoulos, arXiv 2304.10461: the least cost such that the drivers' shortfalls together stay
within the shared battery with probability 1 - eps, eps the smallest tolerated probability of any driver. Then every
driver is served with that probability under every shortfall-minimising rule. Solved for sampled days; the number of
days that decide the answer bounds its risk (Garatti and Campi 2025), usually far below what the number of decisions
alone would promise.

(P-NS): each driver alone, a quantile of his need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import FORMAT
from baselines.shared_battery.laws import law_data
from baselines.shared_battery.scenario_program import Answer, Range, least_cost
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import Days, Law, fitting, sample_days

__all__ = ["GRID", "Solution", "certificate_of", "header", "separate", "solve", "solve_days", "span_of"]

Floats = NDArray[np.float64]

GRID = tuple(50 * 2**j for j in range(12))  # numbers of days tried, in this order, where none is given
TIE_BREAK = "nearest to own_max_kwh for everybody among the sizes within 1e-7 of the least cost"


class Solution(NamedTuple):
    """Certified sizes.

    Attributes:
        plan: (n + 1,) own batteries and the shared one [kWh].
        value: cost of the capacity for a season [$].
        certificate: JSON data, see baselines.certificate.check.
    """

    plan: Floats
    value: float
    certificate: dict[str, Any]

    @property
    def own_kwh(self) -> Floats:
        """(n,) own batteries."""
        return self.plan[:-1]

    @property
    def shared_kwh(self) -> float:
        """The shared battery."""
        return float(self.plan[-1])


def span_of(instance: Instance) -> Range:
    """Ranges and price ratio of an instance's scenario program."""
    n = instance.drivers
    ratio = instance.own_usd_per_kwh / instance.shared_usd_per_kwh
    return Range(np.full(n, instance.own_min_kwh), np.full(n, instance.own_max_kwh), ratio)


def solve(
    instance: Instance,
    *,
    n_samples: int | None = None,
    seed: int = 1,
    source: Law | str = "generator",
    beta: float = 1e-5,
    looks: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Solution:
    """Solve (P-SI) on a fresh sample and certify the answer.

    Args:
        instance: fleet, prices, targets.
        n_samples: number N of sampled days. None: the first of GRID for which the certified risk is at most the
            instance's target; every number of the grid counts as a look.
        seed: of the sample.
        source: law of the needs, or its name.
        beta: confidence parameter of the risk statement in (0, 1).
        looks: number of programs tried on the same sample; each gets beta / looks.
        say: receives a line per round of added days.

    Raises:
        InvalidInputError: for an argument out of range, fewer samples than decisions, or a target that the grid's
            largest sample does not reach.
        SolverError: if the proof of optimality does not close.
    """
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    number("looks", looks, 1, 10**6, integer=True)
    if n_samples is not None:
        number("n_samples", n_samples, instance.drivers + 1, 10**6, integer=True)
        days = sample_days(instance, source, n_samples, seed)
        return solve_days(instance, days, fitting(instance, source), seed, beta, looks, say)
    target = float(instance.tolerated.min())
    sizes = [size for size in GRID if size > instance.drivers]
    require(len(sizes) > 0, "drivers", instance.drivers, f"below the largest number of days, {GRID[-1]}")
    for size in sizes:
        days = sample_days(instance, source, size, seed)
        say(f"{size} sampled days")
        found = solve_days(instance, days, fitting(instance, source), seed, beta, looks * len(sizes), say)
        if found.certificate["risk"]["eps"] <= target:
            return found
    reached = found.certificate["risk"]["eps"]
    require(False, "eps", target, f"at least {reached:.2g}, which is certified with {sizes[-1]} days")
    raise AssertionError  # require has raised


def solve_days(
    instance: Instance,
    days: Days,
    source: Law,
    seed: int,
    beta: float = 1e-5,
    looks: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Solution:
    """As ``solve`` for a sample drawn by sample_days(instance, source, N, seed)."""
    answer = least_cost(days.need_kwh, span_of(instance), say)
    require(
        answer.shared_kwh <= instance.shared_max_kwh,
        "shared_max_kwh_per_driver",
        instance.shared_max_kwh_per_driver,
        f"at least {answer.shared_kwh / instance.drivers:.4g} for this sample",
    )
    eps = float(risk.degenerate(len(days.need_kwh), len(answer.days), beta / looks))
    data = certificate_of(instance, source, days, seed, answer)
    data["risk"] = {"beta": beta, "looks": looks, "theorem": "degenerate", "eps": eps}
    return Solution(np.append(answer.own_kwh, answer.shared_kwh), data["cost_usd"], data)


def header(instance: Instance, source: Law, kind: str, sample: dict[str, Any]) -> dict[str, Any]:
    """Fields that all certificates of sizes share."""
    return {
        "format": FORMAT,
        "problem": "shared_battery",
        "kind": kind,
        "instance_sha256": instance.hash,
        "instance": instance.to_dict(),
        "needs": law_data(source),
        "sample": {"law": source.name} | sample,
    }


def certificate_of(instance: Instance, source: Law, days: Days, seed: int, answer: Answer) -> dict[str, Any]:
    """Certificate of an answer without its risk."""
    sample = {"seed": int(seed), "n_samples": len(days.need_kwh), "sha256": days.sha256}
    return header(instance, source, "scenario sizes", sample) | {
        "own_kwh": answer.own_kwh.tolist(),
        "shared_kwh": float(answer.shared_kwh),
        "cost_usd": float(instance.cost_usd(answer.own_kwh, answer.shared_kwh)),
        "tie_break": TIE_BREAK,
        "least_own_kwh": answer.least_own_kwh.tolist(),
        "days": answer.days.tolist(),
        "cost_weight": answer.cost_weight.tolist(),
        "tie_weight": answer.tie_weight.tolist(),
    }


def separate(
    instance: Instance,
    *,
    n_samples: int | None = None,
    seed: int = 1,
    source: Law | str = "generator",
    beta: float = 1e-5,
) -> Solution:
    """(P-NS): sizes without a shared battery, b_i the (1 - eps_i)-quantile of driver i's need.

    Args:
        instance: fleet and targets.
        n_samples: number of sampled days; b_i is then the smallest order statistic that promises eps_i, for all
            drivers together at confidence 1 - beta. None: the exact quantiles of the law.
        seed: of the sample.
        source: law of the needs, or its name.
        beta: confidence parameter.

    Raises:
        InvalidInputError: for an argument out of range, or too few samples for a target.
    """
    law = fitting(instance, source)
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    if n_samples is None:
        own = law.needs.quantile(1.0 - instance.tolerated)
        sample: dict[str, Any] = {"seed": None, "n_samples": None, "sha256": None}
        above, limits = [], instance.tolerated.tolist()
    else:
        number("n_samples", n_samples, 1, 10**6, integer=True)
        days = sample_days(instance, law, n_samples, seed)
        sample = {"seed": int(seed), "n_samples": n_samples, "sha256": days.sha256}
        above = most_above(instance, n_samples, beta)
        places = n_samples - 1 - np.array(above)
        own = np.sort(days.need_kwh, axis=0)[places, np.arange(instance.drivers)]
        limits = np.atleast_1d(risk.hold_out(n_samples, np.array(above), beta / instance.drivers)).tolist()
    own = np.maximum(own, instance.own_min_kwh)
    require(bool((own <= instance.own_max_kwh).all()), "own_max_kwh", instance.own_max_kwh, f"at least {own.max():.4g}")
    cost = float(instance.cost_usd(own, 0.0))
    data = header(instance, law, "separate sizes", sample) | {
        "own_kwh": own.tolist(),
        "shared_kwh": 0.0,
        "cost_usd": cost,
        "days_above": above,
        "risk": {"beta": beta, "eps": limits},
    }
    return Solution(np.append(own, 0.0), cost, data)


def most_above(instance: Instance, n_samples: int, beta: float) -> list[int]:
    """Largest number of sampled days that may exceed each driver's battery, (n,), for the promise of his eps.

    The order statistic with v of N days above has P(V > eps) = P(Binomial(N, eps) <= v): the limit of a hold-out with v
    violations. beta is shared by the drivers.
    """
    counts = np.arange(n_samples)
    limits = np.atleast_1d(risk.hold_out(n_samples, counts, beta / instance.drivers))
    most = []
    for i, eps in enumerate(instance.tolerated.tolist()):
        fits = np.flatnonzero(limits <= eps)
        require(
            len(fits) > 0,
            "n_samples",
            n_samples,
            f"enough for eps[{i}] = {eps:g}; even the largest day promises {float(limits[0]):.3g} only",
        )
        most.append(int(fits[-1]))
    return most
