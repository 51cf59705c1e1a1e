"""Adjustable rules: no deviation of the set breaks a limit, and no rule of the kind is cheaper."""

import itertools
from functools import lru_cache

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.certificate import check, unpack
from baselines.duality import linear_bound
from baselines.scheduling import linear
from baselines.scheduling.affine import affine_program, alike, rule_of, solve
from baselines.scheduling.day import Day, Protection, ahead_day, known_wind_day
from baselines.scheduling.program import Task
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import gas_scale, sample

TOLERANCE = 1e-6  # kW and kWh
HOURLY = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=12)
BOTH = Protection("budget", 4.0, wind=True)
FREE = {"line_limit_kw": (1e6,) * 6, "reserve_share": 0.0}  # neither lines nor reserve bind


@lru_cache
def ahead(lot=HOURLY, seed=1):
    return ahead_day(Model(lot), sample(lot, "generator", 1, seed), 0)


@lru_cache
def solved(lot, protection, adjust=True, seed=1):
    return solve(lot, ahead(lot, seed), protection, adjust)


def task_of(lot, day, protection):
    return Task(day, protection, "cost", False, gas_scale(lot))


def excesses(lot, day, protection, solution, plus, minus):
    """Largest excess over every limit when deficits ``plus`` and surpluses ``minus`` (k, steps) happen [kW, kWh].

    Cars are followed one by one, first with the charging and discharging power of the rule, then, under "net ...", with
    the one power that moves the battery as much.
    """
    program = affine_program(lot, task_of(lot, day, protection), solution.certificate["adjust"])
    point, label = unpack(solution.certificate["point"]), alike(lot, day)
    before = [np.concatenate([0.0 * one[:, :1], one[:, :-1]], axis=1) for one in (plus, minus)]
    answer = np.concatenate([np.zeros((1, 2)), point[program.gas[1:]]])
    gas = point[program.base.gas].sum(axis=1) + answer[:, 0] * before[0] + answer[:, 1] * before[1]
    jumps = np.diff(np.concatenate([np.full((len(gas), 1), day.gas_kw), gas], axis=1), axis=1)
    worst = {
        "generator": max((-gas).max(), (gas - lot.gas_max_kw).max()),
        "reserve": (gas + lot.reserve_share * day.load_kw.sum(axis=1) - lot.gas_max_kw).max(),
        "ramp": np.abs(jumps).max() - lot.gas_ramp_kw,
    }
    surplus = gas + day.wind_kw.sum(axis=1) - day.load_kw.sum(axis=1) - plus + minus
    net_surplus = surplus.copy()
    least, most = lot.energy_range_kwh
    for car in np.flatnonzero(label >= 0):
        group = int(label[car])
        members = (label == group).sum()
        at = np.arange(day.arrive[car], day.depart[car])
        now, then = point[program.now[group]], np.zeros((len(at), 4))
        then[1:] = point[program.then[group][1:]]
        powers = []
        for kind, column in ((0, program.base.charge[group]), (1, program.base.discharge[group])):
            power = point[column] + now[:, kind] * plus[:, at] + now[:, 2 + kind] * minus[:, at]
            power += then[:, kind] * before[0][:, at] * (at > at[0]) + then[:, 2 + kind] * before[1][:, at]
            powers.append(power / members)
        charge, discharge = powers
        change = lot.step_h * (lot.efficiency * charge - discharge / lot.efficiency)
        energy = day.start_kwh[car] + np.cumsum(change, axis=1)
        net = np.where(change > 0.0, change / lot.efficiency, change * lot.efficiency) / lot.step_h
        surplus[:, at] -= charge - discharge
        net_surplus[:, at] -= net
        found = {
            "charge": max((-charge).max(), (charge - lot.charger_kw).max()),
            "discharge": max((-discharge).max(), (discharge - lot.charger_kw).max()),
            "energy": max((least - energy).max(), (energy - most).max()),
            "target": (day.target_kwh[car] - energy[:, -1]).max(),
            "net power": np.abs(net).max() - lot.charger_kw,
        }
        worst = {name: max(worst.get(name, -np.inf), found.get(name, -np.inf)) for name in worst | found}
    return worst | {"balance": -surplus.min(), "net balance": -net_surplus.min()}


