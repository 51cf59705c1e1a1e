"""Every policy on the same scenarios: one row each, a certificate each, the proven bound above all of them."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import save, write_text
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.metrics import mean_interval, upper_limit
from v2g_env.rollout import Episodes, rollout

__all__ = [
    "Comparison",
    "Contestant",
    "Outcome",
    "Result",
    "Row",
    "TestSet",
    "check_roles",
    "evaluate",
    "named",
    "paired",
    "read_config",
    "slug",
    "write_results",
]

Floats = NDArray[np.float64]
_Config = TypeVar("_Config")


class Outcome(NamedTuple):
    """What a problem makes of a rollout; m periods (days, weeks, seasons).

    Attributes:
        returns: (m,) reward of every period [$].
        violated: violations counted.
        trials: how many there could have been.
        limit: upper confidence limit of their probability.
        shortfall_kwh: mean energy a period that was promised or asked for and not there [kWh].
    """

    returns: Floats
    violated: float
    trials: int
    limit: float
    shortfall_kwh: float


@dataclass(frozen=True)
class TestSet:
    """Scenarios that all policies share.

    Attributes:
        title: for people.
        size: its periods in words.
        model: the problem's model under the set's law.
        with_plan: the same model showing another plan; None gives ``model``.
        scenario: the drawn episodes.
        seed: they were drawn with.
        bound: (m,) proven upper limit of each period [$]: mean(bound) limits any policy's mean return; if ``pathwise``,
            bound limits return minus ``control`` in every single period.
        units: (m,) label of the independent unit (real day, month), or None if every period is one.
        beta: confidence parameter of the violation limit.
        outcome: returns and violations of a rollout.
        terms: names of the money terms.
        trial: what can be violated, in the plural.
        days: periods of an episode.
        pathwise: whether the bound holds period by period, or for the mean alone.
        per: what a period is.
        bound_name: what the bound is called.
        control: penalty z of a rollout (m,) [$] that belongs to the bound, of mean zero for every policy; None: zero.
        oracle: (m,) proven limit with perfect information [$], where ``bound`` is a lower one.
    """

    title: str
    size: str
    model: Any
    with_plan: Callable[[Any], Any]
    scenario: Any
    seed: int
    bound: Floats
    units: NDArray[np.int64] | None
    beta: float
    outcome: Callable[[Episodes], Outcome]
    terms: Sequence[str]
    trial: str = "days"
    days: int = 1
    pathwise: bool = True
    per: str = "day"
    bound_name: str = "proven bound"
    control: Callable[[Episodes], Floats] | None = None
    oracle: Floats | None = None

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
        decision_s: time of a decision [s], where the evaluation cannot measure it.
    """

    name: str
    kind: str
    make: Callable[[Any], Policy]
    promised: float | None = None
    promised_law: str = ""
    plan: Floats | None = None
    sha256: str | None = None
    decision_s: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the comparison; money in $ per period (day, week, season), limits at 95 % unless said otherwise.

    Attributes:
        test_set, law, policy, kind: what was evaluated on what.
        per: what a period is.
        days: periods; independent: independent units among them.
        mean_usd, low_usd, high_usd: mean return and its interval.
        gap_usd, gap_low_usd, gap_high_usd: mean of bound - (return - penalty), the certified gap, and its interval.
        gap_limit_usd: one-sided upper limit of the certified gap (asymptotic).
        gap_percent: certified gap in percent of the mean bound.
        trial: what can be violated: "days", "hours", "visits".
        violated: violations among ``trials``.
        frequency, limit: share of them, and its upper limit at confidence 1 - beta.
        promised: certified limit, if the law is the one it speaks of.
        shortfall_kwh: mean energy fixed and not there.
        decision_us: mean time per decision [microseconds], in one batched call per step.
    """

    test_set: str
    law: str
    policy: str
    kind: str
    per: str
    days: int
    independent: int
    mean_usd: float
    low_usd: float
    high_usd: float
    gap_usd: float
    gap_low_usd: float
    gap_high_usd: float
    gap_limit_usd: float
    gap_percent: float
    trial: str
    violated: float
    trials: int
    frequency: float
    limit: float
    promised: float | None
    shortfall_kwh: float
    decision_us: float


@dataclass(frozen=True)
class Result:
    """A row, the returns it was made from, the mean of every money term, and the certified gap of every period [$]."""

    row: Row
    returns: Floats
    money: dict[str, float]
    episodes: Episodes
    gap: Floats


@dataclass(frozen=True)
class Comparison:
    """All results, by test set, and the tables' raw material; ``meta["problem"]`` says whose report it is.

    Attributes:
        tests: the test sets.
        results: for every test set those of all policies.
        plans: solutions by name, with their certificates.
        meta: configuration, hashes and bounds as they stand in compare.json.
        reference: start of the name of the policy that agents are set against.
    """

    tests: tuple[TestSet, ...]
    results: tuple[tuple[Result, ...], ...]
    plans: Mapping[str, Any]
    meta: Mapping[str, Any]
    reference: str


def read_config(cls: type[_Config], path: str | Path) -> _Config:
    """Build a comparison's configuration from a TOML file; unknown keys raise InvalidInputError."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{path} = unreadable ({error}); allowed: TOML") from None
    names = [each.name for each in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        require(key in names, f"key of {path}", key, ", ".join(names))
    return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


def check_roles(seeds: Sequence[int], count: int, agents: Sequence[str], train_steps: Sequence[int]) -> None:
    """Raise InvalidInputError unless seeds are ``count`` different numbers and every agent has its number of steps."""
    different = len(seeds) == count and len(set(seeds)) == count
    require(different, "seeds", seeds, f"{count} different numbers, one per role")
    for seed in seeds:
        number("seeds", seed, 0, 2**32 - 1, integer=True)
    require(len(train_steps) >= len(agents), "train_steps", train_steps, "one number for each of agents")
    for steps in train_steps:
        number("train_steps", steps, 1, 10**9, integer=True)


def slug(*words: str) -> str:
    """Words as a file name."""
    return "-".join("".join(c if c.isalnum() else "-" for c in word.lower()).strip("-") for word in words)


def evaluate(contestant: Contestant, test: TestSet) -> Result:
    """Run one contestant on one test set.

    Args:
        contestant: the policy.
        test: the test set.

    Raises:
        InvalidInputError: if a policy beats the proven bound on any day: then one of the two is wrong.
    """
    model = test.with_plan(contestant.plan)
    episodes = rollout(model, test.scenario, contestant.make(model))
    if contestant.decision_s is not None:
        episodes = episodes._replace(decision_s=contestant.decision_s)
    returns, violated, trials, limit, shortfall = test.outcome(episodes)
    gap = test.bound - returns
    if test.control is not None:
        gap = gap + test.control(episodes)
    if test.pathwise and gap.min() < -1e-9:
        worst = int(gap.argmin())
        raise InvalidInputError(
            f"return of {contestant.name} in scenario {worst} = {test.bound[worst] - gap[worst]:.6f}, penalty "
            f"included; allowed: at most the proven bound {test.bound[worst]:.6f}"
        )
    mean = mean_interval(returns, test.units)
    law = test.model.law.name
    bound_mean = mean_interval(test.bound, test.units).mean
    left = mean_interval(gap, test.units)
    row = Row(
        test_set=test.title,
        law=law,
        policy=contestant.name,
        kind=contestant.kind,
        per=test.per,
        days=len(returns),
        independent=len(returns) if test.units is None else len(np.unique(test.units)),
        mean_usd=mean.mean,
        low_usd=mean.low,
        high_usd=mean.high,
        gap_usd=left.mean,
        gap_low_usd=left.low,
        gap_high_usd=left.high,
        gap_limit_usd=upper_limit(gap, test.units),
        gap_percent=100.0 * left.mean / bound_mean if bound_mean > 0.0 else float("nan"),
        trial=test.trial,
        violated=violated,
        trials=trials,
        frequency=violated / trials,
        limit=limit,
        promised=contestant.promised if law == contestant.promised_law else None,
        shortfall_kwh=shortfall,
        decision_us=1e6 * episodes.decision_s,
    )
    money = dict(zip(test.terms, (episodes.money.mean(axis=0) / test.days).tolist(), strict=True))
    return Result(row, returns, money, episodes, gap)


def paired(first: Result, second: Result, test: TestSet) -> tuple[float, float]:
    """Mean difference of two policies on common scenarios and half its 95 % interval [$]."""
    interval = mean_interval(first.returns - second.returns, test.units)
    return interval.mean, (interval.high - interval.low) / 2.0


def named(results: Sequence[Result], start: str) -> Result | None:
    """The first result of a policy whose name begins so."""
    return next((result for result in results if result.row.policy.startswith(start)), None)


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
