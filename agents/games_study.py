"""The study of games: who shares what, who would leave, who lies, and what competition costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.games_sections import StudyConfig, World
from agents.learning_study import finite, write_rows
from agents.report import Section, write_study_report
from baselines.certificate import write_text
from v2g_env.core.validate import require

__all__ = ["StudyConfig", "run_study"]

_TITLE = "Games among drivers, prosumers and aggregators"
_LEAD = (
    "Coalitions with certified values, allocations and their stability, equilibria with proven epsilons, and what "
    "lying earns. All data are generated. Certificates of games, allocations and equilibria lie in `games`; check "
    "them with `v2g check`. The tables are also there as CSV files and in `study.json`."
)


def run_study(
    out: Path,
    instance: None = None,
    config: StudyConfig | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Section]:
    """Run all sections; each leaves a CSV file under ``out`` as soon as it is done, the report comes last.

    Args:
        out: folder of the report, tables, figures and certificates.
        instance: None: the study uses the default instances with fewer players.
        config: sizes; None: some five minutes on two cores.
        say: called with a line of text before every part.

    Returns:
        The sections, in the order of the report.

    Raises:
        InvalidInputError: for an instance.
    """
    require(instance is None, "instance", instance, "none: games have their own")
    out = Path(out)
    world = World(config or StudyConfig(), out, say)
    sections: list[Section] = []
    data: dict[str, Any] = {}
    for make in (
        world.pictures,
        world.shares,
        world.growth,
        world.tomorrow,
        world.aggregators,
        world.lies,
        world.anarchy,
        world.bills,
        world.learners,
    ):
        say(f"study: {make.__name__}")
        each = make()
        sections.append(each)
        data[each.slug] = {"title": each.title, "text": each.text, "rows": [finite(row) for row in each.rows]}
        write_rows(out / f"{each.slug}.csv", each.rows)
    write_text(out / "study.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    write_study_report(sections, out, _TITLE, _LEAD)
    return sections
