"""What a policy of the scheduling environment can read in its observations, in kW and cars; and how it answers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.scheduling.model import LEAVING_H, SCALE_KW, Model
from v2g_env.scheduling.weather import LEADS

__all__ = ["Sight", "act", "read", "wind_path"]

Floats = NDArray[np.float64]


class Sight(NamedTuple):
    """Observations of n days.

    Attributes:
        step: (n,) number of the step, the same for all; ``steps`` after the last.
        gas_kw: (n,) last power of the generator.
        last_net_kw: (n,) last load minus last wind.
        wind_kw: (n, leads) expected wind.
        wind_sd_kw: (n,) standard deviation of the first.
        load_kw: (n,) load expected first.
        idle_kw, up_kw, down_kw, goal_kw: (n, aggregators) see the environment.
        cars, energy_kwh: (n, aggregators) plugged in.
        to_come: (n,) cars still to come.
        leaving: (n, 4) cars that leave within LEAVING_H.
    """

    step: NDArray[np.int64]
    gas_kw: Floats
    last_net_kw: Floats
    wind_kw: Floats
    wind_sd_kw: Floats
    load_kw: Floats
    idle_kw: Floats
    up_kw: Floats
    down_kw: Floats
    goal_kw: Floats
    cars: Floats
    energy_kwh: Floats
    to_come: Floats
    leaving: Floats


def read(model: Model, observation: NDArray[np.float32]) -> Sight:
    """Decode observations (n, d)."""
    seen, layout, lot = observation.astype(np.float64), model.observation_layout, model.instance

    def column(name: str) -> Floats:
        return np.asarray(seen[:, model.columns(name)])

    cars = float(max(lot.cars, 1))
    calendar = seen[:, layout["calendar"]]
    over = (calendar == 0.0).all(axis=1)  # as it is only after the last step
    return Sight(
        np.where(over, lot.steps, np.round(calendar[:, 0] * lot.steps)).astype(np.int64),
        SCALE_KW * seen[:, 0],
        SCALE_KW * (seen[:, layout["last_load"].start] - seen[:, layout["last_wind"].start]),
        SCALE_KW * seen[:, layout["wind_ahead"]],
        SCALE_KW * seen[:, layout["wind_sd"].start],
        SCALE_KW * seen[:, layout["load_ahead"].start],
        SCALE_KW * column("idle"),
        SCALE_KW * column("up"),
        SCALE_KW * column("down"),
        SCALE_KW * column("goal"),
        cars * column("cars"),
        cars * lot.battery_kwh * column("energy"),
        cars * column("to_come").sum(axis=1),
        cars * np.stack([column(f"leaving_{h:g}h").sum(axis=1) for h in LEAVING_H], axis=1),
    )


def wind_path(model: Model, sight: Sight) -> Floats:
    """(n, steps left) wind expected from the step being decided to the end, straight lines between the leads [kW]."""
    left = model.steps - int(sight.step[0])
    at = np.arange(1, left + 1)
    return np.stack([np.interp(at, LEADS, row) for row in sight.wind_kw])


def act(model: Model, sight: Sight, fraction: Floats, gas_kw: Floats, share: float) -> NDArray[np.float32]:
    """Actions (n, 2 + aggregators) that set the aggregators and the generator.

    Args:
        model: the problem.
        sight: decoded observations.
        fraction: (n, aggregators) in [-1, 1]: of the room below or above idle.
        gas_kw: (n,) power of the generator above the expected net load with these aggregators.
        share: of the remaining bands that settles imbalance, in [0, 1].
    """
    action = np.empty((len(fraction), model.action_size), np.float32)
    action[:, 0] = np.clip(gas_kw / model.instance.gas_band_kw, -1.0, 1.0)
    action[:, 1:-1] = np.clip(fraction, -1.0, 1.0)
    action[:, -1] = 2.0 * share - 1.0
    return action
