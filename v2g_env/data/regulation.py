"""PJM's regulation market: shipped medians, loaders for the operator's files, and hourly prices by day.

A user downloads ``reg_market_results`` and ``reg_zone_prelim_bill`` (CSV) from PJM Data Miner 2, and the 2-second
signals (``v2g_env.data.agc``) from PJM's pages. A loader returns a pandas table with what it found amiss as
``table.attrs["repairs"]``. Files that are broken as a whole (empty, truncated, foreign) are errors. Bad rows are
errors too, with file, row (1 is the first below the header), field and value; with ``repair=True`` they are repaired
or dropped, and counted. Missing hours are counted and never filled in.

Hourly tables have one row per hour, sorted, with ``hour_utc`` (time zone aware; hours are told apart and joined by
UTC, since local clocks repeat an hour in autumn) and numbers under the operator's names, with a unit where PJM gives
none:

======================= ============================================================================================
column                  meaning
======================= ============================================================================================
rmccp_usd_per_mwh       clearing price of regulation capability, $ per MW and hour
rmpcp_usd_per_mwh       clearing price of regulation performance, $ per MW and hour (before mileage)
regd_mileage_per_h      movement of the fast signal (RegD) in the hour, MW per MW
rega_mileage_per_h      movement of the slow signal (RegA) in the hour, MW per MW
======================= ============================================================================================

and, where the file has them and unchanged: requirement, regd_ssmw, rega_ssmw, regd_procure, rega_procure, total_mw,
deficiency [MW], rto_perfscore, rega_hourly, regd_hourly.

The market was redesigned in October 2025 (the mean capability price rose from 36.9 to 116.3 $/MWh): figures from
before ``MARKET_REDESIGN`` say nothing about later days, and the other way round.
"""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import number, require
from v2g_env.data.hourly import HourRepairs, load_hours
from v2g_env.data.reading import csv_lines, decode
from v2g_env.data.sessions import provenance, verified

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MARKET_REDESIGN",
    "DailyPrices",
    "HourRepairs",
    "daily_prices",
    "hourly_medians",
    "join_hours",
    "load_market_results",
    "load_prices",
]

MARKET_REDESIGN = dt.date(2025, 10, 1)

_ZONE = ZoneInfo("America/New_York")
_HOUR = dt.timedelta(hours=1)
_MEDIANS = "pjm_hourly_medians.csv"
_PRICES = {"rmccp": "rmccp_usd_per_mwh", "rmpcp": "rmpcp_usd_per_mwh"}
_MILEAGES = {"regd_mileage": "regd_mileage_per_h", "rega_mileage": "rega_mileage_per_h"}
_MORE_RESULTS = (
    "requirement",
    "regd_ssmw",
    "rega_ssmw",
    "regd_procure",
    "rega_procure",
    "total_mw",
    "deficiency",
    "rto_perfscore",
    "rega_hourly",
    "regd_hourly",
)


class DailyPrices(NamedTuple):
    """Prices of whole days.

    Attributes:
        days: (n,) local days (America/New_York), increasing.
        usd_per_kw_h: (n, 24) float64, revenue per kW of bid and hour [$/kW], by hour of the local day.
        incomplete: days left out because hours are missing.
        clock_changes: days left out because they have 23 or 25 hours.
    """

    days: tuple[dt.date, ...]
    usd_per_kw_h: NDArray[np.float64]
    incomplete: tuple[dt.date, ...]
    clock_changes: tuple[dt.date, ...]


def load_prices(path: str | Path, *, repair: bool = False) -> pd.DataFrame:
    """Load clearing prices (``reg_zone_prelim_bill`` of PJM Data Miner 2).

    Args:
        path: the CSV, plain or gzip.
        repair: drop or reread bad rows and count them instead of raising.

    Returns:
        ``hour_utc``, ``rmccp_usd_per_mwh`` and ``rmpcp_usd_per_mwh``; an ``HourRepairs`` in ``attrs["repairs"]``.

    Raises:
        InvalidInputError: a broken or foreign file, or (without ``repair``) a bad row or a repeated hour.
    """
    return load_hours(path, _PRICES, (), filled=True, repair=repair)


def load_market_results(path: str | Path, *, repair: bool = False) -> pd.DataFrame:
    """Load mileages and cleared amounts (``reg_market_results`` of PJM Data Miner 2).

    Args:
        path: the CSV, plain or gzip.
        repair: drop or reread bad rows and count them instead of raising.

    Returns:
        ``hour_utc``, both mileages and the other numeric columns of the file (NaN where empty); an ``HourRepairs`` in
        ``attrs["repairs"]``.

    Raises:
        InvalidInputError: a broken or foreign file, or (without ``repair``) a bad row or a repeated hour.
    """
    return load_hours(path, _MILEAGES, _MORE_RESULTS, filled=False, repair=repair)


