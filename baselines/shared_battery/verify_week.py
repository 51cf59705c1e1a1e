"""Certificates of weeks of requests: what no policy can exceed, and what a policy did, earned and left unserved.

The checks draw the weeks again from their seed, run the dynamic programme or replay the recorded actions, and recompute
every number; they contain no solver. Actions are the policy's own record: that it chose them from observations is not
part of the claim, the hash of a trained policy names it.

What is counted: visits (one driver, one day) that end unserved, the event whose probability the instance tolerates per
driver. Visits of one week are dependent, through the battery and what is left of it. So three limits share beta:

* ``eps``: every visit is a trial whose chance may depend on everything before it (risk.adaptive). It bounds the mean
  conditional probability, over the visits of these very weeks, given what was done before each.
* ``eps_fresh_week``: a week is one trial with its share of unserved visits. Weeks are independent, and for a policy
  fixed before them and without memory from week to week all have the same mean: it bounds the expected share of
  unserved visits in a fresh week.
* ``eps_worst_driver``: the same for every driver's own visits at beta / drivers, and the largest of these limits: it
  bounds the expected share of unserved days of all drivers at once, so of the worst one.

With a few weeks the last two are loose, as they know nothing of the shares' spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import FORMAT, CertificateError, Report, pack, unpack
from baselines.checking import expect, near
from baselines.shared_battery.hindsight import Hindsight, hindsight
from baselines.shared_battery.laws import law_data, law_from
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.rollout import Episodes, Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import VIOLATION_TOLERANCE, WEEK_FACTS, WeekModel
from v2g_env.shared_battery.scenario import Week, sample_weeks

__all__ = [
    "HINDSIGHT_KIND",
    "POLICY_KIND",
    "Unserved",
    "check_hindsight",
    "check_policy",
    "count_unserved",
    "hindsight_certificate",
    "week_policy_certificate",
]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

HINDSIGHT_KIND, POLICY_KIND = "week hindsight bound", "week policy"
_COMMON = {"format", "problem", "kind", "instance_sha256", "instance", "sample", "needs", "requests_in_part"}
_FIELDS = {
    HINDSIGHT_KIND: _COMMON | {"grid", "mean_bound_usd"},
    POLICY_KIND: _COMMON | {"policy", "policy_sha256", "actions", "mean_return_usd", "risk"},
}
_SAMPLE = {"law", "seed", "n_samples"}
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|
_MOST_VISITS, _MOST_WORK = 2 * 10**7, 10**11  # no forged number makes a check endless


class Unserved(NamedTuple):
    """How often drivers were not served; see the module for the limits.

    Attributes:
        visits: days x drivers x weeks.
        requests: visits with a request.
        unserved: requests that were not granted, or only in part.
        eps: limit of the mean conditional probability of an unserved visit.
        eps_fresh_week: limit of the expected share of unserved visits in a fresh week.
        worst_driver: the driver with the most unserved days, the first of them.
        worst_unserved: his unserved days in all weeks.
        worst_requests: his requests.
        eps_worst_driver: limit of every driver's expected share of unserved days.
    """

    visits: int
    requests: int
    unserved: int
    eps: float
    eps_fresh_week: float
    worst_driver: int
    worst_unserved: int
    worst_requests: int
    eps_worst_driver: float


def count_unserved(model: WeekModel, episodes: Episodes, beta: float) -> Unserved:
    """Count the unserved visits of a rollout on independent weeks; each of the three limits takes a third of beta.

    Raises:
        InvalidInputError: beta is outside (0, 1), or too small for its share.
    """
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    facts = {name: episodes.facts[:, :, i] for i, name in enumerate(WEEK_FACTS)}
    missed = facts["excess"] > VIOLATION_TOLERANCE
    asked = facts["size_kwh"] > 0.0
    weeks, n, days = len(missed), model.instance.drivers, model.instance.week_days
    driver = facts["driver"].astype(np.int64).ravel()
    of_driver = np.bincount(driver, missed.ravel(), n)
    worst = int(of_driver.argmax())
    limits = [risk.adaptive(weeks, float(total) / days, beta / 3.0 / n) for total in of_driver]
    return Unserved(
        visits=missed.size,
        requests=int(asked.sum()),
        unserved=int(missed.sum()),
        eps=risk.adaptive(missed.size, int(missed.sum()), beta / 3.0),
        eps_fresh_week=risk.adaptive(weeks, float(missed.mean(axis=1).sum()), beta / 3.0),
        worst_driver=worst,
        worst_unserved=int(of_driver[worst]),
        worst_requests=int(np.bincount(driver, asked.ravel(), n)[worst]),
        eps_worst_driver=max(limits),
    )


def hindsight_certificate(model: WeekModel, seed: int, top: Hindsight, grid: int = 2000) -> dict[str, Any]:
    """JSON certificate of the mean bound over the weeks of ``sample_weeks(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the weeks.
        top: their bounds, with ``grid``.
        grid: units of the dynamic programme; not used if requests may be granted in part.
    """
    head = _head(model, HINDSIGHT_KIND, seed, len(top.bound_usd))
    return head | {"grid": None if model.partial else int(grid), "mean_bound_usd": float(top.bound_usd.mean())}


def week_policy_certificate(
    model: WeekModel, seed: int, episodes: Episodes, policy: str, beta: float, sha256: str | None = None
) -> dict[str, Any]:
    """JSON certificate of a policy on the weeks of ``sample_weeks(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the weeks.
        episodes: the policy's rollout on them.
        policy: its name.
        beta: confidence parameter of the limits.
        sha256: hash of a trained policy's bundle.
    """
    return _head(model, POLICY_KIND, seed, len(episodes.actions)) | {
        "policy": policy,
        "policy_sha256": sha256,
        "actions": pack(episodes.actions),
        "mean_return_usd": float(episodes.returns.mean()),
        "risk": {"beta": beta, **count_unserved(model, episodes, beta)._asdict()},
    }


def check_hindsight(data: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "week hindsight bound".

    Args:
        data: as loaded from JSON.
        instance: the one it must belong to; None takes the one written in it.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    model = _model(data, instance, HINDSIGHT_KIND)
    grid, claimed = data["grid"], data["mean_bound_usd"]
    n = data["sample"]["n_samples"]
    if model.partial:
        expect(grid is None, "grid", grid, "null: requests may be granted in part")
    else:
        expect(type(grid) is int and grid >= 1, "grid", grid, "a whole number, at least 1")
        expect(n * model.steps * grid <= _MOST_WORK, "grid", grid, f"visits x units at most {_MOST_WORK:g}")
    try:
        mean = float(hindsight(model, _weeks(data, model), grid or 1).bound_usd.mean())
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    near("mean_bound_usd", claimed, mean, _MONEY)
    expect(claimed >= mean * (1.0 - 1e-12), "mean_bound_usd", claimed, f"at least {mean!r}")
    name = f"V2G/SharedBatteryAllocation{'Partial' if model.partial else ''}-v0"
    claim = f"no policy of {name} earns more than {mean:.4f} $ a week on average over these {n} weeks"
    return Report(HINDSIGHT_KIND, (claim,), {"mean_bound_usd": mean})


def check_policy(data: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "week policy"; arguments and errors as in ``check_hindsight``."""
    model = _model(data, instance, POLICY_KIND)
    claim, name, digest = data["risk"], data["policy"], data["policy_sha256"]
    expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
    fields = {"beta", *Unserved._fields}
    ok = isinstance(claim, Mapping) and set(claim) == fields
    expect(ok, "risk", claim, f"exactly {', '.join(sorted(fields))}")
    expect(type(claim["beta"]) is float, "risk.beta", claim["beta"], "a number below 1")
    actions = unpack(data["actions"])
    n = data["sample"]["n_samples"]
    shape, kind = ((n, model.steps, 1), "<f4") if model.partial else ((n, model.steps), "<i4")
    expect(actions.shape == shape, "shape of actions", actions.shape, str(shape))
    expect(actions.dtype.str == kind, "dtype of actions", actions.dtype.str, kind)
    try:
        episodes = rollout(model, _weeks(data, model), Recorded(actions))
        found = count_unserved(model, episodes, claim["beta"])
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    mean = float(episodes.returns.mean())
    near("mean_return_usd", data["mean_return_usd"], mean, _MONEY)
    for field, value in found._asdict().items():
        if isinstance(value, int):
            ok = type(claim[field]) is int and claim[field] == value
            expect(ok, f"risk.{field}", claim[field], str(value))
        else:
            near(f"risk.{field}", claim[field], value, 1e-9)
    claims = (
        f"{name} earns {mean:.4f} $ a week on average over {n} weeks of {data['sample']['law']}",
        f"{found.unserved} of {found.requests} requests are not served in full",
        f"with confidence 1 - {claim['beta']:g} the mean probability that a visit of these weeks would end so was at "
        f"most {found.eps:.4g}, and a policy fixed before them leaves at most {found.eps_fresh_week:.4g} of the visits "
        f"of a fresh week unserved on average, at most {found.eps_worst_driver:.4g} of any driver's",
        f"driver {found.worst_driver} was worst off: {found.worst_unserved} of his {found.worst_requests} requests",
    )
    values = {key: float(value) for key, value in found._asdict().items()}
    return Report(POLICY_KIND, claims, {"mean_return_usd": mean} | values)


def _head(model: WeekModel, kind: str, seed: int, weeks: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "problem": "shared_battery",
        "kind": kind,
        "instance_sha256": model.instance.hash,
        "instance": model.instance.to_dict(),
        "sample": {"law": model.law.name, "seed": int(seed), "n_samples": weeks},
        "needs": law_data(model.law),
        "requests_in_part": model.partial,
    }


def _model(data: Data, instance: Instance | None, kind: str) -> WeekModel:
    """The model that a certificate speaks of, after all its words about it have been compared."""
    expect(isinstance(data, Mapping), "certificate", type(data).__name__, "a JSON object")
    expect(data.get("kind") == kind, "kind", data.get("kind"), kind)
    fields = _FIELDS[kind]
    for key in data:
        expect(key in fields, "field", key, ", ".join(sorted(fields)))
    for key in sorted(fields):
        expect(key in data, "field", f"{key} missing", ", ".join(sorted(fields)))
    expect(data["format"] == FORMAT, "format", data["format"], FORMAT)
    expect(data["problem"] == "shared_battery", "problem", data["problem"], "shared_battery")
    expect(isinstance(data["instance"], Mapping), "instance", data["instance"], "a JSON object")
    try:
        written = Instance.from_dict(data["instance"])
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    expect(written.hash == data["instance_sha256"], "instance_sha256", data["instance_sha256"], written.hash)
    if instance is not None:
        found = getattr(instance, "hash", None)
        expect(found == written.hash, "instance", written.hash, f"the given one, {found}")
    origin, partial = data["sample"], data["requests_in_part"]
    ok = isinstance(origin, Mapping) and set(origin) == _SAMPLE
    expect(ok, "sample", origin, f"exactly {', '.join(sorted(_SAMPLE))}")
    visits = written.week_days * written.drivers
    for field, most in (("n_samples", _MOST_VISITS // visits), ("seed", 2**63)):
        value = origin[field]
        expect(type(value) is int and 0 <= value <= most, f"sample.{field}", value, f"a whole number up to {most}")
    expect(isinstance(partial, bool), "requests_in_part", partial, "true or false")
    source = law_from(data["needs"], written)
    expect(source.name == origin["law"], "sample.law", origin["law"], source.name)
    try:
        return WeekModel(written, source, partial)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None


def _weeks(data: Data, model: WeekModel) -> Week:
    origin = data["sample"]
    return sample_weeks(model.instance, model.law, origin["n_samples"], origin["seed"])
