"""The command ``v2g game``: coalitions, equilibria and lies in the games of the four problems."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.cli_solve import clock, instance_of
from agents.executor import BACKENDS
from v2g_env.core.validate import number, require

__all__ = ["add_game"]

_KINDS = ("shared-battery", "parking-lot", "scheduling", "storage", "sizing", "reporting")


def add_game(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``v2g game``."""
    parser.set_defaults(action=_game)
    parser.add_argument(
        "kind",
        choices=_KINDS,
        help="coalitions: shared-battery, parking-lot, scheduling; equilibria: storage, sizing; lies: reporting",
    )
    parser.add_argument("--players", type=int, help="drivers or prosumers (default 8); aggregators are the instance's")
    parser.add_argument("--samples", type=int, default=1000, help="sampled days (default 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--instance", help="TOML or JSON file with fields of the instance")
    parser.add_argument(
        "--owner", default="prosumers", choices=["prosumers", "manager"], help="parking-lot: of storage"
    )
    parser.add_argument("--split", default="equal", choices=["equal", "shortfall"], help="sizing: of the shared bill")
    parser.add_argument("--slope", type=float, default=5e-4, help="storage: price per kW taken [$/kWh per kW]")
    parser.add_argument("--worth", default="energy", choices=["energy", "service"], help="reporting: what counts")
    parser.add_argument(
        "--sampled", action="store_true", help="shared-battery: sampled Shapley value, for many drivers"
    )
    parser.add_argument("--tolerance", type=float, default=0.02, help="--sampled: half-width, as a share of the total")
    parser.add_argument("--backend", default="processes", choices=BACKENDS, help="that evaluates coalitions")
    parser.add_argument("--workers", type=int, help="coalitions at a time")
    parser.add_argument("--out", help="results folder (default results/game-KIND)")


def _game(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out or f"results/game-{arguments.kind}")
    problem = {"storage": "parking_lot", "sizing": "shared_battery", "reporting": "shared_battery"}.get(
        arguments.kind, arguments.kind.replace("-", "_")
    )
    lot = instance_of(arguments.instance, problem)
    if problem == "shared_battery":
        lot = lot.replace(drivers=_players(arguments))
    {
        "shared-battery": _sampled if arguments.sampled else _battery,
        "parking-lot": _lot,
        "scheduling": _network,
        "storage": _storage,
        "sizing": _sizing,
        "reporting": _reporting,
    }[arguments.kind](arguments, lot, out)


def _players(arguments: argparse.Namespace) -> int:
    count = 8 if arguments.players is None else arguments.players
    number("--players", count, 1, 10_000, integer=True)
    return int(count)


def _spread(arguments: argparse.Namespace, out: Path, function: str, fixed: Mapping[str, Any], name: str) -> Any:
    from agents.games import spread_through

    return spread_through(
        function, fixed, name, out / "tasks", arguments.backend, arguments.workers, clock(), progress=True
    )


def _finish(game: Any, certificate: Mapping[str, Any], out: Path, more: Mapping[str, Any] | None = None) -> None:
    from agents.games import allocations, game_lines, write_game

    found = allocations(game, more)
    write_game(game, found, certificate, out)
    for line in game_lines(game, found):
        print(line)
    print(f"\ntables: {out / 'allocations.csv'}, {out / 'coalitions.csv'}")
    print(f"check:  v2g check {out / 'certificates'}/*.json")


