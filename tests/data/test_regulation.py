"""PJM's files: hand-made ones in the operator's formats, prices by day, and what is refused."""

import datetime as dt
import gzip
import importlib.resources
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.data import agc
from v2g_env.data.regulation import (
    HourRepairs,
    daily_prices,
    hourly_medians,
    join_hours,
    load_market_results,
    load_prices,
)

START = dt.datetime(2023, 4, 1, 4, tzinfo=dt.UTC)  # midnight in New York, a Saturday
HOUR = dt.timedelta(hours=1)
PRICE_HEADER = "datetime_beginning_utc,datetime_beginning_ept,rmccp,rmpcp,total_pjm_reg_purchases"
RESULT_HEADER = "datetime_beginning_utc,datetime_beginning_ept,requirement,rega_mileage,regd_mileage,rto_perfscore"


def clock(time):
    """Write a time as the operator does, without leading zeros."""
    return f"{time.month}/{time.day}/{time.year} {time.hour % 12 or 12}:{time:%M:%S} {time:%p}"


def price_line(hour, time=None, rmccp=None):
    time = START + hour * HOUR if time is None else time
    text = time if isinstance(time, str) else clock(time)
    return f"{text},local,{10 + hour if rmccp is None else rmccp},{0.5 + hour / 10},800"


def result_line(hour, slow=5.0, fast=30.0):
    return f"{clock(START + hour * HOUR)},local,525,{slow},{fast},"


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def prices_of(tmp_path, hours, name="p.csv", **options):
    return load_prices(write(tmp_path / name, PRICE_HEADER, *(price_line(h) for h in hours)), **options)


def test_prices_by_hand(tmp_path):
    table = prices_of(tmp_path, [2, 1, 0])  # the operator lists the newest hour first
    assert list(table.columns) == ["hour_utc", "rmccp_usd_per_mwh", "rmpcp_usd_per_mwh"]
    assert table["hour_utc"].tolist() == [START, START + HOUR, START + 2 * HOUR]
    assert table["rmccp_usd_per_mwh"].tolist() == [10.0, 11.0, 12.0]
    assert table["rmpcp_usd_per_mwh"].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert table.attrs["repairs"] == HourRepairs()


def test_results_by_hand_with_empty_cells(tmp_path):
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress("\n".join([RESULT_HEADER, result_line(0), result_line(1, slow="")]).encode()))
    table = load_market_results(path)
    assert table.loc[0, ["regd_mileage_per_h", "rega_mileage_per_h", "requirement"]].tolist() == [30.0, 5.0, 525.0]
    assert table["rega_mileage_per_h"].isna().tolist() == [False, True]
    assert table["rto_perfscore"].isna().all()


BAD_ROWS = {
    "an empty price": (price_line(2, rmccp=""), "row 3 rmccp = ''", {"bad_value": 1}),
    "no number": (price_line(2, rmccp="n/a"), "row 3 rmccp = 'n/a'", {"bad_value": 1}),
    "an infinite price": (price_line(2, rmccp="inf"), "row 3 rmccp = 'inf'", {"bad_value": 1}),
    "no time": (price_line(2, time="soon"), "row 3 datetime_beginning_utc = 'soon'", {"bad_value": 1}),
    "day before month": (price_line(2, time="31/4/2023 6:00:00 AM"), "'31/4/2023", {"bad_value": 1}),
    "half past": (price_line(2, time="4/1/2023 6:30:00 AM"), "4/1/2023 6:30:00 AM", {"bad_value": 1}),
    "an ISO time": (price_line(2, time="2023-04-01T06:00:00"), "'2023-04-01T06", {"other_time_format": 1}),
    "a 24-hour clock": (price_line(2, time="4/1/2023 06:00"), "'4/1/2023 06:00'", {"other_time_format": 1}),
    "a repeated hour": (price_line(1), "rows of .* for 2023-04-01 05:00 UTC = 2", {"repeated_hour": 1}),
    "two prices": (price_line(1, rmccp=7), "rows of .* 05:00 UTC = 2", {"conflicting_hour": 2}),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_raises_or_is_repaired_and_counted(tmp_path, case):
    line, text, counts = BAD_ROWS[case]
    path = write(tmp_path / "p.csv", PRICE_HEADER, price_line(0), price_line(1), line)
    with pytest.raises(InvalidInputError, match=rf"{text}.*allowed: "):
        load_prices(path)
    table = load_prices(path, repair=True)
    assert table.attrs["repairs"] == HourRepairs(**counts)
    assert table.attrs["repairs"].repaired == sum(counts.values())
    assert len(table) == 3 - sum(counts.values()) + counts.get("other_time_format", 0)


def test_missing_hours_are_counted_not_filled(tmp_path):
    table = prices_of(tmp_path, [0, 1, 5, 6])
    assert table.attrs["repairs"] == HourRepairs(missing_hours=3)
    assert (len(table), table.attrs["repairs"].repaired) == (4, 0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "content of"),
        (b"\n\n", "content of"),
        ((PRICE_HEADER + "\n").encode(), "hours in .* = 0"),
        (b"site,arrival\njpl,8\n", "header with 'datetime_beginning_utc'"),
        ((RESULT_HEADER + "\n" + result_line(0)).encode(), "header with 'rmccp'"),
        ((PRICE_HEADER + "\n" + price_line(0) + "\n4/1/20").encode(), "row 2 = .*5 values"),
        (gzip.compress((PRICE_HEADER + "\n" + price_line(0)).encode())[:-9], "plain or gzip"),
        (b"PK\x03\x04\xff\xfe", "UTF-8"),
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_broken_files_are_refused(tmp_path, content, text, repair):
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=text):
        load_prices(path, repair=repair)


