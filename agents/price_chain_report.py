"""What the report of a comparison on the price chain says: its sections, tables and figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.compare import Comparison, Result, named
from agents.compare_report import best_agent, differences, half, money, percent, policy_figures, run_rows, table
from agents.price_chain import OPTIMUM
from agents.price_chain_figures import COLORS_OF_TERMS, WORDS, draw_curve, draw_day, draw_robust
from agents.report import Section
from baselines.price_chain.ambiguity import SETS

__all__ = ["LEAD", "TITLE", "sections"]

TITLE = "Trading against a random price: every policy against exact values"
LEAD = (
    "What a day of buying and selling a fleet's energy is worth under rules, the exact optimum, robust plans and "
    "learners. Every number called exact is the solution of a finite problem, not an estimate."
)
_PROBLEM = """
A fleet is plugged in from noon to noon. Its aggregator buys and sells the stored energy hour by hour at a price that
moves at random between a few levels, and owes the drivers a certain energy at departure. The price is a Markov chain,
estimated from a history of days; so the best policy is known exactly. What the history leaves uncertain about the chain
is described by five kinds of sets around its rows; a robust plan is the best one for the worst rows of a set.
"""
_CHECK = """
`v2g check FILE` recomputes what a certificate claims, without a solver and without trusting the program that wrote it.
For all at once: `v2g check certificates/*.json`.

- `certificates/values-….json`: the plan's worst case is at least the claimed value, and no policy's is higher.
- `certificates/policy-….json`: the exact value of the policy's plan, its gap to the optimum, and its violations.

