"""Summary statistics of returns: means with honest intervals, days as clusters where days repeat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require

__all__ = ["Interval", "mean_interval", "upper_limit"]


class Interval(NamedTuple):
    """A mean and its two-sided confidence limits; all in the unit of the values."""

    mean: float
    low: float
    high: float


def _cluster_means(values: NDArray[np.float64], clusters: NDArray[np.int64] | None) -> NDArray[np.float64]:
    values = array("values", values, (None,))
    require(len(values) > 0, "number of values", 0, "at least 1")
    if clusters is None:
        return values
    require(np.shape(clusters) == values.shape, "shape of clusters", np.shape(clusters), str(values.shape))
    _, place = np.unique(clusters, return_inverse=True)
    return np.asarray(np.bincount(place, values) / np.bincount(place))


def _student(level: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def mean_interval(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None = None, confidence: float = 0.95
) -> Interval:
    """Mean and Student interval (asymptotic in the number of independent units).

    Args:
        values: (n,) one value per episode.
        clusters: (n,) label of the independent unit, e.g. the real day that an episode redraws; None if all are.
        confidence: of the interval.

    Returns:
        Mean of the unit means and limits; one unit alone gives infinite limits.
    """
    number("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    units = _cluster_means(values, clusters)
    mean = float(units.mean())
    if len(units) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = _student(0.5 + confidence / 2.0, len(units) - 1) * float(units.std(ddof=1)) / float(np.sqrt(len(units)))
    return Interval(mean, mean - half, mean + half)


def upper_limit(
    values: NDArray[np.float64], clusters: NDArray[np.int64] | None = None, confidence: float = 0.95
) -> float:
    """One-sided upper confidence limit of the mean (asymptotic), for gaps."""
    return mean_interval(values, clusters, 2.0 * confidence - 1.0).high
