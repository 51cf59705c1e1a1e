"""What drivers do over the day, as a time-activity network with observed shares (Tang and Mak 2024; data: NHTS 2009).

Nodes are (place, time), arcs what a driver does from one time to the next: stay at home, at work or elsewhere, or move.
Staying at home is two parallel arcs, plugged in or not; where there are chargers at work, staying there is too. The
plugged arcs of a period carry its rebate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.data.diaries import CLUSTERS, MOVES, Cluster, load_clusters
from v2g_env.stackelberg.calibration import SHARE_RANGE, calibrate, default_deviation
from v2g_env.stackelberg.network import Network

__all__ = ["Diary", "mixed_shares", "network", "time_activity"]

Floats = NDArray[np.float64]
_PERIODS_PER_HOUR = (1, 2, 4)


@dataclass(frozen=True)
class Diary:
    """A time-activity network with the share of drivers seen on every arc, an exact unit flow.

    Attributes:
        tail, head: (A,) node numbers, topological; node 0 is the source, the last node the sink.
        period: (A,) rebate period of arcs that mean being plugged in, -1 of all others.
        source, sink: where every path begins and ends.
        activity: (A,) "start", two letters of home, work, elsewhere for a stay or a move ("hh", "hw", ...), and
            "hh plugged", "ww plugged".
        step: (A,) number of the time step, -1 for "start".
        flow: (A,) observed shares.
        step_h: length of a step and rebate period [h].
    """

    tail: tuple[int, ...]
    head: tuple[int, ...]
    period: tuple[int, ...]
    source: int
    sink: int
    activity: tuple[str, ...]
    step: tuple[int, ...]
    flow: tuple[float, ...]
    step_h: float

    @property
    def periods(self) -> int:
        """Number T of rebate periods."""
        return round(24 / self.step_h)


def mixed_shares(
    composition: Sequence[float] = (0.6, 0.1, 0.3), clusters: Mapping[str, Cluster] | None = None
) -> tuple[Floats, Floats]:
    """Mix the clusters' statistics.

    Args:
        composition: weights of commuters, home-based and mixed drivers, summing up to 1; 0 leaves a cluster out.
        clusters: statistics by the names in ``data.diaries.CLUSTERS``; None: the shipped ones.

    Returns:
        Start shares (24, 3) at home, work, elsewhere, and flows (24, 3, 3) from hour to hour.

    Raises:
        InvalidInputError: for weights outside [0, 1], a sum other than 1, or a cluster with weight that is missing.
    """
    weights = array("composition", composition, (len(CLUSTERS),), 0.0, 1.0)
    require(abs(weights.sum() - 1.0) <= 1e-9, "sum of composition", float(weights.sum()), "1")
    given = load_clusters() if clusters is None else clusters
    start, flow = np.zeros((24, 3)), np.zeros((24, 3, 3))
    for name, weight in zip(CLUSTERS, weights, strict=True):
        if weight > 0.0:
            require(name in given, "clusters", sorted(given), f"a mapping with {name!r}")
            start += weight * given[name].start
            flow += weight * given[name].flow
    return start, flow


def time_activity(
    composition: Sequence[float] = (0.6, 0.1, 0.3),
    plugged: float = 0.8,
    workplace: float = 0.0,
    periods_per_hour: int = 1,
    minimum: float = 0.001,
    clusters: Mapping[str, Cluster] | None = None,
) -> Diary:
    """Build the time-activity network of a mix of drivers.

    Moves of fewer than ``minimum`` of the drivers are left out, and the other drivers at that place and time take their
    part: shares follow anew from the shares at the start of the day as a Markov chain. The smaller of two parallel arcs
    is left out where it would fall below ``minimum``.

    With several periods per hour, the moves of an hour are spread evenly over its periods, over fewer of them where the
    parts would fall below ``minimum``, and each driver moves at most once an hour: the shares at full hours are those
    of the hourly network.

    Args:
        composition: weights of commuters, home-based and mixed drivers.
        plugged: share of those who stay at home that is plugged in.
        workplace: share of those who stay at work that is plugged in there; 0: no chargers at work.
        periods_per_hour: 1, 2 or 4.
        minimum: smallest share of an arc.
        clusters: statistics of the clusters; None: the shipped ones.

    Raises:
        InvalidInputError: for an argument out of its range.
    """
    low, high = SHARE_RANGE
    number("plugged", plugged, low, high)
    number("workplace", workplace, 0.0, 1.0)
    number("periods_per_hour", periods_per_hour, 1, 4, integer=True)
    require(periods_per_hour in _PERIODS_PER_HOUR, "periods_per_hour", periods_per_hour, "1, 2 or 4")
    number("minimum", minimum, low, 0.1)
    first, hourly = _chain(*mixed_shares(composition, clusters), float(minimum))
    flows = [step for hour in hourly for step in _steps(hour, int(periods_per_hour), float(minimum))]
    arcs = _arcs(first, flows, {"hh": float(plugged), "ww": float(workplace)}, float(minimum))
    return _contracted(arcs, 1.0 / periods_per_hour)


def network(diary: Diary, deviation_usd: float | None = None) -> Network:
    """Return the network of drivers who, without rebates, behave as in the diary.

    Args:
        diary: observed behaviour.
        deviation_usd: standard deviation of the utility of one hour's activity [$], an arc of ``step_h`` hours has
            ``step_h`` times as much; None: .194 (see ``calibration.default_deviation``).

    Raises:
        InvalidInputError: unless the deviation is positive.
    """
    sigma = default_deviation() if deviation_usd is None else deviation_usd
    number("deviation_usd", sigma, 0.0, 1e6, open_low=True)
    return calibrate(
        diary.tail, diary.head, diary.period, diary.source, diary.sink, diary.flow, float(sigma) * diary.step_h
    )


def _chain(start: Floats, flow: Floats, minimum: float) -> tuple[Floats, Floats]:
    """Leave out small flows until none is left: shares (3,) at the start of the day and exact flows (24, 3, 3)."""
    first = np.where(start[0] < minimum, 0.0, start[0])
    first /= first.sum()
    weight = flow.copy()
    while True:
        exact, now = np.zeros_like(weight), first
        for hour in range(24):
            total = weight[hour].sum(1, keepdims=True)
            # a place of the table that nobody is left at, or that was empty: whoever is there stays
            chance = np.where(total > 0.0, weight[hour] / np.where(total > 0.0, total, 1.0), np.eye(3))
            exact[hour] = now[:, None] * chance
            now = exact[hour].sum(0)
        largest = weight == weight.max(2, keepdims=True)  # the last way out stays
        small = (weight > 0.0) & (exact < minimum) & ~largest
        if not small.any():
            return first, exact
        weight[small] = 0.0


def _steps(flow: Floats, steps: int, minimum: float) -> list[Floats]:
    """Split one hour's flow (3, 3) into equal steps; movers stay until, and after, the step in which they move."""
    result = [np.diag(flow.diagonal()) for _ in range(steps)]
    for i, j in np.argwhere(flow > 0.0):
        if i == j:
            continue
        parts = max(1, min(steps, int(flow[i, j] / minimum)))
        part = flow[i, j] / parts
        when = [int((n + 0.5) * steps / parts) for n in range(parts)]
        for k, step in enumerate(result):
            moved = sum(w < k for w in when)
            moving = sum(w == k for w in when)
            step[j, j] += part * moved
            step[i, j] += part * moving
            step[i, i] += part * (parts - moved - moving)
    return result


