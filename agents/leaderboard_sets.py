"""The leaderboard's frozen scenario sets, one per environment, and their scenes: all that is needed without a solver.

A board (agents.boards) holds the bound too, which some families need a solver for. A scene holds the same model and
scenarios and counts violations at any confidence, so that rows can be checked, and limits shared among looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from v2g_env.core.validate import require
from v2g_env.rollout import Episodes

__all__ = ["BETA", "BOARD_SETS", "BoardSet", "Counted", "Scene", "scene_of", "set_of"]

Floats = NDArray[np.float64]

BETA = 1e-5  # that all limits of all submissions to a set share


@dataclass(frozen=True)
class BoardSet:
    """One environment's scenarios, with its default instance.

    Attributes:
        env_id: registered id.
        law: name of the law.
        periods: days, weeks or seasons.
        seed: of the scenarios, used for nothing else.
    """

    env_id: str
    law: str
    periods: int
    seed: int

    @property
    def key(self) -> str:
        """Name of the set among the looks: a changed set is another one."""
        return f"{self.env_id} {self.law} {self.periods} {self.seed}"


BOARD_SETS = (
    BoardSet("V2G/ParkingLot-v0", "generator", 1000, 7001),
    BoardSet("V2G/Stackelberg-v0", "generator", 300, 7002),
    BoardSet("V2G/SharedBatterySizing-v0", "generator", 100, 7003),
    BoardSet("V2G/SharedBatteryAllocation-v0", "generator", 400, 7004),
    BoardSet("V2G/SharedBatteryAllocationPartial-v0", "generator", 400, 7005),
    BoardSet("V2G/Scheduling-v0", "generator", 40, 7006),
    BoardSet("V2G/PriceChain-v0", "generator", 2000, 7007),
)


class Counted(NamedTuple):
    """Violations of a rollout: how many, among how many trials, and the upper limit of their probability."""

    violated: float
    trials: int
    limit: float


class Scene(NamedTuple):
    """Model and scenarios of a set.

    Attributes:
        instance: of the model.
        model: gives the model that shows a plan (None: the default one).
        scenario: the drawn episodes.
        units: (m,) label of the independent unit of every period, None if each is one.
        returns: (m,) return of every period of a rollout [$].
        violations: of a rollout, for a confidence parameter.
        per: what a period is.
        trial: what can be violated, in the plural.
        pathwise: whether the board's bound holds period by period, or for the mean alone.
    """

    instance: Any
    model: Callable[[Any], Any]
    scenario: Any
    units: NDArray[np.int64] | None
    returns: Callable[[Episodes], Floats]
    violations: Callable[[Episodes, float], Counted]
    per: str = "day"
    trial: str = "days"
    pathwise: bool = True


def set_of(env_id: str, sets: tuple[BoardSet, ...] = BOARD_SETS) -> BoardSet:
    """The scenario set of an environment; InvalidInputError if it has none."""
    found = next((each for each in sets if each.env_id == env_id), None)
    require(found is not None, "environment", env_id, ", ".join(each.env_id for each in sets))
    assert found is not None
    return found


def scene_of(chosen: BoardSet) -> Scene:
    """Draw the scenarios of a set."""
    require(chosen.env_id in _SCENES, "environment", chosen.env_id, ", ".join(_SCENES))
    return _SCENES[chosen.env_id](chosen)


def _whole(episodes: Episodes) -> Floats:
    return episodes.returns


def _days(tolerance: float) -> Callable[[Episodes, float], Counted]:
    """Counts independent episodes with an excess above the tolerance."""

    def count(episodes: Episodes, beta: float) -> Counted:
        n, bad = len(episodes.excess), int((episodes.excess > tolerance).sum())
        return Counted(bad, n, float(risk.hold_out(n, bad, beta)))

    return count


def _parking_lot(chosen: BoardSet) -> Scene:
    from v2g_env.parking_lot.instance import Instance
    from v2g_env.parking_lot.model import VIOLATION_TOLERANCE, Model
    from v2g_env.parking_lot.scenario import law, sample

    lot, source = Instance(), law(chosen.law)
    require(not source.replay, "law", chosen.law, "a law whose days are independent")
    scenario = sample(lot, source, chosen.periods, chosen.seed)
    return Scene(lot, lambda plan: Model(lot, source, plan), scenario, None, _whole, _days(VIOLATION_TOLERANCE))


def _price_chain(chosen: BoardSet) -> Scene:
    from v2g_env.price_chain.instance import Instance
    from v2g_env.price_chain.model import VIOLATION_TOLERANCE, Model
    from v2g_env.price_chain.scenario import sample_days

    model = Model(Instance(), chosen.law)
    scenario = sample_days(model.instance, model.law, chosen.periods, chosen.seed)
    return Scene(model.instance, lambda plan: model, scenario, None, _whole, _days(VIOLATION_TOLERANCE), pathwise=False)


def _scheduling(chosen: BoardSet) -> Scene:
    from baselines.scheduling.verify_days import count_violations
    from v2g_env.scheduling.instance import Instance
    from v2g_env.scheduling.model import Model
    from v2g_env.scheduling.scenario import sample

    model = Model(Instance(), chosen.law)
    scenario = sample(model.instance, model.law, chosen.periods, chosen.seed)

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_violations(episodes, beta)
        return Counted(kept.violated, kept.steps, kept.eps)

    return Scene(model.instance, lambda plan: model, scenario, None, _whole, count, trial="steps")


def _weeks(chosen: BoardSet) -> Scene:
    from baselines.shared_battery.verify_week import count_unserved
    from v2g_env.shared_battery.instance import Instance
    from v2g_env.shared_battery.model import WeekModel
    from v2g_env.shared_battery.scenario import sample_weeks

    model = WeekModel(Instance(), chosen.law, "Partial" in chosen.env_id)
    scenario = sample_weeks(model.instance, model.law, chosen.periods, chosen.seed)

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_unserved(model, episodes, beta)
        return Counted(kept.unserved, kept.visits, kept.eps)

    return Scene(model.instance, lambda plan: model, scenario, None, _whole, count, "week", "visits")


def _seasons(chosen: BoardSet) -> Scene:
    from baselines.shared_battery.seasons import count_violations
    from v2g_env.shared_battery.instance import Instance
    from v2g_env.shared_battery.model import SizingModel
    from v2g_env.shared_battery.scenario import sample_seasons

    model = SizingModel(Instance(), chosen.law)
    scenario = sample_seasons(model.instance, model.law, chosen.periods, chosen.seed)

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_violations(model, episodes, beta)
        return Counted(kept.violated, kept.days, kept.eps)

    return Scene(model.instance, lambda plan: model, scenario, None, _whole, count, "season", pathwise=False)


def _days_of_months(episodes: Episodes) -> Floats:
    return episodes.rewards.ravel()


def _stackelberg(chosen: BoardSet) -> Scene:
    from baselines.stackelberg.verify_policy import count_violations
    from v2g_env.stackelberg.instance import Instance
    from v2g_env.stackelberg.model import Model
    from v2g_env.stackelberg.scenario import sample

    model = Model(Instance(), chosen.law)
    lot = model.instance
    months = -(-chosen.periods // lot.days)
    scenario = sample(lot, months, chosen.seed)

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_violations(model, episodes, beta)
        return Counted(kept.violated, kept.trials, kept.eps)

    units = np.repeat(np.arange(months), lot.days)
    return Scene(lot, lambda plan: model, scenario, units, _days_of_months, count, trial="hours")


_SCENES: Mapping[str, Callable[[BoardSet], Scene]] = {
    "V2G/ParkingLot-v0": _parking_lot,
    "V2G/Stackelberg-v0": _stackelberg,
    "V2G/SharedBatterySizing-v0": _seasons,
    "V2G/SharedBatteryAllocation-v0": _weeks,
    "V2G/SharedBatteryAllocationPartial-v0": _weeks,
    "V2G/Scheduling-v0": _scheduling,
    "V2G/PriceChain-v0": _price_chain,
}
