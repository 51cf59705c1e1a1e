"""The physics of a step: against a slow second implementation, balances, limits, forecasts, and what may be seen."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.kernels import State, set_points, share_imbalance, share_out
from v2g_env.scheduling.model import FACTS, LEAVING_H, REWARD_TERMS, SCALE_KW, Model
from v2g_env.scheduling.scenario import Law, rows_of, sample
from v2g_env.scheduling.weather import GRID, LEADS, expected_power, tables, turbine_power

DEFAULT = Instance()
SHORT = {"steps": 24, "step_h": 1.0, "gas_ramp_kw": 500.0}
ONE_BUS = {"line_from": (), "line_to": (), "line_limit_kw": (), "aggregator_bus": (0,), "load_shares": (1.0,)}
NETWORKS = {
    "default": {"cars": 20},
    "no gate": {"cars": 20, "gate_closure_steps": 0},
    "hours": {"cars": 13, **SHORT},
    "no gate, hours": {"cars": 13, **SHORT, "gate_closure_steps": 0},
    "no cars": {"cars": 0, **SHORT},
    "no turbines": {"cars": 7, **SHORT, "turbine_bus": ()},
    "one turbine": {"cars": 7, **SHORT, "turbine_bus": (0,), "turbine_kw": 600.0},
    "one bus": {"cars": 5, **SHORT, **ONE_BUS, "turbine_bus": (0, 0)},
    "one car, two aggregators": {"cars": 1, **SHORT, "aggregator_bus": (3, 3), "load_shares": (0.0, 1.0)},
    "lines turned": {"cars": 20, **SHORT, "line_from": (1, 2, 2, 4, 5, 5), "line_to": (0, 1, 3, 0, 4, 6)},
    "tight lines": {"cars": 30, **SHORT, "line_limit_kw": (90.0, 60.0, 30.0, 90.0, 60.0, 30.0)},
    "tight ramp": {"cars": 30, **SHORT, "gas_ramp_kw": 20.0, "gas_max_kw": 300.0, "gas_band_kw": 400.0},
    "small generator": {"cars": 9, **SHORT, "gas_max_kw": 250.0},
    "long stays": {"cars": 9, **SHORT, "arrival_h": (13.0, 0.5), "departure_h": (11.0, 0.5), "soc_min": 0.0},
    "whole battery": {"cars": 9, **SHORT, "soc_min": 0.0, "soc_max": 1.0, "soc_wanted": 1.0, "efficiency": 1.0},
    "frozen battery": {
        "cars": 9,
        **SHORT,
        "soc_max": 0.5,
        "soc_min": 0.5,
        "soc_wanted": 0.5,
        "soc_arrival": (0.5, 0.5),
    },
    "nothing wanted": {"cars": 9, **SHORT, "soc_wanted": 0.2, "efficiency": 0.6},
    "fast chargers": {"cars": 9, **SHORT, "charger_kw": 200.0},
    "known wind": {"cars": 9, **SHORT, "forecast_quality": 1.0},
    "no news": {"cars": 9, **SHORT, "forecast_quality": 0.0, "wind_news_memory": 0.0, "wind_common": 0.0},
    "one slope": {"cars": 9, **SHORT, "gas_segments": 1, "wear_usd_per_kwh": 0.3, "subsidy_usd_per_kwh": 0.0},
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def world(name, n=4, seed=11):
    """A model and n of its days."""
    model = Model(Instance(**NETWORKS[name]))
    return model, sample(model.instance, "generator", n, seed)


def needed_later(lot, scenario, i, j, t):
    """Least energy after step t with which a car can still be ready if it then charges all the time."""
    full_steps = scenario.depart[i, j] - t - 1
    return max(
        lot.energy_range_kwh[0], scenario.target_kwh[i, j] - full_steps * lot.efficiency * lot.charger_kw * lot.step_h
    )


def any_state(model, scenario, t, rng, edge=False):
    """Every car that is here somewhere between what it must have and what it can hold; any power of the generator."""
    lot = model.instance
    energy = scenario.start_kwh.copy()
    for i, j in np.ndindex(*energy.shape):
        if scenario.arrive[i, j] < t < scenario.depart[i, j]:
            low, high = needed_later(lot, scenario, i, j, t - 1), lot.energy_range_kwh[1]
            share = rng.choice([0.0, 1.0, rng.random()]) if edge else rng.random()
            energy[i, j] = max(low, min(high, low + share * (high - low)))
    n = len(energy)
    return State(np.full(n, t), energy, rng.uniform(0.0, lot.gas_max_kw, n))


def any_action(model, n, rng):
    """Mostly inner points, some corners."""
    action = rng.uniform(-1.0, 1.0, (n, model.action_size))
    corner = rng.random(action.shape) < 0.25
    return np.where(corner, rng.choice([-1.0, 0.0, 1.0], action.shape), action)


def visited(model, scenario, rng):
    """States of a day under random actions, with the actions."""
    state = model.initial(scenario)
    for _ in range(model.steps):
        action = any_action(model, len(scenario.load_kw), rng)
        yield state, action
        state = model.step(scenario, state, action)[0]


# A slow second implementation, written from the documentation


def inverse_power(lot, change_kwh):
    """Power [kW] that changes a car's energy by so much in a step."""
    if change_kwh > 0.0:
        return change_kwh / (lot.efficiency * lot.step_h)
    return change_kwh * lot.efficiency / lot.step_h


def car_limits(lot, scenario, i, j, t, energy):
    """(least, discharging to the target, idle, charging up to the target, most) power of a car that is plugged in."""
    p, most, target = lot.charger_kw, lot.energy_range_kwh[1], scenario.target_kwh[i, j]
    low = float(np.clip(inverse_power(lot, needed_later(lot, scenario, i, j, t) - energy), -p, p))
    idle = max(low, 0.0)
    high = max(min(p, inverse_power(lot, most - energy)), idle)
    to_target = inverse_power(lot, target - energy)
    return (
        low,
        float(np.clip(to_target, low, 0.0)) if low < 0.0 else idle,
        idle,
        float(np.clip(to_target, idle, high)),
        high,
    )


def share_by_bisection(limits, wanted):
    """Powers of an aggregator's cars on the path least - target - idle - target - most whose sum is wanted."""
    table = np.array(limits).T  # (5, cars)

    def at(x):
        k = min(int(x), 3)
        return table[k] + (x - k) * (table[k + 1] - table[k])

    low, high = 0.0, 4.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if at(middle).sum() < wanted else (low, middle)
    return at(high)


