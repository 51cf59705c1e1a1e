from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import FORMAT, CertificateError, check, pack, unpack
from baselines.parking_lot.hindsight import hindsight, hindsight_certificate
from baselines.parking_lot.policies import ChargeWhenCheap, PlanReplay
from baselines.parking_lot.programs import solve
from baselines.parking_lot.samples import excess, expected_market
from baselines.parking_lot.storage import plan_money
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import law, sample, sample_capacity
from v2g_env.rollout import Recorded, rollout

LOT = Instance()
PROGRAMS = {
    "robust": {},
    "adversarial with shift": {"radius": 0.6, "distance": 0.05},
    "relaxed": {"rho": 0.1},
    "relaxed, adversarial with shift": {"rho": 0.5, "radius": 0.6, "distance": 0.02},
    "relaxed, smoothed, two-sided": {"rho": 0.1, "law_name": "smoothed", "n_samples": 80},
    "full quota": {"quota": "full"},
    "real days": {"law_name": "days:jpl-2019/fit", "n_samples": 96},
    "several looks": {"looks": 5},
}
POLICIES = {
    "policy": ("generator:jpl-2019/fit", 30),
    "policy on real days": ("days:jpl-2019/test", 96),
}
BOUNDS = {"bound": ("generator:jpl-2019/fit", 30), "bound on real days": ("days:jpl-2019/test", 30)}
PROGRAM_NAMES, EVERY = list(PROGRAMS), [*PROGRAMS, *POLICIES, *BOUNDS]


def policy_certificate(law_name: str, n: int) -> dict[str, Any]:
    plan = solve(LOT, n_samples=40, seed=1, beta=1e-2).plan
    model = Model(LOT, law_name, plan)
    days = sample(LOT, model.law, n, 6)
    episodes = rollout(model, days, ChargeWhenCheap(model) if model.law.replay else PlanReplay(model))
    top = hindsight(LOT, days)
    single = np.sort(np.unique(days.day, return_index=True)[1]) if model.law.replay else np.arange(n)
    bad = episodes.excess > VIOLATION_TOLERANCE
    violated = int(bad[single].sum())
    return {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": "policy",
        "instance_sha256": LOT.hash,
        "instance": LOT.to_dict(),
        "sample": {"law": law_name, "seed": 6, "n_samples": n},
        "policy": "a policy",
        "plan_kwh": plan.tolist(),
        "actions": pack(episodes.actions),
        "mean_return_usd": float(episodes.returns.mean()),
        "days_violated": int(bad.sum()),
        "risk": {
            "beta": 1e-2,
            "days": len(single),
            "violated": violated,
            "eps": risk.hold_out(len(single), violated, 1e-2),
            "each_day_once": model.law.replay,
        },
        "hindsight_gap": {
            "multiplier": pack(top.multiplier),
            "mean_usd": float((top.bound_usd - episodes.returns).mean()),
        },
    }


@pytest.fixture(scope="module")
def certificates() -> dict[str, dict[str, Any]]:
    made = {
        name: solve(LOT, **{"n_samples": 40, "seed": 1, "beta": 1e-2} | o).certificate for name, o in PROGRAMS.items()
    }
    made |= {name: policy_certificate(*origin) for name, origin in POLICIES.items()}
    for name, (law_name, n) in BOUNDS.items():
        top = hindsight(LOT, sample(LOT, law(law_name), n, 6))
        made[name] = hindsight_certificate(LOT, law_name, 6, top)
    return {name: json.loads(json.dumps(data, allow_nan=False)) for name, data in made.items()}


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path, data


