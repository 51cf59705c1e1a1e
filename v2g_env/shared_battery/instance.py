"""The shared battery's data: one frozen, validated object with units in its names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.allocation import RULES
from v2g_env.core.validate import array, number, require
from v2g_env.record import Record

__all__ = ["VALUES", "Instance"]

Floats = NDArray[np.float64]

VALUES = ("lognormal", "density", "equal")


@dataclass(frozen=True)
class Instance(Record):
    """A fleet of drivers, the prices of battery capacity, and a week of requests for the shared part.

    Every driver has a battery b_i of his own; what he needs beyond it on a day (his shortfall) has to come from a
    shared battery s. Weeks of requests use the sizes ``own_quantile`` and ``shared_fraction``.

    Attributes:
        drivers: number n of drivers.
        fleet_seed: draws the drivers' scales; part of the fleet's identity, not of an episode's randomness.
        median_miles: median over drivers of the scale of their daily distance (see needs.py for the fit) [mile].
        driver_spread: standard deviation of the log scale; 0 makes all drivers alike.
        day_shape: Weibull shape of the days of one driver.
        idle: probability of a day without any need.
        correlation: c in [0, 1) of the common shock that drivers share on a day.
        miles_per_kwh: of the vehicles.
        bin_kwh: bin width of the drivers' histograms [kWh].
        need_max_kwh: end of the last bin; longer days are counted in it [kWh].
        own_usd_per_kwh, shared_usd_per_kwh: price of own and of shared capacity for a season [$/kWh].
        eps: tolerated probability of a day on which a driver is not served: one number, or one for each driver.
        own_min_kwh: least own battery [kWh].
        own_max_kwh, shared_max_kwh_per_driver: the largest capacities that may be chosen [kWh].
        rule: allocation rule, one of core.allocation.RULES.
        season_days: days for which sizes are fixed.
        missed_usd: price of every driver-day without service beyond the tolerated share of the season [$].
        week_days: days of a week of requests.
        weekday_factors: factor on all needs for each day of the week, from Monday (week of requests only).
        own_quantile: own batteries in the week of requests: this quantile of each driver's need.
        shared_fraction: shared battery in the week of requests, as a share of the mean total shortfall of a day.
        recharge_fraction: energy that a night brings back, as a share of the shared battery.
        values: what serving a request is worth: "lognormal" (independent of its size), "density" (lognormal per kWh),
            "equal".
        value_usd, value_sd: median of a request's value [$], and standard deviation of its logarithm.
    """

    drivers: int = 25
    fleet_seed: int = 1
    median_miles: float = 34.34
    driver_spread: float = 0.646
    day_shape: float = 1.358
    idle: float = 0.0
    correlation: float = 0.0
    miles_per_kwh: float = 3.0
    bin_kwh: float = 2.0
    need_max_kwh: float = 160.0
    own_usd_per_kwh: float = 3.6
    shared_usd_per_kwh: float = 4.0
    eps: tuple[float, ...] = (0.05,)
    own_min_kwh: float = 0.0
    own_max_kwh: float = 160.0
    shared_max_kwh_per_driver: float = 160.0
    rule: str = "utilitarian"
    season_days: int = 90
    missed_usd: float = 30.0
    week_days: int = 7
    weekday_factors: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.2, 1.6, 0.8)
    own_quantile: float = 0.5
    shared_fraction: float = 0.4
    recharge_fraction: float = 0.25
    values: str = "lognormal"
    value_usd: float = 10.0
    value_sd: float = 0.8

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        number("drivers", self.drivers, 1, 10_000, integer=True)
        number("fleet_seed", self.fleet_seed, 0, 2**63, integer=True)
        number("median_miles", self.median_miles, 0, 1e4, open_low=True)
        number("driver_spread", self.driver_spread, 0, 3)
        number("day_shape", self.day_shape, 0.3, 20)
        number("idle", self.idle, 0, 1, open_high=True)
        number("correlation", self.correlation, 0, 1, open_high=True)
        number("miles_per_kwh", self.miles_per_kwh, 0, 100, open_low=True)
        number("bin_kwh", self.bin_kwh, 0, 1e4, open_low=True)
        number("need_max_kwh", self.need_max_kwh, self.bin_kwh, 1e5)
        bins = self.need_max_kwh / self.bin_kwh
        require(
            abs(bins - round(bins)) < 1e-9 and bins <= 1e5,
            "need_max_kwh / bin_kwh",
            bins,
            "a whole number up to 100000",
        )
        self._check_sizes()
        self._check_week()
        self.settle_numbers()

    def _check_sizes(self) -> None:
        for name in ("own_usd_per_kwh", "shared_usd_per_kwh"):
            number(name, getattr(self, name), 0, 1e6, open_low=True)
        eps = array("eps", self.eps, (None,))
        require(len(eps) in (1, self.drivers), "length of eps", len(eps), f"1 or {self.drivers}")
        for value in eps.tolist():
            number("eps", value, 0, 1, open_low=True, open_high=True)
        object.__setattr__(self, "eps", tuple(eps.tolist()))
        number("own_min_kwh", self.own_min_kwh, 0, 1e5)
        number("own_max_kwh", self.own_max_kwh, self.own_min_kwh, 1e5, open_low=True)
        number("shared_max_kwh_per_driver", self.shared_max_kwh_per_driver, 0, 1e5, open_low=True)
        require(self.rule in RULES, "rule", self.rule, f"one of {', '.join(RULES)}")
        number("season_days", self.season_days, 1, 10_000, integer=True)
        number("missed_usd", self.missed_usd, 0, 1e6)

    def _check_week(self) -> None:
        number("week_days", self.week_days, 1, 366, integer=True)
        factors = array("weekday_factors", self.weekday_factors, (7,), 0.0, 100.0)
        require(bool((factors > 0.0).all()), "weekday_factors", self.weekday_factors, "seven positive numbers")
        object.__setattr__(self, "weekday_factors", tuple((factors + 0.0).tolist()))
        number("own_quantile", self.own_quantile, 0, 1, open_high=True)
        number("shared_fraction", self.shared_fraction, 0, 100, open_low=True)
        number("recharge_fraction", self.recharge_fraction, 0, 1)
        require(self.values in VALUES, "values", self.values, f"one of {', '.join(VALUES)}")
        number("value_usd", self.value_usd, 0, 1e6, open_low=True)
        number("value_sd", self.value_sd, 0, 3)

    @property
    def bins(self) -> int:
        """Number of bins of a histogram."""
        return round(self.need_max_kwh / self.bin_kwh)

    @cached_property
    def tolerated(self) -> Floats:
        """Tolerated probability of every driver, (n,), read-only."""
        return np.broadcast_to(np.array(self.eps), (self.drivers,))

    @property
    def shared_max_kwh(self) -> float:
        """The largest shared battery that may be chosen [kWh]."""
        return self.drivers * self.shared_max_kwh_per_driver

    def cost_usd(self, own_kwh: Floats, shared_kwh: float | Floats) -> Floats:
        """Price of capacities for a season [$]: own (..., n), shared (...)."""
        own = np.asarray(own_kwh, np.float64).sum(axis=-1)
        return np.asarray(self.own_usd_per_kwh * own + self.shared_usd_per_kwh * np.asarray(shared_kwh))
