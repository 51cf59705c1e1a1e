"""Checks of certificates about sizes: scenario programs, separate batteries, tests on fresh days, seasons.

Every sample is drawn again from its seed, every count, bound and limit recomputed; multipliers are only evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import CertificateError, Report, unpack
from baselines.checking import expect, near, whole_number
from baselines.shared_battery.duals import largest_use, least_use_bound
from baselines.shared_battery.laws import law_from
from baselines.shared_battery.programs import TIE_BREAK, most_above, span_of
from baselines.shared_battery.reliability import PROGRAM_STREAM, TRAINING_STREAM, missed_days, sample_test
from baselines.shared_battery.scenario_program import POSITION_KWH, SLACK, budget, certified_distance
from baselines.shared_battery.season_bound import Prices, bound
from baselines.shared_battery.seasons import count_violations
from baselines.shared_battery.units import short_days
from v2g_env.core.allocation import RULES
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SizingModel
from v2g_env.shared_battery.scenario import Days, Law, sample_days, sample_seasons

__all__ = ["CHECKS"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

_COMMON = {"format", "problem", "kind", "instance_sha256", "instance", "needs", "sample"}
_SIZES = _COMMON | {"own_kwh", "shared_kwh", "cost_usd", "risk"}
_FIELDS = {
    "scenario sizes": _SIZES | {"tie_break", "least_own_kwh", "days", "cost_weight", "tie_weight"},
    "separate sizes": _SIZES | {"days_above"},
    "tested sizes": _SIZES | {"rule", "missed"},
    "tested units": _COMMON | {"own_kwh", "units", "unit_kwh", "whole", "cost_usd", "short_days", "risk"},
    "season bound": _COMMON | {"missed_usd", "shared_usd_per_kwh", "mean_bound_usd"},
    "season policy": _COMMON | {"policy", "policy_sha256", "actions", "mean_return_usd", "risk"},
}
_SAMPLE = {"law", "seed", "n_samples"}
_PARTS = {
    "scenario sizes": {"sample": _SAMPLE | {"sha256"}, "risk": {"beta", "looks", "theorem", "eps"}},
    "separate sizes": {"sample": _SAMPLE | {"sha256"}, "risk": {"beta", "eps"}},
    "tested sizes": {"sample": _SAMPLE | {"sha256", "stream"}, "risk": {"beta", "looks", "eps"}},
    "tested units": {"sample": _SAMPLE | {"sha256", "stream"}, "risk": {"beta", "eps"}},
    "season bound": {"sample": _SAMPLE},
    "season policy": {"sample": _SAMPLE, "risk": {"beta", "days", "violated", "eps"}},
}
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|
_MOST = 5 * 10**8  # numbers drawn; no forged size makes a check endless


def _vector(field: str, values: Any, length: int, low: float = 0.0, high: float = np.inf) -> Floats:
    ok = isinstance(values, list) and len(values) == length and all(type(each) is float for each in values)
    expect(ok, field, values, f"{length} numbers")
    found = np.array(values, np.float64)
    inside = np.isfinite(found).all() and (found >= low).all() and (found <= high).all()
    expect(bool(inside), field, values, f"finite numbers in [{low:g}, {high:g}]")
    return found


def _start(data: Data, instance: Instance, per_sample: int) -> Law:
    """Fields, parts and law of a certificate, compared; ``per_sample`` numbers are drawn for each sample."""
    kind = data["kind"]
    expect(set(data) == _FIELDS[kind], "fields", sorted(data), ", ".join(sorted(_FIELDS[kind])))
    for name, keys in _PARTS[kind].items():
        part = data[name]
        expect(isinstance(part, Mapping) and set(part) == keys, name, part, f"exactly {', '.join(sorted(keys))}")
    source = law_from(data["needs"], instance)
    expect(source.name == data["sample"]["law"], "sample.law", data["sample"]["law"], source.name)
    if data["sample"]["seed"] is not None or kind != "separate sizes":
        whole_number("sample.seed", data["sample"]["seed"], 0, 2**63)
        whole_number("sample.n_samples", data["sample"]["n_samples"], 1, _MOST // per_sample)
    return source


def _same_counts(claimed: Any, true: list[int]) -> bool:
    return isinstance(claimed, list) and claimed == true and all(type(each) is int for each in claimed)


def _sizes(data: Data, instance: Instance) -> tuple[Floats, float]:
    own = _vector("own_kwh", data["own_kwh"], instance.drivers, instance.own_min_kwh, instance.own_max_kwh)
    shared, most = data["shared_kwh"], instance.shared_max_kwh
    expect(type(shared) is float and 0.0 <= shared <= most, "shared_kwh", shared, f"a number in [0, {most:g}]")
    near("cost_usd", data["cost_usd"], float(instance.cost_usd(own, shared)))
    return own, float(shared)


def _confidence(claim: Data) -> tuple[float, int]:
    beta, looks = claim["beta"], claim.get("looks", 1)
    expect(type(beta) is float and 0.0 < beta < 1.0, "risk.beta", beta, "(0, 1)")
    return beta, whole_number("risk.looks", looks, 1, 10**6)


def _same_days(data: Data, days: Days) -> None:
    expect(days.sha256 == data["sample"]["sha256"], "sample.sha256", data["sample"]["sha256"], days.sha256)


def _scenario(data: Data, instance: Instance) -> Report:
    source, n = _start(data, instance, instance.drivers), instance.drivers
    own, shared = _sizes(data, instance)
    origin, span = data["sample"], span_of(instance)
    need = sample_days(instance, source, origin["n_samples"], origin["seed"])
    _same_days(data, need)
    least_own = _vector("least_own_kwh", data["least_own_kwh"], n)
    for field, sizes in (("own_kwh", own), ("least_own_kwh", least_own)):
        inside = (sizes >= span.low).all() and (sizes <= span.high).all()
        expect(bool(inside), field, data[field], "within the instance's range")
    expect(data["tie_break"] == TIE_BREAK, "tie_break", data["tie_break"], TIE_BREAK)
    chosen = data["days"]
    ok = isinstance(chosen, list) and all(type(k) is int and 0 <= k < origin["n_samples"] for k in chosen)
    expect(ok and chosen == sorted(set(chosen)), "days", chosen, "increasing indices of samples")
    count = len(chosen)
    weight, tie = (_vector(name, data[name], count + 1) for name in ("cost_weight", "tie_weight"))
    expect(weight.sum() > 0.0, "cost_weight", data["cost_weight"], "not all zero")
    deciding = np.vstack([need.need_kwh[chosen].reshape(count, n), np.zeros((1, n))])
    low = least_use_bound(deciding, weight, span.low, span.high, span.ratio)
    most = float(largest_use(need.need_kwh, least_own, span.ratio).max())
    slack = 0.01 * SLACK * (max(low, 0.0) + 1.0)
    expect(most <= low + slack, "gap of the least use [kWh]", most - low, f"at most {slack:.1e}")
    limit = shared + span.ratio * float(own.sum())
    spent = abs(limit - budget(low)) <= 1e-12 * (1.0 + low)
    expect(spent, "shared_kwh", shared, f"{budget(low)!r} less own batteries")
    use = float(largest_use(need.need_kwh, own, span.ratio).max())
    expect(use <= budget(low), "sizes", f"{use - limit:g} kWh short on a sampled day", "enough on every one")
    distance = certified_distance(deciding, own, tie, span, most)
    expect(distance <= POSITION_KWH, "distance to the unique sizes [kWh]", distance, f"at most {POSITION_KWH}")
    beta, looks = _confidence(data["risk"])
    expect(data["risk"]["theorem"] == "degenerate", "risk.theorem", data["risk"]["theorem"], "degenerate")
    eps = float(risk.degenerate(origin["n_samples"], count, beta / looks))
    near("risk.eps", data["risk"]["eps"], eps)
    margin = (1.0 + span.ratio) * float(np.sqrt(n)) * distance
    claims = (
        f"no sizes serve all {origin['n_samples']} sampled days for less than "
        f"{instance.shared_usd_per_kwh * low:.4f} $; these cost {data['cost_usd']:.4f} $",
        f"{'1 day decides: it alone gives' if count == 1 else f'{count} days decide: they alone give'} these sizes, to "
        f"{distance:.1e} kWh",
        f"with confidence 1 - {beta:g} the drivers' shortfalls exceed the shared battery by more than {margin:.1e} kWh "
        f"on a day of {source.name} with probability at most {eps:.4g}; where they fit, every shortfall-minimising "
        "rule serves everybody",
    )
    values = {"eps": eps, "complexity": float(count), "bound_usd": instance.shared_usd_per_kwh * low}
    return Report(data["kind"], claims, values | {"distance_kwh": distance, "margin_kwh": margin})


def _separate(data: Data, instance: Instance) -> Report:
    source, n = _start(data, instance, instance.drivers), instance.drivers
    own, shared = _sizes(data, instance)
    expect(shared == 0.0, "shared_kwh", shared, "0")
    beta, _ = _confidence(data["risk"])
    origin, claimed = data["sample"], data["risk"]["eps"]
    limits = _vector("risk.eps", claimed, n, 0.0, 1.0)
    if origin["seed"] is None:
        expect(origin["n_samples"] is None and origin["sha256"] is None, "sample", origin, "no sample, or all of it")
        expect(data["days_above"] == [], "days_above", data["days_above"], "none without a sample")
        need = source.needs.quantile(1.0 - instance.tolerated)
        true = instance.tolerated
        text = "the law's own quantiles: every driver needs more with exactly the tolerated probability, or less"
    else:
        days = sample_days(instance, source, origin["n_samples"], origin["seed"])
        _same_days(data, days)
        above = most_above(instance, origin["n_samples"], beta)
        expect(_same_counts(data["days_above"], above), "days_above", data["days_above"], str(above))
        need = np.sort(days.need_kwh, axis=0)[origin["n_samples"] - 1 - np.array(above), np.arange(n)]
        true = np.atleast_1d(risk.hold_out(origin["n_samples"], np.array(above), beta / n))
        text = f"with confidence 1 - {beta:g} no driver needs more with a probability above {true.max():.4g}"
    need = np.maximum(need, instance.own_min_kwh)
    expect(bool((np.abs(own - need) <= 1e-9 * (1.0 + need)).all()), "own_kwh", data["own_kwh"], "the quantiles")
    expect(bool((np.abs(limits - true) <= 1e-9).all()), "risk.eps", claimed, f"{true.tolist()}")
    return Report(data["kind"], (text,), {"eps": float(true.max()), "cost_usd": data["cost_usd"]})


def _tested(data: Data, instance: Instance) -> Report:
    source, n = _start(data, instance, 2 * instance.drivers), instance.drivers
    own, shared = _sizes(data, instance)
    origin, rule = data["sample"], data["rule"]
    expect(rule in RULES, "rule", rule, ", ".join(RULES))
    stream = _fresh_stream(origin)
    days = sample_test(instance, source, origin["n_samples"], origin["seed"], stream, rule)
    _same_days(data, Days(days.need_kwh))
    missed = missed_days(rule, own, shared, days)
    expect(_same_counts(data["missed"], missed.tolist()), "missed", data["missed"], str(missed.tolist()))
    beta, looks = _confidence(data["risk"])
    true = np.atleast_1d(risk.hold_out(origin["n_samples"], missed, beta / looks / n))
    limits = _vector("risk.eps", data["risk"]["eps"], n, 0.0, 1.0)
    expect(bool((np.abs(limits - true) <= 1e-9).all()), "risk.eps", data["risk"]["eps"], f"{true.tolist()}")
    kept = int((true <= instance.tolerated).sum())
    claims = (
        f"on {origin['n_samples']} days of {source.name} the worst served driver was missed {int(missed.max())} times "
        f"under the rule {rule}",
        f"if the sizes were fixed before these days: with confidence 1 - {beta:g} every driver is missed with "
        f"probability at most {true.max():.4g}; {kept} of {n} targets are certified",
    )
    return Report(data["kind"], claims, {"eps": float(true.max()), "targets_kept": float(kept)})


def _fresh_stream(origin: Data) -> int:
    """Stream of test days; from those of programs and searches the sizes may have been made."""
    stream = whole_number("sample.stream", origin["stream"], 0, 1000)
    expect(stream not in (PROGRAM_STREAM, TRAINING_STREAM), "sample.stream", stream, "neither 0 nor 10")
    return stream


def _tested_units(data: Data, instance: Instance) -> Report:
    source = _start(data, instance, instance.drivers)
    own = _vector("own_kwh", data["own_kwh"], instance.drivers, instance.own_min_kwh, instance.own_max_kwh)
    unit, whole, origin = data["unit_kwh"], data["whole"], data["sample"]
    expect(type(unit) is float and 0.0 < unit <= instance.shared_max_kwh, "unit_kwh", unit, "a positive size")
    units = whole_number("units", data["units"], 0, int(instance.shared_max_kwh / unit + 1e-12))
    expect(isinstance(whole, bool), "whole", whole, "true or false")
    near("cost_usd", data["cost_usd"], float(instance.cost_usd(own, units * unit)))
    days = sample_days(instance, source, origin["n_samples"], origin["seed"], _fresh_stream(origin))
    _same_days(data, days)
    short = short_days(days.need_kwh, own, units, unit, whole)
    expect(type(data["short_days"]) is int and data["short_days"] == short, "short_days", data["short_days"], short)
    beta, _ = _confidence(data["risk"])
    eps = float(risk.hold_out(origin["n_samples"], short, beta))
    near("risk.eps", data["risk"]["eps"], eps)
    claim = (
        f"{units} units of {unit:g} kWh, {'taken whole by every driver' if whole else 'divided among drivers'}, did "
        f"not suffice on {short} of {origin['n_samples']} days of {source.name}; if the sizes were fixed before: with "
        f"confidence 1 - {beta:g} they do not with probability at most {eps:.4g}"
    )
    return Report(data["kind"], (claim,), {"eps": eps, "short_days": float(short)})


def _season_bound(data: Data, instance: Instance) -> Report:
    source = _start(data, instance, instance.season_days * instance.drivers)
    origin = data["sample"]
    season = sample_seasons(instance, source, origin["n_samples"], origin["seed"])
    evidence = Prices(unpack(data["missed_usd"]), unpack(data["shared_usd_per_kwh"]))
    try:
        cost = bound(instance, season, evidence)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    mean = SizingModel(instance, source).separate_usd - cost
    near("mean_bound_usd", data["mean_bound_usd"], mean, _MONEY)
    expect(
        data["mean_bound_usd"] >= mean - 1e-12 * abs(mean),
        "mean_bound_usd",
        data["mean_bound_usd"],
        f"at least {mean!r}",
    )
    claim = f"no fixed sizes earn more than {mean:.4f} $ a season on average over these {origin['n_samples']} seasons"
    return Report(data["kind"], (claim,), {"mean_bound_usd": mean})


def _season_policy(data: Data, instance: Instance) -> Report:
    source = _start(data, instance, instance.season_days * instance.drivers)
    origin, name, digest = data["sample"], data["policy"], data["policy_sha256"]
    expect(isinstance(name, str) and name != "", "policy", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "policy_sha256", digest, "a hash or null")
    n, model = origin["n_samples"], SizingModel(instance, source)
    actions = unpack(data["actions"])
    shape = (n, 1, model.action_size)
    expect(actions.shape == shape and actions.dtype.str == "<f4", "actions", actions.shape, f"{shape} of <f4")
    try:
        season = sample_seasons(instance, source, n, origin["seed"])
        episodes = rollout(model, season, Recorded(actions))
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    mean = float(episodes.returns.mean())
    near("mean_return_usd", data["mean_return_usd"], mean, _MONEY)
    beta, _ = _confidence(data["risk"])
    kept = count_violations(model, episodes, beta)
    for field, true in (("days", kept.days), ("violated", kept.violated)):
        expect(
            type(data["risk"][field]) is int and data["risk"][field] == true, f"risk.{field}", data["risk"][field], true
        )
    near("risk.eps", data["risk"]["eps"], kept.eps)
    claims = (
        f"{name} earns {mean:.4f} $ a season on average over {n} seasons of {source.name}; what follows holds if the "
        "sizes were chosen before these seasons were drawn",
        f"on {kept.violated} of {kept.days} days the shortfalls exceeded the shared battery; with confidence "
        f"1 - {beta:g} the mean probability of that, given the sizes chosen, was at most {kept.eps:.4g}",
    )
    return Report(data["kind"], claims, {"mean_return_usd": mean, "eps": kept.eps})


CHECKS: dict[str, Callable[[Data, Instance], Report]] = {
    "scenario sizes": _scenario,
    "separate sizes": _separate,
    "tested sizes": _tested,
    "tested units": _tested_units,
    "season bound": _season_bound,
    "season policy": _season_policy,
}
