from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from safetensors.numpy import load, save

from agents.bundle import Bundle, BundleError, bundle_hash, load_bundle, load_sb3_zip, save_bundle
from agents.bundle_files import digest, write_folder
from agents.config import EnvConfig, PPOParams, SACParams, TD3Params, TQCParams, TrainConfig
from agents.learners import policy_tensors
from agents.normaliser import Normaliser
from agents.sb3 import build_model, make_native
from v2g_env.core.validate import InvalidInputError

CONFIGS = {
    "ppo": TrainConfig(num_envs=4, hyperparameters=PPOParams(n_steps=4, batch_size=16, net_arch=(24, 8))),
    "sac": TrainConfig(algorithm="sac", num_envs=4, hyperparameters=SACParams(net_arch=(24, 8, 5))),
    "td3": TrainConfig(algorithm="td3", num_envs=4, hyperparameters=TD3Params(net_arch=(24, 8))),
    "tqc": TrainConfig(algorithm="tqc", num_envs=4, hyperparameters=TQCParams(net_arch=(24, 8), n_quantiles=5)),
    "bays": TrainConfig(
        num_envs=4,
        env=EnvConfig("V2G/ParkingLotBays-v0", instance={"bays": 6}),
        hyperparameters=PPOParams(n_steps=4, batch_size=16, normalize_observation=False),
    ),
}


class Payload:
    """Unpickling this writes a file."""

    def __init__(self, path):
        """Take the file's path."""
        self.path = path

    def __reduce__(self):
        """What pickle calls."""
        return (open, (str(self.path), "w"))


