"""Documentation pages made from the registry and the environments' docstrings."""

from __future__ import annotations

import importlib
import inspect

from v2g_env.registration import ENVIRONMENTS, PARALLEL

__all__ = ["environments_page"]


def environments_page() -> str:
    """Markdown of docs/environments.md: one section per registered and per parallel environment."""
    parts = [
        "# Environments",
        "",
        "Made from the docstrings by `scripts/docs`; edit those, not this page.",
        "",
    ]
    for entry in ENVIRONMENTS:
        module, _, name = entry.single.partition(":")
        text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        parts += [f"# {entry.id}", "", text, ""]
    for game in PARALLEL:
        module, _, name = game.env.partition(":")
        text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        parts += [f"# {game.name}", "", f"`v2g_env.parallel_shell.parallel_env({game.name!r})`", "", text, ""]
    return "\n".join(parts).rstrip() + "\n"
