"""Every draw of a season or of a week of requests as one object, and the laws they come from.

Samples of days for scenario programs come from the same laws. Days are independent of each other; drivers of one day
are independent unless the instance has a common shock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.allocation import ORDERED, random_order
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.needs import Needs, driver_scales, generated, shocked

__all__ = [
    "Days",
    "fitting",
    "Law",
    "Season",
    "Sizes",
    "Week",
    "draw_seasons",
    "draw_weeks",
    "law",
    "law_of",
    "sample_days",
    "sample_seasons",
    "sample_weeks",
    "week_sizes",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_VALUE_LIMIT = 3.0  # log values beyond three standard deviations are cut: observations and densities stay bounded
_CHUNK = 4096
_EPISODES = 1_000_000  # spawn key of seasons and weeks; streams of days are below


@dataclass(frozen=True)
class Law:
    """Where needs come from.

    Attributes:
        name: "generator", or "log:<name>" for recorded days.
        needs: the drivers' histograms.
        replay: False: no days are repeated.
    """

    name: str
    needs: Needs
    replay: bool = False


@lru_cache(maxsize=64)
def law(instance: Instance, name: str = "generator") -> Law:
    """The law called ``name`` for an instance; raises InvalidInputError for an unknown one."""
    require(name == "generator", "law", name, "generator, or a Law (see law_of)")
    scale = driver_scales(instance.drivers, instance.fleet_seed, instance.median_miles, instance.driver_spread)
    parts = (instance.day_shape, instance.bin_kwh, instance.bins, instance.idle)
    return Law("generator", generated(scale / instance.miles_per_kwh, *parts))


def law_of(needs: Needs) -> Law:
    """The law of your own histograms, from logs for instance (see needs.from_days)."""
    return Law(f"log:{needs.name}", needs)


def fitting(instance: Instance, source: Law | str) -> Law:
    """The law, checked against the instance's number of drivers."""
    found = law(instance, source) if isinstance(source, str) else source
    require(isinstance(found, Law), "law", found, "a Law or its name")
    drivers = found.needs.drivers
    require(drivers == instance.drivers, "drivers of the law", drivers, f"those of the instance, {instance.drivers}")
    return found


class Days(NamedTuple):
    """A sample of independent days for a scenario program.

    Attributes:
        need_kwh: (N, n) [kWh].
    """

    need_kwh: Floats

    @property
    def sha256(self) -> str:
        """Fingerprint of the numbers."""
        return hashlib.sha256(np.ascontiguousarray(self.need_kwh, dtype="<f8").tobytes()).hexdigest()


def sample_days(instance: Instance, source: Law | str, n_samples: int, seed: int, stream: int = 0) -> Days:
    """Draw ``n_samples`` independent days; the first days are the same however many are drawn.

    Args:
        instance: the fleet.
        source: the law, or its name.
        n_samples: N.
        seed: of the sample.
        stream: independent samples of one seed: 0 for programs, others for tests and selection.
    """
    number("n_samples", n_samples, 1, 10_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    number("stream", stream, 0, 1000, integer=True)
    found = fitting(instance, source)
    # children of the seed: no sample shares its stream with an environment seeded with some integer
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, 0)))
    rows = []
    for start in range(0, n_samples, _CHUNK):
        count = min(_CHUNK, n_samples - start)
        noise = rng.random((count, instance.drivers + 1))
        rows.append(_needs(instance, found, noise[:, 1:], noise[:, 0]))
    return Days(np.concatenate(rows))


def _needs(instance: Instance, source: Law, own: Floats, common: Floats) -> Floats:
    """Needs (m, n) from uniforms (m, n) of the drivers and (m,) of the days."""
    if instance.correlation > 0.0:
        from scipy.special import ndtri

        own = shocked(own, ndtri(np.clip(common, 1e-300, 1.0 - 1e-16)), instance.correlation)
    return source.needs.from_uniform(own)


class Season(NamedTuple):
    """Seasons, one per row: E rows, D days, n drivers.

    Attributes:
        need_kwh: (E, D, n) [kWh].
        order: (E, D, n) permutations along which an ordered rule serves; (E, 1, n) zeros for other rules.
    """

    need_kwh: Floats
    order: Ints


def _season(instance: Instance, source: Law, uniforms: Floats) -> Season:
    episodes, days, n = len(uniforms), instance.season_days, instance.drivers
    # needs come first, so that seasons of one seed need the same under every rule
    noise, keys = np.split(uniforms, [days * (1 + n)], axis=1)
    noise = noise.reshape(episodes * days, 1 + n)
    need = _needs(instance, source, noise[:, 1:], noise[:, 0]).reshape(episodes, days, n)
    if instance.rule in ORDERED:
        return Season(need, random_order(keys.reshape(episodes * days, n)).reshape(episodes, days, n))
    return Season(need, np.zeros((episodes, 1, n), np.int64))


