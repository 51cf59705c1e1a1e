"""The default day on a feeder: 96 quarter hours from noon, a hundred cars, made without chance."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "car_aggregator",
    "car_arrives",
    "car_leaves",
    "car_start_kwh",
    "car_wanted_kwh",
    "load_shape",
    "price_usd_per_kwh",
    "wind_kw",
]

STEPS = 96
CARS = 100
AGGREGATORS = 6


def _hours() -> NDArray[np.float64]:
    """Middle of every step in hours since the midnight before: 12.125 to 35.875."""
    return np.asarray(12.0 + (np.arange(STEPS) + 0.5) * 24.0 / STEPS)


def _bump(hour: float, width_h: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-(((_hours() - hour) / width_h) ** 2)))


def _rounded(values: NDArray[np.float64], digits: int) -> tuple[float, ...]:
    return tuple(np.round(values, digits).tolist())


def load_shape() -> tuple[float, ...]:
    """Residential load with its peak of 1 at 19:30, a low of about .45 at night and a second rise in the morning."""
    shape = 0.45 + 0.55 * _bump(19.5, 3.5) + 0.2 * _bump(31.5, 2.5) + 0.15 * _bump(12.0, 3.0) + 0.1 * _bump(36.0, 2.0)
    return _rounded(np.minimum(shape, 1.0), 4)


def price_usd_per_kwh() -> tuple[float, ...]:
    """Three tariffs: .20 $ from 17 to 22 h, .08 $ from 23 to 7 h, else .12 $."""
    hours = _hours()
    peak, night = (hours > 17.0) & (hours < 22.0), (hours > 23.0) & (hours < 31.0)
    return tuple(np.where(peak, 0.20, np.where(night, 0.08, 0.12)).tolist())


def wind_kw() -> tuple[float, ...]:
    """One 175 kW turbine: little wind in the evening, much at night."""
    return _rounded(175.0 * (0.35 + 0.45 * _bump(27.0, 5.0) - 0.2 * _bump(19.0, 3.0)), 2)


def _quantiles(mean: float, sd: float, stride: int) -> NDArray[np.float64]:
    """CARS quantiles of a normal law, each once, in an order that mixes them (stride coprime to CARS)."""
    law = NormalDist(mean, sd)
    return np.array([law.inv_cdf(((stride * car) % CARS + 0.5) / CARS) for car in range(CARS)])


def car_aggregator() -> tuple[int, ...]:
    """Cars dealt out in turn."""
    return tuple(car % AGGREGATORS for car in range(CARS))


def car_arrives() -> tuple[int, ...]:
    """Step of arrival: quantiles of N(18 h, 2 h)."""
    return tuple(int(step) for step in np.clip(np.round((_quantiles(18.0, 2.0, 37) - 12.0) * 4.0), 0, STEPS))


def car_leaves() -> tuple[int, ...]:
    """Step of departure: quantiles of N(8 h, 1 h) on the next morning."""
    return tuple(int(step) for step in np.clip(np.round((_quantiles(32.0, 1.0, 61) - 12.0) * 4.0), 0, STEPS))


def car_start_kwh() -> tuple[float, ...]:
    """Between .2 and .6 of 24 kWh, evenly."""
    return _rounded(24.0 * (0.2 + 0.4 * ((17 * np.arange(CARS)) % CARS + 0.5) / CARS), 3)


def car_wanted_kwh() -> tuple[float, ...]:
    """.9 of 24 kWh."""
    return (21.6,) * CARS
