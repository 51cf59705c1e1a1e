"""The comparison of who gets the shared battery: rules, dynamic programmes and agents on the same weeks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import shared_battery_sizing
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
from baselines.shared_battery.hindsight import hindsight
from baselines.shared_battery.penalty import penalised, penalty_of
from baselines.shared_battery.penalty_fit import fitted_critic
from baselines.shared_battery.penalty_law import week_shocks
from baselines.shared_battery.policies import (
    DensityThreshold,
    DynamicProgramme,
    FirstCome,
    PacedDensity,
    tune_density,
    tune_paced,
)
from baselines.shared_battery.threshold import Threshold, density_range
from baselines.shared_battery.verify_penalty import penalty_certificate
from baselines.shared_battery.verify_week import count_unserved, hindsight_certificate, week_policy_certificate
from baselines.shared_battery.week_programme import online_bound
from v2g_env.core.validate import number
from v2g_env.rollout import Episodes, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WEEK_TERMS, SizingModel, WeekModel
from v2g_env.shared_battery.scenario import Season, Week, sample_weeks

__all__ = ["BOARDS", "PROGRAMME", "CompareConfig", "board", "run", "world"]

PROGRAMME = "season programme"  # the policy that agents are set against
_WEEKS = {"V2G/SharedBatteryAllocation-v0": False, "V2G/SharedBatteryAllocationPartial-v0": True}
BOARDS = dict.fromkeys(_WEEKS, 200) | shared_battery_sizing.BOARDS  # environments, and weeks or seasons to evaluate
_GRID = 2000  # units of the battery for bounds
_FIT_WEEKS, _FIT_SEED = 100, 7400  # that the critic of the penalty is fitted on; no comparison uses them


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        beta: confidence parameter of the limits.
        train_weeks, test_weeks: for tuning, and for the comparison.
        grid: units of the dynamic programmes; bounds use ten times as many.
        agents: shipped training configurations to be trained and compared.
        train_steps: steps of training of each agent, in the order of ``agents``.
        seeds: of the tuning weeks, the test weeks, and of training.
    """

    instance: Mapping[str, Any] = field(default_factory=dict)
    beta: float = 1e-5
    train_weeks: int = 100
    test_weeks: int = 400
    grid: int = 400
    agents: tuple[str, ...] = ("shared_battery_allocation_ppo",)
    train_steps: tuple[int, ...] = (2_016_000,)
    seeds: tuple[int, int, int] = (2, 3, 0)

    def __post_init__(self) -> None:
        """Check every field."""
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        for name in ("train_weeks", "test_weeks", "grid"):
            number(name, getattr(self, name), 1, 10**5, integer=True)
        check_roles(self.seeds, 3, self.agents, self.train_steps)
        Instance.from_dict(self.instance)

    @classmethod
    def quick(cls) -> CompareConfig:
        """Small sizes for a first look; the figures are rough."""
        return cls(train_weeks=40, test_weeks=100, grid=200, train_steps=(504_000,))

    @classmethod
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def world(
    env_id: str, instance: Mapping[str, Any], law_name: str, weeks: int, seed: int
) -> tuple[WeekModel | SizingModel, Week | Season]:
    """Model and weeks (seasons) of a board, without its bound; see agents.boards.board_of."""
    if env_id not in _WEEKS:
        return shared_battery_sizing.world(env_id, instance, law_name, weeks, seed)
    model = WeekModel(Instance.from_dict(instance), law_name, _WEEKS[env_id])
    return model, sample_weeks(model.instance, model.law, weeks, seed)


