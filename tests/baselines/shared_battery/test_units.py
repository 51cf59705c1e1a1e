"""Shared capacity in units: both readings against brute force on tiny cases, and against each other."""

import itertools

import numpy as np
import pytest

from baselines.shared_battery.duals import largest_use
from baselines.shared_battery.programs import span_of
from baselines.shared_battery.scenario_program import least_cost, least_sum
from baselines.shared_battery.units import divisible_units, units_needed, whole_units
from baselines.solve import SolverError
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import Days, sample_days

FOUR = Instance(drivers=4)
RATIOS = (1.2, 1.0, 0.9, 0.4, 0.05)


def at(ratio, **changes):
    return FOUR.replace(own_usd_per_kwh=4.0 * ratio, **changes)


def continuous_usd(lot, days):
    return lot.shared_usd_per_kwh * least_cost(days.need_kwh, span_of(lot)).bound_kwh


def best_of_all_numbers(lot, days, unit):
    """Least cost over every number of units, each with its own program; and its number."""
    span = span_of(lot)
    most = int(np.ceil(days.need_kwh.sum(axis=1).max() / unit)) + 1
    found = []
    for count in range(most + 1):
        try:
            own, _ = least_sum(days.need_kwh, span.low, span.high, count * unit)
        except SolverError:
            continue  # even the largest own batteries are not enough
        found.append((float(lot.cost_usd(own, count * unit)), count))
    return min(found)


@pytest.mark.parametrize("ends", [(0.0, 160.0), (4.0, 15.0)], ids=["wide", "both ends bind"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_two_programs_find_the_best_of_all_numbers_of_divisible_units(ratio, ends):
    lot = at(ratio, own_min_kwh=ends[0], own_max_kwh=ends[1])
    for seed, unit in ((0, 25.0), (1, 70.0), (2, 400.0)):
        days = sample_days(lot, "generator", 30, seed)
        found = divisible_units(lot, days, unit)
        cost, count = best_of_all_numbers(lot, days, unit)
        assert found.cost_usd == pytest.approx(cost, rel=1e-6)
        assert found.cost_usd == pytest.approx(float(lot.cost_usd(found.own_kwh, found.units * unit)), rel=1e-12)
        if ratio != 1.0:  # at equal prices several numbers cost the same
            assert found.units == count
        assert continuous_usd(lot, days) <= found.bound_usd <= cost * (1.0 + 1e-9)
        assert found.bound_usd >= cost * (1.0 - 1e-6)
        assert largest_use(days.need_kwh, found.own_kwh, 0.0).max() <= found.units * unit + 1e-6


def test_a_unit_that_is_exactly_the_best_size_costs_what_the_program_without_units_does():
    lot = at(0.9)
    days = sample_days(lot, "generator", 40, 1)
    shared = least_cost(days.need_kwh, span_of(lot)).shared_kwh
    for parts in (1, 3):
        found = divisible_units(lot, days, shared / parts)
        assert found.cost_usd == pytest.approx(continuous_usd(lot, days), rel=1e-6)


def test_without_needs_nothing_is_bought():
    for build in (divisible_units, whole_units):
        found = build(FOUR, Days(np.zeros((5, 4))), 10.0)
        assert found.units == 0
        assert found.cost_usd == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.4])
def test_ever_smaller_divisible_units_cost_ever_nearer_to_none(ratio):
    lot = at(ratio)
    days = sample_days(lot, "generator", 60, 3)
    plain = continuous_usd(lot, days)
    for unit in (100.0, 10.0, 1.0, 0.1, 0.01):
        extra = divisible_units(lot, days, unit).cost_usd - plain
        assert -1e-6 * plain <= extra <= lot.shared_usd_per_kwh * unit + 1e-6 * plain


