"""The shared battery's environments: what they accept, what their documentation says of them, masks, own logs."""

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
from v2g_env.shared_battery.env import (
    SharedBatteryAllocationEnv,
    SharedBatteryAllocationPartialEnv,
    SharedBatteryAllocationPartialVectorEnv,
    SharedBatteryAllocationVectorEnv,
    SharedBatterySizingEnv,
    SharedBatterySizingVectorEnv,
)
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import SIZING_FACTS, SIZING_TERMS, WEEK_FACTS, WEEK_TERMS
from v2g_env.shared_battery.needs import from_days
from v2g_env.shared_battery.scenario import law, law_of

SIZING = (SharedBatterySizingEnv, SharedBatterySizingVectorEnv)
WEEKS = (SharedBatteryAllocationEnv, SharedBatteryAllocationPartialEnv)
WEEK_BATCHES = (SharedBatteryAllocationVectorEnv, SharedBatteryAllocationPartialVectorEnv)
SINGLE = (SharedBatterySizingEnv, *WEEKS)
CLASSES = (*SIZING, *WEEKS, *WEEK_BATCHES)
every_class = pytest.mark.parametrize("cls", CLASSES)
SMALL = Instance(drivers=3, week_days=2, season_days=4)
LOG = [[0.0, 3.0, 5.0, 1.0], [2.0, 2.5], [9.0, 0.0, 11.5]]

# options that change what happens, but not what can be seen or done
SAME_SPACES = [
    {"law": law(Instance())},
    {"render_mode": "rgb_array"},
    *(
        {"instance": change}
        for change in (
            {"rule": "max_min"},
            {"rule": "first_come"},
            {"eps": (0.2,) * 25},
            {"season_days": 7, "missed_usd": 0.0},
            {"own_min_kwh": 10.0, "own_max_kwh": 20.0, "shared_max_kwh_per_driver": 1.0},
            {"correlation": 0.5},
            {"values": "density"},
            {"value_sd": 2.0},
            {"week_days": 3},
        )
    ),
]


@pytest.mark.parametrize("cls", SINGLE)
@pytest.mark.parametrize("options", SAME_SPACES, ids=lambda o: re.sub(r"[^a-z0-9_]+", "-", repr(o).lower())[:40])
def test_spaces_do_not_depend_on_options_that_change_neither_size_nor_units(cls, options):
    plain, env = cls(), cls(**options)
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space


@pytest.mark.parametrize(("drivers", "days"), [(1, 1), (1, 7), (25, 7), (40, 3)])
def test_documented_shapes_and_horizons(drivers, days):
    lot = Instance(drivers=drivers, week_days=days)
    sizing, whole, partial = (cls(lot) for cls in SINGLE)
    assert sizing.action_space == spaces.Box(-1.0, 1.0, (drivers + 1,), np.float32)
    assert sizing.observation_space.shape == (3 * drivers + 2,)
    assert whole.action_space == spaces.Discrete(2)
    assert partial.action_space == spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert whole.observation_space == partial.observation_space
    assert whole.observation_space.shape == (16,)
    assert sizing.horizon == 1
    assert whole.horizon == partial.horizon == drivers * days
    assert SharedBatteryAllocationEnv().horizon == 175


@pytest.mark.parametrize(
    ("cls", "sizes"),
    [
        (SharedBatterySizingEnv, {f"quantile_{q}": 25 for q in (50, 90, 99)} | {"price": 1, "over": 1}),
        (
            SharedBatteryAllocationEnv,
            dict.fromkeys(("left", "size", "value", "density", "to_come", "fits", "asks", "recharge"), 1)
            | {"weekday": 7, "days_to_come": 1},
        ),
    ],
)
def test_docstring_table_names_every_observed_quantity_in_order(cls, sizes):
    text = inspect.getdoc(cls)
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")][1:]
    named = [name.strip() for cell in cells for name in cell.split(",")]
    env = cls()
    layout = env.model.observation_layout
    assert named == list(layout) == list(sizes)
    assert {name: part.stop - part.start for name, part in layout.items()} == sizes
    ends = [part.stop for part in layout.values()]
    assert [part.start for part in layout.values()] == [0, *ends[:-1]]
    assert ends[-1] == env.observation_space.shape[0]
    shape = "(3 n + 2,)" if cls is SharedBatterySizingEnv else "(16,)"
    assert f"``Box(0, high, {shape}, float32)``" in text


