"""What a task costs beyond its own work, under every backend."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agents.executor import BACKENDS, Task, require_done, run
from v2g_env.core.validate import number

__all__ = ["bench_lines", "nothing"]


def nothing(folder: Path, label: int) -> dict[str, Any]:
    """A task that does nothing."""
    return {"label": label}


def bench_lines(tasks: int = 200, workers: int = 2) -> Iterator[str]:
    """Seconds per empty task of each backend that is installed, a line each.

    The cost of a task is the time between the first and the last result file, without those of the first ``workers``
    tasks, which wait for their workers; the start is the time until these are there.

    Args:
        tasks: empty tasks to measure with.
        workers: of the backends that have any.
    """
    number("tasks", tasks, 1, 100_000, integer=True)
    for backend in BACKENDS:
        if backend == "ray" and find_spec("ray") is None:
            yield "ray: not installed"
            continue
        start_s, task_s = _seconds(backend, tasks, workers if backend != "serial" else 1)
        yield f"{backend}: {1000.0 * task_s:.1f} ms a task, {start_s:.2f} s to start {_what(backend, workers)}"


def _what(backend: str, workers: int) -> str:
    return "in this process" if backend == "serial" else f"{workers} workers"


def _seconds(backend: str, tasks: int, workers: int) -> tuple[float, float]:
    listed = [Task("agents.executor_bench:nothing", {"label": label}) for label in range(tasks + workers)]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.time()
        outcomes = run(listed, folder, backend, workers)
        require_done(outcomes)
        written = sorted(each.folder.with_suffix(".json").stat().st_mtime for each in outcomes)
    started = written[workers - 1]
    return started - begin, (written[-1] - started) / tasks
