"""Certificates of many days: they hold as written, nothing in them can be changed, and their limits keep their word."""

import copy
import json
import math
import time
from functools import lru_cache

import numpy as np
import pytest
from scipy.stats import beta as beta_law

from baselines import risk
from baselines.certificate import CertificateError, check, load, pack, save, unpack
from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.policies import Uncontrolled
from baselines.scheduling.verify_days import bounds_certificate, count_violations, policy_certificate
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Episodes, Recorded, rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, Model
from v2g_env.scheduling.scenario import Law, sample

# one line carries more than it may at times, and the generator is short at times
LOT = Instance(
    steps=12,
    step_h=2.0,
    gas_ramp_kw=900.0,
    gas_max_kw=620.0,
    cars=6,
    line_limit_kw=(220.0, 350.0, 200.0, 500.0, 350.0, 200.0),
)
SESSIONS = np.array([[17.0, 8.0, 9.0], [18.5, 12.0, 6.0], [9.0, 6.0, 3.0], [22.0, 9.5, 12.0]])
LAWS = {
    "generator": "generator",
    "two-point": "two-point",
    "recorded": "sessions:jpl-2019/fit",
    "own": Law("a car park of ours", "skewed", SESSIONS),
}
N, SEED, BETA = 7, 5, 1e-3


def fresh(model, n=N, seed=SEED):
    return sample(model.instance, model.law, n, seed)


@lru_cache
def episodes(name):
    model = Model(LOT, LAWS[name])
    return rollout(model, fresh(model), Uncontrolled(model, 0.5))


@lru_cache
def text_of(kind, name):
    model = Model(LOT, LAWS[name])
    if kind == "bounds":
        certificate = bounds_certificate(model, SEED, hindsight(model, fresh(model)))
    else:
        certificate = policy_certificate(model, SEED, episodes(name), "without V2G", BETA, "ab" * 32)
    return json.dumps(certificate, allow_nan=False)


def made(kind, name="generator"):
    """A fresh copy of a certificate, as read back from JSON."""
    return json.loads(text_of(kind, name))


def refused(certificate, text=".", instance=LOT):
    with pytest.raises(CertificateError, match=text) as caught:
        check(certificate, instance)
    assert len(str(caught.value)) < 2000


def changed(kind, path, value, name="generator"):
    """Certificate with one entry replaced; ``value`` may be a function of the old one."""
    found = made(kind, name)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value(place[path[-1]]) if callable(value) else value
    return found


def with_array(kind, field, change, name="generator"):
    """Certificate with a changed copy of a packed array."""
    values = unpack(made(kind, name)[field]).copy()
    return changed(kind, [field], pack(change(values)), name)


def put(spot, value):
    def change(values):
        values[spot] = value
        return values

    return change


KINDS = ("bounds", "policy")


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("kind", KINDS)
def test_certificates_hold_with_and_without_the_instance_and_survive_files(kind, name, tmp_path):
    save(made(kind, name), tmp_path / "days.json")
    for instance in (None, LOT):
        report = check(load(tmp_path / "days.json"), instance)
        assert report.kind == f"days {'bound' if kind == 'bounds' else 'policy'}"
        assert f"{N} days" in report.claims[0]
    if kind == "policy":
        assert "without V2G" in report.claims[0]
        assert report.values["mean_return_usd"] == pytest.approx(episodes(name).returns.mean(), rel=1e-12)
        assert report.values["mean_return_usd"] <= check(made("bounds", name)).values["mean_bound_usd"]


def test_some_days_need_rows_of_lines_and_some_steps_are_violated():
    assert len(unpack(made("bounds")["lines"])) > 0
    assert 0 < made("policy")["risk"]["violated"] < N * LOT.steps
    assert 0 < made("policy")["risk"]["violated_days"] < N


def test_a_mean_bound_below_zero_is_certified_too():
    """Days may cost more than the calibrated one whatever is done."""
    lot = LOT.replace(gas_max_kw=250.0, cars=0)
    model = Model(lot)
    certificate = bounds_certificate(model, 0, hindsight(model, fresh(model, 4, 0)))
    assert certificate["mean_bound_usd"] < -100.0
    assert check(json.loads(json.dumps(certificate)), lot).values["mean_bound_usd"] < -100.0


