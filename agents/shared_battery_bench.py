"""Benchmarks of the shared battery: sizing programs, allocation rules, bounds of weeks."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from baselines.certificate import check
from baselines.shared_battery.hindsight import hindsight
from baselines.shared_battery.programs import solve
from baselines.shared_battery.reference import equal_price_optimum, naive
from baselines.shared_battery.scenario_program import Range, least_cost
from baselines.shared_battery.week_programme import solve_week
from v2g_env.core.allocation import ORDERED, RULES, allocate_kernel, count_served, random_order
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import sample_days, sample_weeks

__all__ = ["lines"]

RATIOS = (1.0, 0.9, 0.5, 0.1)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begin


def lines() -> Iterator[str]:
    """Yield one line per measurement."""
    solve(Instance(drivers=3), n_samples=50)  # compile
    yield from _programs()
    yield from _against_naive()
    yield from _rules()
    yield from _weeks()


def _programs() -> Iterator[str]:
    for drivers, samples in ((100, 15_382), (400, 5000)):
        for ratio in RATIOS:
            fleet = Instance(drivers=drivers, own_usd_per_kwh=4.0 * ratio)
            found, spent = _timed(partial(solve, fleet, n_samples=samples))
            report, checked = _timed(partial(check, found.certificate, fleet))
            gap = found.value / report.values["bound_usd"] - 1.0
            yield (
                f"n = {drivers}, N = {samples:,}, own/shared price {ratio:g}: {spent:.2f} s, proven gap {gap:.1e}, "
                f"{report.values['complexity']:.0f} days decide, eps {report.values['eps']:.4f}; checked in "
                f"{checked:.2f} s"
            )
    yield f"largest memory of this process so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"


def _against_naive() -> Iterator[str]:
    drivers, samples = 25, 400
    need = sample_days(Instance(drivers=drivers), "generator", samples, 1).need_kwh
    low, high = np.zeros(drivers), np.full(drivers, 160.0)
    for ratio in RATIOS:
        fast, spent = _timed(partial(least_cost, need, Range(low, high, ratio)))
        slow, naive_s = _timed(partial(naive, need, low, high, ratio))
        off = abs(fast.bound_kwh / slow.use_kwh - 1.0)
        text = f"n = {drivers}, N = {samples}, price {ratio:g}: {spent:.3f} s; one linear program with all auxiliaries "
        text += f"(cvxpy, HiGHS) {naive_s:.2f} s, {naive_s / spent:.0f} times as long; costs differ by {off:.1e}"
        if ratio == 1.0:
            text += f"; closed form by {abs(fast.bound_kwh / equal_price_optimum(need) - 1.0):.1e}"
        yield text


def _rules() -> Iterator[str]:
    drivers, days = 25, 80_000
    rng = np.random.default_rng(0)
    need = sample_days(Instance(drivers=drivers), "generator", days, 1).need_kwh
    own = np.median(need, axis=0)
    short = np.maximum(need - own, 0.0)
    shared = np.full(days, 0.5 * short.sum(axis=1).mean())
    order = random_order(rng.random(need.shape))
    for number, rule in enumerate(RULES):
        used = order if rule in ORDERED else np.zeros((1, drivers), np.int64)
        calls: tuple[Callable[[], Any], ...] = (
            partial(allocate_kernel, number, short, shared, used),
            partial(count_served, number, need, own, shared[0], used, 1e-5),
        )
        rates = []
        for call in calls:
            call()
            rates.append(days * drivers / min(_timed(call)[1] for _ in range(5)) / 1e6)
        yield (
            f"rule {rule}, n = {drivers}, one core: {rates[0]:.0f} M driver-days/s allocated, {rates[1]:.0f} M counted"
        )


def _weeks() -> Iterator[str]:
    model = WeekModel(Instance())
    weeks = sample_weeks(model.instance, model.law, 200, 1)
    hindsight(model, weeks)
    spent = _timed(partial(hindsight, model, weeks))[1]
    yield f"hindsight bound, 175 requests, 2000 units: {1e3 * spent / 200:.2f} ms a week"
    solve_week(model, 400)
    yield f"season programme, 400 units: {_timed(partial(solve_week, model, 400))[1]:.2f} s"
