"""One executor for many tasks: in this process, in processes of this machine, or on a Ray cluster.

Results are the same whatever the backend, the order and the number of workers: a task is a pure function of plain data
(see ``Task``), its result is stored under the hash of both, and what is stored is not done again. A task that raises is
recorded and the others go on; a worker that dies costs the task it had, which is tried again. Every worker has one
thread. "Same" means same to the last bit on machines with the same libraries and kind of processor.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from agents.executor_code import code_identity
from agents.executor_pools import Answer, Pool, Processes, Serial
from agents.executor_store import Outcome, Store, TaskError
from agents.executor_tasks import Task, resolve
from v2g_env.core.validate import InvalidInputError, number, require

__all__ = ["BACKENDS", "Outcome", "Task", "TaskError", "require_done", "run"]

BACKENDS = ("serial", "processes", "ray")
_SHOWN = 10  # failed tasks named in a summary


def run(
    tasks: Iterable[Task],
    folder: str | Path,
    backend: str = "serial",
    workers: int | None = None,
    *,
    retries: int = 2,
    resume: bool = False,
    address: str | None = None,
    intact: Callable[[Outcome], bool] | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: bool = False,
) -> tuple[Outcome, ...]:
    """Carry out tasks, or take their results from the folder.

    A second call with the same tasks and folder does what is left: tasks without result, those that failed or were
    lost, and those whose result file is damaged. Ctrl-C kills the workers; what was finished is kept.

    Args:
        tasks: in any order; equal ones are carried out once.
        folder: of the results; a new or empty one, or that of the same tasks.
        backend: "serial", "processes" or "ray".
        workers: tasks at a time; None: one (serial), as many as this process may use processors (processes), as the
            cluster has processors (ray).
        retries: a task whose worker died is tried so many times again before it is lost.
        resume: accept a folder that holds results of other tasks: they are kept, and those in common used.
        address: of a Ray cluster; None: this machine.
        intact: whether a stored result's files are all there; where not, the task is carried out again.
        say: receives a line for everything that went wrong or is to be known.
        progress: show a bar with tasks done, running and failed, and the time left.

    Returns:
        What became of each task, in the order given; ``require_done`` turns failures into one error.

    Raises:
        InvalidInputError: before anything runs, for a foreign or unknown function, a folder that belongs to something
            else or is in use, a wrong option, a cluster that does not answer.
    """
    listed = list(tasks)
    require(all(isinstance(task, Task) for task in listed), "tasks", listed, "Task objects")
    _check(backend, workers, retries, address)
    for function in sorted({task.function for task in listed}):
        resolve(function)
    store = Store(folder, listed, resume)
    with store.lock():
        outcomes = _stored(store, listed, intact, say)
        todo = list({task.key: task for task in listed if task.key not in outcomes}.values())
        if todo:
            pool = _pool(backend, workers, address, store.folder)
            try:
                _drive(pool, todo, store, retries, outcomes, _Bar(progress, len(outcomes), len(todo), say))
            finally:
                pool.close()
    return tuple(outcomes[task.key] for task in listed)


def require_done(outcomes: Sequence[Outcome]) -> None:
    """Raise one TaskError that names the tasks that came to nothing, if there are any."""
    bad = list({each.task.key: each for each in outcomes if each.status != "done"}.values())
    if not bad:
        return
    lines = [f"{len(bad)} of {len({each.task.key for each in outcomes})} tasks came to nothing:"]
    lines += [f"  {each.task.title} {each.status}: {_first_line(each.error)}" for each in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"  and {len(bad) - _SHOWN} more")
    lines.append(f"tracebacks are in {bad[0].folder.parent}; another call tries them again")
    raise TaskError("\n".join(lines))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]


def _check(backend: str, workers: int | None, retries: int, address: str | None) -> None:
    require(backend in BACKENDS, "backend", backend, ", ".join(BACKENDS))
    if workers is not None:
        number("workers", workers, 1, 1 if backend == "serial" else 100_000, integer=True)
    number("retries", retries, 0, 1000, integer=True)
    require(address is None or backend == "ray", "address", address, "none but for the backend ray")


def _stored(
    store: Store, tasks: Sequence[Task], intact: Callable[[Outcome], bool] | None, say: Callable[[str], None]
) -> dict[str, Outcome]:
    found = {}
    for task in tasks:
        try:
            outcome = store.read(task)
        except InvalidInputError as error:
            say(f"done again: {error}")
            continue
        if outcome is None or outcome.status != "done":
            continue
        if intact is not None and not intact(outcome):
            say(f"done again: files of {task.title} in {outcome.folder} are missing or damaged")
            continue
        found[task.key] = outcome
    foreign = sum(each.code != code_identity() for each in found.values())
    if foreign:
        say(f"{foreign} results come from another version of the code and are kept; a new folder does them again")
    return found


def _pool(backend: str, workers: int | None, address: str | None, folder: Path) -> Pool:
    if backend == "serial":
        return Serial()
    if backend == "processes":
        mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return Processes(workers or mine, folder / "logs")
    from agents.executor_ray import RayPool

    return RayPool(folder, workers, address)


def _drive(pool: Pool, todo: list[Task], store: Store, retries: int, outcomes: dict[str, Outcome], bar: _Bar) -> None:
    waiting, tried = deque(todo), Counter[str]()
    with bar:
        while waiting or pool.running:
            while waiting and pool.free:
                task = waiting.popleft()
                tried[task.key] += 1
                pool.submit(task, store.place(task))
            bar.show(pool.running)
            for answer in pool.wait():
                key = answer.task.key
                reply = _judge(answer, tried[key])
                store.note(answer.task, tried[key], reply)
                if reply["status"] == "lost" and tried[key] <= retries:
                    bar.say(f"{answer.task.title}: {answer.reason}; tried again")
                    waiting.appendleft(answer.task)
                    continue
                outcomes[key] = store.write(answer.task, reply)
                bar.count(outcomes[key])
        bar.show(pool.running)


def _judge(answer: Answer, tried: int) -> dict[str, Any]:
    if answer.reply is None:
        return {"status": "lost", "error": f"{answer.reason} (attempt {tried})"}
    return json.loads(answer.reply)  # type: ignore[no-any-return]


class _Bar:
    """The progress of all tasks; without ``progress`` only the lines about what went wrong."""

    def __init__(self, progress: bool, done: int, todo: int, say: Callable[[str], None]) -> None:
        self._say, self._bad = say, 0
        self._shown = ""
        self._bar: Any = None
        if progress:
            from tqdm import tqdm

            # no smoothing: with several workers, tasks end in bursts
            self._bar = tqdm(total=done + todo, initial=done, unit="task", dynamic_ncols=True, smoothing=0.0)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, text: str) -> None:
        with nullcontext() if self._bar is None else self._bar.external_write_mode():
            self._say(text)

    def show(self, running: int) -> None:
        if self._bar is None:
            return
        text = f"{running} running, {self._bad} failed"
        if text != self._shown or sys.stderr.isatty():  # a log file needs no ticking clock
            self._shown = text
            self._bar.set_postfix_str(text)

    def count(self, outcome: Outcome) -> None:
        if outcome.status != "done":
            self._bad += 1
            self.say(f"{outcome.task.title} {outcome.status}: {_first_line(outcome.error)}")
        if self._bar is not None:
            self._bar.update()
