"""The comparison on the price chain: rules, exact and robust plans and learners, all scored against exact values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
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
    slug,
    write_results,
)
from agents.trained import trained_agents
from baselines import risk
from baselines.price_chain import sweeps
from baselines.price_chain.ambiguity import SETS, Ambiguity
from baselines.price_chain.chains import averaged_chain
from baselines.price_chain.hindsight import hindsight
from baselines.price_chain.policies import (
    TablePolicy,
    early_plan,
    late_plan,
    tabulate,
    threshold_plan,
    tune_threshold,
)
from baselines.price_chain.q_learning import Learned, q_learning
from baselines.price_chain.values import Solution, solve
from baselines.price_chain.verify import policy_certificate
from v2g_env.core.policy import Policy
from v2g_env.core.validate import number
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.price_chain.scenario import Days, sample_days
from v2g_env.rollout import Episodes

__all__ = ["BOARDS", "OPTIMUM", "CompareConfig", "ambiguity_sets", "board", "run", "world"]

Plans = dict[str, NDArray[np.int32]]

OPTIMUM = "optimal plan"  # the policy that agents are set against
_ENV = "V2G/PriceChain-v0"
BOARDS = {_ENV: 2000}  # environments, and days of an evaluation


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        beta: confidence parameter of the limits on violations.
        confidence: that each row's uncertainty set is sized for (the scenarios are 20 redrawn histories).
        test_days: of the comparison.
        q_days: that Q-learning plays.
        agents: shipped training configurations to be trained and compared.
        train_steps: steps of training of each agent, in the order of ``agents``.
        seeds: of the test days, of Q-learning, and of training.
    """

    instance: Mapping[str, Any] = field(default_factory=dict)
    beta: float = 1e-5
    confidence: float = 0.95
    test_days: int = 4000
    q_days: int = 1_000_000
    agents: tuple[str, ...] = ("price_chain_ppo",)
    train_steps: tuple[int, ...] = (1_536_000,)
    seeds: tuple[int, int, int] = (3, 1, 0)

    def __post_init__(self) -> None:
        """Check every field."""
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        number("confidence", self.confidence, 0.0, 1.0, open_low=True, open_high=True)
        number("test_days", self.test_days, 1, 10**6, integer=True)
        number("q_days", self.q_days, 1, 10**9, integer=True)
        check_roles(self.seeds, 3, self.agents, self.train_steps)
        Instance.from_dict(self.instance)

    @classmethod
    def quick(cls) -> CompareConfig:
        """Small sizes for a first look; the figures are rough."""
        return cls(test_days=1000, q_days=100_000, train_steps=(368_640,))

    @classmethod
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def ambiguity_sets(lot: Instance, confidence: float) -> dict[str, Ambiguity]:
    """The five sets around the estimated rows of an instance, by name."""
    counts = lot.chain.counts.reshape(-1, lot.price_levels)
    sizes: dict[str, dict[str, Any]] = {name: {"confidence": confidence} for name in SETS}
    sizes["scenarios"] = {}
    return {name: kind.from_counts(counts, **sizes[name]) for name, kind in SETS.items()}  # type: ignore[attr-defined]


def world(env_id: str, instance: Mapping[str, Any], law_name: str, days: int, seed: int) -> tuple[Model, Days]:
    """Model and days of a board, without its bound; see agents.boards.board_of."""
    model = Model(Instance.from_dict(instance), law_name)
    return model, sample_days(model.instance, model.law, days, seed)


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
    """Days that all policies share, and the exact optimum of the mean as their bound; see agents.boards.board_of."""
    model = Model(Instance.from_dict(instance), law_name)
    return chain_board(model, solve(model), days, seed, beta, title)


def chain_board(model: Model, best: Solution, days: int, seed: int, beta: float, title: str) -> Board:
    """The board of a chain that has been solved."""

    def outcome(episodes: Episodes) -> Outcome:
        violated = int((episodes.excess > VIOLATION_TOLERANCE).sum())
        limit = float(risk.hold_out(days, violated, beta))
        return Outcome(episodes.returns, violated, days, limit, float(episodes.shortfall_kwh.mean()))

    test = TestSet(
        title=title,
        size=f"{days} days of {model.steps} steps",
        model=model,
        with_plan=lambda plan: model,
        scenario=sample_days(model.instance, model.law, days, seed),
        seed=seed,
        bound=np.full(days, best.value),
        units=None,
        beta=beta,
        outcome=outcome,
        terms=TERMS,
        pathwise=False,
        bound_name="exact optimum",
    )

    def certify(contestant: Contestant, result: Result) -> dict[str, Any]:
        plan = tabulate(model, contestant.make(model))
        return policy_certificate(model, plan, contestant.name, seed, result.episodes, beta, contestant.sha256)

    def lines(policy: Policy) -> list[str]:
        exact = sweeps.evaluate(model, tabulate(model, policy)).value
        return [f"exact     {exact:.4f} $/day, {best.value - exact:.4f} below the optimum {best.value:.4f}"]

    known = model.law.name == "generator"  # certificates of policies speak of the instance's own chain
    return Board(test, best.certificate, certify if known else None, lines)


