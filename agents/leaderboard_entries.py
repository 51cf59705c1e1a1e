"""Shipped baselines on the leaderboard: policies that are made in seconds, tuned on scenarios of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agents.compare import Contestant
from v2g_env.core.policy import Policy
from v2g_env.core.validate import require

__all__ = ["baselines_of"]

_TUNING_SEED = 7100  # of scenarios that baselines are tuned on


def baselines_of(env_id: str, model: Any) -> list[Contestant]:
    """The shipped policies of an environment.

    Args:
        env_id: registered id.
        model: of its board.

    Raises:
        InvalidInputError: for an environment without baselines here.
    """
    require(env_id in _BASELINES, "environment", env_id, ", ".join(_BASELINES))
    return _BASELINES[env_id](model)


def _plain(name: str, make: Callable[[Any], Policy]) -> Contestant:
    return Contestant(name, "baseline", make)


def _parking_lot(model: Any) -> list[Contestant]:
    from baselines.parking_lot.critic_policy import CriticControl
    from baselines.parking_lot.policies import (
        ChargeWhenCheap,
        DoNothing,
        LeastLaxity,
        PlanReplay,
        PredictiveControl,
    )
    from baselines.parking_lot.programs import solve

    law = model.law.name
    robust = solve(model.instance, n_samples=5000, seed=_TUNING_SEED)
    eps = robust.certificate["risk"]["eps"]
    return [
        Contestant("do nothing", "baseline", DoNothing, 0.0, law),
        Contestant("certified plan, robust", "baseline", PlanReplay, eps, law, robust.plan),
        _plain("charge when cheap", ChargeWhenCheap),
        _plain("least laxity", LeastLaxity),
        _plain("predictive control", PredictiveControl),
        _plain("critic control", CriticControl),
    ]


def _stackelberg(model: Any) -> list[Contestant]:
    from baselines.stackelberg.policies import (
        CoordinateSearch,
        NoRebates,
        StaticByType,
        StaticRebates,
        tune_by_type,
        tune_static,
    )
    from v2g_env.stackelberg.scenario import sample

    tuning = sample(model.instance, 20, _TUNING_SEED)
    static, by_type = tune_static(model, tuning), tune_by_type(model, tuning)
    promise = (model.instance.eta if model.instance.variant == "rigorous" else None, model.law.name)
    return [
        Contestant("no rebates", "baseline", NoRebates, *promise),
        Contestant("static rebates", "baseline", lambda m: StaticRebates(m, static), *promise),
        Contestant("static by day type", "baseline", lambda m: StaticByType(m, *by_type), *promise),
        Contestant("coordinate search", "baseline", CoordinateSearch, *promise),
    ]


def _weeks(model: Any) -> list[Contestant]:
    from baselines.shared_battery.policies import (
        DensityThreshold,
        DynamicProgramme,
        FirstCome,
        PacedDensity,
        tune_density,
        tune_paced,
    )
    from v2g_env.shared_battery.scenario import sample_weeks

    tuning = sample_weeks(model.instance, model.law, 40, _TUNING_SEED)
    price, paced = tune_density(model, tuning), tune_paced(model, tuning)
    found = [
        _plain("first come", FirstCome),
        _plain("density threshold", lambda m: DensityThreshold(m, price)),
        _plain("paced density threshold", lambda m: PacedDensity(m, *paced)),
    ]
    return found if model.partial else [*found, _plain("season programme", DynamicProgramme)]


def _seasons(model: Any) -> list[Contestant]:
    from baselines.shared_battery.programs import separate, solve
    from baselines.shared_battery.seasons import FixedSizes

    alone, together = separate(model.instance), solve(model.instance, seed=_TUNING_SEED)
    eps = together.certificate["risk"]["eps"]

    def fixed(sizes: Any) -> Callable[[Any], Policy]:
        return lambda m: FixedSizes(m, sizes.own_kwh, sizes.shared_kwh)

    return [
        _plain("separate batteries", fixed(alone)),
        Contestant("certified program", "baseline", fixed(together), eps, model.law.name),
    ]


def _scheduling(model: Any) -> list[Contestant]:
    from baselines.scheduling.day import Protection
    from baselines.scheduling.mpc import PredictiveControl
    from baselines.scheduling.policies import DayAhead, Uncontrolled

    return [
        _plain("without V2G", lambda m: Uncontrolled(m, 1.0)),
        _plain("robust plan, alpha 2", lambda m: DayAhead(m, Protection("budget", 2.0, wind=True))),
        _plain("predictive control", lambda m: PredictiveControl(m, 1.0)),
    ]


def _price_chain(model: Any) -> list[Contestant]:
    from baselines.price_chain.policies import TablePolicy, early_plan, late_plan, threshold_plan, tune_threshold
    from baselines.price_chain.values import solve

    plans = {
        "early charging": early_plan(model),
        "late charging": late_plan(model),
        "price thresholds": threshold_plan(model, *tune_threshold(model)),
        "optimal plan": solve(model).plan,
    }

    def table(plan: Any) -> Callable[[Any], Policy]:
        return lambda m: TablePolicy(m, plan)

    return [_plain(name, table(plan)) for name, plan in plans.items()]


_BASELINES: Mapping[str, Callable[[Any], list[Contestant]]] = {
    "V2G/ParkingLot-v0": _parking_lot,
    "V2G/Stackelberg-v0": _stackelberg,
    "V2G/SharedBatterySizing-v0": _seasons,
    "V2G/SharedBatteryAllocation-v0": _weeks,
    "V2G/SharedBatteryAllocationPartial-v0": _weeks,
    "V2G/Scheduling-v0": _scheduling,
    "V2G/PriceChain-v0": _price_chain,
}
