"""What a scenario really offers: the market and the capacity that hindsight bounds are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.storage import Market
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Scenario

__all__ = ["reachable", "true_market"]


def true_market(instance: Instance, scenario: Scenario) -> Market:
    """The scenario's own offers."""
    return Market(instance.buy, scenario.surplus_kw[:, :-1], scenario.deficit_kw[:, :-1])


def reachable(instance: Instance, scenario: Scenario) -> NDArray[np.float64]:
    """True capacity (n, T) [kWh], zero in steps in which no action can have stored anything."""
    capacity = scenario.capacity_kwh[:, :-1].copy()
    capacity[:, : instance.gate_closure_steps] = 0.0
    return capacity
