from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from baselines import risk
from baselines.certificate import CertificateError, check, pack, unpack
from baselines.parking_lot.policies import ChargeWhenCheap, LeastLaxity
from baselines.parking_lot.shield import (
    LotShield,
    box,
    box_shield,
    box_tops,
    cap_weights,
    empties_in_one_step,
    fit_caps,
    kept,
)
from baselines.parking_lot.verify_shield import box_certificate, margin_certificate
from baselines.shield import margin_table, promised, tune
from baselines.shielded import Shielded
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import FACTS, VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import law, sample
from v2g_env.rollout import rollout

LOT = Instance()
MODEL = Model(LOT)
CLOSED = FACTS.index("closed_kwh")
TAILS = (0.002, 0.01, 0.05, 0.2)


class Greedy:
    """Asks for as much as an action can."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """All of it."""
        return np.ones((len(observation), 1), np.float32), None


class Dice:
    """Random actions from a fixed seed."""

    def __init__(self):
        self.rng = np.random.default_rng(3)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Anything."""
        return self.rng.uniform(-1.0, 1.0, (len(observation), 1)).astype(np.float32), None


AGENTS = {"greedy": Greedy, "dice": Dice, "laxity": lambda: LeastLaxity(MODEL)}


@pytest.fixture(scope="module")
def days():
    return sample(LOT, MODEL.law, 400, 5)


@pytest.fixture(scope="module")
def fresh():
    return sample(LOT, MODEL.law, 1000, 6)


@pytest.fixture(scope="module")
def caps():
    return fit_caps(MODEL, 4000, 7, TAILS)


@pytest.mark.parametrize("agent", AGENTS)
def test_no_agent_violates_a_day_of_its_box_nor_a_fresh_day_that_keeps_it(agent, days, fresh):
    found = box(LOT, days.capacity_kwh[:, :-1])
    policy = Shielded(AGENTS[agent](), box_shield(MODEL, found.top_kwh), 1)
    assert not (rollout(MODEL, days, policy).excess > VIOLATION_TOLERANCE).any()
    episodes = rollout(MODEL, fresh, policy)
    assert (episodes.facts[:, :, CLOSED] <= found.top_kwh + 1e-9).all()
    broken = (fresh.capacity_kwh[:, :-1] < found.top_kwh).any(axis=1)
    assert not (episodes.excess > VIOLATION_TOLERANCE)[~broken].any()
    assert broken.any()  # the box is no trivial one


def test_a_box_under_a_narrow_grid_leaves_time_to_get_the_energy_out(days):
    lot = LOT.replace(grid_limit_kw=15.0, load_base_kw=0.0, load_evening_kw=0.0, load_morning_kw=0.0)
    model = Model(lot)
    same = sample(lot, law("generator"), 400, 5)
    tops = box(lot, same.capacity_kwh[:, :-1]).top_kwh
    assert (np.diff(tops) >= -15.0 / lot.efficiency - 1e-9).all()
    episodes = rollout(model, same, Shielded(Greedy(), box_shield(model, tops), 1))
    assert (episodes.facts[:, :, CLOSED] <= tops + 1e-9).all()
    assert not (episodes.excess > VIOLATION_TOLERANCE).any()
    loose = same.capacity_kwh[:, :-1].min(axis=0)
    loose[[0, -1]] = 0.0
    naive = rollout(model, same, Shielded(Greedy(), box_shield(model, loose), 1))
    assert (naive.excess > VIOLATION_TOLERANCE).any()  # without the envelope energy is caught


@pytest.mark.parametrize("removed", [0, 1, 3])
def test_the_support_reproduces_the_box_and_no_day_of_it_can_be_left_out(removed):
    rng = np.random.default_rng(removed)
    lot = LOT.replace(open_h=7.0, close_h=13.0)
    capacity = 10.0 * rng.integers(2, 9, (9, lot.steps)).astype(float)
    found = box(lot, capacity, removed)
    bad = set(np.flatnonzero((capacity < found.top_kwh)[:, : lot.steps - 1].any(axis=1)).tolist())
    assert bad <= set(found.support)
    assert len(bad) == found.violated

    def reproduces(rows):
        return len(rows) > removed and np.array_equal(box_tops(lot, capacity[list(rows)], removed), found.top_kwh)

    assert reproduces(found.support)
    for i in set(found.support) - bad:
        assert not reproduces([j for j in found.support if j != i])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(0, 10**6), st.sampled_from([15.0, 600.0]))
