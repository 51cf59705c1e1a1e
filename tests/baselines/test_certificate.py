from __future__ import annotations

import ast
import base64
import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import baselines
from baselines import certificate as module
from baselines.certificate import CertificateError, check, load, pack, save, unpack, write_text
from baselines.parking_lot.programs import solve
from v2g_env.parking_lot.instance import Instance

DTYPES = ("<f8", ">f8", "<f4", "<i8", ">i4", "<i4", "|b1")


@pytest.fixture(scope="module")
def certified():
    return solve(Instance(), n_samples=20, seed=3, beta=1e-2).certificate


@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(np.dtype(d), hnp.array_shapes(min_dims=0, min_side=0))))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_bit_survives_packing_and_json(values):
    back = unpack(json.loads(json.dumps(pack(values), allow_nan=False)))
    assert back.shape == values.shape
    assert back.dtype == values.dtype.newbyteorder("<")
    assert back.tobytes() == values.astype(back.dtype).tobytes()


def test_views_that_are_not_contiguous_are_packed_in_their_own_order():
    values = np.arange(24.0).reshape(4, 6)[::-2, ::3].T
    assert np.array_equal(unpack(pack(values)), values)


@pytest.mark.parametrize(
    "dtype", ["|O", "O", "<c16", "<U4", "|V8", "<M8[s]", ">f8", "f8,O", "<f2", "", None, ["<f8"], 8]
)
def test_only_plain_numbers_come_out(dtype):
    raw = base64.b64encode(zlib.compress(bytes(8))).decode()
    with pytest.raises(CertificateError, match="dtype"):
        unpack({"dtype": dtype, "shape": [1], "data": raw})


@pytest.mark.parametrize("values", [np.array([object()]), np.array(["a"]), np.array([1j]), np.array([1], np.uint8)])
def test_what_cannot_come_out_is_not_packed(values):
    with pytest.raises((CertificateError, TypeError)):
        pack(values)


def damaged():
    good = pack(np.arange(6.0).reshape(2, 3))
    raw = base64.b64decode(good["data"])
    yield "shape too large", good | {"shape": [2, 4]}
    yield "shape too small", good | {"shape": [5]}
    yield "negative shape", good | {"shape": [-2, -3]}
    yield "text as shape", good | {"shape": "23"}
    yield "broken numbers in the shape", good | {"shape": [2.5, 3]}
    yield "no shape", {k: v for k, v in good.items() if k != "shape"}
    yield "no data", {k: v for k, v in good.items() if k != "data"}
    yield "no base64", good | {"data": "*" + good["data"][1:]}
    yield "cut base64", good | {"data": good["data"][:-3]}
    yield "cut data", good | {"data": base64.b64encode(raw[:-6]).decode()}
    yield "flipped bit", good | {"data": base64.b64encode(raw[:9] + bytes([raw[9] ^ 8]) + raw[10:]).decode()}
    yield "not compressed", good | {"data": base64.b64encode(bytes(48)).decode()}
    yield "one byte more", good | {"data": base64.b64encode(zlib.compress(bytes(49))).decode()}
    yield "empty", good | {"data": ""}
    yield "no text", good | {"data": 7}
    yield "nothing", good | {"data": None}
    yield "not ASCII", good | {"data": "é" + good["data"][1:]}


@pytest.mark.parametrize("packed", [p for _, p in damaged()], ids=[name for name, _ in damaged()])
def test_damaged_arrays_are_refused_by_name(packed):
    with pytest.raises(CertificateError):
        unpack(packed)


FILES = {
    "empty": b"",
    "blank": b" \n",
    "truncated": b'{"format": "v2g-env certificate 1", "plan_kwh": [0.0, 1.',
    "text": b"certificate",
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "pickle": pickle.dumps({"format": 1}),
    "deeply nested": b"[" * 200_000,
    "endless number": b'{"a": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(CertificateError):
        load(path)


def test_a_saved_certificate_is_loaded_unchanged(tmp_path, certified):
    path = tmp_path / "new" / "folder" / "c.json"
    save(certified, path)
    assert load(path) == json.loads(json.dumps(certified))
    assert check(load(path), Instance()).kind == "scenario program"
    assert [p.name for p in path.parent.iterdir()] == ["c.json"]


def test_a_certificate_with_a_number_that_is_none_is_not_written(tmp_path, certified):
    path = tmp_path / "c.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON compliant"):
        save(certified | {"value_usd": float("nan")}, path)
    assert path.read_text() == "old"


