"""Policies that do not look ahead further than a plan made at noon: without V2G, and robust day-ahead plans."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.day import Day, Protection, typical_cars
from baselines.scheduling.program import Program, Task, build, groups_of
from baselines.scheduling.sight import Sight, act, read, wind_path
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import number
from v2g_env.scheduling.fleet import Cars
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import law, sample
from v2g_env.scheduling.weather import expected_power

__all__ = [
    "DayAhead",
    "Uncontrolled",
    "begins",
    "few_kinds",
    "fleet_fraction",
    "margin_kw",
    "possible",
    "typical_wind_sd",
]

Floats = NDArray[np.float64]

_KINDS = 25  # different cars of a typical fleet


class Uncontrolled:
    """Without V2G: cars charge to their targets as fast as they can; the generator keeps a margin.

    Args:
        model: the problem.
        margin_sd: generator above the expected net load, in standard deviations of the next step's wind.
    """

    def __init__(self, model: Model, margin_sd: float) -> None:
        number("margin_sd", margin_sd, -100.0, 100.0)
        self.model, self.margin_sd = model, margin_sd

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """Return actions (n, 2 + aggregators)."""
        sight = read(self.model, observation)
        room = np.maximum(sight.up_kw, 1e-9)
        return act(self.model, sight, sight.goal_kw / room, self.margin_sd * sight.wind_sd_kw, 0.0), state


class DayAhead:
    """Robust linear scheduling at noon for typical cars and the wind expected then; the plan for the cars is kept.

    The generator follows the expected net load of each step, plus what the same set of deviations could bring in it.
    Where no plan keeps the balance, missing energy has its price in it.

    Args:
        model: the problem.
        protection: the set; turbines' half-widths are ``wind_sd`` predictive standard deviations.
        share: of the cars' remaining bands that settles imbalance.
        wind_sd: half-width of a turbine in standard deviations.
    """

    def __init__(self, model: Model, protection: Protection, share: float = 1.0, wind_sd: float = 1.5) -> None:
        protection.check(model.instance)
        number("share", share, 0.0, 1.0)
        number("wind_sd", wind_sd, 0.0, 10.0)
        self.model, self.protection, self.share, self.wind_sd = model, protection, share, wind_sd

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """Return actions (n, 2 + aggregators); the memory is the plan for all cars, (n, steps) [kW]."""
        sight = read(self.model, observation)
        if state is None or begins(episode_start):
            plans = np.stack([self.profile(row) for row in wind_path(self.model, sight)])
        else:
            plans = state[0]
        wanted = plans[np.arange(len(plans)), np.minimum(sight.step, self.model.steps - 1)]
        margin = margin_kw(self.model, sight, self.protection, self.wind_sd)
        return act(self.model, sight, fleet_fraction(sight, wanted), margin, self.share), (plans,)

    def profile(self, wind_kw: Floats) -> Floats:
        """(steps,) power of all cars together [kW] in the robust plan for expected wind (steps,) [kW]."""
        lot = self.model.instance
        mean = np.repeat(wind_kw[:, None] / max(lot.turbines, 1), lot.turbines, axis=1)
        half = np.minimum(self.wind_sd * typical_wind_sd(lot)[:, None], mean)
        load = lot.load_mean_kw
        cars = few_kinds(lot, typical_cars(lot, self.model.law))
        gas = float(np.clip(load[0].sum() - wind_kw[0], 0.0, lot.gas_max_kw))
        day = possible(lot, Day(load, lot.load_deviation * load, mean, half, *cars, gas), self.protection)
        task = Task(day, self.protection, "cost", False, self.model.gas_scale)
        label = groups_of(lot, day, by_aggregator=False)
        program = build(lot, task, label, np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
        try:
            point = _solved(program)
        except SolverError:  # the generator is too small or too slow: missing energy at its price
            program = build(lot, task._replace(soft=True), label, np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
            point = _solved(program)
        power = np.zeros(lot.steps)
        for group, (c, d) in enumerate(zip(program.charge, program.discharge, strict=True)):
            start = int(day.arrive[np.flatnonzero(label == group)[0]])
            power[start : start + len(c)] += point[c] - point[d]
        return power


def _solved(program: Program) -> Floats:
    highs = LinearProgram(program.cost, program.lower, program.upper)
    highs.add_matrix(program.low, program.up, program.matrix)
    return highs.solve().point


def begins(episode_start: NDArray[np.bool_] | None) -> bool:
    """Whether all days start now, so that plans of days before are of no use."""
    return episode_start is not None and bool(np.all(episode_start))


def possible(lot: Instance, day: Day, protection: Protection) -> Day:
    """The same day with half-widths small enough for the generator to cover them on top of the mean load."""
    room = np.maximum(lot.gas_max_kw + day.wind_kw.sum(axis=1) - day.load_kw.sum(axis=1), 0.0)
    total = day.load_half_kw.sum(axis=1) + (day.wind_half_kw.sum(axis=1) if protection.wind else 0.0)
    factor = np.minimum(1.0, 0.5 * room / np.maximum(total, 1e-9))[:, None]
    return day._replace(load_half_kw=day.load_half_kw * factor, wind_half_kw=day.wind_half_kw * factor)


def fleet_fraction(sight: Sight, wanted_kw: Floats) -> Floats:
    """(n, aggregators) the same share of every aggregator's room, so that all cars together take ``wanted_kw`` (n,)."""
    extra = wanted_kw - sight.idle_kw.sum(axis=1)
    up, down = sight.up_kw.sum(axis=1), sight.down_kw.sum(axis=1)
    share = np.where(extra > 0.0, extra / np.maximum(up, 1e-9), extra / np.maximum(down, 1e-9))
    return np.repeat(np.clip(share, -1.0, 1.0)[:, None], sight.idle_kw.shape[1], axis=1)


def margin_kw(model: Model, sight: Sight, protection: Protection, wind_sd: float) -> Floats:
    """(n,) what the loads' and, if protected, the turbines' deviations of a step can bring in the set [kW]."""
    lot = model.instance
    loads = lot.load_deviation * sight.load_kw[:, None] * np.array(lot.load_shares)
    parts = [loads]
    if protection.wind:  # turbines deviate together: their standard deviations add up
        each = wind_sd * sight.wind_sd_kw / max(lot.turbines, 1)
        parts.append(np.repeat(each[:, None], lot.turbines, axis=1))
    half = np.concatenate(parts, axis=1)
    found = []
    for row in half:
        chosen = protection.of(row)
        found.append(0.0 if chosen is None else float(chosen.worst(np.ones(len(row))).value))
    return np.array(found)


@lru_cache(maxsize=16)
def typical_wind_sd(instance: Instance) -> Floats:
    """(steps,) standard deviation of a turbine's power as predicted at noon, averaged over days of the generator."""
    if not instance.turbines:
        return np.zeros(instance.steps)
    days = sample(instance, law("generator"), 50, 1)
    return np.asarray(expected_power(instance, days.forecast, days.news, 0)[1].mean(axis=(0, 2)))


def few_kinds(lot: Instance, cars: Cars) -> Cars:
    """A fleet of at most 25 different cars, so that plans of thousands of cars are as quick."""
    kind = np.arange(lot.cars) * min(_KINDS, lot.cars) // max(lot.cars, 1)
    pick = np.minimum(kind * max(lot.cars // _KINDS, 1), max(lot.cars - 1, 0))
    return Cars(cars.arrive[pick], cars.depart[pick], cars.start_kwh[pick], cars.target_kwh[pick])
