"""Named sets of days of the shipped sessions, so that what is fitted and what is tested never mix.

======================= ========= =====================================================================
name                    role      days: weekdays with claimed sessions at JPL, or Caltech where named
======================= ========= =====================================================================
jpl-2019/fit            fit       2019 to 18 December, at least 40 claimed sessions, two days of three
jpl-2019/test           test      every third of those days
jpl-2019-summer         shift     those days before 1 September
jpl-2019-autumn         shift     those days from 1 September
jpl-2019/holiday        shift     19 to 31 December 2019
jpl-2020/early          shift     1 February to 13 March 2020
jpl-2020/lockdown       shift     16 March to 31 May 2020
jpl-2021                shift     2021
caltech-2019            shift     2019
jpl-all/scenarios       scenarios all shipped days, two of three
jpl-all/test            test      every third of all shipped days
caltech-all/scenarios   scenarios all shipped days, two of three
caltech-all/test        test      every third of all shipped days
======================= ========= =====================================================================

The ``-all`` sets serve programs on real days that use no fitted quantity.
Sets of one family (the part before the slash) share no day, and neither do the ``shift`` sets of different periods.
Sets of different families can: ``jpl-2019-summer`` covers days of ``jpl-2019/test``, and ``jpl-all/scenarios`` days of
every JPL set. Call ``disjoint`` on the pair in use.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.data.sessions import load_shipped
from v2g_env.data.table import clean, select_days

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MAX_CHARGER_KW", "NAMES", "DaySessions", "DaySet", "day_set", "disjoint", "sessions_of"]

Role = Literal["fit", "test", "scenarios", "shift"]


@dataclass(frozen=True)
class DaySet:
    """Days of one site under a name.

    Attributes:
        name: one of ``NAMES``, or your own.
        site: "jpl" or "caltech".
        dates: ISO dates in order.
        role: what the days may be used for: "fit", "scenarios", "test" or "shift" (test out of distribution).
    """

    name: str
    site: str
    dates: tuple[str, ...]
    role: Role


@dataclass(frozen=True, eq=False)
class DaySessions:
    """Claimed sessions of D days as read-only arrays, sorted by arrival within each day.

    Attributes:
        name: name of the day set.
        dates: ISO dates, D of them.
        offset: (D + 1,) int64; the sessions of day d are ``offset[d]:offset[d + 1]``.
        arrival_h: (N,) local clock at arrival, hours since midnight of the day.
        departure_h: (N,) end of the stay on the same axis, beyond 24 after midnight.
        stated_h: (N,) departure announced by the driver, same axis.
        energy_kwh: (N,) energy delivered, kWh.
    """

    name: str
    dates: tuple[str, ...]
    offset: NDArray[np.int64]
    arrival_h: NDArray[np.float64]
    departure_h: NDArray[np.float64]
    stated_h: NDArray[np.float64]
    energy_kwh: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Lock the arrays."""
        for column in (self.offset, self.arrival_h, self.departure_h, self.stated_h, self.energy_kwh):
            column.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lock the arrays of a copy too: compiled code is made for read-only ones."""
        self.__dict__.update(state)
        self.__post_init__()


class _Period(NamedTuple):
    """How a day set is chosen; ``part`` keeps the test thirds, the other two thirds, or all days."""

    site: str
    role: Role
    start: str
    end: str
    min_sessions: int = 1
    part: Literal["test", "rest", "all"] = "all"


_FIRST, _LAST = "2019-01-01", "2021-12-31"
_PERIODS = {
    "jpl-2019/fit": _Period("jpl", "fit", _FIRST, "2019-12-18", 40, "rest"),
    "jpl-2019/test": _Period("jpl", "test", _FIRST, "2019-12-18", 40, "test"),
    "jpl-2019/holiday": _Period("jpl", "shift", "2019-12-19", "2019-12-31"),
    "jpl-2019-summer": _Period("jpl", "shift", _FIRST, "2019-08-31", 40),
    "jpl-2019-autumn": _Period("jpl", "shift", "2019-09-01", "2019-12-18", 40),
    "jpl-2020/early": _Period("jpl", "shift", "2020-02-01", "2020-03-13"),
    "jpl-2020/lockdown": _Period("jpl", "shift", "2020-03-16", "2020-05-31"),
    "jpl-2021": _Period("jpl", "shift", "2021-01-01", _LAST),
    "caltech-2019": _Period("caltech", "shift", _FIRST, "2019-12-31"),
    "jpl-all/scenarios": _Period("jpl", "scenarios", _FIRST, _LAST, 1, "rest"),
    "jpl-all/test": _Period("jpl", "test", _FIRST, _LAST, 1, "test"),
    "caltech-all/scenarios": _Period("caltech", "scenarios", _FIRST, _LAST, 1, "rest"),
    "caltech-all/test": _Period("caltech", "test", _FIRST, _LAST, 1, "test"),
}
NAMES = tuple(_PERIODS)
MAX_CHARGER_KW = 10.0


@lru_cache(maxsize=len(_PERIODS))
def day_set(name: str) -> DaySet:
    """Return the days of one of ``NAMES``.

    Raises:
        InvalidInputError: unknown name.
    """
    require(name in _PERIODS, "name", name, ", ".join(NAMES))
    period = _PERIODS[name]
    days = select_days(_claimed(period.site), min_sessions=period.min_sessions, start=period.start, end=period.end)
    chosen = [day for i, day in enumerate(days) if period.part == "all" or (i % 3 == 2) == (period.part == "test")]
    return DaySet(name, period.site, tuple(day.isoformat() for day in chosen), period.role)


@lru_cache(maxsize=32)
def sessions_of(days: DaySet) -> DaySessions:
    """Return the claimed sessions of the days, the same object on every call.

    Sessions with more energy than MAX_CHARGER_KW delivers in their stay are left out.

    Raises:
        InvalidInputError: a day is given twice, out of order, or has no claimed session.
    """
    dates = [_date(text) for text in days.dates]
    require(bool(dates) and dates == sorted(set(dates)), "dates", days.dates, "ISO dates in order, each once")
    table = _claimed(days.site)
    # more energy than the charger can have delivered in the stay: the recorded departure is wrong
    table, _ = clean(table[table["date"].isin(dates)], max_charger_kw=MAX_CHARGER_KW)
    count = np.array([(table["date"] == date).sum() for date in dates])
    require(bool((count > 0).all()), "dates", days.dates, f"days with claimed sessions at {days.site}")

    def column(name: str) -> NDArray[np.float64]:
        return np.array(table[name], dtype=np.float64)

    return DaySessions(
        days.name,
        days.dates,
        np.concatenate(([0], np.cumsum(count))).astype(np.int64),
        column("arrival_h"),
        column("departure_h"),
        column("stated_departure_h"),
        column("energy_kwh"),
    )


def disjoint(a: DaySet, b: DaySet) -> None:
    """Check that two day sets share no session: no common day at the same site.

    Raises:
        InvalidInputError: with the common days.
    """
    common = sorted(set(a.dates) & set(b.dates)) if a.site == b.site else []
    require(not common, f"days in both {a.name} and {b.name}", common, "no common day")


@lru_cache(maxsize=2)
def _claimed(site: str) -> pd.DataFrame:
    """All claimed sessions of a site; unclaimed ones state no departure."""
    table = load_shipped(site)
    return table[table["claimed"]].reset_index(drop=True)


def _date(text: str) -> dt.date:
    """Read an ISO date."""
    try:
        return dt.date.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidInputError(f"dates = {text!r}; allowed: ISO dates such as '2019-09-02'") from None
