"""Every draw of a day as one object: the path of the price level and of the vehicles plugged in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.price_chain.instance import Instance

__all__ = ["Days", "Law", "draw_days", "fitting", "law", "sample_days"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EPISODES = 1_000_000  # spawn key of sampled days: no stream of an environment seeded with an integer


@dataclass(frozen=True, eq=False)
class Law:
    """Where prices come from.

    Attributes:
        name: "generator" for the chain of the instance, another name for another chain.
        rows: (T, L, L) probabilities of the next step's price level.
        replay: False: no days are repeated.
    """

    name: str
    rows: Floats
    replay: bool = False


def law(instance: Instance, name: str = "generator") -> Law:
    """The law called ``name`` for an instance; raises InvalidInputError for an unknown one."""
    require(name == "generator", "law", name, "generator, or a Law")
    return Law("generator", instance.price_rows)


def fitting(instance: Instance, source: Law | str) -> Law:
    """The law, checked against the instance's steps and price levels; rows have to be probabilities."""
    if isinstance(source, str):
        return law(instance, source)
    require(isinstance(source, Law), "law", source, "generator, or a Law")
    steps, levels = instance.steps, instance.price_levels
    rows = array("rows of the law", source.rows, (steps, levels, levels))
    for t, i in np.argwhere((rows < 0.0).any(axis=2) | (np.abs(rows.sum(axis=2) - 1.0) > 1e-9)).tolist():
        require(False, f"rows of the law[step {t}, level {i}]", rows[t, i].tolist(), "probabilities that sum to one")
    return Law(source.name, rows / rows.sum(axis=2, keepdims=True))


class Days(NamedTuple):
    """Days, one per row: n rows, T steps and the state after the last one.

    Attributes:
        level: (n, T + 1) price levels.
        presence: (n, T + 1) places of the number of vehicles in ``presence_evs``.
    """

    level: Ints
    presence: Ints


def draw_days(instance: Instance, source: Law, generators: Sequence[np.random.Generator]) -> Days:
    """Draw one day from each generator; row i depends on generator i alone."""
    steps = instance.steps
    noise = np.stack([generator.random(2 * steps + 1) for generator in generators])
    level = np.empty((len(noise), steps + 1), np.int64)
    presence = np.empty_like(level)
    level[:, 0] = _pick(instance.price_start[None], noise[:, 0])
    presence[:, 0] = instance.presence_start
    for t in range(steps):
        level[:, t + 1] = _pick(source.rows[t, level[:, t]], noise[:, 1 + t])
        presence[:, t + 1] = _pick(instance.presence_matrix[presence[:, t]], noise[:, 1 + steps + t])
    return Days(level, presence)


def _pick(rows: Floats, uniform: Floats) -> Ints:
    """Place (n,) that each uniform in [0, 1) falls into; never one without probability."""
    reached = np.cumsum(rows, axis=1)
    reached /= reached[:, -1:]  # exactly one at the end, so that no uniform lies behind it
    return np.asarray((uniform[:, None] >= reached).sum(axis=1))


def sample_days(instance: Instance, source: Law | str, n_samples: int, seed: int) -> Days:
    """Draw ``n_samples`` independent days; day i is the same however many are drawn."""
    number("n_samples", n_samples, 1, 10_000_000, integer=True)
    number("seed", seed, 0, 2**63, integer=True)
    children = (np.random.SeedSequence(seed, spawn_key=(_EPISODES, i)) for i in range(n_samples))
    return draw_days(instance, fitting(instance, source), [np.random.default_rng(child) for child in children])
