"""Training the parties of a game with stable-baselines3: shared networks, independent learners, best responses.

``PartyVecEnv`` shows one or more players of a role to stable-baselines3, each in every episode a row of its own, while
all others act by given policies. One network for all players of a role is parameter sharing; one for each player,
learning in turn against the others as they are, are independent learners. A single learner against frozen others is an
approximate best response: what it gains is a lower limit on how exploitable they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from agents.parties import PartyPolicy, act, check_agent, policies_for, returns
from v2g_env.core.policy import Policy
from v2g_env.core.validate import number, require
from v2g_env.metrics import mean_interval
from v2g_env.party_model import PartyModel

__all__ = ["Exploited", "PartyVecEnv", "learned_exploitability", "train_independent", "train_shared"]

Floats = NDArray[np.float64]
Say = Callable[[str], None]


class PartyVecEnv(VecEnv):  # type: ignore[misc]
    """Rows for stable-baselines3: every learning player in each of several episodes.

    Args:
        model: of the parties.
        learners: names of agents of one role, whose actions come from outside.
        policies: of all others, by agent or role.
        episodes: that run at the same time.
        seed: of the scenarios.
        scale: rewards are divided by it [$].
    """

    def __init__(
        self,
        model: PartyModel,
        learners: Sequence[str],
        policies: Mapping[str, Policy] | None = None,
        episodes: int = 32,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        require(len(learners) > 0, "learners", list(learners), "at least one agent")
        places = [check_agent(model, agent) for agent in learners]
        require(len({role for role, _ in places}) == 1, "roles of the learners", sorted({r for r, _ in places}), "one")
        number("episodes", episodes, 1, 100_000, integer=True)
        number("scale", scale, 0.0, np.inf, open_low=True)
        self.model, self.learners, self.episodes, self.scale = model, tuple(learners), episodes, scale
        self.role = next(role for role in model.roles if role.name == places[0][0])
        self._some = [i for _, i in places]
        self.policies = policies_for(model, policies)
        self._generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(episodes)]
        self._scenario: Any = None
        self._state: Any = None
        self._seen: dict[str, NDArray[np.float32]] = {}
        self._elapsed = 0
        self._given: Floats = np.zeros(0)
        high = np.ones_like(self.role.observation_high)
        super().__init__(
            episodes * len(learners),
            spaces.Box(np.zeros_like(high), high, dtype=np.float32),
            spaces.Box(-1.0, 1.0, (self.role.action_size,), np.float32),
        )

    def reset(self) -> NDArray[np.float32]:
        """Draw new episodes; observations (rows, d), divided by their limits."""
        self._scenario = self.model.draw(self._generators)
        self._state = self.model.initial(self._scenario)
        self._seen = self.model.observe(self._scenario, self._state)
        self._elapsed = 0
        return self._rows()

    def _rows(self) -> NDArray[np.float32]:
        view = self._seen[self.role.name][:, self._some] / self.role.observation_high
        return np.asarray(view.reshape(self.num_envs, -1), np.float32)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the learners' actions."""
        self._given = np.asarray(actions, np.float64)

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One step of all episodes, which end together and start again at once."""
        joint = act(self.model, self.policies, self._seen)
        shape = (self.episodes, len(self._some), self.role.action_size)
        joint[self.role.name][:, self._some] = np.clip(self._given.reshape(shape), -1.0, 1.0)
        self._state, money, _ = self.model.step(self._scenario, self._state, joint)
        self._seen = self.model.observe(self._scenario, self._state)
        self._elapsed += 1
        reward = money[self.role.name][:, self._some].sum(axis=2).ravel() / self.scale
        over = self._elapsed == self.model.steps
        rows = self._rows()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over:
            for info, row in zip(infos, rows, strict=True):
                info |= {"terminal_observation": row, "TimeLimit.truncated": False}
            rows = self.reset()
        return rows, reward.astype(np.float32), np.full(self.num_envs, over), infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of this object, once for every row asked for."""
        return [getattr(self, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Rows have no attributes of their own."""
        raise NotImplementedError("rows have no attributes of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Rows have no methods of their own."""
        raise NotImplementedError("rows have no methods of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No row is wrapped."""
        return [False] * len(list(self._get_indices(indices)))


def _learn(envs: PartyVecEnv, steps: int, seed: int, about: str, start: PartyPolicy | None = None) -> PartyPolicy:
    """PPO on the rows of ``envs``; starts from a policy of the same shape."""
    import torch

    whole = envs.model.steps
    length = whole * max(1, -(-64 // whole))  # whole episodes, at least 64 steps
    batch = max(envs.num_envs * length // 8, 64)
    learner = PPO(
        "MlpPolicy",
        envs,
        n_steps=length,
        batch_size=min(batch, envs.num_envs * length),
        n_epochs=6,
        learning_rate=1e-3,
        gamma=1.0,
        gae_lambda=0.95,
        policy_kwargs={"net_arch": [32, 32], "log_std_init": -0.7},
        seed=seed,
        device="cpu",
    )
    state = learner.policy.state_dict()
    names = {"layers.0": "mlp_extractor.policy_net.0", "layers.1": "mlp_extractor.policy_net.2", "head": "action_net"}
    if start is not None:
        for own, theirs in names.items():
            for part in ("weight", "bias"):
                state[f"{theirs}.{part}"].copy_(torch.from_numpy(start.tensors[f"{own}.{part}"]))
    else:  # an untrained head acts by zeros
        state["action_net.weight"].mul_(0.01)
    learner.learn(steps)
    state = learner.policy.state_dict()
    tensors = {
        f"{own}.{part}": np.array(state[f"{theirs}.{part}"].numpy(), np.float32)
        for own, theirs in names.items()
        for part in ("weight", "bias")
    }
    require(all(np.isfinite(each).all() for each in tensors.values()), f"training of {about}", "NaN", "finite numbers")
    return PartyPolicy(tensors, envs.role.observation_high, about)


def _scale(model: PartyModel, policies: Mapping[str, Policy] | None, role: str, seed: int) -> float:
    """Typical size of a step's reward, by which rewards are divided [$]."""
    money = returns(model, policies, 8, seed)[role].sum(axis=2)
    return max(float(np.abs(money).mean()) / model.steps, 1e-6)


def train_shared(
    model: PartyModel,
    role: str,
    steps: int,
    policies: Mapping[str, Policy] | None = None,
    seed: int = 0,
    episodes: int = 32,
) -> PartyPolicy:
    """One network for all players of a role (parameter sharing), the other roles as given.

    Args:
        model: of the parties.
        role: whose players learn.
        steps: of training, counted over all rows (episodes x players).
        policies: of the others, by agent or role.
        seed: of scenarios and network.
        episodes: that run at the same time.
    """
    found = [each for each in model.roles if each.name == role]
    require(len(found) == 1, "role", role, ", ".join(each.name for each in model.roles))
    number("steps", steps, 1, 10**12, integer=True)
    scale = _scale(model, policies, role, seed)
    envs = PartyVecEnv(model, found[0].agents, policies, episodes, seed, scale)
    return _learn(envs, steps, seed, role)


def train_independent(
    model: PartyModel,
    steps: int,
    rounds: int = 3,
    agents: Sequence[str] | None = None,
    seed: int = 0,
    episodes: int = 32,
    say: Say = lambda text: None,
) -> dict[str, PartyPolicy]:
    """A network for every agent; in each round they learn one after the other, the others as they are then.

    Args:
        model: of the parties.
        steps: of training of an agent in a round.
        rounds: how often everybody learns.
        agents: who learns; None: all.
        seed: of scenarios and networks.
        episodes: that run at the same time.
        say: receives a line per agent and round.
    """
    names = [agent for role in model.roles for agent in role.agents] if agents is None else list(agents)
    number("rounds", rounds, 1, 10_000, integer=True)
    number("steps", steps, 1, 10**12, integer=True)
    learned: dict[str, PartyPolicy] = {}
    for k in range(rounds):
        for j, agent in enumerate(names):
            role, _ = check_agent(model, agent)
            own = seed + 1000 * k + j
            envs = PartyVecEnv(model, [agent], learned, episodes, own, _scale(model, learned, role, own))
            learned[agent] = _learn(envs, steps, own, agent, learned.get(agent))
            say(f"round {k + 1} of {rounds}: {agent}")
    return learned


class Exploited(NamedTuple):
    """What one agent gains by an answer that was learned against the frozen others: a lower limit.

    Attributes:
        agent: who.
        gain_usd, low_usd, high_usd: mean gain of an episode on fresh scenarios, paired, and 95 % limits [$].
        answer: what was learned.
    """

    agent: str
    gain_usd: float
    low_usd: float
    high_usd: float
    answer: PartyPolicy


def learned_exploitability(
    model: PartyModel,
    policies: Mapping[str, Policy] | None,
    agent: str,
    steps: int,
    seed: int = 0,
    episodes: int = 200,
) -> Exploited:
    """Train an answer of one agent to the others' policies, and measure what it gains on fresh scenarios.

    Args:
        model: of the parties.
        policies: of all, by agent or role; the agent's own is what is answered against.
        agent: who deviates.
        steps: of training.
        seed: of training; scenarios of the evaluation come from another one.
        episodes: of the evaluation.
    """
    role, place = check_agent(model, agent)
    envs = PartyVecEnv(model, [agent], policies, 32, seed, _scale(model, policies, role, seed))
    answer = _learn(envs, steps, seed, agent)
    before = returns(model, policies, episodes, seed + 1_000_003)[role][:, place].sum(axis=1)
    after = returns(model, {**(policies or {}), agent: answer}, episodes, seed + 1_000_003)[role][:, place].sum(axis=1)
    spread = mean_interval(after - before)
    return Exploited(agent, spread.mean, spread.low, spread.high, answer)
