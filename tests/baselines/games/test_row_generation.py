"""The least core of many players: closed forms, the table's answer, proofs that do not rest on the oracle."""

import numpy as np
import pytest

from baselines.games.classic import airport
from baselines.games.coalitions import CoalitionFunction, CooperativeGame, subset_sums
from baselines.games.core import least_core
from baselines.games.row_generation import least_core_by_oracle
from baselines.solve import SolverError
from v2g_env.core.validate import InvalidInputError


def airport_of(costs):
    return CoalitionFunction(lambda members: float(costs[members].max(initial=0.0)), len(costs), "cost")


def worst_of_an_airport(costs):
    """With j the largest, all smaller ones that pay anything join; if that is everybody, the least payer stays."""

    def oracle(paid):
        found = []
        for j in range(len(costs)):
            one = (costs <= costs[j]) & (paid > 0.0)
            one[j] = True
            if one.all():
                one[np.where(np.arange(len(costs)) == j, np.inf, paid).argmin()] = False
            found.append(one)
        return found[int(np.argmax([paid[one].sum() - costs[one].max() for one in found]))]

    return oracle


def table_oracle(game):
    """All proper coalitions of a table, the best three at once."""
    masks = np.arange(1, len(game.values) - 1)
    inside = (masks[:, None] >> np.arange(game.n) & 1).astype(bool)

    def oracle(paid):
        gain = game.sign * (game.values - subset_sums(paid))
        return inside[np.argsort(-gain[masks])[:3]]

    return oracle


def voting_of(n):
    """A majority of n players, n odd, wins 1."""
    quota = n // 2 + 1

    def oracle(paid):
        chosen = np.zeros(n, bool)
        chosen[np.argsort(paid, kind="stable")[:quota]] = True
        return chosen

    return CoalitionFunction(lambda members: float(members.sum() >= quota), n), oracle, 1.0 - quota / n


@pytest.mark.parametrize("kind", ["profit", "cost"])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_least_core_of_the_table(seed, kind):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 6
    game = CooperativeGame(np.append(0.0, rng.normal(size=(1 << n) - 1)), kind=kind)
    bits = 1 << np.arange(n)
    many = CoalitionFunction(lambda members: float(game.values[bits[members].sum()]), n, kind)
    found = least_core_by_oracle(many, table_oracle(game))
    wanted = least_core(game).excess_usd
    assert (found.excess_usd, found.bound_usd) == (pytest.approx(wanted, abs=1e-8), pytest.approx(wanted, abs=1e-8))
    assert game.allocation(found.payments) is not None


def test_forty_aircraft_share_a_runway_without_two_to_the_forty_rows():
    costs = np.random.default_rng(1).uniform(1.0, 9.0, 40)
    found = least_core_by_oracle(airport_of(costs), worst_of_an_airport(costs))
    assert found.bound_usd == pytest.approx(found.excess_usd, abs=1e-8) and found.excess_usd < 0.0
    assert found.payments.sum() == pytest.approx(costs.max()) and found.rows < 200
    few = costs[:8]
    small = least_core_by_oracle(airport_of(few), worst_of_an_airport(few))
    assert small.excess_usd == pytest.approx(least_core(airport(few)).excess_usd, abs=1e-9)


def test_an_empty_core_of_many_players_is_proven_by_balanced_weights():
    game, oracle, excess = voting_of(31)
    found = least_core_by_oracle(game, oracle)
    assert found.bound_usd == pytest.approx(excess, abs=1e-9) and found.excess_usd == pytest.approx(excess, abs=1e-9)
    balanced = found.weights / (found.weights @ found.members).mean()
    np.testing.assert_allclose(balanced @ found.members, 1.0, atol=1e-7)
    assert balanced @ [game(one) for one in found.members] > game.total + 0.5


def test_what_the_weights_prove_holds_though_the_oracle_is_blind():
    game, _, excess = voting_of(7)
    blind = least_core_by_oracle(game, lambda paid: np.arange(7) == 0)
    assert blind.bound_usd <= excess + 1e-9


def test_limits_of_the_columns_do_not_bind():
    worth = {0: 0.0, 1: 0.0, 2: 1e6, 3: 0.0}  # pairs are worth far more than what is evaluated first suggests
    table = [worth[bin(mask).count("1")] if mask < 15 else 0.0 for mask in range(16)]
    game = CooperativeGame(table)
    bits = 1 << np.arange(4)
    many = CoalitionFunction(lambda members: float(game.values[bits[members].sum()]), 4)
    found = least_core_by_oracle(many, table_oracle(game))
    assert found.bound_usd == pytest.approx(1e6, rel=1e-9)


@pytest.mark.parametrize(
    "answer", [np.zeros(5, bool), np.ones(5, bool), np.ones(4, bool), np.ones(5), np.zeros((0, 5))]
)
def test_an_answer_that_is_no_proper_coalition_is_refused(answer):
    with pytest.raises(InvalidInputError, match="answer of the oracle"):
        least_core_by_oracle(voting_of(5)[0], lambda paid: answer)


def test_one_player_and_too_few_rounds_are_named():
    with pytest.raises(InvalidInputError, match="players"):
        least_core_by_oracle(CoalitionFunction(lambda members: float(members.sum()), 1), lambda paid: paid > 0)
    game, oracle, _ = voting_of(31)
    with pytest.raises(SolverError, match="rounds"):
        least_core_by_oracle(game, oracle, rounds=3)
