"""Certificates of the price chain: values of a robust or nominal problem, and what a policy is worth.

The checks recompute everything and contain no solver. Values: from the plan and one number per inner problem, weak
duality bounds the plan's worst case from below, and members of the sets bound the best policy's from above, each by a
backward sweep of its own; both meet at the claimed value. Policies: the exact value of the plan under the instance's
own chain, the exact optimum, and the plan's violations counted on fresh days.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import CertificateError, Report, pack, unpack
from baselines.checking import expect, near
from baselines.price_chain import verify_penalty
from baselines.price_chain.ambiguity import Ambiguity, from_data
from baselines.price_chain.policies import TablePolicy
from baselines.price_chain.sweeps import (
    at_start,
    choose,
    evaluate,
    follow,
    nominal_set,
    successors,
    sweep,
    terminal_usd,
    violation_probability,
)
from baselines.price_chain.verify_parts import COMMON, head, instance_of, law_data, law_from, plan_from
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import VIOLATION_TOLERANCE, Model
from v2g_env.price_chain.scenario import sample_days
from v2g_env.rollout import Episodes, rollout

__all__ = ["POLICY_KIND", "VALUES_KIND", "policy_certificate", "values_certificate", "verify"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

VALUES_KIND, POLICY_KIND = "price chain values", "price chain policy"
_FIELDS = {
    VALUES_KIND: COMMON | {"law", "ambiguity", "plan", "dual", "value_usd"},
    POLICY_KIND: COMMON
    | {"policy", "policy_sha256", "plan", "value_usd", "optimum_usd", "violation_probability", "sample"},
}
_SAMPLE = {"seed", "n_samples", "mean_return_usd", "violations", "beta", "eps"}
_TOLERANCE = 1e-9  # relative to 1 + |value|
_MOST_STEPS = 10**8  # no forged number makes a check endless


def values_certificate(
    model: Model, ambiguity: Ambiguity | None, plan: NDArray[Any], dual: Floats, value: float
) -> dict[str, Any]:
    """JSON certificate of a robust or nominal optimum.

    Args:
        model: of the environment.
        ambiguity: uncertain rows; None: the law's own.
        plan: (T, L, Q, E, 2) choices.
        dual: (T - 1, L, Q, E, 2) numbers of the inner problems.
        value: claimed [$].
    """
    return head(model, VALUES_KIND) | {
        "law": law_data(model.law),
        "ambiguity": None if ambiguity is None else ambiguity.data(),
        "plan": pack(plan.astype(np.int32)),
        "dual": None if ambiguity is None else pack(dual),
        "value_usd": float(value),
    }


def policy_certificate(
    model: Model,
    plan: NDArray[Any],
    policy: str,
    seed: int,
    episodes: Episodes,
    beta: float,
    sha256: str | None = None,
) -> dict[str, Any]:
    """JSON certificate of a policy without memory, written out as the plan that it follows.

    Args:
        model: of the environment, under the instance's own chain.
        plan: (T, L, Q, E, 2) what it chooses in every state, see policies.tabulate.
        policy: its name.
        seed: of the days of ``sample_days(instance, "generator", n, seed)``.
        episodes: its rollout on them.
        beta: confidence parameter of the limit on violations.
        sha256: hash of a trained policy's bundle.
    """
    violations = int((episodes.excess > VIOLATION_TOLERANCE).sum())
    days = len(episodes.returns)
    return head(model, POLICY_KIND) | {
        "policy": policy,
        "policy_sha256": sha256,
        "plan": pack(plan.astype(np.int32)),
        "value_usd": evaluate(model, plan).value,
        "optimum_usd": _optimum(model),
        "violation_probability": violation_probability(model, plan),
        "sample": {
            "seed": int(seed),
            "n_samples": days,
            "mean_return_usd": float(episodes.returns.mean()),
            "violations": violations,
            "beta": float(beta),
            "eps": float(risk.hold_out(days, violations, beta)),
        },
    }


def verify(certificate: Data, instance: Instance | None) -> Report:
    """Check one certificate; see baselines.certificate.check."""
    kind = certificate.get("kind")
    if isinstance(kind, str) and kind in verify_penalty.CHECKS:
        return verify_penalty.CHECKS[kind](certificate, instance)
    known = (VALUES_KIND, POLICY_KIND, *verify_penalty.CHECKS)
    expect(kind in known, "kind", kind, ", ".join(known))
    lot = instance_of(certificate, instance, _FIELDS[str(kind)])
    try:
        return (_check_values if kind == VALUES_KIND else _check_policy)(certificate, lot)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None


def _check_values(data: Data, lot: Instance) -> Report:
    model = Model(lot, law_from(data["law"]))
    robust = data["ambiguity"] is not None
    ambiguity = from_data(data["ambiguity"]) if robust else nominal_set(model.law.rows)
    levels = lot.price_levels
    size = (ambiguity.rows, ambiguity.width)
    expect(size == (lot.steps * levels, levels), "shape of ambiguity", size, (lot.steps * levels, levels))
    plan = plan_from(data, model)
    shape = (lot.steps - 1, *lot.shape)
    if robust:
        dual = unpack(data["dual"])
        ok = dual.shape == shape and dual.dtype.str == "<f8" and bool(np.isfinite(dual).all())
        expect(ok, "dual", f"{dual.dtype.str} {dual.shape}", f"finite <f8 of shape {shape}")
    else:
        expect(data["dual"] is None, "dual", "given", "null: nothing is uncertain")
        dual = np.zeros(shape)
    low, high = _bounds(model, ambiguity, plan, dual)
    value = data["value_usd"]
    slack = _TOLERANCE * (1.0 + abs(low))
    ok = type(value) is float and low - slack <= value <= high + slack and high - low <= slack
    expect(ok, "value_usd", value, f"between {low!r} and {high!r}, which differ by at most {slack:.1e}")
    name = f"the {ambiguity.name} set of every row" if robust else f"the chain of {model.law.name}"
    claims: tuple[str, ...] = (
        f"the plan earns at least {low:.6f} $ a day on average under every kernel of {name}",
        f"no policy has a higher worst case than {high:.6f} $ a day",
    )
    if not robust:
        claims = (f"the plan earns {value:.6f} $ a day on average under {name}, and no policy earns more",)
    return Report(VALUES_KIND, claims, {"value_usd": value, "low_usd": low, "high_usd": high})


def _bounds(model: Model, ambiguity: Ambiguity, plan: NDArray[Any], dual: Floats) -> tuple[float, float]:
    """Lower bound on the plan's worst case, upper bound on the worst case of every policy [$]."""
    shape = model.instance.shape
    levels = shape[0]
    after_low = after_high = np.broadcast_to(terminal_usd(model)[:, None], shape)
    for t in range(model.steps - 1, -1, -1):
        low, high = follow(model, t, plan[t], after_low), choose(model, t, after_high)[0]
        if t:
            lower, upper = successors(model, low), successors(model, high)
            at = np.repeat((t - 1) * levels + np.arange(levels), len(lower))
            numbers = dual[t - 1].ravel()
            after_low = ambiguity.bracket(np.tile(lower, (levels, 1)), at, numbers).low.reshape(shape)
            after_high = ambiguity.bracket(np.tile(upper, (levels, 1)), at, numbers).value.reshape(shape)
    return at_start(model, low), at_start(model, high)


