"""Dispatch on a feeder: an independent formulation, the exact power flow, orders between programs, limits."""

import re

import cvxpy as cp
import numpy as np
import pytest

from baselines.scheduling.conic import LIMITS, solve
from baselines.scheduling.conic_point import consumption, flow_of
from baselines.scheduling.feeder_day import FeederDay
from v2g_env.core.validate import InvalidInputError

SIXTY_NINE = {"feeder": "69", "gas_bus": 60, "wind_buses": (26, 34, 48, 52)}


def tiny(**changes):
    """Four buses, three hours, two cars."""
    fields = {
        "feeder": "own",
        "line_from": (0, 1, 3),
        "line_to": (1, 2, 1),
        "r_ohm": (0.8, 2.0, 1.1),
        "x_ohm": (0.5, 1.5, 0.9),
        "bus_p_kw": (0.0, 300.0, 900.0, 500.0),
        "bus_q_kvar": (0.0, 100.0, 500.0, 250.0),
        "steps": 3,
        "step_h": 1.0,
        "load_shape": (0.8, 1.3, 1.0),
        "price_usd_per_kwh": (0.1, 0.25, 0.12),
        "v_min_pu": 0.98,
        "gas_bus": 2,
        "gas_max_kw": 600.0,
        "gas_kva": 700.0,
        "gas_min_kw": 50.0,
        "gas_ramp_kw": 150.0,
        "gas_block_steps": 1,
        "reserve": 0.05,
        "wind_buses": (3,),
        "wind_kw": (100.0, 30.0, 150.0),
        "wind_kva": 160.0,
        "ev_buses": (1, 2),
        "ev_kva": 20.0,
        "ev_power_kw": 11.0,
        "car_aggregator": (0, 1, 1),
        "car_arrives": (0, 0, 1),
        "car_leaves": (3, 3, 3),
        "car_start_kwh": (12.0, 10.0, 8.0),
        "car_wanted_kwh": (15.0, 18.0, 20.0),
    }
    return FeederDay(**(fields | changes))


def by_cvxpy(day):
    """The tiny day's least cost from the equations, step by step, in MW, per unit of 1 MVA, generator on."""
    lines = [(0, 1, 0), (1, 2, 1), (1, 3, 2)]
    ohm = 12.66**2
    t_all, h = range(day.steps), day.step_h
    p, q, cur = (cp.Variable((3, day.steps)) for _ in range(3))
    v = cp.Variable((4, day.steps))
    gas, gas_q = cp.Variable(day.steps), cp.Variable(day.steps)
    wind, wind_q = cp.Variable(day.steps), cp.Variable(day.steps)
    ch, dis, ev_q, keep = (cp.Variable((2, day.steps)) for _ in range(4))
    here = np.array([[1, 1, 1], [1, 2, 2]]) * day.ev_power_kw / 1e3
    low, high = (limit / 1e3 for limit in day.ev_corridor_kwh)
    rules = [v[0] == 1.0, gas >= 0.05, gas <= 0.6, cp.abs(cp.diff(gas)) <= 0.15, wind >= 0.0, ch >= 0.0, dis >= 0.0]
    rules += [v[1:] >= day.v_min_pu**2, v[1:] <= day.v_max_pu**2, ch <= here, dis <= here]
    stored = cp.cumsum(day.ev_efficiency * h * ch - h / day.ev_efficiency * dis, axis=1)
    rules += [stored >= low[:, 1:], stored <= high[:, 1:], keep >= 0.0, keep <= here - dis + ch]
    rules += [keep * h / day.ev_efficiency <= stored - low[:, 1:]]
    cost = 0
    for t in t_all:
        load_p = np.array(day.bus_p_kw) * day.load_shape[t] / 1e3
        load_q = np.array(day.bus_q_kvar) * day.load_shape[t] / 1e3
        give_p = {1: dis[0, t] - ch[0, t], 2: gas[t] + dis[1, t] - ch[1, t], 3: wind[t]}
        give_q = {1: ev_q[0, t], 2: gas_q[t] + ev_q[1, t], 3: wind_q[t]}
        for a, b, line in lines:
            r, x = day.r_ohm[line] / ohm, day.x_ohm[line] / ohm
            out = [other for start, _, other in lines if start == b]
            rules += [sum(p[k, t] for k in out) == p[line, t] - r * cur[line, t] - load_p[b] + give_p[b]]
            rules += [sum(q[k, t] for k in out) == q[line, t] - x * cur[line, t] - load_q[b] + give_q[b]]
            rules += [v[b, t] == v[a, t] - 2 * (r * p[line, t] + x * q[line, t]) + (r**2 + x**2) * cur[line, t]]
            rules += [cp.quad_over_lin(cp.hstack([p[line, t], q[line, t]]), v[a, t]) <= cur[line, t]]
        rules += [p[0, t] >= 0.0, wind[t] <= day.wind_kw[t] / 1e3]
        rules += [cp.norm(cp.hstack([gas[t], gas_q[t]])) <= 0.7, cp.norm(cp.hstack([wind[t], wind_q[t]])) <= 0.16]
        rules += [cp.norm(cp.hstack([ch[k, t] - dis[k, t], ev_q[k, t]])) <= 0.02 for k in (0, 1)]
        rules += [0.6 - gas[t] + cp.sum(keep[:, t]) >= day.reserve * load_p.sum()]
        cost += h * 1e3 * (day.price_usd_per_kwh[t] * p[0, t] + day.gas_usd_per_kwh * gas[t])
        cost += h * 1e6 * (day.substation_usd_per_kw2h * p[0, t] ** 2 + day.gas_usd_per_kw2h * gas[t] ** 2)
        cost += h * day.gas_on_usd_per_h
    problem = cp.Problem(cp.Minimize(cost), rules)
    problem.solve(solver=cp.CLARABEL, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gas_usd_per_kwh": 0.2, "v_min_pu": 0.98},
        {"reserve": 0.0},
        {"step_h": 0.5, "car_wanted_kwh": (15.0, 18.0, 15.0)},
    ],
)
def test_an_independent_formulation_has_the_same_value(changes):
    day = tiny(**changes)
    found = solve(day)
    expected = by_cvxpy(day)
    assert abs(found.value - expected) <= 1e-6 * expected
    assert found.certificate["bound"] <= expected * (1.0 + 1e-6)