def join_hours(prices: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Join two hourly tables on ``hour_utc``, keeping the hours that both have.

    Raises:
        InvalidInputError: a table without ``hour_utc`` or with an hour twice, or no common hour.
    """
    for name, table in (("prices", prices), ("results", results)):
        _require_hours(table, name)
    joined = prices.merge(results, on="hour_utc", how="inner").sort_values("hour_utc", ignore_index=True)
    require(len(joined) > 0, "common hours of prices and results", 0, "at least one")
    return joined


def daily_prices(table: pd.DataFrame, factor: str | float = "ratio", *, repair: bool = False) -> DailyPrices:
    """Price of a kW of regulation in each hour of whole days: RMCCP + factor x RMPCP.

    Sources disagree about the factor of the performance price: the operator's manual pays the mileage RATIO of the fast
    to the slow signal, some public code the mileage itself, which is about six times as much.

    Args:
        table: prices as from ``load_prices``; for a factor by the hour, joined with the market's results.
        factor: "ratio" (RegD mileage / RegA mileage of the hour), "mileage" (RegD mileage of the hour), or a constant
            >= 0 (5.68 is the median ratio in April 2023).
        repair: leave out days with missing hours or without a usable factor and name them, instead of raising.

    Returns:
        Prices by local day. Days on which clocks change have no 24 hours; they are always left out, and named.

    Raises:
        InvalidInputError: columns missing, an unknown factor, a repeated hour, a price that is no number, no whole day,
            or (without ``repair``) a day with missing hours.
    """
    import pandas as pd

    _require_hours(table, "table")
    price = _usd_per_kw_h(table, factor)
    local = pd.DatetimeIndex(table["hour_utc"]).tz_convert(_ZONE)
    given: dict[dt.date, dict[int, float]] = {}
    for day, hour, value in zip(local.date, local.hour, price.tolist(), strict=True):
        hours = given.setdefault(day, {})
        if not math.isnan(value):
            hours[hour] = value
    first, last = min(given), max(given)
    every = [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]
    changes = tuple(day for day in every if _hours_of(day) != 24)
    whole = tuple(day for day in every if day not in changes and len(given.get(day, ())) == 24)
    incomplete = tuple(day for day in every if day not in changes and len(given.get(day, ())) < 24)
    if incomplete and not repair:
        number_of = f"hours with a price on {incomplete[0]}, the first of {len(incomplete)} incomplete days"
        require(False, number_of, len(given.get(incomplete[0], ())), "24, or repair=True to leave such days out")
    require(len(whole) > 0, "days with 24 prices", 0, "at least one")
    prices = np.array([[given[day][hour] for hour in range(24)] for day in whole])
    return DailyPrices(whole, prices, incomplete, changes)


def hourly_medians() -> pd.DataFrame:
    """Return the shipped medians of both prices by hour of the day, June 2018 to February 2026.

    Returns:
        24 rows: ``hour_ept`` (0..23, local hour beginning), ``rmccp_usd_per_mwh``, ``rmpcp_usd_per_mwh`` [$/MWh].

    Raises:
        InvalidInputError: the file differs from ``provenance.json``.
    """
    import pandas as pd

    entry = next(entry for entry in provenance() if entry["path"] == _MEDIANS)
    header, lines = csv_lines(decode(verified(entry), _MEDIANS), _MEDIANS)
    table = pd.DataFrame([[float(cell) for cell in line] for line in lines], columns=header)
    return table.astype({"hour_ept": int})


def _require_hours(table: pd.DataFrame, name: str) -> None:
    """Refuse a table without UTC hours or with an hour twice."""
    columns = list(table.columns)
    require("hour_utc" in columns and len(table) > 0, f"columns of {name}", columns, "'hour_utc', with rows")
    zone = getattr(table["hour_utc"].dtype, "tz", None)
    require(zone is not None, f"{name} hour_utc", str(table["hour_utc"].dtype), "times with a time zone")
    twice = table["hour_utc"][table["hour_utc"].duplicated()]
    require(len(twice) == 0, f"{name} hour_utc", str(twice.iloc[0]) if len(twice) else "", "each hour once")


def _usd_per_kw_h(table: pd.DataFrame, factor: str | float) -> NDArray[np.float64]:
    """Price of each row; NaN where a price or the factor is missing."""
    fast, slow = _MILEAGES.values()
    needed = {"ratio": (fast, slow), "mileage": (fast,)}.get(factor, ()) if isinstance(factor, str) else ()
    if isinstance(factor, str):
        require(len(needed) > 0, "factor", factor, "'ratio', 'mileage' or a number")
    else:
        number("factor", factor, 0.0)
    numbers = {}
    for column in (*_PRICES.values(), *needed):
        require(column in table.columns, "columns of table", list(table.columns), f"a table with {column!r}")
        numbers[column] = table[column].to_numpy(dtype=np.float64)
    capability, performance = (numbers[column] for column in _PRICES.values())
    with np.errstate(divide="ignore", invalid="ignore"):
        if factor == "ratio":
            times = numbers[fast] / numbers[slow]
        else:
            times = numbers[fast] if factor == "mileage" else np.full(len(table), factor)
        price = (capability + times * performance) / 1000.0
    return np.where(np.isfinite(price), price, np.nan)


def _hours_of(day: dt.date) -> int:
    """Number of hours of a local day."""
    start, end = (
        dt.datetime.combine(d, dt.time(), _ZONE).astimezone(dt.UTC) for d in (day, day + dt.timedelta(days=1))
    )
    return int((end - start) // _HOUR)
