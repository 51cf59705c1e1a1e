"""A day's money by a slow simulator, the promise of certified bids, the bound, habit, weather, and exact actions."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.deviations import bernoulli_backward, bernoulli_forward
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.instance import Instance, plugged_shares
from v2g_env.stackelberg.model import FACTS, REWARD_TERMS, Model
from v2g_env.stackelberg.scenario import sample

VARIANTS = {
    "default": {},
    "published": {"variant": "published", "signals": "published"},
    "penalty": {"bid_limit": 1.5, "shortfall_factor": 3.0},
    "forfeit": {"bid_limit": 1.5, "settlement": "forfeit"},
    "habit": {"habit_weight": 0.3},
    "hidden weather": {"announced": False},
    "population": {"response": "population"},
    "quarter hours": {"periods_per_hour": 4, "days": 3},
    "quarter hours, population": {"periods_per_hour": 4, "days": 3, "response": "population", "bid_limit": 1.5},
    "odd levels": {"rebate_levels_usd_per_h": (0.1, 0.13, 0.6), "rebate_cap_usd_per_h": (0.1, 0.2) * 12},
    "no rebates": {"rebate_levels_usd_per_h": (0.0,)},
    "small": {"drivers": 3, "plug_shares": (0.5,), "plug_probabilities": (1.0,), "eta": 0.2},
    "workplace": {"workplace": 0.5, "drivers": 60},
}
MONEY = {name: i for i, name in enumerate(REWARD_TERMS)}
FACT = {name: i for i, name in enumerate(FACTS)}


def certified(game, share):
    """Certified bid by bisection on the two conditions, none of them written as in the product."""
    each, m, psi = game.requirements[0], game.drivers, game.requirements[0].power_kw
    back, ahead = float(bernoulli_backward(share)) ** 2, float(bernoulli_forward(share)) ** 2
    if game.variant == "published":
        back = ahead = share * (1.0 - share)
    best = 0.0
    for beta, deviation, q in (
        (math.sqrt(-2.0 * math.log(each.eta)), each.forward, back),
        ((1.0 - each.eta) / each.eta * math.sqrt(-2.0 * math.log(1.0 - each.eta)), each.backward, ahead),
    ):
        low, high = 0.0, 2.0 * psi * m
        for _ in range(80):
            bid = 0.5 * (low + high)
            spread = beta * math.sqrt(psi**2 * m * q + (deviation * bid) ** 2)
            low, high = (bid, high) if bid - psi * m * share + spread <= 0.0 else (low, bid)
        best = max(best, low)
    return best


def walked(network, flow, drivers, uniforms):
    """Cars in each period when drivers walk the network, node by node in topological order."""
    order = {node: place for place, node in enumerate(network.order)}
    at = {network.source: drivers}
    cars = {}
    arcs = sorted(range(network.arcs), key=lambda a: (order[network.tail[a]], a))
    for i, a in enumerate(arcs):
        node = network.tail[a]
        rest = [b for b in arcs[i:] if network.tail[b] == node]
        here = at.get(node, 0)
        if len(rest) > 1:
            here = int(binom.ppf(uniforms[a], here, min(flow[a] / sum(flow[b] for b in rest), 1.0))) if here else 0
        at[node] -= here
        at[network.head[a]] = at.get(network.head[a], 0) + here
        if network.period[a] >= 0:
            cars[network.period[a]] = cars.get(network.period[a], 0) + here
    return cars


def day_by_hand(model, scenario, row, day, rebate, habit, fraction):
    """Money and facts of one day, period by period, from the game's data."""
    fleet, game = model.instance, model.day_game(scenario, row, day)
    network = game.classes[0].network
    arcs = arcs_of(game.classes)
    flow = respond(arcs, np.array(habit)[None] * game.step_h).flow[0]
    still = respond(arcs, np.zeros((1, game.periods))).flow[0]
    walk = walked(network, flow, fleet.drivers, scenario.chance[row, day]) if fleet.response == "population" else None
    money, facts = dict.fromkeys(REWARD_TERMS, 0.0), dict.fromkeys(FACTS, 0.0)
    done, asked, fulfilled = [], 0.0, 0.0
    for t in range(game.periods):
        on = [a for a in range(network.arcs) if network.period[a] == t]
        y, y_0 = sum(flow[a] for a in on), sum(still[a] for a in on)
        price, r, h = game.price_usd_per_kw[t], scenario.ratio[row, day, t], game.step_h
        bid = fraction * certified(game, y)
        cars = binom.ppf(scenario.chance[row, day, t], fleet.drivers, y) if walk is None else walk.get(t, 0)
        have = fleet.charger_kw * cars
        share = min(1.0, have / (r * bid)) if bid > 0.0 else 1.0
        done.append(share)
        if fleet.settlement == "penalty":
            money["payment"] += h * price * bid * share
            money["penalty"] -= h * price * bid * (1.0 - share) * fleet.shortfall_factor
        elif share >= fleet.forfeit_share:
            money["payment"] += h * price * bid * share
        money["rebates"] -= h * rebate[t] * (fleet.drivers * y if walk is None else cars)
        money["reference"] -= h * price * certified(game, y_0)
        facts["shortfall_kwh"] += h * bid * (1.0 - share)
        facts["plugged"] += cars / fleet.drivers / game.periods
        facts["bid_kw"] += bid / game.periods
        asked += r * bid
        fulfilled += min(have, r * bid)
    facts["violated_share"] = np.mean([share < 1.0 for share in done])
    facts["profit_usd"] = money["payment"] + money["penalty"] + money["rebates"]
    facts["delivered_share"] = min(done)
    facts["rebate_usd"] = -money["rebates"] / fleet.drivers
    facts["performance"] = fulfilled / asked if asked > 0.0 else 1.0
    return money, facts


