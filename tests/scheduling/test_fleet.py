"""Cars: when they come and go, what they bring and need, from clock times and from recorded sessions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from v2g_env.core.validate import InvalidInputError
from v2g_env.data.splits import day_set, sessions_of
from v2g_env.scheduling.fleet import Cars, cars_from, session_table, uncontrolled_kw
from v2g_env.scheduling.instance import Instance

DEFAULT = Instance()
SHIPPED = "jpl-2019/fit"


def drawn(lot=DEFAULT, n=200, seed=0, sessions=None):
    return cars_from(lot, np.random.default_rng(seed).random((n, lot.cars, 3)), sessions)


def reach_kwh(lot, cars):
    """Most energy that charging from arrival to departure gives, one step after the other."""
    energy = cars.start_kwh.copy()
    for t in range(lot.steps):
        energy += ((cars.arrive <= t) & (t < cars.depart)) * lot.efficiency * lot.charger_kw * lot.step_h
    return energy


def test_arrivals_and_departures_are_normal_clock_times_rounded_inwards():
    lot = Instance(step_h=0.05, steps=480, cars=50)
    cars = drawn(lot)
    come, leave = 12.0 + 0.05 * cars.arrive.ravel(), 12.0 + 0.05 * cars.depart.ravel()
    # a car is plugged in from the first full step on and until the last: half a step on average
    inside = (come > 12.05) & (leave < 35.95)
    assert inside.mean() > 0.99
    assert come.mean() == pytest.approx(18.0 + 0.025, abs=4.0 * 2.0 / np.sqrt(come.size))
    assert leave.mean() == pytest.approx(32.0 - 0.025, abs=4.0 / np.sqrt(leave.size))
    assert come.std() == pytest.approx(2.0, rel=0.03)
    assert leave.std() == pytest.approx(1.0, rel=0.03)
    for hour in (15.0, 17.0, 18.0, 20.0):
        assert (come <= hour + 1e-9).mean() == pytest.approx(stats.norm(18.0, 2.0).cdf(hour), abs=0.02)
    for hour in (31.0, 32.0, 33.0):
        assert (leave <= hour - 1e-9).mean() == pytest.approx(stats.norm(32.0, 1.0).cdf(hour), abs=0.02)


def test_rounding_is_inwards():
    """Never plugged in before it came, nor after it has left."""
    lot = Instance(cars=1, arrival_h=(18.1, 0.0), departure_h=(8.1, 0.0))
    cars = drawn(lot, 1)
    assert (cars.arrive.item(), cars.depart.item()) == (25, 80)  # 18:15 and 8:00
    exact = drawn(Instance(cars=1, arrival_h=(18.25, 0.0), departure_h=(8.0, 0.0)), 1)
    assert (exact.arrive.item(), exact.depart.item()) == (25, 80)


@pytest.mark.parametrize(
    ("come", "leave", "steps"),
    [
        (18.0, 8.0, (24, 80)),
        (22.0, 23.0, (40, 44)),
        (23.0, 22.0, (44, 96)),
        (11.0, 13.0, (92, 96)),
        (6.0, 7.0, (72, 76)),
    ],
)
def test_departures_follow_the_arrival_within_the_day(come, leave, steps):
    cars = drawn(Instance(cars=3, arrival_h=(come, 0.0), departure_h=(leave, 0.0)), 2)
    assert (cars.arrive == steps[0]).all()
    assert (cars.depart == steps[1]).all()


def test_energy_on_arrival_is_uniform():
    start = drawn().start_kwh.ravel()
    assert stats.kstest(start, stats.uniform(4.8, 9.6).cdf).pvalue > 1e-3


def test_what_a_car_brings_does_not_depend_on_when_it_comes():
    cars = drawn(n=300)
    for a, b in ((cars.arrive, cars.depart), (cars.arrive, cars.start_kwh), (cars.depart, cars.start_kwh)):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4.0 / np.sqrt(a.size)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(0.5, 50.0),
    st.floats(0.5, 1.0),
    st.tuples(st.floats(0.0, 23.9), st.floats(0.0, 12.0)),
    st.tuples(st.floats(0.0, 23.9), st.floats(0.0, 12.0)),
    st.floats(0.2, 0.95),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_targets_can_be_reached_and_are_what_is_wanted_where_that_can_be(seed, power, eff, come, leave, wanted, step_h):
    lot = Instance(
        cars=20,
        charger_kw=power,
        efficiency=eff,
        arrival_h=come,
        departure_h=leave,
        soc_wanted=wanted,
        step_h=step_h,
        steps=round(24.0 / step_h),
    )
    cars = drawn(lot, 3, seed)
    assert (cars.arrive >= 0).all()
    assert (cars.arrive <= cars.depart).all()
    assert (cars.depart <= lot.steps).all()
    low, high = lot.energy_range_kwh
    assert (cars.start_kwh >= low).all()
    assert (cars.start_kwh <= high).all()
    assert (cars.target_kwh <= high + 1e-9).all()
    reach = reach_kwh(lot, cars)
    np.testing.assert_allclose(cars.target_kwh, np.minimum(wanted * lot.battery_kwh, reach), rtol=1e-12, atol=1e-9)


def test_uniforms_at_their_ends_give_finite_cars():
    for end in (0.0, 1.0 - 2.0**-53):
        cars = cars_from(Instance(cars=2), np.full((1, 2, 3), end))
        assert all(np.isfinite(part).all() for part in cars)
        table = np.array([[8.0, 3.0, 5.0], [9.0, 4.0, 6.0]])
        assert all(np.isfinite(part).all() for part in cars_from(Instance(cars=2), np.full((1, 2, 3), end), table))


# Recorded sessions


def test_recorded_sessions_keep_arrival_stay_and_energy_together():
    lot = Instance(start_h=0.0)
    table = session_table(sessions_of(day_set(SHIPPED)))
    cars = drawn(lot, 20, sessions=table)
    come = np.ceil(np.minimum(table[:, 0] / 0.25, 96.0) - 1e-9)
    leave = np.maximum(np.floor(np.minimum(table[:, :2].sum(axis=1) / 0.25, 96.0) + 1e-9), come)
    start = np.clip(lot.soc_wanted * lot.battery_kwh - table[:, 2], *lot.energy_range_kwh)
    known = set(zip(come.astype(int).tolist(), leave.astype(int).tolist(), start.tolist(), strict=True))
    got = zip(cars.arrive.ravel().tolist(), cars.depart.ravel().tolist(), cars.start_kwh.ravel().tolist(), strict=True)
    assert set(got) <= known


def test_recorded_sessions_are_drawn_with_equal_chances():
    lot = Instance(start_h=0.0)
    table = session_table(sessions_of(day_set(SHIPPED)))
    cars = drawn(lot, 200, sessions=table)
    come = np.ceil(np.minimum(table[:, 0] / 0.25, 96.0) - 1e-9)
    law = np.bincount(come.astype(int), minlength=97) / len(table)
    got = np.bincount(cars.arrive.ravel(), minlength=97) / cars.arrive.size
    assert np.abs(law - got).max() < 4.0 * np.sqrt(0.25 * law.max() * 4.0 / cars.arrive.size)
    need = (cars.depart - cars.arrive).mean()
    stay = np.maximum(np.floor(np.minimum(table[:, :2].sum(axis=1) / 0.25, 96.0) + 1e-9) - come, 0.0)
    assert need == pytest.approx(stay.mean(), abs=4.0 * stay.std() / np.sqrt(cars.arrive.size))


def test_table_of_sessions_is_clock_time_stay_and_energy():
    days = sessions_of(day_set(SHIPPED))
    table = session_table(days)
    assert table.shape == (len(days.energy_kwh), 3)
    np.testing.assert_array_equal(table[:, 2], days.energy_kwh)
    np.testing.assert_allclose(table[:, 1], days.departure_h - days.arrival_h)
    assert (table[:, 0] >= 0.0).all()
    assert (table[:, 0] < 24.0).all()


def test_sessions_begin_at_the_day_s_start_and_end_with_the_day():
    """A day from 12:00 on: 10:00 lies 22 hours ahead, and a stay of five hours is cut at noon."""
    cars = drawn(Instance(cars=1), 1, sessions=np.array([[10.0, 5.0, 3.0]]))
    assert (cars.arrive.item(), cars.depart.item()) == (88, 96)
    assert cars.start_kwh.item() == pytest.approx(0.9 * 24.0 - 3.0)
    assert cars.target_kwh.item() == pytest.approx(0.9 * 24.0)


def test_energy_beyond_the_battery_is_cut_and_a_short_stay_lowers_the_target():
    cars = drawn(Instance(cars=1), 1, sessions=np.array([[13.0, 0.5, 90.0]]))
    assert cars.start_kwh.item() == pytest.approx(4.8)
    assert cars.target_kwh.item() == pytest.approx(4.8 + 0.5 * 6.6 * 0.95)
    none = drawn(Instance(cars=1), 1, sessions=np.array([[13.0, 0.1, 90.0]]))
    assert none.arrive.item() == none.depart.item()
    assert none.target_kwh.item() == none.start_kwh.item()


@pytest.mark.parametrize(
    ("sessions", "complaint"),
    [
        (np.zeros((0, 3)), "sessions = 0; allowed: at least one"),
        (np.zeros((4, 2)), "shape of sessions"),
        (np.zeros(3), "shape of sessions"),
        ([[8.0, -1.0, 3.0]], r"sessions\[0, 1\] = -1"),
        ([[8.0, 1.0, -3.0]], r"sessions\[0, 2\] = -3"),
        ([[-1.0, 1.0, 3.0]], r"sessions\[0, 0\] = -1"),
        ([[8.0, np.nan, 3.0]], r"sessions\[0, 1\] = nan"),
        ("jpl", "sessions = 'jpl'"),
    ],
)
def test_bad_sessions_are_refused(sessions, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        drawn(sessions=sessions)


# Charging at once


def test_uncontrolled_charging_meets_every_target_as_early_as_possible():
    """After k steps a car has start + k full steps, or its target; nothing feasible is ever above that."""
    lot, cars = DEFAULT, drawn(n=5)
    power = uncontrolled_kw(lot, cars)
    assert power.shape == (5, 96, 100)
    assert power.min() >= 0.0
    assert power.max() <= 6.6 + 1e-12
    energy = cars.start_kwh[:, None] + 0.95 * 0.25 * np.cumsum(power, axis=1)
    for t in range(96):
        here = np.clip(t + 1, cars.arrive, cars.depart) - cars.arrive
        want = np.minimum(cars.start_kwh + 0.95 * 6.6 * 0.25 * here, np.maximum(cars.target_kwh, cars.start_kwh))
        np.testing.assert_allclose(energy[:, t], want, atol=1e-9)
    assert (energy[:, -1] >= cars.target_kwh - 1e-9).all()


def test_nothing_is_charged_away_from_the_charger():
    cars = drawn(n=5)
    power = uncontrolled_kw(DEFAULT, cars)
    steps = np.arange(96)[None, :, None]
    away = (steps < cars.arrive[:, None]) | (steps >= cars.depart[:, None])
    assert (power[away] == 0.0).all()


def test_car_above_its_target_is_left_alone_and_the_given_cars_unchanged():
    cars = Cars(np.array([[1]]), np.array([[4]]), np.array([[20.0]]), np.array([[15.0]]))
    before = [part.copy() for part in cars]
    assert not uncontrolled_kw(Instance(cars=1), cars).any()
    for part, old in zip(cars, before, strict=True):
        np.testing.assert_array_equal(part, old)
