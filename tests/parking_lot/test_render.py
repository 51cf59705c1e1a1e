"""Frames of the parking lot: shape, what must be seen, what must not be seen, and the two render modes."""

import builtins

import gymnasium
import numpy as np
import pytest

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model

pytest.importorskip("pygame")

from v2g_env.parking_lot import render
from v2g_env.parking_lot.render import HEIGHT, WIDTH, frame
from v2g_env.render import Window, ceiling

AMBER, BLUE = (230, 159, 0), (0, 114, 178)
LOT = (slice(105, 460), slice(20, 450))
STEP = 4  # many cars are there, and most stay


def play(instance, steps, seed=3, plan=None, per_bay=False, share=0.4):
    model = Model(instance, "generator", plan, per_bay)
    scenario = model.draw([np.random.default_rng(seed)])
    state, money = model.initial(scenario), None
    for _ in range(steps):
        state, money, _ = model.step(scenario, state, np.full((1, model.action_size), share))
    return model, scenario, state, money


def count(image, color):
    return int((image == np.array(color, np.uint8)).all(axis=2).sum())


@pytest.fixture(scope="module")
def midday():
    return play(Instance(), STEP)


@pytest.fixture
def no_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.parametrize("steps", [0, 7, 13])
@pytest.mark.parametrize("bays", [1, 52, 200, 900])
def test_shape(bays, steps):
    image = frame(*play(Instance(bays=bays), steps))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert count(image, (255, 255, 255)) < 0.97 * WIDTH * HEIGHT


@pytest.mark.parametrize(
    "instance",
    [
        Instance(step_h=0.25),
        Instance(step_h=0.25, open_h=0.0, close_h=24.0),
        Instance(open_h=9.0, close_h=9.3, step_h=0.1),
        Instance(gate_closure_steps=0),
        Instance(headroom_low_kwh=0.0, headroom_high_kwh=0.0),
        Instance(pv_peak_kw=0.0, load_base_kw=0.0, load_evening_kw=0.0, load_morning_kw=0.0),
        Instance(buy_usd_per_kwh=(0.0,) * 24, wear_usd_per_kwh=0.0),
    ],
)
@pytest.mark.parametrize("per_bay", [False, True])
def test_unusual_lots(instance, per_bay):
    for steps in (0, 2, instance.steps):
        assert frame(*play(instance, steps, per_bay=per_bay)).shape == (HEIGHT, WIDTH, 3)


