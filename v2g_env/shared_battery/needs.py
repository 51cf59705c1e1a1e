"""What a fleet's drivers need in a day: one histogram per driver, with optional common shocks.

Every source ends in the same object, as in the study by Alexeenko and Charisopoulos (arXiv 2304.10461): a driver's
daily energy is a histogram of stated bin width (theirs: about 2 kWh), and days are sampled from it, evenly within the
bin. Distribution functions and quantiles are therefore exact and piecewise linear.

The generator: on a day of driving driver i covers scale_i x W miles, W Weibull of scale 1 and shape k, scale_i
lognormal over the drivers. Median scale, spread of the scales and k were fitted to the daily miles of 43,001
vehicle-days of the National Household Travel Survey 2001 (quantiles of order .05/.25/.5/.75/.95/.99:
3/11.5/24.5/50/121/211 miles, mean 38.4): the fit gives 3.0/11.5/24.8/49.3/120.5/216.0, mean 38.7. Days are
independent; a correlation couples the drivers of one day through a normal copula with one common factor (a day of bad
weather).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require

__all__ = ["Needs", "driver_scales", "from_days", "generated", "shocked"]

Floats = NDArray[np.float64]
_GUIDE = 512
_SPREAD_LIMIT = 3.0  # scales of drivers beyond three standard deviations are cut


@dataclass(frozen=True, eq=False)
class Needs:
    """Daily energy of n drivers as histograms.

    Attributes:
        name: where they come from.
        bin_kwh: bin width w; bin k holds energies from k w to (k + 1) w [kWh].
        idle: (n,) probability of a day without any need.
        share: (n, K) probability of each bin; idle plus its sum is 1 for every driver.
    """

    name: str
    bin_kwh: float
    idle: Floats
    share: Floats

    def __post_init__(self) -> None:
        """Check and lock the arrays; raise InvalidInputError if they are no histograms."""
        require(isinstance(self.name, str) and self.name != "", "name of the needs", self.name, "some text")
        number("bin_kwh", self.bin_kwh, 0.0, 1e6, open_low=True)
        share = array("share", self.share, (None, None), 0.0, 1.0)
        require(min(share.shape) > 0, "shape of share", share.shape, "at least one driver and one bin")
        idle = array("idle", self.idle, (len(share),), 0.0, 1.0)
        total = idle + share.sum(axis=1)
        worst = int(np.abs(total - 1.0).argmax())
        require(abs(total[worst] - 1.0) <= 1e-9, f"sum of driver {worst}'s histogram", float(total[worst]), "1")
        limits = np.cumsum(np.concatenate([idle[:, None], share], axis=1), axis=1)
        limits /= limits[:, -1:]
        # last bin whose lower limit is below g / G
        orders = np.arange(_GUIDE) / _GUIDE
        guide = np.stack([np.searchsorted(row[:-1], orders, side="left") - 1 for row in limits])
        guide = np.maximum(guide, 0).astype(np.int32)
        for field, values in (("idle", idle), ("share", share), ("_limits", limits), ("_guide", guide)):
            values.flags.writeable = False
            object.__setattr__(self, field, values)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lock the arrays of a copy too: compiled code is made for read-only ones."""
        self.__dict__.update(state)
        for field in ("idle", "share", "_limits", "_guide"):
            self.__dict__[field].flags.writeable = False

    @property
    def drivers(self) -> int:
        """Number n of drivers."""
        return len(self.share)

    @property
    def limits(self) -> Floats:
        """(n, K + 1) distribution function at 0, w, 2 w, ..., K w."""
        return self.__dict__["_limits"]  # type: ignore[no-any-return]

    @property
    def largest_kwh(self) -> float:
        """Upper end of the last bin: no need is larger."""
        return float(self.bin_kwh * self.share.shape[1])

    @property
    def sha256(self) -> str:
        """Fingerprint of the numbers."""
        digest = hashlib.sha256(np.float64(self.bin_kwh).tobytes())
        for part in (self.idle, self.share):
            digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
        return digest.hexdigest()

    def distribution(self, energy_kwh: Floats) -> Floats:
        """P(need <= energy) of every driver; energy (n,) or (n, m), result of the same shape."""
        energy = np.asarray(energy_kwh, np.float64)
        flat = energy.reshape(self.drivers, -1)
        grid = self.bin_kwh * np.arange(self.limits.shape[1])
        rows = [np.where(x < 0.0, 0.0, np.interp(x, grid, limits)) for x, limits in zip(flat, self.limits, strict=True)]
        return np.stack(rows).reshape(energy.shape)

    def quantile(self, order: float | Sequence[float] | Floats) -> Floats:
        """Smallest energy with P(need <= energy) >= order, (n,) [kWh]; order one number or (n,) in [0, 1]."""
        level = array("order", order, (None,) * np.ndim(order), 0.0, 1.0)
        require(level.shape in ((), (self.drivers,)), "shape of order", level.shape, f"() or ({self.drivers},)")
        return np.asarray(self.from_uniform(np.broadcast_to(level, (1, self.drivers)))[0])

    def from_uniform(self, uniforms: Floats) -> Floats:
        """Needs (m, n) [kWh] from uniforms (m, n), by the drivers' quantile functions."""
        contiguous = np.ascontiguousarray(uniforms, np.float64)
        result: Floats = needs_from_uniform(contiguous, self.limits, self.bin_kwh, self.__dict__["_guide"])
        return result

    def mean_kwh(self) -> Floats:
        """Mean need of every driver, (n,) [kWh]."""
        return self.bin_kwh * (self.share @ (np.arange(self.share.shape[1]) + 0.5))

    def mean_shortfall_kwh(self, own_kwh: Floats) -> Floats:
        """E (need - own)_+ of every driver, (n,) [kWh]; own (n,)."""
        low = self.bin_kwh * np.arange(self.share.shape[1])
        beyond = np.clip(low + self.bin_kwh - own_kwh[:, None], 0.0, self.bin_kwh)
        lift = np.maximum(low - own_kwh[:, None], 0.0)
        part = np.where(lift > 0.0, lift + 0.5 * self.bin_kwh, 0.5 * beyond**2 / self.bin_kwh)
        return np.asarray((self.share * part).sum(axis=1))


