"""Certificates of shares that hold on sampled scenarios, and of the promise for fresh ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, Report, pack, unpack
from baselines.checking import expect, near, numbers
from baselines.games.coalitions import MOST_PLAYERS
from baselines.games.stability import SampledCore, gain_of_leaving, optimality
from baselines.risk import degenerate

__all__ = ["check_sampled", "sampled_certificate"]

Data = Mapping[str, Any]
Floats = NDArray[np.float64]

_SAMPLED = {
    *("format", "problem", "kind", "gains", "source", "amount_usd", "payments", "excess_usd"),
    *("support", "masks", "weights", "beta", "eps"),
}


def sampled_certificate(gains: Floats, amount: float, found: SampledCore, source: str) -> dict[str, Any]:
    """JSON certificate of shares that hold on scenarios, and of the promise that goes with them.

    Args:
        gains: (N, 2^n) tables of the scenarios, as ``sampled_core`` took them.
        amount: that is shared out [$].
        found: the answer.
        source: where the scenarios come from, for people.
    """
    return {
        "format": FORMAT,
        "problem": "games",
        "kind": "sampled core",
        "gains": pack(np.asarray(gains, np.float64)),
        "source": source,
        "amount_usd": float(amount),
        "payments": pack(found.payments),
        "excess_usd": found.excess_usd,
        "support": list(found.support),
        "masks": list(found.masks),
        "weights": pack(found.weights),
        "beta": found.beta,
        "eps": found.eps,
    }


def check_sampled(data: Data) -> Report:
    """Check one certificate of kind "sampled core".

    Shares hold on every scenario, are the unique answer for the support, and eps follows from its size.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _SAMPLED, "fields", sorted(data), ", ".join(sorted(_SAMPLED)))
    gains, paid = unpack(data["gains"]), unpack(data["payments"])
    n = len(paid) if paid.ndim == 1 else 0
    expect(2 <= n <= MOST_PLAYERS and paid.dtype.str == "<f8", "payments", paid.shape, "(n,) numbers")
    ok = gains.ndim == 2 and gains.shape[1] == 1 << n and len(gains) > 0 and gains.dtype.str == "<f8"
    expect(ok and bool(np.isfinite(gains).all() and np.isfinite(paid).all()), "gains", gains.shape, "(N, 2^n), finite")
    expect(not gains[:, 0].any(), "worth of the empty coalition", float(np.abs(gains[:, 0]).max()), "0")
    for name in ("amount_usd", "excess_usd", "beta", "eps"):
        expect(type(data[name]) is float, name, data[name], "a number")
    expect(isinstance(data["source"], str), "source", data["source"], "where the scenarios come from")
    support, masks = data["support"], data["masks"]
    known = isinstance(support, list) and all(type(k) is int and 0 <= k < len(gains) for k in support)
    expect(known and len(set(support)) == len(support) > 0, "support", support, "scenarios, each once")
    known = isinstance(masks, list) and all(type(mask) is int and 0 < mask < (1 << n) - 1 for mask in masks)
    expect(known and len(set(masks)) == len(masks), "masks", masks, "proper coalitions, each once")
    weights = numbers("weights", data["weights"], (len(masks),))
    amount, size = data["amount_usd"], 1.0 + float(np.abs(gains).max())
    worst = float(gain_of_leaving(gains, paid).max())
    expect(abs(worst - data["excess_usd"]) <= 1e-6 * size, "excess_usd", data["excess_usd"], repr(worst))
    top = gains[support].max(axis=0)
    miss = optimality(top, amount, paid, np.array(masks, np.int64), weights)
    expect(miss <= 1e-6, "conditions of the optimum", miss, "kept within 1e-6 by the support alone")
    beta = data["beta"]
    expect(0.0 < beta < 1.0, "beta", beta, "a number in (0, 1)")
    eps = float(degenerate(len(gains), len(support), beta))
    near("eps", data["eps"], eps)
    claim = (
        f"on {len(gains)} scenarios ({data['source']}) no coalition gains more than {worst:.6g} $ by leaving; with "
        f"confidence 1 - {beta:g} some does on a fresh one with probability at most {eps:.4g} ({len(support)} decide)"
    )
    return Report("sampled core", (claim,), {"excess_usd": worst, "eps": eps})
