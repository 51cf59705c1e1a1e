"""Exact branch and bound over the rebate levels: best-first, anytime, with the tree that proves the bound.

Every node is a box of levels. Its best continuous rebates come from projected Newton steps, its bound from the dual
point at that response (``box_kernel``). A node is split between two neighbouring levels of one period.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.box_kernel import bound_box, maximise_box, narrow, safe_kappa, separate, tidy
from baselines.stackelberg.program import Program, gap_scale, program_of, revenue_value
from v2g_env.stackelberg.follower import arcs_of, start_prices
from v2g_env.stackelberg.game import Game

__all__ = ["Node", "Search", "SearchResult"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str], None]
_EDGE = 0.5 * np.pi - 1e-6  # angles of flows that no response leaves
_PARTS = (0.0, 0.1, 0.3, 0.6, 1.0)  # of the safe kappa: less costs less where the ranges keep psi bounded
_SLACK = 1e-9  # of the objective: where Newton's method in a box stops


class Node(NamedTuple):
    """A node of the proof: the rebates whose dual point bounds its box, and how it is split.

    Attributes:
        parent: index of the parent, -1 for the root.
        upper: True for the parent's upper part.
        period, level: where it is split: lower part up to this level, upper part above; -1 for a leaf.
        rebates: (charging arcs,) rebates of the dual point, which need not be levels [$ per period].
        kappa: weight of the monotonicity identity in it.
        bound: upper bound on the objective in the node's box.
    """

    parent: int
    upper: bool
    period: int
    level: int
    rebates: Floats
    kappa: float
    bound: float


@dataclass
class SearchResult:
    """Incumbent, proven bound and the tree.

    Attributes:
        levels: (T,) indices of the best levels found; None where no feasible choice was found.
        value: their objective, -inf without incumbent.
        bound: upper bound on the objective of every choice.
        nodes: the tree, parents before children.
        seconds: time spent.
        complete: whether the wanted gap was reached.
    """

    levels: Ints | None
    value: float
    bound: float
    nodes: list[Node] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False


class _Point(NamedTuple):
    """A dual point: rebates of the arcs with a charger, kappa, and its tables (see ``box_kernel.separate``)."""

    rebates: Floats
    kappa: float
    rows: Floats
    bends: Floats
    peaks: Floats
    excess: Floats


@dataclass
class _Apart:
    """Best rebates of a box when every place has its own and no cap binds, and node prices there."""

    values: Floats
    price: Floats


@dataclass(order=True)
class _Open:
    key: float
    number: int
    low: Ints = field(compare=False)
    high: Ints = field(compare=False)
    values: Floats = field(compare=False)
    price: Floats = field(compare=False)
    score: Floats = field(compare=False)
    apart: _Apart | None = field(compare=False)


class Search:
    """Branch and bound for one game.

    Args:
        game: the game.
        multiplier: price nu >= 0 of the drivers' budget (owner "drivers"): a rebate schedule counts only if the
            platform's profit is not negative; bounds are those of the objective plus nu times the profit.
    """

    def __init__(self, game: Game, multiplier: float = 0.0) -> None:
        self.game = game
        self.multiplier = multiplier
        self.program: Program = program_of(game, multiplier)
        arcs = len(self.program.tail)
        self.levels = game.levels * game.step_h
        self.top = game.choices - 1
        self._work = np.empty((6, arcs))
        self._rows, self._bends = np.empty((arcs, 10)), np.empty((arcs, 2, 2))
        self._second = np.zeros((game.periods, game.periods))
        self._excess, self._peaks = np.empty(game.periods), np.zeros((arcs, 3))
        self._ranges = np.tile([-_EDGE, _EDGE], (arcs, 1))
        self.start = start_prices(arcs_of(game.classes))
        self._best = SearchResult(None, -np.inf, np.inf)
        self._arcs = np.flatnonzero(self.program.period >= 0)
        self._apart_variable = np.full(arcs, -1, np.int64)
        capped = game.choices < len(game.levels)
        self._relaxed = bool(self.program.member.shape[1] > 1 or capped.any())
        self._beyond = np.where(capped, 10.0 * self.levels[-1] + game.step_h, 0.0)
        self._apart_variable[self._arcs] = np.arange(len(self._arcs))

    @property
    def _slack(self) -> float:
        return _SLACK * max(abs(self._best.value), 1e-3) if self._best.levels is not None else _SLACK

    def maximise(self, low: Floats, high: Floats, values: Floats, price: Floats, cutoff: float = -np.inf) -> float:
        """Locally best rebates in the box, in place of ``values``; returns the objective there."""
        result: tuple[float, float, float] = maximise_box(
            self.program,
            self.program.period,
            low,
            high,
            values,
            price,
            self._work,
            self._second,
            cutoff,
            self._slack,
            60,
        )
        self.profit = result[1]
        return result[0]

    def bound(self, value: float, low: Floats, high: Floats, price: Floats, apart: _Apart | None) -> float:
        """Upper bound on the objective in the box by the dual point at the response just found.

        Rebates of their own for each place, without the game's caps, relax the game; the response to the best of them
        (``apart``, improved in place), and one between, give further dual points: a dual point needs no rebates inside
        the box. The best one is left in ``self._point``.
        """
        best = self._dual(value, low, high, price, np.inf)
        self._slack_at = self._point.excess
        if apart is not None:
            shared = self._work[4, self._arcs].copy()
            periods = self.program.period[self._arcs]
            second = np.empty((len(periods), len(periods)))
            outcome = maximise_box(
                self.program,
                self._apart_variable,
                low[periods],
                np.maximum(high, self._beyond)[periods],
                apart.values,
                apart.price,
                self._work,
                second,
                -np.inf,
                self._slack,
                60,
            )
            best = self._dual(outcome[0], low, high, apart.price, best)
            between, middle = 0.5 * (shared + apart.values), apart.price.copy()
            outcome = maximise_box(
                self.program,
                self._apart_variable,
                between,
                between,
                between.copy(),
                middle,
                self._work,
                second,
                -np.inf,
                self._slack,
                1,
            )
            best = self._dual(outcome[0], low, high, middle, best)
        return best

    def _dual(self, value: float, low: Floats, high: Floats, price: Floats, best: float) -> float:
        """Best bound of this response's dual points over kappa, if below ``best``; keeps the point's tables."""
        tidy(self.program, self._work)
        safe = float(safe_kappa(self.program, self._work))
        last = np.inf
        for part in _PARTS if safe > 1e-8 * self.program.net else (1.0,):
            arguments = (self.program, self._work, price, self.program.period, low, high, part * safe)
            constant = float(separate(*arguments, self._rows, self._bends))
            tables = (self._rows, self._bends, self._ranges, self._peaks, self._excess)
            total = value + constant + float(bound_box(self.program, self._work, *tables))
            if total < best:
                best = total
                self._point = _Point(
                    self._work[4, self._arcs].copy(),
                    part * safe,
                    self._rows.copy(),
                    self._bends.copy(),
                    self._peaks.copy(),
                    self._excess.copy(),
                )
            if total >= last and part > 0.0:
                break
            last = total
        return best

    def try_levels(self, chosen: Ints, price: Floats) -> bool:
        """Evaluate a choice of levels; True if it is the new incumbent."""
        values = self.levels[chosen]
        value = self.maximise(values, values, values.copy(), price)
        if self.game.owner == "drivers":
            if self.profit < 0.0:
                return False
            value -= self.multiplier * self.profit
        if value > self._best.value + 1e-12 * abs(value):
            self._best.value, self._best.levels = value, chosen.copy()
            return True
        return False

    def polish(self, price: Floats) -> None:
        """Coordinate search around the incumbent: one level up or down in any period."""
        again = self._best.levels is not None
        while again:
            again = False
            for t in range(self.game.periods):
                for step in (-1, 1):
                    assert self._best.levels is not None
                    moved = self._best.levels.copy()
                    moved[t] += step
                    if 0 <= moved[t] <= self.top[t] and self.try_levels(moved, price.copy()):
                        again = True

    def solve(
        self,
        gap: float = 1e-4,
        time_limit_s: float = 60.0,
        progress: Progress | None = None,
        start: Ints | None = None,
    ) -> SearchResult:
        """Search until the proven gap is at most ``gap`` (of the scale) or time is up; Ctrl-C keeps what is known."""
        begin = time.perf_counter()
        best = self._best = SearchResult(None, -np.inf, np.inf)
        heap: list[_Open] = []
        self._closed = -np.inf
        try:
            self._root(heap, start)
            last = begin = time.perf_counter()  # the first call in a process may have to compile
            while heap:
                best.bound = min(best.bound, max(-heap[0].key, self._closed, best.value))
                now = time.perf_counter()
                done = best.levels is not None and best.bound - best.value <= gap * self.scale
                if done or now - begin > time_limit_s:
                    break
                if progress is not None and now - last > 2.0:
                    last = now
                    left = (best.bound - best.value) / self.scale
                    progress(f"{len(best.nodes)} nodes, value {best.value:.6g}, gap {left:.2e}, {len(heap)} open")
                self._expand(heap, gap)
            else:
                best.bound = min(best.bound, max(self._closed, best.value))
        except KeyboardInterrupt:
            if best.levels is None:
                raise
            if not best.nodes:
                rebates = np.full(len(self._arcs), self.levels[0])
                best.nodes.append(Node(-1, False, -1, -1, rebates, 0.0, best.bound))
            _mend(best.nodes)
            if progress is not None:
                progress("interrupted: incumbent and proven bound are kept")
        best.seconds = time.perf_counter() - begin
        best.complete = best.levels is not None and best.bound - best.value <= gap * self.scale
        return best

    @property
    def scale(self) -> float:
        """What the gap is relative to: see ``program.gap_scale`` [$]."""
        best = self._best
        if best.levels is None:
            return np.inf
        return gap_scale(self.game, best.value, self._payment)

    def _root(self, heap: list[_Open], start: Ints | None) -> None:
        low, high = np.zeros(self.game.periods, np.int64), self.top.copy()
        values, price = np.full(self.game.periods, self.levels[0]), self.start.copy()
        value = self.maximise(self.levels[low], self.levels[high], values, price)
        second = np.abs(np.diag(self._second))
        apart = _Apart(values[self.program.period[self._arcs]], price.copy()) if self._relaxed else None
        self._payment = self._pay()
        nearest = np.clip(np.abs(self.levels[None] - values[:, None]).argmin(axis=1), 0, self.top)
        for chosen in (nearest, np.zeros_like(nearest), *(() if start is None else (start,))):
            self.try_levels(chosen, price.copy())
        if self.game.owner == "drivers" and self._best.levels is None:
            self._step_down(nearest, price)
        self.polish(price)
        value = self.maximise(self.levels[low], self.levels[high], values, price)
        bound = self.bound(value, self.levels[low], self.levels[high], price, apart)
        point = self._point
        for _ in range(2):  # the second time on a finer grid
            narrow(self.program, point.rows, point.bends, point.peaks, bound - self._best.value, self._ranges)
        self._best.nodes.append(Node(-1, False, -1, -1, point.rebates, point.kappa, bound))
        self._best.bound = bound
        if (low == high).all():  # a single choice: whoever evaluated it knows
            self._best.bound = self._best.value
            return
        heap.append(_Open(-bound, 0, low, high, values, price, _scores(self._slack_at, second), apart))

    def _pay(self) -> float:
        total = sum(revenue_value(self.program, t, self._work[0]) for t in range(self.game.periods))
        return float(total)

    def _step_down(self, chosen: Ints, price: Floats) -> None:
        """Lower the highest rebate level by level until the platform earns no loss."""
        chosen = chosen.copy()
        while chosen.max() > 0 and not self.try_levels(chosen, price.copy()):
            chosen[int(chosen.argmax())] -= 1

    def _expand(self, heap: list[_Open], gap: float) -> None:
        best = self._best
        node = heapq.heappop(heap)
        period, level = self._split(node)
        best.nodes[node.number] = best.nodes[node.number]._replace(period=period, level=level)
        for upper in (False, True):
            low, high = node.low.copy(), node.high.copy()
            if upper:
                low[period] = level + 1
            else:
                high[period] = level
            values = np.clip(node.values, self.levels[low], self.levels[high])
            price = node.price.copy()
            cutoff = best.value + 0.9 * gap * self.scale if best.levels is not None else -np.inf
            if (low == high).all():  # one choice: its bound is its value, or none if the platform would lose money
                value = self.maximise(self.levels[low], self.levels[high], values, price)
                lost = self.game.owner == "drivers" and self.profit < 0.0
                bound = -np.inf if lost else value
                if not lost and self.game.owner == "drivers":
                    bound -= self.multiplier * self.profit
                best.nodes.append(Node(node.number, upper, -1, -1, self._work[4, self._arcs].copy(), 0.0, bound))
                self.try_levels(low, price.copy())
                self._closed = max(self._closed, bound)
                continue
            early = cutoff - 1e-3 * gap * self.scale if best.levels is not None else -np.inf
            value = self.maximise(self.levels[low], self.levels[high], values, price, early)
            second, apart = np.abs(np.diag(self._second)), None
            if node.apart is not None:
                periods = self.program.period[self._arcs]
                top = np.maximum(self.levels[high], self._beyond)
                inside = np.clip(node.apart.values, self.levels[low][periods], top[periods])
                apart = _Apart(inside, node.apart.price.copy())
            bound = min(self.bound(value, self.levels[low], self.levels[high], price, apart), -node.key)
            best.nodes.append(Node(node.number, upper, -1, -1, self._point.rebates, self._point.kappa, bound))
            if bound <= cutoff:
                self._closed = max(self._closed, bound)
                continue
            score = _scores(self._slack_at, second)
            number = len(best.nodes) - 1
            chosen = np.clip(np.abs(self.levels[None] - values[:, None]).argmin(axis=1), low, high)
            if self.try_levels(chosen, price.copy()):
                self.polish(price)
            heapq.heappush(heap, _Open(-bound, number, low, high, values, price, score, apart))

    def _split(self, node: _Open) -> tuple[int, int]:
        """Period and level after which to split.

        Where the bound's slack outweighs the loss by rounding, far ends of boxes are cut off first: the slack grows
        with the square of their distance. Else the box is split at the best rebate of the most promising period.
        """
        floor = np.searchsorted(self.levels, node.values + 1e-9, side="right") - 1
        floor = np.clip(floor, node.low, node.high)
        above = np.minimum(floor + 1, node.high)
        down, up = np.maximum(node.values - self.levels[floor], 0.0), np.maximum(self.levels[above] - node.values, 0.0)
        excess, second = np.maximum(node.score[0], 0.0), node.score[1]
        rounding = 0.5 * second * down * up
        far = (node.high > above) | (node.low < floor - 1)
        if excess.sum() > rounding.sum() and excess[far].sum() > 0.2 * excess.sum():
            period = int(np.where(far, excess, -1.0).argmax())
            if node.high[period] > above[period]:
                return period, int(above[period])
            return period, int(floor[period]) - 2
        period = int(np.where(node.high > node.low, rounding + excess, -1.0).argmax())
        low, high = int(node.low[period]), int(node.high[period])
        level = int(min(floor[period], high - 1))
        if excess[period] > 5.0 * rounding[period] and not low < floor[period] < high:
            level = (low + high - 1) // 2
        return period, level


def _mend(nodes: list[Node]) -> None:
    """Make a node whose split was interrupted a leaf again; only the last ones can be its parts."""
    parts = [node.parent for node in nodes]
    for k, node in enumerate(nodes):
        if node.period >= 0 and parts.count(k) < 2:
            nodes[k] = node._replace(period=-1, level=-1)
            del nodes[k + 1 + next((i for i, p in enumerate(parts[k + 1 :]) if p == k), len(nodes)) :]
            return


def _scores(excess: Floats, second: Floats) -> Floats:
    return np.stack([excess, second])
