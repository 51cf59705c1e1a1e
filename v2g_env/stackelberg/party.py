"""A platform and classes of drivers who need not answer as the model says: parties, state, one day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, require
from v2g_env.party_model import Role
from v2g_env.stackelberg.bids import allowed_bid
from v2g_env.stackelberg.follower import Arcs, arcs_of, respond, start_prices
from v2g_env.stackelberg.instance import Instance, plugged_shares
from v2g_env.stackelberg.kernels import State, fraction_of, rebate_of, settle_day
from v2g_env.stackelberg.model import FACTS, REWARD_TERMS, VIOLATION_TOLERANCE, Model
from v2g_env.stackelberg.population import binomial
from v2g_env.stackelberg.scenario import Law, Scenario

__all__ = ["PARTS", "PartyState", "StackelbergParties"]

Floats = NDArray[np.float64]

PARTS = 4  # of a day: classes choose how to answer in each
CLASS_TERMS = ("utility", "rebates")


class PartyState(NamedTuple):
    """Base state; coming day's rebates (n, T) [$/h] and bid fraction (n,); last shares plugged in (n, K, T)."""

    base: State
    posted: Floats
    fraction: Floats
    plugged: Floats


class StackelbergParties:
    """Batched months. A step is a day: the platform posts tomorrow's rebates, the classes answer today's.

    The platform bids by what the model says drivers will do. A class answers the posted rebates times factors of its
    own, between ignoring them (0) and taking them for twice as much, in each quarter of the day; factor 1 is the
    model's answer, and the best one of the day: the flow maximises utility and rebates together. Withholding costs a
    class something today, and may move the platform tomorrow.

    Args:
        instance: the fleet; response "model" and no habit.
        source: the law of the scenarios, or its name.
        shares: (K,) shares of the classes in the fleet, summing to 1.

    Raises:
        InvalidInputError: for another response, a habit, or shares that do not fit.
    """

    facts: tuple[str, ...] = FACTS
    tolerance = VIOLATION_TOLERANCE

    def __init__(
        self, instance: Instance, source: Law | str = "generator", shares: Sequence[float] = (0.5, 0.3, 0.2)
    ) -> None:
        require(instance.response == "model", "response", instance.response, "model")
        require(instance.habit_weight == 1.0, "habit_weight", instance.habit_weight, "1")
        self.shares = array("shares", shares, (None,), 0.0, 1.0)
        total = float(self.shares.sum())
        require(len(self.shares) >= 1 and abs(total - 1.0) <= 1e-9, "sum of shares", total, "1")
        self.base = Model(instance, source)
        self.instance, self.steps = instance, instance.steps
        periods, c = instance.periods, self.base.constants
        kinds = [(weekend, share) for weekend in (False, True) for share in instance.plug_shares]
        self._nets: list[Arcs] = [arcs_of(instance.game(None, *kind).classes) for kind in kinds]
        self._starts = [start_prices(net) for net in self._nets]
        self._idle = [self._utility(net, respond(net, np.zeros((1, periods))).flow)[0] for net in self._nets]
        self._part = np.arange(periods) * PARTS // periods
        one = np.ones
        platform = self.base.observation_high
        member = np.concatenate([one(2 * periods), one(3)]).astype(np.float32)
        self.roles: tuple[Role, ...] = (
            Role("platform", 1, periods + 1, platform, REWARD_TERMS),
            Role("class", len(self.shares), PARTS, member, CLASS_TERMS),
        )
        self._top = max(float(c.levels[-1]), 1e-300)

    def draw(self, generators: Sequence[np.random.Generator]) -> Scenario:
        """Draw one month from each generator."""
        return self.base.draw(generators)

    def initial(self, scenario: Scenario) -> PartyState:
        """No rebates are posted for the first day; its bid is the certified one."""
        n, periods = len(scenario.first_day), self.instance.periods
        plugged = np.zeros((n, len(self.shares), periods))
        return PartyState(self.base.initial(scenario), np.zeros((n, periods)), np.ones(n), plugged)

    def factors(self, action: Floats) -> Floats:
        """(..., T) by what classes multiply rebates: 1 + action in each part of the day."""
        return np.asarray(1.0 + action[..., self._part])

    def step(
        self, scenario: Scenario, state: PartyState, actions: Mapping[str, Floats]
    ) -> tuple[PartyState, dict[str, Floats], Floats]:
        """Classes answer the posted rebates, the day is settled, the platform posts the next.

        Money of the platform as in Model.step; of a class: utility of what its drivers do beyond that without rebates,
        and rebates. Facts as Model.step.
        """
        c, s, base = self.base.constants, scenario, state.base
        n, classes, periods = state.plugged.shape
        money, facts = np.zeros((n, 4)), np.zeros((n, len(FACTS)))
        own = np.zeros((n, classes, 2))
        plugged, seen = np.zeros_like(state.plugged), np.zeros((n, periods))
        bid, delivered = np.zeros((n, periods)), np.zeros((n, periods))
        perceived = state.posted[:, None] * self.factors(actions["class"])
        day = np.minimum(base.t, c.days - 1)
        rows = np.arange(n)
        kind = s.weekend[rows, day] * len(c.plug_shares) + s.plug[rows, day]
        for k in np.unique(kind):
            some, net = np.flatnonzero(kind == k), self._nets[int(k)]
            asked = np.concatenate([perceived[some].reshape(-1, periods), state.posted[some]])
            flow = respond(net, asked * c.step_h, self._starts[int(k)]).flow
            share = np.stack([plugged_shares(net.period, each, periods) for each in flow])
            plugged[some] = share[: len(some) * classes].reshape(-1, classes, periods)
            told = share[len(some) * classes :]
            gain = self._utility(net, flow[: len(some) * classes]).reshape(-1, classes) - self._idle[int(k)]
            own[some, :, 0] = c.drivers * self.shares * gain
            mean = np.einsum("k,nkt->nt", self.shares, plugged[some])
            for place, i in enumerate(some):
                most = allowed_bid(told[place][None, :, None], np.ones(1), c.coef, c.rigorous)[0]
                bid[i] = state.fraction[i] * most
                cars = np.array(
                    [binomial(c.drivers, min(y, 1.0), s.chance[i, day[i], t]) for t, y in enumerate(mean[place])], float
                )
                parts = (s.price[i, day[i]], s.ratio[i, day[i]], state.posted[i], mean[place], bid[i], cars)
                settle_day(c, int(k), *parts, money[i], facts[i], delivered[i])
                seen[i] = cars / c.drivers
        own[..., 1] = c.drivers * self.shares * c.step_h * np.einsum("nt,nkt->nk", state.posted, plugged)
        platform = actions["platform"][:, 0]
        posted = np.array([[rebate_of(row[t], c, t) for t in range(periods)] for row in platform])
        fraction = np.array([fraction_of(row[periods], c.bid_limit) for row in platform])
        after = State(base.t + 1, state.posted, state.posted, seen, bid, delivered)
        return PartyState(after, posted, fraction, plugged), {"platform": money[:, None], "class": own}, facts

    def _utility(self, net: Arcs, flow: Floats) -> Floats:
        """(rows,) expected utility of a driver who takes the flow, without rebates [$]."""
        spread = net.deviation * np.sqrt(np.maximum(flow * (1.0 - flow), 0.0))
        return np.asarray((net.mean * flow + spread).sum(axis=1))

    def observe(self, scenario: Scenario, state: PartyState) -> dict[str, NDArray[np.float32]]:
        """The platform sees tomorrow as in Model.observe, with today's rebates and who came yesterday.

        A class sees posted rebates, its own share plugged in yesterday, type and announced share of today, the time.
        """
        base, n = state.base, len(state.base.t)
        ahead = State(base.t + 1, state.posted, state.posted, base.plugged, base.bid_kw, base.delivered_kw)
        platform = self.base.observe(scenario, ahead)
        last = base.t + 1 >= self.steps
        platform[last, :26] = 0.0
        platform[:, 26] = np.minimum((base.t + 1) / self.steps, 1.0)
        today = self.base.observe(scenario, base)[:, 24:27]
        classes, periods = len(self.shares), self.instance.periods
        member = np.zeros((n, classes, 2 * periods + 3), np.float32)
        member[..., :periods] = np.minimum(state.posted / self._top, 1.0)[:, None]
        member[..., periods : 2 * periods] = np.clip(state.plugged, 0.0, 1.0)
        member[..., 2 * periods :] = today[:, None]
        return {"platform": platform[:, None], "class": member}
