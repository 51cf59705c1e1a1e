"""The leaderboard's frozen scenario sets, one per environment, and their scenes: all that is needed without a solver.

A board (agents.boards) holds the bound too, which some families need a solver for. A scene holds the same model and
scenarios and counts violations at any confidence, so that rows can be checked, and limits shared among looks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.boards import world_of
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
    """Draw the scenarios of a set, as its board does."""
    require(chosen.env_id in _COUNTED, "environment", chosen.env_id, ", ".join(_COUNTED))
    model, scenario = world_of(chosen.env_id, {}, chosen.law, chosen.periods, chosen.seed)
    independent = not getattr(model.law, "replay", False)
    require(independent, "law", chosen.law, "a law whose days are independent")
    each = _COUNTED[chosen.env_id]
    months = len(scenario[0])
    return Scene(
        instance=model.instance,
        model=lambda plan: model if plan is None else type(model)(model.instance, model.law, plan),
        scenario=scenario,
        units=np.repeat(np.arange(months), model.instance.days) if each.days else None,
        returns=_days_of_months if each.days else _whole,
        violations=each.violations(model),
        per=each.per,
        trial=each.trial,
        pathwise=each.pathwise,
    )


class _Counted(NamedTuple):
    """What an environment calls things, and how its violations are counted."""

    violations: Callable[[Any], Callable[[Episodes, float], Counted]]
    per: str = "day"
    trial: str = "days"
    pathwise: bool = True
    days: bool = False  # whether periods are days of an episode


def _whole(episodes: Episodes) -> Floats:
    return episodes.returns


def _days_of_months(episodes: Episodes) -> Floats:
    return episodes.rewards.ravel()


def _bad_days(problem: str) -> Callable[[Any], Callable[[Episodes, float], Counted]]:
    """Counts independent episodes with an excess above the problem's tolerance."""

    def counter(model: Any) -> Callable[[Episodes, float], Counted]:
        tolerance = importlib.import_module(f"v2g_env.{problem}.model").VIOLATION_TOLERANCE

        def count(episodes: Episodes, beta: float) -> Counted:
            n, bad = len(episodes.excess), int((episodes.excess > tolerance).sum())
            return Counted(bad, n, float(risk.hold_out(n, bad, beta)))

        return count

    return counter


def _steps(model: Any) -> Callable[[Episodes, float], Counted]:
    from baselines.scheduling.verify_days import count_violations

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_violations(episodes, beta)
        return Counted(kept.violated, kept.steps, kept.eps)

    return count


def _visits(model: Any) -> Callable[[Episodes, float], Counted]:
    from baselines.shared_battery.verify_week import count_unserved

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_unserved(model, episodes, beta)
        return Counted(kept.unserved, kept.visits, kept.eps)

    return count


def _season_days(model: Any) -> Callable[[Episodes, float], Counted]:
    from baselines.shared_battery.seasons import count_violations

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_violations(model, episodes, beta)
        return Counted(kept.violated, kept.days, kept.eps)

    return count


def _hours(model: Any) -> Callable[[Episodes, float], Counted]:
    from baselines.stackelberg.verify_policy import count_violations

    def count(episodes: Episodes, beta: float) -> Counted:
        kept = count_violations(model, episodes, beta)
        return Counted(kept.violated, kept.trials, kept.eps)

    return count


_COUNTED: Mapping[str, _Counted] = {
    "V2G/ParkingLot-v0": _Counted(_bad_days("parking_lot")),
    "V2G/Stackelberg-v0": _Counted(_hours, trial="hours", days=True),
    "V2G/SharedBatterySizing-v0": _Counted(_season_days, "season", pathwise=False),
    "V2G/SharedBatteryAllocation-v0": _Counted(_visits, "week", "visits"),
    "V2G/SharedBatteryAllocationPartial-v0": _Counted(_visits, "week", "visits"),
    "V2G/Scheduling-v0": _Counted(_steps, trial="steps"),
    "V2G/PriceChain-v0": _Counted(_bad_days("price_chain"), pathwise=False),
}
