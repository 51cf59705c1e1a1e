"""The parking lot's part of the study of certified learning: money against violations, and other laws."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from agents.learning_answers import Kept, World, kept_record
from agents.learning_study_figures import draw_shift, draw_tradeoff
from agents.report import Section
from baselines import risk
from baselines.certificate import save
from baselines.parking_lot.policies import LeastLaxity, PlanReplay, PredictiveControl
from baselines.parking_lot.programs import solve
from baselines.parking_lot.samples import wasserstein
from baselines.parking_lot.shield import TAILS, LotShield, cap_weights, fit_caps
from baselines.parking_lot.verify_shield import box_certificate, margin_certificate
from baselines.shield import best_level, margin_runs, most_removed, passed_levels, tune
from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import law, sample, sample_capacity
from v2g_env.rollout import rollout

__all__ = ["LAWS", "LotStudy"]

LAWS = (
    "generator",
    "jpl-2019/test",
    "jpl-2019-summer",
    "jpl-2019-autumn",
    "jpl-2019/holiday",
    "jpl-2020/early",
    "caltech-2019",
)
_WEIGHED = len(TAILS) // 2 + 2  # level whose hindrances weigh the steps of the caps
_ANY, _OWN = "caps, any agent", "caps, tuned for this agent"
_QUANTILE = 0.3  # of predictive control


class LotStudy:
    """Shields and policies that the lot's sections share.

    Args:
        world: of the study.
    """

    def __init__(self, world: World) -> None:
        self.world, self.config, self.model = world, world.config, world.lot
        self.fresh = sample(self.model.instance, self.model.law, self.config.fresh_days, self.config.seed + 5)

    @cached_property
    def policies(self) -> Mapping[str, Policy]:
        """Policies without a plan, by name."""
        return {
            "PPO": self.world.agent("parking_lot_ppo"),
            "residual PPO": self.world.agent("parking_lot_residual_ppo"),
            "Lagrangian PPO": self.world.agent("parking_lot_lagrangian_ppo"),
            "predictive control": PredictiveControl(self.model, _QUANTILE),
            "least laxity": LeastLaxity(self.model),
        }

    @cached_property
    def caps(self) -> LotShield:
        """Caps whose steps are weighed by where PPO is held back; the days that shape them certify nothing."""
        plain = fit_caps(self.model, self.config.caps_days)
        weights = cap_weights(plain, _WEIGHED, self.policies["PPO"])
        return fit_caps(self.model, self.config.caps_days, weights=weights)

    @cached_property
    def levels(self) -> list[tuple[int, float]]:
        """Level of the caps and its promise for any agent, for every promise asked for; certificates are written."""
        config, found = self.config, []
        looks = len(config.promises)
        for eps in config.promises:
            allowed = most_removed(config.tuning_days, eps, config.beta, looks)
            level, data = margin_certificate(
                self.caps, config.tuning_days, config.seed + 1, allowed=allowed, beta=config.beta, looks=looks
            )
            save(data, self.world.out / "certificates" / f"caps-{100.0 * eps:g}-percent.json")
            found.append((level, float(data["risk"]["eps"])))
        return found

    def tradeoff(self) -> Section:
        """Every policy plain, and behind what holds for any agent or for PPO alone."""
        found = [self._kept(policy, name, "none", None) for name, policy in self.policies.items()]
        found += [self._plan(), self._box()]
        for name, policy in self.policies.items():
            for level, eps in self.levels:
                found.append(self._kept(Shielded(policy, self.caps, level), name, _ANY, eps))
        for name in ("PPO", "Lagrangian PPO"):
            found += self._tuned(name)
        self.world.kept += found
        return Section(
            "Parking lot: money and violations",
            self._words(found),
            [each.row() for each in found],
            draw_tradeoff(found),
            (8.6, 4.6),
        )

    def _kept(self, policy: Policy, name: str, shield: str, promised: float | None, model: Model | None = None) -> Kept:
        return kept_record(self.world, model or self.model, self.fresh, policy, "parking lot", name, shield, promised)

    def _plan(self) -> Kept:
        """The robust plan, decided before the day."""
        config, lot = self.config, self.model.instance
        plan = solve(lot, n_samples=config.tuning_days, seed=config.seed + 4, beta=config.beta)
        save(plan.certificate, self.world.out / "certificates" / "plan-robust.json")
        shown = Model(lot, self.model.law, plan.plan)
        return self._kept(PlanReplay(shown), "robust plan", "none", float(plan.certificate["risk"]["eps"]), shown)

    def _box(self) -> Kept:
        config = self.config
        shield, data = box_certificate(self.model, config.tuning_days, config.seed + 3, beta=config.beta)
        save(data, self.world.out / "certificates" / "box.json")
        return self._kept(Shielded(self.policies["PPO"], shield, 1), "PPO", "box, any agent", data["risk"]["eps"])

    def _tuned(self, name: str) -> list[Kept]:
        """The same caps, as far as this agent may go."""
        config, policy = self.config, self.policies[name]
        days = sample(self.model.instance, self.model.law, config.tuning_days, config.seed + 2)
        runs = margin_runs(self.model, policy, self.caps, days)
        passed, looks = passed_levels(runs.violated), len(config.promises)
        found = []
        for eps in config.promises:
            tuned = tune(passed, most_removed(config.tuning_days, eps, config.beta, looks), config.beta, looks)
            level = best_level(runs.returns_usd, tuned)
            found.append(self._kept(Shielded(policy, self.caps, level), name, _OWN, tuned.eps))
        return found

    def _words(self, found: list[Kept]) -> str:
        plain = {each.policy: each for each in found if each.shield == "none"}
        best = max((each for each in found if each.promised is not None), key=lambda each: each.mean_usd)
        near = [
            min(
                (each for each in found if (each.policy, each.shield) == (name, shield)),
                key=lambda each: abs((each.promised or 0.0) - 0.05),
            )
            for name, shield in (("PPO", _ANY), ("PPO", _OWN), ("Lagrangian PPO", _OWN))
        ]
        prices = [f"{each.mean_usd:.2f} ({each.paired_usd:+.2f} ± {each.paired_half_usd:.2f}) $" for each in near]
        return (
            f"{self.config.fresh_days} fresh days of {self.model.law.name}, the same for every policy. `promised` was "
            f"certified on other days before (confidence 1 - {self.config.beta:g} each), `limit` comes from counting "
            "the fresh days and is nothing that was known before.\n\nWithout a shield PPO earns "
            f"{plain['PPO'].mean_usd:.2f} $ a day and violates {100 * plain['PPO'].frequency:.1f} % of the days. "
            f"Where about {100 * (near[0].promised or 0):.0f} % are promised, it earns {prices[0]} behind caps for any "
            f"agent and {prices[1]} behind those tuned for it; PPO trained with a price on violations "
            f"(Lagrangian) earns {prices[2]} behind those tuned for it. In brackets: paired difference to the plain "
            f"PPO. The most profitable of all with a promise is {best.policy} ({best.shield}, "
            f"{100 * (best.promised or 0):.1f} %): {best.mean_usd:.2f} $.\n\nCaps for any agent promise the same for "
            "every policy behind them, those tuned for one agent say nothing about another. Lagrangian training alone "
            f"promises nothing: {100 * plain['Lagrangian PPO'].frequency:.1f} % of the days were violated."
        )

    def shift(self) -> Section:
        """Days of other seasons, sites and years: what is observed, and the bound eps + mu / R of the boxes."""
        config, lot, agent = self.config, self.model.instance, self.policies["PPO"]
        boxes = {}
        for radius in config.radii:
            shield, data = box_certificate(
                self.model,
                config.tuning_days,
                config.seed + 3,
                radius=radius,
                beta=config.beta,
                looks=len(config.radii),
            )
            save(data, self.world.out / "certificates" / f"box-radius-{radius:g}.json")
            boxes[radius] = Shielded(agent, shield, 1), float(data["risk"]["eps"])
        middle = min(range(len(self.levels)), key=lambda k: abs(self.levels[k][1] - 0.05))
        level, eps = self.levels[middle]
        capped = f"caps {100 * eps:.0f} %"
        near = sample_capacity(lot, law("generator"), config.transport, config.seed + 30)
        rows: list[dict[str, Any]] = []
        for name in LAWS:
            source = law(name if name == "generator" else f"days:{name}")
            there = sample_capacity(lot, source, config.transport, config.seed + 31)
            distance = wasserstein(lot, near, there)
            count = config.fresh_days if name == "generator" else len(source.days.dates) * config.redraws
            model = Model(lot, source)
            days = sample(lot, source, count, config.seed + 32)

            def seen(policy: Policy, model: Model = model, days: Any = days) -> tuple[float, float]:
                episodes = rollout(model, days, policy)
                return float((episodes.excess > VIOLATION_TOLERANCE).mean()), float(episodes.returns.mean())

            plain, own = seen(agent), seen(Shielded(agent, self.caps, level))
            row: dict[str, Any] = {
                "law": name,
                "days": len(source.days.dates),
                "mu_chargers": distance,
                "plain, violated": plain[0],
                "plain [$]": plain[1],
                f"{capped}, violated": own[0],
                f"{capped} [$]": own[1],
            }
            for radius, (policy, inflated) in boxes.items():
                violated, earned = seen(policy)
                row[f"box R = {radius:g}, violated"] = violated
                row[f"box R = {radius:g}, bound"] = float(risk.shifted(inflated, radius, distance))
                row[f"box R = {radius:g} [$]"] = earned
            rows.append(row)
        above = sum(row[f"box R = {r:g}, violated"] > row[f"box R = {r:g}, bound"] for row in rows for r in boxes)
        broken = [row["law"] for row in rows if row[f"{capped}, violated"] > eps]
        largest = config.radii[-1]
        text = (
            "PPO, trained and shielded on days of the generator, on days of other laws. The boxes are certified with "
            "every capacity lowered by R chargers, so that the bound eps + mu / R holds for any agent behind them "
            "under any law within mu; mu is the empirical Wasserstein distance of "
            f"{config.transport} days (largest deviation of the day, in chargers), an estimate that is biased upwards, "
            "as its first row shows.\n\n"
            f"Observed violations were above the bound in {above} of {len(rows) * len(boxes)} cases; a bound of 1 says "
            f"nothing. The caps ({100 * eps:.0f} % promised for the generator, nothing for other laws) were exceeded "
            f"under {', '.join(broken) if broken else 'none of them'}. Protection against other laws is dear: behind "
            f"the box with R = {largest:g} PPO earns {rows[0][f'box R = {largest:g} [$]']:.2f} $ instead of "
            f"{rows[0]['plain [$]']:.2f} $ on the generator's own days."
        )
        return Section("Parking lot: other laws", text, rows, draw_shift(rows, capped, config.radii), (8.6, 4.2))
