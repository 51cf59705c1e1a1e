"""Behaviour cloning from certified teachers: their demonstrations as arrays, and the fit of an actor to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.config import TrainConfig
from agents.normaliser import Normaliser
from agents.teachers import TEACHERS, Imitation, Lesson, check_teacher
from v2g_env.batch_model import check_actions
from v2g_env.core.validate import InvalidInputError, array, require

__all__ = ["Demonstrations", "clone", "demonstrate", "record"]

Floats = NDArray[np.float64]
_STREAM = 2**41  # spawn key: demonstrations share no episode with trainings or evaluations


class Demonstrations(NamedTuple):
    """What a teacher did in n episodes of T steps.

    Attributes:
        observations: (n, T + 1, d) float32, the one after the last step included.
        actions: (n, T, k) float32, or (n, T) int64 choices.
        rewards: (n, T) [$].
        violations: (n, T) bool.
        weights: (n, T) relative cost of a wrong action; ones if the teacher says nothing.
    """

    observations: NDArray[np.float32]
    actions: NDArray[Any]
    rewards: Floats
    violations: NDArray[np.bool_]
    weights: Floats


def record(model: Any, scenario: Any, lesson: Lesson, tolerance: float = 1e-6) -> Demonstrations:
    """Play the episodes of ``scenario`` as the lesson says and write everything down.

    Args:
        model: a problem's Model.
        scenario: n episodes.
        lesson: policy and weights.
        tolerance: of the scaled violation.

    Raises:
        InvalidInputError: for actions that the environment refuses, or weights that are no weights.
    """
    state = model.initial(scenario)
    seen = [model.observe(scenario, state)]
    n = len(seen[0])
    memory: tuple[Any, ...] | None = None
    start = np.ones(n, bool)
    actions, rewards, violations = [], [], []
    for _ in range(model.steps):
        action, memory = lesson.policy.predict(seen[-1], memory, start, True)
        start = np.zeros(n, bool)
        chosen = np.asarray(action, np.float32 if model.choices is None else np.int64)
        state, money, facts = model.step(scenario, state, check_actions(chosen, n, model))
        seen.append(model.observe(scenario, state))
        actions.append(chosen)
        rewards.append(money.sum(axis=1))
        violations.append(facts[:, 0] > tolerance)
    given = np.ones((n, model.steps)) if lesson.weights is None else lesson.weights
    weights = array("weights", given, (n, model.steps), 0.0)
    require(bool(weights.any()), "weights", 0.0, "at least one above zero")
    a, b, c, d = (np.stack(each, axis=1) for each in (seen, actions, rewards, violations))
    return Demonstrations(a, b, c, d, weights)


def demonstrate(config: TrainConfig, imitation: Imitation, plan_kwh: list[float] | None = None) -> Demonstrations:
    """Demonstrations of a teacher in a configuration's environment.

    Args:
        config: whose environment, law and instance count.
        imitation: teacher, number of episodes and their seed; every episode has a stream of its own, so that the first
            n episodes are the same for every larger number.
        plan_kwh: plan that the environment shows.

    Raises:
        InvalidInputError: for a teacher or parameters that the environment does not have.
    """
    from agents.vec_env import make_native

    parameters = check_teacher(config.env.id, imitation.teacher, imitation.parameters)
    envs = make_native(config.env, 1, plan_kwh)
    try:
        model = envs.envs.model  # type: ignore[attr-defined]
        streams = [np.random.SeedSequence(imitation.seed, spawn_key=(_STREAM, i)) for i in range(imitation.episodes)]
        scenario = model.draw([np.random.default_rng(stream) for stream in streams])
        lesson = TEACHERS[config.env.id][imitation.teacher].lesson(model, scenario, parameters)
        return record(model, scenario, lesson)
    finally:
        envs.close()


def clone(
    model: Any,
    shown: Demonstrations,
    normaliser: Normaliser | None,
    imitation: Imitation,
    say: Callable[[str], None] = lambda text: None,
) -> float:
    """Fit the actor of a stable-baselines3 model to demonstrations: weighted squared error, or log-likelihood.

    Args:
        model: PPO or MaskablePPO, freshly built; its actor is changed.
        shown: what to imitate.
        normaliser: of the observations; counts those of the demonstrations.
        imitation: sizes and rates.
        say: receives a line at the end.

    Returns:
        Mean weighted error of the last epoch.

    Raises:
        InvalidInputError: for a model whose actor is no Gaussian or categorical network.
    """
    import torch

    policy = model.policy
    if not hasattr(policy, "action_net") or hasattr(policy, "lstm_actor"):
        raise InvalidInputError(f"imitation with {type(model).__name__}; allowed: ppo, maskable_ppo")
    size = shown.observations.shape[-1]
    flat = np.ascontiguousarray(shown.observations[:, :-1].reshape(-1, size))
    if normaliser is not None:
        normaliser.update(flat)
        flat = normaliser(flat)
    discrete = shown.actions.ndim == 2
    seen = torch.from_numpy(flat)
    wanted = torch.from_numpy(shown.actions.reshape(len(flat), -1))
    weight = torch.from_numpy((shown.weights / shown.weights.mean()).reshape(-1).astype(np.float32))
    actor = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
    optimiser = torch.optim.Adam(actor, lr=imitation.learning_rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, imitation.epochs)
    order = torch.Generator().manual_seed(imitation.seed)
    total = 0.0
    for _ in range(imitation.epochs):
        total = 0.0
        shuffled = torch.randperm(len(seen), generator=order)
        for begin in range(0, len(seen), imitation.batch_size):
            rows = shuffled[begin : begin + imitation.batch_size]
            head = policy.action_net(policy.mlp_extractor.policy_net(seen[rows]))
            if discrete:
                each = torch.nn.functional.cross_entropy(head, wanted[rows, 0], reduction="none")
            else:
                each = ((head - wanted[rows]) ** 2).sum(dim=1)
            loss = (weight[rows] * each).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(rows)
        falling.step()
    say(f"cloned {imitation.teacher}: error {total / len(seen):.4f} after {imitation.epochs} epochs")
    return total / len(seen)