def nearest_level(model, action, t):
    """The allowed level nearest to what the action asks for."""
    fleet = model.instance
    hour = t // fleet.periods_per_hour
    cap = fleet.rebate_cap_usd_per_h[hour] if fleet.rebate_cap_usd_per_h else math.inf
    wanted = max(action, 0.0) * fleet.rebate_levels_usd_per_h[-1]
    nearest = min(fleet.rebate_levels_usd_per_h, key=lambda level: abs(level - wanted))
    return nearest if nearest <= cap else max(level for level in fleet.rebate_levels_usd_per_h if level <= cap)


@pytest.mark.parametrize("variant", VARIANTS)
def test_money_and_facts_equal_a_slow_simulation(variant):
    fleet = Instance(**{"days": 4} | VARIANTS[variant])
    model, n = Model(fleet), 2
    scenario = sample(fleet, n, 11)
    state = model.initial(scenario)
    rng = np.random.default_rng(2)
    habit = np.zeros((n, fleet.periods))
    for day in range(fleet.days):
        action = rng.uniform(-1.0, 1.0, (n, fleet.periods + 1))
        if day == 1:
            action[:, -1] = 1.0
        state, money, facts = model.step(scenario, state, action)
        for i in range(n):
            rebate = [nearest_level(model, action[i, t], t) for t in range(fleet.periods)]
            habit[i] = (1.0 - fleet.habit_weight) * habit[i] + fleet.habit_weight * np.array(rebate)
            fraction = 0.5 * (action[i, -1] + 1.0) * fleet.bid_limit
            expected = day_by_hand(model, scenario, i, day, rebate, habit[i], fraction)
            for name, value in expected[0].items():
                assert money[i, MONEY[name]] == pytest.approx(value, rel=1e-7, abs=1e-6), name
            for name, value in expected[1].items():
                assert facts[i, FACT[name]] == pytest.approx(value, rel=1e-7, abs=1e-6), name
            np.testing.assert_array_equal(state.rebate[i], rebate)
            np.testing.assert_allclose(state.habit[i], habit[i], atol=1e-12)


