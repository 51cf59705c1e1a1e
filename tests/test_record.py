"""What all instances can do, tried on a small one: being given as an object, as a mapping, or not at all."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType

import pytest

from v2g_env.core.validate import InvalidInputError, number
from v2g_env.record import Record


@dataclass(frozen=True)
class Shop(Record):
    """Two numbers and a tuple."""

    rooms: int = 3
    rent_usd: float = 2.5
    hours: tuple[float, ...] = (9.0, 17.0)

    def __post_init__(self):
        """Check and settle the numbers, as every instance does."""
        number("rooms", self.rooms, 1, 10, integer=True)
        self.settle_numbers()


@dataclass(frozen=True)
class Kiosk(Record):
    """Another record with the same field."""

    rooms: int = 3


def test_nothing_means_the_defaults():
    assert Shop.of(None) == Shop()
    assert type(Shop.of(None)) is Shop


def test_an_instance_is_taken_as_it_is():
    shop = Shop(rooms=5)
    assert Shop.of(shop) is shop


@pytest.mark.parametrize("kind", [dict, OrderedDict, lambda fields: MappingProxyType(dict(fields))])
def test_a_mapping_of_any_kind_gives_some_fields_and_leaves_the_others(kind):
    given = kind({"rooms": 7, "hours": [8, 12.0]})
    assert Shop.of(given) == Shop(rooms=7, hours=(8, 12.0))
    assert Shop.of(given).rent_usd == 2.5
    assert given["hours"] == [8, 12.0]
    assert Shop.of(kind({})) == Shop()


def test_of_and_from_dict_agree_on_every_written_instance():
    shop = Shop(rooms=2, rent_usd=1 / 3, hours=(0.1,))
    assert Shop.of(shop.to_dict()) == Shop.from_dict(shop.to_dict()) == shop
    assert Shop.of(shop.to_dict()).hash == shop.hash


@pytest.mark.parametrize("given", [{"room": 3}, {"rooms": 3, "hash": "0"}, {"": 1}, {1: 2}])
def test_unknown_fields_of_a_mapping_are_refused_and_the_known_ones_named(given):
    with pytest.raises(InvalidInputError, match="field of the instance = .*; allowed: rooms, rent_usd, hours"):
        Shop.of(given)


@pytest.mark.parametrize("rooms", [0, 11, 2.5, True, "3", None])
def test_bad_value_in_a_mapping_is_refused_by_name(rooms):
    with pytest.raises(InvalidInputError, match="rooms = "):
        Shop.of({"rooms": rooms})


@pytest.mark.parametrize("given", [3, 0, "shop.toml", "", b"", [], [("rooms", 3)], (), Kiosk(), Shop, {"rooms"}, False])
def test_anything_else_is_refused_also_when_it_is_empty_or_another_record(given):
    with pytest.raises(
        InvalidInputError, match="instance = .*; allowed: an Instance, a mapping of its fields, or None"
    ):
        Shop.of(given)
