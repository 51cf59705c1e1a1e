"""Scenario programs of the parking lot: robust, relaxed, adversarial, shift; each plan comes with its certificate.

The robust program has random right-hand sides only, so its N x T rows collapse to one minimum per step and the exact
path solver of storage.py does the rest. The relaxed program ties the steps of a scenario together by one slack; it is
a linear program whose rows are added when they are violated. Both end in the same certificate: plan, multipliers,
support list.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import FORMAT
from baselines.parking_lot.relaxed import solve_relaxed
from baselines.parking_lot.samples import expected_market, inflate, openable
from baselines.parking_lot.storage import Market, plan_money, solve_paths
from baselines.parking_lot.strict import strict_duals
from v2g_env.core.validate import number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE
from v2g_env.parking_lot.scenario import Capacity, law, sample_capacity

__all__ = ["Solution", "solve", "solve_sample"]

Floats = NDArray[np.float64]


class Solution(NamedTuple):
    """A certified plan.

    Attributes:
        plan: (T,) stored energy at the end of every step [kWh].
        value: planned money without slack penalties [$/day].
        certificate: JSON data, see baselines.certificate.check.
    """

    plan: Floats
    value: float
    certificate: dict[str, Any]


def solve(
    instance: Instance,
    *,
    n_samples: int = 2000,
    seed: int = 1,
    law_name: str = "generator",
    beta: float = 1e-5,
    rho: float | None = None,
    radius: float = 0.0,
    quota: str = "executable",
    looks: int = 1,
    distance: float | None = None,
) -> Solution:
    """Solve a scenario program on a fresh sample and certify it.

    Args:
        instance: the lot.
        n_samples: N.
        seed: of the sample.
        law_name: law of the sample; days of a "days:" law are taken in turn.
        beta: confidence parameter of the risk statement in (0, 1).
        rho: None for the robust program, else the price of one charger of violation per scenario [$].
        radius: R in chargers; 0 for none. Positive: adversarial program, and the basis of the shift bound.
        quota: "executable", or "full" as an upper reference that cannot always be carried out.
        looks: number of programs tried on the same sample; each gets beta / looks.
        distance: Wasserstein distance mu of another law in the ball's norm [chargers]; adds the shift statement.

    Raises:
        InvalidInputError: for any argument out of range.
    """
    source = law(law_name)
    if source.replay:  # redrawn caps do not make a real day an independent one
        number("n_samples", n_samples, 1, len(source.days.dates), integer=True)
    sample = sample_capacity(instance, source, n_samples, seed, quota)
    origin = {"law": source.name, "seed": int(seed), "n_samples": int(n_samples), "quota": quota}
    return solve_sample(
        instance, sample, origin, beta, rho, radius, looks, distance, continuous=source.smoothed and radius == 0.0
    )


def solve_sample(
    instance: Instance,
    sample: Capacity,
    origin: dict[str, Any],
    beta: float = 1e-5,
    rho: float | None = None,
    radius: float = 0.0,
    looks: int = 1,
    distance: float | None = None,
    continuous: bool = False,
) -> Solution:
    """As ``solve`` on a given sample; ``origin`` says where it came from (law, seed, n_samples, quota).

    ``continuous`` may be True only for a law in which P{f(x, delta) = 0} = 0 for every plan by construction: then a
    relaxed program gets the two-sided bound, otherwise the one-sided bound that allows ties. Inflated samples are
    floored at zero, which makes ties, so a positive radius rules it out.
    """
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    number("looks", looks, 1, 10**6, integer=True)
    if rho is not None:
        number("rho", rho, 0.0, 1e9, open_low=True)
    worst = inflate(instance, sample, radius)
    market = expected_market(instance)
    if rho is None:
        plan, support = _robust(instance, market, worst)
    else:
        plan, support = solve_relaxed(instance, market, worst, rho)
    duals = strict_duals(instance, market, plan, worst, support, rho)
    value = float(plan_money(instance, market, plan)[0])
    share = beta / looks
    eps_low, eps_up, theorem = _risk(len(worst.energy_kwh), len(support), share, rho is not None, continuous)
    certificate = {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": "scenario program",
        "instance_sha256": instance.hash,
        "instance": instance.to_dict(),
        "sample": origin | {"sha256": sample.sha256},
        "program": {"rho": rho, "radius": float(radius)},
        "plan_kwh": plan.tolist(),
        "value_usd": value,
        "multiplier": duals.multiplier.tolist(),
        "row_duals": [list(row) for row in duals.rows],
        "support": [int(i) for i in support],
        "risk": {"beta": beta, "looks": looks, "theorem": theorem, "eps_low": eps_low, "eps": eps_up},
    }
    if distance is not None:
        require(radius > 0.0, "radius", radius, "a positive radius for a statement about shifted laws")
        certificate["shift"] = {"distance": float(distance), "eps": float(risk.shifted(eps_up, radius, distance))}
    return Solution(plan, value, certificate)


def _risk(n: int, k: int, beta: float, relaxed: bool, continuous: bool) -> tuple[float, float, str]:
    if relaxed and continuous:
        low, up = risk.relaxed(n, k, beta)
        return float(low), float(up), "relaxed"
    return 0.0, float(risk.degenerate(n, k, beta)), "degenerate"


def _robust(instance: Instance, market: Market, sample: Capacity) -> tuple[Floats, list[int]]:
    """Plan and irreducible support list of the robust program."""

    def answer(rows: list[int] | slice) -> Floats:
        lowest = openable(instance, sample.energy_kwh[rows].min(axis=0)[None])
        # a hair less power, so that rounding never makes the plan ask for more than there is
        power = sample.power_kw[rows].min(axis=0)[None] * (1.0 - 1e-14)
        return np.asarray(solve_paths(instance, market, lowest, power).stored_kwh[0])

    plan = answer(slice(None))
    support = _active(instance, plan, sample)
    for i in sorted(support, reverse=True):
        fewer = [j for j in support if j != i]
        if fewer and np.abs(answer(fewer) - plan).max() <= VIOLATION_TOLERANCE:
            support = fewer
    same = bool(np.abs(answer(support) - plan).max() <= VIOLATION_TOLERANCE)
    require(same, "support", support, "a list that reproduces the plan")
    return plan, support


def _active(instance: Instance, plan: Floats, sample: Capacity) -> list[int]:
    """One scenario for every step whose energy or power row is tight."""
    lowest, weakest = sample.energy_kwh.min(axis=0), sample.power_kw.min(axis=0)
    change = np.diff(plan, prepend=0.0)
    eta, tau = instance.efficiency, instance.step_h
    power = np.where(change >= 0.0, change / (eta * tau), -change * eta / tau)
    chosen = set()
    for t in range(len(plan)):
        if t < len(plan) - 1 and plan[t] >= lowest[t] - 1e-9:
            chosen.add(int(sample.energy_kwh[:, t].argmin()))
        if power[t] >= weakest[t] - 1e-9:
            chosen.add(int(sample.power_kw[:, t].argmin()))
    return sorted(chosen) or [0]
