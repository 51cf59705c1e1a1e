"""Penalised bounds on the week of requests: valid for any critic, and close to the optimum for a good one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.risk import asymptotic_limit
from baselines.shared_battery.hindsight import hindsight
from baselines.shared_battery.penalty import penalised, penalty_of
from baselines.shared_battery.penalty_critic import WeekCritic
from baselines.shared_battery.penalty_fit import (
    fitted_critic,
    frozen_critic,
    no_critic,
    programme_critic,
    request_traits,
    tune_scale,
)
from baselines.shared_battery.penalty_law import chances, classes_of, requests_of, week_shocks
from baselines.shared_battery.policies import (
    DensityThreshold,
    DynamicProgramme,
    FirstCome,
    PacedDensity,
)
from baselines.shared_battery.week_programme import online_bound, solve_week
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week, sample_weeks

WEEK = Instance(drivers=6, week_days=3)
ALIKE = Instance(driver_spread=0.0)
VALUES = ("lognormal", "density", "equal")


def any_critic(model, seed, size=10.0, traits=2, scale=1.0):
    """Tables of noise: neither increasing nor concave."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(0.0, size, (model.steps, 12))
    tilt = rng.normal(0.0, size, (traits, model.steps, 12))
    return WeekCritic(worth, tilt, rng.normal(0.0, 1.0, (model.instance.drivers, traits)), scale)


def shocks_of(model, weeks, seed):
    return week_shocks(model.instance, weeks, seed) if model.instance.correlation > 0.0 else None


def test_without_a_critic_it_is_the_hindsight_bound():
    model = WeekModel(WEEK)
    weeks = sample_weeks(WEEK, "generator", 20, 1)
    bound = penalised(model, weeks, no_critic(model), 500, 7)
    top = hindsight(model, weeks, 500)  # may take the relaxation where that is tighter
    assert (top.bound_usd <= bound.bound_usd).all()
    np.testing.assert_allclose(bound.bound_usd, top.bound_usd, rtol=0.02)
    assert (bound.grid, bound.classes) == (500, 7)
    assert np.abs(penalty_of(model, weeks, np.ones((20, 18), np.int64), no_critic(model), 500, 7)).max() == 0.0


@pytest.mark.parametrize("values", VALUES)
def test_for_drivers_who_are_alike_the_right_critic_leaves_no_slack_on_any_week(values):
    lot = ALIKE.replace(values=values, week_days=3, drivers=10)
    model = WeekModel(lot)
    weeks = sample_weeks(lot, "generator", 40, 3)
    critic = programme_critic(model, solve_week(model, 150, "down"))
    bound = penalised(model, weeks, critic, 150, 151).bound_usd
    limit = online_bound(model, 150)
    if values == "density":  # the limit takes sizes at both ends of a unit, the penalty in the middle
        np.testing.assert_allclose(bound, limit, rtol=0.02)
    else:
        np.testing.assert_allclose(bound, limit, rtol=1e-6)
    assert hindsight(model, weeks, 150).bound_usd.mean() > 1.02 * limit


def test_for_the_default_week_of_drivers_who_are_alike_it_meets_the_online_bound_and_its_programme():
    model = WeekModel(ALIKE)
    weeks = sample_weeks(ALIKE, "generator", 8, 3)
    solved = solve_week(model, 400)
    bound = penalised(model, weeks, programme_critic(model, solved), 800, 267).bound_usd
    episodes = rollout(model, weeks, DynamicProgramme(model, solved=solved))
    less = episodes.returns - penalty_of(model, weeks, episodes.actions, programme_critic(model, solved), 800, 267)
    assert (bound >= less).all()
    assert solved.value_usd - 0.5 < bound.mean() < online_bound(model, 800) + 1.0
    assert bound.std() < 2.0 < 60.0 < episodes.returns.std()
    assert abs(less.mean() - solved.value_usd) < 4.0 * less.std() / np.sqrt(8)


