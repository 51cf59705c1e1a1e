"""A price chain for a policy to fear: the adversary's rows averaged over the states where the policy meets them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.sweeps import check_plan
from v2g_env.price_chain.model import Model
from v2g_env.price_chain.scenario import Law

__all__ = ["averaged_chain"]

Floats = NDArray[np.float64]


def averaged_chain(model: Model, plan: NDArray[Any], rows: Floats, name: str) -> Law:
    """Chain whose rows depend on step and price level alone, from a kernel that depends on more.

    Every row is the mean of the kernel's rows over what the policy does there, so it is a member of every convex set
    that they are members of; where the policy never is, the model's own row stays. Its law of price levels is that of
    the kernel, but it no longer knows the stored energy: a policy's value under it is at least its worst case.

    Args:
        model: of the environment.
        plan: (T, L, Q, E, 2) choices.
        rows: (T - 1, L, Q, E, 2, L) kernel, e.g. of ``sweeps.worst_case``.
        name: of the law.
    """
    lot, tables = model.instance, model.tables
    plan = check_plan(model, plan)
    chain = model.law.rows.copy()
    here = np.zeros(lot.shape)
    here[:, lot.presence_start, lot.start_level, 0] = lot.price_start
    levels, presences, energies, _ = np.broadcast_arrays(*np.ix_(*map(np.arange, lot.shape)))
    for t in range(model.steps - 1):
        move = tables.moves[np.clip(plan[t], tables.lowest[:, :, None], tables.highest[:, :, None])]
        after = np.zeros(lot.shape)
        np.add.at(after, (levels, presences, energies + move, (move != 0).astype(np.int64)), here)
        weight = after.sum(axis=(1, 2, 3))
        mean = np.einsum("kqem,kqeml->kl", after, rows[t])
        met = weight > 0.0
        chain[t, met] = mean[met] / mean[met].sum(axis=1, keepdims=True)
        here = np.einsum("kqem,kqeml,qr->lrem", after, rows[t], lot.presence_matrix)
    return Law(name, chain)
