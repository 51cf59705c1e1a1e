"""The scheduling network's part of the study of certified learning: plain and shielded agents beside plans."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.learning_answers import Kept, World, kept_record
from agents.learning_study_figures import draw_tradeoff
from agents.report import Section
from baselines.scheduling.day import Protection
from baselines.scheduling.mpc import PredictiveControl
from baselines.scheduling.policies import DayAhead
from baselines.scheduling.shield import ReserveShield
from baselines.shield import best_level, margin_runs, most_removed, passed_levels, tune
from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario, sample

__all__ = ["network"]

_SHIELD = "reserve, tuned for this policy"
_DEVIATIONS = (4.0, 3.25, 2.9, 2.6, 2.3, 2.0, 1.6)  # fewer levels than by default: each is a rollout of all days
_PLAN_DEVIATIONS = (4.0, 3.0, 2.5, 2.0)


class _PlannedOnce(DayAhead):
    """Day-ahead plans that are kept: all levels of a shield begin with the same noon."""

    def __init__(self, model: Model, protection: Protection) -> None:
        super().__init__(model, protection)
        self._plans: dict[bytes, NDArray[np.float64]] = {}

    def profile(self, wind_kw: NDArray[np.float64]) -> NDArray[np.float64]:
        """(steps,) power of all cars together [kW] in the plan for expected wind (steps,) [kW]."""
        key = np.ascontiguousarray(wind_kw).tobytes()
        if key not in self._plans:
            self._plans[key] = super().profile(wind_kw)
        return self._plans[key]


class _Bench:
    def __init__(self, world: World) -> None:
        self.world, self.model = world, world.network

    def days(self, count: int, seed: int) -> Scenario:
        """Days of a seed; fewer of them are the first of more."""
        return sample(self.model.instance, self.model.law, count, self.world.config.seed + seed)

    def kept(self, days: Scenario, policy: Policy, name: str, shield: str, promised: float | None) -> Kept:
        return kept_record(self.world, self.model, days, policy, "scheduling", name, shield, promised)

    def tuned(
        self, policy: Policy, name: str, shield: ReserveShield, days: tuple[Scenario, Scenario], promises: Any
    ) -> list[Kept]:
        """The policy behind its most profitable certified level for every promise, on the second of ``days``."""
        beta, looks = self.world.config.beta, len(promises)
        runs = margin_runs(self.model, policy, shield, days[0])
        passed = passed_levels(runs.violated)
        found = []
        for eps in promises:
            tuned = tune(passed, most_removed(len(passed), eps, beta, looks), beta, looks)
            # where no level is certified the cautious policy acts, and nothing is promised
            level = None if tuned.level is None else best_level(runs.returns_usd, tuned)
            promised = None if level is None else tuned.eps
            found.append(self.kept(days[1], Shielded(policy, shield, level), name, _SHIELD, promised))
        return found


def network(world: World) -> Section:
    """Agents, the day-ahead plan and predictive control; agents and plan with and without a reserve shield."""
    config, bench = world.config, _Bench(world)
    days = bench.days(config.network_days, 6), bench.days(config.network_days, 7)
    few = bench.days(config.plan_days, 8), bench.days(config.plan_days, 7)
    agents = {
        name: world.agent(f"scheduling_{key}") for name, key in (("PPO", "ppo"), ("clone + PPO", "imitation_ppo"))
    }
    plan = _PlannedOnce(bench.model, Protection("budget", 4.0, wind=True))
    found = [bench.kept(days[1], agent, name, "none", None) for name, agent in agents.items()]
    found.append(bench.kept(few[1], plan, "day-ahead plan", "none", None))
    control = PredictiveControl(bench.model, 1.0)
    found.append(bench.kept(bench.days(config.control_days, 7), control, "predictive control", "none", None))
    for name, agent in agents.items():
        shield = ReserveShield(bench.model, _DEVIATIONS)
        found += bench.tuned(agent, name, shield, days, config.network_promises)
    shield = ReserveShield(bench.model, _PLAN_DEVIATIONS)
    found += bench.tuned(plan, "day-ahead plan", shield, few, (config.plan_promise,))
    world.kept += found
    rows = [each.row() for each in found]
    return Section("Scheduling: money and violations", _words(world, found), rows, draw_tradeoff(found), (8.6, 4.6))


def _words(world: World, found: list[Kept]) -> str:
    config = world.config
    parts = []
    for name in ("PPO", "clone + PPO"):
        plain = next(each for each in found if each.policy == name and each.shield == "none")
        safe = [each for each in found if each.policy == name and each.promised is not None]
        text = f"{name} violates {100 * plain.frequency:.1f} % of the days without a shield"
        if safe:
            first = min(safe, key=lambda each: each.promised or 1.0)
            text += (
                f" and {100 * first.frequency:.1f} % behind the one with {100 * (first.promised or 0):.1f} % promised, "
                f"where it earns {first.mean_usd:.2f} $ a day instead of {plain.mean_usd:.2f} $"
            )
        parts.append(text + ".")
    none = sum(each.shield == _SHIELD and each.promised is None for each in found)
    return (
        "$ a day saved against a day without V2G that is known. A day is violated if energy is missing or a line is "
        f"overloaded in any of its steps. Agents: levels certified on {config.network_days} days, observed on as many "
        f"fresh ones; the day-ahead plan: on {config.plan_days} days and the first {config.plan_days} of the fresh "
        f"ones, since every day needs a program; predictive control, not shielded: the first {config.control_days}. "
        "What they earn cannot be set beside means over all days, only their paired difference to the plain PPO on the "
        f"same days can.\n\n{' '.join(parts)} Levels that could not be certified: {none}."
    )
