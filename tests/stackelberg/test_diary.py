"""Time-activity networks carry the observed shares as an exact flow, for every mix of drivers."""

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.data.diaries import Cluster, load_clusters
from v2g_env.stackelberg.diary import mixed_shares, network, time_activity
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import DriverClass

VARIANTS = {
    "default": {},
    "chargers at work": {"workplace": 0.3},
    "half hours": {"periods_per_hour": 2},
    "quarter hours": {"periods_per_hour": 4},
    "quarter hours, chargers at work": {"periods_per_hour": 4, "workplace": 0.3},
    "commuters": {"composition": (1, 0, 0)},
    "home-based": {"composition": (0, 1, 0)},
    "mixed": {"composition": (0, 0, 1)},
    "two clusters": {"composition": (0.7, 0, 0.3)},
    "coarse": {"minimum": 0.005},
    "very coarse quarters": {"minimum": 0.05, "periods_per_hour": 4},
    "nearly all plugged": {"plugged": 0.999},
    "all plugged at work": {"workplace": 1.0},
}
every_variant = pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)


def at_place(diary, place, hour):
    """Share of drivers who are at a place at a full hour before the last, by the arcs that leave it."""
    step = round(hour / diary.step_h)
    return sum(
        y
        for y, what, when in zip(diary.flow, diary.activity, diary.step, strict=True)
        if when == step and what[0] == place
    )


@every_variant
def test_shares_are_an_exact_unit_flow_within_limits(arguments):
    diary = time_activity(**arguments)
    flow, nodes = np.array(diary.flow), 1 + max(diary.head)
    balance = np.bincount(diary.tail, flow, nodes) - np.bincount(diary.head, flow, nodes)
    balance[[diary.source, diary.sink]] -= 1.0, -1.0
    assert np.abs(balance).max() < 1e-12
    assert flow.min() >= arguments.get("minimum", 0.001) - 1e-12
    assert flow.max() <= 0.999 + 1e-12
    assert (diary.source, diary.sink) == (0, nodes - 1)
    assert (np.array(diary.tail) < diary.head).all()


@every_variant
def test_drivers_without_rebates_behave_as_observed(arguments):
    diary = time_activity(**arguments)
    arcs = arcs_of((DriverClass("drivers", 1.0, network(diary)),))
    flow = respond(arcs, np.zeros((1, diary.periods))).flow[0]
    assert np.abs(flow - diary.flow).max() < 1e-9


@every_variant
def test_every_period_can_be_rewarded_at_home_and_the_split_is_kept(arguments):
    diary = time_activity(**arguments)
    share = {what: np.zeros(diary.periods) for what in set(diary.activity)}
    for y, what, step, period in zip(diary.flow, diary.activity, diary.step, diary.period, strict=True):
        share[what][step] += y
        assert period == (step if what.endswith("plugged") else -1)
    part = arguments.get("plugged", 0.8)
    both = (share["hh"] > 0.0) & (share["hh plugged"] > 0.0)
    total = (share["hh"] + share["hh plugged"])[both]
    assert share["hh plugged"][both] == pytest.approx(part * total, rel=1e-12)
    assert (share["hh plugged"] > 0.0).all()
    assert ("ww plugged" in share) == ("workplace" in arguments)


def test_default_network_has_about_150_arcs_and_one_node_per_visited_place_and_hour():
    diary = time_activity()
    assert (len(diary.tail), 1 + max(diary.head), diary.periods, diary.step_h) == (156, 60, 24, 1.0)
    assert len(time_activity(workplace=0.3).tail) == 170
    assert len(time_activity(periods_per_hour=4).tail) == 610


def test_shares_at_full_hours_are_those_of_the_table_but_for_moves_left_out():
    start, _ = mixed_shares()
    diary = time_activity()
    for place, name in enumerate("hwe"):
        shares = [at_place(diary, name, hour) for hour in range(24)]
        assert np.abs(shares - start[:, place]).max() < 0.01


@pytest.mark.parametrize("arguments", [{}, {"minimum": 0.02}, {"composition": (0.2, 0.3, 0.5), "workplace": 0.3}])
def test_quarter_hours_keep_the_shares_at_full_hours(arguments):
    hourly, quarters = time_activity(**arguments), time_activity(**arguments, periods_per_hour=4)
    for place in "hwe":
        for hour in range(24):
            assert at_place(quarters, place, hour) == pytest.approx(at_place(hourly, place, hour), abs=1e-12)


