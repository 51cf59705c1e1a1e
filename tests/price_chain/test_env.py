"""The environments of the price chain: checkers, masks, batches, pictures, speed of a batch."""

import time
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.env import PriceChainEnv, PriceChainVectorEnv
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.model import TERMS
from v2g_env.price_chain.scenario import Law


def test_gymnasium_checker_has_no_complaint(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pytest.importorskip("pygame")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(PriceChainEnv(render_mode="rgb_array"), skip_render_check=True)


def test_item_i_is_the_single_environment_seeded_with_seed_plus_i():
    envs = PriceChainVectorEnv(3, autoreset_mode=AutoresetMode.SAME_STEP)
    ones = [PriceChainEnv() for _ in range(3)]
    seen = envs.reset(seed=8)[0]
    np.testing.assert_array_equal(seen, [one.reset(seed=8 + i)[0] for i, one in enumerate(ones)])
    for actions in np.random.default_rng(0).integers(0, 7, (24, 3)):
        seen, reward, done, _, info = envs.step(actions)
        for i, one in enumerate(ones):
            observation, money, end, _, facts = one.step(int(actions[i]))
            assert money == pytest.approx(reward[i])
            assert end == done[i]
            assert facts["violation"] == info["violation"][i]
            assert tuple(facts["reward_terms"]) == TERMS
            np.testing.assert_array_equal(info["final_obs"][i] if end else seen[i], observation)


def test_masks_are_the_choices_that_do_what_they_say():
    env, envs = PriceChainEnv(), PriceChainVectorEnv(4)
    with pytest.raises(InvalidInputError, match="reset"):
        env.action_masks()
    with pytest.raises(InvalidInputError, match="reset"):
        envs.action_masks()
    env.reset(seed=2)
    envs.reset(seed=2)
    np.testing.assert_array_equal(envs.action_masks()[0], env.action_masks())
    for _ in range(24):
        mask = env.action_masks()
        move = env.day_model.tables.moves
        stored = int(env.get_state()["state"].stored[0])
        action = int(np.flatnonzero(mask)[-1])
        env.step(action)
        assert int(env.get_state()["state"].stored[0]) == stored + move[action]
    with pytest.raises(InvalidInputError, match="reset"):
        env.action_masks()


def test_violation_is_energy_missing_at_departure_and_nothing_before():
    env = PriceChainEnv()
    env.reset(seed=1)
    told = [env.step(3)[4] for _ in range(24)]
    assert [info["violation"] for info in told] == [False] * 23 + [True]
    assert told[-1]["shortfall_kwh"] == 8 * 150.0
    exact = PriceChainEnv({"target_level": 6})
    exact.reset(seed=1)
    assert not any(exact.step(3)[4]["violation"] for _ in range(24))


def test_law_and_instance_reach_the_model_and_bad_ones_are_refused():
    rows = np.zeros((24, 8, 8))
    rows[:, :, 0] = 1.0
    env = PriceChainEnv(Instance(start_usd=0.0), Law("cheap", rows))
    env.reset(seed=0)
    env.step(3)
    assert env.step(3)[4]["price_usd_per_kwh"] == env.day_model.tables.price[1, 0]
    with pytest.raises(InvalidInputError, match="law"):
        PriceChainEnv(law="other")
    with pytest.raises(InvalidInputError, match="instance"):
        PriceChainEnv(3)
    with pytest.raises(InvalidInputError, match="action"):
        env.step(7)


@pytest.mark.parametrize("fields", [{}, {"presence_evs": (0,), "presence_rows": (1.0,), "presence_start": 0}])
def test_frames_show_the_state_and_nothing_of_the_future(fields):
    pytest.importorskip("pygame")
    from v2g_env.price_chain.render import HEIGHT, WIDTH, frame

    env = PriceChainEnv(fields, render_mode="rgb_array")
    env.reset(seed=4)
    pictures = [env.render()]
    while True:
        end = env.step(6)[2]
        pictures.append(env.render())
        saved = env.get_state()
        later = type(saved["scenario"])(*(part.copy() for part in saved["scenario"]))
        for part in later:
            part[:, saved["elapsed"] + 1 :] = 0
        hidden = frame(env.day_model, later, saved["state"], saved["money"])
        np.testing.assert_array_equal(hidden, pictures[-1])
        if end:
            break
    assert all(picture.shape == (HEIGHT, WIDTH, 3) for picture in pictures)
    assert all((a != b).any() for a, b in zip(pictures[:-1], pictures[1:], strict=True))


def test_a_batch_makes_more_than_thirty_thousand_steps_a_second():
    envs = PriceChainVectorEnv(256, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 7, 256)
    envs.step(actions)
    begin = time.perf_counter()
    for _ in range(120):
        envs.step(actions)
    assert 120 * 256 / (time.perf_counter() - begin) > 30_000
