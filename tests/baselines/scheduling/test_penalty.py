"""Penalties: their mean is zero whatever a policy does, their bounds hold on every day and are tighter than before."""

import json
import math
from functools import lru_cache
from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.scheduling import penalty_noise
from baselines.scheduling.adjustable import AdjustablePlan
from baselines.scheduling.day import Protection
from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.mpc import PredictiveControl
from baselines.scheduling.penalty import Penalty, default, penalty_of, prices, zero
from baselines.scheduling.penalty_bound import penalised
from baselines.scheduling.penalty_critic import surprise
from baselines.scheduling.penalty_fit import fit
from baselines.scheduling.penalty_noise import outcomes
from baselines.scheduling.policies import DayAhead, Uncontrolled
from baselines.scheduling.verify_penalty import penalised_certificate
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import DEVIATIONS, Scenario, rows_of, sample

HOURLY = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=12)
EVENING = HOURLY.replace(steps=8, start_h=16.0, cars=5)
LOTS = {
    "hourly": HOURLY,
    "known at once": EVENING.replace(gate_closure_steps=0),
    "tight lines": HOURLY.replace(line_limit_kw=(230.0, 150.0, 60.0, 230.0, 150.0, 60.0)),
    "small generator": EVENING.replace(gas_max_kw=350.0),
    "slow generator": EVENING.replace(gas_ramp_kw=30.0),
    "no cars": EVENING.replace(cars=0),
    "no turbines": EVENING.replace(turbine_bus=()),
    "one wind": EVENING.replace(wind_common=1.0, forecast_quality=0.0),
}
GRID = (9, 5, 3)
FULL = Penalty(1.0, ((1.0,),), ((1.0, 0.0),), GRID)
ODD = Penalty(-0.3, ((0.7,), (1.4,)), ((-0.6, 2.0), (0.3, -1.0)), GRID)


@pytest.fixture(autouse=True)
def few_outcomes(monkeypatch):
    """A smaller lattice: everything holds for any."""
    monkeypatch.setattr(penalty_noise, "OUTCOMES", 64)


