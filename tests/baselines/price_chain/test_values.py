"""Optimal and robust values: brute force, brackets by simulated and exact kernels, and how sets are ordered."""

import itertools

import numpy as np
import pytest

from baselines.price_chain import Solution, evaluate, solve
from baselines.price_chain.ambiguity import SETS, Ellipsoid, Entropy, Interval, Likelihood, Scenarios
from baselines.price_chain.chains import averaged_chain
from baselines.price_chain.hindsight import hindsight
from baselines.price_chain.policies import TablePolicy, early_plan, late_plan
from baselines.price_chain.sweeps import (
    nominal_set,
    successors,
    violation_probability,
    worst_case,
)
from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.kernels import DayState
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Days, Law, sample_days
from v2g_env.rollout import rollout

DEFAULT = Instance()


def counts_of(lot):
    return lot.chain.counts.reshape(-1, lot.price_levels)


@pytest.fixture(scope="module")
def sets(lot):
    return {name: kind.from_counts(counts_of(lot)) for name, kind in SETS.items()}


@pytest.fixture(scope="module")
def solutions(model, sets):
    return {name: solve(model, each) for name, each in sets.items()}


def step_by_environment(model, t, p, q, e, m, a):
    """Reward and next state as the environment's own step tells them."""
    days = Days(np.full((1, model.steps + 1), p), np.full((1, model.steps + 1), q))
    state, money, _ = model.step(days, DayState(np.array([t]), np.array([e]), np.array([m])), np.array([[float(a)]]))
    return money.sum(), int(state.stored[0]), int(state.mode[0])


def recursive(model, inner, cache, t, p, q, e, m):
    """Bellman's equation written once more, state by state, on the environment's step; ``inner`` is min p'V."""
    if t == model.steps:
        return 0.0
    key = (t, p, q, e, m)
    if key not in cache:
        lot = model.instance
        best = -np.inf
        for a in range(model.choices):
            reward, after, running = step_by_environment(model, t, p, q, e, m, a)
            if t < model.steps - 1:
                values = [
                    sum(
                        lot.presence_matrix[q, r] * recursive(model, inner, cache, t + 1, k, r, after, running)
                        for r in range(len(lot.presence_evs))
                    )
                    for k in range(lot.price_levels)
                ]
                reward += inner(t * lot.price_levels + p, np.array(values))
            best = max(best, reward)
        cache[key] = best
    return cache[key]


def by_recursion(model, inner):
    lot, cache = model.instance, {}
    start = (lot.presence_start, lot.start_level, 0)
    return sum(chance * recursive(model, inner, cache, 0, p, *start) for p, chance in enumerate(lot.price_start))


def test_the_optimum_is_the_recursion_on_the_environments_own_step(model):
    rows = model.law.rows.reshape(-1, 3)
    assert solve(model).value == pytest.approx(by_recursion(model, lambda i, v: rows[i] @ v), abs=1e-12)


@pytest.mark.parametrize("name", ["scenarios", "entropy"])
def test_the_robust_optimum_is_the_recursion_with_the_inner_problem(model, sets, solutions, name):
    want = by_recursion(model, lambda i, v: sets[name].worst(v[None], [i]).value[0])
    assert solutions[name].value == pytest.approx(want, abs=1e-10)


def test_no_plan_of_a_tiny_chain_is_better_and_brute_force_attains_the_robust_optimum():
    from tests.baselines.price_chain.conftest import small

    lot = small(2, 2, 3, energy_levels=2, presence_evs=(3,), presence_rows=(1.0,), presence_start=0, target_level=1)
    model = Model(lot.replace(start_level=1, moves=(-1, 0)))
    members = Scenarios.from_counts(counts_of(lot), 3, seed=1)
    robust, nominal = solve(model, members), solve(model)
    # choices matter at two levels x (first step | second step by level and by what the first step did)
    best = {"nominal": -np.inf, "robust": -np.inf}
    shape = (2, *lot.shape)
    for first in itertools.product((0, 1), repeat=2):
        for second in itertools.product((0, 1), repeat=4):
            plan = np.ones(shape, int)
            plan[0, :, 0, 1, 0] = first
            plan[1, :, 0, 1, 0] = second[:2]
            plan[1, :, 0, 0, 1] = second[2:]
            best["nominal"] = max(best["nominal"], evaluate(model, plan).value)
            worst = 0.0
            for p in range(2):  # the first step's level is known, then each adversary has its own list
                values = []
                for s in range(3):
                    rows = model.law.rows.copy()
                    rows[0, p] = members.members[p, s]
                    here = evaluate(model, plan, rows).values[0][p, 0, 1, 0]
                    values.append(here)
                worst += lot.price_start[p] * min(values)
            best["robust"] = max(best["robust"], worst)
    assert nominal.value == pytest.approx(best["nominal"], abs=1e-12)
    assert robust.value == pytest.approx(best["robust"], abs=1e-12)


