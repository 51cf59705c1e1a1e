"""Search for hyperparameters: trainings on a few seeds each, judged by what policies earn on scenarios of their own.

The first trial is the configuration as it is; the others are proposed by a tree-structured Parzen estimator (Bergstra
et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011). A trial's value is the interquartile mean over its
training seeds of the policy's mean return. A training whose log is below the median of earlier trials at the same step
is cut off. One that fails or diverges is written down and skipped.

The folder holds study.log (Optuna's journal), trials/ (every training, with its log and bundle), results.csv and
best.toml, which ``v2g train`` takes. A search that was killed goes on where it stopped: proposals depend on the seed
and the finished trials alone, and trainings resume from their checkpoints. So the same seed gives the same results, as
long as no time limit chooses how many trials there are.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents import checkpoint
from agents.config import TrainConfig
from agents.statistics import interquartile_mean
from agents.toml_text import to_toml
from agents.tune_space import apply, dimensions, point_of
from baselines.certificate import write_text
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = ["BEST", "RESULTS", "TUNING_SEED", "Trial", "Tuned", "Tuning", "tune"]

TUNING_SEED = 7200  # of the scenarios that trials are judged on; comparisons, evaluations and leaderboard use others
BEST, RESULTS = "best.toml", "results.csv"
_STUDY = "study.log"
_LOOKS = 8  # at the log of a training, at most
_CUT = "cut"  # mark of a trial whose process was killed, or whose time was over
_SETTLED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class Tuning:
    """What a search is.

    Attributes:
        config: to start from; all but its hyperparameters, its steps and its seed is kept.
        steps: of every training; None: as the configuration says.
        seeds: training seeds of every trial.
        periods: days, weeks or seasons that policies are judged on; None: as many as an evaluation takes.
        seed: of the proposals.
    """

    config: TrainConfig
    steps: int | None = None
    seeds: tuple[int, ...] = (100, 101)
    periods: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        require(isinstance(self.config, TrainConfig), "config", self.config, "a TrainConfig")
        if self.steps is not None:
            number("steps", self.steps, 1, 10**12, integer=True)
        require(len(self.seeds) > 0, "seeds", self.seeds, "at least one training seed")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "different seeds")
        for seed in self.seeds:
            number("seeds", seed, 0, 2**32 - 1, integer=True)
        if self.periods is not None:
            number("periods", self.periods, 1, 10**6, integer=True)
        number("seed", self.seed, 0, 2**32 - 1, integer=True)
        limit = self.config.time_limit_s
        require(limit is None, "time_limit_s", limit, "none: trials must not depend on the machine")

    @property
    def base(self) -> TrainConfig:
        """The configuration of the first trial: the given one with the search's steps, and checkpoints to look at."""
        total = self.steps or self.config.total_steps
        every = min(self.config.checkpoint_steps, -(-total // _LOOKS))
        return self.config.replace(total_steps=total, checkpoint_steps=every, seed=self.seeds[0])

    def identity(self) -> dict[str, Any]:
        """What a folder's search must have in common with this one to go on."""
        return {
            "config_hash": self.base.hash,
            "seeds": list(self.seeds),
            "periods": self.periods,
            "scenario_seed": TUNING_SEED,
            "seed": self.seed,
        }


class Trial(NamedTuple):
    """One trial.

    Attributes:
        number: from zero; zero is the configuration as it was given.
        state: "complete", "pruned" (cut off early) or "failed".
        value_usd: interquartile mean over seeds of the mean return [$]; None unless complete.
        returns_usd: mean return of every seed [$], as many as were trained.
        point: hyperparameters, by name of a dimension.
        error: what went wrong, if it failed.
    """

    number: int
    state: str
    value_usd: float | None
    returns_usd: tuple[float, ...]
    point: dict[str, Any]
    error: str


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        folder: of the search.
        trials: all that are settled.
        best: the complete trial with the highest value, the earliest of several.
        config: its configuration, as best.toml has it.
    """

    folder: Path
    trials: tuple[Trial, ...]
    best: Trial
    config: TrainConfig


class _OutOfTime(Exception):  # noqa: N818 - a message to the caller, no error
    """The search's time is over; the trial stays open and goes on with the next call."""


@dataclass
class _Judge:
    """Trains and evaluates; model and scenarios are the same for all trials."""

    tuning: Tuning
    folder: Path
    deadline: float
    world: tuple[Any, Any]
    returns: list[float] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)

    def __call__(self, config: TrainConfig, trial: Any) -> float:
        """Value of a configuration [$]; raises optuna.TrialPruned, _OutOfTime, or what a training raises."""
        self.returns, self.reported = [], set()
        for place, seed in enumerate(self.tuning.seeds):
            self.returns.append(self._earned(config.replace(seed=seed), trial, place * config.total_steps))
        return float(interquartile_mean(self.returns))

    def _earned(self, config: TrainConfig, trial: Any, before: int) -> float:
        from agents.bundle import load_bundle
        from agents.sb3 import train
        from v2g_env.rollout import rollout

        folder = self.folder / "trials" / f"{config.hash[:12]}-{config.seed}"

        def watch(_saved: Path, steps: int, _seconds: float) -> None:
            self._look(config, folder, trial, before, steps)

        done = train(config, folder, progress=False, watch=watch)
        if done.reason == "interrupted":  # the training caught a Ctrl-C to save its state
            raise KeyboardInterrupt
        if done.reason != "total_steps":
            text = f"training with seed {config.seed} {done.reason} after step {done.steps}: {done.message}"
            raise ArithmeticError(text)
        return float(rollout(*self.world, load_bundle(done.bundle)).returns.mean())

    def _look(self, config: TrainConfig, folder: Path, trial: Any, before: int, steps: int) -> None:
        """Report what the log says up to a step, and cut the training off if that is little."""
        from optuna import TrialPruned

        for step, value in _logged(folder / "log.csv", config.checkpoint_steps, steps):
            if before + step not in self.reported:  # a resumed training reports what it had reported before, once
                self.reported.add(before + step)
                trial.report(value, before + step)
        if trial.should_prune():
            checkpoint.discard(folder)
            raise TrialPruned
        if time.monotonic() >= self.deadline:
            raise _OutOfTime


def tune(
    tuning: Tuning,
    folder: str | Path,
    trials: int = 20,
    seconds: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Search, or go on with the search in a folder.

    Args:
        tuning: what to search.
        folder: of the search; made if missing.
        trials: that the folder holds in the end, those of earlier calls included.
        seconds: stop when these are over [s], in the middle of a trial too, which goes on with the next call; None:
            never.
        say: receives a line per trial.

    Raises:
        InvalidInputError: if Optuna is not installed, the folder holds another search, or no trial was completed.
    """
    number("trials", trials, 1, 10**6, integer=True)
    if seconds is not None:
        number("seconds", seconds, 0.0, 1e9, open_low=True)
    target = Path(folder)
    study = _study(tuning, target)
    judge = _Judge(tuning, target, time.monotonic() + (np.inf if seconds is None else seconds), _world(tuning))
    try:
        while (done := len(_settled(study))) < trials and time.monotonic() < judge.deadline:
            _next(study, judge, done)
            say(_line(_trials(study)[-1]))
            _write(tuning, study, target)
    except _OutOfTime:
        say(f"time is over after {len(_settled(study))} trials; the next call goes on with the one that was cut off")
    finally:
        found = _write(tuning, study, target)
    if found is None:
        failures = "; ".join(each.error for each in _trials(study) if each.error)[:500]
        raise InvalidInputError(f"complete trials in {target} = 0 ({failures or 'no time'}); allowed: at least 1")
    return found


def _world(tuning: Tuning) -> tuple[Any, Any]:
    from agents.boards import default_periods, world_of

    env = tuning.config.env
    periods = tuning.periods or default_periods(env.id)
    return world_of(env.id, env.instance, env.law, periods, TUNING_SEED)


def _study(tuning: Tuning, folder: Path) -> Any:
    """The folder's study, its first trial waiting if it is new, cut off trials waiting again if it is not."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise InvalidInputError("optuna = not installed; allowed: pip install 'v2g-env[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _STUDY
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name="tune",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        )
        known = study.user_attrs.get("identity")
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InvalidInputError(f"{path} = unreadable ({error}); allowed: a search's folder, or a new one") from None
    own = tuning.identity()
    require(known in (None, own), f"search in {folder}", known, f"the same search ({own}), or a new folder")
    if known is None:
        study.set_user_attr("identity", own)
    names = [each.name for each in dimensions(tuning.config)]
    if not study.trials:
        study.enqueue_trial(point_of(tuning.base))
    for each in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study._storage.set_trial_user_attr(each._trial_id, _CUT, True)
        study.tell(each.number, state=optuna.trial.TrialState.FAIL)
        if set(each.params) == set(names):
            study.enqueue_trial(each.params)
    return study


def _next(study: Any, judge: _Judge, done: int) -> None:
    """One trial; its proposal depends on the search's seed and the settled trials."""
    import optuna

    seed = int(np.random.SeedSequence([judge.tuning.seed, done]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
    trial = study.ask()
    state, value, error = "COMPLETE", None, ""
    try:
        value = judge(apply(judge.tuning.base, _proposed(judge.tuning, trial)), trial)
    except optuna.TrialPruned:
        state = "PRUNED"
    except (ArithmeticError, ValueError, RuntimeError) as problem:
        state, error = "FAIL", f"{type(problem).__name__}: {problem}"
    trial.set_user_attr("returns_usd", judge.returns)
    trial.set_user_attr("error", error)
    study.tell(trial, value, state=optuna.trial.TrialState[state])


def _proposed(tuning: Tuning, trial: Any) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for each in dimensions(tuning.config):
        if each.choices:
            point[each.name] = trial.suggest_categorical(each.name, each.choices)
        elif each.kind == "int":
            point[each.name] = trial.suggest_int(each.name, int(each.low), int(each.high), log=each.log)
        else:
            point[each.name] = trial.suggest_float(each.name, each.low, each.high, log=each.log)
    return point


def _logged(path: Path, every: int, steps: int) -> list[tuple[int, float]]:
    """(step, mean return [$]) of a training's log at all multiples of ``every`` up to a step; rows may be missing."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [(int(float(row["steps"])), float(row["mean_return_usd"])) for row in csv.DictReader(stream)]
    found = []
    for mark in range(every, steps + 1, every):
        until = [value for step, value in rows if step <= mark + every // 2]
        if until:
            found.append((mark, until[-1]))
    return found


def _settled(study: Any) -> list[Any]:
    return [each for each in study.trials if each.state.name in _SETTLED and _CUT not in each.user_attrs]


def _trials(study: Any) -> tuple[Trial, ...]:
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    found = []
    for place, each in enumerate(_settled(study)):
        value = each.value if each.state.name == "COMPLETE" else None
        returns = tuple(each.user_attrs.get("returns_usd", ()))
        error = each.user_attrs.get("error", "")
        found.append(Trial(place, words[each.state.name], value, returns, dict(each.params), error))
    return tuple(found)


def _line(trial: Trial) -> str:
    shown = trial.error if trial.value_usd is None else f"{trial.value_usd:.4f} $"
    return f"trial {trial.number} {trial.state} {shown}".rstrip()


def _write(tuning: Tuning, study: Any, folder: Path) -> Tuned | None:
    """results.csv and, once a trial is complete, best.toml."""
    trials = _trials(study)
    names = [each.name for each in dimensions(tuning.config)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["trial", "state", "value_usd", *(f"seed_{seed}_usd" for seed in tuning.seeds), *names, "error"])
    for each in trials:
        earned = [repr(value) for value in each.returns_usd] + [""] * (len(tuning.seeds) - len(each.returns_usd))
        value = "" if each.value_usd is None else repr(each.value_usd)
        writer.writerow(
            [each.number, each.state, value, *earned, *(each.point.get(name, "") for name in names), each.error]
        )
    write_text(folder / RESULTS, stream.getvalue())
    complete = [each for each in trials if each.value_usd is not None]
    if not complete:
        return None
    best = max(complete, key=lambda each: (each.value_usd, -each.number))
    config = apply(tuning.base, best.point)
    seeds = ", ".join(map(str, tuning.seeds))
    text = f"trial {best.number} of {len(trials)}: {best.value_usd:.4f} $ with training seeds {seeds}"
    content = config.to_dict() | ({"warm_start": config.warm_start} if config.warm_start else {})
    write_text(folder / BEST, to_toml(content, text))
    return Tuned(folder, trials, best, config)
