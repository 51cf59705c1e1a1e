"""The network's data: bad values are refused by name, equal networks have equal hashes, files round-trip."""

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling import Instance

NAN, INF = math.nan, math.inf
DEFAULT = Instance()
NAMES = tuple(field.name for field in dataclasses.fields(Instance))
INTEGERS = ("steps", "cars", "gas_segments", "gate_closure_steps")
LISTS = ("aggregator_bus", "turbine_bus", "line_from", "line_to", "line_limit_kw", "load_shares")
PAIRS = ("soc_arrival", "arrival_h", "departure_h")
NUMBERS = tuple(name for name in NAMES if name not in LISTS + PAIRS)
FLOATS = tuple(name for name in NUMBERS if name not in INTEGERS)

NO_LISTS = (None, 3, 1.5, {1, 2}, "text")
NO_BUSES = (*NO_LISTS, (1, 2, 3, 4, 5, 6.0), (1, 2, 3, 4, 5, True), (1, 2, 3, 4, 5, NAN), ((1, 2), (3, 4)), ("1",) * 6)
NO_NUMBERS = (None, 3, 1.5, {1.0}, "text", (NAN, 0.5), (0.3, INF), (True, 0.5), ("0.3", 0.5), (0.3,), (0.3, 0.4, 0.5))

# the nearest values outside each field's range, and some far ones
OUTSIDE = {
    "steps": (0, -1, 10_001, 96.0),
    "step_h": (0.0, -0.25, 24.1),
    "start_h": (-0.001, 24.0),
    "aggregator_bus": (*NO_BUSES, (), (1, 2, 3, 4, 5, 7), (-1, 2, 3, 4, 5, 6), (1,) * 1001),
    "turbine_bus": (*NO_BUSES, (7,), (-1,), (1,) * 1001),
    "line_from": (*NO_BUSES, (), (0, 1, 2, 0, 4), (0, 1, 2, 0, 4, 5, 6), (0, 1, 2, 0, 4, 7), (-1, 1, 2, 0, 4, 5)),
    "line_to": (*NO_BUSES, (), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 6), (1, 2, 3, 4, 5, 7), (1, 2, 3, 4, 5, -1)),
    "line_limit_kw": (
        *NO_NUMBERS,
        (),
        (500.0,) * 5 + (-1.0,),
        (500.0,) * 5 + (NAN,),
        (500.0,) * 5 + (INF,),
        (500.0,) * 5 + (2e9,),
        (500.0,) * 5 + ("500",),
        ((500.0,) * 6,),
    ),
    "load_peak_kw": (0.0, -1.0, 2e9),
    "load_shares": (
        *NO_NUMBERS,
        (),
        (0.2,) * 5,
        (0.2, 0.18, 0.17, 0.16, 0.15, 0.141),
        (0.2, 0.18, 0.17, 0.16, 0.15, 0.139),
        (0.4, -0.1, 0.2, 0.2, 0.2, 0.1),
        (1.1, -0.1, 0.0, 0.0, 0.0, 0.0),
        (0.2, 0.18, 0.17, 0.16, 0.15, NAN),
    ),
    "load_deviation": (-0.001, 1.001),
    "cars": (-1, 100_001, 100.0),
    "battery_kwh": (0.0, -24.0, 2e4),
    "charger_kw": (0.0, -6.6, 2e4),
    "efficiency": (0.0, -0.95, 1.001),
    "soc_min": (-0.001, 1.001),
    "soc_max": (0.199, 0.899, 1.001, -0.1),
    "soc_wanted": (0.199, 0.951, -0.1),
    "soc_arrival": (*NO_NUMBERS, (0.199, 0.6), (0.2, 0.951), (0.6, 0.2)),
    "arrival_h": (*NO_NUMBERS, (-0.001, 2.0), (24.0, 2.0), (18.0, -0.001), (18.0, 12.1)),
    "departure_h": (*NO_NUMBERS, (-0.001, 1.0), (24.0, 1.0), (8.0, -0.001), (8.0, 12.1)),
    "gas_max_kw": (0.0, -1.0, 2e9),
    "gas_ramp_kw": (-0.001, 2e9),
    "gas_linear": (0.0, -0.1, 2e6),
    "gas_quadratic": (-0.001, 2e6),
    "gas_segments": (0, -1, 1001, 40.0),
    "calibrated_usd": (0.0, -1.0, 2e9),
    "turbine_kw": (-0.001, 2e6),
    "cut_in_m_s": (-0.001, 100.1, 12.0, 13.0),
    "rated_m_s": (3.0, 2.0, 100.1, -1.0, 25.0),
    "cut_out_m_s": (12.0, 1.0, 1001.0),
    "wind_scale_m_s": (0.0, -8.0, 100.1),
    "wind_night": (-0.001, 0.901),
    "wind_evening": (-0.001, 0.901),
    "wind_memory": (-0.001, 1.0, 1.1),
    "wind_news_memory": (-0.001, 1.0, 1.1),
    "wind_common": (-0.001, 1.001),
    "forecast_quality": (-0.001, 1.001),
    "wind_usd_per_kwh": (-0.001, 2e6),
    "wear_usd_per_kwh": (-0.001, 2e6),
    "subsidy_usd_per_kwh": (-0.001, 2e6),
    "emergency_usd_per_kwh": (-0.001, 2e6),
    "overload_usd_per_kwh": (-0.001, 2e6),
    "reserve_share": (-0.001, 10.1),
    "gas_band_kw": (0.0, -1.0, 2e9),
    "gate_closure_steps": (-1, 2, 1.0),
}
# where the value of one field is judged by another, the other may be named
NAMED = {"soc_max": "soc_max|soc_wanted|soc_arrival", "cut_in_m_s": "cut_in_m_s|rated_m_s"}
NAMED |= {"rated_m_s": "rated_m_s|cut_out_m_s", "soc_min": "soc_min|soc_wanted"}
NAMED |= {"line_from": "line_from|line", "line_to": "line_to|line", "aggregator_bus": "aggregator_bus|load_shares"}
NAMED |= {"line_limit_kw": "line_limit_kw|line_from|bus in"}


