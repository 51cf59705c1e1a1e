"""What a policy can know in the morning, and what a day is worth under given rebates: shared by policies and bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.stackelberg.programs import Solution, solve
from v2g_env.core.validate import number, require
from v2g_env.stackelberg.bids import allowed_bid
from v2g_env.stackelberg.follower import Arcs, arcs_of, respond
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance, plugged_shares
from v2g_env.stackelberg.kernels import PRICE_LOG
from v2g_env.stackelberg.model import Model

__all__ = ["DaySolver", "Days", "Morning", "highest_bid_kw", "read_morning"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Seen = NDArray[np.float32]


class Morning(NamedTuple):
    """What n observations say about the day that begins.

    Attributes:
        price: (n, 24) price of every hour [$/kW per hour], to single precision; cut at e^-4 and e^4 mean prices.
        weekend: (n,) whether it is a weekend.
        plug: (n,) index of the plugged share; -1 where it is not announced.
    """

    price: Floats
    weekend: NDArray[np.bool_]
    plug: Ints


def read_morning(model: Model, observation: Seen) -> Morning:
    """Prices, day type and plugged share from observations (n, d)."""
    seen = np.atleast_2d(observation)
    place = model.observation_layout
    log = seen[:, place["price"]].astype(np.float64) - PRICE_LOG
    plug = np.full(len(seen), -1, np.int64)
    if model.instance.announced:
        shares = np.array(model.instance.plug_shares)
        plug[:] = np.abs(seen[:, place["plug_share"]] - shares).argmin(axis=1)
    return Morning(model.constants.mean_price * np.exp(log), seen[:, place["weekend"]][:, 0] > 0.5, plug)


def highest_bid_kw(instance: Instance) -> float:
    """No certified bid is higher, whatever the number of plugged cars: C <= psi M / mean ratio [kW]."""
    return min(each.power_kw * instance.drivers / each.mean for each in instance.requirements)


class Days:
    """Profits of days by the model, all delivered and no habits: the objective of the day's game, batched.

    Args:
        model: of the environment.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        lot = model.instance
        self._nets: list[Arcs] = [
            arcs_of(lot.game(None, weekend, share).classes) for weekend in (False, True) for share in lot.plug_shares
        ]

    def kind(self, weekend: NDArray[np.bool_], plug: Ints) -> Ints:
        """Number (n,) of the network of days with these day types and indices of the plugged share."""
        return weekend.astype(np.int64) * len(self.model.instance.plug_shares) + plug

    def response(self, kind: int, rebates: Floats) -> tuple[Floats, Floats]:
        """Plugged shares (n, T) and certified bids (n, T) [kW] under rebates (n, T) [$/h] in network ``kind``."""
        lot, net, c = self.model.instance, self._nets[kind], self.model.constants
        nodes = net.nodes
        start = c.node_price[kind, :nodes] + rebates @ c.node_slope[kind, :nodes].T
        flow = respond(net, rebates * lot.step_h, start).flow
        share = np.stack([plugged_shares(net.period, row, lot.periods) for row in flow])
        return share, allowed_bid(share[:, :, None], np.ones(1), c.coef, c.rigorous)

    def profit(self, kind: Ints, price: Floats, rebates: Floats) -> Floats:
        """Profit (n,) [$] of days of these kinds (n,), hourly prices (n, 24) and rebates (n, T) [$/h]."""
        lot = self.model.instance
        result = np.empty(len(rebates))
        for k in np.unique(kind):
            rows = kind == k
            share, bid = self.response(int(k), rebates[rows])
            paid = np.repeat(price[rows], lot.periods_per_hour, axis=1) * bid
            result[rows] = lot.step_h * (paid - lot.drivers * rebates[rows] * share).sum(axis=1)
        return result

    def reference(self, kind: Ints, price: Floats) -> Floats:
        """Profit (n,) [$] without rebates: what the environment's reward subtracts."""
        lot = self.model.instance
        bids = self.model.constants.bid_0[kind]
        result: Floats = lot.step_h * (np.repeat(price, lot.periods_per_hour, axis=1) * bids).sum(axis=1)
        return result


class DaySolver:
    """Exact solutions of days, each day only once.

    Args:
        instance: the fleet.
        gap: wanted proven gap of every day.
        time_limit_s: per day; what is not solved by then keeps its proven gap [s].
        say: called with a line of text while a day takes long.
    """

    def __init__(
        self,
        instance: Instance,
        gap: float = 1e-4,
        time_limit_s: float = 60.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        number("gap", gap, 0.0, 1.0, open_low=True)
        number("time_limit_s", time_limit_s, 0.0, 1e7, open_low=True)
        self.instance, self.gap, self.time_limit_s, self.say = instance, gap, time_limit_s, say
        self._known: dict[bytes, Solution] = {}

    def game(self, price: Floats, weekend: bool, plug: int) -> Game:
        """The platform's game of a day with prices (24,), whoever owns the platform: rewards are its profit."""
        share = self.instance.plug_shares[plug]
        return self.instance.game(price, weekend, share).replace(owner="platform")

    def __call__(self, price: Floats, weekend: bool, plug: int) -> Solution:
        """Optimal rebates of the day with prices (24,) [$/kW per hour].

        Raises:
            KeyboardInterrupt: also if the search, which keeps its proven bound then, was what Ctrl-C hit.
        """
        require(0 <= plug < len(self.instance.plug_shares), "plug", plug, "index of a plugged share")
        key = np.asarray(price, np.float64).tobytes() + bytes([weekend, plug])
        if key not in self._known:
            found = solve(self.game(price, weekend, plug), self.gap, self.time_limit_s, self.say)
            if found.gap > self.gap and found.seconds < self.time_limit_s:
                raise KeyboardInterrupt
            self._known[key] = found
        return self._known[key]
