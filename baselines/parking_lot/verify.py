"""Checks of the parking lot's certificates: NumPy only, no solver, everything recomputed from seeds and duals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import CertificateError, Report, unpack
from baselines.checking import expect, near, whole_number
from baselines.parking_lot import profit_game, verify_penalty, verify_shield, verify_storage_game
from baselines.parking_lot.samples import (
    excess,
    expected_market,
    inflate,
    openable,
    physical_limits,
    reachable,
    true_market,
)
from baselines.parking_lot.storage import bound, piece_lengths, plan_money, slopes_usd_per_kwh, tie_break
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import Capacity, law, sample, sample_capacity
from v2g_env.rollout import Recorded, rollout

__all__ = ["verify"]

Floats = NDArray[np.float64]
Data = Mapping[str, Any]

_COMMON = {"format", "problem", "kind", "instance_sha256", "instance", "sample"}
_FIELDS = {
    "scenario program": {"program", "plan_kwh", "value_usd", "multiplier", "row_duals", "support", "risk", "shift"},
    "hindsight bound": {"multiplier", "mean_bound_usd"},
    "policy": {
        "policy",
        "policy_sha256",
        "plan_kwh",
        "actions",
        "mean_return_usd",
        "days_violated",
        "risk",
        "hindsight_gap",
    },
    **verify_shield.FIELDS,
    **verify_penalty.FIELDS,
    **profit_game.FIELDS,
    **verify_storage_game.FIELDS,
}
_PARTS = {
    "scenario program": {
        "sample": {"law", "seed", "n_samples", "quota", "sha256"},
        "program": {"rho", "radius"},
        "risk": {"beta", "looks", "theorem", "eps_low", "eps"},
        "shift": {"distance", "eps"},
    },
    "hindsight bound": {"sample": {"law", "seed", "n_samples"}},
    "policy": {
        "sample": {"law", "seed", "n_samples"},
        "risk": {"beta", "days", "violated", "eps", "each_day_once"},
        "hindsight_gap": {"multiplier", "mean_usd"},
    },
    **verify_shield.PARTS,
    **verify_penalty.PARTS,
    **profit_game.PARTS,
    **verify_storage_game.PARTS,
}
_PLAN_KWH = 1e-4
_MOST_DAYS = 100_000  # no forged number makes a check endless
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|


def verify(certificate: Data, instance: Instance | None) -> Report:
    """Check one certificate; see baselines.certificate.check."""
    kind = str(certificate.get("kind"))
    expect(kind in _FIELDS, "kind", kind, ", ".join(_FIELDS))
    for key in certificate:
        expect(key in _COMMON | _FIELDS[kind], "field", key, ", ".join(sorted(_COMMON | _FIELDS[kind])))
    for name, keys in _PARTS[kind].items():
        if name != "shift" or name in certificate:
            part = certificate[name]
            expect(isinstance(part, Mapping) and set(part) == keys, name, part, f"exactly {', '.join(sorted(keys))}")
    try:
        written = Instance.from_dict(certificate["instance"])
    except InvalidInputError as error:
        raise CertificateError(f"instance = invalid: {error}") from None
    expect(
        written.hash == certificate["instance_sha256"], "instance_sha256", certificate["instance_sha256"], written.hash
    )
    if instance is not None:
        expect(instance.hash == written.hash, "instance", written.hash, f"the given instance {instance.hash}")
    checks: dict[str, Callable[[Data, Instance], Report]] = {
        "scenario program": _program,
        "hindsight bound": _hindsight,
        "policy": _policy,
        verify_shield.BOX_KIND: verify_shield.check_box,
        verify_shield.MARGIN_KIND: verify_shield.check_margin,
        verify_penalty.KIND: verify_penalty.verify_penalised,
        profit_game.KIND: profit_game.check_profit_game,
        verify_storage_game.KIND: verify_storage_game.check_equilibrium,
    }
    return checks[kind](certificate, written)


def _vector(field: str, values: Any, length: int) -> Floats:
    result = np.asarray(values, dtype=np.float64)
    expect(result.shape == (length,) and bool(np.isfinite(result).all()), field, values, f"{length} finite numbers")
    return result


def _program(data: Data, lot: Instance) -> Report:
    origin = data["sample"]
    source = law(origin["law"])
    if source.replay:
        days = len(source.days.dates)
        expect(
            origin["n_samples"] <= days, "sample.n_samples", origin["n_samples"], f"at most {days}: a day counts once"
        )
    nominal = sample_capacity(lot, source, origin["n_samples"], origin["seed"], origin["quota"])
    expect(nominal.sha256 == origin["sha256"], "sample.sha256", origin["sha256"], nominal.sha256)
    rho, radius = data["program"]["rho"], data["program"]["radius"]
    worst = inflate(lot, nominal, radius)
    plan = _vector("plan_kwh", data["plan_kwh"], lot.steps)
    top = openable(lot, np.full((1, lot.steps), physical_limits(lot)[0]))[0]
    expect((plan >= 0.0).all() and (plan <= top).all(), "plan_kwh", data["plan_kwh"], "0 to what the lot can hold")
    f = excess(lot, plan, worst)
    support = _support(data["support"], len(f))
    violated = np.flatnonzero(f > VIOLATION_TOLERANCE)
    if rho is None:
        expect(not len(violated), "plan_kwh", f"violates sample {violated[:1]}", "feasible for every sample")
    else:
        expect(rho > 0.0, "program.rho", rho, "positive")
        expect(set(violated.tolist()) <= set(support), "support", support, "every violated sample is in the list")
    market = expected_market(lot)
    value = float(plan_money(lot, market, plan)[0])
    near("value_usd", data["value_usd"], value, _MONEY)
    slack = np.maximum(f[support], 0.0).sum()
    objective = value - float(tie_break(lot.steps) @ plan) - (0.0 if rho is None else rho * slack)
    upper = _program_bound(lot, worst, data, rho, support)
    gap = upper - objective
    expect(abs(gap) <= _MONEY * (1.0 + abs(objective)), "optimality gap [$]", gap, "0 within 1e-6 relative")
    only = _only_optimum(lot, worst, data, rho, support)
    expect(only is not None, "multiplier", "several optima", "duals that leave one optimum for the support")
    off = float(np.abs(np.asarray(only) - plan).max())
    expect(off <= _PLAN_KWH, "plan_kwh", f"{off:g} kWh off", f"within {_PLAN_KWH:g} kWh of the support's optimum")
    eps_low, eps = _risk_of(data["risk"], len(f), len(support), rho is not None, source.smoothed and radius == 0.0)
    claims = [
        f"the plan is optimal for its {len(support)} support samples and for all {len(f)}, gap {gap:.1e} $",
        f"with confidence 1 - {data['risk']['beta']:g} law {source.name} violates the plan with probability at most "
        f"{eps:.4g}" + (f" (inflated by {radius:g} chargers)" if radius else ""),
    ]
    claims.append("the plan is the only optimum: the support list reproduces it")
    values = {"value_usd": value, "gap_usd": gap, "eps": eps, "eps_low": eps_low, "complexity": float(len(support))}
    if "shift" in data:
        shift = data["shift"]
        moved = float(risk.shifted(eps, radius, shift["distance"]))
        expect(abs(moved - shift["eps"]) <= 1e-9, "shift.eps", shift["eps"], repr(moved))
        claims.append(f"any law within Wasserstein distance {shift['distance']:g} violates it with at most {moved:.4g}")
        values["shift_eps"] = moved
    return Report("scenario program", tuple(claims), values)


def _support(support: Any, n: int) -> list[int]:
    ok = isinstance(support, list) and all(type(i) is int and 0 <= i < n for i in support)
    expect(ok and len(set(support)) == len(support) > 0, "support", support, f"distinct indices below {n}")
    return list(support)


def _row_prices(lot: Instance, worst: Capacity, data: Data, support: list[int]) -> tuple[Floats, Floats, Floats]:
    """Prices (3, T), each scenario's total dual (N,), and the terms dual x right-hand side."""
    prices = np.zeros((3, lot.steps))
    total = np.zeros(len(worst.energy_kwh))
    terms = []
    kinds = ("energy", "charge", "discharge")
    allowed = set(support)
    for kind, t, i, dual in data["row_duals"]:
        expect(kind in kinds and 0 <= t < lot.steps, "row_duals", (kind, t), "a kind and a step of the horizon")
        expect(i in allowed, "row_duals", i, "samples of the support")
        expect(np.isfinite(dual) and dual >= 0.0, "row_duals", dual, "finite and not negative")
        unit = lot.energy_scale_kwh if kind == "energy" else lot.charger_kw
        limit = worst.energy_kwh[i, t] if kind == "energy" else worst.power_kw[i, t]
        prices[kinds.index(kind), t] += dual / unit
        total[i] += dual
        terms.append(dual * limit / unit)
    return prices, total, np.array([*terms, 0.0])


