"""Variational inequalities: find y in C with F(y)'(z - y) >= 0 for all z in C, by the extragradient method.

Nash equilibria of convex games are their solutions, F the stack of all players' own gradients; where players share a
constraint, they are the variational equilibria: everybody faces the same price for it (Rosen 1965; Facchinei and Kanzow
2007). Extragradient (Korpelevich 1976) needs F monotone and Lipschitz only; the step is found on the way (Khobotov
1987). The gap that is stated is the natural residual |y - P(y - F(y))|: zero at solutions and only there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import InvalidInputError, array, number

__all__ = ["Solved", "extragradient"]

Floats = NDArray[np.float64]
Map = Callable[[Floats], Floats]


class Solved(NamedTuple):
    """Where the method ended.

    Attributes:
        point: (d,).
        residual: its natural residual.
        iterations: steps taken.
        converged: whether the residual is at most what was asked for.
    """

    point: Floats
    residual: float
    iterations: int
    converged: bool


def extragradient(
    operator: Map,
    project: Map,
    start: ArrayLike,
    tolerance: float = 1e-8,
    most: int = 100_000,
    step: float = 1.0,
) -> Solved:
    """Solve a monotone variational inequality.

    Args:
        operator: F, (d,) to (d,).
        project: nearest point of C, (d,) to (d,).
        start: (d,) any point.
        tolerance: of the natural residual.
        most: iterations.
        step: first step size; it shrinks where F changes too fast for it, and may grow again.

    Raises:
        InvalidInputError: for numbers out of range, or an operator or projection with another shape or NaN.
    """
    number("tolerance", tolerance, 0.0, np.inf, open_low=True)
    number("most", most, 1, 10**9, integer=True)
    number("step", step, 0.0, np.inf, open_low=True)
    first = array("start", start, (None,))
    size = float(step)

    def checked(name: str, function: Map, at: Floats) -> Floats:
        found = np.asarray(function(at), np.float64)
        if found.shape != first.shape or not np.isfinite(found).all():
            raise InvalidInputError(f"{name} = {found!r:.80}; allowed: {len(first)} finite numbers")
        return found

    here = checked("project", project, first)
    residual = np.inf
    for count in range(most):
        force = checked("operator", operator, here)
        residual = float(np.linalg.norm(here - checked("project", project, here - force)))
        if residual <= tolerance:
            return Solved(here, residual, count, True)
        while True:
            ahead = checked("project", project, here - size * force)
            moved = float(np.linalg.norm(ahead - here))
            changed = float(np.linalg.norm(checked("operator", operator, ahead) - force))
            if size * changed <= 0.9 * moved or size < 1e-300:
                break
            size *= max(0.5, 0.8 * moved / (size * changed))
        here = checked("project", project, here - size * checked("operator", operator, ahead))
        size *= 1.1
    return Solved(here, residual, most, False)
