"""The numbers of a penalty as frozen plain data: what a certificate stores and a check reads back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import pack, unpack
from baselines.parking_lot.samples import physical_limits
from v2g_env.core.validate import array, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Law, law

__all__ = ["Penalty", "zero"]

Floats = NDArray[np.float64]

_TABLES = ("mean_kwh", "spread_kwh", "slope", "noise_kwh")


@dataclass(frozen=True, eq=False)
class Penalty:
    """All numbers of a penalty: the critic's chain for every base day, and its scale. Arrays are read-only.

    Attributes:
        instance_sha256: of the lot that it was fitted for.
        law: name of the law whose base days it holds.
        mean_kwh, spread_kwh: (days, T) mean and standard deviation of K [kWh].
        slope, noise_kwh: (days, T) regression of K_{t+1} on K_t, without unit, and its residual [kWh].
        leaving_kwh: (days, T, G) mean energy in the cars that leave, on a grid of G stored energies [kWh].
        width_kwh: of that grid.
        nodes: numbers of nodes of the factors on PV and on load.
        draws: R; 0 for none.
        inner_seed: of the draws.
        path: intervals of the grid on which the inner maximum is computed.
        scale: a and b, each in [0, 1].
        tight: whether paths keep to the gate's range and pay for forced redistribution.
    """

    instance_sha256: str
    law: str
    mean_kwh: Floats
    spread_kwh: Floats
    slope: Floats
    noise_kwh: Floats
    leaving_kwh: Floats
    width_kwh: float
    nodes: tuple[int, int]
    draws: int
    inner_seed: int
    path: int
    scale: tuple[float, float]
    tight: bool

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        for name in ("instance_sha256", "law"):
            require(isinstance(getattr(self, name), str), name, getattr(self, name), "a text")
        shape = np.shape(self.mean_kwh)
        require(len(shape) == 2, "shape of mean_kwh", shape, "(days, T)")
        for name in _TABLES:
            self._keep(name, array(name, getattr(self, name), shape, -1e7 if name == "slope" else 0.0, 1e7))
        self._keep("leaving_kwh", array("leaving_kwh", self.leaving_kwh, (*shape, None), 0.0, 1e7))
        number("grid points of leaving_kwh", self.leaving_kwh.shape[2], 2, 257, integer=True)
        number("width_kwh", self.width_kwh, 0.0, 1e7, open_low=True)
        for name, size, low, high in (("nodes", 2, 1, 9), ("scale", 2, 0, 1)):
            given = getattr(self, name)
            require(isinstance(given, tuple) and len(given) == size, name, given, f"{size} numbers")
            for value in given:
                number(name, value, low, high, integer=name == "nodes")
        number("draws", self.draws, 0, 4096, integer=True)
        number("inner_seed", self.inner_seed, 0, 2**63 - 1, integer=True)
        number("path", self.path, 1, 4096, integer=True)
        require(isinstance(self.tight, bool), "tight", self.tight, "true or false")
        # without draws the "mean" would be the truth: zero, but no penalty either
        require(self.draws > 0 or self.scale == (0.0, 0.0), "scale", self.scale, "(0, 0) where there are no draws")

    def _keep(self, name: str, values: Floats) -> None:
        values.flags.writeable = False
        object.__setattr__(self, name, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, arrays packed exactly."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in (*_TABLES, "leaving_kwh"):
            plain[name] = pack(plain[name])
        return plain | {"nodes": list(self.nodes), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Penalty:
        """Inverse of to_dict.

        Raises:
            InvalidInputError: for unknown or missing fields and values out of range.
            CertificateError: for a damaged array.
        """
        names = [field.name for field in fields(cls)]
        require(isinstance(values, Mapping), "penalty", values, "a mapping")
        require(set(values) == set(names), "fields of the penalty", sorted(values), ", ".join(names))
        plain = dict(values)
        for name in (*_TABLES, "leaving_kwh"):
            plain[name] = unpack(plain[name])
            require(plain[name].dtype == np.float64, f"dtype of {name}", str(plain[name].dtype), "float64")
        for name in ("nodes", "scale"):
            require(isinstance(plain[name], list), name, plain[name], "a list")
            plain[name] = tuple(plain[name])
        return cls(**plain)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, arrays by their bytes."""
        plain: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in (*_TABLES, "leaving_kwh"):
            values = getattr(self, name)
            content = np.ascontiguousarray(values, dtype="<f8").tobytes()
            plain[name] = [list(values.shape), hashlib.sha256(content).hexdigest()]
        return hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()


def zero(instance: Instance, source: Law | str = "generator", path: int = 128) -> Penalty:
    """No penalty at all: the perfect-information bound of hindsight.py, up to the chords of the path's grid.

    Args:
        instance: the lot.
        source: the law of the days, or its name.
        path: intervals of that grid.
    """
    source = law(source) if isinstance(source, str) else source
    table = np.zeros((len(source.days.offset) - 1, instance.steps))
    nothing = np.zeros((*table.shape, 2))
    top = physical_limits(instance)[0]
    return Penalty(
        instance.hash, source.name, table, table, table, table, nothing, top, (1, 1), 0, 0, path, (0.0, 0.0), False
    )
