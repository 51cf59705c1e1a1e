"""Shares that hold on scenarios: the program, its support, and the promise on fresh scenarios."""

import json

import numpy as np
import pytest
from scipy.optimize import linprog

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.games.coalitions import subset_sums
from baselines.games.stability import gain_of_leaving, sampled_core, unstable_share
from baselines.games.verify_sampled import sampled_certificate
from v2g_env.core.validate import InvalidInputError


def worths(seed, count, n=3):
    """Random profits of coalitions around a convex game."""
    rng = np.random.default_rng(seed)
    base = subset_sums(np.arange(1.0, n + 1.0)) ** 1.3
    noise = rng.exponential(0.3, (count, 1 << n)) * np.sqrt(base)
    table = base + noise
    table[:, 0] = 0.0
    return table


def test_shares_have_the_least_excess_of_the_whole_program():
    tables, n = worths(0, 40), 3
    found = sampled_core(tables, 15.0, 1e-3)
    masks = np.arange(1, 7)
    inside = (masks[:, None] >> np.arange(n) & 1).astype(float)
    rows = np.vstack([np.hstack([inside, np.ones((6, 1))])] * 40)
    whole = linprog([0, 0, 0, 1], -rows, -tables[:, 1:7].ravel(), [[1, 1, 1, 0]], [15.0], (None, None))
    assert found.payments.sum() == pytest.approx(15.0)
    assert whole.fun - 1e-9 <= found.excess_usd <= whole.fun + 0.01
    assert gain_of_leaving(tables, found.payments).max() == pytest.approx(found.excess_usd)


def test_the_support_alone_gives_the_same_shares_and_the_rest_changes_nothing():
    tables = worths(1, 60)
    found = sampled_core(tables, 15.0, 1e-3)
    alone = sampled_core(tables[list(found.support)], 15.0, 1e-3)
    np.testing.assert_allclose(alone.payments, found.payments, atol=1e-4)
    assert alone.excess_usd == pytest.approx(found.excess_usd, abs=1e-5)
    assert 1 <= len(found.support) <= 8
    for row in found.support:
        less = sampled_core(np.delete(tables, row, axis=0), 15.0, 1e-3)
        assert abs(less.excess_usd - found.excess_usd) + np.abs(less.payments - found.payments).max() > 1e-7


def test_the_promise_holds_as_often_as_it_says():
    beta, broken, fresh = 0.2, 0, worths(99, 20_000)
    for seed in range(60):
        found = sampled_core(worths(seed + 100, 40), 15.0, beta)
        broken += unstable_share(fresh, found.payments, found.excess_usd) > found.eps
    assert broken <= 12 + 9  # at most 12 expected of 60, plus three standard deviations


def test_scenarios_that_an_answer_satisfies_do_not_change_it():
    tables = worths(2, 50)
    found = sampled_core(tables, 15.0, 1e-3)
    mild = worths(3, 20)
    mild = np.minimum(mild, tables.max(axis=0))  # below what was seen, and some coalitions far above the rest
    more = sampled_core(np.concatenate([tables, mild]), 15.0, 1e-3)
    np.testing.assert_allclose(more.payments, found.payments, atol=1e-7)
    assert more.excess_usd == pytest.approx(found.excess_usd, abs=1e-9)


def certificate(seed=4):
    tables = worths(seed, 40)
    return json.loads(json.dumps(sampled_certificate(tables, 15.0, sampled_core(tables, 15.0, 1e-3), "random games")))


@pytest.mark.parametrize("seed", range(6))
def test_the_certificate_holds(seed):
    report = check(certificate(seed))
    assert 0.0 < report.values["eps"] < 1.0


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("seed", range(10))
def test_certificates_hold_where_many_coalitions_tie_and_for_any_size_of_money(seed, scale):
    rng = np.random.default_rng(seed)
    n, count = 3 + seed % 5, 1 + 7 * (seed % 4)
    tables = scale * np.round(subset_sums(rng.uniform(1.0, 3.0, n)) ** 1.2 + rng.normal(size=(count, 1 << n)))
    tables[:, 0] = 0.0
    amount = float(tables[:, -1].mean())
    found = sampled_core(tables, amount, 1e-3)
    check(json.loads(json.dumps(sampled_certificate(tables, amount, found, "whole dollars"))))
    inside = (np.arange(1, (1 << n) - 1)[:, None] >> np.arange(n) & 1).astype(float)
    rows = np.hstack([inside, np.ones((len(inside), 1))])
    whole = linprog(
        np.append(np.zeros(n), 1.0),
        -rows,
        -tables.max(axis=0)[1:-1],
        [np.append(np.ones(n), 0.0)],
        [amount],
        (None,) * 2,
    )
    assert whole.fun - 1e-9 * scale <= found.excess_usd <= whole.fun + 1e-3 * (1.0 + abs(amount))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("payments", lambda packed: pack(unpack(packed) + [0.1, -0.1, 0.0])),
        ("excess_usd", lambda value: value - 0.1),
        ("support", lambda rows: rows[:-1] or [39]),
        ("support", lambda rows: []),
        ("eps", lambda value: 0.5 * value),
        ("beta", 1e-2),
        ("weights", lambda packed: pack(unpack(packed) * 1.1)),
        ("amount_usd", 14.0),
        ("gains", lambda packed: pack(unpack(packed) * 1.1)),
        ("gains", lambda packed: pack(unpack(packed)[:, :4].copy())),
        ("masks", lambda masks: masks[::-1]),
        ("source", 3),
    ],
)
def test_a_certificate_with_a_changed_entry_is_refused(field, change):
    data = certificate()
    data[field] = change(data[field]) if callable(change) else change
    with pytest.raises(CertificateError):
        check(data)


@pytest.mark.parametrize(
    ("tables", "amount", "beta", "field"),
    [
        (np.zeros((0, 4)), 1.0, 0.1, "scenarios"),
        (np.zeros((3, 5)), 1.0, 0.1, "coalitions"),
        (np.ones((3, 4)), 1.0, 0.1, "empty coalition"),
        (np.full((3, 4), np.nan), 1.0, 0.1, "gains"),
        (np.zeros((3, 4)), np.inf, 0.1, "amount"),
        (np.zeros((3, 4)), 1.0, 1.0, "beta"),
    ],
)
def test_wrong_input_is_named(tables, amount, beta, field):
    with pytest.raises(InvalidInputError, match=field):
        sampled_core(tables, amount, beta)
