"""Benchmarks of the Stackelberg game: drivers' responses, and exact solutions of random instances."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from baselines.stackelberg import Solution, solve
from v2g_env.stackelberg.follower import arcs_of, respond, start_prices
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance

__all__ = ["against_scip", "lines", "random_games"]

_LEVELS = tuple(i / 10 for i in range(11))
_PRICE_SD = 0.25  # of the log factor on every hour's price


def random_games(
    count: int, seed: int, charger_kw: float = 10.0, workplace: float = 0.0, blocked: bool = False, fine: bool = False
) -> list[Game]:
    """Games of 200 drivers with 11 levels from 0 to 1 $/h, random prices, and 40 to 70 % commuters.

    Args:
        count: of games.
        seed: of prices and shares.
        charger_kw: charger power [kW].
        workplace: plugged share at work.
        blocked: no rebates in eight random hours, and at most .5 $/h in eight others.
        fine: 21 levels and 96 periods.
    """
    rng = np.random.default_rng(seed)
    games = []
    for _ in range(count):
        commuters, split = rng.uniform(0.4, 0.7), rng.uniform()
        mix = (commuters, (1.0 - commuters) * split, (1.0 - commuters) * (1.0 - split))
        factor = np.exp(_PRICE_SD * rng.standard_normal(24))
        cap = np.ones(24)
        if blocked:
            hours = rng.permutation(24)
            cap[hours[:8]], cap[hours[8:16]] = 0.0, 0.5
        fleet = Instance(
            charger_kw=charger_kw,
            composition=mix,
            workplace=workplace,
            rebate_levels_usd_per_h=tuple(i / 20 for i in range(21)) if fine else _LEVELS,
            periods_per_hour=4 if fine else 1,
            rebate_cap_usd_per_h=tuple(cap.tolist()) if blocked else (),
        )
        games.append(fleet.game(fleet.base_price * factor))
    return games


def _responses() -> Iterator[str]:
    game = Instance().game()
    arcs = arcs_of(game.classes)
    rebates = np.random.default_rng(0).uniform(0.0, 1.0, (2000, game.periods))
    price = start_prices(arcs)
    respond(arcs, rebates[:2], price)
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        respond(arcs, rebates, price)
        times.append(time.perf_counter() - begin)
    yield (
        f"drivers' response, {len(arcs.tail)} arcs, random rebates from 0 to 1 $/h: {len(rebates) / min(times):,.0f} a "
        "second in batches of 2000"
    )


def _summary(solutions: Sequence[Solution], wanted: float) -> str:
    seconds = np.array([each.seconds for each in solutions])
    nodes = np.array([each.nodes for each in solutions])
    gaps = np.array([each.gap for each in solutions])
    return (
        f"{int((gaps <= wanted).sum())} of {len(gaps)} solved; "
        f"median {np.median(seconds):.3f} s, {np.median(nodes):.0f} nodes; "
        f"worst {seconds.max():.2f} s, {nodes.max()} nodes, gap {gaps.max():.1e}"
    )


def _gain_percent(games: Sequence[Game], solutions: Sequence[Solution]) -> float:
    none = [solve(game.replace(levels_usd_per_h=(0.0,), cap_usd_per_h=None)).value for game in games]
    return float(np.median([100.0 * (s.value / value - 1.0) for s, value in zip(solutions, none, strict=True)]))


def lines(count: int = 100, limit_s: float = 5.0) -> Iterator[str]:
    """One line per measurement.

    Args:
        count: games of each of the two large families; the others are a tenth or a fifth of that.
        limit_s: time for one game [s].
    """
    yield from _responses()
    solve(random_games(1, 9)[0])  # compile
    for name, seed, power in (("A: 10 kW", 1, 10.0), ("B: 15 kW", 2, 15.0)):
        games = random_games(count, seed, power)
        for gap in (1e-4, 1e-6):
            solutions = [solve(game, gap, limit_s) for game in games]
            if gap == 1e-4:
                yield f"family {name}: median gain from rebates {_gain_percent(games, solutions):.1f} %"
            yield f"family {name}, gap {gap:g}: {_summary(solutions, gap)}"
    some = max(count // 5, 1)
    solutions = [solve(game, 1e-4, limit_s) for game in random_games(some, 3, blocked=True)]
    yield f"8 hours blocked and 8 capped, 10 kW, gap 0.0001, at most {limit_s:g} s: {_summary(solutions, 1e-4)}"
    few = max(count // 10, 1)
    solutions = [solve(game, 1e-4, limit_s) for game in random_games(few, 4, workplace=0.5)]
    yield f"chargers at work, 10 kW, gap 0.0001, at most {limit_s:g} s: {_summary(solutions, 1e-4)}"
    fewer = max(count // 20, 1)
    solutions = [solve(game, 1e-4, limit_s) for game in random_games(fewer, 5, fine=True)]
    yield f"21 levels, 96 periods, 10 kW, gap 0.0001, at most {limit_s:g} s: {_summary(solutions, 1e-4)}"


def against_scip(seconds: float, count: int = 3) -> Iterator[str]:
    """The published mixed-integer cone program by SCIP beside the exact search, game by game (published bids)."""
    from baselines.stackelberg.reference import misocp

    for number, made in enumerate(random_games(count, 1)):
        game = made.replace(variant="published")
        ours = solve(game)
        other = misocp(game, time_limit_s=seconds)
        ratio = other.seconds / max(ours.seconds, 1e-9)
        yield (
            f"family A, game {number + 1}: search {ours.seconds:.3f} s, gap {ours.gap:.1e}; SCIP {other.seconds:.1f} s "
            f"({other.status}), gap {other.gap:.1e}: at least {ratio:,.0f} times as long"
        )
