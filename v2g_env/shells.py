"""The two shells that turn a batched model into a gymnasium.Env (batch of one) and a VectorEnv (batch of n)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from v2g_env.batch_model import BatchModel, check_action, check_actions
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = ["ModelEnv", "ModelVectorEnv"]

Floats = NDArray[np.float64]


def _action_space(model: BatchModel) -> spaces.Space[Any]:
    """The space of one episode's action."""
    if model.choices is not None:
        return spaces.Discrete(model.choices)
    return spaces.Box(-1.0, 1.0, (model.action_size,), np.float32)


class ModelEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """A model as a single environment. Subclasses set the class variables, build the model and draw ``frame``."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "human"], "render_fps": 2}  # type: ignore[misc]
    terms: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[tuple[str, ...]] = ()
    tolerance: ClassVar[float] = 0.0
    title: ClassVar[str] = ""

    def __init__(self, model: BatchModel, render_mode: str | None = None) -> None:
        require(
            render_mode is None or render_mode in self.metadata["render_modes"],
            "render_mode",
            render_mode,
            "None, rgb_array, human",
        )
        self.model = model
        self.horizon = model.steps
        self.render_mode = render_mode
        high = model.observation_high
        self.observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.action_space = _action_space(model)
        self._elapsed = self.horizon
        self._scenario: Any = None
        self._state: Any = None
        self._money: Floats | None = None
        self._window: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a new episode. ``options`` may hold "day": index of the base day; unknown keys raise."""
        days = _option_days(options)
        self.model.check_days(days, 1)
        super().reset(seed=seed)
        self._scenario = self.model.draw([self.np_random], days)
        self._state = self.model.initial(self._scenario)
        self._elapsed = 0
        self._money = None
        if self.render_mode == "human":
            self.render()
        return self.model.observe(self._scenario, self._state)[0], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One step; info has "violation", "reward_terms" (named money terms [$]) and the model's facts."""
        require(self._elapsed < self.horizon, "step", self._elapsed, "a call of reset() first: the episode is over")
        if self.model.choices is None:
            values = check_action(action, (self.model.action_size,))[None, :]
        else:
            values = check_actions([action], 1, self.model)
        self._state, money, facts, observation = self.model.advance(self._scenario, self._state, values)
        self._money = money
        self._elapsed += 1
        row = facts[0].tolist()
        terms = money[0].tolist()
        info: dict[str, Any] = dict(zip(self.facts, row, strict=True))
        info["violation"] = row[0] > self.tolerance
        info["reward_terms"] = dict(zip(self.terms, terms, strict=True))
        if self.render_mode == "human":
            self.render()
        return observation[0], sum(terms), self._elapsed == self.horizon, False, info

    def frame(self) -> NDArray[np.uint8]:
        """Picture (H, W, 3) of what may be known now; every problem draws its own."""
        raise InvalidInputError(f"render_mode = {self.render_mode!r}; allowed: None, this environment has no picture")

    def render(self) -> NDArray[np.uint8] | None:
        """Draw what is known now: an (H, W, 3) array, or a window."""
        if self.render_mode is None:
            return None
        from v2g_env.render import Window

        require(self._scenario is not None, "render", "before reset", "a call of reset() first")
        image = self.frame()
        if self.render_mode == "rgb_array":
            return image
        if self._window is None:
            self._window = Window(image.shape[1], image.shape[0], self.title)
        self._window.show(image, self.metadata["render_fps"])
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue from here, the random generator's state included."""
        return {
            "scenario": self._scenario,
            "state": self._state,
            "elapsed": self._elapsed,
            "money": self._money,
            "rng": copy.deepcopy(self.np_random.bit_generator.state),
        }

    def set_state(self, saved: dict[str, Any]) -> NDArray[np.float32]:
        """Go back to a state from ``get_state`` and return its observation."""
        self._scenario, self._state = saved["scenario"], saved["state"]
        self._elapsed = saved["elapsed"]
        self._money = saved["money"]
        self.np_random.bit_generator.state = copy.deepcopy(saved["rng"])
        return np.asarray(self.model.observe(self._scenario, self._state)[0])


