"""Pictures of the price chain: a frame is a pure function of what is known at the start of a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2g_env.price_chain.kernels import DayState
from v2g_env.price_chain.model import TERMS, Model
from v2g_env.price_chain.scenario import Days
from v2g_env.render import AMBER, BLUE, GREEN, INK, PALE, RED, RULE, SOFT, Canvas, Plot, ceiling

__all__ = ["HEIGHT", "WIDTH", "frame"]

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 1000, 680
_LEFT, _WIDE = 70, 892  # the time axis [px]


def _ticks(low: float, high: float) -> dict[float, str]:
    values = {0.0, high / 2, high} | ({low} if low < 0.0 else set())
    return {value: f"{value:g}" for value in sorted(values)}


def _prices(canvas: Canvas, model: Model, scenario: Days, now: int) -> None:
    """Draw what each level means at every step, and the prices up to now [cent/kWh]."""
    cents = 100.0 * model.tables.price
    low, high = min(float(cents.min()), 0.0), ceiling(max(float(cents.max()), 1e-9))
    plot = Plot(_LEFT, _WIDE, 136, 190, model.steps, -ceiling(-low) if low < 0.0 else 0.0, high)
    plot.axes(canvas, "Price [cent/kWh]", now, _ticks(plot.low, high))
    for t in range(model.steps):
        for value in cents[t].tolist():
            canvas.line((plot.x(t), plot.y(value)), (plot.x(t + 1) - 1, plot.y(value)), RULE)
    for t in range(min(now + 1, model.steps)):
        value = float(cents[t, scenario.level[0, t]])
        canvas.line((plot.x(t), plot.y(value)), (plot.x(t + 1) - 1, plot.y(value)), BLUE if t < now else RED, 4)
    x = canvas.key(_LEFT + 240, 98, RULE, "the chain's levels", "line")
    x = canvas.key(x, 98, BLUE, "so far", "line")
    canvas.key(x, 98, RED, "now", "line")


def _vehicles(canvas: Canvas, model: Model, scenario: Days, now: int) -> None:
    most = ceiling(float(max(model.tables.evs.max(), 1.0)))
    plot = Plot(_LEFT, _WIDE, 366, 70, model.steps, 0.0, most)
    plot.axes(canvas, "Vehicles plugged in", now, {0.0: "0", most: f"{most:g}"})
    for t in range(min(now + 1, model.steps)):
        canvas.box(plot.bar(t, float(model.tables.evs[scenario.presence[0, t]])), GREEN if t < now else AMBER)
    for t in range(0, model.steps + 1, max(model.steps // 8, 1)):
        hour = (model.instance.start_hour + t * model.instance.step_h) % 24.0
        canvas.text(f"{hour:g}", plot.x(t), 441, 15, SOFT, 0.5)
    canvas.text("hour of day [h]", _LEFT + _WIDE / 2, 456, 15, SOFT, 0.5)


def _battery(canvas: Canvas, model: Model, stored: int) -> None:
    """Draw the stored energy between empty, target and full."""
    lot = model.instance
    full = lot.energy_levels - 1
    canvas.text("Stored energy [kWh]", _LEFT, 484, 20)
    canvas.box((_LEFT, 510, _WIDE, 24), PALE)
    canvas.box((_LEFT, 510, round(_WIDE * stored / full), 24), BLUE)
    x = _LEFT + round(_WIDE * lot.target_level / full)
    canvas.line((x, 505), (x, 539), RED, 3)
    canvas.text("wanted at departure", x, 542, 15, RED, float(lot.target_level / full))
    canvas.text(f"{stored * lot.level_kwh:,.0f} of {lot.capacity_kwh:,.0f}", _LEFT + _WIDE, 488, 16, INK, 1.0)


def _money(canvas: Canvas, money: Floats | None) -> None:
    canvas.line((24, 568), (WIDTH - 24, 568), RULE)
    canvas.text("Last step [$]", 24, 582, 20)
    row = [0.0] * len(TERMS) if money is None else money[0].tolist()
    for i, (name, value) in enumerate([*zip(TERMS, row, strict=True), ("sum", sum(row))]):
        x = 24 + 150 * (i + 1)
        canvas.text(name, x, 614, 16, SOFT, 1.0)
        words = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
        canvas.text(" " if money is None else words, x, 636, 20, INK, 1.0)


def frame(model: Model, scenario: Days, state: DayState, money: Floats | None) -> NDArray[np.uint8]:
    """Draw the batch's first day at the start of step t = state.t[0]; nothing that is known only later is used.

    Args:
        model: of the environment.
        scenario: the days.
        state: at the start of a step.
        money: (n, 5) terms of the step before [$], or None.

    Returns:
        (HEIGHT, WIDTH, 3) picture.

    Raises:
        ImportError: without pygame.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    now = int(state.t[0])
    over = now >= model.steps
    canvas.text("Trading a fleet's energy", 24, 20, 30)
    canvas.text("The price moves at random between known levels; the fleet departs at the end.", 24, 50, 16, SOFT)
    hour = (model.instance.start_hour + now * model.instance.step_h) % 24.0
    canvas.text("Departure" if over else f"{int(hour):02d}:{round(60 * (hour % 1)):02d}", WIDTH - 24, 20, 30, INK, 1.0)
    canvas.text(f"{now} of {model.steps} steps are over", WIDTH - 24, 50, 16, SOFT, 1.0)
    _prices(canvas, model, scenario, now)
    _vehicles(canvas, model, scenario, now)
    _battery(canvas, model, int(state.stored[0]))
    _money(canvas, money)
    return canvas.image()
