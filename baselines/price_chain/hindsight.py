"""What a day of the price chain would have been worth to somebody who knew it in advance: exact, path by path."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.sweeps import terminal_usd
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Days

__all__ = ["hindsight"]


def hindsight(model: Model, days: Days) -> NDArray[np.float64]:
    """Highest return (n,) of each day when its prices and vehicles are known from the start [$]."""
    tables, energies = model.tables, model.instance.energy_levels
    moves = tables.moves
    place = np.arange(len(moves))
    level = np.clip(np.arange(energies)[:, None] + moves, 0, energies - 1)
    after = np.broadcast_to(terminal_usd(model)[:, None], (len(days.level), energies, 2))
    for t in range(model.steps - 1, -1, -1):
        low, high = tables.lowest[days.presence[:, t]], tables.highest[days.presence[:, t]]
        fits = (place >= low[:, :, None]) & (place <= high[:, :, None])
        total = after[:, level, (moves != 0).astype(np.int64)] + tables.wear
        total = np.where(fits, total + tables.energy[t, days.level[:, t]][:, None, :], -np.inf)
        after = (total[:, :, None, :] + tables.starts).max(axis=3)
    return np.asarray(after[:, model.instance.start_level, 0])
