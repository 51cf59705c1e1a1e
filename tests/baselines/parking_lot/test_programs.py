from __future__ import annotations

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import check
from baselines.parking_lot.policies import PlanReplay
from baselines.parking_lot.programs import solve, solve_sample
from baselines.parking_lot.reference import solve_reference
from baselines.parking_lot.samples import excess, expected_market, inflate, physical_limits
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance
from v2g_env.parking_lot.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import Capacity, law, sample, sample_capacity
from v2g_env.rollout import rollout

LOT = Instance()
CALM = Instance(pv_sd=0.0, load_sd=0.0)  # offers are at their mean
ORIGIN = {"law": "generator:jpl-2019/fit", "seed": 1, "n_samples": 1, "quota": "executable"}
EARLY = (0.25,) * 9 + (0.05,) + (0.25,) * 5 + (0.45,) * 6 + (0.25,) * 3  # cheap at 9 h, dear from 15 h on
HUGE = 1e6  # no violation is worth this price


def drawn(
    n: int, seed: int = 1, quota: str = "executable", law_name: str = "generator", lot: Instance = LOT
) -> Capacity:
    return sample_capacity(lot, law(law_name), n, seed, quota)


def rows_of(whole: Capacity, rows) -> Capacity:
    return Capacity(whole.energy_kwh[rows], whole.power_kw[rows])


def program(delta: Capacity, lot: Instance = LOT, **options):
    return solve_sample(lot, delta, ORIGIN, **options)


def reproduces(delta: Capacity, rows, plan, lot: Instance = LOT, **options) -> bool:
    return bool(np.abs(program(rows_of(delta, rows), lot, **options).plan - plan).max() <= 1e-5)


VARIANTS = {
    "robust": {},
    "robust, full quota": {"quota": "full"},
    "robust, smoothed law": {"law_name": "smoothed"},
    "adversarial": {"radius": 0.7},
    "adversarial, everything floored": {"radius": 1000.0},
    "relaxed, nearly everything violated": {"rho": 1e-5},
    "relaxed": {"rho": 0.3},
    "relaxed, full quota": {"rho": 0.3, "quota": "full"},
    "relaxed, adversarial": {"rho": 0.3, "radius": 0.7},
    "relaxed, nothing violated": {"rho": HUGE},
}


