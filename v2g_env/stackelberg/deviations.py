"""Forward and backward deviations, the measures of spread behind the bids' chance constraints.

For a random number z with mean m (Chen, Sim, Sun, A robust optimization perspective on stochastic programming,
Operations Research 55(6), 2007, eq. 6 and 7)

    forward(z) = sup_{theta > 0} sqrt(2 ln E exp(theta (z - m))) / theta,   backward(z) = forward(-z).

Both are at least the standard deviation, which is the limit for theta -> 0, carry the unit of z, and give the tails
P(z - m >= t forward) <= exp(-t^2 / 2) and P(z - m <= -t backward) <= exp(-t^2 / 2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number, require

__all__ = [
    "backward_deviation",
    "bernoulli_backward",
    "bernoulli_forward",
    "forward_deviation",
    "normal_deviation",
    "piecewise_uniform_deviations",
    "two_point_deviations",
    "uniform_deviation",
]

Floats = NDArray[np.float64]

_SMALLEST = 1e-5  # theta times the largest |z|: below it the supremum exceeds the standard deviation by under 1e-10
_PER_DECADE = 16  # grid points; the best are refined
_GOLDEN = (5.0**0.5 - 1.0) / 2.0


def forward_deviation(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Forward deviation of the law that puts equal weights, or the given ones, on the values.

    Args:
        values: (n,) outcomes, any unit, n >= 1.
        weights: (n,) probabilities up to a common factor, >= 0 with a positive sum; None: equal.

    Returns:
        The deviation in the unit of the values, never below their standard deviation (with divisor n); relative
        error about 1e-10.

    Raises:
        InvalidInputError: no value, a value that is not finite, or weights of another shape, negative or all zero.
    """
    z = array("values", values, (None,))
    require(len(z) > 0, "number of values", 0, "at least 1")
    w = array("weights", np.ones(len(z)) if weights is None else weights, (len(z),), 0.0)
    require(bool(w.sum() > 0.0), "sum of weights", float(w.sum()), "positive")
    size = float(np.abs(z).max()) or 1.0
    z, w = z[w > 0.0] / size, w[w > 0.0] / w.sum()
    z = z - w @ z
    reach = float(np.abs(z).max())
    if reach <= 1e-15:  # one value, up to rounding
        return 0.0
    z /= reach
    log_w = np.log(w)

    def log_moment(theta: float) -> float:
        x = theta * z
        if x.max() < 30.0:
            return float(np.log1p(w @ _remainder(x)))
        x += log_w
        top = float(x.max())
        return top + float(np.log(np.exp(x - top).sum()))

    return size * reach * _supremum(log_moment, float(np.sqrt(w @ z**2)))