@dataclass(frozen=True)
class _Arc:
    tail: tuple[int, int]  # time step and place; (-1, 0) is the source, (steps, 0) the sink
    head: tuple[int, int]
    activity: str
    step: int
    period: int
    flow: float


def _arcs(first: Floats, flows: list[Floats], plugged: Mapping[str, float], minimum: float) -> list[_Arc]:
    last = len(flows)
    arcs = []
    places = np.flatnonzero(first)
    if len(places) > 1:
        arcs = [_Arc((-1, 0), (0, int(p)), "start", -1, -1, float(first[p])) for p in places]
    for step, flow in enumerate(flows):
        for n, move in enumerate(MOVES):
            i, j = divmod(n, 3)
            if flow[i, j] == 0.0:
                continue
            tail, head = (step, i), (step + 1, j if step + 1 < last else 0)
            part = float(flow[i, j]) * plugged.get(move, 0.0)
            rest = float(flow[i, j]) - part
            if part < minimum or rest < minimum:
                part, rest = (float(flow[i, j]), 0.0) if part > rest else (0.0, float(flow[i, j]))
            if part > 0.0:
                arcs.append(_Arc(tail, head, f"{move} plugged", step, step, part))
            if rest > 0.0:
                arcs.append(_Arc(tail, head, move, step, -1, rest))
    return arcs


def _contracted(arcs: list[_Arc], step_h: float) -> Diary:
    """Join the ends of arcs that all drivers take, and number the nodes that are left."""
    nodes = sorted({end for arc in arcs for end in (arc.tail, arc.head)})
    same = {node: node for node in nodes}
    kept = []
    for arc in arcs:  # in order of time, so that a tail has found its final name
        if arc.flow >= 1.0 - 1e-9:
            require(arc.period < 0, f"share {arc.activity} in period {arc.period}", arc.flow, "less than all drivers")
            same[arc.head] = same[arc.tail]
        else:
            kept.append(arc)
    number_of = {node: n for n, node in enumerate(sorted({same[end] for arc in kept for end in (arc.tail, arc.head)}))}
    return Diary(
        tail=tuple(number_of[same[arc.tail]] for arc in kept),
        head=tuple(number_of[same[arc.head]] for arc in kept),
        period=tuple(arc.period for arc in kept),
        source=0,
        sink=len(number_of) - 1,
        activity=tuple(arc.activity for arc in kept),
        step=tuple(arc.step for arc in kept),
        flow=tuple(arc.flow for arc in kept),
        step_h=step_h,
    )