def _check_policy(data: Data, lot: Instance) -> Report:
    name, digest, sample = data["policy"], data["policy_sha256"], data["sample"]
    expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
    ok = isinstance(sample, Mapping) and set(sample) == _SAMPLE
    expect(ok, "sample", sample, f"exactly {', '.join(sorted(_SAMPLE))}")
    for field, least, most in (("n_samples", 1, _MOST_STEPS // lot.steps), ("seed", 0, 2**63)):
        count = sample[field]
        expect(type(count) is int and least <= count <= most, f"sample.{field}", count, f"{least} to {most}")
    model = Model(lot)
    plan = plan_from(data, model)
    found = {
        "value_usd": evaluate(model, plan).value,
        "optimum_usd": _optimum(model),
        "violation_probability": violation_probability(model, plan),
    }
    for field, true in found.items():
        near(field, data[field], true)
    number("sample.beta", sample["beta"], 0.0, 1.0, open_low=True, open_high=True)
    days = sample_days(lot, "generator", sample["n_samples"], sample["seed"])
    episodes = rollout(model, days, TablePolicy(model, plan))
    violations = int((episodes.excess > VIOLATION_TOLERANCE).sum())
    near("sample.mean_return_usd", sample["mean_return_usd"], float(episodes.returns.mean()))
    counted = type(sample["violations"]) is int and sample["violations"] == violations
    expect(counted, "sample.violations", sample["violations"], violations)
    eps = float(risk.hold_out(sample["n_samples"], violations, sample["beta"]))
    near("sample.eps", sample["eps"], eps)
    gap = found["optimum_usd"] - found["value_usd"]
    claims = (
        f"{name} earns {found['value_usd']:.6f} $ a day on average, {gap:.6f} $ less than the exact optimum",
        f"it violates the target with probability {found['violation_probability']:.3g}; on {sample['n_samples']} days "
        f"{violations} times, so with confidence 1 - {sample['beta']:g} at most {eps:.4g}",
    )
    return Report(POLICY_KIND, claims, found | {"gap_usd": gap, "eps": eps})


def _optimum(model: Model) -> float:
    return at_start(model, sweep(model, nominal_set(model.law.rows)).values[0])
