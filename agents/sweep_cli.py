"""The command ``v2g sweep``: train and evaluate many configurations and seeds, here or on a cluster."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["add_sweep", "sweep_command"]


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``v2g sweep`` to its parser."""
    parser.add_argument("file", metavar="FILE", help="TOML file of the sweep: seeds, [[train]] and [[evaluate]]")
    parser.add_argument("--backend", default="processes", choices=["serial", "processes", "ray"])
    parser.add_argument("--workers", type=int, help="tasks at a time (default: one per processor)")
    parser.add_argument("--address", help="ray: cluster to join, as host:6379 or auto (default: this machine)")
    parser.add_argument("--retries", type=int, default=2, help="further attempts when a worker dies (default 2)")
    parser.add_argument("--out", help="results folder (default results/sweep-FILE); the same sweep goes on there")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on in a folder of another sweep, say with fewer seeds; keeps all results",
    )
    parser.set_defaults(action=sweep_command)


def sweep_command(arguments: argparse.Namespace) -> None:
    """Run the sweep and print its table; exit status 1 if a task came to nothing.

    Raises:
        InvalidInputError: for a wrong file or option, or a folder that belongs to something else.
    """
    from agents.executor import TaskError, require_done, run
    from agents.sweep import load_sweep
    from agents.sweep_table import intact, tabulate

    sweep = load_sweep(arguments.file)
    out = Path(arguments.out or f"results/sweep-{Path(arguments.file).stem}")
    outcomes = run(
        [task for _, _, task in sweep.runs()],
        out,
        arguments.backend,
        arguments.workers,
        retries=arguments.retries,
        resume=arguments.resume,
        address=arguments.address,
        intact=intact,
        say=print,
        progress=True,
    )
    for line in summary_lines(tabulate(sweep, outcomes, out)):
        print(line)
    print(f"\ntable: {out / 'results.csv'}")
    try:
        require_done(outcomes)
    except TaskError as error:
        raise SystemExit(f"v2g: {error}") from None


def summary_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean over seeds of every configuration and set, and the smallest and largest of them [$]."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        groups[row["config"], row["set"]].append(row["mean_return_usd"])
    if not groups:
        return []
    titles = ("config", "set")
    wide = [max(len(key[k]) for key in [titles, *groups]) for k in range(2)]
    lines = [f"{titles[0]:{wide[0]}s}  {titles[1]:{wide[1]}s}  seeds    mean $  lowest $  highest $"]
    for (config, name), values in groups.items():
        mean = sum(values) / len(values)
        shown = f"{len(values):5d}  {mean:8.2f}  {min(values):8.2f}  {max(values):9.2f}"
        lines.append(f"{config:{wide[0]}s}  {name:{wide[1]}s}  {shown}")
    return lines
