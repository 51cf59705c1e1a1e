"""Check of certificates of kind "schedule": a plan keeps what it promises, and none is better by more than the gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import CertificateError, Report, unpack
from baselines.checking import expect, near, numbers
from baselines.duality import linear_bound
from baselines.scheduling.day import Day, Protection, check_day
from baselines.scheduling.plan import FEASIBLE, Plan, measure
from baselines.scheduling.program import OBJECTIVES, Task, build
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import gas_scale

__all__ = ["check_groups", "check_schedule", "read_day", "read_protection", "violation_bound"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FIELDS = {
    *("format", "problem", "kind", "instance", "instance_sha256", "day", "protection", "objective", "soft", "plan"),
    *("groups", "lines", "reserves", "dual", "value", "cost_usd", "bound"),
}
_MOST_NUMBERS, _MOST_WORK = 5 * 10**5, 10**8  # no forged size makes a check endless
_UNITS = {"cost": "$", "deviation": "kW", "renewable": "kWh", "peak": "kW"}


def check_schedule(data: Mapping[str, Any], instance: Instance) -> Report:
    """Recompute a plan and the bound above which it lies.

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    _check_size(instance)
    task = _task(data, instance)
    plan = Plan(
        numbers("plan.gas_kw", data["plan"]["gas_kw"], (instance.steps,)),
        numbers("plan.car_kw", data["plan"]["car_kw"], (instance.steps, instance.cars)),
    )
    found = measure(instance, task, plan)
    for name, excess in found.off.items():
        expect(excess <= FEASIBLE, f"excess over the limit of {name}", excess, f"at most {FEASIBLE:g}")
    near("value", data["value"], found.value)
    near("cost_usd", data["cost_usd"], found.cost_usd)
    bound = _bound(data, instance, task)
    near("bound", data["bound"], bound)
    gap = found.value - bound
    # limits are checked to FEASIBLE: a plan may beat the bound by what that is worth, and by no more
    expect(gap >= -1e-6 * (1.0 + abs(found.value)), "bound", bound, f"not above the plan's value {found.value!r}")
    unit = _UNITS[task.objective]
    kept = "missing energy and overload at their prices" if task.soft else _kept(task)
    claims: tuple[str, ...] = (
        f"{task.objective} {found.value:.6f} {unit}, {kept}",
        f"no plan is below {bound:.6f} {unit}: gap {max(gap, 0.0):.2e} ({max(gap, 0.0) / max(abs(bound), 1e-9):.1e})",
    )
    values = {"value": found.value, "bound": bound, "gap": gap, "cost_usd": found.cost_usd}
    if task.protection.kind != "none":
        rare = violation_bound(task)
        values["violation_bound"] = rare
        claims += (
            f"a period's balance fails with probability at most {rare:.4g}, if its deviations are independent, "
            "symmetric and within their half-widths",
        )
    return Report("schedule", claims, values)


def violation_bound(task: Task) -> float:
    """Largest probability, over the periods, that deviations outside the set break a period's balance.

    They have to be independent, symmetric and bounded by the half-widths; see core.uncertainty. 1 without a set.
    """
    found = [task.protection.of(half) for half in task.protection.halfwidth(task.day)]
    return max(1.0 if one is None else one.violation_bound() for one in found)


def _check_size(instance: Instance) -> None:
    """Refuse instances whose program, or whose calibration over hundreds of days, would take hours or all memory."""
    lot, lines = instance, len(instance.line_limit_kw)
    homes = lot.aggregators + lot.turbines
    work = lot.steps * (lot.cars + lot.gas_segments + lines * homes) + lines**2
    expect(lot.steps * homes <= _MOST_NUMBERS, "steps x (aggregators + turbines)", lot.steps * homes, _MOST_NUMBERS)
    expect(work <= _MOST_WORK, "steps x (cars + gas_segments + lines x (aggregators + turbines))", work, _MOST_WORK)


def _kept(task: Task) -> str:
    protection = task.protection
    if protection.kind == "none":
        return "balance, lines and reserve kept on the means of the day"
    level = "" if protection.kind == "box" else f" {protection.level:g}"
    what = "loads and wind" if protection.wind else "loads"
    return f"balance and lines kept for all {what} in the {protection.kind}{level}"