@pytest.mark.parametrize(
    "changes",
    [{}, {"values": "density"}, {"values": "equal"}, {"correlation": 0.5, "idle": 0.2}],
    ids=["lognormal", "density", "equal", "shock"],
)
def test_the_penalty_has_mean_zero_for_every_policy_and_any_critic(changes):
    lot = WEEK.replace(drivers=4, week_days=2, **changes)
    model = WeekModel(lot)
    count = 4_000
    weeks = sample_weeks(lot, "generator", count, 8)
    shock = shocks_of(model, count, 8)
    random = Recorded(np.random.default_rng(1).integers(0, 2, (count, model.steps)))
    for policy in (FirstCome(model), DensityThreshold(model, 2.0), random):
        actions = rollout(model, weeks, policy).actions
        for seed in range(2):
            z = penalty_of(model, weeks, actions, any_critic(model, seed), 60, 20, shock)
            error = z.std() / np.sqrt(count)
            assert abs(z.mean()) < 4.5 * error
            assert error < 0.02 * np.abs(z).max()


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_chances_of_the_next_request_are_its_frequencies(correlation):
    lot = WEEK.replace(drivers=3, week_days=2, correlation=correlation)
    model = WeekModel(lot)
    count = 10_000
    weeks = sample_weeks(lot, "generator", count, 4)
    kinds = classes_of(model, 30, 6)
    seen = requests_of(model, weeks, kinds)
    shock = shocks_of(model, count, 4)
    for t, chance, other in chances(model, kinds, seen.driver, shock, request_traits(model)):
        hit = seen.kind[:, t, None] == np.arange(len(kinds.units))
        # also on part of the weeks, told apart by what is known before the request
        groups = [np.ones(count, bool)]
        if t % 3:
            groups += [seen.driver[:, t - 1] == i for i in range(3)]
            groups += [] if shock is None else [shock[:, t // 3] > 0.7]
        for group in groups:
            error = np.sqrt(chance[group].mean(axis=0) / group.sum()) + 1e-4
            assert (np.abs(hit[group].mean(axis=0) - chance[group].mean(axis=0)) < 4.5 * error).all()
            assert np.abs(other[group].mean(axis=0)).max() < 0.03
        assert (chance.sum(axis=1) < 1.0 + 1e-12).all()


def test_the_shocks_are_those_of_the_weeks():
    lot = WEEK.replace(correlation=0.999999, driver_spread=0.0)
    model = WeekModel(lot)
    weeks = sample_weeks(lot, "generator", 50, 9)
    shock = week_shocks(lot, 50, 9)
    size = weeks.size_kwh[:, :-1].reshape(50, 3, 6)
    need = model.law.needs.quantile(0.5)[0]
    assert ((size.max(axis=2) > 0.05 * need) == (shock > 0.1)).mean() > 0.9
    order = np.argsort(shock[:, 0])
    assert np.corrcoef(np.arange(50)[25:], size[order][25:, 0, 0])[0, 1] > 0.9


def tiny(drivers=3, days=2, **changes):
    return WeekModel(WEEK.replace(drivers=drivers, week_days=days, **changes))


@pytest.mark.parametrize(
    "changes", [{}, {"values": "density"}, {"correlation": 0.4}], ids=["plain", "density", "shock"]
)
def test_the_bound_is_brute_force_over_all_answers_where_rounding_loses_nothing(changes):
    model = tiny(**changes)
    unit = model.sizes.shared_kwh / 40
    drawn = sample_weeks(model.instance, "generator", 8, 2)
    # a little less than whole units: the environment's tolerance is then all that the rounded week could gain from
    units = np.where(drawn.size_kwh > 0.0, np.ceil(drawn.size_kwh / unit), 0.0)
    weeks = Week(drawn.driver, units * (unit + TOLERANCE_KWH / 4) + 2.5 * TOLERANCE_KWH * (units > 0), drawn.value_usd)
    shock = shocks_of(model, 8, 2)
    for seed in range(2):
        critic = any_critic(model, seed, scale=0.7)
        bound = penalised(model, weeks, critic, 40, 41, shock).bound_usd
        best = np.full(8, -np.inf)
        for answers in itertools.product((0, 1), repeat=model.steps):
            actions = np.tile(np.array(answers), (8, 1))
            less = rollout(model, weeks, Recorded(actions)).returns
            less = less - penalty_of(model, weeks, actions, critic, 40, 41, shock)
            assert (bound >= less).all()
            best = np.maximum(best, less)
        assert (np.abs(bound - best) < 1e-5).mean() >= 0.6


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_answers_at_all_beat_the_bound_on_any_week_whatever_the_critic(data):
    days, drivers = data.draw(st.sampled_from([(1, 6), (3, 4), (2, 5)]))
    model = tiny(drivers, days, recharge_fraction=data.draw(st.sampled_from([0.0, 0.1, 0.3, 1.0])))
    seed = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    weeks = sample_weeks(model.instance, "generator", 10, seed)
    s, tau = model.sizes.shared_kwh, 0.9 * TOLERANCE_KWH
    # requests that the environment grants although a little is missing, again and again
    traps = np.array([s + tau, 0.5 * s + 0.5 * tau, tau, 1e-9, 0.25 * s + tau, s, 2.0 * s])
    hit = (rng.random(weeks.size_kwh.shape) < data.draw(st.sampled_from([0.0, 0.3, 0.9]))) & (weeks.size_kwh > 0.0)
    size = np.where(hit, rng.choice(traps, hit.shape), weeks.size_kwh)
    weeks = weeks._replace(size_kwh=size)
    actions = (rng.random((10, model.steps)) < data.draw(st.sampled_from([0.3, 0.8, 1.0]))).astype(np.int64)
    critic = any_critic(model, seed, data.draw(st.sampled_from([0.1, 10.0, 1e5])), data.draw(st.integers(0, 2)))
    returns = rollout(model, weeks, Recorded(actions)).returns
    for grid, classes in ((7, 8), (100, 9), (500, 50)):
        less = returns - penalty_of(model, weeks, actions, critic, grid, classes)
        assert (penalised(model, weeks, critic, grid, classes).bound_usd >= less).all()


@pytest.fixture(scope="module")
def default():
    model = WeekModel(Instance())
    solved = solve_week(model, 200)
    fitted = fitted_critic(model, sample_weeks(model.instance, "generator", 30, 2), 200, 201)
    return model, solved, fitted


def test_no_rule_programme_or_random_policy_beats_it_and_a_good_critic_is_close_to_the_best(default):
    model, solved, fitted = default
    weeks = sample_weeks(model.instance, "generator", 12, 3)
    plan = (300, 151)
    top = hindsight(model, weeks, 300).bound_usd
    policies = [
        FirstCome(model),
        DensityThreshold(model, 2.0),
        PacedDensity(model, 2.0, 1.0),
        DynamicProgramme(model, solved=solved),
        DynamicProgramme(model, 200, coupled=False),
        Recorded(np.random.default_rng(1).integers(0, 2, (12, model.steps))),
    ]
    done = [rollout(model, weeks, policy) for policy in policies]
    best = done[3].returns
    scatter = {}
    for name, critic in (("programme", programme_critic(model, solved)), ("fitted", fitted)):
        bound = penalised(model, weeks, critic, *plan).bound_usd
        for episodes in done:
            less = episodes.returns - penalty_of(model, weeks, episodes.actions, critic, *plan)
            assert (bound >= less).all()
        less = best - penalty_of(model, weeks, done[3].actions, critic, *plan)
        assert (bound - less).mean() < 0.3 * (top - best).mean()
        scatter[name] = bound.std(), less.std()
    # who is still to come explains most of what is left
    assert scatter["fitted"][0] < 0.3 * scatter["programme"][0]
    assert scatter["fitted"][1] < 0.1 * best.std()


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 3.0])
def test_a_critic_of_the_wrong_size_is_looser_and_still_a_bound(default, factor):
    model, solved, _ = default
    weeks = sample_weeks(model.instance, "generator", 15, 3)
    good = programme_critic(model, solved)
    bad = WeekCritic(factor * good.worth_usd, good.tilt_usd, good.traits)
    bound = [penalised(model, weeks, critic, 300, 101).bound_usd for critic in (good, bad)]
    actions = rollout(model, weeks, DynamicProgramme(model, solved=solved)).actions
    less = rollout(model, weeks, Recorded(actions)).returns - penalty_of(model, weeks, actions, bad, 300, 101)
    assert (bound[1] >= less).all()
    assert bound[1].mean() > bound[0].mean() + 2.0


