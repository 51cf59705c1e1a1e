import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.model import WeekModel


@pytest.mark.parametrize("fields", [{}, {"drivers": 5, "week_days": 2, "shared_fraction": 0.3}])
def test_the_observation_tells_the_masks_at_every_step_and_after_the_last(fields):
    model = WeekModel(Instance.from_dict(fields))
    rng = np.random.default_rng(3)
    scenario = model.draw([np.random.default_rng(i) for i in range(40)])
    state = model.initial(scenario)
    closed = 0
    for _ in range(model.steps + 1):
        masks = model.masks(scenario, state)
        np.testing.assert_array_equal(model.masks_of(model.observe(scenario, state)), masks)
        closed += int((~masks).sum())
        if state.t[0] < model.steps:
            state, _, _ = model.step(scenario, state, rng.integers(0, 2, (40, 1)).astype(float))
    assert closed > 40  # more than those after the last step


def test_shares_have_no_masks():
    with pytest.raises(InvalidInputError, match="action_masks"):
        WeekModel(Instance(), partial=True).masks_of(np.zeros((1, 16), np.float32))
