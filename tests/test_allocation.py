"""Rules of sharing against their definitions in plain Python, brute force where a rule claims to be best."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.allocation import (
    ORDERED,
    RULES,
    SHORTFALL_MINIMISING,
    allocate,
    allocate_kernel,
    count_served,
    random_order,
)
from v2g_env.core.validate import InvalidInputError

many = settings(max_examples=80, derandomize=True, deadline=None, database=None)
some = settings(max_examples=40, derandomize=True, deadline=None, database=None)
every_rule = pytest.mark.parametrize("rule", RULES)

eighths = st.integers(0, 400).map(lambda k: k / 8)  # sums and differences of these are exact in floating point
reals = st.floats(0.0, 100.0)


@st.composite
def days(draw, numbers=eighths, most=8):
    """Shortfalls of one day, what is there to share, an order."""
    n = draw(st.integers(1, most))
    shortfall = draw(st.lists(numbers, min_size=n, max_size=n))
    kind = draw(st.sampled_from(["any", "exact", "none"]))
    shared = draw(numbers) if kind == "any" else sum(shortfall) if kind == "exact" else 0.0
    return np.array(shortfall), float(shared), np.array(draw(st.permutations(range(n))))


def by_hand(rule, shortfall, shared, order):
    """One day by the definitions of the module's table, in rational numbers."""
    q, s, n = [Fraction(x) for x in shortfall.tolist()], Fraction(shared), len(shortfall)
    if rule == "equal_split":
        return [s / n] * n
    if rule == "proportional":
        return [s * x / sum(q) for x in q] if sum(q) > s else q
    if rule == "max_min":
        level, before = max(q), Fraction(0)
        for served, x in enumerate(sorted(q)):
            if x * (n - served) >= s - before:
                level = (s - before) / (n - served)
                break
            before += x
        assert sum(min(x, level) for x in q) == min(s, sum(q))  # that is how the level is defined
        return [min(x, level) for x in q]
    given, left = [Fraction(0)] * n, s
    for i in sorted(range(n), key=lambda i: (q[i], i)) if rule == "utilitarian" else order.tolist():
        given[i] = q[i] if q[i] <= left else Fraction(0) if rule == "first_come_skip" else left
        left -= given[i]
    return given


def one_day(rule, shortfall, shared, order):
    return allocate(rule, shortfall[None], shared, order[None])[0]


def test_rules_are_the_ones_of_the_table():
    assert RULES == ("proportional", "first_come", "first_come_skip", "utilitarian", "max_min", "equal_split")
    assert ORDERED == ("first_come", "first_come_skip")
    assert set(RULES) - set(SHORTFALL_MINIMISING) == {"equal_split"}


@every_rule
@many
@given(day=days())
def test_rule_is_its_definition(rule, day):
    np.testing.assert_allclose(one_day(rule, *day), [float(a) for a in by_hand(rule, *day)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "first_come_skip"])
@many
@given(day=days(reals))
def test_rule_is_its_definition_for_any_numbers(rule, day):
    """All rules but first_come_skip are continuous: rounding cannot change who gets something."""
    np.testing.assert_allclose(one_day(rule, *day), [float(a) for a in by_hand(rule, *day)], rtol=1e-9, atol=1e-9)


@every_rule
@many
@given(day=days(reals))
def test_nobody_gets_less_than_nothing_and_all_together_no_more_than_there_is(rule, day):
    got = one_day(rule, *day)
    assert (got >= 0.0).all()
    assert got.sum() <= day[1] * (1.0 + 1e-12)
    if rule != "equal_split":
        assert (got <= day[0] * (1.0 + 1e-12)).all()


@pytest.mark.parametrize("rule", SHORTFALL_MINIMISING)
@many
@given(day=days())
def test_all_get_what_they_lack_if_it_is_there(rule, day):
    shortfall, shared, order = day
    got = one_day(rule, *day)
    assert (got >= shortfall).all() == (shortfall.sum() <= shared)
    enough = one_day(rule, shortfall, float(shortfall.sum()), order)
    np.testing.assert_array_equal(enough, shortfall)