# One physics for environment and optimiser


@pytest.mark.parametrize("variant", ["default", "published", "quarter hours", "workplace"])
def test_certified_bid_at_full_delivery_earns_the_games_objective_and_no_rebates_the_reference(variant):
    fleet = Instance(**{"days": 3} | VARIANTS[variant] | {"shortfall_factor": 0.0})
    model = Model(fleet)
    scenario = sample(fleet, 2, 5)
    scenario = scenario._replace(ratio=np.full_like(scenario.ratio, 1e-9))  # nothing is asked, so all is delivered
    rng = np.random.default_rng(3)
    levels = np.array(fleet.rebate_levels_usd_per_h)
    state = model.initial(scenario)
    for day in range(fleet.days):
        rebate = rng.choice(levels, (2, fleet.periods))
        rebate[1] = 0.0
        state, money, _ = model.step(scenario, state, model.action_for(rebate))
        for i in range(2):
            game = model.day_game(scenario, i, day)
            arcs = arcs_of(game.classes)
            flow = respond(arcs, rebate[i : i + 1] * game.step_h).flow[0]
            share = plugged_shares(arcs.period, flow, game.periods)
            bid = allowed_bid(share[None, :, None], arcs.share, coefficients(game), game.variant == "rigorous")[0]
            value = game.step_h * (np.array(game.price_usd_per_kw) @ bid - game.drivers * rebate[i] @ share)
            assert money[i, :3].sum() == pytest.approx(value, rel=1e-10)
        assert money[1].sum() == pytest.approx(0.0, abs=1e-8)


def test_profit_of_a_day_is_at_most_the_games_objective():
    """With response "model", bids up to the certified ones and settlement by penalty: whatever the luck."""
    for change in ({}, {"variant": "published", "eta": 0.45}, {"habit_weight": 0.3}, {"shortfall_factor": 0.0}):
        fleet = Instance(days=10, **change)
        model = Model(fleet)
        scenario = sample(fleet, 20, 1)
        state = model.initial(scenario)
        rng = np.random.default_rng(0)
        for day in range(fleet.days):
            action = rng.uniform(-1.0, 1.0, (20, 25))
            action[:10, -1] = 1.0
            state, money, _ = model.step(scenario, state, action)
            for i in range(0, 20, 3):
                game = model.day_game(scenario, i, day)
                arcs = arcs_of(game.classes)
                share = plugged_shares(arcs.period, respond(arcs, state.habit[i : i + 1]).flow[0], 24)
                bid = allowed_bid(share[None, :, None], arcs.share, coefficients(game), game.variant == "rigorous")[0]
                bound = np.array(game.price_usd_per_kw) @ bid - game.drivers * state.rebate[i] @ share
                assert money[i, :3].sum() <= bound + 1e-9 * abs(bound)


def test_response_is_the_followers():
    """Shares seen through many drivers: the law of large numbers leaves no room for another response."""
    fleet = Instance(drivers=1_000_000, days=3)
    model = Model(fleet)
    scenario = sample(fleet, 2, 4)
    rebate = np.random.default_rng(1).choice(np.array(fleet.rebate_levels_usd_per_h), (2, 24))
    state = model.initial(scenario)
    for day in range(fleet.days):
        state, _, _ = model.step(scenario, state, model.action_for(rebate))
        for i in range(2):
            arcs = arcs_of(model.day_game(scenario, i, day).classes)
            share = plugged_shares(arcs.period, respond(arcs, rebate[i : i + 1]).flow[0], 24)
            np.testing.assert_allclose(state.plugged[i], share, atol=6 * 0.5e-3)


