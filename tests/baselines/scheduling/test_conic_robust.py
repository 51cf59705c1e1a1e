"""Robust dispatch: the limits hold in the exact power flow for loads of the set, its corners and its extreme points."""

import numpy as np
import pytest

from baselines.scheduling.conic import solve
from baselines.scheduling.conic_point import flow_of, stress
from baselines.scheduling.conic_program import build, grid_of, spread_of_flow, spread_of_voltage
from baselines.scheduling.feeder_day import FeederDay

# a windy, nearly unloaded feeder: flows reverse with the uncertain load, and high voltages bind
BACK = {
    "load_shape": (0.15,) * 24,
    "half_width": (0.6,),
    "wind_kw": (175.0,) * 24,
    "wind_buses": (7, 13, 16, 17, 17, 24, 30, 32),
    "price_usd_per_kwh": (0.3,) * 24,
    "substation_min_kw": -3000.0,
    "v_max_pu": 1.02,
    "v_min_pu": 0.98,
    "gas_usd_per_kwh": 0.0,
}
# export is limited, and the generator would rather sell more
FULL = BACK | {"wind_kw": (40.0,) * 24, "gas_usd_per_kwh": 0.05, "substation_min_kw": -300.0, "v_max_pu": 1.05}
LOW = {"v_min_pu": 0.95, "gas_usd_per_kwh": 0.25, "half_width": (0.15,), "reserve": 0.02}


