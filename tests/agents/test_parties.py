"""Parties that learn: rows that stable-baselines3 sees, shared and own networks, best responses, files."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from agents.bundle_files import BundleError
from agents.parties import Constant, PartyPolicy, act, load_policy, play, policies_for, returns, save_policy
from agents.party_training import PartyVecEnv, learned_exploitability, train_independent, train_shared
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance as Network
from v2g_env.scheduling.party import SchedulingParties
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.party import SharedBatteryParties

MODEL = SharedBatteryParties(Instance(drivers=4, rule="proportional"))


def random_policy(model, role, seed=0):
    rng = np.random.default_rng(seed)
    wide = next(each for each in model.roles if each.name == role)
    d, k = len(wide.observation_high), wide.action_size
    shapes = {"layers.0": (8, d), "layers.1": (8, 8), "head": (k, 8)}
    tensors = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": rng.normal(size=shape[0]).astype(np.float32) for name, shape in shapes.items()}
    return PartyPolicy(tensors, wide.observation_high, role)


def test_rows_are_the_players_of_every_episode_and_others_act_by_their_policies():
    model = SchedulingParties(Network(cars=20))
    others = {"utility": Constant([0.2, -1.0, 0.5]), "aggregator_1": Constant([0.3])}
    envs = PartyVecEnv(model, ["aggregator_0", "aggregator_2"], others, 3, 5)
    seen = envs.reset()
    assert seen.shape == (6, len(model.roles[1].observation_high)) and (seen >= 0).all() and (seen <= 1).all()
    children = np.random.SeedSequence(5).spawn(3)
    scenario = model.draw([np.random.default_rng(child) for child in children])
    state = model.initial(scenario)
    rng = np.random.default_rng(0)
    for _ in range(4):
        given = rng.uniform(-1, 1, (6, 1)).astype(np.float32)
        joint = {"utility": np.tile([0.2, -1.0, 0.5], (3, 1, 1)), "aggregator": np.zeros((3, 6, 1))}
        joint["aggregator"][:, 1] = 0.3
        joint["aggregator"][:, [0, 2]] = given.reshape(3, 2, 1)
        state, money, _ = model.step(scenario, state, joint)
        seen, reward, done, _ = envs.step(given)
        np.testing.assert_allclose(reward, money["aggregator"][:, [0, 2]].sum(axis=2).ravel(), rtol=1e-5, atol=1e-6)
        assert not done.any()


def test_episodes_end_together_and_show_their_last_observation():
    envs = PartyVecEnv(MODEL, ["driver_0"], None, 2, 1)
    envs.reset()
    for t in range(MODEL.steps):
        seen, _, done, infos = envs.step(np.zeros((2, 1), np.float32))
        assert done.all() == (t == MODEL.steps - 1)
    assert infos[0]["terminal_observation"].shape == seen[0].shape
    assert infos[0]["TimeLimit.truncated"] is False


def test_a_shared_policy_is_asked_like_single_ones():
    policy = random_policy(MODEL, "driver")
    scenario = MODEL.draw([np.random.default_rng(i) for i in range(3)])
    seen = MODEL.observe(scenario, MODEL.initial(scenario))
    together = act(MODEL, policies_for(MODEL, {"driver": policy}), seen)["driver"]
    for i in range(4):
        np.testing.assert_allclose(together[:, i], policy.predict(seen["driver"][:, i])[0], atol=1e-6)


def test_play_is_tidy_and_the_same_for_the_same_seed():
    frame = play(MODEL, None, 5, 3)
    assert list(frame.columns) == ["episode", "agent", "role", "term", "usd"]
    assert len(frame) == 5 * 4 * 2
    money = returns(MODEL, None, 5, 3)["driver"]
    assert frame["usd"].sum() == pytest.approx(money.sum())
    np.testing.assert_array_equal(returns(MODEL, None, 5, 3)["driver"], money)
    np.testing.assert_allclose(returns(MODEL, None, 3, 3)["driver"], money[:3])


def test_whoever_learns_against_truthful_drivers_finds_that_overstating_pays():
    found = learned_exploitability(MODEL, None, "driver_1", 6000, seed=1, episodes=100)
    assert found.low_usd > 0.0
    assert found.low_usd <= found.gain_usd <= found.high_usd
    again = learned_exploitability(MODEL, None, "driver_1", 6000, seed=1, episodes=100)
    assert again.gain_usd == found.gain_usd


def test_where_the_truth_is_best_no_learner_gains():
    honest = SharedBatteryParties(Instance(drivers=4), payment="clarke")
    found = learned_exploitability(honest, None, "driver_0", 4000, seed=1, episodes=100)
    assert found.high_usd <= 1e-9


def test_shared_and_independent_learners_end_with_policies_that_act():
    together = train_shared(MODEL, "driver", 2000, seed=2, episodes=8)
    said = []
    apart = train_independent(MODEL, 500, 2, ["driver_0", "driver_3"], seed=2, episodes=8, say=said.append)
    assert sorted(apart) == ["driver_0", "driver_3"] and len(said) == 4
    for policies in ({"driver": together}, apart):
        assert np.isfinite(returns(MODEL, policies, 10, 1)["driver"]).all()


def test_a_saved_policy_acts_the_same_and_nothing_else_is_read(tmp_path):
    policy = random_policy(MODEL, "driver")
    save_policy(policy, tmp_path / "p.safetensors")
    read = load_policy(tmp_path / "p.safetensors")
    seen = np.random.default_rng(1).random((5, 6)).astype(np.float32)
    np.testing.assert_array_equal(read.predict(seen)[0], policy.predict(seen)[0])
    assert read.about == "driver"
    content = (tmp_path / "p.safetensors").read_bytes()
    for name, bad in (("cut", content[:-10]), ("text", b"hello"), ("empty", b""), ("pickle", b"\x80\x04K\x01.")):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(BundleError):
            load_policy(tmp_path / name)
    with pytest.raises(BundleError, match="missing"):
        load_policy(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PartyVecEnv(MODEL, []), "learners"),
        (lambda: PartyVecEnv(MODEL, ["driver_9"]), "agent"),
        (lambda: PartyVecEnv(SchedulingParties(Network(cars=6)), ["utility", "aggregator_0"]), "roles of the learners"),
        (lambda: policies_for(MODEL, {"king": Constant([0.0])}), "policy for"),
        (lambda: train_shared(MODEL, "king", 10), "role"),
        (lambda: Constant([2.0]), "action"),
        (lambda: returns(MODEL, {"driver": Constant([0.0, 0.0])}, 2, 0), "shape of the actions"),
        (lambda: returns(MODEL, None, 0, 0), "episodes"),
    ],
)
def test_wrong_input_is_named(make, field):
    with pytest.raises(InvalidInputError, match=field):
        make()
