"""Certificates of the drivers' cost game: for every coalition a plan that costs its worth, and weights for a bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report, pack, unpack
from baselines.checking import expect, numbers, whole_number
from baselines.games.coalitions import MOST_PLAYERS, CooperativeGame, members_of
from baselines.games.verify import table_hash
from baselines.shared_battery.duals import largest_use, least_use_bound
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.scenario import sample_days

__all__ = ["KIND", "Evidence", "certificate_of", "check_cost_game", "limits"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KIND = "cost game"
_FIELDS = {
    *("format", "problem", "kind", "instance", "instance_sha256", "sample", "players"),
    *("own", "counts", "days", "weights", "upper", "lower", "table_sha256"),
}
_MOST_WORK = 10**11  # coalitions x days x drivers: no forged number makes a check endless
_ROUNDING = 1e-12


class Evidence(NamedTuple):
    """What proves the limits of all 2^n coalitions.

    Attributes:
        own: (2^n, n) own batteries, zero for those who are not members [kWh].
        counts: (2^n,) number of days with weight of each coalition.
        days, weights: (m,) of all coalitions, one after the other; day N stands for one without any need.
    """

    own: Floats
    counts: Ints
    days: Ints
    weights: Floats


def limits(instance: Instance, n_samples: int, seed: int, evidence: Evidence) -> tuple[Floats, Floats]:
    """Upper and lower limits (2^n,) of all costs that the evidence proves [$], no solver needed."""
    need = sample_days(instance, "generator", n_samples, seed).need_kwh
    every = np.vstack([need, np.zeros((1, need.shape[1]))])
    ratio, price = instance.own_usd_per_kwh / instance.shared_usd_per_kwh, instance.shared_usd_per_kwh
    ends = np.cumsum(evidence.counts)
    upper, lower = np.zeros((2, len(evidence.counts)))
    for mask in range(1, len(upper)):
        members = list(members_of(mask))
        low, high = np.full(len(members), instance.own_min_kwh), np.full(len(members), instance.own_max_kwh)
        part = slice(int(ends[mask] - evidence.counts[mask]), int(ends[mask]))
        rows = every[evidence.days[part]][:, members]
        bound = least_use_bound(rows, evidence.weights[part], low, high, ratio)
        own = evidence.own[mask, members]
        use = max(float(largest_use(need[:, members], own, ratio).max()), ratio * float(own.sum()))
        upper[mask] = price * use * (1.0 + _ROUNDING)
        lower[mask] = min(price * bound * (1.0 - _ROUNDING), upper[mask])
    return upper, lower


def certificate_of(
    instance: Instance, n_samples: int, seed: int, evidence: Evidence, game: CooperativeGame
) -> dict[str, Any]:
    """JSON certificate of a game made from this evidence."""
    return {
        "format": FORMAT,
        "problem": "shared_battery",
        "kind": KIND,
        "instance": instance.to_dict(),
        "instance_sha256": instance.hash,
        "sample": {"seed": int(seed), "n_samples": int(n_samples)},
        "players": list(game.players),
        "own": pack(evidence.own),
        "counts": pack(evidence.counts),
        "days": pack(evidence.days),
        "weights": pack(evidence.weights),
        "upper": pack(game.upper),
        "lower": pack(game.lower),
        "table_sha256": table_hash(game),
    }


def check_cost_game(data: Mapping[str, Any], instance: Instance) -> Report:
    """Check one certificate of kind "cost game".

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    n, origin = instance.drivers, data["sample"]
    expect(n <= MOST_PLAYERS, "drivers", n, f"at most {MOST_PLAYERS}")
    ok = isinstance(origin, Mapping) and set(origin) == {"seed", "n_samples"}
    expect(ok, "sample", origin, "exactly seed and n_samples")
    samples = whole_number("sample.n_samples", origin["n_samples"], 1, 10**6)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    expect((samples * n) << n <= _MOST_WORK, "sample.n_samples", samples, "coalitions x days x drivers at most 1e11")
    evidence = _evidence(data, instance, samples)
    upper, lower = (numbers(name, data[name], (1 << n,)) for name in ("upper", "lower"))
    most, least = limits(instance, samples, seed, evidence)
    for name, stated, proven, side in (("upper", upper, most, 1.0), ("lower", lower, least, -1.0)):
        beyond = side * (proven - stated) - 1e-9 * (1.0 + np.abs(proven))
        worst = int(beyond.argmax())
        expect(beyond[worst] <= 0.0, f"{name} of coalition {worst}", float(stated[worst]), repr(float(proven[worst])))
    try:
        game = CooperativeGame(upper, data["players"], "cost", lower, upper)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    expect(data["table_sha256"] == table_hash(game), "table_sha256", data["table_sha256"], table_hash(game))
    gap = float((upper - lower).max())
    claim = (
        f"costs of all {1 << n} coalitions of {n} drivers on {samples} sampled days are known within {gap:.2e} $; all "
        f"together pay {game.total:.4f} $, each alone {float(upper[1 << np.arange(n)].sum()):.4f} $"
    )
    return Report(KIND, (claim,), {"total_usd": game.total, "gap_usd": gap})


def _evidence(data: Mapping[str, Any], instance: Instance, samples: int) -> Evidence:
    n = instance.drivers
    counts = numbers("counts", data["counts"], (1 << n,), "<i8")
    known = bool(counts[0] == 0 and (counts[1:] >= 1).all() and (counts <= samples + 1).all())
    expect(known, "counts", counts.tolist(), "0 for the empty coalition, at least 1 for all others")
    days, weights = unpack(data["days"]), numbers("weights", data["weights"], (int(counts.sum()),))
    expect(days.shape == weights.shape and days.dtype.str == "<i8", "shape of days", days.shape, weights.shape)
    expect(bool(((days >= 0) & (days <= samples)).all()), "days", "out of range", f"0 to {samples}")
    expect(bool((weights > 0.0).all()), "weights", "not positive", "positive numbers")
    own = numbers("own", data["own"], (1 << n, n))
    inside = (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(bool)
    ok = (own[inside] >= instance.own_min_kwh).all() and (own[inside] <= instance.own_max_kwh).all()
    expect(bool(ok), "own", "out of range", f"{instance.own_min_kwh:g} to {instance.own_max_kwh:g} for members")
    return Evidence(own, counts, days, weights)
