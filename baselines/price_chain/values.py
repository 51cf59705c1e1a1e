"""Optimal policies of the price chain, nominal or robust, with their certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.ambiguity import Ambiguity
from baselines.price_chain.sweeps import at_start, model_of, nominal_set, sweep
from baselines.price_chain.verify import values_certificate
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model

__all__ = ["Solution", "solve"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimal policy.

    Attributes:
        plan: (T, L, Q, E, 2) int32 choices.
        value: its expected return, in the worst case of the ambiguity [$].
        certificate: JSON data, see verify.py.
        values: (T, L, Q, E, 2) from every state [$].
        rows: (T - 1, L, Q, E, 2, L) the worst kernel.
    """

    plan: NDArray[np.int32]
    value: float
    certificate: dict[str, Any]
    values: Floats
    rows: Floats


def solve(world: Instance | Model, ambiguity: Ambiguity | None = None) -> Solution:
    """Solve the price chain exactly.

    Args:
        world: the model, or its instance.
        ambiguity: T x L uncertain rows (row t x L + l), e.g. ``Entropy.from_counts(instance.chain.counts.reshape(-1,
            L))``; None: the law's rows are the truth.

    Raises:
        InvalidInputError: for an ambiguity of another shape.
    """
    model = model_of(world)
    found = sweep(model, nominal_set(model.law.rows) if ambiguity is None else ambiguity)
    value = at_start(model, found.values[0])
    certificate = values_certificate(model, ambiguity, found.plan, found.dual, value)
    return Solution(found.plan, value, certificate, found.values, found.rows)
