"""The comparison on the price chain: rules, exact and robust plans and learners, all scored against exact values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.compare import (
    Comparison,
    Contestant,
    Outcome,
    TestSet,
    check_roles,
    evaluate,
    read_config,
    slug,
    write_results,
)
from agents.compare_lines import result_lines
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
from v2g_env.core.validate import number, require
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.price_chain.scenario import sample_days
from v2g_env.rollout import Episodes

__all__ = ["DEFAULT_DAYS", "OPTIMUM", "CompareConfig", "ambiguity_sets", "day_set", "evaluate_bundle", "run"]

Plans = dict[str, NDArray[np.int32]]

OPTIMUM = "optimal plan"  # the policy that agents are set against
DEFAULT_DAYS = 2000
_ENV = "V2G/PriceChain-v0"


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
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def ambiguity_sets(lot: Instance, confidence: float) -> dict[str, Ambiguity]:
    """The five sets around the estimated rows of an instance, by name."""
    counts = lot.chain.counts.reshape(-1, lot.price_levels)
    sizes: dict[str, dict[str, Any]] = {name: {"confidence": confidence} for name in SETS}
    sizes["scenarios"] = {}
    return {name: kind.from_counts(counts, **sizes[name]) for name, kind in SETS.items()}  # type: ignore[attr-defined]


def day_set(title: str, model: Model, days: int, seed: int, beta: float, optimum: float) -> TestSet:
    """Days that all policies share, and the exact optimum of the mean as their bound."""

    def outcome(episodes: Episodes) -> Outcome:
        violated = int((episodes.excess > VIOLATION_TOLERANCE).sum())
        limit = float(risk.hold_out(days, violated, beta))
        return Outcome(episodes.returns, violated, days, limit, float(episodes.shortfall_kwh.mean()))

    return TestSet(
        title=title,
        size=f"{days} days of {model.steps} steps",
        model=model,
        with_plan=lambda plan: model,
        scenario=sample_days(model.instance, model.law, days, seed),
        seed=seed,
        bound=np.full(days, optimum),
        units=None,
        beta=beta,
        outcome=outcome,
        terms=TERMS,
        pathwise=False,
        bound_name="exact optimum",
    )


def evaluate_bundle(path: Path, law_name: str, days: int, seed: int, beta: float) -> list[str]:
    """Return, gap and violations of a trained bundle on ``days`` fresh days, and its exact value, one line each."""
    from agents.bundle import load_bundle

    bundle = load_bundle(path)
    number("days", days, 1, 10**6, integer=True)
    require(bundle.env_id == _ENV, "env_id of the bundle", bundle.env_id, _ENV)
    model = Model(Instance.from_dict(bundle.env_kwargs["instance"]), law_name)
    best = solve(model).value
    test = day_set("fresh days", model, days, seed, beta, best)
    lines = result_lines(test, evaluate(Contestant(path.name, "agent", lambda _: bundle), test).row)
    exact = sweeps.evaluate(model, tabulate(model, bundle)).value
    return [*lines, f"exact     {exact:.4f} $/day, {best - exact:.4f} below the optimum {best:.4f}"]


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
    optimum = solutions[OPTIMUM].value
    tests = (
        day_set("Estimated chain", model, config.test_days, config.seeds[0], config.beta, optimum),
        day_set("Harsher chain", harsh, config.test_days, config.seeds[0], config.beta, harsh_optimum.value),
    )
    say(f"evaluating {len(contestants) + len(trained)} policies on {config.test_days} days of two chains")
    certificates = {slug("values", name): solution.certificate for name, solution in solutions.items()}
    certificates["values-harsher-chain"] = harsh_optimum.certificate
    results = []
    for test in tests:
        results.append(tuple(evaluate(contestant, test) for contestant in [*contestants, *trained]))
    for contestant, result in zip([*contestants, *trained], results[0], strict=True):
        name = contestant.name
        certificates[slug("policy", name)] = policy_certificate(
            model, plans[name], name, tests[0].seed, result.episodes, config.beta, contestant.sha256
        )
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