def forecast_kw(lot, scenario, i, t):
    """Expected wind of step t as the tables say."""
    known = t + 1 - lot.gate_closure_steps
    if lot.gate_closure_steps == 0 or lot.forecast_quality == 1.0:
        return scenario.wind_kw[i, t + 1].sum()
    found, total, q = tables(lot), 0.0, lot.forecast_quality
    for k in range(lot.turbines):
        latent = q * scenario.forecast[i, t + 1, k]
        latent += np.sqrt(1.0 - q * q) * lot.wind_news_memory * scenario.news[i, known, k]
        total += np.interp(latent, GRID, found.mean[0, t])
    return total


def path_to_source(lot, bus, avoid=-1):
    """Lines on the way from a bus to bus 0."""
    if bus == 0:
        return []
    for line, pair in enumerate(zip(lot.line_from, lot.line_to, strict=True)):
        if bus in pair and line != avoid:
            rest = path_to_source(lot, pair[0] if pair[1] == bus else pair[1], line)
            if rest is not None:
                return [line, *rest]
    return None


def slow_step(model, scenario, state, action, i):
    """Energy afterwards, gas, money and facts of row i."""
    lot, t, h = model.instance, int(state.t[i]), model.instance.step_h
    load, wind = scenario.load_kw[i, t + 1], scenario.wind_kw[i, t + 1]
    groups = [[] for _ in range(lot.aggregators)]
    for j in range(lot.cars):
        if scenario.arrive[i, j] <= t < scenario.depart[i, j]:
            groups[j % lot.aggregators].append((j, car_limits(lot, scenario, i, j, t, state.energy_kwh[i, j])))
    low, idle, high = (np.array([sum(limit[k] for _, limit in group) for group in groups]) for k in (0, 2, 4))
    x = action[i, 1:-1]
    wanted = np.where(x > 0.0, idle + x * (high - idle), idle + x * (idle - low))
    mean_load = lot.load_mean_kw[t] if lot.gate_closure_steps == 1 else load
    gas = mean_load.sum() + wanted.sum() - forecast_kw(lot, scenario, i, t) + lot.gas_band_kw * action[i, 0]
    gas = np.clip(gas, state.gas_kw[i] - lot.gas_ramp_kw, state.gas_kw[i] + lot.gas_ramp_kw)
    gas = float(np.clip(gas, 0.0, lot.gas_max_kw))

    surplus = gas + wind.sum() - load.sum() - wanted.sum()
    toward = high if surplus > 0.0 else low
    room = np.abs(toward - wanted)
    move = min(0.5 * (action[i, -1] + 1.0) * room.sum(), abs(surplus))
    settled = wanted + np.sign(surplus) * move * (room / room.sum() if room.sum() > 0.0 else 0.0)

    power = np.zeros(lot.cars)
    for group, amount in zip(groups, settled, strict=True):
        if group:
            power[[j for j, _ in group]] = share_by_bisection([limit for _, limit in group], amount)
    energy = state.energy_kwh[i] + h * np.where(power > 0.0, lot.efficiency * power, power / lot.efficiency)

    charge, discharge = np.maximum(power, 0.0).sum(), np.maximum(-power, 0.0).sum()
    must_come_from_wind = load.sum() + charge - discharge - gas
    used = float(np.clip(must_come_from_wind, 0.0, wind.sum()))
    missing = max(must_come_from_wind - wind.sum(), 0.0)
    flows = np.zeros(len(lot.line_limit_kw))
    at_bus = [(lot.aggregator_bus[a], load[a]) for a in range(lot.aggregators)]
    at_bus += [(lot.aggregator_bus[j % lot.aggregators], power[j]) for j in range(lot.cars)]
    at_bus += [(b, -w * used / wind.sum()) for b, w in zip(lot.turbine_bus, wind, strict=True) if wind.sum() > 0.0]
    for bus, amount in at_bus:
        for line in path_to_source(lot, bus):
            flows[line] += amount
    over = np.maximum(np.abs(flows) - np.array(lot.line_limit_kw), 0.0).sum()
    ends = np.linspace(0.0, lot.gas_max_kw, lot.gas_segments + 1)
    cost = model.gas_scale * np.interp(gas, ends, lot.gas_linear * ends + lot.gas_quadratic * ends**2)
    money = {
        "reference": lot.calibrated_usd / lot.steps,
        "gas": -cost * h,
        "wind": -lot.wind_usd_per_kwh * used * h,
        "wear": -lot.wear_usd_per_kwh * discharge * h,
        "subsidy": -lot.subsidy_usd_per_kwh * discharge * h,
        "emergency": -lot.emergency_usd_per_kwh * missing * h,
        "overload": -lot.overload_usd_per_kwh * over * h,
    }
    spare = lot.gas_max_kw - gas + sum(power[j] - limit[0] for group in groups for j, limit in group)
    facts = {
        "excess": max(missing, over) * h / 10.0,
        "unserved_kwh": missing * h,
        "overload_kwh": over * h,
        "gas_kw": gas,
        "ev_kw": charge - discharge,
        "load_kw": load.sum(),
        "wind_used_kw": used,
        "wind_available_kw": wind.sum(),
        "reserve_short_kw": max(lot.reserve_share * load.sum() - spare, 0.0),
    }
    return energy, gas, money, facts


@every_network
def test_step_agrees_with_the_slow_implementation(name):
    model, scenario = world(name)
    rng = np.random.default_rng(1)
    times = [t for t in rng.permutation(model.steps)[:10].tolist()] + [0, model.steps - 1]
    for k, t in enumerate(times):
        state = any_state(model, scenario, t, rng, edge=k % 2 == 0)
        action = any_action(model, 4, rng)
        after, money, facts = model.step(scenario, state, action)
        for i in range(4):
            energy, gas, terms, want = slow_step(model, scenario, state, action, i)
            assert tuple(terms) == REWARD_TERMS
            assert tuple(want) == FACTS
            np.testing.assert_allclose(after.energy_kwh[i], energy, atol=1e-8)
            assert after.gas_kw[i] == pytest.approx(gas, abs=1e-8)
            np.testing.assert_allclose(money[i], list(terms.values()), atol=1e-8)
            np.testing.assert_allclose(facts[i], list(want.values()), atol=1e-8)
        assert (after.t == t + 1).all()