def sequences(reach, seed=0, random=300):
    """Deficits and surpluses (k, steps): the extreme ones of a kind, random ones, and random corners."""
    rng = np.random.default_rng(seed)
    steps = np.arange(len(reach))
    signs = [0 * steps + 1, 0 * steps - 1, (-1) ** steps, (-1) ** (steps + 1), 0 * steps]
    signs += [np.where(steps == t, s, 0) for t in steps for s in (1, -1)]
    signs = np.concatenate([signs, rng.integers(-1, 2, (random, len(reach)))])
    plus, minus = np.maximum(signs, 0) * reach, np.maximum(-signs, 0) * reach
    shares = rng.dirichlet([0.5, 0.5, 0.5], (random, len(reach)))  # both at once, and less than all
    half = np.full((1, len(reach)), 0.5) * reach
    return (
        np.concatenate([plus, shares[..., 0] * reach, half, 0.9 * half]),
        np.concatenate([minus, shares[..., 1] * reach, half, 1.1 * half]),
    )


def same_cars(day, kinds):
    """The day with a fleet of few different cars."""
    pick = np.arange(len(day.arrive)) % kinds
    parts = ("arrive", "depart", "start_kwh", "target_kwh")
    return day._replace(**{name: getattr(day, name)[pick] for name in parts})


@pytest.mark.parametrize(
    "protection",
    [
        BOTH,
        Protection("box", 0.0),
        Protection("budget", 2.5),
        Protection("ellipsoid", 1.3, wind=True),
        Protection("box-ellipsoid", 1.0),
    ],
)
def test_no_deviation_of_the_set_breaks_a_limit(protection):
    solution = solved(HOURLY, protection)
    assert np.abs(solution.plan.fleet_answer).max() > 0.1 and np.abs(solution.plan.gas_answer).max() > 0.1
    for name, excess in excesses(HOURLY, ahead(), protection, solution, *sequences(solution.plan.reach_kw)).items():
        assert excess <= TOLERANCE, (name, excess)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), adjust=st.booleans())
def test_no_deviation_breaks_a_limit_on_random_small_days(seed, adjust):
    lot, day, protection = small(seed)
    try:
        solution = solve(lot, day, protection, adjust)
    except InvalidInputError as error:
        assert "rule for the day" in str(error)
        return
    found = excesses(lot, day, protection, solution, *sequences(solution.plan.reach_kw, seed))
    assert max(found.values()) <= TOLERANCE, found
    assert check(solution.certificate, lot).values["gap"] <= 1e-5 * (1.0 + solution.value)


def test_more_deviation_than_the_set_has_breaks_a_limit():
    solution = solved(HOURLY, BOTH)
    plus, minus = sequences(1.2 * solution.plan.reach_kw)
    assert max(excesses(HOURLY, ahead(), BOTH, solution, plus, minus).values()) > 1.0


def test_deviations_of_loads_and_turbines_reach_no_further_than_the_rule_assumes():
    rng = np.random.default_rng(3)
    day, solution = ahead(), solved(HOURLY, BOTH)
    drawn = [BOTH.of(half).sample(rng, 200, extreme=True) for half in BOTH.halfwidth(day)]
    net = np.stack([u[:, : HOURLY.aggregators].sum(axis=1) - u[:, HOURLY.aggregators :].sum(axis=1) for u in drawn], 1)
    assert (np.abs(net) <= solution.plan.reach_kw + 1e-9).all()
    assert (np.abs(net).max(axis=0) > 0.6 * solution.plan.reach_kw).all()
    found = excesses(HOURLY, day, BOTH, solution, np.maximum(net, 0.0), np.maximum(-net, 0.0))
    assert max(found.values()) <= TOLERANCE


