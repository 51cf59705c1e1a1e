"""Sections on what sizes are made of and what they cost: prices, certificates, rules, targets, units, bin widths."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.report import Section
from agents.shared_battery_answers import RULE, SEARCH_ROUNDS, StudyConfig, World, grid_up_to, uncovered
from agents.shared_battery_published import RULES_COMPARED
from agents.shared_battery_study_figures import stacked
from baselines import risk
from baselines.shared_battery.conservatism import nested_grid, textbook_samples
from baselines.shared_battery.programs import Solution, separate, solve
from baselines.shared_battery.reliability import FreshDays, missed_days, sample_test
from baselines.shared_battery.search import search
from v2g_env.core.allocation import ORDERED, RULES, allocate
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

__all__ = ["DRIVERS", "RATIOS", "Sizes"]

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]

DRIVERS = 25
RATIOS = (1.0, 0.9, 0.5, 0.1)
_EPS = 0.05
_SCARCE = 0.5  # of the certified shared battery
_FRESH = 4  # stream of fresh days


class Sizes:
    """Sizes of fleets of the generator; every method is one section."""

    def __init__(self, world: World, config: StudyConfig) -> None:
        self.world, self.config = world, config

    def _fresh(self, instance: Instance) -> FreshDays:
        """Days that shaped nothing, with an order of the drivers."""
        law, seed = self.world.law(instance), self.config.seed_of(10, instance.drivers)
        return sample_test(instance, law, self.config.fresh, seed, _FRESH, "first_come")

    def prices(self) -> Section:
        """Sizes against the ratio of prices, and how the tie is broken."""
        n, count = self.config.price_drivers, self.config.price_samples
        rows: Rows = []
        fresh = self._fresh(self.world.fleet(n, _EPS))
        for ratio in RATIOS:
            instance = self.world.fleet(n, _EPS, ratio)
            begin = time.perf_counter()
            found = solve(
                instance,
                n_samples=count,
                seed=self.config.seed_of(11),
                source=self.world.law(instance),
                beta=self.config.beta,
            )
            seconds = time.perf_counter() - begin
            sizes = "tie broken" if ratio == 1.0 else "program"
            rows.append(self._price_row(instance, ratio, sizes, found.plan, len(found.certificate["days"]), fresh))
            rows[-1] |= {"solve_s": seconds}
            if ratio == 1.0:
                own = np.full(n, instance.own_min_kwh)
                pooled = np.append(own, found.plan.sum() - own.sum())
                rows.append(self._price_row(instance, ratio, "all shared", pooled, 1, fresh) | {"solve_s": None})
        worst = {rule: rows[1][rule] - rows[0][rule] for rule in RULES_COMPARED}
        words = ", ".join(f"{rule.replace('_', ' ')} {more:+.4f}" for rule, more in worst.items())
        text = (
            f"{n} drivers, {count} sampled days, price of own capacity over that of shared capacity; cost is per "
            "season. k counts the days that decide the sizes, eps(k) is what they promise after the solution, eps a "
            f"priori what {n + 1} decisions promise before it, both for a day on which the shortfalls exceed the "
            f"shared battery, confidence 1 - {self.config.beta:g}; the reliability of the worst driver is counted on "
            f"{self.config.fresh} fresh days. Cheap own capacity turns sharing into a reserve.\n\n"
            "At equal prices many sizes have the least cost, and the choice among them alone changes the "
            f"worst driver's reliability: all shared against the tie broken, {words}."
        )
        labels = [f"{row['own over shared price']:g}, {row['sizes']}" for row in rows]
        parts = {
            "own": [row["own_per_driver_kwh"] for row in rows],
            "shared": [row["shared_per_driver_kwh"] for row in rows],
        }
        draw = stacked(labels, parts, "capacity per driver [kWh], by price ratio")
        return Section("Prices of own and shared capacity", text, rows, draw, (8.6, 3.2))

    def _price_row(
        self, instance: Instance, ratio: float, sizes: str, plan: Floats, complexity: int, fresh: FreshDays
    ) -> dict[str, Any]:
        n, count, beta = instance.drivers, self.config.price_samples, self.config.beta
        row: dict[str, Any] = {
            "own over shared price": ratio,
            "sizes": sizes,
            "own_per_driver_kwh": float(plan[:-1].mean()),
            "shared_per_driver_kwh": float(plan[-1]) / n,
            "cost_usd": float(instance.cost_usd(plan[:-1], float(plan[-1]))),
            "k": complexity,
            "eps(k)": float(risk.degenerate(count, complexity, beta)),
            "eps a priori": float(risk.a_priori(count, n + 1, beta)),
        }
        for rule in RULES_COMPARED:
            row[rule] = 1.0 - int(missed_days(rule, plan[:-1], float(plan[-1]), fresh).max()) / len(fresh.need_kwh)
        return row

    def conservatism(self) -> Section:
        """The same promise from several certificates."""
        instance = self.world.fleet(DRIVERS, _EPS)
        law, beta, seed = self.world.law(instance), self.config.beta, self.config.seed_of(12)
        fresh = self._fresh(instance)
        counts = {
            "textbook N (2006)": textbook_samples(instance, beta),
            "a priori N (2008)": risk.a_priori_samples(_EPS, DRIVERS + 1, beta),
        }
        found: dict[str, tuple[Solution, str]] = {
            "separate, exact quantiles": (separate(instance, source=law), RULE),
            "separate, from samples": (
                separate(instance, n_samples=self.config.test_days, seed=seed, source=law, beta=beta),
                RULE,
            ),
        }
        for name, count in counts.items():
            found[f"(P-SI), {name}"] = solve(instance, n_samples=count, seed=seed, source=law, beta=beta), "every rule"
        found["(P-SI), N by eps(k)"] = solve(instance, seed=seed, source=law, beta=beta), "every rule"
        grid = grid_up_to(2 * self.config.start_samples)
        samples = sample_days(instance, law, grid[-1], seed)
        tests: dict[str, Any] = {"test_days": self.config.test_days, "seed": seed, "source": law, "beta": beta}
        found["grid of samples"] = nested_grid(instance, samples, grid, rule=RULE, **tests), RULE
        for rule in RULES_COMPARED:
            name = f"(P-S), {rule.replace('_', ' ')}"
            sizes = search(instance, rule=rule, train_days=self.config.search_days, rounds=SEARCH_ROUNDS, **tests)
            found[name] = sizes, rule
        rows: Rows = [self._cost_row(instance, name, each, rule, fresh) for name, (each, rule) in found.items()]
        cost = {row["sizes"]: row["cost_usd"] for row in rows}
        first, last = cost["(P-SI), textbook N (2006)"], cost["(P-SI), N by eps(k)"]
        text = (
            f"{DRIVERS} drivers, reliability {1.0 - _EPS:g} for each, own capacity at "
            f"{instance.own_usd_per_kwh:g} $ and shared at {instance.shared_usd_per_kwh:g} $ per kWh and season, "
            f"confidence 1 - {beta:g}. The limit is what a certificate says about the worst driver (for (P-SI), about "
            "a day on which anybody can miss); days and drivers missed are counted on "
            f"{self.config.fresh} fresh days: days on which the shortfalls exceed the shared battery, and the worst "
            "driver under the rule (under every rule: the worst of "
            f"{', '.join(rule.replace('_', ' ') for rule in RULES_COMPARED)}).\n\n"
            f"Choosing the number of samples by what they certify afterwards costs {100 * (1 - last / first):.0f} % "
            "less than the textbook's number. (P-SI) wants everybody served on the same days; (P-S) wants each served "
            "often enough, and is cheaper still."
        )
        labels = [row["sizes"] for row in rows]
        parts = {name: [row[f"{name}_per_driver_kwh"] for row in rows] for name in ("own", "shared")}
        draw = stacked(labels, parts, "capacity per driver [kWh]")
        return Section("What conservatism costs", text, rows, draw, (8.6, 3.8))

    def _cost_row(self, instance: Instance, name: str, found: Solution, rule: str, fresh: FreshDays) -> dict[str, Any]:
        rules = RULES_COMPARED if rule == "every rule" else (rule,)
        missed = max(int(missed_days(each, found.own_kwh, found.shared_kwh, fresh).max()) for each in rules)
        return {
            "sizes": name,
            "rule": rule.replace("_", " ") if found.shared_kwh > 0.0 else "none",
            "days in the certificate": found.certificate["sample"]["n_samples"],
            "cost_usd": found.value,
            "own_per_driver_kwh": float(found.own_kwh.mean()),
            "shared_per_driver_kwh": found.shared_kwh / instance.drivers,
            "certified limit": float(np.max(found.certificate["risk"]["eps"])),
            "worst driver missed": missed / len(fresh.need_kwh),
            "days missed": uncovered(fresh.need_kwh, found.own_kwh, found.shared_kwh),
        }

    def rules(self) -> Section:
        """Reliability and speed of every rule for the same sizes."""
        instance = self.world.fleet(DRIVERS, _EPS)
        found = solve(instance, seed=self.config.seed_of(12), source=self.world.law(instance), beta=self.config.beta)
        fresh = self._fresh(instance)
        rows: Rows = []
        sizes = {"certified": found.shared_kwh, f"{_SCARCE:g} of it": _SCARCE * found.shared_kwh}
        for words, shared in sizes.items():
            for rule in RULES:
                seconds = []
                for _ in range(3):
                    begin = time.perf_counter()
                    missed = missed_days(rule, found.own_kwh, shared, fresh)
                    seconds.append(time.perf_counter() - begin)
                lacking = np.maximum(fresh.need_kwh - found.own_kwh, 0.0)
                given = allocate(rule, lacking, shared, fresh.order if rule in ORDERED else None)
                served = 1.0 - missed / len(lacking)
                rows.append(
                    {
                        "shared battery": words,
                        "rule": rule.replace("_", " "),
                        "worst driver": float(served.min()),
                        "mean driver": float(served.mean()),
                        "used_kwh": float(np.minimum(given, lacking).sum(axis=1).mean()),
                        "missing_kwh": float(np.maximum(lacking - given, 0.0).sum(axis=1).mean()),
                        "million driver-days per s": lacking.size / min(seconds) / 1e6,
                    }
                )
        text = (
            f"(P-SI) certified for {DRIVERS} drivers and reliability {1.0 - _EPS:g}, then with a smaller shared "
            "battery, where rules differ: share of days served for the worst and the mean driver, energy used of the "
            "shared battery and energy still missing per day. The utilitarian rule serves most drivers, those who "
            "lack much come last; under the proportional rule all miss together. Equal split, which gives to those "
            "who lack nothing, is not shortfall-minimising: nothing is promised for it. Speed is the best of three "
            "measurements in this run, on one core."
        )
        return Section("Allocation rules", text, rows, None)
