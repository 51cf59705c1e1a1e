"""The two kinds of parties of a coordinated day: what each knows, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, vstack

from baselines.duality import linear_bound, rounding_allowance
from baselines.scheduling.day import Day
from baselines.scheduling.distributed_kernels import approach, best_response
from baselines.scheduling.linear import rounded
from baselines.scheduling.plan import FEASIBLE, Plan, energies, measure, spare_kw
from baselines.scheduling.program import Program, Task, build
from baselines.solve import ConicProgram, LinearProgram, SolverError
from v2g_env.core.validate import require
from v2g_env.scheduling.fleet import Cars, uncontrolled_kw
from v2g_env.scheduling.instance import Instance

__all__ = ["Aggregator", "Mixture", "Offer", "Proof", "Utility"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CURVATURE = 1e-8  # share of the largest price, per kW, that spreads best responses over steps of equal price
_SWEEPS = 1  # turns of every car in a round: with the others' last answer as a start, more do not pay
_REACH = 3  # pieces of the generator's cost to each side of its last power that the utility considers


class Offer(NamedTuple):
    """What an aggregator lets others know of a profile.

    Attributes:
        power_kw: (steps,) of its cars together [kW].
        cost_usd: wear and subsidies [$].
    """

    power_kw: Floats
    cost_usd: float


class Mixture(NamedTuple):
    """The cheapest mixture of offers.

    Attributes:
        value_usd: cost of the day [$].
        gas_kw: (steps,) power of the generator [kW].
        weights: of the offers, by aggregator; not negative, they sum to 1.
    """

    value_usd: float
    gas_kw: Floats
    weights: list[Floats]


class Proof(NamedTuple):
    """Multipliers of the utility's rows and the lines that were among them."""

    dual: Floats
    lines: Ints


