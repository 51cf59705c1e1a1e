"""The command ``v2g leaderboard``: score submissions on the fixed scenario sets, or check a leaderboard."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from v2g_env.core.validate import require

if TYPE_CHECKING:
    from agents.leaderboard import Submissions

__all__ = ["add_leaderboard", "leaderboard_command"]


def add_leaderboard(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``v2g leaderboard`` to its parser."""
    parser.add_argument(
        "--env",
        action="append",
        metavar="ID",
        help="environment to score, several times for several (default: those of the bundles, else all)",
    )
    parser.add_argument("--bundle", action="append", default=[], metavar="DIR", help="trained bundle; several times")
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="Python function model -> policy, also FILE.py:FUNCTION, for the one --env; its code is executed with all "
        "your rights; several times",
    )
    parser.add_argument(
        "--penalty",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON file of a frozen penalty, for the one --env: a bound on every policy; several times",
    )
    parser.add_argument("--out", default="results/leaderboard", help="folder (default results/leaderboard)")
    parser.add_argument(
        "--check", metavar="FOLDER", help="recompute the leaderboard of a folder instead; no solver runs"
    )
    parser.set_defaults(action=leaderboard_command)


def leaderboard_command(arguments: argparse.Namespace) -> None:
    """Score and print the table, or check a leaderboard and print what holds.

    Raises:
        InvalidInputError: for wrong arguments or submissions.
        CertificateError: for a leaderboard that does not hold.
        BundleError: for a damaged bundle.
    """
    if arguments.check is not None:
        _check(arguments)
        return
    from agents.cli_solve import clock
    from agents.leaderboard import update

    new = _submissions(arguments.env, arguments.bundle, arguments.policy, arguments.penalty)
    env_ids = arguments.env or list(new) or None
    update(arguments.out, new, env_ids, say=clock())
    print((Path(arguments.out) / "leaderboard.md").read_text(encoding="utf-8"))
    print(f"check:  v2g leaderboard --check {arguments.out}")


def _check(arguments: argparse.Namespace) -> None:
    from agents.leaderboard_check import check_leaderboard

    given = arguments.bundle + arguments.policy + arguments.penalty
    require(not given, "submission", given, "none beside --check")
    report = check_leaderboard(arguments.check)
    print(f"holds   {arguments.check}")
    for claim in report.claims:
        print(f"        {claim}")


def _submissions(
    env_ids: Sequence[str] | None, bundles: Sequence[str], policies: Sequence[str], penalties: Sequence[str]
) -> dict[str, Submissions]:
    """New submissions by environment: bundles name theirs, everything else belongs to the one that was given."""
    from agents.leaderboard import Submissions
    from agents.leaderboard_submissions import bundle_entry, penalty_entry, policy_entry

    trained = [bundle_entry(path) for path in bundles]
    if policies or penalties:
        require(
            env_ids is not None and len(set(env_ids)) == 1, "--env", env_ids, "exactly one with --policy, --penalty"
        )
    only = env_ids[0] if env_ids and (policies or penalties) else None
    found = {}
    for env_id in dict.fromkeys([*(entry.env_id for entry in trained), *([only] if only else [])]):
        mine = only == env_id
        found[env_id] = Submissions(
            [entry for entry in trained if entry.env_id == env_id],
            [policy_entry(text) for text in policies] if mine else (),
            [penalty_entry(path) for path in penalties] if mine else (),
        )
    return found
