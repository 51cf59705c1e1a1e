"""Official bounds and their penalties from certificates, period by period, on tiny instances of every family."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest

from agents import boards, leaderboard_bounds
from agents.bound_kinds import KINDS, OFFICIAL, Drawn
from agents.leaderboard_bounds import ADAPTERS, certified_bound, official_board
from agents.leaderboard_sets import BOARD_SETS, BoardSet, Scene
from baselines.certificate import CertificateError
from baselines.scheduling import penalty as network
from baselines.scheduling import penalty_noise
from baselines.scheduling.hindsight import hindsight as network_hindsight
from baselines.scheduling.penalty_bound import penalised as network_penalised
from baselines.scheduling.verify_days import bounds_certificate
from baselines.scheduling.verify_penalty import penalised_certificate
from baselines.shared_battery.hindsight import hindsight as week_hindsight
from baselines.shared_battery.penalty import penalised, penalty_of
from baselines.shared_battery.penalty_fit import fitted_critic
from baselines.shared_battery.penalty_law import week_shocks
from baselines.shared_battery.verify_penalty import penalty_certificate
from baselines.shared_battery.verify_week import hindsight_certificate as week_certificate
from baselines.stackelberg import online
from baselines.stackelberg.verify_online import bound_certificate
from v2g_env.rollout import Recorded, rollout
from v2g_env.scheduling.instance import Instance as Network
from v2g_env.scheduling.model import Model as NetworkModel
from v2g_env.scheduling.scenario import sample as network_days
from v2g_env.shared_battery.instance import Instance as Battery
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import sample_weeks
from v2g_env.stackelberg.instance import Instance as Fleet
from v2g_env.stackelberg.model import Model as FleetModel
from v2g_env.stackelberg.scenario import sample as months_of

SEED = 6


class Case(SimpleNamespace):
    """A tiny family: env_id, model, scenario, certificate, the bound (m,) and penalty as its own module gives them."""


def random_actions(model, n, seed=0):
    rng = np.random.default_rng(seed)
    if model.choices is not None:
        return rng.integers(0, model.choices, (n, model.steps)).astype(np.int32)
    return rng.uniform(-1.0, 1.0, (n, model.steps, model.action_size)).astype(np.float32)


def week(correlation):
    lot = Battery(drivers=4, week_days=2, correlation=correlation)
    model, count = WeekModel(lot), 12
    shocks = [week_shocks(lot, n, s) if correlation else None for n, s in ((10, SEED + 1), (count, SEED))]
    critic = fitted_critic(model, sample_weeks(lot, model.law, 10, SEED + 1), 40, 41, shock=shocks[0])
    scenario = sample_weeks(lot, model.law, count, SEED)
    bound = penalised(model, scenario, critic, 60, 20, shocks[1]).bound_usd
    made = penalty_certificate(model, SEED, critic, bound, 60, 20, 1e-3)

    def penalty(episodes):
        return penalty_of(model, scenario, episodes.actions, critic, 60, 20, shocks[1])

    return Case(
        env_id="V2G/SharedBatteryAllocation-v0",
        model=model,
        scenario=scenario,
        certificate=made,
        bound=bound,
        penalty=penalty,
    )


def plain_weeks():
    lot = Battery(drivers=4, week_days=2)
    model = WeekModel(lot)
    scenario = sample_weeks(lot, model.law, 5, SEED)
    top = week_hindsight(model, scenario, 60)
    return Case(
        env_id="V2G/SharedBatteryAllocation-v0",
        model=model,
        scenario=scenario,
        certificate=week_certificate(model, SEED, top, 60),
        bound=top.bound_usd,
        penalty=None,
    )


def days(weights):
    lot = Network(steps=8, step_h=1.0, start_h=16.0, gas_ramp_kw=800.0, cars=5)
    model = NetworkModel(lot)
    scenario = network_days(lot, model.law, 4, SEED)
    if weights is None:
        top = network_hindsight(model, scenario)
        made, penalty = bounds_certificate(model, SEED, top), None
    else:
        top = network_penalised(model, scenario, weights)
        made = penalised_certificate(model, SEED, weights, top)

        def penalty(episodes):
            return network.penalty_of(model, scenario, episodes, weights)

    return Case(
        env_id="V2G/Scheduling-v0",
        model=model,
        scenario=scenario,
        certificate=made,
        bound=top.bound_usd,
        penalty=penalty,
    )


def months():
    lot = Fleet(days=2, rebate_levels_usd_per_h=(0.0, 0.2))
    model, scenario = FleetModel(lot), months_of(lot, 1, SEED)
    solver = online.OnlineSolver(lot, 1e-2, 0.3)
    bound = online.online_bound(lot, scenario, solver=solver).bound_usd.ravel()

    def penalty(episodes):
        return online.penalty_of(model, scenario, episodes.actions).ravel()

    return Case(
        env_id="V2G/Stackelberg-v0",
        model=model,
        scenario=scenario,
        certificate=bound_certificate(solver, SEED, 1),
        bound=bound,
        penalty=penalty,
    )


MAKE = {
    "weeks": lambda: week(0.0),
    "weeks with shocks": lambda: week(0.4),
    "weeks in hindsight": plain_weeks,
    "days": lambda: days(network.Penalty(1.0, ((0.8,),), ((0.6, 0.3),), (9, 5, 3))),
    "days in hindsight": lambda: days(None),
    "months": months,
}


@pytest.fixture(scope="module")
def cases():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(penalty_noise, "OUTCOMES", 64)  # a smaller lattice: everything holds for any
        made = {name: make() for name, make in MAKE.items()}
        for each in made.values():
            each.certificate = json.loads(json.dumps(each.certificate, allow_nan=False))
        yield made


def scene(case):
    monthly = case.env_id == "V2G/Stackelberg-v0"
    return Scene(
        instance=case.model.instance,
        model=lambda plan: case.model,
        scenario=case.scenario,
        units=None,
        returns=(lambda e: e.rewards.ravel()) if monthly else (lambda e: e.returns),
        violations=lambda episodes, beta: None,
    )


def proven(case, bound=None, certificate=None, seed=SEED):
    chosen = BoardSet(case.env_id, "generator", len(case.bound), seed)
    given = case.certificate if certificate is None else certificate
    return certified_bound(chosen, scene(case), case.bound if bound is None else bound, given)


@pytest.mark.parametrize("name", list(MAKE))
def test_every_periods_bound_and_penalty_follow_from_the_certificate(cases, name):
    case = cases[name]
    found = proven(case)
    assert f"{case.bound.mean():.4f}" in found.claim
    assert "every bound recomputed" in found.claim
    episodes = rollout(case.model, case.scenario, Recorded(random_actions(case.model, len(case.scenario[0]))))
    returns, z = scene(case).returns(episodes), 0.0
    if case.penalty is None:
        assert found.penalty is None
    else:
        z = case.penalty(episodes)
        np.testing.assert_allclose(found.penalty(case.model, episodes), z, atol=1e-12)
        assert np.abs(z).max() > 1e-3
    assert (returns - z <= case.bound + 1e-9).all()  # weak duality


@pytest.mark.parametrize("name", list(MAKE))
def test_another_bound_of_one_period_is_refused(cases, name):
    case = cases[name]
    for change in (-1e-3, 1e-3):
        wrong = case.bound.copy()
        wrong[1] += change * (1.0 + abs(wrong[1]))
        wrong[0] -= change * (1.0 + abs(wrong[1]))  # the mean stays
        with pytest.raises(CertificateError, match="bound of scenario"):
            proven(case, bound=wrong)


@pytest.mark.parametrize("name", list(MAKE))
def test_certificates_of_other_episodes_are_refused(cases, name):
    with pytest.raises(CertificateError, match="seed"):
        proven(cases[name], seed=SEED + 1)
    with pytest.raises(CertificateError, match="kind"):
        other = "months" if name != "months" else "days"
        proven(cases[name], certificate=cases[other].certificate)
    changed = copy.deepcopy(cases[name].certificate)
    changed.pop("instance")
    with pytest.raises(CertificateError):
        proven(cases[name], certificate=changed)


def test_no_certificate_is_refused(cases):
    chosen = BoardSet("V2G/Stackelberg-v0", "generator", 2, SEED)
    with pytest.raises(CertificateError, match="its certificate"):
        certified_bound(chosen, scene(cases["months"]), cases["months"].bound, None)


@pytest.mark.parametrize("name", ["weeks", "days", "months"])
def test_a_penalty_that_is_submitted_as_a_certificate_gives_its_bound(cases, name):
    case = cases[name]
    read = ADAPTERS[case.env_id]
    np.testing.assert_allclose(read(case.model, case.scenario, case.certificate, SEED), case.bound, rtol=1e-6)
    with pytest.raises(CertificateError, match="seed"):
        read(case.model, case.scenario, case.certificate, SEED + 1)
    with pytest.raises(CertificateError, match="kind of the penalty"):
        read(case.model, case.scenario, {**case.certificate, "kind": "policy"}, SEED)


def test_every_set_has_official_kinds_that_can_be_read():
    assert set(OFFICIAL) == {each.env_id for each in BOARD_SETS}
    assert {kind for kinds in OFFICIAL.values() for kind in kinds} == set(KINDS)
    assert set(ADAPTERS) <= set(OFFICIAL)


def test_the_game_gets_a_certificate_of_all_its_days(cases, monkeypatch):
    case = cases["months"]
    monkeypatch.setattr(leaderboard_bounds, "world_of", lambda *_: (case.model, None))
    monkeypatch.setattr(leaderboard_bounds, "_SECONDS", 0.3)
    module = boards.module_of(case.env_id)
    usual = module.board

    def on_tiny(env_id, instance, law, periods, seed, beta, **options):
        return usual(env_id, case.model.instance.to_dict(), law, periods, seed, beta, **options)

    monkeypatch.setattr(module, "board", on_tiny)
    board = official_board(BoardSet(case.env_id, "generator", 2, SEED))
    assert proven(case, board.test.bound, json.loads(json.dumps(board.bound))).penalty is not None
    drawn = Drawn(case.model, case.scenario, SEED)
    np.testing.assert_array_equal(board.test.bound, KINDS["online bound"].paths(drawn, board.bound))


def test_other_boards_are_those_of_an_evaluation(monkeypatch):
    asked = []
    monkeypatch.setattr(leaderboard_bounds, "board_of", lambda *given, **_: asked.append(given))
    official_board(BOARD_SETS[0])
    assert asked[0][:2] == ("V2G/ParkingLot-v0", {})
