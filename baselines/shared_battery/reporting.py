"""What a driver gains by lying: best reports under every allocation rule, and mechanisms in which truth is best.

On a day drivers lack q_i kWh and report r_i; a rule of core.allocation shares s among the reports. What a driver gets
is worth

    energy: v_i min(a_i, q_i), every kWh up to what he lacks;   service: v_i q_i if a_i >= q_i, else nothing,

less a payment. Against truthful others the best report of one driver is found among the reports at which a rule can
change what he gets: his own lack, the others' reports and the reports at which his share meets his lack. Max-min
sharing cannot be gained from with worth per kWh (Sprumont, The Division Problem with Single-Peaked Preferences, 1991);
proportional sharing can, by whoever overstates.

Truth is best with Clarke's payments: for energy as in core.payments; for service, all or nothing, on the exact knapsack
of reported sizes and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.games.normal_form import NormalForm
from v2g_env.core.allocation import ORDERED, RULES, allocate
from v2g_env.core.validate import array, number, require
from v2g_env.metrics import mean_interval

__all__ = [
    "WORTHS",
    "Lie",
    "Manipulability",
    "best_lie",
    "knapsack",
    "manipulability",
    "reporting_form",
    "service_clarke",
    "worth_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WORTHS = ("energy", "service")
_HAIR = 1e-9  # kWh by which a report undercuts another
_MOST_STATES = 2_000_000


class Manipulability(NamedTuple):
    """How much drivers gain by lying about what they lack, under one rule.

    Attributes:
        rule, worth: what was played.
        mean_gain_usd, low_usd, high_usd: mean gain of a driver on a day [$], and its 95 % limits over days.
        largest_usd: largest gain of a driver on a day [$].
        gaining_share: share of driver-days with a lack on which lying gains something.
        mean_truth_usd: mean worth of the truth to a driver on a day [$].
    """

    rule: str
    worth: str
    mean_gain_usd: float
    low_usd: float
    high_usd: float
    largest_usd: float
    gaining_share: float
    mean_truth_usd: float


class Lie(NamedTuple):
    """A driver's best report on a day, and what it is worth beyond the truth [kWh, $]."""

    report_kwh: float
    gain_usd: float


def worth_of(worth: str, given: Floats, lack: Floats, value: Floats) -> Floats:
    """What energy (..., n) is worth to drivers that lack (..., n) [$]; value per kWh."""
    if worth == "energy":
        return np.asarray(value * np.minimum(given, lack))
    return np.asarray(np.where(given >= lack - _HAIR * (1.0 + lack), value * lack, 0.0))


def best_lie(
    rule: str,
    worth: str,
    lack: ArrayLike,
    driver: int,
    shared_kwh: float,
    value_usd_per_kwh: float = 1.0,
    most_kwh: float | None = None,
    order: Ints | None = None,
) -> Lie:
    """Best report of one driver, the others truthful.

    Args:
        rule: one of core.allocation.RULES.
        worth: "energy" or "service".
        lack: (n,) what drivers lack [kWh].
        driver: who may lie.
        shared_kwh: what there is.
        value_usd_per_kwh: of what he gets.
        most_kwh: largest report that is believed; None: ten times the largest lack.
        order: (n,) permutation along which an ordered rule serves.

    Raises:
        InvalidInputError: for an unknown rule or worth, or numbers out of range.
    """
    require(rule in RULES, "rule", rule, ", ".join(RULES))
    require(worth in WORTHS, "worth", worth, ", ".join(WORTHS))
    needs = array("lack", lack, (None,), 0.0)
    number("driver", driver, 0, len(needs) - 1, integer=True)
    number("shared_kwh", shared_kwh, 0.0)
    top = 10.0 * float(needs.max()) if most_kwh is None else most_kwh
    number("most_kwh", top, 0.0)
    own, others = float(needs[driver]), np.delete(needs, driver)
    places = [own, 0.0, top, shared_kwh, *others, *(others - _HAIR), *(others + _HAIR)]
    lines = np.arange(len(needs)) if order is None else np.asarray(order)
    for served in (np.sort(others), needs[lines[: int(np.argmax(lines == driver))]]):
        places += _left(served, shared_kwh)
    rest = float(others.sum())
    if shared_kwh > own:  # proportional: the report whose share is just what he lacks
        places += [own * rest / (shared_kwh - own), own * rest / (shared_kwh - own) + _HAIR]
    reports = np.unique(np.clip(places, 0.0, top))
    days = np.tile(needs, (len(reports) + 1, 1))
    days[1:, driver] = reports
    given = allocate(rule, days, shared_kwh, np.tile(lines, (len(days), 1)) if rule in ORDERED else None)[:, driver]
    found = worth_of(worth, given, np.full(len(days), own), np.full(len(days), value_usd_per_kwh))
    best = int(found[1:].argmax())
    return Lie(float(reports[best]), float(max(found[1 + best] - found[0], 0.0)))


def _left(served: Floats, shared_kwh: float) -> list[float]:
    """What is left after some were served along a line, partly or skipped [kWh]."""
    found, plain, skipping = [], shared_kwh, shared_kwh
    for lack in served.tolist():
        plain = max(plain - lack, 0.0)
        skipping = skipping - lack if lack <= skipping else skipping
        found += [plain, skipping]
    return found


