"""The parking lot's data: one frozen, validated object with units in its names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.record import Record

__all__ = ["DISPATCH_RULES", "Instance"]

DISPATCH_RULES = ("minimal_move", "proportional", "least_laxity", "earliest_departure")

_DEFAULT_TARIFF = (0.25,) * 9 + (0.15,) * 6 + (0.45,) * 6 + (0.25,) * 3


@dataclass(frozen=True)
class Instance(Record):
    """One parking lot, its tariff and its community. All values are checked once, at construction.

    Charging is positive everywhere. Times of day are local clock hours; steps count from ``open_h``.

    Attributes:
        bays: number of bays, each with one bidirectional charger.
        open_h, close_h: the horizon [h]; must hold a whole number (at least 3) of steps.
        step_h: length of a step [h]; a driver's departure is announced one step ahead.
        charger_kw: AC limit of a charger, both directions [kW].
        charger_spread: s in [0, 1): each car's own limit is charger_kw x U(1 - s, 1 + s); s > 0 makes the law of the
            capacity continuous (no ties between scenarios).
        efficiency: one-way efficiency, charging and discharging alike.
        headroom_low_kwh, headroom_high_kwh: cap minus energy on arrival is uniform on this interval [kWh].
        grid_limit_kw: limit of the exchange with the retailer, each direction [kW].
        buy_usd_per_kwh: retail price for each hour of the day (24 values) [$/kWh].
        sell_fraction: the retailer pays this share of its price for energy fed in.
        fee_fraction: the lot pays the community this share of the retail price for surplus.
        return_fraction: the community pays the lot this share of the retail price for energy handed back.
        imbalance_fraction: imbalance price as a share of the highest retail price.
        wear_usd_per_kwh: battery wear per kWh AC charged or discharged [$/kWh].
        pv_peak_kw: the community's photovoltaic peak [kW]; profile sin^1.5 between 6 and 18 h.
        load_base_kw, load_evening_kw, load_morning_kw: the community's load: base and two bumps at 17 h and 8 h [kW].
        pv_sd, load_sd: standard deviation of the log factor on PV and load.
        factor_memory: hourly autocorrelation of the log factors.
        gate_closure_steps: 1 if a step's exchange is fixed one step ahead, 0 if at the step itself.
        dispatch: rule that spreads the stored energy over the bays, one of DISPATCH_RULES.
        own_charging: if True a car serves as storage only after its own charging [delivered kWh at full power].
        drop_fraction, mix_fraction: the day generator drops sessions of a day, and adds some of another day, with these
            probabilities.
    """

    bays: int = 52
    open_h: float = 7.0
    close_h: float = 20.0
    step_h: float = 1.0
    charger_kw: float = 10.0
    charger_spread: float = 0.0
    efficiency: float = 0.95
    headroom_low_kwh: float = 3.0
    headroom_high_kwh: float = 25.0
    grid_limit_kw: float = 600.0
    buy_usd_per_kwh: tuple[float, ...] = _DEFAULT_TARIFF
    sell_fraction: float = 0.4
    fee_fraction: float = 0.4
    return_fraction: float = 0.9
    imbalance_fraction: float = 1.0
    wear_usd_per_kwh: float = 0.01
    pv_peak_kw: float = 300.0
    load_base_kw: float = 110.0
    load_evening_kw: float = 140.0
    load_morning_kw: float = 40.0
    pv_sd: float = 0.30
    load_sd: float = 0.15
    factor_memory: float = 0.8
    gate_closure_steps: int = 1
    dispatch: str = "minimal_move"
    own_charging: bool = False
    drop_fraction: float = 0.1
    mix_fraction: float = 0.1

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        number("bays", self.bays, 1, 10_000, integer=True)
        number("open_h", self.open_h, 0, 24)
        number("close_h", self.close_h, 0, 24)
        number("step_h", self.step_h, 0, 4, open_low=True)
        count = (self.close_h - self.open_h) / self.step_h
        require(
            count > 2.5 and abs(count - round(count)) < 1e-9,
            "(close_h - open_h) / step_h",
            count,
            "a whole number of at least 3",
        )
        number("charger_kw", self.charger_kw, 0, 1e4, open_low=True)
        number("charger_spread", self.charger_spread, 0, 1, open_high=True)
        number("efficiency", self.efficiency, 0, 1, open_low=True)
        number("headroom_low_kwh", self.headroom_low_kwh, 0, 1e4)
        number("headroom_high_kwh", self.headroom_high_kwh, self.headroom_low_kwh, 1e4)
        for name in ("grid_limit_kw", "pv_peak_kw", "load_base_kw", "load_evening_kw", "load_morning_kw"):
            number(name, getattr(self, name), 0, 1e7)
        for name in ("pv_sd", "load_sd"):
            number(name, getattr(self, name), 0, 2)
        for name in ("drop_fraction", "mix_fraction"):
            number(name, getattr(self, name), 0, 1)
        number("factor_memory", self.factor_memory, 0, 1, open_high=True)
        number("gate_closure_steps", self.gate_closure_steps, 0, 1, integer=True)
        require(self.dispatch in DISPATCH_RULES, "dispatch", self.dispatch, f"one of {', '.join(DISPATCH_RULES)}")
        require(isinstance(self.own_charging, bool), "own_charging", self.own_charging, "true or false")
        self._check_money()
        self.settle_numbers()

    def _check_money(self) -> None:
        prices = array("buy_usd_per_kwh", self.buy_usd_per_kwh, (24,), 0.0, 1e4)
        object.__setattr__(self, "buy_usd_per_kwh", tuple((prices + 0.0).tolist()))
        number("sell_fraction", self.sell_fraction, 0, 1)
        # below these limits energy passed straight through would earn money without any storage
        number("fee_fraction", self.fee_fraction, self.sell_fraction, 1)
        number("return_fraction", self.return_fraction, self.sell_fraction, 1)
        number("imbalance_fraction", self.imbalance_fraction, 1, 100)
        number("wear_usd_per_kwh", self.wear_usd_per_kwh, 0, float(self.imbalance_fraction * prices.max()))

    @cached_property
    def steps(self) -> int:
        """Number of steps in the horizon."""
        return round((self.close_h - self.open_h) / self.step_h)

    @cached_property
    def hours(self) -> NDArray[np.float64]:
        """Middle of every step, (steps,), local clock hours [h]."""
        return np.asarray(self.open_h + self.step_h * (np.arange(self.steps) + 0.5), np.float64)

    @cached_property
    def buy(self) -> NDArray[np.float64]:
        """Retail price of every step, (steps,) [$/kWh]."""
        return np.asarray(np.array(self.buy_usd_per_kwh)[np.floor(self.hours).astype(int) % 24], np.float64)

    @cached_property
    def imbalance_usd_per_kwh(self) -> float:
        """Price of every kWh between the stored energy fixed at the gate and the realised one [$/kWh]."""
        return float(self.imbalance_fraction * max(self.buy_usd_per_kwh))

    @cached_property
    def energy_scale_kwh(self) -> float:
        """Energy that one charger moves in one step; the unit of the scaled violation f [kWh]."""
        return self.charger_kw * self.step_h
