"""What a problem with several deciding parties offers: the model behind PettingZoo environments and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from v2g_env.batch_model import check_action
from v2g_env.core.validate import require

__all__ = ["PartyModel", "Role", "agents_of", "check_roles_actions"]

Floats = NDArray[np.float64]


class Role(NamedTuple):
    """Players alike: the same spaces, so that one policy can serve them all.

    Attributes:
        name: of the role.
        players: how many there are.
        action_size: numbers of an action, each in [-1, 1].
        observation_high: (d,) float32 limits; observations lie between 0 and them.
        terms: names of the money terms of a player, see ``PartyModel.step``.
    """

    name: str
    players: int
    action_size: int
    observation_high: NDArray[np.float32]
    terms: tuple[str, ...]

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the players: the role's own if there is one only, else numbered from 0."""
        return (self.name,) if self.players == 1 else tuple(f"{self.name}_{i}" for i in range(self.players))


class PartyModel(Protocol):
    """A batch of n episodes in which several parties act at the same time.

    Attributes:
        steps: of an episode; all parties act in all of them.
        roles: the parties.
        facts: names of what ``step`` reports about an episode; the first one is the scaled violation.
        tolerance: above it, the first fact is a violation.
    """

    steps: int
    roles: tuple[Role, ...]
    facts: tuple[str, ...]
    tolerance: float

    def draw(self, generators: Sequence[np.random.Generator]) -> Any:
        """Draw one episode from each generator: all its randomness."""

    def initial(self, scenario: Any) -> Any:
        """State at the start of every episode."""

    def step(self, scenario: Any, state: Any, actions: Mapping[str, Floats]) -> tuple[Any, dict[str, Floats], Floats]:
        """Next state, money (n, players, terms) [$] of every role, facts (n, facts).

        Args:
            scenario: the episodes.
            state: left unchanged.
            actions: (n, players, action_size) in [-1, 1] of every role, checked by the caller.
        """

    def observe(self, scenario: Any, state: Any) -> dict[str, NDArray[np.float32]]:
        """(n, players, d) observations of every role, fresh arrays."""


def agents_of(model: PartyModel) -> dict[str, tuple[str, int]]:
    """Role and number within it of every agent, by his name, in order."""
    return {name: (role.name, i) for role in model.roles for i, name in enumerate(role.agents)}


def check_roles_actions(model: PartyModel, actions: Mapping[str, Any], rows: int) -> dict[str, Floats]:
    """Actions of all roles as float64 (n, players, action_size).

    Raises:
        InvalidInputError: for a role that is missing or unknown, a wrong shape, NaN, or a number out of [-1, 1].
    """
    wanted = {role.name for role in model.roles}
    require(set(actions) == wanted, "roles of the actions", sorted(actions), ", ".join(sorted(wanted)))
    found = {}
    for role in model.roles:
        shape = (rows, role.players, role.action_size)
        flat = check_action(np.asarray(actions[role.name]), shape)
        found[role.name] = flat
    return found
