"""The upper side of the leaderboard: official bounds path by path from their certificates, and submitted penalties.

A penalty has conditional mean zero for every policy, and its data (a frozen function of the state, say) are fixed
before the set was drawn. The mean over scenarios of max (return - penalty) then bounds every policy's mean return
(Brown, Smith and Sun, "Information relaxations and duality in stochastic dynamic programs", Operations Research 58,
2010). ADAPTERS is the one place where an environment says how it reads such data; CONTROLS the one where it says how
the penalty in its own board's bound is recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.leaderboard_sets import BoardSet, Scene
from baselines.certificate import check, unpack
from baselines.checking import expect, near
from v2g_env.core.validate import require
from v2g_env.rollout import Episodes

__all__ = ["ADAPTERS", "CONTROLS", "Adapter", "Control", "certified_bound"]

Floats = NDArray[np.float64]
Data = Mapping[str, Any]

# (model, scenario, data, seed of the scenario) -> (m,) per-path bound [$], without a solver: the check calls it too;
# raises InvalidInputError or CertificateError for data that it cannot read
Adapter = Callable[[Any, Any, Data, int], Floats]
# (model, scenario, certificate of the bound, episodes) -> (m,) penalty of every path [$]
Control = Callable[[Any, Any, Data, Episodes], Floats]

_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|


def certified_bound(chosen: BoardSet, scene: Scene, bound_usd: Floats, certificate: Data | None) -> str:
    """Check the official bound of every path against its certificate, and say what holds.

    Args:
        chosen: the set.
        scene: its model and scenarios.
        bound_usd: (m,) bound of every period.
        certificate: of the bound; None where the family has no such kind.

    Raises:
        CertificateError: for a certificate that does not hold, or is about something else, or another bound.
    """
    label = f"{chosen.env_id}: {chosen.periods} {scene.per}s of {chosen.law}, seed {chosen.seed}"
    if certificate is None:
        expect(chosen.env_id in _UNCERTIFIED, f"bound of {chosen.env_id}", None, "its certificate")
        return f"{label}: the bound {bound_usd.mean():.4f} $ comes without a certificate and was not checked"
    report = check(certificate, scene.instance)
    about = certificate.get("sample")
    if about is not None:
        for field, wanted in (("seed", chosen.seed), ("n_samples", chosen.periods)):
            expect(about[field] == wanted, f"sample.{field} of the bound", about[field], wanted)
        if "law" in about:
            own = scene.model(None).law.name
            expect(about["law"] == own, "sample.law of the bound", about["law"], own)
    if chosen.env_id in _PATHS:
        paths = _PATHS[chosen.env_id](scene, certificate)
        worst = int(np.abs(bound_usd - paths).argmax())
        near(f"bound of scenario {worst}", float(bound_usd[worst]), float(paths[worst]), _MONEY)
        scope = "in expectation" if about is None else "on average over them"
        return f"{label}: no policy earns more than {bound_usd.mean():.4f} $ {scope}; every bound recomputed"
    expect("mean_bound_usd" in report.values, "kind of the bound", report.kind, "a bound on every policy")
    near("mean of the bounds", float(bound_usd.mean()), report.values["mean_bound_usd"], _MONEY)
    return f"{label}: no policy earns more than {bound_usd.mean():.4f} $ on average over them; single paths as stated"


def _lot_paths(scene: Scene, certificate: Data) -> Floats:
    from baselines.parking_lot.samples import reachable, true_market
    from baselines.parking_lot.storage import bound

    expect(certificate["kind"] == "hindsight bound", "kind of the bound", certificate["kind"], "hindsight bound")
    lot, scenario = scene.instance, scene.scenario
    market = true_market(lot, scenario)
    return bound(lot, market, reachable(lot, scenario), None, unpack(certificate["multiplier"]))


def _week_paths(scene: Scene, certificate: Data) -> Floats:
    from baselines.shared_battery.hindsight import hindsight

    kind = "week hindsight bound"
    expect(certificate["kind"] == kind, "kind of the bound", certificate["kind"], kind)
    return hindsight(scene.model(None), scene.scenario, certificate["grid"] or 1).bound_usd


def _season_paths(scene: Scene, certificate: Data) -> Floats:
    expect(certificate["kind"] == "season bound", "kind of the bound", certificate["kind"], "season bound")
    return np.full(len(scene.scenario[0]), float(certificate["mean_bound_usd"]))


def _chain_paths(scene: Scene, certificate: Data) -> Floats:
    expect(certificate["kind"] == "price chain values", "kind of the bound", certificate["kind"], "price chain values")
    known = certificate["law"] is None and certificate["ambiguity"] is None
    expect(known, "bound", "of another law, or robust", "the optimum of the instance's own chain")
    return np.full(len(scene.scenario[0]), float(certificate["value_usd"]))


_UNCERTIFIED = ("V2G/Stackelberg-v0",)  # days are solved, each with a certificate of its own kind, not kept here
_PATHS: Mapping[str, Callable[[Scene, Data], Floats]] = {
    "V2G/ParkingLot-v0": _lot_paths,
    "V2G/SharedBatterySizing-v0": _season_paths,
    "V2G/SharedBatteryAllocation-v0": _week_paths,
    "V2G/SharedBatteryAllocationPartial-v0": _week_paths,
    "V2G/PriceChain-v0": _chain_paths,
}


def _chain_penalty(model: Any, scenario: Any, data: Data, seed: int) -> Floats:
    """Data: critic, packed (T, L, Q, E, 2) values at the start of every step [$], and its scale in [0, 1]."""
    from baselines.price_chain.penalty import penalised

    require(set(data) == {"critic", "scale"}, "fields of the penalty", sorted(data), "critic, scale")
    return penalised(model, scenario, unpack(data["critic"]), data["scale"]).bound_usd


def _lot_penalty(model: Any, scenario: Any, data: Data, seed: int) -> Floats:
    """Data: as baselines.parking_lot.penalty.Penalty.to_dict gives them."""
    from baselines.parking_lot.penalty import Penalty, days_for, penalised

    penalty = Penalty.from_dict(data)
    days = days_for(model, len(scenario.day), seed, penalty)
    same = np.array_equal(days.scenario.day, scenario.day) and np.array_equal(days.scenario.arrive, scenario.arrive)
    require(same, "days of the penalty", "others", "those of the set")
    return penalised(model, days, penalty).bound_usd


ADAPTERS: dict[str, Adapter] = {
    "V2G/PriceChain-v0": _chain_penalty,
    "V2G/ParkingLot-v0": _lot_penalty,
}
CONTROLS: dict[str, Control] = {}
