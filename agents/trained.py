"""Agents as contestants: trained with shipped configurations under a results folder, or taken from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.compare import Contestant
from v2g_env.core.validate import require

__all__ = ["trained_agents"]


def trained_agents(
    names: Sequence[str],
    steps: Sequence[int],
    seed: int,
    instance: Mapping[str, Any],
    out: Path,
    say: Callable[[str], None],
    plan_kwh: list[float] | None = None,
    promised: float | None = None,
    promised_law: str = "",
) -> list[Contestant]:
    """Train agents, or go on with their training, or load what is done.

    Args:
        names: shipped configurations.
        steps: of training, one number for each of them.
        seed: of training.
        instance: fields of the instance that differ from the defaults.
        out: results folder; every agent has a folder below it, keyed by configuration and seed.
        say: receives a line per agent.
        plan_kwh: plan that the environment shows.
        promised: limit on violations that holds whatever the agent does.
        promised_law: law that it speaks of.
    """
    from agents.bundle import load_bundle
    from agents.config import load
    from agents.sb3 import train

    found: list[Contestant] = []
    for name, count in zip(names, steps, strict=False):
        settings = load(name)
        settings = settings.replace(seed=seed, env=replace(settings.env, instance=instance), total_steps=count)
        folder = out / "agents" / f"{name}-{settings.hash[:12]}-{settings.seed}"
        say(f"training {settings.algorithm.upper()} ({settings.total_steps} steps) in {folder}")
        done = train(settings, folder, plan_kwh=plan_kwh)
        require(done.reason != "diverged", f"training of {name}", done.message, "finite numbers")
        bundle = load_bundle(done.bundle)
        title = _title(settings)
        if title in (each.name for each in found):
            title = f"{title} ({name})"
        found.append(Contestant(title, "agent", _always(bundle), promised, promised_law, sha256=bundle.hash))
    return found


def _title(settings: Any) -> str:
    """What a trained policy is called in tables."""
    name = str(settings.algorithm).upper().replace("_", " ")
    if settings.imitation is not None:
        return f"clone + {name}"
    if settings.base is not None:
        return f"residual {name}"
    return f"{name} with a limit" if settings.violation_limit is not None else name


def _always(policy: Any) -> Callable[[Any], Any]:
    return lambda model: policy
