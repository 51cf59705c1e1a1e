"""The published cone programs agree with the follower and with enumeration; the published inequality does not hold."""

import importlib.util
import itertools

import numpy as np
import pytest

from baselines.stackelberg import reference
from baselines.stackelberg.published import VALID_INEQUALITIES, check_reach, evaluate, flow_ranges
from baselines.stackelberg.reference import Status, misocp, relaxation, response
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.bids import coefficients
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import DriverClass, Game, Requirement
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.network import Network

DELIVER = Requirement(power_kw=10.0, eta=0.1, mean=1.0, forward=0.055, backward=0.055)
needs_scip = pytest.mark.skipif(importlib.util.find_spec("pyscipopt") is None, reason="PySCIPOpt is optional")


def network(generator, deviation=None):
    """Three periods, plugged in or not in each, and two trips that leave out the first two or the last two."""
    mean = generator.uniform(-0.3, 0.3, 8)
    deviations = generator.uniform(0.1, 0.4, 8) if deviation is None else np.full(8, deviation)
    tail, head = (0, 0, 1, 1, 2, 2, 0, 1), (1, 1, 2, 2, 3, 3, 2, 3)
    return Network(tail, head, tuple(mean), tuple(deviations), (0, -1, 1, -1, 2, -1, -1, -1), 0, 3)


def game(seed, shares=(1.0,), deviation=None, **changes):
    """Three periods and three levels: 27 schedules."""
    generator = np.random.default_rng(seed)
    made = Game(
        classes=tuple(DriverClass(f"class {k}", w, network(generator, deviation)) for k, w in enumerate(shares)),
        drivers=20,
        price_usd_per_kw=tuple(generator.uniform(0.02, 0.12, 3)),
        levels_usd_per_h=(0.0, 0.2, 0.4),
        requirements=(DELIVER,),
        variant="published",
    )
    return made.replace(**changes)


def enumerate_all(made):
    """Every schedule, its objective and its flows, best first."""
    grid = np.array(list(itertools.product(*(made.levels[:n] for n in made.choices))))
    value, flow, _ = evaluate(made, grid)
    order = np.argsort(-value)
    return grid[order], value[order], flow[order]


CASES = {
    **{f"seed {seed}": game(seed) for seed in (0, 3, 6)},
    "capped": game(7, cap_usd_per_h=(0.2, 0.4, 0.0)),
    "two classes": game(8, shares=(0.3, 0.7)),
    "two requirements": game(4, requirements=(DELIVER, Requirement(4.0, 0.05, 0.3, 0.1, 0.1))),
    "drivers own, half hours": game(4, owner="drivers", kappa=2.0, step_h=0.5),
    "no bid": game(7, drivers=3),
}


@pytest.mark.parametrize("made", [game(0, (0.2, 0.8)), Instance(variant="published").game()], ids=["tiny", "day"])
def test_drivers_respond_as_in_the_cone_program(made):
    rebate = np.random.default_rng(1).uniform(0.0, 1.0, made.periods)
    cone, fast = response(made, rebate), respond(arcs_of(made.classes), rebate[None])
    np.testing.assert_allclose(np.concatenate(cone.flow), fast.flow[0], atol=1e-5)
    np.testing.assert_allclose(cone.value, fast.value[0], atol=1e-7)


@needs_scip
@pytest.mark.parametrize("made", CASES.values(), ids=list(CASES))
def test_scip_finds_what_enumeration_finds(made):
    grid, value, flow = enumerate_all(made)
    found = misocp(made, time_limit_s=20.0)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.rebate_usd_per_h, grid[0])
    assert found.objective == pytest.approx(value[0], abs=1e-9)
    # tolerances only enlarge the feasible set, and their root is what the claim may be off by
    assert value[0] - 1e-6 <= found.claimed <= found.bound + 1e-6
    assert found.bound <= value[0] + 3e-3 * max(value[0], 1.0)
    # the drivers' strong duality is tight, and makes the solver's flows and bids theirs
    assert abs(found.duality_gap_usd) <= 1e-6
    np.testing.assert_allclose(found.flow, flow[0], atol=0.02)
    bid = evaluate(made, grid[:1])[2][0]
    np.testing.assert_allclose(found.bid_kw, bid, atol=0.01 * 10.0 * made.drivers)
    assert (bid == 0.0).any() or made is not CASES["no bid"]


