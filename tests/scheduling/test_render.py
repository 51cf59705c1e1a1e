"""Frames of the network: shape, what must be seen, what must not be seen, and the render modes."""

import gymnasium
import numpy as np
import pytest

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import FACTS, REWARD_TERMS, Model

pytest.importorskip("pygame")

from v2g_env.render import Window
from v2g_env.scheduling.render import HEIGHT, WIDTH, frame

BLUE, AMBER, RED, GREEN, PURPLE = (0, 114, 178), (230, 159, 0), (213, 94, 0), (0, 158, 115), (204, 121, 167)
CLOUD = (196, 222, 240)
DAY, BEFORE = (slice(136, 327), slice(70, 631)), (slice(136, 327), slice(716, 963))
CARS, VERDICT = (slice(424, 519), slice(70, 631)), (slice(510, 545), slice(670, 963))
STEP = 40  # ten in the evening
ONE_BUS = {"line_from": (), "line_to": (), "line_limit_kw": (), "aggregator_bus": (0,), "load_shares": (1.0,)}


def play(instance, steps, seed=3, source="generator", share=0.0, cars=None):
    model = Model(instance, source)
    scenario = model.draw([np.random.default_rng(seed)])
    state, money = model.initial(scenario), None
    rng = np.random.default_rng(1)
    for _ in range(steps):
        action = rng.uniform(-0.5, 0.5, (1, model.action_size))
        action[:, -1] = share
        if cars is not None:
            action[:, 1:-1] = cars
        state, money, _ = model.step(scenario, state, action)
    return model, scenario, state, money


def count(image, color):
    return int((image == np.array(color, np.uint8)).all(axis=2).sum())


def assert_is_a_frame(image):
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert count(image, (255, 255, 255)) < 0.97 * WIDTH * HEIGHT


def bill(money, **terms):
    """The same money with some terms changed."""
    other = money.copy()
    for name, value in terms.items():
        other[0, REWARD_TERMS.index(name)] = value
    return other


@pytest.fixture(scope="module")
def evening():
    return play(Instance(), STEP)