def test_day_game_has_the_days_price_type_and_weather():
    fleet = Instance()
    model = Model(fleet)
    scenario = sample(fleet, 3, 4)
    for row, day in ((0, 0), (2, 29), (1, 13)):
        game = model.day_game(scenario, row, day)
        share = fleet.plug_shares[scenario.plug[row, day]]
        assert game == fleet.game(scenario.price[row, day], bool(scenario.weekend[row, day]), share)
    for row, day in ((3, 0), (-1, 0), (0, 30), (0, -1), (0, 0.5)):
        with pytest.raises(InvalidInputError):
            model.day_game(scenario, row, day)


# The promise


def violations(change, fraction, months, seed=6):
    """Share of months x days in which each hour fails, (24,), under random rebates."""
    fleet = Instance(**change)
    model = Model(fleet)
    scenario = sample(fleet, months, seed)
    state = model.initial(scenario)
    rng = np.random.default_rng(0)
    failed = []
    for _ in range(fleet.days):
        rebate = rng.choice(np.array(fleet.rebate_levels_usd_per_h), (months, 24))
        state, _, facts = model.step(scenario, state, model.action_for(rebate, fraction))
        failed.append(state.delivered_kw < state.bid_kw)
        np.testing.assert_allclose(facts[:, 0], failed[-1].mean(axis=1))
    return np.concatenate(failed).mean(axis=0)


@pytest.mark.parametrize(
    "change",
    [{}, {"signals": "published"}, {"eta": 0.3}, {"drivers": 20}, {"response": "population"}],
    ids=["default", "published signals", "eta 30 %", "20 drivers", "population"],
)
def test_certified_bids_keep_every_hours_promise(change):
    months = 60
    often = violations(change, 1.0, months)
    eta = Instance(**change).eta
    assert often.max() <= eta + 4.0 * math.sqrt(eta * (1.0 - eta) / (30 * months))
    assert often.max() > 0.0


def test_bidding_beyond_the_certified_bid_breaks_the_promise():
    assert violations({"bid_limit": 1.5}, 1.4, 20).min() > 0.3


def test_told_and_simulated_signals_are_one():
    """Bids made for a steady signal fail too often under a lively one."""
    fleet = Instance(signals="published")
    model, scenario = Model(fleet), sample(fleet, 30, 2)
    lively = sample(Instance(signals="pjm"), 30, 2).ratio
    failed = {}
    for name, months in (("told", scenario), ("other", scenario._replace(ratio=lively))):
        state = model.initial(months)
        _, _, facts = model.step(months, state, model.action_for(np.zeros((30, 24))))
        failed[name] = facts[:, 0].mean()
    assert failed["told"] < fleet.eta < failed["other"]


def test_overbidding_pays_without_a_price_on_shortfall_and_costs_with_it():
    def profit(fraction, **change):
        fleet = Instance(bid_limit=1.5, days=10, **change)
        model, scenario = Model(fleet), sample(fleet, 20, 9)
        action = model.action_for(np.zeros((20, 24)), fraction).astype(np.float32)
        return rollout(model, scenario, Recorded(np.repeat(action[:, None], 10, axis=1))).returns.mean()

    assert profit(1.4, shortfall_factor=0.0) > profit(1.0, shortfall_factor=0.0)
    assert profit(1.4) < profit(1.0)
    assert profit(1.4, settlement="forfeit") < profit(1.0, settlement="forfeit")


# Variants


def test_forfeited_hours_earn_nothing_and_the_others_what_they_deliver():
    fleet = Instance(settlement="forfeit", bid_limit=1.5, days=5)
    model, scenario = Model(fleet), sample(fleet, 10, 3)
    state = model.initial(scenario)
    lost = 0
    for day in range(fleet.days):
        state, money, _ = model.step(scenario, state, model.action_for(np.zeros((10, 24)), 1.2))
        share = state.delivered_kw / state.bid_kw
        paid = np.where(share >= 0.95, state.delivered_kw, 0.0)
        np.testing.assert_allclose(money[:, 0], (scenario.price[:, day] * paid).sum(axis=1))
        assert (money[:, 1] == 0.0).all()
        lost += (share < 0.95).sum()
    assert lost > 20


