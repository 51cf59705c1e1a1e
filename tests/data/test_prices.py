"""Day-ahead price files: what is read, what is repaired and said so, what is refused."""

import datetime as dt

import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.data.prices import load_prices

HEAD = "Country,ISO3 Code,Datetime (UTC),Datetime (Local),Price (EUR/MWhe)\n"


def file(tmp_path, *rows, head=HEAD):
    path = tmp_path / "prices.csv"
    path.write_text(head + "".join(f"Austria,AUT,{time},ignored,{price}\n" for time, price in rows), encoding="utf-8")
    return path


def test_clean_hours_come_sorted_with_nothing_repaired(tmp_path):
    path = file(tmp_path, ("2024-03-31 02:00:00", -5.5), ("2024-03-31 01:00:00", 80), ("2024-03-31T00:00Z", 1e1))
    table = load_prices(path)
    assert table["price_eur_per_mwh"].tolist() == [10.0, 80.0, -5.5]
    assert table["hour_utc"][0].to_pydatetime() == dt.datetime(2024, 3, 31, tzinfo=dt.UTC)
    assert table.attrs["repairs"].repaired == table.attrs["repairs"].missing_hours == 0


def test_repairs_are_done_and_counted(tmp_path):
    rows = [
        ("2024-01-12 22:00:00", 1),
        ("12/01/2024 23:00", 2),  # day first, as the next one shows
        ("13/01/2024 00:00", 3),
        ("13.01.2024 01:00:00", 4),
        ("2024-01-13 01:00:00", 4),  # repeats
        ("2024-01-13 02:00:00", 5),
        ("2024-01-13 02:00:00", 6),  # contradicts
        ("2024-01-13 03:00:00", ""),
        ("soon", 7),
        ("2024-01-13 03:30:00", 7),
        ("2024-01-13 05:00:00", 8),
    ]
    path = file(tmp_path, *rows)
    table = load_prices(path, repair=True)
    assert table["price_eur_per_mwh"].tolist() == [1, 2, 3, 4, 8]
    assert table["hour_utc"].dt.day.tolist() == [12, 12, 13, 13, 13]
    found = table.attrs["repairs"]
    assert (found.bad_value, found.other_time_format) == (3, 3)
    assert (found.repeated_hour, found.conflicting_hour, found.missing_hours) == (1, 2, 3)


def test_month_first_is_read_when_the_rows_show_it(tmp_path):
    table = load_prices(file(tmp_path, ("1/2/2024 00:00", 1), ("1/13/2024 00:00", 2)), repair=True)
    assert table["hour_utc"].dt.month.tolist() == [1, 1]


@pytest.mark.parametrize("rows", [[("1/2/2024 00:00", 1)], [("13/1/2024 00:00", 1), ("1/13/2024 00:00", 1)]])
def test_dates_that_may_be_read_in_two_ways_are_refused(tmp_path, rows):
    with pytest.raises(InvalidInputError, match="dates of .*day or month"):
        load_prices(file(tmp_path, *rows), repair=True)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (("13/01/2024 00:00", 1), r"row 2 Datetime \(UTC\)"),
        (("2024-13-01 00:00:00", 1), r"row 2 Datetime \(UTC\)"),
        (("2024-01-01 00:30:00", 1), "full hour"),
        (("2024-01-01 01:00:00", "nan"), r"row 2 Price"),
        (("2024-01-01 01:00:00", "dear"), r"row 2 Price"),
        (("2024-01-01 00:00:00", 1), "rows of .* for 2024-01-01 00:00 UTC = 2"),
    ],
)
def test_a_bad_row_is_one_clear_error_without_repair(tmp_path, row, text):
    with pytest.raises(InvalidInputError, match=text):
        load_prices(file(tmp_path, ("2024-01-01 00:00:00", 1), row))


def test_foreign_and_empty_files_and_unknown_countries_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="header"):
        load_prices(file(tmp_path, head="Country,Datetime,Price,a,b\n"))
    with pytest.raises(InvalidInputError, match="hours in"):
        load_prices(file(tmp_path))
    with pytest.raises(InvalidInputError, match="country"):
        load_prices(file(tmp_path, ("2024-01-01 00:00:00", 1)), "Norway")
    path = tmp_path / "two.csv"
    path.write_text(HEAD + "A,A,2024-01-01 00:00:00,,1\nB,B,2024-01-01 00:00:00,,2\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="one of A, B"):
        load_prices(path)
    assert load_prices(path, "B")["price_eur_per_mwh"].tolist() == [2]
    with pytest.raises(InvalidInputError, match="usable hours"):
        load_prices(file(tmp_path, ("soon", 1)), repair=True)
