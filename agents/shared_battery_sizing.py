"""The comparison of sizes: separate batteries, certified programs, search and agents on the same seasons."""

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
from baselines.shared_battery.programs import Solution, separate, solve
from baselines.shared_battery.search import money_search, search
from baselines.shared_battery.season_bound import prices
from baselines.shared_battery.seasons import FixedSizes, bound_certificate, count_violations, policy_certificate
from v2g_env.core.validate import number
from v2g_env.rollout import Episodes
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SIZING_TERMS, SizingModel
from v2g_env.shared_battery.scenario import Season, sample_seasons

__all__ = ["BOARDS", "SEARCHED", "CompareConfig", "board", "run", "world"]

Floats = NDArray[np.float64]

BOARDS = {"V2G/SharedBatterySizing-v0": 200}  # environments, and seasons of an evaluation
SEARCHED = "searched for money"  # the sizes that agents are set against


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        beta: confidence parameter of certificates and limits.
        train_days, hold_out_days: sampled days of the search, and of its certificate.
        test_seasons: seasons of the comparison.
        ascent_steps: of the ascent that finds the bound.
        agents: shipped training configurations to be trained and compared.
        train_steps: steps of training of each agent, in the order of ``agents``.
        seeds: of samples and search, of the test seasons, and of training.
    """

    instance: Mapping[str, Any] = field(default_factory=dict)
    beta: float = 1e-5
    train_days: int = 20_000
    hold_out_days: int = 60_000
    test_seasons: int = 200
    ascent_steps: int = 200
    agents: tuple[str, ...] = ("shared_battery_sizing_ppo",)
    train_steps: tuple[int, ...] = (204_800,)
    seeds: tuple[int, int, int] = (2, 3, 0)

    def __post_init__(self) -> None:
        """Check every field."""
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        for name in ("train_days", "hold_out_days", "test_seasons", "ascent_steps"):
            number(name, getattr(self, name), 1, 10**7, integer=True)
        check_roles(self.seeds, 3, self.agents, self.train_steps)
        Instance.from_dict(self.instance)

    @classmethod
    def quick(cls) -> CompareConfig:
        """Small sizes for a first look; the figures are rough."""
        return cls(train_days=5_000, hold_out_days=20_000, test_seasons=60, ascent_steps=60, train_steps=(102_400,))

    @classmethod
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def world(
    env_id: str, instance: Mapping[str, Any], law_name: str, seasons: int, seed: int
) -> tuple[SizingModel, Season]:
    """Model and seasons of a board, without its bound; see agents.boards.board_of."""
    model = SizingModel(Instance.from_dict(instance), law_name)
    return model, sample_seasons(model.instance, model.law, seasons, seed)


def board(
    env_id: str,
    instance: Mapping[str, Any],
    law_name: str,
    seasons: int,
    seed: int,
    beta: float,
    title: str = "fresh seasons",
    own_kwh: Floats | None = None,
    shared_kwh: float = 0.0,
    steps: int = 100,
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """Seasons that all policies share, and the bound on their mean; see agents.boards.board_of.

    The bound starts from good sizes; where none are given, from the certified ones.
    """
    model, scenario = world(env_id, instance, law_name, seasons, seed)
    lot = model.instance
    if own_kwh is None:
        found = solve(lot, source=model.law)
        own_kwh, shared_kwh = found.own_kwh, found.shared_kwh
    say(f"bound of {seasons} seasons")
    evidence, cost = prices(lot, scenario, own_kwh, shared_kwh, steps)

    def outcome(episodes: Episodes) -> Outcome:
        kept = count_violations(model, episodes, beta)
        return Outcome(episodes.returns, kept.violated, kept.days, kept.eps, float(episodes.shortfall_kwh.mean()))

    test = TestSet(
        title=title,
        size=f"{seasons} seasons of {lot.season_days} days",
        model=model,
        with_plan=lambda plan: model,
        scenario=scenario,
        seed=seed,
        bound=np.full(seasons, model.separate_usd - cost),
        units=None,
        beta=beta,
        outcome=outcome,
        terms=SIZING_TERMS,
        pathwise=False,
        per="season",
        bound_name="proven bound (any fixed sizes)",
    )

    def certify(contestant: Contestant, result: Result) -> dict[str, Any]:
        return policy_certificate(model, seed, result.episodes, contestant.name, beta, contestant.sha256)

    return Board(test, bound_certificate(model, seed, seasons, evidence, cost), certify)


def run(config: CompareConfig, out: Path, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Solve, search, train, evaluate, certify; everything lands under ``out``.

    A second run with the same configuration takes the trained agents from there; an interrupted training continues.

    Args:
        config: what to compare.
        out: results folder, made if missing.
        say: receives a line per stage.
    """
    lot = Instance.from_dict(config.instance)
    beta, seed = config.beta, config.seeds[0]
    say("separate batteries, and the scenario program")
    plans: dict[str, Solution] = {
        "separate batteries": separate(lot),
        "certified program": solve(lot, seed=seed, beta=beta),
    }
    say(f"searching sizes for the rule {lot.rule}")
    train, fresh = config.train_days, config.hold_out_days
    plans["certified search"] = search(lot, seed=seed, beta=beta, train_days=train, test_days=fresh)
    plans[SEARCHED] = money_search(lot, seed=seed, beta=beta, train_days=train, test_days=fresh)
    promised = {"certified program": plans["certified program"].certificate["risk"]["eps"]}
    contestants = [_fixed(name, plan, promised.get(name)) for name, plan in plans.items()]
    contestants += trained_agents(config.agents, config.train_steps, config.seeds[2], config.instance, out, say)
    best = plans[SEARCHED]
    made = board(
        "V2G/SharedBatterySizing-v0",
        config.instance,
        "generator",
        config.test_seasons,
        config.seeds[1],
        beta,
        "Generated seasons",
        best.own_kwh,
        best.shared_kwh,
        config.ascent_steps,
        say,
    )
    test = made.test
    results, certificates = score(made, contestants, say)
    certificates |= {slug("sizes", name): plan.certificate for name, plan in plans.items()}
    meta = {
        "problem": "shared_battery_sizing",
        "config": asdict(config),
        "instance_sha256": lot.hash,
        "units": "$/season saved against separate batteries; energies in kWh",
        "bound_usd": {test.title: float(test.bound[0])},
    }
    write_results(out, results, certificates, meta)
    return Comparison((test,), (results,), plans, meta, SEARCHED)


def _fixed(name: str, plan: Solution, promised: float | None) -> Contestant:
    make = lambda model: FixedSizes(model, plan.own_kwh, plan.shared_kwh)  # noqa: E731 - one value per call
    return Contestant(name, "baseline", make, promised, "generator")
