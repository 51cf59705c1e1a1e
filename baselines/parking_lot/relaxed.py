"""The relaxed scenario program as a linear program with lazy rows: only scenarios that bind ever enter it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.samples import excess, openable, physical_limits
from baselines.parking_lot.storage import Market, solve_paths, tie_break
from baselines.parking_lot.strict import Duals
from baselines.solve import LinearProgram, SolverError
from v2g_env.core.validate import require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE
from v2g_env.parking_lot.scenario import Capacity

__all__ = ["solve_relaxed"]

Floats = NDArray[np.float64]

_ROUNDS = 200
_ROW_TOLERANCE = 1e-8  # a row enters when its scaled violation exceeds the slack by more
_DUAL_TOLERANCE = 1e-9


class _Program:
    """The linear program of one sample; columns: taken, returned, bought, sold, stored (T each), then slacks."""

    def __init__(self, instance: Instance, market: Market, sample: Capacity, rho: float) -> None:
        self.instance, self.sample, self.rho = instance, sample, rho
        steps, tau, eta = instance.steps, instance.step_h, instance.efficiency
        self.steps = steps
        energy_max, power_max = physical_limits(instance)
        grid = min(instance.grid_limit_kw, power_max)
        buy, wear = market.buy, instance.wear_usd_per_kwh
        stored_max = np.full(steps, energy_max)
        stored_max[: instance.gate_closure_steps] = 0.0
        stored_max[-1] = 0.0
        self.program = LinearProgram(
            np.concatenate(
                [
                    -tau * (instance.fee_fraction * buy + wear),
                    tau * (instance.return_fraction * buy - wear),
                    -tau * (buy + wear),
                    tau * (instance.sell_fraction * buy - wear),
                    -tie_break(steps),
                ]
            ),
            np.zeros(5 * steps),
            np.concatenate(
                [
                    np.minimum(market.surplus_kw[0], power_max),
                    np.minimum(market.deficit_kw[0], power_max),
                    np.full(2 * steps, grid),
                    stored_max,
                ]
            ),
        )
        for t in range(steps):
            before = [4 * steps + t - 1] if t else []
            columns = [t, steps + t, 2 * steps + t, 3 * steps + t, 4 * steps + t, *before]
            values = [-eta * tau, tau / eta, -eta * tau, tau / eta, 1.0, *[-1.0] * len(before)]
            self.program.add_rows([0.0], [0.0], [columns], [values])
            # one charger is not two: what is taken and what is bought share the lot's power, and so do the other two
            for pair in ([t, 2 * steps + t], [steps + t, 3 * steps + t]):
                self.program.add_rows([0.0], [power_max], [pair], [[1.0, 1.0]])
        self.fixed_rows = self.program.rows
        self.slack_column = np.full(len(sample.energy_kwh), -1)
        self.entries: list[tuple[str, int, int]] = []
        self.present = {kind: np.zeros(sample.energy_kwh.shape, bool) for kind in ("energy", "charge", "discharge")}

    def add(self, kind: str, steps: NDArray[np.int64], scenarios: NDArray[np.int64]) -> int:
        """Add the rows (step, scenario) of one kind that are not there yet; returns how many."""
        new = ~self.present[kind][scenarios, steps]
        steps, scenarios = steps[new], scenarios[new]
        if not len(steps):
            return 0
        self.present[kind][scenarios, steps] = True
        fresh = np.unique(scenarios[self.slack_column[scenarios] < 0])
        # no slack is ever worth more than the whole lot
        top = max(physical_limits(self.instance)) / min(self.instance.energy_scale_kwh, self.instance.charger_kw)
        first = self.program.add_columns(np.full(len(fresh), -self.rho), np.zeros(len(fresh)), np.full(len(fresh), top))
        self.slack_column[fresh] = first + np.arange(len(fresh))
        slack = self.slack_column[scenarios]
        minus = np.full(len(steps), -1.0)
        if kind == "energy":
            unit = self.instance.energy_scale_kwh
            columns = np.stack([4 * self.steps + steps, slack], axis=1)
            values = np.stack([np.full(len(steps), 1.0 / unit), minus], axis=1)
            limit = self.sample.energy_kwh[scenarios, steps] / unit
        else:
            unit = self.instance.charger_kw
            offset = (0, 2 * self.steps) if kind == "charge" else (self.steps, 3 * self.steps)
            columns = np.stack([offset[0] + steps, offset[1] + steps, slack], axis=1)
            values = np.stack([np.full(len(steps), 1.0 / unit)] * 2 + [minus], axis=1)
            limit = self.sample.power_kw[scenarios, steps] / unit
        self.program.add_rows(np.full(len(steps), -np.inf), limit, columns, values)
        self.entries += [(kind, int(t), int(i)) for t, i in zip(steps, scenarios, strict=True)]
        return len(steps)

    def solve(self) -> tuple[Floats, Duals]:
        """Add violated rows until none is left; returns stored energy (T,) and the duals."""
        for _ in range(_ROUNDS):
            answer = self.program.solve()
            parts = answer.point[: 5 * self.steps].reshape(5, self.steps)
            stored, charge, discharge = parts[4], parts[0] + parts[2], parts[1] + parts[3]
            if not self._add_violated(answer.point, stored, charge, discharge):
                duals = answer.row_dual[self.fixed_rows :]
                rows = tuple(
                    (*entry, float(dual))
                    for entry, dual in zip(self.entries, duals, strict=True)
                    if dual > _DUAL_TOLERANCE
                )
                return stored, Duals(-answer.row_dual[: self.fixed_rows : 3], rows)
        raise SolverError(f"rounds of row generation = {_ROUNDS}; allowed: fewer")

    def _add_violated(self, point: Floats, stored: Floats, charge: Floats, discharge: Floats) -> int:
        slack = np.where(self.slack_column >= 0, point[np.maximum(self.slack_column, 0)], 0.0)
        open_steps = self.steps - 1
        unit, kw = self.instance.energy_scale_kwh, self.instance.charger_kw
        violation = np.concatenate(
            [
                (stored[:open_steps] - self.sample.energy_kwh[:, :open_steps]) / unit,
                (charge - self.sample.power_kw) / kw,
                (discharge - self.sample.power_kw) / kw,
            ],
            axis=1,
        )
        worst = violation.argmax(axis=1)
        late = np.flatnonzero(violation[np.arange(len(worst)), worst] > slack + _ROW_TOLERANCE)
        where = worst[late]
        added = 0
        starts = {"energy": 0, "charge": open_steps, "discharge": open_steps + self.steps}
        for kind, start in starts.items():
            end = start + (open_steps if kind == "energy" else self.steps)
            mine = (where >= start) & (where < end)
            added += self.add(kind, where[mine] - start, late[mine])
        return added


def _solve(instance: Instance, market: Market, sample: Capacity, rho: float) -> tuple[Floats, Duals]:
    program = _Program(instance, market, sample, rho)
    # no kWh is worth more than the dearest price over the losses: so many scenarios may fall short, roughly
    dearest = instance.buy.max() / instance.efficiency
    worth = dearest * instance.energy_scale_kwh
    if worth < rho * len(sample.energy_kwh):
        rank = int(worth / rho)
        guess = np.partition(sample.energy_kwh, rank, axis=0)[rank]
        plan = solve_paths(instance, market, openable(instance, guess[None])).stored_kwh[0]
        scenarios, steps = np.nonzero(sample.energy_kwh[:, :-1] < plan[None, :-1])
        program.add("energy", steps, scenarios)
    return program.solve()


def solve_relaxed(instance: Instance, market: Market, sample: Capacity, rho: float) -> tuple[Floats, list[int]]:
    """Solve max money - rho sum_i zeta_i, f(x, delta_i) <= zeta_i, zeta_i >= 0.

    Args:
        instance: the lot.
        market: prices and (1, T) offers.
        sample: the N scenarios, already inflated if wanted.
        rho: price of one unit of scaled violation in one scenario [$].

    Returns:
        Plan (T,) and support list. The support holds every scenario that the plan violates, and those at f = 0
        without which the answer changes; solving with the support alone gives the plan again (checked here).

    Raises:
        SolverError: if a linear program is not solved to optimality or the support does not reproduce the plan.
    """
    plan, duals = _solve(instance, market, sample, rho)
    plan = _snap(instance, plan, sample, duals)
    violated = set(np.flatnonzero(excess(instance, plan, sample) > VIOLATION_TOLERANCE).tolist())
    tight = {row[2] for row in duals.rows} - violated
    support = sorted(violated | tight)
    for i in sorted(tight, reverse=True):
        fewer = [j for j in support if j != i]
        if fewer and np.abs(_restricted(instance, market, sample, rho, fewer) - plan).max() <= 1e-5:
            support = fewer
    if not support:
        support = [0]
    same = _restricted(instance, market, sample, rho, support)
    if np.abs(same - plan).max() > 1e-5:
        raise SolverError(
            f"largest difference between the plan and its support's plan = {np.abs(same - plan).max():g} kWh; "
            "allowed: at most 1e-5"
        )
    return plan, support


def _restricted(instance: Instance, market: Market, sample: Capacity, rho: float, rows: list[int]) -> Floats:
    part = Capacity(sample.energy_kwh[rows], sample.power_kw[rows])
    plan, duals = _solve(instance, market, part, rho)
    return _snap(instance, plan, part, duals)


def _snap(instance: Instance, plan: Floats, sample: Capacity, duals: Duals) -> Floats:
    """Put the plan exactly on the energy rows that hold it, so that rounding is no violation."""
    plan = np.clip(plan, 0.0, physical_limits(instance)[0])
    for kind, t, i, _ in duals.rows:
        if kind == "energy" and abs(plan[t] - sample.energy_kwh[i, t]) <= 1e-6:
            plan[t] = sample.energy_kwh[i, t]
    plan[-1] = 0.0
    require(bool(np.isfinite(plan).all()), "plan", plan, "finite numbers")
    return plan
