"""Unit flows that conserve exactly: fixed-point numbers, rounding pushed back along the largest arcs."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from baselines.stackelberg.program import Program

__all__ = ["conserves", "exact_flows"]

Floats = NDArray[np.float64]

_FINE = 2.0**-44  # unit of flows below 64; larger ones have coarser units, all powers of two


@njit(cache=True)
def _repair(tail, head, group, nodes, flow, unit, fixed):
    classes = group.max() + 1
    for row in range(flow.shape[0]):
        for a in range(len(tail)):
            fixed[row, a] = np.int64(np.round(flow[row, a] / unit[row]))
        for place in range(nodes + classes):  # sinks first, then nodes from the last to the first
            node = nodes - 1 - (place - classes)
            sink = place < classes
            excess = np.int64(0)
            best, best_flow = -1, -np.inf
            for a in range(len(tail)):
                enters = head[a] == -1 and group[a] == place if sink else head[a] == node
                if enters:
                    excess += fixed[row, a]
                    if flow[row, a] > best_flow:
                        best, best_flow = a, flow[row, a]
                elif not sink and tail[a] == node:
                    excess -= fixed[row, a]
            if sink:
                excess -= np.int64(1.0 / unit[row])
            if best >= 0:
                fixed[row, best] -= excess


def exact_flows(program: Program, flow: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Flows (n, A) in whole units and the units (n,): exact unit flows of every class if ``flow`` nearly is one.

    Raises:
        ArithmeticError: for flows beyond all measure.
    """
    largest = np.abs(flow).max(axis=1)
    if not (largest < 2.0**40).all():
        raise ArithmeticError(f"flows of the dual point = up to {largest.max():g}; allowed: below 2^40")
    unit = _FINE * 2.0 ** np.maximum(np.ceil(np.log2(np.maximum(largest, 1.0) / 64.0)), 0.0)
    fixed = np.empty(flow.shape, np.int64)
    _repair(program.tail, program.head, program.group, program.nodes, np.ascontiguousarray(flow), unit, fixed)
    return fixed, unit


def conserves(program: Program, fixed: NDArray[np.int64], unit: Floats) -> NDArray[np.bool_]:
    """Whether each row (n, A) is a unit flow of every class, in whole numbers."""
    rows = len(fixed)
    whole = (1.0 / unit).astype(np.int64)
    balance = np.zeros((rows, program.nodes + 1), np.int64)  # the last column collects the sinks
    for a in range(len(program.tail)):
        balance[:, program.tail[a]] -= fixed[:, a]
        if program.head[a] >= 0:
            balance[:, program.head[a]] += fixed[:, a]
    for node in program.source:
        balance[:, node] += whole
    into = np.stack(
        [fixed[:, (program.head < 0) & (program.group == k)].sum(axis=1) for k in range(len(program.share))]
    )
    small = (np.abs(fixed) < 2**52).all(axis=1)  # exact as float64, and sums cannot overflow
    return np.asarray((balance == 0).all(axis=1) & (into == whole).all(axis=0) & small)
