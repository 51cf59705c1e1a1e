"""Critics for penalties: from the season programme, fitted on training weeks, or frozen from any value function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.penalty import penalised
from baselines.shared_battery.penalty_critic import Critic, WeekCritic
from baselines.shared_battery.penalty_kernel import gains
from baselines.shared_battery.penalty_law import chances, classes_of, factor_table
from baselines.shared_battery.week_programme import WeekProgramme
from v2g_env.core.validate import array, number, require
from v2g_env.shared_battery.kernels import WeekState
from v2g_env.shared_battery.model import WeekModel
from v2g_env.shared_battery.scenario import Week

__all__ = ["fitted_critic", "frozen_critic", "no_critic", "programme_critic", "request_traits", "tune_scale"]

Floats = NDArray[np.float64]

_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)


def no_critic(model: WeekModel) -> WeekCritic:
    """No penalty: perfect information."""
    return _plain(model, np.zeros((model.steps, 2)), 0.0)


def programme_critic(model: WeekModel, solved: WeekProgramme) -> WeekCritic:
    """The values of a dynamic programme (``solve_week``): what follows every request, by the level that it leaves."""
    return _plain(model, solved.after_usd.reshape(model.steps, -1))


def _plain(model: WeekModel, worth: Floats, scale: float = 1.0) -> WeekCritic:
    return WeekCritic(worth, np.zeros((0, *worth.shape)), np.zeros((model.instance.drivers, 0)), scale)


def request_traits(model: WeekModel) -> Floats:
    """Traits (n, 2) of the drivers, centred: mean size of their requests in batteries, probability of a large one."""
    needs, sizes = model.law.needs, model.sizes
    mean = needs.mean_shortfall_kwh(sizes.own_kwh) / sizes.shared_kwh
    small = needs.distribution(sizes.own_kwh + sizes.mean_size_kwh)
    traits = np.stack([mean, 1.0 - small], axis=1)
    return np.asarray(traits - traits.mean(axis=0))


def fitted_critic(
    model: WeekModel,
    scenario: Week,
    grid: int = 400,
    classes: int = 401,
    traits: Floats | None = None,
    shock: Floats | None = None,
    thin: int = 4,
) -> WeekCritic:
    """Fit what energy is worth on training weeks, backwards over the requests.

    The expectation of W before request t, given who has come, is exact for every training week and level; its
    regression on the traits of those still to come is the worth and the tilt one request earlier.

    Args:
        model: of the environment.
        scenario: E training weeks; their drivers' order matters, their requests do not.
        grid: units of the battery.
        classes: of sizes, at most.
        traits: (n, F) numbers of every driver; None: ``request_traits``.
        shock: (E, D) common shocks of the days, needed if needs are correlated.
        thin: every ``thin``-th level is kept; divides grid.

    Raises:
        InvalidInputError: as ``penalised``.
    """
    number("thin", thin, 1, grid, integer=True)
    require(grid % thin == 0, "thin", thin, f"a divisor of grid = {grid}")
    kinds = classes_of(model, grid, classes)
    lot = model.instance
    table, step = factor_table(0.0 if lot.values == "equal" else lot.value_sd)
    given = request_traits(model) if traits is None else array("traits", traits, (lot.drivers, None))
    numbers = given - given.mean(axis=0)
    n, count = lot.drivers, numbers.shape[1]
    driver = scenario.driver[:, :-1]
    require(len(driver) > 0, "training weeks", 0, "at least one")
    worth, tilt = np.zeros((model.steps, grid + 1)), np.zeros((count, model.steps, grid + 1))
    morning = np.minimum(np.arange(grid + 1) + kinds.grid.night_up, grid)
    expected = np.zeros((len(driver), grid + 1))
    later = np.zeros((len(driver), count))  # traits of those still to come after the request
    for t, chance, other in chances(model, kinds, driver, shock, numbers):
        if (t + 1) % n == 0:
            later[:] = 0.0
            expected = expected[:, morning] if t + 1 < model.steps else expected
        known = np.column_stack([np.ones(len(driver)), later])
        found = np.linalg.lstsq(known, expected, rcond=1e-9)[0]
        worth[t], tilt[:, t] = found[0], found[1:]
        mean = gains(worth[t], kinds.units, kinds.scale_usd, table, step)[1]
        expected = worth[t] + chance @ mean + (later + other) @ tilt[:, t]
        later += numbers[driver[:, t]]
    return WeekCritic(worth[:, ::thin], tilt[:, :, ::thin], numbers)


def frozen_critic(
    model: WeekModel, critic: Critic, scenario: Week, knots: int = 40, unit_usd: float = 1.0
) -> WeekCritic:
    """Freeze a value function of observations: its mean over requests of training weeks, by level and step.

    What energy is worth after request t is the mean over the weeks of the critic's value of the next request at that
    level (after the night, if one is between); after the last request nothing is worth anything.

    Args:
        model: of the environment.
        critic: values observations.
        scenario: E training weeks.
        knots: M, levels from empty to full, less one.
        unit_usd: money that one unit of the critic's values means [$].

    Raises:
        InvalidInputError: for values that are not finite or of another shape, or numbers out of range.
    """
    number("knots", knots, 1, 10**4, integer=True)
    number("unit_usd", unit_usd, 0.0, 1e9, open_low=True)
    weeks, n = len(scenario.driver), model.instance.drivers
    require(weeks > 0, "training weeks", 0, "at least one")
    left = np.tile(np.linspace(0.0, model.sizes.shared_kwh, knots + 1), weeks)
    size, value = (np.repeat(part, knots + 1, axis=0) for part in (scenario.size_kwh, scenario.value_usd))
    every = Week(np.repeat(scenario.driver, knots + 1, axis=0), size, value)
    worth = np.zeros((model.steps, knots + 1))
    for t in range(model.steps - 1):
        night = model.sizes.recharge_kwh if (t + 1) % n == 0 else 0.0
        state = WeekState(np.full(len(left), t + 1), np.minimum(left + night, model.sizes.shared_kwh))
        values = np.asarray(critic.values(model.observe(every, state)), np.float64)
        require(values.shape == left.shape, "shape of the critic's values", values.shape, str(left.shape))
        worth[t] = unit_usd * values.reshape(weeks, knots + 1).mean(axis=0)
    return _plain(model, worth)


def tune_scale(
    model: WeekModel,
    scenario: Week,
    critic: WeekCritic,
    grid: int = 400,
    classes: int = 101,
    scales: tuple[float, ...] = _SCALES,
    shock: Floats | None = None,
) -> WeekCritic:
    """The critic with the factor whose mean bound on training weeks is lowest; arguments as ``penalised``."""
    require(len(scales) > 0, "scales", scales, "at least one")
    tried = [replace(critic, scale=scale) for scale in scales]
    mean = [penalised(model, scenario, each, grid, classes, shock).bound_usd.mean() for each in tried]
    return tried[int(np.argmin(mean))]
