"""Imports go one way, slow libraries are loaded late, and the packages imported are ours."""

import ast
import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import v2g_env

ROOT = Path(v2g_env.__file__).resolve().parents[1]
SLOW = ("torch", "cvxpy", "pandas", "numba", "scipy", "matplotlib", "stable_baselines3", "highspy", "pygame")
PACKAGES = ("v2g_env", "baselines", "agents", "scripts")
NO_PROBLEM = ("core", "data", "__pycache__")

# library: the only files that may import it
ONLY_IN = {
    "highspy": ("baselines/solve.py",),
    "clarabel": ("baselines/solve.py",),
    "cvxpy": ("baselines/*/reference.py",),
    "torch": ("agents/*",),
    "stable_baselines3": ("agents/*",),
    "sb3_contrib": ("agents/*",),
    "safetensors": ("agents/*",),
    "matplotlib": ("agents/report.py", "agents/figures.py"),
    "pygame": ("*/render.py",),
    "pandas": ("v2g_env/data/*", "baselines/games/*", "agents/*"),
    "gymnasium": (
        "v2g_env/shells.py",
        "v2g_env/registration.py",
        "v2g_env/*/env.py",
        "v2g_env/wrappers.py",
        "v2g_env/rollout.py",
        "v2g_env/parallel_shell.py",
        "agents/*",
    ),
    "pettingzoo": ("v2g_env/parallel_shell.py", "agents/*"),
}
# files: what they must not import
FORBIDDEN = {
    "v2g_env/*": ("baselines", "agents", "scripts", "tests"),
    "baselines/*": ("agents", "scripts", "tests", "v2g_env.shells", "v2g_env.registration", "gymnasium"),
    "agents/*": ("scripts", "tests"),
    "v2g_env/core/*": (
        "scipy",
        "pathlib",
        "os",
        "io",
        "json",
        "csv",
        "gzip",
        "tomllib",
        "importlib",
        "shutil",
        "tempfile",
    ),
    "v2g_env/data/*": ("v2g_env.shells", "v2g_env.rollout", "v2g_env.metrics", "gymnasium"),
}
# a problem's files, all of them, each of which may import only those before it
LADDERS = {
    "parking_lot": ("instance", "assembly", "scenario", "kernels", "model", "party", "render", "env", "parallel_env"),
    "price_chain": ("chain", "instance", "scenario", "kernels", "model", "render", "env"),
    "scheduling": (
        "instance",
        "weather",
        "fleet",
        "scenario",
        "kernels",
        "model",
        "party",
        "render",
        "env",
        "parallel_env",
    ),
    "shared_battery": ("instance", "needs", "scenario", "kernels", "model", "party", "render", "env", "parallel_env"),
    "stackelberg": (
        "network",
        "game",
        "bids",
        "follower",
        "deviations",
        "signal",
        "calibration",
        "diary",
        "population",
        "instance",
        "scenario",
        "kernels",
        "model",
        "party",
        "render",
        "env",
        "parallel_env",
    ),
}


