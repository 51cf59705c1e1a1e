"""Certificates of weeks: they hold, and nothing in them can be changed without being refused."""

import copy
import json

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import CertificateError, pack, unpack
from baselines.shared_battery.hindsight import hindsight
from baselines.shared_battery.laws import law_data, law_from
from baselines.shared_battery.policies import DensityThreshold, FirstCome
from baselines.shared_battery.verify_week import (
    check_hindsight,
    check_policy,
    count_unserved,
    hindsight_certificate,
    week_policy_certificate,
)
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.needs import from_days
from v2g_env.shared_battery.scenario import Law, law, law_of, sample_weeks

WEEK = Instance(drivers=6, week_days=3)
SEED, COUNT = 6, 30
EVERY = [
    f"{kind}, {law}, {part}"
    for kind in ("bound", "policy")
    for law in ("generator", "log")
    for part in ("whole", "part")
]
POLICIES = [name for name in EVERY if "policy" in name]


def logs():
    rng = np.random.default_rng(3)
    return law_of(from_days([rng.weibull(1.3, 60) * scale for scale in (6.0, 9.0, 12.0, 15.0, 20.0, 30.0)], name="six"))


def made(name):
    source = logs() if "log" in name else "generator"
    model = WeekModel(WEEK, source, partial="part" in name)
    weeks = sample_weeks(WEEK, model.law, COUNT, SEED)
    if "bound" in name:
        return hindsight_certificate(model, SEED, hindsight(model, weeks, 300), 300)
    episodes = rollout(model, weeks, DensityThreshold(model, 2.0))
    return week_policy_certificate(model, SEED, episodes, "a policy", 1e-2, None if "log" in name else "ab" * 32)


@pytest.fixture(scope="module")
def certificates():
    return {name: json.loads(json.dumps(made(name), allow_nan=False)) for name in EVERY}


def check(data, instance=WEEK):
    """As the dispatcher will: the kind decides."""
    with np.errstate(all="ignore"):
        return (check_hindsight if "grid" in data else check_policy)(data, instance)


def refused(data, instance=WEEK):
    """True for a refusal with a reason; any other exception is passed on and fails the test."""
    try:
        check(data, instance)
    except CertificateError as error:
        assert len(str(error)) > 10
        return True
    return False


def leaves(data, path=()):
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path, data


def containers(data, path=()):
    if isinstance(data, dict | list):
        if path:
            yield path
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from containers(data[key], (*path, key))


def changed(data, path, value):
    result = copy.deepcopy(data)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def tampered(path, value):
    """Meaningful changes of a leaf."""
    last = [key for key in path if isinstance(key, str)][-1]
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return ["nobody", {}, 0]
    if isinstance(value, str):
        others = {"law": ["generator", "log:six", "log:other", ""], "dtype": ["<f4", "<f8", "<i8", "<i4", "|O"]}
        return [other for other in others.get(last, [value + "0", "", value[:-1]]) if other != value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    step = max(abs(value) * 1e-3, 1e-3)
    return [value + step, value - step]


def harmless(path, value):
    """Changes after which the statement is still true, each with its reason."""
    if path == ("grid",) and type(value) is int:
        return value > 1  # so few requests have the same optimum on many grids: the bound claimed is proven there too
    if path == ("policy",):
        return isinstance(value, str) and value != ""  # labels: what is certified are the recorded actions
    return path == ("policy_sha256",) and (value is None or isinstance(value, str))


@pytest.mark.parametrize("name", EVERY)
def test_every_certificate_holds_after_a_round_trip_through_json(certificates, name):
    data = certificates[name]
    for instance in (WEEK, None):
        report = check(data, instance)
        assert report.kind == data["kind"]
        assert report.claims
        assert all(np.isfinite(value) for value in report.values.values())
    with pytest.raises(CertificateError, match="kind"):
        (check_policy if "grid" in data else check_hindsight)(data, WEEK)


@pytest.mark.parametrize("name", EVERY)
def test_no_single_number_or_word_can_be_changed(certificates, name):
    data = certificates[name]
    survived = []
    for path, value in leaves(data):
        for other in tampered(path, value):
            if not harmless(path, other) and not refused(changed(data, path, other)):
                survived.append((path, value, other))
    assert not survived


RUBBISH = [float("nan"), float("inf"), -float("inf"), 10**400, -1e308, "text", [], {}, [[]], None, True, 7]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=lambda value: repr(value)[:10])
def test_rubbish_anywhere_is_refused_as_a_certificate_error(certificates, name, rubbish):
    data = certificates[name]
    for path, value in [*leaves(data), *((path, ...) for path in containers(data))]:
        if value is rubbish or (type(value) is type(rubbish) and value == rubbish):
            continue
        if harmless(path, rubbish):
            continue
        assert refused(changed(data, path, rubbish)), (path, rubbish)


@pytest.mark.parametrize("name", EVERY)
def test_a_field_missing_or_too_much_is_refused(certificates, name):
    data = certificates[name]
    for path in [("sample",), ("risk",), ("needs",), ("actions",), ()]:
        part = data
        for key in path:
            part = part.get(key) if part is not None else None
        if not isinstance(part, dict):
            continue
        for key in list(part):
            less = copy.deepcopy(data)
            place = less
            for step in path:
                place = place[step]
            del place[key]
            assert refused(less), (path, key)
            place[key], place["more"] = part[key], 1
            assert refused(less), path


