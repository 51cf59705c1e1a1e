"""The lot's data: every bad value is refused by name, equal lots have equal hashes, files round-trip."""

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance

NAN, INF = math.nan, math.inf
DEFAULT = Instance()
NAMES = tuple(field.name for field in dataclasses.fields(Instance))
NUMBERS = tuple(name for name in NAMES if name not in ("buy_usd_per_kwh", "dispatch", "own_charging"))
INTEGERS = ("bays", "gate_closure_steps")
FLOATS = tuple(name for name in NUMBERS if name not in INTEGERS)

# the nearest values outside each field's range
OUTSIDE = {
    "bays": (0, -1, 10_001, 2.5, 52.0),
    "open_h": (-0.5, 24.5),
    "close_h": (-1.0, 24.5, 25),
    "step_h": (0.0, -1.0, 4.5, 0.3, 7.0),
    "charger_kw": (0.0, -10.0, 1e5),
    "charger_spread": (-0.1, 1.0),
    "efficiency": (0.0, -0.9, 1.0001),
    "headroom_low_kwh": (-0.001, 25.5, 2e4),
    "headroom_high_kwh": (-1.0, 2.9, 2e4),
    "grid_limit_kw": (-1e-9, 1e8),
    "sell_fraction": (-0.1, 1.1, 0.41),
    "fee_fraction": (-0.1, 1.1, 0.39),
    "return_fraction": (-0.1, 1.1, 0.39),
    "imbalance_fraction": (0.0, 0.999, 101.0),
    "wear_usd_per_kwh": (-0.01, 0.46),
    "pv_peak_kw": (-1.0, 1e8),
    "load_base_kw": (-1.0, 1e8),
    "load_evening_kw": (-1.0, 1e8),
    "load_morning_kw": (-1.0, 1e8),
    "pv_sd": (-0.1, 2.1),
    "load_sd": (-0.1, 2.1),
    "factor_memory": (-0.1, 1.0),
    "gate_closure_steps": (-1, 2, 0.5),
    "drop_fraction": (-0.1, 1.1),
    "mix_fraction": (-0.1, 1.1),
    "dispatch": ("", "random", "Minimal_move", 0, None, ["minimal_move"]),
    "own_charging": (0, 1, "yes", None, 1.0),
    "buy_usd_per_kwh": (
        (),
        (0.25,) * 23,
        (0.25,) * 25,
        ((0.25,) * 24,),
        (0.25,) * 23 + (-0.01,),
        (0.25,) * 23 + (NAN,),
        (0.25,) * 23 + (INF,),
        (0.25,) * 23 + (2e4,),
        (0.25,) * 23 + ("dear",),
        (0.25,) * 23 + (None,),
        "dear",
        None,
        0.25,
    ),
}
# fields whose bad value shows in a relation to another field, which the error names instead
RELATED = {
    ("close_h", -1.0): "close_h",
    ("headroom_low_kwh", 25.5): "headroom_high_kwh",
    ("sell_fraction", 0.41): "fee_fraction",
    ("step_h", 0.3): "step_h",
}


def every_bad_value():
    for name in NUMBERS:
        for bad in (NAN, INF, -INF, True, False, "10", None, [10.0], 1 + 0j):
            yield name, bad
    for name, values in OUTSIDE.items():
        for bad in values:
            yield name, bad


BAD = list(every_bad_value())


def test_every_field_has_bad_values_here():
    assert set(OUTSIDE) == set(NAMES)


@pytest.mark.parametrize(("name", "bad"), BAD, ids=[f"{name}={bad!r:.30}" for name, bad in BAD])
def test_bad_value_is_refused_by_name_whichever_way_it_comes(name, bad):
    field = RELATED.get((name, bad) if isinstance(bad, (int, float)) else None, name)
    for build in (
        lambda: Instance(**{name: bad}),
        lambda: DEFAULT.replace(**{name: bad}),
        lambda: Instance.from_dict({name: bad}),
        lambda: Instance.from_dict(DEFAULT.to_dict() | {name: bad}),
    ):
        with pytest.raises(InvalidInputError, match=f"{field}.* = .*; allowed: "):
            build()


