"""The nucleolus (Schmeidler 1969): the allocation whose excesses, from the largest down, are lexicographically least.

Successive linear programs (Kopelowitz 1967; Maschler, Peleg and Shapley 1979): make the largest excess as small as can
be, hold the coalitions that every solution keeps there (their multipliers are positive), and go on with the others.
The coalitions held, solved as equations in rationals, give the nucleolus exactly. That it is one is then shown without
any program by Kohlberg's criterion (On the Nucleolus of a Characteristic Function Game, 1971): for every level, the
coalitions with at least that excess are balanced, with weights that are all positive. Excesses that differ by no more
than rounding are one level; then this is the exact nucleolus of a game whose worths are moved by so little.

The nucleolus is sought among imputations, that give every player at least what he is worth alone; the prenucleolus is
not. Where the core is not empty, both are the same.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.games.coalitions import CooperativeGame, subset_sums
from baselines.games.core import ExcessProgram
from baselines.games.rational import exact_subset_sums, rank, solve
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import require

__all__ = ["Level", "Nucleolus", "grouped", "kohlberg_levels", "nucleolus", "prenucleolus"]

Floats = NDArray[np.float64]
_ROUNDING = 1e-10  # difference of excesses that is none, relative to 1 + the largest worth
_RANK = 1e-9  # squared distance of a coalition from the span of others that is none


class Level(NamedTuple):
    """Balanced weights on the coalitions with at least some excess.

    Attributes:
        masks: of all coalitions with at least that excess.
        weights: of each, positive; over those that contain a player, and his own if it is in ``alone``, they sum to 1.
        alone: weights, not negative, of players who get just what they are worth alone; none for the prenucleolus.
    """

    masks: tuple[int, ...]
    weights: tuple[Fraction, ...]
    alone: dict[int, Fraction]


class Nucleolus(NamedTuple):
    """The nucleolus or prenucleolus of a game's values.

    Attributes:
        payments: (n,) [$], in the game's own sign.
        exact: the same as rational numbers.
        levels: the proof, from the highest level down to where the coalitions determine the allocation.
        among_imputations: True for the nucleolus, False for the prenucleolus.
    """

    payments: Floats
    exact: tuple[Fraction, ...]
    levels: tuple[Level, ...]
    among_imputations: bool


def nucleolus(game: CooperativeGame) -> Nucleolus:
    """Nucleolus, with the proof by Kohlberg's criterion in rationals.

    Raises:
        InvalidInputError: if there are no imputations: the players alone are worth more than together.
        SolverError: if a program fails, or rounding hides the exact answer.
    """
    alone = float(sum(game.gains[1 << i] for i in range(game.n)))
    small = 1e-12 * (1.0 + np.abs(game.values).max())
    require(alone <= game.gains[-1] + small, "worth alone, summed", alone, "at most v(N); else use prenucleolus")
    return _found(game, True)


def prenucleolus(game: CooperativeGame) -> Nucleolus:
    """Prenucleolus, with its proof; arguments and errors as ``nucleolus``, but it always exists."""
    return _found(game, False)


def _found(game: CooperativeGame, rational: bool) -> Nucleolus:
    if game.n == 1:
        only = Fraction(float(game.values[-1]))
        return Nucleolus(np.array([game.total]), (only,), (), rational)
    exact = _exact(game, _stages(game.gains, rational))
    levels = kohlberg_levels(game, exact, rational)
    sign = Fraction(int(game.sign))
    own = tuple(sign * part for part in exact)
    return Nucleolus(np.array([float(part) for part in own]), own, levels, rational)


class _Stage(NamedTuple):
    """Coalitions held at one excess, and players, as coalitions, held at what they are worth alone."""

    held: list[int]
    alone: list[int]


def _stages(gains: Floats, rational: bool) -> list[_Stage]:
    """Programs until the coalitions held determine the shares."""
    n = len(gains).bit_length() - 1
    program, small = ExcessProgram(gains, rational), _RANK * (1.0 + np.abs(gains).max())
    fixed: dict[int, float] = {}
    stages: list[_Stage] = []
    span = np.ones((n, 1)) / np.sqrt(n)
    while span.shape[1] < n:
        settled = _spanned(span)
        point, e, masks, weights = program.least(settled, fixed)
        stage = _Stage([], [])
        for mask in masks[np.argsort(-weights)].tolist():
            row = np.array([mask >> i & 1 for i in range(n)], np.float64)
            shared = abs(float(gains[mask] - row @ point) - e) <= small
            (stage.held if shared else stage.alone).append(mask)
            fixed[mask] = e if shared else 0.0
            rest = row - span @ (span.T @ row)
            if rest @ rest > _RANK:
                span = np.hstack([span, (rest / np.linalg.norm(rest))[:, None]])
        stages.append(stage)
        if settled.sum() == _spanned(span).sum():
            raise SolverError("coalitions that a stage holds = none; allowed: at least one")
    return stages


def _spanned(span: Floats) -> NDArray[np.bool_]:
    """(2^n,) whether a coalition's excess follows from those of the span."""
    size = subset_sums(np.ones(len(span)))
    inside = (subset_sums(span) ** 2).sum(axis=1)
    return np.asarray(size - inside <= _RANK * (1.0 + size))