def test_the_scale_is_chosen_on_training_weeks(default):
    model, solved, _ = default
    train = sample_weeks(model.instance, "generator", 10, 2)
    good = programme_critic(model, solved)
    assert tune_scale(model, train, good, 200, 51).scale == 1.0
    bad = WeekCritic(-5.0 * good.worth_usd, good.tilt_usd, good.traits)
    assert tune_scale(model, train, bad, 200, 51).scale < 1.0
    halved = WeekCritic(good.worth_usd, good.tilt_usd, good.traits, 0.5)
    whole = penalty_of(model, train, np.ones((10, model.steps), np.int64), good, 200, 51)
    half = penalty_of(model, train, np.ones((10, model.steps), np.int64), halved, 200, 51)
    np.testing.assert_allclose(half, 0.5 * whole, rtol=1e-12)


def test_a_value_function_of_observations_is_frozen_by_level_and_step():
    model = WeekModel(WEEK)
    weeks = sample_weeks(WEEK, "generator", 7, 2)
    place = {name: part.start for name, part in model.observation_layout.items()}

    class Linear:
        def values(self, observation):
            seen = observation.astype(np.float64)
            return 5.0 * seen[:, place["left"]] + seen[:, place["asks"]] + 10.0 * seen[:, place["days_to_come"]]

    critic = frozen_critic(model, Linear(), weeks, 8, 2.0)
    assert critic.worth_usd.shape == (18, 9)
    left = np.linspace(0.0, 1.0, 9)
    for t in range(17):
        night = WEEK.recharge_fraction if (t + 1) % 6 == 0 else 0.0
        asks = (weeks.size_kwh[:, t + 1] > 0.0).mean()
        want = 2.0 * (5.0 * np.minimum(left + night, 1.0) + asks + 10.0 * (1.0 - (t + 1) // 6 / 3.0))
        np.testing.assert_allclose(critic.worth_usd[t], want, rtol=1e-6)
    assert (critic.worth_usd[-1] == 0.0).all()

    class Wrong:
        def values(self, observation):
            return np.zeros((len(observation), 1))

    with pytest.raises(InvalidInputError, match="values"):
        frozen_critic(model, Wrong(), weeks)


def test_bad_input_is_refused():
    model = WeekModel(WEEK)
    weeks = sample_weeks(WEEK, "generator", 3, 1)
    critic = any_critic(model, 1)
    ones = np.ones((3, 18), np.int64)
    for grid, classes in ((0, 1), (10, 12), (10, 0), (True, 1), (2.5, 1), (10**6, 1)):
        with pytest.raises(InvalidInputError):
            penalised(model, weeks, critic, grid, classes)
    other = WeekModel(WEEK.replace(drivers=5))
    with pytest.raises(InvalidInputError, match="critic"):
        penalised(other, sample_weeks(other.instance, "generator", 3, 1), critic, 10, 5)
    with pytest.raises(InvalidInputError, match="partial"):
        penalised(WeekModel(WEEK, partial=True), weeks, critic, 10, 5)
    with pytest.raises(InvalidInputError, match="weeks"):
        penalised(model, Week(*(part[:, :-1] for part in weeks)), critic, 10, 5)
    shaken = WeekModel(WEEK.replace(correlation=0.3))
    with pytest.raises(InvalidInputError, match="shock"):
        penalty_of(shaken, weeks, ones, critic, 10, 5)
    with pytest.raises(InvalidInputError, match="shock"):
        penalised(shaken, weeks, critic, 10, 5, np.zeros((3, 2)))
    for worth in (np.full((18, 3), np.nan), np.zeros((18, 1)), np.zeros(18)):
        with pytest.raises(InvalidInputError, match="worth"):
            WeekCritic(worth, np.zeros((0, 18, 3)), np.zeros((6, 0)))
    for scale in (-0.1, 1.5, np.nan):
        with pytest.raises(InvalidInputError, match="scale"):
            any_critic(model, 1, scale=scale)
    with pytest.raises(InvalidInputError, match="thin"):
        fitted_critic(model, weeks, 10, 11, thin=3)
    with pytest.raises(InvalidInputError, match="beta"):
        asymptotic_limit(np.arange(3.0), 0.7)
    with pytest.raises(InvalidInputError, match="number of values"):
        asymptotic_limit(np.arange(1.0), 0.1)
    assert penalised(model, Week(*(part[:0] for part in weeks)), critic, 10, 5).bound_usd.shape == (0,)
