"""Certified commitment: the generator's states and the dispatch, by branch and bound over the conic relaxations."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import pack
from baselines.scheduling.conic import (
    Relaxed,
    Solution,
    dispatch,
    header,
    infeasible,
    published,
    relative_gap,
    relax_surely,
    states,
)
from baselines.scheduling.conic_point import plan_of
from baselines.scheduling.conic_program import DayProgram, blocks_of, build
from baselines.scheduling.feeder_day import FeederDay
from baselines.solve import SolverError
from v2g_env.core.validate import number

__all__ = ["FREE", "commit"]

Floats = NDArray[np.float64]
Fixed = tuple[int, ...]

FREE = -1  # state of a block that a leaf leaves open


class _Node(NamedTuple):
    """Open node: bound first, so that a heap yields the least."""

    bound: float
    order: int
    fixed: Fixed
    answer: Relaxed


def commit(
    day: FeederDay, *, gap: float = 1e-4, max_nodes: int = 400, say: Callable[[str], None] = lambda text: None
) -> Solution:
    """Best states of the generator and dispatch of a day, to a proven gap.

    Every node fixes some blocks and relaxes the others to [0, 1]; rounding the relaxed states gives dispatches. The
    tree's leaves, each with the multipliers of its bound, are the proof.

    Args:
        day: feeder, devices, prices, limits, set of loads.
        gap: proven gap at which the search ends, relative to 1 + |value|.
        max_nodes: relaxations after which the search ends; the gap reached is stated.
        say: receives a line per improvement.

    Raises:
        InvalidInputError: for an argument out of range, or a day whose limits no dispatch obeys (proven).
        SolverError: if no dispatch was found, or an answer is inexact.
    """
    number("gap", gap, 0.0, 1.0, open_low=True)
    number("max_nodes", max_nodes, 1, 10**6, integer=True)
    search = _Search(build(day), gap, say)
    search.visit((FREE,) * blocks_of(day).shape[1])
    while search.open and search.nodes < max_nodes and not search.closed():
        search.branch(heapq.heappop(search.open))
    if search.best is None:
        if not search.open:
            raise infeasible(day)
        raise SolverError(f"dispatches found = 0 in {search.nodes} nodes; allowed: at least one")
    leaves = search.leaves + [(node.fixed, node.answer) for node in search.open]
    return _solution(search, leaves)


def _solution(search: _Search, leaves: list[tuple[Fixed, Relaxed]]) -> Solution:
    assert search.best is not None
    program, point, numbers = search.best
    data: dict[str, Any] = header(program.day, "feeder commitment") | published(program, point, numbers)
    value = numbers["value"]
    bound = min(answer.bound for _, answer in leaves)
    data["leaves"] = [
        {"fixed": list(fixed), "empty": answer.point is None, "dual": pack(answer.dual)} for fixed, answer in leaves
    ]
    data |= {"bound": bound, "gap": relative_gap(value, bound)}
    return Solution(plan_of(program, point), value, data)


class _Search:
    """Tree of the branch and bound: open nodes, closed leaves, best dispatch."""

    def __init__(self, program: DayProgram, gap: float, say: Callable[[str], None]) -> None:
        self.program, self.gap, self.say = program, gap, say
        self.open: list[_Node] = []
        self.leaves: list[tuple[Fixed, Relaxed]] = []
        self.nodes = 0
        self.best: tuple[DayProgram, Floats, dict[str, float]] | None = None
        self.value = np.inf
        self._tried: set[Fixed] = set()

    def closed(self) -> bool:
        """Whether no open node can improve the best dispatch by more than the gap."""
        return relative_gap(self.value, self.open[0].bound) <= self.gap

    def visit(self, fixed: Fixed) -> None:
        """Relax a node; try the dispatches that its rounded states give; keep it open unless it is a leaf."""
        answer = self._relaxed(fixed)
        if answer.point is None:
            self.leaves.append((fixed, answer))
            return
        if FREE not in fixed:
            self.leaves.append((fixed, answer))
            self._keep(fixed, answer)
            return
        heapq.heappush(self.open, _Node(answer.bound, self.nodes, fixed, answer))
        state = self.program.layout.of(answer.point, "gas_on")
        for least in (0.5, 0.02):
            chosen = tuple(int(each) for each in state >= least)
            if chosen not in self._tried:
                self._keep(chosen, self._relaxed(chosen))

    def branch(self, node: _Node) -> None:
        """Split a node at its free block of the least certain state."""
        assert node.answer.point is not None
        state = self.program.layout.of(node.answer.point, "gas_on")
        free = [block for block, each in enumerate(node.fixed) if each == FREE]
        block = min(free, key=lambda index: abs(state[index] - 0.5))
        for each in (0, 1):
            self.visit((*node.fixed[:block], each, *node.fixed[block + 1 :]))

    def _at(self, fixed: Fixed) -> DayProgram:
        low = np.array([max(each, 0) for each in fixed], np.float64)
        high = np.array([each if each != FREE else 1 for each in fixed], np.float64)
        return states(self.program, low, high)

    def _relaxed(self, fixed: Fixed) -> Relaxed:
        self.nodes += 1
        return relax_surely(self._at(fixed))

    def _keep(self, chosen: Fixed, answer: Relaxed) -> None:
        """Note the dispatch of a pattern of states, if it is the best so far and physical."""
        self._tried.add(chosen)
        if answer.point is None or self.program.data.value(answer.point) >= self.value:
            return
        program = self._at(chosen)
        try:
            exact, numbers = dispatch(program, 1.0)
        except SolverError:  # the relaxation is not tight there: its bound counts, its point does not
            return
        if exact.point is not None and numbers["value"] < self.value:
            self.best, self.value = (program, exact.point, numbers), numbers["value"]
            self.say(f"{self.nodes} relaxations: value {self.value:.6g}")