def manipulability(
    lack: ArrayLike, shared_kwh: float, worth: str, seed: int = 0, rules: Sequence[str] = RULES, most: float = 3.0
) -> list[Manipulability]:
    """How much drivers gain by lying while the others are truthful, by rule.

    Args:
        lack: (m, n) what drivers lack on m days [kWh].
        shared_kwh: what there is on each.
        worth: "energy" or "service", 1 $ a kWh.
        seed: of the orders of ordered rules.
        rules: to be compared.
        most: largest report that is believed, as a multiple of the day's largest lack.
    """
    needs = array("lack", lack, (None, None), 0.0)
    number("most", most, 1.0, 1e6)
    m, n = needs.shape
    rng = np.random.default_rng(seed)
    orders = np.argsort(rng.random((m, n)), axis=1)
    rows = []
    for rule in rules:
        gains = np.zeros((m, n))
        for day in range(m):
            top = most * float(needs[day].max())
            for i in range(n):
                if needs[day, i] > 0.0:
                    gains[day, i] = best_lie(rule, worth, needs[day], i, shared_kwh, 1.0, top, orders[day]).gain_usd
        truth = worth_of(worth, allocate(rule, needs, shared_kwh, orders), needs, np.ones((m, n)))
        spread = mean_interval(gains.mean(axis=1))
        some = needs > 0.0
        share = float((gains[some] > 1e-6).mean()) if some.any() else 0.0
        rows.append(Manipulability(rule, worth, *spread, float(gains.max()), share, float(truth.mean())))
    return rows


def knapsack(value: ArrayLike, size: ArrayLike, room: float) -> NDArray[np.bool_]:
    """Exact choice (n,) of whole requests that fit into ``room`` with the largest value.

    States that are larger and worth no more than another are dropped (Nemhauser and Ullmann 1969).

    Raises:
        InvalidInputError: for negative numbers or NaN, or an instance with more than two million states.
    """
    worth, sizes = array("value", value, (None,), 0.0), array("size", size, (None,), 0.0)
    require(len(worth) == len(sizes), "length of size", len(sizes), str(len(worth)))
    number("room", room, 0.0)
    used, earned = np.zeros(1), np.zeros(1)
    steps: list[tuple[NDArray[np.bool_], Ints]] = []
    for v, w in zip(worth, sizes, strict=True):
        both = np.concatenate([used, used + w]), np.concatenate([earned, earned + v])
        taken = np.repeat([False, True], len(used))
        parent = np.tile(np.arange(len(used)), 2)
        order = np.lexsort((-both[1], both[0]))
        order = order[both[0][order] <= room + _HAIR]
        best = np.maximum.accumulate(np.concatenate([[-1.0], both[1][order][:-1]]))
        kept = order[both[1][order] > best]
        require(len(kept) <= _MOST_STATES, "states of the knapsack", len(kept), f"at most {_MOST_STATES}")
        steps.append((taken[kept], parent[kept]))
        used, earned = both[0][kept], both[1][kept]
    chosen, at = np.zeros(len(worth), bool), len(used) - 1
    for i in range(len(worth) - 1, -1, -1):
        taken, parent = steps[i]
        chosen[i], at = bool(taken[at]), int(parent[at])
    return chosen


def service_clarke(value: ArrayLike, size: ArrayLike, room: float) -> tuple[NDArray[np.bool_], Floats]:
    """Served drivers (n,) and Clarke payments (n,) [$] of the exact knapsack: sizes and values are best told truly.

    A driver who understates his size is not served by it, and one who overstates it pays for more room.
    """
    worth = array("value", value, (None,), 0.0)
    sizes = array("size", size, (len(worth),), 0.0)
    chosen = knapsack(worth, sizes, room)
    paid = np.zeros(len(worth))
    total = float(worth[chosen].sum())
    for i in np.flatnonzero(chosen):
        others = np.delete(worth, i), np.delete(sizes, i)
        without = float(others[0][knapsack(*others, room)].sum())
        paid[i] = max(without - (total - worth[i]), 0.0)
    return chosen, paid


def reporting_form(
    rule: str, worth: str, lack: ArrayLike, shared_kwh: float, factors: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0)
) -> NormalForm:
    """The reporting game of few drivers as a table: everybody multiplies what he lacks by a factor, on all days.

    Args:
        rule: of core.allocation, without an order.
        worth: "energy" or "service", 1 $ a kWh.
        lack: (m, n) what drivers lack on m days [kWh]; payoffs are means over them.
        shared_kwh: what there is.
        factors: strategies of every driver, 1 the truth.
    """
    require(rule in RULES and rule not in ORDERED, "rule", rule, ", ".join(r for r in RULES if r not in ORDERED))
    require(worth in WORTHS, "worth", worth, ", ".join(WORTHS))
    needs, chosen = array("lack", lack, (None, None), 0.0), array("factors", factors, (None,), 0.0)
    n, k = needs.shape[1], len(chosen)
    number("cells", float(k) ** n * n, 0.0, 1e6)
    table = np.empty((*(k,) * n, n))
    for cell in np.ndindex(*(k,) * n):
        given = allocate(rule, needs * chosen[list(cell)], shared_kwh)
        table[cell] = worth_of(worth, given, needs, np.ones_like(needs)).mean(axis=0)
    names = [f"{factor:g}x" for factor in chosen]
    return NormalForm(table, [f"driver {i}" for i in range(n)], [names] * n)
