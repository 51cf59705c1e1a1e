"""Unit flows that conserve exactly: fixed-point numbers, rounding pushed back along the largest arcs."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from baselines.stackelberg.program import Program

__all__ = ["conserves", "exact_flows"]

UNIT = 2.0**-44


@njit(cache=True)
def _repair(tail, head, group, nodes, flow, fixed):
    classes = group.max() + 1
    for row in range(flow.shape[0]):
        for a in range(len(tail)):
            fixed[row, a] = np.int64(np.round(flow[row, a] / UNIT))
        for place in range(nodes + classes):  # sinks first, then nodes from the last to the first
            node = nodes - 1 - (place - classes)
            sink = place < classes
            excess = np.int64(0)
            best, best_flow = -1, -1.0
            for a in range(len(tail)):
                enters = head[a] == -1 and group[a] == place if sink else head[a] == node
                if enters:
                    excess += fixed[row, a]
                    if flow[row, a] > best_flow:
                        best, best_flow = a, flow[row, a]
                elif not sink and tail[a] == node:
                    excess -= fixed[row, a]
            if sink:
                excess -= np.int64(2**44)
            if best >= 0:
                fixed[row, best] -= excess


def exact_flows(program: Program, flow: NDArray[np.float64]) -> NDArray[np.int64]:
    """Flows (n, A) in units of 2^-44, each an exact unit flow of every class if ``flow`` nearly is one."""
    fixed = np.empty(flow.shape, np.int64)
    _repair(program.tail, program.head, program.group, program.nodes, np.ascontiguousarray(flow), fixed)
    return fixed


def conserves(program: Program, fixed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row (n, A) is a unit flow of every class, in whole numbers."""
    rows = len(fixed)
    balance = np.zeros((rows, program.nodes + 1), np.int64)  # the last column collects the sinks
    for a in range(len(program.tail)):
        balance[:, program.tail[a]] -= fixed[:, a]
        if program.head[a] >= 0:
            balance[:, program.head[a]] += fixed[:, a]
    for node in program.source:
        balance[:, node] += 2**44
    into = np.stack(
        [fixed[:, (program.head < 0) & (program.group == k)].sum(axis=1) for k in range(len(program.share))]
    )
    small = (np.abs(fixed) < 2**52).all(axis=1)  # exact as float64, and sums cannot overflow
    return np.asarray((balance == 0).all(axis=1) & (into == 2**44).all(axis=0) & small)