def test_a_box_does_not_change_when_days_are_added_that_keep_it(removed, seed, grid_kw):
    rng = np.random.default_rng(seed)
    lot = LOT.replace(grid_limit_kw=grid_kw)
    capacity = 10.0 * rng.integers(0, 30, (12, lot.steps)).astype(float)
    tops = box_tops(lot, capacity, removed)
    more = tops + 5.0 * rng.integers(0, 4, (5, lot.steps))
    assert np.array_equal(box_tops(lot, np.concatenate([capacity, more]), removed), tops)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_day_that_passes_a_level_is_not_violated_there_whatever_the_agent(agent, caps, fresh):
    passed = kept(caps, fresh.capacity_kwh[:, :-1])
    table = margin_table(MODEL, AGENTS[agent](), caps, fresh)
    assert table.shape == (1000, caps.levels)
    assert not table[:, 0].any()
    for g in range(caps.levels - 1):
        assert not table[passed > g, g].any()
    if agent == "greedy":  # and the statement is not empty: the agent alone violates most days
        assert table[:, -1].mean() > 0.5 > table[:, 1].mean()


@pytest.mark.parametrize("above", [0.0, 5e-4, 1.5e-3, 30.0])
def test_no_action_reaches_a_shown_plan_that_lies_above_the_cap(above, days):
    tops = box(LOT, days.capacity_kwh[:, :-1]).top_kwh
    model = Model(LOT, "generator", np.where(tops > 0.0, tops + above, 0.0))
    for agent in (Greedy(), Dice()):
        episodes = rollout(model, days, Shielded(agent, box_shield(model, tops), 1))
        assert (episodes.facts[:, :, CLOSED] <= tops + 1e-9).all()
    with pytest.raises(InvalidInputError, match="plan_kwh"):
        box_shield(Model(LOT, "generator", np.full(LOT.steps, 1e-3)), tops)


def test_actions_below_the_cap_and_those_of_the_last_level_stay_bit_for_bit(caps, days):
    policy = ChargeWhenCheap(MODEL)
    plain = rollout(MODEL, days, policy)
    alone = Shielded(policy, caps, caps.levels - 1)
    assert np.array_equal(rollout(MODEL, days, alone).actions, plain.actions)
    assert (alone.changed, alone.fallbacks) == (0, 0)
    observation = MODEL.observe(days, MODEL.initial(days))
    low = np.full((400, 1), -0.9, np.float32)
    assert np.array_equal(caps.project(observation, low, 2), low)
    high = caps.project(observation, np.ones((400, 1), np.float32), 2)
    assert (high < 1.0).any()
    assert np.abs(caps.project(observation, high, 2) - high).max() <= 1e-6  # a projection does nothing twice


def test_caps_with_weights_forbid_less_where_they_are_wanted(caps, fresh):
    weights = cap_weights(caps, 5, LeastLaxity(MODEL), 300)
    assert weights.max() == 1.0
    assert weights.min() >= 0.02
    shaped = fit_caps(MODEL, 4000, 7, TAILS, weights)
    ones = weights == 1.0
    assert np.array_equal(shaped.offset_kwh[3:, ones], caps.offset_kwh[3:, ones])
    assert (shaped.offset_kwh[3:] <= caps.offset_kwh[3:] + 1e-9).all()
    capacity = fresh.capacity_kwh[:, :-1]
    broken = [(kept(each, capacity) <= 5).mean() for each in (shaped, caps)]
    assert broken[0] < broken[1]


def test_a_radius_protects_against_every_deviation_within_it(caps, days):
    radius = 1.0
    capacity = days.capacity_kwh[:, :-1]
    passed = kept(caps, capacity, radius)
    assert (passed <= kept(caps, capacity)).all()
    rng = np.random.default_rng(0)
    for scale in (1.0, -1.0, 0.3):
        signs = rng.choice([-1.0, 1.0], capacity.shape) if scale == 1.0 else scale * np.ones(capacity.shape)
        moved = np.maximum(capacity + radius * LOT.energy_scale_kwh * signs, 0.0)
        assert (kept(caps, moved) >= passed).all()
    worst = capacity.copy()  # K high when the cap is set, low when it has to be kept
    worst[:, ::2] += 10.0
    worst[:, 1::2] = np.maximum(worst[:, 1::2] - 10.0, 0.0)
    assert (kept(caps, worst) >= passed).all()


