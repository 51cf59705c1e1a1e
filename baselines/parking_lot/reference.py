"""The scenario programs in cvxpy, written in full: slow, readable, and the cross-check of every fast path."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.samples import physical_limits
from baselines.parking_lot.storage import Market, tie_break
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Capacity

__all__ = ["Reference", "solve_reference"]

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """Solution: stored energy (T,) [kWh], money without slack and tie-break [$], slacks (N,)."""

    stored_kwh: Floats
    value_usd: float
    slack: Floats


def solve_reference(instance: Instance, market: Market, sample: Capacity, rho: float | None = None) -> Reference:
    """Solve the robust (rho None) or relaxed program over all rows of the sample with one constraint per sample.

    All exchanges are variables of their own, pass-through from the community to the retailer included; nothing is
    assumed about a merit order. max sum_t tau [ -fee c + back d - buy g+ + sell g- - wear (u + v) ] - rho sum_i
    zeta_i.
    """
    import cvxpy as cp

    steps, tau, eta = instance.steps, instance.step_h, instance.efficiency
    surplus, deficit = np.ravel(market.surplus_kw), np.ravel(market.deficit_kw)
    buy = market.buy
    taken, returned = cp.Variable(steps, nonneg=True), cp.Variable(steps, nonneg=True)
    bought, sold = cp.Variable(steps, nonneg=True), cp.Variable(steps, nonneg=True)
    charge, discharge = cp.Variable(steps, nonneg=True), cp.Variable(steps, nonneg=True)
    stored = cp.Variable(steps, nonneg=True)
    slack = cp.Variable(len(sample.energy_kwh), nonneg=True)
    money = tau * (
        -instance.fee_fraction * buy @ taken
        + instance.return_fraction * buy @ returned
        - buy @ bought
        + instance.sell_fraction * buy @ sold
        - instance.wear_usd_per_kwh * cp.sum(charge + discharge)
    )
    before = cp.hstack([np.zeros(1), stored[:-1]])
    rules = [
        charge - discharge == taken + bought - returned - sold,
        stored == before + tau * (eta * charge - discharge / eta),
        stored[-1] == 0,
        taken <= surplus,
        returned <= deficit,
        bought <= instance.grid_limit_kw,
        sold <= instance.grid_limit_kw,
    ]
    # without the lot's own limits a relaxed program could hold energy in cars that no bay has
    energy_max, power_max = physical_limits(instance)
    rules += [stored <= energy_max, charge <= power_max, discharge <= power_max]
    rules += [stored[: instance.gate_closure_steps] == 0] if instance.gate_closure_steps else []
    energy, power = instance.energy_scale_kwh, instance.charger_kw
    n = len(sample.energy_kwh)
    relief = cp.reshape(slack, (n, 1), order="C") @ np.ones((1, steps)) if rho is not None else np.zeros((n, steps))

    def every(row: cp.Variable) -> cp.Expression:
        return np.ones((n, 1)) @ cp.reshape(row, (1, steps), order="C")

    rules += [
        ((every(stored) - sample.energy_kwh) / energy - relief)[:, :-1] <= 0,
        (every(charge) - sample.power_kw) / power <= relief,
        (every(discharge) - sample.power_kw) / power <= relief,
    ]
    penalty = 0.0 if rho is None else rho * cp.sum(slack)
    problem = cp.Problem(cp.Maximize(money - tie_break(steps) @ stored - penalty), rules)
    problem.solve(solver=cp.HIGHS, dual_feasibility_tolerance=1e-10, primal_feasibility_tolerance=1e-10)
    if problem.status != cp.OPTIMAL:
        raise RuntimeError(f"status of the reference program = {problem.status}; allowed: optimal")
    return Reference(stored.value, float(money.value), np.zeros(0) if rho is None else slack.value)
