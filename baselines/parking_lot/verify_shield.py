"""Certificates of the parking lot's shields, and their checks: NumPy only, days drawn again from their seed.

"box shield": a box x_t <= top_t from N days, with the complexity of the box itself. "margin shield": caps that move
with K, at a level tuned on N days; without ``agent`` for any agent and recomputed entirely, else for one policy, with
what the policy's own record proves (baselines/shield_record.py).

Shift: with every K lowered by R chargers (for caps: the observed K also raised), any law Q of days of this lot within
Wasserstein distance mu has risk at most eps + mu / R. The ground metric is the largest deviation of K over all steps,
in chargers; it is at most the metric of the plans' shift bound (samples.inflate), which counts powers as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, near, numbers, whole_number
from baselines.parking_lot.shield import LotShield, box, box_shield, box_tops, empties_in_one_step, kept
from baselines.shield import Tuned, best_level, margin_runs, passed_levels, tune
from baselines.shield_record import MOST_DAYS, agent_data, check_agent, check_tuned, replay, risk_data
from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Law, Scenario, law, sample
from v2g_env.rollout import rollout

__all__ = [
    "BOX_KIND",
    "FIELDS",
    "MARGIN_KIND",
    "PARTS",
    "box_certificate",
    "check_box",
    "check_margin",
    "margin_certificate",
]

Floats = NDArray[np.float64]
Data = Mapping[str, Any]

BOX_KIND, MARGIN_KIND = "box shield", "margin shield"
FIELDS = {
    BOX_KIND: {"program", "top_kwh", "support", "violated", "risk", "shift"},
    MARGIN_KIND: {"plan_kwh", "shield", "level", "radius", "passed", "agent", "risk", "shift"},
}
_SAMPLE = {"law", "seed", "n_samples"}
PARTS = {
    BOX_KIND: {
        "sample": _SAMPLE,
        "program": {"removed", "radius"},
        "risk": {"beta", "looks", "eps"},
        "shift": {"distance", "eps"},
    },
    MARGIN_KIND: {"sample": _SAMPLE, "shift": {"distance", "eps"}},
}


def box_certificate(
    model: Model,
    n_samples: int,
    seed: int,
    *,
    removed: int = 0,
    radius: float = 0.0,
    beta: float = 1e-5,
    looks: int = 1,
    distance: float | None = None,
) -> tuple[LotShield, dict[str, Any]]:
    """The box of N fresh days as a shield (level 1), and its certificate for any agent.

    Args:
        model: of the environment.
        n_samples: N; a law that replays days has no more than these.
        seed: of the days.
        removed: days that may lie below the top in each step.
        radius: R in chargers by which every K is lowered.
        beta: confidence parameter in (0, 1).
        looks: number of values of ``removed`` and ``radius`` tried on the same days.
        distance: Wasserstein distance of another law, in chargers; adds the shift statement.

    Raises:
        InvalidInputError: for a value out of range.
    """
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    number("looks", looks, 1, 10**6, integer=True)
    lot = model.instance
    capacity = _capacity(lot, model.law, n_samples, seed, radius)
    found = box(lot, capacity, removed)
    eps = float(risk.degenerate(n_samples, len(found.support), beta / looks))
    data = _head(model, BOX_KIND, n_samples, seed) | {
        "program": {"removed": int(removed), "radius": float(radius)},
        "top_kwh": found.top_kwh.tolist(),
        "support": found.support,
        "violated": found.violated,
        "risk": {"beta": beta, "looks": looks, "eps": eps},
    }
    return box_shield(model, found.top_kwh), data | _shift(eps, radius, distance)


def margin_certificate(
    shield: LotShield,
    n_samples: int,
    seed: int,
    *,
    allowed: int,
    beta: float = 1e-5,
    looks: int = 1,
    policy: Policy | None = None,
    name: str = "",
    sha256: str | None = None,
    radius: float = 0.0,
    distance: float | None = None,
) -> tuple[int, dict[str, Any]]:
    """Tune a level on N fresh days; returns it with its certificate.

    Args:
        shield: the caps, fixed before these days.
        n_samples: N.
        seed: of the days, another one than that of the caps.
        allowed: q, days that may fail; see baselines.shield.most_removed.
        beta: confidence parameter in (0, 1).
        looks: number of values of q and radius tried on the same days.
        policy: None: the level holds for any agent. Else for this one, and the level is its most profitable one.
        name: the policy's.
        sha256: hash of a trained policy's bundle.
        radius: R in chargers, only for any agent.
        distance: Wasserstein distance of another law, in chargers; adds the shift statement.

    Raises:
        InvalidInputError: for a value out of range, if no level is certified, or for a lot whose grid cannot empty it
            in one step where the level has to hold for any agent.
    """
    model = shield.model
    if policy is None:
        found = empties_in_one_step(model.instance)
        require(found, "grid_limit_kw", model.instance.grid_limit_kw, "enough to empty the lot in one step")
        passed = kept(shield, _capacity(model.instance, model.law, n_samples, seed, 0.0), radius)
        tuned = tune(passed, allowed, beta, looks)
        require(tuned.level is not None, "certified level", None, f"one that all but {allowed} days pass")
        level, record = int(tuned.level or 0), None
    else:
        require(radius == 0.0, "radius", radius, "0 for a policy: how it answers to other days is unknown")
        require(bool(name), "name", name, "the policy's name")
        days = _drawn(model.instance, model.law, n_samples, seed)
        runs = margin_runs(model, policy, shield, days)
        passed = passed_levels(runs.violated)
        tuned = tune(passed, allowed, beta, looks)
        level = best_level(runs.returns_usd, tuned)
        record = agent_data(name, sha256, _record(shield, policy, days, level), shield.to_dict(), passed)
    data = _head(model, MARGIN_KIND, n_samples, seed) | {
        "plan_kwh": model.plan_kwh.tolist(),
        "shield": shield.to_dict(),
        "level": level,
        "radius": float(radius),
        "passed": pack(passed.astype(np.int32)),
        "agent": record,
        "risk": risk_data(tuned, beta, looks),
    }
    return level, data | _shift(tuned.eps, radius, distance)


def _record(shield: LotShield, policy: Policy, days: Scenario, level: int) -> Any:
    actions = rollout(shield.model, days, Shielded(policy, shield, level)).actions
    return replay(shield.model, days, actions, shield, level)


def check_box(data: Data, lot: Instance) -> Report:
    """Check one certificate of kind "box shield".

    Args:
        data: the certificate, its fields known.
        lot: the instance written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    source, n, seed = _origin(data)
    removed = whole_number("program.removed", data["program"]["removed"], 0, n - 1)
    radius = _plain("program.radius", data["program"]["radius"], 1e6)
    capacity = _checked(lambda: _capacity(lot, source, n, seed, radius))
    tops = box_tops(lot, capacity, removed)
    claimed = data["top_kwh"]
    ok = isinstance(claimed, list) and len(claimed) == lot.steps and all(type(top) is float for top in claimed)
    expect(ok and np.array_equal(np.array(claimed), tops), "top_kwh", claimed, tops.tolist())
    support = data["support"]
    ok = isinstance(support, list) and all(type(i) is int and 0 <= i < n for i in support)
    expect(ok and len(set(support)) == len(support) > removed, "support", support, f"distinct days below {n}")
    bad = np.flatnonzero((capacity < tops)[:, : lot.steps - 1].any(axis=1))
    expect(set(bad.tolist()) <= set(support), "support", support, "every day that violates the box is in the list")
    whole_number("violated", data["violated"], len(bad), len(bad))
    again = box_tops(lot, capacity[support], removed)
    expect(np.array_equal(again, tops), "support", support, "a list that reproduces the box")
    claim = data["risk"]
    share = _share(claim)
    eps = float(risk.degenerate(n, len(support), share))
    near("risk.eps", claim["eps"], eps)
    text = f"behind the box, any agent violates a day of {source.name} with probability at most {eps:.4g}"
    claims = (text + f" (confidence 1 - {claim['beta']:g})", f"{len(support)} of {n} days reproduce the box")
    return _report(BOX_KIND, claims, {"eps": eps, "complexity": float(len(support))}, data, eps, radius)


