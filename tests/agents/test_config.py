from __future__ import annotations

import subprocess
import sys

import pytest

from agents.config import ALGORITHMS, EnvConfig, PPOParams, SACParams, TQCParams, TrainConfig, load, shipped
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
    assert {f"parking_lot_{kind}" for kind in ("td3", "tqc", "recurrent_ppo", "residual_ppo")} <= set(shipped())
    assert {f"{kind}_maskable_ppo" for kind in ("price_chain", "shared_battery_allocation")} <= set(shipped())
    assert load("parking_lot_lagrangian_ppo").violation_limit == 0.05
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
        ("algorithm = 'dqn'", ("dqn", "ppo, recurrent_ppo, maskable_ppo, sac, td3, tqc")),
        ("algorithm = ['ppo']", ("algorithm", "ppo, recurrent_ppo")),
        ("algorithm = 'maskableppo'", ("did you mean 'maskable_ppo'?",)),
        ("algorithm = 'td4'", ("did you mean 'td3'?",)),
        ("[env]\nid = 'V2G/PriceChain'", ("did you mean 'V2G/PriceChain-v0'?",)),
        ("total_step = 5", ("did you mean 'total_steps'?",)),
        ("algorithm = 'td3'\n[hyperparameters]\nent_coef = 0.2", ("ent_coef", "action_noise")),
        ("algorithm = 'maskable_ppo'\n[hyperparameters]\nlog_std_init = 0.2", ("log_std_init", "clip_range")),
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


@pytest.mark.parametrize(
    ("algorithm", "field", "value"),
    [
        ("recurrent_ppo", "lstm_size", 0),
        ("td3", "action_noise", -0.1),
        ("td3", "target_noise_clip", 3.0),
        ("td3", "policy_delay", 0),
        ("td3", "buffer_size", 8),
        ("tqc", "n_quantiles", 0),
        ("tqc", "dropped_quantiles", 25),
        ("tqc", "tau", 0.0),
        ("tqc", "ent_coef", "automatic"),
        ("maskable_ppo", "batch_size", 833),
    ],
)
def test_values_of_other_learners_out_of_range_are_named(algorithm, field, value):
    with pytest.raises(InvalidInputError, match=field):
        TrainConfig.from_dict({"algorithm": algorithm, "hyperparameters": {field: value}})


def test_hyperparameters_belong_to_their_algorithm_exactly():
    with pytest.raises(InvalidInputError, match="SACParams"):
        TrainConfig("sac", hyperparameters=TQCParams())
    with pytest.raises(InvalidInputError, match="RecurrentPPOParams"):
        TrainConfig("recurrent_ppo", hyperparameters=PPOParams())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_learner_has_defaults_that_survive_a_round_trip(algorithm):
    config = TrainConfig.from_dict({"algorithm": algorithm})
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert type(config.hyperparameters) is ALGORITHMS[algorithm].params


def test_hooks_are_part_of_the_hash():
    config = TrainConfig()
    changed = [
        config.replace(base="plan"),
        config.replace(base="predictive control"),
        config.replace(base="predictive control", base_parameters={"quantile": 0.4}),
        config.replace(base="plan", residual_scale=0.1),
        config.replace(violation_limit=0.1),
        config.replace(violation_limit=0.1, violation_price_usd=1),
        config.replace(warm_start_sha256="0" * 64),
    ]
    assert len({one.hash for one in [config, *changed]}) == 8
    spelled_out = config.replace(base="predictive control", base_parameters={"quantile": 0.3})
    assert spelled_out.hash == changed[1].hash


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
