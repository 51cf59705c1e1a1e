"""Certificates of penalised bounds on the price chain: days drawn again, choices replayed, everything recomputed.

Sure, day by day: return <= bound + penalty. On average: no policy's expected return exceeds the expected bound. Limits
on expectations are asymptotic (normal). That the critic was fixed before the days is the prover's word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import CertificateError, Report, pack
from baselines.checking import expect, near, numbers, whole_number
from baselines.price_chain.penalty import penalised, penalty_of
from baselines.price_chain.verify_parts import COMMON, head, instance_of, law_data, law_from
from baselines.risk import asymptotic_limit
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Days, sample_days
from v2g_env.rollout import Recorded, rollout

__all__ = ["BOUND_KIND", "CHECKS", "GAP_KIND", "gap_certificate", "penalty_certificate"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

BOUND_KIND, GAP_KIND = "price chain penalised bound", "price chain certified gap"
_FIELDS = {BOUND_KIND: COMMON | {"law", "sample", "critic_usd", "scale", "beta", "mean_bound_usd", "bound_limit_usd"}}
_GAP = {"mean_return_usd", "mean_return_less_penalty_usd", "mean_gap_usd", "gap_limit_usd"}
_FIELDS[GAP_KIND] = _FIELDS[BOUND_KIND] | _GAP | {"policy", "policy_sha256", "actions"}
_MOST_WORK = 10**11  # no forged number makes a check endless


class _Found(NamedTuple):
    """What was recomputed: the days, their bounds, and the numbers by name."""

    days: Days
    bound: Floats
    values: dict[str, float]


def penalty_certificate(
    model: Model, seed: int, critic: Floats, bound_usd: Floats, beta: float, scale: float = 1.0
) -> dict[str, Any]:
    """JSON certificate of the mean bound over the days of ``sample_days(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the days; the critic must not have seen them.
        critic: (T, L, Q, E, 2) values that were used [$].
        bound_usd: (n,) bounds of ``penalised``.
        beta: probability with which the limit may fail.
        scale: factor on the penalty there.
    """
    return head(model, BOUND_KIND) | {
        "law": law_data(model.law),
        "sample": {"seed": int(seed), "n_samples": len(bound_usd)},
        "critic_usd": pack(np.asarray(critic, np.float64)),
        "scale": float(scale),
        "beta": float(beta),
        "mean_bound_usd": float(bound_usd.mean()),
        "bound_limit_usd": asymptotic_limit(bound_usd, beta),
    }


def gap_certificate(
    model: Model,
    seed: int,
    critic: Floats,
    bound_usd: Floats,
    beta: float,
    actions: NDArray[Any],
    policy: str,
    sha256: str | None = None,
    scale: float = 1.0,
) -> dict[str, Any]:
    """JSON certificate of how far a policy is from the bound; arguments as ``penalty_certificate``, and more.

    Args:
        model: of the environment.
        seed: of the days; neither critic nor policy must have seen them.
        critic: (T, L, Q, E, 2) values that were used [$].
        bound_usd: (n,) bounds of ``penalised``.
        beta: probability with which each limit may fail.
        actions: (n, T) choices of the policy on these days.
        policy: its name.
        sha256: hash of a trained policy's bundle.
        scale: factor on the penalty.
    """
    days = sample_days(model.instance, model.law, len(bound_usd), seed)
    return {
        **penalty_certificate(model, seed, critic, bound_usd, beta, scale),
        "kind": GAP_KIND,
        "policy": policy,
        "policy_sha256": sha256,
        "actions": pack(np.asarray(actions, np.int32)),
        **_gap(model, days, critic, scale, bound_usd, actions, beta),
    }


def check_bound(data: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "price chain penalised bound"; see baselines.certificate.check."""
    return _checked(data, instance, BOUND_KIND)


def check_gap(data: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "price chain certified gap"; see baselines.certificate.check."""
    return _checked(data, instance, GAP_KIND)


CHECKS: dict[str, Callable[[Data, Instance | None], Report]] = {BOUND_KIND: check_bound, GAP_KIND: check_gap}


def _checked(data: Data, instance: Instance | None, kind: str) -> Report:
    expect(data["kind"] == kind, "kind", data["kind"], kind)
    lot = instance_of(data, instance, _FIELDS[kind])
    try:
        return _report(data, Model(lot, law_from(data["law"])), kind)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None


def _report(data: Data, model: Model, kind: str) -> Report:
    found = _bound(data, model)
    values, n, beta = found.values, len(found.bound), data["beta"]
    claims = [
        f"no policy of V2G/PriceChain-v0 earns more, less a penalty whose expectation is zero, than "
        f"{values['mean_bound_usd']:.6f} $ a day on average over these {n} days; asymptotically with confidence 1 - "
        f"{beta:g} no policy's expected return exceeds {values['bound_limit_usd']:.6f} $ a day"
    ]
    if kind == GAP_KIND:
        name, digest = data["policy"], data["policy_sha256"]
        expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
        expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
        actions = numbers("actions", data["actions"], (n, model.steps), "<i4")
        critic = numbers("critic_usd", data["critic_usd"], (model.steps, *model.instance.shape))
        gap = _gap(model, found.days, critic, data["scale"], found.bound, actions, beta)
        for field, true in gap.items():
            near(field, data[field], true)
        values |= gap
        claims.append(
            f"{name} earns {gap['mean_return_usd']:.6f} $ a day on average over these days, on none of them more than "
            f"bound and penalty; asymptotically with confidence 1 - {beta:g} no policy earns more than "
            f"{gap['gap_limit_usd']:.6f} $ a day more than this one on average"
        )
    return Report(kind, tuple(claims), values)


def _bound(data: Data, model: Model) -> _Found:
    lot, sample = model.instance, data["sample"]
    ok = isinstance(sample, Mapping) and set(sample) == {"seed", "n_samples"}
    expect(ok, "sample", sample, "exactly n_samples, seed")
    work = lot.steps * int(np.prod(lot.shape[2:])) * len(lot.moves)
    n = whole_number("sample.n_samples", sample["n_samples"], 2, min(_MOST_WORK // work, 10**6))
    seed = whole_number("sample.seed", sample["seed"], 0, 2**63)
    critic = numbers("critic_usd", data["critic_usd"], (model.steps, *lot.shape))
    for field in ("scale", "beta"):
        expect(type(data[field]) is float, field, data[field], "a number")
    days = sample_days(lot, model.law, n, seed)
    bound = penalised(model, days, critic, data["scale"]).bound_usd
    values = {"mean_bound_usd": float(bound.mean()), "bound_limit_usd": asymptotic_limit(bound, data["beta"])}
    for field, true in values.items():
        near(field, data[field], true)
        expect(data[field] >= true - 1e-11 * (1.0 + abs(true)), field, data[field], f"at least {true!r}")
    return _Found(days, bound, values)


def _gap(
    model: Model, days: Days, critic: Floats, scale: float, bound: Floats, actions: NDArray[Any], beta: float
) -> dict[str, float]:
    earned = rollout(model, days, Recorded(np.asarray(actions))).returns
    less = earned - penalty_of(model, days, actions, critic, scale)
    gap = bound - less
    require(bool((gap >= 0.0).all()), "least gap", float(gap.min(initial=0.0)), "0 or more, on every day")
    return {
        "mean_return_usd": float(earned.mean()),
        "mean_return_less_penalty_usd": float(less.mean()),
        "mean_gap_usd": float(gap.mean()),
        "gap_limit_usd": asymptotic_limit(gap, beta),
    }
