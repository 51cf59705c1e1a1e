"""What the report of a Stackelberg comparison says: its sections, tables and figures."""

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
from agents.stackelberg import OPTIMUM
from agents.stackelberg_figures import TERM_COLORS, TERMS, draw_day, rebates_of
from v2g_env.metrics import mean_interval

__all__ = ["LEAD", "TITLE", "sections"]

TITLE = "Rebates for drivers: every policy against the proven optimum of every day"
LEAD = (
    "What a platform earns above paying no rebates, with fixed schedules, local search, the exact optimum of the day "
    "and trained agents, on the same days for all."
)
_PROBLEM = """
A platform sells the batteries of its drivers' plugged cars as frequency regulation and pays drivers a rebate for every
hour in which they are plugged in. More rebates bring more cars, and more cars allow a larger bid; but rebates are paid
to everyone who is plugged in, also to those who would have been. The platform moves first, drivers answer: a
Stackelberg game, one game a day, with prices and weather known in the morning. Bids are such that an hour may fail to
be delivered in full with a small probability only. A policy is judged by the money it makes per day above what the
same bids earn without rebates, and is set beside a proven bound that no rebates can exceed.
"""
_CHECK = """
`v2g check FILE` recomputes what a certificate claims, without a solver and without trusting the program that wrote it.
For all at once: `v2g check certificates/*.json`.

- `certificates/rebates-month-….json`: on that day no rebates earn more than the bound in the file, which a tree of
boxes of rebates proves; the rebates in the file earn what they say.
- `certificates/policy-….json`: the recorded actions, replayed, earn what the table says and violate that often.

Trees of all days would be megabytes, so a few days are written: the first ones and the one with the largest gain. The
bounds of the other days come from the same solver and are reproduced by running the comparison again.

The tables are in `compare.csv`, with configuration and seeds in `compare.json`; figures are in `figures`.
"""
_CAVEATS = """
- The game follows Tang and Mak, Collaborative Vehicle-to-grid Operations in Frequency Regulation Markets (slides,
2024). Price law, weather and settlement are this project's own, and so are the data where the slides give none.
- Drivers answer as the persistency model says. Real drivers need not.
- The bound is that of the day if all is delivered. What fails to be delivered costs every policy some dollars a day,
so the optimum stays below its bound even where it is proven.
- A few days with very high prices make most of the money, so intervals are wide: they say what other months may bring,
while the bound is that of these days. Differences between policies on the same days are far narrower.
- Intervals of means are asymptotic (Student), with months as independent units. Limits on violations hold for any
number of days, each for itself.
- Decision time is wall time per decision on the machine of this run: of batched calls, and for the certified optimum
of the solver.
"""


def _summary(comparison: Comparison) -> str:
    test, results = comparison.tests[0], comparison.results[0]
    bound = mean_interval(test.bound, test.units).mean
    text = (
        f"On {test.size} no rebates whatsoever can earn more than ${bound:.2f} a day above no rebates, on average and "
        "by the model."
    )
    for result in (named(results, OPTIMUM), best_agent(results), named(results, "static by day type")):
        if result is not None:
            row = result.row
            text += (
                f" {row.policy[0].upper()}{row.policy[1:]}: ${money(row.mean_usd)} {half(row.low_usd, row.high_usd)}."
            )
    row = ranked(results)[0].row
    if row.promised is not None:
        text += (
            f" At most {percent(row.promised)} of hours may be violated; {percent(row.frequency)} were, "
            f"with {row.policy}."
        )
    return text


def _table(comparison: Comparison) -> Section:
    test = comparison.tests[0]
    text = (
        f"{test.size}, the same for every policy; $ a day above what certified bids without rebates earn if all is "
        f"delivered. Gap: bound minus return. Violated: {test.trial} in which the plugged cars could not deliver in "
        f"full. Limit: upper limit on the mean probability of that over these very days, at confidence 1 − "
        f"{test.beta:g}. Promised: what every certified bid guarantees. Shortfall: power bid and not delivered, times "
        "hours, per day."
    )
    return table(test, comparison.results[0], text)


