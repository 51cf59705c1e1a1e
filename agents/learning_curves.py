"""Learning curves in units of the certified gap: policies kept along a training, all scored on one board.

``agents.sb3.train`` calls its parameter ``watch`` after every periodic checkpoint with the checkpoint's folder, its
steps and the seconds of training so far. A Keeper copies the policy out of it, since checkpoints come and go, and
nothing is evaluated before the training is over: its clock runs on while somebody watches.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.boards import Board, score
from agents.bundle import load_bundle
from agents.bundle_files import CONFIG, WEIGHTS, BundleError, write_folder
from agents.compare import Contestant
from agents.config import TrainConfig
from agents.figures import COLORS, svg
from agents.statistics import Estimate, stratified_bootstrap
from baselines.certificate import write_text
from v2g_env.core.validate import number, require
from v2g_env.metrics import mean_interval

__all__ = [
    "LEVELS_PERCENT",
    "CurvePoint",
    "Keeper",
    "Reached",
    "band",
    "curve_figure",
    "learning_curve",
    "reach",
    "train_with_curve",
    "write_curves",
]

LEVELS_PERCENT = (20.0, 10.0, 5.0)  # gaps whose first crossing is reported
_FACTS = "seconds.json"


@dataclass(frozen=True)
class CurvePoint:
    """One policy of a training on the board.

    Attributes:
        steps: environment steps of training so far.
        seconds: of training so far, evaluations not counted [s].
        mean_usd: mean return per period.
        gap_percent: certified gap in percent of the mean bound.
        low_percent, high_percent: its 95 % interval over the board's scenarios.
        sha256: hash of the policy's bundle.
    """

    steps: int
    seconds: float
    mean_usd: float
    gap_percent: float
    low_percent: float
    high_percent: float
    sha256: str


class Reached(NamedTuple):
    """Cost of the first policy at or below a gap: environment steps, and seconds of training."""

    steps: int
    seconds: float


class Keeper:
    """Keeps a copy of every checkpoint's policy; to be handed to a training as ``watch``.

    Args:
        folder: of the copies; one run per folder. A resumed run goes on there.
    """

    def __init__(self, folder: str | Path) -> None:
        """See the class."""
        self.folder = Path(folder)

    def __call__(self, path: Path, steps: int, seconds: float) -> None:
        """Copy the policy of a checkpoint's or a bundle's folder.

        Args:
            path: the folder.
            steps: environment steps so far.
            seconds: of training so far [s].
        """
        number("steps", steps, 0, 10**12, integer=True)
        number("seconds", seconds, 0.0)
        parts = {name: (Path(path) / name).read_bytes() for name in (CONFIG, WEIGHTS)}
        facts = json.dumps({"steps": int(steps), "seconds": float(seconds)}).encode()
        write_folder(self.folder / f"policy-{int(steps):012d}", {**parts, _FACTS: facts})

    def kept(self) -> list[tuple[Path, int, float]]:
        """Folder, steps and seconds of every policy, in the order of training.

        Raises:
            BundleError: for a damaged folder.
        """
        found = []
        for path in sorted(self.folder.glob("policy-*")):
            try:
                facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
                steps, seconds = facts["steps"], facts["seconds"]
                number("steps", steps, 0, 10**12, integer=True)
                number("seconds", seconds, 0.0)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BundleError(f"{path / _FACTS} = unreadable ({error}); allowed: steps and seconds") from None
            found.append((path, int(steps), float(seconds)))
        return found


def learning_curve(
    keeper: Keeper, board: Board, say: Callable[[str], None] = lambda text: None
) -> tuple[CurvePoint, ...]:
    """Score every kept policy on the board.

    Args:
        keeper: of one training.
        board: of the environment that it was trained for; its scenarios must not have shaped the training.
        say: receives a line per policy.

    Raises:
        InvalidInputError: if nothing was kept, or the board's bound is not positive on average: then no gap in percent.
        BundleError: for a damaged policy.
    """
    kept = keeper.kept()
    require(len(kept) > 0, f"policies in {keeper.folder}", 0, "at least one")
    top = mean_interval(board.test.bound, board.test.units).mean
    require(top > 0.0, "mean bound", top, "a positive number, of which gaps are percentages")
    plain = Board(board.test, None, None)  # a curve needs numbers, no certificate per point
    points = []
    for path, steps, seconds in kept:
        bundle = load_bundle(path)
        plan = bundle.env_kwargs.get("plan_kwh")
        shown = None if plan is None else np.asarray(plan, np.float64)
        contestant = Contestant(f"policy of step {steps}", "agent", _always(bundle), plan=shown, sha256=bundle.hash)
        row = score(plain, [contestant], say)[0][0].row
        gap, low, high = (100.0 * value / top for value in (row.gap_usd, row.gap_low_usd, row.gap_high_usd))
        points.append(CurvePoint(steps, seconds, row.mean_usd, gap, low, high, bundle.hash))
    return tuple(points)


def _always(policy: Any) -> Callable[[Any], Any]:
    return lambda model: policy


def reach(curve: Sequence[CurvePoint], level_percent: float) -> Reached | None:
    """Samples and seconds until the certified gap was first at or below a level; None if it never was.

    The resolution is that of the checkpoints, and a curve that rises above the level again has reached it all the same.
    """
    number("level_percent", level_percent, 0.0)
    hit = next((point for point in curve if point.gap_percent <= level_percent), None)
    return None if hit is None else Reached(hit.steps, hit.seconds)


def train_with_curve(
    config: TrainConfig,
    out_dir: str | Path,
    board: Board,
    learn: Callable[..., Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> tuple[Any, tuple[CurvePoint, ...]]:
    """Train as ``agents.sb3.train`` does, keep the policies, and score them and the final one when it is done.

    Args:
        config: what to train; ``checkpoint_steps`` says how fine the curve is.
        out_dir: the run's folder; policies are kept in ``policies`` below it.
        board: to score on.
        learn: the training, by default ``agents.sb3.train``; called with config, folder, ``watch`` and the options.
        say: receives a line per policy.
        options: further arguments of the training (plan_kwh, progress, threads).

    Returns:
        The training's result, and the curve.
    """
    keeper = Keeper(Path(out_dir) / "policies")
    result = (learn or _usual())(config, out_dir, watch=keeper, **options)
    keeper(result.bundle, result.steps, result.seconds)
    return result, learning_curve(keeper, board, say)


def _usual() -> Callable[..., Any]:
    from agents.sb3 import train

    return train


def band(curves: Mapping[str, Sequence[CurvePoint]], confidence: float = 0.95) -> dict[int, Estimate]:
    """Interquartile mean of the gap over seeds [%], with bootstrap limits, at every step that all curves have.

    Args:
        curves: by seed or name.
        confidence: of the pointwise limits, which are infinite with one curve and too narrow with few.

    Raises:
        InvalidInputError: if the curves have no step in common.
    """
    require(len(curves) > 0, "curves", 0, "at least one")
    gaps = [{point.steps: point.gap_percent for point in curve} for curve in curves.values()]
    common = sorted(set.intersection(*map(set, gaps)))
    require(len(common) > 0, "steps of the curves", [sorted(each) for each in gaps], "at least one in common")
    return {
        step: stratified_bootstrap({"gap": [each[step] for each in gaps]}, confidence=confidence) for step in common
    }


def curve_figure(curves: Mapping[str, Sequence[CurvePoint]], title: str = "") -> str:
    """SVG of the curves and the band of their interquartile mean.

    Args:
        curves: by seed or name.
        title: of the figure; empty: none.
    """
    middle = band(curves)

    def draw(axes: Any) -> None:
        for curve in curves.values():
            axes.plot([p.steps for p in curve], [p.gap_percent for p in curve], color=COLORS[7], lw=0.9, alpha=0.8)
        steps = list(middle)
        label = f"interquartile mean of {len(curves)}" if len(curves) > 1 else "one training"
        axes.plot(steps, [each.value for each in middle.values()], color=COLORS[0], marker="o", label=label)
        low, high = ([each[k] for each in middle.values()] for k in (1, 2))
        if np.isfinite(low).all():
            axes.fill_between(steps, low, high, color=COLORS[0], alpha=0.2, lw=0, label="95 %, bootstrap over seeds")
        for level in LEVELS_PERCENT:
            axes.axhline(level, color=COLORS[6], lw=0.7, ls=(0, (4, 2)))
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel("environment steps")
        axes.set_ylabel("certified gap [% of the bound]")
        axes.legend(loc="upper right")
        if title:
            axes.set_title(title, loc="left")

    return svg(draw, (6.4, 3.6), f"learning curve {title}")


def write_curves(curves: Mapping[str, Sequence[CurvePoint]], folder: str | Path, title: str = "") -> None:
    """Write curves.csv, curves.json (with what it took to reach each level) and curves.svg, each whole or not at all.

    Args:
        curves: by seed or name.
        folder: made if missing.
        title: of the figure.
    """
    target = Path(folder)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["curve", *(field.name for field in fields(CurvePoint))], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"curve": name} | asdict(point) for name, curve in curves.items() for point in curve)
    content = {name: _plain(curve) for name, curve in curves.items()}
    picture = curve_figure(curves, title)
    write_text(target / "curves.csv", stream.getvalue())
    write_text(target / "curves.json", json.dumps(_finite(content), indent=1, allow_nan=False))
    write_text(target / "curves.svg", picture)


def _plain(curve: Sequence[CurvePoint]) -> dict[str, Any]:
    hits = {f"{level:g}": reach(curve, level) for level in LEVELS_PERCENT}
    reached = {level: None if hit is None else hit._asdict() for level, hit in hits.items()}
    return {"points": [asdict(point) for point in curve], "reached_percent": reached}


def _finite(content: Any) -> Any:
    """The same with null for numbers that JSON does not have (limits from a single scenario)."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content
