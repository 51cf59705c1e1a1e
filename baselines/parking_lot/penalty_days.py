"""Days with draws of what else could have come next, from the exact law of the capacity given what has been seen.

What the penalty takes as seen at the start of step t of a generated day (more than any policy sees, see below):

- from the start: the two base days, the common shift of the arrivals, and whether the common shift s of the departures
  is beyond four standard deviations (if so, s itself);
- of every car that has arrived: the step, its quota, its charger's limit; whether it took the last free bay, and then
  which session it is; the hour in which its stated departure lies, from three hours before it on (as long as it is
  there); its departure d from the start of step d - 1 on;
- the market up to step t + 1.

Not seen: which sessions were dropped or added, except through these cars, and s. The observation of V2G/ParkingLot-v0
is a function of what is seen, so every policy is among those that the bound speaks of.

The law of K_{t+1} given that is exact. With s fixed, every session has a label: what would be seen of it. Sessions are
kept independently (probability 1 - drop on the first day, mix on the second, one for the car that took the last bay,
zero for those after it), so the counts of the labels are independent sums of Bernoulli variables. As a function of s
the departures are constant on cells of the line; the posterior of a cell is its normal probability times the
likelihood of all label counts. Given a cell, the number of a group's cars that leave next has the law of one such sum
given the total, quotas are exchangeable within a group, and arrivals are drawn forwards with the bays left. Labels get
finer with time, so the last counts hold the whole past.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from baselines.parking_lot.penalty_day_kernel import draw_capacity, list_sessions, place_sessions
from baselines.parking_lot.samples import reachable
from v2g_env.core.validate import number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Law, Scenario, draw, noise_shape

__all__ = ["Days", "draw_days"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK = 1024  # rows that scenario.sample draws at a time
_SHIFT_SD = 4.0
_SLIVER = 1e-12  # cells narrower than this are rounding [h]


class Days(NamedTuple):
    """n drawn days and draws of the next step's capacity.

    Attributes:
        scenario: the days, equal to scenario.sample(instance, law, n, seed).
        capacity_kwh: (n, T) true K where anything can be stored, else zero [kWh].
        other_kwh: (n, T, R) draws of K_t given what has been seen at the start of step t - 1 [kWh].
    """

    scenario: Scenario
    capacity_kwh: Floats
    other_kwh: Floats


class _Sessions(NamedTuple):
    """Candidate sessions of every row: (n,) how many, then (n, S) each, and (n, T) who took the last bay."""

    number: Ints
    base: Ints
    other: Ints
    arrive: Ints
    stated: Ints
    leave: Ints
    placed: NDArray[np.bool_]
    last: Ints


def draw_days(instance: Instance, source: Law, n_samples: int, seed: int, draws: int = 64, inner_seed: int = 0) -> Days:
    """Draw days, and for every step what else could have come next.

    Args:
        instance: the lot; gate closure of one step, no own charging, steps of which whole numbers make up an hour.
        source: the law of the days; not a smoothed one.
        n_samples: n.
        seed: of the days, as for scenario.sample.
        draws: R; 0 for one "draw" that is the truth (enough without a penalty).
        inner_seed: of the draws.

    Raises:
        InvalidInputError: for an instance or a law that the penalty does not cover.
    """
    require(instance.gate_closure_steps == 1, "gate_closure_steps", instance.gate_closure_steps, "1")
    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    number("draws", draws, 0, 4096, integer=True)
    number("inner_seed", inner_seed, 0, 2**63 - 1, integer=True)
    require(not source.smoothed, "law", source.name, "a law of sessions (generator, days)")
    uniforms, normals, days = _noise(instance, source, n_samples, seed)
    scenario = draw(instance, source, uniforms, normals, days)
    own = reachable(instance, scenario)
    if draws == 0:
        return Days(scenario, own, own[..., None].copy())
    require(not instance.own_charging, "own_charging", instance.own_charging, "False")
    hour = 1.0 / instance.step_h
    require(abs(hour - round(hour)) < 1e-9, "step_h", instance.step_h, "an hour divided by a whole number")
    shift = normals[:, 1] * source.departure_shift_h
    found = _sessions(instance, source, scenario, uniforms, normals[:, 0] * source.arrival_shift_h, shift)
    quota = np.zeros(found.base.shape)
    quota[found.placed] = scenario.quota_kwh[np.arange(source.slots) < scenario.sessions[:, None]]
    edges, cells, share = _cells(instance, source, found, shift)
    lot = (
        *_chances(instance, source), instance.open_h, instance.step_h, instance.bays, instance.charger_kw,
        instance.charger_spread, instance.efficiency, instance.headroom_low_kwh, instance.headroom_high_kwh,
    )  # fmt: skip
    others = draw_capacity(*found, quota, own, edges, cells, share, source.days.departure_h, lot, draws, inner_seed)
    return Days(scenario, own, others)


def _noise(instance: Instance, source: Law, n: int, seed: int) -> tuple[Floats, Floats, list[int] | None]:
    """The noise behind scenario.sample(instance, source, n, seed)."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    width, normal_width = noise_shape(instance, source)
    uniforms, normals = np.empty((n, width)), np.empty((n, normal_width))
    for start in range(0, n, _CHUNK):
        rows = slice(start, min(start + _CHUNK, n))
        uniforms[rows] = rng.random(uniforms[rows].shape)
        normals[rows] = rng.standard_normal(normals[rows].shape)
    days = (np.arange(n) % (len(source.days.offset) - 1)).tolist() if source.replay else None
    return uniforms, normals, days