def _program_bound(lot: Instance, worst: Capacity, data: Data, rho: float | None, support: list[int]) -> float:
    """Upper limit on the objective of the program that knows the support alone (hence of the whole program)."""
    lam = _vector("multiplier", data["multiplier"], lot.steps)
    prices, total, terms = _row_prices(lot, worst, data, support)
    energy_max, power_max = physical_limits(lot)
    upper = bound(
        lot,
        expected_market(lot),
        openable(lot, np.full((1, lot.steps), energy_max)),
        np.full((1, lot.steps), power_max),
        lam[None],
        tie_break(lot.steps),
        row_price=prices,
    )[0]
    slack_max = max(energy_max / lot.energy_scale_kwh, power_max / lot.charger_kw)
    overpaid = 0.0 if rho is None else float(np.maximum(total - rho, 0.0).sum() * slack_max)
    rounding = (len(terms) + 16) * np.finfo(float).eps * float(np.abs(terms).sum())
    return float(np.nextafter(upper + terms.sum() + overpaid + rounding, np.inf))


def _only_optimum(lot: Instance, worst: Capacity, data: Data, rho: float | None, support: list[int]) -> Floats | None:
    """The stored energy (T,) of the only optimum for the support, or None if the duals leave more than one.

    Rows and bounds with a nonzero dual hold with equality in every optimum (complementary slackness). These equations
    in stored energy (T), the four pieces of every change (4 T) and one slack per support sample determine the stored
    energy if no direction of their null space moves it (exchanges of equal money may remain); it is computed by least
    squares.
    """
    steps, tiny = lot.steps, 1e-11
    lam = np.asarray(data["multiplier"], dtype=np.float64)
    prices, total, _ = _row_prices(lot, worst, data, support)
    eta, tau = lot.efficiency, lot.step_h
    extra = np.stack([prices[1] / (eta * tau)] * 2 + [-prices[2] * eta / tau] * 2, axis=-1)
    gains = slopes_usd_per_kwh(lot, lot.buy) + extra + lam[:, None]
    energy_max, power_max = physical_limits(lot)
    lengths = piece_lengths(lot, expected_market(lot), np.full((1, steps), power_max))[0]
    holding = lam - np.append(lam[1:], 0.0) - tie_break(steps) - prices[0]
    holding[: lot.gate_closure_steps] = holding[-1] = -1.0  # empty by rule
    value = np.zeros(5 * steps + len(support))
    value[:steps] = np.where(holding > 0.0, energy_max, 0.0)
    worth = np.concatenate([gains[:, :2] < 0.0, gains[:, 2:] > 0.0], axis=1)
    value[steps : 5 * steps] = np.where(worth, lengths, 0.0).ravel()
    free = np.ones(len(value), bool)
    free[:steps] = np.abs(holding) <= tiny
    free[steps : 5 * steps] = ((np.abs(gains) <= tiny) & (lengths > 0.0)).ravel()
    free[5 * steps :] = False if rho is None else total[support] >= rho * (1.0 - 1e-9)
    left, right = _equations(lot, worst, data, support)
    right = right - left[:, ~free] @ value[~free]
    system = left[:, free]
    if system.shape[1]:
        _, sizes, directions = np.linalg.svd(system, full_matrices=True)
        loose = directions[int((sizes > 1e-9 * max(sizes.max(initial=0.0), 1.0)).sum()) :]
        if np.abs(loose[:, : int(free[:steps].sum())]).max(initial=0.0) > 1e-7:
            return None
        value[free] = np.linalg.lstsq(system, right, rcond=None)[0]
    return np.asarray(value[:steps])


