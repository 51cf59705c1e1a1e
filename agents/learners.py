"""The stable-baselines3 model of a configuration, and the acting part of such a model as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

from agents.config import TrainConfig
from agents.hyperparameters import (
    ALGORITHMS,
    MaskablePPOParams,
    OffPolicyParams,
    OnPolicyParams,
    PPOParams,
    RecurrentPPOParams,
    SACParams,
    TD3Params,
    TQCParams,
)
from agents.normaliser import Normaliser
from agents.vec_env import NativeVecEnv
from v2g_env.core.validate import require

__all__ = ["build_model", "load_zip", "policy_tensors", "start_from"]

Arrays = dict[str, NDArray[Any]]

# where hidden layers and head of the actor are in the state of stable-baselines3's policies
_BODIES = {"gaussian": "mlp_extractor.policy_net", "squashed": "actor.latent_pi"}
_HEADS = {"gaussian": "action_net", "squashed": "actor.mu"}
_LSTM = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def build_model(config: TrainConfig, envs: NativeVecEnv) -> Any:
    """The stable-baselines3 or sb3-contrib model of a configuration, on the CPU.

    Raises:
        InvalidInputError: for an algorithm or a hyperparameter that does not go with the environment's actions.
    """
    params = config.hyperparameters
    _check_actions(config, envs)
    shared: dict[str, Any] = {"gamma": params.gamma, "batch_size": params.batch_size, "device": "cpu"}
    shared |= {"seed": config.seed, "verbose": 0, "env": envs}
    if isinstance(params, OffPolicyParams):
        model = _off_policy(params, shared, envs.action_space)
    else:
        assert isinstance(params, OnPolicyParams)
        model = _on_policy(params, shared)
    if config.base is not None:
        _start_at_zero(model, config.algorithm)
    return model


def _start_at_zero(model: Any, algorithm: str) -> None:
    """Make the actor's last layer give zero, so that the untrained network adds nothing to its base."""
    state = model.policy.state_dict()
    for name in _places(state, algorithm)["head"]:
        for part in ("weight", "bias"):
            state[f"{name}.{part}"].zero_()


def _on_policy(params: OnPolicyParams, shared: dict[str, Any]) -> Any:
    network: dict[str, Any] = {"net_arch": list(params.net_arch), "activation_fn": torch.nn.Tanh}
    if isinstance(params, PPOParams):
        network["log_std_init"] = params.log_std_init
    shared |= {
        "learning_rate": _schedule(params),
        "n_steps": params.n_steps,
        "n_epochs": params.n_epochs,
        "gae_lambda": params.gae_lambda,
        "clip_range": params.clip_range,
        "ent_coef": params.ent_coef,
        "policy_kwargs": network,
    }
    if isinstance(params, MaskablePPOParams):
        from sb3_contrib import MaskablePPO

        return MaskablePPO("MlpPolicy", **shared)
    if isinstance(params, RecurrentPPOParams):
        from sb3_contrib import RecurrentPPO

        network["lstm_hidden_size"] = params.lstm_size
        model = RecurrentPPO("MlpLstmPolicy", **shared)
    else:
        model = PPO("MlpPolicy", **shared)
    if isinstance(params, PPOParams) and params.action_start:
        with torch.no_grad():
            model.policy.action_net.bias.copy_(torch.tensor(params.action_start))
    return model


def _off_policy(params: OffPolicyParams, shared: dict[str, Any], space: Any) -> Any:
    network: dict[str, Any] = {"net_arch": list(params.net_arch), "activation_fn": torch.nn.ReLU}
    shared |= {
        "learning_rate": params.learning_rate,
        "buffer_size": params.buffer_size,
        "tau": params.tau,
        "train_freq": params.train_freq,
        "gradient_steps": params.gradient_steps,
        "learning_starts": params.learning_starts,
        "policy_kwargs": network,
    }
    if isinstance(params, TQCParams):
        from sb3_contrib import TQC

        network |= {"n_critics": params.n_critics, "n_quantiles": params.n_quantiles}
        drop = params.dropped_quantiles
        return TQC("MlpPolicy", ent_coef=params.ent_coef, top_quantiles_to_drop_per_net=drop, **shared)
    if isinstance(params, SACParams):
        return SAC("MlpPolicy", ent_coef=params.ent_coef, **shared)
    assert isinstance(params, TD3Params)
    size = space.shape[0]
    return TD3(
        "MlpPolicy",
        action_noise=NormalActionNoise(np.zeros(size), np.full(size, params.action_noise), np.float32),
        target_policy_noise=params.target_noise,
        target_noise_clip=params.target_noise_clip,
        policy_delay=params.policy_delay,
        **shared,
    )


