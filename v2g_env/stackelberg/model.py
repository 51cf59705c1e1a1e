"""The game as pure batched functions: draw, initial, step, observe. One model for environments and baselines.

A step is a day. Why its profit has a bound that needs no luck. With response "model", a settlement by penalty and bids
up to the certified C_t(y), the platform earns at most p_t C_t(y) in period t, whatever the signal and the number of
cars: what is delivered is at most the bid, and what is missing costs more than nothing. Rebates are paid at their
expectation s_t M y_t. So every day earns at most step_h sum_t (p_t C_t(y) - s_t M y_t), the objective of that day's
game at its rebates, with equality if all is delivered. A bound on the game bounds every policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.follower import Arcs, arcs_of, respond
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance, plugged_shares
from v2g_env.stackelberg.kernels import PRICE_LOG, Constants, State, advance_kernel, observe_kernel, step_kernel
from v2g_env.stackelberg.scenario import Law, Scenario, draw_from, law

__all__ = ["FACTS", "REWARD_TERMS", "VIOLATION_TOLERANCE", "Model"]

Floats = NDArray[np.float64]

VIOLATION_TOLERANCE = 0.0  # a single violated hour is a violation
REWARD_TERMS = ("payment", "penalty", "rebates", "reference")
FACTS = (
    "violated_share",
    "shortfall_kwh",
    "profit_usd",
    "delivered_share",
    "plugged",
    "rebate_usd",
    "bid_kw",
    "performance",
)
_WORST_IMBALANCE = 1e-9


class Model:
    """Batched months: every array has a leading axis of n episodes.

    Args:
        instance: the fleet.
        source: the law of the scenarios, or its name (see scenario.law).

    Raises:
        InvalidInputError: for an unknown law, or shares of drivers that make no network.
    """

    def __init__(self, instance: Instance, source: Law | str = "generator") -> None:
        self.instance = instance
        self.law = law(source) if isinstance(source, str) else source
        require(isinstance(self.law, Law), "law", self.law, "a Law or its name")
        self.constants = _constants(instance)
        self.steps = instance.steps
        self.choices: int | None = None
        self.action_size = instance.periods + 1
        self.observation_high = np.ones(27 + 2 * instance.periods, np.float32)
        self.observation_high[self.observation_layout["price"]] = 2.0 * PRICE_LOG

    @property
    def observation_layout(self) -> dict[str, slice]:
        """Name of every observed quantity and its place."""
        periods = self.instance.periods
        return {
            "price": slice(0, 24),
            "weekend": slice(24, 25),
            "plug_share": slice(25, 26),
            "day": slice(26, 27),
            "rebate": slice(27, 27 + periods),
            "plugged": slice(27 + periods, 27 + 2 * periods),
        }

    def draw(self, generators: Sequence[np.random.Generator], days: Sequence[int] | None = None) -> Scenario:
        """Draw one month from each generator (see scenario.draw_from); ``days`` must be None."""
        self.check_days(days, len(generators))
        return draw_from(self.instance, generators)

    def check_days(self, days: Sequence[int] | None, rows: int) -> None:
        """Raise InvalidInputError unless ``days`` is None: months are drawn, there are no base days to choose from."""
        require(days is None, "day", days, "None: months have no base days")

    def initial(self, scenario: Scenario) -> State:
        """Start of the first day: no rebates so far, nobody seen yet."""
        shape = (len(scenario.first_day), self.instance.periods)
        return State(np.zeros(shape[0], np.int64), *(np.zeros(shape) for _ in range(5)))

    def step(self, scenario: Scenario, state: State, action: Floats) -> tuple[State, Floats, Floats]:
        """One day: rebates and bid are set, drivers answer, the operator's signal runs.

        Args:
            scenario: the months.
            state: at the start of the day; left unchanged.
            action: (n, T + 1) float64 in [-1, 1], checked by the caller.

        Returns:
            The next state, money (n, 4) [$] in the order of REWARD_TERMS, facts (n, 8) in the order of FACTS:
            violated_share: share of the day's periods in which the cars' power falls short of r_t C_t, the event that
            eta bounds; shortfall_kwh: power bid and not delivered, times hours; profit_usd: payment, penalty and
            rebates; delivered_share: smallest delivered share of a bid; plugged: mean share of cars plugged in;
            rebate_usd: paid per driver; bid_kw: mean bid; performance: movement delivered over movement asked for.

        Raises:
            ArithmeticError: if Newton's method for the response ends with a node imbalance above 1e-9.
        """
        result = step_kernel(self.constants, scenario, state, action)
        _check_imbalance(result[8])
        return State._make(result[:6]), result[6], result[7]

    def advance(
        self, scenario: Scenario, state: State, action: Floats
    ) -> tuple[State, Floats, Floats, NDArray[np.float32]]:
        """``step``, and ``observe`` of the state it leads to, in one compiled call."""
        result = advance_kernel(self.constants, scenario, state, action, len(self.observation_high))
        _check_imbalance(result[8])
        return State._make(result[:6]), result[6], result[7], result[9]

    def observe(self, scenario: Scenario, state: State) -> NDArray[np.float32]:
        """Observation at the start of a day, a fresh (n, d) float32 array within [0, observation_high]."""
        return observe_kernel(  # type: ignore[no-any-return]
            self.constants, scenario, state, len(self.observation_high)
        )

    def action_for(self, rebate_usd_per_h: Floats, bid_fraction: float | Floats = 1.0) -> Floats:
        """Action that sets the given rebates, exactly, and bids a fraction of the certified bid.

        The rebates come out the same after the action has been rounded to single precision, and so does a fraction of
        1; other fractions to 1e-7.

        Args:
            rebate_usd_per_h: (n, T) rebate levels [$/h].
            bid_fraction: one number or (n,), in [0, bid_limit].

        Returns:
            (n, T + 1) in [-1, 1].

        Raises:
            InvalidInputError: for a rebate that is no level or above its cap, or a fraction out of range.
        """
        periods, limit = self.instance.periods, self.instance.bid_limit
        rebates = array("rebate_usd_per_h", rebate_usd_per_h, (None, periods), 0.0)
        c = self.constants
        level = np.minimum(np.searchsorted(c.levels, rebates - 1e-9 * c.levels[-1]), c.choices - 1)
        off = np.abs(c.levels[level] - rebates) > 1e-9 * c.levels[-1]
        if off.any():
            at = tuple(int(i) for i in np.argwhere(off)[0])
            allowed = f"a level up to the cap: {c.levels[: c.choices[at[1]]].tolist()}"
            require(False, f"rebate_usd_per_h{list(at)}", float(rebates[at]), allowed)
        fraction = array("bid_fraction", bid_fraction, (None,) * np.ndim(bid_fraction), 0.0, limit)
        require(fraction.shape in ((), (len(rebates),)), "shape of bid_fraction", fraction.shape, f"({len(rebates)},)")
        action = np.empty((len(rebates), periods + 1))
        action[:, :periods] = c.levels[level] / max(float(c.levels[-1]), 1e-300)
        action[:, periods] = np.clip(2.0 * fraction / limit - 1.0, -1.0, 1.0)
        return action

    def day_game(self, scenario: Scenario, row: int, day: int) -> Game:
        """The game of one day of a month, its weather known.

        Raises:
            InvalidInputError: for a row or day that the scenario has not.
        """
        number("row", row, 0, len(scenario.first_day) - 1, integer=True)
        number("day", day, 0, self.instance.days - 1, integer=True)
        share = self.instance.plug_shares[int(scenario.plug[row, day])]
        return self.instance.game(scenario.price[row, day], bool(scenario.weekend[row, day]), share)


def _check_imbalance(worst: float) -> None:
    if not worst <= _WORST_IMBALANCE:
        raise ArithmeticError(f"response of the drivers = imbalance {worst:g} left; allowed: {_WORST_IMBALANCE:g}")


def _constants(instance: Instance) -> Constants:
    days = [(weekend, share) for weekend in (False, True) for share in instance.plug_shares]
    games = [instance.game(None, *day) for day in days]
    first = games[0]
    coef = coefficients(first)
    rigorous = instance.variant == "rigorous"
    networks = [arcs_of(game.classes) for game in games]
    idle = [respond(net, np.zeros((1, instance.periods))) for net in networks]
    shares = [
        plugged_shares(net.period, each.flow[0], instance.periods) for net, each in zip(networks, idle, strict=True)
    ]
    slopes = [_price_slope(net, each.price[0], instance) for net, each in zip(networks, idle, strict=True)]
    levels = first.levels
    return Constants(
        days=instance.days,
        periods=instance.periods,
        step_h=instance.step_h,
        drivers=instance.drivers,
        power_kw=instance.charger_kw - instance.guarantee_kw,
        levels=levels,
        between=0.5 * (levels[1:] + levels[:-1]),
        choices=first.choices,
        bid_limit=instance.bid_limit,
        rigorous=rigorous,
        coef=coef,
        forfeit=instance.settlement == "forfeit",
        shortfall_factor=instance.shortfall_factor,
        forfeit_share=instance.forfeit_share,
        habit=instance.habit_weight,
        population=instance.response == "population",
        announced=instance.announced,
        plug_shares=np.array(instance.plug_shares),
        mean_price=float(instance.base_price.mean()),
        bid_0=allowed_bid(np.stack(shares)[:, :, None], np.ones(1), coef, rigorous),
        node_price=_stacked([each.price[0] for each in idle]),
        node_slope=_stacked(slopes),
        **_padded(networks),
    )


def _price_slope(net: Arcs, price: Floats, instance: Instance) -> Floats:
    """Derivative (nodes, T) of the node prices in the rebates [$ per $/h], at no rebates: B W B' drho = B W ds."""
    along = np.zeros((len(net.tail), net.nodes))  # derivative of every arc's lam in the node prices, sign changed
    along[np.arange(len(net.tail)), net.tail] += 1.0
    inner = net.head >= 0
    along[inner, net.head[inner]] -= 1.0
    lam = net.mean - along @ price
    weight = 0.5 * net.deviation**2 / np.hypot(lam, net.deviation) ** 3
    paid = np.zeros((len(net.tail), instance.periods))
    plug = net.period >= 0
    paid[plug, net.period[plug]] = instance.step_h
    weighted = along.T * weight
    return np.linalg.solve(weighted @ along, weighted @ paid)


def _padded(networks: Sequence[Arcs]) -> dict[str, Any]:
    """Arrays of all networks under the names of Constants."""
    return {
        "arcs": np.array([len(net.tail) for net in networks]),
        "nodes": np.array([net.nodes for net in networks]),
        "band": np.array([net.band for net in networks]),
        "source": np.array([net.source[0] for net in networks]),
        "tail": _stacked([net.tail for net in networks]),
        "order": _stacked([np.argsort(net.tail, kind="stable") for net in networks]),
        "head": _stacked([net.head for net in networks]),
        "mean": _stacked([net.mean for net in networks]),
        "sigma": _stacked([net.deviation for net in networks]),
        "period": _stacked([net.period for net in networks]),
    }


def _stacked(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of different lengths as one, zeros behind the shorter ones."""
    result = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype)
    for one, row in zip(result, rows, strict=True):
        one[: len(row)] = row
    return result
