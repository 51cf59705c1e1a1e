"""What a policy is scored on: scenarios of one environment, their proven bound, and the certificates that come of it.

Comparisons, evaluations, sweeps and the leaderboard all score through a Board; every problem's module makes its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.compare import Contestant, Result, TestSet, evaluate, slug
from agents.compare_lines import result_lines
from v2g_env.core.policy import Policy
from v2g_env.core.validate import number, require
from v2g_env.registration import ENVIRONMENTS

__all__ = [
    "Board",
    "board_of",
    "default_periods",
    "evaluate_bundle",
    "module_of",
    "problem_of",
    "score",
    "world_of",
]

Data = dict[str, Any]


@dataclass(frozen=True)
class Board:
    """Scenarios and all that is needed to score policies on them.

    Attributes:
        test: the scenarios and their bound.
        bound: certificate of the bound; None where there is no such kind.
        certify: certificate of a policy that was evaluated on ``test``; None where there is no such kind.
        lines: what else can be said of a policy, for the terminal.
    """

    test: TestSet
    bound: Data | None
    certify: Callable[[Contestant, Result], Data] | None
    lines: Callable[[Policy], list[str]] = lambda policy: []


def problem_of(env_id: str) -> str:
    """Name of the package of an environment's problem; InvalidInputError for an id that is not registered."""
    problem = next((entry.problem for entry in ENVIRONMENTS if entry.id == env_id), None)
    require(problem is not None, "environment", env_id, ", ".join(entry.id for entry in ENVIRONMENTS))
    return str(problem)


def module_of(env_id: str) -> Any:
    """The module agents.<problem> that makes the boards of an environment.

    Raises:
        InvalidInputError: for an id that is not registered or has no board.
    """
    module = importlib.import_module(f"agents.{problem_of(env_id)}")
    require(env_id in module.BOARDS, "environment", env_id, ", ".join(module.BOARDS))
    return module


def default_periods(env_id: str) -> int:
    """Days, weeks or seasons of an evaluation if nothing else is said."""
    return int(module_of(env_id).BOARDS[env_id])


def board_of(
    env_id: str,
    instance: Mapping[str, Any] | None = None,
    law: str = "generator",
    periods: int | None = None,
    seed: int = 3,
    beta: float = 1e-5,
    plan_kwh: Sequence[float] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """The board of an environment.

    Args:
        env_id: registered id.
        instance: fields of the instance that differ from the defaults.
        law: name of the law of the scenarios.
        periods: days, weeks or seasons; None: as many as ``default_periods``.
        seed: of the scenarios.
        beta: confidence parameter of the limits.
        plan_kwh: plan that the environment shows, where it shows one.
        say: receives a line per stage.

    Raises:
        InvalidInputError: for an unknown environment or law, or a number out of range.
    """
    module = module_of(env_id)
    count = default_periods(env_id) if periods is None else periods
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    options = _options(env_id, count, seed, plan_kwh)
    return module.board(env_id, instance or {}, law, count, seed, beta, say=say, **options)  # type: ignore[no-any-return]


def _options(env_id: str, periods: int, seed: int, plan_kwh: Sequence[float] | None) -> dict[str, Any]:
    """Check what boards and worlds share; keyword arguments of those whose environment shows a plan."""
    number("days", periods, 1, 10**6, integer=True)
    number("seed", seed, 0, 2**63 - 1, integer=True)
    if plan_kwh is None:
        return {}
    shown = problem_of(env_id) == "parking_lot"
    require(shown, "plan_kwh", f"a plan for {env_id}", "none: this environment shows no plan")
    return {"plan_kwh": plan_kwh}


def world_of(
    env_id: str,
    instance: Mapping[str, Any],
    law: str,
    periods: int,
    seed: int,
    plan_kwh: Sequence[float] | None = None,
) -> tuple[Any, Any]:
    """Model and scenarios of the board with the same arguments; no bound is computed.

    Args:
        env_id: registered id.
        instance: fields of the instance that differ from the defaults.
        law: name of the law of the scenarios.
        periods: days, weeks or seasons.
        seed: of the scenarios.
        plan_kwh: plan that the environment shows, where it shows one.

    Raises:
        InvalidInputError: as ``board_of``.
    """
    options = _options(env_id, periods, seed, plan_kwh)
    return module_of(env_id).world(env_id, instance, law, periods, seed, **options)  # type: ignore[no-any-return]


def score(
    board: Board, contestants: Sequence[Contestant], say: Callable[[str], None] = lambda text: None
) -> tuple[tuple[Result, ...], dict[str, Data]]:
    """Evaluate every contestant on the board: results, and all certificates by name.

    Args:
        board: the scenarios.
        contestants: the policies.
        say: receives a line per policy.
    """
    title = board.test.title
    certificates = {} if board.bound is None else {slug("bound", title): board.bound}
    results = []
    for contestant in contestants:
        say(f"evaluating {contestant.name} on {title.lower()}")
        result = evaluate(contestant, board.test)
        results.append(result)
        if board.certify is not None:
            certificates[slug("policy", contestant.name, title)] = board.certify(contestant, result)
    return tuple(results), certificates


def evaluate_bundle(
    path: str | Path, law: str = "generator", periods: int | None = None, seed: int = 3, beta: float = 1e-5
) -> list[str]:
    """Return, certified gap and violations of a trained bundle on fresh scenarios, one line each."""
    from agents.bundle import load_bundle

    bundle = load_bundle(path)
    made = bundle.env_kwargs
    board = board_of(bundle.env_id, made["instance"], law, periods, seed, beta, made.get("plan_kwh"))
    contestant = Contestant(Path(path).name, "agent", lambda _: bundle, sha256=bundle.hash)
    return result_lines(board.test, evaluate(contestant, board.test).row) + board.lines(bundle)