@pytest.mark.parametrize(
    "changes",
    [{}, {"objective": "losses"}, {"robust": "box"}, {"robust": "ellipsoid"}, SIXTY_NINE | {"robust": "box"}],
)
def test_a_whole_day_is_tight_proven_and_what_the_exact_power_flow_says(changes):
    day = FeederDay(**changes)
    found = solve(day)
    numbers = found.certificate["figures"]
    for name, most in LIMITS.items():
        assert numbers.get(name, 0.0) <= most
    assert abs(found.certificate["gap"]) < 1e-6
    flow = flow_of(day, found.plan)
    assert flow.voltage_pu.min() > day.v_min_pu - 1e-6
    assert flow.voltage_pu.max() < day.v_max_pu + 1e-6
    np.testing.assert_allclose(flow.p_kw[:, 0], found.plan.source_kw, rtol=1e-5, atol=1e-3)
    if day.objective == "losses":
        assert abs(flow.losses_kw.sum() * day.step_h - found.value) < 1e-4 * found.value
    else:
        cost = np.array(day.price_usd_per_kwh) * flow.p_kw[:, 0] + day.substation_usd_per_kw2h * flow.p_kw[:, 0] ** 2
        cost += day.gas_usd_per_kwh * found.plan.gas_kw + day.gas_usd_per_kw2h * found.plan.gas_kw**2
        assert abs((cost + day.gas_on_usd_per_h).sum() * day.step_h - found.value) < 1e-5 * found.value


def test_the_plan_obeys_every_limit_of_its_devices():
    day = FeederDay(robust="box")
    plan = solve(day).plan
    slack = 1e-3  # kW
    assert np.abs(np.diff(plan.gas_kw)).max() <= day.gas_ramp_kw + slack
    assert plan.gas_kw.min() >= day.gas_min_kw - slack and plan.gas_kw.max() <= day.gas_max_kw + slack
    assert np.hypot(plan.gas_kw, plan.gas_kvar).max() <= day.gas_kva + slack
    assert (plan.wind_kw <= np.array(day.wind_kw)[:, None] + slack).all()
    assert np.hypot(plan.wind_kw, plan.wind_kvar).max() <= day.wind_kva + slack
    assert np.hypot(plan.charge_kw - plan.discharge_kw, plan.ev_kvar).max() <= day.ev_kva + slack
    assert (np.maximum(plan.charge_kw, plan.discharge_kw) <= day.ev_power_limit_kw.T + slack).all()
    gained = day.ev_efficiency * plan.charge_kw - plan.discharge_kw / day.ev_efficiency
    energy = np.cumsum(gained, axis=0) * day.step_h
    low, high = day.ev_corridor_kwh
    np.testing.assert_allclose(energy, plan.energy_kwh, atol=1e-2)
    assert (energy >= low.T[1:] - 1e-2).all() and (energy <= high.T[1:] + 1e-2).all()
    assert energy[-1].sum() > 900.0  # the cars have got their energy
    assert plan.discharge_kw.max() > 50.0  # and sold some on the way


