"""The command ``v2g``: solving, checking, training, evaluating, comparing, studying, measuring."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.bundle_files import BundleError
from agents.cli_solve import add_solve, clock, instance_of
from agents.demonstrate_cli import add_demonstrate
from agents.game_cli import add_game
from agents.protocol_cli import add_leaderboard, leaderboard_command
from agents.sweep_cli import add_sweep
from agents.tune_cli import add_tune
from baselines.certificate import CertificateError
from baselines.solve import SolverError
from v2g_env.core.validate import InvalidInputError, require

__all__ = ["main"]

_PROBLEMS = ("parking-lot", "stackelberg", "shared-battery", "scheduling")
_COMPARED = (*_PROBLEMS, "price-chain", "shared-battery-sizing")


def _envs(_: argparse.Namespace) -> None:
    from v2g_env.registration import ENVIRONMENTS, PARALLEL

    for entry in ENVIRONMENTS:
        print(f"{entry.id:38s} {entry.problem}")
    for game in PARALLEL:
        print(f"{game.name:38s} {game.model.split('.')[1]}, several parties (PettingZoo)")


def _check(arguments: argparse.Namespace) -> None:
    from agents.models import bundle_folder, check_folder
    from baselines.certificate import PROBLEMS, check, load

    refused = 0
    for path in arguments.files:
        try:
            folder = bundle_folder(path)
            if folder is not None:
                claims = check_folder(folder)
                print(f"holds   {path}")
                for claim in claims:
                    print(f"        {claim}")
                continue
            certificate = load(path)
            owner = None
            if arguments.instance is not None and certificate.get("problem") in PROBLEMS:
                owner = instance_of(arguments.instance, certificate["problem"], certificate.get("kind"))
            report = check(certificate, owner)
        except (CertificateError, BundleError) as error:
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
    if result.reason == "diverged":
        raise InvalidInputError(f"training diverged: {result.message}; the bundle is the last healthy checkpoint")


def _evaluate(arguments: argparse.Namespace) -> None:
    from agents.boards import evaluate_bundle
    from agents.bundle_certificate import CERTIFICATE, certify_bundle
    from agents.models import model_path, models

    path = model_path(arguments.bundle) if arguments.bundle in models() else Path(arguments.bundle)
    chosen = (arguments.law, arguments.days, arguments.seed, arguments.beta)
    for line in evaluate_bundle(path, *chosen):
        print(line)
    if arguments.certify:
        for claim in certify_bundle(path, *chosen):
            print(f"          {claim}")
        print(f"certificate: {path / CERTIFICATE}")


def _models(arguments: argparse.Namespace) -> None:
    from agents.models import MODELS, model_lines, rebuild

    for name in arguments.rebuild or ():
        for one in MODELS if name == "all" else (name,):
            keep = None if arguments.keep is None else Path(arguments.keep)
            print(f"model: {rebuild(one, Path(arguments.out), keep, clock())}")
    if not arguments.rebuild:
        for line in model_lines():
            print(line)


_GAP = "gap: certified distance to the proven bound, mean of bound - (return - z), z the days' luck, in % of it"
_EXPLAINED = {
    "parking_lot": f"{_GAP};\n"
    "violated: days on which energy fixed at the gate could not be kept; limit: upper confidence limit of that;\n"
    "promised: certified beforehand (both with confidence 1 - {beta:g}); µs: time per decision.",
    "stackelberg": f"$/day: above no rebates; {_GAP};\n"
    "violated: hours in which cars could not deliver the bid in full; limit: upper limit of their mean\n"
    "probability (confidence 1 - {beta:g}); promised: for every bid; µs: time per decision.",
    "shared_battery": f"{_GAP};\n"
    "violated: visits of a driver that end with his request refused; limit: upper limit of their mean\n"
    "probability (confidence 1 - {beta:g}); µs: time per decision.",
    "scheduling": f"$/day: saved against a day without V2G that is known; {_GAP};\n"
    "violated: steps with missing energy or an overloaded line; limit:\n"
    "upper limit of their mean probability (confidence 1 - {beta:g}); µs: time per decision.",
    "price_chain": "gap: distance to the exact optimum of the chain, in % of it; violated: days that end with less\n"
    "than the target stored; limit: upper limit of their probability (confidence 1 - {beta:g}); µs: time per decision.",
    "shared_battery_sizing": "$/season: saved against separate batteries; gap: distance to the proven bound in %;\n"
    "violated: days on which the drivers' shortfalls exceeded the shared battery; limit: upper limit of\n"
    "that; promised: certified beforehand (both with confidence 1 - {beta:g}); µs: time per decision.",
}


def _compare(arguments: argparse.Namespace) -> None:
    require(arguments.all != (arguments.problem is not None), "problem", arguments.problem, "a problem, or --all")
    require(not (arguments.quick and arguments.config), "--config", arguments.config, "none with --quick")
    require(not (arguments.all and arguments.config), "--config", arguments.config, "none with --all")
    for i, problem in enumerate(_COMPARED if arguments.all else (arguments.problem,)):
        if i:
            print()
        folder = Path(arguments.out or "results")
        _compare_one(problem, arguments, folder / problem if arguments.all or not arguments.out else folder)


def _compare_one(name: str, arguments: argparse.Namespace, out: Path) -> None:
    from agents.compare_lines import agent_lines, ladder_lines, table_lines
    from agents.report import write_report

    problem = name.replace("-", "_")
    module = importlib.import_module(f"agents.{problem}")
    if arguments.quick:
        out = out.with_name(f"{out.name}-quick")
        config = module.CompareConfig.quick()
    else:
        config = module.CompareConfig.from_file(arguments.config) if arguments.config else module.CompareConfig()
    comparison = module.run(config, out, clock())
    page = write_report(comparison, out)
    for number, (test, results) in enumerate(zip(comparison.tests, comparison.results, strict=True)):
        print("\n" + "\n".join(table_lines(test, results) + agent_lines(comparison, number)))
        print("\n".join(ladder_lines(test, results)))
    print("\n*: trained here. " + _EXPLAINED[problem].format(beta=config.beta))
    print(f"\nreport: {page}\ncheck:  v2g check {out}/certificates/*.json")


def _study(arguments: argparse.Namespace) -> None:
    problem = arguments.problem.replace("-", "_")
    module = importlib.import_module(f"agents.{problem}_study")
    config = module.StudyConfig.quick() if arguments.quick else module.StudyConfig()
    if arguments.log is not None:
        require(problem == "shared_battery", "--log", arguments.log, "none but for shared-battery")
        config = replace(config, log=arguments.log, log_kind=arguments.log_kind)
    out = Path(arguments.out or f"results/study-{arguments.problem}")
    if problem in ("learning", "games"):
        require(arguments.instance is None, "--instance", arguments.instance, f"none for {problem}")
        lot = None
    else:
        lot = instance_of(arguments.instance, problem)
    for section in module.run_study(out, lot, config, clock()):
        if section.rows:
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
    add_solve(command("solve", None, "solve a problem and certify the answer"))
    check = command("check", _check, "check certificates; exit status 1 if one is refused")
    check.add_argument("files", nargs="+", metavar="FILE", help="a certificate, a bundle's folder, or a model's name")
    check.add_argument("--instance", help="TOML or JSON file of the instance that they must belong to")
    train = command("train", _train, "train an agent from a TOML configuration")
    train.add_argument("config", help="TOML file or name of a shipped configuration (parking_lot_ppo, ...)")
    train.add_argument("--seed", type=int)
    train.add_argument("--steps", type=int, help="total steps")
    train.add_argument("--seconds", type=float, help="time limit [s]")
    train.add_argument("--plan", help="certificate whose plan the environment shows")
    train.add_argument("--out", help="folder of logs, checkpoints and the bundle")
    evaluate = command("evaluate", _evaluate, "evaluate a trained bundle on fresh days")
    evaluate.add_argument("bundle", help="folder of the bundle, or a model's name")
    evaluate.add_argument("--law", default="generator")
    evaluate.add_argument(
        "--days",
        type=int,
        help="days (default: 2000; whole months, 300, for the Stackelberg game;\n"
        "weeks or seasons, 200, for the shared battery)",
    )
    evaluate.add_argument("--seed", type=int, default=3)
    evaluate.add_argument("--beta", type=float, default=1e-5)
    evaluate.add_argument("--certify", action="store_true", help="write certificate.json into the bundle")
    trained = command("models", _models, "list the trained policies that come with the package, or make them again")
    trained.add_argument("--rebuild", nargs="+", metavar="NAME", help="train and certify these; all: every one")
    trained.add_argument("--out", default="results/models", help="folder of the trainings (default results/models)")
    trained.add_argument("--keep", help="put the finished models' files here")
    compare = command("compare", _compare, "compare certified answers, heuristics and agents on the same days")
    compare.add_argument("problem", nargs="?", choices=_COMPARED)
    compare.add_argument("--all", action="store_true", help="all problems, one after the other")
    compare.add_argument("--quick", action="store_true", help="small sizes for a first look")
    compare.add_argument("--config", help="TOML file with fields of the comparison")
    compare.add_argument("--out", help="results folder (default results/PROBLEM; with --all one folder for each below)")
    study = command("study", _study, "what certificates promise and what is observed; published tables beside ours")
    study.add_argument("problem", choices=(*_PROBLEMS, "learning", "games"))
    study.add_argument("--instance", help="TOML or JSON file with fields of the instance")
    study.add_argument("--quick", action="store_true", help="small sizes, a minute")
    study.add_argument("--log", help="shared-battery: file with recorded trips or charging sessions of many days")
    kinds = ["trips", "charging", "norwegian"]
    study.add_argument("--log-kind", default="charging", choices=kinds, help="of the log (default charging)")
    study.add_argument("--out", help="results folder (default results/study-PROBLEM)")
    add_game(command("game", None, "coalitions, equilibria, lies: who gets what, who leaves, who gains"))
    add_tune(command("tune", None, "search hyperparameters of a configuration with Optuna"))
    add_demonstrate(command("demonstrate", None, "write a teacher's episodes as a Minari data set"))
    add_sweep(command("sweep", None, "train and evaluate configurations x seeds, here or on a Ray cluster"))
    add_leaderboard(command("leaderboard", leaderboard_command, "score policies and bounds on fixed scenario sets"))
    bench = command("bench", _bench, "measure speed: environments, programs, bounds")
    parts = [
        "all",
        "env",
        "programs",
        "risk",
        "stackelberg",
        "shared-battery",
        "scheduling",
        "price-chain",
        "train",
        "executor",
    ]
    bench.add_argument("part", nargs="?", default="all", choices=parts)
    bench.add_argument("--scip", type=float, default=0.0, help="also let SCIP try the game for this long [s]")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; errors of the user's making become one line and exit status 2."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.action(parsed)
    except BrokenPipeError:  # the reader of the output has seen enough
        raise SystemExit(0) from None
    except (InvalidInputError, CertificateError, BundleError, SolverError, OSError) as error:
        print(f"v2g: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("v2g: interrupted; what was finished is kept", file=sys.stderr)
        raise SystemExit(130) from None