@pytest.mark.parametrize("fields", [{"cars": 0}, {"turbine_bus": ()}, {"steps": 1}, {"gate_closure_steps": 0}])
def test_certificates_of_other_lots_hold(fields):
    lot = LOT.replace(**fields)
    model = Model(lot)
    days = fresh(model)
    for certificate in (
        bounds_certificate(model, SEED, hindsight(model, days)),
        policy_certificate(model, SEED, rollout(model, days, Uncontrolled(model, 0.5)), "plain", BETA),
    ):
        check(json.loads(json.dumps(certificate)), lot)


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_of_another_instance_is_refused(kind):
    other = LOT.replace(gas_linear=0.11)
    refused(made(kind), "instance = ", other)
    forged = made(kind) | {"instance": other.to_dict()}
    refused(forged, "instance = ", None)
    refused(forged | {"instance_sha256": other.hash}, "mean_", other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_needed_and_no_other_taken(kind):
    for field in made(kind):
        missing = made(kind)
        del missing[field]
        refused(missing)
        for value in (None, "x", 7, [], {}, math.nan, True):
            if field == "policy" and value == "x" or field == "policy_sha256" and value in (None, "x"):
                continue  # names are part of the record
            refused(changed(kind, [field], value))
    refused(made(kind) | {"comment": "proven"}, "fields")
    swapped = made(kind) | {"kind": "days policy" if kind == "bounds" else "days bound"}
    refused(swapped, "fields")


@pytest.mark.parametrize("kind", KINDS)
def test_another_law_or_sample_is_refused(kind):
    for deviation in ("two-point", "normal", "cauchy", None, [], 3):
        refused(changed(kind, ["law", "deviation"], deviation), "law|deviation")
    for other in ("two-point", "normal"):
        refused(changed(kind, ["law", "name"], other), "law")
        refused(changed(kind, ["law"], {"name": other, "deviation": other, "sessions": None}), "mean_|groups|dual")
    for value in (None, 3, ["generator"]):
        refused(changed(kind, ["law", "name"], value), "law")
    refused(changed(kind, ["law"], lambda old: old | {"more": 1}), "law")
    refused(changed(kind, ["law", "sessions"], pack(SESSIONS)), "law")
    for seed in (SEED + 1, -1, 2**64, 5.0, "5", True, None):
        refused(changed(kind, ["sample", "seed"], seed))
    for count in (N - 1, N + 1, 0, 20_001, 7.0, "7", True, None):
        refused(changed(kind, ["sample", "n_samples"], count))
    refused(changed(kind, ["sample"], {"seed": SEED}), "sample")


@pytest.mark.parametrize("kind", KINDS)
def test_other_recorded_sessions_are_refused(kind):
    for name in ("recorded", "own"):
        moved = unpack(made(kind, name)["law"]["sessions"]).copy()
        moved[:, 2] *= 0.8
        refused(changed(kind, ["law", "sessions"], pack(moved), name))
        refused(changed(kind, ["law", "sessions"], None, name))
        bad = (moved[:, :2], moved[:0], -moved, np.where(moved > 5.0, math.nan, moved), moved[0])
        for sessions in bad:
            refused(changed(kind, ["law", "sessions"], pack(sessions), name))
    refused(changed(kind, ["law", "name"], "generator", "own"), "law")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_that_is_off_is_refused(kind):
    field = "mean_bound_usd" if kind == "bounds" else "mean_return_usd"
    scale = 1.0 + abs(made(kind)[field])
    for off in (1e-5, -1e-5, 1.0, -1.0):
        refused(changed(kind, [field], lambda old, off=off: old + off * scale), field)
    for value in (math.nan, math.inf, -math.inf, None, "1", True, [1.0], 10**400, 0):
        refused(changed(kind, [field], value), field)
    if kind == "bounds":  # a bound is never rounded down
        refused(changed(kind, [field], lambda old: old - 1e-9 * scale), field)


# ----------------------------------------------------------------- bounds


def test_multipliers_and_groups_are_taken_only_with_their_own_mean():
    rng = np.random.default_rng(0)
    dual = unpack(made("bounds")["dual"])
    for size in (1e-3, 0.1):
        refused(with_array("bounds", "dual", lambda d, s=size: d * (1.0 + s * rng.standard_normal(d.shape))), "mean_")
    worse = with_array("bounds", "dual", lambda d: 0.0 * d)
    refused(worse, "mean_bound_usd")
    worse["mean_bound_usd"] = LOT.calibrated_usd  # nothing proven: at most a day for nothing
    assert check(worse, LOT).values["mean_bound_usd"] >= check(made("bounds"), LOT).values["mean_bound_usd"]
    for change in (
        lambda d: d[:-1],
        lambda d: np.append(d, 0.0),
        lambda d: d[None],
        lambda d: d.astype(np.float32),
        put(0, math.nan),
        put(len(dual) - 1, math.inf),
    ):
        refused(with_array("bounds", "dual", change), "dual")


def test_wrong_groups_and_lines_are_refused():
    label = unpack(made("bounds")["groups"])
    for change in (
        put((0, 0), -1),
        put((2, 3), 50),
        put((0, slice(None)), 0),
        lambda g: g[:-1],
        lambda g: g[:, :-1],
        lambda g: g.astype(np.float64),
    ):
        refused(with_array("bounds", "groups", change))
    assert label.shape == (N, LOT.cars)
    lines = unpack(made("bounds")["lines"])
    for change in (
        lambda x: x[:-1],
        lambda x: np.concatenate([x, x[:1]]),
        lambda x: x[:, :2],
        lambda x: x.astype(np.float64),
        lambda x: x + [[N, 0, 0]],
        lambda x: x - [[0, 1, 0]],
        lambda x: x + [[0, 0, LOT.steps]],
        lambda x: np.concatenate([x, [[0, 5, 0]]]) if [0, 5, 0] not in lines.tolist() else x[:-1],
    ):
        refused(with_array("bounds", "lines", change))


# ----------------------------------------------------------------- policies


def test_other_actions_are_refused():
    for change in (
        put((0, slice(None), 0), 1.0),
        put((3, slice(None), slice(1, 7)), -1.0),
        lambda a: a[::-1],
        lambda a: np.roll(a, 1, axis=1),
        lambda a: a[:-1],
        lambda a: a[:, :-1],
        lambda a: a[:, :, :-1],
        lambda a: a.astype(np.float64),
        put((1, 2, 3), math.nan),
        put((1, 2, 3), 1.5),
    ):
        refused(with_array("policy", "actions", change))


def test_other_counts_and_limits_are_refused():
    for field, value in made("policy")["risk"].items():
        if isinstance(value, int):
            others = (value + 1, value - 1, float(value), str(value), None, True)
        else:
            others = (value * 1.001 + 1e-5, value * 0.999 - 1e-5, math.nan, None, str(value), True)
        for other in others:
            refused(changed("policy", ["risk", field], other), "risk|beta")
        refused(changed("policy", ["risk"], lambda old, f=field: {k: v for k, v in old.items() if k != f}), "risk")
    for beta in (0.0, 1.0, -0.1, 2.0, 1, 1e-60):
        refused(changed("policy", ["risk", "beta"], beta), "beta")
    refused(changed("policy", ["risk"], lambda old: old | {"more": 1}), "risk")


def test_names_of_policies_are_part_of_the_claim():
    assert "my own" in check(changed("policy", ["policy"], "my own"), LOT).claims[0]
    for value in ("", None, 3):
        refused(changed("policy", ["policy"], value), "policy")
    for value in (3, ["ab"], {}):
        refused(changed("policy", ["policy_sha256"], value), "policy_sha256")


def test_a_huge_forged_sample_is_refused_at_once():
    huge = LOT.replace(cars=100_000, steps=10_000)
    for kind in KINDS:
        forged = changed(kind, ["sample", "n_samples"], 20_000)
        forged |= {"instance": huge.to_dict(), "instance_sha256": huge.hash}
        begin = time.perf_counter()
        refused(forged, "n_samples", huge)
        assert time.perf_counter() - begin < 5.0


@pytest.mark.parametrize("kind", KINDS)
def test_checking_changes_nothing(kind):
    certificate = made(kind)
    before = copy.deepcopy(certificate)
    check(certificate, LOT)
    assert certificate == before


# ----------------------------------------------------------------- limits


def episodes_of(over, unserved_kwh=None):
    """Episodes (n, T) with violations where ``over``."""
    n, steps = over.shape
    facts = np.zeros((n, steps, len(FACTS)))
    facts[:, :, 0] = np.where(over, 0.1, 1e-7)  # below the tolerance: none
    missing = np.zeros(n) if unserved_kwh is None else unserved_kwh
    nothing = np.zeros((n, steps))
    return Episodes(np.zeros((n, 7)), facts[:, :, 0].max(axis=1), missing, np.zeros((n, steps, 8)), facts, 0.0, nothing)


def test_limits_are_those_of_their_formulas():
    rng = np.random.default_rng(1)
    for n, steps, chance, beta in ((40, 12, 0.03, 1e-3), (7, 24, 0.3, 0.1), (5, 3, 1.0, 0.05), (9, 4, 0.0, 1e-6)):
        over = rng.random((n, steps)) < chance
        unserved = rng.exponential(3.0, n)
        kept = count_violations(episodes_of(over, unserved), beta)
        v, d = int(over.sum()), int(over.any(axis=1).sum())
        assert (kept.steps, kept.violated, kept.days, kept.violated_days) == (n * steps, v, n, d)
        by_hand = 1.0 if d == n else beta_law.ppf(1.0 - beta / 2.0, d + 1, n - d)
        assert kept.eps_day == pytest.approx(by_hand, rel=1e-9)
        assert kept.eps == risk.adaptive(n * steps, v, beta / 2.0)
        assert v / (n * steps) < kept.eps <= 1.0 or v == n * steps
        assert kept.unserved_kwh == pytest.approx(unserved.mean())


def test_the_written_limits_are_those_of_the_days():
    for name in LAWS:
        facts = episodes(name).facts
        over = (facts[:, :, FACTS.index("unserved_kwh")] > 1e-5) | (facts[:, :, FACTS.index("overload_kwh")] > 1e-5)
        written = made("policy", name)["risk"]
        kept = count_violations(episodes_of(over, episodes(name).shortfall_kwh), BETA)._asdict()
        assert written == kept | {"beta": BETA}
        assert written["unserved_kwh"] == pytest.approx(facts[:, :, FACTS.index("unserved_kwh")].sum(axis=1).mean())


def test_the_limits_fail_no_more_often_than_promised_when_steps_depend_on_each_other():
    """Each step's chance depends on the step before and on the day; both limits are compared with the true chances."""
    rng, beta, runs, n, steps = np.random.default_rng(2), 0.2, 1500, 12, 8
    base = rng.uniform(0.0, 0.15, (runs, n))
    before, chances, over = np.zeros((runs, n), bool), [], []
    for _ in range(steps):
        chance = np.where(before, 0.6, base)
        before = rng.random((runs, n)) < chance
        chances.append(chance)
        over.append(before)
    mean = np.stack(chances, axis=2).mean(axis=(1, 2))
    b = (np.arange(100_000) + 0.5) / 100_000 * 0.15
    day = 1.0 - ((1.0 - b) ** steps).mean()  # the first violation comes at the base rate
    kept = [count_violations(episodes_of(one), beta) for one in np.stack(over, axis=2)]
    fails = np.array([(m > one.eps, day > one.eps_day) for m, one in zip(mean, kept, strict=True)]).mean(axis=0)
    slack = 4.0 * np.sqrt(beta / 2.0 / runs)
    assert (fails <= beta / 2.0 + slack).all()
    assert fails[1] > 0.01  # the limit of independent days is not idle


def test_the_limits_hold_in_repeated_experiments_with_the_environment():
    lot = LOT.replace(steps=6, step_h=4.0, cars=2, gas_ramp_kw=2000.0)
    model, m, beta = Model(lot), 20, 0.2
    days = sample(lot, "generator", 4000, 9)
    whole = rollout(model, days, Uncontrolled(model, 0.5))
    over = whole.facts[:, :, 0] > 1e-6
    truth = over.any(axis=1).mean()
    assert 0.05 < truth < 0.95
    parts = over.reshape(-1, m, lot.steps)
    kept = [count_violations(episodes_of(part), beta) for part in parts]
    slack = 4.0 * np.sqrt(beta / 2.0 / len(parts))
    assert np.mean([one.eps_day < truth for one in kept]) <= beta / 2.0 + slack
    # the mean of the conditional chances scatters around that of all days, by less than the limit lies above it
    assert np.mean([one.eps < over.mean() for one in kept]) <= beta / 2.0 + slack


def test_bad_confidence_is_refused_by_name():
    for beta in (0.0, 1.0, -1.0, math.nan, "0.1", None):
        with pytest.raises(InvalidInputError, match="beta = .*allowed"):
            count_violations(episodes("generator"), beta)


def test_recorded_actions_give_the_same_day_again():
    model = Model(LOT)
    again = rollout(model, fresh(model), Recorded(unpack(made("policy")["actions"])))
    assert np.array_equal(again.money, episodes("generator").money)
