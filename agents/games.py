"""Coalition games solved: what every rule pays, who would rather leave, and certificates of all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.executor import Task, require_done, run
from baselines.certificate import save, write_text
from baselines.games.coalitions import CooperativeGame
from baselines.games.core import LeastCore, balanced_weights, excesses, least_core, leaving, stable
from baselines.games.nucleolus import Nucleolus, nucleolus, prenucleolus
from baselines.games.prices import equal, marginal, stand_alone
from baselines.games.shapley import shapley
from baselines.games.verify import allocation_certificate, empty_core_certificate
from v2g_env.core.validate import InvalidInputError

__all__ = ["Allocation", "allocations", "game_lines", "spread_through", "task_of", "write_game"]

Floats = NDArray[np.float64]
Say = Callable[[str], None]


class Allocation(NamedTuple):
    """What a rule pays.

    Attributes:
        rule: its name.
        payments: (n,) [$].
        verdict: "stable", "unstable" or "unknown": whether it is in the core, given the limits.
        worst_usd: largest gain of a coalition that leaves, by the values [$].
        leaving: how many coalitions would.
        proof: what the solution came with, for the certificate.
    """

    rule: str
    payments: Floats
    verdict: str
    worst_usd: float
    leaving: int
    proof: Nucleolus | LeastCore | None = None


def allocations(game: CooperativeGame, more: Mapping[str, Floats] | None = None) -> list[Allocation]:
    """All rules of baselines.games on a game, and allocations of one's own.

    Args:
        game: the table.
        more: further allocations (n,) by name.
    """
    found: list[tuple[str, Floats, Nucleolus | LeastCore | None]] = [("equal shares", equal(game), None)]
    with suppress(InvalidInputError):  # some worth is negative, or all are zero
        found.append(("by stand-alone worth", stand_alone(game), None))
    found += [("marginal", marginal(game), None), ("Shapley", shapley(game), None)]
    found += [(name, payments, None) for name, payments in (more or {}).items()]
    try:
        core: Nucleolus = nucleolus(game)
        found.append(("nucleolus", core.payments, core))
    except InvalidInputError:  # no imputations
        core = prenucleolus(game)
        found.append(("prenucleolus", core.payments, core))
    low = least_core(game)
    found.append(("least core", low.payments, low))
    made = []
    for rule, payments, proof in found:
        word, gain = stable(game, payments).word, float(excesses(game, payments).max())
        made.append(Allocation(rule, payments, word, gain, len(leaving(game, payments)), proof))
    return made


def write_game(game: CooperativeGame, found: Sequence[Allocation], certificate: Mapping[str, Any], out: Path) -> None:
    """Write certificates of the game and of every allocation, and both tables as CSV."""
    save(certificate, out / "certificates" / "game.json")
    for each in found:
        made = allocation_certificate(game, each.payments, each.rule, each.proof)
        save(made, out / "certificates" / f"allocation-{re.sub(r'[^a-z0-9]+', '-', each.rule.lower())}.json")
    weights = balanced_weights(game)
    if weights is not None:
        save(empty_core_certificate(game, weights), out / "certificates" / "empty-core.json")
    write_text(out / "coalitions.csv", game.to_frame().to_csv(index=False))
    write_text(out / "allocations.csv", allocation_frame(game, found).to_csv(index=False))


def allocation_frame(game: CooperativeGame, found: Sequence[Allocation]) -> pd.DataFrame:
    """Tidy, one row per rule and player: rule, player, usd, verdict, worst_usd, leaving."""
    rows = [
        {
            "rule": a.rule,
            "player": who,
            "usd": float(paid),
            "verdict": a.verdict,
            "worst_usd": a.worst_usd,
            "leaving": a.leaving,
        }
        for a in found
        for who, paid in zip(game.players, a.payments, strict=True)
    ]
    return pd.DataFrame(rows)


def game_lines(game: CooperativeGame, found: Sequence[Allocation]) -> list[str]:
    """What people read: the game in a sentence, then a line per rule, at most 100 columns wide."""
    alone = float(game.values[1 << np.arange(game.n)].sum())
    word = "earn" if game.kind == "profit" else "pay"
    low = least_core(game).excess_usd
    core = (
        "the core is not empty"
        if low <= 1e-9 * (1.0 + np.abs(game.values).max())
        else (f"the core is empty: some coalition gains at least {low:.4g} $ by leaving, whatever is paid")
    )
    lines = [
        f"{game.n} players, {1 << game.n} coalitions known within {float((game.upper - game.lower).max()):.1e} $",
        f"all together {word} {game.total:.2f} $, each alone {alone:.2f} $; {core}",
        "",
    ]
    shown = min(game.n, 6)
    names = [name if len(name) <= 13 else name.replace("aggregator", "aggr.") for name in game.players[:shown]]
    head = f"  {'rule':22s}" + "".join(f"{name:>13s}" for name in names) + ("   ..." if game.n > shown else "")
    lines += [head + "   in the core", "  " + "-" * (len(head) + 12)]
    for each in found:
        paid = "".join(f"{value:13.2f}" for value in each.payments[:shown]) + ("   ..." if game.n > shown else "")
        verdict = (
            "yes"
            if each.verdict == "stable"
            else "unknown"
            if each.verdict == "unknown"
            else (f"no: {each.leaving} leave, by up to {each.worst_usd:.3g} $")
        )
        lines.append(f"  {each.rule:22s}{paid}   {verdict}")
    return lines


def task_of(folder: Path, function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Task of the executor: call a function of this project with plain data; the folder is not needed.

    Args:
        folder: of the task.
        function: "package.module:name" in baselines.
        arguments: of the call.
    """
    import importlib

    module, _, name = function.partition(":")
    return dict(getattr(importlib.import_module(module), name)(**arguments))


def spread_through(
    function: str,
    arguments: Mapping[str, Any],
    name: str,
    folder: Path,
    backend: str = "processes",
    workers: int | None = None,
    say: Say = lambda text: None,
    progress: bool = False,
) -> Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]:
    """A ``map`` for games that evaluates coalitions through the executor, where an interrupted run goes on.

    Args:
        function: "package.module:name" of the task in baselines, which takes ``arguments`` and one more.
        arguments: plain data, the same for all tasks.
        name: of the argument that differs: a coalition, or some.
        folder: of the results.
        backend: of the executor.
        workers: tasks at a time.
        say: receives a line for everything that went wrong.
        progress: show a bar.
    """

    def spread(_: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        tasks = [
            Task("agents.games:task_of", {"function": function, "arguments": {**arguments, name: item}}, f"{name} {k}")
            for k, item in enumerate(items)
        ]
        outcomes = run(tasks, folder, backend, workers, resume=True, say=say, progress=progress)
        require_done(outcomes)
        return [dict(each.value) for each in outcomes]

    return spread
