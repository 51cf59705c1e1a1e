"""Hyperparameters of the learners, and the one table of which learner takes which of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from v2g_env.core.validate import array, number, require

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "MaskablePPOParams",
    "OffPolicyParams",
    "OnPolicyParams",
    "PPOParams",
    "Params",
    "RecurrentPPOParams",
    "SACParams",
    "TD3Params",
    "TQCParams",
    "named",
    "settle",
]

SCHEDULES = ("constant", "linear")
_BIG = 1_000_000_000


@dataclass(frozen=True)
class Params:
    """What every learner has.

    Attributes:
        learning_rate: of Adam, for all networks.
        batch_size: transitions per gradient step.
        gamma: discount.
        net_arch: widths of the hidden layers of actor and of critic.
        normalize_observation: subtract a running mean and divide by a running deviation.
    """

    learning_rate: float = 5e-4
    batch_size: int = 832
    gamma: float = 1.0
    net_arch: tuple[int, ...] = (64, 64)
    normalize_observation: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        number("learning_rate", self.learning_rate, 0, 1, open_low=True)
        number("gamma", self.gamma, 0, 1)
        flag = self.normalize_observation
        require(isinstance(flag, bool), "normalize_observation", flag, "true or false")
        widths = self.net_arch
        require(isinstance(widths, tuple | list) and 1 <= len(widths) <= 8, "net_arch", widths, "1 to 8 widths")
        for width in widths:
            number("net_arch", width, 1, 4096, integer=True)
        settle(self)


@dataclass(frozen=True)
class OnPolicyParams(Params):
    """What the kinds of proximal policy optimisation have; layers are tanh.

    Attributes:
        n_steps: steps per environment between two updates; whole episodes if a multiple of the horizon.
        batch_size: minibatch; must divide n_steps x num_envs.
        n_epochs: passes over each rollout.
        learning_rate_schedule: "linear" falls to zero at total_steps, "constant" stays.
        gae_lambda: weight of longer advantage estimates.
        clip_range: trust region of the probability ratio.
        ent_coef: weight of the entropy bonus.
    """

    n_steps: int = 26
    n_epochs: int = 6
    learning_rate_schedule: str = "linear"
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("n_steps", "batch_size"):
            number(name, getattr(self, name), 2, _BIG, integer=True)
        number("n_epochs", self.n_epochs, 1, 1000, integer=True)
        number("gae_lambda", self.gae_lambda, 0, 1)
        number("clip_range", self.clip_range, 0, 1, open_low=True)
        number("ent_coef", self.ent_coef, 0, 10)
        named("learning_rate_schedule", self.learning_rate_schedule, SCHEDULES)
        super().__post_init__()


@dataclass(frozen=True)
class PPOParams(OnPolicyParams):
    """Hyperparameters of proximal policy optimisation.

    Attributes:
        log_std_init: logarithm of the first exploration noise; box actions only.
        action_start: mean action of the untrained policy, one number per action; () for zeros; box actions only.
    """

    log_std_init: float = -1.0
    action_start: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every field."""
        number("log_std_init", self.log_std_init, -10, 2)
        if np.shape(self.action_start) != (0,):
            array("action_start", self.action_start, (None,), -2.0, 2.0)
        object.__setattr__(self, "action_start", tuple(map(float, self.action_start)))
        super().__post_init__()


@dataclass(frozen=True)
class RecurrentPPOParams(PPOParams):
    """Hyperparameters of proximal policy optimisation with memory: an LSTM before the layers of actor and of critic.

    Attributes:
        lstm_size: numbers that each LSTM remembers, twice (hidden and cell).
    """

    lstm_size: int = 32

    def __post_init__(self) -> None:
        """Check every field."""
        number("lstm_size", self.lstm_size, 1, 4096, integer=True)
        super().__post_init__()


@dataclass(frozen=True)
class MaskablePPOParams(OnPolicyParams):
    """Hyperparameters of proximal policy optimisation that never makes choices that the environment masks."""


@dataclass(frozen=True)
class OffPolicyParams(Params):
    """What the learners with a replay buffer have; layers are ReLU.

    Attributes:
        buffer_size: transitions kept for replay.
        tau: how fast the target networks follow.
        train_freq: steps of the vector environment between two updates.
        gradient_steps: gradient steps per update.
        learning_starts: transitions collected with random actions before the first update; the normaliser is fitted
            on these and fixed from then on, so that the replay buffer stays consistent.
    """

    learning_rate: float = 3e-4
    batch_size: int = 256
    buffer_size: int = 200_000
    tau: float = 0.005
    train_freq: int = 1
    gradient_steps: int = 8
    learning_starts: int = 5_000

    def __post_init__(self) -> None:
        """Check every field."""
        number("buffer_size", self.buffer_size, 1, _BIG, integer=True)
        number("batch_size", self.batch_size, 1, _BIG, integer=True)
        number("tau", self.tau, 0, 1, open_low=True)
        for name in ("train_freq", "gradient_steps"):
            number(name, getattr(self, name), 1, 100_000, integer=True)
        number("learning_starts", self.learning_starts, 0, _BIG, integer=True)
        super().__post_init__()


