"""PJM's 2-second regulation signals, a month at a time: RegD (fast) and RegA (slow).

A user downloads them as "MM YYYY.xlsx" with the sheets ``Dynamic`` (RegD) and ``Traditional`` (RegA): the first row
holds dates, the first column the time of day every 2 seconds, the cells the signal in [-1, 1], positive where the
operator asks for more generation. Reading xlsx needs openpyxl: pip install "v2g-env[market-data]".
"""

from __future__ import annotations

import datetime as dt
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import InvalidInputError, require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SHEETS", "SignalRepairs", "hourly_mileage", "load_signal", "signal_table"]

SHEETS = {"RegD": "Dynamic", "RegA": "Traditional"}

_ROWS = 43_200  # a day in steps of 2 s
_BROKEN = (OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error)
_DATE_FORMATS = ("%m/%d/%Y", "%Y-%m-%d", "%m/%d/%y", "%d-%b-%Y", "%d-%b-%y")


@dataclass(frozen=True)
class SignalRepairs:
    """What a file of signals had amiss.

    Attributes:
        repeated_row: rows after the last of the day that were dropped (0 or 1; the files often end with one).
        text_date: days whose date was text instead of a date; they are kept.
        bad_day: days dropped because a cell is empty, no number, or outside [-1, 1].
    """

    repeated_row: int = 0
    text_date: int = 0
    bad_day: int = 0


def load_signal(path: str | Path, signal: str = "RegD", *, repair: bool = False) -> pd.DataFrame:
    """Load a month of a signal from the operator's xlsx file.

    Args:
        path: the file.
        signal: "RegD" or "RegA".
        repair: drop days with bad cells and count them instead of raising.

    Returns:
        The table of ``signal_table``.

    Raises:
        ImportError: openpyxl is absent.
        InvalidInputError: unknown signal; a file that is truncated, foreign or lacks the sheet; or as ``signal_table``.
    """
    require(signal in SHEETS, "signal", signal, "'RegD' or 'RegA'")
    try:
        import openpyxl
    except ImportError as error:
        raise ImportError('reading xlsx needs openpyxl: pip install "v2g-env[market-data]"') from error
    sheet, name = SHEETS[signal], str(path)
    try:
        with Path(path).open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = book.sheetnames
            rows = list(book[sheet].iter_rows(values_only=True)) if sheet in sheets else []
    except _BROKEN as error:
        raise InvalidInputError(f"file = {name!r} ({error}); allowed: a complete xlsx file") from error
    require(sheet in sheets, f"sheets of {name}", sheets, f"sheets with {sheet!r}")
    return signal_table(rows, f"{name} {sheet}", repair=repair)


def signal_table(rows: Iterable[Sequence[Any]], name: str, *, repair: bool = False) -> pd.DataFrame:
    """Turn the cells of a sheet into a table.

    Args:
        rows: the first is a corner cell and dates, each other a time of day and one value per date.
        name: what errors call the source.
        repair: drop days with bad cells and count them instead of raising.

    Returns:
        43,200 rows of float64 in [-1, 1], indexed by the second of the day (``second``: 0, 2, ..., 86398), with one
        column per day (datetime.date); a ``SignalRepairs`` in ``attrs["repairs"]``.

    Raises:
        InvalidInputError: no dates, a date that cannot be read or occurs twice, rows missing or out of step, or
            (without ``repair``) a cell that is empty, no number, or outside [-1, 1].
    """
    import pandas as pd

    head, *body = [list(row) for row in rows] or [[]]
    while len(head) > 1 and head[-1] is None:
        head.pop()  # spreadsheets keep formatted but empty columns
    days = [_date(cell, f"{name} column {i}") for i, cell in enumerate(head) if i > 0]
    require(len(days) > 0, f"dates of {name}", len(days), "at least one")
    require(len(set(days)) == len(days), f"dates of {name}", [str(day) for day in days], "each date once")
    while body and all(cell is None for cell in body[-1]):
        body.pop()
    require(len(body) in (_ROWS, _ROWS + 1), f"rows of {name}", len(body), "43200 (every 2 s of a day), or one more")
    for i, row in enumerate(body[:_ROWS]):
        require(_second(row[0]) == 2 * i, f"{name} row {i + 1} time", row[0], str(dt.timedelta(seconds=2 * i)))
    cells = [(row[1:] + [None] * len(days))[: len(days)] for row in body[:_ROWS]]
    raw = pd.DataFrame(cells, index=pd.RangeIndex(0, 2 * _ROWS, 2, name="second"), columns=days, dtype=object)
    table: pd.DataFrame = raw.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    bad = ~(table.to_numpy() >= -1.0) | ~(table.to_numpy() <= 1.0)
    if bad.any() and not repair:
        at, day = (int(i) for i in np.argwhere(bad)[0])
        where = f"{name} {days[day]} {dt.timedelta(seconds=2 * at)}"
        require(False, where, cells[at][day], "a number in [-1, 1], or repair=True to drop the day")
    good = ~bad.any(axis=0)
    require(bool(good.any()), f"days of {name} without bad cells", 0, "at least one")
    table = table.iloc[:, np.flatnonzero(good)]
    table.attrs["repairs"] = SignalRepairs(
        len(body) - _ROWS, sum(isinstance(c, str) for c in head[1:]), int((~good).sum())
    )
    return table


def hourly_mileage(table: pd.DataFrame) -> NDArray[np.float64]:
    """Mileage of each hour of a signal table: the sum of the absolute changes from sample to sample within the hour.

    Returns:
        (days, 24) float64, MW of movement per MW.

    Raises:
        InvalidInputError: a table of another length.
    """
    require(len(table) == _ROWS, "rows of table", len(table), "43200, as from load_signal")
    hours = table.to_numpy(dtype=np.float64).T.reshape(-1, 24, _ROWS // 24)
    result: NDArray[np.float64] = np.abs(np.diff(hours, axis=2)).sum(axis=2)
    return result


def _date(cell: Any, where: str) -> dt.date:
    """Read a date cell."""
    if isinstance(cell, dt.datetime):
        return cell.date()
    if isinstance(cell, dt.date):
        return cell
    for form in _DATE_FORMATS:
        try:
            return dt.datetime.strptime(str(cell).strip(), form).date()
        except ValueError:
            continue
    raise InvalidInputError(f"{where} = {cell!r}; allowed: a date")


def _second(cell: Any) -> int | None:
    """Second of the day that a time cell names; None if it names none."""
    if isinstance(cell, str):
        try:
            cell = dt.datetime.strptime(cell.strip(), "%H:%M:%S")
        except ValueError:
            return None
    if isinstance(cell, (dt.time, dt.datetime)):
        cell = dt.timedelta(0, cell.second, cell.microsecond, 0, cell.minute, cell.hour)
    if isinstance(cell, dt.timedelta):
        return round(float(cell.total_seconds()))
    if isinstance(cell, float) or cell == 0:
        return round(float(cell) * 86_400)  # spreadsheets store times as parts of a day
    return None
