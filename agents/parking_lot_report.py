"""What the report of a parking-lot comparison says: its sections, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.compare import Comparison, Result, TestSet, named
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
from agents.parking_lot import CONTROL
from agents.parking_lot_figures import TERM_COLORS, TERMS, draw_day, profiles
from agents.report import Section
from v2g_env.metrics import mean_interval

__all__ = ["LEAD", "TITLE", "sections"]

TITLE = "Parking lot as storage: every policy against a proven bound"
LEAD = (
    "Money made and promises kept by certified plans, predictive control, simple rules and trained agents, "
    "on the same days for all."
)
_ROBUST = "certified plan, robust"

_PROBLEM = """
Parked electric cars can store energy for a neighbouring community: the lot takes surplus solar power while it is
cheap and hands it back when power is dear, but drivers leave when they want. How much will be stored has to be fixed
before it is known which cars will still be there; if they cannot hold it, the day is violated and every missing kWh
pays the imbalance price. A policy is judged by the money it makes per day and by how often it violates, and both are
set beside numbers that are proven: an upper bound on what any policy could earn, and a certified limit on how often a
plan is violated.
"""
_CHECK = """
Every number that is called proven or certified comes with a file in the folder `certificates` beside this page, and
`v2g check FILE` recomputes it from the data in the file, without a solver and without trusting the program that wrote
it. For all at once: `v2g check certificates/*.json`.

- `v2g check certificates/plan-robust.json` and `plan-relaxed.json`: the plan is feasible, optimal for its samples,
and the promised limit follows from its support list.
- `v2g check certificates/bound-generated-days.json` (and the other `bound-` files): the mean bound follows from the
penalty or the multipliers in the file.
- `v2g check certificates/policy-….json`: the recorded actions, replayed, earn what the table says and violate that
often; the gap in the file is the one to hindsight.

