"""Trained policies that come with the package: bundle, certificate and card of each, and the command that made them.

A model is a folder agents/models/<name>/ with config.json and policy.safetensors (the bundle), certificate.json and
card.md. ``rebuild`` trains the shipped configuration of the same name again, certifies the result and writes the card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from agents.bundle import load_bundle
from agents.bundle_certificate import CERTIFICATE, certify_bundle, check_bundle, read_certificate
from agents.bundle_files import CONFIG, WEIGHTS, write_folder
from agents.config import load
from baselines.certificate import CertificateError, write_text
from v2g_env.core.validate import InvalidInputError, require

__all__ = [
    "CARD",
    "MODELS",
    "bundle_folder",
    "card",
    "check_folder",
    "model_lines",
    "model_path",
    "models",
    "rebuild",
]

CARD = "card.md"
_TIME = "| time of training |"  # the one line of a card that its folder does not prove
_FILES = (CONFIG, WEIGHTS, CERTIFICATE, CARD)

# shipped configurations that are trained, and the periods that they are certified on
MODELS: dict[str, int] = {
    "parking_lot_ppo": 2000,
    "parking_lot_imitation_ppo": 2000,
    "parking_lot_residual_ppo": 2000,
    "parking_lot_lagrangian_ppo": 2000,
    "stackelberg_ppo": 60,
    "shared_battery_allocation_ppo": 200,
    "shared_battery_partial_ppo": 400,
    "shared_battery_sizing_ppo": 200,
    "scheduling_ppo": 30,
    "scheduling_imitation_ppo": 30,
    "price_chain_ppo": 4000,
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


def model_lines() -> list[str]:
    """What the models reach, one line each."""
    lines = []
    for name in models():
        folder = model_path(name)
        found = read_certificate(folder, load_bundle(folder).hash)
        made = found["summary"]
        gap = "gap  none" if made["gap_percent"] is None else f"gap {made['gap_percent']:5.1f} %"
        lines.append(
            f"{name:32s} {made['mean_usd']:10.2f} $  {gap:11s}  violated {100 * made['frequency']:5.2f} %  "
            f"{found['env_id']}"
        )
    return lines or ["no models are there"]


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
        InvalidInputError: for an unknown name, or a training that diverged.
        KeyboardInterrupt: if the training was interrupted; calling again goes on.
    """
    from agents.sb3 import train

    if name not in MODELS:
        raise InvalidInputError(f"model = {name!r}; allowed: {', '.join(MODELS)}")
    config = load(name)
    say(f"training {name} ({config.total_steps} steps)")
    done = train(config, out / name)
    require(done.reason != "diverged", f"training of {name}", done.message, "finite numbers")
    if not done.finished:
        raise KeyboardInterrupt
    if not _certified(done.bundle, MODELS[name]):
        certify_bundle(done.bundle, periods=MODELS[name], say=say)
    write_text(done.bundle / CARD, card(name, done.bundle, done.seconds))
    if keep is None:
        return done.bundle
    write_folder(keep / name, {file: (done.bundle / file).read_bytes() for file in _FILES})
    return keep / name


def _certified(folder: Path, periods: int) -> bool:
    """Whether a certificate of so many periods is there already and holds."""
    try:
        found = read_certificate(folder, load_bundle(folder).hash)
        return bool(found["periods"] == periods and check_bundle(folder))
    except CertificateError:
        return False


def bundle_folder(target: str | Path) -> Path | None:
    """The folder that somebody means: one that exists, or that of a model; None for anything else."""
    if Path(target).is_dir():
        return Path(target)
    return model_path(str(target)) if str(target) in models() else None


def check_folder(folder: str | Path) -> tuple[str, ...]:
    """Check a bundle, its certificate and, if it has one, its card; no torch, no solver.

    Args:
        folder: of the bundle or model.

    Returns:
        What holds, one sentence each.

    Raises:
        BundleError: for a damaged bundle.
        CertificateError: for a certificate that is missing or does not hold, or a card that says something else.
    """
    claims = check_bundle(folder)
    file = Path(folder) / CARD
    if not file.is_file():
        return claims
    try:
        text = file.read_text(encoding="utf-8")
        name = text.partition("\n")[0].removeprefix("# ")
        lines = [line for line in text.split("\n") if not line.startswith(_TIME)]
    except UnicodeDecodeError:
        raise CertificateError(f"{file} = no UTF-8 text; allowed: the card that rebuild writes") from None
    if lines != card(name, Path(folder)).split("\n"):
        raise CertificateError(f"{file} = not what certificate and bundle say; allowed: the card that rebuild writes")
    return (*claims, "the card's numbers are those of the certificate")


def card(name: str, path: Path, seconds: float | None = None) -> str:
    """A model's card in Markdown: what it is for, how it was trained, what it reaches and where not to use it.

    Args:
        name: of the configuration.
        path: folder with bundle and certificate.
        seconds: of its training, if known.
    """
    bundle = load_bundle(path)
    config = bundle.config
    data = read_certificate(path, bundle.hash)
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
        *([] if seconds is None else [f"{_TIME} {seconds:.0f} s |"]),
        f"| network | hidden layers {list(config['net_arch'])}, {_numbers(bundle.tensors):,} numbers |",
        *_extras(settings),
        f"| certified on | {data['periods']} periods of law {data['law']}, seed {data['seed']} |",
        f"| mean return | {found['mean_usd']:.2f} $ a period |",
        *_gap(found),
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
    """Lines about what is not on in every training; what is off is not in the settings."""
    lines = []
    if "base" in settings:
        lines.append(f"| residual on | {settings['base']}, scale {settings['residual_scale']:g} |")
    if "violation_limit" in settings:
        lines.append(f"| violation limit in training | {settings['violation_limit']:g} violated steps an episode |")
    if "imitation" in settings:
        lines.append(f"| starts as a clone of | {settings['imitation']['teacher']} |")
    return lines


def _gap(found: Mapping[str, Any]) -> list[str]:
    """Bound and gap, as far as they are known."""
    if found["gap_usd"] is None:
        return ["| certified gap | none: there is no certificate of a bound |"]
    share = "" if found["gap_percent"] is None else f", {found['gap_percent']:.1f} % of the bound"
    top = "" if found["gap_limit_usd"] is None else f", at most {found['gap_limit_usd']:.2f} $ (95 %, asymptotic)"
    return [
        f"| proven bound | {found['bound_usd']:.2f} $ |",
        f"| certified gap | {found['gap_usd']:.2f} ${share}{top} |",
    ]
