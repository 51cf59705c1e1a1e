"""The community taken apart: prosumers with their own shares of its panels, its load and the lot's storage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.samples import openable
from v2g_env.core.market import load_profile, pv_profile
from v2g_env.core.validate import array, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import law, sample_capacity

__all__ = ["Prosumers", "certain_capacity", "draw_prosumers"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prosumers:
    """Shares of n prosumers in what the community has; each kind sums to 1.

    Attributes:
        pv, load, storage: (n,) shares, none negative.

    Raises:
        InvalidInputError: for shares that are negative, or do not sum to 1.
    """

    pv: Floats
    load: Floats
    storage: Floats

    def __post_init__(self) -> None:
        """Check every field."""
        n = len(np.atleast_1d(self.pv))
        for name in ("pv", "load", "storage"):
            shares = array(name, getattr(self, name), (n,), 0.0, 1.0)
            require(abs(shares.sum() - 1.0) <= 1e-9, f"sum of {name}", float(shares.sum()), "1")
            object.__setattr__(self, name, shares)

    @property
    def n(self) -> int:
        """Number of prosumers."""
        return len(self.pv)

    @property
    def names(self) -> tuple[str, ...]:
        """Names for tables."""
        return tuple(f"prosumer {i}" for i in range(self.n))

    def net_kw(self, instance: Instance) -> Floats:
        """(n, T) expected generation minus load of each [kW]; the community's, taken apart."""
        hours = instance.hours
        pv = pv_profile(hours, instance.pv_peak_kw)
        load = load_profile(hours, instance.load_base_kw, instance.load_evening_kw, instance.load_morning_kw)
        return np.asarray(self.pv[:, None] * pv - self.load[:, None] * load)


def draw_prosumers(n: int, seed: int, evenness: float = 2.0) -> Prosumers:
    """Random shares: panels and loads from independent Dirichlet laws, storage as the mean of both.

    Args:
        n: number of prosumers.
        seed: of the draw.
        evenness: parameter of the Dirichlet laws; large: all alike.
    """
    number("prosumers", n, 1, 10_000, integer=True)
    number("evenness", evenness, 0.0, 1e6, open_low=True)
    rng = np.random.default_rng(seed)
    pv, load = rng.dirichlet(np.full(n, evenness)), rng.dirichlet(np.full(n, evenness))
    return Prosumers(pv, load, 0.5 * (pv + load))


def certain_capacity(instance: Instance, n_samples: int, seed: int) -> tuple[Floats, Floats]:
    """Least energy [kWh] and power [kW] of every step over sampled days, each (T,): what a robust plan may rely on."""
    number("n_samples", n_samples, 1, 10**6, integer=True)
    sample = sample_capacity(instance, law("generator"), n_samples, seed)
    return openable(instance, sample.energy_kwh.min(axis=0)[None])[0], sample.power_kw.min(axis=0)
