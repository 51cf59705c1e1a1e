"""Certified sizes: what is promised is the theorems', and it holds in repeated experiments."""

import numpy as np
import pytest
from scipy.stats import binom

from baselines import risk
from baselines.certificate import check
from baselines.shared_battery.duals import largest_use
from baselines.shared_battery.programs import GRID, most_above, separate, solve, solve_days, span_of
from baselines.shared_battery.scenario_program import least_cost
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.needs import from_days
from v2g_env.shared_battery.scenario import fitting, law, law_of, sample_days

FIVE = Instance(drivers=5)
MIXED = FIVE.replace(eps=(0.02, 0.05, 0.1, 0.2, 0.4))


def logs():
    rng = np.random.default_rng(3)
    return law_of(from_days([rng.weibull(1.3, 60) * scale for scale in (6.0, 9.0, 12.0, 15.0, 20.0)], name="five"))


# The program and its promise


def test_the_promise_is_the_theorems_for_the_days_that_decide():
    for ratio in (1.0, 0.9, 0.3):
        lot = FIVE.replace(own_usd_per_kwh=ratio * FIVE.shared_usd_per_kwh)
        found = solve(lot, n_samples=250, seed=2, beta=1e-3)
        answer = least_cost(sample_days(lot, "generator", 250, 2).need_kwh, span_of(lot))
        data = found.certificate
        assert data["days"] == answer.days.tolist()
        assert data["risk"]["eps"] == risk.degenerate(250, len(answer.days), 1e-3)
        assert found.own_kwh.tolist() == data["own_kwh"] == answer.own_kwh.tolist()
        assert found.shared_kwh == data["shared_kwh"] == answer.shared_kwh
        assert found.value == data["cost_usd"] == float(lot.cost_usd(found.own_kwh, found.shared_kwh))
        least_usd = lot.shared_usd_per_kwh * answer.bound_kwh
        assert least_usd <= found.value <= least_usd * (1.0 + 2e-7) + 1e-6


def test_looks_share_the_confidence():
    one, ten = (solve(FIVE, n_samples=200, beta=0.04, looks=looks).certificate for looks in (1, 10))
    assert ten["days"] == one["days"]
    assert ten["risk"]["eps"] == risk.degenerate(200, len(ten["days"]), 0.004) > one["risk"]["eps"]
    assert (one["risk"]["looks"], ten["risk"]["looks"]) == (1, 10)


@pytest.mark.parametrize(("eps", "looks"), [(0.2, 1), (0.05, 1), (0.05, 3)])
def test_the_first_number_of_days_that_reaches_the_target_is_taken_and_every_number_tried_is_paid_for(eps, looks):
    lot = FIVE.replace(eps=(eps,))
    found = solve(lot, beta=1e-3, looks=looks).certificate
    assert found["risk"]["eps"] <= eps
    size, paid = found["sample"]["n_samples"], looks * len(GRID)
    assert size in GRID
    assert found["risk"]["looks"] == paid
    assert found["risk"]["eps"] == risk.degenerate(size, len(found["days"]), 1e-3 / paid)
    smaller = [each for each in GRID if each < size]
    assert smaller
    for each in smaller:
        assert solve(lot, n_samples=each, beta=1e-3, looks=paid).certificate["risk"]["eps"] > eps
    same = solve(lot, n_samples=size, beta=1e-3, looks=paid)
    assert same.certificate == found
    check(found, lot)


def test_the_grid_starts_above_the_number_of_drivers():
    lot = Instance(drivers=60, eps=(0.3,))
    found = solve(lot, beta=0.1).certificate
    assert found["sample"]["n_samples"] > 60
    assert found["risk"]["looks"] == sum(size > 60 for size in GRID) == len(GRID) - 1


def test_the_strictest_target_counts():
    found = solve(MIXED, beta=0.1).certificate
    assert found["risk"]["eps"] <= 0.02


def test_looser_targets_take_fewer_days_and_cost_less():
    loose, strict = (solve(FIVE.replace(eps=(eps,)), beta=0.01) for eps in (0.2, 0.02))
    assert loose.certificate["sample"]["n_samples"] < strict.certificate["sample"]["n_samples"]
    assert loose.value < strict.value


def test_more_days_of_one_sample_never_cost_less():
    before = 0.0
    for size in (6, 20, 70, 200, 600):
        value = solve(FIVE, n_samples=size, seed=4, beta=0.1).value
        assert value >= before * (1.0 - 1e-6)
        before = value


def test_sharing_costs_less_than_separate_batteries_for_the_same_promise():
    lot = Instance(drivers=25, own_usd_per_kwh=4.0)
    assert solve(lot, beta=1e-3).value < 0.8 * separate(lot).value


