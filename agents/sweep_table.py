"""What a sweep came to: whether its files are intact, and its table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agents.config import TrainConfig
from agents.executor import Outcome
from agents.sweep import BUNDLE, ScenarioSet, Sweep, returns_name, sha256
from baselines.certificate import write_text
from v2g_env.core.validate import require

__all__ = ["intact", "tabulate"]


def intact(outcome: Outcome) -> bool:
    """Whether a task's bundle and returns are where its result says, undamaged."""
    from agents.bundle import BundleError, bundle_hash

    try:
        value = outcome.value
        stored = [(outcome.folder / returns_name(place)).read_bytes() for place in range(len(value["sets"]))]
        fits = [sha256(content) == each["returns_sha256"] for content, each in zip(stored, value["sets"], strict=True)]
        return all(fits) and bundle_hash(outcome.folder / BUNDLE) == value["bundle_sha256"]
    except (BundleError, OSError, KeyError):
        return False


def tabulate(sweep: Sweep, outcomes: Sequence[Outcome], folder: str | Path) -> list[dict[str, Any]]:
    """Write results.csv and results.json, and return the rows: one per configuration, seed and set.

    All columns but "seconds" (of training) are the same whatever the backend. Tasks that came to nothing have no rows;
    results.json names them under "unfinished".

    Args:
        sweep: the sweep.
        outcomes: of its tasks, in the order of ``Sweep.runs``.
        folder: of the results.
    """
    rows: list[dict[str, Any]] = []
    unfinished = []
    for (name, seed, task), outcome in zip(sweep.runs(), outcomes, strict=True):
        require(task == outcome.task, "task of the outcome", outcome.task.title, task.title)
        if outcome.status != "done":
            unfinished.append({"config": name, "seed": seed, "status": outcome.status, "error": outcome.error})
            continue
        rows.extend(_rows(name, sweep.training[name], seed, sweep.sets, outcome))
    target = Path(folder)
    content = {"rows": rows, "unfinished": unfinished}
    write_text(target / "results.json", json.dumps(content, indent=1, allow_nan=False))
    if rows:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(target / "results.csv", stream.getvalue())
    return rows


def _rows(
    name: str, config: TrainConfig, seed: int, sets: Sequence[ScenarioSet], outcome: Outcome
) -> Iterator[dict[str, Any]]:
    value = outcome.value
    run = json.loads((outcome.folder / "train" / "run.json").read_text(encoding="utf-8"))
    for place, (each, result) in enumerate(zip(sets, value["sets"], strict=True)):
        yield {
            "config": name,
            "seed": seed,
            "set": each.name,
            "env_id": config.env.id,
            "algorithm": config.algorithm,
            "law": each.law or config.env.law,
            "periods": each.periods,
            "set_seed": each.seed,
            "mean_return_usd": result["mean_return_usd"],
            "returns": f"{outcome.task.key}/{returns_name(place)}",
            "steps": value["steps"],
            "seconds": run["result"]["seconds"],
            "bundle": f"{outcome.task.key}/{BUNDLE.as_posix()}",
            "bundle_sha256": value["bundle_sha256"],
            "config_sha256": config.hash,
        }
