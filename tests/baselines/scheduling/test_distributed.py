"""Coordination by messages against the central program, and its parts against independent formulations."""

from __future__ import annotations

from functools import lru_cache

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.certificate import CertificateError, check
from baselines.scheduling import distributed, linear
from baselines.scheduling.day import Day, Protection, known_day, known_wind_day
from baselines.scheduling.distributed import coordinate
from baselines.scheduling.distributed_kernels import approach, best_response
from baselines.scheduling.distributed_parties import Aggregator, Utility
from baselines.scheduling.plan import FEASIBLE, measure
from baselines.scheduling.program import Task
from baselines.solve import SolverError
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import gas_scale, sample

CAR = (4.8, 22.8, 6.6, 0.9, 1.0)  # least and largest energy, power, efficiency, hours
SMALL = Instance(
    steps=16,
    step_h=1.5,
    aggregator_bus=(1, 2, 3),
    turbine_bus=(2,),
    line_from=(0, 1, 2),
    line_to=(1, 2, 3),
    line_limit_kw=(200.0, 150.0, 100.0),
    load_peak_kw=60.0,
    load_shares=(0.5, 0.3, 0.2),
    cars=9,
    gas_max_kw=100.0,
    gas_ramp_kw=40.0,
    gas_quadratic=0.01,
    gas_segments=8,
    turbine_kw=60.0,
    calibrated_usd=150.0,
)


def known(lot: Instance, seed: int = 1) -> Day:
    return known_day(Model(lot), sample(lot, "generator", 1, seed), 0)


def interval(lot: Instance, seed: int = 1) -> Day:
    return known_wind_day(Model(lot), sample(lot, "generator", 1, seed), 0)


@lru_cache
def default_day() -> tuple[Instance, Day, Protection, linear.Solution]:
    lot, protection = Instance(), Protection("budget", 2.0)
    day = interval(lot)
    return lot, day, protection, linear.solve(lot, day, protection)


