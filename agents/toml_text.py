"""Configurations as TOML text: the standard library reads TOML but does not write it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from v2g_env.core.validate import require

__all__ = ["to_toml"]


def to_toml(content: Mapping[str, Any], comment: str = "") -> str:
    """Nested tables as TOML; entries that are None are left out, as TOML has no null.

    Args:
        content: texts, finite numbers, flags, lists of these (of one another too) and tables.
        comment: first line.

    Raises:
        InvalidInputError: for anything else.
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    _table(content, (), lines)
    return "\n".join(lines) + "\n"


def _table(content: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    if path:
        lines += ["", "[" + ".".join(_key(each) for each in path) + "]"]
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    for key, value in content.items():
        if value is not None and key not in tables:
            lines.append(f"{_key(key)} = {_value(key, value)}")
    for key, value in tables.items():
        _table(value, (*path, key), lines)


def _key(key: str) -> str:
    plain = key.replace("_", "").replace("-", "")
    return key if plain.isascii() and plain.isalnum() else json.dumps(key)


def _value(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(name, each) for each in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(key, each)}" for key, each in value.items()) + " }"
    known = isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
    require(known, name, value, "text, a finite number, true or false")
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value).replace("\x7f", "\\u007f")
