"""Penalised upper bound: no policy earns more on average than the mean over days of max over paths (return - z).

Information relaxation with a penalty (Brown, Smith and Sun, Operations Research 58, 2010). V2G/ParkingLot-v0 with gate
closure: at the start of step t - 1 a policy fixes c_t; then K_t and the market of step t + 1 become known, and
x_t = min(c_t, K_t) is stored. Let G_{t-1} be what has been seen when c_t is fixed (penalty_days.py) and W_t(x, K, l)
any function of the stored energy, the capacity and the market's log factors l of step t + 1. The penalty is
z = sum_t z_t(c_t) with

    w_t(c, K, l) = W_t(min(c, K), K, l) - imbalance (c - K)^+
    z_t(c) = a { mean[w_t(c, K_t, l) | l_t] - mean[w_t(c, K', l) | l_t] }
           + b { w_t(c, K_t, l) - mean[w_t(c, K_t, l) | l_t] }

where K' stands for the mean over R draws from the law of K_t given G_{t-1}, and the mean over l given l_t is in closed
form (penalty_market.py).

Zero mean. The day's sessions, its market and the inner draws are independent of each other. Given G_{t-1}, c_t and the
market up to step t, the true K_t and each draw have the same law, so the first bracket has mean zero whatever R is.
Given moreover K_t, the innovations of l are standard normals independent of all that, and the second bracket is a sum
of centred functions of them times what is known. Hence E z = 0 for every policy whose c_t depends on G_{t-1} (and on
randomness of its own), W and a, b being fixed beforehand.

Inner maximum. Per day the bound needs max over all c of the day's return minus z, at its true K and offers, on a
superset of what the environment can do: c_t up to the gate's range, energy from step to step within the grid limit,
and, under the rule "minimal_move", at least the redistribution that leaving cars force (penalty_kernel.leaving_rows).
It is a path of one number, so a function of x per step, the potential, proves it: see penalty_kernel.bound_rows. No
solver, and nothing to trust: whatever W is, the value is an upper limit up to ``_ROUNDING``.

The critic W_t is the value of a small dynamic programme for each base day: K a Markov chain around the day's mean, the
market on Gauss-Hermite nodes, no plan. Its quality decides only how tight the bound is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from baselines.certificate import FORMAT, pack
from baselines.parking_lot.penalty_critic_kernel import Rules, critic
from baselines.parking_lot.penalty_data import Penalty, zero
from baselines.parking_lot.penalty_days import Days, draw_days
from baselines.parking_lot.penalty_kernel import bound_rows, informed_rows, leaving_rows, penalty_rows
from baselines.parking_lot.penalty_market import market_nodes, market_weights
from baselines.parking_lot.samples import physical_limits, reachable
from v2g_env.core.validate import array, number, require
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Law, law, sample
from v2g_env.rollout import Episodes, Recorded, rollout

__all__ = [
    "Bound",
    "Penalty",
    "critic_values",
    "days_for",
    "fit",
    "informed_actions",
    "penalised",
    "penalised_certificate",
    "penalty_of",
    "penalty_terms",
    "zero",
]

Floats = NDArray[np.float64]

_LEVELS = np.linspace(-2.5, 2.5, 7)  # capacities of the critic, in standard deviations around the day's mean
_QUADRATURE = 5
_ROUNDING = 1e-9  # [$] relative to 1 + |bound|: some 1e4 operations on amounts below 1e3 $ per path
_SCALES = (0.0, 0.5, 0.75, 0.9, 1.0)


class Bound(NamedTuple):
    """Penalised bounds of n days.

    Attributes:
        bound_usd: (n,) proven upper limit on return minus penalty of every policy on that day [$].
        grid_usd: (n,) the part found on the path's grid [$]; the rest is what the chords between its points hide.
    """

    bound_usd: Floats
    grid_usd: Floats


def fit(
    instance: Instance,
    source: Law | str,
    n_samples: int,
    seed: int,
    *,
    draws: int = 64,
    inner_seed: int = 0,
    knots: int = 32,
    nodes: tuple[int, int] = (5, 3),
    path: int = 128,
    tuning_days: int = 100,
) -> Penalty:
    """Fit the critic on training days, and choose its scale on further ones.

    Args:
        instance: the lot; see draw_days for what is covered.
        source: the law of the days, or its name.
        n_samples: training days, rounded up to equally many draws of every base day (at least two).
        seed: of the training days; the days that choose the scale come from seed + 1. Take seeds that no evaluation
            uses.
        draws: R, inner draws.
        inner_seed: of the inner draws.
        knots: intervals of the critic's grid.
        nodes: numbers of nodes of the factors on PV and on load.
        path: intervals of the path's grid.
        tuning_days: days that choose the scale.
    """
    number("n_samples", n_samples, 1, 1_000_000, integer=True)
    number("draws", draws, 1, 4096, integer=True)
    number("knots", knots, 1, 256, integer=True)
    source = law(source) if isinstance(source, str) else source
    n_days, steps = len(source.days.offset) - 1, instance.steps
    each = max(2, -(-n_samples // n_days))
    train = sample(instance, source, n_days * each, seed, np.repeat(np.arange(n_days), each).tolist())
    own = reachable(instance, train).reshape(n_days, each, steps)
    mean, spread = own.mean(axis=1), own.std(axis=1)
    away = own - mean[:, None]
    slope, noise = np.zeros_like(mean), np.zeros_like(mean)
    both = (away[:, :, :-1] * away[:, :, 1:]).mean(axis=1)
    before = spread[:, :-1]
    slope[:, :-1] = np.divide(both, before**2, out=np.zeros_like(both), where=before > 1e-6)
    noise[:, :-1] = np.sqrt(np.maximum(spread[:, 1:] ** 2 - (slope[:, :-1] * before) ** 2, 0.0))
    width = max(1.02 * float(own.max()), 1e-3) / knots
    grid = np.full(len(train.day), width)
    leaving = leaving_rows(
        train.sessions, train.arrive, train.depart, train.quota_kwh, train.order, grid, knots + 1, steps
    )
    leaving = leaving.reshape(n_days, each, steps, knots + 1).mean(axis=1)
    chain = (mean, spread, slope, noise, leaving, width)
    penalty = Penalty(instance.hash, source.name, *chain, nodes, draws, inner_seed, path, (1.0, 1.0), True)
    return _scaled(penalty, Model(instance, source), tuning_days, seed + 1)


def _scaled(penalty: Penalty, model: Model, n_days: int, seed: int) -> Penalty:
    """The same penalty with the scale that bounds lowest on other days.

    What is compared is the mean gap of one policy: it differs from the mean bound by a constant in expectation, as z
    has mean zero, and is far less noisy.
    """
    days = days_for(model, n_days, seed, penalty)
    episodes = rollout(model, days.scenario, Recorded(informed_actions(model, days, penalty)))

    def gap_usd(one: Penalty) -> float:
        z = penalty_of(model, days, episodes, one)
        return float((penalised(model, days, one).bound_usd - episodes.returns + z).mean())

    return min((replace(penalty, scale=pair) for pair in product(_SCALES, _SCALES)), key=gap_usd)


def days_for(model: Model, n_samples: int, seed: int, penalty: Penalty) -> Days:
    """The days of scenario.sample(instance, law, n_samples, seed), with the penalty's inner draws."""
    _check(model, penalty)
    return draw_days(model.instance, model.law, n_samples, seed, penalty.draws, penalty.inner_seed)


