"""Named day sets: counts, roles, disjointness, and the arrays handed to programs."""

import dataclasses
import datetime as dt
from itertools import combinations

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.data.sessions import load_shipped
from v2g_env.data.splits import NAMES, DaySet, day_set, disjoint, sessions_of

DISJOINT = [
    ("jpl-2019/fit", "jpl-2019/test"),
    ("jpl-all/scenarios", "jpl-all/test"),
    ("caltech-all/scenarios", "caltech-all/test"),
    ("jpl-2019-summer", "jpl-2019-autumn"),
    *combinations(("jpl-2019/fit", "jpl-2019/holiday", "jpl-2020/early", "jpl-2020/lockdown", "jpl-2021"), 2),
]


@pytest.mark.parametrize(
    ("name", "days", "role"),
    [
        ("jpl-2019/fit", 96, "fit"),
        ("jpl-2019/test", 48, "test"),
        ("jpl-2019/holiday", 8, "shift"),
        ("jpl-2019-summer", 76, "shift"),
        ("jpl-2019-autumn", 68, "shift"),
        ("jpl-2020/early", 30, "shift"),
        ("jpl-2020/lockdown", 54, "shift"),
        ("jpl-2021", 83, "shift"),
        ("caltech-2019", 174, "shift"),
        ("jpl-all/scenarios", 228, "scenarios"),
        ("jpl-all/test", 113, "test"),
        ("caltech-all/scenarios", 208, "scenarios"),
        ("caltech-all/test", 103, "test"),
    ],
)
def test_counts_and_roles(name, days, role):
    chosen = day_set(name)
    assert (chosen.name, len(chosen.dates), chosen.role, chosen.site) == (name, days, role, name.split("-")[0])


def test_every_third_day_is_test():
    days = sorted(day_set("jpl-2019/fit").dates + day_set("jpl-2019/test").dates)
    assert len(days) == 144
    assert tuple(days[2::3]) == day_set("jpl-2019/test").dates
    assert days[-1] == "2019-12-18"
    assert days == sorted(day_set("jpl-2019-summer").dates + day_set("jpl-2019-autumn").dates)
    for name in ("jpl-2019/fit", "jpl-2019/test"):
        assert np.diff(sessions_of(day_set(name)).offset).min() >= 40


@pytest.mark.parametrize(("site", "days"), [("jpl", 341), ("caltech", 311)])
def test_all_days_of_a_site(site, days):
    together = sorted(day_set(f"{site}-all/scenarios").dates + day_set(f"{site}-all/test").dates)
    assert len(together) == len(set(together)) == days


@pytest.mark.parametrize(("a", "b"), DISJOINT)
def test_families_never_mix(a, b):
    disjoint(day_set(a), day_set(b))
    assert not set(day_set(a).dates) & set(day_set(b).dates)


def test_disjoint_names_the_common_days():
    with pytest.raises(InvalidInputError, match="jpl-2019/test and jpl-2019-autumn = .'2019-09-0.*no common day"):
        disjoint(day_set("jpl-2019/test"), day_set("jpl-2019-autumn"))
    disjoint(day_set("jpl-2019/test"), day_set("caltech-2019"))  # same days, other car park


@pytest.mark.parametrize("name", NAMES)
def test_arrays(name):
    days, table = day_set(name), sessions_of(day_set(name))
    columns = (table.arrival_h, table.departure_h, table.stated_h, table.energy_kwh)
    count = np.diff(table.offset)
    assert table.dates == days.dates
    assert all(dt.date.fromisoformat(day).weekday() < 5 for day in table.dates)
    assert table.offset.dtype == np.int64
    assert table.offset[0] == 0
    assert (count > 0).all()
    for column in columns:
        assert column.dtype == np.float64
        assert column.shape == (table.offset[-1],)
        assert np.isfinite(column).all()
    assert (table.departure_h > table.arrival_h).all()
    assert (table.stated_h > table.arrival_h).all()
    same_day = np.repeat(np.arange(len(count)), count)
    assert (np.diff(table.arrival_h)[np.diff(same_day) == 0] >= 0).all()


def test_arrays_equal_the_table():
    table = load_shipped("jpl")
    arrays = sessions_of(day_set("jpl-2019/test"))
    for d in (0, 20, 47):
        day = table[(table["date"] == dt.date.fromisoformat(arrays.dates[d])) & table["claimed"]]
        rows = slice(arrays.offset[d], arrays.offset[d + 1])
        assert arrays.energy_kwh[rows].tolist() == day["energy_kwh"].tolist()
        assert arrays.stated_h[rows].tolist() == day["stated_departure_h"].tolist()


def test_cached_and_read_only():
    table = sessions_of(day_set("jpl-2019/test"))
    assert table is sessions_of(day_set("jpl-2019/test"))
    for field in dataclasses.fields(table)[2:]:
        with pytest.raises(ValueError, match="read-only"):
            getattr(table, field.name)[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.name = "other"


def test_unknown_name():
    with pytest.raises(InvalidInputError, match="name = 'jpl-2018'; allowed: jpl-2019/fit"):
        day_set("jpl-2018")


@pytest.mark.parametrize(
    "dates", [(), ("2019-05-02", "2019-05-01"), ("2019-05-01", "2019-05-01"), ("2018-05-01",), ("May",), (None,)]
)
def test_own_day_set_with_bad_dates(dates):
    with pytest.raises(InvalidInputError, match="dates"):
        sessions_of(DaySet("mine", "jpl", dates, "shift"))


def test_own_day_set():
    table = sessions_of(DaySet("mine", "caltech", ("2019-05-04",), "shift"))  # a Saturday
    assert table.offset.tolist() == [0, len(table.energy_kwh)]