def shake(model):
    """Weights of ordinary size everywhere: a fresh policy's head is nearly zero, which would hide mistakes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


def observations(envs, n=40):
    high = np.minimum(envs.observation_space.high, 5.0)
    return (np.random.default_rng(1).random((n, len(high))) * high).astype(np.float32)


def made(name):
    config = CONFIGS[name]
    envs = make_native(config.env, config.num_envs)
    model = build_model(config, envs)
    shake(model)
    normaliser = None
    if config.hyperparameters.normalize_observation:
        normaliser = Normaliser(envs.observation_space.shape[0])
        normaliser.update(observations(envs, 200))
    return config, envs, model, normaliser


@pytest.fixture
def saved(tmp_path):
    config, _, model, normaliser = made("ppo")
    path = tmp_path / "bundle"
    save_bundle(path, config, policy_tensors(model, config.algorithm, normaliser), 16, [1.0] * 13)
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bundle_acts_like_the_model_it_came_from(name, tmp_path):
    config, envs, model, normaliser = made(name)
    save_bundle(tmp_path / "b", config, policy_tensors(model, config.algorithm, normaliser), 16)
    bundle = load_bundle(tmp_path / "b")
    seen = observations(envs)
    shown = seen if normaliser is None else normaliser(seen)
    expected, _ = model.predict(shown, deterministic=True)
    found, memory = bundle.predict(seen, deterministic=True)
    assert memory is None
    assert found.dtype == np.float32
    assert expected.std() > 0.05
    # both are float32, but sum in another order; without a normaliser the sums are larger
    close = 1e-6 if normaliser else 4e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=close)
    one, _ = bundle.predict(seen[0], deterministic=True)
    assert one.shape == envs.action_space.shape
    np.testing.assert_allclose(one, found[0], atol=close)


@pytest.mark.parametrize("name", ["ppo", "sac", "tqc"])
def test_random_actions_have_the_models_law(name, tmp_path):
    import torch

    config, envs, model, normaliser = made(name)
    save_bundle(tmp_path / "b", config, policy_tensors(model, config.algorithm, normaliser), 16)
    same = np.repeat(observations(envs, 1), 4000, axis=0)
    mine, _ = load_bundle(tmp_path / "b", seed=1).predict(same)
    again, _ = load_bundle(tmp_path / "b", seed=1).predict(same)
    other, _ = load_bundle(tmp_path / "b", seed=2).predict(same)
    np.testing.assert_array_equal(mine, again)
    assert not np.array_equal(mine, other)
    torch.manual_seed(0)
    theirs, _ = model.predict(normaliser(same))
    assert np.abs(mine).max() <= 1.0
    np.testing.assert_allclose(mine.mean(), theirs.mean(), atol=5 * theirs.std() / 4000**0.5)
    np.testing.assert_allclose(mine.std(), theirs.std(), rtol=0.1)


def test_loading_leaves_the_global_generators_alone(saved):
    import torch

    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the one that must not move
    load_bundle(saved).predict(np.zeros((2, 35), np.float32))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("bad", [np.zeros((2, 34)), np.zeros(()), np.zeros((1, 2, 35)), np.full((1, 35), np.nan)])
def test_bad_observations_are_named(saved, bad):
    with pytest.raises(InvalidInputError, match="observation"):
        load_bundle(saved).predict(bad)


def test_a_bundle_says_what_it_is(saved):
    bundle = load_bundle(saved)
    assert bundle.env_id == "V2G/ParkingLot-v0"
    assert bundle.env_kwargs["plan_kwh"] == [1.0] * 13
    assert bundle.env_kwargs["law"] == "generator"
    assert bundle.hash == bundle_hash(saved)
    assert bundle.config["versions"]["torch"]
    assert bundle.config["train_config_hash"] == CONFIGS["ppo"].hash


def test_the_hash_needs_neither_torch_nor_safetensors(saved):
    code = (
        f"import sys, agents.bundle as b; print(b.bundle_hash({str(saved)!r})); "
        "sys.exit(1 if {'torch', 'safetensors', 'stable_baselines3'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, bundle_hash(saved))


def rewrite(path, change, rehash=True):
    """Change config.json; with the stated hash made right again, as a forger would."""
    content = json.loads((path / "config.json").read_text())
    change(content)
    if rehash:
        content["sha256"] = digest(content)
    (path / "config.json").write_text(json.dumps(content))


def forge(path, change):
    """Change the tensors and make all hashes right again."""
    tensors = {name: value.copy() for name, value in load((path / "policy.safetensors").read_bytes()).items()}
    change(tensors)
    raw = save(tensors)
    (path / "policy.safetensors").write_bytes(raw)
    rewrite(path, lambda content: content.update(weights_sha256=hashlib.sha256(raw).hexdigest()))


def test_one_wrong_digit_is_noticed(saved):
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text.replace('"steps": 16', '"steps": 17'))
    with pytest.raises(BundleError, match="sha256"):
        load_bundle(saved)


@pytest.mark.parametrize("position", [0, 9, 200, -1])
def test_one_wrong_byte_in_the_weights_is_noticed(saved, position):
    raw = bytearray((saved / "policy.safetensors").read_bytes())
    raw[position] ^= 1
    (saved / "policy.safetensors").write_bytes(bytes(raw))
    for read in (bundle_hash, load_bundle):
        with pytest.raises(BundleError, match=r"policy\.safetensors"):
            read(saved)


@pytest.mark.parametrize("name", ["config.json", "policy.safetensors"])
@pytest.mark.parametrize("size", [None, 0, 5, 100])
def test_missing_and_truncated_files_are_named(saved, name, size):
    path = saved / name
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(saved)


CHANGES = {
    "surprise": lambda c: c.update(surprise=1),
    "versions": lambda c: c.pop("versions"),
    "steps": lambda c: c.update(steps=True),
    "format": lambda c: c.update(format="v2g-env bundle 1"),
    "activation": lambda c: c.update(activation="os.system"),
    "algorithm": lambda c: c.update(algorithm="sac"),
    "net_arch": lambda c: c.update(net_arch=[24, 9]),
    "action_kind": lambda c: c.update(action_kind="discrete"),
    "lstm_size": lambda c: c.update(lstm_size=8),
    "base": lambda c: c.update(base={"name": "plan", "parameters": {}, "scale": 0.3}),
    "env_id": lambda c: c.update(env_id="Evil-v0"),
    "env_kwargs = ": lambda c: c["env_kwargs"].update(law="days:jpl-2019/test"),
    "env_kwargs": lambda c: c["env_kwargs"].update(render_mode="human"),
    "plan_kwh": lambda c: c["env_kwargs"].update(plan_kwh=["a"]),
    "instance_hash": lambda c: c.update(instance_hash="0" * 64),
    "normaliser": lambda c: c.update(normaliser=None),
    "train_config": lambda c: c["train_config"].update(extra=1),
    "train_config_hash": lambda c: c["train_config"].update(total_steps=5),
    "bays": lambda c: c["train_config"]["env"]["instance"].update(bays=-1),
    "observation_size": lambda c: c.update(observation_size=34),
    "tensor": lambda c: c.update(action_size=2),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_forged_configuration_is_refused_by_name(saved, field):
    rewrite(saved, CHANGES[field])
    with pytest.raises(BundleError, match="tensor" if field == "observation_size" else field):
        load_bundle(saved)


def test_a_bundle_of_another_version_says_what_to_do(saved):
    rewrite(saved, CHANGES["format"])
    with pytest.raises(BundleError, match=r"bundle 1.*allowed.*bundle 2.*another version.*training again"):
        bundle_hash(saved)


def widen(tensors):
    tensors["head.weight"] = np.zeros((1, 9), np.float32)


TENSORS = {
    "not finite": lambda t: t["head.bias"].fill(np.nan),
    "infinite": lambda t: t["normaliser.mean"].fill(np.inf),
    "negative": lambda t: t["normaliser.variance"].fill(-1.0),
    "unknown": lambda t: t.update(spare=np.zeros(3, np.float32)),
    "missing": lambda t: t.pop("log_std"),
    "wide": widen,
    "double": lambda t: t.update({"head.bias": np.zeros(1)}),
}


@pytest.mark.parametrize("name", TENSORS)
def test_forged_tensors_are_refused(saved, name):
    forge(saved, TENSORS[name])
    with pytest.raises(BundleError, match="tensor"):
        load_bundle(saved)


@pytest.mark.parametrize("text", ["[1]", "{", '{"format": NaN}', "[" * 100_000, "\x00", "{}", "null"])
def test_foreign_json_is_refused(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(BundleError):
        load_bundle(saved)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["policy.safetensors", "config.json"])
def test_pickled_code_never_runs(saved, tmp_path, protocol, name):
    mark = tmp_path / "ran"
    raw = pickle.dumps(Payload(mark), protocol)
    (saved / name).write_bytes(raw)
    if name == "policy.safetensors":  # a forger also makes the hashes right
        rewrite(saved, lambda content: content.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(BundleError, match="pickle" if protocol >= 2 else "unreadable"):
        load_bundle(saved)
    assert not mark.exists()
    pickle.loads(raw).close()
    assert mark.exists()  # the payload works: the test would have seen it


def test_a_zip_is_refused_and_never_opened(saved, tmp_path):
    mark = tmp_path / "ran"
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", pickle.dumps(Payload(mark)))
    with pytest.raises(BundleError, match="zip"):
        load_bundle(path)
    (saved / "policy.safetensors").write_bytes(path.read_bytes())
    with pytest.raises(BundleError, match="zip"):
        load_bundle(saved)
    for trust in (False, "yes"):
        with pytest.raises(BundleError, match="trust=True"):
            load_sb3_zip(path, trust=trust)
    assert not mark.exists()


def test_a_trusted_zip_opens(tmp_path):
    _, envs, model, _ = made("ppo")
    model.save(tmp_path / "mine.zip")
    again = load_sb3_zip(tmp_path / "mine.zip", trust=True)
    seen = observations(envs)
    np.testing.assert_allclose(again.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0])
    with pytest.raises(InvalidInputError, match="algorithm"):
        load_sb3_zip(tmp_path / "mine.zip", "dqn", trust=True)


def test_missing_folders_and_plain_files(tmp_path):
    with pytest.raises(BundleError, match="missing"):
        load_bundle(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BundleError, match="folder"):
        load_bundle(tmp_path / "text")


def test_saving_refuses_broken_weights_and_leaves_the_old_bundle(saved):
    config, _, model, normaliser = made("ppo")
    tensors = policy_tensors(model, "ppo", normaliser)
    before = bundle_hash(saved)
    tensors["head.bias"][:] = np.nan
    with pytest.raises(BundleError, match="finite"):
        save_bundle(saved, config, tensors, 1)
    assert bundle_hash(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["bundle"]


def test_folders_are_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    write_folder(target, {"a": b"1", "b": b"2"})
    write_folder(target, {"a": b"3"})
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a": b"3"}
    with pytest.raises(TypeError):
        write_folder(target, {"a": b"4", "b": "no bytes"})
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a": b"3"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_bundle_is_a_policy(saved):
    bundle = load_bundle(saved)
    assert isinstance(bundle, Bundle)
    from v2g_env.core.policy import Policy

    policy: Policy = bundle
    assert policy.predict(np.zeros((3, 35), np.float32))[0].shape == (3, 1)
