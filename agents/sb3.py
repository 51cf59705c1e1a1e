"""Training with stable-baselines3 on batched environments: seeded, logged, resumable.

A run's folder holds run.json (what it is and where it stands), log.csv (one row per rollout), tensorboard/, the newest
checkpoints while it runs, and bundle/ when it is done. See checkpoint.py for what resuming restores.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.logger import Logger

from agents import checkpoint
from agents.bundle import bundle_hash, save_bundle
from agents.checkpoint import Counters
from agents.config import PPOParams, SACParams, TrainConfig
from agents.normaliser import Normaliser
from agents.recorder import Recorder, StopTraining
from agents.vec_env import NativeVecEnv, make_native
from baselines.certificate import write_text
from v2g_env.core.validate import InvalidInputError, array, number, require

__all__ = ["NativeVecEnv", "TrainResult", "build_model", "make_native", "train"]

RUN = "run.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes:
        bundle: folder of the trained policy; of the newest checkpoint if the run was interrupted.
        bundle_hash: its hash.
        config_hash, seed: what the result belongs to.
        reason: why it ended: "total_steps", "time_limit" or "interrupted".
        steps, seconds: environment steps and training time [s], earlier parts of a resumed run included.
        mean_return_usd: mean return of the last logged episodes, with exploration noise [$]; None before the first.
        resumed_from: step at which this call took up the run; None if it started it.
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

    @property
    def finished(self) -> bool:
        """False if calling ``train`` again would go on."""
        return self.reason != "interrupted"


def build_model(config: TrainConfig, envs: NativeVecEnv) -> Any:
    """The stable-baselines3 model of a configuration, on the CPU.

    Raises:
        InvalidInputError: for an algorithm or a hyperparameter that does not go with the environment's actions.
    """
    params = config.hyperparameters
    _check_actions(config, envs.action_space)
    shared: dict[str, Any] = {"gamma": params.gamma, "batch_size": params.batch_size, "device": "cpu"}
    shared |= {"seed": config.seed, "verbose": 0}
    if isinstance(params, SACParams):
        return SAC(
            "MlpPolicy",
            envs,
            learning_rate=params.learning_rate,
            buffer_size=params.buffer_size,
            tau=params.tau,
            train_freq=params.train_freq,
            gradient_steps=params.gradient_steps,
            learning_starts=params.learning_starts,
            ent_coef=params.ent_coef,
            policy_kwargs={"net_arch": list(params.net_arch), "activation_fn": torch.nn.ReLU},
            **shared,
        )
    model = PPO(
        "MlpPolicy",
        envs,
        learning_rate=_schedule(params),
        n_steps=params.n_steps,
        n_epochs=params.n_epochs,
        gae_lambda=params.gae_lambda,
        clip_range=params.clip_range,
        ent_coef=params.ent_coef,
        policy_kwargs={
            "net_arch": list(params.net_arch),
            "activation_fn": torch.nn.Tanh,
            "log_std_init": params.log_std_init,
        },
        **shared,
    )
    if params.action_start:
        with torch.no_grad():
            model.policy.action_net.bias.copy_(torch.tensor(params.action_start))
    return model


def _check_actions(config: TrainConfig, space: Any) -> None:
    params = config.hyperparameters
    if not isinstance(space, Discrete):
        if isinstance(params, PPOParams) and params.action_start:
            size = len(params.action_start)
            require(size == space.shape[0], "length of action_start", size, str(space.shape[0]))
        return
    name = config.env.id
    if not isinstance(params, PPOParams):
        require(False, "algorithm", config.algorithm, f"ppo for {name}, whose actions are {space.n} choices")
        return
    for field in ("action_start", "log_std_init"):
        value = getattr(params, field)
        unset = value == getattr(PPOParams, field)
        require(unset, field, value, f"nothing: the actions of {name} are {space.n} choices")


def _schedule(params: PPOParams) -> Any:
    if params.learning_rate_schedule == "constant":
        return params.learning_rate
    # the last rollout may end behind total_steps, where the remaining share is negative: it must not turn the sign
    return lambda remaining: params.learning_rate * max(remaining, 0.0)


def train(
    config: TrainConfig,
    out_dir: str | Path,
    plan_kwh: Sequence[float] | None = None,
    progress: bool = True,
    threads: int = 1,
) -> TrainResult:
    """Train, or go on where the same run stopped, or return its result if it is done.

    The first Ctrl-C ends the current rollout, saves a checkpoint and returns with reason "interrupted"; a second one
    raises KeyboardInterrupt at once. The random generators of Python, NumPy and torch are seeded.

    Args:
        config: what to train.
        out_dir: the run's folder; one run (configuration, seed, plan) per folder.
        plan_kwh: stored energy of a plan to show in the observation.
        progress: show a progress bar.
        threads: of torch; part of what makes a run repeatable to the last bit.

    Returns:
        The result.

    Raises:
        InvalidInputError: for a folder that belongs to another run, a plan or law that the environment refuses.
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
        return _run(config, folder, plan, progress, identity)
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
    config: TrainConfig, folder: Path, plan: list[float] | None, progress: bool, identity: dict[str, Any]
) -> TrainResult:
    envs = make_native(config.env, config.num_envs, plan, config.reward_scale)
    try:
        params = config.hyperparameters
        if params.normalize_observation:
            freeze = float(params.learning_starts) if isinstance(params, SACParams) else np.inf
            envs.normaliser = Normaliser(envs.observation_space.shape[0], freeze)
        model = build_model(config, envs)
        model.set_logger(Logger(folder=None, output_formats=[]))
        start = _resume(folder, model, envs.normaliser)
        folder.mkdir(parents=True, exist_ok=True)
        about = identity | {"config": config.to_dict(), "plan_kwh": plan, "result": None}
        write_text(folder / RUN, json.dumps(about, indent=1, allow_nan=False))
        recorder = Recorder(config, folder, envs, start or Counters(), plan, progress)
        reason = _learn(model, config, recorder)
        result = _finish(config, folder, model, recorder, reason, start)
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


def _learn(model: Any, config: TrainConfig, recorder: Recorder) -> str:
    with recorder, _patient_interrupt(recorder):
        left = config.total_steps - model.num_timesteps
        if left > 0:
            try:
                model.learn(left, callback=recorder, log_interval=None, reset_num_timesteps=False)
            except StopTraining as stop:
                return str(stop)
    return "total_steps"


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
    config: TrainConfig, folder: Path, model: Any, recorder: Recorder, reason: str, start: Counters | None
) -> TrainResult:
    counters = recorder.counters()
    if reason == "interrupted":
        path = checkpoint.save(folder, config, model, recorder.envs.normaliser, counters, recorder.plan_kwh)
        identity = bundle_hash(path)
    else:
        path = folder / "bundle"
        tensors = checkpoint.policy_tensors(model, config.algorithm, recorder.envs.normaliser)
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
    )


def _plain(result: TrainResult) -> dict[str, Any]:
    return {**asdict(result), "bundle": "bundle"}
