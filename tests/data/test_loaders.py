"""Loading CSV and ACN-Data JSON: hand-made files, round trips, clock changes and broken input."""

import datetime as dt
import gzip
import json
from email.utils import format_datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2g_env.core.validate import InvalidInputError
from v2g_env.data.sessions import load_acn_json, load_csv

DAY = dt.date(2019, 5, 1)  # a Wednesday


def stay(table):
    return table["departure_h"] - table["arrival_h"]


HEADER = "arrival,departure,stated_departure,energy_kwh,requested_kwh,station,session,site"
GOOD = "2019-05-01T08:30:00,2019-05-01T17:00:00,2019-05-01T16:30:00,10.5,20,P1,s1,depot"


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_csv_by_hand(tmp_path):
    night = "2019-05-01T15:00:00Z,2019-05-02T14:00:00+00:00,,,,,,"
    table = load_csv(write(tmp_path / "a.csv", HEADER, GOOD, night))
    assert table["arrival_h"].tolist() == [8.0, 8.5]  # 15:00 UTC is 08:00 in California
    assert table["departure_h"].tolist() == [31.0, 17.0]
    assert table["claimed"].tolist() == [False, True]
    assert table.loc[1, ["stated_departure_h", "energy_kwh", "requested_kwh"]].tolist() == [16.5, 10.5, 20.0]
    assert table.loc[0, ["stated_departure_h", "energy_kwh", "requested_kwh"]].isna().all()
    assert table["session"].tolist() == ["row 2", "s1"]
    assert table["date"].tolist() == [DAY, DAY]


def test_csv_mapping_zone_and_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"in,out\n2019-05-01 22:00,2019-05-02 06:00+02:00\n"))
    table = load_csv(path, {"arrival": "in", "departure": "out"}, timezone="Europe/Oslo", site="oslo")
    assert table.loc[0, ["site", "date", "arrival_h", "departure_h"]].tolist() == ["oslo", DAY, 22.0, 30.0]


@pytest.mark.parametrize(
    ("arrival", "departure", "hours"),
    [
        ("2019-11-02 20:00", "2019-11-03 08:00", (20.0, 33.0)),  # the night has 25 hours
        ("2020-03-07 20:00", "2020-03-08 08:00", (20.0, 31.0)),  # the night has 23 hours
        ("2020-03-08 12:00", "2020-03-08 15:00", (12.0, 15.0)),  # clock at arrival, though 11 hours have passed
        ("2019-11-03 01:30-07:00", "2019-11-03 01:30-08:00", (1.5, 2.5)),  # the repeated hour
    ],
)
def test_clock_changes(tmp_path, arrival, departure, hours):
    table = load_csv(write(tmp_path / "a.csv", "arrival,departure", f"{arrival},{departure}"))
    assert (table.loc[0, "arrival_h"], table.loc[0, "departure_h"]) == hours


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.datetimes(dt.datetime(2019, 1, 1), dt.datetime(2021, 12, 31)),
            st.integers(1, 200_000),
            st.none() | st.integers(1, 200_000),
            st.none() | st.floats(0, 1e6),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_csv_round_trip_keeps_stays_and_energy(tmp_path_factory, rows):
    lines = ["arrival,departure,stated_departure,energy_kwh"]
    for arrival, stay_s, stated_s, energy_kwh in rows:
        start = arrival.replace(tzinfo=dt.UTC)
        times = [None if s is None else start + dt.timedelta(seconds=s) for s in (0, stay_s, stated_s)]
        lines.append(",".join(["" if v is None else str(v) for v in (*times, energy_kwh)]))
    table = load_csv(write(tmp_path_factory.mktemp("rt") / "a.csv", *lines))
    table = table.assign(row=[int(s.split()[1]) for s in table["session"]]).sort_values("row")
    assert stay(table).to_numpy() * 3600 == pytest.approx(np.array([r[1] for r in rows]), abs=1e-4)
    stated_h = (table["stated_departure_h"] - table["arrival_h"]).to_numpy() * 3600
    assert stated_h == pytest.approx(np.array([np.nan if r[2] is None else r[2] for r in rows]), abs=1e-4, nan_ok=True)
    assert table["energy_kwh"].tolist() == pytest.approx([np.nan if r[3] is None else r[3] for r in rows], nan_ok=True)