def test_random_steps_reach_every_regime():
    """The comparison above sees missing energy, overload, curtailment, a clipped generator, both signs of the cars."""
    seen = {
        key: False for key in ("missing", "overload", "curtailed", "spilled", "top", "zero", "in", "out", "reserve")
    }
    for name in NETWORKS:
        model, scenario = world(name)
        rng = np.random.default_rng(1)
        for t in range(model.steps):
            facts = model.step(scenario, any_state(model, scenario, t, rng), any_action(model, 4, rng))[2]
            row = dict(zip(FACTS, facts.T, strict=True))
            seen["missing"] |= (row["unserved_kwh"] > 1.0).any()
            seen["overload"] |= (row["overload_kwh"] > 1.0).any()
            seen["curtailed"] |= (
                (row["wind_used_kw"] > 1.0) & (row["wind_used_kw"] < row["wind_available_kw"] - 1)
            ).any()
            seen["spilled"] |= (row["gas_kw"] > row["load_kw"] + row["ev_kw"] + 1.0).any()
            seen["top"] |= (row["gas_kw"] == model.instance.gas_max_kw).any()
            seen["zero"] |= (row["gas_kw"] == 0.0).any()
            seen["in"] |= (row["ev_kw"] > 1.0).any()
            seen["out"] |= (row["ev_kw"] < -1.0).any()
            seen["reserve"] |= (row["reserve_short_kw"] > 1.0).any()
    assert all(seen.values()), seen


def test_many_rows_at_different_times_agree_with_the_slow_implementation():
    model = Model(Instance(cars=11, **SHORT))
    scenario = sample(model.instance, "heavy-tailed", 60, 2)
    rng = np.random.default_rng(3)
    states = [any_state(model, scenario, t, rng) for t in range(24)]
    pick = rng.integers(0, 24, 60)
    energy = np.array([states[t].energy_kwh[i] for i, t in enumerate(pick)])
    state = State(pick, energy, rng.uniform(0.0, 1000.0, 60))
    action = any_action(model, 60, rng)
    after, money, facts = model.step(scenario, state, action)
    for i in range(60):
        want = slow_step(model, scenario, state, action, i)
        np.testing.assert_allclose(after.energy_kwh[i], want[0], atol=1e-8)
        np.testing.assert_allclose(money[i], list(want[2].values()), atol=1e-8)
        np.testing.assert_allclose(facts[i], list(want[3].values()), atol=1e-8)


def test_money_of_a_step_by_hand():
    """One home, one turbine, two cars; a generator at 0.2 $/kWh: one piece from 0 to 0.1 x 100 + 0.001 x 100^2."""
    lot = Instance(
        **(ONE_BUS | {"line_from": (0,), "line_to": (1,), "line_limit_kw": (25.0,), "aggregator_bus": (1,)}),
        turbine_bus=(1,),
        steps=2,
        step_h=0.5,
        cars=2,
        gas_max_kw=100.0,
        gas_segments=1,
        charger_kw=10.0,
        battery_kwh=20.0,
        efficiency=0.8,
        wind_usd_per_kwh=0.01,
        wear_usd_per_kwh=0.03,
        subsidy_usd_per_kwh=0.05,
        calibrated_usd=20.0,
        gas_ramp_kw=1000.0,
    )
    model = Model(lot)
    scenario = sample(lot, "generator", 1, 0)._replace(
        load_kw=np.array([[[0.0], [60.0], [0.0]]]),
        wind_kw=np.array([[[0.0], [20.0], [0.0]]]),
        arrive=np.array([[0, 0]]),
        depart=np.array([[2, 2]]),
        start_kwh=np.array([[10.0, 18.0]]),
        target_kwh=np.array([[4.0, 4.0]]),
    )
    state = model.initial(scenario)
    # 30 kW from the generator, 20 from wind, 5 from the second car, 1 to the first: 6 missing, 36 kW on the line
    after, money, facts = model.replay(scenario, state, np.array([30.0]), np.array([[1.0, -5.0]]))
    assert after.energy_kwh[0].tolist() == pytest.approx([10.0 + 0.8 * 0.5, 18.0 - 2.5 / 0.8])
    terms = dict(zip(REWARD_TERMS, money[0].tolist(), strict=True))
    assert terms == pytest.approx(
        {
            "reference": 10.0,
            "gas": -model.gas_scale * 0.2 * 15.0,
            "wind": -0.1,
            "wear": -0.075,
            "subsidy": -0.125,
            "emergency": -3.0 * 3.0,
            "overload": -1.0 * 5.5,
        }
    )
    named = dict(zip(FACTS, facts[0].tolist(), strict=True))
    assert named["unserved_kwh"] == pytest.approx(3.0)
    assert named["overload_kwh"] == pytest.approx(5.5)
    assert named["excess"] == pytest.approx(0.55)
    assert (named["gas_kw"], named["ev_kw"]) == pytest.approx((30.0, -4.0))
    # second step: no load and no wind, the generator's 10 kW charge a car with 4, and 6 are lost
    after, money, facts = model.replay(scenario, after, np.array([10.0]), np.array([[4.0, 0.0]]))
    named = dict(zip(FACTS, facts[0].tolist(), strict=True))
    assert (named["excess"], named["wind_used_kw"], named["ev_kw"]) == (0.0, 0.0, 4.0)
    assert money[0, 1:].tolist() == pytest.approx([-model.gas_scale * 0.2 * 5.0, 0.0, 0.0, 0.0, 0.0, 0.0])


# Balances and limits


