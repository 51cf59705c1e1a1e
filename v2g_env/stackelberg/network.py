"""A time-activity network: what a driver can do in a day, as plain data, and what is known of its utilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """An acyclic network whose source-sink paths are the days a driver can choose. Checked once, at construction.

    Nodes are 0..max; every arc lies on a path from source to sink and can be avoided by another one (an arc that all
    paths share has flow 1 whatever drivers like: contract it). Parallel arcs are allowed.

    Attributes:
        tail, head: the arcs' ends, (A,) node numbers.
        mean_usd: mean utility of each arc, (A,) [$].
        deviation_usd: standard deviation of each arc's utility, (A,), positive [$].
        period: (A,) index of the rebate period in which the arc means being plugged in, -1 for all other arcs.
        source, sink: where every path begins and ends.
    """

    tail: tuple[int, ...]
    head: tuple[int, ...]
    mean_usd: tuple[float, ...]
    deviation_usd: tuple[float, ...]
    period: tuple[int, ...]
    source: int
    sink: int

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is wrong."""
        for name in ("tail", "head", "period"):
            object.__setattr__(self, name, _integers(name, getattr(self, name), -1 if name == "period" else 0))
        arcs = len(self.tail)
        require(arcs > 0, "tail", self.tail, "at least one arc")
        for name in ("head", "period"):
            require(len(getattr(self, name)) == arcs, f"length of {name}", len(getattr(self, name)), f"{arcs}, as tail")
        mean = array("mean_usd", self.mean_usd, (arcs,), -1e9, 1e9)
        deviation = array("deviation_usd", self.deviation_usd, (arcs,), 0.0, 1e9)
        require(bool((deviation > 0.0).all()), "deviation_usd", float(deviation.min()), "positive numbers")
        object.__setattr__(self, "mean_usd", tuple((mean + 0.0).tolist()))
        object.__setattr__(self, "deviation_usd", tuple(deviation.tolist()))
        for name in ("source", "sink"):
            number(name, getattr(self, name), 0, self.nodes - 1, integer=True)
            object.__setattr__(self, name, int(getattr(self, name)))
        require(self.source != self.sink, "sink", self.sink, "a node other than the source")
        self._check_paths()

    def _check_paths(self) -> None:
        order = self.order
        before, after = [0] * self.nodes, [0] * self.nodes  # numbers of paths from the source and to the sink, exact
        before[self.source] = after[self.sink] = 1
        outgoing: list[list[int]] = [[] for _ in range(self.nodes)]
        for a, node in enumerate(self.tail):
            outgoing[node].append(a)
        for node in order:
            for a in outgoing[node]:
                before[self.head[a]] += before[node]
        for node in reversed(order):
            for a in outgoing[node]:
                after[node] += after[self.head[a]]
        total = before[self.sink]
        require(total > 0, "network", "no path from source to sink", "a connected network")
        for a in range(self.arcs):
            through = before[self.tail[a]] * after[self.head[a]]
            name = f"arc {a} ({self.tail[a]} -> {self.head[a]})"
            require(through > 0, name, "on no path from source to sink", "a connected network without dead ends")
            require(through < total, name, "on every path from source to sink", "arcs that can be avoided: contract it")

    def check_periods(self) -> None:
        """Raise InvalidInputError if a path has two arcs of the same period: a car plugs in once at a time."""
        outgoing: list[list[int]] = [[] for _ in range(self.nodes)]
        for a, node in enumerate(self.tail):
            outgoing[node].append(a)
        reach = [1 << node for node in range(self.nodes)]  # nodes that can be reached, as bits
        for node in reversed(self.order):
            for a in outgoing[node]:
                reach[node] |= reach[self.head[a]]
        for a, t in enumerate(self.period):
            for b in range(self.arcs) if t >= 0 else ():
                twice = self.period[b] == t and reach[self.head[a]] >> self.tail[b] & 1
                require(
                    not twice, f"period of arcs {a} and {b}", t, "one arc per period on every path: a car plugs in once"
                )

    @property
    def arcs(self) -> int:
        """Number A of arcs."""
        return len(self.tail)

    @cached_property
    def nodes(self) -> int:
        """Number of nodes."""
        return 1 + max(*self.tail, *self.head)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Nodes in topological order (ties by number); raises InvalidInputError for a cycle."""
        import heapq

        waiting = [0] * self.nodes
        outgoing: list[list[int]] = [[] for _ in range(self.nodes)]
        for tail, head in zip(self.tail, self.head, strict=True):
            waiting[head] += 1
            outgoing[tail].append(head)
        ready = [node for node in range(self.nodes) if waiting[node] == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            node = heapq.heappop(ready)
            order.append(node)
            for head in outgoing[node]:
                waiting[head] -= 1
                if waiting[head] == 0:
                    heapq.heappush(ready, head)
        stuck = [node for node in range(self.nodes) if waiting[node] > 0]
        require(not stuck, "network", f"a cycle through node {stuck[:1]}", "an acyclic network")
        return tuple(order)

    def check_flow(self, flow: Any, name: str = "flow") -> NDArray[np.float64]:
        """Return ``flow`` as (A,) float64; raise InvalidInputError unless it is a unit flow with shares in [0, 1]."""
        values = array(name, flow, (self.arcs,), 0.0, 1.0)
        balance = np.bincount(self.tail, values, self.nodes) - np.bincount(self.head, values, self.nodes)
        balance[self.source] -= 1.0
        balance[self.sink] += 1.0
        worst = int(np.abs(balance).argmax())
        require(
            bool(abs(balance[worst]) <= 1e-9),
            f"{name} at node {worst}",
            float(balance[worst]),
            "out minus in of 0 (1 at the source, -1 at the sink): shares must be a flow",
        )
        return values

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Network:
        """Build from a mapping; missing and unknown keys raise InvalidInputError."""
        names = [field.name for field in fields(cls)]
        require(isinstance(values, Mapping), "network", type(values).__name__, "a table of fields")
        for key in values:
            require(key in names, "field of the network", key, ", ".join(names))
        for name in names:
            require(name in values, f"field {name} of the network", "missing", ", ".join(names))
        fixed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**fixed)


def _integers(name: str, values: Sequence[int], low: int) -> tuple[int, ...]:
    try:
        numbers = tuple(int(v) for v in values)
        same = all(n == v and not isinstance(v, (bool, np.bool_, str)) for n, v in zip(numbers, values, strict=True))
    except (TypeError, ValueError):
        same, numbers = False, ()
    require(same, name, values, "whole numbers")
    require(all(low <= n < 10**6 for n in numbers), name, min(numbers, default=low), f"{low} to 999999")
    return numbers