def check_margin(data: Data, lot: Instance) -> Report:
    """Check one certificate of kind "margin shield"; arguments and errors as in ``check_box``."""
    source, n, seed = _origin(data)
    radius = _plain("radius", data["radius"], 1e6)
    plan = data["plan_kwh"]
    ok = isinstance(plan, list) and all(type(point) is float for point in plan)
    expect(ok, "plan_kwh", plan, "numbers")
    shield = _checked(lambda: LotShield.from_dict(Model(lot, source, plan), data["shield"]))
    passed = numbers("passed", data["passed"], (n,), "<i4").astype(np.int64)
    agent = data["agent"]
    if agent is None:
        expect(empties_in_one_step(lot), "grid_limit_kw", lot.grid_limit_kw, "enough to empty the lot in one step")
        true = kept(shield, _checked(lambda: _capacity(lot, source, n, seed, 0.0)), radius)
        expect(np.array_equal(passed, true), "passed", passed.tolist(), "the levels that each day passes")
    else:
        expect(radius == 0.0, "radius", radius, "0 for a policy")
    tuned = check_tuned(data["risk"], data["level"], passed, shield.levels)
    values = {"eps": tuned.eps, "level": float(data["level"])}
    sure = f"(confidence 1 - {data['risk']['beta']:g})"
    if agent is None:
        who = f"behind the caps, any agent violates a day of {source.name}"
        claims: tuple[str, ...] = (f"{who} with probability at most {tuned.eps:.4g} {sure}",)
    else:
        days = _checked(lambda: _drawn(lot, source, n, seed))
        share = data["risk"]["beta"] / data["risk"]["looks"]
        found, eps = check_agent(agent, shield.model, days, shield, data["level"], passed, share)
        values |= {"mean_return_usd": float(found.episodes.returns.mean()), "eps_replayed": eps}
        claims = _sentences(agent, values, tuned, n, source.name, sure)
    return _report(MARGIN_KIND, claims, values, data, tuned.eps, radius)