@pytest.mark.parametrize("name", NUMBERS)
def test_huge_integer_is_refused_like_any_other_number(name):
    """Integers beyond 64 bits come from JSON and TOML files."""
    with pytest.raises(InvalidInputError, match=name):
        Instance(**{name: 10**30})


@pytest.mark.parametrize("prices", [(True,) * 24, (0.25,) * 23 + (False,), ("0.25",) * 24])
def test_prices_are_numbers_neither_booleans_nor_text(prices):
    with pytest.raises(InvalidInputError, match="buy_usd_per_kwh"):
        Instance(buy_usd_per_kwh=prices)


@pytest.mark.parametrize(
    "horizon",
    [
        {"open_h": 8.0, "close_h": 8.0},
        {"open_h": 20.0, "close_h": 7.0},
        {"open_h": 8.0, "close_h": 10.0},  # two steps
        {"open_h": 8.0, "close_h": 10.5},
        {"open_h": 7.0, "close_h": 20.0, "step_h": 2.0},
        {"open_h": 7.25},
        {"step_h": 0.7},
        {"step_h": 1.0 + 1e-6},
    ],
)
def test_step_that_does_not_divide_the_horizon_or_too_few_steps_are_refused(horizon):
    with pytest.raises(InvalidInputError, match="step_h"):
        Instance(**horizon)


@pytest.mark.parametrize(
    ("open_h", "close_h", "step_h", "steps"),
    [(7, 20, 1, 13), (0, 24, 0.25, 96), (7, 10, 1, 3), (9.0, 9.3, 0.1, 3), (6.5, 20, 0.5, 27), (0, 24, 1 / 60, 1440)],
)
def test_dividing_step_gives_that_many_steps_with_their_middles(open_h, close_h, step_h, steps):
    lot = Instance(open_h=open_h, close_h=close_h, step_h=step_h)
    assert lot.steps == steps
    assert lot.hours.shape == lot.buy.shape == (steps,)
    assert lot.hours[0] == pytest.approx(open_h + step_h / 2)
    assert lot.hours[-1] == pytest.approx(close_h - step_h / 2)


