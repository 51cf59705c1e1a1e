"""Inverse optimisation: any observed flow is met exactly, and what is not identified changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.calibration import calibrate, default_deviation
from v2g_env.stackelberg.diary import network, time_activity
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import DriverClass

DIAMOND = {"tail": (0, 0, 1, 1, 2), "head": (1, 2, 2, 3, 3), "period": (0, -1, 1, 1, -1), "source": 0, "sink": 3}
FLOW = np.array([0.7, 0.3, 0.5, 0.2, 0.8])


def flow_of(each, rebate=(0.0, 0.0)):
    return respond(arcs_of((DriverClass("drivers", 1.0, each),)), np.array([rebate])).flow[0]


def test_mean_utilities_have_the_closed_form():
    each = calibrate(**DIAMOND, flow=FLOW, deviation_usd=0.3)
    assert each.mean_usd == pytest.approx(0.3 * (2 * FLOW - 1) / (2 * np.sqrt(FLOW * (1 - FLOW))), abs=1e-15)
    assert each.mean_usd[2] == 0.0
    assert each.deviation_usd == (0.3,) * 5


@settings(max_examples=50, deadline=None)
@given(
    first=st.floats(0.01, 0.98),
    middle=st.floats(0.01, 0.99),
    sigma=st.lists(st.floats(0.01, 10.0), min_size=5, max_size=5),
)
def test_any_flow_is_reproduced_whatever_the_deviations(first, middle, sigma):
    flow = np.array([first, 1 - first, first * middle, first * (1 - middle), 1 - first * (1 - middle)])
    if flow.min() < 0.001 or flow.max() > 0.999:
        return
    assert np.abs(flow_of(calibrate(**DIAMOND, flow=flow, deviation_usd=sigma)) - flow).max() < 1e-9


def test_node_prices_change_no_behaviour_under_any_rebate():
    plain = calibrate(**DIAMOND, flow=FLOW, deviation_usd=0.3)
    priced = calibrate(**DIAMOND, flow=FLOW, deviation_usd=0.3, node_price=[5.0, -2.0, 1.0, 3.0])
    assert plain.mean_usd != priced.mean_usd
    for rebate in ((0.0, 0.0), (0.5, -0.2), (0.0, 2.0)):
        assert flow_of(priced, rebate) == pytest.approx(flow_of(plain, rebate), abs=1e-10)
    for path in ((0, 2, 4), (0, 3), (1, 4)):  # every path gains rho_source - rho_sink = 2
        gain = sum(priced.mean_usd[a] - plain.mean_usd[a] for a in path)
        assert gain == pytest.approx(2.0, abs=1e-12)


def test_the_deviation_sets_how_far_a_dollar_goes():
    small, large = (calibrate(**DIAMOND, flow=FLOW, deviation_usd=s) for s in (0.1, 0.2))
    assert flow_of(small, (0.3, 0.0)) == pytest.approx(flow_of(large, (0.6, 0.0)), abs=1e-12)


def test_shares_beyond_the_limits_by_rounding_are_clipped():
    flow = [0.999 + 1e-12, 0.001 - 1e-12]
    each = calibrate((0, 0), (1, 1), (0, -1), 0, 1, flow, 1.0)
    assert each.mean_usd[0] == pytest.approx(-each.mean_usd[1], rel=1e-12)
    assert each.mean_usd[0] == pytest.approx(0.998 / (2 * np.sqrt(0.000999)), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"flow": [0.7, 0.3, 0.5, 0.3, 0.8]}, "flow at node 1 = 0.1"),
        ({"flow": [0.7, 0.3, 0.5, 0.2]}, "shape of flow"),
        ({"flow": [1.7, -0.7, 0.5, 0.2, 0.8]}, r"flow\[0\] = 1.7"),
        ({"flow": [0.7, 0.3, 0.5, 0.2, np.nan]}, r"flow\[4\] = nan"),
        (
            {"flow": [1.0, 0.0, 0.5, 0.5, 0.5]},
            r"flow \(clipped to \[0.001, 0.999\]; outside: 2 arcs, \[0, 1\]\) at node 1 = .*shares must be a flow",
        ),
        ({"deviation_usd": 0.0}, "deviation_usd = 0.0"),
        ({"deviation_usd": -1.0}, "deviation_usd"),
        ({"deviation_usd": [0.1, 0.2]}, "shape of deviation_usd"),
        ({"node_price": [0.0]}, "shape of node_price"),
        ({"head": (1, 2, 2, 3, 0)}, "cycle"),
    ],
)
def test_bad_observations_are_refused(changes, text):
    with pytest.raises(InvalidInputError, match=text):
        calibrate(**{**DIAMOND, "flow": FLOW, "deviation_usd": 0.3, **changes})


def test_default_deviation_is_proportional_to_the_baseline_utility():
    assert default_deviation() == pytest.approx(0.194)
    assert default_deviation(400) == pytest.approx(0.388)
    with pytest.raises(InvalidInputError, match="baseline_utility_usd = 0"):
        default_deviation(0)


def test_utilities_scale_with_the_deviation_on_the_default_network():
    diary = time_activity()
    one, two = network(diary, 0.1), network(diary, 0.2)
    assert np.array(two.mean_usd) == pytest.approx(2 * np.array(one.mean_usd), rel=1e-12)
