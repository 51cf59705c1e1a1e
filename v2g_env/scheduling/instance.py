"""The scheduling problem's data: one frozen, validated object with units in its names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.radial import Tree
from v2g_env.core.validate import array, number, require
from v2g_env.record import Record

__all__ = ["Instance"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Instance(Record):
    """A small network: one gas generator, wind turbines, aggregated cars and homes on radial lines.

    Bus 0 has the generator; line l connects ``line_from[l]`` with ``line_to[l]``. An aggregator is the homes and cars
    of one bus. Sign rule: charging and consumption are positive.

    Attributes:
        steps, step_h, start_h: length and number of steps, and clock time of the first [h].
        aggregator_bus: bus of each aggregator.
        turbine_bus: bus of each wind turbine.
        line_from, line_to, line_limit_kw: the radial network; limits hold in both directions.
        load_peak_kw: mean load of all homes at the evening peak (19:30) [kW].
        load_shares: of the aggregators; they sum to 1.
        load_deviation: half-width of a load's prediction interval, as a share of its mean.
        cars: number of cars, dealt to the aggregators in turn.
        battery_kwh, charger_kw, efficiency: of a car; charging stores efficiency x energy, discharging takes
            energy / efficiency.
        soc_min, soc_max, soc_wanted: least, largest and wanted (at departure) state of charge.
        soc_arrival: least and largest state of charge on arrival, uniform between.
        arrival_h, departure_h: mean and standard deviation of the clock times, normal; departures on the next morning.
        gas_max_kw, gas_ramp_kw: limit of the generator, and of its change from step to step.
        gas_linear, gas_quadratic, gas_segments: cost k (linear P + quadratic P^2) [$/h], interpolated on
            that many equal pieces.
        calibrated_usd: mean cost of a day without V2G whose load and wind are known; it fixes k.
        turbine_kw, cut_in_m_s, rated_m_s, cut_out_m_s: power curve, cubic between cut-in and rated speed.
        wind_scale_m_s, wind_night, wind_evening: Weibull scale (shape 2), and its relative change by night (3:00)
            and evening (19:00).
        wind_memory, wind_news_memory: autocorrelation from step to step of the forecast and of its error.
        wind_common: share of latent variance that all turbines have in common.
        forecast_quality: correlation of the day-ahead forecast with the latent wind; 1: the wind is known.
        wind_usd_per_kwh: maintenance of the turbines [$/kWh used].
        wear_usd_per_kwh, subsidy_usd_per_kwh: wear of the cars' batteries and payment to owners [$/kWh discharged].
        emergency_usd_per_kwh: price of the source that covers what is missing.
        overload_usd_per_kwh: price of energy above a line's limit.
        reserve_share: spinning reserve, as a share of the load; demanded of plans.
        gas_band_kw: how far an action moves the generator from the expected net load.
        gate_closure_steps: 1: a step's set-points are fixed before its load and wind are known; 0: after.
    """

    steps: int = 96
    step_h: float = 0.25
    start_h: float = 12.0
    aggregator_bus: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    turbine_bus: tuple[int, ...] = (2, 3, 5, 6)
    line_from: tuple[int, ...] = (0, 1, 2, 0, 4, 5)
    line_to: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    line_limit_kw: tuple[float, ...] = (500.0, 350.0, 200.0, 500.0, 350.0, 200.0)
    load_peak_kw: float = 550.0
    load_shares: tuple[float, ...] = (0.2, 0.18, 0.17, 0.16, 0.15, 0.14)
    load_deviation: float = 0.055
    cars: int = 100
    battery_kwh: float = 24.0
    charger_kw: float = 6.6
    efficiency: float = 0.95
    soc_min: float = 0.2
    soc_max: float = 0.95
    soc_wanted: float = 0.9
    soc_arrival: tuple[float, ...] = (0.2, 0.6)
    arrival_h: tuple[float, ...] = (18.0, 2.0)
    departure_h: tuple[float, ...] = (8.0, 1.0)
    gas_max_kw: float = 1000.0
    gas_ramp_kw: float = 200.0
    gas_linear: float = 0.1
    gas_quadratic: float = 0.001
    gas_segments: int = 40
    calibrated_usd: float = 1860.0
    turbine_kw: float = 175.0
    cut_in_m_s: float = 3.0
    rated_m_s: float = 12.0
    cut_out_m_s: float = 25.0
    wind_scale_m_s: float = 8.0
    wind_night: float = 0.5
    wind_evening: float = 0.35
    wind_memory: float = 0.97
    wind_news_memory: float = 0.93
    wind_common: float = 0.7
    forecast_quality: float = 0.9
    wind_usd_per_kwh: float = 0.01
    wear_usd_per_kwh: float = 0.02
    subsidy_usd_per_kwh: float = 0.02
    emergency_usd_per_kwh: float = 3.0
    overload_usd_per_kwh: float = 1.0
    reserve_share: float = 0.1
    gas_band_kw: float = 150.0
    gate_closure_steps: int = 1

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        number("steps", self.steps, 1, 10_000, integer=True)
        number("step_h", self.step_h, 0, 24, open_low=True)
        number("start_h", self.start_h, 0, 24, open_high=True)
        self._check_network()
        self._check_loads()
        self._check_cars()
        self._check_gas()
        self._check_wind()
        for name in ("wind", "wear", "subsidy", "emergency", "overload"):
            number(f"{name}_usd_per_kwh", getattr(self, f"{name}_usd_per_kwh"), 0, 1e6)
        number("reserve_share", self.reserve_share, 0, 10)
        number("gate_closure_steps", self.gate_closure_steps, 0, 1, integer=True)
        self.settle_numbers()

    def _check_network(self) -> None:
        limit = array("line_limit_kw", self.line_limit_kw, (None,), 0.0, 1e9)
        object.__setattr__(self, "line_limit_kw", tuple(limit.tolist()))
        for name in ("line_from", "line_to", "aggregator_bus", "turbine_bus"):
            given = getattr(self, name)
            listed = isinstance(given, (tuple, list)) or (isinstance(given, np.ndarray) and given.ndim == 1)
            require(listed, name, given, "a list of buses")
            for bus in given:
                number(f"bus in {name}", bus, 0, len(limit), integer=True)
            object.__setattr__(self, name, tuple(int(bus) for bus in given))
        for name in ("line_from", "line_to"):
            ends = getattr(self, name)
            require(len(ends) == len(limit), name, ends, f"one bus for each of the {len(limit)} line_limit_kw")
        require(1 <= len(self.aggregator_bus) <= 1000, "aggregator_bus", self.aggregator_bus, "1 to 1000 buses")
        require(len(self.turbine_bus) <= 1000, "turbine_bus", self.turbine_bus, "at most 1000 buses")
        _ = self.tree

    def _check_loads(self) -> None:
        number("load_peak_kw", self.load_peak_kw, 0, 1e9, open_low=True)
        shares = array("load_shares", self.load_shares, (self.aggregators,), 0.0, 1.0)
        require(abs(shares.sum() - 1.0) < 1e-9, "sum of load_shares", float(shares.sum()), "1")
        object.__setattr__(self, "load_shares", tuple(shares.tolist()))
        number("load_deviation", self.load_deviation, 0, 1)

    def _check_cars(self) -> None:
        number("cars", self.cars, 0, 100_000, integer=True)
        number("battery_kwh", self.battery_kwh, 0, 1e4, open_low=True)
        number("charger_kw", self.charger_kw, 0, 1e4, open_low=True)
        number("efficiency", self.efficiency, 0, 1, open_low=True)
        number("soc_min", self.soc_min, 0, 1)
        number("soc_max", self.soc_max, self.soc_min, 1)
        number("soc_wanted", self.soc_wanted, self.soc_min, self.soc_max)
        low, high = array("soc_arrival", self.soc_arrival, (2,), self.soc_min, self.soc_max).tolist()
        require(low <= high, "soc_arrival", self.soc_arrival, "least, then largest state of charge")
        object.__setattr__(self, "soc_arrival", (low, high))
        for name in ("arrival_h", "departure_h"):
            mean, sd = array(name, getattr(self, name), (2,)).tolist()
            number(f"mean of {name}", mean, 0, 24, open_high=True)
            number(f"standard deviation of {name}", sd, 0, 12)
            object.__setattr__(self, name, (mean, sd))

    def _check_gas(self) -> None:
        number("gas_max_kw", self.gas_max_kw, 0, 1e9, open_low=True)
        number("gas_ramp_kw", self.gas_ramp_kw, 0, 1e9)
        number("gas_linear", self.gas_linear, 0, 1e6, open_low=True)
        number("gas_quadratic", self.gas_quadratic, 0, 1e6)
        number("gas_segments", self.gas_segments, 1, 1000, integer=True)
        number("calibrated_usd", self.calibrated_usd, 0, 1e9, open_low=True)
        number("gas_band_kw", self.gas_band_kw, 0, 1e9, open_low=True)

    def _check_wind(self) -> None:
        number("turbine_kw", self.turbine_kw, 0, 1e6)
        number("cut_in_m_s", self.cut_in_m_s, 0, 100)
        number("rated_m_s", self.rated_m_s, self.cut_in_m_s, 100, open_low=True)
        number("cut_out_m_s", self.cut_out_m_s, self.rated_m_s, 1000, open_low=True)
        number("wind_scale_m_s", self.wind_scale_m_s, 0, 100, open_low=True)
        for name in ("wind_night", "wind_evening"):
            number(name, getattr(self, name), 0, 0.9)
        for name in ("wind_memory", "wind_news_memory"):
            number(name, getattr(self, name), 0, 1, open_high=True)
        for name in ("wind_common", "forecast_quality"):
            number(name, getattr(self, name), 0, 1)

    @property
    def aggregators(self) -> int:
        """Number of aggregators."""
        return len(self.aggregator_bus)

    @property
    def turbines(self) -> int:
        """Number of wind turbines."""
        return len(self.turbine_bus)

    @cached_property
    def tree(self) -> Tree:
        """The network, checked to be radial and connected."""
        return Tree.of(self.line_from, self.line_to, len(self.line_limit_kw) + 1)

    @cached_property
    def owner(self) -> Ints:
        """(cars,) aggregator of every car."""
        return np.arange(self.cars) % self.aggregators

    @cached_property
    def hours(self) -> Floats:
        """(steps,) clock time in the middle of every step, in [0, 24) [h]."""
        return np.asarray((self.start_h + self.step_h * (np.arange(self.steps) + 0.5)) % 24.0, np.float64)

    @cached_property
    def load_mean_kw(self) -> Floats:
        """(steps, aggregators) mean load of the homes: base, a morning bump at 8:00 and the evening's at 19:30 [kW]."""
        evening = np.exp(-((_apart(self.hours, 19.5) / 2.5) ** 2))
        morning = np.exp(-((_apart(self.hours, 8.0) / 2.0) ** 2))
        shape = 0.4 + 0.6 * evening + 0.25 * morning
        return np.asarray(self.load_peak_kw * shape[:, None] * np.array(self.load_shares))

    @cached_property
    def wind_scale(self) -> Floats:
        """(steps + 1,) Weibull scale at the step before the first and at every step [m/s]."""
        hours = np.append(self.hours[0] - self.step_h, self.hours)
        night = np.exp(-((_apart(hours, 3.0) / 3.5) ** 2))
        evening = np.exp(-((_apart(hours, 19.0) / 3.0) ** 2))
        return self.wind_scale_m_s * (1.0 + self.wind_night * night - self.wind_evening * evening)

    @cached_property
    def gas_prices(self) -> Floats:
        """(gas_segments,) slopes of the generator's cost with k = 1, from the first piece on [$/kWh]."""
        ends = np.linspace(0.0, self.gas_max_kw, self.gas_segments + 1)
        return np.asarray(self.gas_linear + self.gas_quadratic * (ends[1:] + ends[:-1]))

    @property
    def energy_range_kwh(self) -> tuple[float, float]:
        """Least and largest energy of a car [kWh]."""
        return self.soc_min * self.battery_kwh, self.soc_max * self.battery_kwh


def _apart(hours: Floats, clock: float) -> Floats:
    """Hours between clock times, the short way round."""
    return np.asarray((hours - clock + 12.0) % 24.0 - 12.0)
