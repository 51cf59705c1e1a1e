"""Rows of the leaderboard as plain data, made from what was recorded: the same code writes them and checks them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.leaderboard_sets import Counted
from v2g_env.metrics import mean_interval, upper_limit

__all__ = ["FORMAT", "KINDS", "PENALTY_FIELDS", "ROW_FIELDS", "SET_FIELDS", "penalty_figures", "policy_figures"]

Floats = NDArray[np.float64]
Units = NDArray[np.int64] | None

FORMAT = "v2g-env leaderboard 1"
KINDS = ("baseline", "agent", "submission")  # shipped; a trained bundle; somebody's Python function

_POLICY_FIGURES = {
    "mean_usd",
    "low_usd",
    "high_usd",
    "gap_usd",
    "gap_percent",
    "gap_low_percent",
    "gap_high_percent",
    "gap_limit_percent",
    "violated",
    "trials",
    "frequency",
    "limit",
}
_PENALTY_FIGURES = {"mean_usd", "low_usd", "high_usd", "limit_usd"}
ROW_FIELDS = _POLICY_FIGURES | {
    "policy",
    "kind",
    "sha256",
    "look",
    "beta",
    "plan_kwh",
    "promised",
    "decision_us",
    "actions",
    "returns_usd",
    "gaps_usd",
}
PENALTY_FIELDS = _PENALTY_FIGURES | {"penalty", "sha256", "look", "beta", "data", "bound_usd"}
SET_FIELDS = {
    "env_id",
    "law",
    "periods",
    "seed",
    "instance_sha256",
    "beta",
    "per",
    "trial",
    "bound_name",
    "bound_usd",
    "bound_certificate",
    "controlled",
    "rows",
    "penalties",
}


def _known(value: float) -> float | None:
    """A number, or null where there is none: limits from one independent unit are infinite."""
    return float(value) if math.isfinite(value) else None


def policy_figures(
    returns_usd: Floats, gaps_usd: Floats, bound_usd: Floats, units: Units, counted: Counted, beta: float
) -> dict[str, Any]:
    """All numbers of a policy's row; intervals at 95 %, both limits at confidence 1 - beta / 2 each.

    Args:
        returns_usd: (m,) return of every period [$].
        gaps_usd: (m,) bound minus return, penalty added where the bound has one [$].
        bound_usd: (m,) bound [$]; percentages are of its mean.
        units: (m,) label of the independent unit, None if every period is one.
        counted: violations, their limit at confidence 1 - beta / 2.
        beta: of this row.
    """
    mean, gap = mean_interval(returns_usd, units), mean_interval(gaps_usd, units)
    top = mean_interval(bound_usd, units).mean
    scale = 100.0 / top if top > 0.0 else math.nan
    return {
        "mean_usd": mean.mean,
        "low_usd": _known(mean.low),
        "high_usd": _known(mean.high),
        "gap_usd": gap.mean,
        "gap_percent": _known(scale * gap.mean),
        "gap_low_percent": _known(scale * gap.low),
        "gap_high_percent": _known(scale * gap.high),
        "gap_limit_percent": _known(scale * upper_limit(gaps_usd, units, 1.0 - beta / 2.0)),
        "violated": float(counted.violated),
        "trials": int(counted.trials),
        "frequency": float(counted.violated / counted.trials),
        "limit": float(counted.limit),
    }


def penalty_figures(bound_usd: Floats, units: Units, beta: float) -> dict[str, Any]:
    """All numbers of a penalty's row: mean bound, 95 % interval, one-sided limit at confidence 1 - beta / 2 [$]."""
    mean = mean_interval(bound_usd, units)
    return {
        "mean_usd": mean.mean,
        "low_usd": _known(mean.low),
        "high_usd": _known(mean.high),
        "limit_usd": _known(upper_limit(bound_usd, units, 1.0 - beta / 2.0)),
    }
