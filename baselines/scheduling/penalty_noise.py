"""What else could have happened in a step: outcomes that are as likely as the one that did, given the past.

The randomness of a step is a point on a torus: the normals behind the wind's errors and the uniforms behind the loads
are independent, and u = Phi(normal) is uniform. A uniform point stays uniform when it is shifted, modulo 1, by the
points of a lattice rule. So given the past and the set of the m shifted points, each of them was equally likely to
happen, and whatever a function is at the point that happened, minus its mean over all m, has the conditional mean zero:
exactly, for any function, without an integral. (Randomly shifted lattice rules: Cranley and Patterson 1976; here the
shift is the outcome itself.) Loads with two values only are reflected by every second shift instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr

from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario, deviations
from v2g_env.scheduling.weather import turbine_power

__all__ = ["OUTCOMES", "Outcomes", "outcomes", "typical"]

Floats = NDArray[np.float64]

OUTCOMES = 1024  # points of the lattice; even, so that every second shift can be a reflection
_KOROBOV = 43  # the lattice's generator, odd; this one was found to give tight bounds on training days
_EDGE = 1e-15  # a normal is never infinite


class Outcomes(NamedTuple):
    """Outcomes of every step of a day.

    Attributes:
        need_kw: (steps, m) load of all homes minus wind of all turbines; first the outcome that happened.
        wind_kw: (steps, m) wind of all turbines.
        error: (steps, m) mean of the turbines' latent errors after the step.
    """

    need_kw: Floats
    wind_kw: Floats
    error: Floats


def outcomes(model: Model, scenario: Scenario, row: int) -> Outcomes:
    """The outcome of every step of one day and its shifts."""
    return _outcomes(model, scenario, row, *_happened(model, scenario, row))


def typical(model: Model, scenario: Scenario, row: int) -> Outcomes:
    """Outcomes of every step spread evenly over what the past leaves possible: they know nothing of the step."""
    lot = model.instance
    count = _directions(lot.wind_common, lot.turbines)
    middle = np.full((lot.steps, count + lot.aggregators), 0.5 / OUTCOMES)
    return _outcomes(model, scenario, row, middle[:, :count], middle[:, count:])


def _outcomes(model: Model, scenario: Scenario, row: int, winds: Floats, loads: Floats) -> Outcomes:
    """Outcomes from points (steps, directions) and (steps, aggregators) of the torus: they and their shifts."""
    lot = model.instance
    dims = winds.shape[1] + loads.shape[1]
    generator = np.array([pow(_KOROBOV, i, OUTCOMES) for i in range(dims)])
    turns = (np.arange(OUTCOMES)[:, None] * generator % OUTCOMES) / OUTCOMES
    reflected = np.arange(OUTCOMES)[:, None] % 2
    if 1.0 + lot.load_deviation * float(deviations(model.law.deviation, np.zeros(1))[0]) < 0.0:
        turns[:, winds.shape[1] :] = 0.0  # loads cut off at zero do not tell their uniforms: they count as known
        reflected = 0 * reflected
    normals = ndtri(np.clip((winds[:, None] + turns[:, : winds.shape[1]]) % 1.0, _EDGE, 1.0 - _EDGE))
    memory = lot.wind_news_memory
    fresh = np.sqrt(1.0 - memory**2) * normals @ _mixing(lot.wind_common, lot.turbines)
    error = memory * scenario.news[row, :-1, None] + fresh
    latent = lot.forecast_quality * scenario.forecast[row, 1:, None] + np.sqrt(1.0 - lot.forecast_quality**2) * error
    wind = turbine_power(lot, lot.wind_scale[1:, None, None], latent).sum(axis=2)
    if model.law.deviation == "two-point":
        noise = np.where(loads[:, None] < 0.5, -1.0, 1.0) * (1.0 - 2.0 * reflected)
    else:
        noise = deviations(model.law.deviation, (loads[:, None] + turns[:, winds.shape[1] :]) % 1.0)
    load = np.maximum(lot.load_mean_kw[:, None] * (1.0 + lot.load_deviation * noise), 0.0).sum(axis=2)
    mean = error.mean(axis=2) if lot.turbines else np.zeros(wind.shape)
    return Outcomes(load - wind, wind, mean)


def _directions(common: float, turbines: int) -> int:
    """Independent normals in the errors of turbines that have the share ``common`` of their variance in common."""
    return min(turbines, 1) if common == 1.0 else turbines


def _mixing(common: float, turbines: int) -> Floats:
    """(directions, turbines) how independent normals make a step's innovations; the first is what they have in mean.

    Innovations have variance 1 and covariance ``common``: the vector of ones and everything orthogonal to it are the
    eigenspaces of their covariance, with the eigenvalues 1 + (turbines - 1) common and 1 - common.
    """
    count = _directions(common, turbines)
    basis = np.zeros((count, turbines))
    if not count:
        return basis
    basis[0] = np.sqrt((1.0 + (turbines - 1) * common) / turbines)
    for i in range(1, count):  # Helmert's contrasts
        basis[i, :i], basis[i, i] = 1.0, -i
        basis[i] *= np.sqrt((1.0 - common) / (i * (i + 1)))
    return basis


def _happened(model: Model, scenario: Scenario, row: int) -> tuple[Floats, Floats]:
    """The day's points of the torus: (steps, directions) of the wind, (steps, aggregators) of the loads."""
    lot = model.instance
    memory = lot.wind_news_memory
    fresh = (scenario.news[row, 1:] - memory * scenario.news[row, :-1]) / np.sqrt(1.0 - memory**2)
    mixing = _mixing(lot.wind_common, lot.turbines)
    normals = fresh @ (mixing / (mixing**2).sum(axis=1, keepdims=True)).T
    width = lot.load_deviation * lot.load_mean_kw
    off = scenario.load_kw[row, 1:] - lot.load_mean_kw
    noise = np.divide(off, width, out=np.zeros_like(off), where=width > 0.0)
    return ndtr(normals), _uniform(model.law.deviation, noise)


def _uniform(kind: str, noise: Floats) -> Floats:
    """The uniforms that ``deviations`` makes these deviations of; of two-point ones, the middle of the half."""
    if kind == "uniform":
        return np.clip(0.5 * (noise + 1.0), 0.0, 1.0)
    if kind == "two-point":
        return np.where(noise < 0.0, 0.25, 0.75)
    if kind == "triangular":
        x = np.clip(noise, -1.0, 1.0)
        return np.where(x < 0.0, 0.5 * (1.0 + x) ** 2, 1.0 - 0.5 * (1.0 - x) ** 2)
    if kind == "normal":
        return np.asarray(ndtr(noise))
    if kind == "skewed":
        return np.asarray(-np.expm1(-np.maximum(noise + 1.0, 0.0)))
    return np.asarray(stdtr(3.0, noise * np.sqrt(3.0)))
