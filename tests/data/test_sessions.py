"""Shipped sessions against published check values; cleaning and day selection by hand."""

import datetime as dt
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.data import sessions
from v2g_env.data.sessions import COLUMNS, clean, load_shipped, select_days, weekdays

DAY = dt.date(2019, 5, 1)  # a Wednesday


@pytest.fixture(scope="module")
def shipped():
    """All sessions with the fast charger, as the published counts have them."""
    return pd.concat([load_shipped(site, fast_charger=True) for site in ("jpl", "caltech")], ignore_index=True)


@pytest.fixture(scope="module")
def slow(shipped):
    return shipped[shipped["station"] != "11900388"]


def stay(table):
    return table["departure_h"] - table["arrival_h"]


def between(table, site, start, end):
    days = table["date"]
    return table[
        (table["site"] == site) & (days >= dt.date.fromisoformat(start)) & (days <= dt.date.fromisoformat(end))
    ]


def test_row_counts(shipped, slow):
    assert len(shipped) == 27_407
    assert shipped["claimed"].sum() == 25_347
    assert len(slow) == 26_851 == sum(len(load_shipped(site)) for site in ("jpl", "caltech"))
    assert slow["claimed"].sum() == 24_793
    assert sum(entry["rows"] for entry in sessions.provenance() if entry["path"].startswith("acn/")) == 27_407
    assert not shipped.duplicated(["site", "session"]).any()


def test_provenance_describes_every_file():
    folder = sessions.resources.files("v2g_env.data")
    shipped = {f"acn/{f.name}" for f in folder.joinpath("acn").iterdir()}
    shipped |= {f.name for f in folder.iterdir() if f.name.endswith(".csv")}
    assert {e["path"] for e in sessions.provenance()} == shipped
    for entry in sessions.provenance():
        assert len(folder.joinpath(entry["path"]).read_bytes()) == entry["bytes"]
        if entry["path"].startswith("acn/"):
            assert entry["changes"] == "none"
            assert entry["licence"].startswith("CC BY 4.0")


def test_table_format():
    table = load_shipped("jpl", "2019-12-16", dt.date(2019, 12, 20))
    assert tuple(table.columns) == COLUMNS
    assert (table["date"].min(), table["date"].max()) == (dt.date(2019, 12, 16), dt.date(2019, 12, 20))
    assert table["arrival_h"].between(0, 24, inclusive="left").all()
    assert list(table.index) == list(range(len(table)))
    order = list(zip(table["date"], table["arrival_h"], strict=True))
    assert order == sorted(order)
    assert table["claimed"].dtype == bool


def test_first_row_by_hand():
    row = load_shipped("jpl").iloc[0]  # 05:04:06 to 17:56:21, stated 14:09:06
    assert row["arrival_h"] == pytest.approx(5 + 4 / 60 + 6 / 3600)
    assert row["departure_h"] == pytest.approx(17 + 56 / 60 + 21 / 3600)
    assert row["stated_departure_h"] == pytest.approx(14 + 9 / 60 + 6 / 3600)
    assert (row["energy_kwh"], row["requested_kwh"], row["station"]) == (44.875, 44.85, "AG-1F11")


def test_unclaimed_sessions_state_nothing(shipped):
    unclaimed = shipped[~shipped["claimed"]]
    assert len(unclaimed) == 2_060
    assert unclaimed[["stated_departure_h", "requested_kwh"]].isna().all(axis=None)
    assert shipped[shipped["claimed"]].notna().all(axis=None)


@pytest.mark.parametrize(
    ("fast_charger", "quantiles", "early"),
    [(True, (-6.14, -1.03, 0.38, 2.31, 7.16), 0.308), (False, (-5.35, -0.87, 0.43, 2.38, 7.21), 0.293)],
)
def test_actual_minus_stated_departure(shipped, slow, fast_charger, quantiles, early):
    table = shipped if fast_charger else slow
    late_h = (table["departure_h"] - table["stated_departure_h"]).dropna()
    assert np.quantile(late_h, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx(quantiles, abs=0.006)
    assert (late_h < -0.5).mean() == pytest.approx(early, abs=0.0006)


@pytest.mark.parametrize(
    ("site", "start", "end", "claimed", "everyone"),
    [
        ("jpl", "2019-09-01", "2019-12-31", (12.14, 8.26), (11.99, 8.17)),
        ("caltech", "2019-05-01", "2019-08-31", (6.70, 6.48), (5.80, 6.05)),
    ],
)
def test_window_medians(slow, site, start, end, claimed, everyone):
    table = between(slow, site, start, end)
    for part, (energy_kwh, stay_h) in ((table[table["claimed"]], claimed), (table, everyone)):
        assert part["energy_kwh"].median() == pytest.approx(energy_kwh, abs=0.006)
        assert stay(part).median() == pytest.approx(stay_h, abs=0.006)


@pytest.mark.parametrize(("site", "days", "median", "at_once"), [("caltech", 311, 26, 34), ("jpl", 341, 61, 52)])
def test_weekdays_and_occupancy(site, days, median, at_once):
    table = load_shipped(site)
    assert len(select_days(table)) == days
    claimed = weekdays(table[table["claimed"]])
    assert claimed.groupby("date").size().median() == median
    midnight_h = np.array([24.0 * day.toordinal() for day in table["date"]])
    times = np.concatenate([midnight_h + table["departure_h"], midnight_h + table["arrival_h"]])
    step = np.repeat([-1, 1], len(table))
    assert step[np.lexsort((step, times))].cumsum().max() == at_once


def test_shipped_long_and_overnight_stays(shipped):
    assert stay(shipped).max() == pytest.approx(150.2, abs=0.05)
    for site, share in (("caltech", 0.037), ("jpl", 0.016)):
        table = load_shipped(site)
        assert (table["departure_h"] >= 24).mean() == pytest.approx(share, abs=0.0006)


def test_caller_cannot_change_the_cached_table():
    first = load_shipped("jpl")
    first.loc[0, "energy_kwh"] = -1.0
    assert load_shipped("jpl")["energy_kwh"].iloc[0] == 44.875


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("norway",), "site = 'norway'"),
        (("jpl", "2018-01-01", "2018-12-31"), "start, end"),
        (("jpl", "2019-06-02", "2019-06-01"), "start not after end"),
        (("jpl", "1 June"), "start = '1 June'"),
    ],
)
def test_shipped_bad_arguments(arguments, text):
    with pytest.raises(InvalidInputError, match=text):
        load_shipped(*arguments)


