"""The price chain's data: one frozen, validated object with units in its names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.price_chain.chain import Chain, quantised, synthetic_history
from v2g_env.record import Record

__all__ = ["Instance"]

Floats = NDArray[np.float64]

_MOST_ROWS = 20_000_000  # numbers in a table of one row of probabilities for every state
_MOST_HOURS = 5_000_000
_ROW_SLACK = 1e-9  # how far a row of probabilities may be from one


@dataclass(frozen=True)
class Instance(Record):
    """A fleet whose stored energy is traded hour by hour until it departs, against a price that moves at random.

    Everything random is a Markov chain known exactly: the price level, by counts of a history, and how many vehicles
    are plugged in. Stored energy moves in whole levels; what is bought and sold at the meter accounts for the losses.

    Attributes:
        steps: T, decisions of a day.
        step_h: length of a step [h].
        start_hour: hour of day of the first step [h].
        price_levels: L, levels of the price.
        price_usd_per_kwh: T x L prices of the levels, row by row; () for those of the synthetic history [$/kWh].
        price_counts: T x L x L counted moves to the next step's levels (from the last step to the first), row by row;
            () for those of the synthetic history.
        history_days: days of the synthetic history (chain.synthetic_history).
        price_seed: draws it; part of the chain's identity, not of an episode's randomness.
        price_mean_usd_per_kwh: its level [$/kWh].
        price_sd, price_memory: standard deviation of its logarithm, and autocorrelation from step to step.
        energy_levels: E, levels of the stored energy, from empty to full.
        level_kwh: energy between two levels [kWh].
        start_level, target_level: at the first step, and wanted at departure after the last one.
        moves: levels that the choices add, increasing and with 0: negative discharges.
        efficiency: of charging and of discharging, each.
        power_kw_per_ev: limit at the meter of every vehicle that is plugged in [kW].
        presence_evs: Q possible numbers of vehicles plugged in, increasing.
        presence_rows: Q x Q probabilities of the next step's number, row by row.
        presence_start: place of the first step's number.
        fee_usd_per_kwh: on top of the price for energy bought; none for energy sold [$/kWh].
        start_usd, stop_usd: for going from idle to running, and back [$].
        wear_usd_per_kwh: mean wear of a full discharge [$/kWh].
        wear_exponent: k; wear down to depth d costs capacity x wear x d^k, so that deeper costs more per kWh if k > 1.
        tariff_usd_per_kwh: what drivers pay for energy delivered at departure, up to the target [$/kWh].
        shortfall_usd_per_kwh: paid for energy missing at departure [$/kWh].
    """

    steps: int = 24
    step_h: float = 1.0
    start_hour: float = 12.0
    price_levels: int = 8
    price_usd_per_kwh: tuple[float, ...] = ()
    price_counts: tuple[float, ...] = ()
    history_days: int = 365
    price_seed: int = 1
    price_mean_usd_per_kwh: float = 0.1
    price_sd: float = 0.5
    price_memory: float = 0.9
    energy_levels: int = 17
    level_kwh: float = 150.0
    start_level: int = 6
    target_level: int = 14
    moves: tuple[int, ...] = (-3, -2, -1, 0, 1, 2, 3)
    efficiency: float = 0.95
    power_kw_per_ev: float = 6.6
    presence_evs: tuple[int, ...] = (40, 60, 100)
    presence_rows: tuple[float, ...] = (0.7, 0.3, 0.0, 0.1, 0.7, 0.2, 0.0, 0.15, 0.85)
    presence_start: int = 1
    fee_usd_per_kwh: float = 0.01
    start_usd: float = 1.0
    stop_usd: float = 0.5
    wear_usd_per_kwh: float = 0.02
    wear_exponent: float = 2.0
    tariff_usd_per_kwh: float = 0.2
    shortfall_usd_per_kwh: float = 0.5

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        number("steps", self.steps, 1, 1000, integer=True)
        number("step_h", self.step_h, 0, 24, open_low=True)
        number("start_hour", self.start_hour, 0, 24, open_high=True)
        self._check_prices()
        self._check_battery()
        self._check_presence()
        for name in ("fee_usd_per_kwh", "start_usd", "stop_usd", "wear_usd_per_kwh"):
            number(name, getattr(self, name), 0, 1e6)
        number("wear_exponent", self.wear_exponent, 1, 10)
        number("tariff_usd_per_kwh", self.tariff_usd_per_kwh, 0, 1e6)
        number("shortfall_usd_per_kwh", self.shortfall_usd_per_kwh, 0, 1e6)
        size = self.steps * int(np.prod(self.shape)) * self.price_levels
        require(size <= _MOST_ROWS, "steps x states of a step x price_levels", size, f"at most {_MOST_ROWS}")
        self.settle_numbers()
        if not self.price_counts:
            _ = self.chain  # a history too short for its levels is told now

    def _check_prices(self) -> None:
        number("price_levels", self.price_levels, 1, 200, integer=True)
        number("history_days", self.history_days, 2, 100_000, integer=True)
        number("price_seed", self.price_seed, 0, 2**63, integer=True)
        number("price_mean_usd_per_kwh", self.price_mean_usd_per_kwh, 0, 100, open_low=True)
        number("price_sd", self.price_sd, 0, 3)
        number("price_memory", self.price_memory, 0, 1, open_high=True)
        steps, levels = self.steps, self.price_levels
        hours = self.history_days * steps
        require(hours <= _MOST_HOURS, "history_days x steps", hours, f"at most {_MOST_HOURS}")
        given = len(np.atleast_1d(self.price_usd_per_kwh)), len(np.atleast_1d(self.price_counts))
        if given == (0, 0):
            return
        lengths = (steps * levels, steps * levels**2)
        require(given == lengths, "numbers in price_usd_per_kwh and price_counts", given, f"{lengths}, or none at all")
        prices = array("price_usd_per_kwh", self.price_usd_per_kwh, (None,), -100.0, 100.0)
        counts = array("price_counts", self.price_counts, (None,))
        rows = counts.reshape(steps, levels, levels)
        for t, i in np.argwhere((rows < 0.0).any(axis=2) | (rows.sum(axis=2) < 1.0)).tolist():
            require(False, f"price_counts[step {t}, level {i}]", rows[t, i].tolist(), "counts >= 0, at least 1 in all")
        object.__setattr__(self, "price_usd_per_kwh", tuple((prices + 0.0).tolist()))
        object.__setattr__(self, "price_counts", tuple((counts + 0.0).tolist()))

    def _check_battery(self) -> None:
        number("energy_levels", self.energy_levels, 2, 10_000, integer=True)
        number("level_kwh", self.level_kwh, 0, 1e6, open_low=True)
        number("start_level", self.start_level, 0, self.energy_levels - 1, integer=True)
        number("target_level", self.target_level, 0, self.energy_levels - 1, integer=True)
        number("efficiency", self.efficiency, 0, 1, open_low=True)
        number("power_kw_per_ev", self.power_kw_per_ev, 0, 1e6, open_low=True)
        require(isinstance(self.moves, tuple) and 2 <= len(self.moves) <= 1000, "moves", self.moves, "2 to 1000 moves")
        for move in self.moves:
            number("moves", move, -self.energy_levels, self.energy_levels, integer=True)
        increasing = all(a < b for a, b in zip(self.moves[:-1], self.moves[1:], strict=True))
        require(increasing and 0 in self.moves, "moves", self.moves, "increasing whole numbers with 0 among them")
        object.__setattr__(self, "moves", tuple(map(int, self.moves)))

    def _check_presence(self) -> None:
        evs = self.presence_evs
        require(isinstance(evs, tuple) and 1 <= len(evs) <= 100, "presence_evs", evs, "1 to 100 whole numbers")
        for each in evs:
            number("presence_evs", each, 0, 10**6, integer=True)
        require(all(a < b for a, b in zip(evs[:-1], evs[1:], strict=True)), "presence_evs", evs, "increasing numbers")
        object.__setattr__(self, "presence_evs", tuple(map(int, evs)))
        number("presence_start", self.presence_start, 0, len(evs) - 1, integer=True)
        rows = array("presence_rows", self.presence_rows, (len(evs) ** 2,)).reshape(len(evs), len(evs))
        for i, row in enumerate(rows):
            ok = bool((row >= 0.0).all()) and abs(row.sum() - 1.0) <= _ROW_SLACK
            require(ok, f"presence_rows[row {i}]", row.tolist(), "probabilities that sum to one")
        object.__setattr__(self, "presence_rows", tuple((rows + 0.0).ravel().tolist()))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(L, Q, E, 2): price levels, presence, stored energy, idle or running; the states of one step."""
        return self.price_levels, len(self.presence_evs), self.energy_levels, 2

    @property
    def capacity_kwh(self) -> float:
        """Energy between empty and full [kWh]."""
        return (self.energy_levels - 1) * self.level_kwh

    @cached_property
    def chain(self) -> Chain:
        """Prices and counts as arrays."""
        if self.price_counts:
            steps, levels = self.steps, self.price_levels
            price = np.array(self.price_usd_per_kwh).reshape(steps, levels)
            return Chain(price, np.array(self.price_counts).reshape(steps, levels, levels))
        history = synthetic_history(
            self.history_days,
            self.steps,
            self.start_hour,
            self.step_h,
            self.price_mean_usd_per_kwh,
            self.price_sd,
            self.price_memory,
            self.price_seed,
        )
        return quantised(history, self.price_levels)

    @cached_property
    def price_rows(self) -> Floats:
        """(T, L, L) estimated probabilities of the next step's level."""
        counts = self.chain.counts
        return np.asarray(counts / counts.sum(axis=2, keepdims=True))

    @cached_property
    def price_start(self) -> Floats:
        """(L,) probabilities of the first step's level: how often each was seen there."""
        seen = self.chain.counts[0].sum(axis=1)
        return np.asarray(seen / seen.sum())

    @cached_property
    def presence_matrix(self) -> Floats:
        """(Q, Q) probabilities of the next step's number of vehicles; rows sum to one up to rounding."""
        rows = np.array(self.presence_rows).reshape(len(self.presence_evs), -1)
        return np.asarray(rows / rows.sum(axis=1, keepdims=True))
