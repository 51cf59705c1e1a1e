"""Every draw of a month as one object, and the law of its days.

Days are independent of each other but for their type: the month begins on a random day of the week, and every sixth
and seventh day of a week is a weekend. The price of an hour is base x level x hour x spike, normalised so that its mean
is the base price: level is lognormal, one per day; hour is lognormal with hourly autocorrelation, anew every day;
spike is ``spike_factor`` for ``spike_h`` hours from every hour in which one begins (overlapping spikes are one; spikes
may have begun before midnight). The day's plugged share, the weather, is one of a few. Mileage ratios follow the
instance's signal set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.market import ar_factors
from v2g_env.core.validate import number, require
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.signal import SIGNALS, ratio_from_uniform

__all__ = ["Law", "Scenario", "draw", "draw_from", "law", "noise_shape", "sample"]

Floats = NDArray[np.float64]


class Scenario(NamedTuple):
    """One month per row: n rows, D days, T periods.

    Attributes:
        first_day: (n,) day of the week of the first day, 0 to 6; 5 and 6 are the weekend.
        weekend: (n, D) 1 at the weekend, else 0.
        plug: (n, D) index of the day's plugged share.
        price: (n, D, 24) price of every hour [$/kW per hour].
        ratio: (n, D, T) mileage ratio r of every period.
        chance: (n, D, U) uniforms behind the number of plugged cars: one per period (U = T, response "model") or one
            per arc (U the largest number of arcs, response "population").
    """

    first_day: NDArray[np.int64]
    weekend: NDArray[np.int64]
    plug: NDArray[np.int64]
    price: Floats
    ratio: Floats
    chance: Floats


@dataclass(frozen=True)
class Law:
    """Where months come from.

    Attributes:
        name: "generator", the law described above with the instance's numbers; there is no other yet.
        replay: False: no months are repeated.
    """

    name: str = "generator"
    replay: bool = False


def law(name: str) -> Law:
    """Return the law called ``name``; raises InvalidInputError for an unknown one."""
    require(name == "generator", "law", name, "generator")
    return Law()


@lru_cache(maxsize=64)
def noise_shape(instance: Instance) -> tuple[int, int]:
    """Numbers of uniforms and of standard normals that one month consumes."""
    if instance.response == "model":
        chances = instance.periods
    else:
        days = [(weekend, share) for weekend in (False, True) for share in instance.plug_shares]
        chances = max(instance.network(*day).arcs for day in days)
    spikes = 24 + instance.spike_h - 1
    return 1 + instance.days * (1 + spikes + instance.periods + chances), 25 * instance.days


def draw_from(instance: Instance, generators: Sequence[np.random.Generator]) -> Scenario:
    """Draw one month from each generator; row i depends on generator i alone."""
    width, normal_width = noise_shape(instance)
    uniforms = np.empty((len(generators), width))
    normals = np.empty((len(generators), normal_width))
    for generator, uniform, normal in zip(generators, uniforms, normals, strict=True):
        generator.random(out=uniform)
        generator.standard_normal(out=normal)
    return draw(instance, uniforms, normals)


def sample(instance: Instance, n_samples: int, seed: int) -> Scenario:
    """Draw ``n_samples`` months; month i is the same however many are drawn.

    Raises:
        InvalidInputError: for a number below 1 or a negative seed.
    """
    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    # children of the seed: no sample shares its stream with an environment seeded with some integer
    children = [np.random.SeedSequence(seed, spawn_key=(i,)) for i in range(n_samples)]
    return draw_from(instance, [np.random.default_rng(child) for child in children])


def draw(instance: Instance, uniforms: Floats, normals: Floats) -> Scenario:
    """Turn noise into months: the only place where randomness becomes prices, weather and signals.

    Args:
        instance: the fleet.
        uniforms: (n, width) noise; both widths from noise_shape.
        normals: (n, width) noise.
    """
    n, days = len(uniforms), instance.days
    first = np.minimum((uniforms[:, 0] * 7.0).astype(np.int64), 6)
    daily = uniforms[:, 1:].reshape(n, days, -1)
    spikes = 24 + instance.spike_h - 1
    begin, ratio, chance = np.split(daily[:, :, 1:], [spikes, spikes + instance.periods], axis=2)
    limits = np.cumsum(instance.plug_probabilities)[:-1]
    return Scenario(
        first_day=first,
        weekend=((first[:, None] + np.arange(days)) % 7 >= 5).astype(np.int64),
        plug=np.searchsorted(limits, daily[:, :, 0], side="right").astype(np.int64),
        price=_prices(instance, begin, normals.reshape(n, days, 25)),
        ratio=ratio_from_uniform(SIGNALS[instance.signals], ratio),
        chance=np.ascontiguousarray(chance),
    )


def _prices(instance: Instance, begin: Floats, normals: Floats) -> Floats:
    """Prices (n, D, 24) from the spikes' uniforms (n, D, 24 + spike_h - 1) and standard normals (n, D, 25)."""
    n, days, _ = normals.shape
    level = ar_factors(np.ascontiguousarray(normals[:, :, 0]), 0.0, instance.price_level_sd)
    hourly = np.ascontiguousarray(normals[:, :, 1:]).reshape(n * days, 24)
    hour = ar_factors(hourly, instance.price_hour_memory, instance.price_hour_sd).reshape(n, days, 24)
    starts = np.cumsum(begin < instance.spike_probability, axis=2)
    before = np.concatenate([np.zeros((n, days, 1), starts.dtype), starts[:, :, :23]], axis=2)
    spiking = starts[:, :, instance.spike_h - 1 :] > before
    often = 1.0 - (1.0 - instance.spike_probability) ** instance.spike_h
    factor = np.where(spiking, instance.spike_factor, 1.0) / (1.0 + often * (instance.spike_factor - 1.0))
    return np.asarray(instance.base_price * level[:, :, None] * hour * factor, np.float64)
