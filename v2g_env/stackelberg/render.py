"""Pictures of the game: a frame is a pure function of what the platform knows in the morning of a day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2g_env.render import AMBER, BLUE, GREEN, INK, NOW, PALE, PURPLE, RED, RULE, SOFT, Canvas, Plot, ceiling
from v2g_env.stackelberg.kernels import State
from v2g_env.stackelberg.model import REWARD_TERMS, Model
from v2g_env.stackelberg.scenario import Scenario

__all__ = ["HEIGHT", "WIDTH", "frame"]

WIDTH, HEIGHT = 1000, 680
_LEFT, _RIGHT, _WIDE = 70, 552, 410  # time axes of today and of the day before [px]


def _plot(left: int, top: int, height: int, steps: int, high: float) -> Plot:
    return Plot(left, _WIDE, top, height, steps, 0.0, high)


def _stairs(canvas: Canvas, plot: Plot, values: NDArray[np.float64], color: tuple[int, int, int]) -> None:
    points = [(plot.x(end), plot.y(value)) for s, value in enumerate(values.tolist()) for end in (s, s + 1)]
    canvas.pygame.draw.lines(canvas.surface, color, False, points, 2)


def _hours(canvas: Canvas, left: int, top: int) -> None:
    for hour in range(0, 25, 4):
        x = left + round(_WIDE * hour / 24)
        canvas.line((x, top), (x, top + 4), RULE)
        canvas.text(f"{hour}", x, top + 7, 15, SOFT, 0.5)
    canvas.text("time of day [h]", left + _WIDE / 2, top + 22, 15, SOFT, 0.5)


def _today(canvas: Canvas, model: Model, scenario: Scenario, day: int) -> None:
    """Draw the day's prices next to the base prices, and its weather if it is announced."""
    game, over = model.instance, day >= model.instance.days
    prices = 100.0 * (game.base_price if over else scenario.price[0, day])
    plot = _plot(_LEFT, 136, 210, 24, ceiling(float(max(prices.max(), 100.0 * game.base_price.max()))))
    plot.axes(canvas, "Prices today [cent/kW per hour]", 24, _ticks(plot.high))
    for hour, price in enumerate([] if over else prices.tolist()):
        canvas.box(plot.bar(hour, price), AMBER)
    _stairs(canvas, plot, 100.0 * game.base_price, INK)
    x = canvas.key(_LEFT, 116, AMBER, "today")
    canvas.key(x, 116, INK, "base price", "line")
    _hours(canvas, _LEFT, 346)
    if over:
        words = "The month is over."
    elif game.announced:
        words = f"Announced: {game.plug_shares[int(scenario.plug[0, day])]:.0%} of the cars at home are plugged in."
    else:
        words = "How many of the cars at home are plugged in is not announced."
    canvas.text(words, _LEFT, 404, 18)


def _ticks(high: float) -> dict[float, str]:
    return {0.0: "0", high / 2: f"{high / 2:g}", high: f"{high:g}"}