@pytest.mark.parametrize("rule", ["proportional", "first_come", "utilitarian", "max_min"])
@many
@given(day=days(reals))
def test_nothing_is_kept_back_while_somebody_lacks_something(rule, day):
    shortfall, shared, _ = day
    assert one_day(rule, *day).sum() == pytest.approx(min(shared, shortfall.sum()), rel=1e-12)


def test_equal_split_leaves_somebody_short_though_there_is_enough():
    got = allocate("equal_split", [[4.0, 0.0]], 4.0)
    assert got.tolist() == [[2.0, 2.0]]


def test_rules_by_hand():
    shortfall = [[6.0, 1.0, 0.0, 5.0]]
    order = np.array([[3, 0, 2, 1]])
    for rule, want in {
        "proportional": [3.0, 0.5, 0.0, 2.5],
        "first_come": [1.0, 0.0, 0.0, 5.0],
        "first_come_skip": [0.0, 1.0, 0.0, 5.0],
        "utilitarian": [0.0, 1.0, 0.0, 5.0],
        "max_min": [2.5, 1.0, 0.0, 2.5],
        "equal_split": [1.5, 1.5, 1.5, 1.5],
    }.items():
        assert allocate(rule, shortfall, 6.0, order).tolist() == [want], rule


def test_who_comes_first_gets_first():
    shortfall = np.array([[3.0, 3.0, 3.0]])
    for order in itertools.permutations(range(3)):
        got = allocate("first_come", shortfall, 4.0, np.array([order]))[0]
        assert got[list(order)].tolist() == [3.0, 1.0, 0.0]
        got = allocate("first_come_skip", shortfall, 4.0, np.array([order]))[0]
        assert got[list(order)].tolist() == [3.0, 0.0, 0.0]


def test_skipping_goes_on_to_whoever_still_fits():
    got = allocate("first_come_skip", [[5.0, 4.0, 2.0, 1.0]], 6.0, [[1, 0, 2, 3]])
    assert got.tolist() == [[0.0, 4.0, 2.0, 0.0]]


# Who is best at what


@many
@given(day=days())
def test_utilitarian_serves_as_many_drivers_as_any_set_that_can_be_served(day):
    shortfall, shared, _ = day
    n = len(shortfall)
    sets = (list(chosen) for size in range(n + 1) for chosen in itertools.combinations(range(n), size))
    best = max(len(chosen) for chosen in sets if shortfall[chosen].sum() <= shared)
    assert (one_day("utilitarian", *day) >= shortfall).sum() == best


@some
@given(day=days(most=6))
def test_utilitarian_serves_as_many_drivers_as_any_order_and_some_order_serves_as_many(day):
    shortfall, shared, _ = day
    orders = np.array(list(itertools.permutations(range(len(shortfall)))))
    every = np.tile(shortfall, (len(orders), 1))
    best = (one_day("utilitarian", *day) >= shortfall).sum()
    for rule in ORDERED:
        counts = (allocate(rule, every, shared, orders) >= shortfall).sum(axis=1)
        assert counts.max() == best


@many
@given(day=days(reals))
def test_under_max_min_whoever_is_short_has_at_least_as_much_as_anybody(day):
    """So he can get more only from those who would then have less than he."""
    shortfall = day[0]
    got = one_day("max_min", *day)
    for i in np.flatnonzero(got < shortfall * (1.0 - 1e-12)):
        assert got[i] >= got.max() * (1.0 - 1e-9) - 1e-12


@many
@given(day=days(), seed=st.integers(0, 1000))
def test_max_min_raises_the_least_then_the_second_least_and_so_on(day, seed):
    """In increasing order, lexicographically, no other way of sharing beats it."""
    shortfall, shared, _ = day
    got = np.sort(one_day("max_min", *day))
    rng = np.random.default_rng(seed)
    for _ in range(20):
        other = shortfall * rng.random(len(shortfall)) ** rng.choice([0.1, 1.0, 5.0])
        other *= min(1.0, shared / max(other.sum(), 1e-300))
        difference = got - np.sort(other)
        first = np.flatnonzero(np.abs(difference) > 1e-9)
        assert len(first) == 0 or difference[first[0]] > 0.0


