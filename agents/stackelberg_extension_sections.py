"""Sections of the Stackelberg studies about the model's extensions and its promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.report import Section
from agents.stackelberg_answers import MONTH_DAYS, Answer, StudyConfig, answer, replayed
from agents.stackelberg_study_figures import bars, curves, hours
from baselines.stackelberg.programs import continuous
from baselines.stackelberg.promise import violation_probability, worst_violation
from v2g_env.data.diaries import CLUSTERS
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.follower import Arcs, arcs_of, respond
from v2g_env.stackelberg.game import VARIANTS, DriverClass, Game, Requirement
from v2g_env.stackelberg.instance import Instance, plugged_shares
from v2g_env.stackelberg.population import Days, extremal_utilities, independent_normal, longest_paths, walk
from v2g_env.stackelberg.signal import SIGNALS, ratio_quantiles

__all__ = ["Extensions"]

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]

_GUARANTEES_KW = (0.0, 0.5, 1.0, 2.0, 3.0)
_CHARGERS_KW = (7.2, 10.0, 20.0)


class Extensions:
    """Sections about the extensions; every method is one. The instance is prepared as in ``Comparison``."""

    def __init__(self, base: Instance, config: StudyConfig) -> None:
        self.base, self.config = base, config
        self.platform = answer(base.game(), config.time_limit_s)
        self.drivers = answer(base.replace(owner="drivers").game(), config.time_limit_s)

    def hourly(self) -> Section:
        """The base day hour by hour, for both owners."""
        ours, theirs = self.platform, self.drivers
        rows: Rows = [
            {
                "hour": t,
                "price [$/kW per hour]": float(self.base.base_price[t]),
                "rebate, platform [$/h]": float(ours.plan[t]),
                "rebate, drivers [$/h]": float(theirs.plan[t]),
                "plugged, no rebates": float(ours.plugged_without[t]),
                "plugged, platform": float(ours.plugged[t]),
                "plugged, drivers": float(theirs.plugged[t]),
                "bid, no rebates [kW]": float(ours.bid_without_kw[t]),
                "bid, platform [kW]": float(ours.bid_kw[t]),
                "bid, drivers [kW]": float(theirs.bid_kw[t]),
            }
            for t in range(24)
        ]
        text = (
            "Certified rebates of the base day, the share of drivers plugged in and the bids, for a platform of its "
            "own and for one owned by the drivers."
        )
        rebates = {"platform": ours.plan.tolist(), "owned by the drivers": theirs.plan.tolist()}
        return Section("The base day", text, rows, hours(rebates, self.base.base_price.tolist()), (8.6, 4.2))

    def community(self) -> Section:
        """Summary of both owners."""
        rows: Rows = []
        for owner, found in (("platform", self.platform), ("drivers", self.drivers)):
            rows.append(
                {
                    "owner": owner,
                    "profit_usd": found.with_usd,
                    "rebate_usd": found.rebate_usd,
                    "mean rebate [$/h]": float(found.plan.mean()),
                    "correlation with price": _correlation(found.plan, self.base.base_price),
                    "gap_percent": found.gap_percent,
                    "solve_s": found.solve_s,
                }
            )
        text = (
            f"A platform owned by the drivers maximises their utility plus profit / (kappa M), kappa = "
            f"{self.base.kappa:g}, and must not lose money: it hands its income on as rebates, which then follow the "
            "price. The platform of its own pays where cars are away. Money per driver and month of 30 days; the gap "
            "of the drivers' objective is relative to the market's payment per driver."
        )
        return Section("Community ownership", text, rows, None)

    def guarantee(self) -> Section:
        """Rebates and profit against the guaranteed charging power."""
        rows: Rows = []
        lines: dict[str, tuple[list[float], list[float]]] = {}
        for power in _CHARGERS_KW:
            across: list[float] = []
            up: list[float] = []
            for omega in _GUARANTEES_KW:
                found = answer(self.base.replace(charger_kw=power, guarantee_kw=omega).game(), self.config.time_limit_s)
                rows.append(
                    {
                        "charger_kw": power,
                        "guarantee_kw": omega,
                        "with_usd": found.with_usd,
                        "without_usd": found.without_usd,
                        "gain_percent": found.improvement_percent,
                        "rebate_usd": found.rebate_usd,
                        "gap_percent": found.gap_percent,
                        "solve_s": found.solve_s,
                    }
                )
                across.append(omega)
                up.append(found.rebate_usd)
            lines[f"{power:g} kW chargers"] = (across, up)
        text = (
            "Plugged cars charge at the guaranteed average power and must not lose charge in an hour, with probability "
            f"{1.0 - self.base.guarantee_eta:g}; 0 stands for no guarantee at all. Little power guarantees little bid, "
            "much power leaves little of the charger: both lower what a plugged car earns, and with it the rebates."
        )
        draw = curves(lines, "guaranteed power [kW]", "rebate per driver and month [$]")
        return Section("State-of-charge guarantee", text, rows, draw)

    def promise(self) -> Section:
        """Worst violation of the promise for both variants of the bid."""
        signals = SIGNALS[self.base.signals]
        quantiles = ratio_quantiles(signals.deviation)
        game = self.base.game()
        rows: Rows = []
        for eta in (0.1, 0.05, 0.01):
            certain = Requirement(self.base.charger_kw, eta, 1.0, 0.0, 0.0)
            noisy = Requirement(self.base.charger_kw, eta, signals.mean_ratio, signals.forward, signals.backward)
            for drivers in (1, 5, 20, 200):
                row: dict[str, Any] = {"eta": eta, "M": drivers}
                for variant in reversed(VARIANTS):
                    for name, each, law in (("certain ratio", certain, None), (signals.name, noisy, quantiles)):
                        fleet = game.replace(drivers=drivers, variant=variant, requirements=(each,))
                        worst = worst_violation(fleet, law)
                        row[f"{variant}, {name}"] = worst.probability / eta
                        row[f"at y ({variant}, {name})"] = worst.plugged_share
                rows.append(row)
        labels = [f"M {row['M']}, eta {row['eta']:g}" for row in rows]
        groups = {
            f"{v}, {n}": [row[f"{v}, {n}"] for row in rows] for v in VARIANTS for n in ("certain ratio", signals.name)
        }
        text = (
            "Exact probability that the allowed bid cannot be delivered, over eta, at the worst plugged share y: above "
            "1 the promise is broken. The number of cars is binomial; the mileage ratio is certain or follows the "
            "signal's law. Published bids take the variance y (1 - y) for the squared deviation and break their "
            "promise where nearly all cars are plugged in; rigorous bids keep it everywhere."
        )
        return Section("What the bids promise", text, rows, bars(labels, groups, "violation probability / eta"))

    def classes(self) -> Section:
        """One class with mixed shares against a class for each cluster."""
        game = self.base.game()
        mix = self.base.composition
        parts = []
        for k, (name, share) in enumerate(zip(CLUSTERS, mix, strict=True)):
            if share > 0.0:
                pure = tuple(float(k == j) for j in range(len(mix)))
                parts.append(DriverClass(name, share, self.base.replace(composition=pure).network()))
        split = answer(game.replace(classes=tuple(parts)), self.config.classes_time_limit_s)
        rows: Rows = [
            _summary("one class, mixed shares", self.platform),
            _summary(f"{len(parts)} classes, one rebate", split),
            _summary(
                "rebates of the one class, answered by the classes",
                replayed(game.replace(classes=tuple(parts)), self.platform.plan),
            ),
        ]
        text = (
            "The same drivers, as one class whose every driver may live any day of the mix, and as classes of which "
            "each lives in its own network; all get the same rebates. In the mix every driver can answer a rebate with "
            "the day of another cluster; apart, each chooses among the days of his own. The last row is what the "
            "rebates of the first model bring if drivers are those of the second. The search ends after "
            f"{self.config.classes_time_limit_s:g} s; the gain is at most what the bound allows."
        )
        return Section("Several driver classes", text, rows, None)

    def grids(self) -> Section:
        """Rebate grids and lengths of the periods."""
        levels = self.base.rebate_levels_usd_per_h
        coarse = tuple(np.linspace(levels[0], levels[-1], 11).tolist())
        fine = tuple(np.linspace(levels[0], levels[-1], 21).tolist())
        rows: Rows = []
        for words, periods in (("hourly", 1), ("30 min", 2), ("15 min", 4)):
            instance = self.base.replace(periods_per_hour=periods)
            limit = self.config.classes_time_limit_s
            for count, grid in ((11, coarse), (21, fine)):
                found = answer(instance.replace(rebate_levels_usd_per_h=grid).game(), limit)
                rows.append(_summary(f"{words}, {count} levels", found))
            game = instance.game()
            rows.append(_summary(f"{words}, continuous", replayed(game, continuous(game)[0])))
        text = (
            "Rebates on grids of 11 and 21 levels and between the lowest and highest level without a grid (best found, "
            "no proof), for periods of an hour, half and a quarter of it. Shorter periods also count cars that are "
            "plugged in for part of an hour, which the hourly network does not: compare gains, not profits, between "
            "them."
        )
        return Section("Rebate grids and period lengths", text, rows, None)

    def law(self) -> Section:
        """The persistency model against sampled drivers."""
        game = self.base.game()
        rows: Rows = []
        for k, (name, plan) in enumerate((("none", np.zeros(24)), ("certified", self.platform.plan))):
            rows += self._drivers(game, name, replayed(game, plan), np.random.default_rng([self.config.seed, 99, k]))
        text = (
            f"What {self.config.sampled_drivers} sampled drivers do, under no rebates and under the certified ones. "
            "The extremal law is the one behind the persistency value: its flow and expected utility are the model's, "
            "up to sampling. Independent normal utilities with the same means and deviations are another law: their "
            "flow is not the observed one even without rebates, to which the model is calibrated. Profit is given with "
            "the bids of the model (every bid paid in full, rebates as taken, and the probability that a bid fails in "
            "the worst hour), where cars beyond the planned ones cost rebates and earn nothing, and with bids that "
            "know the true plugged shares. Money per driver and month of 30 days; utility in $ per day."
        )
        return Section("Law of the drivers", text, rows, None)

    def _drivers(self, game: Game, name: str, planned: Answer, rng: np.random.Generator) -> Rows:
        arcs = arcs_of(game.classes)
        plan = planned.plan
        model = respond(arcs, plan[None])
        flow = model.flow[0]
        paths = walk(arcs, flow, self.config.sampled_drivers, rng)
        extremal = longest_paths(arcs, extremal_utilities(arcs, flow, paths, plan))
        normal = independent_normal(arcs, plan, self.config.sampled_drivers, rng)
        rows = [self._driver_row(game, arcs, name, "persistency model", planned, flow, float(model.value[0, 0]))]
        sampled: tuple[tuple[str, Days], ...] = (
            ("extremal, sampled", extremal),
            ("independent normal, sampled", normal),
        )
        for law, days in sampled:
            rows.append(
                self._driver_row(game, arcs, name, law, planned, days.paths.mean(axis=0), float(days.value.mean()))
            )
        return rows

    def _driver_row(
        self, game: Game, arcs: Arcs, name: str, law: str, planned: Answer, flow: Floats, utility: float
    ) -> dict[str, Any]:
        plugged = plugged_shares(arcs.period, flow, game.periods)
        matched = allowed_bid(plugged[None, :, None], arcs.share, coefficients(game), game.variant == "rigorous")[0]
        price = np.array(game.price_usd_per_kw)
        month = MONTH_DAYS / game.drivers
        rebate = MONTH_DAYS * float(plugged @ planned.plan)
        quantiles = ratio_quantiles(SIGNALS[self.base.signals].deviation)
        power = self.base.charger_kw
        chance = violation_probability(planned.bid_kw, np.clip(plugged, 0.0, 1.0), game.drivers, power, quantiles)
        return {
            "rebates": name,
            "law": law,
            "utility_usd": utility,
            "mean_plugged": float(plugged.mean()),
            "largest_difference": float(np.abs(plugged - planned.plugged).max()),
            "rebate_usd": rebate,
            "profit_planned_bids_usd": month * float(price @ planned.bid_kw) - rebate,
            "worst_violation": float(chance.max()),
            "profit_matched_bids_usd": month * float(price @ matched) - rebate,
        }


def _summary(words: str, found: Answer) -> dict[str, Any]:
    proven = math.isfinite(found.gap_percent)
    return {
        "case": words,
        "with_usd": found.with_usd,
        "without_usd": found.without_usd,
        "gain_percent": found.improvement_percent,
        "gain_at_most_percent": found.at_most_percent if proven else None,
        "rebate_usd": found.rebate_usd,
        "gap_percent": found.gap_percent if proven else None,
        "solve_s": found.solve_s if proven else None,
    }


def _correlation(one: Floats, other: Floats) -> float | None:
    if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
