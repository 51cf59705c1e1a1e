"""The callback of a training: checkpoints, fresh seeds, limits, log.csv, TensorBoard and the progress bar."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents import checkpoint
from agents.checkpoint import Counters
from agents.config import TrainConfig
from agents.health import DivergedError, trouble
from agents.hyperparameters import OnPolicyParams
from agents.vec_env import Finished, NativeVecEnv
from baselines.certificate import write_text

__all__ = ["Recorder", "StopTraining"]

_COMMON = ("steps", "seconds", "steps_per_s", "episodes", "mean_return_usd", "violations_per_episode")
_ON_POLICY = ("approx_kl", "clip_fraction", "entropy_loss", "explained_variance", "value_loss", "std", "learning_rate")
_OFF_POLICY = ("actor_loss", "critic_loss", "ent_coef", "learning_rate")
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
        watch: called with folder, steps and seconds of every periodic checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        envs: NativeVecEnv,
        start: Counters,
        plan_kwh: list[float] | None,
        progress: bool,
        watch: Callable[[Path, int, float], None] | None = None,
    ) -> None:
        """See the class."""
        super().__init__()
        self.config, self.folder, self.envs, self.plan_kwh = config, folder, envs, plan_kwh
        self.stop_requested = False
        self.mean_return_usd: float | None = None
        self._start, self._progress, self._watch = start, progress, watch
        self._steps, self._episodes = start.steps, start.episodes
        self._logged_steps, self._logged_s = start.steps, start.seconds
        self._next: int | None = None  # step of the next checkpoint; None: nothing seeded yet
        self._began = time.monotonic()
        self._bar: Any = None
        self._writer: Any = None
        self._of_training = _ON_POLICY if isinstance(config.hyperparameters, OnPolicyParams) else _OFF_POLICY
        priced = ("violation_price_usd",) if config.violation_limit is not None else ()
        self._columns = (*_COMMON, *priced, *self._of_training)
        self._pending: list[Finished] = []  # episodes that no row of the log has counted yet
        envs.training = False
        envs.violation_price_usd = start.violation_price_usd

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
        return Counters(
            steps=self._steps,
            seconds=self.seconds,
            episodes=self._episodes,
            violation_price_usd=self.envs.violation_price_usd,
        )

    def check(self) -> None:
        """Raise DivergedError if parameters or losses are not finite."""
        found = trouble(self.model)
        if found is not None:
            raise DivergedError(f"{found} is not finite")

    def _on_training_start(self) -> None:
        self._began = time.monotonic()

    def _on_rollout_start(self) -> None:
        steps = self._steps = int(self.model.num_timesteps)
        self.check()  # before anything is saved
        if self.stop_requested:
            raise StopTraining("interrupted")
        limit = self.config.time_limit_s
        if limit is not None and self.seconds >= limit:
            raise StopTraining("time_limit")
        if self._next is not None and steps < self._next:
            self._free_actor(steps)
            return
        if self._next is not None or steps == 0:
            args = (self.folder, self.config, self.model, self.envs.normaliser, self.counters(), self.plan_kwh)
            saved = checkpoint.save(*args)
            if self._watch is not None:
                self._watch(saved, steps, self.seconds)
        self._free_actor(steps)
        self._reseed(steps)
        every = self.config.checkpoint_steps
        self._next = (steps // every + 1) * every

    def _free_actor(self, steps: int) -> None:
        """After imitation the actor is fixed for some steps, while the critic learns what the clone is worth."""
        imitation = self.config.imitation
        if imitation is not None:
            policy = self.model.policy
            parts = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
            noise = getattr(policy, "log_std", None)  # of normal actions; choices have none
            for part in parts if noise is None else [*parts, noise]:
                part.requires_grad_(steps >= imitation.critic_steps)

    def _reseed(self, steps: int) -> None:
        """Start episodes and generators afresh from (seed, steps), and the log's counts, which no checkpoint has."""
        self._pending.clear()
        self.envs.take_finished()
        self._logged_steps = steps
        children = np.random.SeedSequence([self.config.seed, steps]).generate_state(2)
        self.model.set_random_seed(int(children[0]))
        self.envs.seed(_SEED_OFFSET + int(children[1]))
        self.envs.training = True
        self.model._last_obs = self.envs.reset()
        self.model._last_episode_starts = np.ones(self.envs.num_envs, bool)
        remembered = getattr(self.model, "_last_lstm_states", None)
        for part in (*remembered.pi, *remembered.vf) if remembered is not None else ():
            part.zero_()

    def _on_step(self) -> bool:
        self._bar.update(self.envs.num_envs)
        return True

    def _on_rollout_end(self) -> None:
        steps = self._steps = int(self.model.num_timesteps)
        if self.envs.any_finished:
            finished = self.envs.take_finished()
            self._pending.append(finished)
            self._episodes += len(finished.returns)
            self._move_price(finished)
        if steps - self._logged_steps < self.config.total_steps / _ROWS or not self._pending:
            return
        returns, _, violations = (np.concatenate(column) for column in zip(*self._pending, strict=True))
        self._pending.clear()
        row: dict[str, float] = {"steps": steps, "seconds": self.seconds, "episodes": self._episodes}
        row["steps_per_s"] = (steps - self._logged_steps) / max(self.seconds - self._logged_s, 1e-9)
        row["mean_return_usd"] = self.mean_return_usd = float(returns.mean())
        row["violations_per_episode"] = float(violations.mean())
        if self.config.violation_limit is not None:
            row["violation_price_usd"] = self.envs.violation_price_usd
        self._bar.set_postfix_str(f"mean return {self.mean_return_usd:.2f} $", refresh=False)
        values = self.model.logger.name_to_value
        row |= {name: float(values[f"train/{name}"]) for name in self._of_training if f"train/{name}" in values}
        self._logged_steps, self._logged_s = steps, row["seconds"]
        self._write(row)

    def _move_price(self, finished: Finished) -> None:
        """Dual ascent: the price of a violation rises while there are more than allowed."""
        limit = self.config.violation_limit
        if limit is not None:
            excess = float(finished.violations.mean()) - limit
            self.envs.violation_price_usd = max(
                0.0, self.envs.violation_price_usd + self.config.violation_rate * excess
            )

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
