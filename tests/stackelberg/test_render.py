"""Frames of the game: shape, what must be seen, what must not be seen, and the render modes."""

import gymnasium
import numpy as np
import pytest

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import Model

pytest.importorskip("pygame")

from v2g_env.render import Window
from v2g_env.stackelberg.render import HEIGHT, WIDTH, frame

RED, PURPLE, AMBER = (213, 94, 0), (204, 121, 167), (230, 159, 0)
DAY = 4


def play(instance, days, seed=3, bid=1.0):
    model = Model(instance)
    scenario = model.draw([np.random.default_rng(seed)])
    state, money = model.initial(scenario), None
    rng = np.random.default_rng(0)
    for _ in range(days):
        action = rng.uniform(-0.5, 0.5, (1, model.action_size))
        action[:, -1] = bid
        state, money, _ = model.step(scenario, state, action)
    return model, scenario, state, money


def count(image, color):
    return int((image == np.array(color, np.uint8)).all(axis=2).sum())


@pytest.fixture(scope="module")
def fifth_day():
    return play(Instance(), DAY)


@pytest.mark.parametrize(
    "instance",
    [
        Instance(),
        Instance(periods_per_hour=4, days=2),
        Instance(days=1),
        Instance(days=200),
        Instance(days=1000, response="population"),
        Instance(announced=False, habit_weight=0.3),
        Instance(drivers=1, rebate_levels_usd_per_h=(0.0,)),
    ],
)
def test_shape(instance):
    for days in (0, 1, min(instance.days, 3)):
        image = frame(*play(instance, days))
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert count(image, (255, 255, 255)) < 0.97 * WIDTH * HEIGHT


def test_end_of_the_month_is_drawn():
    assert count(frame(*play(Instance(days=3), 3)), AMBER) < 300  # the legend is left, prices are over


def test_same_input_same_frame(fifth_day):
    np.testing.assert_array_equal(frame(*fifth_day), frame(*fifth_day))


def test_every_part_of_the_state_is_seen(fifth_day):
    _, _, state, money = fifth_day
    others = [
        (state._replace(t=state.t + 1), money),
        (state._replace(rebate=state.rebate + 0.2), money),
        (state._replace(plugged=state.plugged * 0.5), money),
        (state._replace(bid_kw=state.bid_kw * 1.5), money),
        (state._replace(delivered_kw=state.delivered_kw * 0.5), money),
        (state, None),
        (state, money + 1.0),
    ]
    habit = play(Instance(habit_weight=0.3), DAY)
    for (model, scenario, start, paid), changes in (
        (fifth_day, others),
        (habit, [(habit[2]._replace(habit=habit[2].habit + 0.2), habit[3])]),
    ):
        image = frame(model, scenario, start, paid)
        for other, amount in changes:
            assert (frame(model, scenario, other, amount) != image).any()


def test_shortfall_is_red():
    sound, short = frame(*play(Instance(bid_limit=1.5), 1, bid=-0.5)), frame(*play(Instance(bid_limit=1.5), 1, bid=1.0))
    assert count(short, RED) > count(sound, RED) + 200


def test_running_mean_is_drawn_only_where_there_is_a_habit(fifth_day):
    assert count(frame(*fifth_day), PURPLE) == 0
    assert count(frame(*play(Instance(habit_weight=0.3), DAY)), PURPLE) > 100


def test_the_future_is_not_seen(fifth_day):
    model, scenario, state, money = fifth_day
    later = slice(DAY + 1, None)
    price, plug = scenario.price.copy(), scenario.plug.copy()
    price[:, later] *= 3.0
    plug[:, later] = (plug[:, later] + 1) % 3
    other = scenario._replace(price=price, plug=plug, ratio=scenario.ratio * 2.0, chance=1.0 - scenario.chance)
    np.testing.assert_array_equal(frame(model, scenario, state, money), frame(model, other, state, money))
    today = price.copy()
    today[:, DAY] *= 1.5
    seen = frame(model, scenario._replace(price=today), state, money)
    assert (seen != frame(model, scenario, state, money)).any()


def test_weather_is_seen_only_where_it_is_announced():
    for announced in (True, False):
        model, scenario, state, money = play(Instance(announced=announced), DAY)
        other = scenario._replace(plug=(scenario.plug + 1) % 3)
        differs = (frame(model, scenario, state, money) != frame(model, other, state, money)).any()
        assert differs == announced


def test_rgb_array():
    env = gymnasium.make("V2G/Stackelberg-v0", render_mode="rgb_array", instance={"days": 3})
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
    monkeypatch.setitem(gymnasium.make("V2G/Stackelberg-v0").unwrapped.metadata, "render_fps", 500)
    env = gymnasium.make("V2G/Stackelberg-v0", render_mode="human")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render() is None
    assert isinstance(env.unwrapped._window, Window)
    env.close()
    env.close()
