"""Mileage ratios, 2-second signals, performance and the energy of an hour."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.signal import (
    MEAN_MILEAGE_PER_H,
    ONE_WAY_EFFICIENCY,
    SIGNALS,
    delivered_share,
    draw_ratio,
    gamma_statistics,
    mileage,
    net_discharge,
    performance,
    ratio_deviations,
    ratio_from_uniform,
    ratio_quantiles,
    trace,
)

PJM = SIGNALS["pjm"]
PUBLISHED_PERCENTILES = {0.05: 22.6, 0.25: 29.0, 0.5: 32.8, 0.75: 36.6, 0.95: 41.8}  # RegD, April 2023

both = pytest.mark.parametrize("signals", SIGNALS.values(), ids=list(SIGNALS))


def hours(number, seed=0, signals=PJM):
    generator = np.random.default_rng(seed)
    return [trace(signals, float(r), generator) for r in draw_ratio(signals, generator, number)]


@both
def test_law_has_the_stated_mean_and_deviation_by_quadrature(signals):
    nodes, weights = np.polynomial.legendre.leggauss(2)  # exact for squares on each of the 1024 pieces
    u = ((np.arange(1024)[:, None] + (nodes + 1.0) / 2.0) / 1024).ravel()
    w = np.tile(weights / 2.0 / 1024, 1024)
    r = ratio_from_uniform(signals, u)
    assert w @ r == pytest.approx(signals.mean_ratio, abs=1e-12)
    assert np.sqrt(w @ (r - 1.0) ** 2) == pytest.approx(signals.deviation, abs=1e-12)


@both
def test_stated_deviations_are_those_of_the_simulated_law(signals):
    forward, backward = ratio_deviations(signals)
    assert forward == pytest.approx(signals.forward, abs=1e-10)
    assert backward == pytest.approx(signals.backward, abs=1e-10)
    r = ratio_from_uniform(signals, (np.arange(20_000) + 0.5) / 20_000) - 1.0
    for theta in np.geomspace(0.01, 20.0, 30) / signals.deviation:  # ln E exp(theta (r - 1)) <= (theta sf)^2 / 2
        for side, bound in ((r, signals.forward), (-r, signals.backward)):
            x = theta * side
            log_moment = x.max() + np.log(np.exp(x - x.max()).mean())
            assert log_moment <= (theta * bound) ** 2 / 2.0 * (1.0 + 1e-6)


@both
def test_tails_of_drawn_ratios_obey_the_deviations(signals):
    r = draw_ratio(signals, np.random.default_rng(5), 100_000)
    for t in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        assert (r - 1.0 >= t * signals.forward).mean() <= np.exp(-(t**2) / 2.0)
        assert (1.0 - r >= t * signals.backward).mean() <= np.exp(-(t**2) / 2.0)
    assert r.mean() == pytest.approx(1.0, abs=5 * signals.deviation / 100_000**0.5)
    assert r.std() == pytest.approx(signals.deviation, rel=0.02)


def test_pjm_percentiles_are_near_the_published_ones():
    law = MEAN_MILEAGE_PER_H * ratio_from_uniform(PJM, list(PUBLISHED_PERCENTILES))
    assert law == pytest.approx(np.array(list(PUBLISHED_PERCENTILES.values())), rel=0.03)


@both
def test_inverse_distribution_function(signals):
    u = np.random.default_rng(1).random((3, 4, 5))
    r = ratio_from_uniform(signals, u)
    assert r.shape == u.shape
    assert r == pytest.approx(np.interp(u, np.linspace(0.0, 1.0, 1025), ratio_quantiles(signals.deviation)), abs=1e-13)
    assert r + ratio_from_uniform(signals, 1.0 - u) == pytest.approx(np.full(u.shape, 2.0), abs=1e-12)
    assert ratio_from_uniform(signals, [0.0, 0.5, 1.0]) == pytest.approx([signals.low, 1.0, signals.high], abs=1e-15)
    assert 0.0 < signals.low < 1.0 < signals.high
    assert (draw_ratio(signals, np.random.default_rng(1), (3, 4, 5)) == r).all()
    assert draw_ratio(signals, np.random.default_rng(1)).shape == ()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(SIGNALS)), st.floats(0.0, 1.0), st.integers(0, 2**32), st.integers(2, 1800))
def test_mileage_of_a_trace_is_the_ratio(name, u, seed, samples):
    signals = SIGNALS[name]
    ratio = float(ratio_from_uniform(signals, u))
    signal = trace(signals, ratio, np.random.default_rng(seed), 2 * samples)
    assert signal.shape == (samples,)
    assert np.abs(signal).max() <= 1.0
    assert mileage(signal) == pytest.approx(ratio * MEAN_MILEAGE_PER_H * samples / 1800, rel=1e-9)


def test_hour_of_the_mean_ratio():
    signal = trace(PJM, 1.0, np.random.default_rng(0))
    assert (signal.shape, signal.dtype) == ((1800,), np.float64)
    assert mileage(signal) == pytest.approx(32.8, rel=1e-12)
    assert (signal == trace(PJM, 1.0, np.random.default_rng(0))).all()
    assert (signal != trace(PJM, 1.0, np.random.default_rng(1))).any()


def test_traces_swing_to_both_ends_and_return_to_zero_energy():
    signals = np.array(hours(200))
    assert 0.35 < signals.std() < 0.5
    assert np.abs(signals).max(axis=1).mean() > 0.9
    quarters = signals.reshape(200, 4, 450).mean(axis=2).std()
    whole = signals.mean(axis=1).std()
    assert whole < 0.08 < quarters
    assert whole < 0.8 * quarters / 2.0  # half of it if quarters were independent: they make up for one another
    assert abs(signals.mean()) < 0.015


def test_mileage_by_hand():
    assert mileage([0.0, 0.5, -0.25, -0.25]) == 1.25
    assert mileage([0.3]) == mileage([]) == 0.0


def test_performance_by_hand():
    signal = [0.0, 1.0, -0.5]  # moves 1 and 1.5; within +-.5 it moves .5 and 1
    assert performance(signal, 10.0, 5.0) == pytest.approx(1.5 / 2.5)
    assert performance(signal, 10.0, 10.0) == 1.0
    assert performance(signal, 10.0, 0.0) == 0.0
    assert performance(signal, 0.0, 0.0) == 1.0
    assert performance([0.2, 0.2], 1.0, 0.0) == 1.0
    assert performance([0.0, 0.4], 10.0, 4.0) == pytest.approx(1.0)  # covers the largest swing


def test_performance_rises_with_power_and_falls_with_the_bid():
    for signal in hours(10):
        by_power = [performance(signal, 100.0, a) for a in np.linspace(0.0, 100.0, 21)]
        assert by_power[0] == 0.0
        assert by_power[-1] == 1.0
        assert (np.diff(by_power) >= -1e-12).all()
        by_bid = [performance(signal, b, 50.0) for b in np.linspace(1.0, 200.0, 21)]
        assert (np.diff(by_bid) <= 1e-12).all()
        assert performance(signal, 80.0, 80.0 * np.abs(signal).max()) == pytest.approx(1.0)


def test_performance_exceeds_the_share_of_the_model_in_busy_hours():
    generator = np.random.default_rng(0)
    for ratio in (1.0, 1.3, 1.6):
        signals = [trace(PJM, ratio, generator) for _ in range(60)]
        for available in (0.25, 0.5, 0.75, 0.9):
            index = np.mean([performance(s, 1.0, available) for s in signals])
            assert index >= float(delivered_share(available, ratio, 1.0))


def test_delivered_share_by_hand():
    assert delivered_share([50.0, 120.0, 0.0, 0.0], [1.0, 1.1, 1.0, 1.0], [100.0, 100.0, 0.0, 5.0]).tolist() == [
        0.5,
        1.0,
        1.0,
        0.0,
    ]
    assert delivered_share(np.ones((4, 1)), 2.0, np.arange(3.0)).shape == (4, 3)


def test_share_is_one_exactly_if_the_chance_constraint_holds():
    generator = np.random.default_rng(2)
    plugged_kw, bid_kw = 10.0 * generator.integers(0, 20, 500), generator.uniform(0.0, 150.0, 500)
    r = draw_ratio(PJM, generator, 500)
    assert ((delivered_share(plugged_kw, r, bid_kw) == 1.0) == (plugged_kw - r * bid_kw >= 0.0)).all()


def test_net_discharge_by_hand():
    assert net_discharge([1.0, 1.0]) == pytest.approx(1.0 / ONE_WAY_EFFICIENCY)
    assert net_discharge([-1.0, -1.0]) == pytest.approx(-ONE_WAY_EFFICIENCY)
    assert net_discharge([0.5, -0.5]) == pytest.approx(0.25 * (1.0 / 0.95 - 0.95))


@both
def test_stated_gamma_is_that_of_the_generator(signals):
    mean, sd, forward, backward = gamma_statistics(signals)
    assert mean == pytest.approx(signals.gamma_mean, abs=5.1e-5)
    stated = (signals.gamma_deviation, signals.gamma_forward, signals.gamma_backward)
    for value, rounded_up in zip((sd, forward, backward), stated, strict=True):
        assert rounded_up - 1.01e-4 <= value <= rounded_up
    other = gamma_statistics(signals, traces=1000, seed=7)
    assert other == pytest.approx((mean, sd, forward, backward), rel=0.1, abs=0.006)
    losses = np.mean([np.abs(h).mean() for h in hours(200, 3, signals)]) * (1.0 / 0.95 - 0.95) / 2.0
    assert mean == pytest.approx(losses, abs=0.002)  # drift cancels, losses stay


BAD = {"forward": 0.1, "backward": 0.1, "gamma_forward": 0.01, "gamma_backward": 0.0, "deviation": 0.3}
BAD |= {"gamma_mean": 0.0, "gamma_deviation": -1.0, "mean_ratio": 2.0}


@pytest.mark.parametrize(("field", "value"), BAD.items())
def test_inconsistent_signal_set_is_refused(field, value):
    with pytest.raises(InvalidInputError, match=rf"{field} = .*; allowed: "):
        dataclasses.replace(PJM, **{field: value})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ratio_from_uniform(PJM, [0.5, 1.5]), r"u\[1\] = 1.5"),
        (lambda: ratio_from_uniform(PJM, [np.nan]), r"u\[0\] = nan"),
        (lambda: trace(PJM, 1.7, np.random.default_rng(0)), "ratio = 1.7"),
        (lambda: trace(PJM, 1.0, np.random.default_rng(0), 5), "seconds = 5"),
        (lambda: trace(PJM, 1.0, np.random.default_rng(0), 2), "seconds = 2"),
        (lambda: performance([0.0, 1.1], 1.0, 1.0), r"signal\[1\] = 1.1"),
        (lambda: performance([0.0, 1.0], -1.0, 1.0), "bid_kw = -1.0"),
        (lambda: performance([0.0, 1.0], 1.0, -1.0), "available_kw = -1.0"),
        (lambda: delivered_share(-1.0, 1.0, 1.0), "available_kw"),
        (lambda: delivered_share([1.0, 2.0], [1.0, 1.0, 1.0], 1.0), "shapes of"),
        (lambda: net_discharge([]), "length of signal = 0"),
        (lambda: gamma_statistics(PJM, 0), "traces = 0"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(InvalidInputError, match=text):
        call()
