"""Heuristics, plan replay and model-predictive control for V2G/ParkingLot-v0, all with ``predict``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.storage import Market, drainable, solve_paths
from v2g_env.core.market import load_profile, pv_profile
from v2g_env.core.validate import number, require
from v2g_env.parking_lot.model import Model, forecast_ratios
from v2g_env.parking_lot.scenario import Scenario
from v2g_env.rollout import rollout

__all__ = ["ChargeWhenCheap", "DoNothing", "LeastLaxity", "PlanReplay", "PredictiveControl", "tune_quantile"]

Floats = NDArray[np.float64]
Seen = NDArray[np.float32]
Memory = tuple[Any, ...] | None


class _Target:
    """A policy that thinks in stored energy [kWh]: subclasses name the target for the end of the closed step."""

    def __init__(self, model: Model) -> None:
        require(not model.per_bay, "model", "per bay", "the model of V2G/ParkingLot-v0")
        self.model = model
        self.gate = model.constants.gate
        self.steps = model.instance.steps
        self._layout = model.observation_layout

    def see(self, observation: Seen, name: str) -> Floats:
        """One observed quantity of every row, (n,), in the observation's units."""
        return observation[:, self._layout[name]].astype(np.float64)[:, 0]

    def target_kwh(self, observation: Seen, step: int) -> Floats:
        """Energy to be stored at the end of the step being closed, (n,) [kWh]."""
        raise TypeError(f"{type(self).__name__} has no target")

    def predict(
        self,
        observation: Seen,
        state: Memory = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Seen, Memory]:
        """Actions (n, 1) for observations (n, d); rows may be at different steps. No memory, no randomness."""
        observation = np.atleast_2d(observation)
        action = np.full((len(observation), 1), -1.0)
        hot = observation[:, self._layout["step"]]
        for step in np.flatnonzero(hot.any(axis=0)):
            rows = hot[:, step] > 0.5
            seen = observation[rows]
            target = self.target_kwh(seen, int(step))
            action[rows] = self.model.action_for(target, int(step), 200.0 * self.see(seen, "capacity"))
        return action.astype(np.float32), None


class DoNothing(_Target):
    """Never stores anything: earns exactly zero and never violates."""

    def target_kwh(self, observation: Seen, step: int) -> Floats:
        """Zero."""
        return np.zeros(len(observation))


class PlanReplay(_Target):
    """Carries out the model's plan whatever happens; its violation probability is what the certificate bounds."""

    def target_kwh(self, observation: Seen, step: int) -> Floats:
        """The plan's next point."""
        return np.full(len(observation), self.model.plan_kwh[min(step + self.gate, self.steps - 1)])


class ChargeWhenCheap(_Target):
    """Takes the community's surplus in the cheapest hours and serves its deficit in the dearest, blind to departures.

    Never more than a share of what the present cars can hold; nothing is bought for storage from the retailer.

    Args:
        model: of the environment.
        share: of what the present cars can hold.
    """

    def __init__(self, model: Model, share: float = 0.6) -> None:
        super().__init__(model)
        number("share", share, 0.0, 1.0)
        self.share = share
        low, high = model.instance.buy.min(), model.instance.buy.max()
        self.cheap, self.dear = low + (high - low) / 3.0, high - (high - low) / 3.0

    def target_kwh(self, observation: Seen, step: int) -> Floats:
        """As the price of the closed step says, within share x K."""
        return np.minimum(self.wish_kwh(observation, step), self.share * 200.0 * self.see(observation, "capacity"))

    def wish_kwh(self, observation: Seen, step: int) -> Floats:
        """Energy that the offers and the price of the closed step suggest, whatever the cars can hold."""
        lot = self.model.instance
        price = lot.buy[min(step + self.gate, self.steps - 1)]
        ahead = 200.0 * self.see(observation, "ahead")
        if price <= self.cheap:
            return ahead + lot.efficiency * lot.step_h * 200.0 * self.see(observation, "surplus")
        if price >= self.dear:
            return np.maximum(ahead - lot.step_h / lot.efficiency * 200.0 * self.see(observation, "deficit"), 0.0)
        return ahead


class LeastLaxity(ChargeWhenCheap):
    """As ChargeWhenCheap, but only cars whose stated departure leaves slack hold energy; the rest is returned in time.

    Args:
        model: of the environment.
        hours: stated hours (0 to 3) that a car must have left beyond the present step to hold energy.
    """

    def __init__(self, model: Model, hours: int = 2) -> None:
        super().__init__(model, 1.0)
        number("hours", hours, 0, 3, integer=True)
        self.hours = hours

    def target_kwh(self, observation: Seen, step: int) -> Floats:
        """The same wish within the capacity of cars with slack."""
        names = [f"stated_{h}h" for h in range(self.hours + 1, 5)]
        safe = 200.0 * sum(self.see(observation, name) for name in names)
        return np.minimum(self.wish_kwh(observation, step), safe)


class PredictiveControl(_Target):
    """Model-predictive control: re-solves the storage path with what is known, at every gate.

    Future capacities are K_t times the fitting days' quantile of K_s / K_t; offers are the firm one for the closed
    step and the decaying log factors after it. The quantile is the safety margin; ``tune_quantile`` chooses it on
    training days.

    Args:
        model: of the environment.
        quantile: of the capacity ratios, in (0, 1).
    """

    def __init__(self, model: Model, quantile: float = 0.3) -> None:
        super().__init__(model)
        number("quantile", quantile, 0.0, 1.0, open_low=True, open_high=True)
        self.quantile = quantile
        lot = model.instance
        self._ratios = forecast_ratios(lot, quantile)
        self._pv = pv_profile(lot.hours, lot.pv_peak_kw)
        self._load = load_profile(lot.hours, lot.load_base_kw, lot.load_evening_kw, lot.load_morning_kw)
        self._memory = lot.factor_memory**lot.step_h

    def target_kwh(self, observation: Seen, step: int) -> Floats:
        """First step of the best path from here on."""
        first = step + self.gate
        if first >= self.steps - 1:
            return np.zeros(len(observation))
        now = 200.0 * self.see(observation, "capacity")
        capacity = now[:, None] * self._ratios[step, first:]
        market = self._market(observation, first)
        # a narrow grid may leave more in the cars than this forecast can bring down
        start = np.minimum(200.0 * self.see(observation, "ahead"), drainable(self.model.instance, market, capacity))
        path = solve_paths(self.model.instance, market, capacity, start_kwh=start)
        return np.asarray(path.stored_kwh[:, 0])

    def _market(self, observation: Seen, first: int) -> Market:
        ahead = np.arange(self.steps - first)
        fade = self._memory**ahead
        pv = self.see(observation, "pv_factor")[:, None] ** fade * self._pv[first:]
        load = self.see(observation, "load_factor")[:, None] ** fade * self._load[first:]
        surplus, deficit = np.maximum(pv - load, 0.0), np.maximum(load - pv, 0.0)
        surplus[:, 0] = 200.0 * self.see(observation, "surplus")
        deficit[:, 0] = 200.0 * self.see(observation, "deficit")
        return Market(self.model.instance.buy[first:], surplus, deficit)


def tune_quantile(model: Model, scenario: Scenario, grid: tuple[float, ...] = ()) -> float:
    """Quantile of PredictiveControl with the highest mean return on training scenarios."""
    grid = grid or (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    means = [rollout(model, scenario, PredictiveControl(model, q)).returns.mean() for q in grid]
    return grid[int(np.argmax(means))]