def penalised(model: Model, days: Days, penalty: Penalty) -> Bound:
    """Upper limit on (return - z) of every policy, day by day; its mean over the law bounds every mean return.

    Args:
        model: of V2G/ParkingLot-v0; its plan belongs to the gate's range.
        days: from ``days_for``.
        penalty: frozen before these days were drawn.

    Raises:
        InvalidInputError: if penalty, model and days do not belong together.
    """
    critic_usd, rules, seen, happened = _prepare(model, days, penalty)
    s, own = days.scenario, days.capacity_kwh
    width = np.maximum(own.max(axis=1), 1e-6) / penalty.path
    left = leaving_rows(
        s.sessions, s.arrive, s.depart, s.quota_kwh, s.order, width, penalty.path + 1, model.instance.steps
    )
    found = bound_rows(
        critic_usd, s.day, penalty.mean_kwh, penalty.spread_kwh, days.other_kwh, own, left, *_offers(days), seen,
        happened, np.array(penalty.scale), penalty.width_kwh, rules,
    )  # fmt: skip
    total = found.sum(axis=1)
    return Bound(total + _ROUNDING * (1.0 + np.abs(total)), found[:, 0])


def penalty_terms(model: Model, days: Days, closed_kwh: Floats, penalty: Penalty) -> Floats:
    """Both brackets of z_t, (n, T, 2) [$], unscaled, of paths that fix ``closed_kwh`` (n, T) at the gate."""
    critic_usd, rules, seen, happened = _prepare(model, days, penalty)
    closed = array("closed_kwh", closed_kwh, days.capacity_kwh.shape)
    return penalty_rows(  # type: ignore[no-any-return]
        critic_usd, days.scenario.day, penalty.mean_kwh, penalty.spread_kwh, days.other_kwh, days.capacity_kwh, closed,
        seen, happened, penalty.width_kwh, rules,
    )  # fmt: skip


