"""Sections of the parking lot's studies: each draws its rows from the same fresh days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.report import Section
from baselines import risk
from baselines.parking_lot.hindsight import bays_hindsight, hindsight
from baselines.parking_lot.policies import PlanReplay, PredictiveControl, tune_quantile
from baselines.parking_lot.programs import Solution, solve
from baselines.parking_lot.samples import excess, inflate, wasserstein
from v2g_env.core.validate import number
from v2g_env.metrics import mean_interval
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import law, sample, sample_capacity
from v2g_env.rollout import rollout

__all__ = ["Study", "StudyConfig"]

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class StudyConfig:
    """Sizes of the studies; the defaults take a few minutes on two cores.

    Attributes:
        fresh: capacities drawn to observe violation probabilities.
        repetitions: independent samples in the repeated experiments.
        days: generated days on which money is measured.
        transport: days of each law in an optimal-transport distance.
        beta: confidence parameter of single certificates.
    """

    fresh: int = 100_000
    repetitions: int = 200
    days: int = 2000
    transport: int = 480
    beta: float = 1e-5

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("fresh", "repetitions", "days", "transport"):
            number(name, getattr(self, name), 1, 10**8, integer=True)
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)

    @classmethod
    def quick(cls) -> StudyConfig:
        """Small sizes, a minute."""
        return cls(fresh=5000, repetitions=20, days=200, transport=120)


class Study:
    """Shared draws of one run; every method is one section."""

    def __init__(self, lot: Instance, config: StudyConfig) -> None:
        self.lot, self.config = lot, config
        self.fresh = {name: sample_capacity(lot, law(name), config.fresh, 900) for name in ("generator", "smoothed")}
        self.days = sample(lot, law("generator"), config.days, 901)

    def observed(self, plan: Floats, name: str = "generator") -> float:
        """Share of fresh draws of a law that the plan violates."""
        return float((excess(self.lot, plan, self.fresh[name]) > VIOLATION_TOLERANCE).mean())

    def earned(self, solution: Solution) -> tuple[float, float]:
        """Mean return of the plan on common generated days and half its 95 % interval [$]."""
        model = Model(self.lot, "generator", solution.plan)
        interval = mean_interval(rollout(model, self.days, PlanReplay(model)).returns)
        return interval.mean, float(interval.high - interval.low) / 2.0

    def samples(self) -> Section:
        """Promised and observed violation against N."""
        rows: Rows = []
        for n in (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000):
            plan = solve(self.lot, n_samples=n, seed=11, beta=self.config.beta)
            rows.append(
                {
                    "N": n,
                    "complexity": len(plan.certificate["support"]),
                    "eps": plan.certificate["risk"]["eps"],
                    "observed": self.observed(plan.plan),
                    "planned_usd": plan.value,
                    "earned_usd": self.earned(plan)[0],
                }
            )

        def draw(axes: Any) -> None:
            x = [row["N"] for row in rows]
            axes.loglog(x, [row["eps"] for row in rows], "o-", label="promised eps")
            seen = [(row["N"], row["observed"]) for row in rows if row["observed"] > 0]
            axes.loglog(*zip(*seen, strict=True), "s--", label="observed")
            axes.set(xlabel="samples N", ylabel="violation probability")
            axes.legend()

        text = (
            f"Robust plans from N generated days, confidence 1 - {self.config.beta:g}; observed on "
            f"{self.config.fresh} fresh days. More samples buy safety and cost money."
        )
        return Section("Violation against the number of samples", text, rows, draw)

    def real_days(self) -> Section:
        """What a few hundred real days allow."""
        rows: Rows = []
        for scenarios, test_days in (
            ("jpl-2019/fit", "jpl-2019/test"),
            ("jpl-all/scenarios", "jpl-all/test"),
            ("caltech-all/scenarios", "caltech-all/test"),
        ):
            source, test = law(f"days:{scenarios}"), law(f"days:{test_days}")
            count = len(source.days.dates)
            held = sample_capacity(self.lot, test, len(test.days.dates), 903)
            for rho in (None, 0.3, 0.1):
                plan = solve(
                    self.lot,
                    n_samples=count,
                    seed=12,
                    law_name=source.name,
                    beta=self.config.beta,
                    rho=rho,
                    looks=3,
                )
                violated = int((excess(self.lot, plan.plan, held) > VIOLATION_TOLERANCE).sum())
                rows.append(
                    {
                        "days": scenarios,
                        "rho_usd": "robust" if rho is None else rho,
                        "N": count,
                        "complexity": len(plan.certificate["support"]),
                        "eps": plan.certificate["risk"]["eps"],
                        "test_days": len(held.energy_kwh),
                        "violated": violated,
                        "frequency": violated / len(held.energy_kwh),
                        "limit": float(risk.hold_out(len(held.energy_kwh), violated, self.config.beta)),
                        "planned_usd": plan.value,
                    }
                )
        text = (
            "Programs that know real days only, tested on the held-out third of the same set; the limit is "
            "Clopper-Pearson's. "
            "Sets named -all hold every claimed weekday of a site from 2019 to 2021: they mix normal and lockdown "
            "days, so a "
            "robust plan has nothing to sell there. Caps are synthetic, arrivals and departures are real."
        )
        return Section("Real days alone", text, rows, None)

    def relaxation(self) -> Section:
        """Profit and risk against rho, with the two-sided band where it is valid."""
        rows: Rows = []
        grid = (1.0, 0.3, 0.1, 0.03, 0.01, 0.005, 0.003, 0.002, 0.0015, 0.001)
        for rho in grid:
            tied = solve(self.lot, n_samples=5000, seed=13, beta=self.config.beta, rho=rho, looks=len(grid))
            smooth = solve(
                self.lot, n_samples=5000, seed=13, beta=self.config.beta, rho=rho, looks=len(grid), law_name="smoothed"
            )
            mean, half = self.earned(tied)
            rows.append(
                {
                    "rho_usd": rho,
                    "planned_usd": tied.value,
                    "earned_usd": mean,
                    "earned_pm": half,
                    "eps": tied.certificate["risk"]["eps"],
                    "observed": self.observed(tied.plan),
                    "smoothed_low": smooth.certificate["risk"]["eps_low"],
                    "smoothed_eps": smooth.certificate["risk"]["eps"],
                    "smoothed_observed": self.observed(smooth.plan, "smoothed"),
                }
            )

        def draw(axes: Any) -> None:
            x = [row["rho_usd"] for row in rows]
            axes.semilogx(x, [row["planned_usd"] for row in rows], "o--", label="planned [$/day]")
            axes.semilogx(x, [row["earned_usd"] for row in rows], "o-", label="earned [$/day]")
            axes.set(xlabel="price of violation rho [$]", ylabel="profit [$/day]")
            axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
            right = axes.twinx()
            low, high = [row["smoothed_low"] for row in rows], [row["smoothed_eps"] for row in rows]
            right.fill_between(x, low, high, alpha=0.25, color="tab:red", label="two-sided bound")
            right.semilogx(x, [row["smoothed_observed"] for row in rows], "r.-", label="observed risk")
            right.set(ylabel="violation probability (law without ties)")
            right.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)

        text = (
            "Relaxed programs, N = 5000; all prices share the confidence. The generator's capacities are sums of "
            "whole cars, "
            "so ties happen and only the upper bound is valid; the two-sided band is given for the smoothed law, "
            "where ties "
            "are impossible by construction. Planned profit keeps rising while what is really earned peaks and falls."
        )
        return Section("Profit and risk against the price of violation", text, rows, draw)

    def radius(self) -> Section:
        """Profit and bound against the adversary's radius."""
        rows: Rows = []
        for radius in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0):
            plan = solve(self.lot, n_samples=2000, seed=14, beta=self.config.beta, radius=radius)
            rows.append(
                {
                    "R_chargers": radius,
                    "planned_usd": plan.value,
                    "earned_usd": self.earned(plan)[0],
                    "eps_inflated": plan.certificate["risk"]["eps"],
                    "observed": self.observed(plan.plan),
                    "observed_worst_case": self._worst(plan.plan, radius),
                }
            )

        def draw(axes: Any) -> None:
            x = [row["R_chargers"] for row in rows]
            axes.plot(x, [row["planned_usd"] for row in rows], "o--", label="planned")
            axes.plot(x, [row["earned_usd"] for row in rows], "o-", label="earned")
            axes.set(xlabel="radius R [chargers]", ylabel="profit [$/day]")
            axes.legend()

        text = (
            "Every sample is replaced by the worst point of a ball of R chargers around it. eps bounds the "
            "probability that "
            "some perturbation up to R of a fresh day violates the plan; that frequency is the last column."
        )
        return Section("Adversarial radius", text, rows, draw)

    def _worst(self, plan: Floats, radius: float) -> float:
        moved = inflate(self.lot, self.fresh["generator"], radius)
        return float((excess(self.lot, plan, moved) > VIOLATION_TOLERANCE).mean())

    def shift(self) -> Section:
        """Risk under other seasons, sites and years beside eps + mu / R."""
        rows: Rows = []
        radii = (4.0, 8.0, 16.0)
        plans = {r: solve(self.lot, n_samples=5000, seed=15, beta=self.config.beta, radius=r, looks=3) for r in radii}
        names = (
            "generator",
            "jpl-2019/test",
            "jpl-2019-summer",
            "jpl-2019-autumn",
            "jpl-2019/holiday",
            "jpl-2020/early",
            "jpl-2020/lockdown",
            "jpl-2021",
            "caltech-2019",
        )
        near = sample_capacity(self.lot, law("generator"), self.config.transport, 905)
        for name in names:
            source = law(name if name == "generator" else f"days:{name}")
            there = sample_capacity(self.lot, source, self.config.transport, 906)
            distance = wasserstein(self.lot, near, there)
            many = sample_capacity(self.lot, source, len(source.days.dates) * 20, 907)
            row: dict[str, Any] = {"law": name, "days": len(source.days.dates), "mu_chargers": distance}
            for r, plan in plans.items():
                eps = plan.certificate["risk"]["eps"]
                row[f"observed_R{r:g}"] = float((excess(self.lot, plan.plan, many) > VIOLATION_TOLERANCE).mean())
                row[f"bound_R{r:g}"] = float(risk.shifted(eps, r, distance))
            rows.append(row)

        def draw(axes: Any) -> None:
            x = np.arange(len(rows))
            for k, r in enumerate(radii):
                axes.plot(
                    x, [row[f"bound_R{r:g}"] for row in rows], "_", ms=14, color=f"C{k}", label=f"bound, R = {r:g}"
                )
                axes.plot(
                    x, [row[f"observed_R{r:g}"] for row in rows], "o", color=f"C{k}", label=f"observed, R = {r:g}"
                )
            axes.set_xticks(x, [row["law"] for row in rows], rotation=30, ha="right")
            axes.set(ylabel="violation probability")
            axes.legend(fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))

        text = (
            "Robust plans from generated days, inflated by R, carried to other laws. mu is the empirical first "
            "Wasserstein "
            f"distance between {self.config.transport} days of each law (exact assignment; largest deviation over "
            "all steps, in chargers): "
            "an estimate, biased upwards as the generator's distance from a second sample of itself in the first row "
            "shows. "
            "A bound of 1 says nothing: years and sites this different need their own samples."
        )
        return Section("Distribution shift", text, rows, draw)

    def repeated(self) -> Section:
        """Whether the certificates hold over independent samples."""
        rows: Rows = []
        beta, n = 0.1, 500
        for name, rho in (("generator", None), ("generator", 0.03), ("smoothed", None), ("smoothed", 0.03)):
            above = below = 0
            mean_eps = mean_seen = 0.0
            for seed in range(self.config.repetitions):
                plan = solve(self.lot, n_samples=n, seed=10_000 + seed, beta=beta, rho=rho, law_name=name)
                seen = self.observed(plan.plan, name)
                low, _ = risk.relaxed(n, len(plan.certificate["support"]), beta)
                above += seen > plan.certificate["risk"]["eps"]
                below += rho is not None and seen < float(low)
                mean_eps += plan.certificate["risk"]["eps"] / self.config.repetitions
                mean_seen += seen / self.config.repetitions
            rows.append(
                {
                    "law": name,
                    "program": "robust" if rho is None else f"relaxed, rho {rho:g}",
                    "repetitions": self.config.repetitions,
                    "beta": beta,
                    "mean_eps": mean_eps,
                    "mean_observed": mean_seen,
                    "above_eps": above,
                    "below_eps_low": "" if rho is None else below,
                    "eps_low_offered": name == "smoothed" and rho is not None,
                }
            )
        text = (
            f"{self.config.repetitions} independent samples of N = {n}; a valid certificate may fail in at most a "
            "share beta "
            "of them. The lower bound of relaxed programs is counted for both laws, but only offered for the one "
            "without ties."
        )
        return Section("Do the certificates hold?", text, rows, None)

    def executability(self) -> Section:
        """What it costs that a plan can be carried out, and that the gate closes early."""
        rows: Rows = []
        for n in (500, 2000, 5000):
            values = {q: solve(self.lot, n_samples=n, seed=16, quota=q).value for q in ("executable", "full")}
            rows.append(
                {
                    "what": f"robust plan, N = {n}",
                    "executable_usd": values["executable"],
                    "relaxation_usd": values["full"],
                    "price_percent": 100.0 * (1.0 - values["executable"] / values["full"]),
                }
            )
        few = sample(self.lot, law("generator"), 100, 908)
        quota = hindsight(self.lot, few).value_usd.mean()
        model = Model(self.lot, "generator", per_bay=True)
        bays = np.mean([bays_hindsight(model, few, i)[0] for i in range(len(few.sessions))])
        rows.append(
            {
                "what": "hindsight, 100 days",
                "executable_usd": float(quota),
                "relaxation_usd": float(bays),
                "price_percent": 100.0 * (1.0 - float(quota / bays)),
            }
        )
        text = (
            "The executable quota counts what every car can take in and give back within one step, so any dispatch "
            "rule "
            "carries out the plan; the full quota counts caps and is an upper reference only."
        )
        return Section("Price of executability", text, rows, None)

    def gate(self) -> Section:
        """Value of deciding at the step itself."""
        rows: Rows = []
        for steps in (1, 0):
            lot = self.lot.replace(gate_closure_steps=steps)
            model = Model(lot, "generator")
            days = sample(lot, law("generator"), self.config.days, 901)
            tuning = sample(lot, law("generator"), 500, 909)
            quantile = tune_quantile(model, tuning)
            result = rollout(model, days, PredictiveControl(model, quantile))
            interval = mean_interval(result.returns)
            rows.append(
                {
                    "gate_closure_steps": steps,
                    "quantile": quantile,
                    "predictive_control_usd": interval.mean,
                    "pm": float(interval.high - interval.low) / 2.0,
                    "days_violated": float((result.excess > VIOLATION_TOLERANCE).mean()),
                    "hindsight_usd": float(hindsight(lot, days).value_usd.mean()),
                }
            )
        text = "With the gate at the step itself the capacity is known, so no sane policy violates."
        return Section("Value of a late gate", text, rows, None)
