"""Energy per driver and day from logs of trips and of charging: hand-made files, invariances and bad input."""

import copy
import datetime as dt
import gzip
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import v2g_env
from v2g_env.core.validate import InvalidInputError
from v2g_env.data.daily_energy import (
    NORWEGIAN_RESIDENTIAL,
    CsvFormat,
    DailyEnergy,
    LogRepairs,
    load_charging_log,
    load_trip_log,
)

ROOT = Path(v2g_env.__file__).resolve().parents[1]
NORWAY = ROOT.parent / "shared" / "data" / "norway" / "Dataset_1_EV_charging_reports.csv"
with_norway = pytest.mark.skipif(not NORWAY.exists(), reason=f"no {NORWAY}")

MONDAY = dt.date(2019, 9, 2).toordinal()
TRIPS = "vehicle,start,end,distance"
GOOD_TRIP = "a,2019-09-02 08:00,2019-09-02 08:30,12"
SESSIONS = "user,start,end,energy_kwh"
GOOD_SESSION = "a,2019-09-02 08:00,2019-09-02 09:30,7.5"


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def table(energy):
    """{driver: {days after Monday: kWh}}."""
    return {
        driver: dict(
            zip(
                (energy.day[energy.offset[i] : energy.offset[i + 1]] - MONDAY).tolist(),
                energy.days_of(i).tolist(),
                strict=True,
            )
        )
        for i, driver in enumerate(energy.drivers)
    }


def test_trips_by_hand(tmp_path):
    path = write(
        tmp_path / "a.csv",
        TRIPS,
        "b,2019-09-05 07:00,2019-09-05 07:30,9",
        GOOD_TRIP,
        "a,2019-09-02 17:00,2019-09-02 17:40,15",
        "a,2019-09-04 23:50,2019-09-05 00:20,30",  # counts on Wednesday, when it starts
    )
    energy = load_trip_log(path)
    assert energy.name == "a.csv"
    assert energy.drivers == ("a", "b")
    assert energy.offset.tolist() == [0, 3, 4]
    assert table(energy) == {"a": {0: 9.0, 1: 0.0, 2: 10.0}, "b": {3: 3.0}}
    assert table(load_trip_log(path, idle_days=False)) == {"a": {0: 9.0, 2: 10.0}, "b": {3: 3.0}}
    assert table(load_trip_log(path, miles_per_kwh=6.0, idle_days=False))["a"] == {0: 4.5, 2: 5.0}
    assert energy.repairs == LogRepairs()
    assert energy.repairs.total == 0
    assert (energy.offset.dtype, energy.day.dtype, energy.energy_kwh.dtype) == (np.int64, np.int64, np.float64)


def test_units_by_hand(tmp_path):
    trip = "a,2019-09-0{0} 08:00,2019-09-0{0} 08:30,{1},{2}"
    rows = [
        trip.format(*row)
        for row in ((2, 6, "mile"), (3, 9.656064, "km"), (4, 9656.064, "m"), (5, 2, "kWh"), (6, 0, "m"))
    ]
    energy = load_trip_log(write(tmp_path / "a.csv", f"{TRIPS},unit", *rows), unit="km")  # the column wins
    assert energy.days_of(0) == pytest.approx([2.0, 2.0, 2.0, 2.0, 0.0])


def test_unit_of_the_whole_file(tmp_path):
    path = write(tmp_path / "a.csv", TRIPS, GOOD_TRIP)
    expected = {"mile": 4.0, "km": 4.0 / 1.609344, "m": 0.004 / 1.609344, "kWh": 12.0}
    for unit, energy_kwh in expected.items():
        assert load_trip_log(path, unit=unit).energy_kwh == pytest.approx([energy_kwh], rel=1e-12)


def test_columns_format_and_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    text = "von;Wagen;bis;Strecke;Rest\n02.09.2019 22:00; a ;03.09.2019 06:00;1,5;x\n"
    path.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    columns = {"vehicle": "Wagen", "start": "von", "end": "bis", "distance": "Strecke"}
    form = CsvFormat(";", ",", "%d.%m.%Y %H:%M")
    energy = load_trip_log(path, columns, unit="kWh", timezone="Europe/Oslo", form=form)
    assert table(energy) == {"a": {0: 1.5}}


