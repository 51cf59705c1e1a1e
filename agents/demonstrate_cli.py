"""The command ``v2g demonstrate``: a teacher's episodes as a Minari data set."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from v2g_env.core.validate import require

__all__ = ["add_demonstrate", "demonstrate_command"]


def add_demonstrate(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("config", help="TOML file or name of a shipped configuration: environment, law, [imitation]")
    parser.add_argument("--out", required=True, help="folder of the data sets (Minari's MINARI_DATASETS_PATH)")
    parser.add_argument("--name", help="of the data set (default v2g/ENVIRONMENT/TEACHER-v0)")
    parser.add_argument("--teacher", help="its name (default: that of the configuration)")
    parser.add_argument("--episodes", type=int, help="number (default: that of the configuration)")
    parser.add_argument("--seed", type=int, help="of the episodes (default: that of the configuration)")
    parser.set_defaults(action=demonstrate_command)


def demonstrate_command(arguments: argparse.Namespace) -> None:
    """Let the teacher play, write what it did, and say what it earned."""
    from agents.compare import slug
    from agents.config import load
    from agents.imitation import demonstrate
    from agents.minari_data import to_minari
    from agents.teachers import Imitation, check_teacher

    config = load(arguments.config)
    found = config.imitation
    given = arguments.teacher is not None or found is not None
    require(given, "teacher", None, "--teacher NAME, or a configuration with [imitation]")
    if found is None or arguments.teacher not in (None, found.teacher):  # parameters of another teacher do not apply
        found = Imitation(teacher=arguments.teacher)
    changes = {key: getattr(arguments, key) for key in ("episodes", "seed") if getattr(arguments, key) is not None}
    imitation = replace(found, **changes)
    check_teacher(config.env.id, imitation.teacher, imitation.parameters)
    shown = demonstrate(config, imitation)
    default = f"v2g/{slug(config.env.id.removeprefix('V2G/').rpartition('-')[0])}/{slug(imitation.teacher)}-v0"
    path = to_minari(shown, config, arguments.name or default, arguments.out, imitation.teacher)
    returns = shown.rewards.sum(axis=1)
    error = float(returns.std(ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else float("nan")
    print(f"data set: {path}")
    print(f"{len(returns)} episodes of {imitation.teacher}: {returns.mean():.2f} $ each (standard error {error:.2f})")