def random_policy(model, n, seed=0):
    """Actions at the ends of their range, or all over it."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.0, 1.0, (n, model.steps, model.action_size))
    kind = np.arange(n)[:, None, None] % 2
    return Recorded(np.where(kind == 1, np.sign(actions), actions).astype(np.float32))


# ----------------------------------------------------------------- the mean is zero


def shifted(model, days, step, point, count):
    """The first day with other randomness in one step: the torus moved by a point of the lattice, the rest kept."""
    lot = model.instance
    generator = np.array([pow(penalty_noise._KOROBOV, i, count) for i in range(lot.turbines + lot.aggregators)])
    turn = point * generator % count / count
    memory = lot.wind_news_memory
    cov = np.full((lot.turbines, lot.turbines), lot.wind_common) + (1.0 - lot.wind_common) * np.eye(lot.turbines)
    mixing = penalty_noise._mixing(lot.wind_common, lot.turbines)
    assert mixing.T @ mixing == pytest.approx(cov)
    news = days.news[0]
    fresh = (news[1:] - memory * news[:-1]) / np.sqrt(1.0 - memory**2)
    normal = ndtri((ndtr(np.linalg.solve(mixing.T, fresh[step])) + turn[: lot.turbines]) % 1.0)
    fresh[step] = normal @ mixing
    moved = news.copy()
    for t in range(lot.steps):
        moved[t + 1] = memory * moved[t] + np.sqrt(1.0 - memory**2) * fresh[t]
    load = days.load_kw[0].copy()
    mean = lot.load_mean_kw[step]
    uniform = 0.5 * ((load[step + 1] / mean - 1.0) / lot.load_deviation + 1.0)
    load[step + 1] = mean * (1.0 + lot.load_deviation * (2.0 * ((uniform + turn[lot.turbines :]) % 1.0) - 1.0))
    return load, moved


def test_surprises_of_a_step_add_up_to_nothing_over_all_its_outcomes():
    """Exactly, for the value and every slope, while the reference does not move: it knows nothing of the step."""
    step, count = 1, penalty_noise.OUTCOMES
    lot = EVENING.replace(steps=3, start_h=17.0, cars=4, soc_wanted=0.3, arrival_h=(17.0, 0.0))
    model = Model(lot)
    days = sample(lot, model.law, 1, 4)
    found, needs = [], []
    for point in range(count):
        load, news = shifted(model, days, step, point, count)
        day = days._replace(load_kw=load[None], news=news[None])
        one = surprise(model, day, 0, GRID)
        values = (one.level_usd, one.gas_usd_per_kw[:, 0], *one.energy_usd_per_kwh.T, one.gas_kw, one.energy_kwh)
        found.append([value[step] for value in values])
        needs.append(outcomes(model, day, 0).need_kw[step])
    found, needs = np.array(found), np.array(needs)
    assert np.ptp(found[:, 4:], axis=0) == pytest.approx(0.0, abs=1e-9)
    assert (np.ptp(found[:, :4], axis=0) > 1e-3).all()
    assert found[:, :4].mean(axis=0) == pytest.approx(0.0, abs=1e-9)
    assert np.sort(needs, axis=1) == pytest.approx(np.tile(np.sort(needs[0]), (count, 1)), abs=1e-6)
    assert np.sort(needs[:, 0]) == pytest.approx(np.sort(needs[0]), abs=1e-6)


@pytest.mark.parametrize("kind", DEVIATIONS)
def test_the_first_outcome_is_the_one_that_happened(kind):
    model = Model(EVENING, "generator" if kind == "uniform" else kind)
    days = sample(EVENING, model.law, 2, 1)
    for row in range(2):
        found = outcomes(model, days, row)
        assert found.wind_kw[:, 0] == pytest.approx(days.wind_kw[row, 1:].sum(axis=1), abs=1e-6)
        net = days.load_kw[row, 1:].sum(axis=1) - days.wind_kw[row, 1:].sum(axis=1)
        assert found.need_kw[:, 0] == pytest.approx(net, abs=1e-6)
        assert found.error[:, 0] == pytest.approx(days.news[row, 1:].mean(axis=1), abs=1e-9)


@pytest.mark.parametrize("lot", [EVENING, EVENING.replace(gate_closure_steps=0, steps=4)])
def test_the_mean_penalty_of_policies_is_zero_within_its_standard_error(lot):
    model, n = Model(lot), 80
    days = sample(lot, model.law, n, 17)
    cases = [(random_policy(model, n), FULL)]
    if lot.gate_closure_steps:
        cases += [(Uncontrolled(model, 1.0), FULL), (PredictiveControl(model, 0.5), ODD)]
    for policy, penalty in cases:
        z = penalty_of(model, days, rollout(model, days, policy), penalty)
        assert abs(z.mean()) <= 4.0 * z.std(ddof=1) / np.sqrt(n) and z.std() > 1.0


# ----------------------------------------------------------------- a tree of all days

# one home, one car or two, no wind: every load is one of two, all days are equally likely
TWIG = Instance(
    steps=4,
    step_h=2.0,
    start_h=18.0,
    aggregator_bus=(1,),
    turbine_bus=(),
    line_from=(0,),
    line_to=(1,),
    line_limit_kw=(500.0,),
    load_shares=(1.0,),
    load_peak_kw=20.0,
    load_deviation=0.4,
    gas_max_kw=60.0,
    gas_ramp_kw=60.0,
    gas_segments=6,
    gas_quadratic=0.02,
    calibrated_usd=100.0,
    cars=2,
    departure_h=(2.0, 0.0),
    arrival_h=(17.0, 0.0),
)


def tree():
    """Model and the 16 days."""
    model = Model(TWIG, "two-point")
    one = sample(TWIG, model.law, 1, 2)
    signs = np.array(list(product((-1.0, 1.0), repeat=TWIG.steps)))
    load = np.concatenate([np.tile(one.load_kw[:, :1], (16, 1, 1)), np.zeros((16, 4, 1))], axis=1)
    load[:, 1:, 0] = TWIG.load_mean_kw[:, 0] * (1.0 + TWIG.load_deviation * signs)
    days = Scenario(*(np.repeat(part, 16, axis=0) for part in one))._replace(load_kw=load)
    return model, days, signs


def best_of_the_tree(model, days, signs):
    """Best mean return when the generator knows earlier loads only, and the cars also the step's."""
    lot, h, eta = TWIG, TWIG.step_h, TWIG.efficiency
    n, steps = signs.shape
    least, most = lot.energy_range_kwh
    state, rules, total = model.initial(days), [], 0.0
    gas = cp.Variable((n, steps), nonneg=True)
    powers = []
    for d in range(n):
        pieces = cp.Variable((steps, lot.gas_segments), nonneg=True)
        missing = cp.Variable(steps, nonneg=True)
        rules += [pieces <= lot.gas_max_kw / lot.gas_segments, cp.sum(pieces, axis=1) == gas[d]]
        before = cp.hstack([state.gas_kw[d], gas[d, :-1]])
        rules.append(cp.abs(gas[d] - before) <= lot.gas_ramp_kw)
        use, cost = days.load_kw[d, 1:, 0], 3.0 * cp.sum(missing)
        mine = []
        for j in range(lot.cars):
            charge, discharge = cp.Variable(steps, nonneg=True), cp.Variable(steps, nonneg=True)
            there = (days.arrive[d, j] <= np.arange(steps)) & (np.arange(steps) < days.depart[d, j])
            rules += [charge <= lot.charger_kw * there, discharge <= lot.charger_kw * there]
            energy = days.start_kwh[d, j] + h * cp.cumsum(eta * charge - discharge / eta)
            rules += [energy >= least, energy <= most, energy[-1] >= days.target_kwh[d, j]]
            use = use + charge - discharge
            cost += 0.04 * cp.sum(discharge)
            mine += [charge, discharge]
        powers.append(mine)
        rules.append(gas[d] + missing >= use)
        over = cp.Variable(steps, nonneg=True)
        rules += [use - lot.line_limit_kw[0] <= over]
        cost += model.gas_scale * cp.sum(pieces @ lot.gas_prices) + cp.sum(over)
        total += lot.calibrated_usd - h * cost
    for a, b in product(range(n), repeat=2):
        for t in range(steps):
            if a < b and (signs[a, :t] == signs[b, :t]).all():
                rules.append(gas[a, t] == gas[b, t])
                if signs[a, t] == signs[b, t]:
                    rules += [x[t] == y[t] for x, y in zip(powers[a], powers[b], strict=True)]
    problem = cp.Problem(cp.Maximize(total / n), rules)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == "optimal"
    return float(problem.value)


