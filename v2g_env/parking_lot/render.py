"""Pictures of the lot: a frame is a pure function of what the manager may know at the start of a step."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.parking_lot.kernels import State
from v2g_env.parking_lot.model import REWARD_TERMS, Model
from v2g_env.parking_lot.scenario import Scenario

__all__ = ["HEIGHT", "WIDTH", "Window", "frame"]

WIDTH, HEIGHT = 1000, 680
Color = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, width, height [px]

# Okabe and Ito's palette, told apart with every common kind of colour blindness; greys for all that is no quantity
_BLUE, _AMBER, _RED, _GREEN, _PURPLE = (0, 114, 178), (230, 159, 0), (213, 94, 0), (0, 158, 115), (204, 121, 167)
_INK, _SOFT, _RULE, _PALE, _NOW = (34, 34, 34), (102, 106, 112), (186, 190, 196), (228, 230, 234), (231, 240, 248)
_CAR, _GLASS, _WHITE, _LEAVING = (205, 211, 219), (132, 141, 152), (255, 255, 255), (255, 244, 214)
_LOT: Box = (24, 110, 420, 346)
_LEFT, _WIDE = 516, 446  # of all time axes [px]
_TICKS_H = (1 / 60, 1 / 30, 1 / 12, 1 / 6, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0)


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise ImportError('rendering needs pygame: pip install "v2g-env[render]"') from error
    return pygame


class _Canvas:
    """An offscreen surface with the few shapes that a frame is made of."""

    def __init__(self) -> None:
        self.pygame = _pygame()
        self.pygame.font.init()
        self.surface = self.pygame.Surface((WIDTH, HEIGHT))
        self.surface.fill(_WHITE)
        self._fonts: dict[int, Any] = {}

    def text(self, words: str, x: float, y: float, size: int = 16, color: Color = _INK, align: float = 0.0) -> int:
        """Write with the top at y; x is the left end (align 0), the middle (.5) or the right end (1). Returns width."""
        if size not in self._fonts:
            self._fonts[size] = self.pygame.font.Font(None, 2 * size)
        large = self._fonts[size].render(words, True, color)
        half = self.pygame.transform.smoothscale_by(large, 0.5)  # drawn large and halved, letters keep even distances
        self.surface.blit(half, (round(x - align * half.get_width()), y))
        return int(half.get_width())

    def box(self, box: Box, color: Color, line: int = 0, radius: int = 0) -> None:
        """Fill a rectangle, or draw its frame if ``line`` [px] is positive."""
        self.pygame.draw.rect(self.surface, color, box, line, border_radius=radius)

    def line(self, start: tuple[float, float], end: tuple[float, float], color: Color, width: int = 1) -> None:
        """Draw a straight line."""
        self.pygame.draw.line(self.surface, color, start, end, width)

    def dashed(self, points: list[tuple[int, int]], color: Color) -> None:
        """Draw dashes of 5 px with gaps of 4 px along a path."""
        x, y = np.array(points).T
        along = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
        begin = np.arange(0.0, along[-1], 9.0)
        ends = [(np.interp(at, along, x), np.interp(at, along, y)) for at in (begin, begin + 5.0)]
        for x_0, y_0, x_1, y_1 in zip(*ends[0], *ends[1], strict=True):
            self.line((x_0, y_0), (x_1, y_1), color, 2)

    def key(self, x: int, y: int, color: Color, words: str, style: str = "box") -> int:
        """Entry of a legend: a sample of the colour and what it means; returns where the next entry may start."""
        if style == "dashed":
            self.dashed([(x - 1, y + 5), (x + 13, y + 5)], color)
        else:
            height = 3 if style == "line" else 11
            self.box((x, y + 5 - height // 2, 12, height), color, 2 * (style == "frame"))
        return x + 30 + self.text(words, x + 17, y)


class _Plot(NamedTuple):
    """Axes of one time series: steps to the right, values from ``low`` to ``high`` upwards; lengths in pixels."""

    top: int
    height: int
    steps: int
    low: float
    high: float

    def x(self, step: float) -> int:
        """Pixel of a step's start."""
        return _LEFT + round(_WIDE * step / self.steps)

    def y(self, value: float) -> int:
        """Pixel of a value."""
        return self.top + round(self.height * (self.high - value) / (self.high - self.low))

    def bar(self, step: int, value: float) -> Box:
        """Bar of one step between zero and the value."""
        left, width = self.x(step), self.x(step + 1) - self.x(step)
        top, bottom = sorted((self.y(0.0), self.y(value)))
        return left, top, max(width - (width > 3), 1), bottom - top

    def axes(self, canvas: _Canvas, title: str, now: int, ticks: dict[float, str]) -> None:
        """Draw title, band of the current step, grid lines and their labels."""
        canvas.text(title, _LEFT, self.top - (44 if self.height > 100 else 28), 20)
        if now < self.steps:
            canvas.box((self.x(now), self.top, max(self.x(now + 1) - self.x(now), 1), self.height), _NOW)
        for value, label in ticks.items():
            y = self.y(value)
            canvas.line((_LEFT, y), (_LEFT + _WIDE, y), _RULE if value == 0.0 else _PALE)
            canvas.text(label, _LEFT - 7, y - 5, 15, _SOFT, 1.0)