@every_class
def test_instance_mapping_and_none_are_the_same_fleet(cls):
    as_object, as_mapping = cls(instance=Instance(drivers=9)), cls(instance={"drivers": 9})
    assert as_object.model.instance == as_mapping.model.instance == Instance(drivers=9)
    assert cls().model.instance == Instance()


@every_class
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"instance": {"driver": 9}}, "driver"),
        ({"instance": {"drivers": 9, "horizon": 3}}, "horizon"),
        ({"instance": 9}, "instance"),
        ({"instance": "lot.toml"}, "instance"),
        ({"instance": {"drivers": 0}}, "drivers"),
        ({"instance": {"median_miles": math.nan}}, "median_miles"),
        ({"instance": {"missed_usd": -1.0}}, "missed_usd"),
        ({"instance": {"eps": [0.0]}}, "eps"),
        ({"instance": {"eps": [1.0]}}, "eps"),
        ({"instance": {"eps": [0.1, 0.1]}}, "eps"),
        ({"instance": {"drivers": 2, "eps": [0.1] * 3}}, "eps"),
        ({"instance": {"own_min_kwh": 9.0, "own_max_kwh": 8.0}}, "own_max_kwh"),
        ({"instance": {"rule": "fair"}}, "rule"),
        ({"instance": {"weekday_factors": [1.0] * 6}}, "weekday_factors"),
        ({"instance": {"recharge_fraction": math.inf}}, "recharge_fraction"),
        ({"law": "nhts"}, "law"),
        ({"law": law(SMALL)}, "drivers of the law"),
        ({"instance": SMALL, "law": law(Instance())}, "drivers of the law"),
    ],
)
def test_bad_options_are_refused_by_name(cls, options, field):
    with pytest.raises(InvalidInputError, match=field):
        cls(**options)


@pytest.mark.parametrize("day", [0, 5, [0]])
def test_there_is_no_base_day_to_start_from(day):
    for cls in CLASSES:
        with pytest.raises(InvalidInputError, match="no base days"):
            cls(instance=SMALL).reset(seed=1, options={"day": day})


# Seasons


def test_season_tells_money_facts_and_violation():
    env = SharedBatterySizingEnv({"drivers": 4, "season_days": 10})
    violations = set()
    for seed in range(20):
        first, _ = env.reset(seed=seed)
        assert first[-1] == 0.0
        last, reward, terminated, truncated, info = env.step(env.model.action_for(np.full(4, 40.0), 50.0))
        assert (terminated, truncated) == (True, False)
        assert last[-1] == 1.0
        np.testing.assert_array_equal(first[:-1], last[:-1])
        assert tuple(info["reward_terms"]) == SIZING_TERMS
        assert reward == pytest.approx(sum(info["reward_terms"].values()))
        assert info["reward_terms"]["own_capacity"] == pytest.approx(-3.6 * 160.0, abs=1e-3)
        assert info["reward_terms"]["shared_capacity"] == pytest.approx(-4.0 * 50.0, abs=1e-3)
        assert info["violation"] == (info["violated_share"] > 0.0) == (info["unserved_kwh"] > 0.0)
        violations.add(info["violation"])
        with pytest.raises(InvalidInputError, match="reset"):
            env.step(np.zeros(5, np.float32))
    assert violations == {False, True}


def test_season_of_one_driver_and_one_day():
    env = SharedBatterySizingEnv({"drivers": 1, "season_days": 1})
    for seed in range(5):
        env.reset(seed=seed)
        need = env.get_state()["scenario"].need_kwh.item()
        _, _, _, _, info = env.step(env.model.action_for(np.array([need / 2]), need / 4))
        assert info["violation"]
        assert info["unserved_kwh"] == pytest.approx(need / 4, abs=1e-5)
        assert info["missed_days"] == 1.0
        env.reset(seed=seed)
        _, _, _, _, info = env.step(env.model.action_for(np.array([need / 2]), need))
        assert not info["violation"]
        assert info["missed_days"] == 0.0


