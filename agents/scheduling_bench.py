"""Benchmarks of the scheduling network: robust plans of a day, hindsight, messages, dispatch on AC feeders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from baselines.certificate import check
from baselines.scheduling.conic import solve as dispatch
from baselines.scheduling.day import Day, Protection, known_day, known_wind_day
from baselines.scheduling.distributed import coordinate
from baselines.scheduling.feeder_day import FeederDay
from baselines.scheduling.linear import solve
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import sample

__all__ = ["lines"]

GAPS = (1e-2, 1e-3, 1e-4)
SIZES = (100, 2000)
PROTECTION = Protection("budget", 2.0)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def _sized(cars: int) -> Instance:
    """The default network, with homes, turbines, lines and generator in proportion to the cars."""
    base = Instance()
    k = cars / base.cars
    return base.replace(
        cars=cars,
        load_peak_kw=k * base.load_peak_kw,
        line_limit_kw=tuple(k * limit for limit in base.line_limit_kw),
        gas_max_kw=k * base.gas_max_kw,
        gas_ramp_kw=k * base.gas_ramp_kw,
        gas_quadratic=base.gas_quadratic / k,
        gas_band_kw=k * base.gas_band_kw,
        turbine_kw=k * base.turbine_kw,
        calibrated_usd=k * base.calibrated_usd,
    )


def _day(instance: Instance) -> Day:
    return known_wind_day(Model(instance), sample(instance, "generator", 1, 1), 0)


def lines() -> Iterator[str]:
    """Yield one line per measurement."""
    small = Instance(cars=6)
    coordinate(small, _day(small), rounds=1)  # compile
    solve(small, _day(small))
    yield from _robust()
    yield _hindsight()
    yield from _coordinated()
    yield from _feeders()


def _robust() -> Iterator[str]:
    for cars in SIZES:
        lot = _sized(cars)
        day = _day(lot)
        found, spent = _timed(partial(solve, lot, day, PROTECTION))
        report, checked = _timed(partial(check, found.certificate, lot))
        gap = report.values["gap"] / report.values["bound"]
        text = f"robust linear plan, {cars:,} cars, budget 2: {spent:.2f} s, proven gap {gap:.1e}; "
        yield text + f"checked in {checked:.2f} s"


def _hindsight() -> str:
    lot, count = Instance(), 10
    model, days = Model(lot), sample(lot, "generator", count, 1)
    spent = sum(_timed(partial(solve, lot, known_day(model, days, i), soft=True))[1] for i in range(count))
    return f"hindsight linear program, 100 cars: {spent / count:.2f} s a day, mean of {count}"


def _coordinated() -> Iterator[str]:
    lot = Instance()
    day = _day(lot)
    for gap in GAPS:
        yield _talk(lot, day, gap, "all heard")
        yield _talk(lot, day, gap, "one of six silent in 30 % of the rounds", _one_silent)
    lot = _sized(SIZES[-1])
    yield _talk(lot, _day(lot), GAPS[-1], "all heard")


def _feeders() -> Iterator[str]:
    """Cone programs of 96 steps; the 69-bus feeder with devices at other buses."""
    other = {"feeder": "69", "gas_bus": 60, "wind_buses": (26, 34, 48, 52)}
    for fields in ({}, {"robust": "ellipsoid"}, {"robust": "box"}, other):
        day = FeederDay.from_dict(fields)
        found, spent = _timed(partial(dispatch, day))
        figures, gap = found.certificate["figures"], found.certificate["gap"]
        yield (
            f"conic dispatch, {day.feeder} buses x {day.steps} steps, loads protected: {day.robust}: {spent:.2f} s, "
            f"proven gap {gap:.1e}; losses against power flow {figures['losses_relative']:.1e}"
        )


def _one_silent(k: int) -> list[int]:
    return [2] if np.random.default_rng(k).random() < 0.3 else []


def _talk(lot: Instance, day: Day, gap: float, who: str, silent: Callable[[int], list[int]] | None = None) -> str:
    found, spent = _timed(partial(coordinate, lot, day, PROTECTION, gap=gap, silent=silent))
    last = found.history[-1]
    return (
        f"coordination, {lot.cars:,} cars, {who}, gap {gap:g}: {last.number + 1} rounds, "
        f"{last.messages:,} numbers sent, {spent:.2f} s, proven gap {last.gap:.1e}"
    )
