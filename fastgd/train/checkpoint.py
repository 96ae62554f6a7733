"""Saving and loading so that a crash, a full disk or a damaged file never costs what was saved before.

A checkpoint is a folder with ``model.safetensors`` (weights under their plain names, so that PyTorch reads them),
``state.safetensors`` (the arrays of everything else) and ``state.json`` (everything else, with the SHA-256 of both).
It is written to a temporary folder beside its place; files and folder are flushed to the disk, then one rename puts
it there: it exists whole or not at all. A checkpoint is never overwritten.

Loading believes nothing. The header of a safetensors file is checked here, with exact integers, before the library
gets the file and before memory is asked for: length, duplicate keys, shapes against sizes, holes and overlaps
(the rules of the safetensors format, https://github.com/huggingface/safetensors). Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .._core import FastgdError, NotOffered
from .tree import decode, encode

__all__ = [
    "CheckpointError",
    "best_checkpoint",
    "latest_checkpoint",
    "list_checkpoints",
    "load",
    "load_checkpoint",
    "prune_checkpoints",
    "save",
    "save_checkpoint",
]

SCHEMA = 1
MODEL, STATE, INDEX = "model.safetensors", "state.safetensors", "state.json"
MAX_HEADER = 100_000_000  # the library's own limit
MAX_INDEX = 100_000_000
NAME = re.compile(r"step-(\d+)")
TREE = "fastgd"  # the metadata key under which a single file keeps its JSON

DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "C64": np.complex64,
}  # fmt: skip
STORED = {np.dtype(kind) for kind in DTYPES.values()}
MAX_DIMENSIONS = 64  # NumPy's


class CheckpointError(FastgdError, ValueError):
    """A file or folder does not hold what it should; the message names it and the fault."""


# ------------------------------------------------------------------------------------------------- checkpoints


def save_checkpoint(folder: str | Path, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint folder, all or nothing, durable when this returns.

    Parameters
    ----------
    folder : str or path
        Must not exist yet; parents are created.
    tensors : dict of str to array_like
        The model's weights.
    state : dict
        Nested dictionaries, lists and tuples of numbers, text, None and arrays: optimizer, position, random state.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    FileExistsError
        There is something at `folder`.
    OSError
        It could not be written, for example because the disk is full. Nothing is left behind.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: exists, and checkpoints are never overwritten")
    arrays: dict[str, np.ndarray] = {}
    tree = encode(dict(state), arrays)
    make_folder(folder.parent)
    with _staged(folder) as staging:
        staging.mkdir()
        files = {MODEL: _write_tensors(staging / MODEL, tensors), STATE: _write_tensors(staging / STATE, arrays)}
        index = {"schema": SCHEMA, "fastgd": _version(), "files": files, "state": tree}
        index["sha256"] = _digest_of_index(index)
        write_text(staging / INDEX, json.dumps(index, indent=1, allow_nan=False))
        sync(staging)
        os.rename(staging, folder)
    return folder


def load_checkpoint(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a checkpoint that :func:`save_checkpoint` wrote.

    Returns
    -------
    tensors : dict of str to ndarray
    state : dict
        With the types it was saved with; tensors come back as arrays.

    Raises
    ------
    CheckpointError
        A file is missing, truncated, altered, or of an unknown version.
    """
    folder = Path(folder)
    index = _read_index(folder / INDEX)
    for name in (MODEL, STATE):
        _check_digest(folder / name, index["files"].get(name))
    tensors, arrays = (_read_tensors(folder / name)[0] for name in (MODEL, STATE))
    try:
        state = decode(index["state"], arrays, arrays.__getitem__)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / INDEX}: {error}") from None
    return tensors, state


