"""Pictures of the lot: one frame is a pure function of what the manager may know at the start of a step."""

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
_BLUE, _AMBER, _RED = (0, 114, 178), (230, 159, 0), (213, 94, 0)
_GREEN, _PURPLE = (0, 158, 115), (204, 121, 167)
_INK, _SOFT, _RULE, _PALE, _NOW = (34, 34, 34), (102, 106, 112), (190, 194, 200), (228, 230, 234), (233, 241, 248)
_CAR, _GLASS, _WHITE, _LEAVING = (198, 205, 214), (120, 130, 142), (255, 255, 255), (255, 244, 214)

_LOT: Box = (24, 110, 420, 346)
_PLOT_LEFT, _PLOT_WIDTH = 516, 460
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
            self._fonts[size] = self.pygame.font.Font(None, size)
        drawn = self._fonts[size].render(words, True, color)
        width = int(drawn.get_width())
        self.surface.blit(drawn, (round(x - align * width), round(y)))
        return width

    def box(self, box: Box, color: Color, line: int = 0, radius: int = 0) -> None:
        """Fill a rectangle, or draw its frame if ``line`` [px] is positive."""
        self.pygame.draw.rect(self.surface, color, box, line, border_radius=radius)

    def line(self, start: tuple[float, float], end: tuple[float, float], color: Color, width: int = 1) -> None:
        """Draw a straight line."""
        self.pygame.draw.line(self.surface, color, start, end, width)

    def dashed(self, points: list[tuple[float, float]], color: Color) -> None:
        """Draw dashes of 5 px with gaps of 4 px along a path."""
        corners = np.array(points)
        along = np.append(0.0, np.cumsum(np.hypot(*np.diff(corners, axis=0).T)))

        def at(distance: float) -> tuple[float, float]:
            x, y = (float(np.interp(distance, along, corners[:, axis])) for axis in (0, 1))
            return x, y

        for begin in np.arange(0.0, along[-1], 9.0).tolist():
            self.line(at(begin), at(begin + 5.0), color, 2)

    def pixels(self) -> NDArray[np.uint8]:
        """Copy of the surface, (H, W, 3)."""
        image = self.pygame.surfarray.array3d(self.surface).transpose(1, 0, 2)
        return np.ascontiguousarray(image, dtype=np.uint8)


class _Plot(NamedTuple):
    """Axes of one time series: steps to the right, values from ``low`` to ``high`` upwards."""

    top: int
    height: int
    steps: int
    low: float
    high: float

    def x(self, step: float) -> int:
        """Pixel of a step's start."""
        return _PLOT_LEFT + round(_PLOT_WIDTH * step / self.steps)

    def y(self, value: float) -> int:
        """Pixel of a value, kept within the axes."""
        share = (value - self.low) / (self.high - self.low)
        return self.top + round(self.height * (1.0 - min(max(share, 0.0), 1.0)))

    def bar(self, step: int, value: float) -> Box:
        """Bar of one step between zero and the value."""
        left, right = self.x(step), self.x(step + 1)
        ends = sorted((self.y(0.0), self.y(value)))
        return left, ends[0], max(right - left - (1 if right - left > 3 else 0), 1), ends[1] - ends[0]

    def axes(self, canvas: _Canvas, now: int, ticks: dict[float, str]) -> None:
        """Draw the band of the current step, the grid lines and their labels."""
        if now < self.steps:
            canvas.box((self.x(now), self.top, max(self.x(now + 1) - self.x(now), 1), self.height), _NOW)
        for value, label in ticks.items():
            y = self.y(value)
            canvas.line((_PLOT_LEFT, y), (_PLOT_LEFT + _PLOT_WIDTH, y), _RULE if value == 0.0 else _PALE)
            canvas.text(label, _PLOT_LEFT - 7, y - 5, 15, _SOFT, 1.0)


def _ceiling(value: float) -> float:
    """Smallest round number not below the value."""
    if value <= 0.0:
        return 1.0
    unit = 10.0 ** np.floor(np.log10(value))
    return float(unit * min(step for step in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if step * unit >= value))


