"""The comparison of scheduling policies: without V2G, robust plans, predictive control and agents on the same days."""

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
from baselines.scheduling.adjustable import AdjustablePlan
from baselines.scheduling.day import Protection
from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.mpc import PredictiveControl
from baselines.scheduling.penalty import default, penalty_of
from baselines.scheduling.penalty_bound import penalised
from baselines.scheduling.policies import DayAhead, Uncontrolled
from baselines.scheduling.verify_days import count_violations, policy_certificate
from baselines.scheduling.verify_penalty import penalised_certificate
from v2g_env.core.policy import Policy
from v2g_env.core.validate import array, number
from v2g_env.rollout import Episodes, rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import REWARD_TERMS, Model
from v2g_env.scheduling.scenario import Scenario, sample

__all__ = ["BOARDS", "CONTROL", "CompareConfig", "board", "run", "world"]

CONTROL = "predictive control"  # the policy that agents are set against
BOARDS = {"V2G/Scheduling-v0": 200}  # environments, and days of an evaluation
_MARGINS = (0.5, 1.0, 1.5)  # of the generator, in standard deviations of the wind expected next


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        beta: confidence parameter of the limits.
        train_days, test_days: for tuning, and for the comparison.
        alphas: budgets of the robust plans, among loads and turbines.
        adjustable_alphas: budgets of the adjustable plans.
        agents: shipped training configurations to be trained and compared.
        train_steps: steps of training of each agent, in the order of ``agents``.
        seeds: of the tuning days, the test days, and of training.
    """

    instance: Mapping[str, Any] = field(default_factory=dict)
    beta: float = 1e-5
    train_days: int = 20
    test_days: int = 100
    alphas: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    adjustable_alphas: tuple[float, ...] = (4.0,)
    agents: tuple[str, ...] = ("scheduling_ppo", "scheduling_imitation_ppo")
    train_steps: tuple[int, ...] = (1_228_800, 491_520)
    seeds: tuple[int, int, int] = (2, 3, 0)

    def __post_init__(self) -> None:
        """Check every field."""
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        for name in ("train_days", "test_days"):
            number(name, getattr(self, name), 1, 10**4, integer=True)
        check_roles(self.seeds, 3, self.agents, self.train_steps)
        lot = Instance.from_dict(self.instance)
        for name in ("alphas", "adjustable_alphas"):
            array(name, getattr(self, name), (None,), 0.0, float(lot.aggregators + lot.turbines))

    @classmethod
    def quick(cls) -> CompareConfig:
        """Small sizes for a first look; the figures are rough."""
        return cls(train_days=5, test_days=20, alphas=(1.0, 4.0), agents=("scheduling_ppo",), train_steps=(245_760,))

    @classmethod
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def world(env_id: str, instance: Mapping[str, Any], law_name: str, days: int, seed: int) -> tuple[Model, Scenario]:
    """Model and days of a board, without its bound; see agents.boards.board_of."""
    model = Model(Instance.from_dict(instance), law_name)
    return model, sample(model.instance, model.law, days, seed)


def board(
    env_id: str,
    instance: Mapping[str, Any],
    law_name: str,
    days: int,
    seed: int,
    beta: float,
    title: str = "fresh days",
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """Days that all policies share, with the bound of each; see agents.boards.board_of."""
    model, scenario = world(env_id, instance, law_name, days, seed)
    say(f"hindsight bounds of {days} days")
    oracle = hindsight(model, scenario, say).bound_usd
    penalty = default()  # fitted to the default instance; a bound for every other too
    say(f"bounds of {days} days with a penalty for knowing the future")
    top = penalised(model, scenario, penalty, say)

    def outcome(episodes: Episodes) -> Outcome:
        kept = count_violations(episodes, beta)
        return Outcome(episodes.returns, kept.violated, kept.steps, kept.eps, kept.unserved_kwh)

    test = TestSet(
        title=title,
        size=f"{days} days of {model.steps} steps",
        model=model,
        with_plan=lambda plan: model,
        scenario=scenario,
        seed=seed,
        bound=top.bound_usd,
        units=None,
        beta=beta,
        outcome=outcome,
        terms=REWARD_TERMS,
        trial="steps",
        bound_name="proven bound (penalised)",
        control=lambda episodes: penalty_of(model, scenario, episodes, penalty),
        oracle=oracle,
    )

    def certify(contestant: Contestant, result: Result) -> dict[str, Any]:
        return policy_certificate(model, seed, result.episodes, contestant.name, beta, contestant.sha256)

    return Board(test, penalised_certificate(model, seed, penalty, top), certify)


def tuned(model: Model, days: Scenario, make: Callable[[float], Policy]) -> float:
    """The margin with the highest mean return on the tuning days."""
    found = [float(rollout(model, days, make(margin)).returns.mean()) for margin in _MARGINS]
    return _MARGINS[int(np.argmax(found))]


def run(config: CompareConfig, out: Path, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Tune, train, evaluate, certify; everything lands under ``out``.

    A second run with the same configuration takes the trained agents from there; an interrupted training continues.

    Args:
        config: what to compare.
        out: results folder, made if missing.
        say: receives a line per stage.
    """
    lot = Instance.from_dict(config.instance)
    model = Model(lot)
    say("tuning margins on training days")
    tuning = sample(lot, model.law, config.train_days, config.seeds[0])
    margin = tuned(model, tuning, lambda sd: Uncontrolled(model, sd))
    control = tuned(model, tuning, lambda sd: PredictiveControl(model, sd))
    contestants = [
        Contestant("without V2G", "baseline", lambda m: Uncontrolled(m, margin)),
        *(_plan(f"robust plan, alpha {alpha:g}", DayAhead, alpha) for alpha in config.alphas),
        *(_plan(f"adjustable plan, alpha {alpha:g}", AdjustablePlan, alpha) for alpha in config.adjustable_alphas),
        Contestant(CONTROL, "baseline", lambda m: PredictiveControl(m, control)),
    ]
    contestants += trained_agents(config.agents, config.train_steps, config.seeds[2], config.instance, out, say)
    made = board(
        "V2G/Scheduling-v0",
        config.instance,
        "generator",
        config.test_days,
        config.seeds[1],
        config.beta,
        title="Generated days",
        say=say,
    )
    test = made.test
    results, certificates = score(made, contestants, say)
    meta = {
        "problem": "scheduling",
        "config": asdict(config),
        "instance_sha256": lot.hash,
        "units": "$/day saved against a day without V2G whose load and wind are known; energies in kWh",
        "bound_usd": {test.title: float(test.bound.mean())},
        "tuned": {"margin_without_v2g_sd": margin, "margin_control_sd": control},
        "gas_scale": model.gas_scale,
    }
    write_results(out, results, certificates, meta)
    return Comparison((test,), (results,), {}, meta, CONTROL)


def _plan(name: str, kind: type[DayAhead | AdjustablePlan], alpha: float) -> Contestant:
    return Contestant(name, "baseline", lambda m: kind(m, Protection("budget", alpha, wind=True)))
