"""What ``v2g solve stackelberg`` reads and prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from baselines.stackelberg.programs import Solution
from baselines.stackelberg.published import evaluate
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.stackelberg.follower import arcs_of
from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance, plugged_shares

__all__ = ["day_game", "day_lines", "read_prices"]


def read_prices(path: str | Path) -> list[float]:
    """Numbers of a text file, separated by spaces, commas or lines.

    Raises:
        InvalidInputError: for anything but numbers.
    """
    try:
        words = Path(path).read_text(encoding="utf-8").replace(",", " ").replace("[", " ").replace("]", " ").split()
    except UnicodeDecodeError:
        raise InvalidInputError(f"price file = {path} (not UTF-8 text); allowed: numbers") from None
    numbers = []
    for word in words:
        try:
            numbers.append(float(word))
        except ValueError:
            raise InvalidInputError(f"price in {path} = {word!r:.40}; allowed: numbers") from None
    require(len(numbers) > 0, f"prices in {path}", "none", "24 numbers, or one per period")
    return numbers


def day_game(instance: Instance, price_file: str | None, weekend: bool, plugged: float | None) -> Game:
    """The game of a day with prices from a file (None: base prices)."""
    return instance.game(None if price_file is None else read_prices(price_file), weekend, plugged)


def day_lines(game: Game, solution: Solution) -> Iterator[str]:
    """The answer in words and a table: rebates, plugged cars and bids of every period with and without rebates."""
    value, flow, bid = evaluate(game, np.stack([solution.plan, np.zeros_like(solution.plan)]))
    arcs = arcs_of(game.classes)
    share = np.stack([plugged_shares(arcs.period, row * arcs.share[arcs.group], game.periods) for row in flow])
    yield (
        f"solved in {solution.seconds:.2f} s, {solution.nodes} nodes: {solution.value:.2f}, proven bound "
        f"{solution.bound:.2f}, gap {solution.gap:.1e} ({'$ a day' if game.owner == 'platform' else '$ per driver'})"
    )
    yield f"without rebates: {value[1]:.2f}"
    yield "    hour  price $/kW  rebate $/h  plugged  without  bid kW  without"
    for t, (price, rebate) in enumerate(zip(game.price_usd_per_kw, solution.plan, strict=True)):
        yield (
            f"  {game.step_h * t:6.2f}  {price:10.4f}  {rebate:10.2f}  {share[0, t]:6.1%}  {share[1, t]:6.1%}"
            f"  {bid[0, t]:6.0f}  {bid[1, t]:7.0f}"
        )
