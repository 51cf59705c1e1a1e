"""Rows of a conic day that speak of vehicles: what inverters, batteries and owners allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, eye

from baselines.scheduling.conic_layout import Rows
from baselines.scheduling.feeder_day import FeederDay

__all__ = ["vehicle_rows"]

Floats = NDArray[np.float64]


def vehicle_rows(day: FeederDay, base: float, rows: Rows) -> None:
    """Inverters, stored energy and reserve of the vehicles, aggregated or car by car.

    Args:
        day: the day.
        base: unit of power and energy [kW, kWh].
        rows: receives them.
    """
    count = len(day.ev_buses)
    size = day.steps * count
    every, gain = eye(size, format="csr"), day.ev_efficiency * day.step_h
    cost = day.step_h / day.ev_efficiency
    past = every - eye(size, k=-count, format="csr")
    rows.equal({"energy": past, "charge": -gain * every, "discharge": cost * every}, np.zeros(size))
    rows.cone(
        ({}, day.ev_kva / base), ({"charge": every, "discharge": -every}, 0.0), ({"ev_q": every}, 0.0), count=size
    )
    if len(day.visits):
        _car_rows(day, base, rows)
    else:
        power = day.ev_power_limit_kw.T / base
        _spare_rows(
            rows, ("ev_reserve", "discharge", "charge", "energy"), power, day.ev_corridor_kwh[0].T[1:], cost, base
        )


def _spare_rows(
    rows: Rows, names: tuple[str, str, str, str], power: Floats, least_kwh: Floats, cost: float, base: float
) -> None:
    """Reserve: what could be delivered more, and kept up for one step."""
    reserve, discharge, charge, energy = names
    each = eye(power.size, format="csr")
    rows.at_most({reserve: each, discharge: each, charge: -each}, power)
    rows.at_most({reserve: cost * each, energy: -each}, -least_kwh / base)


def _car_rows(day: FeederDay, base: float, rows: Rows) -> None:
    """Every car by itself; an aggregator is the sum of its cars."""
    count = len(day.ev_buses)
    size, visits = day.steps * count, len(day.visits)
    gain, cost = day.ev_efficiency * day.step_h, day.step_h / day.ev_efficiency
    car, step = day.visits.T
    owner = step * count + np.array(day.car_aggregator, np.int64)[car]
    place = csr_matrix((np.ones(visits), (owner, np.arange(visits))), shape=(size, visits))
    every, each = eye(size, format="csr"), eye(visits, format="csr")
    for name in ("charge", "discharge"):
        rows.equal({name: every, f"car_{name}": -place}, np.zeros(size))
    again = np.flatnonzero(np.diff(car) == 0) + 1  # visits of a car that was there a step before
    before = csr_matrix((np.ones(len(again)), (again, again - 1)), shape=(visits, visits))
    flows = {"car_charge": -gain * each, "car_discharge": cost * each}
    rows.equal({"car_energy": csr_matrix(each - before)} | flows, np.zeros(visits))
    power, least = np.full(visits, day.ev_power_kw / base), day.car_corridor_kwh[0][car, step + 1]
    _spare_rows(rows, ("car_reserve", "car_discharge", "car_charge", "car_energy"), power, least, cost, base)
    rows.at_most({"ev_reserve": every, "car_reserve": -place}, np.zeros(size))
