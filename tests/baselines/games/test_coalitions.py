"""Tables of coalitions: order, checks, frames."""

import numpy as np
import pytest

from baselines.games.coalitions import CoalitionFunction, CooperativeGame, members_of, sizes, subset_sums
from v2g_env.core.validate import InvalidInputError


def test_coalitions_are_bit_masks_in_order():
    assert members_of(0b1011) == (0, 1, 3)
    assert sizes(3).tolist() == [0, 1, 1, 2, 1, 2, 2, 3]
    assert subset_sums(np.array([1.0, 10.0, 100.0])).tolist() == [0, 1, 10, 11, 100, 101, 110, 111]


def test_a_function_is_asked_once_for_every_coalition_through_the_map_that_is_given():
    asked = []

    def spread(function, coalitions):
        asked.extend(coalitions)
        return [function(one) for one in reversed(list(coalitions))][::-1]

    game = CooperativeGame.from_function(lambda members: float(sum(members)), ["a", "b", "c"], spread=spread)
    assert sorted(asked) == sorted({members_of(mask) for mask in range(8)})
    assert game.values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    frame = game.to_frame()
    assert frame.loc[5, "members"] == "a, c" and frame["value"].tolist() == game.values.tolist()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CooperativeGame([0.0, 1.0, 2.0]), "number of coalitions"),
        (lambda: CooperativeGame([0.0]), "number of coalitions"),
        (lambda: CooperativeGame([0.0, np.nan]), "values"),
        (lambda: CooperativeGame([1.0, 1.0]), "values of the empty coalition"),
        (lambda: CooperativeGame([0.0, 1.0], kind="gain"), "kind"),
        (lambda: CooperativeGame([0.0, 1.0], lower=[0.0, 2.0]), "lower of"),
        (lambda: CooperativeGame([0.0, 1.0], upper=[0.0, 0.5]), "upper of"),
        (lambda: CooperativeGame(np.zeros(4), ["a", "a"]), "players"),
        (lambda: CooperativeGame(np.zeros(4), ["a"]), "number of names"),
        (lambda: CooperativeGame(np.zeros(1 << 21)), "Shapley value is sampled"),
        (lambda: CooperativeGame.from_function(lambda members: 0.0, 21), "Shapley value is sampled"),
        (lambda: CooperativeGame.from_function(lambda members: float("nan"), 2), "values"),
        (lambda: CooperativeGame.from_function(lambda members: 1.0, 2), "empty coalition"),
        (lambda: CooperativeGame(np.zeros(4)).allocation([1.0, 0.0]), "sum of the payments"),
        (lambda: CooperativeGame(np.zeros(4)).allocation([0.0]), "payments"),
        (lambda: CoalitionFunction(lambda members: 1.0, 3), "empty coalition"),
        (lambda: CoalitionFunction(lambda members: float(members.sum()) or np.inf, 3), "worth of"),
        (lambda: CoalitionFunction(lambda members: 0.0, 0), "players"),
    ],
)
def test_what_is_no_game_is_refused(make, field):
    with pytest.raises(InvalidInputError, match=field):
        made = make()
        made(np.ones(3, bool))


def test_a_function_that_changes_between_calls_is_refused():
    calls = iter(range(1000))
    with pytest.raises(InvalidInputError, match="must not change"):
        CooperativeGame.from_function(lambda members: float(next(calls)) if members else 0.0, 3)


def test_a_function_of_many_players_is_asked_once_for_each_coalition():
    asked = []
    game = CoalitionFunction(lambda members: asked.append(1) or float(members.sum()) ** 2, 40)
    half = np.arange(40) < 20
    assert game(half) == game(half.copy()) == 400.0
    assert game.total == 1600.0
    assert len(asked) == game.evaluated == 3
