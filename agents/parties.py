"""Policies of the parties of a game, playing them against each other, and files that hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.bundle_files import BundleError
from agents.network import Network
from v2g_env.core.policy import Policy
from v2g_env.core.validate import InvalidInputError, array, number, require
from v2g_env.party_model import PartyModel, agents_of

__all__ = [
    "Constant",
    "PartyPolicy",
    "act",
    "check_agent",
    "load_policy",
    "play",
    "policies_for",
    "returns",
    "save_policy",
]

Floats = NDArray[np.float64]

FORMAT = "v2g-env party policy 1"
_MOST_BYTES = 50_000_000


class Constant:
    """Always the same action, such as zeros for the truth.

    Args:
        action: (k,) numbers in [-1, 1].
    """

    def __init__(self, action: Sequence[float]) -> None:
        self.action = array("action", action, (None,), -1.0, 1.0)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """Actions (m, k) for observations (m, d)."""
        return np.tile(self.action.astype(np.float32), (len(observation), 1)), state


class PartyPolicy:
    """A trained network for one role, acting in NumPy.

    Args:
        tensors: "layers.<i>.*" and "head.*", float32, as agents.network.Network takes them.
        high: (d,) limits of the observations, by which they are divided.
        about: name of the environment and role, for people and for the file.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], high: NDArray[np.float32], about: str) -> None:
        self.tensors, self.high, self.about = dict(tensors), np.asarray(high, np.float32), about
        layers = sum(name.startswith("layers.") and name.endswith(".weight") for name in tensors)
        self._network = Network(self.tensors, layers, "tanh")

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """Actions (m, k) for observations (m, d) as the environment gives them; there is no randomness."""
        hidden, _ = self._network.hidden(np.asarray(observation / self.high, np.float32), None, None)
        return np.clip(self._network.linear("head", hidden), -1.0, 1.0), state


def save_policy(policy: PartyPolicy, path: str | Path) -> None:
    """Write one file in safetensors format: numbers, and a few words about them; nothing in it is code."""
    from safetensors.numpy import save

    from baselines.certificate import write_bytes

    words = {"format": FORMAT, "about": policy.about}
    tensors = {name: np.ascontiguousarray(value) for name, value in policy.tensors.items()} | {"high": policy.high}
    write_bytes(path, save(tensors, {"v2g": json.dumps(words)}))


def load_policy(path: str | Path) -> PartyPolicy:
    """Inverse of ``save_policy``.

    Raises:
        BundleError: for a file that is missing, damaged, or something else.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file() or not 0 < file.stat().st_size <= _MOST_BYTES:
        raise BundleError(f"{path} = missing, empty or too large; allowed: a file written by save_policy")
    try:
        with safe_open(str(file), "np") as content:
            words = json.loads((content.metadata() or {}).get("v2g", "{}"))
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"{path} = damaged ({error}); allowed: a file written by save_policy") from None
    if not isinstance(words, dict) or words.get("format") != FORMAT or "high" not in tensors:
        raise BundleError(f"{path} = another kind of file; allowed: {FORMAT}")
    high = tensors.pop("high")
    sizes = {name: value.shape for name, value in tensors.items()}
    fits = "head.weight" in sizes and all(value.dtype == np.float32 for value in tensors.values())
    if not fits or not all(np.isfinite(value).all() for value in tensors.values()):
        raise BundleError(f"{path} = no finite float32 network; allowed: a file written by save_policy")
    return PartyPolicy(tensors, high, str(words.get("about", "")))


def policies_for(model: PartyModel, given: Mapping[str, Policy] | None = None) -> dict[str, Policy]:
    """A policy for every agent: that under his own name, else under his role's, else zeros.

    Raises:
        InvalidInputError: for a name that is neither an agent nor a role.
    """
    agents = agents_of(model)
    known = {role.name: role for role in model.roles}
    chosen = dict(given or {})
    for name in chosen:
        require(name in agents or name in known, "policy for", name, ", ".join([*known, *agents]))
    idle = {role.name: Constant(np.zeros(role.action_size).tolist()) for role in model.roles}
    return {agent: chosen.get(agent, chosen.get(role, idle[role])) for agent, (role, _) in agents.items()}


def act(
    model: PartyModel, policies: Mapping[str, Policy], seen: Mapping[str, NDArray[np.float32]]
) -> dict[str, Floats]:
    """Actions (n, players, k) of all roles; agents that share a policy are asked together."""
    found = {}
    for role in model.roles:
        view = seen[role.name]
        n = len(view)
        actions = np.empty((n, role.players, role.action_size))
        places: dict[int, list[int]] = {}
        for i, agent in enumerate(role.agents):
            places.setdefault(id(policies[agent]), []).append(i)
        for some in places.values():
            policy = policies[role.agents[some[0]]]
            rows = view[:, some].reshape(-1, view.shape[2])
            answer = np.asarray(policy.predict(rows, deterministic=True)[0], np.float64)
            wanted = (len(rows), role.action_size)
            require(answer.shape == wanted, f"shape of the actions of {role.name}", answer.shape, str(wanted))
            actions[:, some] = answer.reshape(n, len(some), role.action_size)
        found[role.name] = np.clip(actions, -1.0, 1.0)
    return found


def play(
    model: PartyModel, policies: Mapping[str, Policy] | None = None, episodes: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Play whole episodes.

    Args:
        model: of the parties.
        policies: by agent or role; all others act by zeros.
        episodes: how many, drawn from ``seed``; the same for every choice of policies.
        seed: of the scenarios.

    Returns:
        Tidy, one row per episode, agent and money term: episode, agent, role, term, usd.
    """
    money = returns(model, policies, episodes, seed)
    rows = []
    for role in model.roles:
        for i, agent in enumerate(role.agents):
            for k, term in enumerate(role.terms):
                rows.append(
                    pd.DataFrame(
                        {
                            "episode": np.arange(episodes),
                            "agent": agent,
                            "role": role.name,
                            "term": term,
                            "usd": money[role.name][:, i, k],
                        }
                    )
                )
    return pd.concat(rows, ignore_index=True)


def returns(model: PartyModel, policies: Mapping[str, Policy] | None, episodes: int, seed: int) -> dict[str, Floats]:
    """(episodes, players, terms) money of every role, summed over whole episodes [$]; arguments as ``play``."""
    number("episodes", episodes, 1, 1_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    chosen = policies_for(model, policies)
    children = np.random.SeedSequence(seed).spawn(episodes)
    scenario = model.draw([np.random.default_rng(child) for child in children])
    state = model.initial(scenario)
    total = {role.name: np.zeros((episodes, role.players, len(role.terms))) for role in model.roles}
    for _ in range(model.steps):
        state, money, _ = model.step(scenario, state, act(model, chosen, model.observe(scenario, state)))
        for name, part in money.items():
            total[name] += part
    return total


def check_agent(model: PartyModel, agent: str) -> tuple[str, int]:
    """Role and number of an agent; raises InvalidInputError for an unknown name."""
    agents = agents_of(model)
    if agent not in agents:
        raise InvalidInputError(f"agent = {agent!r}; allowed: {', '.join(agents)}")
    return agents[agent]
