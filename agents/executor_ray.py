"""Where tasks run: on a Ray cluster, or on Ray processes of this machine. Ray (the extra "cluster") is optional.

A node that does not see the results folder works in a folder of its own and sends the files back with the value, so
machines need no shared disk; they need the same version of this project and its
libraries, which is checked. Ray's own retries are off: they do not count
workers killed for memory, and every backend shall count alike. Whoever may submit to a Ray cluster may run any code on
it: connect to your own only.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from agents.executor_code import code_identity, machine
from agents.executor_pools import Answer
from agents.executor_tasks import Task, canonical
from agents.executor_worker import ONE_THREAD, attempt
from baselines.certificate import write_bytes
from v2g_env.core.validate import InvalidInputError, require

__all__ = ["RayPool", "attempt_on_node"]

_TASKS_PER_WORKER = 64
_LOOK_S = 0.5
_STORE_BYTES = 200_000_000  # of a local Ray: values are small
_LARGEST_BYTES = 1_000_000_000  # of the files of a task that are sent
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def attempt_on_node(text: str, folder: str, token: str, home: str, code: str) -> tuple[str, dict[str, bytes] | None]:
    """Carry out a task on whatever node this is.

    Args:
        text: the task's canonical JSON.
        folder: for its files, on the driver's machine.
        token: name of a file beside ``folder`` that says, where it is seen, that this is the same disk.
        home: ``machine`` of the driver.
        code: ``code_identity`` of the driver; another machine has to have the same.

    Returns:
        The reply of ``attempt``, and the files by relative path; None if they are in ``folder`` already.

    Raises:
        RuntimeError: if another machine has other code: its results could differ.
    """
    if machine() != home and code_identity() != code:
        raise RuntimeError(f"{socket.gethostname()} has another version of this project or its libraries")
    if (Path(folder).parent / token).is_file():
        return attempt(text, folder), None
    with tempfile.TemporaryDirectory(prefix="v2g-task-") as own:
        reply = attempt(text, os.path.join(own, "files"))  # noqa: PTH118 - a text is wanted
        paths = [path for path in Path(own, "files").rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(path.stat().st_size for path in paths)
        if size > _LARGEST_BYTES:
            error = f"files of the task = {size} bytes; allowed: {_LARGEST_BYTES} without a shared disk"
            return canonical({"status": "failed", "error": error, "traceback": ""}), {}
        return reply, {path.relative_to(Path(own, "files")).as_posix(): path.read_bytes() for path in paths}


class RayPool:
    """Tasks on Ray, one processor each.

    A Ray that this process has started or joined before is used as it is and left running; otherwise one is joined
    (``address``) or started here, without dashboard, usage reports or output, and shut down by ``close``.

    Args:
        folder: of the results.
        workers: at most so many tasks at a time; None: as many as the cluster has processors at that moment.
        address: of a cluster ("host:6379", "ray://host:10001", "auto"); None: this machine.

    Raises:
        InvalidInputError: if Ray is not installed or the cluster does not answer.
    """

    def __init__(self, folder: Path, workers: int | None, address: str | None) -> None:
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        try:
            import ray
        except ImportError:
            wanted = "serial or processes; ray needs: pip install 'v2g-env[cluster]'"
            raise InvalidInputError(f"backend = 'ray'; allowed: {wanted}") from None
        self._ray = ray
        self._workers = workers
        self._mine = not ray.is_initialized()
        self._temporary: str | None = None
        self._tasks: dict[Any, tuple[Task, Path]] = {}
        token = f".disk-{secrets.token_hex(16)}"
        self._driver = (token, machine(), code_identity())
        self._mark = folder / token
        try:
            if self._mine:
                self._begin(workers, address)
            self._mark.touch()
        except BaseException:
            self.close()
            raise
        options = {"num_cpus": 1, "max_retries": 0, "max_calls": _TASKS_PER_WORKER}
        self._remote = ray.remote(**options)(attempt_on_node).options(runtime_env={"env_vars": ONE_THREAD})

    def _begin(self, workers: int | None, address: str | None) -> None:
        quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
        if address is not None:
            try:
                self._ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InvalidInputError(
                    f"address = {address!r}; allowed: a Ray cluster that answers ({error})"
                ) from None
            return
        self._temporary = tempfile.mkdtemp(prefix="v2g-ray-")  # short: its sockets' paths have a limit
        self._ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            _temp_dir=self._temporary,
            **quiet,
        )

    @property
    def running(self) -> int:
        """Tasks handed over and not answered."""
        return len(self._tasks)

    @property
    def free(self) -> bool:
        """Whether another task can be handed over: nodes may have joined or gone."""
        limit = self._workers or max(1, int(self._ray.cluster_resources().get("CPU", 0)))
        return len(self._tasks) < limit

    def submit(self, task: Task, folder: Path) -> None:
        """Hand a task to Ray."""
        self._tasks[self._remote.remote(task.text, str(folder), *self._driver)] = (task, folder)

    def wait(self) -> list[Answer]:
        """All answers that have come, after a short while at most."""
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=_LOOK_S)
        if ready:
            ready, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        return [self._answer(reference) for reference in ready]

    def _answer(self, reference: Any) -> Answer:
        task, folder = self._tasks.pop(reference)
        try:
            reply, files = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # a worker or node died, or has another version of the project
            lines = str(error).strip().splitlines() or [""]
            return Answer(task, None, f"Ray worker gave up ({type(error).__name__}: {lines[-1]:.300})")
        for name, content in (files or {}).items():
            path = (folder / name).resolve()
            require(path.is_relative_to(folder.resolve()), "file of a task", name, "a path below its folder")
            write_bytes(path, content)
        return Answer(task, reply)

    def close(self) -> None:
        """Stop running tasks; shut Ray down if it was begun here."""
        self._mark.unlink(missing_ok=True)
        for reference in self._tasks:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(reference, force=True)
        self._tasks = {}
        if self._mine:
            self._ray.shutdown()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
