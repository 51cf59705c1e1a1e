"""Frames of seasons and weeks: shape, what must be seen, what must not be seen, and the render modes."""

import gymnasium
import numpy as np
import pytest

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SizingModel, WeekModel
from v2g_env.shared_battery.needs import from_days
from v2g_env.shared_battery.scenario import law_of

pytest.importorskip("pygame")

from v2g_env.render import Window
from v2g_env.shared_battery.render import HEIGHT, WIDTH, sizing_frame, week_frame

BLUE, AMBER, RED, GREEN, PURPLE = (0, 114, 178), (230, 159, 0), (213, 94, 0), (0, 158, 115), (204, 121, 167)
BATTERY, REQUEST = (slice(130, 366), slice(120, 236)), (slice(130, 366), slice(290, 380))
SEASON = (slice(276, 507), slice(552, 963))
STEP = 137  # a request that does not fit, on Saturday
ENVIRONMENTS = ("V2G/SharedBatterySizing-v0", "V2G/SharedBatteryAllocation-v0", "V2G/SharedBatteryAllocationPartial-v0")


def plan(instance, decided, share=0.8, shared=120.0, seed=3, source="generator"):
    model = SizingModel(instance, source)
    scenario = model.draw([np.random.default_rng(seed)])
    state, money = model.initial(scenario), None
    if decided:
        own = np.clip(model.law.needs.quantile(share), instance.own_min_kwh, instance.own_max_kwh)
        action = model.action_for(own, min(shared, instance.shared_max_kwh))
        state, money, _ = model.step(scenario, state, action[None])
    return model, scenario, state, money


def play(instance, steps, seed=3, partial=False):
    model = WeekModel(instance, partial=partial)
    scenario = model.draw([np.random.default_rng(seed)])
    state, money = model.initial(scenario), None
    rng = np.random.default_rng(1)
    for _ in range(steps):
        answer = rng.uniform(-1.0, 1.0) if partial else float(rng.random() < 0.6)
        state, money, _ = model.step(scenario, state, np.array([[answer]]))
    return model, scenario, state, money


def count(image, color):
    return int((image == np.array(color, np.uint8)).all(axis=2).sum())


def assert_is_a_frame(image):
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert count(image, (255, 255, 255)) < 0.97 * WIDTH * HEIGHT


@pytest.fixture(scope="module")
def season():
    return plan(Instance(), True)


@pytest.fixture(scope="module")
def saturday():
    return play(Instance(), STEP)


# Seasons


@pytest.mark.parametrize(
    "instance",
    [
        Instance(),
        Instance(drivers=1, season_days=1),
        Instance(drivers=400, correlation=0.3),
        Instance(drivers=2000, season_days=2),
        Instance(season_days=1000, missed_usd=0.0),
        Instance(drivers=5, eps=(0.01, 0.02, 0.05, 0.1, 0.3), own_min_kwh=10.0),
        Instance(idle=0.999, drivers=3),
        Instance(drivers=2, need_max_kwh=1e5, median_miles=1e4, own_max_kwh=1e5, shared_max_kwh_per_driver=1e5),
        Instance(median_miles=0.01, bin_kwh=0.001, need_max_kwh=1.0),
    ],
)
def test_seasons_of_all_kinds_are_drawn(instance):
    for decided in (False, True):
        assert_is_a_frame(sizing_frame(*plan(instance, decided)))
    assert_is_a_frame(sizing_frame(*plan(instance, True, share=0.0, shared=0.0)))


def test_season_of_recorded_days_in_which_nobody_drives_is_drawn():
    source = law_of(from_days([[0.0], [0.0, 0.0]]))
    for decided in (False, True):
        assert_is_a_frame(sizing_frame(*plan(Instance(drivers=2), decided, source=source)))


def test_same_season_same_frame(season):
    np.testing.assert_array_equal(sizing_frame(*season), sizing_frame(*season))


def test_nothing_of_the_season_is_seen_before_the_decision():
    a, b = (plan(Instance(), False, seed=seed) for seed in (3, 4))
    assert (a[1].need_kwh != b[1].need_kwh).any()
    np.testing.assert_array_equal(sizing_frame(*a), sizing_frame(*b))


