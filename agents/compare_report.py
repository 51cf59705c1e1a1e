"""What the report of any comparison says: tables of policies, their figures, and differences between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.compare import Comparison, Result, Row, TestSet, named, paired
from agents.compare_figures import draw_money, draw_returns, draw_violations, ranked, views
from agents.report import Section
from v2g_env.metrics import mean_interval

__all__ = [
    "agent_rows",
    "best_agent",
    "differences",
    "half",
    "money",
    "percent",
    "policy_figures",
    "run_rows",
    "table",
    "terms",
]


def money(value: float) -> str:
    """Dollars and cents with a true minus sign."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # the sum turns a negative zero into zero


def percent(share: float | None) -> str:
    """A share in percent, three digits; a dash for none."""
    return "–" if share is None else f"{100.0 * share:.3g}\u00a0%"


def half(low: float, high: float) -> str:
    """Half the width of an interval."""
    width = (high - low) / 2.0
    return f"±\u00a0{width:.2f}" if np.isfinite(width) else "±\u00a0∞"


def run_rows(comparison: Comparison, facts: Mapping[str, str], roles: Sequence[str]) -> list[dict[str, str]]:
    """What was run, line by line: facts of the problem, then what all comparisons have in common.

    Args:
        comparison: all results.
        facts: the problem's own, name and value.
        roles: what each of the configuration's seeds is for.
    """
    config, lot = comparison.meta["config"], comparison.tests[0].model.instance
    usual = type(lot)().to_dict()
    changed = [f"{key} = {value}" for key, value in lot.to_dict().items() if value != usual[key]]
    agents = [f"{name}, {steps} steps" for name, steps in zip(config["agents"], config["train_steps"], strict=False)]
    pairs = dict(facts) | {
        "changed from the defaults": ", ".join(changed) or "nothing",
        "instance (SHA-256)": comparison.meta["instance_sha256"],
        "confidence parameter, beta": f"{config['beta']:g} (statements hold with probability at least 1 − beta)",
        "agents trained": "; ".join(agents) or "none",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in zip(roles, config["seeds"], strict=True)),
    }
    return [{"what": name, "value": value} for name, value in pairs.items()]


def best_agent(results: Sequence[Result]) -> Result | None:
    """The agent with the highest mean return."""
    return next((result for result in ranked(results) if result.row.kind == "agent"), None)


def agent_rows(rows: Sequence[Row], first: int = 0) -> dict[int, str]:
    """Marks of a section's rows that belong to agents; ``first`` is the number of the first row."""
    return {i: "agent" for i, row in enumerate(rows, first) if row.kind == "agent"}


def table(test: TestSet, results: Sequence[Result], text: str) -> Section:
    """Every policy on one test set, best first, below the bound."""
    bound = mean_interval(test.bound, test.units)
    order = [result.row for result in ranked(results)]

    def line(policy: str, mean: float, low: float, high: float, *others: str) -> dict[str, Any]:
        names = ["gap [$]", "gap [%]", f"{test.trial} violated", "limit", "promised"]
        names += ["shortfall [kWh]", "decision [µs]"]
        values = {"policy": policy, f"return [$/{test.per}], 95 %": f"{money(mean)} {half(low, high)}"}
        return values | dict(zip(names, others or [""] * len(names), strict=True))

    rows = [line(test.bound_name, bound.mean, bound.low, bound.high)]
    rows += [
        line(
            r.policy,
            r.mean_usd,
            r.low_usd,
            r.high_usd,
            money(r.gap_usd),
            f"{r.gap_percent:.1f}" if np.isfinite(r.gap_percent) else "",
            f"{r.violated:g} / {r.trials}",
            percent(r.limit),
            percent(r.promised),
            f"{r.shortfall_kwh:.2f}",
            f"{r.decision_us:.1f}",
        )
        for r in order
    ]
    return Section(f"Results: {test.title.lower()}", text, rows, marks={0: "bound"} | agent_rows(order, 1))


def policy_figures(
    comparison: Comparison, words: Mapping[str, str], colors: Mapping[str, str]
) -> tuple[Section, Section, Section]:
    """Returns, violations and money of all policies; names and colours of the money terms."""
    names, tables, bounds = views(comparison)
    order = ranked(comparison.results[0])
    parts = {result.row.policy: result.money for result in order}
    size = (8.6, 1.6 + 0.4 * len(names))
    trial = comparison.tests[0].trial
    return (
        Section(
            "Return by policy",
            "Mean return with its interval. The vertical lines are the proven bounds, beyond which nothing can lie.",
            [],
            draw_returns(names, tables, bounds),
            size,
        ),
        Section(
            "Violations by policy",
            f"Share of {trial} violated (symbol), what it may be at most given so few {trial} (bar), and what was "
            "promised before (diamond). A symbol at 0 means that no violation was seen.",
            [],
            draw_violations(names, tables, trial),
            size,
        ),
        Section(
            "Where the money comes from",
            f"{comparison.tests[0].title}: mean of every term of the reward in $ a {comparison.tests[0].per}. Their "
            "sum is the return.",
            [terms(name, each, words) for name, each in parts.items()],
            draw_money(names, parts, words, colors),
            size,
            agent_rows([result.row for result in order]),
        ),
    )


def terms(policy: str, parts: Mapping[str, float], words: Mapping[str, str]) -> dict[str, str]:
    """A row of money terms under their names, and their sum."""
    named_parts = {words.get(term, term): money(value) for term, value in parts.items()}
    return {"policy": policy} | named_parts | {"sum": money(sum(parts.values()))}


def _one(results: Sequence[Result], policy: str) -> Result:
    return next(result for result in results if result.row.policy == policy)


def differences(comparison: Comparison) -> list[Section]:
    """Every policy minus the reference on common days, agents first; nothing if that did not take part."""
    base = [named(results, comparison.reference) for results in comparison.results]
    if base[0] is None:
        return []
    others = [result.row for result in ranked(comparison.results[0]) if result is not base[0]]
    others.sort(key=lambda row: row.kind != "agent")
    rows: list[dict[str, Any]] = [{"policy": row.policy} for row in others]
    for test, results, against in zip(comparison.tests, comparison.results, base, strict=True):
        for row, line in zip(others, rows, strict=True):
            mean, width = paired(_one(results, row.policy), against, test)  # type: ignore[arg-type]
            line[f"{test.title.lower()} [$/{test.per}]"] = f"{money(mean)} {half(-width, width)}"
    per = base[0].row.per
    text = (
        f"Return minus that of {base[0].row.policy}, {per} by {per}, so that what is common to both cancels; interval "
        f"95 %. Where it excludes zero, these {per}s can tell the two apart."
    )
    return [Section(f"Against {comparison.reference}", text, rows, marks=agent_rows(others))]
