"""A community's offers and the merit order in which a lot trades: surplus first, then the retailer."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["ar_factors", "load_profile", "merit_order", "pv_profile"]

_CLIP_SD = 5.0  # log factors beyond five standard deviations (probability 6e-7) are cut: observations stay bounded


def pv_profile(hours: NDArray[np.float64], peak_kw: float) -> NDArray[np.float64]:
    """Photovoltaic power peak x sin^1.5(pi (h - 6) / 12), zero outside 6-18 h; shape of ``hours`` [kW]."""
    angle = np.pi * (np.clip(hours, 6.0, 18.0) - 6.0) / 12.0
    return peak_kw * np.maximum(np.sin(angle), 0.0) ** 1.5


def load_profile(
    hours: NDArray[np.float64], base_kw: float, evening_kw: float, morning_kw: float
) -> NDArray[np.float64]:
    """Load of the community: base and two Gaussian bumps at 17 h and 8 h; shape of ``hours`` [kW]."""
    evening = evening_kw * np.exp(-(((hours - 17.0) / 2.5) ** 2))
    morning = morning_kw * np.exp(-(((hours - 8.0) / 2.0) ** 2))
    return base_kw + evening + morning


@njit(cache=True)  # type: ignore[untyped-decorator]
def ar_factors(normals: NDArray[np.float64], memory: float, sd: float) -> NDArray[np.float64]:
    """Mean-one lognormal AR(1) factors from standard normals, both (n, steps).

    The log factor starts in its stationary law N(0, sd^2); ``memory`` is its autocorrelation from step to step.
    """
    factors = np.empty(normals.shape)
    fresh = np.sqrt(1.0 - memory**2)
    for i in range(normals.shape[0]):
        log = 0.0
        for t in range(normals.shape[1]):
            log = normals[i, 0] if t == 0 else memory * log + fresh * normals[i, t]
            factors[i, t] = np.exp(sd * min(max(log, -_CLIP_SD), _CLIP_SD) - 0.5 * sd**2)
    return factors


@njit(cache=True)  # type: ignore[untyped-decorator]
def merit_order(
    change_kwh: float, surplus_kw: float, deficit_kw: float, efficiency: float, step_h: float
) -> tuple[float, float, float, float]:
    """Exchanges [kW] that change the stored energy by ``change_kwh``: the community first, the rest with the retailer.

    Returns:
        (surplus taken, energy returned, retail bought, retail sold), all at least 0. Merit order is optimal when the
        retailer pays no more than the community's surplus costs and charges no less than the community pays back.
    """
    if change_kwh >= 0.0:
        power = change_kwh / (efficiency * step_h)
        taken = min(power, surplus_kw)
        return taken, 0.0, power - taken, 0.0
    power = -change_kwh * efficiency / step_h
    returned = min(power, deficit_kw)
    return 0.0, returned, 0.0, power - returned
