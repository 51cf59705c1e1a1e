"""What the report of a scheduling comparison says: its sections, tables and figures."""

from __future__ import annotations

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
from agents.scheduling import CONTROL
from agents.scheduling_figures import TERM_COLORS, TERMS, draw_gas, draw_powers, series
from baselines.scheduling.verify_days import count_violations
from v2g_env.metrics import mean_interval

__all__ = ["LEAD", "TITLE", "sections"]

TITLE = "Scheduling a V2G network: every policy against proven bounds"
LEAD = (
    "What a hundred cars that can give energy back save a small network with wind, under robust plans, predictive "
    "control and trained agents, on the same days for all."
)
_PROBLEM = """
One gas generator, four wind turbines, the homes of six districts and a hundred cars, from noon to noon in quarters of
an hour. The set-points of a step are fixed before its load and wind are known. Cars come home in the evening and leave
in the morning with what their owners want; between, they may take surplus wind and give it back at the evening peak. A
share of their remaining flexibility settles what differs from the forecast within the step; what is still missing comes
from an emergency source. A policy is judged by the cost of a day, told as what it saves against a day without V2G whose
load and wind are known.
"""
_CHECK = """
`v2g check FILE` recomputes what a certificate claims, without a solver and without trusting the program that wrote it.
For all at once: `v2g check certificates/*.json`.

- `certificates/bound-generated-days.json`: no policy, even one that sees the future, saves more on these days.
- `certificates/policy-….json`: the recorded actions, replayed, save what the table says and violate as many steps.

The tables are in `compare.csv`, with configuration and seeds in `compare.json`; figures are in `figures`.
"""
_CAVEATS = """
- Network, loads, wind and cars are a generator's; the article that the problem comes from published no data.
- The bound sees the future, which no policy does: the price of gate closure is part of every gap and can be closed by
nobody.
- Returns are savings, so the gap is told in % of what could be saved at most, not of the cost.
- Robust plans are made once, at noon, for typical cars; alpha is the number of loads and turbines that may deviate at
the same time. Predictive control plans again at every step with the same observations that agents get.
- Steps of a day depend on each other; the limit speaks of the mean conditional probability over these very steps. The
share of days with any violation, and its own limit, are in the table of days.
- Intervals of means are asymptotic (Student), with days as independent units.
- Decision time is wall time per decision within one batched call, on the machine of this run.
"""


def _summary(comparison: Comparison) -> str:
    test, results = comparison.tests[0], comparison.results[0]
    cost = test.model.instance.calibrated_usd
    bound = mean_interval(test.bound, test.units).mean
    text = (
        f"A day without V2G costs ${cost:.0f} on average if load and wind are known. On {test.size} no policy "
        f"whatsoever saves more than ${bound:.2f} of that ({percent(bound / cost)})."
    )
    for result in (named(results, CONTROL), best_agent(results), named(results, "without V2G")):
        if result is not None:
            row = result.row
            name = f"{row.policy[0].upper()}{row.policy[1:]}"
            text += f" {name}: ${money(row.mean_usd)} {half(row.low_usd, row.high_usd)}."
    return text


def _day(comparison: Comparison) -> list[Section]:
    """The day whose bound is the median."""
    test, results = comparison.tests[0], comparison.results[0]
    day = int(np.argsort(test.bound, kind="stable")[len(test.bound) // 2])
    wanted = (named(results, CONTROL), best_agent(results), named(results, "without V2G"))
    shown: list[Result] = [result for result in wanted if result is not None]
    lot = test.model.instance
    sections = []
    for result in shown:
        parts = [series(result, day, name) for name in ("gas_kw", "wind_used_kw", "ev_kw", "load_kw")]
        text = (
            f"{result.row.policy}, day {day}: its bound is the median of all. It saves ${money(result.returns[day])}."
        )
        picture = draw_powers(lot, *parts)
        sections.append(Section(f"One day: {result.row.policy}", text, [], picture, (8.6, 3.4)))
    rows = [{"policy": test.bound_name, "saved [$]": money(test.bound[day])}]
    rows += [{"policy": r.row.policy, "saved [$]": money(r.returns[day])} for r in shown]
    marks = {0: "bound"} | agent_rows([r.row for r in shown], 1)
    text = f"The generator on day {day}. The less it follows the net load, the more the cars do."
    return [*sections, Section("One day: the generator", text, rows, draw_gas(test, day, shown), (8.6, 3.4), marks)]


def _days(comparison: Comparison) -> Section:
    test, results = comparison.tests[0], ranked(comparison.results[0])
    rows = []
    for result in results:
        kept = count_violations(result.episodes, test.beta)
        rows.append(
            {
                "policy": result.row.policy,
                "steps violated": f"{kept.violated} / {kept.steps}",
                "limit": percent(kept.eps),
                "days violated": f"{kept.violated_days} / {kept.days}",
                "limit of days": percent(kept.eps_day),
                "missing [kWh/day]": f"{kept.unserved_kwh:.2f}",
            }
        )
    text = (
        "A day counts as violated if any of its steps does: with 96 steps that is nearly every day for a policy that "
        "lets one step in a hundred go wrong."
    )
    return Section("Violations by step and by day", text, rows, marks=agent_rows([result.row for result in results]))


def sections(comparison: Comparison) -> list[Section]:
    """All sections of the report, in the order in which a stranger needs them."""
    test, results = comparison.tests[0], comparison.results[0]
    returns, violations, earned = policy_figures(comparison, TERMS, TERM_COLORS)
    lot, config, meta = test.model.instance, comparison.meta["config"], comparison.meta
    text = (
        f"{test.size}, the same for every policy. Gap: bound minus return. Violated: steps with missing energy or an "
        f"overloaded line. Limit: upper limit of their mean probability over these days, at confidence "
        f"1 − {test.beta:g}. Shortfall: energy missing, per day."
    )
    facts = {
        "network": f"generator {lot.gas_max_kw:g} kW, {lot.turbines} turbines of {lot.turbine_kw:g} kW, "
        f"{lot.aggregators} aggregators, {lot.cars} cars",
        "cost of the generator": f"{meta['gas_scale']:.4f} x ({lot.gas_linear:g} P + {lot.gas_quadratic:g} P²) $/h",
        "margins tuned": f"{meta['tuned']['margin_without_v2g_sd']:g} and {meta['tuned']['margin_control_sd']:g} "
        "standard deviations of the wind (without V2G, predictive control)",
        "days for tuning": f"{config['train_days']}, none of the test set",
    }
    roles = ("tuning days", "test days", "training")
    return [
        Section("The problem", _PROBLEM, []),
        Section("The result in short", _summary(comparison), []),
        table(test, results, text),
        returns,
        violations,
        *_day(comparison),
        *differences(comparison),
        earned,
        _days(comparison),
        Section("What was run", "Everything below is also in `compare.json`.", run_rows(comparison, facts, roles)),
        Section("How to check", _CHECK, []),
        Section("What to keep in mind", _CAVEATS, []),
    ]
