"""Least-cost sizes for a sample: against the program in full, its closed form, its ties, its duals and its own list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from baselines.shared_battery import reference, scenario_program
from baselines.shared_battery.duals import distance_bound, largest_use, least_use_bound
from baselines.shared_battery.scenario_program import (
    POSITION_KWH,
    SLACK,
    Range,
    budget,
    certified_distance,
    least_cost,
    least_sum,
)
from baselines.solve import SolverError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

RATIOS = (1.2, 1.0, 0.9, 0.5, 0.1)
FLEETS = ((1, 2), (2, 3), (3, 40), (6, 80))
RANGES = {"wide": (0.0, 160.0), "both ends bind": (5.0, 20.0)}
TIE_KWH = 1e-3  # the tie-break may spend a ten-millionth of the cost: so far it moves these fleets from the exact ties


def days_of(n, count, seed=3, stream=0):
    return sample_days(Instance(drivers=n), "generator", count, seed, stream).need_kwh


def span_of(n, ratio, low=0.0, high=160.0):
    return Range(np.full(n, low), np.full(n, high), ratio)


def shortage(need, found):
    return float((largest_use(need, found.own_kwh, 0.0) - found.shared_kwh).max())


def apart(one, other):
    return float(np.linalg.norm(one.own_kwh - other.own_kwh))


@pytest.mark.parametrize("ends", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("n", "count"), FLEETS)
def test_the_least_use_is_that_of_the_program_in_full_and_every_day_is_served(n, count, ratio, ends):
    need, span = days_of(n, count), span_of(n, ratio, *ends)
    found = least_cost(need, span)
    full = reference.naive(need, span.low, span.high, ratio)
    assert found.bound_kwh == pytest.approx(full.use_kwh, rel=1e-6)
    assert largest_use(need, found.least_own_kwh, ratio).max() == pytest.approx(found.bound_kwh, rel=1e-8)
    assert found.shared_kwh + ratio * found.own_kwh.sum() == pytest.approx(budget(found.bound_kwh), rel=1e-12)
    assert shortage(need, found) <= 1e-9 * (1.0 + found.bound_kwh)
    assert found.shared_kwh >= 0.0
    assert (found.own_kwh >= span.low).all()
    assert (found.own_kwh <= span.high).all()


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("n", "count"), FLEETS)
def test_the_tie_is_broken_as_by_two_more_programs(n, count, ratio):
    need, span = days_of(n, count), span_of(n, ratio)
    found = least_cost(need, span)
    ties = reference.lexicographic(need, span.low, span.high, ratio)
    assert np.abs(found.own_kwh - ties.own_kwh).max() <= TIE_KWH
    assert found.distance_kwh <= POSITION_KWH


@pytest.mark.parametrize("ratio", [1.2, 1.0, 0.5, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_near_the_limit_too_the_sizes_are_the_nearest_point_of_the_budget(seed, ratio):
    import cvxpy as cp

    need, span = days_of(5, 60, seed), span_of(5, ratio, 5.0, 40.0)
    found = least_cost(need, span)
    own = cp.Variable(5)
    every = np.ones((60, 1)) @ cp.reshape(own, (1, 5), order="C")
    use = cp.sum(cp.pos(need - every), axis=1) + ratio * cp.sum(own)
    rules = [use <= budget(found.bound_kwh), own >= span.low, own <= span.high]
    tight = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    cp.Problem(cp.Minimize(cp.sum_squares(own - 40.0)), rules).solve(solver=cp.CLARABEL, **tight)
    assert np.abs(own.value - found.own_kwh).max() <= found.distance_kwh + 1e-4


@pytest.mark.parametrize("ratio", [1.0, 1.2])
@pytest.mark.parametrize(("n", "count"), [*FLEETS, (40, 500)])
def test_where_own_capacity_saves_nothing_the_closed_form_is_attained_without_any(n, count, ratio):
    need = days_of(n, count)
    found = least_cost(need, span_of(n, ratio))
    closed = reference.equal_price_optimum(need)
    assert found.bound_kwh == pytest.approx(closed, rel=1e-9)
    assert largest_use(need, np.zeros(n), ratio).max() == pytest.approx(closed, rel=1e-12)
    if ratio > 1.0:  # dear own batteries are bought with the spare ten-millionth only
        assert found.own_kwh.sum() <= 2.0 * SLACK * (closed + 1.0) / (ratio - 1.0)
    else:  # ties go to own batteries
        assert found.own_kwh.sum() > 0.3 * closed


def test_one_driver_buys_the_largest_need_where_it_is_cheaper_for_himself():
    need = days_of(1, 30)
    top = float(need.max())
    for ratio in (0.1, 0.5, 0.9, 1.0):
        found = least_cost(need, span_of(1, ratio))
        assert found.own_kwh[0] == pytest.approx(top, abs=1e-4)
        assert found.shared_kwh == pytest.approx(0.0, abs=1e-4)
        assert found.days.tolist() == [int(need.argmax())]
    found = least_cost(need, span_of(1, 1.5))
    assert found.shared_kwh == pytest.approx(top, abs=1e-4)


def test_hand_numbers_of_two_drivers():
    # needs (10, 0) and (0, 10): shared 10 serves both; own 10 each costs 20 ratio
    need = np.array([[10.0, 0.0], [0.0, 10.0]])
    for ratio, use in ((0.9, 10.0), (0.6, 10.0), (0.5, 10.0), (0.4, 8.0), (0.1, 2.0)):
        found = least_cost(need, span_of(2, ratio))
        assert found.bound_kwh == pytest.approx(use, rel=1e-9), ratio
    found = least_cost(need, span_of(2, 0.9))
    assert found.own_kwh == pytest.approx([0.0, 0.0], abs=1e-4)
    found = least_cost(need, span_of(2, 0.4))
    assert found.own_kwh == pytest.approx([10.0, 10.0], abs=1e-4)
    # at half the price all b1 = b2 in [0, 10] cost the same: the tie goes to the largest
    found = least_cost(need, span_of(2, 0.5))
    assert found.own_kwh == pytest.approx([10.0, 10.0], abs=1e-4)


@pytest.mark.parametrize("ratio", RATIOS)
def test_days_without_any_need_decide_nothing(ratio):
    found = least_cost(np.zeros((7, 3)), span_of(3, ratio))
    assert found.days.tolist() == []
    assert found.bound_kwh == pytest.approx(0.0, abs=1e-12)
    assert 0.0 <= found.shared_kwh <= 1e-6
    assert ratio * found.own_kwh.sum() <= 1.001 * SLACK
    found = least_cost(np.zeros((7, 3)), span_of(3, ratio, 4.0))
    assert found.bound_kwh == pytest.approx(12.0 * ratio, rel=1e-12)


@pytest.mark.parametrize("ratio", RATIOS)
def test_needs_equal_on_all_days_cost_the_cheaper_kind_of_battery(ratio):
    need = np.full((6, 3), 7.0)
    found = least_cost(need, span_of(3, ratio))
    assert found.bound_kwh == pytest.approx(21.0 * min(ratio, 1.0), rel=1e-9)
    assert shortage(need, found) <= 1e-7
    if ratio <= 1.0:
        assert found.own_kwh == pytest.approx([7.0] * 3, abs=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.1])
def test_days_given_twice_change_no_sizes(ratio):
    need = days_of(4, 30)
    one, two = (least_cost(each, span_of(4, ratio)) for each in (need, np.repeat(need, 2, axis=0)))
    assert apart(one, two) <= one.distance_kwh + two.distance_kwh
    assert two.bound_kwh == pytest.approx(one.bound_kwh, rel=1e-8)


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.3])
def test_the_order_of_days_and_of_drivers_does_not_matter(ratio):
    need = days_of(6, 90)
    found = least_cost(need, span_of(6, ratio))
    rng = np.random.default_rng(1)
    days, drivers = rng.permutation(90), rng.permutation(6)
    moved = least_cost(need[days], span_of(6, ratio))
    assert sorted(days[moved.days].tolist()) == found.days.tolist()
    assert apart(found, moved) <= found.distance_kwh + moved.distance_kwh
    moved = least_cost(np.ascontiguousarray(need[:, drivers]), span_of(6, ratio))
    assert np.linalg.norm(moved.own_kwh - found.own_kwh[drivers]) <= found.distance_kwh + moved.distance_kwh
    assert moved.days.tolist() == found.days.tolist()


GENERIC = [(n, count, ratio, seed) for n, count in ((2, 50), (5, 200), (8, 300)) for ratio in RATIOS for seed in (0, 1)]


@pytest.mark.parametrize(("n", "count", "ratio", "seed"), GENERIC)
def test_the_listed_days_alone_give_the_same_sizes_and_none_of_them_can_go(n, count, ratio, seed):
    need, span = days_of(n, count, seed), span_of(n, ratio)
    found = least_cost(need, span)
    assert 1 <= len(found.days) <= n + 1
    alone = least_cost(need[found.days], span)
    assert apart(found, alone) <= found.distance_kwh + alone.distance_kwh <= 2.0 * POSITION_KWH
    assert alone.bound_kwh == pytest.approx(found.bound_kwh, rel=2e-9)
    for place in range(len(found.days)):
        rest = np.delete(found.days, place)
        fewer = least_cost(need[rest] if len(rest) else np.zeros((1, n)), span)
        assert apart(found, fewer) > 2.0 * POSITION_KWH or fewer.bound_kwh < found.bound_kwh * (1.0 - 1e-5)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seed", range(3))
def test_days_that_are_served_change_nothing_when_added(seed, ratio):
    need, span = days_of(5, 80, seed), span_of(5, ratio)
    found = least_cost(need, span)
    more = days_of(5, 400, seed, stream=5)
    # with a little room: within the ten-millionth that the tie-break spends a day that is served may raise the cost
    served = more[largest_use(more, np.maximum(found.own_kwh - 1e-3, 0.0), 0.0) < found.shared_kwh + 1e-6]
    assert len(served) > 200
    after = least_cost(np.vstack([served[:100], need, served[100:]]), span)
    assert (after.days - 100).tolist() == found.days.tolist()
    assert apart(found, after) <= found.distance_kwh + after.distance_kwh
    assert after.bound_kwh == pytest.approx(found.bound_kwh, rel=2e-9)


@pytest.mark.parametrize("ratio", [0.9, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_days_that_are_not_served_change_the_sizes_when_added(seed, ratio):
    need, span = days_of(5, 40, seed), span_of(5, ratio)
    found = least_cost(need, span)
    more = days_of(5, 4000, seed, stream=5)
    beyond = more[largest_use(more, found.own_kwh, 0.0) > found.shared_kwh + 1.0]
    assert len(beyond) > 5
    for day in beyond[:5]:
        after = least_cost(np.vstack([need, day]), span)
        assert 40 in after.days.tolist()
        assert apart(found, after) > 2.0 * POSITION_KWH


def test_never_more_days_than_decisions_decide_for_generic_days():
    # the tie-break solves a second program, whose days could add up to 2 n + 1 with those of the first
    most = 0
    for seed in range(8):
        for n, ratio in ((1, 0.5), (3, 1.0), (3, 0.2), (7, 0.9), (7, 0.05)):
            found = least_cost(days_of(n, 60, seed), span_of(n, ratio))
            assert len(found.days) <= n + 1, (seed, n, ratio)
            most = max(most, len(found.days) - n)
    assert most >= 0


@pytest.mark.parametrize(("n", "ratio", "ends"), [(1, 1.0, (5.0, 20.0)), (2, 0.1, (3.0, 3.5))])
def test_never_more_days_than_decisions_decide_where_the_tie_break_reaches_its_target(n, ratio, ends):
    assert len(least_cost(days_of(n, 50), span_of(n, ratio, *ends)).days) <= n + 1


# Weak duality


def test_the_solvers_weights_prove_its_answer_to_rounding():
    for n, count in FLEETS:
        for ratio in RATIOS:
            need, span = days_of(n, count), span_of(n, ratio)
            found = least_cost(need, span)
            rows = np.vstack([need[found.days], np.zeros((1, n))])
            low = least_use_bound(rows, found.cost_weight, span.low, span.high, ratio)
            assert low == found.bound_kwh
            most = float(largest_use(need, found.least_own_kwh, ratio).max())
            assert 0.0 <= most - low <= 1e-9 * (1.0 + low)
            assert certified_distance(rows, found.own_kwh, found.tie_weight, span, most) == found.distance_kwh


Small = hnp.arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(0.0, 50.0))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    need=Small,
    seed=st.integers(0, 10**6),
    ratio=st.floats(0.01, 2.0),
    low=st.floats(0.0, 30.0),
    width=st.floats(0.1, 60.0),
    scale=st.floats(1e-6, 1e6),
)
def test_no_weights_prove_more_than_any_sizes_attain(need, seed, ratio, low, width, scale):
    days, n = need.shape
    rng = np.random.default_rng(seed)
    weight = scale * rng.random(days) * (rng.random(days) < 0.8)
    lows, highs = np.full(n, low), np.full(n, low + width)
    own = lows + width * rng.random((40, n)) * rng.integers(0, 2, (40, 1))
    use = np.array([largest_use(need, each, ratio).max() for each in own])
    if weight.sum() > 0.0:
        assert least_use_bound(need, weight, lows, highs, ratio) <= use.min()
    target = low + width * rng.uniform(-1.0, 2.0)
    half = 0.5 * ((own - target) ** 2).sum(axis=1)
    for each, distance in zip(use, half, strict=True):  # a point is within its own use
        assert distance_bound(need, weight, lows, highs, ratio, float(each), target) <= distance


@pytest.mark.parametrize("seed", range(4))
def test_both_bounds_are_the_least_values_of_their_lagrangians(seed):
    import cvxpy as cp

    rng = np.random.default_rng(seed)
    days, n = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    need, weight = rng.exponential(10.0, (days, n)), rng.random(days)
    low = rng.uniform(0.0, 6.0, n)
    high, ratio, sigma, target = low + rng.uniform(1.0, 20.0, n), rng.uniform(0.05, 1.2), 15.0, 25.0
    own = cp.Variable(n)
    short = [cp.sum(cp.pos(row - own)) for row in need]
    rules = [own >= low, own <= high]
    share = weight / weight.sum()
    plain = cp.Problem(cp.Minimize(ratio * cp.sum(own) + sum(w * f for w, f in zip(share, short, strict=True))), rules)
    plain.solve(solver=cp.CLARABEL)
    assert least_use_bound(need, weight, low, high, ratio) == pytest.approx(plain.value, abs=1e-6)
    pull = 0.5 * cp.sum_squares(own - target)
    cost = sum(w * (f + ratio * cp.sum(own) - sigma) for w, f in zip(weight, short, strict=True))
    near = cp.Problem(cp.Minimize(pull + cost), rules)
    near.solve(solver=cp.CLARABEL)
    assert distance_bound(need, weight, low, high, ratio, sigma, target) == pytest.approx(near.value, abs=1e-5)


def test_largest_use_by_hand_and_in_parts():
    need = np.array([[3.0, 9.0], [1.0, 2.0]])
    assert largest_use(need, np.array([2.0, 4.0]), 0.5).tolist() == [1.0 + 5.0 + 3.0, 3.0]
    many = days_of(2, 9000)  # more than one part
    by_hand = [max(a - 5.0, 0.0) + max(b - 7.0, 0.0) + 6.0 for a, b in many]
    assert np.allclose(largest_use(many, np.array([5.0, 7.0]), 0.5), by_hand)


def test_the_distance_is_no_less_than_the_true_one_and_equals_it_where_nothing_else_pulls():
    # no needs: the target itself is in the budget, and without multipliers half the squared distance is all there is
    span = span_of(3, 1e-9)
    for moved in ([1.0, 0.0, 0.0], [0.3, 0.4, 1.2]):
        found = certified_distance(np.zeros((1, 3)), 160.0 - np.array(moved), np.zeros(1), span, 1.0)
        assert found == pytest.approx(np.linalg.norm(moved), rel=1e-9)
    rng = np.random.default_rng(2)
    for ratio in (1.0, 0.5):
        need, span = days_of(5, 80), span_of(5, ratio)
        answer = least_cost(need, span)
        rows = np.vstack([need[answer.days], np.zeros((1, 5))])
        most = float(largest_use(need, answer.least_own_kwh, ratio).max())
        for _ in range(20):  # towards other sizes that cost the least, or nearly: all within the budget
            own = answer.own_kwh + rng.random() * (answer.least_own_kwh - answer.own_kwh)
            found = certified_distance(rows, own, answer.tie_weight, span, most)
            assert found >= np.linalg.norm(own - answer.own_kwh) - answer.distance_kwh


# Least sum for a given shared battery


@pytest.mark.parametrize("ends", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("seed", range(3))
def test_the_least_sum_of_own_batteries_is_that_of_its_linear_program(seed, ends):
    import cvxpy as cp

    need, low, high = days_of(4, 50, seed), np.full(4, ends[0]), np.full(4, ends[1])
    least = float(largest_use(need, high, 0.0).max())
    own = cp.Variable(4)
    short = cp.Variable((50, 4), nonneg=True)
    every = np.ones((50, 1)) @ cp.reshape(own, (1, 4), order="C")
    for shared in (least + 0.01, least + 5.0, least + 40.0, least + 400.0):
        rules = [short >= need - every, cp.sum(short, axis=1) <= shared, own >= low, own <= high]
        full = cp.Problem(cp.Minimize(cp.sum(own)), rules)
        full.solve(solver=cp.HIGHS)
        found, bound = least_sum(need, low, high, shared)
        assert bound == pytest.approx(full.value, rel=1e-6)
        assert found.sum() == pytest.approx(bound, rel=1e-6)
        assert bound <= found.sum() + 1e-9
        assert largest_use(need, found, 0.0).max() <= shared * (1.0 + 1e-9) + 1e-9
        assert (found >= low).all()
        assert (found <= high).all()


def test_the_smallest_shared_battery_that_serves_every_day_is_enough():
    need, low = days_of(3, 40), np.zeros(3)
    found, bound = least_sum(need, low, np.full(3, 160.0), 0.0)  # nothing shared: every driver his largest need
    assert found == pytest.approx(need.max(axis=0), abs=1e-6)
    assert bound == pytest.approx(need.max(axis=0).sum(), rel=1e-9)
    high = np.full(3, 5.0)
    least = float(largest_use(need, high, 0.0).max())
    found, bound = least_sum(need, low, high, least)
    assert 10.0 < bound <= found.sum() + 1e-9
    assert found.sum() <= 15.0
    assert found.sum() == pytest.approx(bound, rel=1e-9)
    assert largest_use(need, found, 0.0).max() <= least + 1e-9
    with pytest.raises(SolverError, match="shared_kwh"):
        least_sum(need, low, high, least - 1e-6)


# Proofs that do not close are no answers


def test_a_method_that_stops_early_gives_no_answer(monkeypatch):
    need, span = days_of(5, 60), span_of(5, 0.5)
    inner = scenario_program.minimise

    def stopped(need, program, tolerance=1e-11):
        found = inner(need, program, 1e-2)
        if program.curvature:
            return found
        own = np.minimum(found.own + 0.1, program.high)
        use = float(largest_use(need, own, program.ratio).max())
        return found._replace(own=own, sigma=use)

    monkeypatch.setattr(scenario_program, "minimise", stopped)
    with pytest.raises(SolverError, match="gap of the least use"):
        least_cost(need, span)

    def far(need, program, tolerance=1e-11):
        found = inner(need, program, tolerance)
        return found._replace(own=0.99 * found.own) if program.curvature else found

    monkeypatch.setattr(scenario_program, "minimise", far)
    with pytest.raises(SolverError, match=r"distance to the unique sizes|rounds of added days|beyond the budget"):
        least_cost(need, span)


def test_a_study_of_the_published_size_is_solved_with_proof():
    need = days_of(100, 15_382, 1)
    found = least_cost(need, span_of(100, 0.5))
    assert found.distance_kwh <= POSITION_KWH
    assert len(found.days) <= 101
    assert shortage(need, found) <= 1e-9 * (1.0 + found.bound_kwh)
    most = float(largest_use(need, found.least_own_kwh, 0.5).max())
    assert most <= found.bound_kwh * (1.0 + 1e-9)