def test_absent_file_and_file_without_usable_rows(tmp_path):
    with pytest.raises(InvalidInputError, match="a readable file"):
        load_prices(tmp_path / "none.csv")
    path = write(tmp_path / "p.csv", PRICE_HEADER, price_line(0, rmccp="x"))
    with pytest.raises(InvalidInputError, match="usable hours in .* = 0"):
        load_prices(path, repair=True)


def test_daily_prices_by_hand(tmp_path):
    prices = daily_prices(prices_of(tmp_path, range(48)), 2.0)
    assert prices.days == (dt.date(2023, 4, 1), dt.date(2023, 4, 2))
    hours = np.arange(48).reshape(2, 24)
    assert prices.usd_per_kw_h == pytest.approx((10 + hours + 2.0 * (0.5 + hours / 10)) / 1000.0)
    assert prices.incomplete == prices.clock_changes == ()


def test_factor_by_the_hour_is_the_ratio_or_the_mileage(tmp_path):
    lines = [result_line(h, slow=5.0 + h, fast=30.0) for h in range(24)]
    results = load_market_results(write(tmp_path / "r.csv", RESULT_HEADER, *lines))
    table = join_hours(prices_of(tmp_path, range(30)), results)
    h = np.arange(24)
    ratio, by_mileage = daily_prices(table), daily_prices(table, "mileage")
    assert ratio.usd_per_kw_h[0] == pytest.approx((10 + h + 30.0 / (5.0 + h) * (0.5 + h / 10)) / 1000.0)
    assert by_mileage.usd_per_kw_h[0] == pytest.approx((10 + h + 30.0 * (0.5 + h / 10)) / 1000.0)


def test_gap_is_refused_or_costs_the_day(tmp_path):
    table = prices_of(tmp_path, [h for h in range(72) if h not in (30, 31)])
    with pytest.raises(
        InvalidInputError, match=r"hours with a price on 2023-04-02, the first of 1 .* = 22; allowed: 24"
    ):
        daily_prices(table, 5.68)
    prices = daily_prices(table, 5.68, repair=True)
    assert prices.incomplete == (dt.date(2023, 4, 2),)
    assert prices.days == (dt.date(2023, 4, 1), dt.date(2023, 4, 3))
    assert prices.usd_per_kw_h[1, 0] == pytest.approx((58 + 5.68 * 5.3) / 1000.0)


def test_absent_days_and_absent_factors_are_gaps(tmp_path):
    table = prices_of(tmp_path, [*range(24), *range(72, 96)])
    assert daily_prices(table, 1.0, repair=True).incomplete == (dt.date(2023, 4, 2), dt.date(2023, 4, 3))
    lines = [result_line(h, slow=0.0 if h == 3 else 5.0) for h in range(48)]
    results = load_market_results(write(tmp_path / "r.csv", RESULT_HEADER, *lines))
    joined = join_hours(prices_of(tmp_path, range(48)), results)
    with pytest.raises(InvalidInputError, match="2023-04-01.* = 23"):
        daily_prices(joined)
    assert daily_prices(joined, repair=True).days == (dt.date(2023, 4, 2),)
    assert len(daily_prices(joined, "mileage").days) == 2


def test_repeated_hour_is_refused_even_with_repair(tmp_path):
    table = prices_of(tmp_path, range(24))
    twice = pd.concat([table, table.iloc[[5]]], ignore_index=True)
    for repair in (False, True):
        with pytest.raises(
            InvalidInputError, match=r"hour_utc = '2023-04-01 09:00:00\+00:00'; allowed: each hour once"
        ):
            daily_prices(twice, 1.0, repair=repair)
    with pytest.raises(InvalidInputError, match="prices hour_utc"):
        join_hours(twice, table)


