"""Rigorous upper bounds on the leader's objective in boxes of rebates, from dual points (see ``box_kernel``).

Any node prices, any two unit flows x and y, any pi and any kappa >= 0 give a valid bound; those of the response to the
stored rebates give a good one. Everything behind that choice is interval arithmetic: the result is a theorem.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.arc_bounds import COLUMNS, bound_pieces, bound_tops
from baselines.stackelberg.box_kernel import part_of, tidy, unit_vector
from baselines.stackelberg.enclosure import bid_coefficients
from baselines.stackelberg.exact_flow import conserves, exact_flows
from baselines.stackelberg.interval import Interval, point
from baselines.stackelberg.program import Program, objective, program_of
from v2g_env.stackelberg.bids import largest_bid, spread
from v2g_env.stackelberg.follower import arcs_of, start_prices
from v2g_env.stackelberg.game import Game

__all__ = ["DualBounds"]

Floats = NDArray[np.float64]
_LOOSE = 1e-12  # far above the rounding of a few sums
_SHRINK = 1.0 - 1e-14  # keeps rounded unit vectors inside the unit ball


class _Point(NamedTuple):
    """A dual point and what follows from it; Intervals of shape (A,) unless said otherwise.

    Attributes:
        flow: (A,) response, in floats: where maxima are looked for.
        y: exact unit flow near it.
        line, pull, push: coefficients of psi (see ``arc_bounds``).
        slope: (C,) dF/ds of the arcs with a charger, averaged over each period.
        down, up: (C,) distance of the stored rebate to both ends of the box.
        constant: what the bound holds besides the maxima.
    """

    flow: Floats
    y: Floats
    line: Interval
    pull: Interval
    push: Interval
    slope: Interval
    down: Interval
    up: Interval
    constant: Interval


class _Shape(NamedTuple):
    """Where payments are linearised, per arc with a charger (C,); leading axis 2 for both conditions.

    Attributes:
        part, chord: see ``arc_bounds``.
        along, across: unit vector in the plane of (sqrt(b) A, sqrt(c Q)).
        leaning: the class's part of the unit vector in the space of deviations.
        binding: requirement that sets the bid.
    """

    part: Floats
    chord: Floats
    along: Floats
    across: Floats
    leaning: Floats
    binding: NDArray[np.int64]


class _Branch(NamedTuple):
    """Functions of the arcs with a charger if one condition (or no bid) sets the payment.

    Attributes:
        ends: functions (C, 17) for the rebate at the box's lower and upper end; one if both are the same function.
        offsets: (C,) constants of the ends.
        tops: (C,) upper bound of the larger of them.
    """

    ends: list[Floats]
    offsets: list[Floats]
    tops: Floats


class DualBounds:
    """Bounds for one game; ``multiplier`` as in ``search.Search``."""

    def __init__(self, game: Game, multiplier: float) -> None:
        self.game = game
        self.program: Program = program_of(game, multiplier)
        program = self.program
        drivers = point(program.drivers)
        shared = 1.0 / (point(game.kappa) * drivers) + multiplier
        self.weight = shared if game.owner == "drivers" else point(1.0)
        self.net = self.weight * drivers - program.alpha
        self.coefficients = bid_coefficients(game)
        self.charged = np.flatnonzero(program.period >= 0)
        self.free = np.flatnonzero(program.period < 0)
        self.period = program.period[self.charged]
        self.low, self.high = np.zeros(len(program.tail)), np.ones(len(program.tail))
        self._start = start_prices(arcs_of(game.classes))
        self._share = point(program.weight)

    def bound(self, rebates: Floats, kappa: float, low: Floats, high: Floats) -> float:
        """Upper bound of the objective for rebates between ``low`` and ``high`` (T,) [$ per period].

        Args:
            rebates: (C,) rebates of the arcs with a charger at the dual point.
            kappa: its weight of the monotonicity identity.
            low: (T,) lower end of the box.
            high: (T,) upper end.
        """
        at = self._point(rebates, kappa, low, high)
        rows = self._rows(self.free, at.line[self.free], at)
        rest = point(bound_tops(rows, self.program.rigorous, True))
        return float((at.constant + rest.sum() + self._best(self._branches(at, kappa, False), True).sum()).high)

    def narrow(self, rebates: Floats, kappa: float, low: Floats, high: Floats, value: float) -> float:
        """Bound of a box; then keep only flows that choices worth at least ``value`` can have."""
        least = np.inf
        for _ in range(2):
            at = self._point(rebates, kappa, low, high)
            branches = self._branches(at, kappa, True)
            rows = self._rows(self.free, at.line[self.free], at)
            edges, pieces = bound_pieces(rows, self.program.rigorous)
            rest = np.minimum(pieces.max(axis=1), bound_tops(rows, self.program.rigorous, True))
            best = self._best(branches, False)
            bound = float((at.constant + point(rest).sum() + best.sum()).high)
            least = min(least, bound)
            slack = float((point(bound) - value).high)
            if not np.isfinite(slack):
                break
            self._keep(self.free, edges, pieces >= (rest - slack - _LOOSE * np.abs(rest))[:, None])
            sums = [self._sums(branch.tops) for branch in branches]
            top = np.max(sums, axis=0)
            floor = (top - slack - _LOOSE * np.abs(top))[self.period]
            kept: NDArray[np.bool_] | None = None
            for branch, total in zip(branches, sums, strict=True):
                for functions, offset in zip(branch.ends, branch.offsets, strict=True):
                    edges, pieces = bound_pieces(functions, self.program.rigorous)
                    others = offset + total[self.period] - branch.tops
                    size = np.abs(offset) + np.abs(total[self.period]) + np.abs(branch.tops)
                    margin = _LOOSE * np.where(np.isfinite(pieces), np.abs(pieces), 0.0)
                    reached = pieces + margin + (others + _LOOSE * size)[:, None]
                    some = reached >= floor[:, None]
                    kept = some if kept is None else kept | some
            assert kept is not None
            self._keep(self.charged, edges, kept)
        return least

    def _keep(self, arcs: NDArray[np.int64], edges: Floats, kept: NDArray[np.bool_]) -> None:
        some = kept.any(axis=1)
        first, last = kept.argmax(axis=1), kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1)
        rows = np.arange(len(arcs))
        self.low[arcs] = np.where(some, edges[rows, first], self.low[arcs])
        self.high[arcs] = np.where(some, edges[rows, last + 1], self.high[arcs])

    def _point(self, rebates: Floats, kappa: float, low: Floats, high: Floats) -> _Point:
        program, net, share = self.program, self.net, self._share
        arcs = len(program.tail)
        flow, slope, gain, drift, rebate = np.zeros((5, arcs))
        matrix = np.empty((program.nodes, program.band + 1))
        step, trial = np.empty((2, program.nodes))
        rebate[self.charged] = rebates
        price = self._start.copy()
        objective(program, rebate, price, flow, slope, gain, drift, matrix, step, trial)
        work = np.stack([flow, slope, gain, drift, rebate, np.zeros(arcs)])
        tidy(program, work)
        fixed, unit = exact_flows(program, np.stack([_inside(work[5], flow), flow]))
        if not conserves(program, fixed, unit).all():
            raise ArithmeticError("flows of the dual point = not conserved; allowed: exact unit flows")
        x, y = fixed * unit[:, None]
        prices = point(np.append(price, 0.0))  # the sinks' number -1 finds the last entry
        pi = point(np.append(-program.profit * (program.drivers * price + step), 0.0))
        lam = prices[program.head] - prices[program.tail] + program.mean + rebate
        line = (net + program.alpha) * program.mean + pi[program.tail] - pi[program.head] + kappa * lam
        pull = share * (net * x + kappa * point(y))
        slope_of = -(share * net * x)
        own = slope_of[self.charged]
        mean = Interval(own.low.copy(), own.high.copy())
        for t in np.unique(self.period):
            rows = np.flatnonzero(self.period == t)
            if len(rows) > 1:
                average = own[rows].sum() / float(len(rows))
                mean.low[rows], mean.high[rows] = average.low, average.high
        constant = (slope_of * program.mean - share * (kappa * lam * y)).sum() + (mean * rebates).sum()
        constant = constant - (pi[program.source] * program.share).sum()
        down, up = (point(values[self.period]) - rebates for values in (low, high))
        push = share * (net + kappa)
        return _Point(flow, y, share * line, pull, push, mean, down, up, constant)

    def _rows(self, arcs: NDArray[np.int64], line: Interval, at: _Point) -> Floats:
        """Psi without a bend on some arcs, (n, 17)."""
        program = self.program
        sigma = point(program.deviation[arcs])
        bow = self._share[arcs] * program.alpha * sigma
        rows = np.zeros((len(arcs), len(COLUMNS)))
        for column, each in zip((0, 2, 4, 6), (line, at.pull[arcs], at.push[arcs], bow), strict=True):
            rows[:, column], rows[:, column + 1] = each.low, each.high
        rows[:, 6] = np.maximum(rows[:, 6], 0.0)  # a product of numbers that are not negative
        rows[:, 10], rows[:, 11], rows[:, 12] = program.deviation[arcs], 1.0, 1.0
        rows[:, 14], rows[:, 15], rows[:, 16] = self.low[arcs], self.high[arcs], at.flow[arcs]
        return rows

    def _branches(self, at: _Point, kappa: float, sharp: bool) -> list[_Branch]:
        charged, share = self.charged, self._share[self.charged]
        shape = self._shape(at.flow)
        branches = []
        for condition in range(3):
            bends = self._bends(shape, condition)
            if bends is None:
                continue
            straight, bend = bends
            ends, offsets = [], []
            for way in (at.down, at.up):
                rows = self._rows(charged, at.line[charged] + straight + way * kappa * share, at)
                rows[:, 8], rows[:, 9], rows[:, 11], rows[:, 12] = bend.low, bend.high, shape.part, shape.chord
                rows[:, 13] = condition == 1
                ends.append(rows)
                offsets.append((way * (at.slope - kappa * share * at.y[charged])).high)
            if kappa == 0.0:
                ends, offsets = ends[:1], [np.maximum(offsets[0], offsets[1])]
            branches.append(_Branch(ends, offsets, self._tops(ends, offsets, sharp)))
        return branches

    def _tops(self, ends: list[Floats], offsets: list[Floats], sharp: bool) -> Floats:
        values = [
            bound_tops(rows, self.program.rigorous, sharp) + offset for rows, offset in zip(ends, offsets, strict=True)
        ]
        return np.asarray(np.nextafter(np.max(values, axis=0), np.inf))

    def _sums(self, tops: Floats) -> Floats:
        """Sum over the arcs of each period, rounded up, (T,)."""
        sums = np.zeros(self.game.periods)
        for t in np.unique(self.period):
            sums[t] = float(point(tops[self.period == t]).sum().high)
        return sums

    def _best(self, branches: list[_Branch], sharp: bool) -> Interval:
        """Upper bounds of the periods, (T,): the branch that allows most, its arcs' bounds refined where it matters."""
        tops = [branch.tops.copy() for branch in branches]
        refined = np.zeros((len(branches), self.game.periods), bool)
        while True:
            sums = np.stack([self._sums(each) for each in tops])
            leader = sums.argmax(axis=0)
            wanted = ~refined[leader, np.arange(self.game.periods)]
            if not sharp or not wanted.any():
                return point(sums.max(axis=0))
            for number, branch in enumerate(branches):
                periods = wanted & (leader == number)
                rows = np.flatnonzero(periods[self.period])
                refined[number, periods] = True
                if len(rows):
                    ends, offsets = [each[rows] for each in branch.ends], [each[rows] for each in branch.offsets]
                    tops[number][rows] = np.minimum(tops[number][rows], self._tops(ends, offsets, True))

    def _shape(self, flow: Floats) -> _Shape:
        """What linearises the payments at a response."""
        program = self.program
        size = len(self.charged)
        group = program.group[self.charged]
        part, chord = np.ones(size), np.ones(size)
        along, across, leaning = np.zeros((2, size)), np.zeros((2, size)), np.zeros((2, size))
        binding = np.zeros(size, np.int64)
        for t in np.unique(self.period):
            rows = np.flatnonzero(self.period == t)
            plugged = np.bincount(group[rows], flow[self.charged[rows]], len(program.share))
            q = np.array([[spread(y, program.rigorous, side)[0] for y in plugged] for side in (False, True)])
            total, sums = float(program.share @ plugged), q @ program.share
            j = largest_bid(total, sums[0], sums[1], program.coef)[1]
            binding[rows] = j
            for side in range(2):
                coef = program.coef[j, side]
                direction = unit_vector(coef[1] * total**2, coef[2] * sums[side], coef[0] * total)
                along[side, rows], across[side, rows] = direction
                if sums[side] > 0.0:
                    leaning[side, rows] = np.sqrt((program.share * q[side])[group[rows]] / sums[side])
            for row in rows:
                if (group[rows] == group[row]).sum() > 1:
                    part[row] = part_of(program, t, self.charged[row], flow, plugged[group[row]])
                    chord[row] = 0.5 * (1.0 + plugged[group[row]])
        return _Shape(part, chord, along, across * _SHRINK, leaning * _SHRINK, binding)

    def _bends(self, shape: _Shape, condition: int) -> tuple[Interval, Interval] | None:
        """Bound on the payment, straight y - bend part s(y / part) per arc (C,); None if the condition is never used.

        Condition 2 is no bid: both are 0. By Cauchy's inequality any vectors in the unit ball will do; for negative a
        the reversed inequality asks along^2 - across^2 >= 1.
        """
        size = len(self.charged)
        nothing = point(np.zeros(size))
        if condition == 2:
            return nothing, nothing
        known = [row[condition] for row in self.coefficients]
        if all(each is None for each in known):
            return None
        sign = np.array([0.0 if each is None else each[0] for each in known])[shape.binding]
        columns = [
            Interval(
                *(
                    np.array([0.0 if each is None else float(getattr(each[k], end)) for each in known])[shape.binding]
                    for end in ("low", "high")
                )
            )
            for k in (1, 2, 3)
        ]
        a, root_b, root_c = columns
        across = point(shape.across[condition])
        hyperbolic = (1.0 + across.square()).sqrt().high
        along = np.where(sign > 0.0, shape.along[condition] * _SHRINK, hyperbolic)
        share = self._share[self.charged]
        pay = self.weight * self.program.price[self.period]
        straight = pay * share * (a - sign * (root_b * along))
        bend = pay * root_c * across * share.sqrt() * shape.leaning[condition]
        low, high = np.where(sign == 0.0, 0.0, bend.low), np.where(sign == 0.0, 0.0, bend.high)
        return straight, Interval(np.maximum(low, 0.0), high)


def _inside(x: Floats, flow: Floats) -> Floats:
    """X moved by rounding towards the response if that brings all its entries into [0, 1]."""
    over = np.maximum(-x / flow, (x - 1.0) / np.maximum(1.0 - flow, 1e-12))
    least = float(over.max())
    if not -1e-9 < least < 1e-6:
        return x
    part = least + 1e-9
    return np.asarray((x + part * flow) / (1.0 + part))
