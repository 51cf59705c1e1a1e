"""Period by period, how far a policy is from a certified bound: recomputed from evidence, without a solver.

A bound's certificate holds what proves it: multipliers, tables, trees. ``scored`` turns it into the bound of every
period and, where the bound has a penalty z (mean zero for every policy, see certificates of penalised bounds), into
z of what the policy did. The gap of a period is bound - (return - z): never negative where the bound holds in every
period, and on average what the best policy may earn more, at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import unpack
from baselines.checking import expect
from v2g_env.rollout import Episodes

__all__ = ["KINDS", "Played", "Scores", "scored", "units_of"]

Floats = NDArray[np.float64]
Data = Mapping[str, Any]


class Played(NamedTuple):
    """A policy's episodes and where they were played.

    Attributes:
        model: the problem's model.
        scenario: the drawn episodes.
        seed: of the scenarios.
        episodes: what the policy did.
    """

    model: Any
    scenario: Any
    seed: int
    episodes: Episodes


class Scores(NamedTuple):
    """m periods (days, weeks, seasons).

    Attributes:
        returns: (m,) [$].
        bound: (m,) proven upper limit of return - z, or of its mean alone [$]; None without a certificate.
        gap: (m,) bound - (return - z) [$]; None without a bound.
        units: (m,) label of the independent unit, None if every period is one.
        penalised: whether z is more than zero.
    """

    returns: Floats
    bound: Floats | None
    gap: Floats | None
    units: NDArray[np.int64] | None
    penalised: bool


class _Kind(NamedTuple):
    """How a kind of bound is read: the bound and z of every period, and whether it holds in every single one."""

    read: Callable[[Played, Data], tuple[Floats, Floats | None]]
    pathwise: bool = True


def scored(problem: str, played: Played, certificate: Data | None) -> Scores:
    """Returns, bounds and gaps of what a policy did.

    Args:
        problem: name of the problem's package.
        played: by the policy.
        certificate: of the bound, which has been checked; None: there is none.

    Raises:
        CertificateError: for a kind of bound that is not known here, and a negative gap where none can be.
    """
    episodes = played.episodes
    months = problem == "stackelberg"  # an episode is a month there, and a period a day
    returns = episodes.rewards.ravel() if months else episodes.returns
    units = units_of(problem, played)
    if certificate is None:
        return Scores(returns, None, None, units, False)
    kind = certificate.get("kind")
    known = isinstance(kind, str) and kind in KINDS
    expect(known, "kind of the bound", kind, ", ".join(KINDS))
    bound, penalty = KINDS[str(kind)].read(played, certificate)
    expect(bound.shape == returns.shape, "periods of the bound", bound.shape, returns.shape)
    gap = bound - returns if penalty is None else bound - (returns - penalty)
    least = float(gap.min(initial=np.inf))
    if KINDS[str(kind)].pathwise:
        expect(least >= -1e-9, "least gap", least, "not negative in any period (weak duality)")
    return Scores(returns, bound, gap, units, penalty is not None)


def units_of(problem: str, played: Played) -> NDArray[np.int64] | None:
    """(m,) label of the independent unit of every period: real day or month; None if every period is one."""
    if problem == "parking_lot" and played.model.law.replay:
        return np.asarray(played.scenario.day, np.int64)
    if problem == "stackelberg":
        months, days = played.scenario.weekend.shape
        return np.repeat(np.arange(months), days)
    return None


def _lot_hindsight(played: Played, certificate: Data) -> tuple[Floats, None]:
    from baselines.parking_lot.samples import reachable, true_market
    from baselines.parking_lot.storage import bound

    lot, days = played.model.instance, played.scenario
    return bound(lot, true_market(lot, days), reachable(lot, days), None, unpack(certificate["multiplier"])), None


def _lot_penalised(played: Played, certificate: Data) -> tuple[Floats, Floats]:
    from baselines.parking_lot.penalty import Penalty, days_for, penalty_of
    from v2g_env.parking_lot.model import Model

    own = played.model
    widest = np.asarray(certificate["plan_kwh"], np.float64)
    expect(bool((widest >= own.plan_kwh).all()), "plan_kwh of the bound", "below the policy's", "at least as high")
    model, penalty = Model(own.instance, own.law, widest), Penalty.from_dict(certificate["penalty"])
    days = days_for(model, len(played.scenario.day), played.seed, penalty)
    # the check has recomputed every day's bound and compared
    return unpack(certificate["bound_usd"]), penalty_of(model, days, played.episodes, penalty)


def _week_hindsight(played: Played, certificate: Data) -> tuple[Floats, None]:
    from baselines.shared_battery.hindsight import hindsight

    return hindsight(played.model, played.scenario, certificate["grid"] or 1).bound_usd, None


def _week_penalised(played: Played, certificate: Data) -> tuple[Floats, Floats]:
    from baselines.shared_battery.penalty import penalised, penalty_of
    from baselines.shared_battery.penalty_critic import WeekCritic
    from baselines.shared_battery.penalty_law import week_shocks

    model, weeks, lot, given = played.model, played.scenario, played.model.instance, certificate["critic"]
    worth, tilt, traits = (unpack(given[name]) for name in ("worth_usd", "tilt_usd", "traits"))
    critic = WeekCritic(worth, tilt, traits, given["scale"])
    shock = week_shocks(lot, len(played.episodes.money), played.seed) if lot.correlation > 0.0 else None
    sizes = (certificate["grid"], certificate["classes"], shock)
    bound = penalised(model, weeks, critic, *sizes).bound_usd
    return bound, penalty_of(model, weeks, played.episodes.actions, critic, *sizes)


def _season_bound(played: Played, certificate: Data) -> tuple[Floats, None]:
    return np.full(len(played.episodes.money), float(certificate["mean_bound_usd"])), None


def _chain_optimum(played: Played, certificate: Data) -> tuple[Floats, None]:
    own = certificate["law"] is None and certificate["ambiguity"] is None
    expect(own, "bound", "of another law, or robust", "the optimum of the instance's own chain")
    return np.full(len(played.episodes.money), float(certificate["value_usd"])), None


def _network_hindsight(played: Played, certificate: Data) -> tuple[Floats, None]:
    from baselines.duality import linear_bound
    from baselines.scheduling.day import Protection, known_day
    from baselines.scheduling.program import Task, build

    model, lot = played.model, played.model.instance
    label, lines, dual = (unpack(certificate[name]) for name in ("groups", "lines", "dual"))
    found, at = [], 0
    for row in range(len(label)):
        task = Task(known_day(model, played.scenario, row), Protection(), "cost", True, model.gas_scale)
        program = build(lot, task, label[row], lines[lines[:, 0] == row][:, 1:], np.zeros(0, np.int64))
        count = len(program.low)
        parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
        found.append(lot.calibrated_usd + linear_bound(*parts, dual[at : at + count]))
        at += count
    return np.array(found), None


def _network_penalised(played: Played, certificate: Data) -> tuple[Floats, Floats]:
    from baselines.scheduling.day import Protection, known_day
    from baselines.scheduling.penalty import Penalty, penalty_of, prices
    from baselines.scheduling.penalty_bound import bound_of, priced
    from baselines.scheduling.program import Task

    model, days, penalty = played.model, played.scenario, Penalty.from_dict(certificate["penalty"])
    label, lines, dual = (unpack(certificate[name]) for name in ("groups", "lines", "dual"))
    found, at = [], 0
    for row in range(len(label)):
        task = Task(known_day(model, days, row), Protection(), "cost", True, model.gas_scale)
        rows = lines[lines[:, 0] == row][:, 1:]
        program, constant = priced(model.instance, task, label[row], rows, prices(model, days, row, penalty))
        count = len(program.low)
        found.append(bound_of(model.instance, program, constant, dual[at : at + count]))
        at += count
    return np.array(found), penalty_of(model, days, played.episodes, penalty)


def _month_bound(played: Played, certificate: Data) -> tuple[Floats, Floats]:
    from baselines.stackelberg.days import Days
    from baselines.stackelberg.online import penalty_of

    model, months = played.model, played.scenario
    days = Days(model)
    kind = days.kind(months.weekend.ravel() > 0, months.plug.ravel())
    proven = np.array([entry["bound_usd"] for entry in certificate["days"]], np.float64)
    bound = proven - days.reference(kind, months.price.reshape(-1, 24))
    return bound, penalty_of(model, months, played.episodes.actions).ravel()


KINDS: dict[str, _Kind] = {
    "hindsight bound": _Kind(_lot_hindsight),
    "penalised bound": _Kind(_lot_penalised),
    "week hindsight bound": _Kind(_week_hindsight),
    "week penalised bound": _Kind(_week_penalised),
    "season bound": _Kind(_season_bound, pathwise=False),
    "price chain values": _Kind(_chain_optimum, pathwise=False),
    "days bound": _Kind(_network_hindsight),
    "penalised days bound": _Kind(_network_penalised),
    "online bound": _Kind(_month_bound),
}