def test_gas_and_vehicles_hold_the_reserve():
    day = tiny()
    plan = solve(day).plan
    spare = day.gas_max_kw - plan.gas_kw
    power = day.ev_power_limit_kw.T - plan.discharge_kw + plan.charge_kw
    energy = (plan.energy_kwh - day.ev_corridor_kwh[0].T[1:]) * day.ev_efficiency / day.step_h
    held = spare + np.minimum(power, energy).sum(axis=1)
    assert (held >= day.reserve_kw - 1e-3).all()
    assert (held < day.reserve_kw + 0.1).any()  # and it costs something
    assert solve(day).value > solve(tiny(reserve=0.0)).value + 1.0


def test_least_losses_are_below_those_of_least_cost():
    cost, losses = solve(FeederDay()), solve(FeederDay(objective="losses"))
    of_cost = flow_of(FeederDay(), cost.plan).losses_kw.sum() * 0.25
    assert losses.value < of_cost - 1.0


def test_reactive_support_saves_losses_and_lifts_voltages():
    free = {"v_min_pu": 0.85, "objective": "losses"}
    with_support, without = FeederDay(**free), FeederDay(**free, reactive=False)
    one, two = solve(with_support), solve(without)
    assert one.value < two.value - 10.0
    low_with, low_without = (flow_of(d, s.plan).voltage_pu.min() for d, s in ((with_support, one), (without, two)))
    assert low_with > low_without + 0.005
    assert np.abs(two.plan.gas_kvar).max() == np.abs(two.plan.ev_kvar).max() == np.abs(two.plan.wind_kvar).max() == 0.0


def test_without_reactive_support_the_default_day_cannot_hold_its_voltages():
    with pytest.raises(InvalidInputError, match="proven infeasible"):
        solve(FeederDay(reactive=False))


def test_vehicles_that_need_nothing_still_save_money():
    none = {name: () for name in ("ev_buses", "car_aggregator", "car_arrives", "car_leaves")}
    none |= {"car_start_kwh": (), "car_wanted_kwh": ()}
    without = solve(FeederDay(**none, reserve=0.0)).value
    start = FeederDay().car_start_kwh
    assert solve(FeederDay(reserve=0.0, car_wanted_kwh=start)).value < without - 10.0


def test_branch_limits_bind_and_hold():
    free = {"v_min_pu": 0.9, "reserve": 0.0, "gas_usd_per_kwh": 0.2}
    day = tiny(**free)
    apparent = np.hypot(*flow_of(day, solve(day).plan)[1:3])
    limit = 0.97 * float(apparent[:, 0].max())
    held = solve(tiny(**free, branch_kva=(limit, 1e4, 1e4)))
    now = np.hypot(*flow_of(day, held.plan)[1:3])[:, 0]
    assert limit - 0.1 < now.max() < limit + 0.01
    assert held.value > solve(day).value


def test_consumption_is_load_less_generation_at_every_bus():
    day = tiny()
    plan = solve(day).plan
    p, q = consumption(day, plan)
    np.testing.assert_allclose(p[:, 3], day.load_kw[:, 3] - plan.wind_kw[:, 0])
    np.testing.assert_allclose(p[:, 1], day.load_kw[:, 1] + plan.charge_kw[:, 0] - plan.discharge_kw[:, 0])
    np.testing.assert_allclose(q[:, 2], day.load_kvar[:, 2] - plan.gas_kvar - plan.ev_kvar[:, 1])


def test_a_feeder_that_feeds_back_is_solved_exactly():
    day = tiny(
        substation_min_kw=-3000.0,
        load_shape=(0.1, 0.1, 0.1),
        wind_kw=(2000.0, 1500.0, 2500.0),
        wind_kva=2600.0,
        v_max_pu=1.02,
    )
    found = solve(day)
    assert found.plan.source_kw.min() < -100.0
    assert found.certificate["figures"]["losses_relative"] < 1e-4


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: solve(tiny(), on=[True]), "length of on = 1; allowed: 3"),
        (lambda: solve(tiny(), on=[True, 1, False]), r"on\[1\] = 1; allowed: true or false"),
        (lambda: solve(tiny(), gap=0.0), "gap = 0.0; allowed"),
        (lambda: solve(tiny(v_min_pu=1.0)), "proven infeasible"),
    ],
)
def test_bad_arguments_and_days_without_a_dispatch_give_one_clear_error(call, text):
    with pytest.raises(InvalidInputError, match=text):
        call()


def test_a_day_without_a_dispatch_names_the_bus_and_the_step_of_the_worst_voltage():
    day = tiny(v_min_pu=1.0)
    with pytest.raises(InvalidInputError) as caught:
        solve(day)
    found = re.search(r", bus (\d+) in step (\d+) at (0\.\d+) pu", str(caught.value))
    free = day.replace(objective="losses", v_min_pu=0.3, v_max_pu=3.0)
    voltage = flow_of(free, solve(free).plan).voltage_pu
    assert voltage.min() < 1.0
    assert float(found[3]) == pytest.approx(voltage.min(), abs=1e-4)
    assert voltage[int(found[2]), int(found[1])] == pytest.approx(voltage.min(), abs=1e-4)