def list_checkpoints(run: str | Path) -> list[Path]:
    """Return the checkpoint folders of a run, oldest first, without looking inside."""
    root = Path(run) / "checkpoints"
    found = [(NAME.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def latest_checkpoint(run: str | Path) -> Path | None:
    """Return the newest checkpoint of a run that can be loaded, or None if it has none at all.

    A damaged one is passed over with a warning; if all are damaged, the newest one's :class:`CheckpointError` is
    raised.
    """
    first_error: CheckpointError | None = None
    for folder in reversed(list_checkpoints(run)):
        try:
            load_checkpoint(folder)
        except CheckpointError as error:
            warnings.warn(f"passing over a damaged checkpoint: {error}", RuntimeWarning, stacklevel=2)
            first_error = first_error or error
        else:
            return folder
    if first_error is not None:
        raise first_error
    return None


def best_checkpoint(run: str | Path) -> Path | None:
    """Return the checkpoint with the best evaluation, as the newest one that can be loaded has it; or None."""
    newest = latest_checkpoint(run)
    if newest is None:
        return None
    best = load_checkpoint(newest)[1].get("best")
    found = [path for path in list_checkpoints(run) if best and int(path.name[5:]) == best["step"]]
    return found[0] if found else None


def prune_checkpoints(run: str | Path, keep: int, protect: tuple[int, ...] = ()) -> None:
    """Delete all checkpoints of a run but the newest `keep` and those of the steps `protect`, and what was left half.

    Only the process that writes the run may call this.
    """
    if keep < 1:
        raise ValueError(f"prune_checkpoints: keep must be at least 1, got {keep}")
    for folder in list_checkpoints(run)[:-keep]:
        if int(folder.name.removeprefix("step-")) in protect:
            continue
        # Renamed first: a deletion that is cut short must not leave something that looks like a checkpoint.
        os.rename(folder, folder.with_name(f".tmp-old-{folder.name}"))
    for leftover in (Path(run) / "checkpoints").glob(".tmp-*"):
        shutil.rmtree(leftover)


# ------------------------------------------------------------------------------------------------ single files


def save(path: str | Path, state: Any) -> None:
    """Save nested dictionaries, lists and tuples of tensors, arrays, numbers, text and None in one file.

    The file is in the safetensors format. A flat dictionary of tensors, such as ``model.state_dict()``, keeps its
    names and can be read by every program that knows the format. A file that is there already is replaced in one
    step: after a crash or on a full disk the old one is still whole.

    Parameters
    ----------
    path : str or path
    state : object
        The two may also come in PyTorch's order, ``save(state, path)``.

    Raises
    ------
    TypeError
        `state` holds something else, such as a function; the message names where.
    OSError
        The file could not be written.
    """
    if isinstance(state, (str, Path)) and not isinstance(path, (str, Path)):
        path, state = state, path  # torch.save(state, path)
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    tree = encode(state, arrays)
    with _staged(path) as staging:
        _write_tensors(staging, arrays, {TREE: json.dumps(tree, allow_nan=False)})
        os.replace(staging, path)


def load(path: str | Path) -> Any:
    """Load what :func:`save` wrote, or any other safetensors file as a dictionary of tensors.

    Nothing in the file is executed or unpickled.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    object
        With the types it was saved with: tensors as :class:`fastgd.Tensor`, arrays as arrays.

    Raises
    ------
    CheckpointError
        The file is truncated, damaged, or something else.
    FileNotFoundError
        There is no such file.
    """
    from ..tensor import from_numpy

    return _load(Path(path), from_numpy)


def _load(path: Path, as_tensor: Callable[[np.ndarray], Any]) -> Any:
    arrays, notes, wide = _read_tensors(path)

    def tensor(name: str) -> Any:
        return as_tensor(arrays[name]).to("bfloat16") if name in wide else as_tensor(arrays[name])

    if TREE not in notes:
        return {name: tensor(name) for name in arrays}
    try:
        return decode(json.loads(notes[TREE]), arrays, tensor)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged structure: {error}") from None


# --------------------------------------------------------------------------------------------- durable writing


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Give a temporary name beside `target`; the block moves it there. Then make the move durable, or clean up."""
    staging = target.with_name(f".tmp-{target.name}-{secrets.token_hex(4)}")
    try:
        yield staging
    except BaseException:
        if staging.is_dir():
            shutil.rmtree(staging, ignore_errors=True)
        else:
            staging.unlink(missing_ok=True)
        raise
    sync(target.parent)


def _write_tensors(path: Path, tensors: Mapping[str, Any], notes: dict[str, str] | None = None) -> str:
    """Write a safetensors file through to the disk and return its SHA-256."""
    wide = {name for name, value in tensors.items() if _is_bf16(value)}
    solid = {name: _solid(name, np.asarray(value)) for name, value in tensors.items()}
    try:
        if wide:
            _save_with_bf16(solid, wide, path, notes)
        else:
            safetensors.numpy.save_file(solid, path, metadata=notes)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path}: could not be written: {error}") from None
    os.chmod(path, 0o666 & ~_umask())  # the library makes files that only their owner may read
    _read_header(path)
    sync(path)
    return _digest(path)


def _is_bf16(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "fastgd.bfloat16"


def _save_with_bf16(solid: dict[str, np.ndarray], wide: set[str], path: Path, notes: dict[str, str] | None) -> None:
    """NumPy has no bfloat16: the tensors `wide` come as float32, of whose bits the upper half is written."""
    if not hasattr(safetensors, "TensorSpec"):
        raise NotOffered("save: bfloat16 tensors need safetensors 0.8 or later; convert them to float32")
    halves = {name: np.asarray(solid[name].view(np.uint32) >> 16, dtype="<u2") for name in wide}
    solid = {**solid, **halves}  # held until all is written
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16" if name in wide else array.dtype.name,
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in solid.items()
    }
    safetensors.serialize_file(specs, path, metadata=notes)


def _solid(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array as the library must have it: it reads memory by address and length, whatever the strides."""
    plain = array.dtype.newbyteorder("=")
    if plain not in STORED:
        raise TypeError(f"cannot save {name}: safetensors has no type for {array.dtype}")
    return np.ascontiguousarray(array, dtype=plain).reshape(array.shape)


def write_text(path: Path, text: str) -> None:
    """Write a file through to the disk."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, durably; one that is there already is fine."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version() -> str:
    from fastgd import __version__  # late: fastgd itself offers save and load from here

    return __version__


def _digest_of_index(index: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything in the index but itself, independent of layout."""
    rest = {key: value for key, value in index.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


# -------------------------------------------------------------------------------------------- distrustful reading


def _read_index(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_INDEX:
            raise CheckpointError(f"{path}: larger than {MAX_INDEX} bytes")
        index = json.loads(path.read_bytes(), object_pairs_hook=_unique_keys)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not the state of a checkpoint: {error}") from None
    if not isinstance(index, dict) or "schema" not in index:
        raise CheckpointError(f"{path}: not the state of a checkpoint: it has no schema version")
    if index["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: schema version {index['schema']!r}, this fastgd reads {SCHEMA}; "
            f"it was written by fastgd {index.get('fastgd')!r}"
        )
    if index.get("sha256") != _digest_of_index(index):
        raise CheckpointError(f"{path}: damaged or edited: its content does not match its own SHA-256")
    if not isinstance(index.get("files"), dict) or not isinstance(index.get("state"), dict):
        raise CheckpointError(f"{path}: not the state of a checkpoint: files or state is missing")
    return index


def _check_digest(path: Path, expected: Any) -> None:
    try:
        actual = _digest(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if actual != expected:
        raise CheckpointError(f"{path}: damaged or replaced: its SHA-256 is {actual}, {INDEX} says {expected}")


def _read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """Return the arrays of a safetensors file, its metadata, and which arrays are bfloat16 (as float32)."""
    header, start = _read_header(path)
    notes = header.pop("__metadata__", {})
    wide = [name for name, entry in header.items() if entry["dtype"] == "BF16"]
    try:
        with safetensors.safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in header if name not in wide}
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from None
    for name in wide:
        arrays[name] = _read_bf16(path, start + header[name]["data_offsets"][0], header[name]["shape"])
    return arrays, notes, wide


def _read_bf16(path: Path, offset: int, shape: list[int]) -> np.ndarray:
    """NumPy has no bfloat16: its bits are the upper half of a float32."""
    bits = np.fromfile(path, dtype="<u2", count=math.prod(shape), offset=offset)
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the checked header of a safetensors file, and where its data begins."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise CheckpointError(f"{path}: truncated: {size} bytes cannot be a safetensors file")
        (length,) = struct.unpack("<Q", prefix)
        if length > MAX_HEADER:
            raise CheckpointError(f"{path}: its header of {length} bytes exceeds the limit of {MAX_HEADER}")
        if length > size - 8:
            raise CheckpointError(f"{path}: truncated: a header of {length} bytes in a file of {size}")
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys)
        _check_header(header, size - 8 - length)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header: {str(error)[:300]}") from None
    return header, 8 + length


def _check_header(header: Any, data_size: int) -> None:
    """Hold each entry against its size, and all of them against the data: no holes, no overlaps, no rest."""
    if not isinstance(header, dict):
        raise ValueError("not a JSON object")
    notes = header.get("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise ValueError("__metadata__ must map names to text")
    spans = sorted(_span(name, entry) for name, entry in header.items() if name != "__metadata__")
    position = 0
    for begin, end, name in spans:
        if begin != position:
            raise ValueError(f"the data of {name!r} begins at {begin}, expected {position}")
        position = end
    if position != data_size:
        fault = "truncated" if position > data_size else "followed by something else"
        raise ValueError(f"{fault}: {position} bytes of data promised, {data_size} there")


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name!r} has dtype {dtype!r}, which fastgd does not read")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"{name!r} has {what} {numbers!r}")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{name!r} has {len(shape)} dimensions")
    if len(offsets) != 2 or math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize != offsets[1] - offsets[0]:
        raise ValueError(f"{name!r}: shape {shape} of {dtype} does not fill data_offsets {offsets}")
    return offsets[0], offsets[1], name


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result