def _solved(comparison: Comparison) -> Section:
    found, config = comparison.meta["solved"], comparison.meta["config"]
    rows: list[dict[str, Any]] = [
        {"what": "days solved", "value": f"{found['days']}"},
        {"what": f"of these within a gap of {config['gap']:g}", "value": f"{found['within_gap']}"},
        {"what": "largest gap proven", "value": f"{found['largest_gap']:.2g}"},
        {"what": "mean distance of bound and best rebates found", "value": f"{found['mean_gap_usd']:.2f} $ a day"},
        {"what": "time of a day, median", "value": f"{found['median_s']:.3f} s"},
        {"what": "time of a day, largest", "value": f"{found['largest_s']:.2f} s"},
        {"what": "nodes of the search, median", "value": f"{found['median_nodes']:.0f}"},
    ]
    text = (
        f"Every day is solved by branch and bound over the rebate levels, for at most {config['seconds_per_day']:g} s. "
        "A day that is not finished by then keeps a valid bound with the gap proven so far. Gaps are relative to the "
        "day's whole profit."
    )
    return Section("How the bound was found", text, rows)


def _day(comparison: Comparison) -> Section:
    """The day whose bound is the median: neither the best nor the worst."""
    test, results = comparison.tests[0], comparison.results[0]
    number = int(np.argsort(test.bound, kind="stable")[len(test.bound) // 2])
    month, day = divmod(number, test.days)
    wanted = (named(results, OPTIMUM), best_agent(results), named(results, "static by day type"))
    shown: list[Result] = [result for result in wanted if result is not None]
    lot = test.model.instance
    lines = [(result.row.policy, rebates_of(test, result, month, day)) for result in shown]
    rows = [{"policy": test.bound_name, "reward [$]": money(test.bound[number])}]
    rows += [{"policy": r.row.policy, "reward [$]": money(r.returns[number])} for r in shown]
    kind = "weekend" if test.scenario.weekend[month, day] else "weekday"
    share = lot.plug_shares[int(test.scenario.plug[month, day])]
    text = (
        f"Day {day + 1} of month {month + 1}, a {kind} with {percent(share)} of the cars at home plugged in: its bound "
        "is the median of all, so it is neither a calm day nor a wild one. Lines are rebates, the grey area is the "
        "price of regulation."
    )
    marks = {0: "bound"} | agent_rows([result.row for result in shown], 1)
    picture = draw_day(test.scenario.price[month, day], lot.step_h, lines)
    return Section("One day in detail", text, rows, picture, (8.6, 3.6), marks)


def _facts(comparison: Comparison) -> dict[str, str]:
    config, lot = comparison.meta["config"], comparison.tests[0].model.instance
    levels = lot.rebate_levels_usd_per_h
    return {
        "fleet": f"{lot.drivers} drivers, {lot.charger_kw:g} kW each; signal set {lot.signals}",
        "rebates": f"{len(levels)} levels from {levels[0]:g} to {levels[-1]:g} $/h in {lot.periods} periods",
        "promise": f"an hour fails with probability {lot.eta:g} at most ({lot.variant} bids)",
        "months for tuning": f"{config['train_months']}, none of the test set",
    }


def sections(comparison: Comparison) -> list[Section]:
    """All sections of the report, in the order in which a stranger needs them."""
    returns, violations, parts = policy_figures(comparison, TERMS, TERM_COLORS)
    rows = run_rows(comparison, _facts(comparison), ("tuning months", "test months", "training"))
    return [
        Section("The problem", _PROBLEM, []),
        Section("The result in short", _summary(comparison), []),
        _table(comparison),
        returns,
        violations,
        _day(comparison),
        parts,
        *differences(comparison),
        _solved(comparison),
        Section("What was run", "Everything below is also in `compare.json`.", rows),
        Section("How to check", _CHECK, []),
        Section("What to keep in mind", _CAVEATS, []),
    ]
