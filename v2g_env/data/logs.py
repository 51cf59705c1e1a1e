"""From the rows of a trip or charging log to checked entries, with an error or a count for every bad row.

Cells that are empty or hold NA, N/A, NaN, null or none (in any case) count as missing. The first bad row is an error
that names file, row (1 is the first data row), field, value and what is allowed; with ``repair`` bad rows are dropped
and counted instead. Files broken as a whole (truncated, columns missing, rows too short) are errors either way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.data.reading import csv_lines, iso_time, read_text, time_zone

__all__ = ["CHARGING", "TRIPS", "UNITS", "CsvFormat", "Entry", "LogKind", "LogRepairs", "read_log"]

UNITS = ("mile", "km", "m", "kWh")
_DELIMITERS = (",", ";", "\t", "|")
_MARKS = (".", ",")
_MISSING = ("", "na", "n/a", "nan", "null", "none")


@dataclass(frozen=True)
class CsvFormat:
    """How a log is written down.

    Attributes:
        delimiter: what separates the columns: comma, semicolon, tab or vertical bar.
        decimal: decimal mark, "." or ","; there is no mark for thousands.
        time_format: directives of ``datetime.strptime``; None: ISO 8601. Without time of day in the format, entries
            start and end at midnight. Names of zones (%Z) are not understood; offsets (%z) are.
    """

    delimiter: str = ","
    decimal: str = "."
    time_format: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        require(self.delimiter in _DELIMITERS, "delimiter", self.delimiter, f"one of {_DELIMITERS}")
        require(self.decimal in _MARKS, "decimal", self.decimal, f"one of {_MARKS}")
        form = self.time_format
        ok = form is None or (isinstance(form, str) and "%" in form and "%Z" not in form)
        require(ok, "time_format", form, "directives such as '%d.%m.%Y %H:%M', without %Z, or None")

    def time(self, text: str, zone: ZoneInfo) -> dt.datetime:
        """Read a time as UTC; without offset it is local clock time, which a clock change may exclude."""
        if self.time_format is not None:
            text = dt.datetime.strptime(text.strip(), self.time_format).isoformat()
        return iso_time(text, zone)

    def number(self, text: str) -> float:
        """Read a number; ValueError if it is none, or written with another decimal mark or with marks of thousands."""
        other = _MARKS[self.decimal == "."]
        if other in text or "_" in text:
            raise ValueError("not a number in the file's format")
        return float(text.replace(self.decimal, "."))


@dataclass(frozen=True)
class LogRepairs:
    """Number of rows dropped, by reason; each counts once, under the first reason that holds, in this order.

    Attributes:
        bad_value: an identifier or time is missing or unreadable, or a number is unreadable, negative or infinite.
        unknown_unit: the distance is in no known unit.
        reversed: the end lies before the start.
        duplicate: all fields equal those of an earlier row; one of them stays.
        overlapping: the trip starts before an earlier one of the same vehicle has ended.
    """

    bad_value: int = 0
    unknown_unit: int = 0
    reversed: int = 0
    duplicate: int = 0
    overlapping: int = 0

    @property
    def total(self) -> int:
        """Number of rows dropped for any reason."""
        return sum(astuple(self))


class LogKind(NamedTuple):
    """What distinguishes trips from charging sessions.

    Attributes:
        noun: what a row is.
        driver: field that identifies the driver.
        amount: field with the distance or energy.
        required: fields a file has to have.
        optional: fields it may have.
        exclusive: whether rows of one driver exclude one another in time.
    """

    noun: str
    driver: str
    amount: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    exclusive: bool


TRIPS = LogKind("trips", "vehicle", "distance", ("vehicle", "start", "end", "distance"), ("unit",), True)
CHARGING = LogKind("sessions", "user", "energy_kwh", ("user", "start", "energy_kwh"), ("end",), False)


class Entry(NamedTuple):
    """A trip or charging session.

    Attributes:
        row: where it stands in the file, from 1.
        driver: identifier of vehicle or user.
        day: proleptic ordinal of the local day on which it starts.
        start: UTC.
        end: UTC, not before the start; None where unknown.
        amount: distance or energy in ``unit``, at least 0.
        unit: one of ``UNITS``.
    """

    row: int
    driver: str
    day: int
    start: dt.datetime
    end: dt.datetime | None
    amount: float
    unit: str


class _Broken(NamedTuple):
    """A row that breaks a rule: which field is to blame, and what is allowed."""

    row: int
    field: str
    allowed: str


class _File:
    """Header, rows and column names of a log."""

    def __init__(self, path: str | Path, columns: Mapping[str, str] | None, kind: LogKind, form: CsvFormat) -> None:
        self.name, self.kind, self.form = str(path), kind, form
        header, self.lines = csv_lines(read_text(path), self.name, form.delimiter)
        known = (*kind.required, *kind.optional)
        if columns is None:
            columns = {field: field for field in known if field in header or field in kind.required}
        unknown = sorted(set(columns) - set(known))
        require(not unknown, "columns", unknown, f"keys among {', '.join(known)}")
        needed = f"a mapping with {', '.join(map(repr, kind.required))}"
        require(set(kind.required) <= set(columns), "columns", dict(columns), needed)
        for column in columns.values():
            require(column in header, f"{self.name} header", header, f"a header with {column!r}")
        require(len(self.lines) > 0, f"{kind.noun} in {self.name}", 0, "at least one")
        self.columns = columns
        self.place = {field: header.index(column) for field, column in columns.items()}

    def where(self, row: int, field: str) -> str:
        return f"{self.name} row {row} {self.columns.get(field, field)}"

    def cell(self, row: int, field: str) -> str:
        return self.lines[row - 1][self.place[field]].strip()

    def entry(self, row: int, zone: ZoneInfo, unit: str) -> Entry:
        """Read one row; a mapped end may be missing only where the kind does not require one."""
        driver = self.cell(row, self.kind.driver)
        require(not _missing(driver), self.where(row, self.kind.driver), driver, "an identifier")
        start, day = self._time(row, "start", zone)
        end = None
        if "end" in self.place and not ("end" in self.kind.optional and _missing(self.cell(row, "end"))):
            end, _ = self._time(row, "end", zone)
        if "unit" in self.place:
            unit = self.cell(row, "unit")
        return Entry(row, driver, day, start, end, self._amount(row), unit)

    def _time(self, row: int, field: str, zone: ZoneInfo) -> tuple[dt.datetime, int]:
        """Return a time in UTC and the ordinal of its local day."""
        text = self.cell(row, field)
        try:
            time = self.form.time(text, zone)
            return time, time.astimezone(zone).toordinal()
        except (ValueError, OverflowError) as error:
            allowed = "an unambiguous date and time in the file's format"
            raise InvalidInputError(f"{self.where(row, field)} = {text!r} ({error}); allowed: {allowed}") from error

    def _amount(self, row: int) -> float:
        text = self.cell(row, self.kind.amount)
        try:
            result = self.form.number(text)
        except ValueError:
            result = float("nan")
        allowed = f"a finite number, at least 0, with decimal mark {self.form.decimal!r}"
        require(0.0 <= result < float("inf"), self.where(row, self.kind.amount), text, allowed)
        return result


def read_log(
    path: str | Path,
    columns: Mapping[str, str] | None,
    kind: LogKind,
    *,
    unit: str,
    timezone: str,
    form: CsvFormat,
    repair: bool,
) -> tuple[list[Entry], LogRepairs]:
    """Read a log.

    Args:
        path: the file, plain or gzip.
        columns: name in the file of each field of ``kind``; None: the columns carry the names of the fields.
        kind: trips or charging sessions.
        unit: unit of all amounts where there is no column of units.
        timezone: IANA zone of local clock times and days.
        form: how the file is written down.
        repair: drop and count bad rows instead of raising.

    Returns:
        The entries by driver, start and end, whatever the order of rows, and the number of rows dropped.

    Raises:
        InvalidInputError: the file is broken or has no usable row, or (without ``repair``) a row is bad.
    """
    require(unit in UNITS, "unit", unit, f"one of {', '.join(UNITS)}")
    zone = time_zone(timezone, "timezone")
    file = _File(path, columns, kind, form)
    counts = dict.fromkeys(("bad_value", *_RULES), 0)
    entries: list[Entry] = []
    for row in range(1, len(file.lines) + 1):
        try:
            entries.append(file.entry(row, zone, unit))
        except InvalidInputError:
            if not repair:
                raise
            counts["bad_value"] += 1
    for reason, rule in _RULES.items():
        if reason == "overlapping" and not kind.exclusive:
            continue
        broken = {each.row: each for each in rule(entries)}
        if broken and not repair:
            row, field, allowed = broken[min(broken)]
            require(False, file.where(row, field), file.cell(row, field), allowed)
        counts[reason] = len(broken)
        entries = [entry for entry in entries if entry.row not in broken]
    require(len(entries) > 0, f"usable {kind.noun} in {file.name}", 0, "at least one")
    return sorted(entries, key=_order), LogRepairs(**counts)


def _missing(text: str) -> bool:
    return text.lower() in _MISSING


def _order(entry: Entry) -> tuple[str, dt.datetime, dt.datetime, float, str]:
    return entry.driver, entry.start, entry.end or entry.start, entry.amount, entry.unit


def _unknown_unit(entries: Sequence[Entry]) -> Iterator[_Broken]:
    allowed = f"one of {', '.join(UNITS)}"
    return (_Broken(entry.row, "unit", allowed) for entry in entries if entry.unit not in UNITS)


def _reversed(entries: Sequence[Entry]) -> Iterator[_Broken]:
    for entry in entries:
        if entry.end is not None and entry.end < entry.start:
            yield _Broken(entry.row, "end", f"not before the start, {_utc(entry.start)}")


def _duplicate(entries: Sequence[Entry]) -> Iterator[_Broken]:
    """Find copies; times with different offsets or numbers with different zeros are the same."""
    first: dict[Entry, int] = {}
    for entry in entries:
        original = first.setdefault(entry._replace(row=0), entry.row)
        if original != entry.row:
            yield _Broken(entry.row, "start", f"no copy of row {original}")


def _overlapping(entries: Sequence[Entry]) -> Iterator[_Broken]:
    """Find trips that start before the last sound one of the vehicle ended; of two with one start the longer."""
    last: Entry | None = None
    for entry in sorted(entries, key=_order):
        if last and last.driver == entry.driver and last.end and entry.start < last.end:
            yield _Broken(entry.row, "start", f"not before row {last.row} ends, {_utc(last.end)}")
        else:
            last = entry


def _utc(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


# reason: rule, in the order in which rows are dropped
_RULES: Mapping[str, Callable[[Sequence[Entry]], Iterator[_Broken]]] = {
    "unknown_unit": _unknown_unit,
    "reversed": _reversed,
    "duplicate": _duplicate,
    "overlapping": _overlapping,
}
