"""Sampled drivers reproduce shares and moments; no law with these moments is worth more than the persistency value."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg import population
from v2g_env.stackelberg.diary import network, time_activity
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import DriverClass
from v2g_env.stackelberg.network import Network
from v2g_env.stackelberg.population import counts, extremal_utilities, independent_normal, longest_paths, walk

TINY = (
    Network((0, 0), (1, 1), (0.2, -0.1), (0.3, 0.5), (0, -1), 0, 1),
    Network((0, 0, 1, 2), (1, 2, 3, 3), (0.1, 0.4, 0.0, -0.3), (0.2, 0.4, 0.6, 0.1), (0, 1, -1, -1), 0, 3),
    Network(
        (0, 0, 1, 1, 2), (1, 2, 2, 3, 3), (0.5, 0.2, -0.1, 0.3, 0.3), (0.4, 0.3, 0.2, 0.5, 0.3), (0, 1, 0, 1, 0), 0, 3
    ),
)
REBATE = np.array([0.3, -0.1])


def compiled(*networks):
    return arcs_of(tuple(DriverClass(f"class {i}", 1 / len(networks), each) for i, each in enumerate(networks)))


@pytest.fixture(scope="module")
def default():
    """Compiled default network, a rebate schedule and the response to it."""
    arcs = compiled(network(time_activity()))
    rebate = np.random.default_rng(3).integers(0, 9, 24) * 0.05
    return arcs, rebate, respond(arcs, rebate[None])


@pytest.fixture(scope="module")
def two_classes():
    arcs = compiled(network(time_activity((1, 0, 0))), network(time_activity((0, 0, 1))))
    return arcs, respond(arcs, np.zeros((1, 24))).flow[0]


def all_paths(each):
    """Every source-sink path as a row of zeros and ones."""
    found, stack = [], [(each.source, ())]
    while stack:
        node, taken = stack.pop()
        if node == each.sink:
            found.append([a in taken for a in range(each.arcs)])
        stack += [(each.head[a], (*taken, a)) for a in range(each.arcs) if each.tail[a] == node]
    return np.array(found)


def walk_probability(each, flow, paths):
    through = np.bincount(each.tail, flow, each.nodes)
    return np.where(paths, flow / through[list(each.tail)], 1.0).prod(1)


@pytest.mark.parametrize("each", TINY)
def test_extremal_law_has_the_moments_the_shares_and_the_value_exactly(each):
    arcs = compiled(each)
    response = respond(arcs, REBATE[None])
    flow, paths = response.flow[0], all_paths(each)
    chance = walk_probability(each, flow, paths)
    assert chance.sum() == pytest.approx(1.0, abs=1e-14)
    assert chance @ paths == pytest.approx(flow, abs=1e-13)
    utility = extremal_utilities(arcs, flow, paths, REBATE)
    mean = chance @ utility
    expected = arcs.mean + np.where(arcs.period >= 0, REBATE[np.maximum(arcs.period, 0)], 0.0)
    assert mean == pytest.approx(expected, abs=1e-13)
    assert np.sqrt(chance @ (utility - mean) ** 2) == pytest.approx(arcs.deviation, abs=1e-13)
    longest = longest_paths(arcs, utility)
    assert np.array_equal(longest.paths, paths)
    assert chance @ longest.value[:, 0] == pytest.approx(response.value[0, 0], abs=1e-13)


@settings(max_examples=60, deadline=None)
@given(which=st.integers(0, 2), seed=st.integers(0, 10**6), tied=st.booleans())
def test_no_two_point_law_is_worth_more_than_the_persistency_value(which, seed, tied):
    each = TINY[which]
    arcs, paths = compiled(each), all_paths(each)
    chance_high = np.random.default_rng(seed).uniform(0.02, 0.98, each.arcs)
    high = arcs.mean + arcs.deviation * np.sqrt((1 - chance_high) / chance_high)
    low = arcs.mean - arcs.deviation * np.sqrt(chance_high / (1 - chance_high))
    if tied:  # one uniform decides all arcs
        edges = np.concatenate([[0.0], np.sort(chance_high), [1.0]])
        ups, chance = (edges[:-1, None] < chance_high).astype(bool), np.diff(edges)
    else:
        ups = np.array(list(itertools.product((False, True), repeat=each.arcs)))
        chance = np.where(ups, chance_high, 1 - chance_high).prod(1)
    utility = np.where(ups, high, low)
    assert chance @ utility == pytest.approx(arcs.mean, abs=1e-12)
    worth = chance @ (utility @ paths.T).max(1)
    assert worth <= respond(arcs, np.zeros((1, 2))).value[0, 0] + 1e-12


def test_longest_paths_are_the_best_of_all(default):
    for each in TINY:
        utility = np.random.default_rng(0).normal(size=(200, each.arcs))
        days, paths = longest_paths(compiled(each), utility), all_paths(each)
        assert days.value[:, 0] == pytest.approx((utility @ paths.T).max(1), abs=1e-12)
        assert (days.paths * utility).sum(1) == pytest.approx(days.value[:, 0], abs=1e-12)


def test_walks_on_the_default_network_reproduce_shares_moments_and_value(default):
    arcs, rebate, response = default
    flow, drivers = response.flow[0], 20_000
    paths = walk(arcs, flow, drivers, np.random.default_rng(0))
    error = (paths.mean(0) - flow) / np.sqrt(flow * (1 - flow) / drivers)
    assert np.abs(error).max() < 4.5
    assert (error**2).mean() < 1.5
    utility = extremal_utilities(arcs, flow, paths, rebate)
    days = longest_paths(arcs, utility)
    assert np.array_equal(days.paths, paths)  # what a driver does is the best he can do
    error = (days.value.mean() - response.value[0, 0]) / (days.value.std() / np.sqrt(drivers))
    assert abs(error) < 4.0


def test_every_walk_is_a_path_of_each_class(two_classes):
    arcs, flow = two_classes
    paths = walk(arcs, flow, 50, np.random.default_rng(1))
    inside = arcs.head >= 0
    for path in paths:
        out = np.bincount(arcs.tail, path, arcs.nodes) - np.bincount(arcs.head[inside], path[inside], arcs.nodes)
        assert np.array_equal(np.flatnonzero(out), np.sort(arcs.source))
        assert (out[arcs.source] == 1).all()


def test_independent_normal_utilities_follow_another_flow_and_are_worth_less(default):
    arcs, rebate, response = default
    days = independent_normal(arcs, rebate, 5_000, np.random.default_rng(0))
    assert days.value.mean() < response.value[0, 0] - 1.0
    assert np.abs(days.paths.mean(0) - response.flow[0]).max() > 0.1
    again = independent_normal(arcs, rebate, 5_000, np.random.default_rng(0))
    assert np.array_equal(again.paths, days.paths)


def test_counts_conserve_drivers_at_every_node(two_classes):
    arcs, flow = two_classes
    drivers = np.array([37, 200])
    result = counts(arcs, flow, drivers, np.random.default_rng(2).random((50, len(flow))))
    inside = arcs.head >= 0
    for row in result:
        out = np.bincount(arcs.tail, row, arcs.nodes) - np.bincount(arcs.head[inside], row[inside], arcs.nodes)
        assert np.array_equal(out[arcs.source], drivers)
        assert np.count_nonzero(out) == 2
    assert result.min() >= 0


def test_counts_have_the_mean_and_variance_of_independent_walks(default):
    arcs, _, response = default
    flow, drivers, rows = response.flow[0], 200, 20_000
    result = counts(arcs, flow, [drivers], np.random.default_rng(4).random((rows, len(flow))))
    variance = drivers * flow * (1 - flow)
    error = (result.mean(0) - drivers * flow) / np.sqrt(variance / rows)
    assert np.abs(error).max() < 4.5
    assert result.var(0) == pytest.approx(variance, rel=0.08)


@pytest.mark.parametrize("n", [1, 7, 200, 5_000, 10**6])
@pytest.mark.parametrize("p", [1e-4, 0.03, 0.5, 0.8, 0.999])
def test_binomials_are_exact(n, p):
    low, high = (int(v) for v in binom.ppf([1e-9, 1 - 1e-9], n, p))
    for k in np.unique(np.linspace(max(low, 0), min(high, n), 15).astype(int)):
        below, at = binom.cdf(k - 1, n, p), binom.cdf(k, n, p)
        if at - below > 1e-8:  # else rounding decides
            for place in (0.001, 0.5, 0.999):
                assert population.binomial(n, p, below + place * (at - below)) == k


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 10_000), p=st.floats(0.0, 1.0), u=st.floats(0.0, 1.0), v=st.floats(0.0, 1.0))
def test_binomials_lie_in_their_range_and_never_fall_with_the_uniform(n, p, u, v):
    low, high = (population.binomial(n, p, x) for x in sorted((u, v)))
    assert 0 <= low <= high <= n


def test_a_uniform_moves_its_own_arc_up_and_leaves_earlier_ones_alone(default):
    arcs, _, response = default
    uniforms = np.tile(np.random.default_rng(5).random(len(arcs.tail)), (9, 1))
    uniforms[:, 40] = np.linspace(0.01, 0.99, 9)
    result = counts(arcs, response.flow[0], [200], uniforms)
    assert (np.diff(result[:, 40]) >= 0).all()
    before = arcs.tail < arcs.tail[40]
    assert (result[:, before] == result[0, before]).all()


def test_rows_of_counts_do_not_depend_on_each_other(default):
    arcs, _, response = default
    rng = np.random.default_rng(6)
    uniforms, flows = rng.random((4, len(arcs.tail))), respond(arcs, rng.random((4, 24))).flow
    together = counts(arcs, flows, [[10], [20], [30], [40]], uniforms)
    for row in range(4):
        assert np.array_equal(counts(arcs, flows[row], [10 * (row + 1)], uniforms[row : row + 1])[0], together[row])
    assert counts(arcs, flows[0], [5], uniforms[:0]).shape == (0, len(arcs.tail))


def test_counting_is_fast(default):
    arcs, _, response = default
    uniforms = np.random.default_rng(7).random((4000, len(arcs.tail)))
    counts(arcs, response.flow[0], [200], uniforms[:2])
    best = np.inf
    for _ in range(3):
        begin = time.perf_counter()
        counts(arcs, response.flow[0], [200], uniforms)
        best = min(best, time.perf_counter() - begin)
    assert 4000 / best > 5_000  # rows a second; four times as many on an idle core


@pytest.mark.parametrize(
    ("flow", "drivers", "uniforms", "text"),
    [
        (np.full(3, 0.5), [5], np.full((1, 2), 0.5), "shape of flow"),
        (np.array([1.5, -0.5]), [5], np.full((1, 2), 0.5), r"flow\[0\] = 1.5"),
        (np.full(2, 0.5), [5, 5], np.full((1, 2), 0.5), "shape of drivers"),
        (np.full(2, 0.5), [2.5], np.full((1, 2), 0.5), r"drivers = \[2.5\]; allowed: whole"),
        (np.full(2, 0.5), [-1], np.full((1, 2), 0.5), r"drivers\[0\] = -1"),
        (np.full(2, 0.5), [5], np.full((1, 3), 0.5), "shape of uniforms"),
        (np.full(2, 0.5), [5], np.full((1, 2), 1.5), r"uniforms\[0, 0\] = 1.5"),
        (np.full((2, 2), 0.5), [5], np.full((1, 2), 0.5), "shape of flow"),
    ],
)
def test_bad_counts_are_refused(flow, drivers, uniforms, text):
    with pytest.raises(InvalidInputError, match=text):
        counts(compiled(TINY[0]), flow, drivers, uniforms)


def test_bad_samples_are_refused():
    arcs, rng = compiled(TINY[0]), np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="drivers = 0"):
        walk(arcs, [0.5, 0.5], 0, rng)
    with pytest.raises(InvalidInputError, match="drivers = True"):
        independent_normal(arcs, REBATE, True, rng)
    with pytest.raises(InvalidInputError, match="length of rebate_usd = 0; allowed: at least 1"):
        independent_normal(arcs, [], 5, rng)
    with pytest.raises(InvalidInputError, match=r"flow = \[0.0, 1.0\]; allowed: shares inside"):
        extremal_utilities(arcs, [1.0, 0.0], np.array([[True, False]]), REBATE)
    with pytest.raises(InvalidInputError, match="shape of utility_usd"):
        longest_paths(arcs, [[1.0, 2.0, 3.0]])
