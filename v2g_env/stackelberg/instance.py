"""The game's data: one frozen, validated object with units in its names, for a single day and for a month of days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.data.regulation import hourly_medians
from v2g_env.record import Record
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.calibration import SHARE_RANGE
from v2g_env.stackelberg.diary import network, time_activity
from v2g_env.stackelberg.follower import arcs_of, respond
from v2g_env.stackelberg.game import OWNERS, VARIANTS, DriverClass, Game, Requirement
from v2g_env.stackelberg.network import Network
from v2g_env.stackelberg.signal import SIGNALS

__all__ = ["RESPONSES", "SETTLEMENTS", "Instance", "plugged_shares"]

Floats = NDArray[np.float64]

RESPONSES = ("model", "population")
SETTLEMENTS = ("penalty", "forfeit")

_DEFAULT_LEVELS = tuple(i / 20 for i in range(21))
_MONTH_USD = 211.358  # published profit per vehicle and month of 30 days without rebates, 200 vehicles at 10 kW
_MILEAGE_PER_MILEAGE = 5.68  # median mileage of the fast signal over that of the slow one, April 2023


@dataclass(frozen=True)
class Instance(Record):
    """A fleet, its operator's rules and the law of the days. All values are checked once, at construction.

    Attributes:
        drivers: number M of drivers.
        charger_kw: what a plugged car can deliver, up or down [kW].
        eta: tolerated probability that an hour's bid cannot be delivered in full, in (0, 1/2).
        variant: "rigorous" bids keep that promise; "published" ones take y(1-y) for the squared deviation (see bids).
        baseline_utility_usd: utility of a day with the car; sets the scale on which drivers weigh rebates [$].
        deviation_fraction: standard deviation of each arc's utility as a share of the baseline utility.
        composition: shares of commuters, home-based and mixed drivers on a weekday.
        weekend_composition: the same at the weekend.
        plugged: share of the time at home in which cars are plugged in, in a single day's game.
        workplace: share of the time at work in which cars are plugged in.
        periods_per_hour: rebate periods in an hour, 1, 2 or 4.
        rebate_levels_usd_per_h: rebates that may be set, increasing [$ per plugged hour].
        rebate_cap_usd_per_h: highest rebate in each hour of the day (24 values), or () for none [$/h].
        signals: set of regulation signals, "pjm" or "published" (see signal).
        owner, kappa: whose interest a single day's game serves (see game).
        guarantee_kw: average power at which plugged cars charge while they serve; positive: bids must leave the state
            of charge where it was, and have charger_kw less this for regulation [kW].
        guarantee_eta: tolerated probability that an hour takes charge out of the cars, in (0, 1/2).
        price_usd_per_kw: base price for each hour of the day (24 values) [$/kW per hour]; (): hour-of-day medians of
            PJM's regulation prices, scaled so that 200 drivers with 10 kW earn 211.358 $ each in 30 days without
            rebates (default composition and plugged share; this instance's signals, eta and variant).
        days: length D of an episode [d].
        price_level_sd: standard deviation of the log factor on all prices of a day.
        price_hour_sd, price_hour_memory: standard deviation and hourly autocorrelation of the log factor on an hour.
        spike_probability: chance that a spike begins in an hour.
        spike_h, spike_factor: its length [h] and the factor on the price meanwhile.
        plug_shares, plug_probabilities: the day's plugged share (see ``plugged``) is one of these, increasing.
        announced: whether the platform knows the day's plugged share when it sets rebates.
        response: "model": cars of each period are a binomial number; "population": drivers walk through their day.
        bid_limit: largest bid as a multiple of the certified one; above 1 the chance constraint is in the agent's hand.
        settlement: "penalty": what is delivered is paid, what is not costs ``shortfall_factor`` times the price;
            "forfeit": an hour delivered below ``forfeit_share`` is not paid.
        shortfall_factor: price of a missing kW over the price of a delivered one.
        forfeit_share: see settlement.
        habit_weight: w in (0, 1]: drivers answer to the running mean (1 - w) x old + w x rebate of the day.
    """

    drivers: int = 200
    charger_kw: float = 10.0
    eta: float = 0.10
    variant: str = "rigorous"
    baseline_utility_usd: float = 200.0
    deviation_fraction: float = 0.00097
    composition: tuple[float, ...] = (0.6, 0.1, 0.3)
    weekend_composition: tuple[float, ...] = (0.1, 0.6, 0.3)
    plugged: float = 0.8
    workplace: float = 0.0
    periods_per_hour: int = 1
    rebate_levels_usd_per_h: tuple[float, ...] = _DEFAULT_LEVELS
    rebate_cap_usd_per_h: tuple[float, ...] = ()
    signals: str = "pjm"
    owner: str = "platform"
    kappa: float = 1.0
    guarantee_kw: float = 0.0
    guarantee_eta: float = 0.05
    price_usd_per_kw: tuple[float, ...] = ()
    days: int = 30
    price_level_sd: float = 0.4
    price_hour_sd: float = 0.25
    price_hour_memory: float = 0.7
    spike_probability: float = 0.04
    spike_h: int = 3
    spike_factor: float = 3.0
    plug_shares: tuple[float, ...] = (0.65, 0.8, 0.9)
    plug_probabilities: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
    announced: bool = True
    response: str = "model"
    bid_limit: float = 1.0
    settlement: str = "penalty"
    shortfall_factor: float = 10.0
    forfeit_share: float = 0.95
    habit_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is out of range."""
        number("drivers", self.drivers, 1, 1_000_000, integer=True)
        number("charger_kw", self.charger_kw, 0, 1e4, open_low=True)
        number("baseline_utility_usd", self.baseline_utility_usd, 0, 1e9, open_low=True)
        number("deviation_fraction", self.deviation_fraction, 0, 1, open_low=True)
        self._shares("composition", 3)
        self._shares("weekend_composition", 3)
        number("plugged", self.plugged, *SHARE_RANGE)
        number("workplace", self.workplace, 0, 1)
        for name, allowed in (
            ("variant", VARIANTS),
            ("signals", tuple(SIGNALS)),
            ("owner", OWNERS),
            ("response", RESPONSES),
            ("settlement", SETTLEMENTS),
        ):
            value = getattr(self, name)
            require(isinstance(value, str) and value in allowed, name, value, f"one of {', '.join(allowed)}")
        # below this limit the signal's deviation leaves no room for a bid
        least = float(np.exp(-0.5 * (SIGNALS[self.signals].mean_ratio / SIGNALS[self.signals].forward) ** 2))
        number("eta", self.eta, least, 0.5, open_low=True, open_high=True)
        number("kappa", self.kappa, 0, 1e6, open_low=True)
        number("guarantee_kw", self.guarantee_kw, 0, self.charger_kw, open_high=True)
        number("guarantee_eta", self.guarantee_eta, 0, 0.5, open_low=True, open_high=True)
        self._check_money()
        self._check_days()
        self.settle_numbers()
        len(self.requirements)  # built now, so that what they refuse is refused at construction

    def _check_money(self) -> None:
        number("periods_per_hour", self.periods_per_hour, 1, 4, integer=True)
        require(self.periods_per_hour != 3, "periods_per_hour", self.periods_per_hour, "1, 2 or 4")
        levels = self._numbers("rebate_levels_usd_per_h", None, 0.0, 1e4)
        require(len(levels) > 0, "rebate_levels_usd_per_h", self.rebate_levels_usd_per_h, "at least one level")
        steps = np.diff(levels)
        require(
            bool((steps > 1e-6 * levels[-1]).all()),  # nearer ones are one to an action of single precision
            "rebate_levels_usd_per_h",
            self.rebate_levels_usd_per_h,
            "increasing levels, more than a millionth of the highest apart",
        )
        if np.shape(self.rebate_cap_usd_per_h) != (0,):
            self._numbers("rebate_cap_usd_per_h", 24, float(levels[0]), 1e4)
        if np.shape(self.price_usd_per_kw) != (0,):
            prices = self._numbers("price_usd_per_kw", 24, 0.0, 1e4)
            require(bool(prices.max() > 0.0), "price_usd_per_kw", self.price_usd_per_kw, "at least one positive price")
        for name in ("rebate_cap_usd_per_h", "price_usd_per_kw"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def _check_days(self) -> None:
        number("days", self.days, 1, 1000, integer=True)
        for name in ("price_level_sd", "price_hour_sd"):
            number(name, getattr(self, name), 0, 2)
        number("price_hour_memory", self.price_hour_memory, 0, 1, open_high=True)
        number("spike_probability", self.spike_probability, 0, 1)
        number("spike_h", self.spike_h, 1, 24, integer=True)
        number("spike_factor", self.spike_factor, 1, 100)
        shares = self._numbers("plug_shares", None, *SHARE_RANGE)
        require(1 <= len(shares) <= 10, "number of plug_shares", len(shares), "1 to 10")
        require(bool((np.diff(shares) > 0.0).all()), "plug_shares", self.plug_shares, "increasing shares")
        self._shares("plug_probabilities", len(shares))
        require(isinstance(self.announced, bool), "announced", self.announced, "true or false")
        number("bid_limit", self.bid_limit, 0, 1.5, open_low=True)
        number("shortfall_factor", self.shortfall_factor, 0, 1e4)
        number("forfeit_share", self.forfeit_share, 0, 1)
        number("habit_weight", self.habit_weight, 0, 1, open_low=True)

    def _numbers(self, name: str, length: int | None, low: float, high: float) -> Floats:
        values = array(name, getattr(self, name), (length,), low, high) + 0.0
        object.__setattr__(self, name, tuple(values.tolist()))
        return values

    def _shares(self, name: str, length: int) -> None:
        total = float(self._numbers(name, length, 0.0, 1.0).sum())
        require(abs(total - 1.0) <= 1e-9, f"sum of {name}", total, "1")

    @property
    def steps(self) -> int:
        """Number of steps of an episode: days."""
        return self.days

    @property
    def periods(self) -> int:
        """Number T of rebate periods of a day."""
        return 24 * self.periods_per_hour

    @property
    def step_h(self) -> float:
        """Length of a period [h]."""
        return 1.0 / self.periods_per_hour

    @property
    def deviation_usd(self) -> float:
        """Standard deviation of an hourly arc's utility [$]."""
        return self.deviation_fraction * self.baseline_utility_usd

    @cached_property
    def base_price(self) -> Floats:
        """Base price of every hour, (24,), read-only [$/kW per hour]."""
        prices = np.array(self.price_usd_per_kw or _calibrated_price(self.signals, self.eta, self.variant))
        prices.flags.writeable = False
        return prices

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        """Chance constraints on the bids: delivery, and with a guarantee the state of charge."""
        law = SIGNALS[self.signals]
        power = self.charger_kw - self.guarantee_kw
        delivery = Requirement(power, self.eta, law.mean_ratio, law.forward, law.backward)
        if self.guarantee_kw == 0.0:
            return (delivery,)
        gamma = (law.gamma_mean, law.gamma_forward, law.gamma_backward)
        return (delivery, Requirement(self.guarantee_kw, self.guarantee_eta, *gamma))

    def network(self, weekend: bool = False, plugged: float | None = None) -> Network:
        """The drivers' network on a weekday or at the weekend, with the given plugged share (None: ``plugged``)."""
        share = self.plugged if plugged is None else plugged
        number("plugged", share, *SHARE_RANGE)
        mix = self.weekend_composition if weekend else self.composition
        return _network(mix, float(share), self.workplace, self.periods_per_hour, self.deviation_usd)

    def per_period(self, hourly: Sequence[float] | Floats) -> Floats:
        """Values of the 24 hours repeated for each of their periods, (T,)."""
        return np.repeat(np.asarray(hourly, np.float64), self.periods_per_hour)

    def game(
        self, price: Sequence[float] | Floats | None = None, weekend: bool = False, plugged: float | None = None
    ) -> Game:
        """The game of one day.

        Args:
            price: (T,) price of every period, or (24,) of every hour [$/kW per hour]; None: base prices.
            weekend: whether drivers behave as at the weekend.
            plugged: plugged share of the day, in [.001, .999]; None: that of the instance.

        Raises:
            InvalidInputError: for prices of a wrong length, negative or not finite, or a plugged share out of range.
        """
        prices = array("price", self.base_price if price is None else price, (None,), 0.0, 1e6)
        require(len(prices) in (24, self.periods), "length of price", len(prices), f"24 or {self.periods}")
        if len(prices) < self.periods:
            prices = self.per_period(prices)
        cap = tuple(self.per_period(self.rebate_cap_usd_per_h).tolist()) if self.rebate_cap_usd_per_h else None
        return Game(
            classes=(DriverClass("all drivers", 1.0, self.network(weekend, plugged)),),
            drivers=self.drivers,
            price_usd_per_kw=tuple(prices.tolist()),
            levels_usd_per_h=self.rebate_levels_usd_per_h,
            requirements=self.requirements,
            cap_usd_per_h=cap,
            step_h=self.step_h,
            variant=self.variant,
            owner=self.owner,
            kappa=self.kappa,
        )


def plugged_shares(period: NDArray[np.int64], flow: Floats, periods: int) -> Floats:
    """Share of drivers plugged in during each period, (T,), from the flow on all arcs (A,)."""
    plug = period >= 0
    return np.bincount(period[plug], flow[plug], periods).astype(np.float64)


@lru_cache(maxsize=256)
def _network(mix: tuple[float, ...], plugged: float, workplace: float, periods_per_hour: int, sd: float) -> Network:
    return network(time_activity(mix, plugged, workplace, periods_per_hour), sd)


@lru_cache(maxsize=64)
def _calibrated_price(signals: str, eta: float, variant: str) -> tuple[float, ...]:
    """Prices of 24 hours that bring the reference fleet its published month [$/kW per hour]."""
    medians = hourly_medians()
    shape = (medians["rmccp_usd_per_mwh"] + _MILEAGE_PER_MILEAGE * medians["rmpcp_usd_per_mwh"]).to_numpy(np.float64)
    reference = Instance(signals=signals, eta=eta, variant=variant, price_usd_per_kw=tuple(shape.tolist())).game()
    arcs = arcs_of(reference.classes)
    flow = respond(arcs, np.zeros((1, 24))).flow[0]
    shares = plugged_shares(arcs.period, flow, 24)[None, :, None]
    bid = allowed_bid(shares, arcs.share, coefficients(reference), reference.variant == "rigorous")[0]
    month = 30.0 * float(shape @ bid)
    require(month > 0.0, "eta", eta, "large enough for the reference fleet to bid, or prices given")
    return tuple((shape * (_MONTH_USD * reference.drivers / month)).tolist())
