"""When cars are plugged in, what they bring and what they must leave with: generated, or from recorded sessions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from v2g_env.core.validate import array, require
from v2g_env.data.splits import DaySessions
from v2g_env.scheduling.instance import Instance

__all__ = ["Cars", "cars_from", "session_table", "uncontrolled_kw"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Cars(NamedTuple):
    """Cars of n days.

    Attributes:
        arrive, depart: (n, cars) first step plugged in, and step at whose start the car is gone; equal: it never comes.
        start_kwh, target_kwh: (n, cars) energy on arrival, and least energy at departure [kWh].
    """

    arrive: Ints
    depart: Ints
    start_kwh: Floats
    target_kwh: Floats


def session_table(days: DaySessions) -> Floats:
    """Recorded sessions as (S, 3): clock time of arrival [h], stay [h], energy delivered [kWh]."""
    return np.stack([days.arrival_h % 24.0, days.departure_h - days.arrival_h, days.energy_kwh], axis=1)


def cars_from(instance: Instance, uniforms: Floats, sessions: Floats | None = None) -> Cars:
    """Cars from uniforms in (0, 1).

    A target that no charging from arrival to departure can reach is lowered to what it reaches.

    Args:
        instance: the problem.
        uniforms: (n, cars, 3).
        sessions: (S, 3) as ``session_table`` gives; None: the instance's normal clock times.

    Raises:
        InvalidInputError: for sessions of a wrong shape, negative stays or energies.
    """
    lot = instance
    if sessions is None:
        arrive_h, leave_h = _clock_times(lot, uniforms)
        low, high = lot.soc_arrival
        start = lot.battery_kwh * (low + (high - low) * uniforms[..., 2])
    else:
        found = array("sessions", sessions, (None, 3), 0.0, 1e6)
        require(len(found) > 0, "sessions", len(found), "at least one")
        pick = found[np.minimum((uniforms[..., 0] * len(found)).astype(np.int64), len(found) - 1)]
        arrive_h = (pick[..., 0] - lot.start_h) % 24.0
        leave_h = arrive_h + pick[..., 1]
        start = np.clip(lot.soc_wanted * lot.battery_kwh - pick[..., 2], *lot.energy_range_kwh)
    arrive = np.ceil(np.clip(arrive_h / lot.step_h, 0.0, lot.steps) - 1e-9).astype(np.int64)
    depart = np.maximum(np.floor(np.clip(leave_h / lot.step_h, 0.0, lot.steps) + 1e-9).astype(np.int64), arrive)
    most = start + lot.efficiency * lot.charger_kw * lot.step_h * (depart - arrive)
    return Cars(arrive, depart, start, np.minimum(lot.soc_wanted * lot.battery_kwh, most))


def _clock_times(lot: Instance, uniforms: Floats) -> tuple[Floats, Floats]:
    """Arrival and departure in hours after the start; departures are those after the mean arrival."""
    come = (lot.arrival_h[0] - lot.start_h) % 24.0
    leave = (lot.departure_h[0] - lot.start_h) % 24.0
    leave += 24.0 * (leave <= come)
    noise = ndtri(np.clip(uniforms[..., :2], 1e-12, 1.0 - 1e-12))
    return come + lot.arrival_h[1] * noise[..., 0], leave + lot.departure_h[1] * noise[..., 1]


def uncontrolled_kw(instance: Instance, cars: Cars) -> Floats:
    """(n, steps, cars) power if every car charges to its target at once [kW]."""
    lot = instance
    energy, target = cars.start_kwh.copy(), cars.target_kwh
    power = np.zeros((len(energy), lot.steps, lot.cars))
    gain = lot.efficiency * lot.step_h
    for t in range(lot.steps):
        there = (cars.arrive <= t) & (t < cars.depart)
        power[:, t] = np.where(there, np.clip((target - energy) / gain, 0.0, lot.charger_kw), 0.0)
        energy += gain * power[:, t]
    return power
