"""The commands ``v2g solve PROBLEM``: certified answers for the terminal."""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from typing import Any

from v2g_env.core.validate import require

__all__ = ["add_solve", "clock", "instance_of"]


def instance_of(path: str | None, problem: str = "parking_lot", kind: Any = None) -> Any:
    """The instance of a problem, or what a kind of certificate has instead, from a TOML or JSON file; or defaults."""
    found = importlib.import_module(f"v2g_env.{problem}.instance").Instance
    if isinstance(kind, str):
        owners = getattr(importlib.import_module(f"baselines.{problem}.verify"), "OWNERS", {})
        found = owners.get(kind, found)
    return found() if path is None else found.from_file(path)


def clock() -> Callable[[str], None]:
    """Prints a line of progress with the time since the call."""
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:5.0f} s] {text}", flush=True)

    return say


def _parking_lot(arguments: argparse.Namespace) -> None:
    from baselines.parking_lot.programs import solve

    lot = instance_of(arguments.instance)
    begin = time.perf_counter()
    solution = solve(
        lot,
        n_samples=arguments.samples,
        seed=arguments.seed,
        law_name=arguments.law,
        beta=arguments.beta,
        rho=arguments.rho,
        radius=arguments.radius,
        quota=arguments.quota,
        distance=arguments.distance,
    )
    spent = time.perf_counter() - begin
    print(f"solved in {spent:.2f} s; planned {solution.value:.2f} $/day; stored energy [kWh] by hour:")
    for hour, stored in zip(lot.hours, solution.plan, strict=True):
        print(f"  {hour - lot.step_h / 2:5.2f} h  {stored:8.2f}")
    _certified(solution.certificate, lot, arguments.out)


def _stackelberg(arguments: argparse.Namespace) -> None:
    from agents.stackelberg_solve import day_game, day_lines
    from baselines.stackelberg import solve

    fleet = instance_of(arguments.instance, "stackelberg")
    game = day_game(fleet, arguments.price, arguments.weekend, arguments.plugged)
    solution = solve(game, arguments.gap, arguments.seconds, clock())
    for line in day_lines(game, solution):
        print(line)
    _certified(solution.certificate, game, arguments.out)


def _shared_battery(arguments: argparse.Namespace) -> None:
    from baselines.shared_battery import programs
    from baselines.shared_battery.search import search

    fleet = instance_of(arguments.instance, "shared_battery")
    shared = {"seed": arguments.seed, "beta": arguments.beta}
    begin = time.perf_counter()
    if arguments.method == "search":
        require(arguments.samples is None, "--samples", arguments.samples, "none with --method search")
        solution = search(fleet, rule=arguments.rule, **shared)
    else:
        require(arguments.rule is None, "--rule", arguments.rule, "none but with --method search")
        if arguments.method == "program":
            solution = programs.solve(fleet, n_samples=arguments.samples, say=clock(), **shared)
        else:
            solution = programs.separate(fleet, n_samples=arguments.samples, **shared)
    spent = time.perf_counter() - begin
    per_driver = solution.plan.sum() / fleet.drivers
    print(f"solved in {spent:.2f} s; {solution.value:.2f} $ for a season, {per_driver:.2f} kWh per driver in all")
    print(f"  shared battery {solution.shared_kwh:10.2f} kWh")
    for i, own in enumerate(solution.own_kwh):
        print(f"  driver {i:4d}    {own:10.2f} kWh")
    _certified(solution.certificate, fleet, arguments.out)


