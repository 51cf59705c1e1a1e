"""Predictive control: its program always has a solution, and its look-ahead pays."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.scheduling.day import Protection
from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.mpc import PredictiveControl, _blocks
from baselines.scheduling.policies import DayAhead, Uncontrolled
from baselines.scheduling.sight import read
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import rollout
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, Model
from v2g_env.scheduling.scenario import Law, rows_of, sample

HOURLY = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=24)
MODEL = Model(HOURLY)
LOTS = {
    "hourly": {},
    "known at once": {"gate_closure_steps": 0},
    "no cars": {"cars": 0},
    "one car": {"cars": 1},
    "no turbines": {"turbine_bus": ()},
    "neither": {"cars": 0, "turbine_bus": ()},
    "one aggregator": {"aggregator_bus": (1,), "load_shares": (1.0,)},
    "half hours": {"steps": 48, "step_h": 0.5, "gas_ramp_kw": 400.0},
    "two hours": {"steps": 12, "step_h": 2.0},
    "one step": {"steps": 1},
    "two days": {"steps": 48},
    "small generator": {"gas_max_kw": 300.0},
    "no ramp": {"gas_ramp_kw": 0.0},
    "empty batteries": {"soc_min": 0.0, "soc_arrival": (0.0, 0.0), "soc_wanted": 0.95, "charger_kw": 2.0},
    "nothing wanted": {"soc_wanted": 0.2, "soc_arrival": (0.2, 0.95)},
    "long stays": {"arrival_h": (13.0, 4.0), "departure_h": (11.0, 3.0)},
    "no losses": {"efficiency": 1.0, "wear_usd_per_kwh": 0.0, "subsidy_usd_per_kwh": 0.0},
}


@pytest.mark.parametrize("name", LOTS)
def test_a_plan_exists_in_every_state_and_past_the_end(name):
    model = Model(HOURLY.replace(**LOTS[name]))
    rng = np.random.default_rng(5)
    days = sample(model.instance, "generator", 4, 5)
    policy, state = PredictiveControl(model, 1.0), model.initial(days)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(model.steps + 1):
            action, _ = policy.predict(model.observe(days, state))
            assert action.dtype == np.float32 and action.shape == (4, model.action_size)
            assert np.isfinite(action).all() and np.abs(action).max() <= 1.0
            if state.t[0] < model.steps:  # wherever other policies lead
                state = model.step(days, state, rng.uniform(-1.0, 1.0, action.shape) * rng.choice([1.0, 0.3]))[0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    gas_max_kw=st.floats(50.0, 1500.0),
    gas_ramp_kw=st.sampled_from([0.0, 1e-6, 50.0, 1000.0]),
    cars=st.integers(1, 30),
    charger_kw=st.floats(0.5, 50.0),
    efficiency=st.floats(0.3, 1.0),
    soc=st.tuples(st.floats(0.0, 0.4), st.floats(0.41, 0.7), st.floats(0.71, 1.0)),
    seed=st.integers(0, 1000),
)
def test_a_plan_exists_on_random_lots(gas_max_kw, gas_ramp_kw, cars, charger_kw, efficiency, soc, seed):
    lot = HOURLY.replace(
        steps=12,
        step_h=2.0,
        gas_max_kw=gas_max_kw,
        gas_ramp_kw=gas_ramp_kw,
        cars=cars,
        charger_kw=charger_kw,
        efficiency=efficiency,
        soc_min=soc[0],
        soc_arrival=(soc[0], soc[1]),
        soc_wanted=soc[1],
        soc_max=soc[2],
    )
    model, rng = Model(lot), np.random.default_rng(seed)
    days = sample(lot, "generator", 1, seed)
    policy, state = PredictiveControl(model, 0.0), model.initial(days)
    for _ in range(lot.steps):
        assert np.isfinite(policy.predict(model.observe(days, state))[0]).all()
        state = model.step(days, state, rng.choice([-1.0, 0.0, 1.0], (1, 8)))[0]


def test_a_generator_at_its_limit_that_cannot_move_is_no_obstacle():
    """In float32 its observed power may lie above the limit."""
    tops = [top for top in np.linspace(300.1, 301.9, 19) if 500.0 * float(np.float32(top / 500.0)) > top]
    assert len(tops) > 3
    for top in tops:
        model = Model(HOURLY.replace(gas_max_kw=float(top), gas_ramp_kw=0.0, load_peak_kw=900.0, turbine_bus=()))
        days = sample(model.instance, "generator", 1, 0)
        assert model.initial(days).gas_kw[0] == top
        assert np.isfinite(rollout(model, days, PredictiveControl(model, 0.0)).actions).all()


def test_it_repeats_itself_and_rows_do_not_depend_on_each_other():
    days = sample(HOURLY, "generator", 40, 3)
    whole, again = (rollout(MODEL, days, PredictiveControl(MODEL, 1.0)).actions for _ in range(2))
    assert np.array_equal(whole, again)
    order = np.array([7, 0, 39])
    assert np.array_equal(rollout(MODEL, rows_of(days, order), PredictiveControl(MODEL, 1.0)).actions, whole[order])
    alone = rollout(MODEL, rows_of(days, slice(5, 6)), PredictiveControl(MODEL, 1.0)).actions
    assert np.array_equal(alone[0], whole[5])


def test_it_knows_nothing_of_what_is_not_observed():
    days, other = sample(HOURLY, "generator", 3, 3), sample(HOURLY, "generator", 3, 99)
    cut = 9  # from step 8 on, loads and news of the wind are those of other days
    mixed = days._replace(
        load_kw=np.concatenate([days.load_kw[:, :cut], other.load_kw[:, cut:]], axis=1),
        news=np.concatenate([days.news[:, :cut], other.news[:, cut:]], axis=1),
        wind_kw=np.concatenate([days.wind_kw[:, :cut], other.wind_kw[:, cut:]], axis=1),
    )
    one, two = (rollout(MODEL, each, PredictiveControl(MODEL, 1.0)).actions for each in (days, mixed))
    assert np.array_equal(one[:, :cut], two[:, :cut]) and not np.array_equal(one[:, cut:], two[:, cut:])


@pytest.mark.parametrize("name", ["hourly", "known at once", "half hours", "no turbines", "two days", "one aggregator"])
def test_it_beats_charging_at_once_on_common_days(name):
    model = Model(HOURLY.replace(**LOTS[name]))
    days = sample(model.instance, "generator", 14, 17)
    gained = rollout(model, days, PredictiveControl(model, 1.0)).returns
    gained = gained - rollout(model, days, Uncontrolled(model, 1.0)).returns
    assert gained.mean() > 3.0 * gained.std(ddof=1) / np.sqrt(len(gained)) > 0.0
    assert (gained > 0.0).mean() >= 0.9


def test_with_known_wind_it_comes_close_to_hindsight():
    lot = HOURLY.replace(gate_closure_steps=0, forecast_quality=1.0, cars=100)
    model = Model(lot)
    days = sample(lot, "generator", 10, 17)
    bound = hindsight(model, days).bound_usd
    control, without = (
        rollout(model, days, one).returns for one in (PredictiveControl(model, 0.0), Uncontrolled(model, 0.0))
    )
    assert (control <= bound + 1e-6).all()
    reached = (control - without).mean() / (bound - without).mean()
    assert 0.93 < reached < 1.0


def test_quarter_hours_of_a_whole_fleet():
    model = Model(Instance())
    days = sample(model.instance, "generator", 3, 4)
    returns = [
        rollout(model, days, one).returns.mean()
        for one in (Uncontrolled(model, 1.0), DayAhead(model, Protection()), PredictiveControl(model, 1.0))
    ]
    assert returns[0] < min(returns[1:])


# ----------------------------------------------------------------- what it decides, on days that can be seen through


def quiet(**fields):
    """A lot without wind and without luck: loads as expected, cars present from the first step to the last."""
    given = {
        "turbine_bus": (),
        "load_deviation": 0.0,
        "cars": 10,
        "efficiency": 1.0,
        "wear_usd_per_kwh": 0.0,
        "subsidy_usd_per_kwh": 0.0,
        "steps": 12,
        "gate_closure_steps": 0,
    }
    return HOURLY.replace(**(given | fields))


def stay(steps, start_h=12.0):
    """Sessions: every car comes at the start and stays ``steps`` hours; it wants 0 kWh."""
    return Law("stay", sessions=np.array([[start_h, float(steps), 0.0]]))


def test_it_discharges_at_the_peak_and_charges_in_the_valley():
    lot = quiet(start_h=16.0, steps=16)
    model = Model(lot, stay(16, 16.0))
    days = sample(lot, model.law, 2, 0)
    facts = rollout(model, days, PredictiveControl(model, 0.0, share=0.0)).facts
    cars = facts[:, :, FACTS.index("ev_kw")]
    load = lot.load_mean_kw.sum(axis=1)
    peak, valley = np.argsort(-load)[:2], np.argsort(load)[:4]
    assert (cars[:, peak] < -50.0).all() and (cars[:, valley].mean(axis=1) > 20.0).all()
    without = rollout(model, days, Uncontrolled(model, 0.0)).facts
    gas = [found[:, :, FACTS.index("gas_kw")].max(axis=1) for found in (facts, without)]
    assert (gas[0] < gas[1] - 40.0).all()


def test_wear_beyond_every_gain_keeps_the_cars_still():
    lot = quiet(start_h=16.0, steps=16, wear_usd_per_kwh=5.0)
    model = Model(lot, stay(16, 16.0))
    facts = rollout(model, sample(lot, model.law, 2, 0), PredictiveControl(model, 0.0, share=0.0)).facts
    assert np.abs(facts[:, :, FACTS.index("ev_kw")]).max() < 1e-3


def test_without_cars_plugged_in_it_asks_for_nothing():
    lot = quiet()
    model = Model(lot, Law("later", sessions=np.array([[20.0, 3.0, 5.0]])))
    days = sample(lot, model.law, 2, 0)
    policy, state = PredictiveControl(model, 0.0), model.initial(days)
    for _ in range(8):
        action = policy.predict(model.observe(days, state))[0]
        assert not action[:, 1:-1].any()
        state = model.step(days, state, action.astype(float))[0]
    assert read(model, model.observe(days, state)).cars.sum() == pytest.approx(20.0)


def test_margin_and_share_are_passed_on():
    days = sample(HOURLY, "generator", 5, 3)
    observation = MODEL.observe(days, MODEL.initial(days))
    sd = read(MODEL, observation).wind_sd_kw
    for margin, share in ((0.0, 0.0), (1.5, 0.5), (-2.0, 1.0)):
        action = PredictiveControl(MODEL, margin, share).predict(observation)[0]
        assert np.allclose(action[:, 0], np.clip(margin * sd / HOURLY.gas_band_kw, -1.0, 1.0))
        assert np.allclose(action[:, -1], 2.0 * share - 1.0)


def test_merged_steps_cover_the_rest_of_the_day_once():
    for left in range(1, 200):
        ends = _blocks(left)
        assert ends[-1] == left and (np.diff(ends) > 0).all() and ends[0] == 1
        assert np.array_equal(ends[:4], np.arange(1, min(left, 4) + 1)) and np.diff(ends).max(initial=0) <= 8
        assert len(ends) <= 10 + left // 8


def test_bad_settings_are_refused_by_name():
    for margin in (float("nan"), 101.0, "1", None):
        with pytest.raises(InvalidInputError, match="margin_sd = .*allowed"):
            PredictiveControl(MODEL, margin)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInputError, match="share = .*allowed"):
            PredictiveControl(MODEL, 1.0, share)
