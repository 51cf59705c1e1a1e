"""Every draw of a day as one object, and the laws it may come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from v2g_env.core.validate import number, require
from v2g_env.data.splits import day_set, sessions_of
from v2g_env.scheduling.fleet import Cars, cars_from, session_table, uncontrolled_kw
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.weather import latent_paths, turbine_power

__all__ = ["DEVIATIONS", "Law", "Scenario", "deviations", "draw", "gas_scale", "law", "rows_of", "sample"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEVIATIONS = ("uniform", "two-point", "triangular", "normal", "skewed", "heavy-tailed")
_EPISODES = 1_000_000  # spawn key: no sample shares its stream with an environment seeded with some integer
_CALIBRATION_DAYS = 200


@dataclass(frozen=True, eq=False)
class Law:
    """Where days come from.

    Attributes:
        name: for people.
        deviation: law of the homes' loads around their means, one of DEVIATIONS; see ``deviations``.
        sessions: (S, 3) recorded sessions as fleet.session_table gives them; None: generated cars.
    """

    name: str = "generator"
    deviation: str = "uniform"
    sessions: Floats | None = None

    def __post_init__(self) -> None:
        """Check the law of deviations."""
        require(self.deviation in DEVIATIONS, "deviation", self.deviation, ", ".join(DEVIATIONS))


@lru_cache(maxsize=64)
def law(name: str = "generator") -> Law:
    """The law called ``name``: "generator" (uniform deviations), another of DEVIATIONS, or "sessions:<day set>".

    Raises:
        InvalidInputError: for an unknown name.
    """
    if name.startswith("sessions:"):
        return Law(name, sessions=session_table(sessions_of(day_set(name.removeprefix("sessions:")))))
    allowed = ", ".join(("generator", *DEVIATIONS[1:], "sessions:<day set>"))
    require(name == "generator" or name in DEVIATIONS[1:], "law", name, allowed)
    return Law(name, "uniform" if name == "generator" else name)


def deviations(kind: str, uniforms: Floats) -> Floats:
    """Deviations with mean zero in units of a load's half-width, from uniforms in (0, 1) of any shape.

    "uniform", "two-point" and "triangular" are symmetric and stay within [-1, 1]; "normal", "skewed" (exponential) and
    "heavy-tailed" (Student with 3 degrees of freedom) have standard deviation 1 and no limit.
    """
    u = np.clip(uniforms, 1e-12, 1.0 - 1e-12)
    if kind == "uniform":
        return 2.0 * u - 1.0
    if kind == "two-point":
        return np.where(u < 0.5, -1.0, 1.0)
    if kind == "triangular":
        return np.where(u < 0.5, np.sqrt(2.0 * u) - 1.0, 1.0 - np.sqrt(2.0 - 2.0 * u))
    if kind == "normal":
        return np.asarray(ndtri(u))
    if kind == "skewed":
        return np.asarray(-np.log1p(-u) - 1.0)
    return np.asarray(stdtrit(3.0, u) / np.sqrt(3.0))


class Scenario(NamedTuple):
    """One day per row: n rows. On the axis of steps + 1, index t + 1 is step t, and index 0 the step before the first.

    Attributes:
        load_kw: (n, steps + 1, aggregators) what the homes take [kW].
        wind_kw: (n, steps + 1, turbines) what the turbines can give [kW].
        forecast, news: (n, steps + 1, turbines) latent day-ahead forecast and its error; see weather.py.
        arrive, depart, start_kwh, target_kwh: (n, cars) see fleet.Cars.
    """

    load_kw: Floats
    wind_kw: Floats
    forecast: Floats
    news: Floats
    arrive: Ints
    depart: Ints
    start_kwh: Floats
    target_kwh: Floats

    @property
    def cars(self) -> Cars:
        """The cars' part."""
        return Cars(self.arrive, self.depart, self.start_kwh, self.target_kwh)