@njit(cache=True)  # type: ignore[untyped-decorator]
def needs_from_uniform(uniforms: Floats, limits: Floats, bin_kwh: float, guide: NDArray[np.int32]) -> Floats:
    """Needs (m, n) [kWh] from uniforms (m, n): the quantile functions of the drivers.

    ``guide`` (n, G): the bin in which the quantile of order g / G lies; the search starts there (Chen and Asau 1974).
    """
    m, n = uniforms.shape
    steps = guide.shape[1]
    result = np.empty((m, n))
    for d in range(m):
        for i in range(n):
            u = uniforms[d, i]
            if u <= limits[i, 0]:
                result[d, i] = 0.0
                continue
            k = guide[i, min(int(u * steps), steps - 1)]
            while limits[i, k + 1] < u:
                k += 1
            left, right = limits[i, k], limits[i, k + 1]
            result[d, i] = bin_kwh * (k + (u - left) / (right - left))
    return result


def shocked(uniforms: Floats, common: Floats, correlation: float) -> Floats:
    """Couple uniforms (m, n) of m days by the common normal shocks (m,) of these days.

    u = Phi(sqrt(c) z + sqrt(1 - c) Phi^-1(v)): every driver's u stays uniform, normal scores of two drivers have
    correlation c.
    """
    if correlation == 0.0:
        return uniforms
    from scipy.special import ndtr, ndtri

    own = ndtri(np.clip(uniforms, 1e-300, 1.0 - 1e-16))
    return np.asarray(ndtr(np.sqrt(correlation) * common[:, None] + np.sqrt(1.0 - correlation) * own))


def driver_scales(drivers: int, seed: int, median: float, spread: float) -> Floats:
    """Lognormal scales of drivers, (drivers,): driver i's does not depend on how many there are."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    return median * np.exp(spread * np.clip(rng.standard_normal(drivers), -_SPREAD_LIMIT, _SPREAD_LIMIT))


def generated(scale_kwh: Floats, shape: float, bin_kwh: float, bins: int, idle: float) -> Needs:
    """Histograms of the generator; energies beyond the last bin are counted in it.

    Args:
        scale_kwh: (n,) scale of each driver's Weibull law [kWh].
        shape: its shape k.
        bin_kwh: bin width [kWh].
        bins: number of bins K.
        idle: probability of a day without driving.
    """
    edges = bin_kwh * np.arange(bins + 1)
    below = -np.expm1(-((edges / scale_kwh[:, None]) ** shape))
    below[:, -1] = 1.0
    return Needs("generator", bin_kwh, np.full(len(scale_kwh), idle), (1.0 - idle) * np.diff(below, axis=1))


def from_days(days: Sequence[Floats], bin_kwh: float = 2.0, name: str = "log") -> Needs:
    """Histograms of recorded days, as in the study: days with zero need apart, the others counted in bins.

    Args:
        days: for every driver the energies of his days, (days,) each [kWh].
        bin_kwh: bin width [kWh].
        name: of the source.

    Raises:
        InvalidInputError: no driver, a driver without days, energies that are negative or not finite.
    """
    number("bin_kwh", bin_kwh, 0.0, 1e6, open_low=True)
    require(len(days) > 0, "number of drivers", 0, "at least 1")
    rows = [array(f"days of driver {i}", each, (None,), 0.0, 1e6) for i, each in enumerate(days)]
    for i, row in enumerate(rows):
        require(len(row) > 0, f"days of driver {i}", 0, "at least one day")
    top = max(float(row.max()) for row in rows)
    bins = max(int(np.ceil(top / bin_kwh)), 1)
    share = np.zeros((len(rows), bins))
    idle = np.zeros(len(rows))
    for i, row in enumerate(rows):
        idle[i] = (row == 0.0).mean()
        place = np.minimum(np.ceil(row[row > 0.0] / bin_kwh).astype(np.int64) - 1, bins - 1)  # bin k: (k w, (k+1) w]
        share[i] = np.bincount(place, minlength=bins) / len(row)
    return Needs(name, bin_kwh, idle, share)
