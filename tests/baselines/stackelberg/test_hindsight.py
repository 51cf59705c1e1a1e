"""The bound on every day's reward: where it comes from, where it holds, and when it is refused."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from baselines.stackelberg import days
from baselines.stackelberg.days import DaySolver
from baselines.stackelberg.hindsight import hindsight
from baselines.stackelberg.policies import CertifiedOptimum
from baselines.stackelberg.published import evaluate
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.scenario import sample

TINY = Instance(days=3, rebate_levels_usd_per_h=(0.0, 0.15, 0.3))
GAP, LIMIT_S = 1e-3, 0.3


def test_random_actions_stay_below_the_bound_day_by_day():
    months = sample(TINY, 4, 1)
    top = hindsight(TINY, months, GAP, time_limit_s=LIMIT_S)
    rng = np.random.default_rng(0)
    for scale in (0.1, 0.5, 1.0):
        actions = (scale * rng.uniform(-1.0, 1.0, (4, 3, 25))).astype(np.float32)
        actions[:, :, 24] = 1.0
        each = rollout(Model(TINY), months, Recorded(actions))
        assert (each.rewards <= top.bound_usd + 1e-9).all()


def test_a_day_is_solved_once_however_often_it_comes(monkeypatch):
    calls = []
    solve = days.solve
    monkeypatch.setattr(days, "solve", lambda *arguments: calls.append(1) or solve(*arguments))
    months = sample(TINY, 1, 1)
    twice = type(months)(*(np.concatenate([part, part]) for part in months))
    solver = DaySolver(TINY, GAP, LIMIT_S)
    top = hindsight(TINY, twice, solver=solver)
    assert len(calls) == 3
    assert np.array_equal(top.bound_usd[0], top.bound_usd[1])
    rollout(Model(TINY), twice, CertifiedOptimum(Model(TINY), solver))
    assert len(calls) == 3


def test_solving_what_the_observation_shows_bounds_what_it_rounds():
    months = sample(TINY, 1, 1)
    model = Model(TINY)
    top = hindsight(TINY, months, GAP, time_limit_s=LIMIT_S)
    for d in np.flatnonzero(top.gap[0] <= 1.01 * GAP):
        exact = DaySolver(TINY, 1e-5, 1.0)(months.price[0, d], bool(months.weekend[0, d]), int(months.plug[0, d]))
        day = days.Days(model)
        kind = day.kind(months.weekend[0, [d]] > 0, months.plug[0, [d]])
        reference = day.reference(kind, months.price[0, [d]])[0]
        assert top.bound_usd[0, d] >= exact.value - reference - 1e-9
        assert top.bound_usd[0, d] <= exact.bound - reference + 1.1 * GAP * exact.value
    assert (top.gap[0] <= 1.01 * GAP).any()


def test_prices_that_the_observation_cuts_off_are_solved_as_they_are(monkeypatch):
    months = sample(TINY, 1, 1)
    wild = months._replace(price=months.price.copy())
    wild.price[0, 1, 12] = 6.0
    wild.price[0, 2, 3] = 0.0
    games, solve = [], days.solve
    monkeypatch.setattr(days, "solve", lambda game, *others: games.append(game) or solve(game, *others))
    top = hindsight(TINY, wild, 0.05, time_limit_s=LIMIT_S)
    for d, game in enumerate(games):
        assert (np.array(game.price_usd_per_kw) == wild.price[0, d]).all() == (d > 0)
        np.testing.assert_allclose(game.price_usd_per_kw, wild.price[0, d], rtol=1e-6)
        rebates = Model(TINY).constants.levels[top.levels[0, d]][None]
        idle, best = evaluate(game, np.concatenate([0.0 * rebates, rebates]))[0]
        assert top.value_usd[0, d] == pytest.approx(best - idle, abs=1e-2)
    each = rollout(Model(TINY), wild, CertifiedOptimum(Model(TINY), DaySolver(TINY, GAP, LIMIT_S)))
    assert (each.rewards <= top.bound_usd + 1e-9).all()


def test_population_months_stay_below_the_bound_on_average():
    fleet = TINY.replace(response="population")
    months = sample(fleet, 200, 1)
    same = ("first_day", "weekend", "plug", "price")
    fixed = months._replace(**{name: np.repeat(getattr(months, name)[:1], 200, axis=0) for name in same})
    solver = DaySolver(fleet, GAP, LIMIT_S)
    top = hindsight(fleet, fixed, solver=solver)
    each = rollout(Model(fleet), fixed, CertifiedOptimum(Model(fleet), solver))
    error = 4.0 * each.rewards.std(axis=0) / np.sqrt(200.0)
    assert (each.rewards.mean(axis=0) <= top.bound_usd[0] + error).all()


@pytest.mark.parametrize(("named", "value"), [("habit_weight", 0.3), ("bid_limit", 1.5)])
def test_no_bound_where_none_is_known(named, value):
    fleet = TINY.replace(**{named: value})
    with pytest.raises(InvalidInputError, match=f"{named}.*not available"):
        hindsight(fleet, sample(fleet, 1, 1))


def test_a_community_owned_instance_is_bounded_by_the_platforms_game():
    months = sample(TINY, 1, 1)
    both = [
        hindsight(fleet, months, GAP, time_limit_s=LIMIT_S).value_usd for fleet in (TINY, TINY.replace(owner="drivers"))
    ]
    np.testing.assert_array_equal(*both)


def test_an_interrupted_search_interrupts_the_loop(monkeypatch):
    solve = days.solve
    monkeypatch.setattr(days, "solve", lambda game, gap, limit, say: solve(game, 0.9, limit, say))
    with pytest.raises(KeyboardInterrupt):  # a search that ends early without its gap was stopped by Ctrl-C
        hindsight(TINY, sample(TINY, 2, 1), 1e-12, time_limit_s=60.0)


def test_progress_is_told(monkeypatch):
    clock = iter(range(0, 10_000, 10))
    module = sys.modules["baselines.stackelberg.hindsight"]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    said = []
    hindsight(TINY, sample(TINY, 1, 1), GAP, said.append, LIMIT_S)
    assert said[-1] == "3 of 3 days solved"
