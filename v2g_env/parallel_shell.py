"""The shell that turns a model of several parties into a PettingZoo parallel environment.

PettingZoo is optional: install the extra "games". Nothing else of this package imports this module.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray

from v2g_env.core.validate import InvalidInputError, require
from v2g_env.party_model import PartyModel, agents_of, check_roles_actions
from v2g_env.registration import PARALLEL

try:
    from pettingzoo import ParallelEnv
except ImportError:
    raise ImportError('pettingzoo = not installed; allowed: after pip install "v2g-env[games]"') from None

__all__ = ["PartyEnv", "parallel_env"]

Observations = dict[str, NDArray[np.float32]]


def parallel_env(name: str, **options: Any) -> PartyEnv:
    """Make a parallel environment by its name.

    Raises:
        InvalidInputError: for an unknown name.
    """
    for entry in PARALLEL:
        if entry.name == name:
            module, _, attribute = entry.env.partition(":")
            made: PartyEnv = getattr(importlib.import_module(module), attribute)(**options)
            return made
    raise InvalidInputError(f"parallel environment = {name!r}; allowed: {', '.join(each.name for each in PARALLEL)}")


class PartyEnv(ParallelEnv[str, NDArray[np.float32], NDArray[np.float32]]):  # type: ignore[misc]
    """One episode of a model as a parallel environment; subclasses build the model.

    Every agent is there from the first step to the last, and all end together. An agent's info holds his money by name
    ("reward_terms") and what the episode reports ("violation" and the model's facts), the same for all.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "is_parallelizable": True}
    render_mode = None

    def __init__(self, model: PartyModel) -> None:
        self.model = model
        self.horizon = model.steps
        self._places = agents_of(model)
        self.possible_agents = list(self._places)
        self.agents: list[str] = []
        self._roles = {role.name: role for role in model.roles}
        self._spaces = {
            role.name: (
                spaces.Box(np.zeros_like(role.observation_high), role.observation_high, dtype=np.float32),
                spaces.Box(-1.0, 1.0, (role.action_size,), np.float32),
            )
            for role in model.roles
        }
        self.observation_spaces = {
            name: copy.deepcopy(self._spaces[role][0]) for name, (role, _) in self._places.items()
        }
        self.action_spaces = {name: copy.deepcopy(self._spaces[role][1]) for name, (role, _) in self._places.items()}
        self._generator: np.random.Generator | None = None
        self._scenario: Any = None
        self._state: Any = None
        self._elapsed = self.horizon

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Space of an agent's observations, the same object every time."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Space of an agent's actions, the same object every time."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, dict[str, Any]]]:
        """Draw a new episode. There are no options: any are ignored, as PettingZoo's own tests want it."""
        if seed is not None or self._generator is None:
            self._generator = seeding.np_random(seed)[0]
        self._scenario = self.model.draw([self._generator])
        self._state = self.model.initial(self._scenario)
        self._elapsed = 0
        self.agents = list(self.possible_agents)
        return self._observe(), {name: {} for name in self.agents}

    def step(
        self, actions: dict[str, NDArray[np.float32]]
    ) -> tuple[Observations, dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """One step of all agents.

        Raises:
            InvalidInputError: after the end, for agents that are missing or unknown, and for bad actions; then nothing
                has changed.
        """
        require(self._elapsed < self.horizon, "step", self._elapsed, "a call of reset() first: the episode is over")
        given_by = list(actions) if isinstance(actions, Mapping) else None
        fits = given_by is not None and set(given_by) == set(self.agents)
        require(fits, "agents of the actions", given_by, ", ".join(self.agents))
        joint: dict[str, Any] = {}
        for name, role in self._roles.items():
            rows = [self._one(agent, actions[agent], role.action_size) for agent in role.agents]
            joint[name] = np.stack(rows)[None]
        given = check_roles_actions(self.model, joint, 1)
        self._state, money, facts = self.model.step(self._scenario, self._state, given)
        self._elapsed += 1
        over = self._elapsed == self.horizon
        shared = dict(zip(self.model.facts, facts[0].tolist(), strict=True))
        shared["violation"] = bool(facts[0, 0] > self.model.tolerance)
        rewards, infos = {}, {}
        for agent in self.agents:
            role_name, i = self._places[agent]
            terms = money[role_name][0, i]
            rewards[agent] = float(terms.sum())
            named = dict(zip(self._roles[role_name].terms, terms.tolist(), strict=True))
            infos[agent] = {"reward_terms": named, **shared}
        seen = self._observe()
        ended = dict.fromkeys(self.agents, over)
        if over:
            self.agents = []
        return seen, rewards, ended, dict.fromkeys(ended, False), infos

    def _one(self, agent: str, action: Any, size: int) -> NDArray[np.float64]:
        try:
            values = np.asarray(action, np.float64)
        except (TypeError, ValueError):
            values = np.zeros(0)
        require(values.shape == (size,), f"action of {agent}", action, f"{size} numbers in [-1, 1]")
        return values

    def _observe(self) -> Observations:
        seen = self.model.observe(self._scenario, self._state)
        return {name: seen[role][0, i].copy() for name, (role, i) in self._places.items()}

    def state(self) -> NDArray[np.float32]:
        """All agents' observations in one row."""
        require(self._state is not None, "state", "before reset", "a call of reset() first")
        seen = self.model.observe(self._scenario, self._state)
        return np.concatenate([seen[role.name][0].ravel() for role in self.model.roles])

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue from here, the random generator's state included."""
        require(self._generator is not None, "get_state", "before reset", "a call of reset() first")
        assert self._generator is not None
        return {
            "scenario": self._scenario,
            "state": self._state,
            "elapsed": self._elapsed,
            "agents": list(self.agents),
            "of": self._kind(),
            "rng": copy.deepcopy(self._generator.bit_generator.state),
        }

    def set_state(self, saved: dict[str, Any]) -> Observations:
        """Go back to a state from ``get_state`` and return its observations.

        Raises:
            InvalidInputError: for a state of another environment: other name, horizon or agents; nothing has changed.
        """
        of = saved.get("of")
        require(of == self._kind(), "state of", of, f"{self._kind()}")
        if self._generator is None:
            self._generator = seeding.np_random(0)[0]
        self._scenario, self._state, self._elapsed = saved["scenario"], saved["state"], saved["elapsed"]
        self.agents = list(saved["agents"])
        self._generator.bit_generator.state = copy.deepcopy(saved["rng"])
        return self._observe()

    def _kind(self) -> list[Any]:
        return [self.metadata.get("name"), self.horizon, *self.possible_agents]

    def close(self) -> None:
        """Nothing to close."""
