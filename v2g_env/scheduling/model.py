"""The network as pure batched functions: set-points, the closing of a step, observations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, require
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.kernels import (
    PER_HOME,
    SCALE_KW,
    Constants,
    State,
    bands,
    expected_wind,
    observe_kernel,
    set_points,
    settle,
    share_imbalance,
    share_out,
)
from v2g_env.scheduling.scenario import Law, Scenario, draw, gas_scale, law
from v2g_env.scheduling.weather import GRID, LEADS, tables

__all__ = ["FACTS", "LEAVING_H", "REWARD_TERMS", "SCALE_KW", "VIOLATION_TOLERANCE", "Model"]

Floats = NDArray[np.float64]

VIOLATION_TOLERANCE = 1e-6  # on the scaled f; the same in certificate, environment and tests
REWARD_TERMS = ("reference", "gas", "wind", "wear", "subsidy", "emergency", "overload")
FACTS = (
    "excess",
    "unserved_kwh",
    "overload_kwh",
    "gas_kw",
    "ev_kw",
    "load_kw",
    "wind_used_kw",
    "wind_available_kw",
    "reserve_short_kw",
)
LEAVING_H = (1.0, 2.0, 4.0, 8.0)
_LIMIT_SLACK_KW = 1e-6


class Model:
    """Batched scheduling of the network.

    Args:
        instance: network, fleet, prices.
        source: the law of the days, or its name.
    """

    choices: int | None = None

    def __init__(self, instance: Instance, source: Law | str = "generator") -> None:
        lot = self.instance = instance
        require(isinstance(source, (Law, str)), "law", source, "a Law or its name")
        self.law = law(source) if isinstance(source, str) else source
        self.steps = lot.steps
        self.action_size = 2 + lot.aggregators
        self.gas_scale = gas_scale(lot)
        found = tables(lot)
        least, most = lot.energy_range_kwh
        self.constants = Constants(
            steps=lot.steps,
            step_h=lot.step_h,
            charger_kw=lot.charger_kw,
            efficiency=lot.efficiency,
            least_kwh=least,
            most_kwh=most,
            gas_max_kw=lot.gas_max_kw,
            ramp_kw=lot.gas_ramp_kw,
            gas_scale=self.gas_scale,
            gas_prices=lot.gas_prices,
            wind_price=lot.wind_usd_per_kwh,
            wear_price=lot.wear_usd_per_kwh,
            subsidy_price=lot.subsidy_usd_per_kwh,
            emergency_price=lot.emergency_usd_per_kwh,
            overload_price=lot.overload_usd_per_kwh,
            reference_usd=lot.calibrated_usd / lot.steps,
            reserve_share=lot.reserve_share,
            band_kw=lot.gas_band_kw,
            gate=lot.gate_closure_steps,
            battery_kwh=lot.battery_kwh,
            owner=lot.owner,
            homes=lot.aggregators,
            home_bus=np.array(lot.aggregator_bus, np.int64),
            turbine_bus=np.array(lot.turbine_bus, np.int64),
            below=lot.tree.below,
            limit_kw=np.array(lot.line_limit_kw),
            load_mean_kw=lot.load_mean_kw,
            leads=np.array(LEADS, np.int64),
            fade=found.fade,
            quality=lot.forecast_quality,
            common=lot.wind_common,
            grid=GRID,
            mean_table=found.mean,
            sd_table=found.sd,
            wind_top_kw=lot.turbine_kw * lot.turbines,
            load_top_kw=2.0 * float(lot.load_mean_kw.sum(axis=1).max()),
        )
        self._leaving = np.array([round(min(hours / lot.step_h, lot.steps)) for hours in LEAVING_H], np.int64)
        self.observation_high = self._high()

    def _high(self) -> NDArray[np.float32]:
        lot, layout = self.instance, self.observation_layout
        high = np.ones(layout["calendar"].stop)
        high[layout["gas"]] = lot.gas_max_kw / SCALE_KW
        for name in ("last_load", "load_ahead"):
            high[layout[name]] = self.constants.load_top_kw / SCALE_KW
        for name in ("last_wind", "wind_ahead", "wind_sd"):
            high[layout[name]] = max(self.constants.wind_top_kw / SCALE_KW, 1e-3)
        for name in ("idle", "up", "down", "goal"):
            high[self.columns(name)] = 2.0 * max(lot.cars, 1) * lot.charger_kw / SCALE_KW
        return np.asarray(high, np.float32)

    @property
    def observation_layout(self) -> dict[str, slice]:
        """Name of every observed quantity and its place; see ``columns`` for those inside "aggregators"."""
        sizes = {
            "gas": 1,
            "last_load": 1,
            "last_wind": 1,
            "load_ahead": len(LEADS),
            "wind_ahead": len(LEADS),
            "wind_sd": 1,
            "aggregators": self.instance.aggregators * (PER_HOME + len(LEAVING_H)),
            "calendar": 3,
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    def columns(self, name: str) -> NDArray[np.int64]:
        """(aggregators,) places of one observed quantity of every aggregator."""
        names = ("cars", "energy", "idle", "up", "down", "goal", "to_come", *(f"leaving_{h:g}h" for h in LEAVING_H))
        require(name in names, "observed quantity", name, ", ".join(names))
        first = self.observation_layout["aggregators"].start + names.index(name)
        return np.asarray(first + np.arange(self.instance.aggregators) * (PER_HOME + len(LEAVING_H)), np.int64)

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Scenario:
        """Draw one day from each generator; ``days`` must be None."""
        self.check_days(days, len(generators))
        return draw(self.instance, self.law, generators)

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` is None: days are drawn, there are no base days to choose from."""
        require(days is None, "day", days, "None: days are drawn")

    def initial(self, scenario: Scenario) -> State:
        """The day's start: cars as they come, the generator at the expected net load."""
        rows = len(scenario.load_kw)
        c = self.constants
        gas = np.empty(rows)
        for i in range(rows):
            wind = expected_wind(c, 0, i, scenario.forecast, scenario.news, scenario.wind_kw, 0)[0]
            gas[i] = min(max(c.load_mean_kw[0].sum() - wind, 0.0), c.gas_max_kw)
        return State(np.zeros(rows, np.int64), scenario.start_kwh.copy(), gas)

    def limits(self, scenario: Scenario, state: State) -> Floats:
        """(n, cars, 5) power limits of every car [kW]; see kernels.bands."""
        cars = (state.energy_kwh, scenario.arrive, scenario.depart, scenario.target_kwh)
        return np.asarray(bands(self.constants, state.t, *cars))

    def step(self, scenario: Scenario, state: State, action: Floats) -> tuple[State, Floats, Floats]:
        """Fix the set-points of step t, meet its load and wind, and close it.

        Args:
            scenario: the days.
            state: at the start of step t; left unchanged.
            action: (n, 2 + aggregators) float64 in [-1, 1]: generator, aggregators, share of the remaining bands that
                settles the imbalance ((a + 1)/2).

        Returns:
            The next state, money (n, 7) [$] in the order of REWARD_TERMS, facts (n, 9) in the order of FACTS: excess
            (the larger of unserved and overload energy, in 10 kWh), unserved_kwh, overload_kwh (sum over lines), powers
            of the generator, the cars (charging positive), the homes, wind used and available, and what the spinning
            reserve lacks.
        """
        c, sc = self.constants, scenario
        limits = self.limits(sc, state)
        gas, wanted = set_points(c, state.t, state.gas_kw, limits, sc.forecast, sc.news, sc.load_kw, sc.wind_kw, action)
        share = 0.5 * (action[:, -1] + 1.0)
        settled = share_imbalance(c, state.t, limits, sc.load_kw, sc.wind_kw, gas, wanted, share)
        return self._close(sc, state, gas, share_out(c, limits, settled), limits)

    def replay(self, scenario: Scenario, state: State, gas_kw: Floats, car_kw: Floats) -> tuple[State, Floats, Floats]:
        """One step of a plan for the generator (n,) and every single car (n, cars) [kW], settled like any other.

        Raises:
            InvalidInputError: for powers beyond the limits of a car, the generator or its ramp.
        """
        limits = self.limits(scenario, state)
        rows = len(state.t)
        most = self.instance.gas_max_kw
        gas = np.clip(array("gas_kw", gas_kw, (rows,), -_LIMIT_SLACK_KW, most + _LIMIT_SLACK_KW), 0.0, most)
        power = array("car_kw", car_kw, (rows, self.instance.cars))
        worst = float(np.maximum(limits[..., 0] - power, power - limits[..., 2]).max(initial=0.0))
        require(worst <= _LIMIT_SLACK_KW, "car_kw beyond its limits", worst, f"at most {_LIMIT_SLACK_KW:g} kW")
        jump = float(np.abs(gas - state.gas_kw).max())
        require(jump <= self.instance.gas_ramp_kw + _LIMIT_SLACK_KW, "ramp of gas_kw", jump, "within gas_ramp_kw")
        return self._close(scenario, state, gas, power, limits)

    def _close(
        self, scenario: Scenario, state: State, gas: Floats, power: Floats, limits: Floats
    ) -> tuple[State, Floats, Floats]:
        sc = scenario
        cars = (state.energy_kwh, sc.arrive, sc.depart)
        energy, money, facts = settle(self.constants, state.t, *cars, sc.load_kw, sc.wind_kw, gas, power, limits)
        return State(state.t + 1, energy, gas), money, facts

    def advance(
        self, scenario: Scenario, state: State, action: Floats
    ) -> tuple[State, Floats, Floats, NDArray[np.float32]]:
        """``step``, and ``observe`` of the state it leads to."""
        after, money, facts = self.step(scenario, state, action)
        return after, money, facts, self.observe(scenario, after)

    def observe(self, scenario: Scenario, state: State) -> NDArray[np.float32]:
        """Observation at the start of step t, a fresh (n, d) float32 array within [0, observation_high]."""
        sc = scenario
        seen = observe_kernel(
            self.constants,
            state.t,
            state.energy_kwh,
            state.gas_kw,
            self.limits(sc, state),
            sc.forecast,
            sc.news,
            sc.load_kw,
            sc.wind_kw,
            sc.arrive,
            sc.depart,
            self._leaving,
            len(self.observation_high),
        )
        return np.asarray(np.minimum(seen, self.observation_high))
