"""The command ``v2g tune``: search the hyperparameters of a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_tune", "tune_command"]


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``v2g tune`` to its parser."""
    parser.add_argument("config", metavar="CONFIG", help="TOML file or name of a shipped configuration to start from")
    parser.add_argument("--trials", type=int, default=20, help="trials that the folder holds in the end (default 20)")
    parser.add_argument("--seconds", type=float, help="stop when these are over [s]; another call goes on")
    parser.add_argument("--steps", type=int, help="of every training (default: the configuration's)")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="training seeds of every trial (default 2)")
    parser.add_argument("--days", type=int, help="days, weeks or seasons that policies are judged on")
    parser.add_argument("--seed", type=int, default=0, help="of the proposals (default 0)")
    parser.add_argument("--out", help="folder (default results/tune-CONFIG); the same search goes on there")
    parser.set_defaults(action=tune_command)


def tune_command(arguments: argparse.Namespace) -> None:
    """Search and print the best trial beside the configuration that it started from.

    Raises:
        InvalidInputError: for a wrong configuration or option, another search's folder, Optuna missing, or no trial
            that was completed.
    """
    from agents.cli_solve import clock
    from agents.config import load
    from agents.tune import BEST, RESULTS, Tuning, tune
    from v2g_env.core.validate import number

    number("--seeds", arguments.seeds, 1, 1000, integer=True)
    seeds = tuple(range(100, 100 + arguments.seeds))
    tuning = Tuning(load(arguments.config), arguments.steps, seeds, arguments.days, arguments.seed)
    out = Path(arguments.out or f"results/tune-{Path(arguments.config).stem}")
    found = tune(tuning, out, arguments.trials, arguments.seconds, clock())
    first = found.trials[0]
    if first.value_usd is not None:
        print(f"as given  {first.value_usd:.4f} $")
    print(f"best      {found.best.value_usd:.4f} $, trial {found.best.number} of {len(found.trials)}")
    for name, value in found.best.point.items():
        print(f"          {name} = {value}")
    print(f"table: {out / RESULTS}\ntrain: v2g train {out / BEST}")