def _equations(lot: Instance, worst: Capacity, data: Data, support: list[int]) -> tuple[Floats, Floats]:
    """Balance of every step and rows with a positive dual, as left @ unknowns = right."""
    steps, eta, tau = lot.steps, lot.efficiency, lot.step_h
    place = {i: 5 * steps + m for m, i in enumerate(support)}
    active = [row for row in data["row_duals"] if row[3] > 1e-10]
    left = np.zeros((steps + len(active), 5 * steps + len(support)))
    right = np.zeros(len(left))
    for t in range(steps):
        left[t, t] = 1.0
        if t:
            left[t, t - 1] = -1.0
        left[t, steps + 4 * t : steps + 4 * t + 4] = [-1.0, -1.0, 1.0, 1.0]
    for m, (kind, t, i, _) in enumerate(active, start=steps):
        left[m, place[i]] = -1.0
        if kind == "energy":
            left[m, t] = 1.0 / lot.energy_scale_kwh
            right[m] = worst.energy_kwh[i, t] / lot.energy_scale_kwh
        else:
            scale = 1.0 / (eta * tau) if kind == "charge" else eta / tau
            first = steps + 4 * t + (0 if kind == "charge" else 2)
            left[m, first : first + 2] = scale / lot.charger_kw
            right[m] = worst.power_kw[i, t] / lot.charger_kw
    return left, right


