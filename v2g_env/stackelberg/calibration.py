"""Utilities under which drivers behave as observed: inverse optimisation in closed form.

With node prices rho the persistency flow y of a network with deviations sigma has (see ``follower``)

    mu_a = sigma_a (2 y_a - 1) / (2 sqrt(y_a (1 - y_a))) + rho_tail - rho_head

for every arc, so any observed unit flow is met exactly, for any positive sigma and any rho. Node prices cannot be
identified: they shift the utility of all paths alike, and behaviour under every rebate stays the same. The default is
rho = 0 at all nodes; mean utilities are therefore relative, and can be negative. Deviations are not identified either:
with one sigma for all arcs, utilities scale with it, and it says how far a rebate of one dollar goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number
from v2g_env.stackelberg.network import Network

__all__ = ["SHARE_RANGE", "calibrate", "default_deviation"]

SHARE_RANGE = (0.001, 0.999)  # shares nearer to 0 or 1 ask for utilities of unlimited size
_RELATIVE_DEVIATION = 0.00097
_ROUNDING = 1e-9  # shares and their limits may differ by rounding; node balances too


def default_deviation(baseline_utility_usd: float = 200.0) -> float:
    """Return the deviation of an hourly arc's utility that goes with a baseline utility of the day [$].

    The factor .00097 is ours: of all scales it brings the gain from rebates nearest to the published one (Tang and Mak
    2024: 4.4 % at 200 $).

    Raises:
        InvalidInputError: unless the baseline utility is positive.
    """
    number("baseline_utility_usd", baseline_utility_usd, 0.0, 1e9, open_low=True)
    return _RELATIVE_DEVIATION * float(baseline_utility_usd)


def calibrate(
    tail: Sequence[int],
    head: Sequence[int],
    period: Sequence[int],
    source: int,
    sink: int,
    flow: ArrayLike,
    deviation_usd: ArrayLike,
    node_price: ArrayLike | None = None,
) -> Network:
    """Return the network whose drivers, without rebates, spread over the arcs as observed.

    Args:
        tail: the arcs' first nodes, (A,), as all of the following as in ``Network``.
        head: their second nodes, (A,).
        period: rebate periods, (A,), -1 for arcs without rebate.
        source: where every path begins.
        sink: where every path ends.
        flow: observed share of drivers on each arc, (A,). Shares are clipped to [.001, .999], after which they must be
            a unit flow from source to sink: leave out arcs that nobody takes, and contract arcs that all take.
        deviation_usd: standard deviation of the arcs' utilities, one number or (A,), positive [$].
        node_price: rho, (nodes,) [$]; None: all 0. Changes no behaviour.

    Raises:
        InvalidInputError: for a bad network, shares that are no unit flow within [.001, .999] or bad deviations.
    """
    arcs = len(tail)
    observed = array("flow", flow, (arcs,), 0.0, 1.0)
    shares: NDArray[np.float64] = np.clip(observed, *SHARE_RANGE)
    deviation = array("deviation_usd", deviation_usd, (arcs,) if np.ndim(deviation_usd) else (), 0.0, 1e9)
    spread = np.full(arcs, deviation)
    plain = Network(tuple(tail), tuple(head), (0.0,) * arcs, tuple(spread.tolist()), tuple(period), source, sink)
    off = np.flatnonzero(np.abs(shares - observed) > _ROUNDING)
    name = f"flow (clipped to [{SHARE_RANGE[0]:g}, {SHARE_RANGE[1]:g}]; outside: {len(off)} arcs, {off[:5].tolist()})"
    plain.check_flow(shares, name if len(off) else "flow")
    price = np.zeros(plain.nodes) if node_price is None else array("node_price", node_price, (plain.nodes,), -1e9, 1e9)
    mean = spread * (2.0 * shares - 1.0) / (2.0 * np.sqrt(shares * (1.0 - shares)))
    mean = mean + price[list(plain.tail)] - price[list(plain.head)]
    return Network(plain.tail, plain.head, tuple(mean.tolist()), plain.deviation_usd, plain.period, source, sink)
