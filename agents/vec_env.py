"""A batched gymnasium environment in the form stable-baselines3 expects, without a Python loop over its rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from agents.bases import Residual, build_base
from agents.config import EnvConfig, TrainConfig
from agents.health import DivergedError
from agents.hyperparameters import OffPolicyParams
from agents.normaliser import Normaliser
from v2g_env.core.validate import InvalidInputError, number, require
from v2g_env.registration import ENVIRONMENTS

__all__ = ["Finished", "NativeVecEnv", "make_native", "make_training"]

Indices = None | int | Iterable[int]


class Finished(NamedTuple):
    """Episodes that ended since the last look: undiscounted returns [$], lengths, steps with a violation."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    violations: NDArray[np.int64]


class NativeVecEnv(VecEnv):  # type: ignore[misc]
    """Adapter over a gymnasium VectorEnv that resets finished episodes in the same step.

    Observations are normalised if a normaliser is given, rewards divided by ``reward_scale``. At the end of an episode
    the row's info holds ``terminal_observation`` (normalised like all others), ``TimeLimit.truncated`` and
    ``episode`` = {"r": return in unscaled reward, "l": steps, "t": seconds since construction}.

    Args:
        envs: the vector environment, in mode SAME_STEP.
        reward_scale: divisor of the reward.
        normaliser: of the observations; updated by every step while ``training`` is True.
        residual: base policy that the actions are added to; None: they are carried out as they are.

    Attributes:
        violation_price_usd: what the learner's reward loses for a step with a violation [$]; returns in ``episode``
            are without it.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        reward_scale: float = 1.0,
        normaliser: Normaliser | None = None,
        residual: Residual | None = None,
    ) -> None:
        """See the class."""
        mode = envs.metadata.get("autoreset_mode")
        require(mode == AutoresetMode.SAME_STEP, "autoreset_mode", mode, "AutoresetMode.SAME_STEP")
        number("reward_scale", reward_scale, 0, open_low=True)
        self.envs = envs
        self.reward_scale = reward_scale
        self.normaliser = normaliser
        self.residual = residual
        self.violation_price_usd = 0.0
        self.training = True
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self._started = time.monotonic()
        self._actions: NDArray[Any] | None = None
        self._seen = np.zeros((self.num_envs, 0), np.float32)  # last observations, as the environment gave them
        self._starts = np.ones(self.num_envs, bool)  # rows that are at an episode's first step
        self._return = np.zeros(self.num_envs)
        self._length = np.zeros(self.num_envs, np.int64)
        self._violations = np.zeros(self.num_envs, np.int64)
        self._finished: list[Finished] = []

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seeds seed + i for the next reset; None: fresh entropy."""
        self._seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        return self._seeds

    def reset(self) -> NDArray[np.float32]:
        """Start all episodes, with the seeds from ``seed`` if it was called since the last reset."""
        seeds: Any = None if self._seeds[0] is None else list(self._seeds)
        observations, _ = self.envs.reset(seed=seeds)
        self._reset_seeds()
        self._reset_options()
        self._return[:] = 0.0
        self._length[:] = 0
        self._violations[:] = 0
        self._seen, self._starts = observations, np.ones(self.num_envs, bool)
        if self.residual is not None:
            self.residual.forget()
        return self._shown(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for ``step_wait``: (n, k) float32, or (n,) whole numbers where there are choices."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One step of all environments.

        Raises:
            DivergedError: if an observation or a reward is not finite.
        """
        actions, self._actions = self._actions, None
        if actions is None:
            raise InvalidInputError("step_wait = no actions; allowed: a call of step_async first")
        if self.residual is not None:
            actions = self.residual(self._seen, self._starts, actions)
        observations, rewards, terminated, truncated, info = self.envs.step(actions)
        self._check("observation", observations)
        done = terminated | truncated
        self._seen, self._starts = observations, done
        self._return += rewards
        self._length += 1
        price = 0.0
        if "violation" in info:
            self._violations += info["violation"]
            price = self.violation_price_usd * info["violation"]
        scaled = ((rewards - price) / self.reward_scale).astype(np.float32)
        self._check("reward", scaled)
        shown = self._shown(observations)  # first, so that terminal observations see the same mean and deviation
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            self._close(np.flatnonzero(done), truncated & ~terminated, info, infos)
        return shown, scaled, done, infos

    def _check(self, name: str, values: NDArray[Any]) -> None:
        """Before a NaN reaches the normaliser or the networks."""
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise DivergedError(f"{name} of environment {row} is not finite")

    def _close(
        self, rows: NDArray[np.int64], cut: NDArray[np.bool_], info: dict[str, Any], infos: list[dict[str, Any]]
    ) -> None:
        last = np.stack(list(info["final_obs"][rows]))
        if self.normaliser is not None:
            last = self.normaliser(last)
        finished = Finished(self._return[rows], self._length[rows], self._violations[rows])
        self._finished.append(finished)
        seconds = time.monotonic() - self._started
        cuts, returns, lengths = cut[rows].tolist(), finished.returns.tolist(), finished.lengths.tolist()
        for k, row in enumerate(rows.tolist()):
            infos[row] = {
                "terminal_observation": last[k],
                "TimeLimit.truncated": cuts[k],
                "episode": {"r": returns[k], "l": lengths[k], "t": seconds},
            }
        self._return[rows] = 0.0
        self._length[rows] = 0
        self._violations[rows] = 0

    def _shown(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.normaliser is None:
            return observations
        if self.training:
            self.normaliser.update(observations)
        return self.normaliser(observations)

    @property
    def any_finished(self) -> bool:
        """Whether ``take_finished`` has something to give."""
        return bool(self._finished)

    def take_finished(self) -> Finished:
        """Episodes that ended since the last call."""
        parts = self._finished or [Finished(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))]
        self._finished = []
        return Finished(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def close(self) -> None:
        """Close the vector environment."""
        self.envs.close()

    def _count(self, indices: Indices) -> int:
        return len(list(self._get_indices(indices)))

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The vector environment's attribute, once per index: its rows are no objects of their own."""
        return [getattr(self.envs, attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an existing attribute for all rows at once; single rows cannot differ."""
        self._whole("set_attr", attr_name, indices)
        getattr(self.envs, attr_name)
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call the vector environment's method once; its result is returned for every row.

        "action_masks" is the exception that sb3-contrib asks for: every row gets its own mask (A,).
        """
        self._whole("env_method", method_name, indices)
        if method_name == "action_masks":
            return list(getattr(self.envs, method_name)())
        return [getattr(self.envs, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def _whole(self, what: str, name: str, indices: Indices) -> None:
        everything = self._count(indices) == self.num_envs
        require(everything, f"indices of {what}({name!r})", indices, "None: the rows share one object")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Indices = None) -> list[bool]:
        """True for Monitor, whose promise (unscaled episode statistics in infos) this class keeps; else False."""
        return [issubclass(wrapper_class, Monitor)] * self._count(indices)

    def get_images(self) -> list[NDArray[np.uint8] | None]:
        """A batch has no picture; render a single environment instead."""
        return [None] * self.num_envs


def make_native(
    env: EnvConfig,
    num_envs: int,
    plan_kwh: Sequence[float] | None = None,
    reward_scale: float = 1.0,
    normaliser: Normaliser | None = None,
) -> NativeVecEnv:
    """Build the adapter from a configuration; ``plan_kwh`` is shown in the observation."""
    kwargs: dict[str, Any] = {"instance": dict(env.instance), "law": env.law}
    if plan_kwh is not None:
        shown = next(entry.problem for entry in ENVIRONMENTS if entry.id == env.id) == "parking_lot"
        require(shown, "plan_kwh", f"a plan for {env.id}", "none: this environment shows no plan")
        kwargs["plan_kwh"] = list(plan_kwh)
    envs = gymnasium.make_vec(
        env.id,
        num_envs=num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP,
        **kwargs,
    )
    return NativeVecEnv(envs, reward_scale, normaliser)


def make_training(config: TrainConfig, plan_kwh: Sequence[float] | None = None) -> NativeVecEnv:
    """The environments of a run: rewards scaled, a fresh normaliser if it asks for one, the base if it has one."""
    envs = make_native(config.env, config.num_envs, plan_kwh, config.reward_scale)
    params = config.hyperparameters
    if params.normalize_observation:
        # a replay buffer keeps observations as they were shown
        freeze = float(params.learning_starts) if isinstance(params, OffPolicyParams) else np.inf
        envs.normaliser = Normaliser(envs.observation_space.shape[0], freeze)
    if config.base is not None:
        model = envs.get_attr("model")[0]
        base = build_base(config.env.id, config.base, config.base_parameters, model, plan_kwh is not None)
        envs.residual = Residual(base, config.residual_scale)
    return envs
