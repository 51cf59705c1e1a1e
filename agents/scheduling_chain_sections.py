"""Sections of the scheduling study on the electricity market: robust and nominal policies when the chain is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.price_chain import ambiguity_sets
from agents.report import Section
from agents.scheduling_answers import World
from baselines.price_chain.chains import averaged_chain
from baselines.price_chain.sweeps import evaluate, worst_case
from baselines.price_chain.values import solve
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Days, Law, law, sample_days

__all__ = ["short_histories", "worst_chains"]

Floats = NDArray[np.float64]

_CONFIDENCE = 0.95
_SMOOTHING = 0.1  # of a move, added to every count so that no row is empty
_HISTORIES = (7, 14, 30, 90, 365)  # days
_SIZES = {"robust, 95 %": 0.95, "robust, 5 %": 0.05}  # confidence of the entropy set of every row
_MIXES = (0.0, 0.25, 0.5, 1.0)


def worst_chains(_: World) -> Section:
    """Values under the estimated chain, in the worst case, and on chains between."""
    lot = Instance()
    model = Model(lot)
    sets = ambiguity_sets(lot, _CONFIDENCE)
    best = solve(model)
    harsh = averaged_chain(model, best.plan, np.asarray(worst_case(model, best.plan, sets["entropy"]).rows), "harsher")
    laws = [Law(f"mix {mix:g}", (1.0 - mix) * model.law.rows + mix * harsh.rows) for mix in _MIXES]
    models = [Model(lot, each) for each in laws]
    rows: list[dict[str, Any]] = []
    for name in ("optimal for the estimate", *sets):
        solution = best if name not in sets else solve(model, sets[name])
        bad = worst_case(model, solution.plan, sets["entropy"] if name not in sets else sets[name]).value
        rows.append(
            {
                "policy": name if name not in sets else f"robust ({name})",
                "promised [$]": "–" if name not in sets else f"{solution.value:.2f}",
                "its worst case [$]": f"{bad:.2f}",
                **{
                    f"{100 * mix:g} % harsher [$]": f"{evaluate(each, solution.plan).value:.2f}"
                    for mix, each in zip(_MIXES, models, strict=True)
                },
            }
        )
    rows.append(
        {"policy": "best on that very chain", "promised [$]": "–", "its worst case [$]": "–"}
        | {f"{100 * mix:g} % harsher [$]": f"{solve(each).value:.2f}" for mix, each in zip(_MIXES, models, strict=True)}
    )
    text = (
        f"An aggregator trades against a price that is a Markov chain estimated from {lot.history_days} days. Exact "
        f"values a day. Sets of transition probabilities are sized for {100 * _CONFIDENCE:g} % confidence row by row "
        "(scenarios: 20 redrawn histories). Promised: the robust value, which the policy keeps under every kernel of "
        "its set; its worst case: the same for the policy as it is (for the optimal one in the entropy set), which "
        "may be higher as kernels there may depend on the stored energy. Harsher: mixtures with one chain of the "
        "entropy set that hurts the optimal policy."
    )
    return Section("Robust and nominal policies under perturbed chains", text, rows)


def short_histories(world: World) -> Section:
    """Policies made from few days of prices, on the chain that made them."""
    lot = Instance()
    truth = Model(lot)
    best = solve(truth).value
    repetitions = max(world.config.episodes // 200, 2)
    rows: list[dict[str, Any]] = []
    for days in _HISTORIES:
        found: dict[str, list[float]] = {name: [] for name in ("nominal", *_SIZES)}
        for repetition in range(repetitions):
            estimate = _estimated(lot, days, world.config.seed + repetition)
            model = Model(estimate)
            found["nominal"].append(evaluate(truth, solve(model).plan).value)
            for name, confidence in _SIZES.items():
                plan = solve(model, ambiguity_sets(estimate, confidence)["entropy"]).plan
                found[name].append(evaluate(truth, plan).value)
        row: dict[str, Any] = {"days of history": days}
        for name, values in found.items():
            row[f"{name}, mean [$]"] = float(np.mean(values))
            row[f"{name}, worst [$]"] = float(np.min(values))
        rows.append(row)
    better = sum(row["robust, 5 %, mean [$]"] > row["nominal, mean [$]"] for row in rows)
    for row in rows:
        row |= {name: f"{value:.1f}" for name, value in row.items() if isinstance(value, float)}
    text = (
        f"The chain is taken as the truth (its optimum: ${best:.2f} a day); {repetitions} histories of each length are "
        "drawn from it, policies are made from their counts (a tenth of a move added everywhere) and their exact "
        "value on the truth is told: mean and worst over histories. Sets are entropy sets for two confidences. In "
        f"{better} of these {len(rows)} lengths the policy of the smaller sets is better on average than the nominal "
        "one."
    )
    if not better:
        text += " Estimates that are bad, but not adverse, are no reason for robustness here; adverse chains are."
    return Section("Policies from short histories", text, rows)


def _estimated(lot: Instance, days: int, seed: int) -> Instance:
    """The instance as it looks after some days of prices drawn from its own chain."""
    drawn: Days = sample_days(lot, law(lot), days, seed)
    counts = np.full((lot.steps, lot.price_levels, lot.price_levels), _SMOOTHING)
    # a row that was never seen counts its smoothing up to one move
    for t in range(lot.steps):
        np.add.at(counts[t], (drawn.level[:, t], drawn.level[:, t + 1]), 1.0)
    empty = counts.sum(axis=2, keepdims=True) < 1.0
    counts = np.where(empty, 1.0 / lot.price_levels + 1e-9, counts)
    prices = lot.chain.price_usd_per_kwh
    return lot.replace(price_usd_per_kwh=tuple(prices.ravel().tolist()), price_counts=tuple(counts.ravel().tolist()))