def test_altered_shipped_file_is_refused():
    entry = dict(sessions.provenance()[0], sha256="0" * 64)
    with pytest.raises(InvalidInputError, match=r"sha256 of acn/caltech_2019-05-01.* allowed: 0000"):
        sessions.verified(entry)


def test_import_leaves_pandas_alone():
    code = "import sys, v2g_env.data.sessions, v2g_env.data.splits; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def hand_table():
    """Eight sessions of a Wednesday, six of them with one fault each, and a good one of a Saturday."""
    rows = [
        (DAY, 8.0, 10.0, 9.0, 14.4, "a", True),
        (DAY, 8.0, 8.0, 9.0, 0.0, "b", True),
        (DAY, 8.0, np.nan, 9.0, 1.0, "c", True),
        (DAY, 8.0, 10.0, 9.0, 14.5, "d", True),
        (DAY, 8.0, 10.0, np.nan, 1.0, "e", False),
        (DAY, 9.0, 10.0, 9.5, 1.0, "a", True),
        (DAY, 9.0, 10.0, 8.5, 1.0, "f", True),
        (DAY, 11.0, 12.0, 13.0, np.nan, "g", True),
        (dt.date(2019, 5, 4), 9.0, 10.0, 9.5, 1.0, "h", True),
    ]
    columns = ["date", "arrival_h", "departure_h", "stated_departure_h", "energy_kwh", "session", "claimed"]
    table = pd.DataFrame(rows, columns=columns).assign(site="depot", station="P", requested_kwh=np.nan)
    return table[list(COLUMNS)]


def test_clean_counts_each_reason_once():
    table, repairs = clean(hand_table(), max_charger_kw=7.2)
    assert table["session"].tolist() == ["a", "g", "h"]
    assert set(vars(repairs).values()) == {1}
    assert repairs.total == 6
    again, none = clean(table, max_charger_kw=7.2)
    pd.testing.assert_frame_equal(again, table)
    assert none.total == 0


def test_clean_optional_checks():
    table, repairs = clean(hand_table(), claimed_only=False)
    assert {"d", "e"} <= set(table["session"])
    assert (repairs.energy_beyond_charger, repairs.unclaimed) == (0, 0)


def test_clean_shipped_energy_beyond_the_charger():
    """Some stays at JPL were cut by restarts of the recorder: more than 7.2 kW on average, up to 272 kW."""
    _, jpl = clean(load_shipped("jpl"), max_charger_kw=7.2, claimed_only=False)
    _, caltech = clean(load_shipped("caltech"), max_charger_kw=7.2, claimed_only=False)
    assert (jpl.total, jpl.energy_beyond_charger, caltech.total) == (11, 11, 0)


@pytest.mark.parametrize("power_kw", [0.0, -1.0, np.inf, np.nan, True, "7"])
def test_clean_bad_power(power_kw):
    with pytest.raises(InvalidInputError, match="max_charger_kw"):
        clean(hand_table(), max_charger_kw=power_kw)


def test_select_days():
    table = hand_table()
    saturday = dt.date(2019, 5, 4)
    assert select_days(table) == (DAY,)
    assert select_days(table, weekdays_only=False) == (DAY, saturday)
    assert select_days(table, min_sessions=8) == ()
    assert select_days(table, min_sessions=8, claimed_only=False) == (DAY,)
    assert select_days(table, weekdays_only=False, start="2019-05-02") == (saturday,)
    assert select_days(table, weekdays_only=False, end=DAY) == (DAY,)
    assert weekdays(table)["session"].tolist() == list("abcdeafg")


def test_select_days_bad_arguments():
    with pytest.raises(InvalidInputError, match="min_sessions = -1"):
        select_days(hand_table(), min_sessions=-1)
    for function in (clean, select_days, weekdays):
        with pytest.raises(InvalidInputError, match="columns of the session table"):
            function(hand_table().drop(columns="claimed"))
