"""Critics of the week of requests as plain data: what energy left in the battery is worth, frozen in tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.shared_battery.model import WeekModel

__all__ = ["Critic", "WeekCritic"]

Floats = NDArray[np.float64]

_MOST_USD = 1e12


class Critic(Protocol):
    """Anything that values states by their observations, for instance a network."""

    def values(self, observation: NDArray[np.float32]) -> Floats:
        """Money to come (n,) [$] from states with observations (n, d) on."""
        ...


@dataclass(frozen=True, eq=False)
class WeekCritic:
    """What energy is worth to somebody who knows who is still to come today.

    Attributes:
        worth_usd: (T, M + 1) worth U_t of what request t leaves, at M + 1 even levels from empty to full [$].
        tilt_usd: (F, T, M + 1) what it is worth more for every unit of a trait among those still to come after request
            t today [$].
        traits: (n, F) numbers of every driver.
        scale: factor on the penalty, in [0, 1]; 0 is no penalty.
    """

    worth_usd: Floats
    tilt_usd: Floats
    traits: Floats
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check all shapes, and that everything is finite; raise InvalidInputError otherwise."""
        worth = array("worth_usd", self.worth_usd, (None, None), -_MOST_USD, _MOST_USD)
        require(worth.shape[0] >= 1 and worth.shape[1] >= 2, "shape of worth_usd", worth.shape, "a step, two levels")
        tilt = array("tilt_usd", self.tilt_usd, (None, *worth.shape), -_MOST_USD, _MOST_USD)
        traits = array("traits", self.traits, (None, len(tilt)), -_MOST_USD, _MOST_USD)
        number("scale", self.scale, 0.0, 1.0)
        object.__setattr__(self, "scale", float(self.scale))
        for field, values in (("worth_usd", worth), ("tilt_usd", tilt), ("traits", traits)):
            values.flags.writeable = False
            object.__setattr__(self, field, values)

    @property
    def span_usd(self) -> float:
        """Upper limit on the size of what a table says at any request [$]."""
        tilt = np.abs(self.tilt_usd).max(axis=(1, 2), initial=0.0) @ np.abs(self.traits).max(axis=0, initial=0.0)
        return float(2.0 * np.abs(self.worth_usd).max() + 2.0 * tilt)

    def check(self, model: WeekModel) -> None:
        """Raise InvalidInputError unless the tables are about this model's requests and drivers."""
        size, wanted = (len(self.worth_usd), len(self.traits)), (model.steps, model.instance.drivers)
        require(size == wanted, "requests and drivers of the critic", size, str(wanted))

    def at(self, t: int, levels: int) -> tuple[Floats, Floats]:
        """Worth (N + 1,) and tilt (F, N + 1) of what request t leaves, at N + 1 even levels, read linearly."""
        knots = np.linspace(0.0, 1.0, self.worth_usd.shape[1])
        here = np.linspace(0.0, 1.0, levels + 1)
        tilt = np.array([np.interp(here, knots, row) for row in self.tilt_usd[:, t]]).reshape(-1, levels + 1)
        return np.interp(here, knots, self.worth_usd[t]), tilt