def test_moves_of_an_hour_are_spread_over_its_quarters():
    hourly, quarters = time_activity(), time_activity(periods_per_hour=4)
    move = {(what, step): y for y, what, step in zip(hourly.flow, hourly.activity, hourly.step, strict=True)}
    parts = [
        y for y, what, step in zip(quarters.flow, quarters.activity, quarters.step, strict=True)
        if what == "hw" and step // 4 == 7
    ]  # fmt: skip
    assert parts == pytest.approx([move["hw", 7] / 4] * 4, rel=1e-12)


def test_network_of_quarter_hours_has_a_quarter_of_the_deviation():
    assert set(network(time_activity(), 0.2).deviation_usd) == {0.2}
    assert set(network(time_activity(periods_per_hour=4), 0.2).deviation_usd) == {0.05}
    assert network(time_activity()).deviation_usd[0] == pytest.approx(0.194)


def test_mixture_is_linear_and_one_cluster_is_the_table_itself():
    clusters = load_clusters()
    for i, name in enumerate(("commuters", "home_based", "mixed")):
        start, flow = mixed_shares(np.eye(3)[i])
        assert np.array_equal(start, clusters[name].start)
        assert np.array_equal(flow, clusters[name].flow)
    parts = [mixed_shares(row)[1] for row in np.eye(3)]
    assert mixed_shares((0.5, 0.2, 0.3))[1] == pytest.approx(0.5 * parts[0] + 0.2 * parts[1] + 0.3 * parts[2])


def own_cluster(start, moves):
    """A cluster that stays where it is, but for the given moves {(hour, from, to): share}."""
    now, flow = np.array(start, float), np.zeros((24, 3, 3))
    starts = []
    for hour in range(24):
        starts.append(now)
        flow[hour] = np.diag(now)
        for (when, i, j), share in moves.items():
            if when == hour:
                flow[hour, i, j] += share
                flow[hour, i, i] -= share
        now = flow[hour].sum(0)
    return {"commuters": Cluster(10, 1.0, np.zeros((24, 4)), np.array(starts), flow)}


def test_several_places_at_the_start_of_the_day_get_arcs_from_the_source():
    diary = time_activity((1, 0, 0), clusters=own_cluster((0.7, 0.1, 0.2), {}))
    assert diary.activity[:3] == ("start", "start", "start")
    assert diary.flow[:3] == pytest.approx((0.7, 0.1, 0.2))
    assert diary.tail[:3] == (0, 0, 0)
    network(diary)  # arcs that follow an arc "start" lie on some paths only


def test_arcs_that_all_drivers_take_are_contracted():
    moves = {(8, 0, 1): 1.0, (17, 1, 0): 1.0}
    diary = time_activity((1, 0, 0), clusters=own_cluster((1.0, 0.0, 0.0), moves))
    assert set(diary.activity) == {"hh", "hh plugged"}
    assert [s for s, what in zip(diary.step, diary.activity, strict=True) if what == "hh"] == [
        *range(8),
        *range(18, 24),
    ]
    assert network(diary).nodes == 15


def test_rare_moves_are_left_out_and_their_drivers_stay():
    diary = time_activity((1, 0, 0), clusters=own_cluster((1.0, 0.0, 0.0), {(8, 0, 2): 0.0005, (9, 0, 1): 0.25}))
    assert {what[:2] for what in diary.activity} == {"hh", "hw", "ww"}
    assert at_place(diary, "h", 9) == pytest.approx(1.0, abs=1e-15)
    assert at_place(diary, "w", 12) == pytest.approx(0.25 / 0.9995, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"composition": (0.6, 0.1, 0.2)}, "sum of composition = 0.8"),
        ({"composition": (1.2, -0.2, 0.0)}, r"composition\[0\] = 1.2; allowed: \[0, 1\]"),
        ({"composition": (0.5, 0.5)}, "shape of composition"),
        ({"composition": (True, False, False)}, "composition"),
        ({"plugged": 1.0}, "plugged = 1.0"),
        ({"plugged": 0.0}, "plugged = 0.0"),
        ({"plugged": float("nan")}, "plugged = nan"),
        ({"workplace": 1.1}, "workplace = 1.1"),
        ({"periods_per_hour": 3}, "periods_per_hour = 3; allowed: 1, 2 or 4"),
        ({"periods_per_hour": True}, "periods_per_hour = True"),
        ({"minimum": 0.0}, "minimum = 0.0"),
        ({"minimum": 0.5}, "minimum = 0.5"),
        ({"clusters": {}}, "clusters = .*'commuters'"),
    ],
)
def test_bad_arguments_are_refused(arguments, text):
    with pytest.raises(InvalidInputError, match=text):
        time_activity(**arguments)


def test_a_deviation_must_be_positive():
    with pytest.raises(InvalidInputError, match="deviation_usd = 0.0"):
        network(time_activity(), 0.0)