def test_sessions_by_hand(tmp_path):
    path = write(
        tmp_path / "a.csv",
        SESSIONS,
        "b,2019-09-04 23:00,2019-09-05 07:00,20",
        GOOD_SESSION,
        "a,2019-09-02 09:00,2019-09-02 11:00,2.5",  # a second car of the user
        "a,2019-09-04 09:00,NA,1",
        "a,2019-09-04 10:00,,2",
    )
    energy = load_charging_log(path)
    assert table(energy) == {"a": {0: 10.0, 2: 3.0}, "b": {2: 20.0}}
    assert table(load_charging_log(path, idle_days=True))["a"] == {0: 10.0, 1: 0.0, 2: 3.0}


def test_sessions_need_no_column_of_ends(tmp_path):
    path = write(tmp_path / "a.csv", "user,start,energy_kwh", "a,2019-09-02 08:00,7.5")
    assert table(load_charging_log(path)) == {"a": {0: 7.5}}
    same = write(tmp_path / "b.csv", "who,start,end,energy_kwh", "a,2019-09-02 08:00,never,7.5")
    columns = {"user": "who", "start": "start", "energy_kwh": "energy_kwh"}
    assert table(load_charging_log(same, columns)) == {"a": {0: 7.5}}


@pytest.mark.parametrize(
    ("start", "zone", "day"),
    [
        ("2019-09-03T05:00Z", "America/Los_Angeles", 0),  # 22:00 on Monday
        ("2019-09-03T05:00Z", "Europe/Oslo", 1),
        ("2019-09-03T05:00", "America/Los_Angeles", 1),  # local clock time
        ("2019-09-02T23:30-01:00", "UTC", 1),
    ],
)
def test_days_are_local(tmp_path, start, zone, day):
    path = write(tmp_path / "a.csv", "user,start,energy_kwh", f"a,{start},7.5")
    assert table(load_charging_log(path, timezone=zone)) == {"a": {day: 7.5}}


def test_time_format_with_offset(tmp_path):
    path = write(tmp_path / "a.csv", "user,start,energy_kwh", "a,03/09/2019 05:00 +0000,7.5")
    assert table(load_charging_log(path, form=CsvFormat(time_format="%d/%m/%Y %H:%M %z"))) == {"a": {0: 7.5}}


def test_overlap_is_judged_in_absolute_time(tmp_path):
    """Clocks go back from 2:00 to 1:00: of two trips within the repeated hour the later one has the earlier clock."""
    apart = ("a,2019-11-03 01:40-07:00,2019-11-03 01:50-07:00,3", "a,2019-11-03 01:10-08:00,2019-11-03 01:20-08:00,3")
    assert load_trip_log(write(tmp_path / "a.csv", TRIPS, *apart)).energy_kwh.tolist() == [2.0]
    # on the clock 10:30 to 10:40 lies after 10:00 to 10:20, but 17:10 UTC is before 17:20 UTC
    both = ("a,2019-09-02 10:00-07:00,2019-09-02 10:20-07:00,3", "a,2019-09-02 10:40-06:30,2019-09-02 10:50-06:30,3")
    with pytest.raises(InvalidInputError, match=r"row 2 start = .*; allowed: not before row 1 ends, .* 17:20:00 UTC"):
        load_trip_log(write(tmp_path / "a.csv", TRIPS, *both))


def test_reversal_is_judged_in_absolute_time(tmp_path):
    through = "a,2019-11-03 01:50-07:00,2019-11-03 01:10-08:00,3"  # 20 minutes
    assert load_trip_log(write(tmp_path / "a.csv", TRIPS, through)).energy_kwh.tolist() == [1.0]


def test_days_stay_in_order_where_clocks_go_back_over_midnight(tmp_path):
    """In Newfoundland the 7th of November 2010 had begun for a minute when clocks went back to 23:01 of the 6th."""
    rows = ("a,2010-11-07 02:30:30Z,1", "a,2010-11-07 02:45Z,2", "a,2010-11-07 03:45Z,4")
    for idle_days in (False, True):
        energy = load_charging_log(
            write(tmp_path / "a.csv", "user,start,energy_kwh", *rows), timezone="America/St_Johns", idle_days=idle_days
        )
        assert energy.day.tolist() == [dt.date(2010, 11, 6).toordinal(), dt.date(2010, 11, 7).toordinal()]
        assert energy.energy_kwh.tolist() == [2.0, 5.0]


def test_trips_may_touch_and_have_no_length(tmp_path):
    rows = (
        GOOD_TRIP,
        "a,2019-09-02 08:30,2019-09-02 08:30,3",
        "a,2019-09-02 08:30,2019-09-02 09:00,3",
        GOOD_TRIP.replace("a,", "b,"),  # another vehicle
    )
    assert table(load_trip_log(write(tmp_path / "a.csv", TRIPS, *rows))) == {"a": {0: 6.0}, "b": {0: 4.0}}