def _chances(instance: Instance, source: Law) -> tuple[float, float]:
    """Probabilities that a session is dropped, and that one of the second day is added."""
    return (0.0, 0.0) if source.replay else (instance.drop_fraction, instance.mix_fraction)


def _sessions(
    instance: Instance, source: Law, scenario: Scenario, uniforms: Floats, arrival_shift: Floats, shift: Floats
) -> _Sessions:
    """All sessions that could have come; raises if they do not tell the scenario's own story."""
    base, n_days = source.days, len(source.days.offset) - 1
    second = np.minimum((uniforms[:, 1] * n_days).astype(np.int32), n_days - 1)
    shape = (len(shift), source.slots)
    index, other, arrive, stated, leave = (np.zeros(shape, np.int64) for _ in range(5))
    kept, placed = np.zeros(shape, bool), np.zeros(shape, bool)
    count = list_sessions(
        scenario.day, second, uniforms[:, 2 : 2 + source.slots], arrival_shift, base.offset, base.arrival_h,
        base.stated_h, *_chances(instance, source), instance.open_h, instance.step_h, instance.steps,
        (index, other, arrive, stated, kept),
    )  # fmt: skip
    last = np.zeros((len(shift), instance.steps), np.int64)
    place_sessions(
        count, index, arrive, kept, base.departure_h, shift, instance.bays, instance.open_h, instance.step_h,
        instance.steps, leave, placed, last,
    )  # fmt: skip
    present = np.arange(source.slots) < scenario.sessions[:, None]
    same = np.array_equal(placed.sum(axis=1), scenario.sessions) and all(
        np.array_equal(mine[placed], theirs[present])
        for mine, theirs in ((arrive, scenario.arrive), (leave, scenario.depart))
    )
    if not same:
        raise RuntimeError("the sessions behind the scenario were rebuilt wrongly: the generator has changed")
    return _Sessions(count, index, other, arrive, stated, leave, placed, last)


def _cells(instance: Instance, source: Law, found: _Sessions, shift: Floats) -> tuple[Floats, Ints, Floats]:
    """Ends (n, C + 1) [h], number (n,) and probabilities (n, C) of the cells of the departure shift."""
    spread = source.departure_shift_h
    lines = [
        _edges(instance, spread, source.days.departure_h[found.base[i, : found.number[i]]], shift[i])
        for i in range(len(shift))
    ]
    cells = np.array([len(line) - 1 for line in lines])
    edges = np.zeros((len(lines), int(cells.max()) + 1))
    for row, line in zip(edges, lines, strict=True):
        row[: len(line)] = line
    share = np.zeros((len(lines), edges.shape[1] - 1))
    if spread > 0.0:
        inside = np.arange(share.shape[1]) < cells[:, None]
        share = np.where(inside, np.diff(ndtr(edges / spread), axis=1), 0.0)
    share[cells == 1, 0] = 1.0
    return edges, cells, share


def _edges(instance: Instance, spread: float, leave: Floats, shift: float) -> Floats:
    """Ends of one row's cells: every shift at which some session's departure moves to another step [h]."""
    limit = _SHIFT_SD * spread
    if spread == 0.0 or abs(shift) > limit:
        return np.array([shift, shift])
    whole = instance.open_h + instance.step_h * (np.arange(1, instance.steps + 1) - 1e-9)  # as assembly.assemble
    edges = np.sort((whole[:, None] - leave).ravel())
    edges = edges[(edges > -limit + _SLIVER) & (edges < limit - _SLIVER)]
    edges = np.concatenate([[-limit], edges, [limit]])
    return np.asarray(edges[np.concatenate([[True], np.diff(edges) > _SLIVER])])