# Weeks


def test_refusing_everything_earns_nothing_and_violates_whenever_somebody_asks():
    for cls, refuse in zip(WEEKS, (0, np.array([-1.0], np.float32)), strict=True):
        env = cls(SMALL)
        env.reset(seed=1)
        asked = 0
        for _ in range(env.horizon):
            _, reward, _, _, info = env.step(refuse)
            assert reward == info["reward_terms"]["service"] == info["granted_kwh"] == 0.0
            assert info["violation"] == (info["size_kwh"] > 0.0)
            assert info["left_kwh"] == env.week_model.sizes.shared_kwh
            asked += info["violation"]
        assert asked > 0
        assert tuple(info["reward_terms"]) == WEEK_TERMS


def test_granting_what_fits_earns_its_value_and_what_does_not_fit_is_a_violation():
    env = SharedBatteryAllocationEnv({"drivers": 10})
    env.reset(seed=3)
    refused = 0
    for _ in range(env.horizon):
        may = env.action_masks()[1]
        _, reward, _, _, info = env.step(1)
        assert reward == (info["value_usd"] if may else 0.0)
        assert info["granted_kwh"] == (info["size_kwh"] if may else 0.0)
        assert info["violation"] == (not may)
        refused += not may
    assert 0 < refused < env.horizon


@pytest.mark.parametrize("cls", WEEKS)
def test_week_of_one_driver(cls):
    env = cls({"drivers": 1, "shared_fraction": 3.0})
    seen, _ = env.reset(seed=2)
    assert env.horizon == 7
    for day in range(7):
        assert seen[8:15].tolist() == [float(day == k) for k in range(7)]
        assert seen[4] == 1.0
        assert seen[15] == pytest.approx((7 - day) / 7)
        seen, _, terminated, _, info = env.step(env.action_space.sample())
        assert info["driver"] == 0.0
        assert terminated == (day == 6)
    assert not seen[8:].any()


def test_whole_shares_and_whole_requests_earn_the_same_while_everything_fits():
    lot = SMALL.replace(shared_fraction=50.0)
    whole, partial = (cls(lot) for cls in WEEKS)
    for seed in range(3):
        a, _ = whole.reset(seed=seed)
        b, _ = partial.reset(seed=seed)
        np.testing.assert_array_equal(a, b)
        for choice in np.random.default_rng(seed).integers(0, 2, whole.horizon).tolist():
            one, two = whole.step(choice), partial.step(np.array([2.0 * choice - 1.0], np.float32))
            np.testing.assert_array_equal(one[0], two[0])
            assert one[1:] == two[1:]


# Masks


def test_masks_say_what_may_be_chosen_now():
    env = SharedBatteryAllocationEnv(SMALL)
    with pytest.raises(InvalidInputError, match="action_masks.*reset"):
        env.action_masks()
    env.reset(seed=1)
    for _ in range(env.horizon):
        masks = env.action_masks()
        assert masks.shape == (2,)
        assert masks.dtype == bool
        assert masks[0]
        env.step(int(masks[1]))
    with pytest.raises(InvalidInputError, match="action_masks.*reset"):
        env.action_masks()


def test_masks_are_found_through_gymnasiums_wrappers():
    env = gymnasium.make("V2G/SharedBatteryAllocation-v0", instance=SMALL)
    env.reset(seed=1)
    np.testing.assert_array_equal(env.get_wrapper_attr("action_masks")(), env.unwrapped.action_masks())


def test_masks_of_a_batch_are_those_of_the_single_environments():
    envs = SharedBatteryAllocationVectorEnv(3, SMALL, autoreset_mode="SameStep")
    with pytest.raises(InvalidInputError, match="action_masks.*reset"):
        envs.action_masks()
    single = [SharedBatteryAllocationEnv(SMALL) for _ in range(3)]
    envs.reset(seed=4)
    for i, env in enumerate(single):
        env.reset(seed=4 + i)
    for _ in range(2 * envs.horizon):
        masks = envs.action_masks()
        np.testing.assert_array_equal(masks, [env.action_masks() for env in single])
        envs.step(masks[:, 1].astype(int))
        for env, may in zip(single, masks[:, 1], strict=True):
            if env.step(int(may))[2]:
                env.reset()


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_where_a_week_is_over_only_refusing_is_left(mode):
    envs = SharedBatteryAllocationVectorEnv(2, SMALL, autoreset_mode=mode)
    envs.reset(seed=4)
    for _ in range(3):
        envs.step(np.ones(2, int))
    envs.reset(options={"reset_mask": np.array([False, True])})
    for _ in range(3):
        envs.step(np.ones(2, int))
    masks = envs.action_masks()
    assert masks[0].tolist() == [True, False]
    assert masks[1, 0]


