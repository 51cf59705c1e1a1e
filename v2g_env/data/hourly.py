"""From the operator's hourly CSV files to tables: times, numbers, repeated and missing hours."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.data.reading import csv_lines, read_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HourRepairs", "load_hours"]

_TIME = "datetime_beginning_utc"
_FORMAT = "%m/%d/%Y %I:%M:%S %p"
_OTHER_FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M")
_HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True)
class HourRepairs:
    """What a loader of hourly files found amiss, in rows or hours.

    Attributes:
        bad_value: rows dropped, since the time or a required number cannot be read or is impossible.
        other_time_format: rows kept whose time was in another known format than the operator's.
        repeated_hour: rows dropped that repeat another one.
        conflicting_hour: rows dropped because rows of the same hour differ, and nobody knows which is right.
        missing_hours: hours between the first and the last of the table that it lacks; nothing is filled in.
    """

    bad_value: int = 0
    other_time_format: int = 0
    repeated_hour: int = 0
    conflicting_hour: int = 0
    missing_hours: int = 0

    @property
    def repaired(self) -> int:
        """Number of rows dropped or reread."""
        return int(sum(astuple(self))) - self.missing_hours


class _Row(NamedTuple):
    """A row of an hourly file: UTC hour, numbers, and whether the time was in the operator's format."""

    time: dt.datetime
    values: tuple[float, ...]
    usual: bool


def load_hours(
    path: str | Path, required: Mapping[str, str], optional: Sequence[str], *, filled: bool, repair: bool
) -> pd.DataFrame:
    """Load a CSV of the operator's with one row per hour.

    Args:
        path: the file, plain or gzip.
        required: for each column that has to be there its name in the table.
        optional: columns to take too where the file has them.
        filled: whether cells of required columns have to hold numbers; other empty cells are NaN.
        repair: drop or reread bad rows and count them instead of raising.

    Returns:
        ``hour_utc`` (with time zone), increasing, and the numbers; an ``HourRepairs`` in ``attrs["repairs"]``.

    Raises:
        InvalidInputError: a broken or foreign file, or (without ``repair``) a bad row or a repeated hour.
    """
    import pandas as pd

    name = str(path)
    header, lines = csv_lines(read_text(path), name)
    for column in (_TIME, *required):
        require(column in header, f"{name} header", header, f"a header with {column!r}")
    require(len(lines) > 0, f"hours in {name}", 0, "at least one")
    chosen = [*required, *(column for column in optional if column in header)]
    rows: list[_Row] = []
    for i, line in enumerate(lines, 1):
        cells = dict(zip(header, line, strict=True))
        try:
            time, usual = _time(cells[_TIME], f"{name} row {i} {_TIME}", repair=repair)
            values = [_number(cells[c], f"{name} row {i} {c}", filled=filled and c in required) for c in chosen]
        except InvalidInputError:
            if not repair:
                raise
        else:
            rows.append(_Row(time, tuple(values), usual))
    require(len(rows) > 0, f"usable hours in {name}", 0, "at least one")
    kept, repeated, conflicting = _once(rows, name, repair=repair)
    times = pd.DatetimeIndex([row.time for row in kept], name="hour_utc")
    table = pd.DataFrame([row.values for row in kept], columns=[required.get(c, c) for c in chosen], index=times)
    table = table.reset_index()
    table.attrs["repairs"] = HourRepairs(
        bad_value=len(lines) - len(rows),
        other_time_format=sum(not row.usual for row in rows),
        repeated_hour=repeated,
        conflicting_hour=conflicting,
        missing_hours=(kept[-1].time - kept[0].time) // _HOUR + 1 - len(kept),
    )
    return table


def _once(rows: Sequence[_Row], name: str, *, repair: bool) -> tuple[list[_Row], int, int]:
    """Sort rows and keep one of each hour, or none if they differ; also return both numbers of dropped rows."""
    by_hour: dict[dt.datetime, list[_Row]] = {}
    for row in rows:
        by_hour.setdefault(row.time, []).append(row)
    kept, repeated, conflicting = [], 0, 0
    for time in sorted(by_hour):
        same = by_hour[time]
        require(repair or len(same) == 1, f"rows of {name} for {time:%Y-%m-%d %H:%M} UTC", len(same), "1")
        if len({repr(row.values) for row in same}) == 1:  # as text, in which NaN equals itself
            kept.append(same[0])
            repeated += len(same) - 1
        else:
            conflicting += len(same)
    require(len(kept) > 0, f"usable hours in {name}", 0, "at least one")
    return kept, repeated, conflicting


def _time(text: str, where: str, *, repair: bool) -> tuple[dt.datetime, bool]:
    """Read a UTC hour; formats other than the operator's only for ``repair``, and none that may swap day and month."""
    for form in (_FORMAT, *(_OTHER_FORMATS if repair else ())):
        try:
            time = dt.datetime.strptime(text.strip(), form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
        require(time.minute == time.second == 0, where, text, "a full hour")
        return time, form == _FORMAT
    raise InvalidInputError(f"{where} = {text!r}; allowed: a time such as '4/1/2023 5:00:00 AM'")


def _number(text: str, where: str, *, filled: bool) -> float:
    """Read a number; an empty cell is NaN unless it has to be filled."""
    if not text.strip() and not filled:
        return math.nan
    try:
        result = float(text)
    except ValueError:
        result = math.nan
    require(math.isfinite(result), where, text, "a finite number" + ("" if filled else " or nothing"))
    return result
