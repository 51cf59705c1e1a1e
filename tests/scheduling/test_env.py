"""The scheduling environment: what it accepts, what its documentation says, and what a day tells and pays."""

import inspect
import math
import re

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.scheduling.env import SchedulingEnv, SchedulingVectorEnv
from v2g_env.scheduling.fleet import uncontrolled_kw
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.kernels import PER_HOME
from v2g_env.scheduling.model import FACTS, LEAVING_H, REWARD_TERMS
from v2g_env.scheduling.scenario import DEVIATIONS, Law, law
from v2g_env.scheduling.weather import LEADS

CLASSES = (SchedulingEnv, SchedulingVectorEnv)
every_class = pytest.mark.parametrize("cls", CLASSES)
SMALL = Instance(cars=9, steps=24, step_h=1.0, gas_ramp_kw=500.0)

# options that change what happens, but not what can be seen or done
SAME_SPACES = [
    {"law": "two-point"},
    {"law": law("heavy-tailed")},
    {"law": "sessions:jpl-2019/fit"},
    {"render_mode": "rgb_array"},
    *(
        {"instance": change}
        for change in (
            {"gate_closure_steps": 0},
            {"start_h": 0.0},
            {"forecast_quality": 1.0},
            {"gas_ramp_kw": 50.0, "gas_band_kw": 10.0},
            {"battery_kwh": 60.0},
            {"line_limit_kw": (1.0,) * 6},
            {"emergency_usd_per_kwh": 0.0, "subsidy_usd_per_kwh": 1.0},
            {"wind_common": 0.0, "wind_memory": 0.0},
        )
    ),
]


def numbers_of(env):
    lot = env.model.instance
    return 3 + 2 * len(LEADS) + 1 + lot.aggregators * (PER_HOME + len(LEAVING_H)) + 3


@pytest.mark.parametrize("options", SAME_SPACES, ids=lambda o: re.sub(r"[^a-z0-9_]+", "-", repr(o).lower())[:40])
def test_spaces_do_not_depend_on_options_that_change_neither_size_nor_units(options):
    plain, env = SchedulingEnv(), SchedulingEnv(**options)
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space


@pytest.mark.parametrize(("homes", "steps"), [(1, 1), (1, 96), (6, 96), (11, 24)])
def test_documented_shapes_and_horizons(homes, steps):
    lot = Instance(
        aggregator_bus=tuple(k % 7 for k in range(homes)), load_shares=(1.0 / homes,) * homes, steps=steps, cars=5
    )
    env = SchedulingEnv(lot)
    assert env.action_space == spaces.Box(-1.0, 1.0, (2 + homes,), np.float32)
    assert env.observation_space.shape == (numbers_of(env),)
    assert env.horizon == steps


def test_docstring_table_names_every_observed_quantity_in_order():
    text = inspect.getdoc(SchedulingEnv)
    part = text.split("## Observation Space")[1].split("## Rewards")[0]
    cells = [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")][1:]
    named = [name.strip() for cell in cells if not cell.startswith("..") for name in cell.split(",")]
    env = SchedulingEnv()
    layout = env.model.observation_layout
    assert named == list(layout)
    ends = [part.stop for part in layout.values()]
    assert [part.start for part in layout.values()] == [0, *ends[:-1]]
    assert ends[-1] == env.observation_space.shape[0] == numbers_of(env)
    assert f"``Box(0, high, ({ends[-1]},), float32)``" in text
    inner = [name.strip() for cell in cells if cell.startswith("..") for name in cell.removeprefix("..").split(",")]
    hours = [f"leaving_{h:g}h" for h in LEAVING_H]
    assert inner == ["cars", "energy", "idle", "up", "down", "goal", "to_come", hours[0], "2h", "4h", "8h"]
    columns = [env.model.columns(name)[0] for name in (*inner[:7], *hours)]
    assert np.diff(columns).tolist() == [1] * (len(columns) - 1)
    assert f"{len(columns)} numbers for each aggregator" in part


def test_docstring_names_the_leads():
    text = inspect.getdoc(SchedulingEnv)
    row = next(line for line in text.splitlines() if line.startswith("| load_ahead"))
    told = [int(word) for word in re.findall(r"\b\d+\b", row.split("expected")[1].split("steps")[0])]
    assert told[:3] == list(LEADS[:3])
    assert told[-1] == LEADS[-1]
    assert set(told) <= set(LEADS)


def test_docstring_names_the_laws():
    text = inspect.getdoc(SchedulingEnv)
    for name in ("generator", *DEVIATIONS[1:], "sessions:<day set>"):
        assert f'"{name}"' in text


@every_class
def test_instance_mapping_and_none_are_the_same_network(cls):
    as_object, as_mapping = cls(instance=Instance(cars=9)), cls(instance={"cars": 9})
    assert as_object.model.instance == as_mapping.model.instance == Instance(cars=9)
    assert cls().model.instance == Instance()


@every_class
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"instance": {"car": 9}}, "car"),
        ({"instance": 9}, "instance"),
        ({"instance": "lot.toml"}, "instance"),
        ({"instance": {"cars": -1}}, "cars"),
        ({"instance": {"gas_ramp_kw": -1.0}}, "gas_ramp_kw"),
        ({"instance": {"step_h": math.nan}}, "step_h"),
        ({"instance": {"load_shares": [0.2] * 6}}, "load_shares"),
        ({"instance": {"line_to": [1, 2, 3, 4, 5, 4]}}, "radial"),
        ({"instance": {"turbine_bus": [7]}}, "turbine_bus"),
        ({"instance": {"cars": 0, "calibrated_usd": 1.0}}, "calibrated_usd"),
        ({"law": "uniform"}, "law"),
        ({"law": "sessions:nowhere"}, "nowhere"),
        ({"law": 5}, "law"),
    ],
)
def test_bad_options_are_refused_by_name(cls, options, field):
    with pytest.raises(InvalidInputError, match=field):
        cls(**options)