def test_equal_numbers_in_different_units_are_no_copies(tmp_path):
    moment = "a,2019-09-02 08:30,2019-09-02 08:30,3"
    assert table(load_trip_log(write(tmp_path / "a.csv", f"{TRIPS},unit", f"{moment},mile", f"{moment},kWh"))) == {
        "a": {0: 4.0}
    }


WEEK = dt.datetime(2019, 9, 2, tzinfo=dt.UTC)
# per vehicle: minutes of standstill, minutes of driving, miles
DRIVES = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300), st.floats(0, 500)), min_size=1, max_size=6)
FLEETS = st.lists(DRIVES, min_size=1, max_size=4)


def rows_of(fleet, scale=1.0):
    rows, seen = [], set()
    for vehicle, drives in enumerate(fleet):
        time = WEEK
        for wait_min, drive_min, miles in drives:
            start = time + dt.timedelta(minutes=wait_min)
            time = start + dt.timedelta(minutes=drive_min)
            row = f"car {vehicle},{start.isoformat()},{time.isoformat()},{miles * scale!r}"
            if row not in seen:  # trips without length may repeat
                rows.append(row)
                seen.add(row)
    return rows


def same(a, b, rel):
    assert (a.drivers, a.offset.tolist(), a.day.tolist()) == (b.drivers, b.offset.tolist(), b.day.tolist())
    assert a.energy_kwh == pytest.approx(b.energy_kwh, rel=rel)


@settings(max_examples=30, deadline=None)
@given(FLEETS, st.randoms(use_true_random=False), st.booleans())
def test_total_energy_is_preserved_and_row_order_does_not_matter(tmp_path_factory, fleet, random, idle_days):
    folder, rows = tmp_path_factory.mktemp("fleet"), rows_of(fleet)
    energy = load_trip_log(write(folder / "a.csv", TRIPS, *rows), miles_per_kwh=4.0, idle_days=idle_days)
    assert energy.energy_kwh.sum() == pytest.approx(sum(float(row.split(",")[3]) for row in rows) / 4.0)
    random.shuffle(rows)
    shuffled = load_trip_log(write(folder / "b.csv", TRIPS, *rows), miles_per_kwh=4.0, idle_days=idle_days)
    same(energy, shuffled, rel=0.0)


@settings(max_examples=20, deadline=None)
@given(FLEETS)
def test_miles_and_kilometres_give_the_same_energies(tmp_path_factory, fleet):
    folder = tmp_path_factory.mktemp("units")
    miles = load_trip_log(write(folder / "a.csv", TRIPS, *rows_of(fleet)))
    km = load_trip_log(write(folder / "b.csv", TRIPS, *rows_of(fleet, 1.609344)), unit="km")
    same(miles, km, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(1, 59), st.integers(0, 100), st.integers(0, 100))
def test_splitting_a_trip_within_its_day_leaves_the_energies_unchanged(tmp_path_factory, day, minute, first, second):
    folder, date = tmp_path_factory.mktemp("split"), f"2019-09-0{3 + day}"
    around = ("a,2019-09-02 08:00,2019-09-02 09:00,5", "a,2019-09-06 08:00,2019-09-06 09:00,5")
    whole = f"a,{date} 23:00,2019-09-0{4 + day} 00:30,{first + second}"
    halves = (
        f"a,{date} 23:00,{date} 23:{minute:02d},{first}",
        f"a,{date} 23:{minute:02d},2019-09-0{4 + day} 00:30,{second}",
    )
    one = load_trip_log(write(folder / "a.csv", TRIPS, *around, whole))
    two = load_trip_log(write(folder / "b.csv", TRIPS, *around, *halves))
    same(one, two, rel=1e-12)


