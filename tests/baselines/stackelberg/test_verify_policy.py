"""Certificates of evaluated policies: what they claim is recomputed, and nothing else passes."""

import json

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import CertificateError, check, pack
from baselines.stackelberg.policies import StaticRebates
from baselines.stackelberg.verify_policy import count_violations, policy_certificate, verify_policy
from v2g_env.rollout import rollout
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model
from v2g_env.stackelberg.scenario import sample

SMALL = Instance(days=5)


def made(fleet=SMALL, months=3):
    model = Model(fleet)
    policy = StaticRebates(model, np.repeat([0, 3], fleet.periods // 2))
    episodes = rollout(model, sample(fleet, months, 7), policy)
    return model, episodes, policy_certificate(model, 7, episodes, "static", 1e-3, "ab" * 32)


@pytest.fixture
def certificate():
    return json.loads(json.dumps(made()[2]))


def test_an_honest_certificate_holds_alone_and_through_the_common_door(certificate):
    report = verify_policy(certificate)
    assert report.values["mean_reward_usd"] == pytest.approx(made()[1].rewards.mean())
    assert check(certificate, SMALL).claims == report.claims
    assert "static earns" in report.claims[0]


def test_hours_are_counted_one_by_one_and_days_where_hours_hang_together():
    model, episodes, _ = made()
    kept = count_violations(model, episodes, 1e-3)
    assert (kept.trial, kept.trials) == ("hours", 3 * 5 * 24)
    assert kept.violated == round(episodes.facts[:, :, 0].sum() * 24)
    assert kept.eps == risk.adaptive(kept.trials, kept.violated, 1e-3)
    model, episodes, _ = made(SMALL.replace(response="population"))
    many = count_violations(model, episodes, 1e-3)
    assert (many.trial, many.trials) == ("days", 15)
    assert many.violated == pytest.approx(episodes.facts[:, :, 0].sum())
    assert many.eps > kept.eps


def test_population_and_short_periods_have_certificates_too():
    for change in ({"response": "population"}, {"periods_per_hour": 2}):
        certificate = json.loads(json.dumps(made(SMALL.replace(**change))[2]))
        assert verify_policy(certificate, SMALL.replace(**change)).claims


def forge(name):
    def actions(data):
        data["actions"] = pack(np.zeros((3, 5, 25), np.float32))

    def wrong_shape(data):
        data["actions"] = pack(np.zeros((3, 5, 24), np.float32))

    def doubles(data):
        data["actions"] = pack(np.zeros((3, 5, 25)))

    def nan(data):
        data["actions"] = pack(np.full((3, 5, 25), np.nan, np.float32))

    def outside(data):
        data["actions"] = pack(np.full((3, 5, 25), 1.5, np.float32))

    changes = {
        "mean_reward_usd": lambda d: d.update(mean_reward_usd=d["mean_reward_usd"] + 1e-3),
        "mean_reward_usd nan": lambda d: d.update(mean_reward_usd=float("nan")),
        "mean_reward_usd bool": lambda d: d.update(mean_reward_usd=True),
        "risk.eps": lambda d: d["risk"].update(eps=d["risk"]["eps"] / 2),
        "risk.eps nan": lambda d: d["risk"].update(eps=float("nan")),
        "risk.violated": lambda d: d["risk"].update(violated=d["risk"]["violated"] + 1),
        "risk.trials": lambda d: d["risk"].update(trials=720),
        "risk.trial": lambda d: d["risk"].update(trial="days"),
        "beta": lambda d: d["risk"].update(beta=2.0),
        "risk": lambda d: d["risk"].update(extra=1),
        "field": lambda d: d.update(extra=1),
        "field missing": lambda d: d.pop("policy"),
        "sample": lambda d: d["sample"].pop("law"),
        "law": lambda d: d["sample"].update(law="moon"),
        "mean_reward_usd seed": lambda d: d["sample"].update(seed=8),
        "sample.seed": lambda d: d["sample"].update(seed=7.0),
        "seed": lambda d: d["sample"].update(seed=-1),
        "shape of actions": lambda d: d["sample"].update(n_samples=2),
        "instance_sha256": lambda d: d.update(instance_sha256="0" * 64),
        "instance": lambda d: d["instance"].update(drivers=-1),
        "kind": lambda d: d.update(kind="optimal rebates"),
        "policy": lambda d: d.update(policy=""),
        "policy_sha256": lambda d: d.update(policy_sha256=3),
        "mean_reward_usd actions": actions,
        "shape of actions short": wrong_shape,
        "dtype of actions": doubles,
        "action nan": nan,
        "action outside": outside,
    }
    return changes[name] if name else list(changes)


@pytest.mark.parametrize("name", forge(None))
def test_a_forged_certificate_is_refused_by_name(certificate, name):
    forge(name)(certificate)
    with pytest.raises(CertificateError, match=name.split()[0] if " of " not in name else "of actions"):
        verify_policy(certificate)


def test_a_certificate_of_another_fleet_is_refused(certificate):
    with pytest.raises(CertificateError, match="instance"):
        verify_policy(certificate, Instance(days=6))
