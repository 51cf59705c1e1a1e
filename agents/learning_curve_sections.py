"""What prior knowledge buys: PPO from scratch, on top of a baseline, and from a clone of it, on one board."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.boards import Board, board_of, score
from agents.compare import Contestant
from agents.config import TrainConfig, load
from agents.learning_answers import World
from agents.learning_curves import LEVELS_PERCENT, CurvePoint, band, reach, train_with_curve
from agents.learning_study_figures import draw_curves
from agents.report import Section
from agents.statistics import interquartile_mean, probability_of_improvement, stratified_bootstrap
from agents.teachers import Imitation
from baselines.certificate import write_text
from baselines.parking_lot.policies import PredictiveControl
from v2g_env.core.validate import require

__all__ = ["VARIANTS", "curves"]

Curves = Mapping[str, Mapping[str, tuple[CurvePoint, ...]]]  # by variant, then seed

VARIANTS = ("from scratch", "residual", "clone")
_ENV = "V2G/ParkingLot-v0"
_QUANTILE = 0.3
_CLONE_RATE, _CLONE_LOG_STD = 2e-4, -2.5  # small steps and little noise: the clone is good already


def curves(world: World) -> list[Section]:
    """Curves of every variant and seed, and what it took to come within a gap."""
    config = world.config
    board = board_of(_ENV, periods=config.board_days, seed=config.seed + 10, beta=config.beta)
    control = score(
        Board(board.test, None, None),
        [Contestant("predictive control", "baseline", lambda model: PredictiveControl(model, _QUANTILE))],
    )[0][0].row.gap_percent
    found: dict[str, dict[str, tuple[CurvePoint, ...]]] = {}
    for variant in VARIANTS:
        found[variant] = {}
        for seed in range(config.curve_seeds):
            world.say(f"curve: {variant}, seed {seed}")
            found[variant][str(seed)] = _curve(world, board, _config(world, variant, seed), variant)
    return [_shapes(world, board, found, control), _costs(world, found, control)]


def _config(world: World, variant: str, seed: int) -> TrainConfig:
    """The shipped configuration of the lot's PPO, shortened, and what the variant changes of it."""
    config = world.config
    every = max(config.curve_steps // config.curve_points, 1)
    made = load("parking_lot_ppo").replace(total_steps=config.curve_steps, checkpoint_steps=every, seed=seed)
    if variant == "residual":
        return made.replace(base="predictive control", base_parameters={"quantile": _QUANTILE})
    if variant == "clone":
        small = replace(
            made.hyperparameters,
            learning_rate=_CLONE_RATE,
            log_std_init=_CLONE_LOG_STD,  # type: ignore[call-arg]
        )
        lesson = Imitation(
            parameters={"quantile": _QUANTILE},
            episodes=config.clone_lessons,
            seed=101 + seed,
            critic_steps=config.curve_steps // 4,
        )
        return made.replace(hyperparameters=small, imitation=lesson)
    return made


def _curve(world: World, board: Board, config: TrainConfig, variant: str) -> tuple[CurvePoint, ...]:
    """The curve of one training, its seconds counted from before demonstrations and cloning."""
    folder = world.out / "curves" / f"{variant.replace(' ', '-')}-{config.hash[:12]}-{config.seed}"
    result, points = train_with_curve(config, folder, board, _learn(folder), progress=False)
    if result.reason == "interrupted":
        raise KeyboardInterrupt
    require(result.finished, f"training {variant}", result.message, "finite numbers")
    before = float((folder / _BEFORE).read_text(encoding="utf-8")) if (folder / _BEFORE).is_file() else 0.0
    return tuple(replace(point, seconds=point.seconds + before) for point in points)


_BEFORE = "seconds-before-training.txt"


def _learn(folder: Path) -> Any:
    """agents.sb3.train, which notes on the way what demonstrations and cloning took: its own clock starts after."""
    from agents.sb3 import train

    begin = time.monotonic()

    def learn(config: TrainConfig, out: Path, watch: Any, **options: Any) -> Any:
        def watched(path: Path, steps: int, seconds: float) -> None:
            if steps == 0:
                taken = max(time.monotonic() - begin - seconds, 0.0)
                write_text(folder / _BEFORE, f"{taken:.3f}\n")
            watch(path, steps, seconds)

        return train(config, out, watch=watched, **options)

    return learn


def _shapes(world: World, board: Board, found: Curves, control: float) -> Section:
    rows = []
    for variant, of_seeds in found.items():
        seconds: dict[int, list[float]] = {}
        money: dict[int, list[float]] = {}
        for curve in of_seeds.values():
            for point in curve:
                seconds.setdefault(point.steps, []).append(point.seconds)
                money.setdefault(point.steps, []).append(point.mean_usd)
        for steps, gap in band(of_seeds).items():
            rows.append(
                {
                    "training": variant,
                    "steps": steps,
                    "seconds": float(np.median(seconds[steps])),
                    "earned_usd": float(np.mean(money[steps])),
                    "gap [%]": gap.value,
                    "from [%]": gap.low,
                    "to [%]": gap.high,
                }
            )
    config, test = world.config, board.test
    known = "" if test.oracle is None else f" ({test.oracle.mean():.2f} $ with the future known)"
    text = (
        f"PPO on the parking lot, {config.curve_seeds} seeds of {config.curve_steps} steps each: from random weights; "
        "added to predictive control (30 % of an action); and from a clone of predictive control. All policies are "
        f"scored on the same {config.board_days} days that no training saw. The gap is certified: no policy earns more "
        f"than {test.bound.mean():.2f} $ a day on average there{known}; part of every gap is the bound's own. Seconds "
        f"(median of the seeds) include what set-up, demonstrations and cloning took.\n\nPredictive control itself "
        f"has a gap of {control:.2f} %. Limits are those of a bootstrap over {config.curve_seeds} seeds, which are "
        "too narrow: with three seeds they cover about 74 % instead of 95 %."
    )
    return Section("Learning curves", text, rows, draw_curves(rows, control), (8.6, 4.2))


def _costs(world: World, found: Curves, control: float) -> Section:
    """What it took to come within each gap, and how sure the order of the variants is."""
    ends = {
        variant: {"parking lot": np.array([curve[-1].gap_percent for curve in of_seeds.values()])}
        for variant, of_seeds in found.items()
    }
    rows: list[dict[str, Any]] = []
    for variant, of_seeds in found.items():
        last = stratified_bootstrap(ends[variant], interquartile_mean)
        row: dict[str, Any] = {"training": variant, "seeds": len(of_seeds), "final gap [%]": last.value}
        row |= {"from [%]": last.low, "to [%]": last.high}
        better = probability_of_improvement(ends[variant], ends[VARIANTS[0]])
        own = variant == VARIANTS[0]
        row["better than scratch"] = "" if own else f"{better.value:.2f} ({better.low:.2f} to {better.high:.2f})"
        for name, level in (*((f"{level:g} %", level) for level in LEVELS_PERCENT), ("the control's gap", control)):
            row[f"to {name}"] = _reached(of_seeds, level)
        rows.append(row)
    first, *others = (row["final gap [%]"] for row in rows)
    order = " and ".join(f"{row['final gap [%]']:.1f} % ({row['training']})" for row in rows[1:])
    best = "better" if max(others) < first else "no better" if min(others) >= first else "in part better"
    text = (
        f"After {world.config.curve_steps} steps the certified gap is {first:.1f} % from scratch, {order}: prior "
        f"knowledge ends {best} at this length, which is short; it says nothing about long trainings. Steps and "
        "seconds are medians over the seeds until the first evaluated policy came within the gap, 0 steps being the "
        "policy before any training; a dash means that at most half of the seeds came there. What no policy here "
        "reaches need not be within reach of any. With so few seeds a probability of 1 means that every run was better "
        "than every run from scratch, not that all runs would be."
    )
    return Section("What prior knowledge buys", text, rows, None)


def _reached(of_seeds: Mapping[str, tuple[CurvePoint, ...]], level: float) -> str:
    """Median steps and seconds of the seeds, and how many came there; a dash if not most of them."""
    hits = [reach(curve, level) for curve in of_seeds.values()]
    there = [hit for hit in hits if hit is not None]
    if 2 * len(there) <= len(hits):
        return "–" if not there else f"– ({len(there)} of {len(hits)})"
    steps = np.median([np.inf if hit is None else hit.steps for hit in hits])
    seconds = np.median([np.inf if hit is None else hit.seconds for hit in hits])
    return f"{steps:.0f} steps, {seconds:.1f} s" + (
        "" if len(there) == len(hits) else f" ({len(there)} of {len(hits)})"
    )
