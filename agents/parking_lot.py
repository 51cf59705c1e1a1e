"""The parking lot's comparison: plans, control, heuristics and agents on generated and on held-out real days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from agents.config import load
from agents.parking_lot_bounds import ceiling
from agents.trained import trained_agents
from baselines import risk
from baselines.certificate import FORMAT, pack
from baselines.parking_lot.critic_policy import CriticControl, fit_critic_control
from baselines.parking_lot.hindsight import Hindsight
from baselines.parking_lot.penalty_default import covered
from baselines.parking_lot.policies import (
    ChargeWhenCheap,
    DoNothing,
    LeastLaxity,
    PlanReplay,
    PredictiveControl,
    tune_quantile,
)
from baselines.parking_lot.programs import Solution, solve
from v2g_env.core.validate import number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import Scenario, law, sample
from v2g_env.rollout import Episodes, rollout

__all__ = ["BOARDS", "CONTROL", "CompareConfig", "board", "run", "world"]

BOARDS = {"V2G/ParkingLot-v0": 2000}  # environments, and days of an evaluation
CONTROL = "predictive control"  # the policy that agents are set against
_TITLES = {
    "parking_lot_imitation_ppo": "PPO after imitation",
    "parking_lot_residual_ppo": "PPO on critic control",
}  # of agents that their algorithm does not tell apart


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        n_samples: samples of the scenario programs.
        beta: confidence parameter of certificates and violation limits.
        rho: prices of violation [$] tried for the relaxed plan; the best on the training days competes.
        train_days, test_days: generated days for tuning, and for the comparison.
        redraws: redraws (caps, offers) of every held-out real day.
        agents: shipped training configurations to be trained and compared.
        train_steps: steps of training of each agent, in the order of ``agents``.
        seeds: of the programs, the tuning days, the generated and the real test days, and of training.
    """

    instance: Mapping[str, Any] = field(default_factory=dict)
    n_samples: int = 5000
    beta: float = 1e-5
    rho: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001)
    train_days: int = 2000
    test_days: int = 2000
    redraws: int = 20
    agents: tuple[str, ...] = ("parking_lot_ppo", "parking_lot_imitation_ppo", "parking_lot_residual_ppo")
    train_steps: tuple[int, ...] = (1_200_000, 599_040, 499_200)
    seeds: tuple[int, int, int, int, int] = (1, 2, 3, 4, 0)

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("n_samples", "train_days", "test_days", "redraws"):
            number(name, getattr(self, name), 1, 10**7, integer=True)
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        require(len(self.rho) > 0, "rho", self.rho, "at least one price")
        for rho in self.rho:
            number("rho", rho, 0.0, 1e9, open_low=True)
        check_roles(self.seeds, 5, self.agents, self.train_steps)
        Instance.from_dict(self.instance)

    @classmethod
    def quick(cls) -> CompareConfig:
        """Small sizes for a first look; the figures are rough."""
        return cls(
            n_samples=2000,
            train_days=500,
            test_days=500,
            redraws=5,
            rho=(0.01, 0.003),
            train_steps=(332_800, 199_680, 99_840),
        )

    @classmethod
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def world(
    env_id: str, instance: Mapping[str, Any], law_name: str, days: int, seed: int, plan_kwh: Any = None
) -> tuple[Model, Scenario]:
    """Model and days of a board, without its bound; see agents.boards.board_of."""
    model = Model(Instance.from_dict(instance), law_name, plan_kwh)
    return model, sample(model.instance, model.law, days, seed)


