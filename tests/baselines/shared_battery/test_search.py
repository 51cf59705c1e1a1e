"""Sizes found by simulation: certified on fresh days, and what they save against the inner approximation."""

from functools import cache

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import check
from baselines.shared_battery import search as module
from baselines.shared_battery.programs import separate, solve
from baselines.shared_battery.reliability import certified, missed_days, sample_test
from baselines.shared_battery.search import money_search, own_for, search, target_rates
from baselines.shared_battery.seasons import FixedSizes
from v2g_env.core.allocation import RULES, SHORTFALL_MINIMISING
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SizingModel
from v2g_env.shared_battery.scenario import law, sample_seasons

EIGHT = Instance(drivers=8, eps=(0.1,))
FAST = {"train_days": 3000, "test_days": 8000, "beta": 1e-2, "rounds": 3}


@cache
def found_under(rule):
    """Sizes for EIGHT, searched once."""
    return search(EIGHT, rule=rule, **FAST)


@pytest.mark.parametrize("rule", RULES)
def test_found_sizes_are_certified_on_fresh_days_and_within_the_ranges(rule):
    found = found_under(rule)
    data = found.certificate
    assert check(data, EIGHT).values["targets_kept"] == 8.0
    assert certified(EIGHT, found)
    assert data["rule"] == rule
    assert data["risk"]["looks"] == 4
    assert data["sample"]["stream"] >= 11  # the training days are stream 10
    assert data["risk"]["eps"] == [risk.hold_out(8000, count, 1e-2 / (4 * 8)) for count in data["missed"]]
    assert found.own_kwh.min() >= 0.0
    assert found.own_kwh.max() <= EIGHT.own_max_kwh
    assert 0.0 <= found.shared_kwh <= EIGHT.shared_max_kwh
    assert found.value == pytest.approx(float(EIGHT.cost_usd(found.own_kwh, found.shared_kwh)))
    # another, larger test agrees
    days = sample_test(EIGHT, "generator", 40_000, 9, 4, rule)
    share = missed_days(rule, found.own_kwh, found.shared_kwh, days) / 40_000
    assert (share <= 0.1 + 3.0 * np.sqrt(0.09 / 40_000)).all()


@pytest.mark.parametrize("rule", SHORTFALL_MINIMISING)
def test_they_cost_less_than_sizes_of_the_inner_approximation_at_the_same_target(rule):
    inner = solve(EIGHT, beta=1e-2)
    assert found_under(rule).value < 0.95 * inner.value


def test_equal_split_gains_nothing_and_costs_about_what_separate_batteries_do():
    alone = separate(EIGHT).value
    assert alone <= found_under("equal_split").value <= 1.12 * alone


def test_the_same_seed_finds_the_same_sizes_and_another_one_others():
    one, two, other = found_under("utilitarian"), search(EIGHT, seed=1, **FAST), search(EIGHT, seed=2, **FAST)
    assert one.certificate == two.certificate
    assert not np.array_equal(one.plan, other.plan)
    assert other.value == pytest.approx(one.value, rel=0.15)


@pytest.mark.parametrize("rule", ["utilitarian", "proportional", "first_come"])
def test_drivers_with_looser_targets_get_less(rule):
    lot = EIGHT.replace(driver_spread=0.0, eps=(0.05, 0.05, 0.05, 0.05, 0.2, 0.2, 0.2, 0.4))
    own = search(lot, rule=rule, **FAST).own_kwh
    assert own[:4].min() > own[4:7].max()
    assert own[4:7].mean() >= own[7]
    assert own[:4].mean() > own[7] + 5.0


def test_one_driver_gets_his_quantile():
    # more than the quantile, by what the two samples' noise asks for
    lot = Instance(drivers=1, eps=(0.1,))
    many = {"train_days": 8000, "test_days": 30_000, "beta": 1e-2}
    found = search(lot, rounds=1, **many)
    exact = separate(lot)
    assert found.shared_kwh < 2.0
    assert exact.value <= found.value <= 1.06 * exact.value
    # the other way round where own capacity is dearer
    found = search(lot.replace(own_usd_per_kwh=5.0), rounds=4, **many)
    assert found.own_kwh[0] < 5.0
    assert 4.0 * exact.own_kwh[0] <= found.value <= 1.1 * 4.0 * exact.own_kwh[0]


