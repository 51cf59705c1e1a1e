"""Checks of dispatches and commitments on a feeder: nothing but arithmetic, power flows and weak duality."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import CertificateError, Report
from baselines.checking import expect, near, numbers
from baselines.scheduling.conic import POINT, faults, figures, relative_gap, states
from baselines.scheduling.conic_bound import lower_bound
from baselines.scheduling.conic_commitment import FREE
from baselines.scheduling.conic_point import complete
from baselines.scheduling.conic_program import DayProgram, build
from baselines.scheduling.feeder_day import FeederDay
from v2g_env.core.validate import InvalidInputError

__all__ = ["KINDS", "verify"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

KINDS = ("feeder dispatch", "feeder commitment")
_COMMON = {"format", "problem", "kind", "instance_sha256", "instance", "point", "figures", "bound", "gap"}
_MOST_LEAVES = 20_000
_BELOW = 1e-5  # how far a value may lie below its bound, for the violations that are allowed


def verify(certificate: Data, instance: Any = None) -> Report:
    """Recompute value, violations, replay and bound of a dispatch or commitment.

    Args:
        certificate: as loaded from JSON.
        instance: the FeederDay it must belong to; None takes the one written in it.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    kind = certificate["kind"]
    expect(kind in KINDS, "kind", kind, ", ".join(KINDS))
    fields = _COMMON | ({"dual"} if kind == "feeder dispatch" else {"leaves"})
    expect(set(certificate) == fields, "fields", sorted(certificate), ", ".join(sorted(fields)))
    program = build(_day_of(certificate, instance))
    point = _point_of(certificate, program)
    on = program.layout.of(point, "gas_on")
    expect(bool(np.isin(on, (0.0, 1.0)).all()), "point.gas_on", on.tolist(), "states 0 and 1")
    fixed = states(program, on, on)
    point = complete(fixed, point)
    numbers = figures(fixed, point)
    claimed = certificate["figures"]
    expect(isinstance(claimed, Mapping) and set(claimed) == set(numbers), "figures", claimed, ", ".join(numbers))
    for name, true in numbers.items():
        near(f"figures.{name}", claimed[name], true)
    for name, value, most in faults(numbers):
        expect(False, f"figures.{name}", value, f"at most {most:g}")
    bound = _bound(certificate, fixed) if kind == "feeder dispatch" else _tree_bound(certificate, program)
    near("bound", certificate["bound"], bound)
    # never above the recomputed one, but for the rounding between two machines
    expect(certificate["bound"] <= bound + 1e-12 * (1.0 + abs(bound)), "bound", certificate["bound"], f"<= {bound!r}")
    gap = relative_gap(numbers["value"], bound)
    near("gap", certificate["gap"], gap)
    expect(gap >= -_BELOW, "gap", gap, f"at least {-_BELOW:g}: the point's violations bring no more")
    return _report(kind, program.day, numbers, bound, gap)


def _report(kind: str, day: FeederDay, numbers: dict[str, float], bound: float, gap: float) -> Report:
    unit = "$" if day.objective == "cost" else "kWh"
    scope = "with these states of the generator" if kind == "feeder dispatch" else "with any states of the generator"
    name = "costs" if day.objective == "cost" else "loses"
    claims = [
        f"the dispatch {name} {numbers['value']:.6f} {unit}; none {name} less than {bound:.6f} {unit} {scope}: proven "
        f"gap {gap:.1e}",
        f"its exact power flow has the same losses to {numbers['losses_relative']:.1e} and voltages to "
        f"{numbers['voltage_pu']:.1e} pu; no limit is violated by more than {numbers['violation_pu']:.1e} pu",
    ]
    if day.robust != "none":
        claims.append(
            f"the limits hold for every load of the set ({day.robust}); on corners and drawn loads the lowest voltage "
            f"was {numbers['stress_lowest_pu']:.5f} pu"
        )
    return Report(kind, tuple(claims), numbers | {"bound": bound, "gap": gap})


def _day_of(certificate: Data, instance: Any) -> FeederDay:
    try:
        day = FeederDay.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    expect(day.hash == certificate["instance_sha256"], "instance_sha256", certificate["instance_sha256"], day.hash)
    if instance is not None:
        expect(isinstance(instance, FeederDay), "instance", type(instance).__name__, "a FeederDay")
        expect(instance.hash == day.hash, "instance_sha256", day.hash, f"{instance.hash} (another instance)")
    return day


def _point_of(certificate: Data, program: DayProgram) -> Floats:
    stored, layout = certificate["point"], program.layout
    expect(isinstance(stored, Mapping) and set(stored) == set(POINT), "point", list(stored), ", ".join(POINT))
    point = np.zeros(layout.columns)
    for name in POINT:
        point[layout.at(name)] = numbers(f"point.{name}", stored[name], layout.shapes[name]).ravel()
    return point


def _bound(certificate: Data, program: DayProgram) -> float:
    return lower_bound(program.data, numbers("dual", certificate["dual"], program.data.right.shape))


def _tree_bound(certificate: Data, program: DayProgram) -> float:
    """Least bound of the leaves, which together must cover every pattern of states exactly once."""
    leaves = certificate["leaves"]
    ok = isinstance(leaves, list) and 0 < len(leaves) <= _MOST_LEAVES
    expect(ok, "leaves", type(leaves).__name__, f"a list of 1 to {_MOST_LEAVES} leaves")
    blocks = program.layout.shapes["gas_on"][0]
    bounds = []
    for index, leaf in enumerate(leaves):
        name = f"leaves[{index}]"
        ok = isinstance(leaf, Mapping) and set(leaf) == {"fixed", "empty", "dual"} and type(leaf["empty"]) is bool
        expect(ok, name, leaf, "fixed, empty and dual")
        fixed = leaf["fixed"]
        ok = isinstance(fixed, list) and len(fixed) == blocks
        ok = ok and all(type(each) is int and each in (FREE, 0, 1) for each in fixed)
        expect(ok, f"{name}.fixed", fixed, f"{blocks} states: 0, 1 or {FREE}")
        low = np.array([max(each, 0) for each in fixed], np.float64)
        high = np.array([each if each != FREE else 1 for each in fixed], np.float64)
        data = states(program, low, high).data
        dual = numbers(f"{name}.dual", leaf["dual"], data.right.shape)
        bound = lower_bound(data, dual, objective=not leaf["empty"])
        expect(not leaf["empty"] or bound > 0.0, f"{name}.empty", bound, "a proof that the leaf has no dispatch")
        bounds.append(np.inf if leaf["empty"] else bound)
    _expect_cover([leaf["fixed"] for leaf in leaves])
    return float(min(bounds))


def _expect_cover(leaves: list[list[int]]) -> None:
    """Two leaves that differ in a fixed block share no pattern; disjoint leaves of total share 1 cover them all."""
    fixed = np.array(leaves)
    for index in range(len(fixed)):
        apart = ((fixed[index] != FREE) & (fixed[index + 1 :] != FREE) & (fixed[index] != fixed[index + 1 :])).any(
            axis=1
        )
        expect(bool(apart.all()), f"leaves[{index}].fixed", leaves[index], "a leaf that overlaps no other")
    total = sum(Fraction(1, 2 ** int((each != FREE).sum())) for each in fixed)
    expect(total == 1, "share of all patterns in the leaves", float(total), "1")
