"""The parking lot's environments: what they accept, what their documentation says of them, what fixes their spaces."""

import inspect
import re

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.env import ParkingLotBaysEnv, ParkingLotBaysVectorEnv, ParkingLotEnv, ParkingLotVectorEnv
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance
from v2g_env.parking_lot.scenario import law

CLASSES = (ParkingLotEnv, ParkingLotBaysEnv)

# options that change what happens, but not what can be seen or done
SAME_SPACES = [
    {"law": "days:jpl-2019/fit"},
    {"law": "generator:caltech-2019"},
    {"law": law("generator:jpl-2021")},
    {"plan_kwh": [50.0] * 13},
    {"plan_kwh": np.zeros(13)},
    {"render_mode": "rgb_array"},
    *({"instance": {"dispatch": rule}} for rule in DISPATCH_RULES),
    {"instance": {"gate_closure_steps": 0}},
    {"instance": {"own_charging": True}},
    {"instance": {"efficiency": 0.8}},
    {"instance": {"grid_limit_kw": 100.0}},
    {"instance": {"fee_fraction": 0.5, "return_fraction": 0.8, "sell_fraction": 0.3, "wear_usd_per_kwh": 0.02}},
    {"instance": {"imbalance_fraction": 3.0}},
    {"instance": {"drop_fraction": 0.0, "mix_fraction": 0.3, "factor_memory": 0.1}},
    {"instance": {"headroom_low_kwh": 10.0}},
]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("options", SAME_SPACES, ids=lambda o: re.sub(r"[^a-z0-9_]+", "-", repr(o).lower())[:50])
def test_spaces_do_not_depend_on_options_that_change_neither_size_nor_units(cls, options):
    plain, env = cls(), cls(**options)
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space


@pytest.mark.parametrize(
    ("bays", "lot"), [(1, {}), (300, {}), (7, {"step_h": 0.25}), (52, {"open_h": 0, "close_h": 24})]
)
def test_documented_shapes(bays, lot):
    lot = Instance(bays=bays, **lot)
    steps = lot.steps
    single, per_bay = ParkingLotEnv(lot), ParkingLotBaysEnv(lot)
    assert (single.action_space.shape, single.observation_space.shape) == ((1,), (steps + 22,))
    assert (per_bay.action_space.shape, per_bay.observation_space.shape) == ((bays,), (steps + 22 + 6 * bays,))
    assert single.horizon == per_bay.horizon == steps


def test_docstring_table_names_every_observed_quantity_in_order():
    text = inspect.getdoc(ParkingLotEnv)
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")][1:]
    named = [name.strip() for cell in table for name in re.split(r",| \.\. ", cell)]
    layout = ParkingLotEnv().model.observation_layout
    for name in ("stated_2h", "stated_3h"):  # written as stated_1h .. stated_4h
        named.insert(named.index("stated_4h"), name)
    assert named == list(layout)
    ends = [part.stop for part in layout.values()]
    starts = [part.start for part in layout.values()]
    assert starts == [0, *ends[:-1]]
    assert ends[-1] == 35


@pytest.mark.parametrize("cls", [*CLASSES, ParkingLotVectorEnv, ParkingLotBaysVectorEnv])
def test_instance_mapping_and_none_are_the_same_lot(cls):
    as_object, as_mapping = cls(instance=Instance(bays=9)), cls(instance={"bays": 9})
    assert as_object.model.instance == as_mapping.model.instance == Instance(bays=9)
    assert cls().model.instance == Instance()


@pytest.mark.parametrize("cls", [*CLASSES, ParkingLotVectorEnv, ParkingLotBaysVectorEnv])
@pytest.mark.parametrize(
    "options",
    [
        {"instance": {"bay": 9}},
        {"instance": {"bays": 0}},
        {"instance": 9},
        {"instance": "lot.toml"},
        {"law": "smoothed"},
        {"law": "generator:nowhere"},
        {"plan_kwh": [1.0] * 12},
        {"plan_kwh": [-1.0] * 13},
    ],
)
def test_bad_options_are_refused(cls, options):
    with pytest.raises(InvalidInputError):
        cls(**options)


def test_base_day_can_be_chosen():
    env = ParkingLotEnv(law="days:jpl-2019/fit")
    days = []
    for day in (0, 95, 7):
        env.reset(seed=1, options={"day": day})
        days.append(int(env.get_state()["scenario"].day[0]))
    assert days == [0, 95, 7]
    envs = ParkingLotVectorEnv(3, law="days:jpl-2019/fit")
    first, _ = envs.reset(seed=1, options={"day": [5, 95, 5]})
    for i, day in enumerate((5, 95, 5)):
        np.testing.assert_array_equal(first[i], env.reset(seed=1 + i, options={"day": day})[0])
    for bad in ([0, 1], [0, 1, 96], 3):
        with pytest.raises(InvalidInputError):
            envs.reset(options={"day": bad})


def test_doing_nothing_earns_nothing_and_never_violates():
    for cls in CLASSES:
        env = cls()
        idle = -np.ones(1, np.float32) if cls is ParkingLotEnv else np.zeros(52, np.float32)
        for seed in range(3):
            env.reset(seed=seed)
            for _ in range(env.horizon):
                _, reward, _, _, info = env.step(idle)
                assert reward == 0.0
                assert not info["violation"]
                assert info["stored_kwh"] == 0.0


def test_first_observation_by_hand():
    """At opening nothing is stored; the offer shown is that of the step being closed, 8 to 9 h."""
    for gate in (0, 1):
        env = ParkingLotEnv({"gate_closure_steps": gate}, plan_kwh=np.arange(13) * 10.0)
        seen, _ = env.reset(seed=4)
        scenario, layout = env.get_state()["scenario"], env.model.observation_layout
        value = {name: seen[part] for name, part in layout.items()}
        assert value["step"].tolist() == [1.0] + [0.0] * 12
        for name in ("stored", "ahead", "fill", "capacity_1", "capacity_2", "parked_6h"):
            assert value[name] == 0.0
        assert value["capacity"] == pytest.approx(scenario.capacity_kwh[0, 0] / 200)
        assert value["arrived"] == pytest.approx(scenario.capacity_kwh[0, 0] / 200)
        assert value["deficit"] == pytest.approx(scenario.deficit_kw[0, gate] / 200)
        assert value["pv_factor"] == pytest.approx(scenario.pv_factor[0, gate])
        assert value["plan_next"] == pytest.approx(10.0 * gate / 200)
        assert (value["price"], value["price_next"]) == (0.25, 0.25)
