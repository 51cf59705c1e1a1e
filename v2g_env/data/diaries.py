"""Where vehicles are over the day: hourly shares and moves of three clusters of drivers, from travel diaries.

A diary is one vehicle's day: where it starts, and its trips (start and end in minutes, place reached). Places are home,
work and elsewhere (0, 1, 2). Vehicles parked at work for at least 4 h are commuters, of the others those parked at home
for at least 21 h are home-based, the rest is mixed. The shipped table is derived from the diaries of the National
Household Travel Survey 2009 (see ``provenance.json``); ``read_gmlc`` and ``read_nhts`` read what users download.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.data.reading import csv_lines, decode, read_text
from v2g_env.data.sessions import provenance, verified

__all__ = [
    "CLUSTERS",
    "MOVES",
    "Cluster",
    "Diary",
    "Trip",
    "clusters_of",
    "load_clusters",
    "read_clusters",
    "read_gmlc",
    "read_nhts",
    "to_csv",
]

CLUSTERS = ("commuters", "home_based", "mixed")
MOVES = ("hh", "hw", "he", "wh", "ww", "we", "eh", "ew", "ee")
HOME, WORK, ELSEWHERE = range(3)
_DAY = 24 * 60
_PRESENT = ("home", "work", "elsewhere", "driving")
_STARTS = ("start_home", "start_work", "start_elsewhere")
_COLUMNS = ("cluster", "vehicles", "share", "hour", *_PRESENT, *_STARTS, *MOVES)
_GMLC_HOME, _GMLC_WORK = (1,), (11, 12, 13, 14)
_MANY_HOURS_AT_WORK, _MANY_HOURS_AT_HOME = 4, 21


class Trip(NamedTuple):
    """One trip: minutes after the diary begins, and the place it leads to."""

    start_min: int
    end_min: int
    place: int


class Diary(NamedTuple):
    """One vehicle's day from ``begin_h`` o'clock on: the place where it starts, and its trips in order."""

    first_place: int
    trips: tuple[Trip, ...]
    begin_h: int = 0


class Cluster(NamedTuple):
    """Statistics of one cluster of drivers; every row of ``start`` sums up to 1.

    Attributes:
        vehicles: number of vehicles.
        share: of all vehicles.
        present: (24, 4) shares of the hour's vehicle-minutes at home, at work, elsewhere and driving.
        start: (24, 3) shares of vehicles at home, work and elsewhere at the start of the hour.
        flow: (24, 3, 3) shares of vehicles at the first place at the start of the hour and at the second one at the
            start of the next; after the last hour comes the first.
    """

    vehicles: int
    share: float
    present: NDArray[np.float64]
    start: NDArray[np.float64]
    flow: NDArray[np.float64]


@lru_cache(maxsize=1)
def _shipped() -> str:
    entry = next(each for each in provenance() if each["path"] == "driver_clusters.csv")
    return decode(verified(entry), entry["path"])


def load_clusters() -> dict[str, Cluster]:
    """Return the three clusters shipped with the package; raises InvalidInputError if the file was changed."""
    return read_clusters(_shipped(), "driver_clusters.csv")


def read_clusters(text: str, name: str = "table") -> dict[str, Cluster]:
    """Read a table as written by ``to_csv``.

    Raises:
        InvalidInputError: columns or hours are missing, or a share is no number in [0, 1].
    """
    header, lines = csv_lines(text, name)
    require(tuple(header) == _COLUMNS, f"{name} header", header, ", ".join(_COLUMNS))
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for i, line in enumerate(lines, 1):
        try:
            rows[line[0]].append([float(cell) for cell in line[1:]])
        except ValueError:
            raise InvalidInputError(f"{name} row {i} = {line!r:.80}; allowed: numbers") from None
    result = {}
    for cluster, values in rows.items():
        table = np.array(values)
        require(
            table[:, 2].tolist() == list(range(24)), f"hours of {cluster}", table[:, 2].tolist(), "0 to 23, in order"
        )
        shares = table[:, 3:]
        inside = bool(((shares >= 0.0) & (shares <= 1.0)).all())
        require(inside, f"{name}, {cluster}", "a share outside", "shares in [0, 1]")
        vehicles, share = int(table[0, 0]), float(table[0, 1])
        result[cluster] = Cluster(vehicles, share, shares[:, :4], shares[:, 4:7], shares[:, 7:].reshape(24, 3, 3))
    return result


def to_csv(clusters: Mapping[str, Cluster]) -> str:
    """Return the clusters as comma-separated text, shares to five digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, each in clusters.items():
        for hour in range(24):
            shares = (*each.present[hour], *each.start[hour], *each.flow[hour].ravel())
            writer.writerow([name, each.vehicles, round(each.share, 5), hour, *(round(float(v), 5) for v in shares)])
    return out.getvalue()


