from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.parking_lot.hindsight import hindsight
from baselines.parking_lot.penalty import (
    Penalty,
    days_for,
    fit,
    informed_actions,
    penalised,
    penalised_certificate,
    penalty_of,
    penalty_terms,
    zero,
)
from baselines.parking_lot.penalty_days import draw_days
from baselines.parking_lot.penalty_kernel import leaving_rows
from baselines.parking_lot.penalty_market import market_nodes, market_weights
from baselines.parking_lot.policies import ChargeWhenCheap, DoNothing, LeastLaxity, PlanReplay, PredictiveControl
from v2g_env.core.validate import InvalidInputError
from v2g_env.data.splits import DaySessions
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Law, law, law_of, sample
from v2g_env.rollout import Recorded, rollout

LOTS = {
    "default": Instance(),
    "half hours": Instance(step_h=0.5, open_h=8.0, close_h=16.0),
    "small grid": Instance(grid_limit_kw=10.0),
    "few bays, spread": Instance(bays=20, charger_spread=0.4),
    "least laxity": Instance(dispatch="least_laxity"),
    "steady market": Instance(pv_sd=0.0, load_sd=0.0),
}
PLAN = np.minimum(20.0 * np.arange(13.0), 90.0)


class Chance:
    """Random actions of different temperaments."""

    def __init__(self, n: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.mean = self.rng.uniform(-1.0, 1.0, (n, 1))
        self.spread = self.rng.choice([0.0, 0.2, 1.0, 10.0], (n, 1))

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Random actions."""
        noise = self.rng.normal(size=self.mean.shape)
        return np.clip(self.mean + self.spread * noise, -1.0, 1.0).astype(np.float32), None


class Greedy:
    """As much as the gate allows in every step, whatever it costs."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """The highest action."""
        return np.ones((len(observation), 1), np.float32), None


class Contrary:
    """Asks for much when little can be held, when the sun shines, and when cars are about to leave."""

    def __init__(self, model: Model) -> None:
        self.layout = model.observation_layout

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """An odd function of the observation."""
        see = {name: observation[:, part].sum(axis=1) for name, part in self.layout.items()}
        wish = np.sin(40.0 * see["capacity"] + 9.0 * see["surplus"]) + see["leaving"] - 0.2 * see["stated_3h"]
        return np.clip(wish, -1.0, 1.0).astype(np.float32)[:, None], None


def policies_of(model: Model, n: int) -> dict[str, Any]:
    plan = np.resize(PLAN, model.steps)
    replay = Model(model.instance, model.law, np.append(plan[:-1], 0.0))
    return {
        "nothing": DoNothing(model),
        "plan": PlanReplay(replay),
        "cheap": ChargeWhenCheap(model),
        "cheap, all": ChargeWhenCheap(model, 1.0),
        "laxity": LeastLaxity(model),
        "control": PredictiveControl(model, 0.3),
        "bold control": PredictiveControl(model, 0.9),
        "greedy": Greedy(),
        "contrary": Contrary(model),
        **{f"chance {seed}": Chance(n, seed) for seed in range(3)},
    }


@lru_cache(maxsize=16)
def penalty_for(name: str) -> Penalty:
    small = {} if name == "default" else {"knots": 12, "nodes": (3, 2), "draws": 8}
    chosen = {"draws": 24, "path": 64, "tuning_days": 1} | small
    return replace(fit(LOTS[name], "generator", 1000 if name == "default" else 200, 901, **chosen), scale=(1.0, 0.9))


@lru_cache(maxsize=16)
def made(name: str, n: int, seed: int = 77):
    model = Model(LOTS[name], "generator")
    penalty = penalty_for(name)
    days = days_for(model, n, seed, penalty)
    return model, penalty, days, penalised(model, days, penalty).bound_usd


def test_the_days_are_those_of_the_sample_with_the_same_seed():
    lot = LOTS["default"]
    for name in ("generator", "days:jpl-2019/test"):
        ours, theirs = draw_days(lot, law(name), 40, 5, 3).scenario, sample(lot, law(name), 40, 5)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", LOTS)
def test_no_policy_beats_the_bound_on_any_path(name):
    model, penalty, days, bound = made(name, 60)
    for label, policy in policies_of(model, 60).items():
        if label == "plan":  # its plan widens the gate's range
            continue
        episodes = rollout(model, days.scenario, policy)
        gap = bound - (episodes.returns - penalty_of(model, days, episodes, penalty))
        assert gap.min() >= -1e-9, label
    informed = rollout(model, days.scenario, Recorded(informed_actions(model, days, penalty)))
    assert (bound - (informed.returns - penalty_of(model, days, informed, penalty))).min() >= -1e-9


def test_no_policy_beats_the_bound_on_replayed_real_days_either():
    lot, name = LOTS["default"], "days:jpl-2019/test"
    model = Model(lot, name)
    penalty = fit(lot, name, 200, 903, draws=16, knots=16, nodes=(3, 2), path=64, tuning_days=20)
    days = days_for(model, 60, 904, penalty)
    bound = penalised(model, days, penalty).bound_usd
    for label, policy in policies_of(model, 60).items():
        if label != "plan":
            episodes = rollout(model, days.scenario, policy)
            assert (bound - (episodes.returns - penalty_of(model, days, episodes, penalty))).min() >= -1e-9, label
    assert bound.mean() < hindsight(lot, days.scenario).bound_usd.mean() - 0.5


def test_a_plan_belongs_to_the_gates_range():
    model, penalty, days, bare = made("default", 60)
    planned = Model(model.instance, model.law, PLAN)
    bound = penalised(planned, days, penalty).bound_usd
    episodes = rollout(planned, days.scenario, PlanReplay(planned))
    assert (bound - (episodes.returns - penalty_of(planned, days, episodes, penalty))).min() >= -1e-9
    assert (bound >= bare - 0.2).all()  # up to the chords of the path's grid


def test_the_capacity_drawn_has_the_law_of_the_capacity_that_came():
    days = draw_days(LOTS["default"], law("generator"), 400, 31, 24)
    own, other = days.capacity_kwh[:, 1:-1], days.other_kwh[:, 1:-1]
    error = own - other.mean(axis=2)
    assert (np.abs(error.mean(axis=0)) <= 4.0 * error.std(axis=0) / np.sqrt(400)).all()
    # ranks of the truth among its draws: uniform, mean 1/2 and variance 1/12 but for ties
    rank = (other < own[..., None]).mean(axis=2) + 0.5 * (other == own[..., None]).mean(axis=2)
    assert (np.abs(rank.mean(axis=0) - 0.5) <= 4.0 / np.sqrt(12 * 400)).all()
    assert np.sqrt(other.var(axis=2).mean(axis=0))[5] == pytest.approx(error.std(axis=0)[5], rel=0.15)


def test_the_errors_of_the_drawn_capacity_are_unrelated_to_whatever_has_been_observed():
    lot = LOTS["default"]
    days = draw_days(lot, law("generator"), 400, 32, 24)
    model = Model(lot, "generator")
    state = model.initial(days.scenario)
    idle = np.full((400, 1), -1.0)
    worst = []
    for t in range(lot.steps - 2):
        seen = model.observe(days.scenario, state).astype(float)
        error = days.capacity_kwh[:, t + 1] - days.other_kwh[:, t + 1].mean(axis=1)
        moving = seen[:, seen.std(axis=0) > 1e-6]
        score = (moving - moving.mean(axis=0)) * error[:, None]
        worst.append(np.abs(score.mean(axis=0) / (score.std(axis=0) / np.sqrt(400))).max())
        state = model.step(days.scenario, state, idle)[0]
    assert max(worst) <= 4.5  # some 200 statistics that are standard normal in the limit


def three_sessions() -> Law:
    """Days of three cars: two that look alike on arrival and leave at different times, and a late one."""
    days = DaySessions(
        "three", ("2019-01-01",), np.array([0, 3]), np.array([0.2, 0.3, 1.5]), np.array([2.5, 4.5, 5.5]),
        np.array([9.0, 9.1, 9.2]), np.array([5.0, 5.0, 5.0]),
    )  # fmt: skip
    return law_of(days)


TINY = Instance(
    bays=3, open_h=0.0, close_h=6.0, efficiency=1.0, wear_usd_per_kwh=0.0, headroom_low_kwh=8.0, headroom_high_kwh=8.0,
    buy_usd_per_kwh=(0.1, 0.1, 0.2, 0.4, 0.5, 0.5) + (0.5,) * 18, pv_sd=0.0, load_sd=0.0, drop_fraction=0.4,
    mix_fraction=0.0,
)  # fmt: skip


def tiny_model() -> Model:
    model = Model(TINY, three_sessions())
    # the gate's ratio of the fitting days means nothing here
    model.constants = model.constants._replace(ratio=np.full(6, 3.0))
    return model


def tiny_fit() -> Penalty:
    return replace(
        fit(TINY, three_sessions(), 400, 3, draws=200, tuning_days=2, knots=24, nodes=(1, 1)), scale=(1.0, 1.0)
    )


def outcome(kept: tuple[bool, ...]) -> list[float]:
    """K of the six steps for who comes: steps 0 to 1, 0 to 4 and 2 to 5 plugged in, announced a step ahead."""
    spans = ((1, 2), (1, 4), (2, 5))
    return [8.0 * sum(k and a <= t < d - 1 for k, (a, d) in zip(kept, spans, strict=True)) for t in range(6)]


def seen_by(kept: tuple[bool, ...], t: int) -> tuple[Any, ...]:
    """All that is seen of three sessions at the start of step t: how many came and who has announced to leave."""
    first = sum(kept[:2]) if t >= 1 else 0
    left = (kept[0] if t >= 1 else None, kept[1] if t >= 3 else None)
    return first, left, kept[2] if t >= 2 else None


def test_the_law_of_a_tiny_days_capacity_is_the_one_found_by_enumeration():
    days = draw_days(TINY, three_sessions(), 300, 8, 400)
    k = days.capacity_kwh
    for row in range(300):
        patterns = [p for p in product((False, True), repeat=3) if np.allclose(outcome(p)[1:5], k[row, 1:5])]
        assert patterns
        for t in range(4):
            same = [p for p in product((False, True), repeat=3) if seen_by(p, t) == seen_by(patterns[0], t)]
            weight = np.array([0.6 ** sum(p) * 0.4 ** (3 - sum(p)) for p in same])
            exact = weight @ np.array([outcome(p)[t + 1] for p in same]) / weight.sum()
            assert abs(days.other_kwh[row, t + 1].mean() - exact) <= 5.0 * 8.0 / np.sqrt(400)


def exact_optimum(model: Model, surplus: list[float], deficit: list[float]) -> tuple[float, dict[Any, float]]:
    """Value and choices of the best policy that sees what seen_by says, by enumeration on a grid of 1 kWh."""
    grid = np.arange(0.0, 25.0)
    every = list(product((False, True), repeat=3))
    chance = {p: 0.6 ** sum(p) * 0.4 ** (3 - sum(p)) for p in every}

    def earn(x: float, c: float, t: int) -> float:
        change = c - x
        taken, back = min(max(change, 0.0), surplus[t]), min(max(-change, 0.0), deficit[t])
        rest, sold = max(change, 0.0) - taken, max(-change, 0.0) - back
        price = TINY.buy[t]
        return price * (0.9 * back + 0.4 * sold - 0.4 * taken - rest)

    choices: dict[Any, float] = {}

    @cache
    def value(t: int, x: float, seen: tuple[Any, ...]) -> float:
        """Best mean money from step t + 1 on, c of step t + 1 being chosen now."""
        if t == 5:
            return 0.0
        same = [p for p in every if seen_by(p, t) == seen]
        whole = sum(chance[p] for p in same)
        top = 3.0 * outcome(same[0])[t] if t < 4 else 0.0
        best = -np.inf
        for c in grid[grid <= top + 1e-9]:
            total = earn(x, c, t + 1)
            for p in same:
                k = outcome(p)[t + 1]
                total += (
                    chance[p]
                    / whole
                    * (-TINY.imbalance_usd_per_kwh * max(c - k, 0.0) + value(t + 1, min(c, k), seen_by(p, t + 1)))
                )
            if total > best:
                best, choices[t, x, seen] = total, float(c)
        return best

    return value(0, 0.0, seen_by(every[0], 0)), choices


def test_the_bound_comes_close_to_the_known_optimum_of_a_tiny_lot():
    model = tiny_model()
    penalty = tiny_fit()
    n = 800
    days = days_for(model, n, 9, penalty)
    s = days.scenario
    best, choices = exact_optimum(model, s.surplus_kw[0].tolist(), s.deficit_kw[0].tolist())
    bound = penalised(model, days, penalty).bound_usd
    loose = hindsight(TINY, s).bound_usd
    closed, x = np.zeros((n, 6)), np.zeros(n)
    money = np.zeros(n)
    state = model.initial(s)
    patterns = [
        next(p for p in product((False, True), repeat=3) if np.allclose(outcome(p)[1:5], days.capacity_kwh[i, 1:5]))
        for i in range(n)
    ]
    for t in range(6):
        want = np.array([choices.get((t, float(np.round(x[i])), seen_by(patterns[i], t)), 0.0) for i in range(n)])
        state, earned, fact = model.step(s, state, model.action_for(want, t, s.capacity_kwh[:, t]))
        money += earned.sum(axis=1)
        closed[:, t] = fact[:, 5]
        if t < 5:
            x = np.minimum(want, s.capacity_kwh[:, t + 1])
    z = penalty_terms(model, days, closed, penalty).sum(axis=(1, 2))
    assert abs(money.mean() - best) <= 4.0 * money.std() / np.sqrt(n)  # the enumeration is the environment
    gap = bound - (money - z)
    assert gap.min() >= -1e-9
    left = (loose - money).mean()
    assert left > 0.1
    assert gap.mean() <= 0.25 * left


@pytest.mark.parametrize("name", ["default", "few bays, spread", "half hours"])
def test_the_penalty_has_mean_zero_for_every_policy(name):
    n = 500 if name == "default" else 300
    model, penalty, days, _ = made(name, n, 78)
    for label, policy in policies_of(model, n).items():
        episodes = rollout(model, days.scenario, policy)
        terms = penalty_terms(model, days, episodes.facts[:, :, 5], penalty).sum(axis=1)
        assert (terms.std(axis=0) > 1e-3).all()
        assert (np.abs(terms.mean(axis=0)) <= 4.0 * terms.std(axis=0) / np.sqrt(n)).all(), label


def test_a_law_of_the_capacity_wrong_by_one_kilowatt_hour_would_be_noticed():
    model, penalty, days, _ = made("default", 500, 78)
    closed = rollout(model, days.scenario, PredictiveControl(model, 0.3)).facts[:, :, 5]
    wrong = days._replace(other_kwh=days.other_kwh + 1.0)
    terms = penalty_terms(model, wrong, closed, penalty).sum(axis=1)[:, 0]
    assert abs(terms.mean()) > 4.0 * terms.std() / np.sqrt(500)


def test_the_weights_of_the_markets_nodes_differ_by_news_with_mean_zero():
    lot = Instance()
    rng = np.random.default_rng(5)
    days = sample(lot, law("generator"), 4000, 41)
    seen, happened = market_weights(lot, days, (5, 3))
    assert np.allclose(seen[:, :-1].sum(axis=2), 1.0)
    assert np.allclose(happened[:, :-1].sum(axis=2), 1.0)
    news = (happened - seen)[:, :-1] @ rng.normal(size=(15, 4))
    for known in (1.0, np.log(days.pv_factor[:, :-2, None]), days.load_factor[:, :-2, None] ** 2):
        score = (news * known).reshape(4000, -1)
        assert (np.abs(score.mean(axis=0)) <= 4.5 * score.std(axis=0) / np.sqrt(4000)).all()


def test_conditional_means_at_the_nodes_reproduce_polynomials_of_the_factors():
    lot = Instance(factor_memory=0.7)
    nodes = np.polynomial.hermite_e.hermegauss(5)[0]
    shift = market_nodes(lot, (5, 1)).shift
    # E[l'^3 | l] = m^3 l^3 + 3 m (1 - m^2) l
    assert np.allclose(shift @ nodes**3, 0.7**3 * nodes**3 + 3 * 0.7 * 0.51 * nodes, atol=1e-9)


def test_without_a_penalty_the_bound_is_the_one_of_hindsight():
    for name in ("default", "few bays, spread", "half hours"):
        lot = LOTS[name]
        model = Model(lot, "generator")
        nothing = zero(lot, path=400)
        days = days_for(model, 40, 79, nothing)
        found, known = penalised(model, days, nothing), hindsight(lot, days.scenario).bound_usd
        assert (found.bound_usd >= known - 2e-3).all()  # hindsight breaks ties at a cost of that order
        assert found.bound_usd == pytest.approx(known, abs=0.25)
        assert (found.bound_usd - known).mean() < 0.1
        idle = rollout(model, days.scenario, Greedy())
        assert (penalty_of(model, days, idle, nothing) == 0.0).all()


def test_on_fresh_days_the_bound_is_strictly_below_hindsight_and_comes_near_an_informed_policy():
    model, penalty, days, bound = made("default", 500, 78)
    loose = hindsight(model.instance, days.scenario).bound_usd
    saved = loose - bound
    assert saved.mean() - 4.0 * saved.std() / np.sqrt(500) > 3.0
    informed = rollout(model, days.scenario, Recorded(informed_actions(model, days, penalty)))
    gap = bound - (informed.returns - penalty_of(model, days, informed, penalty))
    assert gap.mean() < 0.06 * bound.mean()


def test_the_gap_with_the_control_variate_has_a_narrower_interval_for_a_good_policy():
    model, penalty, days, bound = made("default", 500, 78)
    loose = hindsight(model.instance, days.scenario).bound_usd
    informed = rollout(model, days.scenario, Recorded(informed_actions(model, days, penalty)))
    z = penalty_of(model, days, informed, penalty)
    gap = bound - (informed.returns - z)
    assert gap.std() < 0.15 * (bound - informed.returns).std()
    assert gap.std() < 0.5 * (loose - informed.returns).std()
    for policy in (PredictiveControl(model, 0.3), LeastLaxity(model)):
        episodes = rollout(model, days.scenario, policy)
        z = penalty_of(model, days, episodes, penalty)
        assert (episodes.returns - z).std() < 0.9 * episodes.returns.std()


def test_redistribution_forced_by_leaving_cars_is_never_more_than_what_is_paid():
    lot = LOTS["default"]
    days = sample(lot, law("generator"), 60, 51)
    model = Model(lot, "generator")
    width = np.maximum(days.capacity_kwh.max(axis=1), 1e-6) / 200
    left = leaving_rows(days.sessions, days.arrive, days.depart, days.quota_kwh, days.order, width, 201, lot.steps)
    eta = lot.efficiency
    price = lot.buy * (1.0 / eta - eta) + lot.wear_usd_per_kwh * (1.0 / eta + eta)
    forced, paid = 0.0, 0.0
    for seed in range(4):
        policy = Chance(60, seed) if seed < 3 else ChargeWhenCheap(model, 1.0)
        state = model.initial(days)
        for t in range(lot.steps):
            before = state.stored_kwh
            action, _ = policy.predict(model.observe(days, state))
            state, money, fact = model.step(days, state, np.asarray(action, float))
            place = np.floor(before / width).astype(int)
            least = left[np.arange(60), t, np.minimum(place, 200)]
            moved = np.maximum(np.minimum(least, fact[:, 4] - before + least), 0.0)
            assert (price[t] * moved <= -money[:, 5] + 1e-9).all()
            forced, paid = forced + (price[t] * moved).sum(), paid - money[:, 5].sum()
    assert forced > 0.1 * paid


def test_a_finer_grid_of_the_path_never_makes_the_bound_invalid_and_tightens_it_on_average():
    model, penalty, days, coarse = made("default", 60)
    fine = penalised(model, days, replace(penalty, path=256))
    assert fine.bound_usd.mean() < coarse.mean()
    # the truth lies between what the grid finds and what is added to prove it
    assert (fine.grid_usd <= coarse + 1e-6).all()


def test_draws_repeat_with_their_seed_and_change_with_it():
    once, again, other = (draw_days(LOTS["default"], law("generator"), 20, 61, 8, seed).other_kwh for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert (once != other).any(axis=(1, 2)).all()


def test_a_penalty_survives_json_and_its_hash_notices_every_field():
    penalty = penalty_for("default")
    back = Penalty.from_dict(json.loads(json.dumps(penalty.to_dict())))
    assert back.hash == penalty.hash
    assert np.array_equal(back.leaving_kwh, penalty.leaving_kwh)
    moved = penalty.mean_kwh.copy()
    moved[3, 4] += 1e-9
    others = [
        replace(penalty, mean_kwh=moved), replace(penalty, scale=(1.0, 0.8)), replace(penalty, inner_seed=1),
        replace(penalty, nodes=(3, 5)), replace(penalty, tight=False), replace(penalty, path=65),
    ]  # fmt: skip
    assert len({penalty.hash, *(other.hash for other in others)}) == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": (1.0, 1.5)}, {"scale": (True, 1.0)}, {"scale": [1.0, 1.0]}, {"draws": 0}, {"draws": 2.0},
        {"nodes": (0, 3)}, {"path": 10**9}, {"tight": 1}, {"width_kwh": 0.0}, {"inner_seed": -1},
        {"mean_kwh": np.full((96, 13), np.nan)}, {"spread_kwh": np.zeros((96, 12))}, {"law": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_penalty_out_of_range_is_refused(changes):
    with pytest.raises(InvalidInputError, match=next(iter(changes))):
        replace(penalty_for("default"), **changes)


def test_unknown_and_missing_fields_of_a_penalty_are_refused():
    plain = penalty_for("default").to_dict()
    for bad in ({**plain, "more": 1}, {k: v for k, v in plain.items() if k != "slope"}, []):
        with pytest.raises(InvalidInputError):
            Penalty.from_dict(bad)


def test_what_the_penalty_does_not_cover_is_refused():
    for changes in ({"gate_closure_steps": 0}, {"own_charging": True}, {"step_h": 13.0 / 16.0}):
        with pytest.raises(InvalidInputError, match=next(iter(changes))):
            draw_days(Instance(**changes), law("generator"), 2, 1, 4)
    with pytest.raises(InvalidInputError, match="law"):
        draw_days(Instance(), law("smoothed"), 2, 1, 4)
    penalty = penalty_for("default")
    for model in (
        Model(Instance(bays=51)),
        Model(Instance(), "days:jpl-2019/test"),
        Model(Instance(), per_bay=True),
    ):
        with pytest.raises(InvalidInputError):
            days_for(model, 2, 1, penalty)


@pytest.fixture(scope="module")
def certificate() -> dict[str, Any]:
    model, penalty = Model(LOTS["default"], "generator", PLAN), penalty_for("default")
    bound = penalised(model, days_for(model, 12, 5, penalty), penalty)
    return json.loads(json.dumps(penalised_certificate(model, 12, 5, penalty, bound), allow_nan=False))


def test_a_certificate_is_confirmed_by_recomputing_it(certificate):
    report = check(certificate, LOTS["default"])
    assert report.values["mean_bound_usd"] == pytest.approx(certificate["mean_bound_usd"], abs=1e-9)
    assert "no policy" in report.claims[0]


def changed(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(data)
    place: Any = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def test_tampered_certificates_are_refused(certificate):
    lower = unpack(certificate["bound_usd"]).copy()
    lower[3] -= 1e-5
    moved = unpack(certificate["penalty"]["noise_kwh"]).copy()
    moved[0, 2] += 1.0
    bad = [
        ("mean_bound_usd",), certificate["mean_bound_usd"] - 1e-4
    ], [("mean_bound_usd",), True], [("mean_bound_usd",), float("nan")], [("bound_usd",), pack(lower)], [
        ("bound_usd",), pack(lower[:-1])
    ], [("sample", "seed"), 6], [("sample", "seed"), True], [("sample", "n_samples"), 13], [
        ("sample", "n_samples"), 10**9
    ], [("sample", "law"), "days:jpl-2019/test"], [("penalty", "scale"), [1.0, 0.0]], [
        ("penalty", "noise_kwh"), pack(moved)
    ], [("penalty", "more"), 1], [("penalty_sha256",), "0" * 64], [("plan_kwh",), [1.0] * 12], [
        ("plan_kwh",), [True] * 13
    ], [("more",), 1], [("instance", "bays"), 51]  # fmt: skip
    for path, value in bad:
        with pytest.raises(CertificateError):
            check(changed(certificate, path, value), LOTS["default"])
    for key in certificate:
        with pytest.raises(CertificateError):
            check({name: part for name, part in certificate.items() if name != key}, LOTS["default"])
    with pytest.raises(CertificateError):
        check(certificate, Instance(bays=51))