def modules_of(path):
    """Every module that a file imports, at the top, late, or for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def inside(module, package):
    return module == package or module.startswith(package + ".")


def problems(root):
    return sorted(p.name for p in (root / "v2g_env").iterdir() if p.is_dir() and p.name not in NO_PROBLEM)


def complaints_about(file, module, rooms):
    """Rules that ``file`` (posix path below the root) breaks by importing ``module``."""
    for library, places in ONLY_IN.items():
        if inside(module, library) and not any(fnmatch(file, place) for place in places):
            yield f"{library} belongs in {places}"
    for place, banned in FORBIDDEN.items():
        if fnmatch(file, place) and any(inside(module, name) for name in banned):
            yield f"{place} must not import {module}"
    package, _, rest = file.partition("/")
    if file.startswith("v2g_env/core/") and inside(module, "v2g_env") and not inside(module, "v2g_env.core"):
        yield "core imports nothing but core"
    if package == "baselines" and any(inside(module, f"v2g_env.{room}.env") for room in rooms):
        yield "baselines use instance and model, never env.py"
    yield from _between_rooms(package, rest, module, rooms)


def _between_rooms(package, rest, module, rooms):
    room = rest.split("/")[0].removesuffix(".py")
    if package in ("v2g_env", "baselines") and room in rooms:
        for other in rooms:
            if other != room and any(inside(module, f"{p}.{other}") for p in ("v2g_env", "baselines", "agents")):
                yield f"{room} must not import {other}"
    shared = room not in (*rooms, "data", "wrappers")  # a wrapper may serve one problem only
    if package == "v2g_env" and shared and any(inside(module, f"v2g_env.{r}") for r in rooms):
        yield "what is shared by all problems knows none of them"
    if package == "v2g_env" and room == "data" and any(inside(module, f"v2g_env.{r}") for r in rooms):
        yield "data knows no problem"
    if package == "v2g_env" and room in rooms:
        yield from _down_the_ladder(room, rest.split("/")[-1].removesuffix(".py"), module)


def _down_the_ladder(room, name, module):
    ladder = LADDERS.get(room, ())
    for later in ladder[ladder.index(name) + 1 :] if name in ladder else ():
        if inside(module, f"v2g_env.{room}.{later}"):
            yield f"{name} comes before {later}"


def broken_rules(root):
    rooms = problems(root)
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            file = path.relative_to(root).as_posix()
            for module in dict.fromkeys(modules_of(path)):
                found += [f"{file}: {module}: {text}" for text in complaints_about(file, module, rooms)]
    return found


def test_imports_go_one_way():
    assert broken_rules(ROOT) == []


def test_every_file_of_a_problem_has_its_place_on_the_ladder():
    files = {
        room: {p.stem for p in (ROOT / "v2g_env" / room).glob("*.py") if p.stem != "__init__"}
        for room in problems(ROOT)
    }
    assert files == {room: set(ladder) for room, ladder in LADDERS.items()}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("v2g_env/core/market.py", "import gymnasium"),
        ("v2g_env/core/market.py", "import pandas as pd"),
        ("v2g_env/core/market.py", "from pathlib import Path"),
        ("v2g_env/core/market.py", "import highspy"),
        ("v2g_env/core/market.py", "from v2g_env.parking_lot.instance import Instance"),
        ("v2g_env/core/market.py", "from v2g_env.rollout import rollout"),
        ("v2g_env/core/allocation.py", "from v2g_env.shared_battery.instance import Instance"),
        ("v2g_env/core/allocation.py", "def f():\n    from scipy.special import ndtri"),
        ("v2g_env/metrics.py", "def f():\n    from baselines import risk"),
        ("v2g_env/metrics.py", "import agents.compare"),
        ("v2g_env/rollout.py", "from v2g_env.parking_lot.model import Model"),
        ("v2g_env/metrics.py", "import gymnasium as gym"),
        ("v2g_env/parking_lot/model.py", "from gymnasium import spaces"),
        ("v2g_env/parking_lot/model.py", "from v2g_env.parking_lot.env import ParkingLotEnv"),
        ("v2g_env/parking_lot/instance.py", "from v2g_env.parking_lot import scenario"),
        ("v2g_env/parking_lot/env.py", "import pygame"),
        ("v2g_env/render.py", "from v2g_env.stackelberg.model import Model"),
        ("v2g_env/record.py", "from v2g_env.parking_lot.instance import Instance"),
        ("v2g_env/stackelberg/game.py", "from v2g_env.stackelberg.follower import respond"),
        ("v2g_env/stackelberg/instance.py", "from v2g_env.stackelberg.scenario import sample"),
        ("v2g_env/stackelberg/kernels.py", "def f():\n    from v2g_env.stackelberg import model"),
        ("v2g_env/shared_battery/needs.py", "from v2g_env.shared_battery.scenario import law"),
        ("v2g_env/shared_battery/needs.py", "from v2g_env.parking_lot.instance import Instance"),
        ("v2g_env/shared_battery/instance.py", "from v2g_env.shared_battery import needs"),
        ("v2g_env/shared_battery/model.py", "from v2g_env.shared_battery.render import week_frame"),
        ("v2g_env/shared_battery/env.py", "import pygame"),
        ("v2g_env/data/daily_energy.py", "from v2g_env.shared_battery.needs import from_days"),
        ("v2g_env/parking_lot/env.py", "from v2g_env.stackelberg.instance import Instance"),
        ("v2g_env/data/splits.py", "from v2g_env.parking_lot.instance import Instance"),
        ("baselines/risk.py", "from agents import config"),
        ("baselines/risk.py", "import highspy"),
        ("baselines/risk.py", "def f():\n    import cvxpy"),
        ("baselines/parking_lot/programs.py", "import clarabel"),
        ("baselines/parking_lot/programs.py", "from v2g_env.parking_lot import env"),
        ("baselines/parking_lot/programs.py", "from baselines.stackelberg import leader"),
        ("baselines/parking_lot/programs.py", "import gymnasium"),
        ("baselines/risk.py", "import torch"),
        ("baselines/risk.py", "import importlib\nimportlib.import_module('stable_baselines3')"),
        ("agents/compare.py", "import matplotlib.pyplot as plt"),
        ("scripts/study.py", "import torch"),
    ],
)
def test_rule_is_seen_to_fail(tmp_path, file, line):
    rooms = (f"v2g_env/{room}" for room in LADDERS)
    for name in ("v2g_env/core", "v2g_env/data", *rooms, "baselines", "agents"):
        (tmp_path / name).mkdir(parents=True)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("import numpy as np\n")
    assert broken_rules(tmp_path) == []
    path.write_text(line + "\n")
    assert len(broken_rules(tmp_path)) >= 1


def run(code, cwd):
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True).stdout)


def test_importing_the_package_loads_no_slow_library(tmp_path):
    code = "import sys, json, v2g_env; print(json.dumps(sorted(sys.modules)))"
    loaded = run(code, tmp_path)
    assert "gymnasium" in loaded
    assert [name for name in SLOW if name in loaded] == []
    rooms = tuple(f"v2g_env.{room}" for room in problems(ROOT))
    assert [name for name in loaded if name.startswith(rooms)] == []


def test_agents_and_baselines_are_the_ones_next_to_the_package(tmp_path):
    code = (
        "import json, v2g_env, baselines, agents; print(json.dumps([m.__file__ for m in (v2g_env, baselines, agents)]))"
    )
    homes = {Path(file).resolve().parents[1] for file in run(code, tmp_path)}
    assert homes == {ROOT}
