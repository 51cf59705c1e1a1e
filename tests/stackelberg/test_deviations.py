"""Forward and backward deviations: closed forms against the numerical supremum, bounds, and broken input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.deviations import (
    backward_deviation,
    bernoulli_backward,
    bernoulli_forward,
    forward_deviation,
    normal_deviation,
    piecewise_uniform_deviations,
    two_point_deviations,
    uniform_deviation,
)

SHARES = [1e-12, 1e-4, 0.05, 0.2, 0.25, 0.3, 0.49, 0.499999, 0.5, 0.500001, 0.6, 0.75, 0.95, 0.999]


@pytest.mark.parametrize("y", SHARES)
def test_bernoulli_closed_form_is_the_numerical_supremum(y):
    law = [0.0, 1.0], [1.0 - y, y]
    assert float(bernoulli_forward(y)) == pytest.approx(forward_deviation(*law), abs=1e-9)
    assert float(bernoulli_backward(y)) == pytest.approx(backward_deviation(*law), abs=1e-9)


def test_bernoulli_by_hand():
    assert float(bernoulli_backward(0.2)) == pytest.approx(0.4)
    assert float(bernoulli_backward(0.75)) == pytest.approx((0.5 / (2 * np.log(3.0))) ** 0.5)
    assert float(bernoulli_forward(0.25)) == pytest.approx((0.5 / (2 * np.log(3.0))) ** 0.5)
    assert float(bernoulli_forward(1e-300)) == pytest.approx((1 / (600 * np.log(10.0))) ** 0.5)  # 1 - y is 1 here
    for deviation in (bernoulli_forward, bernoulli_backward):
        assert deviation([0.0, 0.5, 1.0]).tolist() == [0.0, 0.5, 0.0]


def test_bernoulli_deviations_are_smooth_mirror_images_and_at_least_the_standard_deviation():
    y = np.concatenate([np.linspace(0.0, 1.0, 4097), 0.5 + np.linspace(-1e-5, 1e-5, 201)]).reshape(2, -1)
    backward, forward = bernoulli_backward(y), bernoulli_forward(y)
    assert backward.shape == y.shape
    assert backward == pytest.approx(bernoulli_forward(1.0 - y), abs=1e-12)
    assert (np.minimum(backward, forward) >= np.sqrt(y * (1.0 - y)) * (1.0 - 1e-15)).all()
    near = bernoulli_backward(0.5 + np.linspace(-1e-5, 1e-5, 201)) ** 2
    assert np.abs(near - 0.25).max() < 2e-10  # its slope at 1/2 is 0
    assert np.abs(np.diff(near, 3)).max() < 1e-14  # no noise; its curvature jumps at 1/2


def test_normal_sample_and_normal_law():
    z = np.random.default_rng(3).normal(2.0, 5.0, 4000)
    assert normal_deviation(5.0) == 5.0
    assert forward_deviation(z) == pytest.approx(5.0, rel=0.05)
    assert backward_deviation(z) == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("points", [51, 401])
def test_discretised_normal_law_has_its_standard_deviation(points):
    z = np.linspace(-9.0, 9.0, points)
    weights = np.exp(-(z**2) / 2.0)
    assert forward_deviation(3.0 * z, weights) == pytest.approx(normal_deviation(3.0), abs=1e-9)


def test_uniform_formula_is_the_numerical_supremum():
    assert piecewise_uniform_deviations([-1.0, 3.0]) == pytest.approx((uniform_deviation(-1.0, 3.0),) * 2, abs=1e-10)
    assert uniform_deviation(0.0, 6.0) == pytest.approx(3.0**0.5)


def test_piecewise_uniform_law_is_the_limit_of_fine_samples():
    edges = [0.0, 0.5, 0.7, 2.0]
    fine = np.concatenate(
        [np.linspace(a, b, 801)[:-1] + (b - a) / 1600 for a, b in zip(edges, edges[1:], strict=False)]
    )
    forward, backward = piecewise_uniform_deviations(edges)
    assert forward == pytest.approx(forward_deviation(fine), abs=1e-5)
    assert backward == pytest.approx(backward_deviation(fine), abs=1e-5)
    assert forward > backward > fine.std() - 1e-6  # the longer tail is on the right


def test_two_point_law():
    numbers = two_point_deviations(-3.0, 5.0, 0.9)
    law = [-3.0, 5.0], [0.1, 0.9]
    assert numbers == pytest.approx((forward_deviation(*law), backward_deviation(*law)), abs=1e-9)
    assert numbers[1] > numbers[0] == pytest.approx(8.0 * 0.3)


def test_rare_far_outcome_is_found():
    # P(1000) = p alone: 2 (1000 theta + ln p) / theta^2 peaks at theta = -2 ln p / 1000 with 10^6 / (-2 ln p)
    p = 1e-9
    law = [-1.0, 1.0, 1000.0], [0.5, 0.5, p]
    assert forward_deviation(*law) == pytest.approx(1000.0 / np.sqrt(-2.0 * np.log(p)), rel=1e-3)
    assert backward_deviation(*law) == pytest.approx(1.0, rel=1e-3)


laws = st.lists(
    st.tuples(st.floats(-1e3, 1e3), st.floats(1e-6, 1.0)), min_size=1, max_size=8, unique_by=lambda pair: pair[0]
)


@settings(max_examples=40, deadline=None)
@given(laws)
def test_deviations_bound_spread_and_tails_of_any_discrete_law(pairs):
    z, p = np.array(pairs).T
    p /= p.sum()
    centred = z - p @ z
    sd = np.sqrt(p @ centred**2)
    span = float(np.ptp(z))
    for deviation, side in ((forward_deviation, centred), (backward_deviation, -centred)):
        value = deviation(z, p)
        assert sd * (1.0 - 1e-9) - 1e-12 <= value <= span / 2.0 * (1.0 + 1e-9) + 1e-9  # Hoeffding's bound above
        for t in (0.5, 1.0, 2.0, 3.0):
            assert p[side >= t * value * (1.0 + 1e-9) + 1e-9].sum() <= np.exp(-(t**2) / 2.0) + 1e-12
        for theta in np.geomspace(1e-3, 1e3, 25) / max(span, 1e-9):
            exponent = np.log(p) + theta * side
            log_moment = exponent.max() + np.log(np.exp(exponent - exponent.max()).sum())
            assert log_moment <= (theta * value) ** 2 / 2.0 * (1.0 + 1e-8) + 1e-12


@settings(max_examples=30, deadline=None)
@given(laws, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_deviations_scale_and_ignore_shifts(pairs, factor, shift):
    z, p = np.array(pairs).T
    value = forward_deviation(z, p)
    assert forward_deviation(factor * z + shift, p) == pytest.approx(factor * value, rel=1e-7, abs=1e-6)
    assert backward_deviation(-z, p) == pytest.approx(value, rel=1e-12)


def test_huge_and_constant_values():
    z = np.array([1.0, 2.0, 4.0])
    assert forward_deviation(1e200 * z) == pytest.approx(1e200 * forward_deviation(z), rel=1e-10)
    assert forward_deviation([7.3] * 9) == 0.0
    assert forward_deviation([0.0]) == 0.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: forward_deviation([]), "number of values = 0"),
        (lambda: forward_deviation([1.0, np.nan]), r"values\[1\] = nan"),
        (lambda: backward_deviation(["a"]), "values = "),
        (lambda: forward_deviation([1.0, 2.0], [1.0]), "shape of weights"),
        (lambda: forward_deviation([1.0, 2.0], [1.0, -1.0]), r"weights\[1\] = -1.0"),
        (lambda: forward_deviation([1.0, 2.0], [0.0, 0.0]), "sum of weights = 0.0"),
        (lambda: bernoulli_backward(1.1), "probability"),
        (lambda: bernoulli_forward([0.5, -0.1]), r"probability\[1\] = -0.1"),
        (lambda: two_point_deviations(1.0, 0.0, 0.5), "high = 0.0"),
        (lambda: uniform_deviation(1.0, 0.0), "high = 0.0"),
        (lambda: normal_deviation(-1.0), "standard_deviation = -1.0"),
        (lambda: piecewise_uniform_deviations([0.0, 1.0, 1.0]), "edges"),
        (lambda: piecewise_uniform_deviations([0.0]), "edges"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(InvalidInputError, match=text):
        call()