class Aggregator:
    """The cars of one aggregator, known to it alone.

    Args:
        instance: the problem.
        day: the day; only its cars are looked at.
        cars: which of them are the aggregator's: those that come.
    """

    def __init__(self, instance: Instance, day: Day, cars: Ints) -> None:
        self.cars = cars
        lot = self._lot = instance.replace(cars=len(cars))
        self._stay = Cars(day.arrive[cars], day.depart[cars], day.start_kwh[cars], day.target_kwh[cars])
        self._day = day._replace(**self._stay._asdict())
        self._wear = (lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * lot.step_h
        self._car = (*lot.energy_range_kwh, lot.charger_kw, lot.efficiency, lot.step_h)
        stay = Cars(*(part[None] for part in self._stay))  # type: ignore[arg-type]
        self._power = uncontrolled_kw(lot, stay)[0]
        self._paths: list[Floats] = []  # energies of the offers: mixtures of them are kept, unlike those of powers
        self._weights = np.ones(1)

    def begin(self) -> tuple[Offer, float]:
        """The offer without coordination, and the largest cost that any offer can have [$]."""
        span = float((self._stay.depart - self._stay.arrive).sum())
        return self._offer(self._power), self._wear * self._lot.charger_kw * span

    def follow(self, wanted: Floats, penalty: float) -> Offer:
        """An offer near a wanted profile: towards least  cost + penalty / 2 |power - wanted|^2.

        Args:
            wanted: (steps,) [kW].
            penalty: [$/kW^2].
        """
        energy = np.empty_like(self._power)
        approach(wanted, penalty, self._wear, *self._stay, self._car, _SWEEPS, self._power, energy)
        return self._offer(self._power)

    def respond(self, prices: Floats) -> tuple[Offer, float, Floats]:
        """The best offer for given prices, a proven lower limit on cost + prices x power, and its multipliers.

        Args:
            prices: (steps,) of power [$/kW].

        Returns:
            Offer, limit [$], and (steps, cars) prices of stored energy while plugged in [$/kWh].
        """
        power, energy, mu = (np.zeros_like(self._power) for _ in range(3))
        curvature = max(_CURVATURE * float(np.abs(prices).max()), 1e-12)
        best_response(prices, curvature, self._wear, *self._stay, self._car, power, energy, mu)
        mu = rounded(mu)
        return self._offer(power), self._lower_limit(prices, mu), mu

    def _lower_limit(self, prices: Floats, mu: Floats) -> float:
        """Lagrangian of the cars' energy balances, every variable at its better bound."""
        lot, stay = self._lot, self._stay
        least, most = lot.energy_range_kwh
        gain, loss = lot.efficiency * lot.step_h, lot.step_h / lot.efficiency
        steps = np.arange(lot.steps)[:, None]
        there = (stay.arrive <= steps) & (steps < stay.depart)
        last = steps == stay.depart - 1
        floor = np.where(last, np.maximum(stay.target_kwh, least), least)
        drop = mu - np.where(last, 0.0, np.roll(mu, -1, axis=0))  # what a kWh more at the end of the step costs
        first = np.where(steps == stay.arrive, mu, 0.0)
        price = prices[:, None]
        terms = np.where(
            there,
            np.minimum(price - gain * mu, 0.0) * lot.charger_kw
            + np.minimum(self._wear - price + loss * mu, 0.0) * lot.charger_kw
            + np.where(drop > 0.0, drop * floor, drop * most)
            - first * stay.start_kwh,
            0.0,
        )
        size = (np.abs(price) + np.abs(mu)) * lot.charger_kw + np.abs(mu) * 2.0 * most
        return float(terms.sum() - rounding_allowance(np.where(there, size, 0.0).ravel()))

    def spares(self, steps: Ints) -> Floats:
        """(offers, steps) power that the cars could give at once under every offer [kW]."""
        lot = self._lot
        found = [spare_kw(lot, self._day, self._powers(path), path).sum(axis=1)[steps] for path in self._paths]
        return np.array(found).reshape(len(self._paths), len(steps))

    def settle(self, weights: Floats) -> None:
        """Take note of what mixture of the offers was agreed on."""
        self._weights = weights

    def forget(self, count: int) -> Ints:
        """Drop offers that are neither in the mixture nor among the latest ``count``; indices of those kept."""
        kept = np.flatnonzero((self._weights > 0.0) | (np.arange(len(self._weights)) >= len(self._weights) - count))
        self._paths = [self._paths[i] for i in kept.tolist()]
        self._weights = self._weights[kept]
        return kept

    def power(self, frozen: bool) -> Floats:
        """(steps, cars) what the cars do: the mixture agreed on, or the last profile sent [kW]."""
        if frozen:
            return np.asarray(self._power)
        paths = np.stack(self._paths[: len(self._weights)])
        return self._powers(np.asarray(np.tensordot(self._weights, paths, 1)))

    def _powers(self, path: Floats) -> Floats:
        change = np.diff(path, axis=0) / self._lot.step_h
        eta = self._lot.efficiency
        return np.asarray(np.where(change > 0.0, change / eta, change * eta))

    def _offer(self, power: Floats) -> Offer:
        self._paths.append(energies(self._lot, self._day, power))
        return Offer(power.sum(axis=1), self._wear * float(np.maximum(-power, 0.0).sum()))


class Utility:
    """Generator, wind and lines. It knows the homes' loads, and of cars what aggregators tell.

    Args:
        instance: the problem without cars.
        task: a day without cars, and the protection.
    """

    def __init__(self, instance: Instance, task: Task) -> None:
        require(instance.cars == 0 and len(task.day.arrive) == 0, "cars of the utility", instance.cars, "none")
        self._lot, self._task = instance, task
        self._lines, self._reserves = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
        self._gas_kw: Floats | None = None
        self._rebuild()

    def _rebuild(self) -> None:
        self._program = build(self._lot, self._task, np.zeros(0, np.int64), self._lines, self._reserves)
        self._effect = self._effects(self._program)

    def _effects(self, program: Program) -> list[csr_matrix]:
        """For every aggregator (rows, steps): what its power adds to the rows."""
        lot = self._lot
        steps, rows, lines = np.arange(lot.steps), len(program.low), len(self._lines)
        limits = rows - len(self._reserves) - 2 * lines  # the first row of the lines; balances lie before
        homes = lot.tree.below[:, list(lot.aggregator_bus)]
        balances = np.arange(lot.steps, limits)
        found = []
        for a in range(lot.aggregators):
            mine = np.flatnonzero(homes[self._lines[:, 0], a])
            at = np.concatenate([balances, limits + 2 * mine, limits + 2 * mine + 1])
            step = np.concatenate([np.resize(steps, len(balances)), np.tile(self._lines[mine, 1], 2)])
            sign = np.where(np.arange(len(at)) < len(balances), -1.0, 1.0)
            found.append(csr_matrix((sign, (at, step)), (rows, lot.steps)))
        return found

    def largest_cost(self) -> float:
        """A cost that no plan of the utility exceeds [$]."""
        return float(np.abs(self._program.cost) @ self._program.upper)

    def propose(self, profiles: Floats, prices: Floats, penalty: float) -> tuple[Floats, Floats]:
        """The profiles that the utility wants, and the multipliers of its rows.

        Least  cost + sum of penalty / 2 |wanted - profiles - prices / penalty|^2, with pieces of the generator's cost
        near its last power only: a larger move takes more rounds.

        Args:
            profiles: (aggregators, steps) last offers [kW].
            prices: (aggregators, steps) of power [$/kW].
            penalty: [$/kW^2].

        Raises:
            SolverError: if Clarabel finds no answer.
        """
        p = self._program
        columns, full = self._window()
        base = p.matrix[:, full] @ p.upper[full]
        held = np.arange(len(p.low)) < len(p.low) - len(self._reserves)  # reserve is for mixtures
        up, low = np.isfinite(p.up) & held, np.isfinite(p.low) & held
        matrix = hstack([p.matrix[:, columns], *self._effect], format="csr")
        right = np.concatenate([(p.up - base)[up], -(p.low - base)[low]])
        free = np.full(profiles.size, np.inf)
        centre = (profiles + prices / penalty).ravel()
        program = ConicProgram(
            np.concatenate([-p.cost[columns] / penalty, -centre]),
            np.concatenate([np.zeros(len(columns)), np.ones(profiles.size)]),
            vstack([matrix[up], -matrix[low]], format="csr"),
            right,
            0,
            len(right),
            [],
        )
        lower, upper = np.concatenate([p.lower[columns], -free]), np.concatenate([p.upper[columns], free])
        for attempt in (1, 0, 2):
            found = program.solve(lower, upper, np.isfinite(upper), attempt)
            if found.status in ("Solved", "AlmostSolved"):
                break
        else:
            raise SolverError(f"status of Clarabel = {found.status}; allowed: Solved, AlmostSolved")
        dual = np.zeros(len(p.low))
        count = int(up.sum())
        dual[up] += penalty * found.dual[:count]
        dual[low] -= penalty * found.dual[count:]
        point = np.zeros(len(p.cost))
        point[full], point[columns] = p.upper[full], found.point[: len(columns)]
        self._gas_kw = point[p.gas].sum(axis=1)
        return found.point[len(columns) :].reshape(profiles.shape), rounded(dual)

    def _window(self) -> tuple[Ints, Ints]:
        """Columns to decide on, and pieces of the generator's cost below them."""
        gas = self._program.gas
        pieces = np.arange(gas.shape[1])
        if self._gas_kw is None:
            first, last = np.zeros((len(gas), 1)), np.full((len(gas), 1), len(pieces))
        else:
            at = np.floor(self._gas_kw * len(pieces) / self._lot.gas_max_kw)[:, None]
            first, last = at - _REACH, at + _REACH
        near = (pieces >= first) & (pieces <= last)
        return np.concatenate([gas[near], self._program.wind]), gas[pieces < first]

    def prices(self, dual: Floats) -> Floats:
        """(aggregators, steps) prices of power that multipliers of the rows mean [$/kW]."""
        return np.stack([effect.T @ dual for effect in self._effect])

    def lower_limit(self, dual: Floats) -> float:
        """Proven lower limit on the utility's cost less what aggregators pay at ``prices(dual)`` [$]."""
        p = self._program
        return -linear_bound(p.cost, p.matrix, p.low, p.up, p.lower, p.upper, dual)

    def proof(self, dual: Floats) -> Proof:
        """Multipliers without those of reserve rows, which are zero."""
        return Proof(dual[: len(dual) - len(self._reserves)], self._lines)

    def mix(self, offers: list[list[Offer]], spares: Callable[[int, Ints], Floats]) -> tuple[Mixture | None, int]:
        """The cheapest mixture that keeps all limits; None if there is none. Rows come as mixtures show their need.

        Args:
            offers: by aggregator.
            spares: of an aggregator and steps, (offers, steps) spare powers [kW].

        Returns:
            The mixture, and how many spare powers were asked for.
        """
        asked = 0
        while True:
            ready = [spares(a, self._reserves) if len(self._reserves) else None for a in range(len(offers))]
            asked += sum(one.size for one in ready if one is not None)
            try:
                point, value = self._mixed(offers, ready)
            except SolverError:  # whatever its status: no mixture, and nothing is claimed from that
                return None, asked
            gas = np.clip(point[self._program.gas].sum(axis=1), 0.0, self._lot.gas_max_kw)
            cuts = np.cumsum([len(mine) for mine in offers])[:-1]
            weights = [np.maximum(part, 0.0) for part in np.split(point[len(self._program.cost) :], cuts)]
            weights = [part / part.sum() for part in weights]
            if not self._extend(gas, offers, weights):
                return Mixture(value, gas, weights), asked

    def _mixed(self, offers: list[list[Offer]], ready: list[Floats | None]) -> tuple[Floats, float]:
        p, homes = self._program, len(offers)
        highs = LinearProgram(p.cost, p.lower, p.upper)
        costs = np.array([-offer.cost_usd for mine in offers for offer in mine])
        highs.add_columns(costs, np.zeros(len(costs)), np.ones(len(costs)))
        blocks = []
        for mine, effect, spare in zip(offers, self._effect, ready, strict=True):
            block = effect @ np.stack([offer.power_kw for offer in mine], axis=1)
            if spare is not None:
                block[len(block) - len(self._reserves) :] -= spare.T
            blocks.append(csr_matrix(block))
        once = csr_matrix(np.repeat(np.eye(homes), [len(mine) for mine in offers], axis=1))
        nothing = csr_matrix((homes, len(p.cost)))
        matrix = vstack([hstack([p.matrix, *blocks]), hstack([nothing, once])], format="csr")
        ones = np.ones(homes)
        highs.add_matrix(np.concatenate([p.low, ones]), np.concatenate([p.up, ones]), matrix)
        found = highs.solve()
        return found.point, -found.objective

    def _extend(self, gas: Floats, offers: list[list[Offer]], weights: list[Floats]) -> bool:
        """Add rows for lines and reserve that a mixture exceeds; False if it exceeds none."""
        lot, day = self._lot, self._task.day
        power = [w @ np.stack([one.power_kw for one in mine]) for w, mine in zip(weights, offers, strict=True)]
        loaded = self._task._replace(day=day._replace(load_kw=day.load_kw + np.stack(power, axis=1)))
        found = measure(lot, loaded, Plan(gas, np.zeros((lot.steps, 0))))
        over = np.abs(found.flow_kw) + found.spare_kw - np.array(lot.line_limit_kw)
        known = {tuple(pair) for pair in self._lines.tolist()}
        pairs = [(line, step) for step, line in np.argwhere(over > FEASIBLE).tolist() if (line, step) not in known]
        short = lot.reserve_share * day.load_kw.sum(axis=1) - (lot.gas_max_kw - gas)
        steps = np.setdiff1d(np.flatnonzero(short > FEASIBLE), self._reserves)
        if not (pairs or len(steps)):
            return False
        self._lines = np.concatenate([self._lines, np.array(pairs, np.int64).reshape(-1, 2)])
        self._reserves = np.concatenate([self._reserves, steps])
        self._rebuild()
        return True
