"""How fast PPO trains from end to end, and whether torch or the environment is what it waits for."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2g_env.core.validate import number

__all__ = ["CONFIGS", "Speed", "lines", "measure"]

CONFIGS = ("parking_lot_ppo", "scheduling_ppo")
_ROLLOUTS = 12
_CALLBACKS = ("_on_rollout_start", "_on_step", "_on_rollout_end")


@dataclass
class Speed:
    """A training's time.

    Attributes:
        steps: environment steps.
        seconds: of the whole loop by the clock: collecting, learning, logging [s].
        processor_s: the same in processor time, which other programs disturb less, as in the next two [s].
        environment_s: in the environments and their adapter [s].
        recorder_s: in the callback: checkpoints, log, seeds [s].
    """

    steps: int = 0
    seconds: float = 0.0
    processor_s: float = 0.0
    environment_s: float = 0.0
    recorder_s: float = 0.0

    @property
    def steps_per_s(self) -> float:
        """Environment steps per second, all included."""
        return self.steps / self.seconds

    @property
    def learner_share(self) -> float:
        """Share of the time that is left for stable-baselines3: torch's forward passes and updates, and buffers."""
        return 1.0 - (self.environment_s + self.recorder_s) / self.processor_s


def measure(name: str, rollouts: int = _ROLLOUTS) -> Speed:
    """Train a shipped configuration for some rollouts, after one that compiles everything.

    Args:
        name: of the configuration, one that learns on policy.
        rollouts: that are timed.
    """
    number("rollouts", rollouts, 1, 10**6, integer=True)
    from agents.config import load

    config = load(name)
    rollout = config.hyperparameters.n_steps * config.num_envs  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        _timed(config.replace(total_steps=rollout), Path(folder) / "first")
        return _timed(config.replace(total_steps=rollouts * rollout), Path(folder) / "timed")


def _timed(config: Any, folder: Path) -> Speed:
    """Train as agents.sb3.train does, with clocks on the environments and the callback."""
    import torch
    from stable_baselines3.common.logger import Logger

    from agents.checkpoint import Counters
    from agents.learners import build_model
    from agents.recorder import Recorder
    from agents.vec_env import make_training

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    speed, envs = Speed(), make_training(config)
    try:
        model = build_model(config, envs)
        model.set_logger(Logger(folder=None, output_formats=[]))
        folder.mkdir(parents=True)
        recorder = Recorder(config, folder, envs, Counters(), None, False)
        _clock(speed, "environment_s", envs, ("step_wait",))
        _clock(speed, "recorder_s", recorder, _CALLBACKS)
        with recorder:
            begin, used = time.perf_counter(), time.process_time()
            model.learn(config.total_steps, callback=recorder, log_interval=None, reset_num_timesteps=False)
            speed.seconds, speed.processor_s = time.perf_counter() - begin, time.process_time() - used
        speed.steps = int(model.num_timesteps)
        return speed
    finally:
        envs.close()
        torch.set_num_threads(before)


def _clock(speed: Speed, field: str, owner: Any, names: tuple[str, ...]) -> None:
    """Add the processor time of these methods of one object to a field."""

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any) -> Any:
            begin = time.process_time()
            result = call(*arguments)
            setattr(speed, field, getattr(speed, field) + time.process_time() - begin)
            return result

        return inner

    for name in names:
        setattr(owner, name, clocked(getattr(owner, name)))


def lines() -> Iterator[str]:
    """Steps per second and the learner's share of each configuration, a line each."""
    for name in CONFIGS:
        speed = measure(name)
        cpu = speed.processor_s
        yield (
            f"{name}: {speed.steps_per_s:,.0f} steps/s from end to end, {speed.steps / cpu:,.0f} per second of "
            f"processor time; of that {100.0 * speed.learner_share:.1f} % in the learner, "
            f"{100.0 * speed.environment_s / cpu:.1f} % in environments and adapter, "
            f"{100.0 * speed.recorder_s / cpu:.1f} % in checkpoints and logs"
        )
