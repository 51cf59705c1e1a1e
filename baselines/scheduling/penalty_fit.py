"""Weights of a penalty from training days: the mean bound is convex in them, and cutting planes find its least.

For speed the days' cars are one fleet here; bounds hold for any weights, and those that count use every car.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import write_text
from baselines.scheduling.builder import Builder
from baselines.scheduling.penalty import Penalty, zero
from baselines.scheduling.penalty_critic import ENERGY_WIDTH, GAS_WIDTH_KW, GRID, Surprise, fleet, surprise
from baselines.solve import LinearProgram
from v2g_env.core.validate import number
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario, sample

__all__ = ["fit", "write_default"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST, _LARGEST = -0.5, 1.5  # of a weight
_STEP = 0.6  # first distance from the best weights so far at which the next are sought
_CLOSED = 2e-4  # share of the mean bound's decrease at which the search ends
_SEED = 1  # of the shipped penalty's training days


class _Trained(NamedTuple):
    """A training day: its program, columns of generator and energy, and what a unit of every weight does.

    Attributes:
        highs: the program, kept by the solver.
        gas, energy: (steps,) columns of the generator's power, and of the energy at each step's start.
        lower, upper: (2 steps,) bounds of these columns.
        day: its surprises.
        gone: (steps,) energy gained by cars that left [kWh].
    """

    highs: LinearProgram
    gas: Ints
    energy: Ints
    lower: Floats
    upper: Floats
    day: Surprise
    gone: Floats


def fit(
    model: Model,
    n_days: int,
    seed: int,
    *,
    parts: int = 4,
    rounds: int = 25,
    grid: tuple[int, ...] = GRID,
    level: float = 0.0,
    say: Callable[[str], None] = lambda text: None,
) -> Penalty:
    """Weights with the least mean bound over ``sample(instance, law, n_days, seed)``.

    Args:
        model: of the environment.
        n_days: training days.
        seed: of the training days; take others than those that are bounded afterwards.
        parts: of the day, each with weights of its own.
        rounds: of cutting planes, at most.
        grid: points of the reduced day, see penalty_critic.surprise.
        level: of the penalty; it has no part in the fit. 0 keeps bounds near returns of the same days, 1 makes their
            mean scatter a little less.
        say: receives a line per round.
    """
    lot = model.instance
    number("n_days", n_days, 1, 10**4, integer=True)
    number("parts", parts, 1, lot.steps, integer=True)
    number("rounds", rounds, 1, 1000, integer=True)
    scenario = sample(lot, model.law, n_days, seed)
    trained = []
    for row in range(n_days):
        if row % 20 == 0:
            say(f"surprises: {row} of {n_days} training days")
        trained.append(_train(model, scenario, row, grid))
    sizes = (parts, len(GAS_WIDTH_KW) + len(ENERGY_WIDTH))
    weights = _search(trained, sizes, rounds, say)
    if weights is None:
        return zero()
    split = len(GAS_WIDTH_KW)
    return Penalty(level, tuple(map(tuple, weights[:, :split])), tuple(map(tuple, weights[:, split:])), grid)


def write_default(path: Path, say: Callable[[str], None] = print) -> Penalty:
    """Fit the penalty that is shipped for the default instance, and write it with its hash.

    Args:
        path: of the JSON file.
        say: receives the progress.
    """
    found = fit(Model(Instance()), 100, _SEED, say=say)
    text = json.dumps({"sha256": found.hash, "penalty": found.to_dict()}, indent=1)
    write_text(path, text + "\n")
    return found


def _search(trained: list[_Trained], sizes: tuple[int, int], rounds: int, say: Callable[[str], None]) -> Floats | None:
    """Best weights (parts, slopes) by cutting planes of every day in a box around the best so far; None: none help."""
    days, count = len(trained), sizes[0] * sizes[1]
    model = LinearProgram(
        np.concatenate([np.full(days, -1.0 / days), np.zeros(count)]),
        np.concatenate([np.full(days, -1e9), np.full(count, _LEAST)]),
        np.concatenate([np.full(days, 1e9), np.full(count, _LARGEST)]),
    )
    best, weights, width = np.inf, np.zeros(count), _STEP
    first, middle = np.inf, weights
    for turn in range(rounds):
        values, slopes = map(np.array, zip(*(_bound(each, weights.reshape(sizes)) for each in trained), strict=True))
        columns = np.concatenate([np.arange(days)[:, None], np.tile(days + np.arange(count), (days, 1))], axis=1)
        low = values - slopes @ weights
        model.add_rows(low, np.full(days, np.inf), columns, np.concatenate([np.ones((days, 1)), -slopes], axis=1))
        mean = float(values.mean())
        say(f"round {turn}: mean bound {mean:.3f}, best {min(best, mean):.3f} $")
        first = min(first, mean) if turn == 0 else first
        if mean < best:
            best, middle = mean, weights
        else:
            width *= 0.5
        lower, upper = np.maximum(middle - width, _LEAST), np.minimum(middle + width, _LARGEST)
        model.change_columns(days + np.arange(count), np.zeros(count), lower, upper)
        found = model.solve()
        weights = found.point[days:]
        if best + found.objective < _CLOSED * max(first - best, 1e-9) or width < 1e-3:
            break
    return middle.reshape(sizes) if best < first else None


def _bound(each: _Trained, weights: Floats) -> tuple[float, Floats]:
    """Best value of a training day at given weights [$], and its slopes in them (parts x slopes,)."""
    day, parts = each.day, len(weights)
    steps = len(each.gone)
    part = np.arange(steps) * parts // steps
    slopes = np.concatenate([day.gas_usd_per_kw, day.energy_usd_per_kwh], axis=1)
    split = day.gas_usd_per_kw.shape[1]
    price = weights[part] * slopes
    gas, energy = price[:, :split].sum(axis=1), price[:, split:].sum(axis=1)
    changed = np.concatenate([each.gas, each.energy])
    each.highs.change_columns(changed, -np.concatenate([gas, energy]), each.lower, each.upper)
    solution = each.highs.solve()
    away = np.stack([solution.point[each.gas] - day.gas_kw] * split, axis=1)
    stored = solution.point[each.energy] - each.gone - day.energy_kwh
    away = np.concatenate([away, np.stack([stored] * (slopes.shape[1] - split), axis=1)], axis=1)
    use = np.zeros(weights.shape)
    np.add.at(use, part, slopes * away)
    value = solution.objective + float(gas @ day.gas_kw + energy @ (each.gone + day.energy_kwh))
    return value, -use.ravel()


def _train(model: Model, scenario: Scenario, row: int, grid: tuple[int, ...]) -> _Trained:
    """The program of a day whose cars are one fleet, without lines."""
    lot = model.instance
    h, steps, segments = lot.step_h, lot.steps, lot.gas_segments
    power, low, high, gone = fleet(model, scenario, row)
    need, wind = scenario.load_kw[row, 1:].sum(axis=1), scenario.wind_kw[row, 1:].sum(axis=1)
    b = Builder()
    price = np.tile(-model.gas_scale * h * lot.gas_prices, steps)
    pieces = b.add_columns(price, 0.0, lot.gas_max_kw / segments, steps * segments).reshape(steps, segments)
    gas = b.add_columns(0.0, 0.0, lot.gas_max_kw, steps)
    used = b.add_columns(-lot.wind_usd_per_kwh * h, 0.0, wind, steps)
    missing = b.add_columns(-lot.emergency_usd_per_kwh * h, 0.0, need + power, steps)
    charge = b.add_columns(0.0, 0.0, power, steps)
    discharge = b.add_columns(-(lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * h, 0.0, power, steps)
    energy = b.add_columns(0.0, low, high, steps + 1)
    balance = b.add_rows(need, np.inf, steps)
    for columns, sign in ((gas, 1.0), (used, 1.0), (missing, 1.0), (discharge, 1.0), (charge, -1.0)):
        b.fill(balance, columns, sign)
    change = b.add_rows(-np.inf, 0.0, steps)  # cars that leave with more than their targets take it along
    for columns, value in ((energy[1:], 1.0), (energy[:-1], -1.0), (charge, -lot.efficiency * h)):
        b.fill(change, columns, value)
    b.fill(change, discharge, h / lot.efficiency)
    whole = b.add_rows(0.0, 0.0, steps)
    b.fill(whole[:, None], pieces, 1.0)
    b.fill(whole, gas, -1.0)
    ramp = b.add_rows(-lot.gas_ramp_kw, lot.gas_ramp_kw, steps - 1)
    b.fill(ramp, gas[1:], 1.0)
    b.fill(ramp, gas[:-1], -1.0)
    cost, matrix, below, above, lower, upper = b.arrays()
    highs = LinearProgram(cost, lower, upper)
    highs.add_matrix(below, above, matrix)
    changed = np.concatenate([gas, energy[:-1]])
    return _Trained(highs, gas, energy[:-1], lower[changed], upper[changed], surprise(model, scenario, row, grid), gone)
