from __future__ import annotations

import subprocess
import sys

import pytest

from agents.config import ALGORITHMS, EnvConfig, PPOParams, SACParams, TrainConfig, load, shipped
from v2g_env.core.validate import InvalidInputError


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_configuration_loads_and_survives_a_round_trip(name):
    config = load(name)
    assert config.algorithm in ALGORITHMS
    again = TrainConfig.from_dict(config.to_dict())
    assert again == config
    assert again.hash == config.hash


def test_the_promised_configurations_are_shipped():
    assert {"parking_lot_ppo", "parking_lot_sac", "parking_lot_bays_ppo"} <= set(shipped())
    assert {f"shared_battery_{kind}_ppo" for kind in ("allocation", "partial", "sizing")} <= set(shipped())
    assert load("parking_lot_bays_ppo").env.id == "V2G/ParkingLotBays-v0"
    assert isinstance(load("parking_lot_sac").hyperparameters, SACParams)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("total_stesp = 5", ("total_stesp", "total_steps")),
        ("[env]\nlaws = 'generator'", ("laws", "law")),
        ("[env.instance]\nbayz = 5", ("bayz", "bays")),
        ("[hyperparameters]\nclip = 0.2", ("clip", "clip_range")),
        ("algorithm = 'sac'\n[hyperparameters]\nclip_range = 0.2", ("clip_range", "tau")),
        ("algorithm = 'dqn'", ("dqn", "ppo, sac")),
        ("algorithm = ['ppo']", ("algorithm", "ppo, sac")),
        ("[env]\nid = 'CartPole-v1'", ("CartPole-v1", "V2G/ParkingLot-v0")),
        ("env = 3", ("env = 3", "table")),
        ("hyperparameters = []", ("hyperparameters", "table")),
        ("num_envs = ", ("TOML",)),
    ],
)
def test_unknown_keys_and_names_are_errors_that_say_what_is_allowed(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as error:
        load(path)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("", "num_envs", 0),
        ("", "num_envs", 2.5),
        ("", "num_envs", True),
        ("", "total_steps", 0),
        ("", "time_limit_s", 0.0),
        ("", "time_limit_s", float("nan")),
        ("", "seed", -1),
        ("", "seed", 2**32),
        ("", "reward_scale", 0.0),
        ("", "reward_scale", float("inf")),
        ("", "checkpoint_steps", 0),
        ("env", "law", ""),
        ("env", "instance", {"bays": 0}),
        ("hyperparameters", "learning_rate", 0.0),
        ("hyperparameters", "learning_rate", "fast"),
        ("hyperparameters", "learning_rate_schedule", "cosine"),
        ("hyperparameters", "gamma", 1.1),
        ("hyperparameters", "gae_lambda", -0.1),
        ("hyperparameters", "clip_range", 0.0),
        ("hyperparameters", "batch_size", 1000),
        ("hyperparameters", "net_arch", []),
        ("hyperparameters", "net_arch", [64, 0]),
        ("hyperparameters", "net_arch", 64),
        ("hyperparameters", "normalize_observation", 1),
        ("hyperparameters", "log_std_init", float("nan")),
    ],
)
def test_values_out_of_range_are_named(section, field, value):
    table = {section: {field: value}} if section else {field: value}
    with pytest.raises(InvalidInputError, match=field if section != "env" or field == "law" else "bays"):
        TrainConfig.from_dict(table)


def test_a_sac_entropy_weight_is_auto_or_a_number():
    assert SACParams(ent_coef=1).ent_coef == 1.0
    for bad in ("automatic", -1.0):
        with pytest.raises(InvalidInputError, match="ent_coef"):
            SACParams(ent_coef=bad)


def test_hash_ignores_the_seed_and_spelling_and_nothing_else():
    config = TrainConfig()
    assert config.hash == config.replace(seed=7).hash
    assert config.hash == TrainConfig.from_dict({"reward_scale": 10, "env": {"instance": {"bays": 52}}}).hash
    changed = [
        config.replace(total_steps=1),
        config.replace(time_limit_s=5),
        config.replace(num_envs=832),
        config.replace(env=EnvConfig(instance={"bays": 51})),
        config.replace(hyperparameters=PPOParams(gamma=0.99)),
    ]
    assert len({one.hash for one in [config, *changed]}) == 6
    with pytest.raises(InvalidInputError, match="totalsteps"):
        config.replace(totalsteps=3)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InvalidInputError, match="parking_lot_ppo"):
        load("parking_lot_pp")
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        load(binary)


def test_importing_config_and_bundle_loads_no_learning_library():
    code = (
        "import sys, agents.config, agents.bundle; agents.config.load('parking_lot_ppo'); "
        "bad = {'torch', 'stable_baselines3', 'safetensors', 'tensorboard'} & set(sys.modules); "
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
