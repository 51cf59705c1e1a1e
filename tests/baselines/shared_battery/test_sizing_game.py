"""Drivers who size for themselves: exact best responses, equilibria, and certificates."""

import copy
import json

import numpy as np
import pytest

from baselines.certificate import CertificateError, check, pack, unpack
from baselines.shared_battery.cost_game import cost_game
from baselines.shared_battery.sizing_game import SPLITS, best_responses, costs, respond, sizing_equilibrium
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

LOT = Instance(drivers=4, own_usd_per_kwh=1.5)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("price", [0.3, 1.5, 4.0])
def test_no_battery_on_a_fine_grid_beats_the_best_response(split, seed, price):
    lot, rng = LOT.replace(own_usd_per_kwh=price), np.random.default_rng(seed)
    need = sample_days(lot, "generator", 30, seed).need_kwh
    own = rng.uniform(0.0, 1.0, 4) * need.max(axis=0)
    for i in range(4):
        place, paid = respond(lot, need, own, i, split)
        answered = own.copy()
        answered[i] = place
        assert costs(lot, need, answered, split)[i] == pytest.approx(paid)
        for b in np.linspace(0.0, lot.own_max_kwh, 4001):
            answered[i] = b
            assert costs(lot, need, answered, split)[i] >= paid - 1e-9


@pytest.mark.parametrize("split", SPLITS)
def test_costs_are_the_own_batteries_and_the_whole_bill(split):
    need = sample_days(LOT, "generator", 50, 1).need_kwh
    own = np.array([3.0, 0.0, 10.0, 160.0])
    bill = LOT.shared_usd_per_kwh * np.maximum(need - own, 0.0).sum(axis=1).max()
    assert costs(LOT, need, own, split).sum() == pytest.approx(LOT.own_usd_per_kwh * own.sum() + bill)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("start", [None, 0.0])
def test_where_drivers_settle_nobody_gains_and_all_pay_at_least_the_optimum(split, start):
    given = None if start is None else np.full(4, start)
    found, data = sizing_equilibrium(LOT, split, 60, 3, start_kwh=given)
    if found.settled:
        assert found.epsilon_usd.max() <= 1e-6
    assert found.costs_usd.sum() >= cost_game(LOT, 60, 3).game.lower[-1] - 1e-6
    assert check(json.loads(json.dumps(data)), LOT).values["epsilon_usd"] == pytest.approx(found.epsilon_usd.max())


def test_with_equal_shares_nobody_buys_what_costs_more_than_his_share_of_the_shared_one():
    dear, _ = sizing_equilibrium(LOT.replace(own_usd_per_kwh=1.01), "equal", 40, 2)
    assert not dear.own_kwh.any()  # a fourth of 4 $/kWh is 1 $/kWh
    cheap, _ = sizing_equilibrium(LOT.replace(own_usd_per_kwh=0.99), "equal", 40, 2)
    assert cheap.own_kwh.any()


def test_epsilon_of_a_plan_that_is_no_equilibrium_is_what_drivers_would_save():
    need = sample_days(LOT, "generator", 40, 2).need_kwh
    own = np.full(4, 20.0)
    paid, least = best_responses(LOT, need, own, "equal")
    for i in range(4):
        assert paid[i] - least[i] == pytest.approx(paid[i] - respond(LOT, need, own, i, "equal")[1])
    assert (paid - least).max() > 1.0


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("own_kwh", lambda packed: pack(unpack(packed) + 1.0)),
        ("own_kwh", lambda packed: pack(unpack(packed) - 1e3)),
        ("costs_usd", lambda packed: pack(unpack(packed) * 0.9)),
        ("epsilon_usd", 1.0),
        ("split", "shortfall"),
        ("split", "fair"),
        ("sample", {"seed": 4, "n_samples": 60}),
    ],
)
def test_a_certificate_with_a_changed_entry_is_refused(field, change):
    data = copy.deepcopy(json.loads(json.dumps(sizing_equilibrium(LOT, "equal", 60, 3)[1])))
    data[field] = change(data[field]) if callable(change) else change
    with pytest.raises(CertificateError):
        check(data)


def test_wrong_input_is_named():
    for wrong, field in (
        ({"split": "fair"}, "split"),
        ({"n_samples": 0}, "n_samples"),
        ({"rounds": 0}, "rounds"),
        ({"start_kwh": np.full(4, -1.0)}, "start_kwh"),
    ):
        with pytest.raises(InvalidInputError, match=field):
            sizing_equilibrium(LOT, **wrong)
