"""Policies and the bound of V2G/Stackelberg-v0 against each other, on the same months."""

import numpy as np
import pytest

from baselines.stackelberg.days import Days, DaySolver, highest_bid_kw, read_morning
from baselines.stackelberg.hindsight import hindsight
from baselines.stackelberg.policies import (
    CertifiedOptimum,
    CoordinateSearch,
    NoRebates,
    StaticByType,
    StaticRebates,
    tune_by_type,
    tune_static,
)
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.scenario import sample

LEVELS = (0.0, 0.1, 0.2, 0.4)
GAP, LIMIT_S = 1e-3, 0.3
SMALL = Instance(days=7, rebate_levels_usd_per_h=LEVELS)


@pytest.fixture(scope="module")
def model():
    return Model(SMALL)


@pytest.fixture(scope="module")
def months():
    return sample(SMALL, 2, 5)


@pytest.fixture(scope="module")
def solver():
    return DaySolver(SMALL, GAP, LIMIT_S)


@pytest.fixture(scope="module")
def top(months, solver):
    return hindsight(SMALL, months, solver=solver)


@pytest.fixture(scope="module")
def schedules(model, months):
    return tune_static(model, months), tune_by_type(model, months)


@pytest.fixture(scope="module")
def policies(model, solver, schedules):
    static, by_type = schedules
    return {
        "none": NoRebates(model),
        "static": StaticRebates(model, static),
        "by type": StaticByType(model, *by_type),
        "search": CoordinateSearch(model, steps=(2, 1)),
        "optimum": CertifiedOptimum(model, solver),
    }


@pytest.fixture(scope="module")
def episodes(model, months, policies):
    return {name: rollout(model, months, policy) for name, policy in policies.items()}


def profits(model, months, episodes):
    """Model profit of every day above no rebates, (n, D): what is earned if all is delivered."""
    days = Days(model)
    top = model.constants.levels[-1]
    kind = days.kind(months.weekend.ravel() > 0, months.plug.ravel())
    price = months.price.reshape(-1, 24)
    wanted = np.maximum(episodes.actions[:, :, :-1].astype(float), 0.0) * top
    nearest = np.abs(wanted[..., None] - model.constants.levels).argmin(axis=-1)
    rebates = model.constants.levels[nearest].reshape(len(kind), -1)
    return (days.profit(kind, price, rebates) - days.reference(kind, price)).reshape(months.weekend.shape)


def test_no_policy_beats_the_bound_on_any_day(episodes, top):
    for name, each in episodes.items():
        assert (each.rewards <= top.bound_usd + 1e-9).all(), name


def test_the_ladder_of_policies_holds_on_the_days_they_were_tuned_for(model, months, episodes):
    worth = {name: profits(model, months, each) for name, each in episodes.items()}
    assert np.allclose(worth["none"], 0.0, atol=1e-9)
    means = [worth[name].mean() for name in ("none", "static", "by type", "optimum")]
    assert means == sorted(means)
    assert means[-1] > means[0] + 10.0
    assert worth["static"].mean() < worth["search"].mean()


def test_the_optimum_reaches_the_bound_up_to_the_proven_gap(model, months, episodes, top):
    worth = profits(model, months, episodes["optimum"])
    np.testing.assert_allclose(worth, top.value_usd, atol=1e-6)
    days = Days(model)
    kind = days.kind(months.weekend.ravel() > 0, months.plug.ravel())
    whole = days.reference(kind, months.price.reshape(-1, 24)).reshape(worth.shape) + worth
    assert (top.bound_usd - worth <= top.gap * whole + 1e-6).all()
    assert np.median(top.gap) <= 1.01 * GAP


def test_local_search_finds_no_more_than_the_bound_and_no_less_than_its_start(model, months, episodes, top):
    found = profits(model, months, episodes["search"])
    assert (found <= top.bound_usd + 1e-9).all()
    assert (found >= -1e-9).all()


def test_what_is_lost_without_rebates_is_what_was_not_delivered(model, months, episodes):
    each = episodes["none"]
    fill = each.facts[:, :, 0] > 0.0
    assert (each.rewards[~fill] == pytest.approx(0.0, abs=1e-9)) or fill.all()
    assert (each.rewards[fill] < 0.0).all()


def test_the_model_profit_of_a_day_is_the_objective_of_its_game(model, months, top):
    from baselines.stackelberg.published import evaluate

    game = model.day_game(months, 1, 3)
    rebates = model.constants.levels[top.levels[1, 3]][None]
    value = evaluate(game, rebates)[0][0]
    days = Days(model)
    kind = days.kind(months.weekend[1, [3]] > 0, months.plug[1, [3]])
    assert days.profit(kind, months.price[1, [3]], rebates)[0] == pytest.approx(value, rel=1e-9)
    idle = evaluate(game, np.zeros((1, 24)))[0][0]
    assert days.reference(kind, months.price[1, [3]])[0] == pytest.approx(idle, rel=1e-9)


def test_the_morning_tells_prices_type_and_weather(model, months):
    morning = read_morning(model, model.observe(months, model.initial(months)))
    np.testing.assert_allclose(morning.price, months.price[:, 0], rtol=1e-6)
    assert (morning.weekend == (months.weekend[:, 0] > 0)).all()
    assert (morning.plug == months.plug[:, 0]).all()


def test_no_certified_bid_is_above_the_highest(model):
    rebates = np.full((1, 24), LEVELS[-1])
    assert max(Days(model).response(k, rebates)[1].max() for k in range(6)) < highest_bid_kw(SMALL)


def test_policies_look_at_the_observation_alone_and_at_each_row_for_itself(model, months, policies):
    seen = model.observe(months, model.initial(months))
    for name, policy in policies.items():
        both, memory = policy.predict(seen)
        assert memory is None
        assert both.dtype == np.float32
        assert np.array_equal(policy.predict(seen[1:])[0], both[1:]), name
        assert np.array_equal(policy.predict(seen[1])[0], both[1]), name


@pytest.mark.parametrize("change", [{"announced": False}, {"response": "population"}, {"habit_weight": 0.3}])
def test_policies_run_on_the_named_variants(change):
    fleet = SMALL.replace(days=2, **change)
    model, months = Model(fleet), sample(fleet, 2, 5)
    for policy in (CoordinateSearch(model, steps=(2,)), CertifiedOptimum(model, DaySolver(fleet, 1e-2, 0.2))):
        each = rollout(model, months, policy)
        assert np.isfinite(each.returns).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda m: StaticRebates(m, np.zeros(23, np.int64)), "shape of levels"),
        (lambda m: StaticRebates(m, np.full(24, 4)), "levels"),
        (lambda m: StaticRebates(m, np.zeros(24)), "levels"),
        (lambda m: CoordinateSearch(m, steps=()), "steps"),
        (lambda m: CoordinateSearch(m, steps=(0,)), "steps"),
        (lambda m: CertifiedOptimum(m, DaySolver(Instance())), "solver"),
        (lambda m: DaySolver(SMALL, gap=0.0), "gap"),
        (lambda m: DaySolver(SMALL, time_limit_s=0.0), "time_limit_s"),
    ],
)
def test_bad_arguments_are_refused_by_name(model, make, named):
    with pytest.raises(InvalidInputError, match=named):
        make(model)
