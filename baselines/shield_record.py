"""What certificates of tuned shields share: how they are written, and how each part is checked again.

What a check proves without the agent. For a margin that holds for *any* agent, everything. For one policy, the recorded
actions are replayed: each of them is within the shield's level, so many days are violated, so much is earned. That the
policy chose these actions from its observations, and how many levels each day passed (``passed``), is its own record;
who has the policy runs ``baselines.shield.margin_table`` again and compares. Two limits are recomputed:

eps           needs the record of the passed levels: risk.hold_out(N, q, beta / looks), see baselines/shield.py;
eps_replayed  needs nothing but the replayed days and that the G levels were fixed beforehand, whichever of them was
              chosen and why: risk.hold_out(N, violated days, beta / (looks G)), by the union bound.

``record_sha256`` ties shield, passed levels and actions together: it shows damage, and whoever repeats the tuning has
to arrive at it, but it does not stop a forger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines import risk
from baselines.certificate import CertificateError, pack
from baselines.checking import expect, near, numbers, whole_number
from baselines.shield import Tuned, tune
from baselines.shielded import Shield
from v2g_env.core.validate import InvalidInputError
from v2g_env.rollout import Episodes, Recorded, rollout

__all__ = ["MOST_DAYS", "Audited", "Replayed", "agent_data", "check_agent", "check_tuned", "replay", "risk_data"]

Data = Mapping[str, Any]
Ints = NDArray[np.int64]
Seen = NDArray[np.float32]

MOST_DAYS = 100_000  # no forged number makes a check endless
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|
_MOVED = 1e-5  # of an action that a shield would move, by rounding
_RISK = {"beta", "looks", "allowed", "failed", "eps"}
_AGENT = {"name", "sha256", "actions", "mean_return_usd", "days_violated", "steps_violated", "record_sha256"}


class Audited(Recorded):
    """Recorded actions, and whether the shield would have let them pass.

    Attributes:
        moved: largest change that the projection wanted so far; inf once it failed.
    """

    def __init__(self, actions: NDArray[Any], shield: Shield, level: int) -> None:
        super().__init__(actions)
        self.shield, self.level = shield, level
        self.moved = 0.0

    def predict(
        self,
        observation: Seen,
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[Any, ...] | None]:
        """Return the actions of the next step."""
        action, memory = super().predict(observation, state, episode_start, deterministic)
        change = np.abs(self.shield.project(observation, action, self.level) - action).max(initial=0.0)
        self.moved = max(self.moved, float(change) if np.isfinite(change) else np.inf)
        return action, memory


class Replayed(NamedTuple):
    """Recorded actions on their days.

    Attributes:
        episodes: the rollout.
        violated: (N,) whether anything was violated on the day.
        steps_violated: number of violated steps of all days.
        moved: largest change that the shield would have made.
    """

    episodes: Episodes
    violated: NDArray[np.bool_]
    steps_violated: int
    moved: float


def replay(model: Any, scenario: Any, actions: Seen, shield: Shield, level: int) -> Replayed:
    """Carry recorded actions (N, T, k) out and ask the shield about each of them."""
    policy = Audited(actions, shield, level)
    episodes = rollout(model, scenario, policy)
    over = episodes.facts[:, :, 0] > shield.tolerance
    return Replayed(episodes, np.asarray(over.any(axis=1)), int(over.sum()), policy.moved)


def risk_data(tuned: Tuned, beta: float, looks: int) -> dict[str, Any]:
    """JSON of the tuning."""
    return {"beta": beta, "looks": looks, "allowed": tuned.allowed, "failed": tuned.failed, "eps": tuned.eps}


def _fingerprint(shield: Mapping[str, Any], passed: Ints, actions: Seen) -> str:
    digest = hashlib.sha256(json.dumps(shield, sort_keys=True, allow_nan=False).encode())
    digest.update(np.ascontiguousarray(passed, "<i8").tobytes())
    digest.update(np.ascontiguousarray(actions, "<f4").tobytes())
    return digest.hexdigest()


def agent_data(
    name: str, sha256: str | None, found: Replayed, shield: Mapping[str, Any], passed: Ints
) -> dict[str, Any]:
    """JSON of a policy's own record.

    Args:
        name: the policy's.
        sha256: hash of a trained policy's bundle.
        found: its actions on the days.
        shield: the family's ``to_dict``.
        passed: (N,) levels that each day passes.
    """
    return {
        "name": name,
        "sha256": sha256,
        "actions": pack(found.episodes.actions),
        "mean_return_usd": float(found.episodes.returns.mean()),
        "days_violated": int(found.violated.sum()),
        "steps_violated": found.steps_violated,
        "record_sha256": _fingerprint(shield, passed, found.episodes.actions),
    }


def check_tuned(claim: Any, level: Any, passed: Ints, levels: int) -> Tuned:
    """Recompute the tuning from passed levels (N,) and compare; ``level`` may be any up to the tuned one.

    Raises:
        CertificateError: with the reason.
    """
    expect(isinstance(claim, Mapping) and set(claim) == _RISK, "risk", claim, ", ".join(sorted(_RISK)))
    expect(type(claim["beta"]) is float and 0.0 < claim["beta"] < 1.0, "risk.beta", claim["beta"], "in (0, 1)")
    looks = whole_number("risk.looks", claim["looks"], 1, 10**6)
    allowed = whole_number("risk.allowed", claim["allowed"], 0, len(passed) - 1)
    expect(bool(((passed >= 0) & (passed <= levels)).all()), "passed", "out of range", f"0 to {levels}")
    try:
        tuned = tune(passed, allowed, claim["beta"], looks)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    expect(tuned.level is not None, "level", level, "none: more days fail than allowed, at every level")
    whole_number("level", level, 0, int(tuned.level or 0))
    failed = whole_number("risk.failed", claim["failed"], 0, allowed)
    expect(failed == tuned.failed, "risk.failed", failed, tuned.failed)
    near("risk.eps", claim["eps"], tuned.eps)
    return tuned


def check_agent(
    agent: Any, model: Any, scenario: Any, shield: Shield, level: int, passed: Ints, beta: float
) -> tuple[Replayed, float]:
    """Replay a policy's record and compare; returns what happened and eps_replayed.

    Args:
        agent: the record.
        model: the problem's model.
        scenario: the N days.
        shield: the family.
        level: of the record.
        passed: (N,) levels that each day is said to pass.
        beta: of one look.

    Raises:
        CertificateError: with the reason.
    """
    expect(isinstance(agent, Mapping) and set(agent) == _AGENT, "agent", agent, ", ".join(sorted(_AGENT)))
    name, digest = agent["name"], agent["sha256"]
    expect(isinstance(name, str) and name != "", "agent.name", name, "the policy's name")
    expect(digest is None or isinstance(digest, str), "agent.sha256", digest, "a hash or null")
    shape = (len(passed), model.steps, model.action_size)
    actions = numbers("agent.actions", agent["actions"], shape, "<f4")
    try:
        found = replay(model, scenario, actions, shield, level)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    expect(found.moved <= _MOVED, "agent.actions beyond the shield by", found.moved, f"at most {_MOVED:g}")
    near("agent.mean_return_usd", agent["mean_return_usd"], float(found.episodes.returns.mean()), _MONEY)
    for field, true in (("days_violated", int(found.violated.sum())), ("steps_violated", found.steps_violated)):
        expect(type(agent[field]) is int and agent[field] == true, f"agent.{field}", agent[field], true)
    true_hash = _fingerprint(shield.to_dict(), passed, actions)
    expect(agent["record_sha256"] == true_hash, "agent.record_sha256", agent["record_sha256"], true_hash)
    liars = np.flatnonzero(found.violated & (passed > level))
    expect(not len(liars), "passed", liars[:1].tolist(), f"at most {level} for a day that is violated at this level")
    bad = int(found.violated.sum())
    return found, float(risk.hold_out(len(passed), bad, beta / shield.levels))