def _check_actions(config: TrainConfig, envs: NativeVecEnv) -> None:
    params, space = config.hyperparameters, envs.action_space
    kind = "discrete" if isinstance(space, Discrete) else "box"
    fitting = [name for name, one in ALGORITHMS.items() if kind in one.actions]
    words = f"{space.n} choices" if kind == "discrete" else f"{space.shape[0]} numbers in [-1, 1]"
    allowed = f"{', '.join(fitting)} for {config.env.id}, whose actions are {words}"
    require(config.algorithm in fitting, "algorithm", config.algorithm, allowed)
    if isinstance(params, MaskablePPOParams):
        masked = envs.has_attr("action_masks")
        require(masked, "algorithm", config.algorithm, f"an environment with action_masks(); {config.env.id} has none")
    if not isinstance(params, PPOParams):
        return
    if kind == "box":
        size = len(params.action_start)
        require(size in (0, space.shape[0]), "length of action_start", size, str(space.shape[0]))
        return
    for field in ("action_start", "log_std_init"):
        value = getattr(params, field)
        unset = value == getattr(PPOParams, field)
        require(unset, field, value, f"nothing: the actions of {config.env.id} are {words}")


def _schedule(params: OnPolicyParams) -> Any:
    if params.learning_rate_schedule == "constant":
        return params.learning_rate
    # the last rollout may end behind total_steps, where the remaining share is negative: it must not turn the sign
    return lambda remaining: params.learning_rate * max(remaining, 0.0)


def policy_tensors(model: Any, algorithm: str, normaliser: Normaliser | None) -> Arrays:
    """The acting part of a stable-baselines3 model under the bundle's names."""
    state = model.policy.state_dict()
    tensors: Arrays = {}
    for name, places in _places(state, algorithm).items():
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = _copy(state[f"{places[0]}.{part}"])
    if "log_std" in state:  # of normal actions; choices have none
        tensors["log_std"] = _copy(state["log_std"])
    for name in _LSTM:
        if f"lstm_actor.{name}_l0" in state:
            tensors[f"lstm.{name}"] = _copy(state[f"lstm_actor.{name}_l0"])
    if normaliser is not None:
        tensors |= {f"normaliser.{name}": value for name, value in normaliser.arrays().items()}
    return tensors


def start_from(model: Any, algorithm: str, normaliser: Normaliser | None, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Put a bundle's tensors into a fresh model's actor (and target actor) and into its normaliser."""
    state = model.policy.state_dict()
    for name, places in _places(state, algorithm).items():
        for place in places:
            for part in ("weight", "bias"):
                _fill(state[f"{place}.{part}"], tensors[f"{name}.{part}"])
    if "log_std" in state:
        _fill(state["log_std"], tensors["log_std"])
    for name in _LSTM:
        if f"lstm_actor.{name}_l0" in state:
            _fill(state[f"lstm_actor.{name}_l0"], tensors[f"lstm.{name}"])
    if normaliser is not None:
        normaliser.restore({name: tensors[f"normaliser.{name}"] for name in ("mean", "variance", "count")})


def _copy(value: Any) -> NDArray[Any]:
    return np.array(value.detach().cpu().numpy())


def _fill(target: Any, value: NDArray[Any]) -> None:
    target.copy_(torch.from_numpy(np.array(value)))


def _places(state: Mapping[str, Any], algorithm: str) -> dict[str, tuple[str, ...]]:
    """Where the bundle's layers are in a policy's state; TD3 has a second actor, its target."""
    acting = ALGORITHMS[algorithm].acting
    if acting == "fixed":
        actors = [_linear(state, f"{body}.mu") for body in ("actor", "actor_target")]
        *hidden, head = zip(*actors, strict=True)
    else:
        hidden = [(name,) for name in _linear(state, _BODIES[acting])]
        head = (_HEADS[acting],)
    places = {f"layers.{i}": names for i, names in enumerate(hidden)} | {"head": head}
    return places | ({"log_std": ("actor.log_std",)} if acting == "squashed" else {})


def _linear(state: Mapping[str, Any], body: str) -> list[str]:
    """Names of the linear layers of a stack, in order."""
    names = [name.removesuffix(".weight") for name in state if name.startswith(f"{body}.") and name.endswith(".weight")]
    return sorted(names, key=lambda name: int(name.rpartition(".")[2]))


def load_zip(path: str, algorithm: str) -> Any:
    """Open a stable-baselines3 zip, which runs whatever code its author put in."""
    import sb3_contrib

    kinds = {
        "ppo": PPO,
        "recurrent_ppo": sb3_contrib.RecurrentPPO,
        "maskable_ppo": sb3_contrib.MaskablePPO,
        "sac": SAC,
        "td3": TD3,
        "tqc": sb3_contrib.TQC,
    }
    return kinds[algorithm].load(path, device="cpu")
