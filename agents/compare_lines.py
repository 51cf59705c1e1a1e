"""A comparison in lines for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agents.compare import Comparison, Result, Row, TestSet, named, paired
from v2g_env.metrics import mean_interval

__all__ = ["agent_lines", "ladder_lines", "result_lines", "table_lines"]


def agent_lines(comparison: Comparison, number: int) -> list[str]:
    """Paired differences of every agent against the reference policy on one test set, in words."""
    test, results = comparison.tests[number], comparison.results[number]
    base = named(results, comparison.reference)
    lines = []
    for result in results:
        if base is not None and result.row.kind == "agent":
            mean, half = paired(result, base, test)
            name = comparison.reference
            lines.append(f"{result.row.policy} minus {name}: {mean:+.2f} ± {half:.2f} $/{test.per} (paired, 95 %)")
    return lines


def table_lines(test: TestSet, results: Sequence[Result]) -> list[str]:
    """The comparison of one test set for the terminal, at most 80 characters wide; agents carry a star."""
    cells = [["policy", f"$/{test.per}", "±95%", "gap", "violated", "limit", "promised", "µs"]]
    for result in sorted(results, key=lambda each: each.row.mean_usd):
        r = result.row
        cells.append(
            [
                f"{r.policy} *" if r.kind == "agent" else r.policy,
                f"{r.mean_usd:.2f}",
                f"{(r.high_usd - r.low_usd) / 2:.2f}",
                _percent(r.gap_percent),
                f"{100 * r.frequency:.1f}%",
                f"{100 * r.limit:.1f}%",
                "" if r.promised is None else f"{100 * r.promised:.1f}%",
                f"{r.decision_us:.1f}" if r.decision_us < 10.0 else f"{r.decision_us:.0f}",
            ]
        )
    bound = mean_interval(test.bound, test.units).mean
    cells.append([test.bound_name, f"{bound:.2f}", "", "0.0%", "", "", "", ""])
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = [f"{test.title}: {test.size}, the same for every policy"]
    for line in cells:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append(f"  {line[0].ljust(widths[0])}  {numbers}".rstrip())
    lines.insert(2, "  " + "-" * (sum(widths) + 2 * len(widths) - 2))
    return lines


def ladder_lines(test: TestSet, results: Sequence[Result]) -> list[str]:
    """What lies between the policies and what nobody can earn, each as far as it is known.

    The optimum of all policies lies between the best policy here, the one with the smallest gap, and the bound; losses
    are measured against both. They are differences of gaps: a penalty in the bound takes the scenarios' luck out.
    """
    rows = sorted((result.row for result in results), key=lambda row: -row.gap_usd)
    best = rows[-1]
    agents = [row for row in rows if row.kind == "agent"]
    safe = [row for row in rows if row.promised is not None and row.mean_usd > 0.0]
    unit = f"$/{test.per}"
    lines = []
    if test.oracle is not None:
        most = mean_interval(test.oracle, test.units).mean - best.mean_usd
        lines.append(f"value of information: {most - best.gap_usd:.2f} to {most:.2f} {unit}")
    if agents:
        learned = agents[-1]
        low = learned.gap_usd - best.gap_usd
        lines.append(f"learning loss of {learned.policy}: {low:.2f} to {learned.gap_usd:.2f} {unit}")
    if safe:
        kept = safe[-1]
        low = kept.gap_usd - best.gap_usd
        lines.append(f"price of the promise of {kept.policy}: {low:.2f} to {kept.gap_usd:.2f} {unit}")
    share = "" if math.isnan(best.gap_percent) else f", {best.gap_percent:.1f} % of the bound"
    lines.append(
        f"certified gap of {best.policy}: {best.gap_usd:.2f} {unit} [{best.gap_low_usd:.2f}, "
        f"{best.gap_high_usd:.2f}]{share}"
    )
    return lines


def _percent(value: float) -> str:
    """One decimal where it says something, five characters at most."""
    return f"{value:.1f}%" if abs(value) < 99.95 else f"{value:.0f}%"


def result_lines(test: TestSet, row: Row) -> list[str]:
    """Return, gap and violations of one policy in words."""
    share = "" if math.isnan(row.gap_percent) else f", {row.gap_percent:.1f} % of it"
    return [
        f"return    {row.mean_usd:.2f} $/{row.per}, 95 % [{row.low_usd:.2f}, {row.high_usd:.2f}], {test.size} of "
        f"{row.law}",
        f"gap       {row.gap_usd:.2f} $/{row.per} to the proven bound{share}, at most {row.gap_limit_usd:.2f} "
        "(95 %, asymptotic)",
        f"violated  {row.violated:g} of {row.trials} {row.trial}, probability at most {row.limit:.4f} (confidence 1 - "
        f"{test.beta:g})",
    ]
