"""A day on a radial feeder: all data of the conic scheduling programs in one validated record."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling import feeder_defaults as defaults
from v2g_env.core.feeder import FEEDERS, Feeder, feeder_of
from v2g_env.core.radial import Tree
from v2g_env.core.validate import array, number, require
from v2g_env.record import Record

__all__ = ["OBJECTIVES", "ROBUST_SETS", "FeederDay"]

Floats = NDArray[np.float64]

OBJECTIVES = ("cost", "losses")
ROBUST_SETS = ("none", "box", "ellipsoid")


@dataclass(frozen=True)
class FeederDay(Record):
    """Feeder, devices, prices, loads and limits of one day. Buses are numbered from 0, the substation.

    Attributes:
        feeder: "33" or "69" (v2g_env.core.feeder), or "own" for the six fields that follow.
        line_from, line_to: buses of every line, which must form a tree ("own" only).
        r_ohm, x_ohm: impedance of every line [ohm] ("own" only).
        bus_p_kw, bus_q_kvar: load of every bus at load_shape = 1; 0 at bus 0 ("own" only) [kW, kvar].
        branch_kva: limit on every line's apparent power: none (empty), one for all, or one for each line [kVA].
        steps, step_h: number and length of the steps [h].
        load_shape: load in every step as a multiple of the feeder's.
        half_width: relative half-width of the uncertain loads: one for all buses, or one for each bus.
        robust: loads for which the limits hold: "none" (the nominal ones), "box" (load_j (1 + h_j xi_j) with all
            |xi_j| <= 1, constant power factor), "ellipsoid" (the sum of xi_j^2 at most omega^2, and |xi_j| <= 1).
        omega: size of the ellipsoid.
        objective: "cost" [$] or "losses" [kWh].
        reactive: whether generator and inverters may deliver reactive power.
        v_min_pu, v_max_pu, source_pu: limits on the voltages, voltage of the substation [pu].
        price_usd_per_kwh: of the substation's energy in every step.
        substation_usd_per_kw2h: quadratic part of the substation's cost, per kW^2 and hour.
        substation_min_kw, substation_kva: least active power (negative: export), apparent power limit [kW, kVA].
        gas_bus, gas_min_kw, gas_max_kw, gas_kva: bus and limits of the gas generator when on [kW, kVA].
        gas_ramp_kw: largest change of its power from step to step, also at a start or stop [kW].
        gas_usd_per_kwh, gas_usd_per_kw2h: its cost: linear part, quadratic part per kW^2 and hour.
        gas_on_usd_per_h, gas_start_usd: cost of an hour on, of a start.
        gas_on_before: whether it is on before the day.
        gas_block_steps: steps for which it is switched on or off together.
        reserve: spinning reserve of generator and vehicles as a share of the (largest) load.
        wind_buses, wind_kw, wind_kva: buses of the turbines, power available in every step to each, inverter [kW, kVA].
        ev_buses, ev_kva: buses of the aggregators of vehicles and inverter of each [kVA].
        ev_power_kw, ev_efficiency: of a vehicle's charger, in both directions; efficiency of each direction [kW].
        ev_least_kwh, ev_most_kwh: window of a vehicle's stored energy [kWh].
        single_cars: whether every car has variables of its own. Otherwise an aggregator is the sum of its cars' limits:
            far quicker, exact for cars alike, optimistic where one car is full while another is not.
        car_aggregator: index of every car's aggregator.
        car_arrives, car_leaves: plugged in from the first step named to before the second.
        car_start_kwh, car_wanted_kwh: stored energy at arrival, least at departure [kWh].
    """

    feeder: str = "33"
    line_from: tuple[int, ...] = ()
    line_to: tuple[int, ...] = ()
    r_ohm: tuple[float, ...] = ()
    x_ohm: tuple[float, ...] = ()
    bus_p_kw: tuple[float, ...] = ()
    bus_q_kvar: tuple[float, ...] = ()
    branch_kva: tuple[float, ...] = ()
    steps: int = 96
    step_h: float = 0.25
    load_shape: tuple[float, ...] = field(default_factory=defaults.load_shape)
    half_width: tuple[float, ...] = (0.1,)
    robust: str = "none"
    omega: float = 3.0
    objective: str = "cost"
    reactive: bool = True
    v_min_pu: float = 0.95
    v_max_pu: float = 1.05
    source_pu: float = 1.0
    price_usd_per_kwh: tuple[float, ...] = field(default_factory=defaults.price_usd_per_kwh)
    substation_usd_per_kw2h: float = 2e-5
    substation_min_kw: float = 0.0
    substation_kva: float = 6000.0
    gas_bus: int = 17
    gas_min_kw: float = 150.0
    gas_max_kw: float = 1000.0
    gas_kva: float = 1200.0
    gas_ramp_kw: float = 200.0
    gas_usd_per_kwh: float = 0.06
    gas_usd_per_kw2h: float = 1e-4
    gas_on_usd_per_h: float = 5.0
    gas_start_usd: float = 20.0
    gas_on_before: bool = True
    gas_block_steps: int = 16
    reserve: float = 0.1
    wind_buses: tuple[int, ...] = (7, 13, 24, 30)
    wind_kw: tuple[float, ...] = field(default_factory=defaults.wind_kw)
    wind_kva: float = 200.0
    ev_buses: tuple[int, ...] = (5, 11, 16, 21, 27, 31)
    ev_kva: float = 130.0
    ev_power_kw: float = 6.6
    ev_efficiency: float = 0.95
    ev_least_kwh: float = 4.8
    ev_most_kwh: float = 22.8
    single_cars: bool = False
    car_aggregator: tuple[int, ...] = field(default_factory=defaults.car_aggregator)
    car_arrives: tuple[int, ...] = field(default_factory=defaults.car_arrives)
    car_leaves: tuple[int, ...] = field(default_factory=defaults.car_leaves)
    car_start_kwh: tuple[float, ...] = field(default_factory=defaults.car_start_kwh)
    car_wanted_kwh: tuple[float, ...] = field(default_factory=defaults.car_wanted_kwh)

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range, with its bus or step."""
        number("steps", self.steps, 1, 2000, integer=True)
        number("step_h", self.step_h, 0, 24, open_low=True)
        for name, allowed in (("robust", ROBUST_SETS), ("objective", OBJECTIVES), ("feeder", (*FEEDERS, "own"))):
            require(getattr(self, name) in allowed, name, getattr(self, name), f"one of {', '.join(allowed)}")
        for name in ("reactive", "gas_on_before", "single_cars"):
            require(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        self._check_network()
        self._check_supply()
        self._check_vehicles()
        self.settle_numbers()
        self._check_reserve()

    def _numbers(self, name: str, sizes: tuple[int, ...], low: float, high: float = 1e9) -> None:
        """Check a tuple of numbers and make them floats."""
        values = array(name, getattr(self, name), (None,))
        allowed = " or ".join(str(size) for size in dict.fromkeys(sizes))
        require(len(values) in sizes, f"length of {name}", len(values), allowed)
        object.__setattr__(self, name, tuple((array(name, values, (None,), low, high) + 0.0).tolist()))

    def _whole(self, name: str, low: int, high: int) -> None:
        """Check a tuple of whole numbers."""
        values = getattr(self, name)
        require(isinstance(values, tuple), name, values, "a tuple of whole numbers")
        for index, value in enumerate(values):
            number(f"{name}[{index}]", value, low, high, integer=True)
        object.__setattr__(self, name, tuple(int(value) for value in values))

    def _check_network(self) -> None:
        own = ("line_from", "line_to", "r_ohm", "x_ohm", "bus_p_kw", "bus_q_kvar")
        if self.feeder == "own":
            for name in own[:2]:
                self._whole(name, 0, 10_000)
            lines = len(self.line_from)
            require(lines > 0, "line_from", self.line_from, "at least one line")
            for name, size in zip(own[2:], (lines, lines, lines + 1, lines + 1), strict=True):
                self._numbers(name, (size,), 0.0)
            for name in own[4:]:
                require(getattr(self, name)[0] == 0.0, f"{name}[0]", getattr(self, name)[0], "0 at the substation")
        else:
            for name in own:
                require(getattr(self, name) == (), name, getattr(self, name), 'empty unless feeder is "own"')
        buses = len(self.line_from) + 1 if self.feeder == "own" else int(self.feeder)
        self._numbers("branch_kva", (0, 1, buses - 1), 0.0)
        self._numbers("load_shape", (self.steps,), 0.0, 100.0)
        self._numbers("half_width", (1, buses), 0.0, 1.0)
        number("omega", self.omega, 0.0, 100.0)
        number("source_pu", self.source_pu, 0.5, 2.0)
        number("v_min_pu", self.v_min_pu, 0.3, self.source_pu)
        number("v_max_pu", self.v_max_pu, self.source_pu, 3.0)

    def _check_supply(self) -> None:
        top = self.network.buses - 1
        self._numbers("price_usd_per_kwh", (self.steps,), 0.0, 1e4)
        for name in ("substation_usd_per_kw2h", "gas_usd_per_kwh", "gas_usd_per_kw2h"):
            number(name, getattr(self, name), 0.0, 1e4)
        number("substation_kva", self.substation_kva, 0.0, 1e9, open_low=True)
        number("substation_min_kw", self.substation_min_kw, -self.substation_kva, self.substation_kva)
        number("gas_bus", self.gas_bus, 1, top, integer=True)
        number("gas_max_kw", self.gas_max_kw, 0.0, 1e9, open_low=True)
        number("gas_ramp_kw", self.gas_ramp_kw, 0.0, 1e9)
        # a unit that cannot come down to its minimum within a step could never be switched
        number("gas_min_kw", self.gas_min_kw, 0.0, min(self.gas_max_kw, self.gas_ramp_kw))
        number("gas_kva", self.gas_kva, self.gas_max_kw, 1e9)
        number("gas_on_usd_per_h", self.gas_on_usd_per_h, 0.0, 1e9)
        number("gas_start_usd", self.gas_start_usd, 0.0, 1e9)
        number("gas_block_steps", self.gas_block_steps, 1, 2000, integer=True)
        number("reserve", self.reserve, 0.0, 10.0)
        self._whole("wind_buses", 1, top)
        number("wind_kva", self.wind_kva, 0.0, 1e9, open_low=True)
        self._numbers("wind_kw", (self.steps,), 0.0, self.wind_kva)

    def _check_vehicles(self) -> None:
        self._whole("ev_buses", 1, self.network.buses - 1)
        number("ev_power_kw", self.ev_power_kw, 0.0, 1e6)
        number("ev_kva", self.ev_kva, 0.0, 1e9, open_low=True)
        number("ev_efficiency", self.ev_efficiency, 0.1, 1.0)
        number("ev_least_kwh", self.ev_least_kwh, 0.0, 1e6)
        number("ev_most_kwh", self.ev_most_kwh, self.ev_least_kwh, 1e6)
        cars = len(self.car_aggregator)
        require(cars == 0 or len(self.ev_buses) > 0, "ev_buses", self.ev_buses, "a bus for every aggregator with cars")
        self._whole("car_aggregator", 0, len(self.ev_buses) - 1)
        for name in ("car_arrives", "car_leaves"):
            self._whole(name, 0, self.steps)
            require(len(getattr(self, name)) == cars, f"length of {name}", len(getattr(self, name)), str(cars))
        for name in ("car_start_kwh", "car_wanted_kwh"):
            self._numbers(name, (cars,), self.ev_least_kwh, self.ev_most_kwh)
        gain = self.ev_efficiency * self.ev_power_kw * self.step_h
        for car, (first, last) in enumerate(zip(self.car_arrives, self.car_leaves, strict=True)):
            require(first <= last, f"car_leaves[{car}]", last, f"at least the arrival {first}")
            reach = self.car_start_kwh[car] + gain * (last - first)
            wanted = self.car_wanted_kwh[car]
            require(
                wanted <= reach + 1e-9, f"car_wanted_kwh[{car}]", wanted, f"at most {reach:.6g}: what it can charge"
            )

    def _check_reserve(self) -> None:
        most = self.gas_max_kw + 2.0 * self.ev_power_limit_kw.sum(axis=0)
        short = np.flatnonzero(self.reserve_kw > most)
        if len(short):
            step = int(short[0])
            text = f"at most {most[step]:.6g} kW: generator and plugged-in vehicles"
            require(False, f"reserve of step {step} [kW]", float(self.reserve_kw[step]), text)

    @cached_property
    def network(self) -> Feeder:
        """The feeder."""
        if self.feeder != "own":
            base = feeder_of(self.feeder)
        else:
            tree = Tree.of(self.line_from, self.line_to, len(self.line_from) + 1)
            columns = (np.array(part) for part in (self.r_ohm, self.x_ohm, self.bus_p_kw, self.bus_q_kvar))
            base = Feeder("own", 12.66, tree, *columns)
        if len(self.branch_kva) == 0:
            return base
        limit = np.broadcast_to(np.array(self.branch_kva, np.float64), base.r_ohm.shape)
        return Feeder(base.name, base.base_kv, base.tree, base.r_ohm, base.x_ohm, base.p_kw, base.q_kvar, limit)

    @cached_property
    def load_kw(self) -> Floats:
        """(steps, buses) nominal active load."""
        return np.array(self.load_shape)[:, None] * self.network.p_kw

    @cached_property
    def load_kvar(self) -> Floats:
        """(steps, buses) nominal reactive load."""
        return np.array(self.load_shape)[:, None] * self.network.q_kvar

    def spread(self, effect: Floats) -> Floats:
        """Largest value of sum_j effect_j h_j xi_j over the uncertainty set; effect (..., buses)."""
        size = np.abs(effect) * np.array(self.half_width)
        if self.robust == "none":
            return np.zeros(size.shape[:-1])
        if self.robust == "box":
            return np.asarray(size.sum(axis=-1))
        return np.asarray(np.minimum(size.sum(axis=-1), self.omega * np.sqrt((size**2).sum(axis=-1))))

    @cached_property
    def reserve_kw(self) -> Floats:
        """(steps,) reserve that generator and vehicles must keep, for the largest load of the set."""
        return np.asarray(self.reserve * (self.load_kw.sum(axis=1) + self.spread(self.load_kw)))

    @cached_property
    def ev_power_limit_kw(self) -> Floats:
        """(aggregators, steps) power of the vehicles that are plugged in, in either direction."""
        step = np.arange(self.steps)
        here = (np.array(self.car_arrives)[:, None] <= step) & (step < np.array(self.car_leaves)[:, None])
        return self._per_aggregator(np.where(here, self.ev_power_kw, 0.0))

    @cached_property
    def ev_corridor_kwh(self) -> tuple[Floats, Floats]:
        """Limits on the energy that every aggregator has stored since the day began, (aggregators, steps + 1) each."""
        low, high = self.car_corridor_kwh
        return self._per_aggregator(low), self._per_aggregator(high)

    @cached_property
    def visits(self) -> NDArray[np.int64]:
        """(visits, 2) car and step of every step that a car is plugged in, car by car; none without ``single_cars``."""
        spans = zip(self.car_arrives, self.car_leaves, strict=True) if self.single_cars else ()
        pairs = [(car, step) for car, (first, last) in enumerate(spans) for step in range(first, last)]
        return np.array(pairs, np.int64).reshape(-1, 2)

    @cached_property
    def car_corridor_kwh(self) -> tuple[Floats, Floats]:
        """Limits on what every car has gained since it came, (cars, steps + 1) each.

        Within them it keeps to its window and reaches its target; a car that has left keeps what it had.
        """
        first, last = np.array(self.car_arrives)[:, None], np.array(self.car_leaves)[:, None]
        start = np.array(self.car_start_kwh, np.float64)[:, None]
        wanted = np.array(self.car_wanted_kwh, np.float64)[:, None]
        time = np.clip(np.arange(self.steps + 1), first, last)
        full = self.ev_power_kw * self.step_h
        past, left = full * (time - first), full * (last - time)
        high = np.minimum(self.ev_most_kwh - start, self.ev_efficiency * past)
        low = np.maximum(self.ev_least_kwh - start, -past / self.ev_efficiency)
        low = np.maximum(low, wanted - start - self.ev_efficiency * left)
        return np.minimum(low, high), np.asarray(high)

    def _per_aggregator(self, values: Floats) -> Floats:
        """Sum over the cars of every aggregator: (cars, n) to (aggregators, n)."""
        total = np.zeros((len(self.ev_buses), values.shape[1]))
        np.add.at(total, np.array(self.car_aggregator, np.int64), values)
        return total