def test_on_a_tree_of_all_days_the_optimum_lies_below_the_bound_which_lies_close():
    model, days, signs = tree()
    optimum = best_of_the_tree(model, days, signs)
    loose = hindsight(model, days).bound_usd.mean()
    assert loose > optimum + 0.5
    for penalty in (zero(), FULL, ODD, fit(model, 20, 5, parts=2, grid=GRID)):
        bound = penalised(model, days, penalty).bound_usd.mean()
        assert bound >= optimum - 1e-6
        if penalty not in (zero(), ODD):
            assert bound <= optimum + 0.25 * (loose - optimum)


def test_on_a_tree_of_all_days_every_policy_has_the_mean_penalty_zero_exactly():
    model, days, signs = tree()
    first = random_policy(model, 1).actions
    followed = np.repeat(first, 16, axis=0)  # the same on all days: it may not look ahead
    earlier = np.concatenate([np.zeros((16, 1)), signs[:, :-1]], axis=1)[:, :, None] * np.ones(model.action_size)
    for actions in (followed, earlier.astype(np.float32), rollout(model, days, Uncontrolled(model, 1.0)).actions):
        for penalty in (FULL, ODD):
            z = penalty_of(model, days, actions, penalty)
            assert z.mean() == pytest.approx(0.0, abs=1e-9) and np.ptp(z) > 0.1
    ahead = signs[:, :, None] * np.ones(model.action_size, np.float32)
    assert abs(penalty_of(model, days, ahead, FULL).mean()) > 0.1  # the gate is what it is about