@pytest.mark.parametrize("name", EVERY)
def test_another_instance_is_refused(certificates, name):
    data, other = certificates[name], WEEK.replace(value_usd=9.0)
    assert refused(data, other)
    assert refused(data | {"instance": other.to_dict()}, other)
    assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash}, WEEK)
    assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash}, other)


@pytest.mark.parametrize("name", [name for name in EVERY if "bound" in name])
def test_a_bound_cannot_be_claimed_tighter_than_it_is(certificates, name):
    data = certificates[name]
    with pytest.raises(CertificateError, match="mean_bound_usd"):
        check(data | {"mean_bound_usd": data["mean_bound_usd"] * (1.0 - 1e-10)})
    if "whole" in name:
        assert refused(data | {"grid": 50})
        assert refused(data | {"grid": 10**9})


@pytest.mark.parametrize("name", POLICIES)
def test_a_recorded_action_that_matters_cannot_be_changed(certificates, name):
    data = certificates[name]
    actions = unpack(data["actions"])
    source = law_from(data["needs"], WEEK)
    model = WeekModel(WEEK, source, data["requests_in_part"])
    weeks = sample_weeks(WEEK, source, COUNT, SEED)
    tried = 0
    for row in range(0, COUNT, 7):
        for t in range(model.steps):
            other = actions.copy()
            other[row, t] = (-1 if model.partial else 0) if actions[row, t] > 0 else 1
            if abs(rollout(model, weeks, Recorded(other)).returns.mean() - data["mean_return_usd"]) < 1e-3:
                continue  # nobody asked, or it did not fit
            assert refused(changed(data, ("actions",), pack(other))), (row, t)
            tried += 1
    assert tried > 10
    for wrong in (actions[:-1], actions[:, :-1], actions.astype(np.int64), actions.astype(np.float64), actions + 7):
        assert refused(changed(data, ("actions",), pack(wrong)))


@pytest.mark.parametrize("name", POLICIES)
def test_the_counts_are_those_of_the_environment(certificates, name):
    data = certificates[name]
    claim = data["risk"]
    source = law_from(data["needs"], WEEK)
    model = WeekModel(WEEK, source, data["requests_in_part"])
    weeks = sample_weeks(WEEK, source, COUNT, SEED)
    each = rollout(model, weeks, Recorded(unpack(data["actions"])))
    assert claim["visits"] == COUNT * 18
    assert claim["requests"] == (weeks.size_kwh > 0.0).sum()
    missed = each.facts[:, :, 0] > 1e-6
    assert claim["unserved"] == missed.sum()
    by_hand = [missed[weeks.driver[:, :-1] == i].sum() for i in range(6)]
    assert claim["worst_unserved"] == max(by_hand) == by_hand[claim["worst_driver"]]
    assert claim["worst_unserved"] <= claim["worst_requests"]
    share = missed.mean()
    assert share <= claim["eps"] <= claim["eps_fresh_week"] <= claim["eps_worst_driver"] <= 1.0
    assert claim["eps"] == risk.adaptive(COUNT * 18, int(missed.sum()), 1e-2 / 3.0)


def test_the_limits_hold_over_many_samples():
    # the true shares from many weeks; with beta = .2 a fifth of the samples may break one of the three limits
    model = WeekModel(WEEK)
    policy = FirstCome(model)
    many = sample_weeks(WEEK, "generator", 6000, 99)
    facts = rollout(model, many, policy).facts
    missed = facts[:, :, 0] > 1e-6
    truth = missed.mean()
    worst = max(missed[many.driver[:, :-1] == i].mean() for i in range(6))
    failed = 0
    for seed in range(60):
        each = rollout(model, sample_weeks(WEEK, "generator", 40, seed), policy)
        found = count_unserved(model, each, 0.2)
        failed += truth > min(found.eps, found.eps_fresh_week) or worst > found.eps_worst_driver
    assert failed <= 12


def test_bad_beta_is_refused(certificates):
    model = WeekModel(WEEK)
    each = rollout(model, sample_weeks(WEEK, "generator", 2, 1), FirstCome(model))
    for beta in (0.0, 1.0, 2.5, -1.0, float("nan")):
        with pytest.raises(InvalidInputError, match="beta"):
            count_unserved(model, each, beta)


def test_laws_go_through_json_and_back_unchanged():
    assert law_data(law(WEEK)) is None
    assert law_from(None, WEEK) is law(WEEK)
    source = logs()
    back = law_from(json.loads(json.dumps(law_data(source))), WEEK)
    assert back.name == source.name == "log:six"
    assert back.needs.sha256 == source.needs.sha256
    one, other = (sample_weeks(WEEK, each, 3, 1) for each in (source, back))
    for part, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, same)


def test_a_law_that_nobody_could_draw_again_gets_no_certificate():
    with pytest.raises(ValueError, match="law_of"):
        law_data(Law("my own", logs().needs))


def test_needs_that_are_no_histograms_are_refused():
    data = law_data(logs())
    assert data is not None
    share = unpack(data["share"])
    for wrong in (
        data | {"share": pack(share * 1.1)},
        data | {"share": pack(share[:5]), "idle": pack(np.zeros(5))},
        data | {"share": pack(share.astype(np.float32))},
        data | {"idle": pack(np.full(6, np.nan))},
        data | {"bin_kwh": -1.0},
        data | {"name": ""},
        data | {"more": 1},
        [],
        "generator",
    ):
        with pytest.raises(CertificateError):
            law_from(wrong, WEEK)
