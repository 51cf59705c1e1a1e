"""Certificates of all kinds of games hold, and nothing in them can be changed: not by a slip, not by a liar."""

import base64
import copy
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import baselines
from baselines.certificate import CertificateError, check, pack, unpack
from baselines.stackelberg.certify import digest
from baselines.stackelberg.programs import solve

KINDS = {
    "plain": {},
    "published": {"variant": "published"},
    "drivers own": {"owner": "drivers", "kappa": 2.0},
    "first period blocked": {"cap_usd_per_h": (0.0, 0.9, 0.9)},
    "half an hour": {"step_h": 0.5},
    "one driver": {"drivers": 1},
}


FEW = ("plain", "first period blocked")  # for tests that go through whole trees many times


def small(lab, number, changes):
    """A game of three periods whose tree has a few nodes, and its certificate as read from a file."""
    for seed in range(100 * number, 100 * number + 100):
        made = lab.game(seed, cap_usd_per_h=None, levels_usd_per_h=(0.0, 0.3, 0.9))
        if made.periods == 3:
            made = made.replace(**{"owner": "platform", "kappa": 1.0, "drivers": 20} | changes)
            chosen, value, _ = lab.enumerate_all(made)
            if chosen[value.argmax()].any() and value.max() > 0.0:
                found = solve(made, gap=1e-9, time_limit_s=20.0)
                if 3 <= found.nodes <= 60:
                    return made, json.loads(json.dumps(found.certificate, allow_nan=False))
    raise AssertionError("no such game")


@pytest.fixture(scope="module")
def cases(lab):
    return {name: small(lab, number, changes) for number, (name, changes) in enumerate(KINDS.items())}


def leaves(data, path=()):
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))
    else:
        yield path, data


def containers(data, path=()):
    if isinstance(data, dict | list):
        yield path
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from containers(data[key], (*path, key))


def changed(data, path, value):
    result = copy.deepcopy(data)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def signed(data):
    return data | {"digest": digest(data)}


def accepted(data, game=None):
    """The report, or None for a refusal with a reason; any other exception is passed on and fails the test."""
    try:
        return check(data, game)
    except CertificateError as error:
        assert len(str(error)) > 10
        return None


def retold(data, **columns):
    """The certificate with other columns of its tree, and a digest that fits."""
    tree = {name: pack(columns[name]) if name in columns else column for name, column in data["tree"].items()}
    return signed(data | {"tree": tree})


@pytest.mark.parametrize("name", KINDS)
def test_certificates_hold_and_bound_every_choice(lab, cases, name):
    game, data = cases[name]
    report = check(data, game)
    best = lab.enumerate_all(game)[1].max()
    size = 1e-9 * (1.0 + abs(best))
    assert data["bound_usd"] >= best - size
    assert abs(report.values["value_usd"] - best) <= size
    assert report.values["gap"] <= 1e-6
    assert check(data).claims == report.claims


def other_values(value):
    if isinstance(value, bool):
        return [int(value), not value, None]
    if isinstance(value, str):
        return [value + "0", value[:-1], 7]
    if isinstance(value, int):
        return [value + 1, float(value), bool(value), 1e999]
    if isinstance(value, float):
        return [np.nextafter(value, np.inf).item(), -1.0 - value, float("nan"), 10**400]
    return [0]


@pytest.mark.parametrize("name", KINDS)
def test_any_change_is_refused_by_the_digest(cases, name):
    game, data = cases[name]
    for path, value in leaves(data):
        others = other_values(value)
        for other in others:
            if other != value or type(other) is not type(value):
                assert accepted(changed(data, path, other), game) is None, (path, other)
    for path in containers(data):
        if path:
            for rubbish in (None, 3, "text", [], {}):
                part = data
                for key in path:
                    part = part[key]
                assert part == rubbish or accepted(changed(data, path, rubbish), game) is None, path
    assert accepted({**data, "more": 1}, game) is None
    for key in data:
        assert accepted({k: v for k, v in data.items() if k != key}, game) is None