def test_aimed_rates_leave_room_for_the_noise_of_both_samples():
    lot = EIGHT.replace(eps=(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    free, careful = (target_rates(lot, 5000, 20_000, 1e-2, margin) for margin in (0.0, 2.0))
    limit = np.array(risk.hold_out(20_000, np.round(free * 20_000).astype(np.int64), 1e-2 / 8))
    assert (limit <= lot.tolerated).all()
    more = np.array(risk.hold_out(20_000, np.round(free * 20_000 * 1.01 + 1).astype(np.int64), 1e-2 / 8))
    assert (more > lot.tolerated).all()
    noise = np.sqrt(lot.tolerated * (1.0 - lot.tolerated) * (1 / 5000 + 1 / 20_000))
    assert careful == pytest.approx(free - 2.0 * noise)
    assert target_rates(lot.replace(eps=(0.01,)), 50, 20_000, 1e-2, 4.0).tolist() == [0.0] * 8


@pytest.mark.parametrize("rule", RULES)
def test_own_batteries_for_a_shared_one_keep_all_rates_on_the_training_days(rule):
    days = sample_test(EIGHT, "generator", 4000, 1, 10, rule)
    safe = law(EIGHT).needs.quantile(0.92)
    sums = []
    for shared in (0.0, 30.0, 90.0):
        own = own_for(EIGHT, law(EIGHT), rule, shared, np.full(8, 0.08), days)
        kept = (missed_days(rule, own, shared, days) / 4000 <= 0.08).all()
        assert kept or np.array_equal(own, safe)  # quantiles of the law keep the rates of the law
        sums.append(own.sum())
    assert sums[0] >= 0.99 * safe.sum()
    assert sums == sorted(sums, reverse=True)
    if rule in SHORTFALL_MINIMISING:
        assert sums[1] < 0.75 * sums[0]
        assert sums[2] < 0.45 * sums[0]


@pytest.mark.parametrize("rule", ["proportional", "utilitarian", "max_min"])
def test_something_shared_saves_own_batteries_whatever_the_rates(rule):
    days = sample_test(EIGHT, "generator", 4000, 1, 10, rule)
    rates = np.linspace(0.02, 0.3, 8)  # no whole numbers of days: iterates swing by one day around them
    own = own_for(EIGHT, law(EIGHT), rule, 30.0, rates, days)
    assert own.sum() < 0.9 * law(EIGHT).needs.quantile(1.0 - rates).sum()


def test_the_least_of_a_function_with_one_valley_is_found():
    for lowest in (0.0, 0.3, 17.0, 61.7, 99.9, 100.0):
        asked = []

        def valley(s, lowest=lowest, asked=asked):
            asked.append(s)
            return abs(s - lowest) ** 1.5

        found = module._cheapest(valley, 100.0, 20)
        assert found == pytest.approx(lowest, abs=0.01)
        assert len(asked) == len(set(asked))
        assert min(asked) >= 0.0
        assert max(asked) <= 100.0


def test_a_failed_test_is_repeated_on_other_days_with_lower_aims(monkeypatch):
    aimed, used = [], []
    rates_of, tested_of = module.target_rates, module.tested

    def rates(instance, train, test, beta, margin):
        aimed.append(rates_of(instance, train, test, beta, margin))
        # the first two attempts aim too high
        return aimed[-1] if len(aimed) > 2 else np.full(8, 0.12)

    def tested(*args, **options):
        used.append(options["stream"])
        return tested_of(*args, **options)

    monkeypatch.setattr(module, "target_rates", rates)
    monkeypatch.setattr(module, "tested", tested)
    found = search(EIGHT, **FAST)
    assert used[:3] == [11, 12, 13]
    assert found.certificate["sample"]["stream"] == used[-1]
    assert certified(EIGHT, found)
    assert all((one > other).all() for one, other in zip(aimed[:-1], aimed[1:], strict=True))


def test_sizes_that_earn_most_beat_sizes_for_the_targets_and_are_certified_whatever_they_promise():
    lot = EIGHT.replace(season_days=20)
    few = {"train_days": 2000, "test_days": 6000, "beta": 1e-2, "rounds": 2}
    rich, safe = money_search(lot, train_seasons=60, **few), search(lot, **few)
    data = rich.certificate
    check(data, lot)
    assert data["sample"]["stream"] == 30
    assert data["risk"]["looks"] == 1
    assert data["risk"]["eps"] == [risk.hold_out(6000, count, 1e-2 / 8) for count in data["missed"]]
    # on seasons that neither has seen
    model = SizingModel(lot)
    fresh = sample_seasons(lot, "generator", 200, 77)
    earned = [rollout(model, fresh, FixedSizes(model, each.own_kwh, each.shared_kwh)).returns for each in (rich, safe)]
    paired = earned[0] - earned[1]
    assert paired.mean() > -2.0 * paired.std() / np.sqrt(200)
    dear = money_search(lot.replace(missed_usd=3000.0), train_seasons=60, **few)
    assert dear.value > rich.value
    assert sum(dear.certificate["missed"]) < sum(data["missed"])


IMPOSSIBLE = {
    "too few test days": ("test days", EIGHT.replace(eps=(0.001,)), {}),
    "ranges too narrow": (
        "test_days",
        EIGHT.replace(own_max_kwh=1.0, shared_max_kwh_per_driver=1.0),
        {"rounds": 1, "train_days": 500, "test_days": 2000},
    ),
    "no training days": ("train_days", EIGHT, {"train_days": 0}),
    "no test days": ("test_days", EIGHT, {"test_days": 0}),
    "half a day": ("test_days", EIGHT, {"test_days": 10.5}),
    "unknown rule": ("rule", EIGHT, {"rule": "strongest first"}),
    "unknown law": ("law", EIGHT, {"source": "moon"}),
    "seed": ("seed", EIGHT, {"seed": -1}),
    "beta": ("beta", EIGHT, {"beta": 0.0}),
}


@pytest.mark.parametrize(("field", "lot", "options"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_certified_is_refused_by_name(field, lot, options):
    with pytest.raises(InvalidInputError, match=f"^{field}.*allowed"):
        search(lot, **(FAST | options))
