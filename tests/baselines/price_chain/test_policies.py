"""Policies of the price chain: what rules promise, tables, and Q-learning against the exact optimum."""

import numpy as np
import pytest

from baselines.price_chain import evaluate, solve
from baselines.price_chain.policies import (
    TablePolicy,
    early_plan,
    late_plan,
    tabulate,
    threshold_plan,
    tune_threshold,
)
from baselines.price_chain.q_learning import q_learning
from baselines.price_chain.sweeps import violation_probability
from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import FACTS, Model
from v2g_env.price_chain.scenario import sample_days
from v2g_env.rollout import rollout

LOT = Instance()
MODEL = Model(LOT)


@pytest.fixture(scope="module")
def days():
    return sample_days(LOT, "generator", 300, 4)


@pytest.mark.parametrize("plan", [early_plan, late_plan], ids=lambda plan: plan.__name__)
def test_charging_rules_reach_the_target_never_discharge_and_stop_there(days, plan):
    episodes = rollout(MODEL, days, TablePolicy(MODEL, plan(MODEL)))
    stored = episodes.facts[:, :, FACTS.index("stored_kwh")]
    assert (np.diff(stored, axis=1) >= 0).all()
    assert (stored[:, -1] == 2100.0).all()
    assert violation_probability(MODEL, plan(MODEL)) == 0.0


def test_late_charging_is_later_than_early_charging(days):
    early, late = (rollout(MODEL, days, TablePolicy(MODEL, plan(MODEL))) for plan in (early_plan, late_plan))
    place = FACTS.index("stored_kwh")
    assert (late.facts[:, :, place] <= early.facts[:, :, place]).all()
    assert (late.facts[:, 15, place] == 900.0).all()  # eight levels, one an hour: the last eight hours suffice


def test_thresholds_keep_the_target_and_are_tuned_to_their_exact_value():
    pair = tune_threshold(MODEL)
    best = evaluate(MODEL, threshold_plan(MODEL, *pair)).value
    assert best > evaluate(MODEL, early_plan(MODEL)).value
    for low, high in [(0.0, 1.0), (0.3, 0.7), (0.5, 0.5), pair]:
        plan = threshold_plan(MODEL, low, high)
        assert evaluate(MODEL, plan).value <= best + 1e-9 or (low, high) not in [pair]
        assert violation_probability(MODEL, plan) == 0.0
    assert best < solve(MODEL).value


def test_table_policy_plays_its_plan_and_can_be_written_out_again():
    rng = np.random.default_rng(0)
    plan = rng.integers(0, 7, (24, *LOT.shape)).astype(np.int32)
    policy = TablePolicy(MODEL, plan)
    np.testing.assert_array_equal(tabulate(MODEL, policy), plan)
    days = sample_days(LOT, "generator", 1, 0)
    seen = MODEL.observe(days, MODEL.initial(days))
    action, memory = policy.predict(seen[0])
    assert np.ndim(action) == 0
    assert memory is None
    assert action == plan[0, days.level[0, 0], 1, 6, 0]


def test_tables_of_another_shape_are_refused():
    with pytest.raises(InvalidInputError, match="plan"):
        TablePolicy(MODEL, np.zeros((24, 8, 3, 17), int))
    for low, high in ((0.5, 0.4), (-0.1, 1.0), (0.0, 1.1)):
        with pytest.raises(InvalidInputError, match="low|high"):
            threshold_plan(MODEL, low, high)


def test_q_learning_finds_the_optimum_of_a_small_chain_and_repeats(model):
    best = solve(model).value
    found = q_learning(model, 60_000, seed=3, checks=4)
    assert (np.diff(found.days) > 0).all()
    assert (found.value <= best + 1e-9).all()
    assert best - found.value[-1] < 0.02 * abs(best) + 0.02
    assert evaluate(model, found.plan).value == found.value[-1]
    again = q_learning(model, 60_000, seed=3, checks=4)
    np.testing.assert_array_equal(found.plan, again.plan)
    other = q_learning(model, 60_000, seed=4, checks=4)
    assert (found.value[:-1] != other.value[:-1]).any() or (found.plan != other.plan).any()


def test_q_learning_improves_on_the_default_chain():
    found = q_learning(MODEL, 30_000, checks=3)
    assert found.value[-1] > found.value[0]
    assert found.value[-1] > evaluate(MODEL, early_plan(MODEL)).value


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"days": 0}, "days"),
        ({"seed": -1}, "seed"),
        ({"batch": 0}, "batch"),
        ({"power": 0.5}, "power"),
        ({"explore": (1.0, 1.5)}, "explore"),
        ({"checks": 0}, "checks"),
    ],
)
def test_bad_learning_settings_are_refused(model, changes, text):
    with pytest.raises(InvalidInputError, match=text):
        q_learning(model, **({"days": 10} | changes))
