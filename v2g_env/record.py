"""What every problem's Instance can do besides holding its fields: copies, hash, JSON and TOML."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from v2g_env.core.validate import InvalidInputError, require

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """Base of frozen dataclasses whose fields are numbers, texts, truth values and tuples of numbers."""

    def settle_numbers(self) -> None:
        """Make 10 and 10.0, 0 and -0.0 the same value, so that equal instances have equal hashes."""
        for field in fields(self):
            if field.type == "float":
                object.__setattr__(self, field.name, float(getattr(self, field.name)) + 0.0)
            elif field.type == "int":
                object.__setattr__(self, field.name, int(getattr(self, field.name)))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of all fields."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; unknown names raise InvalidInputError."""
        self._known(changes)
        return replace(self, **changes)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, shortest float representation."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON data."""
        return dict(json.loads(self.to_json()))

    @classmethod
    def of(cls, given: Self | Mapping[str, Any] | None) -> Self:
        """The defaults for None, a mapping of fields built, an instance as it is; others raise InvalidInputError."""
        if given is None:
            return cls()
        if isinstance(given, Mapping):
            return cls.from_dict(given)
        require(isinstance(given, cls), "instance", given, "an Instance, a mapping of its fields, or None")
        return given

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from a mapping; unknown keys and wrong types raise InvalidInputError."""
        cls._known(values)
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a .toml or .json file holding (some of) the fields; the others keep their defaults."""
        path = Path(path)
        content = path.read_bytes()
        require(content.strip() != b"", str(path), "an empty file", f"TOML or JSON with fields of {cls.__name__}")
        try:
            text = content.decode("utf-8")
            values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"{path} = unreadable ({error}); allowed: TOML or JSON") from None
        require(isinstance(values, dict), str(path), type(values).__name__, "a table of fields")
        return cls.from_dict(values)

    @classmethod
    def _known(cls, values: Mapping[str, Any]) -> None:
        names = [field.name for field in fields(cls)]
        for key in values:
            require(key in names, "field of the instance", key, ", ".join(names))