REFUSED = {
    "beta 0": ("beta", FIVE, {"n_samples": 50, "beta": 0.0}),
    "beta 1": ("beta", FIVE, {"n_samples": 50, "beta": 1.0}),
    "beta NaN": ("beta", FIVE, {"n_samples": 50, "beta": float("nan")}),
    "beta text": ("beta", FIVE, {"n_samples": 50, "beta": "0.1"}),
    "beta on the grid": ("beta", FIVE, {"beta": 2.0}),
    "no samples": ("n_samples", FIVE, {"n_samples": 0}),
    "fewer days than decisions": ("n_samples", FIVE, {"n_samples": 5}),
    "part of a day": ("n_samples", FIVE, {"n_samples": 50.5}),
    "no look": ("looks", FIVE, {"n_samples": 50, "looks": 0}),
    "half a look": ("looks", FIVE, {"n_samples": 50, "looks": 1.5}),
    "negative seed": ("seed", FIVE, {"n_samples": 50, "seed": -1}),
    "unknown law": ("law", FIVE, {"n_samples": 50, "source": "weather"}),
    "law of another fleet": ("drivers of the law", Instance(drivers=4), {"n_samples": 50, "source": logs()}),
    "little shared": ("shared_max_kwh_per_driver", FIVE.replace(shared_max_kwh_per_driver=0.5), {"n_samples": 50}),
}


