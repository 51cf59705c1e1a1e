import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import v2g_env  # noqa: F401
from v2g_env.core.validate import InvalidInputError
from v2g_env.wrappers import RawExchange, RebateLevels


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


# Rebate levels


def levels(**instance):
    return RebateLevels(gymnasium.make("V2G/Stackelberg-v0", instance=instance))


@pytest.mark.filterwarnings("ignore:.*The environment .* is different from the unwrapped version.*")
def test_the_environment_of_rebate_levels_passes_the_checker():
    check_env(levels(days=3), skip_render_check=True)


def test_levels_are_the_rebates_and_bids_are_the_certified_ones():
    caps = (1.0,) * 23 + (0.2,)
    env, plain = levels(bid_limit=1.5, rebate_cap_usd_per_h=caps), gymnasium.make("V2G/Stackelberg-v0")
    assert env.action_space == gymnasium.spaces.MultiDiscrete([21] * 23 + [5])
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    plain.reset(seed=3)
    for _ in range(5):
        chosen = rng.integers(0, env.action_space.nvec)
        _, reward, _, _, info = env.step(chosen)
        np.testing.assert_array_equal(env.unwrapped.get_state()["state"].rebate[0], chosen / 20)
        _, other, _, _, _ = plain.step(np.append(chosen / 20, 1.0).astype(np.float32))
        assert reward == other
        assert info["rebate_usd"] > 0.0


def test_levels_need_the_game_and_bids_that_may_reach_the_certified_ones():
    for name in ("V2G/ParkingLot-v0", "CartPole-v1"):
        with pytest.raises(InvalidInputError, match="env = "):
            RebateLevels(gymnasium.make(name))
    with pytest.raises(InvalidInputError, match="bid_limit"):
        levels(bid_limit=0.9)


@pytest.mark.parametrize("bad", [[21] + [0] * 23, [-1] + [0] * 23, [0] * 23, [0.0] * 24, [True] * 24, None, 3])
def test_bad_levels_are_refused(bad):
    env = levels()
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="action"):
        env.step(np.array(bad))