@many
@given(shortfall=reals, n=st.integers(1, 8), shared=reals)
def test_max_min_is_proportional_and_the_equal_split_where_all_lack_the_same(shortfall, n, shared):
    day = np.full(n, shortfall), shared, np.arange(n)
    got = one_day("max_min", *day)
    np.testing.assert_allclose(got, one_day("proportional", *day), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(got, np.minimum(one_day("equal_split", *day), shortfall), rtol=1e-12, atol=1e-300)


@many
@given(day=days())
def test_max_min_serves_whom_proportional_serves_and_utilitarian_at_least_as_many(day):
    shortfall = day[0]
    served = {rule: one_day(rule, *day) >= shortfall for rule in RULES}
    assert (served["max_min"] | ~served["proportional"]).all()
    assert served["utilitarian"].sum() >= max(served[rule].sum() for rule in SHORTFALL_MINIMISING)


def test_set_of_sizes_that_serve_a_driver_is_not_convex_under_the_proportional_rule():
    """Two drivers need 10 kWh each; who has 10 of his own is served, so he is with 20 shared; half way he is not."""
    need = np.array([10.0, 10.0])

    def first_is_served(own, shared):
        shortfall = np.maximum(need - own, 0.0)
        return bool(allocate("proportional", [shortfall], shared)[0, 0] >= shortfall[0])

    alone, together = (np.array([10.0, 0.0]), 0.0), (np.array([0.0, 0.0]), 20.0)
    assert first_is_served(*alone)
    assert first_is_served(*together)
    middle = (alone[0] + together[0]) / 2, (alone[1] + together[1]) / 2
    assert middle[0].tolist() == [5.0, 0.0]
    assert middle[1] == 10.0
    assert not first_is_served(*middle)


@some
@given(one=days(reals, most=4), data=st.data())
def test_set_of_sizes_that_serve_everybody_is_convex_under_every_shortfall_minimising_rule(one, data):
    """It is {s >= sum (x - b)_+}, whatever the rule."""
    need, _, order = one
    n = len(need)
    points = []
    for _ in range(2):
        own = np.array(data.draw(st.lists(reals, min_size=n, max_size=n)))
        points.append((own, float(np.maximum(need - own, 0.0).sum())))
    own = (points[0][0] + points[1][0]) / 2
    shared = (points[0][1] + points[1][1]) / 2 + 1e-9
    shortfall = np.maximum(need - own, 0.0)
    for rule in SHORTFALL_MINIMISING:
        assert (one_day(rule, shortfall, shared, order) >= shortfall - 1e-9).all()


# Sizes, ties, batches


def test_equal_shortfalls_are_served_by_number():
    assert allocate("utilitarian", [[2.0, 2.0, 2.0]], 3.0).tolist() == [[2.0, 1.0, 0.0]]
    assert allocate("utilitarian", [[2.0, 1.0, 2.0, 1.0]], 3.5).tolist() == [[1.5, 1.0, 0.0, 1.0]]


@pytest.mark.parametrize("n", [127, 128, 129, 300])
def test_equal_shortfalls_are_served_by_number_in_large_fleets_too(n):
    """Up to 128 drivers are sorted in another way than more."""
    got = allocate("utilitarian", np.full((1, n), 2.0), 2.0 * 50 + 1.0)[0]
    assert got.tolist() == [2.0] * 50 + [1.0] + [0.0] * (n - 51)


@every_rule
@pytest.mark.parametrize("n", [127, 128, 129, 200])
def test_large_fleets_are_shared_by_definition(rule, n):
    rng = np.random.default_rng(n)
    for _ in range(3):
        shortfall = rng.integers(0, 60, n) / 8  # with ties
        shared = float(rng.integers(0, int(shortfall.sum())))
        order = rng.permutation(n)
        got = one_day(rule, shortfall, shared, order)
        want = [float(a) for a in by_hand(rule, shortfall, shared, order)]
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", SHORTFALL_MINIMISING)
@pytest.mark.parametrize("n", [1, 5, 128, 129])
def test_driver_who_lacks_nothing_changes_nothing(rule, n):
    rng = np.random.default_rng(n)
    shortfall, order = rng.random(n), rng.permutation(n)
    few = one_day(rule, shortfall, 0.4 * n, order)
    more = one_day(rule, np.append(shortfall, 0.0), 0.4 * n, np.append(n, order))
    np.testing.assert_allclose(more, np.append(few, 0.0), rtol=1e-12)


@every_rule
@pytest.mark.parametrize(
    ("lacks", "there", "gets"), [(3.0, 2.0, 2.0), (2.0, 3.0, 2.0), (0.0, 3.0, 0.0), (3.0, 0.0, 0.0)]
)
def test_one_driver_gets_what_there_is_of_what_he_lacks(rule, lacks, there, gets):
    got = allocate(rule, [[lacks]], there, [[0]]).item()
    if rule == "equal_split":
        assert got == there
    elif rule == "first_come_skip":
        assert got == (lacks if lacks <= there else 0.0)
    else:
        assert got == gets


@every_rule
def test_days_of_a_batch_do_not_see_each_other(rule):
    rng = np.random.default_rng(1)
    shortfall, shared = rng.exponential(2.0, (40, 6)), rng.uniform(0.0, 15.0, 40)
    order = random_order(rng.random((40, 6)))
    got = allocate(rule, shortfall, shared, order)
    assert got.shape == (40, 6)
    for d in range(40):
        np.testing.assert_array_equal(got[d], one_day(rule, shortfall[d], float(shared[d]), order[d]))
    assert allocate(rule, shortfall[:0], 1.0, order[:0]).shape == (0, 6)


@every_rule
def test_what_is_given_is_only_read_and_never_handed_back(rule):
    shortfall, order = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([[1, 0], [0, 1]])
    shared = np.array([9.0, 9.0])
    kept = shortfall.copy(), order.copy(), shared.copy()
    got = allocate(rule, shortfall, shared, order)
    got[:] = -1.0
    for array, copy in zip((shortfall, order, shared), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_rule
def test_lists_integers_and_other_memory_layouts_mean_the_same(rule):
    shortfall, order = np.array([[2.0, 1.0, 4.0], [0.0, 1.0, 3.0]]), np.array([[1, 0, 2], [2, 0, 1]])
    want = allocate(rule, shortfall, 3.0, order)
    for same in (shortfall.tolist(), shortfall.astype(int), np.asfortranarray(shortfall)):
        for turn in (order.tolist(), order.astype(np.int32), np.asfortranarray(order), order.astype(np.uint8)):
            np.testing.assert_array_equal(allocate(rule, same, 3, turn), want)
            np.testing.assert_array_equal(allocate(rule, same, [3, 3.0], turn), want)


@every_rule
def test_order_is_ignored_where_the_rule_needs_none(rule):
    if rule in ORDERED:
        with pytest.raises(InvalidInputError, match="order"):
            allocate(rule, [[1.0, 2.0]], 1.0)
        return
    want = allocate(rule, [[1.0, 2.0]], 1.0)
    for order in (None, [[1, 0]], "nonsense"):
        np.testing.assert_array_equal(allocate(rule, [[1.0, 2.0]], 1.0, order), want)


# Bad input


@pytest.mark.parametrize("rule", ["", "fair", "Proportional", 0, None, "max-min"])
def test_unknown_rule_is_refused_and_the_known_ones_are_named(rule):
    with pytest.raises(InvalidInputError, match="rule = .*; allowed: proportional, first_come"):
        allocate(rule, [[1.0]], 1.0)


@pytest.mark.parametrize(
    "shortfall",
    [
        [1.0, 2.0],
        1.0,
        [[[1.0]]],
        [[]],
        np.zeros((3, 0)),
        [[1.0, -1e-9]],
        [[1.0, np.nan]],
        [[np.inf, 1.0]],
        [["1.0"]],
        [[True]],
        [[1.0], [1.0, 2.0]],
        None,
    ],
)
def test_bad_shortfalls_are_refused_by_name(shortfall):
    with pytest.raises(InvalidInputError, match="shortfall|number of drivers"):
        allocate("proportional", shortfall, 1.0)


@pytest.mark.parametrize(
    "shared", [-1e-9, np.nan, np.inf, [1.0], [1.0, 1.0, 1.0], [[1.0, 1.0]], [1.0, -1.0], "much", None, True]
)
def test_bad_shared_battery_is_refused_by_name(shared):
    with pytest.raises(InvalidInputError, match="shared_kwh"):
        allocate("proportional", [[1.0, 2.0], [3.0, 4.0]], shared)


@pytest.mark.parametrize("rule", ORDERED)
@pytest.mark.parametrize(
    "order",
    [
        None,
        [0, 1],
        [[0, 1]],
        [[0, 1]] * 3,
        [[0, 1], [0, 0]],
        [[0, 1], [1, 2]],
        [[0, 1], [-1, 0]],
        [[0.0, 1.0], [1.0, 0.0]],
        [[False, True], [True, False]],
        [[0, 1, 2], [0, 1, 2]],
        "first",
    ],
)
def test_bad_order_is_refused_by_name(rule, order):
    with pytest.raises(InvalidInputError, match="order"):
        allocate(rule, [[1.0, 2.0], [3.0, 4.0]], 1.0, order)


# Orders and counts


def test_random_order_goes_by_increasing_number():
    order = random_order(np.array([[0.3, 0.1, 0.9], [0.2, 0.5, 0.2]]))
    assert order.tolist() == [[1, 0, 2], [0, 2, 1]]
    assert order.dtype == np.int64


@every_rule
@pytest.mark.parametrize("n", [1, 4, 150])
def test_days_served_are_those_on_which_need_is_at_most_own_and_given(rule, n):
    rng = np.random.default_rng(n)
    m = 60
    need, own = rng.exponential(10.0, (m, n)), rng.uniform(0.0, 12.0, n)
    order = random_order(rng.random((m, n)))
    for shared in (0.0, 3.0 * n, 1000.0 * n):
        given_kwh = allocate(rule, np.maximum(need - own, 0.0), shared, order)
        for tolerance in (0.0, 1e-5) if rule == "first_come_skip" else (0.0, 1e-5, 1.0):
            want = (need <= own + given_kwh + tolerance + 1e-12).sum(axis=0)
            used = order if rule in ORDERED else order[:1]
            got = count_served(RULES.index(rule), need, own, shared, used, tolerance)
            np.testing.assert_array_equal(got, want)
    if rule != "equal_split":
        assert (got == m).all()


@pytest.mark.parametrize("rule", SHORTFALL_MINIMISING)
def test_what_is_short_by_less_than_the_tolerance_counts_as_served_under_every_rule(rule):
    """Also where a request is granted in whole or not at all: there it counts as fitting."""
    need, order = np.array([[2.0 + 5e-6, 1.0]]), np.array([[0, 1]])
    for shared, want in ((2.0, 1), (2.0 - 1e-5, 0)):
        got = count_served(RULES.index(rule), need, np.array([0.0, 1.0]), shared, order, 1e-5)
        assert got.tolist() == [want, 1]
    assert count_served(RULES.index(rule), need, np.array([0.0, 1.0]), 2.0, order, 0.0).tolist() == [0, 1]


def test_request_that_fits_within_the_tolerance_takes_all_that_is_left():
    need, order = np.array([[2.0 + 5e-6, 1.0]]), np.array([[0, 1]])
    assert count_served(2, need, np.zeros(2), 2.0, order, 1e-5).tolist() == [1, 0]
    assert count_served(2, need, np.zeros(2), 2.0, order, 0.0).tolist() == [0, 1]


def test_kernel_takes_one_line_of_order_for_all_days_where_none_is_needed():
    rng = np.random.default_rng(0)
    shortfall, shared = rng.random((5, 3)), rng.random(5)
    for rule in set(RULES) - set(ORDERED):
        got = allocate_kernel(RULES.index(rule), shortfall, shared, np.zeros((1, 3), np.int64))
        np.testing.assert_array_equal(got, allocate(rule, shortfall, shared))