def backward_deviation(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Backward deviation of the values: the forward deviation of their negatives; see there."""
    return forward_deviation(-array("values", values, (None,)), weights)


def piecewise_uniform_deviations(edges: ArrayLike) -> tuple[float, float]:
    """Forward and backward deviation of the law that is uniform between neighbouring edges, all pieces equally likely.

    Args:
        edges: (n + 1,) increasing, any unit; the quantiles of levels 0, 1/n, ..., 1.

    Returns:
        (forward, backward) in the unit of the edges; relative error about 1e-10.

    Raises:
        InvalidInputError: fewer than two edges, or edges that do not increase.
    """
    e = array("edges", edges, (None,))
    require(len(e) > 1 and bool((np.diff(e) > 0.0).all()), "edges", e, "at least two increasing numbers")
    center, half = (e[1:] + e[:-1]) / 2.0, np.diff(e) / 2.0
    center = center - center.mean()
    reach = float((np.abs(center) + half).max())
    center, half = center / reach, half / reach
    sd = float(np.sqrt((center**2 + half**2 / 3.0).mean()))

    def log_moment(theta: float) -> float:
        x, h = theta * center, theta * half
        # E exp = exp(x) sinh(h) / h on each piece, less 1 + x, as a sum of positive terms
        return float(np.log1p((_remainder(x) + np.exp(x) * _sinhc_less_1(h)).mean()))

    # beyond this theta the ratio is below sd, since log_moment <= theta; no overflow as long as it is moderate
    require(2.0 / sd**2 < 600.0, "edges", e, "a law whose deviation is above 6 % of its largest distance to the mean")
    forward = _supremum(log_moment, sd)
    backward = _supremum(lambda theta: log_moment(-theta), sd)
    return reach * forward, reach * backward


def bernoulli_backward(probability: ArrayLike) -> Floats:
    """Backward deviation of a Bernoulli number, elementwise: squared y(1-y) up to 1/2, (2y-1)/(2 ln(y/(1-y))) above.

    Args:
        probability: y in [0, 1], any shape.

    Raises:
        InvalidInputError: a probability outside [0, 1].
    """
    y = array("probability", probability, (None,) * np.ndim(probability), 0.0, 1.0)
    return np.sqrt(np.where(y <= 0.5, y * (1.0 - y), _rare_forward(np.minimum(1.0 - y, 0.5))))


def bernoulli_forward(probability: ArrayLike) -> Floats:
    """Forward deviation of a Bernoulli number, elementwise: the backward deviation at 1-y, exact also for tiny y.

    Args:
        probability: y in [0, 1], any shape.

    Raises:
        InvalidInputError: a probability outside [0, 1].
    """
    y = array("probability", probability, (None,) * np.ndim(probability), 0.0, 1.0)
    return np.sqrt(np.where(y >= 0.5, y * (1.0 - y), _rare_forward(np.minimum(y, 0.5))))


def two_point_deviations(low: float, high: float, probability_high: float) -> tuple[float, float]:
    """Forward and backward deviation of a number that is ``high`` with the given probability and else ``low``.

    Raises:
        InvalidInputError: low above high, or no probability.
    """
    number("low", low)
    number("high", high, low)
    number("probability_high", probability_high, 0.0, 1.0)
    span = high - low
    return span * float(bernoulli_forward(probability_high)), span * float(bernoulli_backward(probability_high))


def normal_deviation(standard_deviation: float) -> float:
    """Forward and backward deviation of a normal number: its standard deviation, for every theta."""
    number("standard_deviation", standard_deviation, 0.0)
    return float(standard_deviation)


def uniform_deviation(low: float, high: float) -> float:
    """Forward and backward deviation of a uniform number: its standard deviation (high - low) / sqrt(12).

    By formula: with x = theta (high - low) / 2 the moment is sinh(x)/x <= exp(x^2 / 6), term by term.
    """
    number("low", low)
    number("high", high, low)
    return float((high - low) / np.sqrt(12.0))


def _rare_forward(p: Floats) -> Floats:
    """Squared forward deviation (1-2p) / (2 ln((1-p)/p)) of a Bernoulli(p) with p <= 1/2 (Kearns and Saul 1998)."""
    d = 1.0 - 2.0 * p  # exact for p >= 1/4, where ln((1-p)/p) = 2 artanh(d) keeps its digits
    near = d / (4.0 * np.arctanh(np.clip(d, 1e-300, 0.6)))
    with np.errstate(divide="ignore"):  # p = 0 gives d / inf = 0, as it should
        far = d / (2.0 * np.maximum(np.log1p(-p) - np.log(p), 0.5))
    return np.where(d == 0.0, 0.25, np.where(p >= 0.25, near, far))


def _remainder(x: Floats) -> Floats:
    """Exp(x) - 1 - x, by its series where the difference would cancel."""
    near = np.abs(x) < 0.01
    s = np.where(near, x, 0.0)
    series = s * s / 2.0 * (1.0 + s / 3.0 * (1.0 + s / 4.0 * (1.0 + s / 5.0 * (1.0 + s / 6.0))))
    return np.where(near, series, np.expm1(x) - x)


def _sinhc_less_1(x: Floats) -> Floats:
    """Sinh(x)/x - 1, by its series where the difference would cancel."""
    near = np.abs(x) < 0.1
    square = np.where(near, x, 0.0) ** 2
    series = square / 6.0 * (1.0 + square / 20.0 * (1.0 + square / 42.0 * (1.0 + square / 72.0)))
    wide = np.where(near, 1.0, x)
    return np.where(near, series, np.sinh(wide) / wide - 1.0)


def _supremum(log_moment: Callable[[float], float], sd: float) -> float:
    """Supremum of sqrt(2 log_moment(theta)) / theta over theta > 0, at least ``sd``.

    For z with |z| <= 1, log_moment(theta) <= theta, so that nothing beyond theta = 2 / sd^2 exceeds sd. Between there
    and zero the function may have several peaks (rare far outcomes): a grid in ln theta finds them, golden sections
    refine every one that may be the highest.
    """

    def square(log_theta: float) -> float:
        theta = float(np.exp(log_theta))
        return 2.0 * log_moment(theta) / theta / theta

    left, right = np.log(_SMALLEST), np.log(min(2.0 / sd**2, 1e300))
    grid = np.linspace(left, right, 2 + int((right - left) / np.log(10.0) * _PER_DECADE))
    heights = np.array([square(t) for t in grid])
    best = max(sd * sd, float(heights.max()))
    for i in range(1, len(grid) - 1):
        if heights[i] >= max(heights[i - 1], heights[i + 1], 0.98 * best):
            best = max(best, _peak(square, grid[i - 1], grid[i + 1]))
    return float(np.sqrt(best))


def _peak(function: Callable[[float], float], left: float, right: float) -> float:
    """Largest value that golden sections find between left and right, to 1e-6 in the argument."""
    a, b = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
    at_a, at_b = function(a), function(b)
    while right - left > 1e-6:
        if at_a >= at_b:
            right, b, at_b = b, a, at_a
            a = right - _GOLDEN * (right - left)
            at_a = function(a)
        else:
            left, a, at_a = a, b, at_b
            b = left + _GOLDEN * (right - left)
            at_b = function(b)
    return max(at_a, at_b)
