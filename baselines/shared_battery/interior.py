"""Interior-point method for the programs of sizing; it lives on their structure.

    minimise    sum_i [ slope b_i + curvature/2 (b_i - target_i)^2 ]   (+ sigma, if it is free)
    subject to  sum_i (xi_ki - b_i)_+ + ratio sum_i b_i <= sigma   for the samples k = 1..A,   low <= b <= high

Every pair (sample, driver) has a positive part of its own, but couples to b_i and to one multiplier lambda_k only. All
A n pairs are eliminated by hand (interior_kernel.py); what remains is a dense positive definite system of n unknowns.
One Newton step costs A n^2 operations, so the program with all its auxiliaries is solved in some tens of
milliseconds, where a simplex method on cutting planes takes seconds. Predictor and corrector as in Mehrotra, SIAM
Journal on Optimization 2, 1992. The result is a starting point for proofs, not one: see duals.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from baselines.shared_battery.interior_kernel import directions, eliminated, right_sides, second_order

__all__ = ["Interior", "Sizing", "minimise"]

Floats = NDArray[np.float64]

_STEPS = 250
_BACK = 0.995  # share of the way to the boundary that a step may go
_CLOSED = 1e-9  # relative mismatch of the equations at the end


class Sizing(NamedTuple):
    """A program of the form above.

    Attributes:
        low, high: (n,) range of own batteries [kWh], low < high.
        ratio: weight of own batteries in the rows.
        sigma: right-hand side [kWh]; None if it is the free objective.
        slope: linear cost of own batteries.
        curvature, target: quadratic cost of the distance to target (n,) [kWh].
    """

    low: Floats
    high: Floats
    ratio: float
    sigma: float | None = None
    slope: float = 0.0
    curvature: float = 0.0
    target: float = 0.0


class Interior(NamedTuple):
    """Where the central path ended.

    Attributes:
        own: (n,) b [kWh].
        sigma: right-hand side [kWh].
        weight: (A,) multipliers lambda of the samples, at least 0.
        steps: Newton steps taken.
    """

    own: Floats
    sigma: float
    weight: Floats
    steps: int


class _Direction(NamedTuple):
    """A Newton direction and the longest steps along it; d_y and d_u lie in the path's work arrays."""

    own: Floats
    sigma: float
    lam: Floats
    slack: Floats
    z_low: Floats
    z_high: Floats
    primal: float
    dual: float


def minimise(need: Floats, program: Sizing, tolerance: float = 1e-11) -> Interior:
    """Follow the central path to a relative duality gap of ``tolerance``, or as far as the numbers carry.

    Args:
        need: (A, n) samples [kWh], A >= 1.
        program: what to minimise.
        tolerance: relative to the objective.
    """
    path = _Path(need, program)
    for step in range(_STEPS):
        if path.is_done(tolerance) or not path.advance():
            return Interior(path.own, path.sigma, path.lam, step)
    return Interior(path.own, path.sigma, path.lam, _STEPS)


def _longest(values: Floats, direction: Floats) -> float:
    falling = direction < 0.0
    return float((-values[falling] / direction[falling]).min(initial=1e300))


def _factor(system: Floats) -> Any:
    """Cholesky factor; near the end of the path the system may need a lift, at last there is none (None)."""
    lift, size = 0.0, float(np.trace(system)) / len(system)
    for _ in range(6):
        try:
            return cho_factor(system + lift * np.eye(len(system)), check_finite=False)
        except (LinAlgError, ValueError):
            lift = max(100.0 * lift, 1e-15 * size)
    return None