class ModelVectorEnv(VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]]):
    """A model as n environments stepped by one call; environment i equals the single one seeded with seed + i."""

    terms: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[tuple[str, ...]] = ()
    tolerance: ClassVar[float] = 0.0

    def __init__(
        self,
        model: BatchModel,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        number("num_envs", num_envs, 1, 1_000_000, integer=True)
        mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.model = model
        self.horizon = model.steps
        self.num_envs = num_envs
        self.mode = mode
        high = model.observation_high
        self.single_observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.single_action_space = _action_space(model)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._scenario: Any = None
        self._state: Any = None
        self._elapsed = np.full(num_envs, self.horizon)
        self._over = np.ones(num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start all episodes, or those of options["reset_mask"]; options["day"]: (n,) base days."""
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, bool)))
        require(
            mask.shape == (self.num_envs,) and mask.dtype == bool and bool(mask.any()),
            "options['reset_mask']",
            mask,
            f"({self.num_envs},) booleans, at least one True",
        )
        require(mask.all() or self._scenario is not None, "options['reset_mask']", mask, "all True at the first reset")
        days = _option_days(options)
        self.model.check_days(days, self.num_envs)
        self._seed(seed, mask)
        self._restart(mask, days)
        return self.model.observe(self._scenario, self._state), {}

    def _seed(self, seed: int | list[int | None] | None, mask: NDArray[np.bool_]) -> None:
        if seed is None and self._generators:
            return
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + i for i in range(self.num_envs)]
        require(len(seeds) == self.num_envs, "seed", seeds, f"{self.num_envs} seeds")
        if not self._generators:
            self._generators = [seeding.np_random(one)[0] for one in seeds]
            return
        for i, one in enumerate(seeds):
            if one is not None and mask[i]:
                self._generators[i] = seeding.np_random(one)[0]

    def _restart(self, mask: NDArray[np.bool_], days: Sequence[int] | None = None) -> None:
        rows = np.flatnonzero(mask)
        if days is not None:
            days = [days[int(i)] for i in rows]
        scenario = self.model.draw([self._generators[i] for i in rows], days)
        state = self.model.initial(scenario)
        if len(rows) == self.num_envs:
            self._scenario, self._state = scenario, state
        else:
            self._scenario = _with_rows(self._scenario, rows, scenario)
            self._state = _with_rows(self._state, rows, state)
        self._elapsed[rows] = 0
        self._over[rows] = False

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of all; info holds (n,) arrays under the single environment's names, reward terms flattened."""
        require(self._scenario is not None, "step", "before reset", "a call of reset() first")
        values = check_actions(actions, self.num_envs, self.model)
        if self.mode == AutoresetMode.DISABLED:
            require(not self._over.any(), "step", "a finished episode", "a call of reset() with its reset_mask first")
        fresh = self._over.copy()  # finished one step ago (NEXT_STEP): this step only resets them
        self._state, money, facts, observation = self.model.advance(self._scenario, self._state, values)
        reward = money.sum(axis=1)
        self._elapsed += 1
        done = (self._elapsed >= self.horizon) & ~fresh
        info: dict[str, Any] = {name: facts[:, k] for k, name in enumerate(self.facts)}
        info["violation"] = (facts[:, 0] > self.tolerance) & ~fresh
        info["reward_terms"] = {name: money[:, k] for k, name in enumerate(self.terms)}
        restarted = fresh
        if fresh.any():
            reward[fresh] = money[fresh] = 0.0
            self._restart(fresh)
        self._over |= done
        if done.any() and self.mode == AutoresetMode.SAME_STEP:
            info["final_obs"] = observation
            info["_final_obs"] = done.copy()
            self._restart(done)
            restarted = done
        if restarted.any():
            observation = self.model.observe(self._scenario, self._state)
        return observation, reward, done, np.zeros(self.num_envs, bool), info

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue from here, all random generators' states included."""
        return {
            "scenario": self._scenario,
            "state": self._state,
            "elapsed": self._elapsed.copy(),
            "over": self._over.copy(),
            "rng": [copy.deepcopy(one.bit_generator.state) for one in self._generators],
        }

    def set_state(self, saved: dict[str, Any]) -> NDArray[np.float32]:
        """Go back to a state from ``get_state`` of a batch of this size and return its observations.

        Raises:
            InvalidInputError: for a state of another number of environments, or one that was never reset.
        """
        rows = len(saved["rng"])
        require(rows == self.num_envs, "number of saved environments", rows, f"{self.num_envs}, those of this batch")
        if not self._generators:
            self._generators = [seeding.np_random(0)[0] for _ in range(rows)]
        self._scenario, self._state = saved["scenario"], saved["state"]
        self._elapsed, self._over = saved["elapsed"].copy(), saved["over"].copy()
        for one, state in zip(self._generators, saved["rng"], strict=True):
            one.bit_generator.state = copy.deepcopy(state)
        return np.asarray(self.model.observe(self._scenario, self._state))


def _option_days(options: dict[str, Any] | None) -> Any:
    for key in options or {}:
        require(key == "day", "option of reset", key, "day")
    days = (options or {}).get("day")
    return None if days is None else np.atleast_1d(days).tolist()


def _with_rows(whole: Any, rows: NDArray[np.int64], part: Any) -> Any:
    columns = []
    for old, new in zip(whole, part, strict=True):
        column = old.copy()
        column[rows] = new
        columns.append(column)
    return type(whole)(*columns)
