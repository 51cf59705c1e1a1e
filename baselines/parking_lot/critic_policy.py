"""Critic control for V2G/ParkingLot-v0: a learned policy, from the observation alone.

Three parts, all fitted on sampled days before any evaluation:

- which base day of the generator this is, and how much the cars will hold in the next step: features of the
  observation (what is parked, arrives, leaves, states its departure) are taken as jointly normal around each base
  day's means with one covariance for all. The covariance's Cholesky factor whitens them as they come, so the memory
  is the whitened past and one log-likelihood per base day, and the next capacity is a linear regression;
- what stored energy will be worth: the critic of the penalised bound (penalty.py), for the most likely base days;
- the gate: the energy to be fixed maximises money of the exchange, minus refilling and imbalance, plus the critic,
  in the mean over base days and capacities, a newsvendor's problem whose best answer hedges by itself.

Nothing is promised about violations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.critic_policy_kernel import choose_rows, learn_rows
from baselines.parking_lot.penalty import critic_values
from baselines.parking_lot.penalty_data import Penalty
from baselines.parking_lot.penalty_default import default_penalty
from baselines.parking_lot.penalty_market import known_weights
from baselines.parking_lot.samples import reachable
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Law, law, sample

__all__ = ["FEATURES", "CriticControl", "CriticModel", "DayFilter", "fit_critic_control", "fit_day_filter"]

Floats = NDArray[np.float64]
Memory = tuple[Any, ...] | None

FEATURES = ("capacity", "leaving", "arrived", "parked_6h", "stated_1h", "stated_2h", "stated_3h", "power")
_RIDGE = 1e-4  # added to the features' variances, in units of (200 kWh)^2 or (200 kW)^2
_SAMPLES, _SEED = 14_400, 8103  # of the filter; used for nothing else
_UNIT = 200.0  # energies of the observation in kWh


@dataclass(frozen=True, eq=False)
class DayFilter:
    """Base days and their features, all numbers. D base days, T steps, F features, m = (T - 2) F.

    Attributes:
        instance_sha256: of the lot.
        law: name of the law.
        factor: (m, m) lower Cholesky factor of the covariance within base days, step by step.
        centre: (D, m) whitened means.
        capacity_kwh: (D, T) mean of K [kWh].
        slope_kwh: (T, m) of K_t over the whitened features of steps before t.
        residual_kwh: (T,) standard deviation of what that leaves [kWh].
    """

    instance_sha256: str
    law: str
    factor: Floats
    centre: Floats
    capacity_kwh: Floats
    slope_kwh: Floats
    residual_kwh: Floats


@dataclass(frozen=True, eq=False)
class CriticModel:
    """A filter, and the penalty whose critic goes with it: the same lot, the same base days."""

    days: DayFilter
    penalty: Penalty


def fit_day_filter(instance: Instance, source: Law | str, n_samples: int, seed: int) -> DayFilter:
    """Fit means, covariance and regression on sampled days.

    Args:
        instance: the lot; gate closure of one step.
        source: the law of the days, or its name.
        n_samples: days, rounded up to equally many draws of every base day (at least two).
        seed: of these days. Take one that no evaluation uses.

    Raises:
        InvalidInputError: for another gate closure, a smoothed law, or a number out of range.
    """
    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    require(instance.gate_closure_steps == 1, "gate_closure_steps", instance.gate_closure_steps, "1")
    source = law(source) if isinstance(source, str) else source
    model = Model(instance, source)
    n_days, steps = len(source.days.offset) - 1, instance.steps
    each = max(2, -(-n_samples // n_days))
    days = sample(instance, source, n_days * each, seed, np.repeat(np.arange(n_days), each).tolist())
    state, seen = model.initial(days), []
    idle = np.full((len(days.day), 1), -1.0)
    for _ in range(steps - 2):
        seen.append(_features(model, model.observe(days, state)))
        state = model.step(days, state, idle)[0]
    features = np.concatenate(seen, axis=1)
    own = reachable(instance, days)
    means = features.reshape(n_days, each, -1).mean(axis=1)
    capacity = own.reshape(n_days, each, steps).mean(axis=1)
    away, rest = features - np.repeat(means, each, axis=0), own - np.repeat(capacity, each, axis=0)
    factor = np.linalg.cholesky(away.T @ away / len(away) + _RIDGE * np.eye(away.shape[1]))
    white = np.linalg.solve(factor, away.T).T
    slope, residual = np.zeros((steps, white.shape[1])), np.zeros(steps)
    for t in range(1, steps - 1):
        known = t * len(FEATURES)
        slope[t, :known] = white[:, :known].T @ rest[:, t] / len(white)
        residual[t] = (rest[:, t] - white[:, :known] @ slope[t, :known]).std()
    centre = np.ascontiguousarray(np.linalg.solve(factor, means.T).T)
    return DayFilter(instance.hash, source.name, factor, centre, capacity, slope, residual)


def _features(model: Model, observation: NDArray[np.float32]) -> Floats:
    layout = model.observation_layout
    return np.concatenate([observation[:, layout[name]] for name in FEATURES], axis=1).astype(np.float64)


@lru_cache(maxsize=4)
def fit_critic_control(
    instance: Instance, source: Law | str = "generator", n_samples: int = _SAMPLES, seed: int = _SEED
) -> CriticModel:
    """Everything that CriticControl learns, seconds on one core; kept for the last lots.

    Args:
        instance: the lot.
        source: the law of the days, or its name.
        n_samples: days of the filter; the critic is that of penalty_default.default_penalty.
        seed: of the filter's days.

    Raises:
        InvalidInputError: for a lot that the penalty does not cover.
    """
    source = law(source) if isinstance(source, str) else source
    return CriticModel(fit_day_filter(instance, source, n_samples, seed), default_penalty(instance, source))


class CriticControl:
    """Learned policy: what the day's past says of the next step, and the critic of what follows; see the module.

    It remembers: ``predict`` returns a memory that the next call wants back.

    Args:
        model: of the environment; its law does not matter, its plan widens the gate's range.
        fitted: from ``fit_critic_control``; None: fitted for the model's lot under the generator's law.
        days: most likely base days that are looked at.
        grid: intervals of the grid on which the energy is sought first.

    Raises:
        InvalidInputError: for a model per bay, a lot that is not covered, or what was fitted for another lot.
    """

    def __init__(self, model: Model, fitted: CriticModel | None = None, days: int = 4, grid: int = 60) -> None:
        require(not model.per_bay, "model", "per bay", "the model of V2G/ParkingLot-v0")
        fitted = fit_critic_control(model.instance) if fitted is None else fitted
        own = fitted.days.instance_sha256
        require(own == model.instance.hash, "instance", model.instance.hash, "the one that the control was fitted for")
        number("days", days, 1, len(fitted.days.centre), integer=True)
        number("grid", grid, 1, 10_000, integer=True)
        self.model, self.filter, self.penalty = model, fitted.days, fitted.penalty
        self.days, self.grid = days, grid
        self._values, self._rules = critic_values(model.instance, fitted.penalty)
        self._layout = model.observation_layout

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Memory = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], Memory]:
        """Actions (n, 1) for observations (n, d), rows at any step, and the memory of what has been seen.

        Args:
            observation: (n, d) observations.
            state: what the last call returned; None at the start of an episode.
            episode_start: (n,) rows in which a new episode starts; rows at step 0 start anew in any case.
            deterministic: no matter: there is no randomness.

        Raises:
            InvalidInputError: for a row beyond step 0 of which nothing is remembered, or a memory of another size.
        """
        observation = np.atleast_2d(observation)
        n, past = len(observation), self.filter.centre.shape[1]
        hot = observation[:, self._layout["step"]]
        step = np.where(hot.any(axis=1), hot.argmax(axis=1), self.model.steps)
        white, chance, known = self._recall(state, n, past)
        fresh = step == 0
        if episode_start is not None:
            known[np.asarray(episode_start, bool)] = 0
        white[fresh], chance[fresh], known[fresh] = 0.0, 0.0, 0
        last = self.model.steps - 2
        lost = (step < last) & (known != step)
        if lost.any():
            row = int(lost.argmax())
            raise InvalidInputError(f"state = {known[row]} steps seen in step {step[row]}; allowed: all before it")
        action = np.full((n, 1), -1.0)
        for t in np.unique(step[step < last]):
            rows = np.flatnonzero(step == t)
            action[rows] = self._act(int(t), rows, observation[rows], white, chance)
        known = np.where(step < last, known + 1, known)
        return action.astype(np.float32), (white, chance, known)

    def _recall(self, state: Memory, n: int, past: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Copies of the memory, or an empty one."""
        if state is None:
            return np.zeros((n, past)), np.zeros((n, len(self.filter.centre))), np.zeros(n, np.int64)
        white, chance, known = (np.array(part) for part in state)
        require(len(white) == len(chance) == len(known) == n, "rows of the state", len(white), f"{n}")
        return white, chance, known

    def _act(
        self, t: int, rows: NDArray[np.int64], observation: NDArray[np.float32], white: Floats, chance: Floats
    ) -> Floats:
        """Learn from what these rows see at step t, and choose; memory is changed in place."""
        see = {name: observation[:, part].astype(np.float64)[:, 0] for name, part in self._layout.items()}
        past, odds = white[rows], chance[rows]
        learn_rows(t, _features(self.model, observation), self.filter.factor, self.filter.centre, past, odds)
        white[rows], chance[rows] = past, odds
        capacity = _UNIT * see["capacity"]
        market = known_weights(self.model.instance, see["pv_factor"], see["load_factor"], self.penalty.nodes)
        top = np.maximum(capacity * self.model.constants.ratio[t], self.model.plan_kwh[t + 1])
        f, p = self.filter, self.penalty
        target = choose_rows(
            t, top, _UNIT * see["ahead"], _UNIT * see["surplus"], _UNIT * see["deficit"], market, odds, past, f.centre,
            f.capacity_kwh, f.slope_kwh, f.residual_kwh, self._values, p.mean_kwh, p.spread_kwh, p.leaving_kwh,
            p.width_kwh, self.days, self.grid, self._rules,
        )  # fmt: skip
        return self.model.action_for(target, t, capacity)