def hourly(**changes):
    """The default day in hours, with the cars' times rounded inwards."""
    day = FeederDay()
    series = {name: getattr(day, name)[::4] for name in ("load_shape", "price_usd_per_kwh", "wind_kw")}
    arrives = tuple(-(-step // 4) for step in day.car_arrives)
    leaves = tuple(step // 4 for step in day.car_leaves)
    times = {"car_arrives": arrives, "car_leaves": leaves, "gas_ramp_kw": 800.0}
    return FeederDay(**({"steps": 24, "step_h": 1.0} | series | times | changes))


def extremes(day, count, seed):
    """(count, steps, buses) extreme points of the set: corners of the box, or points on the ellipsoid's surface."""
    rng = np.random.default_rng(seed)
    xi = np.sign(rng.normal(size=(count, *day.load_kw.shape)))
    xi[0], xi[1] = 1.0, -1.0
    if day.robust == "ellipsoid":
        xi[2:] = rng.normal(size=xi[2:].shape)
        xi *= day.omega / np.sqrt((xi**2).sum(axis=-1, keepdims=True))
        xi = np.clip(xi, -1.0, 1.0)
    return xi


def worst(day, plan, xi):
    flow = flow_of(day, plan, xi)
    return flow.voltage_pu[..., 1:].min(), flow.voltage_pu[..., 1:].max(), flow.p_kw[..., 0].min()


@pytest.mark.parametrize("robust", ["box", "ellipsoid"])
@pytest.mark.parametrize("changes", [LOW, BACK, FULL])
def test_no_load_of_the_set_violates_a_limit(robust, changes):
    day = hourly(**changes, robust=robust, omega=2.5)
    plan = solve(day).plan
    inside = np.random.default_rng(1).uniform(-1.0, 1.0, (40, *day.load_kw.shape))
    if robust == "ellipsoid":
        inside *= np.minimum(1.0, day.omega / np.sqrt((inside**2).sum(axis=-1, keepdims=True)))
    for xi in (extremes(day, 40, 2), inside):
        lowest, highest, source = worst(day, plan, xi)
        assert lowest >= day.v_min_pu - 1e-6
        assert highest <= day.v_max_pu + 1e-6
        assert source >= day.substation_min_kw - 1e-2


@pytest.mark.parametrize(("changes", "side"), [(LOW, 0), (BACK, 1), (FULL, 2)])
def test_the_nominal_dispatch_violates_limits_that_the_robust_one_keeps(changes, side):
    day = hourly(**changes)
    found = worst(day, solve(day).plan, extremes(day, 4, 3))
    passed = (found[0] < day.v_min_pu - 1e-4, found[1] > day.v_max_pu + 1e-4, found[2] < day.substation_min_kw - 1.0)
    assert passed[side]


@pytest.mark.parametrize("changes", [LOW, BACK, FULL])
def test_more_protection_costs_more(changes):
    value = [
        solve(hourly(**changes, robust=robust, omega=omega)).value
        for robust, omega in (("none", 0.0), ("ellipsoid", 1.0), ("ellipsoid", 2.5), ("box", 0.0))
    ]
    assert value[0] < value[1] < value[2] < value[3]


def test_a_box_of_width_nothing_costs_no_more_than_the_nominal_day_in_which_no_line_feeds_back():
    # then the envelope is the exact power flow
    nominal = solve(hourly(**(LOW | {"half_width": (0.0,)})))
    box = solve(hourly(**(LOW | {"half_width": (0.0,)}), robust="box"))
    assert abs(box.value - nominal.value) < 1e-3 * nominal.value
    assert box.value >= nominal.value * (1.0 - 1e-7)


def test_a_large_ellipsoid_is_the_box():
    box = solve(hourly(**LOW, robust="box")).value
    assert abs(solve(hourly(**LOW, robust="ellipsoid", omega=6.0)).value - box) < 1e-6 * box


def test_line_limits_hold_for_every_load_of_the_box():
    line = 0  # the generator below it can relieve it, at a price
    free = hourly(**LOW, robust="box")
    top = np.hypot(*flow_of(free, solve(free).plan, 1.0)[1:3])[:, line].max()
    day = hourly(**LOW, robust="box", branch_kva=tuple(0.98 * top if k == line else 1e4 for k in range(32)))
    flow = flow_of(day, solve(day).plan, extremes(day, 10, 5))
    apparent = np.hypot(flow.p_kw, flow.q_kvar)[..., line].max()
    assert 0.97 * top < apparent <= 0.98 * top + 1e-2


def test_the_reserve_covers_the_largest_load():
    day = hourly(robust="box", half_width=(0.2,))
    np.testing.assert_allclose(day.reserve_kw, 0.1 * 1.2 * day.load_kw.sum(axis=1))


def test_independent_bounded_loads_exceed_the_limits_less_often_than_promised():
    day = hourly(**LOW, robust="ellipsoid", omega=1.5)
    plan = solve(day).plan
    xi = np.random.default_rng(4).choice([-1.0, 1.0], (400, *day.load_kw.shape))
    voltage = flow_of(day, plan, xi).voltage_pu[..., 1:]
    outside = (np.sqrt((xi[..., 1:] ** 2).sum(axis=-1)) > day.omega).mean()
    assert outside == 1.0  # every one of these loads lies outside the ellipsoid
    often = ((voltage < day.v_min_pu - 1e-6) | (voltage > day.v_max_pu + 1e-6)).mean(axis=0).max()
    assert 0.0 < often <= np.exp(-(day.omega**2) / 2.0)


def test_spreads_are_the_exact_extremes_of_the_lossless_flow():
    day = hourly(robust="box", half_width=tuple(np.linspace(0.0, 0.3, 33)))
    grid = grid_of(day)
    rng = np.random.default_rng(0)
    xi = rng.uniform(-1.0, 1.0, (2000, 33))
    change = day.load_kw[7] * np.array(day.half_width) * xi / grid.base_kva
    flow = change[:, 1:] @ grid.below.T
    p, _ = spread_of_flow(day, grid)
    assert (np.abs(flow) <= p[7] + 1e-12).all()
    reactive = day.load_kvar[7] * np.array(day.half_width) / grid.base_kva
    top = (day.load_kw[7] * np.array(day.half_width) / grid.base_kva)[1:] @ grid.below.T
    np.testing.assert_allclose(top, p[7])
    drop = 2.0 * ((top * grid.r + (reactive[1:] @ grid.below.T) * grid.x) @ grid.below)
    np.testing.assert_allclose(drop, spread_of_voltage(day, grid)[7])


def test_the_ellipsoid_spread_is_reached_and_never_passed():
    day = hourly(robust="ellipsoid", omega=0.8)
    effect = np.random.default_rng(0).normal(size=33)
    weight = effect * np.array(day.half_width)
    best = 0.8 * weight / np.linalg.norm(weight)
    assert np.abs(best).max() < 1.0
    assert abs(weight @ best - day.spread(effect)) < 1e-12
    draws = np.random.default_rng(1).normal(size=(5000, 33))
    draws *= 0.8 / np.linalg.norm(draws, axis=1, keepdims=True)
    assert (draws @ weight).max() <= day.spread(effect)


def test_the_stress_test_sees_a_dispatch_that_is_not_robust():
    day = hourly(**LOW)
    plan = solve(day).plan
    lowest, violation = stress(day.replace(robust="box"), plan)
    assert violation > 1e-3
    assert abs(day.v_min_pu - lowest - violation) < 1e-12


def test_without_robustness_there_is_no_envelope():
    assert "l_most" not in build(hourly()).layout.shapes
    assert "l_most" in build(hourly(robust="box")).layout.shapes