def test_value_of_a_plan_is_its_mean_over_all_paths(model, lot):
    plan = late_plan(model)
    total, missed = 0.0, 0.0
    policy = TablePolicy(model, plan)
    paths = [
        (p, q)
        for p in itertools.product(range(3), repeat=4)
        for q in itertools.product(range(2), repeat=4)
        if q[0] == lot.presence_start
    ]
    days = Days(*(np.array([[*path[k], 0] for path in paths]) for k in (0, 1)))
    chance = lot.price_start[days.level[:, 0]]
    for t in range(3):
        chance = chance * lot.price_rows[t, days.level[:, t], days.level[:, t + 1]]
        chance = chance * lot.presence_matrix[days.presence[:, t], days.presence[:, t + 1]]
    episodes = rollout(model, days, policy)
    assert chance.sum() == pytest.approx(1.0)
    total, missed = chance @ episodes.returns, chance @ (episodes.excess > 1e-6)
    assert evaluate(model, plan).value == pytest.approx(total, abs=1e-12)
    assert violation_probability(model, plan) == pytest.approx(missed, abs=1e-12)
    best = chance @ hindsight(model, days)
    assert best >= solve(model).value - 1e-12


def test_hindsight_is_the_best_of_all_action_sequences(model):
    from v2g_env.rollout import Recorded

    days = sample_days(model.instance, "generator", 6, 2)
    every = np.array(list(itertools.product(range(3), repeat=4)))
    returns = [
        rollout(model, Days(*(part[i : i + 1].repeat(len(every), 0) for part in days)), Recorded(every)).returns.max()
        for i in range(6)
    ]
    np.testing.assert_allclose(hindsight(model, days), returns, atol=1e-12)


@pytest.mark.parametrize("name", SETS)
def test_robust_value_is_below_the_nominal_and_attained_by_the_worst_kernel(model, sets, solutions, name):
    nominal, robust = solve(model), solutions[name]
    assert isinstance(robust, Solution)
    assert robust.value <= nominal.value + 1e-9
    assert evaluate(model, robust.plan, robust.rows).value == pytest.approx(robust.value, abs=1e-9)
    assert worst_case(model, robust.plan, sets[name]).value == pytest.approx(robust.value, abs=1e-9)
    assert worst_case(model, nominal.plan, sets[name]).value <= robust.value + 1e-9
    # best response to the worst kernel: a saddle point, so nobody does better there
    for plan in (nominal.plan, early_plan(model), late_plan(model)):
        assert evaluate(model, plan, robust.rows).value <= robust.value + 1e-9


def members_of(known, model, rng):
    """A chain whose rows are members: worst rows for random values, some of them mixed with the estimate."""
    worst = known.worst(rng.normal(size=(known.rows, known.width)), np.arange(known.rows)).row
    if not isinstance(known, Scenarios):
        base = model.law.rows.reshape(-1, known.width)
        share = rng.random((known.rows, 1))
        worst = share * worst + (1.0 - share) * base
    assert (known.excess(np.arange(known.rows), worst) <= 1e-9).all()
    return worst.reshape(model.law.rows.shape)


@pytest.mark.parametrize("name", SETS)
def test_robust_value_bounds_the_robust_plan_under_every_chain_of_the_set(model, sets, solutions, name):
    rng = np.random.default_rng(11)
    known, robust = sets[name], solutions[name]
    for _ in range(40):
        rows = members_of(known, model, rng)
        assert evaluate(model, robust.plan, rows).value >= robust.value - 1e-9
        assert solve(Model(model.instance, Law("member", rows))).value >= robust.value - 1e-9


