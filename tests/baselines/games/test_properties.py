"""Prices and properties: what must hold, and where it fails."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.games.classic import airport, bankruptcy, glove, majority
from baselines.games.coalitions import CooperativeGame, subset_sums
from baselines.games.core import stable
from baselines.games.prices import aumann_shapley, equal, marginal, proportional, stand_alone
from baselines.games.properties import convex, dual, essential, monotone, superadditive
from baselines.games.shapley import shapley
from v2g_env.core.validate import InvalidInputError


def random_table(seed, n):
    return np.append(0.0, np.random.default_rng(seed).integers(-2, 6, (1 << n) - 1)).astype(float)


def pairs(n):
    return [(s, t) for s in range(1 << n) for t in range(1 << n)]


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_properties_are_what_all_pairs_of_coalitions_say(seed, n):
    game = CooperativeGame(random_table(seed, n))
    v = game.values
    assert (convex(game) is None) == all(v[s] + v[t] <= v[s & t] + v[s | t] + 1e-9 for s, t in pairs(n))
    assert (superadditive(game) is None) == all(v[s] + v[t] <= v[s | t] + 1e-9 for s, t in pairs(n) if not s & t)
    assert (monotone(game) is None) == all(v[s] <= v[t] + 1e-9 for s, t in pairs(n) if s | t == t)


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_worst_pair_fails_by_as_much_as_is_said(seed, n):
    game = CooperativeGame(random_table(seed, n), kind="cost")
    found = convex(game)
    if found is not None:
        c, s, t = game.values, found.first, found.second
        assert found.usd == c[s & t] + c[s | t] - c[s] - c[t] > 0.0


@given(st.integers(0, 10**6), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_in_convex_games_the_shapley_value_is_in_the_core(seed, n):
    weights = np.random.default_rng(seed).uniform(0.0, 3.0, n)
    game = CooperativeGame(subset_sums(weights) ** 2)
    assert convex(game) is None and superadditive(game) is None
    assert stable(game, shapley(game)).word == "stable"


def test_the_dual_has_the_same_shapley_value_and_is_its_own_dual():
    game = bankruptcy(200.0, [100.0, 200.0, 300.0])
    np.testing.assert_allclose(shapley(dual(game)), shapley(game))
    assert np.array_equal(dual(dual(game)).values, game.values)
    assert dual(game).kind == "cost"


def test_known_games_are_of_their_kind():
    assert convex(airport([1.0, 4.0, 6.0])) is None  # concave costs
    assert convex(bankruptcy(200.0, [100.0, 200.0, 300.0])) is None
    assert convex(glove(1, 2)) is not None and superadditive(glove(1, 2)) is None
    assert essential(glove(1, 1)) and not essential(CooperativeGame(subset_sums(np.array([1.0, 2.0]))))
    assert monotone(majority(2.0)).usd == 1.0


def test_prices_add_up_and_treat_weights_as_they_say():
    game = airport([2.0, 6.0, 12.0])
    for paid in (equal(game), marginal(game), stand_alone(game), proportional(game, [1, 2, 3])):
        assert paid.sum() == pytest.approx(12.0)
    np.testing.assert_allclose(stand_alone(game), [1.2, 3.6, 7.2])
    np.testing.assert_allclose(marginal(game), [2.0, 2.0, 8.0])  # 0, 0 and 6, and 2 each of the rest
    with pytest.raises(InvalidInputError, match="sum of weights"):
        proportional(game, [0, 0, 0])
    with pytest.raises(InvalidInputError, match="weights"):
        proportional(game, [1, -1, 1])


def test_aumann_shapley_prices_are_the_closed_form_and_refuse_a_wrong_gradient():
    a, demand = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([3.0, 4.0])
    total = float(demand @ a @ demand)
    np.testing.assert_allclose(aumann_shapley(lambda q: 2 * a @ q, demand, total), demand * (a @ demand))
    root = np.sqrt(demand.sum())  # a function of the sum has one price
    prices = aumann_shapley(lambda q: np.full(2, 0.5 / np.sqrt(q.sum())), demand, root, 400, 1e-2)
    np.testing.assert_allclose(prices, root * demand / demand.sum(), rtol=1e-6)
    with pytest.raises(InvalidInputError, match="sum of Aumann-Shapley"):
        aumann_shapley(lambda q: a @ q, demand, total)
    with pytest.raises(InvalidInputError, match="gradient"):
        aumann_shapley(lambda q: np.array([np.nan, 1.0]), demand, total)
