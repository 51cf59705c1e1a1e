"""Pictures of the lot: a frame is a pure function of what the manager may know at the start of a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2g_env.parking_lot.kernels import State
from v2g_env.parking_lot.model import REWARD_TERMS, Model
from v2g_env.parking_lot.scenario import Scenario
from v2g_env.render import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    PALE,
    PURPLE,
    RED,
    RULE,
    SOFT,
    WHITE,
    Box,
    Canvas,
    Plot,
    ceiling,
)

__all__ = ["HEIGHT", "WIDTH", "frame"]

WIDTH, HEIGHT = 1000, 680
_CAR, _GLASS, _LEAVING = (205, 211, 219), (132, 141, 152), (255, 244, 214)
_LOT: Box = (24, 110, 420, 346)
_LEFT, _WIDE = 516, 446  # of all time axes [px]
_TICKS_H = (1 / 60, 1 / 30, 1 / 12, 1 / 6, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)


def _plot(top: int, height: int, steps: int, low: float, high: float) -> Plot:
    return Plot(_LEFT, _WIDE, top, height, steps, low, high)


def _time(hour: float) -> str:
    return "{:02d}:{:02d}".format(*divmod(round(hour * 60.0), 60))


def _grid(bays: int) -> tuple[int, int, int]:
    """Columns, cell width and cell height [px] of the largest cells, about 5 high for every 4 wide."""
    columns = np.arange(1, bays + 1)
    wide, tall = _LOT[2] // columns, _LOT[3] // -(-bays // columns)
    best = int(np.argmax(np.minimum(5 * wide, 4 * tall)))
    width = min(int(wide[best]), int(tall[best]), 110)
    return int(columns[best]), width, min(int(tall[best]), 5 * width // 4)


def _car(canvas: Canvas, box: Box, cap: float, stored: float, hours: float, leaving: bool) -> None:
    """Draw a taken bay; ``cap`` and ``stored`` are shares of the largest headroom that a car can have."""
    left, top, width, height = box
    canvas.box(box, _LEAVING if leaving else WHITE, 0, 4)
    canvas.box(box, AMBER if leaving else RULE, 1 + leaving + (leaving and width >= 24), 4)
    top, inner = top + 4, max(height - 8, 1)
    x, wide = left + max(width // 9, 3), max(width // 2, 1)
    canvas.box((x, top, wide, inner), _CAR, 0, width // 6)
    if width >= 30:  # wind screen and rear window seen from above
        for y in (top + inner // 6, top + inner - inner // 5):
            canvas.box((x + wide // 7, y, wide - 2 * (wide // 7), max(inner // 11, 1)), _GLASS)
    if width >= 18:
        size = 14 if width < 30 else min(15 + width // 20, 20)
        words = "<1" if 0.0 < hours < 1.0 else f"{hours:.0f}"
        canvas.text(words, x + wide / 2, top + inner // 2 - size // 3 + 1, size, INK, 0.5)
    x, wide = left + round(0.71 * width), max(width // 6, min(width // 4, 4))
    full, fill = max(round(cap * inner), 3), max(round(stored * inner), 2 * (stored > 1e-6))
    canvas.box((x, top + inner - full, wide, full), SOFT, 1)
    canvas.box((x, top + inner - fill, wide, fill), BLUE)


def _lot(canvas: Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """Draw the bays, one cell each, with what is known of the cars in them."""
    lot, t = model.instance, int(state.t[0])
    columns, wide, tall = _grid(lot.bays)
    present = np.flatnonzero((scenario.arrive[0] <= t) & (scenario.depart[0] > t))
    leaving = scenario.depart[0] == t + 1
    scale, gap = max(lot.headroom_high_kwh, 1e-9), 4 if wide >= 30 else min(wide // 6, 2)
    corners = [(_LOT[0] + b % columns * wide, _LOT[1] + b // columns * tall) for b in range(lot.bays)]
    cells = [(*corner, wide - gap, tall - gap) for corner in corners]
    for cell in cells:
        canvas.box(cell, PALE, 1, 4)
    for k in present.tolist():
        cap, stored = scenario.cap_kwh[0, k] / scale, state.bay_kwh[0, k] / scale
        hours = max(float(scenario.stated[0, k] - t) * lot.step_h, 0.0)
        _car(canvas, cells[scenario.bay[0, k]], cap, stored, hours, bool(leaving[k]))
    canvas.text("Bays", _LOT[0], 84, 20)
    words = f"{len(present)} of {lot.bays} taken, {leaving[present].sum()} leaving after this step"
    canvas.text(words, _LOT[0] + _LOT[2], 86, 16, SOFT, 1.0)
    x = canvas.key(_LOT[0], 472, BLUE, "community energy stored in the car")
    canvas.key(x, 472, SOFT, "room for it, up to the car's cap", "frame")
    x = canvas.key(_LOT[0], 493, AMBER, "announced: leaves after this step", "frame")
    canvas.key(x, 493, PALE, "empty bay", "frame")
    words = f"A full-height bar: {lot.headroom_high_kwh:g} kWh.  Number on the car: hours left, as its driver stated."
    canvas.text(words, _LOT[0], 514, 15, SOFT)


def _stored(canvas: Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """Draw K up to now, the energy stored now, the target fixed for this step, and the plan."""
    lot, t = model.instance, int(state.t[0])
    limit = scenario.capacity_kwh[0, : min(t + 1, lot.steps)].tolist()
    stored, closed, plan = float(state.stored_kwh[0]), float(state.closed_kwh[0]), [0.0, *model.plan_kwh.tolist()]
    largest = lot.bays * min(lot.headroom_high_kwh, lot.efficiency * (1.0 + lot.charger_spread) * lot.energy_scale_kwh)
    high = ceiling(max(largest, *limit, *plan, stored, closed))
    digits = 0 if high >= 100.0 else 1
    plot = _plot(128, 160, lot.steps, 0.0, high)
    plot.axes(canvas, "Stored energy [kWh]", t, {0.0: "0", high / 2: f"{high / 2:g}", high: f"{high:g}"})
    canvas.text("K: what the cars that stay can move in one step", _LEFT + _WIDE, 86, 15, SOFT, 1.0)
    if t > 0:
        canvas.box(plot.bar(t - 1, stored), BLUE)
    x = canvas.key(_LEFT, 106, BLUE, f"stored now: {stored:.{digits}f}")
    stairs = [(plot.x(end), plot.y(value)) for s, value in enumerate(limit) for end in (s, s + 1)]
    canvas.pygame.draw.lines(canvas.surface, INK, False, stairs, 2)
    x = canvas.key(x, 106, INK, f"limit K: {limit[-1]:.{digits}f}", "line")
    if lot.gate_closure_steps == 1 and t < lot.steps:
        canvas.box((plot.x(t) - 1, plot.y(closed) - 2, max(plot.x(t + 1) - plot.x(t), 3) + 2, 4), RED)
        x = canvas.key(x, 106, RED, f"target, this step: {closed:.{digits}f}", "line")
    if any(plan):
        canvas.dashed([(plot.x(s), plot.y(value)) for s, value in enumerate(plan)], SOFT)
        canvas.key(x, 106, SOFT, "plan", "dashed")


def _market(canvas: Canvas, model: Model, scenario: Scenario, now: int) -> None:
    """Draw the prices, and the community's offers up to the step being closed; later ones are not known yet."""
    lot = model.instance
    high = ceiling(float(lot.buy.max()))
    plot = _plot(334, 60, lot.steps, 0.0, high)
    plot.axes(canvas, "Retail price [$/kWh]", now, {0.0: "0", high: f"{high:g}"})
    for s, price in enumerate(lot.buy.tolist()):
        canvas.box(plot.bar(s, price), INK if s == now else RULE)
    if now < lot.steps:
        canvas.key(_LEFT + 180, 308, INK, f"this step: {lot.buy[now]:g}")
    known = min(now + lot.gate_closure_steps + 1, lot.steps)
    surplus, deficit = (offer[0, :known].tolist() for offer in (scenario.surplus_kw, scenario.deficit_kw))
    high = ceiling(max(lot.pv_peak_kw, lot.load_base_kw + lot.load_evening_kw, *surplus, *deficit))
    plot = _plot(440, 80, lot.steps, -high, high)
    plot.axes(canvas, "Community [kW]", now, {high: f"{high:g}", 0.0: "0", -high: f"{high:g}"})
    for s in range(known):
        canvas.box(plot.bar(s, surplus[s]), GREEN)
        canvas.box(plot.bar(s, -deficit[s]), PURPLE)
    canvas.key(canvas.key(_LEFT + 180, 414, GREEN, "surplus for sale"), 414, PURPLE, "deficit to cover")
    tick = next((tick for tick in _TICKS_H if (lot.close_h - lot.open_h) / tick <= 8.0), _TICKS_H[-1])
    for i in range(int(np.ceil(lot.open_h / tick - 1e-9)), int(np.floor(lot.close_h / tick + 1e-9)) + 1):
        x = plot.x((i * tick - lot.open_h) / lot.step_h)
        canvas.line((x, 520), (x, 524), RULE)
        canvas.text(_time(i * tick), x, 527, 15, SOFT, 0.5)
    canvas.text("time of day [h]", _LEFT + _WIDE / 2, 543, 15, SOFT, 0.5)


