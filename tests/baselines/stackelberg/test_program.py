"""The leader's objective, its gradient and its Hessian against definitions and finite differences."""

import numpy as np
import pytest

from baselines.stackelberg.box_kernel import slopes, spread_rebates
from baselines.stackelberg.program import hessian, objective, program_of, revenue, revenue_value
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.follower import arcs_of, start_prices
from v2g_env.stackelberg.game import DriverClass, Requirement

DELIVER = Requirement(10.0, 0.1, 1.0, 0.178, 0.16)
CASES = {
    "platform": {},
    "published": {"variant": "published"},
    "drivers own": {"owner": "drivers", "kappa": 2.0, "multiplier": 0.05},
    "two classes": {"shares": (0.3, 0.7)},
    "several places": {"places": 3},
    "several places, two classes": {"places": 2, "shares": (0.45, 0.55)},
    "two requirements": {"requirements": (DELIVER, Requirement(3.0, 0.05, 0.3, 0.1, 0.1))},
    "negative coefficients": {"requirements": (DELIVER, Requirement(9.0, 0.1, 0.3, 0.4, 0.4)), "places": 2},
    "quarter hours": {"step_h": 0.25},
    "large fleet": {"drivers": 5000},
}


@pytest.fixture(params=CASES)
def case(lab, request):
    changes = dict(CASES[request.param])
    rng = np.random.default_rng(7)
    multiplier, places = changes.pop("multiplier", 0.0), changes.pop("places", 1)
    classes = tuple(
        DriverClass(f"class {k}", w, lab.network(rng, 4, places, sigma=(0.3, 1.0)))
        for k, w in enumerate(changes.pop("shares", (1.0,)))
    )
    given = {"requirements": (DELIVER,), "drivers": 200, "owner": "platform", "variant": "rigorous", "step_h": 1.0}
    made = lab.game(
        0,
        classes=classes,
        price_usd_per_kw=(0.05, 0.08, 0.03, 0.06),
        levels_usd_per_h=(0.0, 0.5),
        cap_usd_per_h=None,
        **given | changes,
    )
    return made, multiplier


def everything(game, multiplier, rebates):
    """F, profit, gradient and Hessian at rebates (T,) [$ per period]."""
    program = program_of(game, multiplier)
    arcs, n, periods = len(program.tail), program.nodes, game.periods
    rebate, flow, slope, gain, drift = (np.zeros(arcs) for _ in range(5))
    matrix, step, trial = np.empty((n, program.band + 1)), np.empty(n), np.empty(n)
    price = start_prices(arcs_of(game.classes))
    spread_rebates(program, program.period, rebates, rebate)
    value, profit, worst = objective(program, rebate, price, flow, slope, gain, drift, matrix, step, trial)
    assert worst <= 1e-11
    gradient, second = np.zeros(periods), np.zeros((periods, periods))
    slopes(program, program.period, flow, drift, gradient)
    hessian(program, rebate, price, flow, slope, drift, matrix, program.period, periods, step, second)
    return value, profit, gradient, second


def test_objective_is_its_definition(lab, case):
    game, multiplier = case
    rng = np.random.default_rng(1)
    for _ in range(5):
        rebates = rng.uniform(0.0, 0.6, game.periods)
        value, profit, _, _ = everything(game, multiplier, rebates * game.step_h)
        own, earned, income = lab.evaluate(game, rebates[None])
        assert income[0] > 0.0
        assert profit == pytest.approx(earned[0], rel=1e-10, abs=1e-9)
        assert value == pytest.approx(own[0] + multiplier * earned[0], rel=1e-10, abs=1e-9)


def test_gradient_and_hessian_are_finite_differences(case):
    game, multiplier = case
    rng = np.random.default_rng(2)
    for _ in range(3):
        rebates = rng.uniform(0.0, 0.6, game.periods)
        value, _, gradient, second = everything(game, multiplier, rebates)
        h = 2e-5
        size = abs(value) + np.abs(gradient).max()
        for t in range(game.periods):
            move = h * np.eye(game.periods)[t]
            above, below = everything(game, multiplier, rebates + move), everything(game, multiplier, rebates - move)
            assert gradient[t] == pytest.approx((above[0] - below[0]) / (2 * h), abs=1e-6 * size)
            np.testing.assert_allclose(
                second[t], (above[2] - below[2]) / (2 * h), atol=1e-5 * (size + abs(second).max())
            )
        np.testing.assert_allclose(second, second.T, atol=1e-9 * abs(second).max())


def test_revenue_is_the_price_of_the_allowed_bid(case):
    game, multiplier = case
    program = program_of(game, multiplier)
    rng = np.random.default_rng(3)
    arcs, width = len(program.tail), program.member.shape[1]
    for _ in range(20):
        flow = rng.uniform(0.0, 0.99 / width, arcs) ** rng.choice([0.2, 1.0])
        flow = np.minimum(flow, 0.99 / width)
        plugged = np.zeros((1, game.periods, len(program.share)))
        for a in range(arcs):
            if program.period[a] >= 0:
                plugged[0, program.period[a], program.group[a]] += flow[a]
        bid = allowed_bid(plugged, program.share, coefficients(game), game.variant == "rigorous")[0]
        slope, curve, trash = np.zeros(arcs), np.zeros((width, width)), np.zeros((width, width))
        for t in range(game.periods):
            paid = game.step_h * game.price_usd_per_kw[t] * bid[t]
            assert revenue(program, t, flow, slope, curve) == pytest.approx(paid, rel=1e-12)
            assert revenue_value(program, t, flow) == pytest.approx(paid, rel=1e-12)
            for g, a in enumerate(program.member[t]):
                if a >= 0 and paid > 0.0:
                    h, up, down = 1e-6, np.zeros(arcs), np.zeros(arcs)
                    move = h * np.eye(arcs)[a]
                    high, low = (
                        revenue(program, t, flow + move, up, trash),
                        revenue(program, t, flow - move, down, trash),
                    )
                    assert slope[a] == pytest.approx((high - low) / (2 * h), rel=1e-4, abs=1e-5 * paid)
                    for other, b in enumerate(program.member[t]):
                        if b >= 0:
                            wanted = (up[b] - down[b]) / (2 * h)
                            assert curve[g, other] == pytest.approx(wanted, rel=1e-3, abs=1e-4 * paid)
