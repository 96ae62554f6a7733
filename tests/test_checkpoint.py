"""Checkpoints and single files: round trips, damage of every kind, full disks, and death while saving."""

import contextlib
import json
import math
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fastgd.train import checkpoint as module
from fastgd.train.checkpoint import (
    CheckpointError,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save,
    save_checkpoint,
)
from fastgd.train.runlog import RunFolder, read_metrics
from fastgd.train.tree import decode, encode

TENSORS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(0), "scale": np.array(2.5)}
STATE = {
    "step": 7,
    "optimizer": {"state": {0: {"step": 3, "exp_avg": np.ones((2, 3))}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    "best": math.inf,
    "note": "ü",
    "none": None,
    "flag": True,
}


def same(a, b):
    """Equal in value and in type, NaN included."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def load_file(path):
    """fastgd.load with arrays in place of tensors: these tests need no engine."""
    return module._load(path, lambda array: array)


# ---------------------------------------------------------------------------------------------------- round trips

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([np.arange(3), np.zeros((2, 0), np.float32), np.array(True), np.array(1.5, np.float16)])
)
KEYS = st.text(max_size=4) | st.integers(0, 9) | st.sampled_from(["$array", "__metadata__", "a.b", ""])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(TREES)
def test_tree_round_trip_through_json(value):
    arrays = {}
    text = json.dumps(encode(value, arrays), allow_nan=False)
    assert same(decode(json.loads(text), arrays, arrays.__getitem__), value)


@given(TREES)
def test_file_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("save") / "s.safetensors"
    save(path, value)
    assert same(load_file(path), value)


def test_checkpoint_round_trip(tmp_path):
    folder = tmp_path / "new" / "parents" / "step-00000001"
    assert save_checkpoint(folder, TENSORS, STATE) == folder
    assert sorted(os.listdir(folder)) == ["model.safetensors", "state.json", "state.safetensors"]
    assert os.listdir(folder.parent) == [folder.name]
    tensors, state = load_checkpoint(folder)
    assert same({name: tensors[name] for name in TENSORS}, TENSORS)
    assert same(state, STATE)


def test_weights_are_plain_safetensors(tmp_path):
    save_checkpoint(tmp_path / "c", TENSORS, STATE)
    assert set(safetensors.numpy.load_file(tmp_path / "c" / "model.safetensors")) == set(TENSORS)
    save(tmp_path / "flat.safetensors", TENSORS)
    assert set(safetensors.numpy.load_file(tmp_path / "flat.safetensors")) == set(TENSORS)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10)[::-2],
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.broadcast_to(np.float32(3), (2, 2)),
    ],
    ids=["transposed", "reversed", "big-endian", "fortran", "broadcast"],
)
def test_any_layout_is_saved_right(tmp_path, array):
    save_checkpoint(tmp_path / "c", {"a": array}, {"b": array})
    tensors, state = load_checkpoint(tmp_path / "c")
    np.testing.assert_array_equal(tensors["a"], array)
    np.testing.assert_array_equal(state["b"], array)


def test_bfloat16_is_read_as_float32(tmp_path):
    values = np.array([1.0, -2.5, 3e38, np.inf], np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = raw_file(tmp_path, {"a": entry("BF16", [2, 2], 0, 8)}, bits)
    got = module._read_tensors(path)[0]["a"]
    assert got.shape == (2, 2)
    np.testing.assert_allclose(got.ravel(), values, rtol=2**-8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": [1, object()]}}, r"a\.b\.1: a value of type object"),
        ({"a": lambda: 0}, "type function"),
        ({(1, 2): 3}, "key of type tuple"),
        ({"a": np.array(["x"])}, "a: safetensors has no type"),
        ({"a": np.array([object()])}, "a: safetensors has no type"),
        ({"a": np.zeros(2, np.complex128)}, "a: safetensors has no type"),
        ({"a": {1, 2}}, "type set"),
    ],
)
def test_what_cannot_be_saved_says_where(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        save(tmp_path / "s", value)
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "c", {}, value)
    assert os.listdir(tmp_path) == []


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "c", TENSORS, STATE)
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o640}
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_checkpoint_is_never_overwritten(tmp_path):
    save_checkpoint(tmp_path / "c", TENSORS, STATE)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="never overwritten"):
        save_checkpoint(tmp_path / "c", {}, {})
    assert contents(tmp_path) == before


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------------------------- damage


def copy_with(folder, target, name, data):
    target.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(data if path.name == name else path.read_bytes())


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(tmp_path / "whole", {"w": np.arange(3, dtype=np.float32)}, {"step": 3, "m": np.ones(2)})


FILES = ["model.safetensors", "state.safetensors", "state.json"]


@pytest.mark.parametrize("name", FILES)
def test_checkpoint_truncated_at_every_byte(folder, tmp_path, name):
    whole = (folder / name).read_bytes()
    for length in range(len(whole)):
        copy_with(folder, tmp_path / "cut", name, whole[:length])
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / "cut")


@pytest.mark.parametrize("name", FILES)
def test_checkpoint_with_any_byte_flipped(folder, tmp_path, name):
    whole = (folder / name).read_bytes()
    for index in range(len(whole)):
        for mask in (0x01, 0x20, 0x80):
            damaged = bytearray(whole)
            damaged[index] ^= mask
            copy_with(folder, tmp_path / "bad", name, damaged)
            with pytest.raises(CheckpointError, match="bad/"):
                load_checkpoint(tmp_path / "bad")


def test_single_file_truncated_and_flipped(tmp_path):
    """Without digests a flipped bit of data cannot be seen, but nothing may crash or go beyond the file."""
    save(tmp_path / "s", {"w": np.arange(3, dtype=np.float32), "n": [1, {"m": np.ones(2)}]})
    whole = (tmp_path / "s").read_bytes()
    path = tmp_path / "bad"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="bad"):
            module._read_tensors(path)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for index in range(header):
        for mask in (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80):
            damaged = bytearray(whole)
            damaged[index] ^= mask
            path.write_bytes(damaged)
            with contextlib.suppress(CheckpointError):
                load_file(path)


@pytest.mark.parametrize("name", FILES)
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: No such file"):
        load_checkpoint(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(tmp_path / "none")


def change_index(folder, change):
    path = folder / "state.json"
    index = json.loads(path.read_text())
    change(index)
    index["sha256"] = module._digest_of_index(index)  # a forger can do that too
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(schema=2), "schema version 2, this fastgd reads 1"),
        (lambda index: index.pop("schema"), "no schema version"),
        (lambda index: index.pop("files"), "files or state is missing"),
        (lambda index: index["files"].clear(), "SHA-256"),
        (lambda index: index["state"].update(m={"$array": "other"}), "array 'other' is missing"),
        (lambda index: index["state"].update(m={"$import": "os.system"}), r"'\$import' is not understood"),
        (lambda index: index["state"].update(m={"$float": "1e3"}), r"'\$float' is not understood"),
        (lambda index: index["state"].update(m={"$dict": [[[], 1]]}), r"'\$dict' is not understood"),
    ],
)
def test_forged_state(folder, change, message):
    change_index(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_edited_state_and_swapped_weights(folder, tmp_path):
    path = folder / "state.json"
    path.write_text(path.read_text().replace('"step": 3', '"step": 4'))
    with pytest.raises(CheckpointError, match="edited"):
        load_checkpoint(folder)
    other = save_checkpoint(tmp_path / "other", {"w": np.zeros(3, dtype=np.float32)}, {"step": 3, "m": np.ones(2)})
    copy_with(other, tmp_path / "mixed", "model.safetensors", (folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged or replaced"):
        load_checkpoint(tmp_path / "mixed")


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def raw_file(tmp_path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "raw.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            1,
            "twice",
        ),
        ({"a": entry("U8", [2**62, 2**62], 0, 8)}, 8, "does not fill"),
        ({"a": entry("F32", [2**62], 0, 0)}, 0, "does not fill"),
        ({"a": entry("F32", [2**64], 0, 0)}, 0, "shape"),
        ({"a": entry("U8", [-1], 0, 1)}, 1, "shape"),
        ({"a": entry("U8", [True], 0, 1)}, 1, "shape"),
        ({"a": entry("U8", [1.0], 0, 1)}, 1, "shape"),
        ({"a": entry("U8", [1] * 65, 0, 1)}, 1, "65 dimensions"),
        ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, 6, "begins at 2, expected 4"),
        ({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 5, 9)}, 9, "begins at 5, expected 4"),
        ({"a": entry("U8", [4], 1, 5)}, 5, "begins at 1"),
        ({"a": entry("U8", [4], 0, 4)}, 5, "followed by something else"),
        ({"a": entry("U8", [4], 0, 4)}, 3, "truncated"),
        ({"a": entry("F4", [4], 0, 4)}, 4, "dtype 'F4'"),
        ({"a": entry(["F32"], [1], 0, 4)}, 4, "dtype"),
        ({"a": {"dtype": "U8", "shape": [1]}}, 1, "must have dtype"),
        ({"a": 5}, 0, "must have dtype"),
        ({"a": entry("U8", [1], 0, 1), "__metadata__": {"k": 1}}, 1, "__metadata__"),
        ([], 0, "not a JSON object"),
        (b"[" * 100_000, 0, "damaged header"),
        (b'{"a":' * 50_000, 0, "damaged header"),
        (b'{"a": ' + b"9" * 5000 + b"}", 0, "damaged header"),
        (b"\xff\xfe", 0, "damaged header"),
        (b"", 0, "damaged header"),
    ],
)
def test_hostile_headers(tmp_path, header, data, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        module._read_tensors(raw_file(tmp_path, header, bytes(data)))
    assert "raw.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 50])
def test_header_length_is_checked_before_reading(tmp_path, length):
    path = tmp_path / "raw.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(CheckpointError, match=r"exceeds the limit|truncated"):
        module._read_tensors(path)


# ------------------------------------------------------------------------------------------------- newest valid one


def test_latest_passes_over_damaged_ones(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    run = RunFolder(tmp_path / "run")
    folders = [run.checkpoint(step, {"w": np.full(2, step)}, {"step": step}, keep=9) for step in (9, 10, 11)]
    (run.path / "checkpoints" / ".tmp-step-00000012-abcd").mkdir()
    (run.path / "checkpoints" / "notes").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert latest_checkpoint(run.path) == folders[2]
    (folders[2] / "model.safetensors").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="step-00000011"):
        assert latest_checkpoint(run.path) == folders[1]
    for path in folders[:2]:
        (path / "state.json").unlink()
    with pytest.warns(RuntimeWarning), pytest.raises(CheckpointError, match="step-00000011"):
        latest_checkpoint(run.path)
    run.close()


def test_prune_keeps_the_newest_and_clears_leftovers(tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in (2, 10, 9):
        run.checkpoint(step, {}, {}, keep=5)
    (run.path / "checkpoints" / ".tmp-step-00000012-abcd").mkdir()
    prune_checkpoints(run.path, 2)
    assert [path.name for path in list_checkpoints(run.path)] == ["step-00000009", "step-00000010"]
    assert len(os.listdir(run.path / "checkpoints")) == 2
    with pytest.raises(ValueError, match="keep"):
        prune_checkpoints(run.path, 0)
    run.close()


# ------------------------------------------------------------------------------------------ full disk, no access


def limited(limit, function):
    """Run `function` while no file may grow beyond `limit` bytes, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        function()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


BIG = {"w": np.zeros(100_000, np.float32)}


@pytest.mark.parametrize(("tensors", "state"), [(BIG, {}), ({}, BIG), ({}, {"text": "x" * 200_000})])
def test_full_disk_keeps_the_old_checkpoint(tmp_path, tensors, state):
    run = RunFolder(tmp_path / "run")
    old = run.checkpoint(1, TENSORS, STATE)
    before = contents(old)
    with pytest.raises(OSError, match=r"large|written"):
        limited(50_000, lambda: run.checkpoint(2, tensors, state))
    assert os.listdir(run.path / "checkpoints") == [old.name]
    assert contents(old) == before
    assert latest_checkpoint(run.path) == old
    run.checkpoint(2, tensors, state)  # there is room again
    run.close()


def test_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "s.safetensors"
    save(path, TENSORS)
    before = contents(tmp_path)
    with pytest.raises(OSError, match="written"):
        limited(50_000, lambda: save(path, BIG))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("path", ["file/c", "/proc/fastgd/c"])
def test_unwritable_folder(tmp_path, path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError):
        save_checkpoint(tmp_path / path, TENSORS, STATE)
    with pytest.raises(OSError):
        save(tmp_path / path, TENSORS)
    assert os.listdir(tmp_path) == ["file"]


def test_read_only_folder():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        if root:  # who may write everywhere
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                save_checkpoint(f"{folder}/c", TENSORS, STATE)
            with pytest.raises(OSError, match="Permission denied"):
                save(f"{folder}/s", TENSORS)
        finally:
            if root:
                os.seteuid(0)
        assert os.listdir(folder) == []


class Planted(OSError):
    pass


@pytest.fixture
def fail_at(monkeypatch):
    """Make the n-th fsync, rename, replace or chmod fail, when called with n."""
    calls = planted = 0

    def failing(original):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == planted:
                raise Planted
            return original(*arguments)

        return call

    for name in ("fsync", "rename", "replace", "chmod"):
        monkeypatch.setattr(module.os, name, failing(getattr(os, name)))

    def plant(number):
        nonlocal calls, planted
        calls, planted = 0, number

    return plant


def test_an_error_at_any_step_of_saving_leaves_nothing(tmp_path, fail_at):
    old = save_checkpoint(tmp_path / "step-1", TENSORS, STATE)
    before = contents(old)
    number = 0
    while not (tmp_path / "step-2").exists():
        fail_at(number := number + 1)
        with contextlib.suppress(Planted):
            save_checkpoint(tmp_path / "step-2", TENSORS, STATE)
        assert set(os.listdir(tmp_path)) <= {"step-1", "step-2"}
        assert contents(old) == before
    assert number > 5
    load_checkpoint(tmp_path / "step-2")  # whole, though the failed call was the one that makes the rename durable


def test_an_error_at_any_step_of_replacing_a_file_keeps_the_old_one(tmp_path, fail_at):
    save(tmp_path / "s", TENSORS)
    before = contents(tmp_path)
    number = 0
    while contents(tmp_path) == before:
        fail_at(number := number + 1)
        with contextlib.suppress(Planted):
            save(tmp_path / "s", {"new": np.ones(3)})
        assert os.listdir(tmp_path) == ["s"]
    assert number > 3
    assert set(load_file(tmp_path / "s")) == {"new"}


# ----------------------------------------------------------------------------------------------- death while saving

SAVER = """
import sys
import numpy as np
from fastgd.train.checkpoint import latest_checkpoint, list_checkpoints, prune_checkpoints, save, save_checkpoint
run = sys.argv[1]
step = max((int(path.name[5:]) for path in list_checkpoints(run)), default=0)
print("ready", flush=True)
while True:
    step += 1
    w = np.full(20_000, step, np.float32)
    save_checkpoint(f"{run}/checkpoints/step-{step}", {"w": w}, {"step": step, "m": w})
    print(step, flush=True)
    prune_checkpoints(run, 2)
    save(f"{run}/single.safetensors", {"w": w, "step": step})
"""


def kill_while_saving(run, kills):
    chance = random.Random(0)
    for _ in range(kills):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, run],
            cwd=run,
            env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert saver.stdout.readline() == "ready\n"
        first = int(saver.stdout.readline())  # however slow the disk is today
        time.sleep(chance.uniform(0.0, 0.1))
        saver.kill()
        reported = [first, *(int(line) for line in saver.communicate()[0].split("\n") if line.isdecimal())]
        tensors, state = load_checkpoint(latest_checkpoint(run))
        assert state["step"] >= reported[-1]
        assert (tensors["w"] == state["step"]).all()
        assert (state["m"] == state["step"]).all()
        if os.path.exists(f"{run}/single.safetensors"):
            single = load_file(run / "single.safetensors")
            assert (single["w"] == single["step"]).all()
    assert state["step"] >= kills


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_is_lost(tmp_path, kills):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no checkpoint may ever be found damaged
        kill_while_saving(tmp_path, kills)


# ------------------------------------------------------------------------------------------------------ run folder


def test_run_folders_are_numbered_and_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = RunFolder(), RunFolder()
    assert [str(run.path) for run in (first, second)] == ["runs/001", "runs/002"]
    (tmp_path / "runs" / "old notes").mkdir()
    (tmp_path / "runs" / "41").mkdir()
    third = RunFolder()
    assert str(third.path) == "runs/042"
    with pytest.raises(FileExistsError, match="not empty"):
        RunFolder("runs/001")
    for run in (first, second, third):
        run.close()


def test_metrics_are_json_whatever_happens(tmp_path):
    run = RunFolder(tmp_path / "run")
    rows = [{"step": 0, "test_loss": math.inf}, {"step": 1, "train_loss": math.nan, "test_loss": 0.5}]
    for row in rows:
        run.log(row)
    text = (run.path / "metrics.jsonl").read_text()

    def refuse(token):
        raise AssertionError(token)

    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert lines == [{"step": 0, "test_loss": None}, {"step": 1, "train_loss": None, "test_loss": 0.5}]
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "tra')
    assert read_metrics(run.path) == lines
    run.close()


def test_no_picture_without_matplotlib(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    run.log({"step": 1, "train_loss": 2.0, "test_loss": 1.0})
    assert run.draw("title").stat().st_size > 1000
    (run.path / "curves.png").unlink()
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run.draw("title") is None
    assert not (run.path / "curves.png").exists()
    run.close()
