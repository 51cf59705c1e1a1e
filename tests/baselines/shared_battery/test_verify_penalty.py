"""Certificates of penalised bounds on the week: they hold, and nothing in them can be changed without being refused."""

import copy
import json

import numpy as np
import pytest

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.shared_battery.penalty import penalised
from baselines.shared_battery.penalty_fit import fitted_critic, no_critic
from baselines.shared_battery.penalty_law import week_shocks
from baselines.shared_battery.policies import DynamicProgramme
from baselines.shared_battery.verify_penalty import gap_certificate, penalty_certificate
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.needs import from_days
from v2g_env.shared_battery.scenario import law_of, sample_weeks

WEEK = Instance(drivers=6, week_days=3)
SEED, COUNT = 6, 12


def shocks_of(model, weeks, seed):
    return week_shocks(model.instance, weeks, seed) if model.instance.correlation > 0.0 else None


NAMES = ["bound, generator", "gap, generator", "gap, log", "gap, shock"]


def made(name):
    lot, source = WEEK, "generator"
    if "log" in name:
        rng = np.random.default_rng(3)
        source = law_of(
            from_days([rng.weibull(1.3, 60) * scale for scale in (6.0, 9.0, 12.0, 15.0, 20.0, 30.0)], name="six")
        )
    if "shock" in name:
        lot = WEEK.replace(correlation=0.4)
    model = WeekModel(lot, source)
    weeks, shock = sample_weeks(lot, model.law, COUNT, SEED), shocks_of(model, COUNT, SEED)
    train = sample_weeks(lot, model.law, 10, SEED + 1)
    critic = fitted_critic(model, train, 40, 41, shock=shocks_of(model, 10, SEED + 1))
    bound = penalised(model, weeks, critic, 60, 20, shock).bound_usd
    if "bound" in name:
        return penalty_certificate(model, SEED, critic, bound, 60, 20, 1e-3)
    actions = rollout(model, weeks, DynamicProgramme(model, 50)).actions
    digest = "ab" * 32 if "log" in name else None
    return gap_certificate(model, SEED, critic, bound, 60, 20, 1e-3, actions, "a policy", digest)


@pytest.fixture(scope="module")
def certificates():
    return {name: json.loads(json.dumps(made(name), allow_nan=False)) for name in NAMES}


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


def refused(data, instance=None):
    try:
        check(data, instance)
    except CertificateError as error:
        assert len(str(error)) > 10
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_holds_after_a_round_trip_and_belongs_to_its_instance(certificates, name):
    data = certificates[name]
    lot = Instance.from_dict(data["instance"])
    for instance in (lot, None):
        report = check(data, instance)
        assert report.kind == data["kind"]
        assert report.values["bound_limit_usd"] > report.values["mean_bound_usd"]
    other = lot.replace(value_usd=9.0)
    assert refused(data, other)
    assert refused(data | {"instance": other.to_dict(), "instance_sha256": other.hash})
    for key in data:
        assert refused({k: v for k, v in data.items() if k != key}), key
    assert refused(data | {"more": 1})


@pytest.mark.parametrize("name", ["bound, generator", "gap, log"])
def test_nothing_in_a_certificate_can_be_changed(certificates, name):
    data = certificates[name]
    survived = []
    for path, value in leaves(data):
        if path[0] == "instance" or path in (("policy",), ("policy_sha256",)):
            continue  # labels, and what the instance's hash protects
        others = [float("nan"), float("inf"), 10**400, [], {}, True, -7]
        if isinstance(value, str):
            others += [value + "0", "", value[:-4]]
        elif isinstance(value, int | float):
            others += [value + 1, value - 1, value + 1e-2, value - 1e-2]
        if path == ("classes",):
            others = [other for other in others if other not in (value + 1, value - 1)]  # the same classes
        survived += [(path, other) for other in others if other != value and not refused(changed(data, path, other))]
    assert not survived


def test_another_critic_or_other_actions_have_other_numbers(certificates):
    data = certificates["gap, generator"]
    worth, actions = unpack(data["critic"]["worth_usd"]).copy(), unpack(data["actions"]).copy()
    for wrong in (1.1 * worth, worth.astype(np.float32), np.full(worth.shape, np.nan), worth[:-1], worth[:, :-1]):
        assert refused(changed(data, ("critic", "worth_usd"), pack(wrong)))
    for wrong in (1 - actions, actions[:-1], actions.astype(np.int64), actions + 7):
        assert refused(data | {"actions": pack(wrong)})
    assert refused(data | {"grid": 61})
    assert refused(data | {"mean_bound_usd": data["mean_bound_usd"] * (1.0 - 1e-8)})


def test_a_bound_that_is_beaten_cannot_be_certified():
    model = WeekModel(WEEK)
    weeks = sample_weeks(WEEK, "generator", COUNT, SEED)
    critic = no_critic(model)
    bound = penalised(model, weeks, critic, 60, 20).bound_usd
    actions = rollout(model, weeks, DynamicProgramme(model, 50)).actions
    with pytest.raises(InvalidInputError, match="least gap"):
        gap_certificate(model, SEED, critic, 0.5 * bound, 60, 20, 1e-3, actions, "a policy")
