"""The price chain as pure batched functions, and its tables: the same numbers for environment and optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import require
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.kernels import DayState, Tables, observe_kernel, step_kernel
from v2g_env.price_chain.scenario import Days, Law, draw_days, fitting

__all__ = ["FACTS", "TERMS", "VIOLATION_TOLERANCE", "Model", "tables_of"]

Floats = NDArray[np.float64]

VIOLATION_TOLERANCE = 1e-6  # on the scaled f; the same in certificate, environment and tests
TERMS = ("energy", "starts", "wear", "drivers", "shortfall")
FACTS = ("excess", "shortfall_kwh", "price_usd_per_kwh", "meter_kwh", "stored_kwh", "present_evs")


def tables_of(lot: Instance) -> Tables:
    """The world of an instance in tables."""
    moves = np.array(lot.moves)
    change = moves * lot.level_kwh
    meter = np.where(change > 0, change / lot.efficiency, change * lot.efficiency) + 0.0
    level = np.arange(lot.energy_levels)
    limit = np.array(lot.presence_evs) * lot.power_kw_per_ev * lot.step_h
    room = (level[:, None] + moves >= 0) & (level[:, None] + moves < lot.energy_levels)
    feasible = room & (np.abs(meter) <= limit[:, None, None] * (1.0 + 1e-12))  # (Q, E, A)
    price = lot.chain.price_usd_per_kwh
    bought, sold = np.maximum(meter, 0.0), np.maximum(-meter, 0.0)
    energy = price[:, :, None] * (sold - bought) - lot.fee_usd_per_kwh * bought
    runs = moves != 0
    starts = np.stack([-lot.start_usd * runs, -lot.stop_usd * ~runs])
    depth = 1.0 - level / (lot.energy_levels - 1)
    lower = np.clip(depth[:, None] - moves / (lot.energy_levels - 1), 0.0, 1.0)
    worn = lower**lot.wear_exponent - (depth**lot.wear_exponent)[:, None]
    delivered = np.minimum(level, lot.target_level) - min(lot.start_level, lot.target_level)
    missing = np.maximum(lot.target_level - level, 0) * lot.level_kwh
    span = float(np.ptp(price))
    return Tables(
        moves=moves,
        lowest=feasible.argmax(axis=2),
        highest=feasible.shape[2] - 1 - feasible[:, :, ::-1].argmax(axis=2),
        price=price,
        shown=(price - price.min()) / span if span > 0.0 else np.zeros_like(price),
        meter=meter,
        energy=energy + 0.0,
        starts=starts + 0.0,
        wear=-lot.wear_usd_per_kwh * lot.capacity_kwh * np.where(moves < 0, np.maximum(worn, 0.0), 0.0) + 0.0,
        drivers=lot.tariff_usd_per_kwh * lot.level_kwh * delivered,
        shortfall=-lot.shortfall_usd_per_kwh * missing + 0.0,
        missing=missing,
        evs=np.array(lot.presence_evs, np.float64),
        level_kwh=float(lot.level_kwh),
    )


class Model:
    """Batched days of trading.

    Args:
        instance: chain, battery, costs.
        source: the law of the prices: "generator", or a Law with another chain of the same shape.
    """

    action_size = 1

    def __init__(self, instance: Instance, source: Law | str = "generator") -> None:
        self.instance = instance
        self.law = fitting(instance, source)
        self.tables = tables_of(instance)
        self.steps = instance.steps
        self.choices: int | None = len(instance.moves)
        levels, presences, energies, _ = instance.shape
        self.observation_high = np.ones(self.steps + levels + energies + presences + 3, np.float32)

    @property
    def observation_layout(self) -> dict[str, slice]:
        """Name of every observed quantity and its place."""
        levels, presences, energies, _ = self.instance.shape
        sizes = {"step": self.steps, "level": levels, "price": 1, "stored": energies, "charge": 1}
        sizes |= {"presence": presences, "running": 1}
        ends = np.cumsum([0, *sizes.values()]).tolist()
        return {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(sizes)}

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Days:
        """Draw one day from each generator; ``days`` must be None."""
        self.check_days(days, len(generators))
        return draw_days(self.instance, self.law, generators)

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` is None: days are drawn, there are no base days to choose from."""
        require(days is None, "day", days, "None: days are drawn from the chain")

    def initial(self, scenario: Days) -> DayState:
        """The first step: energy at its start level, idle."""
        rows = len(scenario.level)
        start = np.full(rows, self.instance.start_level, np.int64)
        return DayState(np.zeros(rows, np.int64), start, np.zeros(rows, np.int64))

    def masks(self, scenario: Days, state: DayState) -> NDArray[np.bool_]:
        """(n, A) choices that do what they say; the others do what the nearest of these does. Idle only at the end."""
        now = np.minimum(state.t, self.steps)
        presence = np.take_along_axis(scenario.presence, now[:, None], axis=1)[:, 0]
        place = np.arange(len(self.tables.moves))
        low, high = (part[presence, state.stored][:, None] for part in (self.tables.lowest, self.tables.highest))
        fits = (place >= low) & (place <= high)
        return np.where((state.t < self.steps)[:, None], fits, self.tables.moves == 0)

    def masks_of(self, observation: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n, A) the same as ``masks``, from observations (n, d) alone: they show step, stored energy and presence."""
        layout = self.observation_layout
        stored, presence = (observation[:, layout[name]].argmax(axis=1) for name in ("stored", "presence"))
        place = np.arange(len(self.tables.moves))
        low, high = (part[presence, stored][:, None] for part in (self.tables.lowest, self.tables.highest))
        going = observation[:, layout["step"]].max(axis=1) > 0.0
        fits: NDArray[np.bool_] = (place >= low) & (place <= high)
        return np.where(going[:, None], fits, self.tables.moves == 0)

    def step(self, scenario: Days, state: DayState, action: Floats) -> tuple[DayState, Floats, Floats]:
        """Trade in step t.

        Args:
            scenario: the days.
            state: at the start of step t; left unchanged.
            action: (n, 1) numbers of choices; one that is not feasible is clipped to the nearest that is.

        Returns:
            The next state, money (n, 5) [$] in the order of TERMS, facts (n, 6) in the order of FACTS: excess:
            energy missing at departure in 10 kWh; shortfall_kwh, the same in kWh; price_usd_per_kwh of the step;
            meter_kwh: energy bought, negative if sold; stored_kwh after the step; present_evs in the step.
        """
        after, stored, mode, money, facts = step_kernel(
            self.tables,
            scenario.level,
            scenario.presence,
            state.t,
            state.stored,
            state.mode,
            action[:, 0].astype(np.int64),
        )
        return DayState(after, stored, mode), money, facts

    def advance(
        self, scenario: Days, state: DayState, action: Floats
    ) -> tuple[DayState, Floats, Floats, NDArray[np.float32]]:
        """``step``, and ``observe`` of the state it leads to."""
        after, money, facts = self.step(scenario, state, action)
        return after, money, facts, self.observe(scenario, after)

    def observe(self, scenario: Days, state: DayState) -> NDArray[np.float32]:
        """Observation at the start of step t, a fresh (n, d) float32 array within [0, 1]."""
        width = len(self.observation_high)
        return observe_kernel(  # type: ignore[no-any-return]
            self.tables, scenario.level, scenario.presence, state.t, state.stored, state.mode, width
        )
