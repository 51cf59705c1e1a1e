"""Plans measured: energies and reserves by hand, every broken limit found, money as the environment counts it."""

import numpy as np
import pytest

from baselines.scheduling.day import Day, Protection, cautious_day, known_day
from baselines.scheduling.linear import solve
from baselines.scheduling.plan import FEASIBLE, Plan, carried_out, energies, measure, spare_kw
from baselines.scheduling.program import OBJECTIVES, Task
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import REWARD_TERMS, Model
from v2g_env.scheduling.scenario import gas_scale, rows_of, sample

LOT = Instance(
    steps=4,
    step_h=0.5,
    aggregator_bus=(1, 2),
    turbine_bus=(2,),
    line_from=(0, 1),
    line_to=(1, 2),
    line_limit_kw=(100.0, 60.0),
    load_peak_kw=100.0,
    load_shares=(0.6, 0.4),
    cars=2,
    battery_kwh=20.0,
    charger_kw=8.0,
    efficiency=0.8,
    soc_min=0.1,
    soc_max=0.9,
    soc_wanted=0.8,
    gas_max_kw=100.0,
    gas_ramp_kw=30.0,
    gas_segments=4,
    gas_linear=0.1,
    gas_quadratic=0.001,
    turbine_kw=60.0,
    calibrated_usd=50.0,
    reserve_share=0.5,
)
DAY = Day(
    np.array([[30.0, 20.0]] * 4),
    np.array([[3.0, 2.0]] * 4),
    np.array([[10.0], [30.0], [0.0], [10.0]]),
    np.zeros((4, 1)),
    np.array([0, 1]),
    np.array([4, 3]),
    np.array([5.0, 12.0]),
    np.array([8.0, 10.0]),
    40.0,
)
CARS = np.array([[8.0, 0.0], [0.0, -4.0], [-1.0, 2.0], [2.0, 0.0]])
PLAN = Plan(np.array([50.0, 30.0, 51.0, 45.0]), CARS)
SOFT = Task(DAY, Protection(), "cost", True, 2.0)
HARD = SOFT._replace(soft=False)


def test_charging_stores_less_and_discharging_takes_more_than_flows():
    # car 0: +8 x .5 x .8 = 3.2; -1 x .5 / .8 = -.625; 2 x .5 x .8 = .8. car 1: -4 x .5 / .8 = -2.5; 2 x .5 x .8 = .8
    expected = [[5.0, 12.0], [8.2, 12.0], [8.2, 9.5], [7.575, 10.3], [8.375, 10.3]]
    assert energies(LOT, DAY, CARS) == pytest.approx(np.array(expected))


def test_spare_power_is_what_the_charger_allows_and_the_target_spares():
    # least energies at the ends of the steps, 3.2 kWh gained per step: car 0 2, 2, 4.8, 8; car 1 (leaves at 3) 6.8, 10
    # left over x .8 / .5: car 0 (8.2 - 2) 1.6 = 9.92, 9.92, (7.575 - 4.8) 1.6 = 4.44, .6; car 1 (9.5 - 6.8) 1.6 = 4.32
    expected = [[9.92, 0.0], [8.0, 4.0], [4.44, 0.48], [0.6, 0.0]]
    energy = energies(LOT, DAY, CARS)
    assert spare_kw(LOT, DAY, CARS, energy) == pytest.approx(np.array(expected))


def test_money_flows_and_limits_by_hand():
    found = measure(LOT, SOFT, PLAN)
    use = np.array([58.0, 46.0, 51.0, 52.0])
    assert found.wind_kw.tolist() == [8.0, 16.0, 0.0, 7.0]
    assert found.lacking_kw.tolist() == [0.0, 0.0, 0.0, 0.0]
    flow = np.stack([use - found.wind_kw, [12.0, 0.0, 22.0, 13.0]], axis=1)  # line 1: home, car 1 and the turbine
    assert found.flow_kw == pytest.approx(flow)
    slopes = [0.125, 0.175, 0.225, 0.275]  # of pieces of 25 kW
    height = [3.125 + 4.375, 3.125 + 0.875, 7.5 + 0.225, 3.125 + 3.5]
    assert LOT.gas_prices.tolist() == pytest.approx(slopes)
    cost = 0.5 * (2.0 * sum(height) + 0.01 * 31.0 + 0.04 * 5.0)
    assert found.cost_usd == found.value == pytest.approx(cost)
    short = [25.0 - 50.0 - 9.92, 25.0 - 70.0 - 12.0, 25.5 - 49.0 - 4.92, 25.0 - 55.0 - 0.6]
    assert found.short_kw + [0.0, 0.0, 0.5, 0.0] == pytest.approx(np.array(short))
    assert max(found.off.values()) <= 0.0
    values = {name: measure(LOT, SOFT._replace(objective=name), PLAN).value for name in OBJECTIVES}
    assert values == pytest.approx({"cost": cost, "deviation": 51.0, "renewable": 88.0, "peak": 51.0})