def board(
    env_id: str,
    instance: Mapping[str, Any],
    law_name: str,
    days: int,
    seed: int,
    beta: float,
    plan_kwh: Any = None,
    title: str = "fresh days",
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """Days that all policies share, with the bound of each; see agents.boards.board_of."""
    model, scenario = world(env_id, instance, law_name, days, seed, plan_kwh)
    lot = model.instance
    say(f"bounds of {days} days")
    found = ceiling(model, scenario, seed)
    units = scenario.day.astype(np.int64) if model.law.replay else None
    single = first_of_each(units, days)

    def with_plan(other: Any) -> Model:
        if other is None:
            return model
        wide = Model(lot, model.law, other)
        if found.plan_kwh is not None:
            most = float(found.plan_kwh.min())
            require(bool((wide.plan_kwh <= found.plan_kwh).all()), "plan_kwh", other, f"what a lot can hold, {most:g}")
        return wide

    def outcome(episodes: Episodes) -> Outcome:
        bad = int((episodes.excess[single] > VIOLATION_TOLERANCE).sum())
        limit = float(risk.hold_out(len(single), bad, beta))
        return Outcome(episodes.returns, bad, len(single), limit, float(episodes.shortfall_kwh.mean()))

    size = f"{days} days" if days == len(single) else f"{days} redraws of {len(single)} days"
    test = TestSet(
        title,
        size,
        model,
        with_plan,
        scenario,
        seed,
        found.bound_usd,
        units,
        beta,
        outcome,
        REWARD_TERMS,
        bound_name=found.name,
        control=found.control,
        oracle=None if found.control is None else found.top.bound_usd,
    )

    def certify(contestant: Contestant, result: Result) -> dict[str, Any]:
        return _policy_certificate(contestant, test, result, found.top)

    return Board(test, found.certificate, certify)


def first_of_each(units: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """Index of one episode per independent unit, (units,): redraws of a day are no new evidence of violations."""
    if units is None:
        return np.arange(count)
    return np.sort(np.unique(units, return_index=True)[1])


def _best_relaxed(lot: Instance, config: CompareConfig, tuning: Any) -> tuple[float, Solution]:
    """Relaxed plan with the highest return on the tuning days; the looks share beta."""
    best: tuple[float, float, Solution] | None = None
    for rho in config.rho:
        plan = solve(
            lot, n_samples=config.n_samples, seed=config.seeds[0], beta=config.beta, rho=rho, looks=len(config.rho) + 1
        )
        model = Model(lot, "generator", plan.plan)
        earned = float(rollout(model, tuning, PlanReplay(model)).returns.mean())
        if best is None or earned > best[0]:
            best = (earned, rho, plan)
    assert best is not None
    return best[1], best[2]


def _policy_certificate(contestant: Contestant, test: TestSet, result: Result, top: Hindsight) -> dict[str, Any]:
    row = result.row
    plan = test.with_plan(contestant.plan).plan_kwh
    replay = test.units is not None
    single = first_of_each(test.units, row.days)
    bad = int((result.episodes.excess > VIOLATION_TOLERANCE).sum())
    found = {"beta": test.beta, "days": len(single), "violated": row.violated, "eps": row.limit}
    lot = test.model.instance
    return {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": "policy",
        "instance_sha256": lot.hash,
        "instance": lot.to_dict(),
        "sample": {"law": row.law, "seed": test.seed, "n_samples": row.days},
        "policy": row.policy,
        "policy_sha256": contestant.sha256,
        "plan_kwh": np.asarray(plan).tolist(),
        "actions": pack(result.episodes.actions),
        "mean_return_usd": float(result.returns.mean()),
        "days_violated": bad,
        "risk": found | {"each_day_once": replay},
        "hindsight_gap": {
            "multiplier": pack(top.multiplier),
            "mean_usd": float((top.bound_usd - result.returns).mean()),
        },
    }


def run(config: CompareConfig, out: Path, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Solve, tune, train, evaluate, certify; everything lands under ``out``.

    A second run with the same configuration takes the trained agents from there; an interrupted training continues.

    Args:
        config: what to compare.
        out: results folder, made if missing.
        say: receives a line per stage.
    """
    lot = Instance.from_dict(config.instance)
    say(f"solving scenario programs with {config.n_samples} sampled days")
    robust = solve(lot, n_samples=config.n_samples, seed=config.seeds[0], beta=config.beta, looks=len(config.rho) + 1)
    tuning = sample(lot, law("generator"), config.train_days, config.seeds[1])
    rho, relaxed = _best_relaxed(lot, config, tuning)
    say("tuning the predictive control on training days")
    quantile = tune_quantile(Model(lot, "generator", robust.plan), tuning)
    law_name = law("generator").name
    contestants = [
        Contestant("do nothing", "baseline", DoNothing, 0.0, law_name),
        Contestant(
            "certified plan, robust",
            "baseline",
            PlanReplay,
            robust.certificate["risk"]["eps"],
            law_name,
        ),
        Contestant(
            f"certified plan, rho {rho:g}",
            "baseline",
            PlanReplay,
            relaxed.certificate["risk"]["eps"],
            law_name,
            relaxed.plan,
        ),
        Contestant("charge when cheap", "baseline", ChargeWhenCheap),
        Contestant("least laxity", "baseline", LeastLaxity),
        Contestant(f"{CONTROL}, q {quantile:g}", "baseline", lambda m: PredictiveControl(m, quantile)),
    ]
    names, steps = config.agents, config.train_steps
    if covered(lot, law("generator")):
        say("fitting the critic control on sampled days")
        fitted = fit_critic_control(lot)
        contestants.append(Contestant("critic control", "baseline", lambda m: CriticControl(m, fitted)))
    else:  # the penalty's critic, and what rests on it, has a meaning for some lots only
        able = [load(name).base != "critic control" for name in names]
        names, steps = tuple(compress(names, able)), tuple(compress(steps, able))
    agents = trained_agents(names, steps, config.seeds[4], config.instance, out, say, robust.plan.tolist())
    for name, agent in zip(names, agents, strict=True):
        contestants.append(replace(agent, name=_TITLES.get(name, agent.name)))
    plans = {"plan-robust": robust, "plan-relaxed": relaxed}
    return _evaluate_all(config, lot, contestants, plans, out, say)


def _evaluate_all(
    config: CompareConfig,
    lot: Instance,
    contestants: list[Contestant],
    plans: dict[str, Solution],
    out: Path,
    say: Callable[[str], None],
) -> Comparison:
    shown = plans["plan-robust"].plan
    certificates = {name: solution.certificate for name, solution in plans.items()}
    real = law("days:jpl-2019/test")
    n_real = len(real.days.dates) * config.redraws
    tests: list[TestSet] = []
    results: list[tuple[Result, ...]] = []
    for title, law_name, days, seed in (
        ("Generated days", "generator", config.test_days, config.seeds[2]),
        ("Held-out real days", real.name, n_real, config.seeds[3]),
    ):
        say(f"evaluating {len(contestants)} policies: {title.lower()}")
        made = board(
            "V2G/ParkingLot-v0", config.instance, law_name, days, seed, config.beta, plan_kwh=shown, title=title
        )
        mine, more = score(made, contestants)
        certificates |= more
        tests.append(made.test)
        results.append(mine)
    meta = {
        "problem": "parking_lot",
        "config": asdict(config),
        "instance_sha256": lot.hash,
        "units": "$/day; energies in kWh",
        "bound_usd": {test.title: float(test.bound.mean()) for test in tests},
    }
    write_results(out, [r for group in results for r in group], certificates, meta)
    return Comparison(tuple(tests), tuple(results), plans, meta, CONTROL)
