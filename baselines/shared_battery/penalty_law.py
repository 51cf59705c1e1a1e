"""The law of the next request for somebody who has seen who came so far: what penalties take expectations over.

Sizes are sorted into B classes of whole units of the battery (see grid.py): class b holds the sizes that are rounded
down to between units[b] and units[b + 1]. A penalty knows a request by its class and by the factor f of its value, so
that one-step expectations are finite sums of closed forms: probabilities of the classes from the drivers' piecewise
linear distribution functions, and E (f - p)_+ from the truncated lognormal law.

What is known before a request (G_t): all requests so far, who made them, and with that who is still to come today, each
of them equally likely to be next; with a common shock of the day, that shock once somebody has come. It is more than a
policy sees, who is told sizes and values only, so a mean of zero given G_t is one given what the policy knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.grid import MARGIN_KWH, Grid, grid_of, units_down
from baselines.shared_battery.week_programme import VALUE_CUT, excess_value
from v2g_env.core.validate import array, number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week

__all__ = [
    "MOST_UNITS",
    "Classes",
    "Requests",
    "chances",
    "classes_of",
    "factor_table",
    "known_shocks",
    "requests_of",
    "week_shocks",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_UNITS = 10**5
_KNOTS = 2**15
_EPISODES = 1_000_000  # spawn key of weeks, as in v2g_env.shared_battery.scenario


class Classes(NamedTuple):
    """Sizes of requests that fit into the full battery, sorted.

    Attributes:
        grid: the units.
        units: (B,) smallest size of each class, from 0 on [units].
        ends_kwh: (B + 1,) sizes q with ends[b] < q <= ends[b + 1] are of class b [kWh].
        scale_usd: (B,) value of a request of the class if f = 1 [$].
    """

    grid: Grid
    units: Ints
    ends_kwh: Floats
    scale_usd: Floats


class Requests(NamedTuple):
    """Weeks as a penalty sees them, (E, T) each.

    Attributes:
        units: sizes [units], levels + 1 for whatever does not fit into the full battery.
        value_usd: what serving is worth [$].
        kind: class, -1 for no request and for those that never fit.
        thought_usd: value of a request of that class with the request's factor f [$].
        driver: who asks.
    """

    units: Ints
    value_usd: Floats
    kind: Ints
    thought_usd: Floats
    driver: Ints

    def rows(self, start: int, count: int) -> Requests:
        """Some of the weeks."""
        some = slice(start, start + count)
        return Requests(
            self.units[some], self.value_usd[some], self.kind[some], self.thought_usd[some], self.driver[some]
        )


def classes_of(model: WeekModel, levels: int, classes: int) -> Classes:
    """Sort sizes into at most ``classes`` classes of equally many of ``levels`` units.

    Raises:
        InvalidInputError: for a model that grants shares of requests, or numbers out of range.
    """
    require(not model.partial, "model", "partial", "requests granted in whole")
    number("levels", levels, 1, MOST_UNITS, integer=True)
    number("classes", classes, 1, levels + 1, integer=True)
    grid = grid_of(model, levels)
    units = np.arange(0, levels + 1, -(-(levels + 1) // classes))
    ends = np.append(units, levels + 1) * grid.unit_kwh + MARGIN_KWH
    ends[0] = 0.0
    lot = model.instance
    scale = np.full(len(units), lot.value_usd)
    if lot.values == "density":
        scale *= 0.5 * (ends[:-1] + ends[1:]) / model.sizes.mean_size_kwh
    return Classes(grid, units, ends, scale)


def requests_of(model: WeekModel, scenario: Week, kinds: Classes) -> Requests:
    """Sort the requests of E weeks; raises InvalidInputError for weeks of another length."""
    shape = scenario.size_kwh.shape
    require(shape[1:] == (model.steps + 1,), "shape of the weeks", shape, f"(any, {model.steps + 1})")
    size, value = (np.ascontiguousarray(part[:, :-1]) for part in (scenario.size_kwh, scenario.value_usd))
    driver = np.ascontiguousarray(scenario.driver[:, :-1])
    levels, lot = kinds.grid.levels, model.instance
    units = units_down(size, kinds.grid, levels + 1)
    kind = np.where((size > 0.0) & (units <= levels), np.searchsorted(kinds.units, units, side="right") - 1, -1)
    factor = value / lot.value_usd
    if lot.values == "density":
        factor = np.where(size > 0.0, factor * model.sizes.mean_size_kwh / np.where(size > 0.0, size, 1.0), 0.0)
    return Requests(units, value, kind, np.where(kind >= 0, kinds.scale_usd[kind] * factor, 0.0), driver)


@lru_cache(maxsize=16)
def factor_table(sd: float) -> tuple[Floats, float]:
    """Knots of E (f - p)_+ for p from 0 to the largest f, and their distance; chords of them are never too low."""
    step = float(np.exp(VALUE_CUT * sd)) / (_KNOTS - 1)
    knots = np.maximum(excess_value(step * np.arange(_KNOTS, dtype=np.float64), sd), 0.0)
    knots[-1] = 0.0
    knots.flags.writeable = False
    return knots, step


def week_shocks(instance: Instance, n_samples: int, seed: int) -> Floats:
    """Common shocks (E, D) of the days of ``sample_weeks(instance, law, n_samples, seed)``, standard normal numbers."""
    from scipy.special import ndtri

    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    days, width = instance.week_days, 1 + 2 * instance.drivers
    rows = []
    for i in range(n_samples):
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_EPISODES, i)))
        rows.append(generator.random(days * width).reshape(days, width)[:, 0])
    return np.asarray(ndtri(np.clip(np.stack(rows), 1e-300, 1.0 - 1e-16)))


def known_shocks(model: WeekModel, shock: Floats | None, weeks: int) -> Floats | None:
    """The shocks, checked; None without correlation. Raises InvalidInputError where they are needed and not given."""
    lot = model.instance
    if lot.correlation == 0.0:
        return None
    require(shock is not None, "shock", None, "the common shocks of the weeks, as needs are correlated")
    return array("shock", np.asarray(shock), (weeks, lot.week_days))


def chances(
    model: WeekModel, kinds: Classes, driver: Ints, shock: Floats | None, traits: Floats
) -> Iterator[tuple[int, Floats, Floats]]:
    """What is known before every request, from the last of the week to the first.

    Args:
        model: of the environment.
        kinds: the classes.
        driver: (E, T) who comes.
        shock: (E, D) common shocks of the days, see ``week_shocks``; not used without correlation.
        traits: (n, F) numbers of every driver.

    Yields:
        The step t; (E, B) probability of each class of its size, given G_t; (E, F) how far the traits of the driver
        who comes are above their mean over those who may come.

    Raises:
        InvalidInputError: for a correlation without shocks.
    """
    lot = model.instance
    n = lot.drivers
    shock = known_shocks(model, shock, len(driver))
    for day in range(lot.week_days - 1, -1, -1):
        factor = lot.weekday_factors[day % 7]
        below = model.law.needs.distribution((model.sizes.own_kwh[:, None] + kinds.ends_kwh) / factor)
        alone = np.diff(below, axis=1)
        given = None if shock is None else _given_shock(below, shock[:, day], lot.correlation)
        each = np.arange(len(driver))
        total, sum_of_traits = np.zeros((len(driver), len(kinds.units))), np.zeros((len(driver), traits.shape[1]))
        for place in range(n - 1, -1, -1):
            t = day * n + place
            who = driver[:, t]
            total += alone[who] if given is None else given[each, who]
            sum_of_traits += traits[who]
            # the evening before does not know the day's shock
            chance = total / (n - place) if given is None or place else np.tile(alone.mean(axis=0), (len(driver), 1))
            yield t, chance, traits[who] - sum_of_traits / (n - place)


def _given_shock(below: Floats, shock: Floats, correlation: float) -> Floats:
    """Probabilities (E, n, B) of the classes for the distribution functions (n, B + 1) of needs and shocks (E,)."""
    from scipy.special import ndtr, ndtri

    score = (ndtri(below) - np.sqrt(correlation) * shock[:, None, None]) / np.sqrt(1.0 - correlation)
    return np.diff(ndtr(score), axis=2)
