"""What programs, certificates and studies share: expected offers, inflated samples, the violation f."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.storage import Market
from v2g_env.core.market import load_profile, pv_profile
from v2g_env.core.validate import number
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Capacity, Scenario

__all__ = [
    "excess",
    "expected_market",
    "inflate",
    "openable",
    "physical_limits",
    "reachable",
    "row_excess",
    "true_market",
    "wasserstein",
]

Floats = NDArray[np.float64]


def physical_limits(instance: Instance) -> tuple[float, float]:
    """Energy [kWh] and power [kW] that no lot of this size can exceed whatever the sample says."""
    limit = instance.charger_kw * (1.0 + instance.charger_spread)
    # a smoothed law adds up to one charger
    power = instance.bays * limit + instance.charger_kw
    return instance.bays * max(instance.headroom_high_kwh, limit * instance.step_h) + limit * instance.step_h, power


def expected_market(instance: Instance) -> Market:
    """Prices, and the community's offers with all factors at their mean of one; (1, T) offers [kW]."""
    hours = instance.hours
    net = pv_profile(hours, instance.pv_peak_kw) - load_profile(
        hours, instance.load_base_kw, instance.load_evening_kw, instance.load_morning_kw
    )
    return Market(instance.buy, np.maximum(net, 0.0)[None], np.maximum(-net, 0.0)[None])


def openable(instance: Instance, capacity_kwh: Floats) -> Floats:
    """Capacity (n, T) with zeros where no plan can hold energy: before the first gate has closed, and at the end."""
    capacity = np.array(capacity_kwh, dtype=np.float64)
    capacity[:, : instance.gate_closure_steps] = 0.0
    capacity[:, -1] = 0.0
    return capacity


def reachable(instance: Instance, scenario: Scenario) -> Floats:
    """True capacity (n, T) [kWh] where an action can have stored anything, else zero."""
    return openable(instance, scenario.capacity_kwh[:, :-1])


def true_market(instance: Instance, scenario: Scenario) -> Market:
    """The scenario's own offers."""
    return Market(instance.buy, scenario.surplus_kw[:, :-1], scenario.deficit_kw[:, :-1])


def inflate(instance: Instance, sample: Capacity, radius: float) -> Capacity:
    """Worst point of the ball of ``radius`` chargers around every sample: K - R, P - R in chargers, floored at 0.

    The ball's norm is the largest deviation over all steps, energies in charger-steps and powers in chargers. The same
    norm is the ground metric of the Wasserstein distance in the shift bound. The floor keeps the ball inside K, P >= 0.
    """
    number("radius", radius, 0.0, 1e6)
    if radius == 0.0:
        return sample
    return Capacity(
        np.maximum(sample.energy_kwh - radius * instance.energy_scale_kwh, 0.0),
        np.maximum(sample.power_kw - radius * instance.charger_kw, 0.0),
    )


def row_excess(instance: Instance, plan_kwh: Floats, sample: Capacity) -> Floats:
    """Scaled violation of every random row, (3, N, T): energy, charge, discharge; -inf where there is no random row."""
    change = np.diff(plan_kwh, prepend=0.0)
    eta, tau = instance.efficiency, instance.step_h
    rows = np.empty((3, *sample.energy_kwh.shape))
    rows[0] = (plan_kwh - sample.energy_kwh) / instance.energy_scale_kwh
    rows[0][:, : instance.gate_closure_steps] = -np.inf  # empty by rule
    rows[0][:, -1] = -np.inf
    rows[1] = (np.maximum(change, 0.0) / (eta * tau) - sample.power_kw) / instance.charger_kw
    rows[2] = (np.maximum(-change, 0.0) * eta / tau - sample.power_kw) / instance.charger_kw
    return rows


def excess(instance: Instance, plan_kwh: Floats, sample: Capacity) -> Floats:
    """f(x, delta_i) of every sample, (N,): largest violation over the open steps, in units of one charger."""
    return np.asarray(row_excess(instance, plan_kwh, sample).max(axis=(0, 2)))


def wasserstein(instance: Instance, first: Capacity, second: Capacity) -> float:
    """First Wasserstein distance of two equally large samples in chargers, by optimal assignment.

    The ground metric is the one of the adversarial ball: largest deviation over all open steps, energies in
    charger-steps, powers in chargers.
    """
    from scipy.optimize import linear_sum_assignment

    def points(sample_: Capacity) -> Floats:
        return np.concatenate(
            [sample_.energy_kwh[:, :-1] / instance.energy_scale_kwh, sample_.power_kw / instance.charger_kw], axis=1
        )

    a, b = points(first), points(second)
    cost = np.stack([np.abs(row - b).max(axis=1) for row in a])
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())
