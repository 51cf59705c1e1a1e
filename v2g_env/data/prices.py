"""Day-ahead prices from CSV files in the layout of Ember and ENTSO-E exports: one row per hour and country."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.data.hourly import HourRepairs
from v2g_env.data.reading import csv_lines, read_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_prices"]

_COUNTRY, _TIME, _PRICE = "Country", "Datetime (UTC)", "Price (EUR/MWhe)"
_ISO = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?Z?")
_OTHER = re.compile(r"(\d{1,2})([/.])(\d{1,2})\2(\d{4})[ T](\d{1,2}):(\d\d)(?::(\d\d))?")
_HOUR = dt.timedelta(hours=1)


class _Row(NamedTuple):
    time: dt.datetime
    price: float
    usual: bool


def load_prices(path: str | Path, country: str | None = None, *, repair: bool = False) -> pd.DataFrame:
    """Load day-ahead prices with the columns Country, Datetime (UTC), Price (EUR/MWhe); other columns are ignored.

    Times are ``2024-03-31 01:00:00``. With ``repair`` other writings are read too, ``31/03/2024 01:00`` with points or
    slashes; whether day or month comes first is taken from the file's own rows of that writing, and has to be the same
    in all of them.

    Args:
        path: the file, plain or gzip.
        country: whose prices; None if the file has one country only.
        repair: drop or reread bad rows and count them instead of raising.

    Returns:
        ``hour_utc`` (with time zone), increasing, and ``price_eur_per_mwh``; an ``HourRepairs`` in
        ``attrs["repairs"]``. Missing hours are counted, not filled in.

    Raises:
        InvalidInputError: a broken or foreign file, dates that may be read in two ways, or (without ``repair``) a bad
            row or a repeated hour.
    """
    import pandas as pd

    name = str(path)
    header, lines = csv_lines(read_text(path), name)
    for column in (_COUNTRY, _TIME, _PRICE):
        require(column in header, f"{name} header", header, f"a header with {column!r}")
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    chosen = _of_country(cells, country, name)
    day_first = _day_first([cell[_TIME] for _, cell in chosen], name) if repair else None
    rows: list[_Row] = []
    for i, cell in chosen:
        try:
            rows.append(_row(cell, f"{name} row {i}", day_first))
        except InvalidInputError:
            if not repair:
                raise
    kept, repeated, conflicting = _once(rows, name, repair=repair)
    require(len(kept) > 0, f"usable hours in {name}", 0, "at least one")
    times = pd.DatetimeIndex([row.time for row in kept], name="hour_utc")
    table = pd.DataFrame({"price_eur_per_mwh": [row.price for row in kept]}, index=times).reset_index()
    table.attrs["repairs"] = HourRepairs(
        bad_value=len(chosen) - len(rows),
        other_time_format=sum(not row.usual for row in rows),
        repeated_hour=repeated,
        conflicting_hour=conflicting,
        missing_hours=(kept[-1].time - kept[0].time) // _HOUR + 1 - len(kept),
    )
    return table


def _of_country(
    cells: Sequence[Mapping[str, str]], country: str | None, name: str
) -> list[tuple[int, Mapping[str, str]]]:
    """Numbered rows of one country."""
    known = sorted({cell[_COUNTRY] for cell in cells})
    require(len(known) > 0, f"hours in {name}", 0, "at least one")
    if country is None:
        require(len(known) == 1, "country", country, f"one of {', '.join(known)}")
        country = known[0]
    require(country in known, "country", country, f"one of {', '.join(known)}")
    return [(i, cell) for i, cell in enumerate(cells, 1) if cell[_COUNTRY] == country]


def _day_first(times: Sequence[str], name: str) -> bool | None:
    """Whether dates such as 31/03/2024 put the day first; None if the file has none."""
    pairs = [(int(found[1]), int(found[3])) for found in map(_OTHER.fullmatch, map(str.strip, times)) if found]
    if not pairs:
        return None
    first, second = (max(pair[k] for pair in pairs) > 12 for k in (0, 1))
    text = "dates that show whether day or month comes first, the same in all rows"
    require(first != second, f"dates of {name}", "both at once" if first else "neither", text)
    return first


def _row(cell: Mapping[str, str], where: str, day_first: bool | None) -> _Row:
    text = cell[_TIME].strip()
    usual = _ISO.fullmatch(text) is not None
    found = _OTHER.fullmatch(text)
    try:
        if usual:
            time = dt.datetime.fromisoformat(text.rstrip("Z"))
        elif found is not None and day_first is not None:
            day, month = (found[1], found[3]) if day_first else (found[3], found[1])
            clock = (found[5], found[6], found[7] or "0")
            time = dt.datetime(*map(int, (found[4], month, day, *clock)))  # type: ignore[arg-type]
        else:
            raise ValueError
    except ValueError:
        raise InvalidInputError(f"{where} {_TIME} = {text!r}; allowed: a time such as '2024-03-31 01:00:00'") from None
    require(time.minute == time.second == 0, f"{where} {_TIME}", text, "a full hour")
    try:
        price = float(cell[_PRICE])
    except ValueError:
        price = math.nan
    require(math.isfinite(price), f"{where} {_PRICE}", cell[_PRICE], "a finite number")
    return _Row(time.replace(tzinfo=dt.UTC), price, usual)


def _once(rows: Sequence[_Row], name: str, *, repair: bool) -> tuple[list[_Row], int, int]:
    """Sort rows and keep one of each hour, or none if they differ; also return both numbers of dropped rows."""
    by_hour: dict[dt.datetime, list[_Row]] = {}
    for row in rows:
        by_hour.setdefault(row.time, []).append(row)
    kept, repeated, conflicting = [], 0, 0
    for time in sorted(by_hour):
        same = by_hour[time]
        require(repair or len(same) == 1, f"rows of {name} for {time:%Y-%m-%d %H:%M} UTC", len(same), "1")
        if len({row.price for row in same}) == 1:
            kept.append(same[0])
            repeated += len(same) - 1
        else:
            conflicting += len(same)
    return kept, repeated, conflicting