BAD_ROWS = {
    "departure": ("2019-05-01T08:30:00,2019-05-01T08:30:00,,1,1,P,s2,depot", "departure_not_after_arrival"),
    "stated_departure": (
        "2019-05-01T08:30:00,2019-05-01T09:30:00,2019-05-01T08:00:00,1,1,P,s2,depot",
        "stated_not_after_arrival",
    ),
    "session": (GOOD.replace(",P1,", ",P2,"), "duplicate"),
    "arrival": ("tomorrow,2019-05-01T09:30:00,,1,1,P,s2,depot", "bad_value"),
    "arrival ": ("2020-03-08T02:30:00,2020-03-08T09:30:00,,1,1,P,s2,depot", "bad_value"),  # clocks skip this hour
    " departure": ("2019-11-02T22:00:00,2019-11-03T01:30:00,,1,1,P,s2,depot", "bad_value"),  # and repeat this one
    "departure ": ("2019-05-01T08:30:00,,,1,1,P,s2,depot", "bad_value"),
    "arrival  ": ("2019-05-01,2019-05-01T09:30:00,,1,1,P,s2,depot", "bad_value"),
    "energy_kwh": ("2019-05-01T08:30:00,2019-05-01T09:30:00,,-1,1,P,s2,depot", "bad_value"),
    "energy_kwh ": ("2019-05-01T08:30:00,2019-05-01T09:30:00,,inf,1,P,s2,depot", "bad_value"),
    "requested_kwh": ("2019-05-01T08:30:00,2019-05-01T09:30:00,,1,much,P,s2,depot", "bad_value"),
}


@pytest.mark.parametrize("field", BAD_ROWS)
def test_bad_row_raises_or_is_counted(tmp_path, field):
    line, reason = BAD_ROWS[field]
    path = write(tmp_path / "bad.csv", HEADER, GOOD, line)
    with pytest.raises(InvalidInputError, match=rf"bad.csv row 2 {field.strip()} = .*; allowed: "):
        load_csv(path)
    table = load_csv(path, repair=True)
    repairs = table.attrs["repairs"]
    assert (len(table), repairs.total, getattr(repairs, reason)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("content", "options", "text"),
    [
        (b"", {}, "content of .*bad.csv"),
        (b"arrival,departure\n", {}, "sessions in .*bad.csv = 0"),
        (b"arrival,leaving\n1,2\n", {}, "a header with 'departure'"),
        (b"arrival,departure\n1,2\n", {"columns": {"arrival": "arrival"}}, "a mapping with 'arrival' and 'departure'"),
        (b"arrival,departure\n1,2\n", {"columns": {"plug": "arrival"}}, r"columns = \['plug'\]"),
        (b"arrival,arrival\n1,2\n", {}, "distinct column names"),
        (b"arrival,departure\n2019-05-01 08:00\n", {}, "row 1 = .*; allowed: 2 values"),
        (b'arrival,departure\n"2019-05-01 08:00,x\n', {}, "comma-separated text"),
        (b"arrival,departure\n\xff\xfe,2\n", {}, "complete UTF-8 text"),
        (gzip.compress(HEADER.encode() * 99)[:-20], {}, "complete UTF-8 text, plain or gzip"),
        (b"arrival,departure\n2019-05-01 08:00,2019-05-01 09:00\n", {"timezone": "Mars/Crater"}, "IANA time zone"),
        (b"arrival,departure,claimed\n2019-05-01 08:00,2019-05-01 09:00,maybe\n", {}, "row 1 claimed = 'maybe'"),
        (b"arrival,departure\nx,y\n", {"repair": True}, "usable sessions in .* = 0"),
    ],
)
def test_broken_csv(tmp_path, content, options, text):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=text):
        load_csv(path, **options)


def test_absent_file(tmp_path):
    for load in (load_csv, load_acn_json):
        with pytest.raises(InvalidInputError, match="absent.*; allowed: a readable file"):
            load(tmp_path / "absent")


def gmt(hour, minute=0):
    return format_datetime(dt.datetime(2019, 5, 1, hour, minute, tzinfo=dt.UTC), usegmt=True)


