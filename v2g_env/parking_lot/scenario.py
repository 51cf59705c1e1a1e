"""Every draw of an episode as one object, and the laws it may come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.market import ar_factors, load_profile, pv_profile
from v2g_env.core.validate import number, require
from v2g_env.data.splits import DaySessions, day_set, sessions_of
from v2g_env.parking_lot.assembly import assemble, net_offers
from v2g_env.parking_lot.instance import Instance

__all__ = [
    "Capacity",
    "Law",
    "Scenario",
    "check_days",
    "draw",
    "draw_from",
    "law",
    "law_of",
    "sample",
    "sample_capacity",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_CHUNK = 1024


class Scenario(NamedTuple):
    """One episode per row: n rows, S session slots, T steps (index T pads the end with zeros).

    Attributes:
        day: (n,) index of the base day.
        sessions: (n,) number of sessions that got a bay.
        arrive, depart: (n, S) first step plugged in, and step at whose start the bay is empty again.
        stated: (n, S) stated departure [steps from opening], known on arrival.
        quota_kwh: (n, S) energy that one step can put in and take out again: min(cap, efficiency x limit x step) [kWh].
        cap_kwh: (n, S) cap minus energy on arrival [kWh].
        charger_kw: (n, S) AC limit of the session [kW].
        bay: (n, S) bay of the session.
        order: (n, S) sessions in the order in which the dispatch rule fills them.
        capacity_kwh: (n, T + 1) K: quota of those who stay beyond the step [kWh].
        full_kwh: (n, T + 1) the same with cap_kwh in place of quota_kwh [kWh].
        power_kw: (n, T + 1) P: charger limits of those plugged in [kW].
        surplus_kw, deficit_kw: (n, T + 1) the community's offers [kW].
        pv_factor, load_factor: (n, T + 1) mean-one factors behind the offers.
        turned_away: (n,) sessions that found no free bay.
    """

    day: Ints
    sessions: Ints
    arrive: Ints
    depart: Ints
    stated: Floats
    quota_kwh: Floats
    cap_kwh: Floats
    charger_kw: Floats
    bay: Ints
    order: Ints
    capacity_kwh: Floats
    full_kwh: Floats
    power_kw: Floats
    surplus_kw: Floats
    deficit_kw: Floats
    pv_factor: Floats
    load_factor: Floats
    turned_away: Ints


@dataclass(frozen=True, eq=False)
class Law:
    """Where scenarios come from: a day generator fitted to a set of days, or these days themselves.

    The generator takes a day of the set, drops some of its sessions, adds some of a second day, and shifts all arrivals
    and all departures of the day by one common amount each. The shifts' standard deviations are Silverman's bandwidth
    of the day means, so the between-day spread of the data is smoothed, not invented.

    Attributes:
        name: "generator:<day set>", "smoothed:<day set>" or "days:<day set>".
        days: the base days.
        replay: True if whole days are used as they are.
        smoothed: True if sampled capacities get a continuous amount below one charger added (law without ties, for
            studying two-sided bounds; it has no bay-level meaning, so environments refuse it).
        arrival_shift_h, departure_shift_h: standard deviations of the common shifts [h].
    """

    name: str
    days: DaySessions
    replay: bool
    smoothed: bool
    arrival_shift_h: float
    departure_shift_h: float

    @property
    def slots(self) -> int:
        """Session slots that a draw may need at most."""
        longest = int(np.diff(self.days.offset).max())
        return longest if self.replay else 2 * longest


@lru_cache(maxsize=32)
def law(name: str) -> Law:
    """Return the law called ``name``; "generator" is short for "generator:jpl-2019/fit".

    Raises:
        InvalidInputError: for an unknown kind or day set.
    """
    require(isinstance(name, str), "law", name, "a name")
    if name in ("generator", "smoothed"):
        name = f"{name}:jpl-2019/fit"
    kind, _, days_name = name.partition(":")
    require(
        kind in ("generator", "smoothed", "days"), "law", name, "generator[:<day set>], smoothed[:...], days:<day set>"
    )
    return law_of(sessions_of(day_set(days_name)), kind)


def law_of(days: DaySessions, kind: str = "generator") -> Law:
    """Return the law of the given kind ("generator", "smoothed" or "days") for any set of days, your own included."""
    require(kind in ("generator", "smoothed", "days"), "kind of the law", kind, "generator, smoothed, days")
    name = f"{kind}:{days.name}"
    if kind == "days":
        return Law(name, days, replay=True, smoothed=False, arrival_shift_h=0.0, departure_shift_h=0.0)
    return Law(
        name,
        days,
        replay=False,
        smoothed=kind == "smoothed",
        arrival_shift_h=_bandwidth(days.arrival_h, days.offset),
        departure_shift_h=_bandwidth(days.departure_h, days.offset),
    )


def _bandwidth(values: Floats, offset: NDArray[np.int64]) -> float:
    means = np.add.reduceat(values, offset[:-1]) / np.diff(offset)
    if len(means) < 2:
        return 0.0
    return float(1.06 * means.std(ddof=1) * len(means) ** -0.2)


def noise_shape(instance: Instance, source: Law) -> tuple[int, int]:
    """Numbers of uniforms and of standard normals that one episode consumes."""
    per_session = 3 if instance.charger_spread > 0.0 else 2
    return 2 + per_session * source.slots, 2 + 2 * instance.steps


def check_days(source: Law, days: Sequence[int] | None, rows: int) -> None:
    """Raise InvalidInputError unless ``days`` is None or holds one base day for each row."""
    if days is None:
        return
    require(np.shape(days) == (rows,), "shape of days", np.shape(days), f"({rows},): one per row")
    for day in days:
        number("day", day, 0, len(source.days.offset) - 2, integer=True)


def draw_from(
    instance: Instance, source: Law, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None
) -> Scenario:
    """Draw one episode from each generator; row i depends on generator i alone.

    Args:
        instance: the lot.
        source: the law.
        generators: one random generator per row.
        days: base day of each row; drawn if None.
    """
    check_days(source, days, len(generators))
    width, normal_width = noise_shape(instance, source)
    uniforms = np.empty((len(generators), width))
    normals = np.empty((len(generators), normal_width))
    for generator, uniform, normal in zip(generators, uniforms, normals, strict=True):
        generator.random(out=uniform)
        generator.standard_normal(out=normal)
    return draw(instance, source, uniforms, normals, days)


def sample(instance: Instance, source: Law, n_samples: int, seed: int, days: Sequence[int] | None = None) -> Scenario:
    """Draw ``n_samples`` episodes from one seed; a law that replays days takes them in turn unless told ``days``."""
    number("n_samples", n_samples, 1, 10_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    # a child of the seed: no sample shares its stream with an environment seeded with some integer
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    width, normal_width = noise_shape(instance, source)
    check_days(source, days, n_samples)
    if days is None and source.replay:
        days = (np.arange(n_samples) % (len(source.days.offset) - 1)).tolist()
    parts = []
    for start in range(0, n_samples, _CHUNK):
        rows = min(_CHUNK, n_samples - start)
        chosen = None if days is None else days[start : start + rows]
        parts.append(
            draw(instance, source, rng.random((rows, width)), rng.standard_normal((rows, normal_width)), chosen)
        )
    return Scenario(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def draw(
    instance: Instance, source: Law, uniforms: Floats, normals: Floats, days: Sequence[int] | None = None
) -> Scenario:
    """Turn noise into episodes: the only place where randomness becomes sessions and offers.

    Args:
        instance: the lot.
        source: the law.
        uniforms: (n, width) noise; both widths from noise_shape.
        normals: (n, width) noise.
        days: (n,) base days, or None to take them from the first uniform.
    """
    steps = instance.steps
    base = source.days
    n_days = len(base.offset) - 1
    first = np.minimum((uniforms[:, 0] * n_days).astype(np.int32), n_days - 1)
    if days is not None:
        check_days(source, days, len(uniforms))
        first = np.asarray(days, dtype=np.int32)
    second = np.minimum((uniforms[:, 1] * n_days).astype(np.int32), n_days - 1)
    sessions = assemble(
        first,
        second,
        uniforms,
        normals[:, 0] * source.arrival_shift_h,
        normals[:, 1] * source.departure_shift_h,
        base.offset,
        base.arrival_h,
        base.departure_h,
        base.stated_h,
        base.energy_kwh,
        source.slots,
        0.0 if source.replay else instance.drop_fraction,
        0.0 if source.replay else instance.mix_fraction,
        instance.open_h,
        instance.step_h,
        steps,
        instance.bays,
        instance.charger_kw,
        instance.charger_spread,
        instance.efficiency,
        instance.headroom_low_kwh,
        instance.headroom_high_kwh,
        instance.own_charging,
        1 if instance.dispatch == "least_laxity" else 0,
    )
    return Scenario._make((first, *sessions[:-1], *_offers(instance, normals[:, 2:]), sessions[-1]))


def _offers(instance: Instance, normals: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    memory = instance.factor_memory**instance.step_h
    steps = instance.steps
    pv = ar_factors(normals[:, :steps], memory, instance.pv_sd)
    load = ar_factors(normals[:, steps:], memory, instance.load_sd)
    return net_offers(pv, load, *_profiles(instance))  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _profiles(instance: Instance) -> tuple[Floats, Floats]:
    hours = instance.hours
    load = load_profile(hours, instance.load_base_kw, instance.load_evening_kw, instance.load_morning_kw)
    return pv_profile(hours, instance.pv_peak_kw), load


class Capacity(NamedTuple):
    """The uncertain sample delta = (K, P) of a scenario program, one scenario per row, no padding.

    Attributes:
        energy_kwh: (N, T) K_t [kWh].
        power_kw: (N, T) P_t [kW].
    """

    energy_kwh: Floats
    power_kw: Floats

    @property
    def sha256(self) -> str:
        """Fingerprint of the numbers."""
        digest = hashlib.sha256()
        for part in self:
            digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
        return digest.hexdigest()


def sample_capacity(instance: Instance, source: Law, n_samples: int, seed: int, quota: str = "executable") -> Capacity:
    """Draw ``n_samples`` capacities; a law that replays days takes each day in turn, so no day counts twice by chance.

    Args:
        instance: the lot.
        source: the law.
        n_samples: N.
        seed: of the sample.
        quota: "executable" (every bay's share can be moved in one step) or "full" (cap minus energy on arrival).
    """
    require(quota in ("executable", "full"), "quota", quota, "executable, full")
    episodes = sample(instance, source, n_samples, seed)
    energy = (episodes.capacity_kwh if quota == "executable" else episodes.full_kwh)[:, :-1]
    result = Capacity(energy.copy(), episodes.power_kw[:, :-1].copy())
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    if source.smoothed:
        result.energy_kwh[:] += instance.energy_scale_kwh * rng.random(result.energy_kwh.shape)
        result.power_kw[:] += instance.charger_kw * rng.random(result.power_kw.shape)
    return result
