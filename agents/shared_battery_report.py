"""What the report of a comparison of weeks of requests says: its sections, tables and figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.compare import Comparison, Result, named
from agents.compare_figures import ranked
from agents.compare_report import (
    agent_rows,
    best_agent,
    differences,
    half,
    money,
    percent,
    policy_figures,
    run_rows,
    table,
)
from agents.report import Section
from agents.shared_battery import PROGRAMME
from agents.shared_battery_figures import WEEK_COLORS, WEEK_WORDS, draw_week, levels
from v2g_env.metrics import mean_interval

__all__ = ["LEAD", "TITLE", "sections"]

TITLE = "Who gets the shared battery: every policy against proven bounds"
LEAD = (
    "What a week of requests is worth under first come first served, thresholds, dynamic programmes and trained "
    "agents, on the same weeks for all."
)
_PROBLEM = """
Drivers have batteries of their own and share one. Whoever needs more than his own on a day asks for the difference; the
request is granted in whole or refused, on the spot, before later requests of the day are seen. A night brings back only
a part of the battery, so what is given on Tuesday may be missing on Saturday, when more is asked. A policy is judged by
the value of the requests that it grants.
"""
_CHECK = """
`v2g check FILE` recomputes what a certificate claims, without a solver and without trusting the program that wrote it.
For all at once: `v2g check certificates/*.json`.

- `certificates/bound-generated-weeks.json`: no policy, even one that sees the future, earns more on these weeks.
- `certificates/policy-….json`: the recorded actions, replayed, earn what the table says and leave as many visits
unserved.

The tables are in `compare.csv`, with configuration and seeds in `compare.json`; figures are in `figures`.
"""
_CAVEATS = """
- Needs are a generator's, fitted to the daily miles of the NHTS 2001; values, week and sizes are this project's own.
- The bound sees the future, which no policy does: part of the gap can be closed by nobody. How much is known where all
drivers are alike, see the section on that case.
- The competitive threshold promises a share of the hindsight optimum for one day whose nights recharge all, and for
densities within a stated range; in the coupled week it is a heuristic.
- A visit is one driver on one day; it is violated if he asks and does not get it. Visits of a week depend on each
other; the limit speaks of the mean probability over these very visits.
- Intervals of means are asymptotic (Student), with weeks as independent units.
- Decision time is wall time per decision within one batched call, on the machine of this run.
"""


def _summary(comparison: Comparison) -> str:
    test, results = comparison.tests[0], comparison.results[0]
    bound = mean_interval(test.bound, test.units).mean
    text = f"On {test.size} no policy whatsoever earns more than ${bound:.2f} a week on average."
    for result in (named(results, PROGRAMME), best_agent(results), named(results, "first come")):
        if result is not None:
            row = result.row
            name = f"{row.policy[0].upper()}{row.policy[1:]}"
            text += f" {name}: ${money(row.mean_usd)} {half(row.low_usd, row.high_usd)}, {row.gap_percent:.0f} % below."
    return text


def _alike(comparison: Comparison) -> Section:
    found = comparison.meta["alike"]
    rows = [
        {
            "what": "bound for policies that see the future",
            "$ a week": money(found["hindsight_bound_usd"]),
        },
        {"what": "bound for policies that do not", "$ a week": money(found["online_bound_usd"])},
        {
            "what": f"{PROGRAMME}, simulated",
            "$ a week": f"{money(found['programme_usd'])} ±\u00a0{1.96 * found['standard_error_usd']:.2f}",
        },
    ]
    text = (
        "If all drivers are alike and their needs independent, requests are independent draws from one law, and a "
        "dynamic programme with sizes rounded down bounds every policy that does not see the future. The distance "
        "between the two bounds is the value of knowing the future."
    )
    return Section("What can be reached at best: drivers who are all alike", text, rows)


def _week(comparison: Comparison) -> Section:
    """The week whose bound is the median."""
    test, results = comparison.tests[0], comparison.results[0]
    week = int(np.argsort(test.bound, kind="stable")[len(test.bound) // 2])
    wanted = (named(results, PROGRAMME), best_agent(results), named(results, "first come"))
    shown: list[Result] = [result for result in wanted if result is not None]
    picture = draw_week(test, week, [(r.row.policy, levels(test, r, week)) for r in shown])
    rows = [{"policy": test.bound_name, "return [$]": money(test.bound[week])}]
    rows += [{"policy": r.row.policy, "return [$]": money(r.returns[week])} for r in shown]
    text = (
        f"Week {week}: its bound is the median of all. Lines are the energy left in the shared battery after every "
        "request; the grey area is what was asked for on each day."
    )
    return Section(
        "One week in detail", text, rows, picture, (8.6, 3.6), {0: "bound"} | agent_rows([r.row for r in shown], 1)
    )


def _drivers(comparison: Comparison) -> Section:
    """Who is left unserved: the worst driver under every policy."""
    from baselines.shared_battery.verify_week import count_unserved

    test, results = comparison.tests[0], ranked(comparison.results[0])
    rows: list[dict[str, Any]] = []
    for result in results:
        kept = count_unserved(test.model, result.episodes, test.beta)
        rows.append(
            {
                "policy": result.row.policy,
                "requests refused": percent(kept.unserved / max(kept.requests, 1)),
                "worst driver": kept.worst_driver,
                "his requests refused": percent(kept.worst_unserved / max(kept.worst_requests, 1)),
            }
        )
    text = "Value is not fairness: the driver who was refused most days, and how many of his requests that were."
    return Section("Who is left out", text, rows, marks=agent_rows([result.row for result in results]))


def sections(comparison: Comparison) -> list[Section]:
    """All sections of the report, in the order in which a stranger needs them."""
    test, results = comparison.tests[0], comparison.results[0]
    returns, violations, _ = policy_figures(comparison, WEEK_WORDS, WEEK_COLORS)
    model, lot, config = test.model, test.model.instance, comparison.meta["config"]
    text = (
        f"{test.size}, the same for every policy. Gap: bound minus return. Violated: visits that end with a request "
        f"refused. Limit: upper limit of their mean probability over these weeks, at confidence 1 − {test.beta:g}. "
        "Shortfall: energy asked for and not given, per week."
    )
    facts = {
        "fleet": f"{lot.drivers} drivers, {model.sizes.own_kwh.mean():.1f} kWh of their own on average",
        "shared battery": f"{model.sizes.shared_kwh:.1f} kWh; a night brings back {model.sizes.recharge_kwh:.1f} kWh",
        "values": f"{lot.values}, median ${lot.value_usd:g}",
        "weeks for tuning": f"{config['train_weeks']}, none of the test set",
    }
    roles = ("tuning weeks", "test weeks", "training")
    return [
        Section("The problem", _PROBLEM, []),
        Section("The result in short", _summary(comparison), []),
        table(test, results, text),
        returns,
        violations,
        _week(comparison),
        *differences(comparison),
        _alike(comparison),
        _drivers(comparison),
        Section("What was run", "Everything below is also in `compare.json`.", run_rows(comparison, facts, roles)),
        Section("How to check", _CHECK, []),
        Section("What to keep in mind", _CAVEATS, []),
    ]
