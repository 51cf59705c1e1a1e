"""Price chains from histories: levels of equal frequency for every hour, and counts of the moves between them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require

__all__ = ["Chain", "chain_from_prices", "quantised", "synthetic_history"]

Floats = NDArray[np.float64]


class Chain(NamedTuple):
    """A Markov chain of price levels through a day of T steps.

    Attributes:
        price_usd_per_kwh: (T, L) price that each level means at each step.
        counts: (T, L, L) moves seen from level i at step t to level j at step t + 1; from the last step to the first.
    """

    price_usd_per_kwh: Floats
    counts: Floats

    def fields(self) -> dict[str, Any]:
        """The fields of an Instance that hold this chain."""
        steps, levels = self.price_usd_per_kwh.shape
        return {
            "steps": steps,
            "price_levels": levels,
            "price_usd_per_kwh": tuple(self.price_usd_per_kwh.ravel().tolist()),
            "price_counts": tuple(self.counts.ravel().tolist()),
        }


def quantised(history: Floats, levels: int) -> Chain:
    """Estimate a chain from days of prices.

    At every step the prices seen there are ranked and cut into ``levels`` groups of equal size (ties by date); a
    level's price is the mean of its group.

    Args:
        history: (D, T) prices of consecutive days [$/kWh]; NaN where none is known, and nothing is counted there.
        levels: L.

    Raises:
        InvalidInputError: if a level of some step is never left to a known price: fewer levels, or more days.
    """
    days, steps = history.shape
    number("price_levels", levels, 1, 200, integer=True)
    level = np.full(history.shape, -1)
    price = np.empty((steps, levels))
    for t in range(steps):
        known = np.flatnonzero(np.isfinite(history[:, t]))
        require(len(known) >= levels, f"days with a price at step {t}", len(known), f"at least {levels}, one a level")
        order = known[np.argsort(history[known, t], kind="stable")]
        level[order, t] = np.arange(len(order)) * levels // len(order)
        for i in range(levels):
            price[t, i] = np.round(history[level[:, t] == i, t].mean(), 9)
    counts = np.zeros((steps, levels, levels))
    flat = level.ravel()
    step = np.arange(days * steps) % steps
    seen = np.flatnonzero((flat[:-1] >= 0) & (flat[1:] >= 0))
    np.add.at(counts, (step[seen], flat[seen], flat[seen + 1]), 1.0)
    empty = np.argwhere(counts.sum(axis=2) == 0.0)
    if len(empty):
        t, i = empty[0].tolist()
        require(False, f"moves counted from level {i} of step {t}", 0, "at least 1: fewer levels, or more days")
    return Chain(price, counts)


def synthetic_history(
    days: int, steps: int, start_hour: float, step_h: float, mean: float, sd: float, memory: float, seed: int
) -> Floats:
    """Prices (days, steps): an hour-of-day profile times the exponential of an AR(1) process [$/kWh].

    price = mean x profile(h) x exp(sd z - sd^2 / 2), z' = memory z + sqrt(1 - memory^2) noise, z standard normal, with
    a morning and an evening peak and dips at night and at noon:
    profile(h) = 1 + .25 b(h - 8, 2) + .45 b(h - 19, 2.5) - .35 b(h - 3.5, 3) - .15 b(h - 13, 2.5) with
    b(x, w) = exp(-(x / w)^2).

    Args:
        days: D.
        steps: T, of a day.
        start_hour: hour of day of the first step [h].
        step_h: length of a step [h].
        mean: level of the prices [$/kWh].
        sd: standard deviation of the logarithm.
        memory: autocorrelation of the logarithm from step to step, in [0, 1).
        seed: of the noise.
    """
    hour = (start_hour + step_h * np.arange(steps)) % 24.0
    bumps = ((0.25, 8.0, 2.0), (0.45, 19.0, 2.5), (-0.35, 3.5, 3.0), (-0.15, 13.0, 2.5))
    profile = 1.0 + sum(high * np.exp(-(((hour - at) / wide) ** 2)) for high, at, wide in bumps)
    noise = np.random.default_rng(seed).standard_normal(days * steps)
    z = np.empty(days * steps)
    fresh, last = np.sqrt(1.0 - memory**2), 0.0
    for i, value in enumerate(noise.tolist()):
        last = value if i == 0 else memory * last + fresh * value
        z[i] = last
    return np.asarray(mean * profile * np.exp(sd * z.reshape(days, steps) - 0.5 * sd**2))


def chain_from_prices(
    hour: NDArray[np.datetime64], price_usd_per_kwh: Floats, levels: int = 8, start_hour: int = 12
) -> Chain:
    """Estimate a chain of 24 hours from a series of hourly prices; hours that are missing are not filled in.

    Args:
        hour: (n,) increasing hours, e.g. in UTC.
        price_usd_per_kwh: (n,) their prices; divide day-ahead prices per MWh by 1000.
        levels: L.
        start_hour: hour of day, in the clock of ``hour``, at which a day of the chain begins.

    Raises:
        InvalidInputError: for times that are no increasing full hours, or too few of them.
    """
    number("start_hour", start_hour, 0, 23, integer=True)
    time = np.asarray(hour).astype("datetime64[s]").astype(np.int64)
    require(time.ndim == 1 and len(time) > 0, "shape of hour", time.shape, "(n,), n at least 1")
    prices = array("price_usd_per_kwh", price_usd_per_kwh, time.shape)
    place = time // 3600
    require(bool((time % 3600 == 0).all() and (np.diff(place) > 0).all()), "hour", hour, "increasing full hours")
    place = place - start_hour
    place -= 24 * (place[0] // 24)
    days = int(place[-1]) // 24 + 1
    history = np.full(24 * days, np.nan)
    history[place] = prices
    return quantised(history.reshape(days, 24), levels)
