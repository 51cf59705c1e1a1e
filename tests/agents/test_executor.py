"""The executor: equal results everywhere, nothing done twice, and what becomes of tasks that raise, die or lie."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import v2g_env
from agents.executor import Task, TaskError, require_done, run
from agents.executor_code import code_identity, machine
from agents.executor_store import Store
from agents.executor_tasks import canonical, plain
from agents.executor_worker import attempt
from v2g_env.core.validate import InvalidInputError

ROOT = Path(v2g_env.__file__).resolve().parents[1]
HERE = "tests.agents.test_executor"
PATIENCE_S = 60.0


# What tasks do; workers import this file by its name.


def total(folder, seed, size):
    """Arithmetic whose last bit would show another order or number of threads; a file beside it."""
    values = np.random.default_rng(seed).standard_normal((size, size))
    (folder / "values.bin").write_bytes((values @ values.T).tobytes())
    return {"sum": float((values @ values.T).sum()), "seed": seed, "nothing": None}


def counted(folder, x, ledger, wait_for=""):
    """Write a line on start; wait until a file exists."""
    with Path(ledger).open("a") as stream:
        stream.write(f"{x} {os.getpid()}\n")
    await_that(lambda: not wait_for or Path(wait_for).exists())
    return {"x": x}


def die_until(folder, times, ledger):
    """Kill the own process the first few times, part of a file written."""
    (folder / "half").write_text("half")
    path = Path(ledger)
    before = len(path.read_text()) if path.exists() else 0
    if before < times:
        path.write_text("x" * (before + 1))
        os.write(1, b"last words")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"died": before}


def boom(folder, text, marker):
    """Raise unless a file exists."""
    if not Path(marker).exists():
        raise ValueError(text)
    return {"text": text}


def boom_after(folder, file):
    await_that(lambda: Path(file).exists() and Path(file).stat().st_size > 0)
    raise ValueError("now")


def threads(folder):
    torch = pytest.importorskip("torch")
    return {"threads": torch.get_num_threads()}


def numba_threads(folder):
    import numba

    return {"threads": numba.config.NUMBA_NUM_THREADS}


def leave(folder):
    sys.exit(7)


def odd(folder, kind):
    """Values that are no JSON data."""
    kinds = {"array": np.zeros(2), "set": {1}, "key": {1: 2}, "nan": float("nan"), "inf": [float("-inf")]}
    return [1, 2] if kind == "list" else {"value": kinds[kind]}


def where(folder, number, ledger, wait_for):
    """Write down the Ray node, and wait until a file exists."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    with Path(ledger).open("a") as stream:
        stream.write(f"{folder.name} {node} {os.getpid()}\n")
    await_that(lambda: Path(wait_for).exists())
    (folder / "file").write_text("there")
    return {"key": folder.name}


# Help