def test_the_rule_tells_what_all_cars_and_the_generator_do():
    day, solution = ahead(), solved(HOURLY, BOTH)
    program = affine_program(HOURLY, task_of(HOURLY, day, BOTH), True)
    point, rule = unpack(solution.certificate["point"]), solution.plan
    total = np.zeros((HOURLY.steps, 5))  # without deviations, answers now, answers to the step before
    for group in range(len(program.now)):
        first = day.arrive[np.flatnonzero(alike(HOURLY, day) == group)[0]]
        for i, now in enumerate(program.now[group]):
            c, d = point[program.base.charge[group][i]], point[program.base.discharge[group][i]]
            x = point[now]
            total[first + i, :3] += [c - d, x[0] - x[1], x[2] - x[3]]
            if i:
                y = point[program.then[group][i]]
                total[first + i, 3:] += [y[0] - y[1], y[2] - y[3]]
    assert np.allclose(total[:, 0], rule.fleet_kw) and np.allclose(total[:, 1:3], rule.fleet_answer)
    assert np.allclose(total[:, 3:], rule.fleet_return)
    spare = rule.gas_kw - rule.fleet_kw + day.wind_kw.sum(axis=1) - day.load_kw.sum(axis=1)
    assert np.allclose(rule.spare_kw, spare)
    effect = np.concatenate([np.ones(HOURLY.aggregators), -np.ones(HOURLY.turbines)])
    by_hand = [BOTH.of(half).worst(effect).value for half in BOTH.halfwidth(day)]
    assert np.allclose(rule.reach_kw, by_hand)
    assert (rule.fleet_answer[:, 0] <= 0.0).all() and (rule.fleet_answer[:, 1] >= 0.0).all()
    assert (rule.fleet_return[:, 0] >= 0.0).all() and (rule.fleet_return[:, 1] <= 0.0).all()
    assert np.array_equal(rule_of(HOURLY, task_of(HOURLY, day, BOTH), program, point).gas_kw, rule.gas_kw)


@pytest.mark.parametrize("kinds", [1, 3, 8])
@pytest.mark.parametrize(
    "protection",
    [Protection("budget", 2.0), Protection("box", 0.0, wind=True), Protection("ellipsoid", 1.0), Protection()],
)
def test_without_answers_it_is_the_robust_linear_program(kinds, protection):
    lot = HOURLY.replace(cars=8, **FREE)
    day = same_cars(ahead(lot), kinds)
    plain = linear.solve(lot, day, protection).value
    assert solve(lot, day, protection, adjust=False).value == pytest.approx(plain, rel=1e-7)


def test_answers_save_and_larger_sets_cost_more():
    lot = HOURLY.replace(**FREE)
    day = ahead(lot)
    levels = (0.0, 0.5, 1.0, 2.0, 4.0, 6.0)
    plans = [solve(lot, day, Protection("budget", a, wind=True), adjust=False).value for a in levels]
    rules = [solve(lot, day, Protection("budget", a, wind=True)).value for a in levels]
    for values in (plans, rules):
        assert all(low <= high + 1e-6 for low, high in itertools.pairwise(values))
    assert all(rule <= plan + 1e-6 for rule, plan in zip(rules, plans, strict=True))
    assert rules[3] < 0.99 * plans[3]
    assert rules[0] == pytest.approx(plans[0], rel=1e-9) == pytest.approx(linear.solve(lot, day).value, rel=1e-7)


def test_a_rule_costs_no_less_than_the_best_plan_without_deviations():
    lot = HOURLY.replace(**FREE)
    least = linear.solve(lot, ahead(lot)).value
    for level in (0.0, 1.0, 3.0):
        assert solve(lot, ahead(lot), Protection("budget", level)).value >= least - 1e-6


# ----------------------------------------------------------------- an independent formulation on tiny days


