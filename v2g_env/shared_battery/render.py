"""Pictures of the shared battery: a frame is a pure function of what is known at the start of a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2g_env.render import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    NOW,
    PALE,
    PURPLE,
    RED,
    RULE,
    SOFT,
    WHITE,
    Box,
    Canvas,
    Color,
    Plot,
    ceiling,
)
from v2g_env.shared_battery.kernels import TOLERANCE_KWH, WeekState
from v2g_env.shared_battery.model import SIZING_TERMS, SizingModel, SizingState, WeekModel
from v2g_env.shared_battery.scenario import Season, Week

__all__ = ["HEIGHT", "WIDTH", "sizing_frame", "week_frame"]

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 1000, 680
_LEFT, _RIGHT, _WIDE = 70, 552, 410  # axes on the left and on the right [px]
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHADES = {"quantile_99": (190, 219, 240), "quantile_90": (110, 176, 220), "quantile_50": BLUE}
_WORDS = {"quantile_50": "on half of the days", "quantile_90": "on 9 of 10", "quantile_99": "on 99 of 100"}


def _amount(value: float) -> str:
    """Three digits are enough on a picture; none is cut before the point."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2f}" if value >= 0.005 else "0"


def _ticks(high: float) -> dict[float, str]:
    return {0.0: "0", high / 2: f"{high / 2:g}", high: f"{high:g}"}


def _head(canvas: Canvas, title: str, hint: str, clock: str, progress: str) -> None:
    canvas.text(title, 24, 20, 30)
    canvas.text(hint, 24, 50, 16, SOFT)
    canvas.text(clock, WIDTH - 24, 20, 30, INK, 1.0)
    canvas.text(progress, WIDTH - 24, 50, 16, SOFT, 1.0)


def _dollars(value: float) -> str:
    return f"{value:+,.2f}" if abs(value) >= 0.005 else "0"


def _row(canvas: Canvas, title: str, parts: list[tuple[str, str]], hint: str) -> None:
    """Write named values under the line at the bottom."""
    canvas.line((24, 568), (WIDTH - 24, 568), RULE)
    canvas.text(title, 24, 582, 20)
    canvas.text(hint, WIDTH - 24, 585, 15, SOFT, 1.0)
    for i, (name, words) in enumerate(parts):
        x = 24 + 150 * (i + 1)
        canvas.text(name, x, 614, 16, SOFT, 1.0)
        canvas.text(words, x, 636, 20, INK, 1.0)


# Sizing