@every_network
def test_energy_and_power_balance_along_whole_days(name):
    """Stored = efficiency x charged - discharged / efficiency; gas + wind used + missing - lost = homes + cars."""
    model, scenario = world(name)
    lot, rng = model.instance, np.random.default_rng(5)
    for state, action in visited(model, scenario, rng):
        after, money, facts = model.step(scenario, state, action)
        row = dict(zip(FACTS, facts.T, strict=True))
        change = after.energy_kwh - state.energy_kwh
        charge = np.maximum(change, 0.0).sum(axis=1) / lot.efficiency / lot.step_h
        discharge = np.maximum(-change, 0.0).sum(axis=1) * lot.efficiency / lot.step_h
        np.testing.assert_allclose(row["ev_kw"], charge - discharge, atol=1e-8)
        np.testing.assert_allclose(
            money[:, 3:5].sum(axis=1),
            -(lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh) * discharge * lot.step_h,
            atol=1e-8,
        )
        rest = row["gas_kw"] + row["wind_used_kw"] + row["unserved_kwh"] / lot.step_h - row["load_kw"] - row["ev_kw"]
        lost = np.where(
            row["wind_used_kw"] > 1e-9, 0.0, np.maximum(rest, 0.0)
        )  # only what the generator gives too much
        np.testing.assert_allclose(rest, lost, atol=1e-8)
        curtailed = row["wind_available_kw"] - row["wind_used_kw"]
        assert (curtailed >= -1e-9).all()
        assert (row["unserved_kwh"] * curtailed <= 1e-6).all()  # nothing is missing while wind is turned away
        away = (state.t[:, None] < scenario.arrive) | (state.t[:, None] >= scenario.depart)
        assert (change[away] == 0.0).all()


actions_of_a_day = st.lists(
    st.tuples(*[st.sampled_from([-1.0, 0.0, 1.0]) | st.floats(-1.0, 1.0) for _ in range(3)]), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), actions_of_a_day, st.integers(0, 10_000))
def test_whatever_is_done_targets_are_met_and_limits_kept(name, moves, seed):
    model = world(name)[0]
    lot, (low, high) = model.instance, model.instance.energy_range_kwh
    scenario = sample(lot, "generator", 2, seed)
    state = model.initial(scenario)
    for t in range(model.steps):
        gas, cars, share = moves[(t + seed) % len(moves)]
        action = np.full((2, model.action_size), cars)
        action[:, 0], action[:, -1] = gas, share
        action[:, 1 : 1 + lot.aggregators : 2] *= -1.0
        after, _, _, seen = model.advance(scenario, state, action)
        here = (scenario.arrive <= t) & (t < scenario.depart)
        assert (after.energy_kwh[here] >= low - 1e-9).all()
        assert (after.energy_kwh[here] <= high + 1e-9).all()
        leaving = scenario.depart == t + 1
        assert (after.energy_kwh[leaving] >= scenario.target_kwh[leaving] - 1e-9).all()
        assert (after.gas_kw >= 0.0).all()
        assert (after.gas_kw <= lot.gas_max_kw).all()
        assert (np.abs(after.gas_kw - state.gas_kw) <= lot.gas_ramp_kw + 1e-9).all()
        assert (seen >= 0.0).all()
        assert (seen <= model.observation_high).all()
        state = after
    never = scenario.arrive == scenario.depart
    np.testing.assert_array_equal(state.energy_kwh[never], scenario.start_kwh[never])


def test_cars_at_their_fullest_leave_nothing_negative_to_be_seen():
    """Rounding may put a full car a last digit above its most; the room that is left is then none, not negative."""
    above = 0
    for cars in (1, 6, 40):
        model = Model(Instance(cars=cars, charger_kw=200.0, soc_arrival=(0.2, 0.3), **SHORT))
        scenario = sample(model.instance, "generator", 50, 1)
        state = model.initial(scenario)
        for _ in range(24):
            state, _, _, seen = model.advance(scenario, state, np.ones((50, model.action_size)))
            assert (seen >= 0.0).all()
            above += (state.energy_kwh > model.instance.energy_range_kwh[1]).sum()
    assert above > 0


def test_cars_at_their_emptiest_leave_nothing_negative_to_be_seen():
    """Rounding may put an empty car a last digit below zero."""
    model = world("long stays")[0]
    scenario = sample(model.instance, "generator", 2, 164)
    state = model.initial(scenario)
    action = np.tile([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0], (2, 1))
    below = 0
    for _ in range(24):
        state, _, _, seen = model.advance(scenario, state, action)
        assert (seen >= 0.0).all()
        below += (state.energy_kwh < 0.0).sum()
    assert below > 0


# Limits of the cars


def ready(lot, scenario, i, j, t, energy):
    """Whether a car within its battery's range reaches its target by charging all the time from step t on."""
    low, high = lot.energy_range_kwh
    if not low - 1e-7 <= energy <= high + 1e-7:
        return False
    for _ in range(t, scenario.depart[i, j]):
        energy = min(energy + lot.efficiency * lot.charger_kw * lot.step_h, high)
    return energy >= scenario.target_kwh[i, j] - 1e-7


@every_network
def test_powers_within_the_limits_keep_the_target_reachable_and_those_outside_break_something(name):
    model, scenario = world(name)
    lot, rng = model.instance, np.random.default_rng(2)
    for t in sorted(rng.choice(model.steps, 8, replace=False).tolist()):
        state = any_state(model, scenario, t, rng, edge=t % 2 == 0)
        limits = model.limits(scenario, state)
        for i, j in np.ndindex(4, lot.cars):
            low, idle, high, down, up = limits[i, j]
            if not scenario.arrive[i, j] <= t < scenario.depart[i, j]:
                assert not limits[i, j].any()
                continue
            assert -lot.charger_kw <= low <= down <= idle <= up <= high <= lot.charger_kw

            def after(power, i=i, j=j, state=state):
                change = lot.efficiency * power if power > 0.0 else power / lot.efficiency
                return state.energy_kwh[i, j] + lot.step_h * change

            for power in (low, high, low + rng.random() * (high - low)):
                assert ready(lot, scenario, i, j, t + 1, after(power))
            outside = 0.01
            assert low - outside < -lot.charger_kw or not ready(lot, scenario, i, j, t + 1, after(low - outside))
            assert high + outside > lot.charger_kw or not ready(lot, scenario, i, j, t + 1, after(high + outside))
            assert idle == max(low, 0.0)
            target = scenario.target_kwh[i, j]
            if down < 0.0:  # what is above the target may go first, and no more than that
                assert after(down) >= target - 1e-9
                assert down == low or after(down) == pytest.approx(target)
            if up > idle:
                assert after(up) <= target + 1e-9
                assert up == high or after(up) == pytest.approx(target)


# Sharing an aggregator's power among its cars


