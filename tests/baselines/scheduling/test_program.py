"""The day's linear program: its numbers by hand, its bound below every plan, groups as relaxations of their cars."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.duality import linear_bound
from baselines.scheduling.day import Day, Protection
from baselines.scheduling.linear import optimise
from baselines.scheduling.plan import Plan, energies, measure
from baselines.scheduling.program import OBJECTIVES, Task, build, energy_floor, groups_of
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import gas_scale

NO_LINES, NO_STEPS = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
LOT = Instance(
    steps=4,
    step_h=1.0,
    aggregator_bus=(1, 2),
    turbine_bus=(2,),
    line_from=(0, 1),
    line_to=(1, 2),
    line_limit_kw=(120.0, 70.0),
    load_peak_kw=100.0,
    load_shares=(0.6, 0.4),
    cars=6,
    gas_max_kw=150.0,
    gas_ramp_kw=60.0,
    gas_segments=5,
    turbine_kw=60.0,
    calibrated_usd=50.0,
)
EVERY_LINE = np.array([(line, step) for line in range(2) for step in range(4)])


def day_of(seed, lot=LOT):
    """Cars 0, 2, 4 (aggregator 0) and 1, 3 (aggregator 1) in two windows; car 5 never comes."""
    rng = np.random.default_rng(seed)
    load = rng.uniform(15.0, 40.0, (lot.steps, 2))
    wind = rng.uniform(0.0, 30.0, (lot.steps, 1))
    arrive, depart = np.array([0, 0, 0, 1, 0, 2]), np.array([4, 4, 4, 3, 4, 2])
    least, most = lot.energy_range_kwh
    start = rng.uniform(least, most, 6)
    reach = np.minimum(most, start + lot.efficiency * lot.charger_kw * lot.step_h * (depart - arrive))
    target = rng.uniform(least, reach)
    return Day(load, 0.1 * load, wind, 0.2 * wind, arrive, depart, start, target, 60.0)


def task_of(seed, objective="cost", soft=True, protection=None, lot=LOT):
    return Task(day_of(seed, lot), protection or Protection(), objective, soft, gas_scale(lot))


def bound_of(program, dual):
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    return -linear_bound(*parts, dual)


def solved(program):
    highs = LinearProgram(program.cost, program.lower, program.upper)
    highs.add_matrix(program.low, program.up, program.matrix)
    return highs.solve()


def random_plan(rng, day, lot=LOT):
    """A plan that keeps every limit of generator and cars: any soft plan."""
    gas, cars = np.zeros(lot.steps), np.zeros((lot.steps, lot.cars))
    before, energy = day.gas_kw, day.start_kwh.copy()
    least, most = lot.energy_range_kwh
    for t in range(lot.steps):
        low, high = max(0.0, before - lot.gas_ramp_kw), min(lot.gas_max_kw, before + lot.gas_ramp_kw)
        before = gas[t] = rng.uniform(low, high)
        for j in np.flatnonzero((day.arrive <= t) & (t < day.depart)):
            full = lot.charger_kw * lot.step_h
            later = day.target_kwh[j] - (day.depart[j] - t - 1) * lot.efficiency * full
            bottom = max(least, later, energy[j] - full / lot.efficiency)
            goal = rng.uniform(bottom, max(bottom, min(most, energy[j] + lot.efficiency * full)))
            change = (goal - energy[j]) / lot.step_h
            cars[t, j] = change / lot.efficiency if change > 0.0 else change * lot.efficiency
            energy[j] = goal
    return Plan(gas, cars)


def test_cars_of_one_window_form_a_group_and_those_that_never_come_none():
    day = day_of(0)
    assert groups_of(LOT, day, by_aggregator=False).tolist() == [0, 0, 0, 1, 0, -1]
    assert groups_of(LOT, day, by_aggregator=True).tolist() == [0, 1, 0, 2, 0, -1]
    away = day._replace(depart=day.arrive)
    assert groups_of(LOT, away, by_aggregator=True).tolist() == [-1] * 6


def test_the_least_energy_is_that_from_which_full_charging_just_reaches_the_target():
    lot = LOT.replace(efficiency=0.5, charger_kw=4.0, battery_kwh=20.0, soc_min=0.1)  # gains 2 kWh a step, least 2 kWh
    floor = energy_floor(lot, np.array([9.0]), np.array([4]), np.arange(4)[:, None])
    assert floor[:, 0].tolist() == [3.0, 5.0, 7.0, 9.0]
    assert energy_floor(lot, np.array([1.0]), np.array([4]), 3).tolist() == [2.0]


@given(st.integers(0, 10**6), st.sampled_from(OBJECTIVES), st.floats(-8.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_any_multipliers_give_a_bound_below_every_plan(seed, objective, size):
    rng = np.random.default_rng(seed)
    task = task_of(seed, objective)
    program = build(LOT, task, groups_of(LOT, task.day, by_aggregator=True), EVERY_LINE, NO_STEPS)
    best = solved(program)
    noise = 10.0**size * rng.normal(size=len(program.low)) * (rng.random(len(program.low)) < rng.random())
    plan = measure(LOT, task, random_plan(rng, task.day))
    assert max(plan.off.values()) <= 1e-9
    for dual in (noise, best.row_dual, best.row_dual + noise, -best.row_dual):
        bound = bound_of(program, dual)
        assert bound <= plan.value + 1e-9 * (1.0 + abs(plan.value))
        assert bound <= -best.objective + 1e-7 * (1.0 + abs(best.objective))


def test_the_duals_of_the_solver_close_the_gap_and_disturbed_ones_do_not():
    task = task_of(3)
    program = build(LOT, task, groups_of(LOT, task.day, by_aggregator=True), EVERY_LINE, NO_STEPS)
    best = solved(program)
    tight = bound_of(program, best.row_dual)
    assert tight == pytest.approx(-best.objective, rel=1e-9)
    assert bound_of(program, 1.01 * best.row_dual) < tight - 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("soft", [True, False])
def test_every_plan_is_a_point_of_the_program_of_the_same_value(objective, soft):
    """The columns are filled by hand from a plan: rows hold, and the objective is the plan's own."""
    rng = np.random.default_rng(7)
    kept = 0
    for seed in range(60):
        task = task_of(seed, objective, soft)
        day = task.day
        label = np.array([0, 1, 2, 3, 4, -1])
        program = build(LOT, task, label, EVERY_LINE, NO_STEPS)
        plan = random_plan(rng, day)
        found = measure(LOT, task, plan)
        if not soft and max(found.off["balance"], found.off["line"]) > 0.0:
            continue
        kept += 1
        point = np.zeros(len(program.cost))
        piece = LOT.gas_max_kw / LOT.gas_segments
        point[program.gas] = np.clip(plan.gas_kw[:, None] - piece * np.arange(LOT.gas_segments), 0.0, piece)
        point[program.wind] = found.wind_kw
        if soft:
            point[program.missing] = found.lacking_kw
            over = np.maximum(np.abs(found.flow_kw) - np.array(LOT.line_limit_kw), 0.0)
            first = int(max(program.energy[-1].max(), program.missing.max())) + 1
            point[first : first + 8] = over.T.ravel()
        for car in range(5):
            span = slice(day.arrive[car], day.depart[car])
            point[program.charge[car]] = np.maximum(plan.car_kw[span, car], 0.0)
            point[program.discharge[car]] = np.maximum(-plan.car_kw[span, car], 0.0)
            point[program.energy[car]] = energies(LOT, day, plan.car_kw)[1:][span, car]
        if program.peak >= 0:
            point[program.peak] = found.value
        rows = program.matrix @ point
        assert (rows >= program.low - 1e-9).all() and (rows <= program.up + 1e-9).all()
        assert (point >= program.lower - 1e-9).all() and (point <= program.upper + 1e-9).all()
        assert -program.cost @ point == pytest.approx(found.value, rel=1e-12, abs=1e-12)
        assert -program.money @ point == pytest.approx(found.cost_usd, rel=1e-12)
    assert kept >= 5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_groups_bound_their_cars_from_below_and_finer_groups_are_never_looser(objective):
    differ = 0
    for seed in range(25):
        lot = LOT.replace(charger_kw=3.0)
        task = task_of(seed, objective, soft=False, lot=lot)
        found = []
        for label in (groups_of(lot, task.day, by_aggregator=False), np.array([0, 1, 2, 3, 4, -1])):
            program = build(lot, task, label, NO_LINES, np.arange(lot.steps))
            try:
                found.append(-solved(program).objective)
            except SolverError:
                found.append(np.inf)
        assert found[0] <= found[1] + 1e-7
        differ += found[0] < found[1] - 1e-6
    assert objective in ("deviation", "renewable") or differ > 0


