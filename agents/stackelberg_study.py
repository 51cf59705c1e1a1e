"""Studies of the Stackelberg game: certified answers beside published tables, extensions, and what bids promise."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.report import Section, write_study_report
from agents.stackelberg_answers import StudyConfig
from agents.stackelberg_extension_sections import Extensions
from agents.stackelberg_sections import Comparison
from baselines.certificate import write_text
from v2g_env.stackelberg.instance import Instance

__all__ = ["StudyConfig", "run_study"]

_TITLE = "Rebates for drivers, solved to proven gaps, beside published numbers"
_LEAD = (
    "Money is in $ per driver and month of 30 days; the gap is proven, seconds are wall time. Published numbers are "
    "those of Tang and Mak, Collaborative Vehicle-to-grid Operations in Frequency Regulation Markets (slides, Tsinghua "
    "University, 3 January 2024). Their market year, tolerated risk, rebate levels, utility scale and clusters are not "
    "given: ours are other data, calibrated to their base case, so shapes can be compared and single numbers only "
    "roughly. Rebates depend on sampled data by seed alone; solutions that end by their time limit depend on the "
    "machine. The tables are also there as CSV files and, all of them, in `study.json`."
)


def run_study(
    out: Path,
    instance: Instance | None = None,
    config: StudyConfig | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Section]:
    """Run all sections; each leaves a CSV file under ``out`` as soon as it is done, the report comes last.

    Args:
        out: folder of ``report.html``, ``study.json``, the CSV files and the figures.
        instance: data of the game; None: the defaults, which the published numbers belong to.
        config: sizes; None: a few minutes on two cores.
        say: called with a line of text before every section.

    Returns:
        The sections, in the order of the report.
    """
    out, config = Path(out), config or StudyConfig()
    comparison = Comparison(instance or Instance(), config)
    extensions = Extensions(comparison.base, config)
    parts: Sequence[tuple[str, Callable[[], Section]]] = (
        ("base-day", extensions.hourly),
        ("fleet", comparison.fleet),
        ("charger", comparison.charger),
        ("utility", comparison.utility),
        ("fit", comparison.fit),
        ("times", comparison.times),
        ("workplace", comparison.workplace),
        ("community", extensions.community),
        ("guarantee", extensions.guarantee),
        ("promise", extensions.promise),
        ("classes", extensions.classes),
        ("grids", extensions.grids),
        ("law", extensions.law),
    )
    sections: dict[str, Section] = {}
    for name, make in parts:
        say(f"study: {name}")
        sections[name] = make()
        _write_rows(out / f"{name}.csv", sections[name].rows)
    tables = {name: {"title": each.title, "text": each.text, "rows": each.rows} for name, each in sections.items()}
    write_text(out / "study.json", json.dumps(tables, indent=1, allow_nan=False) + "\n")
    write_study_report(list(sections.values()), out, _TITLE, _LEAD)
    return list(sections.values())


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