def read_day(given: Any, instance: Instance) -> Day:
    """The day of a certificate, checked."""
    lot = instance
    expect(isinstance(given, Mapping) and set(given) == set(Day._fields), "day", given, ", ".join(Day._fields))
    loads, wind, cars = (lot.steps, lot.aggregators), (lot.steps, lot.turbines), (lot.cars,)
    shapes = {"load_kw": loads, "load_half_kw": loads, "wind_kw": wind, "wind_half_kw": wind}
    arrays = {name: numbers(name, given[name], shape) for name, shape in shapes.items()}
    arrays |= {name: numbers(name, given[name], cars, "<i8") for name in ("arrive", "depart")}
    arrays |= {name: numbers(name, given[name], cars) for name in ("start_kwh", "target_kwh")}
    expect(type(given["gas_kw"]) is float, "day.gas_kw", given["gas_kw"], "a number")
    try:
        return check_day(lot, Day(gas_kw=given["gas_kw"], **arrays))
    except InvalidInputError as error:
        raise CertificateError(f"day = invalid: {error}") from None


def read_protection(given: Any, instance: Instance) -> Protection:
    """The protection of a certificate, checked."""
    ok = isinstance(given, Mapping) and set(given) == set(Protection._fields) and type(given["wind"]) is bool
    expect(ok, "protection", given, ", ".join(Protection._fields))
    found = Protection(given["kind"], given["level"], given["wind"])
    try:
        found.check(instance)
    except InvalidInputError as error:
        raise CertificateError(f"protection = invalid: {error}") from None
    return found


def _task(data: Mapping[str, Any], instance: Instance) -> Task:
    expect(data["objective"] in OBJECTIVES, "objective", data["objective"], ", ".join(OBJECTIVES))
    expect(type(data["soft"]) is bool, "soft", data["soft"], "true or false")
    protection = read_protection(data["protection"], instance)
    expect(not data["soft"] or protection.kind == "none", "protection", protection.kind, "none, where soft")
    day = read_day(data["day"], instance)
    return Task(day, protection, data["objective"], data["soft"], gas_scale(instance))


def check_groups(instance: Instance, day: Day, label: Ints) -> None:
    """Raise CertificateError unless labels are groups of cars with one arrival and one departure."""
    came = day.arrive < day.depart
    expect(bool(((label >= 0) == came).all()), "groups", label.tolist(), "-1 for absent cars and for no others")
    count = int(label.max(initial=-1)) + 1
    expect(count <= instance.cars, "groups", count, f"at most {instance.cars} groups")
    first = np.full(count, -1)
    first[label[came][::-1]] = np.flatnonzero(came)[::-1]
    expect(bool((first >= 0).all()), "groups", label.tolist(), "numbers without gaps")
    for times in (day.arrive, day.depart):
        same = bool((times[came] == times[first[label[came]]]).all())
        expect(same, "groups", label.tolist(), "cars of one arrival and departure in each")


def _bound(data: Mapping[str, Any], instance: Instance, task: Task) -> float:
    lot = instance
    label = numbers("groups", data["groups"], (lot.cars,), "<i8")
    check_groups(lot, task.day, label)
    lines, reserves = unpack(data["lines"]), unpack(data["reserves"])
    shaped = lines.ndim == 2 and lines.shape[1] == 2 and reserves.ndim == 1
    expect(shaped and lines.dtype.str == reserves.dtype.str == "<i8", "lines and reserves", lines.shape, "(m, 2), (r,)")
    limits = np.array([len(lot.line_limit_kw), lot.steps])
    expect(bool(((lines >= 0) & (lines < limits)).all()), "lines", lines.tolist(), "lines and steps that exist")
    expect(bool(((reserves >= 0) & (reserves < lot.steps)).all()), "reserves", reserves.tolist(), "steps that exist")
    once = len(np.unique(lines, axis=0)) == len(lines) and len(np.unique(reserves)) == len(reserves)
    expect(once, "lines and reserves", len(lines), "each once")
    work = (len(lines) + len(reserves)) * (int(label.max(initial=-1)) + 1)
    expect(work <= _MOST_WORK, "(lines + reserves) x groups", work, _MOST_WORK)
    expect(not (task.soft and len(reserves)), "reserves", reserves.tolist(), "none, where missing energy has a price")
    try:
        program = build(lot, task, label, lines, reserves)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    dual = numbers("dual", data["dual"], (len(program.low),))
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    return -linear_bound(*parts, dual)