def some_cars(rng: np.random.Generator, count: int, steps: int) -> tuple[np.ndarray, ...]:
    arrive = rng.integers(0, steps // 2, count)
    depart = rng.integers(arrive + 1, steps + 1)
    start = rng.uniform(CAR[0], 0.6 * CAR[1], count)
    reach = np.minimum(CAR[1], start + CAR[3] * CAR[2] * CAR[4] * (depart - arrive))
    return arrive, depart, start, rng.uniform(0.0, 1.0, count) * reach


def cars_by_cvxpy(cars: tuple[np.ndarray, ...], steps: int) -> tuple[cp.Expression, cp.Expression, list[cp.Constraint]]:
    """Total power, total discharge and the limits, written independently of the kernels."""
    least, most, power, eta, h = CAR
    total, out, limits = np.zeros(steps), 0.0, []
    for a, b, start, target in zip(*cars, strict=True):
        charge, discharge = cp.Variable(steps, nonneg=True), cp.Variable(steps, nonneg=True)
        energy = start + cp.cumsum(h * (eta * charge - discharge / eta))
        there = (np.arange(steps) >= a) & (np.arange(steps) < b)
        limits += [charge <= power * there, discharge <= power * there, energy >= least, energy <= most]
        limits.append(energy[steps - 1] >= target)
        total, out = total + charge - discharge, out + cp.sum(discharge)
    return total, out, limits


def test_best_responses_cost_what_an_independent_program_finds():
    rng = np.random.default_rng(3)
    for _ in range(4):
        cars, prices = some_cars(rng, 3, 10), rng.uniform(0.0, 0.4, 10)
        total, out, limits = cars_by_cvxpy(cars, 10)
        least = cp.Problem(cp.Minimize(prices @ total + 0.03 * out), limits).solve(solver="HIGHS")
        power, energy, mu = (np.zeros((10, 3)) for _ in range(3))
        best_response(prices, 1e-9, 0.03, *cars, CAR, power, energy, mu)
        assert prices @ power.sum(axis=1) + 0.03 * np.maximum(-power, 0.0).sum() == pytest.approx(least, abs=1e-6)


def test_turns_of_cars_reach_the_optimum_of_the_quadratic_program():
    rng = np.random.default_rng(4)
    for _ in range(3):
        cars, wanted = some_cars(rng, 4, 8), rng.uniform(-20.0, 10.0, 8)
        total, out, limits = cars_by_cvxpy(cars, 8)
        objective = 0.01 * out + 0.005 * cp.sum_squares(total - wanted)
        least = cp.Problem(cp.Minimize(objective), limits).solve(solver="CLARABEL")
        power, energy = np.zeros((8, 4)), np.zeros((8, 4))
        approach(wanted, 0.01, 0.01, *cars, CAR, 300, power, energy)
        found = 0.01 * np.maximum(-power, 0.0).sum() + 0.005 * ((power.sum(axis=1) - wanted) ** 2).sum()
        assert found == pytest.approx(least, rel=1e-5, abs=1e-6)


def test_every_turn_lowers_what_is_minimised():
    rng = np.random.default_rng(5)
    cars, wanted = some_cars(rng, 6, 12), rng.uniform(-10.0, 30.0, 12)
    power, energy = np.zeros((12, 6)), np.zeros((12, 6))
    seen = []
    for _ in range(12):
        approach(wanted, 0.01, 0.02, *cars, CAR, 1, power, energy)
        seen.append(0.02 * np.maximum(-power, 0.0).sum() + 0.005 * ((power.sum(axis=1) - wanted) ** 2).sum())
    assert (np.diff(seen) <= 1e-9).all()
    assert seen[-1] < seen[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.floats(-8.0, 1.0), st.booleans())
def test_paths_keep_the_limits_of_cars_whatever_is_wanted(seed: int, exponent: float, by_price: bool):
    rng = np.random.default_rng(seed)
    steps, count = int(rng.integers(2, 20)), int(rng.integers(1, 4))
    cars, signal = some_cars(rng, count, steps), rng.normal(0.0, 50.0, steps)
    power, energy, mu = (np.zeros((steps, count)) for _ in range(3))
    if by_price:
        best_response(signal, 10.0**exponent * np.abs(signal).max(), 0.01, *cars, CAR, power, energy, mu)
    else:
        approach(signal, 10.0**exponent, 0.01, *cars, CAR, 2, power, energy)
    for j, (a, b, start, target) in enumerate(zip(*cars, strict=True)):
        gain = np.where(power[:, j] > 0.0, power[:, j] * CAR[3], power[:, j] / CAR[3]) * CAR[4]
        path = start + np.cumsum(gain)
        assert (power[:a, j] == 0.0).all()
        assert (power[b:, j] == 0.0).all()
        assert np.abs(power[:, j]).max() <= CAR[2] + FEASIBLE
        assert path[a:b].min() >= CAR[0] - 1e-9
        assert path[a:b].max() <= CAR[1] + 1e-9
        assert path[-1] >= target - 1e-9
        assert path[a:b] == pytest.approx(energy[a:b, j], abs=1e-9)


def test_an_aggregators_limit_lies_below_every_profile_and_touches_the_best():
    day = known(SMALL)
    party = Aggregator(SMALL, day, np.flatnonzero(day.arrive < day.depart))
    rng = np.random.default_rng(6)
    for _ in range(5):
        prices = rng.uniform(0.0, 0.5, SMALL.steps)
        offer, limit, _ = party.respond(prices)
        assert limit <= offer.cost_usd + prices @ offer.power_kw <= limit + 1e-4
        other = party.follow(rng.uniform(-20.0, 20.0, SMALL.steps), 0.01)
        assert limit <= other.cost_usd + prices @ other.power_kw


@pytest.mark.parametrize("seed", range(8))
def test_small_days_reach_the_central_optimum_within_the_gap(seed: int):
    chosen = (None, Protection("box"), Protection("budget", 1.5), Protection("ellipsoid", 1.0, True))[seed % 4]
    lot = SMALL.replace(cars=int(2 + seed), efficiency=0.8 + 0.025 * seed)
    day = interval(lot, seed)
    central = linear.solve(lot, day, chosen)
    found = coordinate(lot, day, chosen, gap=1e-4)
    assert found.value - found.bound <= 1e-4 * max(abs(found.bound), 1.0) + 1e-9
    assert found.value == pytest.approx(central.value, rel=1e-4)
    for row in found.history:
        assert row.bound <= central.value + 1e-6
        assert row.value >= central.certificate["bound"] - 1e-6


def test_the_default_day_is_coordinated_to_a_proven_gap_and_certified():
    lot, day, protection, central = default_day()
    found = coordinate(lot, day, protection, gap=1e-4)
    assert found.frozen == ()
    assert found.value - found.bound <= 1e-4 * found.bound
    assert all(row.bound <= central.value + 1e-6 for row in found.history)
    assert all(row.value >= central.certificate["bound"] - 1e-6 for row in found.history)
    task = Task(day, protection, "cost", False, gas_scale(lot))
    assert max(measure(lot, task, found.plan).off.values()) <= FEASIBLE
    report = check(found.certificate, lot)
    assert report.values["value"] == pytest.approx(found.value, rel=1e-12)
    assert report.values["bound"] == found.bound
    assert found.bound == pytest.approx(found.history[-1].bound, abs=1e-6)  # summed by the parties
    with pytest.raises(CertificateError, match="bound"):
        check({**found.certificate, "bound": found.bound + 0.01}, lot)


def test_a_smaller_gap_takes_more_rounds_and_bounds_only_rise():
    lot, day, protection, _ = default_day()
    rounds = [len(coordinate(lot, day, protection, gap=gap).history) for gap in (0.1, 1e-3, 1e-5)]
    assert rounds == sorted(rounds)
    assert rounds[0] < rounds[-1]
    history = coordinate(lot, day, protection, gap=1e-4).history
    assert all(b.bound >= a.bound and b.value <= a.value + 1e-6 for a, b in zip(history, history[1:], strict=False))


def test_binding_lines_are_kept_and_priced():
    lot = SMALL.replace(line_limit_kw=(200.0, 150.0, 20.0), turbine_bus=(1,), load_shares=(0.3, 0.3, 0.4))
    day = known(lot, 2)
    free = linear.solve(lot.replace(line_limit_kw=(200.0, 150.0, 100.0)), day).value
    central = linear.solve(lot, day)
    assert central.value > free * 1.0002  # or the lines cost nothing and the test shows nothing
    found = coordinate(lot, day, gap=1e-4)
    assert found.history[-1].gap <= 1e-4
    assert found.value == pytest.approx(central.value, rel=1e-4)
    assert len(check(found.certificate, lot).claims) == 2


def test_reserve_that_cars_must_share_in_is_kept():
    lot = SMALL.replace(reserve_share=1.0)
    day = known(lot)
    central = linear.solve(lot, day)
    assert central.certificate["reserves"]["shape"][0] > 0
    found = coordinate(lot, day, rounds=60)
    task = Task(day, Protection(), "cost", False, gas_scale(lot))
    assert measure(lot, task, found.plan).off["reserve"] <= FEASIBLE
    assert found.bound <= central.value + 1e-6
    assert found.value >= central.certificate["bound"] - 1e-6


def test_messages_are_counted():
    lot, (t, a) = SMALL, (SMALL.steps, SMALL.aggregators)
    found = coordinate(lot, known(lot), rounds=5, gap=1e-12)
    first = a * (t + 1 + 1)  # profile, its cost, the largest cost
    exchange = a * ((t + 1) + (t + 1))  # wanted profile and penalty; profile and cost
    bound, weights = a * (t + (t + 2)), a * 7  # prices; profile, cost and limit; of seven profiles each
    counted = [row.messages for row in found.history]
    assert counted[:4] == [first + exchange * k for k in range(1, 5)]
    assert counted[4] == first + 5 * exchange + bound + weights
    quiet = coordinate(lot, known(lot), rounds=3, gap=1e-12, silent=lambda k: {1})
    assert quiet.history[1].messages == first + 2 * exchange * (a - 1) // a


def test_silent_rounds_delay_the_agreement_but_do_not_change_it():
    lot, day, protection, central = default_day()
    rng = np.random.default_rng(0)
    cases = (
        lambda k: {0, 3} if k < 12 else set(),
        lambda k: {2} if rng.random() < 0.3 else set(),
        lambda k: set(np.flatnonzero(np.random.default_rng(k).random(6) < 0.1).tolist()),
    )
    for silent in cases:
        found = coordinate(lot, day, protection, silent=silent)
        assert any(row.silent for row in found.history)
        assert found.frozen == ()
        assert found.history[-1].gap <= 1e-4
        assert found.value == pytest.approx(central.value, rel=1e-4)
        check(found.certificate, lot)


def test_without_one_aggregator_the_rest_reach_the_optimum_given_its_last_profile():
    lot = SMALL
    day = known(lot)
    found = coordinate(lot, day, silent=lambda k: {1} if k >= 3 else set())
    assert found.frozen == (1,)
    assert found.certificate is None
    assert found.history[-1].gap <= 1e-4
    assert len(found.history) < 500
    # the same as a day on which its cars are part of the load, by the central program
    mine = lot.owner == 1
    load = day.load_kw.copy()
    load[:, 1] += found.plan.car_kw[:, mine].sum(axis=1)
    shift = max(0.0, -load.min())  # loads may not be negative: raise load and wind alike
    gone = day._replace(
        load_kw=load + np.array([0.0, shift, 0.0]),
        wind_kw=day.wind_kw + shift,
        depart=np.where(mine, day.arrive, day.depart),
        target_kwh=np.where(mine, 0.0, day.target_kwh),
    )
    rest = linear.solve(lot.replace(reserve_share=0.0), gone).value - lot.wind_usd_per_kwh * shift * 24.0
    wear = (lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * lot.step_h
    rest += wear * float(np.maximum(-found.plan.car_kw[:, mine], 0.0).sum())
    assert found.value == pytest.approx(rest, rel=1.1e-4)
    assert found.bound <= rest + 1e-6


def test_silence_in_the_last_round_does_not_undo_what_was_agreed():
    day = known(SMALL)
    before = coordinate(SMALL, day, rounds=10, gap=1e-12)
    found = coordinate(SMALL, day, rounds=11, gap=1e-12, silent=lambda k: {0} if k == 10 else set())
    assert found.frozen == ()
    assert (found.value, found.bound) == (before.value, before.bound)
    check(found.certificate, SMALL)


def test_an_aggregator_that_was_given_up_is_heard_again():
    day = known(SMALL)
    found = coordinate(SMALL, day, gap=1e-9, rounds=60, silent=lambda k: {0} if k < 40 else set())
    given_up = [row for row in found.history if row.number < 40 and np.isfinite(row.bound)]
    assert given_up
    assert found.frozen == ()
    assert found.value == pytest.approx(linear.solve(SMALL, day).value, rel=1e-3)
    check(found.certificate, SMALL)


@pytest.mark.parametrize(
    "changes",
    [
        {"charger_kw": 0.01},
        {"efficiency": 1.0, "wear_usd_per_kwh": 0.0, "subsidy_usd_per_kwh": 0.0},
        {"soc_min": 0.5, "soc_max": 0.5, "soc_wanted": 0.5, "soc_arrival": (0.5, 0.5)},
        {"gas_segments": 1, "gas_quadratic": 0.0},
        {"turbine_bus": ()},
    ],
)
def test_extreme_instances_reach_the_central_optimum_too(changes: dict[str, object]):
    lot = SMALL.replace(**changes)
    day = known(lot)
    found = coordinate(lot, day)
    assert found.history[-1].gap <= 1e-4
    assert found.value == pytest.approx(linear.solve(lot, day).value, rel=1e-4)
    check(found.certificate, lot)


def test_if_all_are_silent_cars_charge_at_once():
    lot, day = SMALL, known(SMALL)
    found = coordinate(lot, day, silent=lambda k: range(3), rounds=40)
    start, target = day.start_kwh, day.target_kwh
    need = np.where(day.arrive < day.depart, np.maximum(target - start, 0.0), 0.0)
    assert (found.plan.car_kw >= 0.0).all()
    assert found.plan.car_kw.sum(axis=0) * lot.efficiency * lot.step_h == pytest.approx(need, abs=1e-6)


@pytest.mark.parametrize("cars", [0, 1, 2])
def test_aggregators_may_have_no_cars(cars: int):
    lot = SMALL.replace(cars=cars)
    day = known(lot)
    found = coordinate(lot, day)
    assert found.value == pytest.approx(linear.solve(lot, day).value, rel=1e-4)
    check(found.certificate, lot)


def test_one_aggregator_is_enough():
    lot = SMALL.replace(aggregator_bus=(2,), load_shares=(1.0,))
    day = known(lot)
    found = coordinate(lot, day)
    assert found.history[-1].gap <= 1e-4
    assert found.value == pytest.approx(linear.solve(lot, day).value, rel=1e-4)


def test_cars_that_never_come_get_no_power():
    day = known(SMALL)
    away = np.arange(SMALL.cars) % 2 == 0
    gone = day._replace(depart=np.where(away, day.arrive, day.depart), target_kwh=np.where(away, 0.0, day.target_kwh))
    found = coordinate(SMALL, gone)
    assert (found.plan.car_kw[:, ::2] == 0.0).all()
    assert found.value == pytest.approx(linear.solve(SMALL, gone).value, rel=1e-4)


@pytest.mark.parametrize("changes", [{"gas_max_kw": 20.0}, {"gas_ramp_kw": 0.0}, {"reserve_share": 9.0}])
def test_a_day_without_a_plan_is_refused_as_by_the_central_program(changes: dict[str, float]):
    lot = SMALL.replace(**changes)
    day = known(SMALL)._replace(gas_kw=10.0)
    with pytest.raises(InvalidInputError) as central:
        linear.solve(lot, day)
    with pytest.raises(InvalidInputError) as found:
        coordinate(lot, day)
    assert str(found.value) == str(central.value)


def test_the_utility_is_never_given_arrays_of_cars(monkeypatch: pytest.MonkeyPatch):
    lot = SMALL.replace(cars=53)
    shapes: set[tuple[int, ...]] = set()

    def look(thing: object) -> None:
        if isinstance(thing, np.ndarray):
            shapes.add(thing.shape)
        elif isinstance(thing, (tuple, list)):
            for part in thing:
                look(part)

    class Watched(Utility):
        def __init__(self, instance: Instance, task: Task) -> None:
            assert instance.cars == 0
            look(task)
            super().__init__(instance, task)

        def propose(self, *given: object) -> object:
            look(given)
            return super().propose(*given)

        def mix(self, *given: object) -> object:
            look(given)
            return super().mix(*given)

    monkeypatch.setattr(distributed, "Utility", Watched)
    small = lot.replace(battery_kwh=6.0, charger_kw=1.0)
    coordinate(small, known(small), rounds=10)
    t, a, w = lot.steps, lot.aggregators, lot.turbines
    assert shapes <= {(t,), (a, t), (t, a), (t, w), (0,)}
    with pytest.raises(InvalidInputError, match="cars of the utility"):
        Utility(lot, Task(known(lot), Protection(), "cost", False, 1.0))


def test_rounds_without_any_plan_end_in_an_error_that_is_not_a_proof():
    lot = SMALL.replace(gas_max_kw=44.0)
    day = known(lot)
    linear.solve(lot, day)  # there is a plan, but none in which all charge at once
    with pytest.raises(SolverError, match="plan = none after 3 rounds"):
        coordinate(lot, day, rounds=3, silent=lambda k: range(3))


def test_lines_are_said_at_checks_only():
    said: list[str] = []
    coordinate(SMALL, known(SMALL), rounds=12, gap=1e-12, say=said.append)
    assert [line.split(":")[0] for line in said] == ["round 4", "round 9", "round 11"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rounds": 0}, "rounds = 0; allowed: an integer in"),
        ({"rounds": -3}, "rounds = -3; allowed: an integer in"),
        ({"rounds": 2.5}, "rounds = 2.5; allowed: an integer in"),
        ({"gap": 0.0}, "gap = 0.0; allowed: a finite number in"),
        ({"gap": -1e-3}, "gap = -0.001; allowed: a finite number in"),
        ({"gap": np.nan}, "gap = nan; allowed: a finite number in"),
        ({"silent": 3}, "silent = 3; allowed: None, or a function of the round"),
        ({"silent": lambda k: {3}}, "silent aggregator = 3; allowed: an integer in"),
        ({"silent": lambda k: {-1}}, "silent aggregator = -1; allowed: an integer in"),
        ({"silent": lambda k: {0.5}}, "silent aggregator = 0.5; allowed: an integer in"),
        ({"silent": lambda k: 1}, "silent in round 0 = 1; allowed: a collection of aggregators"),
        ({"protection": Protection("cube")}, "kind of protection = 'cube'; allowed:"),
    ],
)
def test_bad_input_is_refused(options: dict[str, object], text: str):
    with pytest.raises(InvalidInputError) as caught:
        coordinate(SMALL, known(SMALL), **options)
    assert str(caught.value).startswith(text)


def test_bad_days_are_refused():
    day = known(SMALL)
    with pytest.raises(InvalidInputError, match="start_kwh"):
        coordinate(SMALL, day._replace(start_kwh=day.start_kwh * np.nan))