def test_a_crash_while_writing_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "x" * 100_000 + "\ud800")
    genuine = os.fdopen

    def dying(*args, **keywords):
        stream = genuine(*args, **keywords)
        write = stream.write

        class Half:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                stream.close()

            def write(self, text):
                write(text[: len(text) // 2])
                stream.flush()
                raise KeyboardInterrupt

        return Half()

    monkeypatch.setattr(module.os, "fdopen", dying)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new content")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_a_crash_while_renaming_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text("old")

    def refuse(self, target):
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize("thing", [None, [], "text", 3, [("format", module.FORMAT)]])
def test_what_is_no_json_object_is_refused(thing):
    with pytest.raises(CertificateError, match="JSON object"):
        check(thing)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "v2g-env certificate 0"),
        ("format", None),
        ("format", []),
        ("problem", "shared_battery"),
        ("problem", "parking_lot.verify"),
        ("problem", ["parking_lot"]),
        ("problem", None),
        ("kind", "scenario"),
        ("kind", "policy"),
        ("kind", ["policy"]),
        ("kind", None),
        ("note", "trust me"),
        ("mean_bound_usd", 1.0),
    ],
)
def test_unknown_formats_problems_kinds_and_fields_are_refused(certified, field, value):
    with pytest.raises(CertificateError):
        check(certified | {field: value}, Instance())


def test_every_field_is_needed(certified):
    for field in certified:
        with pytest.raises(CertificateError):
            check({k: v for k, v in certified.items() if k != field}, Instance())
    # a field left out of the instance has its default value, and the hash over all fields still has to agree
    for part in ("sample", "program", "risk"):
        for field in certified[part]:
            fewer = copy.deepcopy(certified)
            del fewer[part][field]
            with pytest.raises(CertificateError):
                check(fewer, Instance())


@pytest.mark.parametrize("part", ["sample", "program", "risk", "instance"])
def test_nothing_unchecked_hides_inside_a_part(certified, part):
    more = copy.deepcopy(certified)
    more[part]["promise"] = 1e-9
    with pytest.raises(CertificateError):
        check(more, Instance())


def test_a_certificate_speaks_of_one_instance_only(certified):
    assert check(certified, Instance()).kind == check(certified).kind == "scenario program"
    with pytest.raises(CertificateError, match="instance"):
        check(certified, Instance(bays=51))
    with pytest.raises(CertificateError, match="instance_sha256"):
        check(certified | {"instance": Instance(bays=51).to_dict()})


@pytest.mark.parametrize("problem", ["os", "../evil", "parking_lot.hindsight", "", "antigravity"])
def test_a_certificate_cannot_make_anything_be_imported(certified, monkeypatch, problem):
    def never(name):
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr(importlib, "import_module", never)
    with pytest.raises(CertificateError):
        check(certified | {"problem": problem})


def test_reading_and_checking_contain_nothing_that_executes_data():
    root = Path(baselines.__file__).parent
    for name in ("certificate.py", "risk.py", "parking_lot/verify.py", "parking_lot/samples.py"):
        tree = ast.parse((root / name).read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        imports = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        assert not names & {"eval", "exec", "compile", "__import__", "pickle", "marshal"}
        assert not imports & {"pickle", "marshal", "subprocess", "yaml", "highspy", "cvxpy"}


def test_checking_needs_no_solver(tmp_path, certified):
    path = tmp_path / "c.json"
    save(certified, path)
    blocked = ["highspy", "cvxpy", "clarabel", "torch", "stable_baselines3", "scipy.optimize"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "from baselines.certificate import check, load\n"
        f"assert check(load({str(path)!r})).kind == 'scenario program'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_small_file_cannot_unpack_to_more_than_it_announces():
    bomb = pack(np.zeros(10_000_000))
    assert len(bomb["data"]) < 200_000
    tracemalloc.start()
    try:
        for shape in ([3], [0], [10**9]):
            with pytest.raises(CertificateError):
                unpack(bomb | {"shape": shape})
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(unpack(bomb), np.zeros(10_000_000))
    assert unpack(pack(np.zeros((0, 3)))).shape == (0, 3)
