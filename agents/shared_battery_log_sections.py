"""Sections on recorded drivers: what a log holds, and what sharing saves for its drivers."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from agents.report import Section
from agents.shared_battery_answers import StudyConfig
from v2g_env.core.validate import require
from v2g_env.data.daily_energy import NORWEGIAN_RESIDENTIAL, DailyEnergy, load_charging_log, load_trip_log
from v2g_env.data.logs import CHARGING, TRIPS
from v2g_env.shared_battery.needs import Needs, from_days

__all__ = ["log_fleets", "no_log", "read_log_of", "recorded", "recorded_needs"]

Rows = list[dict[str, Any]]

BIN_KWH = 2.0
_FLEETS = (25, 50)
_COMMON_DAYS = 30  # of a pair of drivers, for a correlation


def read_log_of(config: StudyConfig) -> DailyEnergy:
    """The log of a study; bad rows are dropped and counted, drivers with few days left out.

    Raises:
        InvalidInputError: a file that cannot be read, or with fewer than two drivers.
    """
    path = Path(str(config.log))
    if config.log_kind == "trips":
        found = load_trip_log(path, repair=True)
    elif config.log_kind == "norwegian":
        found = load_charging_log(path, **NORWEGIAN_RESIDENTIAL, repair=True)
    else:
        found = load_charging_log(path, repair=True)
    kept = found.select(min_days=config.log_min_days)
    require(len(kept.drivers) > 1, "drivers of the log", len(kept.drivers), "at least 2 with enough days")
    return kept


def recorded_needs(log: DailyEnergy, config: StudyConfig) -> Needs:
    """Histograms of the drivers, in a random order so that subsets are no neighbourhoods."""
    order = np.random.default_rng(config.seed_of(50)).permutation(len(log.drivers))
    return from_days([log.days_of(int(i)) for i in order], BIN_KWH, log.name)


def log_fleets(needs: Needs) -> tuple[int, ...]:
    """Numbers of drivers that a log is studied with."""
    few = tuple(n for n in _FLEETS if n < needs.drivers)
    return (*few, needs.drivers)


def recorded(log: DailyEnergy, needs: Needs, config: StudyConfig) -> Section:
    """What the log holds."""
    days = np.diff(log.offset)
    energy = log.energy_kwh
    pairs = _correlations(log)
    rows: Rows = [
        _row("drivers", len(log.drivers)),
        _row("driver-days", len(energy)),
        _row("days of a driver, median", float(np.median(days))),
        _row("rows of the file dropped", log.repairs.total),
        *[
            _row(f"driver-day [kWh], {order:.0%} quantile", float(np.quantile(energy, order)))
            for order in (0.05, 0.25, 0.5, 0.75, 0.95)
        ],
        _row("mean of the drivers' means [kWh]", float(needs.mean_kwh().mean())),
        _row("mean of the drivers' 95 % quantiles [kWh]", float(needs.quantile(0.95).mean())),
        _row(f"pairs with {_COMMON_DAYS} common days", len(pairs)),
        *[
            _row(f"correlation of a pair, {words}", float(np.quantile(pairs, order)) if len(pairs) else None)
            for words, order in (("10 % quantile", 0.1), ("median", 0.5), ("90 % quantile", 0.9))
        ],
    ]
    kind = "distances driven" if config.log_kind == "trips" else "energy charged"
    days_text = (
        "Days without trips between a vehicle's first and last count as days without need."
        if config.log_kind == "trips"
        else "Only days on which somebody charged count: one charge can hold the driving of several days."
    )
    text = (
        f"Daily energy of the drivers of {log.name} with energy on at least {config.log_min_days} days, from "
        f"{kind}. {days_text} The sections below sample the drivers' histograms (bins of {BIN_KWH:g} kWh) "
        "independently of each other; correlations of the recorded days say whether that is far from the truth. A "
        f"target above {1.0 - 1.0 / float(np.median(days)):.3f} asks the median driver for his largest recorded day."
    )
    return Section("Recorded drivers", text, rows, None)


def no_log() -> Section:
    """What to pass for a study of recorded drivers."""
    rows: Rows = [
        {"log_kind": "trips", "columns": _columns(TRIPS), "days": "local day of the start; days without trips count"},
        {"log_kind": "charging", "columns": _columns(CHARGING), "days": "local day of the start; charging days only"},
        {
            "log_kind": "norwegian",
            "columns": ", ".join(NORWEGIAN_RESIDENTIAL["columns"].values()),
            "days": "as charging; Sorensen et al., Data in Brief 36:107105, Dataset 1",
        },
    ]
    text = (
        "No log was given. `v2g study shared-battery --log FILE --log-kind KIND`, or `StudyConfig(log=FILE, "
        "log_kind=KIND)`, adds the sections on reliability and on high targets for recorded drivers. The published "
        "log, of the Puget Sound study, can be had from the Transportation Secure Data Center of the National "
        "Renewable Energy Laboratory; it is not part of this package and was not available to us. Files are separated "
        "text with these columns."
    )
    return Section("Recorded drivers", text, rows, None)


def _row(what: str, value: float | int | None) -> dict[str, Any]:
    return {"what": what, "value": value}


def _columns(layout: Any) -> str:
    return ", ".join([*layout.required, *(f"{name} (optional)" for name in layout.optional)])


def _correlations(log: DailyEnergy) -> list[float]:
    """Correlation of the energies of every pair of drivers over their common days."""
    days = {i: log.day[log.offset[i] : log.offset[i + 1]] for i in range(len(log.drivers))}
    found = []
    for i, j in combinations(days, 2):
        _, left, right = np.intersect1d(days[i], days[j], assume_unique=True, return_indices=True)
        if len(left) >= _COMMON_DAYS:
            x, y = log.days_of(i)[left], log.days_of(j)[right]
            if np.ptp(x) > 0.0 and np.ptp(y) > 0.0:
                found.append(float(np.corrcoef(x, y)[0, 1]))
    return found