def _scheduling(arguments: argparse.Namespace) -> None:
    from baselines.scheduling import affine, day, linear
    from baselines.scheduling.distributed import coordinate
    from v2g_env.scheduling.model import Model
    from v2g_env.scheduling.scenario import sample

    lot = instance_of(arguments.instance, "scheduling")
    views = {"known": day.known_day, "known-wind": day.known_wind_day, "ahead": day.ahead_day}
    model = Model(lot)
    seen = views[arguments.day](model, sample(lot, model.law, 1, arguments.seed), 0)
    protection = day.Protection(arguments.set, arguments.level, arguments.wind)
    begin = time.perf_counter()
    if arguments.adjust:
        require(arguments.objective == "cost", "--objective", arguments.objective, "cost, with --adjust")
        rule = affine.solve(lot, seen, protection)
        value, gas, cars = rule.value, rule.plan.gas_kw, rule.plan.fleet_kw
        certificate: dict[str, Any] | None = rule.certificate
    elif arguments.agree:
        require(arguments.objective == "cost", "--objective", arguments.objective, "cost, with --agree")
        met = coordinate(lot, seen, protection, say=clock())
        certificate, value, gas, cars = met.certificate, met.value, met.plan.gas_kw, met.plan.car_kw.sum(axis=1)
    else:
        plan = linear.solve(lot, seen, protection, arguments.objective, say=clock())
        certificate, value, gas, cars = plan.certificate, plan.value, plan.plan.gas_kw, plan.plan.car_kw.sum(axis=1)
    print(f"solved in {time.perf_counter() - begin:.2f} s; {arguments.objective} {value:.2f}; powers [kW] by hour:")
    print("   clock  generator    cars   homes    wind")
    every = max(round(1.0 / lot.step_h), 1)
    for step in range(0, lot.steps, every):
        at = slice(step, step + every)
        means = [part[at].mean() for part in (gas, cars, seen.load_kw.sum(axis=1), seen.wind_kw.sum(axis=1))]
        print(f"  {(lot.start_h + step * lot.step_h) % 24:5.2f} h" + "".join(f"{mean:8.1f}" for mean in means))
    if certificate is not None:
        _certified(certificate, lot, arguments.out)


def _price_chain(arguments: argparse.Namespace) -> None:
    from agents.price_chain import ambiguity_sets
    from baselines.price_chain.values import solve
    from v2g_env.price_chain.model import Model

    lot = instance_of(arguments.instance, "price_chain")
    if arguments.prices is not None:
        from v2g_env.data.prices import load_prices
        from v2g_env.price_chain.chain import chain_from_prices

        require(
            lot.steps == 24 and lot.step_h == 1.0, "steps of the instance", lot.steps, "24 of an hour, with --prices"
        )
        table = load_prices(arguments.prices, arguments.country, repair=arguments.repair)
        print(f"prices: {len(table):,} hours; {table.attrs['repairs']}")
        hour = table["hour_utc"].dt.tz_localize(None).to_numpy()
        price = table["price_eur_per_mwh"].to_numpy() / 1e3
        lot = lot.replace(**chain_from_prices(hour, price, lot.price_levels, int(lot.start_hour)).fields())
    sets = {} if arguments.set == "none" else ambiguity_sets(lot, arguments.confidence)
    begin = time.perf_counter()
    solution = solve(Model(lot), sets.get(arguments.set))
    print(f"solved in {time.perf_counter() - begin:.2f} s; {solution.value:.4f} $/day")
    _certified(solution.certificate, lot, arguments.out)


def _feeder(arguments: argparse.Namespace) -> None:
    from baselines.scheduling.conic import solve
    from baselines.scheduling.conic_commitment import commit
    from baselines.scheduling.feeder_day import FeederDay

    day = FeederDay() if arguments.instance is None else FeederDay.from_file(arguments.instance)
    begin = time.perf_counter()
    solution = commit(day, say=clock()) if arguments.commit else solve(day)
    unit = "$" if day.objective == "cost" else "kWh"
    print(f"solved in {time.perf_counter() - begin:.2f} s; {day.objective} {solution.value:.3f} {unit}")
    _certified(solution.certificate, day, arguments.out)


def _certified(certificate: dict[str, Any], owner: Any, out: str | None) -> None:
    from baselines.certificate import check, save

    for claim in check(certificate, owner).claims:
        print(f"certified: {claim}")
    if out:
        save(certificate, out)
        print(f"certificate: {out}")