def draw(instance: Instance, source: Law, generators: Sequence[np.random.Generator]) -> Scenario:
    """Draw one day from each generator; row i depends on generator i alone."""
    lot = instance
    steps, homes, turbines = lot.steps, lot.aggregators, lot.turbines
    uniforms = np.stack([one.random(steps * homes + 3 * lot.cars) for one in generators])
    shape = (2, steps + 1, turbines + 1)
    normals = np.stack([one.standard_normal(shape) for one in generators])
    n = len(uniforms)
    noise = deviations(source.deviation, uniforms[:, : steps * homes].reshape(n, steps, homes))
    load = np.empty((n, steps + 1, homes))
    load[:, 1:] = np.maximum(lot.load_mean_kw * (1.0 + lot.load_deviation * noise), 0.0)
    load[:, 0] = lot.load_mean_kw[0]
    forecast, news = latent_paths(lot, normals)
    quality = lot.forecast_quality
    latent = quality * forecast + np.sqrt(1.0 - quality**2) * news
    wind = turbine_power(lot, lot.wind_scale[:, None], latent)
    cars = cars_from(lot, uniforms[:, steps * homes :].reshape(n, lot.cars, 3), source.sessions)
    return Scenario(load, wind, forecast, news, *cars)


def sample(instance: Instance, source: Law | str, n_samples: int, seed: int) -> Scenario:
    """Draw ``n_samples`` days; day i is the same however many are drawn.

    Args:
        instance: the problem.
        source: the law, or its name.
        n_samples: n.
        seed: of the sample; children of it, so that no environment seeded with an integer meets the same days.
    """
    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    found = law(source) if isinstance(source, str) else source
    streams = [np.random.SeedSequence(seed, spawn_key=(_EPISODES, i)) for i in range(n_samples)]
    return draw(instance, found, [np.random.default_rng(stream) for stream in streams])


def rows_of(scenario: Scenario, rows: Ints | slice) -> Scenario:
    """Some of the days."""
    return Scenario(*(part[rows] for part in scenario))  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def gas_scale(instance: Instance) -> float:
    """Factor k on the generator's cost, so that days without V2G cost ``calibrated_usd`` on average.

    The mean is over 200 days of the generator, with load and wind known: cars charge to their targets at once, the
    generator covers the net load, wind beyond it is not used.

    Raises:
        InvalidInputError: if ``calibrated_usd`` does not pay the turbines' maintenance, or no generation is needed.
    """
    days = sample(instance, law("generator"), _CALIBRATION_DAYS, 0)
    at_once = max(20_000 // max(instance.cars, 1), 1)  # days, so that large fleets fit into memory
    parts = [rows_of(days, slice(i, i + at_once)).cars for i in range(0, _CALIBRATION_DAYS, at_once)]
    charging = np.concatenate([uncontrolled_kw(instance, cars).sum(axis=2) for cars in parts])
    need = days.load_kw[:, 1:].sum(axis=2) + charging
    wind = days.wind_kw[:, 1:].sum(axis=2)
    used = np.minimum(need, wind)
    gas = np.clip(need - wind, 0.0, instance.gas_max_kw)
    cost = float(_cost(instance, gas).sum(axis=1).mean()) * instance.step_h
    maintenance = float(used.sum(axis=1).mean()) * instance.step_h * instance.wind_usd_per_kwh
    left = instance.calibrated_usd - maintenance
    require(
        left > 0.0, "calibrated_usd", instance.calibrated_usd, f"above the turbines' maintenance, {maintenance:.2f}"
    )
    require(cost > 0.0, "cost of the generator without V2G", cost, "positive: some net load must be left")
    return left / cost


def _cost(instance: Instance, gas_kw: Floats) -> Floats:
    """Interpolated cost of the generator with k = 1 [$/h]."""
    ends = np.linspace(0.0, instance.gas_max_kw, instance.gas_segments + 1)
    return np.interp(gas_kw, ends, instance.gas_linear * ends + instance.gas_quadratic * ends**2)