def _clock(hour: float) -> str:
    minutes = round(hour * 60.0)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _key(canvas: _Canvas, x: int, y: int, color: Color, words: str, style: str = "box") -> int:
    """One entry of a legend: a sample of the colour and what it means; returns where the next may start."""
    if style == "box":
        canvas.box((x, y, 12, 10), color)
    elif style == "frame":
        canvas.box((x, y - 1, 12, 12), color, 2, 2)
    elif style == "dashed":
        canvas.dashed([(x, y + 5), (x + 14, y + 5)], color)
    else:
        canvas.box((x, y + 4, 12, 3), color)
    return x + 18 + canvas.text(words, x + 18, y, 16, _INK) + 14


def _grid(bays: int, width: int, height: int) -> tuple[int, int, int]:
    """Columns, cell width and cell height [px] that give the largest cells, 5 high for every 4 wide."""
    columns = np.arange(1, bays + 1)
    wide = np.minimum(width // columns, (0.8 * (height // -(-bays // columns))).astype(int))
    best = int(np.argmax(wide))
    cell = min(int(wide[best]), 120)
    return int(columns[best]), cell, int(1.25 * cell)


def _car(canvas: _Canvas, box: Box, cap: float, stored: float, hours_left: float, leaving: bool) -> None:
    """One taken bay; ``cap`` and ``stored`` are shares of the largest headroom that a car can have."""
    left, top, width, height = box
    canvas.box(box, _LEAVING if leaving else _WHITE, 0, 4)
    canvas.box(box, _AMBER if leaving else _RULE, (3 if width >= 24 else 2) if leaving else 1, 4)
    words = width >= 20
    inner = height - 8 - (min(16, max(10, height // 4)) if words else 0)
    body = (left + max(width // 8, 2), top + 5, max(round(0.44 * width), 1), max(inner - 2, 1))
    canvas.box(body, _CAR, 0, max(width // 8, 2))
    for glass in (0.22, 0.74):  # wind screen and rear window seen from above
        canvas.box(
            (body[0] + body[2] // 6, body[1] + round(glass * body[3]), body[2] - body[2] // 3, max(body[3] // 9, 1)),
            _GLASS,
        )
    bar_left, bar_width = left + round(0.66 * width), max(round(0.2 * width), 3)
    full = max(round(cap * inner), 4)
    fill = min(round(stored * inner), full) if stored > 0.0 else 0
    canvas.box((bar_left, top + 4 + inner - full, bar_width, full), _WHITE)
    canvas.box((bar_left, top + 4 + inner - fill, bar_width, fill), _BLUE)
    canvas.box((bar_left, top + 4 + inner - full, bar_width, full), _SOFT, 1)
    if words:
        size = 17 if width >= 40 else 15
        label = f"{hours_left:.0f}" if hours_left >= 0.95 or hours_left <= 0.0 else f"{hours_left:.1f}"[1:]
        canvas.text(f"{label} h" if width >= 40 else label, left + width / 2, top + height - size + 2, size, _INK, 0.5)


def _lot(canvas: _Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """The bays, one cell each, with what is known of the cars in them."""
    lot, t = model.instance, int(state.t[0])
    left, top, width, height = _LOT
    columns, cell, tall = _grid(lot.bays, width, height)
    present = np.flatnonzero((scenario.arrive[0] <= t) & (scenario.depart[0] > t))
    leaving = scenario.depart[0] == t + 1
    session = {int(scenario.bay[0, k]): k for k in present}
    scale = max(lot.headroom_high_kwh, 1e-9)
    gap = 4 if cell >= 24 else 1
    for bay in range(lot.bays):
        row, column = divmod(bay, columns)
        box = (left + column * cell, top + row * tall, max(cell - gap, 2), max(tall - gap, 2))
        if bay not in session:
            canvas.box(box, _PALE, 1, 4)
            continue
        k = session[bay]
        hours = max(float(scenario.stated[0, k] - t) * lot.step_h, 0.0)
        _car(
            canvas,
            box,
            scenario.cap_kwh[0, k] / scale,
            state.bay_kwh[0, k] / scale,
            hours,
            bool(leaving[k]),
        )
    canvas.text("Bays", left, 84, 20)
    taken = f"{len(present)} of {lot.bays} taken, {int(leaving[present].sum())} leaving after this step"
    canvas.text(taken, left + 420, 87, 16, _SOFT, 1.0)


def _lot_legend(canvas: _Canvas, headroom_kwh: float) -> None:
    left = _LOT[0]
    x = _key(canvas, left, 472, _BLUE, "community energy stored in the car")
    _key(canvas, x, 472, _SOFT, "room for it, up to its cap", "frame")
    x = _key(canvas, left, 492, _AMBER, "announced: leaves after this step", "frame")
    _key(canvas, x, 492, _PALE, "empty bay", "frame")
    canvas.text(
        f"bar: tallest possible = {headroom_kwh:g} kWh;  number: hours left, as its driver stated", left, 512, 16, _SOFT
    )


def _stored(canvas: _Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """Capacity up to now, energy stored now, the target fixed for this step, and the plan."""
    lot, t, steps = model.instance, int(state.t[0]), model.instance.steps
    capacity = scenario.capacity_kwh[0, : min(t + 1, steps)]
    stored, closed = float(state.stored_kwh[0]), float(state.closed_kwh[0])
    fixed = lot.gate_closure_steps == 1 and t < steps
    largest = lot.bays * min(
        lot.headroom_high_kwh, lot.efficiency * lot.charger_kw * (1.0 + lot.charger_spread) * lot.step_h
    )
    high = _ceiling(max(largest, capacity.max(), model.plan_kwh.max(), stored, closed))
    plot = _Plot(128, 160, steps, 0.0, high)
    canvas.text("Stored energy [kWh]", _PLOT_LEFT, 84, 20)
    plot.axes(canvas, t, {0.0: "0", high / 2: f"{high / 2:g}", high: f"{high:g}"})
    if t > 0:
        canvas.box(plot.bar(t - 1, stored), _BLUE)
    x = _key(canvas, _PLOT_LEFT, 106, _BLUE, f"stored now: {stored:.0f}")
    for s, value in enumerate(capacity.tolist()):
        if s > 0:
            canvas.line((plot.x(s), plot.y(capacity[s - 1])), (plot.x(s), plot.y(value)), _INK, 2)
        canvas.line((plot.x(s), plot.y(value)), (plot.x(s + 1), plot.y(value)), _INK, 2)
    x = _key(canvas, x, 106, _INK, f"cars can hold: {capacity[-1]:.0f}", "line")
    if fixed:
        left, right = plot.x(t), plot.x(t + 1)
        canvas.box((left - 1, plot.y(closed) - 2, max(right - left, 3) + 2, 4), _RED)
        x = _key(canvas, x, 106, _RED, f"target: {closed:.0f}", "line")
    if model.plan_kwh.any():
        points = [(plot.x(0), plot.y(0.0))] + [(plot.x(s + 1), plot.y(v)) for s, v in enumerate(model.plan_kwh)]
        canvas.dashed([(float(a), float(b)) for a, b in points], _PURPLE)
        _key(canvas, x, 106, _PURPLE, "plan", "dashed")


def _prices(canvas: _Canvas, model: Model, now: int) -> None:
    prices = model.instance.buy
    high = _ceiling(float(prices.max()))
    plot = _Plot(334, 60, len(prices), 0.0, high)
    canvas.text("Retail price [$/kWh]", _PLOT_LEFT, 306, 20)
    plot.axes(canvas, now, {0.0: "0", high: f"{high:g}"})
    for s, price in enumerate(prices.tolist()):
        canvas.box(plot.bar(s, price), _INK if s == now else _RULE)
    if now < len(prices):
        words = f"this step: {prices[now]:g}"
        _key(canvas, _PLOT_LEFT + _PLOT_WIDTH - 18 - canvas.pygame.font.Font(None, 16).size(words)[0], 309, _INK, words)


def _community(canvas: _Canvas, model: Model, scenario: Scenario, now: int) -> None:
    """Offers up to the step whose gate is being closed; later ones are not known yet."""
    lot = model.instance
    known = min(now + lot.gate_closure_steps + 1, lot.steps)
    surplus, deficit = scenario.surplus_kw[0, :known], scenario.deficit_kw[0, :known]
    usual = max(lot.pv_peak_kw, lot.load_base_kw + lot.load_evening_kw)
    high = _ceiling(max(usual, surplus.max(), deficit.max()))
    plot = _Plot(440, 80, lot.steps, -high, high)
    canvas.text("Community [kW]", _PLOT_LEFT, 412, 20)
    plot.axes(canvas, now, {high: f"{high:g}", 0.0: "0", -high: f"{high:g}"})
    for s in range(known):
        canvas.box(plot.bar(s, surplus[s]), _GREEN)
        canvas.box(plot.bar(s, -deficit[s]), _PURPLE)
    x = _key(canvas, _PLOT_LEFT + 140, 415, _GREEN, "surplus, offered to the lot")
    _key(canvas, x, 415, _PURPLE, "deficit, to be covered")


def _hours(canvas: _Canvas, open_h: float, close_h: float) -> None:
    span = close_h - open_h
    tick = next((tick for tick in _TICKS_H if span / tick <= 8.0), _TICKS_H[-1])
    for i in range(int(np.ceil(open_h / tick - 1e-9)), int(np.floor(close_h / tick + 1e-9)) + 1):
        x = _PLOT_LEFT + _PLOT_WIDTH * (i * tick - open_h) / span
        canvas.line((x, 520), (x, 524), _RULE)
        canvas.text(_clock(i * tick), x, 527, 15, _SOFT, 0.5)
    canvas.text("time of day [h]", _PLOT_LEFT + _PLOT_WIDTH / 2, 542, 15, _SOFT, 0.5)


def _money(canvas: _Canvas, money: NDArray[np.float64] | None) -> None:
    canvas.line((24, 566), (WIDTH - 24, 566), _RULE)
    canvas.text("Money of the step before [$]", 24, 580, 20)
    if money is None:
        canvas.text("no step taken yet", 24, 612, 18, _SOFT)
        return
    row = money[0].tolist()
    for i, (name, value) in enumerate([*zip(REWARD_TERMS, row, strict=True), ("sum", sum(row))]):
        x = 24 + 119 * (i + 1)
        if name == "sum":
            canvas.line((x - 100, 610), (x - 100, 656), _RULE)
        canvas.text(name.replace("_", " "), x, 612, 16, _SOFT, 1.0)
        canvas.text(f"{value:+.2f}" if abs(value) >= 0.005 else "0", x, 634, 20, _INK, 1.0)


def frame(model: Model, scenario: Scenario, state: State, money: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Draw the first episode of the batch at the start of step t = state.t[0]; nothing later than known then is used.

    Args:
        model: the lot.
        scenario: the episodes; of later steps only the offer for the step being closed is read.
        state: at the start of step t, or after the end (t = T).
        money: (n, 7) terms of the step before [$], or None before the first.

    Returns:
        A new (HEIGHT, WIDTH, 3) array of colours.

    Raises:
        ImportError: if pygame is not installed.
    """
    canvas = _Canvas()
    lot, t = model.instance, int(state.t[0])
    begin = lot.open_h + t * lot.step_h
    over = t >= lot.steps
    canvas.text("Parking lot as energy storage", 24, 20, 30)
    canvas.text("Parked cars keep the community's energy and give it back before they leave.", 24, 50, 16, _SOFT)
    clock = f"{_clock(begin)}, closed" if over else f"{_clock(begin)} to {_clock(begin + lot.step_h)}"
    canvas.text(clock, WIDTH - 24, 20, 30, _INK, 1.0)
    progress = f"after the last of {lot.steps} steps" if over else f"start of step {t + 1} of {lot.steps}"
    canvas.text(progress, WIDTH - 24, 50, 16, _SOFT, 1.0)
    _lot(canvas, model, scenario, state)
    _lot_legend(canvas, lot.headroom_high_kwh)
    _stored(canvas, model, scenario, state)
    _prices(canvas, model, t)
    _community(canvas, model, scenario, t)
    _hours(canvas, lot.open_h, lot.close_h)
    _money(canvas, money)
    return canvas.pixels()


class Window:
    """A window that shows frames; once closed, by its user or by ``close``, it ignores them."""

    def __init__(self, width: int, height: int) -> None:
        self._pygame = _pygame()
        self._pygame.display.init()
        self._screen = self._pygame.display.set_mode((width, height))
        self._pygame.display.set_caption("v2g-env: parking lot")
        self._clock = self._pygame.time.Clock()
        self._open = True

    def show(self, image: NDArray[np.uint8], fps: float) -> None:
        """Show an (H, W, 3) image and wait until 1 / fps seconds have passed since the last one."""
        if not (self._open and self._pygame.display.get_init()):
            return
        if any(event.type == self._pygame.QUIT for event in self._pygame.event.get()):
            self.close()
            return
        self._pygame.surfarray.blit_array(self._screen, image.transpose(1, 0, 2))
        self._pygame.display.flip()
        self._clock.tick(fps)

    def close(self) -> None:
        """Close the window; a second call does nothing."""
        if self._open:
            self._open = False
            self._pygame.display.quit()
