"""Environment and optimiser mean the same: what one does is a point of the other's program, at the same money.

Here is what the tests of single families leave out: random trajectories of the parking lot, the shared battery and the
Stackelberg game put into their programs, and the sizes of the certified program lived through.
"""

import numpy as np
import pytest

from baselines.parking_lot.samples import reachable, true_market
from baselines.parking_lot.storage import Market, plan_money, solve_paths
from baselines.shared_battery.programs import solve as solve_sizes
from baselines.shared_battery.programs import span_of
from baselines.shared_battery.scenario_program import least_cost
from baselines.shared_battery.seasons import FixedSizes
from baselines.stackelberg.days import Days
from baselines.stackelberg.published import evaluate
from v2g_env.parking_lot.instance import Instance as Lot
from v2g_env.parking_lot.model import FACTS as LOT_FACTS
from v2g_env.parking_lot.model import REWARD_TERMS as LOT_TERMS
from v2g_env.parking_lot.model import Model as LotModel
from v2g_env.parking_lot.scenario import sample as lot_days
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance as Battery
from v2g_env.shared_battery.model import SIZING_FACTS, SIZING_TERMS, WEEK_FACTS, SizingModel, WeekModel
from v2g_env.shared_battery.scenario import sample_seasons, sample_weeks
from v2g_env.stackelberg.instance import Instance as Fleet
from v2g_env.stackelberg.model import FACTS as FLEET_FACTS
from v2g_env.stackelberg.model import Model as FleetModel
from v2g_env.stackelberg.scenario import sample as months_of

TOLERANCE = 1e-7


