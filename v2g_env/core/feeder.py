"""Radial AC feeders: two published ones, and the exact power flow by backward and forward sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.feeder_tables import BARAN_WU_33, BARAN_WU_69
from v2g_env.core.radial import Tree
from v2g_env.core.validate import array, number, require

__all__ = ["FEEDERS", "Feeder", "Flow", "feeder_of", "power_flow"]

Floats = NDArray[np.float64]

FEEDERS = ("33", "69")


@dataclass(frozen=True, eq=False)
class Feeder:
    """A balanced three-phase feeder without shunts; bus 0 is the substation.

    Attributes:
        name: for messages.
        base_kv: line-to-line voltage that is 1 pu [kV].
        tree: buses and lines.
        r_ohm, x_ohm: (lines,) series resistance and reactance of the tree's lines, not both zero [ohm].
        p_kw, q_kvar: (buses,) consumption at the published operating point, bus 0 without any [kW, kvar].
        limit_kva: (lines,) limit on the apparent power at a line's sending end; None: no limits [kVA].

    Raises:
        InvalidInputError: for arrays of other sizes, numbers out of range, a line without impedance.
    """

    name: str
    base_kv: float
    tree: Tree
    r_ohm: Floats
    x_ohm: Floats
    p_kw: Floats
    q_kvar: Floats
    limit_kva: Floats | None = None

    def __post_init__(self) -> None:
        """Check every field and make the arrays read-only."""
        number("base_kv", self.base_kv, 0.0, 1e4, open_low=True)
        lines, buses = len(self.tree.ends), self.tree.buses
        sizes = {"r_ohm": (lines, 0.0), "x_ohm": (lines, 0.0), "p_kw": (buses, -1e9), "q_kvar": (buses, -1e9)}
        if self.limit_kva is not None:
            sizes["limit_kva"] = (lines, 0.0)
        for name, (size, low) in sizes.items():
            values = array(name, getattr(self, name), (size,), low, 1e9)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        for line in np.flatnonzero((self.r_ohm == 0.0) & (self.x_ohm == 0.0)):
            require(False, f"impedance of line {line}", 0.0, "positive resistance or reactance")

    @property
    def buses(self) -> int:
        """Number of buses, the substation included."""
        return self.tree.buses


def feeder_of(name: str) -> Feeder:
    """One of the published feeders (FEEDERS): 33 or 69 buses of Baran and Wu (1989), numbered from 0 here."""
    require(name in FEEDERS, "feeder", name, f"one of {', '.join(FEEDERS)}")
    rows = BARAN_WU_33 if name == "33" else BARAN_WU_69
    near, far, r_ohm, x_ohm, p_kw, q_kvar = (np.array(column) for column in zip(*rows, strict=True))
    buses = len(rows) + 1
    load = np.zeros((2, buses))
    load[:, far - 1] = p_kw, q_kvar
    return Feeder(name, 12.66, Tree.of((near - 1).tolist(), (far - 1).tolist(), buses), r_ohm, x_ohm, load[0], load[1])


class Flow(NamedTuple):
    """Exact solution of the power flow equations; line l is read in the direction away from the substation.

    Attributes:
        voltage: (..., buses) complex voltages, the substation's at angle 0 [pu].
        p_kw, q_kvar: (..., lines) power entering a line at its sending end [kW, kvar].
        current_a: (..., lines) magnitude of the current [A].
        losses_kw: (...,) sum over lines of 3 r I^2 [kW].
    """

    voltage: NDArray[np.complex128]
    p_kw: Floats
    q_kvar: Floats
    current_a: Floats
    losses_kw: Floats

    @property
    def voltage_pu(self) -> Floats:
        """(..., buses) magnitudes [pu]."""
        return np.abs(self.voltage)


def power_flow(
    feeder: Feeder,
    p_kw: ArrayLike,
    q_kvar: ArrayLike,
    *,
    source_pu: float = 1.0,
    tolerance_pu: float = 1e-12,
    sweeps: int = 300,
) -> Flow:
    """Solve the power flow for many consumptions at once, from a flat start.

    Backward: a bus draws the current conj((p + jq) / V); a line carries the currents of all buses below it. Forward:
    V falls by z I along every line. The fixed point satisfies Kirchhoff's laws and the consumptions exactly.

    Args:
        feeder: the network.
        p_kw: (..., buses) consumption, negative for a source; that of bus 0 plays no part [kW].
        q_kvar: (..., buses) reactive consumption [kvar].
        source_pu: voltage of the substation [pu].
        tolerance_pu: largest change of a voltage in the last sweep [pu].
        sweeps: number of sweeps after which the search ends.

    Raises:
        InvalidInputError: for wrong shapes, numbers that are not finite, and consumption that the feeder cannot carry.
    """
    number("source_pu", source_pu, 0.1, 10.0)
    shape = np.shape(p_kw)
    require(len(shape) > 0, "shape of p_kw", shape, f"(..., {feeder.buses})")
    batch = (*shape[:-1], feeder.buses)
    power = array("p_kw", p_kw, batch) + 1j * array("q_kvar", q_kvar, batch)
    base_kva = 1e3 * feeder.base_kv**2  # with 1 ohm for the impedance
    drawn = (power / base_kva).reshape(-1, feeder.buses)
    below = feeder.tree.below
    impedance = feeder.r_ohm + 1j * feeder.x_ohm
    voltage = np.full(drawn.shape, complex(source_pu))
    change, current = np.full(len(drawn), np.inf), np.zeros((len(drawn), len(impedance)), complex)
    with np.errstate(all="ignore"):  # a collapsing voltage overflows; it is refused below
        for _ in range(sweeps):
            current = np.conj(drawn / voltage) @ below.T
            fresh = source_pu - (current * impedance) @ below
            change = np.abs(fresh - voltage).max(axis=1, initial=0.0)
            voltage = fresh
            if (change <= tolerance_pu).all():
                break
    failed = np.flatnonzero(~(change <= tolerance_pu))
    if len(failed):
        at = [int(i) for i in np.unravel_index(failed[0], shape[:-1])]
        total = float(power.reshape(-1, feeder.buses)[failed[0], 1:].real.sum())
        require(False, f"p_kw{at or ''} in all", total, f"what feeder {feeder.name} carries: no power flow was found")
    return _flow_of(feeder, voltage, current, base_kva, shape[:-1])


def _flow_of(
    feeder: Feeder,
    voltage: NDArray[np.complex128],
    current: NDArray[np.complex128],
    base_kva: float,
    batch: tuple[int, ...],
) -> Flow:
    """Flows from the voltages (..., buses) and currents (..., lines) per unit of 1 ohm."""
    tree = feeder.tree
    start = np.zeros(len(tree.ends), np.int64)
    start[tree.line_above[1:]] = tree.parent[1:]
    sent = voltage[:, start] * np.conj(current) * base_kva
    size = np.abs(current)
    return Flow(
        voltage.reshape(*batch, feeder.buses),
        sent.real.reshape(*batch, -1),
        sent.imag.reshape(*batch, -1),
        (size * feeder.base_kv * 1e3 / np.sqrt(3.0)).reshape(*batch, -1),
        (size**2 @ feeder.r_ohm * base_kva).reshape(batch),
    )
