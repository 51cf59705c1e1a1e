"""Pictures of the network: a frame is a pure function of what may be known at the start of a step."""

from __future__ import annotations

from typing import NamedTuple

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
    Canvas,
    Color,
    Plot,
    ceiling,
)
from v2g_env.scheduling.kernels import State
from v2g_env.scheduling.model import REWARD_TERMS, SCALE_KW, Model
from v2g_env.scheduling.scenario import Scenario
from v2g_env.scheduling.weather import expected_power

__all__ = ["HEIGHT", "WIDTH", "frame"]

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 1000, 680
_LEFT, _WIDE = 70, 560  # axes on the left [px]
_RIGHT, _NARROW = 716, 246  # and on the right
_CLOUD = (196, 222, 240)  # one standard deviation around the expected wind
_TICKS_H = (1 / 12, 1 / 6, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0)


class _Before(NamedTuple):
    """The step before [kW], as the generator, the homes and the bill tell it.

    Attributes:
        sources, uses: name, power and colour of what was stacked to either side of the balance.
        missing_kwh, overload_kwh: what violated; None where the price is zero and the bill tells nothing.
    """

    sources: list[tuple[str, float, Color]]
    uses: list[tuple[str, float, Color]]
    missing_kwh: float | None
    overload_kwh: float | None


def _before(model: Model, scenario: Scenario, state: State, money: Floats) -> _Before:
    """Read the step before off the bill; wind and cars are left out where a price of zero hides them."""
    lot, t = model.instance, min(int(state.t[0]), model.steps)
    paid = dict(zip(REWARD_TERMS, (-money[0]).tolist(), strict=True))

    def told(term: float, price: float) -> float | None:
        return term / price if price > 0.0 else None

    missing = told(paid["emergency"], lot.emergency_usd_per_kwh)
    given = told(paid["wear"] + paid["subsidy"], lot.wear_usd_per_kwh + lot.subsidy_usd_per_kwh)
    wind = told(paid["wind"], lot.wind_usd_per_kwh)
    gas, homes = float(state.gas_kw[0]), float(scenario.load_kw[0, t].sum())
    sources: list[tuple[str, float, Color]] = [("gas", gas, AMBER)]
    uses: list[tuple[str, float, Color]] = [("homes", homes, SOFT)]
    if missing is not None and given is not None and wind is not None:
        parts = (("wind used", wind, BLUE), ("from cars", given, GREEN), ("missing", missing, RED))
        sources += [(name, energy / lot.step_h, color) for name, energy, color in parts]
        spilled = wind <= 1e-9 and missing <= 1e-9 and float(scenario.wind_kw[0, t].sum()) > 0.0
        left = sum(power for _, power, _ in sources) - homes
        uses.append(("to cars, spilled" if spilled else "to cars", max(left, 0.0), PURPLE))
    return _Before(sources, uses, missing, told(paid["overload"], lot.overload_usd_per_kwh))


def _time(hour: float) -> str:
    return "{:02d}:{:02d}".format(*divmod(round(hour * 60.0) % 1440, 60))


def _ticks(high: float) -> dict[float, str]:
    return {0.0: "0", high / 2: f"{high / 2:g}", high: f"{high:g}"}


def _stairs(canvas: Canvas, plot: Plot, values: Floats, color: Color) -> None:
    points = [(plot.x(end), plot.y(value)) for s, value in enumerate(values.tolist()) for end in (s, s + 1)]
    if points:
        canvas.pygame.draw.lines(canvas.surface, color, False, points, 2)


def _curve(plot: Plot, first: int, values: Floats) -> list[tuple[int, int]]:
    """Points in the middles of the steps from ``first`` on, level to the start of the first and the end of the last."""
    at = [float(first), *(np.arange(len(values)) + first + 0.5).tolist(), float(plot.steps)]
    level = [values[0], *values.tolist(), values[-1]]
    return [(plot.x(step), plot.y(value)) for step, value in zip(at, level, strict=True)]


