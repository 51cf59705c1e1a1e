"""The shared battery as pure batched functions: seasons for given sizes, and a week of requests one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.allocation import RULES
from v2g_env.core.validate import array, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import (
    SCALE_KWH,
    TOLERANCE_KWH,
    WeekConstants,
    WeekState,
    observe_week,
    season_kernel,
    week_kernel,
)
from v2g_env.shared_battery.scenario import Law, Season, Week, draw_seasons, draw_weeks, fitting, week_sizes

__all__ = [
    "SIZING_FACTS",
    "SIZING_TERMS",
    "VIOLATION_TOLERANCE",
    "WEEK_FACTS",
    "WEEK_TERMS",
    "SizingModel",
    "SizingState",
    "WeekModel",
]

Floats = NDArray[np.float64]

VIOLATION_TOLERANCE = TOLERANCE_KWH / SCALE_KWH  # on the scaled f; the same in certificate, environment and tests
SIZING_TERMS = ("own_capacity", "shared_capacity", "missed", "separate")
SIZING_FACTS = ("excess", "unserved_kwh", "violated_share", "worst_missed_share", "missed_days", "capacity_kwh")
WEEK_TERMS = ("service",)
WEEK_FACTS = ("excess", "unserved_kwh", "size_kwh", "granted_kwh", "value_usd", "left_kwh", "driver")
_QUANTILES = (0.5, 0.9, 0.99)


class SizingState(NamedTuple):
    """Where the seasons are: steps done (n,), 0 or 1."""

    t: NDArray[np.int64]


class SizingModel:
    """Batched sizing: one decision, then a season of days under the instance's allocation rule.

    Args:
        instance: fleet, prices, rule.
        source: the law of the needs, or its name.
    """

    choices: int | None = None

    def __init__(self, instance: Instance, source: Law | str = "generator") -> None:
        self.instance = instance
        self.law = fitting(instance, source)
        self.steps = 1
        self.action_size = instance.drivers + 1
        needs = self.law.needs
        alone = np.clip(needs.quantile(1.0 - instance.tolerated), instance.own_min_kwh, instance.own_max_kwh)
        self.separate_usd = float(instance.cost_usd(alone, 0.0))
        self._known = np.stack([needs.quantile(order) for order in _QUANTILES]).ravel() / 100.0
        price = instance.own_usd_per_kwh / instance.shared_usd_per_kwh
        self._known = np.append(self._known, price / (1.0 + price))
        self.observation_high = np.append(np.maximum(self._known, 1e-3) + 1.0, 1.0).astype(np.float32)

    @property
    def observation_layout(self) -> dict[str, slice]:
        """Name of every observed quantity and its place."""
        n = self.instance.drivers
        layout = {f"quantile_{100 * order:g}": slice(i * n, (i + 1) * n) for i, order in enumerate(_QUANTILES)}
        return layout | {"price": slice(3 * n, 3 * n + 1), "over": slice(3 * n + 1, 3 * n + 2)}

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Season:
        """Draw one season from each generator; ``days`` must be None."""
        self.check_days(days, len(generators))
        return draw_seasons(self.instance, self.law, generators)

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` is None: seasons are drawn, there are no base days to choose."""
        require(days is None, "day", days, "None: seasons have no base days")

    def initial(self, scenario: Season) -> SizingState:
        """Nothing is decided yet: (n,) zeros."""
        return SizingState(np.zeros(len(scenario.need_kwh), np.int64))

    def sizes(self, action: Floats) -> tuple[Floats, Floats]:
        """Own (n, drivers) and shared (n,) capacities [kWh] that actions (n, drivers + 1) in [-1, 1] mean."""
        share = 0.5 * (action + 1.0)
        lot = self.instance
        own = lot.own_min_kwh + share[:, :-1] * (lot.own_max_kwh - lot.own_min_kwh)
        return own, share[:, -1] * lot.shared_max_kwh

    def action_for(self, own_kwh: Floats, shared_kwh: float) -> Floats:
        """Action (drivers + 1,) that chooses these capacities.

        Raises:
            InvalidInputError: for capacities outside the instance's ranges.
        """
        lot = self.instance
        own = array("own_kwh", own_kwh, (lot.drivers,), lot.own_min_kwh, lot.own_max_kwh)
        shared = array("shared_kwh", [shared_kwh], (1,), 0.0, lot.shared_max_kwh)
        share = np.append((own - lot.own_min_kwh) / (lot.own_max_kwh - lot.own_min_kwh), shared / lot.shared_max_kwh)
        return np.asarray(2.0 * share - 1.0)

    def step(self, scenario: Season, state: SizingState, action: Floats) -> tuple[SizingState, Floats, Floats]:
        """Fix the sizes and live through the season.

        Args:
            scenario: the seasons.
            state: zeros.
            action: (n, drivers + 1) float64 in [-1, 1], checked by the caller.

        Returns:
            The next state, money (n, 4) [$] in the order of SIZING_TERMS, facts (n, 6) in the order of SIZING_FACTS:
            excess: the season's largest (total shortfall - s) in 10 kWh; unserved_kwh: sum of its positive parts;
            violated_share: share of days on which it is positive; worst_missed_share: share of days on which the worst
            driver is not served; missed_days: driver-days without service; capacity_kwh: s + sum b.
        """
        own, shared = self.sizes(action)
        lot = self.instance
        served, over, short = season_kernel(RULES.index(lot.rule), scenario.need_kwh, scenario.order, own, shared)
        days = scenario.need_kwh.shape[1]
        missed = days - served
        beyond = np.maximum(missed - lot.tolerated * days, 0.0).sum(axis=1)
        money = np.stack(
            [
                -lot.own_usd_per_kwh * own.sum(axis=1),
                -lot.shared_usd_per_kwh * shared,
                -lot.missed_usd * beyond,
                np.full(len(own), self.separate_usd),
            ],
            axis=1,
        )
        facts = np.stack(
            [
                over.max(axis=1) / SCALE_KWH,
                short,
                (over > TOLERANCE_KWH).mean(axis=1),
                missed.max(axis=1) / days,
                missed.sum(axis=1),
                own.sum(axis=1) + shared,
            ],
            axis=1,
        )
        return SizingState(state.t + 1), money + 0.0, facts

    def advance(
        self, scenario: Season, state: SizingState, action: Floats
    ) -> tuple[SizingState, Floats, Floats, NDArray[np.float32]]:
        """``step``, and the observation of the state it leads to."""
        after, money, facts = self.step(scenario, state, action)
        return after, money, facts, self.observe(scenario, after)

    def observe(self, scenario: Season, state: SizingState) -> NDArray[np.float32]:
        """What is known before the decision, the same for every season; (n, d) float32."""
        rows = len(state.t)
        seen = np.empty((rows, len(self._known) + 1), np.float32)
        seen[:, :-1] = self._known
        seen[:, -1] = state.t
        return seen


