"""The game's data: bad values are refused by name, equal fleets have equal hashes, files round-trip, prices scale."""

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from scipy.optimize import brentq

from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg import Game, Instance, Network
from v2g_env.stackelberg.deviations import bernoulli_backward, bernoulli_forward
from v2g_env.stackelberg.diary import time_activity
from v2g_env.stackelberg.signal import SIGNALS

NAN, INF = math.nan, math.inf
DEFAULT = Instance()
NAMES = tuple(field.name for field in dataclasses.fields(Instance))
TEXTS = ("variant", "signals", "owner", "response", "settlement")
TUPLES = tuple(name for name in NAMES if isinstance(getattr(DEFAULT, name), tuple))
INTEGERS = ("drivers", "periods_per_hour", "days", "spike_h")
NUMBERS = tuple(name for name in NAMES if name not in (*TEXTS, *TUPLES, "announced"))
FLOATS = tuple(name for name in NUMBERS if name not in INTEGERS)

OUTSIDE = {
    "drivers": (0, -1, 2.5, 200.0, 10**7),
    "charger_kw": (0.0, -10.0, 1e5),
    "eta": (0.0, 0.5, -0.1, 1.0, 1e-8),
    "baseline_utility_usd": (0.0, -200.0),
    "deviation_fraction": (0.0, -0.001, 1.1),
    "plugged": (0.0, 1.0, 0.0009, -0.1, 1.1),
    "workplace": (-0.1, 1.1),
    "periods_per_hour": (0, 3, 5, 1.0),
    "kappa": (0.0, -1.0),
    "guarantee_kw": (-1.0, 10.0, 11.0),
    "guarantee_eta": (0.0, 0.5, -0.1),
    "days": (0, -1, 1001, 1.5),
    "price_level_sd": (-0.1, 2.1),
    "price_hour_sd": (-0.1, 2.1),
    "price_hour_memory": (-0.1, 1.0),
    "spike_probability": (-0.1, 1.1),
    "spike_h": (0, 25, 1.5),
    "spike_factor": (0.9, 101.0),
    "bid_limit": (0.0, -1.0, 1.51),
    "shortfall_factor": (-0.1, 1e5),
    "forfeit_share": (-0.1, 1.1),
    "habit_weight": (0.0, -0.1, 1.1),
    **dict.fromkeys(TEXTS, ("", "Model", "other", 0, None, True, ["model"])),
    "announced": (0, 1, "yes", None),
    "composition": ((), (1.0,), (0.5, 0.5), (0.6, 0.1, 0.2), (0.7, -0.1, 0.4), (NAN, 0.5, 0.5), "mixed", None),
    "weekend_composition": ((), (0.5, 0.5, 0.5), (1.1, 0.0, -0.1), None),
    "plug_shares": ((), (0.0, 0.5, 0.9), (0.65, 0.8, 1.0), (0.8, 0.65, 0.9), (0.8, 0.8, 0.9), (NAN, 0.8, 0.9), 0.8),
    "plug_probabilities": ((), (0.5, 0.5), (0.5, 0.6, -0.1), (0.3, 0.3, 0.3), None),
    "rebate_levels_usd_per_h": ((), (0.1, 0.05), (0.0, 0.0), (0.0, 1e-7, 1.0), (-0.1, 0.0), (0.0, NAN), 0.5, None),
    "rebate_cap_usd_per_h": ((0.5,) * 23, (0.5,) * 25, (-0.1,) * 24, (NAN,) * 24, (), "high", None, 0.5),
    "price_usd_per_kw": (
        (0.1,) * 23,
        (0.1,) * 25,
        (0.1,) * 23 + (-0.01,),
        (0.1,) * 23 + (NAN,),
        (0.1,) * 23 + (INF,),
        (0.1,) * 23 + ("dear",),
        (0.0,) * 24,
        ((0.1,) * 24,),
        None,
        0.1,
    ),
}
OUTSIDE["rebate_cap_usd_per_h"] = tuple(bad for bad in OUTSIDE["rebate_cap_usd_per_h"] if bad != ())  # (): no caps


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
        lambda: Instance.from_dict(DEFAULT.to_dict() | {name: bad}),
    ):
        with pytest.raises(InvalidInputError, match=f"{name}.* = .*; allowed: "):
            build()