def every_bad_value():
    for name in NUMBERS:
        for bad in (NAN, INF, -INF, True, False, "10", None, [10.0], 1 + 0j, 10**30):
            yield name, bad
    for name, values in OUTSIDE.items():
        for bad in values:
            yield name, bad


BAD = list(every_bad_value())


def test_every_field_has_bad_values_here():
    assert set(OUTSIDE) == set(NAMES)


@pytest.mark.parametrize(("name", "bad"), BAD, ids=[f"{name}={bad!r:.30}" for name, bad in BAD])
def test_bad_value_is_refused_by_name_whichever_way_it_comes(name, bad):
    for build in (
        lambda: Instance(**{name: bad}),
        lambda: DEFAULT.replace(**{name: bad}),
        lambda: Instance.from_dict({name: bad}),
        lambda: Instance.of(DEFAULT.to_dict() | {name: bad}),
    ):
        with pytest.raises(InvalidInputError, match=rf"({NAMED.get(name, name)}).* = .*; allowed: "):
            build()


@pytest.mark.parametrize(
    ("sources", "ends", "complaint"),
    [
        ((0, 1, 2), (1, 2, 0), "line 2 = .*radial"),
        ((0, 0, 1), (1, 1, 2), "line 1 = .*radial"),
        ((0, 2, 3), (1, 3, 2), "line 2 = .*radial"),
        ((0, 1, 2), (1, 2, 2), "line 2 = .*two different buses"),
        ((1, 2, 1), (2, 3, 3), "line 2 = .*radial"),
        ((0, 1, 4), (1, 2, 3), r"bus in line_from = 4; .*\[0, 3\]"),
    ],
)
def test_meshes_islands_and_loops_are_refused(sources, ends, complaint):
    with pytest.raises(InvalidInputError, match=complaint):
        Instance(
            line_from=sources,
            line_to=ends,
            line_limit_kw=(100.0,) * 3,
            aggregator_bus=(1,),
            load_shares=(1.0,),
            turbine_bus=(),
        )


def test_every_aggregator_has_a_share_of_the_load():
    with pytest.raises(InvalidInputError, match=r"shape of load_shares = \(6,\); allowed: \(2\)"):
        Instance(aggregator_bus=(1, 2))
    assert Instance(aggregator_bus=(1, 2), load_shares=(0.25, 0.75)).aggregators == 2


def test_smallest_network_is_one_bus():
    lot = Instance(
        line_from=(),
        line_to=(),
        line_limit_kw=(),
        aggregator_bus=(0,),
        load_shares=(1.0,),
        turbine_bus=(),
        cars=0,
        steps=1,
    )
    assert (lot.aggregators, lot.turbines, lot.owner.tolist()) == (1, 0, [])
    assert lot.tree.below.shape == (0, 1)


