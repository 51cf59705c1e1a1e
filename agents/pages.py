"""Documentation pages made from the registry and the environments' docstrings."""

from __future__ import annotations

import importlib
import inspect

from v2g_env.registration import ENVIRONMENTS

__all__ = ["environments_page"]


def environments_page() -> str:
    """Markdown of docs/environments.md: one section per registered environment."""
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
    return "\n".join(parts).rstrip() + "\n"