def test_shares_have_no_masks():
    for env in (SharedBatteryAllocationPartialEnv(SMALL), SharedBatteryAllocationPartialVectorEnv(2, SMALL)):
        env.reset(seed=1)
        with pytest.raises(InvalidInputError, match="action_masks.*shares"):
            env.action_masks()


# Rollouts, logs


@pytest.mark.parametrize(("cls", "facts"), [(SIZING[0], SIZING_FACTS), (WEEKS[0], WEEK_FACTS), (WEEKS[1], WEEK_FACTS)])
def test_rollout_equals_stepping_the_environment_and_replays(cls, facts):
    env = cls(SMALL)
    model = env.model
    scenario = model.draw([np.random.default_rng(seed) for seed in (4, 5)])
    rng = np.random.default_rng(0)
    if isinstance(env.action_space, spaces.Discrete):
        actions = rng.integers(0, 2, (2, model.steps))
    else:
        actions = rng.uniform(-1.0, 1.0, (2, model.steps, *env.action_space.shape)).astype(np.float32)
    episodes = rollout(model, scenario, Recorded(actions))
    for i in range(2):
        env.reset(seed=4 + i)
        rows = [env.step(action) for action in actions[i]]
        assert episodes.returns[i] == pytest.approx(sum(row[1] for row in rows), abs=1e-9)
        for k, term in enumerate(env.terms):
            assert episodes.money[i, k] == pytest.approx(sum(row[4]["reward_terms"][term] for row in rows), abs=1e-9)
        for k, fact in enumerate(facts):
            np.testing.assert_array_equal(episodes.facts[i, :, k], [row[4][fact] for row in rows])
        assert episodes.excess[i] == max(row[4]["excess"] for row in rows)
        assert episodes.shortfall_kwh[i] == pytest.approx(sum(row[4]["unserved_kwh"] for row in rows))
    again = rollout(model, scenario, Recorded(episodes.actions))
    np.testing.assert_array_equal(again.money, episodes.money)


@every_class
def test_fleet_of_recorded_days_can_be_used_everywhere(cls):
    source = law_of(from_days(LOG, 0.5, "garage"))
    env = cls(instance=SMALL, law=source)
    assert env.model.law.name == "log:garage"
    env.reset(seed=1)
    observation = env.step(env.action_space.sample())[0]
    assert np.isfinite(observation).all()
    again = cls(instance=SMALL, law=law_of(from_days(LOG, 0.5, "garage")))
    np.testing.assert_array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])


def test_needs_of_a_fleet_of_recorded_days_are_near_recorded_days():
    """Within the bin of one of them."""
    env = SharedBatterySizingEnv(SMALL, law_of(from_days(LOG, 0.5)))
    for seed in range(20):
        env.reset(seed=seed)
        need = env.get_state()["scenario"].need_kwh[0]
        for i, days in enumerate(LOG):
            bins = {math.ceil(day / 0.5) for day in days}
            assert set(np.ceil(need[:, i] / 0.5).astype(int).tolist()) <= bins


def test_recorded_days_show_in_what_the_planner_sees():
    env = SharedBatterySizingEnv(SMALL, law_of(from_days([[4.0], [8.0], [16.0]], 4.0)))
    seen, _ = env.reset(seed=1)
    ends, share = np.array([4.0, 8.0, 16.0]), np.array([[0.5], [0.9], [0.99]])
    np.testing.assert_allclose(100.0 * seen[:9].reshape(3, 3), ends - 4.0 * (1.0 - share), rtol=1e-5)