def _risk_of(claim: Data, n: int, k: int, relaxed: bool, continuous: bool) -> tuple[float, float]:
    beta, looks = claim["beta"], claim["looks"]
    expect(0.0 < beta < 1.0 and type(looks) is int and looks >= 1, "risk", claim, "beta in (0, 1), looks at least 1")
    two_sided = relaxed and continuous
    expect(
        claim["theorem"] == ("relaxed" if two_sided else "degenerate"),
        "risk.theorem",
        claim["theorem"],
        "relaxed (only for a relaxed program and a law without ties) or degenerate",
    )
    low, up = risk.relaxed(n, k, beta / looks) if two_sided else (0.0, risk.degenerate(n, k, beta / looks))
    expect(abs(claim["eps"] - up) <= 1e-9, "risk.eps", claim["eps"], repr(float(up)))
    expect(abs(claim["eps_low"] - low) <= 1e-9, "risk.eps_low", claim["eps_low"], repr(float(low)))
    return float(low), float(up)


def _hindsight(data: Data, lot: Instance) -> Report:
    origin = data["sample"]
    whole_number("sample.n_samples", origin["n_samples"], 1, _MOST_DAYS)
    source = law(origin["law"])
    expect(not source.smoothed, "sample.law", source.name, "a law of sessions: no environment can draw this one")
    scenario = sample(lot, source, origin["n_samples"], origin["seed"])
    lam = unpack(data["multiplier"])
    expect(lam.shape == (origin["n_samples"], lot.steps), "shape of multiplier", lam.shape, "(n_samples, steps)")
    expect(np.isfinite(lam).all(), "multiplier", "not finite", "finite numbers")
    mean = float(bound(lot, true_market(lot, scenario), reachable(lot, scenario), None, lam).mean())
    near("mean_bound_usd", data["mean_bound_usd"], mean, _MONEY)
    expect(data["mean_bound_usd"] >= mean - 1e-9, "mean_bound_usd", data["mean_bound_usd"], f"at least {mean!r}")
    claim = f"no policy of V2G/ParkingLot-v0 earns more than {mean:.4f} $ on average over these {len(lam)} days"
    return Report("hindsight bound", (claim,), {"mean_bound_usd": mean})