@pytest.mark.parametrize(("first", "hours", "change"), [((2023, 11, 4, 4), 73, 5), ((2023, 3, 11, 5), 71, 12)])
def test_days_when_clocks_change_are_left_out_and_named(tmp_path, first, hours, change):
    start = dt.datetime(*first, tzinfo=dt.UTC)
    lines = [price_line(h, time=start + h * HOUR) for h in range(hours)]
    prices = daily_prices(load_prices(write(tmp_path / "p.csv", PRICE_HEADER, *lines)), 0.0)
    day = dt.date(first[0], first[1], change)
    assert prices.clock_changes == (day,)
    assert prices.days == (day - dt.timedelta(days=1), day + dt.timedelta(days=1))
    assert prices.usd_per_kw_h[1] == pytest.approx((10 + np.arange(hours - 24, hours)) / 1000.0)


@pytest.mark.parametrize(
    ("change", "factor", "text"),
    [
        (lambda t: t, "both", "factor = 'both'"),
        (lambda t: t, -1.0, "factor = -1.0"),
        (lambda t: t, "ratio", "a table with 'regd_mileage_per_h'"),
        (lambda t: t.drop(columns="rmpcp_usd_per_mwh"), 1.0, "a table with 'rmpcp_usd_per_mwh'"),
        (lambda t: t.drop(columns="hour_utc"), 1.0, "'hour_utc', with rows"),
        (lambda t: t.iloc[:0], 1.0, "'hour_utc', with rows"),
        (lambda t: t.assign(hour_utc=t["hour_utc"].dt.tz_localize(None)), 1.0, "times with a time zone"),
        (lambda t: t.iloc[:5], 1.0, "hours with a price on"),
    ],
)
def test_bad_arguments_of_daily_prices(tmp_path, change, factor, text):
    with pytest.raises(InvalidInputError, match=text):
        daily_prices(change(prices_of(tmp_path, range(24))), factor)


def test_no_whole_day_and_no_common_hour(tmp_path):
    table = prices_of(tmp_path, range(5))
    with pytest.raises(InvalidInputError, match="days with 24 prices = 0"):
        daily_prices(table, 1.0, repair=True)
    later = table.assign(hour_utc=table["hour_utc"] + 24 * HOUR)
    with pytest.raises(InvalidInputError, match="common hours"):
        join_hours(table, later)


def test_shipped_medians():
    table = hourly_medians()
    assert table["hour_ept"].tolist() == list(range(24))
    assert table.loc[21].tolist() == [21, 21.33, 0.92]
    assert table["rmccp_usd_per_mwh"].between(5, 25).all()
    assert table["rmpcp_usd_per_mwh"].between(0.2, 2).all()
    table.loc[0, "rmccp_usd_per_mwh"] = -1.0
    assert hourly_medians().loc[0, "rmccp_usd_per_mwh"] == 11.35  # each caller has a table of its own
    assert importlib.resources.files("v2g_env.data").joinpath("pjm_hourly_medians.csv").is_file()


