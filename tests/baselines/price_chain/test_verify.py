"""Certificates of the price chain: they hold, and nothing in them can be changed without being refused."""

import copy
import json

import numpy as np
import pytest

from baselines.certificate import CertificateError, pack, unpack
from baselines.price_chain import evaluate, solve
from baselines.price_chain.ambiguity import SETS, Entropy
from baselines.price_chain.policies import TablePolicy, late_plan
from baselines.price_chain.verify import policy_certificate, verify
from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Law, sample_days
from v2g_env.rollout import rollout

NAMES = ["nominal", "other law", *SETS, "policy"]
ROBUST = list(SETS)


@pytest.fixture(scope="module")
def certificates(model, lot):
    counts = lot.chain.counts.reshape(-1, 3)
    made = {name: solve(model, kind.from_counts(counts)).certificate for name, kind in SETS.items()}
    made["nominal"] = solve(model).certificate
    flat = np.full(lot.price_rows.shape, 1.0 / 3.0)
    made["other law"] = solve(Model(lot, Law("flat", flat))).certificate
    plan = late_plan(model)
    days = sample_days(lot, "generator", 50, 3)
    episodes = rollout(model, days, TablePolicy(model, plan))
    made["policy"] = policy_certificate(model, plan, "late", 3, episodes, 1e-2, "ab" * 32)
    return {name: json.loads(json.dumps(data, allow_nan=False)) for name, data in made.items()}


def refused(data, instance=None):
    """True for a refusal with a reason; any other exception but those the dispatcher turns into one fails the test."""
    try:
        with np.errstate(all="ignore"):
            verify(data, instance)
    except CertificateError as error:
        assert len(str(error)) > 10
        return True
    except (KeyError, AttributeError, TypeError, ValueError, IndexError, OverflowError):
        return True
    return False


def changed(data, path, value):
    result = copy.deepcopy(data)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def leaves(data, path=()):
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path, data


@pytest.mark.parametrize("name", NAMES)
def test_every_certificate_holds_after_a_round_trip_through_json(certificates, lot, name):
    for instance in (lot, None):
        report = verify(certificates[name], instance)
        assert report.kind == certificates[name]["kind"]
        assert all(np.isfinite(value) for value in report.values.values())
        assert report.claims


@pytest.mark.parametrize("name", NAMES)
def test_no_number_or_word_outside_the_arrays_can_be_changed(certificates, name):
    data = certificates[name]
    survived = []
    for path, value in leaves(data):
        if "data" in path or path in (("policy",), ("policy_sha256",)):
            continue
        if isinstance(value, str):
            others = [value + "0", ""]
        elif isinstance(value, int):
            others = [value + 1, value - 1, True]
        elif isinstance(value, float):
            others = [value + max(abs(value) * 1e-4, 1e-6), float("nan"), "text"]
        else:
            others = [{}, 7]
        if path == ("law", "name"):
            others = ["", "generator", 7]  # any other name is a label
        survived += [(path, other) for other in others if not refused(changed(data, path, other))]
    assert not survived


@pytest.mark.parametrize("name", NAMES)
def test_rubbish_anywhere_is_refused(certificates, name):
    data = certificates[name]
    for path, value in leaves(data):
        for rubbish in (float("nan"), float("inf"), 10**400, [], {}, None, -7):
            if value == rubbish or path == ("policy_sha256",):
                continue
            assert refused(changed(data, path, rubbish)), (path, rubbish)


@pytest.mark.parametrize("name", NAMES)
def test_a_field_missing_or_too_much_or_another_instance_is_refused(certificates, lot, name):
    data = certificates[name]
    for key in data:
        assert refused({k: v for k, v in data.items() if k != key}), key
    assert refused(data | {"more": 1})
    other = lot.replace(start_usd=7.0)
    assert refused(data, other)
    assert refused(data | {"instance": other.to_dict()})
    assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash})


@pytest.mark.parametrize("name", ROBUST)
def test_a_value_cannot_be_claimed_higher_or_lower_than_it_is(certificates, name):
    data = certificates[name]
    for off in (1e-6, -1e-6):
        with pytest.raises(CertificateError, match="value_usd"):
            verify(data | {"value_usd": data["value_usd"] + off}, None)


@pytest.mark.parametrize("name", ROBUST)
def test_wrong_plans_and_wrong_multipliers_open_the_bracket(certificates, model, name):
    data = certificates[name]
    plan, dual = unpack(data["plan"]).copy(), unpack(data["dual"]).copy()
    assert refused(data | {"plan": pack(late_plan(model))})
    if name != "scenarios":  # a list is its own proof
        assert refused(data | {"dual": pack(dual * 1.5 + 0.01)})
    start = plan[0, :, 1, 1, 0]
    plan[0, :, 1, 1, 0] = (start + 1) % 3  # the only state in which a day begins
    worst = evaluate(model, plan).value
    if abs(worst - evaluate(model, unpack(data["plan"])).value) > 1e-6:
        assert refused(data | {"plan": pack(plan)})
    assert refused(data | {"plan": pack(plan.astype(np.int64))})
    assert refused(data | {"dual": pack(np.full(dual.shape, np.nan))})
    assert refused(data | {"dual": None})


def test_a_smaller_set_than_the_claimed_one_has_another_value(certificates, lot):
    data = certificates["entropy"]
    small = Entropy.from_counts(lot.chain.counts.reshape(-1, 3), 0.5)
    assert refused(data | {"ambiguity": small.data()})
    wrong = Entropy(np.full((12, 4), 0.25), 0.1)
    assert refused(data | {"ambiguity": wrong.data()})


def test_policy_claims_are_the_models_own_numbers(certificates, model, lot):
    data, plan = certificates["policy"], late_plan(model)
    report = verify(data, lot)
    assert report.values["value_usd"] == pytest.approx(evaluate(model, plan).value)
    assert report.values["optimum_usd"] == pytest.approx(solve(model).value)
    assert report.values["gap_usd"] >= 0.0
    episodes = rollout(model, sample_days(lot, "generator", 50, 3), TablePolicy(model, plan))
    assert data["sample"]["violations"] == (episodes.excess > 1e-6).sum()
    with pytest.raises(InvalidInputError, match="beta"):
        policy_certificate(model, plan, "late", 3, episodes, 0.0)


def test_the_default_chains_values_are_certified_to_a_billionth():
    lot = Instance()
    model = Model(lot)
    for kind in SETS.values():
        data = solve(model, kind.from_counts(lot.chain.counts.reshape(-1, 8))).certificate
        values = verify(data, lot).values
        assert values["high_usd"] - values["low_usd"] <= 1e-9