def _sentences(agent: Data, values: Data, tuned: Tuned, n: int, name: str, sure: str) -> tuple[str, ...]:
    earned = f"{agent['name']} behind the shield earns {values['mean_return_usd']:.4f} $ on average over {n} days"
    return (
        f"{earned} of {name}; {agent['days_violated']} are violated",
        f"a fresh day with probability at most {values['eps_replayed']:.4g} {sure}, whichever level was chosen and why",
        f"with the recorded levels that each day passed: at most {tuned.eps:.4g}",
    )


def _head(model: Model, kind: str, n: int, seed: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": kind,
        "instance_sha256": model.instance.hash,
        "instance": model.instance.to_dict(),
        "sample": {"law": model.law.name, "seed": int(seed), "n_samples": int(n)},
    }


def _shift(eps: float, radius: float, distance: float | None) -> dict[str, Any]:
    if distance is None:
        return {}
    require(radius > 0.0, "radius", radius, "a positive radius for a statement about shifted laws")
    return {"shift": {"distance": float(distance), "eps": float(risk.shifted(eps, radius, distance))}}


def _drawn(lot: Instance, source: Law, n: int, seed: int) -> Scenario:
    """N days; redrawn caps do not make a real day an independent one."""
    number("n_samples", n, 1, len(source.days.dates) if source.replay else MOST_DAYS, integer=True)
    return sample(lot, source, n, seed)


def _capacity(lot: Instance, source: Law, n: int, seed: int, radius: float) -> Floats:
    number("radius", radius, 0.0, 1e6)
    lowered = _drawn(lot, source, n, seed).capacity_kwh[:, :-1] - radius * lot.energy_scale_kwh
    return np.asarray(np.maximum(lowered, 0.0))


def _origin(data: Data) -> tuple[Law, int, int]:
    origin = data["sample"]
    n = whole_number("sample.n_samples", origin["n_samples"], 1, MOST_DAYS)
    return _checked(lambda: law(origin["law"])), n, whole_number("sample.seed", origin["seed"], 0, 2**63)


def _checked(make: Any) -> Any:
    """What ``make`` returns; bad input is a bad certificate."""
    try:
        return make()
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None


def _plain(field: str, value: Any, high: float) -> float:
    expect(type(value) is float and 0.0 <= value <= high, field, value, f"a number from 0 to {high:g}")
    return float(value)


def _share(claim: Data) -> float:
    beta, looks = claim["beta"], claim["looks"]
    expect(type(beta) is float and 0.0 < beta < 1.0, "risk.beta", beta, "in (0, 1)")
    return float(beta / whole_number("risk.looks", looks, 1, 10**6))


def _report(
    kind: str, claims: tuple[str, ...], values: dict[str, float], data: Data, eps: float, radius: float
) -> Report:
    if "shift" in data:
        distance = _plain("shift.distance", data["shift"]["distance"], 1e6)
        moved = float(_checked(lambda: risk.shifted(eps, radius, distance)))
        near("shift.eps", data["shift"]["eps"], moved)
        claims += (f"any law within Wasserstein distance {distance:g} chargers: at most {moved:.4g}",)
        values = values | {"shift_eps": moved}
    return Report(kind, claims, values)
