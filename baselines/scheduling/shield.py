"""Shields of V2G/Scheduling-v0: enough room against what the step's load and wind may turn out to be.

Before a step is fixed, two things can make up for missing energy in it: the generator's margin above the expected net
load, within its limit and its ramp, and the share of the cars' room below their set-points that may settle the
imbalance. A level asks that

    margin + share x room >= need,   need = min(z s, w + d l),   s^2 = s_w^2 + (d l)^2 sum_a c_a^2 / 3

with the expected wind w, its standard deviation s_w, the expected load l, the half-width d and the shares c of the
homes' loads. Shares cost little: they are raised first, the margin after them, as far as an action can move it. The
set-points of the cars stay: with the whole room in use, lowering them would lower the room by as much as the net load.
Level 0 asks for w + d l: all the wind gone and every home at the end of its interval.

What the days then show is another matter (ramps, empty cars, lines): levels are certified by ``baselines.shield``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.sight import Sight, act, read
from v2g_env.core.validate import array, require
from v2g_env.scheduling.model import VIOLATION_TOLERANCE, Model

__all__ = ["DEVIATIONS", "ReserveShield"]

Floats = NDArray[np.float64]
Seen = NDArray[np.float32]

DEVIATIONS = (5.0, 4.0, 3.5, 3.25, 3.0, 2.8, 2.6, 2.4, 2.2, 2.0, 1.75, 1.5)
_SAFE_KW = 1e-3  # above the need: observations are float32
_FIELDS = {"kind", "instance_sha256", "deviations"}


class ReserveShield:
    """Reserve against the next step, one level for every number of deviations; see baselines.shielded.Shield.

    Level 0 asks for the worst that a bounded law can bring, level g = 1 .. m for ``deviations[g - 1]`` standard
    deviations, level m + 1 leaves the policy alone.

    Args:
        model: of the environment.
        deviations: z of every level, falling, in [0, 100].

    Raises:
        InvalidInputError: for numbers out of range.
    """

    tolerance = VIOLATION_TOLERANCE

    def __init__(self, model: Model, deviations: Any = DEVIATIONS) -> None:
        self.model = model
        self.deviations = array("deviations", deviations, (None,), 0.0, 100.0)
        falls = bool((np.diff(self.deviations) < 0.0).all()) and len(self.deviations) > 0
        require(falls, "deviations", self.deviations.tolist(), "at least one number, each below the one before")
        self.levels = len(self.deviations) + 2
        self.observation_high = model.observation_high
        self.action_size = model.action_size

    def need_kw(self, sight: Sight, level: int) -> Floats:
        """(n,) what margin and settlement have to cover at a level, -inf at the last [kW]."""
        lot = self.model.instance
        half = lot.load_deviation * sight.load_kw
        worst = sight.wind_kw[:, 0] + half
        if level == 0:
            return np.asarray(worst)
        if level == self.levels - 1:
            return np.full(len(half), -np.inf)
        spread = np.sqrt(sight.wind_sd_kw**2 + half**2 * np.square(lot.load_shares).sum() / 3.0)
        return np.asarray(np.minimum(self.deviations[level - 1] * spread, worst))

    def project(self, observation: Seen, action: Seen, level: int) -> Seen:
        """The action, bit for bit where margin and share suffice; else a larger share, then a larger margin."""
        lot, sight = self.model.instance, read(self.model, observation)
        wish = action.astype(np.float64)
        fraction = np.clip(wish[:, 1:-1], -1.0, 1.0)
        wanted = sight.idle_kw + np.where(fraction > 0.0, fraction * sight.up_kw, fraction * sight.down_kw)
        room = np.maximum((wanted - sight.idle_kw + sight.down_kw).sum(axis=1), 0.0)
        net = sight.load_kw - sight.wind_kw[:, 0] + wanted.sum(axis=1)
        most = np.minimum(sight.gas_kw + lot.gas_ramp_kw, lot.gas_max_kw) - net
        margin = np.minimum(lot.gas_band_kw * wish[:, 0], most)
        need = self.need_kw(sight, level)
        share = 0.5 * (wish[:, -1] + 1.0)
        short = margin + share * room < need
        need = need + _SAFE_KW
        enough = np.divide(need - margin, room, out=np.ones_like(room), where=room > 0.0)
        share = np.where(short, np.maximum(share, np.clip(enough, 0.0, 1.0)), share)
        lift = np.clip((need - share * room) / lot.gas_band_kw, -1.0, 1.0)
        result = action.astype(np.float32)
        result[:, 0] = np.where(short, np.maximum(wish[:, 0], lift), wish[:, 0])
        result[:, -1] = np.where(short, 2.0 * share - 1.0, wish[:, -1])
        return result

    def fallback(self, observation: Seen) -> Seen:
        """Charge to the targets as fast as possible, with what level 0 asks for."""
        sight = read(self.model, observation)
        charge = sight.goal_kw / np.maximum(sight.up_kw, 1e-9)
        return self.project(observation, act(self.model, sight, charge, np.zeros(len(charge)), 1.0), 0)

    def blind(self, rows: int) -> Seen:
        """The generator as far above the expected net load as it may, idle cars, all of their room for settlement."""
        result = np.zeros((rows, self.action_size), np.float32)
        result[:, 0] = result[:, -1] = 1.0
        return result

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "kind": "reserve",
            "instance_sha256": self.model.instance.hash,
            "deviations": self.deviations.tolist(),
        }

    @classmethod
    def from_dict(cls, model: Model, data: Mapping[str, Any]) -> ReserveShield:
        """Read what ``to_dict`` wrote; foreign instances, unknown and missing fields raise InvalidInputError."""
        ok = isinstance(data, Mapping) and set(data) == _FIELDS
        require(ok, "shield", sorted(data) if isinstance(data, Mapping) else data, ", ".join(sorted(_FIELDS)))
        require(data["kind"] == "reserve", "kind of the shield", data["kind"], "reserve")
        same = data["instance_sha256"] == model.instance.hash
        require(same, "instance_sha256", data["instance_sha256"], f"the model's {model.instance.hash}")
        return cls(model, data["deviations"])
