"""What a task of the executor is: a function by name and plain arguments. Its key is the hash of both."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from v2g_env.core.validate import InvalidInputError, require

__all__ = ["PACKAGES", "Task", "canonical", "plain", "resolve"]

PACKAGES = ("v2g_env", "baselines", "agents", "tests")
_NAME = re.compile(r"[a-z]\w*(\.[A-Za-z]\w*)*:[A-Za-z]\w*", re.ASCII)
_DEEPEST = 64


@dataclass(frozen=True)
class Task:
    """One call ``function(folder, **arguments)``, as data that any machine can carry out.

    The function has to be pure: its value depends on the arguments alone, wherever, whenever and however often it is
    called. It returns a dict of JSON data and writes what is large to ``folder``, a Path of its own, which may hold
    what a killed attempt left there.

    Attributes:
        function: "package.module:name" of a function defined in one of this project's packages.
        arguments: keyword arguments, JSON data without NaN.
        label: what people read; no part of the key.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Check everything that can be checked without importing the function."""
        _check_name(self.function)
        require(isinstance(self.arguments, Mapping), "arguments", self.arguments, "a dict of keyword arguments")
        arguments = plain("arguments", dict(self.arguments))
        require("folder" not in arguments, "arguments", sorted(arguments), "names other than folder")
        require(isinstance(self.label, str), "label", self.label, "text")
        object.__setattr__(self, "arguments", arguments)

    @cached_property
    def text(self) -> str:
        """Canonical JSON of function and arguments."""
        return canonical({"function": self.function, "arguments": self.arguments})

    @cached_property
    def key(self) -> str:
        """SHA-256 of ``text``; results are stored under it."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()

    @property
    def title(self) -> str:
        """The label, or the function and the start of the key."""
        return self.label or f"{self.function} {self.key[:12]}"


def canonical(value: Any) -> str:
    """The one ASCII text of JSON data: sorted keys, no blanks, shortest exact numbers, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(name: str, value: Any) -> Any:
    """A copy of JSON data, tuples as lists.

    Args:
        name: what to call the value in an error.
        value: None, bool, int, finite float, str, and lists and dicts (text keys) of these.

    Raises:
        InvalidInputError: naming the first place that JSON would lose or change: NaN, infinities, NumPy arrays, other
            objects, keys that are no text, more than 64 levels.
    """
    return _plain(name, value, 0)


def _plain(name: str, value: Any, depth: int) -> Any:
    require(depth <= _DEEPEST, f"depth of {name:.80}", depth, f"at most {_DEEPEST} levels")
    if isinstance(value, dict):
        for key in value:
            require(isinstance(key, str), f"key of {name}", key, "text")
        return {key: _plain(f"{name}.{key}", part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{name}[{place}]", part, depth + 1) for place, part in enumerate(value)]
    if isinstance(value, float):
        require(math.isfinite(value), name, value, "a finite number, or null: JSON has no other")
        return float(value)
    allowed = "JSON data: null, true, false, numbers, text, lists and dicts of these"
    require(value is None or isinstance(value, bool | int | str), name, value, allowed)
    return value


def _check_name(function: Any) -> None:
    allowed = f"package.module:name, the package one of {', '.join(PACKAGES)}"
    fits = isinstance(function, str) and _NAME.fullmatch(function) is not None
    require(fits and function.partition(":")[0].partition(".")[0] in PACKAGES, "function", function, allowed)


def resolve(function: str) -> Callable[..., Any]:
    """The function of a name; only one that its module defines itself, not one it happens to import.

    Raises:
        InvalidInputError: for a foreign package, an unknown module or name, or anything but a function defined there.
    """
    _check_name(function)
    where, _, name = function.partition(":")
    try:
        module = importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"function = {function!r}; allowed: a module that exists ({error})") from None
    found = getattr(module, name, None)
    if not inspect.isfunction(found) or found.__module__ != where:
        raise InvalidInputError(f"function = {function!r}; allowed: a function that {where} defines")
    return found