BAD_TRIPS = [
    (",2019-09-02 10:00,2019-09-02 11:00,1,km", "vehicle", "bad_value"),
    ("NA,2019-09-02 10:00,2019-09-02 11:00,1,km", "vehicle", "bad_value"),
    ("a,,2019-09-02 11:00,1,km", "start", "bad_value"),
    ("a,noon,2019-09-02 11:00,1,km", "start", "bad_value"),
    ("a,2019-09-02,2019-09-02 11:00,1,km", "start", "bad_value"),
    ("a,2019-11-03 01:30,2019-11-03 11:00,1,km", "start", "bad_value"),  # occurs twice
    ("a,2020-03-08 02:30,2020-03-08 11:00,1,km", "start", "bad_value"),  # never occurs
    ("a,0001-01-01T00:00Z,2019-09-02 11:00,1,km", "start", "bad_value"),  # no such year in California
    ("a,2019-09-02 10:00,NA,1,km", "end", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,-1,km", "distance", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,nan,km", "distance", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,inf,km", "distance", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,,km", "distance", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,far,km", "distance", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,1_000,km", "distance", "bad_value"),
    ('a,2019-09-02 10:00,2019-09-02 11:00,"1,5",km', "distance", "bad_value"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,1,league", "unit", "unknown_unit"),
    ("a,2019-09-02 10:00,2019-09-02 11:00,1,", "unit", "unknown_unit"),
    ("a,2019-09-02 10:00,2019-09-02 09:59,1,km", "end", "reversed"),
    (f"{GOOD_TRIP},mile", "start", "duplicate"),
    ("a,2019-09-02 08:00-07:00,2019-09-02T15:30Z,12.0,mile", "start", "duplicate"),
    ("a,2019-09-02 08:29,2019-09-02 09:00,1,km", "start", "overlapping"),
    ("a,2019-09-02 08:10,2019-09-02 08:10,1,km", "start", "overlapping"),
    ("a,2019-09-02 08:00,2019-09-02 08:31,1,km", "start", "overlapping"),
]


@pytest.mark.parametrize(("line", "field", "reason"), BAD_TRIPS)
def test_bad_trip_raises_or_is_counted(tmp_path, line, field, reason):
    path = write(tmp_path / "bad.csv", f"{TRIPS},unit", f"{GOOD_TRIP},mile", line)
    with pytest.raises(InvalidInputError, match=rf"bad.csv row 2 {field} = '.*; allowed: ."):
        load_trip_log(path)
    energy = load_trip_log(path, repair=True)
    assert table(energy) == {"a": {0: 4.0}}
    assert energy.repairs == LogRepairs(**{reason: 1})


BAD_SESSIONS = [
    ("a,2019-09-02 10:00,2019-09-02 09:00,1", "end", "reversed"),
    ("a,2019-09-02 10:00,late,1", "end", "bad_value"),  # unlike a missing end
    ("a,NA,2019-09-02 09:00,1", "start", "bad_value"),
    ("na,2019-09-02 10:00,,1", "user", "bad_value"),
    ("a,2019-09-02 10:00,,-0.5", "energy_kwh", "bad_value"),
    ("a,2019-09-02 10:00,,NaN", "energy_kwh", "bad_value"),
    ("a,2019-09-02 10:00,,Infinity", "energy_kwh", "bad_value"),
    ("a,2019-09-02 10:00,,", "energy_kwh", "bad_value"),
    (GOOD_SESSION, "start", "duplicate"),
]


@pytest.mark.parametrize(("line", "field", "reason"), BAD_SESSIONS)
def test_bad_session_raises_or_is_counted(tmp_path, line, field, reason):
    path = write(tmp_path / "bad.csv", SESSIONS, GOOD_SESSION, line)
    with pytest.raises(InvalidInputError, match=rf"bad.csv row 2 {field} = '.*; allowed: ."):
        load_charging_log(path)
    energy = load_charging_log(path, repair=True)
    assert table(energy) == {"a": {0: 7.5}}
    assert energy.repairs == LogRepairs(**{reason: 1})


def test_error_names_column_and_units(tmp_path):
    columns = {"vehicle": "v", "start": "s", "end": "e", "distance": "d", "unit": "u"}
    path = write(tmp_path / "bad.csv", "v,s,e,d,u", f"{GOOD_TRIP},mile", f"{GOOD_TRIP.replace('a,', 'b,')},ft")
    with pytest.raises(InvalidInputError, match="bad.csv row 2 u = 'ft'; allowed: one of mile, km, m, kWh"):
        load_trip_log(path, columns)


def test_repairs_add_up_whatever_the_order_of_rows(tmp_path):
    rows = [f"{GOOD_TRIP},mile", *dict.fromkeys(line for line, _, _ in BAD_TRIPS)]
    rows += ["a,2019-09-03 08:00,2019-09-03 10:00,3,kWh", "a,2019-09-03 09:00,2019-09-03 12:00,5,kWh"]
    rows += ["a,2019-09-03 11:00,2019-09-03 13:00,7,kWh"]  # overlaps only the one that is dropped
    expected = LogRepairs(bad_value=16, unknown_unit=2, reversed=1, duplicate=2, overlapping=4)
    for order in (rows, rows[::-1]):
        energy = load_trip_log(write(tmp_path / "bad.csv", f"{TRIPS},unit", *order), repair=True)
        assert table(energy) == {"a": {0: 4.0, 1: 10.0}}
        assert energy.repairs == expected
        assert energy.repairs.total == 25 == len(rows) - 3


def test_first_bad_row_of_several_is_named(tmp_path):
    late, early = "a,2019-09-07 10:00,2019-09-07 09:00,1", "a,2019-09-02 10:00,2019-09-02 09:00,1"
    with pytest.raises(InvalidInputError, match="row 2 end"):
        load_trip_log(write(tmp_path / "bad.csv", TRIPS, GOOD_TRIP, late, early))


WHOLE = f"{TRIPS}\n{GOOD_TRIP}\n".encode()


@pytest.mark.parametrize(
    ("content", "options", "text"),
    [
        (b"", {}, "content of .*bad.csv"),
        (b"\n \n", {}, "content of .*bad.csv"),
        (b"vehicle,start,end,distance\n", {}, "trips in .*bad.csv = 0; allowed: at least one"),
        (b"vehicle,start,end\n1,2,3\n", {}, "bad.csv header = .*; allowed: a header with 'distance'"),
        (
            WHOLE,
            {"columns": {"vehicle": "vehicle", "start": "start"}},
            "a mapping with 'vehicle', 'start', 'end', 'dis",
        ),
        (WHOLE, {"columns": {"driver": "vehicle"}}, r"columns = \['driver'\]; allowed: keys among vehicle, start"),
        (WHOLE, {"columns": dict.fromkeys(TRIPS.split(","), "x")}, "header = .*; allowed: a header with 'x'"),
        (b"vehicle,vehicle\n1,2\n", {}, "distinct column names"),
        (WHOLE[:-5].rsplit(b",", 1)[0], {}, "row 1 = .*; allowed: 4 values"),
        (WHOLE + b'"a,', {}, "comma-separated text"),
        (WHOLE + b'"a,', {"form": CsvFormat(";")}, "text separated by ';'"),
        (WHOLE, {"form": CsvFormat(";")}, "a header with 'vehicle'"),
        (b"\xff\xfe" + WHOLE, {}, "complete UTF-8 text"),
        (gzip.compress(WHOLE * 99, mtime=0)[:-20], {}, "complete UTF-8 text, plain or gzip"),
        (WHOLE, {"timezone": "Mars/Crater"}, "timezone = 'Mars/Crater'; allowed: an IANA time zone"),
        (WHOLE, {"unit": "miles"}, "unit = 'miles'; allowed: one of mile, km, m, kWh"),
        (WHOLE, {"miles_per_kwh": 0.0}, "miles_per_kwh = 0.0; allowed: "),
        (WHOLE, {"miles_per_kwh": float("nan")}, "miles_per_kwh = nan; allowed: "),
        (b"vehicle,start,end,distance\na,x,y,z\n", {"repair": True}, "usable trips in .*bad.csv = 0"),
    ],
)
def test_broken_file_or_argument_is_an_error_with_or_without_repair(tmp_path, content, options, text):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    for repair in {options.get("repair", False), True}:
        with pytest.raises(InvalidInputError, match=text):
            load_trip_log(path, **{**options, "repair": repair})


def test_absent_file(tmp_path):
    for load in (load_trip_log, load_charging_log):
        with pytest.raises(InvalidInputError, match="absent.*; allowed: a readable file"):
            load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delimiter": "::"}, "delimiter"),
        ({"decimal": "'"}, "decimal"),
        ({"time_format": "%Y-%m-%d %H:%M %Z"}, "time_format"),  # strptime reads the zone and forgets it
        ({"time_format": "ISO"}, "time_format"),
    ],
)
def test_bad_format(options, field):
    with pytest.raises(InvalidInputError, match=f"{field} = .*; allowed: "):
        CsvFormat(**options)


