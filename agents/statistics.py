"""Statistics of several training runs: few seeds, several tasks, common scenarios.

Scores are certified gaps, (bound - return) / scale: smaller is better, zero is proven best. Aggregates and their
intervals follow Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021:
the interquartile mean, stratified bootstrap percentile intervals, the probability of improvement and performance
profiles. Percentile intervals are too narrow with few seeds: of nominal 95 % they cover about 90 % with five runs on
each of five tasks and about 74 % with three runs on one (normal scores, their mean; simulated in the tests). One run of
a task says nothing about other runs: then limits are infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array, number, require

__all__ = [
    "Estimate",
    "Profile",
    "VarianceSplit",
    "interquartile_mean",
    "performance_profile",
    "probability_of_improvement",
    "stratified_bootstrap",
    "variance_split",
]

Floats = NDArray[np.float64]
Scores = Mapping[str, ArrayLike]  # by task: (seeds,) one score per training run
Statistic = Callable[[Floats], Any]  # (..., runs) -> (...), or (..., runs) -> (..., k)

_MOST_NUMBERS = 10**7  # resampled at once


class Estimate(NamedTuple):
    """A statistic and its confidence limits, infinite where the data allow none; in the unit of the scores."""

    value: float
    low: float
    high: float


class Profile(NamedTuple):
    """Share of runs with a gap of at most each threshold.

    Attributes:
        thresholds: (k,) gaps.
        share: (k,) share of runs in [0, 1].
        low, high: (k,) pointwise limits; 0 and 1 where a task has one run only.
    """

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats


class VarianceSplit(NamedTuple):
    """How much of the spread comes from training seeds and how much from scenarios.

    Attributes:
        mean: grand mean; limits for new seeds and new scenarios.
        fixed_seeds: the same mean; limits for new scenarios and these very seeds.
        seed_variance: between seeds, of their means over infinitely many scenarios; NaN with one seed.
        scenario_variance: between scenarios, of their means over infinitely many seeds; NaN with one unit.
        residual_variance: what neither explains; NaN with one seed or one unit, where the other part contains it.
    """

    mean: Estimate
    fixed_seeds: Estimate
    seed_variance: float
    scenario_variance: float
    residual_variance: float


def interquartile_mean(scores: ArrayLike) -> Any:
    """Mean without the lowest and the highest quarter, rounded down, along the last axis.

    Args:
        scores: (..., runs).

    Returns:
        (...), a float for one row.
    """
    values = np.sort(np.asarray(scores, np.float64), axis=-1)
    require(values.ndim > 0 and values.shape[-1] > 0, "number of scores", values.shape, "at least 1")
    cut = values.shape[-1] // 4
    return values[..., cut : values.shape[-1] - cut].mean(axis=-1)


def _by_task(scores: Scores, field: str) -> list[Floats]:
    require(isinstance(scores, Mapping) and len(scores) > 0, field, scores, "scores (seeds,) of at least one task")
    found = [array(f"{field}[{task}]", values, (None,)) for task, values in scores.items()]
    for task, values in zip(scores, found, strict=True):
        require(len(values) > 0, f"number of {field}[{task}]", 0, "at least 1")
    return found


def _check(resamples: int, confidence: float, seed: int) -> None:
    number("resamples", resamples, 10, 10**6, integer=True)
    number("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    number("seed", seed, 0, 2**63 - 1, integer=True)


def _resampled(groups: Sequence[Floats], count: int, rng: np.random.Generator) -> list[Floats]:
    """Each group's runs drawn again with replacement: (count, runs) of every group."""
    return [values[rng.integers(0, len(values), (count, len(values)))] for values in groups]


def _limits(values: Floats, confidence: float) -> tuple[Floats, Floats]:
    low, high = np.quantile(values, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0], axis=0)
    return low, high