def board(
    env_id: str,
    instance: Mapping[str, Any],
    law_name: str,
    weeks: int,
    seed: int,
    beta: float,
    title: str = "fresh weeks",
    grid: int = _GRID,
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """Weeks (seasons, for the sizing environment) that all policies share, with bounds; see agents.boards.board_of."""
    if env_id not in _WEEKS:
        return shared_battery_sizing.board(env_id, instance, law_name, weeks, seed, beta, say=say)
    model, scenario = world(env_id, instance, law_name, weeks, seed)
    assert isinstance(model, WeekModel)
    assert isinstance(scenario, Week)
    say(f"bounds of {weeks} weeks")
    top = hindsight(model, scenario, grid)
    certificate = hindsight_certificate(model, seed, top, grid)
    limit: dict[str, Any] = {"bound": top.bound_usd, "bound_name": "proven bound (hindsight)"}
    if not model.partial:
        limit, certificate = _penalised(model, scenario, seed, beta, grid, top.bound_usd, say)

    def outcome(episodes: Episodes) -> Outcome:
        kept = count_unserved(model, episodes, beta)
        return Outcome(episodes.returns, kept.unserved, kept.visits, kept.eps, float(episodes.shortfall_kwh.mean()))

    test = TestSet(
        title=title,
        size=f"{weeks} weeks of {model.instance.week_days} days",
        model=model,
        with_plan=lambda plan: model,
        scenario=scenario,
        seed=seed,
        units=None,
        beta=beta,
        outcome=outcome,
        terms=WEEK_TERMS,
        trial="visits",
        per="week",
        **limit,
    )

    def certify(contestant: Contestant, result: Result) -> dict[str, Any]:
        return week_policy_certificate(model, seed, result.episodes, contestant.name, beta, contestant.sha256)

    return Board(test, certificate, certify)


def _penalised(
    model: WeekModel,
    scenario: Week,
    seed: int,
    beta: float,
    grid: int,
    oracle: NDArray[np.float64],
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the bound with a penalty for knowing the future changes in a test set, and its certificate."""
    lot, count, classes = model.instance, len(scenario.size_kwh), grid // 5 + 1
    fit = sample_weeks(lot, model.law, _FIT_WEEKS, _FIT_SEED)
    known = lot.correlation > 0.0
    critic = fitted_critic(model, fit, shock=week_shocks(lot, _FIT_WEEKS, _FIT_SEED) if known else None)
    shock = week_shocks(lot, count, seed) if known else None
    say("bounds with a penalty for knowing the future")
    bound = penalised(model, scenario, critic, grid, classes, shock).bound_usd

    def control(episodes: Episodes) -> NDArray[np.float64]:
        return penalty_of(model, scenario, episodes.actions, critic, grid, classes, shock)

    changes = {"bound": bound, "bound_name": "proven bound (penalised)", "control": control, "oracle": oracle}
    return changes, penalty_certificate(model, seed, critic, bound, grid, classes, beta)


def run(config: CompareConfig, out: Path, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Tune, train, evaluate, certify; everything lands under ``out``.

    A second run with the same configuration takes the trained agents from there; an interrupted training continues.

    Args:
        config: what to compare.
        out: results folder, made if missing.
        say: receives a line per stage.
    """
    lot = Instance.from_dict(config.instance)
    model = WeekModel(lot)
    say("tuning thresholds on training weeks")
    tuning = sample_weeks(lot, model.law, config.train_weeks, config.seeds[0])
    price = tune_density(model, tuning)
    paced, pace = tune_paced(model, tuning)
    low, high = density_range(model)
    contestants = [
        Contestant("first come", "baseline", FirstCome),
        Contestant("competitive threshold", "baseline", lambda m: Threshold(m, low, high)),
        Contestant("density threshold", "baseline", lambda m: DensityThreshold(m, price)),
        Contestant("paced density threshold", "baseline", lambda m: PacedDensity(m, paced, pace)),
        Contestant("daily programme", "baseline", lambda m: DynamicProgramme(m, config.grid, coupled=False)),
        Contestant(PROGRAMME, "baseline", lambda m: DynamicProgramme(m, config.grid)),
    ]
    contestants += trained_agents(config.agents, config.train_steps, config.seeds[2], config.instance, out, say)
    made = board(
        "V2G/SharedBatteryAllocation-v0",
        config.instance,
        "generator",
        config.test_weeks,
        config.seeds[1],
        config.beta,
        title="Generated weeks",
        grid=10 * config.grid,
        say=say,
    )
    test = made.test
    results, certificates = score(made, contestants, say)
    meta = {
        "problem": "shared_battery",
        "config": asdict(config),
        "instance_sha256": lot.hash,
        "units": "$/week; energies in kWh",
        "bound_usd": {test.title: float(test.bound.mean())},
        "tuned": {"density": price, "paced": [paced, pace], "density_range": [low, high]},
        "alike": _alike(config, say),
    }
    write_results(out, results, certificates, meta)
    return Comparison((test,), (results,), {}, meta, PROGRAMME)


def _alike(config: CompareConfig, say: Callable[[str], None]) -> dict[str, float]:
    """The case of drivers who are all alike, where the best online policy is known: its value beside both bounds."""
    say("calibration: drivers who are all alike")
    lot = Instance.from_dict(config.instance).replace(driver_spread=0.0, correlation=0.0)
    model = WeekModel(lot)
    weeks = sample_weeks(lot, model.law, config.test_weeks, config.seeds[1])
    earned = rollout(model, weeks, DynamicProgramme(model, config.grid)).returns
    return {
        "programme_usd": float(earned.mean()),
        "standard_error_usd": float(earned.std(ddof=1) / len(earned) ** 0.5) if len(earned) > 1 else float("inf"),
        "online_bound_usd": online_bound(model, 5 * config.grid),
        "hindsight_bound_usd": float(hindsight(model, weeks, 5 * config.grid).bound_usd.mean()),
    }
