"""Training with stable-baselines3 on batched environments: seeded, logged, resumable.

A run's folder holds run.json (what it is and where it stands), log.csv (one row per rollout), tensorboard/, the newest
checkpoints while it runs, and bundle/ when it is done. See checkpoint.py for what resuming restores. After Ctrl-C the
folder interrupted/ is a bundle of the policy as it was then; a training that stops being finite leaves diverged/.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger

from agents import checkpoint
from agents.bundle import bundle_hash, save_bundle
from agents.checkpoint import Counters
from agents.config import TrainConfig
from agents.health import DivergedError, trouble
from agents.imitation import clone, demonstrate
from agents.learners import build_model, policy_tensors
from agents.normaliser import Normaliser
from agents.recorder import Recorder, StopTraining
from agents.vec_env import NativeVecEnv, make_native, make_training
from agents.warm_start import warm_start
from baselines.certificate import write_text
from v2g_env.core.validate import InvalidInputError, array, number, require

__all__ = ["NativeVecEnv", "TrainResult", "build_model", "make_native", "train"]

RUN = "run.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes:
        bundle: folder of the trained policy; if the run was interrupted, of the policy as it was then; if it diverged,
            of the newest checkpoint before.
        bundle_hash: its hash.
        config_hash, seed: what the result belongs to.
        reason: why it ended: "total_steps", "time_limit", "interrupted" or "diverged".
        steps, seconds: environment steps and training time [s], earlier parts of a resumed run included.
        mean_return_usd: mean return of the last logged episodes, with exploration noise [$]; None before the first.
        resumed_from: step at which this call took up the run; None if it started it.
        message: what was not finite, if it diverged.
    """

    bundle: Path
    bundle_hash: str
    config_hash: str
    seed: int
    reason: str
    steps: int
    seconds: float
    mean_return_usd: float | None
    resumed_from: int | None = None
    message: str = ""

    @property
    def finished(self) -> bool:
        """False if calling ``train`` again would go on from the newest checkpoint."""
        return self.reason not in ("interrupted", "diverged")


def train(
    config: TrainConfig,
    out_dir: str | Path,
    plan_kwh: Sequence[float] | None = None,
    progress: bool = True,
    threads: int = 1,
    watch: Callable[[Path, int, float], None] | None = None,
) -> TrainResult:
    """Train, or go on where the same run stopped, or return its result if it is done.

    The first Ctrl-C ends the current rollout, saves a bundle of the policy and returns with reason "interrupted"; a
    second one raises KeyboardInterrupt at once. However a run was stopped, calling again goes on from the newest
    checkpoint, at most ``checkpoint_steps`` before, and ends in the same weights as a run that never stopped. A
    training whose parameters, losses, rewards or observations stop being finite ends with reason "diverged". The random
    generators of Python, NumPy and torch are seeded.

    Args:
        config: what to train.
        out_dir: the run's folder; one run (configuration, seed, plan) per folder.
        plan_kwh: stored energy of a plan to show in the observation.
        progress: show a progress bar.
        threads: of torch; part of what makes a run repeatable to the last bit.
        watch: called with folder, steps and seconds of every periodic checkpoint, the one at step 0 included.

    Returns:
        The result.

    Raises:
        InvalidInputError: for a folder that belongs to another run, a plan or law that the environment refuses, a
            bundle to start from that does not fit.
        OSError: if the folder cannot be written; checkpoints and bundles are whole or not there.
    """
    number("threads", threads, 1, 1024, integer=True)
    plan = None if plan_kwh is None else array("plan_kwh", plan_kwh, (None,), 0.0).tolist()
    folder = Path(out_dir)
    identity = {"config_hash": config.hash, "seed": config.seed, "plan_sha256": _plan_hash(plan)}
    done = _earlier(folder, identity)
    if done is not None:
        return done
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _run(config, folder, plan, progress, identity, watch)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = (
            f"no space left to write in {folder}; the newest checkpoint is intact: free some and start again to go on"
        )
        raise OSError(error.errno, text) from error
    finally:
        torch.set_num_threads(before)


