"""Seasons: policies that choose given sizes, and the certificates of bounds and policies on sampled seasons."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import pack
from baselines.shared_battery.programs import header
from baselines.shared_battery.season_bound import Prices
from v2g_env.rollout import Episodes
from v2g_env.shared_battery.model import SIZING_FACTS, SizingModel

__all__ = ["FixedSizes", "Kept", "bound_certificate", "count_violations", "policy_certificate"]

Floats = NDArray[np.float64]


class FixedSizes:
    """Policy of V2G/SharedBatterySizing-v0 that chooses the same sizes every season.

    Args:
        model: of the environment.
        own_kwh: (n,) own batteries.
        shared_kwh: the shared battery.
    """

    def __init__(self, model: SizingModel, own_kwh: Floats, shared_kwh: float) -> None:
        self.action = model.action_for(own_kwh, shared_kwh).astype(np.float32)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """The sizes' action for every row, (n, drivers + 1)."""
        return np.tile(self.action, (len(observation), 1)), None


class Kept(NamedTuple):
    """Days of a rollout, those on which the shortfalls exceeded the shared battery, and the limit on their chance."""

    days: int
    violated: int
    eps: float


def count_violations(model: SizingModel, episodes: Episodes, beta: float) -> Kept:
    """Violated days of a rollout; chances may differ from season to season, as sizes may (risk.adaptive)."""
    share = episodes.facts[:, 0, SIZING_FACTS.index("violated_share")]
    season = model.instance.season_days
    days = season * len(share)
    violated = round(float(share.sum()) * season)
    return Kept(days, violated, risk.adaptive(days, violated, beta))


def bound_certificate(model: SizingModel, seed: int, seasons: int, evidence: Prices, cost_usd: float) -> dict[str, Any]:
    """JSON certificate of the bound on all fixed sizes over ``sample_seasons(instance, law, seasons, seed)``."""
    sample = {"seed": int(seed), "n_samples": int(seasons)}
    return header(model.instance, model.law, "season bound", sample) | {
        "missed_usd": pack(evidence.missed_usd),
        "shared_usd_per_kwh": pack(evidence.shared_usd_per_kwh),
        "mean_bound_usd": float(model.separate_usd - cost_usd),
    }


def policy_certificate(
    model: SizingModel, seed: int, episodes: Episodes, policy: str, beta: float, sha256: str | None = None
) -> dict[str, Any]:
    """JSON certificate of a policy on the seasons of ``sample_seasons(instance, law, n, seed)``."""
    sample = {"seed": int(seed), "n_samples": len(episodes.actions)}
    kept = count_violations(model, episodes, beta)
    return header(model.instance, model.law, "season policy", sample) | {
        "policy": policy,
        "policy_sha256": sha256,
        "actions": pack(episodes.actions),
        "mean_return_usd": float(episodes.returns.mean()),
        "risk": {"beta": beta, **kept._asdict()},
    }