def test_price_of_a_step_is_that_of_the_hour_it_lies_in():
    hourly = tuple(h / 100 for h in range(24))
    assert Instance(buy_usd_per_kwh=hourly).buy.tolist() == [h / 100 for h in range(7, 20)]
    quarter = Instance(buy_usd_per_kwh=hourly, open_h=0, close_h=24, step_h=0.25)
    assert quarter.buy.tolist() == [(t // 4) / 100 for t in range(96)]
    assert quarter.imbalance_usd_per_kwh == 0.23
    assert quarter.replace(imbalance_fraction=2).imbalance_usd_per_kwh == 0.46


@pytest.mark.parametrize(
    "prices",
    [
        {"fee_fraction": 0.3},  # buy surplus at .3, sell it on at .4
        {"return_fraction": 0.3},
        {"sell_fraction": 0.95},  # sell for more than returning brings
        {"imbalance_fraction": 0.9},  # be short for less than the energy costs
        {"wear_usd_per_kwh": 0.5},  # be short for less than moving costs
        {"buy_usd_per_kwh": (0.0,) * 24},  # free shortfall, dear wear
    ],
)
def test_prices_that_would_earn_money_without_storage_are_refused(prices):
    with pytest.raises(InvalidInputError):
        Instance(**prices)
    Instance(wear_usd_per_kwh=0.0, buy_usd_per_kwh=(0.0,) * 24)


@pytest.mark.parametrize("build", [DEFAULT.replace, lambda **kw: Instance.from_dict(kw)], ids=["replace", "from_dict"])
@pytest.mark.parametrize("key", ["bay", "Bays", "charger_kwh", "steps", "hash", "_hidden", ""])
def test_unknown_key_is_refused_and_named(build, key):
    with pytest.raises(InvalidInputError, match=f"'{key}'.*bays"):
        build(**{key: 1})


def test_refused_value_leaves_nothing_half_built():
    lot = Instance()
    before = lot.to_json()
    for name, bad in (("bays", 0), ("wear_usd_per_kwh", 9.0), ("mix_fraction", 2.0)):
        with pytest.raises(InvalidInputError):
            lot.replace(open_h=8, **{name: bad})
    assert lot.to_json() == before
    for change in (lambda: setattr(lot, "bays", 5), lambda: setattr(lot, "new", 5), lambda: delattr(lot, "bays")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert lot.to_json() == before == Instance().to_json()


def test_mapping_given_is_not_changed():
    given = {"buy_usd_per_kwh": [0.3] * 24, "bays": 4}
    kept = copy.deepcopy(given)
    lot = Instance.from_dict(given)
    assert given == kept
    given["buy_usd_per_kwh"][0] = 9.0
    assert lot.buy_usd_per_kwh == (0.3,) * 24


# Equality and hash


@pytest.mark.parametrize("name", FLOATS)
def test_integer_and_float_of_the_same_size_are_the_same_lot(name):
    value = {"sell_fraction": 0, "charger_spread": 0, "factor_memory": 0, "wear_usd_per_kwh": 0, "open_h": 8}.get(
        name, 1
    )
    value = {"close_h": 19, "headroom_high_kwh": 20, "grid_limit_kw": 500}.get(name, value)
    a, b = DEFAULT.replace(**{name: value}), DEFAULT.replace(**{name: float(value)})
    c = DEFAULT.replace(**{name: np.float64(value)})
    d = DEFAULT.replace(**{name: np.int64(value)})
    for other in (b, c, d):
        assert a == other
        assert a.hash == other.hash
        assert a.to_json() == other.to_json()
        assert type(getattr(other, name)) is float


@pytest.mark.parametrize("name", INTEGERS)
def test_numpy_integer_is_the_same_lot(name):
    a, b = DEFAULT.replace(**{name: 1}), DEFAULT.replace(**{name: np.int64(1)})
    assert a == b
    assert a.hash == b.hash


def test_negative_zero_is_the_same_lot():
    a, b = Instance(pv_sd=0.0), Instance(pv_sd=-0.0)
    assert a == b
    assert a.hash == b.hash


def test_ten_and_ten_point_zero_have_the_same_hash():
    assert Instance(charger_kw=10).hash == Instance(charger_kw=10.0).hash == DEFAULT.hash
    assert Instance(buy_usd_per_kwh=[1] * 24).hash == Instance(buy_usd_per_kwh=np.ones(24)).hash


OTHER = {
    "bays": 51,
    "open_h": 8.0,
    "close_h": 19.0,
    "step_h": 0.5,
    "headroom_low_kwh": 4.0,
    "headroom_high_kwh": 24.0,
    "imbalance_fraction": 2.0,
    "gate_closure_steps": 0,
    "dispatch": "proportional",
    "own_charging": True,
    "buy_usd_per_kwh": (0.45,) * 24,
    "sell_fraction": 0.39,
    "fee_fraction": 0.41,
    "return_fraction": 0.91,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_changes_the_hash(name):
    current = getattr(DEFAULT, name)
    other = DEFAULT.replace(**{name: OTHER[name] if name in OTHER else current * 0.5 + 0.001})
    assert other != DEFAULT
    assert other.hash != DEFAULT.hash
    assert other.replace(**{name: current}).hash == DEFAULT.hash


def test_hash_is_a_sha256_and_the_same_in_every_copy():
    assert len(DEFAULT.hash) == 64
    int(DEFAULT.hash, 16)
    for twin in (copy.deepcopy(DEFAULT), pickle.loads(pickle.dumps(DEFAULT)), DEFAULT.replace()):
        assert twin == DEFAULT
        assert twin.hash == DEFAULT.hash
        assert hash(twin) == hash(DEFAULT)


def test_replaced_copy_does_not_inherit_what_was_computed_for_the_first():
    lot = Instance()
    assert (lot.steps, lot.buy.shape, lot.energy_scale_kwh, len(lot.hash)) == (13, (13,), 10.0, 64)
    short = lot.replace(close_h=18.0, charger_kw=7.0)
    assert (short.steps, short.buy.shape, short.energy_scale_kwh) == (11, (11,), 7.0)
    assert short.hash != lot.hash


# Files


ODD = Instance(
    bays=7,
    step_h=0.25,
    buy_usd_per_kwh=tuple(0.1 + h / 30 for h in range(24)),
    gate_closure_steps=0,
    dispatch=DISPATCH_RULES[2],
    own_charging=True,
    pv_sd=1 / 3,
    charger_spread=0.1 + 0.2,
)


def toml_of(values):
    def text(value):
        return json.dumps(value)  # numbers, booleans, strings and lists look the same in TOML

    return "".join(f"{key} = {text(value)}\n" for key, value in values.items())


@pytest.mark.parametrize("lot", [DEFAULT, ODD], ids=["default", "odd"])
def test_json_and_toml_round_trip_exactly(tmp_path, lot):
    (tmp_path / "lot.json").write_text(lot.to_json())
    (tmp_path / "lot.toml").write_text(toml_of(lot.to_dict()))
    for twin in (
        Instance.from_dict(lot.to_dict()),
        Instance.from_dict(json.loads(lot.to_json())),
        Instance.from_file(tmp_path / "lot.json"),
        Instance.from_file(str(tmp_path / "lot.toml")),
    ):
        assert twin == lot
        assert twin.hash == lot.hash
        assert twin.to_json() == lot.to_json()


def test_file_with_some_fields_keeps_the_other_defaults(tmp_path):
    path = tmp_path / "lot.toml"
    path.write_text("# a small lot\nbays = 10\nown_charging = true\n")
    assert Instance.from_file(path) == Instance(bays=10, own_charging=True)
    path.write_text("# nothing but a comment\n")
    assert Instance.from_file(path) == DEFAULT


WHOLE_TOML, WHOLE_JSON = toml_of(ODD.to_dict()), ODD.to_json()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", ""),
        ("a.json", ""),
        ("a.toml", " \n\t\n"),
        ("a.json", "\n"),
        ("a.toml", WHOLE_TOML[: WHOLE_TOML.index("[") + 20]),  # cut in the middle of the prices
        ("a.json", WHOLE_JSON[: len(WHOLE_JSON) // 2]),
        ("a.json", WHOLE_JSON[:-1]),
        ("a.toml", "bays = \n"),
        ("a.toml", "bays = 5\nbays = 6\n"),
        ("a.toml", WHOLE_JSON),
        ("a.json", WHOLE_TOML),
        ("a.json", "[]"),
        ("a.json", "null"),
        ("a.json", "7"),
        ("a.json", '"bays"'),
        ("a.json", '{"bays": NaN}'),
        ("a.json", '{"charger_kw": Infinity}'),
        ("a.toml", "charger_kw = nan"),
        ("a.toml", "charger_kw = inf"),
        ("a.toml", "bays = true"),
        ("a.toml", 'bays = "5"'),
        ("a.toml", "bays = 5.0"),
        ("a.toml", "chargers = 5"),
        ("a.toml", "[lot]\nbays = 5"),
        ("a.toml", "open_h = 07:00:00"),
        ("a.json", '{"bays": {"n": 5}}'),
    ],
)
def test_broken_file_is_one_clear_error(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=" = .*; allowed: "):
        Instance.from_file(path)


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_file_that_is_no_text_is_one_clear_error(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(InvalidInputError, match="allowed"):
        Instance.from_file(path)


@pytest.mark.parametrize("cut", range(2, len(WHOLE_JSON), 61))
def test_json_cut_anywhere_is_refused(tmp_path, cut):
    path = tmp_path / "lot.json"
    path.write_text(WHOLE_JSON[:cut])
    with pytest.raises(InvalidInputError):
        Instance.from_file(path)


def test_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Instance.from_file(tmp_path / "none.toml")
