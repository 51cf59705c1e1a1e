import numpy as np
import pytest

from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import Model


@pytest.mark.parametrize("fields", [{}, {"start_level": 0}])
def test_the_observation_tells_the_masks_at_every_step_and_after_the_last(fields):
    model = Model(Instance.from_dict(fields))
    rng = np.random.default_rng(3)
    scenario = model.draw([np.random.default_rng(i) for i in range(50)])
    state = model.initial(scenario)
    closed = 0
    for _ in range(model.steps + 1):
        masks = model.masks(scenario, state)
        np.testing.assert_array_equal(model.masks_of(model.observe(scenario, state)), masks)
        closed += int((~masks).sum())
        if state.t[0] < model.steps:
            state, _, _ = model.step(scenario, state, rng.integers(0, masks.shape[1], (50, 1)).astype(float))
    assert closed > 100
    assert masks.sum() == 50  # idle only, once the day is over
