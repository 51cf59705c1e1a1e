"""Sections on promises: certificates over repeated samples, Algorithm 1 without a hold-out, the normal closed form."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.report import Section
from agents.shared_battery_answers import CLOSE, EVALUATION, RULE, StudyConfig, World, grid_up_to, uncovered
from agents.shared_battery_study_figures import curves, promises
from baselines.shared_battery import gaussian
from baselines.shared_battery.conservatism import bisection, nested_grid
from baselines.shared_battery.programs import solve, span_of
from baselines.shared_battery.reliability import FreshDays, missed_days, sample_test
from baselines.shared_battery.scenario_program import least_cost
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import Days, sample_days

__all__ = ["BETA", "CORRELATIONS", "NORMAL_EPS", "Promises"]

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]

BETA = 0.1  # of repeated certificates: large, so that a broken one would be seen
CORRELATIONS = (0.0, 0.1, 0.3)
NORMAL_EPS = (0.2, 0.1, 0.05, 0.01)
NORMAL_DRIVERS = (25, 100)
HOLD_OUT = ((0.1, 640, (300,)), (0.01, 2560, ()))  # eps, most samples, numbers of evaluation days besides the study's
_DRIVERS, _EPS, _SAMPLES = 25, 0.1, 200
_FEW = 10
_FALL, _STEP, _LISTS = 1e-3, 1.3, 20
_CHUNK = 10_000


class Promises:
    """Sections about promises; every method is one of them.

    Args:
        world: where the fleets come from.
        config: sizes.
        tables: receives rows that are too many for a report, by name of their CSV file.
    """

    def __init__(self, world: World, config: StudyConfig, tables: dict[str, Rows]) -> None:
        self.world, self.config, self.tables = world, config, tables

    def certificates(self) -> Section:
        """Repeated certificates, with and without a common shock."""
        rows: Rows = []
        points: dict[str, tuple[list[float], list[float]]] = {}
        every: Rows = []
        independent = 0.0
        for c in CORRELATIONS:
            instance = self.world.fleet(_DRIVERS, _EPS).replace(correlation=c)
            law = self.world.law(instance)
            fresh = sample_days(instance, law, self.config.fresh, self.config.seed_of(30), 4).need_kwh
            if c == 0.0:
                independent = float(np.quantile(fresh.sum(axis=1), 1.0 - _EPS))
            promised, true = [], []
            for k in range(self.config.repetitions):
                seed = self.config.seed_of(31, k)
                found = solve(instance, n_samples=_SAMPLES, seed=seed, source=law, beta=BETA)
                promised.append(float(found.certificate["risk"]["eps"]))
                true.append(uncovered(fresh, found.own_kwh, found.shared_kwh))
                complexity = len(found.certificate["days"])
                every.append({"correlation": c, "k": complexity, "eps(k)": promised[-1], "true": true[-1]})
            points[f"correlation {c:g}"] = promised, true
            rows.append(
                {
                    "correlation": c,
                    "samples": self.config.repetitions,
                    "above eps(k)": int(np.sum(np.array(true) > np.array(promised))),
                    "allowed": BETA * self.config.repetitions,
                    "mean eps(k)": float(np.mean(promised)),
                    "mean true violation": float(np.mean(true)),
                    "sizes for independent needs": uncovered(fresh, np.zeros(_DRIVERS), independent),
                    "normal needs, formula": gaussian.correlated_risk(_DRIVERS, _EPS, c),
                    "normal needs, simulated": self._normal_risk(c),
                }
            )
        self.tables["certificates-all"] = every
        last = rows[-1]
        text = (
            f"{self.config.repetitions} independent samples of {_SAMPLES} days for each correlation of the drivers' "
            f"needs on a day (a common shock), {_DRIVERS} drivers, beta = {BETA:g}: the true violation probability, "
            f"counted on {self.config.fresh} fresh days, may exceed the certificate's eps(k) in a share beta of the "
            f"samples, {BETA * self.config.repetitions:g} times. The certificate does not need independent drivers, "
            "only independent days.\n\n"
            f"The last three columns are sizes that rely on independence and would violate {_EPS:g} of the days: the "
            "quantile of the generated fleet's total, and the closed form for normal needs. With correlation "
            f"{last['correlation']:g} they violate {last['sizes for independent needs']:.3f} and "
            f"{last['normal needs, formula']:.3f}."
        )
        return Section("Do the certificates hold?", text, rows, promises(points, BETA))

    def _normal_risk(self, correlation: float) -> float:
        """Simulated violation of the independent optimum for correlated normal needs."""
        limit = float(self._normal_sizes(_DRIVERS, _EPS)[0])
        totals = self._normal(_DRIVERS, correlation)[0]
        return float((totals > limit).mean())

    @staticmethod
    def _normal_sizes(drivers: int, eps: float) -> tuple[float, float]:
        """Total capacity beyond the mean needs, in units of sigma: the exact optimum, and the paper's bound."""
        from scipy.special import ndtri

        z = float(ndtri(1.0 - eps))
        exact, bound = gaussian.saving(drivers, eps), gaussian.saving_of_bound(drivers, eps)
        return drivers * (z - exact), drivers * (z - bound)

    def _normal(self, drivers: int, correlation: float) -> tuple[Floats, Floats]:
        """Totals of standard normal needs (m,), and of their positive parts."""
        rng = np.random.default_rng(self.config.seed_of(32))
        totals, above = [], []
        for start in range(0, self.config.fresh, _CHUNK):
            m = min(_CHUNK, self.config.fresh - start)
            common, own = rng.standard_normal(m), rng.standard_normal((m, drivers))
            need = np.sqrt(correlation) * common[:, None] + np.sqrt(1.0 - correlation) * own
            totals.append(need.sum(axis=1))
            above.append(np.maximum(need, 0.0).sum(axis=1))
        return np.concatenate(totals), np.concatenate(above)

    def normal(self) -> Section:
        """Closed forms for normal needs beside a simulation."""
        from scipy.special import ndtri

        rows: Rows = []
        for n in NORMAL_DRIVERS:
            totals, above = self._normal(n, 0.0)
            for eps in NORMAL_EPS:
                exact, bound = self._normal_sizes(n, eps)
                seen = float(ndtri(1.0 - eps) - np.quantile(totals, 1.0 - eps) / n)
                rows.append(
                    {
                        "drivers": n,
                        "eps": eps,
                        "saving": gaussian.saving(n, eps),
                        "simulated": seen,
                        "saving by the published bound": gaussian.saving_of_bound(n, eps),
                        "violation of exact sizes": float((totals > exact).mean()),
                        "violation of the bound's sizes": float((above > bound).mean()),
                    }
                )
        text = (
            "Normal, independent needs with one deviation sigma: capacity per driver that sharing saves, in units of "
            "sigma. Exact: z (1 - 1/sqrt(n)), everything shared, z the standard normal quantile of 1 - eps. Published "
            "bound (their appendix B): own batteries of the mean need and z - 1/sqrt(2 pi) - sqrt(2 ln(1/eps) / n). "
            f"Both beside {self.config.fresh} simulated days: the exact sizes are violated on eps of them, those of "
            "the bound hardly ever. The saving grows with the number of drivers and with the target, as published."
        )
        places = [2, 3, 5, 10, 25, 50, 100, 200, 500, 1000]
        lines: dict[str, tuple[list[float], list[float]]] = {}
        for eps in NORMAL_EPS:
            x = [float(n) for n in places]
            lines[f"eps {eps:g}"] = x, [gaussian.saving(n, eps) for n in places]
            lines[f"eps {eps:g}, bound"] = x, [gaussian.saving_of_bound(n, eps) for n in places]
        draw = curves(lines, "drivers", "saving per driver [sigma]")
        return Section("Normal needs in closed form", text, rows, draw)

    def algorithm(self) -> Section:
        """True reliability of what Algorithm 1 and the certified grid report."""
        config = self.config
        rows: Rows = []
        for eps, most, few in HOLD_OUT:
            instance = self.world.fleet(_FEW, eps)
            law = self.world.law(instance)
            truth = sample_test(instance, law, 2 * config.fresh, config.seed_of(40), 4, RULE)
            samples = [sample_days(instance, law, most, config.seed_of(41, k)) for k in range(config.hold_out_trials)]
            for count in sorted({*few, config.evaluation_days(_FEW)}):
                reached = self._unchecked(instance, samples, count, truth)
                rows.append(_share(f"Algorithm 1, {count} evaluation days", 1.0 - eps, reached, None))
            reached = self._checked(instance, samples, truth)
            rows.append(_share(f"certified grid, {config.search_days} fresh days", 1.0 - eps, reached, BETA))
        instance = self.world.fleet(_FEW, HOLD_OUT[0][0])
        counts, lists = _fine_grid(HOLD_OUT[0][1]), min(config.hold_out_trials, _LISTS)
        truth = sample_test(instance, self.world.law(instance), config.fresh, config.seed_of(40), 4, RULE)
        steps = np.array([step for k in range(lists) for step in self._steps(instance, counts, k, truth)])
        for words, mark in (("change", steps != 0.0), ("lower", steps < 0.0), (f"lower by {_FALL:g}", steps < -_FALL)):
            what = f"steps of nested N that {words} the reliability" + (" or more" if words[-1].isdigit() else "")
            rows.append(dict.fromkeys(rows[0]) | {"what": what, "cases": len(steps), "share": float(mark.mean())})
        text = (
            f"{config.hold_out_trials} runs with {_FEW} drivers and the {RULE} rule. Algorithm 1 reads the reliability "
            "of its sizes from the very days by which it chose them, and always reports the target or more. The share "
            f"is that of runs whose true reliability, on {2 * config.fresh} other days, is below: chance decides where "
            "an answer lies just above its target. The certified grid is tested on fresh days with confidence "
            f"{1.0 - BETA:g} for all its numbers of samples together, and may be wrong in a share of {BETA:g}.\n\n"
            "The algorithm is a bisection, which takes for granted that the reliability rises with the number of "
            f"samples. The last rows follow {lists} lists of nested samples from {counts[0]} to {counts[-1]} in steps "
            f"of about {100 * _STEP - 100:.0f} %: in {100 * float((steps < 0.0).mean()):.0f} % of them it falls, by "
            f"{max(0.0, -float(steps.min())):.3f} at most."
        )
        return Section("Algorithm 1 without a hold-out", text, rows, None)

    def _unchecked(self, instance: Instance, samples: list[Days], count: int, truth: FreshDays) -> list[float]:
        """True reliabilities of the answers of Algorithm 1 with ``count`` evaluation days."""
        law, reached = self.world.law(instance), []
        tolerance = min(0.01, CLOSE * instance.eps[0])
        for k, each in enumerate(samples):
            days = sample_test(instance, law, count, self.config.seed_of(41, k), EVALUATION, RULE)
            tried = bisection(instance, each, days, RULE, trials=20, tolerance=tolerance)
            reached += [self._true(x.own_kwh, x.shared_kwh, truth) for x in tried if x.excess <= 0.0][-1:]
        return reached

    def _checked(self, instance: Instance, samples: list[Days], truth: FreshDays) -> list[float]:
        """True reliabilities of sizes from the certified grid."""
        law, reached = self.world.law(instance), []
        for k, each in enumerate(samples):
            with suppress(InvalidInputError):  # nothing certified, nothing promised
                found = nested_grid(
                    instance,
                    each,
                    grid_up_to(len(each.need_kwh)),
                    test_days=self.config.search_days,
                    seed=self.config.seed_of(41, k),
                    source=law,
                    rule=RULE,
                    beta=BETA,
                )
                reached.append(self._true(found.own_kwh, found.shared_kwh, truth))
        return reached

    def _true(self, own: Floats, shared: float, truth: FreshDays) -> float:
        return 1.0 - int(missed_days(RULE, own, shared, truth).max()) / len(truth.need_kwh)

    def _steps(self, instance: Instance, grid: tuple[int, ...], k: int, truth: FreshDays) -> list[float]:
        """Changes of the true reliability from one number of nested samples to the next."""
        need = sample_days(instance, self.world.law(instance), grid[-1], self.config.seed_of(41, k)).need_kwh
        seen = []
        for count in grid:
            answer = least_cost(need[:count], span_of(instance))
            seen.append(self._true(answer.own_kwh, answer.shared_kwh, truth))
        return np.diff(seen).tolist()


def _fine_grid(most: int) -> tuple[int, ...]:
    """Numbers of samples from 5 to about ``most``, each about _STEP times the one before."""
    counts = [5]
    while counts[-1] * _STEP <= most:
        counts.append(round(counts[-1] * _STEP))
    return tuple(counts)


def _share(what: str, target: float, reached: list[float], allowed: float | None) -> dict[str, Any]:
    """Row on true reliabilities that were reported to be at least the target."""
    return {
        "what": what,
        "target": target,
        "cases": len(reached),
        "share": float(np.mean(np.array(reached) < target)) if reached else None,
        "allowed": allowed,
        "mean true reliability": float(np.mean(reached)) if reached else None,
        "least true reliability": min(reached, default=None),
    }
