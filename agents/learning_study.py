"""The study of certified learning: what shields promise and cost, whether it holds, and what prior knowledge buys."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.learning_answers import StudyConfig, World
from agents.learning_curve_sections import curves
from agents.learning_lot_sections import LotStudy
from agents.learning_network_sections import network
from agents.learning_promise_sections import promises
from agents.report import Section, write_study_report
from baselines.certificate import write_text
from v2g_env.core.validate import require

__all__ = ["StudyConfig", "finite", "run_study", "write_rows"]

_TITLE = "Certified learning: agents behind shields, and what they know beforehand"
_LEAD = (
    "Trained agents earn more than plans and promise nothing. A shield moves their actions into a set whose violation "
    "probability was certified on days drawn before; this report sets its promises beside what was observed, and its "
    "price beside what was earned. The tables are also there as CSV files and, all of them, in `study.json`. Seconds "
    "depend on the machine. "
)


def run_study(
    out: Path,
    instance: None = None,
    config: StudyConfig | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Section]:
    """Run all sections; each leaves a CSV file under ``out`` as soon as it is done, the report comes last.

    Args:
        out: folder of ``report.html``, ``study.json``, the CSV files, the figures, the certificates for any agent and
            the agents that had to be trained; a second run takes these from there.
        instance: None: agents belong to the default lot and network.
        config: sizes; None: less than eight minutes on two cores where trained models came with the package.
        say: called with a line of text before every part.

    Returns:
        The sections, in the order of the report.

    Raises:
        InvalidInputError: for an instance.
    """
    require(instance is None, "instance", instance, "none: the agents belong to the default lot and network")
    world = World(config or StudyConfig(), Path(out), say)
    parts: Sequence[tuple[str, Callable[[LotStudy], Section | list[Section]]]] = (
        ("parking lot", lambda lot: lot.tradeoff()),
        ("other laws", lambda lot: lot.shift()),
        ("scheduling", lambda lot: network(world)),
        ("promises", lambda lot: promises(world)),
        ("learning curves", lambda lot: curves(world)),
    )
    lot = LotStudy(world)
    sections: list[Section] = []
    data: dict[str, Any] = {}
    for name, make in parts:
        say(f"study: {name}")
        made = make(lot)
        for each in made if isinstance(made, list) else [made]:
            sections.append(each)
            data[each.slug] = {"title": each.title, "text": each.text, "rows": [finite(row) for row in each.rows]}
            write_rows(world.out / f"{each.slug}.csv", each.rows)
    write_text(world.out / "study.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    write_study_report(sections, world.out, _TITLE, _LEAD + _origin(world))
    return sections


def _origin(world: World) -> str:
    """Where the agents came from."""
    own = world.trained_here
    if not own:
        return "All agents are those that come with the package."
    return f"Trained for this report, because no model of theirs came with the package: {', '.join(own)}."


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with null for numbers that JSON does not have (limits from a single seed)."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV, whole or not at all."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