def test_missing_energy_and_overload_are_paid():
    lot = LOT.replace(line_limit_kw=(40.0, 60.0))
    plan = Plan(np.array([47.0, 30.0, 51.0, 45.0]), CARS)
    found = measure(lot, SOFT, plan)
    assert found.lacking_kw.tolist() == [1.0, 0.0, 0.0, 0.0]
    # 3 kW less of the generator at 2 x .175, 2 kW more wind, 1 kW missing at 3, lines: 8 + 0 + 11 + 5 kW above 40
    change = 0.5 * (-2.0 * 3.0 * 0.175 + 0.02 + 3.0 + 1.0 * (8.0 + 11.0 + 5.0))
    assert found.cost_usd - measure(LOT, SOFT, PLAN).cost_usd == pytest.approx(change)


def broken(name):
    gas, cars = PLAN.gas_kw.copy(), CARS.copy()
    lot = LOT
    if name == "power of an absent car":
        cars[0, 1] = 0.5
    elif name == "power of a car":
        cars[0, 0] = 8.5
    elif name == "energy of a car":
        cars[:, 0] = (8.0, 8.0, 8.0, 8.0)  # 5 + 4 x 3.2 = 17.8; most 18
        lot = LOT.replace(soc_max=0.865)  # 17.3
    elif name == "target of a car":
        cars[3, 0] = 0.0  # 7.575 of 8
        cars[0, 0] = 7.8125  # 7.5
    elif name == "generator":
        gas = np.array([50.0, 20.0, 10.0, -0.5])
    elif name == "ramp":
        gas[3] = 81.5
    elif name == "balance":
        gas[2] = 50.5
    elif name == "line":
        lot = LOT.replace(line_limit_kw=(50.5, 60.0))  # 51 in step 2
    elif name == "reserve":
        lot = LOT.replace(gas_max_kw=72.0, gas_segments=1)  # step 2: 21 + 4.92 of 25; the worst
        lot = lot.replace(reserve_share=0.5284)  # 26.42
    return lot, Plan(gas, cars)


@pytest.mark.parametrize(
    "name",
    [
        *("power of an absent car", "power of a car", "energy of a car", "target of a car", "generator", "ramp"),
        *("balance", "line", "reserve"),
    ],
)
def test_each_broken_limit_is_found_with_its_size(name):
    assert max(measure(LOT, HARD, PLAN).off.values()) <= FEASIBLE
    lot, plan = broken(name)
    found = measure(lot, HARD, plan).off
    assert found[name] == pytest.approx(0.5, abs=1e-9)


def test_of_limits_that_money_pays_for_soft_tasks_know_nothing():
    for name in ("balance", "line", "reserve"):
        lot, plan = broken(name)
        assert max(measure(lot, SOFT, plan).off.values()) <= FEASIBLE


def test_the_robust_balance_takes_all_wind_there_is_and_the_worst_loads():
    task = HARD._replace(protection=Protection("budget", 1.5))  # 3 + .5 x 2 = 4 kW
    found = measure(LOT, task, PLAN)
    assert found.lacking_kw == pytest.approx([2.0, 0.0, 4.0, 1.0])
    assert found.off["balance"] == pytest.approx(4.0)
    # line 1: the homes behind it 2 kW; or, where wind settles, those of bus 1: 3 kW and half of none
    assert found.spare_kw == pytest.approx(np.array([[4.0, 3.0], [4.0, 3.0], [4.0, 2.0], [4.0, 3.0]]))


def replayed(model, scenario, plan):
    state = model.initial(scenario)
    money = np.zeros(len(REWARD_TERMS))
    for step in range(model.steps):
        state, paid, _ = model.replay(scenario, state, plan.gas_kw[step : step + 1], plan.car_kw[step][None])
        money += paid[0]
    return money, state


TIGHT = {
    "roomy": {},
    "narrow lines": {"line_limit_kw": (60.0, 45.0), "cars": 12},
    "small generator": {"gas_max_kw": 70.0, "gas_ramp_kw": 5.0, "cars": 12},
    "no wind, no cars": {"turbine_bus": (), "cars": 0},
    "weak battery": {"efficiency": 0.55, "step_h": 0.05, "cars": 5},
}