def test_cap_below_the_lowest_level_is_refused():
    with pytest.raises(InvalidInputError, match="rebate_cap"):
        Instance(rebate_levels_usd_per_h=(0.2, 0.4), rebate_cap_usd_per_h=(0.1,) * 24)


@pytest.mark.parametrize("build", [DEFAULT.replace, lambda **kw: Instance.from_dict(kw)], ids=["replace", "from_dict"])
@pytest.mark.parametrize("key", ["driver", "Eta", "steps", "hash", ""])
def test_unknown_key_is_refused_and_named(build, key):
    with pytest.raises(InvalidInputError, match=f"'{key}'.*drivers"):
        build(**{key: 1})


# Equality, hash, files

OTHER = {
    "drivers": 201,
    "charger_kw": 11.0,
    "variant": "published",
    "signals": "published",
    "owner": "drivers",
    "response": "population",
    "settlement": "forfeit",
    "announced": False,
    "periods_per_hour": 4,
    "days": 31,
    "spike_h": 2,
    "spike_factor": 2.0,
    "workplace": 0.1,
    "composition": (0.5, 0.2, 0.3),
    "weekend_composition": (0.2, 0.5, 0.3),
    "rebate_levels_usd_per_h": (0.0, 0.5),
    "rebate_cap_usd_per_h": (0.5,) * 24,
    "price_usd_per_kw": (0.1,) * 24,
    "plug_shares": (0.65, 0.8, 0.91),
    "plug_probabilities": (0.5, 0.25, 0.25),
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "guarantee_kw"])
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
        assert (twin.hash, hash(twin)) == (DEFAULT.hash, hash(DEFAULT))


@pytest.mark.parametrize("name", FLOATS)
def test_integer_and_float_of_the_same_size_are_the_same_fleet(name):
    current = getattr(DEFAULT, name)
    a, b = DEFAULT.replace(**{name: np.float64(current)}), DEFAULT
    assert (a, a.hash, type(getattr(a, name))) == (b, b.hash, float)
    assert Instance(charger_kw=10, baseline_utility_usd=200, kappa=1).hash == DEFAULT.hash
    assert Instance(rebate_levels_usd_per_h=[0, 1]).hash == Instance(rebate_levels_usd_per_h=np.array([0.0, 1.0])).hash


ODD = Instance(
    drivers=7,
    periods_per_hour=4,
    rebate_levels_usd_per_h=(0.0, 1 / 3, 0.7),
    rebate_cap_usd_per_h=tuple(h / 24 for h in range(24)),
    price_usd_per_kw=tuple(0.1 + h / 30 for h in range(24)),
    plug_shares=(0.5,),
    plug_probabilities=(1.0,),
    announced=False,
    response="population",
    habit_weight=0.1 + 0.2,
)


@pytest.mark.parametrize("fleet", [DEFAULT, ODD], ids=["default", "odd"])
def test_json_and_toml_round_trip_exactly(tmp_path, fleet):
    (tmp_path / "a.json").write_text(fleet.to_json())
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in fleet.to_dict().items())
    (tmp_path / "a.toml").write_text("".join(lines))
    for twin in (
        Instance.from_dict(fleet.to_dict()),
        Instance.from_file(tmp_path / "a.json"),
        Instance.from_file(str(tmp_path / "a.toml")),
    ):
        assert twin == fleet
        assert twin.hash == fleet.hash


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.toml", ""), ("a.json", "[]"), ("a.json", '{"eta": NaN}'), ("a.toml", "eta = \n"), ("a.toml", "bays = 3")],
)
def test_broken_file_is_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInputError, match=" = .*; allowed: "):
        Instance.from_file(tmp_path / name)


# Prices and games


def certified_bid(game, share):
    """Largest bid that one of the two conditions allows for a single class and requirement, by bisection."""
    each, m = game.requirements[0], game.drivers
    back, ahead = float(bernoulli_backward(share)) ** 2, float(bernoulli_forward(share)) ** 2
    if game.variant == "published":
        back = ahead = share * (1.0 - share)
    eta, psi = each.eta, each.power_kw
    best = 0.0
    for beta, deviation, q in (
        (math.sqrt(-2.0 * math.log(eta)), each.forward, back),
        ((1.0 - eta) / eta * math.sqrt(-2.0 * math.log(1.0 - eta)), each.backward, ahead),
    ):

        def excess(bid, beta=beta, deviation=deviation, q=q):
            return each.mean * bid - psi * m * share + beta * math.hypot(psi * math.sqrt(m * q), deviation * bid)

        if excess(0.0) < 0.0:
            best = max(best, brentq(excess, 0.0, 2.0 * psi * m, xtol=1e-10))
    return best


