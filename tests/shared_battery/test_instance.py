"""The fleet's data: bad values are refused by name, equal fleets have equal hashes, files round-trip, prices add up."""

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from v2g_env.core.allocation import RULES
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery import Instance
from v2g_env.shared_battery.instance import VALUES

NAN, INF = math.nan, math.inf
DEFAULT = Instance()
NAMES = tuple(field.name for field in dataclasses.fields(Instance))
INTEGERS = ("drivers", "fleet_seed", "season_days", "week_days")
NUMBERS = tuple(name for name in NAMES if name not in ("eps", "rule", "weekday_factors", "values"))
FLOATS = tuple(name for name in NUMBERS if name not in INTEGERS)

# the nearest values outside each field's range, and some far ones
OUTSIDE = {
    "drivers": (0, -1, 10_001, 2.5, 25.0),
    "fleet_seed": (-1, 0.5, 2**63 + 1),
    "median_miles": (0.0, -1.0, 1.1e4),
    "driver_spread": (-0.001, 3.1),
    "day_shape": (0.0, 0.29, 20.1, -1.0),
    "idle": (-0.001, 1.0, 1.5),
    "correlation": (-0.001, 1.0, 2.0),
    "miles_per_kwh": (0.0, -3.0, 101.0),
    "bin_kwh": (0.0, -2.0, 2e4),
    "need_max_kwh": (0.0, 1.9, -160.0, 161.0, 160.001, 2e5),
    "own_usd_per_kwh": (0.0, -1.0, 2e6),
    "shared_usd_per_kwh": (0.0, -1.0, 2e6),
    "eps": (
        (),
        (0.0,),
        (1.0,),
        (-0.05,),
        (1.05,),
        (NAN,),
        (INF,),
        (0.05,) * 2,
        (0.05,) * 24,
        (0.05,) * 26,
        (0.05,) * 24 + (0.0,),
        (0.05,) * 24 + (1.0,),
        (0.05,) * 24 + (NAN,),
        (0.05,) * 24 + ("0.05",),
        (0.05,) * 24 + (None,),
        (True,),
        ((0.05,),),
        0.05,
        "0.05",
        None,
    ),
    "own_min_kwh": (-0.001, 2e5),
    "own_max_kwh": (0.0, -1.0, 2e5),
    "shared_max_kwh_per_driver": (0.0, -1.0, 2e5),
    "rule": ("", "fair", "Utilitarian", 0, None, True, ["utilitarian"]),
    "season_days": (0, -1, 10_001, 90.0),
    "missed_usd": (-0.001, 2e6),
    "week_days": (0, -1, 367, 7.0),
    "weekday_factors": (
        (),
        (1.0,) * 6,
        (1.0,) * 8,
        (1.0,) * 6 + (0.0,),
        (1.0,) * 6 + (-1.0,),
        (1.0,) * 6 + (101.0,),
        (1.0,) * 6 + (NAN,),
        (1.0,) * 6 + (INF,),
        (1.0,) * 6 + ("1",),
        (True,) * 7,
        ((1.0,) * 7,),
        1.0,
        None,
    ),
    "own_quantile": (-0.001, 1.0, 1.5),
    "shared_fraction": (0.0, -0.1, 101.0),
    "recharge_fraction": (-0.001, 1.001),
    "values": ("", "Density", "uniform", 0, None, True, ["equal"]),
    "value_usd": (0.0, -10.0, 2e6),
    "value_sd": (-0.001, 3.1),
}


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
        with pytest.raises(InvalidInputError, match=f"{name}.* = .*; allowed: "):
            build()


def test_largest_own_battery_is_not_below_the_smallest():
    for low, high in ((20.0, 19.9), (20.0, 0.0), (160.1, 160.0)):
        with pytest.raises(InvalidInputError, match=f"own_max_kwh = {high}.*{low:g}"):
            Instance(own_min_kwh=low, own_max_kwh=high)
    assert Instance(own_min_kwh=20.0, own_max_kwh=20.1).own_max_kwh == 20.1


def test_a_choice_of_own_batteries_needs_two_different_ends():
    """Equal ends would leave nothing to choose, and no action for a size."""
    with pytest.raises(InvalidInputError, match="own_max_kwh"):
        Instance(own_min_kwh=20.0, own_max_kwh=20.0)


@pytest.mark.parametrize(("width", "end"), [(3.0, 160.0), (0.3, 1.0), (2.0, 3.0), (160.0, 200.0)])
def test_bins_that_do_not_fill_the_range_are_refused(width, end):
    with pytest.raises(InvalidInputError, match="need_max_kwh / bin_kwh"):
        Instance(bin_kwh=width, need_max_kwh=end)


def test_number_of_bins_is_limited():
    with pytest.raises(InvalidInputError, match="bin_kwh"):
        Instance(bin_kwh=1e-4, need_max_kwh=160.0)


@pytest.mark.parametrize(("width", "end", "bins"), [(2.0, 160.0, 80), (0.1, 0.7, 7), (160.0, 160.0, 1), (0.3, 0.9, 3)])
def test_number_of_bins(width, end, bins):
    assert Instance(bin_kwh=width, need_max_kwh=end).bins == bins


