"""Interval arithmetic, on arrays and on pairs in compiled code, contains the exact results."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.stackelberg import rounding
from baselines.stackelberg.interval import Interval, point

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-10.0, 10.0),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, 1e-300, 1e300, 1.7976931348623157e308, 2.0**-1022, 1.0 - 2.0**-53]),
)
INFINITE = [-np.inf, np.inf]


@st.composite
def intervals(draw):
    """An interval, possibly unbounded, and a number in it."""
    low, inside, high = sorted(draw(st.tuples(NUMBERS, NUMBERS, NUMBERS)))
    return (
        draw(st.sampled_from([low, low, -np.inf])),
        draw(st.sampled_from([high, high, np.inf])),
        draw(st.sampled_from([low, high, inside])),
    )


def contains(ends, exact):
    low, high = map(float, ends)
    assert not math.isnan(low)
    assert not math.isnan(high)
    return (low == -np.inf or low < np.inf and Fraction(low) <= exact) and (
        high == np.inf or high > -np.inf and exact <= Fraction(high)
    )


def array(ends):
    return Interval(np.array([ends[0]]), np.array([ends[1]]))


def pair(found):
    return found.low[0], found.high[0]


BINARY = {
    "add": (rounding.add, lambda a, b: a + b, lambda x, y: x + y),
    "sub": (rounding.sub, lambda a, b: a - b, lambda x, y: x - y),
    "mul": (rounding.mul, lambda a, b: a * b, lambda x, y: x * y),
    "div": (rounding.div, lambda a, b: a / b, lambda x, y: x / y if y else None),
}
UNARY = {
    "neg": (rounding.neg, lambda a: -a, lambda x: -x),
    "inv": (rounding.inv, lambda a: a.inverse(), lambda x: 1 / x if x else None),
    "sqr": (rounding.sqr, lambda a: a.square(), lambda x: x * x),
}


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=150, deadline=None)
@given(a=intervals(), b=intervals())
def test_results_of_two_intervals_contain_the_exact_one(name, a, b):
    compiled, numpy, fraction = BINARY[name]
    exact = fraction(Fraction(a[2]), Fraction(b[2]))
    with np.errstate(all="ignore"):
        ends = compiled(a[:2], b[:2]), pair(numpy(array(a[:2]), array(b[:2])))
    for found in ends:
        assert exact is None or contains(found, exact)


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=150, deadline=None)
@given(a=intervals())
def test_results_of_one_interval_contain_the_exact_one(name, a):
    compiled, numpy, fraction = UNARY[name]
    exact = fraction(Fraction(a[2]))
    with np.errstate(all="ignore"):
        ends = compiled(a[:2]), pair(numpy(array(a[:2])))
    for found in ends:
        assert exact is None or contains(found, exact)


@settings(max_examples=200, deadline=None)
@given(a=intervals())
def test_roots_and_logarithms_contain_the_exact_one(a):
    inside = max(a[2], 0.0)
    with localcontext() as context, np.errstate(all="ignore"):
        context.prec, context.Emin, context.Emax = 60, -(10**6), 10**6
        root = Fraction(Decimal(inside).sqrt())
        for low, high in (rounding.sqrt(a[:2]), pair(array(a[:2]).sqrt())):
            assert contains((low, high), root) or abs(Fraction(low) - root) <= root / 10**50
        if inside > 0.0:
            logarithm = Fraction(Decimal(inside).ln())
            for found in (rounding.log(a[:2]), pair(array(a[:2]).log())):
                assert contains(found, logarithm)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_sums_contain_the_exact_one(values):
    assert contains((point(np.array(values)).sum().low, point(np.array(values)).sum().high), sum(map(Fraction, values)))


@given(st.floats(-1e100, 1e100), st.floats(1e-100, 1e100))
def test_results_are_narrow(x, y):
    for found in (rounding.div((x, x), (y, y)), pair(array((x, x)) / array((y, y)))):
        assert found[1] - found[0] <= 1e-14 * abs(x / y) + 1e-290
    for found in (rounding.sqrt((y, y)), pair(array((y, y)).sqrt())):
        assert found[1] - found[0] <= 1e-14 * math.sqrt(y)


def test_unbounded_ends_stay_unbounded():
    whole, half = (-np.inf, np.inf), (0.0, np.inf)
    with np.errstate(all="ignore"):
        for found in (rounding.add(whole, half), rounding.mul(whole, half), rounding.sub(half, half)):
            assert found == whole
        for found in (array(whole) + array(half), array(whole) * array(half), array(half) - array(half)):
            assert pair(found) == whole
        assert rounding.inv((-1.0, 1.0)) == whole == pair(array((-1.0, 1.0)).inverse())
        assert rounding.inv((0.0, 2.0))[1] == np.inf == array((0.0, 2.0)).inverse().high[0]
        assert point(np.array([np.inf, -np.inf])).sum().low == -np.inf
        assert point(np.array([np.inf, -np.inf])).sum().high == np.inf


def test_numbers_and_arrays_combine_with_intervals():
    one = Interval(np.array([1.0, 2.0]), np.array([1.5, 3.0]))
    for found, exact in ((2.0 - one, 2.0 - 1.25), (2.0 / one, 2.0 / 1.25), (np.array([2.0, 2.0]) * one, 2.5)):
        assert isinstance(found, Interval)
        assert found.low[0] <= exact <= found.high[0]