def _ceiling(value: float) -> float:
    """Smallest round number not below the value; 1 for zero."""
    unit = 10.0 ** np.floor(np.log10(value)) if value > 0.0 else 1.0
    return float(unit * min(step for step in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if step * unit >= value))


def _time(hour: float) -> str:
    return "{:02d}:{:02d}".format(*divmod(round(hour * 60.0), 60))


def _grid(bays: int) -> tuple[int, int, int]:
    """Columns, cell width and cell height [px] of the largest cells, about 5 high for every 4 wide."""
    columns = np.arange(1, bays + 1)
    wide, tall = _LOT[2] // columns, _LOT[3] // -(-bays // columns)
    best = int(np.argmax(np.minimum(5 * wide, 4 * tall)))
    width = min(int(wide[best]), int(tall[best]), 110)
    return int(columns[best]), width, min(int(tall[best]), 5 * width // 4)


def _car(canvas: _Canvas, box: Box, cap: float, stored: float, hours: float, leaving: bool) -> None:
    """Draw a taken bay; ``cap`` and ``stored`` are shares of the largest headroom that a car can have."""
    left, top, width, height = box
    canvas.box(box, _LEAVING if leaving else _WHITE, 0, 4)
    canvas.box(box, _AMBER if leaving else _RULE, 1 + leaving + (leaving and width >= 24), 4)
    top, inner = top + 4, max(height - 8, 1)
    x, wide = left + max(width // 9, 3), max(width // 2, 1)
    canvas.box((x, top, wide, inner), _CAR, 0, width // 6)
    if width >= 30:  # wind screen and rear window seen from above
        for y in (top + inner // 6, top + inner - inner // 5):
            canvas.box((x + wide // 7, y, wide - 2 * (wide // 7), max(inner // 11, 1)), _GLASS)
    if width >= 18:
        size = 14 if width < 30 else min(15 + width // 20, 20)
        words = "<1" if 0.0 < hours < 1.0 else f"{hours:.0f}"
        canvas.text(words, x + wide / 2, top + inner // 2 - size // 3 + 1, size, _INK, 0.5)
    x, wide = left + round(0.71 * width), max(width // 6, min(width // 4, 4))
    full, fill = max(round(cap * inner), 3), max(round(stored * inner), 2 * (stored > 1e-6))
    canvas.box((x, top + inner - full, wide, full), _SOFT, 1)
    canvas.box((x, top + inner - fill, wide, fill), _BLUE)


def _lot(canvas: _Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """Draw the bays, one cell each, with what is known of the cars in them."""
    lot, t = model.instance, int(state.t[0])
    columns, wide, tall = _grid(lot.bays)
    present = np.flatnonzero((scenario.arrive[0] <= t) & (scenario.depart[0] > t))
    leaving = scenario.depart[0] == t + 1
    scale, gap = max(lot.headroom_high_kwh, 1e-9), 4 if wide >= 30 else min(wide // 6, 2)
    corners = [(_LOT[0] + b % columns * wide, _LOT[1] + b // columns * tall) for b in range(lot.bays)]
    cells = [(*corner, wide - gap, tall - gap) for corner in corners]
    for cell in cells:
        canvas.box(cell, _PALE, 1, 4)
    for k in present.tolist():
        cap, stored = scenario.cap_kwh[0, k] / scale, state.bay_kwh[0, k] / scale
        hours = max(float(scenario.stated[0, k] - t) * lot.step_h, 0.0)
        _car(canvas, cells[scenario.bay[0, k]], cap, stored, hours, bool(leaving[k]))
    canvas.text("Bays", _LOT[0], 84, 20)
    words = f"{len(present)} of {lot.bays} taken, {leaving[present].sum()} leaving after this step"
    canvas.text(words, _LOT[0] + _LOT[2], 86, 16, _SOFT, 1.0)
    x = canvas.key(_LOT[0], 472, _BLUE, "community energy stored in the car")
    canvas.key(x, 472, _SOFT, "room for it, up to the car's cap", "frame")
    x = canvas.key(_LOT[0], 493, _AMBER, "announced: leaves after this step", "frame")
    canvas.key(x, 493, _PALE, "empty bay", "frame")
    words = f"A full-height bar: {lot.headroom_high_kwh:g} kWh.  Number on the car: hours left, as its driver stated."
    canvas.text(words, _LOT[0], 514, 15, _SOFT)


def _stored(canvas: _Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """Draw K up to now, the energy stored now, the target fixed for this step, and the plan."""
    lot, t = model.instance, int(state.t[0])
    limit = scenario.capacity_kwh[0, : min(t + 1, lot.steps)].tolist()
    stored, closed, plan = float(state.stored_kwh[0]), float(state.closed_kwh[0]), [0.0, *model.plan_kwh.tolist()]
    largest = lot.bays * min(lot.headroom_high_kwh, lot.efficiency * (1.0 + lot.charger_spread) * lot.energy_scale_kwh)
    high = _ceiling(max(largest, *limit, *plan, stored, closed))
    digits = 0 if high >= 100.0 else 1
    plot = _Plot(128, 160, lot.steps, 0.0, high)
    plot.axes(canvas, "Stored energy [kWh]", t, {0.0: "0", high / 2: f"{high / 2:g}", high: f"{high:g}"})
    canvas.text("K: what the cars that stay can move in one step", _LEFT + _WIDE, 86, 15, _SOFT, 1.0)
    if t > 0:
        canvas.box(plot.bar(t - 1, stored), _BLUE)
    x = canvas.key(_LEFT, 106, _BLUE, f"stored now: {stored:.{digits}f}")
    stairs = [(plot.x(end), plot.y(value)) for s, value in enumerate(limit) for end in (s, s + 1)]
    canvas.pygame.draw.lines(canvas.surface, _INK, False, stairs, 2)
    x = canvas.key(x, 106, _INK, f"limit K: {limit[-1]:.{digits}f}", "line")
    if lot.gate_closure_steps == 1 and t < lot.steps:
        canvas.box((plot.x(t) - 1, plot.y(closed) - 2, max(plot.x(t + 1) - plot.x(t), 3) + 2, 4), _RED)
        x = canvas.key(x, 106, _RED, f"target, this step: {closed:.{digits}f}", "line")
    if any(plan):
        canvas.dashed([(plot.x(s), plot.y(value)) for s, value in enumerate(plan)], _SOFT)
        canvas.key(x, 106, _SOFT, "plan", "dashed")


def _market(canvas: _Canvas, model: Model, scenario: Scenario, now: int) -> None:
    """Draw the prices, and the community's offers up to the step being closed; later ones are not known yet."""
    lot = model.instance
    high = _ceiling(float(lot.buy.max()))
    plot = _Plot(334, 60, lot.steps, 0.0, high)
    plot.axes(canvas, "Retail price [$/kWh]", now, {0.0: "0", high: f"{high:g}"})
    for s, price in enumerate(lot.buy.tolist()):
        canvas.box(plot.bar(s, price), _INK if s == now else _RULE)
    if now < lot.steps:
        canvas.key(_LEFT + 180, 308, _INK, f"this step: {lot.buy[now]:g}")
    known = min(now + lot.gate_closure_steps + 1, lot.steps)
    surplus, deficit = (offer[0, :known].tolist() for offer in (scenario.surplus_kw, scenario.deficit_kw))
    high = _ceiling(max(lot.pv_peak_kw, lot.load_base_kw + lot.load_evening_kw, *surplus, *deficit))
    plot = _Plot(440, 80, lot.steps, -high, high)
    plot.axes(canvas, "Community [kW]", now, {high: f"{high:g}", 0.0: "0", -high: f"{high:g}"})
    for s in range(known):
        canvas.box(plot.bar(s, surplus[s]), _GREEN)
        canvas.box(plot.bar(s, -deficit[s]), _PURPLE)
    canvas.key(canvas.key(_LEFT + 180, 414, _GREEN, "surplus for sale"), 414, _PURPLE, "deficit to cover")
    tick = next((tick for tick in _TICKS_H if (lot.close_h - lot.open_h) / tick <= 8.0), _TICKS_H[-1])
    for i in range(int(np.ceil(lot.open_h / tick - 1e-9)), int(np.floor(lot.close_h / tick + 1e-9)) + 1):
        x = plot.x((i * tick - lot.open_h) / lot.step_h)
        canvas.line((x, 520), (x, 524), _RULE)
        canvas.text(_time(i * tick), x, 527, 15, _SOFT, 0.5)
    canvas.text("time of day [h]", _LEFT + _WIDE / 2, 543, 15, _SOFT, 0.5)


def _money(canvas: _Canvas, money: NDArray[np.float64] | None) -> None:
    canvas.line((24, 568), (WIDTH - 24, 568), _RULE)
    canvas.text("Money of the step before [$]" + (": none yet" if money is None else ""), 24, 582, 20)
    hint = "fee: paid for surplus;  return: earned for energy handed back;  redistribution: moving energy between cars"
    canvas.text(hint, WIDTH - 24, 585, 15, _SOFT, 1.0)
    row = [0.0] * len(REWARD_TERMS) if money is None else money[0].tolist()
    for i, (name, value) in enumerate([*zip(REWARD_TERMS, row, strict=True), ("sum", sum(row))]):
        x = 24 + 119 * (i + 1)
        canvas.text(name.replace("_", " "), x, 614, 16, _SOFT, 1.0)
        words = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
        canvas.text(" " if money is None else words, x, 636, 20, _INK, 1.0)


def frame(model: Model, scenario: Scenario, state: State, money: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Draw the batch's first episode at the start of step t = state.t[0]; nothing that is known only later is used.

    ``money``: (n, 7) terms of the step before [$], or None. Returns (HEIGHT, WIDTH, 3). ImportError without pygame.
    """
    canvas = _Canvas()
    lot, t = model.instance, int(state.t[0])
    begin, over = lot.open_h + t * lot.step_h, t >= lot.steps
    clock = f"{_time(begin)}, closed" if over else f"{_time(begin)} to {_time(begin + lot.step_h)}"
    progress = f"after the last of {lot.steps} steps" if over else f"start of step {t + 1} of {lot.steps}"
    canvas.text("Parking lot as energy storage", 24, 20, 30)
    canvas.text("Parked cars keep the community's energy and give it back before they leave.", 24, 50, 16, _SOFT)
    canvas.text(clock, WIDTH - 24, 20, 30, _INK, 1.0)
    canvas.text(progress, WIDTH - 24, 50, 16, _SOFT, 1.0)
    _lot(canvas, model, scenario, state)
    _stored(canvas, model, scenario, state)
    _market(canvas, model, scenario, t)
    _money(canvas, money)
    return np.ascontiguousarray(canvas.pygame.surfarray.array3d(canvas.surface).transpose(1, 0, 2), dtype=np.uint8)


class Window:
    """A window of the given size [px] that shows frames; once closed, by its user or by ``close``, it ignores them."""

    def __init__(self, width: int, height: int) -> None:
        """Open the window."""
        self._pygame = _pygame()
        self._pygame.display.init()
        self._pygame.display.set_mode((width, height))
        self._pygame.display.set_caption("v2g-env: parking lot")
        self._clock = self._pygame.time.Clock()
        self._open = True

    def show(self, image: NDArray[np.uint8], fps: float) -> None:
        """Show an (H, W, 3) image and wait until 1 / fps seconds have passed since the last one."""
        screen = self._pygame.display.get_surface() if self._open else None
        if screen is None:
            return
        if any(event.type == self._pygame.QUIT for event in self._pygame.event.get()):
            self.close()
            return
        screen.blit(self._pygame.surfarray.make_surface(image.transpose(1, 0, 2)), (0, 0))
        self._pygame.display.flip()
        self._clock.tick(fps)

    def close(self) -> None:
        """Close the window; a second call does nothing."""
        if self._open:
            self._open = False
            self._pygame.display.quit()