def random_actions(model, n, seed):
    """Actions that use the whole range, its ends, or little of it."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.0, 1.0, (n, model.steps, model.action_size))
    kind = np.arange(n)[:, None, None] % 3
    return np.where(kind == 1, np.sign(actions), np.where(kind == 2, 0.2 * actions, actions)).astype(np.float32)


# Parking lot: the storage path program of baselines.parking_lot.reference, written out as residuals

LOTS = {
    "default": {},
    "no gate closure": {"gate_closure_steps": 0},
    "half hours": {"step_h": 0.5},
    "small grid": {"grid_limit_kw": 15.0},
    "minimal moves": {"dispatch": "minimal_move"},
}


def lived(name, seed):
    """Instance, days, market, and what random policies stored, closed and earned."""
    lot = Lot(**LOTS[name])
    model = LotModel(lot, "generator")
    days = lot_days(lot, model.law, 60, seed)
    episodes = rollout(model, days, Recorded(random_actions(model, 60, seed)))
    stored, closed = (episodes.facts[:, :, LOT_FACTS.index(fact)] for fact in ("stored_kwh", "closed_kwh"))
    return lot, days, true_market(lot, days), episodes, stored, closed


def exchanged(lot, market, closed, stored):
    """Money (n,) [$] of steps that lead from what is stored to what was closed at the gate."""
    before = np.column_stack([np.zeros(len(stored)), stored[:, :-1]])
    total = np.zeros(len(stored))
    for t in range(lot.steps):
        step = Market(market.buy[t : t + 1], market.surplus_kw[:, t : t + 1], market.deficit_kw[:, t : t + 1])
        total += plan_money(lot, step, closed[:, t : t + 1], before[:, t])
    return total


@pytest.mark.parametrize("name", LOTS)
def test_trajectories_of_the_parking_lot_keep_the_rows_of_the_storage_program_and_its_prices(name):
    lot, days, market, episodes, stored, closed = lived(name, 1)
    before = np.column_stack([np.zeros(60), stored[:, :-1]])
    change = closed - before
    charge, discharge = np.maximum(change, 0.0) / lot.efficiency, np.maximum(-change, 0.0) * lot.efficiency
    residuals = {
        "stored >= 0": -stored,
        "stored <= closed": stored - closed,
        "stored <= capacity": (stored - reachable(lot, days))[:, :-1],
        "empty at the end": np.abs(stored[:, -1]),
        "bought <= grid": charge - (market.surplus_kw + lot.grid_limit_kw) * lot.step_h,
        "sold <= grid": discharge - (market.deficit_kw + lot.grid_limit_kw) * lot.step_h,
        "nothing before the gate": stored[:, : lot.gate_closure_steps],
    }
    for rule, each in residuals.items():
        assert each.max(initial=0.0) <= TOLERANCE, rule
    assert stored.max() > 10.0
    other = [LOT_TERMS.index(term) for term in ("redistribution", "imbalance")]
    money = episodes.money.sum(axis=1) - episodes.money[:, other].sum(axis=1)
    np.testing.assert_allclose(money, exchanged(lot, market, closed, stored), rtol=0.0, atol=1e-9)
    assert (episodes.money[:, other] <= 1e-12).all()  # what the program leaves out costs, never earns


@pytest.mark.parametrize("name", LOTS)
def test_days_without_shortfall_are_paths_of_the_storage_program_at_the_same_money(name):
    lot, days, market, episodes, stored, closed = lived(name, 2)
    kept = np.abs(closed - stored).max(axis=1) <= 1e-12
    assert kept.sum() >= 3
    other = [LOT_TERMS.index(term) for term in ("redistribution", "imbalance")]
    money = episodes.money.sum(axis=1) - episodes.money[:, other].sum(axis=1)
    np.testing.assert_allclose(plan_money(lot, market, stored)[kept], money[kept], rtol=0.0, atol=1e-9)
    assert (money[~kept] + episodes.money[~kept][:, other[1]] <= plan_money(lot, market, stored)[~kept] + 1e-9).all()
    top = solve_paths(lot, market, reachable(lot, days)).value_usd
    assert (money[kept] <= top[kept] + 1e-6).all()


# Shared battery: every stretch of requests takes at most a full battery and what nights put back


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "shares"])
@pytest.mark.parametrize("recharge", [0.0, 0.25, 1.0])
def test_trajectories_of_the_week_are_points_of_the_knapsack_program_at_the_same_money(partial, recharge):
    lot = Battery(drivers=6, week_days=4, recharge_fraction=recharge)
    model = WeekModel(lot, partial=partial)
    weeks = sample_weeks(lot, model.law, 30, 5)
    rng = np.random.default_rng(6)
    shape = (30, model.steps)
    actions = rng.uniform(-1.0, 1.0, (*shape, 1)).astype(np.float32) if partial else rng.integers(0, 2, shape)
    episodes = rollout(model, weeks, Recorded(actions))
    granted = episodes.facts[:, :, WEEK_FACTS.index("granted_kwh")]
    size, value = weeks.size_kwh[:, : model.steps], weeks.value_usd[:, : model.steps]
    full = model.sizes.shared_kwh
    total = np.concatenate([np.zeros((30, 1)), np.cumsum(granted, axis=1)], axis=1)
    for first in range(model.steps):
        for last in range(first, model.steps):
            nights = last // lot.drivers - first // lot.drivers
            taken = total[:, last + 1] - total[:, first]
            assert (taken <= full + nights * recharge * full + TOLERANCE).all(), (first, last)
    share = np.divide(granted, size, out=np.zeros(shape), where=size > 0.0)
    assert share.min() >= -TOLERANCE
    assert share.max() <= 1.0 + TOLERANCE
    if not partial:
        assert np.minimum(share, 1.0 - share).max() <= TOLERANCE
    np.testing.assert_allclose(episodes.returns, (value * share).sum(axis=1), rtol=1e-9)
    assert granted.sum(axis=1).mean() > 0.5 * full


# Sizing: cost and service of sizes, counted here day by day


def sizing(seasons, seed):
    lot = Battery(drivers=5, season_days=20)
    model = SizingModel(lot)
    return lot, model, sample_seasons(lot, model.law, seasons, seed)


def test_random_sizes_cost_in_the_environment_what_they_cost_in_the_program():
    lot, model, seasons = sizing(40, 3)
    episodes = rollout(model, seasons, Recorded(random_actions(model, 40, 4)))
    own, shared = model.sizes(episodes.actions[:, 0].astype(float))
    cost = lot.own_usd_per_kwh * own.sum(axis=1) + lot.shared_usd_per_kwh * shared
    missed = episodes.money[:, SIZING_TERMS.index("missed")]
    np.testing.assert_allclose(episodes.returns, model.separate_usd - cost + missed, rtol=0.0, atol=1e-9)
    over = np.maximum(seasons.need_kwh - own[:, None], 0.0).sum(axis=2) - shared[:, None]
    np.testing.assert_allclose(
        episodes.facts[:, 0, SIZING_FACTS.index("excess")], over.max(axis=1) / 10.0, rtol=0.0, atol=1e-9
    )
    kept = (over <= 0.0).all(axis=1)
    assert (missed[kept] == 0.0).all()
    assert 0 < kept.sum() < 40
    for k in np.flatnonzero(kept):  # a point of the program over these days costs no less than its optimum
        best = least_cost(seasons.need_kwh[k], span_of(lot))
        assert cost[k] >= lot.cost_usd(best.own_kwh, best.shared_kwh) - TOLERANCE


def test_the_programs_sizes_earn_its_objective_on_days_that_they_serve():
    lot, model, seasons = sizing(30, 8)
    found = solve_sizes(lot, seed=9)
    policy = FixedSizes(model, found.own_kwh, found.shared_kwh)
    episodes = rollout(model, seasons, policy)
    cost = lot.cost_usd(found.own_kwh, found.shared_kwh)
    served = episodes.facts[:, 0, SIZING_FACTS.index("unserved_kwh")] <= 1e-4
    missed = episodes.money[:, SIZING_TERMS.index("missed")]
    assert served.sum() > 10
    np.testing.assert_allclose(missed[served], 0.0, atol=1e-9)
    np.testing.assert_allclose(episodes.returns[served], model.separate_usd - cost, rtol=0.0, atol=1e-2)
    exact = np.tile(model.action_for(found.own_kwh, found.shared_kwh), (30, 1))  # not rounded to single precision
    money = model.step(seasons, model.initial(seasons), exact)[1]
    np.testing.assert_allclose(money[served].sum(axis=1), model.separate_usd - cost, rtol=1e-9)


# Stackelberg: a day's money at any rebates is the objective of its game, less what was not delivered


@pytest.mark.parametrize("change", [{}, {"settlement": "forfeit"}, {"bid_limit": 1.5}], ids=str)
def test_days_of_the_environment_earn_the_objective_of_their_game_if_all_is_delivered(change):
    fleet = Fleet(days=6, **change)
    model, months = FleetModel(fleet), months_of(fleet, 3, 11)
    rng = np.random.default_rng(12)
    rebates = model.constants.levels[rng.integers(0, np.minimum(model.constants.choices, 6), (3, 6, fleet.periods))]
    actions = np.stack([model.action_for(rebates[:, d]) for d in range(6)], axis=1).astype(np.float32)
    episodes = rollout(model, months, Recorded(actions))
    short = episodes.facts[:, :, FLEET_FACTS.index("shortfall_kwh")]
    days = Days(model)
    kind = days.kind(months.weekend.ravel() > 0, months.plug.ravel())
    reference = days.reference(kind, months.price.reshape(-1, 24)).reshape(3, 6)
    value = np.empty((3, 6))
    for i, d in np.ndindex(3, 6):
        value[i, d] = evaluate(model.day_game(months, i, d), rebates[i, [d]])[0][0]
    earned = episodes.rewards + reference
    whole = short <= 1e-12
    assert 3 <= whole.sum() < 18
    np.testing.assert_allclose(earned[whole], value[whole], rtol=1e-9)
    assert (earned[~whole] < value[~whole]).all()
