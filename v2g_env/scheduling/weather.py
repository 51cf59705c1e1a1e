"""Wind as latent Gaussian paths: what the turbines give, and what is expected of them as time goes on.

A turbine's latent state is z = q f + sqrt(1 - q^2) e, with the day-ahead forecast f (known at the start for the whole
day), its error e (known as it happens) and q the forecast's quality; both are stationary AR(1) paths. The wind speed is
the Weibull quantile at Phi(z), so that speeds have the right law at every hour.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import log_ndtr, ndtri

from v2g_env.scheduling.instance import Instance

__all__ = ["GRID", "LEADS", "Tables", "expected_power", "latent_paths", "tables", "turbine_power"]

Floats = NDArray[np.float64]

LEADS = (1, 2, 4, *range(8, 89, 8))  # observed forecasts: 1 is the step being decided
GRID = np.linspace(-5.0, 5.0, 161)  # latent means at which expectations are tabulated
_NODES = ndtri((np.arange(64) + 0.5) / 64.0)  # equally likely points of a standard normal


def turbine_power(instance: Instance, scale_m_s: Floats, latent: Floats) -> Floats:
    """Power [kW] of a turbine from Weibull scales and latent states of one broadcast shape."""
    speed = scale_m_s * np.sqrt(-log_ndtr(-latent))
    low, rated = instance.cut_in_m_s**3, instance.rated_m_s**3
    share = np.clip((speed * speed * speed - low) / (rated - low), 0.0, 1.0)
    return np.where(speed < instance.cut_out_m_s, instance.turbine_kw * share, 0.0)


def latent_paths(instance: Instance, normals: Floats) -> tuple[Floats, Floats]:
    """Forecast f and error e, (n, steps + 1, turbines), from normals (n, 2, steps + 1, turbines + 1).

    The first of the turbines + 1 columns is what all have in common. Index 0 is the step before the first.
    """
    both = []
    share = instance.wind_common
    for k, memory in enumerate((instance.wind_memory, instance.wind_news_memory)):
        shocks = normals[:, k] * np.sqrt(1.0 - memory**2)
        shocks[:, 0] = normals[:, k, 0]
        path = lfilter([1.0], [1.0, -memory], shocks, axis=1)
        both.append(np.sqrt(share) * path[:, :, :1] + np.sqrt(1.0 - share) * path[:, :, 1:])
    return both[0], both[1]


def expected_power(instance: Instance, forecast: Floats, news: Floats, known: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation [kW] of every turbine's power, given what is known.

    Args:
        instance: the problem.
        forecast: (n, steps + 1, turbines) f.
        news: (n, steps + 1, turbines) e; used at index ``known`` only.
        known: index of the last step whose wind has been seen; 0 is the step before the first.

    Returns:
        Two arrays (n, steps - known, turbines) for the steps from ``known`` on.
    """
    age = np.arange(1, instance.steps + 1 - known)[:, None]
    fade = instance.wind_news_memory**age
    error = np.sqrt(1.0 - instance.forecast_quality**2)
    mean = instance.forecast_quality * forecast[:, known + 1 :] + error * fade * news[:, known, None]
    sd = error * np.sqrt(1.0 - fade**2)
    scale = instance.wind_scale[known + 1 :, None, None]
    power = turbine_power(instance, scale, mean[..., None] + sd[..., None] * _NODES)
    return power.mean(axis=-1), power.std(axis=-1)


class Tables(NamedTuple):
    """Expectations by lead, step and latent mean on GRID.

    Attributes:
        fade: (leads,) what is left of the last error seen.
        mean: (leads, steps, grid) expected power of a turbine [kW].
        sd: (steps, grid) its standard deviation at the first lead [kW].
    """

    fade: Floats
    mean: Floats
    sd: Floats


@lru_cache(maxsize=8)
def tables(instance: Instance) -> Tables:
    """Tables of ``expected_power`` for the observed leads."""
    ages = np.array(LEADS) - 1 + instance.gate_closure_steps
    fade = instance.wind_news_memory**ages
    spread = np.sqrt(1.0 - instance.forecast_quality**2) * np.sqrt(1.0 - fade**2)
    mean = np.empty((len(LEADS), instance.steps, len(GRID)))
    scale = instance.wind_scale[1:, None, None]
    deviation = np.empty((instance.steps, len(GRID)))
    for start in range(0, instance.steps, 8):  # few steps at once fit into the cache
        few = slice(start, start + 8)
        for j, sd in enumerate(spread):
            power = turbine_power(instance, scale[few], GRID[:, None] + sd * _NODES)
            mean[j, few] = power.mean(axis=-1)
            if j == 0:
                deviation[few] = power.std(axis=-1)
    return Tables(fade, mean, deviation)