def small(seed):
    """A lot of 3 to 5 steps, a day with up to two kinds of cars, some several times, and a set."""
    rng = np.random.default_rng(seed)
    steps, cars = int(rng.integers(3, 6)), int(rng.integers(1, 5))
    lot = Instance(
        steps=steps,
        step_h=float(rng.choice([0.5, 1.0])),
        aggregator_bus=(1, 2),
        turbine_bus=(2,),
        line_from=(0, 1),
        line_to=(1, 2),
        line_limit_kw=(1e6, 1e6),
        load_peak_kw=60.0,
        load_shares=(0.6, 0.4),
        cars=cars,
        efficiency=float(rng.uniform(0.85, 1.0)),
        gas_max_kw=90.0,
        gas_ramp_kw=float(rng.uniform(15.0, 40.0)),
        gas_segments=3,
        turbine_kw=30.0,
        calibrated_usd=50.0,
        reserve_share=float(rng.uniform(0.0, 0.1)),
    )
    load, wind = rng.uniform(8.0, 30.0, (steps, 2)), rng.uniform(0.0, 15.0, (steps, 1))
    kind = rng.integers(0, 2, cars)
    arrive = np.array([0, int(rng.integers(0, 2))])[kind]
    depart = np.array([steps, int(rng.integers(2, steps + 1))])[kind]
    least, most = lot.energy_range_kwh
    start = rng.uniform(least, most, 2)[kind]
    full = lot.efficiency * lot.charger_kw * lot.step_h * (depart - arrive)
    target = (least + rng.uniform(0.3, 0.9, 2)[kind] * (np.minimum(most, start + full) - least)).round(6)
    day = Day(load, 0.1 * load, wind, 0.3 * wind, arrive, depart, start, target, float(rng.uniform(10.0, 60.0)))
    return lot, day, Protection("budget", float(rng.uniform(0.3, 2.0)), wind=bool(rng.integers(2)))