def test_population_has_the_models_marginals_and_its_own_dependence():
    counts = {}
    for response in ("model", "population"):
        fleet = Instance(response=response, plug_shares=(0.8,), plug_probabilities=(1.0,))
        model, scenario = Model(fleet), sample(fleet, 60, 2)
        scenario = scenario._replace(weekend=np.zeros_like(scenario.weekend))
        state, seen = model.initial(scenario), []
        rebate = np.tile(np.array([0.0, 0.1, 0.3] * 8), (60, 1))
        for _ in range(fleet.days):
            state, _, _ = model.step(scenario, state, model.action_for(rebate))
            seen.append(state.plugged * fleet.drivers)
        counts[response] = np.concatenate(seen)
    arcs = arcs_of(fleet.game(plugged=0.8).classes)
    share = plugged_shares(arcs.period, respond(arcs, rebate[:1]).flow[0], 24)
    for found in counts.values():
        error = np.sqrt(200 * share * (1.0 - share) / len(found))
        assert (np.abs(found.mean(axis=0) - 200 * share) < 4.5 * error).all()
        np.testing.assert_allclose(found.var(axis=0), 200 * share * (1.0 - share), rtol=0.2)
    neighbours = {name: np.corrcoef(found[:, 10], found[:, 11])[0, 1] for name, found in counts.items()}
    assert abs(neighbours["model"]) < 0.1
    assert neighbours["population"] > 0.2


def test_population_is_paid_by_head_and_model_by_expectation():
    for response in ("model", "population"):
        fleet = Instance(response=response, days=2)
        model, scenario = Model(fleet), sample(fleet, 3, 2)
        rebate = np.full((3, 24), 0.2)
        state, money, _ = model.step(scenario, model.initial(scenario), model.action_for(rebate))
        by_head = -0.2 * 200 * state.plugged.sum(axis=1)
        assert np.allclose(money[:, 2], by_head) == (response == "population")


def test_habit_is_a_running_mean_of_rebates():
    fleet = Instance(habit_weight=0.3, days=4)
    model, scenario = Model(fleet), sample(fleet, 1, 2)
    state = model.initial(scenario)
    minds = []
    for level in (1.0, 0.0, 0.0, 0.5):
        state, _, _ = model.step(scenario, state, model.action_for(np.full((1, 24), level)))
        minds.append(state.habit[0, 0])
    assert minds == pytest.approx([0.3, 0.21, 0.147, 0.2529])


def test_without_habit_days_are_independent_of_the_past():
    fleet = Instance(days=5)
    model, scenario = Model(fleet), sample(fleet, 2, 2)
    rng = np.random.default_rng(0)
    a = b = model.initial(scenario)
    for day in range(fleet.days):
        action = rng.uniform(-1.0, 1.0, (2, 25))
        a, money_a, _ = model.step(scenario, a, action)
        b, money_b, _ = model.step(scenario, b, action if day == fleet.days - 1 else -action)
    np.testing.assert_array_equal(money_a, money_b)


def test_rebates_bring_cars_and_larger_bids():
    model = Model(Instance(response="model"))
    scenario = sample(model.instance, 4, 2)
    start = model.initial(scenario)
    none, _, few = model.step(scenario, start, model.action_for(np.zeros((4, 24))))
    some, _, many = model.step(scenario, start, model.action_for(np.full((4, 24), 0.3)))
    assert (some.bid_kw > none.bid_kw).all()
    assert (some.plugged >= none.plugged).all()
    assert (many[:, FACT["plugged"]] > few[:, FACT["plugged"]]).all()


# Observations


