"""The lot as pure batched functions: draw, initial, step, observe. One model for environments and baselines.

Why every plan with 0 <= x_t <= K_t can be executed (quota "executable"). Let head_j = min(cap_j - e0_j, eta p_j tau)
and B_t = {b : 0 <= b_j <= head_j if j stays beyond step t, else b_j = 0}. Take any b in B_{t-1} and any b' in B_t.
Car j moves at most head_j up, which needs head_j / (eta tau) <= p_j of AC power, or at most head_j down, which gives
eta head_j / tau <= eta^2 p_j <= p_j. So every point of B_t is reached from every point of B_{t-1} within one step,
whatever rule picks the points; the sums over B_t fill exactly [0, K_t]; and the cars that leave after step t are
known at its start (notice), so they can be emptied in it. Hence a stored energy x_t <= K_t is met exactly by any of
the dispatch rules, and x_t = min(closed, K_t) always. Counting also the announced cars in K_t would break the
argument: they must be empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, require
from v2g_env.parking_lot.instance import DISPATCH_RULES, Instance
from v2g_env.parking_lot.kernels import Constants, State, advance_kernel, observe_kernel, step_kernel
from v2g_env.parking_lot.scenario import Law, Scenario, check_days, draw_from, law, sample

__all__ = ["FACTS", "REWARD_TERMS", "VIOLATION_TOLERANCE", "Model", "forecast_ratios", "gate_ratio"]

Floats = NDArray[np.float64]

VIOLATION_TOLERANCE = 1e-6  # on the scaled f; the same number in certificate, environment and tests
REWARD_TERMS = ("fee", "return", "retail_buy", "retail_sell", "wear", "redistribution", "imbalance")
FACTS = (
    "excess",
    "shortfall_kwh",
    "imbalance_kwh",
    "lost_kwh",
    "stored_kwh",
    "closed_kwh",
    "capacity_kwh",
    "charged_kwh",
    "discharged_kwh",
)
_OBSERVED = (
    "stored",
    "ahead",
    "capacity",
    "capacity_1",
    "capacity_2",
    "free",
    "fill",
    "power",
    "leaving",
    "arrived",
    "parked_6h",
    "stated_1h",
    "stated_2h",
    "stated_3h",
    "stated_4h",
    "surplus",
    "deficit",
    "pv_factor",
    "load_factor",
    "price",
    "price_next",
    "plan_next",
)
_FILL = {"minimal_move": 0, "proportional": 2, "least_laxity": 1, "earliest_departure": 1}
_FIT_SEED = 20190501
_FIT_DRAWS = 20  # redraws of the caps of each fitting day


@lru_cache(maxsize=64)
def _fit_capacity(instance: Instance, days: str) -> Floats:
    """K of the fitting days with redrawn caps, (days x draws, T) [kWh]."""
    source = law(f"days:{days}")
    n_days = len(source.days.offset) - 1
    chosen = np.tile(np.arange(n_days), _FIT_DRAWS).tolist()
    return sample(instance, source, len(chosen), _FIT_SEED, chosen).capacity_kwh[:, :-1]


@lru_cache(maxsize=64)
def forecast_ratios(instance: Instance, quantile: float, days: str = "jpl-2019/fit") -> Floats:
    """Quantile of K_s / K_t over the fitting days for every t <= s, (T, T), zero below the diagonal.

    Days with K_t = 0 say nothing about the ratio and are left out; if none is left the ratio is 0.
    """
    capacity = _fit_capacity(instance, days)
    steps = capacity.shape[1]
    ratios = np.zeros((steps, steps))
    for t in range(steps):
        known = capacity[capacity[:, t] > 0.0]
        if len(known):
            ratios[t, t:] = np.quantile(known[:, t:] / known[:, t : t + 1], quantile, axis=0)
    ratios.flags.writeable = False
    return ratios


def gate_ratio(instance: Instance) -> Floats:
    """r_t, the .9-quantile of K_{t+1} / K_t on the fitting days, (T,); the last entry is 0."""
    ratios = forecast_ratios(instance, 0.9)
    return np.append(np.diagonal(ratios, 1), 0.0)


class Model:
    """Batched parking lot: every array has a leading axis of n episodes.

    Args:
        instance: the lot.
        source: the law of the scenarios, or its name (see scenario.law).
        plan_kwh: (T,) stored energy of a plan, shown in the observation; zeros if None.
        per_bay: True for the environment in which the agent sets the power of every bay.

    Raises:
        InvalidInputError: for a smoothed law, a plan of the wrong shape, negative or not finite.
    """

    def __init__(
        self,
        instance: Instance,
        source: Law | str = "generator",
        plan_kwh: Sequence[float] | Floats | None = None,
        per_bay: bool = False,
    ) -> None:
        self.instance = instance
        self.law = law(source) if isinstance(source, str) else source
        require(isinstance(self.law, Law), "law", self.law, "a Law or its name")
        require(not self.law.smoothed, "law", self.law.name, "a law of sessions (generator, days)")
        steps = instance.steps
        self.plan_kwh = array("plan_kwh", np.zeros(steps) if plan_kwh is None else plan_kwh, (steps,), 0.0, 1e7)
        self.per_bay = per_bay
        require(instance.dispatch in DISPATCH_RULES, "dispatch", instance.dispatch, ", ".join(DISPATCH_RULES))
        self.constants = Constants(
            steps=steps,
            gate=instance.gate_closure_steps,
            fill=3 if per_bay else _FILL[instance.dispatch],
            eta=instance.efficiency,
            step_h=instance.step_h,
            charger_kw=instance.charger_kw,
            grid_kw=instance.grid_limit_kw,
            imbalance=instance.imbalance_usd_per_kwh,
            wear=instance.wear_usd_per_kwh,
            sell=instance.sell_fraction,
            fee=instance.fee_fraction,
            back=instance.return_fraction,
            buy=instance.buy,
            ratio=gate_ratio(instance),
            plan=self.plan_kwh,
        )
        self.steps = steps
        self.choices: int | None = None
        self.action_size = instance.bays if per_bay else 1
        self.observation_high = self._observation_high()

    @property
    def observation_layout(self) -> dict[str, slice]:
        """Name of every observed quantity and its place; energies in units of 200 kWh, offers and P of 200 kW."""
        steps = self.instance.steps
        layout = {"step": slice(0, steps)}
        layout |= {name: slice(steps + i, steps + i + 1) for i, name in enumerate(_OBSERVED)}
        if self.per_bay:
            start = steps + len(_OBSERVED)
            layout["bays"] = slice(start, start + 6 * self.instance.bays)
        return layout

    def _observation_high(self) -> NDArray[np.float32]:
        lot = self.instance
        limit = lot.charger_kw * (1.0 + lot.charger_spread)
        energy = lot.bays * max(lot.headroom_high_kwh, limit * lot.step_h) / 200.0
        pv_high, load_high = np.exp(5.0 * lot.pv_sd), np.exp(5.0 * lot.load_sd)
        load = (lot.load_base_kw + lot.load_evening_kw + lot.load_morning_kw) * load_high
        highs = {
            "step": 1.0,
            "fill": 1.0,
            "power": lot.bays * limit / 200.0,
            "surplus": lot.pv_peak_kw * pv_high / 200.0,
            "deficit": load / 200.0,
            "pv_factor": pv_high,
            "load_factor": load_high,
            "price": lot.buy.max(),
            "price_next": lot.buy.max(),
            "plan_next": max(energy, self.plan_kwh.max() / 200.0),
        }
        layout = self.observation_layout
        high = np.empty(max(part.stop for part in layout.values()), np.float32)
        for name, part in layout.items():
            high[part] = highs.get(name, energy)
        if self.per_bay:
            span = (lot.close_h - lot.open_h) / 10.0
            cap = lot.headroom_high_kwh / 10.0
            high[layout["bays"]] = np.tile(np.array([1.0, cap, cap, span, 4.8, 1.0], np.float32), lot.bays)
        # a bound of exactly zero would make an empty interval for lots without solar panels or without load
        return np.maximum(high, np.float32(1e-3))

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Scenario:
        """Draw one episode from each generator (see scenario.draw_from)."""
        return draw_from(self.instance, self.law, generators, days)

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` is None or holds one base day for each row."""
        check_days(self.law, days, rows)

    def initial(self, scenario: Scenario) -> State:
        """Start of step 0: nothing stored, nothing fixed at the gate."""
        n, slots = scenario.arrive.shape
        return State(
            t=np.zeros(n, np.int32),
            stored_kwh=np.zeros(n),
            closed_kwh=np.zeros(n),
            exchange_kw=np.zeros((n, 4)),
            bay_kwh=np.zeros((n, slots)),
            wish_kwh=np.zeros((n, slots if self.per_bay else 0)),
        )

    def step(self, scenario: Scenario, state: State, action: Floats) -> tuple[State, Floats, Floats]:
        """Carry out step t with what was fixed at the gate, then fix the next step by ``action``.

        Args:
            scenario: the episodes.
            state: at the start of step t; left unchanged.
            action: (n, action_size) float64 in [-1, 1], checked by the caller.

        Returns:
            The next state, money (n, 7) [$] in the order of REWARD_TERMS, facts (n, 9) in the order of FACTS.
        """
        result = step_kernel(self.constants, scenario, state, action)
        return State._make(result[:6]), result[6], result[7]

    def advance(
        self, scenario: Scenario, state: State, action: Floats
    ) -> tuple[State, Floats, Floats, NDArray[np.float32]]:
        """``step``, and ``observe`` of the state it leads to, in one compiled call."""
        result = advance_kernel(self.constants, scenario, state, action, self.observation_high, self.per_bay)
        return State._make(result[:6]), result[6], result[7], result[8]

    def observe(self, scenario: Scenario, state: State) -> NDArray[np.float32]:
        """Observation at the start of step t, a fresh (n, d) float32 array within [0, observation_high]."""
        return observe_kernel(  # type: ignore[no-any-return]
            self.constants, scenario, state, self.observation_high, self.per_bay
        )

    def action_for(self, target_kwh: Floats, step: int, capacity_kwh: Floats) -> Floats:
        """Action (n, 1) that fixes the stored energy ``target_kwh`` (n,) at the gate, as near as the range allows."""
        ratio = self.constants.ratio[step] if self.constants.gate else 1.0
        plan = self.plan_kwh[min(step + self.constants.gate, self.instance.steps - 1)]
        top = np.maximum(capacity_kwh * ratio, plan)
        share = np.divide(target_kwh, top, out=np.zeros_like(top), where=top > 0.0)
        return np.asarray(np.clip(2.0 * share - 1.0, -1.0, 1.0)[:, None])