class WeekModel:
    """Batched week of requests for the shared battery; drivers come one after the other, in random order every day.

    Args:
        instance: fleet, sizes, values.
        source: the law of the needs, or its name.
        partial: True if a share of a request may be granted, for that share of its value.
    """

    def __init__(self, instance: Instance, source: Law | str = "generator", partial: bool = False) -> None:
        self.instance = instance
        self.law = fitting(instance, source)
        self.partial = partial
        self.choices = None if partial else 2
        self.action_size = 1
        self.steps = instance.week_days * instance.drivers
        self.sizes = week_sizes(instance, self.law)
        self.constants = WeekConstants(
            drivers=instance.drivers,
            days=instance.week_days,
            shared_kwh=self.sizes.shared_kwh,
            recharge_kwh=self.sizes.recharge_kwh,
            mean_size_kwh=self.sizes.mean_size_kwh,
            value_usd=instance.value_usd,
            partial=partial,
        )
        high = np.ones(16, np.float32)
        high[1] = max(self.law.needs.largest_kwh * max(instance.weekday_factors) / self.sizes.shared_kwh, 1e-3)
        high[7] = max(instance.recharge_fraction, 1e-3)
        self.observation_high = high

    @property
    def observation_layout(self) -> dict[str, slice]:
        """Name of every observed quantity and its place."""
        names = ("left", "size", "value", "density", "to_come", "fits", "asks", "recharge")
        layout = {name: slice(i, i + 1) for i, name in enumerate(names)}
        return layout | {"weekday": slice(8, 15), "days_to_come": slice(15, 16)}

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Week:
        """Draw one week from each generator; ``days`` must be None."""
        self.check_days(days, len(generators))
        return draw_weeks(self.instance, self.law, generators)

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` is None: weeks are drawn, there are no base days to choose from."""
        require(days is None, "day", days, "None: weeks have no base days")

    def initial(self, scenario: Week) -> WeekState:
        """Monday morning: the shared battery is full."""
        rows = len(scenario.size_kwh)
        return WeekState(np.zeros(rows, np.int64), np.full(rows, self.sizes.shared_kwh))

    def masks(self, scenario: Week, state: WeekState) -> NDArray[np.bool_]:
        """(n, 2) actions that do what they say: refusing always does, granting where the request fits.

        Raises:
            InvalidInputError: where shares are granted.
        """
        require(not self.partial, "action_masks", "for shares", "none: only choices can be masked")
        size = np.take_along_axis(scenario.size_kwh, state.t[:, None], axis=1)[:, 0]
        fits = (size <= state.left_kwh + TOLERANCE_KWH) & (state.t < self.steps)
        return np.stack([np.ones(len(size), bool), fits], axis=1)

    def masks_of(self, observation: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n, 2) the same as ``masks``, from observations (n, d) alone: they show whether the request fits.

        Raises:
            InvalidInputError: where shares are granted.
        """
        require(not self.partial, "action_masks", "for shares", "none: only choices can be masked")
        fits = observation[:, self.observation_layout["fits"]][:, 0] > 0.5
        return np.stack([np.ones(len(fits), bool), fits], axis=1)

    def step(self, scenario: Week, state: WeekState, action: Floats) -> tuple[WeekState, Floats, Floats]:
        """Answer the request of step t.

        Args:
            scenario: the weeks.
            state: at the start of step t; left unchanged.
            action: (n, 1): 0 or 1 (refuse, grant), or the share granted as a number in [-1, 1] if ``partial``.

        Returns:
            The next state, money (n, 1) [$] in the order of WEEK_TERMS, facts (n, 7) in the order of WEEK_FACTS:
            excess: what was not granted in 10 kWh; unserved_kwh; size_kwh; granted_kwh; value_usd of the request;
            left_kwh after the request and, at the end of a day, the night; driver: who asked.
        """
        wish = 0.5 * (action[:, 0] + 1.0) if self.partial else action[:, 0]
        after, left, earned, granted = week_kernel(
            self.constants, scenario.size_kwh, scenario.value_usd, state.t, state.left_kwh, np.ascontiguousarray(wish)
        )
        at = state.t[:, None]
        size, value, driver = (
            np.take_along_axis(part, at, axis=1)[:, 0]
            for part in (scenario.size_kwh, scenario.value_usd, scenario.driver)
        )
        missing = size - granted
        facts = np.stack([missing / SCALE_KWH, missing, size, granted, value, left, driver], axis=1)
        return WeekState(after, left), earned[:, None], facts

    def advance(
        self, scenario: Week, state: WeekState, action: Floats
    ) -> tuple[WeekState, Floats, Floats, NDArray[np.float32]]:
        """``step``, and ``observe`` of the state it leads to."""
        after, money, facts = self.step(scenario, state, action)
        return after, money, facts, self.observe(scenario, after)

    def observe(self, scenario: Week, state: WeekState) -> NDArray[np.float32]:
        """Observation at the start of step t, a fresh (n, 16) float32 array within [0, observation_high]."""
        return observe_week(  # type: ignore[no-any-return]
            self.constants, scenario.size_kwh, scenario.value_usd, state.t, state.left_kwh, 16
        )
