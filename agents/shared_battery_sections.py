"""Sections on how much capacity sharing saves, beside the published figure 3 and conclusion, all at equal prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from agents.report import Section
from agents.shared_battery_answers import CLOSE, EVALUATION, RULE, SEARCH_ROUNDS, StudyConfig, World, grid_up_to
from agents.shared_battery_published import (
    HIGH_TARGET,
    LEAST_REDUCTION_PERCENT,
    MEDIAN_REDUCTION_PERCENT,
    RULES_COMPARED,
)
from agents.shared_battery_study_figures import bands, reductions
from baselines.shared_battery.conservatism import bisection, nested_grid, textbook_samples
from baselines.shared_battery.programs import Solution, solve
from baselines.shared_battery.reliability import FreshDays, sample_test
from baselines.shared_battery.search import search
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import Days, sample_days

__all__ = ["ALGORITHM", "EXACT", "HIGH_TARGETS", "TARGETS", "Reductions"]

Rows = list[dict[str, Any]]

TARGETS = (0.8, 0.9, 0.95)
HIGH_TARGETS = (0.95, 0.99)
ALGORITHM, EXACT = "Algorithm 1", "(P-SI), exact"
_ORDERS = {"first_decile": 0.1, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "last_decile": 0.9}


class _Trial(NamedTuple):
    """An answer of Algorithm 1, and separate batteries for the same target [kWh per driver]."""

    n_samples: int
    reliability: float
    capacity_per_driver_kwh: float
    separate_per_driver_kwh: float

    @property
    def reduction_percent(self) -> float:
        return 100.0 * (1.0 - self.capacity_per_driver_kwh / self.separate_per_driver_kwh)


class Reductions:
    """Reduction of capacity by sharing; every method is one section.

    Args:
        world: where the fleets come from.
        config: sizes.
        tables: receives rows that are too many for a report, by name of their CSV file.
        of: words for the fleets, appended to the titles.
    """

    def __init__(self, world: World, config: StudyConfig, tables: dict[str, Rows], of: str = "") -> None:
        self.world, self.config, self.tables = world, config, tables
        self.of, self.prefix = (f", {of}", "log-") if of else ("", "")
        self._found: dict[tuple[float, int], list[_Trial]] = {}

    def _fleet(self, n: int, target: float) -> Instance:
        return self.world.fleet(n, round(1.0 - target, 12), 1.0)

    def _run(self, n: int, targets: Sequence[float]) -> None:
        """Make independent runs of Algorithm 1 for the targets that have none yet; all targets share the draws."""
        missing = [target for target in dict.fromkeys(targets) if (target, n) not in self._found]
        starts = [
            min(textbook_samples(self._fleet(n, target), self.config.beta), self.config.start_samples)
            for target in missing
        ]
        found: list[list[_Trial]] = [[] for _ in missing]
        for k in range(self.config.trials if missing else 0):
            instance, seed = self._fleet(n, missing[0]), self.config.seed_of(3, n, k)
            law = self.world.law(instance)
            samples = sample_days(instance, law, max(starts), seed)
            days = sample_test(instance, law, self.config.evaluation_days(n), seed, EVALUATION, RULE)
            for target, start, reached in zip(missing, starts, found, strict=True):
                reached += self._trial(n, target, Days(samples.need_kwh[:start]), days)
        for target, reached in zip(missing, found, strict=True):
            require(len(reached) > 0, "start_samples", max(starts), f"more: no run meets the target of {target:g}")
            self._found[target, n] = reached
            rows = self.tables.setdefault(f"{self.prefix}trials", [])
            for trial in reached:
                head = {"target": target, "drivers": n}
                rows.append(head | trial._asdict() | {"reduction_percent": trial.reduction_percent})

    def _trial(self, n: int, target: float, samples: Days, days: FreshDays) -> list[_Trial]:
        """A run of Algorithm 1; nothing where no sizes meet the target."""
        instance = self._fleet(n, target)
        tolerance = min(0.01, CLOSE * (1.0 - target))
        met = [
            each
            for each in bisection(instance, samples, days, RULE, trials=40, tolerance=tolerance)
            if each.excess <= 0
        ]
        place = math.ceil(target * len(days.need_kwh)) - 1
        separate = float(np.partition(days.need_kwh, place, axis=0)[place].mean())
        return [
            _Trial(each.n_samples, each.reliability, (each.shared_kwh + float(each.own_kwh.sum())) / n, separate)
            for each in met[-1:]
        ]

    def growth(self) -> Section:
        """Reduction against the number of drivers."""
        rows: Rows = []
        lines: dict[str, tuple[list[float], list[list[float]]]] = {}
        ends: list[str] = []
        for n in self.config.growth:
            self._run(n, TARGETS + HIGH_TARGETS if n in self.config.fleets else TARGETS)
        for target in TARGETS:
            values = []
            for n in self.config.growth:
                found = self._found[target, n]
                values.append([each.reduction_percent for each in found])
                row: dict[str, Any] = {"target": target, "drivers": n, "trials": len(found)}
                row |= {f"{name}_percent": float(np.quantile(values[-1], x)) for name, x in _ORDERS.items()}
                rows.append(row | {"median samples": float(np.median([each.n_samples for each in found]))})
            lines[f"target {target:g}"] = ([float(n) for n in self.config.growth], values)
            ends.append(f"from {np.median(values[0]):.0f} to {np.median(values[-1]):.0f} % at {target:g}")
        first, last = self.config.growth[0], self.config.growth[-1]
        text = (
            f"{self.config.trials} independent runs of Algorithm 1 for each point, at equal prices with the tie "
            f"broken, under the {RULE} rule (which rule was published is not in our text). Each run has its own "
            "samples, the textbook's number of them but at most "
            f"{self.config.start_samples}, and its own evaluation days, and ends at most {CLOSE:g} eps (and 0.01) "
            "above its target. The reduction is 1 - (s + sum b) / (sum of the "
            "drivers' empirical quantiles). Lines are medians, bands hold the middle half and the middle eight tenths "
            "of the runs.\n\n"
            f"Published, at one target that is missing in our text: a median of {MEDIAN_REDUCTION_PERCENT.low:g} % for "
            f"a small fleet and over {MEDIAN_REDUCTION_PERCENT.high:g} % for a large one. Ours, from {first} to {last} "
            f"drivers: {', '.join(ends)}. The published targets are missing too; "
            f"{', '.join(f'{t:g}' for t in TARGETS)} are our choice.{_below(rows)}"
        )
        draw = bands(lines, "drivers", "reduction of capacity [%]")
        return Section(f"Reduction against the number of drivers{self.of}", text, rows, draw)

    def above(self) -> Section:
        """Reductions at high targets, from Algorithm 1 and certified."""
        rows: Rows = []
        for target in HIGH_TARGETS:
            for n in self.config.fleets:
                self._run(n, HIGH_TARGETS)
                rows += self._at(n, target)
        certified = [row for row in rows if row["certified"] and row["drivers"] >= 25]
        tried = [row for row in rows if row["sizes"] == ALGORITHM and row["drivers"] >= 25]
        text = (
            f"Published: above {HIGH_TARGET:g}, sharing saves at least {LEAST_REDUCTION_PERCENT:g} % with 25 drivers "
            f"or more. Algorithm 1 ({RULE} rule, tie broken, {self.config.trials} runs) reports sizes without a "
            f"guarantee. Certified sizes keep every driver's target with confidence 1 - {self.config.beta:g}:\n\n"
            "- (P-SI), its scenario program, for every shortfall-minimising rule;\n"
            "- (P-S) under one rule, found by simulation and tested on fresh days;\n"
            f"- grid: the fewest of nested samples that fresh days certify, {RULE} rule.\n\n"
            "(P-SI), exact, is a quantile of the fleet's total need, which solves it at equal prices; it comes from "
            "simulation and is not certified. All are compared with separate batteries of exactly the drivers' "
            f"quantiles, which need no certificate because the law is known. {_counted(certified, tried)}"
        )
        draw = reductions(rows, LEAST_REDUCTION_PERCENT, f"published: at least {LEAST_REDUCTION_PERCENT:g} %")
        return Section(f"Above 0.95{self.of}", text, rows, draw, (8.6, 5.2))

    def _at(self, n: int, target: float) -> Rows:
        """Rows of one fleet and target."""
        trials = self._found[target, n]
        separate = self._separate(n, target)
        values = [each.reduction_percent for each in trials]
        low, middle, high = (float(x) for x in np.quantile(values, (0.1, 0.5, 0.9)))
        capacity = float(np.median([each.capacity_per_driver_kwh for each in trials]))
        head = {"target": target, "drivers": n}

        def row(sizes: str, certified: bool, size: float, spread: Sequence[float | None], median: float) -> Any:
            return (
                head
                | {"sizes": sizes, "certified": certified, "capacity_per_driver_kwh": size}
                | {"separate_per_driver_kwh": separate, "reduction_percent": median}
                | dict(zip(("first_decile_percent", "last_decile_percent", "least_percent"), spread, strict=True))
            )

        rows = [row(ALGORITHM, False, capacity, (low, high, min(values)), middle)]
        found = {EXACT: (self._pooled(n, target), False)}
        found |= {name: (size, True) for name, size in self._certified(n, target).items()}
        for name, (size, certified) in found.items():
            rows.append(row(name, certified, size, (None, None, None), 100.0 * (1.0 - size / separate)))
        return rows

    def _separate(self, n: int, target: float) -> float:
        """Mean over the drivers of the exact quantile [kWh]."""
        instance = self._fleet(n, target)
        quantile = self.world.law(instance).needs.quantile(target)
        return float(np.maximum(quantile, instance.own_min_kwh).mean())

    def _pooled(self, n: int, target: float) -> float:
        """Quantile of the fleet's total need, per driver."""
        instance = self._fleet(n, target)
        days = sample_days(instance, self.world.law(instance), self.config.fresh, self.config.seed_of(4, n), 4)
        total = np.maximum(days.need_kwh, instance.own_min_kwh).sum(axis=1)
        return float(np.quantile(total, target, method="inverted_cdf")) / n

    def _certified(self, n: int, target: float) -> dict[str, float]:
        """Capacity per driver of certified sizes, by name."""
        instance = self._fleet(n, target)
        law, config = self.world.law(instance), self.config
        seed = config.seed_of(5, n, round(1000 * target))
        found: dict[str, Solution] = {"(P-SI)": solve(instance, seed=seed, source=law, beta=config.beta)}
        tests: dict[str, Any] = {"test_days": config.test_days, "seed": seed, "source": law, "beta": config.beta}
        for rule in RULES_COMPARED:
            name = f"(P-S), {rule.replace('_', ' ')}"
            found[name] = search(instance, rule=rule, train_days=config.search_days, rounds=SEARCH_ROUNDS, **tests)
        grid = grid_up_to(2 * config.start_samples)
        samples = sample_days(instance, law, grid[-1], seed)
        with suppress(InvalidInputError):  # nothing of the grid is certified: a row less
            found["grid"] = nested_grid(instance, samples, grid, rule=RULE, **tests)
        return {name: float(each.plan.sum()) / n for name, each in found.items()}


def _below(rows: Rows) -> str:
    """A word on reductions below zero, where there are any."""
    if min(row["first_decile_percent"] for row in rows) >= 0.0:
        return ""
    return " A reduction below zero is no mistake: at low targets the program can need more than separate batteries."


def _counted(certified: Rows, tried: Rows) -> str:
    """How the rows of 25 drivers and more stand to the published statement."""
    if not certified:
        return "No fleet here has 25 drivers, which the published statement asks for."
    parts = []
    for target in HIGH_TARGETS:
        saved = [row["reduction_percent"] for row in certified if row["target"] == target]
        least = min(row["least_percent"] for row in tried if row["target"] == target)
        kept = sum(each >= LEAST_REDUCTION_PERCENT for each in saved)
        parts.append(
            f"at {target:g}, {kept} of {len(saved)} certified sizes save {LEAST_REDUCTION_PERCENT:g} % or more, the "
            f"least is {min(saved):.0f} %, and the least of all runs of Algorithm 1 is {least:.0f} %"
        )
    return f"With 25 drivers or more: {'; '.join(parts)}."
