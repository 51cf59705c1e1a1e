"""The discounted problem without end: value iteration, policy iteration, and a linear solve."""

import numpy as np
import pytest

from baselines.price_chain.ambiguity import Ellipsoid, Entropy
from baselines.price_chain.stationary import solve_stationary
from baselines.price_chain.sweeps import follow, terminal_usd
from v2g_env.core.validate import InvalidInputError


@pytest.mark.parametrize("gamma", [0.0, 0.8, 0.95])
@pytest.mark.parametrize("kind", [None, Entropy, Ellipsoid])
def test_value_and_policy_iteration_agree(model, lot, gamma, kind):
    known = None if kind is None else kind.from_counts(lot.chain.counts.reshape(-1, 3))
    by_value = solve_stationary(model, gamma, known, "value")
    by_policy = solve_stationary(model, gamma, known, "policy")
    np.testing.assert_allclose(by_value.values, by_policy.values, atol=1e-8)
    assert by_policy.rounds <= 20


def test_values_of_the_plan_solve_its_linear_equations(model, lot):
    gamma = 0.95
    found = solve_stationary(model, gamma)
    size = int(np.prod(lot.shape))
    start = np.arange(size).reshape(lot.shape)[:, :, lot.start_level]
    joint = np.zeros((4 * size, 4 * size))
    reward = np.zeros(4 * size)
    zero = np.zeros(lot.shape)
    for t in range(4):
        end = t == 3
        after = np.broadcast_to(terminal_usd(model)[:, None], lot.shape) if end else zero
        reward[t * size : (t + 1) * size] = follow(model, t, found.plan[t], after).ravel()
        for i, (p, q, e, m) in enumerate(np.ndindex(lot.shape)):
            a = found.plan[t, p, q, e, m]
            move = model.tables.moves[np.clip(a, model.tables.lowest[q, e], model.tables.highest[q, e])]
            for k in range(3):
                for r in range(2):
                    chance = lot.price_rows[t, p, k] * lot.presence_matrix[q, r]
                    kept = lot.start_level if end else e + move
                    there = np.ravel_multi_index((k, r, kept, int(move != 0)), lot.shape)
                    joint[t * size + i, (t + 1) % 4 * size + there] += gamma * chance
    want = np.linalg.solve(np.eye(4 * size) - joint, reward).reshape(4, *lot.shape)
    np.testing.assert_allclose(found.values, want, atol=1e-8)
    assert start.shape == (3, 2, 2)


def test_robust_values_are_lower_and_patience_is_worth_more(model, lot):
    known = Entropy.from_counts(lot.chain.counts.reshape(-1, 3))
    nominal, robust = solve_stationary(model, 0.9), solve_stationary(model, 0.9, known)
    assert (robust.values <= nominal.values + 1e-9).all()
    assert (robust.values < nominal.values - 1e-6).any()


def test_bad_input_is_refused(model):
    for gamma in (1.0, -0.1, np.nan):
        with pytest.raises(InvalidInputError, match="gamma"):
            solve_stationary(model, gamma)
    with pytest.raises(InvalidInputError, match="method"):
        solve_stationary(model, 0.5, method="guess")
    with pytest.raises(InvalidInputError, match="tolerance"):
        solve_stationary(model, 0.5, tolerance=0.0)
