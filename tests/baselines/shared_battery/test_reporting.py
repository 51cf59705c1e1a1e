"""What lying earns under the allocation rules, and mechanisms under which it earns nothing."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.shared_battery.reporting import (
    WORTHS,
    best_lie,
    knapsack,
    manipulability,
    reporting_form,
    service_clarke,
    worth_of,
)
from v2g_env.core.allocation import ORDERED, RULES, allocate
from v2g_env.core.payments import clarke
from v2g_env.core.validate import InvalidInputError

needs = st.lists(st.integers(0, 12), min_size=2, max_size=5).map(lambda values: np.array(values, float))


@pytest.mark.parametrize("worth", WORTHS)
@pytest.mark.parametrize("rule", RULES)
@given(needs, st.integers(0, 30), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_no_report_on_a_fine_grid_beats_the_best_lie(rule, worth, lack, shared, seed):
    order = np.random.default_rng(seed).permutation(len(lack))
    found = best_lie(rule, worth, lack, 0, float(shared), 1.0, 60.0, order)
    reports = np.unique(np.concatenate([np.linspace(0.0, 60.0, 481), np.arange(61) - 1e-9, np.arange(61) + 1e-9]))
    days = np.tile(lack, (len(reports) + 1, 1))
    days[1:, 0] = np.maximum(reports, 0.0)
    lines = np.tile(order, (len(days), 1)) if rule in ORDERED else None
    got = worth_of(
        worth, allocate(rule, days, float(shared), lines)[:, 0], np.full(len(days), lack[0]), np.ones(len(days))
    )
    assert found.gain_usd >= got[1:].max() - got[0] - 1e-6
    told = days[:1].copy()
    told[0, 0] = found.report_kwh
    mine = allocate(rule, told, float(shared), lines[:1] if lines is not None else None)[:, 0]
    assert worth_of(worth, mine, lack[:1], np.ones(1))[0] - got[0] == pytest.approx(found.gain_usd, abs=1e-6)


@given(needs, st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_nobody_gains_from_lying_under_max_min_sharing_of_energy(lack, shared):
    for i in range(len(lack)):
        assert best_lie("max_min", "energy", lack, i, float(shared)).gain_usd <= 1e-9


def test_whoever_overstates_gains_under_proportional_sharing():
    lie = best_lie("proportional", "energy", [10.0, 10.0], 0, 10.0, 2.0, 90.0)
    assert lie.gain_usd == pytest.approx(2.0 * (9.0 - 5.0))  # 10 x 90 / 100 in place of 5 kWh


def test_the_table_of_rules_shows_which_can_be_gamed():
    lack = np.random.default_rng(0).integers(0, 12, (15, 4)).astype(float)
    rows = {row.rule: row for row in manipulability(lack, 10.0, "energy")}
    assert list(rows) == list(RULES)
    assert rows["max_min"].largest_usd < 1e-9 < rows["proportional"].mean_gain_usd
    assert all(row.low_usd <= row.mean_gain_usd <= row.high_usd for row in rows.values())


days = st.integers(1, 5).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 9), min_size=n, max_size=n) for _ in range(2)), st.integers(0, 25))
)


@given(days)
@settings(max_examples=60, deadline=None)
def test_clarke_payments_are_what_the_others_lose(day):
    lack, value, shared = np.array(day[0], float), np.array(day[1], float), float(day[2])

    def best(members):
        left, total = shared, 0.0
        for i in sorted(members, key=lambda i: -value[i]):
            given = min(lack[i], left)
            left, total = left - given, total + given * value[i]
        return total

    energy, paid = clarke(lack[None], value[None], [shared])
    everyone = list(range(len(lack)))
    assert (energy[0] * value).sum() == pytest.approx(best(everyone))
    for i in everyone:
        loss = best([j for j in everyone if j != i]) - (best(everyone) - energy[0, i] * value[i])
        assert paid[0, i] == pytest.approx(loss, abs=1e-9)
        assert -1e-12 <= paid[0, i] <= energy[0, i] * value[i] + 1e-9


@given(days, st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_truth_is_best_with_clarke_payments(day, seed):
    lack, value, shared = np.array(day[0], float), np.array(day[1], float), float(day[2])
    rng = np.random.default_rng(seed)
    others = rng.integers(0, 9, (2, len(lack))).astype(float)  # whatever the others report

    def utility(report, worth):
        asked, said = others[0].copy(), others[1].copy()
        asked[0], said[0] = report, worth
        energy, paid = clarke(asked[None], said[None], [shared])
        return value[0] * min(energy[0, 0], lack[0]) - paid[0, 0]

    truth = utility(lack[0], value[0])
    assert truth >= -1e-9
    for report, worth in product(
        (0.0, 0.5 * lack[0], lack[0] + 1.0, 3 * lack[0]), (0.0, value[0] - 0.5, value[0] + 2.0)
    ):
        assert utility(report, max(worth, 0.0)) <= truth + 1e-9


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), min_size=1, max_size=8), st.integers(0, 25))
@settings(max_examples=60, deadline=None)
def test_the_knapsack_is_that_of_all_choices(items, room):
    value, size = (np.array(part, float) for part in zip(*items, strict=True))
    chosen = knapsack(value, size, float(room))
    assert size[chosen].sum() <= room + 1e-9
    best = max(
        sum(v for v, _, take in zip(value, size, pick, strict=True) if take)
        for pick in product((False, True), repeat=len(items))
        if sum(w for w, take in zip(size, pick, strict=True) if take) <= room
    )
    assert value[chosen].sum() == pytest.approx(best)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=2, max_size=6), st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_truth_is_best_for_whole_requests_too(items, room):
    value, size = (np.array(part, float) for part in zip(*items, strict=True))

    def utility(said_value, said_size):
        told = np.append(said_value, value[1:]), np.append(said_size, size[1:])
        chosen, paid = service_clarke(*told, float(room))
        return (value[0] if chosen[0] and said_size >= size[0] else 0.0) - paid[0]

    truth = utility(value[0], size[0])
    assert truth >= -1e-9
    for said in product((0.0, value[0] * 0.5, value[0] + 3.0, 100.0), (0.5, size[0], size[0] + 1.0)):
        assert utility(*said) <= truth + 1e-9


def test_the_reporting_game_of_two_drivers_has_overstating_as_its_equilibrium():
    lack = np.array([[8.0, 6.0], [3.0, 9.0]])
    game = reporting_form("proportional", "energy", lack, 5.0, (1.0, 2.0, 3.0))
    assert game.pure_equilibria() == [(2, 2)]
    truthful = reporting_form("max_min", "energy", lack, 5.0, (0.5, 1.0, 3.0))
    assert (1, 1) in truthful.pure_equilibria()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: best_lie("fair", "energy", [1.0], 0, 1.0), "rule"),
        (lambda: best_lie("max_min", "joy", [1.0], 0, 1.0), "worth"),
        (lambda: best_lie("max_min", "energy", [1.0], 1, 1.0), "driver"),
        (lambda: best_lie("max_min", "energy", [-1.0], 0, 1.0), "lack"),
        (lambda: knapsack([1.0], [1.0, 2.0], 1.0), "length of size"),
        (lambda: knapsack([1.0], [1.0], np.nan), "room"),
        (lambda: clarke([[1.0]], [[-1.0]], [1.0]), "value_usd_per_kwh"),
        (lambda: clarke([[1.0]], [[1.0]], [1.0, 2.0]), "shared_kwh"),
        (lambda: reporting_form("first_come", "energy", [[1.0]], 1.0), "rule"),
        (lambda: manipulability([[1.0]], 1.0, "energy", most=0.5), "most"),
    ],
)
def test_wrong_input_is_named(make, field):
    with pytest.raises(InvalidInputError, match=field):
        make()
