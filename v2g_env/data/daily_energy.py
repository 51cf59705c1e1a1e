"""Energy per driver and day, from logs of trips or of charging sessions (see ``v2g_env.data.logs`` for bad input).

Trips and sessions count in full on the local day on which they start. Distances become energies at constant miles per
kWh.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.data.logs import CHARGING, TRIPS, CsvFormat, Entry, LogRepairs, read_log

__all__ = ["NORWEGIAN_RESIDENTIAL", "CsvFormat", "DailyEnergy", "LogRepairs", "load_charging_log", "load_trip_log"]

_KM_PER_MILE = 1.609344
_MILES = {"mile": 1.0, "km": 1.0 / _KM_PER_MILE, "m": 1.0 / (1000.0 * _KM_PER_MILE)}
_ZONE = "America/Los_Angeles"
_ISO = CsvFormat()

NORWEGIAN_RESIDENTIAL: Mapping[str, Any] = MappingProxyType(
    {
        "columns": MappingProxyType(
            {"user": "User_ID", "start": "Start_plugin", "end": "End_plugout", "energy_kwh": "El_kWh"}
        ),
        "timezone": "Europe/Oslo",
        "form": CsvFormat(delimiter=";", decimal=",", time_format="%d.%m.%Y %H:%M"),
    }
)
"""Settings for Dataset 1 of Sorensen et al. (2021), Data in Brief 36:107105: 6,878 sessions in Norwegian apartment
houses, to be passed as ``load_charging_log(path, **NORWEGIAN_RESIDENTIAL)``."""


@dataclass(frozen=True, eq=False)
class DailyEnergy:
    """Energy that every driver needed on every day of a log, as read-only arrays.

    Attributes:
        name: of the log.
        drivers: n identifiers, sorted.
        offset: (n + 1,) int64; the days of driver i are ``offset[i]:offset[i + 1]``, at least one.
        day: (N,) int64, proleptic ordinal (``date.toordinal()``) of each driver-day, increasing within a driver.
        energy_kwh: (N,) float64, at least 0.
        repairs: rows of the log that were dropped, by reason.
    """

    name: str
    drivers: tuple[str, ...]
    offset: NDArray[np.int64]
    day: NDArray[np.int64]
    energy_kwh: NDArray[np.float64]
    repairs: LogRepairs = LogRepairs()

    def __post_init__(self) -> None:
        """Check and lock the arrays."""
        drivers, offset, day = self.drivers, self.offset, self.day
        require(len(drivers) > 0, "drivers", drivers, "at least one")
        require(list(drivers) == sorted(set(drivers)), "drivers", drivers, "sorted identifiers, each once")
        array("energy_kwh", self.energy_kwh, (len(day),), 0.0)
        fits = offset.shape == (len(drivers) + 1,) and offset[0] == 0 and offset[-1] == len(day)
        require(fits and bool((np.diff(offset) > 0).all()), "offset", offset, f"0 to {len(day)}, increasing, of n + 1")
        in_order = np.diff(day) > 0
        in_order[offset[1:-1] - 1] = True  # from one driver to the next
        require(bool(in_order.all()), "day", day, "increasing within each driver")
        for column in (offset, day, self.energy_kwh):
            column.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lock the arrays of a copy too: compiled code is made for read-only ones."""
        self.__dict__.update(state)
        self.__post_init__()

    def days_of(self, driver: int) -> NDArray[np.float64]:
        """Return the energies of the days of one driver, (days,) kWh; ``driver`` is an index into ``drivers``."""
        number("driver", driver, 0, len(self.drivers) - 1, integer=True)
        return self.energy_kwh[self.offset[driver] : self.offset[driver + 1]]

    def select(self, *, min_days: int = 1) -> DailyEnergy:
        """Keep the drivers with energy above 0 on at least so many days, with all their days.

        Raises:
            InvalidInputError: no driver has so many.
        """
        number("min_days", min_days, 0, integer=True)
        used = np.add.reduceat((self.energy_kwh > 0.0).astype(np.int64), self.offset[:-1])
        keep = used >= min_days
        most = f"at most {used.max()}, the most days with energy of a driver"
        require(bool(keep.any()), "min_days", min_days, most)
        days = np.diff(self.offset)
        chosen = np.repeat(keep, days)
        drivers = tuple(driver for driver, kept in zip(self.drivers, keep, strict=True) if kept)
        return DailyEnergy(
            self.name, drivers, _offset(days[keep]), self.day[chosen], self.energy_kwh[chosen], self.repairs
        )


