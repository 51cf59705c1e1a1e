"""The drivers' response against optimality conditions, closed forms and an independent conic solver."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.diary import network, time_activity
from v2g_env.stackelberg.follower import arcs_of, respond, start_prices, values_of
from v2g_env.stackelberg.game import DriverClass
from v2g_env.stackelberg.network import Network


def random_network(seed, nodes=7, periods=3):
    """Every node has two to four arcs to later ones, so that every arc can be avoided."""
    rng = np.random.default_rng(seed)
    tail, head, reached = [], [], {0}
    for node in range(nodes - 1):
        for _ in range(int(rng.integers(2, 5))) if node in reached else ():
            tail.append(node)
            head.append(int(rng.integers(node + 1, nodes)))
            reached.add(head[-1])
    arcs = len(tail)
    period = rng.integers(-1, periods, arcs)
    period[0] = periods - 1
    mean, deviation = rng.normal(0.0, 1.0, arcs), np.exp(rng.normal(-0.5, 0.7, arcs))
    return Network(tuple(tail), tuple(head), tuple(mean), tuple(deviation), tuple(period), 0, nodes - 1)


def compiled(*networks):
    return arcs_of(tuple(DriverClass(f"class {i}", 1 / len(networks), each) for i, each in enumerate(networks)))


@pytest.fixture(scope="module")
def default():
    return network(time_activity())


@pytest.fixture(scope="module")
def rebates():
    return np.random.default_rng(5).integers(0, 21, (6, 24)) * 0.05


def balance(arcs, flow):
    """Out minus in of every node but the sinks, less 1 at the sources."""
    inside = arcs.head >= 0
    result = np.bincount(arcs.tail, flow, arcs.nodes) - np.bincount(arcs.head[inside], flow[inside], arcs.nodes)
    result[arcs.source] -= 1.0
    return result


def utilities(arcs, rebate):
    return arcs.mean + np.where(arcs.period >= 0, rebate[np.maximum(arcs.period, 0)], 0.0)


def expected_utility(arcs, rebate, flow):
    """The primal objective, for one class."""
    return float(utilities(arcs, rebate) @ flow + arcs.deviation @ np.sqrt(flow * (1.0 - flow)))


def conic(each, rebate):
    """Flow and value by the published conic programme, solved by Clarabel."""
    incidence = np.zeros((each.nodes, each.arcs))
    incidence[each.tail, np.arange(each.arcs)] += 1.0
    incidence[each.head, np.arange(each.arcs)] -= 1.0
    supply = np.zeros(each.nodes)
    supply[each.source], supply[each.sink] = 1.0, -1.0
    mean = np.array(each.mean_usd) + np.where(np.array(each.period) >= 0, rebate[np.maximum(each.period, 0)], 0.0)
    y, w = cp.Variable(each.arcs), cp.Variable(each.arcs)
    cones = cp.SOC(np.ones(each.arcs), cp.vstack([2 * w, 2 * y - 1]), axis=0)
    problem = cp.Problem(cp.Maximize(mean @ y + np.array(each.deviation_usd) @ w), [incidence @ y == supply, cones])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10)
    return y.value, problem.value


@pytest.mark.parametrize("seed", range(6))
def test_small_networks_agree_with_the_conic_programme(seed):
    each = random_network(seed)
    rebate = np.random.default_rng(seed).uniform(-1.0, 2.0, 3)
    response = respond(compiled(each), rebate[None])
    flow, value = conic(each, rebate)
    assert np.abs(response.flow[0] - flow).max() < 1e-5
    assert response.value[0, 0] == pytest.approx(value, abs=1e-6)


def test_default_network_agrees_with_the_conic_programme(default, rebates):
    response = respond(compiled(default), rebates[:2])
    for row in range(2):
        flow, value = conic(default, rebates[row])
        assert np.abs(response.flow[row] - flow).max() < 1e-5
        assert response.value[row, 0] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(("means", "deviations"), [((0.3, -0.1), (0.2, 0.2)), ((-2.0, 1.0), (0.1, 0.7))])
def test_two_paths_have_the_closed_form(means, deviations):
    arcs = compiled(Network((0, 0), (1, 1), means, deviations, (0, -1), 0, 1))
    rebate = np.array([[0.0], [0.25]])
    gap = means[0] + rebate[:, 0] - means[1]
    root = np.hypot(gap, sum(deviations))
    response = respond(arcs, rebate)
    assert response.flow[:, 0] == pytest.approx(0.5 * (1.0 + gap / root), abs=1e-12)
    assert response.value[:, 0] == pytest.approx(0.5 * (means[0] + rebate[:, 0] + means[1] + root), abs=1e-12)


def test_response_is_a_flow_that_meets_the_optimality_conditions(default, rebates):
    arcs = compiled(default)
    response = respond(arcs, rebates)
    for row, rebate in enumerate(rebates):
        assert np.abs(balance(arcs, response.flow[row])).max() < 1e-12
        price = np.append(response.price[row], 0.0)  # number -1, the sink
        lam = utilities(arcs, rebate) - price[arcs.tail] + price[arcs.head]
        assert response.flow[row] == pytest.approx(0.5 * (1.0 + lam / np.hypot(lam, arcs.deviation)), abs=1e-12)
        y = response.flow[row]
        assert arcs.deviation * (2 * y - 1) / (2 * np.sqrt(y * (1 - y))) == pytest.approx(lam, abs=1e-9)
    assert response.residual.max() < 1e-12


def test_value_is_the_expected_utility_and_an_upper_bound_for_any_prices(default, rebates):
    arcs = compiled(default)
    response = respond(arcs, rebates)
    reached = [expected_utility(arcs, rebate, flow) for rebate, flow in zip(rebates, response.flow, strict=True)]
    assert response.value[:, 0] == pytest.approx(reached, abs=1e-10)
    other = response.price + np.random.default_rng(0).normal(0.0, 0.1, response.price.shape)
    bound = values_of(*arcs[:5], arcs.group, arcs.source, rebates, other)[:, 0]
    assert (bound > np.array(reached) + 1e-3).all()


def test_value_rises_with_rebates_and_is_convex_in_them(default):
    arcs = compiled(default)
    rng = np.random.default_rng(1)
    low, high = rng.uniform(0.0, 1.0, (2, 8, 24))
    value = [respond(arcs, r).value[:, 0] for r in (low, high, 0.5 * (low + high), low + 0.1 * high)]
    assert (value[2] <= 0.5 * (value[0] + value[1]) + 1e-12).all()
    assert (value[3] >= value[0]).all()


def test_rows_do_not_depend_on_the_batch_bit_for_bit(default, rebates):
    arcs = compiled(default)
    together = respond(arcs, rebates)
    for row in range(len(rebates)):
        alone = respond(arcs, rebates[row : row + 1])
        for field, value in alone._asdict().items():
            assert np.array_equal(value[0], getattr(together, field)[row]), field
    backward = respond(arcs, rebates[::-1])
    assert np.array_equal(backward.flow[::-1], together.flow)
    assert respond(arcs, rebates[:0]).flow.shape == (0, default.arcs)


def test_start_prices_change_the_answer_by_rounding_only(default, rebates):
    arcs = compiled(default)
    cold = respond(arcs, rebates)
    assert np.abs(respond(arcs, rebates, np.zeros(arcs.nodes)).flow - cold.flow).max() < 1e-11
    assert np.abs(respond(arcs, rebates, cold.price).flow - cold.flow).max() < 1e-11
    assert start_prices(arcs).shape == (arcs.nodes,)


def plugged(arcs, flow, periods):
    chosen = arcs.period >= 0
    return np.stack([np.bincount(arcs.period[chosen], row[chosen], periods) for row in flow])


def test_plugged_shares_are_the_gradient_of_the_value_and_their_derivatives_are_symmetric(default):
    arcs = compiled(default)
    base = np.random.default_rng(2).uniform(0.0, 0.6, 24)
    step = 1e-4
    up, down = (respond(arcs, base + sign * step * np.eye(24)) for sign in (1.0, -1.0))
    slope = (up.value - down.value)[:, 0] / (2 * step)
    assert slope == pytest.approx(plugged(arcs, respond(arcs, base[None]).flow, 24)[0], abs=1e-6)
    change = (plugged(arcs, up.flow, 24) - plugged(arcs, down.flow, 24)) / (2 * step)
    assert np.abs(change - change.T).max() < 1e-6
    assert np.linalg.eigvalsh(0.5 * (change + change.T)).min() > -1e-6  # convex
    assert (np.diag(change) > 0.0).all()


@pytest.mark.parametrize("size", [20.0, 1000.0])
def test_extreme_rebates_send_nearly_all_drivers_where_they_pay(default, size):
    arcs = compiled(default)
    sign = np.where(np.arange(24) % 3 == 0, -1.0, 1.0)
    response = respond(arcs, size * np.array([np.ones(24), -np.ones(24), sign]))
    assert np.abs([balance(arcs, flow) for flow in response.flow]).max() <= 1e-9
    share = plugged(arcs, response.flow, 24)
    assert (share[0] > 0.99).all()
    assert (share[1] < 0.01).all()
    assert (response.flow > 0.0).all() and (response.flow < 1.0).all()


def test_classes_respond_as_each_would_alone(default, rebates):
    other = network(time_activity((0, 0, 1)))
    both = compiled(default, other)
    response = respond(both, rebates)
    for k, each in enumerate((default, other)):
        alone = respond(compiled(each), rebates)
        assert np.abs(response.flow[:, both.group == k] - alone.flow).max() < 1e-11
        assert response.value[:, k] == pytest.approx(alone.value[:, 0], abs=1e-11)


def test_node_numbers_of_the_network_do_not_matter():
    each = random_network(11)
    name = np.random.default_rng(0).permutation(each.nodes)
    renamed = Network(
        tuple(name[list(each.tail)]),
        tuple(name[list(each.head)]),
        each.mean_usd,
        each.deviation_usd,
        each.period,
        int(name[each.source]),
        int(name[each.sink]),
    )
    rebate = np.array([[0.5, 0.0, 1.0]])
    assert respond(compiled(renamed), rebate).flow == pytest.approx(respond(compiled(each), rebate).flow, abs=1e-12)


@pytest.mark.parametrize(
    ("rebate", "text"),
    [
        (np.zeros(24), "shape of rebate_usd"),
        (np.zeros((1, 23)), r"shape of rebate_usd = \(1, 23\); allowed: \(n, at least 24\)"),
        (np.full((1, 24), np.nan), r"rebate_usd\[0, 0\] = nan"),
    ],
)
def test_bad_rebates_are_refused(default, rebate, text):
    with pytest.raises(InvalidInputError, match=text):
        respond(compiled(default), rebate)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(2, 12), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_any_network_gets_a_flow_without_gap(seed, nodes, scale):
    each = random_network(seed, nodes)
    arcs = compiled(each)
    rebate = np.random.default_rng(seed).uniform(-scale, scale, 3)
    response = respond(arcs, rebate[None])
    flow = response.flow[0]
    assert np.abs(balance(arcs, flow)).max() < 1e-10
    assert (flow > 0.0).all() and (flow < 1.0).all()
    value = response.value[0, 0]
    assert value == pytest.approx(expected_utility(arcs, rebate, flow), abs=1e-8 * (1.0 + scale))
    longest = np.full(each.nodes, -np.inf)  # the best path by mean utility is worth no more
    longest[each.sink] = 0.0
    for a in np.argsort(each.tail, kind="stable")[::-1]:
        longest[each.tail[a]] = max(longest[each.tail[a]], utilities(arcs, rebate)[a] + longest[each.head[a]])
    assert value >= longest[each.source] - 1e-9