@pytest.mark.parametrize("name", KINDS)
def test_a_liar_with_a_fitting_digest_cannot_claim_more(lab, cases, name):
    game, data = cases[name]
    size = 1e-6 * (1.0 + abs(data["value_usd"]))
    false = [
        {"bound_usd": data["bound_usd"] - size},
        {"bound_usd": data["bound_usd"] + size},
        {"value_usd": data["value_usd"] + size},
        {"value_usd": data["value_usd"] - size},
        {"gap": data["gap"] - 1e-8},
        {"gap": data["gap"] + 1e-8},
        {"multiplier": -1e-3},
        {"kind": "policy"},
        {"kind": "optimal"},
        {"instance_sha256": "0" * 64},
        {"levels": data["levels"][:-1]},
        {"levels": [*data["levels"], 0]},
        {"levels": [float(k) for k in data["levels"]]},
        {"levels": [bool(k) for k in data["levels"]]},
    ]
    for key in ("bound_usd", "value_usd", "gap", "multiplier"):
        for rubbish in (float("nan"), float("inf"), -float("inf"), 10**400, -1e308, True, None, "1", [], {}):
            false.append({key: rubbish})
    for t, k in enumerate(data["levels"]):
        for other in {-1, 0, 1, 2, 3, 10**30} - {k}:
            levels = [*data["levels"][:t], other, *data["levels"][t + 1 :]]
            if 0 <= other < game.choices[t]:
                worth = lab.evaluate(game, game.levels[levels][None])[0][0]
                if abs(worth - data["value_usd"]) <= 1e-8 * (1.0 + abs(worth)):
                    continue  # where nobody can plug in any rebate is as good
            false.append({"levels": levels})
    for change in false:
        assert accepted(signed(data | change), game) is None, change


@pytest.mark.parametrize("name", FEW)
def test_another_game_is_refused_with_its_own_hash_and_digest(cases, name):
    game, data = cases[name]
    others = [
        game.replace(drivers=game.drivers + 1),
        game.replace(price_usd_per_kw=tuple(1.01 * p + 1e-3 for p in game.price_usd_per_kw)),
        game.replace(levels_usd_per_h=(0.0, 0.3, 0.91)),
        game.replace(step_h=1.01 * game.step_h),
    ]
    for other in others:
        assert accepted(data, other) is None
        moved = signed(data | {"instance": other.to_dict(), "instance_sha256": other.hash})
        assert accepted(moved, game) is None
        # what the old tree proves of the new game is another number
        report = accepted(json.loads(json.dumps(moved)), other)
        if report is not None:  # a level that matters nowhere
            assert other is others[2]
            assert 2 not in data["levels"]
    for path, value in leaves(data["instance"]):
        if isinstance(value, float):
            assert accepted(signed(changed(data, ("instance", *path), value + 1e-3)), game) is None
        for rubbish in (float("nan"), None, [], "text"):
            if value != rubbish and path[-1] not in ("name", "cap_usd_per_h"):
                assert accepted(signed(changed(data, ("instance", *path), rubbish)), game) is None, path


