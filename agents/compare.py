"""Every policy on the same scenarios: one row each, a certificate each, the proven bound above all of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import save, write_text
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError
from v2g_env.metrics import mean_interval, upper_limit
from v2g_env.rollout import Episodes, rollout

__all__ = ["Contestant", "Result", "Row", "TestSet", "evaluate", "table_lines", "write_results"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TestSet:
    """Scenarios that all policies share.

    Attributes:
        title: for people.
        model: the problem's model under the set's law.
        with_plan: the same model showing another plan; None gives ``model``.
        scenario: the drawn episodes.
        seed: they were drawn with.
        bound: (n,) proven upper limit on any policy's return [$].
        units: (n,) label of the independent unit (real day), or None if every episode is one.
        beta: confidence parameter of the violation limit.
    """

    title: str
    model: Any
    with_plan: Callable[[Any], Any]
    scenario: Any
    seed: int
    bound: Floats
    units: NDArray[np.int64] | None
    beta: float

    __test__ = False  # not a test class, whatever its name says to pytest


@dataclass(frozen=True)
class Contestant:
    """A policy to be compared.

    Attributes:
        name: for people.
        kind: "baseline" or "agent".
        make: builds the policy for a model.
        promised: certified limit on its violation probability under the law ``promised_law``; None without one.
        promised_law: law that the promise is about.
        plan: the plan that its environment carries; None for the comparison's own.
        sha256: hash of a trained policy's bundle.
    """

    name: str
    kind: str
    make: Callable[[Any], Policy]
    promised: float | None = None
    promised_law: str = ""
    plan: Floats | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of the comparison; money in $/day, limits at 95 % unless said otherwise.

    Attributes:
        test_set, law, policy, kind: what was evaluated on what.
        days: episodes; independent: independent units among them.
        mean_usd, low_usd, high_usd: mean return and its interval.
        gap_usd, gap_limit_usd: mean of bound minus return, and its one-sided upper limit (asymptotic).
        gap_percent: gap in percent of the bound (doing nothing earns zero).
        violated: days with a violation among ``violation_days`` (one draw per independent unit).
        frequency, limit: share of them, and its Clopper-Pearson upper limit at confidence 1 - beta.
        promised: certified limit, if the law is the one it speaks of.
        shortfall_kwh: mean energy fixed and not there.
        decision_us: mean time per decision [microseconds], in one batched call per step.
    """

    test_set: str
    law: str
    policy: str
    kind: str
    days: int
    independent: int
    mean_usd: float
    low_usd: float
    high_usd: float
    gap_usd: float
    gap_limit_usd: float
    gap_percent: float
    violated: int
    violation_days: int
    frequency: float
    limit: float
    promised: float | None
    shortfall_kwh: float
    decision_us: float


@dataclass(frozen=True)
class Result:
    """A row, the returns it was made from, and the mean of every money term [$]."""

    row: Row
    returns: Floats
    money: dict[str, float]
    episodes: Episodes


def first_of_each(units: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """Index of one episode per independent unit, (units,)."""
    if units is None:
        return np.arange(count)
    return np.sort(np.unique(units, return_index=True)[1])


def evaluate(contestant: Contestant, test: TestSet, tolerance: float, terms: Sequence[str]) -> Result:
    """Run one contestant on one test set.

    Raises:
        InvalidInputError: if a policy beats the proven bound on any path: then one of the two is wrong.
    """
    model = test.with_plan(contestant.plan)
    episodes = rollout(model, test.scenario, contestant.make(model))
    returns = episodes.returns
    gap = test.bound - returns
    if gap.min() < -1e-9:
        worst = int(gap.argmin())
        raise InvalidInputError(
            f"return of {contestant.name} in scenario {worst} = {returns[worst]:.6f}; "
            f"allowed: at most the proven bound {test.bound[worst]:.6f}"
        )
    mean = mean_interval(returns, test.units)
    single = first_of_each(test.units, len(returns))
    bad = int((episodes.excess[single] > tolerance).sum())
    law = test.model.law.name
    bound_mean = mean_interval(test.bound, test.units).mean
    row = Row(
        test_set=test.title,
        law=law,
        policy=contestant.name,
        kind=contestant.kind,
        days=len(returns),
        independent=len(single),
        mean_usd=mean.mean,
        low_usd=mean.low,
        high_usd=mean.high,
        gap_usd=bound_mean - mean.mean,
        gap_limit_usd=upper_limit(gap, test.units),
        gap_percent=100.0 * (bound_mean - mean.mean) / bound_mean,
        violated=bad,
        violation_days=len(single),
        frequency=bad / len(single),
        limit=float(risk.hold_out(len(single), bad, test.beta)),
        promised=contestant.promised if law == contestant.promised_law else None,
        shortfall_kwh=float(episodes.shortfall_kwh.mean()),
        decision_us=1e6 * episodes.decision_s,
    )
    money = dict(zip(terms, episodes.money.mean(axis=0).tolist(), strict=True))
    return Result(row, returns, money, episodes)


def table_lines(results: Sequence[Result], bound: Floats) -> list[str]:
    """The comparison of one test set for the terminal, at most 80 characters wide; agents carry a star."""
    row = results[0].row
    unit = "days" if row.days == row.independent else f"redraws of {row.independent} days"
    cells = [["policy", "$/day", "±95%", "gap", "violated", "limit", "promised", "µs"]]
    for result in sorted(results, key=lambda each: each.row.mean_usd):
        r = result.row
        cells.append(
            [
                f"{r.policy} *" if r.kind == "agent" else r.policy,
                f"{r.mean_usd:.2f}",
                f"{(r.high_usd - r.low_usd) / 2:.2f}",
                f"{r.gap_percent:.0f}%",
                f"{100 * r.frequency:.1f}%",
                f"{100 * r.limit:.1f}%",
                "" if r.promised is None else f"{100 * r.promised:.1f}%",
                f"{r.decision_us:.1f}",
            ]
        )
    cells.append(["proven bound (hindsight)", f"{bound.mean():.2f}", "", "0%", "", "", "", ""])
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = [f"{row.test_set}: {row.days} {unit}, the same for every policy"]
    for line in cells:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append(f"  {line[0].ljust(widths[0])}  {numbers}".rstrip())
    lines.insert(2, "  " + "-" * (sum(widths) + 2 * len(widths) - 2))
    return lines


def write_results(
    out: Path, results: Sequence[Result], certificates: dict[str, dict[str, Any]], meta: dict[str, Any]
) -> None:
    """Write compare.csv, compare.json and certificates/<name>.json; every file whole or not at all."""
    names = [field.name for field in fields(Row)]
    terms = sorted({term for result in results for term in result.money})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*names, *(f"{term}_usd" for term in terms)])
    writer.writeheader()
    rows = []
    for result in results:
        flat = asdict(result.row) | {f"{term}_usd": value for term, value in result.money.items()}
        writer.writerow(flat)
        rows.append(flat)
    for stale in (out / "certificates").glob("*.json"):
        if stale.stem not in certificates:  # of an earlier run with other policies
            stale.unlink()
    for name, certificate in certificates.items():
        save(certificate, out / "certificates" / f"{name}.json")
    write_text(out / "compare.csv", stream.getvalue())
    write_text(out / "compare.json", json.dumps({"meta": meta, "rows": rows}, indent=1))