def _bootstrap(groups: Sequence[Floats], value_of: Callable[[list[Floats]], Any], resamples: int, seed: int) -> Floats:
    """(resamples, ...) values of resampled groups, a part at a time."""
    rng = np.random.default_rng(seed)
    part = max(1, _MOST_NUMBERS // sum(map(len, groups)))
    counts = [min(part, resamples - done) for done in range(0, resamples, part)]
    return np.concatenate([np.asarray(value_of(_resampled(groups, count, rng))) for count in counts])


def stratified_bootstrap(
    scores: Scores,
    statistic: Statistic = interquartile_mean,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic of all runs, with percentile limits from resampling the runs of every task apart.

    Args:
        scores: by task, (seeds,) each. Runs of all tasks are pooled: a task with more seeds weighs more.
        statistic: (..., runs) -> (...), vectorised along the last axis.
        resamples: number of bootstrap samples.
        confidence: of the interval; see the module for what is left of it with few seeds.
        seed: of the resampling.

    Raises:
        InvalidInputError: for no task, an empty one, or numbers that are not finite.
    """
    groups = _by_task(scores, "scores")
    _check(resamples, confidence, seed)
    value = float(statistic(np.concatenate(groups)))
    if min(map(len, groups)) < 2:
        return Estimate(value, -np.inf, np.inf)
    drawn = _bootstrap(groups, lambda parts: statistic(np.concatenate(parts, axis=1)), resamples, seed)
    low, high = _limits(drawn, confidence)
    return Estimate(value, float(low), float(high))


def probability_of_improvement(
    first: Scores, second: Scores, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Probability that a run of the first has a smaller gap than a run of the second on a random task; ties count half.

    The mean over tasks of the Mann-Whitney statistic U / (n m) (Agarwal et al., equation 1).

    Args:
        first: gaps by task, (n,) each.
        second: gaps of the same tasks, (m,) each.
        resamples: number of bootstrap samples.
        confidence: of the percentile interval.
        seed: of the resampling.

    Returns:
        In [0, 1]; limits 0 and 1 where a task has a single run.

    Raises:
        InvalidInputError: for different tasks, no task, an empty one, or numbers that are not finite.
    """
    ours, tasks = _by_task(first, "first"), list(first)
    require(isinstance(second, Mapping) and set(second) == set(tasks), "tasks of second", list(second), str(tasks))
    theirs = _by_task({task: second[task] for task in tasks}, "second")
    _check(resamples, confidence, seed)
    count = len(tasks)

    def chance(parts: list[Floats]) -> Floats:
        wins = [_wins(x, y) for x, y in zip(parts[:count], parts[count:], strict=True)]
        return np.asarray(np.mean(wins, axis=0))

    value = float(chance([each[None, :] for each in [*ours, *theirs]])[0])
    if min(map(len, [*ours, *theirs])) < 2:
        return Estimate(value, 0.0, 1.0)
    low, high = _limits(_bootstrap([*ours, *theirs], chance, resamples, seed), confidence)
    return Estimate(value, float(low), float(high))


def _wins(x: Floats, y: Floats) -> Floats:
    """Share of pairs with x < y, ties counted half: (resamples,) from (resamples, n) and (resamples, m)."""
    total = np.zeros(len(x))
    for column in y.T:  # one run at a time: memory stays that of one sample
        total += (x < column[:, None]).sum(axis=1) + 0.5 * (x == column[:, None]).sum(axis=1)
    return np.asarray(total / (x.shape[1] * y.shape[1]))


def performance_profile(
    scores: Scores,
    thresholds: ArrayLike,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Profile:
    """Share of all runs whose gap is at most each threshold, with pointwise bootstrap bands.

    Args:
        scores: by task, (seeds,) each; runs are pooled.
        thresholds: (k,) gaps, not decreasing.
        resamples: number of bootstrap samples.
        confidence: of every single point, not of the whole curve.
        seed: of the resampling.

    Raises:
        InvalidInputError: for decreasing thresholds, no task, an empty one, or numbers that are not finite.
    """
    groups = _by_task(scores, "scores")
    levels = array("thresholds", thresholds, (None,))
    ordered = len(levels) > 0 and bool((np.diff(levels) >= 0.0).all())
    require(ordered, "thresholds", levels.tolist(), "at least one number, not decreasing")
    _check(resamples, confidence, seed)
    runs = sum(map(len, groups))

    def shares(parts: list[Floats]) -> Floats:
        counted = [(np.concatenate(parts, axis=1) <= level).sum(axis=1) for level in levels]
        return np.asarray(np.stack(counted, axis=1) / runs)

    share = shares([each[None, :] for each in groups])[0]
    if min(map(len, groups)) < 2:
        return Profile(levels, share, np.zeros(len(levels)), np.ones(len(levels)))
    low, high = _limits(_bootstrap(groups, shares, resamples, seed), confidence)
    return Profile(levels, share, low, high)


def variance_split(scores: ArrayLike, units: ArrayLike | None = None, confidence: float = 0.95) -> VarianceSplit:
    """Split the spread of scores (seeds x common scenarios) with a crossed random-effects model.

    score[i, j] = mean + seed effect i + scenario effect j + residual; variances from the mean squares of the two-way
    layout without replication, negative estimates set to zero. The variance of the mean is the largest of its unbiased
    estimate and each part's own mean square (never too small by chance of one part), its degrees of freedom
    Satterthwaite's ("An approximate distribution of estimates of variance components", Biometrics 2, 1946).

    Args:
        scores: (seeds, scenarios).
        units: (scenarios,) label of the independent unit, e.g. the month of a day; scores are averaged in each. None if
            every scenario is one.
        confidence: of the intervals.

    Raises:
        InvalidInputError: for wrong shapes or numbers that are not finite.
    """
    values = array("scores", scores, (None, None))
    require(values.size > 0, "shape of scores", values.shape, "at least one seed and one scenario")
    number("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    table = values if units is None else _unit_means(values, np.asarray(units))
    seeds, scenarios = table.shape
    mean = float(table.mean())
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    left = table - rows[:, None] - columns + mean
    free = ((seeds - 1), (scenarios - 1), (seeds - 1) * (scenarios - 1))
    squares = (scenarios * ((rows - mean) ** 2).sum(), seeds * ((columns - mean) ** 2).sum(), (left**2).sum())
    by_seed, by_scenario, residual = (s / d if d else np.nan for s, d in zip(squares, free, strict=True))
    fixed = _student(mean, by_scenario / table.size, scenarios - 1, confidence)
    if free[2] == 0:  # one seed, or one unit: nothing to compare with
        own_seeds = float(rows.var(ddof=1)) if seeds > 1 else np.nan
        own_scenarios = float(columns.var(ddof=1)) if scenarios > 1 else np.nan
        return VarianceSplit(Estimate(mean, -np.inf, np.inf), fixed, own_seeds, own_scenarios, np.nan)
    spread = max(by_seed + by_scenario - residual, by_seed, by_scenario)
    parts = by_seed**2 / free[0] + by_scenario**2 / free[1] + residual**2 / free[2]
    degrees = max(spread**2 / parts, 1.0) if parts > 0.0 else 1.0
    return VarianceSplit(
        _student(mean, spread / table.size, degrees, confidence),
        fixed,
        float(max((by_seed - residual) / scenarios, 0.0)),
        float(max((by_scenario - residual) / seeds, 0.0)),
        float(residual),
    )


def _unit_means(values: Floats, units: NDArray[Any]) -> Floats:
    require(units.shape == values.shape[1:], "shape of units", units.shape, str(values.shape[1:]))
    _, place = np.unique(units, return_inverse=True)
    sums = np.stack([np.bincount(place, row) for row in values])
    return np.asarray(sums / np.bincount(place))


def _student(mean: float, variance: float, degrees: float, confidence: float) -> Estimate:
    from scipy.special import stdtrit

    if degrees < 1:
        return Estimate(mean, -np.inf, np.inf)
    half = float(stdtrit(degrees, 0.5 + confidence / 2.0)) * float(np.sqrt(variance))
    return Estimate(mean, mean - half, mean + half)