@every_network
def test_cars_share_exactly_what_is_wanted_and_those_in_need_come_first(name):
    model, scenario = world(name)
    lot, rng = model.instance, np.random.default_rng(6)
    for t in rng.choice(model.steps, 8).tolist():
        limits = model.limits(scenario, any_state(model, scenario, t, rng, edge=t % 2 == 0))
        sums = np.zeros((5, 4, lot.aggregators))
        for j in range(lot.cars):
            sums[:, :, j % lot.aggregators] += limits[:, j].T
        low, idle, high, down, up = sums
        for share in (0.0, 0.3, 1.0, rng.random(low.shape)):
            wanted = low + share * (high - low)
            power = share_out(model.constants, limits, wanted)
            assert (power >= limits[..., 0] - 1e-9).all()
            assert (power <= limits[..., 2] + 1e-9).all()
            for a in range(lot.aggregators):
                mine = slice(a, lot.cars, lot.aggregators)
                np.testing.assert_allclose(power[:, mine].sum(axis=1), wanted[:, a], atol=1e-8)
            for i, j in np.ndindex(4, lot.cars):
                a, p = j % lot.aggregators, power[i, j]
                if wanted[i, a] < up[i, a] - 1e-9:  # not all targets are met: nobody goes beyond
                    assert p <= limits[i, j, 4] + 1e-9
                else:
                    assert p >= limits[i, j, 4] - 1e-9
                if wanted[i, a] > down[i, a] + 1e-9:  # something above the targets is left: nobody falls below
                    assert p >= limits[i, j, 3] - 1e-9
                else:
                    assert p <= limits[i, j, 3] + 1e-9
        np.testing.assert_allclose(share_out(model.constants, limits, idle), limits[..., 1], atol=1e-12)


def test_sharing_is_proportional_to_what_each_car_can_take():
    model = Model(Instance(cars=12, aggregator_bus=(1,), load_shares=(1.0,)))
    scenario = sample(model.instance, "generator", 1, 3)
    limits = model.limits(scenario, any_state(model, scenario, 48, np.random.default_rng(0)))
    idle, up = limits[0, :, 1], limits[0, :, 4]
    power = share_out(model.constants, limits, np.array([[idle.sum() + 0.25 * (up - idle).sum()]]))[0]
    np.testing.assert_allclose(power - idle, 0.25 * (up - idle), atol=1e-9)


# Settlement of imbalance


@every_network
def test_share_of_the_bands_settles_imbalance(name):
    """Share 0 leaves the set-points, share 1 comes as near to balance as the bands allow, and none overshoots."""
    model, scenario = world(name)
    c, rng = model.constants, np.random.default_rng(8)
    for t in rng.choice(model.steps, 8).tolist():
        state = any_state(model, scenario, t, rng)
        limits = model.limits(scenario, state)
        lows, highs = np.zeros((4, c.homes)), np.zeros((4, c.homes))
        for j in range(model.instance.cars):
            lows[:, j % c.homes] += limits[:, j, 0]
            highs[:, j % c.homes] += limits[:, j, 2]
        wanted = lows + rng.random(lows.shape) * (highs - lows)
        gas = rng.uniform(0.0, 1000.0, 4)
        load, wind = scenario.load_kw, scenario.wind_kw
        gap = gas + wind[:, t + 1].sum(axis=1) - load[:, t + 1].sum(axis=1) - wanted.sum(axis=1)
        last = np.abs(gap) + 1e-9
        for share in (0.0, 0.2, 0.7, 1.0):
            settled = share_imbalance(c, state.t, limits, load, wind, gas, wanted, np.full(4, share))
            assert (settled >= lows - 1e-9).all()
            assert (settled <= highs + 1e-9).all()
            left = gap - (settled - wanted).sum(axis=1)
            assert (left * gap >= -1e-9).all()
            assert (np.abs(left) <= last + 1e-9).all()
            last = np.abs(left)
            if share == 0.0:
                np.testing.assert_array_equal(settled, wanted)
            room = np.where(gap > 0.0, (highs - wanted).sum(axis=1), (wanted - lows).sum(axis=1))
            np.testing.assert_allclose(np.abs(left), np.maximum(np.abs(gap) - share * room, 0.0), atol=1e-8)


# Replaying car by car


def car_powers(lot, before, after):
    change = after - before
    return np.where(change > 0.0, change / lot.efficiency, change * lot.efficiency) / lot.step_h


@every_network
def test_replaying_the_cars_powers_gives_the_same_day(name):
    model, scenario = world(name)
    state, again = model.initial(scenario), model.initial(scenario)
    rng = np.random.default_rng(9)
    for _ in range(model.steps):
        after, money, facts = model.step(scenario, state, any_action(model, 4, rng))
        power = car_powers(model.instance, state.energy_kwh, after.energy_kwh)
        again, paid, told = model.replay(scenario, again, after.gas_kw, power)
        np.testing.assert_allclose(paid, money, atol=1e-9)
        np.testing.assert_allclose(told, facts, atol=1e-7)
        np.testing.assert_allclose(again.energy_kwh, after.energy_kwh, atol=1e-9)
        np.testing.assert_array_equal(again.gas_kw, after.gas_kw)
        state = after


def test_infeasible_powers_are_refused_and_nothing_changes():
    model, scenario = world("default", 2)
    state = any_state(model, scenario, 50, np.random.default_rng(0))._replace(gas_kw=np.array([300.0, 900.0]))
    before = [part.copy() for part in state]
    limits = model.limits(scenario, state)
    good, gas = limits[..., 1].copy(), state.gas_kw
    model.replay(scenario, state, gas, good)
    here = int(np.flatnonzero((scenario.arrive[0] <= 50) & (scenario.depart[0] > 50))[0])
    away = scenario.arrive[0] > 50
    cases = [
        (gas, with_power(good, here, limits[0, here, 2] + 0.01), "car_kw beyond its limits"),
        (gas, with_power(good, here, limits[0, here, 0] - 0.01), "car_kw beyond its limits"),
        (gas, with_power(good, here, np.nan), r"car_kw\[0, "),
        (gas, good[:, :-1], "shape of car_kw"),
        (gas, good[0], "shape of car_kw"),
        (gas[:1], good, "shape of gas_kw"),
        (np.array([300.0, 1000.01]), good, r"gas_kw\[1\] = 1000.01"),
        (np.array([-0.01, 900.0]), good, r"gas_kw\[0\] = -0.01"),
        (np.array([300.0, np.nan]), good, r"gas_kw\[1\] = nan"),
        (np.array([500.01, 900.0]), good, "ramp of gas_kw = 200.0"),
        (np.array([300.0, 699.99]), good, "ramp of gas_kw = 200.0"),
    ]
    for number, power, complaint in cases:
        with pytest.raises(InvalidInputError, match=complaint):
            model.replay(scenario, state, number, power)
    if away.any():
        with pytest.raises(InvalidInputError, match="car_kw beyond its limits"):
            model.replay(scenario, state, gas, with_power(good, int(np.flatnonzero(away)[0]), 1.0))
    for part, old in zip(state, before, strict=True):
        np.testing.assert_array_equal(part, old)