def _expected(model: Model, scenario: Scenario, known: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of all turbines' power, (steps - known,) each [kW]."""
    lot = model.instance
    mean, sd = expected_power(lot, scenario.forecast[:1], scenario.news[:1], known)
    alone, together = (sd[0] ** 2).sum(axis=-1), sd[0].sum(axis=-1) ** 2
    return mean[0].sum(axis=-1), np.sqrt((1.0 - lot.wind_common) * alone + lot.wind_common * together)


def _day(canvas: Canvas, model: Model, scenario: Scenario, t: int) -> None:
    """Draw load and wind as they were, then as they are expected."""
    lot = model.instance
    known = min(t + 1 - lot.gate_closure_steps, lot.steps)
    load, wind = scenario.load_kw[0, 1 : known + 1].sum(axis=1), scenario.wind_kw[0, 1 : known + 1].sum(axis=1)
    ahead = lot.load_mean_kw[known:].sum(axis=1)
    top = max(lot.turbine_kw * lot.turbines, float(lot.load_mean_kw.sum(axis=1).max()), *load.tolist())
    plot = Plot(_LEFT, _WIDE, 136, 190, lot.steps, 0.0, ceiling(top))
    plot.axes(canvas, "Homes and wind [kW]", t, _ticks(plot.high))
    for s, power in enumerate(wind.tolist()):
        canvas.box(plot.bar(s, power), BLUE)
    if known < lot.steps:
        mean, sd = _expected(model, scenario, known)
        upper, lower = np.minimum(mean + sd, lot.turbine_kw * lot.turbines), np.maximum(mean - sd, 0.0)
        edge = _curve(plot, known, upper) + _curve(plot, known, lower)[::-1]
        canvas.pygame.draw.polygon(canvas.surface, _CLOUD, edge)
        canvas.dashed(_curve(plot, known, mean), BLUE)
        canvas.dashed(_curve(plot, known, ahead), INK)
    _stairs(canvas, plot, load, INK)
    x = canvas.key(_LEFT, 116, INK, "homes", "line")
    x = canvas.key(x, 116, BLUE, "wind there was")
    x = canvas.key(x, 116, INK, "homes expected", "dashed")
    x = canvas.key(x, 116, BLUE, "wind expected", "dashed")
    canvas.key(x, 116, _CLOUD, "one standard deviation")
    _hours(canvas, plot, model)


def _hours(canvas: Canvas, plot: Plot, model: Model) -> None:
    lot, base = model.instance, plot.top + plot.height
    span = lot.steps * lot.step_h
    tick = next((tick for tick in _TICKS_H if span / tick <= 9.0), 24.0 * np.ceil(span / 24.0 / 9.0))
    first = int(np.ceil(lot.start_h / tick - 1e-9))
    for i in range(first, int(np.floor((lot.start_h + span) / tick + 1e-9)) + 1):
        x = plot.x((i * tick - lot.start_h) / lot.step_h)
        canvas.line((x, base), (x, base + 4), RULE)
        canvas.text(_time(i * tick), x, base + 7, 15, SOFT, 0.5)
    canvas.text("time of day", plot.left + plot.wide / 2, base + 23, 15, SOFT, 0.5)


def _balance(canvas: Canvas, before: _Before | None) -> None:
    """Draw the step before: what gave power, and next to it what took it."""
    sides = [] if before is None else [before.sources, before.uses]
    high = ceiling(max([sum(power for _, power, _ in side) for side in sides], default=1.0))
    plot = Plot(_RIGHT, _NARROW, 136, 190, 1, 0.0, high)
    plot.axes(canvas, "Step before [kW]" + (": none yet" if before is None else ""), 1, _ticks(high) if sides else {})
    for k, side in enumerate(sides):
        x, level, lowest = _RIGHT + 8 + 124 * k, 0.0, 400
        for name, power, color in side:
            top = plot.y(level + power)
            canvas.box((x, top, 34, plot.y(level) - top), color)
            level += power
            if power >= 0.5:
                lowest = min((top + plot.y(level - power)) // 2 - 5, lowest - 28)
                canvas.text(name, x + 40, lowest - 6, 15, SOFT)
                canvas.text(f"{power:,.0f}", x + 40, lowest + 7, 16)
        canvas.text(("given", "taken")[k], x + 17, 333, 15, SOFT, 0.5)


def _cars(canvas: Canvas, model: Model, scenario: Scenario, state: State) -> None:
    """Draw, for every aggregator, the energy of the cars plugged in, what they still need, and their capacity."""
    lot, t = model.instance, int(state.t[0])
    here = (scenario.arrive[0] <= t) & (t < scenario.depart[0])
    energy = np.where(here, state.energy_kwh[0], 0.0)
    need = np.where(here, np.maximum(scenario.target_kwh[0] - energy, 0.0), 0.0)
    names = (here.astype(float), energy, need)
    count, stored, missing = (np.bincount(lot.owner, weights=part, minlength=lot.aggregators) for part in names)
    room = count * lot.energy_range_kwh[1]
    fleet = np.bincount(lot.owner, minlength=lot.aggregators).max(initial=0) * lot.energy_range_kwh[1]
    plot = Plot(_LEFT, _WIDE, 424, 94, lot.aggregators, 0.0, ceiling(max(float(fleet), 1e-9)))
    plot.axes(canvas, "Cars plugged in, by aggregator [kWh]", lot.aggregators, _ticks(plot.high))
    for a in range(lot.aggregators):
        left, _, wide, _ = plot.bar(a, plot.high)
        gap = wide // 5
        left, wide = left + gap, max(wide - 2 * gap, 1)
        levels = [plot.y(value) for value in (0.0, stored[a], stored[a] + missing[a], room[a])]
        for k, color in enumerate((GREEN, PURPLE)):
            canvas.box((left, levels[k + 1], wide, levels[k] - levels[k + 1]), color)
        canvas.box((left, levels[3], wide, levels[0] - levels[3]), SOFT, 1)
        if lot.aggregators <= 12:
            cars = f"{count[a]:.0f} car" + ("" if count[a] == 1 else "s")
            canvas.text(cars, left + wide / 2, 523, 15, SOFT, 0.5)
    x = canvas.key(_LEFT + 286, 400, GREEN, "stored")
    x = canvas.key(x, 400, PURPLE, "still needed")
    canvas.key(x, 400, SOFT, "all they may hold", "frame")
    come = int((scenario.arrive[0] > t).sum())
    words = f"{here.sum()} of {lot.cars} cars are plugged in; {come} have not come yet."
    canvas.text("All cars have left." if t >= lot.steps else words, _LEFT, 543, 15, SOFT)


def _now(canvas: Canvas, model: Model, scenario: Scenario, state: State, before: _Before | None) -> None:
    """Say what is to be covered now, how far generator and cars reach, and whether the step before failed."""
    lot, t = model.instance, int(state.t[0])
    canvas.text("To be set now [kW]" if t < lot.steps else "The day is over", _RIGHT - 46, 396, 20)
    if t < lot.steps:
        seen = model.observe(scenario, state)[0].astype(np.float64) * SCALE_KW
        layout = model.observation_layout
        net = float(seen[layout["load_ahead"]][0] - seen[layout["wind_ahead"]][0])
        gas, ramp = float(state.gas_kw[0]), lot.gas_ramp_kw
        idle, up, down = (float(seen[model.columns(name)].sum()) for name in ("idle", "up", "down"))
        rows = (
            ("expected: homes - wind", f"{net:,.0f}"),
            ("generator can give", f"{max(gas - ramp, 0.0):,.0f} to {min(gas + ramp, lot.gas_max_kw):,.0f}"),
            ("cars can take", f"{idle - down:,.0f} to {idle + up:,.0f}".replace("-0 ", "0 ")),
        )
        for i, (name, words) in enumerate(rows):
            y = 426 + 24 * i
            canvas.line((_RIGHT - 46, y + 19), (_RIGHT + _NARROW, y + 19), PALE)
            canvas.text(name, _RIGHT - 46, y, 16, SOFT)
            canvas.text(words, _RIGHT + _NARROW, y, 16, INK, 1.0)
    if before is None:
        return
    pairs = ((before.missing_kwh, "kWh missing"), (before.overload_kwh, "kWh above line limits"))
    bad = [f"{energy:,.2f} {words}" for energy, words in pairs if energy is not None and energy > 1e-5]
    hidden = any(energy is None for energy, _ in pairs)
    good = "not told, as its price is zero" if hidden else "no violation"
    words = "Step before: " + (", ".join(bad) or good)
    canvas.box((_RIGHT - 46, 510, _NARROW + 46, 34), NOW, 0, 6)
    if bad:
        canvas.box((_RIGHT - 46, 510, 6, 34), RED)
    canvas.text(words, _RIGHT - 34, 521, 16, RED if bad else INK)


def _money(canvas: Canvas, money: Floats | None) -> None:
    canvas.line((24, 568), (WIDTH - 24, 568), RULE)
    canvas.text("Money of the step before [$]" + (": none yet" if money is None else ""), 24, 582, 20)
    hint = "reference: what a step costs on average without V2G;  wind: maintenance"
    canvas.text(hint, WIDTH - 24, 585, 15, SOFT, 1.0)
    row = [0.0] * len(REWARD_TERMS) if money is None else money[0].tolist()
    for i, (name, value) in enumerate([*zip(REWARD_TERMS, row, strict=True), ("sum", sum(row))]):
        x = 24 + 119 * (i + 1)
        canvas.text(name, x, 614, 16, SOFT, 1.0)
        words = f"{value:+,.2f}" if abs(value) >= 0.005 else "0"
        canvas.text(" " if money is None else words, x, 636, 20, INK, 1.0)


def frame(model: Model, scenario: Scenario, state: State, money: Floats | None) -> NDArray[np.uint8]:
    """Draw the batch's first day at the start of step t = state.t[0]; nothing that is known only later is used.

    ``money``: (n, 7) terms of the step before [$], or None. Returns (HEIGHT, WIDTH, 3). ImportError without pygame.
    """
    canvas = Canvas(WIDTH, HEIGHT)
    lot, t = model.instance, int(state.t[0])
    begin, over = lot.start_h + t * lot.step_h, t >= lot.steps
    canvas.text("Scheduling of a V2G network", 24, 20, 30)
    words = "A generator, wind and the cars' batteries cover the homes; cars leave with what their owners want."
    canvas.text(words, 24, 50, 16, SOFT)
    clock = f"{_time(begin)}, the end" if over else f"{_time(begin)} to {_time(begin + lot.step_h)}"
    canvas.text(clock, WIDTH - 24, 20, 30, INK, 1.0)
    progress = f"after the last of {lot.steps} steps" if over else f"start of step {t + 1} of {lot.steps}"
    canvas.text(progress, WIDTH - 24, 50, 16, SOFT, 1.0)
    before = None if money is None or t == 0 else _before(model, scenario, state, money)
    _day(canvas, model, scenario, min(t, lot.steps))
    _balance(canvas, before)
    _cars(canvas, model, scenario, state)
    _now(canvas, model, scenario, state, before)
    _money(canvas, money)
    return canvas.image()