@pytest.mark.parametrize("name", FEW)
def test_trees_that_do_not_cover_everything_are_refused(cases, name):
    game, data = cases[name]
    columns = {key: unpack(value).copy() for key, value in data["tree"].items()}
    count = len(columns["parent"])
    wrong = [{key: column[:-1] for key, column in columns.items()}]
    wrong += [
        {key: column[1:] for key, column in columns.items()},
        {key: column[:0] for key, column in columns.items()},
    ]
    wrong += [{key: column[:-1]} for key, column in columns.items()]
    wrong += [{key: column.astype(np.float64)} for key, column in columns.items() if column.dtype != np.float64]
    for k in range(count):
        for key in ("parent", "period", "level"):
            for other in (-2, -1, 0, 2, k, 2**31 - 1):
                if other != columns[key][k]:
                    column = columns[key].copy()
                    column[k] = other
                    wrong.append({key: column})
        flipped = columns["upper"].copy()
        flipped[k] = not flipped[k]
        wrong.append({"upper": flipped})
        for key, others in (("kappa", (np.nan, np.inf, -1.0)), ("rebates", (np.nan, np.inf))):
            for other in others:
                column = columns[key].copy()
                column[k] = other
                wrong.append({key: column})
    for change in wrong:
        report = accepted(retold(data, **change), game)
        # a split elsewhere that leaves a tree is another tree: fine if it proves the same bound
        assert report is None or set(change) <= {"level", "period"}
    assert accepted(retold(data), game) is not None


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("huge", [1e3, 1e150, 1.7e308])
def test_no_dual_point_proves_less_than_the_truth(cases, lab, name, huge):
    """Whatever stands in the tree, however absurd: what is accepted is true."""
    game, data = cases[name]
    best = lab.enumerate_all(game)[1].max()
    lie = data | {"bound_usd": data["value_usd"], "gap": 0.0}
    columns = {key: unpack(value).copy() for key, value in data["tree"].items()}
    one = {key: column[:1].copy() for key, column in columns.items()}
    one["period"][:], one["level"][:] = -1, -1
    for sign in (1.0, -1.0):
        for base in (columns, one):
            for key in ("kappa", "rebates"):
                if key == "rebates" or sign > 0.0:
                    report = accepted(retold(lie, **(base | {key: np.full_like(base[key], sign * huge)})), game)
                    assert report is None or report.values["bound_usd"] >= best - 1e-8 * (1.0 + abs(best))
                    assert report is None or base is columns  # the root alone proves nothing that good


@pytest.mark.parametrize("name", FEW)
def test_a_changed_dual_point_proves_the_same_bound_or_is_refused(cases, name):
    game, data = cases[name]
    columns = {key: unpack(value).copy() for key, value in data["tree"].items()}
    rng = np.random.default_rng(5)
    for _ in range(4):
        k = int(rng.integers(len(columns["parent"])))
        for key, step in (("kappa", 1.0), ("rebates", 0.05)):
            column = columns[key].copy()
            column[k] += step * rng.random(column[k].shape)
            report = accepted(retold(data, **{key: column}), game)
            assert report is None or report.values["bound_usd"] == data["bound_usd"]
            assert report is None or report.values["gap"] == pytest.approx(data["gap"], abs=1e-12)


def test_damaged_bytes_are_refused_even_with_a_fitting_digest(cases):
    game, data = cases["plain"]
    for name, packed in data["tree"].items():
        raw = zlib.decompress(base64.b64decode(packed["data"]))
        for other in (b"", raw[:-1], raw + b"0", raw * 2):
            text = base64.b64encode(zlib.compress(other)).decode()
            assert accepted(signed(changed(data, ("tree", name, "data"), text)), game) is None
        for text in ("", "no base64!", packed["data"][:-4], packed["data"] + "AAAA"[:3]):
            assert accepted(signed(changed(data, ("tree", name, "data"), text)), game) is None
        for shape in ([], [1], [-1], [2.0], [10**12], [True], "12"):
            assert accepted(signed(changed(data, ("tree", name, "shape"), shape)), game) is None
    assert accepted(signed(data | {"tree": {}}), game) is None


def test_the_tree_of_another_game_is_refused(cases):
    game, data = cases["plain"]
    for name, (other, foreign) in cases.items():
        if name != "plain":
            assert accepted(signed(data | {"tree": foreign["tree"]}), game) is None, other


def test_checking_needs_no_solver(cases, tmp_path):
    code = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        banned = ("highspy", "cvxpy", "clarabel", "torch", "pyscipopt", "scipy.optimize")
        if any(name == each or name.startswith(each + ".") for each in banned):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
from baselines.certificate import check, load
print(check(load(sys.argv[1])).kind)
"""
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(cases["plain"][1]))
    root = Path(baselines.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "optimal rebates", done.stderr
