"""The command ``v2g``: envs, solve, check, train, evaluate, compare, study, bench."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.bundle_files import BundleError
from baselines.certificate import CertificateError
from v2g_env.core.validate import InvalidInputError

__all__ = ["main"]


def _envs(_: argparse.Namespace) -> None:
    from v2g_env.registration import ENVIRONMENTS

    for entry in ENVIRONMENTS:
        print(f"{entry.id:26s} {entry.problem}")


def _instance(path: str | None) -> Any:
    from v2g_env.parking_lot.instance import Instance

    return Instance() if path is None else Instance.from_file(path)


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


def _check(arguments: argparse.Namespace) -> None:
    from baselines.certificate import check, load

    lot = None if arguments.instance is None else _instance(arguments.instance)
    refused = 0
    for path in arguments.files:
        try:
            report = check(load(path), lot)
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
    from agents.parking_lot import evaluate_bundle

    for line in evaluate_bundle(Path(arguments.bundle), arguments.law, arguments.days, arguments.seed, arguments.beta):
        print(line)


def _compare(arguments: argparse.Namespace) -> None:
    from agents.compare import table_lines
    from agents.parking_lot import CompareConfig, agent_lines, run
    from agents.report import write_report

    config = CompareConfig.from_file(arguments.config) if arguments.config else CompareConfig()
    out = Path(arguments.out)
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:5.0f} s] {text}", flush=True)

    comparison = run(config, out, say)
    page = write_report(comparison, out)
    for test, results in zip(comparison.tests, comparison.results, strict=True):
        print("\n" + "\n".join(table_lines(results, test.bound) + agent_lines(test, results)))
    print(
        "\n*: trained here. gap: distance to the best trajectories that see the future, in % of what these earn;\n"
        "violated: days on which energy fixed at the gate could not be kept; limit: upper confidence limit of that;\n"
        f"promised: certified beforehand (both with confidence 1 - {config.beta:g}); µs: time per decision."
    )
    print(f"\nreport: {page}\ncheck:  v2g check {out}/certificates/*.json")


def _study(arguments: argparse.Namespace) -> None:
    from agents.parking_lot_study import StudyConfig, run_study

    config = StudyConfig(fresh=5000, repetitions=20, days=200, transport=120) if arguments.quick else StudyConfig()
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:5.0f} s] {text}", flush=True)

    out = Path(arguments.out)
    for section in run_study(out, _instance(arguments.instance), config, say):
        print(f"\n{section.title}")
        _print_rows(section.rows)
    print(f"\nreport: {out / 'report.html'}")


def _bench(arguments: argparse.Namespace) -> None:
    from agents.bench import run_bench

    for line in run_bench(arguments.part):
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
    solve = command("solve", _solve, "solve a scenario program and certify its plan")
    solve.add_argument("problem", choices=["parking-lot"])
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
    evaluate.add_argument("--days", type=int, default=2000)
    evaluate.add_argument("--seed", type=int, default=3)
    evaluate.add_argument("--beta", type=float, default=1e-5)
    compare = command("compare", _compare, "compare certified plans, heuristics and agents on the same days")
    compare.add_argument("problem", choices=["parking-lot"])
    compare.add_argument("--config", help="TOML file with fields of the comparison")
    compare.add_argument("--out", default="results/parking-lot", help="results folder (default results/parking-lot)")
    study = command("study", _study, "certificates against observation: N, rho, R, shift, executability")
    study.add_argument("problem", choices=["parking-lot"])
    study.add_argument("--instance", help="TOML or JSON file with fields of the instance")
    study.add_argument("--quick", action="store_true", help="small sizes, a minute")
    study.add_argument("--out", default="results/study-parking-lot")
    bench = command("bench", _bench, "measure speed: environments, scenario programs, bounds")
    bench.add_argument("part", nargs="?", default="all", choices=["all", "env", "programs", "risk"])
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