def with_power(powers, car, value):
    other = powers.copy()
    other[0, car] = value
    return other


def test_powers_rounded_past_their_limits_are_taken_and_seen_within_the_space():
    model, scenario = world("default", 2)
    state = model.initial(scenario)._replace(gas_kw=np.zeros(2))
    after, _, _ = model.replay(scenario, state, np.full(2, -5e-7), np.zeros((2, 20)))
    assert (after.gas_kw == 0.0).all()
    assert (model.observe(scenario, after) >= 0.0).all()
    for t in (60, 61):  # cars that are filled beyond their most by the rounding of a plan are not emptied again
        state = state._replace(t=np.full(2, t), energy_kwh=np.full((2, 20), model.instance.energy_range_kwh[1] - 1.0))
        limits = model.limits(scenario, state)
        after, _, _ = model.replay(scenario, state, np.zeros(2), limits[..., 2] + 5e-7 * (limits[..., 2] > 0.0))
        assert (after.energy_kwh > model.instance.energy_range_kwh[1]).any()
        limits = model.limits(scenario, after)
        assert (limits[..., 1] == 0.0).all()
        assert (limits[..., 2] >= 0.0).all()
        assert (model.observe(scenario, after) >= 0.0).all()


# Rows and states


def test_row_does_not_depend_on_the_others():
    model, scenario = world("default", 4)
    rng = np.random.default_rng(0)
    actions = [any_action(model, 4, rng) for _ in range(model.steps)]
    together = model.initial(scenario)
    alone = [model.initial(rows_of(scenario, np.array([i]))) for i in range(4)]
    for action in actions:
        together, money, facts, seen = model.advance(scenario, together, action)
        for i in range(4):
            alone[i], paid, told, saw = model.advance(rows_of(scenario, np.array([i])), alone[i], action[[i]])
            np.testing.assert_allclose(paid[0], money[i], atol=1e-10)
            np.testing.assert_allclose(told[0], facts[i], atol=1e-9)
            np.testing.assert_allclose(saw[0], seen[i], rtol=1e-6, atol=1e-7)


def test_step_and_observe_change_nothing_they_are_given():
    model, scenario = world("default")
    state = any_state(model, scenario, 40, np.random.default_rng(0))
    action = any_action(model, 4, np.random.default_rng(1))
    before = [part.copy() for part in (*scenario, *state, action)]
    model.advance(scenario, state, action)
    model.replay(scenario, state, state.gas_kw, model.limits(scenario, state)[..., 1])
    for part, old in zip((*scenario, *state, action), before, strict=True):
        np.testing.assert_array_equal(part, old)


def test_advance_is_step_and_observe():
    model, scenario = world("no gate")
    state = any_state(model, scenario, 40, np.random.default_rng(0))
    action = any_action(model, 4, np.random.default_rng(1))
    after, money, facts, seen = model.advance(scenario, state, action)
    one, paid, told = model.step(scenario, state, action)
    for a, b in zip((*after, money, facts, seen), (*one, paid, told, model.observe(scenario, one)), strict=True):
        np.testing.assert_array_equal(a, b)


@every_network
def test_day_begins_at_the_expected_net_load(name):
    model, scenario = world(name)
    lot, state = model.instance, model.initial(scenario)
    assert state.t.tolist() == [0] * 4
    np.testing.assert_array_equal(state.energy_kwh, scenario.start_kwh)
    assert not np.shares_memory(state.energy_kwh, scenario.start_kwh)
    for i in range(4):
        net = lot.load_mean_kw[0].sum() - forecast_kw(lot, scenario, i, 0)
        assert state.gas_kw[i] == pytest.approx(np.clip(net, 0.0, lot.gas_max_kw), abs=1e-9)


# Observations


def seen_by_hand(model, scenario, state, i):
    """Observation of row i from the table in the environment's documentation, forecasts by ``expected_power``."""
    lot, t = model.instance, int(state.t[i])
    last = min(t + 1 - lot.gate_closure_steps, lot.steps)
    wind = expected_power(lot, scenario.forecast[[i]], scenario.news[[i]], last) if last < lot.steps else None
    loads, winds, sd = [], [], 0.0
    for k, lead in enumerate(LEADS):
        lead = max(other for other in LEADS if other <= lead and t + other <= lot.steps)
        step = t + lead - 1
        if step + 1 <= last:  # without gate closure
            loads.append(scenario.load_kw[i, step + 1].sum())
            winds.append(scenario.wind_kw[i, step + 1].sum())
            continue
        loads.append(lot.load_mean_kw[step].sum())
        winds.append(wind[0][0, step - last].sum())
        if k == 0:
            each = wind[1][0, 0]
            cover = np.full((lot.turbines, lot.turbines), lot.wind_common)
            np.fill_diagonal(cover, 1.0)
            sd = np.sqrt(each @ cover @ each)
    parts = [state.gas_kw[i] / 500.0, scenario.load_kw[i, last].sum() / 500.0, scenario.wind_kw[i, last].sum() / 500.0]
    parts += [x / 500.0 for x in (*loads, *winds, sd)]
    here = (scenario.arrive[i] <= t) & (t < scenario.depart[i])
    for a in range(lot.aggregators):
        mine = [j for j in range(a, lot.cars, lot.aggregators)]
        cars = [j for j in mine if here[j]]
        limits = [car_limits(lot, scenario, i, j, t, state.energy_kwh[i, j]) for j in cars]
        low, _, idle, goal, high = np.array(limits).reshape(-1, 5).sum(axis=0)
        all_cars = max(lot.cars, 1)
        parts += [len(cars) / all_cars, sum(state.energy_kwh[i, j] for j in cars) / lot.battery_kwh / all_cars]
        parts += [idle / 500.0, (high - idle) / 500.0, (idle - low) / 500.0, (goal - idle) / 500.0]
        parts += [sum(scenario.arrive[i, j] > t for j in mine) / all_cars]
        for hours in (1.0, 2.0, 4.0, 8.0):
            parts += [sum((scenario.depart[i, j] - t) * lot.step_h <= hours for j in cars) / all_cars]
    angle = 2.0 * np.pi * t / lot.steps
    return np.array([*parts, t / lot.steps, 0.5 + 0.5 * np.sin(angle), 0.5 + 0.5 * np.cos(angle)])


