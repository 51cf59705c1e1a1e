"""Drivers size their own batteries, each for himself, and share the bill of the shared one.

Driver i chooses b_i in [low, high] and pays p_own b_i + w_i(b) p_shared s(b), where s(b) = max_k sum_j (xi_j^k - b_j)_+
is the shared battery that serves all sampled days. The bill is split by a named rule:

===========  =================================================================================================
equal        w_i = 1 / n
shortfall    w_i = m_i / sum_j m_j, m_i = mean over the days of (xi_i^k - b_i)_+ (equal if nobody lacks anything)
===========  =================================================================================================

Against the others, s = max(A, B - b_i) with A = max_k R_k, B = max_k (R_k + xi_i^k), R_k what the others lack. So a
best response is exact: under "equal" one kink decides; under "shortfall" the cost between two kinks has one stationary
point at most, in closed form. No solver is needed, to find it or to check it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, near, numbers, whole_number
from v2g_env.core.validate import InvalidInputError, array, number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

__all__ = ["KIND", "SPLITS", "Sizing", "best_responses", "check_sizing", "costs", "respond", "sizing_equilibrium"]

Floats = NDArray[np.float64]

KIND = "sizing equilibrium"
SPLITS = ("equal", "shortfall")
_FIELDS = {
    *("format", "problem", "kind", "instance", "instance_sha256", "sample"),
    *("split", "own_kwh", "costs_usd", "epsilon_usd"),
}
_MOST_WORK = 10**9


class Sizing(NamedTuple):
    """Where best responses led.

    Attributes:
        own_kwh: (n,) own batteries.
        costs_usd: (n,) what each pays for a season.
        epsilon_usd: (n,) what each saves at most by deviating alone, exact.
        rounds: of all drivers answering one after the other.
        settled: whether the last round changed nothing.
    """

    own_kwh: Floats
    costs_usd: Floats
    epsilon_usd: Floats
    rounds: int
    settled: bool


def costs(instance: Instance, need: Floats, own: Floats, split: str) -> Floats:
    """(n,) what drivers pay with own batteries (n,), for days (N, n) [$]."""
    short = np.maximum(need - own, 0.0)
    mean = short.mean(axis=0)
    share = np.full(len(own), 1.0 / len(own)) if split == "equal" or mean.sum() <= 0.0 else mean / mean.sum()
    shared = float(short.sum(axis=1).max())
    return np.asarray(instance.own_usd_per_kwh * own + instance.shared_usd_per_kwh * shared * share)


def respond(instance: Instance, need: Floats, own: Floats, driver: int, split: str) -> tuple[float, float]:
    """A driver's best own battery [kWh] against the others', and what he pays with it [$]; exact."""
    low, high = instance.own_min_kwh, instance.own_max_kwh
    short = np.maximum(need - own, 0.0)
    rest = short.sum(axis=1) - short[:, driver]
    mine = need[:, driver]
    least, most = float(rest.max()), float((rest + mine).max())
    points = np.array([low, high, np.clip(most - least, low, high)])
    price, shared = instance.own_usd_per_kwh, instance.shared_usd_per_kwh
    if split == "equal":
        found = price * points + shared / len(own) * np.maximum(least, most - points)
    else:
        others = float(short.mean(axis=0).sum() - short[:, driver].mean())
        points = _candidates(points, mine, (price, shared), (least, most), others)
        mean = _mean_above(mine, points)
        total = mean + others
        share = np.where(total > 0.0, mean / np.where(total > 0.0, total, 1.0), 1.0 / len(own))
        found = price * points + shared * share * np.maximum(least, most - points)
    best = int(found.argmin())
    return float(points[best]), float(found[best])


def _mean_above(needs: Floats, at: Floats) -> Floats:
    """mean_k (needs_k - at)_+ for every entry of ``at``."""
    ordered = np.sort(needs)
    tails = np.append(np.cumsum(ordered[::-1])[::-1], 0.0)
    first = np.searchsorted(ordered, at, side="right")
    return np.asarray(np.maximum(tails[first] - at * (len(needs) - first), 0.0) / len(needs))


def _candidates(
    points: Floats, mine: Floats, prices: tuple[float, float], levels: tuple[float, float], others: float
) -> Floats:
    """Kinks of the cost, and the stationary point of every piece between them.

    On a piece the mean shortfall is alpha - beta b and s = gamma - delta b, so that with d = alpha + others - beta b
    the slope of the cost is  price - shared delta - shared others (beta gamma - delta (alpha + others)) / d^2.
    """
    low, high = points[0], points[1]
    price, shared = prices
    kinks = np.unique(np.concatenate([points, mine[(mine > low) & (mine < high)]]))
    left, right = kinks[:-1], kinks[1:]
    if not len(left):
        return kinks
    middle = 0.5 * (left + right)
    ordered = np.sort(mine)
    first = np.searchsorted(ordered, middle, side="right")
    tails = np.append(np.cumsum(ordered[::-1])[::-1], 0.0)
    alpha, beta = tails[first] / len(mine), (len(mine) - first) / len(mine)
    falling = middle < levels[1] - levels[0]
    gamma, delta = np.where(falling, levels[1], levels[0]), falling.astype(np.float64)
    slope = price - shared * delta
    bend = shared * others * (beta * gamma - delta * (alpha + others))
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.sqrt(bend / slope)
        stationary = (alpha + others - d) / beta
    inside = np.isfinite(stationary) & (stationary > left) & (stationary < right)
    return np.concatenate([kinks, stationary[inside]])


def best_responses(instance: Instance, need: Floats, own: Floats, split: str) -> tuple[Floats, Floats]:
    """What every driver pays (n,), and at least pays if he alone changes his battery (n,) [$]."""
    least = np.array([respond(instance, need, own, i, split)[1] for i in range(len(own))])
    return costs(instance, need, own, split), least


def sizing_equilibrium(
    instance: Instance,
    split: str = "equal",
    n_samples: int = 1000,
    seed: int = 1,
    rounds: int = 200,
    start_kwh: Floats | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Sizing, dict[str, Any]]:
    """Let drivers answer each other, one after the other, until nobody changes anything; certify where that led.

    There may be no equilibrium, or another one from another start: epsilon says how close this is to one.

    Args:
        instance: fleet and prices.
        split: of the shared battery's bill, one of SPLITS.
        n_samples: sampled days.
        seed: of the days.
        rounds: at most.
        start_kwh: (n,) own batteries to start from; None: each alone, the largest need of each.
        say: receives a line per round.

    Returns:
        Where it led, and its JSON certificate.

    Raises:
        InvalidInputError: for an unknown split, or a number out of range.
    """
    require(split in SPLITS, "split", split, ", ".join(SPLITS))
    number("n_samples", n_samples, 1, 10**6, integer=True)
    number("rounds", rounds, 1, 10**6, integer=True)
    low, high = instance.own_min_kwh, instance.own_max_kwh
    need = sample_days(instance, "generator", n_samples, seed).need_kwh
    given = np.clip(need.max(axis=0), low, high) if start_kwh is None else start_kwh
    own = array("start_kwh", given, (instance.drivers,), low, high)
    settled, count = False, 0
    while not settled and count < rounds:
        settled, count = True, count + 1
        for i in range(len(own)):
            now = costs(instance, need, own, split)[i]
            place, best = respond(instance, need, own, i, split)
            if best < now - 1e-9 * (1.0 + now):
                own[i], settled = place, False
        say(f"round {count}: {own.sum():.1f} kWh of own batteries")
    paid, least = best_responses(instance, need, own, split)
    found = Sizing(own, paid, np.maximum(paid - least, 0.0), count, settled)
    return found, {
        "format": FORMAT,
        "problem": "shared_battery",
        "kind": KIND,
        "instance": instance.to_dict(),
        "instance_sha256": instance.hash,
        "sample": {"seed": int(seed), "n_samples": int(n_samples)},
        "split": split,
        "own_kwh": pack(own),
        "costs_usd": pack(paid),
        "epsilon_usd": float(found.epsilon_usd.max()),
    }


def check_sizing(data: Mapping[str, Any], instance: Instance) -> Report:
    """Check one certificate of kind "sizing equilibrium": all best responses again, exactly.

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    split, origin, n = data["split"], data["sample"], instance.drivers
    expect(split in SPLITS, "split", split, ", ".join(SPLITS))
    ok = isinstance(origin, Mapping) and set(origin) == {"seed", "n_samples"}
    expect(ok, "sample", origin, "exactly seed and n_samples")
    samples = whole_number("sample.n_samples", origin["n_samples"], 1, 10**6)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    expect(samples * n * n <= _MOST_WORK, "sample.n_samples", samples, "days x drivers^2 at most 1e9")
    own = numbers("own_kwh", data["own_kwh"], (n,))
    try:
        own = array("own_kwh", own, (n,), instance.own_min_kwh, instance.own_max_kwh)
        need = sample_days(instance, "generator", samples, seed).need_kwh
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    paid, least = best_responses(instance, need, own, split)
    stated = numbers("costs_usd", data["costs_usd"], (n,))
    worst = int(np.abs(stated - paid).argmax())
    near(f"cost of driver {worst}", float(stated[worst]), float(paid[worst]))
    epsilon = float(np.maximum(paid - least, 0.0).max())
    near("epsilon_usd", data["epsilon_usd"], epsilon)
    claim = (
        f"{n} drivers with {own.sum():.2f} kWh of own batteries pay {paid.sum():.4f} $ ({split} split); none can save "
        f"more than {epsilon:.2e} $ by changing his alone"
    )
    return Report(KIND, (claim,), {"total_usd": float(paid.sum()), "epsilon_usd": epsilon})
