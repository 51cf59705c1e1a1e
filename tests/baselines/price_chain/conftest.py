"""Small price chains that every test of the values can afford."""

import numpy as np
import pytest

from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model


def small(steps=4, levels=3, seed=0, **changes):
    """A chain of random counts, some of them zero."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (steps, levels, levels)).astype(float)
    counts[:, np.arange(levels), np.arange(levels)] += 1.0
    fields = {
        "steps": steps,
        "price_levels": levels,
        "price_usd_per_kwh": tuple(np.sort(rng.uniform(0.0, 0.4, (steps, levels)), axis=1).ravel().tolist()),
        "price_counts": tuple(counts.ravel().tolist()),
        "energy_levels": 4,
        "level_kwh": 10.0,
        "start_level": 1,
        "target_level": 2,
        "moves": (-1, 0, 1),
        "presence_evs": (1, 3),
        "presence_rows": (0.6, 0.4, 0.3, 0.7),
        "presence_start": 1,
        "start_usd": 0.1,
        "stop_usd": 0.05,
    }
    return Instance(**(fields | changes))


@pytest.fixture(scope="session")
def lot():
    return small()


@pytest.fixture(scope="session")
def model(lot):
    return Model(lot)
