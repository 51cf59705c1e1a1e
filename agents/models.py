"""Trained policies that come with the package: bundle, certificate and card of each, and the command that made them.

A model is a folder agents/models/<name>/ with config.json and policy.safetensors (the bundle), certificate.json and
card.md. ``rebuild`` trains the shipped configuration of the same name again, certifies the result and writes the card.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from agents.bundle import load_bundle
from agents.bundle_certificate import CERTIFICATE, certify_bundle
from agents.bundle_files import CONFIG, WEIGHTS
from agents.config import load
from baselines.certificate import load as load_certificate
from baselines.certificate import write_bytes, write_text
from v2g_env.core.validate import InvalidInputError

__all__ = ["CARD", "MODELS", "card", "model_path", "models", "rebuild"]

CARD = "card.md"
_FILES = (CONFIG, WEIGHTS, CERTIFICATE, CARD)

# shipped configurations that are trained, and the periods that they are certified on
MODELS: dict[str, int] = {
    "parking_lot_ppo": 2000,
    "parking_lot_residual_ppo": 2000,
    "parking_lot_lagrangian_ppo": 2000,
    "stackelberg_ppo": 300,
    "shared_battery_allocation_ppo": 400,
    "shared_battery_partial_ppo": 400,
    "shared_battery_sizing_ppo": 200,
    "scheduling_ppo": 100,
    "scheduling_imitation_ppo": 100,
    "price_chain_maskable_ppo": 4000,
}


def models() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    folder = Path(str(resources.files("agents"))) / "models"
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))) if folder.is_dir() else ()


def model_path(name: str) -> Path:
    """Folder of a model.

    Raises:
        InvalidInputError: for a name that is none of ``models()``.
    """
    if name not in models():
        raise InvalidInputError(f"model = {name!r}; allowed: {', '.join(models()) or 'none is there yet'}")
    return Path(str(resources.files("agents"))) / "models" / name


def rebuild(name: str, out: Path, keep: Path | None = None, say: Callable[[str], None] = lambda text: None) -> Path:
    """Train a model's configuration, certify it and write its card.

    Args:
        name: one of MODELS.
        out: folder of the training; an interrupted one goes on.
        keep: where the model's four files are put; None leaves them in the bundle's folder.
        say: receives a line per stage.

    Returns:
        Folder of the model.

    Raises:
        InvalidInputError: for an unknown name.
    """
    from agents.sb3 import train

    if name not in MODELS:
        raise InvalidInputError(f"model = {name!r}; allowed: {', '.join(MODELS)}")
    config = load(name)
    say(f"training {name} ({config.total_steps} steps)")
    done = train(config, out / name)
    if not done.finished:
        raise KeyboardInterrupt
    if not (done.bundle / CERTIFICATE).is_file():
        certify_bundle(done.bundle, periods=MODELS[name], say=say)
    write_text(done.bundle / CARD, card(name, done.bundle, done.seconds))
    if keep is None:
        return done.bundle
    for file in _FILES:
        write_bytes(keep / name / file, (done.bundle / file).read_bytes())
    for stale in (keep / name).iterdir():
        if stale.name not in _FILES:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    return keep / name


def card(name: str, path: Path, seconds: float | None = None) -> str:
    """A model's card in Markdown: what it is for, how it was trained, what it reaches and where not to use it.

    Args:
        name: of the configuration.
        path: folder with bundle and certificate.
        seconds: of its training, if known.
    """
    bundle = load_bundle(path)
    config = bundle.config
    data = load_certificate(path / CERTIFICATE)
    found = data["summary"]
    settings = config["train_config"]
    lines = [
        f"# {name}",
        "",
        f"A policy for `{bundle.env_id}` with the default instance, trained by {config['algorithm'].upper()}.",
        "",
        "| | |",
        "|---|---|",
        f"| trained on | law {settings['env']['law']}, {config['steps']:,} steps, seed {config['seed']} |",
        *([] if seconds is None else [f"| time of training | {seconds:.0f} s |"]),
        f"| network | hidden layers {list(config['net_arch'])}, {_numbers(bundle.tensors):,} numbers |",
        *_extras(settings),
        f"| certified on | {data['periods']} periods of law {data['law']}, seed {data['seed']} |",
        f"| mean return | {found['mean_usd']:.2f} $ a period |",
        f"| proven bound | {found['bound_usd']:.2f} $ |",
        f"| certified gap | {found['gap_usd']:.2f} $, {found['gap_percent']:.1f} % of the bound, at most "
        f"{found['gap_limit_usd']:.2f} $ (95 %) |",
        f"| violations | {100 * found['frequency']:.2f} %, probability at most {100 * found['limit']:.2f} % "
        f"(confidence 1 - {data['beta']:g}) |",
        f"| bundle | sha256 `{bundle.hash}` |",
        "",
        f"Check: `v2g check {name}`. Use: `agents.bundle.load_bundle(agents.models.model_path({name!r}))`. Made by "
        f"`v2g models --rebuild {name}`.",
        "",
        "Meant for the simulated instance that it was trained on: another fleet, another tariff or real sessions are "
        "other laws, for which neither return nor limit is claimed. It controls no real charger.",
        "",
    ]
    return "\n".join(lines)


def _numbers(tensors: Mapping[str, Any]) -> int:
    return sum(int(value.size) for key, value in tensors.items() if not key.startswith("normaliser."))


def _extras(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    if settings["base"] is not None:
        lines.append(f"| residual on | {settings['base']}, scale {settings['residual_scale']:g} |")
    if settings["violation_limit"] is not None:
        lines.append(f"| violation limit in training | {settings['violation_limit']:g} violated steps an episode |")
    if settings.get("imitation") is not None:
        lines.append(f"| starts as a clone of | {settings['imitation']['teacher']} |")
    return lines
