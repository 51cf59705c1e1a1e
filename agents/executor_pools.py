"""Where tasks run: in this process, or in worker processes of this machine. A pool never judges results."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from agents.executor_tasks import Task
from agents.executor_worker import ONE_THREAD, attempt

__all__ = ["Answer", "Pool", "Processes", "Serial"]

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from agents.executor_worker import main; main()"
_TASKS_PER_WORKER = 64  # then a fresh process, so that nothing can pile up in one
_LOOK_S = 0.5  # the driver shows its progress so often
_PATIENCE_S = 5.0


class Answer(NamedTuple):
    """What came of one attempt.

    Attributes:
        task: the task.
        reply: JSON text from ``attempt``; None if the worker died.
        reason: how it died.
    """

    task: Task
    reply: str | None
    reason: str = ""


class Pool(Protocol):
    """Something that carries out tasks; closed at the end, whatever happened."""

    @property
    def running(self) -> int:
        """Tasks handed over and not answered."""

    @property
    def free(self) -> bool:
        """Whether another task can be handed over now."""

    def submit(self, task: Task, folder: Path) -> None:
        """Hand over a task and the folder for its files."""

    def wait(self) -> list[Answer]:
        """Answers that have come; none after a short while without one."""

    def close(self) -> None:
        """Stop everything at once."""


class Serial:
    """Tasks in this process, one after the other. A task that kills its process kills the driver."""

    def __init__(self) -> None:
        self._next: tuple[Task, Path] | None = None

    @property
    def running(self) -> int:
        """0 or 1."""
        return int(self._next is not None)

    @property
    def free(self) -> bool:
        """Whether no task waits."""
        return self._next is None

    def submit(self, task: Task, folder: Path) -> None:
        """Take a task; it runs in ``wait``."""
        self._next = (task, folder)

    def wait(self) -> list[Answer]:
        """Run the task."""
        if self._next is None:
            return []
        task, folder = self._next
        reply = attempt(task.text, str(folder))
        self._next = None
        return [Answer(task, reply)]

    def close(self) -> None:
        """Nothing to stop."""


class _Worker:
    """A process that carries out tasks, and a thread that passes on its answers; None says that it is gone."""

    def __init__(self, number: int, logs: Path, answers: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        self.number, self.log, self.answers = number, logs / f"worker-{number}.log", answers
        self.task: Task | None = None
        self.taken, self.over = 0, False
        path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - "" is the working directory
        logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as stream:
            # a session of its own: Ctrl-C reaches the driver only, which decides; and its group can be killed whole
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=os.environ | ONE_THREAD,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._pass_on, daemon=True).start()

    def _pass_on(self) -> None:
        for line in self.process.stdout or ():
            if line.endswith("\n"):  # else killed in the middle of it
                self.answers.put((self, line))
        self.answers.put((self, None))

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def take(self, task: Task, folder: Path) -> None:
        self.task, self.taken = task, self.taken + 1
        order = json.dumps({"task": task.text, "folder": str(folder)})
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):  # gone: the answers will say so
                self.process.stdin.write(order + "\n")
                self.process.stdin.flush()

    def died(self) -> str:
        """How the process ended, after it did."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE_S)
        self.end()
        code = self.process.returncode
        names = {member.value: member.name for member in signal.Signals}
        how = f"killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"exit status {code}"
        return f"worker died ({how}); what it printed: {self.log.parent.name}/{self.log.name}"

    def end(self) -> None:
        """Kill the process and what it started."""
        self.over = True
        with suppress(ProcessLookupError, PermissionError):  # gone already
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()


class Processes:
    """Worker processes of this machine, each with one thread, started when needed and given task after task.

    Args:
        workers: at most so many at a time.
        logs: folder of what they print.
    """

    def __init__(self, workers: int, logs: Path) -> None:
        self._workers, self._logs = workers, logs
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._answers: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()

    @property
    def running(self) -> int:
        """Tasks handed over and not answered."""
        return len(self._busy)

    @property
    def free(self) -> bool:
        """Whether fewer tasks run than there may be workers."""
        return len(self._busy) < self._workers

    def submit(self, task: Task, folder: Path) -> None:
        """Give a task to an idle worker, or to a new one."""
        self._drop([worker for worker in self._idle if not worker.alive])
        if not self._idle:
            taken = {worker.number for worker in self._busy}
            number = next(number for number in range(1, self._workers + 1) if number not in taken)
            self._idle.append(_Worker(number, self._logs, self._answers))
        worker = self._idle.pop()
        self._busy.append(worker)
        worker.take(task, folder)

    def _drop(self, workers: list[_Worker]) -> None:
        for worker in workers:
            worker.end()
            self._idle.remove(worker)

    def wait(self) -> list[Answer]:
        """The next answer, if one comes soon."""
        try:
            worker, line = self._answers.get(timeout=_LOOK_S)
        except queue.Empty:
            return []
        if worker.over or worker.task is None:
            return []
        answer = Answer(worker.task, line) if line is not None else Answer(worker.task, None, worker.died())
        worker.task = None
        self._busy.remove(worker)
        if line is not None:
            self._idle.append(worker)
            if worker.taken >= _TASKS_PER_WORKER:
                self._drop([worker])
        return [answer]

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._busy + self._idle:
            worker.end()
        self._busy, self._idle = [], []
