"""Studies of the parking lot's certificates: what they promise, what is observed, what they cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.parking_lot_sections import Study, StudyConfig
from agents.report import Section, write_study_report
from baselines.certificate import write_text
from v2g_env.parking_lot.instance import Instance

__all__ = ["StudyConfig", "run_study"]


def run_study(
    out: Path,
    lot: Instance | None = None,
    config: StudyConfig | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Section]:
    """Run all sections; each leaves a CSV file under ``out`` as soon as it is done, the report comes last."""
    study = Study(lot or Instance(), config or StudyConfig())
    parts: Sequence[tuple[str, Callable[[], Section]]] = (
        ("samples", study.samples),
        ("real-days", study.real_days),
        ("relaxation", study.relaxation),
        ("radius", study.radius),
        ("shift", study.shift),
        ("repeated", study.repeated),
        ("executability", study.executability),
        ("gate", study.gate),
    )
    sections = []
    for name, make in parts:
        say(f"study: {name}")
        section = make()
        _write_rows(out / f"{name}.csv", section.rows)
        sections.append(section)
    write_study_report(sections, out)
    return sections


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
