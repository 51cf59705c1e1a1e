"""What the operator asks: the mileage ratio of an hour, its 2-second signal, and the energy that it takes.

Mileage is the sum of the absolute changes of the signal. The mileage ratio r of an hour is its mileage divided by the
long-run mean, so that E r = 1. A named signal set holds the law of r by which hours are simulated, and the deviations
that bids are computed with; told and simulated law are one.

Law of r: a normal number cut off at 3.5 deviations on either side, as a table of 1024 equally likely pieces on each of
which r is uniform. Drawing is then one look-up, mean and deviation are exactly those stated, and the forward and
backward deviations are known (``ratio_deviations``): for both sets they equal the standard deviation, as they do for
the truncated normal law itself (symmetric truncation keeps a normal law strictly sub-Gaussian).

"published" has the relative deviation .055 of Tang and Mak (2024); "pjm" has .178, that of PJM's RegD in April 2023,
whose mileage per hour has the percentiles 22.6/29.0/32.8/36.6/41.8 (5/25/50/75/95 %; this law: 23.2/28.9/32.8/36.7/
42.4). No 2-second record is shipped: ``trace`` is a stand-in with the right mileage, not a model fitted to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.stackelberg.deviations import backward_deviation, forward_deviation, piecewise_uniform_deviations

__all__ = [
    "MEAN_MILEAGE_PER_H",
    "ONE_WAY_EFFICIENCY",
    "SAMPLE_S",
    "SIGNALS",
    "SignalSet",
    "delivered_share",
    "draw_ratio",
    "gamma_statistics",
    "mileage",
    "net_discharge",
    "performance",
    "ratio_deviations",
    "ratio_from_uniform",
    "ratio_quantiles",
    "trace",
]

Floats = NDArray[np.float64]

MEAN_MILEAGE_PER_H = 32.8  # RegD, April 2023, median (the law is symmetric)
SAMPLE_S = 2  # time step of the operator's signal
ONE_WAY_EFFICIENCY = 0.95  # of a bidirectional charger and its battery, charging or discharging

_PIECES = 1024
_CUT = 3.5
# The walk of ``trace``: reversals per unit of movement at zero, the pull of the recent mean, and its memory.
# They make the signal swing between about -1 and 1 (standard deviation .42, mean absolute value .35) and make up for
# its energy within about 15 minutes, as the operator's fast signal was designed to. Our choice, not fitted to a record.
_REVERSALS = 2.0
_PULL = 1.0
_MEMORY_S = 900.0


@dataclass(frozen=True)
class SignalSet:
    """A law of the hourly mileage ratio r and the moments that bids are computed with.

    Attributes:
        name: "published" or "pjm", or a name of the user's.
        deviation: standard deviation of r, in (0, .28].
        forward: forward deviation of r; not below that of the law.
        backward: backward deviation of r; not below that of the law.
        gamma_mean: mean of gamma, the energy per kW of bid that an hour takes out of the batteries [kWh/kW].
        gamma_deviation: standard deviation of gamma [kWh/kW].
        gamma_forward: forward deviation of gamma [kWh/kW], an estimate (``gamma_statistics``).
        gamma_backward: backward deviation of gamma [kWh/kW], an estimate.
        mean_ratio: mean of r; 1 by definition.

    Raises:
        InvalidInputError: a value outside its range, or a forward or backward deviation below the standard deviation.
    """

    name: str
    deviation: float
    forward: float
    backward: float
    gamma_mean: float
    gamma_deviation: float
    gamma_forward: float
    gamma_backward: float
    mean_ratio: float = 1.0

    def __post_init__(self) -> None:
        """Check every field."""
        number("deviation", self.deviation, 0.0, 0.28, open_low=True)  # above, r could be negative
        number("gamma_mean", self.gamma_mean, 0.0, 1.0, open_low=True)
        number("gamma_deviation", self.gamma_deviation, 0.0, 2.0)
        for field, least in (("", self.deviation), ("gamma_", self.gamma_deviation)):
            for side in ("forward", "backward"):
                number(f"{field}{side}", getattr(self, f"{field}{side}"), least)
        number("mean_ratio", self.mean_ratio, 1.0, 1.0)

    @property
    def low(self) -> float:
        """Smallest possible r."""
        return float(ratio_quantiles(self.deviation)[0])

    @property
    def high(self) -> float:
        """Largest possible r."""
        return float(ratio_quantiles(self.deviation)[-1])


# The numbers of gamma, deviations rounded up, are those that this prints:
# python -c "from v2g_env.stackelberg.signal import *; [print(gamma_statistics(s)) for s in SIGNALS.values()]"
SIGNALS: Mapping[str, SignalSet] = MappingProxyType(
    {
        "published": SignalSet("published", 0.055, 0.055, 0.055, 0.0181, 0.0599, 0.0599, 0.0599),
        "pjm": SignalSet("pjm", 0.178, 0.178, 0.178, 0.0191, 0.0613, 0.0627, 0.0630),
    }
)


@lru_cache(maxsize=16)
def ratio_quantiles(deviation: float) -> Floats:
    """Quantiles of r at the levels 0, 1/1024, ..., 1; the law is uniform between neighbours.

    Args:
        deviation: standard deviation of r.

    Returns:
        (1025,) float64, increasing, symmetric about 1, read-only.
    """
    normal = NormalDist()
    tail = normal.cdf(-_CUT)
    inner = [normal.inv_cdf(tail + (1.0 - 2.0 * tail) * i / _PIECES) for i in range(1, _PIECES // 2)]
    left = np.array([-_CUT, *inner])
    edges = np.concatenate([left, [0.0], -left[::-1]])
    second_moment = ((edges[1:] ** 2 + edges[1:] * edges[:-1] + edges[:-1] ** 2) / 3.0).mean()
    result: Floats = 1.0 + edges * (deviation / np.sqrt(second_moment))
    result.flags.writeable = False
    return result


def ratio_deviations(signals: SignalSet) -> tuple[float, float]:
    """Forward and backward deviation of the simulated law of r, to about 1e-10."""
    return piecewise_uniform_deviations(ratio_quantiles(signals.deviation))


def ratio_from_uniform(signals: SignalSet, u: ArrayLike) -> Floats:
    """Mileage ratios whose law is that of the set if ``u`` is uniform: the inverse distribution function.

    Args:
        signals: the set.
        u: numbers in [0, 1], any shape.

    Returns:
        Ratios in [low, high], float64 of the same shape; increasing in ``u``.

    Raises:
        InvalidInputError: a number outside [0, 1].
    """
    x = array("u", u, (None,) * np.ndim(u), 0.0, 1.0)
    slope, offset = _pieces(signals.deviation)
    x *= _PIECES
    piece = x.astype(np.intp)
    x *= slope.take(piece)
    x += offset.take(piece)
    return x


def draw_ratio(signals: SignalSet, generator: np.random.Generator, size: int | tuple[int, ...] | None = None) -> Floats:
    """Draw independent mileage ratios, float64 of shape ``size`` (None: a single one, shape ())."""
    return ratio_from_uniform(signals, generator.random(size))


def trace(signals: SignalSet, ratio: float, generator: np.random.Generator, seconds: int = 3600) -> Floats:
    """Draw a 2-second automatic generation control signal of an hour (or part of it) with the given mileage.

    The signal walks up or down by steps of varying size that add up to the wanted mileage. It turns round at random,
    the more likely the farther it is from zero and the more energy it has asked for of late, and always at -1 and 1.
    Its mileage is therefore exact for every ratio: a larger ratio means more reversals, not larger swings.

    Args:
        signals: the set, whose support the ratio has to be in.
        ratio: mileage ratio r of the hour.
        generator: source of randomness.
        seconds: length, an even number of seconds in [4, 3600].

    Returns:
        (seconds / 2,) float64 in [-1, 1], share of the bid; positive: the batteries discharge. Its mileage is
        ``ratio * MEAN_MILEAGE_PER_H * seconds / 3600``.

    Raises:
        InvalidInputError: a ratio outside the support, or another length.
    """
    number("ratio", ratio, signals.low, signals.high)
    number("seconds", seconds, 4, 3600, integer=True)
    require(seconds % SAMPLE_S == 0, "seconds", seconds, "an even number")
    steps = seconds // SAMPLE_S - 1
    size = 0.5 + generator.random(steps)  # bounded, so that no step is as long as the room between -1 and 1
    size *= ratio * MEAN_MILEAGE_PER_H * seconds / 3600.0 / size.sum()
    start = NormalDist(0.0, (2.0 * _REVERSALS) ** -0.5).inv_cdf(0.025 + 0.95 * generator.random())
    up = generator.random() < 0.5
    result: Floats = _walk(size, generator.random(steps), start, 1.0 if up else -1.0)
    return result


def mileage(signal: ArrayLike) -> float:
    """Mileage of a signal (n,): the sum of the absolute changes from sample to sample, in the unit of the signal."""
    return float(np.abs(np.diff(array("signal", signal, (None,)))).sum())


def performance(signal: ArrayLike, bid_kw: float, available_kw: float) -> float:
    """Performance index of an hour: fulfilled over total mileage, when the power is limited.

    The delivered power is signal x bid, clipped to +-available. So the index is the share of the movement that takes
    place where signal x bid is within +-available: 1 if available covers the largest swing, and increasing in
    available.

    The model of an hour (``delivered_share``) counts min(1, available / (r bid)) instead. Both are 1 when power is
    plentiful and 0 without power. Movement gathers at small signals (a quarter, half, three quarters of the bid fulfil
    about .42, .74 and .92 of a trace), so the index is the larger one for r >= 1; for r < 1 the model forgives the
    peaks beyond r x bid, which the index counts.

    Args:
        signal: (n,) signal in [-1, 1].
        bid_kw: bid, kW, >= 0.
        available_kw: power available in both directions, kW, >= 0.

    Returns:
        The index in [0, 1]; 1 if nothing is asked (no bid, or a signal that does not move).

    Raises:
        InvalidInputError: a signal outside [-1, 1], or a negative power.
    """
    x = array("signal", signal, (None,), -1.0, 1.0)
    number("bid_kw", bid_kw, 0.0)
    number("available_kw", available_kw, 0.0)
    total = mileage(x)
    if total == 0.0 or available_kw >= bid_kw:
        return 1.0
    limit = available_kw / bid_kw
    return min(1.0, mileage(np.clip(x, -limit, limit)) / total)


def delivered_share(available_kw: ArrayLike, ratio: ArrayLike, bid_kw: ArrayLike) -> Floats:
    """Share of an hour's regulation that is delivered in the model: min(1, available / (r bid)), 1 without a bid.

    The chance constraint P(psi K - r C >= 0) >= 1 - eta says that this share is 1 with probability 1 - eta.

    Args:
        available_kw: power of the plugged cars, psi K, kW, >= 0.
        ratio: mileage ratio r, >= 0.
        bid_kw: bid C, kW, >= 0.

    Returns:
        Shares in [0, 1], float64; the three arguments broadcast.

    Raises:
        InvalidInputError: a negative number, or shapes that do not broadcast.
    """
    have = array("available_kw", available_kw, (None,) * np.ndim(available_kw), 0.0)
    r = array("ratio", ratio, (None,) * np.ndim(ratio), 0.0)
    bid = array("bid_kw", bid_kw, (None,) * np.ndim(bid_kw), 0.0)
    shapes = (have.shape, r.shape, bid.shape)
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        require(False, "shapes of available_kw, ratio, bid_kw", shapes, "shapes that broadcast")
    asked = r * bid
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(have >= asked, 1.0, have / asked)


def net_discharge(signal: ArrayLike) -> float:
    """Energy that an hour's signal takes out of the batteries per kW of bid: gamma [kWh/kW] of the charge guarantee.

    In the guarantee P(omega K - gamma C >= 0) >= 1 - eta the charging power omega of the K plugged cars has to make up
    for what the signal takes. The signal itself is neutral in the long run, so that its plain net energy has mean
    zero; but a battery gives 1/.95 of what it delivers and keeps .95 of what it takes up. gamma counts both:
    mean(up) / .95 - .95 mean(down). The losses give it a positive mean, the drift within the hour its deviation.

    Raises:
        InvalidInputError: a signal outside [-1, 1], or an empty one.
    """
    x = array("signal", signal, (None,), -1.0, 1.0)
    require(len(x) > 0, "length of signal", 0, "at least 1")
    return float((np.maximum(x, 0.0) / ONE_WAY_EFFICIENCY + np.minimum(x, 0.0) * ONE_WAY_EFFICIENCY).mean())


def gamma_statistics(signals: SignalSet, traces: int = 5000, seed: int = 0) -> tuple[float, float, float, float]:
    """Mean and standard, forward and backward deviation of gamma over simulated hours [kWh/kW]; deterministic.

    Each hour draws its mileage ratio from the set and then its trace. The last two are deviations of the sample, which
    estimate those of the generator.
    """
    number("traces", traces, 1, integer=True)
    generator = np.random.default_rng(seed)
    ratios = draw_ratio(signals, generator, traces)
    gamma = np.array([net_discharge(trace(signals, float(r), generator)) for r in ratios])
    return float(gamma.mean()), float(gamma.std()), forward_deviation(gamma), backward_deviation(gamma)


@lru_cache(maxsize=16)
def _pieces(deviation: float) -> tuple[Floats, Floats]:
    """Slope and offset of each piece of the quantile function in 1024 u; a last piece of slope 0 serves u = 1."""
    q = ratio_quantiles(deviation)
    slope = np.diff(q)
    offset = q[:-1] - np.arange(_PIECES) * slope
    return np.append(slope, 0.0), np.append(offset, q[-1])


@njit(cache=True)  # type: ignore[untyped-decorator]
def _walk(size: Floats, u: Floats, start: float, direction: float) -> Floats:
    """Walk by the given step sizes, turning round where u falls below the chance of a reversal."""
    x = np.empty(len(size) + 1)
    x[0] = start
    recent = 0.0
    for i in range(len(size)):
        recent += (x[i] - recent) * SAMPLE_S / _MEMORY_S
        if u[i] < _REVERSALS * size[i] * (1.0 + direction * (x[i] + _PULL * recent)):
            direction = -direction
        if abs(x[i] + direction * size[i]) > 1.0:
            direction = -direction
        x[i + 1] = x[i] + direction * size[i]
    return x