@pytest.mark.parametrize("cell", ["1.5", "1.500,0", "1,500,0"])
def test_decimal_comma_excludes_points(tmp_path, cell):
    path = write(tmp_path / "bad.csv", "user;start;energy_kwh", f"a;2019-09-02 08:00;{cell}")
    with pytest.raises(InvalidInputError, match="row 1 energy_kwh = .*with decimal mark ','"):
        load_charging_log(path, form=CsvFormat(";", ","))


def make(drivers=("a", "b"), offset=(0, 3, 5), day=(1, 2, 4, 1, 2), energy_kwh=(1.0, 0.0, 2.0, 0.0, 5.0)):
    return DailyEnergy(
        "made", drivers, np.array(offset, np.int64), np.array(day, np.int64), np.array(energy_kwh, np.float64)
    )


def test_select_counts_days_with_energy():
    energy = make()
    assert energy.select().drivers == ("a", "b")
    kept = energy.select(min_days=2)
    assert (kept.name, kept.drivers, kept.offset.tolist(), kept.day.tolist()) == ("made", ("a",), [0, 3], [1, 2, 4])
    assert kept.energy_kwh.tolist() == [1.0, 0.0, 2.0]
    other = make(energy_kwh=(0.0, 0.0, 0.0, 0.0, 5.0)).select()
    assert (other.drivers, other.offset.tolist(), other.days_of(0).tolist()) == (("b",), [0, 2], [0.0, 5.0])
    assert energy.select(min_days=0).energy_kwh.tolist() == energy.energy_kwh.tolist()
    with pytest.raises(InvalidInputError, match="min_days = 3; allowed: at most 2"):
        energy.select(min_days=3)
    with pytest.raises(InvalidInputError, match="min_days"):
        energy.select(min_days=1.5)


