"""(P-S) itself: the cheapest sizes that keep every driver's target under a named rule, found by simulation.

    min p_shared s + p_own sum b   s.t.  P{xi_i <= b_i + a_i(b, s, xi)} >= 1 - eps_i  for every driver i.

Not convex, and no scenario theory reaches it cheaply: found sizes are certified on fresh days. For a given s every
driver's target is met with equality where his range allows: own batteries are driven there by a fixed-point iteration
on their quantile levels. What remains is one number, s, searched by golden section; the cost is usually unimodal in s,
which is not proven, so the sizes are good, not optimal. How much they cost less than (P-SI) is what that inner
approximation gives away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.shared_battery.programs import Solution
from baselines.shared_battery.reliability import (
    TRAINING_STREAM,
    FreshDays,
    certified,
    missed_days,
    sample_test,
    tested,
)
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SizingModel
from v2g_env.shared_battery.scenario import Law, fitting, sample_seasons

__all__ = ["money_search", "own_for", "search", "target_rates"]

Floats = NDArray[np.float64]

_GOLDEN = 0.5 * (5.0**0.5 - 1.0)
_SWEEPS = 40
_ATTEMPTS = 4
_SHARES = (0.5, 0.65, 0.8, 0.9, 1.0, 1.15)


def target_rates(instance: Instance, train: int, test: int, beta: float, margin: float) -> Floats:
    """Rates of missed days (n,) to aim at, so that ``test`` fresh days will certify eps with a margin.

    The largest count that the hold-out limit allows, less ``margin`` standard deviations of both samples' noise.

    Raises:
        InvalidInputError: if so few test days cannot certify a target even without a single missed day.
    """
    counts = np.unique(np.minimum(np.geomspace(1, test, 4000).astype(np.int64) - 1, test))
    limits = np.atleast_1d(risk.hold_out(test, counts, beta / instance.drivers))
    most = counts[np.searchsorted(limits, instance.tolerated, side="right") - 1] / test
    lowest = float(limits[0])
    require(bool(lowest <= instance.tolerated.min()), "test days", test, f"more: these certify {lowest:.2g} at best")
    noise = np.sqrt(instance.tolerated * (1.0 - instance.tolerated) * (1.0 / train + 1.0 / test))
    rates: Floats = np.maximum(most - margin * noise, 0.0)
    return rates


def own_for(instance: Instance, law: Law, rule: str, shared_kwh: float, rates: Floats, days: FreshDays) -> Floats:
    """Own batteries (n,) with which every driver misses at most ``rates`` (n,) of the days, about equal to it.

    Quantile levels are moved by the difference between a driver's rate and its target, in units of the log odds; from
    the iterates that keep all targets the cheapest is taken, quantiles of the targets (safe under any rule) at worst.
    """
    count = len(days.need_kwh)
    allowed = np.floor(rates * count + 1e-9)
    aim = np.maximum(allowed - 0.5, 0.0) / count  # half a day below: what swings around it by a day is kept
    safe = np.clip(law.needs.quantile(1.0 - rates), instance.own_min_kwh, instance.own_max_kwh)
    best, best_sum = safe, float(safe.sum())
    level = np.clip(1.0 - 3.0 * np.maximum(rates, 1e-6), 0.0, 1.0)
    step = np.full(instance.drivers, 0.5)
    before = np.zeros(instance.drivers)
    for _ in range(_SWEEPS):
        own = np.clip(law.needs.quantile(level), instance.own_min_kwh, instance.own_max_kwh)
        missed = missed_days(rule, own, shared_kwh, days)
        if (missed <= allowed).all() and own.sum() < best_sum:
            best, best_sum = own, float(own.sum())
        off = _odds(missed / count) - _odds(aim)
        step = np.where(off * before < 0.0, 0.5 * step, np.minimum(1.2 * step, 1.0))
        before = off
        level = 1.0 / (1.0 + np.exp(-(np.clip(_odds(level) + step * off, -12.0, 12.0))))
    return best


def _odds(share: Floats) -> Floats:
    kept = np.clip(share, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(kept / (1.0 - kept)))


def _cheapest(cost: Callable[[float], float], high: float, rounds: int) -> float:
    """Argument in [0, high] of the least cost seen: a coarse grid, then golden section around its best point."""
    grid = np.linspace(0.0, high, 9)
    values = [cost(float(s)) for s in grid]
    best = int(np.argmin(values))
    left, right = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 8)])
    seen = dict(zip(grid.tolist(), values, strict=True))
    a, b = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
    for _ in range(rounds):
        for point in (a, b):
            if point not in seen:
                seen[point] = cost(point)
        if seen[a] <= seen[b]:
            right, b, a = b, a, b - _GOLDEN * (b - left)
        else:
            left, a, b = a, b, a + _GOLDEN * (right - a)
    return float(min(seen, key=lambda point: seen[point]))


def search(
    instance: Instance,
    *,
    source: Law | str = "generator",
    rule: str | None = None,
    train_days: int = 20_000,
    test_days: int = 60_000,
    seed: int = 1,
    beta: float = 1e-5,
    rounds: int = 10,
) -> Solution:
    """Search the cheapest sizes under a rule and certify them on fresh days.

    If the test does not certify a target, the search aims lower and tries again on other fresh days; the attempts share
    beta.

    Args:
        instance: fleet, prices, targets.
        source: law of the needs, or its name.
        rule: allocation rule; None: the instance's.
        train_days: sampled days for the search.
        test_days: fresh days of every test.
        seed: of all of them.
        beta: confidence parameter of the certificate.
        rounds: of golden section.

    Raises:
        InvalidInputError: for an argument out of range, or a target that so many test days cannot certify.
    """
    rule = instance.rule if rule is None else rule
    for name, value in (("train_days", train_days), ("test_days", test_days)):
        number(name, value, 1, 10**7, integer=True)
    law = fitting(instance, source)
    days = sample_test(instance, law, train_days, seed, TRAINING_STREAM, rule)
    totals = np.sort(days.need_kwh.sum(axis=1))
    for attempt in range(_ATTEMPTS):
        margin = 1.5 + 1.5 * attempt
        rates = target_rates(instance, train_days, test_days, beta / _ATTEMPTS, margin)
        high = min(float(totals[int((1.0 - 0.5 * rates.min()) * (train_days - 1))]), instance.shared_max_kwh)

        def cost(shared: float, rates: Floats = rates) -> float:
            return float(instance.cost_usd(own_for(instance, law, rule, shared, rates, days), shared))

        shared = _cheapest(cost, high, rounds)
        own = own_for(instance, law, rule, shared, rates, days)
        found = tested(
            instance,
            own,
            shared,
            days=test_days,
            seed=seed,
            stream=TRAINING_STREAM + 1 + attempt,
            source=law,
            rule=rule,
            beta=beta,
            looks=_ATTEMPTS,
        )
        if certified(instance, found):
            return found
    worst = float((np.asarray(found.certificate["risk"]["eps"]) / instance.tolerated).max())
    require(False, "test_days", test_days, f"more: limits are still {worst:.3g} times the target")
    raise AssertionError  # require has raised


def money_search(
    instance: Instance,
    *,
    source: Law | str = "generator",
    train_days: int = 20_000,
    test_days: int = 60_000,
    train_seasons: int = 200,
    seed: int = 1,
    beta: float = 1e-5,
    rounds: int = 8,
) -> Solution:
    """Sizes that earn most in V2G/SharedBatterySizing-v0 among those found for a range of rates of missed days.

    A season's luck and the price of a missed day decide how far below the targets it pays to aim: for multiples of the
    targets the cheapest sizes are searched as in ``search``, and the best mean reward on training seasons is taken.
    What the sizes promise is certified on fresh days, whatever it is.

    Args:
        instance: fleet, prices, targets, rule.
        source: law of the needs, or its name.
        train_days: sampled days for the search.
        test_days: fresh days of the test.
        train_seasons: seasons on which money is measured.
        seed: of all of them.
        beta: confidence parameter of the certificate.
        rounds: of golden section.
    """
    law, rule = fitting(instance, source), instance.rule
    model = SizingModel(instance, law)
    seasons = sample_seasons(instance, law, train_seasons, seed)
    days = sample_test(instance, law, train_days, seed, TRAINING_STREAM, rule)
    high = min(float(days.need_kwh.sum(axis=1).max()), instance.shared_max_kwh)
    best: tuple[float, Floats, float] | None = None
    for share in _SHARES:
        rates = share * instance.tolerated

        def cost(shared: float, rates: Floats = rates) -> float:
            return float(instance.cost_usd(own_for(instance, law, rule, shared, rates, days), shared))

        shared = _cheapest(cost, high, rounds)
        own = own_for(instance, law, rule, shared, rates, days)
        action = np.tile(model.action_for(own, shared), (train_seasons, 1))
        earned = float(model.step(seasons, model.initial(seasons), action)[1].sum(axis=1).mean())
        if best is None or earned > best[0]:
            best = earned, own, shared
    assert best is not None
    return tested(
        instance,
        best[1],
        best[2],
        days=test_days,
        seed=seed,
        stream=TRAINING_STREAM + 20,
        source=law,
        rule=rule,
        beta=beta,
    )
