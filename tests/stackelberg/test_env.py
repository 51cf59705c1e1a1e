"""The game's environments: what they accept, what their documentation says of them, and rollouts of policies."""

import inspect
import re

import gymnasium
import numpy as np
import pytest

import v2g_env  # noqa: F401  (registers the environments)
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Recorded, rollout
from v2g_env.stackelberg.env import StackelbergEnv, StackelbergVectorEnv
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.model import FACTS, REWARD_TERMS, Model
from v2g_env.stackelberg.scenario import Law, draw_from

CLASSES = (StackelbergEnv, StackelbergVectorEnv)

# options that change what happens, but not what can be seen or done
SAME_SPACES = [
    {"render_mode": "rgb_array"},
    {"law": Law()},
    *(
        {"instance": change}
        for change in (
            {"habit_weight": 0.3},
            {"bid_limit": 1.5},
            {"settlement": "forfeit"},
            {"announced": False},
            {"response": "population"},
            {"days": 7},
            {"rebate_levels_usd_per_h": (0.0, 2.0)},
            {"price_usd_per_kw": (0.0, 9.0) * 12},
            {"price_level_sd": 1.0, "spike_factor": 50.0},
            {"plug_shares": (0.1,), "plug_probabilities": (1.0,)},
            {"workplace": 0.5, "drivers": 3},
        )
    ),
]


@pytest.mark.parametrize("options", SAME_SPACES, ids=lambda o: re.sub(r"[^a-z0-9_]+", "-", repr(o).lower())[:50])
def test_spaces_do_not_depend_on_options_that_change_neither_size_nor_units(options):
    plain, env = StackelbergEnv(), StackelbergEnv(**options)
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space


def test_documented_shapes():
    for change, periods in (({}, 24), ({"periods_per_hour": 4}, 96)):
        env = StackelbergEnv(change)
        assert env.action_space.shape == (periods + 1,)
        assert env.observation_space.shape == (27 + 2 * periods,)
    assert StackelbergEnv({"days": 9}).horizon == 9


def test_docstring_table_names_every_observed_quantity_in_order():
    text = inspect.getdoc(StackelbergEnv)
    named = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    layout = StackelbergEnv().model.observation_layout
    assert named == list(layout)
    ends = [part.stop for part in layout.values()]
    assert [part.start for part in layout.values()] == [0, *ends[:-1]]


def test_docstring_names_the_variants_settings():
    text = inspect.getdoc(StackelbergEnv)
    for setting in ("habit_weight = 0.3", "bid_limit = 1.5", "announced = False", 'response = "population"'):
        assert setting in text


@pytest.mark.parametrize("cls", CLASSES)
def test_instance_mapping_and_none_are_the_same_fleet(cls):
    as_object, as_mapping = cls(instance=Instance(drivers=9)), cls(instance={"drivers": 9})
    assert as_object.model.instance == as_mapping.model.instance == Instance(drivers=9)
    assert cls().model.instance == Instance()


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "options", [{"instance": {"driver": 9}}, {"instance": {"eta": 0.5}}, {"instance": 9}, {"law": "days:2019"}]
)
def test_bad_options_are_refused(cls, options):
    with pytest.raises(InvalidInputError):
        cls(**options)


@pytest.mark.parametrize("day", [0, 5, [0]])
def test_there_is_no_base_day_to_start_from(day):
    for env in (StackelbergEnv(), StackelbergVectorEnv(1)):
        with pytest.raises(InvalidInputError, match="no base days"):
            env.reset(seed=1, options={"day": day})


def test_doing_nothing_earns_at_most_nothing_and_that_nearly():
    env = StackelbergEnv()
    idle = np.zeros(25, np.float32)
    idle[-1] = 1.0
    env.reset(seed=1)
    total = []
    for _ in range(env.horizon):
        _, reward, _, _, info = env.step(idle)
        assert reward <= 1e-9
        assert info["reward_terms"]["rebates"] == 0.0
        assert (reward < -1e-9) == info["violation"]
        total.append(reward / info["reward_terms"]["reference"])
    assert 0.0 <= np.mean(total) < 0.02


def test_violation_tells_of_an_hour_that_fell_short():
    env = StackelbergEnv({"bid_limit": 1.5})
    env.reset(seed=2)
    for _ in range(10):
        _, _, _, _, info = env.step(env.action_space.sample())
        assert info["violation"] == (info["violated_share"] > 0.0) == (info["shortfall_kwh"] > 0.0)
        assert info["violation"] == (info["delivered_share"] < 1.0)


@pytest.mark.parametrize("change", [{}, {"habit_weight": 0.3, "response": "population", "bid_limit": 1.5}])
def test_rollout_equals_stepping_the_environment_and_replays(change):
    fleet = Instance(days=6, **change)
    model = Model(fleet)
    scenario = draw_from(fleet, [np.random.default_rng(seed) for seed in (4, 5)])
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 6, 25)).astype(np.float32)
    episodes = rollout(model, scenario, Recorded(actions))
    env = StackelbergEnv(fleet)
    for i in range(2):
        env.reset(seed=4 + i)
        rows = [env.step(action) for action in actions[i]]
        assert episodes.returns[i] == pytest.approx(sum(row[1] for row in rows), abs=1e-9)
        for k, term in enumerate(REWARD_TERMS):
            assert episodes.money[i, k] == pytest.approx(sum(row[4]["reward_terms"][term] for row in rows), abs=1e-9)
        for k, fact in enumerate(FACTS):
            np.testing.assert_array_equal(episodes.facts[i, :, k], [row[4][fact] for row in rows])
        assert episodes.excess[i] == max(row[4]["violated_share"] for row in rows)
    again = rollout(model, scenario, Recorded(episodes.actions))
    np.testing.assert_array_equal(again.money, episodes.money)


@pytest.mark.parametrize("change", [{}, {"habit_weight": 0.3, "response": "population"}])
def test_batch_continues_from_a_saved_state(change):
    envs = gymnasium.make_vec(
        "V2G/Stackelberg-v0", num_envs=3, vectorization_mode="vector_entry_point", instance={"days": 4} | change
    )
    envs.reset(seed=4)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (12, 3, 25)).astype(np.float32)
    for action in actions[:2]:
        envs.step(action)
    saved = envs.get_state()
    first = [envs.step(action)[:3] for action in actions[2:]]
    envs.set_state(saved)
    second = [envs.step(action)[:3] for action in actions[2:]]
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)