def test_import_leaves_pandas_and_openpyxl_alone():
    code = (
        "import sys, v2g_env.data.regulation, v2g_env.data.agc;"
        "sys.exit('pandas' in sys.modules or 'openpyxl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


MIDNIGHT = dt.datetime(1899, 12, 30)
STEPS = [dt.timedelta(seconds=2 * i) for i in range(43_200)]
CLOCK = [(MIDNIGHT + step).time() for step in STEPS]


def sheet(*columns, times=CLOCK):
    """Cells of a sheet with the given values per day."""
    head = [None, *(dt.datetime(2023, 4, 1 + i) for i in range(len(columns)))]
    return [head, *([t, *row] for t, row in zip(times, zip(*columns, strict=True), strict=True))]


WAVE = [0.0, 0.5, -0.25, 1.0] * 10_800


def test_signal_table_by_hand():
    rows = sheet(WAVE, WAVE[::-1])
    rows[0][2] = "4/2/2023"
    table = agc.signal_table([*rows, rows[-1], [None, None, None]], "sheet")
    assert list(table.columns) == [dt.date(2023, 4, 1), dt.date(2023, 4, 2)]
    assert table.index.tolist()[:3] == [0, 2, 4]
    assert (table.to_numpy() == np.array([WAVE, WAVE[::-1]]).T).all()
    assert table.attrs["repairs"] == agc.SignalRepairs(repeated_row=1, text_date=1)
    # a period of four samples moves .5 + .75 + 1.25 + 1; the last step of the hour is not within it
    assert agc.hourly_mileage(table) == pytest.approx(np.full((2, 24), 450 * 3.5 - 1.0))


TIMES = {
    "text": lambda: [f"{time:%H:%M:%S}" for time in CLOCK],
    "part of a day": lambda: [step / dt.timedelta(days=1) for step in STEPS],
    "datetime": lambda: [MIDNIGHT + step for step in STEPS],
    "timedelta": lambda: STEPS,
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_day_come_in_many_forms(kind):
    assert agc.signal_table(sheet(WAVE, times=TIMES[kind]()), "sheet").shape == (43_200, 1)


@pytest.mark.parametrize("value", [None, "off", 1.01, float("nan")])
def test_bad_cell_is_named_or_costs_the_day(value):
    bad = [*WAVE[:1800], value, *WAVE[1801:]]
    with pytest.raises(InvalidInputError, match=r"sheet 2023-04-02 1:00:00 = .*; allowed: a number in \[-1, 1\]"):
        agc.signal_table(sheet(WAVE, bad), "sheet")
    table = agc.signal_table(sheet(WAVE, bad), "sheet", repair=True)
    assert list(table.columns) == [dt.date(2023, 4, 1)]
    assert table.attrs["repairs"] == agc.SignalRepairs(bad_day=1)
    with pytest.raises(InvalidInputError, match="without bad cells = 0"):
        agc.signal_table(sheet(bad), "sheet", repair=True)


def with_cell(row, column, value):
    rows = sheet(WAVE, WAVE)
    rows[row][column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (lambda: [], "dates of sheet = 0"),
        (lambda: [["corner"]], "dates of sheet = 0"),
        (lambda: with_cell(0, 1, "spring"), "column 1 = 'spring'"),
        (lambda: with_cell(0, 1, dt.datetime(2023, 4, 2)), "each date once"),
        (lambda: sheet(WAVE)[:-1], "rows of sheet = 43199"),
        (lambda: with_cell(3, 0, "00:00:05"), "row 3 time = '00:00:05'; allowed: 0:00:04"),
        (lambda: with_cell(3, 0, None), "row 3 time = None"),
        (lambda: with_cell(3, 0, "noon"), "row 3 time = 'noon'"),
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_broken_sheets_are_refused(rows, text, repair):
    with pytest.raises(InvalidInputError, match=text):
        agc.signal_table(rows(), "sheet", repair=repair)


def test_hourly_mileage_refuses_other_tables():
    with pytest.raises(InvalidInputError, match="rows of table = 3"):
        agc.hourly_mileage(pd.DataFrame({"a": [1.0, 2.0, 3.0]}))


def test_xlsx_file_round_trip_and_missing_sheet(tmp_path, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    monkeypatch.setattr(agc, "_ROWS", 1800)  # the first hour: writing a day takes seconds
    book = openpyxl.Workbook(write_only=True)
    dynamic = book.create_sheet("Dynamic")
    for row in sheet(WAVE)[:1801]:
        dynamic.append(row)
    book.save(tmp_path / "04 2023.xlsx")
    table = agc.load_signal(tmp_path / "04 2023.xlsx")
    assert list(table.columns) == [dt.date(2023, 4, 1)]
    assert table[dt.date(2023, 4, 1)].tolist() == WAVE[:1800]
    with pytest.raises(InvalidInputError, match=r"sheets of .* = \['Dynamic'\]; allowed: sheets with 'Traditional'"):
        agc.load_signal(tmp_path / "04 2023.xlsx", "RegA")


def test_broken_xlsx_files_are_refused(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Dynamic"
    book.save(tmp_path / "empty sheet.xlsx")
    with pytest.raises(InvalidInputError, match="dates of .* = 0"):
        agc.load_signal(tmp_path / "empty sheet.xlsx")
    whole = (tmp_path / "empty sheet.xlsx").read_bytes()
    for name, content in (("empty", b""), ("text", b"a,b\n1,2\n"), ("cut", whole[: len(whole) // 2])):
        path = tmp_path / f"{name}.xlsx"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="a complete xlsx file"):
            agc.load_signal(path)
    with pytest.raises(InvalidInputError, match="a complete xlsx file"):
        agc.load_signal(tmp_path / "absent.xlsx")


def test_missing_openpyxl_and_unknown_signal_are_explained(monkeypatch, tmp_path):
    with pytest.raises(InvalidInputError, match="signal = 'RegX'"):
        agc.load_signal(tmp_path / "a.xlsx", "RegX")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"pip install \"v2g-env\[market-data\]\""):
        agc.load_signal(tmp_path / "a.xlsx")
