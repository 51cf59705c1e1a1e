"""Multipliers that prove more than optimality: strictly complementary wherever they can be.

If an optimum is the only one, some dual solution is strictly positive on every row and bound that the optimum touches
(Goldman and Tucker 1956). Such multipliers let a reader see uniqueness by linear algebra alone. Given the plan, they
are the solution of a small linear program: all optimality conditions, and as many strict inequalities as possible.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.samples import physical_limits, row_excess
from baselines.parking_lot.storage import Market, piece_lengths, slopes_usd_per_kwh, tie_break
from baselines.solve import LinearProgram
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Capacity

__all__ = ["Duals", "KINDS", "strict_duals"]

Floats = NDArray[np.float64]

KINDS = ("energy", "charge", "discharge")
_MICRO = 1e6  # the program counts in millionths of a dollar: the tie-break must stand above the solver's tolerance
_MARGIN = 1e-3  # wanted distance of every strict inequality [1e-6 $]
_TOUCH_KWH = 1e-9


class Duals(NamedTuple):
    """Evidence of optimality.

    Attributes:
        multiplier: (T,) lambda of the energy balance [$/kWh].
        rows: (kind, step, scenario, dual) of the scenario rows with a positive dual [$ per unit of scaled violation];
            kind is "energy" (x_t <= K_t), "charge" (u_t <= P_t) or "discharge" (v_t <= P_t).
    """

    multiplier: Floats
    rows: tuple[tuple[str, int, int, float], ...]


class _Program:
    """Columns: lambda (T), one dual per touching row, one margin per strict inequality (added with it)."""

    def __init__(self, steps: int, rows: int, dearest: float, unit: float) -> None:
        # prices beyond the dearest piece are never needed; without limits a tiny excess would have a huge dual
        price = (2.0 * dearest + 1.0) * _MICRO
        self.duals = np.arange(steps, steps + rows)
        self.dual_max = 2.0 * price * unit
        self.margins: list[int] = []
        self.program = LinearProgram(
            np.zeros(steps + rows),
            np.concatenate([np.full(steps, -price), np.zeros(rows)]),
            np.concatenate([np.full(steps, price), np.full(rows, self.dual_max)]),
        )

    def equal(self, terms: dict[int, float], right: float) -> None:
        """Sum of terms = right."""
        self.program.add_rows([right], [right], [list(terms)], [list(terms.values())])

    def at_least(self, terms: dict[int, float], right: float) -> None:
        """Sum of terms >= right, by a margin if possible."""
        margin = self.program.add_columns([1.0], [0.0], [_MARGIN])
        self.margins.append(margin)
        terms = terms | {margin: -1.0}
        self.program.add_rows([right], [np.inf], [list(terms)], [list(terms.values())])

    def at_most(self, terms: dict[int, float], right: float) -> None:
        """Sum of terms <= right, by a margin if possible."""
        self.at_least({column: -value for column, value in terms.items()}, -right)

    def solve(self) -> Floats:
        """First as many margins as possible, then the smallest duals that keep them; (columns,) [1e-6 $]."""
        best = self.program.solve().point
        kept = best[self.margins] * (1.0 - 1e-6)
        nothing = np.zeros(len(kept))
        self.program.change_columns(self.margins, nothing, kept, np.full(len(kept), _MARGIN))
        count = len(self.duals)
        self.program.change_columns(self.duals, np.full(count, -1.0), np.zeros(count), np.full(count, self.dual_max))
        return self.program.solve().point


def strict_duals(
    instance: Instance, market: Market, plan: Floats, sample: Capacity, support: list[int], rho: float | None
) -> Duals:
    """Multipliers of an optimal plan, strict wherever that is possible.

    Args:
        instance: the lot.
        market: prices and (1, T) offers.
        plan: (T,) optimal stored energy of the program that knows the support alone [kWh].
        sample: all samples, already inflated if wanted.
        support: indices into the sample.
        rho: price of violation [$], None for the robust program.

    Raises:
        SolverError: if no multipliers exist: then the plan is not optimal for its support.
    """
    steps = len(plan)
    excess = row_excess(instance, plan, Capacity(sample.energy_kwh[support], sample.power_kw[support]))
    slack = np.maximum(excess.max(axis=(0, 2)), 0.0)
    touching = [(k, t, m) for k, m, t in np.argwhere(excess >= slack[None, :, None] - _TOUCH_KWH)]
    dearest = float(np.abs(slopes_usd_per_kwh(instance, market.buy)).max())
    program = _Program(steps, len(touching), dearest, max(instance.energy_scale_kwh / instance.efficiency, rho or 0.0))
    columns = {row: steps + c for c, row in enumerate(touching)}
    _power_conditions(program, instance, market, plan, columns)
    _energy_conditions(program, instance, plan, columns)
    for column in columns.values():
        program.at_least({column: 1.0}, 0.0)
    if rho is not None:
        for m in range(len(support)):
            mine = {column: 1.0 for row, column in columns.items() if row[2] == m}
            if mine and slack[m] > 1e-6:
                program.equal(mine, rho * _MICRO)
            elif mine:
                program.at_most(mine, rho * _MICRO)
    point = program.solve() / _MICRO
    rows = tuple(
        (KINDS[k], int(t), int(support[m]), float(point[column]))
        for (k, t, m), column in columns.items()
        if point[column] > 0.0
    )
    return Duals(point[:steps], rows)


def _power_conditions(
    program: _Program, lot: Instance, market: Market, plan: Floats, columns: dict[tuple[int, int, int], int]
) -> None:
    """Every piece of every change: idle, full or in between, as its gain says."""
    steps, eta, tau = len(plan), lot.efficiency, lot.step_h
    slopes = slopes_usd_per_kwh(lot, market.buy)
    lengths = piece_lengths(lot, market, np.full((1, steps), physical_limits(lot)[1]))[0]
    change = np.diff(plan, prepend=0.0)
    for t in range(steps):
        for piece in range(4):
            if lengths[t, piece] <= 0.0:
                continue
            charging = piece < 2
            moved = max(change[t], 0.0) if charging else max(-change[t], 0.0)
            before = lengths[t, 1] if piece == 0 else lengths[t, 2] if piece == 3 else 0.0
            used = min(max(moved - before, 0.0), lengths[t, piece])
            kind = 1 if charging else 2
            scale = 1.0 / (eta * tau * lot.charger_kw) if charging else -eta / (tau * lot.charger_kw)
            terms = {t: 1.0} | {column: scale for (k, s, _), column in columns.items() if k == kind and s == t}
            right = -slopes[t, piece] * _MICRO
            if used <= _TOUCH_KWH:
                (program.at_least if charging else program.at_most)(terms, right)
            elif used >= lengths[t, piece] - _TOUCH_KWH:
                (program.at_most if charging else program.at_least)(terms, right)
            else:
                program.equal(terms, right)


def _energy_conditions(
    program: _Program, lot: Instance, plan: Floats, columns: dict[tuple[int, int, int], int]
) -> None:
    """Stored energy at zero, at the lot's limit or in between, as the value of holding it says."""
    steps, fees = len(plan), tie_break(len(plan))
    energy_max = physical_limits(lot)[0]
    for t in range(lot.gate_closure_steps, steps - 1):
        terms = {t: 1.0, t + 1: -1.0}
        terms |= {column: -1.0 / lot.energy_scale_kwh for (k, s, _), column in columns.items() if k == 0 and s == t}
        right = fees[t] * _MICRO
        if plan[t] <= _TOUCH_KWH:
            program.at_most(terms, right)
        elif plan[t] >= energy_max - _TOUCH_KWH:
            program.at_least(terms, right)
        else:
            program.equal(terms, right)
