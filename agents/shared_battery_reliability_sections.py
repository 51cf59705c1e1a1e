"""Sections on reliability against capacity, beside the published figure 2, all at equal prices.

The published study solves its program at equal prices of own and shared capacity. There the least cost is the largest
total need of a sampled day, and many sizes have it; which of them a solver returns is not published. Two are shown:
the tie broken as in scenario_program (own batteries as large as the cost allows), and everything shared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.figures import Draw
from agents.report import Section
from agents.shared_battery_answers import EVALUATION, StudyConfig, World
from agents.shared_battery_published import (
    CAPACITY_KWH,
    PROPORTIONAL_ABOVE_SEPARATE,
    RELIABILITY_AT_CAPACITY,
    RULES_COMPARED,
    SAVING_KWH,
)
from agents.shared_battery_study_figures import frontiers
from baselines.shared_battery.programs import span_of
from baselines.shared_battery.reliability import missed_days, sample_test
from baselines.shared_battery.scenario_program import least_cost
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

__all__ = ["POOLED", "TIED", "Reliability"]

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]

TIED, POOLED = "tie broken", "all shared"
_LEVELS = np.round(np.arange(0.5, 0.9951, 0.005), 3)


class Reliability:
    """Reliability of candidates against their capacity.

    Args:
        world: where the fleets come from.
        config: sizes.
        tables: receives rows that are too many for a report, by name of their CSV file.
        of: words for the fleets, appended to the titles.
    """

    def __init__(self, world: World, config: StudyConfig, tables: dict[str, Rows], of: str = "") -> None:
        self.world, self.config, self.tables = world, config, tables
        self.of, self.prefix = (f", {of}", "log-") if of else ("", "")

    def _fleet(self, n: int) -> Instance:
        return self.world.fleet(n, 0.05, 1.0)  # the target does not enter

    def _candidates(self, n: int) -> Rows:
        instance = self._fleet(n)
        law = self.world.law(instance)
        days = sample_test(
            instance, law, self.config.evaluation_days(n), self.config.seed_of(1, n), EVALUATION, "first_come"
        )
        own_min = np.full(n, instance.own_min_kwh)
        rows: Rows = []
        for k in range(self.config.lists):
            samples = sample_days(instance, law, self.config.counts[-1], self.config.seed_of(2, n, k)).need_kwh
            pooled = -1.0
            for count in self.config.counts:
                answer = least_cost(samples[:count], span_of(instance))
                total = answer.shared_kwh + float(answer.own_kwh.sum())
                both = [(TIED, answer.own_kwh, answer.shared_kwh)]
                if total > pooled * (1.0 + 1e-9):  # else the same sizes as for the number before
                    both.append((POOLED, own_min, total - float(own_min.sum())))
                    pooled = total
                for sizes, own, shared in both:
                    row = {"drivers": n, "list": k, "n_samples": count, "sizes": sizes}
                    row |= {"capacity_per_driver_kwh": total / n, "shared_per_driver_kwh": shared / n}
                    for rule in RULES_COMPARED:
                        missed = int(missed_days(rule, own, shared, days).max())
                        row[rule] = 1.0 - missed / len(days.need_kwh)
                    rows.append(row)
        return rows

    def _found(self) -> Rows:
        """Candidates of all fleets; made once."""
        name = f"{self.prefix}candidates"
        if name not in self.tables:
            self.tables[name] = [row for n in self.config.fleets for row in self._candidates(n)]
        return self.tables[name]

    def _draw(self, sizes: str) -> Draw:
        separate = {n: (np.array([self._separate(n, x) for x in _LEVELS]), _LEVELS) for n in self.config.fleets}
        return frontiers(self._found(), separate, sizes)

    def tied(self) -> Section:
        """Reliability against capacity, the tie broken; savings of both kinds of sizes beside the published ones."""
        found, fleets = self._found(), self.config.fleets
        rows = [
            self._frontier(n, sizes, rule, [row for row in found if row["drivers"] == n])
            for n in fleets
            for sizes in (TIED, POOLED)
            for rule in RULES_COMPARED
        ]
        high = max(SAVING_KWH)
        saving = {sizes: _between(rows, sizes, f"saving_at_{high:g}_kwh") for sizes in (TIED, POOLED)}
        ours = len(rows)
        rows += [_published_row(n, seen) for n, seen in RELIABILITY_AT_CAPACITY.items()]
        text = (
            f"Sizes from {self.config.lists} nested lists of up to {self.config.counts[-1]} sampled days at equal "
            f"prices. Their reliability is counted on common days ({self.config.evaluation_days(fleets[-1])} for the "
            "largest fleet); points are sizes, lines the best reliability for so much capacity. A saving is the mean "
            "quantile of the drivers' needs less the smallest sizes that are as reliable.\n\n"
            "At equal prices the least cost of (6) is the largest total need of a sampled day, and many sizes have it. "
            "The published text does not say which was taken, and it matters. Here own batteries are as large as the "
            "cost allows; in the next figure all is shared, at the same cost. At reliability "
            f"{high:g} the tie-broken sizes save {saving[TIED]} kWh per driver (least and largest over fleets and "
            f"rules), all shared {saving[POOLED]}.\n\n"
            f"Published: first come and utilitarian are similar, proportional is lower. {self._order(found)}\n\n"
            "Published rows are in italics. Their savings are spans over the rules; for which fleets they and the "
            "crossing with separate batteries hold is missing in our text. A sampled day is served under all three "
            f"rules, so a reliability of {min(RELIABILITY_AT_CAPACITY.values()):g} means few sampled days, and "
            f"{CAPACITY_KWH:g} kWh per driver in the worst of them: the published needs seem much larger or more "
            f"scattered than these, whose mean is {self._mean_need():.1f} kWh a day.{self._scale(rows)}"
        )
        marks = dict.fromkeys(range(ours, len(rows)), "bound")
        return Section(f"Reliability against capacity{self.of}", text, rows, self._draw(TIED), (8.6, 3.4), marks)

    def pooled(self) -> Section:
        """The same costs, all shared."""
        rows = self._differences(self._found())
        text = (
            "The same samples and costs, all capacity shared: another optimum of the same programs. The table counts "
            "how much more reliable it is than the tie-broken sizes of equal cost. Under the proportional rule nobody "
            "is served on a day whose need exceeds the capacity; under the others most still are."
        )
        return Section(f"The same cost, all shared{self.of}", text, rows, self._draw(POOLED), (8.6, 3.4))

    @staticmethod
    def _scale(rows: Rows) -> str:
        """How much smaller our figures are, where they can be compared."""
        tied = [row for row in rows if row["sizes"] == TIED]
        capacity = [
            row["capacity_for_the_published_reliability_kwh"] for row in tied if row["rule"] == RULES_COMPARED[0]
        ]
        factors = [CAPACITY_KWH / each for each in capacity if each is not None]
        if not factors:
            return ""
        savings = [
            f"{np.mean([row[f'saving_at_{level:g}_kwh'] or 0.0 for row in tied]):.1f} kWh at {level:g} (middle of the "
            f"published span: {0.5 * (span.low + span.high):g})"
            for level, span in SAVING_KWH.items()
        ]
        return (
            f" {CAPACITY_KWH:g} kWh are {min(factors):.1f} to {max(factors):.1f} times what the tie-broken sizes take "
            f"for the published reliabilities under the proportional rule; they save {' and '.join(savings)} in the "
            "mean of fleets and rules."
        )

    @staticmethod
    def _order(found: Rows) -> str:
        """How the rules compare on the tie-broken sizes."""
        tied = [row for row in found if row["sizes"] == TIED]
        below = sum(row["proportional"] < min(row["first_come"], row["utilitarian"]) for row in tied)
        apart = np.array([row["first_come"] - row["utilitarian"] for row in tied])
        return (
            f"Here proportional is below both others for {below} of {len(tied)} sizes; first come is above utilitarian "
            f"by {np.median(apart):.3f} in the median and {apart.max():.3f} at most, for the worst driver is one who "
            "lacks much, and the utilitarian rule serves him last."
        )

    def _separate(self, n: int, target: float) -> float:
        """Mean over the drivers of the exact quantile [kWh]."""
        return float(self.world.law(self._fleet(n)).needs.quantile(target).mean())

    def _mean_need(self) -> float:
        return float(self.world.law(self._fleet(self.config.fleets[-1])).needs.mean_kwh().mean())

    def _frontier(self, n: int, sizes: str, rule: str, found: Rows) -> dict[str, Any]:
        points = [(row["capacity_per_driver_kwh"], row[rule]) for row in found if row["sizes"] == sizes]

        def least(level: float) -> float:
            return min((capacity for capacity, seen in points if seen >= level), default=math.inf)

        row: dict[str, Any] = {"drivers": n, "sizes": sizes, "rule": rule}
        for level in SAVING_KWH:
            saving = self._separate(n, level) - least(level)
            row[f"saving_at_{level:g}_kwh"] = saving if math.isfinite(saving) else None
        above = [float(level) for level in _LEVELS if math.isfinite(least(float(level)))]
        above = [level for level in above if least(level) > self._separate(n, level)]
        row["needs more than separate below"] = max(above, default=None)
        row[f"reliability of {CAPACITY_KWH:g} kWh"] = max((y for x, y in points if x <= CAPACITY_KWH), default=None)
        same = least(RELIABILITY_AT_CAPACITY[n]) if n in RELIABILITY_AT_CAPACITY else math.inf
        row["capacity_for_the_published_reliability_kwh"] = same if math.isfinite(same) else None
        return row

    def _differences(self, candidates: Rows) -> Rows:
        rows: Rows = []
        for n in self.config.fleets:
            mine = [row for row in candidates if row["drivers"] == n]
            tied = {(row["list"], row["n_samples"]): row for row in mine if row["sizes"] == TIED}
            for rule in RULES_COMPARED:
                more = [row[rule] - tied[row["list"], row["n_samples"]][rule] for row in mine if row["sizes"] == POOLED]
                row = {"drivers": n, "rule": rule, "candidates": len(more), "least": min(more)}
                rows.append(row | {"median": float(np.median(more)), "largest": max(more)})
        return rows


def _between(rows: Rows, sizes: str, key: str) -> str:
    """Least and largest of a column."""
    values = [row[key] for row in rows if row["sizes"] == sizes and row[key] is not None]
    return f"{min(values):.1f} to {max(values):.1f}" if values else "an unknown amount of"


def _published_row(n: int, reliability: float) -> dict[str, Any]:
    row: dict[str, Any] = {"drivers": n, "sizes": "published", "rule": "proportional"}
    for level, span in SAVING_KWH.items():
        row[f"saving_at_{level:g}_kwh"] = f"{span} (all rules)"
    row["needs more than separate below"] = str(PROPORTIONAL_ABOVE_SEPARATE)
    row[f"reliability of {CAPACITY_KWH:g} kWh"] = reliability
    return row | {"capacity_for_the_published_reliability_kwh": CAPACITY_KWH}
