"""Tiny games of every kind, and their answers by enumeration, which shares no code with the search."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import DriverClass, Game, Requirement
from v2g_env.stackelberg.network import Network


def random_network(rng, periods, places=1, sigma=(0.05, 0.5)):
    """Places by periods, plugged in or not at each; journeys between places, some of which skip a period."""
    while True:
        arcs = set()  # (tail, head, period)
        for t in range(periods):
            here = range(places) if t else (0,)
            there = range(places) if t + 1 < periods else (0,)
            for p, q in itertools.product(here, there):
                if p == q or rng.random() < 0.6:
                    kinds = (t, -1) if p == q or rng.random() < 0.3 else (-1,)
                    arcs |= {((t, p), (t + 1, q), kind) for kind in kinds if rng.random() < 0.9}
            if t + 2 <= periods and rng.random() < 0.3:
                arcs.add(((t, 0), (t + 2, 0), -1))
        arcs = sorted(arcs)
        names = sorted({end for arc in arcs for end in arc[:2]})
        mean = rng.uniform(-0.5, 0.5, len(arcs)) * rng.choice([0.2, 1.0, 3.0])
        deviation = np.exp(rng.uniform(*np.log(sigma), len(arcs)))
        tail, head = ([names.index(arc[end]) for arc in arcs] for end in (0, 1))
        try:
            return Network(tail, head, tuple(mean), tuple(deviation), [arc[2] for arc in arcs], 0, len(names) - 1)
        except InvalidInputError:  # a dead end or an arc that nobody can avoid: draw again
            continue


def random_game(seed, **changes):
    """A game with 2 to 4 periods and 2 to 4 levels; every feature is drawn."""
    rng = np.random.default_rng(seed)
    periods, count = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    classes = int(rng.choice([1, 1, 2]))
    shares = rng.dirichlet(np.ones(classes) * 3.0)
    shares[-1] = 1.0 - shares[:-1].sum()
    places = int(rng.choice([1, 1, 2, 3]))
    spread = rng.choice([0.3, 0.3, 1.0])
    sigma = (0.3 * 0.1**spread, 0.3 * 10.0**spread)
    power = float(rng.choice([3.0, 10.0, 40.0]))
    eta = float(rng.uniform(0.01, 0.4))
    ratio = float(rng.choice([0.055, 0.178, 0.5]))
    requirements = [Requirement(power, eta, 1.0, ratio, 0.9 * ratio)]
    if rng.random() < 0.3:
        # a wide ratio: the state of charge's condition has negative coefficients
        wide = float(rng.choice([0.2, 1.5]))
        requirements.append(Requirement(power * rng.uniform(0.1, 0.6), float(rng.uniform(0.01, 0.4)), 0.3, wide, wide))
    first = float(rng.choice([0.0, 0.0, 0.1]))
    highest = float(rng.choice([0.5, 1.0, 1.0, 3.0]))
    levels = np.sort(np.concatenate([[first], first + np.cumsum(rng.uniform(0.3, 1.0, count - 1)) * highest / count]))
    # a kW of bid per plugged car costs about a rebate: prices at which some rebates pay
    price = rng.uniform(0.2, 3.0, periods) * highest / power * float(rng.choice([0.3, 1.0, 3.0, 10.0]))
    price[rng.random(periods) < 0.15] = 0.0
    cap = None
    if rng.random() < 0.3:
        cap = tuple(float(rng.choice(levels)) for _ in range(periods))
    made = Game(
        classes=tuple(
            DriverClass(f"class {k}", float(w), random_network(rng, periods, places, sigma=sigma))
            for k, w in enumerate(shares)
        ),
        drivers=int(rng.choice([1, 3, 20, 200, 10_000])),
        price_usd_per_kw=tuple(price),
        levels_usd_per_h=tuple(levels),
        requirements=tuple(requirements),
        cap_usd_per_h=cap,
        step_h=float(rng.choice([1.0, 1.0, 0.25])),
        variant=str(rng.choice(["rigorous", "published"])),
        owner=str(rng.choice(["platform", "platform", "drivers"])),
        kappa=float(rng.choice([0.5, 1.0, 3.0])),
    )
    return made.replace(**changes)


def evaluate(game, rebates):
    """Objective, profit [$] and income [$] of n schedules (n, T) [$/h]."""
    rebates = np.asarray(rebates, np.float64) * game.step_h
    arcs = arcs_of(game.classes)
    answer = respond(arcs, rebates)
    plugged = np.zeros((len(rebates), game.periods, len(arcs.share)))
    for a, t in enumerate(arcs.period):
        if t >= 0:
            plugged[:, t, arcs.group[a]] += answer.flow[:, a]
    bid = allowed_bid(plugged, arcs.share, coefficients(game), game.variant == "rigorous")
    income = game.step_h * bid @ np.array(game.price_usd_per_kw)
    profit = income - game.drivers * np.einsum("nt,ntk,k->n", rebates, plugged, arcs.share)
    if game.owner == "platform":
        return profit, profit, income
    return answer.value @ arcs.share + profit / (game.kappa * game.drivers), profit, income


def enumerate_all(game):
    """All choices of levels (n, T), their objectives (-inf where drivers who own the platform would lose), profits."""
    chosen = np.array(list(itertools.product(*(range(n) for n in game.choices))))
    value, profit, _ = evaluate(game, game.levels[chosen])
    if game.owner == "drivers":
        value = np.where(profit >= 0.0, value, -np.inf)
    return chosen, value, profit


@pytest.fixture(scope="session")
def lab():
    return SimpleNamespace(network=random_network, game=random_game, evaluate=evaluate, enumerate_all=enumerate_all)