def test_observation_by_hand():
    fleet = Instance(habit_weight=0.3)
    model, scenario = Model(fleet), sample(fleet, 2, 2)
    layout = model.observation_layout
    seen = model.observe(scenario, model.initial(scenario))
    price = 4.0 + np.log(scenario.price[:, 0] / fleet.base_price.mean())
    np.testing.assert_allclose(seen[:, layout["price"]], np.clip(price, 0.0, 8.0), rtol=1e-6)
    np.testing.assert_array_equal(seen[:, layout["weekend"]][:, 0], scenario.weekend[:, 0])
    shares = np.float32(fleet.plug_shares)
    np.testing.assert_array_equal(seen[:, layout["plug_share"]][:, 0], shares[scenario.plug[:, 0]])
    assert (seen[:, layout["day"].start :] == 0.0).all()
    state, _, _ = model.step(scenario, model.initial(scenario), model.action_for(np.full((2, 24), 0.5)))
    seen = model.observe(scenario, state)
    np.testing.assert_allclose(seen[:, layout["rebate"]], 0.15, rtol=1e-6)
    np.testing.assert_allclose(seen[:, layout["plugged"]], state.plugged, rtol=1e-6)
    np.testing.assert_allclose(seen[:, layout["day"]], 1 / 30, rtol=1e-6)
    assert sum(part.stop - part.start for part in layout.values()) == seen.shape[1] == 75
    for _ in range(29):
        state, _, _ = model.step(scenario, state, np.zeros((2, 25)))
    last = model.observe(scenario, state)
    assert (last[:, :26] == 0.0).all()
    assert (last[:, layout["day"]] == 1.0).all()


def test_hidden_weather_is_hidden_and_changes_nothing_else():
    seen = {}
    for announced in (True, False):
        fleet = Instance(announced=announced)
        model, scenario = Model(fleet), sample(fleet, 8, 2)
        action = np.random.default_rng(0).uniform(-1.0, 1.0, (8, 25))
        state, money, _, observation = model.advance(scenario, model.initial(scenario), action)
        seen[announced] = observation, money
    hidden = model.observation_layout["plug_share"]
    assert (seen[False][0][:, hidden] == 0.0).all()
    assert (seen[True][0][:, hidden] > 0.6).all()
    seen[True][0][:, hidden] = 0.0
    for one, other in zip(seen[True], seen[False], strict=True):
        np.testing.assert_array_equal(one, other)


def test_extreme_prices_stay_in_the_space():
    fleet = Instance(price_usd_per_kw=(0.0,) * 12 + (1.0,) * 12, price_level_sd=2.0, price_hour_sd=2.0, days=50)
    model, scenario = Model(fleet), sample(fleet, 10, 1)
    state = model.initial(scenario)
    for _ in range(fleet.days):
        state, money, _, seen = model.advance(scenario, state, np.ones((10, 25)))
        assert np.isfinite(money).all()
        assert ((seen >= 0.0) & (seen <= model.observation_high)).all()


# Batches and actions


@pytest.mark.parametrize("variant", ["default", "habit", "population", "quarter hours"])
def test_rows_do_not_depend_on_their_company(variant):
    fleet = Instance(**{"days": 5} | VARIANTS[variant])
    model = Model(fleet)
    scenario = sample(fleet, 9, 2)
    action = np.random.default_rng(0).uniform(-1.0, 1.0, (fleet.days, 9, fleet.periods + 1))
    state = model.initial(scenario)
    alone = type(scenario)(*(part[4:5] for part in scenario))
    own = model.initial(alone)
    for day in range(fleet.days):
        state, *rest = model.advance(scenario, state, action[day])
        own, *mine = model.advance(alone, own, action[day, 4:5])
        for one, other in zip((*state, *rest), (*own, *mine), strict=True):
            np.testing.assert_array_equal(one[4:5], other)