def _needs(canvas: Canvas, model: SizingModel, seen: NDArray[np.float32]) -> None:
    """Draw every driver's quantiles as a column, drivers in increasing order of the largest."""
    known = {name: 100.0 * seen[model.observation_layout[name]].astype(np.float64) for name in _SHADES}
    order = np.argsort(known["quantile_99"], kind="stable")
    drivers = len(order)
    plot = Plot(_LEFT, _WIDE, 136, 222, max(drivers, 5), 0.0, ceiling(float(known["quantile_99"].max())))
    plot.axes(canvas, "What the drivers need in a day [kWh]", plot.steps, _ticks(plot.high))
    for name, color in _SHADES.items():
        for place, driver in enumerate(order.tolist(), (plot.steps - drivers) // 2):
            canvas.box(plot.bar(place, float(known[name][driver])), color)
    x = canvas.text("At most:", _LEFT, 116, 16) + _LEFT + 12
    for name, words in _WORDS.items():
        x = canvas.key(x, 116, _SHADES[name], words)
    words = "one driver" if drivers == 1 else f"{drivers:,} drivers, one column each, by increasing need"
    canvas.text(words, _LEFT + _WIDE / 2, 367, 15, SOFT, 0.5)


def _offers(canvas: Canvas, model: SizingModel) -> None:
    """Write what may be chosen, at what price."""
    lot = model.instance
    low, high = float(lot.tolerated.min()), float(lot.tolerated.max())
    share = f"{100 * low:g} %" if low == high else f"{100 * low:g} to {100 * high:g} %"
    rows = (
        ("own battery, each", f"{lot.own_min_kwh:g} to {lot.own_max_kwh:g} kWh", f"{lot.own_usd_per_kwh:g} $/kWh"),
        ("shared battery", f"0 to {lot.shared_max_kwh:,.0f} kWh", f"{lot.shared_usd_per_kwh:g} $/kWh"),
        ("driver without enough", f"free on {share} of the days", f"then {lot.missed_usd:g} $ a day"),
    )
    canvas.text("To choose, for the whole season", _LEFT, 408, 20)
    for i, (name, span, price) in enumerate(rows):
        y = 440 + 24 * i
        canvas.line((_LEFT, y + 19), (_LEFT + _WIDE, y + 19), PALE)
        canvas.text(name, _LEFT, y, 16, SOFT)
        canvas.text(span, _LEFT + 160, y, 16)
        canvas.text(price, _LEFT + _WIDE, y, 16, INK, 1.0)
    canvas.text(f"The shared battery is given out by the rule: {lot.rule.replace('_', ' ')}.", _LEFT, 518, 15, SOFT)


def _bought(model: SizingModel, money: Floats | None) -> tuple[float, float] | None:
    """Own capacities together and the shared one [kWh], as the bill tells them."""
    if money is None:
        return None
    lot = model.instance
    return -float(money[0, 0]) / lot.own_usd_per_kwh, -float(money[0, 1]) / lot.shared_usd_per_kwh


def _capacity(canvas: Canvas, model: SizingModel, sizes: tuple[float, float] | None) -> None:
    """Draw the capacities bought as one bar, next to what every driver would have to buy alone."""
    alone = model.separate_usd / model.instance.own_usd_per_kwh
    own, shared = sizes or (0.0, 0.0)
    high = ceiling(max(alone, own + shared))
    canvas.text("Capacity chosen [kWh]" + ("" if sizes else ": none yet"), _RIGHT, 92, 20)
    left = [_RIGHT + round(_WIDE * value / high) for value in (0.0, own, own + shared, alone)]
    canvas.box((_RIGHT, 142, _WIDE, 30), NOW)
    canvas.box((left[0], 142, left[1] - left[0], 30), BLUE)
    canvas.box((left[1], 142, left[2] - left[1], 30), GREEN)
    canvas.box((min(left[3], _RIGHT + _WIDE - 2), 136, 2, 42), INK)
    x = canvas.key(_RIGHT, 116, BLUE, f"own, together: {_amount(own)}" if sizes else "own, together")
    canvas.key(x, 116, GREEN, f"shared: {_amount(shared)}" if sizes else "shared")
    words = f"needed without sharing: {_amount(alone)}"
    canvas.text(words, left[3], 182, 15, SOFT, float(left[3] > _RIGHT + _WIDE / 2))


def _season(
    canvas: Canvas, model: SizingModel, scenario: Season, sizes: tuple[float, float] | None, over: bool
) -> None:
    """Draw what all drivers together needed on each day, once the season is over."""
    days = model.instance.season_days
    mean = float(model.law.needs.mean_kwh().sum())
    total = scenario.need_kwh[0].sum(axis=1).tolist() if over else []
    capacity = sum(sizes) if sizes else 0.0
    plot = Plot(_RIGHT, _WIDE, 276, 230, days, 0.0, ceiling(max(2.0 * mean, *total, 1.0)))
    plot.axes(canvas, "Need of all drivers together [kWh a day]", days, _ticks(plot.high))
    for day, need in enumerate(total):
        canvas.box(plot.bar(day, need), RED if need > capacity + TOLERANCE_KWH and sizes else RULE)
    if not over:
        canvas.text("not known before the decision", _RIGHT + _WIDE / 2, plot.y(mean / 2), 18, SOFT, 0.5)
    canvas.dashed([(_RIGHT, plot.y(mean)), (_RIGHT + _WIDE, plot.y(mean))], INK)
    x = canvas.key(_RIGHT, 256, INK, f"mean: {_amount(mean)}", "dashed")
    if sizes:
        if capacity <= plot.high:
            canvas.box((_RIGHT, plot.y(capacity) - 1, _WIDE, 3), GREEN)
        above = "" if capacity <= plot.high else ", above the picture"
        x = canvas.key(x, 256, GREEN, f"all capacity: {_amount(capacity)}{above}", "line")
        if any(need > capacity + TOLERANCE_KWH for need in total):
            canvas.key(x, 256, RED, "more than that")
    for day in sorted({1, max(days // 3, 1), max(2 * days // 3, 1), days}):
        canvas.text(f"{day}", (plot.x(day - 1) + plot.x(day)) / 2, 512, 15, SOFT, 0.5)
    canvas.text("day of the season", _RIGHT + _WIDE / 2, 528, 15, SOFT, 0.5)


def sizing_frame(model: SizingModel, scenario: Season, state: SizingState, money: Floats | None) -> NDArray[np.uint8]:
    """Draw the batch's first season before (t = 0) or after it (t = 1); before, nothing of the season is used.

    ``money``: (n, 4) terms of the season [$], or None. Returns (HEIGHT, WIDTH, 3). ImportError without pygame.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    lot, over = model.instance, bool(state.t[0] > 0)
    seen = model.observe(scenario, state)[0]
    who = "One driver has" if lot.drivers == 1 else f"{lot.drivers:,} drivers have"
    _head(
        canvas,
        "A battery for each, and one for all",
        f"{who} batteries of fixed sizes; whoever needs more than his own asks for a part of the shared one.",
        "After the season" if over else "Before the season",
        f"{lot.season_days} days are over" if over else f"one decision for {lot.season_days} days",
    )
    sizes = _bought(model, money)
    _needs(canvas, model, seen)
    _offers(canvas, model)
    _capacity(canvas, model, sizes)
    _season(canvas, model, scenario, sizes, over)
    row = [0.0] * len(SIZING_TERMS) if money is None else money[0].tolist()
    parts = [(name.replace("_", " "), _dollars(value)) for name, value in zip(SIZING_TERMS, row, strict=True)]
    parts.append(("sum", _dollars(sum(row))))
    hint = "separate: the price of not sharing;  missed: driver-days without enough, beyond the free ones"
    if money is None:
        _row(canvas, "Money of the season [$]: none yet", [(name, " ") for name, _ in parts], hint)
        return canvas.image()
    if lot.missed_usd > 0.0:
        hint += f": {_amount(abs(row[2]) / lot.missed_usd)}"
    _row(canvas, "Money of the season [$]", parts, hint)
    return canvas.image()


# Week of requests


def _expected(model: WeekModel) -> Floats:
    """Mean of what is asked on each day, (week_days,) [kWh]: E (f need - own)_+ = f E (need - own / f)_+."""
    own, needs = model.sizes.own_kwh, model.law.needs
    daily = [f * float(needs.mean_shortfall_kwh(own / f).sum()) for f in model.instance.weekday_factors]
    return np.array(daily)[np.arange(model.instance.week_days) % 7]


def _battery(canvas: Canvas, model: WeekModel, left: float, asked: float, nights: int) -> None:
    """Draw the shared battery and, standing next to it on the same scale, the request."""
    full = model.sizes.shared_kwh
    plot = Plot(_LEFT, 384, 136, 226, 1, 0.0, ceiling(max(full, asked)))
    plot.axes(canvas, "Shared battery and request [kWh]", 1, _ticks(plot.high))
    x, wide, base = _LEFT + 56, 110, plot.y(0.0)
    top, level = plot.y(full), plot.y(left)
    back = min(model.sizes.recharge_kwh, full - left) if nights > 0 else 0.0
    canvas.box((x + wide // 2 - 16, top - 9, 32, 9), SOFT, 0, 2)
    canvas.box((x, top, wide, base - top), WHITE)
    canvas.box((x, level, wide, base - level), BLUE)
    if back > 0.0:
        night: Box = (x, plot.y(left + back), wide, max(level - plot.y(left + back), 2))
        canvas.box(night, (214, 238, 230))
        canvas.box(night, GREEN, 2)
    canvas.box((x - 3, top - 3, wide + 6, base - top + 6), SOFT, 3, 5)
    canvas.text("battery", x + wide / 2, base + 8, 16, SOFT, 0.5)
    x += wide + 60
    if asked > 0.0:
        canvas.box((x, plot.y(asked), 76, max(base - plot.y(asked), 2)), _color(left, asked))
        canvas.dashed([(x - 57, level), (x + 90, level)], BLUE)
    canvas.text("request" if asked > 0.0 else "no request", x + 38, base + 8, 16, SOFT, 0.5)
    x = canvas.key(_LEFT, 398, BLUE, f"left: {_amount(left)} of {_amount(full)}")
    if nights > 0:
        canvas.key(x, 398, GREEN, f"comes back tonight: {_amount(back)}", "frame")
    else:
        canvas.text("the last day: nothing comes back", x, 398, 16, SOFT)


def _color(left: float, asked: float) -> Color:
    return AMBER if asked <= left + TOLERANCE_KWH else RED


def _request(canvas: Canvas, model: WeekModel, left: float, asked: float, worth: float, over: bool) -> None:
    """Say in words what is to be decided."""
    x, y = _LEFT, 430
    canvas.box((x, y, 384, 104), NOW, 0, 6)
    if over or asked <= 0.0:
        words = "The week is over." if over else "This driver's own battery is enough."
        hint = "Nothing is left to decide." if over else "There is nothing to decide; the next driver comes."
        canvas.text(words, x + 16, y + 30, 20)
        canvas.text(hint, x + 16, y + 58, 16, SOFT)
        return
    numbers = (_amount(asked), "kWh asked for"), (f"{worth:,.2f}", "$ if granted"), (f"{worth / asked:,.2f}", "$/kWh")
    for i, (value, unit) in enumerate(numbers):
        canvas.text(value, x + 16 + 130 * i, y + 16, 26)
        canvas.text(unit, x + 16 + 130 * i, y + 46, 15, SOFT)
    fits = asked <= left + TOLERANCE_KWH
    if fits:
        words = "It fits. Which share of it is granted?" if model.partial else "It fits. Granted or refused?"
    elif model.partial:
        words = f"It does not fit: {_amount(left)} kWh are left, to be granted in part."
    else:
        words = f"It does not fit: only {_amount(left)} kWh are left, so it is refused."
    canvas.text(words, x + 16, y + 74, 18, INK if fits else RED)


def _today(canvas: Canvas, model: WeekModel, scenario: Week, t: int, color: Color) -> None:
    """Draw sizes and values of today's requests up to the present one; after the end those of the last day."""
    n = model.instance.drivers
    over = t >= model.steps
    day = min(t, model.steps - 1) // n
    known = slice(day * n, min(t + 1, model.steps))
    now = n if over else t % n
    size, value = scenario.size_kwh[0, known], scenario.value_usd[0, known]
    when = "on the last day" if over else "today"
    for top, height, title, values, floor in (
        (136, 101, f"Asked for {when} [kWh]", size, 2.0 * model.sizes.mean_size_kwh),
        (274, 66, "Value of these requests [$]", value, 2.0 * model.instance.value_usd),
    ):
        plot = Plot(_RIGHT, _WIDE, top, height, n, 0.0, ceiling(max(float(values.max()), floor)))
        plot.axes(canvas, title, now, _ticks(plot.high))
        for step, amount in enumerate(values.tolist()):
            if amount > 0.0:  # seen, however small
                left, _, wide, tall = plot.bar(step, amount)
                tall = max(tall, 2)
                canvas.box((left, top + height - tall, wide, tall), color if step == now else RULE)
    x = canvas.key(_RIGHT, 116, RULE, "requests, in the order of coming")
    if not over:
        if size[-1] > 0.0:
            canvas.key(x, 116, color, "now")
        come = n - 1 - now
        words = f"{come:,} more to come today, in unknown order" if come else "nobody else comes today"
        canvas.text(words, _RIGHT + _WIDE, 347, 15, SOFT, 1.0)


def _week(canvas: Canvas, model: WeekModel, scenario: Week, t: int) -> None:
    """Draw what was asked on every day so far over what is asked on average."""
    n, days = model.instance.drivers, model.instance.week_days
    usual = _expected(model)
    known = min(t + 1, model.steps)
    asked = np.add.reduceat(scenario.size_kwh[0, :known], np.arange(0, known, n)).tolist()
    full = model.sizes.shared_kwh
    plot = Plot(_RIGHT, _WIDE, 416, 101, days, 0.0, ceiling(max(float(usual.max()), full, *asked)))
    plot.axes(canvas, "Asked for on each day [kWh]", t // n, _ticks(plot.high))
    for day, amount in enumerate(asked):
        canvas.box(plot.bar(day, amount), PURPLE)
    for day, amount in enumerate(usual.tolist()):
        left, top, wide, tall = plot.bar(day, amount)
        canvas.box((left, top, wide, tall if wide > 4 else 2), SOFT, 1)
    canvas.dashed([(_RIGHT, plot.y(full)), (_RIGHT + _WIDE, plot.y(full))], BLUE)
    for day in range(days):
        if days <= 14 or day % (7 * -(-days // 70)) == 0:
            words = _DAYS[day % 7][: 3 if days <= 7 else 1] if days <= 14 else f"{day + 1}"
            canvas.text(words, (plot.x(day) + plot.x(day + 1)) / 2, 523, 15, SOFT, 0.5)
    if days > 14:
        canvas.text("day", _RIGHT + _WIDE / 2, 540, 15, SOFT, 0.5)
    x = canvas.key(_RIGHT, 396, PURPLE, "so far")
    x = canvas.key(x, 396, SOFT, "to be expected", "frame")
    canvas.key(x, 396, BLUE, "a full shared battery", "dashed")


def _before(canvas: Canvas, model: WeekModel, scenario: Week, t: int, money: Floats | None) -> None:
    """Say what the driver before asked for and, as the money tells, what he got."""
    names = ("asked for [kWh]", "worth [$]", "answer", "service [$]")
    if money is None or t == 0:
        _row(canvas, "The driver before: none yet", [(name, " ") for name in names], "")
        return
    at = min(t, model.steps) - 1
    asked, worth = float(scenario.size_kwh[0, at]), float(scenario.value_usd[0, at])
    earned = float(money[0, 0])
    if asked <= 0.0:
        values = ["0", "0", "not needed", _dollars(earned)]
    else:
        share = earned / worth if worth > 0.0 else 0.0
        answer = "granted" if share > 1.0 - 1e-9 else "refused" if share <= 0.0 else f"{share:.0%} granted"
        values = [_amount(asked), f"{worth:,.2f}", answer, _dollars(earned)]
    _row(canvas, "The driver before", list(zip(names, values, strict=True)), "service: the money of that step")


def week_frame(model: WeekModel, scenario: Week, state: WeekState, money: Floats | None) -> NDArray[np.uint8]:
    """Draw the batch's first week at step t = state.t[0]; requests after the present one are not used.

    ``money``: (n, 1) term of the step before [$], or None. Returns (HEIGHT, WIDTH, 3). ImportError without pygame.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    lot, t, left = model.instance, int(state.t[0]), float(state.left_kwh[0])
    over = t >= model.steps
    day = min(t // lot.drivers, lot.week_days - 1)
    asked, worth = (0.0, 0.0) if over else (float(scenario.size_kwh[0, t]), float(scenario.value_usd[0, t]))
    who = "One driver comes" if lot.drivers == 1 else f"{lot.drivers:,} drivers come"
    _head(
        canvas,
        "Who gets the shared battery?",
        f"{who} once a day; what exceeds a driver's own battery he asks of the shared one.",
        "The end" if over else _DAYS[day % 7],
        f"all {lot.week_days} days are over"
        if over
        else f"driver {t % lot.drivers + 1} of {lot.drivers}, day {day + 1} of {lot.week_days}",
    )
    _battery(canvas, model, left, asked, lot.week_days - 1 - day)
    _request(canvas, model, left, asked, worth, over)
    _today(canvas, model, scenario, t, _color(left, asked))
    _week(canvas, model, scenario, t)
    _before(canvas, model, scenario, t, money)
    return canvas.image()
