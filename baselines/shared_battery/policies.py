"""Policies for V2G/SharedBatteryAllocation-v0 and its partial variant, all with ``predict``.

A policy sees the observation and knows the instance, its law and batteries; it never sees the scenario. Values and
densities are observed as logarithms, cut far out; what one of them cuts off is read from the other. Where shares may be
granted, the same rules grant everything or nothing, of what is left if that is less.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.week_programme import WeekProgramme, solve_week
from v2g_env.core.validate import number, require
from v2g_env.rollout import rollout
from v2g_env.shared_battery.kernels import DENSITY_LOG, VALUE_LOG
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week

__all__ = [
    "DensityThreshold",
    "DynamicProgramme",
    "FirstCome",
    "PacedDensity",
    "Request",
    "Rule",
    "read_request",
    "tune_density",
    "tune_paced",
]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
Seen = NDArray[np.float32]
Memory = tuple[Any, ...] | None

_PACES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


class Request(NamedTuple):
    """What observations (m, 16) tell, (m,) each.

    Attributes:
        left_kwh: energy left in the shared battery [kWh].
        size_kwh: what is asked for, 0 without a request [kWh].
        value_usd: what serving it is worth [$].
        fits, asks: whether it fits, whether there is a request.
        to_come: share of the day's drivers still to come, this one included.
        day: days since the week began.
        place: drivers who came before on this day.
    """

    left_kwh: Floats
    size_kwh: Floats
    value_usd: Floats
    fits: Flags
    asks: Flags
    to_come: Floats
    day: Ints
    place: Ints

    @property
    def density(self) -> Floats:
        """(m,) value per energy [$/kWh], infinite where nothing is asked for."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.asks & (self.size_kwh > 0.0), self.value_usd / self.size_kwh, np.inf)


def read_request(model: WeekModel, observation: Seen) -> Request:
    """Turn observations (m, 16) back into energies and money; exact up to single precision."""
    layout, c = model.observation_layout, model.constants
    seen = {name: observation[:, place].astype(np.float64)[:, 0] for name, place in layout.items() if name != "weekday"}
    size = seen["size"] * c.shared_kwh
    by_value = np.exp(2.0 * VALUE_LOG * (seen["value"] - 0.5))
    by_density = np.exp(2.0 * DENSITY_LOG * (seen["density"] - 0.5)) * size / c.mean_size_kwh
    cut = (seen["value"] <= 0.0) | (seen["value"] >= 1.0)
    uncut = (seen["density"] > 0.0) & (seen["density"] < 1.0)
    asks = seen["asks"] > 0.5
    value = np.where(asks, c.value_usd * np.where(cut & uncut, by_density, by_value), 0.0)
    day = np.rint((1.0 - seen["days_to_come"]) * c.days).astype(np.int64)
    place = np.rint((1.0 - seen["to_come"]) * c.drivers).astype(np.int64)
    return Request(seen["left"] * c.shared_kwh, size, value, seen["fits"] > 0.5, asks, seen["to_come"], day, place)


class Rule:
    """A policy that says yes or no to a request; subclasses name the rule."""

    def __init__(self, model: WeekModel) -> None:
        self.model = model

    def wants(self, request: Request) -> Flags:
        """Whether to grant each request, (m,), if it fits."""
        raise TypeError(f"{type(self).__name__} has no rule")

    def predict(
        self,
        observation: Seen,
        state: Memory = None,
        episode_start: Flags | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Memory]:
        """Choices (m,) int64 for observations (m, 16), or one for (16,); shares (m, 1) float32 if the model is partial.

        No memory, no randomness. Requests that do not fit are refused, or served with what is left.
        """
        request = read_request(self.model, np.atleast_2d(observation))
        grant = self.wants(request)
        action: NDArray[Any]
        if self.model.partial:
            action = np.where(grant, 1.0, -1.0).astype(np.float32)[:, None]
        else:
            action = (grant & request.fits).astype(np.int64)
        return (action if np.ndim(observation) == 2 else action[0]), None


class FirstCome(Rule):
    """Grants whatever fits."""

    def wants(self, request: Request) -> Flags:
        """Always."""
        return np.ones(len(request.asks), bool)


class DensityThreshold(Rule):
    """Grants what is worth at least so much per kWh; ``tune_density`` chooses the price on training weeks.

    Args:
        model: of the environment.
        price: g >= 0 [$/kWh].
    """

    def __init__(self, model: WeekModel, price: float) -> None:
        super().__init__(model)
        number("price", price, 0.0, 1e12)
        self.price = float(price)

    def wants(self, request: Request) -> Flags:
        """Where value / size >= g."""
        return np.asarray(request.density >= self.price)