@pytest.mark.parametrize(
    "instance",
    [
        Instance(),
        Instance(gate_closure_steps=0),
        Instance(forecast_quality=1.0),
        Instance(cars=0),
        Instance(turbine_bus=()),
        Instance(turbine_kw=0.0),
        Instance(**ONE_BUS, turbine_bus=(0,), cars=1),
        Instance(aggregator_bus=(1,) * 40, load_shares=(0.025,) * 40, cars=90),
        Instance(aggregator_bus=(1,) * 800, load_shares=(1.0 / 800,) * 800, cars=90, steps=6, calibrated_usd=90.0),
        Instance(steps=1),
        Instance(steps=2, step_h=24.0, calibrated_usd=1e5),
        Instance(steps=30, step_h=1e-6, calibrated_usd=1.0),
        Instance(steps=300, start_h=23.9, calibrated_usd=1e4, cars=9),
        Instance(steps=700, step_h=0.02, cars=9),
        Instance(load_peak_kw=1e6, gas_max_kw=2e6, calibrated_usd=1e8),
        Instance(load_deviation=0.0, load_peak_kw=1e-3, turbine_bus=(), cars=1, calibrated_usd=1.0),
        Instance(wind_usd_per_kwh=0.0),
        Instance(wear_usd_per_kwh=0.0, subsidy_usd_per_kwh=0.0, emergency_usd_per_kwh=0.0, overload_usd_per_kwh=0.0),
    ],
)
def test_days_of_all_kinds_are_drawn(instance):
    for t in sorted({0, 1, instance.steps // 2, instance.steps - 1, instance.steps}):
        if t <= 300:
            assert_is_a_frame(frame(*play(instance, t)))


def test_same_day_same_frame(evening):
    np.testing.assert_array_equal(frame(*evening), frame(*evening))


@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("t", [0, 1, 20, STEP, 70, 95, 96])
def test_future_is_not_seen(t, gate):
    """Load, wind and errors of the forecast from this step on, and cars that have not come; the forecast is known."""
    model, scenario, state, money = play(Instance(gate_closure_steps=gate), t)
    rng = np.random.default_rng(0)
    other = scenario._replace(**{name: getattr(scenario, name).copy() for name in scenario._fields})
    known = min(t + 1 - gate, 96)
    for path in (other.load_kw, other.wind_kw, other.news):
        path[:, known + 1 :] = rng.uniform(0.0, 200.0, path[:, known + 1 :].shape)
    later = scenario.arrive > t
    other.arrive[later] = rng.integers(t + 1, 97, later.sum())
    other.depart[later] = np.maximum(other.arrive[later], 90)
    other.start_kwh[later] = rng.uniform(5.0, 20.0, later.sum())
    other.target_kwh[later] = rng.uniform(5.0, 20.0, later.sum())
    energy = np.where(later, other.start_kwh, state.energy_kwh)
    image = frame(model, scenario, state, money)
    np.testing.assert_array_equal(frame(model, other, state._replace(energy_kwh=energy), money), image)


def test_present_and_past_are_seen(evening):
    model, scenario, state, money = evening
    image = frame(*evening)
    here = int(np.flatnonzero((scenario.arrive[0] < STEP) & (scenario.depart[0] > STEP))[0])
    for name, place, value in (
        ("load_kw", (0, STEP, 0), 150.0),
        ("load_kw", (0, 7, 0), 150.0),
        ("wind_kw", (0, STEP, 0), 170.0),
        ("wind_kw", (0, 7, 0), 170.0),
        ("news", (0, STEP, 0), 2.0),
        ("forecast", (0, 70, 0), 2.0),
        ("target_kwh", (0, here), 30.0),
        ("arrive", (0, here), 96),
    ):
        changed = getattr(scenario, name).copy()
        assert changed[place] != value
        changed[place] = value
        assert (frame(model, scenario._replace(**{name: changed}), state, money) != image).any()


def test_every_part_of_the_state_and_the_money_is_seen(evening):
    model, scenario, state, money = evening
    image = frame(*evening)
    others = [
        (state._replace(t=state.t + 1), money),
        (state._replace(energy_kwh=state.energy_kwh + 0.5), money),
        (state._replace(gas_kw=state.gas_kw + 40.0), money),
        (state, None),
        *((state, bill(money, **{name: money[0, k] - 5.0})) for k, name in enumerate(REWARD_TERMS)),
    ]
    for other, paid in others:
        assert (frame(model, scenario, other, paid) != image).any()


def test_wind_so_far_is_blue_and_the_forecast_s_cloud_shrinks_with_the_day():
    blue, cloud = [], []
    for t in (0, 30, 60, 96):
        image = frame(*play(Instance(), t))[DAY]
        blue.append(count(image, BLUE))
        cloud.append(count(image, CLOUD))
    assert (np.diff(blue[1:]) > 0).all()
    assert cloud[0] > cloud[1] > cloud[2] > cloud[3] == 0


def test_known_wind_has_no_cloud():
    """But the line that a cloud of no height is."""
    usual, known = (frame(*play(Instance(forecast_quality=q), 30))[DAY] for q in (0.9, 1.0))
    assert count(known, CLOUD) < 0.05 * count(usual, CLOUD)


def test_step_before_is_stacked_to_scale():
    """Height of what was given = height of what was taken, and each part as high as its power."""
    for t, share, cars in ((STEP, 1.0, 0.4), (30, -1.0, -0.4), (30, -1.0, 0.4), (30, 1.0, -0.1)):
        model, scenario, state, _ = play(Instance(), t, share=share, cars=cars)
        action = np.array([[0.0, *[cars] * 6, share]])
        state, money, told = model.step(scenario, state, action)
        facts = dict(zip(FACTS, told[0].tolist(), strict=True))
        image = frame(model, scenario, state, money)[BEFORE]
        given, taken = image[:, 8:42], image[:, 132:166]
        tall = {color: count(given, color) / 34 for color in (AMBER, BLUE, GREEN, RED)}
        tall |= {"homes": count(taken, (102, 106, 112)) / 34, "cars": count(taken, PURPLE) / 34}
        assert sum(tall[c] for c in (AMBER, BLUE, GREEN, RED)) == pytest.approx(tall["homes"] + tall["cars"], abs=1.1)
        scale = tall["homes"] / facts["load_kw"]
        assert tall[AMBER] == pytest.approx(scale * facts["gas_kw"], abs=2.1)
        assert tall[BLUE] == pytest.approx(scale * facts["wind_used_kw"], abs=2.1)
        assert tall[RED] == pytest.approx(scale * facts["unserved_kwh"] / 0.25, abs=2.1)
        assert tall["cars"] - tall[GREEN] == pytest.approx(scale * facts["ev_kw"], abs=3.1)


def test_missing_energy_and_overload_are_told_in_red(evening):
    model, scenario, state, money = evening
    fine = frame(model, scenario, state, bill(money, emergency=0.0, overload=0.0))
    assert count(fine[VERDICT], RED) == 0
    assert count(fine[BEFORE], RED) == 0
    short = frame(model, scenario, state, bill(money, emergency=-60.0, overload=0.0))
    assert count(short[VERDICT], RED) > 100
    assert count(short[BEFORE], RED) > 100
    over = frame(model, scenario, state, bill(money, emergency=0.0, overload=-60.0))
    assert count(over[VERDICT], RED) > 100
    assert count(over[BEFORE], RED) == 0


def test_energy_of_the_cars_is_green_and_what_they_need_purple(evening):
    model, scenario, state, money = evening
    here = (scenario.arrive <= STEP) & (scenario.depart > STEP)
    low, high = model.instance.energy_range_kwh
    target = np.full_like(scenario.target_kwh, 20.0)
    green, purple = [], []
    for energy in (low, 10.0, 20.0, high):
        other = state._replace(energy_kwh=np.where(here, energy, state.energy_kwh))
        image = frame(model, scenario._replace(target_kwh=target), other, money)[CARS]
        green.append(count(image, GREEN))
        purple.append(count(image, PURPLE))
    assert (np.diff(green) > 0).all()
    assert (np.diff(purple) <= 0).all()
    assert purple[0] > purple[1] > purple[2] == 0
    assert green[2] == pytest.approx(2 * green[1], rel=0.1)
    assert purple[1] == pytest.approx(green[1], rel=0.1)


def test_prices_of_zero_hide_what_the_bill_would_tell():
    """Then only the generator and the homes are drawn, and no verdict is given."""
    lot = Instance(emergency_usd_per_kwh=0.0)
    image = frame(*play(lot, 28))
    assert count(image[BEFORE], AMBER) > 0
    assert count(image[BEFORE], BLUE) == count(image[BEFORE], PURPLE) == 0
    assert count(image[VERDICT], RED) == 0


# Environment


def test_rgb_array():
    env = gymnasium.make("V2G/Scheduling-v0", render_mode="rgb_array", instance={"cars": 5, "steps": 6})
    env.reset(seed=0)
    first = env.render()
    terminated = False
    while not terminated:
        _, _, terminated, _, _ = env.step(env.action_space.sample())
        assert env.render().shape == first.shape == (HEIGHT, WIDTH, 3)
    assert (env.render() != first).any()
    env.close()


def test_human_mode_shows_a_window_that_survives_closing(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(gymnasium.make("V2G/Scheduling-v0").unwrapped.metadata, "render_fps", 500)
    env = gymnasium.make("V2G/Scheduling-v0", render_mode="human")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render() is None
    assert isinstance(env.unwrapped._window, Window)
    env.close()
    env.close()


def test_frames_open_no_display(evening):
    import pygame

    pygame.display.quit()
    frame(*evening)
    assert not pygame.display.get_init()