@pytest.mark.parametrize(("field", "lot", "options"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_solved_is_refused_by_name(field, lot, options):
    with pytest.raises(InvalidInputError, match=f"^{field}.*allowed"):
        solve(lot, **options)


def test_as_many_days_as_decisions_are_enough():
    found = solve(FIVE, n_samples=6, beta=0.1)
    assert 0.0 < found.certificate["risk"]["eps"] <= 1.0


def test_a_target_beyond_the_grid_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("baselines.shared_battery.programs.GRID", (50, 100))
    with pytest.raises(InvalidInputError, match=r"^eps = 0\.001; allowed: at least .* 100 days"):
        solve(FIVE.replace(eps=(0.2, 0.2, 0.001, 0.2, 0.2)))


def test_a_fleet_beyond_the_grid_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("baselines.shared_battery.programs.GRID", (2, 5))
    with pytest.raises(InvalidInputError, match="^drivers"):
        solve(FIVE)


@pytest.mark.parametrize("seed", range(4))
def test_certificates_hold_where_nothing_is_shared(seed):
    # own capacity for next to nothing: s = 0 up to rounding
    lot = Instance(drivers=10, own_usd_per_kwh=0.04)
    found = solve(lot, n_samples=30, seed=seed, beta=0.1)
    assert found.shared_kwh >= 0.0
    check(found.certificate, lot)


@pytest.mark.parametrize(
    ("ratio", "own_max"),
    [
        (0.9, 160.0),
        (1.0, 160.0),
        (0.9, 2e3),
        (1.0, 2e3),
        (0.9, 2e4),
        (1.0, 2e4),
    ],
)
def test_certificates_hold_however_far_the_limit_of_own_batteries_is(ratio, own_max):
    for drivers in (1, 2, 3):
        for seed in range(4):
            lot = Instance(drivers=drivers, own_max_kwh=own_max, own_usd_per_kwh=4.0 * ratio)
            check(solve(lot, n_samples=60, seed=seed, beta=0.1).certificate, lot)


def test_own_ranges_are_kept():
    lot = FIVE.replace(own_min_kwh=3.0, own_max_kwh=11.0, own_usd_per_kwh=0.4)
    found = solve(lot, n_samples=100, beta=0.1)
    assert found.own_kwh.min() >= 3.0
    assert found.own_kwh.max() <= 11.0
    assert (found.own_kwh > 11.0 - 1e-4).sum() >= 2
    check(found.certificate, lot)


# The scenario promise in repeated experiments


def too_many(runs, beta):
    """Failures that so many runs have with probability below a thousandth if each fails with probability beta."""
    return int(binom.isf(1e-3, runs, beta)) + 1


@pytest.mark.parametrize(("ratio", "correlation"), [(0.4, 0.0), (0.9, 0.3)], ids=["independent", "common shock"])
def test_sizes_are_violated_no_oftener_than_certified(ratio, correlation):
    lot = FIVE.replace(correlation=correlation, own_usd_per_kwh=4.0 * ratio)
    fresh = sample_days(lot, "generator", 50_000, 77, stream=9).need_kwh
    runs, beta, failed, seen, promised = 200, 0.1, 0, [], []
    for seed in range(runs):
        days = sample_days(lot, "generator", 100 + seed, seed)
        found = solve_days(lot, days, law(lot), seed, beta)
        share = float((largest_use(fresh, found.own_kwh, 0.0) > found.shared_kwh).mean())
        eps = found.certificate["risk"]["eps"]
        failed += share > eps
        seen.append(share)
        promised.append(eps)
    assert failed < too_many(runs, beta)
    # no empty promise: not more than ten times what happens on average
    assert np.mean(promised) < 10.0 * np.mean(seen)


def test_for_one_driver_the_risk_has_the_law_of_the_largest_of_all_days():
    # b = the largest need of N days and s = 0: P(V > eps) = (1 - eps)^N exactly
    lot = Instance(drivers=1, own_usd_per_kwh=2.0)
    needs = law(lot).needs
    over, runs, size = 0, 80, 20
    eps = 1.0 - 0.3 ** (1.0 / size)  # exceeded with probability .3
    for seed in range(runs):
        found = solve_days(lot, sample_days(lot, "generator", size, seed), law(lot), seed, 0.1)
        over += 1.0 - float(needs.distribution(found.own_kwh)[0]) > eps
    assert binom.ppf(1e-3, runs, 0.3) <= over <= binom.ppf(1.0 - 1e-3, runs, 0.3)


# Separate batteries


@pytest.mark.parametrize("source", ["generator", "log"])
def test_exact_quantiles_meet_their_targets_exactly(source):
    given = logs() if source == "log" else "generator"
    found = separate(MIXED, source=given)
    missed = 1.0 - fitting(MIXED, given).needs.distribution(found.own_kwh)
    assert missed == pytest.approx(MIXED.eps, abs=1e-12)
    assert found.shared_kwh == 0.0
    assert found.certificate["risk"]["eps"] == list(MIXED.eps)
    assert found.certificate["days_above"] == []
    assert found.value == pytest.approx(MIXED.own_usd_per_kwh * found.own_kwh.sum())


def test_order_statistics_are_the_smallest_that_promise_their_targets():
    size, beta = 700, 0.01
    found = separate(MIXED, n_samples=size, seed=5, beta=beta)
    above = found.certificate["days_above"]
    assert above == most_above(MIXED, size, beta)
    need = sample_days(MIXED, "generator", size, 5).need_kwh
    for i, eps in enumerate(MIXED.eps):
        assert (need[:, i] > found.own_kwh[i]).sum() == above[i]
        assert (need[:, i] == found.own_kwh[i]).sum() == 1
        # P(V > eps) = P(at most v of N days need more than the (1 - eps)-quantile)
        assert binom.cdf(above[i], size, eps) <= beta / 5 < binom.cdf(above[i] + 1, size, eps)
    assert (np.array(found.certificate["risk"]["eps"]) <= MIXED.eps).all()


def test_the_promise_of_order_statistics_holds_and_is_not_given_away():
    lot, beta, runs, size = MIXED, 0.1, 300, 240
    needs = law(lot).needs
    missed = np.array(
        [1.0 - needs.distribution(separate(lot, n_samples=size, seed=seed, beta=beta).own_kwh) for seed in range(runs)]
    )
    failed = int((missed > lot.tolerated).any(axis=1).sum())
    assert failed < too_many(runs, beta)
    # each driver alone fails with exactly the probability that the binomial law says
    for i, eps in enumerate(lot.eps):
        chance = binom.cdf(most_above(lot, size, beta)[i], size, eps)
        count = int((missed[:, i] > eps).sum())
        assert binom.ppf(1e-4, runs, chance) <= count <= binom.ppf(1.0 - 1e-4, runs, chance)


def test_days_without_need_are_counted_as_such():
    lot = FIVE.replace(idle=0.6, eps=(0.5,))
    assert separate(lot).own_kwh.tolist() == [0.0] * 5
    found = separate(lot, n_samples=400, beta=0.1)
    assert found.own_kwh.tolist() == [0.0] * 5
    check(found.certificate, lot)
    check(separate(lot).certificate, lot)


def test_the_least_own_battery_is_bought_even_by_those_who_need_less():
    lot = FIVE.replace(own_min_kwh=25.0)
    for found in (separate(lot), separate(lot, n_samples=300, beta=0.1)):
        assert found.own_kwh.min() == 25.0
        check(found.certificate, lot)


SEPARATE = {
    "beta 0": ("beta", FIVE, {"beta": 0.0}),
    "beta 1": ("beta", FIVE, {"n_samples": 500, "beta": 1.0}),
    "too few days": ("n_samples", FIVE, {"n_samples": 20}),
    "no days": ("n_samples", FIVE, {"n_samples": 0}),
    "little own": ("own_max_kwh", FIVE.replace(own_max_kwh=10.0), {}),
    "little own, sampled": ("own_max_kwh", FIVE.replace(own_max_kwh=10.0), {"n_samples": 2000}),
    "seed": ("seed", FIVE, {"n_samples": 2000, "seed": -2}),
    "law": ("law", FIVE, {"source": "nowhere"}),
}


@pytest.mark.parametrize(("field", "lot", "options"), SEPARATE.values(), ids=SEPARATE)
def test_separate_sizes_that_cannot_be_promised_are_refused_by_name(field, lot, options):
    with pytest.raises(InvalidInputError, match=f"^{field}.*allowed"):
        separate(lot, **options)


def test_too_few_days_are_named_with_the_driver_whose_target_they_miss():
    with pytest.raises(InvalidInputError, match=r"n_samples = 200; allowed: enough for eps\[3\] = 0\.002"):
        separate(FIVE.replace(eps=(0.1, 0.1, 0.1, 0.002, 0.1)), n_samples=200, beta=0.1)
