"""The comparison of who gets the shared battery: rules, dynamic programmes and agents on the same weeks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
from agents.shared_battery_sizing import season_set
from agents.trained import trained_agents
from baselines.shared_battery.hindsight import Hindsight, hindsight
from baselines.shared_battery.policies import (
    DensityThreshold,
    DynamicProgramme,
    FirstCome,
    PacedDensity,
    tune_density,
    tune_paced,
)
from baselines.shared_battery.threshold import Threshold, density_range
from baselines.shared_battery.verify_week import count_unserved, hindsight_certificate, week_policy_certificate
from baselines.shared_battery.week_programme import online_bound
from v2g_env.core.validate import number, require
from v2g_env.rollout import Episodes, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WEEK_TERMS, WeekModel
from v2g_env.shared_battery.scenario import sample_weeks

__all__ = ["DEFAULT_DAYS", "PROGRAMME", "CompareConfig", "evaluate_bundle", "run"]

PROGRAMME = "season programme"  # the policy that agents are set against
DEFAULT_DAYS = 200  # episodes of an evaluation: weeks, or seasons
_SIZING = "V2G/SharedBatterySizing-v0"
_WEEKS = {"V2G/SharedBatteryAllocation-v0": False, "V2G/SharedBatteryAllocationPartial-v0": True}


@dataclass(frozen=True)
class CompareConfig:
    """What a comparison is; TOML files may set any of the fields.

    Attributes:
        instance: fields of the Instance that differ from the defaults.
        beta: confidence parameter of the limits.
        train_weeks, test_weeks: for tuning, and for the comparison.
        grid: units of the dynamic programmes; bounds use five times as many.
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
    def from_file(cls, path: str | Path) -> CompareConfig:
        """Read a TOML file; unknown keys raise InvalidInputError."""
        return read_config(cls, path)


def week_set(title: str, model: WeekModel, weeks: int, seed: int, beta: float, grid: int) -> tuple[TestSet, Hindsight]:
    """Weeks that all policies share, with the bound of each."""
    scenario = sample_weeks(model.instance, model.law, weeks, seed)
    top = hindsight(model, scenario, grid)

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
        bound=top.bound_usd,
        units=None,
        beta=beta,
        outcome=outcome,
        terms=WEEK_TERMS,
        trial="visits",
        per="week",
        bound_name="proven bound (hindsight)",
    )
    return test, top


def evaluate_bundle(path: Path, law_name: str, days: int, seed: int, beta: float) -> list[str]:
    """Return, gap and violations of a trained bundle on ``days`` fresh weeks, or seasons, one line each."""
    from agents.bundle import load_bundle

    bundle = load_bundle(path)
    number("days", days, 1, 10**6, integer=True)
    lot = Instance.from_dict(bundle.env_kwargs["instance"])
    if bundle.env_id == _SIZING:
        test, _ = season_set("fresh seasons", lot, law_name, days, seed, beta)
    else:
        require(bundle.env_id in _WEEKS, "env_id of the bundle", bundle.env_id, ", ".join([_SIZING, *_WEEKS]))
        test, _ = week_set("fresh weeks", WeekModel(lot, law_name, _WEEKS[bundle.env_id]), days, seed, beta, 2000)
    return result_lines(test, evaluate(Contestant(path.name, "agent", lambda _: bundle), test).row)


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
    grid = 5 * config.grid
    say(f"evaluating {len(contestants)} policies on {config.test_weeks} weeks")
    test, top = week_set("Generated weeks", model, config.test_weeks, config.seeds[1], config.beta, grid)
    certificates = {"bound-generated-weeks": hindsight_certificate(model, test.seed, top, grid)}
    results = []
    for contestant in contestants:
        result = evaluate(contestant, test)
        results.append(result)
        certificates[slug("policy", contestant.name)] = week_policy_certificate(
            model, test.seed, result.episodes, contestant.name, config.beta, contestant.sha256
        )
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
    return Comparison((test,), (tuple(results),), {}, meta, PROGRAMME)


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