def _exact(game: CooperativeGame, stages: list[_Stage]) -> tuple[Fraction, ...]:
    """Shares that solve the equations of the coalitions held; those that rounding brought in are left out."""
    n, count = game.n, len(stages)

    def equation(mask: int, stage: int | None) -> tuple[list[int], Fraction]:
        row = [mask >> i & 1 for i in range(n)] + [int(k == stage) for k in range(count)]
        return row, Fraction(float(game.gains[mask]))

    rows, right = [[1] * n + [0] * count], [Fraction(float(game.gains[-1]))]
    candidates = [equation(mask, k) for k, stage in enumerate(stages) for mask in stage.held]
    candidates += [equation(mask, None) for stage in stages for mask in stage.alone]
    for row, value in candidates:
        if rank([*rows, row]) > len(rows):
            rows.append(row)
            right.append(value)
    found, agree = solve(rows, right)
    shares = found[:n]
    if not agree or any(share is None for share in shares):
        raise SolverError("equations of the nucleolus = not determined; allowed: coalitions that determine it")
    return tuple(share for share in shares if share is not None)


def kohlberg_levels(
    game: CooperativeGame, shares: tuple[Fraction, ...], among_imputations: bool = True
) -> tuple[Level, ...]:
    """Balanced weights for every level of excess, from the highest down to where they determine the allocation.

    Args:
        game: whose values count.
        shares: (n,) exact, of the game as one of profits.
        among_imputations: whether players who get just what they are worth alone may help.

    Raises:
        SolverError: if some level has none: then this is not the nucleolus.
    """
    n = game.n
    groups, alone, _ = grouped(game, shares)
    levels, masks = [], list[int]()
    for group in groups:
        masks = [*masks, *group]
        levels.append(_balanced(n, masks, alone if among_imputations else []))
        if rank([[mask >> i & 1 for i in range(n)] for mask in _independent(n, masks)]) == n:
            break
    return tuple(levels)


def grouped(game: CooperativeGame, shares: tuple[Fraction, ...]) -> tuple[list[list[int]], list[int], Fraction]:
    """Proper coalitions by excess, the largest first, without regard to rounding.

    Args:
        game: whose values count.
        shares: (n,) exact, of the game as one of profits.

    Returns:
        The groups; players who get just what they are worth alone; and the largest difference within a group [$].
    """
    n, full = game.n, (1 << game.n) - 1
    small = Fraction(_ROUNDING * (1.0 + float(np.abs(game.values).max())))
    paid = exact_subset_sums(shares)
    excess = [Fraction(float(game.gains[mask])) - paid[mask] for mask in range(full + 1)]
    groups: list[list[int]] = []
    moved = Fraction(0)
    for mask in sorted(range(1, full), key=lambda mask: (-excess[mask], mask)):
        if groups and excess[groups[-1][-1]] - excess[mask] <= small:
            groups[-1].append(mask)
            moved = max(moved, excess[groups[-1][0]] - excess[mask])
        else:
            groups.append([mask])
    return groups, [i for i in range(n) if abs(excess[1 << i]) <= small], moved


def _independent(n: int, masks: list[int]) -> list[int]:
    """Coalitions that span what all of them do."""
    chosen: list[int] = []
    basis = np.zeros((n, 0))
    for mask in masks:
        row = np.array([mask >> i & 1 for i in range(n)], np.float64)
        rest = row - basis @ (basis.T @ row)
        if rest @ rest > _RANK:
            chosen.append(mask)
            basis = np.hstack([basis, (rest / np.linalg.norm(rest))[:, None]])
        if len(chosen) == n:
            break
    return chosen


def _balanced(n: int, masks: list[int], alone: list[int]) -> Level:
    """Positive rational weights: floats from a program, made exact on coalitions that span the others."""
    every = [*masks, *(1 << i for i in alone)]
    count, own = len(every), len(masks)
    program = LinearProgram(
        np.append(np.zeros(count), 1.0), np.zeros(count + 1), np.append(np.ones(count), 1.0 / max(own, 1))
    )
    inside = np.array([[mask >> i & 1 for mask in every] for i in range(n)], np.float64)
    columns = np.repeat(np.arange(count + 1)[None, :], n, 0)
    program.add_rows(np.ones(n), np.ones(n), columns, np.hstack([inside, np.zeros((n, 1))]))
    pair = np.stack([np.arange(own), np.full(own, count)], axis=1)
    program.add_rows(np.zeros(own), np.full(own, np.inf), pair, np.repeat([[1.0, -1.0]], own, 0))
    try:
        weights = program.solve().point
    except SolverError:
        weights = np.zeros(count + 1)
    if weights[-1] <= 1e-12:
        raise SolverError("weights of a level = none that are positive; allowed: balanced, else not the nucleolus")
    # free the largest weights that span the rest, so that what rounding left is spread where there is room
    order = sorted(range(count), key=lambda k: -weights[k])
    base = _independent(n, [every[k] for k in order])
    solved = [order[k] for k in _places([every[k] for k in order], base)]
    given = {k: Fraction(float(weights[k])) for k in range(count) if k not in set(solved)}
    right = [Fraction(1) - sum((w for k, w in given.items() if every[k] >> i & 1), Fraction(0)) for i in range(n)]
    found, agree = solve([[every[k] >> i & 1 for k in solved] for i in range(n)], right)
    if not agree or any(part is None for part in found):
        raise SolverError("weights of a level = not exact; allowed: rational weights")
    final: dict[int, Any] = given | dict(zip(solved, found, strict=True))
    bad = any(final[k] <= 0 for k in range(own)) or any(final[k] < 0 for k in range(own, count))
    if bad:
        raise SolverError("weights of a level = not positive; allowed: positive, else not the nucleolus")
    return Level(
        tuple(masks), tuple(final[k] for k in range(own)), {alone[k - own]: final[k] for k in range(own, count)}
    )


def _places(listed: list[int], chosen: list[int]) -> list[int]:
    """Where the chosen coalitions stand first in a list."""
    return [listed.index(mask) for mask in chosen]
