"""What the problems' pictures are made of: colours, an offscreen canvas, axes over time, a window."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AMBER",
    "BLUE",
    "GREEN",
    "INK",
    "NOW",
    "PALE",
    "PURPLE",
    "RED",
    "RULE",
    "SOFT",
    "WHITE",
    "Box",
    "Canvas",
    "Color",
    "Plot",
    "Window",
    "ceiling",
]

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, width, height [px]

# Okabe and Ito's palette, told apart with every common kind of colour blindness; greys for all that is no quantity
BLUE, AMBER, RED, GREEN, PURPLE = (0, 114, 178), (230, 159, 0), (213, 94, 0), (0, 158, 115), (204, 121, 167)
INK, SOFT, RULE, PALE, NOW = (34, 34, 34), (102, 106, 112), (186, 190, 196), (228, 230, 234), (231, 240, 248)
WHITE = (255, 255, 255)


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise ImportError('rendering needs pygame: pip install "v2g-env[render]"') from error
    return pygame


class Canvas:
    """An offscreen surface with the few shapes that a frame is made of."""

    def __init__(self, width: int, height: int) -> None:
        self.pygame = _pygame()
        self.pygame.font.init()
        self.surface = self.pygame.Surface((width, height))
        self.surface.fill(WHITE)
        self._fonts: dict[int, Any] = {}

    def text(self, words: str, x: float, y: float, size: int = 16, color: Color = INK, align: float = 0.0) -> int:
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

    def image(self) -> NDArray[np.uint8]:
        """The picture as an (H, W, 3) array of its own."""
        return np.ascontiguousarray(self.pygame.surfarray.array3d(self.surface).transpose(1, 0, 2), dtype=np.uint8)


class Plot(NamedTuple):
    """Axes of one time series: steps to the right, values from ``low`` to ``high`` upwards; lengths in pixels."""

    left: int
    wide: int
    top: int
    height: int
    steps: int
    low: float
    high: float

    def x(self, step: float) -> int:
        """Pixel of a step's start."""
        return self.left + round(self.wide * step / self.steps)

    def y(self, value: float) -> int:
        """Pixel of a value."""
        return self.top + round(self.height * (self.high - value) / (self.high - self.low))

    def bar(self, step: int, value: float) -> Box:
        """Bar of one step between zero and the value."""
        left, width = self.x(step), self.x(step + 1) - self.x(step)
        top, bottom = sorted((self.y(0.0), self.y(value)))
        return left, top, max(width - (width > 3), 1), bottom - top

    def axes(self, canvas: Canvas, title: str, now: int, ticks: dict[float, str]) -> None:
        """Draw title, band of the current step, grid lines and their labels."""
        canvas.text(title, self.left, self.top - (44 if self.height > 100 else 28), 20)
        if now < self.steps:
            canvas.box((self.x(now), self.top, max(self.x(now + 1) - self.x(now), 1), self.height), NOW)
        for value, label in ticks.items():
            y = self.y(value)
            canvas.line((self.left, y), (self.left + self.wide, y), RULE if value == 0.0 else PALE)
            canvas.text(label, self.left - 7, y - 5, 15, SOFT, 1.0)


def ceiling(value: float) -> float:
    """Smallest round number not below the value; 1 for zero."""
    unit = 10.0 ** np.floor(np.log10(value)) if value > 0.0 else 1.0
    return float(unit * min(step for step in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if step * unit >= value))


class Window:
    """A window of the given size [px] that shows frames; once closed, by its user or by ``close``, it ignores them."""

    def __init__(self, width: int, height: int, title: str) -> None:
        """Open the window."""
        self._pygame = _pygame()
        self._pygame.display.init()
        self._pygame.display.set_mode((width, height))
        self._pygame.display.set_caption(f"v2g-env: {title}")
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
