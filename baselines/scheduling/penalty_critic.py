"""The reduced day behind a penalty: one fleet, one wind error; what it makes of the day's surprises.

The cars of a day are summed up: X is the energy they gained since they came, between the least and the most that can be
reached (cars that left hold their targets). The turbines' errors are summed up by their mean. With the day-ahead
forecast and the cars known, the best expected value V_t(X, error) follows backwards in time. It is a model only: what
it is worth decides how tight a bound is, never whether it is true.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.penalty_kernel import Reduced, surprises, values
from baselines.scheduling.penalty_noise import outcomes, typical
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario, deviations
from v2g_env.scheduling.weather import turbine_power

__all__ = ["ENERGY_WIDTH", "GAS_WIDTH_KW", "GRID", "Surprise", "fleet", "surprise"]

Floats = NDArray[np.float64]

# half-widths of the differences that stand for slopes, the latter as shares of the energy's range: narrow ones are best
# where the reduced day is true, a wide one where it is not
GAS_WIDTH_KW = (1.0,)
ENERGY_WIDTH = (1e-4, 0.25)
GRID = (65, 15, 9)  # points of the energy's and the mean error's grid, and of the step's innovation
_WIDE = 4.0  # standard deviations of the mean error that its grid covers
_REMEMBERED = 4096  # days
_REST = 3  # nodes of the single turbines' differences from the mean
_EXTRA = (-np.sqrt(3.0), 0.0, np.sqrt(3.0))  # the load's deviation, Gauss-Hermite with 3 nodes
_EXTRA_WEIGHT = (1.0 / 6.0, 2.0 / 3.0, 1.0 / 6.0)


class Surprise(NamedTuple):
    """What the steps of a day revealed, in the reduced day.

    All surprises have the mean zero, given everything that is known when the step's set-points are fixed.

    Attributes:
        level_usd: (steps,) of the value.
        gas_usd_per_kw: (steps, g) of its slopes in the generator's power of the step, over GAS_WIDTH_KW.
        energy_usd_per_kwh: (steps, e) of its slopes in the energy gained by the cars plugged in, at the step's start,
            over ENERGY_WIDTH.
        gas_kw, energy_kwh: (steps,) reference at which the slopes were taken, known when set-points are fixed.
    """

    level_usd: Floats
    gas_usd_per_kw: Floats
    energy_usd_per_kwh: Floats
    gas_kw: Floats
    energy_kwh: Floats


_known: OrderedDict[str, Surprise] = OrderedDict()


def surprise(model: Model, scenario: Scenario, row: int, grid: tuple[int, ...] = GRID) -> Surprise:
    """The surprises of one day; its last 4096 answers are remembered, as bound, check and every policy need the same.

    Args:
        model: of the environment.
        scenario: the days.
        row: which one.
        grid: points of the reduced day's energy, of its mean error, and of the step's innovation (Gauss-Hermite).
    """
    key = _key(model, scenario, row, grid)
    if key not in _known:
        _known[key] = _surprise(model, scenario, row, grid)
        if len(_known) > _REMEMBERED:
            _known.popitem(last=False)
    return _known[key]


def _key(model: Model, scenario: Scenario, row: int, grid: tuple[int, ...]) -> str:
    """SHA-256 over everything that a day's surprises depend on."""
    words = [model.instance.hash, model.law.name, model.law.deviation, *grid]
    digest = hashlib.sha256(json.dumps(words).encode())
    for part in scenario:
        digest.update(np.ascontiguousarray(part[row]).tobytes())
    return digest.hexdigest()


def _surprise(model: Model, scenario: Scenario, row: int, grid: tuple[int, ...]) -> Surprise:
    c, gone = _reduced(model, scenario, row, grid)
    worth = values(c, grid[0])
    widths = np.array(GAS_WIDTH_KW), np.array(ENERGY_WIDTH)
    found = surprises(c, worth, *outcomes(model, scenario, row), *typical(model, scenario, row), *widths)
    split = 3 + len(GAS_WIDTH_KW)
    parts = (found[:, 2], found[:, 3:split], found[:, split:], found[:, 0], found[:, 1] - gone)
    for part in parts:
        part.flags.writeable = False  # whoever asks again gets the same arrays
    return Surprise(*parts)