class _Path:
    """Iterates: primal b, sigma, y, w and the rows' slack r; dual lam, u, v and z of the ends of b's range."""

    def __init__(self, need: Floats, program: Sizing) -> None:
        self.program = program
        rows, n = need.shape
        self.free = program.sigma is None
        width, scale = program.high - program.low, max(float(need.mean()), 1e-3)
        self.own = np.clip(np.median(need, axis=0), program.low + 0.1 * width, program.high - 0.1 * width)
        self.y = np.maximum(need - self.own, 0.0) + 0.1 * scale
        self.w = self.y - need + self.own
        used = self.y.sum(axis=1) + program.ratio * float(self.own.sum())
        self.sigma = float(used.max()) + n * scale if program.sigma is None else program.sigma
        self.slack = np.maximum(self.sigma - used, 0.1 * scale)
        pull = program.slope + program.curvature * float(np.abs(program.target - self.own).max())
        total = 1.0 if self.free else max(pull, 1e-3)
        self.lam = np.full(rows, total / rows)
        self.u = np.full((rows, n), 0.5 * total / rows)
        self.v = self.u.copy()
        self.z_low, self.z_high = np.full(n, total), np.full(n, total)
        self.size = rows * (2 * n + 1) + 2 * n
        self.coupling, self.d_y, self.d_u, self.second_uw, self.second_vy = (np.zeros((rows, n)) for _ in range(5))
        self._prepared: Any = None

    def mu(self) -> float:
        """Mean product of a slack and its dual."""
        pairs = float((self.u * self.w).sum() + (self.v * self.y).sum())
        ends = self.z_low @ (self.own - self.program.low) + self.z_high @ (self.program.high - self.own)
        return float((pairs + self.lam @ self.slack + ends) / self.size)

    def residuals(self) -> tuple[Floats, float, Floats]:
        """Stationarity of b (n,), of sigma, and the mismatch of the rows (A,)."""
        p = self.program
        slope = p.slope + p.curvature * (self.own - p.target) + p.ratio * self.lam.sum() - self.u.sum(axis=0)
        gap = self.sigma - self.y.sum(axis=1) - p.ratio * self.own.sum() - self.slack
        return slope - self.z_low + self.z_high, 1.0 - float(self.lam.sum()) if self.free else 0.0, gap

    def is_done(self, tolerance: float) -> bool:
        """Whether gap and residuals are small enough."""
        p, (slope, off, gap) = self.program, self.residuals()
        value = 0.5 * p.curvature * float(((self.own - p.target) ** 2).sum()) + p.slope * float(self.own.sum())
        closed = np.abs(slope).max() <= _CLOSED * max(1.0, float(self.lam.sum())) and abs(off) <= _CLOSED
        closed = closed and np.abs(gap).max() <= _CLOSED * (1.0 + abs(self.sigma))
        return bool(closed and self.mu() * self.size <= tolerance * (1.0 + (abs(self.sigma) if self.free else value)))

    def advance(self) -> bool:
        """One step of predictor and corrector; False if the numbers carry no further."""
        p = self.program
        above, below = self.own - p.low, p.high - self.own
        if not min(above.min(), below.min()) > 0.0:  # an end of the range is reached to the last digit
            return False
        by_row, by_driver = eliminated(self.y, self.w, self.u, self.v, p.ratio, self.coupling)
        weight = self.slack / self.lam + by_row
        scaled = self.coupling / weight[:, None]
        system = self.coupling.T @ scaled
        system[np.diag_indices(len(above))] += p.curvature + self.z_low / above + self.z_high / below + by_driver
        factor = _factor(system) if np.isfinite(system).all() else None
        if factor is None:
            return False
        ones = cho_solve(factor, scaled.sum(axis=0), check_finite=False) if self.free else np.zeros(0)
        self._prepared = factor, scaled, weight, ones, above, below, self.residuals()
        self.second_uw[:], self.second_vy[:] = 0.0, 0.0
        zero = np.zeros(len(above))
        mu = self.mu()
        first = self._direction(0.0, np.zeros(len(weight)), zero, zero)
        left = self._mu_after(first, min(first.primal, 1.0), min(first.dual, 1.0))
        second_order(self.d_y, self.d_u, first.own, first.lam, self.second_uw, self.second_vy)
        goal = mu * (max(left, 0.0) / mu) ** 3
        step = self._direction(goal, first.lam * first.slack, first.z_low * first.own, -first.z_high * first.own)
        self._move(step)
        return True

    def _direction(self, goal: float, second_r: Floats, second_low: Floats, second_high: Floats) -> _Direction:
        """Newton's direction towards the point of the path with products ``goal``."""
        factor, scaled, weight, ones, above, below, (slope, off, gap) = self._prepared
        by_row, by_driver = right_sides(self.y, self.w, self.u, self.v, goal, self.second_uw, self.second_vy)
        f = (goal - self.lam * self.slack - second_r) / self.lam + by_row - gap
        to_low = goal - self.z_low * above - second_low
        to_high = goal - self.z_high * below - second_high
        g = -slope + by_driver + to_low / above - to_high / below
        own = cho_solve(factor, g + scaled.T @ f, check_finite=False)
        sigma = 0.0
        if self.free:  # the weights must sum to one afterwards
            total = float(((f - self.coupling @ own) / weight).sum())
            sigma = (total - off) / float(((1.0 - self.coupling @ ones) / weight).sum())
            own = own - ones * sigma
        lam = (f - self.coupling @ own - sigma) / weight
        primal, dual = directions(
            self.y, self.w, self.u, self.v, goal, self.second_uw, self.second_vy, own, lam, self.d_y, self.d_u
        )
        slack = sigma - self.d_y.sum(axis=1) - self.program.ratio * own.sum() + gap
        z_low, z_high = (to_low - self.z_low * own) / above, (to_high + self.z_high * own) / below
        primal = min(primal, _longest(self.slack, slack), _longest(above, own), _longest(below, -own))
        dual = min(dual, _longest(self.lam, lam), _longest(self.z_low, z_low), _longest(self.z_high, z_high))
        return _Direction(own, sigma, lam, slack, z_low, z_high, primal, dual)

    def _mu_after(self, d: _Direction, primal: float, dual: float) -> float:
        """Mean product after a step."""
        u, v = self.u + dual * self.d_u, self.v + dual * (d.lam[:, None] - self.d_u)
        y, w = self.y + primal * self.d_y, self.w + primal * (self.d_y + d.own)
        total = (u * w).sum() + (v * y).sum() + (self.lam + dual * d.lam) @ (self.slack + primal * d.slack)
        own = self.own + primal * d.own
        total += (self.z_low + dual * d.z_low) @ (own - self.program.low)
        total += (self.z_high + dual * d.z_high) @ (self.program.high - own)
        return float(total / self.size)

    def _move(self, d: _Direction) -> None:
        primal, dual = min(_BACK * d.primal, 1.0), min(_BACK * d.dual, 1.0)
        if self.program.curvature:  # stationarity ties both together
            primal = dual = min(primal, dual)
        self.own = self.own + primal * d.own
        self.sigma += primal * d.sigma
        self.y += primal * self.d_y
        self.w += primal * (self.d_y + d.own)
        self.slack = self.slack + primal * d.slack
        self.lam = self.lam + dual * d.lam
        self.u += dual * self.d_u
        self.v += dual * (d.lam[:, None] - self.d_u)
        self.z_low = self.z_low + dual * d.z_low
        self.z_high = self.z_high + dual * d.z_high