def containers(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(data, dict | list):
        if path:
            yield path
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from containers(data[key], (*path, key))


def changed(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(data)
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def refused(data: dict[str, Any], instance: Instance | None = LOT) -> bool:
    """True for a refusal with a reason; any other exception is passed on and fails the test."""
    try:
        check(data, instance)
    except CertificateError as error:
        assert len(str(error)) > 10
        return True
    return False


@pytest.mark.parametrize("name", EVERY)
def test_every_certificate_holds_after_a_round_trip_through_json(certificates, name):
    report = check(certificates[name], LOT)
    assert report.kind == certificates[name]["kind"]
    assert report.claims
    assert all(np.isfinite(value) for value in report.values.values())


@pytest.mark.parametrize("name", EVERY)
def test_another_instance_is_refused(certificates, name):
    other = LOT.replace(bays=51)
    assert refused(certificates[name], other)
    assert refused(certificates[name] | {"instance": other.to_dict()}, other)
    assert refused(certificates[name] | {"instance": other.to_dict(), "instance_sha256": other.hash}, LOT)
    # even with a matching hash: the sample, hence every number, is another one (a bound that is looser than what the
    # multipliers prove for that other lot would be true of it, so bounds are left out)
    if name not in BOUNDS:
        assert refused(certificates[name] | {"instance": other.to_dict(), "instance_sha256": other.hash}, other)


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_the_programs_report_recomputes_value_risk_and_a_gap_of_nearly_nothing(certificates, name):
    data = certificates[name]
    values = check(data, LOT).values
    assert values["value_usd"] == pytest.approx(data["value_usd"], abs=1e-9)
    assert values["eps"] == pytest.approx(data["risk"]["eps"], abs=1e-12)
    assert values["complexity"] == len(data["support"])
    assert -1e-9 <= values["gap_usd"] <= 1e-6 * (1.0 + abs(data["value_usd"]))


# what a meaningful change of each number is; (path without list positions) -> changes to try
def tampered(path: tuple[Any, ...], value: Any) -> list[Any]:
    names = tuple(key for key in path if isinstance(key, str))
    last = names[-1]
    if isinstance(value, bool):
        return [not value]
    if value is None:  # rho of a robust program: no relaxed program of any price has this certificate's bound
        return [1e-3, 0.05]
    if isinstance(value, str):
        others = {
            "law": ["smoothed:jpl-2019/fit", "generator:caltech-2019", "days:jpl-2020/early", "nonsense", ""],
            "theorem": ["relaxed", "degenerate", "wait_and_judge", ""],
            "quota": ["full", "executable", "", "half"],
            "dtype": ["<f4", "<f8", "<i8", "|O"],
        }.get(last, [value + "0", "", value[:-1]])
        return [other for other in others if other != value]
    if last in ("seed", "n_samples", "days", "violated", "days_violated", "looks", "support", "shape"):
        return [value + 1, value - 1]
    steps = {
        "eps": 1e-3, "eps_low": 1e-3, "beta": 1e-3, "plan_kwh": 1e-2, "multiplier": 1e-2, "row_duals": 1e-2,
        "value_usd": 1e-3, "mean_bound_usd": 1e-3, "mean_return_usd": 1e-3, "mean_usd": 1e-3, "radius": 1e-2,
        "rho": 1e-2, "distance": 1e-3,
    }  # fmt: skip
    if names[0] == "row_duals" and isinstance(value, int):
        return [value + 1, value - 1]
    step = steps.get(last, max(abs(value) * 1e-3, 1e-3))  # the rest are the instance's numbers
    return [value + step, value - step]


def harmless(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> bool:
    """Changes after which the statement is still true, each with its reason."""
    if path == ("policy",):
        return True  # the policy's name: a label; what is certified are the recorded actions
    if path == ("mean_bound_usd",):
        return value > data["mean_bound_usd"]  # a looser limit is a limit
    if path == ("sample", "law"):
        # the multipliers prove a limit for the days of any law; it is a true one if it is below what is claimed
        return data["kind"] == "hindsight bound" and not value.startswith("smoothed")
    if path[0] == "plan_kwh" and data["kind"] == "policy":
        # the plan only scales the recorded actions; return, violations and gap are recomputed with the one written
        return True
    if path[0] == "multiplier" and data["kind"] == "scenario program":
        # where more than one price is optimal (before anything is stored) each proves the same limit
        try:
            values = check(changed(data, path, value), LOT).values
        except CertificateError:
            return True
        return -1e-9 <= values["gap_usd"] <= 1e-7 and data["plan_kwh"][path[1]] == 0.0
    if path[0] == "row_duals":
        kind, step, scenario, dual = data["row_duals"][path[1]]
        if path[2] == 3 and dual < 1e-8:
            try:  # a price on a row whose right-hand side is zero costs nothing, whatever it is
                return check(changed(data, path, value), LOT).values["gap_usd"] <= 1e-7
            except CertificateError:
                return True
        if dual < 1e-9:
            return path[2] < 3 or abs(value) < 1e-9  # a row with no weight may stand anywhere
    return False


@pytest.mark.parametrize("name", EVERY)
def test_no_single_number_or_word_can_be_changed(certificates, name):
    data = certificates[name]
    survived = []
    for path, value in leaves(data):
        for other in tampered(path, value):
            if not harmless(data, path, other) and not refused(changed(data, path, other)):
                survived.append((path, value, other))
    assert not survived


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rubbish", [float("nan"), "text", [], {}, None], ids=repr)
def test_rubbish_in_the_place_of_a_number_is_refused_as_a_certificate_error(certificates, name, rubbish):
    data = certificates[name]
    for path, value in leaves(data):
        if isinstance(value, int | float) and not isinstance(value, bool):
            other = changed(data, path, rubbish)
            # a relaxed program without its price claims to be robust: refused all the same, its plan violates samples
            assert refused(other), path


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "rubbish", [float("inf"), -float("inf"), 10**400, -1e308], ids=["inf", "-inf", "huge", "-1e308"]
)
def test_numbers_beyond_all_measure_are_refused_as_a_certificate_error(certificates, name, rubbish):
    data = certificates[name]
    for path, value in leaves(data):
        # the mean bound may be as loose as one likes
        if isinstance(value, float) and not (path == ("mean_bound_usd",) and rubbish > 0):
            assert refused(changed(data, path, rubbish)), path


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rubbish", [float("nan"), 7, [1], {"a": 1}, None], ids=repr)
def test_rubbish_in_the_place_of_a_word_is_refused_as_a_certificate_error(certificates, name, rubbish):
    data = certificates[name]
    for path, value in leaves(data):
        if isinstance(value, str | bool) and not (isinstance(value, bool) and rubbish == value):
            assert refused(changed(data, path, rubbish)), path


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rubbish", [None, 3, "text", [], {}, [[]], {"a": {}}], ids=repr)
def test_rubbish_in_the_place_of_a_part_is_refused_as_a_certificate_error(certificates, name, rubbish):
    data = certificates[name]
    for path in containers(data):
        part = data
        for key in path:
            part = part[key]
        # an instance without fields has their defaults; the hash over all fields decides
        if part != rubbish and not (path == ("instance",) and rubbish == {}):
            assert refused(changed(data, path, rubbish)), path


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_plan_next_to_the_certified_one_is_refused_even_with_its_own_value(certificates, name):
    # the promise is about the one plan that the rule makes; among plans of nearly equal money a liar could choose
    data = certificates[name]
    market = expected_market(LOT)
    survived = []
    for t in range(LOT.steps):
        for step in (0.01, -0.01, 1.0, 10.0):
            other = changed(data, ("plan_kwh", t), data["plan_kwh"][t] + step)
            other["value_usd"] = float(plan_money(LOT, market, np.array(other["plan_kwh"]))[0])
            if not refused(other):
                survived.append((t, step))
    assert not survived


def test_a_plan_of_equal_money_far_from_the_optimum_is_no_only_optimum(certificates):
    # moving charging between two hours of one price costs only the tie-break
    data = certificates["robust"]
    plan = np.array(data["plan_kwh"])
    for t in range(2, 7):
        for step in (5.0, 20.0):
            moved = plan.copy()
            moved[t] += step
            other = changed(data, ("plan_kwh",), moved.tolist())
            other["value_usd"] = float(plan_money(LOT, expected_market(LOT), moved)[0])
            assert refused(other), (t, step)


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_shorter_or_other_support_is_refused_even_with_its_own_bound(certificates, name):
    data = certificates[name]
    n, support = data["sample"]["n_samples"], data["support"]
    claim = data["risk"]
    for i in support:
        fewer = changed(data, ("support",), [j for j in support if j != i])
        if len(support) == 1:
            continue
        if claim["theorem"] == "relaxed":
            low, up = risk.relaxed(n, len(support) - 1, claim["beta"] / claim["looks"])
        else:
            low, up = 0.0, risk.degenerate(n, len(support) - 1, claim["beta"] / claim["looks"])
        fewer["risk"] |= {"eps": up, "eps_low": low}
        if "shift" in fewer:
            fewer["shift"]["eps"] = risk.shifted(up, data["program"]["radius"], data["shift"]["distance"])
        assert refused(fewer), i
    spare = next(i for i in range(n) if i not in support) if len(support) < n else None
    for position in range(len(support)):
        for other in ([spare] if spare is not None else []) + [
            n,
            -1,
            support[0] if position else support[-1],
            0.0,
            True,
        ]:
            if other == support[position] and type(other) is int:
                continue
            assert refused(changed(data, ("support", position), other)), (position, other)


def test_a_support_without_a_violated_sample_is_refused(certificates):
    data = certificates["relaxed"]
    origin = data["sample"]
    delta = sample_capacity(LOT, law(origin["law"]), origin["n_samples"], origin["seed"])
    violated = np.flatnonzero(excess(LOT, np.array(data["plan_kwh"]), delta) > VIOLATION_TOLERANCE)
    assert len(violated)
    fewer = changed(data, ("support",), [j for j in data["support"] if j != violated[0]])
    fewer["risk"]["eps"] = risk.degenerate(40, len(fewer["support"]), 1e-2)
    fewer["row_duals"] = [row for row in fewer["row_duals"] if row[2] != violated[0]]
    with pytest.raises(CertificateError, match="every violated sample"):
        check(fewer, LOT)


def test_a_two_sided_promise_for_a_law_with_ties_is_refused(certificates):
    data = certificates["relaxed"]
    low, up = risk.relaxed(40, len(data["support"]), 1e-2)
    with pytest.raises(CertificateError, match="theorem"):
        check(data | {"risk": data["risk"] | {"theorem": "relaxed", "eps_low": low, "eps": up}}, LOT)


@pytest.mark.parametrize("name", ["policy", "policy on real days"])
def test_a_recorded_action_that_matters_cannot_be_changed(certificates, name):
    data = certificates[name]
    actions = unpack(data["actions"])
    days = sample(LOT, law(data["sample"]["law"]), data["sample"]["n_samples"], data["sample"]["seed"])
    tried = 0
    # the last step closes nothing and the one before closes the forced zero: their actions change nothing
    for t in range(2, LOT.steps - 3):
        for row in (0, 7):
            # a day without capacity is one in which this action changes nothing either
            if days.capacity_kwh[row, t] < 20.0 or actions[row, t, 0] <= -0.99:
                continue
            other = actions.copy()
            other[row, t, 0] -= 0.5 * (other[row, t, 0] + 1.0)
            model = Model(LOT, law(data["sample"]["law"]), data["plan_kwh"])
            if abs(rollout(model, days, Recorded(other)).returns.mean() - data["mean_return_usd"]) < 1e-3:
                continue  # charging an hour later at the same price earns the same
            assert refused(changed(data, ("actions",), pack(other))), (row, t)
            tried += 1
    assert tried > 4
    for value in (np.nan, 1.5, np.inf):
        other = actions.copy()
        other[0, 3, 0] = value
        assert refused(changed(data, ("actions",), pack(other)))
    assert refused(changed(data, ("actions",), pack(actions[:-1])))
    assert refused(changed(data, ("actions",), pack(actions[:, :-1])))


@pytest.mark.parametrize("name", ["bound", "policy"])
def test_changed_multipliers_are_refused_or_prove_the_same_number(certificates, name):
    # any multipliers prove a limit; where the claimed number still follows from them the claim is still true
    data = certificates[name]
    path = ("multiplier",) if name == "bound" else ("hindsight_gap", "multiplier")
    lam = unpack(data["multiplier"] if name == "bound" else data["hindsight_gap"]["multiplier"])
    before = check(data, LOT).values
    caught = 0
    for row in range(0, len(lam), 6):
        for t in range(LOT.steps):
            for step in (0.01, -0.01, 0.5):
                other = lam.copy()
                other[row, t] += step
                other = changed(data, path, pack(other))
                if refused(other):
                    caught += 1
                else:
                    after = check(other, LOT).values
                    assert all(abs(after[key] - before[key]) <= 1e-5 for key in before)
    assert caught > 50
    for value in (np.nan, np.inf, -np.inf):
        other = lam.copy()
        other[2, 3] = value
        assert refused(changed(data, path, pack(other)))
    assert refused(changed(data, path, pack(lam[:-1])))
    assert refused(changed(data, path, pack(lam[:, :-1])))


def test_a_bound_cannot_be_claimed_tighter_than_its_multipliers_prove(certificates):
    data = certificates["bound"]
    with pytest.raises(CertificateError, match="mean_bound_usd"):
        check(data | {"mean_bound_usd": data["mean_bound_usd"] - 1e-6}, LOT)


def test_real_days_counted_twice_are_refused():
    # 96 days with caps drawn three times are not 288 independent days
    with pytest.raises((CertificateError, ValueError)):
        check(solve(LOT, n_samples=288, law_name="days:jpl-2019/fit", beta=1e-2).certificate, LOT)


def test_redrawn_real_days_count_once_in_a_policys_limit(certificates):
    data = certificates["policy on real days"]
    days = len(law("days:jpl-2019/test").days.dates)
    assert data["risk"]["days"] == days < data["sample"]["n_samples"]
    liar = data["risk"] | {"days": 96, "each_day_once": False, "eps": 0.9, "violated": data["days_violated"]}
    with pytest.raises(CertificateError, match="each_day_once"):
        check(data | {"risk": liar}, LOT)
