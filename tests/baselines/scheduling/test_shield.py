from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from baselines import risk
from baselines.certificate import CertificateError, check, pack, unpack
from baselines.scheduling.policies import Uncontrolled
from baselines.scheduling.shield import ReserveShield
from baselines.scheduling.sight import read
from baselines.scheduling.verify_shield import margin_certificate
from baselines.shield import margin_table, promised
from baselines.shielded import Shielded
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, VIOLATION_TOLERANCE, Model
from v2g_env.scheduling.scenario import sample

LOT = Instance(cars=30, steps=48, step_h=0.5, gas_ramp_kw=400.0)
MODEL = Model(LOT)
SHIELD = ReserveShield(MODEL, (4.0, 3.0, 2.0))
UNSERVED = FACTS.index("unserved_kwh")


class Dice:
    """Random actions from a fixed seed, the same for the same call."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Anything."""
        step = 0 if state is None else state[0]
        rng = np.random.default_rng(step)
        return rng.uniform(-1.0, 1.0, (len(observation), MODEL.action_size)).astype(np.float32), (step + 1,)


class Watched:
    """Remembers what a policy saw and did."""

    def __init__(self, policy):
        self.policy, self.seen, self.done = policy, [], []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """The policy's answer."""
        action, memory = self.policy.predict(observation, state, episode_start, deterministic)
        self.seen.append(observation)
        self.done.append(action)
        return action, memory


@pytest.fixture(scope="module")
def days():
    return sample(LOT, MODEL.law, 60, 5)


@pytest.fixture(scope="module")
def shown(days):
    """Observations and wishes of random play, one batch of rows."""
    watched = Watched(Dice())
    rollout(MODEL, days, watched)
    return np.concatenate(watched.seen), np.concatenate(watched.done)


def cover_kw(observation, action):
    """Margin and settlement that an action leaves, from the environment's own limits [kW]."""
    sight = read(MODEL, observation)
    x = action[:, 1:-1].astype(np.float64)
    wanted = sight.idle_kw + np.where(x > 0.0, x * sight.up_kw, x * sight.down_kw)
    net = sight.load_kw - sight.wind_kw[:, 0] + wanted.sum(axis=1)
    gas = np.minimum(net + LOT.gas_band_kw * action[:, 0], np.minimum(sight.gas_kw + LOT.gas_ramp_kw, LOT.gas_max_kw))
    room = (wanted - (sight.idle_kw - sight.down_kw)).sum(axis=1)
    return gas - net + 0.5 * (action[:, -1] + 1.0) * room


@pytest.mark.parametrize("level", range(5))
def test_a_projection_covers_the_need_or_goes_as_far_as_an_action_can(level, shown):
    observation, wish = shown
    action = SHIELD.project(observation, wish, level)
    need = SHIELD.need_kw(read(MODEL, observation), level)
    enough = cover_kw(observation, wish) >= need
    assert np.array_equal(action[enough], wish[enough])
    assert np.array_equal(action[:, 1:-1], wish[:, 1:-1])  # the cars' set-points stay
    assert (action[:, [0, -1]] >= wish[:, [0, -1]]).all()
    most = action.copy()
    most[:, [0, -1]] = 1.0
    reached = cover_kw(observation, action)
    assert ((reached >= need) | (reached >= cover_kw(observation, most) - 1e-2)).all()
    if level < 4:
        assert (~enough).any()
        assert enough.any()
    else:
        assert enough.all()
    assert np.abs(SHIELD.project(observation, action, level) - action).max() <= 1e-5


def test_shares_are_raised_before_the_generator():
    class Idle(Uncontrolled):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            """Cars charge as fast as they can, nothing settles."""
            action = np.zeros((len(observation), MODEL.action_size), np.float32)
            action[:, 1:-1] = 1.0
            action[:, -1] = -1.0
            return action, None

    days = sample(LOT, MODEL.law, 20, 3)
    watched = Watched(Shielded(Idle(MODEL, 0.0), SHIELD, 3))
    rollout(MODEL, days, watched)
    action = np.concatenate(watched.done)
    share, lifted = action[:, -1], action[:, 0] > 1e-6
    assert ((share > -1.0) & (share < 1.0) & ~lifted).any()  # the share was enough
    assert lifted.any()
    assert (share[lifted] >= 1.0 - 1e-6).all()


def test_needs_fall_from_level_to_level_and_the_first_is_the_worst_case(shown):
    sight = read(MODEL, shown[0])
    needs = np.stack([SHIELD.need_kw(sight, level) for level in range(SHIELD.levels)])
    assert (np.diff(needs, axis=0) <= 0.0).all()
    assert np.array_equal(needs[0], sight.wind_kw[:, 0] + LOT.load_deviation * sight.load_kw)


def test_at_level_0_energy_is_missing_only_where_no_action_could_do_more(days):
    watched = Watched(Shielded(Dice(), SHIELD, 0))
    episodes = rollout(MODEL, days, watched)
    done = np.stack(watched.done, axis=1)
    missing = episodes.facts[:, :, UNSERVED] > 1e-5
    assert ((done[:, :, 0] == 1.0) & (done[:, :, -1] >= 1.0 - 1e-6))[missing].all()
    plain = rollout(MODEL, days, Dice())
    assert (plain.excess > VIOLATION_TOLERANCE).mean() > 0.9
    assert missing.any(axis=1).mean() < 0.2


