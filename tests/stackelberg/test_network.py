"""A network is checked once, at construction, and errors say what is wrong where."""

import json

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.network import Network

DIAMOND = {
    "tail": (0, 0, 1, 2),
    "head": (1, 2, 3, 3),
    "mean_usd": (1.0, 0.5, -0.25, 0.0),
    "deviation_usd": (0.2, 0.2, 0.1, 0.3),
    "period": (0, -1, 1, -1),
    "source": 0,
    "sink": 3,
}


def changed(**fields):
    return Network(**{**DIAMOND, **fields})


def test_a_good_network_is_accepted_and_knows_its_size():
    network = Network(**DIAMOND)
    assert (network.arcs, network.nodes, network.order) == (4, 4, (0, 1, 2, 3))


def test_nodes_may_be_numbered_in_any_order():
    network = changed(tail=(3, 3, 2, 1), head=(2, 1, 0, 0), source=3, sink=0)
    place = {node: i for i, node in enumerate(network.order)}
    assert all(place[i] < place[j] for i, j in zip(network.tail, network.head, strict=True))


def test_parallel_arcs_are_allowed():
    assert Network((0, 0), (1, 1), (0.0, 1.0), (1.0, 1.0), (0, -1), 0, 1).arcs == 2


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tail": (0, 0, 1, 3), "head": (1, 2, 3, 1)}, "cycle"),
        ({"tail": (0, 0, 1, 1), "head": (1, 1, 2, 2), "sink": 3}, r"sink = 3; allowed: an integer in \[0, 2\]"),
        ({"tail": (0, 0, 2, 2), "head": (1, 1, 3, 3)}, "no path from source to sink"),
        ({"tail": (0, 0, 1, 2), "head": (3, 3, 3, 3)}, r"arc 2 \(1 -> 3\) = 'on no path"),
        ({"tail": (0, 0, 0, 2), "head": (3, 3, 1, 3)}, r"arc 2 \(0 -> 1\) = 'on no path"),
        ({"tail": (0, 1, 1, 2), "head": (1, 2, 3, 3)}, r"arc 0 \(0 -> 1\) = 'on every path.*contract it"),
        ({"head": (1, 2, 3)}, "length of head = 3; allowed: 4, as tail"),
        ({"period": (0, -1, 1)}, "length of period = 3"),
        ({"mean_usd": (1.0, 0.5, 0.0)}, r"shape of mean_usd = \(3,\); allowed: \(4\)"),
        ({"deviation_usd": (0.1,) * 5}, "shape of deviation_usd"),
        ({"mean_usd": (1.0, float("nan"), 0.0, 0.0)}, r"mean_usd\[1\] = nan; allowed: finite"),
        ({"mean_usd": (1.0, float("inf"), 0.0, 0.0)}, r"mean_usd\[1\] = inf"),
        ({"deviation_usd": (0.1, 0.1, -0.1, 0.1)}, r"deviation_usd\[2\] = -0.1"),
        ({"deviation_usd": (0.1, 0.1, 0.0, 0.1)}, "deviation_usd = 0.0; allowed: positive"),
        ({"mean_usd": (True, 0.0, 0.0, 0.0)}, "mean_usd = .*allowed: an array of numbers"),
        ({"mean_usd": ("1", 0.0, 0.0, 0.0)}, "mean_usd"),
        ({"tail": (False, 0, 1, 2)}, "tail = .*whole numbers"),
        ({"tail": (0, 0, 1.5, 2)}, "tail = .*whole numbers"),
        ({"tail": ("0", 0, 1, 2)}, "tail = .*whole numbers"),
        ({"tail": 3}, "tail = 3; allowed: whole numbers"),
        ({"tail": (0, -1, 1, 2)}, "tail = -1"),
        ({"period": (0, -2, 1, -1)}, "period = -2; allowed: -1"),
        ({"tail": (), "head": (), "mean_usd": (), "deviation_usd": (), "period": ()}, "at least one arc"),
        ({"source": True}, "source = True"),
        ({"source": 0.0}, "source = 0.0"),
        ({"sink": 0}, "sink = 0; allowed: a node other than the source"),
        ({"sink": 4}, r"sink = 4; allowed: an integer in \[0, 3\]"),
    ],
)
def test_bad_fields_are_named(fields, text):
    with pytest.raises(InvalidInputError, match=text):
        changed(**fields)


def test_a_network_survives_json():
    network = Network(**DIAMOND)
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({**DIAMOND, "utility": 1}, "field of the network = 'utility'"),
        ({k: v for k, v in DIAMOND.items() if k != "sink"}, "field sink of the network = 'missing'"),
        ([1, 2], "network = 'list'; allowed: a table"),
    ],
)
def test_unknown_and_missing_keys_are_errors(values, text):
    with pytest.raises(InvalidInputError, match=text):
        Network.from_dict(values)


def test_arrays_become_plain_numbers():
    network = changed(tail=np.array(DIAMOND["tail"]), mean_usd=np.array([1.0, 0.5, -0.25, -0.0]))
    assert network.to_dict()["tail"] == [0, 0, 1, 2]
    assert str(network.mean_usd[3]) == "0.0"
    assert hash(network) == hash(Network(**DIAMOND))


def test_check_flow_accepts_a_unit_flow_and_names_the_node_where_it_leaks():
    network = Network(**DIAMOND)
    assert np.array_equal(network.check_flow([0.25, 0.75, 0.25, 0.75]), [0.25, 0.75, 0.25, 0.75])
    with pytest.raises(InvalidInputError, match="flow at node 1 = 0.125"):
        network.check_flow([0.25, 0.75, 0.375, 0.6875])
    with pytest.raises(InvalidInputError, match="shares at node 0"):
        network.check_flow([0.25, 0.5, 0.25, 0.75], "shares")
    with pytest.raises(InvalidInputError, match=r"flow\[0\] = -0.25"):
        network.check_flow([-0.25, 1.0, -0.25, 1.0])


def test_a_path_with_two_arcs_of_one_period_is_refused():
    arcs = {"tail": (0, 0, 1, 1), "head": (1, 1, 2, 2), "period": (0, -1, 0, -1)}
    network = Network(mean_usd=(0.0,) * 4, deviation_usd=(1.0,) * 4, source=0, sink=2, **arcs)
    with pytest.raises(InvalidInputError, match="one arc per period on every path"):
        network.check_periods()