def load_trip_log(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    unit: str = "mile",
    miles_per_kwh: float = 3.0,
    timezone: str = _ZONE,
    form: CsvFormat = _ISO,
    idle_days: bool = True,
    repair: bool = False,
) -> DailyEnergy:
    """Load a log of vehicle trips from separated text with a header line.

    Args:
        path: the file, plain or gzip.
        columns: for each of "vehicle", "start", "end", "distance" (required) and "unit" (optional) the name of its
            column in the file. None: the columns carry these names, and "unit" is used if present.
        unit: "mile", "km", "m" or "kWh" (the column holds energies), where there is no column "unit".
        miles_per_kwh: miles driven with 1 kWh.
        timezone: IANA zone of the days; times without offset are local clock times there.
        form: delimiter, decimal mark and format of times.
        idle_days: days without trips between the first and the last day of a vehicle count, with 0 kWh.
        repair: drop bad trips and count them in ``repairs`` instead of raising.

    Raises:
        InvalidInputError: a broken file or unknown column, no usable trip, or (without ``repair``) a bad one: a value
            missing, unreadable, negative or infinite, an unknown unit, an end before the start, a copy of another
            trip, or an overlap with another trip of the vehicle. Of overlapping trips the one that starts later is
            bad, the longer one if both start together.
    """
    number("miles_per_kwh", miles_per_kwh, 0.0, open_low=True)
    entries, repairs = read_log(path, columns, TRIPS, unit=unit, timezone=timezone, form=form, repair=repair)
    energies = [
        entry.amount if entry.unit == "kWh" else entry.amount * _MILES[entry.unit] / miles_per_kwh for entry in entries
    ]
    return _by_day(Path(path).name, entries, energies, repairs, idle_days=idle_days)


def load_charging_log(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    timezone: str = _ZONE,
    form: CsvFormat = _ISO,
    idle_days: bool = False,
    repair: bool = False,
) -> DailyEnergy:
    """Load a log of charging sessions from separated text with a header line.

    Sessions of one user may overlap: users may have several cars or chargers. A session without end counts like any
    other, since its energy counts on the day of its start.

    Args:
        path: the file, plain or gzip.
        columns: for each of "user", "start", "energy_kwh" (required) and "end" (optional) the name of its column in
            the file. None: the columns carry these names, and "end" is used if present.
        timezone: IANA zone of the days; times without offset are local clock times there.
        form: delimiter, decimal mark and format of times.
        idle_days: days without sessions between the first and the last day of a user count, with 0 kWh.
        repair: drop bad sessions and count them in ``repairs`` instead of raising.

    Raises:
        InvalidInputError: a broken file or unknown column, no usable session, or (without ``repair``) a bad one: a
            value unreadable, negative or infinite, or missing other than the end, an end before the start, or a copy
            of another session.
    """
    entries, repairs = read_log(path, columns, CHARGING, unit="kWh", timezone=timezone, form=form, repair=repair)
    return _by_day(Path(path).name, entries, [entry.amount for entry in entries], repairs, idle_days=idle_days)


def _by_day(
    name: str, entries: Sequence[Entry], energies: Sequence[float], repairs: LogRepairs, *, idle_days: bool
) -> DailyEnergy:
    """Add up the energies of sorted entries by driver and day."""
    total: dict[str, dict[int, float]] = defaultdict(dict)
    for entry, energy_kwh in zip(entries, energies, strict=True):
        days = total[entry.driver]
        days[entry.day] = days.get(entry.day, 0.0) + energy_kwh
    # entries are in order of time, but where clocks go back over midnight their days need not be
    spans = {driver: range(min(d), max(d) + 1) if idle_days else sorted(d) for driver, d in total.items()}
    return DailyEnergy(
        name,
        tuple(total),
        _offset([len(span) for span in spans.values()]),
        np.array([day for span in spans.values() for day in span], dtype=np.int64),
        np.array([total[driver].get(day, 0.0) for driver, span in spans.items() for day in span], dtype=np.float64),
        repairs,
    )


def _offset(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
