"""The one table format of charging sessions, and what can be asked of such a table.

One row per session, sorted by arrival, with these columns:

==================== =============== ==================================================================
column               type            meaning
==================== =============== ==================================================================
site                 str             name of the car park
date                 datetime.date   local day of arrival
arrival_h            float, h        local clock at arrival, hours since midnight of ``date``, [0, 24)
departure_h          float, h        ``arrival_h`` plus the elapsed stay; beyond 24 when midnight is crossed
stated_departure_h   float or NaN, h departure announced by the driver: ``arrival_h`` plus the announced stay
energy_kwh           float, kWh      energy delivered (NaN where the source has none)
requested_kwh        float or NaN    energy the driver asked for, kWh
station, session     str             identifiers; a session is unique within its site
claimed              bool            the driver identified himself and stated a departure
==================== =============== ==================================================================

The day is laid out by the local clock at arrival, and durations are elapsed time. On the two days a year when clocks
change, a stay therefore keeps its true length and ``departure_h`` may differ from the wall clock by an hour.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import InvalidInputError, number, require

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "RULES", "Repairs", "Rule", "clean", "drop", "select_days", "weekdays", "within"]

COLUMNS = (
    "site",
    "date",
    "arrival_h",
    "departure_h",
    "stated_departure_h",
    "energy_kwh",
    "requested_kwh",
    "station",
    "session",
    "claimed",
)


@dataclass(frozen=True)
class Repairs:
    """Number of sessions dropped, by reason; each counts once, under the first reason that holds, in this order.

    Attributes:
        bad_value: a time is missing or unreadable, or a number is unreadable, negative or infinite.
        departure_not_after_arrival: the stay is not positive.
        stated_not_after_arrival: the stated stay is not positive.
        duplicate: the session identifier occurred before at this site.
        energy_beyond_charger: more energy than the charger can give during the stay.
        unclaimed: the driver stated nothing.
    """

    bad_value: int = 0
    departure_not_after_arrival: int = 0
    stated_not_after_arrival: int = 0
    duplicate: int = 0
    energy_beyond_charger: int = 0
    unclaimed: int = 0

    @property
    def total(self) -> int:
        """Number of sessions dropped for any reason."""
        return sum(astuple(self))


class Rule(NamedTuple):
    """A reason to reject sessions: which field is to blame, what is allowed, and how to find them in a table."""

    reason: str
    field: str
    allowed: str
    broken: Callable[[pd.DataFrame], pd.Series[bool]]


RULES = (
    Rule("departure_not_after_arrival", "departure", "after arrival", lambda t: t["departure_h"] <= t["arrival_h"]),
    Rule(
        "stated_not_after_arrival",
        "stated_departure",
        "after arrival, or absent",
        lambda t: t["stated_departure_h"] <= t["arrival_h"],
    ),
    Rule("duplicate", "session", "unique within its site", lambda t: t.duplicated(["site", "session"])),
)
_UNCLAIMED = Rule("unclaimed", "claimed", "True", lambda t: ~t["claimed"].astype(bool))


def clean(
    table: pd.DataFrame, *, max_charger_kw: float | None = None, claimed_only: bool = True
) -> tuple[pd.DataFrame, Repairs]:
    """Return the usable sessions of a table, and how many were dropped and why.

    Args:
        table: sessions in the format of this module, also hand-made ones.
        max_charger_kw: drop sessions whose energy exceeds this power times the stay, kW; None: no such check.
        claimed_only: drop sessions whose driver stated nothing.

    Returns:
        A new table with a fresh index, and the counts.
    """
    _require_columns(table)
    rules = [Rule("bad_value", "arrival", "a value", _bad_value), *RULES]
    if max_charger_kw is not None:
        number("max_charger_kw", max_charger_kw, 0.0, open_low=True)
        rules.append(_energy_rule(max_charger_kw))
    if claimed_only:
        rules.append(_UNCLAIMED)
    kept, counts = drop(table, rules)
    return kept.reset_index(drop=True), Repairs(**counts)


def drop(table: pd.DataFrame, rules: Iterable[Rule]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Remove the sessions each rule rejects, one rule after the other, and count them by reason."""
    counts: dict[str, int] = {}
    for rule in rules:
        broken = rule.broken(table).to_numpy(dtype=bool)
        counts[rule.reason] = int(broken.sum())
        table = table[~broken]
    return table, counts


def weekdays(table: pd.DataFrame) -> pd.DataFrame:
    """Return the sessions that arrive Monday to Friday (public holidays included)."""
    _require_columns(table)
    return table[np.array([day.weekday() < 5 for day in table["date"]], dtype=bool)]


def select_days(
    table: pd.DataFrame,
    *,
    weekdays_only: bool = True,
    claimed_only: bool = True,
    min_sessions: int = 0,
    start: dt.date | str | None = None,
    end: dt.date | str | None = None,
) -> tuple[dt.date, ...]:
    """Return, in order, the days on which at least one session, and ``min_sessions``, of the wanted kind arrive.

    Args:
        table: sessions in the format of this module.
        weekdays_only: Monday to Friday only.
        claimed_only: count claimed sessions only.
        min_sessions: least number of counted sessions on the day.
        start: first day (date or ISO text); None: no bound.
        end: last day, inclusive; None: no bound.
    """
    number("min_sessions", min_sessions, 0, integer=True)
    _require_columns(table)
    chosen = table[within(table, start, end)]
    if weekdays_only:
        chosen = weekdays(chosen)
    if claimed_only:
        chosen = chosen[chosen["claimed"]]
    count = Counter(chosen["date"])
    return tuple(sorted(day for day, sessions in count.items() if sessions >= min_sessions))


def within(table: pd.DataFrame, start: dt.date | str | None, end: dt.date | str | None) -> NDArray[np.bool_]:
    """Mark the sessions that arrive on the days ``start`` to ``end``, both inclusive; None is no bound."""
    first, last = _day("start", start, dt.date.min), _day("end", end, dt.date.max)
    require(first <= last, "start, end", (str(start), str(end)), "start not after end")
    return np.array([first <= day <= last for day in table["date"]], dtype=bool)


def _day(field: str, value: dt.date | str | None, default: dt.date) -> dt.date:
    """Read a day given as date or ISO text."""
    if value is None:
        return default
    try:
        return dt.date.fromisoformat(str(value))
    except ValueError:
        raise InvalidInputError(f"{field} = {value!r}; allowed: a date such as '2019-09-01', or None") from None


def _require_columns(table: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in table.columns]
    require(not missing, "columns of the session table", list(table.columns), f"a table that has {missing} too")


def _bad_value(table: pd.DataFrame) -> pd.Series[bool]:
    """Mark sessions without times or with impossible numbers; energies may be NaN."""
    bad = table["date"].isna()
    for column in ("arrival_h", "departure_h"):
        bad |= ~np.isfinite(table[column])
    for column in ("energy_kwh", "requested_kwh"):
        bad |= (table[column] < 0.0) | np.isinf(table[column])
    return bad


def _energy_rule(charger_kw: float) -> Rule:
    """Make the rule that no session draws more than the charger gives (one part in a billion allowed for rounding)."""
    cap_kw = charger_kw * (1.0 + 1e-9)
    return Rule(
        "energy_beyond_charger",
        "energy_kwh",
        f"at most {charger_kw:g} kW times the stay",
        lambda t: t["energy_kwh"] > cap_kw * (t["departure_h"] - t["arrival_h"]),
    )