def test_season_and_its_money_are_seen_afterwards(season):
    model, scenario, state, money = season
    image = sizing_frame(*season)
    more = scenario.need_kwh.copy()
    more[0, 40] *= 1.5
    for other in (
        (model, scenario._replace(need_kwh=more), state, money),
        (model, scenario, state, money * [[1.1, 1.0, 1.0, 1.0]]),
        (model, scenario, state, money * [[1.0, 1.1, 1.0, 1.0]]),
        (model, scenario, state, money - [[0.0, 0.0, 30.0, 0.0]]),
        (model, scenario, state, money + [[0.0, 0.0, 0.0, 30.0]]),
        (model, scenario, state, None),
        (model, scenario, model.initial(scenario), None),
    ):
        assert (sizing_frame(*other) != image).any()


def test_days_beyond_all_capacity_are_red():
    assert count(sizing_frame(*plan(Instance(), True))[SEASON], RED) == 0
    assert count(sizing_frame(*plan(Instance(), True, share=0.3, shared=50.0))[SEASON], RED) > 1000


def test_own_and_shared_capacity_are_told_apart(season):
    bar = (slice(145, 170), slice(552, 962))
    blue, green = (count(sizing_frame(*season)[bar], color) for color in (BLUE, GREEN))
    assert blue > 2 * green > 0
    image = sizing_frame(*plan(Instance(), True, shared=400.0))[bar]
    assert count(image, GREEN) > green
    assert count(sizing_frame(*plan(Instance(), False))[bar], BLUE) == 0


def test_quantiles_are_columns_of_increasing_height():
    image = sizing_frame(*plan(Instance(), False))[136:359, 71:480]
    tall = [count(image[:, 16 * k : 16 * k + 8], BLUE) for k in range(25)]
    assert np.polyfit(range(25), tall, 1)[0] > 0.0
    assert tall[-1] > 3 * tall[0] > 0


# Weeks


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
@pytest.mark.parametrize(
    "instance",
    [
        Instance(),
        Instance(drivers=1),
        Instance(drivers=400, week_days=2),
        Instance(drivers=2000, week_days=1),
        Instance(drivers=2, week_days=14),
        Instance(drivers=2, week_days=366),
        Instance(drivers=3, recharge_fraction=0.0),
        Instance(drivers=3, recharge_fraction=1.0, shared_fraction=100.0),
        Instance(drivers=3, shared_fraction=0.001, value_sd=3.0),
        Instance(drivers=3, values="equal", value_usd=1e6, weekday_factors=(100.0,) + (0.001,) * 6),
    ],
)
def test_weeks_of_all_kinds_are_drawn(instance, partial):
    steps = instance.drivers * instance.week_days
    for t in sorted({0, 1, steps // 2, steps - 1, steps}):
        assert_is_a_frame(week_frame(*play(instance, t, partial=partial)))


def test_same_week_same_frame(saturday):
    np.testing.assert_array_equal(week_frame(*saturday), week_frame(*saturday))


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "partial"])
@pytest.mark.parametrize("t", [0, 1, 30, STEP, 174])
def test_requests_after_the_present_one_are_not_seen(t, partial):
    model, scenario, state, money = play(Instance(), t, partial=partial)
    rng = np.random.default_rng(0)
    size, value, driver = (part.copy() for part in (scenario.size_kwh, scenario.value_usd, scenario.driver))
    size[:, t + 1 : -1] = rng.uniform(0.0, 500.0, size[:, t + 1 : -1].shape)
    value[:, t + 1 : -1] = rng.uniform(1.0, 900.0, value[:, t + 1 : -1].shape)
    driver[:] = driver[:, ::-1]  # who comes is not known beforehand, and does not matter
    other = scenario._replace(size_kwh=size, value_usd=value, driver=driver)
    np.testing.assert_array_equal(week_frame(model, scenario, state, money), week_frame(model, other, state, money))


def test_present_and_earlier_requests_are_seen(saturday):
    model, scenario, state, money = saturday
    image = week_frame(*saturday)
    for t in (STEP, STEP - 1, STEP - 12, 3):
        size, value = scenario.size_kwh.copy(), scenario.value_usd.copy()
        size[0, t] += 20.0
        value[0, t] += 20.0
        assert (week_frame(model, scenario._replace(size_kwh=size), state, money) != image).any()
        if t > STEP - 13:  # today's
            assert (week_frame(model, scenario._replace(value_usd=value), state, money) != image).any()


