"""Aggregators and the utility agree on a day by messages: ADMM, with a plan and a proven bound on the way.

The utility has the generator, the wind and the lines; every aggregator has its cars, and nobody else sees them. Round
by round the utility names each aggregator a wanted power profile, the aggregator answers with a profile of its cars
near it, and prices rise where the answers take more than the utility would give: the alternating direction method of
multipliers in consensus form (Boyd et al., Foundations and Trends in Machine Learning 2011, section 7).

At a check the aggregators also answer the prices alone, by the profile that is best for them. What all save together
is a Lagrangian bound: no plan costs less. The cheapest mixture of the profiles sent so far is a plan (Dantzig-Wolfe),
for a mixture of what cars can do is something that they can do. Spinning reserve has no price here: plans keep it, the
bound does not know of it, and a day on which it makes cars do something else ends with a gap, or without a plan.

Only ``coordinate`` itself, as the referee, puts the cars' powers together: for the measured plan and its certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.duality import linear_bound
from baselines.scheduling.day import Day, Protection, check_day
from baselines.scheduling.distributed_parties import Aggregator, Mixture, Offer, Utility
from baselines.scheduling.linear import Answer, certify, optimise
from baselines.scheduling.plan import FEASIBLE, Measured, Plan, measure
from baselines.scheduling.program import Task, build
from baselines.solve import SolverError
from v2g_env.core.validate import number, require
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import gas_scale

__all__ = ["Coordination", "Round", "coordinate"]

Floats = NDArray[np.float64]
Silent = Callable[[int], Collection[int]]

_CHECK = 5  # rounds between checks
_GONE = 30  # rounds of silence after which the others settle without an aggregator
_KEPT = 40  # latest offers that mixtures draw on, beside those in use
_BALANCE = 3.0  # ratio of residuals beyond which the penalty changes
_BALANCE_ROUNDS = 10
_PATIENCE, _AGREED = 100, 1e-4  # rounds, and residuals, after which no plan will come if there is none yet


class Round(NamedTuple):
    """One round.

    Attributes:
        number: from 0.
        primal, dual: residuals of the agreement, relative to the profiles and to the prices.
        penalty: rho of the round [$/kW^2].
        value, bound: cost of the best plan and proven lower limit so far [$]; infinite while there is none.
        gap: (value - bound) / max(|bound|, 1).
        messages: numbers sent so far, both ways.
        silent: aggregators that did not answer.
    """

    number: int
    primal: float
    dual: float
    penalty: float
    value: float
    bound: float
    gap: float
    messages: int
    silent: tuple[int, ...]


class Coordination(NamedTuple):
    """What was agreed on.

    Attributes:
        plan: powers of the generator and of every car.
        value: cost [$], as ``plan.measure`` finds it.
        bound: proven lower limit on the cost of any plan in which the ``frozen`` aggregators keep their last profile.
        history: a row per round.
        frozen: aggregators silent for 30 rounds at the last check, or at the only one.
        certificate: of kind "schedule", for ``baselines.certificate.check``; None if some aggregators were frozen.
    """

    plan: Plan
    value: float
    bound: float
    history: tuple[Round, ...]
    frozen: tuple[int, ...]
    certificate: dict[str, Any] | None


def coordinate(
    instance: Instance,
    day: Day,
    protection: Protection | None = None,
    *,
    rounds: int = 500,
    gap: float = 1e-4,
    silent: Silent | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Coordination:
    """Let aggregators and the utility find the cheapest plan of a day without showing each other their data.

    Limits hold as in ``linear.solve`` (not ``soft``). A silent aggregator keeps its last profile, at first that of
    charging at once; checks wait until all are heard, but not for those that were silent for 30 rounds.

    Args:
        instance: the problem.
        day: means, half-widths, cars.
        protection: the set; None protects against nothing.
        rounds: at most.
        gap: proven relative gap at which to stop.
        silent: which aggregators do not answer in a round.
        say: receives a line per check.

    Raises:
        InvalidInputError: for bad data, and if no plan exists, as ``linear.solve``.
        SolverError: if no plan was found, or none that a plan's measure accepts; that proves nothing about the day.
    """
    number("rounds", rounds, 1, 1_000_000, integer=True)
    number("gap", gap, 0.0, 1.0, open_low=True)
    require(silent is None or callable(silent), "silent", silent, "None, or a function of the round")
    chosen = Protection() if protection is None else protection
    chosen.check(instance)
    task = Task(check_day(instance, day), chosen, "cost", False, gas_scale(instance))
    talk = _Talk(instance, task)
    for k in range(rounds):
        quiet = _silent(instance, silent, k)
        if not talk.exchange(quiet):
            break
        checked = k % _CHECK == _CHECK - 1 or talk.due or k == rounds - 1
        if checked:
            talk.check(k == rounds - 1)
        row = talk.record(k, quiet)
        if checked:
            say(f"round {k}: bound {row.bound:.4f}, value {row.value:.4f}, gap {row.gap:.1e}, {row.messages} numbers")
        if talk.hopeless or row.gap <= gap:
            break
    return talk.settle(instance, task)


def _silent(instance: Instance, silent: Silent | None, k: int) -> frozenset[int]:
    found = () if silent is None else silent(k)
    require(isinstance(found, Collection), f"silent in round {k}", found, "a collection of aggregators")
    for one in found:
        number("silent aggregator", one, 0, instance.aggregators - 1, integer=True)
    return frozenset(int(one) for one in found)


class _Talk:
    """Who said what: the state of the exchange."""

    def __init__(self, instance: Instance, task: Task) -> None:
        lot, day = instance, task.day
        there = day.arrive < day.depart
        homes = range(lot.aggregators)
        self.parties = [Aggregator(lot, day, np.flatnonzero(there & (lot.owner == a))) for a in homes]
        self.utility = Utility(lot.replace(cars=0), task._replace(day=_public(day)))
        first = [party.begin() for party in self.parties]
        self.last: list[Offer] = [offer for offer, _ in first]
        self.offers: list[list[Offer]] = [[offer] for offer in self.last]
        self.ceiling = self.utility.largest_cost() + sum(top for _, top in first)
        self.prices = np.zeros((lot.aggregators, lot.steps))
        slope = lot.gas_quadratic + lot.gas_linear / lot.gas_max_kw
        self.penalty = max(2.0 * task.gas_scale * lot.step_h * slope, 1e-7)
        self.missed = np.zeros(lot.aggregators, np.int64)
        self.messages = lot.aggregators * (lot.steps + 2)
        self.residuals = (np.inf, np.inf)
        self.dual = np.zeros(0)
        self.due, self.hopeless = False, False
        self.frozen: tuple[int, ...] = ()
        self.mixture: Mixture | None = None
        self.bound, self.proof = -np.inf, self.utility.proof(self.dual)
        self.multipliers: list[Floats] = []
        self.history: list[Round] = []

    def exchange(self, quiet: frozenset[int]) -> bool:
        """One round of ADMM; False if the utility cannot keep its own limits whatever the cars do."""
        before = np.stack([offer.power_kw for offer in self.last])
        try:
            wanted, self.dual = self.utility.propose(before, self.prices, self.penalty)
        except SolverError:
            self.hopeless = True
            return False
        self.prices = self.prices + self.penalty * (before - wanted)
        for a, party in enumerate(self.parties):
            self.missed[a] = self.missed[a] + 1 if a in quiet else 0
            if a not in quiet:
                self.last[a] = party.follow(wanted[a] - self.prices[a] / self.penalty, self.penalty)
                self.offers[a].append(self.last[a])
                self.messages += 2 * len(self.prices[a]) + 2
        after = np.stack([offer.power_kw for offer in self.last])
        size = max(_norm(after), _norm(wanted), 1.0)
        moved = self.penalty * _norm(after - before) / max(_norm(self.prices), 1e-9)
        self.residuals = (_norm(after - wanted) / size, moved)
        return True

    def check(self, final: bool) -> None:
        """Bound at the current prices and best mixture, if everybody is heard who is not given up."""
        away = np.flatnonzero(self.missed > 0)
        needed = final and self.mixture is None  # better a plan with some frozen than none
        self.due = not needed and bool((self.missed[away] < _GONE).any())
        if self.due:
            return
        if tuple(away.tolist()) != self.frozen:  # plans and bounds with other cars frozen are of another problem
            self.frozen, self.bound, self.mixture = tuple(away.tolist()), -np.inf, None
        self._lower_limit()
        given = [[self.last[a]] if a in self.frozen else offers for a, offers in enumerate(self.offers)]
        mixture, asked = self.utility.mix(given, self._spares)
        self.messages += asked
        if mixture is not None:
            self.mixture = mixture
            for a, party in enumerate(self.parties):
                if a not in self.frozen:
                    self.messages += len(mixture.weights[a])
                    party.settle(mixture.weights[a])
                    kept = party.forget(_KEPT)
                    self.offers[a] = [self.offers[a][i] for i in kept.tolist()]
        agreed = len(self.history) >= _PATIENCE and max(self.residuals) < _AGREED
        self.hopeless = self.bound > self.ceiling or (self.mixture is None and agreed)

    def _lower_limit(self) -> None:
        prices = self.utility.prices(self.dual)
        total = self.utility.lower_limit(self.dual)
        multipliers = []
        for a, party in enumerate(self.parties):
            if a in self.frozen:
                total += self.last[a].cost_usd + float(prices[a] @ self.last[a].power_kw)
                continue
            offer, least, mu = party.respond(prices[a])
            self.offers[a].append(offer)
            self.messages += 2 * len(prices[a]) + 2
            multipliers.append(mu)
            total += least
        if total > self.bound:
            self.bound, self.multipliers, self.proof = total, multipliers, self.utility.proof(self.dual)

    def _spares(self, a: int, steps: NDArray[np.int64]) -> Floats:
        if a in self.frozen:
            return np.zeros((1, len(steps)))  # nothing is promised by those who are away
        return self.parties[a].spares(steps)

    def record(self, k: int, quiet: frozenset[int]) -> Round:
        """Add a row, and balance the residuals: the penalty grows while parties disagree, falls while prices hunt."""
        value = np.inf if self.mixture is None else self.mixture.value_usd
        gap = (value - self.bound) / max(abs(self.bound), 1.0) if np.isfinite(value - self.bound) else np.inf
        primal, dual = self.residuals
        row = Round(k, primal, dual, self.penalty, value, self.bound, gap, self.messages, tuple(sorted(quiet)))
        self.history.append(row)
        if k % _BALANCE_ROUNDS == _BALANCE_ROUNDS - 1:
            self.penalty *= 2.0 if primal > _BALANCE * dual else 0.5 if dual > _BALANCE * primal else 1.0
        return row

    def settle(self, instance: Instance, task: Task) -> Coordination:
        """The plan, measured, and its certificate."""
        if self.mixture is None:
            if not self.frozen:
                optimise(instance, task)  # names the reason if there is no plan
            count = len(self.history)
            raise SolverError(
                f"plan = none after {count} rounds; allowed: more rounds, fewer silent ones, less reserve"
            )
        cars = np.zeros((instance.steps, instance.cars))
        for a, party in enumerate(self.parties):
            cars[:, party.cars] = party.power(a in self.frozen)
        plan = Plan(self.mixture.gas_kw, cars)
        found = measure(instance, task, plan)
        worst = max(found.off, key=lambda name: found.off[name])
        if found.off[worst] > FEASIBLE:
            raise SolverError(f"limit of {worst} exceeded by {found.off[worst]:.2e}; allowed: {FEASIBLE:g}")
        certificate = None if self.frozen else certify(instance, self._answer(instance, task, plan, found))
        bound = self.bound if certificate is None else float(certificate["bound"])
        return Coordination(plan, found.value, bound, tuple(self.history), self.frozen, certificate)

    def _answer(self, instance: Instance, task: Task, plan: Plan, found: Measured) -> Answer:
        """Multipliers in the order of the central program's rows, with every car a group of its own."""
        day = task.day
        came = np.flatnonzero(day.arrive < day.depart)
        label = np.full(instance.cars, -1)
        label[came] = np.arange(len(came))
        price = np.zeros((instance.steps, instance.cars))
        for party, mu in zip(self.parties, self.multipliers, strict=True):
            price[:, party.cars] = mu
        energy = [price[day.arrive[j] : day.depart[j], j] for j in came]
        ramps, rest = np.split(self.proof.dual, [instance.steps])
        dual = np.concatenate([ramps, *energy, rest])
        none = np.zeros(0, np.int64)
        lines = self.proof.lines
        p = build(instance, task, label, lines, none)
        bound = -linear_bound(p.cost, p.matrix, p.low, p.up, p.lower, p.upper, dual)
        return Answer(task, plan, found, bound, label, lines, none, dual)


def _public(day: Day) -> Day:
    """The day without its cars."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return day._replace(arrive=none, depart=none, start_kwh=nothing, target_kwh=nothing)


def _norm(values: Floats) -> float:
    return float(np.linalg.norm(values))