def penalty_of(model: Model, days: Days, episodes: Episodes, penalty: Penalty) -> Floats:
    """Penalty z of a policy's episodes on these days, (n,) [$]: its mean is zero, so it is a control variate too."""
    closed = episodes.facts[:, :, 5]
    return np.asarray(penalty_terms(model, days, closed, penalty).sum(axis=1) @ np.array(penalty.scale))


def informed_actions(model: Model, days: Days, penalty: Penalty) -> NDArray[np.float32]:
    """Actions (n, T, 1) of a good policy that sees what the penalty takes as seen: how much of the bound is attained.

    At every gate it maximises money plus the critic's mean over the inner draws. Replay with rollout.Recorded.
    """
    require(penalty.draws > 0, "draws", penalty.draws, "at least 1")
    critic_usd, rules, seen, happened = _prepare(model, days, penalty)
    closed = informed_rows(
        critic_usd, days.scenario.day, penalty.mean_kwh, penalty.spread_kwh, days.other_kwh, days.capacity_kwh,
        penalty.leaving_kwh, *_offers(days), seen, happened, penalty.width_kwh, rules,
    )  # fmt: skip
    steps = model.instance.steps
    capacity = days.scenario.capacity_kwh
    ahead = [model.action_for(closed[:, min(t + 1, steps - 1)], t, capacity[:, t]) for t in range(steps)]
    return np.stack(ahead, axis=1).astype(np.float32)


def penalised_certificate(model: Model, n_samples: int, seed: int, penalty: Penalty, bound: Bound) -> dict[str, Any]:
    """JSON certificate of the mean bound over the days of ``days_for(model, n_samples, seed, penalty)``."""
    lot = model.instance
    return {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": "penalised bound",
        "instance_sha256": lot.hash,
        "instance": lot.to_dict(),
        "sample": {"law": model.law.name, "seed": int(seed), "n_samples": int(n_samples)},
        "plan_kwh": model.plan_kwh.tolist(),
        "penalty": penalty.to_dict(),
        "penalty_sha256": penalty.hash,
        "bound_usd": pack(bound.bound_usd),
        "mean_bound_usd": float(bound.bound_usd.mean()),
    }


def _check(model: Model, penalty: Penalty) -> None:
    require(not model.per_bay, "model", "per bay", "the model of V2G/ParkingLot-v0")
    require(model.instance.hash == penalty.instance_sha256, "instance", model.instance.hash, "the penalty's own")
    require(model.law.name == penalty.law, "law", model.law.name, penalty.law)
    shape = (len(model.law.days.offset) - 1, model.instance.steps)
    require(penalty.mean_kwh.shape == shape, "shape of mean_kwh", penalty.mean_kwh.shape, str(shape))