@pytest.mark.parametrize("kind", ["box", "relaxed box", "caps"])
def test_simulated_designs_break_the_promise_no_more_often_than_beta(kind, caps):
    n, beta, designs = 50, 0.1, 200
    pool = sample(LOT, MODEL.law, n * designs, 11).capacity_kwh[:, :-1].reshape(designs, n, LOT.steps)
    truth = sample(LOT, MODEL.law, 20_000, 12).capacity_kwh[:, :-1]
    levels = np.array([(kept(caps, truth) <= g).mean() for g in range(caps.levels)])
    failing, borrowed = 0, 0
    for capacity in pool:
        if kind == "caps":
            tuned = tune(kept(caps, capacity), 2, beta)
            failing += tuned.level is not None and levels[tuned.level] > tuned.eps
            continue
        found = box(LOT, capacity, 0 if kind == "box" else 3)
        true = (truth < found.top_kwh)[:, : LOT.steps - 1].any(axis=1).mean()
        failing += true > risk.degenerate(n, len(found.support), beta)
        borrowed += true > risk.degenerate(n, 1, beta)  # the complexity of something smaller
    assert failing <= binom.ppf(0.999, designs, beta)
    if kind != "caps":
        assert borrowed > binom.ppf(0.999, designs, beta)


@pytest.mark.parametrize(("removed", "radius", "distance"), [(0, 0.0, None), (4, 0.0, None), (2, 0.5, 0.01)])
def test_a_box_certificate_is_checked_and_says_what_was_promised(removed, radius, distance):
    shield, data = box_certificate(MODEL, 300, 8, removed=removed, radius=radius, beta=1e-3, looks=2, distance=distance)
    report = check(json.loads(json.dumps(data)), LOT)
    assert report.values["eps"] == risk.degenerate(300, len(data["support"]), 5e-4)
    if distance is not None:
        assert report.values["shift_eps"] == pytest.approx(report.values["eps"] + 0.02, abs=1e-12)
    days = sample(LOT, MODEL.law, 300, 8)
    bad = rollout(MODEL, days, Shielded(Greedy(), shield, 1)).excess > VIOLATION_TOLERANCE
    assert bad.sum() <= data["violated"] or radius > 0.0
    assert set(np.flatnonzero(bad).tolist()) <= set(data["support"])


def tampered(data, *path_and_value):
    *path, last, value = path_and_value
    other = copy.deepcopy(data)
    part = other
    for key in path:
        part = part[key]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value(part[last]) if callable(value) else value
    return other


@pytest.fixture(scope="module")
def certificates(caps):
    return {
        "box": box_certificate(MODEL, 200, 8, removed=2, radius=0.5, beta=1e-3, distance=0.01)[1],
        "any": margin_certificate(caps, 200, 9, allowed=6, beta=1e-3, radius=0.1, distance=0.01)[1],
        "one": margin_certificate(
            caps, 200, 9, allowed=6, beta=1e-3, policy=LeastLaxity(MODEL), name="laxity", sha256="ab"
        )[1],
    }


BOTH = [
    ("sample", "seed", lambda seed: seed + 1),
    ("sample", "n_samples", 199),
    ("sample", "n_samples", True),
    ("sample", "n_samples", 10**9),
    ("sample", "law", "days:jpl-2019/fit"),
    ("risk", "eps", lambda eps: eps - 1e-6),
    ("risk", "eps", float("nan")),
    ("risk", "beta", 0.1),
    ("risk", "beta", 1.0),
    ("risk", "looks", 2),
    ("risk", "looks", True),
    ("risk", "extra", 1),
    ("instance_sha256", "0" * 64),
    ("instance", "bays", 51),
    ("note", "hello"),
    ("risk", KeyError),
    ("sample", "seed", KeyError),
]
BOX = [
    ("top_kwh", 5, lambda top: top + 1e-9),
    ("top_kwh", 5, float("nan")),
    ("top_kwh", KeyError),
    ("support", lambda support: support[:-1]),
    ("support", lambda support: [*support, support[0]]),
    ("support", lambda support: [*support, 10**6]),
    ("support", 0, True),
    ("violated", lambda count: count - 1),
    ("violated", True),
    ("program", "removed", 1),
    ("program", "radius", 0.4),
    ("program", "radius", float("nan")),
    ("shift", "eps", lambda eps: eps / 2),
    ("shift", "distance", -1.0),
]
ANY = [
    ("level", lambda level: level + 1),
    ("level", True),
    ("level", -1),
    ("radius", 0.0),
    ("passed", lambda packed: pack(unpack(packed) + 1)),
    ("passed", lambda packed: pack(unpack(packed)[:-1])),
    ("shield", "offset_kwh", 5, 5, lambda kwh: kwh + 20.0),
    ("shield", "slope", 5, 7, -1.0),
    ("shield", "instance_sha256", "0" * 64),
    ("shield", "kind", "reserve"),
    ("shield", "more", 1),
    ("risk", "allowed", 7),
    ("risk", "failed", lambda failed: failed + 1),
    ("plan_kwh", 3, float("nan")),
    ("plan_kwh", [0.0]),
    ("shift", "eps", 0.0),
]
ONE = [
    ("level", lambda level: level + 1),
    ("radius", 1.0),
    ("agent", "actions", lambda packed: pack(np.ones_like(unpack(packed)))),
    ("agent", "actions", lambda packed: pack(unpack(packed) * np.nan)),
    ("agent", "actions", lambda packed: pack(unpack(packed)[:, :-1])),
    ("agent", "mean_return_usd", lambda usd: usd + 1e-3),
    ("agent", "days_violated", lambda count: count + 1),
    ("agent", "steps_violated", True),
    ("agent", "name", ""),
    ("agent", "sha256", 5),
    ("agent", "sha256", KeyError),
    ("agent", "record_sha256", "0" * 64),
    ("agent", None),
    ("shield", "offset_kwh", 6, 2, lambda kwh: kwh + 1e-6),
    ("passed", lambda packed: pack(np.full_like(unpack(packed), 8))),
    ("passed", lambda packed: pack(unpack(packed) - 9)),
    ("shield", "offset_kwh", lambda rows: [[kwh - 20.0 for kwh in row] for row in rows]),
]
CASES = (
    [(kind, case) for kind in ("box", "any", "one") for case in BOTH]
    + [("box", case) for case in BOX]
    + [("any", case) for case in ANY]
    + [("one", case) for case in ONE]
)


