"""Robust linear energy scheduling (RLES): the best plan of a day for the worst of an uncertainty set, certified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, pack
from baselines.duality import linear_bound
from baselines.scheduling.day import Day, Protection, check_day
from baselines.scheduling.plan import FEASIBLE, Measured, Plan, measure
from baselines.scheduling.program import OBJECTIVES, Program, Task, build, energy_floor, groups_of
from baselines.scheduling.split_kernel import split_energy
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import gas_scale

__all__ = ["Answer", "Solution", "certify", "optimise", "solve", "split"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CLOSED = 1e-7  # relative gap at which a plan for groups is a plan for cars
_ROUNDS = 60
_GROUPED = 300  # cars from which it pays to begin with groups


class Answer(NamedTuple):
    """An optimised day.

    Attributes:
        task: what was asked.
        plan: powers of the generator and of every car.
        measured: what the plan does.
        bound: proven lower limit on the value of any plan.
        label, lines, reserves, dual: groups and rows of the program that proves it, and its multipliers.
    """

    task: Task
    plan: Plan
    measured: Measured
    bound: float
    label: Ints
    lines: Ints
    reserves: Ints
    dual: Floats


class Solution(NamedTuple):
    """A certified plan.

    Attributes:
        plan: powers of the generator and of every car.
        value: of the objective, to be minimised: cost [$], deviation [kW], energy of the generator [kWh], or peak [kW].
        certificate: plain data for ``baselines.certificate.check``.
    """

    plan: Plan
    value: float
    certificate: dict[str, Any]


def solve(
    instance: Instance,
    day: Day,
    protection: Protection | None = None,
    objective: str = "cost",
    *,
    soft: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Solution:
    """Find the best plan of a day.

    The objective is that of the means; balance and lines hold for every deviation in the set (unless ``soft``).
    Among plans that are equally good for another objective than cost, the cheapest is taken.

    Args:
        instance: the problem.
        day: means, half-widths, cars; see day.known_day, known_wind_day, ahead_day.
        protection: the set; None protects against nothing.
        objective: "cost", "deviation", "renewable" or "peak"; see program.Task.
        soft: price missing energy and overload as the environment does, instead of forbidding them.
        say: receives a line per round.

    Raises:
        InvalidInputError: for bad data, and if no plan exists, naming the step and what cannot be kept.
        SolverError: if HiGHS proves nothing, or if no plan is found that keeps a line's limit though the program has a
            solution: it may use wind beyond need or burn energy in cars to relieve the line, what no plan can.
    """
    task = _task(instance, day, protection, objective, soft)
    answer = optimise(instance, task, say)
    return Solution(answer.plan, answer.measured.value, certify(instance, answer))


def _task(instance: Instance, day: Day, protection: Protection | None, objective: str, soft: bool) -> Task:
    require(objective in OBJECTIVES, "objective", objective, ", ".join(OBJECTIVES))
    chosen = Protection() if protection is None else protection
    chosen.check(instance)
    require(isinstance(soft, bool), "soft", soft, "True or False")
    require(not soft or chosen.kind == "none", "protection", chosen.kind, "none, where missing energy has a price")
    return Task(check_day(instance, day), chosen, objective, soft, gas_scale(instance))


def optimise(instance: Instance, task: Task, say: Callable[[str], None] = lambda text: None) -> Answer:
    """Solve with groups of cars and no line or reserve rows; refine where the plan does not keep what it must.

    Args:
        instance: the problem.
        task: checked data.
        say: receives a line per round.
    """
    label = groups_of(instance, task.day, by_aggregator=False)
    if instance.cars < _GROUPED:
        label = _finer(label, np.zeros(0, np.int64))
    lines, reserves = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    for number in range(_ROUNDS):
        program = build(instance, task, label, lines, reserves)
        try:
            point, dual, bound = _solved(program, task)
        except SolverError as error:
            if task.soft or "nfeasible" not in str(error):  # soft: a plan always exists
                raise
            raise InvalidInputError(_why(instance, task, label, lines, reserves)) from None
        plan, failed = split(instance, task.day, label, program, point)
        found = measure(instance, task, plan)
        answer = Answer(task, plan, found, bound, label, lines, reserves, dual)
        new_lines, new_reserves = _missing_rows(instance, task, found, lines, reserves)
        gap = found.value - bound
        say(f"round {number}: {label.max(initial=-1) + 1} groups, gap {gap:.2e}, {len(new_lines)} lines")
        if not (len(new_lines) or len(new_reserves)):
            closed = gap <= _CLOSED * max(abs(bound), 1.0) and max(found.off.values()) <= FEASIBLE
            if closed:
                break
            if label.max(initial=-1) + 1 < (label >= 0).sum():
                label = _finer(label, failed)
            elif (task.soft or found.off["line"] > FEASIBLE) and 0 < len(lines) < found.flow_kw.size:
                new_lines = _other_lines(instance, lines)  # the program's point, unlike the plan, may break them
            else:
                break
        elif len(new_lines) and not len(lines):
            label = _by_aggregator(instance, label)
        lines = np.concatenate([lines, new_lines])
        reserves = np.concatenate([reserves, new_reserves])
    if not task.soft and found.off["line"] > FEASIBLE:
        answer = _without_spill(instance, task, answer)
        found = answer.measured
    worst = max(found.off, key=lambda name: found.off[name])
    if found.off[worst] > FEASIBLE:
        raise SolverError(
            f"limit of {worst} exceeded by {found.off[worst]:.2e} in every plan found; allowed: {FEASIBLE:g}"
        )
    return answer


def _without_spill(instance: Instance, task: Task, answer: Answer) -> Answer:
    """Another plan where the best of the program breaks a line, if there is one; the bound stays what it is.

    A linear program may use wind beyond need, to relieve a line, and spill as much of the generator's power; in steps
    whose line is broken that is forbidden here.
    """
    program = build(instance, task, answer.label, answer.lines, answer.reserves)
    up, found = program.up.copy(), answer.measured
    for _ in range(instance.steps):
        over = np.abs(found.flow_kw) + found.spare_kw - np.array(instance.line_limit_kw)
        rows = program.means[(over > FEASIBLE).any(axis=1)]
        if (up[rows] == program.low[rows]).all():
            break
        up[rows] = program.low[rows]
        try:
            point = _solved(program._replace(up=up), task)[0]
        except SolverError:
            break
        plan = split(instance, task.day, answer.label, program, point)[0]
        found = measure(instance, task, plan)
        answer = answer._replace(plan=plan, measured=found)
    return answer


def _solved(program: Program, task: Task) -> tuple[Floats, Floats, float]:
    """Point and duals, and the bound on the value to be minimised."""
    highs = LinearProgram(program.cost, program.lower, program.upper)
    highs.add_matrix(program.low, program.up, program.matrix)
    first = highs.solve()
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    dual = rounded(first.row_dual)
    bound = -linear_bound(*parts, dual)
    if task.objective == "cost":
        return first.point, dual, bound
    used = np.flatnonzero(program.cost)
    slack = 2e-8 * max(abs(first.objective), 1.0)
    highs.add_rows([first.objective - slack], [np.inf], [used], [program.cost[used]])
    every = np.arange(len(program.cost))
    highs.change_columns(every, program.money, program.lower, program.upper)
    return highs.solve().point, dual, bound


def rounded(dual: Floats) -> Floats:
    """Multipliers with fewer digits, 32 binary ones of the largest: as good for a bound, and smaller in a file."""
    unit = np.ldexp(1.0, max(int(np.frexp(np.abs(dual).max(initial=0.0))[1]), -900) - 32)
    return np.asarray(np.round(dual / unit) * unit + 0.0)


def split(instance: Instance, day: Day, label: Ints, program: Program, point: Floats) -> tuple[Plan, Ints]:
    """A plan for every car from the energies of groups, and the groups for which it is none.

    Args:
        instance: the problem.
        day: the day.
        label: (cars,) groups.
        program: with columns by group.
        point: (columns,) its solution.
    """
    lot = instance
    gas = np.clip(point[program.gas].sum(axis=1), 0.0, lot.gas_max_kw)
    cars = np.zeros((lot.steps, lot.cars))
    up, down = lot.efficiency * lot.charger_kw * lot.step_h, lot.charger_kw * lot.step_h / lot.efficiency
    failed = []
    for group, columns in enumerate(program.energy):
        members = np.flatnonzero(label == group)
        steps = np.arange(day.arrive[members[0]], day.depart[members[0]])
        floor = energy_floor(lot, day.target_kwh[members], day.depart[members], steps[:, None])
        start = day.start_kwh[members]
        energy, off = split_energy(point[columns], start, floor, *lot.energy_range_kwh, up, down)
        if off > 1e-7 * len(members):
            failed.append(group)
        change = np.diff(np.concatenate([start[None], energy]), axis=0) / lot.step_h
        power = np.where(change > 0.0, change / lot.efficiency, change * lot.efficiency)
        cars[steps[:, None], members] = np.clip(power, -lot.charger_kw, lot.charger_kw)
    return Plan(gas, cars), np.array(failed, np.int64)


def _missing_rows(instance: Instance, task: Task, found: Measured, lines: Ints, reserves: Ints) -> tuple[Ints, Ints]:
    """Lines and reserves that the plan exceeds and the program does not know of."""
    over = np.abs(found.flow_kw) + found.spare_kw - np.array(instance.line_limit_kw)
    pairs = np.argwhere(over > FEASIBLE)[:, ::-1].astype(np.int64)
    known = {tuple(pair) for pair in lines.tolist()}
    fresh = [pair for pair in pairs.tolist() if tuple(pair) not in known]
    steps = np.flatnonzero(found.short_kw > FEASIBLE) if not task.soft else np.zeros(0, np.int64)
    return np.array(fresh, np.int64).reshape(-1, 2), np.setdiff1d(steps, reserves)


def _other_lines(instance: Instance, lines: Ints) -> Ints:
    """Pairs (line, step) that are no rows yet."""
    fresh = np.ones((len(instance.line_limit_kw), instance.steps), np.bool_)
    fresh[lines[:, 0], lines[:, 1]] = False
    return np.argwhere(fresh)


def _by_aggregator(instance: Instance, label: Ints) -> Ints:
    there = label >= 0
    fine = np.full(len(label), -1)
    if there.any():
        pairs = np.stack([label, instance.owner], axis=1)[there]
        fine[there] = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
    return fine


def _finer(label: Ints, failed: Ints) -> Ints:
    """Single cars instead of the groups that failed; of all groups if none is known to have."""
    single = np.isin(label, failed) if len(failed) else label >= 0
    key = np.where(single, label.max(initial=0) + 1 + np.arange(len(label)), label)
    there = label >= 0
    fine = np.full(len(label), -1)
    fine[there] = np.unique(key[there], return_inverse=True)[1].ravel()
    return fine


def _why(instance: Instance, task: Task, label: Ints, lines: Ints, reserves: Ints) -> str:
    """Which limit leaves no plan: found by pricing what is missing, then by leaving reserves away one by one."""
    priced = instance.replace(emergency_usd_per_kwh=1e5, overload_usd_per_kwh=1e5)
    found = optimise(priced, task._replace(soft=True, objective="cost")).measured
    step = int(found.lacking_kw.argmax())
    if found.lacking_kw[step] > FEASIBLE:
        return f"balance of step {step} = {found.lacking_kw[step]:.3f} kW missing whatever is done; allowed: none"
    over = np.abs(found.flow_kw) + found.spare_kw - np.array(instance.line_limit_kw)
    if over.max(initial=0.0) > FEASIBLE:
        at, line = np.unravel_index(int(over.argmax()), over.shape)
        return f"line {line} in step {at} = {over[at, line]:.3f} kW above its limit whatever is done; allowed: none"
    for count in range(1, len(reserves) + 1):
        program = build(instance, task, label, lines[:0], np.sort(reserves)[:count])
        highs = LinearProgram(program.cost, program.lower, program.upper)
        highs.add_matrix(program.low, program.up, program.matrix)
        try:
            highs.solve()
        except SolverError:
            step = int(np.sort(reserves)[count - 1])
            need = instance.reserve_share * float(task.day.load_kw[step].sum())
            return f"spinning reserve of step {step} = {need:.3f} kW out of reach; allowed: what a plan can keep ready"
    return "limits of the day = kept together by no plan, each alone by some; allowed: limits that a plan keeps"


def certify(instance: Instance, answer: Answer) -> dict[str, Any]:
    """The certificate of an answer: data, plan and multipliers."""
    day = answer.task.day
    arrays = {name: pack(np.asarray(value)) for name, value in day._asdict().items() if name != "gas_kw"}
    return {
        "format": FORMAT,
        "problem": "scheduling",
        "kind": "schedule",
        "instance": instance.to_dict(),
        "instance_sha256": instance.hash,
        "day": arrays | {"gas_kw": day.gas_kw},
        "protection": answer.task.protection._asdict(),
        "objective": answer.task.objective,
        "soft": answer.task.soft,
        "plan": {"gas_kw": pack(answer.plan.gas_kw), "car_kw": pack(answer.plan.car_kw)},
        "groups": pack(answer.label),
        "lines": pack(answer.lines),
        "reserves": pack(answer.reserves),
        "dual": pack(answer.dual),
        "value": answer.measured.value,
        "cost_usd": answer.measured.cost_usd,
        "bound": answer.bound,
    }
