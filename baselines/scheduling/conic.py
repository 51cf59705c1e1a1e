"""Certified dispatch of a day on a radial feeder: branch flow with second-order cones, robust to a set of loads.

The relaxation is convex, so its dual bounds the cost of every dispatch, physical or not. What is published is the
solver's point only if its cones hold with equality and the exact power flow of its dispatch has the same losses and
voltages: then the dispatch is a physical one, and the gap between its value and the bound is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, pack
from baselines.scheduling.conic_bound import lower_bound, violation
from baselines.scheduling.conic_point import Plan, complete, flow_of, plan_of, replay, stress, tightness
from baselines.scheduling.conic_program import DayProgram, blocks_of, build
from baselines.scheduling.feeder_day import FeederDay
from baselines.solve import ConicProgram, SolverError
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = [
    "LIMITS",
    "POINT",
    "Relaxed",
    "Solution",
    "dispatch",
    "faults",
    "figures",
    "header",
    "infeasible",
    "published",
    "relative_gap",
    "relax",
    "relax_surely",
    "solve",
    "states",
]

Floats = NDArray[np.float64]

# what a certificate stores of a point; the envelope follows from the dispatch
POINT = (
    "gas_p",
    "gas_q",
    "gas_on",
    "gas_start",
    "wind_p",
    "wind_q",
    "charge",
    "discharge",
    "energy",
    "ev_q",
    "ev_reserve",
    "car_charge",
    "car_discharge",
    "car_energy",
    "car_reserve",
    "source_p",
    "p",
    "q",
    "l",
    "v",
)


# what a published point may differ from perfection by
LIMITS = {
    "violation_pu": 1e-5,
    "tightness_pu": 1e-5,
    "losses_relative": 1e-4,
    "voltage_pu": 1e-5,
    "stress_violation_pu": 1e-5,
}


class Solution(NamedTuple):
    """Certified dispatch.

    Attributes:
        plan: set-points of all devices.
        value: cost [$] or losses [kWh] of the day, whichever is the objective.
        certificate: JSON data, see baselines.certificate.check.
    """

    plan: Plan
    value: float
    certificate: dict[str, Any]


class Relaxed(NamedTuple):
    """Answer of the solver with the generator's states in bounds, and what it proves.

    Attributes:
        point: with the least envelope; None if there is none.
        dual: row multipliers.
        bound: proven lower limit on the objective; infinite where ``dual`` proves that no point is feasible.
    """

    point: Floats | None
    dual: Floats
    bound: float


def states(program: DayProgram, low: Floats, high: Floats) -> DayProgram:
    """The program with the generator's states between (blocks,) low and high."""
    lower, upper = program.data.lower.copy(), program.data.upper.copy()
    at = program.layout.at("gas_on")
    lower[at], upper[at] = low, high
    return program._replace(data=program.data._replace(lower=lower, upper=upper))


def relax(program: DayProgram, attempt: int = 0) -> Relaxed:
    """Solve a program.

    Raises:
        SolverError: if the solver fails, or says "infeasible" without a proof.
    """
    data = program.data
    solver = ConicProgram(
        data.cost, data.quadratic, data.matrix, data.right, data.zeros, data.positives, list(data.cones)
    )
    answer = solver.solve(data.lower, data.upper, data.given, attempt)
    if "Infeasible" in answer.status:
        if lower_bound(data, answer.dual, objective=False) <= 0.0:
            raise SolverError(f"status of Clarabel = {answer.status}, unproven; allowed: a proof or a point")
        return Relaxed(None, answer.dual, np.inf)
    inside = np.clip(answer.point, data.lower, data.upper)
    return Relaxed(complete(program, inside), answer.dual, lower_bound(data, answer.dual))


def relax_surely(program: DayProgram) -> Relaxed:
    """Solve a program by the first attempt that does not fail.

    Raises:
        SolverError: if all fail.
    """
    last = len(ConicProgram.ATTEMPTS) - 1
    for attempt in range(last):
        with suppress(SolverError):
            return relax(program, attempt)
    return relax(program, last)


def dispatch(program: DayProgram, gap: float) -> tuple[Relaxed, dict[str, float]]:
    """Solve a program with fixed states until its point is physical and its gap proven; the figures beside it.

    Raises:
        SolverError: if no attempt is exact enough, or the relaxation is not tight.
    """
    reason = ""
    for attempt in range(len(ConicProgram.ATTEMPTS)):
        try:
            answer = relax(program, attempt)
        except SolverError as error:
            reason = str(error)
            continue
        if answer.point is None:
            return answer, {}
        numbers = figures(program, answer.point)
        reached = relative_gap(numbers["value"], answer.bound)
        wrong = [*faults(numbers), *([("proven gap", reached, gap)] if not reached <= gap else [])]
        if not wrong:
            return answer, numbers
        reason = "; ".join(f"{name} = {value:.3g}; allowed: at most {most:g}" for name, value, most in wrong)
    raise SolverError(reason)