@pytest.mark.parametrize("objective", ["cost", "deviation"])
@pytest.mark.parametrize("name", TIGHT)
def test_replayed_in_the_environment_a_known_day_costs_what_the_plan_says(name, objective):
    lot = Instance(
        **{
            **LOT.to_dict(),
            **{"steps": 24, "step_h": 1.0, "wear_usd_per_kwh": 0.03, "soc_arrival": (0.2, 0.6)},
            **TIGHT[name],
        }
    )
    model = Model(lot)
    days = sample(lot, "generator", 3, 2)
    for row in range(3):
        day = known_day(model, days, row)
        found = solve(lot, day, objective=objective, soft=True)
        money, state = replayed(model, rows_of(days, slice(row, row + 1)), found.plan)
        cost = found.certificate["cost_usd"]
        assert lot.calibrated_usd - cost == pytest.approx(money.sum(), rel=1e-9, abs=1e-9)
        came = day.arrive < day.depart
        assert (state.energy_kwh[0] >= day.target_kwh - 1e-6)[came].all()


def test_the_default_day_replayed_costs_what_the_plan_says():
    model = Model(Instance())
    days = sample(model.instance, "generator", 1, 9)
    found = solve(model.instance, known_day(model, days, 0), soft=True)
    money, _ = replayed(model, days, found.plan)
    assert model.instance.calibrated_usd - found.value == pytest.approx(money.sum(), abs=1e-9)


def test_the_reserve_promised_can_be_delivered_and_every_target_still_be_reached():
    """In any one step every car gives its spare power on top of the plan, then charges as fast as it can."""
    rng = np.random.default_rng(0)
    lot = LOT.replace(cars=6, steps=6)
    model = Model(lot)
    delivered = 0.0
    for seed in range(6):
        days = sample(lot.replace(arrival_h=(12.5, 0.5), departure_h=(14.5, 0.5)), "generator", 1, seed)
        day = known_day(model, days, 0)
        cars = solve(lot, day, soft=True).plan.car_kw
        energy = energies(lot, day, cars)
        spare = spare_kw(lot, day, cars, energy)
        step = int(rng.integers(0, 5))
        changed = cars.copy()
        changed[step] -= spare[step]
        delivered += spare[step].sum()
        for t in range(step + 1, lot.steps):
            there = (day.arrive <= t) & (t < day.depart)
            before = energies(lot, day, changed)[t]
            room = (lot.energy_range_kwh[1] - before) / (lot.efficiency * lot.step_h)
            changed[t] = np.where(there, np.clip(room, 0.0, lot.charger_kw), 0.0)
        task = Task(day, Protection(), "cost", True, gas_scale(lot))
        found = measure(lot, task, Plan(np.zeros(lot.steps), changed)).off
        for name in ("power of an absent car", "power of a car", "energy of a car", "target of a car"):
            assert found[name] <= FEASIBLE, name
        limits = model.limits(days, model.initial(days)._replace(t=np.array([step]), energy_kwh=energy[step][None]))
        assert (spare[step] <= cars[step] - limits[0, :, 0] + 1e-6).all()  # the environment's own room is no smaller
    assert delivered > 1.0


@pytest.mark.parametrize("late, early, less", [(0, 0, 0.0), (2, 0, 0.0), (0, 2, 0.0), (0, 0, 3.0), (2, 1, 2.0)])
def test_a_plan_for_the_worst_cars_of_a_box_works_for_all_of_them(late, early, less):
    lot = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=20, charger_kw=11.0)
    day = known_day(Model(lot), sample(lot, "generator", 1, 4), 0)
    seen = cautious_day(lot, day, late, early, less)
    planned = solve(lot, seen).plan.car_kw
    held = energies(lot, seen, planned)[1:]
    rng = np.random.default_rng(5)
    for _ in range(50):
        real = day._replace(
            arrive=np.minimum(day.arrive + rng.integers(0, late + 1, 20), seen.arrive),
            depart=np.maximum(day.depart - rng.integers(0, early + 1, 20), seen.depart),
            start_kwh=np.maximum(day.start_kwh - less * rng.random(20), seen.start_kwh),
        )
        power, energy = carried_out(lot, real, planned)
        there = (seen.arrive <= np.arange(24)[:, None]) & (np.arange(24)[:, None] < seen.depart)
        assert (energy >= held - 1e-9)[there].all()
        assert (energy <= lot.energy_range_kwh[1] + 1e-9).all()
        assert (power <= np.maximum(planned, 0.0) + 1e-9).all()
        np.testing.assert_allclose(np.minimum(power, 0.0), np.minimum(planned, 0.0), atol=1e-9)
        assert (energy[-1] >= real.target_kwh - 1e-9).all()


def test_caution_that_leaves_a_car_no_time_names_it():
    lot = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=3)
    day = known_day(Model(lot), sample(lot, "generator", 1, 4), 0)
    with pytest.raises(InvalidInputError, match="^target_kwh of car = 0; allowed: within reach in the worst case"):
        cautious_day(lot, day, 24, 0, 0.0)
    for late, early, less in ((-1, 0, 0.0), (0, 25, 0.0), (0, 0, -1.0), (0.5, 0, 0.0)):
        with pytest.raises(InvalidInputError):
            cautious_day(lot, day, late, early, less)
