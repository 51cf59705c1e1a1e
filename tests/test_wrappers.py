import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import v2g_env  # noqa: F401
from v2g_env.core.validate import InvalidInputError
from v2g_env.wrappers import RawExchange


def wrapped(**options):
    return RawExchange(gymnasium.make("V2G/ParkingLot-v0", **options))


@pytest.mark.filterwarnings("ignore:.*The environment .* is different from the unwrapped version.*")
def test_the_wrapped_environment_passes_the_checker():
    check_env(wrapped(), skip_render_check=True)


def test_the_exchanges_asked_for_are_the_stored_energy_fixed_at_the_gate():
    env = wrapped(instance={"efficiency": 0.9})
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    followed = 0
    for _ in range(13):
        step, ahead, capacity, surplus, deficit = env.unwrapped.closing()
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        power = action[0] * (surplus if action[0] > 0 else deficit) + 100.0 * action[1]
        wanted = max(ahead + (power * 0.9 if power > 0 else power / 0.9), 0.0)
        env.step(action)
        fixed = env.unwrapped._state.closed_kwh[0]
        if step < 11 and wanted < capacity * env.unwrapped.lot_model.constants.ratio[step]:
            assert fixed == pytest.approx(wanted, abs=1e-3)
            followed += 1
    assert followed >= 5


def test_only_the_lot_with_one_action_can_be_wrapped():
    with pytest.raises(InvalidInputError, match="env = "):
        RawExchange(gymnasium.make("V2G/ParkingLotBays-v0"))
    with pytest.raises(InvalidInputError, match="env = "):
        RawExchange(gymnasium.make("CartPole-v1"))


def test_bad_exchanges_are_refused():
    env = wrapped()
    env.reset(seed=0)
    for bad in ([np.nan, 0.0], [2.0, 0.0], [0.0]):
        with pytest.raises(InvalidInputError, match="action"):
            env.step(np.array(bad, np.float32))