def _reduced(model: Model, scenario: Scenario, row: int, grid: tuple[int, ...]) -> tuple[Reduced, Floats]:
    """The reduced day, and (steps,) the energy gained by cars that left before each step [kWh]."""
    lot = model.instance
    price = model.gas_scale * lot.gas_prices
    memory, count = lot.wind_news_memory, lot.turbines
    variance = (1.0 + (count - 1) * lot.wind_common) / count if count else 0.0
    spread = np.sqrt(variance)
    nodes, weights = np.polynomial.hermite_e.hermegauss(grid[2])
    shock = nodes * spread * np.sqrt(1.0 - memory**2)
    chance = np.outer(weights / weights.sum(), _EXTRA_WEIGHT).ravel()
    error = np.linspace(-_WIDE, _WIDE, grid[1]) * max(spread, 1e-9)
    sizes = lot.load_deviation * lot.load_mean_kw
    noise = float((deviations(model.law.deviation, (np.arange(256) + 0.5) / 256) ** 2).mean())
    load_sd = np.sqrt(noise * (sizes**2).sum(axis=1).mean())
    power, low, high, gone = fleet(model, scenario, row)
    wind = _wind(model, scenario, row, memory * error[:, None] + shock)
    need = lot.load_mean_kw.sum(axis=1)[:, None, None, None] + load_sd * np.array(_EXTRA) - wind[..., None]
    shape = (lot.steps, grid[1], len(chance))
    return (
        Reduced(
            step_h=lot.step_h,
            efficiency=lot.efficiency,
            gas_max_kw=lot.gas_max_kw,
            gas_price=price,
            gas_paid=np.append(0.0, np.cumsum(price)[:-1]) * (lot.gas_max_kw / lot.gas_segments),
            wind_price=lot.wind_usd_per_kwh,
            wear_price=lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh,
            emergency_price=lot.emergency_usd_per_kwh,
            power_kw=power,
            low_kwh=low,
            high_kwh=high,
            error=error,
            error_gain=memory,
            shock=np.repeat(shock, len(_EXTRA)),
            weight=chance,
            need_kw=need.reshape(shape),
            wind_kw=np.repeat(wind, len(_EXTRA), axis=2),
            gate=lot.gate_closure_steps,
        ),
        gone,
    )


def _wind(model: Model, scenario: Scenario, row: int, error: Floats) -> Floats:
    """(steps, errors, shocks) wind expected of all turbines if their mean error is that of (errors, shocks) [kW]."""
    lot = model.instance
    nodes, weights = np.polynomial.hermite_e.hermegauss(_REST)
    apart = np.sqrt((1.0 - lot.wind_common) * (1.0 - 1.0 / max(lot.turbines, 1)))
    every = error[:, :, None, None] + apart * nodes  # errors, shocks, 1, rest
    quality = lot.forecast_quality
    total = np.zeros((lot.steps, *error.shape))
    for t in range(lot.steps):
        latent = quality * scenario.forecast[row, t + 1, :, None] + np.sqrt(1.0 - quality**2) * every
        power = turbine_power(lot, lot.wind_scale[t + 1 : t + 2], latent)
        total[t] = power.sum(axis=2) @ (weights / weights.sum())
    return total


def fleet(model: Model, scenario: Scenario, row: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Power (steps,), limits of the energy gained (steps + 1,) twice, and that of cars gone (steps,)."""
    lot = model.instance
    least, most = lot.energy_range_kwh
    up, down = lot.efficiency * lot.charger_kw * lot.step_h, lot.charger_kw * lot.step_h / lot.efficiency
    arrive, depart = scenario.arrive[row], scenario.depart[row]
    start, target = scenario.start_kwh[row], scenario.target_kwh[row]
    t = np.arange(lot.steps + 1)[:, None]
    there, left = (arrive <= t) & (t < depart), (t >= depart) & (arrive < depart)
    floor = np.maximum(np.maximum(least, target - (depart - t) * up), start - (t - arrive) * down) - start
    ceiling = np.minimum(most, start + (t - arrive) * up) - start
    kept = np.maximum(np.maximum(target, least), start - (depart - arrive) * down) - start
    low = np.where(there, floor, np.where(left, kept, 0.0)).sum(axis=1)
    high = np.where(there, np.maximum(ceiling, floor), np.where(left, kept, 0.0)).sum(axis=1)
    power = lot.charger_kw * there[:-1].sum(axis=1)
    return power, low, high, np.where(left, kept, 0.0).sum(axis=1)[:-1]
