from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from agents.shield import SHIELD, guard, load_shield, save_shield, shield_data
from baselines.certificate import CertificateError
from baselines.parking_lot.policies import LeastLaxity
from baselines.parking_lot.shield import fit_caps
from baselines.parking_lot.verify_shield import box_certificate, margin_certificate
from baselines.scheduling.policies import Uncontrolled
from baselines.scheduling.shield import ReserveShield
from baselines.scheduling.verify_shield import margin_certificate as reserve_certificate
from baselines.shielded import Shielded
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import sample
from v2g_env.rollout import rollout
from v2g_env.scheduling.instance import Instance as Network
from v2g_env.scheduling.model import Model as NetworkModel
from v2g_env.scheduling.scenario import sample as network_days

LOT = Instance()
MODEL = Model(LOT)
GRID = NetworkModel(Network(cars=10, steps=24, step_h=1.0, gas_ramp_kw=800.0))


class Agent(LeastLaxity):
    """A policy with the hash of a bundle."""

    hash = "ab" * 32


@pytest.fixture(scope="module")
def certificates():
    agent = Agent(MODEL)
    calm = Uncontrolled(GRID, 1.0)
    caps = fit_caps(MODEL, 2000, 7, (0.01, 0.1))
    family = ReserveShield(GRID, (3.0, 2.0))
    return {
        "box": box_certificate(MODEL, 100, 8, beta=1e-2)[1],
        "any": margin_certificate(caps, 100, 9, allowed=10, beta=1e-2)[1],
        "one": margin_certificate(caps, 100, 9, allowed=10, beta=1e-2, policy=agent, name="laxity", sha256=agent.hash)[
            1
        ],
        "nameless": margin_certificate(caps, 50, 9, allowed=9, beta=1e-2, policy=agent, name="laxity")[1],
        "network": reserve_certificate(family, 40, 9, calm, "no V2G", allowed=9, beta=1e-2, sha256="cd" * 32)[1],
    }


@pytest.mark.parametrize("kind", ["box", "any", "one"])
def test_a_policy_acts_behind_the_shield_of_its_file(kind, certificates, tmp_path):
    path = tmp_path / "bundle" / SHIELD
    data = shield_data(certificates[kind])
    save_shield(data, path)
    assert load_shield(path) == data
    policy = guard(Agent(MODEL), path, MODEL)
    assert policy.refused is None
    assert policy.eps == certificates[kind]["risk"]["eps"]
    days = sample(LOT, MODEL.law, 300, 21)
    episodes = rollout(MODEL, days, policy)
    assert policy.fallbacks == 0
    assert policy.changed > 0
    assert (episodes.excess > VIOLATION_TOLERANCE).mean() <= policy.eps
    assert episodes.returns.mean() > 10.0


def test_a_file_for_any_agent_serves_policies_without_a_hash_and_the_other_kind_does_not(certificates):
    plain = LeastLaxity(MODEL)
    assert guard(plain, shield_data(certificates["any"]), MODEL).refused is None
    assert "policy_sha256" in guard(plain, shield_data(certificates["one"]), MODEL).refused
    with pytest.raises(InvalidInputError, match="sha256"):
        shield_data(certificates["nameless"])


def test_a_certificate_that_does_not_hold_makes_no_file(certificates):
    broken = certificates["any"] | {"level": certificates["any"]["level"] + 1}
    with pytest.raises(CertificateError):
        shield_data(broken)


REFUSED = {
    "format": "v2g-env shield 0",
    "problem": "scheduling",
    "instance_sha256": "0" * 64,
    "policy_sha256": "0" * 64,
    "plan_kwh": [1.0] * 13,
    "shield": {},
    "level": 99,
    "eps": float("nan"),
    "beta": None,
    "more": 1,
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_does_not_fit_is_never_used_the_cautious_policy_acts_and_is_counted(field, certificates):
    data = shield_data(certificates["one"]) | {field: REFUSED[field]}
    policy = guard(Agent(MODEL), data, MODEL)
    assert field in policy.refused
    assert policy.eps is None
    episodes = rollout(MODEL, sample(LOT, MODEL.law, 20, 3), policy)
    assert (episodes.actions == -1.0).all()
    assert (episodes.excess <= VIOLATION_TOLERANCE).all()
    assert policy.fallbacks == 20 * LOT.steps


def test_boolean_levels_are_no_levels(certificates):
    assert "level" in guard(Agent(MODEL), shield_data(certificates["one"]) | {"level": True}, MODEL).refused


@pytest.mark.parametrize("text", [None, "", "{", "[]", "\x00"])
def test_an_unreadable_file_is_refused(text, tmp_path):
    path = tmp_path / SHIELD
    if text is not None:
        path.write_text(text)
    assert guard(Agent(MODEL), path, MODEL).refused


def test_the_network_has_its_own_shield_and_its_own_cautious_policy(certificates):
    data = json.loads(json.dumps(shield_data(certificates["network"])))
    calm = Uncontrolled(GRID, 1.0)
    calm.hash = "cd" * 32
    days = network_days(GRID.instance, GRID.law, 40, 5)
    policy = guard(calm, data, GRID)
    assert policy.refused is None
    same = Shielded(calm, ReserveShield(GRID, (3.0, 2.0)), data["level"])
    assert np.array_equal(rollout(GRID, days, policy).actions, rollout(GRID, days, same).actions)
    refused = guard(Uncontrolled(GRID, 1.0), data, GRID)
    assert "policy_sha256" in refused.refused
    cautious = rollout(GRID, days, refused)
    assert refused.fallbacks == 40 * 24
    plain = rollout(GRID, days, calm)
    tolerance = refused.shield.tolerance
    assert (cautious.excess > tolerance).mean() < (plain.excess > tolerance).mean()
    assert "problem" in guard(Agent(MODEL), data, MODEL).refused


def test_models_without_a_shield_are_an_error():
    with pytest.raises(InvalidInputError, match="gate_closure_steps"):
        guard(Agent(MODEL), {}, Model(LOT.replace(gate_closure_steps=0)))
    with pytest.raises(InvalidInputError, match="model"):
        guard(Agent(MODEL), {}, object())


def test_acting_behind_a_shield_needs_neither_torch_nor_a_solver(tmp_path):
    code = "import sys, json, agents.shield; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True).stdout
    )
    for library in ("torch", "highspy", "clarabel", "cvxpy", "gymnasium.envs.mujoco", "stable_baselines3"):
        assert library not in loaded
