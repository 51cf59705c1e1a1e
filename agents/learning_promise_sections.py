"""Whether promises held: every policy with a promise, on days that nobody had seen."""

from __future__ import annotations

from agents.learning_answers import INTERVAL, World
from agents.learning_study_figures import draw_promises
from agents.report import Section

__all__ = ["promises"]


def promises(world: World) -> Section:
    """All policies with a promise; to be called after the sections that made them."""
    found = [each for each in world.kept if each.promised is not None]
    rows = []
    for each in found:
        low, high = each.interval
        promised = each.promised or 0.0
        rows.append(
            {
                "problem": each.problem,
                "policy": each.policy,
                "shield": each.shield,
                "promised": promised,
                "observed": each.frequency,
                "from": low,
                "to": high,
                "days": each.days,
                "kept": each.frequency <= promised,
                "refuted": low > promised,
            }
        )
    broken = sum(not row["kept"] for row in rows)
    refuted = sum(bool(row["refuted"]) for row in rows)
    below = sum(each.interval[1] <= (each.promised or 0.0) for each in found)
    text = (
        f"{len(rows)} promises, each given with confidence 1 - {world.config.beta:g} before the fresh days were drawn. "
        f"Observed above the promise: {broken}. Refuted (the whole {100 * (1 - INTERVAL):g} % interval of the observed "
        f"frequency lies above the promise): {refuted}. Confirmed (it lies below): {below}. Too few fresh days to "
        f"tell: {len(rows) - refuted - below}.\n\nRows of one problem share their fresh days, so they are no "
        "independent trials of the method; its failure rate over repeated samples is simulated in the tests."
    )
    return Section("Did the promises hold?", text, rows, draw_promises(found), (8.6, 4.4))
