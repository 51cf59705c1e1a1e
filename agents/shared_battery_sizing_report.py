"""What the report of a comparison of sizes says: its sections, tables and figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.compare import Comparison, named
from agents.compare_report import best_agent, differences, half, money, percent, policy_figures, run_rows, table
from agents.report import Section
from agents.shared_battery_figures import SIZING_COLORS, SIZING_WORDS, draw_sizes
from agents.shared_battery_sizing import SEARCHED
from v2g_env.metrics import mean_interval

__all__ = ["LEAD", "TITLE", "sections"]

TITLE = "How much battery a fleet needs, alone and together"
LEAD = (
    "Sizes of own and shared batteries from certified scenario programs, from search and from trained agents, lived "
    "with on the same seasons."
)
_PROBLEM = """
Batteries are sized for rare long days and idle on all others. If drivers share a part, less battery serves them as
reliably, because rarely do many need much on the same day. Once a season own batteries and a shared one are fixed; then
the days come. A policy is judged by what it saves against separate batteries (the quantile of every driver's need that
his target asks for), less a price for days on which a driver is not served beyond the days that he tolerates.
"""
_CHECK = """
`v2g check FILE` recomputes what a certificate claims, without a solver and without trusting the program that wrote it.
For all at once: `v2g check certificates/*.json`.

- `certificates/sizes-certified-program.json`: the sizes are the cheapest for their sampled days; few days decide them,
and from their number follows how often a new day exceeds them.
- `certificates/sizes-certified-search.json` and others: on fresh days every driver was missed so often, and with high
confidence is missed no more often than the limits say.
- `certificates/bound-generated-seasons.json`: no fixed sizes earn more on these seasons, whatever the rule.
- `certificates/policy-….json`: the recorded sizes, replayed, earn what the table says.

The tables are in `compare.csv`, with configuration and seeds in `compare.json`; figures are in `figures`.
"""
_CAVEATS = """
- The problem is that of Alexeenko and Charisopoulos, arXiv 2304.10461. Their trip log is not available here: needs are
a generator's, fitted to the daily miles of the NHTS 2001. Prices, season and penalty are this project's own.
- A violated day is one on which the shortfalls of all drivers together exceed the shared battery: the event that the
certified program promises about. Separate batteries have nothing to share, so for them it is a day on which anybody
lacks anything.
- The bound holds for sizes that are fixed for all seasons, and lets the drivers who are missed be chosen with knowledge
of the whole season. No rule does that, so part of the gap can be closed by nobody.
- Intervals of means are asymptotic (Student), with seasons as independent units.
"""


def _summary(comparison: Comparison) -> str:
    test, results = comparison.tests[0], comparison.results[0]
    bound = mean_interval(test.bound, test.units).mean
    text = f"On {test.size} no fixed sizes save more than ${bound:.2f} a season on average, whatever the rule."
    for result in (named(results, "certified program"), named(results, SEARCHED), best_agent(results)):
        if result is not None:
            row = result.row
            name = f"{row.policy[0].upper()}{row.policy[1:]}"
            text += f" {name}: ${money(row.mean_usd)} {half(row.low_usd, row.high_usd)}."
    return text


def _sizes(comparison: Comparison) -> Section:
    """What every policy chose in the first season, and what its certificate promises."""
    test, results = comparison.tests[0], comparison.results[0]
    rows: list[dict[str, Any]] = []
    shown = []
    for result in results:
        own, shared = test.model.sizes(result.episodes.actions[:1, 0].astype(np.float64))
        plan = comparison.plans.get(result.row.policy)
        limits = [] if plan is None else np.atleast_1d(plan.certificate["risk"]["eps"]).tolist()
        rows.append(
            {
                "policy": result.row.policy,
                "own [kWh per driver]": round(float(own.mean()), 2),
                "shared [kWh per driver]": round(float(shared[0]) / own.shape[1], 2),
                "together": round(float(own.sum() + shared[0]) / own.shape[1], 2),
                "certified limit": percent(max(limits)) if limits else "",
                "of": {"scenario sizes": "a day beyond the battery"}.get(
                    "" if plan is None else plan.certificate["kind"], "the worst driver's missed days" if limits else ""
                ),
            }
        )
        shown.append((result.row.policy, own[0], float(shared[0])))
    text = (
        "Own batteries by driver, drivers in the order of their median need; dashed lines: the shared battery per "
        "driver. The certified program promises that all shortfalls together fit, the others one probability for each "
        "driver."
    )
    picture = draw_sizes(test.model.law.needs.quantile(0.5), shown)
    return Section("The sizes", text, rows, picture, (8.6, 4.2))


def sections(comparison: Comparison) -> list[Section]:
    """All sections of the report, in the order in which a stranger needs them."""
    test, results = comparison.tests[0], comparison.results[0]
    returns, violations, parts = policy_figures(comparison, SIZING_WORDS, SIZING_COLORS)
    lot, config = test.model.instance, comparison.meta["config"]
    text = (
        f"{test.size}, the same for every policy; $ a season saved against separate batteries. Gap: bound minus "
        f"return. Violated: days beyond the shared battery. Limit: upper limit of their mean probability at confidence "
        f"1 − {test.beta:g}. Promised: certified before. Shortfall: energy missing, per season."
    )
    facts = {
        "fleet": f"{lot.drivers} drivers, {test.model.law.needs.mean_kwh().mean():.1f} kWh a day on average",
        "prices": f"own {lot.own_usd_per_kwh:g}, shared {lot.shared_usd_per_kwh:g} $/kWh for a season",
        "targets": f"missed on {100 * lot.tolerated.min():g} % of days at most; rule {lot.rule}",
        "days of the search": f"{config['train_days']}, and {config['hold_out_days']} fresh ones for its certificate",
    }
    roles = ("samples and search", "test seasons", "training")
    return [
        Section("The problem", _PROBLEM, []),
        Section("The result in short", _summary(comparison), []),
        table(test, results, text),
        returns,
        violations,
        _sizes(comparison),
        parts,
        *differences(comparison),
        Section("What was run", "Everything below is also in `compare.json`.", run_rows(comparison, facts, roles)),
        Section("How to check", _CHECK, []),
        Section("What to keep in mind", _CAVEATS, []),
    ]
