"""Shields of V2G/ParkingLot-v0: caps on the stored energy that is fixed at the gate.

A cap for step s = t + 1 is slope_t K_t + offset_t: what is known when step s is closed is K_t, what it must not exceed
is K_{t+1}. With slope 0 it is a box x_s <= b_s, the same every day. Nothing but the cars decides whether a cap is
kept: the energy fixed at the gate is the agent's wish or the cap, whichever is less, and with the executable quota a
stored energy x_s <= K_s never asks for more power than P_s (top of v2g_env/parking_lot/model.py). So a certificate for
caps holds for any agent behind them, while a margin tuned for one agent (baselines/shield.py) lets that agent go
further, because it does not always ask for what it may have.

A narrow grid may keep energy in the cars that a cap wants out. A box takes that into account (``box_tops``); caps that
move with K_t are certified for any agent only where the retailer can take everything in one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.shielded import Shielded
from v2g_env.core.policy import Policy
from v2g_env.core.validate import array, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
from v2g_env.parking_lot.scenario import sample

__all__ = [
    "TAILS",
    "Box",
    "LotShield",
    "box",
    "box_shield",
    "box_tops",
    "cap_weights",
    "empties_in_one_step",
    "fit_caps",
    "kept",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Seen = NDArray[np.float32]

TAILS = (2e-4, 5e-4, 1e-3, 2e-3, 3.5e-3, 5e-3, 7e-3, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
_PARTS = (0.5, 0.7, 0.85)  # levels below the first tail: these shares of its caps
_LEAST_WEIGHT = 0.02
_UNIT_KWH = 200.0  # of observed energies
_ROUNDING = 3e-7  # relative, of energies that went through float32 observations and actions
_SNAP_KWH = 2e-3  # the model takes a wish this near to the plan for the plan
_MOST_KWH = 1e7
_FIELDS = {"kind", "instance_sha256", "slope", "offset_kwh"}


class LotShield:
    """Caps on stored energy, one level for every row of offsets; see baselines.shielded.Shield.

    Level 0 stores nothing, level g = 1 .. m fixes at most slope_gt K_t + offset_gt in step t, level m + 1 leaves the
    agent alone.

    Args:
        model: of the environment, with a gate.
        slope: (m, T) shares of K_t, in [0, 1e3].
        offset_kwh: (m, T) [kWh].

    Raises:
        InvalidInputError: for a model per bay or without gate closure, for a plan with a point too small to be told
            from zero, or for numbers out of range.
    """

    tolerance = VIOLATION_TOLERANCE

    def __init__(self, model: Model, slope: Any, offset_kwh: Any) -> None:
        lot = model.instance
        require(not model.per_bay, "model", "per bay", "the model of V2G/ParkingLot-v0")
        require(
            lot.gate_closure_steps == 1, "gate_closure_steps", lot.gate_closure_steps, "1: without a gate K is known"
        )
        small = model.plan_kwh[(model.plan_kwh > 0.0) & (model.plan_kwh < 2.0 * _SNAP_KWH)]
        require(not len(small), "plan_kwh", small.tolist(), f"0 or at least {2.0 * _SNAP_KWH:g}")
        self.model = model
        self.slope = array("slope", slope, (None, lot.steps), 0.0, 1e3)
        self.offset_kwh = array("offset_kwh", offset_kwh, (len(self.slope), lot.steps), -_MOST_KWH, _MOST_KWH)
        self.levels = len(self.offset_kwh) + 2
        self.observation_high = model.observation_high
        self.action_size = model.action_size

    def caps_kwh(self, step: Ints, capacity_kwh: Floats, level: int) -> Floats:
        """(n,) largest energy to be fixed for the step after ``step`` (n,), from K (n,), all in kWh; inf: no limit."""
        if level == 0:
            return np.zeros(len(step))
        if level == self.levels - 1:
            return np.full(len(step), np.inf)
        share = self._share(step, level)
        return np.asarray(np.maximum(share * capacity_kwh + self.offset_kwh[level - 1, step], 0.0))

    def _share(self, step: Ints, level: int) -> Floats:
        inside = 0 < level < self.levels - 1
        return np.asarray(self.slope[level - 1, step] if inside else np.zeros(len(step)))

    def project(self, observation: Seen, action: Seen, level: int) -> Seen:
        """The wish where it is below the cap, bit for bit, else the cap; always on the safe side of rounding."""
        steps = self.model.steps
        hot = observation[:, :steps]
        step = np.argmax(hot, axis=1)
        capacity = _UNIT_KWH * observation[:, self.model.observation_layout["capacity"].start].astype(np.float64)
        plan = self.model.plan_kwh[np.minimum(step + 1, steps - 1)]
        top = np.maximum(capacity * self.model.constants.ratio[step], plan)
        wish = 0.5 * (action[:, 0].astype(np.float64) + 1.0) * top
        wish = np.where(np.abs(wish - plan) <= 0.6 * _SNAP_KWH, np.maximum(wish, plan), wish)
        cap = self.caps_kwh(step, capacity, level)
        lost = _ROUNDING * (capacity * self._share(step, level) + np.minimum(cap, _MOST_KWH))
        safe = np.maximum(cap - lost, 0.0)
        # below the plan's point, out of reach of the model's rounding to it
        safe = np.where((plan > safe) & (safe > plan - _SNAP_KWH), np.maximum(plan - _SNAP_KWH, 0.0), safe)
        keep = (wish <= safe) | (cap == np.inf) | ~hot.any(axis=1)
        share = np.divide(2.0 * np.minimum(wish, safe), top, out=np.zeros_like(top), where=top > 0.0) - 1.0
        lowered = share.astype(np.float32)
        lowered = np.where(lowered > share, np.nextafter(lowered, np.float32(-1.0)), lowered)
        return np.where(keep, action[:, 0], np.maximum(lowered, np.float32(-1.0)))[:, None].astype(np.float32)

    def fallback(self, observation: Seen) -> Seen:
        """Store nothing: within every cap, and no violation where the grid can empty the lot in one step."""
        return self.blind(len(observation))

    def blind(self, rows: int) -> Seen:
        """Store nothing."""
        return np.full((rows, 1), -1.0, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "kind": "caps",
            "instance_sha256": self.model.instance.hash,
            "slope": self.slope.tolist(),
            "offset_kwh": self.offset_kwh.tolist(),
        }

    @classmethod
    def from_dict(cls, model: Model, data: Mapping[str, Any]) -> LotShield:
        """Read what ``to_dict`` wrote; foreign instances, unknown and missing fields raise InvalidInputError."""
        ok = isinstance(data, Mapping) and set(data) == _FIELDS
        require(ok, "shield", sorted(data) if isinstance(data, Mapping) else data, ", ".join(sorted(_FIELDS)))
        require(data["kind"] == "caps", "kind of the shield", data["kind"], "caps")
        same = data["instance_sha256"] == model.instance.hash
        require(same, "instance_sha256", data["instance_sha256"], f"the model's {model.instance.hash}")
        return cls(model, data["slope"], data["offset_kwh"])


class Box(NamedTuple):
    """A box x_t <= top_t from N days.

    Attributes:
        top_kwh: (T,) [kWh]; 0 where nothing can be stored.
        support: days without which the box, or the list of days that violate it, would be another one.
        violated: number of days that violate it, all of them in the support.
    """

    top_kwh: Floats
    support: list[int]
    violated: int


def fit_caps(
    model: Model,
    n_samples: int = 20_000,
    seed: int = 20190503,
    tails: Sequence[float] = TAILS,
    weights: Sequence[float] | Floats | None = None,
) -> LotShield:
    """Caps that K_{t+1} falls below with about a given probability in every step.

    K_{t+1} is regressed on K_t (least squares with a constant); the offset of a tail is the constant plus that quantile
    of the residuals. Three shares of the first tail's caps are more cautious levels. The sample only shapes the caps:
    what they promise comes from other days, with another seed.

    Args:
        model: of the environment.
        n_samples: days of the model's law to fit them on.
        seed: of these days.
        tails: growing probabilities in (0, 1).
        weights: (T,) in [0, 1]: the tail of step t is multiplied by it; None for ones. See ``cap_weights``.

    Raises:
        InvalidInputError: for numbers out of range.
    """
    levels = array("tails", tails, (None,), 0.0, 1.0)
    require(bool((np.diff(levels) > 0.0).all()) and len(levels) > 0, "tails", levels.tolist(), "growing numbers")
    number("n_samples", n_samples, 2, 10**6, integer=True)
    lot = model.instance
    weight = array("weights", np.ones(lot.steps) if weights is None else weights, (lot.steps,), 0.0, 1.0)
    capacity = sample(lot, model.law, n_samples, seed).capacity_kwh
    slope, offset = np.zeros(lot.steps), np.zeros((len(levels), lot.steps))
    for t in range(lot.steps - 2):
        now, after = capacity[:, t], capacity[:, t + 1]
        spread = float(now.var())
        rise = float(np.mean((now - now.mean()) * (after - after.mean()))) / spread if spread > 0.0 else 0.0
        slope[t] = min(max(rise, 0.0), 1e3)
        offset[:, t] = np.quantile(after - slope[t] * now, levels * weight[t], method="inverted_cdf")
    first = [np.stack([share * slope, share * offset[0]]) for share in _PARTS]
    slopes = np.stack([*(each[0] for each in first), *[slope] * len(levels)])
    return LotShield(model, slopes, np.stack([*(each[1] for each in first), *offset]))


def cap_weights(shield: LotShield, level: int, policy: Policy, n_samples: int = 2000, seed: int = 20190504) -> Floats:
    """(T,) how often a policy is held back in each step, relative to the most, at least .02.

    Steps in which nobody wants what the caps forbid can have tighter ones: then a violation there is not among those
    that a certificate for any agent has to allow for.

    Args:
        shield: caps with equal weights.
        level: of the caps.
        policy: a policy whose wishes are typical.
        n_samples: days of the model's law to count on.
        seed: of these days.
    """
    model = shield.model
    guarded = Shielded(policy, shield, level)
    held = np.zeros(model.steps)
    days = sample(model.instance, model.law, n_samples, seed)
    state = model.initial(days)
    for t in range(model.steps):
        before = guarded.changed
        action, _ = guarded.predict(model.observe(days, state), None, None, True)
        held[t] = guarded.changed - before
        state = model.step(days, state, action.astype(np.float64))[0]
    most = held.max()
    return np.maximum(held / most, _LEAST_WEIGHT) if most > 0.0 else np.ones(model.steps)


def empties_in_one_step(instance: Instance) -> bool:
    """Whether the retailer alone can take all the energy that the lot can store in a single step."""
    lot = instance
    limit = lot.charger_kw * (1.0 + lot.charger_spread)
    most_kwh = lot.bays * min(lot.headroom_high_kwh, lot.efficiency * limit * lot.step_h)
    return bool(lot.grid_limit_kw * lot.step_h / lot.efficiency >= most_kwh)


def kept(shield: LotShield, capacity_kwh: Floats, radius: float = 0.0) -> Ints:
    """(N,) levels that each day passes whatever the agent does: caps below K in every step.

    Args:
        shield: the caps.
        capacity_kwh: (N, T) K [kWh].
        radius: in chargers: K_t and K_{t+1} may both be off by that much, so that (1 + slope_t) radius has to be left.

    Returns:
        Number of levels, counted from 0, before the first that is broken; level 0 never is, and the last, at which the
        agent is left alone, counts as broken.
    """
    lot = shield.model.instance
    capacity = np.asarray(capacity_kwh, np.float64)
    require(capacity.ndim == 2 and capacity.shape[1] == lot.steps, "capacity_kwh", capacity.shape, f"(N, {lot.steps})")
    number("radius", radius, 0.0, 1e6)
    open_steps = lot.steps - 2
    broken = np.zeros((len(capacity), shield.levels), bool)
    broken[:, -1] = True
    away = radius * lot.energy_scale_kwh
    for g, offset in enumerate(shield.offset_kwh, start=1):
        # a cap is never below 0, and K is not either: storing nothing is always possible
        cap = np.maximum(shield.slope[g - 1] * (capacity + away) + offset, 0.0)[:, :open_steps]
        broken[:, g] = (cap > np.maximum(capacity[:, 1 : open_steps + 1] - away, 0.0)).any(axis=1)
    return np.asarray(broken.argmax(axis=1), np.int64)


def box_tops(instance: Instance, capacity_kwh: Floats, removed: int = 0) -> Floats:
    """Box (T,) of N days: in every step the (removed + 1)-th smallest K, and low enough for the steps after it.

    The lot can always hand min_s { top_s + (s - t) x what the grid takes in a step } down in time, so that no agent is
    caught with more than the box allows.

    Args:
        instance: the lot.
        capacity_kwh: (N, T) K of the days [kWh], inflated if wanted.
        removed: days that may lie below the top in each step, less than N.
    """
    lot = instance
    tops = np.array(np.partition(capacity_kwh, removed, axis=0)[removed], np.float64)
    tops[: lot.gate_closure_steps] = 0.0
    tops[-1] = 0.0
    drop = lot.grid_limit_kw * lot.step_h / lot.efficiency
    for t in range(lot.steps - 2, -1, -1):
        tops[t] = min(tops[t], tops[t + 1] + drop)
    return np.asarray(tops)


def box(instance: Instance, capacity_kwh: Floats, removed: int = 0) -> Box:
    """The box of N days with its list of support days.

    The decision is the box together with the days that violate it (K below the top in some step). It does not change
    when days are added that keep the box: the (removed + 1)-th smallest K of a step stays, or only falls to a value
    that the envelope over later steps did not use. It is reproduced by the days that violate it and, for every step,
    as many of the days at the top as are needed to make it the (removed + 1)-th smallest. So risk.degenerate holds with
    the length of that list.

    Args:
        instance: the lot.
        capacity_kwh: (N, T) K [kWh].
        removed: days that may lie below the top in each step.

    Raises:
        InvalidInputError: for ``removed`` outside [0, N - 1].
    """
    lot = instance
    number("removed", removed, 0, len(capacity_kwh) - 1, integer=True)
    tops = box_tops(lot, capacity_kwh, removed)
    below = (capacity_kwh < tops)[:, : lot.steps - 1]
    chosen = set(np.flatnonzero(below.any(axis=1)).tolist())
    violated = len(chosen)
    order = np.sort(capacity_kwh, axis=0)[removed]
    for t in range(lot.gate_closure_steps, lot.steps - 1):
        mine = np.flatnonzero(capacity_kwh[:, t] <= order[t])
        missing = removed + 1 - sum(int(i) in chosen for i in mine)
        lowest = mine[np.argsort(capacity_kwh[mine, t], kind="stable")]
        for i in [int(i) for i in lowest if int(i) not in chosen][: max(missing, 0)]:
            chosen.add(i)
    support = sorted(chosen)
    for i in sorted(chosen, reverse=True):
        fewer = [j for j in support if j != i]
        keeps = not below[i].any() and len(fewer) > removed
        if keeps and np.array_equal(box_tops(lot, capacity_kwh[fewer], removed), tops):
            support = fewer
    same = np.array_equal(box_tops(lot, capacity_kwh[support], removed), tops)
    require(same, "support", support, "a list that reproduces the box")
    return Box(tops, support, violated)


def box_shield(model: Model, top_kwh: Floats) -> LotShield:
    """The shield with three levels: store nothing, the box, the agent alone."""
    offset = np.append(np.asarray(top_kwh, np.float64)[1:], 0.0)
    return LotShield(model, np.zeros((1, model.steps)), offset[None])
