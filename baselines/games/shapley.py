"""Shapley values and relatives: exact from a table, sampled from a function, and with respect to owners.

The Shapley value (Shapley, A Value for n-Person Games, 1953) pays a player the mean of what he adds when all players
come in random order. Owen's value (Owen, Values of Games with a Priori Unions, 1977) lets the members of a union come
one after the other: for fleets, whose cars have one owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import comb
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.games.coalitions import CoalitionFunction, CooperativeGame, sizes, subset_sums
from v2g_env.core.validate import number, require

__all__ = ["Sampled", "banzhaf", "owen", "quotient", "sampled_shapley", "shapley", "shapley_limits"]

Floats = NDArray[np.float64]
Scheme = Literal["plain", "antithetic", "stratified"]

_LEAST = 30  # blocks before a sample is trusted
SCHEMES = ("plain", "antithetic", "stratified")


def shapley(game: CooperativeGame) -> Floats:
    """Shapley value (n,) [$] of the game's values."""
    return _weighted(game.values, game.values, _shapley_weights(game.n))


def shapley_limits(game: CooperativeGame) -> tuple[Floats, Floats]:
    """Limits (n,) of the Shapley value over all games between ``lower`` and ``upper``; each is attained [$]."""
    weights = _shapley_weights(game.n)
    return _weighted(game.lower, game.upper, weights), _weighted(game.upper, game.lower, weights)


def banzhaf(game: CooperativeGame) -> Floats:
    """Banzhaf value (n,): the mean of what a player adds to all coalitions of others; they need not sum to v(N) [$]."""
    return _weighted(game.values, game.values, np.full(game.n, 0.5 ** (game.n - 1)))


def _shapley_weights(n: int) -> Floats:
    """(n,) weight of a coalition of so many others."""
    return np.array([1.0 / (n * comb(n - 1, size)) for size in range(n)])


def _weighted(with_player: Floats, without: Floats, weights: Floats) -> Floats:
    """Sums of what each player adds, weighted by the number of others; worth with him from the first table."""
    n = len(weights)
    masks = np.arange(1 << n)
    weight = weights[np.minimum(sizes(n), n - 1)]
    found = np.empty(n)
    for i in range(n):
        others = masks[masks >> i & 1 == 0]
        found[i] = weight[others] @ (with_player[others | 1 << i] - without[others])
    return found


def _check_owners(game: CooperativeGame, owners: Sequence[str]) -> tuple[str, ...]:
    ok = not isinstance(owners, str) and len(owners) == game.n and all(isinstance(one, str) for one in owners)
    require(ok, "owners", owners, f"the name of the owner of each of {game.n} players")
    return tuple(dict.fromkeys(owners))


def quotient(game: CooperativeGame, owners: Sequence[str]) -> CooperativeGame:
    """The game of the owners: a coalition of owners is worth what all their players are.

    Args:
        game: of the players.
        owners: (n,) name of the owner of each player.
    """
    names = _check_owners(game, owners)
    bits = np.array([sum(1 << i for i, one in enumerate(owners) if one == name) for name in names], np.float64)
    masks = subset_sums(bits).astype(np.int64)
    return CooperativeGame(game.values[masks], names, game.kind, game.lower[masks], game.upper[masks])


def owen(game: CooperativeGame, owners: Sequence[str]) -> Floats:
    """Owen value (n,) [$]: owners come in random order, and so do the players of each, together.

    Args:
        game: of the players.
        owners: (n,) name of the owner of each player.
    """
    names = _check_owners(game, owners)
    own = [[i for i, one in enumerate(owners) if one == name] for name in names]
    count, found = len(names), np.zeros(game.n)
    for h, players in enumerate(own):
        others = [float(sum(1 << i for i in each)) for k, each in enumerate(own) if k != h]
        before = subset_sums(np.array(others)).astype(np.int64)  # masks of owners that came earlier
        outer = np.array([1.0 / (count * comb(count - 1, int(size))) for size in sizes(count - 1)])
        m = len(players)
        for i in players:
            mates = [float(1 << j) for j in players if j != i]
            inside = subset_sums(np.array(mates)).astype(np.int64)
            inner = np.array([1.0 / (m * comb(m - 1, int(size))) for size in sizes(m - 1)])
            coalition = before[:, None] | inside[None, :]
            added = game.values[coalition | 1 << i] - game.values[coalition]
            found[i] = outer @ added @ inner
    return found