@every_class
@pytest.mark.parametrize("day", [0, [0]])
def test_there_is_no_base_day_to_start_from(cls, day):
    with pytest.raises(InvalidInputError, match="None: days are drawn"):
        cls(instance=SMALL).reset(seed=1, options={"day": day})


def test_day_tells_money_facts_and_violations():
    env = SchedulingEnv(SMALL)
    rng = np.random.default_rng(0)
    kinds = set()
    for seed in range(5):
        env.reset(seed=seed)
        for t in range(24):
            _, reward, terminated, truncated, info = env.step(rng.uniform(-1.0, 1.0, 8).astype(np.float32))
            assert (terminated, truncated) == (t == 23, False)
            assert tuple(info["reward_terms"]) == REWARD_TERMS
            assert set(FACTS) <= set(info)
            assert reward == pytest.approx(sum(info["reward_terms"].values()))
            assert info["reward_terms"]["reference"] == 1860.0 / 24
            assert all(value <= 0.0 for name, value in info["reward_terms"].items() if name != "reference")
            short = info["unserved_kwh"] > 1e-5 or info["overload_kwh"] > 1e-5
            assert info["violation"] == short
            assert info["reward_terms"]["emergency"] == pytest.approx(-3.0 * info["unserved_kwh"])
            kinds.add(info["violation"])
    assert kinds == {False, True}


def test_return_is_what_is_saved_against_a_day_without_v2g():
    """Charging at once with a generator that knows the day, replayed, saves nothing on the calibration's days."""
    env = SchedulingEnv({"cars": 20, "gas_ramp_kw": 1000.0, "line_limit_kw": (1e4,) * 6})
    model = env.model
    generators = [np.random.default_rng(np.random.SeedSequence(0, spawn_key=(1_000_000, i))) for i in range(200)]
    scenario = model.draw(generators)  # the days that calibrate
    charging = uncontrolled_kw(model.instance, scenario.cars)
    state, saved = model.initial(scenario), np.zeros(200)
    for t in range(96):
        need = scenario.load_kw[:, t + 1].sum(axis=1) + charging[:, t].sum(axis=1)
        gas = np.maximum(need - scenario.wind_kw[:, t + 1].sum(axis=1), 0.0)
        state, money, facts = model.replay(scenario, state, gas, charging[:, t])
        saved += money.sum(axis=1)
        assert facts[:, 0].max() < 1e-9
    assert saved.mean() == pytest.approx(0.0, abs=1e-8)
    assert saved.std() > 50.0


@pytest.mark.parametrize("source", ["generator", "skewed", "sessions:jpl-2019/fit"])
def test_rollout_equals_stepping_the_environment_and_replays(source):
    env = SchedulingEnv(SMALL, source)
    model = env.model
    scenario = model.draw([np.random.default_rng(seed) for seed in (4, 5)])
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 24, 8)).astype(np.float32)
    episodes = rollout(model, scenario, Recorded(actions))
    for i in range(2):
        env.reset(seed=4 + i)
        rows = [env.step(action) for action in actions[i]]
        assert episodes.returns[i] == pytest.approx(sum(row[1] for row in rows), abs=1e-9)
        for k, term in enumerate(env.terms):
            assert episodes.money[i, k] == pytest.approx(sum(row[4]["reward_terms"][term] for row in rows), abs=1e-9)
        for k, fact in enumerate(FACTS):
            np.testing.assert_allclose(episodes.facts[i, :, k], [row[4][fact] for row in rows], atol=1e-9)
    again = rollout(model, scenario, Recorded(episodes.actions))
    np.testing.assert_array_equal(again.money, episodes.money)


def test_observations_stay_in_the_space_under_extreme_actions_and_laws():
    for source in ("heavy-tailed", "sessions:jpl-2019/fit"):
        envs = SchedulingVectorEnv(8, {"load_deviation": 1.0, "start_h": 0.0}, source, autoreset_mode="SameStep")
        envs.reset(seed=1)
        for t in range(100):
            seen = envs.step(np.full((8, 8), 1.0 if t % 40 < 30 else -1.0, np.float32))[0]
            assert envs.observation_space.contains(seen)


def test_law_of_one_s_own():
    mine = Law("mine", "triangular", np.array([[13.0, 6.0, 4.0], [15.0, 3.0, 9.0]]))
    env = SchedulingEnv(SMALL, mine)
    env.reset(seed=0)
    assert set(env.get_state()["scenario"].arrive.ravel().tolist()) <= {1, 3}
    assert env.model.law is mine


def test_registered_environment_is_this_one():
    env = gymnasium.make("V2G/Scheduling-v0", instance={"cars": 3})
    assert type(env.unwrapped) is SchedulingEnv
    assert env.unwrapped.horizon == 96
    envs = gymnasium.make_vec("V2G/Scheduling-v0", 2, vectorization_mode="vector_entry_point", instance={"cars": 3})
    assert type(envs.unwrapped) is SchedulingVectorEnv