@pytest.mark.parametrize("build", [DEFAULT.replace, lambda **kw: Instance.from_dict(kw)], ids=["replace", "from_dict"])
@pytest.mark.parametrize("key", ["car", "Steps", "hours", "hash", "tree", ""])
def test_unknown_key_is_refused_and_named(build, key):
    with pytest.raises(InvalidInputError, match=f"'{key}'.*steps"):
        build(**{key: 1})


def test_refused_value_leaves_nothing_half_built():
    before = DEFAULT.to_json()
    for name, bad in (("cars", -1), ("load_shares", (2.0,)), ("wind_memory", 1.0)):
        with pytest.raises(InvalidInputError):
            DEFAULT.replace(steps=3, **{name: bad})
    for change in (lambda: setattr(DEFAULT, "cars", 5), lambda: delattr(DEFAULT, "steps")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert DEFAULT.to_json() == before == Instance().to_json()


# What follows from the fields


def test_cars_are_dealt_in_turn():
    assert Instance(cars=8).owner.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]


def test_hours_are_the_middles_of_the_steps_on_the_clock():
    assert DEFAULT.hours[0] == 12.125
    assert DEFAULT.hours[-1] == 11.875
    assert DEFAULT.hours.min() >= 0.0
    assert DEFAULT.hours.max() < 24.0
    assert Instance(steps=3, step_h=10.0, start_h=20.0).hours.tolist() == [1.0, 11.0, 21.0]


def test_homes_take_most_at_half_past_seven_in_the_evening():
    lot = Instance(step_h=0.01, steps=2400)
    total = lot.load_mean_kw.sum(axis=1)
    assert lot.hours[total.argmax()] == pytest.approx(19.5, abs=0.02)
    assert total.max() == pytest.approx(lot.load_peak_kw, rel=1e-3)
    morning = (lot.hours > 6.0) & (lot.hours < 10.0)
    assert lot.hours[morning][total[morning].argmax()] == pytest.approx(8.0, abs=0.05)
    np.testing.assert_allclose(lot.load_mean_kw, total[:, None] * np.array(lot.load_shares), rtol=1e-12)
    at = {hour: total[np.abs(lot.hours - hour).argmin()] for hour in (2.0, 8.0)}
    assert at[2.0] == pytest.approx(0.4 * 550.0, rel=2e-3)
    assert at[8.0] == pytest.approx(0.65 * 550.0, rel=2e-3)


def test_wind_is_strong_at_three_and_weak_at_seven_in_the_evening():
    lot = Instance(step_h=0.01, steps=2400)
    hours, scale = lot.hours, lot.wind_scale[1:]
    assert hours[scale.argmax()] == pytest.approx(3.0, abs=0.1)
    assert hours[scale.argmin()] == pytest.approx(19.0, abs=0.1)
    assert scale.max() == pytest.approx(8.0 * 1.5, rel=1e-3)
    assert scale.min() == pytest.approx(8.0 * 0.65, rel=2e-2)
    assert len(lot.wind_scale) == lot.steps + 1
    assert lot.wind_scale[0] == pytest.approx(lot.wind_scale[1], rel=1e-2)
    np.testing.assert_array_equal(Instance(wind_night=0.0, wind_evening=0.0).wind_scale, np.full(97, 8.0))


@pytest.mark.parametrize("segments", [1, 7, 40])
def test_slopes_of_the_generator_add_up_to_its_cost_at_the_ends_of_the_pieces(segments):
    lot = Instance(gas_segments=segments, gas_max_kw=800.0)
    ends = np.linspace(0.0, 800.0, segments + 1)
    cost = np.append(0.0, np.cumsum(lot.gas_prices * np.diff(ends)))
    np.testing.assert_allclose(cost, 0.1 * ends + 0.001 * ends**2, rtol=1e-12, atol=1e-12)
    assert (np.diff(lot.gas_prices) > 0.0).all()


def test_energy_range():
    assert DEFAULT.energy_range_kwh == (0.2 * 24.0, 0.95 * 24.0)


# Equality, hash, files