The tables are in `compare.csv`, with configuration and seeds in `compare.json`; figures are in `figures`.
"""
_BOUNDS = """
Hindsight is what the best path of each day earns for somebody who sees the whole day first. The penalised bound (Brown,
Smith and Sun, 2010) charges him for that knowledge: from his money a penalty is taken that pays back, in the mean, for
everybody who cannot see the future, whatever he does. What remains at best bounds the mean return of every policy, on
any number of days up to chance. The penalty is a sum of surprises of a critic, fitted and frozen before these days
were drawn. Day by day no return minus its penalty exceeds the bound of the day; the gap in the table is the mean
difference, and its interval is narrower than that of the return, for the penalty takes the luck of the days out.
"""
_CAVEATS = """
- The problem is that of Pantazis, Mignoni, Carli, Dotoli and Grammatico, arXiv:2511.09427, of which only the abstract
could be read. The claims there are theirs; equations, data and parameters here are this project's own.
- Arrivals and departures come from ACN-Data (Lee, Li, Low, 2019). How much each car can take is synthetic, and so are
tariff and community.
- {days} held-out real days are few: they show what is plausible, not more. Redraws of one day share its arrivals and
departures, so intervals are clustered by day, and only one draw of each day counts for the violation limit.
- A promise holds for the law its samples were drawn from. No promise is made for the real days.
- Intervals of means are asymptotic (Student). Violation limits are exact, each for itself: they are not corrected for
the number of policies looked at.
- A violation limit above the promise is no contradiction: it is all that so many days can show.
- The penalised bound of the generated days still knows more than a policy can: part of the gap is the price of not
knowing. On the held-out real days the bound is that of hindsight, and that part is larger.
- Critic control is fitted on sampled days of the generator (its critic is the one in the penalty), the predictive
control's margin is tuned on such days, too. Neither is promised anything.
- Decision time is wall time per decision within one batched call over all days, on the machine of this run.
"""


def _summary(comparison: Comparison) -> str:
    """The first test set in three sentences."""
    test, results = comparison.tests[0], ranked(comparison.results[0])
    best, robust = results[0].row, named(results, _ROBUST)
    bound = mean_interval(test.bound, test.units).mean
    where = test.title.lower()
    limit = f"On the {best.days} {where} no policy whatsoever can earn more than ${bound:.2f} a day on average."
    if test.control is not None:
        limit = (
            f"No policy whatsoever earns more on average over {where} than the mean of a proven bound, "
            f"which is ${bound:.2f} a day on these {best.days}."
        )
    text = (
        f"{limit} Nearest comes {best.policy} with ${best.mean_usd:.2f} {half(best.low_usd, best.high_usd)}, "
        f"{best.gap_percent:.0f} % below, and it violates on {percent(best.frequency)} of the days."
    )
    if test.oracle is not None:
        text += f" Who knew every day beforehand could earn up to ${mean_interval(test.oracle, test.units).mean:.2f}."
    if robust is not None and robust.row.promised is not None:
        row = robust.row
        text += (
            f" The robust certified plan earns ${row.mean_usd:.2f} {half(row.low_usd, row.high_usd)}; "
            f"at most {percent(row.promised)} of days violated were promised, {percent(row.frequency)} were seen."
        )
    return text


def _run_rows(comparison: Comparison) -> list[dict[str, str]]:
    config, lot = comparison.meta["config"], comparison.tests[0].model.instance
    facts = {
        "lot": f"{lot.bays} bays, {lot.steps} steps of {lot.step_h:g} h from {lot.open_h:g} to {lot.close_h:g} h; "
        f"stored energy fixed {lot.gate_closure_steps} step ahead",
        "samples of the programs, N": f"{config['n_samples']} days",
        "prices of violation tried, rho": ", ".join(f"${rho:g}" for rho in config["rho"]),
        "days for tuning": f"{config['train_days']} generated days, of none of the test sets",
    }
    for test, results in zip(comparison.tests, comparison.results, strict=True):
        row = results[0].row
        redraws = "" if row.days == row.independent else f", redraws of {row.independent} days"
        facts[test.title.lower()] = f"{row.days} days{redraws}; law {row.law}"
    return run_rows(comparison, facts, ("programs", "tuning days", "generated days", "real days", "training"))


def _promises(comparison: Comparison) -> Section:
    rows = []
    for name, plan in comparison.plans.items():
        risk, program = plan.certificate["risk"], plan.certificate["program"]
        rows.append(
            {
                "certificate": name,
                "rho [$]": program["rho"],
                "samples N": plan.certificate["sample"]["n_samples"],
                "support": len(plan.certificate["support"]),
                "promised limit eps": percent(risk["eps"]),
                "planned [$/day]": money(plan.value),
            }
        )
    text = (
        "Each plan is the best one, at expected offers, for N sampled days: the robust plan is feasible on all of "
        "them, the relaxed plan may violate some, at the price rho per charger of violation. A few of the days, "
        "the support, determine the plan; from their number follows a limit eps on the probability that a new day "
        f"violates it, whatever the law of the days is. The {risk['looks']} programs tried share the confidence."
    )
    return Section("Certified plans", text, rows)


def _table(test: TestSet, results: Sequence[Result]) -> Section:
    first = results[0].row
    kind = f"{first.days} days"
    if first.days != first.independent:
        kind = f"{first.days} redraws of {first.independent} days, one of each counted for violations"
    gap = "bound minus return" if test.control is None else "bound minus (return minus penalty), see below"
    text = (
        f"{kind}, the same for every policy. Gap: {gap}. Limit: Clopper-Pearson upper limit of the "
        f"violation probability at confidence 1 − {test.beta:g}. Promised: certified before, "
        "where a promise speaks of this law. Shortfall: energy fixed and not there, per day."
    )
    return table(test, results, text)


def _bounds(comparison: Comparison) -> Section:
    """What the bounds of both test sets are, side by side."""
    rows = []
    for test in comparison.tests:
        bound = mean_interval(test.bound, test.units)
        line = {"days": test.title.lower(), "bound": test.bound_name}
        line |= {"[$/day], 95 %": f"{money(bound.mean)} {half(bound.low, bound.high)}", "hindsight [$/day], 95 %": ""}
        if test.oracle is not None:
            oracle = mean_interval(test.oracle, test.units)
            line["hindsight [$/day], 95 %"] = f"{money(oracle.mean)} {half(oracle.low, oracle.high)}"
        rows.append(line)
    return Section("What nobody can earn", _BOUNDS, rows)


def _figures(comparison: Comparison) -> list[Section]:
    returns, violations, parts = policy_figures(comparison, TERMS, TERM_COLORS)
    return [returns, violations, _day(comparison), parts]


def _day(comparison: Comparison) -> Section:
    """The day whose bound in hindsight is the median: neither the best nor the worst."""
    test, results = comparison.tests[0], comparison.results[0]
    known = test.bound if test.oracle is None else test.oracle
    day = int(np.argsort(known, kind="stable")[len(known) // 2])
    lot = test.model.instance
    chosen = [named(results, name) for name in (_ROBUST, CONTROL, "critic control")] + [best_agent(results)]
    shown = [result for result in chosen if result is not None]
    picture = draw_day(lot, test.scenario.capacity_kwh[day, : lot.steps], profiles(test, shown, day))
    rows = [{"policy": "proven bound (hindsight)", "return [$]": money(known[day]), "shortfall [kWh]": ""}]
    for result in shown:
        short = result.episodes.shortfall_kwh[day]
        cells = (result.row.policy, money(result.returns[day]), money(short))
        rows.append(dict(zip(rows[0], cells, strict=True)))
    text = (
        f"{test.title}, number {day}: its hindsight bound is the median, so it is neither an easy day nor a hard one. "
        "Grey is what the cars that stay can hold; cars whose departure is not yet known make it uncertain beforehand. "
        "The strip on top is the retail price. The hindsight optimum knows the day: no policy can earn more on it."
    )
    marks = {0: "bound"} | agent_rows([result.row for result in shown], 1)
    return Section("One day in detail", text, rows, picture, (8.6, 3.6), marks)


def sections(comparison: Comparison) -> list[Section]:
    """All sections of the report, in the order in which a stranger needs them."""
    return [
        Section("The problem", _PROBLEM, []),
        Section("The result in short", _summary(comparison), []),
        *(_table(test, results) for test, results in zip(comparison.tests, comparison.results, strict=True)),
        _bounds(comparison),
        *_figures(comparison),
        *differences(comparison),
        _promises(comparison),
        Section("What was run", "Everything below is also in `compare.json`.", _run_rows(comparison)),
        Section("How to check", _CHECK, []),
        Section("What to keep in mind", _CAVEATS.format(days=comparison.results[-1][0].row.independent), []),
    ]