def _battery(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.shared_battery.cost_game import cost_game, owen_point

    fixed = {"instance": lot.to_dict(), "n_samples": arguments.samples, "seed": arguments.seed}
    spread = _spread(arguments, out, "baselines.shared_battery.cost_game:coalition_costs", fixed, "masks")
    game, certificate = cost_game(lot, arguments.samples, arguments.seed, spread)
    _finish(game, certificate, out, {"Owen's point": owen_point(lot, arguments.samples, arguments.seed)})


def _lot(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.parking_lot.profit_game import profit_game
    from baselines.parking_lot.prosumers import draw_prosumers

    crowd = draw_prosumers(_players(arguments), arguments.seed)
    game, certificate = profit_game(lot, crowd, arguments.samples, arguments.seed, arguments.owner)
    _finish(game, certificate, out)


def _network(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.scheduling.savings_game import savings_game

    require(arguments.players is None, "--players", arguments.players, "none: aggregators are the instance's")
    fixed = {"instance": lot.to_dict(), "seed": arguments.seed, "row": 0}
    spread = _spread(arguments, out, "baselines.scheduling.savings_game:plan_coalition", fixed, "mask")
    game, certificate = savings_game(lot, arguments.seed, 0, spread)
    _finish(game, certificate, out)


def _sampled(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.certificate import write_text
    from baselines.games.shapley import sampled_shapley
    from baselines.shared_battery.cost_game import cost_function

    game = cost_function(lot, arguments.samples, arguments.seed)
    found = sampled_shapley(game, 100_000, arguments.seed, tolerance=arguments.tolerance, say=clock())
    rows = [
        {"player": who, "usd": float(value), "half_width_usd": float(half)}
        for who, value, half in zip(game.players, found.value, found.half_width, strict=True)
    ]
    write_text(
        out / "shapley.json", json.dumps({"total_usd": game.total, "blocks": found.blocks, "rows": rows}, indent=1)
    )
    print(
        f"{game.n} drivers pay {game.total:.2f} $ together; Shapley values within ±{found.half_width.max():.3g} $ "
        f"({100 * found.half_width.max() / game.total:.2f} % of it, all at once, 95 %, normal) after {found.blocks} "
        f"pairs of orders, {found.evaluated} coalitions"
    )
    for row in rows[:10]:
        print(f"  {row['player']:12s} {row['usd']:10.2f} ± {row['half_width_usd']:.2f} $")
    print(f"table: {out / 'shapley.json'}")


def _storage(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.certificate import save
    from baselines.parking_lot.prosumers import draw_prosumers
    from baselines.parking_lot.storage_game import equilibrium, social_optimum, storage_game
    from baselines.parking_lot.verify_storage_game import certificate_of

    crowd = draw_prosumers(_players(arguments), arguments.seed)
    game = storage_game(lot, crowd, arguments.slope, arguments.samples, arguments.seed)
    idle = game.costs_usd(*np.zeros((2, *game.net_kw.shape))).sum()
    best = social_optimum(game)
    for kind, found in (("equilibrium", equilibrium(game)), ("social optimum", best.plan)):
        made = certificate_of(lot, crowd, arguments.samples, arguments.seed, game, found, best, kind)
        save(made, out / "certificates" / f"{kind.replace(' ', '-')}.json")
        print(
            f"{kind:15s} {found.costs_usd.sum():10.4f} $ a day, {idle - found.costs_usd.sum():.4f} $ saved by storing; "
            f"nobody saves more than {found.epsilon_usd.max():.1e} $ by deviating alone"
        )
    print(f"{'proven':15s} {best.bound_usd:10.4f} $ a day: no plan of all costs less")
    print(f"check: v2g check {out / 'certificates'}/*.json")


def _sizing(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.certificate import save
    from baselines.shared_battery.programs import span_of
    from baselines.shared_battery.scenario_program import least_use
    from baselines.shared_battery.sizing_game import sizing_equilibrium
    from v2g_env.shared_battery.scenario import sample_days

    need = sample_days(lot, "generator", arguments.samples, arguments.seed).need_kwh
    best = lot.shared_usd_per_kwh * least_use(need, span_of(lot)).bound_kwh
    for name, start in (("all own", None), ("none own", np.full(lot.drivers, lot.own_min_kwh))):
        found, made = sizing_equilibrium(lot, arguments.split, arguments.samples, arguments.seed, start_kwh=start)
        save(made, out / "certificates" / f"from-{name.replace(' ', '-')}.json")
        paid = float(found.costs_usd.sum())
        print(
            f"from {name:9s} {paid:10.2f} $, {paid / best:.3f} times the least ({best:.2f} $); "
            f"{found.own_kwh.sum():.1f} kWh of own batteries; nobody saves over {found.epsilon_usd.max():.1e} $ alone"
        )
    print(f"check: v2g check {out / 'certificates'}/*.json")


def _reporting(arguments: argparse.Namespace, lot: Any, out: Path) -> None:
    from baselines.certificate import write_text
    from baselines.shared_battery.reporting import manipulability
    from v2g_env.shared_battery.scenario import law, sample_days, week_sizes

    source = law(lot)
    sizes = week_sizes(lot, source)
    need = sample_days(lot, source, min(arguments.samples, 500), arguments.seed).need_kwh
    lack = np.maximum(need - sizes.own_kwh, 0.0)
    rows = manipulability(lack, sizes.shared_kwh, arguments.worth, arguments.seed)
    print(
        f"what one of {lot.drivers} drivers gains a day by lying, worth 1 $ a kWh ({arguments.worth}), others truthful:"
    )
    print(f"  {'rule':16s} {'mean gain':>10s} {'95 %':>16s} {'largest':>9s} {'who gains':>10s} {'truth earns':>12s}")
    for row in rows:
        span = f"[{row.low_usd:.3f}, {row.high_usd:.3f}]"
        print(
            f"  {row.rule:16s} {row.mean_gain_usd:10.3f} {span:>16s} {row.largest_usd:9.2f} "
            f"{100 * row.gaining_share:9.1f}% {row.mean_truth_usd:12.3f}"
        )
    write_text(out / "manipulability.json", json.dumps([row._asdict() for row in rows], indent=1))
    print(f"table: {out / 'manipulability.json'}")