def relative_gap(value: float, bound: float) -> float:
    """Proven gap relative to 1 + |value|."""
    return (value - bound) / (1.0 + abs(value))


def figures(program: DayProgram, point: Floats) -> dict[str, float]:
    """Value, violation, tightness and replay of a completed point; for robust sets the stress test as well."""
    exact = replay(program, point)
    numbers = {
        "value": program.data.value(point),
        "violation_pu": violation(program.data, point),
        "tightness_pu": tightness(program, point),
        "losses_relative": exact.losses_relative,
        "voltage_pu": exact.voltage_pu,
    }
    if program.day.robust != "none":
        lowest, worst = stress(program.day, plan_of(program, point))
        numbers |= {"stress_lowest_pu": lowest, "stress_violation_pu": worst}
    return numbers


def faults(numbers: dict[str, float]) -> list[tuple[str, float, float]]:
    """Figures that are out of their limits: name, value, limit."""
    return [
        (name, numbers[name], most) for name, most in LIMITS.items() if name in numbers and not numbers[name] <= most
    ]


def header(day: FeederDay, kind: str) -> dict[str, Any]:
    """Fields that the certificates of feeder days share."""
    return {
        "format": FORMAT,
        "problem": "scheduling",
        "kind": kind,
        "instance_sha256": day.hash,
        "instance": day.to_dict(),
    }


def published(program: DayProgram, point: Floats, numbers: dict[str, float]) -> dict[str, Any]:
    """A point and its figures as certificate fields."""
    return {"point": {name: pack(program.layout.of(point, name)) for name in POINT}, "figures": numbers}


def infeasible(day: FeederDay) -> InvalidInputError:
    """The error for a day without any dispatch; it names the bus whose voltage is worst where voltages are free."""
    where = _worst_voltage(day)
    return InvalidInputError(
        f"day = feeder {day.feeder}, robust {day.robust}{where}; allowed: limits that some dispatch obeys (proven "
        "infeasible)"
    )


def _worst_voltage(day: FeederDay) -> str:
    """Lowest voltage of the dispatch with the least losses and no limits on voltages and lines, if it is too low."""
    free = day.replace(objective="losses", robust="none", v_min_pu=0.3, v_max_pu=3.0, branch_kva=())
    program = build(free)
    on = np.ones(blocks_of(free).shape[1])
    try:
        answer = relax_surely(states(program, on, on))
        if answer.point is None:
            return ""
        voltage = flow_of(free, plan_of(program, answer.point)).voltage_pu
    except (SolverError, InvalidInputError):
        return ""
    step, bus = np.unravel_index(int(voltage.argmin()), voltage.shape)
    if voltage[step, bus] >= day.v_min_pu:
        return ""
    return f", bus {bus} in step {step} at {voltage[step, bus]:.4f} pu when losses are least"


def pattern(day: FeederDay, on: Sequence[bool] | None) -> Floats:
    """(blocks,) states of the generator; None: on all day."""
    blocks = blocks_of(day).shape[1]
    if on is None:
        return np.ones(blocks)
    require(len(on) == blocks, "length of on", len(on), f"{blocks}, one state for each block")
    for block, state in enumerate(on):
        require(isinstance(state, (bool, np.bool_)), f"on[{block}]", state, "true or false")
    return np.array(on, np.float64)


def solve(day: FeederDay, *, on: Sequence[bool] | None = None, gap: float = 1e-5) -> Solution:
    """Best dispatch of a day for given states of the generator, with its proof.

    Args:
        day: feeder, devices, prices, limits, set of loads.
        on: state of the generator in every block; None: on all day.
        gap: largest proven gap that is accepted, relative to 1 + |value|.

    Raises:
        InvalidInputError: for an argument out of range, or a day whose limits no dispatch obeys (proven).
        SolverError: if the answer is inexact, not physical, or its proven gap larger than ``gap``.
    """
    number("gap", gap, 0.0, 1.0, open_low=True)
    chosen = pattern(day, on)
    program = states(build(day), chosen, chosen)
    answer, numbers = dispatch(program, gap)
    if answer.point is None:
        raise infeasible(day)
    data = header(day, "feeder dispatch") | published(program, answer.point, numbers)
    value = numbers["value"]
    data |= {"dual": pack(answer.dual), "bound": answer.bound, "gap": relative_gap(value, answer.bound)}
    return Solution(plan_of(program, answer.point), value, data)
