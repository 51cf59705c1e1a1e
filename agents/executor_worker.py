"""Carrying out one task, the same way under every backend; and the process that takes one after the other.

The process speaks lines of JSON: it gets ``{"task": text, "folder": path}`` on standard input and answers with what
``attempt`` returns on what was its standard output. Whatever tasks print goes to standard error, a log file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agents.executor_tasks import canonical, plain, resolve

__all__ = ["ONE_THREAD", "attempt", "main"]

# read when the libraries are loaded, so a worker has them from its birth
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
_LONGEST = 20_000  # characters of a recorded error or traceback


def attempt(text: str, folder: str) -> str:
    """Carry out a task once.

    Args:
        text: the task's canonical JSON.
        folder: for its files; made, and removed again if nothing was written.

    Returns:
        JSON: "status" "done" with "value", or "failed" with "error" and "traceback" (of the task's own frames);
        "seconds" that it took, and "where" it ran.
    """
    begin = time.perf_counter()
    content = json.loads(text)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    try:
        with _one_thread():
            value = resolve(content["function"])(place, **content["arguments"])
        if not isinstance(value, dict):
            raise TypeError(f"value = {type(value).__name__}; allowed: a dict of JSON data")
        reply: dict[str, Any] = {"status": "done", "value": plain("value", value)}
    except (Exception, SystemExit) as error:
        own = error.__traceback__.tb_next if error.__traceback__ else None  # without this function's frame
        told = "".join(traceback.format_exception(type(error), error, own))
        reply = {"status": "failed", "error": _short(f"{type(error).__name__}: {error}"), "traceback": _short(told)}
    with contextlib.suppress(OSError):  # not empty
        place.rmdir()
    reply |= {"seconds": time.perf_counter() - begin, "where": f"{socket.gethostname()}:{os.getpid()}"}
    return canonical(reply)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n...\n{text[-_LONGEST // 2 :]}"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread in a process that was not started with one, as far as that is possible.

    Libraries that the task loads first read the environment (and keep to it); a torch that is loaded is told.
    NUMBA_NUM_THREADS must not change in a process where numba has run.
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD if not name.startswith("NUMBA")}
    os.environ.update(dict.fromkeys(before, "1"))
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(threads)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> None:
    """Take tasks from standard input until it is closed, which ends the process at once, whatever it is doing."""
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(waiting,), daemon=True).start()
    while True:
        order = json.loads(waiting.get())
        reply = attempt(order["task"], order["folder"])
        sys.stdout.flush()
        print(reply, file=answers, flush=True)  # noqa: T201 - the answer


def _listen(waiting: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        waiting.put(line)
    os._exit(0)  # the driver is gone, even if it was killed: no worker outlives it