The tables are in `compare.csv`, with configuration, seeds and exact values in `compare.json`; figures are in `figures`.
"""
_CAVEATS = """
- The history is synthetic unless you give your own; battery, costs and vehicles are this project's own.
- The sets are sized row by row, by an asymptotic chi-square (intervals: exact, with a union bound over a row's
entries); that all rows lie in their sets at once is much less likely than the confidence says for one of them.
- The adversary may choose a row for every state after the decision, the stored energy included. That is more than a
price chain can do, so worst cases are lower bounds for all chains of the set.
- Policies that remember earlier steps have no plan; all policies here have none.
- Simulated means may lie above the exact optimum by chance; exact values cannot.
- Decision time is wall time per decision within one batched call, on the machine of this run.
"""


def _summary(comparison: Comparison) -> str:
    exact, results = comparison.meta["exact"], comparison.results[0]
    best = exact[OPTIMUM]["value_usd"]
    text = f"No policy earns more than ${best:.2f} a day on average under the estimated chain."
    for result in (best_agent(results), named(results, "price thresholds"), named(results, "early charging")):
        if result is not None:
            value = exact[result.row.policy]["value_usd"]
            text += f" {result.row.policy}: ${value:.2f} exactly, {100.0 * (best - value) / best:.1f} % below."
    seen = comparison.meta["hindsight_usd"]
    return f"{text} Whoever knew the prices of the test days in advance could have earned ${seen:.2f}."


def _exact(comparison: Comparison) -> Section:
    meta = comparison.meta
    best = meta["exact"][OPTIMUM]["value_usd"]
    agents = {result.row.policy for result in comparison.results[0] if result.row.kind == "agent"}
    order = sorted(meta["exact"].items(), key=lambda item: -item[1]["value_usd"])
    rows: list[dict[str, Any]] = []
    for name, each in order:
        row = {
            "policy": name,
            "value [$/day]": money(each["value_usd"]),
            "gap [$]": money(best - each["value_usd"]),
            "gap [%]": f"{100.0 * (best - each['value_usd']) / best:.2f}" if best > 0.0 else "",
            "violation": percent(each["violation_probability"]),
            "harsher chain [$]": money(each["harsher_usd"]),
        }
        rows.append(row | {f"worst, {kind} [$]": money(each[f"worst_{kind}_usd"]) for kind in SETS})
    marks = {i: "agent" for i, (name, _) in enumerate(order) if name in agents}
    text = (
        "Exact values of every policy: under the estimated chain, under a harsher chain (one that hurts the optimal "
        "plan and lies in the entropy set), and under the worst kernel of each set. The highest worst case of a set is "
        "reached by its own robust plan; the difference of values is the price of robustness."
    )
    return Section(
        "Exact values", text, rows, draw_robust(dict(order), list(SETS)), (8.6, 1.8 + 0.4 * len(rows)), marks
    )


def _curve(comparison: Comparison) -> Section:
    curve, best = comparison.meta["q_learning"], comparison.meta["exact"][OPTIMUM]["value_usd"]
    rows = [
        {"days played": f"{days:.0f}", "value [$/day]": money(value), "regret [$/day]": money(best - value)}
        for days, value in zip(curve["days"], curve["value_usd"], strict=True)
    ]
    text = "Exact value of the greedy plan while Q-learning plays: its regret is known, not estimated."
    return Section("Q-learning", text, rows, draw_curve(curve["days"], curve["value_usd"], best))


def _day(comparison: Comparison) -> Section:
    """The day on which the optimal plan earns the median."""
    test, results = comparison.tests[0], comparison.results[0]
    base = named(results, OPTIMUM)
    wanted = (base, best_agent(results), named(results, "robust plan (entropy)"), named(results, "early charging"))
    shown: list[Result] = [result for result in wanted if result is not None]
    returns = shown[0].returns
    day = int(np.argsort(returns, kind="stable")[len(returns) // 2])
    rows = [{"policy": r.row.policy, "return [$]": money(r.returns[day])} for r in shown]
    text = f"Day {day}, on which the {OPTIMUM} earns its median."
    return Section("One day in detail", text, rows, draw_day(test, day, shown), (8.6, 3.6))


def sections(comparison: Comparison) -> list[Section]:
    """All sections of the report, in the order in which a stranger needs them."""
    test, lot, config = comparison.tests[0], comparison.tests[0].model.instance, comparison.meta["config"]
    returns, violations, moneys = policy_figures(comparison, WORDS, COLORS_OF_TERMS)
    text = (
        f"{test.size}, the same for every policy. Gap: exact optimum of the mean minus the simulated mean. Violated: "
        f"days whose target is missed. Limit: upper limit of their probability at confidence 1 − {test.beta:g}."
    )
    counts = lot.chain.counts.sum(axis=2)
    facts = {
        "states": f"{test.model.steps} steps x {int(np.prod(lot.shape))}, {test.model.choices} choices",
        "chain": f"{lot.price_levels} levels an hour, {counts.min():.0f} to {counts.max():.0f} moves seen from each",
        "uncertainty": f"confidence {config['confidence']:g} for each row",
        "Q-learning": f"{config['q_days']} days",
        "optimum, simulated": _simulated(comparison),
    }
    roles = ("test days", "Q-learning", "training")
    return [
        Section("The problem", _PROBLEM, []),
        Section("The result in short", _summary(comparison), []),
        _exact(comparison),
        *(table(each, results, text) for each, results in zip(comparison.tests, comparison.results, strict=True)),
        returns,
        violations,
        moneys,
        _day(comparison),
        _curve(comparison),
        *differences(comparison),
        Section("What was run", "Everything below is also in `compare.json`.", run_rows(comparison, facts, roles)),
        Section("How to check", _CHECK, []),
        Section("What to keep in mind", _CAVEATS, []),
    ]


def _simulated(comparison: Comparison) -> str:
    base = named(comparison.results[0], OPTIMUM)
    if base is None:
        return "not run"
    exact = comparison.meta["exact"][OPTIMUM]["value_usd"]
    return f"${money(base.row.mean_usd)} {half(base.row.low_usd, base.row.high_usd)}, exactly ${money(exact)}"
