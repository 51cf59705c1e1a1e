"""Studies of the scheduling network: published figures beside ours, what protection costs, and whether it holds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents import scheduling_car_sections as cars
from agents import scheduling_chain_sections as chain
from agents import scheduling_feeder_sections as feeder
from agents import scheduling_sections as linear
from agents.report import Section, write_study_report
from agents.scheduling_agreement_sections import agreement
from agents.scheduling_answers import SOURCE, StudyConfig, World
from baselines.certificate import write_text
from v2g_env.scheduling.instance import Instance

__all__ = ["StudyConfig", "run_study"]

_TITLE = "Robust scheduling of a V2G network: what it saves, what it costs, what it promises"
_LEAD = (
    "One gas generator, four wind turbines, six aggregators and a hundred cars. Published numbers are those of "
    f"{SOURCE}, whose plant and load data were not published: network, loads, wind and cars are this project's own, so "
    "shapes can be compared and single numbers only roughly. Every number comes from this run and depends on the seed; "
    "solution times depend on the machine. The tables are also there as CSV files and, all of them, in `study.json`."
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
        instance: the network; None: the defaults.
        config: sizes; None: two to three minutes on two cores.
        say: called with a line of text before every part.

    Returns:
        The sections, in the order of the report.
    """
    out, config = Path(out), config or StudyConfig()
    world = World(instance or Instance(), config)
    parts: Sequence[tuple[str, Callable[[], Section | list[Section]]]] = (
        ("supply", lambda: linear.supply(world)),
        ("objectives", lambda: linear.objectives(world)),
        ("alpha", lambda: linear.alpha_table(world)),
        ("sets", lambda: linear.sets(world)),
        ("profiles", lambda: cars.profiles(world)),
        ("cars", lambda: cars.cautious(world)),
        ("adjustable", lambda: linear.adjustable(world)),
        ("agreement", lambda: agreement(world)),
        ("voltages", lambda: feeder.voltages(world)),
        ("robust dispatch", lambda: feeder.robust_dispatch(world)),
        ("chains", lambda: chain.worst_chains(world)),
        ("histories", lambda: chain.short_histories(world)),
    )
    sections: list[Section] = []
    data: dict[str, Any] = {}
    for name, make in parts:
        say(f"study: {name}")
        made = make()
        for each in made if isinstance(made, list) else [made]:
            sections.append(each)
            data[each.slug] = {"title": each.title, "text": each.text, "rows": list(each.rows)}
            if each.rows:
                _write_rows(out / f"{each.slug}.csv", each.rows)
    write_text(out / "study.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    write_study_report(sections, out, _TITLE, _LEAD)
    return sections


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
