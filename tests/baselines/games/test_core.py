"""Core, least core, empty cores and nucleoli: known games, independent formulations, proofs that cannot be forged."""

import copy
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from baselines.certificate import CertificateError, check, pack
from baselines.games.classic import airport, bankruptcy, glove, majority, talmud, voting
from baselines.games.coalitions import CooperativeGame, subset_sums
from baselines.games.core import balanced_weights, core_point, excesses, least_core, leaving, stable
from baselines.games.nucleolus import kohlberg_levels, nucleolus, prenucleolus
from baselines.games.prices import equal, marginal, proportional
from baselines.games.shapley import shapley
from baselines.games.verify import allocation_certificate, empty_core_certificate
from baselines.solve import SolverError
from v2g_env.core.validate import InvalidInputError


def random_game(seed, n, kind="profit"):
    rng = np.random.default_rng(seed)
    table = rng.integers(-3, 12, 1 << n).astype(float) * rng.choice([1.0, 0.37])
    table[0] = 0.0
    return CooperativeGame(table, kind=kind)


def lexicographic(game, among_imputations):
    """Nucleolus by another route: scipy, every coalition a row, tight ones found by maximising each slack."""
    n, gains = game.n, game.gains
    masks = list(range(1, (1 << n) - 1))
    inside = {mask: np.array([mask >> i & 1 for i in range(n)], float) for mask in masks}
    held, free = {}, list(masks)
    low = [(gains[1 << i] if among_imputations else None, None) for i in range(n)]
    while free:
        upper = np.array([np.append(-inside[mask], -1.0) for mask in free])
        right = np.array([-gains[mask] for mask in free])
        equal_rows = [np.append(np.ones(n), 0.0)] + [np.append(inside[mask], 0.0) for mask in held]
        equal_right = [gains[-1]] + [gains[mask] - e for mask, e in held.items()]
        first = linprog(np.append(np.zeros(n), 1.0), upper, right, equal_rows, equal_right, [*low, (None, None)])
        e = first.x[-1]
        tight = []
        for mask in free:  # can its excess be below e while all others stay at most e?
            rows = np.array([-inside[other] for other in free])
            most = [e - gains[other] for other in free]
            eq = [np.ones(n)] + [inside[other] for other in held]
            best = linprog(-inside[mask], rows, most, eq, equal_right, low)
            if gains[mask] + best.fun > e - 1e-7:
                tight.append(mask)
        assert tight
        held |= dict.fromkeys(tight, e)
        free = [mask for mask in free if mask not in held]
    return game.sign * first.x[:n]


@pytest.mark.parametrize("among_imputations", [True, False])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["profit", "cost"])
def test_the_nucleolus_is_that_of_an_independent_formulation(seed, kind, among_imputations):
    game = random_game(seed, 4, kind)
    if among_imputations and game.gains[1 << np.arange(4)].sum() > game.gains[-1]:
        with pytest.raises(InvalidInputError, match="worth alone"):
            nucleolus(game)
        return
    found = (nucleolus if among_imputations else prenucleolus)(game)
    np.testing.assert_allclose(found.payments, lexicographic(game, among_imputations), atol=1e-6)


def test_known_nucleoli_to_the_last_digit():
    for estate in (100.0, 200.0, 300.0, 450.0):
        claims = [100.0, 200.0, 300.0]
        found = nucleolus(bankruptcy(estate, claims))
        np.testing.assert_allclose(found.payments, talmud(estate, claims), atol=1e-9)
    assert nucleolus(bankruptcy(200.0, [100.0, 200.0, 300.0])).exact == (50, 75, 75)  # the Talmud's own case
    rng = np.random.default_rng(1)
    claims = rng.integers(1, 50, 7).astype(float)
    np.testing.assert_allclose(nucleolus(bankruptcy(90.0, claims)).payments, talmud(90.0, claims), atol=1e-9)
    assert nucleolus(glove(1, 2)).exact == (1, 0, 0)
    assert nucleolus(majority(1.0)).exact == (Fraction(1, 3),) * 3
    # small aircraft that pay a each save 1 - 2a together, a each with the large one: the least is best at a = 1 - 2a
    assert nucleolus(airport([1.0, 1.0, 2.0])).exact == (Fraction(1, 3), Fraction(1, 3), Fraction(4, 3))
    # [3; 2, 1, 1]: only the first is in every winning coalition, and the core is his
    assert nucleolus(voting(3.0, [2.0, 1.0, 1.0])).exact == (1, 0, 0)
    assert nucleolus(CooperativeGame([0.0, 3.0])).exact == (3,)