def item(**changes):
    inputs = [
        {"requestedDeparture": gmt(20), "kWhRequested": 9.0},
        {"requestedDeparture": gmt(22, 30), "kWhRequested": 12.5, "milesRequested": 40},
    ]
    base = {
        "_id": "x",
        "connectionTime": gmt(15),
        "disconnectTime": gmt(23, 15),
        "doneChargingTime": None,
        "kWhDelivered": 7.25,
        "sessionID": "2_1",
        "siteID": "0002",
        "spaceID": "CA-1",
        "stationID": "2-39-1",
        "timezone": "America/Los_Angeles",
        "userInputs": inputs,
    }
    return {**base, **changes}


def save(path, items):
    path.write_text(json.dumps({"_meta": {}, "_items": items}), encoding="utf-8")
    return path


def test_json_by_hand(tmp_path):
    silent = item(sessionID="2_2", siteID="0099", connectionTime=gmt(14), userInputs=None, timezone="Europe/Berlin")
    table = load_acn_json(save(tmp_path / "a.json", [item(), silent]))
    assert table["arrival_h"].tolist() == [8.0, 16.0]
    assert table["departure_h"].tolist() == [16.25, 25.25]
    assert table["claimed"].tolist() == [True, False]
    last_input = table.loc[0, ["stated_departure_h", "requested_kwh", "energy_kwh"]].tolist()
    assert last_input == [15.5, 12.5, 7.25]
    assert table[["site", "station", "session"]].to_numpy().tolist() == [
        ["caltech", "CA-1", "2_1"],
        ["0099", "CA-1", "2_2"],
    ]


def test_json_equals_csv(tmp_path):
    row = "2019-05-01T08:00:00,2019-05-01T16:15:00,2019-05-01T15:30:00,7.25,12.5,CA-1,2_1,caltech"
    from_csv = load_csv(write(tmp_path / "a.csv", HEADER, row))
    pd.testing.assert_frame_equal(load_acn_json(save(tmp_path / "a.json", [item()])), from_csv)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"disconnectTime": None}, "disconnectTime", "bad_value"),
        ({"connectionTime": "2019-05-01"}, "connectionTime", "bad_value"),
        ({"connectionTime": "Wed, 99 May 2019 15:00:00 GMT"}, "connectionTime", "bad_value"),
        ({"disconnectTime": gmt(14)}, "disconnectTime", "departure_not_after_arrival"),
        ({"kWhDelivered": True}, "kWhDelivered", "bad_value"),
        ({"timezone": None}, "timezone", "bad_value"),
        ({"userInputs": [{"requestedDeparture": gmt(3), "kWhRequested": 1}]}, "requestedDeparture", "stated_not_after"),
        ({"sessionID": "2_1"}, "sessionID", "duplicate"),
    ],
)
def test_json_bad_value(tmp_path, changes, field, reason):
    path = save(tmp_path / "bad.json", [item(), item(**{"sessionID": "2_2", **changes})])
    with pytest.raises(InvalidInputError, match=f"bad.json row 2 {field} = .*; allowed: "):
        load_acn_json(path)
    table = load_acn_json(path, repair=True)
    counts = vars(table.attrs["repairs"])
    assert len(table) == 1
    assert [name for name, count in counts.items() if count] == [n for n in counts if n.startswith(reason)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "content of"),
        (json.dumps({"_items": [item()]})[:-9], "a complete JSON document"),
        ("[]", "_items = None; allowed: a list"),
        ('{"_items": []}', "sessions in .* = 0"),
        ('{"_items": [3]}', "row 1 = 3; allowed: an object"),
        (json.dumps({"_items": [{k: v for k, v in item().items() if k != "siteID"}]}), "row 1 siteID = 'absent'"),
        (json.dumps({"_items": [item(userInputs="no")]}), "userInputs = 'no'; allowed: null or a list"),
        (json.dumps({"_items": [item(userInputs=[{}])]}), "row 1 requestedDeparture = 'absent'"),
        (json.dumps({"_items": [item(userInputs=[7])]}), "a list of objects"),
    ],
)
def test_broken_json(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    for repair in (False, True):
        with pytest.raises(InvalidInputError, match=message):
            load_acn_json(path, repair=repair)