def test_step_leaves_the_state_alone_and_advance_adds_the_observation():
    model = Model(Instance())
    scenario = sample(model.instance, 3, 2)
    start = model.initial(scenario)
    before = [part.copy() for part in start]
    action = np.random.default_rng(0).uniform(-1.0, 1.0, (3, 25))
    state, money, facts = model.step(scenario, start, action)
    for part, kept in zip(start, before, strict=True):
        np.testing.assert_array_equal(part, kept)
    again, money_2, facts_2, seen = model.advance(scenario, start, action)
    for one, other in zip((*state, money, facts), (*again, money_2, facts_2), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(seen, model.observe(scenario, state))


def test_finished_months_stand_still():
    model = Model(Instance(days=2))
    scenario = sample(model.instance, 2, 2)
    state = model.initial(scenario)
    for _ in range(2):
        state, _, _ = model.step(scenario, state, np.ones((2, 25)))
    later, money, facts = model.step(scenario, state, np.zeros((2, 25)))
    for one, other in zip(state, later, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not money.any()
    assert not facts.any()


@pytest.mark.parametrize("levels", [(0.0,), (0.0, 0.05), tuple(i / 20 for i in range(21)), (0.1, 0.3, 7 / 9, 11.1)])
@pytest.mark.parametrize("limit", [1.0, 1.5, 0.7])
def test_actions_come_back_exactly_after_rounding_to_single_precision(levels, limit):
    fleet = Instance(rebate_levels_usd_per_h=levels, bid_limit=limit, days=1)
    model = Model(fleet)
    rng = np.random.default_rng(0)
    rebate = rng.choice(np.array(levels), (50, 24))
    whole = min(1.0, limit)
    scenario = sample(fleet, 50, 1)
    state = model.initial(scenario)
    results = {}
    for kind in (np.float64, np.float32):
        action = model.action_for(rebate, whole).astype(kind)
        assert np.abs(action).max() <= 1.0
        results[kind], *_ = model.step(scenario, state, action.astype(np.float64))
    np.testing.assert_array_equal(results[np.float32].rebate, rebate)
    if limit in (1.0, 1.5):
        np.testing.assert_array_equal(results[np.float32].bid_kw, results[np.float64].bid_kw)
    fraction = rng.uniform(0.0, limit, 50)
    action = model.action_for(rebate, fraction).astype(np.float32)
    full, *_ = model.step(scenario, state, model.action_for(rebate, whole))
    some, *_ = model.step(scenario, state, action.astype(np.float64))
    np.testing.assert_allclose(some.bid_kw, full.bid_kw * (fraction / whole)[:, None], atol=1e-6 * 2000)


def test_rebates_that_are_no_levels_and_bids_out_of_range_are_refused():
    model = Model(Instance(rebate_cap_usd_per_h=(0.5,) * 23 + (0.2,)))
    good = np.zeros((2, 24))
    model.action_for(good, np.array([0.0, 1.0]))
    model.action_for(np.array([[0.5] * 23 + [0.2]]))
    for bad in (0.51, 0.55, -0.05, np.nan, 1.0):
        rebate = good.copy()
        rebate[1, 3] = bad
        with pytest.raises(InvalidInputError, match="rebate_usd_per_h"):
            model.action_for(rebate)
    with pytest.raises(InvalidInputError, match=r"rebate_usd_per_h\[0, 23\]"):
        model.action_for(np.full((1, 24), 0.25))
    for bad in (1.01, -0.01, np.nan, [1.0] * 3, "all"):
        with pytest.raises(InvalidInputError, match="bid_fraction"):
            model.action_for(good, bad)
    with pytest.raises(InvalidInputError, match="shape"):
        model.action_for(np.zeros((2, 23)))


def test_model_refuses_laws_and_days_that_do_not_exist():
    with pytest.raises(InvalidInputError, match="law"):
        Model(Instance(), "days:2019")
    with pytest.raises(InvalidInputError, match="law"):
        Model(Instance(), 3)
    with pytest.raises(InvalidInputError, match="day"):
        Model(Instance()).draw([np.random.default_rng(0)], [0])
