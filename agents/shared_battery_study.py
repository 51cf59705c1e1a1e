"""Studies of the shared battery: published figures beside ours, what sizes cost, and whether their promises hold."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.report import Section, write_study_report
from agents.shared_battery_answers import StudyConfig, World
from agents.shared_battery_log_sections import log_fleets, no_log, read_log_of, recorded, recorded_needs
from agents.shared_battery_promise_sections import Promises
from agents.shared_battery_published import SOURCE
from agents.shared_battery_reliability_sections import Reliability
from agents.shared_battery_sections import Reductions
from agents.shared_battery_size_sections import Sizes
from agents.shared_battery_variation_sections import Variations
from baselines.certificate import write_text
from v2g_env.shared_battery.instance import Instance

__all__ = ["StudyConfig", "run_study"]

_TITLE = "How much battery sharing saves, and what is promised"
_LEAD = (
    "Drivers have batteries of their own and share another; every driver wants to be served on a given share of days. "
    f"Published statements are those of {SOURCE}. Their needs are those of about 400 vehicles of the Puget Sound log, "
    "which is not available here; ours are drawn from a law fitted to national statistics of the United States (daily "
    "miles of 43,001 vehicle-days), so shapes can be compared and single numbers only roughly. Reliability is that of "
    "the worst driver; capacity is in kWh per driver, money in $ per season. Every number comes from this run and "
    "depends on the seed; solution times and speed depend on the machine. The tables are also there as CSV files "
    "and, all of them, in `study.json`."
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
        instance: parameters of the generator and prices; numbers of drivers and targets are the study's own, and so are
            prices where the text says equal. None: the defaults.
        config: sizes; None: five to eight minutes on two cores.
        say: called with a line of text before every section.

    Returns:
        The sections, in the order of the report.

    Raises:
        InvalidInputError: a log that cannot be read; raised before anything is computed.
    """
    out, config = Path(out), config or StudyConfig()
    world = World(instance or Instance())
    tables: dict[str, list[dict[str, Any]]] = {}
    parts = [*_generated(world, config, tables), *_recorded(world, config, tables)]
    sections: dict[str, Section] = {}
    for name, make in parts:
        say(f"study: {name}")
        sections[name] = make()
        _write_rows(out / f"{name}.csv", sections[name].rows)
        for more, rows in tables.items():
            _write_rows(out / f"{more}.csv", rows)
    data: dict[str, Any] = {
        name: {"title": each.title, "text": each.text, "rows": each.rows} for name, each in sections.items()
    }
    write_text(out / "study.json", json.dumps(data | {"tables": tables}, indent=1, allow_nan=False) + "\n")
    write_study_report(list(sections.values()), out, _TITLE, _LEAD)
    return list(sections.values())


_Parts = Sequence[tuple[str, Callable[[], Section]]]


def _generated(world: World, config: StudyConfig, tables: dict[str, list[dict[str, Any]]]) -> _Parts:
    reliability, reductions = Reliability(world, config, tables), Reductions(world, config, tables)
    sizes, variations, promises = Sizes(world, config), Variations(world, config), Promises(world, config, tables)
    return (
        ("reliability", reliability.tied),
        ("all-shared", reliability.pooled),
        ("growth", reductions.growth),
        ("above", reductions.above),
        ("prices", sizes.prices),
        ("conservatism", sizes.conservatism),
        ("certificates", promises.certificates),
        ("algorithm", promises.algorithm),
        ("normal", promises.normal),
        ("rules", sizes.rules),
        ("targets", variations.targets),
        ("units", variations.units),
        ("bins", variations.bins),
    )


def _recorded(world: World, config: StudyConfig, tables: dict[str, list[dict[str, Any]]]) -> _Parts:
    if config.log is None:
        return (("log", no_log),)
    log = read_log_of(config)
    needs = recorded_needs(log, config)
    there = World(world.base, needs)
    config = replace(config, fleets=log_fleets(needs))
    reliability = Reliability(there, config, tables, "recorded drivers")
    return (
        ("log", lambda: recorded(log, needs, config)),
        ("log-reliability", reliability.tied),
        ("log-all-shared", reliability.pooled),
        ("log-above", Reductions(there, config, tables, "recorded drivers").above),
    )


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