def test_more_cautious_levels_violate_fewer_days(days):
    table = margin_table(MODEL, Uncontrolled(MODEL, 0.5), SHIELD, days)
    rates = table.mean(axis=0)
    assert table.shape == (60, 5)
    assert (np.diff(rates) >= 0.0).all()
    assert rates[-1] > 0.9 > 0.2 > rates[1]
    alone = rollout(MODEL, days, Uncontrolled(MODEL, 0.5)).excess > VIOLATION_TOLERANCE
    assert np.array_equal(table[:, -1], alone)


def test_the_fallback_satisfies_every_level_and_acts_where_the_agent_cannot(days):
    class Lost:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            """Nothing."""
            raise RuntimeError

    policy = Shielded(Lost(), SHIELD, 2)
    watched = Watched(policy)
    episodes = rollout(MODEL, days, watched)
    assert policy.fallbacks == 60 * LOT.steps
    seen, done = np.concatenate(watched.seen), np.concatenate(watched.done)
    for level in range(SHIELD.levels):
        assert np.abs(SHIELD.project(seen, done, level) - done).max() <= 1e-5
    assert (episodes.excess > VIOLATION_TOLERANCE).mean() < 0.2


@pytest.fixture(scope="module")
def certificate():
    policy = Uncontrolled(MODEL, 0.5)
    return margin_certificate(SHIELD, 60, 9, policy, "no V2G", allowed=4, beta=1e-2, sha256="ab")[1]


def test_a_margin_certificate_is_checked_and_keeps_its_promise_on_fresh_days(certificate):
    report = check(json.loads(json.dumps(certificate)), LOT)
    agent, level = certificate["agent"], certificate["level"]
    assert report.values["eps"] == promised(60, 4, 1e-2)
    assert report.values["eps_replayed"] == risk.hold_out(60, agent["days_violated"], 1e-2 / SHIELD.levels)
    assert report.values["eps_step"] == risk.adaptive(60 * LOT.steps, agent["steps_violated"], 1e-2 / SHIELD.levels)
    fresh = sample(LOT, MODEL.law, 300, 10)
    shielded = rollout(MODEL, fresh, Shielded(Uncontrolled(MODEL, 0.5), SHIELD, level))
    assert (shielded.excess > VIOLATION_TOLERANCE).mean() <= report.values["eps"]
    assert (rollout(MODEL, fresh, Uncontrolled(MODEL, 0.5)).excess > VIOLATION_TOLERANCE).mean() > 0.9
    with pytest.raises(CertificateError, match="instance"):
        check(certificate, LOT.replace(cars=31))


CASES = [
    ("sample", "seed", lambda seed: seed + 1),
    ("sample", "n_samples", 59),
    ("sample", "n_samples", True),
    ("sample", "n_samples", 10**9),
    ("sample", "law", "normal"),
    ("sample", "law", "nobody's"),
    ("sample", "note", 1),
    ("shield", "deviations", [4.0, 3.0, 2.5]),
    ("shield", "deviations", [3.0, 4.0]),
    ("shield", "deviations", [float("nan")]),
    ("shield", "kind", "caps"),
    ("shield", "instance_sha256", "0" * 64),
    ("level", lambda level: level + 1),
    ("level", True),
    ("passed", lambda packed: pack(np.full_like(unpack(packed), 5))),
    ("passed", lambda packed: pack(unpack(packed) + 6)),
    ("passed", lambda packed: pack(unpack(packed)[1:])),
    ("agent", "actions", lambda packed: pack(np.minimum(unpack(packed), np.float32(0.2)))),
    ("agent", "actions", lambda packed: pack(unpack(packed).astype(np.float64))),
    ("agent", "actions", lambda packed: pack(unpack(packed) * np.float32(np.nan))),
    ("agent", "mean_return_usd", lambda usd: usd + 0.1),
    ("agent", "days_violated", lambda count: count + 1),
    ("agent", "steps_violated", lambda count: count + 1),
    ("agent", "steps_violated", False),
    ("agent", "name", 3),
    ("agent", "record_sha256", "0" * 64),
    ("agent", None),
    ("risk", "eps", lambda eps: eps * 0.99),
    ("risk", "allowed", 3),
    ("risk", "failed", -1),
    ("risk", "beta", 0.5),
    ("risk", "beta", 1),
    ("risk", "looks", 2),
    ("risk", "looks", KeyError),
    ("note", 1),
    ("level", KeyError),
]


@pytest.mark.parametrize("case", CASES, ids=[str(i) for i in range(len(CASES))])
def test_a_tampered_certificate_is_refused(case, certificate):
    *path, last, value = case
    other = copy.deepcopy(certificate)
    part = other
    for key in path:
        part = part[key]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value(part[last]) if callable(value) else value
    with pytest.raises(CertificateError):
        check(other)


def test_shields_are_plain_data_and_refuse_what_is_not_theirs():
    data = json.loads(json.dumps(SHIELD.to_dict()))
    assert np.array_equal(ReserveShield.from_dict(MODEL, data).deviations, SHIELD.deviations)
    for change in ({"deviations": []}, {"deviations": [1.0, 1.0]}, {"kind": "caps"}, {"more": 1}):
        with pytest.raises(InvalidInputError):
            ReserveShield.from_dict(MODEL, data | change)
    with pytest.raises(InvalidInputError, match="instance_sha256"):
        ReserveShield.from_dict(Model(LOT.replace(cars=31)), data)


def test_more_violated_days_than_allowed_give_no_certificate():
    with pytest.raises(InvalidInputError, match="certified level"):
        hopeless = Model(LOT.replace(gas_ramp_kw=20.0))
        policy = Uncontrolled(hopeless, 0.0)
        margin_certificate(ReserveShield(hopeless, (2.0,)), 10, 1, policy, "no V2G", allowed=0, beta=0.1)