@pytest.mark.parametrize("change", [{}, {"signals": "published"}, {"eta": 0.05}, {"variant": "published"}])
def test_base_prices_bring_the_reference_fleet_its_published_month(change):
    fleet = Instance(**change)
    diary = time_activity()
    period, flow = np.array(diary.period), np.array(diary.flow)
    shares = np.bincount(period[period >= 0], flow[period >= 0], 24)
    game = fleet.game()
    month = 30.0 * sum(p * certified_bid(game, y) for p, y in zip(fleet.base_price, shares, strict=True))
    assert month / 200 == pytest.approx(211.358, abs=1e-3)


def test_base_prices_do_not_change_with_the_fleet():
    other = Instance(drivers=50, charger_kw=22.0, plugged=0.6, workplace=0.3, baseline_utility_usd=100.0)
    np.testing.assert_array_equal(other.base_price, DEFAULT.base_price)
    assert (Instance(signals="published").base_price < DEFAULT.base_price).all()  # a steadier signal allows more


def test_base_prices_have_the_medians_shape_and_given_ones_stay():
    shape = DEFAULT.base_price / DEFAULT.base_price[0]
    assert shape[21] == pytest.approx((21.33 + 5.68 * 0.92) / (11.35 + 5.68 * 1.03))
    with pytest.raises(ValueError, match="read-only"):
        DEFAULT.base_price[0] = 0.0
    given = tuple(0.01 * (h + 1) for h in range(24))
    assert Instance(price_usd_per_kw=given).base_price.tolist() == list(given)


def test_game_of_a_day_carries_the_fleets_numbers():
    fleet = Instance(
        drivers=50,
        charger_kw=7.0,
        eta=0.2,
        variant="published",
        signals="published",
        rebate_cap_usd_per_h=(0.5,) * 24,
        owner="drivers",
        kappa=2.0,
        periods_per_hour=4,
    )
    game = fleet.game()
    assert isinstance(game, Game)
    assert isinstance(game.classes[0].network, Network)
    assert (game.drivers, game.periods, game.step_h, game.owner, game.kappa) == (50, 96, 0.25, "drivers", 2.0)
    assert (game.choices == 11).all()
    (each,) = game.requirements
    law = SIGNALS["published"]
    assert (each.power_kw, each.eta, each.mean, each.forward) == (7.0, 0.2, 1.0, law.forward)
    assert game.price_usd_per_kw == tuple(np.repeat(fleet.base_price, 4))
    np.testing.assert_allclose(game.classes[0].network.deviation_usd, 0.194 * 0.25)


def test_weekend_and_weather_change_the_network_which_is_built_once():
    weekday, weekend = DEFAULT.game(), DEFAULT.game(weekend=True)
    sunny = DEFAULT.game(plugged=0.65)
    networks = [game.classes[0].network for game in (weekday, weekend, sunny)]
    assert len({network.mean_usd for network in networks}) == 3
    assert networks[0] is DEFAULT.replace(drivers=9).game(price=np.ones(24)).classes[0].network
    assert networks[0] is DEFAULT.network()


def test_prices_of_a_game_may_be_hourly_or_per_period():
    quarter = Instance(periods_per_hour=4)
    hourly = np.arange(1.0, 25.0)
    assert quarter.game(hourly).price_usd_per_kw == tuple(np.repeat(hourly, 4))
    assert quarter.game(np.arange(96.0)).price_usd_per_kw == tuple(range(96))


@pytest.mark.parametrize(
    "arguments",
    [
        {"price": [0.1] * 23},
        {"price": [0.1] * 96},
        {"price": [-0.1] * 24},
        {"price": [NAN] * 24},
        {"price": "high"},
        {"plugged": 0.0},
        {"plugged": 1.0},
        {"plugged": NAN},
    ],
)
def test_game_of_a_bad_day_is_refused(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        DEFAULT.game(**arguments)
