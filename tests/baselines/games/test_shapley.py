"""Shapley, Owen and Banzhaf values: against all orders, known answers, and what they must satisfy."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.games.classic import airport, glove, majority, voting
from baselines.games.coalitions import CoalitionFunction, CooperativeGame, subset_sums
from baselines.games.shapley import banzhaf, owen, quotient, sampled_shapley, shapley, shapley_limits
from v2g_env.core.validate import InvalidInputError

games = (
    st.integers(2, 5)
    .flatmap(lambda n: st.lists(st.floats(-10, 10, width=32), min_size=(1 << n) - 1, max_size=(1 << n) - 1))
    .map(lambda values: CooperativeGame([0.0, *values]))
)


def by_orders(game, allowed=lambda order: True):
    """Mean of what players add over all orders that are allowed."""
    total, count = np.zeros(game.n), 0
    for order in permutations(range(game.n)):
        if not allowed(order):
            continue
        mask = 0
        for i in order:
            total[i] += game.values[mask | 1 << i] - game.values[mask]
            mask |= 1 << i
        count += 1
    return total / count


@given(games)
@settings(max_examples=30, deadline=None)
def test_the_shapley_value_is_the_mean_over_all_orders(game):
    np.testing.assert_allclose(shapley(game), by_orders(game), atol=1e-9)


@given(games, st.lists(st.integers(0, 2), min_size=5, max_size=5))
@settings(max_examples=30, deadline=None)
def test_owens_value_is_the_mean_over_orders_in_which_owners_stay_together(game, drawn):
    owners = [f"owner {k}" for k in drawn[: game.n]]

    def together(order):
        names = [owners[i] for i in order]
        return sum(a != b for a, b in zip(names, names[1:], strict=False)) == len(set(names)) - 1

    value = owen(game, owners)
    np.testing.assert_allclose(value, by_orders(game, together), atol=1e-9)
    shares = quotient(game, owners)
    summed = [sum(v for v, o in zip(value, owners, strict=True) if o == name) for name in shares.players]
    np.testing.assert_allclose(summed, shapley(shares), atol=1e-9)  # the quotient property


def test_owners_of_one_player_each_change_nothing():
    game = airport([3.0, 5.0, 8.0, 9.0])
    np.testing.assert_allclose(owen(game, list("abcd")), shapley(game))
    np.testing.assert_allclose(owen(game, list("aaaa")), shapley(game))


@given(games, st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_efficient_additive_fair_to_equals_and_nothing_for_nothing(game, seed):
    rng, n = np.random.default_rng(seed), game.n
    value = shapley(game)
    assert value.sum() == pytest.approx(game.total, abs=1e-9)
    other = CooperativeGame(np.append(0.0, rng.normal(size=(1 << n) - 1)))
    both = CooperativeGame(game.values + other.values)
    np.testing.assert_allclose(shapley(both), value + shapley(other), atol=1e-9)
    masks = np.arange(1 << n)
    null = CooperativeGame(game.values[masks & ~1])  # player 0 never adds anything
    assert shapley(null)[0] == pytest.approx(0.0, abs=1e-12)
    swapped = (masks & ~3) | (masks & 1) << 1 | (masks & 2) >> 1
    alike = shapley(CooperativeGame(game.values + game.values[swapped]))
    assert alike[0] == pytest.approx(alike[1], abs=1e-9)


def test_known_values():
    np.testing.assert_allclose(shapley(glove(1, 2)), [2 / 3, 1 / 6, 1 / 6], atol=1e-12)
    np.testing.assert_allclose(shapley(majority(1.0)), [1 / 3] * 3, atol=1e-12)
    costs = np.array([1.0, 3.0, 7.0, 7.5])
    steps = np.diff(np.append(0.0, costs)) / np.arange(4, 0, -1)
    np.testing.assert_allclose(shapley(airport(costs)), np.cumsum(steps), atol=1e-12)  # Littlechild and Owen 1973
    # the Security Council before 1965: five with a veto, six others, seven votes with all vetoes
    council = shapley(voting(27.0 + 0.0, [5.0] * 5 + [1.0] * 6))
    np.testing.assert_allclose(council, [76 / 385] * 5 + [1 / 462] * 6, atol=1e-12)
    np.testing.assert_allclose(banzhaf(voting(51.0, [50.0, 49.0, 1.0])), [0.75, 0.25, 0.25], atol=1e-12)


@given(games, st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_limits_hold_for_every_game_between_and_are_attained(game, seed):
    rng, n = np.random.default_rng(seed), game.n
    slack = rng.uniform(0.0, 1.0, (2, 1 << n))
    slack[:, 0] = 0.0
    wide = CooperativeGame(game.values, None, "profit", game.values - slack[0], game.values + slack[1])
    low, high = shapley_limits(wide)
    inside = wide.lower + rng.uniform(0.0, 1.0, 1 << n) * (wide.upper - wide.lower)
    value = shapley(CooperativeGame(inside))
    assert (low <= value + 1e-9).all() and (value <= high + 1e-9).all()
    masks = np.arange(1 << n)
    best = CooperativeGame(np.where(masks & 1, wide.upper, wide.lower))
    assert shapley(best)[0] == pytest.approx(high[0], abs=1e-9)


def square_root_costs(weights):
    return CoalitionFunction(lambda members: float(np.sqrt(weights[members].sum())), len(weights), "cost")


@pytest.mark.parametrize("scheme", ["plain", "antithetic", "stratified"])
def test_intervals_of_samples_cover_the_value(scheme):
    weights = np.random.default_rng(3).uniform(1.0, 5.0, 7)
    exact = shapley(CooperativeGame(np.sqrt(subset_sums(weights)), kind="cost"))
    covered = 0
    for seed in range(60):
        found = sampled_shapley(square_root_costs(weights), 60, seed, scheme, confidence=0.8)
        assert found.value.sum() == pytest.approx(np.sqrt(weights.sum()), abs=1e-9)
        covered += bool((np.abs(found.value - exact) <= found.half_width + 1e-12).all())
    assert covered >= 39  # 48 expected of 60, less three standard deviations of 3.1


def test_bernstein_intervals_hold_and_are_wider_than_normal_ones():
    weights = np.random.default_rng(4).uniform(1.0, 5.0, 6)
    exact = shapley(CooperativeGame(np.sqrt(subset_sums(weights)), kind="cost"))
    sure = sampled_shapley(square_root_costs(weights), 400, 1, "plain", most_added=float(np.sqrt(weights.max())))
    guess = sampled_shapley(square_root_costs(weights), 400, 1, "plain")
    assert (np.abs(sure.value - exact) <= sure.half_width).all()
    assert (sure.half_width > guess.half_width).all() and (sure.method, guess.method) == ("Bernstein", "normal")


def test_reversed_orders_narrow_the_intervals_of_a_smooth_game():
    weights = np.random.default_rng(5).uniform(1.0, 5.0, 20)
    alone = sampled_shapley(square_root_costs(weights), 400, 2, "plain")
    pairs = sampled_shapley(square_root_costs(weights), 200, 2, "antithetic")
    assert alone.orders == pairs.orders
    assert pairs.half_width.mean() < 0.9 * alone.half_width.mean()


def test_sampling_stops_once_the_intervals_are_narrow_enough_and_repeats_exactly():
    weights = np.random.default_rng(6).uniform(1.0, 5.0, 30)
    said = []
    found = sampled_shapley(square_root_costs(weights), 5000, 3, tolerance=0.02, say=said.append)
    assert found.blocks < 5000
    assert (found.half_width <= 0.02 * np.sqrt(weights.sum())).all()
    again = sampled_shapley(square_root_costs(weights), found.blocks, 3)
    assert np.array_equal(again.value, found.value)


def test_wrong_input_to_sampling_is_named():
    game = square_root_costs(np.ones(3))
    for wrong, field in (
        ({"blocks": 1}, "blocks"),
        ({"scheme": "sorted"}, "scheme"),
        ({"confidence": 1.0}, "confidence"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"most_added": 0.1}, "added by a player"),
        ({"most_added": 5.0, "tolerance": 0.1}, "tolerance"),
    ):
        with pytest.raises(InvalidInputError, match=field):
            sampled_shapley(game, **({"blocks": 50, "seed": 0} | wrong))
    with pytest.raises(InvalidInputError, match="owners"):
        owen(glove(1, 1), ["a"])