def _money(canvas: Canvas, money: NDArray[np.float64] | None) -> None:
    canvas.line((24, 568), (WIDTH - 24, 568), RULE)
    canvas.text("Money of the step before [$]" + (": none yet" if money is None else ""), 24, 582, 20)
    hint = "fee: paid for surplus;  return: earned for energy handed back;  redistribution: moving energy between cars"
    canvas.text(hint, WIDTH - 24, 585, 15, SOFT, 1.0)
    row = [0.0] * len(REWARD_TERMS) if money is None else money[0].tolist()
    for i, (name, value) in enumerate([*zip(REWARD_TERMS, row, strict=True), ("sum", sum(row))]):
        x = 24 + 119 * (i + 1)
        canvas.text(name.replace("_", " "), x, 614, 16, SOFT, 1.0)
        words = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
        canvas.text(" " if money is None else words, x, 636, 20, INK, 1.0)


def frame(model: Model, scenario: Scenario, state: State, money: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Draw the batch's first episode at the start of step t = state.t[0]; nothing that is known only later is used.

    ``money``: (n, 7) terms of the step before [$], or None. Returns (HEIGHT, WIDTH, 3). ImportError without pygame.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    lot, t = model.instance, int(state.t[0])
    begin, over = lot.open_h + t * lot.step_h, t >= lot.steps
    clock = f"{_time(begin)}, closed" if over else f"{_time(begin)} to {_time(begin + lot.step_h)}"
    progress = f"after the last of {lot.steps} steps" if over else f"start of step {t + 1} of {lot.steps}"
    canvas.text("Parking lot as energy storage", 24, 20, 30)
    canvas.text("Parked cars keep the community's energy and give it back before they leave.", 24, 50, 16, SOFT)
    canvas.text(clock, WIDTH - 24, 20, 30, INK, 1.0)
    canvas.text(progress, WIDTH - 24, 50, 16, SOFT, 1.0)
    _lot(canvas, model, scenario, state)
    _stored(canvas, model, scenario, state)
    _market(canvas, model, scenario, t)
    _money(canvas, money)
    return canvas.image()