class PacedDensity(Rule):
    """Raises the price when more of the battery is gone than of the day: g exp(a (share to come - left / s)).

    Args:
        model: of the environment.
        price: g >= 0 [$/kWh].
        pace: a >= 0; 0 is DensityThreshold.
    """

    def __init__(self, model: WeekModel, price: float, pace: float = 1.0) -> None:
        super().__init__(model)
        number("price", price, 0.0, 1e12)
        number("pace", pace, 0.0, 100.0)
        self.price, self.pace = float(price), float(pace)

    def wants(self, request: Request) -> Flags:
        """Where value / size >= g exp(a (share to come - left / s))."""
        behind = request.to_come - request.left_kwh / self.model.constants.shared_kwh
        return np.asarray(request.density >= self.price * np.exp(self.pace * behind))


class DynamicProgramme(Rule):
    """Grants what is worth more than the energy will be; see week_programme.py for the programme and what it assumes.

    For drivers who are alike and independent it is the best policy there is, up to the grid.

    Args:
        model: of the environment.
        grid: units of the shared battery.
        coupled: False takes every day for the last (the myopic programme).
        solved: a programme solved before takes the place of ``grid`` and ``coupled``.
    """

    def __init__(
        self, model: WeekModel, grid: int = 400, coupled: bool = True, solved: WeekProgramme | None = None
    ) -> None:
        super().__init__(model)
        self.solved = solved or solve_week(model, grid, coupled=coupled)
        have, want = self.solved.after_usd.shape[:2], (model.constants.days, model.constants.drivers)
        require(have == want, "days and drivers of the programme", have, str(want))

    def wants(self, request: Request) -> Flags:
        """Where the value is at least the worth of the energy it takes."""
        unit = self.solved.grid.unit_kwh
        taken = np.minimum(request.size_kwh, request.left_kwh)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(request.size_kwh > 0.0, taken / request.size_kwh, 1.0)  # 1 where it fits
        rows = self.solved.after_usd[
            np.minimum(request.day, self.model.constants.days - 1),
            np.minimum(request.place, self.model.constants.drivers - 1),
        ]
        price = _at(rows, request.left_kwh / unit) - _at(rows, (request.left_kwh - taken) / unit)
        return np.asarray(request.value_usd * part >= price)


def _at(rows: Floats, place: Floats) -> Floats:
    """Piecewise linear functions with knots rows (m, N + 1) at 0, 1, ..., N, each at its own place (m,)."""
    last = rows.shape[1] - 1
    place = np.clip(place, 0.0, last)
    low = np.minimum(place.astype(np.int64), last - 1)
    each = np.arange(len(rows))
    return np.asarray(rows[each, low] + (place - low) * (rows[each, low + 1] - rows[each, low]))


def _prices(model: WeekModel, scenario: Week, count: int) -> Floats:
    """Candidates for a price: 0 and quantiles of the densities (value / size) in the training weeks [$/kWh]."""
    number("count", count, 1, 1000, integer=True)
    asked = scenario.size_kwh > 0.0
    require(bool(asked.any()), "requests in the training weeks", 0, "at least one")
    density = scenario.value_usd[asked] / scenario.size_kwh[asked]
    return np.append(0.0, np.quantile(density, np.linspace(0.0, 0.95, count)))


def tune_density(model: WeekModel, scenario: Week, count: int = 40) -> float:
    """Price [$/kWh] of the DensityThreshold with the highest mean return in training weeks, among ``count`` and 0."""
    prices = _prices(model, scenario, count)
    mean = [rollout(model, scenario, DensityThreshold(model, price)).returns.mean() for price in prices]
    return float(prices[int(np.argmax(mean))])


def tune_paced(
    model: WeekModel, scenario: Week, count: int = 20, paces: tuple[float, ...] = _PACES
) -> tuple[float, float]:
    """Price [$/kWh] and pace of the PacedDensity with the highest mean return in training weeks, over a grid."""
    require(len(paces) > 0, "paces", paces, "at least one")
    tried = [(float(price), float(pace)) for pace in paces for price in _prices(model, scenario, count)]
    mean = [rollout(model, scenario, PacedDensity(model, *each)).returns.mean() for each in tried]
    return tried[int(np.argmax(mean))]
