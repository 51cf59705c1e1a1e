"""Upper bounds that see the future: what the best trajectory of each scenario earns, proven by duals.

V2G/ParkingLot-v0 realises x_t = min(closed, K_t) whatever its rule does (model.py), so the best path under the true
K_t and the true offers bounds every policy; that is one storage path, solved exactly in microseconds. Fixing more
than K_t never helps: it costs the exchange and the imbalance price. In V2G/ParkingLotBays-v0 cars may hold up to
their caps and energy may be lost, so the bound is a linear program over all bays. Both leave out the cost of
redistribution, which is never negative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from baselines.certificate import FORMAT, pack
from baselines.duality import linear_bound
from baselines.parking_lot.samples import reachable, true_market
from baselines.parking_lot.storage import bound, solve_paths
from baselines.solve import LinearProgram
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Scenario

__all__ = ["Hindsight", "bays_hindsight", "hindsight", "hindsight_certificate"]

Floats = NDArray[np.float64]


class Hindsight(NamedTuple):
    """Perfect-information values of n scenarios.

    Attributes:
        value_usd: (n,) money of the best trajectory found [$].
        bound_usd: (n,) proven upper limit on every policy's return in that scenario [$].
        multiplier: (n, T) duals that prove it.
    """

    value_usd: Floats
    bound_usd: Floats
    multiplier: Floats


def hindsight(instance: Instance, scenario: Scenario) -> Hindsight:
    """Bound on every policy of V2G/ParkingLot-v0 in every scenario; with gate closure nothing is stored in step 0."""
    market = true_market(instance, scenario)
    capacity = reachable(instance, scenario)
    path = solve_paths(instance, market, capacity)
    return Hindsight(path.value_usd, bound(instance, market, capacity, None, path.multiplier), path.multiplier)


def hindsight_certificate(instance: Instance, law_name: str, seed: int, result: Hindsight) -> dict[str, Any]:
    """JSON certificate of the mean bound over a sample drawn by scenario.sample(instance, law, n, seed)."""
    return {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": "hindsight bound",
        "instance_sha256": instance.hash,
        "instance": instance.to_dict(),
        "sample": {"law": law_name, "seed": int(seed), "n_samples": len(result.bound_usd)},
        "multiplier": pack(result.multiplier),
        "mean_bound_usd": float(result.bound_usd.mean()),
    }


def bays_hindsight(model: Model, scenario: Scenario, row: int) -> tuple[float, float]:
    """Value and proven bound [$] of row ``row`` for V2G/ParkingLotBays-v0: by linear programming over its bays.

    Columns: stored energy of every car and step within its cap, lost energy, energy fixed at the gate, the four
    exchanges, imbalance. Every trajectory that the environment can execute is a feasible point with at least its
    return.

    Raises:
        SolverError: if the program is not solved to optimality.
    """
    return _BayProgram(model.instance, scenario, row).solve()


class _BayProgram:
    """Rows and columns of one scenario, collected as triplets."""

    def __init__(self, lot: Instance, s: Scenario, i: int) -> None:
        self.lot, self.s, self.i = lot, s, i
        self.cost: list[float] = []
        self.upper: list[float] = []
        self.low: list[float] = []
        self.up: list[float] = []
        self.entries: list[tuple[int, int, float]] = []
        self._build()

    def _column(self, cost: float, upper: float) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        return len(self.cost) - 1

    def _row(self, low: float, up: float, *entries: tuple[int, float]) -> None:
        row = len(self.low)
        self.low.append(low)
        self.up.append(up)
        self.entries += [(row, column, value) for column, value in entries]

    def _build(self) -> None:
        lot, s, i = self.lot, self.s, self.i
        steps = lot.steps
        everything = float(s.cap_kwh[i, : s.sessions[i]].sum())
        held: list[list[int]] = [[] for _ in range(steps)]
        lost: list[list[int]] = [[] for _ in range(steps)]
        for k in range(int(s.sessions[i])):
            self._car(k, held, lost)
        wear, tau = lot.wear_usd_per_kwh, lot.step_h
        for t in range(steps):
            price = float(lot.buy[t])
            grid = min(lot.grid_limit_kw, everything / (lot.efficiency * tau) + 1.0)
            parts = [
                (self._column(-tau * (lot.fee_fraction * price + wear), float(s.surplus_kw[i, t])), 1.0),
                (self._column(tau * (lot.return_fraction * price - wear), float(s.deficit_kw[i, t])), -1.0),
                (self._column(-tau * (price + wear), grid), 1.0),
                (self._column(tau * (lot.sell_fraction * price - wear), grid), -1.0),
            ]
            closed = self._column(0.0, 0.0 if t < lot.gate_closure_steps else everything)
            off = self._column(-lot.imbalance_usd_per_kwh, 2.0 * everything + 1.0)
            gain, drain = lot.efficiency * tau, tau / lot.efficiency
            change = [(column, -gain if sign > 0 else drain) for column, sign in parts]
            before = [(column, -1.0) for column in (held[t - 1] if t else [])]
            self._row(0.0, 0.0, (closed, 1.0), *before, *change)
            now = [(column, 1.0) for column in held[t]]
            gone = [(column, 1.0) for column in lost[t]]
            minus = [(column, -value) for column, value in now]
            minus_gone = [(column, -value) for column, value in gone]
            # imbalance is at least |closed - stored| and |closed - stored - lost|
            self._row(0.0, np.inf, (off, 1.0), (closed, -1.0), *now)
            self._row(0.0, np.inf, (off, 1.0), (closed, 1.0), *minus)
            if gone:
                self._row(0.0, np.inf, (off, 1.0), (closed, -1.0), *now, *gone)
                self._row(0.0, np.inf, (off, 1.0), (closed, 1.0), *minus, *minus_gone)

    def _car(self, k: int, held: list[list[int]], lost: list[list[int]]) -> None:
        lot, s, i = self.lot, self.s, self.i
        cap, kw = float(s.cap_kwh[i, k]), float(s.charger_kw[i, k])
        rise, fall = lot.efficiency * kw * lot.step_h, kw * lot.step_h / lot.efficiency
        arrive, depart = int(s.arrive[i, k]), int(s.depart[i, k])
        last = -1
        for t in range(arrive, depart - 1):
            column = self._column(0.0, cap if last >= 0 else min(cap, rise))
            held[t].append(column)
            if last >= 0 and cap > rise:
                self._row(-fall, rise, (column, 1.0), (last, -1.0))
            last = column
        if last >= 0 and cap > fall:
            column = self._column(0.0, cap)
            lost[depart - 1].append(column)
            self._row(-fall, 0.0, (column, 1.0), (last, -1.0))

    def solve(self) -> tuple[float, float]:
        cost, upper = np.array(self.cost), np.array(self.upper)
        program = LinearProgram(cost, np.zeros(len(cost)), upper)
        rows, columns, values = (np.array(part) for part in zip(*self.entries, strict=True))
        matrix = csr_matrix((values, (rows, columns)), shape=(len(self.low), len(cost)))
        low, up = np.array(self.low), np.array(self.up)
        program.add_matrix(low, up, matrix)
        answer = program.solve()
        zeros = np.zeros(len(cost))
        return answer.objective, linear_bound(cost, matrix, low, up, zeros, upper, answer.row_dual)
