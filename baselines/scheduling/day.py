"""A day as plans see it: means and half-widths of what is uncertain, cars, and the set that is protected against."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.uncertainty import Box, BoxEllipsoid, Budget, Ellipsoid, UncertaintySet
from v2g_env.core.validate import array, number, require
from v2g_env.scheduling.fleet import Cars, cars_from
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Law, Scenario, law
from v2g_env.scheduling.weather import expected_power

__all__ = [
    "SETS",
    "Day",
    "Protection",
    "ahead_day",
    "cautious_day",
    "check_day",
    "known_day",
    "known_wind_day",
    "typical_cars",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETS = ("none", "box", "ellipsoid", "budget", "box-ellipsoid")


class Day(NamedTuple):
    """What a plan is made for.

    Attributes:
        load_kw, load_half_kw: (steps, aggregators) mean and half-width of the homes' loads [kW].
        wind_kw, wind_half_kw: (steps, turbines) mean and half-width of the available wind [kW].
        arrive, depart: (cars,) see fleet.Cars.
        start_kwh, target_kwh: (cars,) energy on arrival and wanted at departure [kWh].
        gas_kw: power of the generator before the first step [kW].
    """

    load_kw: Floats
    load_half_kw: Floats
    wind_kw: Floats
    wind_half_kw: Floats
    arrive: Ints
    depart: Ints
    start_kwh: Floats
    target_kwh: Floats
    gas_kw: float

    @property
    def cars(self) -> Cars:
        """The cars as a batch of one day."""
        return Cars(self.arrive[None], self.depart[None], self.start_kwh[None], self.target_kwh[None])


class Protection(NamedTuple):
    """Against which deviations of a step's loads, and wind if wanted, the rows of that step hold.

    Attributes:
        kind: one of SETS.
        level: omega of an ellipsoid, alpha of a budget; without meaning for the others.
        wind: whether turbines count among the uncertain entries beside the loads.
    """

    kind: str = "none"
    level: float = 0.0
    wind: bool = False

    def entries(self, instance: Instance) -> int:
        """Number L of uncertain entries of a step."""
        return instance.aggregators + (instance.turbines if self.wind else 0)

    def check(self, instance: Instance) -> None:
        """Raise InvalidInputError for an unknown kind or a level out of range."""
        require(self.kind in SETS, "kind of protection", self.kind, ", ".join(SETS))
        top = float(self.entries(instance)) if self.kind == "budget" else 1e6
        number("alpha" if self.kind == "budget" else "level", self.level, 0.0, top)
        require(isinstance(self.wind, bool), "wind of protection", self.wind, "True or False")

    def of(self, halfwidth: Floats) -> UncertaintySet | None:
        """The set for given half-widths (L,); None for none."""
        if self.kind == "none":
            return None
        if self.kind == "box":
            return Box(halfwidth)
        if self.kind == "budget":
            return Budget(halfwidth, self.level)
        return Ellipsoid(halfwidth, self.level) if self.kind == "ellipsoid" else BoxEllipsoid(halfwidth, self.level)

    def halfwidth(self, day: Day) -> Floats:
        """(steps, L) half-widths of loads, then of turbines."""
        parts = [day.load_half_kw] + ([day.wind_half_kw] if self.wind else [])
        return np.concatenate(parts, axis=1)

    def worst(self, day: Day, effect: Floats) -> Floats:
        """Largest sum of effect x deviation at every step [kW].

        Args:
            day: the half-widths.
            effect: (rows, L) coefficients of loads, then of turbines; or (steps, rows, L).

        Returns:
            (steps, rows).
        """
        every = self.halfwidth(day)
        found = [self.of(half) for half in every]
        each = np.broadcast_to(effect, (len(every), *effect.shape[-2:]))
        zero = np.zeros(effect.shape[-2])
        return np.array([zero if one is None else one.worst(y).value for one, y in zip(found, each, strict=True)])

    def lacking(self, instance: Instance, day: Day) -> Floats:
        """(steps,) largest sum of loads above and wind below their means [kW]."""
        effect = np.concatenate([np.ones(instance.aggregators), -np.ones(instance.turbines if self.wind else 0)])
        return self.worst(day, effect[None])[:, 0]

    def line_spare(self, instance: Instance, day: Day) -> Floats:
        """(steps, lines) by how much the set can move a line's flow from that on the means, gas and cars kept [kW].

        With loads u and winds v off their means, the wind used takes up a part theta in [0, 1] of sum u, the spilled
        power of the generator the rest. A line behind which the share s of the used wind is fed in moves by
        (homes - theta s)'u - rho (turbines - s)'v, rho in [0, 1]; theta = 0 or 1 and rho = 1 are worst.

        Args:
            instance: the network.
            day: the half-widths, and the mean wind that fixes s.
        """
        lot, below = instance, instance.tree.below
        homes, turbines = below[:, list(lot.aggregator_bus)], below[:, list(lot.turbine_bus)]
        available = day.wind_kw.sum(axis=1)[:, None]
        share = np.divide(
            day.wind_kw @ turbines.T, available, out=np.zeros((lot.steps, len(below))), where=available > 0
        )
        spare = []
        for settled in (0.0 * share, share):
            effect = homes - settled[..., None]
            if self.wind:
                effect = np.concatenate([effect, share[..., None] - turbines], axis=2)
            spare.append(self.worst(day, effect))
        return np.maximum(*spare)


def check_day(instance: Instance, day: Day) -> Day:
    """Return the day as float64 and int64 arrays; energies off by rounding (1e-9 kWh) are put right.

    Raises:
        InvalidInputError: for wrong shapes, NaN, negative powers, or a car that cannot reach its target.
    """
    lot = instance
    least, most = lot.energy_range_kwh
    load, wind, cars = (lot.steps, lot.aggregators), (lot.steps, lot.turbines), (lot.cars,)
    arrive, depart = (
        array(name, value, cars, 0, lot.steps) for name, value in (("arrive", day.arrive), ("depart", day.depart))
    )
    for name, value in (("arrive", arrive), ("depart", depart)):
        require(bool((value == np.floor(value)).all()), name, value.tolist(), "whole steps")
    require(bool((arrive <= depart).all()), "depart", depart.tolist(), "not before arrive")
    number("gas_kw", day.gas_kw, 0.0, lot.gas_max_kw)
    start = array("start_kwh", day.start_kwh, cars, least - 1e-9, most + 1e-9)
    target = array("target_kwh", day.target_kwh, cars, 0.0, most + 1e-9)
    reach = start + lot.efficiency * lot.charger_kw * lot.step_h * (depart - arrive)
    late = np.flatnonzero(target > reach + 1e-9)
    require(late.size == 0, "target_kwh of car", int(late[0]) if late.size else None, "within reach until departure")
    return Day(
        array("load_kw", day.load_kw, load, 0.0, 1e9),
        array("load_half_kw", day.load_half_kw, load, 0.0, 1e9),
        array("wind_kw", day.wind_kw, wind, 0.0, 1e9),
        array("wind_half_kw", day.wind_half_kw, wind, 0.0, 1e9),
        arrive.astype(np.int64),
        depart.astype(np.int64),
        np.clip(start, least, most),
        np.minimum(target, np.minimum(reach, most)),  # beyond reach, even by 1e-9, any bound would be true
        float(day.gas_kw),
    )


def known_day(model: Model, scenario: Scenario, row: int) -> Day:
    """A drawn day with everything known: the hindsight view."""
    load, wind = scenario.load_kw[row, 1:], scenario.wind_kw[row, 1:]
    return _day(model, scenario, row, load, 0.0 * load, wind, 0.0 * wind, _drawn(scenario, row))


def known_wind_day(model: Model, scenario: Scenario, row: int) -> Day:
    """A drawn day whose wind and cars are known while loads are intervals: the setting of the article."""
    lot = model.instance
    wind = scenario.wind_kw[row, 1:]
    half = lot.load_deviation * lot.load_mean_kw
    return _day(model, scenario, row, lot.load_mean_kw, half, wind, 0.0 * wind, _drawn(scenario, row))


def ahead_day(model: Model, scenario: Scenario, row: int, wind_sd: float = 1.5) -> Day:
    """The day as seen at its start: expected wind, intervals, and typical cars.

    Args:
        model: the problem.
        scenario: the days.
        row: which one.
        wind_sd: half-width of the wind in predictive standard deviations.
    """
    lot = model.instance
    part = slice(row, row + 1)
    mean, sd = expected_power(lot, scenario.forecast[part], scenario.news[part], 0)
    half = lot.load_deviation * lot.load_mean_kw
    cars = typical_cars(lot, model.law)
    return _day(model, scenario, row, lot.load_mean_kw, half, mean[0], np.minimum(wind_sd * sd[0], mean[0]), cars)


def cautious_day(instance: Instance, day: Day, late_steps: int, early_steps: int, less_kwh: float) -> Day:
    """The day with the worst cars of a box: the plan for them works for all others in it.

    A car may come up to ``late_steps`` later and leave up to ``early_steps`` earlier than the day says, with up to
    ``less_kwh`` less than its energy. One that stays longer or brings more follows the same plan, and simply charges
    less once it is full: it never holds less than planned, gives what was planned and takes no more.

    Args:
        instance: the problem.
        day: the day as expected.
        late_steps: of arrivals.
        early_steps: of departures.
        less_kwh: of energies on arrival; no car comes with less than the least it may hold [kWh].

    Raises:
        InvalidInputError: naming the first car whose target is then out of reach.
    """
    lot = instance
    number("late_steps", late_steps, 0, lot.steps, integer=True)
    number("early_steps", early_steps, 0, lot.steps, integer=True)
    number("less_kwh", less_kwh, 0.0, 1e6)
    there = day.arrive < day.depart
    depart = np.where(there, np.maximum(day.depart - early_steps, day.arrive), day.depart)
    arrive = np.where(there, np.minimum(day.arrive + late_steps, depart), day.arrive)
    start = np.where(there, np.maximum(day.start_kwh - less_kwh, lot.energy_range_kwh[0]), day.start_kwh)
    reach = start + lot.efficiency * lot.charger_kw * lot.step_h * (depart - arrive)
    short = np.flatnonzero(there & (day.target_kwh > reach + 1e-9))
    require(
        short.size == 0, "target_kwh of car", int(short[0]) if short.size else None, "within reach in the worst case"
    )
    return day._replace(arrive=arrive, depart=depart, start_kwh=start)


def typical_cars(instance: Instance, source: Law | None = None) -> Cars:
    """A fleet without luck: arrivals, departures and energies at evenly spread quantiles, paired at random once."""
    lot = instance
    rng = np.random.default_rng(7)
    spread = (np.arange(lot.cars) + 0.5) / max(lot.cars, 1)
    uniforms = np.stack([rng.permutation(spread) for _ in range(3)], axis=-1)
    found = law("generator") if source is None else source
    cars = cars_from(lot, uniforms[None], found.sessions)
    return Cars(*(part[0] for part in cars))


def _drawn(scenario: Scenario, row: int) -> Cars:
    return Cars(*(part[row] for part in scenario.cars))


def _day(model: Model, scenario: Scenario, row: int, *parts: Any) -> Day:
    load, load_half, wind, wind_half, cars = parts
    gas = float(model.initial(Scenario(*(part[row : row + 1] for part in scenario))).gas_kw[0])  # type: ignore[arg-type]
    arrive, depart, start, target = cars
    return Day(load, load_half, wind, wind_half, arrive, depart, start, target, gas)
