"""What the published route needs beside its cone program: replays, its valid inequalities, and where it applies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, require
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import Game

__all__ = ["VALID_INEQUALITIES", "check_reach", "evaluate", "flow_ranges"]

Floats = NDArray[np.float64]
VALID_INEQUALITIES = ("none", "published", "extremes")
_MARGIN = 1e-7  # bounds that meet, as in periods without influence on each other, must not shut the solver out


def evaluate(game: Game, rebate_usd_per_h: Floats) -> tuple[Floats, Floats, Floats]:
    """Objective (n,), flows (n, A) and largest allowed bids (n, T) [kW] of n rebate schedules (n, T) [$/h].

    The objective is the game's own: profit [$ per day], or for the owner "drivers" their utility + profit / (kappa M)
    [$ per driver], -inf where the profit is negative.
    """
    arcs = arcs_of(game.classes)
    rebate = array("rebate_usd_per_h", rebate_usd_per_h, (None, game.periods)) * game.step_h
    answer = respond(arcs, rebate)
    plugged = np.zeros((len(rebate), game.periods, len(arcs.share)))
    for a in np.flatnonzero(arcs.period >= 0):
        plugged[:, arcs.period[a], arcs.group[a]] += answer.flow[:, a]
    bid = allowed_bid(plugged, arcs.share, coefficients(game), game.variant == "rigorous")
    income = game.step_h * bid @ np.array(game.price_usd_per_kw)
    profit = income - game.drivers * np.sum(rebate * (plugged @ arcs.share), axis=1)
    if game.owner == "platform":
        return profit, answer.flow, bid
    welfare = answer.value @ arcs.share + profit / (game.kappa * game.drivers)
    return np.asarray(np.where(profit >= 0.0, welfare, -np.inf)), answer.flow, bid


def flow_ranges(game: Game, kind: str) -> Floats:
    """Lower and upper bounds of all flows, (2, A); those of arcs that are no charging arcs are 0 and 1.

    "published": y_t at the best s_t when all other rebates are the lowest, and when all others are the highest (the
    slides' "computational enhancement", read literally). It can cut off every optimum: use it for comparison only.
    "extremes": y_t when all rebates are the lowest, and when all are the highest; valid if every charging flow rises in
    every rebate (hours are complements), which is a property of a network and its utilities, and not general: trips
    that overlap can make one hour's rebate draw drivers away from another.
    """
    require(kind in VALID_INEQUALITIES, "valid_inequalities", kind, " or ".join(VALID_INEQUALITIES))
    period = arcs_of(game.classes).period
    ranges = np.vstack([np.zeros(len(period)), np.ones(len(period))])
    last = game.levels[game.choices - 1]
    for row, others in zip(ranges, (np.full(game.periods, game.levels[0]), last), strict=True):
        for t in range(game.periods if kind != "none" else 0):
            options = game.levels[: game.choices[t]] if kind == "published" else others[t : t + 1]
            rebate = np.tile(others, (len(options), 1))
            rebate[:, t] = options
            value, flow, _ = evaluate(game, rebate)
            row[period == t] = flow[int(np.argmax(value))][period == t]
    return np.asarray(np.clip(ranges + np.array([[-_MARGIN], [_MARGIN]]), 0.0, 1.0))


def check_reach(game: Game) -> None:
    """Raise InvalidInputError for a game that the published mixed-integer cone program does not describe.

    It needs the published spread (the rigorous one is no quadratic above y = 1/2), one charging arc per class and
    period (the spread of a sum of flows would have to be bounded from below, which no cone does), and condition (4) of
    the bid never better than (3): with the published spread, if beta_4 backward >= beta_3 forward, as beta_4 >= beta_3
    for eta < 1/2.
    """
    require(game.variant == "published", "variant", game.variant, "published: the rigorous spread is no cone")
    arcs = arcs_of(game.classes)
    plugged = arcs.period >= 0
    pairs = np.unique(np.column_stack([arcs.period, arcs.group])[plugged], axis=0)
    require(len(pairs) == plugged.sum(), "charging arcs", int(plugged.sum()), f"{len(pairs)}, one per class and period")
    for j, each in enumerate(game.requirements):
        third, fourth = np.sqrt(-2.0 * np.log(each.eta)), (1.0 / each.eta - 1.0) * np.sqrt(-2.0 * np.log1p(-each.eta))
        low = float(third * each.forward / fourth)
        require(
            each.backward >= low * (1.0 - 1e-12),
            f"backward deviation of requirement {j}",
            each.backward,
            f"at least {low:g}, where condition (4) is never better than (3)",
        )