def vertex_optimum(lot, day, protection):
    """Least cost of a rule by cvxpy, car by car, every limit written for every extreme sequence of deviations."""
    entries = [*day.load_half_kw.T, *(day.wind_half_kw.T if protection.wind else [])]
    half = -np.sort(-np.stack(entries, axis=1), axis=1)
    part = np.clip(protection.level - np.arange(half.shape[1]), 0.0, 1.0)
    reach = half @ part  # the largest alpha deviations
    signs = np.array(list(itertools.product((1, -1, 0), repeat=lot.steps)))
    events = [np.maximum(signs, 0) * reach, np.maximum(-signs, 0) * reach]
    late = [np.concatenate([0.0 * one[:, :1], one[:, :-1]], axis=1) for one in events]
    k, steps, h = len(signs), lot.steps, lot.step_h
    every = np.ones((k, 1))

    def realised(base, now, then, at):
        total = every @ cp.reshape(base, (1, len(at)), order="C")
        for sign in (0, 1):
            if now is not None:
                total += cp.multiply(events[sign][:, at], every @ cp.reshape(now[:, sign], (1, len(at)), order="C"))
            seen = late[sign][:, at] * (np.arange(len(at)) > 0)
            total += cp.multiply(seen, every @ cp.reshape(then[:, sign], (1, len(at)), order="C"))
        return total

    pieces, wind = cp.Variable((steps, lot.gas_segments), nonneg=True), cp.Variable(steps, nonneg=True)
    base, answer = cp.sum(pieces, axis=1), cp.Variable((steps, 2))
    gas = realised(base, None, answer, np.arange(steps))
    load, available = day.load_kw.sum(axis=1), day.wind_kw.sum(axis=1)
    rules = [pieces <= lot.gas_max_kw / lot.gas_segments, wind <= available, cp.abs(answer) <= 1.5]
    rules += [gas >= 0.0, gas <= every @ (lot.gas_max_kw - lot.reserve_share * load)[None]]
    rules += [cp.abs(gas[:, 0] - day.gas_kw) <= lot.gas_ramp_kw]
    rules += [cp.abs(gas[:, 1:] - gas[:, :-1]) <= lot.gas_ramp_kw]
    surplus = gas + every @ (available - load)[None] - events[0] + events[1]
    means = base + wind - load
    price = lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh
    cost = h * gas_scale(lot) * cp.sum(pieces @ lot.gas_prices) + h * lot.wind_usd_per_kwh * cp.sum(wind)
    least, most = lot.energy_range_kwh
    for car in range(lot.cars):
        at = np.arange(day.arrive[car], day.depart[car])
        n = len(at)
        place = np.eye(steps)[at]
        c, d = cp.Variable(n, nonneg=True), cp.Variable(n, nonneg=True)
        now, then = [cp.Variable((n, 2)) for _ in (0, 1)], [cp.Variable((n, 2)) for _ in (0, 1)]
        # a deficit: charge less, discharge more, and the reverse one step later
        rules += [now[0][:, 0] <= 0, now[0][:, 1] >= 0, now[1][:, 0] >= 0, now[1][:, 1] <= 0]
        rules += [then[0][:, 0] >= 0, then[0][:, 1] <= 0, then[1][:, 0] <= 0, then[1][:, 1] >= 0]
        charge, discharge = realised(c, now[0], then[0], at), realised(d, now[1], then[1], at)
        energy = day.start_kwh[car] + h * (lot.efficiency * charge - discharge / lot.efficiency) @ np.triu(
            np.ones((n, n))
        )
        for power in (charge, discharge):
            rules += [power >= 0.0, power <= lot.charger_kw]
        rules += [energy >= least, energy <= most, energy[:, -1] >= day.target_kwh[car]]
        surplus += (discharge - charge) @ place
        means += (d - c) @ place
        cost += h * price * cp.sum(d)
    rules += [surplus >= 0.0, means >= 0.0]
    problem = cp.Problem(cp.Minimize(cost), rules)
    problem.solve(solver=cp.HIGHS)
    return float(problem.value) if problem.status == "optimal" else np.inf


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning:cvxpy")  # 0 x inf in its bounds of expressions
@pytest.mark.parametrize("seed", range(14))
def test_the_optimum_is_that_of_all_extreme_sequences_car_by_car(seed):
    lot, day, protection = small(seed)
    expected = vertex_optimum(lot, day, protection)
    if np.isinf(expected):
        with pytest.raises(InvalidInputError, match="rule for the day"):
            solve(lot, day, protection)
        return
    assert solve(lot, day, protection).value == pytest.approx(expected, rel=1e-6, abs=1e-5)


def test_the_small_days_are_of_both_kinds_and_answers_matter_on_them():
    outcomes = []
    for seed in range(14):
        lot, day, protection = small(seed)
        try:
            plan = solve(lot, day, protection, adjust=False).value
        except InvalidInputError:
            plan = np.inf
        try:
            rule = solve(lot, day, protection).value
        except InvalidInputError:
            rule = np.inf
        outcomes.append((rule, plan))
    assert sum(np.isfinite(rule) for rule, _ in outcomes) >= 8
    assert sum(rule < plan * (1.0 - 1e-4) for rule, plan in outcomes) >= 4
    assert all(rule <= plan * (1.0 + 1e-9) for rule, plan in outcomes)


# ----------------------------------------------------------------- closed forms and edges


def plain(steps=2, cars=0, **fields):
    """A lot of one aggregator and no turbine whose hours cost k (0.1 P + 0.001 P^2), one piece: linear in P."""
    given = {
        "steps": steps,
        "step_h": 1.0,
        "aggregator_bus": (1,),
        "turbine_bus": (),
        "line_from": (0,),
        "line_to": (1,),
        "line_limit_kw": (1e6,),
        "load_shares": (1.0,),
        "cars": cars,
        "gas_segments": 1,
        "gas_max_kw": 400.0,
        "reserve_share": 0.0,
        "calibrated_usd": 100.0,
    }
    return Instance(**(given | fields))


