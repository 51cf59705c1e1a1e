"""A policy with a promise for the worst case: no law of the requests, only limits of their density and size.

The rule of Zhou, Chakrabarty and Lukose (Budget constrained bidding in keyword auctions and online knapsack problems,
WINE 2008) for one knapsack: densities v/q lie in [L, U]; with the share z of the capacity in use, take what is worth at
least psi(z) = (U e / L)^z (L / e) per unit, everything while psi(z) < L. For infinitely small items it earns at least
the hindsight optimum over b = 1 + ln(U/L), and no online rule can promise more. The problem is older
(Marchetti-Spaccamela and Vercellis, Stochastic on-line knapsack problems, Mathematical Programming 68, 1995).

Items of finite size, none above delta x capacity, delta < 1; this statement and proof are our own. The rule asks for
P(z) = max(L, psi(z / (1 - delta))). Then its value is at least the optimum over

    ratio = (exp(b delta / (1 - delta)) - 1) / delta,   which tends to b as delta -> 0.

Proof. What passes has P(z) <= U, hence z <= 1 - delta: it fits. Let Z be in use at the end, P the items taken and S the
optimum's. Every other item of S had a density below P(Z), so OPT <= v(P and S) + P(Z) (1 - w(P and S)), capacity 1. An
item taken at z_i has a density of at least P(z_i); replacing its value by P(z_i) w_i only raises OPT/ALG, and as
P(z_i) <= P(Z) the numerator is then at most P(Z): OPT/ALG <= P(Z) / sum_P P(z_i) w_i. If P(Z) = L, all was taken and
the rule is optimal. Else substitute y = z / (1 - delta), pieces d_i = w_i / (1 - delta) <= d = delta / (1 - delta), and
F(y) = P(z): F grows at most with rate b, so its integral over a piece is at most F(y_i) d_i (exp(b d) - 1) / (b d), and
its integral from 0 to the end is F(end) / b (F = L up to 1/b, then F' = b F). Thus sum_P P(z_i) w_i is at least
(1 - delta) d P(Z) / (exp(b d) - 1) = delta P(Z) / (exp(b d) - 1), as claimed. The proof holds for a fractional optimum.

In this environment it speaks of weeks whose nights refill the battery (recharge = s): day by day, hence of the week, if
all requests are within the limits. What single precision of the observation blurs is added to the limits, 1e-5 on every
side; observed values end e^4 times above and below the median. Where nights bring back less, the rule is a heuristic
without a promise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.policies import Request, Rule
from baselines.shared_battery.week_programme import VALUE_CUT, size_beyond
from v2g_env.core.validate import number
from v2g_env.shared_battery.model import WeekModel

__all__ = ["Threshold", "competitive_ratio", "density_range"]

Floats = NDArray[np.float64]

_CELLS = 4000
_BLUR = 1e-5


class Threshold(Rule):
    """Grants what is worth at least max(L, psi(z / (1 - delta))) per kWh, z the share of the battery that is gone.

    Args:
        model: of the environment.
        low, high: L and U, limits of value / size [$/kWh], 0 < L <= U.
        delta: largest size in shares of the battery, in [0, 1); 0 is the published rule for small requests.

    Attributes:
        ratio: what is promised: hindsight earns at most so many times as much.
    """

    def __init__(self, model: WeekModel, low: float, high: float, delta: float = 0.0) -> None:
        super().__init__(model)
        competitive_ratio(low, high, delta)  # refuses what is no range
        self.low, self.high = low * (1.0 - _BLUR), high * (1.0 + _BLUR)
        self.delta = min(delta + _BLUR, 1.0 - 1e-9) if delta > 0.0 else 0.0
        self.ratio = competitive_ratio(self.low, self.high, self.delta)

    def price(self, used: Floats) -> Floats:
        """Least value per energy [$/kWh] for shares in use in [0, 1], any shape."""
        place = used / (1.0 - self.delta)
        growth = np.minimum((1.0 + np.log(self.high / self.low)) * place - 1.0, 700.0)
        return np.asarray(self.low * np.exp(np.maximum(growth, 0.0)))

    def wants(self, request: Request) -> NDArray[np.bool_]:
        """Where value / size is at least the price."""
        used = np.clip(1.0 - request.left_kwh / self.model.constants.shared_kwh, 0.0, 1.0)
        return np.asarray(request.density >= self.price(used))


def competitive_ratio(low: float, high: float, delta: float) -> float:
    """Optimum in hindsight over what the rule earns, at most; see the module for where this is proven.

    Args:
        low: least value / size L, positive.
        high: largest value / size U, at least L.
        delta: largest size in shares of the battery, in [0, 1).

    Returns:
        The ratio, at least 1; infinite where it exceeds the largest float.
    """
    number("low", low, 0.0, open_low=True)
    number("high", high, low)
    number("delta", delta, 0.0, 1.0, open_high=True)
    rate = 1.0 + float(np.log(high / low))
    if delta == 0.0:
        return rate
    with np.errstate(over="ignore"):
        return float(np.expm1(rate * delta / (1.0 - delta)) / delta)


def density_range(model: WeekModel, tail: float = 0.05) -> tuple[float, float]:
    """Range [$/kWh] that a request's value / size leaves on either side with probability ``tail``.

    Densities are not bounded where values do not depend on sizes: a promise with these limits speaks of weeks whose
    requests stay inside. With values "density" they are, and ``tail`` 0 gives the whole range.

    Args:
        model: of the environment.
        tail: probability outside on either side, in [0, 0.5); for a request of a random driver on a random day.
    """
    from scipy.special import ndtr

    number("tail", tail, 0.0, 0.5, open_high=True)
    lot = model.instance
    largest = model.law.needs.largest_kwh * max(lot.weekday_factors)
    ends = np.linspace(0.0, largest, _CELLS + 1)
    days = np.array(lot.weekday_factors)[np.arange(lot.week_days) % 7]
    beyond = np.mean([size_beyond(model, ends, float(factor)) for factor in days], axis=0)
    chance = np.maximum(beyond[:-1] - beyond[1:], 0.0) / beyond[0]
    size = 0.5 * (ends[:-1] + ends[1:])
    median = np.full(_CELLS, lot.value_usd / model.sizes.mean_size_kwh)
    if lot.values != "density":
        median = lot.value_usd / size
    sd = 0.0 if lot.values == "equal" else lot.value_sd
    cut = VALUE_CUT * sd

    def below(log_density: float) -> float:
        score = log_density - np.log(median)
        if sd == 0.0:
            return float(chance @ (score >= 0.0))
        inner = np.where(score < -cut, 0.0, ndtr(score / sd))
        return float(chance @ np.where(score >= cut, 1.0, inner))

    inside = median[chance > 0.0]
    least, most = np.log(inside.min()) - cut - 1e-9, np.log(inside.max()) + cut + 1e-9
    return float(np.exp(_root(below, tail, least, most))), float(np.exp(_root(below, 1.0 - tail, least, most)))


def _root(below: Callable[[float], float], order: float, low: float, high: float) -> float:
    """Point between ``low`` and ``high`` at which a distribution function passes ``order``, by bisection."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if below(middle) < order else (low, middle)
    return high
