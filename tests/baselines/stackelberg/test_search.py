"""The search equals enumeration, its bound holds whenever it stops, and its tree is a proof."""

import itertools

import numpy as np
import pytest

from baselines.stackelberg import search as module
from baselines.stackelberg.certify import certify
from baselines.stackelberg.programs import continuous, solve
from baselines.stackelberg.search import Search
from baselines.stackelberg.tree import Tree
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.game import DriverClass, Requirement

SEEDS = range(60)
TOLERANCE = 1e-9  # of 1 + |objective|


def tree_of(nodes):
    columns = zip(*((n.parent, n.upper, n.period, n.level, n.kappa) for n in nodes), strict=True)
    types = (np.int32, bool, np.int32, np.int32, float)
    return Tree(*(np.array(c, t) for c, t in zip(columns, types, strict=True)), np.array([n.rebates for n in nodes]))


def paying(lab, seed, **changes):
    """A platform's game in which the lowest rebates are not best."""
    for number in range(1000 * seed, 1000 * seed + 1000):
        made = lab.game(number, owner="platform", **changes)
        chosen, value, _ = lab.enumerate_all(made)
        if len(value) > 20 and value.max() > value[0] + 0.01 * abs(value[0]) and chosen[value.argmax()].any():
            return made
    raise AssertionError("no such game")


@pytest.mark.parametrize("seed", SEEDS)
def test_search_equals_enumeration(lab, seed):
    made = lab.game(seed)
    chosen, values, _ = lab.enumerate_all(made)
    best = float(values.max())
    if best == -np.inf:
        with pytest.raises(InvalidInputError, match="no loss"):
            solve(made, gap=1e-9, time_limit_s=20.0)
        return
    found = solve(made, gap=1e-9, time_limit_s=20.0)
    size = TOLERANCE * (1.0 + abs(best))
    assert found.gap <= 1e-9
    assert abs(found.value - best) <= size
    assert found.value - size <= found.bound
    assert best - size <= found.bound
    here = int(np.flatnonzero((chosen == found.levels).all(axis=1))[0])
    assert abs(values[here] - found.value) <= size
    np.testing.assert_array_equal(found.plan, made.levels[found.levels])
    tree_of(found.search.nodes).boxes(made)


def test_games_are_of_all_kinds(lab):
    games = [lab.game(seed) for seed in SEEDS]
    assert {g.owner for g in games} == {"platform", "drivers"}
    assert {g.variant for g in games} == {"rigorous", "published"}
    assert {len(g.classes) for g in games} == {1, 2}
    assert {len(g.requirements) for g in games} == {1, 2}
    assert {g.drivers for g in games} >= {1, 10_000}
    assert any(g.levels_usd_per_h[0] > 0.0 for g in games)
    assert any((g.choices == 1).any() for g in games if g.cap_usd_per_h)
    assert any(np.bincount(np.array(c.network.period) + 1)[1:].max(initial=0) > 1 for g in games for c in g.classes)
    best = [lab.enumerate_all(g) for g in games]
    assert sum(bool(chosen[values.argmax()].any()) for chosen, values, _ in best) > 15


@pytest.mark.parametrize("seed", range(100, 112))
def test_bound_holds_when_time_is_up_at_once(lab, seed):
    made = lab.game(seed, owner="platform")
    best = float(lab.enumerate_all(made)[1].max())
    size = TOLERANCE * (1.0 + abs(best))
    found = solve(made, gap=1e-12, time_limit_s=1e-9)
    assert found.value <= best + size
    assert best - size <= found.bound
    tree_of(found.search.nodes).boxes(made)