@pytest.mark.parametrize(("kind", "case"), CASES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(CASES)])
def test_a_tampered_certificate_is_refused(kind, case, certificates):
    with pytest.raises(CertificateError):
        check(tampered(certificates[kind], *case))


def test_margin_certificates_are_checked_and_promise_what_the_days_allow(certificates, caps, fresh):
    for kind in ("any", "one"):
        report = check(json.loads(json.dumps(certificates[kind])), LOT)
        assert report.values["eps"] == promised(200, 6, 1e-3)
    one = certificates["one"]
    assert one["agent"]["days_violated"] <= 6
    assert report.values["eps_replayed"] == risk.hold_out(200, one["agent"]["days_violated"], 1e-3 / caps.levels)
    assert one["level"] >= certificates["any"]["level"]
    episodes = rollout(MODEL, fresh, Shielded(LeastLaxity(MODEL), caps, one["level"]))
    assert (episodes.excess > VIOLATION_TOLERANCE).mean() <= one["risk"]["eps"]
    with pytest.raises(CertificateError, match="instance"):
        check(one, LOT.replace(bays=51))


def test_shields_are_plain_data_and_refuse_what_is_not_theirs(caps):
    data = json.loads(json.dumps(caps.to_dict()))
    again = LotShield.from_dict(MODEL, data)
    assert np.array_equal(again.offset_kwh, caps.offset_kwh)
    for change in ({"slope": None}, {"kind": "box"}, {"instance_sha256": "0"}, {"more": 1}, {"offset_kwh": [[1.0]]}):
        with pytest.raises(InvalidInputError):
            LotShield.from_dict(MODEL, data | change)
    with pytest.raises(InvalidInputError, match="shield"):
        LotShield.from_dict(MODEL, [])


def test_problems_without_a_gate_or_with_bays_have_no_such_shield():
    zeros = np.zeros((1, LOT.steps))
    with pytest.raises(InvalidInputError, match="gate_closure_steps = 0"):
        LotShield(Model(LOT.replace(gate_closure_steps=0)), zeros, zeros)
    with pytest.raises(InvalidInputError, match="per bay"):
        LotShield(Model(LOT, per_bay=True), zeros, zeros)


def test_a_margin_for_any_agent_needs_a_grid_that_can_empty_the_lot_at_once():
    narrow = Model(LOT.replace(grid_limit_kw=100.0))
    assert empties_in_one_step(LOT)
    assert not empties_in_one_step(narrow.instance)
    with pytest.raises(InvalidInputError, match="grid_limit_kw"):
        margin_certificate(fit_caps(narrow, 100, 1), 50, 1, allowed=3, beta=0.1)


def test_real_days_are_counted_once():
    real = Model(LOT, "days:jpl-2019/fit")
    with pytest.raises(InvalidInputError, match="n_samples = 97"):
        box_certificate(real, 97, 1)
    assert check(box_certificate(real, 96, 1, beta=0.01)[1]).values["eps"] < 0.4