def test_rows_of_lines_and_reserves_can_only_raise_the_optimum():
    lot = LOT.replace(line_limit_kw=(60.0, 30.0), gas_max_kw=90.0, reserve_share=0.6)
    raised = 0
    for seed in range(20):
        task = task_of(seed, soft=False, lot=lot)
        label = groups_of(lot, task.day, by_aggregator=True)
        free = -solved(build(lot, task, label, NO_LINES, NO_STEPS)).objective
        try:
            bound = -solved(build(lot, task, label, EVERY_LINE, np.arange(4))).objective
        except SolverError:
            bound = np.inf
        assert bound >= free - 1e-9
        raised += free + 1e-6 < bound < np.inf
    assert raised > 0


def test_line_rows_want_groups_within_one_aggregator():
    task = task_of(0)
    with pytest.raises(InvalidInputError, match="cars of one aggregator each, where lines matter"):
        build(LOT, task, groups_of(LOT, task.day, by_aggregator=False), EVERY_LINE[:1], NO_STEPS)


def test_every_column_has_finite_bounds_whatever_the_task():
    for objective in OBJECTIVES:
        for soft in (True, False):
            task = task_of(1, objective, soft, Protection("box", 0.0, True))
            program = build(LOT, task, groups_of(LOT, task.day, by_aggregator=True), EVERY_LINE, np.arange(4))
            assert np.isfinite(program.lower).all() and np.isfinite(program.upper).all()
            assert (program.lower <= program.upper).all()
            assert np.isfinite(program.matrix.data).all()


@pytest.mark.parametrize("kind", ["none", "box", "ellipsoid"])
def test_where_missing_energy_has_a_price_a_plan_always_exists(kind):
    """Even far beyond every limit, protected against much: this is how the reason for no plan is found."""
    lot = LOT.replace(gas_max_kw=1.0, line_limit_kw=(0.0, 0.0), gas_ramp_kw=0.0, cars=0)
    day = day_of(0)._replace(load_half_kw=np.full((4, 2), 500.0), gas_kw=0.5)
    day = day._replace(**{name: getattr(day, name)[:0] for name in ("arrive", "depart", "start_kwh", "target_kwh")})
    found = optimise(lot, Task(day, Protection(kind, 5.0, True), "cost", True, 1.0)).measured
    assert np.abs(found.lacking_kw).max() > 10.0