def clusters_of(diaries: Sequence[Diary]) -> dict[str, Cluster]:
    """Sort vehicles into clusters and return the statistics of those clusters that have vehicles.

    A vehicle on the road at the start of an hour counts where it parks next. The day is taken as periodic: the state
    after the last hour is the one the diary began with.
    """
    require(len(diaries) > 0, "diaries", len(diaries), "at least one vehicle")
    days = [_minutes(each) for each in diaries]
    place, driving = np.array([day[0] for day in days]), np.array([day[1] for day in days])
    at = np.array([day[2] for day in days])
    parked_h = [((place == where) & ~driving).sum(1) / 60 for where in (HOME, WORK)]
    kind = np.where(parked_h[1] >= _MANY_HOURS_AT_WORK, 0, np.where(parked_h[0] >= _MANY_HOURS_AT_HOME, 1, 2))
    result = {}
    for k, name in enumerate(CLUSTERS):
        chosen = kind == k
        if not chosen.any():
            continue
        where = np.where(driving[chosen], 3, place[chosen])
        present = np.stack([(where == j).mean(0).reshape(24, 60).mean(1) for j in range(4)], axis=1)
        start, then = at[chosen], np.roll(at[chosen], -1, axis=1)
        flow = np.array([[((start == i) & (then == j)).mean(0) for j in range(3)] for i in range(3)])
        result[name] = Cluster(
            int(chosen.sum()), float(chosen.mean()), present, flow.sum(1).T.copy(), np.moveaxis(flow, 2, 0).copy()
        )
    return result


