"""What policies read in observations is what the model knows; what they answer is what the model does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.scheduling.sight import act, read, wind_path
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.kernels import expected_wind, set_points
from v2g_env.scheduling.model import FACTS, LEAVING_H, Model
from v2g_env.scheduling.scenario import sample
from v2g_env.scheduling.weather import LEADS

HOURLY = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=21)
LOTS = {
    "hourly": HOURLY,
    "known at once": HOURLY.replace(gate_closure_steps=0),
    "no cars": HOURLY.replace(cars=0),
    "no turbines": HOURLY.replace(turbine_bus=()),
    "one aggregator": HOURLY.replace(aggregator_bus=(2,), load_shares=(1.0,)),
    "quarter hours": HOURLY.replace(steps=96, step_h=0.25, gas_ramp_kw=200.0),
    "few steps": HOURLY.replace(steps=7, start_h=16.0),
}
MODELS = {name: Model(lot) for name, lot in LOTS.items()}


def visited(model, seed, step, days=3):
    """Days, and the state at ``step`` after random actions."""
    rng = np.random.default_rng(seed)
    scenario = sample(model.instance, model.law, days, seed)
    state = model.initial(scenario)
    for _ in range(step):
        state = model.step(scenario, state, rng.uniform(-1.0, 1.0, (days, model.action_size)))[0]
    return scenario, state


def by_home(model, values):
    """Sums (n, aggregators) of numbers (n, cars) over the cars of each aggregator."""
    owner = model.instance.owner
    return np.stack([values[:, owner == a].sum(axis=1) for a in range(model.instance.aggregators)], axis=1)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), part=st.floats(0.0, 0.999))
def test_reading_inverts_the_observation(name, seed, part):
    model = MODELS[name]
    lot = model.instance
    t = int(part * lot.steps)
    scenario, state = visited(model, seed, t)
    sight = read(model, model.observe(scenario, state))
    last = t + 1 - lot.gate_closure_steps
    assert sight.step.tolist() == [t] * 3
    net = scenario.load_kw[:, last].sum(axis=1) - scenario.wind_kw[:, last].sum(axis=1)
    known = lot.gate_closure_steps == 0
    load = scenario.load_kw[:, t + 1].sum(axis=1) if known else np.full(3, lot.load_mean_kw[t].sum())
    wind = np.array(
        [
            [expected_wind(model.constants, t, i, *winds, lead) for lead in range(len(LEADS))]
            for i, winds in enumerate([(scenario.forecast, scenario.news, scenario.wind_kw)] * 3)
        ]
    )
    for seen, true in (
        (sight.gas_kw, state.gas_kw),
        (sight.last_net_kw, net),
        (sight.load_kw, load),
        (sight.wind_kw, wind[:, :, 0]),
        (sight.wind_sd_kw, wind[:, 0, 1]),
    ):
        assert np.abs(seen - true).max(initial=0.0) < 1e-3
    low, idle, high, _, goal = np.moveaxis(model.limits(scenario, state), 2, 0)
    there = (scenario.arrive <= t) & (t < scenario.depart)
    for seen, true in (
        (sight.idle_kw, idle),
        (sight.up_kw, high - idle),
        (sight.down_kw, idle - low),
        (sight.goal_kw, goal - idle),
        (sight.cars, there.astype(float)),
        (sight.energy_kwh, np.where(there, state.energy_kwh, 0.0)),
    ):
        assert np.abs(seen - by_home(model, true)).max(initial=0.0) < 1e-3
    assert np.abs(sight.to_come - (scenario.arrive > t).sum(axis=1)).max() < 1e-3
    for k, hours in enumerate(LEAVING_H):
        soon = there & ((scenario.depart - t) * lot.step_h <= hours + 1e-9)
        assert np.abs(sight.leaving[:, k] - soon.sum(axis=1)).max() < 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_after_the_last_step_only_the_step_and_what_has_happened_is_left(name):
    model = MODELS[name]
    scenario, state = visited(model, 5, model.steps)
    sight = read(model, model.observe(scenario, state))
    assert sight.step.tolist() == [model.steps] * 3
    assert np.allclose(sight.gas_kw, state.gas_kw, atol=1e-3)
    rest = sight[3:]
    assert all(np.all(part == 0.0) for part in rest)
    assert wind_path(model, sight).shape == (3, 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_wind_path_joins_the_forecasts_by_straight_lines(name):
    model = MODELS[name]
    for t in (0, model.steps // 2, model.steps - 1):
        scenario, state = visited(model, 8, t)
        sight = read(model, model.observe(scenario, state))
        path = wind_path(model, sight)
        assert path.shape == (3, model.steps - t)
        for k, lead in enumerate(LEADS):
            if lead <= model.steps - t:
                assert np.array_equal(path[:, lead - 1], sight.wind_kw[:, k])
        for k in range(len(LEADS) - 1):
            span = np.arange(LEADS[k], LEADS[k + 1] + 1)
            span = span[span <= model.steps - t]
            part = (span - LEADS[k]) / (LEADS[k + 1] - LEADS[k])
            line = sight.wind_kw[:, k, None] * (1.0 - part) + sight.wind_kw[:, k + 1, None] * part
            assert np.allclose(path[:, span - 1], line, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("t", [0, 5, 6])
def test_actions_set_the_generator_and_the_aggregators(name, t):
    model = MODELS[name]
    lot, rng = model.instance, np.random.default_rng(t)
    scenario, state = visited(model, 11, t, days=6)
    sight = read(model, model.observe(scenario, state))
    fraction = rng.uniform(-1.0, 1.0, (6, lot.aggregators))
    margin = rng.uniform(-100.0, 100.0, 6)
    action = act(model, sight, fraction, margin, 0.0)
    assert action.dtype == np.float32 and action.shape == (6, model.action_size)
    limits = model.limits(scenario, state)
    inner = (scenario.forecast, scenario.news, scenario.load_kw, scenario.wind_kw)
    gas, wanted = set_points(model.constants, state.t, state.gas_kw, limits, *inner, action.astype(float))
    room = np.where(fraction > 0.0, sight.up_kw, sight.down_kw)
    assert np.abs(wanted - (sight.idle_kw + fraction * room)).max() < 1e-3
    target = sight.load_kw - sight.wind_kw[:, 0] + wanted.sum(axis=1) + margin
    target = np.clip(target, np.maximum(state.gas_kw - lot.gas_ramp_kw, 0.0), state.gas_kw + lot.gas_ramp_kw)
    assert np.abs(gas - np.minimum(target, lot.gas_max_kw)).max() < 1e-2
    facts = model.step(scenario, state, action.astype(float))[2]
    assert np.allclose(facts[:, FACTS.index("gas_kw")], gas)
    assert np.allclose(facts[:, FACTS.index("ev_kw")], wanted.sum(axis=1), atol=1e-6)  # share 0: nothing is settled


def test_actions_stay_in_their_range_whatever_is_wanted():
    model = MODELS["hourly"]
    scenario, state = visited(model, 11, 6)
    sight = read(model, model.observe(scenario, state))
    for size in (1.0, 7.0, 1e9):
        for sign in (1.0, -1.0):
            fraction = np.full((3, model.instance.aggregators), sign * size)
            action = act(model, sight, fraction, np.full(3, sign * size * model.instance.gas_band_kw), 1.0)
            assert np.array_equal(action, np.concatenate([np.full((3, 7), sign), np.ones((3, 1))], axis=1))
    for share in (0.0, 0.25, 1.0):
        last = act(model, sight, np.zeros((3, 6)), np.zeros(3), share)[:, -1]
        assert np.allclose(0.5 * (last + 1.0), share)


def test_the_whole_share_settles_the_imbalance_within_the_bands():
    model = MODELS["hourly"]
    scenario, state = visited(model, 2, 7, days=20)
    sight = read(model, model.observe(scenario, state))
    still = np.zeros((20, 6))
    alone, settled = (
        model.step(scenario, state, act(model, sight, still, np.zeros(20), share).astype(float))[2]
        for share in (0.0, 1.0)
    )
    room = sight.down_kw.sum(axis=1) * model.instance.step_h
    missing = np.maximum(alone[:, FACTS.index("unserved_kwh")] - room, 0.0)
    assert (alone[:, FACTS.index("unserved_kwh")] > 1.0).any()
    assert np.allclose(settled[:, FACTS.index("unserved_kwh")], missing, atol=1e-2)