class Sampled(NamedTuple):
    """An estimate of the Shapley value.

    Attributes:
        value: (n,) means [$]; they share out the worth of all players exactly.
        half_width: (n,) of confidence intervals that hold for all players at once [$].
        blocks: independent blocks of orders that were drawn.
        orders: orders of the players in all blocks.
        evaluated: coalitions that were evaluated.
        confidence: of the intervals together.
        method: "normal" (asymptotic in the number of blocks) or "Bernstein" (holds for any number).
    """

    value: Floats
    half_width: Floats
    blocks: int
    orders: int
    evaluated: int
    confidence: float
    method: str


def sampled_shapley(
    game: CoalitionFunction,
    blocks: int,
    seed: int,
    scheme: Scheme = "antithetic",
    confidence: float = 0.95,
    tolerance: float | None = None,
    most_added: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Sampled:
    """Estimate the Shapley value from independent blocks of orders of the players.

    A block is one order ("plain"), an order and its reverse ("antithetic"), or up to 16 rotations of an order
    ("stratified": every player meets early, middle and late positions alike; Castro, Gomez, Molina and Tejada 2017).
    What a player adds on average over a block has the Shapley value as its mean, and blocks are independent.

    Args:
        game: evaluated on coalitions that the orders go through.
        blocks: to draw, at most, at least two.
        seed: of the orders; the same seed and number of blocks give the same estimate.
        scheme: of a block.
        confidence: of the intervals of all players together (Bonferroni).
        tolerance: stop, after at least 30 blocks, once every half-width is at most this share of |v(N)|; None: never.
        most_added: what no player adds more than, either way [$]; with it the intervals hold for any number of blocks
            (empirical Bernstein: Maurer and Pontil, COLT 2009), but not with ``tolerance``, which looks repeatedly.
        say: receives a line every 50 blocks.

    Raises:
        InvalidInputError: for a number out of range, an unknown scheme, or something added beyond ``most_added``.
    """
    number("blocks", blocks, 2, 10**9, integer=True)
    require(scheme in SCHEMES, "scheme", scheme, ", ".join(SCHEMES))
    number("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    if tolerance is not None:
        number("tolerance", tolerance, 0.0, np.inf, open_low=True)
    if most_added is not None:
        number("most_added", most_added, 0.0, np.inf, open_low=True)
        require(tolerance is None, "tolerance", tolerance, "None with most_added")
    rng, n = np.random.default_rng(seed), game.n
    mean, square, drawn, orders = np.zeros(n), np.zeros(n), 0, 0
    half = np.full(n, np.inf)
    while drawn < blocks:
        added, count = _block(game, _orders(rng.permutation(n), scheme), most_added)
        drawn, orders = drawn + 1, orders + count
        away = added - mean
        mean += away / drawn
        square += away * (added - mean)
        if drawn % 50 == 0:
            say(f"Shapley value: {drawn} of at most {blocks} blocks, {game.evaluated} coalitions")
        last = drawn == blocks
        if last or (tolerance is not None and drawn >= _LEAST and drawn % 10 == 0):
            half = _half_width(square / (drawn - 1), drawn, confidence, most_added)
            if tolerance is not None and (half <= tolerance * abs(game.total)).all():
                break
    return Sampled(
        mean, half, drawn, orders, game.evaluated, confidence, "normal" if most_added is None else "Bernstein"
    )


def _orders(order: NDArray[np.int64], scheme: str) -> Iterator[NDArray[np.int64]]:
    """The orders of a block."""
    yield order
    if scheme == "antithetic":
        yield order[::-1]
    if scheme == "stratified":
        n = len(order)
        for shift in np.unique(np.arange(1, 16) * n // 16):
            if shift:
                yield np.roll(order, int(shift))


def _block(
    game: CoalitionFunction, orders: Iterator[NDArray[np.int64]], most_added: float | None
) -> tuple[Floats, int]:
    """What every player adds on average over the orders, and their number."""
    added, count = np.zeros(game.n), 0
    for order in orders:
        members, before = np.zeros(game.n, bool), 0.0
        count += 1
        for i in order:
            members[i] = True
            now = game(members)
            change = now - before
            if most_added is not None:
                require(abs(change) <= most_added, "added by a player", change, f"at most {most_added:g} either way")
            added[i] += change
            before = now
    return added / count, count


def _half_width(variance: Floats, drawn: int, confidence: float, most_added: float | None) -> Floats:
    """Of intervals that hold for all players at once."""
    from scipy.special import ndtri

    share = (1.0 - confidence) / len(variance)
    if most_added is None:
        return np.asarray(-ndtri(share / 2.0) * np.sqrt(variance / drawn))
    log, width = np.log(4.0 / share), 2.0 * most_added
    return np.asarray(np.sqrt(2.0 * variance * log / drawn) + 7.0 * width * log / (3.0 * (drawn - 1)))