@dataclass(frozen=True)
class SACParams(OffPolicyParams):
    """Hyperparameters of soft actor-critic.

    Attributes:
        ent_coef: "auto" or a fixed entropy weight.
    """

    ent_coef: str | float = "auto"

    def __post_init__(self) -> None:
        """Check every field."""
        if self.ent_coef != "auto":
            require(not isinstance(self.ent_coef, str), "ent_coef", self.ent_coef, "auto, or a number in [0, 10]")
            number("ent_coef", self.ent_coef, 0, 10)
        super().__post_init__()


@dataclass(frozen=True)
class TQCParams(SACParams):
    """Hyperparameters of truncated quantile critics (Kuznetsov et al., ICML 2020).

    Attributes:
        n_critics: networks that predict quantiles of the return.
        n_quantiles: of each of them.
        dropped_quantiles: highest quantiles per network that targets leave out, against overestimation.
    """

    n_critics: int = 2
    n_quantiles: int = 25
    dropped_quantiles: int = 2

    def __post_init__(self) -> None:
        """Check every field."""
        number("n_critics", self.n_critics, 1, 16, integer=True)
        number("n_quantiles", self.n_quantiles, 1, 1000, integer=True)
        number("dropped_quantiles", self.dropped_quantiles, 0, self.n_quantiles - 1, integer=True)
        super().__post_init__()


@dataclass(frozen=True)
class TD3Params(OffPolicyParams):
    """Hyperparameters of twin delayed deep deterministic policy gradient (Fujimoto et al., ICML 2018).

    Attributes:
        action_noise: standard deviation of the normal noise added to actions while exploring.
        target_noise, target_noise_clip: standard deviation and limit of the noise that smooths targets.
        policy_delay: updates of the critics per update of the actor.
    """

    action_noise: float = 0.1
    target_noise: float = 0.2
    target_noise_clip: float = 0.5
    policy_delay: int = 2

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("action_noise", "target_noise", "target_noise_clip"):
            number(name, getattr(self, name), 0, 2)
        number("policy_delay", self.policy_delay, 1, 1000, integer=True)
        super().__post_init__()


class Algorithm(NamedTuple):
    """What is known of a learner.

    Attributes:
        params: class of its hyperparameters.
        activation: of its hidden layers.
        actions: kinds of actions that it can learn.
        acting: how the network's output becomes an action: "gaussian" (mean of a normal law, clipped; logits where
            there are choices), "squashed" (tanh of a normal draw), "fixed" (tanh, no noise).
    """

    params: type[Params]
    activation: str
    actions: tuple[str, ...]
    acting: str


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(PPOParams, "tanh", ("box", "discrete"), "gaussian"),
    "recurrent_ppo": Algorithm(RecurrentPPOParams, "tanh", ("box", "discrete"), "gaussian"),
    "maskable_ppo": Algorithm(MaskablePPOParams, "tanh", ("discrete",), "gaussian"),
    "sac": Algorithm(SACParams, "relu", ("box",), "squashed"),
    "td3": Algorithm(TD3Params, "relu", ("box",), "fixed"),
    "tqc": Algorithm(TQCParams, "relu", ("box",), "squashed"),
}


def named(field: str, value: object, names: Iterable[str]) -> None:
    """Raise InvalidInputError unless ``value`` is one of the names; the error suggests the nearest one."""
    known = list(names)
    near = difflib.get_close_matches(value, known, 1) if isinstance(value, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    require(isinstance(value, str) and value in known, field, value, ", ".join(known) + hint)


def settle(config: Any) -> None:
    """Give 1 and 1.0, lists and tuples, one form in a frozen dataclass, so that they have one hash."""
    hints = get_type_hints(type(config))
    for one in fields(config):
        value = getattr(config, one.name)
        if hints[one.name] in (float, float | None, str | float) and isinstance(value, int):
            object.__setattr__(config, one.name, float(value))
        elif isinstance(value, list):
            object.__setattr__(config, one.name, tuple(value))
