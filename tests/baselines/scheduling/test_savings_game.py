"""The aggregators' game: days of coalitions, savings that grow, limits that hold, forged certificates refused."""

import copy
import json

import numpy as np
import pytest

from baselines.certificate import CertificateError, check
from baselines.games.properties import monotone
from baselines.scheduling.day import Protection, known_day
from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.linear import optimise
from baselines.scheduling.program import Task
from baselines.scheduling.savings_game import coalition_day, savings_game
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import gas_scale, sample

LOT = Instance(
    steps=12,
    step_h=1.0,
    start_h=16.0,
    gas_ramp_kw=800.0,
    cars=9,
    aggregator_bus=(1, 2, 3),
    load_shares=(0.4, 0.3, 0.3),
    turbine_bus=(2,),
    line_from=(0, 1, 2),
    line_to=(1, 2, 3),
    line_limit_kw=(900.0, 700.0, 500.0),
)
MODEL = Model(LOT)
DAYS = sample(LOT, MODEL.law, 1, 4)


@pytest.fixture(scope="module")
def made():
    return savings_game(LOT, 4)


def test_all_together_save_what_hindsight_saves_and_nobody_nothing(made):
    top = hindsight(MODEL, DAYS)
    day = coalition_day(LOT, known_day(MODEL, DAYS, 0), 0)
    nobody = optimise(LOT, Task(day, Protection(), "cost", True, gas_scale(LOT))).measured.value
    assert made.game.total == pytest.approx(nobody - (LOT.calibrated_usd - top.plan_usd[0]), abs=1e-5)
    assert made.game.values[0] == 0.0 and made.game.total > 0.0


def test_cars_of_others_charge_at_once_until_they_have_what_they_want():
    day = known_day(MODEL, DAYS, 0)
    alone = coalition_day(LOT, day, 0b001)
    others = LOT.owner != 0
    assert (alone.depart[others] == alone.arrive[others]).all()
    assert np.array_equal(alone.depart[~others], day.depart[~others])
    added = (alone.load_kw - day.load_kw).sum(axis=0) * LOT.step_h * LOT.efficiency
    wanted = np.maximum(day.target_kwh - day.start_kwh, 0.0) * (day.depart > day.arrive)
    by_owner = np.bincount(LOT.owner, wanted * others, LOT.aggregators)
    np.testing.assert_allclose(added, by_owner, atol=1e-6)
    first = (alone.load_kw - day.load_kw) > 1e-9
    for a in (1, 2):
        assert np.flatnonzero(first[:, a])[0] == day.arrive[(LOT.owner == a) & (wanted > 0)].min()


def test_savings_only_grow_with_the_coalition_and_lie_within_their_limits(made):
    game = made.game
    assert monotone(game) is None or monotone(game).usd < 1e-5
    assert (game.lower <= game.values).all() and (game.values <= game.upper).all()
    assert (game.upper - game.lower).max() < 1e-4


def test_the_certificate_holds(made):
    report = check(json.loads(json.dumps(made.certificate)), LOT)
    assert report.values["total_usd"] == pytest.approx(made.game.total)


def swap(data):
    data["schedules"][1], data["schedules"][2] = data["schedules"][2], data["schedules"][1]


def other_day(data):
    data["sample"]["seed"] = 5


def fewer(data):
    data["schedules"].pop()


def harder(data):
    data["schedules"][3]["soft"] = False


def another_table(data):
    data["table_sha256"] = "0" * 64


@pytest.mark.parametrize("change", [swap, other_day, fewer, harder, another_table])
def test_a_changed_certificate_is_refused(made, change):
    data = copy.deepcopy(json.loads(json.dumps(made.certificate)))
    change(data)
    with pytest.raises(CertificateError):
        check(data)


def test_wrong_input_is_named():
    with pytest.raises(InvalidInputError, match="row"):
        savings_game(LOT, row=-1)
    many = Instance(aggregator_bus=tuple([1] * 13), load_shares=tuple([1 / 13] * 13))
    with pytest.raises(InvalidInputError, match="aggregators"):
        savings_game(many)
