"""Sections of the scheduling study on the cars: what plans ask of them, and what if they are not as expected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.report import Section
from agents.scheduling_answers import World
from agents.scheduling_study_figures import draw_profiles
from baselines.scheduling.day import Day, Protection, cautious_day
from baselines.scheduling.linear import optimise
from baselines.scheduling.plan import carried_out
from baselines.scheduling.program import Task

__all__ = ["cautious", "profiles"]

Floats = NDArray[np.float64]

_BOXES = ((0.0, 0.0), (0.25, 0.6), (0.5, 1.2), (1.0, 2.4))  # hours late and early, kWh less


def profiles(world: World) -> Section:
    """What the cars do at different protection levels."""
    rows: list[dict[str, Any]] = []
    curves: dict[str, Floats] = {}
    for alpha in world.config.profile_alphas:
        cars = world.plan(0, alpha).plan.car_kw
        total = cars.sum(axis=1)
        curves[f"alpha {alpha:g}"] = total
        hours = world.instance.step_h
        rows.append(
            {
                "alpha": alpha,
                "charged [kWh]": f"{np.maximum(cars, 0.0).sum() * hours:.1f}",
                "discharged [kWh]": f"{np.maximum(-cars, 0.0).sum() * hours:.1f}",
                "most given at once [kW]": f"{max(-total.min(), 0.0):.1f}",
                "most taken at once [kW]": f"{total.max():.1f}",
            }
        )
    text = (
        "Power of all cars together on day 0, charging positive. The article reads its figure 5 so: with more "
        "protection cars charge more and discharge more carefully."
    )
    return Section("Charging profiles", text, rows, draw_profiles(world.instance, curves), (8.6, 3.4))


def cautious(world: World) -> Section:
    """What it costs to plan for cars that come late, leave early and bring little, and what happens otherwise."""
    lot = world.instance
    rows: list[dict[str, Any]] = []
    base = 0.0
    for hours, less in _BOXES:
        steps = round(hours / lot.step_h)
        costs, naive, careful = [], [], []
        for row in range(world.config.adjust_days):
            day = world.known_wind(row)
            seen = cautious_day(lot, day, steps, steps, less)
            found = optimise(lot, Task(seen, Protection("budget", 2.0), "cost", False, world.model.gas_scale))
            costs.append(found.measured.cost_usd)
            real = _less_lucky(world, day, steps, less, row)
            naive.append(_below(world, real, world.plan(row, 2.0).plan.car_kw))
            careful.append(_below(world, real, found.plan.car_kw))
        cost = float(np.mean(costs))
        base = base or cost
        rows.append(
            {
                "late and early [min]": f"{60 * steps * lot.step_h:.0f}",
                "less energy [kWh]": f"{less:g}",
                "planned cost [$]": f"{cost:.2f}",
                "more [%]": f"{100.0 * (cost / base - 1.0):.2f}".replace("-", "−"),
                "below target, planned for": f"{np.mean(careful):.4f}",
                "below target, not planned for": f"{np.mean(naive):.4f}",
            }
        )
    text = (
        f"{world.config.adjust_days} days with uncertain loads, budget 2. Cars may come up to so much later, leave up "
        "to so much earlier and bring up to so much less than expected; a plan for the worst of them works for all. "
        "Below target: share of cars that leave with less than wanted, for cars drawn evenly from that box that follow "
        "the plan as far as their batteries allow, under the cautious plan and under one that takes expectations for "
        "granted. (In the environment targets are enforced by the physics; then the same error costs power instead.)"
    )
    return Section("Cars that come late and leave early", text, rows)


def _less_lucky(world: World, day: Day, steps: int, less_kwh: float, row: int) -> Day:
    """Cars drawn evenly from the box around a day's."""
    rng = np.random.default_rng([world.config.seed, 4, row])
    late, early = rng.integers(0, steps + 1, (2, len(day.arrive)))
    arrive = np.minimum(day.arrive + late, day.depart)
    least = world.instance.energy_range_kwh[0]
    return day._replace(
        arrive=arrive,
        depart=np.maximum(day.depart - early, arrive),
        start_kwh=np.maximum(day.start_kwh - less_kwh * rng.random(len(arrive)), least),
    )


def _below(world: World, real: Day, car_kw: Floats) -> float:
    _, energy = carried_out(world.instance, real, car_kw)
    return float((energy[-1] < real.target_kwh - 1e-6)[real.arrive < real.depart].mean())
