"""The leaderboard as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agents.leaderboard_sets import BETA
from baselines.certificate import unpack

__all__ = ["table"]

Data = Mapping[str, Any]

_HEAD = f"""# Leaderboard

Fixed scenario sets, one per environment; policies from below, proven bounds from above. Money in $ per period.
*gap*: bound minus return (certified gap) in % of the mean bound, with its 95 % interval; *at most* its one-sided limit
(asymptotic: Student). *violated*: what the environment counts; *limit* of its probability. Every row's two limits hold
together with confidence 1 - beta of that row. The k-th submission to a set has beta = {BETA:g} x 6 / (pi^2 k^2), so all
submissions together stay below {BETA:g}; baselines were fixed beforehand, each of their rows has {BETA:g} for itself.
*promised*: limit certified beforehand. *us*: time of a decision on the machine that scored it. Recompute everything
from leaderboard.json, which holds every action, return and gap: `v2g leaderboard --check FOLDER`.
"""
_POLICY_COLUMNS = (
    "policy",
    "kind",
    "return",
    "95 %",
    "gap %",
    "95 %",
    "at most %",
    "violated",
    "limit",
    "promised",
    "us",
    "look",
    "beta",
    "hash",
)
_BOUND_COLUMNS = ("bound", "mean", "95 %", "at most", "best policy is below by", "look", "beta", "hash")


def table(content: Data) -> str:
    """The whole leaderboard as a Markdown document; ``content`` as in leaderboard.json."""
    return "\n".join([_HEAD, *(_set(each) for each in content["sets"])])


def _set(each: Data) -> str:
    rows, per = each["rows"], each["per"]
    size = f"{each['periods']} {per}s of {each['law']}, seed {each['seed']}, instance {each['instance_sha256']:.12}"
    lines = [f"## {each['env_id']}", "", f"{size}; $ per {per}; violations counted in {each['trial']}.", ""]
    lines += _grid(_POLICY_COLUMNS, [_policy(row) for row in rows])
    best = max(rows, key=lambda row: row["mean_usd"])
    official = unpack(each["bound_usd"])
    earned = unpack(best["returns_usd"])
    known = "certified" if each["bound_certificate"] is not None else "no certificate kept"
    above = [
        (f"{each['bound_name']} ({known})", _money(float(official.mean())), "", "", _money(best["gap_usd"]), "", "", "")
    ]
    means = [float(official.mean())]
    for row in each["penalties"]:
        bound = unpack(row["bound_usd"])
        means.append(row["mean_usd"])
        above.append(
            (
                _text(row["penalty"]),
                _money(row["mean_usd"]),
                _interval(row["low_usd"], row["high_usd"], 2),
                _money(row["limit_usd"]),
                _money(float((bound - earned).mean())),
                *_look(row),
            )
        )
    lines += ["", *_grid(_BOUND_COLUMNS, above), ""]
    lines.append(
        f"Best policy: {_text(best['policy'])}, {_money(best['mean_usd'])} $; lowest mean bound {_money(min(means))} $."
    )
    return "\n".join([*lines, ""])


def _policy(row: Data) -> tuple[str, ...]:
    return (
        _text(row["policy"]),
        row["kind"],
        _money(row["mean_usd"]),
        _interval(row["low_usd"], row["high_usd"], 2),
        _share(row["gap_percent"]),
        _interval(row["gap_low_percent"], row["gap_high_percent"], 1),
        _share(row["gap_limit_percent"]),
        f"{row['violated']:g} of {row['trials']}",
        f"{100.0 * row['limit']:.2f} %",
        "" if row["promised"] is None else f"{100.0 * row['promised']:.2f} %",
        f"{row['decision_us']:.1f}",
        *_look(row),
    )


def _look(row: Data) -> tuple[str, str, str]:
    look = "" if row["look"] is None else str(row["look"])
    return look, f"{row['beta']:.2g}", "" if row["sha256"] is None else f"{row['sha256']:.12}"


def _text(name: str) -> str:
    return "".join(" " if c.isspace() else f"\\{c}" if c in "|\\`*_<>[]" else c for c in name)


def _money(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


def _interval(low: float | None, high: float | None, digits: int) -> str:
    return "unknown" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *rows)]