def test_cores_of_known_games():
    np.testing.assert_allclose(core_point(glove(1, 2)), [1.0, 0.0, 0.0], atol=1e-9)  # a single point
    assert core_point(majority(1.0)) is None
    assert least_core(majority(1.0)).excess_usd == pytest.approx(1.0 / 3.0, abs=1e-9)
    assert balanced_weights(majority(1.0)).weights == (Fraction(1, 2),) * 3
    assert balanced_weights(majority(2.0 / 3.0 - 1e-6)) is None
    assert core_point(majority(2.0 / 3.0 - 1e-6)) is not None
    gone = leaving(glove(1, 2), [0.5, 0.25, 0.25])
    assert [each.members for each in gone] == [(0, 1), (0, 2)] and gone[0].gain_usd == 0.25
    assert stable(airport([1.0, 3.0, 7.0]), shapley(airport([1.0, 3.0, 7.0]))).word == "stable"  # a concave game


@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(["profit", "cost"]))
@settings(max_examples=40, deadline=None)
def test_either_the_core_has_a_point_or_balanced_weights_prove_that_it_is_empty(seed, n, kind):
    game = random_game(seed, n, kind)
    found, weights = least_core(game), balanced_weights(game)
    top = excesses(game, found.payments)[1:-1].max()
    assert top == pytest.approx(found.excess_usd, abs=1e-6)
    assert (weights is None) == (found.excess_usd <= 1e-9 * (1 + np.abs(game.values).max()))
    # the least core's linear program with every row
    masks = np.arange(1, (1 << n) - 1)
    inside = (masks[:, None] >> np.arange(n) & 1).astype(float)
    whole = linprog(
        np.append(np.zeros(n), 1.0),
        -np.hstack([inside, np.ones((len(masks), 1))]),
        -game.gains[masks],
        [np.append(np.ones(n), 0.0)],
        [game.gains[-1]],
        (None, None),
    )
    assert found.excess_usd == pytest.approx(whole.fun, abs=1e-7)
    if weights is not None:
        assert check(json.loads(json.dumps(empty_core_certificate(game, weights)))).values["surplus_usd"] > 0.0