def test_days_of_an_unknown_driver():
    for driver in (-1, 2, True, "a"):
        with pytest.raises(InvalidInputError, match=r"driver = .*; allowed: an integer in \[0, 1\]"):
            make().days_of(driver)


def test_arrays_are_read_only_in_copies_too():
    energy = make()
    for each in (energy, copy.deepcopy(energy), pickle.loads(pickle.dumps(energy)), energy.select(min_days=2)):
        for column in (each.offset, each.day, each.energy_kwh, each.days_of(0)):
            with pytest.raises(ValueError, match="read-only"):
                column[0] = 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"drivers": ("b", "a")}, "drivers"),
        ({"drivers": ("a", "a")}, "drivers"),
        ({"drivers": (), "offset": (0,), "day": (), "energy_kwh": ()}, "drivers"),
        ({"offset": (0, 5)}, "offset"),
        ({"offset": (0, 0, 5)}, "offset"),
        ({"offset": (0, 3, 4)}, "offset"),
        ({"day": (1, 2, 2, 1, 2)}, "day"),
        ({"energy_kwh": (1.0, 0.0, -2.0, 0.0, 5.0)}, "energy_kwh"),
        ({"energy_kwh": (1.0, 0.0, np.inf, 0.0, 5.0)}, "energy_kwh"),
        ({"energy_kwh": (1.0, 0.0)}, "energy_kwh"),
    ],
)
def test_hand_made_energies_are_checked(change, field):
    with pytest.raises(InvalidInputError, match=f"{field}.* = .*; allowed: "):
        make(**change)


def test_import_loads_no_pandas():
    code = "import sys, v2g_env.data.daily_energy; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_norwegian_format_by_hand(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "session_ID;Garage_ID;User_ID;User_type;Start_plugin;End_plugout;El_kWh",
        "1;AdO3;AdO3-4;Private;21.12.2018 10:20;21.12.2018 10:23;0,3",
        "2;AdO3;AdO3-4;Private;21.12.2018 23:33;22.12.2018 09:46;29,87",
        "3;AdO3;AdO3-2;Shared;22.12.2018 16:15;NA;15,56",
    )
    energy = load_charging_log(path, **NORWEGIAN_RESIDENTIAL)
    first = dt.date(2018, 12, 21).toordinal()
    assert energy.drivers == ("AdO3-2", "AdO3-4")
    assert energy.day.tolist() == [first + 1, first]
    assert energy.energy_kwh == pytest.approx([15.56, 30.17])


@with_norway
def test_norwegian_data_have_their_known_figures():
    energy = load_charging_log(NORWAY, **NORWEGIAN_RESIDENTIAL)
    assert energy.repairs.total == 0
    assert len(energy.drivers) == 97
    assert len(energy.select(min_days=30).drivers) == 57
    percentiles = np.percentile(energy.energy_kwh, [5, 25, 50, 75, 95])
    assert percentiles == pytest.approx([3.46, 7.77, 12.94, 19.98, 45.68], abs=5e-3)
    rows = [line.split(";") for line in NORWAY.read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) == 6878
    assert sum(row[7] == "NA" for row in rows) == 34
    assert energy.energy_kwh.sum() == pytest.approx(sum(float(row[9].replace(",", ".")) for row in rows))
