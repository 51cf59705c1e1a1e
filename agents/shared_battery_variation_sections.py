"""Sections on other data of the problem: targets that differ, capacity in whole units, widths of the bins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agents.report import Section
from agents.shared_battery_answers import RULE, SEARCH_ROUNDS, StudyConfig, World
from baselines.shared_battery.programs import Solution, separate, solve, span_of
from baselines.shared_battery.scenario_program import least_cost
from baselines.shared_battery.search import search
from baselines.shared_battery.units import divisible_units, whole_units
from baselines.solve import SolverError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

__all__ = ["BINS_KWH", "STRICT_EPS", "UNITS_KWH", "Variations"]

Rows = list[dict[str, Any]]

STRICT_EPS, LOOSE_EPS = 0.02, 0.2
UNITS_KWH = (5.0, 10.0, 20.0)
BINS_KWH = (1.0, 2.0, 5.0, 10.0)
_DRIVERS, _FEW = 25, 10
_SAMPLES, _FEW_SAMPLES = 1000, 100
_GAP = 1e-3
_LIMIT_S = 30.0


class Variations:
    """Sizes of fleets of the generator with other data; every method is one section."""

    def __init__(self, world: World, config: StudyConfig) -> None:
        self.world, self.config = world, config

    def targets(self) -> Section:
        """Half of the drivers strict, half of them loose."""
        strict = np.arange(_DRIVERS) % 2 == 0
        mixed = tuple(np.where(strict, STRICT_EPS, LOOSE_EPS).tolist())
        even = self.world.fleet(_DRIVERS, STRICT_EPS)
        rows: Rows = []
        for words, instance in (("mixed", even.replace(eps=mixed)), ("all strict", even)):
            law, beta, seed = self.world.law(instance), self.config.beta, self.config.seed_of(20)
            found: dict[str, Solution] = {
                "separate, exact": separate(instance, source=law),
                "(P-SI), certified": solve(instance, seed=seed, source=law, beta=beta),
                f"(P-S), {RULE}, certified": search(
                    instance,
                    source=law,
                    rule=RULE,
                    train_days=self.config.search_days,
                    test_days=self.config.test_days,
                    seed=seed,
                    beta=beta,
                    rounds=SEARCH_ROUNDS,
                ),
            }
            for name, sizes in found.items():
                limits = np.broadcast_to(np.array(sizes.certificate["risk"]["eps"]), _DRIVERS)
                rows.append(
                    {
                        "targets": words,
                        "sizes": name,
                        "cost_usd": sizes.value,
                        "own, strict drivers [kWh]": float(sizes.own_kwh[strict].mean()),
                        "own, other drivers [kWh]": float(sizes.own_kwh[~strict].mean()),
                        "shared_per_driver_kwh": sizes.shared_kwh / _DRIVERS,
                        "limit, strict drivers": float(limits[strict].max()),
                        "limit, other drivers": float(limits[~strict].max()),
                    }
                )
        text = (
            f"{_DRIVERS} drivers; every other one tolerates {STRICT_EPS:g}, the rest {LOOSE_EPS:g} (mixed), or all "
            f"{STRICT_EPS:g}. (P-SI) knows the smallest tolerance only, so mixed targets save it nothing. Separate "
            "batteries and (P-S) give each driver what he asked for. Limits are what is certified, with confidence "
            f"1 - {self.config.beta:g} (separate: the exact quantiles)."
        )
        return Section("Targets that differ", text, rows, None)

    def units(self) -> Section:
        """Shared capacity in units, divided among drivers or taken whole."""
        rows: Rows = []
        many = self.world.fleet(_DRIVERS, 0.05)
        few = self.world.fleet(_FEW, 0.05)
        for unit in UNITS_KWH:
            rows.append(self._unit_row(many, _SAMPLES, unit, whole=False))
        for unit in UNITS_KWH:
            rows.append(self._unit_row(few, _FEW_SAMPLES, unit, whole=True))
        largest = max(row["more_percent"] for row in rows[: len(UNITS_KWH)])
        text = (
            "The published study assumes a shared battery of any size and names units of fixed size as open. Units "
            f"that several drivers can draw from cost next to nothing: at most {largest:.2g} % more than without "
            "units. If every driver takes whole units (trailers), each shortfall is rounded up, and own batteries "
            f"replace a part of the sharing. The bound is proven for units that can be divided; for whole ones it is "
            f"that without units, and HiGHS states another (relative gap {_GAP:g}), which is no proof. Cost per season "
            "for the sampled days."
        )
        return Section("Capacity in units", text, rows, None)

    def _unit_row(self, instance: Instance, count: int, unit_kwh: float, *, whole: bool) -> dict[str, Any]:
        law = self.world.law(instance)
        days = sample_days(instance, law, count, self.config.seed_of(21, instance.drivers))
        plain = instance.shared_usd_per_kwh * least_cost(days.need_kwh, span_of(instance)).bound_kwh
        row: dict[str, Any] = {
            "units": "whole for each driver" if whole else "divided",
            "drivers": instance.drivers,
            "samples": count,
            "unit_kwh": unit_kwh,
        }
        try:
            found = (
                whole_units(instance, days, unit_kwh, _LIMIT_S, _GAP)
                if whole
                else divisible_units(instance, days, unit_kwh)
            )
        except SolverError:
            empty = dict.fromkeys(("number", "own_per_driver_kwh", "cost_usd"))
            return row | empty | {"without_units_usd": plain, "more_percent": np.nan, "bound_usd": plain}
        return row | {
            "number": found.units,
            "own_per_driver_kwh": float(found.own_kwh.mean()),
            "cost_usd": found.cost_usd,
            "without_units_usd": plain,
            "more_percent": 100.0 * (found.cost_usd / plain - 1.0),
            "bound_usd": float(found.bound_usd),
        }

    def bins(self) -> Section:
        """Sizes against the width of the histograms' bins."""
        rows: Rows = []
        for width in BINS_KWH:
            base = self.world.fleet(_DRIVERS, 0.05)
            instance = base.replace(bin_kwh=width, need_max_kwh=width * math.ceil(base.need_max_kwh / width))
            law = self.world.law(instance)
            days = sample_days(instance, law, _SAMPLES, self.config.seed_of(22))
            answer = least_cost(days.need_kwh, span_of(instance))
            fresh = sample_days(instance, law, self.config.fresh, self.config.seed_of(23), 4).need_kwh
            pooled = float(np.quantile(np.maximum(fresh, instance.own_min_kwh).sum(axis=1), 0.95)) / _DRIVERS
            alone = float(law.needs.quantile(0.95).mean())
            rows.append(
                {
                    "bin_kwh": width,
                    "mean_need_kwh": float(law.needs.mean_kwh().mean()),
                    "separate at 0.95 [kWh per driver]": alone,
                    "(P-SI), exact, at 0.95 [kWh per driver]": pooled,
                    "reduction_percent": 100.0 * (1.0 - pooled / alone),
                    "own_per_driver_kwh": float(answer.own_kwh.mean()),
                    "shared_per_driver_kwh": answer.shared_kwh / _DRIVERS,
                    "k": len(answer.days),
                }
            )
        text = (
            "Daily needs as histograms of other bin widths (published: about 2 kWh), days evenly spread within a bin, "
            f"{_DRIVERS} drivers. Exact quantiles for each driver and, by simulation, for the total; the last columns "
            f"are the scenario program for {_SAMPLES} sampled days, drawn with the same random numbers for all widths. "
            "A wide bin lifts short days, so that means and sizes rise."
        )
        return Section("Width of the bins", text, rows, None)