@pytest.mark.parametrize("name", ["interval", "entropy", "likelihood", "ellipsoid"])
def test_the_averaged_chain_is_a_member_between_worst_case_and_nominal(model, sets, name):
    plan = solve(model).plan
    worst = worst_case(model, plan, sets[name])
    law = averaged_chain(model, plan, worst.rows, "averaged")
    assert (sets[name].excess(np.arange(12), law.rows.reshape(12, 3)) <= 1e-9).all()
    value = evaluate(Model(model.instance, law), plan).value
    assert worst.value - 1e-9 <= value <= solve(model).value + 1e-9


def test_simulated_returns_under_a_chain_of_the_set_agree_with_the_exact_value():
    known = Entropy.from_counts(counts_of(DEFAULT))
    model = Model(DEFAULT)
    robust = solve(model, known)
    law = averaged_chain(model, robust.plan, robust.rows, "hostile")
    hostile = Model(DEFAULT, law)
    days = sample_days(DEFAULT, law, 4000, 1)
    returns = rollout(hostile, days, TablePolicy(hostile, robust.plan)).returns
    error = returns.std() / np.sqrt(len(returns))
    exact = evaluate(hostile, robust.plan).value
    assert abs(returns.mean() - exact) < 4.0 * error
    assert robust.value - 1e-9 <= exact < solve(model).value
    assert returns.mean() > robust.value - 4.0 * error


def test_one_member_or_no_size_is_the_nominal_problem(model, lot):
    nominal = solve(model)
    rows = lot.price_rows.reshape(-1, 3)
    for known in (nominal_set(lot.price_rows), Entropy(rows, 0.0), Likelihood(rows, 0.0), Ellipsoid(rows, 0.0)):
        found = solve(model, known)
        assert found.value == pytest.approx(nominal.value, abs=1e-10)
    assert solve(model, Interval(rows, rows)).value == pytest.approx(nominal.value, abs=1e-9)


@pytest.mark.parametrize("kind", [Interval, Entropy, Likelihood, Ellipsoid])
def test_larger_sets_are_worth_less(model, lot, kind):
    values = [solve(model, kind.from_counts(counts_of(lot), each)).value for each in (0.0, 0.3, 0.9, 0.999)]
    assert (np.diff(values) < 0.0).all()


def test_more_scenarios_are_worth_less(model, lot):
    every = Scenarios.from_counts(counts_of(lot), 12, seed=4).members
    values = [solve(model, Scenarios(every[:, :n])).value for n in (1, 2, 6, 12)]
    assert (np.diff(values) <= 1e-12).all()
    assert values[0] == pytest.approx(solve(model).value)


def test_presence_is_averaged_not_chosen_by_the_adversary(model):
    values = np.random.default_rng(0).normal(size=model.instance.shape)
    got = successors(model, values).reshape(2, 4, 2, 3)
    want = 0.6 * values[1, 0, 2, 1] + 0.4 * values[1, 1, 2, 1]
    assert got[0, 2, 1, 1] == pytest.approx(want)


def test_bad_plans_kernels_and_sets_are_refused(model, lot):
    plan = solve(model).plan
    for bad in (plan[:2], plan + 5, plan.astype(float), plan - 1 - plan.max()):
        with pytest.raises(InvalidInputError, match="plan"):
            evaluate(model, bad)
    rows = lot.price_rows.copy()
    rows[1, 1] *= 1.5
    with pytest.raises(InvalidInputError, match=r"rows\[1, 1\]"):
        evaluate(model, plan, rows)
    with pytest.raises(InvalidInputError, match="rows"):
        evaluate(model, plan, rows[:2])
    with pytest.raises(InvalidInputError, match="rows of the ambiguity"):
        solve(model, Entropy(lot.price_rows[0], 0.1))
    with pytest.raises(InvalidInputError, match="successors of the ambiguity"):
        solve(model, Entropy(np.full((12, 2), 0.5), 0.1))
