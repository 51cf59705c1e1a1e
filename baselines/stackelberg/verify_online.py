"""Certificates of the bound on every policy's mean reward: one search tree for each day of the months.

The check draws the months again from their seed, proves from the instance alone that the discounted bids are above
every mean payment (``discount.worst_ratio``), and bounds every day's game by its tree, in interval arithmetic, as the
certificate of a single optimum is checked. It contains no solver. A day's check takes some tenths of a second: months
are certified one by one, from the first of a seed, for as many as are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from baselines.certificate import FORMAT, CertificateError, Report
from baselines.checking import expect, near, whole_number
from baselines.stackelberg.certify import digest
from baselines.stackelberg.days import Days
from baselines.stackelberg.discount import discounted_game, worst_ratio
from baselines.stackelberg.online import OnlineSolver
from baselines.stackelberg.programs import solve
from baselines.stackelberg.verify import OPTIMUM_FIELDS, verify_optimum
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.stackelberg.game import Requirement
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.scenario import Scenario, law, sample

__all__ = ["bound_certificate", "verify_online"]

Data = Mapping[str, Any]

_KIND = "online bound"
_FIELDS = {
    "format",
    "problem",
    "kind",
    "instance",
    "instance_sha256",
    "digest",
    "sample",
    "requirements",
    "days",
    "mean_bound_usd",
}
_SAMPLE = {"law", "seed", "n_samples"}
_MOST_MONTHS = 10_000
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|


def bound_certificate(
    solver: OnlineSolver, seed: int, months: int, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """JSON certificate of the mean bound over the first months of a seed.

    Args:
        solver: of the instance's days; days that it has solved are not solved again.
        seed: of ``scenario.sample``.
        months: number of months.
        progress: called with a line of text after every month.

    Raises:
        InvalidInputError: for drivers with habits, a number of months below 1 or a negative seed.
    """
    lot = solver.instance
    number("habit_weight", lot.habit_weight, 1.0, 1.0)
    number("months", months, 1, _MOST_MONTHS, integer=True)
    scenario = sample(lot, months, seed)
    entries = []
    for i, d in np.ndindex(months, lot.days):
        price, weekend, plug = scenario.price[i, d], bool(scenario.weekend[i, d]), int(scenario.plug[i, d])
        game, found = solver.game(price, weekend, plug), solver(price, weekend, plug)
        if found.game != game:  # the solution of prices that look the same
            found = solve(game, solver.gap, solver.time_limit_s)
        entries.append({name: found.certificate[name] for name in sorted(OPTIMUM_FIELDS)})
        if progress is not None and d == lot.days - 1:
            progress(f"{i + 1} of {months} months bounded")
    certificate: dict[str, Any] = {
        "format": FORMAT,
        "problem": "stackelberg",
        "kind": _KIND,
        "instance": lot.to_dict(),
        "instance_sha256": lot.hash,
        "sample": {"law": "generator", "seed": int(seed), "n_samples": int(months)},
        "requirements": [asdict(each) for each in solver.requirements],
        "days": entries,
        "mean_bound_usd": _mean(lot, scenario, [entry["bound_usd"] for entry in entries]),
    }
    certificate["digest"] = digest(certificate)
    return certificate


def verify_online(certificate: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "online bound"; see baselines.certificate.check.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(certificate.get("kind") == _KIND, "kind", certificate.get("kind"), _KIND)
    expect(set(certificate) == _FIELDS, "fields", sorted(map(str, certificate)), sorted(_FIELDS))
    expect(certificate["digest"] == digest(certificate), "digest", certificate["digest"], "that of the content")
    lot = _instance(certificate, instance)
    weight = lot.habit_weight
    expect(weight == 1.0, "habit_weight", weight, "1: for drivers with habits days hang together")
    origin, entries = certificate["sample"], certificate["days"]
    expect(isinstance(origin, Mapping) and set(origin) == _SAMPLE, "sample", origin, sorted(_SAMPLE))
    months = whole_number("sample.n_samples", origin["n_samples"], 1, _MOST_MONTHS)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    wanted = months * lot.days  # before months are drawn: no forged number makes this slow
    ok = isinstance(entries, list) and len(entries) == wanted
    expect(ok, "number of days", len(entries) if isinstance(entries, list) else entries, wanted)
    requirements = _requirements(certificate["requirements"])
    ratio = worst_ratio(lot, requirements)
    expect(ratio >= 1.0, "requirements", f"bids of {ratio!r} of a mean payment", "bids above every mean payment")
    try:
        law(origin["law"])
        scenario = sample(lot, months, seed)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    bounds = []
    for number_, (i, d) in enumerate(np.ndindex(months, lot.days)):
        entry = entries[number_]
        ok = isinstance(entry, Mapping) and set(entry) == OPTIMUM_FIELDS
        expect(ok, f"day {d + 1} of month {i + 1}", type(entry).__name__, sorted(OPTIMUM_FIELDS))
        weekend, plug = bool(scenario.weekend[i, d]), int(scenario.plug[i, d])
        game = discounted_game(lot, requirements, scenario.price[i, d], weekend, plug)
        try:
            bounds.append(verify_optimum(entry, game).values["bound_usd"])
        except (CertificateError, ArithmeticError) as error:
            raise CertificateError(f"day {d + 1} of month {i + 1}: {error}") from None
    mean = _mean(lot, scenario, bounds)
    near("mean_bound_usd", certificate["mean_bound_usd"], mean, _MONEY)
    claims = (
        f"at no share of plugged drivers does a bid earn more on average than the discounted bid (ratio {ratio:.9f})",
        f"given the prices and the weather of these {months} months of {lot.days} days of {origin['law']}, no policy "
        f"earns more than {mean:.4f} $ a day above no rebates, in the mean over cars and signals",
    )
    return Report(_KIND, claims, {"mean_bound_usd": mean, "days": float(wanted)})


def _mean(lot: Instance, scenario: Scenario, bounds: Sequence[float]) -> float:
    """Mean over the days of bound less reference [$]."""
    days = Days(Model(lot))
    kind = days.kind(scenario.weekend.ravel() > 0, scenario.plug.ravel())
    return float((np.array(bounds) - days.reference(kind, scenario.price.reshape(-1, 24))).mean())


def _requirements(rows: Any) -> tuple[Requirement, ...]:
    expect(isinstance(rows, list), "requirements", type(rows).__name__, "a list of tables")
    names = {field.name for field in fields(Requirement)}
    result = []
    for row in rows:
        expect(isinstance(row, Mapping) and set(row) == names, "requirement", row, sorted(names))
        try:
            result.append(Requirement(**row))
        except InvalidInputError as error:
            raise CertificateError(f"requirement: {error}") from None
    return tuple(result)


def _instance(certificate: Data, instance: Instance | None) -> Instance:
    try:
        written = Instance.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    said = certificate["instance_sha256"]
    expect(written.hash == said, "instance_sha256", said, written.hash)
    if instance is not None:
        found = getattr(instance, "hash", None)
        expect(found == written.hash, "instance", written.hash, f"the given one, {found}")
    return written
