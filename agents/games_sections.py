"""Sections of the study of games: coalitions, their stability, lies, equilibria, and what learners make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.games import allocations, write_game
from agents.games_figures import (
    draw_allocations,
    draw_anarchy,
    draw_lies,
    draw_simplex,
    draw_stability,
)
from agents.report import Section
from baselines.certificate import save
from baselines.games.coalitions import CooperativeGame
from baselines.games.core import balanced_weights, excesses, least_core
from baselines.games.nucleolus import nucleolus
from baselines.games.prices import equal, stand_alone
from baselines.games.shapley import shapley
from baselines.games.stability import sampled_core, unstable_share
from baselines.games.verify_sampled import sampled_certificate
from baselines.parking_lot.profit_game import profit_game
from baselines.parking_lot.prosumers import draw_prosumers
from baselines.parking_lot.storage_game import equilibrium, social_optimum, storage_game
from baselines.parking_lot.verify_storage_game import certificate_of
from baselines.scheduling.savings_game import savings_game
from baselines.shared_battery.cost_game import cost_game, owen_point, scenario_costs
from baselines.shared_battery.programs import span_of
from baselines.shared_battery.reporting import WORTHS, manipulability
from baselines.shared_battery.scenario_program import least_use
from baselines.shared_battery.sizing_game import SPLITS, sizing_equilibrium
from v2g_env.parking_lot.instance import Instance as Lot
from v2g_env.scheduling.instance import Instance as Network
from v2g_env.shared_battery.instance import Instance as Battery
from v2g_env.shared_battery.scenario import law, sample_days, week_sizes

__all__ = ["StudyConfig", "World"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class StudyConfig:
    """Sizes of the study.

    Attributes:
        samples: sampled days of the coalition games.
        drivers: of the game whose allocations are shown; of the row in which their number grows, the largest.
        seasons: scenarios of the out-of-sample section, and fresh ones on which it is tested.
        lies: days on which lies are sought.
        crowds: numbers of prosumers of the storage game.
        training_steps: of each learned answer.
        cars: of the network whose aggregators play.
    """

    samples: int = 1000
    drivers: int = 8
    seasons: tuple[int, int] = (100, 1000)
    lies: int = 200
    crowds: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    training_steps: int = 60_000
    cars: int = 100

    @classmethod
    def quick(cls) -> StudyConfig:
        """Small sizes for a first look."""
        return cls(200, 5, (50, 300), 30, (1, 2, 5, 10), 12_000)


class World:
    """What the sections share: sizes, the folder, the games that several of them need."""

    def __init__(self, config: StudyConfig, out: Path, say: Say) -> None:
        self.config, self.out, self.say = config, out, say

    def pictures(self) -> Section:
        """Cores of three players as pictures, with all rules in them."""
        battery = cost_game(Battery(drivers=3), self.config.samples, 1)
        lot = profit_game(Lot(), draw_prosumers(2, 1), self.config.samples, 1, "manager")
        rows, drawn = [], []
        for name, (game, certificate) in (("three drivers (cost)", battery), ("prosumers and manager (profit)", lot)):
            found = allocations(game)
            write_game(game, found, certificate, self.out / "games" / name.split(" (")[0].replace(" ", "-"))
            drawn.append((name, game, found))
            for each in found:
                paid = {f"player {i} [$]": float(value) for i, value in enumerate(each.payments)}
                rows.append({"game": name, "rule": each.rule, **paid, "in the core": each.verdict})
        text = (
            "All ways to share what three players are worth are points of a triangle; the shaded part is the core, "
            "where no coalition gains by leaving. Shares at the corners go to one player alone. The nucleolus lies in "
            "the core wherever there is one."
        )
        return Section("Cores of three players", text, rows, draw_simplex(drawn), (8.6, 4.2))

    def shares(self) -> Section:
        """Who pays what under every rule, for a larger fleet."""
        lot = Battery(drivers=self.config.drivers)
        game, certificate = cost_game(lot, self.config.samples, 1)
        found = allocations(game, {"Owen's point": owen_point(lot, self.config.samples, 1)})
        write_game(game, found, certificate, self.out / "games" / "drivers")
        rows = [
            {
                "rule": each.rule,
                **{f"driver {i} [$]": float(value) for i, value in enumerate(each.payments)},
                "in the core": each.verdict,
                "would leave": each.leaving,
                "largest gain [$]": max(each.worst_usd, 0.0),
            }
            for each in found
        ]
        alone = game.values[1 << np.arange(game.n)]
        text = (
            f"{game.n} drivers share batteries for {game.total:.0f} $ a season; each for himself they would pay "
            f"{alone.sum():.0f} $. Every coalition's cost is known within "
            f"{float((game.upper - game.lower).max()):.1e} $. Equal shares charge drivers with small needs more than "
            "they pay alone, so they leave. Owen's point, from multipliers of the days that decide, is in the core."
        )
        return Section("Who pays for the shared battery", text, rows, draw_allocations(game, found), (8.6, 4.2))

    def growth(self) -> Section:
        """How stable simple rules are as the fleet grows."""
        rows = []
        for n in range(2, self.config.drivers + 1):
            game = cost_game(Battery(drivers=n), self.config.samples, 1).game
            row: dict[str, Any] = {"drivers": n, "saved together [%]": 100.0 * _saved(game)}
            for name, payments in (
                ("equal", equal(game)),
                ("stand-alone", stand_alone(game)),
                ("Shapley", shapley(game)),
                ("nucleolus", nucleolus(game).payments),
            ):
                row[f"{name} [%]"] = 100.0 * max(float(excesses(game, payments).max()), 0.0) / game.total
            row["least core [%]"] = 100.0 * least_core(game).excess_usd / game.total
            rows.append(row)
        text = (
            "The largest gain of a coalition that leaves, in percent of what all pay together, by rule; zero: in the "
            "core. The last column is the least core: how much every proper coalition would lose at least by leaving, "
            "if it is negative."
        )
        return Section("Stability as the fleet grows", text, rows, draw_stability(rows))

    def tomorrow(self) -> Section:
        """Whether shares agreed beforehand still hold on seasons that nobody has seen."""
        lot, (count, fresh) = Battery(drivers=4), self.config.seasons
        tables = -scenario_costs(lot, lot.season_days, count, 11)
        later = -scenario_costs(lot, lot.season_days, fresh, 12)
        rows = []
        for name, amount in (
            ("mean cost", float(tables[:, -1].mean())),
            ("cost exceeded on 10 % of seasons", float(np.quantile(tables[:, -1], 0.1))),
        ):
            found = sampled_core(tables, amount, 1e-3)
            source = f"seasons of {lot.season_days} days of the generator, seed 11"
            made = sampled_certificate(tables, amount, found, source)
            save(made, self.out / "games" / f"tomorrow-{name.split(' ')[0]}.json")
            seen = unstable_share(later, found.payments, found.excess_usd)
            rows.append(
                {
                    "shared out": name,
                    "amount [$]": -amount,
                    "gain accepted [$]": found.excess_usd,
                    "complexity": len(found.support),
                    "promised at most": found.eps,
                    "observed": seen,
                }
            )
        text = (
            f"Four drivers agree on shares before the season; what a coalition would pay for itself depends on the "
            f"season. On {count} sampled seasons the shares are found with the least gain of leaving. The promise: on "
            "a fresh season some coalition gains more with at most this probability (confidence 0.999); observed on "
            f"{fresh} fresh seasons."
        )
        return Section("Shares that hold tomorrow", text, rows)

    def aggregators(self) -> Section:
        """The network's aggregators: an empty core, and why."""
        game, certificate = savings_game(Network(cars=self.config.cars))
        found = allocations(game)
        write_game(game, found, certificate, self.out / "games" / "aggregators")
        weights = balanced_weights(game)
        rows = [
            {
                "rule": each.rule,
                **{f"aggregator {i} [$]": float(value) for i, value in enumerate(each.payments)},
                "would leave": each.leaving,
                "largest gain [$]": max(each.worst_usd, 0.0),
            }
            for each in found
        ]
        few = [float(game.values[[mask for mask in range(64) if bin(mask).count("1") == k]].mean()) for k in range(7)]
        proof = (
            ""
            if weights is None
            else (
                f" Balanced weights on {len(weights.masks)} coalitions prove it in exact rationals: they are worth "
                f"{float(weights.surplus):.0f} $ more than all together."
            )
        )
        text = (
            f"All six aggregators together save {game.total:.0f} $ on the first sampled day; any k of them save on "
            "average "
            + ", ".join(f"{value:.0f} $ ({k})" for k, value in enumerate(few[1:], 1))
            + ". What one more adds falls quickly, because all shave the same peak: the core is empty, and no "
            "sharing keeps every coalition." + proof
        )
        return Section("Aggregators share a peak", text, rows, draw_allocations(game, found), (8.6, 4.2))

    def lies(self) -> Section:
        """What drivers gain by overstating or understating, by rule."""
        lot = Battery(drivers=10)
        source = law(lot)
        sizes = week_sizes(lot, source)
        lack = np.maximum(sample_days(lot, source, self.config.lies, 5).need_kwh - sizes.own_kwh, 0.0)
        rows = [row._asdict() for worth in WORTHS for row in manipulability(lack, sizes.shared_kwh, worth, 3)]
        text = (
            "The best report of one driver, the others truthful, on every day; worth 1 $ a kWh for every kWh up to "
            "what he lacks (energy), or for a request served in full (service). Nobody gains under max-min sharing of "
            "energy (Sprumont 1991); most who lack anything gain by overstating under proportional sharing."
        )
        return Section("What lying earns", text, rows, draw_lies(rows))

    def anarchy(self) -> Section:
        """Equilibrium against social optimum: prosumers who store."""
        lot, rows = Lot(), []
        for n in self.config.crowds:
            crowd = draw_prosumers(n, 1)
            game = storage_game(lot, crowd, 2e-3, self.config.samples, 1)
            nash, best = equilibrium(game), social_optimum(game)
            made = certificate_of(lot, crowd, self.config.samples, 1, game, nash, best, "equilibrium")
            save(made, self.out / "games" / f"storage-{n}.json")
            idle = float(game.costs_usd(*np.zeros((2, *game.net_kw.shape))).sum())
            rows.append(
                {
                    "prosumers": n,
                    "saved at equilibrium [$]": idle - float(nash.costs_usd.sum()),
                    "saved at best, at most [$]": idle - best.bound_usd,
                    "share kept, at least [%]": 100.0 * (idle - float(nash.costs_usd.sum())) / (idle - best.bound_usd),
                    "epsilon [$]": float(nash.epsilon_usd.max()),
                }
            )
        text = (
            "The more prosumers compete for the lot's storage, the less each minds how he moves the price (0.002 $/kWh "
            "per kW here): the equilibrium drifts from the least total cost, and stays close to it. Nobody can save "
            "more than epsilon by deviating alone, and no plan of all saves more than the bound: both are proven by "
            "multipliers, without a solver. Most of the loss is due to the shared limit of the storage."
        )
        return Section("Competing for storage", text, rows, draw_anarchy(rows))

    def bills(self) -> Section:
        """Drivers who size for themselves, by how the shared battery's bill is split."""
        rows = []
        for price in (3.6, 2.0, 0.8, 0.2):
            lot = Battery(own_usd_per_kwh=price)
            need = sample_days(lot, "generator", self.config.samples, 1).need_kwh
            best = lot.shared_usd_per_kwh * least_use(need, span_of(lot)).bound_kwh
            for split in SPLITS:
                for name, start in (("all own", None), ("none own", np.zeros(lot.drivers))):
                    found, made = sizing_equilibrium(lot, split, self.config.samples, 1, start_kwh=start)
                    save(made, self.out / "games" / f"sizing-{price:g}-{split}-{name.replace(' ', '-')}.json")
                    rows.append(
                        {
                            "own battery [$/kWh]": price,
                            "bill split": split,
                            "from": name,
                            "own batteries [kWh]": float(found.own_kwh.sum()),
                            "cost / least cost": float(found.costs_usd.sum()) / best,
                            "epsilon [$]": float(found.epsilon_usd.max()),
                        }
                    )
        text = (
            "25 drivers choose their own batteries, each for himself, and split the bill of the shared one (4 $/kWh). "
            "Equal shares invite free riding: nobody buys what costs more than a 25th of the shared battery. Splitting "
            "by shortfall makes whoever lacks anything alone pay for all of it, so that nobody dares to give up his "
            "own: there are several equilibria, and where the drivers start decides which they reach."
        )
        return Section("Sizing for oneself", text, rows)

    def learners(self) -> Section:
        """What learned policies make of the reporting game, and how exploitable the truth is."""
        from agents.parties import returns
        from agents.party_training import learned_exploitability, train_shared
        from v2g_env.shared_battery.party import SharedBatteryParties

        rows = []
        for rule, payment in (("proportional", "none"), ("max_min", "none"), ("proportional", "clarke")):
            model = SharedBatteryParties(Battery(drivers=6, rule=rule), payment=payment)
            self.say(f"training on {rule}, payments {payment}")
            together = train_shared(model, "driver", 3 * self.config.training_steps, seed=1)
            answer = learned_exploitability(model, None, "driver_0", self.config.training_steps, 2)
            honest = returns(model, None, 300, 9)["driver"].sum(axis=(1, 2))
            learned = returns(model, {"driver": together}, 300, 9)["driver"].sum(axis=(1, 2))
            rows.append(
                {
                    "rule": rule,
                    "payments": payment,
                    "all truthful [$/week]": float(honest.mean()),
                    "all learned [$/week]": float(learned.mean()),
                    "one learns, others truthful: gains [$/week]": answer.gain_usd,
                    "at least": answer.low_usd,
                    "at most": answer.high_usd,
                }
            )
        text = (
            "Six drivers report to `shared_battery_parallel_v0` for a week. One network for all (parameter sharing), "
            "and one driver's learned answer to truthful others, a lower limit on how exploitable the truth is (95 % "
            "limits, paired). Where the truth is best, learning gains nothing."
        )
        return Section("Learning to lie", text, rows)


def _saved(game: CooperativeGame) -> float:
    alone = float(game.values[1 << np.arange(game.n)].sum())
    return 1.0 - game.total / alone if alone > 0.0 else 0.0
