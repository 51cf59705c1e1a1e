"""Paths of stored energy for convex costs of charging, exact and without a solver; compiled by numba.

The least cost of reaching an energy E is convex in E. Its derivative mu (a price of stored energy, $/kWh) is kept as
its inverse: blocks of energy, each spread evenly over an interval of mu. A step of charging or discharging adds a
block; a limit of the energy cuts blocks off at one end, and the mu of that cut is all that the way back needs.

Exact where power costs something. Where so much power is wanted that it would pay to charge and discharge at once, the
blocks of a step overlap, and only the net change is followed: such wants pass as prices settle above zero.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["approach", "best_response"]


@njit(cache=True)
def _share(level, left, right):
    """Part of a block below a level."""
    if level >= right:
        return 1.0
    return (level - left) / (right - left) if level > left else 0.0


@njit(cache=True)
def _level(amount, left, right, mass, count):
    """Level below which blocks hold an amount of energy: Newton's steps, halving where they leave the bracket."""
    low, high = left[:count].min(), right[:count].max()
    if amount >= mass[:count].sum():
        return high
    level = low
    for _ in range(200):
        held, density = 0.0, 0.0
        for k in range(count):
            if level >= right[k]:
                held += mass[k]
            elif level >= left[k]:
                spread = mass[k] / (right[k] - left[k])
                held += spread * (level - left[k])
                density += spread
        if abs(held - amount) <= 1e-14 * amount:
            break
        if held < amount:
            low = level
        else:
            high = level
        following = level + (amount - held) / density if density > 0.0 else high
        if not low < following < high:
            following = 0.5 * (low + high)
        if following == level:
            break
        level = following
    return level


@njit(cache=True)
def _path(slope, rho, wear, start, target, car, change, mu):
    """Cheapest changes of one car's energy, and prices of the energy at the ends of steps.

    Args:
        slope: (steps,) derivative of a step's cost at power 0, but for wear [$/kW].
        rho: second derivative [$/kW^2], above zero.
        wear: of a step of discharging [$/kW].
        start: energy before the first step [kWh].
        target: least energy after the last [kWh].
        car: least and largest energy [kWh], largest power [kW], efficiency, length of a step [h].
        change: (steps,) set to the changes [kWh].
        mu: (steps,) set to the prices [$/kWh].
    """
    least, most, power, eta, h = car
    steps = len(slope)
    left, right, mass = np.empty(2 * steps), np.empty(2 * steps), np.empty(2 * steps)
    lowest, highest = np.full(steps, -np.inf), np.full(steps, np.inf)
    count, base = 0, start
    down, up = power * h / eta, eta * power * h
    for t in range(steps):
        left[count], right[count] = (slope[t] - rho * power - wear) * eta / h, (slope[t] - wear) * eta / h
        left[count + 1], right[count + 1] = slope[t] / (eta * h), (slope[t] + rho * power) / (eta * h)
        mass[count], mass[count + 1] = down, up
        count, base = count + 2, base - down
        floor = least if t < steps - 1 else max(least, target)
        if base < floor:
            lowest[t] = _level(floor - base, left, right, mass, count)
            base, kept = floor, 0
            for k in range(count):
                rest = 1.0 - _share(lowest[t], left[k], right[k])
                if rest > 0.0:
                    left[kept], right[kept], mass[kept] = max(left[k], lowest[t]), right[k], mass[k] * rest
                    kept += 1
            count = kept
        excess = base + mass[:count].sum() - most
        if excess > 0.0 and count > 0:
            highest[t] = _level(most - base, left, right, mass, count)
            kept = 0
            for k in range(count):
                rest = _share(highest[t], left[k], right[k])
                if rest > 0.0:
                    left[kept], right[kept], mass[kept] = left[k], min(right[k], highest[t]), mass[k] * rest
                    kept += 1
            count = kept
    price = 0.0
    for t in range(steps - 1, -1, -1):
        price = max(min(price, highest[t]), lowest[t])
        mu[t] = price
        out = _share(price, (slope[t] - rho * power - wear) * eta / h, (slope[t] - wear) * eta / h)
        into = _share(price, slope[t] / (eta * h), (slope[t] + rho * power) / (eta * h))
        change[t] = (out - 1.0) * down + into * up


@njit(cache=True)
def _follow(change, start, target, car, energy, power):
    """Energies and powers of changes; rounding errors beyond a limit are cut off."""
    least, most, _, eta, h = car
    before = start
    for t in range(len(change)):
        floor = least if t < len(change) - 1 else max(least, target)
        after = min(max(before + change[t], floor), most)
        moved = after - before
        power[t] = moved / (eta * h) if moved > 0.0 else moved * eta / h
        energy[t] = before = after


@njit(cache=True)
def approach(wanted, rho, wear, arrive, depart, start, target, car, sweeps, power, energy):
    """Bring the cars' total power near a wanted one: each in turn does what is best given the others.

    Lowers  wear x discharge + rho / 2 sum over steps of (total - wanted)^2  in every turn.

    Args:
        wanted: (steps,) total power [kW].
        rho: weight [$/kW^2].
        wear: of a step of discharging [$/kW].
        arrive: (cars,) first step plugged in.
        depart: (cars,) step at whose start the car is gone.
        start: (cars,) energy on arrival [kWh].
        target: (cars,) least energy at departure [kWh].
        car: see ``_path``.
        sweeps: turns of every car.
        power: (steps, cars) where to begin, and the result [kW].
        energy: (steps, cars) set to the energies at the ends of steps while plugged in [kWh].
    """
    total = power.sum(axis=1)
    for _ in range(sweeps):
        for j in range(len(start)):
            a, b = arrive[j], depart[j]
            total[a:b] -= power[a:b, j]
            slope = -rho * (wanted[a:b] - total[a:b])
            change, mu = np.empty(b - a), np.empty(b - a)
            _path(slope, rho, wear, start[j], target[j], car, change, mu)
            _follow(change, start[j], target[j], car, energy[a:b, j], power[a:b, j])
            total[a:b] += power[a:b, j]


@njit(cache=True)
def best_response(prices, rho, wear, arrive, depart, start, target, car, power, energy, mu):
    """What every car does for given prices: cheapest but for a tiny curvature ``rho`` that breaks ties evenly.

    Args:
        prices: (steps,) of power [$/kW].
        rho: curvature [$/kW^2].
        wear: of a step of discharging [$/kW].
        arrive: (cars,) first step plugged in.
        depart: (cars,) step at whose start the car is gone.
        start: (cars,) energy on arrival [kWh].
        target: (cars,) least energy at departure [kWh].
        car: see ``_path``.
        power: (steps, cars) set to the powers [kW].
        energy: (steps, cars) set to the energies at the ends of steps while plugged in [kWh].
        mu: (steps, cars) set to the prices of stored energy while plugged in [$/kWh].
    """
    for j in range(len(start)):
        a, b = arrive[j], depart[j]
        change = np.empty(b - a)
        _path(prices[a:b].copy(), rho, wear, start[j], target[j], car, change, mu[a:b, j])
        _follow(change, start[j], target[j], car, energy[a:b, j], power[a:b, j])