def test_cells_fit_into_the_lot():
    for bays in [*range(1, 201), 1000, 10_000]:
        columns, wide, tall = render._grid(bays)
        assert min(columns, wide, tall) >= 1
        assert columns * wide <= render._LOT[2]
        assert -(-bays // columns) * tall <= render._LOT[3]


def test_ceiling_is_round_and_not_below():
    for value in (0.0, 0.15, 0.45, 1.0, 9.5, 123.5, 494.0, 999.9999, 1000.0, 1e7):
        top = ceiling(value)
        assert value <= top <= max(2.0 * value, 1.0)


def test_same_input_same_frame(midday):
    np.testing.assert_array_equal(frame(*midday), frame(*midday))


def test_every_part_of_the_state_is_seen(midday):
    model, scenario, state, money = midday
    image = frame(*midday)
    parked = (scenario.arrive <= STEP) & (scenario.depart > STEP)
    others = (
        (state._replace(t=state.t + 1), money),
        (state._replace(stored_kwh=state.stored_kwh + 50.0), money),
        (state._replace(closed_kwh=state.closed_kwh + 50.0), money),
        (state._replace(bay_kwh=np.where(parked, scenario.quota_kwh, 0.0)), money),
        (state, None),
        (state, money + 1.0),
    )
    for other, paid in others:
        assert (frame(model, scenario, other, paid) != image).any()


def test_plan_is_seen(midday):
    model, scenario, state, money = midday
    planned = Model(model.instance, "generator", np.linspace(100.0, 0.0, 13))
    assert (frame(planned, scenario, state, money) != frame(*midday)).any()


def test_a_car_changes_its_own_bay_only(midday):
    model, scenario, state, money = midday
    before = frame(*midday)
    k = int(np.flatnonzero((scenario.arrive[0] <= STEP) & (scenario.depart[0] > STEP + 1))[-1])
    arrive = scenario.arrive.copy()
    arrive[0, k] = 12
    after = frame(model, scenario._replace(arrive=arrive), state, money)
    columns, wide, tall = render._grid(model.instance.bays)
    row, column = divmod(int(scenario.bay[0, k]), columns)
    left, top = render._LOT[0] + column * wide, render._LOT[1] + row * tall
    changed = (before != after).any(axis=2)
    assert changed[top : top + tall, left : left + wide].any()
    changed[top : top + tall, left : left + wide] = False
    assert not changed[LOT].any()


def test_announced_car_is_framed_in_amber(midday):
    model, scenario, state, money = midday
    stays = np.where(scenario.depart == STEP + 1, STEP + 2, scenario.depart)
    assert count(frame(model, scenario._replace(depart=stays), state, money)[LOT], AMBER) == 0
    k = int(np.flatnonzero((scenario.arrive[0] <= STEP) & (stays[0] > STEP + 1))[0])
    leaves = stays.copy()
    leaves[0, k] = STEP + 1
    assert count(frame(model, scenario._replace(depart=leaves), state, money)[LOT], AMBER) > 100


def test_blue_grows_with_the_stored_energy(midday):
    model, scenario, state, money = midday
    parked = (scenario.arrive <= STEP) & (scenario.depart > STEP)
    areas = []
    for share in (0.0, 0.5, 1.0):
        filled = state._replace(bay_kwh=np.where(parked, share * scenario.cap_kwh, 0.0))
        areas.append(count(frame(model, scenario, filled, money)[LOT], BLUE))
    assert areas[0] == 0
    assert 0 < 1.5 * areas[1] < areas[2]


@pytest.mark.parametrize("gate", [0, 1])
@pytest.mark.parametrize("t", [0, 3, 8])
def test_the_future_is_not_seen(gate, t):
    model, scenario, state, money = play(Instance(gate_closure_steps=gate), t)
    rng = np.random.default_rng(1)
    depart, sessions = scenario.depart.copy(), scenario.sessions + 1
    there = (scenario.arrive <= t) & (depart > t + 1)
    depart[there] = rng.integers(t + 2, 14, there.sum())
    later = scenario.arrive > t
    arrive = np.where(later, t + 1, scenario.arrive)
    changes = {"arrive": arrive, "depart": np.where(later, 13, depart), "sessions": sessions}
    for name in ("stated", "cap_kwh", "quota_kwh", "charger_kw"):
        changes[name] = np.where(later, 7.7, getattr(scenario, name))
    changes["turned_away"] = scenario.turned_away + 9
    for name, first in {
        "capacity_kwh": t + 1,
        "full_kwh": t + 1,
        "power_kw": t + 1,
        "surplus_kw": t + gate + 1,
        "deficit_kw": t + gate + 1,
        "pv_factor": t + gate + 1,
        "load_factor": t + gate + 1,
    }.items():
        changed = getattr(scenario, name).copy()
        changed[:, first:] = 9000.0 * rng.random(changed[:, first:].shape)
        changes[name] = changed
    other = scenario._replace(**changes)
    np.testing.assert_array_equal(frame(model, scenario, state, money), frame(model, other, state, money))
    at_gate = scenario.surplus_kw.copy()
    at_gate[:, t + gate] += 200.0
    seen = frame(model, scenario._replace(surplus_kw=at_gate), state, money)
    assert (seen != frame(model, scenario, state, money)).any()


@pytest.mark.parametrize("name", ["V2G/ParkingLot-v0", "V2G/ParkingLotBays-v0"])
def test_rgb_array(name):
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    terminated = False
    while not terminated:
        _, _, terminated, _, _ = env.step(env.action_space.sample())
        assert env.render().shape == first.shape == (HEIGHT, WIDTH, 3)
    assert (env.render() != first).any()
    env.close()


def test_render_needs_reset():
    env = gymnasium.make("V2G/ParkingLot-v0", render_mode="rgb_array").unwrapped
    with pytest.raises(InvalidInputError, match="reset"):
        env.render()


def test_rgb_array_opens_no_display(midday):
    import pygame

    pygame.display.quit()
    frame(*midday)
    assert not pygame.display.get_init()


@pytest.mark.usefixtures("no_display")
def test_human_mode(monkeypatch):
    monkeypatch.setitem(gymnasium.make("V2G/ParkingLot-v0").unwrapped.metadata, "render_fps", 500)
    env = gymnasium.make("V2G/ParkingLot-v0", render_mode="human")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render() is None
    env.close()
    env.close()


@pytest.mark.usefixtures("no_display")
def test_window_shows_the_image_and_survives_closing(midday):
    import pygame

    image = frame(*midday)
    window = Window(WIDTH, HEIGHT, "parking lot")
    window.show(image, 500)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    np.testing.assert_array_equal(shown, image)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.show(image, 500)
    window.show(image, 500)
    window.close()
    assert not pygame.display.get_init()
    again = Window(WIDTH, HEIGHT, "parking lot")
    window.show(image, 500)
    again.show(image, 500)
    again.close()


def test_missing_pygame_names_the_extra(midday, monkeypatch):
    real = builtins.__import__

    def without_pygame(name, *args, **kwargs):
        if name == "pygame":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pygame)
    with pytest.raises(ImportError, match=r'pip install "v2g-env\[render\]"'):
        frame(*midday)