def _hold_out(claim: Data, excess_of: Floats, day: NDArray[np.int32] | None) -> tuple[float, str]:
    """Recompute the Clopper-Pearson limit; redraws of a real day are no new evidence, so each day counts once."""
    single = np.arange(len(excess_of)) if day is None else np.sort(np.unique(day, return_index=True)[1])
    bad = int((excess_of[single] > VIOLATION_TOLERANCE).sum())
    expect(
        claim["each_day_once"] is (day is not None), "risk.each_day_once", claim["each_day_once"], str(day is not None)
    )
    expect(claim["days"] == len(single), "risk.days", claim["days"], str(len(single)))
    expect(claim["violated"] == bad, "risk.violated", claim["violated"], str(bad))
    expect(0.0 < claim["beta"] < 1.0, "risk.beta", claim["beta"], "(0, 1)")
    eps = float(risk.hold_out(len(single), bad, claim["beta"]))
    expect(abs(eps - claim["eps"]) <= 1e-9, "risk.eps", claim["eps"], repr(eps))
    return eps, f"with confidence 1 - {claim['beta']:g} it violates a fresh day with probability at most {eps:.4g}"


def _policy(data: Data, lot: Instance) -> Report:
    origin = data["sample"]
    whole_number("sample.n_samples", origin["n_samples"], 1, _MOST_DAYS)
    source = law(origin["law"])
    scenario = sample(lot, source, origin["n_samples"], origin["seed"])
    expect(isinstance(data["policy"], str), "policy", data["policy"], "the policy's name")
    model = Model(lot, source, _vector("plan_kwh", data["plan_kwh"], lot.steps))
    actions = unpack(data["actions"])
    n = origin["n_samples"]
    expect(actions.shape == (n, lot.steps, 1), "shape of actions", actions.shape, f"({n}, {lot.steps}, 1)")
    try:
        episodes = rollout(model, scenario, Recorded(actions.astype(np.float32)))
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    mean = float(episodes.returns.mean())
    near("mean_return_usd", data["mean_return_usd"], mean, _MONEY)
    bad = int((episodes.excess > VIOLATION_TOLERANCE).sum())
    expect(data["days_violated"] == bad, "days_violated", data["days_violated"], str(bad))
    claims = [f"{data['policy']} earns {mean:.4f} $ on average over {n} episodes of {source.name}; {bad} are violated"]
    values = {"mean_return_usd": mean, "days_violated": float(bad)}
    eps, text = _hold_out(data["risk"], episodes.excess, scenario.day if source.replay else None)
    claims.append(text)
    values["eps"] = eps
    lam = unpack(data["hindsight_gap"]["multiplier"])
    expect(lam.shape == (n, lot.steps), "shape of hindsight_gap.multiplier", lam.shape, "(n_samples, steps)")
    gaps = bound(lot, true_market(lot, scenario), reachable(lot, scenario), None, lam) - episodes.returns
    expect(gaps.min() >= -1e-9, "hindsight_gap", float(gaps.min()), "not negative on any path (weak duality)")
    near("hindsight_gap.mean_usd", data["hindsight_gap"]["mean_usd"], float(gaps.mean()), _MONEY)
    claims.append(f"the best trajectories in hindsight earn at most {gaps.mean():.4f} $ more on average")
    return Report("policy", tuple(claims), values | {"hindsight_gap_usd": float(gaps.mean())})
