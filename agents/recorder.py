"""The callback of a training: checkpoints, fresh seeds, limits, log.csv, TensorBoard and the progress bar."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents import checkpoint
from agents.checkpoint import Counters
from agents.config import TrainConfig
from agents.vec_env import NativeVecEnv
from baselines.certificate import write_text

__all__ = ["Recorder", "StopTraining"]

_COMMON = ("steps", "seconds", "steps_per_s", "episodes", "mean_return_usd", "violations_per_episode")
_TRAIN = {
    "ppo": ("approx_kl", "clip_fraction", "entropy_loss", "explained_variance", "value_loss", "std", "learning_rate"),
    "sac": ("actor_loss", "critic_loss", "ent_coef", "learning_rate"),
}
_ROWS = 1000  # at most about this many rows per log
_SEED_OFFSET = 2**40  # training episodes never share a seed with evaluations, which use small numbers


class StopTraining(Exception):  # noqa: N818 - a message to the caller, no error
    """Raised at the start of a rollout to end the training; the text is the reason."""


class Recorder(BaseCallback):  # type: ignore[misc]
    """Watches a training; see the module. Used as a context manager, which closes files and the bar.

    Args:
        config: of the run.
        folder: of the run.
        envs: the training environments.
        start: counters that the run starts from.
        plan_kwh: plan shown in the observation, for the checkpoints.
        progress: show a bar.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        envs: NativeVecEnv,
        start: Counters,
        plan_kwh: list[float] | None,
        progress: bool,
    ) -> None:
        """See the class."""
        super().__init__()
        self.config, self.folder, self.envs, self.plan_kwh = config, folder, envs, plan_kwh
        self.stop_requested = False
        self.mean_return_usd: float | None = None
        self._start, self._progress = start, progress
        self._steps, self._episodes = start.steps, start.episodes
        self._logged_steps, self._logged_s = start.steps, start.seconds
        self._next: int | None = None  # step of the next checkpoint; None: nothing seeded yet
        self._began = time.monotonic()
        self._bar: Any = None
        self._writer: Any = None
        self._columns = (*_COMMON, *_TRAIN[config.algorithm])
        envs.training = False

    def __enter__(self) -> Recorder:
        """Open log, TensorBoard and bar; rows behind the checkpoint are dropped, they will come again."""
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self._cut_log()
        purge = self._start.steps + 1 if self._start.steps else None
        self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=purge)
        self._bar = tqdm(
            total=self.config.total_steps,
            initial=self._start.steps,
            unit="step",
            unit_scale=True,
            mininterval=0.5 if sys.stderr.isatty() else 20.0,  # a log file wants few lines
            disable=not self._progress,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self._bar.close()
        self._writer.close()

    @property
    def seconds(self) -> float:
        """Training time so far, earlier parts included [s]."""
        return self._start.seconds + time.monotonic() - self._began

    def counters(self) -> Counters:
        """Where the training stands, at the last boundary between two rollouts."""
        return Counters(steps=self._steps, seconds=self.seconds, episodes=self._episodes)

    def _on_training_start(self) -> None:
        self._began = time.monotonic()

    def _on_rollout_start(self) -> None:
        steps = self._steps = int(self.model.num_timesteps)
        if self.stop_requested:
            raise StopTraining("interrupted")
        limit = self.config.time_limit_s
        if limit is not None and self.seconds >= limit:
            raise StopTraining("time_limit")
        if self._next is not None and steps < self._next:
            return
        if self._next is not None:
            args = (self.folder, self.config, self.model, self.envs.normaliser, self.counters(), self.plan_kwh)
            checkpoint.save(*args)
        self._reseed(steps)
        every = self.config.checkpoint_steps
        self._next = (steps // every + 1) * every

    def _reseed(self, steps: int) -> None:
        """Start episodes and generators afresh from (seed, steps)."""
        children = np.random.SeedSequence([self.config.seed, steps]).generate_state(2)
        self.model.set_random_seed(int(children[0]))
        self.envs.seed(_SEED_OFFSET + int(children[1]))
        self.envs.training = True
        self.model._last_obs = self.envs.reset()
        self.model._last_episode_starts = np.ones(self.envs.num_envs, bool)

    def _on_step(self) -> bool:
        self._bar.update(self.envs.num_envs)
        return True

    def _on_rollout_end(self) -> None:
        steps = self._steps = int(self.model.num_timesteps)
        if steps - self._logged_steps < self.config.total_steps / _ROWS or not self.envs.any_finished:
            return
        finished = self.envs.take_finished()
        self._episodes += len(finished.returns)
        row: dict[str, float] = {"steps": steps, "seconds": self.seconds, "episodes": self._episodes}
        row["steps_per_s"] = (steps - self._logged_steps) / max(self.seconds - self._logged_s, 1e-9)
        row["mean_return_usd"] = self.mean_return_usd = float(finished.returns.mean())
        row["violations_per_episode"] = float(finished.violations.mean())
        self._bar.set_postfix_str(f"mean return {self.mean_return_usd:.2f} $", refresh=False)
        values = self.model.logger.name_to_value
        row |= {
            name: float(values[f"train/{name}"]) for name in _TRAIN[self.config.algorithm] if f"train/{name}" in values
        }
        self._logged_steps, self._logged_s = steps, row["seconds"]
        self._write(row)

    def _write(self, row: dict[str, float]) -> None:
        with (self.folder / "log.csv").open("a", encoding="utf-8") as stream:
            stream.write(_line([f"{row[name]:.8g}" if name in row else "" for name in self._columns]))
        for name, value in row.items():
            if name != "steps" and math.isfinite(value):
                group = "train" if name not in _COMMON else "rollout"
                self._writer.add_scalar(f"{group}/{name}", value, int(row["steps"]))

    def _cut_log(self) -> None:
        path = self.folder / "log.csv"
        lines = [_line(list(self._columns))]
        if path.is_file() and self._start.steps:
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.reader(stream) if len(row) == len(self._columns)]
            lines += [_line(row) for row in rows[1:] if float(row[0]) <= self._start.steps]
        write_text(path, "".join(lines))


def _line(cells: list[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue()
