"""Radial networks: trees of buses, checked once, and the sums over what hangs below every line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import require

__all__ = ["Tree"]


@dataclass(frozen=True)
class Tree:
    """A tree of buses 0..B-1 with its source at bus 0; line l connects ``ends[l]``, written in either direction.

    Attributes:
        buses: number B of buses.
        ends: B - 1 pairs of buses.

    Raises:
        InvalidInputError: for buses that do not exist, loops, meshes and buses without a way to bus 0.
    """

    buses: int
    ends: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Check that the lines are a tree."""
        group = list(range(self.buses))

        def root(bus: int) -> int:
            while group[bus] != bus:
                group[bus] = group[group[bus]]
                bus = group[bus]
            return bus

        for line, (a, b) in enumerate(self.ends):
            for bus in (a, b):
                require(0 <= bus < self.buses, f"bus of line {line}", bus, f"0 to {self.buses - 1}")
            require(a != b, f"line {line}", (a, b), "two different buses")
            one, other = root(a), root(b)
            require(one != other, f"line {line}", (a, b), "a line that closes no loop: the network must be radial")
            group[one] = other
        islands = [bus for bus in range(self.buses) if root(bus) != root(0)]
        require(not islands, "bus without a path to bus 0", islands[0] if islands else None, "one connected network")

    @classmethod
    def of(cls, sources: Sequence[int], ends: Sequence[int], buses: int) -> Tree:
        """Build from two columns of equally many buses."""
        require(len(sources) == len(ends), "lines", (len(sources), len(ends)), "as many starts as ends")
        return cls(buses, tuple((int(a), int(b)) for a, b in zip(sources, ends, strict=True)))

    @cached_property
    def parent(self) -> NDArray[np.int64]:
        """(B,) bus on the way to bus 0; -1 for bus 0."""
        return self._rooted[0]

    @cached_property
    def line_above(self) -> NDArray[np.int64]:
        """(B,) line that connects a bus with its parent; -1 for bus 0."""
        return self._rooted[1]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(B,) buses from bus 0 outwards, parents first."""
        return self._rooted[2]

    @cached_property
    def _rooted(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        near: list[list[tuple[int, int]]] = [[] for _ in range(self.buses)]
        for line, (a, b) in enumerate(self.ends):
            near[a].append((b, line))
            near[b].append((a, line))
        parent, above = np.full(self.buses, -1), np.full(self.buses, -1)
        order = [0]
        for bus in order:
            for other, line in near[bus]:
                if other != parent[bus]:
                    parent[other], above[other] = bus, line
                    order.append(other)
        return parent, above, np.array(order)

    @cached_property
    def below(self) -> NDArray[np.float64]:
        """(B - 1, B) 1 where a bus hangs below a line: its product with (B,) consumption is the lossless flow."""
        matrix = np.zeros((self.buses - 1, self.buses))
        for bus in range(self.buses):
            at = bus
            while at != 0:
                matrix[self.line_above[at], bus] = 1.0
                at = int(self.parent[at])
        return matrix