def plain_day(lot, load, half, gas_kw, cars=((), (), (), ())):
    column = np.array(load, float)[:, None]
    nothing = np.zeros((lot.steps, 0))
    arrive, depart, start, target = cars
    times = np.array(arrive, np.int64), np.array(depart, np.int64)
    energies = np.array(start, float), np.array(target, float)
    return Day(column, np.array(half, float)[:, None], nothing, nothing, *times, *energies, gas_kw)


def test_without_cars_the_generator_covers_the_largest_load_of_every_step():
    lot = plain(steps=2, gas_ramp_kw=95.0)
    day = plain_day(lot, [100.0, 180.0], [10.0, 18.0], 20.0)  # 20 -> 110 -> 198: each rise within the ramp
    found = solve(lot, day, Protection("box"))
    assert np.allclose(found.plan.gas_kw, [110.0, 198.0])
    assert found.value == pytest.approx(gas_scale(lot) * lot.gas_prices[0] * 308.0, rel=1e-9)
    tight = lot.replace(gas_ramp_kw=88.0)  # now step 1 needs 110 and so does the rise to step 0, 90
    with pytest.raises(InvalidInputError, match="rule for the day = none keeps all limits"):
        solve(tight, day, Protection("box"))


def test_the_ramp_to_the_second_step_counts_from_the_first_whatever_it_answers():
    lot = plain(steps=3, cars=1, gas_ramp_kw=60.0, efficiency=1.0)
    cars = ([0], [2], [10.0], [10.0])  # what the car gives in step 0 it gets back in step 1
    day = plain_day(lot, [30.0, 88.0, 60.0], [3.0, 0.0, 0.0], 80.0, cars)
    found = solve(lot, day, Protection("box"))
    assert max(excesses(lot, day, Protection("box"), found, *sequences(found.plan.reach_kw)).values()) <= TOLERANCE


def test_a_car_without_losses_takes_every_deviation_and_the_generator_gives_it_back():
    lot = plain(steps=3, cars=1, efficiency=1.0, gas_ramp_kw=400.0)
    cars = ([0], [3], [12.0], [0.0])  # room for 7.2 kWh down and 10.8 kWh up
    day = plain_day(lot, [100.0] * 3, [2.0] * 3, 100.0, cars)
    found = solve(lot, day, Protection("box"))
    # the mean net load less the 7.2 kWh that the last deficit, 2 kWh, does not need; discharging has its price
    energy = 300.0 - 5.2
    price = lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh
    expected = gas_scale(lot) * lot.gas_prices[0] * energy + price * 5.2
    assert price < gas_scale(lot) * lot.gas_prices[0]
    assert found.value == pytest.approx(expected, rel=1e-9)
    fixed = solve(lot, day, Protection("box"), adjust=False)
    assert fixed.value == pytest.approx(gas_scale(lot) * lot.gas_prices[0] * (306.0 - 7.2) + price * 7.2, rel=1e-9)


def test_cars_bear_deficits_that_the_generator_cannot_give_back():
    lot = plain(steps=3, cars=1, efficiency=1.0, gas_ramp_kw=0.0)
    cars = ([0], [3], [12.0], [0.0])  # 7.2 kWh to spare, of which 3 x 2 kWh are kept for the deficits
    found = solve(lot, plain_day(lot, [100.0] * 3, [2.0] * 3, 100.0, cars), Protection("box"))
    assert found.value == pytest.approx(gas_scale(lot) * lot.gas_prices[0] * 300.0, rel=1e-9)
    assert found.plan.fleet_answer[:, 0] == pytest.approx([-1.0] * 3)
    with pytest.raises(InvalidInputError, match="rule for the day"):  # 3 x 2.5 kWh are too many
        solve(lot, plain_day(lot, [100.0] * 3, [2.5] * 3, 100.0, cars), Protection("box"))