@every_network
def test_observation_is_what_the_documentation_says(name):
    model, scenario = world(name)
    lot, rng = model.instance, np.random.default_rng(3)
    layout = model.observation_layout
    tolerance = np.full(len(model.observation_high), 1e-6)
    tolerance[layout["wind_ahead"]] = 0.01 * lot.turbines * lot.turbine_kw / 500.0
    tolerance[layout["wind_sd"]] = 0.02 * lot.turbines * lot.turbine_kw / 500.0
    if lot.forecast_quality == 1.0 or lot.turbines == 0:
        tolerance[:] = 1e-6
    times = {0, 1, model.steps // 3, model.steps // 2, model.steps - 9, model.steps - 3, model.steps - 1}
    for t in sorted(times):
        state = any_state(model, scenario, t, rng)
        seen = model.observe(scenario, state)
        assert seen.dtype == np.float32
        for i in range(4):
            want = seen_by_hand(model, scenario, state, i)
            assert seen[i].shape == want.shape
            assert (np.abs(seen[i] - np.minimum(want, model.observation_high)) <= tolerance).all()


def test_after_the_last_step_generator_load_and_wind_are_left():
    for name in ("default", "no gate"):
        model, scenario = world(name)
        state = any_state(model, scenario, 95, np.random.default_rng(0))
        after = model.step(scenario, state, np.zeros((4, 8)))[0]
        seen = model.observe(scenario, after)
        np.testing.assert_allclose(seen[:, 0], after.gas_kw / 500.0, rtol=1e-6)
        np.testing.assert_allclose(seen[:, 1], scenario.load_kw[:, -1].sum(axis=1) / 500.0, rtol=1e-6)
        np.testing.assert_allclose(seen[:, 2], scenario.wind_kw[:, -1].sum(axis=1) / 500.0, rtol=1e-6)
        assert not seen[:, 3:].any()


def test_columns_name_the_numbers_of_every_aggregator():
    model = world("default")[0]
    names = ("cars", "energy", "idle", "up", "down", "goal", "to_come", *(f"leaving_{h:g}h" for h in LEAVING_H))
    found = np.concatenate([model.columns(name) for name in names])
    part = model.observation_layout["aggregators"]
    assert sorted(found.tolist()) == list(range(part.start, part.stop))
    with pytest.raises(InvalidInputError, match="observed quantity = 'car'; allowed: cars, energy"):
        model.columns("car")


def changed_future(model, scenario, t, rng):
    """The same days up to the start of step t, others from there on; the day-ahead forecast is known."""
    known = min(t + 1 - model.instance.gate_closure_steps, model.steps)
    other = scenario._replace(**{key: getattr(scenario, key).copy() for key in scenario._fields})
    for path in (other.load_kw, other.wind_kw, other.news):
        path[:, known + 1 :] = rng.uniform(0.0, 300.0, path[:, known + 1 :].shape)
    later = scenario.arrive > t
    other.arrive[later] = rng.integers(t + 1, model.steps + 1, later.sum())
    other.depart[later] = np.maximum(rng.integers(t + 1, model.steps + 1, later.sum()), other.arrive[later])
    other.start_kwh[later] = rng.uniform(5.0, 20.0, later.sum())
    other.target_kwh[later] = other.start_kwh[later]
    return other


@pytest.mark.parametrize("name", ["default", "no gate", "hours", "no gate, hours"])
def test_nothing_that_is_seen_or_set_depends_on_the_future(name):
    model, scenario = world(name)
    rng = np.random.default_rng(12)
    for t in (0, 1, model.steps // 4, model.steps // 3, model.steps // 2, model.steps - 1, model.steps):
        other = changed_future(model, scenario, t, rng)
        states = [model.initial(days) for days in (scenario, other)]
        moves = np.random.default_rng(13)
        for _ in range(t):
            np.testing.assert_array_equal(
                *(model.observe(d, s) for d, s in zip((scenario, other), states, strict=True))
            )
            action = any_action(model, 4, moves)
            states = [model.step(d, s, action)[0] for d, s in zip((scenario, other), states, strict=True)]
        np.testing.assert_array_equal(*(model.observe(d, s) for d, s in zip((scenario, other), states, strict=True)))
        if t == model.steps:
            continue
        here = (scenario.arrive <= t) & (t < scenario.depart)
        fixed = []
        for days, state in zip((scenario, other), states, strict=True):
            limits = model.limits(days, state)
            paths = (days.forecast, days.news, days.load_kw, days.wind_kw)
            gas, wanted = set_points(
                model.constants, state.t, state.gas_kw, limits, *paths, any_action(model, 4, np.random.default_rng(14))
            )
            fixed.append((gas, wanted, share_out(model.constants, limits, wanted)[here]))
        for a, b in zip(*fixed, strict=True):
            np.testing.assert_array_equal(a, b)


def test_without_gate_closure_the_step_s_own_load_and_wind_are_seen():
    model, scenario = world("no gate")
    layout = model.observation_layout
    for t in (0, 30, 95):
        seen = model.observe(scenario, any_state(model, scenario, t, np.random.default_rng(0)))
        load, wind = (path[:, t + 1].sum(axis=1) / SCALE_KW for path in (scenario.load_kw, scenario.wind_kw))
        for name, value in (("last_load", load), ("load_ahead", load), ("last_wind", wind), ("wind_ahead", wind)):
            np.testing.assert_allclose(seen[:, layout[name].start], value, rtol=1e-6, atol=1e-7)
        assert not seen[:, layout["wind_sd"]].any()


def test_without_gate_closure_an_even_generator_balances_exactly():
    """At a = 0 it covers the step's own net load, if that lies within its limits."""
    model, scenario = world("no gate")
    balanced = 0
    for t in range(0, 96, 5):
        state = any_state(model, scenario, t, np.random.default_rng(t))
        action = np.zeros((4, 8))
        action[:, -1] = -1.0
        row = dict(zip(FACTS, model.step(scenario, state, action)[2].T, strict=True))
        net = row["load_kw"] + row["ev_kw"] - row["wind_available_kw"]
        free = (np.abs(net - state.gas_kw) < 200.0) & (net > 0.0)
        np.testing.assert_allclose(row["gas_kw"][free], net[free], atol=1e-8)
        balanced += free.sum()
    assert balanced >= 10


def test_known_wind_is_forecast_exactly():
    model, scenario = world("known wind")
    layout = model.observation_layout
    for t in range(24):
        seen = model.observe(scenario, any_state(model, scenario, t, np.random.default_rng(0)))
        for k, lead in enumerate(LEADS):
            if t + lead <= 24:
                want = scenario.wind_kw[:, t + lead].sum(axis=1) / SCALE_KW
                np.testing.assert_allclose(seen[:, layout["wind_ahead"].start + k], want, rtol=1e-6, atol=1e-7)
        assert not seen[:, layout["wind_sd"]].any()


@pytest.mark.parametrize("gate", [0, 1])
def test_forecasts_are_unbiased_and_their_errors_cannot_be_told_from_what_is_known(gate):
    """Mean error 0, and no correlation of the error with the forecast or with the last known error of the forecast."""
    n = 3000
    model = Model(Instance(cars=0, gate_closure_steps=gate))
    scenario = sample(model.instance, "generator", n, 21)
    layout = model.observation_layout
    for t in (3, 45, 70, 90):
        state = State(np.full(n, t), scenario.start_kwh, np.zeros(n))
        seen = 500.0 * model.observe(scenario, state)[:, layout["wind_ahead"]].astype(np.float64)
        known = scenario.news[:, t + 1 - gate].sum(axis=1)
        for k, lead in enumerate(LEADS):
            lead = max(other for other in LEADS if other <= lead and t + other <= 96)
            error = scenario.wind_kw[:, t + lead].sum(axis=1) - seen[:, k]
            if gate == 0 and lead == 1:
                np.testing.assert_allclose(error, 0.0, atol=1e-3)
                continue
            assert abs(error.mean()) < 4.0 * error.std() / np.sqrt(n) + 1.0
            assert abs(np.corrcoef(error, seen[:, k])[0, 1]) < 4.0 / np.sqrt(n)
            assert abs(np.corrcoef(error, known)[0, 1]) < 4.0 / np.sqrt(n)


def test_standard_deviation_of_the_wind_is_that_of_its_error():
    """Over many days: squared errors add up to the squared standard deviations; 15 %: powers correlate less than z."""
    n = 5000
    model = Model(Instance(cars=0))
    scenario = sample(model.instance, "generator", n, 22)
    layout = model.observation_layout
    for t in (10, 30, 60, 85):
        state = State(np.full(n, t), scenario.start_kwh, np.zeros(n))
        seen = 500.0 * model.observe(scenario, state).astype(np.float64)
        error = scenario.wind_kw[:, t + 1].sum(axis=1) - seen[:, layout["wind_ahead"].start]
        sd = seen[:, layout["wind_sd"].start]
        assert np.mean(error**2) == pytest.approx(np.mean(sd**2), rel=0.15)
        calm = sd < np.quantile(sd, 0.3)
        assert np.mean(error[calm] ** 2) < 0.5 * np.mean(error[~calm] ** 2)


def test_forecast_is_the_mean_of_simulated_futures():
    """Given one day until now, futures drawn by hand from the documented law have the observed mean and deviation."""
    model = Model(Instance(cars=0))
    lot, scenario, n, t = model.instance, sample(model.instance, "generator", 1, 5), 40_000, 30
    rng = np.random.default_rng(0)
    layout = model.observation_layout
    seen = 500.0 * model.observe(scenario, State(np.array([t]), scenario.start_kwh, np.zeros(1)))[0].astype(np.float64)
    news = np.tile(scenario.news[0, t], (n, 1))
    for lead in range(1, 17):
        shock = np.sqrt(0.7) * rng.standard_normal((n, 1)) + np.sqrt(0.3) * rng.standard_normal((n, 4))
        news = 0.93 * news + np.sqrt(1.0 - 0.93**2) * shock
        if lead in LEADS:
            latent = 0.9 * scenario.forecast[0, t + lead] + np.sqrt(0.19) * news
            wind = turbine_power(lot, lot.wind_scale[t + lead], latent).sum(axis=1)
            error = 4.0 * wind.std() / np.sqrt(n) + 1.0
            assert seen[layout["wind_ahead"].start + LEADS.index(lead)] == pytest.approx(wind.mean(), abs=error)
            if lead == 1:
                assert seen[layout["wind_sd"].start] == pytest.approx(wind.std(), rel=0.1)


# Inputs


@pytest.mark.parametrize(
    ("source", "complaint"),
    [("nowhere", "law = 'nowhere'"), (5, "law = 5; allowed: a Law or its name"), (None, "law = None")],
)
def test_unknown_law_is_refused(source, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        Model(DEFAULT, source)


def test_days_cannot_be_chosen():
    model = world("default")[0]
    with pytest.raises(InvalidInputError, match=r"day = \[0\]; allowed: None: days are drawn"):
        model.draw([np.random.default_rng(0)], [0])


def test_law_of_one_s_own_is_drawn_from():
    table = np.array([[18.0, 10.0, 5.0]])
    model = Model(Instance(cars=3), Law("mine", "two-point", table))
    scenario = model.draw([np.random.default_rng(0)])
    assert (scenario.arrive == 24).all()
    assert (scenario.depart == 64).all()
    mean = model.instance.load_mean_kw
    np.testing.assert_allclose(np.abs(scenario.load_kw[0, 1:] / mean - 1.0), 0.055, rtol=1e-9)


def test_steps_of_a_few_seconds_are_possible():
    """The hours within which cars leave are then more steps than the day has."""
    model = Model(Instance(steps=5, step_h=1e-9, cars=3, calibrated_usd=1e-6))
    scenario = model.draw([np.random.default_rng(0)])
    state = model.initial(scenario)
    for _ in range(5):
        state, _, _, seen = model.advance(scenario, state, np.zeros((1, 8)))
        assert (seen <= model.observation_high).all()
