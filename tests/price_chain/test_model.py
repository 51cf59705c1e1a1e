"""Physics, money and draws of the price chain against hand numbers and independent sums."""

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.kernels import DayState
from v2g_env.price_chain.model import FACTS, TERMS, Model
from v2g_env.price_chain.scenario import Days, Law, draw_days, fitting, sample_days
from v2g_env.rollout import Recorded, rollout

LOT = Instance()
MODEL = Model(LOT)


def random_actions(n, seed=0, model=MODEL):
    return np.random.default_rng(seed).integers(0, model.choices, (n, model.steps))


def test_one_day_by_hand():
    lot = Instance(
        steps=2,
        price_levels=1,
        price_usd_per_kwh=(0.1, 0.3),
        price_counts=(1.0, 1.0),
        energy_levels=5,
        level_kwh=10.0,
        start_level=1,
        target_level=3,
        moves=(-1, 0, 2),
        efficiency=0.8,
        power_kw_per_ev=7.0,
        presence_evs=(4,),
        presence_rows=(1.0,),
        presence_start=0,
        fee_usd_per_kwh=0.02,
        start_usd=3.0,
        stop_usd=2.0,
        wear_usd_per_kwh=0.05,
        wear_exponent=2.0,
        tariff_usd_per_kwh=0.4,
        shortfall_usd_per_kwh=1.0,
    )
    model = Model(lot)
    days = sample_days(lot, "generator", 1, 0)
    state, money, facts = model.step(days, model.initial(days), np.array([[2.0]]))
    # 20 kWh into the battery are 25 kWh at the meter, within 28 kW
    np.testing.assert_allclose(money, [[-25 * 0.12, -3.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(facts, [[0.0, 0.0, 0.1, 25.0, 30.0, 4.0]])
    state, money, facts = model.step(days, state, np.array([[0.0]]))
    # 10 kWh out are 8 kWh sold; depth .25 -> .5 of 40 kWh at .05 x (.25 - .0625); 10 kWh delivered, 10 kWh missing
    np.testing.assert_allclose(money, [[8 * 0.3, 0.0, -40 * 0.05 * (0.25 - 0.0625), 0.4 * 10, -10.0]])
    np.testing.assert_allclose(facts[0, :2], [1.0, 10.0])
    _, money, _ = model.step(days, DayState(np.array([1]), np.array([1]), np.array([1])), np.array([[1.0]]))
    np.testing.assert_allclose(money[0, 1], -2.0)  # stopped


def test_energy_at_the_meter_accounts_for_all_losses():
    days = sample_days(LOT, "generator", 200, 1)
    episodes = rollout(MODEL, days, Recorded(random_actions(200)))
    facts = {name: episodes.facts[:, :, i] for i, name in enumerate(FACTS)}
    change = np.diff(np.concatenate([np.full((200, 1), 900.0), facts["stored_kwh"]], axis=1), axis=1)
    meter = facts["meter_kwh"]
    np.testing.assert_allclose(change, np.where(meter > 0, meter * 0.95, meter / 0.95), atol=1e-9)
    assert (np.abs(meter) <= facts["present_evs"] * 6.6 + 1e-9).all()
    assert (facts["stored_kwh"] >= 0).all()
    assert (facts["stored_kwh"] <= LOT.capacity_kwh).all()
    traded = -(facts["price_usd_per_kwh"] * meter + 0.01 * np.maximum(meter, 0)).sum(axis=1)
    np.testing.assert_allclose(episodes.money[:, TERMS.index("energy")], traded)
    missing = np.maximum(2100.0 - facts["stored_kwh"][:, -1], 0.0)
    np.testing.assert_allclose(episodes.shortfall_kwh, missing)
    np.testing.assert_allclose(episodes.excess, missing / 10.0)
    assert (facts["excess"][:, :-1] == 0).all()


def test_infeasible_choices_do_what_the_nearest_feasible_one_does():
    days = sample_days(LOT, "generator", 50, 2)
    state = MODEL.initial(days)
    for column in random_actions(50, 3).T:
        mask = MODEL.masks(days, state)
        assert mask.any(axis=1).all()
        assert mask[:, 3].all()  # idle always fits
        place = np.arange(MODEL.choices)
        distance = np.where(mask, np.abs(place - column[:, None]), 99)
        nearest = distance.argmin(axis=1)
        assert (distance.min(axis=1) == np.sort(distance, axis=1)[:, 0]).all()
        first = MODEL.step(days, state, column[:, None].astype(float))
        second = MODEL.step(days, state, nearest[:, None].astype(float))
        for a, b in zip((*first[0], *first[1:]), (*second[0], *second[1:]), strict=True):
            np.testing.assert_array_equal(a, b)
        state = first[0]
    assert (MODEL.masks(days, state) == (np.arange(7) == 3)).all()


def test_deeper_discharge_wears_more_and_wear_depends_on_the_ends_only():
    wear = MODEL.tables.wear
    assert (wear <= 0).all()
    assert (wear[:, 3:] == 0).all()
    assert (np.diff(-wear[3:, 2]) < 0).all()  # one level from a fuller battery wears less
    np.testing.assert_allclose(wear[10, 0], wear[10, 2] + wear[9, 2] + wear[8, 2])
    np.testing.assert_allclose(sum(wear[e, 2] for e in range(1, 17)), -0.02 * LOT.capacity_kwh)
    flat = Model(LOT.replace(wear_exponent=1.0)).tables.wear
    np.testing.assert_allclose(flat[1:, 2], -0.02 * 150.0)


def test_draws_follow_the_chain_and_item_i_does_not_depend_on_the_batch():
    days = sample_days(LOT, "generator", 20_000, 5)
    few = sample_days(LOT, "generator", 3, 5)
    for a, b in zip(days, few, strict=True):
        np.testing.assert_array_equal(a[:3], b)
    for t in (0, 11):
        moved = np.zeros((8, 8))
        np.add.at(moved, (days.level[:, t], days.level[:, t + 1]), 1.0)
        seen = moved.sum(axis=1, keepdims=True)
        off = np.abs(moved / seen - LOT.price_rows[t])
        assert (off <= 5.0 * np.sqrt(0.25 / seen)).all()
        assert (moved[LOT.price_rows[t] == 0.0] == 0.0).all()
    start = np.bincount(days.level[:, 0], minlength=8) / 20_000
    np.testing.assert_allclose(start, LOT.price_start, atol=0.02)
    plugged = np.bincount(days.presence[:, 1], minlength=3) / 20_000
    np.testing.assert_allclose(plugged, [0.1, 0.7, 0.2], atol=0.02)


class Constant:
    """A generator whose uniforms are all alike."""

    def __init__(self, value):
        self.value = value

    def random(self, size):
        """The value, as often as asked for."""
        return np.full(size, self.value)


def test_uniforms_at_the_ends_never_pick_what_has_no_probability():
    for value in (0.0, np.nextafter(1.0, 0.0)):
        days = draw_days(LOT, fitting(LOT, "generator"), [Constant(value)])
        for t in range(24):
            assert LOT.price_rows[t, days.level[0, t], days.level[0, t + 1]] > 0.0
            assert LOT.presence_matrix[days.presence[0, t], days.presence[0, t + 1]] > 0.0


def test_another_law_moves_prices_its_own_way():
    rows = np.zeros((24, 8, 8))
    rows[:, :, 7] = 1.0
    days = sample_days(LOT, Law("dear", rows), 10, 1)
    assert (days.level[:, 1:] == 7).all()
    assert Model(LOT, Law("dear", rows)).law.name == "dear"


def test_bad_laws_and_seeds_are_refused():
    rows = LOT.price_rows.copy()
    rows[3, 2, 0] += 0.1
    with pytest.raises(InvalidInputError, match=r"step 3, level 2"):
        Model(LOT, Law("bad", rows))
    with pytest.raises(InvalidInputError, match="rows of the law"):
        Model(LOT, Law("short", rows[:5]))
    for bad in ("noise", 3, None):
        with pytest.raises(InvalidInputError, match="law"):
            Model(LOT, bad)
    with pytest.raises(InvalidInputError, match="n_samples"):
        sample_days(LOT, "generator", 0, 1)
    with pytest.raises(InvalidInputError, match="seed"):
        sample_days(LOT, "generator", 1, -1)
    with pytest.raises(InvalidInputError, match="day"):
        MODEL.draw([np.random.default_rng(0)], [0])


def test_observations_say_the_state_and_nothing_of_the_future():
    days = sample_days(LOT, "generator", 40, 9)
    state = MODEL.initial(days)
    layout = MODEL.observation_layout
    for t in range(25):
        seen = MODEL.observe(days, state)
        assert seen.dtype == np.float32
        assert ((seen >= 0) & (seen <= MODEL.observation_high)).all()
        assert (seen[:, layout["step"]].sum(axis=1) == (t < 24)).all()
        np.testing.assert_array_equal(seen[:, layout["level"]].argmax(axis=1), days.level[:, t])
        np.testing.assert_array_equal(seen[:, layout["presence"]].argmax(axis=1), days.presence[:, t])
        np.testing.assert_array_equal(seen[:, layout["stored"]].argmax(axis=1), state.stored)
        np.testing.assert_allclose(seen[:, layout["charge"]][:, 0], state.stored / 16, atol=1e-6)
        np.testing.assert_array_equal(seen[:, layout["running"]][:, 0], state.mode)
        later = Days(*(part.copy() for part in days))
        for part in later:
            part[:, t + 1 :] = 0
        np.testing.assert_array_equal(MODEL.observe(later, state), seen)
        if t < 24:
            state, _, _ = MODEL.step(days, state, random_actions(40, t)[:, :1].astype(float))
    assert layout["running"].stop == seen.shape[1]