@pytest.mark.parametrize("n", [1, 2, 7, 25])
@pytest.mark.parametrize("name", VARIANTS)
def test_value_and_plan_equal_the_program_written_in_full(name, n):
    options = dict(VARIANTS[name])
    delta = drawn(n, n, options.pop("quota", "executable"), options.pop("law_name", "generator"))
    found = program(delta, **options)
    worst = inflate(LOT, delta, options.get("radius", 0.0))
    full = solve_reference(LOT, expected_market(LOT), worst, options.get("rho"))
    assert found.value == pytest.approx(full.value_usd, abs=1e-6)
    assert np.allclose(found.plan, full.stored_kwh, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_limits_of_the_chargers_bind_where_they_are_scarce_and_still_agree(seed):
    rng = np.random.default_rng(seed)
    delta = Capacity(60.0 + rng.random((6, LOT.steps)) * 300.0, rng.random((6, LOT.steps)) * 15.0)
    for rho in (None, 0.5):
        found = program(delta, rho=rho)
        full = solve_reference(LOT, expected_market(LOT), delta, rho)
        assert found.value == pytest.approx(full.value_usd, abs=1e-6)
        assert np.allclose(found.plan, full.stored_kwh, atol=1e-5)
    change = np.diff(program(delta).plan, prepend=0.0)
    power = np.maximum(change, 0.0) / LOT.efficiency + np.maximum(-change, 0.0) * LOT.efficiency
    assert np.isclose(power, delta.power_kw.min(axis=0)).any()


@pytest.mark.parametrize("rho", [1e-5, 0.3])
def test_no_plan_exceeds_what_all_chargers_together_can_do(rho):
    # offers far above the lot's own power: the community and the retailer together must not exceed it either
    lot = LOT.replace(pv_peak_kw=3000.0, load_evening_kw=3000.0, buy_usd_per_kwh=EARLY)
    delta = drawn(5, lot=lot)
    found = program(delta, lot, rho=rho)
    change = np.diff(found.plan, prepend=0.0)
    assert change.max() / lot.efficiency <= physical_limits(lot)[1] + 1e-6
    assert -change.min() * lot.efficiency <= physical_limits(lot)[1] + 1e-6
    assert check(solve(lot, n_samples=5, seed=1, rho=rho, beta=0.1).certificate, lot).values["gap_usd"] >= -1e-6


@pytest.mark.parametrize("n", [1, 5, 300])
def test_a_huge_price_makes_the_relaxed_program_robust(n):
    delta = drawn(n)
    assert np.allclose(program(delta, rho=HUGE).plan, program(delta).plan, atol=1e-6)
    assert (excess(LOT, program(delta, rho=HUGE).plan, delta) <= VIOLATION_TOLERANCE).all()


def test_a_tiny_price_lets_everything_be_violated_and_all_of_it_counts():
    delta = drawn(40)
    found = program(delta, rho=1e-6)
    assert (excess(LOT, found.plan, delta) > VIOLATION_TOLERANCE).all()
    assert found.certificate["support"] == list(range(40))
    assert found.certificate["risk"]["eps"] == 1.0
    assert found.plan.max() <= physical_limits(LOT)[0]


@pytest.mark.parametrize("rho", [1e-12, 1e-300, 5e-324])
def test_prices_however_small_are_solved(rho):
    assert program(drawn(3), rho=rho).certificate["support"] == [0, 1, 2]


@pytest.mark.parametrize("quota", ["executable", "full"])
@pytest.mark.parametrize("radius", [0.0, 0.7])
def test_a_robust_plan_violates_no_sample_at_all(quota, radius):
    for seed in range(8):
        delta = drawn(150, seed, quota)
        plan = program(delta, radius=radius).plan
        assert excess(LOT, plan, inflate(LOT, delta, radius)).max() <= 0.0


SUPPORTS = {
    "robust": {},
    "robust, full quota": {"quota": "full"},
    "robust, real days": {"law_name": "days:jpl-2019/fit", "n": 96},
    "adversarial": {"radius": 1.0},
    "relaxed": {"rho": 0.1},
    "relaxed, smoothed": {"rho": 0.1, "law_name": "smoothed"},
    "relaxed, full quota": {"rho": 0.1, "quota": "full"},
}


@pytest.mark.parametrize("name", SUPPORTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_support_alone_reproduces_the_plan_and_no_element_is_spare(name, seed):
    options = dict(SUPPORTS[name])
    delta = drawn(options.pop("n", 150), seed, options.pop("quota", "executable"), options.pop("law_name", "generator"))
    found = program(delta, **options)
    support = found.certificate["support"]
    assert support == sorted(set(support))
    assert reproduces(delta, support, found.plan, **options)
    f = excess(LOT, found.plan, inflate(LOT, delta, options.get("radius", 0.0)))
    violated = set(np.flatnonzero(f > VIOLATION_TOLERANCE).tolist())
    assert violated <= set(support)
    for i in set(support) - violated:
        fewer = [j for j in support if j != i]
        assert not fewer or not reproduces(delta, fewer, found.plan, **options)
    # a scenario outside the list may be left out, alone or with all the others
    for i in sorted(set(range(len(f))) - set(support))[:5]:
        assert reproduces(delta, [j for j in range(len(f)) if j != i], found.plan, **options)


@pytest.mark.parametrize("options", [{}, {"radius": 0.5}, {"rho": 0.1}])
def test_order_and_repetition_of_the_samples_do_not_matter(options):
    delta = drawn(80)
    found = program(delta, **options)
    order = np.random.default_rng(0).permutation(80)
    shuffled = program(rows_of(delta, order), **options)
    assert np.allclose(shuffled.plan, found.plan, atol=1e-6)
    assert {int(order[i]) for i in shuffled.certificate["support"]} == set(found.certificate["support"])
    if "rho" in options:  # every scenario twice at half the price
        options = options | {"rho": options["rho"] / 2.0}
    twice = program(rows_of(delta, np.tile(np.arange(80), 2)), **options)
    assert np.allclose(twice.plan, found.plan, atol=1e-6)


def test_more_samples_a_larger_radius_and_dearer_violations_never_raise_the_value():
    delta = drawn(640)
    nested = [program(rows_of(delta, slice(0, n))).value for n in (1, 5, 20, 80, 320, 640)]
    assert all(b <= a + 1e-7 for a, b in zip(nested, nested[1:], strict=False))
    assert nested[-1] < nested[0]
    part = rows_of(delta, slice(0, 200))
    shrunk = [program(part, radius=r).value for r in (0.0, 0.25, 1.0, 4.0, 16.0, 64.0)]
    assert all(b <= a + 1e-7 for a, b in zip(shrunk, shrunk[1:], strict=False))
    assert shrunk[-1] == 0.0 < shrunk[0]
    priced = [program(part, rho=rho).value for rho in (0.001, 0.01, 0.03, 0.1, 0.3, 3.0)] + [program(part).value]
    assert all(b <= a + 1e-7 for a, b in zip(priced, priced[1:], strict=False))
    assert priced[-1] < priced[0]


@pytest.mark.parametrize("rho", [None, 0.05])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_full_quota_is_worth_at_least_the_executable_one(seed, rho):
    executable, full = (
        solve(LOT, n_samples=100, seed=seed, rho=rho, quota=q, beta=1e-2).value for q in ("executable", "full")
    )
    assert full >= executable - 1e-7


# lots in which the plan has to be carried out as planned; in the last ones storing pays from the first step on
LOTS = {rule: {"dispatch": rule} for rule in DISPATCH_RULES}
LOTS |= {
    "different chargers": {"charger_spread": 0.4},
    "half hours": {"step_h": 0.5},
    "no gate closure": {"gate_closure_steps": 0},
    "small grid": {"grid_limit_kw": 15.0},
    "no gate closure, cheap first hour": {"gate_closure_steps": 0, "open_h": 9.0, "buy_usd_per_kwh": EARLY},
    "cheap first hour": {"open_h": 9.0, "buy_usd_per_kwh": EARLY},
}


@pytest.mark.parametrize("name", LOTS)
def test_a_plan_carried_out_under_mean_offers_earns_its_value_and_meets_every_sampled_day(name):
    lot = CALM.replace(**LOTS[name])
    found = solve(lot, n_samples=60, seed=4, beta=1e-2)
    assert found.value > 1.0
    model = Model(lot, "generator", found.plan)
    days = sample(lot, law("generator"), 60, 4)  # the very days of the program's sample
    state, money, facts = model.initial(days), np.zeros((60, len(REWARD_TERMS))), []
    for t in range(lot.steps):
        target = found.plan[min(t + lot.gate_closure_steps, lot.steps - 1)]
        action = model.action_for(np.full(60, target), t, days.capacity_kwh[:, t])
        state, earned, fact = model.step(days, state, action)
        money += earned
        facts.append(fact)
    planned = money[
        :, [REWARD_TERMS.index(term) for term in REWARD_TERMS if term not in ("redistribution", "imbalance")]
    ]
    assert np.allclose(planned.sum(axis=1), found.value, rtol=0.0, atol=1e-9)
    every = np.stack(facts, axis=1)
    assert np.allclose(every[:, :, FACTS.index("stored_kwh")], found.plan, atol=1e-9)
    assert every[:, :, FACTS.index("shortfall_kwh")].max() < 1e-9
    assert np.abs(every[:, :, FACTS.index("imbalance_kwh")]).max() < 1e-9
    episodes = rollout(model, days, PlanReplay(model))
    planned = episodes.money.sum(axis=1) - episodes.money[:, -2:].sum(axis=1)
    assert np.allclose(planned, found.value, rtol=0.0, atol=1e-5)
    assert episodes.shortfall_kwh.max() < 1e-9
    assert (episodes.excess <= VIOLATION_TOLERANCE).all()


@pytest.mark.parametrize("rule", DISPATCH_RULES)
def test_the_environments_violation_is_the_programs(rule):
    lot = LOT.replace(dispatch=rule, charger_spread=0.2, grid_limit_kw=1e5)
    days = sample(lot, law("generator"), 300, 77)
    delta = Capacity(days.capacity_kwh[:, :-1], days.power_kw[:, :-1])
    rng = np.random.default_rng(8)
    plans = [solve(lot, n_samples=30, seed=5, beta=0.1, rho=rho).plan for rho in (None, 0.1)]
    for share in (0.02, 0.3, 1.0):
        plan = np.quantile(delta.energy_kwh, share, axis=0) * rng.random(lot.steps)
        plan[[0, -1]] = 0.0
        plans.append(plan)
    seen = 0
    for plan in plans:
        model = Model(lot, "generator", plan)
        found = rollout(model, days, PlanReplay(model)).excess
        f = excess(lot, plan, delta)
        assert np.array_equal(found > VIOLATION_TOLERANCE, f > VIOLATION_TOLERANCE)
        # the environment also counts steps with nothing stored and no car, where f is zero
        met = f <= VIOLATION_TOLERANCE
        assert np.allclose(found[met], np.maximum(f[met], 0.0), atol=1e-7)
        seen += int((~met).sum())
    assert 0 < seen < 5 * 300


def test_excess_by_hand():
    lot = Instance(open_h=8.0, close_h=11.0, efficiency=0.5, gate_closure_steps=0)
    delta = Capacity(np.array([[4.0, 9.0, 0.0], [4.0, 20.0, 0.0]]), np.array([[8.0, 50.0, 5.0], [20.0, 12.0, 4.0]]))
    plan = np.array([4.0, 10.0, 0.0])  # 8 kW in, 12 kW in, 5 kW out
    assert excess(lot, plan, delta).tolist() == pytest.approx([0.1, 0.1])
    assert excess(lot, np.array([3.0, 3.0, 0.0]), delta).tolist() == pytest.approx([-0.1, -0.1])


def test_inflation_takes_the_worst_point_of_the_ball_and_floors_it_at_zero():
    lot = Instance(step_h=0.5)
    delta = drawn(20, lot=lot)
    worst = inflate(lot, delta, 1.5)
    assert np.array_equal(worst.energy_kwh, np.maximum(delta.energy_kwh - 7.5, 0.0))
    assert np.array_equal(worst.power_kw, np.maximum(delta.power_kw - 15.0, 0.0))
    assert inflate(lot, delta, 0.0) is delta
    plan = program(delta, lot, radius=1.5).plan
    rng = np.random.default_rng(0)
    for _ in range(20):  # any point of the ball within the physical range keeps the plan feasible
        near = Capacity(
            np.maximum(delta.energy_kwh + 7.5 * rng.uniform(-1, 1, delta.energy_kwh.shape), 0.0),
            np.maximum(delta.power_kw + 15.0 * rng.uniform(-1, 1, delta.power_kw.shape), 0.0),
        )
        assert excess(lot, plan, near).max() <= 0.0


def test_one_sample_is_enough_for_a_plan_but_promises_little():
    for rho in (None, 0.1):
        found = solve(LOT, n_samples=1, seed=2, beta=1e-5, rho=rho)
        assert found.certificate["support"] == [0]
        assert found.certificate["risk"]["eps"] == 1.0


BAD = {
    "beta 0": {"beta": 0.0},
    "beta 1": {"beta": 1.0},
    "beta NaN": {"beta": float("nan")},
    "beta text": {"beta": "1e-5"},
    "negative radius": {"radius": -0.1},
    "radius NaN": {"radius": float("nan")},
    "unknown quota": {"quota": "half"},
    "unknown law": {"law_name": "weather"},
    "unknown days": {"law_name": "days:mars"},
    "no samples": {"n_samples": 0},
    "part of a sample": {"n_samples": 2.5},
    "negative seed": {"seed": -1},
    "rho 0": {"rho": 0.0},
    "negative rho": {"rho": -1.0},
    "rho NaN": {"rho": float("nan")},
    "rho infinite": {"rho": float("inf")},
    "no look": {"looks": 0},
    "half a look": {"looks": 1.5},
    "shift without radius": {"distance": 0.1},
    "negative distance": {"radius": 1.0, "distance": -0.1},
    "distance NaN": {"radius": 1.0, "distance": float("nan")},
}


@pytest.mark.parametrize("options", BAD.values(), ids=BAD)
def test_arguments_out_of_range_are_refused_by_name(options):
    with pytest.raises(InvalidInputError, match="allowed"):
        solve(LOT, **{"n_samples": 5, "seed": 1, "beta": 0.1} | options)


def test_a_list_longer_than_the_sample_gets_no_bound():
    with pytest.raises(InvalidInputError, match="complexity"):
        risk.degenerate(5, 6, 0.1)


@pytest.mark.parametrize("rho", [None, 0.1])
def test_real_days_are_no_more_samples_than_there_are_days(rho):
    # the same day with redrawn caps is no new evidence about days, so it must not be counted as such
    days = len(law("days:jpl-2019/fit").days.dates)
    assert solve(LOT, n_samples=days, law_name="days:jpl-2019/fit", beta=1e-2, rho=rho).value > 0.0
    with pytest.raises(InvalidInputError):
        solve(LOT, n_samples=2 * days, law_name="days:jpl-2019/fit", beta=1e-2, rho=rho)


def test_a_lower_limit_is_claimed_only_for_relaxed_programs_and_laws_without_ties():
    for law_name in ("generator", "days:jpl-2019/fit", "smoothed"):
        for rho in (None, 0.1):
            claim = solve(LOT, n_samples=90, beta=0.1, law_name=law_name, rho=rho).certificate["risk"]
            if law_name == "smoothed" and rho is not None:
                assert claim["theorem"] == "relaxed"
                assert 0.0 < claim["eps_low"] < claim["eps"]
            else:
                assert claim["theorem"] == "degenerate"
                assert claim["eps_low"] == 0.0


def test_the_promise_is_the_theorems_with_beta_shared_among_the_looks():
    found = solve(LOT, n_samples=120, beta=0.04, looks=4, radius=1.0, distance=0.01).certificate
    k = len(found["support"])
    assert found["risk"]["eps"] == risk.degenerate(120, k, 0.01)
    assert found["shift"]["eps"] == risk.shifted(found["risk"]["eps"], 1.0, 0.01)
    found = solve(LOT, n_samples=120, beta=0.04, looks=4, rho=0.1, law_name="smoothed").certificate
    assert (found["risk"]["eps_low"], found["risk"]["eps"]) == risk.relaxed(120, len(found["support"]), 0.01)
