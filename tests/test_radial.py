"""Radial networks: the tree that lines make, what hangs below each of them, and networks that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.radial import Tree
from v2g_env.core.validate import InvalidInputError


@st.composite
def networks(draw):
    """A tree whose buses have random names, whose lines come in random order and point in random directions."""
    buses = draw(st.integers(1, 12))
    parents = [draw(st.integers(0, k)) for k in range(buses - 1)]
    names = [0, *draw(st.permutations(range(1, buses)))]
    lines = [(names[p], names[k + 1]) for k, p in enumerate(parents)]
    lines = [pair[::-1] if draw(st.booleans()) else pair for pair in draw(st.permutations(lines))]
    return Tree(buses, tuple(lines))


def reached_without(tree, line):
    """Buses that the source still reaches when a line is cut."""
    reached = {0}
    for _ in range(tree.buses):
        for k, (a, b) in enumerate(tree.ends):
            if k != line and (a in reached or b in reached):
                reached |= {a, b}
    return reached


@settings(max_examples=60, deadline=None)
@given(networks())
def test_below_a_line_hang_the_buses_that_are_dark_when_it_is_cut(tree):
    for line in range(len(tree.ends)):
        dark = set(range(tree.buses)) - reached_without(tree, line)
        assert set(np.flatnonzero(tree.below[line]).tolist()) == dark
    assert tree.below.shape == (tree.buses - 1, tree.buses)
    assert np.isin(tree.below, (0.0, 1.0)).all()


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(0, 2**31))
def test_flows_balance_at_every_bus(tree, seed):
    """Flow in from above = own consumption + flows to the buses below; the source gives everything."""
    use = np.random.default_rng(seed).normal(size=tree.buses)
    flow = tree.below @ use
    for bus in range(tree.buses):
        out = sum(flow[tree.line_above[other]] for other in range(tree.buses) if tree.parent[other] == bus)
        into = use.sum() if bus == 0 else flow[tree.line_above[bus]]
        assert into == pytest.approx(use[bus] + out, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_parents_come_first_and_are_connected_by_the_line_above(tree):
    assert sorted(tree.order.tolist()) == list(range(tree.buses))
    place = {bus: k for k, bus in enumerate(tree.order.tolist())}
    assert tree.order[0] == 0
    assert tree.parent[0] == tree.line_above[0] == -1
    for bus in range(1, tree.buses):
        assert place[int(tree.parent[bus])] < place[bus]
        assert set(tree.ends[tree.line_above[bus]]) == {bus, int(tree.parent[bus])}


@settings(max_examples=30, deadline=None)
@given(networks(), st.integers(0, 2**31))
def test_direction_in_which_a_line_is_written_does_not_matter(tree, seed):
    turn = np.random.default_rng(seed).random(len(tree.ends)) < 0.5
    other = Tree(tree.buses, tuple(pair[::-1] if t else pair for pair, t in zip(tree.ends, turn, strict=True)))
    np.testing.assert_array_equal(other.below, tree.below)
    np.testing.assert_array_equal(other.parent, tree.parent)


def test_small_tree_by_hand():
    tree = Tree.of([2, 1, 1], [0, 2, 3], 4)  # 0 - 2 - 1 - 3
    assert tree.ends == ((2, 0), (1, 2), (1, 3))
    assert tree.parent.tolist() == [-1, 2, 0, 1]
    assert tree.order.tolist() == [0, 2, 1, 3]
    assert tree.below.tolist() == [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_one_bus_is_a_network():
    tree = Tree(1, ())
    assert tree.below.shape == (0, 1)
    assert tree.order.tolist() == [0]


@pytest.mark.parametrize(
    ("buses", "ends", "complaint"),
    [
        (3, ((0, 1), (1, 3)), "bus of line 1 = 3; allowed: 0 to 2"),
        (3, ((0, 1), (-1, 2)), "bus of line 1 = -1; allowed: 0 to 2"),
        (3, ((0, 1), (2, 2)), r"line 1 = \(2, 2\); allowed: two different buses"),
        (3, ((0, 1), (1, 0)), r"line 1 = \(1, 0\); .*radial"),
        (3, ((0, 1), (1, 2), (2, 0)), r"line 2 = \(2, 0\); .*radial"),
        (4, ((1, 2), (2, 3), (1, 3)), r"line 2 = \(1, 3\); .*radial"),
        (3, ((1, 2),), "bus without a path to bus 0 = 1; .*connected"),
        (2, (), "bus without a path to bus 0 = 1; .*connected"),
        (5, ((0, 1), (3, 4), (1, 2)), "bus without a path to bus 0 = 3; .*connected"),
    ],
)
def test_what_is_no_tree_is_refused(buses, ends, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        Tree(buses, ends)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InvalidInputError, match=r"lines = \(2, 1\); allowed: as many starts as ends"):
        Tree.of([0, 1], [1], 3)