@given(st.integers(0, 10**6), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_the_prenucleolus_lies_in_the_least_core_and_its_proof_holds(seed, n):
    game = random_game(seed, n)
    found = prenucleolus(game)
    top = excesses(game, found.payments)[1:-1].max()
    assert top == pytest.approx(least_core(game).excess_usd, abs=1e-6)
    report = check(json.loads(json.dumps(allocation_certificate(game, found.payments, "prenucleolus", found))))
    assert "Kohlberg" in " ".join(report.claims)


def test_no_other_allocation_passes_kohlbergs_criterion():
    game = bankruptcy(200.0, [100.0, 200.0, 300.0])
    for shares in ((50, 74, 76), (60, 70, 70), (0, 100, 100)):
        with pytest.raises(SolverError, match="nucleolus"):
            kohlberg_levels(game, tuple(map(Fraction, shares)))


def test_limits_decide_what_they_can():
    values = np.array([0.0, 1.0, 1.0, 3.0])
    known = CooperativeGame(values, lower=values - [0, 0.5, 0.5, 0], upper=values + [0, 0.4, 0.4, 0])
    assert stable(known, [1.5, 1.5]).word == "stable"
    assert stable(known, [1.2, 1.8]).word == "unknown"
    assert stable(known, [0.2, 2.8]).word == "unstable"
    costs = CooperativeGame(values, kind="cost", lower=values - [0, 0.5, 0.5, 0], upper=values + [0, 0.4, 0.4, 0])
    assert stable(costs, [2.0, 1.0]).word == "unstable"  # he pays at most 1.4 alone


CERTIFIED = {
    "nucleolus": lambda: (lambda g: allocation_certificate(g, nucleolus(g).payments, "nucleolus", nucleolus(g)))(
        bankruptcy(200.0, [100.0, 200.0, 300.0])
    ),
    "cost nucleolus": lambda: (lambda g: allocation_certificate(g, nucleolus(g).payments, "nucleolus", nucleolus(g)))(
        airport([1.0, 1.0, 2.0])
    ),
    "least core": lambda: (lambda g: allocation_certificate(g, least_core(g).payments, "least core", least_core(g)))(
        majority(1.0)
    ),
    "Shapley": lambda: (lambda g: allocation_certificate(g, shapley(g), "Shapley"))(glove(2, 2)),
    "equal": lambda: (lambda g: allocation_certificate(g, equal(g), "equal shares"))(glove(1, 2)),
    "empty": lambda: (lambda g: empty_core_certificate(g, balanced_weights(g)))(majority(0.9)),
}


def change(data, path, value):
    made = copy.deepcopy(data)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value(at[path[-1]]) if callable(value) else value
    return made


@pytest.mark.parametrize("name", CERTIFIED)
def test_certificates_hold_as_written(name):
    data = json.loads(json.dumps(CERTIFIED[name]()))
    assert check(data).claims


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("nucleolus", ["payments"], pack(np.array([51.0, 75.0, 74.0]))),
        ("nucleolus", ["proof", "exact"], ["51/1", "75/1", "74/1"]),
        ("nucleolus", ["proof", "levels"], lambda levels: levels[:-1]),
        ("nucleolus", ["proof", "levels", 0, "weights", 0], "1/3"),
        ("nucleolus", ["proof", "levels", 0, "masks"], lambda masks: masks[:-1]),
        ("nucleolus", ["proof", "levels", 0, "alone"], [[0, "1/2"]]),
        ("nucleolus", ["verdict"], "unknown"),
        ("nucleolus", ["proof"], None),
        ("cost nucleolus", ["game_kind"], "profit"),
        ("least core", ["proof", "weights", 0], 0.5),
        ("least core", ["payments"], pack(np.array([0.5, 0.25, 0.25]))),
        ("least core", ["worst_gain_usd"], 0.0),
        ("Shapley", ["payments"], pack(np.array([0.6, 0.4, 0.5, 0.5]))),
        ("Shapley", ["values"], pack(np.zeros(16))),
        ("equal", ["payments"], pack(np.array([0.3, 0.3, 0.3]))),
        ("equal", ["leaving"], []),
        ("equal", ["leaving", 0, 1], 0.5),
        ("empty", ["weights", 0], "1/3"),
        ("empty", ["weights", 0], "a/b"),
        ("empty", ["masks", 0], 7),
        ("empty", ["surplus_usd"], 1.0),
        ("empty", ["kind"], "full core"),
        ("empty", ["players"], ["a"]),
    ],
)
def test_a_certificate_with_a_changed_entry_is_refused(name, path, value):
    with pytest.raises(CertificateError):
        check(change(json.loads(json.dumps(CERTIFIED[name]())), path, value))


def test_a_certificate_of_another_game_is_refused():
    with pytest.raises(CertificateError, match="instance"):
        check(CERTIFIED["equal"](), glove(2, 1))


def test_large_games_are_solved_with_few_rows():
    weights = np.random.default_rng(0).uniform(1.0, 5.0, 12)
    costs = CooperativeGame(np.sqrt(subset_sums(weights)), kind="cost")  # concave: the core is not empty
    found = nucleolus(costs)
    assert stable(costs, found.payments).word == stable(costs, shapley(costs)).word == "stable"
    assert leaving(costs, proportional(costs, np.append(np.full(11, 0.01), 10.0)))
    assert stable(costs, marginal(costs)).word in ("stable", "unstable")
