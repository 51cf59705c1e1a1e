"""Drivers who report what they lack to the shared battery's rule: parties, state, one day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.allocation import ORDERED, allocate, random_order
from v2g_env.core.payments import clarke
from v2g_env.core.validate import number, require
from v2g_env.party_model import Role
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import SCALE_KWH, TOLERANCE_KWH
from v2g_env.shared_battery.scenario import Law, draw_seasons, fitting, week_sizes

__all__ = ["PAYMENTS", "Days", "PartyState", "SharedBatteryParties"]

Floats = NDArray[np.float64]

PAYMENTS = ("none", "price", "clarke")
_VALUE_SD = 3.0  # standard deviations of the log value at which it is cut


class Days(NamedTuple):
    """What n episodes draw, each (n, D, drivers): lack beyond own batteries [kWh], value [$/kWh], orders of service."""

    lack_kwh: Floats
    value: Floats
    order: NDArray[np.int64]


class PartyState(NamedTuple):
    """Days done (n,); shares of all reports (n,) and of each own one (n, drivers) that were met the day before."""

    t: NDArray[np.int64]
    filled: Floats
    own_filled: Floats


class SharedBatteryParties:
    """Batched days of reports. A step is a day; the shared battery is full again every morning.

    Args:
        instance: fleet, rule, sizes (own_quantile, shared_fraction), values.
        source: the law of the needs, or its name.
        payment: "none", "price" (``price_usd_per_kwh`` for what one gets), or "clarke" (energy to those who value it
            most, whatever the instance's rule, and Clarke's payments on reported needs and true values).
        price_usd_per_kwh: of "price".
        overstate_max: largest report, as a multiple of what a driver lacks.
        days: of an episode.
    """

    facts: tuple[str, ...] = ("excess", "wasted_kwh", "given_kwh", "lack_kwh", "paid_usd", "served_share")
    tolerance = TOLERANCE_KWH / SCALE_KWH

    def __init__(
        self,
        instance: Instance,
        source: Law | str = "generator",
        payment: str = "none",
        price_usd_per_kwh: float = 0.2,
        overstate_max: float = 3.0,
        days: int = 7,
    ) -> None:
        require(payment in PAYMENTS, "payment", payment, ", ".join(PAYMENTS))
        number("price_usd_per_kwh", price_usd_per_kwh, 0.0, 1e6)
        number("overstate_max", overstate_max, 1.0, 1e6, open_low=True)
        number("days", days, 1, 10_000, integer=True)
        self.instance = instance.replace(season_days=days)
        self.law = fitting(self.instance, source)
        self.payment, self.price, self.most = payment, price_usd_per_kwh, overstate_max
        self.steps = days
        lot = self.instance
        sizes = week_sizes(lot, self.law)
        self.shared_kwh = sizes.shared_kwh
        self.own_kwh = sizes.own_kwh
        self.middle = lot.value_usd / sizes.mean_size_kwh  # median worth of a kWh
        top = float(np.exp(lot.value_sd * _VALUE_SD))
        largest = max(float(self.law.needs.largest_kwh) / sizes.mean_size_kwh, 1e-3)
        self._unit = sizes.mean_size_kwh
        high = np.array([largest, top, self.shared_kwh / (lot.drivers * self._unit), 1.0, 1.0, 1.0], np.float32)
        role = Role("driver", lot.drivers, 1, np.maximum(high, 1e-3), ("service", "payment"))
        self.roles: tuple[Role, ...] = (role,)

    def draw(self, generators: Sequence[np.random.Generator]) -> Days:
        """Draw one episode from each generator."""
        season = draw_seasons(self.instance, self.law, generators)
        shape = (self.steps, self.instance.drivers)
        normal = np.stack([one.standard_normal(shape) for one in generators])
        uniform = np.stack([one.random(shape) for one in generators])
        lot = self.instance
        value = self.middle * np.exp(lot.value_sd * np.clip(normal, -_VALUE_SD, _VALUE_SD))
        value = np.full_like(value, self.middle) if lot.values == "equal" else value
        order = random_order(uniform.reshape(-1, lot.drivers)).reshape(uniform.shape)
        return Days(np.maximum(season.need_kwh - self.own_kwh, 0.0), value, order)

    def initial(self, scenario: Days) -> PartyState:
        """Nothing has been asked for yet."""
        n = len(scenario.lack_kwh)
        return PartyState(np.zeros(n, np.int64), np.zeros(n), np.zeros((n, self.instance.drivers)))

    def report_of(self, lack_kwh: Floats, action: Floats) -> Floats:
        """What actions in [-1, 1] report: 0 the truth, below it a share, above it up to ``overstate_max`` times."""
        factor = np.where(action <= 0.0, 1.0 + action, 1.0 + (self.most - 1.0) * action)
        return np.asarray(lack_kwh * factor)

    def step(
        self, scenario: Days, state: PartyState, actions: Mapping[str, Floats]
    ) -> tuple[PartyState, dict[str, Floats], Floats]:
        """Reports are collected, the rule gives out the battery, drivers use up to what they lack and pay.

        Money of a driver: service (value x what he uses), payment (negative). Facts: excess (all lacks beyond the
        battery, in 10 kWh), energy given beyond need, given, lacked, paid, and the share of drivers with all they lack.
        """
        lot, rows = self.instance, np.arange(len(state.t))
        day = np.minimum(state.t, self.steps - 1)
        lack, value = scenario.lack_kwh[rows, day], scenario.value[rows, day]
        report = self.report_of(lack, actions["driver"][..., 0])
        paid = np.zeros_like(lack)
        if self.payment == "clarke":
            given, paid = clarke(report, value, np.full(len(rows), self.shared_kwh))
        else:
            given = allocate(
                lot.rule, report, self.shared_kwh, scenario.order[rows, day] if lot.rule in ORDERED else None
            )
            if self.payment == "price":
                paid = self.price * given
        used = np.minimum(given, lack)
        money = np.stack([value * used, -paid], axis=-1) + 0.0
        asked = report.sum(axis=1)
        filled = np.divide(given.sum(axis=1), asked, out=np.ones_like(asked), where=asked > 0.0)
        own = np.divide(given, report, out=np.ones_like(given), where=report > 0.0)
        facts = np.stack(
            [
                (lack.sum(axis=1) - self.shared_kwh) / SCALE_KWH,
                (given - used).sum(axis=1),
                given.sum(axis=1),
                lack.sum(axis=1),
                paid.sum(axis=1),
                (used >= lack - TOLERANCE_KWH).mean(axis=1),
            ],
            axis=1,
        )
        after = PartyState(state.t + 1, np.minimum(filled, 1.0), np.minimum(own, 1.0))
        return after, {"driver": money}, facts

    def observe(self, scenario: Days, state: PartyState) -> dict[str, NDArray[np.float32]]:
        """Own lack and value today, the battery per driver, the day, and how yesterday's reports were met."""
        rows, n = np.arange(len(state.t)), self.instance.drivers
        open_ = (state.t < self.steps)[:, None]
        day = np.minimum(state.t, self.steps - 1)
        seen = np.zeros((len(rows), n, 6), np.float32)
        seen[..., 0] = np.where(open_, scenario.lack_kwh[rows, day] / self._unit, 0.0)
        seen[..., 1] = np.where(open_, scenario.value[rows, day] / self.middle, 0.0)
        seen[..., 2] = self.shared_kwh / (n * self._unit)
        seen[..., 3] = (state.t / self.steps)[:, None]
        seen[..., 4] = state.filled[:, None]
        seen[..., 5] = state.own_filled
        return {"driver": np.minimum(seen, self.roles[0].observation_high)}
