"""The command ``v2g``: envs, solve, check, train, evaluate, compare, study, bench."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.bundle_files import BundleError
from baselines.certificate import CertificateError
from v2g_env.core.validate import InvalidInputError

__all__ = ["main"]

_PROBLEMS = ("parking-lot", "stackelberg")


def _envs(_: argparse.Namespace) -> None:
    from v2g_env.registration import ENVIRONMENTS

    for entry in ENVIRONMENTS:
        print(f"{entry.id:26s} {entry.problem}")


def _instance(path: str | None, problem: str = "parking_lot") -> Any:
    found = importlib.import_module(f"v2g_env.{problem}.instance").Instance
    return found() if path is None else found.from_file(path)


def _clock() -> Callable[[str], None]:
    """Prints a line of progress with the time since the call."""
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:5.0f} s] {text}", flush=True)

    return say


def _solve(arguments: argparse.Namespace) -> None:
    from baselines.certificate import check, save
    from baselines.parking_lot.programs import solve

    lot = _instance(arguments.instance)
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
    report = check(solution.certificate, lot)
    print(f"solved in {spent:.2f} s; planned {solution.value:.2f} $/day; stored energy [kWh] by hour:")
    for hour, stored in zip(lot.hours, solution.plan, strict=True):
        print(f"  {hour - lot.step_h / 2:5.2f} h  {stored:8.2f}")
    for claim in report.claims:
        print(f"certified: {claim}")
    if arguments.out:
        save(solution.certificate, arguments.out)
        print(f"certificate: {arguments.out}")


def _solve_stackelberg(arguments: argparse.Namespace) -> None:
    from agents.stackelberg_solve import day_game, day_lines
    from baselines.certificate import check, save
    from baselines.stackelberg import solve

    fleet = _instance(arguments.instance, "stackelberg")
    game = day_game(fleet, arguments.price, arguments.weekend, arguments.plugged)
    solution = solve(game, arguments.gap, arguments.seconds, _clock())
    for line in day_lines(game, solution):
        print(line)
    for claim in check(solution.certificate, game).claims:
        print(f"certified: {claim}")
    if arguments.out:
        save(solution.certificate, arguments.out)
        print(f"certificate: {arguments.out}")


def _check(arguments: argparse.Namespace) -> None:
    from baselines.certificate import PROBLEMS, check, load

    refused = 0
    for path in arguments.files:
        try:
            certificate = load(path)
            owner = None
            if arguments.instance is not None and certificate.get("problem") in PROBLEMS:
                owner = _instance(arguments.instance, certificate["problem"])
            report = check(certificate, owner)
        except CertificateError as error:
            refused += 1
            print(f"REFUSED {path}: {error}")
            continue
        print(f"holds   {path}")
        for claim in report.claims:
            print(f"        {claim}")
    if refused:
        raise SystemExit(1)


def _train(arguments: argparse.Namespace) -> None:
    from agents.config import load
    from agents.sb3 import train

    config = load(arguments.config)
    changes = {
        name: value
        for name, value in (
            ("seed", arguments.seed),
            ("total_steps", arguments.steps),
            ("time_limit_s", arguments.seconds),
        )
        if value is not None
    }
    config = config.replace(**changes)
    plan = json.loads(Path(arguments.plan).read_text(encoding="utf-8"))["plan_kwh"] if arguments.plan else None
    out = Path(arguments.out or f"results/agents/{Path(arguments.config).stem}-{config.hash[:12]}-{config.seed}")
    result = train(config, out, plan_kwh=plan)
    print(f"bundle: {result.bundle}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from agents.bundle import load_bundle
    from v2g_env.registration import ENVIRONMENTS

    path = Path(arguments.bundle)
    env_id = load_bundle(path).env_id
    problem = next(entry.problem for entry in ENVIRONMENTS if entry.id == env_id)
    module = importlib.import_module(f"agents.{problem}")
    days = module.DEFAULT_DAYS if arguments.days is None else arguments.days
    for line in module.evaluate_bundle(path, arguments.law, days, arguments.seed, arguments.beta):
        print(line)


_EXPLAINED = {
    "parking_lot": "gap: distance to the best trajectories that see the future, in % of what these earn;\n"
    "violated: days on which energy fixed at the gate could not be kept; limit: upper confidence limit of that;\n"
    "promised: certified beforehand (both with confidence 1 - {beta:g}); µs: time per decision.",
    "stackelberg": "$/day: above no rebates; gap: distance to the proven bound of each day, in % of it;\n"
    "violated: hours in which cars could not deliver the bid in full; limit: upper limit of their mean\n"
    "probability (confidence 1 - {beta:g}); promised: for every bid; µs: time per decision.",
}


def _compare(arguments: argparse.Namespace) -> None:
    from agents.compare_lines import agent_lines, table_lines
    from agents.report import write_report

    problem = arguments.problem.replace("-", "_")
    module = importlib.import_module(f"agents.{problem}")
    config = module.CompareConfig.from_file(arguments.config) if arguments.config else module.CompareConfig()
    out = Path(arguments.out or f"results/{arguments.problem}")
    comparison = module.run(config, out, _clock())
    page = write_report(comparison, out)
    for number, (test, results) in enumerate(zip(comparison.tests, comparison.results, strict=True)):
        print("\n" + "\n".join(table_lines(test, results) + agent_lines(comparison, number)))
    print("\n*: trained here. " + _EXPLAINED[problem].format(beta=config.beta))
    print(f"\nreport: {page}\ncheck:  v2g check {out}/certificates/*.json")


def _study(arguments: argparse.Namespace) -> None:
    problem = arguments.problem.replace("-", "_")
    module = importlib.import_module(f"agents.{problem}_study")
    config = module.StudyConfig.quick() if arguments.quick else module.StudyConfig()
    out = Path(arguments.out or f"results/study-{arguments.problem}")
    for section in module.run_study(out, _instance(arguments.instance, problem), config, _clock()):
        print(f"\n{section.title}")
        _print_rows(section.rows)
    print(f"\nreport: {out / 'report.html'}")


def _bench(arguments: argparse.Namespace) -> None:
    from agents.bench import run_bench

    for line in run_bench(arguments.part, arguments.scip):
        print(line, flush=True)


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    cells = [list(rows[0])] + [[text(value) for value in row.values()] for row in rows]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    for line in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="v2g", description="Vehicle-to-grid environments measured against certified optima."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    command("envs", _envs, "list the environments")
    problems = command("solve", None, "solve a problem and certify the answer").add_subparsers(
        required=True, metavar="PROBLEM", dest="problem"
    )
    solve = problems.add_parser("parking-lot", help="a scenario program", description="Solve a scenario program.")
    solve.set_defaults(action=_solve)
    solve.add_argument("--instance", help="TOML or JSON file with fields of the instance")
    solve.add_argument("--samples", type=int, default=2000, help="number N of sampled days (default 2000)")
    solve.add_argument("--seed", type=int, default=1)
    solve.add_argument("--law", default="generator", help="generator, days:<day set>, smoothed (default generator)")
    solve.add_argument("--beta", type=float, default=1e-5, help="confidence parameter (default 1e-5)")
    solve.add_argument("--rho", type=float, help="price of violation [$]: relaxed program (default: robust)")
    solve.add_argument("--radius", type=float, default=0.0, help="adversarial radius [chargers]")
    solve.add_argument("--distance", type=float, help="Wasserstein distance of another law [chargers]")
    solve.add_argument("--quota", default="executable", choices=["executable", "full"])
    solve.add_argument("--out", help="write the certificate here")
    day = problems.add_parser("stackelberg", help="a day's game", description="Solve the game of a day exactly.")
    day.set_defaults(action=_solve_stackelberg)
    day.add_argument("--instance", help="TOML or JSON file with fields of the instance")
    day.add_argument("--price", help="file with 24 prices or one per period [$/kW per hour] (default: the instance's)")
    day.add_argument("--weekend", action="store_true", help="drivers as at the weekend")
    day.add_argument("--plugged", type=float, help="plugged share of the day (default: the instance's)")
    day.add_argument("--gap", type=float, default=1e-4, help="wanted proven gap (default 1e-4)")
    day.add_argument("--seconds", type=float, default=60.0, help="time limit [s] (default 60)")
    day.add_argument("--out", help="write the certificate here")
    check = command("check", _check, "check certificates; exit status 1 if one is refused")
    check.add_argument("files", nargs="+", metavar="FILE")
    check.add_argument("--instance", help="TOML or JSON file of the instance that they must belong to")
    train = command("train", _train, "train an agent from a TOML configuration")
    train.add_argument("config", help="TOML file or name of a shipped configuration (parking_lot_ppo, ...)")
    train.add_argument("--seed", type=int)
    train.add_argument("--steps", type=int, help="total steps")
    train.add_argument("--seconds", type=float, help="time limit [s]")
    train.add_argument("--plan", help="certificate whose plan the environment shows")
    train.add_argument("--out", help="folder of logs, checkpoints and the bundle")
    evaluate = command("evaluate", _evaluate, "evaluate a trained bundle on fresh days")
    evaluate.add_argument("bundle", help="folder of the bundle")
    evaluate.add_argument("--law", default="generator")
    evaluate.add_argument("--days", type=int, help="days (default: 2000; whole months, 300, for the Stackelberg game)")
    evaluate.add_argument("--seed", type=int, default=3)
    evaluate.add_argument("--beta", type=float, default=1e-5)
    compare = command("compare", _compare, "compare certified answers, heuristics and agents on the same days")
    compare.add_argument("problem", choices=_PROBLEMS)
    compare.add_argument("--config", help="TOML file with fields of the comparison")
    compare.add_argument("--out", help="results folder (default results/PROBLEM)")
    study = command("study", _study, "what certificates promise and what is observed; published tables beside ours")
    study.add_argument("problem", choices=_PROBLEMS)
    study.add_argument("--instance", help="TOML or JSON file with fields of the instance")
    study.add_argument("--quick", action="store_true", help="small sizes, a minute")
    study.add_argument("--out", help="results folder (default results/study-PROBLEM)")
    bench = command("bench", _bench, "measure speed: environments, programs, bounds")
    bench.add_argument("part", nargs="?", default="all", choices=["all", "env", "programs", "risk", "stackelberg"])
    bench.add_argument("--scip", type=float, default=0.0, help="also let SCIP try the game for this long [s]")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; errors of the user's making become one line and exit status 2."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.action(parsed)
    except BrokenPipeError:  # the reader of the output has seen enough
        raise SystemExit(0) from None
    except (InvalidInputError, CertificateError, BundleError, OSError) as error:
        print(f"v2g: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("v2g: interrupted; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
