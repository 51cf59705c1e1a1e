"""Certificates of many days: what no policy can exceed on them, and what a policy did, earned and violated.

The checks draw the days again from their seed, rebuild every day's program for its bound, or replay the recorded
actions. Actions are the policy's own record: that it chose them from observations is not part of the claim, the hash of
a trained policy names it.

What is counted: steps in which energy is missing or a line is overloaded, the environment's own violation. Steps of a
day depend on each other, so two limits share beta: ``eps`` for the mean conditional probability over these very steps
(risk.adaptive), and ``eps_day`` for the probability of a fresh day with any violation (risk.hold_out).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from baselines import risk
from baselines.certificate import FORMAT, CertificateError, Report, pack, unpack
from baselines.checking import expect, near, numbers
from baselines.duality import linear_bound
from baselines.scheduling.day import Protection, known_day
from baselines.scheduling.hindsight import Hindsight
from baselines.scheduling.program import Task, build
from baselines.scheduling.verify_linear import check_groups
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.rollout import Episodes, Recorded, rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import VIOLATION_TOLERANCE, Model
from v2g_env.scheduling.scenario import Law, Scenario, law, sample

__all__ = [
    "BOUND_KIND",
    "POLICY_KIND",
    "Kept",
    "bounds_certificate",
    "check_bounds",
    "check_policy",
    "count_violations",
    "head",
    "law_from",
    "policy_certificate",
]

Data = Mapping[str, Any]

BOUND_KIND, POLICY_KIND = "days bound", "days policy"
_COMMON = {"format", "problem", "kind", "instance", "instance_sha256", "law", "sample"}
_FIELDS = {
    BOUND_KIND: _COMMON | {"groups", "lines", "dual", "mean_bound_usd"},
    POLICY_KIND: _COMMON | {"policy", "policy_sha256", "actions", "mean_return_usd", "risk"},
}
_MOST_DAYS = 20_000  # no forged number makes a check endless
_MOST_NUMBERS = 10**8  # of all days together
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|


class Kept(NamedTuple):
    """How often a policy violated; see the module for the limits.

    Attributes:
        steps, violated: steps, and those with a violation.
        eps: limit of the mean conditional probability of a violated step.
        days, violated_days: days, and those with any violation.
        eps_day: limit of the probability of a day with any violation.
        unserved_kwh: mean energy a day that was missing.
    """

    steps: int
    violated: int
    eps: float
    days: int
    violated_days: int
    eps_day: float
    unserved_kwh: float


def count_violations(episodes: Episodes, beta: float) -> Kept:
    """Count the violations of a rollout on independent days; each of the two limits takes half of beta.

    Raises:
        InvalidInputError: beta is outside (0, 1).
    """
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    over = episodes.facts[:, :, 0] > VIOLATION_TOLERANCE
    days, some = len(over), int(over.any(axis=1).sum())
    return Kept(
        steps=over.size,
        violated=int(over.sum()),
        eps=risk.adaptive(over.size, int(over.sum()), beta / 2.0),
        days=days,
        violated_days=some,
        eps_day=float(risk.hold_out(days, some, beta / 2.0)),
        unserved_kwh=float(episodes.shortfall_kwh.mean()),
    )


def bounds_certificate(model: Model, seed: int, top: Hindsight) -> dict[str, Any]:
    """JSON certificate of the mean bound over the days of ``sample(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the days.
        top: their bounds.
    """
    rows = [np.insert(each.lines, 0, day, axis=1) for day, each in enumerate(top.answers)]
    return head(model, BOUND_KIND, seed, len(top.answers)) | {
        "groups": pack(np.stack([each.label for each in top.answers])),
        "lines": pack(np.concatenate(rows)),
        "dual": pack(np.concatenate([each.dual for each in top.answers])),
        "mean_bound_usd": float(top.bound_usd.mean()),
    }


def policy_certificate(
    model: Model, seed: int, episodes: Episodes, policy: str, beta: float, sha256: str | None = None
) -> dict[str, Any]:
    """JSON certificate of a policy on the days of ``sample(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the days.
        episodes: the policy's rollout on them.
        policy: its name.
        beta: confidence parameter of the limits.
        sha256: hash of a trained policy's bundle.
    """
    return head(model, POLICY_KIND, seed, len(episodes.actions)) | {
        "policy": policy,
        "policy_sha256": sha256,
        "actions": pack(episodes.actions),
        "mean_return_usd": float(episodes.returns.mean()),
        "risk": {"beta": beta, **count_violations(episodes, beta)._asdict()},
    }


def check_bounds(data: Data, instance: Instance) -> Report:
    """Check one certificate of kind "days bound".

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    model, days = _drawn(data, instance, BOUND_KIND)
    n = len(days.load_kw)
    label = numbers("groups", data["groups"], (n, instance.cars), "<i8")
    lines, dual = unpack(data["lines"]), unpack(data["dual"])
    ok = lines.ndim == 2 and lines.shape[1] == 3 and lines.dtype.str == "<i8"
    expect(ok, "shape of lines", lines.shape, "(m, 3): day, line, step")
    most = np.array([n, len(instance.line_limit_kw), instance.steps])
    expect(bool(((lines >= 0) & (lines < most)).all()), "lines", lines.tolist(), "days, lines and steps that exist")
    expect(len(np.unique(lines, axis=0)) == len(lines), "lines", len(lines), "each once")
    expect(dual.ndim == 1 and dual.dtype.str == "<f8", "dual", dual.shape, "one row of numbers")
    expect(bool(np.isfinite(dual).all()), "dual", "not finite", "finite numbers")
    total, at = 0.0, 0
    for row in range(n):
        day = known_day(model, days, row)
        check_groups(instance, day, label[row])
        task = Task(day, Protection(), "cost", True, model.gas_scale)
        try:
            program = build(instance, task, label[row], lines[lines[:, 0] == row][:, 1:], np.zeros(0, np.int64))
        except InvalidInputError as error:
            raise CertificateError(str(error)) from None
        count = len(program.low)
        expect(at + count <= len(dual), "length of dual", len(dual), "one multiplier for every row of every day")
        parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
        total += instance.calibrated_usd + linear_bound(*parts, dual[at : at + count])
        at += count
    expect(at == len(dual), "length of dual", len(dual), at)
    mean = total / n
    near("mean_bound_usd", data["mean_bound_usd"], mean, _MONEY)
    not_below = data["mean_bound_usd"] >= mean - 1e-12 * (1.0 + abs(mean))
    expect(not_below, "mean_bound_usd", data["mean_bound_usd"], f">= {mean!r}")
    where = f"{n} days of {model.law.name}"
    claim = f"no policy of V2G/Scheduling-v0 saves more than {mean:.4f} $ a day on average over {where}"
    return Report(BOUND_KIND, (claim,), {"mean_bound_usd": mean})


def check_policy(data: Data, instance: Instance) -> Report:
    """Check one certificate of kind "days policy"; arguments and errors as in ``check_bounds``."""
    model, days = _drawn(data, instance, POLICY_KIND)
    n, claim = len(days.load_kw), data["risk"]
    name, digest = data["policy"], data["policy_sha256"]
    expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
    fields = {"beta", *Kept._fields}
    expect(isinstance(claim, Mapping) and set(claim) == fields, "risk", claim, ", ".join(sorted(fields)))
    expect(type(claim["beta"]) is float, "risk.beta", claim["beta"], "a number below 1")
    actions = numbers("actions", data["actions"], (n, model.steps, model.action_size), "<f4")
    try:
        episodes = rollout(model, days, Recorded(actions))
        kept = count_violations(episodes, claim["beta"])
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    near("mean_return_usd", data["mean_return_usd"], float(episodes.returns.mean()), _MONEY)
    for field, true in kept._asdict().items():
        if isinstance(true, int):
            expect(type(claim[field]) is int and claim[field] == true, f"risk.{field}", claim[field], true)
        else:
            near(f"risk.{field}", claim[field], true, _MONEY)
    mean = float(episodes.returns.mean())
    claims = (
        f"{name}: {mean:.4f} $ a day saved on average over {n} days of {model.law.name}",
        f"{kept.violated} of {kept.steps} steps violated: mean conditional probability at most {kept.eps:.4g}, "
        f"and that of a fresh day with any violation at most {kept.eps_day:.4g}, both with confidence "
        f"{1.0 - claim['beta']:g}",
    )
    return Report(POLICY_KIND, claims, {"mean_return_usd": mean, "eps": kept.eps, "eps_day": kept.eps_day})


def head(model: Model, kind: str, seed: int, n: int) -> dict[str, Any]:
    """What every certificate of n days says first: instance, law and sample."""
    lot, source = model.instance, model.law
    return {
        "format": FORMAT,
        "problem": "scheduling",
        "kind": kind,
        "instance": lot.to_dict(),
        "instance_sha256": lot.hash,
        "law": {
            "name": source.name,
            "deviation": source.deviation,
            "sessions": None if source.sessions is None else pack(source.sessions),
        },
        "sample": {"seed": seed, "n_samples": n},
    }


def _drawn(data: Data, instance: Instance, kind: str) -> tuple[Model, Scenario]:
    expect(set(data) == _FIELDS[kind], "fields", sorted(data), ", ".join(sorted(_FIELDS[kind])))
    origin = data["sample"]
    ok = isinstance(origin, Mapping) and set(origin) == {"seed", "n_samples"}
    expect(ok, "sample", origin, "exactly seed and n_samples")
    for field, low, high in (("n_samples", 1, _MOST_DAYS), ("seed", 0, 2**63)):
        value = origin[field]
        expect(type(value) is int and low <= value <= high, f"sample.{field}", value, f"{low} to {high}")
    size = instance.steps * (instance.aggregators + instance.turbines + instance.gas_segments) + instance.cars
    size *= max(origin["n_samples"], 100)  # days that calibrate the generator's cost
    expect(size <= _MOST_NUMBERS, "sample.n_samples x numbers of a day", size, _MOST_NUMBERS)
    try:
        model = Model(instance, law_from(data["law"]))
        return model, sample(instance, model.law, origin["n_samples"], origin["seed"])
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None


def law_from(data: Any) -> Law:
    """The law that a certificate names, compared with what its name stands for."""
    ok = isinstance(data, Mapping) and set(data) == {"name", "deviation", "sessions"} and isinstance(data["name"], str)
    expect(ok, "law", data, "exactly name, deviation and sessions")
    sessions = None if data["sessions"] is None else unpack(data["sessions"])
    found = Law(data["name"], data["deviation"], sessions)
    try:
        known = law(found.name)
    except InvalidInputError:
        return found  # recorded sessions of somebody's own
    same = known.deviation == found.deviation and (known.sessions is None) == (sessions is None)
    same = same and (sessions is None or known.sessions is None or np.array_equal(known.sessions, sessions))
    expect(same, "law", found.name, "what this name stands for")
    return known
