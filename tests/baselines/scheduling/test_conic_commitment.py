"""States of the generator: brute force over all patterns, a proof that holds up, tampering refused."""

import itertools
import json

import numpy as np
import pytest

from baselines.certificate import CertificateError
from baselines.scheduling.conic import solve
from baselines.scheduling.conic_commitment import commit
from baselines.scheduling.feeder_day import FeederDay
from baselines.scheduling.verify_conic import verify
from baselines.solve import SolverError
from v2g_env.core.validate import InvalidInputError

NOBODY = {"ev_buses": (), "car_aggregator": (), "car_arrives": (), "car_leaves": ()}
NOBODY |= {"car_start_kwh": (), "car_wanted_kwh": ()}
PRICES = ((0.05, 0.3, 0.05, 0.3), (0.05, 0.05, 0.3, 0.3), (0.12, 0.2, 0.2, 0.12), (0.05, 0.06, 0.05, 0.06))


def small(price, **changes):
    """Four buses, eight half hours in four blocks; whether the generator pays is a close call."""
    fields = {
        "feeder": "own",
        "line_from": (0, 1, 1),
        "line_to": (1, 2, 3),
        "r_ohm": (0.8, 2.0, 1.1),
        "x_ohm": (0.5, 1.5, 0.9),
        "bus_p_kw": (0.0, 300.0, 700.0, 500.0),
        "bus_q_kvar": (0.0, 100.0, 300.0, 250.0),
        "steps": 8,
        "step_h": 0.5,
        "load_shape": (0.6, 0.7, 0.9, 1.0, 1.1, 1.0, 0.8, 0.7),
        "price_usd_per_kwh": tuple(np.repeat(price, 2).tolist()),
        "v_min_pu": 0.9,
        "gas_bus": 2,
        "gas_max_kw": 600.0,
        "gas_kva": 700.0,
        "gas_min_kw": 150.0,
        "gas_on_usd_per_h": 12.0,
        "gas_start_usd": 15.0,
        "gas_on_before": False,
        "gas_block_steps": 2,
        "reserve": 0.0,
        "wind_buses": (),
        "wind_kw": (0.0,) * 8,
    }
    return FeederDay(**(NOBODY | fields | changes))


def every_pattern(day):
    """Values of all on/off patterns, infinite where there is no dispatch."""
    values = {}
    for on in itertools.product((False, True), repeat=4):
        try:
            values[on] = solve(day, on=on).value
        except (InvalidInputError, SolverError):
            values[on] = np.inf
    return values


CASES = [
    *(small(price) for price in PRICES),
    small(PRICES[0], reserve=0.1, load_shape=(0.6, 0.7, 0.0, 0.0, 0.0, 0.0, 0.8, 0.7), substation_min_kw=-1000.0),
    small(PRICES[3], v_min_pu=0.979),
    small(PRICES[1], gas_on_before=True, robust="box"),
    small(PRICES[2], objective="losses"),
]


@pytest.mark.parametrize("day", CASES)
def test_commitment_is_the_best_of_all_patterns(day):
    values = every_pattern(day)
    best = min(values, key=values.get)
    found = commit(day, gap=1e-6)
    assert abs(found.value - values[best]) <= 2e-6 * (1.0 + values[best])
    assert found.certificate["bound"] <= values[best] * (1.0 + 1e-9) + 1e-6
    assert found.certificate["gap"] <= 1e-6
    assert values[tuple(bool(state) for state in found.plan.gas_on)] <= values[best] + 1e-4
    assert (found.plan.gas_kw[np.repeat(found.plan.gas_on, 2) == 0.0] <= 1e-6).all()
    verify(json.loads(json.dumps(found.certificate)), day)


def test_cases_are_not_all_decided_the_same_way():
    patterns = {tuple(commit(day, gap=1e-6).plan.gas_on) for day in CASES}
    assert len(patterns) >= 4


def test_some_patterns_have_no_dispatch_and_the_tree_proves_it():
    day = CASES[4]
    assert np.inf in every_pattern(day).values()
    leaves = commit(day, gap=1e-6).certificate["leaves"]
    assert any(leaf["empty"] for leaf in leaves)


def test_a_pattern_whose_relaxation_is_not_physical_is_never_published():
    # with the generator on, more power than the feeder can take: only currents that do not exist could burn it
    day = small(PRICES[0], load_shape=(0.6, 0.7, 0.0, 0.0, 0.0, 0.0, 0.8, 0.7))
    with pytest.raises(SolverError, match="tightness_pu"):
        solve(day)
    found = commit(day, gap=1e-6)
    assert found.plan.gas_on[1] == found.plan.gas_on[2] == 0.0
    assert abs(found.value - min(every_pattern(day).values())) < 1e-3
    verify(json.loads(json.dumps(found.certificate)), day)


def test_starts_cost_money():
    day = CASES[0]
    alternating = [False, True, False, True]
    free = solve(day.replace(gas_start_usd=0.0), on=alternating).value
    assert abs(solve(day, on=alternating).value - free - 2.0 * day.gas_start_usd) < 1e-3
    assert abs(solve(day.replace(gas_on_before=True), on=[True] * 4).value - solve(day).value + 15.0) < 1e-3


def test_a_search_cut_short_states_the_gap_it_proves():
    day = CASES[0]
    whole, cut = commit(day, gap=1e-6), commit(day, max_nodes=1, gap=1e-9)
    report = verify(json.loads(json.dumps(cut.certificate)), day)
    assert cut.certificate["bound"] < whole.certificate["bound"] - 1e-3
    assert report.values["gap"] == cut.certificate["gap"] > 1e-5
    assert cut.value >= whole.certificate["bound"] - 1e-6


def test_a_day_without_any_dispatch_is_proven_to_have_none():
    with pytest.raises(InvalidInputError, match="proven infeasible"):
        commit(small(PRICES[0], v_min_pu=0.999))


def forged(change):
    data = json.loads(json.dumps(commit(CASES[0], gap=1e-6).certificate))
    change(data)
    return data


def drop_leaf(data):
    data["leaves"] = data["leaves"][1:]


def repeat_leaf(data):
    data["leaves"].append(data["leaves"][0])


def claim_empty(data):
    data["leaves"][0]["empty"] = True


def swap_duals(data):
    first, last = data["leaves"][0], data["leaves"][-1]
    first["fixed"], last["fixed"] = last["fixed"], first["fixed"]


def raise_bound(data):
    data["bound"] += 0.5


def odd_state(data):
    data["leaves"][0]["fixed"][0] = 2


def no_leaves(data):
    data["leaves"] = []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop_leaf, "share of all patterns in the leaves|bound"),
        (repeat_leaf, "overlaps no other"),
        (claim_empty, "a proof that the leaf has no dispatch"),
        (swap_duals, "bound|no dispatch"),
        (raise_bound, "bound = "),
        (odd_state, r"leaves\[0\].fixed"),
        (no_leaves, "a list of 1 to"),
    ],
)
def test_forged_trees_are_refused(change, text):
    with pytest.raises(CertificateError, match=text):
        verify(forged(change), CASES[0])