OTHER = {
    "steps": 95,
    "cars": 99,
    "gas_segments": 39,
    "gate_closure_steps": 0,
    "aggregator_bus": (1, 2, 3, 4, 5, 0),
    "turbine_bus": (2, 3),
    "line_from": (0, 1, 2, 0, 4, 4),
    "line_to": (1, 3, 3, 4, 5, 6),
    "line_limit_kw": (500.0, 350.0, 200.0, 500.0, 350.0, 201.0),
    "load_shares": (0.2, 0.18, 0.17, 0.16, 0.14, 0.15),
    "soc_arrival": (0.2, 0.5),
    "arrival_h": (18.0, 1.0),
    "departure_h": (8.5, 1.0),
    "soc_max": 0.96,
    "soc_wanted": 0.8,
    "cut_out_m_s": 24.0,
    "rated_m_s": 11.0,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_changes_the_hash(name):
    current = getattr(DEFAULT, name)
    changed = OTHER[name] if name in OTHER else current * 0.5 + 0.001
    extra = {"line_from": (0, 1, 1, 0, 4, 5)} if name == "line_to" else {}
    base = DEFAULT.replace(**extra)
    if name == "line_to":
        changed = (1, 3, 2, 4, 5, 6)
    other = base.replace(**{name: changed})
    assert other != base
    assert other.hash != base.hash
    assert other.replace(**{name: current}).hash == base.hash


@pytest.mark.parametrize("name", FLOATS)
def test_integer_and_float_of_the_same_size_are_the_same_network(name):
    zero = ("wind_night", "wind_evening", "wind_memory", "wind_news_memory", "soc_min")
    value = 0 if name in zero else {"cut_in_m_s": 2, "rated_m_s": 10, "cut_out_m_s": 20}.get(name, 1)
    base = DEFAULT.replace(soc_max=1.0)
    twins = [base.replace(**{name: kind(value)}) for kind in (int, float, np.float64, np.int64)]
    for twin in twins:
        assert twin == twins[0]
        assert twin.hash == twins[0].hash
        assert type(getattr(twin, name)) is float


@pytest.mark.parametrize("name", INTEGERS)
def test_numpy_integer_is_the_same_network(name):
    a, b = DEFAULT.replace(**{name: 1}), DEFAULT.replace(**{name: np.int64(1)})
    assert a == b
    assert a.hash == b.hash
    assert type(getattr(b, name)) is int


def test_lists_and_arrays_of_numbers_are_the_same_network():
    for kind in (list, np.array):
        twin = Instance(**{name: kind(getattr(DEFAULT, name)) for name in LISTS + PAIRS})
        assert twin == DEFAULT
        assert twin.hash == DEFAULT.hash
        assert hash(twin) == hash(DEFAULT)


def test_negative_zero_is_the_same_network():
    for name in ("load_deviation", "start_h", "wind_common", "wear_usd_per_kwh", "turbine_kw"):
        a, b = Instance(**{name: 0.0}), Instance(**{name: -0.0})
        assert a == b
        assert a.hash == b.hash


def test_hash_is_a_sha256_and_the_same_in_every_copy():
    assert len(DEFAULT.hash) == 64
    int(DEFAULT.hash, 16)
    for twin in (copy.deepcopy(DEFAULT), pickle.loads(pickle.dumps(DEFAULT)), DEFAULT.replace()):
        assert twin == DEFAULT
        assert twin.hash == DEFAULT.hash
        assert hash(twin) == hash(DEFAULT)


def test_replaced_copy_does_not_inherit_what_was_computed_for_the_first():
    lot = Instance(cars=2)
    assert (lot.owner.tolist(), len(lot.hours), lot.load_mean_kw.shape) == ([0, 1], 96, (96, 6))
    other = lot.replace(cars=3, steps=4)
    assert (other.owner.tolist(), len(other.hours), other.load_mean_kw.shape) == ([0, 1, 2], 4, (4, 6))


ODD = Instance(
    steps=7,
    step_h=1 / 3,
    aggregator_bus=(2, 2, 0),
    load_shares=(0.1, 0.2, 0.7),
    turbine_bus=(),
    line_from=(2, 0),
    line_to=(1, 2),
    line_limit_kw=(0.1 + 0.2, 1e-3),
    soc_arrival=(1 / 3, 1 / 3),
)


@pytest.mark.parametrize("lot", [DEFAULT, ODD], ids=["default", "odd"])
def test_json_and_toml_round_trip_exactly(tmp_path, lot):
    (tmp_path / "lot.json").write_text(lot.to_json())
    fields = (f"{key} = {json.dumps(value)}\n" for key, value in lot.to_dict().items())
    (tmp_path / "lot.toml").write_text("".join(fields))
    for twin in (
        Instance.from_dict(lot.to_dict()),
        Instance.from_file(tmp_path / "lot.json"),
        Instance.from_file(str(tmp_path / "lot.toml")),
    ):
        assert twin == lot
        assert twin.hash == lot.hash
        assert twin.to_json() == lot.to_json()


@pytest.mark.parametrize("content", ["cars = -1", "car = 5", "soc_arrival = 0.5", "line_to = [1]", "cars = 5.0", "["])
def test_bad_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "lot.toml"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=" = .*; allowed: "):
        Instance.from_file(path)