def enumerated(lot, need, unit):
    """Least cost of whole units by trying every number and every way to give them out on every day."""
    days, n = need.shape
    top = np.ceil(need / unit).astype(int)
    best = np.inf
    for count in range(top.sum(axis=1).max() + 1):
        ways = [[z for z in itertools.product(*(range(t + 1) for t in row)) if sum(z) <= count] for row in top.tolist()]
        for chosen in itertools.product(*ways):
            own = np.maximum((need - unit * np.array(chosen)).max(axis=0), lot.own_min_kwh)
            if (own <= lot.own_max_kwh).all():
                best = min(best, float(lot.cost_usd(own, count * unit)))
    return best


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seed", range(3))
def test_whole_units_equal_brute_force_on_tiny_cases(seed, ratio):
    rng = np.random.default_rng(seed)
    n, count = (2, 3) if seed else (3, 2)
    need = np.round(rng.exponential(12.0, (count, n)), 2)
    need[0, 0] = 0.0
    lot = Instance(drivers=n, own_usd_per_kwh=4.0 * ratio)
    for unit in (9.0, 16.0):
        for narrow in (lot, lot.replace(own_min_kwh=2.0, own_max_kwh=10.0)):
            best = enumerated(narrow, need, unit)
            found = whole_units(narrow, Days(need), unit)
            assert found.cost_usd == pytest.approx(best, rel=1e-6)
            assert found.solver_bound_usd <= found.cost_usd + 1e-6
            assert found.solver_bound_usd >= best * (1.0 - 2e-6)
            assert found.bound_usd <= best + 1e-6
            assert units_needed(need, found.own_kwh, unit).max() <= found.units


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.4])
def test_whole_units_cost_no_less_than_divisible_ones_and_these_no_less_than_none(ratio):
    lot = at(ratio)
    days = sample_days(lot, "generator", 40, 2)
    plain = continuous_usd(lot, days)
    for unit in (40.0,):
        shared, own = divisible_units(lot, days, unit), whole_units(lot, days, unit)
        assert plain * (1.0 - 1e-9) <= shared.cost_usd <= own.cost_usd * (1.0 + 1e-6)
        assert own.bound_usd == pytest.approx(plain, rel=1e-9)
        # every sampled day is kept, not only those that the program was solved for
        assert units_needed(days.need_kwh, own.own_kwh, unit).max() <= own.units
        assert 0 < len(own.days) < 40


def test_units_needed_by_hand():
    need = np.array([[10.0, 3.0], [20.0, 0.0], [5.0, 5.0], [15.0 + 1e-6, 3.0], [15.0 + 1e-4, 3.0]])
    own = np.array([5.0, 3.0])
    assert units_needed(need, own, 10.0).tolist() == [1, 2, 1, 1, 2]
    assert units_needed(need, own, 1000.0).tolist() == [1, 1, 1, 1, 1]
    assert units_needed(need, np.array([30.0, 30.0]), 1.0).tolist() == [0] * 5
    assert units_needed(need, own, 2.5).tolist() == [2, 6, 1, 4, 5]


def test_a_time_limit_is_no_answer():
    lot = Instance(drivers=12)
    days = sample_days(lot, "generator", 60, 1)
    with pytest.raises(SolverError, match="(?i)time limit"):
        whole_units(lot, days, 7.0, time_limit_s=1e-3)


def test_ranges_that_no_number_of_units_can_serve_are_an_error():
    lot = FOUR.replace(own_max_kwh=1.0, shared_max_kwh_per_driver=160.0)
    days = sample_days(lot, "generator", 20, 1)
    assert divisible_units(lot, days, 30.0).units * 30.0 >= largest_use(days.need_kwh, np.ones(4), 0.0).max()


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf"), "10"])
@pytest.mark.parametrize("build", [divisible_units, whole_units])
def test_a_unit_without_size_is_refused_by_name(build, unit):
    with pytest.raises(InvalidInputError, match="^unit_kwh"):
        build(FOUR, Days(np.ones((3, 4))), unit)


@pytest.mark.parametrize("build", [divisible_units, whole_units])
def test_the_largest_shared_battery_is_kept(build):
    lot = FOUR.replace(shared_max_kwh_per_driver=3.0, own_usd_per_kwh=8.0)
    days = sample_days(lot, "generator", 20, 1)
    assert build(lot, days, 10.0).units * 10.0 <= lot.shared_max_kwh