@pytest.mark.parametrize("made", CASES.values(), ids=list(CASES))
def test_relaxation_bounds_every_schedule(made):
    assert relaxation(made) >= enumerate_all(made)[1][0]


def test_rigorous_optimum_is_below_the_published_one():
    made = game(6)
    assert enumerate_all(made.replace(variant="rigorous"))[1][0] <= enumerate_all(made)[1][0]


@pytest.mark.parametrize("levels", [3, 41], ids=["three levels", "a fine grid"])
def test_published_inequality_cuts_off_the_optimum(levels):
    made = game(6, deviation=0.2, levels_usd_per_h=tuple(np.linspace(0.0, 0.4, levels).tolist()))
    _, _, flow = enumerate_all(made)
    low, high = flow_ranges(made, "published")
    assert max((low - flow[0]).max(), (flow[0] - high).max()) > 0.01
    low, high = flow_ranges(made, "extremes")  # flows rise in all rebates here: these do hold
    assert ((low <= flow[0]) & (flow[0] <= high)).all()


@needs_scip
def test_published_inequality_loses_the_optimum_in_the_solver():
    made = game(6, deviation=0.2)
    best = enumerate_all(made)[1][0]
    found = misocp(made, "published", time_limit_s=20.0)
    assert found.status is Status.INFEASIBLE
    assert found.bound == relaxation(made, "published") == -np.inf
    assert misocp(made, "extremes", time_limit_s=20.0).objective == pytest.approx(best, abs=1e-9)


def test_without_inequalities_flows_are_free():
    low, high = flow_ranges(game(0), "none")
    assert (low == 0.0).all()
    assert (high == 1.0).all()
    with pytest.raises(InvalidInputError, match="valid_inequalities = 'tight'"):
        flow_ranges(game(0), "tight")
    assert VALID_INEQUALITIES == ("none", "published", "extremes")


@pytest.mark.parametrize("signals", ["published", "pjm"])
def test_second_condition_is_never_better_with_the_default_data(signals):
    made = Instance(signals=signals, variant="published").game()
    check_reach(made)
    y = np.linspace(0.0, 1.0, 1001)
    for first, second in coefficients(made):
        bids = [a * y - np.sqrt(b * y**2 + c * y * (1.0 - y)) for a, b, c in (first, second)]
        assert (np.maximum(bids[0], 0.0) >= bids[1] - 1e-9).all()


def test_games_out_of_reach_are_named():
    with pytest.raises(InvalidInputError, match="variant = 'rigorous'"):
        relaxation(game(0, variant="rigorous"))
    lucky = Requirement(10.0, 0.1, 1.0, 0.2, 0.05)
    with pytest.raises(InvalidInputError, match="backward deviation of requirement 0"):
        relaxation(game(0, requirements=(lucky,)))
    tail, head = (0, 0, 0, 1, 1), (1, 1, 1, 2, 2)
    twice = Network(tail, head, (0.0,) * 5, (0.2,) * 5, (0, 0, -1, 1, -1), 0, 2)
    with pytest.raises(InvalidInputError, match="charging arcs = 3"):
        relaxation(game(0, classes=(DriverClass("two plugs", 1.0, twice),)))
    with pytest.raises(InvalidInputError, match="time_limit_s"):
        misocp(game(0), time_limit_s=0.0)
    with pytest.raises(InvalidInputError, match="length of rebate_usd"):
        response(game(0), np.zeros(2))


def test_missing_scip_is_named(monkeypatch):
    monkeypatch.setattr(reference.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pyscipopt = missing"):
        misocp(game(0))


@needs_scip
def test_time_limit_leaves_a_bound():
    made = Instance(variant="published").game()
    found = misocp(made, time_limit_s=0.5)
    assert found.status is Status.LIMIT
    assert found.bound > evaluate(made, np.zeros((1, made.periods)))[0][0]
