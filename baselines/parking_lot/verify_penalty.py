"""Check of the parking lot's penalised bounds: everything recomputed from seeds and the frozen penalty, no solver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from baselines.certificate import CertificateError, Report
from baselines.checking import expect, near, numbers, whole_number
from baselines.parking_lot.penalty import Penalty, days_for, penalised
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.model import Model

__all__ = ["FIELDS", "KIND", "PARTS", "verify_penalised"]

KIND = "penalised bound"
FIELDS = {KIND: {"plan_kwh", "penalty", "penalty_sha256", "bound_usd", "mean_bound_usd"}}
PARTS = {KIND: {"sample": {"law", "seed", "n_samples"}}}

_MONEY = 1e-9  # agreement of recomputed money, relative to 1 + |value|
_MOST_DAYS = 100_000


def verify_penalised(data: Mapping[str, Any], lot: Instance) -> Report:
    """Redraw the days and the inner draws, recompute every day's bound and the mean."""
    origin = data["sample"]
    n = whole_number("sample.n_samples", origin["n_samples"], 1, _MOST_DAYS)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    plan = data["plan_kwh"]
    ok = isinstance(plan, list) and all(type(value) is float for value in plan)
    expect(ok, "plan_kwh", plan, "a list of numbers")
    try:
        penalty = Penalty.from_dict(data["penalty"])
        expect(data["penalty_sha256"] == penalty.hash, "penalty_sha256", data["penalty_sha256"], penalty.hash)
        model = Model(lot, origin["law"], plan)
        bound = penalised(model, days_for(model, n, seed, penalty), penalty).bound_usd
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    claimed = numbers("bound_usd", data["bound_usd"], (n,))
    off = np.abs(claimed - bound) > _MONEY * (1.0 + np.abs(bound))
    expect(not off.any(), "bound_usd", f"day {np.flatnonzero(off)[:1]}", "the recomputed bounds")
    mean = float(bound.mean())
    near("mean_bound_usd", data["mean_bound_usd"], mean, _MONEY)
    spread = float(bound.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    claim = (
        f"no policy of V2G/ParkingLot-v0 earns more on average over days of {model.law.name} than the mean of this "
        f"bound, which is {mean:.4f} $ over these {n} days (standard error {spread:.2f} $)"
    )
    return Report(KIND, (claim,), {"mean_bound_usd": mean, "standard_error_usd": spread})