def test_answers_to_surpluses_never_pay():
    """Every limit holds without deviations too, so that what comes beyond the mean may as well be spilled."""
    for seed in (0, 1, 4, 6):
        lot, day, protection = small(seed)
        program = affine_program(lot, task_of(lot, day, protection), True)
        columns = [program.gas[1:, 1], *(one[:, 2:].ravel() for one in program.now)]
        columns = np.concatenate([*columns, *(one[1:, 2:].ravel() for one in program.then)])
        lower, upper = program.lower.copy(), program.upper.copy()
        lower[columns] = upper[columns] = 0.0
        without = best_value(program._replace(lower=lower), upper)
        assert without == pytest.approx(best_value(program, program.upper), rel=1e-9)


def test_a_single_step_keeps_its_spinning_reserve():
    lot = plain(steps=1, gas_ramp_kw=400.0, reserve_share=0.5)
    assert solve(lot, plain_day(lot, [240.0], [10.0], 100.0), Protection("box")).plan.gas_kw == pytest.approx([250.0])
    with pytest.raises(InvalidInputError, match="rule for the day"):  # 280 + 10 + 140 > 400
        solve(lot, plain_day(lot, [280.0], [10.0], 100.0), Protection("box"))


def test_reserve_is_kept_in_every_step_with_the_generators_answers():
    lot = HOURLY.replace(reserve_share=0.93)
    found = solve(lot, ahead(lot), Protection("budget", 1.0))
    loose = solve(lot.replace(reserve_share=0.0), ahead(lot), Protection("budget", 1.0))
    assert found.value > loose.value + 1.0
    worst = excesses(lot, ahead(lot), Protection("budget", 1.0), found, *sequences(found.plan.reach_kw))
    assert worst["reserve"] <= TOLERANCE


@pytest.mark.parametrize(
    "fields",
    [
        {"cars": 0},
        {"turbine_bus": ()},
        {"cars": 0, "turbine_bus": ()},
        {"cars": 1},
        {"soc_min": 0.0, "soc_arrival": (0.0, 0.1)},
        {"efficiency": 1.0},
        {"wear_usd_per_kwh": 0.0, "subsidy_usd_per_kwh": 0.0},
    ],
)
def test_other_lots_have_rules_that_hold(fields):
    lot = HOURLY.replace(**({"cars": 8} | fields))
    day = ahead(lot)
    protection = Protection("budget", 1.5, wind=True)
    found = solve(lot, day, protection)
    assert max(excesses(lot, day, protection, found, *sequences(found.plan.reach_kw)).values()) <= TOLERANCE
    assert check(found.certificate, lot).values["gap"] <= 1e-5 * found.value


def test_cars_that_never_come_or_stay_one_step_are_planned_for():
    lot = HOURLY.replace(cars=4)
    day = ahead(lot)
    arrive, depart = np.array([5, 3, 3, 23]), np.array([6, 3, 9, 24])
    start = np.array([10.0, 10.0, 20.0, 8.0])
    day = day._replace(arrive=arrive, depart=depart, start_kwh=start, target_kwh=np.array([15.0, 0.0, 20.0, 8.0]))
    assert alike(lot, day).tolist() == [1, -1, 0, 2]
    found = solve(lot, day, BOTH)
    assert max(excesses(lot, day, BOTH, found, *sequences(found.plan.reach_kw)).values()) <= TOLERANCE


def test_only_equal_cars_form_a_group():
    lot, day = HOURLY.replace(cars=4), ahead(HOURLY.replace(cars=4))
    same = same_cars(day, 1)
    assert alike(lot, same).tolist() == [0, 0, 0, 0]
    for name, value in (("arrive", 1), ("depart", -1), ("start_kwh", 0.1), ("target_kwh", -0.1)):
        other = getattr(same, name).copy()
        other[2] += value
        label = alike(lot, same._replace(**{name: other}))
        assert label[0] == label[1] == label[3] != label[2]