def _calendar(canvas: Canvas, model: Model, scenario: Scenario, day: int) -> None:
    """Draw one box per day of the month, up to four weeks and a half in a row; weekends are shaded."""
    days = model.instance.days
    columns = min(days, 31) if days <= 31 else int(np.ceil(np.sqrt(days * _WIDE / 70)))
    size = min(_WIDE // columns, 70 // -(-days // columns))
    canvas.text("Days", _LEFT, 436, 20)
    x = canvas.key(_LEFT + 70, 440, NOW, "weekend")
    x = canvas.key(x, 440, RULE, "past")
    canvas.key(x, 440, RED, "today", "frame")
    for i in range(days):
        row, column = divmod(i, columns)
        box = (_LEFT + column * size, 466 + row * size, max(size - 2, 1), max(size - 2, 1))
        weekend = bool((scenario.first_day[0] + i) % 7 >= 5)
        canvas.box(box, RULE if i < day else NOW if weekend else PALE)
        if i == day:
            canvas.box(box, RED, 2)


def _before(canvas: Canvas, model: Model, state: State) -> None:
    """Draw the day before: rebates, shares of plugged cars, bids and what was delivered of them."""
    game = model.instance
    steps, none = game.periods, int(state.t[0]) == 0
    high = max(game.rebate_levels_usd_per_h[-1], 1e-9)
    plot = _plot(_RIGHT, 136, 101, steps, high)
    plot.axes(canvas, "Rebates of the day before [$/h]" + (": none yet" if none else ""), steps, _ticks(plot.high))
    for s, rebate in enumerate(state.rebate[0].tolist()):
        canvas.box(plot.bar(s, rebate), GREEN)
    x = canvas.key(_RIGHT, 116, GREEN, "posted")
    if game.habit_weight < 1.0:
        _stairs(canvas, plot, state.habit[0], PURPLE)
        canvas.key(x, 116, PURPLE, "in the drivers' mind", "line")
    plot = _plot(_RIGHT, 276, 90, steps, 100.0)
    plot.axes(canvas, "Cars plugged in [% of the fleet]", steps, _ticks(plot.high))
    for s, share in enumerate(state.plugged[0].tolist()):
        canvas.box(plot.bar(s, 100.0 * share), BLUE)
    plot = _plot(_RIGHT, 430, 84, steps, ceiling(max(float(state.bid_kw[0].max()), 1.0)))
    plot.axes(canvas, "Regulation [kW]", steps, _ticks(plot.high))
    delivered = state.delivered_kw[0].tolist()
    for s, bid in enumerate(state.bid_kw[0].tolist()):
        canvas.box(plot.bar(s, bid), RED)
        canvas.box(plot.bar(s, delivered[s]), BLUE)
    x = canvas.key(_RIGHT + 150, 406, BLUE, "bid and delivered")
    canvas.key(x, 406, RED, "bid, not delivered")
    _hours(canvas, _RIGHT, 514)


def _money(canvas: Canvas, money: NDArray[np.float64] | None) -> None:
    canvas.line((24, 568), (WIDTH - 24, 568), RULE)
    canvas.text("Money of the day before [$]" + (": none yet" if money is None else ""), 24, 582, 20)
    hint = "reference: minus what certified bids without rebates would have earned if delivered"
    canvas.text(hint, WIDTH - 24, 585, 15, SOFT, 1.0)
    row = [0.0] * len(REWARD_TERMS) if money is None else money[0].tolist()
    for i, (name, value) in enumerate([*zip(REWARD_TERMS, row, strict=True), ("sum", sum(row))]):
        x = 24 + 150 * (i + 1)
        canvas.text(name, x, 614, 16, SOFT, 1.0)
        words = f"{value:+.2f}" if abs(value) >= 0.005 else "0"
        canvas.text(" " if money is None else words, x, 636, 20, INK, 1.0)


def frame(model: Model, scenario: Scenario, state: State, money: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Draw the batch's first month in the morning of day t = state.t[0]; nothing that is known only later is used.

    ``money``: (n, 4) terms of the day before [$], or None. Returns (HEIGHT, WIDTH, 3). ImportError without pygame.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    game, day = model.instance, int(state.t[0])
    over = day >= game.days
    canvas.text("Rebates for regulation power", 24, 20, 30)
    canvas.text(f"{game.drivers} drivers answer to the platform's rebates by plugging in.", 24, 50, 16, SOFT)
    kind = "" if over else "weekend" if scenario.weekend[0, day] else "weekday"
    canvas.text("The end" if over else f"Day {day + 1}, {kind}", WIDTH - 24, 20, 30, INK, 1.0)
    canvas.text(f"{day} of {game.days} days are over", WIDTH - 24, 50, 16, SOFT, 1.0)
    _today(canvas, model, scenario, day)
    _calendar(canvas, model, scenario, day)
    _before(canvas, model, state)
    _money(canvas, money)
    return canvas.image()