def _prepare(model: Model, days: Days, penalty: Penalty) -> tuple[Floats, Rules, Floats, Floats]:
    """The critic (days, T, levels, L, G), the rules, and the weights of the market's nodes."""
    _check(model, penalty)
    shape = (len(days.scenario.day), model.instance.steps, max(penalty.draws, 1))
    require(days.other_kwh.shape == shape, "shape of other_kwh", days.other_kwh.shape, str(shape))
    values = critic_values(model.instance, penalty)[0]
    return values, _rules(model, penalty), *market_weights(model.instance, days.scenario, penalty.nodes)


def critic_values(instance: Instance, penalty: Penalty) -> tuple[Floats, Rules]:
    """The critic: what is still to be earned, and the rules that its lot keeps to. No plan widens its gate's range.

    Args:
        instance: the lot.
        penalty: fitted for it.

    Returns:
        Values (days, T, levels, L, G) [$] at the end of step t, for the capacity's levels, the market's nodes and the
        stored energy's grid; the Rules.

    Raises:
        InvalidInputError: for the penalty of another lot.
    """
    require(instance.hash == penalty.instance_sha256, "instance", instance.hash, "the penalty's own")
    rules = _rules(_plain(instance), penalty)
    chain = replace(penalty, scale=(0.0, 0.0), path=1, inner_seed=0)  # what the critic depends on
    return _critic(_Chain(chain, rules)), rules


@lru_cache(maxsize=8)
def _plain(instance: Instance) -> Model:
    return Model(instance)


class _Chain:
    """A penalty's chain and its rules, hashable by content."""

    def __init__(self, penalty: Penalty, rules: Rules) -> None:
        self.penalty, self.rules = penalty, rules
        self._key = (penalty.hash, rules.ratio.tobytes(), rules.plan.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Chain) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=2)  # tens of megabytes each
def _critic(chain: _Chain) -> Floats:
    p = chain.penalty
    return critic(  # type: ignore[no-any-return]
        p.mean_kwh, p.spread_kwh, p.slope, p.noise_kwh, p.leaving_kwh, p.width_kwh, chain.rules
    )


def _rules(model: Model, penalty: Penalty) -> Rules:
    lot, steps = model.instance, model.instance.steps
    market = market_nodes(lot, penalty.nodes)
    points, shares = hermegauss(_QUADRATURE)
    eta = lot.efficiency
    refill = lot.buy * (1.0 / eta - eta) + lot.wear_usd_per_kwh * (1.0 / eta + eta)  # as kernels.step_kernel
    forced = penalty.tight and lot.dispatch == "minimal_move"
    return Rules(
        eta=eta,
        step_h=lot.step_h,
        grid_kw=lot.grid_limit_kw,
        imbalance=lot.imbalance_usd_per_kwh,
        wear=lot.wear_usd_per_kwh,
        sell=lot.sell_fraction,
        fee=lot.fee_fraction,
        back=lot.return_fraction,
        buy=lot.buy,
        node_surplus=market.surplus_kw,
        node_deficit=market.deficit_kw,
        shift=market.shift,
        refill=refill if forced else np.zeros(steps),
        ratio=model.constants.ratio if penalty.tight else np.zeros(steps),
        plan=model.plan_kwh if penalty.tight else np.full(steps, physical_limits(lot)[0]),
        levels=_LEVELS,
        points=points,
        shares=shares / shares.sum(),
        knots=penalty.leaving_kwh.shape[2] - 1,
        path=penalty.path,
    )


def _offers(days: Days) -> tuple[Floats, Floats]:
    s = days.scenario
    return np.ascontiguousarray(s.surplus_kw[:, :-1]), np.ascontiguousarray(s.deficit_kw[:, :-1])
