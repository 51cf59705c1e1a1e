"""From files to session tables: text, rows, times, numbers, and errors that say where the trouble is."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.data.table import COLUMNS, RULES, Repairs, drop

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIELDS", "Source", "build", "csv_lines", "decode", "iso_time", "read_text", "rfc1123_time", "time_zone"]

FIELDS = (
    "arrival",
    "departure",
    "stated_departure",
    "energy_kwh",
    "requested_kwh",
    "station",
    "session",
    "site",
    "claimed",
)
_BROKEN_FILE = (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError)
_BROKEN_VALUE = (ValueError, TypeError, OverflowError)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Source:
    """Where raw rows come from.

    Attributes:
        name: the file.
        fields: name in the file of each field of ``FIELDS``.
        read_time: turns a time text of this file, with the zone of the car park, into UTC.
    """

    name: str
    fields: Mapping[str, str]
    read_time: Callable[[str, ZoneInfo], dt.datetime]

    def where(self, row: int, field: str) -> str:
        """Name file, row (1 is the first session) and field as the file calls it."""
        return f"{self.name} row {row} {self.fields.get(field, field)}"


def read_text(path: str | Path) -> str:
    """Read a text file, plain or gzip."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"file = {str(path)!r} ({error}); allowed: a readable file") from error
    return decode(data, str(path))


def decode(data: bytes, name: str) -> str:
    """Unpack gzip where present, decode UTF-8 and refuse an empty file."""
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except _BROKEN_FILE as error:
        raise InvalidInputError(f"file = {name!r} ({error}); allowed: complete UTF-8 text, plain or gzip") from error
    require(text.strip() != "", f"content of {name}", text, "some text")
    return text


def csv_lines(text: str, name: str, delimiter: str = ",") -> tuple[list[str], list[list[str]]]:
    """Split separated text into the header and rows of the same length."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header, *body = [line for line in lines if line]
    except csv.Error as error:
        kind = "comma-separated text" if delimiter == "," else f"text separated by {delimiter!r}"
        raise InvalidInputError(f"file = {name!r} ({error}); allowed: {kind}") from error
    require(len(set(header)) == len(header), f"{name} header", header, "distinct column names")
    for i, line in enumerate(body, 1):
        require(len(line) == len(header), f"{name} row {i}", line, f"{len(header)} values, as in the header")
    return header, body


def iso_time(text: str, zone: ZoneInfo) -> dt.datetime:
    """Read ISO 8601 date and time as UTC; without offset it is local clock time, which a clock change may exclude."""
    time = dt.datetime.fromisoformat(text.strip())
    if len(text.strip()) <= 10:
        raise ValueError("a date without time of day")
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
        if time.utcoffset() != time.replace(fold=1).utcoffset():
            raise ValueError("this clock time occurs twice or never on the day clocks change")
    return time.astimezone(dt.UTC)


def rfc1123_time(text: str, _zone: ZoneInfo) -> dt.datetime:
    """Read a time such as ``Wed, 01 May 2019 15:02:03 GMT`` as UTC."""
    if not text.endswith(" GMT"):
        raise ValueError("not in GMT")
    return parsedate_to_datetime(text).replace(tzinfo=dt.UTC)


def build(rows: Sequence[Mapping[str, Any]], source: Source, *, repair: bool) -> pd.DataFrame:
    """Turn raw rows into the session table.

    Args:
        rows: one mapping per session from ``FIELDS`` and "timezone" to what the file holds.
        source: where the rows come from, for reading times and for error texts.
        repair: drop bad rows and leave their counts in ``attrs["repairs"]``; otherwise the first bad row is an error.
    """
    import pandas as pd

    require(len(rows) > 0, f"sessions in {source.name}", 0, "at least one session")
    sessions: dict[int, tuple[Any, ...]] = {}
    for i, raw in enumerate(rows, 1):
        try:
            sessions[i] = _session(raw, i, source)
        except InvalidInputError:
            if not repair:
                raise
    table = pd.DataFrame(list(sessions.values()), index=list(sessions), columns=list(COLUMNS))
    if repair:
        table, counts = drop(table, RULES)
        require(len(table) > 0, f"usable sessions in {source.name}", 0, "at least one session")
        table.attrs["repairs"] = Repairs(bad_value=len(rows) - len(sessions), **counts)
    else:
        _refuse_broken(table, rows, source)
    return table.sort_values(["date", "arrival_h", "session"], kind="stable", ignore_index=True)


def _refuse_broken(table: pd.DataFrame, rows: Sequence[Mapping[str, Any]], source: Source) -> None:
    """Raise for the first row that breaks a rule; the table's index holds the row numbers."""
    for rule in RULES:
        broken = table.index[rule.broken(table)]
        if len(broken):
            row = int(broken[0])
            require(False, source.where(row, rule.field), rows[row - 1].get(rule.field), rule.allowed)


def _session(raw: Mapping[str, Any], row: int, source: Source) -> tuple[Any, ...]:
    """Read one raw row into the order of ``COLUMNS``; an unclaimed session keeps no statement of its driver."""
    zone = time_zone(raw["timezone"], source.where(row, "timezone"))
    arrival = _time(raw["arrival"], source, row, "arrival", zone)
    departure = _time(raw["departure"], source, row, "departure", zone)
    stated_text = raw.get("stated_departure")
    stated = None if stated_text in (None, "") else _time(stated_text, source, row, "stated_departure", zone)
    claimed = _claimed(raw.get("claimed", stated is not None), source.where(row, "claimed"))
    energy, requested = (_energy(raw.get(field), source.where(row, field)) for field in ("energy_kwh", "requested_kwh"))
    local = arrival.astimezone(zone)
    clock_h = local.hour + local.minute / 60 + (local.second + local.microsecond / 1e6) / 3600
    return (
        str(raw["site"]),
        local.date(),
        clock_h,
        clock_h + (departure - arrival).total_seconds() / 3600,
        clock_h + (stated - arrival).total_seconds() / 3600 if claimed and stated else math.nan,
        energy,
        requested if claimed else math.nan,
        str(raw.get("station") or ""),
        str(raw.get("session") or f"row {row}"),
        claimed,
    )


def time_zone(name: str, where: str) -> ZoneInfo:
    """Return the zone of an IANA name; ``where`` says in an error what was asked for."""
    try:
        return ZoneInfo(name)
    except (*_BROKEN_VALUE, OSError, LookupError):
        raise InvalidInputError(f"{where} = {name!r}; allowed: an IANA time zone") from None


def _time(text: Any, source: Source, row: int, field: str, zone: ZoneInfo) -> dt.datetime:
    try:
        return source.read_time(text, zone)
    except (*_BROKEN_VALUE, AttributeError) as error:
        allowed = "an unambiguous date and time in the file's format"
        raise InvalidInputError(f"{source.where(row, field)} = {text!r} ({error}); allowed: {allowed}") from error


def _energy(value: Any, where: str) -> float:
    """Read kWh; an absent value is NaN."""
    if value is None or value == "":
        return math.nan
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except _BROKEN_VALUE:
        result = math.nan
    require(0.0 <= result < math.inf, where, value, "a finite number of kWh, at least 0, or nothing")
    return result


def _claimed(value: Any, where: str) -> bool:
    result = _TRUTH.get(str(value).strip().lower())
    require(result is not None, where, value, "True or False")
    return bool(result)