# ----------------------------------------------------------------- bounds


@pytest.mark.parametrize("name", LOTS)
def test_no_policy_beats_the_bound_of_any_day(name):
    lot = LOTS[name]
    model = Model(lot)
    days = sample(lot, model.law, 2, 31)
    policies = [random_policy(model, 2), Uncontrolled(model, 1.0), PredictiveControl(model, 0.5)]
    policies.append(DayAhead(model, Protection("budget", 1.0)))
    if name not in ("small generator", "slow generator"):
        policies.append(AdjustablePlan(model, Protection("budget", 1.0)))
    for penalty in (FULL, ODD):
        top = penalised(model, days, penalty)
        assert (top.plan_usd <= top.bound_usd + 1e-9).all()
        assert (top.bound_usd - top.plan_usd).max() <= 1e-6 * lot.calibrated_usd
        for policy in policies:
            episodes = rollout(model, days, policy)
            left = top.bound_usd - (episodes.returns - penalty_of(model, days, episodes, penalty))
            assert (left >= -1e-6 * (1.0 + np.abs(top.bound_usd))).all(), type(policy)


def test_without_a_penalty_the_bound_is_that_of_hindsight():
    for name in ("hourly", "tight lines"):
        model = Model(LOTS[name])
        days = sample(model.instance, model.law, 3, 8)
        none, top = penalised(model, days, zero()), hindsight(model, days)
        assert none.bound_usd == pytest.approx(top.bound_usd, rel=1e-7)
        actions = rollout(model, days, Uncontrolled(model, 1.0)).actions
        assert (penalty_of(model, days, actions, zero()) == 0.0).all()


def test_large_fleets_are_grouped_and_their_bounds_hold():
    lot = EVENING.replace(cars=320)
    model = Model(lot)
    days = sample(lot, model.law, 1, 0)
    top = penalised(model, days, FULL)
    assert top.evidence[0].label.max() + 1 < 320
    episodes = rollout(model, days, Uncontrolled(model, 0.5))
    assert episodes.returns - penalty_of(model, days, episodes, FULL) <= top.bound_usd


def test_a_fitted_penalty_lowers_the_bound_of_fresh_days():
    model = Model(HOURLY)
    heard = []
    found = fit(model, 12, 1, parts=2, grid=GRID, say=heard.append)
    assert found == fit(model, 12, 1, parts=2, grid=GRID) and any("round 1" in text for text in heard)
    days = sample(HOURLY, model.law, 20, 2)
    loose, tight = penalised(model, days, zero()).bound_usd, penalised(model, days, found).bound_usd
    less = loose - tight
    assert less.mean() > 3.0 * less.std(ddof=1) / np.sqrt(len(less)) and less.mean() > 20.0


def test_bounds_of_days_do_not_depend_on_each_other_and_progress_is_told():
    model = Model(EVENING)
    days = sample(EVENING, model.law, 3, 6)
    whole, alone = penalised(model, days, FULL), penalised(model, rows_of(days, slice(1, 2)), FULL)
    assert whole.bound_usd[1] == alone.bound_usd[0]
    small = Model(EVENING.replace(steps=2, cars=0))
    heard = []
    penalised(small, sample(small.instance, "generator", 51, 0), zero(), heard.append)
    assert heard == ["penalised days: 50 of 51"]


# ----------------------------------------------------------------- data


