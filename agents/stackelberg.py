"""The Stackelberg game's comparison: schedules, local search, exact optimum and agents on the same months."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.boards import Board, score
from agents.compare import (
    Comparison,
    Contestant,
    Outcome,
    Result,
    TestSet,
    check_roles,
    read_config,
    write_results,
)
from agents.trained import trained_agents
from baselines.stackelberg.days import DaySolver
from baselines.stackelberg.online import Bound, OnlineSolver, online_bound, penalty_of
from baselines.stackelberg.policies import (
    CertifiedOptimum,
    CoordinateSearch,
    NoRebates,
    StaticByType,
    StaticRebates,
    tune_by_type,
    tune_static,
)
from baselines.stackelberg.programs import Solution
from baselines.stackelberg.verify_online import bound_certificate
from baselines.stackelberg.verify_policy import count_violations, policy_certificate
from v2g_env.core.validate import number
from v2g_env.rollout import Episodes
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import REWARD_TERMS, Model
from v2g_env.stackelberg.scenario import Scenario, sample

__all__ = ["BOARDS", "OPTIMUM", "CompareConfig", "board", "run", "world"]

OPTIMUM = "certified optimum"  # the policy that agents are set against
BOARDS = {"V2G/Stackelberg-v0": 300}  # environments, and days of an evaluation: whole months
_SECONDS = 1.0  # of an evaluation, to solve a day


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        gap: proven gap that the solver tries to reach on every day.
        seconds_per_day: what is not solved by then keeps the gap proven so far [s].
        beta: confidence parameter of the violation limits.
        train_months, test_months: for tuning schedules, and for the comparison.
        certified_days: first days of the test set whose solutions are written as certificates, besides the day with
            the largest gain.
        certified_months: first months of the test set whose bound is written as a certificate; some tenths of a second
            for a day.
        agents: shipped training configurations to be trained and compared.
        train_steps: steps of training of each agent, in the order of ``agents``.
        seeds: of the tuning months, the test months, and of training.
    """

    instance: Mapping[str, Any] = field(default_factory=dict)
    gap: float = 1e-4
    seconds_per_day: float = 1.0
    beta: float = 1e-5
    train_months: int = 20
    test_months: int = 10
    certified_days: int = 3
    certified_months: int = 1
    agents: tuple[str, ...] = ("stackelberg_ppo",)
    train_steps: tuple[int, ...] = (600_000,)
    seeds: tuple[int, int, int] = (2, 3, 0)

    def __post_init__(self) -> None:
        """Check every field."""
        number("gap", self.gap, 0.0, 1.0, open_low=True)
        number("seconds_per_day", self.seconds_per_day, 0.0, 1e6, open_low=True)
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        for name in ("train_months", "test_months"):
            number(name, getattr(self, name), 1, 10**5, integer=True)
        number("certified_days", self.certified_days, 0, 10**5, integer=True)
        number("certified_months", self.certified_months, 0, self.test_months, integer=True)
        check_roles(self.seeds, 3, self.agents, self.train_steps)
        Instance.from_dict(self.instance)

    @classmethod
    def quick(cls) -> CompareConfig:
        """Small sizes for a first look; the figures are rough."""
        return cls(seconds_per_day=0.2, train_months=5, test_months=3, certified_days=1, train_steps=(150_000,))

    @classmethod
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def world(env_id: str, instance: Mapping[str, Any], law_name: str, days: int, seed: int) -> tuple[Model, Scenario]:
    """Model and months of a board, without its bound; days are rounded up to whole months; see agents.boards."""
    model = Model(Instance.from_dict(instance), law_name)
    return model, sample(model.instance, -(-days // model.instance.days), seed)


def board(
    env_id: str,
    instance: Mapping[str, Any],
    law_name: str,
    days: int,
    seed: int,
    beta: float,
    title: str = "fresh days",
    solver: OnlineSolver | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """Days, rounded up to whole months, that all policies share, with their bounds; see agents.boards.board_of."""
    model, scenario = world(env_id, instance, law_name, days, seed)
    solver = solver or OnlineSolver(model.instance, time_limit_s=_SECONDS)
    say(f"solving {scenario.weekend.size} days, at most {solver.time_limit_s:g} s each")
    top = online_bound(model.instance, scenario, progress=say, solver=solver)
    return _board(model, scenario, seed, beta, title, top)


def _board(model: Model, scenario: Scenario, seed: int, beta: float, title: str, top: Bound) -> Board:
    lot = model.instance
    months = len(scenario.first_day)

    def outcome(episodes: Episodes) -> Outcome:
        kept = count_violations(model, episodes, beta)
        shortfall = float(episodes.shortfall_kwh.mean() / lot.days)
        return Outcome(episodes.rewards.ravel(), kept.violated, kept.trials, kept.eps, shortfall)

    population = lot.response == "population"
    test = TestSet(
        title=title,
        size=f"{months * lot.days} days in {months} months",
        model=model,
        with_plan=lambda plan: model,
        scenario=scenario,
        seed=seed,
        bound=top.bound_usd.ravel(),
        units=np.repeat(np.arange(months), lot.days),
        beta=beta,
        outcome=outcome,
        terms=REWARD_TERMS,
        trial="days" if population else ("hours" if lot.periods == 24 else "periods"),
        days=lot.days,
        control=lambda episodes: penalty_of(model, scenario, episodes.actions).ravel(),
    )

    def certify(contestant: Contestant, result: Result) -> dict[str, Any]:
        return policy_certificate(model, seed, result.episodes, contestant.name, beta, contestant.sha256)

    return Board(test, None, certify)


def run(config: CompareConfig, out: Path, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Tune, train, solve, evaluate, certify; everything lands under ``out``.

    A second run with the same configuration takes the trained agents from there; an interrupted training continues.

    Args:
        config: what to compare.
        out: results folder, made if missing.
        say: receives a line per stage.

    Raises:
        InvalidInputError: for an instance without a bound (habits).
    """
    lot = Instance.from_dict(config.instance)
    model = Model(lot)
    scenario = sample(lot, config.test_months, config.seeds[1])
    solver = OnlineSolver(lot, config.gap, config.seconds_per_day)
    say(f"solving {config.test_months * lot.days} days, at most {config.seconds_per_day:g} s each")
    top = online_bound(lot, scenario, progress=say, solver=solver)
    made = _board(model, scenario, config.seeds[1], config.beta, "Generated days", top)
    test = made.test
    say("tuning fixed schedules on training months")
    tuning = sample(lot, config.train_months, config.seeds[0])
    static, by_type = tune_static(model, tuning), tune_by_type(model, tuning)
    # certified bids promise eta in every hour, whatever the rebates are; y(1-y) of the published variant does not
    promise = (lot.eta if lot.variant == "rigorous" else None, model.law.name)
    contestants = [
        Contestant("no rebates", "baseline", NoRebates, *promise),
        Contestant("static rebates", "baseline", lambda m: StaticRebates(m, static), *promise),
        Contestant("static by day type", "baseline", lambda m: StaticByType(m, *by_type), *promise),
        Contestant("coordinate search", "baseline", CoordinateSearch, *promise),
        Contestant(
            OPTIMUM,
            "baseline",
            lambda m: CertifiedOptimum(m, solver),
            *promise,
            # announced days were solved for the bound: what counts is the time that took
            decision_s=float(top.seconds.mean()) if lot.announced else None,
        ),
    ]
    contestants += trained_agents(
        config.agents,
        config.train_steps,
        config.seeds[2],
        config.instance,
        out,
        say,
        promised=promise[0],
        promised_law=promise[1],
    )
    results, certificates = score(made, contestants, say)
    plans = _certified(config, scenario, top, DaySolver(lot, config.gap, config.seconds_per_day), say)
    if config.certified_months:
        say(f"writing the certificate of the bound on {config.certified_months} months")
        certificates["bound"] = bound_certificate(solver, config.seeds[1], config.certified_months)
    certificates |= {name: plan.certificate for name, plan in plans.items()}
    meta = {
        "problem": "stackelberg",
        "config": asdict(config),
        "instance_sha256": lot.hash,
        "units": "$/day above no rebates; energies in kWh",
        "bound_usd": {test.title: float(top.bound_usd.mean())},
        "solved": _solved(config, top),
    }
    write_results(out, results, certificates, meta)
    return Comparison((test,), (results,), plans, meta, OPTIMUM)


def _certified(
    config: CompareConfig, scenario: Scenario, top: Bound, solver: DaySolver, say: Callable[[str], None]
) -> dict[str, Solution]:
    """Solutions of some days at their exact prices, by name."""
    days = list(np.ndindex(top.bound_usd.shape))[: config.certified_days]
    best = np.unravel_index(int(top.value_usd.argmax()), top.value_usd.shape)
    days.append((int(best[0]), int(best[1])))
    say(f"writing certificates of {len(set(days))} days and of all policies")
    plans = {}
    for i, d in dict.fromkeys(days):
        plug, weekend = int(scenario.plug[i, d]), bool(scenario.weekend[i, d])
        plans[f"rebates-month-{i + 1}-day-{d + 1}"] = solver(scenario.price[i, d], weekend, plug)
    return plans


def _solved(config: CompareConfig, top: Bound) -> dict[str, float]:
    """How far the solver came, for compare.json and the report."""
    return {
        "days": top.gap.size,
        "within_gap": int((top.search_gap <= config.gap).sum()),
        "largest_gap": float(top.gap.max()),
        "mean_gap_usd": float((top.bound_usd - top.value_usd).mean()),
        "median_s": float(np.median(top.seconds)),
        "largest_s": float(top.seconds.max()),
        "median_nodes": float(np.median(top.nodes)),
    }