@pytest.mark.parametrize("build", [DEFAULT.replace, lambda **kw: Instance.from_dict(kw)], ids=["replace", "from_dict"])
@pytest.mark.parametrize("key", ["driver", "Eps", "bins", "hash", "tolerated", ""])
def test_unknown_key_is_refused_and_named(build, key):
    with pytest.raises(InvalidInputError, match=f"'{key}'.*drivers"):
        build(**{key: 1})


def test_refused_value_leaves_nothing_half_built():
    before = DEFAULT.to_json()
    for name, bad in (("drivers", 0), ("eps", (2.0,)), ("value_sd", -1.0)):
        with pytest.raises(InvalidInputError):
            DEFAULT.replace(season_days=3, **{name: bad})
    for change in (lambda: setattr(DEFAULT, "drivers", 5), lambda: delattr(DEFAULT, "eps")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert DEFAULT.to_json() == before == Instance().to_json()


# What follows from the fields


def test_one_tolerance_is_that_of_all_drivers():
    np.testing.assert_array_equal(Instance(drivers=4, eps=(0.1,)).tolerated, [0.1] * 4)
    np.testing.assert_array_equal(Instance(drivers=3, eps=(0.1, 0.2, 0.3)).tolerated, [0.1, 0.2, 0.3])
    assert Instance(drivers=1, eps=(0.1,)).tolerated.tolist() == [0.1]


def test_number_of_tolerances_must_follow_the_number_of_drivers():
    lot = Instance(drivers=3, eps=(0.1, 0.2, 0.3))
    with pytest.raises(InvalidInputError, match="length of eps = 3; allowed: 1 or 4"):
        lot.replace(drivers=4)


def test_tolerances_handed_out_are_nobodys_to_change():
    lot = Instance(drivers=2)
    handed = lot.tolerated
    try:
        handed[:] = 0.9
    except ValueError:
        return
    assert lot.tolerated.tolist() == [0.05, 0.05]


def test_largest_shared_battery_grows_with_the_fleet():
    assert Instance(drivers=7, shared_max_kwh_per_driver=12.5).shared_max_kwh == 87.5


def test_price_of_capacities_by_hand():
    lot = Instance(drivers=3, own_usd_per_kwh=2.0, shared_usd_per_kwh=5.0)
    assert lot.cost_usd(np.array([1.0, 2.0, 3.0]), 4.0) == 2.0 * 6.0 + 5.0 * 4.0
    many = lot.cost_usd(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), np.array([4.0, 0.0]))
    assert many.tolist() == [32.0, 2.0]


# Equality, hash, files

OTHER = {
    "drivers": 24,
    "fleet_seed": 2,
    "season_days": 89,
    "week_days": 8,
    "day_shape": 1.4,
    "need_max_kwh": 158.0,
    "bin_kwh": 1.0,
    "eps": (0.06,),
    "rule": "max_min",
    "values": "density",
    "weekday_factors": (1.0,) * 7,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_changes_the_hash(name):
    current = getattr(DEFAULT, name)
    other = DEFAULT.replace(**{name: OTHER[name] if name in OTHER else current * 0.5 + 0.001})
    assert other != DEFAULT
    assert other.hash != DEFAULT.hash
    assert other.replace(**{name: current}).hash == DEFAULT.hash


@pytest.mark.parametrize("name", FLOATS)
def test_integer_and_float_of_the_same_size_are_the_same_fleet(name):
    value = {"idle": 0, "correlation": 0, "own_quantile": 0, "need_max_kwh": 20, "own_min_kwh": 0}.get(name, 1)
    twins = [DEFAULT.replace(**{name: kind(value)}) for kind in (int, float, np.float64, np.int64)]
    for twin in twins:
        assert twin == twins[0]
        assert twin.hash == twins[0].hash
        assert type(getattr(twin, name)) is float


@pytest.mark.parametrize("name", INTEGERS)
def test_numpy_integer_is_the_same_fleet(name):
    a, b = DEFAULT.replace(**{name: 1}), DEFAULT.replace(**{name: np.int64(1)})
    assert a == b
    assert a.hash == b.hash
    assert type(getattr(b, name)) is int


def test_lists_arrays_and_integers_of_numbers_are_the_same_fleet():
    a = Instance(weekday_factors=(1.0,) * 7, eps=(0.1,) * 25)
    for kind in (list, np.array):
        b = Instance(weekday_factors=kind([1] * 7), eps=kind([0.1] * 25))
        assert a == b
        assert a.hash == b.hash
        assert hash(a) == hash(b)


def test_negative_zero_is_the_same_fleet():
    for name in ("idle", "own_min_kwh", "missed_usd", "recharge_fraction", "value_sd"):
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
    lot = Instance(drivers=2)
    assert lot.tolerated.tolist() == [0.05, 0.05]
    assert lot.replace(eps=(0.2,), drivers=3).tolerated.tolist() == [0.2] * 3


ODD = Instance(
    drivers=3,
    eps=(0.1, 1 / 3, 0.1 + 0.2),
    rule=RULES[1],
    values=VALUES[1],
    weekday_factors=(1 / 3, 1.0, 2.0, 0.1, 5.0, 1e-3, 7.0),
    bin_kwh=0.1,
    need_max_kwh=30.0,
    fleet_seed=2**40,
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


@pytest.mark.parametrize("content", ["drivers = 0", "driver = 5", "eps = 0.05", "rule = 'fair'", "drivers = 5.0", "["])
def test_bad_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "lot.toml"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=" = .*; allowed: "):
        Instance.from_file(path)
