"""Platform and classes: truthful answers are the game's, and the best of a single day."""

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.party import PARTS, StackelbergParties
from v2g_env.stackelberg.scenario import sample

LOT = Instance(days=6)


def truthful(parties, platform):
    return {"platform": platform[:, None], "class": np.zeros((len(platform), len(parties.shares), PARTS))}


@pytest.mark.parametrize("lot", [LOT, LOT.replace(periods_per_hour=4), LOT.replace(workplace=0.5)])
def test_truthful_classes_give_the_single_agents_reward(lot):
    parties, base = StackelbergParties(lot), Model(lot)
    months = sample(lot, 2, 3)
    rng = np.random.default_rng(1)
    actions = rng.uniform(-0.5, 1.0, (lot.days, 2, base.action_size))
    actions[..., -1] = rng.uniform(-1.0, 1.0, (lot.days, 2))
    # the platform's action of a day counts on the next one: its first day has no rebates and the certified bid
    first = base.action_for(np.zeros((2, lot.periods)))
    state, alone = parties.initial(months), base.initial(months)
    for day in range(lot.days):
        state, money, facts = parties.step(months, state, truthful(parties, actions[day]))
        alone, true, known = base.step(months, alone, first if day == 0 else actions[day - 1])
        np.testing.assert_allclose(money["platform"][:, 0], true, atol=1e-6)
        np.testing.assert_allclose(facts, known, atol=1e-6)
        # rebates paid are rebates received
        np.testing.assert_allclose(money["class"][..., 1].sum(axis=1), -true[:, 2], atol=1e-6)


@pytest.mark.parametrize("per_hour", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_no_factors_beat_the_truth_in_a_single_day(seed, per_hour):
    lot = LOT.replace(periods_per_hour=per_hour)
    parties = StackelbergParties(lot, shares=(0.6, 0.4))
    months, rng = sample(lot, 1, seed), np.random.default_rng(seed)
    levels = parties.base.constants.levels
    start = parties.initial(months)
    start = start._replace(posted=levels[rng.integers(0, len(levels), (1, lot.periods))])
    platform = np.zeros((1, 1, lot.periods + 1))

    def paid(action):
        both = np.zeros((1, 2, PARTS))
        both[0, 0] = action
        return parties.step(months, start, {"platform": platform, "class": both})[1]["class"][0].sum(axis=1)

    truth = paid(np.zeros(PARTS))
    for _ in range(25):
        other = paid(rng.uniform(-1.0, 1.0, PARTS))
        assert other[0] <= truth[0] + 1e-7
        assert other[1] == pytest.approx(truth[1])  # the other class does not care
    assert paid(np.full(PARTS, -1.0))[0] < truth[0] - 1e-6


def test_withholding_makes_the_platform_miss_its_bid_and_pay_for_it():
    parties = StackelbergParties(LOT)
    months = sample(LOT, 4, 5)
    state = parties.initial(months)._replace(posted=np.full((4, LOT.periods), parties.base.constants.levels[-1]))
    platform = np.zeros((4, 1, LOT.periods + 1))

    def profit(factor):
        action = np.full((4, 3, PARTS), factor)
        _, money, facts = parties.step(months, state, {"platform": platform, "class": action})
        return money["platform"].sum(), facts[:, 1].sum()

    truth, withheld = profit(0.0), profit(-1.0)
    assert withheld[1] > truth[1] and withheld[0] != truth[0]


def test_what_has_no_meaning_here_is_refused():
    for instance, field in ((LOT.replace(response="population"), "response"), (LOT.replace(habit_weight=0.3), "habit")):
        with pytest.raises(InvalidInputError, match=field):
            StackelbergParties(instance)
    with pytest.raises(InvalidInputError, match="sum of shares"):
        StackelbergParties(LOT, shares=(0.5, 0.6))