EXTREMES = {
    "strong chargers": {"psi": 1000.0},
    "weak chargers": {"psi": 0.01},
    "dear rebates": {"levels_usd_per_h": (0.0, 5.0, 20.0)},
    "one driver": {"drivers": 1},
    "a large fleet": {"drivers": 10_000},
    "eta near one half": {"eta": 0.4999},
    "tiny eta": {"eta": 1e-4},
    "tiny deviations": {"sigma": (0.004, 0.01)},
    "huge deviations": {"sigma": (20.0, 50.0)},
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_bound_holds_in_extreme_games(lab, name, seed):
    changes = dict(EXTREMES[name])
    rng = np.random.default_rng(seed)
    psi, eta, sigma = changes.pop("psi", 10.0), changes.pop("eta", 0.1), changes.pop("sigma", (0.1, 0.5))
    made = lab.game(
        0,
        owner="platform",
        cap_usd_per_h=None,
        price_usd_per_kw=tuple(rng.uniform(0.02, 0.4, 3)),
        classes=(DriverClass("all", 1.0, lab.network(rng, 3, places=2, sigma=sigma)),),
        requirements=(Requirement(psi, eta, 1.0, 0.1, 0.1),),
        **{"drivers": 50, "levels_usd_per_h": (0.0, 0.2, 0.5)} | changes,
    )
    best = float(lab.enumerate_all(made)[1].max())
    size = TOLERANCE * (1.0 + abs(best))
    found = solve(made, gap=1e-9, time_limit_s=20.0)
    assert abs(found.value - best) <= size
    assert best - size <= found.bound


def test_bound_never_rises_and_value_never_falls(lab, monkeypatch):
    made = paying(lab, 3)
    search, seen = Search(made), []
    expand = search._expand

    def watched(*args):
        seen.append((search._best.bound, search._best.value))
        expand(*args)

    monkeypatch.setattr(search, "_expand", watched)
    search.solve(1e-12, 20.0)
    bounds, values = np.array(seen).T
    assert len(bounds) > 3
    assert (np.diff(bounds) <= 0.0).all()
    assert (np.diff(values) >= 0.0).all()


def stopping(function, n):
    """The function, interrupted at its n-th call."""
    calls = itertools.count(1)

    def call(*args, **kwargs):
        if next(calls) == n:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize("where", ["maximise", "bound", "try_levels", "polish"])
@pytest.mark.parametrize("number", [3, 6, 7, 8, 15])
def test_interruption_anywhere_keeps_the_incumbent_and_a_valid_tree(lab, monkeypatch, where, number):
    made = paying(lab, 4)
    best = float(lab.enumerate_all(made)[1].max())
    search = Search(made)
    monkeypatch.setattr(search, where, stopping(getattr(search, where), number))
    result = search.solve(1e-12, 20.0)
    assert result.levels is not None
    assert result.value <= best + 1e-9 <= result.bound + 2e-9
    tree_of(result.nodes).boxes(made)
    assert certify(made, result, 0.0)["bound_usd"] >= best - 1e-9


def test_interruption_from_the_progress_callback_keeps_the_incumbent(lab, monkeypatch):
    made = next(game for game in (paying(lab, seed) for seed in range(5, 50)) if solve(game, 1e-12).nodes > 9)
    clock = iter(range(0, 10**6, 3))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))

    def progress(text):
        if "nodes" in text:
            raise KeyboardInterrupt

    found = solve(made, gap=1e-12, time_limit_s=1e6, progress=progress)
    best = float(lab.enumerate_all(made)[1].max())
    assert found.value <= best + 1e-9 <= found.bound + 2e-9
    assert not found.search.complete
    tree_of(found.search.nodes).boxes(made)


def test_interruption_before_any_answer_is_passed_on(lab, monkeypatch):
    monkeypatch.setattr(Search, "maximise", stopping(None, 1))
    with pytest.raises(KeyboardInterrupt):
        solve(lab.game(1))


@pytest.mark.parametrize("seed", range(1, 6))
def test_rebates_off_the_grid_earn_at_least_as_much(lab, seed):
    made = paying(lab, seed)
    grid = lab.enumerate_all(made)[1].max()
    rebates, value = continuous(made)
    root = Search(made).solve(1e-12, 1e-9).nodes[0].bound
    assert (rebates >= made.levels[0]).all()
    assert (rebates <= made.levels[made.choices - 1]).all()
    assert lab.evaluate(made, rebates[None])[0][0] == pytest.approx(value, rel=1e-9)
    assert value <= root + 1e-9 * (1.0 + abs(root))
    assert value >= grid - 1e-9 * abs(grid)  # a local maximum, but the best one in these games


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
def test_answers_do_not_depend_on_the_currency(lab, factor):
    made = paying(lab, 9)

    def dear(network):
        return type(network)(
            **network.to_dict()
            | {
                "mean_usd": tuple(factor * v for v in network.mean_usd),
                "deviation_usd": tuple(factor * v for v in network.deviation_usd),
            }
        )

    other = made.replace(
        classes=tuple(DriverClass(c.name, c.share, dear(c.network)) for c in made.classes),
        price_usd_per_kw=tuple(factor * v for v in made.price_usd_per_kw),
        levels_usd_per_h=tuple(factor * v for v in made.levels_usd_per_h),
        cap_usd_per_h=made.cap_usd_per_h and tuple(factor * v for v in made.cap_usd_per_h),
    )
    one, two = solve(made, gap=1e-9), solve(other, gap=1e-9)
    np.testing.assert_array_equal(one.levels, two.levels)
    assert two.value == pytest.approx(factor * one.value, rel=1e-9)


def test_the_search_is_deterministic(lab):
    made = paying(lab, 2)
    one, two = (solve(made, gap=1e-9).search for _ in range(2))
    assert one.value == two.value
    assert one.bound == two.bound
    assert len(one.nodes) == len(two.nodes)
    assert all((a.rebates == b.rebates).all() and a[:4] == b[:4] for a, b in zip(one.nodes, two.nodes, strict=True))


def test_drivers_who_own_the_platform_find_what_pays_although_the_lowest_rebates_do_not(lab):
    found = 0
    for seed in range(4000):
        made = lab.game(seed)
        if made.owner != "drivers" or made.levels_usd_per_h[0] == 0.0:
            continue
        chosen, values, profits = lab.enumerate_all(made)
        if profits[0] < 0.0 < values.max() and np.isfinite(values.max()):
            answer = solve(made, gap=1e-9, time_limit_s=20.0)
            assert answer.bound >= values.max() - TOLERANCE * (1.0 + values.max())
            assert abs(answer.value - values.max()) <= TOLERANCE * (1.0 + values.max())
            found += 1
            if found == 3:
                break
    assert found == 3