def _plan_hash(plan: list[float] | None) -> str:
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def _earlier(folder: Path, identity: dict[str, Any]) -> TrainResult | None:
    """Result of the run in the folder if it is finished; an error if it is another run's folder."""
    path = folder / RUN
    if not path.is_file():
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        found = {key: run[key] for key in identity}
        result = run["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} = unreadable ({error}); allowed: a run's folder, or a new one") from None
    require(found == identity, f"run in {folder}", found, f"the same run ({identity}), or a new folder")
    if result is None:
        return None
    done = TrainResult(**{**result, "bundle": folder / "bundle"})
    intact = bundle_hash(done.bundle)
    require(intact == done.bundle_hash, "bundle_hash", intact, f"{done.bundle_hash}, as recorded in {path}")
    return done


def _run(
    config: TrainConfig,
    folder: Path,
    plan: list[float] | None,
    progress: bool,
    identity: dict[str, Any],
    watch: Callable[[Path, int, float], None] | None,
) -> TrainResult:
    envs = make_training(config, plan)
    try:
        model = build_model(config, envs)
        model.set_logger(Logger(folder=None, output_formats=[]))
        checkpoint.tidy(folder)
        start = _resume(folder, model, envs.normaliser)
        if start is None and config.warm_start_sha256 is not None:
            warm_start(config, model, envs)
        if start is None and config.imitation is not None:
            shown = demonstrate(config, config.imitation, plan)
            clone(model, shown, envs.normaliser, config.imitation, _log.info)
        folder.mkdir(parents=True, exist_ok=True)
        about = identity | {"config": config.to_dict(), "plan_kwh": plan, "result": None}
        write_text(folder / RUN, json.dumps(about, indent=1, allow_nan=False))
        first = start or Counters(violation_price_usd=config.violation_price_usd)
        recorder = Recorder(config, folder, envs, first, plan, progress, watch)
        reason, message = _learn(model, config, recorder)
        result = _finish(config, folder, model, recorder, reason, message, start)
        if result.finished:
            write_text(folder / RUN, json.dumps(about | {"result": _plain(result)}, indent=1, allow_nan=False))
            checkpoint.discard(folder)
        return result
    finally:
        envs.close()


def _resume(folder: Path, model: Any, normaliser: Normaliser | None) -> Counters | None:
    saved = checkpoint.newest(folder)
    if saved is None:
        return None
    checkpoint.restore(model, normaliser, *saved)
    _log.info("resumed at step %d", saved[0].steps)
    return saved[0]


def _learn(model: Any, config: TrainConfig, recorder: Recorder) -> tuple[str, str]:
    """Why the training ended, and what was not finite if it diverged."""
    with recorder, _patient_interrupt(recorder):
        left = config.total_steps - model.num_timesteps
        try:
            if left > 0:
                model.learn(left, callback=recorder, log_interval=None, reset_num_timesteps=False)
                recorder.check()
        except StopTraining as stop:
            return str(stop), ""
        except DivergedError as error:
            return "diverged", str(error)
        except ValueError as error:  # what torch and environments say to a NaN
            found = trouble(model)
            if found is None:
                raise
            return "diverged", f"{found} is not finite ({error})".partition("\n")[0]
    return "total_steps", ""


@contextmanager
def _patient_interrupt(recorder: Recorder) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop; only in the main thread, and only if nobody else handles it."""
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def handle(_number: int, _frame: Any) -> None:
        recorder.stop_requested = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _finish(
    config: TrainConfig,
    folder: Path,
    model: Any,
    recorder: Recorder,
    reason: str,
    message: str,
    start: Counters | None,
) -> TrainResult:
    counters = recorder.counters()
    normaliser = recorder.envs.normaliser
    if reason == "diverged":
        state = checkpoint.save_diverged(folder, model, normaliser, counters, message)
        path = checkpoint.folders(folder)[0]
        _log.warning("training diverged after step %d: %s; state in %s", counters.steps, message, state)
        identity = bundle_hash(path)
    else:
        path = folder / (checkpoint.INTERRUPTED if reason == "interrupted" else "bundle")
        tensors = policy_tensors(model, config.algorithm, normaliser)
        identity = save_bundle(path, config, tensors, counters.steps, recorder.plan_kwh)
    return TrainResult(
        bundle=path,
        bundle_hash=identity,
        config_hash=config.hash,
        seed=config.seed,
        reason=reason,
        steps=counters.steps,
        seconds=counters.seconds,
        mean_return_usd=recorder.mean_return_usd,
        resumed_from=start.steps if start else None,
        message=message,
    )


def _plain(result: TrainResult) -> dict[str, Any]:
    return {**asdict(result), "bundle": "bundle"}
