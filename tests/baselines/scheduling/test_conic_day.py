"""Days on a feeder: the default one, corridors of cars, and one clear error for everything out of range."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.certificate import check, unpack
from baselines.scheduling.conic import solve
from baselines.scheduling.feeder_day import FeederDay
from v2g_env.core.feeder import power_flow
from v2g_env.core.validate import InvalidInputError

OWN = {
    "feeder": "own",
    "line_from": (0, 1),
    "line_to": (1, 2),
    "r_ohm": (1.0, 1.0),
    "x_ohm": (1.0, 1.0),
    "bus_p_kw": (0.0, 100.0, 100.0),
    "bus_q_kvar": (0.0, 10.0, 10.0),
    "gas_bus": 1,
    "wind_buses": (),
    "ev_buses": (1, 1, 1, 1, 1, 2),
}
NAMES = ("car_aggregator", "car_arrives", "car_leaves", "car_start_kwh", "car_wanted_kwh")


def test_the_default_day_peaks_at_half_past_seven_and_needs_support_for_its_voltages():
    day = FeederDay()
    assert np.argmax(day.load_shape) in (29, 30) and 0.99 < max(day.load_shape) <= 1.0
    lowest = power_flow(day.network, day.load_kw, day.load_kvar).voltage_pu.min(axis=1)
    assert lowest.min() < 0.92 < day.v_min_pu < lowest.max()
    assert len(day.car_aggregator) == 100 and len(day.ev_buses) == 6


def test_days_survive_json_and_equal_days_have_equal_hashes():
    day = FeederDay(robust="box", omega=2)
    again = FeederDay.from_dict(day.to_dict())
    assert again == day and again.hash == day.hash
    assert FeederDay(omega=2.0, robust="box").hash == day.hash != FeederDay().hash


def test_an_own_feeder_and_a_published_one_with_the_same_numbers_are_the_same_network():
    base = FeederDay().network
    day = FeederDay(
        feeder="own",
        line_from=tuple(a for a, _ in base.tree.ends),
        line_to=tuple(b for _, b in base.tree.ends),
        r_ohm=tuple(base.r_ohm.tolist()),
        x_ohm=tuple(base.x_ohm.tolist()),
        bus_p_kw=tuple(base.p_kw.tolist()),
        bus_q_kvar=tuple(base.q_kvar.tolist()),
    )
    np.testing.assert_array_equal(day.load_kw, FeederDay().load_kw)
    assert day.network.tree == base.tree


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_whatever_a_car_may_do_lies_in_the_corridor(seed):
    rng = np.random.default_rng(seed)
    steps, cars = 12, 3
    first = rng.integers(0, 6, cars)
    last = first + rng.integers(1, 7, cars)
    start = rng.uniform(5.0, 15.0, cars)
    reach = np.minimum(start + 0.95 * 6.6 * (last - first), 22.8)
    wanted = rng.uniform(np.minimum(start, reach), reach)
    columns = (np.zeros(cars, int), first, last, start, wanted)
    fleet = {name: tuple(column.tolist()) for name, column in zip(NAMES, columns, strict=True)}
    shape = (1.0,) * steps
    day = FeederDay(
        **(OWN | fleet),
        steps=steps,
        step_h=1.0,
        load_shape=shape,
        price_usd_per_kwh=shape,
        wind_kw=shape,
        reserve=0.0,
    )
    low, high = (limit[0] for limit in day.ev_corridor_kwh)
    # cars that drift at random, but turn back where they would leave their window or miss their target
    stored = np.array(start)
    for t in range(steps):
        here = (first <= t) & (t < last)
        assert abs(day.ev_power_limit_kw[0, t] - 6.6 * here.sum()) < 1e-9
        left = np.maximum(last - t - 1, 0)
        least = np.maximum(day.ev_least_kwh, wanted - 0.95 * 6.6 * left)
        drift = rng.uniform(-6.6 / 0.95, 0.95 * 6.6, cars)
        fresh = np.clip(stored + drift, least, day.ev_most_kwh)
        stored = np.where(here, np.clip(fresh, stored - 6.6 / 0.95, stored + 0.95 * 6.6), stored)
        total = (stored - start).sum()
        assert low[t + 1] - 1e-9 <= total <= high[t + 1] + 1e-9
    assert (stored >= wanted - 1e-9).all()


def test_the_corridor_of_one_car_is_attained_at_both_ends():
    fleet = dict(zip(NAMES, ((0,), (1,), (5,), (10.0,), (12.0,)), strict=True))
    shape = (1.0,) * 6
    day = FeederDay(
        **(OWN | fleet), steps=6, step_h=1.0, load_shape=shape, price_usd_per_kwh=shape, wind_kw=shape, reserve=0.0
    )
    low, high = (limit[0] for limit in day.ev_corridor_kwh)
    np.testing.assert_allclose(high, [0.0, 0.0, 6.27, 12.54, 12.8, 12.8, 12.8])
    np.testing.assert_allclose(low, [0.0, 0.0, -5.2, -5.2, -4.27, 2.0, 2.0])
    assert day.ev_corridor_kwh[0][1:].sum() == 0.0


def short(**changes):
    return {"wind_kw": (10.0,) * 96} | changes


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"gas_ramp_kw": -1.0}, "gas_ramp_kw = -1.0; allowed"),
        ({"gas_min_kw": 300.0}, "gas_min_kw = 300.0; allowed: a finite number in \\[0, 200\\]"),
        ({"gas_max_kw": -5.0}, "gas_max_kw = -5.0"),
        ({"gas_kva": 900.0}, "gas_kva = 900.0; allowed"),
        ({"gas_bus": 33}, "gas_bus = 33; allowed"),
        ({"gas_bus": 0}, "gas_bus = 0; allowed"),
        ({"gas_block_steps": 0}, "gas_block_steps = 0"),
        ({"gas_on_before": 1}, "gas_on_before = 1; allowed: true or false"),
        ({"wind_buses": (7, 99)}, r"wind_buses\[1\] = 99; allowed"),
        ({"wind_kw": (500.0,) * 96}, r"wind_kw\[0\] = 500.0; allowed: \[0, 200\]"),
        ({"wind_kw": (1.0,) * 3}, "length of wind_kw = 3; allowed: 96"),
        ({"ev_buses": ()}, r"ev_buses = \(\); allowed: a bus for every"),
        ({"ev_buses": (5, 11, 16, 21, 27, 0)}, r"ev_buses\[5\] = 0"),
        ({"ev_efficiency": 1.2}, "ev_efficiency = 1.2"),
        ({"ev_power_kw": -1.0}, "ev_power_kw = -1.0"),
        ({"ev_most_kwh": 1.0}, "ev_most_kwh = 1.0"),
        ({"v_min_pu": 1.2}, "v_min_pu = 1.2; allowed"),
        ({"v_max_pu": 0.9}, "v_max_pu = 0.9; allowed"),
        ({"load_shape": (np.nan,) * 96}, r"load_shape\[0\] = nan"),
        ({"load_shape": (-1.0,) * 96}, r"load_shape\[0\] = -1.0"),
        ({"half_width": (0.1, 0.1)}, "length of half_width = 2; allowed: 1 or 33"),
        ({"half_width": (1.5,)}, r"half_width\[0\] = 1.5"),
        ({"branch_kva": (1.0, 2.0)}, "length of branch_kva = 2; allowed: 0 or 1 or 32"),
        ({"omega": -1.0}, "omega = -1.0"),
        ({"robust": "budget"}, "robust = 'budget'; allowed: one of none, box, ellipsoid"),
        ({"objective": "peak"}, "objective = 'peak'; allowed: one of cost, losses"),
        ({"feeder": "34"}, "feeder = '34'; allowed: one of 33, 69, own"),
        ({"line_from": (0,)}, r"line_from = \(0,\); allowed: empty"),
        ({"reactive": 1}, "reactive = 1; allowed: true or false"),
        ({"steps": 0}, "steps = 0"),
        ({"step_h": 0.0}, "step_h = 0.0"),
        ({"substation_min_kw": 7000.0}, "substation_min_kw = 7000.0"),
        ({"reserve": 0.5}, r"reserve of step 0 \[kW\] = .*; allowed: at most .* kW: generator and plugged-in"),
        (OWN | {"line_to": (1, 1)}, r"line 1 = \(1, 1\); allowed"),
        (OWN | {"line_from": (0, 0), "line_to": (1, 1)}, r"line 1 = \(0, 1\); allowed: a line that closes no loop"),
        (OWN | {"line_to": (1, 7)}, "bus of line 1 = 7; allowed: 0 to 2"),
        (OWN | {"r_ohm": (1.0, -1.0)}, r"r_ohm\[1\] = -1.0"),
        (OWN | {"bus_p_kw": (5.0, 1.0, 1.0)}, r"bus_p_kw\[0\] = 5.0; allowed: 0 at the substation"),
        (OWN | {"line_from": (), "line_to": ()}, r"line_from = \(\); allowed: at least one line"),
    ],
)
def test_bad_fields_give_one_clear_error(fields, text):
    with pytest.raises(InvalidInputError, match=text):
        FeederDay(**fields)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"car_leaves": (1,)}, r"car_leaves\[0\] = 1; allowed: at least the arrival 2"),
        ({"car_aggregator": (6,)}, r"car_aggregator\[0\] = 6"),
        ({"car_arrives": (97,)}, r"car_arrives\[0\] = 97"),
        ({"car_arrives": (1, 2)}, "length of car_arrives = 2; allowed: 1"),
        ({"car_start_kwh": (1.0,)}, r"car_start_kwh\[0\] = 1.0"),
        ({"car_wanted_kwh": (22.0,)}, r"car_wanted_kwh\[0\] = 22.0; allowed: at most 13.135: what it can charge"),
        ({"car_arrives": [2]}, r"car_arrives = \[2\]; allowed: a tuple"),
    ],
)
def test_bad_cars_are_named(change, text):
    fleet = dict(zip(NAMES, ((0,), (2,), (4,), (10.0,), (11.0,)), strict=True))
    FeederDay(**fleet)
    with pytest.raises(InvalidInputError, match=text):
        FeederDay(**(fleet | change))


def unlike_cars(**changes):
    """One aggregator with a full car and an empty one, and a price that asks for energy now."""
    return FeederDay(
        feeder="own",
        line_from=(0, 1),
        line_to=(1, 2),
        r_ohm=(0.1, 0.1),
        x_ohm=(0.1, 0.1),
        bus_p_kw=(0.0, 50.0, 50.0),
        bus_q_kvar=(0.0, 10.0, 10.0),
        steps=2,
        step_h=1.0,
        load_shape=(1.0, 1.0),
        price_usd_per_kwh=(0.05, 1.0),
        gas_bus=1,
        gas_min_kw=0.0,
        gas_max_kw=200.0,
        gas_usd_per_kwh=0.5,
        reserve=0.0,
        wind_buses=(),
        wind_kw=(0.0, 0.0),
        ev_buses=(2,),
        car_aggregator=(0, 0),
        car_arrives=(0, 0),
        car_leaves=(2, 2),
        car_start_kwh=(22.8, 4.8),
        car_wanted_kwh=(4.8, 4.8),
        **changes,
    )


def test_single_cars_keep_their_own_windows_where_their_sum_would_not_tell():
    together, single = solve(unlike_cars()), solve(unlike_cars(single_cars=True))
    # together there is enough for two chargers at the dear step; by itself the empty car has to be charged before
    assert together.plan.charge_kw[0, 0] < 1e-3
    assert single.plan.charge_kw[0, 0] > 5.0
    assert single.value > together.value + 1e-3
    day = unlike_cars(single_cars=True)
    assert check(json.loads(json.dumps(single.certificate)), day).values["gap"] < 1e-5
    base = float(np.hypot(day.network.p_kw, day.network.q_kvar).sum())
    stored = single.certificate["point"]
    charge, discharge = (base * unpack(stored[f"car_{name}"]).reshape(2, 2) for name in ("charge", "discharge"))
    gained = np.cumsum(day.ev_efficiency * charge - discharge / day.ev_efficiency, axis=1)  # steps of an hour
    energy = np.array(day.car_start_kwh)[:, None] + gained
    assert (energy >= day.ev_least_kwh - 1e-4).all()
    assert (energy <= day.ev_most_kwh + 1e-4).all()
    np.testing.assert_allclose(charge.sum(axis=0), single.plan.charge_kw[:, 0], atol=1e-4)
    np.testing.assert_allclose(discharge.sum(axis=0), single.plan.discharge_kw[:, 0], atol=1e-4)


def test_cars_that_are_alike_may_be_taken_together():
    alike = {"car_start_kwh": (10.0, 10.0)}
    fields = unlike_cars().to_dict() | alike
    together = solve(FeederDay.from_dict(fields))
    single = solve(FeederDay.from_dict(fields | {"single_cars": True}))
    assert abs(single.value - together.value) <= 1e-6 * single.value