def test_penalties_survive_json_and_bad_ones_are_refused_by_name():
    for penalty in (FULL, ODD, zero()):
        again = Penalty.from_dict(json.loads(json.dumps(penalty.to_dict())))
        assert again == penalty and again.hash == penalty.hash
    assert len({FULL.hash, ODD.hash, zero().hash}) == 3 and zero().idle and not FULL.idle
    for change, text in (
        ({"level": math.nan}, "level"),
        ({"level": True}, "level"),
        ({"gas": ((1.0, 2.0),)}, "gas"),
        ({"gas": ((1.0,), (1.0,))}, "parts of energy"),
        ({"energy": ((1e9, 0.0),)}, "energy"),
        ({"energy": ()}, "energy"),
        ({"gas": "1"}, "gas"),
        ({"grid": (9, 5, 2)}, "grid"),
        ({"grid": (9, 5.5, 3)}, "grid"),
        ({"grid": (9, 5)}, "grid"),
        ({"more": 1}, "penalty"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            Penalty.from_dict(FULL.to_dict() | change)
    with pytest.raises(InvalidInputError, match="exactly"):
        Penalty.from_dict({"level": 1.0})


def test_the_shipped_penalty_is_read_and_prices_a_day():
    model, found = Model(Instance()), default()
    day = rows_of(sample(model.instance, model.law, 3, 3), slice(2, 3))
    assert not found.idle and prices(model, day, 0, found).gas_usd_per_kw.std() > 0.0


@lru_cache
def text():
    lot = EVENING.replace(line_limit_kw=(150.0, 350.0, 200.0, 500.0, 350.0, 200.0))
    model = Model(lot)
    bound = penalised(model, sample(lot, model.law, 3, 5), ODD)
    return json.dumps(penalised_certificate(model, 5, ODD, bound), allow_nan=False)


def refused(certificate, match="."):
    with pytest.raises(CertificateError, match=match):
        check(certificate)


def test_certificates_hold_and_no_digit_of_them_can_be_changed():
    made = json.loads(text())
    report = check(made)
    assert report.values["mean_bound_usd"] == pytest.approx(made["mean_bound_usd"]) and "3 days" in report.claims[0]
    assert len(unpack(made["lines"])) > 0
    for field in made:
        refused({key: value for key, value in made.items() if key != field})
        for value in (None, "x", 7, [], {}, math.nan, True):
            refused(made | {field: value})
    refused(made | {"more": 1}, "fields")
    refused(made | {"mean_bound_usd": made["mean_bound_usd"] - 1e-3}, "mean_bound_usd")
    refused(made | {"penalty": FULL.to_dict()}, "penalty_sha256")
    refused(made | {"penalty": FULL.to_dict(), "penalty_sha256": FULL.hash}, "mean_bound_usd")
    refused(made | {"penalty": made["penalty"] | {"level": 1}}, "penalty")
    for origin in ({"seed": 6, "n_samples": 3}, {"seed": 5, "n_samples": 2}, {"seed": 5.0, "n_samples": 3}):
        refused(made | {"sample": origin})
    whole = Instance()
    forged = {"instance": whole.to_dict(), "instance_sha256": whole.hash, "sample": {"seed": 5, "n_samples": 20_000}}
    refused(made | forged | {"penalty": zero().to_dict(), "penalty_sha256": zero().hash}, "n_samples")
    dual = unpack(made["dual"]).copy()
    for other in (dual[:-1], np.append(dual, 0.0), dual * 1.01, 0.0 * dual, np.where(dual > 0.1, np.nan, dual)):
        refused(made | {"dual": pack(other)})
    lines = unpack(made["lines"])
    refused(made | {"lines": pack(lines[:-1])})
    refused(made | {"lines": pack(np.concatenate([lines, lines[:1]]))}, "lines")
    label = unpack(made["groups"]).copy()
    label[0, 0] = label[0, 1]
    refused(made | {"groups": pack(label)}, "groups")
