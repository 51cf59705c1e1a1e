"""Charging sessions of any origin as one table (see ``v2g_env.data.table`` for its columns).

Unclaimed sessions are kept and flagged but carry no statement: their ``stated_departure_h`` and ``requested_kwh`` are
NaN, because the shipped files repeat the true departure and the delivered energy there.

Bad input raises ``InvalidInputError`` with file, row (1 is the first session), field, value and what is allowed. With
``repair=True`` a loader drops bad rows instead and leaves their counts as ``Repairs`` in ``table.attrs["repairs"]``.
Files that are broken as a whole (truncated, columns missing, no usable row) are errors either way.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.data.reading import FIELDS, Source, build, csv_lines, decode, iso_time, read_text, rfc1123_time
from v2g_env.data.table import COLUMNS, Repairs, clean, select_days, weekdays, within

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Repairs",
    "clean",
    "load_acn_json",
    "load_csv",
    "load_shipped",
    "provenance",
    "select_days",
    "verified",
    "weekdays",
]

_ACN_ZONE = "America/Los_Angeles"
_ACN_SITES = {"1": "jpl", "2": "caltech"}
_FAST_CHARGER = "11900388"  # the one direct-current charger, Caltech 2021: sessions of half an hour at up to 45 kW
_SHIPPED_FIELDS = {
    "arrival": "arrival",
    "departure": "departure",
    "stated_departure": "estimated_departure",
    "energy_kwh": "delivered_energy (kWh)",
    "requested_kwh": "requested_energy (kWh)",
    "station": "station_id",
    "session": "session_id",
    "claimed": "claimed",
}
_JSON_FIELDS = {
    "arrival": "connectionTime",
    "departure": "disconnectTime",
    "stated_departure": "requestedDeparture",
    "energy_kwh": "kWhDelivered",
    "requested_kwh": "kWhRequested",
    "station": "spaceID",
    "session": "sessionID",
    "site": "siteID",
    "timezone": "timezone",
}
_INPUTS = ("requestedDeparture", "kWhRequested")


def load_shipped(
    site: str, start: dt.date | str | None = None, end: dt.date | str | None = None, *, fast_charger: bool = False
) -> pd.DataFrame:
    """Load the ACN-Data sessions shipped with the package, claimed and unclaimed.

    Args:
        site: "jpl" or "caltech".
        start: first day of arrival (date or ISO text); None: from the first shipped day.
        end: last day of arrival, inclusive; None: to the last shipped day.
        fast_charger: keep the 556 sessions of the fast charger (Caltech 2021), which is no workplace charger.

    Raises:
        InvalidInputError: unknown site, no session in the range, or a file that differs from ``provenance.json``.
    """
    require(site in _ACN_SITES.values(), "site", site, "'jpl' or 'caltech'")
    table = _shipped(site)
    keep = within(table, start, end)
    if not fast_charger:
        keep &= (table["station"] != _FAST_CHARGER).to_numpy()
    span = f"a range with sessions; they lie in {min(table['date'])} .. {max(table['date'])}"
    require(bool(keep.any()), "start, end", (str(start), str(end)), span)
    return table[keep].reset_index(drop=True)


def load_acn_json(path: str | Path, *, repair: bool = False) -> pd.DataFrame:
    """Load a JSON export of ACN-Data.

    The last user input of a session counts; a session without one is unclaimed. The station is the ``spaceID``, as in
    the shipped files. Each session brings its own time zone.

    Args:
        path: the file, plain or gzip.
        repair: drop bad sessions and count them in ``attrs["repairs"]`` instead of raising.

    Raises:
        InvalidInputError: the file is truncated, has no sessions or lacks a field, or (without ``repair``) a bad value.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"file = {str(path)!r} ({error}); allowed: a complete JSON document") from error
    items = document.get("_items") if isinstance(document, dict) else None
    require(isinstance(items, list), f"{path} _items", items, "a list of sessions")
    rows = [_acn_row(item, f"{path} row {i}") for i, item in enumerate(items or [], 1)]
    return build(rows, Source(str(path), _JSON_FIELDS, rfc1123_time), repair=repair)