def _add_parking_lot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=2000, help="number N of sampled days (default 2000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--law", default="generator", help="generator, days:<day set>, smoothed (default generator)")
    parser.add_argument("--beta", type=float, default=1e-5, help="confidence parameter (default 1e-5)")
    parser.add_argument("--rho", type=float, help="price of violation [$]: relaxed program (default: robust)")
    parser.add_argument("--radius", type=float, default=0.0, help="adversarial radius [chargers]")
    parser.add_argument("--distance", type=float, help="Wasserstein distance of another law [chargers]")
    parser.add_argument("--quota", default="executable", choices=["executable", "full"])


def _add_stackelberg(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--price", help="file with 24 prices or one per period [$/kW per hour] (default: the instance's)"
    )
    parser.add_argument("--weekend", action="store_true", help="drivers as at the weekend")
    parser.add_argument("--plugged", type=float, help="plugged share of the day (default: the instance's)")
    parser.add_argument("--gap", type=float, default=1e-4, help="wanted proven gap (default 1e-4)")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit [s] (default 60)")


def _add_shared_battery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        default="program",
        choices=["program", "search", "separate"],
        help="scenario program; cheapest sizes under a rule, tested on fresh days; no shared battery (default program)",
    )
    parser.add_argument("--samples", type=int, help="sampled days (default: as few as certify the target)")
    parser.add_argument("--rule", help="allocation rule of the search (default: the instance's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--beta", type=float, default=1e-5, help="confidence parameter (default 1e-5)")


def _add_scheduling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--day",
        default="known-wind",
        choices=["known", "known-wind", "ahead"],
        help="what is known: all; wind and cars; nothing but forecasts (default known-wind)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the day")
    parser.add_argument(
        "--set",
        default="none",
        choices=["none", "box", "ellipsoid", "budget", "box-ellipsoid"],
        help="protected against",
    )
    parser.add_argument("--level", type=float, default=0.0, help="alpha of a budget, omega of an ellipsoid")
    parser.add_argument("--wind", action="store_true", help="wind is uncertain too, not the loads alone")
    parser.add_argument("--objective", default="cost", choices=["cost", "deviation", "renewable", "peak"])
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--agree", action="store_true", help="utility and aggregators agree by messages")
    way.add_argument("--adjust", action="store_true", help="decisions that answer to what has happened")


def add_solve(command: argparse.ArgumentParser) -> None:
    """Add a sub-command for every problem."""
    problems = command.add_subparsers(required=True, metavar="PROBLEM", dest="problem")

    def problem(name: str, action: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser = problems.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}, certified.")
        parser.set_defaults(action=action)
        parser.add_argument("--instance", help="TOML or JSON file with fields of the instance")
        parser.add_argument("--out", help="write the certificate here")
        return parser

    _add_parking_lot(problem("parking-lot", _parking_lot, "a scenario program"))
    _add_stackelberg(problem("stackelberg", _stackelberg, "the game of a day"))
    _add_shared_battery(problem("shared-battery", _shared_battery, "sizes of own and shared batteries"))
    _add_scheduling(problem("scheduling", _scheduling, "a plan for a day of the network"))
    feeder = problem("feeder", _feeder, "the dispatch of a day on an AC feeder")
    feeder.add_argument("--commit", action="store_true", help="the gas unit may be switched on and off")
    chain = problem("price-chain", _price_chain, "a table of choices for the electricity market")
    sets = ["none", "scenarios", "interval", "entropy", "likelihood", "ellipsoid"]
    chain.add_argument("--set", default="none", choices=sets, help="of transition probabilities, for the worst of it")
    chain.add_argument("--prices", help="CSV file of hourly day-ahead prices (Ember style); EUR count as $")
    chain.add_argument("--country", help="whose prices, if the file has several")
    chain.add_argument("--repair", action="store_true", help="drop or reread bad rows of the prices, and count them")
    chain.add_argument("--confidence", type=float, default=0.95, help="of each row's set (default .95)")
