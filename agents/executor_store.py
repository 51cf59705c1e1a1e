"""The folder of an executor's results: one file per task, written whole, believed only if its hash fits.

``<key>.json`` holds a result, ``<key>/`` the files of a task, ``tasks.json`` which tasks the folder is for,
``runs.jsonl`` a line about every attempt (time, place), ``logs/`` what worker processes printed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agents.executor_code import code_identity
from agents.executor_tasks import Task, canonical
from baselines.certificate import write_text
from v2g_env.core.validate import InvalidInputError, require

__all__ = ["Outcome", "Store", "TaskError"]

FORMAT = "v2g-env task result 1"
_MANIFEST = "v2g-env tasks 1"
STATUSES = ("done", "failed", "lost")


class TaskError(RuntimeError):
    """Tasks that came to no result; the text is a summary."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: the task.
        folder: for its files; exists if it wrote any.
        status: "done"; "failed": it raised an error; "lost": every worker that tried it died.
        data: its value if done, else empty.
        error: text of the error, or how the last worker died.
        traceback: of the error.
        code: identity of the code that it comes from.
    """

    task: Task
    folder: Path
    status: str
    data: Mapping[str, Any]
    error: str = ""
    traceback: str = ""
    code: str = ""

    @property
    def value(self) -> Mapping[str, Any]:
        """What the task returned; raises TaskError if it came to nothing, so that no failure passes unseen."""
        if self.status != "done":
            raise TaskError(f"{self.task.title} {self.status}: {self.error}")
        return self.data


class Store:
    """The results in a folder.

    Args:
        folder: made if missing.
        tasks: that it is for.
        resume: go on in a folder that holds results of other tasks.

    Raises:
        InvalidInputError: for a folder that holds something else.
    """

    def __init__(self, folder: str | Path, tasks: Iterable[Task], resume: bool = False) -> None:
        self.folder = Path(folder).resolve()
        self.keys = sorted({task.key for task in tasks})
        self._check(resume)

    def _check(self, resume: bool) -> None:
        """Refuse a folder of something else. Only whoever holds the lock writes the list of tasks."""
        require(not self.folder.exists() or self.folder.is_dir(), "folder", str(self.folder), "a folder, or a new one")
        if not self.folder.is_dir() or not any(path.name != ".lock" for path in self.folder.iterdir()):
            return
        manifest = self.folder / "tasks.json"
        require(manifest.is_file(), "folder", str(self.folder), "an empty one, or one of an earlier run (tasks.json)")
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            same = content["format"] == _MANIFEST and content["keys"] == self.keys
        except (ValueError, KeyError, TypeError, RecursionError):
            same = False
        allowed = "the folder of the same tasks, a new one, or --resume to keep its results and go on with these tasks"
        require(same or resume, "folder", str(self.folder), allowed)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the folder, and write down which tasks it is for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as stream:
            _take(stream, self.folder)
            write_text(self.folder / "tasks.json", json.dumps({"format": _MANIFEST, "keys": self.keys}, indent=1))
            yield

    def place(self, task: Task) -> Path:
        """Folder for a task's files."""
        return self.folder / task.key

    def read(self, task: Task) -> Outcome | None:
        """The stored result of a task; None if there is none.

        Raises:
            InvalidInputError: for a damaged file, or one that belongs to another task.
        """
        path = self.folder / f"{task.key}.json"
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            stated = content.pop("sha256")
            intact = stated == _digest(content) and content["format"] == FORMAT and content["status"] in STATUSES
            own = content["key"] == task.key and content["function"] == task.function
            require(intact and own, "result", str(path), "an undamaged result of this task")
            shown = {name: content.get(name, "") for name in ("error", "traceback", "code")}
            return Outcome(task, self.place(task), content["status"], content.get("value", {}), **shown)
        except InvalidInputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidInputError(f"result = {path} ({error}); allowed: an undamaged result") from None

    def write(self, task: Task, reply: Mapping[str, Any]) -> Outcome:
        """Store what came of a task; ``reply`` has "status", and "value" or "error" and "traceback"."""
        content: dict[str, Any] = {"format": FORMAT, "key": task.key, "code": code_identity()}
        content |= {"function": task.function, "arguments": dict(task.arguments)}
        for name in ("status", "value", "error", "traceback"):
            if name in reply:
                content[name] = reply[name]
        content["sha256"] = _digest(content)
        text = json.dumps(content, sort_keys=True, indent=1, allow_nan=False)
        write_text(self.folder / f"{task.key}.json", text + "\n")
        told = {name: content.get(name, "") for name in ("error", "traceback", "code")}
        return Outcome(task, self.place(task), reply["status"], reply.get("value", {}), **told)

    def note(self, task: Task, tried: int, reply: Mapping[str, Any]) -> None:
        """Add a line to runs.jsonl: what is known of an attempt and differs from call to call."""
        line = {"key": task.key, "label": task.label, "attempt": tried}
        line |= {name: reply[name] for name in ("status", "seconds", "where", "error") if name in reply}
        with (self.folder / "runs.jsonl").open("a", encoding="ascii") as stream:
            stream.write(json.dumps(line) + "\n")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(content).encode("ascii")).hexdigest()


def _take(stream: IO[str], folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system; results are written whole all the same
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InvalidInputError(f"folder = {folder}; allowed: one that no other run is using now") from None
