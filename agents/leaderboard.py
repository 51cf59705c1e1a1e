"""The two-sided leaderboard: policies below, bounds above, both on fixed scenario sets and both checkable.

leaderboard.json holds what every policy did (its actions), the return and certified gap of every period, and the bound
of every period, so that anybody can recompute every figure; leaderboard.md is its table. Every call scores the shipped
baselines, everything submitted before (from its recorded actions, or its data) and what is new. See leaderboard_looks
for how submissions share beta, and leaderboard_check for the check, which needs no solver.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.boards import Board, score
from agents.compare import Contestant, Outcome
from agents.leaderboard_bounds import ADAPTERS, Adapter, official_board
from agents.leaderboard_check import read_leaderboard
from agents.leaderboard_entries import baselines_of
from agents.leaderboard_looks import Looks, look_share
from agents.leaderboard_rows import FORMAT, penalty_figures, policy_figures
from agents.leaderboard_sets import BETA, BOARD_SETS, BoardSet, Scene, scene_of, set_of
from agents.leaderboard_submissions import BundleEntry, PenaltyEntry, PolicyEntry, played, replayed
from agents.leaderboard_table import table
from baselines.certificate import pack, unpack, write_text
from v2g_env.core.validate import InvalidInputError, array, require
from v2g_env.metrics import mean_interval
from v2g_env.rollout import Episodes

__all__ = ["LEADERBOARD", "Submissions", "update"]

LEADERBOARD = "leaderboard.json"
_TABLE = "leaderboard.md"

Data = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Submissions:
    """What is new for one environment.

    Attributes:
        bundles: trained policies.
        policies: Python functions.
        penalties: for the upper side.
    """

    bundles: Sequence[BundleEntry] = field(default=())
    policies: Sequence[PolicyEntry] = field(default=())
    penalties: Sequence[PenaltyEntry] = field(default=())


@dataclass(frozen=True)
class _Desk:
    """Everything that scoring on one set needs.

    Attributes:
        chosen: the set.
        scene: its model and scenarios.
        board: its bound.
        looks: of the whole leaderboard.
        folder: where looks are written down before anything is scored.
        say: receives a line per stage.
    """

    chosen: BoardSet
    scene: Scene
    board: Board
    looks: Looks
    folder: Path
    say: Say

    def share(self, side: str, sha256: str) -> tuple[int, float]:
        """Number of a submission's look, and its part of beta."""
        look = self.looks.register(self.chosen.key, side, sha256)
        self.looks.write(self.folder)
        return look, look_share(BETA, look)


def update(
    folder: str | Path,
    new: Mapping[str, Submissions] | None = None,
    env_ids: Sequence[str] | None = None,
    sets: tuple[BoardSet, ...] = BOARD_SETS,
    adapters: Mapping[str, Adapter] = ADAPTERS,
    say: Say = lambda text: None,
) -> Data:
    """Score and write leaderboard.json, leaderboard.md and looks.json in a folder.

    Args:
        folder: of the leaderboard; what was submitted to it before stays on it.
        new: submissions by environment.
        env_ids: environments to score now, those of ``new`` among them; None: all. The others keep their rows.
        sets: the scenario sets.
        adapters: how penalties are read, by environment.
        say: receives a line per stage.

    Returns:
        The content of leaderboard.json.

    Raises:
        InvalidInputError: for a submission that does not fit its environment, or beats a proven bound.
        CertificateError: for a leaderboard or looks.json that were changed, or do not belong together.
    """
    target = Path(folder)
    fresh = dict(new or {})
    wanted = [each.env_id for each in sets] if env_ids is None else list(dict.fromkeys(env_ids))
    for env_id in [*wanted, *fresh]:
        set_of(env_id, sets)
        require(env_id in wanted, "environment of a submission", env_id, ", ".join(wanted))
    _check_penalties(fresh, adapters)
    looks = Looks.read(target)
    before = read_leaderboard(target / LEADERBOARD, looks, sets) if (target / LEADERBOARD).exists() else {}
    found = {each["env_id"]: each for each in before.get("sets", [])}
    for env_id in wanted:
        chosen = set_of(env_id, sets)
        say(f"{env_id}: bounds of {chosen.periods} periods")
        board = official_board(chosen, say)
        desk = _Desk(chosen, scene_of(chosen), board, looks, target, say)
        found[env_id] = _score_set(desk, found.get(env_id), fresh.get(env_id, Submissions()), adapters)
    content = {"format": FORMAT, "sets": [found[each.env_id] for each in sets if each.env_id in found]}
    write_text(target / LEADERBOARD, json.dumps(content, indent=1, allow_nan=False))
    write_text(target / _TABLE, table(content))
    return content