def _minutes(diary: Diary) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Place and whether driving in every minute from midnight, and the place at the start of every hour."""
    place, driving = np.full(_DAY, diary.first_place), np.zeros(_DAY, bool)
    for trip in diary.trips:
        place[trip.start_min :] = trip.place
        driving[trip.start_min : trip.end_min] = True
    starts = np.arange(0, _DAY, 60)
    for i, minute in enumerate(starts):
        parked = np.flatnonzero(~driving[minute:])
        starts[i] = place[minute + parked[0]] if len(parked) else place[-1]
    return np.roll(place, 60 * diary.begin_h), np.roll(driving, 60 * diary.begin_h), np.roll(starts, diary.begin_h)


def read_gmlc(folder: str | Path, *, repair: bool = False) -> list[Diary]:
    """Read the extract of the 2009 survey released by the Grid Modernization Laboratory Consortium.

    Args:
        folder: where gmlc_nhts_STRTTIME.txt, _ENDTIME.txt, _TRPMILES.txt and _WHYTO.txt lie: one line per vehicle, a
            sort key and up to 18 trips, 0 where there is none. All days start at home.
        repair: two diaries have a trip of unknown purpose, which leads elsewhere. The shipped table counts trips by
            their known purposes and so loses the last trip, the way home, of these two; True keeps it.

    Returns:
        The usable diaries: those whose trips all have an end and follow one another.
    """
    start, end, miles, why = (_matrix(Path(folder) / f"gmlc_nhts_{name}.txt") for name in _GMLC_FILES)
    shapes = [start.shape, end.shape, miles.shape, why.shape]
    require(len(set(shapes)) == 1, f"shapes of the tables in {folder}", shapes, "equal")
    diaries = []
    for row in range(len(start)):
        known = int((why[row] != 0 if repair else why[row] > 0).sum())
        trips = tuple(
            Trip(_clock(start[row, i]), _clock(end[row, i]), _place(why[row, i], _GMLC_HOME, _GMLC_WORK))
            for i in range(known)
        )
        if (end[row] >= 0).all() and _usable(trips):
            diaries.append(Diary(HOME, trips))
    return diaries


_GMLC_FILES = ("STRTTIME", "ENDTIME", "TRPMILES", "WHYTO")


def _matrix(path: Path) -> NDArray[np.float64]:
    try:
        rows = [[float(cell) for cell in line.split()] for line in read_text(path).splitlines() if line.strip()]
    except ValueError as error:
        raise InvalidInputError(f"file = {str(path)!r} ({error}); allowed: numbers") from error
    lengths = {len(row) for row in rows}
    require(
        len(lengths) == 1 and min(lengths) > 1, f"values per line of {path}", sorted(lengths), "one number, above 1"
    )
    return np.array(rows)[:, 1:]


def read_nhts(
    path: str | Path,
    *,
    weekdays_only: bool = False,
    home: Collection[int] = (1, 2),
    work: Collection[int] = (3, 4),
    begin_h: int = 4,
) -> list[Diary]:
    """Read a trip file of the survey of 2017 (``trippub.csv``) or 2022 (``tripv2pub.csv``), plain or gzip.

    Trips of drivers (DRVR_FLG 1) in a household vehicle (VEHID above 0) are put in order by vehicle. The travel day
    runs from 4 o'clock to 4 o'clock; a trip that is under way at its end is cut there.

    Args:
        path: the file; columns HOUSEID, VEHID, STRTTIME, ENDTIME (HHMM), DRVR_FLG, WHYFROM, WHYTO and TRAVDAY
            (1 is Sunday).
        weekdays_only: Monday to Friday.
        home: purposes that mean home: by default regular activities and work at home.
        work: purposes that mean work: by default work and work-related trips. All others, also missing ones, are
            elsewhere.
        begin_h: hour at which the travel day begins.

    Returns:
        The usable diaries: vehicles whose trips all have times and follow one another.

    Raises:
        InvalidInputError: a column is missing, a value is no whole number, or no vehicle is usable.
    """
    number("begin_h", begin_h, 0, 23, integer=True)
    header, lines = csv_lines(read_text(path), str(path))
    for column in _NHTS_COLUMNS:
        require(column in header, f"{path} header", header, f"a header with {column!r}")
    index = [header.index(column) for column in _NHTS_COLUMNS]
    days: dict[tuple[str, int], list[tuple[int, int, int, int]]] = defaultdict(list)
    for i, line in enumerate(lines, 1):
        try:
            vehicle, start, end, driver, origin, goal, weekday = (int(float(line[j])) for j in index[1:])
        except (ValueError, OverflowError):
            raise InvalidInputError(f"{path} row {i} = {line!r:.80}; allowed: whole numbers") from None
        if driver == 1 and vehicle > 0 and not (weekdays_only and weekday in (1, 7)):
            days[line[index[0]], vehicle].append((start, end, origin, goal))
    diaries = []
    for rows in days.values():
        if min(min(row[:2]) for row in rows) < 0:
            continue
        # clock times before the start of the travel day belong to the next morning
        timed = sorted((_since(start, begin_h), _since(end, begin_h), *places) for start, end, *places in rows)
        trips = tuple(
            Trip(start, end if end >= start else _DAY, _place(goal, home, work)) for start, end, _, goal in timed
        )
        if _usable(trips):
            diaries.append(Diary(_place(timed[0][2], home, work), trips, begin_h))
    require(len(diaries) > 0, f"usable vehicles in {path}", 0, "at least one")
    return diaries


_NHTS_COLUMNS = ("HOUSEID", "VEHID", "STRTTIME", "ENDTIME", "DRVR_FLG", "WHYFROM", "WHYTO", "TRAVDAY")


def _clock(hhmm: float) -> int:
    return 60 * int(hhmm // 100) + int(hhmm % 100)


def _since(hhmm: int, begin_h: int) -> int:
    return (_clock(hhmm) - 60 * begin_h) % _DAY


def _place(purpose: float, home: Collection[int], work: Collection[int]) -> int:
    return HOME if purpose in home else WORK if purpose in work else ELSEWHERE


def _usable(trips: Sequence[Trip]) -> bool:
    """Whether the trips lie within the day and follow one another."""
    times = [minute for trip in trips for minute in trip[:2]]
    return all(a <= b for a, b in zip([0, *times], [*times, _DAY], strict=True))