def _playing(plan: NDArray[np.int32]) -> Callable[[Model], TablePolicy]:
    return lambda model: TablePolicy(model, plan)


def run(config: CompareConfig, out: Path, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Solve, learn, evaluate, certify; everything lands under ``out``.

    A second run with the same configuration takes the trained agents from there; an interrupted training continues.

    Args:
        config: what to compare.
        out: results folder, made if missing.
        say: receives a line per stage.
    """
    lot = Instance.from_dict(config.instance)
    model = Model(lot)
    say("solving the chain: the optimum, and five robust problems")
    sets = ambiguity_sets(lot, config.confidence)
    solutions = {OPTIMUM: solve(model)} | {f"robust plan ({name})": solve(model, each) for name, each in sets.items()}
    low, high = tune_threshold(model)
    say(f"Q-learning on {config.q_days} days")
    learned = q_learning(model, config.q_days, config.seeds[1])
    plans: Plans = {
        "early charging": early_plan(model),
        "late charging": late_plan(model),
        "price thresholds": threshold_plan(model, low, high),
        **{name: solution.plan for name, solution in solutions.items()},
        "Q-learning": learned.plan,
    }
    contestants = [
        Contestant(name, "agent" if name == "Q-learning" else "baseline", _playing(plan))
        for name, plan in plans.items()
    ]
    trained = trained_agents(config.agents, config.train_steps, config.seeds[2], config.instance, out, say)
    plans |= {each.name: tabulate(model, each.make(model)) for each in trained}
    harsh, harsh_optimum = _harsh(model, solutions[OPTIMUM], sets["entropy"])
    days, seed = config.test_days, config.seeds[0]
    boards = (
        chain_board(model, solutions[OPTIMUM], days, seed, config.beta, "Estimated chain"),
        chain_board(harsh, harsh_optimum, days, seed, config.beta, "Harsher chain"),
    )
    tests = tuple(made.test for made in boards)
    certificates = {  # the optimum's is the bound of its board
        slug("values", name): solution.certificate for name, solution in solutions.items() if name != OPTIMUM
    }
    results = []
    for made in boards:
        mine, more = score(made, [*contestants, *trained], say)
        results.append(mine)
        certificates |= more
    meta = {
        "problem": "price_chain",
        "config": asdict(config),
        "instance_sha256": lot.hash,
        "units": "$/day; energies in kWh",
        "bound_usd": {test.title: float(test.bound.mean()) for test in tests},
        "tuned": {"thresholds": [low, high]},
        "hindsight_usd": float(hindsight(model, tests[0].scenario).mean()),
        "robust_usd": {name: solution.value for name, solution in solutions.items()},
        "exact": _exact(model, harsh, plans, sets),
        "q_learning": _curve(learned),
    }
    write_results(out, [each for part in results for each in part], certificates, meta)
    return Comparison(tests, tuple(results), dict(solutions), meta, OPTIMUM)


def _harsh(model: Model, best: Solution, ambiguity: Ambiguity) -> tuple[Model, Solution]:
    """The same fleet under one chain of the set that hurts the optimal plan, and the optimum there."""
    worst = sweeps.worst_case(model, best.plan, ambiguity)
    law = averaged_chain(model, best.plan, np.asarray(worst.rows), "harsher chain")
    harsh = Model(model.instance, law)
    return harsh, solve(harsh)


def _exact(model: Model, harsh: Model, plans: Plans, sets: Mapping[str, Ambiguity]) -> dict[str, dict[str, float]]:
    """Exact numbers of every plan: value and violations under both chains, worst case in every set."""
    found = {}
    for name, plan in plans.items():
        worst = {each: sweeps.worst_case(model, plan, known).value for each, known in sets.items()}
        found[name] = {
            "value_usd": sweeps.evaluate(model, plan).value,
            "violation_probability": sweeps.violation_probability(model, plan),
            "harsher_usd": sweeps.evaluate(harsh, plan).value,
        } | {f"worst_{each}_usd": value for each, value in worst.items()}
    return found


def _curve(learned: Learned) -> dict[str, list[float]]:
    return {"days": learned.days.astype(float).tolist(), "value_usd": learned.value.tolist()}