def _check_penalties(fresh: Mapping[str, Submissions], adapters: Mapping[str, Adapter]) -> None:
    for env_id, parts in fresh.items():
        readable = ", ".join(adapters) or "no environment reads penalties yet"
        require(not parts.penalties or env_id in adapters, "environment of a penalty", env_id, readable)


def _score_set(desk: _Desk, before: Data | None, new: Submissions, adapters: Mapping[str, Adapter]) -> Data:
    chosen, scene, test = desk.chosen, desk.scene, desk.board.test
    own = scene.instance.hash
    for entry in new.bundles:
        name = f"instance of {entry.contestant.name}"
        require(entry.instance_sha256 == own, name, entry.instance_sha256, f"{own}, the default instance")
    rows = [_row(desk, each, None, BETA) for each in baselines_of(chosen.env_id, scene.model(None))]
    submitted = [each.contestant for each in new.bundles] + [played(each, scene) for each in new.policies]
    earlier = [] if before is None else [_again(row) for row in before["rows"] if row["sha256"] is not None]
    # who is submitted again keeps the look but gets the name and the time of a decision of today
    everybody = {each.sha256: each for each in [*earlier, *submitted]}
    for contestant in everybody.values():
        assert contestant.sha256 is not None
        rows.append(_row(desk, contestant, *desk.share("policy", contestant.sha256)))
    kept = [] if before is None else before["penalties"]
    data = [PenaltyEntry(row["penalty"], row["sha256"], row["data"]) for row in kept]
    penalties = {each.sha256: each for each in [*data, *new.penalties]}
    return {
        "env_id": chosen.env_id,
        "law": chosen.law,
        "periods": chosen.periods,
        "seed": chosen.seed,
        "instance_sha256": own,
        "beta": BETA,
        "per": scene.per,
        "trial": scene.trial,
        "bound_name": test.bound_name,
        "bound_usd": pack(test.bound),
        "bound_certificate": desk.board.bound,
        "controlled": test.control is not None,
        "rows": sorted(rows, key=lambda row: -row["mean_usd"]),
        "penalties": [_penalty(desk, each, rows, adapters[chosen.env_id]) for each in penalties.values()],
    }


def _again(row: Data) -> Contestant:
    actions, decision_s = unpack(row["actions"]), row["decision_us"] / 1e6
    return replayed(row["policy"], row["kind"], actions, row["plan_kwh"], row["sha256"], decision_s)


def _row(desk: _Desk, contestant: Contestant, look: int | None, beta: float) -> Data:
    """Score one policy, its limits at confidence 1 - beta / 2 each."""
    scene = desk.scene

    def outcome(episodes: Episodes) -> Outcome:
        counted = scene.violations(episodes, beta / 2.0)
        return Outcome(scene.returns(episodes), *counted, float(episodes.shortfall_kwh.mean()))

    test = replace(desk.board.test, outcome=outcome, beta=beta / 2.0)
    result = score(Board(test, None, None), [contestant], desk.say)[0][0]
    counted = scene.violations(result.episodes, beta / 2.0)
    return {
        "policy": contestant.name,
        "kind": contestant.kind,
        "sha256": contestant.sha256,
        "look": look,
        "beta": beta,
        "plan_kwh": None if contestant.plan is None else np.asarray(contestant.plan, np.float64).tolist(),
        "promised": None if result.row.promised is None else float(result.row.promised),
        "decision_us": float(result.row.decision_us),
        "actions": pack(result.episodes.actions),
        "returns_usd": pack(result.returns),
        "gaps_usd": pack(result.gap),
        **policy_figures(result.returns, result.gap, test.bound, scene.units, counted, beta),
    }


def _penalty(desk: _Desk, entry: PenaltyEntry, rows: Sequence[Data], adapter: Adapter) -> Data:
    """Bound every path with a submitted penalty; no policy may earn more than it, beyond chance."""
    scene = desk.scene
    look, beta = desk.share("penalty", entry.sha256)
    desk.say(f"bounding with {entry.name}")
    found = adapter(scene.model(None), scene.scenario, entry.data, desk.chosen.seed)
    bound = array(f"bound of {entry.name}", found, desk.board.test.bound.shape)
    for row in rows:
        beyond = mean_interval(unpack(row["returns_usd"]) - bound, scene.units, 1.0 - BETA)
        if beyond.low > 0.0:
            raise InvalidInputError(
                f"bound of {entry.name} = {bound.mean():.4f} $ on average; allowed: at least the {row['mean_usd']:.4f} "
                f"$ of {row['policy']}, chance included: the penalty's mean is not zero"
            )
    return {
        "penalty": entry.name,
        "sha256": entry.sha256,
        "look": look,
        "beta": beta,
        "data": dict(entry.data),
        "bound_usd": pack(bound),
        **penalty_figures(bound, scene.units, beta),
    }