def await_that(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def task(name, **arguments):
    return Task(f"{HERE}:{name}", arguments)


def stored(folder):
    """Content of all results and of the tasks' files."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.json") if path.name != "tasks.json"}
    return found | {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/values.bin")}


def started(ledger):
    return [line.split()[0] for line in ledger.read_text().splitlines()] if ledger.exists() else []


def gone(pid):
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def quiet_ray():
    pytest.importorskip("ray", reason="ray is not installed (extra: cluster)")
    monkey = pytest.MonkeyPatch()
    monkey.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkey.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    yield
    monkey.undo()


# Same results everywhere

TOTALS = [task("total", seed=seed, size=40) for seed in range(5)]
MIXED = [*TOTALS, task("threads")]


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    monkey = pytest.MonkeyPatch()
    monkey.syspath_prepend(str(ROOT))
    folder = tmp_path_factory.mktemp("serial")
    outcomes = run(MIXED, folder)
    monkey.undo()
    return stored(folder), [dict(each.value) for each in outcomes]


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_what_serial_gives_to_the_last_byte_in_any_order(serial, tmp_path, workers):
    order = random.Random(workers).sample(MIXED, len(MIXED))
    outcomes = run(order, tmp_path, "processes", workers)
    assert [each.task for each in outcomes] == order
    assert stored(tmp_path) == serial[0]
    assert len(serial[0]) == 11
    assert [each.value for each in outcomes] == [serial[1][MIXED.index(each)] for each in order]


def test_ray_gives_what_serial_gives_to_the_last_byte(serial, tmp_path, quiet_ray):
    import ray

    outcomes = run(MIXED[::-1], tmp_path, "ray", 2)
    assert not ray.is_initialized()
    assert stored(tmp_path) == serial[0]
    assert [dict(each.value) for each in outcomes] == serial[1][::-1]


def test_a_node_without_the_disk_sends_the_files_with_the_reply(serial, tmp_path, quiet_ray):
    from agents.executor_ray import attempt_on_node

    (tmp_path / "here").touch()
    reply, files = attempt_on_node(TOTALS[0].text, str(tmp_path / "a"), "elsewhere", "", code_identity())
    assert not (tmp_path / "a").exists()
    direct, none = attempt_on_node(TOTALS[0].text, str(tmp_path / "b"), "here", "", code_identity())
    assert none is None
    assert files == {"values.bin": (tmp_path / "b" / "values.bin").read_bytes()}
    assert json.loads(reply)["value"] == json.loads(direct)["value"] == serial[1][0]


def test_a_node_without_the_disk_sends_no_more_than_allowed(tmp_path, monkeypatch):
    from agents import executor_ray

    monkeypatch.setattr(executor_ray, "_LARGEST_BYTES", 12_799)  # 40 x 40 numbers have 12,800
    reply, files = executor_ray.attempt_on_node(TOTALS[0].text, str(tmp_path / "a"), "elsewhere", machine(), "")
    assert files == {}
    assert json.loads(reply)["status"] == "failed"
    assert "12800 bytes" in json.loads(reply)["error"]


def test_a_node_with_other_code_refuses(tmp_path):
    from agents.executor_ray import attempt_on_node

    with pytest.raises(RuntimeError, match="another version"):
        attempt_on_node(TOTALS[0].text, str(tmp_path / "a"), "here", "another machine", "0" * 64)
    assert not (tmp_path / "a").exists()
    attempt_on_node(TOTALS[0].text, str(tmp_path / "a"), "here", machine(), "0" * 64)


def test_results_of_other_code_are_kept_and_said_to_be(tmp_path, monkeypatch):
    first = run(TOTALS, tmp_path)
    assert first[0].code == code_identity()
    said = []
    assert run(TOTALS, tmp_path, say=said.append) == first
    assert said == []
    monkeypatch.setattr("agents.executor.code_identity", lambda: "0" * 64)
    assert run(TOTALS, tmp_path, say=said.append) == first
    assert len(said) == 1
    assert said[0].startswith("5 results come from another version")


def test_without_ray_the_backend_is_refused_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInputError, match=r"v2g-env\[cluster\]"):
        run(TOTALS, tmp_path, "ray")


def test_equal_tasks_run_once_and_number_kinds_are_told_apart(tmp_path):
    ledger = tmp_path / "ledger"
    tasks = [task("counted", x=x, ledger=str(ledger)) for x in (1, 1, 1.0)]
    outcomes = run(tasks, tmp_path / "out")
    assert [each.value["x"] for each in outcomes] == [1, 1, 1.0]
    assert started(ledger) == ["1", "1.0"]


# What goes wrong


@pytest.mark.parametrize("backend", ["serial", "processes"])
def test_a_task_that_raises_is_recorded_and_the_others_go_on_and_it_is_tried_at_the_next_call(tmp_path, backend):
    marker, ledger, said = tmp_path / "marker", tmp_path / "ledger", []
    tasks = [
        task("boom", text="the reason", marker=str(marker)),
        task("counted", x=1, ledger=str(ledger)),
        task("leave"),
    ]
    outcomes = run(tasks, tmp_path / "out", backend, say=said.append)
    assert [each.status for each in outcomes] == ["failed", "done", "failed"]
    assert outcomes[0].error == "ValueError: the reason"
    assert "raise ValueError(text)" in outcomes[0].traceback
    assert "executor_worker" not in outcomes[0].traceback
    with pytest.raises(TaskError, match="the reason"):
        outcomes[0].value  # noqa: B018 - reading it is the test
    with pytest.raises(TaskError, match=r"2 of 3 tasks came to nothing:\n.*the reason\n.*SystemExit: 7"):
        require_done(outcomes)
    assert len(said) == 2
    again = Store(tmp_path / "out", tasks).read(tasks[0])
    assert again == outcomes[0]
    marker.touch()
    second = run(tasks, tmp_path / "out", backend)
    assert [each.status for each in second] == ["done", "done", "failed"]
    assert started(ledger) == ["1"]


def test_a_killed_worker_costs_its_own_task_only_which_is_tried_again(tmp_path):
    ledger, said = tmp_path / "ledger", []
    others = [task("counted", x=x, ledger=str(ledger)) for x in range(6)]
    dying = task("die_until", times=2, ledger=str(tmp_path / "deaths"))
    outcomes = run([*others[:3], dying, *others[3:]], tmp_path / "out", "processes", 2, retries=2, say=said.append)
    require_done(outcomes)
    assert outcomes[3].value == {"died": 2}
    assert sorted(started(ledger)) == ["0", "1", "2", "3", "4", "5"]
    assert len(said) == 2
    assert all("SIGKILL" in line for line in said)
    assert any("last words" in path.read_text() for path in (tmp_path / "out" / "logs").iterdir())


def test_a_task_that_always_dies_is_lost_after_its_retries_and_the_next_call_tries_it_again(tmp_path):
    deaths = tmp_path / "deaths"
    tasks = [task("die_until", times=3, ledger=str(deaths)), TOTALS[0]]
    outcomes = run(tasks, tmp_path / "out", "processes", 1, retries=1)
    assert [each.status for each in outcomes] == ["lost", "done"]
    assert "SIGKILL" in outcomes[0].error
    assert len(deaths.read_text()) == 2
    lines = [json.loads(line) for line in (tmp_path / "out" / "runs.jsonl").read_text().splitlines()]
    tried = [line["attempt"] for line in lines if line["key"] == tasks[0].key]
    assert tried == [1, 2]
    with pytest.raises(TaskError, match="1 of 2 tasks"):
        require_done(outcomes)
    require_done(run(tasks, tmp_path / "out", "processes", 1, retries=1))


@pytest.mark.parametrize(
    ("backend", "kind", "error"),
    [
        ("serial", "array", "value.value = .*allowed: JSON data"),
        ("serial", "set", "value.value = .*allowed: JSON data"),
        ("serial", "key", "key of value.value = 1; allowed: text"),
        ("serial", "nan", "value.value = nan; allowed: a finite number, or null"),
        ("processes", "nan", "value.value = nan; allowed: a finite number, or null"),
        ("serial", "inf", r"value.value\[0\] = -inf; allowed: a finite number"),
        ("serial", "list", "value = list; allowed: a dict"),
    ],
)
def test_a_value_that_json_would_lose_or_change_fails_its_task_and_names_the_place(tmp_path, backend, kind, error):
    (outcome,) = run([task("odd", kind=kind)], tmp_path, backend, 1)
    assert outcome.status == "failed"
    with pytest.raises(TaskError, match=error):
        require_done([outcome])


@pytest.mark.parametrize(
    "name",
    [
        "os:getcwd",
        "numpy.linalg:norm",
        "agents_evil:run",
        "testsuite:run",
        "agents.executor",
        "agents.executor:run.__globals__",
        "agents.executor:_drive",
        ".agents:run",
        "agents..executor:run",
        "agents/executor:run",
        "agents.executor:run\n",
        7,
    ],
)
def test_a_function_outside_the_project_or_no_name_at_all_is_refused(name):
    with pytest.raises(InvalidInputError, match="function = "):
        Task(name)


@pytest.mark.parametrize(
    "name",
    [
        "agents.nowhere:run",
        "agents.executor:nothing",
        "agents.executor:Task",
        "agents.executor:BACKENDS",
        "agents.executor:resolve",  # imported there
        "agents.executor:os",
    ],
)
def test_an_unknown_name_or_one_that_the_module_only_imports_is_refused_before_anything_runs(tmp_path, name):
    ledger = tmp_path / "ledger"
    with pytest.raises(InvalidInputError, match="function = "):
        run([task("counted", x=1, ledger=str(ledger)), Task(name)], tmp_path / "out")
    assert not ledger.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [{"x": float("nan")}, {"x": np.zeros(1)}, {"x": {1: 2}}, {"x": Path()}, {"folder": "a"}, {1: 2}, [1]],
    ids=["nan", "array", "key", "path", "folder", "number", "list"],
)
def test_arguments_that_are_no_json_data_or_are_called_folder_are_refused(arguments):
    with pytest.raises(InvalidInputError):
        Task(f"{HERE}:total", arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "threads"},
        {"workers": 2},
        {"backend": "processes", "workers": 0},
        {"backend": "processes", "workers": True},
        {"retries": -1},
        {"backend": "processes", "address": "auto"},
    ],
)
def test_wrong_options_are_refused(tmp_path, options):
    with pytest.raises(InvalidInputError):
        run(TOTALS, tmp_path, **options)


# The folder


def test_a_damaged_or_forged_result_is_done_again_and_says_so(tmp_path):
    ledger = tmp_path / "ledger"
    tasks = [task("counted", x=x, ledger=str(ledger)) for x in range(6)]
    out = tmp_path / "out"
    first = run(tasks, out)
    files = [out / f"{each.key}.json" for each in tasks]
    before = [path.read_bytes() for path in files]
    files[0].write_bytes(before[0][:-20])
    files[1].write_bytes(before[1].replace(b'"x": 1', b'"x": 2'))
    files[2].write_bytes(before[3])  # an intact result of another task
    files[3].write_bytes(b"\xff\x00")
    files[4].write_bytes(b"[" * 100_000)
    said = []
    again = run(tasks, out, say=said.append)
    assert again == first
    assert [path.read_bytes() for path in files] == before
    assert len(said) == 5
    assert sorted(started(ledger)) == sorted("012345" + "01234")


def test_results_whose_files_are_not_intact_are_done_again(tmp_path):
    first = run(TOTALS[:2], tmp_path)
    (first[0].folder / "values.bin").unlink()
    assert not (run(TOTALS[:2], tmp_path)[0].folder / "values.bin").exists()
    said = []
    run(TOTALS[:2], tmp_path, intact=lambda each: (each.folder / "values.bin").exists(), say=said.append)
    assert (first[0].folder / "values.bin").exists()
    assert len(said) == 1


def test_a_folder_of_other_tasks_is_refused_unless_resumed_and_then_common_results_are_used(tmp_path):
    ledger, out = tmp_path / "ledger", tmp_path / "out"
    tasks = [task("counted", x=x, ledger=str(ledger)) for x in range(3)]
    run(tasks[:2], out)
    with pytest.raises(InvalidInputError, match="--resume"):
        run(tasks, out)
    run(tasks, out, resume=True)
    assert started(ledger) == ["0", "1", "2"]
    run(tasks[::-1], out)
    with pytest.raises(InvalidInputError, match="--resume"):
        run(tasks[:2], out)
    assert started(ledger) == ["0", "1", "2"]


def test_a_folder_of_something_else_is_refused_even_if_resumed_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("text")
    for resume in (False, True):
        with pytest.raises(InvalidInputError, match=r"tasks\.json"):
            run(TOTALS, tmp_path, resume=resume)
    with pytest.raises(InvalidInputError, match="a folder"):
        run(TOTALS, tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_in_use_is_refused(tmp_path):
    pytest.importorskip("fcntl", reason="no file locks on this system")
    with Store(tmp_path, TOTALS).lock(), pytest.raises(InvalidInputError, match="no other run"):
        run(TOTALS, tmp_path)


# Interruption

DRIVER = """
import sys
from agents.executor import Task, run
folder, ledger, release, backend = sys.argv[1:]
tasks = [Task("{here}:counted", {{"x": x, "ledger": ledger, "wait_for": release if x > 1 else ""}}) for x in range(4)]
run(tasks, folder, backend, {{"serial": 1, "processes": 2}}[backend])
"""


def begin(tmp_path, backend):
    command = [sys.executable, "-c", DRIVER.format(here=HERE), *(str(tmp_path / name) for name in ("out", "ledger"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(tmp_path / "release"), backend], stderr=subprocess.PIPE, env=environment, cwd=ROOT
    )


def busy(tmp_path, count):
    """Wait until so many tasks have started and two results are there."""
    ledger = tmp_path / "ledger"
    await_that(lambda: len(started(ledger)) == count and len(list((tmp_path / "out").glob("?" * 64 + ".json"))) == 2)
    return [int(line.split()[1]) for line in ledger.read_text().splitlines()]


@pytest.mark.parametrize(("backend", "count"), [("serial", 3), ("processes", 4)])
def test_ctrl_c_keeps_results_kills_workers_and_the_next_call_does_only_the_rest(tmp_path, backend, count):
    driver = begin(tmp_path, backend)
    pids = busy(tmp_path, count)
    driver.send_signal(signal.SIGINT)
    told = driver.communicate(timeout=PATIENCE_S)[1].decode()
    assert driver.returncode == -signal.SIGINT
    assert told.rstrip().endswith("KeyboardInterrupt")
    await_that(lambda: all(map(gone, pids)))
    assert not list((tmp_path / "out").glob("*.part"))
    (tmp_path / "release").touch()
    second = begin(tmp_path, backend)
    assert second.wait(PATIENCE_S) == 0
    second.communicate()
    counts = [started(tmp_path / "ledger").count(str(x)) for x in range(4)]
    assert counts == [1, 1, 2, 2 if backend == "processes" else 1]


def test_workers_are_killed_when_the_driver_stops_but_lives_on(tmp_path):
    ledger = tmp_path / "ledger"
    tasks = [
        task("counted", x=1, ledger=str(ledger), wait_for=str(tmp_path / "never")),
        task("boom_after", file=str(ledger)),
    ]

    def stop(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tasks, tmp_path / "out", "processes", 2, say=stop)
    pid = int(ledger.read_text().split()[1])
    assert gone(pid)


def test_no_worker_outlives_a_driver_that_is_killed(tmp_path):
    driver = begin(tmp_path, "processes")
    pids = busy(tmp_path, 4)
    assert driver.pid not in pids
    driver.kill()
    driver.communicate(timeout=PATIENCE_S)
    await_that(lambda: all(map(gone, pids)))


# A cluster


def test_a_killed_node_of_a_ray_cluster_costs_only_its_own_tasks(tmp_path, quiet_ray):
    import ray
    from ray.cluster_utils import Cluster

    ledger, release = tmp_path / "ledger", tmp_path / "release"
    tasks = [task("where", number=x, ledger=str(ledger), wait_for=str(release)) for x in range(6)]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        cluster.wait_for_nodes()

        def kill():
            await_that(lambda: len({line.split()[1] for line in lines(ledger)}) == 2)
            pids = [int(line.split()[2]) for line in lines(ledger) if line.split()[1] == node.node_id]
            cluster.remove_node(node, allow_graceful=False)
            await_that(lambda: all(map(gone, pids)))  # a worker outlives its node for a moment
            release.touch()

        killer = threading.Thread(target=kill)
        killer.start()
        said = []
        outcomes = run(tasks, tmp_path / "out", "ray", say=said.append)
        killer.join()
        assert ray.is_initialized()
    finally:
        ray.shutdown()
        cluster.shutdown()
    require_done(outcomes)
    assert [each.value["key"] for each in outcomes] == [each.key for each in tasks]
    assert all((each.folder / "file").read_text() == "there" for each in outcomes)
    ran = [line.split() for line in lines(ledger)]
    on_killed = [key for key, place, _ in ran if place == node.node_id]
    assert len(on_killed) == 1
    assert len(said) == 1
    again = {key for key, _, _ in ran if [each for each, _, _ in ran].count(key) > 1}
    assert again == set(on_killed)
    assert len(ran) == len(tasks) + 1


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


# Plain data

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(DATA)
def test_plain_data_survives_canonical_json_and_key_order_does_not_matter(value):
    text = canonical(plain("value", value))
    assert text.isascii()
    back = json.loads(text)
    assert back == value
    assert canonical(back) == text
    if isinstance(value, dict):
        assert canonical(dict(reversed(value.items()))) == text


def test_data_that_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidInputError, match="levels"):
        plain("value", value)


def test_a_task_in_a_process_with_many_torch_threads_runs_with_one_and_leaves_the_setting(tmp_path):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reply = json.loads(attempt(task("threads").text, str(tmp_path / "a")))
        assert reply["value"] == {"threads": 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert not (tmp_path / "a").exists()


def test_a_worker_process_has_one_thread_whatever_the_driver_has(tmp_path, monkeypatch):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "3")
    outcomes = run([task("threads"), task("numba_threads")], tmp_path, "processes", 1)
    assert [each.value for each in outcomes] == [{"threads": 1}, {"threads": 1}]
