"""Certificates of penalised bounds: what no policy of the week can exceed, and how far one policy is from that.

The checks draw the weeks again from their seed, take the critic's tables from the certificate, run the dynamic
programmes and replay the recorded actions; they contain no solver. That the critic was fixed before the weeks is the
prover's word; that the penalty's mean is zero for any such critic is a theorem (penalty.py).

Two kinds of statement, told apart in the claims. Sure, path by path: return <= bound + penalty, so that the gap bound -
(return - penalty) is never negative. On average: no policy's expected return exceeds the expected bound, which the mean
over the weeks estimates; the limits on expectations are asymptotic (normal), as the range of these numbers, though
finite, is too wide for finite-sample limits of any use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, near, numbers, whole_number
from baselines.risk import asymptotic_limit
from baselines.shared_battery.laws import law_data, law_from
from baselines.shared_battery.penalty import penalised, penalty_of
from baselines.shared_battery.penalty_critic import WeekCritic
from baselines.shared_battery.penalty_law import MOST_UNITS, week_shocks
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week, sample_weeks

__all__ = [
    "BOUND_KIND",
    "CHECKS",
    "GAP_KIND",
    "Gap",
    "check_bound",
    "check_gap",
    "critic_from",
    "gap_certificate",
    "penalty_certificate",
]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

BOUND_KIND, GAP_KIND = "week penalised bound", "week certified gap"
_COMMON = {"format", "problem", "kind", "instance_sha256", "instance", "sample", "needs", "grid", "classes", "critic"}
_COMMON |= {"beta", "mean_bound_usd", "bound_limit_usd"}
_GAP = {"mean_return_usd", "mean_return_less_penalty_usd", "mean_gap_usd", "gap_limit_usd"}
_FIELDS = {BOUND_KIND: _COMMON, GAP_KIND: _COMMON | _GAP | {"policy", "policy_sha256", "actions"}}
_SAMPLE = {"law", "seed", "n_samples"}
_CRITIC = {"worth_usd", "tilt_usd", "traits", "scale"}
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|
_MOST_VISITS, _MOST_WORK = 2 * 10**7, 10**12  # no forged number makes a check endless


class Gap(NamedTuple):
    """How far a policy is from the bound, over E weeks; limits hold asymptotically with probability 1 - beta each.

    Attributes:
        mean_bound_usd: mean bound of the weeks [$].
        bound_limit_usd: upper limit on its expectation, so on every policy's expected return [$].
        mean_return_usd: what the policy earned [$].
        mean_return_less_penalty_usd: the same less the penalty: the same expectation, scattered less [$].
        mean_gap_usd: mean of bound - (return - penalty), none of which is negative [$].
        gap_limit_usd: upper limit on its expectation, so on what the best policy earns more than this one [$].
    """

    mean_bound_usd: float
    bound_limit_usd: float
    mean_return_usd: float
    mean_return_less_penalty_usd: float
    mean_gap_usd: float
    gap_limit_usd: float


def penalty_certificate(
    model: WeekModel, seed: int, critic: WeekCritic, bound_usd: Floats, grid: int, classes: int, beta: float
) -> dict[str, Any]:
    """JSON certificate of the mean bound over the weeks of ``sample_weeks(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the weeks; the critic must not have seen them.
        critic: that was used.
        bound_usd: (n,) bounds of ``penalised``.
        grid: units there.
        classes: classes there, as they were asked for.
        beta: probability with which the limit may fail.
    """
    return _head(model, BOUND_KIND, seed, critic, bound_usd, grid, classes, beta)


def gap_certificate(
    model: WeekModel,
    seed: int,
    critic: WeekCritic,
    bound_usd: Floats,
    grid: int,
    classes: int,
    beta: float,
    actions: NDArray[Any],
    policy: str,
    sha256: str | None = None,
) -> dict[str, Any]:
    """JSON certificate of how far a policy is from the bound; arguments as ``penalty_certificate``, and more.

    Args:
        model: of the environment.
        seed: of the weeks; neither critic nor policy must have seen them.
        critic: that was used.
        bound_usd: (n,) bounds of ``penalised``.
        grid: units there.
        classes: classes there.
        beta: probability with which each limit may fail.
        actions: (n, T) of the policy on these weeks.
        policy: its name.
        sha256: hash of a trained policy's bundle.
    """
    scenario = sample_weeks(model.instance, model.law, len(bound_usd), seed)
    shock = _shock(model, len(bound_usd), seed)
    gap = _gap(model, scenario, critic, bound_usd, actions, (grid, classes, beta), shock)
    return _head(model, GAP_KIND, seed, critic, bound_usd, grid, classes, beta) | {
        "policy": policy,
        "policy_sha256": sha256,
        "actions": pack(np.asarray(actions, np.int32)),
        **gap._asdict(),
    }


def check_bound(data: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "week penalised bound".

    Args:
        data: as loaded from JSON.
        instance: the one it must belong to; None takes the one written in it.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    model, critic = _model(data, instance, BOUND_KIND)
    try:
        values = _values(model, critic, data)[0]
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    return Report(BOUND_KIND, (_claim(data, values),), values)


def check_gap(data: Data, instance: Instance | None = None) -> Report:
    """Check one certificate of kind "week certified gap"; arguments and errors as ``check_bound``."""
    model, critic = _model(data, instance, GAP_KIND)
    name, digest, n = data["policy"], data["policy_sha256"], data["sample"]["n_samples"]
    expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
    actions = numbers("actions", data["actions"], (n, model.steps), "<i4")
    try:
        values, scenario, bound, shock = _values(model, critic, data)
        plan = (data["grid"], data["classes"], data["beta"])
        gap = _gap(model, scenario, critic, bound, actions, plan, shock)._asdict()
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    for field in sorted(_GAP):
        near(field, data[field], gap[field], _MONEY)
    claims = (
        _claim(data, values),
        f"{name} earns {gap['mean_return_usd']:.4f} $ a week on average over these weeks, and "
        f"{gap['mean_return_less_penalty_usd']:.4f} $ less a penalty whose expectation is zero",
        f"on no week is it above the bound; asymptotically with confidence 1 - {data['beta']:g} no policy earns more "
        f"than {gap['gap_limit_usd']:.4f} $ a week more than this one on average",
    )
    return Report(GAP_KIND, claims, gap)


CHECKS: dict[str, Callable[[Data, Instance], Report]] = {BOUND_KIND: check_bound, GAP_KIND: check_gap}


def _claim(data: Data, values: Mapping[str, float]) -> str:
    return (
        f"no policy of V2G/SharedBatteryAllocation-v0 earns more, less a penalty whose expectation is zero, than "
        f"{values['mean_bound_usd']:.4f} $ a week on average over these {data['sample']['n_samples']} weeks; "
        f"asymptotically with confidence 1 - {data['beta']:g} no policy's expected return exceeds "
        f"{values['bound_limit_usd']:.4f} $ a week"
    )


def _values(model: WeekModel, critic: WeekCritic, data: Data) -> tuple[dict[str, float], Week, Floats, Floats | None]:
    """Recomputed bounds, compared with the claims."""
    origin = data["sample"]
    scenario = sample_weeks(model.instance, model.law, origin["n_samples"], origin["seed"])
    shock = _shock(model, origin["n_samples"], origin["seed"])
    bound = penalised(model, scenario, critic, data["grid"], data["classes"], shock).bound_usd
    values = {"mean_bound_usd": float(bound.mean()), "bound_limit_usd": asymptotic_limit(bound, data["beta"])}
    for field, true in values.items():
        near(field, data[field], true, _MONEY)
        expect(data[field] >= true - 1e-10 * (1.0 + abs(true)), field, data[field], f"at least {true!r}")
    return values, scenario, bound, shock


def _gap(
    model: WeekModel,
    scenario: Week,
    critic: WeekCritic,
    bound: Floats,
    actions: NDArray[Any],
    plan: tuple[int, int, float],
    shock: Floats | None,
) -> Gap:
    grid, classes, beta = plan
    earned = rollout(model, scenario, Recorded(np.asarray(actions))).returns
    less = earned - penalty_of(model, scenario, actions, critic, grid, classes, shock)
    gap = bound - less
    require(bool((gap >= 0.0).all()), "least gap", float(gap.min(initial=0.0)), "0 or more, on every week")
    return Gap(
        mean_bound_usd=float(bound.mean()),
        bound_limit_usd=asymptotic_limit(bound, beta),
        mean_return_usd=float(earned.mean()),
        mean_return_less_penalty_usd=float(less.mean()),
        mean_gap_usd=float(gap.mean()),
        gap_limit_usd=asymptotic_limit(gap, beta),
    )


def _shock(model: WeekModel, weeks: int, seed: int) -> Floats | None:
    return week_shocks(model.instance, weeks, seed) if model.instance.correlation > 0.0 else None


def _head(
    model: WeekModel, kind: str, seed: int, critic: WeekCritic, bound: Floats, grid: int, classes: int, beta: float
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "problem": "shared_battery",
        "kind": kind,
        "instance_sha256": model.instance.hash,
        "instance": model.instance.to_dict(),
        "sample": {"law": model.law.name, "seed": int(seed), "n_samples": len(bound)},
        "needs": law_data(model.law),
        "grid": int(grid),
        "classes": int(classes),
        "critic": {
            "worth_usd": pack(critic.worth_usd),
            "tilt_usd": pack(critic.tilt_usd),
            "traits": pack(critic.traits),
            "scale": critic.scale,
        },
        "beta": float(beta),
        "mean_bound_usd": float(bound.mean()),
        "bound_limit_usd": asymptotic_limit(bound, beta),
    }


def _model(data: Data, instance: Instance | None, kind: str) -> tuple[WeekModel, WeekCritic]:
    """Model and critic that a certificate speaks of, after all its words about them have been compared."""
    expect(isinstance(data, Mapping), "certificate", type(data).__name__, "a JSON object")
    fields = _FIELDS[kind]
    expect(set(data) == fields, "fields", sorted(data), ", ".join(sorted(fields)))
    for field, wanted in (("format", FORMAT), ("problem", "shared_battery"), ("kind", kind)):
        expect(data[field] == wanted, field, data[field], wanted)
    expect(isinstance(data["instance"], Mapping), "instance", data["instance"], "a JSON object")
    try:
        written = Instance.from_dict(data["instance"])
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    for claimed in (data["instance_sha256"], written.hash if instance is None else instance.hash):
        expect(claimed == written.hash, "instance", written.hash, f"{claimed!r:.80}")
    _check_sizes(data, written)
    source = law_from(data["needs"], written)
    origin = data["sample"]["law"]
    expect(source.name == origin, "sample.law", origin, source.name)
    try:
        model = WeekModel(written, source)
        critic = critic_from(data["critic"], model)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    return model, critic


def _check_sizes(data: Data, lot: Instance) -> None:
    origin, visits = data["sample"], lot.week_days * lot.drivers
    ok = isinstance(origin, Mapping) and set(origin) == _SAMPLE
    expect(ok, "sample", origin, f"exactly {', '.join(sorted(_SAMPLE))}")
    n = whole_number("sample.n_samples", origin["n_samples"], 2, _MOST_VISITS // visits)
    whole_number("sample.seed", origin["seed"], 0, 2**63)
    grid = whole_number("grid", data["grid"], 1, MOST_UNITS)
    classes = whole_number("classes", data["classes"], 1, grid + 1)
    work = n * visits * (grid + 1) * classes
    expect(work <= _MOST_WORK, "grid", grid, f"visits x units x classes at most {_MOST_WORK:g}")
    beta = data["beta"]
    expect(type(beta) is float and 0.0 < beta <= 0.5, "beta", beta, "a number in (0, 1/2]")


def critic_from(data: Any, model: WeekModel) -> WeekCritic:
    """The critic that a certificate holds, for weeks of ``model``."""
    ok = isinstance(data, Mapping) and set(data) == _CRITIC
    expect(ok, "critic", data, f"exactly {', '.join(sorted(_CRITIC))}")
    expect(type(data["scale"]) is float, "critic.scale", data["scale"], "a number in [0, 1]")
    shape = data["tilt_usd"]["shape"]
    known = isinstance(shape, list) and len(shape) == 3 and all(type(size) is int for size in shape)
    expect(known and shape[1] == model.steps, "shape of critic.tilt_usd", shape, f"[any, {model.steps}, any]")
    count, steps, knots = shape
    critic = WeekCritic(
        numbers("critic.worth_usd", data["worth_usd"], (steps, knots)),
        numbers("critic.tilt_usd", data["tilt_usd"], (count, steps, knots)),
        numbers("critic.traits", data["traits"], (model.instance.drivers, count)),
        data["scale"],
    )
    critic.check(model)
    return critic
