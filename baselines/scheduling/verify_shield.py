"""Certificates of shielded policies of the scheduling environment, and their check.

The days are drawn again from their seed and the recorded actions replayed; what that proves without the policy, and
what is the policy's own record, is in baselines/shield_record.py. A day is violated if energy is missing or a line is
overloaded in any of its steps; violated steps are counted beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from baselines import risk
from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, numbers, whole_number
from baselines.scheduling.shield import ReserveShield
from baselines.shield import best_level, margin_runs, passed_levels, tune
from baselines.shield_record import agent_data, check_agent, check_tuned, replay, risk_data
from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.rollout import rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import law, sample

__all__ = ["KIND", "check_margin", "margin_certificate"]

Data = Mapping[str, Any]

KIND = "margin shield"
_FIELDS = {
    *("format", "problem", "kind", "instance", "instance_sha256", "sample"),
    *("shield", "level", "passed", "agent", "risk"),
}
_SAMPLE = {"law", "seed", "n_samples"}
_MOST_DAYS = 20_000
_MOST_NUMBERS = 10**8  # of all days together


def margin_certificate(
    shield: ReserveShield,
    n_samples: int,
    seed: int,
    policy: Policy,
    name: str,
    *,
    allowed: int,
    beta: float = 1e-5,
    looks: int = 1,
    sha256: str | None = None,
) -> tuple[int, dict[str, Any]]:
    """Tune a policy's most profitable certified level on N fresh days; returns it with its certificate.

    Args:
        shield: the family, fixed before these days; the law of its model must be one with a known name.
        n_samples: N.
        seed: of the days.
        policy: the policy.
        name: the policy's.
        allowed: q, days that may fail; see baselines.shield.most_removed.
        beta: confidence parameter in (0, 1).
        looks: number of values of q tried on the same days.
        sha256: hash of a trained policy's bundle.

    Raises:
        InvalidInputError: for a value out of range, or if no level is certified.
    """
    model = shield.model
    require(bool(name), "name", name, "the policy's name")
    require(law(model.law.name) is model.law, "law", model.law.name, "a law with a known name")
    days = sample(model.instance, model.law, n_samples, seed)
    runs = margin_runs(model, policy, shield, days)
    passed = passed_levels(runs.violated)
    tuned = tune(passed, allowed, beta, looks)
    level = best_level(runs.returns_usd, tuned)
    actions = rollout(model, days, Shielded(policy, shield, level)).actions
    found = replay(model, days, actions, shield, level)
    return level, {
        "format": FORMAT,
        "problem": "scheduling",
        "kind": KIND,
        "instance": model.instance.to_dict(),
        "instance_sha256": model.instance.hash,
        "sample": {"law": model.law.name, "seed": int(seed), "n_samples": int(n_samples)},
        "shield": shield.to_dict(),
        "level": level,
        "passed": pack(passed.astype(np.int32)),
        "agent": agent_data(name, sha256, found, shield.to_dict(), passed),
        "risk": risk_data(tuned, beta, looks),
    }


def check_margin(data: Data, instance: Instance) -> Report:
    """Check one certificate of kind "margin shield".

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    origin = data["sample"]
    ok = isinstance(origin, Mapping) and set(origin) == _SAMPLE
    expect(ok, "sample", origin, f"exactly {', '.join(sorted(_SAMPLE))}")
    n = whole_number("sample.n_samples", origin["n_samples"], 1, _MOST_DAYS)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    lot = instance
    size = lot.steps * (lot.aggregators + lot.turbines + lot.gas_segments) + lot.cars
    size *= max(n, 200)  # days that calibrate the generator's cost
    expect(size <= _MOST_NUMBERS, "sample.n_samples x numbers of a day", size, _MOST_NUMBERS)
    try:
        model = Model(lot, law(origin["law"]))
        shield = ReserveShield.from_dict(model, data["shield"])
        days = sample(lot, model.law, n, seed)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    passed = numbers("passed", data["passed"], (n,), "<i4").astype(np.int64)
    claim, level = data["risk"], data["level"]
    tuned = check_tuned(claim, level, passed, shield.levels)
    share = claim["beta"] / claim["looks"]
    found, eps = check_agent(data["agent"], model, days, shield, level, passed, share)
    mean, steps = float(found.episodes.returns.mean()), n * model.steps
    per_step = risk.adaptive(steps, found.steps_violated, share / shield.levels)
    sure = f"(confidence 1 - {claim['beta']:g})"
    claims = (
        f"{data['agent']['name']} behind the shield: {mean:.4f} $ a day saved on average over {n} days of "
        f"{model.law.name}; {int(found.violated.sum())} of them are violated",
        f"a fresh day with probability at most {eps:.4g} {sure}, whichever level was chosen and why; "
        f"{found.steps_violated} of {steps} steps, mean conditional probability at most {per_step:.4g} {sure}",
        f"with the recorded levels that each day passed: a fresh day with probability at most {tuned.eps:.4g}",
    )
    values = {"eps": tuned.eps, "eps_replayed": eps, "eps_step": per_step, "mean_return_usd": mean}
    return Report(KIND, claims, values | {"level": float(level)})
