from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from baselines import risk
from baselines.shield import Tuned, best_level, most_removed, passed_levels, promised, tune
from baselines.shielded import Shielded
from v2g_env.core.validate import InvalidInputError


class Halves:
    """Toy shield of two numbers: level 0 gives zeros, level 1 halves, level 2 leaves; its fallback is -0.5."""

    levels, tolerance, action_size = 3, 1e-6, 2
    observation_high = np.array([1.0, 2.0, 2.0], np.float32)

    def project(self, observation, action, level):
        """Part of it."""
        return (0.5 * level * action).astype(np.float32)

    def fallback(self, observation):
        """Half down."""
        return np.full((len(observation), 2), -0.5, np.float32)

    def blind(self, rows):
        """All down."""
        return np.full((rows, 2), -1.0, np.float32)


class Says:
    """Policy that answers with what it was given, or raises it."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Say it."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer, ("memory",)


SEEN = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 0.0]], np.float32)
GOOD = np.array([[0.4, -1.0], [1.0, 0.2]], np.float32)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=12))
def test_a_day_passes_the_levels_before_its_first_violation(rows):
    expected = [next((g for g, bad in enumerate(row) if bad), 4) for row in rows]
    assert passed_levels(np.array(rows)).tolist() == expected


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 29))
def test_the_tuned_level_is_the_largest_that_all_but_q_days_pass(passed, allowed):
    allowed = min(allowed, len(passed) - 1)
    counts = np.array(passed)
    found = tune(counts, allowed, 0.1)
    fit = [g for g in range(5) if (counts <= g).sum() <= allowed]
    assert found.level == (max(fit) if fit else None)
    assert found.failed == (counts <= (0 if found.level is None else found.level)).sum()
    if found.level is None:
        assert found.failed > allowed
    else:
        assert found.failed <= allowed


@pytest.mark.parametrize("allowed", [0, 1, 7, 60])
@pytest.mark.parametrize("n", [100, 5000])
def test_the_promise_is_that_of_a_binomial_tail_and_below_the_one_of_the_complexity(n, allowed):
    eps = promised(n, allowed, 1e-5)
    assert binom.cdf(allowed, n, eps) == pytest.approx(1e-5, rel=1e-6)
    assert eps < risk.degenerate(n, allowed + 1, 1e-5)
    if allowed == 0:
        assert eps == pytest.approx(risk.a_priori(n, 1, 1e-5), rel=1e-9)
    assert promised(n, allowed, 1e-5, looks=3) == pytest.approx(promised(n, allowed, 1e-5 / 3), rel=1e-12)


@pytest.mark.parametrize("eps", [0.003, 0.02, 0.4])
def test_the_days_allowed_for_a_target_are_the_most_that_keep_it(eps):
    allowed = most_removed(5000, eps, 1e-5)
    assert promised(5000, allowed, 1e-5) <= eps < promised(5000, allowed + 1, 1e-5)
    with pytest.raises(InvalidInputError, match="eps = 0.001"):
        most_removed(5000, 0.001, 1e-5)


@pytest.mark.parametrize("allowed", [0, 3])
@pytest.mark.parametrize("kind", ["levels with ties", "many levels"])
def test_the_promise_fails_in_no_more_designs_than_beta(kind, allowed):
    n, beta, designs = 60, 0.1, 2000
    rng = np.random.default_rng(5)
    top = 12 if kind == "levels with ties" else 4000
    # probability that a day passes fewer than g + 1 levels: F(g), growing and below 1
    law = np.sort(rng.random(top) ** 3)
    days = np.searchsorted(law, rng.random((designs, n)), side="right")
    found = [tune(row, allowed, beta) for row in days]
    eps = promised(n, allowed, beta)
    true = np.array([0.0 if each.level is None else law[each.level] for each in found])
    failing = (true > eps).sum()
    assert failing <= binom.ppf(0.9999, designs, beta)
    if kind == "many levels":  # and the promise is not loose: with two thirds of eps it would be broken
        assert failing >= binom.ppf(0.0001, designs, beta)
        assert (true > 2.0 * eps / 3.0).sum() > binom.ppf(0.9999, designs, beta)


def test_the_most_profitable_level_is_among_the_certified_ones():
    returns = np.array([[0.0, 3.0, 3.0, 9.0], [0.0, 1.0, 1.0, 9.0]])
    assert best_level(returns, Tuned(2, 0, 0, 0.1)) == 2
    assert best_level(returns, Tuned(0, 0, 0, 0.1)) == 0
    with pytest.raises(InvalidInputError, match="certified level"):
        best_level(returns, Tuned(None, 2, 0, 0.1))


def test_a_sound_action_is_projected_and_counted_when_moved():
    policy = Shielded(Says(GOOD), Halves(), 1)
    action, memory = policy.predict(SEEN)
    assert np.array_equal(action, 0.5 * GOOD)
    assert memory == ("memory",)
    assert (policy.changed, policy.fallbacks) == (2, 0)
    left = Shielded(Says(GOOD), Halves(), 2)
    assert np.array_equal(left.predict(SEEN)[0], GOOD)
    assert (left.changed, left.fallbacks) == (0, 0)


def test_a_single_observation_gets_a_single_action():
    assert np.array_equal(Shielded(Says(GOOD[:1]), Halves(), 1).predict(SEEN[0])[0], 0.5 * GOOD[0])


@pytest.mark.parametrize(
    "answer",
    [
        ValueError("lost"),
        RuntimeError("no device"),
        np.zeros((2, 3), np.float32),
        np.zeros(2, np.float32),
        None,
        "up",
        np.full((2, 2), np.nan, np.float32),
        np.full((2, 2), np.inf),
        np.full((2, 2), 1.5, np.float32),
        np.ones((2, 2), bool),
        np.array([["a", "b"], ["c", "d"]]),
    ],
    ids=["raises", "no device", "too wide", "flat", "none", "text", "nan", "inf", "too large", "truth", "letters"],
)
def test_whatever_the_agent_does_wrong_the_fallback_acts_and_is_counted(answer):
    policy = Shielded(Says(answer), Halves(), 1)
    action, _ = policy.predict(SEEN)
    assert np.array_equal(action, np.full((2, 2), -0.5))
    assert (policy.changed, policy.fallbacks) == (0, 2)


def test_only_the_rows_of_a_bad_action_fall_back():
    wrong = GOOD.copy()
    wrong[0, 1] = np.nan
    policy = Shielded(Says(wrong), Halves(), 1)
    assert np.array_equal(policy.predict(SEEN)[0], [[-0.5, -0.5], [0.5, np.float32(0.1)]])
    assert policy.fallbacks == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, 2.1])
def test_a_row_whose_observation_is_no_observation_acts_blindly(value):
    broken = SEEN.copy()
    broken[1, 1] = value
    policy = Shielded(Says(GOOD), Halves(), 1)
    assert np.array_equal(policy.predict(broken)[0], [0.5 * GOOD[0], [-1.0, -1.0]])
    assert policy.fallbacks == 1


@pytest.mark.parametrize("broken", [SEEN[:, :2], np.array([["x"] * 3])], ids=["narrow", "letters"])
def test_an_unreadable_observation_acts_blindly(broken):
    policy = Shielded(Says(GOOD), Halves(), 1)
    assert (policy.predict(broken)[0] == -1.0).all()
    assert policy.fallbacks == len(broken)


def test_without_a_level_the_fallback_always_acts_and_the_agent_is_not_asked():
    policy = Shielded(Says(AssertionError("asked")), Halves(), None)
    assert np.array_equal(policy.predict(SEEN)[0], np.full((2, 2), -0.5))
    assert policy.fallbacks == 2


@pytest.mark.parametrize("result", [ValueError("no"), np.full((2, 2), np.nan), np.full((2, 2), 3.0), np.zeros((1, 2))])
def test_a_projection_that_fails_is_not_used(result):
    class Broken(Halves):
        def project(self, observation, action, level):
            if isinstance(result, Exception):
                raise result
            return result

    policy = Shielded(Says(GOOD), Broken(), 1)
    assert np.array_equal(policy.predict(SEEN)[0], np.full((2, 2), -0.5))
    assert policy.fallbacks == 2


def test_a_fallback_that_fails_leaves_the_blind_action():
    class Broken(Halves):
        def fallback(self, observation):
            raise InvalidInputError("no")

    policy = Shielded(Says(None), Broken(), 1)
    assert (policy.predict(SEEN)[0] == -1.0).all()
    assert policy.fallbacks == 2


@pytest.mark.parametrize("level", [-1, 3, 1.0, True])
def test_a_level_that_does_not_exist_is_refused(level):
    with pytest.raises(InvalidInputError, match="level"):
        Shielded(Says(GOOD), Halves(), level)