# ----------------------------------------------------------------- the bound


def test_no_multipliers_prove_more_than_the_rule_costs():
    solution = solved(HOURLY, BOTH)
    program = affine_program(HOURLY, task_of(HOURLY, ahead(), BOTH), True)
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    best, rng = unpack(solution.certificate["dual"]), np.random.default_rng(4)
    for size in (1e-6, 1e-3, 0.1, 1.0, 10.0):
        for dual in (best * (1.0 + size * rng.standard_normal(len(best))), size * rng.standard_normal(len(best))):
            assert -linear_bound(*parts, dual) <= solution.value + 1e-9
    assert solution.certificate["bound"] == -linear_bound(*parts, best)
    assert solution.value - solution.certificate["bound"] < 1e-5 * solution.value


def test_bounds_of_columns_cut_nothing_off():
    """Twice as wide columns leave the optimum where it is, wherever the rules' definition does not fix them."""
    for seed in (0, 1, 2, 5):
        lot, day, protection = small(seed)
        program = affine_program(lot, task_of(lot, day, protection), True)
        fixed = [program.gas[1:].ravel(), *(one.ravel() for one in program.now)]
        fixed += [one[1:].ravel() for one in program.then]
        wide = program.upper.copy()
        added = np.arange(len(program.base.cost), len(wide))
        wide[np.setdiff1d(added, np.concatenate(fixed))] *= 2.0
        values = [best_value(program, upper) for upper in (program.upper, wide)]
        assert values[0] == pytest.approx(values[1], rel=1e-9)


def best_value(program, upper):
    point = cp.Variable(len(program.cost))
    low, up = np.isfinite(program.low), np.isfinite(program.up)
    rules = [point >= program.lower, point <= upper, program.matrix[low] @ point >= program.low[low]]
    rules.append(program.matrix[up] @ point <= program.up[up])
    problem = cp.Problem(cp.Maximize(program.cost @ point), rules)
    problem.solve(solver=cp.HIGHS)
    return float(problem.value)


# ----------------------------------------------------------------- bad input


def test_bad_input_is_refused_by_name():
    day = ahead()
    for text, asked in (
        ("kind of protection", (HOURLY, day, Protection("ball"))),
        ("alpha", (HOURLY, day, Protection("budget", 7.0))),
        ("wind_kw", (HOURLY, day._replace(wind_kw=-day.wind_kw - 1.0), BOTH)),
        ("load_kw", (HOURLY, day._replace(load_kw=day.load_kw[:-1]), BOTH)),
        ("gas_kw", (HOURLY, day._replace(gas_kw=float("nan")), BOTH)),
        ("rule for the day = none", (HOURLY.replace(gas_max_kw=300.0), day._replace(gas_kw=300.0), BOTH)),
    ):
        with pytest.raises(InvalidInputError, match=text):
            solve(*asked)
    with pytest.raises(InvalidInputError, match="adjust = 1; allowed: True or False"):
        solve(HOURLY, day, BOTH, 1)
    for task in (
        task_of(HOURLY, day, BOTH)._replace(objective="peak"),
        task_of(HOURLY, day, BOTH)._replace(soft=True),
    ):
        with pytest.raises(InvalidInputError, match="task"):
            affine_program(HOURLY, task, True)


def test_equal_input_gives_equal_rules():
    first, second = (solve(HOURLY, ahead(), BOTH) for _ in (0, 1))
    assert first.certificate == second.certificate


def test_known_wind_makes_rules_of_loads_alone():
    model = Model(HOURLY)
    day = known_wind_day(model, sample(HOURLY, "generator", 1, 5), 0)
    every, loads = (solve(HOURLY, day, Protection("box", 0.0, wind=wind)).value for wind in (True, False))
    assert every == pytest.approx(loads, rel=1e-9)