def load_csv(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    timezone: str = _ACN_ZONE,
    site: str = "site",
    repair: bool = False,
) -> pd.DataFrame:
    """Load sessions from a comma-separated file with a header line and ISO 8601 times.

    Args:
        path: the file, plain or gzip.
        columns: for each of "arrival" and "departure" (required), "stated_departure", "energy_kwh", "requested_kwh",
            "station", "session", "site" and "claimed" (optional) the name of its column in the file. None: the columns
            carry these names, and those present are used. Without "claimed", sessions with a stated departure are
            claimed; without "session", the row number identifies the session.
        timezone: IANA zone of the car park; times without offset are local clock times there.
        site: name of the car park where there is no "site" column.
        repair: drop bad sessions and count them in ``attrs["repairs"]`` instead of raising.

    Raises:
        InvalidInputError: the file is broken, a column is missing, or (without ``repair``) a value is bad.
    """
    header, lines = csv_lines(read_text(path), str(path))
    required = FIELDS[:2]
    if columns is None:
        columns = {field: field for field in FIELDS if field in header or field in required}
    unknown = sorted(set(columns) - set(FIELDS))
    require(not unknown, "columns", unknown, f"keys among {', '.join(FIELDS)}")
    require(set(required) <= set(columns), "columns", dict(columns), "a mapping with 'arrival' and 'departure'")
    rows = _pick(header, lines, columns, str(path), {"site": site, "timezone": timezone})
    return build(rows, Source(str(path), columns, iso_time), repair=repair)


@lru_cache(maxsize=1)
def provenance() -> tuple[dict[str, Any], ...]:
    """Return source, licence, checksum, size and units of every shipped file."""
    return tuple(json.loads(resources.files("v2g_env.data").joinpath("provenance.json").read_text("utf-8")))


def verified(entry: Mapping[str, Any]) -> bytes:
    """Return the bytes of a shipped file, given its entry of ``provenance``.

    Raises:
        InvalidInputError: the file differs from its checksum.
    """
    path = entry["path"]
    data = resources.files("v2g_env.data").joinpath(path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    require(digest == entry["sha256"], f"sha256 of {path}", digest, entry["sha256"])
    return data


@lru_cache(maxsize=2)
def _shipped(site: str) -> pd.DataFrame:
    """Read all windows of one site; callers take copies."""
    rows: list[dict[str, Any]] = []
    for entry in provenance():
        if entry["path"].startswith(f"acn/{site}_"):
            header, lines = csv_lines(decode(verified(entry), entry["path"]), entry["path"])
            rows += _pick(header, lines, _SHIPPED_FIELDS, entry["path"], {"site": site, "timezone": _ACN_ZONE})
    return build(rows, Source(f"acn/{site}", _SHIPPED_FIELDS, iso_time), repair=False)


def _pick(
    header: list[str], lines: list[list[str]], columns: Mapping[str, str], name: str, constants: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Take the mapped columns of every line, and constants for what the file does not say."""
    for column in columns.values():
        require(column in header, f"{name} header", header, f"a header with {column!r}")
    place = {field: header.index(column) for field, column in columns.items()}
    return [{**constants, **{field: line[i] for field, i in place.items()}} for line in lines]


def _acn_row(item: Any, where: str) -> dict[str, Any]:
    """Flatten one session of the JSON export; the last user input counts."""
    require(isinstance(item, dict), where, item, "an object")
    inputs = item.get("userInputs")
    require(inputs is None or isinstance(inputs, list), f"{where} userInputs", inputs, "null or a list")
    last = inputs[-1] if inputs else dict.fromkeys(_INPUTS)
    require(isinstance(last, dict), f"{where} userInputs", inputs, "a list of objects")
    merged = {**item, **{key: last[key] for key in _INPUTS if key in last}}
    for key in _JSON_FIELDS.values():
        require(key in merged, f"{where} {key}", "absent", "present")
    row = {field: merged[key] for field, key in _JSON_FIELDS.items()}
    site = str(row["site"])
    return {**row, "site": _ACN_SITES.get(site.lstrip("0"), site), "claimed": bool(inputs)}
