"""Model predictive control: at every step a small linear program for the rest of the day, of which the first counts.

All cars are seen through what is observed: those present in classes by when they leave, with equal shares of their
energy; those to come as a typical fleet. Steps further away are merged into longer ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from baselines.scheduling.day import typical_cars
from baselines.scheduling.policies import fleet_fraction
from baselines.scheduling.sight import Sight, act, read, wind_path
from baselines.solve import LinearProgram
from v2g_env.core.validate import number
from v2g_env.scheduling.model import LEAVING_H, Model

__all__ = ["PredictiveControl"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LENGTHS = (1, 1, 1, 1, 2, 2, 4, 4, 4)  # steps merged, from now on; then eight at a time
_LATER = 8
_PIECES = 12  # of the generator's cost


class _Class(NamedTuple):
    """Cars that come and leave together: blocks present, number, energy at the start, least at the end [kWh]."""

    first: int
    last: int
    size: float
    start_kwh: float
    target_kwh: float


class PredictiveControl:
    """Plan the rest of the day at every step.

    Args:
        model: the problem.
        margin_sd: generator above the expected net load, in standard deviations of the next step's wind.
        share: of the cars' remaining bands that settles imbalance.
    """

    def __init__(self, model: Model, margin_sd: float, share: float = 1.0) -> None:
        number("margin_sd", margin_sd, -100.0, 100.0)
        number("share", share, 0.0, 1.0)
        self.model, self.margin_sd, self.share = model, margin_sd, share
        self._typical = typical_cars(model.instance, model.law)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """Return actions (n, 2 + aggregators)."""
        sight = read(self.model, observation)
        wanted = np.zeros(len(observation))
        if sight.step[0] < self.model.steps:
            wind = wind_path(self.model, sight)
            wanted = np.array([self._plan(sight, row, wind[row]) for row in range(len(observation))])
        margin = self.margin_sd * sight.wind_sd_kw
        return act(self.model, sight, fleet_fraction(sight, wanted), margin, self.share), state

    def _plan(self, sight: Sight, row: int, wind: Floats) -> float:
        """Power of all cars together in this step [kW]."""
        lot = self.model.instance
        now = int(sight.step[row])
        ends = _blocks(lot.steps - now)
        starts = np.append(0, ends[:-1])
        load = lot.load_mean_kw[now:].sum(axis=1)
        load[0] = sight.load_kw[row]
        net = np.add.reduceat(load - wind, starts) / (ends - starts)
        classes = self._present(sight, row, ends) + self._coming(now, float(sight.to_come[row]), ends)
        if not any(each.first == 0 for each in classes):
            return 0.0
        gas = min(float(sight.gas_kw[row]), lot.gas_max_kw)  # rounding of observations
        return self._first_power(net, (ends - starts) * lot.step_h, classes, gas)

    def _present(self, sight: Sight, row: int, ends: Ints) -> list[_Class]:
        """Classes by departure: within 1, 2, 4, 8 h, or typically."""
        lot = self.model.instance
        there = float(sight.cars[row].sum())
        if there < 0.5:
            return []
        mean = float(sight.energy_kwh[row].sum()) / there
        now = int(sight.step[row])
        edges = [round(hours / lot.step_h) for hours in LEAVING_H]
        late = self._typical.depart[self._typical.depart > now + edges[-1]]
        after = float(late.mean()) - now if late.size else edges[-1] + 4.0
        counts = np.diff(np.concatenate([[0.0], sight.leaving[row], [there]]))
        classes = []
        for k, count in enumerate(counts):
            if count < 0.5:
                continue
            leave = after if k == len(edges) else 0.5 * (edges[k] + (edges[k - 1] if k else 0))
            last = int(np.searchsorted(ends, max(leave, 1.0)))
            target = count * lot.soc_wanted * lot.battery_kwh
            classes.append(_Class(0, min(last, len(ends) - 1), float(count), mean * float(count), target))
        return classes

    def _coming(self, now: int, count: float, ends: Ints) -> list[_Class]:
        """Typical cars that have not come, scaled to how many there still are."""
        lot, fleet = self.model.instance, self._typical
        rows = np.flatnonzero((fleet.arrive > now) & (fleet.depart > fleet.arrive))
        if not rows.size or count < 0.5:
            return []
        weight = count / rows.size
        first = np.searchsorted(ends, fleet.arrive[rows] - now, side="right")
        last = np.searchsorted(ends, fleet.depart[rows] - now) if rows.size else first
        found: dict[tuple[int, int], list[int]] = {}
        for car, a, b in zip(rows.tolist(), first.tolist(), np.minimum(last, len(ends) - 1).tolist(), strict=True):
            if a <= b:
                found.setdefault((a, max(b // 2 * 2, a)), []).append(car)
        wanted = lot.soc_wanted * lot.battery_kwh
        return [
            _Class(a, b, weight * len(cars), weight * float(fleet.start_kwh[cars].sum()), weight * len(cars) * wanted)
            for (a, b), cars in found.items()
        ]

    def _first_power(self, net: Floats, hours: Floats, classes: list[_Class], gas_kw: float) -> float:
        lot, blocks = self.model.instance, len(net)
        piece = lot.gas_max_kw / _PIECES
        edges = piece * np.arange(_PIECES + 1)
        slopes = self.model.gas_scale * (lot.gas_linear + lot.gas_quadratic * (edges[1:] + edges[:-1]))
        most = float(np.abs(net).max()) + lot.cars * lot.charger_kw
        # columns: pieces of the generator, missing, then charge, discharge, energy of every class
        cost = [-np.outer(hours, slopes).ravel(), -lot.emergency_usd_per_kwh * hours]
        low, high = [np.zeros(blocks * (_PIECES + 1))], [np.repeat([piece, most], [blocks * _PIECES, blocks])]
        at = blocks * (_PIECES + 1)
        every = np.arange(blocks)
        rows = [np.repeat(every, _PIECES), every]
        cols, vals = [np.arange(at)[: blocks * _PIECES], np.arange(blocks * _PIECES, at)], [np.ones(at)]
        sides, tops = [net], [np.full(blocks, np.inf)]
        count = blocks
        first: list[int] = []
        price = lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh
        for each in classes:
            span = np.arange(each.first, each.last + 1)
            n, h = len(span), hours[span]
            c, d, e = at + np.arange(n), at + n + np.arange(n), at + 2 * n + np.arange(n)
            at += 3 * n
            least, full = (each.size * value for value in lot.energy_range_kwh)
            power = each.size * lot.charger_kw
            reach = each.start_kwh + lot.efficiency * power * float(h.sum())
            floor = np.full(n, min(least, each.start_kwh))
            floor[-1] = max(min(each.target_kwh, 0.999 * reach), floor[-1])
            cost.append(np.concatenate([np.zeros(n), -price * h, np.zeros(n)]))
            low.append(np.concatenate([np.zeros(2 * n), floor]))
            high.append(np.concatenate([np.full(2 * n, power), np.full(n, max(full, each.start_kwh))]))
            rows += [span, span, count + np.arange(n), count + np.arange(n), count + np.arange(n)]
            cols += [c, d, e, c, d]
            vals += [-np.ones(n), np.ones(n), np.ones(n), -lot.efficiency * h, h / lot.efficiency]
            rows.append(count + np.arange(1, n))
            cols.append(e[:-1])
            vals.append(-np.ones(n - 1))
            side = np.zeros(n)
            side[0] = each.start_kwh
            sides.append(side)
            tops.append(side)
            count += n
            if each.first == 0:
                first.append(int(c[0]))
                first.append(int(d[0]))
        rows.append(np.full(_PIECES, count))  # the ramp of the first step
        cols.append(np.arange(_PIECES))
        vals.append(np.ones(_PIECES))
        sides.append(np.array([gas_kw - lot.gas_ramp_kw]))
        tops.append(np.array([gas_kw + lot.gas_ramp_kw]))
        matrix = csr_matrix((np.concatenate(vals), (np.concatenate(rows), np.concatenate(cols))), (count + 1, at))
        highs = LinearProgram(np.concatenate(cost), np.concatenate(low), np.concatenate(high))
        highs.add_matrix(np.concatenate(sides), np.concatenate(tops), matrix)
        point = highs.solve().point
        return float(point[first[::2]].sum() - point[first[1::2]].sum())


def _blocks(left: int) -> Ints:
    """Ends of the merged steps, counted from now."""
    lengths = [*_LENGTHS, *[_LATER] * (left // _LATER + 1)]
    ends = np.minimum(np.cumsum(lengths), left)
    return np.asarray(np.unique(ends), np.int64)