def test_level_step_and_money_are_seen(saturday):
    model, scenario, state, money = saturday
    image = week_frame(*saturday)
    for other, paid in (
        (state._replace(left_kwh=state.left_kwh + 5.0), money),
        (state._replace(t=state.t + 1), money),
        (state, None),
        (state, money + 1.0),
    ):
        assert (week_frame(model, scenario, other, paid) != image).any()


def test_blue_is_the_energy_left_and_green_frames_what_the_night_brings():
    model, scenario, state, _ = play(Instance(recharge_fraction=0.25), 0)
    full = model.sizes.shared_kwh
    blue = []
    for share in (0.0, 0.25, 0.5, 1.0):
        image = week_frame(model, scenario, state._replace(left_kwh=np.array([share * full])), None)[BATTERY]
        blue.append(count(image, BLUE))
        assert (count(image, GREEN) > 100) == (share < 1.0)
    assert blue[0] == 0
    assert blue[2] == pytest.approx(2 * blue[1], rel=0.05)
    assert blue[3] == pytest.approx(4 * blue[1], rel=0.05)
    last = week_frame(model, scenario, state._replace(t=np.array([150]), left_kwh=np.array([0.0])), None)
    assert count(last[BATTERY], GREEN) == 0  # no night comes after Sunday


def test_request_is_amber_if_it_fits_and_red_if_not(saturday):
    model, scenario, state, money = saturday
    asked = scenario.size_kwh[0, STEP]
    for left, wanted, other in ((asked + 1.0, AMBER, RED), (asked - 1.0, RED, AMBER)):
        image = week_frame(model, scenario, state._replace(left_kwh=np.array([left])), money)
        assert count(image[REQUEST], wanted) > 1000
        assert count(image, other) == 0
    size, value = scenario.size_kwh.copy(), scenario.value_usd.copy()
    size[0, STEP] = value[0, STEP] = 0.0
    quiet = week_frame(model, scenario._replace(size_kwh=size, value_usd=value), state, money)
    assert count(quiet, AMBER) == count(quiet, RED) == 0


def test_smallest_request_is_seen():
    model, scenario, state, money = play(Instance(), STEP)
    size = scenario.size_kwh.copy()
    size[0, STEP] = 1e-4
    state = state._replace(left_kwh=np.array([5.0]))
    image = week_frame(model, scenario._replace(size_kwh=size), state, money)
    assert count(image[REQUEST], AMBER) > 50
    assert count(image[136:238, 552:962], AMBER) > 20


def test_what_was_asked_so_far_is_purple_and_grows_day_by_day():
    area = [count(week_frame(*play(Instance(), t))[416:518, 552:962], PURPLE) for t in (0, 50, 100, 174)]
    assert (np.diff(area) > 0).all()


def test_partial_weeks_ask_for_a_share(saturday):
    model, scenario, state, money = saturday
    shares = WeekModel(Instance(), partial=True)
    assert (week_frame(shares, scenario, state, money) != week_frame(*saturday)).any()


# Environments


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_rgb_array(name):
    env = gymnasium.make(name, render_mode="rgb_array", instance={"drivers": 3, "week_days": 2})
    env.reset(seed=0)
    first = env.render()
    terminated = False
    while not terminated:
        _, _, terminated, _, _ = env.step(env.action_space.sample())
        assert env.render().shape == first.shape == (HEIGHT, WIDTH, 3)
    assert (env.render() != first).any()
    env.close()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_human_mode_shows_a_window_that_survives_closing(name, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(gymnasium.make(name).unwrapped.metadata, "render_fps", 500)
    env = gymnasium.make(name, render_mode="human")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render() is None
    assert isinstance(env.unwrapped._window, Window)
    env.close()
    env.close()


def test_frames_open_no_display(season, saturday):
    import pygame

    pygame.display.quit()
    sizing_frame(*season)
    week_frame(*saturday)
    assert not pygame.display.get_init()