def _season_width(instance: Instance) -> int:
    return instance.season_days * (1 + instance.drivers * (1 + (instance.rule in ORDERED)))


def draw_seasons(instance: Instance, source: Law, generators: Sequence[np.random.Generator]) -> Season:
    """Draw one season from each generator; row i depends on generator i alone."""
    width = _season_width(instance)
    return _season(instance, source, np.stack([generator.random(width) for generator in generators]))


def sample_seasons(instance: Instance, source: Law | str, n_samples: int, seed: int) -> Season:
    """Draw ``n_samples`` seasons; season i is the same however many are drawn."""
    return draw_seasons(instance, fitting(instance, source), _children(n_samples, seed))


def _children(n_samples: int, seed: int) -> list[np.random.Generator]:
    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    return [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_EPISODES, i))) for i in range(n_samples)]


class Sizes(NamedTuple):
    """Batteries in the week of requests.

    Attributes:
        own_kwh: (n,) own batteries [kWh].
        shared_kwh: shared battery [kWh].
        recharge_kwh: what a night brings back at most [kWh].
        mean_size_kwh: mean shortfall of a driver on a day with factor 1 [kWh].
    """

    own_kwh: Floats
    shared_kwh: float
    recharge_kwh: float
    mean_size_kwh: float


def week_sizes(instance: Instance, source: Law) -> Sizes:
    """Batteries that the instance's fractions mean under a law; raises InvalidInputError if nobody ever asks."""
    own = source.needs.quantile(instance.own_quantile)
    total = float(source.needs.mean_shortfall_kwh(own).sum())
    require(total > 0.0, "mean total shortfall", total, "positive: somebody must need more than his own battery")
    shared = instance.shared_fraction * total
    return Sizes(own, shared, instance.recharge_fraction * shared, total / instance.drivers)


class Week(NamedTuple):
    """Weeks of requests from Monday on, one per row: E rows, T = week_days x n steps (index T pads the end with zeros).

    Attributes:
        driver: (E, T + 1) who comes at each step; every day all drivers in random order.
        size_kwh: (E, T + 1) his shortfall; 0 if his own battery is enough [kWh].
        value_usd: (E, T + 1) what serving it is worth; 0 if there is nothing to serve [$].
    """

    driver: Ints
    size_kwh: Floats
    value_usd: Floats


def draw_weeks(instance: Instance, source: Law, generators: Sequence[np.random.Generator]) -> Week:
    """Draw one week from each generator; row i depends on generator i alone."""
    days, n = instance.week_days, instance.drivers
    uniforms = np.stack([generator.random(days * (1 + 2 * n)) for generator in generators])
    normals = np.stack([generator.standard_normal(days * n) for generator in generators])
    return _week(instance, source, uniforms, normals)


def sample_weeks(instance: Instance, source: Law | str, n_samples: int, seed: int) -> Week:
    """Draw ``n_samples`` weeks; week i is the same however many are drawn."""
    return draw_weeks(instance, fitting(instance, source), _children(n_samples, seed))


def _week(instance: Instance, source: Law, uniforms: Floats, normals: Floats) -> Week:
    episodes, days, n = len(uniforms), instance.week_days, instance.drivers
    sizes = week_sizes(instance, source)
    noise = uniforms.reshape(episodes * days, 1 + 2 * n)
    factor = np.tile(np.array(instance.weekday_factors)[np.arange(days) % 7], episodes)
    need = _needs(instance, source, noise[:, 1 : n + 1], noise[:, 0]) * factor[:, None]
    short = np.maximum(need - sizes.own_kwh, 0.0)
    order = random_order(noise[:, n + 1 :])
    size = np.take_along_axis(short, order, axis=1).reshape(episodes, days * n)
    factor_of_value = np.exp(instance.value_sd * np.clip(normals, -_VALUE_LIMIT, _VALUE_LIMIT))
    if instance.values == "density":
        value = instance.value_usd * size / sizes.mean_size_kwh * factor_of_value
    elif instance.values == "equal":
        value = np.full(size.shape, instance.value_usd)
    else:
        value = instance.value_usd * factor_of_value
    value = np.where(size > 0.0, value, 0.0)
    pad = ((0, 0), (0, 1))
    return Week(
        np.pad(order.reshape(episodes, days * n), pad),
        np.pad(size, pad),
        np.pad(value, pad),
    )
